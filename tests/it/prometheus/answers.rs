//! Answers of real servers that are more, or less, than rows: warnings, infos, other types, refusals, long queries.

use super::{Samples, TICK, counts, envoy, tick};
use crate::rig::prometheus::{Version, on_both};
use canaryd::model::{Arm, Blind, rule};
use canaryd::source::{Prometheus, PrometheusSettings, Source, Wants};
use std::time::Duration;

fn two_clusters(test: &str) -> Samples {
    let mut samples = Samples::default();
    for n in 0..4u32 {
        samples.envoy(test, "p", "v1", tick(n) - TICK / 2, 100.0 * f64::from(n), 0.0);
        samples.envoy(test, "p", "v2", tick(n) - TICK / 2, 10.0 * f64::from(n), 0.0);
    }
    samples
}

#[test]
fn a_truncated_answer_is_incomplete_and_not_no_data() {
    on_both(async |server| {
        two_clusters("w").write(server);
        let params = vec![("limit".to_owned(), "1".to_owned())];
        let mut source = Prometheus::new(PrometheusSettings { params, ..PrometheusSettings::new("prom", server.url()) }).expect("settings");
        let mut wanted = envoy(1, "w", "v1", "v2");
        wanted.wants = Wants { requests: true, ..Wants::default() };
        source.subscribe(wanted, Vec::new());
        source.tick(tick(1)).await;
        let sample = source.tick(tick(2)).await.remove(0);
        if server.version() == Version::Three {
            assert_eq!(sample.missing.canary, Some(Blind::SourceDown));
            assert!(sample.detail.contains("incomplete: results truncated due to limit"), "{}", sample.detail);
        } else {
            // it does not know the parameter, and answers in full
            assert_eq!(counts(&sample, Arm::Canary), Some((10.0, 0.0)), "{sample:?}");
        }
    });
}

/// A rule's own queries may be anything: what is odd about the answer is said, and only what is no number is blind.
#[test]
fn infos_are_nothing_and_a_result_of_another_type_is_refused() {
    on_both(async |server| {
        let mut samples = two_clusters("i");
        for n in 0..4u32 {
            for version in ["v1", "v2"] {
                samples.add(&format!("depth{{envoy_cluster_name=\"{version}\"}}"), tick(n) - TICK / 2, 60.0 * f64::from(n));
            }
        }
        samples.write(server);
        let mut source = super::source(&server.url());
        let mut wanted = envoy(1, "i", "v1", "v2");
        wanted.wants = Wants { requests: true, ..Wants::default() };
        // 3.15 remarks that `depth` might not be a counter
        let own = ["rate(depth{{{workload}}}[2m])", "\"a text\"", "depth{{{workload}}}[2m]", "scalar(depth{{{workload}}})"];
        let gauge = |query: &str| rule::CustomGauge { query: query.to_owned(), lower_is_worse: false };
        wanted.custom_gauges = own.map(gauge).to_vec();
        source.subscribe(wanted, Vec::new());
        source.tick(tick(1)).await;
        let sample = source.tick(tick(3)).await.remove(0);
        assert_eq!(counts(&sample, Arm::Canary), Some((20.0, 0.0)));
        let read = &sample.arms.canary.custom_gauges;
        assert!(read[0].is_ok_and(|rate| rate > 0.0), "{read:?} {}", sample.detail);
        assert_eq!(read[1..], [Err(Blind::QueryRejected), Err(Blind::QueryRejected), Ok(180.0)]);
        assert!(sample.detail.contains("the answer is a string"), "{}", sample.detail);
    });
}

/// Fifty rollouts whose names are as long as names may be: one query of more than 64 kB, by POST.
#[test]
fn a_query_longer_than_any_address_is_answered() {
    on_both(async |server| {
        let long = |what: &str, i: u32| format!("{what}-{i}-{}", "x".repeat(640));
        let mut samples = Samples::default();
        for n in 0..2u32 {
            for i in 0..50 {
                for (arm, rate) in [("b", 7.0), ("c", 3.0)] {
                    samples.envoy("l", "p", &long(arm, i), tick(n) - TICK / 2, rate * f64::from(n), 0.0);
                }
            }
        }
        samples.write(server);
        let mut source = super::source(&server.url());
        for i in 0..50 {
            let mut wanted = envoy(u64::from(i), "l", &long("b", i), &long("c", i));
            wanted.wants = Wants { requests: true, ..Wants::default() };
            source.subscribe(wanted, Vec::new());
        }
        source.tick(tick(0)).await;
        let samples = source.tick(tick(1)).await;
        let read: Vec<_> = samples.iter().map(|s| (counts(s, Arm::Baseline), counts(s, Arm::Canary))).collect();
        assert_eq!(read, vec![(Some((7.0, 0.0)), Some((3.0, 0.0))); 50], "{}", samples[0].detail);
    });
}

/// A server that is not asked more often than its settings allow: the tick says so instead of sending less than it needs.
#[test]
fn a_spent_budget_is_blindness_with_its_reason() {
    on_both(async |server| {
        two_clusters("b").write(server);
        let settings = PrometheusSettings {
            allowance: std::sync::Arc::new(canaryd::source::Allowance::new(6, 4)),
            timeout: Duration::from_secs(5),
            ..PrometheusSettings::new("prom", server.url())
        };
        let mut source = Prometheus::new(settings).expect("settings");
        let mut wanted = envoy(1, "b", "v1", "v2");
        wanted.wants = Wants { requests: true, ..Wants::default() };
        source.subscribe(wanted, Vec::new());
        source.tick(tick(0)).await; // three of six
        source.tick(tick(1)).await;
        let sample = source.tick(tick(2)).await.remove(0);
        assert_eq!(sample.missing.canary, Some(Blind::SourceDown));
        assert!(sample.detail.contains("the source's budget of 6 queries a minute is spent"), "{}", sample.detail);
    });
}
