//! What the state machine answers: what it does, why, what it waits for, and what is to be carried out. Values, stored before any of
//! their effects is applied.

use super::{Breach, HookPoint, Keep, Notice, PodSign, State, Timestamp, Weight, WorkloadAction};
use std::time::Duration;

/// What the machine does about an input.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Nothing new: it goes on waiting, for these reasons.
    Hold,
    /// The next step's weight.
    Advance {
        /// From.
        from: Weight,
        /// To.
        to: Weight,
        /// Required metrics that were not shown, with the canary requests still missing where that can be said.
        unproven: Vec<Unproven>,
    },
    /// The last step is over.
    Promote,
    /// Back to stable.
    RollBack,
    /// A person's word is awaited.
    Pause,
    /// It goes on.
    Resume,
    /// The weight is written again: another hand had moved it.
    Reassert,
    /// The rollout is over.
    Finish,
    /// A person's word could not be followed; the reason says why.
    Refuse(String),
}

impl Action {
    /// The word used in the journal, in metrics and on the page.
    pub const fn name(&self) -> &'static str {
        match self {
            Action::Hold => "hold",
            Action::Advance { .. } => "advance",
            Action::Promote => "promote",
            Action::RollBack => "roll-back",
            Action::Pause => "pause",
            Action::Resume => "resume",
            Action::Reassert => "reassert",
            Action::Finish => "finish",
            Action::Refuse(_) => "refuse",
        }
    }
}

/// A required metric that was not shown when a step ended on schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct Unproven {
    /// Position in the rule.
    pub metric: u8,
    /// Canary requests still missing at the rate at which evidence grew so far; `None` if it does not grow.
    pub requests: Option<u64>,
}

/// Why a rollout rolls back, or would.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// The judge says so.
    Breach {
        /// What crossed.
        breach: Breach,
        /// During a shared incident.
        during_shared: bool,
    },
    /// The canary's requests do not come back (DESIGN 6.3).
    Vanished(Vanished),
    /// A person said so.
    Person { by: String, why: String },
    /// A policy: nothing could be seen, or decided, for so long.
    Policy { which: String, after: Duration },
    /// A newer version is out.
    Superseded { version: String },
    /// A critical alert of somebody else names the canary, and its like does not fire for the baseline.
    Alert { name: String, text: String },
    /// A hook did not let it pass, and the rule says roll back.
    Hook { hook: HookPoint, text: String },
    /// The maintenance window ended, and the rule says roll back.
    WindowClosed { words: String },
    /// The canary's pods are worse off than the baseline's; names the pod.
    Pods { sign: PodSign, text: String },
}

/// How it shows that the canary's requests do not come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vanished {
    /// Clients left before an answer.
    Abandoned,
    /// Under a quarter of the expected requests were served, three usable ticks in a row.
    Unserved,
    /// Every process of the canary is silent while the baseline's answer.
    Silent,
}

/// A reason that keeps a rollout where it is, for a person to read: what was seen, what would end it, until when.
#[derive(Clone, Debug, PartialEq)]
pub struct Hold {
    /// Which kind, for programs.
    pub why: HoldWhy,
    /// A sentence for the operator.
    pub text: String,
    /// What would end it, for the operator.
    pub ends: String,
    /// Until when at the latest, and then another decision is made.
    pub until: Option<Timestamp>,
}

/// The kinds of hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HoldWhy {
    /// The judge keeps the step.
    Judge(Keep),
    /// A weight is being written or verified.
    Shifting,
    /// Traffic does not follow the weight.
    TrafficShare,
    /// The canary has weight and gets no requests.
    NoRequests,
    /// Requests fail that belong to neither version.
    Orphans,
    /// Requests vanish, and the policy says hold.
    Vanished,
    /// Another hand moved the weight.
    Foreign,
    /// A person paused it, or a policy asks.
    Paused,
    /// The router cannot be read or written.
    Router,
    /// Maintenance window, freeze.
    Window,
    /// Approvals are missing.
    Approval,
    /// A hook has not answered.
    Hook,
    /// An alert of somebody else.
    Alert,
    /// Not enough ready pods, or the cluster cannot be looked at.
    Capacity,
    /// Pods of both arms are unwell.
    Pods,
    /// Draining after the traffic left.
    Drain,
    /// The promotion waits for somebody.
    Promotion,
    /// Frozen by break-glass.
    Frozen,
}

impl HoldWhy {
    /// The word used as metric label and in the API.
    pub const fn name(self) -> &'static str {
        match self {
            HoldWhy::Judge(keep) => keep.name(),
            HoldWhy::Shifting => "shifting",
            HoldWhy::TrafficShare => "traffic share",
            HoldWhy::NoRequests => "no requests",
            HoldWhy::Orphans => "unattributed errors",
            HoldWhy::Vanished => "vanished requests",
            HoldWhy::Foreign => "foreign weight",
            HoldWhy::Paused => "paused",
            HoldWhy::Router => "router",
            HoldWhy::Window => "window",
            HoldWhy::Approval => "approval",
            HoldWhy::Hook => "hook",
            HoldWhy::Alert => "alert",
            HoldWhy::Capacity => "capacity",
            HoldWhy::Pods => "pods",
            HoldWhy::Drain => "drain",
            HoldWhy::Promotion => "promotion",
            HoldWhy::Frozen => "frozen",
        }
    }
}

/// Something to be carried out by the shell, after the decision was stored. Idempotent and level-triggered: it names the
/// state wanted, not the change.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// The router shall give the canary this weight; done when it reads back so.
    SetWeight { weight: Weight, generation: u64 },
    /// Somebody shall be told.
    Notify(Notice),
    /// The rule's hook shall be called once; the answer comes as [`Input::Hook`](super::Input::Hook) of the same attempt (none is awaited for the
    /// two that only tell). `attempt` grows over the whole rollout, so that a repeated call can be told from a new one.
    CallHook { hook: HookPoint, attempt: u32 },
    /// What moves the traffic by itself shall stand still, before the first weight; a reading tells whether it does.
    HoldStill,
    /// A workload shall be so; the outcome comes as [`Input::Workload`](super::Input::Workload) of the same number.
    Workload { action: WorkloadAction, number: u64 },
}

/// The machine's answer to one input: a value, stored before any of its effects is applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// When.
    pub at: Timestamp,
    /// What it does.
    pub action: Action,
    /// Where it stands now.
    pub state: State,
    /// The weight it wants.
    pub weight: Weight,
    /// Number of the last weight it asked for: a stale writer cannot move traffic.
    pub generation: u64,
    /// The step in force: what the next poll is booked to.
    pub step: u32,
    /// Does time count toward the step in the next poll?
    pub counts_time: bool,
    /// Why it rolls or rolled back; empty otherwise.
    pub reasons: Vec<Reason>,
    /// Why it does not go on; empty while it does.
    pub holds: Vec<Hold>,
    /// What is to be carried out now.
    pub effects: Vec<Effect>,
    /// Wake me then at the latest.
    pub wake_at: Option<Timestamp>,
}
