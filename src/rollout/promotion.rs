//! After the bake (DESIGN 6.2): what becomes of stable, and the actions on workloads that this takes. Traffic never goes to a
//! stable that is half updated: it goes back only when the copy is there and ready, and returns to the canary if that fails.

use super::machine::{Course, End, Machine};
use super::router::{Failure, Write};
use crate::model::rule::Promotion;
use crate::model::{Action, Effect, Hold, HoldWhy, Level, Mode, Outcome, Promoting, Retry, Timestamp, Topic, Weight, WorkloadAction};

/// An action on a workload that is wanted.
#[derive(Clone, Debug)]
pub(super) struct Work {
    pub(super) action: WorkloadAction,
    /// How its tries go; the same words as for a weight.
    tries: Write,
    /// It is so; a pause keeps what follows.
    done: bool,
}

impl Machine {
    /// All the traffic is on the canary and the last step is over.
    pub(super) fn promote(&mut self, now: Timestamp) {
        match self.terms.promotion {
            Promotion::Swap { .. } | Promotion::Leave => self.finish(End::Succeeded),
            Promotion::Copy => {
                self.course = Course::Promoting { at: Promoting::Copying, since: now };
                self.ask_work(now, WorkloadAction::Copy);
            }
            Promotion::External { .. } => self.course = Course::Promoting { at: Promoting::External, since: now },
        }
    }

    /// Stable is equal and ready: the weight goes back to it.
    pub(super) fn shift_back(&mut self, now: Timestamp) {
        self.work = None;
        self.course = Course::Promoting { at: Promoting::ShiftingBack, since: now };
        self.ask_weight(now, Weight::ZERO);
    }

    /// Stable is not what it was found to be, or the weight does not go back to it: the canary keeps all the traffic, and stable
    /// is made and looked at again.
    pub(super) fn return_to_canary(&mut self, now: Timestamp, why: &str) {
        let text =
            format!("the weight does not go back to stable ({why}): all traffic returns to the canary, and stable is looked at again");
        self.event(Level::Page, Topic::Stuck, text);
        self.course = Course::Promoting { at: Promoting::Copying, since: now };
        self.ask_weight(now, Weight::FULL);
    }

    /// Is stable being written, or written, by us? Then there is nothing left to roll back to.
    pub(super) fn stable_is_ours(&self) -> bool {
        matches!(self.course, Course::Promoting { .. }) && self.terms.promotion == Promotion::Copy
    }

    /// Wants this of a workload from now on. In observe mode it goes on as if it were done.
    pub(super) fn ask_work(&mut self, now: Timestamp, action: WorkloadAction) {
        if self.terms.mode == Mode::Observe {
            self.after_work(now, action);
            return;
        }
        self.work = Some(Work { action, tries: Write::default(), done: false });
        self.send_work(action);
    }

    fn send_work(&mut self, action: WorkloadAction) {
        self.work_number += 1;
        self.out.push(Effect::Workload { action, number: self.work_number });
    }

    /// The action that was asked for and not reported, with its number: what the shell carries out again after a restart.
    pub fn unconfirmed_work(&self) -> Option<(WorkloadAction, u64)> {
        self.work.as_ref().filter(|w| !w.done && w.tries.again_at().is_none()).map(|w| (w.action, self.work_number))
    }

    /// An action ended; or, with number 0, which nobody asked for, the cluster says that stable is equal and ready. Where the
    /// weight is on its way back, a failure of the copy's number says that stable is ready no more.
    pub(super) fn on_workload(&mut self, now: Timestamp, number: u64, outcome: &Outcome) -> Action {
        let made_equal = number == 0 && self.work_number == 0 && *outcome == Outcome::Done;
        match (self.course, &self.work) {
            (Course::Promoting { at: Promoting::External, .. }, None) if made_equal && self.pause.is_none() => {
                self.notify(Level::Info, "stable is equal and ready: the weight goes back to it".to_owned());
                self.shift_back(now);
                Action::Promote
            }
            (Course::Promoting { at: Promoting::ShiftingBack, .. }, None) if number == self.work_number && self.stable_is_ours() => {
                if let Outcome::Failed { text, .. } = outcome {
                    self.return_to_canary(now, &format!("stable is not ready any more: {text}"));
                }
                Action::Hold
            }
            (_, Some(work)) if number == self.work_number && !work.done => match outcome {
                Outcome::Done => self.work_is_done(now),
                Outcome::Failed { text, retry } => self.work_failed(now, text, *retry),
            },
            _ => Action::Hold, // of an action no longer wanted
        }
    }

    fn work_is_done(&mut self, now: Timestamp) -> Action {
        let Some(work) = &mut self.work else { return Action::Hold };
        work.done = true;
        work.tries = Write::default();
        self.go_on_after_work(now).unwrap_or(Action::Hold)
    }

    /// What follows an action that is done; a pause keeps it.
    pub(super) fn go_on_after_work(&mut self, now: Timestamp) -> Option<Action> {
        let action = self.work.as_ref().filter(|w| w.done && self.pause.is_none())?.action;
        self.work = None;
        Some(self.after_work(now, action))
    }

    fn after_work(&mut self, now: Timestamp, action: WorkloadAction) -> Action {
        match action {
            WorkloadAction::Copy => {
                self.notify(Level::Info, "stable has the canary's template and is ready: the weight goes back to it".to_owned());
                self.shift_back(now);
                Action::Promote
            }
            WorkloadAction::ScaleCanaryDown => self.end(End::Succeeded),
            WorkloadAction::Undo => self.end(End::RolledBack),
            WorkloadAction::IdleBaseline { .. } => self.end(End::Succeeded),
            WorkloadAction::RestoreBaseline
            | WorkloadAction::HoldBaseline
            | WorkloadAction::ReleaseScalers
            | WorkloadAction::ScaleCanary { .. } => Action::Hold,
        }
    }

    fn end(&mut self, end: End) -> Action {
        self.finish(end);
        Action::Finish
    }

    /// A copy is tried until it is there. What only tidies up after the traffic has moved ends the rollout all the same.
    fn work_failed(&mut self, now: Timestamp, text: &str, retry: Retry) -> Action {
        let Some(work) = &self.work else { return Action::Hold };
        let (action, tries) = (work.action, self.failed_again(&work.tries, now, text, retry));
        if tries.stuck().is_some() && action != WorkloadAction::Copy {
            self.work = None;
            self.notify(Level::Warning, format!("{} did not succeed: {text}; do it by hand", action.name()));
            return self.after_work(now, action);
        }
        self.work = Some(Work { action, tries, done: false });
        Action::Hold
    }

    pub(super) fn work_again_at(&self) -> Option<Timestamp> {
        self.work.as_ref().filter(|w| !w.done)?.tries.again_at()
    }

    /// A failed action whose time has come is asked for again.
    pub(super) fn work_again(&mut self, now: Timestamp) -> Option<Action> {
        self.work_again_at().filter(|at| *at <= now)?;
        self.resend_work().then_some(Action::Hold)
    }

    /// Asks again for the action that failed; false if none did.
    pub(super) fn resend_work(&mut self) -> bool {
        let Some(work) = self.work.as_mut().filter(|w| !w.done && w.tries.again_at().is_some()) else { return false };
        work.tries.send_again();
        let action = work.action;
        self.send_work(action);
        true
    }

    /// The action whose failures make the rollout stuck.
    pub(super) fn stuck_work(&self) -> Option<&Failure> {
        self.work.as_ref().and_then(|w| w.tries.stuck())
    }

    /// After the traffic has left: what is still to be done with a workload.
    pub(super) fn work_after_drain(&self) -> Option<WorkloadAction> {
        match self.course {
            Course::Promoting { .. } => (self.terms.promotion == Promotion::Copy).then_some(WorkloadAction::ScaleCanaryDown),
            _ => self.terms.after_rollback,
        }
    }

    pub(super) fn hold_promotion(&self) -> Option<Hold> {
        let hold = |text: String, ends: &str, until| Hold { why: HoldWhy::Promotion, text, ends: ends.to_owned(), until };
        if let Some(work) = &self.work {
            return Some(hold(work_text(work), work_ends(work), self.work_again_at()));
        }
        let Course::Promoting { at, since } = self.course else { return None };
        let ends = "a person says `promote`, once stable is equal and ready: the weight goes back to it; or rolls back";
        match (at, self.terms.promotion) {
            (Promoting::External, Promotion::External { within }) => {
                let until = Some(since + within).filter(|_| self.pause.is_none());
                Some(hold("somebody else has to make stable equal to the canary".to_owned(), ends, until))
            }
            (Promoting::ShiftingBack, _) => None,
            _ => {
                Some(hold("stable is looked at again when the canary has all the traffic".to_owned(), "the router takes the weight", None))
            }
        }
    }
}

fn work_text(work: &Work) -> String {
    let what = match work.action {
        WorkloadAction::Copy => "the canary's template is copied into stable, which has to become ready",
        WorkloadAction::Undo => "the canary gets back the template it had",
        WorkloadAction::ScaleCanaryDown => "the canary is scaled down",
        WorkloadAction::RestoreBaseline => "the baseline is scaled up",
        WorkloadAction::HoldBaseline => "the baseline is kept from shrinking",
        WorkloadAction::ReleaseScalers => "the autoscalers get back their minimums",
        WorkloadAction::ScaleCanary { .. } => "the canary is scaled up",
        WorkloadAction::IdleBaseline { .. } => "the old version is marked for its idle replicas",
    };
    match work.tries.failure.as_ref() {
        _ if work.done => format!("{what}: done"),
        Some(f) => format!("{what}: {} tries failed: {}", f.tries, f.text),
        None => what.to_owned(),
    }
}

fn work_ends(work: &Work) -> &'static str {
    match work.action {
        _ if work.done => "a person resumes",
        WorkloadAction::Copy => {
            "it is so (a failure is tried again; resume tries now); a person who made stable equal and ready himself says `promote`"
        }
        _ => "it is so; after a few failures it is left to a person",
    }
}
