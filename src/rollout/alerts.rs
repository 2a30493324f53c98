//! Alerts of somebody else (DESIGN 8): what they do to the rollout they concern. A critical one that names the canary rolls back
//! unless its like fires for the baseline; any other critical or warning one holds; the rest is only kept.

use super::machine::{Course, Machine};
use super::notices::Lasting;
use crate::model::{Action, Alert, Arm, Hold, HoldWhy, Level, Reason, Severity, Timestamp, Topic};
use std::collections::BTreeMap;

/// Most alerts kept of one rollout; the least severe give way, and how many did is said.
pub(super) const ALERTS_MAX: usize = 64;
/// Most alerts named in a sentence.
const NAMED_MAX: usize = 3;

/// The alerts of a rollout, by fingerprint. A resolved one is remembered, so that a message that comes late does not fire it
/// again.
#[derive(Clone, Debug, Default)]
pub(super) struct Alerts {
    kept: BTreeMap<String, Alert>,
    /// Firing ones that did not fit.
    dropped: u32,
}

impl Alerts {
    /// A repeat, and one that is older than what is known, changes nothing.
    fn take(&mut self, alert: &Alert) {
        let stale = |k: &Alert| alert.since < k.since || (alert.since == k.since && !k.firing);
        if self.kept.get(&alert.fingerprint).is_some_and(stale) {
            return;
        }
        self.kept.insert(alert.fingerprint.clone(), alert.clone());
        if self.kept.len() > ALERTS_MAX {
            self.give_way();
        }
    }

    /// Resolved ones first, then the least severe, then the oldest.
    fn give_way(&mut self) {
        let least = self.kept.values().min_by_key(|a| (a.firing, a.severity, a.since)).map(|a| (a.fingerprint.clone(), a.firing));
        let Some((fingerprint, firing)) = least else { return };
        self.kept.remove(&fingerprint);
        self.dropped = self.dropped.saturating_add(u32::from(firing));
    }

    fn firing(&self) -> impl Iterator<Item = &Alert> {
        self.kept.values().filter(|a| a.firing)
    }

    /// Critical, naming the canary, and none of the same name names the baseline.
    fn blame_canary(&self) -> impl Iterator<Item = &Alert> {
        let of_canary = |a: &&Alert| a.severity == Severity::Critical && a.names == Some(Arm::Canary);
        let twin = |a: &Alert| self.firing().any(|b| b.name == a.name && b.names == Some(Arm::Baseline));
        self.firing().filter(of_canary).filter(move |a| !twin(a))
    }

    /// Everything that holds, the most severe first.
    fn holding(&self) -> Vec<&Alert> {
        let mut all: Vec<&Alert> = self.firing().filter(|a| a.severity >= Severity::Warning).collect();
        all.sort_by_key(|a| (std::cmp::Reverse(a.severity), a.since, &a.fingerprint));
        all
    }
}

fn words(alert: &Alert) -> String {
    let severity = if alert.severity == Severity::Critical { "critical" } else { "warning" };
    let whom = alert.names.map_or("the service", Arm::name);
    let text = if alert.text.is_empty() { String::new() } else { format!(": {}", alert.text) };
    format!("{} ({severity}, {whom}){text}", alert.name)
}

impl Machine {
    /// All of one message are noted before any of them acts. An alert from before the rollout says nothing about it.
    pub(super) fn on_alerts(&mut self, now: Timestamp, alerts: &[Alert]) -> Action {
        let Some(begun) = self.begun() else { return Action::Hold };
        alerts.iter().filter(|a| a.since > begun).for_each(|a| self.alerts.take(a));
        self.act_on_alerts(now).unwrap_or(Action::Hold)
    }

    /// May an alert roll back now? In the bake too, whatever the bake's own judge may do; not against break-glass, and not once
    /// stable is touched.
    fn alerts_act(&self) -> bool {
        match self.course {
            Course::Gated | Course::Climbing { .. } => !self.frozen,
            Course::Completing { forced } => !forced && !self.frozen,
            Course::Waiting | Course::Promoting { .. } | Course::RollingBack { .. } | Course::Over(_) => false,
        }
    }

    pub(super) fn act_on_alerts(&mut self, now: Timestamp) -> Option<Action> {
        if !self.alerts_act() {
            return None;
        }
        let reason = |a: &Alert| Reason::Alert { name: a.name.clone(), text: a.text.clone() };
        let reasons: Vec<Reason> = self.alerts.blame_canary().take(NAMED_MAX).map(reason).collect();
        (!reasons.is_empty()).then(|| self.roll_back(now, reasons))
    }

    /// What fires, in one sentence, with what was not kept.
    fn alerts_text(&self, alerts: &[&Alert]) -> String {
        let named: Vec<String> = alerts.iter().take(NAMED_MAX).map(|a| words(a)).collect();
        let more = match alerts.len().saturating_sub(NAMED_MAX) {
            0 => String::new(),
            n => format!("; and {n} more"),
        };
        let dropped = match self.alerts.dropped {
            0 => String::new(),
            n => format!("; {n} alerts did not fit, {ALERTS_MAX} are kept"),
        };
        format!("{}{more}{dropped}", named.join("; "))
    }

    pub(super) fn hold_alert(&self) -> Option<Hold> {
        let all = self.alerts.holding();
        if all.is_empty() || matches!(self.course, Course::RollingBack { .. }) {
            return None;
        }
        let text = format!("alerts fire: {}", self.alerts_text(&all));
        Some(Hold { why: HoldWhy::Alert, text, ends: "they resolve, or a person rolls back".to_owned(), until: None })
    }

    /// What no `advance` passes over: a person may take a warning on himself, not a critical alert.
    pub(super) fn hold_critical_alert(&self) -> Option<Hold> {
        let critical = self.alerts.holding().first().is_some_and(|a| a.severity == Severity::Critical);
        self.hold_alert().filter(|_| critical)
    }

    /// A critical alert that does not roll back is for a person: both arms suffer, it is frozen, or stable is touched already.
    pub(super) fn lasting_alert(&self) -> Option<Lasting> {
        let hold = self.hold_alert()?;
        let critical = self.hold_critical_alert().is_some();
        let level = if critical { Level::Page } else { Level::Warning };
        let text = format!("{}; the rollout is {} at {}", hold.text, self.state().name(), self.weight);
        Some(Lasting::new(level, Topic::Alert, text))
    }
}
