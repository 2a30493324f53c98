//! What the cluster shows of workloads, and what is done to them.

use super::atoms::{Ref, Wire, described, wire};
use crate::model::{Noted, PerArm, PodSign, PodSigns, Resources, WorkloadAction, WorkloadSeen};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::time::Duration;

described! {
    Noted as NotedOnWire, Resources as ResourcesOnWire, WorkloadSeen as WorkloadSeenOnWire, PodSigns as PodSignsOnWire,
    PodSign as PodSignOnWire, WorkloadAction as WorkloadActionOnWire,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Noted", rename_all = "kebab-case")]
struct NotedOnWire {
    baseline_ready: u32,
    canary_wanted: u32,
    baseline_floor: Option<u32>,
    canary_floor: Option<u32>,
    template_before: Option<String>,
    template: String,
    #[serde(with = "wire")]
    resources: Resources,
    warnings: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Resources", rename_all = "kebab-case")]
struct ResourcesOnWire {
    cpu_request: Option<u64>,
    cpu_limit: Option<u64>,
    memory_request: Option<u64>,
    memory_limit: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "WorkloadSeen", rename_all = "kebab-case")]
struct WorkloadSeenOnWire {
    wanted: u32,
    pods: u32,
    ready: u32,
    #[serde(with = "wire")]
    signs: PodSigns,
    trouble: String,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "PodSigns", rename_all = "kebab-case")]
struct PodSignsOnWire {
    restarts: u32,
    failed_probes: u32,
    crash_loops: u32,
    image_pulls: u32,
    oom_killed: u32,
    // journals of before have none
    #[serde(default)]
    never_ready: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "PodSign", rename_all = "kebab-case")]
enum PodSignOnWire {
    CrashLoop,
    ImagePull,
    OomKilled,
    FailedProbes,
    NeverReady,
}

/// `{"seen":{...}}` or `{"failed":"..."}`
impl Wire for Result<PerArm<WorkloadSeen>, String> {
    fn put<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.as_ref().map_or_else(|why| SeenOut::Failed(why), |seen| SeenOut::Seen(Ref(seen))).serialize(to)
    }
    fn get<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(match SeenIn::deserialize(from)? {
            SeenIn::Seen(seen) => Ok(seen),
            SeenIn::Failed(why) => Err(why),
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum SeenOut<'a> {
    Seen(Ref<'a, PerArm<WorkloadSeen>>),
    Failed(&'a str),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum SeenIn {
    Seen(#[serde(with = "wire")] PerArm<WorkloadSeen>),
    Failed(String),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "WorkloadAction", rename_all = "kebab-case")]
enum WorkloadActionOnWire {
    Copy,
    Undo,
    ScaleCanaryDown,
    RestoreBaseline,
    HoldBaseline,
    ReleaseScalers,
    ScaleCanary {
        replicas: u32,
    },
    IdleBaseline {
        replicas: u32,
        #[serde(with = "wire")]
        after: Duration,
    },
}
