//! What a poll says: dispersion from the past, gross failure, every metric, limits, labels, in the order of STATISTICS 7.

use super::clock::Clock;
use super::combine;
use super::errors::Evidence;
use super::judge::Judge;
use super::labels::{self, SharedTimes};
use super::limits::LimitTest;
use super::metric::Test;
use super::seen::{self, Seen, both};
use super::series::{SeriesId, SeriesKey};
use crate::model::{Arm, Blind, LimitKind, MetricKind, PerArm, Poll};
use crate::stats::counts::TwoArms;
use crate::stats::load::{self, LoadKind, LoadRatio};

impl Judge {
    /// 3: the dispersion of this poll comes from the past.
    pub(super) fn look_back(&mut self) {
        let calm = self.calm;
        for s in self.series.iter_mut().filter(|s| s.active) {
            s.phi = s.estimate(calm);
        }
    }

    /// 3.1, on failed requests and on those whose client left.
    pub(super) fn gross_failure(&mut self, seen: &Seen) {
        if !self.metrics.iter().any(|m| m.kind == MetricKind::Errors) {
            return;
        }
        if let Some(x) = &seen.requests {
            self.gross.step(x);
        }
        if let Some(x) = &seen.abandoned {
            self.abandoned.step(x);
        }
    }

    /// 2, 4, 6, 7: evidence of every metric, and all of it together.
    pub(super) fn compare(&mut self, poll: &Poll, clock: &Clock, seen: &Seen) {
        self.pods_changed(poll, clock);
        let load = self.load(poll, clock, seen);
        let (series, bounds) = (&self.series, self.set.bounds.len());
        for (m, sums) in self.metrics.iter_mut().zip(&mut self.sums) {
            let gauge = PerArm::from_fn(|arm| seen::gauge(&poll.arms[arm], m.kind).ok());
            let mut seen_now = both(poll, m.kind, m.is_compared()).map(|_| ());
            m.evidence = match &mut m.test {
                Test::Counts(id, t) => t.step(clock, seen.at(series[id.0].key).as_ref(), series[id.0].phi.used),
                Test::Latency(t) => t.step(clock, |j| seen.at(SeriesKey::Tail(j)), |id| series[id.0].phi.used),
                Test::Gauge(t) => {
                    let ratio = if m.kind == MetricKind::Cpu { load } else { Ok(LoadRatio::PLAIN) };
                    seen_now = seen_now.and(ratio.map(|_| ()));
                    t.step(clock, gauge.baseline, gauge.canary, &ratio.unwrap_or(LoadRatio::SKIP))
                }
                Test::Leak(t) => t.step(clock, gauge.baseline, gauge.canary),
                Test::LimitsOnly => Evidence::default(),
            };
            match m.kind {
                MetricKind::Errors => sums.add_counts(seen, SeriesKey::Requests),
                MetricKind::CustomCounts(i) => sums.add_counts(seen, SeriesKey::Custom(i)),
                MetricKind::Latency(_) => {}
                _ => sums.add_levels(gauge),
            }
            if m.is_counts() {
                seen_now = seen.counts_usable(poll, m.kind, bounds, false);
            }
            m.look(clock.t_s, seen_now, self.set.blind_s);
        }
        self.add_step_rows(seen);
        (self.total, self.worst) = combine::total(self.metrics.iter().map(|m| (m.ln_share, m.evidence.ln_cut)));
        self.total_max = self.total_max.max(self.total);
    }

    pub(super) fn add_step_rows(&mut self, seen: &Seen) {
        if let Some(rows) = &seen.rows {
            for arm in Arm::BOTH {
                self.step_rows[arm].iter_mut().zip(&rows[arm]).for_each(|(a, b)| *a += b);
            }
        }
    }

    /// 6.1, 11: a change of the canary's pod count primes every gauge.
    pub(super) fn pods_changed(&mut self, poll: &Poll, clock: &Clock) {
        let Some(pods) = poll.arms.canary.pods else { return };
        if let Some(before) = self.canary_pods.replace(pods).filter(|before| *before != pods) {
            for m in &mut self.metrics {
                match &mut m.test {
                    Test::Gauge(t) => t.reprime(),
                    Test::Leak(t) => t.reprime(clock, pods > before),
                    _ => {}
                }
            }
        }
    }

    /// 6, CPU at unequal load: requests per second and ready pod of the interval this poll carries.
    pub(super) fn load(&self, poll: &Poll, clock: &Clock, seen: &Seen) -> Result<LoadRatio, Blind> {
        if !self.set.cpu_load_rule {
            return Ok(LoadRatio::PLAIN);
        }
        let pods = |arm: Arm| poll.arms[arm].pods.filter(|n| *n > 0).map(f64::from).ok_or(Blind::PodsUnknown);
        let (pods_b, pods_c) = (pods(Arm::Baseline)?, pods(Arm::Canary)?);
        seen.counts_usable(poll, MetricKind::Errors, 0, false)?;
        let x = seen.requests.ok_or(Blind::NoSeries)?;
        let seconds = clock.t_s - self.counts_from_s;
        let ratio = load::ratio(self.set.fit.as_ref(), x.n_b / seconds / pods_b, x.n_c / seconds / pods_c);
        if ratio.kind == LoadKind::Skip { Err(Blind::LoadTooDifferent) } else { Ok(ratio) }
    }

    /// 7.1: limits, except promote-below, which comes after the labels.
    pub(super) fn step_limits(&mut self, poll: &Poll, clock: &Clock, seen: &Seen) {
        let load = self.load(poll, clock, seen);
        self.each_limit(poll, clock, seen, load, false);
    }

    pub(super) fn each_limit(&mut self, poll: &Poll, clock: &Clock, seen: &Seen, load: Result<LoadRatio, Blind>, bake: bool) {
        let series = &self.series;
        for l in &mut self.limits {
            let kind = self.metrics[l.metric].kind;
            if let LimitTest::Gauge(g) = &mut l.test {
                let level = |arm: Arm| seen::limited(&poll.arms[arm], kind).ok();
                let ratio = if kind == MetricKind::Cpu && !bake { load.unwrap_or(LoadRatio::SKIP) } else { LoadRatio::PLAIN };
                g.step(clock, level(Arm::Baseline), level(Arm::Canary), &ratio, bake);
            } else if let Some(SeriesId(i)) = l.series()
                && !(bake && l.kind == LimitKind::RollbackAbove)
            {
                let s = &series[i];
                l.step(clock, &seen.at(s.key).unwrap_or(TwoArms::NONE), &s.phi, s.phi_0, self.set.ln_limit);
            }
        }
    }

    /// 7.2.
    pub(super) fn step_labels(&mut self, poll: &Poll, clock: &Clock, seen: &Seen) {
        for d in &mut self.degraded {
            let s = &self.series[d.series.0];
            d.step(&seen.at(s.key).unwrap_or(TwoArms::NONE), s.phi_0.unwrap_or(1.0));
        }
        let times = SharedTimes { hold_s: self.set.method.shared_hold_s, page_s: self.set.method.shared_page_s };
        self.labels = labels::join(clock, &self.limits, &self.degraded, &mut self.shared, times);
        if !self.labels.calm {
            self.note_incident(poll.at, self.calm);
        }
        self.calm = self.labels.calm;
    }

    /// 7.1: an incident of both arms says nothing about the canary, so only calm polls count.
    pub(super) fn promote_below(&mut self, clock: &Clock, seen: &Seen) {
        for l in &mut self.limits {
            if let LimitTest::Promote(p) = &mut l.test {
                let s = p.series.map(|id| &self.series[id.0]);
                let x = s.filter(|_| self.calm).and_then(|s| seen.at(s.key)).unwrap_or(TwoArms::NONE);
                p.step(clock, &x, s.map_or(1.0, |s| s.phi.base));
            }
        }
    }
}
