//! Anytime confidence intervals for display, never for decisions (STATISTICS 8).

use std::f64::consts::TAU;

/// Steps of a bisection: enough for any two `f64` of one sign to meet.
const STEPS: usize = 200;

/// Log e-value of `x` bad out of `n` against the rate `p`, beta-binomial mixture with prior Beta(1/2, 1/2); `x` and `n` may be
/// fractions (counts divided by the dispersion). Nats; infinite where `p` makes the data impossible.
pub fn ln_evidence(x: f64, n: f64, p: f64) -> f64 {
    ln_mixture(x, n) - ln_likelihood(x, n, p)
}

fn ln_mixture(x: f64, n: f64) -> f64 {
    ln_beta(0.5 + x, 0.5 + (n - x).max(0.0)) - LN_PI
}

/// `ln B(a, b)`, `a` and `b` at least 0.5. By Stirling's series of the three gammas at once: their large parts cancel before
/// anything is rounded, where `lgamma(a) + lgamma(b) - lgamma(a + b)` is off by 2e-10 at 100 000 requests.
fn ln_beta(mut a: f64, mut b: f64) -> f64 {
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
    if n <= 0.0 {
        return (0.0, 1.0);
    }
    let (mixture, c, mid) = (ln_mixture(x, n), -alpha.ln(), x / n);
    let inside = |p: f64| mixture - ln_likelihood(x, n, p) < c;
    let low = if x <= 0.0 || inside(1e-300) { 0.0 } else { bisect(0.0, mid, inside, true) };
    let high = if n - x <= 0.0 { 1.0 } else { bisect(mid, 1.0, inside, false) };
    (low, high)
}

/// Where `inside` changes between `low` and `high`; `rising`: it is true at the upper end.
fn bisect(mut low: f64, mut high: f64, inside: impl Fn(f64) -> bool, rising: bool) -> f64 {
    for _ in 0..STEPS {
        let mid = 0.5 * (low + high);
        if mid <= low || mid >= high {
            break;
        }
        if inside(mid) == rising {
            high = mid;
        } else {
            low = mid;
        }
    }
    0.5 * (low + high)
}

/// Requests slower than `x`, from `cumulative` counts at `bounds` (the last entry of `cumulative` is all): log-linear inside
/// a bucket, the first from a quarter of its bound, constant beyond the last.
fn slower(bounds: &[f64], cumulative: &[f64], x: f64) -> f64 {
    let n = cumulative.last().copied().unwrap_or(0.0);
    let first = bounds.first().map_or(0.0, |b| b / 4.0);
    if x <= first {
        return n;
    }
    let (mut low, mut below) = (first, 0.0);
    for (&b, &upto) in bounds.iter().zip(cumulative) {
        if x < b {
            return n - below - (upto - below) * ((x / low).ln() / (b / low).ln());
        }
        (low, below) = (b, upto);
    }
    n - below
}

/// Interval of the quantile `q` of one arm. `cumulative`: counts at `bounds`, then all. Lower end 0 if none can be given, upper
/// end infinite beyond the last bound. `None` without data.
pub fn quantile(bounds: &[f64], cumulative: &[f64], q: f64, alpha: f64, phi: f64) -> Option<(f64, f64)> {
    let n = *cumulative.last()?;
    let (first, last) = (bounds.first()? / 4.0, *bounds.last()?);
    if cumulative.len() != bounds.len() + 1 || n.is_nan() || n <= 0.0 {
        return None;
    }
    let c = -alpha.ln();
    let far = |t: f64| ln_evidence(t / phi, n / phi, 1.0 - q) >= c;
    let too_low = |x: f64| {
        let t = slower(bounds, cumulative, x);
        t / n > 1.0 - q && far(t)
    };
    let not_too_high = |x: f64| {
        let t = slower(bounds, cumulative, x);
        !(t / n < 1.0 - q && far(t))
    };
    let low = if !too_low(first) {
        0.0
    } else if too_low(last) {
        last
    } else {
        bisect(first, last, too_low, false)
    };
    let high = if not_too_high(last) { f64::INFINITY } else { bisect(first, last, not_too_high, false) };
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
