//! The pure core put together without a shell: a judge and a machine, fed one line of a journal (or one tick of a recording)
//! after the other. The daemon uses it to come back after a restart, `canaryd replay` to tell what would have happened.

use super::handle::RolloutView;
use super::supervisor::first_view;
use super::{changes, kept, parts};
use crate::analysis::Judge;
use crate::config::{Known, parse_rule_with};
use crate::model::journal::{Entry, Event, Opened};
use crate::model::rule::Start;
use crate::model::{
    Alert, Begin, Decision, Effect, Input, Judgement, LimitChange, Notice, Outcome, PerArm, Phase, Poll, Rule, Tick, Timestamp,
    TrafficReading, Weight, WorkloadAction,
};
use crate::rollout::Machine;
use std::collections::BTreeMap;
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
    /// The last judgement.
    pub judgement: Option<Judgement>,
    /// The last tick it has.
    pub last_poll: Option<Timestamp>,
    /// Sentences of the judge's set-up, and of what was changed since.
    pub warnings: Vec<String>,
    /// Limits that were moved since it began.
    pub changes: Vec<LimitChange>,
    /// Lines whose recorded decision this build would not make again. The recorded ones stand.
    pub differing: Vec<u64>,
    /// What is still to be done.
    pub left: Left,
}

/// What a rollout had begun when its journal broke off, for those who go on with it.
pub struct Left {
    /// The last decision.
    pub decision: Decision,
    /// Actions on workloads whose end it has not heard of.
    pub unanswered: Vec<Effect>,
    /// Number of the copy into stable that was done.
    pub copied: Option<u64>,
    /// What it told and has not resolved, with the times, oldest first.
    pub firing: Vec<(Timestamp, Notice)>,
    /// The alerts it heard of, as they were told last.
    pub heard: Vec<Alert>,
    /// Its evidence could not be derived: the journal has a gap, and the judge begins anew. To be recorded as
    /// `Event::Restarted` before anything else is.
    pub lost: Option<Lost>,
}

/// A gap that no earlier restart has dealt with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// How often evidence was lost, this time included.
    pub incarnation: u32,
    /// The gap, as a sentence.
    pub why: String,
}

/// Derives a rollout's state from its journal (invariant 1), `now` being the time of a restart of its evidence if there is a gap
/// in it: past the gap the recorded decisions are followed, and the judge begins anew at half of the level.
///
/// # Errors
/// If the journal does not begin with `Opened`, its rule cannot be read by this build, or it holds no decision.
pub fn rebuild(entries: &[Entry], known: &Known, now: Timestamp) -> Result<Rebuilt, String> {
    let Some(Event::Opened(opened)) = entries.first().map(|e| &e.event) else {
        return Err("its journal does not begin with its opening".into());
    };
    let rule = rule_of(opened, known)?;
    let mut rebuilding = Rebuilding::begin(&rule, opened)?;
    for entry in entries.iter().skip(1) {
        rebuilding.follow(entry)?;
    }
    let lost = rebuilding.gap.clone().map(|why| Lost { incarnation: rebuilding.incarnation + 1, why });
    if let Some(lost) = &lost {
        rebuilding.restart(now, lost.incarnation, &lost.why)?;
    }
    Ok(Rebuilt {
        opened: (**opened).clone(),
        judge: rebuilding.judge,
        machine: rebuilding.machine,
        judgement: rebuilding.last_poll.is_some().then_some(rebuilding.judgement),
        last_poll: rebuilding.last_poll,
        warnings: rebuilding.warnings,
        changes: rebuilding.changes,
        differing: rebuilding.differing,
        left: Left {
            decision: rebuilding.decision.ok_or("its journal holds no decision")?,
            unanswered: rebuilding.unanswered,
            copied: rebuilding.copied,
            firing: rebuilding.firing,
            heard: rebuilding.heard.into_values().collect(),
            lost,
        },
        rule: Arc::new(rule),
    })
}

/// The rule a rollout began with, from the texts kept with it. It was valid then: a source or a receiver that the settings no
/// longer have is met where it is used, and is no reason to lose the rollout. Its limits are in the units of their metrics.
pub(super) fn rule_of(opened: &Opened, known: &Known) -> Result<Rule, String> {
    let known = Known { without_settings: true, ..known.clone() };
    let attached = |name: &str| opened.attached.get(name).cloned().ok_or_else(|| "the journal does not hold it".to_owned());
    let rule =
        parse_rule_with(&opened.rule_text, Path::new(&opened.file), &known, &attached).map_err(|report| format!("its rule: {report}"))?;
    Ok(parts::of_rollout(&rule, opened.begin.noted.as_ref()))
}

/// A rollout on its way through its journal.
struct Rebuilding<'a> {
    rule: &'a Rule,
    opened: &'a Opened,
    judge: Judge,
    machine: Machine,
    decision: Option<Decision>,
    /// The last one in the journal.
    recorded: Option<&'a Decision>,
    judgement: Judgement,
    last_poll: Option<Timestamp>,
    /// Evidence cannot be derived any more, since this.
    gap: Option<String>,
    incarnation: u32,
    warnings: Vec<String>,
    changes: Vec<LimitChange>,
    unanswered: Vec<Effect>,
    copied: Option<u64>,
    firing: Vec<(Timestamp, Notice)>,
    /// By fingerprint.
    heard: BTreeMap<String, Alert>,
    differing: Vec<u64>,
}

impl<'a> Rebuilding<'a> {
    fn begin(rule: &'a Rule, opened: &'a Opened) -> Result<Self, String> {
        let judge = kept::judge(rule, opened, opened.incarnation).map_err(|e| e.to_string())?;
        Ok(Self {
            rule,
            opened,
            warnings: judge.warnings().iter().map(ToString::to_string).collect(),
            judge,
            machine: Machine::new(rule, &parts::method(opened.scale)),
            decision: None,
            recorded: None,
            judgement: Judgement::empty(Timestamp::default(), 0),
            last_poll: None,
            gap: None,
            incarnation: opened.incarnation,
            changes: Vec::new(),
            unanswered: Vec::new(),
            copied: None,
            firing: Vec::new(),
            heard: BTreeMap::new(),
            differing: Vec::new(),
        })
    }

    fn follow(&mut self, entry: &'a Entry) -> Result<(), String> {
        match &entry.event {
            Event::Opened(_) => return Err(format!("line {} opens it a second time", entry.seq)),
            Event::Poll { poll, missing, detail, orphans } => {
                self.judge.poll(poll, &mut self.judgement);
                self.warnings.extend(poll.changes.iter().map(|change| changes::said(*change, self.rule, &self.judgement)));
                self.changes.extend(&poll.changes);
                self.last_poll = Some(poll.at);
                let tick = Tick { judgement: self.judgement.clone(), missing: *missing, detail: detail.clone(), orphans: *orphans };
                self.decision = Some(self.machine.handle(entry.at, &Input::Tick(Box::new(tick))));
            }
            Event::Input(input) => {
                if let Input::Alerts(alerts) = &**input {
                    self.heard.extend(alerts.iter().map(|alert| (alert.fingerprint.clone(), alert.clone())));
                }
                self.note_answered(input);
                self.decision = Some(self.machine.handle(entry.at, input));
            }
            Event::Decided(recorded) => self.compare(entry, recorded),
            Event::Gap(what) => self.gap = self.gap.take().or_else(|| Some(what.clone())),
            Event::Restarted { incarnation, why } => self.restart(entry.at, *incarnation, why)?,
        }
        Ok(())
    }

    /// Past a gap the recorded decision is the only truth there is.
    fn compare(&mut self, entry: &Entry, recorded: &'a Decision) {
        self.recorded = Some(recorded);
        recorded.effects.iter().for_each(|effect| self.note_told(recorded.at, effect));
        let asked = recorded.effects.iter().filter(|effect| matches!(effect, Effect::Workload { .. }));
        self.unanswered.extend(asked.cloned());
        match &self.gap {
            None if self.decision.as_ref() != Some(recorded) => self.differing.push(entry.seq),
            Some(_) if !self.machine.agrees(recorded) => self.decision = Some(self.machine.take_up(entry.at, recorded)),
            _ => {}
        }
    }

    /// Follows what fires; the newest words of a topic count.
    fn note_told(&mut self, at: Timestamp, effect: &Effect) {
        let Effect::Notify(notice) = effect else { return };
        if notice.phase != Phase::Event {
            self.firing.retain(|(_, old)| old.topic != notice.topic);
        }
        if notice.phase == Phase::Firing {
            self.firing.push((at, notice.clone()));
        }
    }

    fn note_answered(&mut self, input: &Input) {
        let Input::Workload { number: answered, outcome } = input else { return };
        let is_it = |effect: &Effect| matches!(effect, Effect::Workload { number, .. } if number == answered);
        let copied = |effect: &Effect| is_it(effect) && matches!(effect, Effect::Workload { action: WorkloadAction::Copy, .. });
        if *outcome == Outcome::Done && self.unanswered.iter().any(copied) {
            self.copied = Some(*answered);
        }
        self.unanswered.retain(|effect| !is_it(effect));
    }

    /// A new judge at half of the level (STATISTICS 7); the machine where the last recorded decision left it.
    fn restart(&mut self, at: Timestamp, incarnation: u32, why: &str) -> Result<(), String> {
        let rule = changes::with(self.rule, &self.changes);
        self.judge = kept::judge(&rule, self.opened, incarnation).map_err(|e| e.to_string())?;
        let recorded = self.recorded.ok_or("its journal holds no decision")?;
        self.decision = Some(self.machine.take_up(at, recorded));
        self.incarnation = incarnation;
        self.gap = None;
        self.warnings
            .push(format!("evidence began anew ({why}): a rollback needs {} times as much", 2f64.powi(incarnation.min(1000) as i32)));
        Ok(())
    }
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

/// A rollout in virtual time: every weight the machine asks for is in force at once. It tells what the evidence does: what a
/// recording does not hold (approvals, windows of another day, hooks, pods) is taken as passed.
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
        let judge = kept::judge(rule, opened, opened.incarnation).map_err(|e| e.to_string())?;
        let mut warnings: Vec<String> = judge.warnings().iter().map(ToString::to_string).collect();
        warnings.extend(parts::unsaid(rule, opened.begin.noted.as_ref()).into_iter().map(|why| format!("not judged: {why}")));
        let open = Rule { start: Start::default(), hooks: Vec::new(), windows: None, ..rule.clone() };
        let mut machine = Machine::new(&open, &parts::method(opened.scale));
        let begin = Begin { noted: None, ..opened.begin.clone() };
        let decision = machine.handle(at, &Input::Begin(begin));
        let view = first_view(rule, opened, at, warnings);
        let mut new = Self { judge, machine, decision, out: Judgement::empty(at, 0), view };
        new.obey(at);
        Ok(new)
    }

    /// One tick; the step is the one in force unless the recording names another.
    pub fn tick(&mut self, at: Timestamp, arms: PerArm<crate::model::ArmSample>, step: Option<u32>) -> Rehearsed {
        let missing = PerArm::from_fn(|arm| arms[arm].requests.err());
        let poll = Poll { at, step: step.unwrap_or(self.decision.step), counts_time: self.decision.counts_time, arms, changes: Vec::new() };
        self.judge.poll(&poll, &mut self.out);
        let tick = Tick { judgement: self.out.clone(), missing, detail: String::new(), orphans: 0.0 };
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
            let asks = |e: &&Effect| matches!(e, Effect::SetWeight { .. } | Effect::Workload { .. });
            let wish = self.decision.effects.iter().rev().find(asks).cloned();
            let due = self.decision.wake_at.is_some_and(|wake| wake <= at);
            self.decision = match wish {
                Some(Effect::SetWeight { weight, generation }) => self.written(at, weight, generation),
                Some(Effect::Workload { number, .. }) => self.machine.handle(at, &Input::Workload { number, outcome: Outcome::Done }),
                None if due && !self.is_over() => self.machine.handle(at, &Input::Wake),
                _ => return,
            };
        }
    }

    fn written(&mut self, at: Timestamp, weight: Weight, generation: u64) -> Decision {
        let reading = TrafficReading::new(weight, Some(generation), None);
        let done = self.machine.handle(at, &Input::Effect { generation, outcome: Outcome::Done });
        let read = self.machine.handle(at, &Input::Traffic(Ok(reading)));
        // the reading confirms; what the outcome called for must not be lost
        if done.effects.is_empty() { read } else { done }
    }
}
