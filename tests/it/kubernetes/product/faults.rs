//! Pods that are unwell: the canary's fault, or nobody's.

use super::stage::{Form, PATIENT, Scene, Stage, deployment};
use crate::kubernetes::scene::is_ready;
use crate::rig::poll;
use crate::rig::service::Behaviour;
use serde_json::{Value, json};

const RULE: &str = "start: { when: manual }
steps: [ { weight: 50%, for: 1h }, { weight: 100%, bake: 1h } ]
promotion: swap
metrics:
  error-rate: { tolerate: { relative: 20%, absolute: 0.5% } }
  pod-health: { rollback-on: [ crash-loop, oom-killed, { failed-probes: 3 } ] }
";

impl Stage {
    /// Name of a pod of what this Deployment runs now.
    fn pod(&self, position: usize) -> String {
        let of = self.object("deployment", &deployment(position))["spec"]["template"]["spec"]["containers"][0]["image"].clone();
        let text = self.plane.kubectl(&["get", "pods", "-n", &self.namespace, "-o", "json"]);
        let pods: Value = serde_json::from_str(&text).expect("JSON");
        let runs = |pod: &&Value| pod["spec"]["containers"][0]["image"] == of && pod["metadata"]["deletionTimestamp"].is_null();
        let name = pods["items"].as_array().and_then(|all| all.iter().find(runs)?["metadata"]["name"].as_str());
        name.unwrap_or_else(|| panic!("no pod of {of}")).to_owned()
    }

    /// How a pod is from now on; empty: well.
    fn ail(&self, pod: &str, how: &str) {
        let word = if how.is_empty() { "sim/behaviour-".to_owned() } else { format!("sim/behaviour={how}") };
        self.plane.kubectl(&["annotate", "pod", pod, "-n", &self.namespace, "--overwrite", &word]);
    }

    /// Waits until a pod is ready, or is not.
    fn wait_ready(&self, pod: &str, ready: bool) {
        let wanted = if ready { "True" } else { "False" };
        let path = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
        let look = || self.plane.kubectl(&["get", "pod", pod, "-n", &self.namespace, "-o", path]);
        assert!(poll(PATIENT, || (look() == wanted).then_some(())).is_some(), "{pod} is not ready={ready}");
    }

    /// A rollout of a new release at half of the traffic, and a pod of its canary.
    fn half_way(&mut self, version: &'static str) -> (String, String) {
        self.deploy(1, version, Behaviour::default());
        self.wait_object("deployment", &deployment(1), "it is ready", |found| is_ready(found, 2));
        let id = self.start(version);
        self.wait_for(&id, "half of the traffic", |view| view["weight-seen-permille"] == 500);
        let pod = self.pod(1);
        (id, pod)
    }

    /// Waits until it is rolled back for what this pod shows.
    fn assert_blamed(&self, id: &str, pod: &str, sign: &str) {
        let view = self.wait_for_end(id, "rolled-back");
        let reasons = view["reasons"].to_string();
        assert!(reasons.contains(sign) && reasons.contains(pod), "{sign} of {pod}: {reasons}");
        assert_eq!(self.weights(), [100, 0]);
        self.tell(&format!("rolled back for {sign} of {pod}"));
    }
}

#[test]
fn a_canary_whose_pods_are_unwell_is_rolled_back_by_name_unless_the_baselines_are_too() {
    let scene =
        Scene { name: "product-faults", form: Form::Pair, versions: ["1.0.0", "0.9.0"], replicas: [2, 2], scalers: false, rule: RULE };
    let Some(mut stage) = Stage::up(scene) else { return };
    let (id, pod) = stage.half_way("2.0.0");
    stage.ail(&pod, "crashloop");
    stage.assert_blamed(&id, &pod, "crash-loop");

    let (id, pod) = stage.half_way("2.0.1");
    stage.ail(&pod, "oomkilled");
    stage.assert_blamed(&id, &pod, "oom-killed");

    let (id, pod) = stage.half_way("2.0.2");
    for _ in 0..3 {
        stage.ail(&pod, "unready");
        stage.wait_ready(&pod, false);
        stage.ail(&pod, "");
        stage.wait_ready(&pod, true);
    }
    stage.assert_blamed(&id, &pod, "failed-probes");

    // one that never becomes ready gets no traffic, and says which pod
    stage.deploy(1, "2.0.3", Behaviour::default());
    let unready = json!([{"op": "add", "path": "/spec/template/metadata/annotations/sim~1behaviour", "value": "unready"}]);
    stage.patch("deployment", &deployment(1), &unready);
    let id = stage.start("2.0.3");
    let held = |view: &Value| {
        let holds = view["holds"].to_string();
        holds.contains("the canary has 0 of the") && holds.contains("(pod shop-v2-")
    };
    let view = stage.wait_for(&id, "held for pods", held);
    assert_eq!((&view["weight-permille"], &view["over"]), (&0.into(), &false.into()), "{view:#}");
    stage.daemon.post(&format!("/api/v1/rollouts/{id}/rollback"), &json!({ "why": "it never comes" }));
    stage.wait_for_end(&id, "rolled-back");
    stage.patch("deployment", &deployment(1), &json!([{"op": "remove", "path": "/spec/template/metadata/annotations/sim~1behaviour"}]));

    // the same fault in the baseline: not the canary's
    let (id, pod) = stage.half_way("2.0.4");
    stage.ail(&stage.pod(0), "crashloop");
    stage.wait_ready(&stage.pod(0), false);
    stage.ail(&pod, "crashloop");
    stage.wait_for(&id, "held: both", |view| {
        assert_eq!(view["over"], false, "the canary is blamed: {view:#}");
        view["holds"].to_string().contains("\"pods\"")
    });
    assert_eq!(stage.weights(), [50, 50]);
    stage.close();
}
