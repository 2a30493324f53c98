//! Somebody else makes stable equal.

use super::stage::{Scene, Stage};
use serde_json::Value;

const RULE: &str = "traffic: { istio: { virtual-service: shop, route: primary } }
drain: 1s
start: { when: new-template }
steps: [ { weight: 50%, for: 4s }, { weight: 100%, bake: 3s } ]
promotion: { external: { promote-within: 45s } }
metrics: { error-rate: { tolerate: { relative: 20%, absolute: 0.5% } } }
";

/// Who else writes.
const GITOPS: &str = "argocd-controller";

#[test]
fn traffic_goes_back_to_a_stable_that_somebody_else_made_equal_and_to_no_other() {
    let Some(mut stage) = Stage::up(Scene { name: "paths-external", form: "stable", replicas: [2, 2], rule: RULE }) else { return };
    stage.deploy(1, "shop:2", "");
    let id = stage.wait_begun("shop:2");
    let held = |view: &Value| view["state"] == "promoting" && view["holds"].to_string().contains("somebody else has to make stable equal");
    stage.wait_for(&id, "all traffic is on the canary, and somebody is to make stable equal", held);
    assert_eq!(stage.weights(), [0, 100]);

    // the same release, half of it not ready
    stage.apply_as(GITOPS, 0, "shop:2", "unready");
    stage.wait_deployment(0, "it has new pods that are not ready", |found| {
        found["status"]["observedGeneration"] == found["metadata"]["generation"] && found["status"]["updatedReplicas"].as_u64() >= Some(1)
    });
    stage.assert_stays("a stable that is half updated gets nothing", || stage.weights() == [0, 100]);

    // something else, and all of it ready
    stage.apply_as(GITOPS, 0, "shop:9", "");
    stage.wait_ready(0, 2);
    stage.assert_stays("a stable that is something else gets nothing", || stage.weights() == [0, 100]);

    // too late: a person is asked
    let asked = |view: &Value| view["state"] == "paused";
    let view = stage.wait_for(&id, "a person is asked", asked);
    assert!(view.to_string().contains("stable was not made equal in time"), "{view:#}");
    stage.wait_log("it is told", |log| log.contains("stable was not made equal in time"));
    stage.apply_as(GITOPS, 0, "shop:2", "");
    stage.wait_ready(0, 2);
    stage.assert_stays("a pause moves nothing", || stage.weights() == [0, 100] && stage.view(&id)["state"] == "paused");
    stage.say(&id, "resume");
    stage.wait_for_end(&id, "succeeded");
    assert_eq!(stage.weights(), [100, 0]);

    // what stable has now is no release, and neither is what the canary has
    stage.assert_stays("nothing begins", || stage.daemon.get("/api/v1/rollouts")["rollouts"].as_array().map(Vec::len) == Some(1));
    let log = stage.daemon.process().log();
    assert!(!log.contains("live already"), "{log}");

    // the next time it is in time, and nobody is asked
    stage.deploy(1, "shop:3", "");
    let id = stage.wait_begun("shop:3");
    stage.wait_for(&id, "all traffic is on the canary again", held);
    stage.apply_as(GITOPS, 0, "shop:3", "");
    stage.wait_for_end(&id, "succeeded");
    assert_eq!(stage.weights(), [100, 0]);

    stage.forget(0);
    stage.wait_log("what somebody made equal is what was promoted", |log| {
        log.contains(r#"workload="shop-v1""#) && log.contains(r#"why="promoted""#)
    });
    let log = stage.daemon.process().log();
    assert!(!log.contains("live already"), "{log}");
    stage.close();
}
