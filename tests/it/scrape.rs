//! The direct scrape, against pages as Envoy and an application write them.

use crate::scripted::{Scripted, answer};
use canaryd::model::{Arm, Blind, Counts, History, PerArm, Timestamp, rule};
use canaryd::source::{Scrape, ScrapeSettings, Source, SourceError, Subscription, Wants};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const TICK: Duration = Duration::from_secs(1);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime")
}

fn tick(n: u64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000) + TICK * n as u32
}

fn subscription(key: u64, pack: &str, field: &str, values: [&str; 2], arm: &[(&str, &str)]) -> Subscription {
    let target = |value: &str| rule::Target { fields: [(field.to_owned(), value.to_owned())].into() };
    let arm = arm.iter().map(|(l, t)| ((*l).to_owned(), (*t).to_owned())).collect::<BTreeMap<_, _>>();
    Subscription {
        key,
        arms: PerArm { baseline: target(values[0]), canary: target(values[1]) },
        telemetry: vec![rule::Telemetry { pack: pack.into(), arm, ..rule::Telemetry::default() }],
        custom_counts: Vec::new(),
        custom_gauges: Vec::new(),
        wants: Wants { requests: true, buckets: true, ..Wants::default() },
        time_scale: 1.0,
    }
}

/// One Envoy in front of both versions, as `/stats/prometheus` shows it after `n` ticks.
fn envoy_page(n: u64) -> String {
    let mut page = String::from("# TYPE envoy_server_uptime gauge\n");
    page += &format!("envoy_server_uptime{{}} {}\n# TYPE envoy_cluster_upstream_rq counter\n", 100 + n);
    for (cluster, rate) in [("v1", 20), ("v2", 4)] {
        page += &format!("envoy_cluster_upstream_rq{{envoy_response_code=\"200\",envoy_cluster_name=\"{cluster}\"}} {}\n", 50 + rate * n);
        page += &format!("envoy_cluster_upstream_cx_destroy_local_with_active_rq{{envoy_cluster_name=\"{cluster}\"}} {n}\n");
        for (le, share) in [("0.5", 0), ("5", 1), ("10", 2), ("+Inf", 2)] {
            page += &format!(
                "envoy_cluster_upstream_rq_time_bucket{{envoy_cluster_name=\"{cluster}\",le=\"{le}\"}} {}\n",
                (50 + rate * n) * share / 2
            );
        }
    }
    if n >= 3 {
        page += "envoy_cluster_upstream_rq{envoy_response_code=\"503\",envoy_cluster_name=\"v2\"} 2\n";
    }
    page
}

async fn server(page: impl Fn(u64) -> Option<String> + Send + Sync + 'static) -> (Scripted, Arc<AtomicU64>) {
    let now = Arc::new(AtomicU64::new(0));
    let clock = Arc::clone(&now);
    let script = move |_: &str| match page(clock.load(Ordering::Relaxed)) {
        Some(page) => answer(200, page),
        None => answer(503, "no"),
    };
    (Scripted::start(script).await, now)
}

#[test]
fn the_same_packs_read_pages_directly() {
    runtime().block_on(async {
        let (server, now) = server(|n| (n != 5).then(|| envoy_page(n))).await;
        let mut source = Scrape::new(ScrapeSettings::new("demo", vec![format!("{}/stats/prometheus", server.url)])).expect("settings");
        let wanted = subscription(1, "envoy", "cluster", ["v1", "v2"], &[]);
        let set_up = source.set_up(&wanted, tick(0)).await.expect("set-up");
        assert_eq!((set_up.bounds_ms.as_slice(), set_up.scrape_interval), ([0.5, 5.0, 10.0].as_slice(), None));
        source.subscribe(wanted, set_up.bounds_ms);
        for n in 0..8 {
            now.store(n, Ordering::Relaxed);
            let sample = source.tick(tick(n)).await.remove(0);
            let canary = sample.arms[Arm::Canary].requests;
            match n {
                0 => assert_eq!(canary, Ok(Counts::default()), "{sample:?}"),
                3 => assert_eq!(canary, Ok(Counts { total: 6.0, bad: 2.0 }), "the first errors count from 0"),
                5 => {
                    assert_eq!(sample.missing.canary, Some(Blind::SourceDown));
                    assert!(sample.detail.contains("HTTP 503"), "{}", sample.detail);
                }
                6 => assert_eq!(canary, Ok(Counts { total: 8.0, bad: 0.0 }), "a failed scrape is bridged"),
                _ => {
                    assert_eq!(canary, Ok(Counts { total: 4.0, bad: 0.0 }), "tick {n}");
                    assert_eq!(sample.arms.baseline.buckets.as_ref().map(|b| b.to_vec()), Ok(vec![0.0, 10.0, 20.0, 20.0]));
                    assert_eq!((sample.arms.canary.abandoned, sample.arms.canary.pods), (Ok(1.0), Some(1)));
                }
            }
        }
    });
}

#[test]
fn a_restart_shows_by_the_start_on_the_same_page() {
    runtime().block_on(async {
        // versions behind two addresses of one page each; the canary restarts at tick 3 and has more requests than before
        let page = |n: u64| {
            let (start, total) = if n < 3 { (1_700_000_000, 10 * n) } else { (1_800_000_002, 25 + 10 * (n - 3)) };
            let mut page = format!("process_start_time_seconds {start}\n");
            for (version, total) in [("v1", 100 * n), ("v2", total)] {
                page += &format!("http_requests_total{{version=\"{version}\",code=\"200\"}} {total}\n");
                page += &format!("http_request_duration_seconds_bucket{{version=\"{version}\",le=\"+Inf\"}} {total}\n");
            }
            Some(page)
        };
        let (server, now) = server(page).await;
        let mut source = Scrape::new(ScrapeSettings::new("app", Vec::new())).expect("settings");
        let mut wanted = subscription(1, "http", "version", ["v1", "v2"], &[("version", "{version}")]);
        wanted.telemetry[0].scrape = vec![format!("{}/metrics", server.url)];
        source.subscribe(wanted, Vec::new());
        let mut canary = Vec::new();
        for n in 0..5 {
            now.store(n, Ordering::Relaxed);
            canary.push(source.tick(tick(n)).await.remove(0).arms.canary.requests.map(|c| c.total));
        }
        assert_eq!(canary, [Ok(0.0), Ok(10.0), Ok(10.0), Ok(25.0), Ok(10.0)]);
    });
}

#[test]
fn what_was_scraped_is_the_past_of_the_next_rollout() {
    runtime().block_on(async {
        let (server, now) = server(|n| Some(envoy_page(n))).await;
        let given = History { requests: vec![Some(Counts { total: 1.0, bad: 0.0 })], ..History::default() };
        let settings = ScrapeSettings::new("demo", vec![format!("{}/metrics", server.url)]);
        let mut source = Scrape::new(settings).expect("settings").with_history(given.clone());
        let wanted = subscription(1, "envoy", "cluster", ["v1", "v2"], &[]);
        let hour = Duration::from_secs(3600);
        assert_eq!(source.history(&wanted, tick(0), hour, TICK, &[5.0]).await.expect("history"), given);
        for n in 0..30 {
            now.store(n, Ordering::Relaxed);
            source.tick(tick(n)).await;
        }
        let history = source.history(&wanted, tick(29), hour, TICK, &[5.0, 10.0]).await.expect("history");
        assert_eq!(history.requests, vec![Some(Counts { total: 20.0, bad: 0.0 }); 29]);
        assert_eq!(history.buckets.last().map(|b| b.as_ref().map(|b| b.to_vec())), Some(Some(vec![10.0, 20.0, 20.0])));
    });
}

#[test]
fn a_page_that_is_none_and_a_page_too_large_are_said() {
    runtime().block_on(async {
        for (page, words) in [("<html>".to_owned(), "line 1 is no metric"), ("a 1\n".repeat(1000), "larger than 1000 bytes")] {
            let (server, _) = server(move |_| Some(page.clone())).await;
            let mut settings = ScrapeSettings::new("demo", vec![server.url.clone()]);
            settings.body_max = 1000;
            let mut source = Scrape::new(settings).expect("settings");
            let error = source.set_up(&subscription(1, "envoy", "cluster", ["v1", "v2"], &[]), tick(0)).await.unwrap_err();
            assert!(matches!(&error, SourceError::Down { cause, .. } if cause.contains(words)), "{error}");
        }
        assert!(Scrape::new(ScrapeSettings::new("demo", vec!["envoy:9901".to_owned()])).is_err());
    });
}

/// cAdvisor's page from the file, after `n` ticks.
fn kubelet_page(n: u64) -> String {
    let numbers = |inner: &str| inner.split(',').map(|v| v.parse().expect("a number")).collect::<Vec<f64>>();
    let line = |line: &str| {
        let filled = ["} CPU(", "} SAW("].into_iter().find_map(|word| {
            let (before, rest) = line.split_once(word)?;
            let (inner, after) = rest.split_once(')')?;
            let v = numbers(inner);
            let value = if word == "} CPU(" { v[0] + v[1] * n as f64 } else { v[0] + 1e7 * (n % 3) as f64 };
            Some(format!("{before}}} {value}{after}"))
        });
        filled.unwrap_or_else(|| line.to_owned())
    };
    include_str!("../data/cadvisor-pods.txt").lines().map(line).collect::<Vec<_>>().join("\n")
}

fn near(reading: canaryd::model::Reading<f64>, expected: f64) -> bool {
    reading.is_ok_and(|v| (v / expected - 1.0).abs() < 1e-9)
}

#[test]
fn cpu_and_memory_of_a_kubelets_page_and_their_past() {
    runtime().block_on(async {
        let page = |n: u64| {
            let mut page = kubelet_page(n);
            for (pod, rate) in [("shop-v1-5d4f8-x7k2p", 20), ("shop-v2-66d9b-hh44c", 4)] {
                page += &format!("\nhttp_requests_total{{code=\"200\",namespace=\"prod\",pod=\"{pod}\"}} {}", rate * n);
            }
            Some(page + "\n")
        };
        let (server, now) = server(page).await;
        let mut source = Scrape::new(ScrapeSettings::new("kubelet", vec![server.url.clone()])).expect("settings");
        let mut wanted = subscription(1, "http", "deployment", ["shop-v1", "shop-v2"], &[]);
        for arm in [&mut wanted.arms.baseline, &mut wanted.arms.canary] {
            arm.fields.insert("namespace".to_owned(), "prod".to_owned());
        }
        wanted.telemetry.push(rule::Telemetry { pack: "kubernetes".into(), ..rule::Telemetry::default() });
        wanted.wants = Wants { requests: true, buckets: false, cpu: true, memory: true };
        let set_up = source.set_up(&wanted, tick(0)).await.expect("set-up");
        assert!(set_up.warnings.iter().any(|w| w.contains("cpu, memory from pack kubernetes")), "{set_up:?}");
        source.subscribe(wanted.clone(), Vec::new());
        for n in 0..30 {
            now.store(n, Ordering::Relaxed);
            let arms = source.tick(tick(n)).await.remove(0).arms;
            let saw = 1e7 * (n % 3) as f64;
            assert!(near(arms.baseline.memory, (4e8 + saw + 2e8) / 2.0) && near(arms.canary.memory, 5e8), "tick {n}: {arms:?}");
            assert!(near(arms.baseline.floor, 3e8), "the low of every tooth so far, at tick {n}: {arms:?}");
            assert_eq!((arms.baseline.pods, arms.canary.pods), (Some(2), Some(1)));
            if n == 0 {
                assert_eq!(arms.canary.cpu, Err(Blind::NoSeries), "one page makes no rate");
            } else {
                // 0.2 + 0.1 of one pod, 0.5 of the other
                assert!(near(arms.baseline.cpu, 0.4) && near(arms.canary.cpu, 0.6), "tick {n}: {arms:?}");
                assert_eq!(arms.canary.requests, Ok(Counts { total: 4.0, bad: 0.0 }));
            }
        }
        let history = source.history(&wanted, tick(29), Duration::from_secs(3600), TICK, &[]).await.expect("history");
        assert_eq!((history.requests.len(), history.memory.len(), history.cpu.len(), history.leak.len()), (29, 30, 30, 30));
        // in the order of FNV-1a of `namespace @ pod` zz2xw plays the canary
        for (n, y) in history.memory.iter().enumerate() {
            let expected = (2e8 / (4e8 + 1e7 * (n % 3) as f64)).ln();
            assert!(y.is_some_and(|y| (y - expected).abs() < 1e-9), "{n}: {y:?} {expected}");
        }
        assert!(history.leak.iter().flatten().all(|y| (y - 0.5_f64.ln()).abs() < 1e-9));
        assert!(history.cpu[0].is_none() && history.cpu[1..].iter().all(|y| y.is_some_and(|y| (y - (0.5_f64 / 0.3).ln()).abs() < 1e-9)));
    });
}

#[test]
fn a_process_that_restarts_between_pages_and_one_that_shows_no_number() {
    runtime().block_on(async {
        let page = |n: u64| {
            let cpu = if n < 3 { 10.0 + 2.0 * n as f64 } else { 1.0 + 2.0 * (n - 3) as f64 };
            let memory = if n == 4 { "NaN".to_owned() } else { "5e7".to_owned() };
            let mut page = format!("process_start_time_seconds {}\n", if n < 3 { 1_700_000_000 } else { 1_800_000_002 });
            for version in ["v1", "v2"] {
                let (cpu, memory) = if version == "v2" { (cpu, memory.as_str()) } else { (2.0 * n as f64, "4e7") };
                page += &format!("http_requests_total{{version=\"{version}\",code=\"200\"}} {}\n", 10 * n);
                page += &format!("process_cpu_seconds_total{{version=\"{version}\"}} {cpu}\n");
                page += &format!("process_resident_memory_bytes{{version=\"{version}\"}} {memory}\n");
            }
            Some(page)
        };
        let (server, now) = server(page).await;
        let mut source = Scrape::new(ScrapeSettings::new("app", vec![server.url.clone()])).expect("settings");
        let mut wanted = subscription(1, "http", "version", ["v1", "v2"], &[("version", "{version}")]);
        wanted.wants = Wants { requests: true, buckets: false, cpu: true, memory: true };
        source.subscribe(wanted, Vec::new());
        let mut all = Vec::new();
        for n in 0..6 {
            now.store(n, Ordering::Relaxed);
            all.push(source.tick(tick(n)).await.remove(0));
        }
        // 2 s a second over the last three; across the restart the first of the three is the second it has counted since
        let cpu: Vec<_> = all.iter().map(|s| s.arms.canary.cpu.ok()).collect();
        assert_eq!(
            cpu[1..],
            [Some(2.0), Some(2.0), Some((2.0 + 2.0 + 1.0) / 3.0), Some((2.0 + 1.0 + 2.0) / 3.0), Some((1.0 + 2.0 + 2.0) / 3.0)]
        );
        assert_eq!((all[4].arms.canary.memory, all[4].arms.baseline.memory), (Err(Blind::NotANumber), Ok(4e7)));
        assert!(all[4].detail.contains("canary: memory of ") && all[5].arms.canary.memory == Ok(5e7), "{}", all[4].detail);
    });
}
