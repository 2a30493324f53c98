//! What a GitOps controller that applies by server-side apply does to weights we wrote: the notes of the README, seen on the real API
//! server. The controllers themselves are not there; their field managers and the way they apply are.

use super::scene::{self, Case, Scene, blocking, desired, weight};
use crate::rig::kubernetes::{self, ControlPlane};
use canaryd::model::Side;
use serde_json::{Value, json};

const MANAGERS: [&str; 2] = ["argocd-controller", "kustomize-controller"];

/// Applies a manifest as such a controller does; what kubectl said.
async fn apply(plane: &'static ControlPlane, manager: &str, force: bool, manifest: &Value) -> Result<String, String> {
    let (manager, manifest) = (format!("--field-manager={manager}"), manifest.to_string());
    blocking(move || {
        let mut arguments = vec!["apply", "--server-side", &manager, "-f", "-"];
        if force {
            arguments.push("--force-conflicts");
        }
        plane.try_kubectl(&arguments, Some(&manifest))
    })
    .await
}

/// The object in Git: as the case has it, before anybody moved anything.
fn in_git(scene: &Scene) -> Value {
    let mut manifest = scene.case.object.clone();
    manifest["metadata"] = json!({"name": "shop", "namespace": scene.namespace});
    if let Some(annotations) = scene.case.object.pointer("/metadata/annotations") {
        manifest["metadata"]["annotations"] = annotations.clone();
    }
    manifest
}

/// The scene after a first sync and our first weight.
async fn synced(plane: &'static ControlPlane, case: Case, name: &str, manager: &str) -> Scene {
    let scene = Scene::set(plane, case, name).await;
    apply(plane, manager, true, &in_git(&scene)).await.expect("the first sync");
    scene.router(&scene.admin).write(desired(25, 1)).await.unwrap();
    scene
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forced_sync_takes_the_whole_list_of_a_route_and_is_named() {
    let Some(plane) = kubernetes::shared().await else { return };
    for manager in MANAGERS {
        let scene = synced(plane, scene::istio(), &format!("gitops-{manager}"), manager).await;
        let refused = apply(plane, manager, false, &in_git(&scene)).await.unwrap_err();
        assert!(refused.contains("conflict with \"canaryd\"") && refused.contains(".spec.http"), "{refused}");
        apply(plane, manager, true, &in_git(&scene)).await.expect("by force");
        assert_eq!(scene.numbers(&scene.object().await), [100, 0], "the weights are those of Git again");
        let reading = scene.router(&scene.admin).read(Side::Second).await.unwrap();
        assert_eq!((reading.weight, reading.writer.as_deref(), reading.generation), (weight(0), Some(manager), Some(1)));
        // leaving the weights out is worse: the list is one value, and theirs has none
        scene.router(&scene.admin).write(desired(25, 2)).await.unwrap();
        let mut bare = in_git(&scene);
        for entry in [0, 1] {
            bare["spec"]["http"][1]["route"][entry].as_object_mut().unwrap().remove("weight");
        }
        apply(plane, manager, true, &bare).await.expect("by force");
        let route = scene.object().await["spec"]["http"][1]["route"].clone();
        assert!(route[0].get("weight").is_none() && route[1].get("weight").is_none(), "{route}");
        // what respecting ignored differences comes to: the weights that are there are applied
        scene.edit(&json!([{"op": "replace", "path": "/spec/http/1/route", "value": in_git(&scene)["spec"]["http"][1]["route"]}])).await;
        scene.router(&scene.admin).write(desired(25, 3)).await.unwrap();
        let mut respectful = in_git(&scene);
        respectful["spec"]["http"] = scene.object().await["spec"]["http"].clone();
        apply(plane, manager, true, &respectful).await.expect("by force");
        assert_eq!(scene.numbers(&scene.object().await), [75, 25]);
        scene.router(&scene.admin).write(desired(50, 4)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_annotation_that_git_does_not_name_stays_ours() {
    let Some(plane) = kubernetes::shared().await else { return };
    for manager in MANAGERS {
        let scene = synced(plane, scene::nginx_ingress(), &format!("gitops-map-{manager}"), manager).await;
        let mut bare = in_git(&scene);
        bare["metadata"]["annotations"].as_object_mut().unwrap().remove("nginx.ingress.kubernetes.io/canary-weight");
        apply(plane, manager, true, &bare).await.expect("by force");
        let reading = scene.router(&scene.admin).read(Side::Second).await.unwrap();
        assert_eq!((reading.weight, reading.writer.as_deref()), (weight(25), Some("canaryd")));
        apply(plane, manager, true, &in_git(&scene)).await.expect("by force");
        let reading = scene.router(&scene.admin).read(Side::Second).await.unwrap();
        assert_eq!((reading.weight, reading.writer.as_deref()), (weight(0), Some(manager)), "named in Git it is Git's");
    }
}
