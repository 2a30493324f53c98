//! One subscription over ticks, as a source feeds it.

use super::*;
use crate::model::rule;
use crate::model::{CUSTOM_MAX, Counts};
use crate::source::packs::Packs;
use crate::source::packs::resolve::Resolver;

const SCRAPE: Duration = Duration::from_secs(15);

fn envoy() -> (Subscription, Tracker) {
    let target = |cluster: &str| rule::Target { fields: [("cluster".to_owned(), cluster.to_owned())].into() };
    let wanted = Subscription {
        key: 7,
        arms: PerArm { baseline: target("v1"), canary: target("v2") },
        telemetry: vec![rule::Telemetry { pack: "envoy".into(), ..rule::Telemetry::default() }],
        custom_counts: Vec::new(),
        custom_gauges: Vec::new(),
        wants: Wants { requests: true, buckets: true, ..Wants::default() },
        time_scale: 1.0,
    };
    let asked = Resolver::new(&Packs::builtin(), &wanted).unwrap().finish().unwrap();
    let tracker = Tracker::new(&wanted, asked, vec![5.0, 10.0], SCRAPE);
    (wanted, tracker)
}

fn s(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_000_000_000) + Duration::from_secs(seconds)
}

fn rows(tracker: &mut Tracker, arm: Arm, process: &str, sampled: u64, good: f64, bad: f64) {
    let place = |question| Place { entry: 0, question, select: 0, arm };
    tracker.row(place(0), process, &["200"], good);
    tracker.row(place(0), process, &["503"], bad);
    tracker.row(place(1), process, &[], 0.0);
    tracker.row(place(2), process, &["5"], good / 2.0);
    tracker.row(place(2), process, &["10.0"], good);
    tracker.row(place(2), process, &["+Inf"], good + bad);
    tracker.sampled(0, arm, process, s(sampled));
}

fn tracker_of(pack: &str, fields: [&[(&str, &str)]; 2]) -> Tracker {
    let target = |of: &[(&str, &str)]| rule::Target { fields: of.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect() };
    let wanted = Subscription {
        arms: PerArm { baseline: target(fields[0]), canary: target(fields[1]) },
        telemetry: vec![rule::Telemetry { pack: pack.into(), ..rule::Telemetry::default() }],
        wants: Wants { requests: true, ..Wants::default() },
        ..envoy().0
    };
    let mut resolver = Resolver::new(&Packs::builtin(), &wanted).unwrap();
    while resolver.next().unwrap().is_some() {
        resolver.answer(&BTreeSet::new());
    }
    Tracker::new(&wanted, resolver.finish().unwrap(), Vec::new(), SCRAPE)
}

fn mesh(service: [&str; 2]) -> Tracker {
    let of = |deployment, service| [("namespace", "prod"), ("deployment", deployment), ("service", service)];
    tracker_of("istio", [&of("v1", service[0]), &of("v2", service[1])])
}

/// A tick of a mesh: requests of both arms, and failures of the service that name no workload.
fn mesh_tick(tracker: &mut Tracker, at: u64, canary: Option<f64>, orphans: f64, alike: bool) -> SourceSample {
    let place = |entry, arm| Place { entry, question: 0, select: 0, arm };
    for (arm, n) in [(Arm::Baseline, Some(10.0 * at as f64)), (Arm::Canary, canary)] {
        let Some(n) = n else { continue };
        tracker.row(place(0, arm), arm.name(), &["http", "200", ""], n);
        tracker.row(place(0, arm), arm.name(), &["http", "0", ""], n / 10.0);
        tracker.sampled(0, arm, arm.name(), s(at));
    }
    for arm in Arm::BOTH.into_iter().filter(|arm| alike || *arm == Arm::Canary) {
        tracker.row(place(1, arm), "client", &[], orphans);
        tracker.sampled(1, arm, "client", s(at));
    }
    tracker.finish(s(at), PerArm::default())
}

#[test]
fn requests_whose_client_left_do_not_count_and_are_shown() {
    let mut tracker = mesh(["api", "api"]);
    mesh_tick(&mut tracker, 15, Some(100.0), 0.0, true);
    let sample = mesh_tick(&mut tracker, 30, Some(150.0), 0.0, true);
    assert_eq!((sample.arms.canary.requests, sample.arms.canary.abandoned), (Ok(Counts { total: 50.0, bad: 0.0 }), Ok(5.0)));
    assert_eq!(sample.orphans, 0.0);
}

#[test]
fn orphans_are_nobodys_unless_they_can_only_be_one_arms() {
    let counts = |sample: &SourceSample| (sample.arms.canary.requests, sample.orphans);
    let ok = |total, bad| Ok(Counts { total, bad });
    // one service of both, both healthy: nobody is blamed
    let mut tracker = mesh(["api", "api"]);
    mesh_tick(&mut tracker, 15, Some(100.0), 7.0, true);
    assert_eq!(counts(&mesh_tick(&mut tracker, 30, Some(150.0), 12.0, true)), (ok(50.0, 0.0), 5.0));
    // a watch sees that only the canary has no ready pod
    let pod = |ready| crate::model::Pod { name: "p".into(), ip: None, created: s(0), ready };
    let pods = |canary| PerArm { baseline: Some(vec![pod(true)].into()), canary: Some(vec![pod(canary)].into()) };
    for (ready, of_canary, of_none) in [(false, ok(10.0, 5.0), 0.0), (true, ok(5.0, 0.0), 5.0)] {
        let mut tracker = mesh(["api", "api"]);
        tracker.entries[0].asked.tells = vec![crate::source::packs::arms::Tells::Pods; 2];
        mesh_tick(&mut tracker, 15, Some(100.0), 7.0, true);
        tracker.take_pods(&pods(ready));
        let sample = mesh_tick(&mut tracker, 30, Some(105.0), 12.0, true);
        assert_eq!((counts(&sample), sample.arms.canary.pods), ((of_canary, of_none), Some(u32::from(ready))));
    }
    // a service of its own: a canary that never had a ready pod shows by these alone
    let mut tracker = mesh(["api", "api-canary"]);
    mesh_tick(&mut tracker, 15, None, 7.0, false);
    let sample = mesh_tick(&mut tracker, 30, None, 12.0, false);
    assert_eq!((counts(&sample), sample.missing.canary), ((ok(5.0, 5.0), 0.0), None));
}

fn pushed(tracker: &mut Tracker, at: u64, process: &str, sampled: u64, n: f64) {
    let of = [(Arm::Baseline, "b", at, at as f64), (Arm::Canary, process, sampled, n)];
    for (arm, process, sampled, n) in of {
        tracker.row(Place { entry: 0, question: 0, select: 0, arm }, process, &["200", ""], n);
        tracker.sampled(0, arm, process, s(sampled));
    }
}

#[test]
fn a_pushed_source_that_died_is_stale_within_two_intervals_and_not_without_errors() {
    let of = |deployment| [("namespace", "prod"), ("deployment", deployment)];
    let mut tracker = tracker_of("otel-http", [&of("v1"), &of("v2")]);
    let mut seen = Vec::new();
    // pushed each minute until 180; its last value is shown for five minutes more
    for at in (60..=480).step_by(60) {
        let last = at.min(180);
        pushed(&mut tracker, at, "c", last, last as f64);
        seen.push(tracker.finish(s(at), PerArm::default()));
    }
    let canary: Vec<_> = seen.iter().map(|sample| sample.arms.canary.requests.map(|c| c.total)).collect();
    assert_eq!(canary[..3], [Ok(0.0), Ok(60.0), Ok(60.0)]);
    assert!(canary[3..].iter().all(|c| *c == Err(Blind::Stale)), "{canary:?}");
    assert!(seen[5].detail.contains("nothing was pushed for two intervals"), "{}", seen[5].detail);
}

#[test]
fn a_new_identity_is_born_and_a_known_one_that_falls_has_not_restarted() {
    let of = |deployment| [("namespace", "prod"), ("deployment", deployment)];
    let mut tracker = tracker_of("otel-http", [&of("v1"), &of("v2")]);
    pushed(&mut tracker, 60, "c", 60, 100.0);
    tracker.finish(s(60), PerArm::default());
    pushed(&mut tracker, 120, "c", 120, 130.0);
    assert_eq!(tracker.finish(s(120), PerArm::default()).arms.canary.requests.map(|c| c.total), Ok(30.0));
    pushed(&mut tracker, 180, "c", 180, 140.0);
    pushed(&mut tracker, 180, "new", 180, 8.0);
    assert_eq!(tracker.finish(s(180), PerArm::default()).arms.canary.requests.map(|c| c.total), Ok(18.0), "a new one counts from 0");
    // a series that the collector dropped and made again (metric_expiration) is no restart
    pushed(&mut tracker, 240, "c", 240, 6.0);
    pushed(&mut tracker, 240, "new", 240, 9.0);
    assert_eq!(tracker.finish(s(240), PerArm::default()).arms.canary.requests.map(|c| c.total), Ok(1.0));
}

#[test]
fn more_custom_metrics_than_a_sample_holds_are_no_panic() {
    let (mut wanted, _) = envoy();
    wanted.custom_gauges = vec![rule::CustomGauge { query: "x".into(), lower_is_worse: false }; 9];
    wanted.custom_counts = vec![rule::CustomCounts { part: "a".into(), part_is_bad: true, total: "b".into() }; 9];
    let mut tracker = Tracker::new(&wanted, Vec::new(), Vec::new(), SCRAPE);
    let arms = tracker.blind(Blind::SourceDown, "").arms;
    assert_eq!((arms.canary.custom_gauges.len(), arms.canary.custom_counts.len()), (CUSTOM_MAX, CUSTOM_MAX));
    assert_eq!(tracker.finish(s(15), PerArm::from_fn(|_| vec![Ok(1.0); 9])).arms.canary.custom_gauges.len(), CUSTOM_MAX);
}

#[test]
fn a_tick_gives_both_arms() {
    let (_, mut tracker) = envoy();
    for (at, n) in [(15, 1.0), (30, 2.0)] {
        rows(&mut tracker, Arm::Baseline, "p", at, 100.0 * n, 2.0 * n);
        rows(&mut tracker, Arm::Canary, "q", at, 10.0 * n, 1.0 * n);
        let sample = tracker.finish(s(at), PerArm::default());
        let expected = |total, bad| if at == 15 { Counts::default() } else { Counts { total, bad } };
        assert_eq!(sample.arms.baseline.requests, Ok(expected(102.0, 2.0)));
        assert_eq!(sample.arms.canary.requests, Ok(expected(11.0, 1.0)));
        assert_eq!(sample.missing, PerArm::default());
        if at == 30 {
            assert_eq!(sample.arms.baseline.buckets.unwrap().as_slice(), [50.0, 100.0, 102.0]);
            assert_eq!((sample.arms.canary.abandoned, sample.arms.canary.pods), (Ok(0.0), Some(1)));
        }
    }
}

#[test]
fn arms_scraped_at_different_phases_meet_in_one_tick() {
    let (_, mut tracker) = envoy();
    let mut met = (0.0, 0.0);
    for at in (5..=305u64).step_by(5) {
        for (arm, process, phase) in [(Arm::Baseline, "p", 4u64), (Arm::Canary, "q", 11)] {
            if at >= phase {
                let scrapes = (at - phase) / 15;
                rows(&mut tracker, arm, process, phase + 15 * scrapes, 50.0 * scrapes as f64, 3.0 * scrapes as f64);
            }
        }
        let sample = tracker.finish(s(at), PerArm::default());
        if let (Ok(b), Ok(c)) = (&sample.arms.baseline.requests, &sample.arms.canary.requests) {
            assert!(at < 30 || (b.total > 0.0 && c.total > 0.0), "both or none, at {at}");
            met = (met.0 + b.total, met.1 + c.total);
        }
    }
    assert!(met.0 > 18.0 * 53.0 && met.1 > 18.0 * 53.0, "{met:?}");
}

#[test]
fn a_blind_tick_is_bridged_by_the_next() {
    let (_, mut tracker) = envoy();
    let both = |tracker: &mut Tracker, at: u64, n: f64| {
        rows(tracker, Arm::Baseline, "p", at, n, 0.0);
        rows(tracker, Arm::Canary, "q", at, n, 0.0);
    };
    both(&mut tracker, 15, 100.0);
    tracker.finish(s(15), PerArm::default());
    both(&mut tracker, 30, 9999.0);
    let blind = tracker.blind(Blind::SourceDown, "connection refused");
    assert_eq!((blind.missing.canary, &*blind.detail), (Some(Blind::SourceDown), "connection refused"));
    assert_eq!(blind.arms.canary.cpu, Err(Blind::NotAsked));
    both(&mut tracker, 45, 130.0);
    let sample = tracker.finish(s(45), PerArm::default());
    assert_eq!(sample.arms.canary.requests, Ok(Counts { total: 30.0, bad: 0.0 }));
}

#[test]
fn one_arm_without_series_does_not_hold_the_other() {
    let (_, mut tracker) = envoy();
    for at in [15, 30] {
        rows(&mut tracker, Arm::Baseline, "p", at, at as f64, 0.0);
        let sample = tracker.finish(s(at), PerArm::default());
        assert!(sample.arms.baseline.requests.is_ok());
        assert_eq!(sample.missing, PerArm { baseline: None, canary: Some(Blind::NoSeries) });
    }
    // the canary's first requests pass the proxy the baseline was seen through: its counters did not exist before
    rows(&mut tracker, Arm::Baseline, "p", 45, 45.0, 0.0);
    rows(&mut tracker, Arm::Canary, "p", 45, 4.0, 2.0);
    let sample = tracker.finish(s(45), PerArm::default());
    assert_eq!(sample.arms.canary.requests, Ok(Counts { total: 6.0, bad: 2.0 }));
}

#[test]
fn a_native_histogram_is_named() {
    let (_, mut tracker) = envoy();
    tracker.native_only = true;
    rows(&mut tracker, Arm::Baseline, "p", 15, 1.0, 0.0);
    let sample = tracker.finish(s(15), PerArm::default());
    assert_eq!(sample.arms.baseline.buckets, Err(Blind::NativeHistogramOnly));
    assert!(sample.detail.contains("always_scrape_classic_histograms"), "{}", sample.detail);
}

#[test]
fn buckets_that_are_not_all_there_wait_until_they_are() {
    for gone in ["10", "+Inf"] {
        let (_, mut tracker) = envoy();
        let mut ticks = Vec::new();
        for (tick, n) in [(15, 1.0), (30, 2.0), (45, 3.0), (60, 4.0)] {
            for (arm, process) in [(Arm::Baseline, "p"), (Arm::Canary, "q")] {
                let place = |question| Place { entry: 0, question, select: 0, arm };
                tracker.row(place(0), process, &["200"], 100.0 * n);
                tracker.row(place(1), process, &[], 0.0);
                for (le, value) in [("5", 4.0 * n), ("10", 8.0 * n), ("+Inf", 100.0 * n)] {
                    if !(arm == Arm::Canary && le == gone && (30..60).contains(&tick)) {
                        tracker.row(place(2), process, &[le], value);
                    }
                }
                tracker.sampled(0, arm, process, s(tick));
            }
            ticks.push(tracker.finish(s(tick), PerArm::default()));
        }
        for tick in &ticks[1..3] {
            assert_eq!((tick.arms.canary.buckets.clone(), tick.arms.canary.requests.is_ok()), (Err(Blind::NoSeries), true), "{gone}");
            assert!(tick.detail.contains("canary: the histogram of q has no bucket for"), "{}", tick.detail);
        }
        let bound = if gone == "10" { "10 ms" } else { "+Inf" };
        assert!(ticks[1].detail.contains(bound), "{}", ticks[1].detail);
        assert_eq!(ticks[3].arms.canary.buckets.as_ref().unwrap().as_slice(), [12.0, 24.0, 300.0], "{gone}: nothing is lost");
        assert_eq!(ticks[3].arms.baseline.buckets.as_ref().unwrap().as_slice(), [4.0, 8.0, 100.0]);
        assert_eq!(ticks[3].detail, "");
    }
}

#[test]
fn buckets_that_fall_are_said_and_read_as_if_they_did_not() {
    let (_, mut tracker) = envoy();
    for (tick, n) in [(15, 1.0), (30, 2.0)] {
        let place = Place { entry: 0, question: 2, select: 0, arm: Arm::Baseline };
        for (le, value) in [("5", 50.0), ("10", 40.0), ("+Inf", 60.0)] {
            tracker.row(place, "p", &[le], value * n);
        }
        tracker.sampled(0, Arm::Baseline, "p", s(tick));
        let sample = tracker.finish(s(tick), PerArm::default());
        assert!(sample.detail.contains("baseline: the buckets of p are not cumulative"), "{}", sample.detail);
        if tick == 30 {
            assert_eq!(sample.arms.baseline.buckets.unwrap().as_slice(), [50.0, 50.0, 60.0]);
        }
    }
}

#[test]
fn a_bound_that_is_spelled_anew_makes_no_jump() {
    let (_, mut tracker) = envoy();
    let mut seen = Vec::new();
    for (tick, n) in (1u64..).zip([1.0, 2.0, 3.0, 4.0]) {
        for (arm, process) in [(Arm::Baseline, "p"), (Arm::Canary, "q")] {
            let place = Place { entry: 0, question: 2, select: 0, arm };
            // the old spelling keeps its last value beside the new one for a while
            let spelled: &[(&str, f64)] = match tick {
                1 => &[("5", 1.0), ("10", 1.0)],
                2 => &[("5", 2.0), ("10", 2.0)],
                3 => &[("5", 2.0), ("10", 2.0), ("5.0", 3.0), ("10.0", 3.0)],
                _ => &[("5.0", 4.0), ("10.0", 4.0)],
            };
            spelled.iter().for_each(|(le, n)| tracker.sum(place, process, &[le], 40.0 * n));
            tracker.sum(place, process, &["+Inf"], 50.0 * n);
            tracker.sampled(0, arm, process, s(15 * tick));
        }
        seen.push(tracker.finish(s(15 * tick), PerArm::default()).arms.canary.buckets.map(|b| b.to_vec()));
    }
    assert_eq!(seen[1..], [Ok(vec![40.0, 40.0, 50.0]), Ok(vec![40.0, 40.0, 50.0]), Ok(vec![40.0, 40.0, 50.0])]);
}

#[test]
fn a_histogram_one_flush_behind_its_counter_counts_its_own() {
    let (_, mut tracker) = envoy();
    for (at, n, merged) in [(15, 100.0, 100.0), (30, 200.0, 160.0)] {
        rows(&mut tracker, Arm::Baseline, "p", at, n, 0.0);
        rows(&mut tracker, Arm::Canary, "q", at, n, 0.0);
        for (le, share) in [("5", 0.5), ("10", 1.0), ("+Inf", 1.0)] {
            let behind = merged * share - if le == "5" { n / 2.0 } else { n };
            tracker.row(Place { entry: 0, question: 2, select: 0, arm: Arm::Canary }, "q", &[le], behind);
        }
        let sample = tracker.finish(s(at), PerArm::default());
        if at == 30 {
            assert_eq!(sample.arms.canary.requests.map(|c| c.total), Ok(100.0));
            assert_eq!(sample.arms.canary.buckets.map(|b| b.to_vec()), Ok(vec![30.0, 60.0, 60.0]));
        }
    }
}

#[test]
fn bounds_are_numbers() {
    assert_eq!(bound_ms("1", 1.0), bound_ms("1.0", 1.0));
    assert_eq!(bound_ms("0.3", 1e3), Some(300.0));
    assert_eq!(bound_ms("1.8e+06", 1.0), Some(1_800_000.0));
    assert_eq!(bound_ms("+Inf", 1e3), Some(f64::INFINITY));
    assert_eq!((bound_ms("NaN", 1.0), bound_ms("x", 1.0)), (None, None));
}
