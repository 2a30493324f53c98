//! The journal that lasts: every input, decision, effect and human action, stored before it acts. `sqlite.rs` is the one
//! embedded store, to be read first; `wire/` holds the JSON of a line, so that `model` can move while old journals stay readable.

mod file;
mod schema;
mod sqlite;
mod tables;
mod wire;

pub use sqlite::Sqlite;

use crate::model::journal::{Entry, Event, Kept};
use crate::model::{RolloutId, State, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

/// The future of an answer.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// One rollout in the list.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// Its name.
    pub id: RolloutId,
    /// Its rule.
    pub rule: String,
    /// When it was opened.
    pub opened: Timestamp,
    /// When it ended; `None` while it is not over.
    pub ended: Option<Timestamp>,
    /// The state of its last decision.
    pub state: State,
    /// The version on trial.
    pub version: String,
    /// Name of its last line.
    pub seq: u64,
}

/// Workload to the identity of its pod template; `None` = it was looked for, and there was no such workload.
pub type NotedTemplates = BTreeMap<String, Option<String>>;

/// How the API server reads the pod templates of a rule's workloads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readings {
    /// By workload: identities, by a text that stays the same as long as nobody writes that template.
    pub last: BTreeMap<String, BTreeMap<String, String>>,
    /// Identities that are others now, though nobody wrote the template: what was, and what is.
    pub renamed: BTreeMap<String, String>,
}

/// Which past rollouts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// Of this rule; `None` = of all.
    pub rule: Option<String>,
    /// Opened then or later.
    pub since: Option<Timestamp>,
    /// Opened before this one.
    pub before: Option<RolloutId>,
    /// At most so many.
    pub most: usize,
}

/// What is too old. The newest rollout of each rule, and its newest success, are kept whatever their age: the next one goes on
/// from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ages {
    /// Rollouts that ended before this lose their polls; a gap in their place says so.
    pub polls_before: Timestamp,
    /// Rollouts that ended before this are gone.
    pub rollouts_before: Timestamp,
}

/// What was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Whole rollouts.
    pub rollouts: u64,
    /// Polls of rollouts that stay.
    pub polls: u64,
    /// There may be more.
    pub more: bool,
}

/// Where the journal is kept.
pub trait Store: Send + Sync + fmt::Debug {
    /// A new rollout of this rule: takes the next number, writes the first line. The `id` inside `opened` is ignored.
    fn open(&self, at: Timestamp, opened: crate::model::journal::Opened) -> Answer<'_, RolloutId>;

    /// These lines, in order, in one durable transaction; the sequence number of the last.
    fn write(&self, id: &RolloutId, lines: Vec<(Timestamp, Event)>) -> Answer<'_, u64>;

    /// The same for lines of one instant.
    fn append(&self, id: &RolloutId, at: Timestamp, events: Vec<Event>) -> Answer<'_, u64> {
        self.write(id, events.into_iter().map(|event| (at, event)).collect())
    }

    /// All lines of a rollout.
    fn load(&self, id: &RolloutId) -> Answer<'_, Vec<Entry>>;

    /// The same, with an [`Event::Gap`] in the place of each line that cannot be read.
    fn salvage(&self, id: &RolloutId) -> Answer<'_, Vec<Entry>>;

    /// Dispersion for the next rollout of this rule; replaces what was kept before.
    fn keep(&self, rule: &str, kept: Kept) -> Answer<'_, ()>;

    /// What was kept for this rule.
    fn kept(&self, rule: &str) -> Answer<'_, Option<Kept>>;

    /// The pod templates of a rule's workloads that are known already, by the workload's name: seeing one of them is no news.
    fn noted(&self, rule: &str) -> Answer<'_, NotedTemplates>;

    /// From now on this workload of the rule is known to have this template, or (`None`) not to be there.
    fn note(&self, rule: &str, workload: &str, template: Option<String>) -> Answer<'_, ()>;

    /// How this rule's templates were read last.
    fn readings(&self, rule: &str) -> Answer<'_, Readings>;

    /// From now on this workload's templates are read so. Those that are read otherwise than before have new identities (what was,
    /// what is): whatever is known of the old ones is from now on known of the new ones.
    fn read_as(&self, rule: &str, workload: &str, now: BTreeMap<String, String>, renamed: BTreeMap<String, String>) -> Answer<'_, ()>;

    /// Templates whose last rollout under this rule was rolled back, whatever its age.
    fn rolled_back(&self, rule: &str) -> Answer<'_, BTreeSet<String>>;

    /// Drops what is too old, a few rollouts at a time: call it again while [`Pruned::more`].
    fn prune(&self, ages: Ages) -> Answer<'_, Pruned>;

    /// Rollouts, newest first; of one rule, or of all.
    fn list(&self, rule: Option<&str>, most: usize) -> Answer<'_, Vec<Listed>>;

    /// Rollouts that are, or were, newest first. An unknown `before` is an error.
    fn past(&self, wanted: Past) -> Answer<'_, Vec<Listed>>;

    /// The lines that tell of a rollout's life: its opening, persons' words, decisions. Polls and readings are left out; so is a
    /// line that cannot be read.
    fn outline(&self, id: &RolloutId) -> Answer<'_, Vec<Entry>>;

    /// Rollouts that are not over.
    fn unfinished(&self) -> Answer<'_, Vec<Listed>>;

    /// Everything written is on disk; nothing more will be.
    fn close(&self) -> Answer<'_, ()>;
}

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file or folder cannot be used.
    #[error("journal {path}: {why}")]
    Path { path: PathBuf, why: String },
    /// Written by a newer canaryd.
    #[error("journal {path} has schema {found}, this build knows up to {known}: run the newer canaryd, or give another --data folder")]
    Newer { path: PathBuf, found: i64, known: i64 },
    /// SQLite's word.
    #[error("journal: {0}")]
    Database(String),
    /// A line that cannot be read back.
    #[error("journal of {rollout}, line {seq}: {why}")]
    Line { rollout: String, seq: u64, why: String },
    /// No such rollout.
    #[error("no rollout {0}")]
    Unknown(String),
}
