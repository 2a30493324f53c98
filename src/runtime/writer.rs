//! Makes the router show the weight that is wanted, and reads it back. Level-triggered: only the newest wish counts.

use super::driver::{Back, Mail};
use crate::model::{Outcome, Retry, RolloutId, Side, Weight};
use crate::router::{Desired, Router};
use crate::telemetry::{Metrics, events};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// Longest a single write or read may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Wait before a write is tried again whose error calls for a change elsewhere.
const RETRY_ON_CHANGE: Duration = Duration::from_secs(5);
/// Longest wait between tries.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// A reading is worth something only if no write began or ended since it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReadGuard(u64);

/// The router's side of one rollout.
pub(super) struct Writer {
    router: Arc<dyn Router>,
    canary: Side,
    wish: watch::Sender<Option<Desired>>,
    /// Rises when a write begins and when it ends: odd while one is under way.
    writes: Arc<AtomicU64>,
    reading: Arc<AtomicBool>,
}

impl Writer {
    pub(super) fn start(router: Arc<dyn Router>, canary: Side, told: (RolloutId, Metrics), back: Back) -> Self {
        let (wish, wishes) = watch::channel(None);
        let writes = Arc::new(AtomicU64::new(0));
        let task = Task { router: Arc::clone(&router), rollout: told.0, metrics: told.1, back, wishes, writes: Arc::clone(&writes) };
        tokio::spawn(task.run());
        Self { router, canary, wish, writes, reading: Arc::default() }
    }

    /// The router shall show this weight; an older wish is forgotten.
    pub(super) fn want(&self, weight: Weight, generation: u64) {
        let newer = |old: &Option<Desired>| old.is_none_or(|o| generation >= o.generation);
        self.wish.send_if_modified(|old| {
            let change = newer(old);
            if change {
                *old = Some(Desired { canary: self.canary, weight, generation });
            }
            change
        });
    }

    /// Reads the router once, unless that is under way; the answer comes by post.
    pub(super) fn read_soon(&self, back: &Back) {
        let guard = ReadGuard(self.writes.load(Ordering::Acquire));
        if guard.0 % 2 == 1 || self.reading.swap(true, Ordering::AcqRel) {
            return;
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
    wishes: watch::Receiver<Option<Desired>>,
    writes: Arc<AtomicU64>,
}

impl Task {
    async fn run(mut self) {
        while self.wishes.changed().await.is_ok() {
            let mut tries = 0;
            loop {
                let wish = *self.wishes.borrow_and_update();
                let Some(desired) = wish else { break };
                let pause = self.write(desired, tries).await;
                tries += 1;
                let Some(pause) = pause else { break };
                tokio::select! {
                    changed = self.wishes.changed() => if changed.is_err() { return },
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
    }

    /// One try; how long to wait before the next, or `None` if it is done.
    async fn write(&self, desired: Desired, tries: u32) -> Option<Duration> {
        self.writes.fetch_add(1, Ordering::AcqRel);
        let written = tokio::time::timeout(TIMEOUT, self.router.write(desired)).await;
        self.writes.fetch_add(1, Ordering::AcqRel);
        let (outcome, reason, pause) = match written {
            Ok(Ok(())) => (Outcome::Done, "done", None),
            Ok(Err(e)) => {
                let pause = pause(e.retry(), tries);
                (Outcome::Failed { text: e.to_string(), retry: e.retry() }, e.reason(), Some(pause))
            }
            Err(_) => {
                let text = format!("{}: no answer within {} s", self.router.name(), TIMEOUT.as_secs());
                let retry = Retry::After(Duration::from_secs(1));
                (Outcome::Failed { text, retry }, "timeout", Some(pause(retry, tries)))
            }
        };
        let error = match &outcome {
            Outcome::Done => None,
            Outcome::Failed { text, .. } => Some((reason, text.as_str())),
        };
        events::EffectEnded {
            rollout: &self.rollout,
            router: self.router.name(),
            effect: &format!("weight {}", desired.weight),
            generation: desired.generation,
            failed: error,
        }
        .emit(&self.metrics);
        send(&self.back, Mail::Written { generation: desired.generation, outcome }).await;
        pause
    }
}

/// The rollout may be over: then nobody needs the news.
async fn send(back: &Back, mail: Mail) {
    if let Some(post) = back.upgrade() {
        let _ = post.send(mail).await;
    }
}

/// Doubling from what the error asks for, up to [`RETRY_MAX`]. A write that only a person can mend is tried too: she may
/// just have mended it.
fn pause(retry: Retry, tries: u32) -> Duration {
    let first = match retry {
        Retry::After(d) => d,
        Retry::OnChange => RETRY_ON_CHANGE,
        Retry::Never => RETRY_MAX,
    };
    (first * 2u32.saturating_pow(tries.min(5))).min(RETRY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_grow_apart_and_never_end() {
        let s = Duration::from_secs;
        let after = Retry::After(s(1));
        let waits: Vec<_> = (0..7).map(|t| pause(after, t)).collect();
        assert_eq!(waits, [s(1), s(2), s(4), s(8), s(16), s(30), s(30)]);
        assert_eq!(pause(Retry::Never, 0), RETRY_MAX);
    }
}
