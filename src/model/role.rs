//! What the bearer of a token may do.

/// Longest name of a bearer, or of an approver's role.
pub const NAME_MAX: usize = 64;

/// One right. A bearer may hold several.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Read.
    Viewer,
    /// Read, and every verb but approving.
    Operator,
    /// Read, and approve in this role.
    Approver(String),
    /// Deliver alerts, and nothing else.
    Webhook,
}

impl Role {
    /// As it is written in a token file.
    pub fn name(&self) -> String {
        match self {
            Role::Viewer => "viewer".to_owned(),
            Role::Operator => "operator".to_owned(),
            Role::Approver(role) => format!("approver({role})"),
            Role::Webhook => "webhook".to_owned(),
        }
    }

    /// From a token file's word.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "viewer" => Some(Role::Viewer),
            "operator" => Some(Role::Operator),
            "webhook" => Some(Role::Webhook),
            other => {
                let role = other.strip_prefix("approver(")?.strip_suffix(')')?;
                is_name(role).then(|| Role::Approver(role.to_owned()))
            }
        }
    }

    /// May it read what is not open to all?
    pub const fn may_read(&self) -> bool {
        !matches!(self, Role::Webhook)
    }

    /// May it start, stop and move rollouts?
    pub const fn may_operate(&self) -> bool {
        matches!(self, Role::Operator)
    }

    /// May it deliver alerts?
    pub const fn may_deliver(&self) -> bool {
        matches!(self, Role::Webhook)
    }

    /// In which role it approves.
    pub fn approves(&self) -> Option<&str> {
        match self {
            Role::Approver(role) => Some(role),
            _ => None,
        }
    }
}

/// May this be the name of a bearer, or of an approver's role?
pub fn is_name(text: &str) -> bool {
    (1..=NAME_MAX).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-@".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_may_what_it_says_and_no_more() {
        for (word, reads, operates, delivers, approves) in [
            ("viewer", true, false, false, None),
            ("operator", true, true, false, None),
            ("approver(product-manager)", true, false, false, Some("product-manager")),
            ("webhook", false, false, true, None),
        ] {
            let role = Role::parse(word).unwrap();
            let may = (role.may_read(), role.may_operate(), role.may_deliver(), role.approves());
            assert_eq!(may, (reads, operates, delivers, approves), "{word}");
            assert_eq!(role.name(), word);
        }
        for word in ["", "root", "approver", "approver()", "approver(a b)", "approver(a))", "Viewer"] {
            assert_eq!(Role::parse(word), None, "{word:?}");
        }
    }
}
