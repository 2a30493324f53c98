//! What holds for any sequence of inputs.

use super::rule;
use super::script::unborn;
use crate::model::{
    Begin, Blind, Breach, Command, Counts, Decision, Effect, Input, Judgement, Keep, Method, Outcome, PerArm, Retry, Side, State,
    StepClock, Tick, Timestamp, TrafficReading, Verb, Weight,
};
use crate::rollout::{Machine, invariants};
use proptest::collection::vec;
use proptest::prelude::*;
use std::time::Duration;

const RULES: [&str; 8] = [
    "5% 1m, 25% 1m, 100% 1m",
    "0% 1m, 10% 1m; drain=0s; blind=1m:roll-back; undecided=1m:roll-back",
    "50% 1m; foreign=yield; vanished=hold; undecided=1m:ask; blind=1m:ask",
    "5% 1m, 100% 2m; bake-judge=page; shared=roll-back; promotion=copy",
    "5% 1m, 100% 1m; external=1m; vanished=ask; shared=page",
    "5% 1m, 100% 1m; mode=observe",
    "100% 1m; first=refuse; promotion=leave",
    "5% 1m, 10% 1m, 20% 1m, 50% 1m; on-evidence; blind-canary=30s:roll-back",
];

/// What comes in; generations and steps relative to the machine's, so that most of them meet it.
#[derive(Clone, Debug)]
enum Event {
    Tick { keep: Vec<Keep>, breach: Option<Breach>, n: Option<(u16, u16)>, missing: PerArm<Option<Blind>>, counted_s: u16, old_step: bool },
    Command(Verb),
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
        Verb::BreakGlassPromote,
        Verb::BreakGlassFreeze,
    ])
}

fn event() -> impl Strategy<Value = Event> {
    let behind = || prop_oneof![6 => Just(0u64), 1 => 1u64..4];
    let retry = prop::sample::select(vec![Retry::After(Duration::from_secs(1)), Retry::OnChange, Retry::Never]);
    prop_oneof![
        12 => tick(),
        2 => verb().prop_map(Event::Command),
        8 => behind().prop_map(|behind| Event::Done { behind }),
        3 => (behind(), retry).prop_map(|(behind, retry)| Event::Failed { behind, retry }),
        1 => prop::option::weighted(0.8, 0u16..=1000).prop_map(Event::Traffic),
        2 => Just(Event::Ours),
        3 => Just(Event::Wake),
        1 => prop::bool::weighted(0.1).prop_map(|s| if s { Event::Supersede } else { Event::Wake }),
        1 => (prop::bool::weighted(0.2), 0u16..=1000).prop_map(|(first, weight)| Event::Begin { first, weight }),
    ]
}

fn weight(permille: u16) -> Weight {
    Weight::from_permille(permille).expect("at most 1000")
}

fn input(event: &Event, at: Timestamp, before: &Decision) -> Input {
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
        Event::Command(verb) => Input::Command(Command { verb: verb.clone(), by: "ana".to_owned(), why: String::new() }),
        Event::Done { behind } => Input::Effect { generation: before.generation.saturating_sub(*behind), outcome: Outcome::Done },
        Event::Failed { behind, retry } => Input::Effect {
            generation: before.generation.saturating_sub(*behind),
            outcome: Outcome::Failed { text: "refused".to_owned(), retry: *retry },
        },
        Event::Traffic(found) => Input::Traffic(match found {
            Some(w) => Ok(TrafficReading { weight: weight(*w), generation: None, writer: None }),
            None => Err("timeout".to_owned()),
        }),
        Event::Ours => Input::Traffic(Ok(TrafficReading { weight: before.weight, generation: None, writer: None })),
        Event::Wake => Input::Wake,
        Event::Supersede => Input::Supersede { version: "v3".to_owned() },
        Event::Begin { first, weight: w } => begin(*first, weight(*w)),
    }
}

fn begin(first: bool, weight: Weight) -> Input {
    Input::Begin(Begin { canary: Side::Second, version: String::new(), by: "ana".to_owned(), weight, first, retry: false, generation: 0 })
}

/// A machine, its twin and its last decision: every input is given to both, and every decision is checked.
struct Run {
    machine: Machine,
    twin: Machine,
    last: Decision,
    told: invariants::Told,
}

impl Run {
    fn new(rule_text: &str) -> Self {
        let machine = Machine::new(&rule(rule_text), &Method::default());
        Self { twin: machine.clone(), machine, last: unborn(), told: invariants::Told::default() }
    }

    fn give(&mut self, at: Timestamp, input: &Input) -> Result<(), TestCaseError> {
        let decision = self.machine.handle(at, input);
        let same = self.twin.handle(at, input);
        prop_assert_eq!(&decision, &same, "the same inputs give the same decisions");
        invariants::check(&self.last, input, &decision).and_then(|()| self.told.check(&decision)).map_err(TestCaseError::fail)?;
        let tick_keeps = matches!(input, Input::Tick(t) if !t.judgement.keep.is_empty());
        let writes_up = decision.effects.iter().any(|e| matches!(e, Effect::SetWeight { weight, .. } if *weight > self.last.weight));
        prop_assert!(!(tick_keeps && writes_up), "a poll that keeps the step raised a weight");
        self.last = decision;
        Ok(())
    }

    fn done(&mut self, at: Timestamp) -> Result<(), TestCaseError> {
        self.give(at, &Input::Effect { generation: self.last.generation, outcome: Outcome::Done })
    }

    /// Whatever is asked for is done, and every wake-up comes.
    fn settle(&mut self, mut at: Timestamp) -> Result<(), TestCaseError> {
        for _ in 0..4 {
            self.done(at)?;
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
        let next = input(event, at, &run.last);
        run.give(at, &next)?;
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
        run.settle(at)?;
        let ended = matches!(run.last.state, State::RolledBack | State::Superseded) && run.last.weight.is_zero();
        prop_assert!(over || ended, "still {:?} at {}", run.last.state, run.last.weight);
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
            run.give(at, &begin(false, Weight::ZERO))?;
        }
        run.give(at, &Input::Command(Command { verb: Verb::Resume, by: "ana".to_owned(), why: String::new() }))?;
        for _ in 0..40 {
            at = at + Duration::from_secs(61);
            run.done(at)?;
            run.give(at, &Input::Traffic(Ok(TrafficReading { weight: run.last.weight, generation: None, writer: None })))?;
            let event = Event::Tick { keep: vec![], breach: None, n: Some(good_counts(&run.last)), missing: PerArm::default(), counted_s: 60, old_step: false };
            run.give(at, &input(&event, at, &run.last))?;
        }
        let asks = run.last.holds.iter().any(|h| h.text.contains("stable") || h.ends.contains("promote")) || run.last.state.name() == "paused";
        prop_assert!(run.last.state.is_over() || asks, "still {:?}", run.last);
    }

    #[test]
    fn a_blind_shared_or_paused_rollout_never_steps_up((rule, events) in script(), why in prop::sample::select(vec![Keep::Blind, Keep::Shared])) {
        let (mut run, mut at) = run(RULES[rule], &events)?;
        let weight = run.last.weight;
        for _ in 0..30 {
            at = at + Duration::from_secs(15);
            let event = Event::Tick { keep: vec![why], breach: None, n: None, missing: PerArm::default(), counted_s: 600, old_step: false };
            run.give(at, &input(&event, at, &run.last))?;
            run.done(at)?;
        }
        prop_assert!(run.last.weight <= weight, "{weight} -> {}", run.last.weight);
    }
}

/// Traffic that follows the weight.
fn good_counts(d: &Decision) -> (u16, u16) {
    (1000 - d.weight.permille(), d.weight.permille())
}
