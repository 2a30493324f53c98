//! One task per source and tick length: asks the source for each tick, gives the polls to the engine, and the engine's
//! judgements to the drivers. Ticks lie on wall-clock multiples of their length and are asked for after they settled, so
//! the same tick asked again later gives the same answer; a tick that was missed is asked for late rather than left out.

use super::clock;
use super::mail::{Judged, Mail, Post};
use super::registry::Registry;
use crate::analysis::Judge;
use crate::engine::{Engine, Slot};
use crate::model::{Judgement, LimitChange, Poll, RolloutId, Timestamp};
use crate::source::{Source, SourceSample, Subscription};
use crate::telemetry::{Metrics, events};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Rollouts that may be waiting to join or leave.
const ORDERS_MAX: usize = 256;
/// Missed ticks that are asked for at most after an interruption; more are left out and counted. An hour of 15-s ticks.
const CATCH_UP_MAX: u32 = 240;

/// Longest a tick waits for the drivers to deal with it: twice what one of them waits for its journal. One that takes longer gets no
/// poll until it is done, so that the polls of all others go on, and none of its own is booked to a step that is over.
const DEAL_MAX: Duration = Duration::from_secs(10);

/// What is said about the next poll; read when the poll is made. Step and clock are one word, so that they belong together.
#[derive(Debug)]
pub(super) struct Live {
    booking: AtomicU64,
    /// Limits that lie elsewhere from the next poll on.
    changes: Mutex<Vec<LimitChange>>,
}

impl Live {
    pub(super) fn new(step: u32, counts_time: bool) -> Self {
        Self { booking: AtomicU64::new(Self::pack(step, counts_time)), changes: Mutex::default() }
    }

    /// The next poll carries these too.
    pub(super) fn change(&self, changes: Vec<LimitChange>) {
        self.changes.lock().extend(changes);
    }

    fn take_changes(&self) -> Vec<LimitChange> {
        std::mem::take(&mut *self.changes.lock())
    }

    /// Release: pairs with the acquire of `get`, so a poll made after this sees it.
    pub(super) fn set(&self, step: u32, counts_time: bool) {
        self.booking.store(Self::pack(step, counts_time), Ordering::Release);
    }

    fn get(&self) -> (u32, bool) {
        let word = self.booking.load(Ordering::Acquire);
        ((word >> 1) as u32, word & 1 == 1)
    }

    fn pack(step: u32, counts_time: bool) -> u64 {
        u64::from(step) << 1 | u64::from(counts_time)
    }
}

/// One rollout, as a conductor knows it.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) id: RolloutId,
    pub(super) key: u64,
    pub(super) slot: Slot,
    pub(super) live: Arc<Live>,
    pub(super) post: Post,
    /// After a restart: the last tick it already has; this one is asked for once more, for the raw values.
    pub(super) from: Option<Timestamp>,
    /// A tick its driver has not dealt with yet.
    pub(super) behind: Option<oneshot::Receiver<()>>,
}

impl Port {
    /// Room for the next poll's judgement; `None` if the driver is not done with the last one, is full of other mail, or is gone.
    fn room(&mut self) -> Option<mpsc::OwnedPermit<Mail>> {
        if self.behind.as_mut().is_some_and(|dealt| matches!(dealt.try_recv(), Err(oneshot::error::TryRecvError::Empty))) {
            return None;
        }
        self.behind = None;
        self.post.clone().try_reserve_owned().ok()
    }
}

/// What a conductor is told.
#[derive(Debug)]
enum Order {
    Join { port: Port, wanted: Box<Subscription>, bounds_ms: Vec<f64> },
    Leave { key: u64, left: oneshot::Sender<()> },
    Release,
}

/// The way to a conductor.
#[derive(Clone, Debug)]
pub(super) struct ConductorHandle(mpsc::Sender<Order>);

impl ConductorHandle {
    /// A rollout joins. Its first tick only notes raw values.
    pub(super) async fn join(&self, port: Port, wanted: Subscription, bounds_ms: Vec<f64>) {
        // an error means the conductor has stopped: so does everything else
        let _ = self.0.send(Order::Join { port, wanted: Box::new(wanted), bounds_ms }).await;
    }

    /// Everybody who is to be caught up with has joined.
    pub(super) async fn release(&self) {
        let _ = self.0.send(Order::Release).await;
    }

    /// A rollout is over: after this, nothing is put into its slot any more.
    pub(super) async fn leave(&self, key: u64) {
        let (left, wait) = oneshot::channel();
        let _ = self.0.send(Order::Leave { key, left }).await;
        let _ = wait.await;
    }
}

/// A source with its rollouts.
pub(super) struct Conductor {
    source: Box<dyn Source>,
    interval: Duration,
    engine: Arc<Engine<Judge>>,
    registry: Registry,
    metrics: Metrics,
    orders: mpsc::Receiver<Order>,
    ports: BTreeMap<u64, Port>,
    /// The last tick that was asked for.
    last: Timestamp,
    /// Asks for nothing until released: a rollout that joined after the first missed ticks would never see them.
    held: bool,
}

impl Conductor {
    /// Starts the task; it ends with `shutdown`. The first tick asked for is the one at `first`, or the next if `None`;
    /// one in the past (after a restart) and all since are caught up with, once it is released.
    pub(super) fn start(
        source: Box<dyn Source>,
        interval: Duration,
        engine: Arc<Engine<Judge>>,
        (registry, metrics): (Registry, Metrics),
        first: Option<Timestamp>,
        shutdown: CancellationToken,
    ) -> ConductorHandle {
        let (send, orders) = mpsc::channel(ORDERS_MAX);
        let last = first.map_or_else(|| clock::now().floor_to(interval), |f| f - interval);
        let conductor = Self { source, interval, engine, registry, metrics, orders, ports: BTreeMap::new(), last, held: first.is_some() };
        tokio::spawn(conductor.run(shutdown));
        ConductorHandle(send)
    }

    async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let next = self.last + self.interval;
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                order = self.orders.recv() => match order {
                    Some(order) => self.obey(order).await,
                    None => return,
                },
                () = clock::sleep_until(next + self.source.settle()), if !self.held => self.tick(next).await,
            }
        }
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Join { port, wanted, bounds_ms } => self.take_in(port, *wanted, bounds_ms).await,
            Order::Leave { key, left } => {
                self.source.unsubscribe(key);
                self.ports.remove(&key);
                // a driver that was aborted does not wait
                let _ = left.send(());
            }
            Order::Release => self.held = false,
        }
    }

    /// The set-up also measures how late samples come (settle); a source that is down now is blind at the tick.
    async fn take_in(&mut self, port: Port, wanted: Subscription, bounds_ms: Vec<f64>) {
        let _ = self.source.set_up(&wanted, clock::now()).await;
        self.source.subscribe(wanted, bounds_ms);
        self.ports.insert(port.key, port);
    }

    async fn tick(&mut self, at: Timestamp) {
        self.last = at;
        if self.ports.is_empty() {
            self.last = clock::now().floor_to(self.interval).max(at);
            return;
        }
        self.skip_hopeless(at);
        let began = Instant::now();
        let samples = self.source.tick(at).await;
        self.note_health(&samples);
        events::Ticked { source: self.source.name(), at, rollouts: samples.len(), took: began.elapsed() }.emit(&self.metrics);
        self.judge(at, samples).await;
    }

    /// So far behind (a suspended machine, a clock set forward) that asking for every tick would never catch up.
    fn skip_hopeless(&mut self, at: Timestamp) {
        let now = clock::now().floor_to(self.interval);
        let behind = now.since(at).as_millis() / self.interval.as_millis().max(1);
        if behind > u128::from(CATCH_UP_MAX) {
            events::TicksSkipped { source: self.source.name(), ticks: behind as u64 - 1 }.emit();
            self.last = now - self.interval;
        }
    }

    fn note_health(&self, samples: &[SourceSample]) {
        let blind = samples.iter().find(|s| {
            use crate::model::Blind::{Clock, SourceDown};
            s.missing.baseline.is_some_and(|b| matches!(b, SourceDown | Clock))
        });
        self.registry.set_source(self.source.name(), blind.map(|s| s.detail.clone()));
    }

    /// Polls to the engine, judgements to the drivers; returns when every driver has dealt with its own, so that the next
    /// poll is booked to the step its decision left in force; one that takes too long is left behind.
    async fn judge(&mut self, at: Timestamp, samples: Vec<SourceSample>) {
        let mut by_shard: Vec<Vec<(Slot, Poll)>> = vec![Vec::new(); self.engine.shards()];
        let mut waiting = BTreeMap::new();
        for sample in samples {
            let Some(port) = self.ports.get_mut(&sample.key).filter(|p| p.from.is_none_or(|from| at > from)) else { continue };
            let Some(room) = port.room() else {
                events::PollLeftOut { rollout: &port.id }.emit(&self.metrics);
                continue;
            };
            if let Some(why) = sample.missing.canary.or(sample.missing.baseline) {
                events::TickBlind { source: self.source.name(), rollout: &port.id, why, detail: &sample.detail }.emit(&self.metrics);
            }
            let (step, counts_time) = port.live.get();
            let poll = Poll { at, step, counts_time, arms: sample.arms, changes: port.live.take_changes() };
            by_shard[self.engine.shard_of(port.slot)].push((port.slot, poll.clone()));
            waiting.insert(port.slot, (room, sample.key, poll, sample.missing, sample.detail, sample.orphans));
        }
        let judged = ask(&self.engine, at, by_shard, &self.metrics).await;
        let mut done = Vec::new();
        for (slot, judgement) in judged {
            let Some((room, key, poll, missing, detail, orphans)) = waiting.remove(&slot) else { continue };
            let (dealt, wait) = oneshot::channel();
            let judged = Judged { poll, missing, detail, orphans, judgement, dealt };
            room.send(Mail::Judged(Box::new(judged)));
            done.push((key, wait));
        }
        self.wait_for(done).await;
    }

    async fn wait_for(&mut self, done: Vec<(u64, oneshot::Receiver<()>)>) {
        let until = tokio::time::Instant::now() + DEAL_MAX;
        for (key, mut dealt) in done {
            // an error means that the driver has ended
            if tokio::time::timeout_at(until, &mut dealt).await.is_err()
                && let Some(port) = self.ports.get_mut(&key)
            {
                port.behind = Some(dealt);
            }
        }
    }
}

/// One batch per shard; judgements of all.
async fn ask(engine: &Engine<Judge>, at: Timestamp, by_shard: Vec<Vec<(Slot, Poll)>>, metrics: &Metrics) -> Vec<(Slot, Arc<Judgement>)> {
    let mut answers = Vec::new();
    for (shard, polls) in by_shard.into_iter().enumerate().filter(|(_, polls)| !polls.is_empty()) {
        let (told, answer) = oneshot::channel();
        let asked = tokio::task::block_in_place(|| engine.tick(shard, at, polls, Box::new(move |snapshot| drop(told.send(snapshot)))));
        let number = u32::try_from(shard).unwrap_or(u32::MAX);
        events::QueueLength { shard: number, length: engine.waiting(shard) }.emit(metrics);
        if let Ok(waited) = asked {
            answers.push(answer);
            if waited {
                events::PushRefused { shard: number }.emit(metrics);
            }
        }
    }
    let mut out = Vec::new();
    for answer in answers {
        if let Ok(snapshot) = answer.await {
            out.extend(snapshot.judged.iter().cloned());
        }
    }
    out
}
