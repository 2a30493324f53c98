//! What is remembered of a rollout: everything that came in and everything decided, in order. The same journal gives the
//! same decisions (invariant 1); `store` keeps it, `runtime` writes it before it acts.

use super::{Begin, Blind, Decision, History, Input, PerArm, Poll, RolloutId, Timestamp};
use std::collections::BTreeMap;
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
    /// Texts of other files it refers to, by the name it uses ([`super::Rule::attached`]).
    pub attached: BTreeMap<String, String>,
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
    /// Dispersion of an earlier rollout, if it stands in for a history that could not be read.
    pub kept: Option<Kept>,
}

/// Dispersion learned by a rollout that was not rolled back, kept for the next one of its rule (STATISTICS 3).
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// When the sums were made, or last halved.
    pub since: Timestamp,
    /// Length of the tick they were made with.
    pub interval: Duration,
    /// Time scale they were made with.
    pub scale: f64,
    /// By series.
    pub series: Vec<KeptSeries>,
}

/// Sums of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptSeries {
    /// Which counts.
    pub of: KeptOf,
    /// By block length.
    pub scales: Vec<KeptScale>,
}

/// Whose sums: names that outlive a change of the rule or of the buckets.
#[derive(Clone, Debug, PartialEq)]
pub enum KeptOf {
    /// Failed requests.
    Requests,
    /// The rule's own counts, by the metric's name.
    Custom(String),
    /// Requests above this bound, ms.
    Tail(f64),
}

/// Sums of one block length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KeptScale {
    /// Polls per block.
    pub polls: u64,
    /// Squared deviations.
    pub num: f64,
    /// Their expectation for independent requests.
    pub den: f64,
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
        /// Failed requests of the service that belong to no arm.
        orphans: f64,
    },
    /// Any other input (never `Input::Tick`).
    Input(Box<Input>),
    /// The decision on the input before it.
    Decided(Box<Decision>),
    /// Lines are missing here, or one cannot be read: what, as a sentence. Evidence cannot be derived past it; the recorded
    /// decisions stand.
    Gap(String),
    /// The evidence began anew here, for the `incarnation`th time (STATISTICS 7), because of a gap before.
    Restarted {
        /// How often evidence was lost so far, at least 1.
        incarnation: u32,
        /// Why, as a sentence.
        why: String,
    },
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
