//! The shipped Role for routes is enough for every router; without it the error names what is missing.

use super::scene::{self, Scene, blocking, desired, until_done};
use crate::rig::kubernetes::{self, client_of};
use canaryd::model::{Retry, Side};
use canaryd::router::RouterError;
use serde_json::{Value, json};
use std::path::Path;

/// Rules of the ClusterRole in `deploy/` of this name.
pub(super) fn shipped(name: &str) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes/rbac").join(format!("{name}.yaml"));
    let text = std::fs::read_to_string(&file).expect("it is shipped");
    let role: Value = serde_saphyr::from_str(&text).expect("YAML");
    assert_eq!(role["kind"], "ClusterRole");
    role["rules"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shipped_role_for_routes_is_enough_for_every_router() {
    let Some(plane) = kubernetes::shared().await else { return };
    for (n, case) in scene::all().into_iter().enumerate() {
        let word = case.kind.word();
        let scene = Scene::set(plane, case.clone(), &format!("rights-{n}")).await;
        let namespace = scene.namespace.clone();
        let account = blocking(move || plane.service_account(&namespace, "canaryd", &shipped("route-write"))).await;
        let router = scene.router(&client_of(&account).await);
        let gateway = word == "gateway-api";
        for (generation, percent) in [(1, 100), (2, 0)] {
            if gateway {
                // its gateway answers while we wait for it
                let (admin, path) = (scene.admin.clone(), scene.path.clone());
                let agrees = tokio::spawn(async move {
                    loop {
                        scene::agree(&admin, &path).await;
                        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    }
                });
                until_done(&*router, desired(percent, generation)).await;
                agrees.abort();
            } else {
                router.write(desired(percent, generation)).await.unwrap_or_else(|e| panic!("{word}: {e}"));
            }
        }
        assert_eq!(scene.numbers(&scene.object().await)[1], 0, "{word}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permission_that_is_missing_is_named() {
    let Some(plane) = kubernetes::shared().await else { return };
    let scene = Scene::set(plane, scene::istio(), "rights-missing").await;
    let denied = |error: RouterError| {
        assert!(matches!(error, RouterError::Denied { .. }) && error.retry() == Retry::OnChange, "{error}");
        assert_eq!(error.reason(), "denied");
        error.to_string()
    };
    let nobody = scene.router(&plane.client("nobody").await);
    let error = denied(nobody.read(Side::Second).await.unwrap_err());
    let wanted =
        "VirtualService rights-missing/shop: needs the permission to get virtualservices.networking.istio.io in namespace rights-missing";
    assert!(error.starts_with(wanted), "{error}");
    let reads = json!([{"apiGroups": ["networking.istio.io"], "resources": ["virtualservices"], "verbs": ["get"]}]);
    let account = blocking(move || plane.service_account("rights-missing", "reader", &reads)).await;
    let reader = scene.router(&client_of(&account).await);
    assert!(reader.read(Side::Second).await.is_ok());
    let error = denied(reader.write(desired(5, 1)).await.unwrap_err());
    assert!(error.contains("permission to patch virtualservices.networking.istio.io in namespace rights-missing"), "{error}");
    assert_eq!(scene.numbers(&scene.object().await), [100, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_is_not_there_is_named() {
    let Some(plane) = kubernetes::shared().await else { return };
    let scene = Scene::set(plane, scene::istio(), "rights-absent").await;
    blocking(move || plane.kubectl(&["delete", "virtualservice", "shop", "-n", "rights-absent"])).await;
    let error = scene.router(&scene.admin).read(Side::Second).await.unwrap_err();
    assert_eq!(error.to_string(), "VirtualService rights-absent/shop: does not exist");
    assert!(matches!(error, RouterError::Object { .. }));
}
