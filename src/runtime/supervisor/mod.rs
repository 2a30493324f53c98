//! Owns what exists once: the rules in force, the list of running rollouts, slots and conductors. Follows requests one after
//! the other and never waits for a source, a router or a driver.

mod over;
mod rules;
mod seats;
mod starts;

use seats::with_first_ticks;
pub(super) use seats::{first_view, needed};
pub(super) use starts::Followed;

use super::alerts::{Arrived, Heard};
use super::conductor::{ConductorHandle, Live};
use super::handle::{Handle, PastArgs, PastRollouts, Refusal, Request, RolloutView, StartArgs};
use super::hooks::Hooks;
use super::kept::Born;
use super::mail::{self, Mail, Post};
use super::needs::{self, InForce, Needs};
use super::registry::Registry;
use super::releases::{self, Releases, Templates};
use super::start::Prepared;
use super::{annotations, clock, history, replay, retell};
use crate::analysis::Judge;
use crate::cluster::Cluster;
use crate::config::{Known, Report, RuleSet};
use crate::engine::{Engine, Slot};
use crate::model::journal::Entry;
use crate::model::rule::{Rule, Traffic};
use crate::model::{Begin, Command, RolloutId};
use crate::notify::Notices;
use crate::router::Router;
use crate::source::Source;
use crate::store::Store;
use crate::telemetry::{Metrics, events};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Requests that may wait for the supervisor.
const REQUESTS_MAX: usize = 256;

/// Makes the source a rule reads, for ticks of this length (`None`: only to look).
pub type MakeSource = Box<dyn Fn(&Rule, Option<Duration>) -> Result<Box<dyn Source>, String> + Send + Sync>;
/// Makes the router of a rule.
pub type MakeRouter = Box<dyn Fn(&Rule) -> Result<Arc<dyn Router>, String> + Send + Sync>;
/// Reads the rules again; the old set shows what did not change.
pub type ReadRules = Box<dyn Fn(&RuleSet) -> Result<RuleSet, RulesRefused> + Send + Sync>;

/// Rules that are refused.
#[derive(Clone, Debug)]
pub struct RulesRefused {
    /// Every problem.
    pub report: Report,
    /// What is in force without them: rules that were read before in their place, and what changed of those that come from elsewhere;
    /// where nothing was read before, what is good.
    pub stays: RuleSet,
}

/// How the composition root makes the adapters.
pub struct Makers {
    /// The source a rule reads.
    pub source: MakeSource,
    /// The router of a rule.
    pub router: MakeRouter,
    /// Reads the rules again.
    pub rules: ReadRules,
    /// What a rule may name.
    pub known: Known,
}

/// What a supervisor is made of.
pub struct Setting {
    /// Adapters.
    pub makers: Makers,
    /// The journal.
    pub store: Arc<dyn Store>,
    /// What it counts.
    pub metrics: Metrics,
    /// Time scale of the method.
    pub scale: f64,
    /// Engine shards.
    pub shards: usize,
    /// The way to the receivers.
    pub notices: Notices,
    /// Calls hooks.
    pub hooks: Hooks,
    /// An alert that its Alertmanager has not repeated for so long is taken as over.
    pub alerts_expire: Duration,
    /// The cluster this daemon lives in or looks at, if there is one.
    pub cluster: Option<Cluster>,
}

struct Running {
    id: RolloutId,
    rule: Arc<Rule>,
    born: Born,
    begin: Begin,
    slot: Slot,
    live: Arc<Live>,
    post: Post,
}

/// News from tasks the supervisor started.
pub(super) enum News {
    /// A start is prepared, or refused.
    Prepared { rule: String, result: Result<Box<Prepared>, Refusal>, answer: oneshot::Sender<Result<RolloutId, Refusal>> },
    /// Which rules are followed in the cluster, and how they stand.
    Followed { answer: oneshot::Sender<Vec<Followed>> },
    /// Which rules are in force, and which of them have a rollout running.
    InForce { answer: oneshot::Sender<Vec<InForce>> },
    /// What moves the traffic of a rule.
    Router { rule: String, answer: oneshot::Sender<Result<Arc<dyn Router>, String>> },
    /// The cluster shows a new release.
    Start { rule: String, args: StartArgs, answer: oneshot::Sender<Result<RolloutId, Refusal>> },
    /// What this rollout has on trial is not there any more; told whether its driver has room to hear it.
    Supersede { rollout: RolloutId, version: String, answer: oneshot::Sender<bool> },
}

/// The owner of everything that exists once.
pub struct Supervisor {
    setting: Arc<Makers>,
    store: Arc<dyn Store>,
    scale: f64,
    metrics: Metrics,
    notices: Notices,
    hooks: Hooks,
    alerts_expire: Duration,
    cluster: Option<Cluster>,
    templates: Templates,
    /// Wakes whoever watches for releases.
    poke: Arc<Notify>,
    /// Wakes whoever looks whether what rules need is there.
    needs: Arc<Notify>,
    annotations: annotations::Kept,
    rules: RuleSet,
    engine: Arc<Engine<Judge>>,
    registry: Registry,
    conductors: BTreeMap<(String, Duration), ConductorHandle>,
    routers: BTreeMap<String, (Traffic, Arc<dyn Router>)>,
    running: BTreeMap<String, Running>,
    /// Starts that wait for the rollout they supersede.
    next: BTreeMap<String, (StartArgs, oneshot::Sender<Result<RolloutId, Refusal>>)>,
    preparing: BTreeSet<String>,
    slots: Vec<bool>,
    keys: u64,
    requests: mpsc::Receiver<Request>,
    over: (mpsc::Sender<RolloutId>, mpsc::Receiver<RolloutId>),
    news: (mpsc::Sender<News>, mpsc::Receiver<News>),
    shutdown: CancellationToken,
    drivers: TaskTracker,
}

impl Supervisor {
    /// A supervisor with no rules yet, and the handle to it.
    ///
    /// # Errors
    /// If the engine's threads cannot be started.
    pub fn new(setting: Setting, shutdown: CancellationToken) -> std::io::Result<(Self, Handle)> {
        let (send, requests) = mpsc::channel(REQUESTS_MAX);
        let registry = Registry::default();
        let new = Self {
            setting: Arc::new(setting.makers),
            poke: Arc::default(),
            needs: Arc::default(),
            templates: Templates::new(Arc::clone(&setting.store)),
            store: setting.store,
            scale: setting.scale,
            metrics: setting.metrics,
            notices: setting.notices,
            hooks: setting.hooks,
            alerts_expire: setting.alerts_expire,
            cluster: setting.cluster,
            annotations: annotations::Kept::default(),
            rules: RuleSet::default(),
            engine: Arc::new(Engine::start(setting.shards)?),
            registry: registry.clone(),
            conductors: BTreeMap::new(),
            routers: BTreeMap::new(),
            running: BTreeMap::new(),
            next: BTreeMap::new(),
            preparing: BTreeSet::new(),
            slots: Vec::new(),
            keys: 0,
            requests,
            over: mpsc::channel(REQUESTS_MAX),
            news: mpsc::channel(REQUESTS_MAX),
            shutdown,
            drivers: TaskTracker::new(),
        };
        Ok((new, Handle::new(registry, send)))
    }

    /// Reads the rules for the first time. Those that are good are in force, and what is wrong is told as at a reload: a restart with
    /// one bad file among many must not leave the rollouts of all alone.
    ///
    /// # Errors
    /// Every problem of every file, if there is one and `strict`, or none of them is good and no rollout of the journal goes on.
    pub async fn load_rules(&mut self, strict: bool) -> Result<(), Report> {
        let RulesRefused { report, stays } = match (self.setting.rules)(&self.rules) {
            Ok(rules) => {
                self.put_in_force(rules);
                return Ok(());
            }
            Err(refused) => refused,
        };
        // a journal that cannot be listed is told when its rollouts are taken up
        if strict || (stays.rules.is_empty() && self.store.unfinished().await.is_ok_and(|all| all.is_empty())) {
            return Err(report);
        }
        self.put_in_force(stays);
        self.tell_refused(&report);
        Ok(())
    }

    fn tell_refused(&self, report: &Report) {
        let problems: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
        events::ReloadRefused { problems: &problems }.emit(&self.metrics);
        self.registry.set_reload_problems(problems);
    }

    /// Takes up the rollouts that were not over when the daemon last stopped.
    ///
    /// # Errors
    /// If the journal cannot be listed. A rollout that cannot be rebuilt is reported and left alone: its weight stays.
    pub async fn recover(&mut self) -> Result<(), String> {
        let unfinished = self.store.unfinished().await.map_err(|e| e.to_string())?;
        let mut rebuilt = Vec::new();
        for listed in unfinished {
            let entries = self.store.salvage(&listed.id).await.map_err(|e| e.to_string())?;
            match replay::rebuild(&entries, &self.setting.known, clock::now()) {
                Ok(mut found) => {
                    found.opened.id = listed.id.clone();
                    rebuilt.push(found);
                }
                Err(why) => events::NotRecovered { rollout: &listed.id, why: &why }.emit(),
            }
        }
        let mut begun = Vec::new();
        for (rebuilt, first) in with_first_ticks(rebuilt) {
            begun.extend(self.resume(rebuilt, first).await);
        }
        for one in begun {
            // an error means that its driver has ended already
            let _ = one.await;
        }
        for conductor in self.conductors.values() {
            conductor.release().await;
        }
        // reading finished rollouts must not delay the running ones
        let (store, known, notices) = (Arc::clone(&self.store), self.setting.known.clone(), self.notices.clone());
        tokio::spawn(async move { retell::rollbacks(store, known, notices).await });
        Ok(())
    }

    /// Follows requests until shutdown, then waits for the drivers to write their last lines.
    pub async fn run(mut self) {
        self.registry.set_ready();
        self.watch_releases();
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => break,
                Some(news) = self.news.1.recv() => self.hear(news).await,
                Some(id) = self.over.1.recv() => self.bury(&id).await,
                request = self.requests.recv() => match request {
                    Some(request) => self.follow(request).await,
                    None => break,
                },
            }
        }
        self.running.clear();
        self.conductors.clear();
        self.drivers.close();
        if tokio::time::timeout(Duration::from_secs(10), self.drivers.wait()).await.is_err() {
            events::StoppedEarly { what: "drivers" }.emit();
        }
        if let Err(e) = self.store.close().await {
            events::StoreFailed { what: "closing", error: &e.to_string() }.emit(&self.metrics);
        }
    }

    /// With a cluster, what it releases starts rollouts.
    fn watch_releases(&self) {
        let Some(cluster) = self.cluster.clone() else { return };
        let parts = releases::Parts {
            cluster,
            templates: self.templates.clone(),
            news: self.news.0.clone(),
            poke: Arc::clone(&self.poke),
            notices: self.notices.clone(),
            registry: self.registry.clone(),
            metrics: self.metrics.clone(),
            shutdown: self.shutdown.clone(),
        };
        let of_needs = needs::Parts {
            cluster: parts.cluster.clone(),
            news: self.news.0.clone(),
            registry: self.registry.clone(),
            metrics: self.metrics.clone(),
            poke: Arc::clone(&self.needs),
            shutdown: self.shutdown.clone(),
        };
        tokio::spawn(Releases::new(parts).run());
        tokio::spawn(Needs::new(of_needs).run());
    }

    async fn follow(&mut self, request: Request) {
        match request {
            Request::Start { rule, args, answer } => self.start(rule, args, answer).await,
            Request::Command { rollout, command, answer } => self.command(&rollout, command, answer),
            Request::Alerts { heard, answer } => self.hear_alerts(&heard, answer),
            Request::Reload { answer } => drop(answer.send(self.reload())),
            Request::Past { args, answer } => self.past(args, answer),
            Request::Annotations { range, answer } => {
                let (store, kept) = (Arc::clone(&self.store), self.annotations.clone());
                tokio::spawn(async move { drop(answer.send(kept.find(&*store, &range).await)) });
            }
            Request::Journal { rollout, answer } => self.journal(&rollout, answer),
        }
    }

    fn command(&self, name: &str, command: Command, answer: oneshot::Sender<Result<Arc<RolloutView>, Refusal>>) {
        let running = self.running.get(name).or_else(|| self.running.values().find(|r| r.id.0 == name));
        let Some(run) = running else { return drop(answer.send(Err(self.not_running(name, &command)))) };
        match mail::room(&run.post, &run.id, &self.metrics) {
            Ok(Some(room)) => room.send(Mail::Command { command, answer }),
            // it is over, and not buried yet
            Ok(None) => drop(answer.send(Err(self.not_running(name, &command)))),
            Err(busy) => drop(answer.send(Err(busy))),
        }
    }

    fn not_running(&self, name: &str, command: &Command) -> Refusal {
        let views = self.registry.views();
        let known = views.rules.get(name).and_then(|r| r.rollout.clone()).or_else(|| Some(RolloutId(name.to_owned())));
        match known.and_then(|id| views.rollouts.get(&id).cloned()) {
            Some(view) => Refusal::new("over", format!("{} is {}: it cannot {} any more", view.id, view.state.name(), command.verb.name())),
            None if views.rules.contains_key(name) => Refusal::new("no-rollout", format!("{name} has no rollout: `canaryd start {name}`")),
            None => Refusal::new("unknown-rollout", format!("there is no rollout or rule called {name:?}")),
        }
    }

    fn journal(&self, name: &str, answer: oneshot::Sender<Result<Vec<Entry>, Refusal>>) {
        let views = self.registry.views();
        let id = views.rules.get(name).and_then(|r| r.rollout.clone()).unwrap_or_else(|| RolloutId(name.to_owned()));
        let store = Arc::clone(&self.store);
        tokio::spawn(async move {
            let read = store.load(&id).await.map_err(|e| match e {
                crate::store::StoreError::Unknown(_) => Refusal::new("unknown-rollout", e.to_string()),
                e => Refusal::new("journal", e.to_string()),
            });
            drop(answer.send(read));
        });
    }

    fn past(&self, args: PastArgs, answer: oneshot::Sender<Result<PastRollouts, Refusal>>) {
        let (store, known) = (Arc::clone(&self.store), self.setting.known.clone());
        tokio::spawn(async move { drop(answer.send(history::past(store, args, known).await)) });
    }

    /// Hands each running rollout what concerns it, and answers when all of them have stored it. What one of them has no room for
    /// is not taken: its sender tells it again.
    fn hear_alerts(&self, heard: &[Heard], answer: oneshot::Sender<Result<usize, Refusal>>) {
        let mut taken = vec![false; heard.len()];
        let mut waiting = Vec::new();
        let mut full = false;
        for run in self.running.values() {
            let of_run = heard.iter().map(|one| one.for_rollout(&run.rule, &run.begin));
            let alerts: Vec<Arrived> = of_run.zip(&mut taken).filter_map(|(one, taken)| one.inspect(|_| *taken = true)).collect();
            if !alerts.is_empty() {
                let (told, stored) = oneshot::channel();
                full |= mail::tell(&run.post, &run.id, Mail::Alerts { alerts, answer: told }, &self.metrics).is_err();
                waiting.push(stored);
            }
        }
        let taken = taken.into_iter().filter(|taken| *taken).count();
        tokio::spawn(async move {
            let mut all = !full;
            for stored in waiting {
                all &= stored.await.unwrap_or(false);
            }
            let again = || Refusal::new("unavailable", "a rollout could not take or store these alerts: send them again");
            drop(answer.send(if all { Ok(taken) } else { Err(again()) }));
        });
    }
}
