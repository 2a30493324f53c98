//! The nouns: what every other module speaks about. No I/O, no clock, no serde (wire types live where the wire is).
//! Read [`rollout`] and [`decision`] first, then [`judgement`] and [`sample`]; what a rule may say is in [`rule`].

mod arm;
pub mod calendar;
pub mod decision;
mod fnv;
pub mod journal;
mod judge;
pub mod judgement;
mod notice;
mod pod;
pub mod role;
pub mod rollout;
mod route;
pub mod rule;
pub mod sample;
mod time;
mod weight;

pub use arm::{Arm, PerArm, Side};
pub use decision::{Action, Decision, Effect, Hold, HoldWhy, Reason, Unproven, Vanished};
pub use fnv::{Fnv, fnv};
pub use judge::{Advance, Budget, JudgeSpec, Limits, Margin, Method, MetricKind, MetricSpec, StepTime};
pub use judgement::{
    BakeJudgement, Breach, Interval, Judgement, Keep, Labels, LimitJudgement, LimitKind, MetricJudgement, Outlook, StepClock, Verdict,
};
pub use notice::{Alert, Level, Notice, Phase, Severity, Topic};
pub use pod::{Noted, Pod, PodSign, PodSigns, Resources, WorkloadSeen};
pub use role::Role;
pub use rollout::{
    Begin, Command, HookAnswer, HookPoint, Input, Outcome, Paused, Promoting, Retry, RolloutId, Stands, State, Stuck, Tick, TrafficReading,
    Verb, Waiting, WorkloadAction,
};
pub use rule::{Mode, Rule};
pub use sample::{
    ArmSample, BOUNDS_MAX, Blind, Buckets, CUSTOM_MAX, Counts, History, LimitChange, LoadHistory, METRICS_MAX, Poll, Reading,
};
pub use time::Timestamp;
pub use weight::{Weight, WeightError};
