//! The whole product: Deployments on a real control plane, a real istiod and a real Envoy that send real users to them, a real
//! Prometheus, and the real binary with what is shipped under `deploy/`. First file to read: `stage.rs`.

mod stage;

use crate::rig::service::Behaviour;
use stage::{Scene, Stage};

fn errors(share: f64) -> Behaviour {
    Behaviour { errors: share, ..Behaviour::default() }
}

#[test]
fn releases_get_the_traffic_of_a_real_mesh_step_by_step_or_lose_it() {
    let rule = "steps: [ { weight: 5%, for: 10s }, { weight: 25%, for: 8s }, { weight: 50%, for: 8s }, { weight: 100%, bake: 8s } ]
promotion: swap
drain: 1s
metrics:
  error-rate: { tolerate: { relative: 20%, absolute: 0.5% }, rollback-above: 5% }
";
    let scene = Scene { name: "product-steps", releases: ["1.0.0", "2.0.0"], replicas: 2, rule };
    let Some(stage) = Stage::up(scene) else { return };
    let id = stage.start("2.0.0");
    for permille in [50, 250, 500, 1000] {
        stage.assert_share(&id, true, permille);
    }
    let view = stage.wait_for_end(&id, "succeeded");
    assert_eq!((&view["baseline"], &view["canary"]), (&"shop-v1".into(), &"shop-v2".into()));
    assert_eq!(stage.weights(), [0, 100]);
    assert_eq!(stage.statuses(), [200], "no user saw an error");

    // the next release goes the other way, and fails one request in twenty
    stage.behave(0, errors(0.05));
    let id = stage.start("3.0.0");
    stage.wait_routed(950);
    let view = stage.wait_for_end(&id, "rolled-back");
    assert_eq!((&view["baseline"], &view["canary"]), (&"shop-v2".into(), &"shop-v1".into()));
    assert_eq!(stage.weights(), [0, 100]);
    stage.assert_share_now(1000);
    stage.close();
}
