//! What may be asked about workloads. One [`Cluster`] serves all rollouts: a namespace is watched once, whoever asks about it.

use crate::model::{Noted, PerArm, Pod, PodSigns, Side, Timestamp, WorkloadSeen, rule};
use crate::telemetry::Metrics;
use kube::Client;
use std::fmt;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A field of a target that tells two releases of one Deployment apart: [`Cluster::pods`] and [`Cluster::signs`] look at the pods of
/// its newest ReplicaSet where it is `new`, at those of the one before where it is `old`, and at all of them without it.
pub const REPLICASET: &str = "replicaset";

/// What a workload runs now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Identity of its pod template: the same text as long as the template says the same.
    pub template: String,
    /// For people: the images and their tags.
    pub version: String,
    /// All replicas wanted, at least one, run this template and are ready.
    pub ready: bool,
    /// Pods of this template that are ready: of a rolling update, how far it is.
    pub ready_replicas: u32,
    /// Replicas it asks for.
    pub replicas: u32,
}

/// Shared watches of workloads, and what is read out of them. Cheap to clone; one per daemon.
#[derive(Clone)]
pub struct Cluster(Arc<Inner>);

struct Inner {
    client: Client,
    changed: watch::Sender<u64>,
    shutdown: CancellationToken,
    metrics: Metrics,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cluster")
    }
}

impl Cluster {
    /// Watches nothing yet. What it will watch, it watches until `shutdown`.
    pub fn new(client: Client, metrics: Metrics, shutdown: CancellationToken) -> Self {
        Self(Arc::new(Inner { client, changed: watch::Sender::new(0), shutdown, metrics }))
    }

    /// The way to the API server, for those that write.
    pub fn client(&self) -> Client {
        self.0.client.clone()
    }

    /// Does this rule's workload live in the cluster: do both sides name a Deployment and its namespace?
    pub fn covers(workloads: &rule::Workloads) -> bool {
        workloads.sides.iter().all(|side| place(side).is_some())
    }

    /// From now on the namespaces of these workloads are watched; asking again changes nothing. Within a tokio runtime only.
    pub fn follow(&self, workloads: &rule::Workloads) {
        let _ = (workloads, &self.0.shutdown, &self.0.metrics);
    }

    /// Marks every change of what is watched, and that it cannot be looked at any more.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// What a workload runs now; `None` = there is no such Deployment.
    ///
    /// # Errors
    /// It could not be looked at, with the reason.
    pub fn release(&self, target: &rule::Target) -> Result<Option<Release>, String> {
        Err(unseen(target))
    }

    /// What a rollout notes at its start. Asks the API server.
    ///
    /// # Errors
    /// It could not be looked at, with the reason.
    pub async fn note(&self, workloads: &rule::Workloads, canary: Side) -> Result<Noted, String> {
        Err(unseen(workloads.side(canary)))
    }

    /// Both arms as they are now, with what went wrong after `since`.
    ///
    /// # Errors
    /// One of them could not be looked at, with the reason.
    pub fn seen(&self, workloads: &rule::Workloads, canary: Side, since: Timestamp) -> Result<PerArm<WorkloadSeen>, String> {
        let _ = since;
        Err(unseen(workloads.side(canary)))
    }

    /// The pods that were the workload's at some time in `from..=to`, those that are gone by then too. `None`: not known.
    pub fn pods(&self, target: &rule::Target, from: Timestamp, to: Timestamp) -> Option<Vec<Pod>> {
        let _ = (target, from, to);
        None
    }

    /// What went wrong with them in that time. `None`: not known.
    pub fn signs(&self, target: &rule::Target, from: Timestamp, to: Timestamp) -> Option<PodSigns> {
        let _ = (target, from, to);
        None
    }
}

/// Namespace and name of the Deployment a target names.
fn place(target: &rule::Target) -> Option<(&str, &str)> {
    let field = |name: &str| target.fields.get(name).map(String::as_str);
    Some((field("namespace")?, field("deployment")?))
}

fn unseen(target: &rule::Target) -> String {
    match place(target) {
        None => format!("{} names no Deployment and namespace", target.name()),
        Some((namespace, name)) => format!("Deployment {namespace}/{name}: not looked yet"),
    }
}
