//! Estimates of this step with anytime intervals, for display only (STATISTICS 8).

use super::seen::Seen;
use super::series::SeriesKey;
use crate::model::{Arm, Buckets, Interval, PerArm};
use crate::stats::interval;

/// Level of the displayed intervals.
pub(super) const ALPHA: f64 = 0.05;

/// What a metric adds up over a step.
#[derive(Clone, Debug)]
pub(super) enum StepSums {
    /// Bad and all.
    Counts(PerArm<(f64, f64)>),
    /// Buckets are summed once for all quantiles.
    Quantile(f64),
    /// Sum of levels, and how many.
    Level(PerArm<(f64, f64)>),
}

impl StepSums {
    /// A new step begins.
    pub(super) fn reset(&mut self) {
        if let StepSums::Counts(s) | StepSums::Level(s) = self {
            *s = PerArm::default();
        }
    }

    /// One used poll of a count metric.
    pub(super) fn add_counts(&mut self, seen: &Seen, key: SeriesKey) {
        if let (StepSums::Counts(s), Some(x)) = (self, seen.at(key)) {
            for (arm, bad, all) in [(Arm::Baseline, x.x_b, x.n_b), (Arm::Canary, x.x_c, x.n_c)] {
                s[arm].0 += bad;
                s[arm].1 += all;
            }
        }
    }

    /// One poll of a gauge.
    pub(super) fn add_levels(&mut self, levels: PerArm<Option<f64>>) {
        if let StepSums::Level(s) = self {
            for arm in Arm::BOTH {
                if let Some(v) = levels[arm] {
                    s[arm].0 += v;
                    s[arm].1 += 1.0;
                }
            }
        }
    }

    /// The estimate of one arm. A gauge's is its mean, shown without an interval (`low = mid = high`).
    pub(super) fn estimate(&self, arm: Arm, bounds: &[f64], rows: &PerArm<Buckets>, phi: f64) -> Option<Interval> {
        match self {
            StepSums::Counts(s) => {
                let (x, n) = s[arm];
                let (low, high) = interval::rate(x / phi, n / phi, ALPHA);
                (n > 0.0).then(|| Interval { low, mid: x / n, high })
            }
            StepSums::Quantile(q) => {
                let (low, high) = interval::quantile(bounds, &rows[arm], *q, ALPHA, phi)?;
                Some(Interval { low, mid: interval::quantile_estimate(bounds, &rows[arm], *q)?, high })
            }
            StepSums::Level(s) => {
                let (sum, n) = s[arm];
                let mid = sum / n;
                (n > 0.0).then_some(Interval { low: mid, mid, high: mid })
            }
        }
    }
}
