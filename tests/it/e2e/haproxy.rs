//! The same behind a HAProxy: its exporter scraped, its server weights moved through the runtime socket.

use super::stage::{PATIENT, Scene, Stage, errors, hold, reasons};
use crate::rig::haproxy::Haproxy;

const STEPS: &str = "[ { weight: 12.5%, for: 8s }, { weight: 100%, bake: 5s } ]";

#[test]
fn a_healthy_version_gets_all_the_traffic_and_the_next_release_goes_the_other_way() {
    let Some(stage) = Stage::<Haproxy>::behind(Scene::default()) else { return };
    let id = stage.start("2.0.0");
    assert_eq!((&stage.view(&id)["baseline"], &stage.view(&id)["canary"]), (&"v1".into(), &"v2".into()));
    for permille in [100, 500, 1000] {
        stage.wait_for_weight(&id, permille);
        assert_eq!(stage.routed(), permille);
        stage.assert_share_of_second(permille as f64 / 1000.0);
    }
    stage.wait_for_end(&id, "succeeded");
    assert_eq!(stage.actions(&id), ["advance", "advance", "advance", "promote"]);
    assert_eq!(stage.edge.weights(), [0, 200]);

    let next = stage.start("3.0.0");
    assert_eq!((&stage.view(&next)["baseline"], &stage.view(&next)["canary"]), (&"v2".into(), &"v1".into()));
    for permille in [100, 500, 1000] {
        stage.wait_for_weight(&next, permille);
        stage.assert_share_of_second(1.0 - permille as f64 / 1000.0);
    }
    stage.wait_for_end(&next, "succeeded");
    assert_eq!(stage.edge.weights(), [200, 0]);
    assert_eq!(stage.load.counts().by_status.keys().copied().collect::<Vec<_>>(), [200], "no user saw an error");
    stage.close();
}

#[test]
fn a_faulty_version_is_rolled_back() {
    let steps = "[ { weight: 20%, for: 10s }, { weight: 50%, for: 60s }, { weight: 100%, bake: 60s } ]";
    let Some(stage) = Stage::<Haproxy>::behind(Scene { rate_per_s: 200, steps, ..Scene::default() }) else { return };
    stage.second.behave(errors(0.02));
    let id = stage.start("2.0.1");
    let view = stage.wait_for_end(&id, "rolled-back");
    assert_eq!(reasons(&view), ["comparison"]);
    assert_eq!(stage.edge.weights(), [200, 0]);
    stage.assert_second_gets_nothing();
    stage.close();
}

/// Not one answer comes from a dead server: only HAProxy's own count of failed connections tells.
#[test]
fn a_canary_whose_process_is_killed_is_rolled_back() {
    let steps = "[ { weight: 5%, for: 60s }, { weight: 100%, bake: 60s } ]";
    let Some(mut stage) = Stage::<Haproxy>::behind(Scene { steps, ..Scene::default() }) else { return };
    let id = stage.start("2.0.0");
    stage.wait_for_weight(&id, 50);
    stage.wait_counted(&id, 6.0);
    stage.second.die();
    stage.wait_for_end(&id, "rolled-back");
    assert_eq!(stage.edge.weights(), [200, 0]);
    assert!(stage.load.counts().by_status.contains_key(&503), "{:?}", stage.load.counts());
    stage.close();
}

#[test]
fn a_restart_of_haproxy_takes_its_files_weights_and_ours_are_written_again() {
    let Some(mut stage) = Stage::<Haproxy>::behind(Scene { steps: STEPS, ..Scene::default() }) else { return };
    let id = stage.start("2.0.0");
    stage.wait_for_weight(&id, 125);
    stage.wait_counted(&id, 2.0);
    stage.edge.restart();
    stage.wait_routed(125);
    stage.wait_for_end(&id, "succeeded");
    assert_eq!(stage.actions(&id), ["advance", "reassert", "advance", "promote"]);
    let log = stage.daemon.process().log();
    let told = "HAProxy's own file, read at its start or reload (weights 100 and 0), moved the canary's weight to 0%";
    assert!(log.contains(told), "{log}");
    assert_eq!(stage.edge.weights(), [0, 200]);
    stage.close();
}

#[test]
fn a_server_in_maintenance_is_told_and_the_rollout_goes_on_when_it_is_back() {
    let Some(stage) = Stage::<Haproxy>::behind(Scene { steps: STEPS, ..Scene::default() }) else { return };
    let id = stage.start("2.0.0");
    stage.wait_for_weight(&id, 125);
    stage.wait_counted(&id, 2.0);
    stage.edge.ask("set server shop/v2 state maint");
    let view = stage.wait_for(&id, PATIENT, "told", |view| hold(view, "router").is_some_and(|text| text.contains("maintenance")));
    assert_eq!((&view["over"], &view["step"]["counts-time"]), (&false.into(), &false.into()), "{view:#}");
    stage.edge.ask("set server shop/v2 state ready");
    stage.wait_for_end(&id, "succeeded");
    stage.close();
}
