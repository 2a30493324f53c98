//! A judge built from a rule and the baseline's past: what is frozen before the first poll.

use super::combine::{Claim, shares};
use super::errors::CountTest;
use super::estimate::StepSums;
use super::gate::asks_for_proof;
use super::gauge::{GaugeTest, LeakTest};
use super::history::{Lengths, Past, tails_of};
use super::judge::Settings;
use super::latency::{LatencyTest, Since, Stretches};
use super::limits::{AlarmLimit, GaugeLimit, Limit, LimitTest, PromoteLimit, RollbackLimit, breach_bound, promote_bound};
use super::metric::{Metric, Test};
use super::notes;
use super::series::{PerHistory, Series, SeriesId, SeriesKey, rate};
use crate::model::{BOUNDS_MAX, Blind, CUSTOM_MAX, JudgeSpec, LimitKind, METRICS_MAX, Margin, MetricKind, MetricSpec};
use crate::stats::counts::Tolerance;
use crate::stats::dispersion::ScaleSums;
use crate::stats::gauge::Calibration;

/// Why no judge can be built from a rule.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum JudgeError {
    /// There is nothing to walk through.
    #[error("a rollout needs at least one step")]
    NoSteps,
    /// More than a judgement holds.
    #[error("{0} metrics exceed {METRICS_MAX}")]
    TooManyMetrics(usize),
    /// A tick of no length.
    #[error("interval {0} ms is shorter than 1 ms")]
    Interval(u128),
    /// A ladder that cannot be judged.
    #[error("bucket bounds {0:?} must be at most {BOUNDS_MAX}, positive and ascending")]
    Bounds(Vec<f64>),
    /// The margin is not of the metric's kind, or not a number.
    #[error("metric {0}: margin {1:?} does not fit its kind, or is not a positive number")]
    Margin(String, Margin),
    /// No quantile.
    #[error("metric {0}: quantile {1} lies outside 0 to 1")]
    Quantile(String, f64),
    /// Position of a custom metric.
    #[error("metric {0}: custom metric {1} exceeds {CUSTOM_MAX}")]
    Custom(String, usize),
    /// A fraction that is none, or a level that is not positive.
    #[error("metric {0}: {1} {2} must be {3}")]
    Level(String, &'static str, f64, &'static str),
    /// An error level that is no probability.
    #[error("budget {0} is {1}, must lie between 0 and 1")]
    Budget(&'static str, f64),
    /// No data can prove the breach.
    #[error("metric {0}: {1} {2} ms lies above the last bucket bound {3} ms, no data can prove it: lower it or add a bound")]
    AboveLastBound(String, &'static str, f64, f64),
    /// No data can prove the step, and the rule asks for proof.
    #[error(
        "metric {0}: promote-below {1} ms lies below the first bucket bound {2} ms and can never be shown: raise it, add a bound, or use on-schedule without strict"
    )]
    BelowFirstBound(String, f64, f64),
}

/// Sums of dispersion kept from an earlier rollout, by series; used only where no history can be read (STATISTICS 3).
pub type KeptSums = Vec<(SeriesKey, Vec<ScaleSums>)>;

/// Everything the judge takes over.
pub(super) struct Parts {
    pub(super) metrics: Vec<Metric>,
    pub(super) sums: Vec<StepSums>,
    pub(super) limits: Vec<Limit>,
    pub(super) series: Vec<Series>,
    pub(super) warnings: Vec<String>,
    pub(super) n_lim: usize,
}

/// Refuses what no later code could make sense of.
pub(super) fn check(spec: &JudgeSpec) -> Result<(), JudgeError> {
    if spec.steps.is_empty() {
        return Err(JudgeError::NoSteps);
    }
    if spec.metrics.len() > METRICS_MAX {
        return Err(JudgeError::TooManyMetrics(spec.metrics.len()));
    }
    if spec.interval.as_millis() == 0 {
        return Err(JudgeError::Interval(spec.interval.as_millis()));
    }
    let b = &spec.bounds_ms;
    let fits = b.len() <= BOUNDS_MAX && b.iter().all(|v| v.is_finite() && *v > 0.0) && b.windows(2).all(|w| w[0] < w[1]);
    if !fits {
        return Err(JudgeError::Bounds(b.clone()));
    }
    let u = &spec.budget;
    for (name, v) in [("rollback", u.rollback), ("ok", u.ok), ("limit", u.limit), ("page", u.page), ("warn", u.warn)] {
        if !(v > 0.0 && v < 1.0) {
            return Err(JudgeError::Budget(name, v));
        }
    }
    spec.metrics.iter().try_for_each(check_metric)
}

fn check_metric(m: &MetricSpec) -> Result<(), JudgeError> {
    let name = || m.name.clone();
    let at_least_0 = |v: &[f64]| v.iter().all(|x| x.is_finite() && *x >= 0.0);
    let fits = match (m.kind, m.margin) {
        _ if !m.compared => true,
        (MetricKind::Errors | MetricKind::CustomCounts(_), Margin::Counts { relative, absolute, ok_relative, ok_absolute }) => {
            at_least_0(&[relative, absolute, ok_relative, ok_absolute])
        }
        (MetricKind::Latency(_), Margin::Stretch { harm, guard, ok, bake }) => at_least_0(&[harm, guard, ok, bake]),
        (MetricKind::Cpu | MetricKind::Memory, Margin::Ratio { harm, ok }) => at_least_0(&[harm, ok]),
        (MetricKind::CustomGauge(_), Margin::Ratio { harm, ok } | Margin::RatioBelow { harm, ok }) => at_least_0(&[harm, ok]),
        (MetricKind::Leak, Margin::Slope { per_unit }) => at_least_0(&[per_unit]),
        _ => false,
    };
    if !fits || !m.weight.is_finite() {
        return Err(JudgeError::Margin(name(), m.margin));
    }
    match m.kind {
        MetricKind::Latency(q) if !(q > 0.0 && q < 1.0) => return Err(JudgeError::Quantile(name(), q)),
        MetricKind::CustomCounts(i) | MetricKind::CustomGauge(i) if i >= CUSTOM_MAX => return Err(JudgeError::Custom(name(), i)),
        _ => {}
    }
    levels(m).try_for_each(|(kind, v)| check_level(m, kind, v))
}

fn check_level(m: &MetricSpec, kind: LimitKind, v: f64) -> Result<(), JudgeError> {
    let fraction = matches!(m.kind, MetricKind::Errors | MetricKind::CustomCounts(_));
    let (ok, range) = if fraction { (v > 0.0 && v < 1.0, "a fraction between 0 and 1") } else { (v.is_finite() && v > 0.0, "positive") };
    if ok { Ok(()) } else { Err(JudgeError::Level(m.name.clone(), kind.name(), v, range)) }
}

/// The limits of a metric in their order.
fn levels(m: &MetricSpec) -> impl Iterator<Item = (LimitKind, f64)> {
    m.limits.levels().into_iter().filter_map(|(kind, v)| v.map(|v| (kind, v)))
}

/// Builds metrics, limits and series.
pub(super) fn build(spec: &JudgeSpec, set: &Settings, past: &Past, kept: &KeptSums) -> Result<Parts, JudgeError> {
    let mut b = Builder { spec, set, past, kept, series: Vec::new(), warnings: Vec::new() };
    let mut metrics = Vec::with_capacity(spec.metrics.len());
    for m in &spec.metrics {
        let metric = b.metric(m);
        metrics.push(metric);
    }
    b.set_up_latency(&mut metrics);
    let mut limits = Vec::new();
    for (i, m) in spec.metrics.iter().enumerate() {
        for (kind, level) in levels(m) {
            limits.extend(b.limit(i, m, kind, level)?);
        }
    }
    b.rows_without_history(&metrics);
    let n_lim = limiting_processes(spec, &metrics, &limits);
    claim_shares(spec, &mut metrics);
    b.require(&mut metrics);
    let sums = metrics.iter().map(step_sums).collect();
    notes::of_history(spec, past, &b.series, &metrics, &mut b.warnings);
    Ok(Parts { metrics, sums, limits, series: b.series, warnings: b.warnings, n_lim })
}

fn lower_is_worse(m: &MetricSpec) -> bool {
    matches!(m.margin, Margin::RatioBelow { .. })
}

fn step_sums(m: &Metric) -> StepSums {
    match m.kind {
        MetricKind::Errors | MetricKind::CustomCounts(_) => StepSums::Counts(Default::default()),
        MetricKind::Latency(q) => StepSums::Quantile(q),
        _ => StepSums::Level(Default::default()),
    }
}

/// Count and latency processes that may roll back: each rollback-above for the steps and, if there is a bake, once more for it,
/// and each level the bake derives. At least 1.
fn limiting_processes(spec: &JudgeSpec, metrics: &[Metric], limits: &[Limit]) -> usize {
    let own = limits.iter().filter(|l| matches!(l.test, LimitTest::Rollback(_))).count();
    let derived = metrics.iter().filter(|m| m.is_compared() && m.is_counts()).count();
    let bake = spec.steps.iter().any(|s| s.weight.is_full());
    (own + if bake { own + derived } else { 0 }).max(1)
}

fn claim_shares(spec: &JudgeSpec, metrics: &mut [Metric]) {
    let custom = |k: MetricKind| matches!(k, MetricKind::CustomCounts(_) | MetricKind::CustomGauge(_));
    let claims: Vec<Claim> = spec
        .metrics
        .iter()
        .zip(metrics.iter())
        .map(|(s, m)| Claim { weight: s.weight, custom: custom(m.kind), counts: m.is_compared() && !m.advisory })
        .collect();
    for (m, share) in metrics.iter_mut().zip(shares(&claims)) {
        (m.share, m.ln_share) = (share, share.ln());
    }
}

struct Builder<'a> {
    spec: &'a JudgeSpec,
    set: &'a Settings,
    past: &'a Past,
    kept: &'a KeptSums,
    series: Vec<Series>,
    warnings: Vec<String>,
}

impl Builder<'_> {
    /// The series of a key, made on first use.
    fn series(&mut self, key: SeriesKey) -> SeriesId {
        if let Some(i) = self.series.iter().position(|s| s.key == key) {
            return SeriesId(i);
        }
        let lengths = Lengths::of(self.spec);
        let scales = PerHistory { with: &lengths.with_history, without: &lengths.without };
        let polls = self.past.series(key);
        let kept = self.kept.iter().find(|(k, _)| *k == key).map(|(_, s)| s.as_slice());
        let mut series = Series::new(key, polls.as_deref(), scales, kept);
        if let (Some(polls), false) = (&polls, matches!(key, SeriesKey::Tail(_))) {
            let (x, n) = polls.iter().fold((0.0, 0.0), |(x, n), p| (x + p.0, n + p.1));
            series.p_hist = Some(rate(x, n));
        }
        self.series.push(series);
        SeriesId(self.series.len() - 1)
    }

    fn metric(&mut self, m: &MetricSpec) -> Metric {
        let test = if m.compared { self.test(m) } else { Test::LimitsOnly };
        let mut metric = Metric {
            kind: m.kind,
            test,
            required: m.required && m.compared,
            advisory: false,
            share: 0.0,
            ln_share: f64::NEG_INFINITY,
            evidence: Default::default(),
            used: false,
            why: Blind::NoSeries,
            last_used_s: 0.0,
            blind: false,
        };
        metric.advisory = metric.is_uncalibrated();
        metric
    }

    fn test(&mut self, m: &MetricSpec) -> Test {
        let (method, dt_s) = (&self.set.method, self.set.dt_s);
        let level = |cal: Option<Calibration>, harm: f64, ok: f64| {
            Test::Gauge(Box::new(GaugeTest::new(cal, harm, ok, method.warm_up_s, lower_is_worse(m))))
        };
        match (m.kind, m.margin) {
            (MetricKind::Errors, margin) => self.counts(SeriesKey::Requests, margin),
            (MetricKind::CustomCounts(i), margin) => self.counts(SeriesKey::Custom(i), margin),
            (MetricKind::Latency(q), Margin::Stretch { harm, guard, ok, bake }) => {
                Test::Latency(Box::new(LatencyTest::new(q, Stretches { harm, guard, ok, bake }, self.spec.bounds_ms.len())))
            }
            (MetricKind::Cpu, Margin::Ratio { harm, ok }) => level(self.past.cpu, harm, ok),
            (MetricKind::Memory, Margin::Ratio { harm, ok }) => level(self.past.memory, harm, ok),
            (MetricKind::CustomGauge(i), Margin::Ratio { harm, ok } | Margin::RatioBelow { harm, ok }) => {
                level(self.past.custom_gauges.get(i).copied().flatten(), harm, ok)
            }
            (MetricKind::Leak, Margin::Slope { per_unit }) => {
                Test::Leak(Box::new(LeakTest::new(self.past.leak, per_unit, method.slope_unit_s, dt_s, method.warm_up_leak_s)))
            }
            _ => Test::LimitsOnly,
        }
    }

    fn counts(&mut self, key: SeriesKey, margin: Margin) -> Test {
        let Margin::Counts { relative, absolute, ok_relative, ok_absolute } = margin else { return Test::LimitsOnly };
        let id = self.series(key);
        let method = &self.set.method;
        let main_s = if self.series[id.0].is_learning() { method.burn_in_s } else { method.warm_up_s };
        let tolerance = Tolerance { relative, absolute };
        let ok = Tolerance { relative: ok_relative, absolute: ok_absolute };
        Test::Counts(id, Box::new(CountTest::new(tolerance, ok, main_s, method.warm_up_s)))
    }

    /// With history the zones are frozen at once.
    fn set_up_latency(&mut self, metrics: &mut [Metric]) {
        let bounds = &self.spec.bounds_ms;
        let Some(sum) = self.past.latency_rows(bounds.len()).filter(|_| !bounds.is_empty()) else { return };
        let tails = tails_of(&sum);
        let warm = self.set.method.warm_up_s;
        let since = Since { main_s: warm, ok_s: warm, guard_s: 0.0 };
        for m in metrics {
            if let Test::Latency(t) = &mut m.test {
                let z = crate::stats::latency::zone(&tails, t.q);
                for (j, _) in z.weights.iter().enumerate().filter(|(_, w)| **w > 0.0) {
                    self.series(SeriesKey::Tail(j));
                }
                let ids = &self.series;
                t.set_up(bounds, &tails, since, |j| SeriesId(ids.iter().position(|s| s.key == SeriesKey::Tail(j)).unwrap_or(0)));
                t.shrink();
            }
        }
    }

    /// Until a live setup has chosen its bounds, every bound is estimated: the polls so far belong to the chosen ones.
    fn rows_without_history(&mut self, metrics: &[Metric]) {
        let waits = metrics.iter().any(|m| m.latency().is_some_and(|t| t.frozen().is_none()));
        for j in 0..if waits { self.spec.bounds_ms.len() } else { 0 } {
            let before = self.series.len();
            let SeriesId(i) = self.series(SeriesKey::Tail(j));
            if self.series.len() > before {
                self.series[i].active = false;
            }
        }
    }

    fn limit(&mut self, metric: usize, m: &MetricSpec, kind: LimitKind, level: f64) -> Result<Option<Limit>, JudgeError> {
        let warm = self.set.method.warm_up_s;
        let test = match m.kind {
            MetricKind::Errors => Some(self.count_limit(Some(SeriesKey::Requests), kind, level, 0.0)),
            MetricKind::CustomCounts(i) => Some(self.count_limit(Some(SeriesKey::Custom(i)), kind, level, 0.0)),
            MetricKind::Latency(q) => self.bound(m, kind, level)?.map(|j| self.count_limit(j.map(SeriesKey::Tail), kind, 1.0 - q, warm)),
            MetricKind::Cpu | MetricKind::Memory | MetricKind::CustomGauge(_) => {
                let window_s = m.limits.sustained.map_or(self.set.method.sustained_s, |d| d.as_secs_f64());
                Some(LimitTest::Gauge(Box::new(GaugeLimit::new(level, self.set.dt_s, window_s, warm, lower_is_worse(m)))))
            }
            MetricKind::Leak => {
                self.warnings.push(format!(
                    "{} {} {level}: a slope has no limits, it is not judged; set it on memory",
                    m.name,
                    kind.name()
                ));
                None
            }
        };
        Ok(test.map(|test| Limit { metric, kind, level, test }))
    }

    fn count_limit(&mut self, key: Option<SeriesKey>, kind: LimitKind, level: f64, since_s: f64) -> LimitTest {
        let id = key.map(|k| self.series(k));
        let budget = &self.spec.budget;
        match (kind, id) {
            (LimitKind::PromoteBelow, id) => LimitTest::Promote(Box::new(PromoteLimit::new(id, level, self.set.method.warm_up_s))),
            (LimitKind::RollbackAbove, Some(id)) => LimitTest::Rollback(Box::new(RollbackLimit::new(id, level, since_s))),
            (LimitKind::PageAbove, Some(id)) => LimitTest::Alarm(Box::new(AlarmLimit::new(id, level, budget.page, since_s))),
            (LimitKind::WarnAbove, Some(id)) => LimitTest::Alarm(Box::new(AlarmLimit::new(id, level, budget.warn, since_s))),
            (_, None) => LimitTest::Promote(Box::new(PromoteLimit::new(None, level, since_s))),
        }
    }

    /// The bound that tests a latency limit. `Ok(None)`: it is not judged at all; `Ok(Some(None))`: a promote-below that can
    /// never be shown.
    fn bound(&mut self, m: &MetricSpec, kind: LimitKind, ms: f64) -> Result<Option<Option<usize>>, JudgeError> {
        let bounds = &self.spec.bounds_ms;
        let (Some(first), Some(last)) = (bounds.first(), bounds.last()) else {
            self.warnings.push(format!("{} {} {ms} ms: there is no histogram, it is not judged", m.name, kind.name()));
            return Ok(None);
        };
        let (breach, promote) = (breach_bound(bounds, ms), promote_bound(bounds, ms));
        notes::between_bounds(&mut self.warnings, &m.name, kind, ms, breach.map(|j| bounds[j]), promote.map(|j| bounds[j]));
        match kind {
            LimitKind::PromoteBelow if promote.is_none() && asks_for_proof(self.spec.advance) => {
                Err(JudgeError::BelowFirstBound(m.name.clone(), ms, *first))
            }
            LimitKind::PromoteBelow => Ok(Some(promote)),
            LimitKind::RollbackAbove if breach.is_none() => Err(JudgeError::AboveLastBound(m.name.clone(), kind.name(), ms, *last)),
            _ => Ok(breach.map(Some)),
        }
    }

    /// An advisory gauge is not required, whatever the rule says; a slope has nothing to show.
    fn require(&mut self, metrics: &mut [Metric]) {
        for (m, s) in metrics.iter_mut().zip(&self.spec.metrics) {
            if m.required && (m.advisory || m.kind == MetricKind::Leak) {
                m.required = false;
                let why = if m.advisory { "is advisory: it has no history to be calibrated with" } else { "can only veto" };
                self.warnings.push(format!("{} {why}, and is not required", s.name));
            }
        }
        if asks_for_proof(self.spec.advance) && !metrics.iter().any(|m| m.required) {
            self.warnings.push("no metric is required: a step that asks for proof never ends by itself".to_owned());
        }
    }
}
