//! The shipped Role for routes is enough for every router; without it the error names what is missing.

use super::check;
use super::scene::{self, Scene, blocking, desired, until_done};
use crate::rig::kubernetes::{self, client_of};
use canaryd::cluster::rights::{Right, needed, needed_by_daemon};
use canaryd::model::Rule;
use canaryd::model::rule::{AfterRollback, KubernetesRoute, Mode, Promotion, Replicas, RouteKind, Traffic};
use canaryd::model::{Retry, Side};
use canaryd::router::RouterError;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

/// Rules of the ClusterRole in `deploy/` of this name.
pub(super) fn shipped(name: &str) -> Value {
    let (kind, rules) = role(&format!("rbac/{name}.yaml"));
    assert_eq!(kind, "ClusterRole");
    rules
}

/// Rules of the Role of the Lease `canaryd`.
pub(super) fn shipped_for_the_lease() -> Value {
    let (kind, rules) = role("standby/leases.yaml");
    assert_eq!(kind, "Role");
    rules
}

/// The kind and the rules of the first object in a file of `deploy/kubernetes`.
fn role(file: &str) -> (String, Value) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes").join(file);
    let text = std::fs::read_to_string(&file).expect("it is shipped");
    let first = text.split("\n---\n").next().unwrap_or_default();
    let role: Value = serde_saphyr::from_str(first).expect("YAML");
    (role["kind"].as_str().expect("a kind").to_owned(), role["rules"].clone())
}

/// Verb, group and resource of everything that these rules of Roles give.
fn given(rules: &Value) -> BTreeSet<[String; 3]> {
    let texts = |list: &Value| list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let mut all = BTreeSet::new();
    for rule in rules.as_array().unwrap() {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                all.extend(texts(&rule["verbs"]).into_iter().map(|verb| [verb, group.clone(), resource.clone()]));
            }
        }
    }
    all
}

fn asked(rights: Vec<Right>) -> BTreeSet<[String; 3]> {
    rights.into_iter().map(|right| [right.verb, right.group, right.resource].map(str::to_owned)).collect()
}

/// Every kind of route, with everything a rule may want besides.
fn rules_of_every_kind(mode: Mode) -> Vec<Rule> {
    let deployments = ["a", "b"].map(str::to_owned);
    let ours = [RouteKind::Replicas { deployments, total: None }, RouteKind::RollingUpdate];
    let kinds = scene::all().into_iter().map(|case| case.kind).chain(ours);
    let promotions = [Promotion::Copy, check::rule().promotion];
    let of = |(n, kind): (usize, RouteKind)| {
        let traffic = Traffic::Kubernetes(KubernetesRoute { namespace: "shop".to_owned(), name: "shop".to_owned(), kind });
        let after_rollback = if n % 2 == 0 { AfterRollback::Undo } else { AfterRollback::ScaleDown };
        Rule { traffic, mode, after_rollback, replicas: Replicas::Follow, promotion: promotions[n % 2], ..check::rule() }
    };
    kinds.enumerate().map(of).collect()
}

#[test]
fn the_shipped_roles_give_exactly_what_is_asked_for() {
    let all = |mode| rules_of_every_kind(mode).iter().flat_map(|rule| asked(needed(rule, false))).collect::<BTreeSet<_>>();
    let parts = |names: &[&str]| names.iter().flat_map(|name| given(&shipped(name))).collect::<BTreeSet<_>>();
    assert_eq!(all(Mode::Observe), parts(&["read"]));
    assert_eq!(all(Mode::Enforce), parts(&["read", "route-write", "workload-write"]));
    let shown = asked(needed(&check::rule(), true)).difference(&asked(needed(&check::rule(), false))).cloned().collect::<BTreeSet<_>>();
    let own = asked(needed_by_daemon("canaryd", None, true));
    assert_eq!(own.union(&shown).cloned().collect::<BTreeSet<_>>(), parts(&["resources"]));
    let lease = asked(needed_by_daemon("canaryd", Some((None, "canaryd")), false));
    assert_eq!(lease, given(&shipped_for_the_lease()));
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
    let denied = |error: RouterError| {
        assert!(matches!(error, RouterError::Denied { .. }) && error.retry() == Retry::OnChange, "{error}");
        assert_eq!(error.reason(), "denied");
        error.to_string()
    };
    for (n, case) in scene::all().into_iter().enumerate() {
        let namespace = format!("rights-missing-{n}");
        let scene = Scene::set(plane, case.clone(), &namespace).await;
        let [api, kind] = ["apiVersion", "kind"].map(|key| case.object[key].as_str().unwrap());
        let group = api.split_once('/').map_or("", |(group, _)| group);
        let resource = format!("{}.{group}", case.plural);
        let resource = resource.trim_end_matches('.');
        let nobody = scene.router(&plane.client("nobody").await);
        let error = denied(nobody.read(Side::Second).await.unwrap_err());
        let wanted = format!("{kind} {namespace}/shop: needs the permission to get {resource} in namespace {namespace}");
        assert!(error.starts_with(&wanted), "{error}");
        let reads = json!([{"apiGroups": [group], "resources": [case.plural], "verbs": ["get"]}]);
        let account = blocking(move || plane.service_account(&namespace, "reader", &reads)).await;
        let reader = scene.router(&client_of(&account).await);
        assert!(reader.read(Side::Second).await.is_ok(), "{kind}");
        let error = denied(reader.write(desired(100, 1)).await.unwrap_err());
        let wanted = format!("needs the permission to patch {resource} in namespace {}", scene.namespace);
        assert!(error.contains(&wanted), "{error}");
        assert_eq!(scene.numbers(&scene.object().await)[1], 0, "{kind}");
    }
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
