//! The share of the traffic is that of replicas.

use super::stage::{Scene, Stage};
use serde_json::Value;

const RULE: &str = "traffic: { replicas: { service: shop } }
drain: 1s
start: { when: new-template }
steps: [ { weight: 25%, for: 4s }, { weight: 50%, for: 4s }, { weight: 100%, bake: 3s } ]
after-rollback: undo
metrics:
  error-rate: { tolerate: { relative: 20%, absolute: 0.5% } }
  pod-health: { rollback-on: [ crash-loop ] }
";

#[test]
fn a_canary_without_replicas_begins_by_itself_and_is_swapped_and_the_next_one_undone() {
    let Some(mut stage) = Stage::up(Scene { name: "paths-replicas", form: "pair", replicas: [4, 0], rule: RULE }) else { return };
    stage.deploy(1, "shop:2", "");
    let id = stage.wait_begun("shop:2");
    for (permille, replicas) in [(250, [3, 1]), (500, [2, 2]), (1000, [0, 4])] {
        stage.wait_for(&id, &format!("{permille} permille"), |view| view["weight-seen-permille"] == permille);
        assert_eq!(stage.replicas(), replicas);
    }
    stage.wait_for_end(&id, "succeeded");
    assert_eq!(stage.replicas(), [0, 4]);

    // the next one goes the other way; its only pod crashes, and takes no replica of the others
    stage.deploy(0, "shop:3", "crashloop");
    let id = stage.wait_begun("shop:3");
    let view = stage.wait_for_end(&id, "rolled-back");
    assert!(view["reasons"].to_string().contains("crash-loop"), "{view:#}");
    assert_eq!((stage.replicas(), stage.image(0)), ([0, 4], "shop:1".into()), "undone");
    let log = stage.daemon.process().log();
    assert!(!log.contains("missing capacity"), "what the share took from the baseline was meant: {log}");
    stage.assert_stays("what was undone is no release", || {
        stage.daemon.get("/api/v1/rollouts")["rollouts"].as_array().is_some_and(|all| all.iter().all(|r: &Value| r["over"] == true))
    });
    stage.close();
}
