//! The composition root: takes settings, makes the adapters, joins them, and ends them in order. Start-up is a list of named
//! steps ([`Daemon::start`]); tests and the demo run the same steps on port 0.

mod fenced;
mod leader;
mod pods;
mod receivers;
mod resources;
mod sources;

pub use leader::{LEASE_LOST, LeaseLost};
pub use resources::definitions;

use crate::api::{self, ApiState, Tokens};
use crate::cluster::lease::Fence;
use crate::cluster::{self, Cluster, ClusterError};
use crate::config::{Known, Problem, Report, RuleSet, Settings, fingerprint, read_rules};
use crate::model::{History, Rule};
use crate::notify::Notices;
use crate::router::{self, Means, Proxy};
use crate::runtime::{Handle, Hooks, Makers, RulesRefused, Setting, Supervisor, retention};
use crate::source::{Packs, PodWatch, Source};
use crate::store::{Sqlite, Store};
use crate::telemetry::Metrics;
use anyhow::Context;
use pods::ClusterPods;
use sources::{Shared, source_with};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How often the rule files are looked at: ConfigMaps swap symlinks, which file watches lose.
const RULES_EVERY: Duration = Duration::from_secs(5);
/// Longest the HTTP side may take to end its connections.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// Share of a tick that a single query may take, so that a dead source does not delay the next tick.
const TIMEOUT_SHARE: f64 = 0.8;

/// What a daemon is started with, besides its settings. `Default` is the real thing; the demo brings its own.
#[derive(Clone, Debug, Default)]
pub struct Extras {
    /// The proxy that rules with `traffic: proxy` move.
    pub proxy: Option<Arc<Proxy>>,
    /// A past for the baseline where pages are scraped directly.
    pub history: Option<History>,
    /// Knows which pods are an arm's; without it they are told by their names.
    pub pods: Option<Arc<dyn PodWatch>>,
    /// Changes need no token. Only on loopback.
    pub open: bool,
    /// The lease it acts by: asked before each write. The journal has a lock of its own.
    pub fence: Option<Arc<Fence>>,
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    /// Where the API is.
    pub address: SocketAddr,
    /// The way to the runtime.
    pub handle: Handle,
    shutdown: CancellationToken,
    supervisor: JoinHandle<()>,
    receivers: JoinHandle<()>,
    api: JoinHandle<()>,
}

impl Daemon {
    /// Starts everything, in this order; nothing listens before everything behind it stands.
    ///
    /// # Errors
    /// The first step that cannot be done, in words for the operator.
    pub async fn start(settings: Settings, extras: Extras) -> anyhow::Result<Self> {
        crate::tls::install();
        let settings = Arc::new(settings);
        let tokens = tokens(&settings)?;
        let store: Arc<dyn Store> = Arc::new(Sqlite::open(&settings.data)?);
        let metrics = Metrics::new();
        let shutdown = CancellationToken::new();
        let client = match &extras.fence {
            None => cluster(&settings).await,
            Some(fence) => cluster::connect_fenced(&cluster_settings(&settings), Arc::clone(fence)).await,
        };
        let client = client.context("cluster")?;
        let watched = client.clone().map(|client| Cluster::new(client, metrics.clone(), shutdown.clone()));
        let extras = with_pods(extras, watched.as_ref());
        let means = Means { proxy: extras.proxy.clone(), cluster: client.clone(), ..Means::default() };
        let book = book(&settings)?;
        let makers = makers(&settings, &extras, means, book.clone(), &metrics)?;
        let (journal, kept_by) = (Arc::clone(&store), metrics.clone());
        let hooks = Hooks::new(&link(&settings), metrics.clone()).map_err(anyhow::Error::msg)?;
        let (notices, told) = Notices::channel(metrics.clone());
        let setting = Setting {
            makers,
            store,
            metrics: metrics.clone(),
            scale: settings.time_scale,
            shards: shards(),
            notices,
            hooks,
            alerts_expire: settings.alerts_expire,
            cluster: watched,
        };
        let (mut supervisor, handle) = Supervisor::new(setting, shutdown.clone()).context("engine threads")?;
        supervisor.load_rules(settings.strict_rules).await.context("rules are refused")?;
        supervisor.recover().await.map_err(anyhow::Error::msg).context("journal")?;
        // whoever reaches a port beyond loopback is not trusted to read: there is no address an operator could not share
        let reads_need_token = !settings.listen.ip().to_canonical().is_loopback();
        let state = ApiState { handle: handle.clone(), tokens, metrics: metrics.clone(), open: extras.open, reads_need_token };
        state.check_address(settings.listen).map_err(anyhow::Error::msg)?;
        let listener = TcpListener::bind(settings.listen).await.with_context(|| format!("listening on {}", settings.listen))?;
        let address = listener.local_addr()?;
        let receivers = tokio::spawn(receivers::switchboard(&settings, address, &metrics)?.run(told));
        let api = tokio::spawn(api::serve(listener, state, shutdown.clone()));
        let supervisor = tokio::spawn(supervisor.run());
        tokio::spawn(retention::keep(journal, settings.retention_days, kept_by, shutdown.clone()));
        tokio::spawn(watch_rules(settings.rules.clone(), handle.clone(), shutdown.clone()));
        if let Some(client) = client.filter(|_| settings.cluster.resources.is_some()) {
            resources::start(client, book, handle.clone(), &metrics, &shutdown);
        }
        Ok(Self { address, handle, shutdown, supervisor, receivers, api })
    }

    /// Ends everything: drivers write their last lines, receivers are told the last words, connections end, the journal is closed.
    pub async fn stop(self) {
        self.shutdown.cancel();
        // a part that panicked has said so; the others still end
        let _ = self.supervisor.await;
        // no driver is left to tell anything
        let _ = self.receivers.await;
        let _ = tokio::time::timeout(DRAIN_MAX, self.api).await;
    }
}

/// Runs until SIGTERM or SIGINT; SIGHUP reads the rules again.
///
/// # Errors
/// If it cannot start.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int, mut hup) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?);
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    let seat = tokio::select! {
        seat = leader::Seat::take(&settings) => seat?,
        _ = term.recv() => return Ok(()),
        _ = int.recv() => return Ok(()),
    };
    let extras = Extras { fence: seat.fence(), ..Extras::default() };
    let daemon = match seat.unless_lost(Daemon::start(settings, extras)).await {
        Ok(Ok(daemon)) => daemon,
        Ok(Err(e)) => {
            seat.leave().await;
            return Err(e);
        }
        Err(lost) => return Err(lost.into()),
    };
    tracing::info!(address = %daemon.address, "ready");
    let lost = loop {
        tokio::select! {
            _ = term.recv() => break None,
            _ = int.recv() => break None,
            lost = seat.lost() => break Some(lost),
            // a refusal has been logged with every problem
            _ = hup.recv() => drop(daemon.handle.reload().await),
        }
    };
    tracing::info!("stopping");
    match lost {
        None => {
            daemon.stop().await;
            seat.leave().await;
            Ok(())
        }
        Some(lost) => {
            // others may act soon: whatever is not over then is cut off
            let _ = tokio::time::timeout(leader::STOP_MAX, daemon.stop()).await;
            Err(lost.into())
        }
    }
}

/// Pods are told by the cluster's watches, where there is one and nobody brought another.
fn with_pods(extras: Extras, cluster: Option<&Cluster>) -> Extras {
    let watch = || cluster.map(|cluster| Arc::new(ClusterPods(cluster.clone())) as Arc<dyn PodWatch>);
    Extras { pods: extras.pods.clone().or_else(watch), ..extras }
}

fn tokens(settings: &Settings) -> anyhow::Result<Tokens> {
    let bearers = settings.tokens.iter().map(|t| (t.name.as_str(), t.roles.clone(), t.token.expose()));
    Tokens::new(bearers).map_err(anyhow::Error::msg)
}

/// Where people reach the daemon.
fn link(settings: &Settings) -> String {
    settings.external_url.clone().unwrap_or_else(|| format!("http://{}", settings.listen))
}

/// Query packs of these settings.
///
/// # Errors
/// Every problem of the packs folder.
pub fn packs(settings: &Settings) -> anyhow::Result<Packs> {
    match &settings.packs {
        None => Ok(Packs::builtin()),
        Some(folder) => Packs::with_folder(folder).map_err(|problems| anyhow::anyhow!("packs are refused:\n{}", problems.join("\n"))),
    }
}

/// The way to the cluster's API server, if the settings name one or this is a pod of one.
///
/// # Errors
/// It is named and cannot be used.
pub async fn cluster(settings: &Settings) -> Result<Option<kube::Client>, ClusterError> {
    cluster::connect(&cluster_settings(settings)).await
}

fn cluster_settings(settings: &Settings) -> cluster::ClusterSettings {
    let named = &settings.cluster;
    cluster::ClusterSettings { kubeconfig: named.kubeconfig.clone(), context: named.context.clone() }
}

/// What rules may name under these settings.
pub fn known(settings: &Settings, packs: &Packs) -> Known {
    let cluster = cluster_settings(settings).has_one();
    Known { cluster, ..settings.known(packs.names().into_iter().map(str::to_owned)) }
}

/// The source a rule reads, asked in ticks of this length.
///
/// # Errors
/// There is none of that name, or it cannot be used.
pub fn source(settings: &Settings, packs: &Packs, rule: &Rule, interval: Option<Duration>) -> Result<Box<dyn Source>, String> {
    source_with(settings, packs, rule, interval, &Shared::new(settings, Metrics::new(), Extras::default()))
}

/// Rules that are objects of the cluster: none yet.
fn book(settings: &Settings) -> anyhow::Result<resources::Book> {
    Ok(resources::Book::new(known(settings, &packs(settings)?)))
}

fn makers(settings: &Arc<Settings>, extras: &Extras, means: Means, book: resources::Book, metrics: &Metrics) -> anyhow::Result<Makers> {
    let packs = packs(settings)?;
    let known = known(settings, &packs);
    let (for_sources, for_rules) = (Arc::clone(settings), Arc::clone(settings));
    let rules_may = known.clone();
    let shared = Shared::new(settings, metrics.clone(), extras.clone());
    let fence = extras.fence.clone();
    Ok(Makers {
        source: Box::new(move |rule, interval| source_with(&for_sources, &packs, rule, interval, &shared)),
        router: Box::new(move |rule| {
            let router = router::open(&rule.traffic, &means).map_err(|e| e.to_string())?;
            Ok(fenced::fenced(router, fence.as_ref()))
        }),
        rules: Box::new(move |old| match runnable_rules(old, &for_rules.rules, &rules_may) {
            Ok(files) => Ok(book.join(files)),
            // at the start nothing was good before
            Err((report, good)) => Err(RulesRefused { report, stays: book.join_last().unwrap_or_else(|| book.join(good)) }),
        }),
        known,
    })
}

/// A whole valid set that can be carried out here, or the report of everything that is not, and what is good in spite of it.
fn runnable_rules(old: &RuleSet, paths: &[PathBuf], known: &Known) -> Result<RuleSet, (Report, RuleSet)> {
    let (mut rules, mut report) = read_rules(old, paths, known);
    let refused = |rule: &Arc<Rule>| {
        let file = rule.file.display().to_string();
        // the sentence has its way out
        let problem = move |n: &crate::model::rule::NotRun| Problem {
            file: file.clone(),
            line: n.line,
            path: n.path.clone(),
            what: n.why.clone(),
            way_out: String::new(),
        };
        rule.not_run.iter().map(problem).collect::<Vec<_>>()
    };
    report.problems.extend(rules.rules.values().flat_map(refused));
    rules.keep(|rule| rule.not_run.is_empty());
    if report.is_empty() { Ok(rules) } else { Err((report.sorted(), rules)) }
}

/// Reads the rules again when their files, or those they name, change.
async fn watch_rules(paths: Vec<PathBuf>, handle: Handle, shutdown: CancellationToken) {
    let look = |paths: Vec<PathBuf>| tokio::task::spawn_blocking(move || fingerprint(&paths));
    let mut last = look(paths.clone()).await.unwrap_or_default();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(RULES_EVERY) => {}
        }
        let now = look(paths.clone()).await.unwrap_or(last);
        if now != last {
            last = now;
            // a refusal has been logged with every problem
            let _ = handle.reload().await;
        }
    }
}

/// Half of the cores, at least one: the engine is far from busy, and the shell needs the others.
fn shards() -> usize {
    std::thread::available_parallelism().map_or(1, |n| (n.get() / 2).max(1))
}
