//! The judge's inner numbers, read out for reports and for tests against the reference. Allocates; never on the hot path.

use super::judge::Judge;
use super::limits::{Limit, LimitTest};
use super::metric::{Metric, Test};
use super::series::{Series, SeriesKey};
use crate::model::{LimitKind, MetricKind, PerArm};
use crate::stats::dispersion::Phi;
use crate::stats::gauge::Calibration;
use crate::stats::load::LoadFit;

/// One bound of a latency zone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ZoneBound {
    /// Position in the ladder.
    pub j: usize,
    /// Weight in the mixture.
    pub weight: f64,
    /// Tolerated ratio of tails, and the guard's.
    pub r: f64,
    /// The guard's.
    pub r_guard: f64,
    /// `ln E` of the main process.
    pub main: f64,
    /// `ln E` of the guard.
    pub guard: f64,
}

/// A quantile's setup.
#[derive(Clone, Debug, PartialEq)]
pub struct ZoneView {
    /// Position of the primary bound.
    pub primary: usize,
    /// Ratio of tails that is shown not to be exceeded.
    pub r_ok: f64,
    /// The bounds.
    pub bounds: Vec<ZoneBound>,
}

/// One metric inside.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricView {
    /// What it measures.
    pub kind: MetricKind,
    /// Was a factor of the last poll clipped?
    pub hot: bool,
    /// Counts: `ln E` of main and guard.
    pub parts: Option<(f64, f64)>,
    /// Latency: its setup.
    pub zone: Option<ZoneView>,
    /// Gauges: how it was calibrated.
    pub calibration: Option<Calibration>,
    /// Gauges: raw log-ratio of the last poll.
    pub y: Option<f64>,
    /// Leak: residual.
    pub residual: Option<f64>,
}

/// One limit inside. Evidence as `(before, after)` the isolated-jump rule.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitView {
    /// Position of its metric.
    pub metric: usize,
    /// Which.
    pub kind: LimitKind,
    /// Evidence per arm; a rollback limit has only the canary's.
    pub evidence: PerArm<(f64, f64)>,
    /// Values of its labels.
    pub label_values: PerArm<f64>,
    /// Promote-below: bad, all, dispersion.
    pub promote: Option<(f64, f64, f64)>,
    /// Gauges: median ratio.
    pub ratio: Option<f64>,
}

/// One process of the bake inside.
#[derive(Clone, Debug, PartialEq)]
pub struct BakeView {
    /// Position of its metric.
    pub metric: usize,
    /// Derived or the rule's.
    pub derived: bool,
    /// Its level.
    pub level: f64,
    /// Whose counts.
    pub series: SeriesKey,
    /// Dispersion.
    pub phi: f64,
    /// Evidence before and after the isolated-jump rule.
    pub evidence: (f64, f64),
}

/// `degraded` of the baseline: whose, level, value, on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DegradedView {
    /// Position of its metric for a quantile.
    pub metric: Option<usize>,
    /// Whose counts.
    pub series: SeriesKey,
    /// Its level.
    pub level: f64,
    /// Its value.
    pub value: f64,
    /// Is it on?
    pub on: bool,
}

/// Everything inside a judge after a poll.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspection {
    /// Series in use with the dispersion of the last poll and the frozen one.
    pub series: Vec<(SeriesKey, Phi, Option<f64>)>,
    /// Baseline rate over the history (or burn-in) of requests.
    pub p_hist: Option<f64>,
    /// Polls of the history left out.
    pub left_out: Vec<usize>,
    /// Tail fractions of the latency setup.
    pub tails: Option<Vec<f64>>,
    /// Metrics in the rule's order.
    pub metrics: Vec<MetricView>,
    /// Limits in the rule's order.
    pub limits: Vec<LimitView>,
    /// Labels of the baseline.
    pub degraded: Vec<DegradedView>,
    /// The bake.
    pub bakes: Vec<BakeView>,
    /// The baseline's rate the bake goes by.
    pub bake_rate: Option<f64>,
    /// Load fit.
    pub fit: Option<LoadFit>,
    /// Requests per portion of the gross-failure rule.
    pub gross_need: f64,
    /// Processes that share the budget of limits.
    pub n_lim: usize,
    /// What a limit's evidence must reach.
    pub ln_limit: f64,
}

impl Judge {
    /// Reads everything out.
    pub fn inspect(&self) -> Inspection {
        let series = |s: &Series| (s.key, s.phi, s.phi_0);
        let key = |i: usize| self.series[i].key;
        Inspection {
            series: self.series.iter().filter(|s| s.active).map(series).collect(),
            p_hist: self.series_of(SeriesKey::Requests).and_then(|s| s.p_hist),
            left_out: self.left_out.clone(),
            tails: self.tails.as_ref().map(|t| t.to_vec()),
            metrics: self.metrics.iter().map(metric).collect(),
            limits: self.limits.iter().map(limit).collect(),
            degraded: self
                .degraded
                .iter()
                .map(|d| DegradedView {
                    metric: d.metric,
                    series: key(d.series.0),
                    level: d.label.level(),
                    value: d.label.value(),
                    on: d.label.on(),
                })
                .collect(),
            bakes: self
                .bakes
                .iter()
                .map(|b| BakeView {
                    metric: b.metric,
                    derived: b.derived,
                    level: b.level(),
                    series: key(b.series.0),
                    phi: b.phi,
                    evidence: (b.process.ln_e(), b.process.ln_cut()),
                })
                .collect(),
            bake_rate: self.bake_rate,
            fit: self.set.fit,
            gross_need: self.gross.need(),
            n_lim: self.n_lim,
            ln_limit: self.set.ln_limit,
        }
    }
}

fn metric(m: &Metric) -> MetricView {
    let mut view = MetricView { kind: m.kind, hot: m.evidence.hot, parts: None, zone: None, calibration: None, y: None, residual: None };
    match &m.test {
        Test::Counts(_, t) => view.parts = Some(t.parts()),
        Test::Latency(t) => {
            view.zone = t.frozen().map(|f| ZoneView {
                primary: f.primary,
                r_ok: f.r_ok,
                bounds: f
                    .zone
                    .iter()
                    .map(|b| {
                        let (main, guard) = b.parts();
                        ZoneBound { j: b.j, weight: b.weight, r: b.r, r_guard: b.r_guard, main, guard }
                    })
                    .collect(),
            });
        }
        Test::Gauge(t) => (view.calibration, view.y) = (t.calibration(), t.y),
        Test::Leak(t) => (view.calibration, view.y, view.residual) = (t.calibration(), t.y, t.residual),
        Test::LimitsOnly => {}
    }
    view
}

fn limit(l: &Limit) -> LimitView {
    let mut view = LimitView {
        metric: l.metric,
        kind: l.kind,
        evidence: PerArm::default(),
        label_values: PerArm::default(),
        promote: None,
        ratio: None,
    };
    match &l.test {
        LimitTest::Rollback(r) => {
            view.evidence.canary = (r.process.ln_e(), r.process.ln_cut());
            view.label_values = r.labels.values();
        }
        LimitTest::Alarm(a) => {
            view.evidence = a.shown;
            view.label_values = a.labels.values();
        }
        LimitTest::Promote(p) => view.promote = Some((p.x, p.n, p.phi)),
        LimitTest::Gauge(g) => view.ratio = g.ratio,
    }
    view
}
