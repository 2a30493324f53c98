//! What a driver is told, and by which ways it comes.

use super::alerts::Arrived;
use super::handle::{Refusal, RolloutView};
use super::writer::ReadGuard;
use crate::model::{Blind, Command, HookAnswer, HookPoint, Judgement, Outcome, PerArm, Poll, TrafficReading};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Mail that may wait for a driver.
pub(super) const MAIL_MAX: usize = 64;

/// The way to a driver. The driver ends when the last one is gone.
pub(super) type Post = mpsc::Sender<Mail>;
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
