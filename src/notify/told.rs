//! The way from the drivers to the receivers: one bounded channel for the whole daemon. Telling never waits, so that no receiver
//! can delay a decision; what does not fit is counted and stays in the log and the journal.

use crate::model::{Notice, RolloutId, Rule, Side, Timestamp, Weight};
use crate::telemetry::{Metrics, events};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Notices that may wait for the receivers: a transition of each of a thousand rollouts at once.
pub const NOTICES_MAX: usize = 1024;

/// A notice of a stored decision, with what a message about it says.
#[derive(Clone, Debug)]
pub struct Told {
    /// The rule the rollout runs under: whom to tell, and the names of the workloads.
    pub rule: Arc<Rule>,
    /// Which rollout.
    pub rollout: RolloutId,
    /// The version on trial; may be empty.
    pub version: String,
    /// Which of the rule's workloads is on trial.
    pub canary: Side,
    /// When it was decided.
    pub at: Timestamp,
    /// What is to be told.
    pub notice: Notice,
    /// The weight wanted after the decision.
    pub weight: Weight,
    /// The state after it, by its word.
    pub state: &'static str,
    /// It was told by an earlier process, and still fires: for receivers whose memory is ours. A receiver that keeps what it
    /// was told needs it no second time.
    pub again: bool,
}

/// The sending end, for drivers. Cheap to clone; `Default` has no receivers: what it is told stays in the log.
#[derive(Clone, Debug, Default)]
pub struct Notices(Option<(mpsc::Sender<Told>, Metrics)>);

impl Notices {
    /// A channel of [`NOTICES_MAX`] places; its receiving end is read by whoever tells the receivers.
    pub fn channel(metrics: Metrics) -> (Self, mpsc::Receiver<Told>) {
        let (send, receive) = mpsc::channel(NOTICES_MAX);
        (Self(Some((send, metrics))), receive)
    }

    /// Hands a notice over; never waits. One that does not fit, or that nobody receives any more, is counted.
    pub fn tell(&self, told: Told) {
        let Some((way, metrics)) = &self.0 else { return };
        if let Err(lost) = way.try_send(told) {
            let told = lost.into_inner();
            events::NoticeLost { rule: &told.rule.name, rollout: &told.rollout, topic: told.notice.topic.name() }.emit(metrics);
        }
    }
}
