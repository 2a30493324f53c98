//! Gauges: the log-ratio of the arms, whitened, against its own symmetrisation (STATISTICS 6).

use super::fast::ln_1p_exp_each;
use super::grid::{K_MU, MU};
use std::f64::consts::LN_2;

/// Largest autocorrelation at the reference interval.
const RHO_MAX: f64 = 0.98;
/// The floor of the scale, 0.1 % per poll: a constant history must not turn a tiny wiggle into infinite evidence.
const VARIANCE_MIN: f64 = 1e-6;
/// More ticks than this since the last point: it primes again.
const GAP_MAX: i64 = 2;

/// Frozen parameters of an ARMA(1,1) by moments, the innovation's scale and its dispersion.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calibration {
    /// Autoregression, `0..=RC`.
    pub rho: f64,
    /// Moving average, `0..1`.
    pub theta: f64,
    /// Scale of the innovations.
    pub s: f64,
    /// Dispersion, at least 1.
    pub phi: f64,
}

/// Block lengths in polls, each at least 1, ascending, each once.
fn scales(dt_s: f64, blocks_s: &[f64]) -> Vec<usize> {
    let mut v: Vec<usize> = blocks_s.iter().map(|s| ((s / dt_s + 0.5 + 1e-9).floor().max(1.0)) as usize).collect();
    v.sort_unstable();
    v.dedup();
    v
}

/// From the A/A log-ratios `y` of the baseline's history (at least 3, finite), polls of `dt_s`; `memory_s`: interval at which
/// autocorrelation is capped at .98. Never repeated: re-estimating live lets a leak inflate the scale (late leaks found in
/// 20 % instead of 97 %).
pub fn calibrate(y: &[f64], dt_s: f64, memory_s: f64, blocks_s: &[f64]) -> Calibration {
    let cap = RHO_MAX.powf(dt_s / memory_s);
    let n = y.len() as f64;
    let mean = y.iter().sum::<f64>() / n;
    let v: Vec<f64> = y.iter().map(|a| a - mean).collect();
    let lag = |k: usize| v.iter().skip(k).zip(&v).map(|(a, b)| a * b).sum::<f64>() / n;
    let (c0, c1, c2) = (lag(0).max(1e-12), lag(1), lag(2));
    let (rho, r1, r2, large) = autocorrelation(c0, c1, c2, n, cap);
    let theta = moving_average(rho, r1, r2, large);
    let e = innovations(&v, rho, theta);
    let count = e.len() as f64;
    let s0 = e.iter().map(|a| a * a).sum::<f64>() / count;
    let s = (e.iter().map(|a| (a * a).min(25.0 * s0)).sum::<f64>() / count).max(VARIANCE_MIN).sqrt();
    let z: Vec<f64> = e.iter().map(|a| (a / s).clamp(-4.0, 4.0)).collect();
    Calibration { rho, theta, s, phi: dispersion(&z, &scales(dt_s, blocks_s)) }
}

/// Autocorrelations corrected for the mean that was taken out: `rho`, lags 1 and 2, and whether they are large.
fn autocorrelation(c0: f64, c1: f64, c2: f64, n: f64, cap: f64) -> (f64, f64, f64, bool) {
    let mut r = (c1 / c0).clamp(0.0, cap);
    let (mut r1, mut r2, mut large) = (r, r, false);
    for _ in 0..3 {
        let b = c0 * ((1.0 + r) / (1.0 - r)).min(n / 4.0) / n;
        r1 = ((c1 + b) / (c0 + b)).clamp(0.0, cap);
        r2 = ((c2 + b) / (c0 + b)).clamp(0.0, cap);
        large = r1 > (3.0 / n.sqrt()).max(0.15);
        r = if large { (r2 / r1.max(1e-9)).max(r1).min(cap) } else { r1 };
    }
    (r, r1, r2, large)
}

fn moving_average(rho: f64, r1: f64, r2: f64, large: bool) -> f64 {
    let vu = 1.0 + rho * rho - 2.0 * rho * r1;
    let cu = r1 * (1.0 + rho * rho) - rho * (1.0 + r2);
    let q = (-cu / vu.max(1e-9)).clamp(0.0, 0.49);
    if large && q > 1e-6 { (1.0 - (1.0 - 4.0 * q * q).sqrt()) / (2.0 * q) } else { 0.0 }
}

fn innovations(v: &[f64], rho: f64, theta: f64) -> Vec<f64> {
    let mut before = 0.0;
    let mut e: Vec<f64> = v
        .windows(2)
        .map(|w| {
            before = w[1] - rho * w[0] + theta * before;
            before
        })
        .collect();
    let mean = e.iter().sum::<f64>() / e.len() as f64;
    e.iter_mut().for_each(|a| *a -= mean);
    e
}

fn dispersion(z: &[f64], scales: &[usize]) -> f64 {
    let n = z.len();
    let mut ph: f64 = 0.8;
    for &l in scales {
        let blocks = n / l;
        if blocks < 2 {
            continue;
        }
        let squares: f64 = z.chunks_exact(l).map(|c| c.iter().sum::<f64>().powi(2)).sum();
        ph = ph.max((squares * n as f64 / (n - l) as f64 + 4.0) / ((blocks * l) as f64 + 4.0));
    }
    (1.25 * ph).max(1.0)
}

/// Log of the likelihood ratio of N(mu, 1) against its own symmetrisation at the standardised innovation `z`; at most `ln 2`.
/// Expectation exactly 1 for any symmetric innovation, heavy tails included.
pub fn gauge_lf(z: f64, mu: f64) -> f64 {
    gauge_lfs(z, &[mu])[0]
}

fn gauge_lfs<const K: usize>(z: f64, mu: &[f64; K]) -> [f64; K] {
    let a = mu.map(|mu| -2.0 * mu * z);
    let soft = ln_1p_exp_each(&a.map(|a| -a.abs()));
    std::array::from_fn(|k| LN_2 - (a[k].max(0.0) + soft[k]))
}

/// Which side a stream tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Worse than tolerated.
    Harm,
    /// Not worse than the margin.
    Ok,
}

/// Live innovations of one side with frozen parameters.
#[derive(Clone, Debug)]
pub struct GaugeStream {
    cal: Calibration,
    mu0: f64,
    sign: f64,
    last: Option<(f64, i64)>,
    e: f64,
}

impl GaugeStream {
    /// `mu0`: tolerated log-ratio.
    pub fn new(cal: Calibration, mu0: f64, side: Side) -> Self {
        let sign = if side == Side::Harm { 1.0 } else { -1.0 };
        Self { cal, mu0, sign, last: None, e: 0.0 }
    }

    /// The next point primes.
    pub fn reprime(&mut self) {
        self.last = None;
    }

    /// One usable point `y` at tick number `tick`. `None` if it primes (the first, and after a gap); else the factors,
    /// divided by the dispersion.
    pub fn lfs(&mut self, y: f64, tick: i64) -> Option<[f64; K_MU]> {
        let v = self.sign * (y - self.mu0);
        let before = self.last.filter(|(_, at)| tick - at <= GAP_MAX);
        self.last = Some((v, tick));
        let Some((v0, _)) = before else {
            self.e = 0.0;
            return None;
        };
        self.e = v - self.cal.rho * v0 + self.cal.theta * self.e;
        let z = self.e / self.cal.s;
        Some(gauge_lfs(z, &MU.g).map(|lf| lf / self.cal.phi))
    }
}
