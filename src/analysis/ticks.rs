//! Where a poll lies in time, and the polls at which nothing is compared: before the canary's first request, and at 0 %
//! (STATISTICS 2.1, 7.3).

use super::clock::{Clock, EPS_S};
use super::estimate::StepSums;
use super::judge::{Judge, Stage, StepMemory};
use super::seen::{self, Seen, both};
use crate::model::{Arm, Judgement, Keep, Poll, StepTime, Timestamp};

impl Judge {
    pub(super) fn stage(&self, step: u32) -> Stage {
        match self.plan(step).weight {
            w if w.is_zero() => Stage::Idle,
            w if w.is_full() => Stage::Bake,
            _ => Stage::Compare,
        }
    }

    /// A step beyond the last is the last.
    pub(super) fn plan(&self, step: u32) -> StepTime {
        let last = self.set.steps.len().saturating_sub(1);
        self.set.steps[(step as usize).min(last)]
    }

    pub(super) fn interval_ms(&self) -> i64 {
        (self.set.dt_s * 1e3).round() as i64
    }

    pub(super) fn refuse_duplicate(&self, poll: &Poll, out: &mut Judgement) {
        out.at = poll.at;
        out.step = poll.step;
        out.duplicate = true;
        out.rollback.clear();
        out.keep.clear();
        out.keep.push(Keep::Blind);
    }

    /// Clears `out` for this poll; field by field, because copying an empty judgement costs more than judging.
    pub(super) fn open(&mut self, poll: &Poll, out: &mut Judgement, stage: Stage) {
        (out.at, out.step, out.t_s) = (poll.at, poll.step, None);
        (out.bake, out.duplicate) = (stage == Stage::Bake, false);
        (out.ln_rollback, out.ln_ok) = (self.set.ln_rollback, self.set.ln_ok);
        out.counts = None;
        out.clock.for_s = 0.0;
        out.rollback.clear();
        out.keep.clear();
    }

    /// Tick 0 is the first poll whose canary has requests while it is meant to; before it there is nothing to judge, except
    /// that the time of a step without traffic counts.
    pub(super) fn begin_tick(&mut self, poll: &Poll, stage: Stage) -> Option<Clock> {
        let opened = Timestamp::from_millis(poll.at.as_millis() - self.interval_ms());
        let first = *self.first.get_or_insert(opened);
        if self.start.is_none() && stage != Stage::Idle && seen::canary_has_traffic(poll, self.set.bounds.len()) {
            self.start = Some(opened);
            self.step.index = None;
            self.counts_from_s = 0.0;
            for m in &mut self.metrics {
                (m.last_used_s, m.blind) = (0.0, false);
            }
        }
        if self.start.is_none() && stage != Stage::Idle {
            self.step = StepMemory::default();
            return None;
        }
        let t_s = seconds(self.start.unwrap_or(first), poll.at);
        let new_step = self.step.index != Some(poll.step);
        self.step.index = Some(poll.step);
        Some(Clock::new(t_s, self.set.dt_s, new_step, self.set.method.onset_s))
    }

    pub(super) fn begin_step(&mut self, clock: &Clock) {
        if clock.new_step {
            self.step.counted_s = 0.0;
            self.step.canary_requests = 0.0;
            self.sums.iter_mut().for_each(StepSums::reset);
            for arm in Arm::BOTH {
                self.step_rows[arm].iter_mut().for_each(|v| *v = 0.0);
            }
        }
    }

    /// Counted time of a step begins at the start of its first poll; a stopped interval does not count.
    pub(super) fn count_time(&mut self, poll: &Poll, clock: &Clock, stop: bool) {
        let elapsed = self.last.map_or(self.set.dt_s, |last| seconds(last, poll.at));
        let elapsed = if clock.new_step { elapsed.min(self.set.dt_s) } else { elapsed };
        if !stop && poll.counts_time {
            self.step.counted_s += elapsed;
        }
    }

    /// No canary request yet.
    pub(super) fn wait(&mut self, poll: &Poll, stage: Stage, seen: &Seen, out: &mut Judgement) {
        let t_s = self.first.map_or(0.0, |first| seconds(first, poll.at));
        self.look_before(poll, seen, t_s);
        if self.metrics.iter().any(|m| m.required && !m.used) {
            out.keep.push(Keep::Blind);
        }
        out.keep.extend([Keep::FewRequests, Keep::Time]);
        self.fill(stage, out);
        out.clock.for_s = self.plan(poll.step).for_s;
    }

    pub(super) fn look_before(&mut self, poll: &Poll, seen: &Seen, t_s: f64) {
        let (bounds, blind_s) = (self.set.bounds.len(), self.set.blind_s);
        for m in &mut self.metrics {
            let usable = if m.is_counts() {
                seen.counts_usable(poll, m.kind, bounds, false)
            } else {
                both(poll, m.kind, m.is_compared()).map(|_| ())
            };
            m.look(t_s, usable, blind_s);
        }
    }

    /// 0 %: only time counts; an arm without intended traffic is never blind.
    pub(super) fn idle(&mut self, poll: &Poll, clock: &Clock, out: &mut Judgement) {
        for m in &mut self.metrics {
            (m.last_used_s, m.used, m.blind) = (clock.t_s, false, false);
        }
        self.count_time(poll, clock, false);
        let for_s = self.plan(poll.step).for_s;
        if self.step.counted_s < for_s - EPS_S {
            out.keep.push(Keep::Time);
        }
        out.clock.for_s = for_s;
        out.t_s = self.start.map(|_| clock.t_s);
    }
}

/// Seconds from `a` to `b`; negative if `b` is earlier.
pub(super) fn seconds(a: Timestamp, b: Timestamp) -> f64 {
    (b.as_millis() - a.as_millis()) as f64 / 1e3
}
