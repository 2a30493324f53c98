//! Approvals: each role of the rule by another person, none by whoever started the rollout. They bind to one rollout, so to one
//! version of the rule and one template, and count for a day.

use super::machine::{Course, Machine};
use crate::model::{Action, Command, Level, Timestamp, Topic};
use std::collections::BTreeMap;
use std::time::Duration;

/// An approval counts so long (DESIGN 6.5).
pub(super) const LASTS: Duration = Duration::from_secs(24 * 3600);

/// Who has approved, by role, and when.
#[derive(Clone, Debug, Default)]
pub(super) struct Approvals(BTreeMap<String, (String, Timestamp)>);

impl Approvals {
    fn fresh(&self, now: Timestamp) -> impl Iterator<Item = (&str, &str, Timestamp)> {
        let all = self.0.iter().map(|(role, (by, at))| (role.as_str(), by.as_str(), *at + LASTS));
        all.filter(move |(_, _, ends)| *ends > now)
    }

    /// Roles of these that have not approved, or too long ago.
    pub(super) fn missing(&self, roles: &[String], now: Timestamp) -> Vec<String> {
        roles.iter().filter(|r| !self.fresh(now).any(|(role, _, _)| role == r.as_str())).cloned().collect()
    }

    /// When the first one stops counting.
    pub(super) fn ends(&self, now: Timestamp) -> Option<Timestamp> {
        self.fresh(now).map(|(_, _, ends)| ends).min()
    }

    /// What is missing and what is there.
    pub(super) fn text(&self, missing: &[String], now: Timestamp) -> String {
        let given: Vec<String> = self.fresh(now).map(|(role, by, _)| format!("{role} by {by}")).collect();
        let given = if given.is_empty() { String::new() } else { format!(" (given: {})", given.join(", ")) };
        format!("approval is missing: {}{given}", missing.join(", "))
    }
}

/// An approval that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approved {
    /// In which role.
    pub role: String,
    /// By whom.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Until when it counts before the first weight.
    pub until: Timestamp,
}

impl Machine {
    /// Every approval that was given, by role; the newest of each.
    pub fn approved(&self) -> impl Iterator<Item = Approved> {
        let one = |(role, (by, at)): (&String, &(String, Timestamp))| Approved {
            role: role.clone(),
            by: by.clone(),
            at: *at,
            until: *at + LASTS,
        };
        self.gates.approvals.0.iter().map(one)
    }

    pub(super) fn who_may_approve(&self) -> String {
        let starter = self.starter();
        let but = if starter.is_empty() { String::new() } else { format!(" but {starter}, who started it") };
        format!("anybody with the role{but} says `approve`, one person for one role; an approval counts for 24 h")
    }

    /// A person's approval. What was approved already is no error.
    pub(super) fn approve(&mut self, now: Timestamp, role: &str, command: &Command) -> Result<Action, String> {
        let by = command.by.as_str();
        let roles = &self.terms.approvals;
        if self.course != Course::Gated || roles.is_empty() {
            return Err(format!("no approval by {role} is awaited: nothing to approve"));
        }
        if !roles.iter().any(|r| r == role) {
            return Err(format!("no approval by {role} is awaited: the rule asks for {}", roles.join(", ")));
        }
        if by == self.starter() {
            return Err(format!("{by} started it and cannot approve it as {role}: another person has to"));
        }
        if self.gates.approvals.fresh(now).any(|(r, _, _)| r == role) {
            return Ok(Action::Hold);
        }
        if let Some((other, _, _)) = self.gates.approvals.fresh(now).find(|(_, who, _)| *who == by) {
            return Err(format!("{by} has approved as {other} and cannot approve as {role} too: another person has to"));
        }
        self.gates.approvals.0.insert(role.to_owned(), (by.to_owned(), now));
        let why = if command.why.is_empty() { String::new() } else { format!(": {}", command.why) };
        self.event(Level::Info, Topic::Gate, format!("approved as {role} by {by}{why}"));
        Ok(self.pass_gates(now).unwrap_or(Action::Hold))
    }
}
