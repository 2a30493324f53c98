//! Two Deployments on the real control plane, an object that takes the weights, and the daemon.

use crate::kubernetes::scene::is_ready;
use crate::rig::daemon::{self, Daemon};
use crate::rig::endpoint::{Endpoint, Reply};
use crate::rig::kubernetes::{self, ControlPlane};
use crate::rig::{self, poll, ports};
use canaryd::store::{Sqlite, Store};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Long enough for any next step of a scenario.
pub(super) const PATIENT: Duration = Duration::from_secs(150);
/// Longer than anything takes to be noticed that is looked at from time to time.
pub(super) const NOTICED: Duration = Duration::from_secs(8);
/// A person who insists says it so often.
const SAID_AGAIN: Duration = Duration::from_millis(500);
/// How much faster the method's clock runs.
const TIME_SCALE: u32 = 60;
/// Requests of each version per second.
const RATE_PER_S: f64 = 100.0;
const DEPLOYMENTS: [&str; 2] = ["shop-v1", "shop-v2"];

/// What a scenario may choose.
#[derive(Clone, Copy)]
pub(super) struct Scene {
    /// Name of its namespace.
    pub(super) name: &'static str,
    /// The workloads: `pair` or `stable`.
    pub(super) form: &'static str,
    /// Replicas of each.
    pub(super) replicas: [u32; 2],
    /// The rule but for its name, workloads, telemetry.
    pub(super) rule: &'static str,
}

/// Everything, standing.
pub(super) struct Stage {
    pub(super) daemon: Daemon,
    _page: Endpoint,
    plane: &'static ControlPlane,
    namespace: String,
    _folder: TempDir,
    begun: Instant,
}

impl Stage {
    /// Stands it up, all traffic on the first Deployment; `None` if skipped.
    pub(super) fn up(scene: Scene) -> Option<Self> {
        let plane = kubernetes::shared_blocking()?;
        plane.custom_resources("istio", "/apis/networking.istio.io/v1/virtualservices");
        let namespace = plane.namespace(scene.name);
        plane.apply(&objects(&namespace, scene.replicas));
        let begun = Instant::now();
        let page = Endpoint::start(move |_| Reply::new(200, counters(begun.elapsed())));
        let folder = tempfile::tempdir().expect("a folder");
        let settings = daemon::Settings { source: page.url.clone(), time_scale: TIME_SCALE, rule: rule(&namespace, &page.url, &scene) };
        // rules that are objects would be those of other tests too
        let more = json!({"cluster": {"kubeconfig": plane.kubeconfig("admin"), "resources": false}});
        let daemon = Daemon::start_with(&folder.path().join("canaryd"), ports::free(), &settings, &more);
        let mut stage = Self { daemon, _page: page, plane, namespace, _folder: folder, begun };
        for (position, replicas) in scene.replicas.into_iter().enumerate() {
            stage.wait_ready(position, replicas);
        }
        stage.wait_log("both are seen for the first time", |log| log.matches("pod template noted").count() >= 2);
        Some(stage)
    }

    /// Says how far the scenario is, and when, to whoever runs the tests.
    pub(super) fn tell(&self, what: &str) {
        rig::tell(self.begun, &self.namespace, what);
    }

    /// Somebody deploys an image; its pods behave so (see kwok-stages.yaml).
    pub(super) fn deploy(&self, position: usize, image: &str, behaviour: &str) {
        self.patch(
            DEPLOYMENTS[position],
            &json!([
                {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image},
                {"op": "add", "path": "/spec/template/metadata/annotations", "value": {"sim/behaviour": behaviour}},
            ]),
        );
        self.tell(&format!("{} is to run {image}", DEPLOYMENTS[position]));
    }

    /// The same by server-side apply, as a GitOps controller does it: what it does not name is not its own.
    pub(super) fn apply_as(&self, manager: &str, position: usize, image: &str, behaviour: &str) {
        let name = DEPLOYMENTS[position];
        let template = json!({"metadata": {"labels": labels(name), "annotations": {"sim/behaviour": behaviour}},
            "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "shop", "image": image}]}});
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"selector": {"matchLabels": labels(name)}, "template": template}});
        let manager = format!("--field-manager={manager}");
        let arguments = ["apply", "--server-side", "--force-conflicts", &manager, "-f", "-"];
        self.plane.try_kubectl(&arguments, Some(&object.to_string())).unwrap_or_else(|e| panic!("{object} is refused: {e}"));
        self.tell(&format!("{manager} makes {name} run {image}"));
    }

    /// Somebody scales a Deployment.
    pub(super) fn scale(&self, position: usize, replicas: u32) {
        self.patch(DEPLOYMENTS[position], &json!([{"op": "replace", "path": "/spec/replicas", "value": replicas}]));
    }

    /// Somebody makes an autoscaler of a Deployment, which keeps one replica or more. It knows no load, as nobody measures any here: what
    /// it does is keep its minimum.
    pub(super) fn autoscale(&self, position: usize) {
        let name = DEPLOYMENTS[position];
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}});
        self.plane.apply(&json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
                "minReplicas": 1, "maxReplicas": 10, "metrics": [cpu]}}));
        self.tell(&format!("{name} has an autoscaler"));
    }

    /// Another hand sets its minimum.
    pub(super) fn set_minimum(&self, position: usize, replicas: u32) {
        let operations = json!([{"op": "replace", "path": "/spec/minReplicas", "value": replicas}]).to_string();
        self.plane.kubectl(&["patch", "hpa", DEPLOYMENTS[position], "-n", &self.namespace, "--type=json", "-p", &operations]);
        self.tell(&format!("another hand sets the minimum of {} to {replicas}", DEPLOYMENTS[position]));
    }

    /// Waits until the autoscaler of a Deployment has this minimum; with a note of what it was, or without.
    pub(super) fn wait_minimum(&self, position: usize, replicas: u32, was: Option<&str>) {
        let name = DEPLOYMENTS[position];
        let so = |found: &Value| {
            let note = &found["metadata"]["annotations"]["canaryd.io/min-replicas"];
            found["spec"]["minReplicas"] == replicas && note.as_str() == was
        };
        let seen = poll(PATIENT, || Some(self.object("hpa", name)).filter(so));
        assert!(seen.is_some(), "{name} has not the minimum {replicas} ({was:?}) within {PATIENT:?}: {:#}", self.object("hpa", name));
        self.tell(&format!("{name} has the minimum {replicas}"));
    }

    /// How the pods of a Deployment behave from now on, whatever their template says.
    pub(super) fn behave(&self, position: usize, behaviour: &str) {
        let (label, word) = (format!("track={}", DEPLOYMENTS[position]), format!("sim/behaviour={behaviour}"));
        // a pod that is deleted meanwhile is no failure
        drop(self.plane.try_kubectl(&["annotate", "pod", "-n", &self.namespace, "-l", &label, "--overwrite", &word], None));
    }

    /// Heals its pods, as often as it takes: a rolling update makes them one after the other.
    pub(super) fn heal(&self, position: usize, replicas: u32) {
        let healed = poll(PATIENT, || {
            self.behave(position, "well");
            is_ready(&self.deployment(position), replicas).then_some(())
        });
        assert!(healed.is_some(), "{:#}", self.deployment(position));
    }

    pub(super) fn wait_ready(&self, position: usize, replicas: u32) {
        self.wait_deployment(position, &format!("{replicas} replicas are ready"), |found| is_ready(found, replicas));
    }

    pub(super) fn deployment(&self, position: usize) -> Value {
        self.object("deployment", DEPLOYMENTS[position])
    }

    pub(super) fn image(&self, position: usize) -> Value {
        self.deployment(position)["spec"]["template"]["spec"]["containers"][0]["image"].clone()
    }

    /// Replicas both ask for.
    pub(super) fn replicas(&self) -> [u64; 2] {
        [0, 1].map(|position| self.deployment(position)["spec"]["replicas"].as_u64().expect("a number"))
    }

    fn object(&self, kind: &str, name: &str) -> Value {
        let text = self.plane.kubectl(&["get", kind, name, "-n", &self.namespace, "-o", "json"]);
        serde_json::from_str(&text).expect("JSON")
    }

    /// Waits until a Deployment is as wanted, and gives it.
    pub(super) fn wait_deployment(&self, position: usize, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let seen = poll(PATIENT, || Some(self.deployment(position)).filter(|found| wanted(found)));
        let found = seen.unwrap_or_else(|| panic!("not within {PATIENT:?}: {what}: {:#}", self.deployment(position)));
        self.tell(&format!("{}: {what}", DEPLOYMENTS[position]));
        found
    }

    /// Weights as they are in the VirtualService.
    pub(super) fn weights(&self) -> [u64; 2] {
        let object = self.object("virtualservice", "shop");
        [0, 1].map(|i| object["spec"]["http"][0]["route"][i]["weight"].as_u64().unwrap_or_else(|| panic!("no weight in {object:#}")))
    }

    fn patch(&self, deployment: &str, operations: &Value) {
        self.plane.kubectl(&["patch", "deployment", deployment, "-n", &self.namespace, "--type=json", "-p", &operations.to_string()]);
    }

    /// Waits for the rollout that a deployment of this version has begun by itself, and gives its name.
    pub(super) fn wait_begun(&self, version: &str) -> String {
        let of_it = |rollout: &&Value| rollout["over"] == false && rollout["version"].as_str().is_some_and(|v| v.starts_with(version));
        let all = || self.daemon.get("/api/v1/rollouts");
        let found = poll(PATIENT, || all()["rollouts"].as_array()?.iter().find(of_it)?["id"].as_str().map(str::to_owned));
        let id = found.unwrap_or_else(|| panic!("no rollout of {version} within {PATIENT:?}: {:#}", all()));
        self.tell(&format!("{id} of {version} has begun by itself"));
        id
    }

    /// A person starts one.
    pub(super) fn start(&self) -> String {
        let answer = self.daemon.post("/api/v1/rules/shop/start", &json!({ "version": "" }));
        answer["rollout"].as_str().unwrap_or_else(|| panic!("no rollout in {answer}")).to_owned()
    }

    /// A person's word.
    pub(super) fn say(&self, id: &str, verb: &str) {
        self.daemon.post(&format!("/api/v1/rollouts/{id}/{verb}"), &json!({ "why": "the test" }));
        self.tell(&format!("a person says {verb}"));
    }

    /// The same again and again, as it may be refused for now, until the rollout is as wanted.
    pub(super) fn insist(&self, id: &str, verb: &str, wanted: impl Fn(&Value) -> bool) {
        let so = poll(PATIENT, || {
            let answer = self.daemon.ask("POST", &format!("/api/v1/rollouts/{id}/{verb}"), &json!({ "why": "the test" }));
            assert!(answer.status < 500, "{verb}: {} {}", answer.status, answer.text());
            std::thread::sleep(SAID_AGAIN);
            Some(()).filter(|()| wanted(&self.view(id)))
        });
        assert!(so.is_some(), "not within {PATIENT:?} of saying {verb}: {:#}", self.view(id));
        self.tell(&format!("{id}: a person says {verb} until it is so"));
    }

    /// The rollout as the API shows it.
    pub(super) fn view(&self, id: &str) -> Value {
        self.daemon.get(&format!("/api/v1/rollouts/{id}"))
    }

    /// Waits until the view is as wanted, and gives it.
    pub(super) fn wait_for(&self, id: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let seen = poll(PATIENT, || Some(self.view(id)).filter(|view| wanted(view)));
        let view = seen.unwrap_or_else(|| panic!("not within {PATIENT:?}: {what}; the rollout: {:#}", self.view(id)));
        self.tell(&format!("{id}: {what}"));
        view
    }

    /// Waits until the rollout is over, which must be in this state.
    pub(super) fn wait_for_end(&self, id: &str, state: &str) -> Value {
        self.wait_for(id, state, |view| {
            assert!(view["over"] == false || view["state"] == state, "it ended otherwise: {view:#}");
            view["over"] == true
        })
    }

    /// Looks for so long as it takes to be noticed, and sees nothing else.
    pub(super) fn assert_stays(&self, what: &str, so: impl Fn() -> bool) {
        let until = Instant::now() + NOTICED;
        while Instant::now() < until {
            assert!(so(), "not any more: {what}; {:#}", self.daemon.get("/api/v1/rollouts"));
            std::thread::sleep(Duration::from_millis(250));
        }
        self.tell(&format!("for {} s: {what}", NOTICED.as_secs()));
    }

    /// Waits until the log is as wanted.
    pub(super) fn wait_log(&mut self, what: &str, wanted: impl Fn(&str) -> bool) {
        let seen = poll(PATIENT, || wanted(&self.daemon.process().log()).then_some(()));
        assert!(seen.is_some(), "not within {PATIENT:?}: {what}: {}", self.daemon.process().log());
        self.tell(what);
    }

    /// What a kill leaves that comes after a rollout has succeeded and before its template is noted: the journal knows of both, and of
    /// this workload as it was before. Then the daemon is started again.
    pub(super) fn forget(&mut self, position: usize) {
        assert!(self.daemon.stop().success());
        let store = Sqlite::open(&self.daemon.data()).expect("its journal");
        let workload = format!("{}/{}", self.namespace, DEPLOYMENTS[position]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            store.note("shop", &workload, Some("the one before".to_owned())).await.expect("written");
            store.close().await.expect("closed");
        });
        drop(store);
        self.daemon.restart();
        self.tell(&format!("the daemon is up again, and does not know what {} has", DEPLOYMENTS[position]));
    }

    /// Ends the daemon as an operator would, and decides every rollout of its journal again.
    pub(super) fn close(mut self) {
        self.daemon.ends_well();
        self.tell("closed, and every decision made again from the journal");
    }
}

fn labels(name: &str) -> Value {
    json!({"app": "shop", "track": name})
}

fn objects(namespace: &str, replicas: [u32; 2]) -> Value {
    let named = |name: &str| json!({"name": name, "namespace": namespace});
    let deployment = |position: usize| {
        let name = DEPLOYMENTS[position];
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": named(name), "spec": {
            "replicas": replicas[position], "progressDeadlineSeconds": 6, "selector": {"matchLabels": labels(name)}, "template": {"metadata": {"labels": labels(name)},
                "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "shop", "image": "shop:1"}]}}}})
    };
    let to = |subset: &str, weight: u64| json!({"destination": {"host": "shop", "subset": subset}, "weight": weight});
    let http = json!([{"name": "primary", "route": [to("v1", 100), to("v2", 0)]}]);
    let route = json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": named("shop"),
        "spec": {"hosts": ["shop"], "http": http}});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": named("shop"),
        "spec": {"selector": {"app": "shop"}, "ports": [{"port": 80}]}});
    json!({"apiVersion": "v1", "kind": "List", "items": [deployment(0), deployment(1), route, service]})
}

/// Users who get what they ask for, of either version as often.
fn counters(since: Duration) -> String {
    let count = 1000.0 + since.as_secs_f64() * RATE_PER_S;
    let of =
        |cluster: &str| format!("envoy_cluster_upstream_rq{{envoy_response_code=\"200\",envoy_cluster_name=\"{cluster}\"}} {count:.0}\n");
    format!("# TYPE envoy_cluster_upstream_rq counter\n{}{}", of("v1"), of("v2"))
}

fn rule(namespace: &str, page: &str, scene: &Scene) -> String {
    let workload = |position: usize| {
        let version = ["v1", "v2"][position];
        format!("{{ deployment: {}, cluster: {version}, subset: {version} }}", DEPLOYMENTS[position])
    };
    let [first, second] = [0, 1].map(workload);
    let workloads = match scene.form {
        "stable" => format!("stable: {first}, canary: {second}"),
        _ => format!("pair: [ {first}, {second} ]"),
    };
    format!(
        "rule: shop
workloads: {{ namespace: {namespace}, {workloads} }}
telemetry: [ {{ pack: envoy, scrape: [ \"{page}/metrics\" ] }} ]
interval: 1s
{}",
        scene.rule
    )
}
