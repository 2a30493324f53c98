//! A rollout's place: its slot in the engine, its driver, its conductor; for a new one and for one taken up again.

use super::{Running, Supervisor};
use crate::analysis::Judge;
use crate::engine::{Engine, Slot};
use crate::model::journal::Opened;
use crate::model::{Begin, Decision, Judgement, RolloutId, Rule, State, Timestamp};
use crate::rollout::{Approved, Machine};
use crate::router::Router;
use crate::runtime::alerts::Desk;
use crate::runtime::changes;
use crate::runtime::conductor::{Conductor, ConductorHandle, Live, Port};
use crate::runtime::driver::{Driver, Parts};
use crate::runtime::handle::{Refusal, RolloutView};
use crate::runtime::kept::Born;
use crate::runtime::lookout::Lookout;
use crate::runtime::mail::{Back, MAIL_MAX};
use crate::runtime::memory::Memory;
use crate::runtime::parts;
use crate::runtime::replay::{Left, Lost, Rebuilt};
use crate::runtime::start::Prepared;
use crate::runtime::worker::{Kit, Worker};
use crate::source::Subscription;
use crate::telemetry::events;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

impl Supervisor {
    /// Opens a new rollout; answered when it has begun, which is not waited for here.
    pub(super) async fn launch(&mut self, prepared: Prepared, answer: oneshot::Sender<Result<RolloutId, Refusal>>) {
        match self.open(prepared).await {
            Ok((id, begun)) => drop(tokio::spawn(async move {
                // an error means that its driver has ended already
                let _ = begun.await;
                drop(answer.send(Ok(id)));
            })),
            Err(refusal) => drop(answer.send(Err(refusal))),
        }
    }

    async fn open(&mut self, prepared: Prepared) -> Result<(RolloutId, Begun), Refusal> {
        let Prepared { rule, mut opened, judge, router, warnings } = prepared;
        let at = crate::runtime::clock::now();
        opened.id = self.store.open(at, opened.clone()).await.map_err(|e| Refusal::new("journal", e.to_string()))?;
        let machine = Machine::new(&rule, &parts::method(opened.scale));
        let view = first_view(&rule, &opened, at, warnings);
        let id = opened.id.clone();
        let seat = Seat { rule, opened, judge, machine, router, view, after: None, first: None };
        self.seat(seat).await.map(|begun| (id, begun))
    }

    /// Takes up one that was not over; `None` and a line in the log if it cannot be.
    pub(super) async fn resume(&mut self, rebuilt: Rebuilt, first: Option<Timestamp>) -> Option<Begun> {
        let Rebuilt { opened, rule, judge, machine, judgement, last_poll, warnings, changes, differing, left } = rebuilt;
        if !differing.is_empty() {
            events::DecisionsDiffer { rollout: &opened.id, decisions: differing.len() }.emit();
        }
        if let Some(Lost { incarnation, why }) = &left.lost {
            events::EvidenceLost { rollout: &opened.id, incarnation: *incarnation, why }.emit();
        }
        let rule = Arc::new(changes::with(&rule, &changes));
        let router = match self.router(&rule).await {
            Ok(router) => router,
            Err(why) => {
                events::NotRecovered { rollout: &opened.id, why: &why }.emit();
                return None;
            }
        };
        let mut view = first_view(&rule, &opened, left.decision.at, warnings);
        view.state = left.decision.state.clone();
        view.judgement = judgement.map(Arc::new);
        view.decision = Arc::new(left.decision.clone());
        view.approvals = needed(&rule, &machine);
        let id = opened.id.clone();
        let seat = Seat { rule, opened, judge, machine, router, view, after: Some(After { left, last_poll }), first };
        let seated = self.seat(seat).await;
        seated.inspect_err(|refusal| events::NotRecovered { rollout: &id, why: &refusal.text }.emit()).ok()
    }

    /// Gives a rollout its slot, its driver and its place in a conductor.
    async fn seat(&mut self, seat: Seat) -> Result<Begun, Refusal> {
        let Seat { rule, opened, judge, machine, router, view, after, first } = seat;
        let conductor = self.conductor(&rule, opened.interval, first).map_err(|why| Refusal::new("source", why))?;
        self.follow_workloads(&rule);
        let slot = self.take_slot();
        self.engine.open(slot, Box::new(judge)).map_err(|e| Refusal::new("unavailable", e.to_string()))?;
        self.keys += 1;
        let key = self.keys;
        let (post, mailbox) = mpsc::channel(MAIL_MAX);
        let began = machine.begun().unwrap_or(view.opened);
        let lookout = self.lookout(&rule, &opened.begin, began);
        let worker = self.worker(&rule, &opened, post.downgrade());
        let live = Arc::new(Live::new(0, true));
        let cell = self.registry.add(view);
        self.registry.set_rule_rollout(&rule.name, &opened.id);
        let driver = Driver::new(Parts {
            id: opened.id.clone(),
            rule: Arc::clone(&rule),
            machine,
            memory: Memory::new(opened.id.clone(), Arc::clone(&self.store), self.metrics.clone()),
            router,
            begin: opened.begin.clone(),
            live: Arc::clone(&live),
            cell,
            registry: self.registry.clone(),
            metrics: self.metrics.clone(),
            notices: self.notices.clone(),
            hooks: self.hooks.clone(),
            desk: Desk::new(self.alerts_expire),
            lookout,
            worker,
            back: post.downgrade(),
            mailbox,
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
        let wanted = parts::subscription(&rule, opened.begin.canary, key, opened.scale);
        let port = Port { id: opened.id.clone(), key, slot, live: Arc::clone(&live), post: post.clone(), from, behind: None };
        let place = Place { conductor, port, wanted, bounds_ms: opened.bounds_ms };
        let (told, begun) = oneshot::channel();
        self.drivers.spawn(drive(driver, after.map(|after| after.left), place, told, self.over.0.clone()));
        let running = Running { id: opened.id, rule: Arc::clone(&rule), born, begin: opened.begin, slot, live, post };
        self.running.insert(rule.name.clone(), running);
        Ok(begun)
    }

    /// Eyes in the cluster for a rollout that began with a look at it.
    fn lookout(&self, rule: &Rule, begin: &Begin, since: Timestamp) -> Option<Lookout> {
        let (cluster, noted) = (self.cluster.clone()?, begin.noted.clone()?);
        Some(Lookout::new(cluster, self.templates.clone(), (rule, begin.canary), since, noted))
    }

    /// Hands there.
    fn worker(&self, rule: &Arc<Rule>, opened: &Opened, back: Back) -> Option<Worker> {
        let (cluster, noted) = (self.cluster.clone()?, opened.begin.noted.clone()?);
        let kit = Kit {
            cluster,
            templates: self.templates.clone(),
            rule: Arc::clone(rule),
            rollout: opened.id.clone(),
            canary: opened.begin.canary,
            noted,
            metrics: self.metrics.clone(),
        };
        Some(Worker::new(kit, back))
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
}

/// Ready when a rollout has begun, or was taken up again, and its conductor knows of it.
pub(super) type Begun = oneshot::Receiver<()>;

/// Where a rollout joins.
struct Place {
    conductor: ConductorHandle,
    port: Port,
    wanted: Subscription,
    bounds_ms: Vec<f64>,
}

/// A rollout's task. Its beginning waits for the journal, its joining and leaving for a tick that is under way: none of it is the
/// supervisor's to wait for. Only a rollout that its conductor knows no more is told to be over: its slot is another's then.
async fn drive(mut driver: Driver, left: Option<Left>, place: Place, begun: oneshot::Sender<()>, over: mpsc::Sender<RolloutId>) {
    match left {
        Some(left) => driver.resume(left).await,
        None => driver.begin().await,
    }
    let Place { conductor, port, wanted, bounds_ms } = place;
    let (id, key) = (port.id.clone(), port.key);
    conductor.join(port, wanted, bounds_ms).await;
    // the starter may have gone
    let _ = begun.send(());
    if driver.run().await {
        conductor.leave(key).await;
        // an error means that the supervisor is gone too
        let _ = over.send(id).await;
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
    left: Left,
    /// The last tick it has.
    last_poll: Option<Timestamp>,
}

/// Rollouts that share a conductor are caught up with from the oldest tick among them.
pub(super) fn with_first_ticks(rebuilt: Vec<Rebuilt>) -> Vec<(Rebuilt, Option<Timestamp>)> {
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

/// The roles that must approve, and who did.
pub(in crate::runtime) fn needed(rule: &Rule, machine: &Machine) -> Vec<(String, Option<Approved>)> {
    let given: Vec<Approved> = machine.approved().collect();
    let of = |role: &String| (role.clone(), given.iter().find(|g| g.role == *role).cloned());
    rule.start.approvals.iter().map(of).collect()
}

pub(in crate::runtime) fn first_view(rule: &Rule, opened: &Opened, at: Timestamp, warnings: Vec<String>) -> RolloutView {
    let canary = opened.begin.canary;
    let waiting = State::Waiting(crate::model::Waiting::Router);
    RolloutView {
        id: opened.id.clone(),
        rule: rule.name.clone(),
        baseline: rule.workloads.name(canary.other()).to_owned(),
        canary: rule.workloads.name(canary).to_owned(),
        canary_side: canary,
        canary_fields: rule.workloads.side(canary).fields.clone(),
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
        workloads: None,
        judgement: None::<Arc<Judgement>>,
        approvals: rule.start.approvals.iter().map(|role| (role.clone(), None)).collect(),
        stuck: None,
        warnings,
    }
}
