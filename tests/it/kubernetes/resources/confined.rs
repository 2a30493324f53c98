//! Whoever may write a CanaryRule in one namespace does nothing in another, though canaryd may.

use super::{ONE, deployment, install, object, spec, until};
use crate::kubernetes::lease::{One, Shared};
use crate::kubernetes::scene::{self, Scene, blocking};
use crate::rig::kubernetes::{self, ControlPlane};
use serde_json::{Value, json};
use std::fs;

/// What is refused, as the condition says it.
const FOREIGN: [&str; 2] = [
    "canaryrule strangers/steal: workloads.namespace: \"theirs\" is not \"strangers\", the namespace of this object",
    "canaryrule strangers/steal: traffic.istio.namespace: \"theirs\" is not \"strangers\", the namespace of this object",
];

/// Who has written into the objects of a namespace, by the cluster's own account.
fn writers(plane: &ControlPlane) -> String {
    let of = "jsonpath={range .items[*]}{.kind} {.metadata.name}:{range .metadata.managedFields[*]} {.manager}{end}{\"\\n\"}{end}";
    plane.kubectl(&["get", "deployments,virtualservices", "-n", "theirs", "-o", of])
}

/// The rule of [`Shared`] with Deployments, of which the namespace is named by itself.
fn of_theirs(shared: &Shared) -> Value {
    let mut spec = spec(&shared.rule());
    let version = |n: &str| json!({"cluster": n, "subset": n, "deployment": format!("shop-{n}")});
    spec["workloads"] = json!({"namespace": "theirs", "pair": [version("v1"), version("v2")]});
    spec["traffic"]["istio"]["namespace"] = "theirs".into();
    spec
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_moves_nothing_of_another_namespace_unless_the_settings_allow_it() {
    let Some(plane) = kubernetes::shared().await else { return };
    let scene = Scene::set(plane, scene::istio(), "theirs").await;
    let shared = Shared::new(&scene).await;
    let foreign = of_theirs(&shared);
    blocking(move || {
        install(plane);
        plane.namespace("strangers");
        ["shop-v1", "shop-v2"].iter().for_each(|name| plane.apply(&deployment(name, "theirs")));
        // the operator's own rule stands aside
        fs::write(shared.folder.path().join("rule.yaml"), shared.rule() + "mode: observe\n").unwrap();
        let _one = ONE.lock();
        let condition = |field: &str, right: &dyn Fn(&str) -> bool| {
            let path = format!("jsonpath={{.status.conditions[?(@.type==\"Accepted\")].{field}}}");
            until(plane, "steal", &["get", "canaryrule", "steal", "-n", "strangers", "-o", &path], right)
        };

        // canaryd itself has every right
        let mut daemon = One::start_with(&shared, "confined", &json!({ "kubeconfig": plane.kubeconfig("admin") }));
        daemon.until_ready();
        let mut own = foreign.clone();
        own["workloads"]["namespace"] = "strangers".into();
        own["traffic"]["istio"]["namespace"] = "strangers".into();
        plane.apply(&object("steal", "strangers", &own));
        condition("status", &|said| said == "True");
        plane.apply(&object("steal", "strangers", &foreign));
        condition("status", &|said| said == "False");
        let why = condition("message", &|said| FOREIGN.iter().all(|line| said.contains(line)));
        for said in ["an earlier version stays in force", "make it an object of namespace theirs", "cluster: { resources: anywhere }"] {
            assert!(why.contains(said), "{said}: {why}");
        }
        // what is in force is what it said of its own namespace, where there is nothing
        let started = daemon.send("POST", "/api/v1/rules/steal/start", "{\"version\": \"2\"}");
        assert!(!(200..300).contains(&started.status), "{}", started.text());
        let before = writers(plane);
        assert!(before.contains("VirtualService shop:") && before.contains("Deployment shop-v2:"), "{before}");
        assert!(!before.contains("canaryd"), "{before}");
        assert!(daemon.process.stop().success(), "{}", daemon.process.log());

        // the same object, where the operator says so
        let daemon = One::start_with(&shared, "anywhere", &json!({ "kubeconfig": plane.kubeconfig("admin"), "resources": "anywhere" }));
        daemon.until_ready();
        condition("status", &|said| said == "True");
        let started = daemon.send("POST", "/api/v1/rules/steal/start", "{\"version\": \"2\"}");
        assert!((200..300).contains(&started.status), "{}", started.text());
        let weights = "jsonpath={.spec.http[1].route[*].weight}";
        until(plane, "its weights", &["get", "virtualservice", "shop", "-n", "theirs", "-o", weights], |said| said == "50 50");
        let after = writers(plane);
        assert!(after.lines().any(|line| line.starts_with("VirtualService shop:") && line.contains(" canaryd")), "{after}");
        plane.kubectl(&["delete", "canaryrule", "steal", "-n", "strangers"]);
    })
    .await;
}
