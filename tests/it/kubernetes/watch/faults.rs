//! Watches that break, expire or are denied: no false sign, no lost pod, no false release, and no word about what was not looked at.

use super::super::proxy::Proxy;
use super::{DONE_MAX, Shop, blocking, now, until};
use crate::rig::kubernetes;
use canaryd::model::{PodSigns, Side};
use serde_json::json;
use std::time::Instant;

/// What an API server says in a watch of a version it has forgotten.
const EXPIRED: &str = concat!(
    r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","#,
    r#""message":"too old resource version: 1 (8338)","reason":"Expired","code":410}}"#,
    "\n"
);
/// What it says when it cannot go on for another reason; and no JSON at all.
const BROKEN: [&str; 2] = [
    r#"{"type":"ERROR","object":{"kind":"Status","status":"Failure","message":"etcd is gone","code":500}}
"#,
    "<html>bad gateway</html>\n",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_that_expire_or_break_lose_nothing_and_make_up_nothing() {
    let Some(plane) = kubernetes::shared().await else { return };
    let proxy = Proxy::start(plane).await;
    let shop = Shop::open_by(plane, "watch-expired", proxy.client.clone()).await;
    shop.stock().await;
    let (begin, pair) = (now(), shop.pair());
    let first = shop.ready("web-b").await;
    let before = shop.pods(&shop.target("web-b"), begin);
    let changes = shop.cluster.changes(&pair);
    for round in 0..3 {
        // all four are cut; what they ask next has expired, or is no answer
        match round {
            0 => proxy.next_watches([EXPIRED; 4]),
            1 => proxy.next_watches([BROKEN[0], BROKEN[1], EXPIRED, BROKEN[0]]),
            _ => {}
        }
        proxy.cut();
        until("they were met", || (proxy.watches_left() == 0).then_some(())).await;
        assert_eq!(shop.cluster.release(&shop.target("web-b")), Ok(Some(first.clone())), "known all the while");
    }
    let seen = shop.cluster.seen(&pair, Side::Second, begin).unwrap();
    assert_eq!((seen.canary.signs, seen.canary.ready, seen.baseline.ready), (PodSigns::default(), 1, 2));
    assert_eq!(shop.pods(&shop.target("web-b"), begin), before);
    assert!(shop.metrics.text().contains(r#"canaryd_watch_failures_total{kind="pods",reason="unreachable"}"#), "they did break");
    // while nobody looks a pod goes, another comes
    proxy.set_down(true);
    proxy.cut();
    shop.kubectl(&["delete", "pod", "-l", "app=web-b"]).await;
    let begun = Instant::now();
    while shop.kubectl(&["get", "pods", "-l", "app=web-b", "-o", "jsonpath={.items[*].status.containerStatuses[*].ready}"]).await != "true"
    {
        assert!(begun.elapsed() < DONE_MAX, "no other pod");
    }
    proxy.next_watches([EXPIRED; 4]);
    proxy.set_down(false);
    until("they were met", || (proxy.watches_left() == 0).then_some(())).await;
    let all = shop.pods_once(&shop.target("web-b"), begin, |pods| pods.len() == 2 && pods.iter().filter(|p| p.ready).count() == 1).await;
    assert!(all.iter().any(|p| p.name == before[0].name && !p.ready), "{all:?}");
    let seen = shop.seen("all is well", begin, |s| s.canary.ready == 1).await;
    assert_eq!(seen.canary.signs, PodSigns::default());
    assert_eq!(shop.ready("web-b").await, first, "no release");
    assert!(shop.cluster.changes(&pair) > changes);
    // a watch that met its end lists a moment later
    let whole = 4 + 4 + 1 + 4;
    until("every list", || (lists(&shop.metrics.text()) >= whole).then_some(())).await;
    assert_eq!(
        lists(&shop.metrics.text()),
        whole,
        "one for each kind, and one for each that expired; what only broke goes on where it was"
    );
}

/// Lists that were taken in, of all kinds.
fn lists(metrics: &str) -> u32 {
    let listed = metrics.lines().filter(|l| l.starts_with("canaryd_watch_changes_total{") && l.contains(r#"what="listed""#));
    listed.map(|l| l.rsplit(' ').next().unwrap().parse::<u32>().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_looked_at_for_long_is_not_known() {
    let Some(plane) = kubernetes::shared().await else { return };
    let proxy = Proxy::start(plane).await;
    let shop = Shop::open_by(plane, "watch-stale", proxy.client.clone()).await;
    shop.stock().await;
    let begin = now();
    let mut changed = shop.cluster.changed();
    proxy.set_down(true);
    proxy.cut();
    changed.changed().await.unwrap();
    assert!(shop.cluster.release(&shop.target("web-b")).is_ok(), "a broken watch is mended first");
    let why = until("too long ago", || shop.cluster.seen(&shop.pair(), Side::Second, begin).err()).await;
    assert!(why.contains(" of namespace watch-stale: not looked for 6") && why.ends_with("made up by the proxy (503)"), "{why}");
    assert!(shop.cluster.release(&shop.target("web-b")).is_err() && shop.cluster.pods(&shop.target("web-b"), begin, now()).is_none());
    proxy.set_down(false);
    let seen = shop.seen("looked again", begin, |s| s.canary.ready == 1).await;
    assert_eq!(seen.canary.signs, PodSigns::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permission_that_is_missing_is_named() {
    let Some(plane) = kubernetes::shared().await else { return };
    let shop = Shop::open(plane, "watch-denied").await;
    shop.stock().await;
    let nobody = shop.seen_as(&plane.kubeconfig("nobody")).await;
    nobody.follow(&shop.pair());
    let why = until("denied", || nobody.release(&shop.target("web-b")).err().filter(|e| e.contains("permission"))).await;
    let wanted =
        "deployments of namespace watch-denied: not looked yet: needs the permission to list deployments.apps in namespace watch-denied";
    assert!(why.starts_with(wanted), "{why}");
    let why = nobody.note(&shop.pair(), Side::Second).await.unwrap_err();
    assert!(why.starts_with("Deployment watch-denied/web-b: needs the permission to get deployments.apps"), "{why}");
    // without events and autoscalers it goes, and what is lost by it is said
    let rules = json!([
        {"apiGroups": ["apps"], "resources": ["deployments", "replicasets"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}]);
    let account = blocking(move || plane.service_account("watch-denied", "reader", &rules)).await;
    let reader = shop.seen_as(&account).await;
    reader.follow(&shop.pair());
    until("ready", || reader.release(&shop.target("web-b")).ok().flatten().filter(|r| r.ready)).await;
    let mut warnings = Vec::new();
    until("events are denied", || reader.seen(&shop.pair(), Side::Second, now()).ok()).await;
    let begun = Instant::now();
    while begun.elapsed() < DONE_MAX {
        warnings = reader.note(&shop.pair(), Side::Second).await.unwrap().warnings;
        if warnings.len() == 3 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let lost = [
        "autoscaler of Deployment watch-denied/web-a: needs the permission to list horizontalpodautoscalers.autoscaling",
        "autoscaler of Deployment watch-denied/web-b: needs the permission to list horizontalpodautoscalers.autoscaling",
        "failed probes are only seen where they make a pod unready: needs the permission to list events in namespace watch-denied",
    ];
    for (said, wanted) in warnings.iter().zip(lost) {
        assert!(said.starts_with(wanted), "{said}");
    }
    assert_eq!(warnings.len(), lost.len(), "{warnings:?}");
}
