//! `canaryd check --live` in a cluster: how the workloads stand, and which permissions are missing, against the shipped Roles.

use super::rights::shipped;
use super::scene::blocking;
use crate::rig::kubernetes::{self, client_of};
use canaryd::cluster::rights;
use canaryd::config::{Known, parse_rule};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

const RULE: &str = "rule: shop\nworkloads: { namespace: check-live, pair: [ { deployment: a, subset: v1 }, { deployment: b, subset: v2 } ] }\n\
                    telemetry: [ istio ]\ntraffic: { istio: { virtual-service: shop } }\n\
                    steps: [ { weight: 10%, for: 1m }, { weight: 100%, bake: 1m } ]\nreplicas: follow\nafter-rollback: undo\n\
                    promotion: { swap: { idle-replicas: 1 } }\nstart: { when: new-template }\n\
                    metrics: { error-rate: {}, cpu: { of: requests, rollback-above: 70% }, pod-health: { rollback-on: [ { failed-probes: 3 } ] } }\n";

pub(super) fn rule() -> canaryd::model::Rule {
    let known = Known { packs: ["istio".to_owned()].into(), cluster: true, ..Known::default() };
    parse_rule(RULE, Path::new("shop.yaml"), &known).unwrap_or_else(|report| panic!("{report}"))
}

fn deployment(name: &str) -> Value {
    let labels = json!({ "app": name });
    let container = json!({"name": "web", "image": "shop/web:v1", "resources": {"requests": {"cpu": "500m"}}});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "check-live"},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}}}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_workloads_and_what_may_not_be_done_with_them_are_shown() {
    let Some(plane) = kubernetes::shared().await else { return };
    let [all, read] = blocking(|| {
        plane.namespace("check-live");
        let both: Vec<Value> = ["a", "b"].map(deployment).into();
        plane.apply(&json!({"apiVersion": "v1", "kind": "List", "items": both}));
        for name in ["a", "b"] {
            plane.kubectl(&["rollout", "status", &format!("deployment/{name}"), "-n", "check-live", "--timeout=90s"]);
        }
        let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"});
        plane.apply(&json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "a", "namespace": "check-live"}, "spec": {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 9}}));
        let rules = |roles: &[&str]| roles.iter().flat_map(|role| shipped(role).as_array().cloned().unwrap()).collect::<Value>();
        let account = |name: &str, roles: &[&str]| plane.service_account("check-live", name, &rules(roles));
        [account("all", &["read", "route-write", "workload-write", "resources"]), account("read", &["read"])]
    })
    .await;

    let missing = rights::missing(&client_of(&all).await, &rule(), true).await.unwrap();
    assert_eq!(missing, [], "the shipped Roles are enough");
    let missing: Vec<String> =
        rights::missing(&client_of(&read).await, &rule(), false).await.unwrap().iter().map(ToString::to_string).collect();
    let said = |what: &str, without: &str| format!("lacks the permission to {what} in namespace check-live: {without}");
    let not_scaled = "replicas stay as they are, which the rule wants changed";
    let not_restored = "a baseline that shrank does not get its replicas back when a rollback gives it the traffic";
    let free = "an autoscaler may shrink the baseline below what a rollback needs";
    assert_eq!(
        missing,
        [
            said("patch virtualservices.networking.istio.io", "the traffic cannot be moved"),
            said("patch deployments.apps", &format!("after a rollback the canary keeps its pod template; {not_scaled}")),
            said("patch deployments/scale.apps", &format!("{not_scaled}; {not_restored}")),
            said("get horizontalpodautoscalers.autoscaling", free),
            said("patch horizontalpodautoscalers.autoscaling", free),
        ]
    );

    let page = blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let election = "{ lease: mine, namespace: check-live }";
        let settings = format!("cluster: {{ kubeconfig: '{}', leader_election: {election} }}\n", read.display());
        let settings = file("canaryd.yaml", &settings);
        let rule = file("shop.yaml", RULE);
        let output =
            Command::new(env!("CARGO_BIN_EXE_canaryd")).arg("check").arg(rule).arg("--live").arg("--config").arg(settings).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    })
    .await;
    for line in [
        "  baseline: Deployment check-live/a: 2 of 2 replicas ready, runs web:v1 (template ",
        "  canary: Deployment check-live/b: 2 of 2 replicas ready, runs web:v1 (template ",
        "  baseline: idle-replicas: 1 is not carried out while an autoscaler keeps 2: write 0, which an autoscaler leaves alone",
        "  cpu: rollback-above 70% is 0.35",
        "  cluster: lacks the permission to patch deployments.apps in namespace check-live: after a rollback",
        "  in the cluster: starts at a new template; replicas follow; after a rollback undo; 1 idle replica of the old version after 24h",
        "  cluster: lacks the permission to create canaryrollouts.canaryd.io in namespace check-live: rollouts are not shown",
        "  cluster: lacks the permission to create events.events.k8s.io in namespace check-live: what is decided is not told",
        "the daemon itself:\n  cluster: lacks the permission to create leases.coordination.k8s.io in namespace check-live: this process never",
        "  cluster: lacks the permission to update leases.coordination.k8s.io \"mine\" in namespace check-live: this process never",
        "  cluster: lacks the permission to list canaryrules.canaryd.io in namespace default: CanaryRule objects are not read\n",
        "  cluster: lacks the permission to patch canaryrules/status.canaryd.io in every namespace: CanaryRule objects do not show",
    ] {
        assert!(page.contains(line), "{line:?} is not in\n{page}");
    }
    assert!(!page.contains("`run` refuses it"), "{page}");
    assert!(!page.contains("of other namespaces"), "read nowhere is said once: {page}");
}
