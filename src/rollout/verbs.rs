//! A person's word. What cannot be followed is refused with the way out; what is already so is no error.

use super::machine::{Course, End, Machine};
use crate::model::rule::{AfterRollback, Promotion};
use crate::model::{Action, Command, Keep, Level, Mode, Promoting, Reason, Timestamp, Topic, Verb, Weight};

/// Followed with this action, or refused with this sentence.
type Word = Result<Action, String>;

impl Machine {
    pub(super) fn on_command(&mut self, now: Timestamp, command: &Command) -> Action {
        let word = match self.course {
            Course::Over(_) => Err(format!("the rollout is over ({}): start a new one", self.state().name())),
            Course::RollingBack { superseded } => self.while_rolling_back(command, superseded),
            _ => self.follow(now, command),
        };
        word.unwrap_or_else(Action::Refuse)
    }

    fn follow(&mut self, now: Timestamp, command: &Command) -> Word {
        match &command.verb {
            Verb::Pause => self.pause_by(now, command, false),
            Verb::BreakGlassFreeze => self.pause_by(now, command, true),
            Verb::Resume => self.resume(now, command),
            Verb::Advance | Verb::Promote if self.is_gated() => {
                Err(format!("{} is refused, it has not begun: {}", command.verb.name(), self.gate_words(now)))
            }
            Verb::Advance => self.advance_by(now, command),
            Verb::Promote => self.promote_by(now, command),
            Verb::BreakGlassPromote => self.promote_without_evidence(now, command),
            Verb::RollBack | Verb::BreakGlassRollBack if self.stable_is_ours() => Err(STABLE_IS_OURS.to_owned()),
            Verb::RollBack | Verb::BreakGlassRollBack => {
                let reason = Reason::Person { by: command.by.clone(), why: command.why.clone() };
                Ok(self.roll_back(now, vec![reason]))
            }
            Verb::Approve { role } => self.approve(now, role, command),
        }
    }

    /// A rollback is never turned around.
    fn while_rolling_back(&mut self, command: &Command, superseded: bool) -> Word {
        match &command.verb {
            Verb::BreakGlassRollBack => self.give_up(command, superseded),
            Verb::RollBack => Ok(Action::Hold),
            Verb::Resume if self.write_failed() => Ok(self.resend()),
            Verb::Resume => {
                self.resend_work();
                Ok(Action::Hold)
            }
            verb => Err(format!("it is rolling back, {} comes too late: when it is over, start it again with retry", verb.name())),
        }
    }

    /// Over, although the weight was never read back: its route is gone, and no try will bring it.
    fn give_up(&mut self, command: &Command, superseded: bool) -> Word {
        let failure = self.write.as_ref().and_then(|write| write.failure.as_ref());
        let Some(failure) = failure.map(|failure| failure.text.clone()) else {
            return Err("it is rolling back and the router has refused nothing: wait until it is over".to_owned());
        };
        self.write = None;
        self.works.clear();
        let (by, left) = (format!("{}{}", command.by, because(&command.why)), self.left_undone(superseded));
        let text =
            format!("given up by {by} at a weight that was never read back as 0% ({failure}): see that the canary gets no traffic{left}");
        self.over(if superseded { End::Superseded } else { End::RolledBack }, Level::Warning, Topic::RolledBack, text);
        Ok(Action::Finish)
    }

    /// What would have been put in order after the traffic had left, and is not: nobody knows whether it has.
    fn left_undone(&self, superseded: bool) -> String {
        let workload = match self.terms.after_rollback {
            _ if superseded || self.noted().is_none() || self.terms.mode == Mode::Observe => "",
            AfterRollback::Leave => "",
            AfterRollback::Undo => "; then undo its template by hand, which is left as it is",
            AfterRollback::ScaleDown => "; then scale it down by hand, which is left as it is",
        };
        let scalers = "; autoscalers keep the minimums they were raised to until the rule's next rollout is over (what they were is in their \
                       annotation canaryd.io/min-replicas)";
        format!("{workload}{}", if self.scalers_raised() { scalers } else { "" })
    }

    fn pause_by(&mut self, now: Timestamp, command: &Command, freeze: bool) -> Word {
        match self.course {
            Course::Waiting if self.pause.is_none() => return Err(not_begun("pause")),
            Course::Promoting { at: Promoting::ShiftingBack, .. } => {
                return Err("the weight is on its way back to stable and cannot be held: wait until it is there, or roll back".to_owned());
            }
            Course::Completing { .. } => {
                return Err("all the traffic is on its way to the canary and cannot be held: roll back instead".to_owned());
            }
            Course::Promoting { at: Promoting::Settling, .. } => {
                return Err("it is promoted, what is left only puts things in order: wait until it is over, or roll back".to_owned());
            }
            _ => {}
        }
        if self.pause.is_some() && (self.frozen || !freeze) {
            return Ok(Action::Hold);
        }
        self.frozen = freeze;
        self.pause_for(&command.by, &command.why, if freeze { Level::Warning } else { Level::Info }, now);
        Ok(Action::Pause)
    }

    /// Ends a pause, tries a failed weight again now, and writes ours over another hand's: what "go on" means then.
    fn resume(&mut self, now: Timestamp, command: &Command) -> Word {
        if self.course == Course::Waiting {
            return Err("there is no baseline to go on with: promote it, or roll back".to_owned());
        }
        let was_paused = self.pause.is_some();
        self.end_pause();
        self.scale_anew();
        self.hook_waits_anew(now);
        if let Course::Promoting { at: Promoting::External, since } = &mut self.course
            && was_paused
        {
            *since = now; // waits as long again
        }
        let moved = self.go_on_after_work(now).is_some() || self.resend_work() || self.mend_weight(now);
        if !moved && !was_paused {
            return Ok(Action::Hold);
        }
        self.notify(Level::Info, format!("resumed at {} by {}{}", self.weight, command.by, because(&command.why)));
        let on = self.is_gated().then(|| self.act_on_pods(now)).flatten();
        Ok(on.or_else(|| self.pass_gates(now)).unwrap_or(Action::Resume))
    }

    /// A failed weight is tried now, and ours is written over another hand's; false if there is neither.
    fn mend_weight(&mut self, now: Timestamp) -> bool {
        if self.write_failed() {
            self.resend();
        } else if self.hands.foreign.is_some() {
            self.write_ours(now);
        } else {
            return false;
        }
        true
    }

    /// Next step now. It skips time, proof and the step's hook, never harm, a freeze, and what could not be seen.
    fn advance_by(&mut self, now: Timestamp, command: &Command) -> Word {
        if let Course::Promoting { .. } = self.course {
            return Err("there is no next step after the last: promote when stable is equal and ready, or roll back".to_owned());
        }
        self.may_step("advance")?;
        if !self.has_capacity(now, self.next_share(), "advance")? {
            return Ok(Action::Hold);
        }
        self.end_pause();
        Ok(self.next(now, &format!("advanced by {}{}", command.by, because(&command.why))))
    }

    /// All the way now, bake skipped; or, where somebody else makes stable equal, their word that it is.
    fn promote_by(&mut self, now: Timestamp, command: &Command) -> Word {
        match self.course {
            Course::Promoting { at: Promoting::ShiftingBack | Promoting::Settling, .. } | Course::Completing { .. } => {
                return Ok(Action::Hold);
            }
            Course::Waiting if self.pause.is_none() => return Err(not_begun("promote")),
            Course::Waiting | Course::Promoting { .. } => {}
            Course::Gated | Course::Climbing { .. } | Course::RollingBack { .. } | Course::Over(_) => {
                self.may_step("promote")?;
                if !self.has_capacity(now, Some(Weight::FULL), "promote")? {
                    return Ok(Action::Hold);
                }
            }
        }
        Ok(self.promote_now(now, command, false))
    }

    fn promote_without_evidence(&mut self, now: Timestamp, command: &Command) -> Word {
        if self.course == Course::Waiting && self.pause.is_none() {
            return Err(not_begun("break-glass-promote"));
        }
        let decided = |at| matches!(at, Promoting::ShiftingBack | Promoting::Settling);
        if matches!(self.course, Course::Promoting { at, .. } if decided(at)) || self.course == (Course::Completing { forced: true }) {
            return Ok(Action::Hold);
        }
        Ok(self.promote_now(now, command, true))
    }

    fn promote_now(&mut self, now: Timestamp, command: &Command, forced: bool) -> Action {
        self.end_pause();
        let (level, word) = if forced { (Level::Warning, "promoted without evidence (break-glass)") } else { (Level::Info, "promoted") };
        self.notify(level, format!("{word} from {} by {}{}", self.weight, command.by, because(&command.why)));
        match (self.course, self.terms.promotion) {
            (Course::Promoting { .. }, Promotion::Copy | Promotion::External { .. }) => self.shift_back(now),
            _ => self.complete(now, forced),
        }
        Action::Promote
    }

    /// Are the pods there that this share needs? Where canaryd scales the canary it does so now, and the person asks again.
    fn has_capacity(&mut self, now: Timestamp, to: Option<Weight>, verb: &str) -> Result<bool, String> {
        let Some(to) = to.filter(|to| *to > self.weight) else { return Ok(true) };
        if self.capacity_lets_pass(now, to) {
            return Ok(true);
        }
        match self.short_of(to) {
            Some(short) if !self.follows() => {
                Err(format!("{verb} is refused: {}; wait, roll back, or break-glass-promote", self.short_text(&short)))
            }
            _ => {
                let text = format!("{to} of the traffic needs more pods, the canary is scaled first: {verb} again when they are ready");
                self.event(Level::Info, Topic::Capacity, text);
                Ok(false)
            }
        }
    }

    /// May a person end this step? Not without a look at it, and not against harm.
    fn may_step(&self, verb: &str) -> Result<(), String> {
        if self.course == Course::Waiting {
            return Err(not_begun(verb));
        }
        if !self.at_step() {
            return Err(format!("the weight {} is still being written: {verb} when it is in force, or roll back", self.weight));
        }
        let against = self.speaks_against();
        if against.is_empty() {
            Ok(())
        } else {
            Err(format!("{verb} is refused: {}; wait, roll back, or break-glass-promote", against.join("; ")))
        }
    }

    /// What no `advance` passes over.
    fn speaks_against(&self) -> Vec<String> {
        let mut against: Vec<String> = self.breaches().iter().map(|r| super::reason_text(r, &self.terms.metrics)).collect();
        match self.last.as_ref().filter(|t| self.judges_step(t)) {
            Some(tick) => {
                let harm = |k: &&Keep| matches!(k, Keep::Blind | Keep::Shared | Keep::Suspicious | Keep::Limit | Keep::Harm);
                against.extend(tick.judgement.keep.iter().filter(harm).map(|k| self.keep_text(*k, tick)));
            }
            None if self.weight.is_zero() => {}
            None => against.push("nothing was seen at this weight yet".to_owned()),
        }
        against.extend(self.own_holds_against().into_iter().map(|h| h.text));
        against
    }
}

/// Why a rollback comes too late once the copy was asked for.
const STABLE_IS_OURS: &str = "the bake is over and stable gets, or has, the canary's template: there is no old version to go back to, and \
traffic must not go to a stable that is half updated; let it finish, or make stable whole by hand and say `promote`: the traffic then goes to it";

fn not_begun(verb: &str) -> String {
    format!("it has not begun, there is nothing to {verb}: wait for its first weight, or roll back")
}

fn because(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!(": {why}") }
}
