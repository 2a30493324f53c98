//! Owns what exists once: the rules in force, the list of running rollouts, slots and conductors. Follows requests one after
//! the other and never waits for a source, a router or a driver.

use super::conductor::{Conductor, ConductorHandle, Live, Port};
use super::driver::{Driver, MAIL_MAX, Mail, Parts, Post};
use super::handle::{Handle, Refusal, Request, RolloutView, RuleView, StartArgs};
use super::kept::Born;
use super::memory::Memory;
use super::registry::Registry;
use super::replay::{Lost, Rebuilt};
use super::start::{self, Plan, Prepared};
use super::{clock, kept, parts, replay};
use crate::analysis::Judge;
use crate::config::{Known, Report, RuleSet};
use crate::engine::{Engine, Slot};
use crate::model::journal::{Entry, Opened};
use crate::model::rule::{Rule, Traffic};
use crate::model::{Command, Decision, Judgement, Mode, RolloutId, Side, State, Timestamp, Weight};
use crate::rollout::Machine;
use crate::router::{Desired, Router};
use crate::source::Source;
use crate::store::Store;
use crate::telemetry::{Metrics, events};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Requests that may wait for the supervisor.
const REQUESTS_MAX: usize = 256;
/// Rollouts of a rule kept for readers after they are over (their journals stay).
const OVER_KEPT: usize = 5;

/// Longest the supervisor waits for the store to keep what a rollout learned.
const KEEP_TIMEOUT: Duration = Duration::from_secs(2);

/// Makes the source a rule reads, for ticks of this length (`None`: only to look).
pub type MakeSource = Box<dyn Fn(&Rule, Option<Duration>) -> Result<Box<dyn Source>, String> + Send + Sync>;
/// Makes the router of a rule.
pub type MakeRouter = Box<dyn Fn(&Rule) -> Result<Arc<dyn Router>, String> + Send + Sync>;
/// Reads the rules again; the old set shows what did not change.
pub type ReadRules = Box<dyn Fn(&RuleSet) -> Result<RuleSet, Report> + Send + Sync>;

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
}

struct Running {
    id: RolloutId,
    rule: Arc<Rule>,
    born: Born,
    version: String,
    key: u64,
    slot: Slot,
    post: Post,
    conductor: ConductorHandle,
}

/// News from tasks the supervisor started.
enum News {
    Prepared { rule: String, result: Result<Box<Prepared>, Refusal>, answer: oneshot::Sender<Result<RolloutId, Refusal>> },
}

/// The owner of everything that exists once.
pub struct Supervisor {
    setting: Arc<Makers>,
    store: Arc<dyn Store>,
    scale: f64,
    metrics: Metrics,
    rules: RuleSet,
    engine: Arc<Engine<Judge>>,
    registry: Registry,
    conductors: BTreeMap<(String, Duration), ConductorHandle>,
    routers: BTreeMap<String, (Traffic, Arc<dyn Router>)>,
    running: BTreeMap<String, Running>,
    /// Starts that wait for the rollout they supersede.
    next: BTreeMap<String, (StartArgs, oneshot::Sender<Result<RolloutId, Refusal>>)>,
    preparing: BTreeMap<String, ()>,
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
            store: setting.store,
            scale: setting.scale,
            metrics: setting.metrics,
            rules: RuleSet::default(),
            engine: Arc::new(Engine::start(setting.shards)?),
            registry: registry.clone(),
            conductors: BTreeMap::new(),
            routers: BTreeMap::new(),
            running: BTreeMap::new(),
            next: BTreeMap::new(),
            preparing: BTreeMap::new(),
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

    /// Reads the rules for the first time.
    ///
    /// # Errors
    /// Every problem of every file.
    pub fn load_rules(&mut self) -> Result<(), Report> {
        let rules = (self.setting.rules)(&self.rules)?;
        self.put_in_force(rules);
        Ok(())
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
        for (rebuilt, first) in with_first_ticks(rebuilt) {
            self.resume(rebuilt, first).await;
        }
        for conductor in self.conductors.values() {
            conductor.release().await;
        }
        Ok(())
    }

    /// Follows requests until shutdown, then waits for the drivers to write their last lines.
    pub async fn run(mut self) {
        self.registry.set_ready();
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

    async fn follow(&mut self, request: Request) {
        match request {
            Request::Start { rule, args, answer } => self.start(rule, args, answer).await,
            Request::Command { rollout, command, answer } => self.command(&rollout, command, answer).await,
            Request::Reload { answer } => drop(answer.send(self.reload())),
            Request::Journal { rollout, answer } => self.journal(&rollout, answer),
        }
    }

    // ---- rules

    fn reload(&mut self) -> Result<(), Refusal> {
        match (self.setting.rules)(&self.rules) {
            Ok(rules) => {
                self.put_in_force(rules);
                self.registry.set_reload_problems(Vec::new());
                Ok(())
            }
            Err(report) => {
                let problems: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
                events::ReloadRefused { problems: &problems }.emit(&self.metrics);
                self.registry.set_reload_problems(problems);
                Err(Refusal::new("rules", format!("the rules in force stay as they are:\n{report}")))
            }
        }
    }

    fn put_in_force(&mut self, rules: RuleSet) {
        let last = |name: &str| self.registry.views().rules.get(name).and_then(|v| v.rollout.clone());
        let view = |rule: &Arc<Rule>| RuleView {
            name: rule.name.clone(),
            file: rule.file.display().to_string(),
            digest: rule.digest.clone(),
            rollout: last(&rule.name),
            refused: rule.not_run.iter().map(|n| format!("{}: {}", n.path, n.why)).collect(),
        };
        self.registry.set_rules(rules.rules.values().map(|r| (r.name.clone(), Arc::new(view(r)))).collect());
        events::Reloaded { rules: rules.rules.len() }.emit(&self.metrics);
        for gone in self.rules.rules.keys().filter(|name| !rules.rules.contains_key(*name) && !self.running.contains_key(*name)) {
            events::RuleGone { rule: gone }.emit(&self.metrics);
        }
        self.rules = rules;
    }

    // ---- starting

    async fn start(&mut self, rule: String, args: StartArgs, answer: oneshot::Sender<Result<RolloutId, Refusal>>) {
        match self.may_start(&rule, &args) {
            Ok(true) => self.prepare(rule, args, answer).await,
            Ok(false) => {
                let version = args.version.clone();
                if let Some((_, older)) = self.next.insert(rule.clone(), (args, answer)) {
                    drop(older.send(Err(Refusal::new("superseded", format!("version {version} was started after this one")))));
                }
                self.supersede(&rule, version).await;
            }
            Err(refusal) => drop(answer.send(Err(refusal))),
        }
    }

    /// `Ok(false)`: after the running rollout was superseded.
    fn may_start(&self, rule: &str, args: &StartArgs) -> Result<bool, Refusal> {
        if !self.rules.rules.contains_key(rule) {
            let names: Vec<_> = self.rules.rules.keys().map(String::as_str).collect();
            return Err(Refusal::new("unknown-rule", format!("no rule is called {rule:?}; there are: {}", names.join(", "))));
        }
        if self.preparing.contains_key(rule) {
            return Err(Refusal::new("already-starting", format!("a rollout of {rule} is being started")));
        }
        match self.running.get(rule) {
            None => Ok(true),
            Some(run) if args.version.is_empty() || args.version == run.version => Err(Refusal::new(
                "already-running",
                format!("{} is running: roll it back or let it finish, or start another version with --version to supersede it", run.id),
            )),
            Some(_) => Ok(false),
        }
    }

    async fn supersede(&mut self, rule: &str, version: String) {
        if let Some(run) = self.running.get(rule) {
            // a driver that is gone reports itself over
            let _ = run.post.send(Mail::Supersede { version }).await;
        }
    }

    async fn prepare(&mut self, name: String, args: StartArgs, answer: oneshot::Sender<Result<RolloutId, Refusal>>) {
        let (Some(rule), Some(rule_text)) = (self.rules.rules.get(&name).cloned(), self.rules.texts.get(&name).cloned()) else {
            drop(answer.send(Err(Refusal::new("unknown-rule", format!("no rule is called {name:?} any more")))));
            return;
        };
        let router = match self.router(&rule).await {
            Ok(router) => router,
            Err(why) => return drop(answer.send(Err(Refusal::new("router", why)))),
        };
        self.preparing.insert(name.clone(), ());
        let plan =
            Plan { rule, rule_text, args, router, store: Arc::clone(&self.store), makers: Arc::clone(&self.setting), scale: self.scale };
        let news = self.news.0.clone();
        tokio::spawn(async move {
            let late = || Refusal::new("source", format!("the start was not prepared within {} s", start::TIMEOUT.as_secs()));
            let result = tokio::time::timeout(start::TIMEOUT, plan.prepare()).await.unwrap_or_else(|_| Err(late()));
            let _ = news.send(News::Prepared { rule: name, result: result.map(Box::new), answer }).await;
        });
    }

    /// One router per rule, kept between rollouts: `none` has nothing but its memory. After a restart that memory is the
    /// last rollout's end.
    async fn router(&mut self, rule: &Rule) -> Result<Arc<dyn Router>, String> {
        if let Some((traffic, router)) = self.routers.get(&rule.name)
            && *traffic == rule.traffic
        {
            return Ok(Arc::clone(router));
        }
        let router = (self.setting.router)(rule)?;
        if rule.traffic == Traffic::None
            && let Some(canary) = self.last_promoted(&rule.name).await
        {
            let all = Desired { canary, weight: Weight::FULL, generation: 0 };
            router.write(all).await.map_err(|e| e.to_string())?;
        }
        self.routers.insert(rule.name.clone(), (rule.traffic.clone(), Arc::clone(&router)));
        Ok(router)
    }

    async fn last_promoted(&self, rule: &str) -> Option<Side> {
        let earlier = self.store.list(Some(rule), 100).await.ok()?;
        let last = earlier.iter().find(|l| l.state == State::Succeeded)?;
        let entries = self.store.load(&last.id).await.ok()?;
        entries.first().and_then(|e| match &e.event {
            crate::model::journal::Event::Opened(o) => Some(o.begin.canary),
            _ => None,
        })
    }

    async fn hear(&mut self, news: News) {
        let News::Prepared { rule, result, answer } = news;
        self.preparing.remove(&rule);
        let result = match result {
            Ok(prepared) => self.launch(*prepared).await,
            Err(refusal) => Err(refusal),
        };
        drop(answer.send(result));
    }

    async fn launch(&mut self, prepared: Prepared) -> Result<RolloutId, Refusal> {
        let Prepared { rule, mut opened, judge, router, warnings } = prepared;
        let at = super::clock::now();
        opened.id = self.store.open(at, opened.clone()).await.map_err(|e| Refusal::new("journal", e.to_string()))?;
        let machine = Machine::new(&rule, &parts::method(opened.scale));
        let view = first_view(&rule, &opened, at, warnings);
        let id = opened.id.clone();
        let seat = Seat { rule, opened, judge, machine, router, view, after: None, first: None };
        self.seat(seat).await.map(|()| id)
    }

    async fn resume(&mut self, rebuilt: Rebuilt, first: Option<Timestamp>) {
        let Rebuilt { opened, rule, judge, machine, decision, judgement, last_poll, warnings, lost, differing } = rebuilt;
        if !differing.is_empty() {
            events::DecisionsDiffer { rollout: &opened.id, decisions: differing.len() }.emit();
        }
        if let Some(Lost { incarnation, why }) = &lost {
            events::EvidenceLost { rollout: &opened.id, incarnation: *incarnation, why }.emit();
        }
        let router = match self.router(&rule).await {
            Ok(router) => router,
            Err(why) => return events::NotRecovered { rollout: &opened.id, why: &why }.emit(),
        };
        let mut view = first_view(&rule, &opened, decision.at, warnings);
        view.state = decision.state.clone();
        view.judgement = judgement.map(Arc::new);
        view.decision = Arc::new(decision.clone());
        let id = opened.id.clone();
        let seat = Seat { rule, opened, judge, machine, router, view, after: Some(After { decision, last_poll, lost }), first };
        if let Err(refusal) = self.seat(seat).await {
            events::NotRecovered { rollout: &id, why: &refusal.text }.emit();
        }
    }

    /// Gives a rollout its slot, its driver and its place in a conductor.
    async fn seat(&mut self, seat: Seat) -> Result<(), Refusal> {
        let Seat { rule, opened, judge, machine, router, view, after, first } = seat;
        let conductor = self.conductor(&rule, opened.interval, first).map_err(|why| Refusal::new("source", why))?;
        let slot = self.take_slot();
        self.engine.open(slot, Box::new(judge)).map_err(|e| Refusal::new("unavailable", e.to_string()))?;
        self.keys += 1;
        let key = self.keys;
        let (post, mailbox) = mpsc::channel(MAIL_MAX);
        let live = Arc::new(Live::new(0, true));
        let cell = self.registry.add(view);
        self.registry.set_rule_rollout(&rule.name, &opened.id);
        let mut driver = Driver::new(Parts {
            id: opened.id.clone(),
            rule: rule.name.clone(),
            machine,
            memory: Memory::new(opened.id.clone(), Arc::clone(&self.store), self.metrics.clone()),
            router,
            begin: opened.begin.clone(),
            live: Arc::clone(&live),
            cell,
            registry: self.registry.clone(),
            metrics: self.metrics.clone(),
            back: post.downgrade(),
            mailbox,
            over: self.over.0.clone(),
        });
        events::RolloutOpened {
            rule: &rule.name,
            rollout: &opened.id,
            version: &opened.begin.version,
            by: &opened.begin.by,
            mode: rule.mode,
            again: after.is_some(),
        }
        .emit(&self.metrics);
        let born = Born::of(&opened);
        let from = after.as_ref().and_then(|after| after.last_poll);
        match after {
            Some(After { decision, lost, .. }) => driver.resume(decision, lost, forgets(&rule)).await,
            None => driver.begin().await,
        }
        self.drivers.spawn(driver.run());
        let wanted = parts::subscription(&rule, opened.begin.canary, key, opened.scale);
        conductor.join(Port { id: opened.id.clone(), key, slot, live, post: post.clone(), from }, wanted, opened.bounds_ms).await;
        let running = Running { id: opened.id, rule: Arc::clone(&rule), born, version: opened.begin.version, key, slot, post, conductor };
        self.running.insert(rule.name.clone(), running);
        Ok(())
    }

    fn conductor(&mut self, rule: &Rule, interval: Duration, first: Option<Timestamp>) -> Result<ConductorHandle, String> {
        let name = rule.source.clone().unwrap_or_default();
        if let Some(conductor) = self.conductors.get(&(name.clone(), interval)) {
            return Ok(conductor.clone());
        }
        let source = (self.setting.source)(rule, Some(interval))?;
        self.registry.set_source(source.name(), None);
        let engine = Arc::clone(&self.engine);
        let conductor =
            Conductor::start(source, interval, engine, (self.registry.clone(), self.metrics.clone()), first, self.shutdown.clone());
        self.conductors.insert((name, interval), conductor.clone());
        Ok(conductor)
    }

    fn take_slot(&mut self) -> Slot {
        let free = self.slots.iter().position(|taken| !taken).unwrap_or(self.slots.len());
        if free == self.slots.len() {
            self.slots.push(true);
        } else {
            self.slots[free] = true;
        }
        Engine::<Judge>::slot(free as u32)
    }

    // ---- running and over

    async fn command(&mut self, name: &str, command: Command, answer: oneshot::Sender<Result<Arc<RolloutView>, Refusal>>) {
        let running = self.running.get(name).or_else(|| self.running.values().find(|r| r.id.0 == name));
        match running {
            Some(run) => {
                // a driver that is gone drops the answer, which the asker reads as "shutting down"
                let _ = run.post.send(Mail::Command { command, answer }).await;
            }
            None => drop(answer.send(Err(self.not_running(name, &command)))),
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

    async fn bury(&mut self, id: &RolloutId) {
        let Some(rule) = self.running.iter().find(|(_, r)| r.id == *id).map(|(rule, _)| rule.clone()) else { return };
        if let Some(run) = self.running.remove(&rule) {
            run.conductor.leave(run.key).await;
            self.keep_sums(&rule, &run).await;
            if let Some(taken) = self.slots.iter_mut().enumerate().find(|(i, _)| Engine::<Judge>::slot(*i as u32) == run.slot) {
                *taken.1 = false;
            }
        }
        self.forget_old(&rule);
        if let Some((args, answer)) = self.next.remove(&rule) {
            self.prepare(rule, args, answer).await;
        }
    }

    /// Empties the slot; what the judge learned is kept for the next rollout, unless this one was rolled back.
    async fn keep_sums(&self, rule: &str, run: &Running) {
        let (told, answer) = oneshot::channel();
        // the engine stops only with the daemon
        let _ = self.engine.take(run.slot, Box::new(move |judge| drop(told.send(judge))));
        let Ok(Some(judge)) = answer.await else { return };
        let rolled_back = self.registry.rollout(&run.id).is_none_or(|view| view.state == State::RolledBack);
        let Some(kept) = kept::of(&judge, &run.rule, &run.born, clock::now()).filter(|_| !rolled_back) else { return };
        let stored = tokio::time::timeout(KEEP_TIMEOUT, self.store.keep(rule, kept)).await;
        // a rollout without them learns again: said, and no more than that
        match stored {
            Ok(Ok(())) => {}
            Ok(Err(e)) => events::StoreFailed { what: rule, error: &e.to_string() }.emit(&self.metrics),
            Err(_) => events::StoreFailed { what: rule, error: "what was learned could not be kept in time" }.emit(&self.metrics),
        }
    }

    fn forget_old(&self, rule: &str) {
        let views = self.registry.views();
        let mut over: Vec<_> = views.rollouts.values().filter(|v| v.rule == rule && v.state.is_over()).collect();
        over.sort_by_key(|v| std::cmp::Reverse(v.opened));
        for view in over.into_iter().skip(OVER_KEPT) {
            self.registry.forget(&view.id);
        }
    }
}

/// What `seat` needs.
struct Seat {
    rule: Arc<Rule>,
    opened: Opened,
    judge: Judge,
    machine: Machine,
    router: Arc<dyn Router>,
    view: RolloutView,
    after: Option<After>,
    /// The first tick its conductor asks for, if it is the first to need it.
    first: Option<Timestamp>,
}

/// What a restart found.
struct After {
    decision: Decision,
    /// The last tick it has.
    last_poll: Option<Timestamp>,
    lost: Option<Lost>,
}

/// Does what moves the traffic forget the weight when this process ends?
fn forgets(rule: &Rule) -> bool {
    rule.mode == Mode::Enforce && matches!(rule.traffic, Traffic::None | Traffic::Proxy)
}

/// Rollouts that share a conductor are caught up with from the oldest tick among them.
fn with_first_ticks(rebuilt: Vec<Rebuilt>) -> Vec<(Rebuilt, Option<Timestamp>)> {
    let key = |r: &Rebuilt| (r.rule.source.clone(), r.opened.interval);
    let mut first: BTreeMap<_, Timestamp> = BTreeMap::new();
    for r in &rebuilt {
        if let Some(at) = r.last_poll {
            first.entry(key(r)).and_modify(|f| *f = at.min(*f)).or_insert(at);
        }
    }
    rebuilt
        .into_iter()
        .map(|r| {
            let f = first.get(&key(&r)).copied();
            (r, f)
        })
        .collect()
}

pub(super) fn first_view(rule: &Rule, opened: &Opened, at: Timestamp, warnings: Vec<String>) -> RolloutView {
    let canary = opened.begin.canary;
    let waiting = State::Waiting(crate::model::Waiting::Router);
    RolloutView {
        id: opened.id.clone(),
        rule: rule.name.clone(),
        baseline: rule.workloads.side(canary.other()).name().to_owned(),
        canary: rule.workloads.side(canary).name().to_owned(),
        canary_side: canary,
        version: opened.begin.version.clone(),
        opened: at,
        mode: rule.mode,
        steps: rule.steps.iter().map(|s| (s.weight, s.lasts.as_millis() as u64)).collect(),
        metrics: rule.metrics.iter().map(|m| m.name.clone()).collect(),
        state: waiting.clone(),
        decision: Arc::new(Decision {
            at,
            action: crate::model::Action::Hold,
            state: waiting,
            weight: opened.begin.weight,
            generation: 0,
            step: 0,
            counts_time: true,
            reasons: Vec::new(),
            holds: Vec::new(),
            effects: Vec::new(),
            wake_at: None,
        }),
        weight_seen: None,
        judgement: None::<Arc<Judgement>>,
        stuck: None,
        warnings,
    }
}
