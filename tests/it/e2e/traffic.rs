//! Traffic that goes elsewhere: other hands on the route, and a data plane that does not obey.

use super::stage::{PATIENT, Scene, Stage};

const STEPS: &str = "[ { weight: 10%, for: 15s }, { weight: 100%, bake: 5s } ]";

#[test]
fn a_weight_moved_by_another_hand_is_told_and_written_again() {
    let Some(stage) = Stage::up(Scene { steps: STEPS, ..Scene::default() }) else { return };
    let id = stage.start("2.0.0");
    stage.wait_for_weight(&id, 100);
    stage.wait_counted(&id, 2.0);
    stage.edge.shift(700, "somebody-else");
    stage.wait_routed(100);
    let (text, _) = stage.decided(&id, "reassert");
    assert!(text.contains("another hand moved the weight"), "{text}");
    stage.wait_for_weight(&id, 100);
    stage.assert_share_of_second(0.1);
    stage.wait_for_end(&id, "succeeded");
    stage.close();
}

#[test]
fn a_weight_moved_by_another_hand_is_yielded_to_where_the_rule_says_so() {
    let scene = Scene { steps: STEPS, more: "policies: { foreign: yield }", ..Scene::default() };
    let Some(stage) = Stage::up(scene) else { return };
    let id = stage.start("2.0.0");
    stage.wait_for_weight(&id, 100);
    stage.wait_counted(&id, 2.0);
    stage.edge.shift(700, "somebody-else");
    let view = stage.wait_for(&id, PATIENT, "paused", |view| view["state"] == "paused");
    assert!(view["state-text"].as_str().is_some_and(|text| text.contains("70%")), "{view:#}");
    assert_eq!((stage.routed(), &view["weight-seen-permille"]), (700, &700.into()));
    stage.daemon.post(&format!("/api/v1/rollouts/{id}/resume"), &serde_json::json!({ "why": "it is ours" }));
    stage.wait_routed(100);
    stage.wait_for_end(&id, "succeeded");
    stage.close();
}

#[test]
fn traffic_that_ignores_the_weight_holds() {
    let steps = "[ { weight: 50%, for: 10s }, { weight: 100%, bake: 5s } ]";
    let Some(stage) = Stage::up(Scene { steps, deaf: true, ..Scene::default() }) else { return };
    stage.edge.shift_deaf(100);
    let id = stage.start("2.0.0");
    let text = stage.wait_for_hold(&id, "traffic share");
    assert!(text.contains("traffic does not follow the weight") && text.contains("instead of 50%"), "{text}");
    assert_eq!(stage.view(&id)["step"]["counts-time"], false);
    // it obeys: the rollout goes on by itself
    stage.edge.shift_deaf(500);
    stage.wait_for(&id, PATIENT, "it goes on to 100%", |view| view["weight-permille"] == 1000);
    stage.close();
}
