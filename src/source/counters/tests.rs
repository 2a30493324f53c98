use super::*;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn behaviour() -> Behaviour {
    Behaviour { total: Total::Sum, falls_prove_restart: true, scrape: SECOND * 15 }
}

fn evicting() -> Behaviour {
    Behaviour { falls_prove_restart: false, ..behaviour() }
}

fn s(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_000_000_000) + SECOND * seconds as u32
}

/// `(process, [(class, value)], sampled, start)` per line.
type Line<'a> = (&'a str, &'a [(u64, f64)], u64, Option<u64>);

fn observe(counters: &mut Counters, at: u64, lines: &[Line<'_>]) -> Condition {
    let maps: Vec<BTreeMap<u64, f64>> = lines.iter().map(|(_, classes, _, _)| classes.iter().copied().collect()).collect();
    let seen = lines.iter().zip(&maps).map(|((process, _, sampled, start), classes)| Seen {
        process,
        classes,
        sampled: s(*sampled),
        start: start.map(s),
    });
    counters.observe(s(at), seen, |_| false)
}

/// Observes and takes; the sum over classes.
fn step(counters: &mut Counters, at: u64, lines: &[Line<'_>]) -> f64 {
    assert_eq!(observe(counters, at, lines), Condition::Ready, "at {at}");
    counters.take().values().sum()
}

/// One process `p`, one class, scraped at every tick.
fn total_of(behaviour: Behaviour, values: &[f64], start: impl Fn(usize) -> Option<u64>) -> f64 {
    let mut counters = Counters::new(behaviour);
    (1u64..).zip(values).map(|(i, v)| step(&mut counters, 15 * i, &[("p", &[(0, *v)], 15 * i, start(i as usize))])).sum()
}

#[test]
fn the_first_tick_only_notes() {
    assert_eq!(total_of(behaviour(), &[1000.0], |_| None), 0.0);
    assert_eq!(total_of(behaviour(), &[1000.0, 1007.0, 1010.0], |_| None), 10.0);
}

#[test]
fn replicas_in_turn_add_nothing() {
    assert_eq!(total_of(behaviour(), &[5.0, 4.0, 5.0, 4.0, 5.0], |_| None), 0.0);
    assert_eq!(total_of(behaviour(), &[5.0, 4.0, 6.0, 5.0, 7.0], |_| None), 2.0);
}

#[test]
fn a_restarted_process_counts_its_new_values() {
    // without a start time a deep fall says it; with one, the start does, however small the fall
    assert_eq!(total_of(behaviour(), &[100.0, 110.0, 4.0, 9.0], |_| None), 10.0 + 4.0 + 5.0);
    assert_eq!(total_of(evicting(), &[100.0, 110.0, 104.0], |i| Some(if i < 3 { 0 } else { 44 })), 10.0 + 104.0);
}

#[test]
fn an_implausible_value_after_a_reset_is_only_noted() {
    // largest increment 10: at most 200 are believed
    assert_eq!(total_of(behaviour(), &[1000.0, 1010.0, 201.0, 205.0], |_| None), 10.0 + 4.0);
    assert_eq!(total_of(behaviour(), &[1000.0, 1010.0, 200.0, 205.0], |_| None), 10.0 + 200.0 + 5.0);
}

#[test]
fn an_address_that_went_to_another_process_does_not_bring_its_lifetime() {
    let mut counters = Counters::new(behaviour());
    for (i, value) in [100.0, 110.0, 120.0].into_iter().enumerate() {
        step(&mut counters, 15 * (i as u64 + 1), &[("10.0.0.1:80", &[(0, value)], 15 * (i as u64 + 1), None)]);
    }
    let other = BTreeMap::from([(0, 9000.0)]);
    assert!(counters.wants_start("10.0.0.1:80", &other) && !counters.wants_start("10.0.0.1:80", &BTreeMap::from([(0, 300.0)])));
    // it started after the sample before
    assert_eq!(step(&mut counters, 60, &[("10.0.0.1:80", &[(0, 9000.0)], 60, Some(50))]), 0.0);
    assert_eq!(step(&mut counters, 75, &[("10.0.0.1:80", &[(0, 9010.0)], 75, None)]), 10.0);
    // an old process that is suddenly busy is believed
    let mut busy = Counters::new(behaviour());
    step(&mut busy, 15, &[("p", &[(0, 100.0)], 15, None)]);
    step(&mut busy, 30, &[("p", &[(0, 110.0)], 30, None)]);
    assert_eq!(step(&mut busy, 45, &[("p", &[(0, 9000.0)], 45, Some(0))]), 8890.0);
}

#[test]
fn a_scrape_interval_that_changes_loses_nothing_and_invents_no_silence() {
    for (first, then) in [(15, 30), (30, 15), (15, 25)] {
        let mut counters = Counters::new(Behaviour { scrape: SECOND * first, ..behaviour() });
        let (mut sum, mut last, mut gap) = (0.0, 0, u64::from(first));
        for at in (15..=600).step_by(15) {
            if at >= 300 {
                gap = then;
            }
            while last + gap <= at {
                last += gap;
            }
            match observe(&mut counters, at, &[("p", &[(0, last as f64)], last, None)]) {
                Condition::Ready => sum += counters.take().values().sum::<f64>(),
                Condition::Waiting(_) => {}
                Condition::Blind(why, words) => panic!("{first} to {then} at {at}: {why:?} {words}"),
            }
        }
        assert!((525.0..=600.0).contains(&sum), "{first} to {then}: {sum}");
    }
}

#[test]
fn a_gap_of_two_minutes_is_counted_once_when_it_ends() {
    let mut counters = Counters::new(behaviour());
    let mut sum = 0.0;
    for at in (15..=600).step_by(15) {
        // the server was down from 200 to 320: it answers with what it had, then nothing, then goes on
        let seen: &[Line<'_>] = if (200..320).contains(&at) { &[] } else { &[("p", &[(0, at as f64)], at, None)] };
        if observe(&mut counters, at, seen) == Condition::Ready {
            sum += counters.take().values().sum::<f64>();
        }
    }
    assert_eq!(sum, 585.0, "from the first sample to the last, once");
}

#[test]
fn an_evicted_series_is_no_restart() {
    // its start did not move: half of the counts vanished, and come back smaller
    assert_eq!(total_of(behaviour(), &[100.0, 110.0, 20.0, 23.0], |_| Some(0)), 10.0 + 3.0);
    assert_eq!(total_of(evicting(), &[100.0, 110.0, 20.0, 23.0], |_| None), 10.0 + 3.0);
    let mut counters = Counters::new(evicting());
    step(&mut counters, 15, &[("p", &[(200, 1000.0), (500, 50.0)], 15, None)]);
    assert_eq!(step(&mut counters, 30, &[("p", &[(200, 1010.0)], 30, None)]), 10.0);
    assert_eq!(step(&mut counters, 45, &[("p", &[(200, 1020.0), (500, 2.0)], 45, None)]), 10.0, "came back smaller");
    assert_eq!(step(&mut counters, 60, &[("p", &[(200, 1020.0), (500, 5.0)], 60, None)]), 3.0, "and counts from there");
}

#[test]
fn workers_behind_one_address_blind_the_arm() {
    let mut counters = Counters::new(behaviour());
    let mut counted = 0.0;
    let mut last = Condition::Ready;
    for i in 1..=12u64 {
        let value = if i % 2 == 0 { 1000.0 } else { 400.0 } + i as f64;
        last = observe(&mut counters, 15 * i, &[("p", &[(0, value)], 15 * i, None)]);
        counted += counters.take().values().sum::<f64>();
    }
    assert!(matches!(last, Condition::Blind(Blind::Alternating, _)), "{last:?}");
    // the first rise and the first fall look like a burst and a restart; nothing after them is believed
    assert_eq!(counted, 601.0 + 403.0);
    // the scraped start says it at once: it moves backwards
    let by_start = total_of(behaviour(), &[1000.0, 400.0, 1002.0], |i| Some(if i == 2 { 20 } else { 0 }));
    assert_eq!(by_start, 0.0);
}

#[test]
fn a_crash_loop_is_not_several_workers() {
    // every restart is proven by its start
    let sum = total_of(behaviour(), &[10.0, 20.0, 3.0, 4.0, 5.0, 2.0, 6.0], |i| Some(15 * i as u64 - 5));
    assert_eq!(sum, 20.0 + 3.0 + 4.0 + 5.0 + 2.0 + 6.0);
}

#[test]
fn a_start_that_jitters_is_no_restart() {
    // Envoy's uptime is renewed every 5 s: the start it implies wanders by as much
    assert_eq!(total_of(behaviour(), &[100.0, 110.0, 121.0, 130.0, 142.0, 150.0], |i| Some([0, 5, 1, 6, 0, 4][i - 1])), 50.0);
}

#[test]
fn a_busy_process_restarted_counts_all_it_has() {
    assert_eq!(total_of(behaviour(), &[100.0, 110.0, 150.0], |i| Some(if i < 3 { 0 } else { 40 })), 10.0 + 150.0);
}

#[test]
fn a_class_of_a_known_process_counts_from_zero() {
    let mut counters = Counters::new(behaviour());
    step(&mut counters, 15, &[("p", &[(200, 100.0)], 15, None)]);
    assert_eq!(step(&mut counters, 30, &[("p", &[(200, 100.0), (503, 3.0)], 30, None)]), 3.0);
}

#[test]
fn a_newborn_counts_only_if_it_was_born_since_the_last_tick() {
    let first: &[Line<'_>] = &[("old", &[(0, 100.0)], 15, None)];
    for (start, expected) in [(Some(20), 3.0), (Some(10), 0.0), (None, 0.0)] {
        let mut counters = Counters::new(behaviour());
        step(&mut counters, 15, first);
        let sum = step(&mut counters, 30, &[("old", &[(0, 100.0)], 30, None), ("new", &[(0, 3.0)], 30, start)]);
        assert_eq!(sum, expected, "start {start:?}");
        let next = step(&mut counters, 45, &[("old", &[(0, 100.0)], 45, None), ("new", &[(0, 5.0)], 45, start)]);
        assert_eq!(next, 2.0, "after that it counts like any other");
    }
}

#[test]
fn a_newborn_with_a_lifetime_behind_it_is_not_believed() {
    let mut counters = Counters::new(behaviour());
    step(&mut counters, 15, &[("old", &[(0, 100.0)], 15, None)]);
    step(&mut counters, 30, &[("old", &[(0, 110.0)], 30, None)]);
    let sum = step(&mut counters, 45, &[("old", &[(0, 120.0)], 45, None), ("new", &[(0, 9000.0)], 45, Some(40))]);
    assert_eq!(sum, 10.0);
}

#[test]
fn a_process_known_for_the_other_arm_counts_from_zero() {
    let mut counters = Counters::new(behaviour());
    assert!(matches!(observe(&mut counters, 15, &[]), Condition::Blind(Blind::NoSeries, _)));
    let classes = BTreeMap::from([(200, 7.0)]);
    let seen = Seen { process: "envoy", classes: &classes, sampled: s(30), start: None };
    assert_eq!(counters.observe(s(30), [seen], |p| p == "envoy"), Condition::Ready);
    assert_eq!(counters.take()[&200], 7.0);
}

#[test]
fn a_process_that_could_not_be_read_did_not_begin_at_zero() {
    let mut counters = Counters::new(behaviour());
    let mut take = |at: u64, value: f64| {
        let classes = BTreeMap::from([(200, value)]);
        counters.observe(s(at), [Seen { process: "envoy", classes: &classes, sampled: s(at), start: None }], |_| true);
        counters.take().values().sum::<f64>()
    };
    assert_eq!(take(15, f64::NAN), 0.0);
    assert_eq!(take(30, 1000.0), 0.0, "what the last rollout left is noted");
    assert_eq!(take(45, 1004.0), 4.0);
}

#[test]
fn nothing_falls_when_a_process_is_gone() {
    let mut counters = Counters::new(behaviour());
    step(&mut counters, 15, &[("a", &[(0, 100.0)], 15, None), ("b", &[(0, 500.0)], 15, None)]);
    assert_eq!(observe(&mut counters, 30, &[("a", &[(0, 110.0)], 30, None)]), Condition::Waiting("b".into()));
    assert_eq!(observe(&mut counters, 45, &[("a", &[(0, 115.0)], 45, None)]), Condition::Waiting("b".into()));
    // two scrapes missed: left out, named, and what waited is there
    assert_eq!(step(&mut counters, 60, &[("a", &[(0, 120.0)], 60, None)]), 20.0);
    assert_eq!(counters.silent(s(60)), ["b"]);
    // a gap is bridged when it comes back
    assert_eq!(step(&mut counters, 75, &[("a", &[(0, 120.0)], 75, None), ("b", &[(0, 540.0)], 75, None)]), 40.0);
}

#[test]
fn an_arm_all_of_whose_processes_are_silent_is_blind() {
    let mut counters = Counters::new(behaviour());
    step(&mut counters, 15, &[("a", &[(0, 100.0)], 15, None)]);
    assert_eq!(observe(&mut counters, 30, &[]), Condition::Waiting("a".into()));
    observe(&mut counters, 45, &[]);
    assert!(matches!(observe(&mut counters, 60, &[]), Condition::Blind(Blind::Silent, _)));
}

#[test]
fn a_sample_seen_twice_is_used_once() {
    let mut counters = Counters::new(behaviour());
    step(&mut counters, 15, &[("a", &[(0, 100.0)], 14, None)]);
    assert_eq!(observe(&mut counters, 20, &[("a", &[(0, 100.0)], 14, None)]), Condition::Waiting("a".into()));
    assert_eq!(step(&mut counters, 30, &[("a", &[(0, 104.0)], 29, None)]), 4.0);
}

#[test]
fn what_is_no_number_was_not_scraped() {
    let mut counters = Counters::new(behaviour());
    step(&mut counters, 15, &[("a", &[(0, 100.0)], 15, None)]);
    let nan = observe(&mut counters, 30, &[("a", &[(0, f64::NAN)], 30, None)]);
    assert!(matches!(nan, Condition::Blind(Blind::NotANumber, _)), "{nan:?}");
    let infinite = observe(&mut counters, 45, &[("a", &[(0, f64::INFINITY)], 45, None)]);
    assert!(matches!(infinite, Condition::Blind(Blind::NotANumber, _)));
    assert_eq!(step(&mut counters, 60, &[("a", &[(0, 130.0)], 60, None)]), 30.0, "what was pending comes with the next good one");
}

#[test]
fn the_start_is_asked_for_only_where_it_matters() {
    let mut counters = Counters::new(behaviour());
    let at = |v: f64| BTreeMap::from([(0, v)]);
    assert!(!counters.wants_start("p", &at(5.0)), "the first tick only notes");
    step(&mut counters, 15, &[("p", &[(0, 5.0)], 15, None)]);
    assert!(!counters.wants_start("p", &at(5.0)));
    assert!(counters.wants_start("p", &at(4.0)));
    assert!(counters.wants_start("q", &at(4.0)));
}

#[test]
fn of_buckets_the_last_is_the_total() {
    let bits = |v: f64| v.to_bits();
    let mut counters = Counters::new(Behaviour { total: Total::Last, ..behaviour() });
    let line = |a, b, c| [(bits(5.0), a), (bits(10.0), b), (f64::INFINITY.to_bits(), c)];
    step(&mut counters, 15, &[("p", &line(1.0, 5.0, 9.0), 15, None)]);
    assert_eq!(observe(&mut counters, 30, &[("p", &line(2.0, 8.0, 13.0), 30, None)]), Condition::Ready);
    assert_eq!(counters.take().into_values().collect::<Vec<_>>(), [1.0, 3.0, 4.0]);
}

proptest! {
    /// Whatever is missed, whenever it is asked: without resets the increments add up to the true growth.
    #[test]
    fn increments_add_up_to_the_growth(
        polls in proptest::collection::vec(proptest::collection::vec((0u32..50, 0u32..5, proptest::bool::weighted(0.8)), 3), 2..60)
    ) {
        let mut counters = Counters::new(behaviour());
        let mut now = [(0u64, 0u64); 3];
        let mut base: [Option<u64>; 3] = [None; 3];
        let mut counted = 0.0;
        let names = ["a", "b", "c"];
        let poll = |at: u64, now: &[(u64, u64); 3], there: &dyn Fn(usize) -> bool, counters: &mut Counters| {
            let maps: Vec<BTreeMap<u64, f64>> =
                now.iter().map(|(good, bad)| BTreeMap::from([(200, *good as f64), (500, *bad as f64)])).collect();
            let seen = (0..3).filter(|i| there(*i)).map(|i| Seen { process: names[i], classes: &maps[i], sampled: s(at), start: None });
            if counters.observe(s(at), seen, |_| false) == Condition::Ready { counters.take().values().sum() } else { 0.0 }
        };
        let last = polls.len() as u64 + 1;
        for (tick, poll_of) in (1u64..).zip(&polls) {
            for (i, (good, bad, there)) in poll_of.iter().enumerate() {
                now[i].0 += u64::from(*good);
                now[i].1 += u64::from(*bad);
                if *there && base[i].is_none() {
                    base[i] = Some(now[i].0 + now[i].1);
                }
            }
            counted += poll(15 * tick, &now, &|i| poll_of[i].2, &mut counters);
        }
        for (i, first) in base.iter_mut().enumerate() {
            first.get_or_insert(now[i].0 + now[i].1);
        }
        counted += poll(15 * last, &now, &|_| true, &mut counters);
        let growth: u64 = (0..3).map(|i| now[i].0 + now[i].1 - base[i].unwrap_or(0)).sum();
        prop_assert_eq!(counted, growth as f64);
    }

    /// Asking more often than samples are taken changes nothing (PACKS 1.2).
    #[test]
    fn ticks_shorter_than_the_scrape_interval_give_the_same_counts(values in proptest::collection::vec(0u32..30, 2..40)) {
        let run = |tick: u64| {
            let mut counters = Counters::new(behaviour());
            let mut taken = Vec::new();
            // the sources go on without new counts for a while: what still waits is released
            for at in (tick..=15 * values.len() as u64 + 45).step_by(tick as usize) {
                let (phases, mut lines) = ([4u64, 11], Vec::new());
                for (process, phase) in phases.iter().enumerate() {
                    if at >= *phase {
                        let scrapes = (at - phase) / 15;
                        let value: u32 = values.iter().take(scrapes as usize + 1).sum();
                        lines.push((["a", "b"][process], BTreeMap::from([(0, f64::from(value))]), phase + 15 * scrapes));
                    }
                }
                let seen = lines.iter().map(|(process, classes, t)| Seen { process, classes, sampled: s(*t), start: Some(s(0)) });
                if counters.observe(s(at), seen, |_| false) == Condition::Ready {
                    taken.push(counters.take().values().sum::<f64>());
                }
            }
            taken.into_iter().sum::<f64>()
        };
        prop_assert_eq!(run(5), run(15));
    }
}
