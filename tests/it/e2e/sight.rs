//! What the daemon can see: sources that go away, counters that begin anew. Not seeing is neither good nor bad news.

use super::stage::{PATIENT, Scene, Stage, hold, reasons};
use rustix::process::Signal;
use std::thread::sleep;
use std::time::Duration;

#[test]
fn without_prometheus_it_holds_and_afterwards_it_has_missed_nothing() {
    let steps = "[ { weight: 20%, for: 20s }, { weight: 50%, for: 6s }, { weight: 100%, bake: 5s } ]";
    let Some(mut stage) = Stage::up(Scene { steps, ..Scene::default() }) else { return };
    let id = stage.start("2.0.0");
    stage.wait_for_weight(&id, 200);
    stage.wait_counted(&id, 4.0);
    stage.prometheus.kill();
    let text = stage.wait_for_hold(&id, "blind");
    assert!(text.contains("source-down"), "{text}");
    // one missed scrape is no blindness yet: a metric is blind after three ticks
    let blind = stage.wait_for(&id, PATIENT, "the metrics are blind", |view| view["metrics"][0]["verdict"] == "blind");
    assert_eq!((&blind["verdict"], &blind["metrics"][0]["blind"]), (&"blind".into(), &"source-down".into()));
    let counted = blind["step"]["counted-s"].as_f64();
    sleep(Duration::from_secs(10));
    let view = stage.view(&id);
    assert!(hold(&view, "blind").is_some() && view["weight-permille"] == 200, "{view:#}");
    assert_eq!(view["step"]["counted-s"].as_f64(), counted, "blind time does not count");
    stage.prometheus.restart();
    stage.wait_for_end(&id, "succeeded");
    stage.assert_polled_all(&id);
    let most = stage.journal(&id).iter().filter_map(|e| e["arms"]["baseline"]["requests"].as_f64()).fold(0.0, f64::max);
    assert!(most > 800.0, "the first poll afterwards carries the time between: {most}");
    stage.close();
}

/// Its connections stand and nothing is answered: each tick must give up in time to be asked again.
#[test]
fn a_prometheus_that_hangs_is_waited_for() {
    let steps = "[ { weight: 20%, for: 12s }, { weight: 100%, bake: 5s } ]";
    let Some(mut stage) = Stage::up(Scene { steps, ..Scene::default() }) else { return };
    let id = stage.start("2.0.0");
    stage.wait_for_weight(&id, 200);
    stage.wait_counted(&id, 4.0);
    stage.prometheus.process().signal(Signal::STOP);
    let text = stage.wait_for_hold(&id, "blind");
    assert!(text.contains("source-down"), "{text}");
    sleep(Duration::from_secs(5));
    assert_eq!(stage.view(&id)["weight-permille"], 200);
    stage.prometheus.process().signal(Signal::CONT);
    stage.wait_for_end(&id, "succeeded");
    stage.assert_polled_all(&id);
    stage.close();
}

#[test]
fn counters_that_begin_anew_are_no_evidence() {
    let steps = "[ { weight: 30%, for: 25s }, { weight: 100%, bake: 5s } ]";
    let Some(mut stage) = Stage::up(Scene { steps, ..Scene::default() }) else { return };
    let id = stage.start("2.0.0");
    stage.wait_for_weight(&id, 300);
    stage.wait_counted(&id, 6.0);
    stage.edge.reset_counters();
    stage.wait_counted(&id, 4.0);
    stage.edge.restart();
    stage.wait_for_end(&id, "succeeded");
    let (_, polled) = stage.polled_requests(&id);
    let (answered, given_up) = (stage.answers_of("v2") as f64, stage.load.counts().timeouts as f64);
    assert!(polled <= answered + given_up, "polls tell of {polled} requests, the canary answered {answered}");
    assert!(polled >= 0.7 * answered, "polls tell of {polled} of {answered} requests");
    assert_eq!(reasons(&stage.view(&id)), [""; 0]);
    stage.close();
}
