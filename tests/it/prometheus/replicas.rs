//! Two replicas of Prometheus that scrape the same service at other phases, behind one address that answers in turn: each is
//! behind the other by half of the time, so counters read through it fall and rise again although nothing restarted.

use super::{Samples, TICK, counts, runtime, source, target, tick};
use crate::rig::prometheus::{Prometheus as Server, Version};
use crate::scripted::answer;
use canaryd::model::{Arm, Blind, PerArm, Timestamp, rule};
use canaryd::source::{Prometheus, Source, Subscription, Wants};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Distance of scrapes, and of ticks: at the same distance no replica is behind what was read last.
const SCRAPE: Duration = TICK;
const SHORT_TICK: Duration = Duration::from_secs(5);
/// Scrapes before the first tick, as many as the look-up of the scrape interval counts; between it and the load; the last.
const FIRST: u32 = 22;
const LOADED: u32 = 25;
const QUIET: u32 = 65;
const LAST: u32 = 70;
/// Longest time without a usable tick: a scrape of each replica.
const STALE_MAX: u32 = 6;

/// Which replica answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// The other one at each tick.
    OfTicks,
    /// The other one at each request: values and their times are those of different replicas.
    OfRequests,
}

/// One address for both.
struct Address {
    url: String,
    turn: Arc<AtomicU32>,
}

impl Address {
    async fn start(ports: [u16; 2], kind: Turn) -> Self {
        let turn = Arc::new(AtomicU32::new(0));
        // the client does not choose one of its own
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().tls_certs_only([]).build().expect("client");
        let count = Arc::clone(&turn);
        let app = axum::Router::new().fallback(move |request: axum::extract::Request| {
            let of_request = u32::from(kind == Turn::OfRequests);
            let port = ports[usize::from(count.fetch_add(of_request, Ordering::Relaxed) % 2 == 1)];
            passed_on(client.clone(), port, request)
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, turn }
    }

    /// Another one's request: without it a tick of two requests would ask the same replica the same thing for ever.
    fn next(&self) {
        self.turn.fetch_add(1, Ordering::Relaxed);
    }
}

async fn passed_on(client: reqwest::Client, port: u16, request: axum::extract::Request) -> axum::response::Response {
    let url = format!("http://127.0.0.1:{port}{}", request.uri());
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.expect("a small body");
    let mut passed = client.request(head.method, url).body(body);
    for name in ["content-type", "accept"] {
        passed = head.headers.get(name).into_iter().fold(passed, |passed, value| passed.header(name, value));
    }
    let got = passed.send().await.expect("the replica answers");
    let (status, kind) = (got.status(), got.headers().get("content-type").cloned());
    let mut given = answer(status.as_u16(), got.bytes().await.expect("the whole answer"));
    given.headers_mut().extend(kind.map(|kind| (axum::http::header::CONTENT_TYPE, kind)));
    given
}

/// What an arm had served at an instant, all and errors: nothing before the load and after it, and an error now and then.
fn served(arm: Arm, at: Timestamp) -> (f64, f64) {
    let since = at.min(tick(QUIET)).since(tick(LOADED)).as_secs_f64();
    let since = if at < tick(LOADED) { 0.0 } else { since };
    let (per_s, between_errors) = if arm == Arm::Baseline { (4.0, 61.0) } else { (2.0, 17.0) };
    (1000.0 + (per_s * since).floor(), 5.0 + (since / between_errors).floor())
}

/// A replica's samples of both arms; its scrapes lie so long before the ticks.
fn scraped(server: &Server, test: &str, before: Duration) {
    let mut samples = Samples::default();
    for (arm, version) in [(Arm::Baseline, "v1"), (Arm::Canary, "v2")] {
        let labels = format!("instance=\"{version}:80\",job=\"shop\",test=\"{test}\",version=\"{version}\"");
        for at in (0..=LAST).map(|n| tick(n) - before) {
            let (all, bad) = served(arm, at);
            samples.add(&format!("http_requests_total{{code=\"200\",{labels}}}"), at, all - bad);
            samples.add(&format!("http_requests_total{{code=\"500\",{labels}}}"), at, bad);
            samples.add(&format!("process_start_time_seconds{{{labels}}}"), at, tick(0).as_secs_f64() - 9000.0);
            samples.add(&format!("up{{{labels}}}"), at, 1.0);
        }
    }
    samples.write(server);
}

fn wanted(test: &str) -> Subscription {
    let arm = [("version".to_owned(), "{version}".to_owned())].into();
    let extra = Some(format!("test=\"{test}\""));
    Subscription {
        key: 1,
        arms: PerArm { baseline: target(&[("version", "v1")]), canary: target(&[("version", "v2")]) },
        telemetry: vec![rule::Telemetry { pack: "http".into(), arm, extra, ..rule::Telemetry::default() }],
        custom_counts: Vec::new(),
        custom_gauges: Vec::new(),
        wants: Wants { requests: true, ..Wants::default() },
        time_scale: 1.0,
    }
}

/// Ticks over the whole load through the address: what was counted of each arm, tick by tick within what was served.
async fn counted(source: &mut Prometheus, address: &Address, case: &str) -> PerArm<(f64, f64)> {
    let mut seen = PerArm { baseline: (0.0, 0.0), canary: (0.0, 0.0) };
    let mut stale = 0;
    let mut at = tick(FIRST);
    while at < tick(LAST) {
        address.next();
        let sample = source.tick(at).await.remove(0);
        for arm in Arm::BOTH {
            assert!(matches!(sample.missing[arm], None | Some(Blind::Stale)), "{case}, {arm:?}: {sample:?}");
            let (all, bad) = counts(&sample, arm).unwrap_or_default();
            seen[arm] = (seen[arm].0 + all, seen[arm].1 + bad);
            let ((from, bad_from), (to, bad_to)) = (served(arm, tick(0)), served(arm, at));
            let fits = seen[arm].0 <= to - from && seen[arm].1 <= bad_to - bad_from;
            assert!(fits, "{case}, {arm:?}: {:?} counted, {to} - {from} served, {bad_to} - {bad_from} in error: {sample:?}", seen[arm]);
        }
        stale = if sample.missing == PerArm::default() { 0 } else { stale + 1 };
        assert!(stale <= STALE_MAX, "{case}: nothing for {stale} ticks: {sample:?}");
        at = at + SHORT_TICK;
    }
    seen
}

fn on_replicas(version: Version) {
    let (Some(first), Some(second)) = (Server::empty(version), Server::empty(version)) else { return };
    let newest = Duration::from_secs(1);
    runtime().block_on(async {
        for shift_ms in [7500, 5000, 1000] {
            let test = format!("by-{shift_ms}");
            scraped(&first, &test, newest);
            scraped(&second, &test, newest + Duration::from_millis(shift_ms));
            for turn in [Turn::OfTicks, Turn::OfRequests] {
                let case = format!("{version:?}, {shift_ms} ms apart, {turn:?}");
                let address = Address::start([first.port, second.port], turn).await;
                let mut source = source(&address.url);
                let set_up = source.set_up(&wanted(&test), tick(FIRST)).await.expect("set-up");
                assert_eq!(set_up.scrape_interval, Some(SCRAPE), "{case}");
                source.subscribe(wanted(&test), set_up.bounds_ms);
                let seen = counted(&mut source, &address, &case).await;
                for arm in Arm::BOTH {
                    let (from, to) = (served(arm, tick(0)), served(arm, tick(LAST)));
                    assert_eq!(seen[arm], (to.0 - from.0, to.1 - from.1), "{case}, {arm:?}: each request once");
                }
            }
        }
    });
}

#[test]
fn replicas_in_turn_make_no_false_evidence() {
    Version::BOTH.into_iter().for_each(on_replicas);
}
