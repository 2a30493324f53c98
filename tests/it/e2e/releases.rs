//! Releases as they go every day.

use super::stage::{Scene, Stage, errors, hold};
use std::time::Duration;

#[test]
fn a_healthy_version_gets_all_the_traffic_and_the_next_release_goes_the_other_way() {
    let Some(stage) = Stage::up(Scene::default()) else { return };
    let id = stage.start("2.0.0");
    assert_eq!((&stage.view(&id)["baseline"], &stage.view(&id)["canary"]), (&"v1".into(), &"v2".into()));
    for permille in [100, 500, 1000] {
        stage.wait_for_weight(&id, permille);
        stage.assert_share_of_second(permille as f64 / 1000.0);
    }
    stage.wait_for_end(&id, "succeeded");
    assert_eq!(stage.actions(&id), ["advance", "advance", "advance", "promote"]);

    let next = stage.start("3.0.0");
    assert_eq!((&stage.view(&next)["baseline"], &stage.view(&next)["canary"]), (&"v2".into(), &"v1".into()));
    for permille in [100, 500, 1000] {
        stage.wait_for_weight(&next, permille);
        stage.assert_share_of_second(1.0 - permille as f64 / 1000.0);
    }
    stage.wait_for_end(&next, "succeeded");
    assert_eq!(stage.routed(), 0);
    assert_eq!(stage.load.counts().by_status.keys().copied().collect::<Vec<_>>(), [200], "no user saw an error");
    stage.close();
}

#[test]
fn a_version_with_two_percent_errors_is_rolled_back() {
    let steps = "[ { weight: 20%, for: 10s }, { weight: 50%, for: 60s }, { weight: 100%, bake: 60s } ]";
    let Some(stage) = Stage::up(Scene { rate_per_s: 200, steps, ..Scene::default() }) else { return };
    stage.second.behave(errors(0.02));
    let id = stage.start("2.0.1");
    let view = stage.wait_for_end(&id, "rolled-back");
    assert_eq!(super::stage::reasons(&view), ["comparison"]);
    assert_eq!(stage.routed(), 0);
    stage.assert_second_gets_nothing();
    stage.close();
}

#[test]
fn a_quiet_service_is_released_on_schedule_and_called_unproven() {
    let steps = "[ { weight: 50%, for: 12s }, { weight: 100%, bake: 8s } ]";
    let scene = Scene { rate_per_s: 1, steps, more: "min-requests: 2", ..Scene::default() };
    let Some(stage) = Stage::up(scene) else { return };
    let id = stage.start("2.0.0");
    stage.wait_for(&id, Duration::from_secs(90), "success", |view| {
        // before its first request the canary has no series, and nobody can tell quiet from misnamed
        let seen = view["step"]["canary-requests"].as_f64().is_some_and(|n| n > 0.0);
        // a scrape that is late on a busy machine is waited for, whatever the service does
        let blind = hold(view, "blind").filter(|why| !why.contains("waiting for a new sample"));
        assert!(!seen || blind.is_none(), "quiet is not blind: {view:#}");
        assert!(view["over"] == false || view["state"] == "succeeded", "{view:#}");
        view["over"] == true
    });
    let texts: Vec<String> = stage.journal(&id).iter().filter(|e| e["action"] == "advance").map(|e| e["text"].to_string()).collect();
    assert!(texts.iter().any(|text| text.contains("not shown to be no worse: error-rate")), "{texts:?}");
    stage.close();
}

/// Evidence is the same however often one looks: a tick shorter than the scrape interval is made as long.
#[test]
fn a_tick_is_never_shorter_than_a_scrape() {
    let steps = "[ { weight: 20%, for: 12s }, { weight: 50%, for: 12s }, { weight: 100%, bake: 6s } ]";
    let scene = Scene { scrape: Duration::from_secs(2), interval: "500ms", steps, ..Scene::default() };
    let Some(stage) = Stage::up(scene) else { return };
    let id = stage.start("2.0.0");
    stage.wait_for_end(&id, "succeeded");
    let polls: Vec<i64> = stage.journal(&id).iter().filter(|e| e["kind"] == "poll").map(|e| super::stage::millis(&e["at"])).collect();
    let gaps: Vec<i64> = polls.windows(2).map(|w| w[1] - w[0]).collect();
    // written when judged, not when due: one that is late has a longer gap before it and a shorter one behind it, and more than one for
    // each scrape there never are
    let (span, mut sorted) = (polls[polls.len() - 1] - polls[0], gaps.clone());
    sorted.sort_unstable();
    let usual = sorted[sorted.len() / 2];
    assert!(gaps.len() > 10 && gaps.len() as i64 <= span / 2000 + 1 && (1500..=2500).contains(&usual), "{gaps:?}");

    stage.first.behave(errors(0.25));
    let next = stage.start("3.0.0");
    let view = stage.wait_for_end(&next, "rolled-back");
    assert_eq!((&view["canary"], stage.routed()), (&"v1".into(), 1000));
    stage.close();
}

#[test]
fn a_newer_version_takes_the_place_of_the_one_on_trial() {
    let Some(stage) = Stage::up(Scene::default()) else { return };
    let old = stage.start("2.0.0");
    stage.wait_for_weight(&old, 100);
    let new = stage.start("2.0.1");
    assert_eq!(stage.view(&old)["state"], "superseded");
    let weights: Vec<String> = stage.journal(&old).iter().filter(|e| e["kind"] == "decided").map(|e| e["text"].to_string()).collect();
    assert!(weights.iter().any(|text| text.contains("2.0.1")), "{weights:?}");
    stage.wait_for_weight(&new, 100);
    stage.wait_for_end(&new, "succeeded");
    assert_eq!(stage.routed(), 1000);
    stage.close();
}
