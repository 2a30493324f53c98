//! `sensitivity` and `tolerate`: the operator's terms become margins and shares of the budget here and nowhere else.

use super::super::{Fields, Out, keys};
use crate::config::walk::At;
use crate::model::Margin;

/// Largest relative tolerance: eleven times as bad. More is a slip of the unit.
const RELATIVE_MAX: f64 = 10.0;
/// The wide null of a latency's guard: three times as slow (STATISTICS 4, `r_j(2.0)`).
const GUARD: f64 = 2.0;
/// Latency in the bake: stretched by half (STATISTICS 7.3), unless `bake-latency` says otherwise.
pub(super) const BAKE: f64 = 0.5;
/// Gauges are the same at every sensitivity (STATISTICS 10).
const GAUGE: f64 = 0.10;
/// Tolerated slope of the memory floor per minute (STATISTICS 6.1).
const LEAK_PER_MINUTE: f64 = 0.001;

/// Smallest margins of non-inferiority, those of `normal` (STATISTICS 2.3): proving less would need millions of requests.
const OK_RELATIVE: f64 = 0.50;
const OK_ABSOLUTE: f64 = 0.001;
const OK_STRETCH: f64 = 0.25;
const OK_GAUGE: f64 = 0.20;

/// One preset of STATISTICS 10.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::config::rule) struct Sensitivity {
    /// Tolerated relative rise of a share of bad events.
    relative: f64,
    /// Tolerated absolute rise, as a fraction.
    absolute: f64,
    /// Tolerated stretch of the latency distribution.
    stretch: f64,
    /// Shares of the budget.
    pub shares: Shares,
}

/// Shares of the false-rollback budget; they sum to 1 and are redistributed over the metrics a rollout has (STATISTICS 7).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::config::rule) struct Shares {
    pub errors: f64,
    pub p95: f64,
    /// P99; every other quantile but P95 has this share too, which the method does not say: it has no measurement of them.
    pub p99: f64,
    pub cpu: f64,
    pub memory: f64,
    pub leak: f64,
    /// All custom metrics together.
    pub custom: f64,
}

const SHARES: Shares = Shares { errors: 0.40, p95: 0.20, p99: 0.10, cpu: 0.10, memory: 0.10, leak: 0.05, custom: 0.05 };
const SHARES_HIGH: Shares = Shares { errors: 0.65, p95: 0.12, p99: 0.06, cpu: 0.05, memory: 0.05, leak: 0.02, custom: 0.05 };

pub(super) const LOW: Sensitivity = Sensitivity { relative: 0.50, absolute: 0.001, stretch: 0.30, shares: SHARES };
pub(super) const NORMAL: Sensitivity = Sensitivity { relative: 0.20, absolute: 0.0002, stretch: 0.15, shares: SHARES };
pub(super) const HIGH: Sensitivity = Sensitivity { relative: 0.03, absolute: 0.000_03, stretch: 0.075, shares: SHARES_HIGH };

/// Margin of a share of bad events: `tolerate` if it is written, else the preset. Of the two halves the larger binds, so a
/// half that is not written is 0: `{ absolute: 2% }` tolerates two points and no more, whatever the baseline.
pub(super) fn counts(fields: &Fields<'_>, preset: &Sensitivity, out: &mut Out<'_>) -> Option<Margin> {
    let (relative, absolute) = match fields.get("tolerate") {
        None => (preset.relative, preset.absolute),
        Some(at) => {
            let inner = at.fields(keys::TOLERATE_COUNTS, &mut out.report)?;
            let relative = half(&inner, "relative", RELATIVE_MAX, out);
            let absolute = half(&inner, "absolute", 1.0, out);
            let (relative, absolute) = (relative?, absolute?);
            something(&at, relative + absolute, out)?;
            (relative, absolute)
        }
    };
    let (ok_relative, ok_absolute) = ((2.5 * relative).max(OK_RELATIVE), (5.0 * absolute).max(OK_ABSOLUTE));
    Some(Margin::Counts { relative, absolute, ok_relative, ok_absolute })
}

/// Margin of a latency quantile; `bake` is the stretch judged at 100 %.
pub(super) fn latency(fields: &Fields<'_>, preset: &Sensitivity, bake: f64, out: &mut Out<'_>) -> Option<Margin> {
    let harm = relative(fields, preset.stretch, out)?;
    let ok = if harm == preset.stretch { preset_ok(preset) } else { (harm * 5.0 / 3.0).max(OK_STRETCH) };
    Some(Margin::Stretch { harm, guard: GUARD.max(harm), ok, bake })
}

/// 5/3 of the tolerance, at least +25 %: exact for the presets, where `0.15 * 5 / 3` would miss by a bit.
fn preset_ok(preset: &Sensitivity) -> f64 {
    if preset.stretch == LOW.stretch { 0.50 } else { OK_STRETCH }
}

/// Margin of a gauge.
pub(super) fn gauge(fields: &Fields<'_>, out: &mut Out<'_>) -> Option<Margin> {
    let harm = relative(fields, GAUGE, out)?;
    Some(Margin::Ratio { harm, ok: (2.0 * harm).max(OK_GAUGE) })
}

/// Margin of the leak test.
pub(super) const fn leak() -> Margin {
    Margin::Slope { per_unit: LEAK_PER_MINUTE }
}

fn relative(fields: &Fields<'_>, default: f64, out: &mut Out<'_>) -> Option<f64> {
    let Some(at) = fields.get("tolerate") else { return Some(default) };
    let inner = at.fields(keys::TOLERATE_RATIO, &mut out.report)?;
    let relative = half(&inner, "relative", RELATIVE_MAX, out)?;
    something(&at, relative, out)?;
    Some(relative)
}

fn half(fields: &Fields<'_>, key: &str, most: f64, out: &mut Out<'_>) -> Option<f64> {
    let Some(at) = fields.get(key) else { return Some(0.0) };
    let share = at.percent(&mut out.report)?;
    if share <= most {
        return Some(share);
    }
    let most = crate::config::quantity::percent_said(most);
    at.wrong(&mut out.report, format_args!("{} exceeds {most}", at.scalar()), format_args!("write a rise between 0% and {most}"));
    None
}

/// No tolerance at all rolls back for differences nobody can see (STATISTICS 10: .99 of benign releases).
fn something(at: &At<'_>, sum: f64, out: &mut Out<'_>) -> Option<()> {
    if sum > 0.0 {
        return Some(());
    }
    at.wrong(&mut out.report, "tolerates nothing", "write a rise above 0%, such as { relative: 20% }, or leave tolerate out");
    None
}
