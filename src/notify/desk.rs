//! Who is told what: the switchboard reads the daemon's notices and hands each to the receivers its rule names; a task per
//! receiver delivers, so that one that is down delays neither a decision nor another receiver.

use super::{Fault, Receiver, Told, now};
use crate::model::Timestamp;
use crate::telemetry::Metrics;
use crate::telemetry::events::{ReceiverFailure, ReceiverMissed, ReceiverTold};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

/// Notices that may wait for one receiver. It takes them between two deliveries, so this many may come while one call waits for
/// its time-out.
pub const QUEUE_MAX: usize = 1024;
/// First wait before a delivery is tried again; doubled each time.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// Longest wait.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Time for the last words when the daemon stops.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Hands notices to receivers.
pub struct Switchboard {
    lines: BTreeMap<String, Vec<mpsc::Sender<Arc<Told>>>>,
    metrics: Metrics,
    tasks: TaskTracker,
}

impl Switchboard {
    /// One without receivers.
    pub fn new(metrics: Metrics) -> Self {
        Self { lines: BTreeMap::new(), metrics, tasks: TaskTracker::new() }
    }

    /// Joins a receiver under the name rules use; several may share a name (replicas). Starts its task.
    pub fn join(&mut self, name: &str, receiver: Box<dyn Receiver>) {
        let (send, queue) = mpsc::channel(QUEUE_MAX);
        self.lines.entry(name.to_owned()).or_default().push(send);
        let task = Line { name: name.to_owned(), receiver, metrics: self.metrics.clone(), failed: 0, not_before: None };
        self.tasks.spawn(task.run(queue));
    }

    /// Reads notices until the last driver is gone, then gives each receiver a moment for its last words.
    pub async fn run(mut self, mut notices: mpsc::Receiver<Told>) {
        while let Some(told) = notices.recv().await {
            self.tell(&Arc::new(told));
        }
        self.lines.clear();
        self.tasks.close();
        // what is not delivered by then is known again after the next start
        let _ = tokio::time::timeout(LAST_WORDS, self.tasks.wait()).await;
    }

    fn tell(&self, told: &Arc<Told>) {
        for name in &told.rule.notify {
            // a receiver that is no longer in the settings: `check` and the next reload say so
            for line in self.lines.get(name).map_or(&[][..], Vec::as_slice) {
                if line.try_send(Arc::clone(told)).is_err() {
                    ReceiverMissed { receiver: name, rollout: &told.rollout, reason: "queue-full" }.emit(&self.metrics);
                }
            }
        }
    }
}

/// One receiver's task.
struct Line {
    name: String,
    receiver: Box<dyn Receiver>,
    metrics: Metrics,
    /// Failures in a row.
    failed: u32,
    not_before: Option<Timestamp>,
}

impl Line {
    async fn run(mut self, mut queue: mpsc::Receiver<Arc<Told>>) {
        loop {
            let due = self.due();
            tokio::select! {
                biased;
                told = queue.recv() => match told {
                    Some(told) => {
                        self.receiver.take(&told, now());
                        while let Ok(told) = queue.try_recv() {
                            self.receiver.take(&told, now());
                        }
                    }
                    None => break,
                },
                () = wait_until(due.unwrap_or_default()), if due.is_some() => self.deliver().await,
            }
            self.tell_missed();
        }
        // the last words go out whether it was time to try again or not
        if self.receiver.due().is_some_and(|due| due <= now()) {
            self.deliver().await;
        }
    }

    /// When to deliver: when something is due, but not before a failure's pause is over.
    fn due(&self) -> Option<Timestamp> {
        self.receiver.due().map(|due| due.max(self.not_before.unwrap_or(due)))
    }

    async fn deliver(&mut self) {
        let ended = self.receiver.deliver(now()).await;
        let (receiver, target) = (self.name.as_str(), self.receiver.target());
        match ended {
            Ok(()) => {
                ReceiverTold { receiver, target, failed: None }.emit(&self.metrics);
                (self.failed, self.not_before) = (0, None);
            }
            Err(Fault { reason, text, again, after }) => {
                let failed = ReceiverFailure { reason, text: &text, again, first: self.failed == 0 };
                ReceiverTold { receiver, target, failed: Some(failed) }.emit(&self.metrics);
                let pause = RETRY_MIN.saturating_mul(2u32.saturating_pow(self.failed)).min(RETRY_MAX);
                self.failed += 1;
                self.not_before = Some(now() + after.unwrap_or(pause).max(RETRY_MIN));
            }
        }
    }

    fn tell_missed(&mut self) {
        for (rollout, reason) in self.receiver.missed() {
            ReceiverMissed { receiver: &self.name, rollout: &rollout, reason }.emit(&self.metrics);
        }
    }
}

async fn wait_until(at: Timestamp) {
    tokio::time::sleep(at.since(now())).await;
}
