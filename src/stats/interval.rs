//! Anytime confidence intervals for display, never for decisions (STATISTICS 8).

use std::f64::consts::TAU;

/// Most steps of Newton's method; it needs 3 to 6.
const STEPS: usize = 60;

/// A last step this small beside the half-width leaves an error of its square.
const NEGLIGIBLE: f64 = 1e-6;
/// Below it `exp` is 0: next to no data.
const LN_ZERO: f64 = -745.0;

/// Log e-value of `x` bad out of `n` against the rate `p`, beta-binomial mixture with prior Beta(1/2, 1/2); `x` and `n` may be
/// fractions (counts divided by the dispersion). Nats; infinite where `p` makes the data impossible.
pub fn ln_evidence(x: f64, n: f64, p: f64) -> f64 {
    ln_mixture(x, n) - ln_likelihood(x, n, p)
}

fn ln_mixture(x: f64, n: f64) -> f64 {
    ln_beta(0.5 + x, 0.5 + (n - x).max(0.0)) - LN_PI
}

/// `ln B(a, b)`, `a` and `b` at least 0.5. Of few requests by statrs; of many by Stirling's series of the three gammas at once:
/// their large parts cancel before anything is rounded, where `lgamma(a) + lgamma(b) - lgamma(a + b)` is off by 2e-10 at
/// 100 000 requests.
fn ln_beta(mut a: f64, mut b: f64) -> f64 {
    if a + b <= SUM_OF_GAMMAS_MAX {
        return statrs::function::beta::ln_beta(a, b);
    }
    let mut up = 1.0;
    while a < STIRLING_MIN {
        up *= (a + b) / a;
        a += 1.0;
    }
    while b < STIRLING_MIN {
        up *= (a + b) / b;
        b += 1.0;
    }
    let c = a + b;
    let rest = stirling_rest(a) + stirling_rest(b) - stirling_rest(c);
    a * (a / c).ln() - b * (a / b).ln_1p() + 0.5 * (TAU * c / (a * b)).ln() + rest + up.ln()
}

/// Up to here the sum of three `lgamma` keeps 12 digits behind the point.
const SUM_OF_GAMMAS_MAX: f64 = 200.0;
const STIRLING_MIN: f64 = 10.0;
/// `ln B(1/2, 1/2)`.
const LN_PI: f64 = 1.1447298858494002;

/// `ln Gamma(x) - ((x - 1/2) ln x - x + ln(2 pi)/2)`, to 2e-14 for `x >= 10`.
fn stirling_rest(x: f64) -> f64 {
    let y = 1.0 / (x * x);
    (1.0 / 12.0 - y * (1.0 / 360.0 - y * (1.0 / 1260.0 - y * (1.0 / 1680.0 - y / 1188.0)))) / x
}

fn ln_likelihood(x: f64, n: f64, p: f64) -> f64 {
    let bad = if x > 0.0 { x * p.ln() } else { 0.0 };
    let good = if n - x > 0.0 { (n - x) * (-p).ln_1p() } else { 0.0 };
    bad + good
}

/// `{p: evidence against p < ln(1/alpha)}` as an interval; `(0, 1)` without data.
pub fn rate(x: f64, n: f64, alpha: f64) -> (f64, f64) {
    let good = n - x;
    if n.is_nan() || n <= 0.0 {
        return (0.0, 1.0);
    }
    // the likelihood at the limits
    let target = alpha.ln() + ln_mixture(x, n);
    let low = if x <= 0.0 { 0.0 } else { ln_lower(x, good, target).exp() };
    let high = if good <= 0.0 { 1.0 } else { -ln_lower(good, x, target).exp_m1() };
    (low, high)
}

/// `ln p` of the lower of the two `p` where `x ln p + rest ln(1-p) = target`; `x > 0`, the maximum lies above `target`.
///
/// Newton's method on `theta = ln p`: minus the likelihood is convex there, so from its second step on it comes down to the
/// root from below without passing it.
fn ln_lower(x: f64, rest: f64, target: f64) -> f64 {
    let n = x + rest;
    if rest <= 0.0 {
        return target / x;
    }
    let best = (x / n).ln();
    let spare = x * best + rest * (rest / n).ln() - target;
    let curvature = x * n / rest;
    let mut theta = best - (2.0 * spare / curvature).sqrt();
    for _ in 0..STEPS {
        if theta.is_nan() || theta < LN_ZERO {
            return f64::NEG_INFINITY;
        }
        // ln(1-p) and p/(1-p) from one exponential
        let q = -theta.exp_m1();
        let excess = target - x * theta - rest * q.ln();
        let step = excess / (rest * (1.0 - q) / q - x);
        theta -= step;
        // the error that remains is about the square of the last step
        if step.abs() <= NEGLIGIBLE * (best - theta).abs() {
            break;
        }
    }
    theta
}

/// The number of requests slower than the quantile at which evidence against it reaches the limit, `above` its expectation
/// or below; `None` if it is not reached by any number of them. Counts here are divided by the dispersion.
///
/// The evidence is convex in that number, with its least value near `n (1-q)`: Newton's method with the digamma function.
fn tail_limit(n: f64, q: f64, alpha: f64, above: bool) -> Option<f64> {
    let p = 1.0 - q;
    let far = |t: f64| ln_evidence(t, n, p) + alpha.ln();
    let (end, sign) = if above { (n, 1.0) } else { (0.0, -1.0) };
    if far(end) < 0.0 {
        return None;
    }
    let ln_odds = (p / q).ln();
    let spread = (2.0 * n * p * q * (-alpha.ln() + 0.5 * (n + 1.0).ln())).sqrt() + 1.0;
    let mut t = (n * p + sign * spread).clamp(0.0, n);
    for _ in 0..STEPS {
        let slope = digamma(0.5 + t) - digamma(0.5 + n - t) - ln_odds;
        let step = far(t) / slope;
        // near the middle the slope may point the wrong way
        let next = if slope * sign > 0.0 { (t - step).clamp(0.0, n) } else { 0.5 * (t + end) };
        let done = (next - t).abs() <= NEGLIGIBLE * (next - n * p).abs();
        t = next;
        if done {
            break;
        }
    }
    Some(t)
}

/// Derivative of `ln Gamma`, to 1e-12 for `x >= 0.5`; only steers Newton's method.
fn digamma(mut x: f64) -> f64 {
    let mut down = 0.0;
    while x < STIRLING_MIN {
        down += 1.0 / x;
        x += 1.0;
    }
    let y = 1.0 / (x * x);
    x.ln() - 0.5 / x - y * (1.0 / 12.0 - y * (1.0 / 120.0 - y * (1.0 / 252.0 - y / 240.0))) - down
}

/// Where the number of slower requests, log-linear inside a bucket, falls to `t`: the largest such place if `last`, else the
/// smallest. `cumulative`: counts at `bounds`, then all.
fn place_of(bounds: &[f64], cumulative: &[f64], t: f64, last: bool) -> f64 {
    let n = cumulative.last().copied().unwrap_or(0.0);
    let (mut low, mut below) = (bounds.first().map_or(0.0, |b| b / 4.0), 0.0);
    for (&b, &upto) in bounds.iter().zip(cumulative) {
        let (start, end) = (n - below, n - upto);
        if (last && end < t) || (!last && end <= t) {
            let part = if start > end { ((start - t) / (start - end)).clamp(0.0, 1.0) } else { 0.0 };
            return low * (b / low).powf(part);
        }
        (low, below) = (b, upto);
    }
    low
}

/// Interval of the quantile `q` of one arm. `cumulative`: counts at `bounds`, then all. Lower end 0 if none can be given, upper
/// end infinite beyond the last bound. `None` without data.
pub fn quantile(bounds: &[f64], cumulative: &[f64], q: f64, alpha: f64, phi: f64) -> Option<(f64, f64)> {
    let n = *cumulative.last()?;
    if bounds.is_empty() || cumulative.len() != bounds.len() + 1 || n.is_nan() || n <= 0.0 {
        return None;
    }
    let beyond = n - cumulative[bounds.len() - 1];
    let low = tail_limit(n / phi, q, alpha, true).map_or(0.0, |t| place_of(bounds, cumulative, t * phi, true));
    let high = match tail_limit(n / phi, q, alpha, false) {
        Some(t) if beyond <= t * phi => place_of(bounds, cumulative, t * phi, false),
        _ => f64::INFINITY,
    };
    Some((low, high))
}

/// Point estimate of the quantile by the same interpolation; the last bound if it lies beyond.
pub fn quantile_estimate(bounds: &[f64], cumulative: &[f64], q: f64) -> Option<f64> {
    let n = *cumulative.last()?;
    let target = q * n;
    if n.is_nan() || n <= 0.0 {
        return None;
    }
    let (mut low, mut below) = (bounds.first()? / 4.0, 0.0);
    for (&b, &upto) in bounds.iter().zip(cumulative) {
        if upto >= target {
            let part = if upto > below { (target - below) / (upto - below) } else { 1.0 };
            return Some(low * (b / low).powf(part));
        }
        (low, below) = (b, upto);
    }
    bounds.last().copied()
}
