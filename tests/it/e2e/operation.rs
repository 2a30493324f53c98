//! What operators do to a daemon: rules that change, restarts, verbs.

use super::edge::routed;
use super::stage::{PATIENT, RULE, Scene, Stage, errors};
use crate::rig::poll;
use rustix::process::Signal;
use serde_json::Value;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

const STEPS: &str = "[ { weight: 10%, for: 12s }, { weight: 50%, for: 8s }, { weight: 100%, bake: 5s } ]";

fn reload_problems(stage: &Stage) -> String {
    stage.daemon.get("/api/v1/rules")["reload-problems"].to_string()
}

#[test]
fn a_bad_rule_on_reload_leaves_the_old_ones_in_force() {
    let Some(mut stage) = Stage::up(Scene { steps: STEPS, ..Scene::default() }) else { return };
    let id = stage.start("2.0.0");
    let (good, before) = (stage.daemon.rule(), stage.daemon.get("/api/v1/rules")["rules"].clone());
    stage.daemon.put_rule(&good.replace("weight: 50%", "weight: 150%"));
    stage.daemon.process().signal(Signal::HUP);
    assert!(poll(PATIENT, || reload_problems(&stage).contains("150%").then_some(())).is_some(), "{}", reload_problems(&stage));
    assert_eq!(stage.daemon.get("/api/v1/rules")["rules"], before);
    assert!(stage.daemon.process().log().contains("150%"), "the log tells it too");
    // the file watch sees the next one by itself
    stage.daemon.put_rule("rule: shop\nsteps: nonsense\n");
    assert!(poll(PATIENT, || reload_problems(&stage).contains("steps").then_some(())).is_some(), "{}", reload_problems(&stage));
    assert_eq!(stage.daemon.get("/api/v1/rules")["rules"], before);
    stage.wait_for_end(&id, "succeeded");
    stage.daemon.put_rule(&good);
    assert!(poll(PATIENT, || (reload_problems(&stage) == "[]").then_some(())).is_some(), "{}", reload_problems(&stage));
    stage.close();
}

/// Only the limit: the steps of the new text are for the next rollout.
#[test]
fn a_limit_moved_in_the_rules_file_holds_in_the_running_rollout_and_outlives_a_crash() {
    let Some(mut stage) = Stage::up(Scene { steps: STEPS, ..Scene::default() }) else { return };
    let id = stage.start("2.0.0");
    stage.wait_for_weight(&id, 100);
    let moved = stage.daemon.rule().replace("rollback-above: 5%", "rollback-above: 4%").replace("weight: 50%", "weight: 40%");
    stage.daemon.put_rule(&moved);
    stage.daemon.process().signal(Signal::HUP);
    let level = |view: &Value| {
        let mut limits = view["limits"].as_array().into_iter().flatten();
        limits.find(|l| l["kind"] == "rollback-above").and_then(|l| l["level"].as_f64())
    };
    let told = |view: &Value| view["warnings"].to_string().contains("error-rate rollback-above is 4% now: its evidence begins anew");
    stage.wait_for(&id, PATIENT, "the limit is moved, and said so", |view| level(view) == Some(0.04) && told(view));
    stage.daemon.kill();
    stage.daemon.restart();
    stage.wait_for(&id, PATIENT, "it still stands there", |view| level(view) == Some(0.04) && told(view));
    stage.wait_for_weight(&id, 500);
    stage.wait_for_end(&id, "succeeded");
    stage.close();
}

/// Looks at the route file all the time; gives every share it saw, in order.
struct Watch {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<u64>>,
}

impl Watch {
    fn start(stage: &Stage) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (file, done) = (stage.edge.route_file(), Arc::clone(&over));
        let thread = spawn(move || {
            let mut seen = vec![routed(&file)];
            while !done.load(Ordering::Relaxed) {
                seen.push(routed(&file));
                seen.dedup();
                sleep(Duration::from_millis(5));
            }
            seen
        });
        Self { over, thread }
    }

    fn seen(self) -> Vec<u64> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the watch saw only route files")
    }
}

#[test]
fn a_restart_in_mid_rollout_changes_nothing() {
    let Some(mut stage) = Stage::up(Scene { steps: STEPS, ..Scene::default() }) else { return };
    let watch = Watch::start(&stage);
    let id = stage.start("2.0.0");
    stage.wait_for_weight(&id, 100);
    stage.wait_counted(&id, 3.0);
    let counted = stage.view(&id)["step"]["counted-s"].as_f64().unwrap_or_default();
    assert!(stage.daemon.stop().success());
    sleep(Duration::from_secs(3));
    stage.daemon.restart();
    let view = stage.view(&id);
    assert_eq!((&view["state"], &view["weight-permille"], &view["version"]), (&"progressing".into(), &100.into(), &"2.0.0".into()));
    assert!(view["step"]["counted-s"].as_f64().is_some_and(|s| s >= counted), "time counted before is not lost: {view:#}");
    stage.wait_for_weight(&id, 500);
    stage.wait_counted(&id, 2.0);
    stage.daemon.kill();
    stage.daemon.restart();
    assert_eq!(stage.view(&id)["weight-permille"], 500);
    stage.wait_for_end(&id, "succeeded");
    assert_eq!(watch.seen(), [0, 100, 500, 1000]);
    assert!(!stage.daemon.process().log().contains("decided differently"), "{}", stage.daemon.process().log());
    stage.assert_polled_all(&id);
    stage.close();
}

#[test]
fn a_fault_that_comes_while_the_daemon_is_dead_is_found_when_it_is_back() {
    let Some(mut stage) = Stage::up(Scene { steps: STEPS, ..Scene::default() }) else { return };
    let watch = Watch::start(&stage);
    let id = stage.start("2.0.0");
    stage.wait_for_weight(&id, 100);
    stage.wait_counted(&id, 6.0);
    stage.daemon.kill();
    stage.second.behave(errors(1.0));
    sleep(Duration::from_secs(8));
    stage.daemon.restart();
    stage.wait_for_end(&id, "rolled-back");
    assert_eq!(watch.seen(), [0, 100, 0], "the weight never rose");
    stage.close();
}

#[test]
fn a_person_steers_a_rollout_with_the_command_line() {
    let steps = "[ { weight: 10%, for: 60s }, { weight: 30%, for: 60s }, { weight: 50%, for: 60s }, { weight: 100%, bake: 60s } ]";
    let Some(stage) = Stage::up(Scene { steps, ..Scene::default() }) else { return };
    let out = done(&stage.daemon.client(&["start", RULE, "--version", "2.0.0", "-o", "json"]));
    let started: Value = serde_json::from_str(&out).expect("JSON");
    let id = started["rollout"].as_str().expect("a name").to_owned();
    stage.wait_for_weight(&id, 100);
    stage.wait_counted(&id, 2.0);

    done(&stage.daemon.client(&["pause", &id, "--why", "lunch"]));
    let view = stage.view(&id);
    assert!(
        view["state"] == "paused" && view["state-text"].as_str().is_some_and(|t| t.contains("tests") && t.contains("lunch")),
        "{view:#}"
    );
    let counted = view["step"]["counted-s"].clone();
    sleep(Duration::from_secs(3));
    assert_eq!(stage.view(&id)["step"]["counted-s"], counted, "a pause stops the clock");
    done(&stage.daemon.client(&["resume", &id]));
    stage.wait_counted(&id, 2.0);

    // by the name of its rule
    done(&stage.daemon.client(&["advance", RULE, "--why", "looks good"]));
    stage.wait_for_weight(&id, 300);
    stage.assert_share_of_second(0.3);
    let status = done(&stage.daemon.client(&["status"]));
    assert!(status.contains(&id) && status.contains("30%"), "{status}");

    done(&stage.daemon.client(&["rollback", &id, "--why", "changed my mind"]));
    let view = stage.wait_for_end(&id, "rolled-back");
    assert!(view["reasons"][0]["text"].as_str().is_some_and(|t| t.contains("changed my mind")), "{view:#}");
    let again = stage.daemon.client(&["start", RULE, "--version", "2.0.0"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("canaryd retry"), "{again:?}");

    done(&stage.daemon.client(&["retry", RULE]));
    let retried = format!("{RULE}-2");
    stage.wait_for_weight(&retried, 100);
    stage.wait_counted(&retried, 2.0);
    done(&stage.daemon.client(&["promote", &retried, "--why", "hotfix"]));
    stage.wait_for_end(&retried, "succeeded");
    assert_eq!(stage.routed(), 1000);
    stage.close();
}

/// Standard output of a client that was obeyed.
fn done(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
