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

/// What went wrong with an arm's pods in a stretch of time (PACKS 5). Counters are increments; states hold at its end. The
/// traps are for whoever makes it: a pod on its way out and one that was never ready fail their probes rightly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PodSigns {
    /// Restarts of containers.
    pub restarts: u32,
    /// Failed readiness and liveness probes.
    pub failed_probes: u32,
    /// Pods that wait in a crash loop, or for an image or a configuration that does not come.
    pub crash_loops: u32,
    /// Pods of which a container was last ended for want of memory.
    pub oom_killed: u32,
}
