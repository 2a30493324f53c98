//! A release that answers with errors, seen by a real Prometheus pod by pod: the rolling update is undone by what it counts.

use super::SOON;
use super::processes::Processes;
use crate::rig::daemon::{Daemon, Settings};
use crate::rig::kubernetes::{self, ControlPlane};
use crate::rig::prometheus::{Job, Prometheus};
use crate::rig::{poll, ports};
use serde_json::{Value, json};
use std::time::Duration;

const NAMESPACE: &str = "one-errors";
/// Evidence takes minutes; the method's clock runs ten times as fast.
const PATIENT: Duration = Duration::from_secs(300);

fn object(plane: &ControlPlane) -> Value {
    serde_json::from_str(&plane.kubectl(&["get", "deployment", "web", "-n", NAMESPACE, "-o", "json"])).expect("JSON")
}

fn deployment() -> Value {
    let labels = json!({"app": "web"});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": NAMESPACE}, "spec": {
        "replicas": 4, "selector": {"matchLabels": labels},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": {"metadata": {"labels": labels}, "spec": {
            "terminationGracePeriodSeconds": 0, "containers": [{"name": "web", "image": "web:1"}]}}}})
}

fn until<T>(what: &str, seen: Option<T>, told: impl Fn() -> String) -> T {
    seen.unwrap_or_else(|| panic!("{what}: {}", told()))
}

#[test]
fn a_release_that_fails_requests_is_undone_by_what_prometheus_counts() {
    let Some(plane) = kubernetes::shared_blocking() else { return };
    plane.namespace(NAMESPACE);
    plane.apply(&deployment());
    let processes = Processes::of(NAMESPACE);
    let looking = processes.follow(plane);
    let page = processes.serve();
    let port = page.url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let folder = tempfile::tempdir().expect("a folder");
    let Some(prometheus) = Prometheus::start(&folder.path().join("prometheus"), &[Job::new("web", port, "/metrics", &[])]) else { return };
    let counted = format!("count(rate(http_requests_total{{namespace=\"{NAMESPACE}\",status=\"200\"}}[15s]))");
    until("4 pods are counted", poll(SOON, || prometheus.value(&counted).filter(|n| *n >= 4.0)), || processes.page());
    let rule = format!(
        "rule: shop
workloads: {{ namespace: {NAMESPACE}, one: {{ deployment: web }} }}
telemetry: [ http ]
interval: 5s
traffic: rolling-update
drain: 1s
steps: [ {{ weight: 50%, for: 9h }}, {{ weight: 100%, bake: 1h }} ]
metrics: {{ error-rate: {{ tolerate: {{ relative: 20%, absolute: 0.5% }} }} }}
"
    );
    let settings = Settings { source: prometheus.url(), time_scale: 10, rule };
    let cluster = json!({"cluster": {"kubeconfig": plane.kubeconfig("admin"), "resources": false}});
    let mut daemon = Daemon::start_with(&folder.path().join("daemon"), ports::free(), &settings, &cluster);
    let change = json!([{"op": "add", "path": "/spec/paused", "value": true},
        {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "web:2"}]);
    plane.kubectl(&["patch", "deployment", "web", "-n", NAMESPACE, "--type=json", "-p", &change.to_string()]);
    daemon.post("/api/v1/rules/shop/start", &json!({ "version": "2" }));
    let view = || daemon.get("/api/v1/rollouts/shop-1");
    let told = || format!("{:#}\n{}", view(), processes.page());
    until("half of the pods", poll(SOON, || Some(view()).filter(|v| v["weight-seen-permille"] == 500 || v["over"] == true)), told);
    let over = until("rolled back", poll(PATIENT, || Some(view()).filter(|v| v["over"] == true)), told);
    assert_eq!((&over["state"], &over["weight-seen-permille"]), (&"rolled-back".into(), &0.into()), "{over:#}");
    assert!(over["reasons"].to_string().contains("error-rate"), "{}", over["reasons"]);
    let undone = poll(SOON, || {
        let found = object(plane);
        let status = &found["status"];
        let pods = ["replicas", "readyReplicas", "updatedReplicas"].map(|key| status[key].as_u64());
        // it was found paused
        let whole = pods == [Some(4); 3] && found["spec"]["paused"] == true;
        (whole && found["spec"]["template"]["spec"]["containers"][0]["image"] == "web:1").then_some(())
    });
    until("undone", undone, || format!("{:#}", object(plane)));
    daemon.ends_well();
    drop(looking);
}
