//! A fleet: many services, each with two Deployments, a VirtualService and a CanaryRule of its own, in a few namespaces.

use crate::kubernetes::scene::ask;
use crate::rig::kubernetes::ControlPlane;
use axum::Router;
use futures_util::StreamExt;
use hyper::http::Request;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Instant;
use tokio::net::TcpListener;

/// Pods of the version that carries the traffic, and of the other.
pub(super) const PODS: [u32; 2] = [2, 1];
/// The two versions.
pub(super) const VERSIONS: [&str; 2] = ["v1", "v2"];
/// Calls under way at once.
const AT_ONCE: usize = 8;
/// Requests of users per second that each Deployment counts.
const RATE_PER_S: u64 = 20;

/// What there is of it.
#[derive(Clone)]
pub(super) struct Fleet {
    pub(super) admin: Client,
    /// How many services.
    pub(super) many: usize,
    /// In how many namespaces.
    pub(super) namespaces: usize,
}

impl Fleet {
    /// Makes everything but the rules.
    pub(super) async fn make(plane: &'static ControlPlane, many: usize, namespaces: usize) -> Self {
        let fleet = Self { admin: plane.client("admin").await, many, namespaces };
        for n in 0..namespaces {
            fleet.post("/api/v1/namespaces", &json!({"metadata": {"name": fleet.namespace(n)}})).await;
        }
        let all = fleet.each(0..many, async |n| {
            for position in 0..2 {
                fleet.post(&fleet.path("apps/v1", n, "deployments"), &fleet.deployment(n, position)).await;
            }
            fleet.post(&fleet.path("networking.istio.io/v1", n, "virtualservices"), &fleet.route(n)).await;
        });
        all.await;
        fleet
    }

    /// Does this for each of them, several at once.
    pub(super) async fn each(&self, which: impl IntoIterator<Item = usize>, work: impl AsyncFn(usize)) {
        futures_util::stream::iter(which).for_each_concurrent(AT_ONCE, |n| work(n)).await;
    }

    /// Name of a service.
    pub(super) fn name(&self, n: usize) -> String {
        format!("app-{n}")
    }

    /// Its namespace.
    pub(super) fn namespace(&self, n: usize) -> String {
        format!("fleet-{}", n % self.namespaces)
    }

    /// Objects of a kind beside a service.
    pub(super) fn path(&self, api: &str, n: usize, plural: &str) -> String {
        let root = if api.contains('/') { "apis" } else { "api" };
        format!("/{root}/{api}/namespaces/{}/{plural}", self.namespace(n))
    }

    fn deployment(&self, n: usize, position: usize) -> Value {
        let (name, version) = (self.name(n), VERSIONS[position]);
        let labels = json!({"app": name, "version": version});
        let container =
            json!({"name": "app", "image": "registry.example/app:1", "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}});
        json!({"metadata": {"name": format!("{name}-{version}")}, "spec": {"replicas": PODS[position], "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}}}})
    }

    fn route(&self, n: usize) -> Value {
        let name = self.name(n);
        let to = |subset: &str, weight: u64| json!({"destination": {"host": name, "subset": subset}, "weight": weight});
        let http = json!([{"name": "primary", "route": [to(VERSIONS[0], 100), to(VERSIONS[1], 0)]}]);
        json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": name},
            "spec": {"hosts": [name], "http": http}})
    }

    /// The object with its rule. It stays in its first step, whatever pods do that do not lack their image.
    pub(super) fn rule(&self, n: usize) -> Value {
        let name = self.name(n);
        let workload =
            |version: &str| json!({"deployment": format!("{name}-{version}"), "cluster": format!("{name}-{version}"), "subset": version});
        json!({"apiVersion": "canaryd.io/v1alpha1", "kind": "CanaryRule", "metadata": {"name": name, "namespace": self.namespace(n)}, "spec": {
            "workloads": {"pair": VERSIONS.map(workload)},
            "telemetry": ["envoy"],
            "interval": "5s",
            "traffic": {"istio": {"virtual-service": name, "route": "primary"}},
            "start": {"when": "new-template"},
            "steps": [{"weight": "50%", "for": "2h"}, {"weight": "100%", "bake": "1h"}],
            "metrics": {"error-rate": {"tolerate": {"relative": "20%", "absolute": "0.5%"}}, "pod-health": {"rollback-on": ["image-pull"]}},
        }})
    }

    /// Makes the object.
    pub(super) async fn make_rule(&self, n: usize) {
        self.post(&self.path("canaryd.io/v1alpha1", n, "canaryrules"), &self.rule(n)).await;
    }

    /// A new release of the workload without traffic.
    pub(super) async fn release(&self, n: usize) {
        let path = format!("{}/{}-{}", self.path("apps/v1", n, "deployments"), self.name(n), VERSIONS[1]);
        let image = json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "registry.example/app:2"}]);
        self.patch(&path, &image).await;
    }

    /// The pods of a Deployment that are there.
    pub(super) async fn pods(&self, n: usize, position: usize) -> Vec<String> {
        let labels = format!("?labelSelector=app%3D{},version%3D{}", self.name(n), VERSIONS[position]);
        let (status, list) = ask(&self.admin, "GET", &(self.path("v1", n, "pods") + &labels), None).await;
        assert_eq!(status, 200, "{list}");
        let all = list["items"].as_array().expect("items");
        let there = all.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        there.map(|pod| pod["metadata"]["name"].as_str().expect("a name").to_owned()).collect()
    }

    /// How many pods are ready, of all.
    pub(super) async fn ready(&self) -> usize {
        let mut ready = 0;
        for n in 0..self.namespaces {
            let (status, list) = ask(&self.admin, "GET", &(self.path("apps/v1", n, "deployments") + "?resourceVersion=0"), None).await;
            assert_eq!(status, 200, "{list}");
            let of = |deployment: &Value| deployment["status"]["readyReplicas"].as_u64().unwrap_or(0) as usize;
            ready += list["items"].as_array().expect("items").iter().map(of).sum::<usize>();
        }
        ready
    }

    /// How many rules' objects say that they are in force.
    pub(super) async fn accepted(&self) -> usize {
        let mut accepted = 0;
        for n in 0..self.namespaces {
            let (status, list) =
                ask(&self.admin, "GET", &(self.path("canaryd.io/v1alpha1", n, "canaryrules") + "?resourceVersion=0"), None).await;
            assert_eq!(status, 200, "{list}");
            let is = |rule: &&Value| rule["status"]["conditions"][0]["status"] == "True";
            accepted += list["items"].as_array().expect("items").iter().filter(is).count();
        }
        accepted
    }

    pub(super) async fn patch(&self, path: &str, operations: &Value) {
        let (status, said) = ask(&self.admin, "PATCH", path, Some(operations)).await;
        assert_eq!(status, 200, "{path}: {said}");
    }

    async fn post(&self, path: &str, object: &Value) {
        let request = Request::post(path).header("content-type", "application/json").body(Body::from(object.to_string().into_bytes()));
        let answer = self.admin.send(request.expect("a request")).await.expect("the API server answers");
        assert_eq!(answer.status().as_u16(), 201, "{path}: {object}");
    }

    /// A page with the counters of every Deployment; its port.
    pub(super) async fn page(&self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (fleet, begun) = (self.clone(), Instant::now());
        let app = Router::new().fallback(move || {
            let text = fleet.counters(1000 + begun.elapsed().as_millis() as u64 * RATE_PER_S / 1000);
            async move { text }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        port
    }

    fn counters(&self, count: u64) -> String {
        let mut text = "# TYPE envoy_cluster_upstream_rq counter\n".to_owned();
        for (n, version) in (0..self.many).flat_map(|n| VERSIONS.map(|version| (n, version))) {
            let name = self.name(n);
            let labels = format!("envoy_cluster_name=\"{name}-{version}\",envoy_response_code=\"200\"");
            writeln!(text, "envoy_cluster_upstream_rq{{{labels}}} {count}").expect("a String");
        }
        text
    }
}
