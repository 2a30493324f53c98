//! The control plane itself fails under the real binary: its API server is killed, hangs, and is started again on what etcd has. Each
//! test has a control plane of its own, and a Prometheus that goes on as if nothing were.

use super::scene;
use crate::rig::daemon::{Daemon, Settings};
use crate::rig::endpoint::{Endpoint, Reply};
use crate::rig::kubernetes::{self, Own};
use crate::rig::prometheus::{Job, Prometheus};
use crate::rig::{self, measured, poll, ports};
use canaryd::model::journal::Event;
use canaryd::model::{Effect, RolloutId};
use canaryd::store::{Sqlite, Store};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tempfile::TempDir;

mod restored;

/// For everything that must happen soon; a machine that builds meanwhile is slow.
const SOON: Duration = Duration::from_secs(120);
/// After this a pod whose state does not follow is asked again.
const OVERLOOKED: Duration = Duration::from_secs(10);
/// How long the API server is dead, and what was seen before is not believed any more.
const MINUTE: Duration = Duration::from_secs(60);
/// Long enough for every call to give up.
const HANGS: Duration = Duration::from_secs(25);
const NAMESPACE: &str = "shop";
const VIRTUAL_SERVICE: &str = "patch /apis/networking.istio.io/v1/namespaces/shop/virtualservices/shop";

const RULE: &str = "rule: shop
workloads:
  namespace: shop
  pair: [ { deployment: shop-v1, subset: v1, cluster: v1 }, { deployment: shop-v2, subset: v2, cluster: v2 } ]
telemetry: [ envoy ]
interval: 5s
traffic: { istio: { virtual-service: shop, route: primary } }
start: { when: new-template }
promotion: swap
after-rollback: undo
drain: 1s
metrics: { error-rate: { tolerate: { relative: 20%, absolute: 0.5% } } }
";

/// Fields are dropped in this order: who asks goes before who answers.
struct Shop {
    daemon: Daemon,
    _prometheus: Prometheus,
    _page: Endpoint,
    plane: Own,
    folder: TempDir,
    name: &'static str,
    begun: Instant,
}

/// Counters of two versions that are asked for something all the time.
fn page() -> Endpoint {
    let begun = Instant::now();
    Endpoint::start(move |_| {
        let requests = 1000 + begun.elapsed().as_millis() / 5;
        let of = |cluster: &str| {
            format!("envoy_cluster_upstream_rq{{envoy_response_code=\"200\",envoy_cluster_name=\"{cluster}\"}} {requests}\n")
        };
        Reply::new(200, format!("# TYPE envoy_cluster_upstream_rq counter\n{}{}", of("v1"), of("v2"))).header("content-type", "text/plain")
    })
}

fn deployment(name: &str) -> Value {
    let labels = json!({"app": "shop", "track": name});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": {
        "replicas": 2, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "shop", "image": "shop:1"}]}}}})
}

impl Shop {
    /// Everything stands, and the daemon knows both workloads. The method's clock runs ten times as fast. The name is for
    /// whoever reads how far it came.
    fn up(name: &'static str, more: &str) -> Option<Self> {
        let begun = Instant::now();
        let plane = kubernetes::own()?;
        let folder = tempfile::tempdir().expect("a folder");
        let page = page();
        let port = page.url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        let prometheus = Prometheus::start(&folder.path().join("prometheus"), &[Job::new("gateway", port, "/metrics", &[])])?;
        plane.namespace(NAMESPACE);
        plane.custom_resources("istio", "/apis/networking.istio.io/v1/virtualservices");
        let mut route = scene::istio().object;
        route["metadata"] = json!({"name": "shop", "namespace": NAMESPACE});
        plane.apply(&route);
        ["shop-v1", "shop-v2"].iter().for_each(|name| plane.apply(&deployment(name)));
        let settings = Settings { source: prometheus.url(), time_scale: 10, rule: format!("{RULE}{more}\n") };
        let cluster = json!({"cluster": {"kubeconfig": plane.kubeconfig("admin"), "resources": false}});
        let daemon = Daemon::start_with(&folder.path().join("daemon"), ports::free(), &settings, &cluster);
        let shop = Self { daemon, _prometheus: prometheus, _page: page, plane, folder, name, begun };
        ["shop-v1", "shop-v2"].iter().for_each(|name| shop.until_ready(name));
        shop.until_said("first sight", 2);
        shop.tell("both are seen for the first time");
        Some(shop)
    }

    /// Says how far the scenario is, and when, to whoever runs the tests.
    fn tell(&self, what: &str) {
        rig::tell(self.begun, &format!("outage-{}", self.name), what);
    }

    fn object(&self, kind: &str, name: &str) -> Value {
        let look = || self.plane.try_kubectl(&["get", kind, name, "-n", NAMESPACE, "-o", "json"], None);
        // an API server that has just come back may still refuse
        let text = poll(SOON, || look().ok()).unwrap_or_else(|| panic!("{kind} {name}: {:?}", look()));
        serde_json::from_str(&text).expect("JSON")
    }

    fn until_ready(&self, name: &str) {
        let ready = poll(SOON, || scene::is_ready(&self.object("deployment", name), 2).then_some(()));
        assert!(ready.is_some(), "{:#}", self.object("deployment", name));
    }

    /// Waits until the daemon's log has these words so often.
    fn until_said(&self, words: &str, times: usize) {
        let log = self.folder.path().join("daemon/canaryd.log");
        let text = || std::fs::read_to_string(&log).unwrap_or_default();
        let said = poll(SOON, || (text().matches(words).count() >= times).then_some(()));
        assert!(said.is_some(), "{words:?} not {times} times within {SOON:?}: {}", text());
    }

    fn release(&self, name: &str, image: &str) {
        let change = json!({"spec": {"template": {"spec": {"containers": [{"name": "shop", "image": image}]}}}});
        self.plane.kubectl(&["patch", "deployment", name, "-n", NAMESPACE, "-p", &change.to_string()]);
    }

    /// The pods of a workload behave so from now on (see kwok-stages.yaml), and so many of them are ready.
    fn pods_are(&self, name: &str, behaviour: &str, ready: usize) {
        let (track, behaviour) = (format!("track={name}"), format!("sim/behaviour={behaviour}"));
        let path = "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}";
        let look = || self.plane.try_kubectl(&["get", "pod", "-n", NAMESPACE, "-l", &track, "-o", path], None);
        let until = Instant::now() + SOON;
        for tries in 1.. {
            // of another template one may go meanwhile; and KWOK that takes a node over now and then overlooks a pod until it changes
            let asked = format!("asked={tries}");
            let _ = self.plane.try_kubectl(&["annotate", "pod", "-n", NAMESPACE, "--overwrite", "-l", &track, &behaviour, &asked], None);
            if poll(OVERLOOKED, || look().ok().filter(|said| said.matches("True").count() == ready)).is_some() {
                return;
            }
            assert!(Instant::now() < until, "{ready} of {name} ready within {SOON:?}: {:?}", look());
        }
    }

    fn image(&self, name: &str) -> Value {
        self.object("deployment", name)["spec"]["template"]["spec"]["containers"][0]["image"].clone()
    }

    /// Both weights, and how often they were others.
    fn weights(&self) -> ([u64; 2], u64) {
        let route = self.object("virtualservice", "shop");
        ((scene::istio().numbers)(&route), route["metadata"]["generation"].as_u64().expect("a generation"))
    }

    fn view(&self, id: &str) -> Value {
        let all = self.daemon.get("/api/v1/rollouts");
        if all["rollouts"].as_array().is_none_or(|all| all.iter().all(|one| one["id"] != id)) {
            return Value::Null;
        }
        self.daemon.get(&format!("/api/v1/rollouts/{id}"))
    }

    /// Waits until a rollout is as wanted.
    fn until(&self, id: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let seen = poll(SOON, || Some(self.view(id)).filter(|view| wanted(view)));
        let view = seen.unwrap_or_else(|| panic!("{id} within {SOON:?}: {what}; {:#}", self.view(id)));
        self.tell(&format!("{id}: {what}"));
        view
    }

    /// How often Deployments, ReplicaSets and pods were listed.
    fn lists(&self) -> [u64; 3] {
        self.changes("listed")
    }

    /// What watches of Deployments, ReplicaSets and pods brought, of this sort: 0 where nothing has come yet.
    fn changes(&self, what: &str) -> [u64; 3] {
        let text = self.daemon.ask("GET", "/metrics", &Value::Null).text();
        ["deployments", "replicasets", "pods"].map(|kind| {
            let of = |line: &&str| line.starts_with("canaryd_watch_changes") && line.contains(kind) && line.contains(what);
            let count = |line: &str| line.rsplit(' ').next().and_then(|count| count.parse().ok()).expect("a count");
            text.lines().find(of).map_or(0, count)
        })
    }

    fn rollouts(&self) -> usize {
        self.daemon.get("/api/v1/rollouts")["rollouts"].as_array().map_or(0, Vec::len)
    }

    /// The weights a rollout decided to write, in permille, in their order; each must have a generation of its own.
    fn decided(&mut self, id: &str) -> Vec<u16> {
        assert!(self.daemon.stop().success());
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let store = Sqlite::open(&self.daemon.data()).expect("its journal");
        let entries = runtime.block_on(store.load(&RolloutId(id.to_owned()))).expect("its lines");
        let decided = entries.iter().filter_map(|e| if let Event::Decided(d) = &e.event { Some(&d.effects) } else { None });
        let wishes = decided.flatten().filter_map(|effect| match effect {
            Effect::SetWeight { weight, generation } => Some((*generation, weight.permille())),
            _ => None,
        });
        let by_generation: BTreeMap<_, _> = wishes.collect();
        by_generation.into_values().collect()
    }
}

fn at_half(view: &Value) -> bool {
    view["weight-seen-permille"] == 500 && view["state"] == "progressing"
}

/// It holds because of the router, and says so in words.
fn holds_for_the_router(view: &Value) -> bool {
    let said = view["holds"].as_array().into_iter().flatten().filter_map(|hold| hold["text"].as_str());
    said.into_iter().any(|text| text.contains("VirtualService shop/shop"))
}

#[test]
fn an_api_server_that_is_dead_for_a_minute_in_mid_step_is_waited_for_and_each_weight_is_written_once() {
    let Some(mut shop) = Shop::up("dead", "steps: [ { weight: 50%, for: 30s }, { weight: 100%, bake: 5s } ]") else { return };
    shop.release("shop-v2", "shop:2");
    shop.until("shop-1", "at 50 %", at_half);
    shop.plane.kill();
    let (killed, before) = (Instant::now(), shop.view("shop-1"));
    let view = shop.until("shop-1", "held", holds_for_the_router);
    measured(&format!("held {:?} after the kill: {}", killed.elapsed(), view["holds"]));
    // twice as long as the step lasts
    while killed.elapsed() < MINUTE {
        std::thread::sleep(Duration::from_millis(500));
        let now = shop.view("shop-1");
        assert_eq!((&now["state"], &now["weight-permille"]), (&"progressing".into(), &500.into()), "{now:#}");
    }
    let last = shop.until("shop-1", "out of sight", |v| v["workloads"]["unseen"].is_string());
    // it goes on looking: evidence comes in, and it is said why nothing follows
    assert!(holds_for_the_router(&last), "{last:#}");
    let requests = |view: &Value| view["step"]["canary-requests"].as_f64().unwrap_or_default();
    assert!(requests(&last) > requests(&before) + 1000.0, "{before:#} {last:#}");
    shop.plane.start_again(&[]);
    let back = Instant::now();
    shop.plane.controllers_again();
    shop.until("shop-1", "at 100 %", |v| v["weight-seen-permille"] == 1000);
    measured(&format!("at 100 % {:?} after it was back", back.elapsed()));
    shop.until("shop-1", "succeeded", |v| v["state"] == "succeeded");
    assert_eq!(shop.weights(), ([0, 100], 3), "made, 50 % and 100 %");
    assert_eq!(shop.rollouts(), 1);
    // its watches are back: what is released now is seen, and so are its pods
    shop.release("shop-v1", "shop:3");
    shop.until_ready("shop-v1");
    shop.tell("shop-v1: the pods of shop:3 are ready");
    let view = shop.until("shop-2", "at 50 %", |v| at_half(v) && v["workloads"]["canary"]["ready"] == 2);
    assert_eq!((&view["canary"], &view["baseline"]), (&"shop-v1".into(), &"shop-v2".into()));
    assert_eq!(shop.weights(), ([50, 50], 4));
    assert_eq!(shop.decided("shop-1"), [500, 1000]);
    let written = shop.plane.written("virtualservices");
    assert!(written.iter().all(|(what, code)| what == VIRTUAL_SERVICE && *code == Some(200)), "{written:#?}");
}

/// Connections hang in place of being refused: every call must end by its own clock. Then everything at once: the API server dies, a
/// newer one fills in a field of every pod template, and what its watches knew is forgotten.
#[test]
fn an_api_server_that_hangs_and_one_that_fills_in_new_fields_are_no_release_and_stop_no_rollback() {
    let Some(mut shop) = Shop::up("hangs", "steps: [ { weight: 50%, for: 3h }, { weight: 100%, bake: 1h } ]") else { return };
    shop.release("shop-v2", "shop:2");
    shop.until("shop-1", "at 50 %", at_half);
    shop.plane.freeze();
    let frozen = Instant::now();
    let view = shop.until("shop-1", "held", holds_for_the_router);
    measured(&format!("held {:?} after it hangs: {}", frozen.elapsed(), view["holds"]));
    while frozen.elapsed() < HANGS {
        std::thread::sleep(Duration::from_millis(500));
        // the daemon itself hangs nowhere
        let now = shop.view("shop-1");
        assert_eq!((&now["state"], &now["weight-permille"]), (&"progressing".into(), &500.into()), "{now:#}");
    }
    shop.plane.thaw();
    let thawed = Instant::now();
    shop.until("shop-1", "on again", |v| at_half(v) && !holds_for_the_router(v));
    measured(&format!("on again {:?} after it goes on", thawed.elapsed()));
    shop.pods_are("shop-v2", "unready", 0);
    shop.until("shop-1", "its pods are seen", |v| v["workloads"]["canary"]["ready"] == 0);
    shop.pods_are("shop-v2", "well", 2);
    shop.until("shop-1", "and again", |v| v["workloads"]["canary"]["ready"] == 2);
    assert_eq!(shop.weights(), ([50, 50], 2));

    let generations = || ["shop-v1", "shop-v2"].map(|name| shop.object("deployment", name)["metadata"]["generation"].clone());
    let (before, lists) = (generations(), shop.lists());
    let sets = shop.plane.kubectl(&["get", "replicasets", "-n", NAMESPACE, "-o", "jsonpath={.items[*].metadata.name}"]);
    shop.plane.kill();
    let all = sets.split(' ').map(|name| format!("replicasets/{NAMESPACE}/{name}"));
    for below in all.chain(["shop-v1", "shop-v2"].map(|name| format!("deployments/{NAMESPACE}/{name}"))) {
        shop.plane.rewrite(&below, |object| object["spec"]["template"]["spec"]["setHostnameAsFQDN"] = false.into());
    }
    shop.plane.compact();
    // watches come out of etcd itself, which has forgotten
    shop.plane.start_again(&["--watch-cache=false"]);
    assert_eq!(generations(), before, "nobody changed a specification");
    let listed = poll(SOON, || shop.lists().iter().zip(&lists).all(|(now, then)| now > then).then_some(()));
    assert!(listed.is_some(), "each was listed again: {lists:?} {:?}", shop.lists());
    shop.until_said("named anew", 2);
    let view = shop.until("shop-1", "on again", |v| at_half(v) && v["workloads"]["canary"]["ready"] == 2);
    assert_eq!((shop.rollouts(), &view["canary"]), (1, &"shop-v2".into()));
    assert_eq!(shop.weights(), ([50, 50], 2));

    // it dies while the weight is written; whether it was, only reading it back says
    std::thread::scope(|scope| {
        let killer = scope.spawn(|| shop.plane.kill_at_write("virtualservices", 2));
        shop.daemon.post("/api/v1/rollouts/shop-1/rollback", &json!({}));
        killer.join().expect("it was asked to write");
    });
    shop.plane.start_again(&[]);
    shop.until("shop-1", "rolled back", |v| v["state"] == "rolled-back");
    let written = shop.plane.written("virtualservices");
    measured(&format!("of the writes one met its death: {written:?}"));
    assert_eq!(shop.weights(), ([100, 0], 3), "made, 50 % and 0 %: {written:#?}");
    assert_eq!((shop.image("shop-v2"), shop.image("shop-v1")), ("shop:1".into(), "shop:1".into()), "undone");
    shop.until_ready("shop-v2");
    assert_eq!(shop.rollouts(), 1, "neither the undoing nor a field filled in is a release");
    // the write that met its death is asked for again until it is read back
    let mut decided = shop.decided("shop-1");
    decided.dedup();
    assert_eq!(decided, [500, 0]);
}
