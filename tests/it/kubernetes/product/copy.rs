//! A stable Deployment and its canary: what proved itself is copied.

use super::errors;
use super::stage::{Form, Scene, Stage, deployment};
use crate::rig::service::Behaviour;
use serde_json::Value;

const RULE: &str = "start: { when: new-template }
steps: [ { weight: 50%, for: 8s }, { weight: 100%, bake: 6s } ]
promotion: copy
replicas: follow
after-rollback: scale-down
metrics:
  error-rate: { tolerate: { relative: 20%, absolute: 0.5% }, rollback-above: 5% }
";

fn image(template: &Value) -> &str {
    template["spec"]["containers"][0]["image"].as_str().unwrap_or_else(|| panic!("no image in {template:#}"))
}

#[test]
fn what_proved_itself_is_copied_to_stable_and_the_traffic_comes_back() {
    let scene = Scene {
        name: "product-copy",
        form: Form::StableCanary,
        versions: ["1.0.0", "0.9.0"],
        replicas: [2, 0],
        scalers: false,
        rule: RULE,
    };
    let Some(mut stage) = Stage::up(scene) else { return };
    stage.deploy(1, "2.0.0", Behaviour::default());
    let id = stage.wait_begun("2.0.0");
    for permille in [500, 1000] {
        stage.assert_share(&id, permille, permille);
    }
    stage.wait_for_end(&id, "succeeded");
    let stable = stage.template(0);
    assert!(image(&stable).ends_with(":2.0.0"), "{stable:#}");
    assert_eq!(stable["metadata"]["labels"]["version"], "v1", "stable is still stable");
    assert_eq!(stage.weights(), [100, 0]);
    stage.wait_routed(0);
    let gone = |object: &Value| object["spec"]["replicas"] == 0;
    stage.wait_object("deployment", &deployment(1), "the canary has no replicas", gone);
    assert_eq!(stage.statuses(), [200], "no user saw an error");

    stage.deploy(1, "3.0.0", errors(0.2));
    let id = stage.wait_begun("3.0.0");
    stage.wait_for_end(&id, "rolled-back");
    assert_eq!(stage.weights(), [100, 0]);
    assert_eq!(stage.template(0), stable, "stable was not touched");
    stage.wait_object("deployment", &deployment(1), "the canary has no replicas again", gone);
    stage.close();
}
