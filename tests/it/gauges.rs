//! CPU, memory and odd data against a real Prometheus: cAdvisor's series beside an application's, and their past.

use crate::prometheus::{Samples, TICK, counts, source, target, tick};
use crate::rig::prometheus::{Series, on_both, stale};
use canaryd::model::{Arm, Blind, PerArm, Timestamp, rule};
use canaryd::source::{Packs, Prometheus, PrometheusSettings, Source, Subscription, Wants};
use std::time::Duration;

/// cAdvisor is scraped every second tick.
const SCRAPE: Duration = Duration::from_secs(30);
const CLOSE: f64 = 1e-9;

fn pack(name: &str) -> rule::Telemetry {
    rule::Telemetry { pack: name.into(), ..rule::Telemetry::default() }
}

/// Requests from the application, CPU and memory from its containers.
fn shop(key: u64, packs: &[&str]) -> Subscription {
    let arm = |deployment: &str| target(&[("namespace", "prod"), ("deployment", deployment)]);
    Subscription {
        key,
        arms: PerArm { baseline: arm("shop-v1"), canary: arm("shop-v2") },
        telemetry: packs.iter().map(|name| pack(name)).collect(),
        custom_counts: Vec::new(),
        custom_gauges: Vec::new(),
        wants: Wants { requests: true, buckets: false, cpu: true, memory: true },
        time_scale: 1.0,
    }
}

impl Samples {
    /// What the kubelet shows of one container: cores used since `from`, and bytes; as `cadvisor` or as `resource`.
    fn container(&mut self, (pod, container, id): (&str, &str, &str), at: Timestamp, seconds: f64, bytes: f64) {
        let image = if ["", "POD"].contains(&container) { "" } else { "shop:1" };
        let image = if container == "POD" { "pause:3" } else { image };
        let labels = format!("id=\"{id}\",image=\"{image}\",job=\"kubelet\",namespace=\"prod\",pod=\"{pod}\"");
        let labels = if container.is_empty() { labels } else { format!("container=\"{container}\",{labels}") };
        let labels = format!("{labels},metrics_path=\"/metrics/cadvisor\"");
        self.add(&format!("container_cpu_usage_seconds_total{{{labels}}}"), at, seconds);
        self.add(&format!("container_memory_working_set_bytes{{{labels}}}"), at, bytes);
    }

    /// A pod of two containers, its pause container, its own cgroup, and all of it again from `/metrics/resource`.
    fn pod(&mut self, pod: &str, at: Timestamp, n: u32, cores: f64, bytes: f64) {
        let age = 1000.0 + SCRAPE.as_secs_f64() * f64::from(n);
        let parts = [("app", cores, bytes), ("istio-proxy", 0.1, 50e6), ("POD", 0.001, 1e6), ("", cores + 0.1, bytes + 60e6)];
        for (container, cores, bytes) in parts {
            self.container((pod, container, &format!("/{pod}/{container}")), at, cores * age, bytes);
            if !["", "POD"].contains(&container) {
                let labels = format!(
                    "container=\"{container}\",job=\"kubelet\",metrics_path=\"/metrics/resource\",namespace=\"prod\",pod=\"{pod}\""
                );
                self.add(&format!("container_cpu_usage_seconds_total{{{labels}}}"), at, cores * age);
                self.add(&format!("container_memory_working_set_bytes{{{labels}}}"), at, bytes);
            }
        }
    }

    fn requests(&mut self, pod: &str, at: Timestamp, total: f64) {
        let labels = format!("code=\"200\",instance=\"{pod}:80\",job=\"app\",namespace=\"prod\",pod=\"{pod}\"");
        self.add(&format!("http_requests_total{{{labels}}}"), at, total);
    }
}

const B1: &str = "shop-v1-5d4f8-x7k2p";
const B2: &str = "shop-v1-5d4f8-zz2xw";
const C1: &str = "shop-v2-66d9b-hh44c";

/// The end of the scrape interval `n`.
fn scrape(n: u32) -> Timestamp {
    tick(2 * n)
}

/// Both arms over twelve scrapes. Of the baseline a container restarts, and the second pod goes without a staleness marker.
fn cluster() -> Samples {
    let mut samples = Samples::default();
    for n in 0..12u32 {
        let at = scrape(n) - Duration::from_secs(4);
        samples.pod(B1, at, n, 0.2, 300e6);
        if n < 9 {
            samples.pod(B2, at, n, 0.4, 500e6);
        }
        samples.pod(C1, at, n, 0.5, 600e6);
        // a container's old cgroup stays beside the new one, and rises no more
        samples.container((B1, "app", "/old"), at, 500.0, 280e6);
        // others whose names begin alike: a Job's pod, another Deployment's, another namespace's
        samples.pod("shop-v1-backup-x7k2p", at, n, 9.0, 9e9);
        samples.pod("shop-v1-extra-5d4f8-x7k2p", at, n, 9.0, 9e9);
        for (pod, rate) in [(B1, 40.0), (B2, 40.0), (C1, 8.0)] {
            samples.requests(pod, at, rate * f64::from(n));
        }
    }
    samples
}

fn near(reading: canaryd::model::Reading<f64>, expected: f64) -> bool {
    reading.is_ok_and(|v| (v / expected - 1.0).abs() < CLOSE)
}

#[test]
fn cpu_and_memory_of_containers_beside_an_applications_requests() {
    on_both(async |rig| {
        cluster().write(rig);
        let mut source = source(&rig.url());
        let wanted = shop(1, &["http", "kubernetes"]);
        let set_up = source.set_up(&wanted, scrape(6)).await.expect("set-up");
        assert_eq!(set_up.scrape_interval, Some(SCRAPE), "that of the slower job");
        let said = set_up.warnings.join("\n");
        assert!(said.contains("requests from pack http; cpu, memory from pack kubernetes"), "{said}");
        assert!(!said.contains("no series of container"), "{said}");
        assert_eq!(set_up.queries.iter().filter(|q| q.contains("container_")).count(), 5, "{:?}", set_up.queries);
        source.subscribe(wanted, Vec::new());
        source.tick(scrape(6)).await;
        let sample = source.tick(scrape(7)).await.remove(0);
        let arms = &sample.arms;
        assert_eq!((counts(&sample, Arm::Baseline), counts(&sample, Arm::Canary)), (Some((80.0, 0.0)), Some((8.0, 0.0))));
        // (0.2 + 0.1 + 0.4 + 0.1) / 2 and 0.5 + 0.1 cores
        assert!(near(arms.baseline.cpu, 0.4) && near(arms.canary.cpu, 0.6), "{arms:?}");
        assert!(near(arms.baseline.memory, 450e6) && near(arms.canary.memory, 650e6), "{arms:?}");
        assert!(near(arms.baseline.floor, 450e6) && near(arms.canary.floor, 650e6), "{arms:?}");
        assert_eq!((arms.baseline.pods, arms.canary.pods), (Some(2), Some(1)));
        // the second pod's last scrape was at 8; two scrapes later it no longer counts, though Prometheus still shows it
        for (n, pods) in [(8, 2), (9, 2), (10, 2), (11, 1)] {
            let arms = source.tick(scrape(n)).await.remove(0).arms;
            assert_eq!(arms.baseline.pods, Some(pods), "at {n}");
            assert!(near(arms.baseline.memory, if pods == 2 { 450e6 } else { 350e6 }), "at {n}: {arms:?}");
        }
        // nothing new: the same sample is not evidence twice
        let again = source.tick(scrape(11) + TICK).await.remove(0);
        assert_eq!((again.arms.canary.cpu, again.arms.canary.memory), (Err(Blind::Stale), Err(Blind::Stale)));
    });
}

#[test]
fn gauges_that_are_no_number_and_negative_ones_blind_themselves_alone() {
    on_both(async |rig| {
        let mut samples = cluster();
        let memory = |pod: &str| {
            format!(
                "container_memory_working_set_bytes{{container=\"app\",id=\"/{pod}/app\",image=\"shop:1\",job=\"kubelet\",\
                 namespace=\"prod\",pod=\"{pod}\",metrics_path=\"/metrics/cadvisor\"}}"
            )
        };
        samples.0.get_mut(&memory(C1)).expect("series")[7].1 = f64::NAN;
        samples.0.get_mut(&memory(B2)).expect("series")[7].1 = -1e12;
        samples.write(rig);
        let mut source = source(&rig.url());
        source.subscribe(shop(1, &["http", "kubernetes"]), Vec::new());
        source.tick(scrape(6)).await;
        let sample = source.tick(scrape(7)).await.remove(0);
        for arm in Arm::BOTH {
            assert_eq!(sample.arms[arm].memory, Err(Blind::NotANumber), "{sample:?}");
            assert!(sample.arms[arm].cpu.is_ok() && sample.arms[arm].requests.is_ok(), "{sample:?}");
        }
        assert!(sample.detail.contains(&format!("canary: memory of prod @ {C1} is no number from 0 up")), "{}", sample.detail);
        assert!(sample.detail.contains(&format!("baseline: memory of prod @ {B2}")), "{}", sample.detail);
        assert!(near(source.tick(scrape(8)).await.remove(0).arms.canary.memory, 650e6));
    });
}

#[test]
fn a_refused_level_leaves_the_counts_alone() {
    on_both(async |rig| {
        cluster().write(rig);
        let folder = tempfile::tempdir().expect("a folder");
        let text = "pack: broken\nidentity: [namespace, pod]\narm: { namespace: '{namespace}', pod: 'pods()' }\n\
            gauges: { memory: { of: 'container_memory_working_set_bytes{ARM,x=~\"a{1001}\"}', unit: bytes } }\n";
        std::fs::write(folder.path().join("broken.yaml"), text).expect("pack");
        let packs = Packs::with_folder(folder.path()).expect("packs");
        let mut source = Prometheus::new(PrometheusSettings { packs, ..PrometheusSettings::new("prom", rig.url()) }).expect("settings");
        source.subscribe(shop(1, &["http", "broken"]), Vec::new());
        source.tick(scrape(6)).await;
        let sample = source.tick(scrape(7)).await.remove(0);
        assert_eq!(counts(&sample, Arm::Canary), Some((8.0, 0.0)), "{sample:?}");
        assert_eq!(sample.arms.canary.memory, Err(Blind::QueryRejected));
        assert!(sample.detail.contains("invalid repeat count"), "{}", sample.detail);
    });
}

#[test]
fn a_process_outside_kubernetes_by_label_value() {
    on_both(async |rig| {
        let mut samples = Samples::default();
        for n in 0..40u32 {
            let at = tick(n) - Duration::from_secs(3);
            for (version, instances, cores) in [("v1", &["a", "b"][..], 0.25), ("v2", &["c"], 0.5)] {
                for instance in instances {
                    let labels = format!("instance=\"{instance}\",job=\"app\",version=\"{version}\"");
                    samples.add(&format!("http_requests_total{{code=\"200\",{labels}}}"), at, 10.0 * f64::from(n));
                    samples.add(&format!("process_cpu_seconds_total{{{labels}}}"), at, 100.0 + cores * 15.0 * f64::from(n));
                    // a sawtooth: the floor is its low
                    let memory = 1e8 + f64::from(n % 4) * 1e7;
                    samples.add(&format!("process_resident_memory_bytes{{{labels}}}"), at, memory);
                }
            }
        }
        samples.write(rig);
        let mut source = source(&rig.url());
        let mut wanted = shop(1, &["http"]);
        wanted.arms = PerArm { baseline: target(&[("version", "v1")]), canary: target(&[("version", "v2")]) };
        wanted.telemetry[0].arm = [("version".to_owned(), "{version}".to_owned())].into();
        let set_up = source.set_up(&wanted, tick(37)).await.expect("set-up");
        assert_eq!(set_up.scrape_interval, Some(TICK));
        source.subscribe(wanted, Vec::new());
        source.tick(tick(38)).await;
        let arms = source.tick(tick(39)).await.remove(0).arms;
        assert!(near(arms.baseline.cpu, 0.25) && near(arms.canary.cpu, 0.5), "{arms:?}");
        assert!(near(arms.canary.memory, 1.3e8) && near(arms.canary.floor, 1e8), "{arms:?}");
        assert_eq!((arms.baseline.pods, arms.canary.pods), (Some(2), Some(1)));
    });
}

/// Pods of the baseline in the order of FNV-1a of `namespace @ pod`, computed apart from the daemon.
const BY_HASH: [&str; 4] = ["shop-v1-5d4f8-hh44c", "shop-v1-5d4f8-zz2xw", "shop-v1-5d4f8-x7k2p", "shop-v1-5d4f8-bbbbb"];

/// Bytes of a pod at a tick: no two alike.
fn bytes(pod: usize, n: u32) -> f64 {
    1e8 * (1.0 + pod as f64) + 1e6 * f64::from((n * (pod as u32 + 3)) % 17)
}

#[test]
fn the_past_of_levels_is_an_a_a_split_of_the_baselines_pods() {
    on_both(async |rig| {
        let mut samples = Samples::default();
        let at = |n: u32| tick(n) - Duration::from_secs(5);
        for n in 0..300u32 {
            for (k, pod) in BY_HASH.iter().enumerate() {
                // cores that differ by pod: the A/A series of CPU is constant
                samples.container((pod, "app", "/a"), at(n), (1.0 + k as f64) * 15.0 * f64::from(n), bytes(k, n));
            }
            samples.container((C1, "app", "/a"), at(n), 1.0, 1.0);
            // there for too short a time to take part
            if n > 250 {
                samples.container(("shop-v1-5d4f8-ccccc", "app", "/a"), at(n), f64::from(n), 1.0);
            }
        }
        samples.write(rig);
        let mut source = source(&rig.url());
        let mut wanted = shop(1, &["kubernetes"]);
        wanted.wants.requests = false;
        let steps = 200;
        let history = source.history(&wanted, tick(299), TICK * steps, TICK, &[]).await.expect("history");
        let split = |level: &dyn Fn(usize, u32) -> f64, n: u32| (level(0, n) / ((level(1, n) + level(2, n) + level(3, n)) / 3.0)).ln();
        let low = |pod: usize, n: u32| (n.saturating_sub(39)..=n).map(|m| bytes(pod, m)).fold(f64::INFINITY, f64::min);
        assert_eq!((history.memory.len(), history.leak.len(), history.cpu.len()), (200, 200, 200));
        for k in 0..200u32 {
            let n = 100 + k;
            let [memory, leak, cpu] = [&history.memory, &history.leak, &history.cpu].map(|y| y[k as usize].expect("a point"));
            assert!((memory - split(&bytes, n)).abs() < CLOSE, "memory at {n}");
            assert!((leak - split(&low, n)).abs() < CLOSE, "floor at {n}");
            assert!((cpu - (1.0_f64 / 3.0).ln()).abs() < CLOSE, "cpu at {n}: {cpu}");
        }
        assert!(history.load.is_none(), "no requests were asked for");
    });
}

#[test]
fn a_day_of_load_and_cpu() {
    on_both(async |rig| {
        let mut samples = Samples::default();
        let end = tick(300);
        // two pods, scraped once a minute; requests and CPU of both rise by the hour
        let (mut served, mut cores) = (0.0, 0.0);
        for minute in 0..=24 * 60u32 {
            let at = end - Duration::from_secs(u64::from(24 * 60 - minute) * 60);
            let rate = f64::from(10 + minute / 60);
            for pod in [B1, B2] {
                samples.requests(pod, at, served);
                samples.container((pod, "app", "/a"), at, 5000.0 + cores, 1e8);
            }
            served += rate * 60.0;
            cores += (0.1 + 0.01 * rate) * 60.0;
        }
        samples.write(rig);
        let mut source = source(&rig.url());
        let history = source.history(&shop(1, &["http", "kubernetes"]), end, TICK * 8, TICK, &[]).await.expect("history");
        let load = history.load.expect("a load history");
        assert!((280..=288).contains(&load.rate.len()), "{}", load.rate.len());
        let mut exact = 0;
        for (rate, cpu) in load.rate.iter().zip(&load.cpu) {
            assert!((10.0..=33.0).contains(rate), "{rate}");
            // at the turn of an hour Prometheus' extrapolated rate and the daemon's increments weigh the minutes differently
            assert!((cpu - (0.1 + 0.01 * rate)).abs() < 0.005, "{rate} {cpu}");
            exact += u32::from((cpu - (0.1 + 0.01 * rate)).abs() < CLOSE);
        }
        assert!(exact > 240, "{exact} of {}", load.rate.len());
    });
}

#[test]
fn custom_queries_that_cannot_tell_the_arms_apart() {
    on_both(async |rig| {
        let mut samples = cluster();
        for n in 0..12u32 {
            samples.add("cache_hits_total{job=\"app\"}", scrape(n) - SCRAPE / 2, f64::from(n));
            samples.add("cache_requests_total{job=\"app\"}", scrape(n) - SCRAPE / 2, f64::from(n));
        }
        samples.write(rig);
        let mut source = source(&rig.url());
        let mut wanted = shop(1, &["http", "kubernetes"]);
        let counts = |part: &str| rule::CustomCounts { part: part.into(), part_is_bad: false, total: "cache_requests_total".into() };
        wanted.custom_counts = vec![counts("cache_hits_total")];
        let why = source.set_up(&wanted, scrape(6)).await.unwrap_err().to_string();
        assert!(why.contains("cache_requests_total has series, but none with the label \"namespace\""), "{why}");
        wanted.custom_counts = vec![counts("sum(cache_hits_total)")];
        let why = source.set_up(&wanted, scrape(6)).await.unwrap_err().to_string();
        assert!(why.contains("is no selector"), "{why}");
    });
}

#[test]
fn a_bound_that_vanishes_in_the_canary_blinds_latency_and_loses_nothing() {
    on_both(async |rig| {
        let mut samples = Samples::default();
        for n in 0..6u32 {
            let at = tick(n) - Duration::from_secs(3);
            for cluster in ["v1", "v2"] {
                samples.envoy("b", "p", cluster, at, 100.0 * f64::from(n), 0.0);
            }
        }
        let gone = "envoy_cluster_upstream_rq_time_bucket{le=\"10\",envoy_cluster_name=\"v2\",instance=\"p\",job=\"envoy\",test=\"b\"}";
        let points = samples.0.get_mut(gone).expect("series");
        points.retain(|(at, _)| *at != points_at(3) && *at != points_at(4));
        points.push((points_at(3), stale()));
        points.sort_by_key(|(at, _)| *at);
        samples.write(rig);
        let mut source = source(&rig.url());
        source.subscribe(crate::prometheus::envoy(1, "b", "v1", "v2"), vec![5.0, 10.0]);
        let mut all = Vec::new();
        for n in 0..6 {
            all.push(source.tick(tick(n)).await.remove(0));
        }
        let canary: Vec<_> = all.iter().map(|s| s.arms.canary.buckets.as_ref().map(|b| b.to_vec()).map_err(|why| *why)).collect();
        assert_eq!(canary[2], Ok(vec![50.0, 90.0, 100.0]));
        for n in [3, 4] {
            assert_eq!((&canary[n], counts(&all[n], Arm::Canary)), (&Err(Blind::NoSeries), Some((100.0, 0.0))), "tick {n}");
            assert!(all[n].detail.contains("has no bucket for 10 ms"), "{}", all[n].detail);
        }
        assert_eq!(canary[5], Ok(vec![150.0, 270.0, 300.0]), "{:?}", all[5]);
    });
}

fn points_at(n: u32) -> i64 {
    (tick(n) - Duration::from_secs(3)).as_millis()
}

#[test]
fn a_histogram_that_exists_in_native_form_only() {
    on_both(async |rig| {
        let mut samples = Samples::default();
        let mut native = Vec::new();
        for cluster in ["v1", "v2"] {
            let labels = format!("envoy_cluster_name=\"{cluster}\",instance=\"p\",job=\"envoy\",test=\"n\"");
            for n in 0..6u32 {
                samples.add(
                    &format!("envoy_cluster_upstream_rq{{envoy_response_code=\"200\",{labels}}}"),
                    tick(n) - TICK / 3,
                    10.0 * f64::from(n),
                );
            }
            let empty = Series::parse(&format!("envoy_cluster_upstream_rq_time{{{labels}}}"));
            native.push((0..6u32).fold(empty, |s, n| s.native((tick(n) - TICK / 3).as_millis(), 10 + 10 * u64::from(n))));
        }
        samples.write(rig);
        rig.write(&native);
        let mut source = source(&rig.url());
        let wanted = crate::prometheus::envoy(1, "n", "v1", "v2");
        let set_up = source.set_up(&wanted, tick(4)).await.expect("set-up");
        assert!(set_up.bounds_ms.is_empty() && set_up.warnings.iter().any(|w| w.contains("native form only")), "{set_up:?}");
        source.subscribe(wanted, set_up.bounds_ms);
        source.tick(tick(4)).await;
        let sample = source.tick(tick(5)).await.remove(0);
        assert_eq!((counts(&sample, Arm::Canary), &sample.arms.canary.buckets), (Some((10.0, 0.0)), &Err(Blind::NativeHistogramOnly)));
        assert!(sample.detail.contains("always_scrape_classic_histograms"), "{}", sample.detail);
    });
}

#[test]
fn the_past_of_a_rules_own_gauge_is_asked_for_each_part_of_the_split() {
    on_both(async |rig| {
        let mut samples = Samples::default();
        for n in 0..60u32 {
            for (k, pod) in BY_HASH.iter().enumerate() {
                samples.requests(pod, tick(n) - TICK / 3, 10.0 * f64::from(n));
                let labels = format!("instance=\"{pod}:80\",job=\"app\",namespace=\"prod\",pod=\"{pod}\"");
                samples.add(&format!("queue_depth{{{labels}}}"), tick(n) - TICK / 3, 1.0 + k as f64 + f64::from(n % 5));
            }
        }
        samples.write(rig);
        let mut source = source(&rig.url());
        let mut wanted = shop(1, &["http"]);
        wanted.wants = Wants { requests: true, ..Wants::default() };
        let gauge = |query: &str| rule::CustomGauge { query: query.into(), lower_is_worse: false };
        // the second has no pods to split by
        wanted.custom_gauges = vec![gauge("avg(queue_depth{job=\"app\",{{workload}}})"), gauge("vector(3)")];
        let history = source.history(&wanted, tick(59), TICK * 40, TICK, &[]).await.expect("history");
        assert_eq!((history.custom_gauges.len(), history.custom_gauges[0].len()), (2, 40));
        // FNV-1a of `namespace @ pod @ instance`, computed apart: x7k2p plays the canary
        for (k, y) in history.custom_gauges[0].iter().enumerate() {
            let wave = f64::from((20 + k as u32) % 5);
            let expected = ((3.0 + wave) / ((10.0 - 3.0) / 3.0 + wave)).ln();
            assert!(y.is_some_and(|y| (y - expected).abs() < CLOSE), "{k}: {y:?} {expected}");
        }
        assert!(history.custom_gauges[1].is_empty(), "the same answer for both parts is no comparison of them");
    });
}
