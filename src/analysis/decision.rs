//! What follows from a poll in the steps: reasons to roll back, and reasons that keep the step (STATISTICS 7).

use super::clock::{Clock, EPS_S};
use super::gate::{self, StepState, asks_for_proof};
use super::judge::Judge;
use super::limits::{Limit, LimitTest};
use super::seen::Seen;
use crate::model::{Arm, Breach, Counts, Judgement, LimitKind, PerArm, Poll};
use crate::stats::counts::TwoArms;

impl Judge {
    pub(super) fn decide(&mut self, poll: &Poll, clock: &Clock, seen: &Seen, out: &mut Judgement) {
        self.rollback_reasons(out);
        let blind = self.metrics.iter().any(|m| m.required && m.blind);
        self.count_time(poll, clock, self.labels.hold || blind);
        self.step.canary_requests += seen.requests.map_or(0.0, |x| x.n_c);
        out.keep = gate::keeps(&self.step_state(poll, clock));
        out.t_s = Some(clock.t_s);
        out.counts = seen.requests.map(arms);
        out.clock.for_s = self.plan(poll.step).for_s;
    }

    /// All that hold, the one shown first.
    pub(super) fn rollback_reasons(&self, out: &mut Judgement) {
        if let Some(worst) = self.worst.filter(|_| self.total >= self.set.ln_rollback) {
            out.rollback.push(Breach::Metric(worst as u8));
        }
        for l in self.limits.iter().filter(|l| l.kind == LimitKind::RollbackAbove) {
            let holds = match &l.test {
                LimitTest::Rollback(r) => r.crossed,
                LimitTest::Gauge(g) => g.attributed && !self.labels.hold,
                _ => false,
            };
            if holds {
                out.rollback.push(Breach::Limit(l.metric as u8));
            }
        }
        self.gross_reasons(out);
    }

    pub(super) fn gross_reasons(&self, out: &mut Judgement) {
        if self.gross.hit() {
            out.rollback.push(Breach::Gross);
        }
        if self.abandoned.hit() {
            out.rollback.push(Breach::Abandoned);
        }
    }

    pub(super) fn step_state(&self, poll: &Poll, clock: &Clock) -> StepState {
        let set = &self.set;
        let required = || self.metrics.iter().filter(|m| m.required);
        StepState {
            advance: set.advance,
            usable: required().all(|m| m.used),
            hold: self.labels.hold,
            suspicious: self.labels.suspicious,
            limit_breached: self.limits.iter().any(holds_step),
            ln_total: self.total,
            ln_rollback: set.ln_rollback,
            canary_requests: self.step.canary_requests,
            min_requests: set.min_requests,
            counted_s: self.step.counted_s,
            for_s: self.plan(poll.step).for_s,
            step_min_s: set.method.step_min_s,
            warm: clock.t_s >= set.warm_until_s - EPS_S,
            // where nothing is required nothing can be shown: a rule that asks for proof then never gets it by accident
            proven: required().next().is_some() && required().all(|m| m.is_shown(set.ln_ok)),
            promote_blocks: self.limits.iter().any(|l| self.blocks(l)),
        }
    }

    pub(super) fn blocks(&self, l: &Limit) -> bool {
        match &l.test {
            LimitTest::Promote(p) => p.state().blocks(self.set.ln_ok, asks_for_proof(self.set.advance), self.set.min_requests),
            LimitTest::Gauge(g) => l.kind == LimitKind::PromoteBelow && g.breach.canary,
            _ => false,
        }
    }

    /// Is this metric's promote-below, if any, satisfied?
    pub(super) fn below(&self, metric: usize) -> bool {
        self.limits.iter().filter(|l| l.metric == metric && l.kind == LimitKind::PromoteBelow).all(|l| match &l.test {
            LimitTest::Promote(p) => p.ln_ok >= self.set.ln_ok,
            LimitTest::Gauge(g) => !g.breach.canary,
            _ => true,
        })
    }
}

/// A page limit crossed for the canary, or a rollback or page rule of a gauge in breach there. A crossed rollback-above of
/// counts is a rollback, not a hold.
fn holds_step(l: &Limit) -> bool {
    match &l.test {
        LimitTest::Alarm(a) => l.kind == LimitKind::PageAbove && a.shown_crossed[Arm::Canary],
        LimitTest::Gauge(g) => l.is_breach_level() && g.breach.canary,
        _ => false,
    }
}

/// As the judgement shows them.
pub(super) fn arms(x: TwoArms) -> PerArm<Counts> {
    PerArm { baseline: Counts { total: x.n_b, bad: x.x_b }, canary: Counts { total: x.n_c, bad: x.x_c } }
}
