//! Over a gap in the journal: a machine that has heard nothing since its beginning takes its place from a recorded decision.

use super::script::run;
use crate::model::{Command, Decision, Effect, HookAnswer, HookPoint, Input, Outcome, State, Verb, Waiting, WorkloadAction};
use crate::rollout::Machine;
use std::time::Duration;

/// Runs the script, then a machine that only knows its first line takes up the last decision.
fn taken_up(rule_text: &str, script: &str) -> (Machine, Decision, Decision) {
    let (_, recorded) = run(rule_text, script);
    let first = script.lines().map(str::trim).find(|l| !l.is_empty()).expect("a line");
    let (mut machine, _) = run(rule_text, first);
    let decision = machine.take_up(recorded.at + Duration::from_secs(60), &recorded);
    (machine, recorded, decision)
}

#[test]
fn what_waits_goes_on_waiting_and_asks_for_nothing_twice() {
    let gates = "5% 1m, 100% 1m; approvals=manager; allow=Thu; hook=before-start:10m:hold";
    let (_, _, now) = taken_up(gates, "0s begin\n 1s wake");
    assert_eq!((now.state.name(), now.weight.permille(), now.generation), ("waiting", 0, 0));
    // an approval that fell into the gap is asked for again: it is better than a start that nobody allowed
    let (_, recorded, now) = taken_up(gates, "0s begin\n 1s ben: approve manager");
    assert!(matches!(&recorded.state, State::Waiting(Waiting::Hook { .. })), "{:?}", recorded.state);
    assert!(matches!(&now.state, State::Waiting(Waiting::Approval { .. })), "{:?}", now.state);
    assert!(!now.effects.iter().any(|e| matches!(e, Effect::SetWeight { .. })), "{:?}", now.effects);
}

#[test]
fn a_hook_is_called_anew_and_its_old_answer_counts_no_more() {
    let text = "5% 1m, 100% 1m; hook=before-start:10m:hold";
    let (mut machine, recorded, now) = taken_up(text, "0s begin\n 5s hook failed\n 7s wake");
    let called = now.effects.iter().find(|e| matches!(e, Effect::CallHook { .. }));
    assert_eq!(called, Some(&Effect::CallHook { hook: HookPoint::BeforeStart, attempt: 3 }), "{:?}", recorded.effects);
    assert_eq!(machine.unanswered_hook(), Some((HookPoint::BeforeStart, 3)));
    let late = Input::Hook { hook: HookPoint::BeforeStart, attempt: 2, answer: HookAnswer::Passed };
    assert_eq!(machine.handle(now.at, &late).state.name(), "waiting");
    let passed = Input::Hook { hook: HookPoint::BeforeStart, attempt: 3, answer: HookAnswer::Passed };
    assert_eq!(machine.handle(now.at, &passed).state.name(), "progressing");
}

#[test]
fn a_pause_before_the_first_weight_stays_before_it() {
    let (mut machine, _, now) = taken_up("5% 1m, 100% 1m; approvals=manager", "0s begin\n 1s pause");
    assert_eq!((now.state.name(), now.effects.iter().any(|e| matches!(e, Effect::SetWeight { .. }))), ("paused", false));
    let resume = Command { verb: Verb::Resume, by: "ana".into(), why: String::new() };
    assert_eq!(machine.handle(now.at, &Input::Command(resume)).state.name(), "waiting");
}

#[test]
fn the_clusters_word_is_asked_anew() {
    let begun = "0s begin noted=10/2,floor:3\n 1s work done\n 2s cluster 10/10 2/2\n 3s done";
    let begun_as = |rule: &str, script: &str| taken_up(rule, &format!("{begun}{script}"));
    // in mid-step: what it showed is not known, and the baseline is held once more
    let (mut machine, _, now) = begun_as("5% 1m, 25% 1m, 100% 1m", "");
    assert_eq!(asked(&now), Some(WorkloadAction::HoldBaseline));
    machine.handle(now.at, &Input::Effect { generation: now.generation, outcome: Outcome::Done });
    let number = machine.unconfirmed_work().expect("an action").1;
    let held = machine.handle(now.at, &Input::Workload { number, outcome: Outcome::Done });
    assert!(held.holds.iter().any(|h| h.text.contains("not heard of")), "{:?}", held.holds);
    // before the first weight it waits for pods again
    let (_, _, now) = taken_up("5% 1m, 100% 1m", "0s begin noted=10/2\n 1s wake");
    assert_eq!(now.state, State::Waiting(Waiting::Pods));
    // rolling back: stable gets its replicas, whatever was done in the gap; and in the end the autoscaler is its own again
    let (mut machine, _, now) = begun_as("5% 1m, 100% 1m", "\n 9s rollback");
    assert_eq!((asked(&now), now.state.name()), (Some(WorkloadAction::RestoreBaseline), "rolling-back"));
    machine.handle(now.at, &Input::Effect { generation: now.generation, outcome: Outcome::Done });
    let number = machine.unconfirmed_work().expect("an action").1;
    machine.handle(now.at, &Input::Workload { number, outcome: Outcome::Done });
    let drained = machine.handle(now.at + Duration::from_secs(60), &Input::Wake);
    assert_eq!(asked(&drained), Some(WorkloadAction::ReleaseScalers));
    // what was being put in order is put in order
    let (mut machine, _, now) = begun_as("100% 1m; idle=0", "\n 4s break-glass-promote\n 5s done");
    assert_eq!(now.state.name(), "promoting");
    let on = machine.handle(now.at, &Input::Effect { generation: now.generation, outcome: Outcome::Done });
    assert!(matches!(asked(&on), Some(WorkloadAction::IdleBaseline { replicas: 0, .. })), "{on:?}");
}

fn asked(decision: &Decision) -> Option<WorkloadAction> {
    decision.effects.iter().find_map(|e| match e {
        Effect::Workload { action, .. } => Some(*action),
        _ => None,
    })
}

const COPYING: &str = "0s begin\n 1s done\n 60s tick clear";

#[test]
fn a_promotion_goes_on_where_it_was() {
    let text = "100% 1m; promotion=copy";
    let copied = |machine: &mut Machine, now: &Decision| {
        let weight = machine.handle(now.at, &Input::Effect { generation: now.generation, outcome: Outcome::Done });
        assert_eq!((now.weight.permille(), weight.weight.permille()), (1000, 1000));
        machine.unconfirmed_work()
    };
    for trouble in ["", "\n 61s work failed never", "\n 61s pause"] {
        let (mut machine, recorded, now) = taken_up(text, &format!("{COPYING}{trouble}"));
        let (action, number) = copied(&mut machine, &now).unwrap_or_else(|| panic!("no copy after {:?}", recorded.state));
        assert_eq!(action, WorkloadAction::Copy);
        let resume = Command { verb: Verb::Resume, by: "ana".into(), why: String::new() };
        machine.handle(now.at, &Input::Workload { number, outcome: Outcome::Done });
        let on = machine.handle(now.at, &Input::Command(resume));
        assert_eq!((on.state.name(), on.weight.permille()), ("promoting", 0), "after {:?}", recorded.state);
    }
    // on the way back, and stuck there, it goes on to stable and is no rollback
    for trouble in ["", "\n 62s failed"] {
        let (mut machine, _, now) = taken_up(text, &format!("{COPYING}\n 61s work done{trouble}"));
        assert_eq!((now.state.name(), now.weight.permille(), now.reasons.len()), ("promoting", 0, 0));
        machine.handle(now.at, &Input::Effect { generation: now.generation, outcome: Outcome::Done });
        let drained = machine.handle(now.at + Duration::from_secs(60), &Input::Wake);
        assert!(matches!(drained.effects.last(), Some(Effect::Workload { action: WorkloadAction::ScaleCanaryDown, .. })), "{drained:?}");
    }
    let (_, _, now) = taken_up("100% 1m; external=1h", &format!("{COPYING}\n 61s pause"));
    assert_eq!((now.state.name(), now.weight.permille()), ("paused", 1000));
}
