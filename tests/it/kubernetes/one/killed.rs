//! The real binary, killed while it leads a rolling update: nothing moves without it, and it goes on where it was.

use super::super::proxy::{Fault, Like, Proxy};
use super::super::scene::blocking;
use super::processes::{Following, Processes};
use super::{Pods, SOON, Shop};
use crate::rig::daemon::{Daemon, Settings};
use crate::rig::endpoint::Endpoint;
use crate::rig::{poll, ports};
use canaryd::model::journal::Event;
use canaryd::model::{Effect, RolloutId};
use canaryd::store::{Sqlite, Store};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// A daemon that leads the Deployment, behind a proxy that may kill it. Who asks is dropped before who answers.
struct Led {
    daemon: Arc<Mutex<Daemon>>,
    page: Endpoint,
    looking: Following,
    folder: TempDir,
}

impl Led {
    async fn up(shop: &Shop, proxy: &Proxy) -> Self {
        let (folder, kubeconfig, namespace) = (tempfile::tempdir().expect("a folder"), proxy.kubeconfig.clone(), shop.namespace.clone());
        let (path, plane) = (folder.path().to_owned(), shop.plane);
        let up = blocking(move || {
            let processes = Processes::of(&namespace);
            processes.well.store(true, Ordering::Release);
            processes.look(plane);
            let (page, looking) = (processes.serve(), processes.follow(plane));
            let rule = format!(
                "rule: shop
workloads: {{ namespace: {namespace}, one: {{ deployment: web }} }}
telemetry: [ {{ pack: http, scrape: [ \"{}/metrics\" ] }} ]
traffic: rolling-update
policies: {{ vanished: hold, blind: {{ hold: 30h, then: hold }}, blind-canary: {{ hold: 30h, then: hold }} }}
steps: [ {{ weight: 50%, for: 3h }}, {{ weight: 100%, bake: 1h }} ]
metrics: {{ error-rate: {{ tolerate: {{ relative: 20%, absolute: 0.5% }} }} }}
",
                page.url
            );
            let settings = Settings { source: page.url.clone(), time_scale: 10, rule };
            let more = json!({"cluster": {"kubeconfig": kubeconfig, "resources": false}});
            (Arc::new(Mutex::new(Daemon::start_with(&path, ports::free(), &settings, &more))), page, looking)
        });
        let (daemon, page, looking) = up.await;
        Self { daemon, page, looking, folder }
    }

    /// What kills it.
    fn killer(&self) -> Fault {
        let victim = Arc::clone(&self.daemon);
        Fault::Then(Box::new(move || victim.lock().kill()))
    }

    /// A person starts a rollout; the answer may die with the daemon.
    async fn start(&self) {
        let asked = Arc::clone(&self.daemon);
        blocking(move || drop(asked.lock().client(&["start", "shop", "--version", "2"]))).await;
    }

    /// A person says it; the answer may die with the daemon.
    async fn roll_back(&self) {
        let asked = Arc::clone(&self.daemon);
        blocking(move || drop(asked.lock().client(&["rollback", "shop"]))).await;
    }

    /// Waits until the rollout is as wanted.
    async fn until(&self, what: &'static str, wanted: fn(&Value) -> bool) {
        let daemon = Arc::clone(&self.daemon);
        blocking(move || {
            let daemon = daemon.lock();
            let seen = poll(SOON, || Some(daemon.get("/api/v1/rollouts/shop-1")).filter(&wanted));
            assert!(seen.is_some(), "{what}: {:#}", daemon.get("/api/v1/rollouts/shop-1"));
        })
        .await;
    }

    /// Starts it again, and waits until the rollout is as wanted.
    async fn again(&self, what: &'static str, wanted: fn(&Value) -> bool) {
        let daemon = Arc::clone(&self.daemon);
        blocking(move || {
            let mut daemon = daemon.lock();
            daemon.restart();
            let seen = poll(SOON, || Some(daemon.get("/api/v1/rollouts/shop-1")).filter(&wanted));
            assert!(seen.is_some(), "{what}: {:#}", daemon.get("/api/v1/rollouts/shop-1"));
            assert_eq!(daemon.get("/api/v1/rollouts")["rollouts"].as_array().map(Vec::len), Some(1));
        })
        .await;
    }

    /// Ends it; the weights it decided to write, in permille.
    async fn decided(self) -> Vec<u16> {
        let Self { daemon, page, looking, folder } = self;
        // they have runtimes of their own, which may not end inside this one
        blocking(move || {
            assert!(daemon.lock().stop().success());
            drop((daemon, looking, page));
        })
        .await;
        let store = Sqlite::open(&folder.path().join("data")).expect("its journal");
        let entries = store.load(&RolloutId("shop-1".to_owned())).await.expect("its lines");
        let decided = entries.iter().filter_map(|e| if let Event::Decided(d) = &e.event { Some(&d.effects) } else { None });
        let wish = |effect: &Effect| if let Effect::SetWeight { weight, .. } = effect { Some(weight.permille()) } else { None };
        let mut all: Vec<u16> = decided.flatten().filter_map(wish).collect();
        // one that is on its way is asked for until it is there
        all.dedup();
        all
    }
}

fn at_half(view: &Value) -> bool {
    view["weight-seen-permille"] == 500 && view["state"] == "progressing"
}

/// Waits until the one write has come that something happens at.
async fn met(proxy: &Proxy) {
    let met = async {
        while proxy.awaits_one() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, met).await.expect("it is written");
}

/// Started with a Deployment that was found paused, and killed as soon as this was written.
async fn killed_at(namespace: &str, write: Like) -> Option<(Shop, Proxy, Led)> {
    let shop = Shop::open_with(namespace, 4, json!({"maxSurge": 1, "maxUnavailable": 0})).await?;
    let proxy = Proxy::start(shop.plane).await;
    let led = Led::up(&shop, &proxy).await;
    // long enough for whoever is slow
    shop.edit(json!([{"op": "add", "path": "/spec/paused", "value": true},
        {"op": "replace", "path": "/spec/template/metadata/annotations/sim~1start-delay", "value": "8s"}]))
        .await;
    shop.release("web:2", "").await;
    proxy.one_write(write, led.killer());
    led.start().await;
    met(&proxy).await;
    Some((shop, proxy, led))
}

/// So many new pods become ready without the daemon, and no more are asked for.
async fn stands_at(shop: &Shop, new: u64) {
    shop.until("that batch is ready", |pods, paused| paused && pods.get("web:2") == Some(&(new, new))).await;
    sleep(Duration::from_secs(3)).await;
    let pods = shop.pods().await;
    assert_eq!(pods["web:2"], (new, new), "nobody is there to go on: {pods:?}");
}

/// Waits until all pods of 50 % are there and ready, three of five: then nothing is left to write.
async fn all_of_half(shop: &Shop) {
    let half = |pods: &Pods| pods.get("web:1") == Some(&(2, 2)) && pods.get("web:2") == Some(&(3, 3));
    shop.until("half of the pods", |pods, paused| paused && half(pods)).await;
}

/// It goes on to half of the pods, by the one decision there was.
async fn goes_on(shop: &Shop, led: Led) {
    led.again("at 50 %", at_half).await;
    all_of_half(shop).await;
    assert_eq!(led.decided().await, [500], "one decision");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_killed_between_a_batch_and_its_record_goes_on_with_that_batch_and_nothing_moves_meanwhile() {
    let second: Like = |path, operations| {
        path.contains("/replicasets/")
            && operations.iter().any(|op| op["op"] == "replace" && op["path"] == "/spec/replicas" && op["value"] == 2)
    };
    let Some((shop, _proxy, led)) = killed_at("one-killed", second).await else { return };
    stands_at(&shop, 2).await;
    goes_on(&shop, led).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_killed_as_a_deployment_found_paused_begins_leaves_it_standing() {
    let begun: Like = |path, _| path.ends_with("/namespaces/one-killed-first/replicasets");
    let Some((shop, proxy, led)) = killed_at("one-killed-first", begun).await else { return };
    let made = async {
        while shop.sets().await != 2 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, made).await.expect("the new template has its ReplicaSet");
    sleep(Duration::from_secs(3)).await;
    assert_eq!((shop.pods().await, shop.get().await["spec"]["paused"].clone()), ([("web:1".to_owned(), (4, 4))].into(), true.into()));
    // and whatever it does until all shall be new, it is at no moment let go on
    proxy.one_write(|_, operations| operations.iter().any(|op| op["path"] == "/spec/paused" && op["value"] != true), led.killer());
    goes_on(&shop, led).await;
    assert!(proxy.awaits_one(), "no such write came");
    assert_eq!(shop.sets().await, 2, "its controller took it for its own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_killed_between_giving_a_template_back_and_its_record_knows_it_however_it_came_out() {
    let Some(shop) = Shop::open_with("one-killed-back", 4, json!({"maxSurge": 1, "maxUnavailable": 0})).await else { return };
    let proxy = Proxy::start(shop.plane).await;
    let led = Led::up(&shop, &proxy).await;
    shop.release("web:2", "").await;
    led.start().await;
    led.until("at 50 %", at_half).await;
    // a batch that was written after it would be filled in too, and be a newer release
    all_of_half(&shop).await;
    shop.fills_in().await;
    proxy.one_write(|_, operations| operations.iter().any(|op| op["op"] == "replace" && op["path"] == "/spec/template"), led.killer());
    led.roll_back().await;
    met(&proxy).await;
    shop.until("given back", |_, paused| !paused).await;
    let found = shop.get().await;
    assert!(Shop::is_filled_in(&found), "it came out another: {found:#}");
    led.again("rolled back", |view| view["state"] == "rolled-back").await;
    shop.until("whole, and as it was found", |pods, paused| *pods == [("web:1".to_owned(), (4, 4))].into() && !paused).await;
    assert_eq!(shop.get().await["spec"]["template"], found["spec"]["template"]);
    assert_eq!(led.decided().await, [500, 0], "one decision each");
}
