//! What a judge does at the edges: before the first request, at 0 %, when nothing can be seen, twice the same tick
//! (STATISTICS 7, 7.3, 11).

use canaryd::analysis::{Judge, JudgeError};
use canaryd::model::{
    Advance, ArmSample, Blind, Breach, Budget, Counts, History, JudgeSpec, Judgement, Keep, LimitChange, LimitJudgement, LimitKind, Limits,
    Margin, Method, MetricKind, MetricSpec, PerArm, Poll, StepTime, Timestamp, Verdict, Weight,
};
use std::time::Duration;

pub(crate) const BOUNDS_MS: [f64; 10] = [10.0, 25.0, 50.0, 100.0, 150.0, 200.0, 250.0, 500.0, 1000.0, 2500.0];

const COUNTS: Margin = Margin::Counts { relative: 0.2, absolute: 2e-4, ok_relative: 0.5, ok_absolute: 1e-3 };

fn metric(name: &str, kind: MetricKind, margin: Margin, weight: f64, limits: Limits) -> MetricSpec {
    MetricSpec { name: name.to_owned(), kind, compared: true, margin, required: matches!(kind, MetricKind::Errors), weight, limits }
}

fn step(permille: u16, for_s: f64) -> StepTime {
    StepTime { weight: Weight::from_permille(permille).expect("a share"), for_s }
}

/// Errors only, without limits.
fn errors(steps: Vec<StepTime>) -> JudgeSpec {
    JudgeSpec {
        interval: Duration::from_secs(15),
        budget: Budget::default(),
        incarnation: 0,
        metrics: vec![metric("errors", MetricKind::Errors, COUNTS, 0.4, Limits::default())],
        bounds_ms: Vec::new(),
        steps,
        advance: Advance::OnSchedule { strict: false },
        min_requests: 20,
        cpu_load_rule: true,
        method: Method::default(),
    }
}

/// Every kind of metric with every limit, through a step at 0 %, two of comparison and the bake.
pub(crate) fn everything() -> JudgeSpec {
    let all = |p: f64, w: f64, r: f64, a: f64| Limits {
        promote_below: Some(p),
        warn_above: Some(w),
        rollback_above: Some(r),
        page_above: Some(a),
        sustained: None,
    };
    let (stretch, ratio) = (Margin::Stretch { harm: 0.15, guard: 2.0, ok: 0.25, bake: 0.5 }, Margin::Ratio { harm: 0.1, ok: 0.2 });
    let below = Margin::RatioBelow { harm: 0.1, ok: 0.2 };
    let metrics = vec![
        metric("errors", MetricKind::Errors, COUNTS, 0.4, all(0.02, 0.03, 0.05, 0.1)),
        metric("p95", MetricKind::Latency(0.95), stretch, 0.2, all(500.0, 700.0, 1000.0, 2000.0)),
        metric("p99", MetricKind::Latency(0.99), stretch, 0.1, Limits::default()),
        metric("cpu", MetricKind::Cpu, ratio, 0.1, all(0.7, 0.75, 0.8, 0.9)),
        metric("memory", MetricKind::Memory, ratio, 0.1, all(7e8, 8e8, 9e8, 1e9)),
        metric("leak", MetricKind::Leak, Margin::Slope { per_unit: 0.001 }, 0.05, Limits::default()),
        metric("checkouts", MetricKind::CustomCounts(0), COUNTS, 0.05, all(0.05, 0.06, 0.07, 0.08)),
        metric("queue", MetricKind::CustomGauge(0), below, 0.05, all(30.0, 25.0, 20.0, 10.0)),
    ];
    let steps = vec![step(0, 60.0), step(50, 300.0), step(500, 300.0), step(1000, 300.0)];
    JudgeSpec { metrics, bounds_ms: BOUNDS_MS.to_vec(), ..errors(steps) }
}

/// 60 min at 1 per mille.
fn steady() -> History {
    let poll = |i: u64| Some(Counts { total: 3000.0, bad: [2.0, 4.0, 3.0, 1.0, 5.0, 3.0][(i % 6) as usize] });
    History { requests: (0..240).map(poll).collect(), ..History::default() }
}

const START: i64 = 1_750_000_005_000;

/// A judge driven tick by tick.
struct Drive {
    judge: Judge,
    tick: i64,
    out: Judgement,
}

impl Drive {
    fn new(spec: &JudgeSpec, history: &History) -> Self {
        Self { judge: Judge::new(spec, history).expect("a judge"), tick: 0, out: Judgement::empty(Timestamp::default(), 0) }
    }

    fn poll(&mut self, step: u32, baseline: ArmSample, canary: ArmSample) -> &Judgement {
        self.tick += 1;
        self.send(step, true, baseline, canary)
    }

    fn send(&mut self, step: u32, counts_time: bool, baseline: ArmSample, canary: ArmSample) -> &Judgement {
        let at = Timestamp::from_millis(START + 15_000 * self.tick);
        self.judge.poll(&Poll { at, step, counts_time, arms: PerArm { baseline, canary }, changes: Vec::new() }, &mut self.out);
        &self.out
    }

    /// `n` polls of both arms at 1 per mille.
    fn calm(&mut self, step: u32, n: u32) -> &Judgement {
        for _ in 0..n {
            self.poll(step, ArmSample::counts(2850.0, 3.0), ArmSample::counts(150.0, 0.0));
        }
        &self.out
    }
}

#[test]
fn before_the_first_request_nothing_is_judged() {
    let mut d = Drive::new(&errors(vec![step(50, 60.0)]), &steady());
    for _ in 0..3 {
        let out = d.poll(0, ArmSample::counts(3000.0, 3.0), ArmSample::counts(0.0, 0.0));
        assert_eq!((out.t_s, out.ln_total, out.clock.counted_s), (None, 0.0, 0.0));
        assert_eq!(out.keep.as_slice(), [Keep::FewRequests, Keep::Time]);
        assert_eq!(out.metrics[0].verdict, Verdict::Undecided, "no requests is not blind");
    }
    assert_eq!(d.calm(0, 1).t_s, Some(15.0), "tick 0 starts one interval before the first requests");
    assert_eq!(d.out.clock.counted_s, 15.0);
}

#[test]
fn a_canary_that_cannot_be_seen_from_the_start_is_blind_after_a_minute() {
    let mut d = Drive::new(&errors(vec![step(50, 60.0)]), &steady());
    for _ in 0..3 {
        let out = d.poll(0, ArmSample::counts(3000.0, 3.0), ArmSample::blind(Blind::NoSeries));
        assert_eq!(out.metrics[0].verdict, Verdict::Undecided);
        assert_eq!(out.keep.as_slice(), [Keep::Blind, Keep::FewRequests, Keep::Time]);
    }
    let out = d.poll(0, ArmSample::counts(3000.0, 3.0), ArmSample::blind(Blind::NoSeries));
    assert_eq!(out.metrics[0].verdict, Verdict::Blind(Blind::NoSeries));
    assert!(out.rollback.is_empty(), "never a rollback for what could not be seen");
}

#[test]
fn blind_in_the_middle_stops_the_step_and_names_the_reason_of_the_arm_that_is_missing() {
    let mut d = Drive::new(&errors(vec![step(50, 900.0)]), &steady());
    d.calm(0, 10);
    for (k, seconds) in [(1, 165.0), (2, 180.0), (3, 195.0)] {
        let out = d.poll(0, ArmSample::blind(Blind::SourceDown), ArmSample::counts(150.0, 0.0));
        assert_eq!((out.clock.counted_s, out.keep[0]), (seconds, Keep::Blind), "poll {k}");
        assert_eq!(out.counts, None);
    }
    let out = d.poll(0, ArmSample::blind(Blind::SourceDown), ArmSample::counts(150.0, 0.0));
    assert_eq!(out.metrics[0].verdict, Verdict::Blind(Blind::SourceDown));
    assert_eq!(out.clock.counted_s, 195.0, "blind time does not count");
    let out = d.poll(0, ArmSample::counts(5.0 * 2850.0, 15.0), ArmSample::counts(150.0, 0.0));
    let counts = out.counts.expect("both arms");
    assert_eq!(counts.canary.total, 5.0 * 150.0, "increments wait for the other arm");
    assert_eq!(out.metrics[0].verdict, Verdict::Undecided);
}

#[test]
fn at_0_percent_only_time_counts_and_nothing_is_blind() {
    let mut d = Drive::new(&errors(vec![step(0, 60.0), step(50, 900.0)]), &steady());
    for k in 1..=3 {
        let out = d.poll(0, ArmSample::counts(3000.0, 3.0), ArmSample::blind(Blind::NoSeries));
        assert_eq!((out.t_s, out.clock.counted_s), (None, 15.0 * f64::from(k)));
        assert_eq!(out.keep.as_slice(), [Keep::Time]);
    }
    let out = d.poll(0, ArmSample::counts(3000.0, 3.0), ArmSample::counts(40.0, 40.0));
    assert!(out.keep.is_empty(), "its time is over, and requests of tests at 0 % are not judged");
    assert!(out.rollback.is_empty() && !out.gross);
    assert_eq!(d.calm(1, 1).t_s, Some(15.0), "the warm-up begins with the traffic");
}

#[test]
fn a_tick_judged_twice_changes_nothing() {
    let mut d = Drive::new(&errors(vec![step(50, 15.0)]), &steady());
    let (mut once, mut twice) = (d.calm(0, 12).clone(), d.judge.clone());
    let out = d.send(0, true, ArmSample::counts(2850.0, 3.0), ArmSample::counts(150.0, 150.0));
    assert!(out.duplicate && !out.keep.is_empty() && out.rollback.is_empty());
    d.calm(0, 1);
    let next = Poll {
        at: d.out.at,
        step: 0,
        counts_time: true,
        arms: PerArm { baseline: ArmSample::counts(2850.0, 3.0), canary: ArmSample::counts(150.0, 0.0) },
        changes: Vec::new(),
    };
    twice.poll(&next, &mut once);
    assert_eq!(once, d.out);
}

#[test]
fn time_a_person_paused_does_not_count_but_evidence_does() {
    let mut d = Drive::new(&errors(vec![step(50, 900.0)]), &steady());
    let before = d.calm(0, 20).clone();
    for _ in 0..4 {
        d.tick += 1;
        d.send(0, false, ArmSample::counts(2850.0, 3.0), ArmSample::counts(150.0, 0.0));
    }
    assert_eq!(d.out.clock.counted_s, before.clock.counted_s);
    assert!(d.out.metrics[0].ln_ok > before.metrics[0].ln_ok);
}

#[test]
fn evidence_of_non_inferiority_begins_anew_with_each_step() {
    let mut d = Drive::new(&errors(vec![step(50, 60.0), step(50, 60.0)]), &steady());
    let shown = d.calm(0, 60).metrics[0].ln_ok;
    assert!(shown > 1.0, "{shown}");
    let out = d.calm(1, 1);
    assert!(out.metrics[0].ln_ok < 0.5, "{}", out.metrics[0].ln_ok);
    assert_eq!((out.clock.counted_s, out.clock.canary_requests), (15.0, 150.0));
}

#[test]
fn an_outage_is_rolled_back_in_two_polls_and_one_corrupt_scrape_is_not() {
    let failing = || (ArmSample::counts(2850.0, 3.0), ArmSample::counts(150.0, 150.0));
    let mut d = Drive::new(&errors(vec![step(50, 900.0)]), &steady());
    d.calm(0, 20);
    let (b, c) = failing();
    assert!(d.poll(0, b, c).rollback.is_empty(), "one poll never decides");
    let mut forgives = d.judge.clone();
    let (b, c) = failing();
    let out = d.poll(0, b, c);
    assert_eq!(out.rollback.as_slice(), [Breach::Metric(0), Breach::Gross]);
    assert_eq!(out.metrics[0].verdict, Verdict::Fail);
    let mut out = Judgement::empty(Timestamp::default(), 0);
    for k in 0..40 {
        let at = Timestamp::from_millis(START + 15_000 * (22 + k));
        let arms = PerArm { baseline: ArmSample::counts(2850.0, 3.0), canary: ArmSample::counts(150.0, 0.0) };
        forgives.poll(&Poll { at, step: 0, counts_time: true, arms, changes: Vec::new() }, &mut out);
        assert!(out.rollback.is_empty(), "poll {k}");
    }
}

#[test]
fn requests_given_up_are_a_gross_failure_of_their_own() {
    let with = |served: f64, left: f64| ArmSample { abandoned: Ok(left), ..ArmSample::counts(served, 0.0) };
    let mut d = Drive::new(&errors(vec![step(50, 900.0), step(1000, 900.0)]), &steady());
    d.calm(0, 10);
    d.poll(0, with(2850.0, 10.0), with(30.0, 120.0));
    let mut shared = d.judge.clone();
    let out = d.poll(0, with(2850.0, 10.0), with(30.0, 120.0));
    assert_eq!(out.rollback.as_slice(), [Breach::Abandoned]);
    assert!(!out.gross, "no request failed");
    let mut out = Judgement::empty(Timestamp::default(), 0);
    let both = PerArm { baseline: with(1000.0, 1850.0), canary: with(30.0, 120.0) };
    shared.poll(&Poll { at: d.out.at, step: 0, counts_time: true, arms: both, changes: Vec::new() }, &mut out);
    assert!(out.rollback.is_empty(), "the baseline's users leave too");
}

#[test]
fn the_bake_judges_the_canary_alone_and_is_blind_by_its_own_scrapes_only() {
    let mut d = Drive::new(&errors(vec![step(500, 300.0), step(1000, 60.0)]), &steady());
    for _ in 0..30 {
        d.poll(0, ArmSample::counts(1500.0, 1.0), ArmSample::counts(1500.0, 2.0));
    }
    let gone = || ArmSample::blind(Blind::NoSeries);
    for k in 1..=3 {
        let out = d.poll(1, gone(), ArmSample::counts(3000.0, 3.0));
        assert!(out.bake && out.metrics[0].used);
        assert_eq!(out.keep.as_slice(), [Keep::Time], "poll {k}");
        assert_eq!((out.bakes.len(), out.bakes[0].derived), (1, true));
    }
    assert!(d.poll(1, gone(), ArmSample::counts(3000.0, 3.0)).keep.is_empty());
    for _ in 0..4 {
        d.poll(1, gone(), gone());
    }
    assert_eq!(d.out.metrics[0].verdict, Verdict::Blind(Blind::NoSeries));
    for _ in 0..8 {
        d.poll(1, gone(), ArmSample::counts(3000.0, 60.0));
    }
    assert!(d.out.rollback.contains(&Breach::Bake { metric: 0, derived: true }), "{:?}", d.out.rollback);
}

/// One poll of every kind of reading, with noise.
fn rich(i: u32, n: f64) -> ArmSample {
    let noise = |k: u32| f64::from((i * 7919 + k * 104_729) % 1000) / 1000.0;
    let counts = Ok(Counts { total: n, bad: (n * 0.004 * noise(1)).floor() });
    let share = [0.02, 0.12, 0.4, 0.76, 0.9, 0.95, 0.975, 0.997, 0.9995, 1.0];
    ArmSample {
        requests: counts,
        buckets: Ok(share.iter().map(|s| (n * s * (1.0 - 0.002 * noise(2))).floor()).chain([n]).collect()),
        cpu: Ok(0.5 + 0.05 * noise(3)),
        memory: Ok(6e8 * (1.0 + 0.05 * noise(4))),
        floor: Ok(5e8 * (1.0 + 0.05 * noise(5))),
        pods: Some(3),
        custom_counts: [counts].into_iter().collect(),
        custom_gauges: [Ok(1.0 / (0.5 + 0.05 * noise(3)))].into_iter().collect(),
        ..ArmSample::blind(Blind::NotAsked)
    }
}

/// A history in which custom metrics repeat the built-in ones.
fn mirrored() -> History {
    let aa: Vec<Option<f64>> = (0..240).map(|i| Some(f64::from((i * 37) % 101) / 2000.0)).collect();
    let requests = steady().requests;
    History {
        custom_counts: vec![requests.clone()],
        requests,
        buckets: (0..240).map(|i| rich(i, 3000.0).buckets.ok()).collect(),
        cpu: aa.clone(),
        memory: aa.clone(),
        leak: aa.clone(),
        custom_gauges: vec![aa],
        ..History::default()
    }
}

#[test]
fn custom_metrics_are_judged_as_the_built_in_ones() {
    let mut spec = everything();
    spec.cpu_load_rule = false;
    let mut d = Drive::new(&spec, &mirrored());
    let at = |out: &Judgement, name: &str| {
        let i = spec.metrics.iter().position(|m| m.name == name).expect("a metric");
        let m = out.metrics[i];
        (m.ln_harm, m.ln_harm_cut, m.ln_ok)
    };
    for i in 0..60 {
        let out = d.poll(1, rich(i, 2850.0), rich(i + 500, 150.0));
        assert_eq!(at(out, "errors"), at(out, "checkouts"), "poll {i}");
        // one over the value, and less is worse: the same gauge turned round
        let ((a, _, b), (c, _, e)) = (at(out, "cpu"), at(out, "queue"));
        assert!((a - c).abs() < 1e-9 && (b - e).abs() < 1e-9, "poll {i}: {a} {c}, {b} {e}");
    }
    assert!(d.out.metrics.iter().filter(|m| m.ln_harm != 0.0).count() >= 7, "every test has spoken: {:?}", d.out.metrics);
}

#[test]
fn a_demo_runs_the_same_method_faster() {
    let real = everything();
    let scale = 15.0;
    let mut fast = JudgeSpec { interval: Duration::from_secs(1), method: real.method.scaled(scale), ..real.clone() };
    fast.steps.iter_mut().for_each(|s| s.for_s /= scale);
    let (mut slow, mut quick) = (Drive::new(&real, &mirrored()), Judge::new(&fast, &mirrored()).expect("a judge"));
    let mut out = Judgement::empty(Timestamp::default(), 0);
    for i in 0..150 {
        let step = [0, 1, 2, 3][(i / 4).min(1) as usize + (i / 60) as usize];
        let (b, c) = (rich(i, 2000.0), rich(i + 500, 1000.0));
        let poll = Poll {
            at: Timestamp::from_millis(1000 * i64::from(i)),
            step,
            counts_time: true,
            arms: PerArm { baseline: b.clone(), canary: c.clone() },
            changes: Vec::new(),
        };
        quick.poll(&poll, &mut out);
        let want = slow.poll(step, b, c);
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * (1.0 + a.abs());
        assert!(near(want.ln_total, out.ln_total), "poll {i}: {} {}", want.ln_total, out.ln_total);
        assert!(near(want.clock.counted_s, out.clock.counted_s * scale), "poll {i}");
        assert_eq!((&want.keep, &want.rollback, want.labels), (&out.keep, &out.rollback, out.labels), "poll {i}");
        for (a, b) in want.metrics.iter().zip(&out.metrics) {
            assert!(near(a.ln_harm, b.ln_harm) && near(a.ln_ok, b.ln_ok) && a.verdict == b.verdict, "poll {i}: {a:?} {b:?}");
        }
        for (a, b) in want.bakes.iter().zip(&out.bakes) {
            assert!(near(a.evidence, b.evidence), "poll {i}: {a:?} {b:?}");
        }
    }
    assert!(!out.bakes.is_empty());
}

#[test]
fn the_bake_begins_with_the_dispersion_of_calm_polls_though_the_last_was_not() {
    let mut d = Drive::new(&errors(vec![step(500, 300.0), step(1000, 60.0)]), &steady());
    let both = |d: &mut Drive, n: u32, bad: f64| {
        for _ in 0..n {
            d.poll(0, ArmSample::counts(1500.0, bad), ArmSample::counts(1500.0, bad));
        }
    };
    both(&mut d, 40, 2.0);
    both(&mut d, 20, 200.0);
    assert!(d.out.labels.shared && !d.out.labels.calm && d.out.metrics[0].phi > 50.0, "{:?}", d.out.labels);
    let out = d.poll(1, ArmSample::blind(Blind::NoSeries), ArmSample::counts(3000.0, 4.0));
    assert!(!out.labels.hold, "nothing waits for a baseline that is not there");
    let bake = &d.judge.inspect().bakes[0];
    assert!(bake.phi < 3.0, "{bake:?}");
    assert!(bake.level < 0.004, "the baseline's own rate, without the incident: {bake:?}");
    let notes = d.judge.notes();
    assert!(notes[0].ends_with("UTC left out of the comparison: an incident of both arms"), "{notes:?}");
    assert!(notes[1].starts_with("unsteady during the rollout: phi "), "{notes:?}");
}

#[test]
fn a_step_counts_one_interval_for_its_first_poll_whatever_that_carries() {
    let mut d = Drive::new(&errors(vec![step(50, 60.0), step(250, 60.0)]), &steady());
    d.calm(0, 10);
    d.tick += 6;
    let out = d.calm(1, 1);
    assert_eq!(out.clock.counted_s, 15.0);
    d.tick += 2;
    assert_eq!(d.calm(1, 1).clock.counted_s, 60.0, "inside a step a missing tick counts with the poll that delivers it");
}

#[test]
fn where_nothing_is_required_a_proof_is_not_given_by_accident() {
    let mut spec = JudgeSpec { advance: Advance::OnEvidence, ..errors(vec![step(50, 900.0)]) };
    spec.metrics[0].required = false;
    let mut d = Drive::new(&spec, &steady());
    assert_eq!(d.calm(0, 60).keep.as_slice(), [Keep::NotProven]);
    assert_eq!(d.judge.warnings(), ["no metric is required: a step that asks for proof never ends by itself"]);
}

#[test]
fn lost_evidence_halves_the_level_each_time() {
    let level = |incarnation: u32| {
        let mut d = Drive::new(&JudgeSpec { incarnation, ..errors(vec![step(50, 60.0)]) }, &steady());
        d.calm(0, 1).ln_rollback
    };
    assert!((level(0) - 20f64.ln()).abs() < 1e-12);
    assert!((level(3) - 160f64.ln()).abs() < 1e-12);
}

#[test]
fn a_gauge_without_history_is_advisory_and_gives_its_share_away() {
    let mut spec = errors(vec![step(50, 60.0)]);
    spec.metrics.push(MetricSpec {
        required: true,
        ..metric("cpu", MetricKind::Cpu, Margin::Ratio { harm: 0.1, ok: 0.2 }, 0.1, Limits::default())
    });
    let mut d = Drive::new(&spec, &steady());
    let out = d.calm(0, 1);
    assert_eq!((out.metrics[0].share, out.metrics[1].share), (1.0, 0.0));
    assert!(out.metrics[1].advisory && !out.metrics[1].required);
    assert!(
        d.judge.warnings().iter().any(|w| w == "cpu is advisory: it has no history to be calibrated with, and is not required"),
        "{:?}",
        d.judge.warnings()
    );
}

#[test]
fn the_report_says_what_the_history_was_good_for() {
    let none = Judge::new(&errors(vec![step(50, 60.0)]), &History::default()).expect("a judge");
    assert_eq!(
        none.warnings(),
        ["burstiness unknown: 0 min of history, 30 min are needed; learned from the live baseline, comparison starts after 240 s"]
    );
    let mut incident = steady();
    for slot in &mut incident.requests[100..120] {
        *slot = Some(Counts { total: 3000.0, bad: 150.0 });
    }
    let judge = Judge::new(&errors(vec![step(50, 60.0)]), &incident).expect("a judge");
    assert_eq!(judge.warnings(), ["history from 40 to 30 min before the start left out of the comparison: it looks like an incident"]);
    let mut hurried = errors(vec![step(50, 60.0)]);
    hurried.method = hurried.method.scaled(30.0);
    let none = Judge::new(&hurried, &History::default()).expect("a judge");
    assert!(none.warnings()[0].starts_with("burstiness unknown: 0 s of history, 60 s are needed"), "{:?}", none.warnings());
}

#[test]
fn an_unsteady_history_says_how_large_a_fault_must_be_to_be_found() {
    let mut bursts = steady();
    for (i, slot) in bursts.requests.iter_mut().enumerate() {
        if i % 16 < 4 {
            *slot = Some(Counts { total: 3000.0, bad: 300.0 });
        }
    }
    let judge = Judge::new(&errors(vec![step(50, 900.0), step(500, 1800.0)]), &bursts).expect("a judge");
    assert_eq!(
        judge.warnings(),
        ["unsteady before the release: phi 1140; within the steps only errors at 7 times their rate or more can be found"]
    );
}

#[test]
fn limits_between_bounds_say_what_can_be_shown() {
    let mut spec = errors(vec![step(50, 60.0)]);
    spec.bounds_ms = BOUNDS_MS.to_vec();
    let stretch = Margin::Stretch { harm: 0.15, guard: 2.0, ok: 0.25, bake: 0.5 };
    let with = |spec: &JudgeSpec, limits: Limits| {
        let mut spec = spec.clone();
        spec.metrics.push(metric("latency-p95", MetricKind::Latency(0.95), stretch, 0.2, limits));
        Judge::new(&spec, &steady())
    };
    let between = with(&spec, Limits { rollback_above: Some(220.0), ..Limits::default() }).expect("a judge");
    assert!(between.warnings().iter().any(|w| w == "latency-p95 rollback-above 220 ms: breach is provable from 250 ms, pass up to 200 ms"));
    let beyond = with(&spec, Limits { rollback_above: Some(9000.0), ..Limits::default() }).err();
    assert_eq!(
        beyond.map(|e| e.to_string()).as_deref(),
        Some(
            "metric latency-p95: rollback-above 9000 ms lies above the last bucket bound 2500 ms, no data can prove it: lower it or add a bound"
        )
    );
    let strict = JudgeSpec { advance: Advance::OnSchedule { strict: true }, ..spec };
    let below = with(&strict, Limits { promote_below: Some(5.0), ..Limits::default() }).err();
    assert_eq!(below, Some(JudgeError::BelowFirstBound("latency-p95".to_owned(), 5.0, 10.0)));
}

#[test]
fn dispersion_kept_from_a_rollout_serves_the_next_without_history() {
    let spec = errors(vec![step(50, 3600.0)]);
    let mut first = Drive::new(&spec, &History::default());
    first.calm(0, 100);
    let sums = first.judge.sums();
    let mut second = Judge::with_sums(&spec, &History::default(), &sums).expect("a judge");
    let mut out = Judgement::empty(Timestamp::default(), 0);
    let arms = PerArm { baseline: ArmSample::counts(2850.0, 3.0), canary: ArmSample::counts(150.0, 0.0) };
    second.poll(&Poll { at: Timestamp::from_millis(START), step: 0, counts_time: true, arms, changes: Vec::new() }, &mut out);
    assert!(out.metrics[0].phi < 2.0, "without sums it starts at 2: {}", out.metrics[0].phi);
    let learned = second.inspect().series[0].2;
    assert!(learned.is_some(), "labels run from the start");
}

fn limit_of(out: &Judgement, kind: LimitKind) -> LimitJudgement {
    *out.limits.iter().find(|l| l.metric == 0 && l.kind == kind).expect("the limit")
}

/// 4 % of the canary's requests fail: beyond 2 %, within 5 %, and not compared with anything.
#[test]
fn a_limit_that_is_moved_begins_anew_at_its_new_level_with_the_same_threshold() {
    let limits = Limits { rollback_above: Some(0.05), page_above: Some(0.02), ..Limits::default() };
    let mut spec = errors(vec![step(50, 3600.0), step(1000, 3600.0)]);
    spec.metrics = vec![MetricSpec { compared: false, required: false, ..metric("errors", MetricKind::Errors, COUNTS, 0.4, limits) }];
    let mut d = Drive::new(&spec, &steady());
    let bad = |d: &mut Drive, step: u32, changes: Vec<LimitChange>| {
        d.tick += 1;
        let at = Timestamp::from_millis(START + 15_000 * d.tick);
        let arms = PerArm { baseline: ArmSample::counts(2850.0, 3.0), canary: ArmSample::counts(150.0, 6.0) };
        d.judge.poll(&Poll { at, step, counts_time: true, arms, changes }, &mut d.out);
        d.out.clone()
    };
    let before = (0..40).map(|_| bad(&mut d, 0, Vec::new())).last().expect("a poll");
    let (rollback, page) = (limit_of(&before, LimitKind::RollbackAbove), limit_of(&before, LimitKind::PageAbove));
    assert!(!rollback.breached.canary && page.breached.canary && before.rollback.is_empty(), "{before:?}");

    let to = |kind: LimitKind, level: f64| LimitChange { metric: 0, kind, level };
    let after = bad(&mut d, 0, vec![to(LimitKind::RollbackAbove, 0.02), to(LimitKind::PageAbove, 0.05)]);
    let (lower, higher) = (limit_of(&after, LimitKind::RollbackAbove), limit_of(&after, LimitKind::PageAbove));
    assert_eq!((lower.level, higher.level), (0.02, 0.05));
    assert_eq!((lower.threshold, higher.threshold), (rollback.threshold, page.threshold));
    assert!(!higher.breached.canary, "the old level's crossing is gone");
    assert!(lower.evidence.canary < 3.0, "what was seen before does not count: {lower:?}");
    let polls = (1..40).find(|_| !bad(&mut d, 0, Vec::new()).rollback.is_empty()).expect("4 % are beyond 2 %");
    assert!(polls >= 2, "never from one poll");
    assert_eq!(d.out.rollback.as_slice(), [Breach::Limit(0)]);

    // a level no test can stand at, and a limit the rule does not have, change nothing
    let held = bad(&mut d, 0, vec![to(LimitKind::RollbackAbove, 1.5), to(LimitKind::WarnAbove, 0.5)]);
    assert_eq!(limit_of(&held, LimitKind::RollbackAbove).level, 0.02);
    assert_eq!(held.limits.len(), 2);
}

#[test]
fn a_limit_moved_in_the_bake_judges_the_bake() {
    let limits = Limits { rollback_above: Some(0.2), ..Limits::default() };
    let mut spec = errors(vec![step(50, 60.0), step(1000, 3600.0)]);
    spec.metrics = vec![MetricSpec { compared: false, required: false, ..metric("errors", MetricKind::Errors, COUNTS, 0.4, limits) }];
    let mut d = Drive::new(&spec, &steady());
    d.calm(0, 20);
    let full = |d: &mut Drive, changes: Vec<LimitChange>| {
        d.tick += 1;
        let at = Timestamp::from_millis(START + 15_000 * d.tick);
        let arms = PerArm { baseline: ArmSample::counts(0.0, 0.0), canary: ArmSample::counts(3000.0, 120.0) };
        d.judge.poll(&Poll { at, step: 1, counts_time: true, arms, changes }, &mut d.out);
        d.out.clone()
    };
    assert!((0..20).all(|_| full(&mut d, Vec::new()).rollback.is_empty()), "4 % are within 20 %");
    let first = full(&mut d, vec![LimitChange { metric: 0, kind: LimitKind::RollbackAbove, level: 0.02 }]);
    assert!(first.rollback.is_empty());
    let crossed = (0..10).any(|_| full(&mut d, Vec::new()).rollback.as_slice() == [Breach::Bake { metric: 0, derived: false }]);
    assert!(crossed, "{:?}", d.out.bakes);
}

#[test]
fn a_latency_limit_moves_to_bounds_whose_counts_are_kept_and_to_no_other() {
    let served = |slow: f64| {
        let below = [0.1, 0.3, 0.6, 0.85, 1.0 - 2.0 * slow, 1.0 - slow, 1.0, 1.0, 1.0, 1.0, 1.0];
        ArmSample { buckets: Ok(below.iter().map(|s| (3000.0 * s).round()).collect()), ..ArmSample::counts(3000.0, 3.0) }
    };
    let history = History { buckets: (0..240).map(|_| served(0.02).buckets.ok()).collect(), ..steady() };
    let stretch = Margin::Stretch { harm: 0.15, guard: 2.0, ok: 0.25, bake: 0.5 };
    let limits = Limits { rollback_above: Some(1000.0), warn_above: Some(500.0), ..Limits::default() };
    let spec = JudgeSpec {
        metrics: vec![metric("p95", MetricKind::Latency(0.95), stretch, 0.4, limits)],
        bounds_ms: BOUNDS_MS.to_vec(),
        ..errors(vec![step(500, 3600.0)])
    };
    let mut d = Drive::new(&spec, &history);
    for _ in 0..20 {
        d.poll(0, served(0.02), served(0.02));
    }
    let mut moved = |level: f64| {
        d.tick += 1;
        let at = Timestamp::from_millis(START + 15_000 * d.tick);
        let changes = vec![LimitChange { metric: 0, kind: LimitKind::RollbackAbove, level }];
        let arms = PerArm { baseline: served(0.02), canary: served(0.02) };
        d.judge.poll(&Poll { at, step: 0, counts_time: true, arms, changes }, &mut d.out);
        limit_of(&d.out, LimitKind::RollbackAbove).level
    };
    assert_eq!(moved(400.0), 400.0, "500 ms is the warning's bound");
    assert_eq!(moved(2000.0), 400.0, "nothing was counted at 2.5 s");
    assert_eq!(moved(9000.0), 400.0, "there is no bound beyond 2.5 s");
}
