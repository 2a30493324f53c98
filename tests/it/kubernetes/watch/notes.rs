//! What a rollout notes at its start.

use super::Shop;
use crate::rig::kubernetes;
use canaryd::cluster::{Earlier, identity};
use canaryd::model::{Resources, Side};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_notes_what_its_actions_go_back_to() {
    let Some(plane) = kubernetes::shared().await else { return };
    let shop = Shop::open(plane, "watch-notes").await;
    shop.stock().await;
    let noted = shop.cluster.note(&shop.pair(), Side::Second).await.unwrap();
    assert_eq!((noted.baseline_ready, noted.canary_wanted), (2, 1));
    assert_eq!((noted.template_before, noted.baseline_floor, noted.canary_floor), (None, None, None));
    assert_eq!(noted.warnings, Vec::<String>::new());
    // two pushes, and nothing is known of either: the one before is v2, by its revision and not by its name
    let first = shop.cluster.release(&shop.target("web-b")).unwrap().expect("it is there");
    shop.deploy("web-b", 1, "web:v2", "").await;
    shop.runs("web-b", "web:v2").await;
    shop.deploy("web-b", 1, "web:v3", "").await;
    let release = shop.runs("web-b", "web:v3").await;
    let scaler = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web-a", "namespace": "watch-notes"},
        "spec": {"minReplicas": 2, "maxReplicas": 9, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web-a"}}});
    let other = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "other", "namespace": "watch-notes"},
        "spec": {"minReplicas": 7, "maxReplicas": 9, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web-a"}}});
    super::blocking(move || plane.apply(&json!({"apiVersion": "v1", "kind": "List", "items": [scaler, other]}))).await;
    let noted = shop.cluster.note(&shop.pair(), Side::Second).await.unwrap();
    assert_eq!((noted.baseline_floor, noted.canary_floor, &noted.template), (Some(2), None, &release.template));
    let mebibytes = |n: u64| Some(n << 20);
    let resources = Resources { cpu_request: Some(10), cpu_limit: None, memory_request: mebibytes(16), memory_limit: mebibytes(64) };
    assert_eq!(noted.resources, resources);
    let before: Value = serde_json::from_str(&noted.template_before.unwrap()).unwrap();
    assert_eq!(before.pointer("/spec/containers/0/image"), Some(&json!("web:v2")));
    assert_eq!(before.pointer("/metadata/labels"), Some(&json!({"app": "web-b"})), "nothing of the ReplicaSet's own");
    assert_ne!(identity(&before), release.template);
    // what a rollout raised that was ended before it gave it back: the next one finds what it was
    let left = r#"{"metadata": {"annotations": {"canaryd.io/min-replicas": "1"}}, "spec": {"minReplicas": 3}}"#;
    shop.kubectl(&["patch", "hpa", "web-a", "--type=merge", "--field-manager=canaryd", "-p", left]).await;
    let left = shop.cluster.note(&shop.pair(), Side::Second).await.unwrap();
    assert_eq!(left.baseline_floor, Some(1));
    let said = "autoscaler of Deployment watch-notes/web-a: a rollout has raised its minimum from 1 to 3; if that is over, the next one";
    assert!(matches!(left.warnings.as_slice(), [one] if one.starts_with(said)), "{:?}", left.warnings);
    // what is known of them counts more
    let image = async |earlier: Earlier| {
        let noted = shop.cluster.note_after(&shop.pair(), Side::Second, &earlier).await.unwrap();
        let before = noted.template_before.map(|before| serde_json::from_str::<Value>(&before).unwrap());
        before.and_then(|before| before.pointer("/spec/containers/0/image").cloned())
    };
    let was = Some(json!("web:v1"));
    assert_eq!(
        image(Earlier { good: vec![first.template.clone()], ..Earlier::default() }).await,
        was,
        "it had that when nothing was on trial"
    );
    assert_eq!(image(Earlier { bad: [identity(&before)].into(), ..Earlier::default() }).await, was, "v2 was rolled back");
    assert_eq!(image(Earlier { bad: [identity(&before), first.template].into(), ..Earlier::default() }).await, None);
    // going back to it is going back to the release it was
    let undo = json!([{"op": "replace", "path": "/spec/template", "value": before}]).to_string();
    shop.kubectl(&["patch", "deployment", "web-b", "--type=json", "-p", &undo]).await;
    super::until("v2 again", || {
        shop.cluster.release(&shop.target("web-b")).unwrap().filter(|r| r.template == identity(&before) && r.ready)
    })
    .await;
    let revisions = shop.kubectl(&["get", "replicasets", "-l", "app=web-b", "-o", "name"]).await;
    assert_eq!(revisions.lines().count(), 3, "no new ReplicaSet: {revisions}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_done_later_is_said_at_the_start() {
    let Some(plane) = kubernetes::shared().await else { return };
    let shop = Shop::open(plane, "watch-warned").await;
    shop.stock().await;
    let patch = r#"{"spec": {"paused": true, "revisionHistoryLimit": 0}}"#;
    shop.kubectl(&["patch", "deployment", "web-b", "-p", patch]).await;
    let noted = shop.cluster.note(&shop.pair(), Side::Second).await.unwrap();
    assert_eq!(noted.warnings.len(), 2, "{:?}", noted.warnings);
    assert!(noted.warnings[0].starts_with("Deployment watch-warned/web-b is paused") && noted.warnings[1].contains("revisionHistoryLimit"));
    shop.kubectl(&["delete", "deployment", "web-a"]).await;
    let noted = shop.cluster.note(&shop.pair(), Side::Second).await.unwrap();
    assert_eq!((noted.baseline_ready, noted.warnings.len()), (0, 3), "{:?}", noted.warnings);
    let error = shop.cluster.note(&shop.pair(), Side::First).await.unwrap_err();
    assert_eq!(error, "Deployment watch-warned/web-a: does not exist");
}
