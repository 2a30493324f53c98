//! Who may do what. Tokens are never shown: not in an error, not by `Debug`, not in a log. The file they come from is read by
//! `config`.

use crate::model::Role;
use std::fmt;
use std::sync::Arc;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// Longest token. Every comparison is over this many bytes, so that its time does not tell a length.
const TOKEN_MAX: usize = 256;

/// The bearer of a token.
#[derive(Debug)]
pub struct Bearer {
    /// Whose it is: under this name words are recorded.
    pub name: String,
    /// What it allows.
    pub roles: Vec<Role>,
    secret: Secret,
}

impl Bearer {
    /// May it read what is not open to all?
    pub fn may_read(&self) -> bool {
        self.roles.iter().any(Role::may_read)
    }

    /// May it start, stop and move rollouts?
    pub fn may_operate(&self) -> bool {
        self.roles.iter().any(Role::may_operate)
    }

    /// May it deliver alerts?
    pub fn may_deliver(&self) -> bool {
        self.roles.iter().any(Role::may_deliver)
    }

    /// In which roles it approves.
    pub fn approves(&self) -> impl Iterator<Item = &str> {
        self.roles.iter().filter_map(Role::approves)
    }

    /// Its roles as a token file has them.
    pub fn roles_in_words(&self) -> String {
        self.roles.iter().map(Role::name).collect::<Vec<_>>().join(", ")
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

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// All tokens. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Tokens(Arc<Vec<Bearer>>);

impl Tokens {
    /// No token: every mutation is refused.
    pub fn none() -> Self {
        Self::default()
    }

    /// These bearers: name, roles and token.
    ///
    /// # Errors
    /// A token longer than 256 bytes; it is not shown.
    pub fn new<'a>(bearers: impl IntoIterator<Item = (&'a str, Vec<Role>, &'a str)>) -> Result<Self, String> {
        let bearer = |(name, roles, token): (&str, Vec<Role>, &str)| {
            let secret = Secret::new(token).ok_or_else(|| format!("the token of {name} exceeds {TOKEN_MAX} bytes"))?;
            Ok(Bearer { name: name.to_owned(), roles, secret })
        };
        Ok(Self(Arc::new(bearers.into_iter().map(bearer).collect::<Result<_, String>>()?)))
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bearer of a token. Compares with every token, whole, in constant time: neither which one came
    /// near nor how near can be measured.
    pub fn bearer(&self, presented: &str) -> Option<&Bearer> {
        let presented = Secret::new(presented)?;
        let mut found = 0_u64;
        for (number, bearer) in (1_u64..).zip(self.0.iter()) {
            found = u64::conditional_select(&found, &number, bearer.secret.same(&presented));
        }
        let index = usize::try_from(found.checked_sub(1)?).ok()?;
        self.0.get(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Tokens {
        let manager = Role::Approver("product-manager".to_owned());
        Tokens::new([("ann", vec![Role::Operator], "abcdefghijklmnop"), ("bob", vec![Role::Viewer, manager], "qrstuvwxyz:123456")]).unwrap()
    }

    #[test]
    fn a_token_gives_its_bearer_and_roles() {
        let tokens = tokens();
        let name = |token: &str| tokens.bearer(token).map(|b| b.name.as_str());
        assert_eq!((name("abcdefghijklmnop"), name("qrstuvwxyz:123456")), (Some("ann"), Some("bob")));
        let bob = tokens.bearer("qrstuvwxyz:123456").unwrap();
        assert_eq!((bob.may_read(), bob.may_operate(), bob.approves().collect::<Vec<_>>()), (true, false, vec!["product-manager"]));
        assert_eq!(bob.roles_in_words(), "viewer, approver(product-manager)");
        for wrong in ["", "abcdefghijklmno", "abcdefghijklmnop\0", "abcdefghijklmnoq", &"a".repeat(10_000)] {
            assert_eq!(name(wrong), None, "{wrong:?}");
        }
        assert!(Tokens::new([("eve", vec![Role::Viewer], "x".repeat(257).as_str())]).unwrap_err().contains("eve exceeds 256"));
    }

    #[test]
    fn debug_shows_no_token() {
        let shown = format!("{:?}", tokens());
        assert!(shown.contains("ann") && shown.contains("***") && !shown.contains("abcdef") && !shown.contains("qrst"), "{shown}");
    }
}
