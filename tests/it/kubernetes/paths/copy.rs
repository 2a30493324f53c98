//! A copy whose stable fails when the traffic is on its way back, and the release after it.

use super::stage::{Scene, Stage};
use serde_json::Value;

const RULE: &str = "traffic: { istio: { virtual-service: shop, route: primary } }
start: { when: new-template }
steps: [ { weight: 50%, for: 4s }, { weight: 100%, bake: 3s } ]
promotion: copy
drain: 25s
metrics: { error-rate: { tolerate: { relative: 20%, absolute: 0.5% } } }
";

#[test]
fn a_stable_that_fails_under_the_traffic_gives_it_back_to_the_canary_and_the_next_release_waits_for_pods() {
    let Some(mut stage) = Stage::up(Scene { name: "paths-copy", form: "stable", replicas: [2, 2], rule: RULE }) else { return };
    stage.deploy(1, "shop:2", "");
    let id = stage.wait_begun("shop:2");
    let shifting = |view: &Value| view["state"] == "promoting" && view["weight-seen-permille"] == 0;
    stage.wait_for(&id, "the traffic is back on stable, and drains", shifting);
    assert_eq!((stage.weights(), stage.image(0)), ([100, 0], "shop:2".into()));

    stage.behave(0, "unready");
    stage.wait_for(&id, "all traffic returns to the canary", |view| {
        assert_eq!(view["over"], false, "{view:#}");
        view["weight-seen-permille"] == 1000
    });
    assert_eq!(stage.weights(), [0, 100]);
    stage.wait_log("somebody is paged, with what is missing", |log| {
        log.contains("the weight does not go back to stable (stable is not ready any more: 0 of 2 pods of shop-v1 are ready)")
    });
    let stuck = |view: &Value| view["state"] == "stuck" && view.to_string().contains("0 of 2 ready");
    stage.wait_for(&id, "it is stuck, and tries on", stuck);
    stage.assert_stays("no traffic goes to a stable that is not ready", || stage.weights() == [0, 100]);

    stage.heal(0, 2);
    stage.wait_for(&id, "the traffic is back on stable", shifting);
    stage.wait_for_end(&id, "succeeded");
    assert_eq!(stage.weights(), [100, 0]);
    assert_eq!(stage.replicas(), [2, 0], "the canary has none");

    // and nobody but a person gives it some, who is told
    stage.deploy(1, "shop:3", "");
    stage.wait_log("it is told that the next release has no pods", |log| {
        log.contains("shop-v2 has a new release, shop:3 (") && log.contains("shop-v2 asks for 0 replicas")
    });
    assert_eq!(stage.daemon.get("/api/v1/rollouts")["rollouts"].as_array().map(Vec::len), Some(1), "it has not begun");
    stage.scale(1, 2);
    stage.wait_begun("shop:3");
    stage.close();
}
