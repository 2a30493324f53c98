//! What becomes of the old version after a swap: it is kept for a while, and then idle.

use super::stage::{Scene, Stage};
use serde_json::Value;

const RULE: &str = "traffic: { istio: { virtual-service: shop, route: primary } }
drain: 1s
start: { when: new-template }
steps: [ { weight: 50%, for: 4s }, { weight: 100%, bake: 3s } ]
promotion: { swap: { keep: 40s, idle-replicas: 0 } }
replicas: follow
metrics: { error-rate: { tolerate: { relative: 20%, absolute: 0.5% } } }
";

fn is_marked(found: &Value) -> bool {
    found["metadata"]["annotations"]["canaryd.io/idle-at"].is_string()
}

#[test]
fn the_old_version_is_idle_after_its_time_never_in_a_rollout_and_has_its_replicas_for_the_next() {
    let Some(mut stage) = Stage::up(Scene { name: "paths-swap", form: "pair", replicas: [2, 2], rule: RULE }) else { return };
    stage.deploy(1, "shop:2", "");
    let id = stage.wait_begun("shop:2");
    stage.wait_for_end(&id, "succeeded");
    assert_eq!((stage.weights(), stage.replicas()), ([0, 100], [2, 2]));
    assert!(is_marked(&stage.deployment(0)), "its time will come");

    stage.forget(1);
    stage.wait_log("what was promoted is no news", |log| log.contains(r#"workload="shop-v2""#) && log.contains(r#"why="promoted""#));
    let log = stage.daemon.process().log();
    assert!(!log.contains("live already"), "{log}");

    // a person wants the old version back before it is idle, and takes it for a rollout of its own
    let id = stage.start();
    stage.wait_for(&id, "half of the traffic", |view| view["weight-seen-permille"] == 500);
    stage.say(&id, "pause");
    stage.wait_log("it carries traffic, and is not scaled", |log| log.contains("it carries traffic: its note is dropped"));
    assert_eq!((stage.weights(), stage.replicas()), ([50, 50], [2, 2]));
    assert!(!is_marked(&stage.deployment(0)), "{:#}", stage.deployment(0));
    stage.say(&id, "rollback");
    stage.wait_for_end(&id, "rolled-back");

    // the next release goes the other way; then the second is the old one
    stage.deploy(0, "shop:3", "");
    let id = stage.wait_begun("shop:3");
    stage.wait_for_end(&id, "succeeded");
    assert_eq!(stage.weights(), [100, 0]);
    stage.wait_deployment(1, "it is idle", |found| found["spec"]["replicas"] == 0);
    assert!(!is_marked(&stage.deployment(1)), "once");
    assert_eq!(stage.replicas(), [2, 0], "what carries the traffic is not touched");

    // and has what it needs before the traffic comes
    stage.deploy(1, "shop:4", "");
    let id = stage.wait_begun("shop:4");
    stage.wait_for(&id, "half of the traffic", |view| view["weight-seen-permille"] == 500);
    assert!(stage.deployment(1)["status"]["readyReplicas"].as_u64() >= Some(1), "half of two");
    stage.wait_for_end(&id, "succeeded");
    assert_eq!(stage.deployment(1)["status"]["readyReplicas"], 2, "all of two");
    assert_eq!(stage.weights(), [0, 100]);
    stage.close();
}
