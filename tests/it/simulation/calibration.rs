//! Are false rollbacks as rare, and faults found as fast, as STATISTICS 16 says? The scenarios there, fewer runs, through
//! counters, judge and machine; what was measured here must be compatible with what was measured there.
//!
//! `CANARYD_CALIBRATION=full` makes as many runs as the tables (1000 per null, 400 per fault), `CANARYD_CALIBRATION=B01` those
//! of one scenario; the default makes a fifth of them. Traffic follows the scenario's schedule, not the machine's weight, because
//! the tables' did.

use super::bounds::{self, SURE};
use super::path::{self, BAD, Differencer, GOOD, START, Scraped, TICK};
use super::scenario::{ArmPoll, BOUNDS_MS, POLL_MIN, Run, STEADY, Scenario, step};
use canaryd::model::{Action, Arm, PerArm, Rule};
use canaryd::runtime::replay::Rehearsal;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the tables say.
#[derive(Clone, Copy)]
enum Table {
    /// Rolled back in so many of 1000 runs.
    Null { false_rollbacks: u64, at_the_edge: bool },
    /// Found in so many of 400 runs; median and 90th percentile, minutes after onset (infinite: not reached).
    Fault { found: u64, median: f64, p90: f64 },
}

const NULL_RUNS: u64 = 1000;
const FAULT_RUNS: u64 = 400;
/// Tables give a tenth of a minute, ours are quarters.
const ROUNDED: f64 = 0.13;
/// What all false rollbacks together may amount to: comparison and limits (STATISTICS 7, 7.1).
const BUDGET: f64 = 0.06;

const fn null(false_rollbacks: u64) -> Table {
    Table::Null { false_rollbacks, at_the_edge: false }
}

/// Scenario, what the tables say of it, and the first seed of its runs.
fn claims() -> Vec<(&'static str, Scenario, Table)> {
    let blips = Some((0.05, 0.3, 5.0));
    let edge = Scenario { errors_times: 1.2, latency_times: 1.15, cpu_times: 1.1, memory_times: 1.1, placement: 0.0, ..STEADY };
    let fault = |found: u64, median: f64, p90: f64| Table::Fault { found, median, p90 };
    vec![
        ("N01 steady", STEADY, null(0)),
        ("N05 errors in clumps of 5", Scenario { clump: 5.0, ..STEADY }, null(2)),
        ("N06 incident of both arms", Scenario { incident: Some((20.0, 25.0, 50.0, 3.0)), ..STEADY }, null(0)),
        ("N12 blips of one arm", Scenario { blips, ..STEADY }, null(0)),
        // 1000 runs give .045 [.030, .065]: .022 is P95, as in the table; the rest, CPU and memory, the table does not have. The
        // Python reference rolls the same data back in the same polls, and each gauge alone is within 14.3 (.023 and .032)
        ("B01 at every tolerance", edge, Table::Null { false_rollbacks: 20, at_the_edge: true }),
        ("F02 errors x2", Scenario { errors_times: 2.0, ..STEADY }, fault(384, 29.2, 48.2)),
        ("F03 errors x10", Scenario { errors_times: 10.0, ..STEADY }, fault(400, 3.8, 5.5)),
        ("F08 latency x2", Scenario { latency_times: 2.0, ..STEADY }, fault(400, 2.5, 2.5)),
        ("F14 outage", Scenario { outage: true, ..STEADY }, fault(400, 0.5, 0.5)),
        ("F16 errors x3 from minute 20", Scenario { errors_times: 3.0, onset_min: 20.0, ..STEADY }, fault(400, 7.0, 12.2)),
    ]
}

fn rule_text() -> String {
    path::rule_text(
        "  - { weight: 5%, for: 15m }\n  - { weight: 25%, for: 15m }\n  - { weight: 50%, for: 30m }\n",
        "  error-rate: {}\n  latency-p95: {}\n  latency-p99: {}\n  cpu: { load-rule: false }\n  memory: { leak: true }\n",
        "promotion: leave\n",
    )
}

/// The counters of one arm's pods: requests are dealt out evenly, gauges come on top of what is differenced.
struct Pods {
    scraped: Vec<Scraped>,
}

impl Pods {
    fn new(arm: Arm, n: usize) -> Self {
        let pod = |i: usize| Scraped {
            process: format!("{}-{i}", arm.name()),
            sampled: START,
            start: Some(START - TICK * 240),
            requests: BTreeMap::from([(GOOD, 0.0), (BAD, 0.0)]),
            buckets: (0..=BOUNDS_MS.len()).map(|b| (path::bucket_class(&BOUNDS_MS, b), 0.0)).collect(),
        };
        Self { scraped: (0..n).map(pod).collect() }
    }

    fn serve(&mut self, t: usize, poll: &ArmPoll) {
        let n = self.scraped.len() as u64;
        for (i, pod) in self.scraped.iter_mut().enumerate() {
            // the i-th pod's part; the remainders go round
            let part = |all: u64| (all + (i as u64 + t as u64) % n) / n;
            *pod.requests.entry(GOOD).or_default() += part(poll.requests - poll.errors) as f64;
            *pod.requests.entry(BAD).or_default() += part(poll.errors) as f64;
            let mut below = 0;
            for (b, count) in poll.buckets.iter().enumerate() {
                below += part(*count);
                *pod.buckets.entry(path::bucket_class(&BOUNDS_MS, b)).or_default() += below as f64;
            }
            pod.sampled = START + TICK * (t as u32 + 1) - TICK / 5;
        }
    }
}

/// Minute and reason of the first rollback in 60 min.
fn first_rollback(rule: &Rule, run: &Run) -> Option<(f64, String)> {
    let opened = path::opened(rule_text(), &BOUNDS_MS, 1.0, run.history.clone());
    let mut rehearsal = Rehearsal::begin(rule, &opened, START).expect("a judge");
    let mut pods = PerArm::from_fn(|arm| Pods::new(arm, STEADY.pods[arm]));
    let mut differencer = Differencer::new(&BOUNDS_MS, true);
    differencer.tick(START, &pods.as_ref().map(|p| p.scraped.clone()));
    for (t, poll) in run.polls.iter().enumerate() {
        for arm in Arm::BOTH {
            pods[arm].serve(t, &poll[arm]);
        }
        let at = START + TICK * (t as u32 + 1);
        let mut arms = differencer.tick(at, &pods.as_ref().map(|p| p.scraped.clone())).arms;
        for arm in Arm::BOTH {
            let (sample, made) = (&mut arms[arm], &poll[arm]);
            (sample.cpu, sample.memory, sample.floor) = (Ok(made.cpu), Ok(made.memory), Ok(made.floor));
            let counts = sample.requests.expect("every pod is scraped");
            assert_eq!((counts.total, counts.bad), (made.requests as f64, made.errors as f64), "no request is lost or made up");
        }
        let told = rehearsal.tick(at, arms, Some(step(t)));
        if told.decision.action == Action::RollBack {
            let reasons: Vec<String> = told.decision.reasons.iter().map(|r| format!("{r:?}")).collect();
            return Some(((t + 1) as f64 * POLL_MIN, reasons.join(", ")));
        }
    }
    None
}

/// Runs of one scenario, by seed.
fn measure(scenario: &Scenario, seeds: std::ops::Range<u64>) -> Vec<(u64, Option<(f64, String)>)> {
    let rule = path::read_rule(&rule_text());
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut out = Vec::new();
        while let Some(seed) = seeds.clone().nth(next.fetch_add(1, Ordering::Relaxed)) {
            out.push((seed, first_rollback(&rule, &scenario.run(seed))));
        }
        out
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let mut all: Vec<_> = std::thread::scope(|s| {
        let running: Vec<_> = (0..threads).map(|_| s.spawn(worker)).collect();
        running.into_iter().flat_map(|r| r.join().expect("a run fails")).collect()
    });
    all.sort_by_key(|(seed, _)| *seed);
    all
}

/// Whether a null's false rollbacks are compatible with the table and the budget; the line for the reader.
fn judge_null(runs: &[(u64, Option<(f64, String)>)], table: u64, at_the_edge: bool) -> (String, bool) {
    let seen: Vec<&(u64, Option<(f64, String)>)> = runs.iter().filter(|(_, r)| r.is_some()).collect();
    let (hits, n) = (seen.len() as u64, runs.len() as u64);
    let (ours, theirs) = (bounds::rate(hits, n), bounds::rate(table, NULL_RUNS));
    // at the edge of every tolerance the level itself is allowed: only more than that must be excluded
    let within = if at_the_edge { ours.low <= BUDGET } else { ours.high <= BUDGET };
    let line = format!(
        "false rollbacks {hits} of {n} = {:.3} [{:.3}, {:.3}]; table {:.3} [{:.3}, {:.3}]; {seen:?}",
        hits as f64 / n as f64,
        ours.low,
        ours.high,
        table as f64 / NULL_RUNS as f64,
        theirs.low,
        theirs.high
    );
    (line, ours.meets(theirs) && within)
}

/// Whether a fault is found as often and as fast as in the table.
fn judge_fault(runs: &[(u64, Option<(f64, String)>)], onset: f64, found: u64, median: f64, p90: f64) -> (String, bool) {
    let minutes = |r: &Option<(f64, String)>| r.as_ref().map_or(f64::INFINITY, |(minute, _)| minute - onset);
    let mut times: Vec<f64> = runs.iter().map(|(_, r)| minutes(r)).collect();
    times.sort_by(f64::total_cmp);
    let (hits, n) = (times.iter().filter(|t| t.is_finite()).count() as u64, times.len() as u64);
    let (ours, theirs) = (bounds::rate(hits, n), bounds::rate(found, FAULT_RUNS));
    let (m, p) = (bounds::quantile(&times, 0.5, FAULT_RUNS), bounds::quantile(&times, 0.9, FAULT_RUNS));
    let holds = |b: bounds::Bounds, t: f64| b.low - ROUNDED <= t && t <= b.high + ROUNDED;
    let early: Vec<u64> = runs.iter().filter(|(_, r)| minutes(r) <= 0.0).map(|(seed, _)| *seed).collect();
    let missed: Vec<u64> = runs.iter().filter(|(_, r)| r.is_none()).map(|(seed, _)| *seed).collect();
    let line = format!(
        "found {hits} of {n} = {:.3} [{:.3}, {:.3}], table {:.3}; median {} min [{}, {}], table {median}; p90 {} [{}, {}], table {p90}; \
         missed by seeds {missed:?}, before onset {early:?}",
        hits as f64 / n as f64,
        ours.low,
        ours.high,
        found as f64 / FAULT_RUNS as f64,
        times[times.len() / 2],
        m.low,
        m.high,
        times[times.len() * 9 / 10],
        p.low,
        p.high,
    );
    (line, ours.meets(theirs) && holds(m, median) && holds(p, p90) && early.is_empty())
}

#[test]
#[expect(clippy::print_stderr, reason = "for whoever runs it with --nocapture")]
fn false_rollbacks_and_found_faults_are_those_of_the_tables() {
    let asked = std::env::var("CANARYD_CALIBRATION").ok();
    let (full, (mut lines, mut good)) = (asked.is_some(), (Vec::new(), true));
    for (number, (name, scenario, table)) in (0..).zip(claims()) {
        if asked.as_ref().is_some_and(|a| a != "full" && !name.starts_with(a)) {
            continue;
        }
        let first = 1_000_000 * (number + 1);
        let runs = |default: u64, all: u64| first..first + if full { all } else { default };
        let (line, fits) = match table {
            Table::Null { false_rollbacks, at_the_edge } => {
                judge_null(&measure(&scenario, runs(200, NULL_RUNS)), false_rollbacks, at_the_edge)
            }
            Table::Fault { found, median, p90 } => {
                judge_fault(&measure(&scenario, runs(80, FAULT_RUNS)), scenario.onset_min, found, median, p90)
            }
        };
        good &= fits;
        lines.push(format!("{} {name}: {line}", if fits { "ok  " } else { "FAIL" }));
    }
    let report = lines.join("\n");
    eprintln!("intervals at {SURE}; full: {full}\n{report}");
    assert!(good, "measured rates are not those of STATISTICS 16:\n{report}");
}
