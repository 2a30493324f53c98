//! Actions on workloads: one at a time, in the order in which they were wanted. A failed one is tried again; what only tidies up
//! is left to a person in the end, with a warning. When the traffic has left for good, everything is put in order before the
//! rollout is over: the workload that lost, and the autoscalers.

use super::machine::{Course, End, Machine};
use super::router::{Failure, Write};
use crate::model::rule::{AfterRollback, Promotion};
use crate::model::{Action, Effect, Hold, HoldWhy, Level, Mode, Outcome, Promoting, Retry, Timestamp, WorkloadAction};
use std::collections::VecDeque;
use std::time::Duration;

/// An action in a cluster is tried for so long before it is left to a person: a control plane that is replaced is back by then.
/// Outside of one nothing comes back, and a few tries are enough.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);

/// The actions that are wanted.
#[derive(Clone, Debug, Default)]
pub(super) struct Works {
    /// Under way, failed, or done and kept by a pause.
    current: Option<Work>,
    /// What comes after it, each kind once.
    next: VecDeque<WorkloadAction>,
    /// Number of the last one asked for, over the whole rollout.
    number: u64,
    /// The last ones were asked for: after them it is over.
    tidying: bool,
}

/// An action that is wanted now.
#[derive(Clone, Debug)]
struct Work {
    action: WorkloadAction,
    /// How its tries go; the same words as for a weight.
    tries: Write,
    /// It is so; a pause keeps what follows.
    done: bool,
}

impl Works {
    pub(super) fn are_done(&self) -> bool {
        self.current.is_none()
    }

    /// Is this wanted, now or next?
    pub(super) fn want(&self, action: WorkloadAction) -> bool {
        self.current.as_ref().is_some_and(|w| w.action == action) || self.next.contains(&action)
    }

    pub(super) const fn are_tidying(&self) -> bool {
        self.tidying
    }

    /// Nothing of them is wanted any more. What is under way may still come to be; a later action says what shall be.
    pub(super) fn clear(&mut self) {
        *self = Self { number: self.number, ..Self::default() };
    }

    /// Numbers go on after this one.
    pub(super) fn go_on_after(&mut self, number: u64) {
        self.number = self.number.max(number);
    }
}

impl Machine {
    /// Wants this of a workload, after what is wanted already. In observe mode a copy goes on as if it were done, and nothing waits
    /// for anything else.
    pub(super) fn ask_work(&mut self, now: Timestamp, action: WorkloadAction) {
        if self.terms.mode == Mode::Observe {
            if action == WorkloadAction::Copy {
                self.after_work(now, action);
            }
            return;
        }
        if self.works.want(action) {
            return;
        }
        if self.works.are_done() {
            self.start_work(action);
        } else {
            self.works.next.push_back(action);
        }
    }

    fn start_work(&mut self, action: WorkloadAction) {
        self.works.current = Some(Work { action, tries: Write::default(), done: false });
        self.send_work(action);
    }

    fn send_work(&mut self, action: WorkloadAction) {
        self.works.number += 1;
        self.out.push(Effect::Workload { action, number: self.works.number });
    }

    /// The action that was asked for and not reported, with its number: what the shell carries out again after a restart. What is
    /// wanted after it is asked for when it has ended.
    pub fn unconfirmed_work(&self) -> Option<(WorkloadAction, u64)> {
        let waits = |w: &&Work| !w.done && w.tries.again_at().is_none();
        self.works.current.as_ref().filter(waits).map(|w| (w.action, self.works.number))
    }

    /// An action ended; or, with number 0, which nobody asked for, the cluster says that stable is equal and ready. Where the
    /// weight is on its way back, a failure of the copy's number says that stable is ready no more.
    pub(super) fn on_workload(&mut self, now: Timestamp, number: u64, outcome: &Outcome) -> Action {
        let made_equal = number == 0 && *outcome == Outcome::Done;
        let last = number == self.works.number;
        match (self.course, &self.works.current) {
            (Course::Promoting { at: Promoting::External, .. }, None) if made_equal && self.pause.is_none() => {
                self.notify(Level::Info, "stable is equal and ready: the weight goes back to it".to_owned());
                self.shift_back(now);
                Action::Promote
            }
            (Course::Promoting { at: Promoting::ShiftingBack, .. }, None) if last && self.stable_is_ours() && !self.works.tidying => {
                if let Outcome::Failed { text, .. } = outcome {
                    self.return_to_canary(now, &format!("stable is not ready any more: {text}"));
                }
                Action::Hold
            }
            (_, Some(work)) if last && !work.done => match outcome {
                Outcome::Done => self.work_is_done(now),
                Outcome::Failed { text, retry } => self.work_failed(now, text, *retry),
            },
            _ => Action::Hold, // of an action no longer wanted
        }
    }

    fn work_is_done(&mut self, now: Timestamp) -> Action {
        let Some(work) = &mut self.works.current else { return Action::Hold };
        work.done = true;
        work.tries = Write::default();
        let action = work.action;
        self.note_done(action);
        self.go_on_after_work(now).unwrap_or(Action::Hold)
    }

    /// What follows an action that is done; a pause keeps what would move traffic.
    pub(super) fn go_on_after_work(&mut self, now: Timestamp) -> Option<Action> {
        let kept = |w: &Work| w.action == WorkloadAction::Copy && self.pause.is_some();
        let action = self.works.current.as_ref().filter(|w| w.done && !kept(w))?.action;
        self.works.current = None;
        Some(self.after_work(now, action))
    }

    fn after_work(&mut self, now: Timestamp, action: WorkloadAction) -> Action {
        if action == WorkloadAction::Copy {
            self.notify(Level::Info, "stable has the canary's template and is ready: the weight goes back to it".to_owned());
            self.shift_back(now);
            return Action::Promote;
        }
        if let Some(next) = self.works.next.pop_front() {
            self.start_work(next);
            return Action::Hold;
        }
        self.pass_gates(now).or_else(|| self.finish_drained(now)).unwrap_or(Action::Hold)
    }

    /// A copy is tried until it is there. What else does not succeed is left to a person, and the rollout goes on or ends all the
    /// same.
    fn work_failed(&mut self, now: Timestamp, text: &str, retry: Retry) -> Action {
        let Some(work) = self.works.current.take() else { return Action::Hold };
        let (action, tries) = (work.action, self.failed_again(&work.tries, now, text, retry));
        if action != WorkloadAction::Copy && self.gives_up(&tries, now) {
            self.notify(Level::Warning, format!("{} did not succeed: {text}; do it by hand", action.name()));
            self.note_given_up(action, retry);
            return self.after_work(now, action);
        }
        self.works.current = Some(Work { action, tries, done: false });
        Action::Hold
    }

    fn gives_up(&self, tries: &Write, now: Timestamp) -> bool {
        let in_cluster = self.noted().is_some();
        let long = |f: &Failure| f.never || now.since(f.since) >= PATIENCE;
        if in_cluster { tries.failure.as_ref().is_some_and(long) } else { tries.stuck().is_some() }
    }

    pub(super) fn work_again_at(&self) -> Option<Timestamp> {
        self.works.current.as_ref().filter(|w| !w.done)?.tries.again_at()
    }

    /// A failed action whose time has come is asked for again.
    pub(super) fn work_again(&mut self, now: Timestamp) -> Option<Action> {
        self.work_again_at().filter(|at| *at <= now)?;
        self.resend_work().then_some(Action::Hold)
    }

    /// Asks again for the action that failed; false if none did.
    pub(super) fn resend_work(&mut self) -> bool {
        let failed = |w: &&mut Work| !w.done && w.tries.again_at().is_some();
        let Some(work) = self.works.current.as_mut().filter(failed) else { return false };
        work.tries.send_again();
        let action = work.action;
        self.send_work(action);
        true
    }

    /// The failures that make the rollout stuck: only a copy has nothing behind it to go on with.
    pub(super) fn stuck_work(&self) -> Option<&Failure> {
        self.works.current.as_ref().filter(|w| w.action == WorkloadAction::Copy).and_then(|w| w.tries.stuck())
    }

    /// When the drain is over.
    pub(super) fn drained_at(&self) -> Option<Timestamp> {
        let free = self.write.is_none() && self.works.are_done() && self.pause.is_none() && !self.is_over();
        self.drained.filter(|_| free)
    }

    /// The traffic has left for long enough: what is still to be done is asked for, and after it the rollout is over.
    pub(super) fn finish_drained(&mut self, now: Timestamp) -> Option<Action> {
        self.drained_at().filter(|at| *at <= now)?;
        if !self.works.tidying {
            self.works.tidying = true;
            for action in self.last_actions() {
                self.ask_work(now, action);
            }
        }
        if !self.works.are_done() {
            return Some(Action::Hold);
        }
        self.finish(match self.course {
            Course::Promoting { .. } => End::Succeeded,
            Course::RollingBack { superseded: true } => End::Superseded,
            _ => End::RolledBack,
        });
        Some(Action::Finish)
    }

    /// The last actions, in their order. Autoscalers come last: until then nobody shrinks what carries the traffic.
    fn last_actions(&mut self) -> Vec<WorkloadAction> {
        let in_cluster = self.noted().is_some();
        let workload = match (self.course, self.terms.promotion) {
            // the newer version's rollout needs the canary's workload as it is
            (Course::RollingBack { superseded: true }, _) => None,
            (Course::RollingBack { .. }, _) => self.after_rollback(),
            (Course::Promoting { at: Promoting::Settling, .. }, Promotion::Swap { keep, idle: Some(replicas) }) if in_cluster => {
                Some(WorkloadAction::IdleBaseline { replicas, after: keep })
            }
            (Course::Promoting { .. }, Promotion::Copy) => Some(WorkloadAction::ScaleCanaryDown),
            _ => None,
        };
        workload.into_iter().chain(self.scalers_raised().then_some(WorkloadAction::ReleaseScalers)).collect()
    }

    /// What the rule wants of a canary that was rolled back.
    fn after_rollback(&mut self) -> Option<WorkloadAction> {
        let template = self.noted()?.template_before.is_some();
        match self.terms.after_rollback {
            AfterRollback::Leave => None,
            AfterRollback::ScaleDown => Some(WorkloadAction::ScaleCanaryDown),
            AfterRollback::Undo if template => Some(WorkloadAction::Undo),
            AfterRollback::Undo => {
                let text = "the canary's template is left as it is: none is known that it had before; undo it by hand";
                self.notify(Level::Warning, text.to_owned());
                None
            }
        }
    }

    /// The action that is waited for.
    pub(super) fn hold_work(&self) -> Option<Hold> {
        let work = self.works.current.as_ref()?;
        let why = match work.action {
            WorkloadAction::HoldBaseline | WorkloadAction::ScaleCanary { .. } | WorkloadAction::RestoreBaseline => HoldWhy::Capacity,
            _ => HoldWhy::Promotion,
        };
        Some(Hold { why, text: work_text(work), ends: work_ends(work).to_owned(), until: self.work_again_at() })
    }
}

fn work_text(work: &Work) -> String {
    let what = match work.action {
        WorkloadAction::Copy => "the canary's template is copied into stable, which has to become ready".to_owned(),
        WorkloadAction::Undo => "the canary gets back the template it had".to_owned(),
        WorkloadAction::ScaleCanaryDown => "the canary is scaled down".to_owned(),
        WorkloadAction::RestoreBaseline => "the baseline gets back the replicas it had".to_owned(),
        WorkloadAction::HoldBaseline => "the baseline is kept from shrinking".to_owned(),
        WorkloadAction::ReleaseScalers => "the autoscalers get back their minimums".to_owned(),
        WorkloadAction::ScaleCanary { replicas } => format!("the canary is scaled to {replicas} replicas"),
        WorkloadAction::IdleBaseline { .. } => "the old version is marked for its idle replicas".to_owned(),
    };
    match work.tries.failure.as_ref() {
        _ if work.done => format!("{what}: done"),
        Some(f) => format!("{what}: {} tries failed: {}", f.tries, f.text),
        None => what,
    }
}

fn work_ends(work: &Work) -> &'static str {
    match work.action {
        _ if work.done => "a person resumes",
        WorkloadAction::Copy => {
            "it is so (a failure is tried again; resume tries now); a person who made stable equal and ready himself says `promote`"
        }
        _ => "it is so; after some failures it is left to a person",
    }
}
