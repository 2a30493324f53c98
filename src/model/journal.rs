//! What is remembered of a rollout: everything that came in and everything decided, in order. The same journal gives the
//! same decisions (invariant 1); `store` keeps it, `runtime` writes it before it acts.

use super::{Begin, Blind, Decision, History, Input, PerArm, Poll, RolloutId, Timestamp};
use std::time::Duration;

/// What a rollout was opened with: enough to build its judge and its machine again.
#[derive(Clone, Debug, PartialEq)]
pub struct Opened {
    /// Its name.
    pub id: RolloutId,
    /// Name of its rule.
    pub rule: String,
    /// The rule's file, whole: a later edit does not change a running rollout.
    pub rule_text: String,
    /// Where that text was read from.
    pub file: String,
    /// Length of a tick.
    pub interval: Duration,
    /// Bounds of the latency buckets, ms.
    pub bounds_ms: Vec<f64>,
    /// Time scale of the method (1 = real time).
    pub scale: f64,
    /// How often its evidence was lost before.
    pub incarnation: u32,
    /// The baseline's past, as it was read.
    pub history: History,
    /// The facts of the start.
    pub begin: Begin,
}

/// One line of the journal.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The first line.
    Opened(Box<Opened>),
    /// A tick: the poll as it was judged, and why an arm was missing in it. Its judgement follows from it.
    Poll {
        /// What was seen.
        poll: Box<Poll>,
        /// Why an arm's counts were missing.
        missing: PerArm<Option<Blind>>,
        /// The source's words about it.
        detail: String,
    },
    /// Any other input (never `Input::Tick`).
    Input(Box<Input>),
    /// The decision on the input before it.
    Decided(Box<Decision>),
}

/// A line with its place and time.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its number in the rollout's journal, from 0.
    pub seq: u64,
    /// When it was written.
    pub at: Timestamp,
    /// What.
    pub event: Event,
}
