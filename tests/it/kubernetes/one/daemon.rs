//! Whole rollouts of one Deployment: started by a new template, led, undone, superseded, taken up after a restart.

use super::{SOON, Shop};
use crate::in_process::Running;
use crate::kubernetes::scene::weight;
use canaryd::model::{HoldWhy, State, Verb, Waiting};
use canaryd::router::Means;
use canaryd::runtime::RolloutView;
use canaryd::store::Store;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// It goes through in a second, once its pods do.
const QUICK: &str = "steps: [ { weight: 25%, for: 300ms }, { weight: 50%, for: 300ms }, { weight: 100%, bake: 300ms } ]
start: { when: new-template }
";
/// It stays at 50 % for as long as a test takes.
pub(super) const STAYS: &str = "steps: [ { weight: 50%, for: 1h }, { weight: 100%, bake: 1h } ]\n";

fn rule(shop: &Shop, more: &str) -> String {
    let yields = more.contains("foreign: yield");
    let (foreign, more) = (if yields { ", foreign: yield" } else { "" }, more.replace("foreign: yield\n", ""));
    format!(
        "rule: shop
workloads: {{ namespace: {}, one: {{ deployment: web }} }}
telemetry: [ envoy ]
traffic: rolling-update
drain: 100ms
# requests here do not follow the pods
policies: {{ vanished: hold{foreign} }}
metrics:
  error-rate: {{ tolerate: {{ relative: 20%, absolute: 0.5% }} }}
  pod-health: {{ rollback-on: [ crash-loop ] }}
{more}",
        shop.namespace
    )
}

/// The daemon, once it knows the Deployment.
pub(super) async fn up(shop: &Shop, folder: &TempDir, more: &str) -> Running {
    let means = Means { cluster: Some(shop.admin.clone()), ..Means::default() };
    let running = Running::up_with(folder, &rule(shop, more), means).await;
    let known = async {
        while running.store.noted("shop").await.expect("read").is_empty() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, known).await.expect("it is seen for the first time");
    running
}

pub(super) async fn until(running: &Running, id: &str, what: &str, is: impl Fn(&RolloutView) -> bool) -> Arc<RolloutView> {
    let until = Instant::now() + SOON;
    loop {
        let views = running.handle.views();
        let view = views.rollouts.values().find(|view| view.id.0 == id).cloned();
        if let Some(view) = view.as_ref().filter(|view| is(view)) {
            return Arc::clone(view);
        }
        assert!(Instant::now() < until, "{id}: {what} within {SOON:?}: {view:#?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// The pods at 50 %, once they are all ready and the rollout sees as many: the weight is noted before they come, and then its controller
/// fills up their sum.
async fn settled(shop: &Shop, running: &Running, id: &str, new: &str) -> super::Pods {
    let until = Instant::now() + SOON;
    loop {
        let pods = shop.pods().await;
        let of = |image: &str| pods.get(image).map_or(0, |pods| pods.1 as u32);
        let seen = running.handle.views().rollouts.values().find(|view| view.id.0 == id).and_then(|view| ready(view));
        let half = of(new) > 0 && of(new) >= of("web:1");
        if half && seen == Some((of("web:1"), of(new))) && pods.values().all(|(asked, ready)| asked == ready) {
            return pods;
        }
        assert!(Instant::now() < until, "{id}: both arms within {SOON:?}: {pods:?}, {seen:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Ready pods of both arms, as the rollout sees them.
fn ready(view: &RolloutView) -> Option<(u32, u32)> {
    view.workloads.as_ref()?.as_ref().ok().map(|seen| (seen.baseline.ready, seen.canary.ready))
}

pub(super) fn only(image: &str) -> super::Pods {
    [(image.to_owned(), (4, 4))].into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_template_is_led_to_the_end_and_a_bad_one_is_undone() {
    let Some(shop) = Shop::open("one-led", 4).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let running = up(&shop, &folder, QUICK).await;
    shop.release("web:2", "").await;
    shop.until("stopped", |pods, paused| paused && pods.get("web:1").is_some_and(|old| old.1 >= 2)).await;
    for percent in [25, 50] {
        until(&running, "shop-1", "at its step", |v| v.decision.weight == weight(percent)).await;
        until(&running, "shop-1", "the step", |v| v.weight_seen >= Some(weight(percent))).await;
    }
    until(&running, "shop-1", "succeeded", |v| v.state == State::Succeeded).await;
    shop.until("complete, and as it was found", |pods, paused| *pods == only("web:2") && !paused).await;
    // the next one crashes: its first pods do, and it gets no further
    shop.release("web:3", "crashloop").await;
    let view = until(&running, "shop-2", "rolled back", |v| v.state == State::RolledBack).await;
    let said = format!("{:?}", view.decision.reasons);
    assert!(said.contains("CrashLoop") && said.contains("pod web-"), "{said}");
    shop.until("undone", |pods, paused| *pods == only("web:2") && !paused).await;
    assert_eq!(shop.image().await, "web:2");
    // the undone template is no release, and the next number is the next release's
    shop.release("web:4", "").await;
    until(&running, "shop-3", "succeeded", |v| v.state == State::Succeeded).await;
    shop.until("complete", |pods, paused| *pods == only("web:4") && !paused).await;
    running.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arms_stay_arms_through_a_restart_another_hand_and_a_newer_template() {
    // pod by pod: a batch of two may pass half of four by all of them
    let Some(shop) = Shop::open_with("one-arms", 4, json!({"maxSurge": 1, "maxUnavailable": 0})).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let more = format!("{STAYS}start: {{ when: new-template }}\n");
    let mut running = up(&shop, &folder, &more).await;
    shop.release("web:2", "").await;
    let in_force = |v: &RolloutView| v.weight_seen == Some(weight(50)) && v.state == State::Progressing { step: 0 };
    let split = |v: &RolloutView, old: u32, new: u32| ready(v) == Some((old, new));
    until(&running, "shop-1", "at 50 %", in_force).await;
    let pods = settled(&shop, &running, "shop-1", "web:2").await;
    let (old, new) = (pods["web:1"].1 as u32, pods["web:2"].1 as u32);
    // it ends, and begins again where it was
    running.down().await;
    running = up(&shop, &folder, &more).await;
    until(&running, "shop-1", "at 50 %", |v| in_force(v) && split(v, old, new)).await;
    assert_eq!(shop.pods().await, pods, "nothing was moved by that");
    // somebody resumes it: named, and stopped again
    shop.kubectl(&["rollout", "resume", "deployment/web"]).await;
    until_told(&mut running, "whoever resumed the rolling update").await;
    shop.until("stopped again", |_, paused| paused).await;
    until(&running, "shop-1", "at 50 %", |v| v.weight_seen == Some(weight(50))).await;
    // a newer one takes its place, and is compared with what it found
    shop.release("web:3", "").await;
    until(&running, "shop-1", "superseded", |v| v.state == State::Superseded).await;
    let view = until(&running, "shop-2", "at 50 %", in_force).await;
    assert!(view.version.starts_with("web:3"), "{}", view.version);
    let pods = settled(&shop, &running, "shop-2", "web:3").await;
    assert_eq!(pods.keys().collect::<Vec<_>>(), ["web:1", "web:3"]);
    running.roll_back().await;
    until(&running, "shop-2", "rolled back", |v| v.state == State::RolledBack).await;
    shop.until("undone, and as it was found", |pods, paused| *pods == only("web:1") && !paused).await;
    running.down().await;
}

/// Waits until somebody is told in these words.
async fn until_told(running: &mut Running, words: &str) {
    running.until_told(words, |notice| notice.text.contains(words)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lets_it_go_on_while_an_approval_is_awaited_is_named_and_stopped_or_yielded_to() {
    let Some(shop) = Shop::open("one-let-go", 4).await else { return };
    let approvals = format!("{STAYS}start: {{ when: new-template, approvals: [ manager ] }}\n");
    let folder = tempfile::tempdir().unwrap();
    let mut running = up(&shop, &folder, &approvals).await;
    shop.edit(json!([{"op": "add", "path": "/spec/template/metadata/annotations/sim~1start-delay", "value": "5s"}])).await;
    let waits = |v: &RolloutView| matches!(v.state, State::Waiting(Waiting::Approval { .. }));
    until(&running, "shop-1", "waits", waits).await;
    // what is not paused has no such field, and so nobody who owns it
    for _ in 0..2 {
        shop.edit(json!([{"op": "remove", "path": "/spec/paused"}])).await;
        until_told(&mut running, "whoever resumed the rolling update let the rolling update go on").await;
        shop.until("stopped again", |_, paused| paused).await;
        until(&running, "shop-1", "waits", |v| waits(v) && v.decision.holds.iter().all(|h| h.why != HoldWhy::Foreign)).await;
    }
    assert_ne!(shop.get().await["status"]["updatedReplicas"], 4, "not all of it by then");
    running.roll_back().await;
    until(&running, "shop-1", "rolled back", |v| v.state == State::RolledBack).await;
    shop.until("undone", |pods, paused| *pods == only("web:1") && !paused).await;
    running.down().await;
    // by the other policy it goes on, and a person is asked
    let yields = approvals.replace("start:", "foreign: yield\nstart:");
    let running = up(&shop, &folder, &yields).await;
    shop.release("web:2", "").await;
    until(&running, "shop-2", "waits", waits).await;
    shop.until("stopped", |_, paused| paused).await;
    shop.kubectl(&["rollout", "resume", "deployment/web"]).await;
    let why = |v: &RolloutView| if let State::Paused(paused) = &v.state { paused.why.clone() } else { String::new() };
    until(&running, "shop-2", "paused", |v| why(v).contains("whoever resumed the rolling update")).await;
    shop.until("it goes on", |pods, paused| *pods == only("web:2") && !paused).await;
    running.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_is_awaited_at_the_first_pods() {
    let Some(shop) = Shop::open("one-waits", 4).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let running = up(&shop, &folder, &format!("{STAYS}start: {{ when: new-template, approvals: [ manager ] }}\n")).await;
    shop.edit(json!([{"op": "add", "path": "/spec/template/metadata/annotations/sim~1start-delay", "value": "4s"}])).await;
    until(&running, "shop-1", "waits", |v| matches!(v.state, State::Waiting(Waiting::Approval { .. }))).await;
    let found = shop.get().await;
    assert_eq!(found["spec"]["paused"], true);
    assert_ne!(found["status"]["updatedReplicas"], 4, "the first pods, and no more");
    running.say(Verb::Approve { role: "manager".to_owned() }, "mia").await.expect("approved");
    until(&running, "shop-1", "at 50 %", |v| v.weight_seen == Some(weight(50))).await;
    running.roll_back().await;
    until(&running, "shop-1", "rolled back", |v| v.state == State::RolledBack).await;
    shop.until("undone", |pods, paused| *pods == only("web:1") && !paused).await;
    running.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_template_that_was_rolled_back_is_stopped_when_it_comes_again_and_goes_when_the_one_before_is_back() {
    let Some(shop) = Shop::open("one-again", 4).await else { return };
    let before = shop.get().await["spec"]["template"].clone();
    let folder = tempfile::tempdir().unwrap();
    let mut running = up(&shop, &folder, QUICK).await;
    shop.release("web:2", "crashloop").await;
    until(&running, "shop-1", "rolled back", |v| v.state == State::RolledBack).await;
    shop.until("undone", |pods, paused| *pods == only("web:1") && !paused).await;
    shop.release("web:2", "crashloop").await;
    until_told(&mut running, "rolled back before: it is paused, and no rollout is started").await;
    shop.until("stopped", |pods, paused| paused && pods.get("web:1").is_some_and(|old| old.1 >= 2)).await;
    // a daemon that begins anew leaves it so
    running.down().await;
    let mut running = up(&shop, &folder, QUICK).await;
    until_told(&mut running, "rolled back before: it is paused").await;
    assert_eq!(shop.get().await["spec"]["paused"], true);
    shop.edit(json!([{"op": "replace", "path": "/spec/template", "value": before}])).await;
    shop.until("as it was", |pods, paused| *pods == only("web:1") && !paused).await;
    assert!(running.handle.views().rollouts.is_empty(), "none since it began: {:?}", running.handle.views().rollouts);
    running.down().await;
}
