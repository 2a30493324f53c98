//! Versions that fail in the ways versions fail.

use super::stage::{PATIENT, Scene, Stage, errors, hold, reasons};
use crate::rig::service::Behaviour;
use crate::rig::{self, poll};
use std::thread::sleep;
use std::time::Duration;

const LONG: &str = "[ { weight: 5%, for: 60s }, { weight: 50%, for: 60s }, { weight: 100%, bake: 60s } ]";

/// DESIGN 10: rolled back within two scrapes of a total outage at 5 % of 100 requests a second. The scrapes are 5 s apart
/// (25 requests of the canary each) and the outage begins just behind one, so that the first bad one is wholly bad.
#[test]
fn a_total_outage_is_rolled_back_within_two_scrapes() {
    let scrape = Duration::from_secs(5);
    let scene = Scene {
        steps: "[ { weight: 5%, for: 90s }, { weight: 100%, bake: 5s } ]",
        scrape,
        interval: "5s",
        time_scale: 12,
        ..Scene::default()
    };
    let Some(stage) = Stage::up(scene) else { return };
    let id = stage.start("2.0.0");
    stage.wait_for_weight(&id, 50);
    stage.wait_counted(&id, 30.0);
    let scraped = || stage.last_scraped(r#"envoy_cluster_upstream_rq{envoy_cluster_name="v2"}"#);
    let before = scraped();
    assert!(poll(PATIENT, || (scraped() > before).then_some(())).is_some(), "no further scrape");
    stage.second.behave(errors(1.0));
    let zero = stage.wait_routed(0);
    let bad = stage.first_scraped(r#"envoy_cluster_upstream_rq{envoy_cluster_name="v2",envoy_response_code="500"}"#);
    let (text, decided) = stage.decided(&id, "roll-back");
    let tick = decided - decided.rem_euclid(5000);
    rig::say(&format!(
        "total outage at 5 % of 100 req/s, scrapes every 5 s: from the first bad scrape to weight 0 {} ms; of them {} ms from the tick \
         that saw the second ({text})",
        zero - bad,
        zero - tick,
    ));
    let journal = stage.journal(&id);
    let judged = journal.iter().take_while(|e| e["action"] != "roll-back");
    let bad_polls = judged.filter(|e| e["arms"]["canary"]["errors"].as_f64().is_some_and(|n| n > 0.0)).count();
    assert_eq!(bad_polls, 2, "polls that saw errors before the rollback");
    // how many milliseconds is told above and judged by nobody: a busy machine is not a defect; a third scrape would be
    assert!(zero - tick < 5_000, "{} ms from the tick that saw the second bad scrape to the weight", zero - tick);
    stage.wait_for_end(&id, "rolled-back");
    stage.assert_second_gets_nothing();
    stage.close();
}

#[test]
fn an_outage_during_the_bake_is_rolled_back() {
    let steps = "[ { weight: 20%, for: 10s }, { weight: 100%, bake: 60s } ]";
    let Some(stage) = Stage::up(Scene { steps, ..Scene::default() }) else { return };
    let id = stage.start("2.0.0");
    let view = stage.wait_for_weight(&id, 1000);
    assert_eq!(view["state"], "baking");
    stage.wait_counted(&id, 4.0);
    stage.second.behave(errors(1.0));
    stage.wait_for_end(&id, "rolled-back");
    assert_eq!(stage.routed(), 0);
    stage.assert_second_gets_nothing();
    stage.close();
}

/// A service that always fails a little, as services do: how soon an incident is seen to be over depends on it, because the
/// label of a perfect baseline takes thousands of good requests to fall (STATISTICS 7.2).
#[test]
fn a_shared_incident_is_not_the_canarys_fault_and_what_comes_after_it_is() {
    let steps = "[ { weight: 50%, for: 60s }, { weight: 100%, bake: 5s } ]";
    let Some(stage) = Stage::up(Scene { steps, ..Scene::default() }) else { return };
    let both = |share| {
        stage.first.behave(errors(share));
        stage.second.behave(errors(share));
    };
    both(0.02);
    let id = stage.start("2.0.0");
    stage.wait_for_weight(&id, 500);
    stage.wait_counted(&id, 10.0);
    both(0.4);
    let text = stage.wait_for_hold(&id, "shared");
    assert!(text.contains("both versions suffer"), "{text}");
    sleep(Duration::from_secs(3));
    both(0.02);
    stage.wait_for(&id, PATIENT, "it goes on", |view| {
        assert_eq!(view["over"], false, "{view:#}");
        hold(view, "shared").is_none()
    });
    stage.wait_counted(&id, 2.0);
    assert_eq!(stage.routed(), 500);
    stage.second.behave(errors(0.4));
    stage.wait_for_end(&id, "rolled-back");
    stage.close();
}

/// Nothing of the canary is left to count or be scraped: only the proxy sees that connections are refused.
#[test]
fn a_canary_whose_process_is_killed_is_rolled_back() {
    let Some(mut stage) = Stage::up(Scene { steps: LONG, ..Scene::default() }) else { return };
    let id = stage.start("2.0.0");
    stage.wait_for_weight(&id, 50);
    stage.wait_counted(&id, 6.0);
    stage.second.die();
    stage.wait_for_end(&id, "rolled-back");
    assert_eq!(stage.routed(), 0);
    assert!(stage.load.counts().by_status.contains_key(&503), "{:?}", stage.load.counts());
    stage.close();
}

/// Users leave before anything is counted: no error and no latency ever shows.
#[test]
fn a_canary_that_hangs_is_rolled_back_and_never_promoted() {
    let steps = "[ { weight: 30%, for: 20s }, { weight: 100%, bake: 5s } ]";
    let scene = Scene { steps, patience: Duration::from_millis(500), ..Scene::default() };
    let Some(stage) = Stage::up(scene) else { return };
    let id = stage.start("2.0.0");
    stage.wait_for_weight(&id, 300);
    stage.wait_counted(&id, 6.0);
    stage.second.behave(Behaviour { hangs: 1.0, ..Behaviour::default() });
    let view = stage.wait_for_end(&id, "rolled-back");
    assert_eq!(stage.actions(&id), ["advance", "roll-back", "finish"]);
    assert!(["vanished", "abandoned"].contains(&reasons(&view)[0].as_str()), "{view:#}");
    assert_eq!(stage.load.counts().by_status.keys().copied().collect::<Vec<_>>(), [200], "no error was ever answered");
    stage.close();
}
