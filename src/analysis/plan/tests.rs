use super::*;
use crate::model::{Advance, Buckets, Budget, Limits, Method, MetricSpec, StepTime};
use std::time::Duration;

const COUNTS: Margin = Margin::Counts { relative: 0.2, absolute: 2e-4, ok_relative: 0.5, ok_absolute: 1e-3 };
const STRETCH: Margin = Margin::Stretch { harm: 0.15, guard: 2.0, ok: 0.25, bake: 0.5 };

fn metric(kind: MetricKind, margin: Margin, weight: f64) -> MetricSpec {
    MetricSpec { name: format!("{kind:?}"), kind, compared: true, margin, required: true, weight, limits: Limits::default() }
}

/// Shares as the simulations of STATISTICS 9: errors .40 of a full set.
fn spec(steps: &[(u16, f64)]) -> JudgeSpec {
    let ratio = Margin::Ratio { harm: 0.1, ok: 0.2 };
    JudgeSpec {
        interval: Duration::from_secs(15),
        budget: Budget::default(),
        incarnation: 0,
        metrics: vec![
            metric(MetricKind::Errors, COUNTS, 0.4),
            metric(MetricKind::Latency(0.95), STRETCH, 0.2),
            metric(MetricKind::Latency(0.99), STRETCH, 0.1),
            metric(MetricKind::Cpu, ratio, 0.1),
            metric(MetricKind::Memory, ratio, 0.1),
            metric(MetricKind::Leak, Margin::Slope { per_unit: 0.001 }, 0.05),
            metric(MetricKind::CustomGauge(0), ratio, 0.05),
        ],
        bounds_ms: Vec::new(),
        steps: steps.iter().map(|(w, m)| StepTime { weight: Weight::from_permille(*w).unwrap(), for_s: m * 60.0 }).collect(),
        advance: Advance::OnSchedule { strict: false },
        min_requests: 20,
        cpu_load_rule: true,
        method: Method::default(),
    }
}

fn at(per_second: f64, error_rate: f64) -> Expected {
    Expected { per_minute: per_second * 60.0, error_rate: Some(error_rate), phi: Some(1.0) }
}

fn near(got: f64, want: f64, within: f64, what: &str) {
    assert!((got / want - 1.0).abs() <= within, "{what}: {got}, the document has {want}");
}

/// The tables of STATISTICS 9 (formula column), before the warm-up and the 5 %: share, requests a second, errors.
#[test]
fn the_documents_own_table_comes_out() {
    for (per_second, share, median, p90) in
        [(200.0, 50, 44.1, 90.0), (200.0, 250, 12.1, 24.1), (200.0, 500, 9.9, 19.2), (1000.0, 50, 8.8, 18.0)]
    {
        // the step is preceded by another, so that its warm-up is over
        let plan = plan(&spec(&[(10, 5.0), (share, 30.0)]), None, &at(per_second, 0.001)).unwrap();
        let got = plan.steps[1].errors_x2.unwrap();
        near(got.median / JUMP_RULE, median, 0.01, "median");
        near(got.p90 / JUMP_RULE, p90, 0.01, "p90");
        let warm = plan.steps[0].errors_x2.unwrap();
        assert!(warm.p90 > got.p90 + 2.0, "a smaller share needs longer, and the first step has the warm-up on top");
    }
    // non-inferiority, simulated: 45.5 min and 27 300 requests at 90 %
    let plan = plan(&spec(&[(10, 5.0), (50, 30.0)]), None, &at(200.0, 0.001)).unwrap();
    near(plan.steps[1].ok.unwrap().p90, 45.5, 0.15, "ok p90");
    near(plan.steps[1].ok_requests.unwrap().p90, 27_300.0, 0.15, "ok requests");
}

#[test]
fn the_warm_up_counts_from_the_first_traffic_and_only_once() {
    let warm_ups = |steps: &[(u16, f64)]| {
        let (spec, expected) = (spec(steps), at(200.0, 0.001));
        let judge = Judge::new(&spec, &steady_past(&spec, &expected)).unwrap();
        Asked::of(&judge, &spec, &expected, false).warm_ups()
    };
    assert_eq!(warm_ups(&[(0, 5.0), (50, 1.5), (100, 5.0), (500, 5.0)]), [2.0, 2.0, 0.5, 0.0]);
}

#[test]
fn no_history_means_the_longer_burn_in_and_a_given_phi_slows_everything() {
    let steps = [(50, 30.0), (500, 30.0)];
    let unknown = plan(&spec(&steps), Some(&History::default()), &at(200.0, 0.001)).unwrap();
    assert_eq!(unknown.warm_up_min, 4.0);
    let given = plan(&spec(&steps), None, &Expected { phi: Some(3.0), ..at(200.0, 0.001) }).unwrap();
    let steady = plan(&spec(&steps), None, &at(200.0, 0.001)).unwrap();
    assert_eq!((steady.warm_up_min, steady.phi, given.phi), (2.0, (1.0, Origin::Given), (3.0, Origin::Given)));
    near(given.steps[1].errors_x2.unwrap().median, 3.0 * steady.steps[1].errors_x2.unwrap().median, 1e-9, "three times the variance");
    let bursty: Vec<_> = (0..240).map(|i| Some(Counts { total: 3000.0, bad: if i % 8 == 0 { 24.0 } else { 0.0 } })).collect();
    let history = History { requests: bursty, ..History::default() };
    let read = plan(&spec(&steps), Some(&history), &Expected { per_minute: 12_000.0, error_rate: None, phi: None }).unwrap();
    near(read.error_rate.0, 0.001, 0.01, "the history's rate");
    assert!(read.phi.0 > 5.0 && read.phi.1 == Origin::History && read.error_rate.1 == Origin::History, "{:?}", read.phi);
}

/// At the smallest fault that is found in one step, the step's own time is the step's length.
#[test]
fn the_smallest_fault_takes_all_of_the_time() {
    let one = plan(&spec(&[(250, 40.0)]), None, &at(200.0, 0.001)).unwrap();
    let smallest = one.smallest.unwrap();
    for (p_c, which) in [(smallest.median, 0), (smallest.p90, 1)] {
        let (spec, expected) = (spec(&[(250, 40.0)]), at(200.0, 0.001));
        let judge = Judge::new(&spec, &steady_past(&spec, &expected)).unwrap();
        let ask = Asked::of(&judge, &spec, &expected, false);
        let m = ask.harm(spec.steps[0].weight, &ask.errors.unwrap(), p_c, 2.0);
        near([m.median, m.p90][which], 40.0, 1e-3, "the whole step");
    }
    let two = plan(&spec(&[(250, 40.0), (500, 40.0)]), None, &at(200.0, 0.001)).unwrap().smallest.unwrap();
    assert!(two.median < smallest.median && two.p90 < smallest.p90 && smallest.median < smallest.p90);
    let hopeless = plan(&spec(&[(10, 3.0)]), None, &at(0.01, 0.001)).unwrap().smallest.unwrap();
    assert_eq!(hopeless.median, f64::INFINITY);
}

#[test]
fn an_outage_is_found_by_the_rule_of_gross_failure_where_it_can_be() {
    let minutes = |per_second: f64, share: u16| {
        let plan = plan(&spec(&[(share, 30.0)]), None, &at(per_second, 0.001)).unwrap();
        plan.steps[0].outage.unwrap().median
    };
    assert_eq!(minutes(200.0, 50), 0.5, "two polls of 150 canary requests");
    assert_eq!(minutes(200.0, 1000), 0.5, "also in the bake, against the past");
    // 7.5 canary requests a poll: three portions of three polls
    assert!(minutes(10.0, 50) <= 2.25, "{}", minutes(10.0, 50));
    // the baseline has too few requests to compare portions with: the comparison alone
    let few = plan(&spec(&[(990, 30.0)]), None, &at(2.0, 0.001)).unwrap().steps[0].outage.unwrap();
    assert!(few.median > 0.5 && few.median.is_finite(), "{few:?}");
    let steps = plan(&spec(&[(0, 1.0), (1000, 30.0)]), None, &at(200.0, 0.001)).unwrap().steps;
    assert_eq!((steps[0].outage, steps[0].errors_x2, steps[1].errors_x2, steps[1].ok), (None, None, None, None));
}

#[test]
fn latency_is_planned_where_the_buckets_past_is_known() {
    let mut spec = spec(&[(50, 30.0), (1000, 30.0)]);
    assert_eq!(plan(&spec, None, &at(200.0, 0.001)).unwrap().steps[0].latency_x2, None);
    spec.bounds_ms = vec![50.0, 100.0, 200.0, 400.0];
    let row: Buckets = [1500.0, 2700.0, 2940.0, 2988.0, 3000.0].into_iter().collect();
    let counts = Some(Counts { total: 3000.0, bad: 3.0 });
    let history = History { requests: vec![counts; 240], buckets: vec![Some(row); 240], ..History::default() };
    let plan = plan(&spec, Some(&history), &at(200.0, 0.001)).unwrap();
    let slow = plan.steps[0].latency_x2.unwrap();
    // F08 of STATISTICS 16: latency x2 is found at 2.5 min, mostly warm-up
    assert!((2.0..6.0).contains(&slow.median) && slow.p90 < 8.0, "{slow:?}");
    assert_eq!(plan.steps[1].latency_x2, None);
}

#[test]
fn cpu_cases_follow_the_pods() {
    let rate: Vec<f64> = (0..288).map(|i| 10.0 + 5.0 * (f64::from(i) / 45.0).sin()).collect();
    let load = LoadHistory { cpu: rate.iter().map(|r| 0.1 + 0.02 * r).collect(), rate };
    let weights = [50, 500].map(|w| Weight::from_permille(w).unwrap());
    let cases = |baseline, canary| cpu_cases(Some(&load), PerArm { baseline, canary }, &weights).unwrap();
    let follows = cases(10, 10);
    assert!(follows[0].skip > 0.99 && follows[1].fit + follows[1].direct > 0.99, "{follows:?}");
    let few = cases(19, 1);
    assert!(few[0].fit > 0.99, "one pod of twenty at 5 % has the load of the others: {few:?}");
    assert_eq!(cpu_cases(None, PerArm { baseline: 1, canary: 1 }, &weights), None);
    assert_eq!(cpu_cases(Some(&load), PerArm { baseline: 1, canary: 0 }, &weights), None);
}
