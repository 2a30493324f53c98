//! The health of the pods (DESIGN 6.3 and 6.4): a canary whose pods crash, are killed or fail their probes rolls back, unless the
//! baseline's do so too at half the rate per pod or more; then it is nobody's fault, and holds. Also who is told of pods, when.

use super::machine::{Course, Machine};
use super::notices::Lasting;
use super::texts::duration;
use crate::model::rule::OnShared;
use crate::model::{Action, Hold, HoldWhy, Level, PodSign, Reason, Timestamp, Topic, WorkloadSeen};
use std::time::Duration;

/// A cluster that cannot be looked at for so long is told: until then it is a hold like others.
const UNKNOWN_TELLS: Duration = Duration::from_secs(60);
/// Pods that are awaited for so long are told: a Deployment's own progress deadline.
const AWAITED_TELLS: Duration = Duration::from_secs(600);
/// Pods of both versions that are unwell for so long page, as a shared incident does.
const BOTH_TELLS: Duration = Duration::from_secs(600);

/// Since when it is so, without a break.
#[derive(Clone, Debug, Default)]
pub(super) struct Pods {
    /// Pods of both arms are unwell.
    both: Option<Timestamp>,
    /// The cluster cannot be looked at.
    unknown: Option<Timestamp>,
    /// Pods are awaited.
    awaited: Option<Timestamp>,
}

/// Whose fault a sign is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Canary,
    Nobody,
}

/// Does the baseline show it at half the canary's rate per pod, or more? A Deployment that gives up does so as a whole.
fn shown_by_both(sign: PodSign, baseline: &WorkloadSeen, canary: &WorkloadSeen) -> bool {
    let count = |arm: &WorkloadSeen| u64::from(sign.of(&arm.signs));
    let pods = |arm: &WorkloadSeen| if sign == PodSign::NeverReady { 1 } else { u64::from(arm.pods.max(1)) };
    count(baseline) > 0 && 2 * count(baseline) * pods(canary) >= count(canary) * pods(baseline)
}

impl Machine {
    /// The signs that count by the rule and that the canary shows. Nothing while nobody can look.
    fn signs(&self) -> Vec<(PodSign, Fault)> {
        let judged = matches!(self.course, Course::Gated | Course::Climbing { .. } | Course::Completing { .. });
        let (Some(health), Some(seen), Some(_), true) = (self.terms.pod_health, self.seen(), self.noted(), judged) else {
            return Vec::new();
        };
        let least = |sign: PodSign| match sign {
            PodSign::CrashLoop => health.crash_loop.then_some(1),
            PodSign::ImagePull => health.image_pull.then_some(1),
            PodSign::OomKilled => health.oom_killed.then_some(1),
            PodSign::FailedProbes => health.failed_probes,
            PodSign::NeverReady => health.never_ready.then_some(1),
        };
        let shows = |sign: &PodSign| least(*sign).is_some_and(|n| sign.of(&seen.canary.signs) >= n.max(1));
        let fault = |sign| if shown_by_both(sign, &seen.baseline, &seen.canary) { Fault::Nobody } else { Fault::Canary };
        let all = [PodSign::CrashLoop, PodSign::OomKilled, PodSign::ImagePull, PodSign::NeverReady, PodSign::FailedProbes];
        all.into_iter().filter(shows).map(|sign| (sign, fault(sign))).collect()
    }

    /// Reasons to roll back.
    pub(super) fn pod_reasons(&self) -> Vec<Reason> {
        let blamed = self.signs().into_iter().filter(|(_, fault)| *fault == Fault::Canary);
        blamed.map(|(sign, _)| Reason::Pods { sign, text: self.pods_text(sign) }).collect()
    }

    fn pods_text(&self, sign: PodSign) -> String {
        let Some(seen) = self.seen() else { return String::new() };
        let arm = |arm: &WorkloadSeen| {
            let trouble = if arm.trouble.is_empty() { String::new() } else { format!(" ({})", arm.trouble) };
            match sign {
                PodSign::NeverReady => format!("{} of {} pods are ready{trouble}", arm.ready, arm.pods),
                _ => format!("{} in {} pods{trouble}", sign.of(&arm.signs), arm.pods),
            }
        };
        format!("{}; the baseline's: {}", arm(&seen.canary), arm(&seen.baseline))
    }

    /// Before the first weight too; in the bake, and against break-glass, as for any evidence.
    pub(super) fn pods_act(&self) -> bool {
        (self.is_gated() && !self.frozen) || self.evidence_acts()
    }

    pub(super) fn act_on_pods(&mut self, now: Timestamp) -> Option<Action> {
        let reasons = self.pod_reasons();
        (self.pods_act() && !reasons.is_empty()).then(|| self.roll_back(now, reasons))
    }

    /// Nothing begins with pods like these, whoever's fault it is.
    pub(super) fn pods_are_unwell(&self) -> bool {
        !self.signs().is_empty()
    }

    /// Pods of both versions are unwell.
    pub(super) fn hold_pods(&self) -> Option<Hold> {
        let (sign, _) = self.signs().into_iter().find(|(_, fault)| *fault == Fault::Nobody)?;
        let text = format!("{} among the pods of both versions, so the canary is not blamed: {}", sign.name(), self.pods_text(sign));
        let ends = "the canary's pods are well, or worse than the baseline's; break-glass-promote, or a person rolls back";
        Some(Hold { why: HoldWhy::Pods, text, ends: ends.to_owned(), until: None })
    }

    /// After every input: since when it is so.
    pub(super) fn note_pods(&mut self, now: Timestamp) {
        if self.noted().is_none() {
            return;
        }
        let since = |was: Option<Timestamp>, is: bool| is.then(|| was.unwrap_or(now));
        let waits = matches!(self.course, Course::Climbing { .. }) || self.is_closed_for_pods();
        let unknown = waits && self.seen().is_none();
        let awaited = waits && !unknown && self.hold_capacity().is_some();
        let both = self.hold_pods().is_some();
        let was = &self.pods;
        self.pods = Pods { both: since(was.both, both), unknown: since(was.unknown, unknown), awaited: since(was.awaited, awaited) };
    }

    fn tells(&self) -> [Option<Timestamp>; 3] {
        let both = if self.terms.policies.shared == OnShared::Page { Duration::ZERO } else { BOTH_TELLS };
        // where its Deployment has given up, it is known that they do not come
        let given_up = self.seen().is_some_and(|seen| seen.canary.signs.never_ready > 0);
        let awaited = if given_up { Duration::ZERO } else { AWAITED_TELLS };
        let after = |since: Option<Timestamp>, wait: Duration| since.map(|at| at + wait);
        [after(self.pods.both, both), after(self.pods.unknown, UNKNOWN_TELLS), after(self.pods.awaited, awaited)]
    }

    /// When the next of them is told.
    pub(super) fn pods_tell_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.tells().into_iter().flatten().filter(|at| *at > now).min()
    }

    fn awaited_text(&self, now: Timestamp, held: &str) -> String {
        let long = self.pods.awaited.is_some_and(|since| now.since(since) >= AWAITED_TELLS);
        if long { format!("for {} now: {held}", duration(AWAITED_TELLS)) } else { held.to_owned() }
    }

    /// What lasts about pods, the worst only.
    pub(super) fn lasting_pods(&self, now: Timestamp) -> Option<Lasting> {
        let [both, unknown, awaited] = self.tells().map(|at| at.is_some_and(|at| at <= now));
        let (level, about, text) = if let Some(hold) = self.hold_pods().filter(|_| both) {
            (Level::Page, "both", hold.text)
        } else if let Some(short) = self.overloaded() {
            (Level::Warning, "short", self.short_text(&short))
        } else if unknown {
            let why = match &self.capacity.seen {
                Some(Err(why)) => why.as_str(),
                _ => "it has not answered yet",
            };
            let text =
                format!("the cluster cannot be looked at for {}, the rollout holds at {}: {why}", duration(UNKNOWN_TELLS), self.weight);
            (Level::Warning, "unknown", text)
        } else if let Some(hold) = self.hold_capacity().filter(|_| awaited) {
            (Level::Warning, "awaited", self.awaited_text(now, &hold.text))
        } else {
            (Level::Warning, "baseline", self.shrunk_text()?)
        };
        Some(Lasting { about: about.to_owned(), ..Lasting::new(level, Topic::Capacity, text) })
    }
}
