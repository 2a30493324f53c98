//! What was decided, and what is to be done and told for it.

use super::atoms::{Wire, described, wire};
use crate::model::{
    Action, Arm, Breach, Decision, Effect, Hold, HoldWhy, HookPoint, Keep, Level, Notice, Paused, Phase, PodSign, Promoting, Reason, State,
    Stuck, Timestamp, Topic, Unproven, Vanished, Waiting, Weight, WorkloadAction,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

described! {
    Decision as DecisionOnWire, Action as ActionOnWire, Unproven as UnprovenOnWire, State as StateOnWire, Waiting as WaitingOnWire,
    Promoting as PromotingOnWire, Paused as PausedOnWire, Stuck as StuckOnWire, Reason as ReasonOnWire, Breach as BreachOnWire,
    Vanished as VanishedOnWire, Hold as HoldOnWire, HoldWhy as HoldWhyOnWire, Keep as KeepOnWire, Effect as EffectOnWire, Notice as
    NoticeOnWire, Topic as TopicOnWire, Phase as PhaseOnWire, Level as LevelOnWire,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Decision", rename_all = "kebab-case")]
struct DecisionOnWire {
    #[serde(with = "wire")]
    at: Timestamp,
    #[serde(with = "wire")]
    action: Action,
    #[serde(with = "wire")]
    state: State,
    #[serde(with = "wire")]
    weight: Weight,
    generation: u64,
    step: u32,
    counts_time: bool,
    #[serde(with = "wire")]
    reasons: Vec<Reason>,
    #[serde(with = "wire")]
    holds: Vec<Hold>,
    #[serde(with = "wire")]
    effects: Vec<Effect>,
    #[serde(with = "wire")]
    wake_at: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Action", rename_all = "kebab-case")]
enum ActionOnWire {
    Hold,
    Advance {
        #[serde(with = "wire")]
        from: Weight,
        #[serde(with = "wire")]
        to: Weight,
        #[serde(with = "wire")]
        unproven: Vec<Unproven>,
    },
    Promote,
    RollBack,
    Pause,
    Resume,
    Reassert,
    Finish,
    Refuse(String),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Unproven", rename_all = "kebab-case")]
struct UnprovenOnWire {
    metric: u8,
    requests: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "State", rename_all = "kebab-case")]
enum StateOnWire {
    Waiting(#[serde(with = "wire")] Waiting),
    Progressing { step: u32 },
    Baking { step: u32 },
    Promoting(#[serde(with = "wire")] Promoting),
    Succeeded,
    RollingBack,
    RolledBack,
    Paused(#[serde(with = "wire")] Paused),
    Stuck(#[serde(with = "wire")] Stuck),
    Superseded,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Waiting", rename_all = "kebab-case")]
enum WaitingOnWire {
    Router,
    Window {
        #[serde(with = "wire")]
        opens: Timestamp,
    },
    Approval {
        roles: Vec<String>,
    },
    Hook {
        name: String,
    },
    Pods,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Promoting", rename_all = "kebab-case")]
enum PromotingOnWire {
    Copying,
    WaitingReady,
    ShiftingBack,
    External,
    Settling,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Paused", rename_all = "kebab-case")]
struct PausedOnWire {
    by: String,
    why: String,
    #[serde(with = "wire")]
    since: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Stuck", rename_all = "kebab-case")]
struct StuckOnWire {
    why: String,
    tries: u32,
    #[serde(with = "wire")]
    since: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Reason", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
enum ReasonOnWire {
    Breach {
        #[serde(with = "wire")]
        breach: Breach,
        during_shared: bool,
    },
    Vanished(#[serde(with = "wire")] Vanished),
    Person {
        by: String,
        why: String,
    },
    Policy {
        which: String,
        #[serde(with = "wire")]
        after: Duration,
    },
    Superseded {
        version: String,
    },
    Alert {
        name: String,
        text: String,
    },
    Hook {
        #[serde(with = "wire")]
        hook: HookPoint,
        text: String,
    },
    Pods {
        #[serde(with = "wire")]
        sign: PodSign,
        text: String,
    },
    WindowClosed {
        words: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Breach", rename_all = "kebab-case")]
enum BreachOnWire {
    Metric(u8),
    Limit(u8),
    Bake { metric: u8, derived: bool },
    Gross,
    Abandoned,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Vanished", rename_all = "kebab-case")]
enum VanishedOnWire {
    Abandoned,
    Unserved,
    Silent,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Hold", rename_all = "kebab-case")]
struct HoldOnWire {
    #[serde(with = "wire")]
    why: HoldWhy,
    text: String,
    ends: String,
    #[serde(with = "wire")]
    until: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "HoldWhy", rename_all = "kebab-case")]
enum HoldWhyOnWire {
    Judge(#[serde(with = "wire")] Keep),
    Shifting,
    TrafficShare,
    NoRequests,
    Orphans,
    Vanished,
    Foreign,
    Paused,
    Router,
    Window,
    Approval,
    Hook,
    Alert,
    Capacity,
    Pods,
    Drain,
    Promotion,
    Frozen,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Keep", rename_all = "kebab-case")]
enum KeepOnWire {
    Blind,
    Shared,
    Suspicious,
    Limit,
    Harm,
    FewRequests,
    Time,
    NotProven,
    PromoteBelow,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Effect", rename_all = "kebab-case")]
enum EffectOnWire {
    SetWeight {
        #[serde(with = "wire")]
        weight: Weight,
        generation: u64,
    },
    Notify(#[serde(with = "wire")] Notice),
    CallHook {
        #[serde(with = "wire")]
        hook: HookPoint,
        attempt: u32,
    },
    HoldStill,
    Workload {
        #[serde(with = "wire")]
        action: WorkloadAction,
        number: u64,
    },
}

// topic and phase: journals before them told everything as something that happened
#[derive(Serialize, Deserialize)]
#[serde(remote = "Notice", rename_all = "kebab-case")]
struct NoticeOnWire {
    #[serde(with = "wire")]
    level: Level,
    #[serde(with = "wire", default = "progress")]
    topic: Topic,
    #[serde(with = "wire", default = "event")]
    phase: Phase,
    text: String,
}

fn progress() -> Topic {
    Topic::Progress
}

fn event() -> Phase {
    Phase::Event
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Topic", rename_all = "kebab-case")]
enum TopicOnWire {
    Progress,
    RolledBack,
    Paused,
    Stuck,
    Breach,
    Shared,
    TrafficShare,
    Vanished,
    NoRequests,
    RouterUnreadable,
    Foreign,
    Limit {
        metric: String,
        limit: String,
        #[serde(with = "wire")]
        arm: Arm,
    },
    Gate,
    Alert,
    Capacity,
    Release,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Phase", rename_all = "kebab-case")]
enum PhaseOnWire {
    Event,
    Firing,
    Resolved,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Level", rename_all = "kebab-case")]
enum LevelOnWire {
    Info,
    Warning,
    Page,
}
