//! Metrics other than errors, limits between bounds, a past with an incident in it, and queries that make no sense.

use super::stage::{Scene, Stage, hold, reasons};
use crate::rig::prometheus::{Row, Series};
use crate::rig::service::Behaviour;
use serde_json::Value;
use std::time::Duration;

const LONG: &str = "[ { weight: 20%, for: 10s }, { weight: 50%, for: 50s }, { weight: 100%, bake: 60s } ]";

/// A behaviour that takes so long on average, and half as long to one and a half times as long in truth.
fn slow(ms: u64) -> Behaviour {
    Behaviour { latency: Duration::from_millis(ms), ..Behaviour::default() }
}

/// The sentence of the first reason.
fn reason(view: &Value) -> &str {
    view["reasons"][0]["text"].as_str().unwrap_or_default()
}

fn warnings(view: &Value) -> Vec<&str> {
    view["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// One metric of a view.
fn metric<'a>(view: &'a Value, name: &str) -> &'a Value {
    let all = view["metrics"].as_array().into_iter().flatten();
    all.into_iter().find(|m| m["name"] == name).unwrap_or_else(|| panic!("no metric {name} in {view:#}"))
}

#[test]
fn a_version_twice_as_slow_is_rolled_back_for_its_latency() {
    let Some(stage) = Stage::up(Scene { usual: slow(40), steps: LONG, ..Scene::default() }) else { return };
    stage.second.behave(slow(80));
    let id = stage.start("2.0.0");
    let view = stage.wait_for_end(&id, "rolled-back");
    assert_eq!(reasons(&view), ["comparison"]);
    assert!(reason(&view).contains("latency-p95"), "{view:#}");
    assert_eq!(stage.load.counts().by_status.keys().copied().collect::<Vec<_>>(), [200], "it was slow and nothing else");
    stage.assert_second_gets_nothing();
    stage.close();
}

/// Envoy's bounds nearest to 220 ms are 100 and 250. P95 is 174 ms in the baseline, 406 ms in the canary.
#[test]
fn a_latency_limit_between_two_bounds_says_what_it_can_prove_and_rolls_back_beyond_it() {
    let latency = "{ tolerate: { relative: 900% }, rollback-above: 220ms }";
    let scene = Scene { usual: slow(120), patience: Duration::from_secs(2), latency, steps: LONG, ..Scene::default() };
    let Some(stage) = Stage::up(scene) else { return };
    stage.second.behave(slow(280));
    let id = stage.start("2.0.0");
    let told = stage.view(&id);
    let expected = "latency-p95 rollback-above 220 ms: breach is provable from 250 ms, pass up to 100 ms";
    assert!(warnings(&told).contains(&expected), "{:#}", told["warnings"]);
    let view = stage.wait_for_end(&id, "rolled-back");
    assert_eq!(reasons(&view), ["limit"], "{view:#}");
    assert!(reason(&view).contains("latency-p95") && reason(&view).contains("rollback-above"), "{view:#}");
    stage.close();
}

/// What the first version's proxy would have counted before it was first scraped: one sample a second, the last of them a
/// second before that. `poll` says what a second held, by how many seconds it lies before the first scrape: all requests and
/// failed ones. The proxy began anew with the first scrape, as its counters say.
fn write_past(stage: &Stage, seconds: i64, poll: impl Fn(i64) -> (f64, f64)) {
    let of = |name: &str| stage.prometheus.instant(&format!(r#"{name}{{envoy_cluster_name="v1"}}"#), None);
    let first_ms = stage.first_scraped(r#"envoy_cluster_upstream_rq{envoy_cluster_name="v1",envoy_response_code="200"}"#);
    let answers = of("envoy_cluster_upstream_rq");
    let good = answers.iter().find(|row| row.labels["envoy_response_code"] == "200").expect("the first version answered");
    let bad = Row { labels: good.labels.iter().map(|(n, v)| (n.clone(), v.replace("200", "500"))).collect(), value: 0.0 };
    let counter = |row: &Row, share: &dyn Fn(f64, f64) -> f64| {
        let labels: Vec<(&str, &str)> = row.labels.iter().filter(|(n, _)| *n != "__name__").map(|(n, v)| (&**n, &**v)).collect();
        let mut total = 0.0;
        (1..=seconds).rev().fold(Series::new(&row.labels["__name__"], &labels), |series, before| {
            let (all, failed) = poll(before);
            total += share(all, failed).round();
            series.at(first_ms - 1000 * before, total)
        })
    };
    let mut past = vec![counter(good, &|all, failed| all - failed), counter(&bad, &|_, failed| failed)];
    // latency as it is now
    let buckets = of("envoy_cluster_upstream_rq_time_bucket");
    let counted = buckets.iter().map(|row| row.value).fold(0.0, f64::max);
    past.extend(buckets.iter().map(|row| counter(row, &|all, _| all * row.value / counted)));
    past.extend(of("envoy_cluster_upstream_rq_time_count").iter().map(|row| counter(row, &|all, _| all)));
    stage.prometheus.write(&past);
}

/// Half an hour of the method is a minute here, its ten minutes are 20 s. Without this the burstiness of the incident would
/// be taken for the service's own, and only an outage could be told from it.
#[test]
fn an_incident_before_the_release_is_left_out_and_a_fault_is_found_as_ever() {
    let usual = Behaviour { errors: 0.005, ..slow(20) };
    let Some(stage) = Stage::up(Scene { rate_per_s: 200, usual, steps: LONG, ..Scene::default() }) else { return };
    let incident = 40..56;
    write_past(&stage, 110, |before| (200.0, if incident.contains(&before) { 80.0 } else { f64::from(u8::from(before % 2 == 0)) * 2.0 }));
    stage.second.behave(Behaviour { errors: 0.04, ..usual });
    let id = stage.start("2.0.0");
    let told = stage.view(&id);
    assert!(
        warnings(&told).iter().any(|w| w.contains(" s before the start left out of the comparison: it looks like an incident")),
        "{:#}",
        told["warnings"]
    );
    assert!(!warnings(&told).iter().any(|w| w.contains("unsteady") || w.contains("burstiness unknown")), "{:#}", told["warnings"]);
    let view = stage.wait_for_end(&id, "rolled-back");
    assert_eq!(reasons(&view), ["comparison"], "{view:#}");
    assert!(reason(&view).contains("error-rate"), "{view:#}");
    stage.close();
}

/// The first means the mean of its rows; the others are each wrong in their own way. The last forgets the workload on its right
/// side, which goes well until the canary has answered something.
const GAUGES: &str = r#"  several-rows: { query: '{__name__=~"envoy_cluster_membership_(total|excluded)",{{workload}}}', tolerate: { relative: 20% } }
  no-number: { query: '0 * envoy_cluster_membership_total{{{workload}}} / 0', tolerate: { relative: 20% } }
  no-such: { query: 'queue_depth{{{workload}}}', tolerate: { relative: 20% } }
  ambiguous: { query: 'envoy_cluster_membership_total{{{workload}}} * on () envoy_cluster_upstream_rq', tolerate: { relative: 20% } }"#;

#[test]
fn a_query_that_makes_no_sense_says_why_and_the_rollout_goes_on_by_the_others() {
    let steps = "[ { weight: 50%, for: 12s }, { weight: 100%, bake: 5s } ]";
    let Some(mut stage) = Stage::up(Scene { more: GAUGES, steps, ..Scene::default() }) else { return };
    let id = stage.start("2.0.0");
    stage.wait_for_weight(&id, 500);
    stage.wait_counted(&id, 6.0);
    let view = stage.view(&id);
    for (name, why) in [("no-number", "not-a-number"), ("no-such", "no-series"), ("ambiguous", "query-rejected")] {
        let metric = metric(&view, name);
        assert_eq!((&metric["verdict"], &metric["blind"]), (&"blind".into(), &why.into()), "{metric:#}");
    }
    for said in ["the mean of 2 rows is taken for", "NaN, which is no number to compare, for 0 *", "no series yet for queue_depth{"] {
        assert!(warnings(&view).iter().any(|w| w.starts_with("baseline: ") && w.contains(said)), "{said}: {:#}", view["warnings"]);
    }
    assert!(stage.daemon.process().log().contains("found duplicate series for the match group"), "the server's words are in the log");
    assert_eq!(metric(&view, "several-rows")["canary"]["mid"], 0.5);
    assert_eq!(metric(&view, "error-rate")["blind"], Value::Null);
    assert_eq!(hold(&view, "blind"), None, "{view:#}");
    stage.wait_for_end(&id, "succeeded");
    let (_, polled) = stage.polled_requests(&id);
    let answered = stage.answers_of("v2") as f64;
    assert!(polled <= answered && polled >= answered - 300.0, "polls tell of {polled} of the canary's {answered} requests");
    stage.close();
}
