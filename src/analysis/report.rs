//! The judgement filled from the judge's state after a poll.

use super::estimate::StepSums;
use super::gate;
use super::judge::{Judge, Stage};
use super::limits::{Limit, LimitTest};
use super::metric::{Metric, Test};
use crate::model::{Arm, BakeJudgement, Breach, Interval, Judgement, Labels, LimitJudgement, MetricJudgement, MetricKind, PerArm};

impl Judge {
    /// Everything that is read off the state. `out.rollback` and `out.keep` are already there.
    pub(super) fn fill(&self, stage: Stage, out: &mut Judgement) {
        let bake = stage == Stage::Bake;
        out.metrics.clear();
        for (i, m) in self.metrics.iter().enumerate() {
            let judged = self.metric_judgement(i, m, out);
            out.metrics.push(judged);
        }
        out.limits.clear();
        out.limits.extend(self.limits.iter().map(|l| self.limit_judgement(l, bake)));
        out.bakes.clear();
        if bake {
            out.bakes.extend(self.bakes.iter().map(|b| BakeJudgement {
                metric: b.metric as u8,
                derived: b.derived,
                level: b.level(),
                evidence: b.process.ln_cut(),
                crossed: b.crossed,
            }));
        }
        out.ln_total = self.total;
        out.p_value = (-self.total_max).exp().min(1.0);
        out.worst = self.worst.map(|i| i as u8);
        // without two arms they stand still, and nothing may wait for them
        out.labels = if stage == Stage::Compare { self.labels } else { Labels { calm: self.labels.calm, ..Labels::default() } };
        out.gross = self.gross.hit();
        out.clock.counted_s = self.step.counted_s;
        out.clock.canary_requests = self.step.canary_requests;
        let required = self.metrics.iter().filter(|m| m.required).map(|m| (m.share, m.evidence.ln_ok));
        let health = super::combine::health(self.total, self.set.ln_rollback, self.set.ln_ok, required, !out.rollback.is_empty());
        (out.score, out.outlook, out.progress) = (health.score, health.outlook, health.progress);
    }

    fn metric_judgement(&self, i: usize, m: &Metric, out: &Judgement) -> MetricJudgement {
        let shown = m.is_shown(self.set.ln_ok) && self.below(i);
        MetricJudgement {
            kind: m.kind,
            index: i as u8,
            ln_harm: m.evidence.ln_harm,
            ln_harm_cut: m.evidence.ln_cut,
            ln_ok: m.evidence.ln_ok,
            share: m.share,
            advisory: m.advisory,
            required: m.required,
            used: m.used,
            phi: self.phi_of(m).1,
            estimate: self.estimates(i, m),
            verdict: gate::verdict(self.fails(i, m, out), m.blind.then_some(m.why), shown),
        }
    }

    fn fails(&self, i: usize, m: &Metric, out: &Judgement) -> bool {
        let index = i as u8;
        out.rollback.iter().any(|b| match *b {
            Breach::Metric(k) | Breach::Limit(k) => k == index,
            Breach::Bake { metric, .. } => metric == index,
            Breach::Gross | Breach::Abandoned => m.kind == MetricKind::Errors,
        })
    }

    /// Dispersion of the baseline, and the one in use.
    fn phi_of(&self, m: &Metric) -> (f64, f64) {
        let series = match &m.test {
            Test::Counts(id, _) => Some(*id),
            Test::Latency(t) => t.frozen().map(|f| f.series),
            Test::Gauge(t) => return (1.0, t.calibration().map_or(1.0, |c| c.phi)),
            Test::Leak(t) => return (1.0, t.calibration().map_or(1.0, |c| c.phi)),
            Test::LimitsOnly => None,
        };
        series.and_then(|id| self.series.get(id.0)).map_or((1.0, 1.0), |s| (s.phi.base, s.phi.used))
    }

    fn estimates(&self, i: usize, m: &Metric) -> PerArm<Option<Interval>> {
        let (phi, _) = self.phi_of(m);
        let sums: &StepSums = &self.sums[i];
        PerArm::from_fn(|arm: Arm| sums.estimate(arm, &self.set.bounds, &self.step_rows, phi))
    }

    fn limit_judgement(&self, l: &Limit, bake: bool) -> LimitJudgement {
        let mut j = LimitJudgement {
            metric: l.metric as u8,
            kind: l.kind,
            level: l.level,
            evidence: PerArm::default(),
            threshold: self.set.ln_limit,
            breached: PerArm::default(),
            proven: false,
            attributed: false,
            label: PerArm::default(),
        };
        match &l.test {
            LimitTest::Rollback(r) => {
                j.evidence.canary = r.process.ln_cut();
                // in the bake it stands still: its other process judges
                j.breached.canary = r.crossed && !bake;
                j.label = r.labels.on();
            }
            LimitTest::Alarm(a) => {
                j.evidence = a.shown.map(|(_, ln_cut)| ln_cut);
                j.threshold = a.threshold;
                j.breached = a.shown_crossed;
                j.label = a.labels.on();
            }
            LimitTest::Promote(p) => {
                j.evidence.canary = p.ln_ok;
                j.threshold = self.set.ln_ok;
                j.proven = p.ln_ok >= self.set.ln_ok;
            }
            LimitTest::Gauge(g) => {
                j.evidence = PerArm { baseline: f64::NAN, canary: f64::NAN };
                j.threshold = l.level;
                j.breached = g.breach;
                j.attributed = g.attributed;
            }
        }
        j
    }
}
