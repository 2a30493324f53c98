//! Metrics other than errors, limits between bounds, a past with an incident in it, and queries that make no sense.

use super::stage::{PATIENT, Scene, Stage, hold, reasons};
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
    // far more than a busy machine adds
    let Some(stage) = Stage::up(Scene { usual: slow(150), steps: LONG, ..Scene::default() }) else { return };
    stage.second.behave(slow(300));
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

/// Requests and latency by Envoy, CPU and memory by the processes themselves.
const BOTH: &str = "[ envoy, { pack: http, arm: { cluster: '{cluster}' } } ]";

/// Two processes of the first version and one of the second, so that at a third of the traffic each gets as much as the
/// others; the first version's two differed by some hundredths in the past, as processes do.
fn three_processes(steps: &'static str, more: &'static str) -> Option<Stage> {
    let scene = Scene { rate_per_s: 300, usual: slow(5), steps, more, telemetry: Some(BOTH), twin: true, ..Scene::default() };
    let stage = Stage::up(scene)?;
    let wobble = |process: u64, before: i64| {
        let mut x = (before.unsigned_abs() * 2 + process).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x ^= x >> 31;
        1.0 + 0.12 * ((x >> 40) as f64 / (1u64 << 24) as f64 - 0.5)
    };
    write_levels(&stage, 150, |process, before| (0.5 * wobble(process, before), 200e6 * wobble(process + 7, before)));
    Some(stage)
}

/// What the first version's processes would have shown before they were first scraped, one sample a second: cores and bytes
/// of a process in a second, by how many seconds that lies before its first scrape.
fn write_levels(stage: &Stage, seconds: i64, level: impl Fn(u64, i64) -> (f64, f64)) {
    let mut past = Vec::new();
    for (process, row) in (0..).zip(stage.prometheus.instant(r#"process_cpu_seconds_total{cluster="v1"}"#, None)) {
        let labels: Vec<(&str, &str)> = row.labels.iter().filter(|(n, _)| *n != "__name__").map(|(n, v)| (&**n, &**v)).collect();
        let first_ms = stage.first_scraped(&format!("process_cpu_seconds_total{{instance={:?}}}", row.labels["instance"]));
        let (mut cpu, mut memory) =
            (Series::new("process_cpu_seconds_total", &labels), Series::new("process_resident_memory_bytes", &labels));
        let mut used = 0.0;
        for before in (1..=seconds).rev() {
            let (cores, bytes) = level(process, before);
            used += cores;
            cpu = cpu.at(first_ms - 1000 * before, used);
            memory = memory.at(first_ms - 1000 * before, bytes);
        }
        past.extend([cpu, memory]);
    }
    assert_eq!(past.len(), 4, "two processes");
    stage.prometheus.write(&past);
}

#[test]
fn a_third_more_cpu_is_found_where_the_load_is_comparable_and_skipped_with_its_reason_where_not() {
    let steps = "[ { weight: 10%, for: 12s }, { weight: 33.3%, for: 50s }, { weight: 100%, bake: 60s } ]";
    let Some(stage) = three_processes(steps, "  cpu: { tolerate: { relative: 10% } }") else { return };
    stage.second.behave(Behaviour { more_cpu: 0.3, ..slow(5) });
    let id = stage.start("2.0.0");
    stage.wait_for_weight(&id, 100);
    // a third of the baseline's requests per process: more or less CPU would say nothing
    stage.wait_for(&id, PATIENT, "CPU is skipped, and it says why", |view| {
        assert_eq!(view["over"], false, "{view:#}");
        let mut metrics = view["metrics"].as_array().into_iter().flatten();
        metrics.any(|m| m["name"] == "cpu" && m["blind"] == "load-too-different")
    });
    stage.wait_for_weight(&id, 333);
    let view = stage.wait_for_end(&id, "rolled-back");
    assert_eq!(reasons(&view), ["comparison"], "{view:#}");
    assert!(reason(&view).contains("cpu"), "{view:#}");
    assert_eq!(stage.actions(&id)[..2], ["advance", "advance"], "it was not found at 10 %, where it could not be");
    stage.close();
}

/// One part in a hundred of the memory per minute of the method, which is two seconds here; the level may rise as it likes.
#[test]
fn a_leak_is_found_by_its_slope() {
    let steps = "[ { weight: 33.3%, for: 110s }, { weight: 100%, bake: 60s } ]";
    let Some(stage) = three_processes(steps, "  memory: { tolerate: { relative: 900% }, leak: true }") else { return };
    stage.second.behave(Behaviour { leak: 0.01, ..slow(5) });
    let id = stage.start("2.0.0");
    let view = stage.wait_for(&id, Duration::from_secs(120), "it is rolled back", |view| {
        assert!(view["over"] == false || view["state"] == "rolled-back", "{view:#}");
        view["over"] == true
    });
    assert_eq!(reasons(&view), ["comparison"], "{view:#}");
    assert!(reason(&view).contains("memory-leak"), "{view:#}");
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
