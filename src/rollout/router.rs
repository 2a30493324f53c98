//! Weights on their way to the router, what comes back, and other hands on the same object.

use super::machine::{Course, Machine};
use crate::model::rule::OnForeign;
use crate::model::{
    Action, Effect, Level, Mode, Outcome, Promoting, Retry, Stands, Timestamp, Topic, TrafficReading, Weight, WorkloadAction,
};
use std::time::Duration;

/// Failed writes in a row after which somebody is paged: by then it is no hiccup.
pub(super) const TRIES_UNTIL_STUCK: u32 = 3;
/// Longest wait between two tries of a weight; also the wait where the router gave no time.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// The same while users must be taken off the canary.
const RETRY_ROLLBACK_MAX: Duration = Duration::from_secs(5);
/// First wait between two tries that readings bring about, doubled with each failure: reading in a row is no change.
const RETRY_READ_MIN: Duration = Duration::from_secs(1);
/// What is on its way and stands where it stood for so long is a failure.
const UNDERWAY_MAX: Duration = Duration::from_secs(600);
/// How often a weight moved by another hand is written again ...
pub(super) const REASSERTS_MAX: usize = 3;
/// ... within this time; then the other hand means it, and a person must say who owns the object.
pub(super) const REASSERT_WINDOW: Duration = Duration::from_secs(600);

/// A weight asked for and not confirmed.
#[derive(Clone, Debug, Default)]
pub(super) struct Write {
    /// The last failure, if it failed.
    pub(super) failure: Option<Failure>,
    /// It is on its way again after that failure.
    under_way: bool,
}

/// How a write fails.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) text: String,
    /// 0 while it is on its way, which is none.
    pub(super) tries: u32,
    /// Of the first failure; of what is on its way, since when it stands where it stands.
    pub(super) since: Timestamp,
    pub(super) again: Timestamp,
    /// "When something changed": a reading from then on is reason enough to try again, sooner is not.
    on_change: Option<Timestamp>,
    /// No time will mend it.
    pub(super) never: bool,
}

impl Write {
    /// When a failed try comes again by itself.
    pub(super) fn again_at(&self) -> Option<Timestamp> {
        self.failure.as_ref().filter(|_| !self.under_way).map(|f| f.again)
    }

    /// It is on its way again.
    pub(super) fn send_again(&mut self) {
        self.under_way = true;
    }

    /// The failure that makes the rollout stuck.
    pub(super) fn stuck(&self) -> Option<&Failure> {
        self.failure.as_ref().filter(|f| f.never || f.tries >= TRIES_UNTIL_STUCK)
    }
}

/// Other hands on the router, and whether it can be read.
#[derive(Clone, Debug)]
pub(super) struct Hands {
    /// The last reading failed: since when, and the error's text.
    pub(super) unreadable: Option<(Timestamp, String)>,
    /// The last reading, if it shows another weight than ours.
    pub(super) foreign: Option<TrafficReading>,
    /// How loudly it is told.
    pub(super) loud: Level,
    /// When ours was written again, within [`REASSERT_WINDOW`]; at most [`REASSERTS_MAX`].
    reasserted: Vec<Timestamp>,
}

impl Default for Hands {
    fn default() -> Self {
        Self { unreadable: None, foreign: None, loud: Level::Warning, reasserted: Vec::new() }
    }
}

impl Machine {
    /// Wants this weight from now on. In observe mode nothing is asked for, and it goes on as if it were done.
    pub(super) fn ask_weight(&mut self, now: Timestamp, weight: Weight) {
        self.weight = weight;
        self.drained = None;
        self.hands.foreign = None;
        self.vanished.weight_in_doubt();
        if self.terms.mode == Mode::Observe {
            self.confirm(now);
            return;
        }
        self.write = Some(Write::default());
        self.send();
    }

    fn send(&mut self) {
        self.generation += 1;
        self.out.push(Effect::SetWeight { weight: self.weight, generation: self.generation });
    }

    pub(super) fn on_outcome(&mut self, now: Timestamp, generation: u64, outcome: &Outcome) -> Action {
        if generation != self.generation || self.write.is_none() {
            return Action::Hold; // of a weight no longer wanted
        }
        match outcome {
            Outcome::Done => self.confirm(now),
            Outcome::Failed { text, retry } => {
                self.note_failure(now, text, *retry);
                Action::Hold
            }
        }
    }

    /// The weight wanted is in force.
    fn confirm(&mut self, now: Timestamp) -> Action {
        self.write = None;
        self.hands.unreadable = None;
        match self.course {
            Course::Climbing { to } => self.enter_step(now, to),
            Course::Completing { .. } => {
                self.in_force = Some(now);
                self.promote(now);
            }
            Course::RollingBack { superseded: true } | Course::Promoting { at: Promoting::Settling, .. } => {
                self.drained = Some(now);
                return self.finish_drained(now).unwrap_or(Action::Hold);
            }
            Course::RollingBack { superseded: false } | Course::Promoting { at: Promoting::ShiftingBack, .. } => {
                self.drained = Some(now + self.terms.drain);
                return self.finish_drained(now).unwrap_or(Action::Hold);
            }
            Course::Promoting { at: Promoting::Copying, .. } => self.ask_work(now, WorkloadAction::Copy),
            Course::Waiting | Course::Gated | Course::Promoting { .. } | Course::Over(_) => {}
        }
        if self.is_over() { Action::Finish } else { Action::Hold }
    }

    fn enter_step(&mut self, now: Timestamp, step: u32) {
        let written_again = self.in_force.is_some() && self.step == step;
        self.step = step;
        if !written_again {
            self.in_force = Some(now);
            self.waits = Default::default();
            self.vanished.enter_step();
        }
        self.share.clear(now);
    }

    fn note_failure(&mut self, now: Timestamp, text: &str, retry: Retry) {
        let before = self.write.take().unwrap_or_default();
        let write = self.failed_again(&before, now, text, retry);
        let back = matches!(self.course, Course::Promoting { at: Promoting::ShiftingBack, .. }) && !self.works.are_tidying();
        let gives_up = back && write.stuck().is_some();
        self.write = Some(write);
        if gives_up && self.stable_is_ours() {
            self.return_to_canary(now, &format!("the router does not take it: {text}"));
        }
    }

    /// A try after `before` failed at `now`.
    pub(super) fn failed_again(&self, before: &Write, now: Timestamp, text: &str, retry: Retry) -> Write {
        let before = before.failure.as_ref();
        // as long as it gets on
        let moves = retry == Retry::Underway && before.is_none_or(|f| f.text != text);
        let since = before.filter(|_| !moves).map_or(now, |f| f.since);
        let goes_on = retry == Retry::Underway && now.since(since) < UNDERWAY_MAX;
        let tries = if goes_on { 0 } else { before.map_or(0, |f| f.tries).saturating_add(1) };
        let failure = Failure {
            text: text.to_owned(),
            tries,
            since,
            again: now + self.retry_wait(retry, tries),
            on_change: (retry == Retry::OnChange).then(|| now + self.retry_wait(Retry::After(RETRY_READ_MIN), tries)),
            never: retry == Retry::Never,
        };
        Write { failure: Some(failure), under_way: false }
    }

    /// Twice as long after each failure, up to a bound; a rollback does not wait long.
    fn retry_wait(&self, retry: Retry, tries: u32) -> Duration {
        let most = if matches!(self.course, Course::RollingBack { .. }) { RETRY_ROLLBACK_MAX } else { RETRY_MAX };
        match retry {
            Retry::After(first) => first.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(most),
            Retry::Underway => RETRY_READ_MIN,
            Retry::OnChange | Retry::Never => most,
        }
    }

    /// When a failed weight is tried again without anything else happening.
    pub(super) fn writes_again_at(&self) -> Option<Timestamp> {
        self.write.as_ref()?.again_at()
    }

    fn retries_on_change_at(&self) -> Option<Timestamp> {
        self.write.as_ref()?.failure.as_ref()?.on_change
    }

    /// A failed weight whose time has come is asked for again.
    pub(super) fn write_again(&mut self, now: Timestamp) -> Option<Action> {
        let due = self.writes_again_at().is_some_and(|at| at <= now);
        due.then(|| self.resend())
    }

    /// Asks again for the weight that failed.
    pub(super) fn resend(&mut self) -> Action {
        if let Some(write) = &mut self.write {
            write.send_again();
        }
        self.send();
        Action::Hold
    }

    /// Has the last try failed, and no other is on its way?
    pub(super) fn write_failed(&self) -> bool {
        self.write.as_ref().is_some_and(|w| w.failure.is_some() && !w.under_way)
    }

    pub(super) fn on_traffic(&mut self, now: Timestamp, reading: &Result<TrafficReading, String>) -> Action {
        let reading = match reading {
            Ok(reading) => reading,
            Err(text) => {
                let since = self.hands.unreadable.take().map_or(now, |(since, _)| since);
                self.hands.unreadable = Some((since, text.clone()));
                return Action::Hold;
            }
        };
        self.hands.unreadable = None;
        if self.write_failed() && self.retries_on_change_at().is_some_and(|at| at <= now) {
            return self.resend();
        }
        if self.terms.mode == Mode::Observe || self.write.is_some() || self.course == Course::Waiting {
            return Action::Hold;
        }
        match &reading.stands {
            Stands::LetGo => self.on_foreign(now, reading),
            // before the first weight nobody wrote one
            Stands::Still | Stands::Underway(_) if self.is_gated() => self.nobody_else(),
            Stands::Underway(_) => self.ask_again(now),
            Stands::Still if reading.weight == self.weight => self.nobody_else(),
            Stands::Still => self.on_foreign(now, reading),
        }
    }

    fn nobody_else(&mut self) -> Action {
        self.hands.foreign = None;
        Action::Hold
    }

    /// What was in force is not any more, by nobody's hand: pods it was made of are not ready. Until it is the step stands still.
    fn ask_again(&mut self, now: Timestamp) -> Action {
        self.write_ours(now);
        Action::Hold
    }

    /// Another hand moved the weight. A rollback is written again however often; a step only a few times. A reading that
    /// is no news is one that was yielded to before.
    fn on_foreign(&mut self, now: Timestamp, reading: &TrafficReading) -> Action {
        let news = self.hands.foreign.replace(reading.clone()).is_none();
        let rolling_back = matches!(self.course, Course::RollingBack { .. });
        self.hands.reasserted.retain(|at| now.since(*at) < REASSERT_WINDOW);
        let fought = self.hands.reasserted.len() >= REASSERTS_MAX;
        let seen = super::holds::foreign_text(reading, self.weight);
        let just_now = self.hands.reasserted.last().is_some_and(|at| now.since(*at) < RETRY_ROLLBACK_MAX);
        if self.is_gated() && !news && (just_now || self.pause.is_some()) {
            return Action::Hold; // it is being stopped again, or was yielded to
        }
        if !rolling_back && self.frozen {
            if news {
                self.hands.loud = Level::Warning;
            }
            return Action::Hold;
        }
        if rolling_back || (self.terms.policies.foreign == OnForeign::Reassert && !fought && (news || self.is_gated())) {
            let level = if fought { Level::Page } else { Level::Warning };
            let what = if self.is_gated() { "stopping it again".to_owned() } else { format!("writing {} again", self.weight) };
            self.event(level, Topic::Foreign, format!("{seen}; {what}"));
            self.hands.reasserted.truncate(REASSERTS_MAX - 1);
            self.hands.reasserted.push(now);
            self.write_ours(now);
            return Action::Reassert;
        }
        self.yield_to(now, news, fought, &seen)
    }

    /// The weight wanted once more, over another hand's. Before the first there is none: what moves by itself is stopped.
    pub(super) fn write_ours(&mut self, now: Timestamp) {
        if self.is_gated() {
            self.out.push(Effect::HoldStill);
        } else {
            self.ask_weight(now, self.weight);
        }
    }

    fn yield_to(&mut self, now: Timestamp, news: bool, fought: bool, seen: &str) -> Action {
        let why = if fought { format!("{seen}, after it was written again {REASSERTS_MAX} times") } else { seen.to_owned() };
        if news {
            self.hands.loud = if fought { Level::Page } else { Level::Warning };
        }
        if self.pause.is_some() {
            return Action::Hold;
        }
        // the other hand is the news, and told as such
        self.pause_for(super::policy::POLICY, &why, Level::Info, now);
        Action::Pause
    }
}
