//! Blue and green behind one Service, whose selector is all that moves.

use super::errors;
use super::stage::{Form, Scene, Stage};
use crate::rig::service::Behaviour;

const RULE: &str = "start: { when: new-template }
steps: [ { weight: 100%, bake: 10s } ]
promotion: swap
metrics:
  error-rate: { rollback-above: 5% }
";

#[test]
fn blue_and_green_take_turns_by_the_selector_of_their_service() {
    let scene = Scene {
        name: "product-blue-green",
        form: Form::BlueGreen,
        versions: ["1.0.0", "0.9.0"],
        replicas: [2, 2],
        scalers: false,
        rule: RULE,
    };
    let Some(mut stage) = Stage::up(scene) else { return };
    stage.deploy(1, "2.0.0", Behaviour::default());
    let id = stage.wait_begun("2.0.0");
    stage.assert_share(&id, 1000, 1000);
    stage.wait_for_end(&id, "succeeded");
    assert_eq!(stage.object("service", "shop")["spec"]["selector"]["version"], "v2");
    assert_eq!(stage.statuses(), [200], "no user saw an error");

    stage.deploy(0, "3.0.0", errors(0.5));
    let id = stage.wait_begun("3.0.0");
    stage.wait_for_end(&id, "rolled-back");
    assert_eq!(stage.object("service", "shop")["spec"]["selector"]["version"], "v2");
    stage.assert_share_now(1000);
    stage.close();
}
