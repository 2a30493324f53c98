//! Sentences of the report: what an operator should know about the set-up and about what was left out.

use super::errors::GUARD_SHARE;
use super::history::Past;
use super::judge::Judge;
use super::metric::Metric;
use super::series::{Series, SeriesKey, rate};
use super::setup::KeptSums;
use crate::model::{JudgeSpec, LimitKind, Margin, MetricKind, StepTime, Timestamp};
use crate::stats::counts::Tolerance;
use crate::stats::plan::{CORRECTION_90, Expectation, Z_90, harm_minutes};

/// A dispersion above this makes small faults invisible.
const UNSTEADY: f64 = 50.0;

/// What the history was good for.
pub(super) fn of_history(spec: &JudgeSpec, past: &Past, series: &[Series], metrics: &[Metric], out: &mut Vec<String>) {
    let dt_s = spec.interval.as_secs_f64();
    let learns = series.iter().any(|s| s.key == SeriesKey::Requests && s.is_learning());
    if past.requests.is_none() && !learns {
        out.push("no history: burstiness as kept from an earlier rollout".to_owned());
    } else if past.requests.is_none() {
        let (have, unit) = in_unit([past.usable as f64 * dt_s, spec.method.history_min_s]);
        out.push(format!(
            "burstiness unknown: {:.0} {unit} of history, {:.0} {unit} are needed; learned from the live baseline, comparison starts after {:.0} s",
            have[0], have[1], spec.method.burn_in_s
        ));
    }
    for (from, to) in runs(&past.left_out) {
        let (before, unit) = in_unit([from, to].map(|i| (past.length - i) as f64 * dt_s));
        out.push(format!(
            "history from {:.0} to {:.0} {unit} before the start left out of the comparison: it looks like an incident",
            before[0], before[1]
        ));
    }
    for s in series.iter().filter(|s| s.key == SeriesKey::Requests && s.phi.base > UNSTEADY) {
        let times = metrics.iter().find(|m| m.kind == MetricKind::Errors).and_then(|m| smallest_fault(spec, past, m.share, s.phi.base));
        let found = times.map_or("no fault of errors can be found within the steps, but an outage".to_owned(), |k| {
            format!("within the steps only errors at {k} times their rate or more can be found")
        });
        out.push(format!("unsteady before the release: phi {:.0}; {found}", s.phi.base));
    }
    for (m, s) in metrics.iter().zip(&spec.metrics) {
        if past.requests.is_some() && m.series().is_some_and(|id| series[id.0].is_learning()) {
            out.push(format!("{}: burstiness unknown, it has no history of its own; learned from the live baseline", s.name));
        }
        if m.advisory {
            out.push(format!("{} is advisory: there is no comparison of baseline pods with each other to calibrate it", s.name));
        }
        if m.latency().is_some() && spec.bounds_ms.is_empty() {
            out.push(format!("{}: there is no histogram, it cannot be judged", s.name));
        }
        out.extend(coarse(&s.name, m));
    }
}

/// Two stretches of seconds in the unit that suits the longer: below ten minutes the seconds matter.
fn in_unit(seconds: [f64; 2]) -> ([f64; 2], &'static str) {
    if seconds[0].max(seconds[1]) < 600.0 { (seconds, "s") } else { (seconds.map(|s| s / 60.0), "min") }
}

/// The smallest of a few multiples of the error rate that the comparison finds within the steps with 90 % power (STATISTICS 9):
/// each step brings its share of the time that is needed at its weight.
fn smallest_fault(spec: &JudgeSpec, past: &Past, share: f64, phi: f64) -> Option<f64> {
    let polls = past.requests.as_ref()?;
    let (x, n) = polls.iter().fold((0.0, 0.0), |(x, n), p| (x + p.0, n + p.1));
    let margin = spec.metrics.iter().find(|m| m.kind == MetricKind::Errors && m.compared)?.margin;
    let Margin::Counts { relative, absolute, .. } = margin else { return None };
    let (dt_min, p_b) = (spec.interval.as_secs_f64() / 60.0, rate(x, n));
    let per_min = n / (polls.len() as f64 * dt_min);
    let level = spec.budget.rollback * share * (1.0 - GUARD_SHARE);
    let part = |step: &StepTime, times: f64| {
        let w = step.weight.share();
        let x = Expectation { rate_b: per_min * (1.0 - w), rate_c: per_min * w, p_b, p_c: times * p_b, phi, dt_min };
        let halves = Tolerance { relative, absolute }.halves().map(|null| harm_minutes(&x, null, level, Z_90));
        step.for_s / 60.0 / (CORRECTION_90 * halves[0].max(halves[1]))
    };
    let compared = || spec.steps.iter().filter(|s| !s.weight.is_zero() && !s.weight.is_full());
    let found = |times: &f64| times * p_b <= 1.0 && compared().map(|s| part(s, *times)).sum::<f64>() >= 1.0;
    [1.5, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 50.0, 100.0, 200.0, 500.0].into_iter().find(found)
}

/// Buckets too coarse for a quantile; known once its setup is.
pub(super) fn coarse(name: &str, m: &Metric) -> Option<String> {
    let MetricKind::Latency(q) = m.kind else { return None };
    let coarse = m.latency()?.frozen()?.coarse;
    coarse.then(|| format!("{name}: buckets too coarse for P{}", trimmed(q * 100.0)))
}

fn trimmed(v: f64) -> String {
    let text = format!("{v:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A limit between two bounds, or beyond them.
pub(super) fn between_bounds(out: &mut Vec<String>, name: &str, kind: LimitKind, ms: f64, breach: Option<f64>, promote: Option<f64>) {
    let what = format!("{name} {} {ms} ms", kind.name());
    match (breach, promote) {
        (Some(b), Some(p)) if b > p => out.push(format!("{what}: breach is provable from {b} ms, pass up to {p} ms")),
        (None, _) if kind != LimitKind::PromoteBelow => out.push(format!("{what}: above the last bucket bound, never provable")),
        (_, None) if kind == LimitKind::PromoteBelow => out.push(format!("{what}: below the first bucket bound, never provable")),
        _ => {}
    }
}

/// Consecutive numbers as `(first, one past the last)`.
fn runs(ascending: &[usize]) -> Vec<(usize, usize)> {
    let mut out: Vec<(usize, usize)> = Vec::new();
    for &i in ascending {
        match out.last_mut() {
            Some((_, end)) if *end == i => *end = i + 1,
            _ => out.push((i, i + 1)),
        }
    }
    out
}

/// Time of day, UTC.
fn clock_time(t: Timestamp) -> String {
    let minutes = t.as_millis().div_euclid(60_000).rem_euclid(24 * 60);
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

impl Judge {
    /// What an operator should know about the set-up: history left out, burstiness unknown, limits between bounds, ... Never
    /// changes.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What came up since: incidents left out of the comparison, an unsteady rollout, coarse buckets of a live setup. Made
    /// when asked for; not for the hot path.
    pub fn notes(&self) -> Vec<String> {
        let active = || self.series.iter().filter(|s| s.active);
        let mut out = Vec::new();
        if active().any(Series::forgets) {
            out.extend(self.incidents.iter().map(|(from, to)| {
                format!("{}-{} UTC left out of the comparison: an incident of both arms", clock_time(*from), clock_time(*to))
            }));
        }
        for s in active().filter(|s| s.key == SeriesKey::Requests && s.phi.used > UNSTEADY) {
            out.push(format!("unsteady during the rollout: phi {:.0}, only large faults can be found", s.phi.used));
        }
        let late = self.metrics.iter().zip(&self.names).filter_map(|(m, name)| coarse(name, m));
        out.extend(late.filter(|text| !self.warnings.contains(text)));
        out
    }

    /// A poll that is not calm, and whether the one before it was.
    pub(super) fn note_incident(&mut self, at: Timestamp, begins: bool) {
        let interval = at - std::time::Duration::from_secs_f64(self.set.dt_s);
        if begins && !self.incidents.is_full() {
            self.incidents.push((interval, at));
        } else if let Some((_, to)) = self.incidents.last_mut() {
            *to = at;
        }
    }

    /// Is there a series whose dispersion is known neither from history nor from an earlier rollout?
    pub fn is_learning(&self) -> bool {
        self.series.iter().any(Series::is_learning)
    }

    /// [`Judge::sums`], if they are worth keeping: made from at least as long a time as the shortest history.
    pub fn sums_to_keep(&self) -> Option<KeptSums> {
        let requests = self.series_of(SeriesKey::Requests)?;
        let seen_s = self.start.zip(self.last).map_or(0.0, |(start, last)| last.since(start).as_secs_f64());
        let enough = !requests.is_learning() || seen_s >= self.set.method.history_min_s;
        enough.then(|| self.sums())
    }

    /// Dispersion learned so far, of calm polls: kept per service after a rollout that was not rolled back, halved once per
    /// week, and given to [`Judge::with_sums`] (STATISTICS 3). Bounds of the ladder must be the same then.
    pub fn sums(&self) -> KeptSums {
        self.series.iter().filter(|s| s.active).map(|s| (s.key, s.sums())).collect()
    }
}
