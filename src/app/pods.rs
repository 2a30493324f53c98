//! The cluster's watches as the sources' knowledge of pods: neither knows the other.

use crate::cluster::Cluster;
use crate::model::{Pod, PodSigns, Timestamp, rule::Target};
use crate::source::PodWatch;

/// Answers from the cluster's memory.
#[derive(Clone, Debug)]
pub(super) struct ClusterPods(pub(super) Cluster);

impl PodWatch for ClusterPods {
    fn pods(&self, target: &Target, from: Timestamp, to: Timestamp) -> Option<Vec<Pod>> {
        self.0.pods(target, from, to)
    }

    fn signs(&self, target: &Target, from: Timestamp, to: Timestamp) -> Option<PodSigns> {
        self.0.signs(target, from, to)
    }
}
