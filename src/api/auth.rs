//! Who asks, and may they?

use super::ApiState;
use super::problem::Problem;
use super::tokens::Role;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, header};
use std::net::IpAddr;

/// The name under which a mutation is recorded.
///
/// # Errors
/// No token, a wrong one, or one whose role may not operate.
pub(super) fn operator(state: &ApiState, headers: &HeaderMap) -> Result<String, Problem> {
    if state.open {
        return same_origin(headers).map(|()| "demo".to_owned());
    }
    let (name, role) = bearer(state, headers)?;
    if role.may_operate() { Ok(name) } else { Err(forbidden(&name, &role, "operator")) }
}

/// May this request read what is not open to all?
///
/// # Errors
/// As above, if reads need a token.
pub(super) fn viewer(state: &ApiState, headers: &HeaderMap) -> Result<(), Problem> {
    if !state.reads_need_token {
        return Ok(());
    }
    let (name, role) = bearer(state, headers)?;
    if role.may_read() { Ok(()) } else { Err(forbidden(&name, &role, "viewer")) }
}

fn bearer(state: &ApiState, headers: &HeaderMap) -> Result<(String, Role), Problem> {
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
    let (name, role) = state.tokens.bearer(token).ok_or_else(|| unauthorized("token-unknown", "this token is not in the token file"))?;
    Ok((name.to_owned(), role.clone()))
}

fn forbidden(name: &str, role: &Role, needed: &str) -> Problem {
    let text = format!("{name} is {}, this needs the role {needed}", role.name());
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
