//! One metric of the rule: its comparison, and what was last seen of it.

use super::errors::{CountTest, Evidence};
use super::gauge::{GaugeTest, LeakTest};
use super::latency::LatencyTest;
use super::series::SeriesId;
use crate::model::{Blind, MetricKind};

/// How a metric is compared.
#[derive(Clone, Debug)]
pub(super) enum Test {
    /// Errors, or the rule's own counts.
    Counts(SeriesId, Box<CountTest>),
    /// A quantile.
    Latency(Box<LatencyTest>),
    /// A level per pod.
    Gauge(Box<GaugeTest>),
    /// A slope.
    Leak(Box<LeakTest>),
    /// Not at all: there are only limits on it.
    LimitsOnly,
}

/// One metric.
#[derive(Clone, Debug)]
pub(super) struct Metric {
    pub(super) kind: MetricKind,
    pub(super) test: Test,
    pub(super) required: bool,
    pub(super) advisory: bool,
    pub(super) share: f64,
    pub(super) ln_share: f64,
    pub(super) evidence: Evidence,
    /// Was the last poll usable?
    pub(super) used: bool,
    /// Why the last unusable poll was not.
    pub(super) why: Blind,
    /// End of the last usable poll, seconds.
    pub(super) last_used_s: f64,
    /// Unusable for so long that nothing can be said.
    pub(super) blind: bool,
}

impl Metric {
    pub(super) fn is_compared(&self) -> bool {
        !matches!(self.test, Test::LimitsOnly)
    }

    /// Is it judged in the bake by the canary's own scrapes?
    pub(super) fn is_counts(&self) -> bool {
        matches!(self.kind, MetricKind::Errors | MetricKind::CustomCounts(_) | MetricKind::Latency(_))
    }

    pub(super) fn latency(&self) -> Option<&LatencyTest> {
        if let Test::Latency(t) = &self.test { Some(t) } else { None }
    }

    /// The series of its own, if it compares counts.
    pub(super) fn series(&self) -> Option<SeriesId> {
        if let Test::Counts(id, _) = &self.test { Some(*id) } else { None }
    }

    /// Without calibration a gauge is only shown.
    pub(super) fn is_uncalibrated(&self) -> bool {
        match &self.test {
            Test::Gauge(t) => t.calibration().is_none(),
            Test::Leak(t) => t.calibration().is_none(),
            _ => false,
        }
    }

    /// Evidence that non-inferiority is shown; the leak test has none to give.
    pub(super) fn is_shown(&self, ln_ok: f64) -> bool {
        self.is_compared() && self.kind != MetricKind::Leak && self.evidence.ln_ok >= ln_ok
    }

    /// `blind_s`: after this long without a usable tick.
    pub(super) fn look(&mut self, t_s: f64, seen: Result<(), Blind>, blind_s: f64) {
        match seen {
            Ok(()) => self.last_used_s = t_s,
            Err(why) => self.why = why,
        }
        self.used = seen.is_ok();
        self.blind = t_s - self.last_used_s >= blind_s - super::clock::EPS_S;
    }
}
