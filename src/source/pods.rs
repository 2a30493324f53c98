//! Which pods are an arm's: the seam for a watch of the cluster. Given to the sources by the composition root; without one,
//! and where it does not know, pods are told by their names (`packs/arms.rs`).

use super::Subscription;
use crate::model::{PerArm, Pod, PodSigns, Timestamp, rule};
use std::fmt;
use std::sync::Arc;

/// Knows the pods of workloads. Asked at every tick, so it answers from memory and never waits.
pub trait PodWatch: Send + Sync + fmt::Debug {
    /// The pods that were the workload's at some time in `from..=to`, as they are at `to`: those that are gone by then too,
    /// for their last counters are theirs. `None`: not known (no cluster, the watch is younger than `from`, no such
    /// workload); that is no empty list.
    fn pods(&self, target: &rule::Target, from: Timestamp, to: Timestamp) -> Option<Vec<Pod>>;

    /// What went wrong with them in `from..=to`; `None` where nobody looked.
    fn signs(&self, target: &rule::Target, from: Timestamp, to: Timestamp) -> Option<PodSigns> {
        let _ = (target, from, to);
        None
    }
}

/// The pods of both arms, where they are known.
pub(super) type ArmPods = PerArm<Option<Arc<[Pod]>>>;

/// Asks the watch about both arms of a subscription.
pub(super) fn of_arms(watch: Option<&Arc<dyn PodWatch>>, wanted: &Subscription, from: Timestamp, to: Timestamp) -> ArmPods {
    PerArm::from_fn(|arm| watch?.pods(&wanted.arms[arm], from, to).map(Arc::from))
}
