//! Whole rollouts in a hostile world. After every decision the invariants of `rollout::invariants` must hold, and besides:
//! no request is counted that never was; a weight does not rise on what could not be seen; a rollback ends at 0; the same seed
//! gives the same journal and the same evidence, bit for bit; and a journal cut anywhere leads on to the same decisions.

use super::around::Around;
use super::cluster::Cluster;
use super::dice::Dice;
use super::path::{self, Differenced, Differencer, START, Scraped};
use super::world::{BOUNDS_MS, Fleet, MOVE_S, Plan, Router, Sick, Truth, word};
use canaryd::analysis::Judge;
use canaryd::model::calendar::Windows;
use canaryd::model::journal::{Entry, Event, Opened};
use canaryd::model::{
    Action, Arm, Blind, Buckets, Command, Counts, Decision, Effect, History, HoldWhy, HookAnswer, Input, Judgement, PerArm, Poll, Reason,
    State, Tick, Timestamp, Verb, WorkloadAction,
};
use canaryd::rollout::{Machine, calendar, invariants};
use canaryd::runtime::{parts, replay};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Seeds that once showed a defect, with what it was.
const KEPT: &[(u64, &str)] = &[
    (51, "a proxy whose counters showed infinity at the first tick: what was in them was counted at the second"),
    (143, "the same after the daemon came back"),
];
/// Second from which nothing but the canary is wrong any more, and the last one.
const TROUBLE_S: u64 = 75 * 15;
const END_S: u64 = 130 * 15;
/// Seconds after a tick's end at which it is read.
const SETTLE_S: u64 = 3;

/// Everything effects go to.
struct Outside {
    router: Router,
    around: Around,
    /// What the workloads run in, if that is a cluster.
    cluster: Option<Cluster>,
    /// Another hand may move the weight.
    disturbed: bool,
}

impl Outside {
    fn work(&mut self, action: WorkloadAction, number: u64, at: Timestamp) {
        match &mut self.cluster {
            Some(cluster) => cluster.ask(action, number, at),
            None => self.around.work(action, number, at),
        }
    }
}

/// The shell in small: judge, machine, journal, the wish for the router.
struct Shell {
    judge: Judge,
    machine: Machine,
    last: Decision,
    out: Judgement,
    journal: Vec<Entry>,
    /// Folded over every judgement, bit for bit.
    evidence: u64,
    told: invariants::Told,
    windows: Option<Windows>,
}

/// What a run left.
pub(super) struct Ran {
    plan: Plan,
    pub(super) journal: Vec<Entry>,
    evidence: u64,
    last: Decision,
    pub(super) out: Judgement,
    router: Router,
}

fn fold(hash: &mut u64, bits: u64) {
    *hash = (*hash ^ bits).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(17);
}

/// Every number decisions rest on.
fn fold_judgement(hash: &mut u64, j: &Judgement) {
    let numbers = j.metrics.iter().flat_map(|m| [m.ln_harm, m.ln_harm_cut, m.ln_ok, m.phi]);
    let limits = j.limits.iter().flat_map(|l| [l.evidence.baseline, l.evidence.canary]);
    let bakes = j.bakes.iter().map(|b| b.evidence);
    let own = [j.ln_total, j.p_value, j.score, j.progress, j.clock.counted_s, j.clock.canary_requests];
    numbers.chain(limits).chain(bakes).chain(own).for_each(|x| fold(hash, x.to_bits()));
    fold(hash, j.rollback.len() as u64 + 16 * j.keep.len() as u64 + 256 * u64::from(j.duplicate));
}

pub(super) fn folded(judgement: &Judgement) -> u64 {
    let mut hash = 0;
    fold_judgement(&mut hash, judgement);
    hash
}

impl Shell {
    fn begin(opened: &Opened) -> Self {
        let rule = path::read_rule(&opened.rule_text);
        let judge = Judge::new(&parts::judge_spec(&rule, opened), &opened.history).expect("a judge");
        let mut machine = Machine::new(&rule, &parts::method(opened.scale));
        let begin = Input::Begin(opened.begin.clone());
        let last = machine.handle(START, &begin);
        let mut journal = Vec::new();
        for event in [Event::Opened(Box::new(opened.clone())), Event::Input(Box::new(begin)), Event::Decided(Box::new(last.clone()))] {
            journal.push(Entry { seq: journal.len() as u64, at: START, event });
        }
        let mut told = invariants::Told::default();
        told.check(&last).expect("a beginning");
        Self { judge, machine, last, out: Judgement::empty(START, 0), journal, evidence: 0, told, windows: rule.windows }
    }

    fn write(&mut self, at: Timestamp, event: Event) {
        self.journal.push(Entry { seq: self.journal.len() as u64, at, event });
    }

    fn handle(&mut self, at: Timestamp, input: Input, event: Event, outside: &mut Outside) -> Result<(), String> {
        let decision = self.machine.handle(at, &input);
        invariants::check(&self.last, &input, &decision)?;
        self.told.check(&decision)?;
        self.no_step_up_in_a_freeze(at, &input, &decision)?;
        if let Some(cluster) = &outside.cluster {
            cluster.allows(at, &self.last, &input, &decision, outside.disturbed)?;
        }
        self.write(at, event);
        self.write(at, Event::Decided(Box::new(decision.clone())));
        carry_out(at, &decision, outside);
        self.last = decision;
        Ok(())
    }

    /// Nor a start; break-glass alone passes a freeze by.
    fn no_step_up_in_a_freeze(&self, at: Timestamp, input: &Input, decision: &Decision) -> Result<(), String> {
        let broken = matches!(input, Input::Command(Command { verb: Verb::BreakGlassPromote, .. }));
        let up = decision.weight > self.last.weight && matches!(decision.action, Action::Advance { .. } | Action::Promote);
        match self.windows.as_ref().and_then(|w| calendar::denied(w, at)) {
            Some(span) if up && !broken => Err(format!("up to {} in a freeze ({})", decision.weight, span.words)),
            _ => Ok(()),
        }
    }

    fn input(&mut self, at: Timestamp, input: Input, outside: &mut Outside) -> Result<(), String> {
        let event = Event::Input(Box::new(input.clone()));
        self.handle(at, input, event, outside)
    }

    fn tick(&mut self, tick_at: Timestamp, now: Timestamp, seen: Differenced, outside: &mut Outside) -> Result<(), String> {
        let before = self.last.clone();
        let poll = Poll { at: tick_at, step: before.step, counts_time: before.counts_time, arms: seen.arms, changes: Vec::new() };
        self.judge.poll(&poll, &mut self.out);
        fold_judgement(&mut self.evidence, &self.out);
        let event = Event::Poll { poll: Box::new(poll), missing: seen.missing, detail: seen.detail.clone(), orphans: 0.0 };
        let input = Input::Tick(Box::new(Tick { judgement: self.out.clone(), missing: seen.missing, detail: seen.detail, orphans: 0.0 }));
        self.handle(now, input, event, outside)?;
        // at 0 % nobody has to be seen, at 100 % there is no baseline
        let w = before.weight;
        let blind = !w.is_zero() && (seen.missing.canary.is_some() || (!w.is_full() && seen.missing.baseline.is_some()));
        let on = matches!(self.last.action, Action::Advance { .. } | Action::Promote);
        if blind && (self.last.weight > w || on) {
            return Err(format!("a blind tick led on: {:?} from {w} to {}", self.last.action, self.last.weight));
        }
        Ok(())
    }
}

fn carry_out(at: Timestamp, decision: &Decision, outside: &mut Outside) {
    for effect in &decision.effects {
        match effect {
            Effect::SetWeight { weight, generation } => outside.router.want(*weight, *generation),
            Effect::Workload { action, number } => outside.work(*action, *number, at),
            effect => outside.around.ask(effect, at),
        }
    }
}

fn rule_text(dice: &mut Dice) -> String {
    let steps = dice.pick(&[
        "  - { weight: 5%, for: 2m }\n  - { weight: 25%, for: 2m }\n  - { weight: 50%, for: 3m }\n  - { weight: 100%, bake: 3m }\n",
        "  - { weight: 0%, for: 1m }\n  - { weight: 20%, for: 3m }\n  - { weight: 100%, bake: 2m }\n",
        "  - { weight: 10%, for: 2m }\n  - { weight: 50%, for: 4m }\n  - { weight: 100%, bake: 1m }\n",
    ]);
    let metrics = dice.pick(&[
        "  error-rate: {}\n  latency-p95: {}\n",
        "  error-rate: { promote-below: 1%, warn-above: 2%, rollback-above: 5%, page-above: 20% }\n  latency-p95: {}\n",
        "  error-rate: {}\n",
    ]);
    let more = [
        dice.pick(&["", "strict: true\n", "advance: on-evidence\n"]),
        dice.pick(&["drain: 0s\n", "drain: 30s\n"]),
        dice.pick(&["promotion: swap\n", "promotion: leave\n"]),
        dice.pick(&["", "bake-judge: page\n"]),
        "policies:\n",
        dice.pick(&[
            "  blind: { hold: 1m, then: roll-back }\n",
            "  blind: { hold: 2m, then: ask }\n",
            "  blind: { hold: 5m, then: hold }\n",
        ]),
        dice.pick(&["  undecided: { hold: 2m, then: ask }\n", "  undecided: { hold: 5m, then: roll-back }\n"]),
        dice.pick(&["  shared: hold\n", "  shared: roll-back\n", "  shared: page\n"]),
        dice.pick(&["  vanished: roll-back\n", "  vanished: hold\n"]),
        dice.pick(&["  foreign: reassert\n", "  foreign: yield\n"]),
    ];
    path::rule_text(steps, metrics, &more.concat())
}

/// The baseline's hour before, or none.
fn history(dice: &mut Dice, plan: &Plan) -> History {
    if dice.chance(0.3) {
        return History::default();
    }
    let mut history = History::default();
    for _ in 0..160 {
        let n = dice.poisson(plan.requests_per_s * 15.0);
        history.requests.push(Some(Counts { total: n as f64, bad: dice.binomial(n, 0.002) as f64 }));
        let shares = [0.1, 0.4, 0.7, 0.85, 0.93, 0.97, 0.99, 0.995, 1.0];
        history.buckets.push(Some(shares.iter().map(|s| (s * n as f64).round()).collect::<Buckets>()));
    }
    history
}

/// One rollout under way: the world, the source's memory, the shell.
struct Trial {
    dice: Dice,
    plan: Plan,
    fleet: Fleet,
    differencer: Differencer,
    outside: Outside,
    shell: Shell,
    /// What truly happened by each move of the world.
    moves: Vec<Truth>,
    /// What was counted; from the oldest sample of the source's first answer on.
    used: Option<Truth>,
}

/// The rule with fixed names, which are copied between.
fn copying(text: &str) -> String {
    let pair = "pair: [ { deployment: sim-v1, cluster: v1 }, { deployment: sim-v2, cluster: v2 } ]";
    assert!(text.contains(pair), "{text}");
    let fixed = "stable: { deployment: sim-v1, cluster: v1 }\n  canary: { deployment: sim-v2, cluster: v2 }";
    text.replace(pair, fixed).replace("promotion: swap\n", "promotion: copy\n")
}

impl Trial {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let plan = Plan::draw(&mut dice);
        let (text, scale, past) = (rule_text(&mut dice), dice.pick(&[1.0, 4.0]), history(&mut dice, &plan));
        let around = if KEPT.iter().any(|(kept, _)| *kept == seed) { Around::nobody() } else { Around::draw(seed) };
        let text = text + &around.lines;
        let text = if around.copies { copying(&text) } else { text };
        let kept = KEPT.iter().any(|(kept, _)| *kept == seed);
        let (cluster, text) = match Cluster::draw(seed, &text, START).filter(|_| !kept) {
            Some((cluster, text)) => (Some(cluster), text),
            None => (None, text),
        };
        let mut opened = path::opened(text, &BOUNDS_MS, scale, past);
        opened.begin.noted = cluster.as_ref().map(|c| c.noted.clone());
        let shell = Shell::begin(&opened);
        let mut fleet = Fleet::new(&mut dice, &plan);
        (0..2).for_each(|replica| fleet.scrape(&mut dice, &plan, replica, START));
        let mut outside = Outside { router: Router::default(), around, cluster, disturbed: plan.foreign > 0.0 };
        carry_out(START, &shell.last, &mut outside);
        Self {
            dice,
            plan,
            fleet,
            differencer: Differencer::new(&BOUNDS_MS, true),
            outside,
            shell,
            moves: vec![Truth::default()],
            used: None,
        }
    }

    fn second(&mut self, second: u64) -> Result<(), String> {
        let now = START + Duration::from_secs(second);
        if second.is_multiple_of(MOVE_S) {
            self.world(second, now);
        }
        if self.dice.chance(self.plan.crash) {
            self.crash(now)?;
        }
        let landed = self.outside.router.pass(&mut self.dice, &self.plan, now);
        let weight = self.outside.router.weight;
        self.outside.cluster.iter_mut().for_each(|c| c.note_weight(now, weight));
        if let Some((generation, outcome)) = landed {
            self.input(now, Input::Effect { generation, outcome })?;
        }
        for input in self.outside.around.pass(now) {
            self.input(now, input)?;
        }
        let weight = self.outside.router.weight;
        for input in self.outside.cluster.as_mut().map(|c| c.pass(now, weight)).unwrap_or_default() {
            self.input(now, input)?;
        }
        if self.shell.last.wake_at.is_some_and(|at| at <= now) {
            self.input(now, Input::Wake)?;
        }
        if self.dice.chance(self.plan.people) {
            let command = Command { verb: word(&mut self.dice), by: "ana".to_owned(), why: "because".to_owned() };
            self.input(now, Input::Command(command))?;
        }
        if self.dice.chance(self.plan.newer_version) {
            self.input(now, Input::Supersede { version: "v3".to_owned() })?;
        }
        if second % 15 == SETTLE_S && second > 15 && !self.dice.chance(self.plan.tick_lost) {
            self.tick(now - Duration::from_secs(SETTLE_S), now)?;
        }
        Ok(())
    }

    fn world(&mut self, second: u64, now: Timestamp) {
        let replica = (second / MOVE_S % 3) as usize;
        let sick = second >= self.plan.sick_from;
        self.fleet.pass(&mut self.dice, &self.plan, now, self.outside.router.weight.share(), sick);
        self.moves.push(self.fleet.truth);
        if replica > 0 {
            self.fleet.scrape(&mut self.dice, &self.plan, replica - 1, now);
        }
    }

    fn input(&mut self, now: Timestamp, input: Input) -> Result<(), String> {
        self.shell.input(now, input, &mut self.outside)
    }

    fn tick(&mut self, tick_at: Timestamp, now: Timestamp) -> Result<(), String> {
        let seen = if self.dice.chance(self.plan.source_down) {
            Differencer::blind(Blind::SourceDown)
        } else {
            let answer = self.fleet.answer(&mut self.dice, &self.plan, tick_at);
            self.note_oldest(&answer);
            self.differencer.tick(tick_at, &answer)
        };
        if let Some(used) = &mut self.used {
            count(used, &seen, &self.fleet.truth)?;
        }
        let again = Differenced { arms: seen.arms.clone(), missing: seen.missing, detail: String::new() };
        self.shell.tick(tick_at, now, seen, &mut self.outside)?;
        if self.dice.chance(self.plan.tick_twice) {
            twice(&mut self.shell, tick_at, now, again, &mut self.outside)?;
        }
        match self.outside.router.read(&mut self.dice, &self.plan) {
            Some(reading) => self.input(now, Input::Traffic(reading)),
            None => Ok(()),
        }
    }

    /// The first answer only notes values: what happened before its oldest sample counts as counted.
    fn note_oldest(&mut self, answer: &PerArm<Vec<Scraped>>) {
        let Some(oldest) = Arm::BOTH.iter().flat_map(|arm| &answer[*arm]).map(|s| s.sampled).min() else { return };
        let moves = oldest.since(START).as_secs() / MOVE_S;
        self.used.get_or_insert(self.moves[moves as usize]);
    }

    /// The daemon dies: the journal is all it has left, and what was on its way to the router may have come to it or not.
    fn crash(&mut self, now: Timestamp) -> Result<(), String> {
        let rebuilt = replay::rebuild(&self.shell.journal, &path::known(), canaryd::model::Timestamp::default())?;
        if rebuilt.left.decision != self.shell.last || !rebuilt.differing.is_empty() {
            return Err(format!("at {now:?} the journal says {:?} and not {:?}", rebuilt.left.decision, self.shell.last));
        }
        (self.shell.judge, self.shell.machine) = (rebuilt.judge, rebuilt.machine);
        (self.differencer, self.used) = (Differencer::new(&BOUNDS_MS, true), None);
        self.outside.router.lose_flight();
        self.outside.around.lose_flights();
        if let Some(cluster) = &mut self.outside.cluster {
            cluster.lose_flight();
        }
        if let Some((weight, generation)) = self.shell.machine.unconfirmed() {
            self.outside.router.want(weight, generation);
        }
        if let Some((action, number)) = self.shell.machine.unconfirmed_work() {
            self.outside.work(action, number, now);
        }
        match self.shell.machine.unanswered_hook() {
            Some((hook, attempt)) => {
                let answer = HookAnswer::Failed { text: "the daemon was away".to_owned(), again: true };
                self.input(now, Input::Hook { hook, attempt, answer })
            }
            None => Ok(()),
        }
    }
}

/// One rollout.
pub(super) fn run(seed: u64) -> Result<Ran, String> {
    let mut trial = Trial::new(seed);
    let drawn = trial.plan.clone();
    for second in 1..=END_S {
        if second == TROUBLE_S {
            trial.plan.calm_down();
            trial.outside.around.calm_down();
            trial.outside.cluster.iter_mut().for_each(Cluster::calm_down);
        }
        trial.second(second).map_err(|why| format!("at {second} s: {why}"))?;
        if trial.shell.last.state.is_over() {
            break;
        }
    }
    let Trial { shell: Shell { last, out, journal, evidence, .. }, outside: Outside { router, cluster, .. }, .. } = trial;
    cluster.map_or(Ok(()), |c| c.at_the_end(&last))?;
    let ran = Ran { plan: drawn, journal, evidence, last, out, router };
    at_the_end(&ran)?;
    Ok(ran)
}

/// No request and no failure is counted that never was.
fn count(used: &mut Truth, seen: &Differenced, truth: &Truth) -> Result<(), String> {
    for arm in Arm::BOTH {
        let sample = &seen.arms[arm];
        let (total, bad) = sample.requests.map_or((0.0, 0.0), |c| (c.total, c.bad));
        let timed = sample.buckets.as_ref().ok().and_then(|b| b.last()).copied().unwrap_or(0.0);
        used[arm].iter_mut().zip([total, bad, timed]).for_each(|(sum, more)| *sum += more);
        if used[arm].iter().zip(truth[arm]).any(|(used, true_)| *used > true_) {
            return Err(format!("{}: requests, failures, timed: {:?} were counted, {:?} happened", arm.name(), used[arm], truth[arm]));
        }
    }
    Ok(())
}

/// The same tick once more changes nothing.
fn twice(shell: &mut Shell, tick_at: Timestamp, now: Timestamp, seen: Differenced, outside: &mut Outside) -> Result<(), String> {
    let before = shell.last.clone();
    shell.tick(tick_at, now, seen, outside)?;
    let after = &shell.last;
    let same = after.action == Action::Hold && after.weight == before.weight && after.state == before.state && after.effects.is_empty();
    if shell.out.duplicate && same { Ok(()) } else { Err(format!("a tick judged twice led from {before:?} to {after:?}")) }
}

fn at_the_end(ran: &Ran) -> Result<(), String> {
    let back = !ran.last.reasons.is_empty();
    let over = matches!(ran.last.state, State::RolledBack | State::Superseded);
    // between the last reading and the end another hand may still come in
    if back && !(over && (ran.router.weight.is_zero() || ran.router.other)) {
        return Err(format!("a rollback did not end at 0: {:?}, the router has {}", ran.last, ran.router.weight));
    }
    if ran.last.state == State::Succeeded && ran.plan.left_alone() && ran.router.weight != ran.last.weight {
        return Err(format!("succeeded, and the router has {}", ran.router.weight));
    }
    Ok(())
}

/// One seed with everything that is asked of it.
fn check(seed: u64) -> Result<Ran, String> {
    let ran = run(seed)?;
    let again = run(seed)?;
    if ran.evidence != again.evidence || ran.journal != again.journal {
        let line = ran.journal.iter().zip(&again.journal).find(|(a, b)| a != b);
        return Err(format!("the same seed gave another journal: {line:?}"));
    }
    let mut dice = Dice::new(seed ^ 0x5eed);
    let cuts: Vec<usize> = (0..2).map(|_| 3 + dice.below(ran.journal.len() - 2)).collect();
    super::restart::restarts(&ran.journal, &cuts, folded(&ran.out))?;
    Ok(ran)
}

fn breach(reason: &Reason) -> bool {
    matches!(reason, Reason::Breach { .. })
}

/// Runs of these seeds on all cores; every failure with its seed.
fn check_all(seeds: &[u64]) -> (Vec<(u64, Ran)>, Vec<String>) {
    let next = AtomicU64::new(0);
    let worker = || {
        let (mut ran, mut failed) = (Vec::new(), Vec::new());
        while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
            match std::panic::catch_unwind(|| check(*seed)) {
                Ok(Ok(one)) => ran.push((*seed, one)),
                Ok(Err(why)) => failed.push(format!("seed {seed}: {why}\n    {:?}", Plan::draw(&mut Dice::new(*seed)))),
                Err(_) => failed.push(format!("seed {seed}: it panicked")),
            }
        }
        (ran, failed)
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|s| {
        let running: Vec<_> = (0..threads).map(|_| s.spawn(worker)).collect();
        let parts: Vec<_> = running.into_iter().map(|r| r.join().expect("a worker")).collect();
        let (ran, failed): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        (ran.into_iter().flatten().collect(), failed.into_iter().flatten().collect())
    })
}

/// `CANARYD_SIMULATE=FROM..TO` runs those seeds instead.
fn seeds() -> Vec<u64> {
    let asked = std::env::var("CANARYD_SIMULATE").ok();
    let range = asked.and_then(|a| a.split_once("..").map(|(from, to)| (from.parse().expect("a seed"), to.parse().expect("a seed"))));
    let (from, to): (u64, u64) = range.unwrap_or((0, 300));
    KEPT.iter().map(|(seed, _)| *seed).chain(from..to).collect()
}

#[test]
#[expect(clippy::print_stderr, reason = "for whoever runs it with --nocapture")]
fn what_must_never_happen_does_not_happen() {
    let seeds = seeds();
    let (ran, failed) = check_all(&seeds);
    let of = |f: &dyn Fn(&Ran) -> bool| ran.iter().filter(|(_, r)| f(r)).count();
    let state = |r: &Ran| r.last.state.name();
    let ends: std::collections::BTreeMap<&str, usize> = ran.iter().fold(Default::default(), |mut all, (_, r)| {
        *all.entry(state(r)).or_default() += 1;
        all
    });
    eprintln!("{} runs end so: {ends:?}", ran.len());
    assert!(
        failed.is_empty(),
        "{} of {} runs fail (CANARYD_SIMULATE=FROM..TO runs some):\n{}",
        failed.len(),
        seeds.len(),
        failed.join("\n")
    );

    // the world is hostile enough to mean something, and not so hostile that nothing succeeds
    assert!(ends.len() >= 4, "{ends:?}");
    let holds = |e: &Entry, why| matches!(&e.event, Event::Decided(d) if d.holds.iter().any(|h| h.why == why));
    for why in [HoldWhy::Window, HoldWhy::Approval, HoldWhy::Hook, HoldWhy::Alert, HoldWhy::Promotion, HoldWhy::Capacity, HoldWhy::Pods] {
        let held = of(&|r| r.journal.iter().any(|e| holds(e, why)));
        eprintln!("{held} runs were held by: {}", why.name());
        assert!(held > 0, "nobody was held by: {}", why.name());
    }
    let asked = |r: &Ran, name: &str| {
        let asks = |e: &Effect| matches!(e, Effect::Workload { action, .. } if action.name() == name);
        r.journal.iter().any(|e| matches!(&e.event, Event::Decided(d) if d.effects.iter().any(asks)))
    };
    for name in ["hold-baseline", "scale-canary", "restore-baseline", "undo", "scale-canary-down", "idle-baseline", "release-scalers"] {
        let runs = of(&|r| asked(r, name));
        eprintln!("{runs} runs asked for: {name}");
        assert!(runs > 0, "nobody asked for: {name}");
    }
    let crashed = of(&|r| r.last.reasons.iter().any(|reason| matches!(reason, Reason::Pods { .. })));
    eprintln!("{crashed} runs were rolled back for their pods");
    assert!(crashed > 0, "nobody was rolled back for pods");
    // a healthy canary is not blamed for what the source, the router or people do
    let healthy = of(&|r| r.plan.sick == Sick::No);
    let blamed: Vec<u64> =
        ran.iter().filter(|(_, r)| r.plan.sick == Sick::No && r.last.reasons.iter().any(breach)).map(|(seed, _)| *seed).collect();
    let rate = super::bounds::rate(blamed.len() as u64, healthy as u64);
    assert!(rate.low <= 0.01, "of {healthy} healthy canaries these were blamed: {blamed:?}");
    // a canary that fails every request does not come through where nobody else has a hand in it
    let outage = |r: &Ran| r.plan.sick == Sick::Outage && r.plan.left_alone();
    let through: Vec<u64> = ran.iter().filter(|(_, r)| outage(r) && r.last.state == State::Succeeded).map(|(seed, _)| *seed).collect();
    eprintln!("healthy {healthy}, blamed {blamed:?}; outages {}, through {through:?}", of(&outage));
    assert!(through.is_empty(), "outages that came through: {through:?}");
}
