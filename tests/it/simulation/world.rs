//! The outside of one rollout, made from one seed: processes with cumulative counters, the scrapes that show them, a router
//! that does not always obey, and what people say.

use super::dice::Dice;
use super::path::{self, BAD, Classes, GOOD, START, Scraped, TICK};
use canaryd::model::{Arm, Outcome, PerArm, Retry, Timestamp, TrafficReading, Verb, Weight};
use std::time::Duration;

pub(super) const BOUNDS_MS: [f64; 8] = [25.0, 50.0, 100.0, 150.0, 200.0, 250.0, 500.0, 1000.0];
/// Time the world moves in.
pub(super) const MOVE_S: u64 = 5;

/// What is wrong with the canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sick {
    No,
    /// Every request fails.
    Outage,
    /// A tenth of the requests fail.
    Errors,
    /// Three times as slow.
    Slow,
    /// Its processes are gone, nothing answers.
    Gone,
}

/// Chances, per process and scrape, per tick, per second or per write.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) sick: Sick,
    /// Second from which it is.
    pub(super) sick_from: u64,
    /// Every process carries both arms, as a proxy does.
    pub(super) shared_processes: bool,
    pub(super) processes: usize,
    pub(super) requests_per_s: f64,
    pub(super) start_known: bool,
    /// Two replicas of the source answer in turn.
    pub(super) replicas: bool,
    // per process and move
    pub(super) restarts: f64,
    pub(super) replaced: f64,
    // per process and scrape
    pub(super) missed: f64,
    pub(super) not_a_number: f64,
    // per tick
    pub(super) late: f64,
    pub(super) source_down: f64,
    pub(super) tick_lost: f64,
    pub(super) tick_twice: f64,
    // per write, per reading
    pub(super) write_fails: f64,
    pub(super) write_lies: f64,
    pub(super) slow_s: f64,
    pub(super) unreadable: f64,
    // per second
    pub(super) foreign: f64,
    pub(super) people: f64,
    pub(super) newer_version: f64,
    /// The daemon dies and comes back.
    pub(super) crash: f64,
}

impl Plan {
    /// Each kind of trouble is there in about half of the runs, in strengths from rare to constant.
    pub(super) fn draw(dice: &mut Dice) -> Self {
        let calm = dice.chance(0.3);
        let mut some = |most: f64| {
            let strength = dice.unit();
            if dice.chance(0.5) { most * strength * strength } else { 0.0 }
        };
        let seen = [some(0.004), some(0.004), some(0.3), some(0.03), some(0.3), some(0.2), some(0.1), some(0.1)];
        let [restarts, replaced, missed, not_a_number, late, source_down, tick_lost, tick_twice] = seen;
        let hands = [some(0.7), some(0.3), some(40.0), some(0.5), some(0.02), some(0.03), some(0.001)];
        let crash = some(0.01);
        let [write_fails, write_lies, slow_s, unreadable, foreign, people, newer_version] = if calm { [0.0; 7] } else { hands };
        let sick = if dice.chance(0.5) { Sick::No } else { dice.pick(&[Sick::Outage, Sick::Errors, Sick::Slow, Sick::Gone]) };
        Self {
            sick,
            sick_from: dice.below(240) as u64,
            shared_processes: dice.chance(0.4),
            processes: 1 + dice.below(5),
            requests_per_s: 40.0 + 360.0 * dice.unit(),
            start_known: dice.chance(0.7),
            replicas: dice.chance(0.3),
            restarts,
            replaced,
            missed,
            not_a_number,
            late,
            source_down,
            tick_lost,
            tick_twice,
            write_fails,
            write_lies,
            slow_s,
            unreadable,
            foreign,
            people,
            newer_version,
            crash,
        }
    }

    /// From now on nothing but the canary itself is wrong.
    pub(super) fn calm_down(&mut self) {
        (self.missed, self.not_a_number, self.late, self.source_down, self.tick_lost, self.tick_twice) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
        (self.write_fails, self.write_lies, self.slow_s, self.unreadable) = (0.0, 0.0, 0.0, 0.0);
        (self.restarts, self.replaced, self.foreign, self.people, self.newer_version, self.crash) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    }

    /// Does nobody but the machine touch the rollout?
    pub(super) fn left_alone(&self) -> bool {
        [self.foreign, self.people, self.newer_version, self.write_fails, self.write_lies, self.unreadable].iter().all(|p| *p == 0.0)
    }
}

/// Cumulative counters of one process for one arm.
#[derive(Clone, Debug, Default)]
struct Meter {
    requests: Classes,
    buckets: Classes,
}

/// What a scrape read of a process.
#[derive(Clone, Debug)]
struct Shot {
    sampled: Timestamp,
    start: Timestamp,
    meters: PerArm<Meter>,
}

/// A process; it carries one arm or both.
#[derive(Clone, Debug)]
struct Process {
    name: String,
    carries: PerArm<bool>,
    start: Timestamp,
    meters: PerArm<Meter>,
    /// Per replica of the source, oldest first, at most two.
    shots: [Vec<Shot>; 2],
    dead: Option<Timestamp>,
}

/// Requests, failures, and requests whose time was taken.
pub(super) type Truth = PerArm<[f64; 3]>;

pub(super) struct Fleet {
    processes: Vec<Process>,
    born: usize,
    /// Since the beginning of the world.
    pub(super) truth: Truth,
}

/// How long a source goes on showing a process that is gone.
const LOOKBACK: Duration = Duration::from_secs(300);

impl Fleet {
    pub(super) fn new(dice: &mut Dice, plan: &Plan) -> Self {
        let mut fleet = Self { processes: Vec::new(), born: 0, truth: PerArm::default() };
        let kinds = if plan.shared_processes { vec![(true, true)] } else { vec![(true, false), (false, true)] };
        for (baseline, canary) in kinds {
            for _ in 0..plan.processes {
                fleet.bear(START - TICK * 100, PerArm { baseline, canary });
            }
        }
        // what came before the rollout is in the counters too: both workloads carried traffic once
        fleet.serve(dice, plan, PerArm { baseline: 20_000.0, canary: 3_000.0 }, false);
        if dice.chance(0.5) {
            fleet.processes.iter_mut().for_each(|p| p.meters.canary = Meter::default());
        }
        fleet.truth = PerArm::default();
        fleet
    }

    fn bear(&mut self, at: Timestamp, carries: PerArm<bool>) {
        self.born += 1;
        let (meters, shots) = (PerArm::default(), [Vec::new(), Vec::new()]);
        self.processes.push(Process { name: format!("p{}", self.born), carries, start: at, meters, shots, dead: None });
    }

    /// Some seconds of traffic, births, deaths and restarts.
    pub(super) fn pass(&mut self, dice: &mut Dice, plan: &Plan, now: Timestamp, share: f64, sick: bool) {
        let gone = sick && plan.sick == Sick::Gone;
        for i in 0..self.processes.len() {
            if self.processes[i].dead.is_some() {
                continue;
            }
            let carries = self.processes[i].carries;
            if gone && carries.canary && !carries.baseline {
                self.processes[i].dead = Some(now);
            } else if dice.chance(plan.restarts) {
                (self.processes[i].meters, self.processes[i].start) = (PerArm::default(), now);
            } else if dice.chance(plan.replaced) {
                self.processes[i].dead = Some(now);
                self.bear(now, carries);
            }
        }
        let all = plan.requests_per_s * MOVE_S as f64;
        self.serve(dice, plan, PerArm { baseline: all * (1.0 - share), canary: if gone { 0.0 } else { all * share } }, sick);
    }

    fn serve(&mut self, dice: &mut Dice, plan: &Plan, mean: PerArm<f64>, sick: bool) {
        for arm in Arm::BOTH {
            let canary = arm == Arm::Canary && sick;
            let p = match plan.sick {
                Sick::Outage if canary => 1.0,
                Sick::Errors if canary => 0.1,
                _ => 0.002,
            };
            let slow = if canary && plan.sick == Sick::Slow { 3.0 } else { 1.0 };
            let mut live: Vec<&mut Process> = self.processes.iter_mut().filter(|p| p.dead.is_none() && p.carries[arm]).collect();
            let each = mean[arm] / live.len().max(1) as f64;
            for process in &mut live {
                let n = dice.poisson(each);
                let bad = dice.binomial(n, p);
                process.meters[arm].serve(dice, n, bad, slow);
                for (sum, more) in self.truth[arm].iter_mut().zip([n, bad, n]) {
                    *sum += more as f64;
                }
            }
        }
    }

    /// One replica of the source scrapes everybody who lives.
    pub(super) fn scrape(&mut self, dice: &mut Dice, plan: &Plan, replica: usize, now: Timestamp) {
        for process in self.processes.iter_mut().filter(|p| p.dead.is_none()) {
            if dice.chance(plan.missed) {
                continue;
            }
            let shots = &mut process.shots[replica];
            if shots.len() == 2 {
                shots.remove(0);
            }
            shots.push(Shot { sampled: now, start: process.start, meters: process.meters.clone() });
        }
    }

    /// What the source answers at a tick.
    pub(super) fn answer(&self, dice: &mut Dice, plan: &Plan, now: Timestamp) -> PerArm<Vec<Scraped>> {
        let replica = if plan.replicas { dice.below(2) } else { 0 };
        let late = dice.chance(plan.late);
        let mut out = PerArm { baseline: Vec::new(), canary: Vec::new() };
        for process in &self.processes {
            let shots = &process.shots[replica];
            let newest = if late && shots.len() == 2 { shots.first() } else { shots.last() };
            let Some(shot) = newest.filter(|s| now.since(s.sampled) < LOOKBACK) else { continue };
            // half of the sources mark the end of a series, half go on showing the last value
            if process.dead.is_some_and(|at| now.since(at) > TICK) && process.name.len().is_multiple_of(2) {
                continue;
            }
            for arm in Arm::BOTH {
                let meter = &shot.meters[arm];
                if meter.requests.is_empty() {
                    continue;
                }
                let (mut requests, mut buckets) = (meter.requests.clone(), meter.buckets.clone());
                if dice.chance(plan.not_a_number) {
                    requests.insert(BAD, f64::NAN);
                }
                if dice.chance(plan.not_a_number) {
                    buckets.values_mut().for_each(|v| *v = f64::INFINITY);
                }
                let start = plan.start_known.then_some(shot.start);
                let process = process.name.clone();
                out[arm].push(Scraped { process, sampled: shot.sampled, start, requests, buckets });
            }
        }
        out
    }
}

impl Meter {
    /// A class that never happened has no series.
    fn serve(&mut self, dice: &mut Dice, n: u64, bad: u64, slow: f64) {
        for (class, k) in [(GOOD, n - bad), (BAD, bad)] {
            if k > 0 {
                *self.requests.entry(class).or_default() += k as f64;
            }
        }
        if n == 0 {
            return;
        }
        let shares = if slow > 1.0 {
            [0.1, 0.2, 0.2, 0.2, 0.1, 0.1, 0.05, 0.03, 0.02]
        } else {
            [0.1, 0.3, 0.3, 0.15, 0.08, 0.04, 0.02, 0.005, 0.005]
        };
        let mut below = 0;
        for (b, k) in dice.multinomial(n, &shares).into_iter().enumerate() {
            below += k;
            *self.buckets.entry(path::bucket_class(&BOUNDS_MS, b)).or_default() += below as f64;
        }
    }
}

/// A write that is on its way.
#[derive(Clone, Debug)]
struct Flight {
    weight: Weight,
    generation: u64,
    ends: Timestamp,
    outcome: Outcome,
    applied: bool,
}

/// A router and its one writer: one attempt per wish, the newest wish only.
#[derive(Debug, Default)]
pub(super) struct Router {
    pub(super) weight: Weight,
    generation: u64,
    /// Another hand wrote last.
    pub(super) other: bool,
    wish: Option<(Weight, u64)>,
    flight: Option<Flight>,
    asked: u64,
}

impl Router {
    /// The weight is wanted from now on; an older wish is forgotten.
    pub(super) fn want(&mut self, weight: Weight, generation: u64) {
        if generation >= self.asked {
            self.asked = generation;
            self.wish = Some((weight, generation));
        }
    }

    /// What has ended by now, if anything.
    pub(super) fn pass(&mut self, dice: &mut Dice, plan: &Plan, now: Timestamp) -> Option<(u64, Outcome)> {
        if dice.chance(plan.foreign) {
            self.weight = Weight::from_permille(dice.pick(&[0, 10, 300, 1000])).expect("a share");
            self.other = true;
        }
        if self.flight.is_none()
            && let Some((weight, generation)) = self.wish.take()
        {
            let ends = now + Duration::from_secs_f64((plan.slow_s * dice.unit()).round());
            let (outcome, applied) = fate(dice, plan);
            self.flight = Some(Flight { weight, generation, ends, outcome, applied });
        }
        let landed = self.flight.take_if(|f| f.ends <= now)?;
        if landed.applied && landed.generation >= self.generation {
            (self.weight, self.generation, self.other) = (landed.weight, landed.generation, false);
        }
        Some((landed.generation, landed.outcome))
    }

    /// The writer is gone, and its wish. What was on its way has arrived, or has not: here every other time.
    pub(super) fn lose_flight(&mut self) {
        if let Some(flight) = self.flight.take().filter(|f| f.applied && f.generation % 2 == 0 && f.generation >= self.generation) {
            (self.weight, self.generation, self.other) = (flight.weight, flight.generation, false);
        }
        self.wish = None;
        self.asked = 0;
    }

    /// A reading, unless a write is under way or waits: such a reading is thrown away.
    pub(super) fn read(&self, dice: &mut Dice, plan: &Plan) -> Option<Result<TrafficReading, String>> {
        if self.flight.is_some() || self.wish.is_some() {
            return None;
        }
        if dice.chance(plan.unreadable) {
            return Some(Err("connection refused".to_owned()));
        }
        let writer = if self.other { "somebody" } else { "canaryd" };
        Some(Ok(TrafficReading::new(self.weight, Some(self.generation), Some(writer.to_owned()))))
    }
}

/// How a write ends, and whether the weight is there afterwards: a write that was not answered may have worked.
fn fate(dice: &mut Dice, plan: &Plan) -> (Outcome, bool) {
    let retry = dice.pick(&[Retry::After(Duration::from_secs(1)), Retry::After(Duration::from_secs(5)), Retry::OnChange, Retry::Never]);
    let failed = Outcome::Failed { text: "no answer".to_owned(), retry };
    if dice.chance(plan.write_lies) {
        (failed, true)
    } else if dice.chance(plan.write_fails) {
        (failed, false)
    } else {
        (Outcome::Done, true)
    }
}

pub(super) fn word(dice: &mut Dice) -> Verb {
    let verbs = [
        Verb::Pause,
        Verb::Pause,
        Verb::Resume,
        Verb::Resume,
        Verb::Resume,
        Verb::Advance,
        Verb::Advance,
        Verb::Promote,
        Verb::RollBack,
        Verb::Approve { role: "manager".to_owned() },
        Verb::BreakGlassPromote,
        Verb::BreakGlassFreeze,
    ];
    dice.pick(&verbs)
}
