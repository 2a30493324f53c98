//! The rig is tested against the real components too: a rig that lies makes every test above it worthless.

use super::envoy::{self, Envoy};
use super::http;
use super::load::{self, Load};
use super::process::Process;
use super::prometheus::{Job, Prometheus, Series};
use super::service::{Behaviour, Served, Service};
use super::{READY_MAX, in_path, poll, require};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("not yet the year 292 million")
}

fn steady(port: u16, requests: u64) -> load::Settings {
    load::Settings { port, rate_per_s: 200, timeout: Duration::from_secs(5), lasts: Duration::from_millis(requests * 5) }
}

fn runs(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn prometheus_answers_an_injected_series_and_keeps_it_over_a_kill() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(mut prometheus) = Prometheus::start(folder.path(), &[]) else { return };
    let hour_ago = now_ms() - 3_600_000;
    prometheus.write(&[
        Series::new("seen_total", &[("version", "v2"), ("code", "500")]).at(hour_ago, 7.0).at(hour_ago + 15_000, 9.5),
        Series::new("seen_total", &[("version", "v1"), ("code", "500")]).at(hour_ago + 15_000, 1.0),
        // a label of 128 bytes: the first length that takes two bytes on the wire
        Series::new("now_total", &[("long", &"x".repeat(128))]).at(now_ms() - 1000, f64::INFINITY),
    ]);
    let at = |s: i64| Some((hour_ago + s * 1000) as f64 / 1000.0);
    let row = |s| prometheus.instant(r#"seen_total{version="v2"}"#, at(s)).first().expect("a row").clone();
    assert_eq!(row(14).value, 7.0);
    assert_eq!(row(15).value, 9.5);
    assert_eq!(row(15).labels["code"], "500");
    assert_eq!(prometheus.instant("seen_total", at(15)).len(), 2);
    assert_eq!(prometheus.instant("seen_total", None), []);
    assert_eq!(prometheus.value("now_total"), Some(f64::INFINITY));

    prometheus.kill();
    assert!(http::get(prometheus.port, "/-/ready", Duration::from_secs(1)).is_err());
    prometheus.restart();
    assert_eq!(prometheus.instant("sum(seen_total)", at(15)).first().expect("a row").value, 10.5);
    prometheus.stop();
}

#[test]
fn prometheus_scrapes_the_service() {
    let mut service = Service::start("v1");
    let folder = tempfile::tempdir().expect("a folder");
    let job = Job::new("shop", service.port, "/metrics", &[("track", "stable")]);
    let Some(prometheus) = Prometheus::start(folder.path(), &[job]) else { return };
    for _ in 0..20 {
        http::get(service.port, "/", READY_MAX).expect("an answer");
    }
    let query = r#"http_requests_total{track="stable",version="v1",code="200"}"#;
    let seen = poll(READY_MAX, || prometheus.value(query).filter(|v| *v == 20.0));
    assert!(seen.is_some(), "Prometheus says {:?}", prometheus.instant("{__name__=~\".+\"}", None));
    // the scrape that counted them was a good one, however short ago; a later one may have failed on a machine that stood still
    assert_eq!(prometheus.value("max_over_time(up[1m])"), Some(1.0), "it was up");
    assert_eq!(prometheus.value(r#"http_request_duration_seconds_bucket{le="+Inf"}"#), Some(20.0));
    service.die();
    assert!(poll(READY_MAX, || prometheus.value("up").filter(|up| *up == 0.0)).is_some());
}

#[test]
fn envoy_splits_the_traffic_by_the_route_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let (v1, mut v2) = (Service::start("v1"), Service::start("v2"));
    let settings = envoy::Settings { deaf_listener: true, ..envoy::Settings::new(v1.port, v2.port) };
    let Some(mut envoy) = Envoy::start(folder.path(), settings) else { return };
    // what a machine that stood still makes up for at once may be more than there are users
    let split = |port| {
        let counts = Load::start(steady(port, 400)).finish();
        assert!(counts.answered() >= 100 && counts.answered() + counts.skipped == 400, "{counts:?}");
        counts.by_version
    };
    assert_eq!(split(envoy.listener).into_keys().collect::<Vec<_>>(), ["v1"]);

    envoy.shift(250, "rig-1");
    let seen = split(envoy.listener);
    // a quarter expected, five standard deviations either way
    let all = (seen["v1"] + seen["v2"]) as f64;
    assert!((seen["v2"] as f64 - all / 4.0).abs() <= 5.0 * (all * 3.0 / 16.0).sqrt(), "{seen:?}");
    assert_eq!(split(envoy.deaf.expect("asked for")).into_keys().collect::<Vec<_>>(), ["v1"]);
    let stats = http::get(envoy.admin, "/stats/prometheus", READY_MAX).expect("an answer").text();
    let counted = format!(r#"envoy_cluster_upstream_rq{{envoy_response_code="200",envoy_cluster_name="v2"}} {}"#, seen["v2"]);
    assert!(stats.contains(&counted), "no {counted}");

    v2.die();
    envoy.shift(1000, "rig-2");
    assert_eq!(http::get(envoy.listener, "/", READY_MAX).expect("an answer").status, 503);
    v2.revive();
    assert_eq!(http::get(envoy.listener, "/", READY_MAX).expect("an answer").status, 200);
    envoy.process().kill();
    envoy.restart();
    assert_eq!(envoy.version().as_deref(), Some("rig-2"), "the file outlives the process");
}

#[test]
fn envoy_outlives_the_thread_that_asked_for_it() {
    let Some(_) = require("envoy") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_owned();
    let started = std::thread::spawn(move || Envoy::start(&path, envoy::Settings::new(1, 2))).join();
    let Some(mut envoy) = started.expect("no panic") else { return };
    // a parent-death signal would have come when the thread ended: before join returned, and Envoy obeys within 100 ms
    let gone = poll(Duration::from_millis(500), || envoy.process().ended());
    assert_eq!(gone, None);
    let pid = envoy.process().pid();
    assert!(runs(pid));
    drop(envoy);
    assert!(!runs(pid), "process {pid} is still there");
}

#[test]
fn a_dropped_handle_leaves_no_orphan() {
    let folder = tempfile::tempdir().expect("a folder");
    let sleep = in_path("sleep").expect("coreutils");
    let process = Process::spawn("sleep", &sleep, &["1000".into()], &folder.path().join("log"));
    let pid = process.pid();
    assert!(runs(pid));
    drop(process);
    assert!(!runs(pid), "process {pid} is still there");
}

#[test]
fn a_process_that_ends_too_early_shows_its_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let shell = in_path("sh").expect("a shell");
    let mut process = Process::spawn("sh", &shell, &["-c".into(), "echo no such setting >&2; exit 3".into()], &folder.path().join("log"));
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| process.wait_ready(1, "/")));
    let message = outcome.expect_err("it never gets ready").downcast::<String>().expect("a text");
    assert!(message.contains("exit status: 3") && message.contains("no such setting"), "{message}");
}

#[test]
fn the_service_fails_hangs_dies_and_comes_back_as_told() {
    let mut service = Service::start("v2");
    service.behave(Behaviour { errors: 0.2, ..Behaviour::default() });
    let counts = Load::start(steady(service.port, 400)).finish();
    let errors = counts.by_status[&500];
    // 80 expected, standard deviation 8
    assert!((40..=120).contains(&errors) && counts.answered() == 400, "{counts:?}");
    assert_eq!(service.served(), Served { good: 400 - errors, errors });

    service.behave(Behaviour { latency: Duration::from_millis(100), ..Behaviour::default() });
    let begin = std::time::Instant::now();
    assert_eq!(http::get(service.port, "/", READY_MAX).expect("an answer").status, 200);
    assert!(begin.elapsed() >= Duration::from_millis(50));
    let metrics = http::get(service.port, "/metrics", READY_MAX).expect("an answer").text();
    let slow: Vec<&str> = metrics.lines().filter(|l| l.contains(r#"le="0.025""#) || l.contains(r#"le="0.25""#)).collect();
    assert!(slow[0].ends_with(" 400") && slow[1].ends_with(" 401"), "{slow:?}");

    service.behave(Behaviour { hangs: 1.0, ..Behaviour::default() });
    let hung = http::get(service.port, "/", Duration::from_millis(200)).expect_err("no answer");
    assert_eq!(hung.kind(), std::io::ErrorKind::TimedOut);

    service.die();
    assert!(http::get(service.port, "/", Duration::from_secs(1)).is_err());
    service.behave(Behaviour::default());
    service.revive();
    assert_eq!(http::get(service.port, "/", READY_MAX).expect("an answer").header("X-Version"), Some("v2"));
    assert_eq!(service.served(), Served { good: 1, errors: 0 });
}

#[test]
fn the_load_counts_users_who_leave_and_never_queues() {
    let service = Service::start("v2");
    service.behave(Behaviour { hangs: 1.0, ..Behaviour::default() });
    let rush = load::Settings { port: service.port, rate_per_s: 500, timeout: Duration::from_secs(6), lasts: Duration::from_millis(600) };
    let counts = Load::start(rush).finish();
    // 300 requests are due within 600 ms, 128 users wait 6 s each
    assert_eq!((counts.timeouts, counts.answered(), counts.broken), (128, 0, 0), "{counts:?}");
    assert_eq!(counts.skipped, 300 - 128);
}

#[test]
fn the_client_reads_chunks_and_encodes_queries() {
    assert_eq!(http::encode(r#"a{b="c"} + 1"#), "a%7Bb%3D%22c%22%7D%20%2B%201");
    let folder = tempfile::tempdir().expect("a folder");
    let Some(prometheus) = Prometheus::start(folder.path(), &[]) else { return };
    // Prometheus sends answers above 2 KB in chunks
    let many: Vec<Series> = (0..200).map(|n| Series::new("many", &[("n", &n.to_string())]).at(now_ms() - 1000, f64::from(n))).collect();
    prometheus.write(&many);
    let sum: f64 = prometheus.instant("many", None).iter().map(|row| row.value).sum();
    assert_eq!(sum, 19_900.0);
}

#[test]
fn a_daemon_that_complains_of_itself_is_heard_and_what_is_others_fault_is_not() {
    let log = r#"2026-11-22T11:58:16.104615Z  INFO canaryd::telemetry::events::traffic: effect applied rollout=shop-2 generation=4
2026-11-22T11:58:28.333797Z  WARN canaryd::telemetry::events::rollout: rolling back rule="shop" rollout=shop-2
2026-11-22T11:58:33.344446Z ERROR canaryd::telemetry::events::daemon: journal failed: nothing steps up until it works what="shop-2" error="no answer within 5 s"
2026-11-22T11:58:34.344446Z ERROR canaryd::telemetry::events::daemon: rule refused problem="shop.yaml:3"
2026-11-22T11:58:35.000000Z ERROR canaryd::telemetry::events::daemon: journal failed: nothing steps up until it works what="shop-2" error="disk I/O error"
thread 'tokio-rt-worker' panicked at src/somewhere.rs:1:1:
2026-11-22T11:58:36.000000Z ERROR canaryd::telemetry::expose: metrics cannot be written error=an error"#;
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(super::daemon::complaints(log), lines[4..]);
}
