//! `promote-below`, `warn-above`, `rollback-above`, `page-above`: absolute limits of one metric (STATISTICS 7.1).

use super::super::{Fields, Out, keys};
use crate::config::walk::At;
use crate::model::Limits;
use crate::model::rule::ShareOf;
use std::time::Duration;

/// A limit below or above these is a slip of the unit.
const LATENCY_MIN: Duration = Duration::from_millis(1);
const LATENCY_MAX: Duration = Duration::from_secs(3600);
const SUSTAINED_MIN: Duration = Duration::from_secs(1);
const SUSTAINED_MAX: Duration = Duration::from_secs(3600);

/// Largest share of what a pod asks for; more is a slip.
const REQUESTS_MAX: f64 = 10.0;

/// In what unit the limits of a metric are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// A share of bad events.
    Bad,
    /// A share of good events: low is bad, and the keys say so.
    Good,
    /// A time; kept in ms.
    Latency,
    /// CPU: cores, or a share of what a pod asks for or may use.
    Cores { share: Option<ShareOf> },
    /// Memory: a size, or a share.
    Bytes { share: Option<ShareOf> },
    /// The query's own; where less is worse, the keys say so.
    Own { lower_is_worse: bool },
}

impl Unit {
    /// Low is bad.
    const fn is_below(self) -> bool {
        matches!(self, Unit::Good | Unit::Own { lower_is_worse: true })
    }

    /// The four keys.
    const fn keys(self) -> [&'static str; 4] {
        if self.is_below() { keys::BELOW } else { keys::ABOVE }
    }
}

pub(super) fn limits(fields: &Fields<'_>, unit: Unit, out: &mut Out<'_>) -> Option<Limits> {
    let before = out.report.problems.len();
    let at = unit.keys().map(|name| fields.get(name));
    let values = [0, 1, 2, 3].map(|i| at[i].as_ref().and_then(|at| value(at, unit, out)));
    order(&at, values, unit, out);
    let sustained = match fields.get("for") {
        Some(at) => at.duration(SUSTAINED_MIN..=SUSTAINED_MAX, &mut out.report),
        None => None,
    };
    let [promote_below, warn_above, rollback_above, page_above] = values;
    let limits = Limits { promote_below, warn_above, rollback_above, page_above, sustained };
    (out.report.problems.len() == before).then_some(limits)
}

fn value(at: &At<'_>, unit: Unit, out: &mut Out<'_>) -> Option<f64> {
    match unit {
        Unit::Bad => share(at, out),
        Unit::Good => share(at, out).map(|good| 1.0 - good),
        Unit::Latency => Some(at.duration(LATENCY_MIN..=LATENCY_MAX, &mut out.report)?.as_secs_f64() * 1e3),
        Unit::Cores { share: Some(of) } | Unit::Bytes { share: Some(of) } => share_of(at, of, out),
        Unit::Cores { share: None } | Unit::Bytes { share: None } if at.scalar().ends_with('%') => {
            at.wrong(&mut out.report, format_args!("{} of what?", at.scalar()), "write of: requests or of: limits beside it");
            None
        }
        Unit::Cores { share: None } => at.real(1e-6..=1e6, &mut out.report),
        Unit::Bytes { share: None } => at.bytes(&mut out.report),
        Unit::Own { .. } => at.real(-1e300..=1e300, &mut out.report),
    }
}

fn share(at: &At<'_>, out: &mut Out<'_>) -> Option<f64> {
    let share = at.percent(&mut out.report)?;
    if share > 0.0 && share < 1.0 {
        return Some(share);
    }
    at.wrong(&mut out.report, format_args!("{} is no limit", at.scalar()), "write a share above 0% and below 100%");
    None
}

/// A pod may use more than it asks for, and never more than its limits.
fn share_of(at: &At<'_>, of: ShareOf, out: &mut Out<'_>) -> Option<f64> {
    let most = match of {
        ShareOf::Requests => REQUESTS_MAX,
        ShareOf::Limits => 1.0,
    };
    let share = at.percent(&mut out.report)?;
    if share > 0.0 && share <= most {
        return Some(share);
    }
    let most = crate::config::quantity::percent_said(most);
    at.wrong(&mut out.report, format_args!("{} is no limit", at.scalar()), format_args!("write a share above 0% and at most {most}"));
    None
}

/// Each pair a limit must not pass: promote, warn, rollback, page by position.
const ORDER: [(usize, usize); 5] = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3)];

/// What may be promoted must not warn, what only warns must not roll back or page. Rolling back and paging have no order.
fn order(at: &[Option<At<'_>>; 4], values: [Option<f64>; 4], unit: Unit, out: &mut Out<'_>) {
    for (low, high) in ORDER {
        let (Some(low_at), Some(high_at)) = (&at[low], &at[high]) else { continue };
        let (Some(low_value), Some(high_value)) = (values[low], values[high]) else { continue };
        // shares of good events are kept as those of bad ones; a gauge's own values are kept as they are written
        let turned = matches!(unit, Unit::Own { lower_is_worse: true });
        if if turned { high_value <= low_value } else { high_value >= low_value } {
            continue;
        }
        let (side, name) = (if unit.is_below() { "above" } else { "below" }, last(&low_at.path));
        let what = format!("{} is {side} the {} of {name}", high_at.scalar(), low_at.scalar());
        high_at.wrong(&mut out.report, what, way_out(unit));
    }
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

fn way_out(unit: Unit) -> String {
    let [promote, warn, rollback, page] = unit.keys();
    let sign = if unit.is_below() { ">=" } else { "<=" };
    format!("keep {promote} {sign} {warn} {sign} {rollback} and {page}")
}

/// What to write where a limit is missing.
pub(super) const fn example(unit: Unit) -> &'static str {
    match unit {
        Unit::Bad => "add a limit such as rollback-above: 5%",
        Unit::Good => "add a limit such as rollback-below: 80%",
        Unit::Latency => "add a limit such as rollback-above: 5s",
        Unit::Cores { share: Some(_) } | Unit::Bytes { share: Some(_) } => "add a limit such as rollback-above: 90%",
        Unit::Cores { share: None } => "add a limit such as rollback-above: 1.5",
        Unit::Bytes { share: None } => "add a limit such as rollback-above: 512MiB",
        Unit::Own { lower_is_worse: false } => "add a limit such as rollback-above: 100",
        Unit::Own { lower_is_worse: true } => "add a limit such as rollback-below: 100",
    }
}
