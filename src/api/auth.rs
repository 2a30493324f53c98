//! Who asks, and may they?

use super::ApiState;
use super::problem::Problem;
use super::tokens::Bearer;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, header};
use std::net::IpAddr;

/// The name under which a mutation is recorded.
///
/// # Errors
/// No token, a wrong one, or one whose roles may not operate.
pub(super) fn operator(state: &ApiState, headers: &HeaderMap) -> Result<String, Problem> {
    if state.open {
        return same_origin(headers).map(|()| "demo".to_owned());
    }
    let bearer = bearer(state, headers)?;
    if bearer.may_operate() { Ok(bearer.name.clone()) } else { Err(forbidden(bearer, "operator")) }
}

/// The name under which an approval is recorded, and the role it is given in: the one asked for, or the bearer's only one.
///
/// # Errors
/// No token, a wrong one, one that does not approve (in this role), or one that approves in several where none is named.
pub(super) fn approver(state: &ApiState, headers: &HeaderMap, role: &str) -> Result<(String, String), Problem> {
    if state.open {
        same_origin(headers)?;
        return if role.is_empty() { Err(which_role("demo", "any the rule names")) } else { Ok(("demo".to_owned(), role.to_owned())) };
    }
    let bearer = bearer(state, headers)?;
    let held: Vec<&str> = bearer.approves().collect();
    match held.as_slice() {
        held if !role.is_empty() && held.contains(&role) => Ok((bearer.name.clone(), role.to_owned())),
        _ if !role.is_empty() => Err(forbidden(bearer, &format!("approver({role})"))),
        [] => Err(forbidden(bearer, "approver(<role>)")),
        [only] => Ok((bearer.name.clone(), (*only).to_owned())),
        several => Err(which_role(&bearer.name, &several.join(", "))),
    }
}

fn which_role(name: &str, roles: &str) -> Problem {
    Problem::bad_request("role-ambiguous", format!("{name} may approve in several roles ({roles}): name one as `role`"))
}

/// The name under which alerts are taken.
///
/// # Errors
/// No token, a wrong one, or one whose role may not deliver alerts.
pub(super) fn webhook(state: &ApiState, headers: &HeaderMap) -> Result<String, Problem> {
    if state.open {
        return same_origin(headers).map(|()| "demo".to_owned());
    }
    let bearer = bearer(state, headers)?;
    if bearer.may_deliver() { Ok(bearer.name.clone()) } else { Err(forbidden(bearer, "webhook")) }
}

/// May this request read what is not open to all?
///
/// # Errors
/// As above, if reads need a token.
pub(super) fn viewer(state: &ApiState, headers: &HeaderMap) -> Result<(), Problem> {
    if !state.reads_need_token {
        return Ok(());
    }
    let bearer = bearer(state, headers)?;
    if bearer.may_read() { Ok(()) } else { Err(forbidden(bearer, "viewer")) }
}

fn bearer<'a>(state: &'a ApiState, headers: &HeaderMap) -> Result<&'a Bearer, Problem> {
    let unauthorized = |code, text: &str| Problem::new(StatusCode::UNAUTHORIZED, code, text);
    let value = headers
        .get(header::AUTHORIZATION)
        .ok_or_else(|| unauthorized("token-missing", "this needs a token: send the header `authorization: bearer <token>`"))?;
    let token = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or_else(|| unauthorized("token-malformed", "the authorization header is not `bearer <token>`"))?;
    state.tokens.bearer(token).ok_or_else(|| unauthorized("token-unknown", "this token is not in the token file"))
}

fn forbidden(bearer: &Bearer, needed: &str) -> Problem {
    let text = format!("{} is {}, this needs the role {needed}", bearer.name, bearer.roles_in_words());
    Problem::new(StatusCode::FORBIDDEN, "role-insufficient", text)
}

/// Without tokens, any page open in a browser on this machine could post here: a browser says from where, so that is checked.
/// A name that a stranger's DNS lets point to this machine is no name of ours either.
fn same_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !is_local(host) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "foreign-host", format!("open to 127.0.0.1 and localhost only, not to {host:?}")));
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    if origin.to_str().is_ok_and(|origin| origin == format!("http://{host}")) {
        return Ok(());
    }
    Err(Problem::new(StatusCode::FORBIDDEN, "foreign-origin", "the request comes from a page of another site"))
}

/// Is the header `host` the loopback address or `localhost`, with or without a port?
fn is_local(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_matches(['[', ']']);
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_local;

    #[test]
    fn only_names_of_this_machine_are_local() {
        for host in ["127.0.0.1:7878", "localhost:1", "localhost", "[::1]:7878", "127.3.2.1"] {
            assert!(is_local(host), "{host}");
        }
        for host in ["", "evil.example:7878", "localhost.evil.example", "10.0.0.1", "127.0.0.1.evil.example", "[::2]:1"] {
            assert!(!is_local(host), "{host}");
        }
    }
}
