//! Autoscalers: what is raised is raised again against another hand, and given back however the rollout ends.

use super::stage::{Scene, Stage};

const RULE: &str = "traffic: { istio: { virtual-service: shop, route: primary } }
start: { when: new-template }
steps: [ { weight: 50%, for: 1h }, { weight: 100%, bake: 3s } ]
replicas: follow
drain: 1s
metrics: { error-rate: { tolerate: { relative: 20%, absolute: 0.5% } } }
";

#[test]
fn minimums_are_raised_again_against_another_hand_and_given_back_after_a_newer_release_and_a_success() {
    let Some(mut stage) = Stage::up(Scene { name: "paths-scalers", form: "pair", replicas: [3, 1], rule: RULE }) else { return };
    // the baseline's is made when the rollout has begun
    stage.autoscale(1);
    stage.deploy(1, "shop:2", "");
    let id = stage.wait_begun("shop:2");
    stage.wait_for(&id, "half of the traffic", |view| view["weight-seen-permille"] == 500);
    stage.wait_minimum(1, 2, Some("1"));
    stage.autoscale(0);
    stage.scale(0, 1);
    stage.wait_log("it is told", |log| log.contains("the baseline asks for 1 replicas, and a rollback needs the 3 it had at the start"));
    stage.wait_minimum(0, 3, Some("1"));
    stage.wait_ready(0, 3);
    // and set back
    stage.set_minimum(0, 1);
    stage.scale(0, 2);
    stage.wait_minimum(0, 3, Some("1"));
    stage.wait_ready(0, 3);

    // a newer release, which waits for its pods, so that nothing is raised for it yet
    stage.deploy(1, "shop:3", "unready");
    stage.wait_for_end(&id, "superseded");
    for position in [0, 1] {
        stage.wait_minimum(position, 1, None);
    }
    let wanted = stage.replicas()[1];
    stage.heal(1, u32::try_from(wanted).expect("a few"));
    let id = stage.wait_begun("shop:3");
    stage.insist(&id, "advance", |view| {
        // whatever its template says
        stage.behave(1, "well");
        view["weight-seen-permille"] == 1000
    });
    stage.wait_for_end(&id, "succeeded");
    for position in [0, 1] {
        stage.wait_minimum(position, 1, None);
    }
    let log = stage.daemon.process().log();
    assert!(log.matches("hold-baseline").count() >= 3, "it was held three times: {log}");
    assert_eq!((stage.weights(), stage.replicas()), ([0, 100], [3, 3]));
    stage.close();
}
