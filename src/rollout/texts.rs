//! Words for reasons: what an operator, a page and a message say.

use crate::model::{Breach, Reason, Vanished};
use std::time::Duration;

/// One sentence for a reason to roll back; `metrics` are the names of the rule's metrics, by position.
pub fn reason_text(reason: &Reason, metrics: &[String]) -> String {
    match reason {
        Reason::Breach { breach, during_shared } => {
            let incident = if *during_shared { ", during a shared incident" } else { "" };
            format!("{}{incident}", breach_text(breach, metrics))
        }
        Reason::Vanished(how) => vanished(*how).to_owned(),
        Reason::Person { by, why } if why.is_empty() => format!("{by} said so"),
        Reason::Person { by, why } => format!("{by} said so: {why}"),
        Reason::Policy { which, after } if after.is_zero() => format!("policy {which}"),
        Reason::Policy { which, after } => format!("policy {which}, after {}", duration(*after)),
        Reason::Superseded { version } if version.is_empty() => "a newer version is out".to_owned(),
        Reason::Superseded { version } => format!("a newer version is out: {version}"),
        Reason::Alert { name, text } if text.is_empty() => format!("alert {name} names the canary"),
        Reason::Alert { name, text } => format!("alert {name} names the canary: {text}"),
        Reason::Hook { hook, text } => format!("hook {} did not let it pass: {text}", hook.name()),
        Reason::WindowClosed { words } => format!("the maintenance window is over ({words})"),
        Reason::Pods { sign, text } => format!("{} among the canary's pods: {text}", sign.name()),
    }
}

fn breach_text(breach: &Breach, metrics: &[String]) -> String {
    match breach {
        Breach::Metric(m) => format!("{} is worse than tolerated", metric_name(metrics, *m)),
        Breach::Limit(m) => format!("{} is beyond its rollback-above limit", metric_name(metrics, *m)),
        Breach::Bake { metric, derived: true } => format!("{} is far beyond what the old version had", metric_name(metrics, *metric)),
        Breach::Bake { metric, derived: false } => format!("{} is beyond its rollback-above limit", metric_name(metrics, *metric)),
        Breach::Gross => "half of the canary's requests fail".to_owned(),
        Breach::Abandoned => vanished(Vanished::Abandoned).to_owned(),
    }
}

pub(super) const fn vanished(how: Vanished) -> &'static str {
    match how {
        Vanished::Abandoned => "the canary's requests do not come back: half of its clients leave before an answer",
        Vanished::Unserved => "the canary's requests do not come back: under a quarter of those sent are served",
        Vanished::Silent => "the canary's requests do not come back: every process of it is silent while the baseline's answer",
    }
}

pub(super) fn metric_name(metrics: &[String], index: u8) -> &str {
    metrics.get(usize::from(index)).map_or("a metric", String::as_str)
}

/// `45 s`, `10 min`, `1 h 30 min`.
pub(super) fn duration(d: Duration) -> String {
    let s = d.as_secs();
    match (s / 3600, s / 60 % 60, s % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, 0) => format!("{m} min"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, 0, _) => format!("{h} h"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}
