//! Two Deployments that take turns.

use super::errors;
use super::stage::{Form, Scene, Stage};
use crate::rig::service::Behaviour;

const RULE: &str = "start: { when: new-template }
steps: [ { weight: 5%, for: 10s }, { weight: 25%, for: 8s }, { weight: 50%, for: 8s }, { weight: 100%, bake: 8s } ]
metrics:
  error-rate: { tolerate: { relative: 20%, absolute: 0.5% }, rollback-above: 5% }
after-rollback: undo
";

#[test]
fn a_new_template_gets_the_traffic_of_a_real_mesh_step_by_step_and_a_bad_one_is_undone() {
    let scene =
        Scene { name: "product-swap", form: Form::Pair, versions: ["1.0.0", "0.9.0"], replicas: [2, 2], scalers: false, rule: RULE };
    let Some(mut stage) = Stage::up(scene) else { return };
    stage.deploy(1, "2.0.0", Behaviour::default());
    let id = stage.wait_begun("2.0.0");
    for permille in [50, 250, 500, 1000] {
        stage.assert_share(&id, permille, permille);
    }
    let view = stage.wait_for_end(&id, "succeeded");
    assert_eq!((&view["baseline"], &view["canary"]), (&"shop-v1".into(), &"shop-v2".into()));
    assert_eq!(stage.weights(), [0, 100], "swapped");
    assert_eq!(stage.statuses(), [200], "no user saw an error");

    // the next release goes the other way, and fails one request in twenty
    let before = stage.template(0);
    stage.deploy(0, "3.0.0", errors(0.05));
    let id = stage.wait_begun("3.0.0");
    stage.wait_routed(950);
    let view = stage.wait_for_end(&id, "rolled-back");
    assert_eq!((&view["baseline"], &view["canary"]), (&"shop-v2".into(), &"shop-v1".into()));
    assert_eq!(stage.weights(), [0, 100]);
    assert_eq!(stage.template(0), before, "the template is undone");
    stage.assert_share_now(1000);
    stage.close();
}
