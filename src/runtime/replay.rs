//! The pure core put together without a shell: a judge and a machine, fed one line of a journal (or one tick of a recording)
//! after the other. The daemon uses it to come back after a restart, `canaryd replay` to tell what would have happened.

use super::handle::RolloutView;
use super::parts;
use super::supervisor::first_view;
use crate::analysis::Judge;
use crate::config::{Known, parse_rule};
use crate::model::journal::{Entry, Event, Opened};
use crate::model::{Begin, Decision, Effect, Input, Judgement, Outcome, PerArm, Poll, Rule, Tick, Timestamp, TrafficReading, Weight};
use crate::rollout::Machine;
use std::path::Path;
use std::sync::Arc;

/// A rollout as its journal left it.
pub struct Rebuilt {
    /// Its first line.
    pub opened: Opened,
    /// The rule it runs under (the text kept with it, not the file of today).
    pub rule: Arc<Rule>,
    /// Its judge, with all evidence.
    pub judge: Judge,
    /// Its machine.
    pub machine: Machine,
    /// The last decision.
    pub decision: Decision,
    /// The last judgement.
    pub judgement: Option<Judgement>,
    /// The last tick it has.
    pub last_poll: Option<Timestamp>,
    /// Sentences of the judge's set-up.
    pub warnings: Vec<String>,
    /// Lines whose recorded decision this build would not make again. The recorded ones stand.
    pub differing: Vec<u64>,
}

/// Derives a rollout's state from its journal (invariant 1).
///
/// # Errors
/// If the journal does not begin with `Opened`, its rule cannot be read by this build, or it holds no decision.
pub fn rebuild(entries: &[Entry], known: &Known) -> Result<Rebuilt, String> {
    let Some(Event::Opened(opened)) = entries.first().map(|e| &e.event) else {
        return Err("its journal does not begin with its opening".into());
    };
    let rule = parse_rule(&opened.rule_text, Path::new(&opened.file), known).map_err(|report| format!("its rule: {report}"))?;
    let mut judge = Judge::new(&parts::judge_spec(&rule, opened), &opened.history).map_err(|e| e.to_string())?;
    let warnings = judge.warnings().iter().map(ToString::to_string).collect();
    let mut machine = Machine::new(&rule, &parts::method(opened.scale));
    let mut decision: Option<Decision> = None;
    let mut judgement = Judgement::empty(Timestamp::default(), 0);
    let (mut last_poll, mut differing) = (None, Vec::new());
    for entry in entries.iter().skip(1) {
        match &entry.event {
            Event::Opened(_) => return Err(format!("line {} opens it a second time", entry.seq)),
            Event::Poll { poll, missing, detail } => {
                judge.poll(poll, &mut judgement);
                last_poll = Some(poll.at);
                let tick = Tick { judgement: judgement.clone(), missing: *missing, detail: detail.clone() };
                decision = Some(machine.handle(entry.at, &Input::Tick(Box::new(tick))));
            }
            Event::Input(input) => decision = Some(machine.handle(entry.at, input)),
            Event::Decided(recorded) => {
                if decision.as_ref() != Some(&**recorded) {
                    differing.push(entry.seq);
                }
            }
        }
    }
    let decision = decision.ok_or("its journal holds no decision")?;
    let judgement = last_poll.is_some().then_some(judgement);
    let opened = (**opened).clone();
    Ok(Rebuilt { opened, rule: Arc::new(rule), judge, machine, decision, judgement, last_poll, warnings, differing })
}

/// What a rehearsal says about one tick.
pub struct Rehearsed {
    /// The poll as it was judged.
    pub poll: Poll,
    /// Evidence and verdicts.
    pub judgement: Judgement,
    /// What the machine decided on it.
    pub decision: Decision,
}

/// A rollout in virtual time: every weight the machine asks for is in force at once.
pub struct Rehearsal {
    judge: Judge,
    machine: Machine,
    decision: Decision,
    out: Judgement,
    view: RolloutView,
}

impl Rehearsal {
    /// Begins at `at` with weight 0.
    ///
    /// # Errors
    /// If the judge cannot be built from the rule.
    pub fn begin(rule: &Rule, opened: &Opened, at: Timestamp) -> Result<Self, String> {
        let judge = Judge::new(&parts::judge_spec(rule, opened), &opened.history).map_err(|e| e.to_string())?;
        let warnings = judge.warnings().iter().map(ToString::to_string).collect();
        let mut machine = Machine::new(rule, &parts::method(opened.scale));
        let decision = machine.handle(at, &Input::Begin(opened.begin.clone()));
        let view = first_view(rule, opened, at, warnings);
        let mut new = Self { judge, machine, decision, out: Judgement::empty(at, 0), view };
        new.obey(at);
        Ok(new)
    }

    /// One tick; the step is the one in force unless the recording names another.
    pub fn tick(&mut self, at: Timestamp, arms: PerArm<crate::model::ArmSample>, step: Option<u32>) -> Rehearsed {
        let missing = PerArm::from_fn(|arm| arms[arm].requests.err());
        let poll = Poll { at, step: step.unwrap_or(self.decision.step), counts_time: self.decision.counts_time, arms };
        self.judge.poll(&poll, &mut self.out);
        let tick = Tick { judgement: self.out.clone(), missing, detail: String::new() };
        self.decision = self.machine.handle(at, &Input::Tick(Box::new(tick)));
        let decided = self.decision.clone();
        self.show(&decided);
        self.obey(at);
        Rehearsed { poll, judgement: self.out.clone(), decision: decided }
    }

    /// Is it over?
    pub fn is_over(&self) -> bool {
        self.decision.state.is_over()
    }

    /// As a reader of the API would see it after the last tick.
    pub fn view(&self) -> &RolloutView {
        &self.view
    }

    fn show(&mut self, decision: &Decision) {
        self.view.state = decision.state.clone();
        self.view.decision = Arc::new(decision.clone());
        self.view.weight_seen = Some(decision.weight);
        self.view.judgement = Some(Arc::new(self.out.clone()));
    }

    /// Carries out what the machine asks for until it asks for nothing more, and wakes it when its time has come.
    fn obey(&mut self, at: Timestamp) {
        for _ in 0..8 {
            let wish = self.decision.effects.iter().rev().find_map(|e| match e {
                Effect::SetWeight { weight, generation } => Some((*weight, *generation)),
                Effect::Notify { .. } => None,
            });
            let due = self.decision.wake_at.is_some_and(|wake| wake <= at);
            self.decision = match wish {
                Some((weight, generation)) => self.written(at, weight, generation),
                None if due && !self.is_over() => self.machine.handle(at, &Input::Wake),
                None => return,
            };
        }
    }

    fn written(&mut self, at: Timestamp, weight: Weight, generation: u64) -> Decision {
        let reading = TrafficReading { weight, generation: Some(generation), writer: None };
        let done = self.machine.handle(at, &Input::Effect { generation, outcome: Outcome::Done });
        let read = self.machine.handle(at, &Input::Traffic(Ok(reading)));
        // the reading confirms; what the outcome called for must not be lost
        if done.effects.is_empty() { read } else { done }
    }
}

/// The start of a rehearsal that nobody started.
pub fn nobodys_begin(canary: crate::model::Side) -> Begin {
    Begin { canary, version: String::new(), by: "replay".into(), weight: Weight::ZERO, first: false, retry: false, generation: 0 }
}
