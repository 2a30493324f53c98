//! What a driver is told, and by which ways it comes.

use super::alerts::Arrived;
use super::handle::{Refusal, RolloutView};
use super::writer::ReadGuard;
use crate::model::{Blind, Command, HookAnswer, HookPoint, Judgement, Outcome, PerArm, Poll, RolloutId, TrafficReading};
use crate::telemetry::{Metrics, events};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Mail that may wait for a driver.
pub(super) const MAIL_MAX: usize = 64;

/// The way to a driver. The driver ends when the last one is gone.
pub(super) type Post = mpsc::Sender<Mail>;

/// Room for one mail to a driver, without waiting for it: one that is slow (its journal does not answer) delays nobody else. `None` if
/// it is gone.
///
/// # Errors
/// `busy` if [`MAIL_MAX`] others wait already; counted.
pub(super) fn room<'a>(post: &'a Post, rollout: &RolloutId, metrics: &Metrics) -> Result<Option<mpsc::Permit<'a, Mail>>, Refusal> {
    match post.try_reserve() {
        Ok(room) => Ok(Some(room)),
        Err(mpsc::error::TrySendError::Closed(())) => Ok(None),
        Err(mpsc::error::TrySendError::Full(())) => {
            events::MailRefused { rollout }.emit(metrics);
            let text = format!("{rollout} is busy: {MAIL_MAX} messages wait for it already (is its journal slow?); try again");
            Err(Refusal::new("busy", text))
        }
    }
}

/// The same with the mail; a driver that is gone drops it, and whoever waits for an answer sees that.
///
/// # Errors
/// As [`room`].
pub(super) fn tell(post: &Post, rollout: &RolloutId, mail: Mail, metrics: &Metrics) -> Result<(), Refusal> {
    if let Some(room) = room(post, rollout, metrics)? {
        room.send(mail);
    }
    Ok(())
}

/// The way back to a driver from what it started itself, which must not keep it alive.
pub(super) type Back = mpsc::WeakSender<Mail>;

/// What a driver is told.
#[derive(Debug)]
pub(super) enum Mail {
    /// A tick.
    Judged(Box<Judged>),
    /// A person's word.
    Command { command: Command, answer: oneshot::Sender<Result<Arc<RolloutView>, Refusal>> },
    /// A newer version is out.
    Supersede { version: String },
    /// Alerts of one message that concern this rollout; told when they are dealt with and stored, `false` if they are not stored.
    Alerts { alerts: Vec<Arrived>, answer: oneshot::Sender<bool> },
    /// The writer tried.
    Written { generation: u64, outcome: Outcome },
    /// It was tried to stop what moves the traffic by itself.
    HeldStill,
    /// A hook was called once.
    Hooked { hook: HookPoint, attempt: u32, answer: HookAnswer },
    /// The action on a workload of this number ended.
    Worked { number: u64, outcome: Outcome },
    /// The router was read; the guard says whether a write came between.
    Read { reading: Result<TrafficReading, String>, guard: ReadGuard },
}

/// A judged poll on its way to the driver.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) poll: Poll,
    pub(super) missing: PerArm<Option<Blind>>,
    pub(super) detail: String,
    pub(super) orphans: f64,
    pub(super) judgement: Arc<Judgement>,
    /// Told when the driver has decided.
    pub(super) dealt: oneshot::Sender<()>,
}
