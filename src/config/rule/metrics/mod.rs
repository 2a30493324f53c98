//! `metrics` and `sensitivity`: what is measured, how much worse is tolerable, and the absolute limits. A metric's name says
//! its kind; a name of one's own has `bad:` or `good:` with `total:` (counts), or `query:` (a gauge).

mod limits;
mod margin;
mod pods;
#[cfg(test)]
mod tests;

pub(super) use pods::{PROBES_MAX, SIGNS};

use super::{Fields, Out, keys, word};
use crate::config::quantity::plain;
use crate::config::walk::{At, one_of};
use crate::model::rule::{CustomCounts, CustomGauge, PodHealth, ShareOf};
use crate::model::{Advance, CUSTOM_MAX, Limits, METRICS_MAX, Margin, MetricKind, MetricSpec};
use limits::Unit;
use margin::Sensitivity;
use std::collections::BTreeMap;

/// Name of the metric that `leak: true` adds.
const LEAK: &str = "memory-leak";
pub(super) const SENSITIVITY: &[(&str, margin::Sensitivity)] = &[("low", margin::LOW), ("normal", margin::NORMAL), ("high", margin::HIGH)];
/// The pod's amount that a gauge's limit is a share of.
pub(super) const OF: &[(&str, ShareOf)] = &[("requests", ShareOf::Requests), ("limits", ShareOf::Limits)];
const NONE: &str = "write at least one, such as error-rate: {}";

/// All metrics of a rule.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    pub specs: Vec<MetricSpec>,
    pub counts: Vec<CustomCounts>,
    pub gauges: Vec<CustomGauge>,
    pub cpu_load_rule: bool,
    pub pod_health: Option<PodHealth>,
    pub shares: BTreeMap<String, ShareOf>,
}

/// What every metric of a rule shares.
struct Common {
    preset: Sensitivity,
    bake: f64,
}

pub(super) fn metrics(fields: &Fields<'_>, out: &mut Out<'_>) -> Option<Metrics> {
    let preset = word(fields, "sensitivity", SENSITIVITY, out).unwrap_or(margin::NORMAL);
    let common = Common { preset, bake: bake_latency(fields, out) };
    let at = fields.need("metrics", NONE, &mut out.report)?;
    let before = out.report.problems.len();
    let mut metrics = Metrics { cpu_load_rule: true, ..Metrics::default() };
    for (name, at) in at.members(&mut out.report) {
        metric(name, &at, &common, &mut metrics, out);
    }
    if metrics.specs.is_empty() && out.report.problems.len() == before {
        at.wrong(&mut out.report, "names no metric to compare or to limit", NONE);
    }
    too_many(&at, &metrics, out);
    share_custom(&mut metrics, preset.shares.custom);
    (out.report.problems.len() == before).then_some(metrics)
}

fn bake_latency(fields: &Fields<'_>, out: &mut Out<'_>) -> f64 {
    let Some(at) = fields.get("bake-latency") else { return margin::BAKE };
    match at.percent(&mut out.report) {
        Some(stretch) if stretch > 0.0 && stretch <= 10.0 => return stretch,
        Some(_) => {
            let what = format!("{} is no stretch of a latency", at.scalar());
            at.wrong(&mut out.report, what, "write more than 0%, such as 25% for a steady service; 50% is the default");
        }
        None => {}
    }
    margin::BAKE
}

fn metric(name: &str, at: &At<'_>, common: &Common, metrics: &mut Metrics, out: &mut Out<'_>) {
    match name {
        "error-rate" => errors(name, at, common, metrics, out),
        "cpu" => cpu(name, at, common, metrics, out),
        "memory" => memory(name, at, common, metrics, out),
        "pod-health" => metrics.pod_health = pods::health(at, out),
        LEAK => at.wrong(&mut out.report, "is part of memory", "write leak: true below memory"),
        _ if name.starts_with("latency") => latency(name, at, common, metrics, out),
        _ => custom(name, at, common, metrics, out),
    }
}

/// How a metric is measured, and what it gets of the budget.
struct Shape {
    kind: MetricKind,
    unit: Unit,
    share: f64,
    required: bool,
}

/// The part all metrics have: comparison, proof, limits.
fn spec(name: &str, fields: &Fields<'_>, shape: &Shape, margin: Option<Margin>, metrics: &mut Metrics, out: &mut Out<'_>) {
    let limits = limits::limits(fields, shape.unit, out);
    let compared = super::optional(fields, "compare", |at| at.flag(&mut out.report)).unwrap_or(true);
    let required = fields.get("required").and_then(|at| at.flag(&mut out.report));
    let required = required.map_or(shape.required && compared, |asked| asked);
    let (Some(limits), Some(margin)) = (limits, margin) else { return };
    if !compared {
        uncompared(fields, &limits, required, shape.unit, out);
    }
    metrics.specs.push(MetricSpec { name: name.to_owned(), kind: shape.kind, compared, margin, required, weight: shape.share, limits });
}

fn uncompared(fields: &Fields<'_>, limits: &Limits, required: bool, unit: Unit, out: &mut Out<'_>) {
    for at in fields.written(&["tolerate"]) {
        at.wrong(&mut out.report, "means nothing beside compare: false", "leave one of them out");
    }
    if let Some(at) = fields.get("required").filter(|_| required) {
        at.wrong(&mut out.report, "what is not compared cannot be shown not worse", "leave required or compare: false out");
    }
    if !limits.any() {
        fields.at.wrong(&mut out.report, "is neither compared nor limited", limits::example(unit));
    }
}

fn errors(name: &str, at: &At<'_>, common: &Common, metrics: &mut Metrics, out: &mut Out<'_>) {
    let Some(fields) = at.fields(keys::ERRORS, &mut out.report) else { return };
    let margin = margin::counts(&fields, &common.preset, out);
    let shape = Shape { kind: MetricKind::Errors, unit: Unit::Bad, share: common.preset.shares.errors, required: true };
    spec(name, &fields, &shape, margin, metrics, out);
}

fn latency(name: &str, at: &At<'_>, common: &Common, metrics: &mut Metrics, out: &mut Out<'_>) {
    let Some(quantile) = quantile(name) else {
        let way_out = "write latency-p95, or another from latency-p50 to latency-p99.99";
        return at.wrong(&mut out.report, format_args!("{name:?} names no quantile"), way_out);
    };
    let Some(fields) = at.fields(keys::LATENCY, &mut out.report) else { return };
    let same = |spec: &&MetricSpec| matches!(spec.kind, MetricKind::Latency(other) if (other - quantile).abs() < 1e-9);
    if let Some(first) = metrics.specs.iter().find(same).filter(|first| first.name != name) {
        at.wrong(&mut out.report, format_args!("is the same quantile as {}", first.name), "keep one of them");
    }
    let margin = margin::latency(&fields, &common.preset, common.bake, out);
    let shares = common.preset.shares;
    let p95 = (quantile - 0.95).abs() < 1e-9;
    let share = if p95 { shares.p95 } else { shares.p99 };
    spec(name, &fields, &Shape { kind: MetricKind::Latency(quantile), unit: Unit::Latency, share, required: p95 }, margin, metrics, out);
}

/// `latency-p99.9` -> 0.999.
fn quantile(name: &str) -> Option<f64> {
    let percent = plain(name.strip_prefix("latency-p")?)?;
    (50.0..=99.99).contains(&percent).then(|| (percent * 1e6).round() / 1e8)
}

/// What a gauge's limits are shares of, if they are.
fn of(name: &str, fields: &Fields<'_>, metrics: &mut Metrics, out: &mut Out<'_>) -> Option<ShareOf> {
    let at = fields.get("of")?;
    let of = at.choice(OF, &mut out.report)?;
    if fields.written(&keys::ABOVE).is_empty() {
        at.wrong(&mut out.report, "means nothing without a limit", "add a limit such as rollback-above: 90%, or leave it out");
    }
    out.in_cluster(&at, "what a pod asks for or may use", "write limits as cores or sizes");
    metrics.shares.insert(name.to_owned(), of);
    Some(of)
}

fn cpu(name: &str, at: &At<'_>, common: &Common, metrics: &mut Metrics, out: &mut Out<'_>) {
    let Some(fields) = at.fields(keys::CPU, &mut out.report) else { return };
    let share = of(name, &fields, metrics, out);
    metrics.cpu_load_rule = super::optional(&fields, "load-rule", |at| at.flag(&mut out.report)).unwrap_or(true);
    let margin = margin::gauge(&fields, out);
    let shape = Shape { kind: MetricKind::Cpu, unit: Unit::Cores { share }, share: common.preset.shares.cpu, required: false };
    spec(name, &fields, &shape, margin, metrics, out);
}

fn memory(name: &str, at: &At<'_>, common: &Common, metrics: &mut Metrics, out: &mut Out<'_>) {
    let Some(fields) = at.fields(keys::MEMORY, &mut out.report) else { return };
    let share = of(name, &fields, metrics, out);
    let margin = margin::gauge(&fields, out);
    let shares = common.preset.shares;
    let shape = Shape { kind: MetricKind::Memory, unit: Unit::Bytes { share }, share: shares.memory, required: false };
    spec(name, &fields, &shape, margin, metrics, out);
    if super::optional(&fields, "leak", |at| at.flag(&mut out.report)) == Some(true) {
        metrics.specs.push(MetricSpec {
            name: LEAK.to_owned(),
            kind: MetricKind::Leak,
            compared: true,
            margin: margin::leak(),
            required: false,
            weight: shares.leak,
            limits: Limits::default(),
        });
    }
}

const BUILT_IN: &[&str] = &["error-rate", "latency-p50", "latency-p95", "latency-p99", "cpu", "memory", "pod-health"];

/// A metric of the rule's own: counts or a gauge, told apart by their keys.
fn custom(name: &str, at: &At<'_>, common: &Common, metrics: &mut Metrics, out: &mut Out<'_>) {
    let written: Vec<&str> =
        if at.is_map() { at.members(&mut crate::config::Report::default()).iter().map(|(key, _)| *key).collect() } else { Vec::new() };
    match () {
        () if written.contains(&"query") => gauge(name, at, common, metrics, out),
        () if written.contains(&"good") => counts(name, at, false, common, metrics, out),
        () if written.contains(&"bad") => counts(name, at, true, common, metrics, out),
        () => {
            let near = one_of(name, BUILT_IN);
            let own = "a metric of your own has bad: or good: with total:, or query:";
            let way_out = if near.starts_with("did") { near } else { own.to_owned() };
            at.wrong(&mut out.report, format_args!("no metric is named {name:?}"), way_out);
        }
    }
}

fn counts(name: &str, at: &At<'_>, part_is_bad: bool, common: &Common, metrics: &mut Metrics, out: &mut Out<'_>) {
    let (known, part, unit) = if part_is_bad { (keys::BAD_COUNTS, "bad", Unit::Bad) } else { (keys::GOOD_COUNTS, "good", Unit::Good) };
    let Some(fields) = at.fields(known, &mut out.report) else { return };
    own_name(name, at, out);
    let part = fields.get(part).and_then(|at| at.text(&mut out.report));
    let total = fields.need("total", "write the selector of all events", &mut out.report).and_then(|at| at.text(&mut out.report));
    let margin = margin::counts(&fields, &common.preset, out);
    let kind = MetricKind::CustomCounts(metrics.counts.len());
    spec(name, &fields, &Shape { kind, unit, share: 0.0, required: false }, margin, metrics, out);
    if let (Some(part), Some(total)) = (part, total) {
        metrics.counts.push(CustomCounts { part: part.to_owned(), part_is_bad, total: total.to_owned() });
    }
}

fn gauge(name: &str, at: &At<'_>, _: &Common, metrics: &mut Metrics, out: &mut Out<'_>) {
    // its limits are called by the side that is bad
    let known = if is_lower_worse(at) { keys::GAUGE_BELOW } else { keys::GAUGE };
    let Some(fields) = at.fields(known, &mut out.report) else { return };
    own_name(name, at, out);
    let query = fields.get("query").and_then(|at| query(&at, out));
    let lower_is_worse = super::optional(&fields, "lower-is-worse", |at| at.flag(&mut out.report)).unwrap_or(false);
    let margin = match margin::gauge(&fields, out) {
        Some(Margin::Ratio { harm, ok }) if lower_is_worse => Some(Margin::RatioBelow { harm, ok }),
        margin => margin,
    };
    let kind = MetricKind::CustomGauge(metrics.gauges.len());
    spec(name, &fields, &Shape { kind, unit: Unit::Own { lower_is_worse }, share: 0.0, required: false }, margin, metrics, out);
    if let Some(query) = query {
        metrics.gauges.push(CustomGauge { query, lower_is_worse });
    }
}

/// Says the gauge so? What is wrong with it is told by its reader.
fn is_lower_worse(at: &At<'_>) -> bool {
    let mut untold = crate::config::Report::default();
    at.fields(keys::GAUGE, &mut untold).and_then(|fields| fields.get("lower-is-worse")?.flag(&mut untold)) == Some(true)
}

/// Without the place for the arm's matchers, both arms would be asked the same question.
fn query(at: &At<'_>, out: &mut Out<'_>) -> Option<String> {
    let text = at.text(&mut out.report)?;
    if !text.contains("{{workload}}") {
        let way_out = "put {{workload}} between the braces of its selectors, such as queue_depth{{{workload}}}";
        at.wrong(&mut out.report, "asks both arms the same question", way_out);
    }
    Some(text.to_owned())
}

fn own_name(name: &str, at: &At<'_>, out: &mut Out<'_>) {
    let starts = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    let kebab = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !starts || !kebab || name.len() > 63 {
        at.wrong(&mut out.report, format_args!("{name:?} is no name of a metric"), "write lower-case letters, digits and -");
    }
}

fn too_many(at: &At<'_>, metrics: &Metrics, out: &mut Out<'_>) {
    for (what, count, most) in [
        ("metrics", metrics.specs.len(), METRICS_MAX),
        ("custom counts", metrics.counts.len(), CUSTOM_MAX),
        ("custom gauges", metrics.gauges.len(), CUSTOM_MAX),
    ] {
        if count > most {
            at.wrong(&mut out.report, format_args!("{count} {what} exceed {most}"), "leave some out");
        }
    }
}

/// Every custom metric names the part of the budget they have together; the judge shares it out equally (STATISTICS 7).
fn share_custom(metrics: &mut Metrics, share: f64) {
    for spec in &mut metrics.specs {
        if matches!(spec.kind, MetricKind::CustomCounts(_) | MetricKind::CustomGauge(_)) {
            spec.weight = share;
        }
    }
}

/// Where a step asks for proof, something must be there to prove.
pub(super) fn check_required(fields: &Fields<'_>, advance: Option<&Advance>, metrics: Option<&Metrics>, out: &mut Out<'_>) {
    let (Some(advance), Some(metrics)) = (advance, metrics) else { return };
    let proof = *advance != Advance::OnSchedule { strict: false };
    if proof
        && !metrics.specs.iter().any(|spec| spec.required)
        && let Some(at) = fields.get("metrics")
    {
        at.wrong(&mut out.report, "no metric is required, so there is nothing to prove", "write required: true at one of them");
    }
}
