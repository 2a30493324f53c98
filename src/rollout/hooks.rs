//! Calls of the rule's hooks: before a gate is passed they are asked until they say yes, a no counts or the time is over; after
//! the end they are only told. In observe mode nobody is called.

use super::machine::{Course, Machine};
use super::texts::duration;
use crate::model::rule::{Hook, OnHookFail};
use crate::model::{Action, Effect, Hold, HoldWhy, HookAnswer, HookPoint, Level, Mode, Reason, Timestamp};
use std::time::Duration;

/// First wait between two calls, doubled with each that failed.
const AGAIN_MIN: Duration = Duration::from_secs(2);
/// Longest wait between two calls.
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// What is known of the hooks.
#[derive(Clone, Debug, Default)]
pub(super) struct Hooks {
    /// Number of the last call, over the whole rollout.
    pub(super) attempt: u32,
    /// The one that stands in the way.
    wait: Option<Wait>,
}

/// A hook that stands in the way, or has just let it pass.
#[derive(Clone, Debug)]
struct Wait {
    point: HookPoint,
    /// Since when it is waited for.
    since: Timestamp,
    /// Of the last call.
    called: Timestamp,
    /// Calls since then.
    calls: u32,
    call: Call,
    /// What the last failed call said.
    said: String,
}

/// How its last call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    /// Not answered yet.
    UnderWay,
    /// Failed; called again then.
    Again(Timestamp),
    /// Answered with a no that another call would not change.
    Refused,
    Passed,
}

impl Wait {
    /// When the next call is due after one that failed at `now`.
    fn again(&self, now: Timestamp) -> Call {
        Call::Again(now + AGAIN_MIN.saturating_mul(1 << self.calls.saturating_sub(1).min(16)).min(AGAIN_MAX))
    }
}

impl Machine {
    fn hook(&self, point: HookPoint) -> Option<&Hook> {
        self.terms.hooks.iter().find(|h| h.at == point && self.terms.mode == Mode::Enforce)
    }

    /// The call that nobody has answered yet. After a restart its answer will not come any more: the shell makes it again, as
    /// the same attempt, and answers that.
    pub fn unanswered_hook(&self) -> Option<(HookPoint, u32)> {
        self.hooks.wait.as_ref().filter(|w| w.call == Call::UnderWay).map(|w| (w.point, self.hooks.attempt))
    }

    /// May the rollout pass this point? The first question calls the hook.
    pub(super) fn hook_lets_pass(&mut self, now: Timestamp, point: HookPoint) -> bool {
        if self.hook(point).is_none() {
            return true;
        }
        if let Some(wait) = self.hooks.wait.as_ref().filter(|w| w.point == point) {
            return wait.call == Call::Passed;
        }
        self.hooks.wait = Some(Wait { point, since: now, called: now, calls: 0, call: Call::UnderWay, said: String::new() });
        self.call_hook(now);
        false
    }

    /// What was asked or answered belongs to a point that is past, or is to be asked anew.
    pub(super) fn forget_hook(&mut self) {
        self.hooks.wait = None;
    }

    /// A pause is over: the time of the hook begins anew, or it would be over at once.
    pub(super) fn hook_waits_anew(&mut self, now: Timestamp) {
        if let Some(wait) = &mut self.hooks.wait {
            wait.since = now;
        }
    }

    fn call_hook(&mut self, now: Timestamp) {
        let Some(wait) = &mut self.hooks.wait else { return };
        (wait.called, wait.call) = (now, Call::UnderWay);
        wait.calls = wait.calls.saturating_add(1);
        self.hooks.attempt += 1;
        self.out.push(Effect::CallHook { hook: wait.point, attempt: self.hooks.attempt });
    }

    /// One that only tells: nothing waits for its answer.
    pub(super) fn tell_hook(&mut self, point: HookPoint) {
        if self.hook(point).is_some() {
            self.hooks.attempt += 1;
            self.out.push(Effect::CallHook { hook: point, attempt: self.hooks.attempt });
        }
    }

    pub(super) fn on_hook(&mut self, now: Timestamp, point: HookPoint, attempt: u32, answer: &HookAnswer) -> Action {
        let current = attempt == self.hooks.attempt;
        let Some(wait) = self.hooks.wait.as_mut().filter(|w| current && w.point == point && w.call == Call::UnderWay) else {
            return Action::Hold; // of a call that does not count any more
        };
        match answer {
            HookAnswer::Passed => wait.call = Call::Passed,
            HookAnswer::Failed { text, again } => {
                wait.said.clone_from(text);
                wait.call = if *again { wait.again(now) } else { Call::Refused };
            }
        }
        self.pass_gates(now).or_else(|| self.act_on_hook(now)).unwrap_or(Action::Hold)
    }

    /// Why its yes will not come any more.
    fn hook_fails(&self, now: Timestamp) -> Option<String> {
        let wait = self.hooks.wait.as_ref()?;
        let timeout = self.hook(wait.point)?.timeout;
        match wait.call {
            Call::Passed => None,
            Call::Refused => Some(wait.said.clone()),
            _ if now < wait.since + timeout => None,
            _ if wait.said.is_empty() => Some(format!("no answer within {}", duration(timeout))),
            _ => Some(format!("no yes within {}, at last: {}", duration(timeout), wait.said)),
        }
    }

    /// A failed call is made again; what will not come any more does what the rule says.
    pub(super) fn act_on_hook(&mut self, now: Timestamp) -> Option<Action> {
        self.hook_acts_at().filter(|at| *at <= now)?;
        let point = self.hooks.wait.as_ref()?.point;
        let on_fail = self.hook(point)?.on_fail;
        match (self.hook_fails(now), on_fail) {
            (Some(text), OnHookFail::RollBack) => Some(self.roll_back(now, vec![Reason::Hook { hook: point, text }])),
            (Some(text), OnHookFail::Ask) => {
                self.forget_hook();
                let why = format!("hook {} does not let it pass: {text} (resume calls it again)", point.name());
                Some(self.ask_person(now, Level::Warning, &why))
            }
            _ => self.call_again(now),
        }
    }

    /// The next call of one that failed, did not answer in time, or said a no that the rule does not take for its last.
    fn call_again(&mut self, now: Timestamp) -> Option<Action> {
        let wait = self.hooks.wait.as_mut()?;
        match wait.call {
            Call::Again(at) if at <= now => self.call_hook(now),
            Call::Again(_) | Call::Passed => {}
            Call::Refused => wait.call = Call::Again(now + AGAIN_MAX),
            Call::UnderWay => {
                "no answer".clone_into(&mut wait.said);
                self.call_hook(now);
            }
        }
        None
    }

    /// When the next thing happens without an answer. A pause stops all of it.
    pub(super) fn hook_acts_at(&self) -> Option<Timestamp> {
        let wait = self.hooks.wait.as_ref().filter(|_| self.pause.is_none())?;
        let hook = self.hook(wait.point)?;
        let (holds, ends) = (hook.on_fail == OnHookFail::Hold, wait.since + hook.timeout);
        match wait.call {
            Call::Passed => None,
            Call::Refused => Some(wait.called),
            Call::Again(at) => Some(if holds { at } else { at.min(ends) }),
            Call::UnderWay => Some(if holds { wait.called + hook.timeout } else { ends }),
        }
    }

    pub(super) fn hold_hook(&self) -> Option<Hold> {
        let wait = self.hooks.wait.as_ref().filter(|w| w.call != Call::Passed)?;
        let name = wait.point.name();
        let text = match wait.call {
            Call::UnderWay | Call::Passed => format!("hook {name} is asked (call {})", wait.calls),
            Call::Again(_) => format!("hook {name} did not let it pass, {} calls: {}", wait.calls, wait.said),
            Call::Refused => format!("hook {name} said no: {}", wait.said),
        };
        let way = match self.course {
            Course::Gated => "break-glass-promote passes it by",
            _ => "advance or promote passes it by",
        };
        let ends = format!("it answers with a 2xx (it is asked again after a failure); {way}, or roll back");
        Some(Hold { why: HoldWhy::Hook, text, ends, until: self.hook_acts_at() })
    }

    /// It failed, and the rule goes on waiting for it.
    pub(super) fn hook_is_late(&self, now: Timestamp) -> bool {
        self.hook_fails(now).is_some()
    }
}
