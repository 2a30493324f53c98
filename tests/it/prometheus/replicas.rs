//! Two replicas of Prometheus that scrape the same service at other phases, behind one address that answers in turn.

use super::{counts, runtime, target};
use crate::rig::load::{self, Load};
use crate::rig::prometheus::{Job, Prometheus as Server, Settings, Version};
use crate::rig::service::{Behaviour, Service};
use canaryd::model::{Arm, PerArm, Timestamp, rule};
use canaryd::source::{Source, Subscription, Wants};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

const TICK: Duration = Duration::from_secs(1);
/// How long requests are sent.
const LOADED: Duration = Duration::from_secs(10);
/// Longest wait for the first scrapes, and for the last.
const TICKS_MAX: usize = 60;

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    Timestamp::from_millis(since.as_millis() as i64)
}

/// Passes each request on to the next of two ports.
async fn in_turn(ports: [u16; 2]) -> (String, Arc<AtomicUsize>) {
    let turn = Arc::new(AtomicUsize::new(0));
    let client = reqwest::Client::builder().tls_certs_only([]).build().expect("client");
    let count = Arc::clone(&turn);
    let app = axum::Router::new().fallback(move |request: axum::extract::Request| {
        let port = ports[count.fetch_add(1, Ordering::Relaxed) % 2];
        let client = client.clone();
        async move {
            let path = request.uri().path().to_owned();
            let kind = request.headers().get("content-type").cloned();
            let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap_or_default();
            let mut passed = client.post(format!("http://127.0.0.1:{port}{path}")).body(body);
            if let Some(kind) = kind {
                passed = passed.header("content-type", kind);
            }
            match passed.send().await {
                Ok(answer) => crate::scripted::answer(answer.status().as_u16(), answer.bytes().await.unwrap_or_default()),
                Err(e) => crate::scripted::answer(502, e.to_string()),
            }
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
    let url = format!("http://{}", listener.local_addr().expect("address"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, turn)
}

fn wanted() -> Subscription {
    let arm = [("version".to_owned(), "{version}".to_owned())].into();
    Subscription {
        key: 1,
        arms: PerArm { baseline: target(&[("version", "v1")]), canary: target(&[("version", "v2")]) },
        telemetry: vec![rule::Telemetry { pack: "http".into(), arm, ..rule::Telemetry::default() }],
        custom_counts: Vec::new(),
        custom_gauges: Vec::new(),
        wants: Wants { requests: true, ..Wants::default() },
        time_scale: 1.0,
    }
}

#[test]
fn replicas_in_turn_make_no_false_evidence() {
    let services = [Service::start("v1"), Service::start("v2")];
    // every tenth request of the canary fails: a class that rises seldom is the one that would be counted twice
    services[1].behave(Behaviour { errors: 0.1, ..Behaviour::default() });
    let folders = [tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder")];
    let jobs: Vec<Job> = services.iter().map(|s| Job::new(&format!("shop-{}", s.port), s.port, "/metrics", &[])).collect();
    let start = |folder: &tempfile::TempDir| {
        let settings = Settings { version: Version::Three, scrape: Duration::from_millis(2000), jobs: jobs.clone(), ..Settings::default() };
        Server::start_with(folder.path(), settings)
    };
    let Some(first) = start(&folders[0]) else { return };
    let Some(second) = start(&folders[1]) else { return };
    let send = |lasts: Duration| {
        services.each_ref().map(|s| Load::start(load::Settings { port: s.port, rate_per_s: 30, timeout: Duration::from_secs(5), lasts }))
    };
    send(Duration::from_secs(1)).into_iter().for_each(|load| drop(load.finish()));
    let settled = || services.each_ref().map(Service::served);
    let before = settled();

    runtime().block_on(async {
        let (url, turns) = in_turn([first.port, second.port]).await;
        let mut source = super::source(&url);
        source.subscribe(wanted(), Vec::new());
        let mut at = now().floor_to(TICK);
        let mut tick = async || {
            at = at + TICK;
            tokio::time::sleep((at + Duration::from_millis(200)).since(now())).await;
            source.tick(at).await.remove(0)
        };
        // both arms' raw values are noted once all that was served before has been scraped by both
        let (mut noted, mut said) = (0, String::new());
        for _ in 0..TICKS_MAX {
            let sample = tick().await;
            said = format!("{:?} {}", sample.missing, sample.detail);
            noted += usize::from(Arm::BOTH.iter().all(|arm| counts(&sample, *arm).is_some()));
            if noted > 4 {
                break;
            }
        }
        assert!(noted > 4, "nothing was scraped: {said}");
        let loads = send(LOADED);
        let mut seen = PerArm { baseline: (0.0, 0.0), canary: (0.0, 0.0) };
        let mut quiet = 0;
        for _ in 0..TICKS_MAX {
            let sample = tick().await;
            let served = settled();
            let mut rose = false;
            for (arm, (service, before)) in Arm::BOTH.into_iter().zip(served.iter().zip(&before)) {
                let (all, bad) = counts(&sample, arm).unwrap_or_default();
                seen[arm] = (seen[arm].0 + all, seen[arm].1 + bad);
                rose |= all > 0.0;
                let most = ((service.good + service.errors - before.good - before.errors) as f64, (service.errors - before.errors) as f64);
                assert!(seen[arm].0 <= most.0 && seen[arm].1 <= most.1, "{arm:?}: {:?} of {most:?} served: {sample:?}", seen[arm]);
            }
            quiet = if rose { 0 } else { quiet + 1 };
            if quiet > 6 && loads.iter().all(|load| load.counts().answered() >= 290) {
                break;
            }
        }
        loads.into_iter().for_each(|load| drop(load.finish()));
        let served = settled();
        for (arm, (service, before)) in Arm::BOTH.into_iter().zip(served.iter().zip(&before)) {
            let truth = ((service.good + service.errors - before.good - before.errors) as f64, (service.errors - before.errors) as f64);
            assert_eq!(seen[arm], truth, "{arm:?}: every request once");
        }
        assert!(seen.canary.1 > 0.0 && turns.load(Ordering::Relaxed) > 40);
    });
}
