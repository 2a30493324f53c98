//! The shipped packs against what they read: real exporters where there are any, scraped by a real Prometheus.

use crate::prometheus::{counts, runtime, target};
use crate::rig::http;
use crate::rig::process::Process;
use crate::rig::prometheus::{Job, Prometheus};
use crate::rig::service::Service;
use crate::rig::{READY_MAX, poll, ports, require};
use canaryd::model::{Arm, PerArm, Timestamp, rule};
use canaryd::source::{self, PrometheusSettings, Source, SourceSample, Subscription, Wants};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Longest a user waits here.
const USER_MAX: Duration = Duration::from_secs(5);

fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    Timestamp::from_millis(now.as_millis() as i64)
}

/// A HAProxy in front of two services: a backend for each, a backend of both, and one that hides failures.
struct Haproxy {
    _process: Process,
    edge: u16,
    metrics: u16,
}

impl Haproxy {
    fn start(folder: &Path, v1: u16, v2: u16) -> Option<Self> {
        let program = require("haproxy")?;
        let (edge, metrics) = (ports::free(), ports::free());
        let both = format!(
            "use-server v1 if {{ path_end /v1 }}\n use-server v2 if {{ path_end /v2 }}\n server v1 127.0.0.1:{v1}\n server v2 127.0.0.1:{v2}"
        );
        let text = format!(
            "global\n maxconn 500\n\
             defaults\n mode http\n timeout connect 1s\n timeout client 5s\n timeout server 5s\n retries 0\n\
             frontend metrics\n bind 127.0.0.1:{metrics}\n http-request use-service prometheus-exporter if {{ path /metrics }}\n\
             frontend edge\n bind 127.0.0.1:{edge}\n use_backend be_v2 if {{ path /alone/v2 }}\n use_backend both if {{ path_beg /both }}\n \
             use_backend hiding if {{ path_beg /hiding }}\n default_backend be_v1\n\
             backend be_v1\n server s 127.0.0.1:{v1}\n\
             backend be_v2\n server s 127.0.0.1:{v2}\n\
             backend both\n {both}\n\
             backend hiding\n option redispatch 1\n retries 1\n {both}\n"
        );
        let file = folder.join("haproxy.cfg");
        std::fs::write(&file, text).expect("the settings can be written");
        let arguments = ["-db".into(), "-f".into(), file.into_os_string()];
        let mut process = Process::spawn("haproxy", &program, &arguments, &folder.join("haproxy.log"));
        process.wait_ready(metrics, "/metrics");
        Some(Self { _process: process, edge, metrics })
    }

    /// The status of one request.
    fn status(&self, path: &str) -> u16 {
        http::get(self.edge, path, USER_MAX).expect("HAProxy answers").status
    }
}

/// A subscription on HAProxy: arms told apart by backend or by server.
fn haproxy(key: u64, variant: &str, arms: [&[(&str, &str)]; 2]) -> Subscription {
    let telemetry = rule::Telemetry { pack: "haproxy".into(), variant: Some(variant.into()), ..rule::Telemetry::default() };
    Subscription {
        key,
        arms: PerArm { baseline: target(arms[0]), canary: target(arms[1]) },
        telemetry: vec![telemetry],
        custom_counts: Vec::new(),
        custom_gauges: Vec::new(),
        wants: Wants { requests: true, ..Wants::default() },
        time_scale: 1.0,
    }
}

/// Waits until Prometheus shows so much, then reads a tick.
fn tick_when(prometheus: &Prometheus, query: &str, value: f64, source: &mut source::Prometheus) -> Vec<SourceSample> {
    let seen = poll(READY_MAX, || prometheus.value(query).filter(|v| *v == value));
    assert_eq!(seen, Some(value), "{query}: {:?}", prometheus.value(query));
    runtime().block_on(source.tick(now()))
}

#[test]
fn haproxy_tells_by_backend_and_by_server_what_its_own_exporter_shows() {
    let (v1, mut v2) = (Service::start("v1"), Service::start("v2"));
    let folder = tempfile::tempdir().expect("a folder");
    let Some(proxy) = Haproxy::start(folder.path(), v1.port, v2.port) else { return };
    let Some(prometheus) = Prometheus::start(&folder.path().join("prom"), &[Job::new("edge", proxy.metrics, "/metrics", &[])]) else {
        return;
    };
    let mut source = source::Prometheus::new(PrometheusSettings::new("prom", prometheus.url())).expect("settings");
    let wanted = [
        haproxy(1, "backend", [&[("backend", "be_v1")], &[("backend", "be_v2")]]),
        haproxy(2, "server", [&[("backend", "both"), ("server", "v1")], &[("backend", "both"), ("server", "v2")]]),
        haproxy(3, "server", [&[("backend", "hiding"), ("server", "v1")], &[("backend", "hiding"), ("server", "v2")]]),
    ];
    wanted.iter().for_each(|w| source.subscribe(w.clone(), Vec::new()));
    let all = "sum(haproxy_frontend_http_responses_total{proxy=\"edge\"})";
    // every class is there from the start, at 0
    let first = tick_when(&prometheus, all, 0.0, &mut source);
    assert!(first.iter().all(|s| s.missing == PerArm::default()), "{first:?}");
    for warnings in wanted.iter().map(|w| runtime().block_on(source.set_up(w, now())).expect("set-up").warnings) {
        assert!(!warnings.join("\n").contains("no series"), "{warnings:?}");
    }

    for path in ["/alone/v1", "/alone/v2", "/both/v1", "/both/v2", "/hiding/v1", "/hiding/v2"] {
        (0..10).for_each(|_| assert_eq!(proxy.status(path), 200, "{path}"));
    }
    let healthy = tick_when(&prometheus, all, 60.0, &mut source);
    for sample in &healthy {
        let read = (counts(sample, Arm::Baseline), counts(sample, Arm::Canary));
        assert_eq!(read, (Some((10.0, 0.0)), Some((10.0, 0.0))), "{sample:?}");
    }

    v2.die();
    for (path, status) in [("/alone/v2", 503), ("/both/v2", 503), ("/hiding/v2", 200), ("/both/v1", 200)] {
        (0..10).for_each(|_| assert_eq!(proxy.status(path), status, "{path}"));
    }
    let dead = tick_when(&prometheus, all, 100.0, &mut source);
    let canary: Vec<_> = dead.iter().map(|s| counts(s, Arm::Canary).expect("counts")).collect();
    assert_eq!(canary[0], (10.0, 10.0), "HAProxy's own 503");
    assert_eq!(canary[1], (10.0, 10.0), "connections refused, without any response");
    let (total, bad) = canary[2];
    assert!(total == bad && bad >= 10.0, "no user saw it, redispatched requests tell: {:?}", dead[2]);
    let baseline: Vec<_> = dead.iter().map(|s| counts(s, Arm::Baseline).expect("counts")).collect();
    assert_eq!(baseline, [(0.0, 0.0), (10.0, 0.0), (10.0, 0.0)]);
}
