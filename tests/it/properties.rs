//! What must hold for any input: factors average to at most one at the edge of their null, nothing but finite numbers comes
//! out, the isolated-jump rule only lowers.

use canaryd::analysis::Judge;
use canaryd::model::{ArmSample, Blind, Buckets, Counts, History, Judgement, LoadHistory, PerArm, Poll, Reading, Timestamp};
use canaryd::stats::counts::{LevelTest, Null, Tolerance, TwoArms, count_lf, count_lfs, tolerance_lfs};
use canaryd::stats::cut::Cut;
use canaryd::stats::dispersion::{BaselineDispersion, PairedDispersion, scales};
use canaryd::stats::grid::{DOWN, UP};
use canaryd::stats::harm::{CLIP, Harm};
use canaryd::stats::interval::{quantile, rate};
use proptest::prelude::*;

use crate::judge::{BOUNDS_MS, everything};

// ---- by exact enumeration

fn binomial(n: u32, p: f64) -> Vec<f64> {
    let mut row = vec![1.0];
    for _ in 0..n {
        let mut next = vec![0.0; row.len() + 1];
        for (k, v) in row.iter().enumerate() {
            next[k] += v * (1.0 - p);
            next[k + 1] += v * p;
        }
        row = next;
    }
    row
}

/// Expectations of `exp(lf)` over all outcomes of two arms.
fn expectations<const K: usize>(n_b: u32, n_c: u32, p_b: f64, p_c: f64, lf: impl Fn(&TwoArms) -> [f64; K]) -> [f64; K] {
    let (b, c) = (binomial(n_b, p_b), binomial(n_c, p_c));
    let mut sum = [0.0; K];
    for (x_b, pb) in b.iter().enumerate() {
        for (x_c, pc) in c.iter().enumerate() {
            let x = TwoArms { x_b: x_b as f64, n_b: f64::from(n_b), x_c: x_c as f64, n_c: f64::from(n_c) };
            for (s, f) in sum.iter_mut().zip(lf(&x)) {
                *s += pb * pc * f.exp();
            }
        }
    }
    sum
}

fn at_most_one<const K: usize>(e: [f64; K]) -> Result<(), TestCaseError> {
    for (k, v) in e.into_iter().enumerate() {
        prop_assert!(v <= 1.0 + 1e-9, "alternative {k} averages {v}");
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_factor_of_harm_averages_at_most_one_at_the_edge_of_its_null(
        n_b in 0u32..12, n_c in 0u32..12, p_b in 0.0..0.9, r in 0.5..6.0, d in 0.0..0.1, phi in 1.0..8.0
    ) {
        let p_c = f64::min(r * p_b + d, 1.0);
        at_most_one(expectations(n_b, n_c, p_b, p_c, |x| count_lfs(x, Null { r, d }, &UP, phi)))?;
    }

    #[test]
    fn a_factor_of_non_inferiority_averages_at_most_one_at_the_edge_of_its_null(
        n_b in 0u32..12, n_c in 0u32..12, p_b in 0.0..0.6, r in 0.5..1.5, d in 0.0..0.1, phi in 1.0..8.0
    ) {
        at_most_one(expectations(n_b, n_c, p_b, r * p_b + d, |x| count_lfs(x, Null { r, d }, &DOWN, phi)))?;
    }

    #[test]
    fn the_pointwise_tolerance_holds_whichever_half_binds(
        n_b in 0u32..12, n_c in 0u32..12, p_b in 0.0..0.8, relative in 0.0..1.0, absolute in 0.0..0.1
    ) {
        let t = Tolerance { relative, absolute };
        let p_c = f64::max((1.0 + relative) * p_b, p_b + absolute).min(1.0);
        at_most_one(expectations(n_b, n_c, p_b, p_c, |x| tolerance_lfs(x, t, &UP, 1.0)))?;
    }

    #[test]
    fn a_limit_averages_exactly_one_at_its_level_and_the_attributed_one_at_most(
        n_b in 0u32..12, n_c in 0u32..12, p_b in 0.0..0.8, level in 0.001..0.9
    ) {
        let up = LevelTest::new(level, &UP);
        for e in expectations(0, n_c, 0.0, level, |x| up.lfs(x.x_c, x.n_c, &UP, 1.0)) {
            prop_assert!((e - 1.0).abs() < 1e-9, "{e}");
        }
        let down = LevelTest::new(level, &DOWN);
        at_most_one(expectations(0, n_c, 0.0, level, |x| down.lfs(x.x_c, x.n_c, &DOWN, 1.0)))?;
        let p_c = f64::max(level, 1.2 * p_b).min(1.0);
        at_most_one(expectations(n_b, n_c, p_b, p_c, |x| up.attributed_lfs(x, 1.2, &UP, 1.0)))?;
    }

    // ---- algebra

    #[test]
    fn factors_of_polls_with_one_share_add_up(
        x in prop::array::uniform4(0u32..50), n_c in 50u32..1000, k in 1u32..5, ratio in 1u32..9, r in 0.5..3.0, d in 0.0..0.01
    ) {
        let n_b = n_c * ratio;
        let of = |x_b: u32, x_c: u32, n_b: u32, n_c: u32| TwoArms { x_b: x_b.into(), n_b: n_b.into(), x_c: x_c.into(), n_c: n_c.into() };
        let (a, b) = (of(x[0], x[1], n_b, n_c), of(x[2], x[3], k * n_b, k * n_c));
        let both = TwoArms { x_b: a.x_b + b.x_b, n_b: a.n_b + b.n_b, x_c: a.x_c + b.x_c, n_c: a.n_c + b.n_c };
        let null = Null { r, d };
        for (g, ln_g) in UP.g.into_iter().zip(UP.ln_g).chain(DOWN.g.into_iter().zip(DOWN.ln_g)) {
            let apart = count_lf(&a, null, g, ln_g) + count_lf(&b, null, g, ln_g);
            let together = count_lf(&both, null, g, ln_g);
            prop_assert!((apart - together).abs() <= 1e-9 * (1.0 + apart.abs()), "g {g}: {apart} and {together}");
        }
    }

    #[test]
    fn an_empty_arm_says_nothing(x in 0u32..100, n in 1u32..1000, r in 0.0..6.0, d in 0.0..0.1, canary in any::<bool>()) {
        let (x, n) = (f64::from(x.min(n)), f64::from(n));
        let one = if canary { TwoArms { x_c: x, n_c: n, ..TwoArms::NONE } } else { TwoArms { x_b: x, n_b: n, ..TwoArms::NONE } };
        prop_assert_eq!(count_lfs(&one, Null { r, d }, &UP, 1.0), [0.0; 9]);
        prop_assert_eq!(count_lfs(&one, Null { r, d }, &DOWN, 1.0), [0.0; 7]);
    }

    #[test]
    fn the_isolated_jump_rule_only_lowers(polls in prop::collection::vec((-20.0..20.0f64, any::<bool>(), any::<bool>()), 1..60)) {
        let mut cut = Cut::default();
        for (ln_e, hot, data) in polls {
            let used = cut.step(ln_e, hot, data);
            prop_assert!(used <= ln_e, "{used} above {ln_e}");
        }
    }

    #[test]
    fn one_poll_adds_at_most_the_clip(before in prop::collection::vec(-5.0..2.9f64, 0..20), jump in 3.0..1e6f64) {
        let mut harm = Harm::from_start(&UP);
        let mut ln_e = 0.0;
        for (i, lf) in before.iter().enumerate() {
            ln_e = harm.update(15.0 * (i + 1) as f64, 1800.0, &[*lf; 9], true);
        }
        let after = harm.update(15.0 * (before.len() + 1) as f64, 1800.0, &[jump; 9], true);
        prop_assert!(after <= ln_e + CLIP + 1e-9, "{ln_e} to {after}");
    }

    #[test]
    fn dispersion_is_at_least_one_and_finite(polls in prop::collection::vec(prop::array::uniform4(0u32..5000), 0..200)) {
        let lengths = scales(15.0, &[60.0, 240.0, 960.0]);
        let mut base = [BaselineDispersion::with_history(&lengths), BaselineDispersion::learning(&lengths[..3])];
        let mut pair = PairedDispersion::new(&lengths);
        for [x_b, n_b, x_c, n_c] in polls {
            let (x_b, n_b, x_c, n_c) = (f64::from(x_b.min(n_b)), f64::from(n_b), f64::from(x_c.min(n_c)), f64::from(n_c));
            base.iter_mut().for_each(|b| b.add(x_b, n_b));
            pair.add(x_b, n_b, x_c, n_c);
        }
        for phi in [base[0].phi(), base[1].phi(), pair.phi(base[0].phi())] {
            prop_assert!(phi >= 1.0 && phi.is_finite(), "{phi}");
        }
    }

    #[test]
    fn an_interval_contains_its_estimate(n in 1.0..1e7f64, share in 0.0..1.0f64, phi in 1.0..50.0f64) {
        let x = (n * share).floor();
        let (low, high) = rate(x / phi, n / phi, 0.05);
        prop_assert!((0.0..=1.0).contains(&low) && (0.0..=1.0).contains(&high));
        prop_assert!(low <= x / n + 1e-12 && x / n <= high + 1e-12, "{low} {} {high}", x / n);
    }

    #[test]
    fn a_quantile_interval_is_in_order(steps in prop::collection::vec(0u32..500, 11), q in 0.5..0.999f64, phi in 1.0..20.0f64) {
        let mut row: Vec<f64> = steps.iter().map(|s| f64::from(*s)).collect();
        for i in 1..row.len() {
            row[i] += row[i - 1];
        }
        if let Some((low, high)) = quantile(&BOUNDS_MS, &row, q, 0.05, phi) {
            prop_assert!(low >= 0.0 && low <= high && !low.is_nan() && !high.is_nan(), "{low} {high}");
        }
    }
}

// ---- the whole judge on anything a source may send

fn wild() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => 0.0..1e4f64,
        2 => (0u32..2000).prop_map(f64::from),
        1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, -0.0, 1e300, 1e-300, 1e15, 9e15, f64::MAX, f64::MIN_POSITIVE]),
    ]
}

fn reading<T: std::fmt::Debug>(value: impl Strategy<Value = T>) -> impl Strategy<Value = Reading<T>> {
    (value, 0u8..8).prop_map(|(v, k)| if k == 0 { Err(Blind::NoSeries) } else { Ok(v) })
}

fn counts() -> impl Strategy<Value = Counts> {
    (wild(), wild(), any::<bool>()).prop_map(|(total, bad, possible)| Counts { total, bad: if possible { bad.min(total) } else { bad } })
}

fn buckets() -> impl Strategy<Value = Buckets> {
    (prop::collection::vec(wild(), 9..12), any::<bool>()).prop_map(|(mut row, sorted)| {
        if sorted {
            row.sort_by(f64::total_cmp);
        }
        row.into_iter().collect()
    })
}

fn sample() -> impl Strategy<Value = ArmSample> {
    let gauge = || reading(wild());
    let customs = (reading(counts()), gauge(), prop::option::of(0u32..6));
    ((reading(counts()), gauge(), reading(buckets())), (gauge(), gauge(), gauge()), customs).prop_map(
        |((requests, abandoned, buckets), (cpu, memory, floor), (count, level, pods))| ArmSample {
            requests,
            abandoned,
            buckets,
            cpu,
            memory,
            floor,
            pods,
            custom_counts: [count].into_iter().collect(),
            custom_gauges: [level].into_iter().collect(),
        },
    )
}

fn polls() -> impl Strategy<Value = Vec<Poll>> {
    let one = (sample(), sample(), 0i64..4, 0u32..2, any::<bool>());
    prop::collection::vec(one, 1..60).prop_map(|rows| {
        let (mut at, mut step) = (0, 0);
        rows.into_iter()
            .enumerate()
            .map(|(i, (baseline, canary, ticks, next, counts_time))| {
                at += 15_000 * if ticks == 3 { 40 } else { ticks };
                step += if i % 10 == 9 { next } else { 0 };
                Poll { at: Timestamp::from_millis(at), step, counts_time, arms: PerArm { baseline, canary }, changes: Vec::new() }
            })
            .collect()
    })
}

fn histories() -> impl Strategy<Value = History> {
    let some = |n: usize| prop::collection::vec(prop::option::weighted(0.95, wild()), n);
    let past = |n: usize| prop::collection::vec(prop::option::weighted(0.95, counts()), n);
    let rows = prop::collection::vec(prop::option::weighted(0.98, buckets()), 0..130);
    let load = (prop::collection::vec(wild(), 70), prop::collection::vec(wild(), 70));
    (past(130), rows, (some(130), some(130), some(130)), past(130), prop::option::of(load)).prop_map(
        |(requests, buckets, (cpu, memory, leak), custom, load)| History {
            requests,
            buckets,
            cpu: cpu.clone(),
            memory,
            leak,
            load: load.map(|(rate, cpu)| LoadHistory { rate, cpu }),
            custom_counts: vec![custom],
            custom_gauges: vec![cpu],
        },
    )
}

fn finite(out: &Judgement) -> Result<(), TestCaseError> {
    let mut numbers = vec![out.ln_total, out.ln_rollback, out.ln_ok, out.p_value, out.score, out.progress, out.t_s.unwrap_or(0.0)];
    numbers.extend([out.clock.counted_s, out.clock.for_s, out.clock.canary_requests]);
    for m in &out.metrics {
        numbers.extend([m.ln_harm, m.ln_harm_cut, m.ln_ok, m.share, m.phi]);
        for e in [m.estimate.baseline, m.estimate.canary].into_iter().flatten() {
            numbers.extend([e.low, e.mid]);
            prop_assert!(!e.high.is_nan());
        }
    }
    for l in &out.limits {
        numbers.extend([l.level, l.threshold]);
        // a gauge's limit is a rule without evidence
        let rule = l.evidence.baseline.is_nan() && l.evidence.canary.is_nan();
        numbers.extend(if rule { [0.0; 2] } else { [l.evidence.baseline, l.evidence.canary] });
    }
    numbers.extend(out.bakes.iter().flat_map(|b| [b.level, b.evidence]));
    prop_assert!(numbers.iter().all(|v| v.is_finite()), "{out:?}");
    prop_assert!((0.0..=100.0).contains(&out.score) && (0.0..=1.0).contains(&out.p_value) && (0.0..=1.0).contains(&out.progress));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_source_sends_only_numbers_come_out(history in histories(), polls in polls()) {
        let mut judge = Judge::new(&everything(), &history).expect("a rule that can be judged");
        let mut out = Judgement::empty(Timestamp::default(), 0);
        for p in &polls {
            judge.poll(p, &mut out);
            finite(&out)?;
            for m in &out.metrics {
                prop_assert!(m.ln_harm_cut <= m.ln_harm + 1e-12, "the cut raised {m:?}");
            }
        }
    }

    #[test]
    fn the_same_polls_give_the_same_answers(polls in polls()) {
        let new = || Judge::new(&everything(), &History::default()).expect("a judge");
        let (mut a, mut b) = (new(), new());
        let (mut out_a, mut out_b) = (Judgement::empty(Timestamp::default(), 0), Judgement::empty(Timestamp::default(), 0));
        for p in &polls {
            a.poll(p, &mut out_a);
            b.poll(p, &mut out_b);
            // as text: not-a-number of a gauge's evidence equals itself there
            prop_assert_eq!(format!("{out_a:?}"), format!("{out_b:?}"));
        }
    }
}
