//! Pods as a watch of the cluster knows them.

use super::Timestamp;

/// One pod of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name, unique in its namespace.
    pub name: String,
    /// Its address, once it has one.
    pub ip: Option<String>,
    /// When it was made: its counters are not older.
    pub created: Timestamp,
    /// Ready, and not on its way out.
    pub ready: bool,
}

/// What went wrong with an arm's pods in a stretch of time (PACKS 5). Counters are increments; states hold at its end, and of a
/// pod that is gone they hold as it was last seen. The traps are for whoever makes it: a pod on its way out and one that was never
/// ready fail their probes rightly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PodSigns {
    /// Restarts of containers.
    pub restarts: u32,
    /// Failed readiness and liveness probes.
    pub failed_probes: u32,
    /// Pods that wait in a crash loop, or were restarted three times within ten minutes.
    pub crash_loops: u32,
    /// Pods that wait for an image or a configuration that does not come.
    pub image_pulls: u32,
    /// Pods of which a container was last ended for want of memory.
    pub oom_killed: u32,
    /// 1 if the workload's pods do not become ready by its own word: its progress deadline has passed.
    pub never_ready: u32,
}

/// One kind of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PodSign {
    /// A crash loop.
    CrashLoop,
    /// An image or a configuration does not come.
    ImagePull,
    /// Ended for want of memory.
    OomKilled,
    /// Probes fail.
    FailedProbes,
    /// A workload whose pods do not become ready in the time it gives them.
    NeverReady,
}

impl PodSign {
    /// The word of rules, metrics and messages.
    pub const fn name(self) -> &'static str {
        match self {
            PodSign::CrashLoop => "crash-loop",
            PodSign::ImagePull => "image-pull",
            PodSign::OomKilled => "oom-killed",
            PodSign::FailedProbes => "failed-probes",
            PodSign::NeverReady => "never-ready",
        }
    }

    /// How many of this kind there are.
    pub const fn of(self, signs: &PodSigns) -> u32 {
        match self {
            PodSign::CrashLoop => signs.crash_loops,
            PodSign::ImagePull => signs.image_pulls,
            PodSign::OomKilled => signs.oom_killed,
            PodSign::FailedProbes => signs.failed_probes,
            PodSign::NeverReady => signs.never_ready,
        }
    }
}

/// What the cluster shows of one arm at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadSeen {
    /// Replicas its workload asks for.
    pub wanted: u32,
    /// Pods that are not on their way out.
    pub pods: u32,
    /// Those of them that are ready.
    pub ready: u32,
    /// What went wrong since the rollout began.
    pub signs: PodSigns,
    /// The pod that is worst off, and what is wrong with it, for a person; empty if nothing is.
    pub trouble: String,
}

/// What was found in the cluster when a rollout was prepared (DESIGN 6.3): what its actions go back to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    /// N: ready replicas of the baseline.
    pub baseline_ready: u32,
    /// Replicas the canary's workload asked for.
    pub canary_wanted: u32,
    /// The least number of replicas the baseline's autoscaler keeps; `None` = nothing scales it.
    pub baseline_floor: Option<u32>,
    /// The same of the canary's.
    pub canary_floor: Option<u32>,
    /// The pod template the canary's workload had before this release, as JSON; `None` = none is known to go back to.
    pub template_before: Option<String>,
    /// Identity of the template on trial.
    pub template: String,
    /// What a pod of the canary may use, all its containers together.
    pub resources: Resources,
    /// What could not be found, or may not be done later, for the operator.
    pub warnings: Vec<String>,
}

/// What a pod asks for and may use; `None` = a container says nothing about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Thousandths of a core.
    pub cpu_request: Option<u64>,
    /// Thousandths of a core.
    pub cpu_limit: Option<u64>,
    /// Bytes.
    pub memory_request: Option<u64>,
    /// Bytes.
    pub memory_limit: Option<u64>,
}
