//! The README's five minutes, as they are printed there.

use crate::rig::daemon::{self, Daemon};
use crate::rig::kubernetes::{self, ControlPlane};
use crate::rig::prometheus::{Prometheus, Series, Version};
use crate::rig::{poll, ports};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const PATIENT: Duration = Duration::from_secs(120);

/// The commands, in the parts between empty lines.
fn parts() -> Vec<String> {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("it is there");
    let (_, after) = readme.split_once("**Five minutes").expect("they are there");
    let (_, block) = after.split_once("```sh\n").expect("a block");
    let (block, _) = block.split_once("```").expect("its end");
    block.split("\n\n").map(str::to_owned).collect()
}

/// A shell that stops at the first failure, with kubectl of the control plane.
fn run(plane: &ControlPlane, script: &str) {
    let path = format!("{}:{}", plane.programs().display(), std::env::var("PATH").expect("a path"));
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", script]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = command.env("PATH", path).env("KUBECONFIG", plane.kubeconfig("admin")).output().expect("bash is there");
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// What is in the namespace before canaryd comes.
fn service() -> Value {
    let named = |name: &str| json!({"name": name, "namespace": "shop"});
    let deployment = |version: &str| {
        let labels = json!({"app": "shop", "version": version});
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": named(&format!("shop-{version}")),
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
                "spec": {"containers": [{"name": "shop", "image": "registry.example/shop:1.0.0"}]}}}})
    };
    let to = |subset: &str, weight: u64| json!({"destination": {"host": "shop", "subset": subset}, "weight": weight});
    let route = json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": named("shop"),
        "spec": {"hosts": ["shop"], "http": [{"route": [to("v1", 100), to("v2", 0)]}]}});
    json!({"apiVersion": "v1", "kind": "List", "items": [deployment("v1"), deployment("v2"), route]})
}

/// The text of the rule as the daemon's pod would find it. Another test that applies the manifests takes it away again: then it is asked for
/// once more.
fn rule_in_the_cluster(plane: &ControlPlane, install: &str) -> String {
    let find = || {
        run(plane, install);
        let text = plane.kubectl(&["get", "configmap", "canaryd-rules", "-n", "canaryd", "-o", "json"]);
        serde_json::from_str::<Value>(&text).expect("JSON")["data"]["shop.yaml"].as_str().map(str::to_owned)
    };
    poll(PATIENT, find).expect("the rule is in the ConfigMap")
}

/// The mesh's counters of the version that serves, three minutes long: one request a second, each within 5 ms.
fn past() -> Vec<Series> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let now_ms = i64::try_from(now.as_millis()).expect("not yet the year 292 million");
    let labels = [
        ("reporter", "destination"),
        ("destination_workload", "shop-v1"),
        ("destination_workload_namespace", "shop"),
        ("response_code", "200"),
        ("request_protocol", "http"),
        ("namespace", "shop"),
        ("pod", "shop-v1-a"),
    ];
    let counted = |name: &str, more: &[(&str, &str)]| {
        let series = Series::new(name, &[&labels[..], more].concat());
        (0..=180).step_by(5).fold(series, |series, s| series.at(now_ms - 180_000 + s * 1000, s as f64))
    };
    let histogram = "istio_request_duration_milliseconds";
    let buckets = ["5", "10", "+Inf"].map(|le| counted(&format!("{histogram}_bucket"), &[("le", le)]));
    let rest = ["istio_requests_total".to_owned(), format!("{histogram}_count"), format!("{histogram}_sum")];
    rest.iter().map(|name| counted(name, &[])).chain(buckets).collect()
}

#[test]
fn the_five_minutes_of_the_readme_end_with_an_observed_rollout() {
    let Some(plane) = kubernetes::shared_blocking() else { return };
    let Some(prometheus) = Prometheus::empty(Version::Two) else { return };
    prometheus.write(&past());
    plane.custom_resources("istio", "/apis/networking.istio.io/v1/virtualservices");
    plane.namespace("shop");
    plane.apply(&service());
    let [install, rule, release, look] = <[String; 4]>::try_from(parts()).expect("four parts");
    // other tests may have made it
    plane.kubectl(&["delete", "secret", "canaryd-tokens", "-n", "canaryd", "--ignore-not-found"]);
    run(plane, &install);
    let rule = rule_in_the_cluster(plane, &rule);
    let folder = tempfile::tempdir().expect("a folder");
    // the pod of the rig's cluster runs nothing: the daemon runs here, as its service account
    // rules that are objects would be those of other tests too
    let cluster = json!({"cluster": {"kubeconfig": plane.kubeconfig_of("canaryd", "canaryd"), "resources": false}});
    let told = daemon::Settings { source: prometheus.url(), time_scale: 30, rule };
    let mut daemon = Daemon::start_with(folder.path(), ports::free(), &told, &cluster);
    let noted = poll(PATIENT, || (daemon.process().log().matches("pod template noted").count() >= 2).then_some(()));
    assert!(noted.is_some(), "the daemon does not see the workloads: {}", daemon.process().log());
    run(plane, &release);
    let begun = poll(PATIENT, || daemon.get("/api/v1/rollouts")["rollouts"].as_array().filter(|all| !all.is_empty()).map(|_| ()));
    assert!(begun.is_some(), "no rollout: {}", daemon.process().log());

    let (_, status) = look.split_once("canaryd-token canaryd ").expect("a look at it");
    let words: Vec<&str> = status.split('#').next().unwrap_or_default().split_whitespace().collect();
    let seen = daemon.client(&words);
    let text = String::from_utf8_lossy(&seen.stdout);
    assert!(seen.status.success() && text.contains("shop:2.0.0") && text.contains("observe"), "{seen:?}");
    // it looked: what it has no right to it did not try
    assert!(!daemon.process().log().contains("permission"), "{}", daemon.process().log());
    let weights = plane.kubectl(&["get", "virtualservice", "shop", "-n", "shop", "-o", "jsonpath={.spec.http[0].route[*].weight}"]);
    assert_eq!(weights, "100 0");
}
