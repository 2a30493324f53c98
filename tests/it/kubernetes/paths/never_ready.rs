//! A release whose pods never become ready.

use super::stage::{Scene, Stage};
use serde_json::Value;

const RULE: &str = "traffic: { istio: { virtual-service: shop, route: primary } }
drain: 1s
start: { when: new-template }
steps: [ { weight: 50%, for: 4s }, { weight: 100%, bake: 3s } ]
promotion: swap
after-rollback: undo
metrics:
  error-rate: { tolerate: { relative: 20%, absolute: 0.5% } }
  pod-health: { rollback-on: [ never-ready ] }
";

#[test]
fn pods_that_never_become_ready_are_told_by_name_and_roll_back_a_rollout_that_a_person_began() {
    let Some(mut stage) = Stage::up(Scene { name: "paths-never-ready", form: "pair", replicas: [2, 2], rule: RULE }) else { return };
    stage.deploy(1, "shop:2", "unready");
    stage.wait_log("it is told, and not begun", |log| {
        log.contains("shop-v2 has a new release, shop:2 (") && log.contains("its pods do not become ready (0 of 2: pod shop-v2-")
    });
    assert!(stage.daemon.process().log().contains("ProgressDeadlineExceeded"));
    assert_eq!(stage.daemon.get("/api/v1/rollouts")["rollouts"], Value::Array(Vec::new()));

    // the pods of the release before are ready, and are not what is on trial
    let id = stage.start();
    let view = stage.wait_for_end(&id, "rolled-back");
    let reasons = view["reasons"].to_string();
    assert!(
        reasons.contains("never-ready") && reasons.contains("pod shop-v2-") && reasons.contains("ProgressDeadlineExceeded"),
        "{view:#}"
    );
    assert_eq!((stage.weights(), stage.image(1)), ([100, 0], "shop:1".into()), "undone, and never had any traffic");
    stage.wait_ready(1, 2);
    stage.close();
}
