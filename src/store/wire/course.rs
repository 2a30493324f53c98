//! What came in and what was decided.

use super::atoms::{Wire, described, wire};
use crate::model::journal::{Event, Kept, KeptOf, KeptScale, KeptSeries, Opened};
use crate::model::{
    Action, Alert, Arm, Begin, Blind, Breach, Command, Decision, Effect, History, Hold, HoldWhy, HookAnswer, HookPoint, Input, Keep, Level,
    Noted, Notice, Outcome, Paused, PerArm, Phase, PodSign, Poll, Promoting, Reason, Retry, RolloutId, Severity, Side, State, Stuck, Tick,
    Timestamp, Topic, TrafficReading, Unproven, Vanished, Verb, Waiting, Weight, WorkloadAction, WorkloadSeen,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::time::Duration;

described! {
    Event as EventOnWire, Opened as OpenedOnWire, Kept as KeptOnWire, KeptSeries as KeptSeriesOnWire, KeptOf as KeptOfOnWire,
    KeptScale as KeptScaleOnWire, Begin as BeginOnWire, Side as SideOnWire, Input as InputOnWire,
    Command as CommandOnWire, Verb as VerbOnWire, TrafficReading as TrafficOnWire, Outcome as OutcomeOnWire, Retry as RetryOnWire,
    Decision as DecisionOnWire, Action as ActionOnWire, Unproven as UnprovenOnWire, State as StateOnWire, Waiting as WaitingOnWire,
    Promoting as PromotingOnWire, Paused as PausedOnWire, Stuck as StuckOnWire, Reason as ReasonOnWire, Breach as BreachOnWire,
    Vanished as VanishedOnWire, Hold as HoldOnWire, HoldWhy as HoldWhyOnWire, Keep as KeepOnWire, Effect as EffectOnWire,
    Level as LevelOnWire, Notice as NoticeOnWire, Topic as TopicOnWire, Phase as PhaseOnWire, Alert as AlertOnWire,
    Arm as ArmOnWire,
    Severity as SeverityOnWire, HookPoint as HookPointOnWire, HookAnswer as HookAnswerOnWire,
}

/// What most polls have is not written.
fn is_zero(n: &f64) -> bool {
    n.to_bits() == 0 // -0.0 is kept, bit for bit
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Event", rename_all = "kebab-case")]
enum EventOnWire {
    Opened(#[serde(with = "wire")] Box<Opened>),
    Poll {
        #[serde(with = "wire")]
        poll: Box<Poll>,
        #[serde(with = "wire")]
        missing: PerArm<Option<Blind>>,
        detail: String,
        #[serde(with = "wire", default, skip_serializing_if = "is_zero")]
        orphans: f64,
    },
    Input(#[serde(with = "wire")] Box<Input>),
    Decided(#[serde(with = "wire")] Box<Decision>),
    Gap(String),
    Restarted {
        incarnation: u32,
        why: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Opened", rename_all = "kebab-case")]
struct OpenedOnWire {
    #[serde(with = "wire")]
    id: RolloutId,
    rule: String,
    rule_text: String,
    // journals before it have none
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    attached: BTreeMap<String, String>,
    file: String,
    #[serde(with = "wire")]
    interval: Duration,
    #[serde(with = "wire")]
    bounds_ms: Vec<f64>,
    #[serde(with = "wire")]
    scale: f64,
    incarnation: u32,
    #[serde(with = "wire")]
    history: History,
    #[serde(with = "wire")]
    begin: Begin,
    // journals before it have none
    #[serde(with = "wire", default, skip_serializing_if = "Option::is_none")]
    kept: Option<Kept>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Kept", rename_all = "kebab-case")]
struct KeptOnWire {
    #[serde(with = "wire")]
    since: Timestamp,
    #[serde(with = "wire")]
    interval: Duration,
    #[serde(with = "wire")]
    scale: f64,
    #[serde(with = "wire")]
    series: Vec<KeptSeries>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "KeptSeries", rename_all = "kebab-case")]
struct KeptSeriesOnWire {
    #[serde(with = "wire")]
    of: KeptOf,
    #[serde(with = "wire")]
    scales: Vec<KeptScale>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "KeptOf", rename_all = "kebab-case")]
enum KeptOfOnWire {
    Requests,
    Custom(String),
    Tail(#[serde(with = "wire")] f64),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "KeptScale", rename_all = "kebab-case")]
struct KeptScaleOnWire {
    polls: u64,
    #[serde(with = "wire")]
    num: f64,
    #[serde(with = "wire")]
    den: f64,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Begin", rename_all = "kebab-case")]
struct BeginOnWire {
    #[serde(with = "wire")]
    canary: Side,
    version: String,
    by: String,
    #[serde(with = "wire")]
    weight: Weight,
    first: bool,
    retry: bool,
    generation: u64,
    // journals before it have none
    #[serde(with = "wire", default, skip_serializing_if = "Option::is_none")]
    noted: Option<Noted>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Side", rename_all = "kebab-case")]
enum SideOnWire {
    First,
    Second,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Input", rename_all = "kebab-case")]
enum InputOnWire {
    Begin(#[serde(with = "wire")] Begin),
    // follows from the poll before it: a journal that kept it too could contradict itself
    #[serde(skip)]
    Tick(Box<Tick>),
    Command(#[serde(with = "wire")] Command),
    Traffic(#[serde(with = "wire")] Result<TrafficReading, String>),
    Effect {
        generation: u64,
        #[serde(with = "wire")]
        outcome: Outcome,
    },
    Wake,
    Supersede {
        version: String,
    },
    Hook {
        #[serde(with = "wire")]
        hook: HookPoint,
        attempt: u32,
        #[serde(with = "wire")]
        answer: HookAnswer,
    },
    Alerts(#[serde(with = "wire")] Vec<Alert>),
    Workload {
        number: u64,
        #[serde(with = "wire")]
        outcome: Outcome,
    },
    Workloads(#[serde(with = "wire")] Result<PerArm<WorkloadSeen>, String>),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "HookPoint", rename_all = "kebab-case")]
enum HookPointOnWire {
    BeforeStart,
    BeforeStep,
    BeforePromotion,
    AfterPromotion,
    AfterRollback,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "HookAnswer", rename_all = "kebab-case")]
enum HookAnswerOnWire {
    Passed,
    Failed { text: String, again: bool },
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Arm", rename_all = "kebab-case")]
enum ArmOnWire {
    Baseline,
    Canary,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Severity", rename_all = "kebab-case")]
enum SeverityOnWire {
    Info,
    Warning,
    Critical,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Alert", rename_all = "kebab-case")]
struct AlertOnWire {
    fingerprint: String,
    name: String,
    firing: bool,
    #[serde(with = "wire")]
    severity: Severity,
    #[serde(with = "wire")]
    names: Option<Arm>,
    #[serde(with = "wire")]
    since: Timestamp,
    text: String,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Command", rename_all = "kebab-case")]
struct CommandOnWire {
    #[serde(with = "wire")]
    verb: Verb,
    by: String,
    why: String,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Verb", rename_all = "kebab-case")]
enum VerbOnWire {
    Pause,
    Resume,
    Advance,
    Promote,
    #[serde(rename = "rollback")]
    RollBack,
    Approve {
        role: String,
    },
    BreakGlassPromote,
    BreakGlassFreeze,
}

/// `{"read":{...}}` or `{"failed":"..."}`
impl Wire for Result<TrafficReading, String> {
    fn put<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.as_ref().map_or_else(|why| ReadOut::Failed(why), ReadOut::Read).serialize(to)
    }
    fn get<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(match ReadIn::deserialize(from)? {
            ReadIn::Read(reading) => Ok(reading),
            ReadIn::Failed(why) => Err(why),
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum ReadOut<'a> {
    Read(#[serde(with = "TrafficOnWire")] &'a TrafficReading),
    Failed(&'a str),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ReadIn {
    Read(#[serde(with = "TrafficOnWire")] TrafficReading),
    Failed(String),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "TrafficReading", rename_all = "kebab-case")]
struct TrafficOnWire {
    #[serde(with = "wire")]
    weight: Weight,
    generation: Option<u64>,
    writer: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Outcome", rename_all = "kebab-case")]
enum OutcomeOnWire {
    Done,
    Failed {
        text: String,
        #[serde(with = "wire")]
        retry: Retry,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Retry", rename_all = "kebab-case")]
enum RetryOnWire {
    After(#[serde(with = "wire")] Duration),
    OnChange,
    Never,
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
