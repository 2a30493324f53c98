//! Coming back over a gap in the journal: inputs are gone, and the decisions made on them stand.

use super::machine::{Course, End, Machine};
use crate::model::rule::Promotion;
use crate::model::{Action, Decision, Effect, HoldWhy, Level, Mode, Promoting, Reason, State, Timestamp, Waiting, Weight};

fn attempt_of(effect: &Effect) -> Option<u32> {
    match effect {
        Effect::CallHook { attempt, .. } => Some(*attempt),
        _ => None,
    }
}

fn number_of(effect: &Effect) -> Option<u64> {
    match effect {
        Effect::Workload { number, .. } => Some(*number),
        _ => None,
    }
}

impl Machine {
    /// Is it where this decision left the rollout, as far as weight and course go?
    pub fn agrees(&self, recorded: &Decision) -> bool {
        self.state().name() == recorded.state.name() && self.step == recorded.step && self.weight == recorded.weight
    }

    /// Takes its place from a recorded decision instead of from inputs that are lost. The weight is asked for again with a
    /// new generation, because nobody knows whether it came to be in force; what it had counted begins anew.
    pub fn take_up(&mut self, now: Timestamp, recorded: &Decision) -> Decision {
        self.out.clear();
        self.look_at_calendar(now);
        self.course = self.course_of(recorded);
        self.forget_hook();
        self.works.clear();
        recorded.effects.iter().filter_map(number_of).for_each(|number| self.works.go_on_after(number));
        self.hooks.attempt = recorded.effects.iter().filter_map(attempt_of).fold(self.hooks.attempt, u32::max);
        (self.step, self.reasons) = (recorded.step, recorded.reasons.clone());
        self.generation = self.generation.max(recorded.generation);
        (self.in_force, self.waits) = (None, Default::default());
        match &recorded.state {
            State::Paused(pause) => (self.pause, self.pause_level) = (Some(pause.clone()), Level::Warning),
            _ => self.end_pause(),
        }
        self.forget_capacity();
        match self.course {
            Course::Waiting | Course::Over(_) => self.weight = recorded.weight,
            Course::Gated => {
                self.weight = recorded.weight;
                self.pass_gates(now);
            }
            _ => self.ask_weight(now, recorded.weight),
        }
        self.see_to_baseline(now);
        self.note_pods(now);
        self.tell_what_lasts(now);
        self.decision(now, Action::Hold)
    }

    /// The nearest course: a decision in trouble (stuck, paused) tells where it was going by its weight and its reasons.
    fn course_of(&self, recorded: &Decision) -> Course {
        let superseded = matches!(recorded.reasons.first(), Some(Reason::Superseded { .. }));
        match recorded.state {
            State::Waiting(Waiting::Router) if self.begun().is_none() => Course::Waiting,
            State::Waiting(_) => Course::Gated,
            State::Paused(_) if self.is_before_first_weight(recorded) => self.course,
            State::Succeeded => Course::Over(End::Succeeded),
            State::RolledBack => Course::Over(End::RolledBack),
            State::Superseded => Course::Over(End::Superseded),
            State::RollingBack => Course::RollingBack { superseded },
            State::Stuck(_) | State::Paused(_) if self.was_promoting(recorded) => self.promoting_at(recorded),
            State::Stuck(_) if recorded.weight.is_zero() && !recorded.reasons.is_empty() => Course::RollingBack { superseded },
            State::Promoting(at @ Promoting::ShiftingBack) if recorded.weight.is_zero() => Course::Promoting { at, since: recorded.at },
            State::Promoting(at) if at != Promoting::ShiftingBack => Course::Promoting { at, since: recorded.at },
            State::Progressing { step } | State::Baking { step } if self.weight_of(step) == Some(recorded.weight) => {
                Course::Climbing { to: step }
            }
            _ => self.toward(recorded),
        }
    }

    /// In trouble or paused after the bake: its hold says so, or the weight had gone back.
    fn was_promoting(&self, recorded: &Decision) -> bool {
        let shifts = matches!(self.terms.promotion, Promotion::Copy | Promotion::External { .. });
        let back = recorded.weight.is_zero() && recorded.reasons.is_empty() && self.weight_of(recorded.step) != Some(Weight::ZERO);
        shifts && (recorded.holds.iter().any(|h| h.why == HoldWhy::Promotion) || (back && recorded.generation > self.begun_at_generation()))
    }

    fn promoting_at(&self, recorded: &Decision) -> Course {
        let at = match self.terms.promotion {
            _ if recorded.weight.is_zero() => Promoting::ShiftingBack,
            Promotion::External { .. } => Promoting::External,
            _ => Promoting::Copying,
        };
        Course::Promoting { at, since: recorded.at }
    }

    /// To the step of that weight, the one in force first; without one it is on the way to all of the traffic.
    fn toward(&self, recorded: &Decision) -> Course {
        let at_or_next = [recorded.step, recorded.step + 1].into_iter().find(|step| self.weight_of(*step) == Some(recorded.weight));
        match at_or_next {
            Some(to) => Course::Climbing { to },
            None if recorded.weight.is_full() => Course::Completing { forced: false },
            None => Course::Climbing { to: recorded.step },
        }
    }

    /// A pause before the first weight: no weight was asked for since it began.
    fn is_before_first_weight(&self, recorded: &Decision) -> bool {
        matches!(self.course, Course::Waiting | Course::Gated)
            && self.generation == recorded.generation
            && (self.terms.mode == Mode::Enforce || self.weight == recorded.weight)
    }

    fn weight_of(&self, step: u32) -> Option<Weight> {
        self.terms.steps.get(step as usize).map(|s| s.weight)
    }
}
