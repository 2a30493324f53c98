//! Replicas under autoscalers: what a rollout needs is there before the traffic, and what a rollback needs stays.

use super::errors;
use super::stage::{Form, Scene, Stage, deployment};
use crate::rig::service::Behaviour;
use serde_json::{Value, json};

const RULE: &str = "start: { when: new-template }
steps: [ { weight: 50%, for: 8s }, { weight: 100%, bake: 10m } ]
promotion: swap
replicas: follow
metrics:
  error-rate: { tolerate: { relative: 20%, absolute: 0.5% }, rollback-above: 5% }
";

fn least(replicas: u64) -> impl Fn(&Value) -> bool {
    move |scaler| scaler["spec"]["minReplicas"] == replicas
}

fn ready(replicas: u64) -> impl Fn(&Value) -> bool {
    move |found| found["spec"]["replicas"] == replicas && found["status"]["readyReplicas"] == replicas
}

#[test]
fn the_baseline_keeps_its_replicas_under_an_autoscaler_until_nothing_can_come_back() {
    let scene =
        Scene { name: "product-capacity", form: Form::Pair, versions: ["1.0.0", "0.9.0"], replicas: [3, 1], scalers: true, rule: RULE };
    let Some(mut stage) = Stage::up(scene) else { return };
    let (stable, canary) = (deployment(0), deployment(1));
    stage.deploy(1, "2.0.0", Behaviour::default());
    let id = stage.wait_begun("2.0.0");
    stage.assert_share(&id, 500, 500);
    let two = |found: &Value| found["status"]["readyReplicas"].as_u64() >= Some(2);
    assert!(two(&stage.object("deployment", &canary)), "half of the traffic needs two of three");
    stage.wait_object("hpa", &stable, "the baseline's minimum is raised to 3", least(3));
    stage.assert_share(&id, 1000, 1000);
    assert!(ready(3)(&stage.object("deployment", &canary)), "all of the traffic needs three");

    // the autoscaler's load is gone, or somebody tidies up: the minimum brings it back
    stage.patch("deployment", &stable, &json!([{"op": "replace", "path": "/spec/replicas", "value": 1}]));
    stage.wait_object("deployment", &stable, "the baseline is back at 3", ready(3));
    assert_eq!(stage.view(&id)["over"], false);

    stage.behave(1, errors(0.5));
    stage.wait_routed(0);
    assert!(ready(3)(&stage.object("deployment", &stable)), "the traffic comes back to all of them");
    stage.wait_for_end(&id, "rolled-back");
    for name in [&stable, &canary] {
        let scaler = stage.wait_object("hpa", name, "the minimum is what it was", least(1));
        assert_eq!(scaler["metadata"]["annotations"]["canaryd.io/min-replicas"], Value::Null, "{scaler:#}");
    }
    stage.close();
}
