//! Holds that last too long: nothing can be seen, nothing can be decided, both arms suffer, nobody makes stable equal.

use super::machine::{Course, Machine};
use crate::model::rule::{HoldThen, OnShared, Promotion, Then};
use crate::model::{Action, Keep, Level, Promoting, Reason, Tick, Timestamp};

/// Who pauses when a policy asks.
pub(super) const POLICY: &str = "policy";

/// Since when it waits, and for what. Begins anew with each step and each resume.
#[derive(Clone, Debug, Default)]
pub(super) struct Waits {
    /// Unbroken blindness of any kind.
    blind: Option<Timestamp>,
    /// Unbroken blindness for the canary alone.
    blind_canary: Option<Timestamp>,
    /// Since when the step's time is over and something holds it; pushed on by time that does not count.
    overdue: Option<Timestamp>,
    /// The last poll.
    polled: Option<Timestamp>,
}

impl Waits {
    fn note_blindness(&mut self, now: Timestamp, blind: bool, canary_only: bool) {
        let since = |was: Option<Timestamp>, is: bool| is.then(|| was.unwrap_or(now));
        self.blind = since(self.blind, blind);
        self.blind_canary = since(self.blind_canary, blind && canary_only);
    }

    fn note_overdue(&mut self, now: Timestamp, overdue: bool, stands_still: bool) {
        let passed = self.polled.map_or_else(Default::default, |at| now.since(at));
        self.overdue = match (self.overdue, overdue) {
            (_, false) => None,
            (Some(since), true) if stands_still => Some(since + passed),
            (Some(since), true) => Some(since),
            (None, true) => (!stands_still).then_some(now),
        };
        self.polled = Some(now);
    }
}

impl Machine {
    /// Can the canary alone not be seen, though the baseline can?
    fn canary_only(tick: &Tick) -> bool {
        tick.missing.canary.is_some() && tick.missing.baseline.is_none()
    }

    pub(super) fn note_waits(&mut self, now: Timestamp, tick: &Tick) {
        let keep = &tick.judgement.keep;
        let here = self.judges_step(tick);
        let blind = keep.contains(&Keep::Blind);
        self.waits.note_blindness(now, blind, Self::canary_only(tick));
        let over = tick.judgement.clock.counted_s >= self.step_lasts().as_secs_f64();
        let held = keep.iter().any(|k| *k != Keep::Time) || (keep.is_empty() && self.held_by_itself(now));
        let still = blind || keep.contains(&Keep::Shared) || self.pause.is_some() || self.write.is_some();
        self.waits.note_overdue(now, here && over && held, still);
    }

    /// Does this judgement speak about the step in force?
    pub(super) fn judges_step(&self, tick: &Tick) -> bool {
        self.at_step() && tick.judgement.step == self.step
    }

    /// The policy on the present blindness, since when, and its name.
    pub(super) fn blindness(&self) -> Option<(HoldThen, Timestamp, &'static str)> {
        let policies = &self.terms.policies;
        match (self.waits.blind_canary, self.waits.blind) {
            (Some(since), _) => Some((policies.blind_canary, since, "blind-canary")),
            (None, Some(since)) => Some((policies.blind, since, "blind")),
            (None, None) => None,
        }
    }

    pub(super) fn blindness_acts_at(&self) -> Option<Timestamp> {
        let (policy, since, _) = self.blindness()?;
        self.can_act(policy.then).then(|| since + policy.hold)
    }

    pub(super) fn act_on_blindness(&mut self, now: Timestamp) -> Option<Action> {
        self.blindness_acts_at().filter(|at| *at <= now)?;
        let (policy, _, which) = self.blindness()?;
        let what = if which == "blind" { "nothing could be seen" } else { "the canary could not be seen" };
        self.act(now, policy, which, what, Level::Page)
    }

    pub(super) fn undecided_acts_at(&self) -> Option<Timestamp> {
        let policy = self.terms.policies.undecided;
        let since = self.waits.overdue?;
        (self.can_act(policy.then) && !self.stands_still()).then(|| since + policy.hold)
    }

    pub(super) fn act_on_undecided(&mut self, now: Timestamp) -> Option<Action> {
        self.undecided_acts_at().filter(|at| *at <= now)?;
        self.act(now, self.terms.policies.undecided, "undecided", "the step could not be ended at its time", Level::Warning)
    }

    /// Does the time of the undecided policy stand still: blind, shared, paused, or on the way to another weight?
    fn stands_still(&self) -> bool {
        let keep = |k: Keep| self.last.as_ref().is_some_and(|t| t.judgement.keep.contains(&k));
        keep(Keep::Blind) || keep(Keep::Shared) || self.pause.is_some() || self.write.is_some()
    }

    /// May a policy do this now? Nothing is asked twice, and nobody but a person ends a freeze.
    fn can_act(&self, then: Then) -> bool {
        let here = matches!(self.course, Course::Climbing { .. });
        here && match then {
            Then::Hold => false,
            Then::Ask => self.pause.is_none(),
            Then::RollBack => !self.frozen,
        }
    }

    fn act(&mut self, now: Timestamp, policy: HoldThen, which: &str, what: &str, level: Level) -> Option<Action> {
        match policy.then {
            Then::Hold => None,
            Then::Ask => {
                let why = format!("{what} for {}", super::texts::duration(policy.hold));
                Some(self.ask_person(now, level, &why))
            }
            Then::RollBack => Some(self.roll_back(now, vec![Reason::Policy { which: which.to_owned(), after: policy.hold }])),
        }
    }

    /// Pauses and notifies.
    pub(super) fn ask_person(&mut self, now: Timestamp, level: Level, why: &str) -> Action {
        self.pause_for(POLICY, why, level, now);
        Action::Pause
    }

    /// An incident of both arms (STATISTICS 7.2).
    pub(super) fn act_on_shared(&mut self, now: Timestamp) -> Option<Action> {
        let labels = self.last.as_ref()?.judgement.labels;
        if self.terms.policies.shared == OnShared::RollBack && labels.shared && self.can_act(Then::RollBack) {
            return Some(self.roll_back(now, vec![Reason::Policy { which: "shared".to_owned(), after: std::time::Duration::ZERO }]));
        }
        None
    }

    pub(super) fn external_acts_at(&self) -> Option<Timestamp> {
        match (self.course, self.terms.promotion) {
            (Course::Promoting { at: Promoting::External, since }, Promotion::External { within }) if self.pause.is_none() => {
                Some(since + within)
            }
            _ => None,
        }
    }

    /// Nobody has made stable equal in time.
    pub(super) fn act_on_external_limit(&mut self, now: Timestamp) -> Option<Action> {
        self.external_acts_at().filter(|at| *at <= now)?;
        let why = "stable was not made equal in time: make it so and promote, resume to wait on, or roll back";
        Some(self.ask_person(now, Level::Warning, why))
    }
}
