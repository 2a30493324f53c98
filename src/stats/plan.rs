//! `plan`: how long a fault of a given size takes to be found, or a healthy canary to be shown (STATISTICS 9).

use super::counts::Null;
use super::grid::{DOWN, Grid, UP};
use super::harm::CLIP;
use std::f64::consts::LN_2;

/// Quantile of the normal for a power of 90 %; 0 for the median.
pub const Z_90: f64 = 1.2815515655446004;
/// Corrects the bound's optimism at 90 % power, and at the median (within about 15 % and 30 % of simulation).
pub const CORRECTION_90: f64 = 0.87;
/// At the median.
pub const CORRECTION_50: f64 = 0.78;

/// What is expected to happen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expectation {
    /// Requests per minute of the baseline.
    pub rate_b: f64,
    /// Of the canary.
    pub rate_c: f64,
    /// Bad fraction of the baseline.
    pub p_b: f64,
    /// Of the canary.
    pub p_c: f64,
    /// Dispersion, at least 1.
    pub phi: f64,
    /// Length of a poll, minutes.
    pub dt_min: f64,
}

/// Minutes until harm beyond `null` is found at `level` (alpha x share x 0.9); `z` from [`Z_90`]. Infinite if never.
/// Without [`CORRECTION_90`].
pub fn harm_minutes(x: &Expectation, null: Null, level: f64, z: f64) -> f64 {
    least(x, null, level, z, &UP, LN_2).max(floor_harm(x))
}

/// No harm is found sooner: two polls, minutes.
pub fn floor_harm(x: &Expectation) -> f64 {
    2.0 * x.dt_min
}

/// Minutes until the canary is shown within the margin `null` at `level` (alpha_ok / 2). Infinite if never.
pub fn ok_minutes(x: &Expectation, null: Null, level: f64, z: f64) -> f64 {
    least(x, null, level, z, &DOWN, 0.0).max(floor_ok(x, level))
}

/// Nothing is shown sooner: a poll says at most [`CLIP`], minutes.
pub fn floor_ok(x: &Expectation, level: f64) -> f64 {
    x.dt_min * ((1.0 / level).ln() / CLIP).max(1.0).ceil()
}

/// Some minutes at the same traffic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stretch {
    /// What happens in them.
    pub expected: Expectation,
    /// How many there are.
    pub minutes: f64,
}

/// Is harm beyond `null` found at `level` by the end of these, whose evidence adds up? `z` from [`Z_90`]; the minutes are to be
/// divided by the correction before.
pub fn found_within(stretches: &[Stretch], null: Null, level: f64, z: f64) -> bool {
    (0..UP.g.len()).any(|k| {
        let (sum_i, sum_v) = stretches.iter().fold((0.0, 0.0), |(i, v), s| {
            let (drift, variance) = per_minute(&s.expected, null, UP.g[k], UP.ln_g[k]);
            (i + drift * s.minutes, v + variance * s.minutes)
        });
        sum_i - z * sum_v.max(0.0).sqrt() >= -level.ln() - UP.ln_pi[k] + LN_2
    })
}

fn least<const K: usize>(x: &Expectation, null: Null, level: f64, z: f64, grid: &Grid<K>, onset: f64) -> f64 {
    (0..K).map(|k| one(x, null, z, grid.g[k], grid.ln_g[k], -level.ln() - grid.ln_pi[k] + onset)).fold(f64::INFINITY, f64::min)
}

/// Time to `threshold` for one alternative.
fn one(x: &Expectation, null: Null, z: f64, g: f64, ln_g: f64, threshold: f64) -> f64 {
    let (i, v) = per_minute(x, null, g, ln_g);
    if i.is_nan() || i <= 0.0 {
        return f64::INFINITY;
    }
    let root = (z * v.sqrt() + (z * z * v + 4.0 * i * threshold).sqrt()) / (2.0 * i);
    root * root
}

/// Drift and variance per minute of the log factor of one alternative.
fn per_minute(x: &Expectation, null: Null, g: f64, ln_g: f64) -> (f64, f64) {
    let th = x.rate_c * null.r / (x.rate_c * null.r + x.rate_b);
    let la = (th * (g - 1.0)).ln_1p();
    let (c, b) = (x.rate_c * x.p_c, x.rate_b * x.p_b);
    let i = (c * ln_g - (c + b) * la - x.rate_c * null.d * (ln_g - la).exp_m1()) / x.phi;
    let v = (c * (ln_g - la).powi(2) + b * la * la) / x.phi;
    (i, v)
}
