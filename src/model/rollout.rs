//! One rollout's life in words: states, and what comes in; what goes out is in `decision`. The machine itself is in `rollout`.

use super::{Alert, Blind, Judgement, Noted, PerArm, Side, Timestamp, Weight, WorkloadSeen};
use std::time::Duration;

/// Identity of one rollout: `<rule>-<number>`, the number rising per rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RolloutId(pub String);

impl std::fmt::Display for RolloutId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a rollout stands (DESIGN 6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Before its first weight: what it waits for.
    Waiting(Waiting),
    /// At this step, or on the way to its weight.
    Progressing { step: u32 },
    /// Watching at 100 % after the last step.
    Baking { step: u32 },
    /// After the bake.
    Promoting(Promoting),
    /// Over: the canary is the version.
    Succeeded,
    /// The weight is on its way to 0.
    RollingBack,
    /// Over: the weight is 0.
    RolledBack,
    /// A person's word is awaited.
    Paused(Paused),
    /// An effect cannot be applied; it is tried again.
    Stuck(Stuck),
    /// Over: a newer version took its place; the weight is 0.
    Superseded,
}

impl State {
    /// The word used in the API, in metrics and on the page.
    pub const fn name(&self) -> &'static str {
        match self {
            State::Waiting(_) => "waiting",
            State::Progressing { .. } => "progressing",
            State::Baking { .. } => "baking",
            State::Promoting(_) => "promoting",
            State::Succeeded => "succeeded",
            State::RollingBack => "rolling-back",
            State::RolledBack => "rolled-back",
            State::Paused(_) => "paused",
            State::Stuck(_) => "stuck",
            State::Superseded => "superseded",
        }
    }

    /// Nothing will ever happen to it again.
    pub const fn is_over(&self) -> bool {
        matches!(self, State::Succeeded | State::RolledBack | State::Superseded)
    }
}

/// What a rollout waits for before its first weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// The router's answer to the first read.
    Router,
    /// A maintenance window.
    Window { opens: Timestamp },
    /// Approvals still missing, by role.
    Approval { roles: Vec<String> },
    /// A hook's answer.
    Hook { name: String },
    /// Ready canary pods.
    Pods,
}

/// Where in the promotion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promoting {
    /// The canary's template is written into stable.
    Copying,
    /// Stable becomes ready.
    WaitingReady,
    /// The weight goes back to stable.
    ShiftingBack,
    /// Somebody else makes stable equal.
    External,
    /// All is decided; the old version's workload and the autoscalers are put in order.
    Settling,
}

/// A pause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paused {
    /// A person, or `policy`.
    pub by: String,
    /// Why.
    pub why: String,
    /// Since when.
    pub since: Timestamp,
}

/// An effect that cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// The last error's text.
    pub why: String,
    /// Tries so far.
    pub tries: u32,
    /// Since when.
    pub since: Timestamp,
}

/// Facts noted at the start of a rollout; the first line of its journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Which workload is on trial.
    pub canary: Side,
    /// Name of the version on trial, as the starter gave it or the cluster reports it; may be empty.
    pub version: String,
    /// Who or what started it.
    pub by: String,
    /// The canary's weight found in the router.
    pub weight: Weight,
    /// There is no baseline yet.
    pub first: bool,
    /// It was rolled back before, and a person wants it again.
    pub retry: bool,
    /// Newest generation found in the router (0 if it keeps none): this rollout's go on from there, so that a writer of an
    /// earlier rollout stays stale.
    pub generation: u64,
    /// What the cluster showed, where the workloads are in one.
    pub noted: Option<Noted>,
}

impl Begin {
    /// A first try beside a baseline, with no weight in force, a router that keeps no generation and no cluster looked at.
    pub fn new(canary: Side, version: impl Into<String>, by: impl Into<String>) -> Self {
        Self {
            canary,
            version: version.into(),
            by: by.into(),
            weight: Weight::ZERO,
            first: false,
            retry: false,
            generation: 0,
            noted: None,
        }
    }
}

/// A person's verb.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Wait for me.
    Pause,
    /// Go on.
    Resume,
    /// Next step now, on the evidence there is (never against evidence of harm).
    Advance,
    /// All the way now: to the last step's weight and its bake skipped.
    Promote,
    /// Back to weight 0.
    RollBack,
    /// A role's approval.
    Approve { role: String },
    /// Promote without evidence; recorded as such.
    BreakGlassPromote,
    /// Leave the weight where it is, whatever the evidence says; recorded as such.
    BreakGlassFreeze,
    /// Back to weight 0; a rollback whose weight the router does not take is over without; recorded as such.
    BreakGlassRollBack,
}

impl Verb {
    /// The word used in the API.
    pub const fn name(&self) -> &'static str {
        match self {
            Verb::Pause => "pause",
            Verb::Resume => "resume",
            Verb::Advance => "advance",
            Verb::Promote => "promote",
            Verb::RollBack => "rollback",
            Verb::Approve { .. } => "approve",
            Verb::BreakGlassPromote => "break-glass-promote",
            Verb::BreakGlassFreeze => "break-glass-freeze",
            Verb::BreakGlassRollBack => "break-glass-rollback",
        }
    }
}

/// A person's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// What.
    pub verb: Verb,
    /// Who: the token's name, or `demo`.
    pub by: String,
    /// Why, in their words; may be empty.
    pub why: String,
}

/// What the router says when it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrafficReading {
    /// The canary's share there.
    pub weight: Weight,
    /// The generation found there, where the router can keep one.
    pub generation: Option<u64>,
    /// Who wrote it last, where the router knows.
    pub writer: Option<String>,
    /// Does it stay so?
    pub stands: Stands,
}

impl TrafficReading {
    /// Of a share that stays as it is.
    pub const fn new(weight: Weight, generation: Option<u64>, writer: Option<String>) -> Self {
        Self { weight, generation, writer, stands: Stands::Still }
    }
}

/// Does the share that was read stay so as long as nobody writes?
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Stands {
    /// It does.
    #[default]
    Still,
    /// What canaryd asked for is there, and is not in force: what it waits for.
    Underway(String),
    /// Another hand, the writer, let go on what moves it by itself.
    LetGo,
}

/// How an effect ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Applied and verified.
    Done,
    /// Not applied; `text` says why, `retry` when it makes sense to try again.
    Failed { text: String, retry: Retry },
}

/// When to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// After so long.
    After(Duration),
    /// Soon: it is on its way, which takes its time and is no failure.
    Underway,
    /// When something changed: read again, decide again.
    OnChange,
    /// Never: a person must mend it.
    Never,
}

/// One thing that happens to a rollout. Every input is journaled; the same inputs give the same decisions.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// It begins.
    Begin(Begin),
    /// A poll was judged. (The journal keeps the poll; the judgement follows from it.)
    Tick(Box<Tick>),
    /// A person's word.
    Command(Command),
    /// The router was read, or could not be.
    Traffic(Result<TrafficReading, String>),
    /// The effect of this generation ended.
    Effect { generation: u64, outcome: Outcome },
    /// The time the machine asked to be woken at has come.
    Wake,
    /// A newer version of the canary is out.
    Supersede { version: String },
    /// A hook was called once, and answered or did not: the answer to [`Effect::CallHook`](super::Effect::CallHook) of the same attempt.
    Hook { hook: HookPoint, attempt: u32, answer: HookAnswer },
    /// Alerts of an Alertmanager that concern this rollout: all of one message at once, so that none is judged without its
    /// twin on the other arm.
    Alerts(Vec<Alert>),
    /// The action on a workload of this number ended: the answer to [`Effect::Workload`](super::Effect::Workload).
    Workload { number: u64, outcome: Outcome },
    /// The cluster shows something else of the workloads than before, or cannot be looked at.
    Workloads(Result<PerArm<WorkloadSeen>, String>),
}

/// Where in a rollout a hook stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HookPoint {
    /// Before the first weight.
    BeforeStart,
    /// Before every step up but the first.
    BeforeStep,
    /// After the last step, before the promotion.
    BeforePromotion,
    /// When it has succeeded: told, never waited for.
    AfterPromotion,
    /// When it was rolled back: told, never waited for.
    AfterRollback,
}

impl HookPoint {
    /// As in a rule.
    pub const fn name(self) -> &'static str {
        match self {
            HookPoint::BeforeStart => "before-start",
            HookPoint::BeforeStep => "before-step",
            HookPoint::BeforePromotion => "before-promotion",
            HookPoint::AfterPromotion => "after-promotion",
            HookPoint::AfterRollback => "after-rollback",
        }
    }
}

/// What one call of a hook brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookAnswer {
    /// Any 2xx: it lets the rollout pass.
    Passed,
    /// It said no, or nothing; `again` where another call may be answered otherwise (not reached, 429, 5xx).
    Failed { text: String, again: bool },
}

/// What shall be so with a workload (DESIGN 6.2, 6.4). Level-triggered like a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkloadAction {
    /// Stable runs the canary's pod template and is ready at the replicas noted at the start.
    Copy,
    /// The canary runs the template it had before this rollout again.
    Undo,
    /// The canary has no replicas (or the rule's idle ones).
    ScaleCanaryDown,
    /// The baseline has the replicas noted at the start again.
    RestoreBaseline,
    /// Nothing scales the baseline below the replicas noted at the start: its autoscaler's minimum is raised.
    HoldBaseline,
    /// The autoscalers' minimums are as they were noted at the start.
    ReleaseScalers,
    /// The canary has at least so many replicas; where an autoscaler scales it, its minimum is raised.
    ScaleCanary { replicas: u32 },
    /// What was the baseline shall have so many replicas once this time has passed, unless it carries traffic or another template
    /// by then. Done when that is written down in the cluster.
    IdleBaseline { replicas: u32, after: Duration },
}

impl WorkloadAction {
    /// The word used in the journal, in metrics and on the page.
    pub const fn name(self) -> &'static str {
        match self {
            WorkloadAction::Copy => "copy",
            WorkloadAction::Undo => "undo",
            WorkloadAction::ScaleCanaryDown => "scale-canary-down",
            WorkloadAction::RestoreBaseline => "restore-baseline",
            WorkloadAction::HoldBaseline => "hold-baseline",
            WorkloadAction::ReleaseScalers => "release-scalers",
            WorkloadAction::ScaleCanary { .. } => "scale-canary",
            WorkloadAction::IdleBaseline { .. } => "idle-baseline",
        }
    }
}

/// A judged poll, with what the gate needs besides evidence.
#[derive(Clone, Debug, PartialEq)]
pub struct Tick {
    /// What the judge says.
    pub judgement: Judgement,
    /// Why an arm's counts were missing in this poll, if they were.
    pub missing: PerArm<Option<Blind>>,
    /// What the source said about it in words (a server's error text, the name of a silent process); may be empty.
    pub detail: String,
    /// Failed requests of the service that the stack ascribes to no workload: nobody is blamed for them.
    pub orphans: f64,
}
