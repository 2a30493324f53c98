//! Exact intervals for rates and quantiles of a sample: what a measured number still allows.

use statrs::function::beta::beta_reg;

/// How sure an interval is.
pub(super) const SURE: f64 = 0.99;

/// An interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bounds {
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Bounds {
    pub(super) fn meets(self, other: Self) -> bool {
        self.low <= other.high && other.low <= self.high
    }
}

/// `P(X <= k)` of a binomial.
fn at_most(k: u64, n: u64, p: f64) -> f64 {
    if k >= n || p <= 0.0 {
        1.0
    } else if p >= 1.0 {
        0.0
    } else {
        beta_reg((n - k) as f64, (k + 1) as f64, 1.0 - p)
    }
}

/// The `p` in `[0, 1]` at which a falling function passes `target`. Bisection: an inverse beta function has to be trusted
/// at 0 hits, and this has not.
fn falls_to(target: f64, f: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let mid = 0.5 * (low + high);
        if f(mid) > target { low = mid } else { high = mid }
    }
    0.5 * (low + high)
}

/// Clopper and Pearson's interval of a rate.
pub(super) fn rate(hits: u64, n: u64) -> Bounds {
    let tail = (1.0 - SURE) / 2.0;
    let low = if hits == 0 { 0.0 } else { falls_to(1.0 - tail, |p| at_most(hits - 1, n, p)) };
    let high = if hits == n { 1.0 } else { falls_to(tail, |p| at_most(hits, n, p)) };
    Bounds { low, high }
}

/// The interval of a quantile `q` by order statistics (`sorted`, ascending, may end in infinities), wide enough to compare
/// with a quantile that was itself measured in `other` runs: as if the sample had `n other / (n + other)` runs.
pub(super) fn quantile(sorted: &[f64], q: f64, other: u64) -> Bounds {
    let n = sorted.len() as u64;
    let fewer = (n * other).div_euclid(n + other).max(1);
    let tail = (1.0 - SURE) / 2.0;
    let rank = |p: f64| (0..=fewer).find(|k| at_most(*k, fewer, q) >= p).unwrap_or(fewer) as f64 / fewer as f64;
    let at = |rank: f64, whole: fn(f64) -> f64| sorted[(whole(rank * n as f64) as usize).min(sorted.len() - 1)];
    Bounds { low: at(rank(tail), |r| (r.floor() - 1.0).max(0.0)), high: at(rank(1.0 - tail), f64::ceil) }
}

#[test]
fn the_interval_of_a_rate_is_clopper_and_pearsons() {
    let near = |b: Bounds, low: f64, high: f64| assert!((b.low - low).abs() < 5e-5 && (b.high - high).abs() < 5e-5, "{b:?}");
    near(rate(0, 100), 0.0, 0.051_6); // 1 - .005^(1/100)
    near(rate(100, 100), 0.948_4, 1.0);
    near(rate(5, 20), 0.058_3, 0.559_8);
    for (hits, n) in [(1, 60), (3, 200), (20, 1000)] {
        let b = rate(hits, n);
        assert!((at_most(hits, n, b.high) - 0.005).abs() < 1e-9 && (at_most(hits - 1, n, b.low) - 0.995).abs() < 1e-9, "{hits} of {n}");
    }
}

#[test]
fn the_interval_of_a_median_holds_it_as_often_as_it_says() {
    let mut dice = super::dice::Dice::new(7);
    let held = (0..2000).filter(|_| {
        let mut sample: Vec<f64> = (0..60).map(|_| dice.unit()).collect();
        let mut table: Vec<f64> = (0..400).map(|_| dice.unit()).collect();
        sample.sort_by(f64::total_cmp);
        table.sort_by(f64::total_cmp);
        let b = quantile(&sample, 0.5, 400);
        (b.low..=b.high).contains(&(0.5 * (table[199] + table[200])))
    });
    let b = rate(held.count() as u64, 2000);
    assert!(b.high >= 0.99 && b.low > 0.98, "{b:?}");
}
