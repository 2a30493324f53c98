//! The hot path: from a sample to a verdict, with no lock, no clock, no allocation and no system call.
//!
//! One thread per shard. Each is fed by one bounded channel and is the **only writer** of its slots, so that no slot needs
//! a lock; orders of one shard are carried out in the order they were sent. After a tick the shard publishes an immutable
//! [`Snapshot`] by one atomic pointer swap (arc-swap: a release store here, an acquire load at the reader, so a reader
//! sees a snapshot whole or the one before it); building it is the one allocation per shard and tick, and it lies behind
//! the last verdict. A full channel pushes back on the sender and is counted ([`Engine::pushed_back`]).
//!
//! The engine does not know what a judge does: it is given boxed judges and calls them ([`Judging`]).

mod shard;

use crate::analysis;
use crate::model::{Judgement, Poll, Timestamp};
use arc_swap::ArcSwap;
use crossbeam_channel::{Sender, TrySendError, bounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Orders that wait for a shard at most. A tick is one order for all slots of a shard, so a few are many.
pub const ORDERS_MAX: usize = 64;

/// What the engine asks of a judge: one poll in, one judgement out, filled in place.
pub trait Judging: Send + 'static {
    /// Judges a poll. Must not allocate, lock, wait or look at a clock.
    fn poll(&mut self, poll: &Poll, out: &mut Judgement);
}

impl Judging for analysis::Judge {
    fn poll(&mut self, poll: &Poll, out: &mut Judgement) {
        analysis::Judge::poll(self, poll, out);
    }
}

/// The place of one rollout's evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(u32);

/// What a shard said after a tick. Immutable.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The tick of the batch.
    pub at: Timestamp,
    /// Judgements of the slots that were in the batch, in its order.
    pub judged: Vec<(Slot, Arc<Judgement>)>,
}

/// Called on the shard's thread with what it said, after it was published; must be quick and must not block.
pub type Answer = Box<dyn FnOnce(Arc<Snapshot>) + Send>;

/// Called on the shard's thread with the judge of a slot that was emptied; must be quick and must not block.
pub type Taken<J> = Box<dyn FnOnce(Option<Box<J>>) + Send>;

/// What a shard is told.
enum Order<J> {
    Open { slot: Slot, judge: Box<J> },
    Take { slot: Slot, answer: Taken<J> },
    Tick { at: Timestamp, polls: Vec<(Slot, Poll)>, answer: Answer },
}

/// The engine is shutting down.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the engine has stopped")]
pub struct Stopped;

/// The shards and the way to them.
pub struct Engine<J: Judging> {
    shards: Vec<ShardPort<J>>,
    pushed_back: AtomicU64,
}

struct ShardPort<J> {
    orders: Sender<Order<J>>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl<J: Judging> Engine<J> {
    /// Starts `shards` threads (at least one).
    ///
    /// # Errors
    /// If the system refuses a thread.
    #[allow(clippy::disallowed_methods)] // the one place that starts the engine's threads
    pub fn start(shards: usize) -> std::io::Result<Self> {
        let mut ports = Vec::new();
        for index in 0..shards.max(1) {
            let (orders, inbox) = bounded(ORDERS_MAX);
            let empty = Snapshot { at: Timestamp::default(), judged: Vec::new() };
            let snapshot = Arc::new(ArcSwap::from_pointee(empty));
            let shard = shard::Shard::new(inbox, Arc::clone(&snapshot));
            let thread = std::thread::Builder::new().name(format!("engine-{index}")).spawn(move || shard.run())?;
            ports.push(ShardPort { orders, snapshot, thread: Some(thread) });
        }
        Ok(Self { shards: ports, pushed_back: AtomicU64::new(0) })
    }

    /// The slot with this number. The caller keeps the numbers (small, dense, one per live rollout).
    pub const fn slot(number: u32) -> Slot {
        Slot(number)
    }

    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Which shard holds a slot.
    pub fn shard_of(&self, slot: Slot) -> usize {
        slot.0 as usize % self.shards.len()
    }

    /// Puts a judge into a slot; one that was there is dropped.
    ///
    /// # Errors
    /// After shutdown.
    pub fn open(&self, slot: Slot, judge: Box<J>) -> Result<(), Stopped> {
        self.send(self.shard_of(slot), Order::Open { slot, judge }).map(drop)
    }

    /// Empties a slot.
    ///
    /// # Errors
    /// After shutdown.
    pub fn close(&self, slot: Slot) -> Result<(), Stopped> {
        self.take(slot, Box::new(drop))
    }

    /// Empties a slot and gives its judge back, with everything it learned; `None` if there was none.
    ///
    /// # Errors
    /// After shutdown.
    pub fn take(&self, slot: Slot, answer: Taken<J>) -> Result<(), Stopped> {
        self.send(self.shard_of(slot), Order::Take { slot, answer }).map(drop)
    }

    /// Gives one shard the polls of a tick; `answer` is called when all are judged. Polls of slots that are empty, or that
    /// belong to another shard, are left out of the answer. True if it had to wait because the shard's channel was full.
    ///
    /// # Errors
    /// After shutdown.
    pub fn tick(&self, shard: usize, at: Timestamp, polls: Vec<(Slot, Poll)>, answer: Answer) -> Result<bool, Stopped> {
        self.send(shard, Order::Tick { at, polls, answer })
    }

    /// What a shard said last.
    pub fn snapshot(&self, shard: usize) -> Arc<Snapshot> {
        self.shards[shard].snapshot.load_full()
    }

    /// How often an order had to wait because its shard's channel was full, over all shards.
    pub fn pushed_back(&self) -> u64 {
        self.pushed_back.load(Ordering::Relaxed)
    }

    /// Orders that wait for a shard now.
    pub fn waiting(&self, shard: usize) -> usize {
        self.shards[shard].orders.len()
    }

    fn send(&self, shard: usize, order: Order<J>) -> Result<bool, Stopped> {
        let port = &self.shards[shard];
        match port.orders.try_send(order) {
            Ok(()) => Ok(false),
            Err(TrySendError::Disconnected(_)) => Err(Stopped),
            Err(TrySendError::Full(order)) => {
                self.pushed_back.fetch_add(1, Ordering::Relaxed);
                port.orders.send(order).map(|()| true).map_err(|_| Stopped)
            }
        }
    }
}

impl<J: Judging> Drop for Engine<J> {
    /// Closes the channels and waits for the shards to finish what they were told.
    fn drop(&mut self) {
        for port in &mut self.shards {
            let (closed, _) = bounded(1);
            port.orders = closed;
            if let Some(thread) = port.thread.take() {
                let _ = thread.join();
            }
        }
    }
}

impl<J: Judging> std::fmt::Debug for Engine<J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("shards", &self.shards.len()).field("pushed_back", &self.pushed_back()).finish()
    }
}

#[cfg(test)]
mod tests;
