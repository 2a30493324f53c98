//! What came in.

use super::atoms::{Wire, described, wire};
use crate::model::{
    Alert, Arm, Begin, Command, HookAnswer, HookPoint, Input, Outcome, PerArm, Retry, Severity, Stands, Tick, Timestamp, TrafficReading,
    Verb, Weight, WorkloadSeen,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::time::Duration;

described! {
    Input as InputOnWire, HookPoint as HookPointOnWire, HookAnswer as HookAnswerOnWire, Arm as ArmOnWire, Severity as SeverityOnWire, Alert
    as AlertOnWire, Command as CommandOnWire, Verb as VerbOnWire, TrafficReading as TrafficOnWire, Outcome as OutcomeOnWire, Retry as
    RetryOnWire, Stands as StandsOnWire,
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
    #[serde(rename = "break-glass-rollback")]
    BreakGlassRollBack,
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
    // journals before it know only what stands
    #[serde(with = "wire", default)]
    stands: Stands,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Stands", rename_all = "kebab-case")]
enum StandsOnWire {
    Still,
    Underway(String),
    LetGo,
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
    Underway,
    OnChange,
    Never,
}
