//! A whole rollout over a VirtualService: another hand takes its weight, and its API server goes away.

use super::proxy::Proxy;
use super::scene::{self, OTHER, Scene, weight};
use crate::in_process::Running;
use crate::rig::kubernetes;
use canaryd::model::{State, Topic};
use canaryd::router::Means;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// For everything that must happen soon.
const SOON: Duration = Duration::from_secs(120);

fn rule(namespace: &str, foreign: &str) -> String {
    format!(
        "rule: shop
workloads: {{ namespace: {namespace}, pair: [ {{ cluster: v1, subset: v1 }}, {{ cluster: v2, subset: v2 }} ] }}
telemetry: [ envoy ]
traffic: {{ istio: {{ virtual-service: shop, route: primary }} }}
promotion: swap
drain: 100ms
policies: {{ foreign: {foreign} }}
steps: [ {{ weight: 50%, for: 1h }}, {{ weight: 100%, bake: 1h }} ]
metrics:
  error-rate: {{ tolerate: {{ relative: 20%, absolute: 0.5% }} }}
"
    )
}

/// Waits until both numbers are these.
async fn until_numbers(scene: &Scene, wanted: [u64; 2]) {
    let look = async {
        while scene.numbers(&scene.object().await) != wanted {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, look).await.unwrap_or_else(|_| panic!("not {wanted:?} within {SOON:?}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_hand_is_named_and_its_weight_written_over() {
    let Some(plane) = kubernetes::shared().await else { return };
    let scene = Scene::set(plane, scene::istio(), "rollout-reassert").await;
    let folder = tempfile::tempdir().unwrap();
    let means = Means { cluster: Some(scene.admin.clone()), ..Means::default() };
    let mut running = Running::up_with(&folder, &rule(&scene.namespace, "reassert"), means).await;
    running.start("2").await;
    running.until("at 50 %", |v| v.weight_seen == Some(weight(50))).await;
    assert_eq!(scene.numbers(&scene.object().await), [50, 50]);
    scene.edit(&scene.case.takes).await;
    let notice = running.until_told(OTHER, |notice| notice.text.contains(OTHER)).await;
    assert!(notice.text.contains("30%") && notice.text.contains("writing 50% again"), "{notice:?}");
    until_numbers(&scene, [50, 50]).await;
    running.roll_back().await;
    running.until("rolled back", |v| v.state == State::RolledBack).await;
    assert_eq!(scene.numbers(&scene.object().await), [100, 0]);
    running.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_hand_is_yielded_to_where_the_rule_says_so() {
    let Some(plane) = kubernetes::shared().await else { return };
    let scene = Scene::set(plane, scene::istio(), "rollout-yield").await;
    let folder = tempfile::tempdir().unwrap();
    let means = Means { cluster: Some(scene.admin.clone()), ..Means::default() };
    let running = Running::up_with(&folder, &rule(&scene.namespace, "yield"), means).await;
    running.start("2").await;
    running.until("at 50 %", |v| v.weight_seen == Some(weight(50))).await;
    scene.edit(&scene.case.takes).await;
    let view = running.until("paused", |v| matches!(v.state, State::Paused(_))).await;
    assert!(matches!(&view.state, State::Paused(paused) if paused.why.contains(OTHER)), "{:?}", view.state);
    assert_eq!(scene.numbers(&scene.object().await), [70, 30], "left as it is");
    running.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_is_away_holds_the_rollout_and_nothing_is_written_twice() {
    let Some(plane) = kubernetes::shared().await else { return };
    let scene = Scene::set(plane, scene::istio(), "rollout-away").await;
    let proxy = Proxy::start(plane).await;
    let folder = tempfile::tempdir().unwrap();
    let means = Means { cluster: Some(proxy.client.clone()), ..Means::default() };
    let mut running = Running::up_with(&folder, &rule(&scene.namespace, "reassert"), means).await;
    running.start("2").await;
    running.until("at 50 %", |v| v.weight_seen == Some(weight(50))).await;
    proxy.set_down(true);
    running.roll_back().await;
    running.until("stuck", |v| matches!(&v.state, State::Stuck(stuck) if stuck.tries >= 3 && stuck.why.contains("503"))).await;
    assert_eq!(scene.numbers(&scene.object().await), [50, 50]);
    proxy.set_down(false);
    running.until("rolled back", |v| v.state == State::RolledBack).await;
    assert_eq!(scene.numbers(&scene.object().await), [100, 0]);
    assert_eq!(proxy.passed(), [200, 200], "one write to 50 %, one to 0");
    running.told.close();
    let mut topics = Vec::new();
    while let Some(told) = running.told.recv().await {
        topics.push(told.notice.topic);
    }
    assert!(topics.contains(&Topic::Stuck), "somebody is paged: {topics:?}");
    running.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stderr, reason = "for whoever runs it with --nocapture")]
async fn another_hand_is_seen_by_the_watch_and_not_by_the_next_tick() {
    let Some(plane) = kubernetes::shared().await else { return };
    let scene = Scene::set(plane, scene::istio(), "rollout-watch").await;
    let folder = tempfile::tempdir().unwrap();
    let means = Means { cluster: Some(scene.admin.clone()), ..Means::default() };
    let text = rule(&scene.namespace, "reassert").replace("drain:", "interval: 5m\ndrain:");
    let mut running = Running::up_with(&folder, &text, means).await;
    running.start("2").await;
    running.until("at 50 %", |v| v.weight_seen == Some(weight(50))).await;
    let mut took = Vec::new();
    for _ in 0..3 {
        let begun = Instant::now();
        scene.edit(&scene.case.takes).await;
        running.until_told(OTHER, |notice| notice.text.contains(OTHER)).await;
        took.push(begun.elapsed());
        until_numbers(&scene, [50, 50]).await;
        running.until("seen again", |v| v.weight_seen == Some(weight(50))).await;
    }
    took.sort();
    eprintln!("another hand was told after {took:?}");
    running.down().await;
}
