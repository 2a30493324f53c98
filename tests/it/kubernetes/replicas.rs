//! The router of replica counts, on real Deployments and their pods.

use super::actions::Shop;
use super::proxy::Proxy;
use super::scene::{OTHER, desired, until_done, weight};
use super::walk::{faults, rest_after};
use crate::rig::kubernetes::client_of;
use canaryd::model::rule::{KubernetesRoute, RouteKind, Traffic};
use canaryd::model::{Retry, Side};
use canaryd::router::{self, Means, Router, RouterError};
use kube::Client;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

impl Shop {
    /// One Service before both, four replicas of the first.
    async fn counted(name: &str) -> Option<Self> {
        let shop = Self::open(name).await?;
        let spec = json!({"selector": {"app": "web"}, "ports": [{"port": 80}]});
        let metadata = json!({"name": "web", "namespace": shop.namespace});
        shop.apply(json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})).await;
        shop.replicas("web-v1", 4).await;
        shop.replicas("web-v2", 0).await;
        shop.until("web-v1", |d| d["status"]["readyReplicas"] == 4).await;
        Some(shop)
    }

    async fn replicas(&self, name: &str, count: u32) {
        self.edit(name, json!([{"op": "add", "path": "/spec/replicas", "value": count}])).await;
    }

    fn router(&self, client: &Client, total: Option<u32>) -> Arc<dyn Router> {
        let kind = RouteKind::Replicas { deployments: ["web-v1", "web-v2"].map(str::to_owned), total };
        let route = KubernetesRoute { namespace: self.namespace.clone(), name: "web".to_owned(), kind };
        router::open(&Traffic::Kubernetes(route), &Means { cluster: Some(client.clone()), ..Means::default() }).expect("there is a cluster")
    }

    async fn counts(&self) -> [Value; 2] {
        [self.get("web-v1").await["spec"]["replicas"].clone(), self.get("web-v2").await["spec"]["replicas"].clone()]
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_walk_beside_another_hand_and_their_sum_stays() {
    let Some(shop) = Shop::counted("replicas-walk").await else { return };
    let proxy = Proxy::start(shop.plane).await;
    let router = shop.router(&proxy.client, None);
    let stop = Arc::new(AtomicBool::new(false));
    let (client, paths, ended) = (shop.admin.clone(), [shop.path("web-v1"), shop.path("web-v2")], Arc::clone(&stop));
    let meddler = tokio::spawn(async move {
        let mut count = 0;
        while !ended.load(Ordering::Acquire) {
            let begun = Instant::now();
            for path in &paths {
                let at = format!("/metadata/annotations/edit-{count}");
                super::scene::edit(&client, path, &json!([{"op": "add", "path": at, "value": "x"}])).await;
            }
            count += 1;
            rest_after(begun).await;
        }
        count
    });
    for (generation, percent, counts) in [(1, 25, [3, 1]), (2, 50, [2, 2]), (3, 100, [0, 4]), (4, 75, [1, 3]), (5, 0, [4, 0])] {
        proxy.next_writes(faults(percent.into()));
        until_done(&*router, desired(percent, generation)).await;
        assert_eq!(shop.counts().await, counts.map(|n| json!(n)), "{percent} %");
        let reading = router.read(Side::Second).await.unwrap();
        assert_eq!((reading.weight, reading.generation, reading.writer.as_deref()), (weight(percent), Some(generation), Some("canaryd")));
        for (name, count) in ["web-v1", "web-v2"].into_iter().zip(counts) {
            let status = shop.get(name).await["status"].clone();
            assert_eq!(status["readyReplicas"].as_u64().unwrap_or(0), count, "{name} at {percent} %: {status}");
        }
    }
    assert_eq!(proxy.left(), 0, "each fault was met");
    stop.store(true, Ordering::Release);
    let edits: u64 = meddler.await.unwrap();
    for name in ["web-v1", "web-v2"] {
        let annotations = shop.get(name).await["metadata"]["annotations"].clone();
        assert!((0..edits).all(|n| annotations[format!("edit-{n}")] == "x"), "one of {edits} edits of {name} was lost");
        assert_eq!(annotations["canaryd.io/replicas-total"], "4");
    }
    let error = router.write(desired(25, 4)).await.unwrap_err();
    assert!(matches!(error, RouterError::Refused { .. }) && error.to_string().contains("newer"), "{error}");
    shop.replicas("web-v2", 1).await;
    let reading = router.read(Side::Second).await.unwrap();
    assert_eq!((reading.weight, reading.writer.as_deref()), (weight(20), Some(OTHER)), "one of five");
    until_done(&*router, desired(25, 6)).await;
    assert_eq!(shop.counts().await, [json!(3), json!(1)], "the sum noted counts, not the one another hand made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_replicas_cannot_do_is_refused() {
    let Some(shop) = Shop::counted("replicas-refuse").await else { return };
    let router = shop.router(&shop.admin, None);
    let error = router.write(desired(10, 1)).await.unwrap_err();
    assert!(error.to_string().contains("10% of 4 replicas is no whole number: write total: in the rule"), "{error}");
    until_done(&*shop.router(&shop.admin, Some(10)), desired(10, 1)).await;
    assert_eq!(shop.counts().await, [json!(9), json!(1)]);
    shop.scaled("web-v2", 1, 10).await;
    let error = router.write(desired(50, 2)).await.unwrap_err();
    assert!(matches!(error, RouterError::Refused { .. }) && error.retry() == Retry::OnChange, "{error}");
    assert!(error.to_string().contains("HorizontalPodAutoscaler web-v2-hpa scales Deployment replicas-refuse/web-v2"), "{error}");
    assert_eq!(shop.counts().await, [json!(9), json!(1)]);
    until_done(&*router, desired(0, 3)).await;
    assert_eq!(shop.counts().await, [json!(10), json!(0)], "back is always possible");
    let (plane, namespace) = (shop.plane, shop.namespace.clone());
    super::scene::blocking(move || {
        plane.kubectl(&["delete", "hpa", "web-v2-hpa", "-n", &namespace]);
        plane.kubectl(&["set", "selector", "service", "web", "track=web-v1", "-n", &namespace])
    })
    .await;
    let error = router.write(desired(50, 4)).await.unwrap_err();
    let said = "Service replicas-refuse/web: does not select the pods of Deployment replicas-refuse/web-v2: its selector must match both";
    assert_eq!(error.to_string(), said);
    let reads = json!([{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]}]);
    let reader = client_of(&{
        let (plane, namespace) = (shop.plane, shop.namespace.clone());
        super::scene::blocking(move || plane.service_account(&namespace, "reader", &reads)).await
    })
    .await;
    let error = shop.router(&reader, None).write(desired(0, 5)).await.unwrap_err();
    assert!(matches!(error, RouterError::Denied { .. }) && error.to_string().contains("permission to patch deployments.apps"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_permission_replicas_lack_is_named() {
    let Some(shop) = Shop::counted("replicas-denied").await else { return };
    let rule = |group: &str, resource: &str, verb: &str| json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]});
    let wanted = [
        ("apps", "deployments", "get", "get deployments.apps"),
        ("", "services", "get", "get services"),
        ("autoscaling", "horizontalpodautoscalers", "list", "list horizontalpodautoscalers.autoscaling"),
        ("apps", "deployments", "patch", "patch deployments.apps"),
    ];
    let rules = wanted.map(|(group, resource, verb, _)| rule(group, resource, verb));
    for (granted, (.., lacks)) in wanted.iter().enumerate() {
        let account = shop.account(&format!("has-{granted}"), &rules[..granted]).await;
        let error = shop.router(&account, None).write(desired(50, 1)).await.unwrap_err();
        assert!(matches!(error, RouterError::Denied { .. }) && error.retry() == Retry::OnChange, "{error}");
        assert!(error.to_string().contains(&format!("needs the permission to {lacks} in namespace replicas-denied")), "{error}");
    }
    let account = shop.account("has-all", &rules).await;
    until_done(&*shop.router(&account, None), desired(50, 1)).await;
    assert_eq!(shop.counts().await, [json!(2), json!(2)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_does_not_become_ready_takes_no_replica_of_the_baseline() {
    let Some(shop) = Shop::counted("replicas-unready").await else { return };
    let sick = json!([{"op": "add", "path": "/spec/template/metadata/annotations/sim~1behaviour", "value": "unready"}]);
    shop.edit("web-v2", sick).await;
    let router = shop.router(&shop.admin, None);
    let error = router.write(desired(50, 1)).await.unwrap_err();
    assert!(matches!(error, RouterError::NotVerified { .. }) && matches!(error.retry(), Retry::After(_)), "{error}");
    // its controller may not have seen the number yet, where there is much to do
    let said = error.to_string();
    assert!(said.contains("4 of 4 and 0 of 2 replicas are ready") || said.contains("has not seen"), "{error}");
    assert_eq!(shop.counts().await, [json!(4), json!(2)], "there is more capacity on the way, never less");
    until_done(&*router, desired(0, 2)).await;
    assert_eq!(shop.counts().await, [json!(4), json!(0)]);
}
