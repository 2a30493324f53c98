//! What judging costs: one count metric with every process, one latency quantile, a whole fleet at one tick; beside them a z
//! test and a Mann-Whitney test over a window, as users run them at every poll.
//!
//! Goals: at most 1 us per count metric and poll, 5 us per latency quantile, 150 ms for 10 000 rollouts of 4 metrics on one core.

use canaryd::analysis::Judge;
use canaryd::analysis::clock::Clock;
use canaryd::analysis::errors::CountTest;
use canaryd::analysis::latency::{LatencyTest, Since, Stretches};
use canaryd::analysis::limits::PromoteLimit;
use canaryd::analysis::process::HarmProcess;
use canaryd::analysis::series::SeriesId;
use canaryd::model::{
    Advance, ArmSample, Blind, Buckets, Budget, Counts, History, JudgeSpec, Judgement, Limits, Margin, Method, MetricKind, MetricSpec,
    PerArm, Poll, StepTime, Timestamp, Weight,
};
use canaryd::stats::counts::{LevelTest, Tolerance, TwoArms};
use canaryd::stats::grid::{K_UP, UP};
use criterion::{Criterion, criterion_group, criterion_main};
use statrs::distribution::{ContinuousCDF, Normal};
use statrs::stats_tests::Alternative;
use statrs::stats_tests::mannwhitneyu::{MannWhitneyUMethod, mannwhitneyu};
use std::hint::black_box;
use std::time::Duration;

const INTERVAL_MS: i64 = 15_000;
const BOUNDS_MS: [f64; 14] = [5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 150.0, 200.0, 250.0, 300.0, 400.0, 500.0, 750.0, 1000.0];
const BELOW: [f64; 14] = [0.0002, 0.0055, 0.106, 0.4, 0.626, 0.768, 0.9037, 0.957, 0.979, 0.9894, 0.9966, 0.9988, 0.99985, 0.99995];
const COUNTS: Margin = Margin::Counts { relative: 0.2, absolute: 2e-4, ok_relative: 0.5, ok_absolute: 1e-3 };
const STRETCH: Margin = Margin::Stretch { harm: 0.15, guard: 2.0, ok: 0.25, bake: 0.5 };
const RATIO: Margin = Margin::Ratio { harm: 0.1, ok: 0.2 };

/// Deterministic noise in `[0, 1)`.
fn noise(i: u64) -> f64 {
    let mut x = i.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0xD1B5_4A32_D192_ED03);
    x ^= x >> 29;
    x = x.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    f64::from((x ^ (x >> 32)) as u32) / 4_294_967_296.0
}

fn counts(n: f64, i: u64) -> Counts {
    Counts { total: n, bad: (n * 0.002 * noise(i)).round() }
}

fn buckets(n: f64, i: u64) -> Buckets {
    BELOW.iter().map(|s| (n * s * (1.0 - 0.001 * noise(i))).floor()).chain([n]).collect()
}

fn sample(n: f64, i: u64) -> ArmSample {
    let gauge = |k: u64, level: f64| Ok(level * (1.0 + 0.05 * (noise(i * 7 + k) - 0.5)));
    ArmSample {
        requests: Ok(counts(n, i)),
        buckets: Ok(buckets(n, i)),
        cpu: gauge(2, 0.5),
        memory: gauge(3, 6e8),
        pods: Some(4),
        ..ArmSample::blind(Blind::NotAsked)
    }
}

fn polls() -> Vec<Poll> {
    let arms = |i: u64| PerArm { baseline: sample(2250.0, i), canary: sample(750.0, 1000 + i) };
    (0..64).map(|i| Poll { at: Timestamp::default(), step: 0, counts_time: true, arms: arms(i), changes: Vec::new() }).collect()
}

fn history() -> History {
    let aa = |k: u64| (0..240).map(|i| Some(0.05 * (noise(i * 3 + k) - 0.5))).collect::<Vec<_>>();
    History {
        requests: (0..240).map(|i| Some(counts(3000.0, i))).collect(),
        buckets: (0..240).map(|i| Some(buckets(3000.0, i))).collect(),
        cpu: aa(1),
        memory: aa(2),
        ..History::default()
    }
}

fn metric(name: &str, kind: MetricKind, margin: Margin, weight: f64) -> MetricSpec {
    MetricSpec {
        name: name.to_owned(),
        kind,
        compared: true,
        margin,
        required: kind == MetricKind::Errors,
        weight,
        limits: Limits::default(),
    }
}

fn errors() -> MetricSpec {
    let limits =
        Limits { promote_below: Some(0.01), warn_above: Some(0.02), rollback_above: Some(0.05), page_above: Some(0.1), sustained: None };
    MetricSpec { limits, ..metric("errors", MetricKind::Errors, COUNTS, 0.4) }
}

fn four() -> Vec<MetricSpec> {
    vec![
        metric("errors", MetricKind::Errors, COUNTS, 0.4),
        metric("p95", MetricKind::Latency(0.95), STRETCH, 0.2),
        metric("cpu", MetricKind::Cpu, RATIO, 0.1),
        metric("memory", MetricKind::Memory, RATIO, 0.1),
    ]
}

fn spec(metrics: Vec<MetricSpec>) -> JudgeSpec {
    JudgeSpec {
        interval: Duration::from_millis(INTERVAL_MS as u64),
        budget: Budget::default(),
        incarnation: 0,
        metrics,
        bounds_ms: BOUNDS_MS.to_vec(),
        steps: vec![StepTime { weight: Weight::from_permille(250).expect("a share"), for_s: 1e9 }],
        advance: Advance::OnSchedule { strict: false },
        min_requests: 20,
        cpu_load_rule: false,
        method: Method::default(),
    }
}

/// A judge past its warm-up, and its next tick.
struct Live {
    judge: Judge,
    tick: i64,
    out: Judgement,
}

impl Live {
    fn new(metrics: Vec<MetricSpec>, polls: &mut [Poll]) -> Self {
        let judge = Judge::new(&spec(metrics), &history()).expect("a judge");
        let mut live = Self { judge, tick: 0, out: Judgement::empty(Timestamp::default(), 0) };
        for _ in 0..64 {
            live.poll(polls);
        }
        live
    }

    fn poll(&mut self, polls: &mut [Poll]) -> f64 {
        self.tick += 1;
        let poll = &mut polls[(self.tick & 63) as usize];
        poll.at = Timestamp::from_millis(self.tick * INTERVAL_MS);
        self.judge.poll(poll, &mut self.out);
        self.out.ln_total
    }
}

fn one_rollout(c: &mut Criterion) {
    let mut polls = polls();
    let mut group = c.benchmark_group("poll");
    let p95 = || metric("p95", MetricKind::Latency(0.95), STRETCH, 0.2);
    let cases = [
        ("errors, all processes and limits", vec![errors()]),
        ("errors without limits", vec![metric("errors", MetricKind::Errors, COUNTS, 0.4)]),
        ("one quantile", vec![p95()]),
        ("four metrics", four()),
    ];
    for (name, metrics) in cases {
        let mut live = Live::new(metrics, &mut polls);
        group.bench_function(name, |b| b.iter(|| black_box(live.poll(&mut polls))));
    }
    group.finish();
}

fn one_test(c: &mut Criterion) {
    let mut group = c.benchmark_group("test");
    let data: Vec<TwoArms> = (0..64)
        .map(|i| {
            let (b, c) = (counts(2250.0, i), counts(750.0, 1000 + i));
            TwoArms { x_b: b.bad, n_b: b.total, x_c: c.bad, n_c: c.total }
        })
        .collect();
    let tolerance = Tolerance { relative: 0.2, absolute: 2e-4 };
    let mut test = CountTest::new(tolerance, Tolerance { relative: 0.5, absolute: 1e-3 }, 120.0, 120.0);
    let mut tick = 0;
    let clock = |tick: i64| Clock::new(tick as f64 * 15.0, 15.0, false, 1800.0);
    group.bench_function("errors: main, guard, non-inferiority", |b| {
        b.iter(|| {
            tick += 1;
            black_box(test.step(&clock(tick), Some(&data[(tick & 63) as usize]), 1.3))
        })
    });
    let since = 120.0;
    let mut test = CountTest::new(tolerance, Tolerance { relative: 0.5, absolute: 1e-3 }, since, since);
    let mut rollback = HarmProcess::new(&UP, since);
    let mut alarms: [PerArm<HarmProcess<K_UP>>; 2] = std::array::from_fn(|_| PerArm::from_fn(|_| HarmProcess::new(&UP, since)));
    let mut promote = PromoteLimit::new(Some(SeriesId(0)), 0.01, since);
    let levels = [0.05, 0.02, 0.1].map(|l| LevelTest::new(l, &UP));
    group.bench_function("errors: main, guard, four limits, non-inferiority", |b| {
        b.iter(|| {
            tick += 1;
            let (clock, x) = (clock(tick), &data[(tick & 63) as usize]);
            black_box(test.step(&clock, Some(x), 1.3));
            black_box(rollback.step_cut(&clock, true, || levels[0].attributed_lfs(x, 1.2, &UP, 1.3)));
            for (alarm, level) in alarms.iter_mut().zip(&levels[1..]) {
                black_box(alarm.baseline.step_cut(&clock, true, || level.lfs(x.x_b, x.n_b, &UP, 1.2)));
                black_box(alarm.canary.step_cut(&clock, true, || level.lfs(x.x_c, x.n_c, &UP, 1.2)));
            }
            promote.step(&clock, x, 1.2);
            black_box(promote.ln_ok)
        })
    });
    let tails: Vec<f64> = BELOW.iter().map(|s| 1.0 - s).collect();
    let mut p95 = LatencyTest::new(0.95, Stretches { harm: 0.15, guard: 2.0, ok: 0.25, bake: 0.5 }, BOUNDS_MS.len());
    p95.set_up(&BOUNDS_MS, &tails, Since { main_s: 120.0, ok_s: 120.0, guard_s: 0.0 }, SeriesId);
    let bounds = p95.frozen().map_or(0, |f| f.zone.len());
    group.bench_function(format!("quantile over {bounds} bounds"), |b| {
        b.iter(|| {
            tick += 1;
            let x = data[(tick & 63) as usize];
            black_box(p95.step(&clock(tick), |j| Some(TwoArms { x_b: x.n_b * tails[j], x_c: x.n_c * tails[j], ..x }), |_| 1.3))
        })
    });
    group.finish();
}

fn fleet(c: &mut Criterion) {
    let mut polls = polls();
    let one = Live::new(four(), &mut polls);
    let mut judges: Vec<Judge> = (0..10_000).map(|_| one.judge.clone()).collect();
    let (mut tick, mut out) = (one.tick, one.out);
    let mut group = c.benchmark_group("fleet");
    group.sample_size(20);
    group.bench_function("10000 rollouts of 4 metrics, one tick", |b| {
        b.iter(|| {
            tick += 1;
            let poll = &mut polls[(tick & 63) as usize];
            poll.at = Timestamp::from_millis(tick * INTERVAL_MS);
            for judge in &mut judges {
                judge.poll(poll, &mut out);
            }
            black_box(out.ln_total)
        })
    });
    group.finish();
}

/// What a user's script does at every poll with the last hour: a difference of proportions, and ranks of per-poll values.
fn peers(c: &mut Criterion) {
    let window: Vec<(Counts, Counts)> = (0..240).map(|i| (counts(2250.0, i), counts(750.0, 1000 + i))).collect();
    let (b_values, c_values): (Vec<f64>, Vec<f64>) = (0..240).map(|i| (100.0 + noise(i), 100.0 + noise(1000 + i))).unzip();
    let mut group = c.benchmark_group("peer");
    let normal = Normal::standard();
    group.bench_function("z test of proportions over 240 polls", |b| {
        b.iter(|| {
            let sum = |f: fn(&(Counts, Counts)) -> f64| black_box(&window).iter().map(f).sum::<f64>();
            let (x_b, n_b) = (sum(|w| w.0.bad), sum(|w| w.0.total));
            let (x_c, n_c) = (sum(|w| w.1.bad), sum(|w| w.1.total));
            let p = (x_b + x_c) / (n_b + n_c);
            let z = (x_c / n_c - x_b / n_b) / (p * (1.0 - p) * (1.0 / n_b + 1.0 / n_c)).sqrt();
            black_box(normal.sf(z))
        })
    });
    group.bench_function("Mann-Whitney over 240 polls", |b| {
        b.iter(|| {
            let (b, c) = (black_box(&b_values), black_box(&c_values));
            black_box(mannwhitneyu(b, c, MannWhitneyUMethod::AsymptoticInclContinuityCorrection, Alternative::Less).ok())
        })
    });
    group.finish();
}

criterion_group!(benches, one_rollout, one_test, fleet, peers);
criterion_main!(benches);
