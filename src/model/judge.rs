//! What a judge needs to know about a rule: metrics, margins, limits, budget, steps. Operators' terms become these numbers
//! in one place, `config`.

use super::{LimitKind, Weight};
use std::time::Duration;

/// The four error levels of one rollout (STATISTICS 1, 7.1). A level is a probability in `(0, 1)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// False rollbacks by comparison, for the whole rollout.
    pub rollback: f64,
    /// False "not worse than the margin", per step.
    pub ok: f64,
    /// False rollbacks by limits, for the whole rollout.
    pub limit: f64,
    /// False pages, per limit.
    pub page: f64,
    /// False warnings, per limit.
    pub warn: f64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { rollback: 0.05, ok: 0.05, limit: 0.01, page: 0.01, warn: 0.05 }
    }
}

/// Every time constant of the method, in seconds, at time scale 1. [`Method::scaled`] is the only way to change them
/// together; the demo runs them 15 to 60 times faster and changes nothing else.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Method {
    /// Warm-up of errors, latency and gauges (STATISTICS 2.2).
    pub warm_up_s: f64,
    /// Warm-up of the leak test (6.1).
    pub warm_up_leak_s: f64,
    /// Burn-in without history (3).
    pub burn_in_s: f64,
    /// Half-life of the onset mixture, H0 (2.1).
    pub onset_s: f64,
    /// Block lengths of the dispersion of counts (3); the last only with history.
    pub blocks_s: [f64; 3],
    /// Block lengths of the dispersion of gauges (6).
    pub gauge_blocks_s: [f64; 3],
    /// Time over which a gauge's autocorrelation is capped at .98 (6).
    pub gauge_memory_s: f64,
    /// Shortest history that counts as history (3).
    pub history_min_s: f64,
    /// How much history is asked for.
    pub history_s: f64,
    /// Window of an incident in the history (3).
    pub incident_s: f64,
    /// Stride of the search for it.
    pub incident_stride_s: f64,
    /// `hold` outlasts `shared` by this (7.2).
    pub shared_hold_s: f64,
    /// Unbroken `hold` that pages (7.2).
    pub shared_page_s: f64,
    /// Blind after this without a usable tick, and at least three ticks (7).
    pub blind_s: f64,
    /// Shortest step of `on-evidence` (7).
    pub step_min_s: f64,
    /// Default window of a sustained gauge limit (7.1).
    pub sustained_s: f64,
    /// Unit of the leak slope: `slope` is per this many seconds (6.1).
    pub slope_unit_s: f64,
    /// Unbroken disobedience of the traffic that holds (DESIGN 6.3).
    pub share_s: f64,
}

impl Default for Method {
    fn default() -> Self {
        Self {
            warm_up_s: 120.0,
            warm_up_leak_s: 600.0,
            burn_in_s: 240.0,
            onset_s: 1800.0,
            blocks_s: [60.0, 240.0, 960.0],
            gauge_blocks_s: [60.0, 240.0, 480.0],
            gauge_memory_s: 15.0,
            history_min_s: 1800.0,
            history_s: 3600.0,
            incident_s: 600.0,
            incident_stride_s: 150.0,
            shared_hold_s: 120.0,
            shared_page_s: 600.0,
            blind_s: 60.0,
            step_min_s: 120.0,
            sustained_s: 120.0,
            slope_unit_s: 60.0,
            share_s: 180.0,
        }
    }
}

impl Method {
    /// The same method `scale` times faster (`scale > 0`; 1 = real time).
    pub fn scaled(self, scale: f64) -> Self {
        let f = |s: f64| s / scale;
        Self {
            warm_up_s: f(self.warm_up_s),
            warm_up_leak_s: f(self.warm_up_leak_s),
            burn_in_s: f(self.burn_in_s),
            onset_s: f(self.onset_s),
            blocks_s: self.blocks_s.map(f),
            gauge_blocks_s: self.gauge_blocks_s.map(f),
            gauge_memory_s: f(self.gauge_memory_s),
            history_min_s: f(self.history_min_s),
            history_s: f(self.history_s),
            incident_s: f(self.incident_s),
            incident_stride_s: f(self.incident_stride_s),
            shared_hold_s: f(self.shared_hold_s),
            shared_page_s: f(self.shared_page_s),
            blind_s: f(self.blind_s),
            step_min_s: f(self.step_min_s),
            sustained_s: f(self.sustained_s),
            slope_unit_s: f(self.slope_unit_s),
            share_s: f(self.share_s),
        }
    }
}

/// What a metric measures, and thereby how it is tested.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MetricKind {
    /// Failed requests out of all (STATISTICS 2).
    Errors,
    /// A latency quantile in `(0, 1)` from buckets (4).
    Latency(f64),
    /// CPU per pod (6).
    Cpu,
    /// Memory per pod (6).
    Memory,
    /// Slope of the memory floor (6.1).
    Leak,
    /// The rule's own counts, by position (2).
    CustomCounts(usize),
    /// The rule's own gauge, by position (6).
    CustomGauge(usize),
}

/// How much worse is tolerable, and how much better than what must be shown (STATISTICS 2, 2.3, 4, 6, 10).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Margin {
    /// Counts: harm beyond `max((1+relative) p_b, p_b + absolute)`, and the wider pair for non-inferiority. Fractions.
    Counts { relative: f64, absolute: f64, ok_relative: f64, ok_absolute: f64 },
    /// Latency: the baseline's distribution stretched by `1 + harm`; guard, non-inferiority and bake likewise.
    Stretch { harm: f64, guard: f64, ok: f64, bake: f64 },
    /// Gauges: ratio above `1 + harm`, and `1 + ok`.
    Ratio { harm: f64, ok: f64 },
    /// Gauges of which less is worse: baseline over canary above `1 + harm`, and `1 + ok`; an `above` limit then means below.
    RatioBelow { harm: f64, ok: f64 },
    /// Leak: tolerated slope of the log-ratio per [`Method::slope_unit_s`].
    Slope { per_unit: f64 },
}

/// Absolute limits of one metric (7.1): a fraction for counts, milliseconds for latency, the gauge's own unit else.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Limits {
    /// A step ends only below it.
    pub promote_below: Option<f64>,
    /// Notifies.
    pub warn_above: Option<f64>,
    /// Rolls back.
    pub rollback_above: Option<f64>,
    /// Pages.
    pub page_above: Option<f64>,
    /// Window of the sustained rule for gauges; `None` = [`Method::sustained_s`].
    pub sustained: Option<Duration>,
}

impl Limits {
    /// The four levels, each with its kind.
    pub fn levels(&self) -> [(LimitKind, Option<f64>); 4] {
        [
            (LimitKind::PromoteBelow, self.promote_below),
            (LimitKind::WarnAbove, self.warn_above),
            (LimitKind::RollbackAbove, self.rollback_above),
            (LimitKind::PageAbove, self.page_above),
        ]
    }

    /// Is there any?
    pub fn any(&self) -> bool {
        self.promote_below.is_some() || self.warn_above.is_some() || self.rollback_above.is_some() || self.page_above.is_some()
    }
}

/// One metric of a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricSpec {
    /// The rule's word for it: `error-rate`, `latency-p95`, `cpu`, ...
    pub name: String,
    /// How it is measured and tested.
    pub kind: MetricKind,
    /// Is it compared between the arms, or are there only limits on it?
    pub compared: bool,
    /// Margins of the comparison.
    pub margin: Margin,
    /// Must it be shown not worse where a step asks for proof?
    pub required: bool,
    /// Share of the budget before redistribution (STATISTICS 7).
    pub weight: f64,
    /// Absolute limits.
    pub limits: Limits,
}

/// When a step ends (DESIGN 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advance {
    /// At its time, unless something speaks against it; `strict` asks for proof then too.
    OnSchedule { strict: bool },
    /// As soon as everything required is shown.
    OnEvidence,
}

/// One step as the judge sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepTime {
    /// Share of the canary.
    pub weight: Weight,
    /// How long (its `for`, or `bake`).
    pub for_s: f64,
}

/// Everything a judge is built from, besides history.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgeSpec {
    /// Length of a tick.
    pub interval: Duration,
    /// Error levels.
    pub budget: Budget,
    /// How often the evidence of this rollout was lost: each loss halves the level (STATISTICS 7).
    pub incarnation: u32,
    /// In the rule's order, at most [`super::METRICS_MAX`].
    pub metrics: Vec<MetricSpec>,
    /// Upper bounds of the latency buckets, ms, ascending, without `+Inf`; empty = no histogram.
    pub bounds_ms: Vec<f64>,
    /// The steps.
    pub steps: Vec<StepTime>,
    /// When a step ends.
    pub advance: Advance,
    /// Fewest canary requests in a step.
    pub min_requests: u32,
    /// CPU is compared at comparable load only (6).
    pub cpu_load_rule: bool,
    /// Time constants.
    pub method: Method,
}
