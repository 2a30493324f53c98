//! CPU follows load, and a canary at a small share runs at another load per pod (STATISTICS 6, CPU at unequal load).

/// Fewest points of 5 min that make a fit.
pub const POINTS_MIN: usize = 60;
const DIRECT: f64 = 1.25;
/// Rates and CPU beyond this are no measurements.
const VALUE_MAX: f64 = 1e15;

/// `cpu = a + b rate`, and the loads at which it may be used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadFit {
    /// CPU at rest.
    pub a: f64,
    /// CPU per request and second.
    pub b: f64,
    /// Lowest load it is used at.
    pub low: f64,
    /// Highest.
    pub high: f64,
    /// Does the history cover enough load to count?
    pub wide: bool,
}

/// Least squares with `a >= 0`, `b >= 0` over a day of rates and CPU per pod. `None` with fewer than 60 points, with a value
/// that is no measurement, or without any load.
pub fn fit(rate: &[f64], cpu: &[f64]) -> Option<LoadFit> {
    let n = rate.len();
    if n < POINTS_MIN || cpu.len() != n || rate.iter().chain(cpu).any(|v| !(0.0..=VALUE_MAX).contains(v)) {
        return None;
    }
    let mean = |v: &[f64]| v.iter().sum::<f64>() / n as f64;
    let (mx, my) = (mean(rate), mean(cpu));
    let sxx: f64 = rate.iter().map(|r| (r - mx).powi(2)).sum();
    let sxy: f64 = rate.iter().zip(cpu).map(|(r, c)| (r - mx) * (c - my)).sum();
    let mut b = if sxx > 0.0 { (sxy / sxx).max(0.0) } else { 0.0 };
    let mut a = my - b * mx;
    if a < 0.0 {
        let rr: f64 = rate.iter().map(|r| r * r).sum();
        a = 0.0;
        b = rate.iter().zip(cpu).map(|(r, c)| r * c).sum::<f64>() / rr;
    }
    let mut sorted = rate.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = |q: f64| q * (n - 1) as f64;
    let q05 = sorted[at(0.05).floor() as usize];
    let q95 = sorted[at(0.95).ceil() as usize];
    (a.is_finite() && b.is_finite()).then_some(LoadFit { a, b, low: 0.8 * q05, high: 1.25 * q95, wide: q95 >= 1.3 * q05 })
}

/// How the CPU of a poll is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadKind {
    /// No correction asked for.
    Plain,
    /// By the fit.
    Fit,
    /// Loads are close: a difference may hide a regression, not make one.
    Direct,
    /// Not at all.
    Skip,
}

/// What load alone explains of `ln(cpu_c / cpu_b)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadRatio {
    /// Which case.
    pub kind: LoadKind,
    /// `ln U` of the harm side.
    pub ln_harm: f64,
    /// `ln U` of the non-inferiority side.
    pub ln_ok: f64,
}

impl LoadRatio {
    /// No correction.
    pub const PLAIN: LoadRatio = LoadRatio { kind: LoadKind::Plain, ln_harm: 0.0, ln_ok: 0.0 };
    /// Not comparable.
    pub const SKIP: LoadRatio = LoadRatio { kind: LoadKind::Skip, ln_harm: 0.0, ln_ok: 0.0 };
}

/// At these requests per second and pod.
pub fn ratio(fit: Option<&LoadFit>, rate_b: f64, rate_c: f64) -> LoadRatio {
    if rate_b <= 0.0 || rate_c <= 0.0 {
        return LoadRatio::SKIP;
    }
    if let Some(f) = fit
        && f.wide
        && (f.low..=f.high).contains(&rate_c)
        && (f.low / 2.0..=f.high).contains(&rate_b)
    {
        let u = ((f.a + f.b * rate_c) / (f.a + f.b * rate_b)).ln();
        return if u.is_finite() { LoadRatio { kind: LoadKind::Fit, ln_harm: u, ln_ok: u } } else { LoadRatio::SKIP };
    }
    let close = rate_c / rate_b;
    if !(1.0 / DIRECT..=DIRECT).contains(&close) {
        return LoadRatio::SKIP;
    }
    LoadRatio { kind: LoadKind::Direct, ln_harm: close.ln().max(0.0), ln_ok: close.ln().min(0.0) }
}
