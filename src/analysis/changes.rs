//! A limit moved while a rollout runs (STATISTICS 11): its process begins anew at the new level, with the same threshold, so that
//! each change adds `alpha_limit / n_lim` to the bound of false rollbacks by limits. What was learned about dispersion stays.

use super::clock::Clock;
use super::judge::Judge;
use super::limits::{Limit, LimitTest, breach_bound, promote_bound};
use super::metric::Metric;
use super::series::{SeriesId, SeriesKey};
use crate::model::{LimitChange, LimitKind, MetricKind};

impl Judge {
    /// Follows what can be followed; [`crate::model::Judgement::limits`] shows the level in force. A latency limit can move to
    /// the bounds whose counts are kept; to another one, and to a level no test can stand at, it does not move.
    pub(super) fn change_limits(&mut self, changes: &[LimitChange], clock: Option<&Clock>) {
        for change in changes {
            let at = |l: &Limit| l.metric == usize::from(change.metric) && l.kind == change.kind;
            let Some(i) = self.limits.iter().position(at) else { continue };
            let Some(tested) = self.tested(i, change.level) else { continue };
            self.limits[i].begin_anew(change.level, tested, clock.map_or(0.0, |c| c.start_s));
            if let (LimitTest::Rollback(r), true, Some(clock)) = (&self.limits[i].test, self.baking, clock) {
                let (metric, series) = (self.limits[i].metric, r.series);
                self.bakes.retain(|b| b.derived || b.metric != metric);
                self.add_bake(metric, false, series, tested.0, clock.start_s);
            }
        }
    }

    /// The level that is tested and where; `None` if it cannot be.
    fn tested(&self, limit: usize, level: f64) -> Option<(f64, Option<SeriesId>)> {
        let Limit { metric, kind, .. } = self.limits[limit];
        let Metric { kind: of, .. } = self.metrics[metric];
        match of {
            MetricKind::Errors | MetricKind::CustomCounts(_) => (level > 0.0 && level < 1.0).then(|| (level, self.limits[limit].series())),
            MetricKind::Latency(q) => {
                let bounds = &self.set.bounds;
                let j = if kind == LimitKind::PromoteBelow { promote_bound(bounds, level) } else { breach_bound(bounds, level) }?;
                let i = self.series.iter().position(|s| s.key == SeriesKey::Tail(j) && s.active && s.phi_0.is_some())?;
                Some((1.0 - q, Some(SeriesId(i))))
            }
            MetricKind::Cpu | MetricKind::Memory | MetricKind::Leak | MetricKind::CustomGauge(_) => {
                (level.is_finite() && level > 0.0).then_some((level, None))
            }
        }
    }
}
