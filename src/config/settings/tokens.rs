//! The token file, read here and nowhere else: one bearer a line, `name:role:token`, `#` begins a comment; several roles are
//! separated by commas. A token is never repeated in a report.

use super::{Secret, Token};
use crate::config::walk::one_of;
use crate::config::{Problem, Report};
use crate::model::Role;
use crate::model::role::{NAME_MAX, is_name};
use std::path::Path;

/// Shortest token: 16 random characters are beyond guessing over a network.
const TOKEN_BYTES_MIN: usize = 16;
/// Longest token: the API compares whole tokens of one length.
const TOKEN_BYTES_MAX: usize = 256;
/// Most tokens: each request is compared with every one.
const TOKENS_MAX: usize = 1000;
/// Largest token file read, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

const ROLES: [&str; 4] = ["viewer", "operator", "approver(<role>)", "webhook"];

/// Every token of the file, and a warning if others can read it.
///
/// # Errors
/// Every wrong line.
pub(super) fn read(file: &Path) -> Result<(Vec<Token>, Option<String>), Report> {
    let name = file.display().to_string();
    let unreadable = |e: std::io::Error| Report::whole(&name, format!("cannot be read: {e}"), "");
    let metadata = std::fs::metadata(file).map_err(unreadable)?;
    if metadata.len() > FILE_BYTES_MAX {
        return Err(Report::whole(name, format!("more than {FILE_BYTES_MAX} bytes"), "give the file of tokens"));
    }
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    Ok((parse(&text, &name)?, readable_by_others(&metadata, &name)))
}

#[cfg(unix)]
fn readable_by_others(metadata: &std::fs::Metadata, name: &str) -> Option<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = metadata.permissions().mode() & 0o777;
    (mode & 0o004 != 0).then(|| format!("{name}: every user of this machine can read the tokens (mode {mode:o}): chmod 600 it"))
}

#[cfg(not(unix))]
fn readable_by_others(_: &std::fs::Metadata, _: &str) -> Option<String> {
    None
}

fn parse(text: &str, file: &str) -> Result<Vec<Token>, Report> {
    let mut report = Report::default();
    let mut tokens: Vec<Token> = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        match token(text).and_then(|token| new(token, &tokens)) {
            Ok(token) => tokens.push(token),
            Err((what, way_out)) => {
                report.problems.push(Problem { file: file.to_owned(), line, path: String::new(), what, way_out });
            }
        }
    }
    if tokens.len() > TOKENS_MAX {
        let what = format!("{} tokens exceed {TOKENS_MAX}", tokens.len());
        report.join(Report::whole(file, what, "give people who do the same one role each, not one token for each task"));
    }
    if tokens.is_empty() && report.is_empty() {
        report.join(Report::whole(file, "holds no token", "write lines of name:role:token"));
    }
    report.or(Some(tokens))
}

type Wrong = (String, String);

fn token(line: &str) -> Result<Token, Wrong> {
    let shape = || ("is not name:role:token".to_owned(), "write for example ci:operator:<16 or more random characters>".to_owned());
    let (name, rest) = line.split_once(':').ok_or_else(shape)?;
    let (roles, token) = rest.split_once(':').ok_or_else(shape)?;
    let (name, token) = (name.trim(), token.trim());
    if name.is_empty() {
        return Err(shape());
    }
    // whatever is wrong may be a token in the wrong place, so it is not shown
    if !is_name(name) {
        return Err(("the name has odd characters".to_owned(), format!("use 1 to {NAME_MAX} letters, digits and . _ - @")));
    }
    let roles: Option<Vec<Role>> = roles.split(',').map(|role| Role::parse(role.trim())).collect();
    let roles = roles.ok_or_else(|| (format!("the role of {name:?} is not known"), one_of("", &ROLES)))?;
    if token.len() < TOKEN_BYTES_MIN || !token.bytes().all(|b| b.is_ascii_graphic()) {
        let what = format!("the token of {name:?} is too short or has odd characters");
        return Err((what, format!("use at least {TOKEN_BYTES_MIN} printable characters, such as those of: openssl rand -hex 24")));
    }
    if token.len() > TOKEN_BYTES_MAX {
        let what = format!("the token of {name:?} has {} characters", token.len());
        return Err((what, format!("use at most {TOKEN_BYTES_MAX}, such as those of: openssl rand -hex 24")));
    }
    Ok(Token { name: name.to_owned(), roles, token: Secret::new(token) })
}

fn new(token: Token, before: &[Token]) -> Result<Token, Wrong> {
    match before.iter().find(|other| other.name == token.name || other.token == token.token) {
        Some(other) if other.name == token.name => {
            Err((format!("{:?} is named twice", token.name), "give each bearer one line".to_owned()))
        }
        Some(other) => {
            let what = format!("{:?} has the token of {:?}", token.name, other.name);
            Err((what, "give each bearer a token of its own, or nobody can tell who did what".to_owned()))
        }
        None => Ok(token),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_bearers() {
        let tokens =
            parse("# ours\n\nci:operator:0123456789abcdef:with:colons\ngrafana : viewer : fedcba9876543210\nann:operator, approver(product-manager):fedcba98765432ab\n", "t").expect("valid");
        assert_eq!(tokens[0].roles, [Role::Operator]);
        assert_eq!(tokens[0].token.expose(), "0123456789abcdef:with:colons");
        assert_eq!((tokens[1].name.as_str(), tokens[1].roles.as_slice()), ("grafana", [Role::Viewer].as_slice()));
        assert_eq!(tokens[2].roles, [Role::Operator, Role::Approver("product-manager".to_owned())]);
    }

    #[test]
    fn every_wrong_line_is_told_and_no_token_shown() {
        let secret = "s3cr3ts3cr3ts3cr3t";
        let text = format!(
            "ci:operator:{secret}\nci:viewer:0123456789abcdef\nother:viewer:{secret}\nx:{secret}\n:viewer:{secret}\nx:{secret}:viewer\ny:admin:{secret}\nz:viewer:short\na b:viewer:{secret}\nw:viewer,approver():{secret}\nv:viewer:{}\n",
            "s3cr3t".repeat(50)
        );
        let report = parse(&text, "tokens").expect_err("wrong").to_string();
        assert!(!report.contains("s3cr3t"), "{report}");
        assert_eq!(
            report,
            "tokens:2: \"ci\" is named twice: give each bearer one line\n\
             tokens:3: \"other\" has the token of \"ci\": give each bearer a token of its own, or nobody can tell who did what\n\
             tokens:4: is not name:role:token: write for example ci:operator:<16 or more random characters>\n\
             tokens:5: is not name:role:token: write for example ci:operator:<16 or more random characters>\n\
             tokens:6: the role of \"x\" is not known: known: viewer, operator, approver(<role>), webhook\n\
             tokens:7: the role of \"y\" is not known: known: viewer, operator, approver(<role>), webhook\n\
             tokens:8: the token of \"z\" is too short or has odd characters: use at least 16 printable characters, such as those of: openssl rand -hex 24\n\
             tokens:9: the name has odd characters: use 1 to 64 letters, digits and . _ - @\n\
             tokens:10: the role of \"w\" is not known: known: viewer, operator, approver(<role>), webhook\n\
             tokens:11: the token of \"v\" has 300 characters: use at most 256, such as those of: openssl rand -hex 24"
        );
    }

    #[test]
    fn a_file_without_tokens_is_refused() {
        assert_eq!(parse("# none\n", "tokens").expect_err("empty").to_string(), "tokens: holds no token: write lines of name:role:token");
    }
}
