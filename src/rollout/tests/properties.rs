//! What holds for any sequence of inputs.

use super::rule;
use super::script::{noted, unborn};
use crate::model::rule::Replicas;
use crate::model::{
    Action, Alert, Arm, Begin, Blind, Breach, Command, Counts, Decision, Effect, HoldWhy, HookAnswer, HookPoint, Input, Judgement, Keep,
    Method, Mode, Noted, Outcome, PerArm, PodSigns, Reason, Retry, Rule, Severity, Side, State, StepClock, Tick, Timestamp, TrafficReading,
    Verb, Weight, WorkloadSeen,
};
use crate::rollout::{Machine, invariants};
use proptest::collection::vec;
use proptest::prelude::*;
use std::time::Duration;

const RULES: [&str; 17] = [
    "5% 1m, 25% 1m, 100% 1m",
    "0% 1m, 10% 1m; drain=0s; blind=1m:roll-back; undecided=1m:roll-back",
    "50% 1m; foreign=yield; vanished=hold; undecided=1m:ask; blind=1m:ask",
    "5% 1m, 100% 2m; bake-judge=page; shared=roll-back; promotion=copy",
    "5% 1m, 100% 1m; external=1m; vanished=ask; shared=page",
    "5% 1m, 100% 1m; mode=observe",
    "100% 1m; first=refuse; promotion=leave",
    "5% 1m, 10% 1m, 20% 1m, 50% 1m; on-evidence; blind-canary=30s:roll-back",
    "5% 1m, 100% 1m; approvals=manager,product; hook=before-start:1m:ask",
    "5% 1m, 50% 1m, 100% 1m; deny=Thu 00:05-00:10; allow=Thu 00:00-00:20; at-end=roll-back; hook=before-start:5m:hold",
    "5% 1m, 100% 2m; hook=before-step:1m:hold; hook=before-promotion:1m:roll-back; hook=after-promotion:1m:hold; promotion=copy",
    "5% 1m, 100% 2m; hook=before-step:1m:ask; deny=Thu 00:02-00:04; allow=Thu 00:00-00:30; at-end=hold; promotion=copy",
    "5% 1m, 50% 1m, 100% 1m; noted=6/6; pod-health=crash-loop,failed-probes:3; undecided=1m:roll-back; shared=roll-back",
    "5% 1m, 50% 1m, 100% 1m; noted=6/1,floor:2,canary-floor:1; replicas=follow; idle=1; after-rollback=undo; hook=before-step:1m:hold",
    "0% 1m, 50% 2m; noted=6/3,floor:2; pod-health=crash-loop; promotion=copy; bake-judge=page; after-rollback=scale-down; shared=page",
    "5% 1m, 100% 1m; noted=0/3; replicas=follow; external=1m; after-rollback=undo; hook=before-start:1m:ask; foreign=yield",
    "5% 1m, 100% 1m; noted=6/2,floor:2,no-template; mode=observe; replicas=follow; pod-health=crash-loop; after-rollback=undo",
];

/// Windows that open for the start and close, or freeze, under way.
const WINDOWS: [&str; 5] = [
    "deny=Thu 00:03-23:59",
    "deny=Thu 00:10-23:59",
    "allow=Thu 00:00-00:10; at-end=hold",
    "allow=Thu 00:00-00:12",
    "deny=Thu 00:04-00:20; allow=Thu 00:00-00:10",
];

/// What comes in; generations and steps relative to the machine's, so that most of them meet it.
#[derive(Clone, Debug)]
enum Event {
    Tick { keep: Vec<Keep>, breach: Option<Breach>, n: Option<(u16, u16)>, missing: PerArm<Option<Blind>>, counted_s: u16, old_step: bool },
    Command(Verb, &'static str),
    Hook { behind: u32, answer: HookAnswer },
    Alerts(Vec<(u8, Severity, Option<Arm>, bool, u8)>),
    Work { behind: u64, failed: Option<Retry> },
    Cluster(Option<PerArm<WorkloadSeen>>),
    Done { behind: u64 },
    Failed { behind: u64, retry: Retry },
    Traffic(Option<u16>),
    Ours,
    Wake,
    Supersede,
    Begin { first: bool, weight: u16 },
}

fn keep() -> impl Strategy<Value = Keep> {
    prop::sample::select(vec![
        Keep::Blind,
        Keep::Shared,
        Keep::Suspicious,
        Keep::Limit,
        Keep::Harm,
        Keep::FewRequests,
        Keep::Time,
        Keep::NotProven,
        Keep::PromoteBelow,
    ])
}

fn tick() -> impl Strategy<Value = Event> {
    let breach = prop_oneof![
        12 => Just(None),
        1 => prop::sample::select(vec![Breach::Metric(0), Breach::Limit(0), Breach::Gross, Breach::Abandoned]).prop_map(Some),
    ];
    let missing = || prop_oneof![5 => Just(None), 1 => prop::sample::select(Blind::ALL.to_vec()).prop_map(Some)];
    let keeps = prop_oneof![2 => Just(Vec::new()), 3 => vec(keep(), 0..4)];
    let n = prop::option::weighted(0.8, (0u16..2000, 0u16..2000));
    (keeps, breach, n, missing(), missing(), 0u16..200, prop::bool::weighted(0.1)).prop_map(
        |(keep, breach, n, baseline, canary, counted_s, old_step)| Event::Tick {
            keep,
            breach,
            n,
            missing: PerArm { baseline, canary },
            counted_s,
            old_step,
        },
    )
}

fn verb() -> impl Strategy<Value = Verb> {
    prop::sample::select(vec![
        Verb::Pause,
        Verb::Resume,
        Verb::Resume,
        Verb::Advance,
        Verb::Promote,
        Verb::RollBack,
        Verb::Approve { role: "manager".to_owned() },
        Verb::Approve { role: "product".to_owned() },
        Verb::BreakGlassPromote,
        Verb::BreakGlassFreeze,
    ])
}

fn event() -> impl Strategy<Value = Event> {
    let behind = || prop_oneof![6 => Just(0u64), 1 => 1u64..4];
    let retry = prop::sample::select(vec![Retry::After(Duration::from_secs(1)), Retry::Underway, Retry::OnChange, Retry::Never]);
    prop_oneof![
        12 => tick(),
        2 => (verb(), prop::sample::select(vec!["ana", "ben", "cyd"])).prop_map(|(verb, by)| Event::Command(verb, by)),
        4 => (prop_oneof![6 => Just(0u32), 1 => 1u32..3], answer()).prop_map(|(behind, answer)| Event::Hook { behind, answer }),
        1 => vec(alert(), 1..4).prop_map(Event::Alerts),
        4 => prop::option::weighted(0.9, (arm_seen(), arm_seen()).prop_map(|(baseline, canary)| PerArm { baseline, canary })).prop_map(Event::Cluster),
        4 => (behind(), prop::option::weighted(0.3, retry.clone())).prop_map(|(behind, failed)| Event::Work { behind, failed }),
        8 => behind().prop_map(|behind| Event::Done { behind }),
        3 => (behind(), retry).prop_map(|(behind, retry)| Event::Failed { behind, retry }),
        1 => prop::option::weighted(0.8, 0u16..=1000).prop_map(Event::Traffic),
        2 => Just(Event::Ours),
        3 => Just(Event::Wake),
        1 => prop::bool::weighted(0.1).prop_map(|s| if s { Event::Supersede } else { Event::Wake }),
        1 => (prop::bool::weighted(0.2), 0u16..=1000).prop_map(|(first, weight)| Event::Begin { first, weight }),
    ]
}

fn answer() -> impl Strategy<Value = HookAnswer> {
    let failed = |again| HookAnswer::Failed { text: "no".to_owned(), again };
    prop_oneof![3 => Just(HookAnswer::Passed), 1 => Just(failed(true)), 1 => Just(failed(false))]
}

/// Mostly well and enough, or nothing would ever go on.
fn arm_seen() -> impl Strategy<Value = WorkloadSeen> {
    let sign = || prop_oneof![8 => Just(0u32), 1 => 1u32..4];
    (0u32..9, 0u32..9, sign(), sign()).prop_map(|(wanted, missing, crash_loops, failed_probes)| WorkloadSeen {
        wanted,
        pods: wanted,
        ready: wanted.saturating_sub(missing.saturating_sub(5)),
        signs: PodSigns { crash_loops, failed_probes, ..PodSigns::default() },
        trouble: String::new(),
    })
}

/// Number, severity, arm, firing, and how many minutes ago it began; mostly resolved, or nothing would ever go on.
fn alert() -> impl Strategy<Value = (u8, Severity, Option<Arm>, bool, u8)> {
    let severity = prop::sample::select(vec![Severity::Info, Severity::Warning, Severity::Critical]);
    let arm = prop::sample::select(vec![None, Some(Arm::Baseline), Some(Arm::Canary)]);
    (0u8..3, severity, arm, prop::bool::weighted(0.4), 0u8..3)
}

fn weight(permille: u16) -> Weight {
    Weight::from_permille(permille).expect("at most 1000")
}

fn input(event: &Event, at: Timestamp, run: &Run) -> Input {
    let before = &run.last;
    match event {
        Event::Tick { keep, breach, n, missing, counted_s, old_step } => {
            let mut judgement = Judgement::empty(at, before.step.saturating_sub(u32::from(*old_step)));
            judgement.keep.extend(keep.iter().copied());
            judgement.rollback.extend(*breach);
            judgement.counts = n.map(|(b, c)| PerArm { baseline: b, canary: c }.map(|n| Counts { total: f64::from(n), bad: 0.0 }));
            judgement.clock = StepClock { counted_s: f64::from(*counted_s), for_s: 60.0, canary_requests: f64::from(*counted_s) };
            judgement.labels.shared = keep.contains(&Keep::Shared);
            Input::Tick(Box::new(Tick { judgement, missing: *missing, detail: String::new(), orphans: 0.0 }))
        }
        Event::Command(verb, by) => Input::Command(Command { verb: verb.clone(), by: (*by).to_owned(), why: String::new() }),
        Event::Hook { behind, answer } => {
            let (hook, attempt) = run.called;
            Input::Hook { hook, attempt: attempt.saturating_sub(*behind), answer: answer.clone() }
        }
        Event::Alerts(alerts) => Input::Alerts(alerts.iter().map(|a| somebodys(a, at)).collect()),
        Event::Work { behind, failed } => Input::Workload {
            number: run.worked.saturating_sub(*behind),
            outcome: failed.map_or(Outcome::Done, |retry| Outcome::Failed { text: "forbidden".to_owned(), retry }),
        },
        Event::Cluster(seen) => Input::Workloads(seen.clone().ok_or_else(|| "timeout".to_owned())),
        Event::Done { behind } => Input::Effect { generation: before.generation.saturating_sub(*behind), outcome: Outcome::Done },
        Event::Failed { behind, retry } => Input::Effect {
            generation: before.generation.saturating_sub(*behind),
            outcome: Outcome::Failed { text: "refused".to_owned(), retry: *retry },
        },
        Event::Traffic(found) => Input::Traffic(match found {
            Some(w) => Ok(TrafficReading::new(weight(*w), None, None)),
            None => Err("timeout".to_owned()),
        }),
        Event::Ours => Input::Traffic(Ok(TrafficReading::new(before.weight, None, None))),
        Event::Wake => Input::Wake,
        Event::Supersede => Input::Supersede { version: "v3".to_owned() },
        Event::Begin { first, weight: w } => run.begin(*first, weight(*w)),
    }
}

fn somebodys((number, severity, names, firing, minutes): &(u8, Severity, Option<Arm>, bool, u8), at: Timestamp) -> Alert {
    Alert {
        fingerprint: format!("{number}{names:?}"),
        name: format!("A{number}"),
        firing: *firing,
        severity: *severity,
        names: *names,
        since: at - Duration::from_secs(60 * u64::from(*minutes)),
        text: String::new(),
    }
}

/// A machine, its twin and its last decision: every input is given to both, and every decision is checked.
struct Run {
    machine: Machine,
    twin: Machine,
    last: Decision,
    told: invariants::Told,
    /// The last hook that was called, and the last action's number.
    called: (HookPoint, u32),
    worked: u64,
    rule: Rule,
    /// What the rule's line says was noted, once it has begun.
    noted: Option<Noted>,
    /// The cluster's last word since then.
    seen: Option<PerArm<WorkloadSeen>>,
}

impl Run {
    fn new(rule_text: &str) -> Self {
        let rule = rule(rule_text);
        let machine = Machine::new(&rule, &Method::default());
        Self {
            rule,
            noted: rule_text.split(';').find_map(|p| p.trim().strip_prefix("noted=")).map(noted),
            seen: None,
            twin: machine.clone(),
            machine,
            last: unborn(),
            told: invariants::Told::default(),
            called: (HookPoint::BeforeStart, 0),
            worked: 0,
        }
    }

    fn begin(&self, first: bool, weight: Weight) -> Input {
        Input::Begin(Begin { weight, first, noted: self.noted.clone(), ..Begin::new(Side::Second, "", "ana") })
    }

    fn give(&mut self, at: Timestamp, input: &Input) -> Result<(), TestCaseError> {
        if let Input::Workloads(seen) = input {
            // before the beginning nobody looks
            self.seen = seen.as_ref().ok().filter(|_| self.machine.begun().is_some()).cloned();
        }
        let decision = self.machine.handle(at, input);
        let same = self.twin.handle(at, input);
        prop_assert_eq!(&decision, &same, "the same inputs give the same decisions");
        invariants::check(&self.last, input, &decision).and_then(|()| self.told.check(&decision)).map_err(TestCaseError::fail)?;
        let tick_keeps = matches!(input, Input::Tick(t) if !t.judgement.keep.is_empty());
        let writes_up = decision.effects.iter().any(|e| matches!(e, Effect::SetWeight { weight, .. } if *weight > self.last.weight));
        prop_assert!(!(tick_keeps && writes_up), "a poll that keeps the step raised a weight");
        self.pods_allow(input, &decision)?;
        for effect in &decision.effects {
            match effect {
                Effect::CallHook { hook, attempt } => {
                    prop_assert!(*attempt > self.called.1, "attempts grow");
                    self.called = (*hook, *attempt);
                }
                Effect::Workload { number, .. } => {
                    prop_assert!(*number > self.worked, "numbers grow");
                    self.worked = *number;
                }
                Effect::SetWeight { .. } | Effect::Notify(_) | Effect::HoldStill => {}
            }
        }
        self.last = decision;
        Ok(())
    }

    /// No step up without the pods it needs, said once more in other words than the machine's; and no rollback for what both show.
    fn pods_allow(&self, input: &Input, decision: &Decision) -> Result<(), TestCaseError> {
        let Some(noted) = &self.noted else { return Ok(()) };
        let glass = matches!(input, Input::Command(c) if c.verb == Verb::BreakGlassPromote);
        let up = matches!(decision.action, Action::Advance { .. } | Action::Promote) && decision.weight > self.last.weight;
        if up && !glass && decision.reasons.is_empty() {
            let follow = self.rule.replicas == Replicas::Follow && self.rule.mode == Mode::Enforce;
            let whole = if noted.baseline_ready == 0 { noted.canary_wanted } else { noted.baseline_ready };
            let seen = self.seen.as_ref().map(|s| &s.canary);
            let enough = |c: &WorkloadSeen| {
                let share = (f64::from(whole) * decision.weight.share() - 1e-9).ceil() as u32;
                c.ready >= 1 && (c.ready >= share || (!follow && c.ready >= c.wanted))
            };
            prop_assert!(seen.is_some_and(enough), "up to {} of {whole} with {seen:?}", decision.weight);
        }
        let news = self.last.reasons.is_empty();
        for reason in decision.reasons.iter().filter(|_| news) {
            let Reason::Pods { sign, .. } = reason else { continue };
            let seen = self.seen.as_ref().expect("nobody could look");
            let rate = |arm: &WorkloadSeen| f64::from(sign.of(&arm.signs)) / f64::from(arm.pods.max(1));
            prop_assert!(rate(&seen.baseline) < 0.5 * rate(&seen.canary) + 1e-9 && rate(&seen.canary) > 0.0, "{sign:?}: {seen:?}");
        }
        Ok(())
    }

    fn event(&mut self, at: Timestamp, event: &Event) -> Result<(), TestCaseError> {
        let input = input(event, at, self);
        self.give(at, &input)
    }

    /// Hooks say yes, actions are done, roles approve, alerts end.
    fn everybody_helps(&mut self, at: Timestamp) -> Result<(), TestCaseError> {
        self.event(at, &Event::Hook { behind: 0, answer: HookAnswer::Passed })?;
        self.event(at, &Event::Work { behind: 0, failed: None })?;
        let plenty = WorkloadSeen { wanted: 20, pods: 20, ready: 20, ..WorkloadSeen::default() };
        self.event(at, &Event::Cluster(Some(PerArm { baseline: plenty.clone(), canary: plenty })))?;
        self.event(at, &Event::Command(Verb::Approve { role: "manager".to_owned() }, "ben"))?;
        self.event(at, &Event::Command(Verb::Approve { role: "product".to_owned() }, "cyd"))?;
        let arms = [None, Some(Arm::Baseline), Some(Arm::Canary)];
        let ends = (0..3).flat_map(|n| arms.map(|arm| (n, Severity::Info, arm, false, 0))).collect();
        self.event(at, &Event::Alerts(ends))
    }

    fn done(&mut self, at: Timestamp) -> Result<(), TestCaseError> {
        self.give(at, &Input::Effect { generation: self.last.generation, outcome: Outcome::Done })
    }

    /// Whatever is asked for is done, and every wake-up comes.
    fn settle(&mut self, mut at: Timestamp) -> Result<(), TestCaseError> {
        for _ in 0..8 {
            self.done(at)?;
            self.event(at, &Event::Work { behind: 0, failed: None })?;
            at = self.last.wake_at.unwrap_or(at);
            self.give(at, &Input::Wake)?;
        }
        Ok(())
    }
}

fn run(rule_text: &str, events: &[(u16, Event)]) -> Result<(Run, Timestamp), TestCaseError> {
    let mut run = Run::new(rule_text);
    let mut at = Timestamp::from_millis(0);
    for (passed_s, event) in events {
        at = at + Duration::from_secs(u64::from(*passed_s));
        run.event(at, event)?;
    }
    Ok((run, at))
}

fn script() -> impl Strategy<Value = (usize, Vec<(u16, Event)>)> {
    let start = prop_oneof![9 => Just(Event::Begin { first: false, weight: 0 }), 1 => event()];
    (0..RULES.len(), start, vec((0u16..40, event()), 0..80)).prop_map(|(rule, start, mut events)| {
        events.insert(0, (0, start));
        (rule, events)
    })
}

proptest! {
    #[test]
    fn any_inputs_keep_the_invariants((rule, events) in script()) {
        run(RULES[rule], &events)?;
    }

    #[test]
    fn a_rollback_leads_out_of_every_state((rule, events) in script()) {
        let (mut run, at) = run(RULES[rule], &events)?;
        let over = run.last.state.is_over();
        run.give(at, &Input::Command(Command { verb: Verb::RollBack, by: "ana".to_owned(), why: String::new() }))?;
        let refused = matches!(run.last.action, Action::Refuse(_));
        run.settle(at)?;
        let ended = matches!(run.last.state, State::RolledBack | State::Superseded) && run.last.weight.is_zero();
        // stable is being written: there is no old version left
        let copied = RULES[rule].contains("promotion=copy");
        let too_late = copied && refused;
        prop_assert!(over || ended || too_late, "still {:?} at {}", run.last.state, run.last.weight);
    }

    #[test]
    fn what_rolls_back_ends_at_zero_once_the_router_obeys((rule, events) in script()) {
        let (mut run, at) = run(RULES[rule], &events)?;
        if !run.last.reasons.is_empty() {
            run.settle(at)?;
            prop_assert!(run.last.state.is_over() && run.last.weight.is_zero(), "still {:?}", run.last);
        }
    }

    /// From every state: a person's resume, the router's obedience and polls that keep nothing lead to an end, or there
    /// is a hold that names a person.
    #[test]
    fn good_polls_and_a_person_lead_to_an_end((rule, events) in script()) {
        let (mut run, mut at) = run(RULES[rule], &events)?;
        if matches!(run.last.state, State::Waiting(_)) {
            run.give(at, &run.begin(false, Weight::ZERO))?;
        }
        run.give(at, &Input::Command(Command { verb: Verb::Resume, by: "ana".to_owned(), why: String::new() }))?;
        for _ in 0..40 {
            at = at + Duration::from_secs(61);
            run.done(at)?;
            run.everybody_helps(at)?;
            run.done(at)?;
            run.give(at, &Input::Traffic(Ok(TrafficReading::new(run.last.weight, None, None))))?;
            let event = Event::Tick { keep: vec![], breach: None, n: Some(good_counts(&run.last)), missing: PerArm::default(), counted_s: 60, old_step: false };
            run.event(at, &event)?;
        }
        let waits = run.last.holds.iter().any(|h| h.why == HoldWhy::Window);
        let asks = waits || run.last.holds.iter().any(|h| h.text.contains("stable") || h.ends.contains("promote")) || run.last.state.name() == "paused";
        prop_assert!(run.last.state.is_over() || asks, "still {:?}", run.last);
    }

    /// Whatever came before, and whichever freeze or window stands then.
    #[test]
    fn a_window_never_delays_a_rollback((rule, events) in script(), windows in prop::sample::select(WINDOWS.to_vec())) {
        for rule in [RULES[rule].to_owned(), format!("{}; {windows}", RULES[rule])] {
            let (mut run, at) = run(&rule, &events)?;
            let acts = run.machine.evidence_acts();
            let at = at + Duration::from_secs(1);
            let breach = Event::Tick { keep: vec![], breach: Some(Breach::Gross), n: None, missing: PerArm::default(), counted_s: 0, old_step: false };
            run.event(at, &breach)?;
            prop_assert!(!acts || (run.last.weight.is_zero() && !run.last.reasons.is_empty()), "{rule}: still {:?}", run.last);
        }
    }

    #[test]
    fn a_blind_shared_or_paused_rollout_never_steps_up((rule, events) in script(), why in prop::sample::select(vec![Keep::Blind, Keep::Shared])) {
        let (mut run, mut at) = run(RULES[rule], &events)?;
        let weight = run.last.weight;
        for _ in 0..30 {
            at = at + Duration::from_secs(15);
            let event = Event::Tick { keep: vec![why], breach: None, n: None, missing: PerArm::default(), counted_s: 600, old_step: false };
            run.event(at, &event)?;
            run.done(at)?;
        }
        prop_assert!(run.last.weight <= weight, "{weight} -> {}", run.last.weight);
    }
}

/// Traffic that follows the weight.
fn good_counts(d: &Decision) -> (u16, u16) {
    (1000 - d.weight.permille(), d.weight.permille())
}
