//! What one poll says about counts: bad events out of all, two arms (STATISTICS 2) or one arm and a constant (7.1).
//!
//! Every function returns the logarithm of a factor whose expectation is at most 1 when the null holds, whatever the
//! baseline's rate is at this poll; summed over polls they are evidence against the null.

use super::fast::ln_1p_each;
use super::grid::Grid;

/// Bad events `x` out of `n`, baseline and canary, in the same wall-clock interval. `0 <= x <= n`, all finite.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TwoArms {
    /// Baseline, bad.
    pub x_b: f64,
    /// Baseline, all.
    pub n_b: f64,
    /// Canary, bad.
    pub x_c: f64,
    /// Canary, all.
    pub n_c: f64,
}

impl TwoArms {
    /// A poll that is not usable: every factor is 0.
    pub const NONE: TwoArms = TwoArms { x_b: 0.0, n_b: 0.0, x_c: 0.0, n_c: 0.0 };
}

/// The linear null `p_c <= r p_b + d` (or `>=`, for non-inferiority), `r >= 0`, `d >= 0`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Null {
    /// Factor on the baseline's rate.
    pub r: f64,
    /// Added to it.
    pub d: f64,
}

/// Tolerance of a canary at most `max((1 + relative) p_b, p_b + absolute)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Fraction of the baseline's rate.
    pub relative: f64,
    /// Fraction of requests.
    pub absolute: f64,
}

impl Tolerance {
    /// The two linear nulls whose larger one it is.
    pub fn halves(self) -> [Null; 2] {
        [Null { r: 1.0 + self.relative, d: 0.0 }, Null { r: 1.0, d: self.absolute }]
    }
}

/// What of one linear null does not depend on the alternative.
struct Shares {
    /// The canary's share of bad events at the null's edge, `n_c r / (n_c r + n_b)`.
    th: f64,
    /// `1 - th`.
    rest: f64,
    m: f64,
    x_c: f64,
    n_c_d: f64,
}

impl Shares {
    /// `None` if an arm is empty: then nothing can be compared and the factor is exactly 0.
    fn of(x: &TwoArms, null: Null) -> Option<Self> {
        let scaled = x.n_c * null.r;
        let all = scaled + x.n_b;
        let usable = x.n_c > 0.0 && x.n_b > 0.0;
        usable.then(|| Self { th: scaled / all, rest: x.n_b / all, m: x.x_b + x.x_c, x_c: x.x_c, n_c_d: x.n_c * null.d })
    }

    /// `x_c ln g - (x_b+x_c) la - n_c d (g/a - 1)` with `a = 1 + th (g-1)`; `g/a - 1 = (g-1)(1-th)/a` needs no logarithm.
    #[inline(always)]
    fn ln_factors<const K: usize>(&self, g: &[f64; K], ln_g: &[f64; K]) -> [f64; K] {
        let over = g.map(|g| self.th * (g - 1.0));
        let la = ln_1p_each(&over);
        let mut lf: [f64; K] = std::array::from_fn(|k| self.x_c * ln_g[k] - self.m * la[k]);
        if self.n_c_d > 0.0 {
            let drift = self.n_c_d * self.rest;
            for k in 0..K {
                lf[k] -= drift * (g[k] - 1.0) / (1.0 + over[k]);
            }
        }
        lf
    }
}

/// Log factor of one poll against `p_c <= r p_b + d` for the alternative `g > 1` (harm), or against `p_c >= r p_b + d` for
/// `0 < g < 1` (non-inferiority); nats. Exactly 0 if an arm is empty.
///
/// For independent requests `E[exp] <= 1` whatever `p_b` is; with `d = 0` it is the conditional binomial likelihood ratio.
/// Source: STATISTICS 2.
/// ```
/// # use canaryd::stats::counts::{count_lf, Null, TwoArms};
/// let x = TwoArms { x_b: 3.0, n_b: 950.0, x_c: 1.0, n_c: 50.0 };
/// assert!((count_lf(&x, Null { r: 1.2, d: 0.0 }, 2.0, 2f64.ln()) - 0.46231391007735845).abs() < 1e-12);
/// ```
pub fn count_lf(x: &TwoArms, null: Null, g: f64, ln_g: f64) -> f64 {
    Shares::of(x, null).map_or(0.0, |s| s.ln_factors(&[g], &[ln_g])[0])
}

/// [`count_lf`] for every alternative, divided by the dispersion `phi >= 1` (STATISTICS 3).
pub fn count_lfs<const K: usize>(x: &TwoArms, null: Null, grid: &Grid<K>, phi: f64) -> [f64; K] {
    match Shares::of(x, null) {
        None => [0.0; K],
        Some(s) => s.ln_factors(&grid.g, &grid.ln_g).map(|lf| lf * (1.0 / phi)),
    }
}

/// Harm beyond a [`Tolerance`], for every alternative: at each poll the smaller of the factors of its halves, so that the
/// null is their maximum whichever binds at this poll's `p_b` (the minimum of two accumulated processes is not valid: false
/// alarms of .24 to 1.0, STATISTICS 14.12). Divided by `phi`.
pub fn tolerance_lfs<const K: usize>(x: &TwoArms, tolerance: Tolerance, grid: &Grid<K>, phi: f64) -> [f64; K] {
    let [relative, absolute] = tolerance.halves();
    let (Some(r), Some(a)) = (Shares::of(x, relative), Shares::of(x, absolute)) else { return [0.0; K] };
    smaller(&r.ln_factors(&grid.g, &grid.ln_g), &a.ln_factors(&grid.g, &grid.ln_g), phi)
}

/// At each alternative the smaller one, divided by `phi`.
fn smaller<const K: usize>(a: &[f64; K], b: &[f64; K], phi: f64) -> [f64; K] {
    let mut out = [0.0; K];
    for k in 0..K {
        out[k] = (if a[k] < b[k] { a[k] } else { b[k] }) * (1.0 / phi);
    }
    out
}

/// Log factor of `x` bad out of `n` against a rate of at most `level` (`g > 1`) or at least `level` (`g < 1`); nats. The exact
/// Bernoulli likelihood ratio of odds multiplied by `g` (STATISTICS 7.1). `0 < level < 1`.
/// ```
/// # use canaryd::stats::counts::binom_lf;
/// assert!((binom_lf(20.0, 20.0, 0.05, 100.0, 100f64.ln()) - 56.43557932861108).abs() < 1e-12);
/// ```
pub fn binom_lf(x: f64, n: f64, level: f64, g: f64, ln_g: f64) -> f64 {
    if n == 0.0 { 0.0 } else { x * ln_g - n * f64::ln_1p(level * (g - 1.0)) }
}

/// [`binom_lf`] for every alternative, with `ln_1p(level (g-1))` taken once: a level is a constant.
#[derive(Clone, Copy, Debug)]
pub struct LevelTest<const K: usize> {
    level: f64,
    ln_norm: [f64; K],
}

impl<const K: usize> LevelTest<K> {
    /// Against `level` in `(0, 1)`.
    pub fn new(level: f64, grid: &Grid<K>) -> Self {
        Self { level, ln_norm: grid.g.map(|g| f64::ln_1p(level * (g - 1.0))) }
    }

    /// The level.
    pub fn level(&self) -> f64 {
        self.level
    }

    /// Factors of `x` out of `n`, divided by `phi`.
    pub fn lfs(&self, x: f64, n: f64, grid: &Grid<K>, phi: f64) -> [f64; K] {
        let scale = 1.0 / phi;
        std::array::from_fn(|k| (x * grid.ln_g[k] - n * self.ln_norm[k]) * scale)
    }

    /// The same, attributed to the canary: at each poll the smaller of it and of the comparison `p_c <= ratio p_b`, so that
    /// the null is `p_c <= max(level, ratio p_b)` (STATISTICS 7.1, rollback-above). Without baseline traffic at most 0.
    pub fn attributed_lfs(&self, x: &TwoArms, ratio: f64, grid: &Grid<K>, phi: f64) -> [f64; K] {
        let alone = self.lfs(x.x_c, x.n_c, grid, 1.0);
        let compared = count_lfs(x, Null { r: ratio, d: 0.0 }, grid, 1.0);
        smaller(&alone, &compared, phi)
    }
}
