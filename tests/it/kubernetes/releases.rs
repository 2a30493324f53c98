//! New pod templates in a real cluster: which of them start a rollout, and which do not.

use super::proxy::{Fault, Proxy};
use super::scene::{self, Scene, ask, blocking, edit, weight};
use crate::in_process::Running;
use crate::rig::daemon::{Daemon, Settings};
use crate::rig::endpoint::{Endpoint, Reply};
use crate::rig::kubernetes::{self, ControlPlane};
use crate::rig::{poll, ports};
use canaryd::model::journal::Event;
use canaryd::model::{Effect, RolloutId, State, Topic};
use canaryd::router::Means;
use canaryd::runtime::{RolloutView, StartArgs};
use canaryd::store::{Sqlite, Store};
use kube::Client;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// For everything that must happen soon; a machine that builds meanwhile is slow.
const SOON: Duration = Duration::from_secs(120);

/// What a watch is answered whose place is forgotten.
const EXPIRED: &str = concat!(
    r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","#,
    r#""message":"too old resource version: 1 (8338)","reason":"Expired","code":410}}"#,
    "\n"
);

/// Two Deployments behind a VirtualService, `shop-v1` with the traffic.
struct Shop {
    plane: &'static ControlPlane,
    scene: Scene,
    folder: TempDir,
}

fn rule(namespace: &str, more: &str) -> String {
    let start = if more.contains("start:") { "" } else { "start: { when: new-template }\n" };
    format!(
        "rule: shop
workloads: {{ namespace: {namespace}, pair: [ {{ deployment: shop-v1, subset: v1 }}, {{ deployment: shop-v2, subset: v2 }} ] }}
telemetry: [ envoy ]
traffic: {{ istio: {{ virtual-service: shop, route: primary }} }}
{start}promotion: swap
drain: 100ms
metrics:
  error-rate: {{ tolerate: {{ relative: 20%, absolute: 0.5% }} }}
{more}
"
    )
}

/// It stays at 50 % for as long as a test takes.
const STAYS: &str = "steps: [ { weight: 50%, for: 1h }, { weight: 100%, bake: 1h } ]\nafter-rollback: undo\n";

fn deployment(namespace: &str, name: &str, replicas: u32) -> Value {
    let labels = json!({"app": "shop", "track": name});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "shop", "image": "shop:1"}]}}}})
}

impl Shop {
    async fn open(namespace: &str) -> Option<Self> {
        let plane = kubernetes::shared().await?;
        let scene = Scene::set(plane, scene::istio(), namespace).await;
        let both = ["shop-v1", "shop-v2"].map(|name| deployment(namespace, name, 3));
        blocking(move || both.iter().for_each(|one| plane.apply(one))).await;
        let shop = Self { plane, scene, folder: tempfile::tempdir().expect("a folder") };
        for name in ["shop-v1", "shop-v2"] {
            shop.until_ready(name, 3).await;
        }
        Some(shop)
    }

    /// The daemon, once it knows both workloads.
    async fn up(&self, more: &str, client: &Client) -> Running {
        let means = Means { cluster: Some(client.clone()), ..Means::default() };
        let running = Running::up_with(&self.folder, &rule(&self.scene.namespace, more), means).await;
        let known = async {
            while running.store.noted("shop").await.expect("read").len() < 2 {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(SOON, known).await.expect("both are seen for the first time");
        running
    }

    fn path(&self, name: &str) -> String {
        format!("/apis/apps/v1/namespaces/{}/deployments/{name}", self.scene.namespace)
    }

    async fn get(&self, name: &str) -> Value {
        ask(&self.scene.admin, "GET", &self.path(name), None).await.1
    }

    async fn image(&self, name: &str) -> Value {
        self.get(name).await["spec"]["template"]["spec"]["containers"][0]["image"].clone()
    }

    /// Somebody deploys an image; its pods behave so (see kwok-stages.yaml).
    async fn release(&self, name: &str, image: &str, behaviour: &str) {
        let operations = json!([
            {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image},
            {"op": "add", "path": "/spec/template/metadata/annotations", "value": {"sim/behaviour": behaviour}},
        ]);
        edit(&self.scene.admin, &self.path(name), &operations).await;
    }

    async fn scale(&self, name: &str, replicas: u32) {
        edit(&self.scene.admin, &self.path(name), &json!([{"op": "replace", "path": "/spec/replicas", "value": replicas}])).await;
        self.until_ready(name, replicas).await;
    }

    async fn until_ready(&self, name: &str, replicas: u32) {
        let until = Instant::now() + SOON;
        loop {
            let found = self.get(name).await;
            if scene::is_ready(&found, replicas) {
                return;
            }
            assert!(Instant::now() < until, "{name} within {SOON:?}: {found}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Heals its pods, as often as it takes: a rolling update makes them one after the other.
    async fn heal(&self, name: &str) {
        let (plane, namespace, label) = (self.plane, self.scene.namespace.clone(), format!("track={name}"));
        let heal = ["annotate", "pod", "-n", &namespace, "-l", &label, "--overwrite", "sim/behaviour=well"].map(str::to_owned);
        // a pod that is deleted meanwhile is no failure
        blocking(move || drop(plane.try_kubectl(&heal.each_ref().map(String::as_str), None))).await;
    }
}

/// Waits until somebody is told of a release, in these words.
async fn until_told(running: &mut Running, words: &str) -> String {
    running.until_told(words, |notice| notice.topic == Topic::Release && notice.text.contains(words)).await.text
}

/// Waits until this rollout is as wanted.
async fn until(running: &Running, id: &str, what: &str, wanted: impl Fn(&RolloutView) -> bool) -> Arc<RolloutView> {
    let until = Instant::now() + SOON;
    loop {
        let seen = running.handle.rollout(&RolloutId(id.to_owned()));
        match seen {
            Some(view) if wanted(&view) => return view,
            _ if Instant::now() > until => panic!("{id} within {SOON:?}: {what}; {:#?}", running.handle.views().rollouts),
            _ => sleep(Duration::from_millis(20)).await,
        }
    }
}

fn at_half(view: &RolloutView) -> bool {
    view.weight_seen == Some(weight(50))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_template_starts_when_its_pods_are_ready_and_nothing_else_starts_anything() {
    let Some(shop) = Shop::open("releases-start").await else { return };
    let mut running = shop.up(STAYS, &shop.scene.admin).await;
    // replicas are no release
    shop.scale("shop-v2", 2).await;
    shop.scale("shop-v1", 4).await;
    // what carries the traffic is live already
    shop.release("shop-v1", "shop:live", "").await;
    let said = until_told(&mut running, "shop-v1").await;
    assert!(said.contains("shop:live (") && said.contains("live already"), "{said}");
    assert!(running.handle.views().rollouts.is_empty());
    // a release whose pods are not ready is waited for
    shop.release("shop-v2", "shop:2", "unready").await;
    sleep(Duration::from_secs(3)).await;
    assert!(running.handle.views().rollouts.is_empty(), "its pods are not ready");
    let healed = async {
        while running.handle.views().rollouts.is_empty() {
            shop.heal("shop-v2").await;
            sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(SOON, healed).await.expect("it starts");
    shop.until_ready("shop-v2", 2).await;
    let view = until(&running, "shop-1", "at 50 %", at_half).await;
    assert!(view.version.starts_with("shop:2 ("), "{}", view.version);
    assert_eq!((view.baseline.as_str(), view.canary.as_str()), ("shop-v1", "shop-v2"));
    let seen = |v: &RolloutView| matches!(&v.workloads, Some(Ok(w)) if w.canary.ready == 2 && w.baseline.ready == 4);
    until(&running, "shop-1", "its pods are seen", seen).await;
    assert_eq!(running.handle.views().rollouts.len(), 1);
    running.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_template_supersedes_and_one_that_was_rolled_back_waits_for_a_person() {
    let Some(shop) = Shop::open("releases-again").await else { return };
    let running = shop.up(STAYS, &shop.scene.admin).await;
    shop.release("shop-v2", "shop:2", "").await;
    until(&running, "shop-1", "at 50 %", at_half).await;
    // another one in mid-rollout
    shop.release("shop-v2", "shop:3", "").await;
    until(&running, "shop-1", "superseded", |v| v.state == State::Superseded).await;
    let view = until(&running, "shop-2", "at 50 %", at_half).await;
    assert!(view.version.starts_with("shop:3 ("), "{}", view.version);
    // a restart begins nothing; what was released meanwhile is a release
    running.down().await;
    let running = shop.up(STAYS, &shop.scene.admin).await;
    until(&running, "shop-2", "taken up", |v| matches!(&v.workloads, Some(Ok(_)))).await;
    running.down().await;
    shop.release("shop-v2", "shop:4", "").await;
    let mut running = shop.up(STAYS, &shop.scene.admin).await;
    until(&running, "shop-2", "superseded", |v| v.state == State::Superseded).await;
    until(&running, "shop-3", "at 50 %", at_half).await;
    // rolled back and undone: by us, so it is no release
    running.roll_back().await;
    until(&running, "shop-3", "rolled back", |v| v.state == State::RolledBack).await;
    let image = shop.image("shop-v2").await;
    assert_eq!(image, "shop:1", "what it had before any of this was on trial: neither of the two that were superseded has proved itself");
    // the same template again, at once, as whoever keeps it so from a repository does it: told, not started
    shop.release("shop-v2", "shop:4", "").await;
    let said = until_told(&mut running, "rolled back before").await;
    assert!(said.contains("canaryd retry shop"), "{said}");
    let args = |retry| StartArgs { version: String::new(), by: "eve".to_owned(), retry };
    let refused = running.handle.start("shop", args(false)).await.expect_err("it was rolled back");
    assert_eq!(refused.code, "rolled-back-before", "{refused}");
    assert_eq!(running.handle.start("shop", args(true)).await.expect("a person may").0, "shop-4", "nothing began in between");
    let view = until(&running, "shop-4", "at 50 %", at_half).await;
    assert!(view.version.starts_with("shop:4 ("), "{}", view.version);
    running.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_person_starts_after_two_pushes_is_undone_to_what_was_there_before_both() {
    let Some(shop) = Shop::open("releases-pushes").await else { return };
    // the rule of a pipeline that says itself when to begin
    let by_hand = format!("{STAYS}start: {{ when: manual }}\n");
    let running = shop.up(&by_hand, &shop.scene.admin).await;
    let start = async |number: u32, image: &str| {
        shop.release("shop-v2", image, "").await;
        shop.until_ready("shop-v2", 3).await;
        let args = StartArgs { version: String::new(), by: "ci".to_owned(), retry: false };
        let id = running.handle.start("shop", args).await.expect("it begins");
        assert_eq!(id.0, format!("shop-{number}"));
        until(&running, &id.0, "at 50 %", at_half).await;
    };
    start(1, "shop:2").await;
    shop.release("shop-v2", "shop:bad", "crashloop").await;
    until(&running, "shop-1", "superseded", |v| v.state == State::Superseded).await;
    start(2, "shop:3").await;
    running.roll_back().await;
    until(&running, "shop-2", "rolled back", |v| v.state == State::RolledBack).await;
    assert_eq!(shop.image("shop-v2").await, "shop:1", "neither what was superseded, nor what never began");
    running.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_change_with_a_swap_and_watches_that_end_start_nothing() {
    let Some(shop) = Shop::open("releases-swap").await else { return };
    let proxy = Proxy::start(shop.plane).await;
    let steps = "steps: [ { weight: 50%, for: 500ms }, { weight: 100%, bake: 500ms } ]\n";
    let mut running = shop.up(steps, &proxy.client).await;
    shop.release("shop-v2", "shop:2", "").await;
    until(&running, "shop-1", "succeeded", |v| v.state == State::Succeeded).await;
    // too old, all of them at once, and then cut
    proxy.next_watches([EXPIRED; 4]);
    let expired = async {
        while proxy.watches_left() > 0 {
            proxy.cut();
            sleep(Duration::from_millis(500)).await;
        }
    };
    timeout(SOON, expired).await.expect("each was answered 410");
    // now the other one is without traffic
    shop.release("shop-v2", "shop:live", "").await;
    let said = until_told(&mut running, "shop-v2").await;
    assert!(said.contains("live already"), "{said}");
    shop.release("shop-v1", "shop:3", "").await;
    let view = until(&running, "shop-2", "succeeded", |v| v.state == State::Succeeded).await;
    assert_eq!((view.baseline.as_str(), view.canary.as_str()), ("shop-v2", "shop-v1"));
    assert_eq!(shop.scene.numbers(&shop.scene.object().await), [100, 0]);
    running.down().await;
}

/// Counters that stand still: nobody asks the shop for anything.
const PAGE: &str = "# TYPE envoy_cluster_upstream_rq counter
envoy_cluster_upstream_rq{envoy_response_code=\"200\",envoy_cluster_name=\"v1\"} 100
envoy_cluster_upstream_rq{envoy_response_code=\"200\",envoy_cluster_name=\"v2\"} 100
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_killed_between_a_weight_and_its_record_makes_one_weight_of_one_decision() {
    let Some(plane) = kubernetes::shared().await else { return };
    let scene = Scene::set(plane, scene::istio(), "releases-killed").await;
    let proxy = Proxy::start(plane).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (path, kubeconfig, namespace) = (folder.path().to_owned(), proxy.kubeconfig.clone(), scene.namespace.clone());
    let up = blocking(move || {
        let page = Endpoint::start(|_| Reply::new(200, PAGE));
        let rule = format!(
            "rule: shop
workloads: {{ namespace: {namespace}, pair: [ {{ cluster: v1, subset: v1 }}, {{ cluster: v2, subset: v2 }} ] }}
telemetry: [ {{ pack: envoy, scrape: [ \"{}/metrics\" ] }} ]
traffic: {{ istio: {{ virtual-service: shop, route: primary }} }}
promotion: swap
steps: [ {{ weight: 50%, for: 1h }}, {{ weight: 100%, bake: 1h }} ]
metrics: {{ error-rate: {{ tolerate: {{ relative: 20%, absolute: 0.5% }} }} }}
",
            page.url
        );
        let settings = Settings { source: page.url.clone(), time_scale: 10, rule };
        // the next write shall be that of the weight
        let more = json!({"cluster": {"kubeconfig": kubeconfig, "resources": false}});
        (Arc::new(Mutex::new(Daemon::start_with(&path, ports::free(), &settings, &more))), page)
    });
    let (daemon, page) = up.await;
    let victim = Arc::clone(&daemon);
    proxy.next_writes([Fault::Then(Box::new(move || victim.lock().kill()))]);
    // the answer may die with it
    let asked = Arc::clone(&daemon);
    blocking(move || drop(asked.lock().client(&["start", "shop", "--version", "2"]))).await;
    let written = async {
        while proxy.left() > 0 || scene.numbers(&scene.object().await) != [50, 50] {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, written).await.expect("the weight is written");
    let generation = |object: &Value| object["metadata"]["annotations"]["canaryd.io/generation"].clone();
    let before = generation(&scene.object().await);
    let again = Arc::clone(&daemon);
    let view = blocking(move || {
        let mut daemon = again.lock();
        daemon.restart();
        let seen = poll(SOON, || {
            let view = daemon.get("/api/v1/rollouts/shop-1");
            (view["weight-seen-permille"] == 500 && view["state"] == "progressing").then_some(view)
        });
        let all = daemon.get("/api/v1/rollouts");
        daemon.stop();
        (seen, all)
    });
    let (view, all) = view.await;
    assert!(view.is_some(), "{all:#}");
    assert_eq!(all["rollouts"].as_array().map(Vec::len), Some(1), "{all:#}");
    let store = Sqlite::open(&folder.path().join("data")).expect("its journal");
    let entries = store.load(&RolloutId("shop-1".to_owned())).await.expect("its lines");
    let decided = entries.iter().filter_map(|e| if let Event::Decided(d) = &e.event { Some(&d.effects) } else { None });
    let wishes = decided.flatten().filter(|effect| matches!(effect, Effect::SetWeight { .. }));
    assert_eq!(wishes.count(), 1, "one decision: {entries:#?}");
    let object = scene.object().await;
    assert_eq!((scene.numbers(&object), generation(&object)), ([50, 50], before));
    let written = proxy.passed();
    assert!(written.len() <= 2, "once, and once more to be sure of it at most: {written:?}");
    // it has a runtime of its own, which may not end inside this one
    blocking(move || drop(page)).await;
}
