//! What a rule can find at a given traffic, before it runs (STATISTICS 9): how long each step would need to see a fault,
//! which fault is the smallest its steps find, and how many requests show a healthy canary to be within the margin. Read off
//! a judge built as for a rollout, so that shares, margins, dispersion and latency zones are its own.

use super::judge::Judge;
use super::latency::LatencyTest;
use super::metric::{Metric, Test};
use super::series::SeriesKey;
use super::setup::JudgeError;
use crate::model::{CUSTOM_MAX, Counts, History, JudgeSpec, LoadHistory, Margin, MetricKind, PerArm, Weight};
use crate::stats::counts::{Null, Tolerance};
use crate::stats::gross;
use crate::stats::latency::tail;
use crate::stats::load::{self, LoadKind};
use crate::stats::plan::{
    CORRECTION_50, CORRECTION_90, Expectation, Stretch, Z_90, floor_harm, floor_ok, found_within, harm_minutes, ok_minutes,
};

/// The isolated-jump rule costs about this much of the time (STATISTICS 2.4, 9).
const JUMP_RULE: f64 = 1.05;
/// Shares of a metric's evidence: main process and guard (2.2).
const MAIN: f64 = 0.9;
const GUARD: f64 = 0.1;
/// The guard's null (2.2).
const GUARD_NULL: Null = Null { r: 5.0, d: 0.02 };
/// Halvings of the search for the smallest fault: to a part in a thousand of the range.
const HALVINGS: u32 = 40;

/// The traffic that is expected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expected {
    /// Requests per minute of both arms together, above 0.
    pub per_minute: f64,
    /// Bad fraction of the baseline, `0..1`; `None`: of the history.
    pub error_rate: Option<f64>,
    /// Dispersion, at least 1; `None`: of the history.
    pub phi: Option<f64>,
}

/// Where a number comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The asker.
    Given,
    /// The baseline's past.
    History,
    /// Nobody knows.
    Assumed,
}

/// Minutes from the start of the step (or of the fault), the warm-up included; infinite if never.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Minutes {
    /// In half of the rollouts.
    pub median: f64,
    /// In nine of ten.
    pub p90: f64,
}

impl Minutes {
    fn sooner(self, other: Minutes) -> Minutes {
        Minutes { median: self.median.min(other.median), p90: self.p90.min(other.p90) }
    }
}

/// What one step can see.
#[derive(Clone, Debug, PartialEq)]
pub struct StepPlan {
    /// Share of the canary.
    pub weight: Weight,
    /// How long the rule lets it last, minutes.
    pub for_min: f64,
    /// Requests per minute.
    pub per_minute: PerArm<f64>,
    /// The canary's error rate doubles; `None` where nothing is compared.
    pub errors_x2: Option<Minutes>,
    /// Five times the errors.
    pub errors_x5: Option<Minutes>,
    /// Every request fails.
    pub outage: Option<Minutes>,
    /// Every request takes twice as long; `None` if latency is not compared or the buckets' past is not known.
    pub latency_x2: Option<Minutes>,
    /// An equal canary is shown within the margin of errors.
    pub ok: Option<Minutes>,
    /// Canary requests that takes.
    pub ok_requests: Option<Minutes>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Bad fraction of the baseline.
    pub error_rate: (f64, Origin),
    /// Dispersion of errors.
    pub phi: (f64, Origin),
    /// Minutes before the comparison starts.
    pub warm_up_min: f64,
    /// Step by step, each fault starting with the step.
    pub steps: Vec<StepPlan>,
    /// Smallest error rate of a canary, faulty from its start, that the steps together find (median, 90 %); infinite if not
    /// even an outage. `None` if errors are not compared.
    pub smallest: Option<Minutes>,
}

/// How often each way to compare CPU would apply in a step, over the day of load before (STATISTICS 6). Fractions of 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CpuCases {
    /// By the fit of CPU against load.
    pub fit: f64,
    /// Directly, loads being close.
    pub direct: f64,
    /// Not at all.
    pub skip: f64,
}

/// Error rate that is assumed where neither the asker nor a history names one.
pub const ERROR_RATE_DEFAULT: f64 = 0.001;

/// What the rule's judge can find. Faults last from the start of the step; in the first step with traffic the warm-up comes on
/// top. `history`: the baseline's past as it was read; `None`: one that is steady, and long enough for everything.
///
/// # Errors
/// If no judge can be built from the rule.
pub fn plan(spec: &JudgeSpec, history: Option<&History>, expected: &Expected) -> Result<Plan, JudgeError> {
    let judge = match history {
        Some(history) => Judge::new(spec, history)?,
        None => Judge::new(spec, &steady_past(spec, expected))?,
    };
    let ask = Asked::of(&judge, spec, expected, history.is_some());
    Ok(Plan {
        error_rate: ask.error_rate,
        phi: ask.phi,
        warm_up_min: judge.set.warm_until_s / 60.0,
        steps: ask.steps(),
        smallest: ask.smallest(),
    })
}

/// A past in which nothing ever happened, as long as the method asks for: the judge then starts like one that has history, and
/// no gauge is advisory.
fn steady_past(spec: &JudgeSpec, expected: &Expected) -> History {
    let dt_s = spec.interval.as_secs_f64().max(1e-3);
    let polls = (spec.method.history_s / dt_s).ceil() as usize;
    let total = expected.per_minute * dt_s / 60.0;
    let counts = vec![Some(Counts { total, bad: total * expected.error_rate.unwrap_or(ERROR_RATE_DEFAULT) }); polls];
    let ratios = vec![Some(0.0); polls];
    History {
        requests: counts.clone(),
        cpu: ratios.clone(),
        memory: ratios.clone(),
        leak: ratios.clone(),
        custom_counts: vec![counts; CUSTOM_MAX],
        custom_gauges: vec![ratios; CUSTOM_MAX],
        ..History::default()
    }
}

/// How often each case of the CPU comparison would have applied in each step over the load history, at these ready pods.
/// `None` if there is no load history.
pub fn cpu_cases(load: Option<&LoadHistory>, pods: PerArm<u32>, steps: &[Weight]) -> Option<Vec<CpuCases>> {
    let load = load.filter(|l| !l.rate.is_empty() && pods.baseline > 0 && pods.canary > 0)?;
    let fit = load::fit(&load.rate, &load.cpu);
    let spread = f64::from(pods.baseline) / f64::from(pods.canary);
    let case = |weight: &Weight| {
        let mut cases = CpuCases::default();
        let one = 1.0 / load.rate.len() as f64;
        for rate in &load.rate {
            // the baseline's pods carried all of the traffic then
            let (b, c) = (rate * (1.0 - weight.share()), rate * spread * weight.share());
            match load::ratio(fit.as_ref(), b, c).kind {
                LoadKind::Fit => cases.fit += one,
                LoadKind::Direct | LoadKind::Plain => cases.direct += one,
                LoadKind::Skip => cases.skip += one,
            }
        }
        cases
    };
    Some(steps.iter().map(case).collect())
}

/// A comparison of two arms, as the formula wants it.
#[derive(Clone, Copy, Debug)]
struct Comparison {
    tolerance: Tolerance,
    ok: Tolerance,
    share: f64,
}

struct Asked<'a> {
    judge: &'a Judge,
    spec: &'a JudgeSpec,
    per_minute: f64,
    error_rate: (f64, Origin),
    phi: (f64, Origin),
    given_phi: Option<f64>,
    errors: Option<Comparison>,
}

impl<'a> Asked<'a> {
    fn of(judge: &'a Judge, spec: &'a JudgeSpec, expected: &Expected, with_past: bool) -> Self {
        let requests = judge.series_of(SeriesKey::Requests).filter(|s| with_past && !s.is_learning());
        let or = |given: Option<f64>, past: Option<f64>, otherwise: f64| match (given, past) {
            (Some(v), _) => (v, Origin::Given),
            (None, Some(v)) => (v, Origin::History),
            (None, None) => (otherwise, Origin::Assumed),
        };
        Self {
            judge,
            spec,
            per_minute: expected.per_minute,
            error_rate: or(expected.error_rate, requests.and_then(|s| s.p_hist), ERROR_RATE_DEFAULT),
            phi: or(expected.phi, requests.map(|s| s.phi.used), 1.0),
            given_phi: expected.phi,
            errors: errors(judge, spec),
        }
    }

    fn dt_min(&self) -> f64 {
        self.judge.set.dt_s / 60.0
    }

    fn rates(&self, weight: Weight) -> PerArm<f64> {
        PerArm { baseline: self.per_minute * (1.0 - weight.share()), canary: self.per_minute * weight.share() }
    }

    fn expect(&self, weight: Weight, p_b: f64, p_c: f64, phi: f64) -> Expectation {
        let PerArm { baseline: rate_b, canary: rate_c } = self.rates(weight);
        Expectation { rate_b, rate_c, p_b, p_c, phi, dt_min: self.dt_min() }
    }

    fn errors_at(&self, weight: Weight, p_c: f64) -> Expectation {
        self.expect(weight, self.error_rate.0, p_c.min(1.0), self.phi.0)
    }

    /// What is left of the warm-up when each step begins, minutes: it counts from the canary's first requests.
    fn warm_ups(&self) -> Vec<f64> {
        let mut served = 0.0;
        let left = |s: &crate::model::StepTime| {
            let left = (self.judge.set.warm_until_s / 60.0 - served).max(0.0);
            if !s.weight.is_zero() {
                served += s.for_s / 60.0;
            }
            left
        };
        self.spec.steps.iter().map(left).collect()
    }

    fn steps(&self) -> Vec<StepPlan> {
        self.spec.steps.iter().zip(self.warm_ups()).map(|(s, warm_up)| self.step(s.weight, s.for_s / 60.0, warm_up)).collect()
    }

    fn step(&self, weight: Weight, for_min: f64, warm_up: f64) -> StepPlan {
        let compared = !weight.is_zero() && !weight.is_full();
        let errors = self.errors.filter(|_| compared);
        let times = |times: f64| errors.map(|e| self.harm(weight, &e, self.error_rate.0 * times, warm_up));
        let per_minute = self.rates(weight);
        let ok = errors.map(|e| self.ok(weight, &e, warm_up));
        let requests = |m: Minutes| Minutes { median: m.median * per_minute.canary, p90: m.p90 * per_minute.canary };
        StepPlan {
            weight,
            for_min,
            per_minute,
            errors_x2: times(2.0),
            errors_x5: times(5.0),
            outage: (!weight.is_zero()).then(|| self.outage(weight, errors.as_ref(), warm_up)),
            latency_x2: compared.then(|| self.latency(weight, warm_up)).flatten(),
            ok,
            ok_requests: ok.map(requests),
        }
    }

    /// Tolerance of errors: beyond both halves.
    fn harm(&self, weight: Weight, e: &Comparison, p_c: f64, warm_up: f64) -> Minutes {
        let level = self.level() * e.share * MAIN;
        let x = self.errors_at(weight, p_c);
        let [one, other] = e.tolerance.halves().map(|null| corrected(|z| harm_minutes(&x, null, level, z), floor_harm(&x)));
        later(Minutes { median: one.median.max(other.median), p90: one.p90.max(other.p90) }, warm_up)
    }

    fn level(&self) -> f64 {
        (-self.judge.set.ln_rollback).exp()
    }

    /// The first of: the comparison, the guard, the rule of gross failure; the last two need no warm-up.
    fn outage(&self, weight: Weight, errors: Option<&Comparison>, warm_up: f64) -> Minutes {
        let gross = self.gross(weight);
        let gross = Minutes { median: gross, p90: gross };
        let Some(e) = errors else { return gross };
        let x = self.errors_at(weight, 1.0);
        let guard = corrected(|z| harm_minutes(&x, GUARD_NULL, self.level() * e.share * GUARD, z), floor_harm(&x));
        gross.sooner(later(guard, 0.0)).sooner(self.harm(weight, e, 1.0, warm_up))
    }

    /// Two portions of one poll each, or three longer ones (3.1); portions end with polls.
    fn gross(&self, weight: Weight) -> f64 {
        let need = self.given_phi.map_or(self.judge.gross.need(), gross::need);
        let per_poll = self.rates(weight).map(|r| r * self.dt_min());
        let polls = (need / per_poll.canary).ceil();
        // in the bake the baseline's own past stands for it
        let comparable = weight.is_full() || per_poll.baseline * polls >= need;
        match polls <= 1.0 {
            _ if !comparable || self.error_rate.0 >= 0.2 => f64::INFINITY,
            true => 2.0 * self.dt_min(),
            false => 3.0 * polls * self.dt_min(),
        }
    }

    /// The first of all compared quantiles, at the best bound of each.
    fn latency(&self, weight: Weight, warm_up: f64) -> Option<Minutes> {
        let quantiles = self.judge.metrics.iter().filter_map(|m| Some((m.share, m.latency()?)));
        quantiles.filter_map(|(share, t)| self.quantile(weight, share, t)).reduce(Minutes::sooner).map(|m| later(m, warm_up))
    }

    fn quantile(&self, weight: Weight, share: f64, t: &LatencyTest) -> Option<Minutes> {
        let (bounds, tails) = (&self.judge.set.bounds, self.judge.tails.as_ref()?);
        let bound = |b: &super::latency::Bound| {
            let phi = self.given_phi.unwrap_or(self.judge.series[b.series.0].phi.used);
            let x = self.expect(weight, tails[b.j], tail(bounds, tails, bounds[b.j] / 2.0), phi);
            let level = self.level() * share * b.weight * MAIN;
            corrected(|z| harm_minutes(&x, Null { r: b.r, d: 0.0 }, level, z), floor_harm(&x))
        };
        t.frozen()?.zone.iter().map(bound).reduce(Minutes::sooner)
    }

    fn ok(&self, weight: Weight, e: &Comparison, warm_up: f64) -> Minutes {
        // two halves share the level, and either shows it
        let level = (-self.judge.set.ln_ok).exp() / 2.0;
        let x = self.errors_at(weight, self.error_rate.0);
        let [one, other] = e.ok.halves().map(|null| corrected(|z| ok_minutes(&x, null, level, z), floor_ok(&x, level)));
        let m = one.sooner(other);
        Minutes { median: m.median + warm_up, p90: m.p90 + warm_up }
    }

    /// The evidence of all steps adds up (it is never reset): bisection on the canary's error rate.
    fn smallest(&self) -> Option<Minutes> {
        let e = self.errors?;
        Some(Minutes { median: self.least_rate(&e, 0.0, CORRECTION_50), p90: self.least_rate(&e, Z_90, CORRECTION_90) })
    }

    fn least_rate(&self, e: &Comparison, z: f64, correction: f64) -> f64 {
        let found = |p_c: f64| self.is_found(e, p_c, z, correction);
        if !found(1.0) {
            return f64::INFINITY;
        }
        let (mut ln_low, mut ln_high) = (self.error_rate.0.max(1e-9).ln(), 0.0);
        for _ in 0..HALVINGS {
            let middle = f64::midpoint(ln_low, ln_high);
            if found(middle.exp()) { ln_high = middle } else { ln_low = middle }
        }
        ln_high.exp()
    }

    fn is_found(&self, e: &Comparison, p_c: f64, z: f64, correction: f64) -> bool {
        let level = self.level() * e.share * MAIN;
        let steps = self.spec.steps.iter().zip(self.warm_ups()).filter(|(s, _)| !s.weight.is_zero() && !s.weight.is_full());
        let stretches: Vec<Stretch> = steps
            .map(|(s, warm_up)| Stretch {
                expected: self.errors_at(s.weight, p_c),
                minutes: (s.for_s / 60.0 - warm_up).max(0.0) / (correction * JUMP_RULE),
            })
            .collect();
        e.tolerance.halves().iter().all(|null| found_within(&stretches, *null, level, z))
    }
}

fn errors(judge: &Judge, spec: &JudgeSpec) -> Option<Comparison> {
    let is_errors = |m: &Metric| m.kind == MetricKind::Errors && matches!(m.test, Test::Counts(..)) && m.share > 0.0;
    let at = judge.metrics.iter().position(is_errors)?;
    let Margin::Counts { relative, absolute, ok_relative, ok_absolute } = spec.metrics[at].margin else { return None };
    let (tolerance, ok) = (Tolerance { relative, absolute }, Tolerance { relative: ok_relative, absolute: ok_absolute });
    Some(Comparison { tolerance, ok, share: judge.metrics[at].share })
}

/// Median and 90 %, corrected for the bound's optimism; never sooner than the polls allow.
fn corrected(minutes: impl Fn(f64) -> f64, floor: f64) -> Minutes {
    Minutes { median: (CORRECTION_50 * minutes(0.0)).max(floor), p90: (CORRECTION_90 * minutes(Z_90)).max(floor) }
}

/// With the isolated-jump rule and what is left of the warm-up.
fn later(m: Minutes, warm_up: f64) -> Minutes {
    let all = |v: f64| v * JUMP_RULE + warm_up;
    Minutes { median: all(m.median), p90: all(m.p90) }
}

#[cfg(test)]
mod tests;
