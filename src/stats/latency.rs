//! Latency quantiles from classic histogram buckets (STATISTICS 4): a slow request is a bad event at a bound.

use arrayvec::ArrayVec;
use std::f64::consts::LN_2;

/// Most bounds of a ladder.
pub const LADDER_MAX: usize = 40;

/// `2 ln 2 = ln 4`.
const LN_4: f64 = 2.0 * LN_2;
const TAIL_MIN: f64 = 1e-9;

/// Fraction of requests slower than `x`, from the tail fractions at `bounds` (ascending, positive): log-log linear between
/// them, from 1 at a quarter of the first, constant beyond the last. 1 if there is no bound.
pub fn tail(bounds: &[f64], tails: &[f64], x: f64) -> f64 {
    let n = bounds.len().min(tails.len());
    if n == 0 {
        return 1.0;
    }
    let ln_t = |j: usize| tails[j].max(TAIL_MIN).ln();
    let ln_x = x.ln();
    let first = bounds[0].ln();
    if ln_x < first {
        let f = ((ln_x - (first - LN_4)) / LN_4).clamp(0.0, 1.0);
        return (f * ln_t(0)).exp();
    }
    if ln_x >= bounds[n - 1].ln() {
        return tails[n - 1];
    }
    let k = (0..n).rev().find(|&i| bounds[i].ln() <= ln_x).unwrap_or(0);
    let (low, high) = (bounds[k].ln(), bounds[k + 1].ln());
    let f = (ln_x - low) / (high - low);
    ((1.0 - f) * ln_t(k) + f * ln_t(k + 1)).exp()
}

/// `r_j(stretch)`: how much larger the tail above bound `j` is when the whole distribution is stretched by `1 + stretch`;
/// at least 1.
pub fn stretch_ratio(bounds: &[f64], tails: &[f64], j: usize, stretch: f64) -> f64 {
    (tail(bounds, tails, bounds[j] / (1.0 + stretch)) / tails[j].max(TAIL_MIN)).max(1.0)
}

/// The bounds a quantile is judged at.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone {
    /// The bound nearest to the quantile.
    pub primary: usize,
    /// Weight of every bound, 0 outside the zone; they sum to 1.
    pub weights: ArrayVec<f64, LADDER_MAX>,
    /// The primary's tail lies far from the quantile's: the buckets are too coarse for it.
    pub coarse: bool,
}

/// Bounds within a factor 4 of the quantile's odds, weighted by closeness. `tails`: 1 to [`LADDER_MAX`]; `0 < q < 1`.
pub fn zone(tails: &[f64], q: f64) -> Zone {
    let target = ((1.0 - q) / q).ln();
    let distance = |t: &f64| {
        let t = t.clamp(TAIL_MIN, 1.0 - TAIL_MIN);
        ((t / (1.0 - t)).ln() - target).abs()
    };
    let far: ArrayVec<f64, LADDER_MAX> = tails.iter().take(LADDER_MAX).map(distance).collect();
    let primary = (1..far.len()).fold(0, |best, j| if far[j] < far[best] { j } else { best });
    let mut weights: ArrayVec<f64, LADDER_MAX> = far.iter().map(|d| if *d <= LN_4 + 1e-9 { (-d).exp() } else { 0.0 }).collect();
    weights[primary] = weights[primary].max(1e-3);
    let total: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|w| *w /= total);
    let coarse = !((1.0 - q) / 20.0 <= tails[primary] && tails[primary] <= 1.0 - q / 2.0);
    Zone { primary, weights, coarse }
}
