//! The hot path does not allocate: a counting allocator around `Judge::poll`, all kinds of metrics, in the steps, with and
//! without history, and in the bake. A binary of its own, because a global allocator counts every thread.

use canaryd::analysis::Judge;
use canaryd::model::{
    Advance, ArmSample, Blind, Budget, Counts, History, JudgeSpec, Judgement, Limits, LoadHistory, Margin, Method, MetricKind, MetricSpec,
    PerArm, Poll, StepTime, Timestamp, Weight,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; the counter is a plain thread-local cell without a destructor.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const BOUNDS_MS: [f64; 10] = [10.0, 25.0, 50.0, 100.0, 150.0, 200.0, 250.0, 500.0, 1000.0, 2500.0];

/// Deterministic noise in `[0, 1)`.
fn noise(i: u64) -> f64 {
    let mut x = i.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0xD1B5_4A32_D192_ED03);
    x ^= x >> 29;
    x = x.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (x ^ (x >> 32)) as u32 as f64 / 4_294_967_296.0
}

fn buckets(n: f64, i: u64) -> canaryd::model::Buckets {
    let share = [0.02, 0.12, 0.4, 0.76, 0.9, 0.95, 0.975, 0.997, 0.9995, 1.0];
    share.iter().map(|s| (n * s - noise(i)).max(0.0).floor()).chain([n]).collect()
}

fn sample(n: f64, i: u64) -> ArmSample {
    let gauge = |k: u64, level: f64| Ok(level * (1.0 + 0.05 * (noise(i * 7 + k) - 0.5)));
    let counts = |rate: f64, k: u64| Ok(Counts { total: n, bad: (n * rate * 2.0 * noise(i * 11 + k)).floor() });
    ArmSample {
        requests: counts(0.002, 1),
        abandoned: Ok(0.0),
        buckets: Ok(buckets(n, i)),
        cpu: gauge(2, 0.5),
        memory: gauge(3, 6e8),
        floor: gauge(4, 5e8),
        pods: Some(4),
        custom_counts: [counts(0.01, 5)].into_iter().collect(),
        custom_gauges: [gauge(6, 40.0)].into_iter().collect(),
    }
}

fn metric(name: &str, kind: MetricKind, margin: Margin, weight: f64, limits: Limits) -> MetricSpec {
    MetricSpec { name: name.to_owned(), kind, compared: true, margin, required: matches!(kind, MetricKind::Errors), weight, limits }
}

fn spec() -> JudgeSpec {
    let counts = Margin::Counts { relative: 0.2, absolute: 2e-4, ok_relative: 0.5, ok_absolute: 1e-3 };
    let stretch = Margin::Stretch { harm: 0.15, guard: 2.0, ok: 0.25, bake: 0.5 };
    let ratio = Margin::Ratio { harm: 0.1, ok: 0.2 };
    let all = |p: f64, w: f64, r: f64, a: f64| Limits {
        promote_below: Some(p),
        warn_above: Some(w),
        rollback_above: Some(r),
        page_above: Some(a),
        sustained: None,
    };
    let share = |permille: u16| Weight::from_permille(permille).expect("a share");
    JudgeSpec {
        interval: Duration::from_secs(15),
        budget: Budget::default(),
        incarnation: 0,
        metrics: vec![
            metric("errors", MetricKind::Errors, counts, 0.4, all(0.02, 0.03, 0.05, 0.1)),
            metric("p95", MetricKind::Latency(0.95), stretch, 0.2, all(500.0, 700.0, 1000.0, 2000.0)),
            metric("p99", MetricKind::Latency(0.99), stretch, 0.1, Limits::default()),
            metric("cpu", MetricKind::Cpu, ratio, 0.1, all(0.7, 0.75, 0.8, 0.9)),
            metric("memory", MetricKind::Memory, ratio, 0.1, all(7e8, 8e8, 9e8, 1e9)),
            metric("leak", MetricKind::Leak, Margin::Slope { per_unit: 0.001 }, 0.05, Limits::default()),
            metric("checkouts", MetricKind::CustomCounts(0), counts, 0.05, all(0.05, 0.06, 0.07, 0.08)),
            metric("queue", MetricKind::CustomGauge(0), Margin::RatioBelow { harm: 0.1, ok: 0.2 }, 0.05, all(30.0, 25.0, 20.0, 10.0)),
        ],
        bounds_ms: BOUNDS_MS.to_vec(),
        steps: vec![
            StepTime { weight: share(0), for_s: 60.0 },
            StepTime { weight: share(50), for_s: 900.0 },
            StepTime { weight: share(500), for_s: 900.0 },
            StepTime { weight: share(1000), for_s: 900.0 },
        ],
        advance: Advance::OnSchedule { strict: false },
        min_requests: 20,
        cpu_load_rule: true,
        method: Method::default(),
    }
}

fn history() -> History {
    let aa = |k: u64| (0..240).map(|i| Some(0.05 * (noise(i * 3 + k) - 0.5))).collect::<Vec<_>>();
    let counts = |rate: f64| (0..240).map(|i| Some(Counts { total: 3000.0, bad: (3000.0 * rate * 2.0 * noise(i + 5)).floor() })).collect();
    History {
        requests: counts(0.002),
        buckets: (0..240).map(|i| Some(buckets(3000.0, i))).collect(),
        cpu: aa(1),
        memory: aa(2),
        leak: aa(3),
        load: Some(LoadHistory {
            rate: (0..288).map(|i| 30.0 + (i % 40) as f64).collect(),
            cpu: (0..288).map(|i| 0.1 + 0.01 * (i % 40) as f64).collect(),
        }),
        custom_counts: vec![counts(0.01)],
        custom_gauges: vec![aa(4)],
    }
}

fn poll(i: u64) -> Poll {
    let step = match i {
        0..4 => 0,
        4..100 => 1,
        100..200 => 2,
        _ => 3,
    };
    let (b, c) = [(3000.0, 0.0), (2850.0, 150.0), (1500.0, 1500.0), (0.0, 3000.0)][step];
    let arms = match i {
        // gaps, a corrupt poll, an incident of both arms, no baseline pods in the bake
        20..23 => PerArm { baseline: sample(b, i), canary: ArmSample::blind(Blind::NoSeries) },
        30 => PerArm { baseline: sample(b, i), canary: ArmSample { requests: Ok(Counts { total: 10.0, bad: 900.0 }), ..sample(c, i) } },
        120..140 => {
            let ill = |n: f64| ArmSample { requests: Ok(Counts { total: n, bad: n * 0.2 }), ..sample(n, i) };
            PerArm { baseline: ill(b), canary: ill(c) }
        }
        200.. => PerArm { baseline: ArmSample::blind(Blind::NoSeries), canary: sample(c, i * 2) },
        _ => PerArm { baseline: sample(b, i), canary: sample(c, i * 2 + 1) },
    };
    Poll {
        at: Timestamp::from_millis(1_750_000_000_000 + 15_000 * i as i64),
        step: step as u32,
        counts_time: true,
        arms,
        changes: Vec::new(),
    }
}

fn allocations_of(history: &History) -> u64 {
    let mut judge = Judge::new(&spec(), history).expect("a judge");
    let mut out = Judgement::empty(Timestamp::default(), 0);
    let polls: Vec<Poll> = (0..300).map(poll).collect();
    let (mut used, mut baked) = (0, 0);
    let before = COUNT.get();
    for p in &polls {
        judge.poll(p, &mut out);
        used += usize::from(out.metrics.iter().all(|m| m.used));
        baked += out.bakes.len();
    }
    let count = COUNT.get() - before;
    // the run was a real one: every metric was judged, and the bake had its processes
    assert!(used > 100, "only {used} polls were usable for every metric");
    assert!(baked > 100, "the bake judged {baked} times");
    count
}

#[test]
fn a_poll_allocates_nothing() {
    assert_eq!(allocations_of(&history()), 0, "with history");
    assert_eq!(allocations_of(&History { cpu: Vec::new(), ..history() }), 0, "with an advisory gauge");
}

#[test]
fn neither_does_the_setup_from_the_live_baseline() {
    let history = History { requests: Vec::new(), buckets: Vec::new(), custom_counts: Vec::new(), ..history() };
    assert_eq!(allocations_of(&history), 0);
}

#[test]
fn the_counter_counts() {
    let before = COUNT.get();
    std::hint::black_box(Vec::<u8>::with_capacity(100));
    assert_eq!(COUNT.get() - before, 1);
}
