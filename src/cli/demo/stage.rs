//! Everything the demo needs, standing: two services on real sockets, a router, users, and the daemon.

use super::real::{self, Real};
use super::{Args, Faults, Load, LoadCounts, LoadSpec, Service};
use crate::api::wire;
use crate::app::{Daemon, Extras};
use crate::cli::client::{self, Client};
use crate::cli::failure::Failure;
use crate::cli::render;
use crate::config::Settings;
use crate::model::{PerArm, Timestamp, rule::Target};
use crate::router::Proxy;
use crate::source::recording::{Header, RecordedTick, Recording};
use crate::source::{Scrape, ScrapeSettings, Source, Subscription, Wants};
use anyhow::Context;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The demo's rule.
pub(super) const RULE: &str = "shop";
/// How much faster the method's clock runs than in production; nothing else differs.
const TIME_SCALE: f64 = 30.0;
/// Requests per second of all users.
const RATE: f64 = 200.0;
/// After this a user gives up.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest the users stay.
const USERS_MAX: Duration = Duration::from_secs(240);
/// Share of failing requests of a healthy version.
pub(super) const ERRORS_HEALTHY: f64 = 0.005;
/// Median latency of the service, ms.
const LATENCY_MS: f64 = 20.0;
/// CPU time of one of its requests, ms.
const CPU_MS: f64 = 2.0;
/// Length of a tick.
const TICK: Duration = Duration::from_secs(1);
/// Ticks of the recorded past: as much as an hour of 15-s ticks at this time scale.
const PAST_TICKS: usize = 120;
/// What the service looked like in the two minutes before, recorded with `demo --record-past` from the same service,
/// proxy and load.
const PAST: &str = include_str!("past.jsonl");

/// What stands.
pub(super) struct Stage {
    daemon: Daemon,
    client: Client,
    users: Load,
    services: [Service; 2],
    folder: PathBuf,
    proxy: Option<Arc<Proxy>>,
    real: Option<Real>,
}

impl Stage {
    /// From the bottom up; what is missing for `--real` is said before anything is started.
    pub(super) async fn stand_up(args: &Args) -> Result<Self, Failure> {
        let found = args.real.then(real::find).transpose()?;
        let folder = folder(args)?;
        let services = [service("v1").await?, service("v2").await?];
        let backends = [services[0].addr(), services[1].addr()];
        let (proxy, real) = match found {
            Some(found) => (None, Some(Real::start(&found, &folder, backends).await?)),
            None => (Some(Arc::new(Proxy::start(backends).await.map_err(anyhow::Error::from)?)), None),
        };
        let target = match (&proxy, &real) {
            (Some(proxy), _) => proxy.addr(),
            (None, Some(real)) => real.users,
            (None, None) => return Err(anyhow::anyhow!("no router stands").into()),
        };
        let users = users(target)?;
        if let Some(real) = &real {
            real.first_scrapes().await?;
        }
        let daemon = daemon(args, &folder, proxy.as_ref(), real.as_ref(), backends).await?;
        let client = Client::at(daemon.address)?;
        Ok(Self { daemon, client, users, services, folder, proxy, real })
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn users(&self) -> LoadCounts {
        self.users.counts()
    }

    /// The version without traffic gets this share of errors: that is the one the next rollout tries.
    pub(super) async fn set_canary_errors(&self, errors: f64) -> Result<(), Failure> {
        let rollouts: wire::Rollouts = client::typed(self.client.get(&["rollouts"]).await?)?;
        let promoted = rollouts.rollouts.iter().rev().find(|r| r.state == "succeeded").map(|r| r.canary.clone());
        let canary = usize::from(promoted.as_deref() != Some("v2"));
        self.services[canary].set_faults(Faults { error_share: errors, ..healthy() });
        Ok(())
    }

    /// Takes everything down, from the top, and leaves the report.
    pub(super) async fn strike(self) -> Result<PathBuf, Failure> {
        let rollouts: wire::Rollouts = client::typed(self.client.get(&["rollouts"]).await?)?;
        let pages: Vec<String> = rollouts.rollouts.iter().map(|r| render::page(r, render::Style::Plain)).collect();
        std::fs::write(self.folder.join("report.txt"), pages.join("\n")).map_err(anyhow::Error::from)?;
        self.users.stop().await;
        self.daemon.stop().await;
        if let Some(real) = self.real {
            real.stop();
        }
        if let Some(proxy) = &self.proxy {
            proxy.stop().await;
        }
        for service in &self.services {
            service.stop().await;
        }
        Ok(self.folder)
    }
}

const fn healthy() -> Faults {
    Faults { error_share: ERRORS_HEALTHY, latency_ms: LATENCY_MS, hang: false, cpu_ms: CPU_MS, leak: 0.0 }
}

fn folder(args: &Args) -> anyhow::Result<PathBuf> {
    let folder = match &args.keep {
        Some(folder) => folder.clone(),
        None => std::env::temp_dir().join(format!("canaryd-demo-{}", std::process::id())),
    };
    std::fs::create_dir_all(&folder).with_context(|| format!("folder {}", folder.display()))?;
    Ok(folder)
}

async fn service(version: &str) -> anyhow::Result<Service> {
    Service::start(version, healthy()).await.context("starting the demo's service")
}

fn users(target: SocketAddr) -> anyhow::Result<Load> {
    let spec = LoadSpec { target, rate: RATE, length: USERS_MAX, in_flight_max: 512, patience: PATIENCE, seed: 1 };
    Load::start(spec).map_err(anyhow::Error::msg)
}

async fn daemon(
    args: &Args,
    folder: &Path,
    proxy: Option<&Arc<Proxy>>,
    real: Option<&Real>,
    backends: [SocketAddr; 2],
) -> Result<Daemon, Failure> {
    let (traffic, source) = match (real, proxy) {
        (Some(real), _) => (real.traffic(), real.source()),
        (None, Some(proxy)) => {
            let [first, second] = backends;
            let urls = [proxy.admin_addr(), first, second].map(|at| format!("http://{at}/metrics"));
            let pages = json!({ "demo": { "scrape": { "urls": urls } } });
            ("proxy".to_owned(), pages)
        }
        (None, None) => return Err(anyhow::anyhow!("no router stands").into()),
    };
    let rule = include_str!("rule.yaml").replace("TRAFFIC", &traffic);
    std::fs::write(folder.join("rule.yaml"), rule).map_err(anyhow::Error::from)?;
    let settings = json!({
        "listen": args.listen.to_string(),
        "data": folder.join("journal"),
        "rules": [folder.join("rule.yaml")],
        "time_scale": TIME_SCALE,
        "sources": source,
    });
    let file = folder.join("canaryd.yaml");
    std::fs::write(&file, settings.to_string()).map_err(anyhow::Error::from)?;
    let settings = Settings::load(Some(&file), std::iter::empty(), BTreeMap::new()).map_err(anyhow::Error::from)?;
    // a real Prometheus has no past of these services: it is judged without history, and says so
    let history = proxy.map(|_| past()).transpose()?;
    let extras = Extras { proxy: proxy.cloned(), history, open: true, ..Extras::default() };
    Ok(Daemon::start(settings, extras).await?)
}

fn past() -> anyhow::Result<crate::model::History> {
    let recording = Recording::parse(PAST).map_err(|problems| anyhow::anyhow!("the recorded past: {problems:?}"))?;
    Ok(recording.history)
}

/// Makes `past.jsonl`: what the daemon's own scraper sees of the healthy service, as the history line of a recording.
pub(super) async fn record_past(file: &Path) -> anyhow::Result<()> {
    let services = [service("v1").await?, service("v2").await?];
    let proxy = Proxy::start([services[0].addr(), services[1].addr()]).await?;
    let load = users(proxy.addr())?;
    let mut source = Scrape::new(ScrapeSettings::new("demo", vec![format!("http://{}/metrics", proxy.admin_addr())]))?;
    let wanted = subscription();
    tokio::time::sleep(2 * TICK).await;
    let bounds_ms = source.set_up(&wanted, crate::runtime::now()).await?.bounds_ms;
    source.subscribe(wanted, bounds_ms.clone());
    let start = crate::runtime::now().floor_to(TICK);
    let mut ticks = Vec::new();
    for k in 0..=PAST_TICKS as u32 {
        let at: Timestamp = start + TICK * (k + 1);
        tokio::time::sleep(at.since(crate::runtime::now())).await;
        let sample = source.tick(at).await.into_iter().next().context("the scraper answers")?;
        ticks.push(RecordedTick { at, step: None, arms: sample.arms });
    }
    load.stop().await;
    let mut history = crate::model::History::default();
    // the first tick only notes raw values
    for tick in ticks.iter().skip(1) {
        history.requests.push(tick.arms.baseline.requests.ok());
        history.buckets.push(tick.arms.baseline.buckets.clone().ok());
    }
    let header = Header { interval: TICK, bounds_ms, rule: Some(RULE.to_owned()), start };
    let mut out = std::fs::File::create(file)?;
    Recording { header, history, ticks: Vec::new() }.write(&mut out)?;
    Ok(())
}

fn subscription() -> Subscription {
    let target = |name: &str| Target { fields: BTreeMap::from([("cluster".to_owned(), name.to_owned())]) };
    Subscription {
        key: 1,
        arms: PerArm { baseline: target("v1"), canary: target("v2") },
        telemetry: vec![crate::model::rule::Telemetry { pack: "envoy".to_owned(), ..Default::default() }],
        custom_counts: Vec::new(),
        custom_gauges: Vec::new(),
        wants: Wants { requests: true, buckets: true, cpu: false, memory: false },
        time_scale: 1.0,
    }
}
