//! A scrape interval that changes while a rollout reads: a real server scrapes a real service.

use super::{counts, runtime, source, target};
use crate::rig::load::{self, Load};
use crate::rig::poll;
use crate::rig::prometheus::{Job, Prometheus as Server, Settings, Version};
use crate::rig::service::{Behaviour, Service};
use canaryd::model::{Arm, PerArm, Timestamp, rule};
use canaryd::source::{Prometheus, Source, SourceSample, Subscription, Wants};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

const TICK: Duration = Duration::from_secs(1);
const SCRAPES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];
const LOADED: Duration = Duration::from_secs(12);
/// Ticks of the load before the interval changes.
const BEFORE: usize = 5;
/// Longest wait for the first scrapes.
const SCRAPED_MAX: Duration = Duration::from_secs(60);
/// Longest wait for the last ones.
const TICKS_MAX: usize = 60;

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    Timestamp::from_millis(since.as_millis() as i64)
}

fn wanted() -> Subscription {
    Subscription {
        key: 1,
        arms: PerArm { baseline: target(&[("version", "v1")]), canary: target(&[("version", "v2")]) },
        telemetry: vec![rule::Telemetry {
            pack: "http".into(),
            arm: BTreeMap::from([("version".to_owned(), "{version}".to_owned())]),
            ..rule::Telemetry::default()
        }],
        custom_counts: Vec::new(),
        custom_gauges: Vec::new(),
        wants: Wants { requests: true, ..Wants::default() },
        time_scale: 1.0,
    }
}

async fn next(source: &mut Prometheus, at: &mut Timestamp) -> SourceSample {
    *at = now().max(*at + TICK);
    tokio::time::sleep(at.since(now())).await;
    source.tick(*at).await.remove(0)
}

/// All requests and the failed ones.
fn served(service: &Service) -> (f64, f64) {
    let served = service.served();
    ((served.good + served.errors) as f64, served.errors as f64)
}

fn through_a_change(version: Version) {
    let services = PerArm { baseline: Service::start("v1"), canary: Service::start("v2") };
    services.canary.behave(Behaviour { errors: 0.1, ..Behaviour::default() });
    let jobs = Arm::BOTH.map(|arm| Job::new(&format!("shop-{}", arm.name()), services[arm].port, "/metrics", &[]));
    let folder = tempfile::tempdir().expect("folder");
    let settings = Settings { version, scrape: SCRAPES[0], jobs: jobs.to_vec(), ..Settings::default() };
    let Some(mut server) = Server::start_with(folder.path(), settings) else { return };
    // what is there decides which label is the status: a choice made before anything was scraped stands for a minute
    let rows = || (server.instant("http_requests_total", None).len() == 4).then_some(());
    assert!(poll(SCRAPED_MAX, rows).is_some(), "nothing was scraped within {SCRAPED_MAX:?}");
    runtime().block_on(async {
        let mut source = source(&server.url());
        source.subscribe(wanted(), Vec::new());
        let (mut at, mut ready) = (now(), false);
        for _ in 0..TICKS_MAX {
            let sample = next(&mut source, &mut at).await;
            ready = Arm::BOTH.iter().all(|arm| counts(&sample, *arm).is_some());
            if ready {
                break;
            }
        }
        assert!(ready, "nothing was scraped: {}", source.tick(now()).await[0].detail);
        let loads = Arm::BOTH.map(|arm| {
            let timeout = Duration::from_secs(5);
            Load::start(load::Settings { port: services[arm].port, rate_per_s: 30, timeout, lasts: LOADED })
        });
        let mut seen = PerArm { baseline: (0.0, 0.0), canary: (0.0, 0.0) };
        let (mut n, mut at_change, mut over) = (0, 0.0, false);
        while n < TICKS_MAX && !over {
            n += 1;
            if n == BEFORE {
                at_change = seen.canary.0;
                server.rescrape(SCRAPES[1], &jobs);
            }
            let sample = next(&mut source, &mut at).await;
            for arm in Arm::BOTH {
                let (all, bad) = counts(&sample, arm).unwrap_or_default();
                seen[arm] = (seen[arm].0 + all, seen[arm].1 + bad);
                let most = served(&services[arm]);
                assert!(seen[arm].0 <= most.0 && seen[arm].1 <= most.1, "{arm:?}: {:?} of {most:?} served: {sample:?}", seen[arm]);
            }
            let sent = n > BEFORE + LOADED.as_secs() as usize;
            over = sent && Arm::BOTH.iter().all(|arm| seen[*arm] == served(&services[*arm]));
        }
        loads.into_iter().for_each(|load| drop(load.finish()));
        for arm in Arm::BOTH {
            assert_eq!(seen[arm], served(&services[arm]), "{arm:?}: each request once");
        }
        assert!(at_change > 0.0 && seen.canary.0 > at_change && seen.canary.1 > 0.0, "{at_change} before the change: {seen:?}");
    });
}

#[test]
fn a_longer_scrape_interval_loses_and_doubles_nothing_on_2() {
    through_a_change(Version::Two);
}

#[test]
fn a_longer_scrape_interval_loses_and_doubles_nothing_on_3() {
    through_a_change(Version::Three);
}
