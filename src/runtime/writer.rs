//! Makes the router show the weight that is wanted, and reads it back. Level-triggered: only the newest wish counts.

use super::mail::{Back, Mail};
use crate::model::{Noted, Outcome, Retry, RolloutId, Side, Weight};
use crate::router::{Desired, Router};
use crate::telemetry::{Metrics, events};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// Longest a single write or read may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Wait that is proposed after a write that was not answered.
const RETRY_AFTER_TIMEOUT: Duration = Duration::from_secs(1);

/// A reading is worth something only if no write began or ended since it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReadGuard(u64);

/// What the router shall do.
#[derive(Clone, Copy, Debug, Default)]
struct Wish {
    weight: Option<Desired>,
    /// How often it was to be stopped; not any more once there is a weight.
    stops: u64,
}

/// The router's side of one rollout.
pub(super) struct Writer {
    router: Arc<dyn Router>,
    canary: Side,
    wish: watch::Sender<Wish>,
    /// Rises when a write begins and when it ends: odd while one is under way.
    writes: Arc<AtomicU64>,
    reading: Arc<AtomicBool>,
}

impl Writer {
    pub(super) fn start(router: Arc<dyn Router>, of: (Side, Option<Noted>), told: (RolloutId, Metrics), back: Back) -> Self {
        let (wish, wishes) = watch::channel(Wish::default());
        let (canary, noted) = of;
        let writes = Arc::new(AtomicU64::new(0));
        let task = Task { router: Arc::clone(&router), rollout: told.0, metrics: told.1, back, wishes, noted, writes: Arc::clone(&writes) };
        tokio::spawn(task.run());
        Self { router, canary, wish, writes, reading: Arc::default() }
    }

    /// The router shall show this weight; an older wish is forgotten.
    pub(super) fn want(&self, weight: Weight, generation: u64) {
        self.wish.send_if_modified(|wish| {
            let newer = wish.weight.is_none_or(|old| generation >= old.generation);
            if newer {
                wish.weight = Some(Desired { canary: self.canary, weight, generation });
            }
            newer
        });
    }

    /// What moves the traffic by itself shall stand still, as long as no weight is wanted.
    pub(super) fn hold_still(&self) {
        self.wish.send_modify(|wish| wish.stops += 1);
    }

    /// Reads the router once, unless that is under way; the answer comes by post. `false` if the reading under way may have begun
    /// before now.
    pub(super) fn read_soon(&self, back: &Back) -> bool {
        let guard = ReadGuard(self.writes.load(Ordering::Acquire));
        if guard.0 % 2 == 1 {
            // when it ends the router is read in any case
            return true;
        }
        if self.reading.swap(true, Ordering::AcqRel) {
            return false;
        }
        let (router, canary, back, reading) = (Arc::clone(&self.router), self.canary, back.clone(), Arc::clone(&self.reading));
        tokio::spawn(async move {
            let answer = tokio::time::timeout(TIMEOUT, router.read(canary)).await;
            reading.store(false, Ordering::Release);
            let reading = match answer {
                Ok(read) => read.map_err(|e| e.to_string()),
                Err(_) => Err(format!("{}: no answer within {} s", router.name(), TIMEOUT.as_secs())),
            };
            send(&back, Mail::Read { reading, guard }).await;
        });
        true
    }

    pub(super) fn is_current(&self, guard: ReadGuard) -> bool {
        guard.0 == self.writes.load(Ordering::Acquire)
    }
}

struct Task {
    router: Arc<dyn Router>,
    rollout: RolloutId,
    metrics: Metrics,
    back: Back,
    wishes: watch::Receiver<Wish>,
    noted: Option<Noted>,
    writes: Arc<AtomicU64>,
}

impl Task {
    /// One attempt per wish: whether and when to try again is the machine's decision, and comes as a new wish.
    async fn run(mut self) {
        while self.wishes.changed().await.is_ok() {
            let wish = *self.wishes.borrow_and_update();
            match wish.weight {
                Some(desired) => self.write(desired).await,
                None => self.hold_still().await,
            }
        }
    }

    /// Whether it stands a reading tells; while it is being stopped none is taken.
    async fn hold_still(&self) {
        let Some(noted) = &self.noted else { return };
        self.writes.fetch_add(1, Ordering::AcqRel);
        let held = tokio::time::timeout(TIMEOUT, self.router.hold_still(noted)).await;
        self.writes.fetch_add(1, Ordering::AcqRel);
        let failed = match held {
            Ok(Ok(())) => None,
            Ok(Err(e)) => Some((e.reason(), e.to_string())),
            Err(_) => Some(("timeout", format!("{}: no answer within {} s", self.router.name(), TIMEOUT.as_secs()))),
        };
        events::EffectEnded {
            rollout: &self.rollout,
            router: self.router.name(),
            effect: "hold still",
            generation: 0,
            failed: failed.as_ref().map(|(reason, text)| (*reason, text.as_str())),
        }
        .emit(&self.metrics);
        send(&self.back, Mail::HeldStill).await;
    }

    async fn write(&self, desired: Desired) {
        self.writes.fetch_add(1, Ordering::AcqRel);
        let written = tokio::time::timeout(TIMEOUT, self.router.write(desired)).await;
        self.writes.fetch_add(1, Ordering::AcqRel);
        let failed = match written {
            Ok(Ok(())) => None,
            Ok(Err(e)) => Some((e.reason(), e.to_string(), e.retry())),
            Err(_) => {
                let text = format!("{}: no answer within {} s", self.router.name(), TIMEOUT.as_secs());
                Some(("timeout", text, Retry::After(RETRY_AFTER_TIMEOUT)))
            }
        };
        events::EffectEnded {
            rollout: &self.rollout,
            router: self.router.name(),
            effect: &format!("weight {}", desired.weight),
            generation: desired.generation,
            failed: failed.as_ref().map(|(reason, text, _)| (*reason, text.as_str())),
        }
        .emit(&self.metrics);
        let outcome = failed.map_or(Outcome::Done, |(_, text, retry)| Outcome::Failed { text, retry });
        send(&self.back, Mail::Written { generation: desired.generation, outcome }).await;
    }
}

/// The rollout may be over: then nobody needs the news.
async fn send(back: &Back, mail: Mail) {
    if let Some(post) = back.upgrade() {
        let _ = post.send(mail).await;
    }
}
