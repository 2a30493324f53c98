//! Shared watches of workloads and pods against the real controllers: who is whose, what goes wrong, and what a broken watch may not
//! make of it.

mod faults;
mod notes;
mod scale;
mod signs;
mod workloads;

use super::scene::{ask, blocking};
use crate::rig::kubernetes::{ControlPlane, client_of};
use canaryd::cluster::{Cluster, Release};
use canaryd::model::rule::{Target, WorkloadForm, Workloads};
use canaryd::model::{PerArm, Pod, Side, Timestamp, WorkloadSeen};
use canaryd::telemetry::Metrics;
use kube::Client;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Longest until the controllers, or a watch, have done something: they share two cores with everything else.
const DONE_MAX: Duration = Duration::from_secs(90);

fn now() -> Timestamp {
    Timestamp::from_millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64)
}

/// A namespace with Deployments `web-a` (the baseline) and `web-b` (the canary), looked at by a [`Cluster`].
struct Shop {
    plane: &'static ControlPlane,
    namespace: String,
    admin: Client,
    cluster: Cluster,
    metrics: Metrics,
    _end: DropGuard,
}

impl Shop {
    /// Looked at as the administrator.
    async fn open(plane: &'static ControlPlane, namespace: &str) -> Self {
        let client = plane.client("admin").await;
        Self::open_by(plane, namespace, client).await
    }

    /// Looked at by this client.
    async fn open_by(plane: &'static ControlPlane, namespace: &str, client: Client) -> Self {
        let made = namespace.to_owned();
        blocking(move || plane.namespace(&made)).await;
        let (end, metrics) = (CancellationToken::new(), Metrics::new());
        let cluster = Cluster::new(client, metrics.clone(), end.clone());
        let admin = plane.client("admin").await;
        Self { plane, namespace: namespace.to_owned(), admin, cluster, metrics, _end: end.drop_guard() }
    }

    /// As another user of the API server.
    async fn seen_as(&self, kubeconfig: &Path) -> Cluster {
        Cluster::new(client_of(kubeconfig).await, Metrics::new(), CancellationToken::new())
    }

    fn target(&self, name: &str) -> Target {
        let fields = [("namespace", self.namespace.as_str()), ("deployment", name)];
        Target { fields: fields.map(|(k, v)| (k.to_owned(), v.to_owned())).into() }
    }

    fn pair(&self) -> Workloads {
        Workloads { form: WorkloadForm::Pair, sides: [self.target("web-a"), self.target("web-b")] }
    }

    /// Makes a Deployment, or changes it.
    async fn deploy(&self, name: &str, replicas: u32, image: &str, behaviour: &str) {
        let (plane, object) = (self.plane, deployment(&self.namespace, name, replicas, image, behaviour));
        blocking(move || plane.apply(&object)).await;
    }

    async fn kubectl(&self, arguments: &[&str]) -> String {
        let (plane, namespace) = (self.plane, self.namespace.clone());
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        blocking(move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(["-n", &namespace]).collect();
            plane.kubectl(&arguments)
        })
        .await
    }

    /// Both at two and one pods, followed and ready.
    async fn stock(&self) {
        self.deploy("web-a", 2, "web:v1", "").await;
        self.deploy("web-b", 1, "web:v1", "").await;
        self.cluster.follow(&self.pair());
        self.ready("web-a").await;
        self.ready("web-b").await;
        // which another watch tells
        self.seen("all pods", now(), |s| (s.baseline.ready, s.canary.ready) == (2, 1)).await;
    }

    /// Waits until a Deployment runs what it says.
    async fn ready(&self, name: &str) -> Release {
        let target = self.target(name);
        until(&format!("{name} is ready"), || self.cluster.release(&target).ok().flatten().filter(|r| r.ready)).await
    }

    /// Waits until a Deployment runs this version, and is ready.
    async fn runs(&self, name: &str, version: &str) -> Release {
        let target = self.target(name);
        let runs = || self.cluster.release(&target).ok().flatten().filter(|r| r.ready && r.version == version);
        until(&format!("{name} runs {version}"), runs).await
    }

    /// Waits until both arms look so.
    async fn seen(&self, what: &str, since: Timestamp, is_so: impl Fn(&PerArm<WorkloadSeen>) -> bool) -> PerArm<WorkloadSeen> {
        let pair = self.pair();
        let mut last = None;
        let begin = Instant::now();
        while begin.elapsed() < DONE_MAX {
            match self.cluster.seen(&pair, Side::Second, since) {
                Ok(seen) if is_so(&seen) => return seen,
                other => last = Some(other),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{what}: not within {DONE_MAX:?}; {last:?}")
    }

    /// The pods that were ever there, by name.
    fn pods(&self, target: &Target, from: Timestamp) -> Vec<Pod> {
        let mut pods = self.cluster.pods(target, from, now()).expect("they are known");
        pods.sort_by(|a, b| a.name.cmp(&b.name));
        pods
    }

    /// Waits until they are so: Deployments and pods are two watches, and either may be the later one.
    async fn pods_once(&self, target: &Target, from: Timestamp, are_so: impl Fn(&[Pod]) -> bool) -> Vec<Pod> {
        let mut last = Vec::new();
        let begin = Instant::now();
        while begin.elapsed() < DONE_MAX {
            last = self.pods(target, from);
            if are_so(&last) {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the pods are not so within {DONE_MAX:?}: {last:?}")
    }

    /// One call as the administrator; `path` below the namespace.
    async fn patch(&self, path: &str, operations: &Value) -> Value {
        let path = format!("/api/v1/namespaces/{}/{path}", self.namespace);
        let (status, object) = ask(&self.admin, "PATCH", &path, Some(operations)).await;
        assert_eq!(status, 200, "{operations}: {object}");
        object
    }
}

/// A Deployment whose pods behave so on KWOK's nodes.
fn deployment(namespace: &str, name: &str, replicas: u32, image: &str, behaviour: &str) -> Value {
    let labels = json!({"app": name});
    let annotations = if behaviour.is_empty() { json!({}) } else { json!({"sim/behaviour": behaviour}) };
    let resources = json!({"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels, "annotations": annotations},
                "spec": {"containers": [{"name": "app", "image": image, "resources": resources}]}}},
    })
}

/// Polls until `look` gives something.
///
/// # Panics
/// If that is too late.
async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < DONE_MAX, "{what}: not within {DONE_MAX:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
