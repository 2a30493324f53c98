//! `canaryd replay`: a recording under a rule, through the real binary, in virtual time.

use canaryd::model::{ArmSample, Counts, History, PerArm, Timestamp};
use canaryd::source::Recording;
use canaryd::source::recording::{Header, RecordedTick};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

const TICK: Duration = Duration::from_secs(15);
const RULE: &str = "
rule: shop
workloads: { pair: [ { cluster: v1 }, { cluster: v2 } ] }
telemetry: [ envoy ]
traffic: none
steps: [ { weight: 5%, for: 5m }, { weight: 50%, for: 5m }, { weight: 100%, bake: 5m } ]
promotion: swap
metrics:
  error-rate: { tolerate: { relative: 20%, absolute: 0.02% }, rollback-above: 5% }
";

/// An hour of quiet past, then `ticks` ticks of 3000 baseline requests; the canary gets what its step gives it, and
/// `bad(tick)` of its requests fail.
fn recording(ticks: u32, bad: impl Fn(u32) -> f64) -> Recording {
    let start = Timestamp::from_millis(1_760_000_000_000).floor_to(TICK);
    let quiet = |k: u32| Counts { total: 3000.0, bad: f64::from(k % 5) + 1.0 };
    let history = History { requests: (0..240).map(|k| Some(quiet(k))).collect(), ..History::default() };
    let tick = |k: u32| {
        // about what 5 %, 50 % and 100 % of 3200 requests are
        let (step, total) = [(0, 160.0_f64), (1, 3000.0), (2, 3200.0)][(k / 20).min(2) as usize];
        let canary = ArmSample::counts(total, (total * bad(k)).round());
        let baseline = ArmSample::counts(quiet(k).total, quiet(k).bad);
        RecordedTick { at: start + TICK * (k + 1), step: Some(step), arms: PerArm { baseline, canary } }
    };
    let header = Header { interval: TICK, bounds_ms: Vec::new(), rule: Some("shop".to_owned()), start };
    Recording { header, history, ticks: (0..ticks).map(tick).collect() }
}

fn replay(folder: &Path, recording: &Recording, more: &[&str]) -> Output {
    let (file, rule) = (folder.join("recording.jsonl"), folder.join("rule.yaml"));
    recording.write(&mut std::fs::File::create(&file).unwrap()).unwrap();
    std::fs::write(&rule, RULE).unwrap();
    let binary = env!("CARGO_BIN_EXE_canaryd");
    Command::new(binary).arg("replay").arg(&file).arg("--rule").arg(&rule).args(more).output().unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

#[test]
fn a_faulty_canary_is_rolled_back_in_the_tick_that_proves_it() {
    let folder = tempfile::tempdir().unwrap();
    let ticks = lines(&replay(folder.path(), &recording(60, |k| if k < 12 { 0.001 } else { 0.2 }), &["-o", "json"]));
    let first = ticks.iter().position(|t| t["action"] == "roll-back").expect("a rollback");
    assert!((13..20).contains(&first), "fault at tick 12, rolled back at {first}");
    let total = |k: usize| ticks[k]["rollout"]["evidence"]["harm-nats"].as_f64().unwrap_or(f64::NAN);
    assert!(total(first) > 2.99 && total(first - 1) < 3.0, "{} then {}", total(first - 1), total(first));
    assert_eq!(ticks[first]["rollout"]["weight-permille"], 0);
    assert_eq!(ticks.last().unwrap()["rollout"]["state"], "rolled-back");
}

#[test]
fn a_healthy_canary_goes_through_every_step() {
    let folder = tempfile::tempdir().unwrap();
    let ticks = lines(&replay(folder.path(), &recording(70, |_| 0.001), &["-o", "json"]));
    let advances: Vec<_> = ticks.iter().filter(|t| t["action"] == "advance").map(|t| t["rollout"]["weight-permille"].clone()).collect();
    assert_eq!(advances, [500, 1000], "weights asked for after the first");
    assert_eq!(ticks.last().unwrap()["rollout"]["state"], "succeeded");
}

#[test]
fn the_same_recording_gives_the_same_answer_twice_and_a_page_for_people() {
    let folder = tempfile::tempdir().unwrap();
    let made = recording(30, |_| 0.001);
    let (one, two) = (replay(folder.path(), &made, &["-o", "json"]), replay(folder.path(), &made, &["-o", "json"]));
    assert_eq!(one.stdout, two.stdout);
    let page = String::from_utf8(replay(folder.path(), &made, &[]).stdout).unwrap();
    assert!(page.contains("error-rate") && page.contains("step"), "{page}");
}

#[test]
fn what_is_no_recording_is_told_with_its_lines() {
    let folder = tempfile::tempdir().unwrap();
    let (file, rule) = (folder.path().join("bad.jsonl"), folder.path().join("rule.yaml"));
    std::fs::write(&file, "{\"canaryd-recording\":1,\"interval-s\":15,\"bounds-ms\":[],\"start\":\"2026-11-21T00:00:00Z\"}\n{\"t\":15,\"basline\":{}}\nnot json\n").unwrap();
    std::fs::write(&rule, RULE).unwrap();
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_canaryd")).arg("replay").arg(&file).args(args).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = run(&["--rule", rule.to_str().unwrap()]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("line 2") && text.contains("basline") && text.contains("line 3"), "{text}");
    let (code, text) = run(&[]);
    assert_eq!(code, Some(2));
    assert!(text.contains("--rule FILE"), "{text}");
}
