//! 100 % of the traffic: the canary against constants, because there is no baseline beside it (STATISTICS 7.3).

use super::clock::{Clock, EPS_S};
use super::decision::arms;
use super::history::tails_of;
use super::judge::Judge;
use super::labels::{self, LEVEL_MAX};
use super::latency::SETUP_REQUESTS;
use super::limits::LimitTest;
use super::metric::Test;
use super::process::HarmProcess;
use super::seen::{self, Seen};
use super::series::{Series, SeriesId, SeriesKey, rate};
use crate::model::{Breach, Judgement, Keep, LimitKind, MetricKind, PerArm, Poll};
use crate::stats::counts::{LevelTest, TwoArms};
use crate::stats::grid::{K_UP, UP};
use crate::stats::latency::stretch_ratio;
use crate::stats::load::LoadRatio;

/// One process of the bake: a rollback-above of the rule, or a level derived from the baseline's own.
#[derive(Clone, Debug)]
pub struct BakeProcess {
    /// Position of its metric.
    pub metric: usize,
    /// Derived, or the rule's.
    pub derived: bool,
    /// Whose counts.
    pub series: SeriesId,
    /// Dispersion, frozen at the start of the bake.
    pub phi: f64,
    /// Evidence.
    pub process: HarmProcess<K_UP>,
    /// Crossed at this poll.
    pub crossed: bool,
    test: LevelTest<K_UP>,
}

impl BakeProcess {
    /// Against `level` from `start_s`, the start of the bake.
    pub fn new(metric: usize, derived: bool, series: SeriesId, level: f64, phi: f64, start_s: f64) -> Self {
        let (process, test) = (HarmProcess::new(&UP, start_s), LevelTest::new(level, &UP));
        Self { metric, derived, series, phi, process, crossed: false, test }
    }

    /// The level.
    pub fn level(&self) -> f64 {
        self.test.level()
    }

    /// One poll of the canary.
    pub fn step(&mut self, clock: &Clock, x: &TwoArms, threshold: f64) {
        let lf = || self.test.lfs(x.x_c, x.n_c, &UP, self.phi);
        self.crossed = self.process.step_cut(clock, x.n_c > 0.0, lf) >= threshold;
    }
}

impl Judge {
    /// 7.3: levels and dispersion are frozen when it begins.
    pub(super) fn begin_bake(&mut self, clock: &Clock) {
        if self.baking {
            return;
        }
        self.baking = true;
        let requests = self.series_of(SeriesKey::Requests);
        self.bake_rate = requests.and_then(own_rate);
        self.gross.refer_to(self.bake_rate);
        self.abandoned.refer_to((self.own_abandoned.n >= SETUP_REQUESTS).then(|| rate(self.own_abandoned.x, self.own_abandoned.n)));
        for i in 0..self.limits.len() {
            if let LimitTest::Rollback(r) = &self.limits[i].test {
                let (series, level) = (r.series, r.level());
                self.add_bake(self.limits[i].metric, false, series, level, clock.start_s);
            }
        }
        for counts_first in [true, false] {
            for i in 0..self.metrics.len() {
                if let Some((series, level)) = self.derived_level(i, counts_first) {
                    self.add_bake(i, true, series, level.min(LEVEL_MAX), clock.start_s);
                }
            }
        }
    }

    pub(super) fn add_bake(&mut self, metric: usize, derived: bool, series: SeriesId, level: f64, start_s: f64) {
        let phi = self.series[series.0].estimate(true).base;
        self.bakes.push(BakeProcess::new(metric, derived, series, level, phi, start_s));
    }

    /// The level the bake derives for a compared metric: clearly worse than the baseline's own.
    pub(super) fn derived_level(&self, metric: usize, counts: bool) -> Option<(SeriesId, f64)> {
        match (&self.metrics[metric].test, counts) {
            (Test::Counts(id, _), true) => Some((*id, labels::level(own_rate(&self.series[id.0])?))),
            (Test::Latency(t), false) => {
                let f = t.frozen()?;
                let own = self.own_rows.serving(self.series[f.series.0].forgets());
                let served = own.last().copied().unwrap_or(0.0);
                let tails = if served >= SETUP_REQUESTS { tails_of(own) } else { self.tails.clone()? };
                let r = stretch_ratio(&self.set.bounds, &tails, f.primary, t.stretches.bake);
                Some((f.series, r * tails[f.primary]))
            }
            _ => None,
        }
    }

    pub(super) fn step_bake(&mut self, poll: &Poll, clock: &Clock, seen: &Seen) {
        for b in &mut self.bakes {
            let x = seen.at(self.series[b.series.0].key).unwrap_or(TwoArms::NONE);
            b.step(clock, &x, self.set.ln_limit);
        }
        self.each_limit(poll, clock, seen, Ok(LoadRatio::PLAIN), true);
        let bounds = self.set.bounds.len();
        for (m, sums) in self.metrics.iter_mut().zip(&mut self.sums) {
            let canary = seen::limited(&poll.arms.canary, m.kind); // there is nothing to compare with
            let usable = if m.is_counts() { seen.counts_usable(poll, m.kind, bounds, true) } else { canary.map(|_| ()) };
            m.look(clock.t_s, usable, self.set.blind_s);
            match m.kind {
                MetricKind::Errors => sums.add_counts(seen, SeriesKey::Requests),
                MetricKind::CustomCounts(i) => sums.add_counts(seen, SeriesKey::Custom(i)),
                MetricKind::Latency(_) => {}
                _ => sums.add_levels(PerArm { baseline: None, canary: canary.ok() }),
            }
        }
        self.add_step_rows(seen);
    }

    pub(super) fn decide_bake(&mut self, poll: &Poll, clock: &Clock, seen: &Seen, out: &mut Judgement) {
        for b in self.bakes.iter().filter(|b| b.crossed) {
            out.rollback.push(Breach::Bake { metric: b.metric as u8, derived: b.derived });
        }
        for l in self.limits.iter().filter(|l| l.kind == LimitKind::RollbackAbove) {
            if matches!(&l.test, LimitTest::Gauge(g) if g.attributed) {
                out.rollback.push(Breach::Limit(l.metric as u8));
            }
        }
        self.gross_reasons(out);
        let required = || self.metrics.iter().filter(|m| m.required && m.is_counts());
        let (usable, blind) = (required().all(|m| m.used), required().any(|m| m.blind));
        self.count_time(poll, clock, blind);
        self.step.canary_requests += seen.requests.map_or(0.0, |x| x.n_c);
        let for_s = self.plan(poll.step).for_s;
        if !usable {
            out.keep.push(Keep::Blind);
        }
        if self.step.counted_s < for_s - EPS_S {
            out.keep.push(Keep::Time);
        }
        out.t_s = Some(clock.t_s);
        out.counts = seen.requests.map(arms);
        out.clock.for_s = for_s;
    }
}

/// The baseline's rate in this rollout, over the polls whose sums serve; with too few requests the history's.
fn own_rate(s: &Series) -> Option<f64> {
    let own = s.own.serving(s.forgets());
    if own.n >= SETUP_REQUESTS { Some(rate(own.x, own.n)) } else { s.p_hist }
}
