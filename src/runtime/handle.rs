//! What the rest of the shell may know of the runtime and ask of it.

use super::alerts::Heard;
use super::annotations::{Range, Stretch};
use super::registry::Registry;
use crate::model::journal::Entry;
use crate::model::{Command, Decision, Judgement, Mode, PerArm, RolloutId, Side, State, Timestamp, Weight, WorkloadSeen};
use crate::rollout::Approved;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{broadcast, mpsc, oneshot};

/// One rollout as a reader sees it. Immutable; a new one replaces it.
#[derive(Clone, Debug)]
pub struct RolloutView {
    /// Its name.
    pub id: RolloutId,
    /// Its rule.
    pub rule: String,
    /// Names of the workloads, as roles were settled at the start.
    pub baseline: String,
    /// The one on trial.
    pub canary: String,
    /// Which of the rule's workloads is on trial.
    pub canary_side: Side,
    /// What the rule it runs by says of the workload on trial, which that rule may say no more: its `deployment`, its `namespace`, ...
    pub canary_fields: BTreeMap<String, String>,
    /// The version on trial; may be empty.
    pub version: String,
    /// When it was opened.
    pub opened: Timestamp,
    /// Enforce or observe.
    pub mode: Mode,
    /// The steps: weight and length in ms.
    pub steps: Vec<(Weight, u64)>,
    /// Names of the metrics, by position.
    pub metrics: Vec<String>,
    /// Its state.
    pub state: State,
    /// The last decision: weight, reasons, holds.
    pub decision: Arc<Decision>,
    /// The weight last read from the router.
    pub weight_seen: Option<Weight>,
    /// What the cluster shows of both workloads, or why it cannot be looked at; `None` outside of one.
    pub workloads: Option<Result<PerArm<WorkloadSeen>, String>>,
    /// The last judgement, once there is one.
    pub judgement: Option<Arc<Judgement>>,
    /// Roles that must approve, each with the approval that was given.
    pub approvals: Vec<(String, Option<Approved>)>,
    /// The last error of an effect, while it lasts.
    pub stuck: Option<String>,
    /// Sentences from the set-up (no history, what the packs cannot see, ...).
    pub warnings: Vec<String>,
}

/// A release that no rollout is started for as yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// What it is called.
    pub version: String,
    /// Since when it is known.
    pub since: Timestamp,
    /// What it waits for, in a sentence.
    pub why: String,
}

/// One rule as a reader sees it.
#[derive(Clone, Debug, Default)]
pub struct RuleView {
    /// Its name.
    pub name: String,
    /// Its file.
    pub file: String,
    /// Digest of the text in force.
    pub digest: String,
    /// Its running or last rollout.
    pub rollout: Option<RolloutId>,
    /// Why it is not run by this build, if it is not.
    pub refused: Vec<String>,
    /// What it needs and is not there, or cannot be looked at: its workloads, or what its weights are in. `None` = not looked yet, or
    /// outside of a cluster.
    pub missing: Option<Vec<String>>,
    /// The release that waits for its rollout.
    pub waiting: Option<Waiting>,
}

/// Everything readers see, swapped whole.
#[derive(Clone, Debug, Default)]
pub struct Views {
    /// Rollouts of this process's life and unfinished ones, by name.
    pub rollouts: BTreeMap<RolloutId, Arc<RolloutView>>,
    /// Rules in force.
    pub rules: BTreeMap<String, Arc<RuleView>>,
    /// Problems of the last reload that was refused: the old rules stay in force.
    pub reload_problems: Vec<String>,
    /// Sources: name, and why it is blind now if it is.
    pub sources: BTreeMap<String, Option<String>>,
    /// Is the daemon ready: rules read, journal open?
    pub ready: bool,
}

/// One line of the live feed.
#[derive(Clone, Debug)]
pub struct EventLine {
    /// When.
    pub at: Timestamp,
    /// Which rollout.
    pub rollout: RolloutId,
    /// The decision.
    pub decision: Arc<Decision>,
    /// The view after it.
    pub view: Arc<RolloutView>,
}

/// Why a request was not followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// A stable word for programs: `unknown-rule`, `unknown-rollout`, `already-running`, `refused`, `unavailable`, ...
    pub code: &'static str,
    /// A sentence for people.
    pub text: String,
}

impl Refusal {
    /// From a code and a sentence.
    pub fn new(code: &'static str, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

/// How to start a rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartArgs {
    /// Name of the version, for the record.
    pub version: String,
    /// Also if this version was rolled back before.
    pub retry: bool,
    /// Who.
    pub by: String,
}

/// Which past rollouts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PastArgs {
    /// Of this rule; `None` = of all.
    pub rule: Option<String>,
    /// Opened then or later.
    pub since: Option<Timestamp>,
    /// Opened before this one: how the next page is asked for.
    pub before: Option<RolloutId>,
    /// At most so many, `1..=`[`PAST_MAX`](super::PAST_MAX).
    pub most: usize,
}

/// Past rollouts, and whether there are older ones.
#[derive(Clone, Debug, PartialEq)]
pub struct PastRollouts {
    /// The newest first; a running one is among them.
    pub rollouts: Vec<PastRollout>,
    /// There are older ones that were asked for.
    pub more: bool,
}

/// What became of a rollout.
#[derive(Clone, Debug, PartialEq)]
pub struct PastRollout {
    /// Its name.
    pub id: RolloutId,
    /// Its rule.
    pub rule: String,
    /// The version that was on trial; may be empty.
    pub version: String,
    /// Who started it.
    pub by: String,
    /// When it was opened.
    pub opened: Timestamp,
    /// When it was over; `None` while it is not.
    pub ended: Option<Timestamp>,
    /// How it stands, or ended.
    pub state: State,
    /// Why it was rolled back: a stable word and a sentence each.
    pub reasons: Vec<(&'static str, String)>,
    /// In the order they were given.
    pub approvals: Vec<Approval>,
}

/// An approval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// In which role.
    pub role: String,
    /// Who.
    pub by: String,
    /// Why, in their words; may be empty.
    pub why: String,
    /// When.
    pub at: Timestamp,
}

/// What the supervisor is asked.
#[derive(Debug)]
pub enum Request {
    /// Start a rollout of a rule.
    Start { rule: String, args: StartArgs, answer: oneshot::Sender<Result<RolloutId, Refusal>> },
    /// A person's word to a rollout (by its name, or by its rule's: then the running one, else the last).
    Command { rollout: String, command: Command, answer: oneshot::Sender<Result<Arc<RolloutView>, Refusal>> },
    /// What an Alertmanager says, one message.
    Alerts { heard: Vec<Heard>, answer: oneshot::Sender<Result<usize, Refusal>> },
    /// Read the rules again.
    Reload { answer: oneshot::Sender<Result<(), Refusal>> },
    /// What became of past rollouts.
    Past { args: PastArgs, answer: oneshot::Sender<Result<PastRollouts, Refusal>> },
    /// What the journal says about a stretch of time.
    Annotations { range: Range, answer: oneshot::Sender<Result<Vec<Stretch>, Refusal>> },
    /// The journal of a rollout.
    Journal { rollout: String, answer: oneshot::Sender<Result<Vec<Entry>, Refusal>> },
}

/// The way to the runtime. Cheap to clone; reading never blocks a rollout.
#[derive(Clone, Debug)]
pub struct Handle {
    registry: Registry,
    requests: mpsc::Sender<Request>,
}

impl Handle {
    /// A handle on these.
    pub fn new(registry: Registry, requests: mpsc::Sender<Request>) -> Self {
        Self { registry, requests }
    }

    /// What there is now.
    pub fn views(&self) -> Arc<Views> {
        Arc::new(self.registry.views())
    }

    /// One rollout, by name, as it is now.
    pub fn rollout(&self, id: &RolloutId) -> Option<Arc<RolloutView>> {
        self.registry.rollout(id)
    }

    /// The live feed from now on. A slow reader is told that it missed lines and should look at the views again.
    pub fn events(&self) -> broadcast::Receiver<EventLine> {
        self.registry.events().subscribe()
    }

    /// Starts a rollout of a rule.
    ///
    /// # Errors
    /// If it cannot be: unknown rule, one is running, this version was rolled back before, the router cannot be read, ...
    pub async fn start(&self, rule: &str, args: StartArgs) -> Result<RolloutId, Refusal> {
        let (answer, got) = oneshot::channel();
        self.ask(Request::Start { rule: rule.to_owned(), args, answer }, got).await
    }

    /// Gives a person's word to a rollout, named by itself or by its rule.
    ///
    /// # Errors
    /// If there is none, or its state does not allow the verb: the text says why.
    pub async fn command(&self, rollout: &str, command: Command) -> Result<Arc<RolloutView>, Refusal> {
        let (answer, got) = oneshot::channel();
        self.ask(Request::Command { rollout: rollout.to_owned(), command, answer }, got).await
    }

    /// Hands the alerts of one message to the running rollouts they concern; how many concerned one. Each has dealt with them,
    /// and stored them, when this answers.
    ///
    /// # Errors
    /// If one of them could not: then the whole message should be sent again.
    pub async fn alerts(&self, heard: Vec<Heard>) -> Result<usize, Refusal> {
        let (answer, got) = oneshot::channel();
        self.ask(Request::Alerts { heard, answer }, got).await
    }

    /// Reads the rules again; all of them are valid and in force, or the old ones stay.
    ///
    /// # Errors
    /// The report of every problem.
    pub async fn reload(&self) -> Result<(), Refusal> {
        let (answer, got) = oneshot::channel();
        self.ask(Request::Reload { answer }, got).await
    }

    /// Steps and ends of rollouts within a stretch of time, oldest first.
    ///
    /// # Errors
    /// More rollouts than are read for one question, or the store cannot be read.
    pub async fn annotations(&self, range: Range) -> Result<Vec<Stretch>, Refusal> {
        let (answer, got) = oneshot::channel();
        self.ask(Request::Annotations { range, answer }, got).await
    }

    /// Every line of a rollout's journal.
    ///
    /// # Errors
    /// If there is no such rollout, or the store cannot be read.
    pub async fn journal(&self, rollout: &str) -> Result<Vec<Entry>, Refusal> {
        let (answer, got) = oneshot::channel();
        self.ask(Request::Journal { rollout: rollout.to_owned(), answer }, got).await
    }

    /// What became of past rollouts, from the journal.
    ///
    /// # Errors
    /// If the one to go on from does not exist, or the store cannot be read.
    pub async fn past(&self, args: PastArgs) -> Result<PastRollouts, Refusal> {
        let (answer, got) = oneshot::channel();
        self.ask(Request::Past { args, answer }, got).await
    }

    async fn ask<T>(&self, request: Request, got: oneshot::Receiver<Result<T, Refusal>>) -> Result<T, Refusal> {
        let gone = || Refusal::new("unavailable", "the daemon is shutting down");
        self.requests.send(request).await.map_err(|_| gone())?;
        got.await.map_err(|_| gone())?
    }
}
