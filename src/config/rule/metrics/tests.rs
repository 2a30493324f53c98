//! Presets, margins and limits against STATISTICS 2.3, 7, 7.1, 7.3 and 10.

use crate::config::{Known, parse_rule};
use crate::model::rule::{CustomCounts, CustomGauge};
use crate::model::{Limits, Margin, MetricKind, MetricSpec, Rule};
use std::path::Path;

/// A rule with these metrics and further lines.
fn rule(metrics: &str, more: &str) -> Rule {
    let text = format!(
        "rule: shop\nworkloads: {{ namespace: prod, pair: [ {{ deployment: a }}, {{ deployment: b }} ] }}\ntelemetry: [ envoy ]\ntraffic: none\n\
         steps: [ {{ weight: 100%, bake: 1m }} ]\nmetrics:\n{metrics}\n{more}\n"
    );
    let known = Known { packs: ["envoy".to_owned()].into(), ..Known::default() };
    parse_rule(&text, Path::new("shop.yaml"), &known).unwrap_or_else(|report| panic!("{report}"))
}

fn one(metric: &str) -> MetricSpec {
    rule(&format!("  {metric}"), "").metrics.remove(0)
}

fn close(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-12, "{a} is not {b}");
}

fn counts(margin: Margin) -> [f64; 4] {
    let Margin::Counts { relative, absolute, ok_relative, ok_absolute } = margin else { panic!("{margin:?}") };
    [relative, absolute, ok_relative, ok_absolute]
}

fn stretch(margin: Margin) -> [f64; 4] {
    let Margin::Stretch { harm, guard, ok, bake } = margin else { panic!("{margin:?}") };
    [harm, guard, ok, bake]
}

#[test]
fn presets_are_those_of_the_table() {
    let table = [
        ("low", [0.50, 0.001, 1.25, 0.005], [0.30, 2.0, 0.50, 0.5]),
        ("normal", [0.20, 0.0002, 0.50, 0.001], [0.15, 2.0, 0.25, 0.5]),
        ("high", [0.03, 0.00003, 0.50, 0.001], [0.075, 2.0, 0.25, 0.5]),
    ];
    for (word, errors, latency) in table {
        let rule = rule("  error-rate: {}\n  latency-p95: {}\n  cpu: {}", &format!("sensitivity: {word}"));
        counts(rule.metrics[0].margin).iter().zip(errors).for_each(|(a, b)| close(*a, b));
        stretch(rule.metrics[1].margin).iter().zip(latency).for_each(|(a, b)| close(*a, b));
        assert_eq!(rule.metrics[2].margin, Margin::Ratio { harm: 0.10, ok: 0.20 }, "gauges are the same at every sensitivity");
    }
    assert_eq!(one("error-rate: {}").margin, rule("  error-rate: {}", "sensitivity: normal").metrics[0].margin, "normal is the default");
}

#[test]
fn shares_are_those_of_the_table_and_sum_to_one() {
    let all = "  error-rate: {}\n  latency-p95: {}\n  latency-p99: {}\n  cpu: {}\n  memory: { leak: true }\n  \
               hits: { good: g, total: t }\n  depth: { query: 'q{{{workload}}}' }";
    for (word, shares) in [
        ("low", [0.40, 0.20, 0.10, 0.10, 0.10, 0.05, 0.05, 0.05]),
        ("normal", [0.40, 0.20, 0.10, 0.10, 0.10, 0.05, 0.05, 0.05]),
        ("high", [0.65, 0.12, 0.06, 0.05, 0.05, 0.02, 0.05, 0.05]),
    ] {
        let rule = rule(all, &format!("sensitivity: {word}"));
        let found: Vec<f64> = rule.metrics.iter().map(|m| m.weight).collect();
        found.iter().zip(shares).for_each(|(a, b)| close(*a, b));
        assert_eq!(found.len(), shares.len());
        // the two custom ones have one share together
        close(found.iter().sum::<f64>() - 0.05, 1.0);
    }
}

#[test]
fn a_tolerance_of_its_own_wins_and_the_ok_margin_follows_it() {
    let high = rule(
        "  error-rate: { tolerate: { relative: 40%, absolute: 0.1% } }\n  latency-p95: { tolerate: { relative: 30% } }",
        "sensitivity: high",
    );
    counts(high.metrics[0].margin).iter().zip([0.4, 0.001, 1.0, 0.005]).for_each(|(a, b)| close(*a, b));
    stretch(high.metrics[1].margin).iter().zip([0.3, 2.0, 0.5, 0.5]).for_each(|(a, b)| close(*a, b));
    counts(one("error-rate: { tolerate: { relative: 5% } }").margin).iter().zip([0.05, 0.0, 0.5, 0.001]).for_each(|(a, b)| close(*a, b));
    assert_eq!(one("cpu: { tolerate: { relative: 30% } }").margin, Margin::Ratio { harm: 0.3, ok: 0.6 });
    assert_eq!(one("cpu: { tolerate: { relative: 5% } }").margin, Margin::Ratio { harm: 0.05, ok: 0.2 });
}

#[test]
fn a_bake_of_a_steady_service_may_be_judged_closer() {
    let rule = rule("  latency-p95: {}", "bake-latency: 25%");
    close(stretch(rule.metrics[0].margin)[3], 0.25);
}

#[test]
fn errors_and_p95_are_required_unless_said_otherwise() {
    let all =
        "  error-rate: {}\n  latency-p95: {}\n  latency-p99: {}\n  cpu: {}\n  memory: {}\n  hits: { good: g, total: t, required: true }";
    let required: Vec<bool> = rule(all, "").metrics.iter().map(|m| m.required).collect();
    assert_eq!(required, [true, true, false, false, false, true]);
    let limited = one("error-rate: { compare: false, rollback-above: 5% }");
    assert!(!limited.compared && !limited.required, "what is not compared cannot be proven");
    assert!(!one("error-rate: { required: false }").required);
}

#[test]
fn limits_keep_the_unit_of_their_metric() {
    let limits = |metric: &str| one(metric).limits;
    let errors = limits("error-rate: { promote-below: 0.1%, warn-above: 1%, rollback-above: 5%, page-above: 10% }");
    assert_eq!((errors.promote_below, errors.warn_above), (Some(0.001), Some(0.01)));
    assert_eq!((errors.rollback_above, errors.page_above), (Some(0.05), Some(0.1)));
    assert_eq!(limits("latency-p95: { rollback-above: 1500ms }").rollback_above, Some(1500.0));
    assert_eq!(limits("cpu: { rollback-above: 1.5, for: 5m }").sustained.map(|d| d.as_secs()), Some(300));
    assert_eq!(limits("memory: { warn-above: 512MiB }").warn_above, Some(536_870_912.0));
    assert_eq!(limits("cpu: { of: limits, warn-above: 70% }").warn_above, Some(0.7));
    assert_eq!(limits("depth: { query: 'q{{{workload}}}', rollback-above: 100 }").rollback_above, Some(100.0));
    assert_eq!(limits("error-rate: {}"), Limits::default());
}

#[test]
fn a_limit_on_good_events_is_one_on_bad_events() {
    let hits = one("hits: { good: g, total: t, rollback-below: 80%, promote-above: 95%, warn-below: 90% }");
    close(hits.limits.rollback_above.unwrap_or_default(), 0.2);
    close(hits.limits.promote_below.unwrap_or_default(), 0.05);
    close(hits.limits.warn_above.unwrap_or_default(), 0.1);
}

#[test]
fn quantiles_are_read_from_the_name() {
    for (name, quantile) in [("latency-p50", 0.5), ("latency-p95", 0.95), ("latency-p99", 0.99), ("latency-p99.9", 0.999)] {
        assert_eq!(one(&format!("{name}: {{}}")).kind, MetricKind::Latency(quantile));
    }
}

#[test]
fn custom_metrics_are_kept_in_the_order_their_positions_name() {
    let rule =
        rule("  depth: { query: 'a{{{workload}}}', lower-is-worse: true }\n  bad: { bad: b, total: t }\n  good: { good: g, total: u }", "");
    let kinds: Vec<MetricKind> = rule.metrics.iter().map(|m| m.kind).collect();
    assert_eq!(kinds, [MetricKind::CustomGauge(0), MetricKind::CustomCounts(0), MetricKind::CustomCounts(1)]);
    assert_eq!(rule.custom_gauges, [CustomGauge { query: "a{{{workload}}}".to_owned(), lower_is_worse: true }]);
    let own = |part: &str, part_is_bad, total: &str| CustomCounts { part: part.to_owned(), part_is_bad, total: total.to_owned() };
    assert_eq!(rule.custom_counts, [own("b", true, "t"), own("g", false, "u")]);
}

#[test]
fn a_leak_is_a_metric_beside_memory() {
    let rule = rule("  memory: { leak: true }", "");
    assert_eq!((rule.metrics[1].name.as_str(), rule.metrics[1].kind), ("memory-leak", MetricKind::Leak));
    assert_eq!(rule.metrics[1].margin, Margin::Slope { per_unit: 0.001 });
    assert_eq!(self::rule("  memory: { leak: false }", "").metrics.len(), 1);
}

#[test]
fn cpu_is_compared_at_comparable_load_unless_said_otherwise() {
    assert!(rule("  cpu: {}", "").cpu_load_rule);
    assert!(!rule("  cpu: { load-rule: false }", "").cpu_load_rule);
}
