//! Who may do what: bearer tokens from a file, one `name:role:token` a line. Tokens are never shown: not in an error, not by
//! `Debug`, not in a log.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// Shortest token: 16 characters of base64 are 96 bits.
const TOKEN_MIN: usize = 16;
/// Longest token. Every comparison is over this many bytes, so that its time does not tell a length.
const TOKEN_MAX: usize = 256;
/// Most tokens in a file: each request is compared with every one.
const TOKENS_MAX: usize = 1000;
/// Longest name.
const NAME_MAX: usize = 64;

/// What the bearer of a token may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Read.
    Viewer,
    /// Read, and every verb.
    Operator,
    /// Read, and approve in this role.
    Approver(String),
    /// Deliver alerts.
    Webhook,
}

impl Role {
    /// May it read what is not open to all?
    pub const fn may_read(&self) -> bool {
        !matches!(self, Role::Webhook)
    }

    /// May it start, stop and move rollouts?
    pub const fn may_operate(&self) -> bool {
        matches!(self, Role::Operator)
    }

    /// As it is written in a token file.
    pub fn name(&self) -> String {
        match self {
            Role::Viewer => "viewer".to_owned(),
            Role::Operator => "operator".to_owned(),
            Role::Approver(role) => format!("approver({role})"),
            Role::Webhook => "webhook".to_owned(),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "viewer" => Some(Role::Viewer),
            "operator" => Some(Role::Operator),
            "webhook" => Some(Role::Webhook),
            other => {
                let role = other.strip_prefix("approver(")?.strip_suffix(')')?;
                is_name(role).then(|| Role::Approver(role.to_owned()))
            }
        }
    }
}

/// A token as it is compared: padded, with its length.
#[derive(Clone)]
struct Secret {
    bytes: [u8; TOKEN_MAX],
    length: u64,
}

impl Secret {
    /// `None` if it is longer than a token can be.
    fn new(text: &str) -> Option<Self> {
        let mut bytes = [0; TOKEN_MAX];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Self { bytes, length: text.len() as u64 })
    }

    fn same(&self, other: &Self) -> Choice {
        self.bytes.ct_eq(&other.bytes) & self.length.ct_eq(&other.length)
    }
}

struct Bearer {
    name: String,
    role: Role,
    secret: Secret,
}

/// All tokens. Cheap to clone.
#[derive(Clone, Default)]
pub struct Tokens(Arc<Vec<Bearer>>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|b| format!("{}:{}:***", b.name, b.role.name()))).finish()
    }
}

/// Why a token file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// It cannot be read.
    #[error("token file {path}: {cause}")]
    Read { path: PathBuf, cause: std::io::Error },
    /// A line is wrong.
    #[error("token file {path}, line {line}: {why}")]
    Line { path: PathBuf, line: usize, why: String },
}

impl Tokens {
    /// No token: every mutation is refused.
    pub fn none() -> Self {
        Self::default()
    }

    /// These bearers: name, role and token.
    ///
    /// # Errors
    /// A token longer than 256 bytes; it is not shown.
    pub fn new<'a>(bearers: impl IntoIterator<Item = (&'a str, Role, &'a str)>) -> Result<Self, String> {
        let bearer = |(name, role, token): (&str, Role, &str)| {
            let secret = Secret::new(token).ok_or_else(|| format!("the token of {name} exceeds {TOKEN_MAX} bytes"))?;
            Ok(Bearer { name: name.to_owned(), role, secret })
        };
        Ok(Self(Arc::new(bearers.into_iter().map(bearer).collect::<Result<_, String>>()?)))
    }

    /// Reads a file of lines `name:role:token`; `#` begins a comment line. Roles: `viewer`, `operator`, `approver(<role>)`,
    /// `webhook`.
    ///
    /// # Errors
    /// If it cannot be read, or a line is wrong: the error names the line and never shows the token.
    pub fn from_file(path: &Path) -> Result<Self, TokensError> {
        let text = fs::read_to_string(path).map_err(|cause| TokensError::Read { path: path.to_owned(), cause })?;
        Self::parse(&text).map_err(|(line, why)| TokensError::Line { path: path.to_owned(), line, why })
    }

    /// The same from the file's text; an error is a line's number and what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut all: Vec<Bearer> = Vec::new();
        for (line, content) in (1..).zip(text.lines()) {
            let content = content.trim();
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            let bearer = bearer(content).map_err(|why| (line, why))?;
            if let Some(twin) = all.iter().find(|b| b.name == bearer.name || bool::from(b.secret.same(&bearer.secret))) {
                return Err((line, format!("same name or same token as {}: each bearer needs its own", twin.name)));
            }
            all.push(bearer);
            if all.len() > TOKENS_MAX {
                return Err((line, format!("more than {TOKENS_MAX} tokens")));
            }
        }
        Ok(Self(Arc::new(all)))
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The name and role of a token's bearer. Compares with every token, whole, in constant time: neither which one came
    /// near nor how near can be measured.
    pub fn bearer(&self, presented: &str) -> Option<(&str, &Role)> {
        let presented = Secret::new(presented)?;
        let mut found = 0_u64;
        for (number, bearer) in (1_u64..).zip(self.0.iter()) {
            found = u64::conditional_select(&found, &number, bearer.secret.same(&presented));
        }
        let index = usize::try_from(found.checked_sub(1)?).ok()?;
        self.0.get(index).map(|b| (b.name.as_str(), &b.role))
    }
}

fn bearer(line: &str) -> Result<Bearer, String> {
    let mut parts = line.splitn(3, ':');
    let (Some(name), Some(role), Some(token)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("not name:role:token".to_owned());
    };
    if !is_name(name) {
        return Err(format!("a name has 1 to {NAME_MAX} letters, digits and . _ - @"));
    }
    let role = Role::parse(role).ok_or_else(|| format!("{name}: a role is viewer, operator, approver(<role>) or webhook"))?;
    if !token.chars().all(|c| c.is_ascii_graphic()) {
        return Err(format!("token of {name} has characters that cannot be sent in a header"));
    }
    let length = token.len();
    if !(TOKEN_MIN..=TOKEN_MAX).contains(&length) {
        return Err(format!("token of {name} has {length} characters, allowed are {TOKEN_MIN} to {TOKEN_MAX}"));
    }
    let secret = Secret::new(token).ok_or_else(|| format!("token of {name} is too long"))?;
    Ok(Bearer { name: name.to_owned(), role, secret })
}

fn is_name(text: &str) -> bool {
    (1..=NAME_MAX).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-@".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# people\nann:operator:abcdefghijklmnop\n\nbob:approver(product-manager):qrstuvwxyz:123456\n";

    #[test]
    fn a_token_gives_its_bearer_and_role() {
        let tokens = Tokens::parse(FILE).unwrap();
        assert_eq!(tokens.bearer("abcdefghijklmnop"), Some(("ann", &Role::Operator)));
        assert_eq!(tokens.bearer("qrstuvwxyz:123456"), Some(("bob", &Role::Approver("product-manager".to_owned()))));
        for wrong in ["", "abcdefghijklmno", "abcdefghijklmnop\0", "abcdefghijklmnoq", &"a".repeat(10_000)] {
            assert_eq!(tokens.bearer(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn only_an_operator_operates() {
        for (role, reads, operates) in
            [("viewer", true, false), ("operator", true, true), ("approver(x)", true, false), ("webhook", false, false)]
        {
            let role = Role::parse(role).unwrap();
            assert_eq!((role.may_read(), role.may_operate()), (reads, operates), "{role:?}");
        }
    }

    #[test]
    fn a_wrong_line_is_named_without_its_token() {
        for (line, want) in [
            ("ann:operator", "not name:role:token"),
            ("ann:root:abcdefghijklmnop", "a role is viewer"),
            ("an n:operator:abcdefghijklmnop", "a name has"),
            ("ann:operator:abcdefgh", "has 8 characters, allowed are 16 to 256"),
            ("ann:operator:abcdefgh ijklmnop", "cannot be sent"),
            ("ann:operator:abcdefghijklmnop\neve:viewer:abcdefghijklmnop", "same name or same token as ann"),
        ] {
            let (number, why) = Tokens::parse(&format!("# x\n{line}")).unwrap_err();
            assert_eq!(number, 1 + line.lines().count(), "{line}");
            assert!(why.contains(want) && !why.contains("abcdefgh"), "{why}");
        }
    }

    #[test]
    fn debug_shows_no_token() {
        let shown = format!("{:?}", Tokens::parse(FILE).unwrap());
        assert!(shown.contains("ann:operator:***") && !shown.contains("abcdef") && !shown.contains("qrst"), "{shown}");
    }
}
