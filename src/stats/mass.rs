//! Accumulated evidence of each alternative of a mixture: products of factors, to which mass is added on the way.
//!
//! As plain numbers a poll costs one exponential per alternative; as logarithms it costs three. Plain numbers reach from 1e-308 to
//! 1e308 only, and evidence does not stop there: a process that leaves the middle of that range goes on in logarithms until it is
//! back, and nothing is lost on the way.

use super::fast::exp_each;
use super::grid::Grid;
use super::logsum::{ln_add_each, ln_sum_with};

/// Plain numbers are left beyond this power of e, and come back within [`PLAIN_AGAIN`]: far enough apart that no process goes to
/// and fro at every poll.
const PLAIN: f64 = 500.0;
const PLAIN_AGAIN: f64 = 300.0;
/// `e^-PLAIN` and `e^PLAIN`, rounded inwards.
const LEAST: f64 = 1e-217;
const MOST: f64 = 1e217;

/// One number per alternative.
#[derive(Clone, Debug)]
pub(super) struct Mass<const K: usize> {
    pi: [f64; K],
    ln_pi: [f64; K],
    /// The numbers, or their logarithms.
    l: [f64; K],
    in_logs: bool,
}

impl<const K: usize> Mass<K> {
    /// Every alternative at `start >= 0`.
    pub(super) fn new(grid: &Grid<K>, start: f64) -> Self {
        Self { pi: grid.ln_pi.map(f64::exp), ln_pi: grid.ln_pi, l: [start; K], in_logs: false }
    }

    /// Every alternative back to `start >= 0`.
    pub(super) fn reset(&mut self, start: f64) {
        (self.l, self.in_logs) = ([start; K], false);
    }

    /// Adds `fresh >= 0` to each, then multiplies each by `e^lf` (`lf` finite). Returns the logarithm of the weighted sum and of
    /// `rest >= 0`; `-inf` for nothing at all.
    pub(super) fn step(&mut self, fresh: f64, lf: &[f64; K], rest: f64) -> f64 {
        if !self.in_logs {
            if let Some(ln) = self.step_plain(fresh, lf, rest) {
                return ln;
            }
            self.l = self.l.map(f64::ln);
            self.in_logs = true;
        }
        self.step_in_logs(fresh, lf, rest)
    }

    /// `None`, and nothing done, if a number would leave the range.
    #[inline(always)]
    fn step_plain(&mut self, fresh: f64, lf: &[f64; K], rest: f64) -> Option<f64> {
        let factors = exp_each(lf);
        let (mut grown, mut sum, mut within) = ([0.0; K], rest, true);
        for k in 0..K {
            grown[k] = (self.l[k] + fresh) * factors[k];
            // the factor too: below e^-708 it is cut off. Where mass is added on the way, what is that small never shows again
            // beside it: both are multiplied alike from then on
            let large_enough = fresh > 0.0 || (grown[k] >= LEAST && lf[k] > -PLAIN);
            within &= grown[k] <= MOST && large_enough;
            sum += self.pi[k] * grown[k];
        }
        if !within {
            return None;
        }
        self.l = grown;
        Some(sum.ln())
    }

    #[cold]
    fn step_in_logs(&mut self, fresh: f64, lf: &[f64; K], rest: f64) -> f64 {
        self.l = ln_add_each(&self.l, if fresh > 0.0 { fresh.ln() } else { f64::NEG_INFINITY });
        let mut terms = self.ln_pi;
        for k in 0..K {
            self.l[k] += lf[k];
            terms[k] += self.l[k];
        }
        let ln = ln_sum_with(&terms, rest);
        if self.l.iter().all(|l| l.abs() < PLAIN_AGAIN) {
            self.l = self.l.map(f64::exp);
            self.in_logs = false;
        }
        ln
    }

    /// The logarithm of the weighted sum as it stands.
    pub(super) fn ln(&self) -> f64 {
        if self.in_logs {
            let terms = std::array::from_fn::<f64, K, _>(|k| self.ln_pi[k] + self.l[k]);
            return ln_sum_with(&terms, 0.0);
        }
        self.pi.iter().zip(&self.l).map(|(pi, l)| pi * l).sum::<f64>().ln()
    }
}

#[cfg(test)]
mod tests {
    use super::super::grid::{K_UP, UP};
    use super::*;
    use proptest::prelude::*;

    /// The same in logarithms from the start, one by one, by the library's functions.
    struct Slow {
        l: [f64; K_UP],
    }

    impl Slow {
        fn step(&mut self, fresh: f64, lf: &[f64; K_UP], rest: f64) -> f64 {
            let add = |a: f64, b: f64| {
                let (top, low) = (a.max(b), a.min(b));
                if low == f64::NEG_INFINITY { top } else { top + (low - top).exp().ln_1p() }
            };
            let mut sum = rest.ln();
            for ((l, lf), ln_pi) in self.l.iter_mut().zip(lf).zip(UP.ln_pi) {
                *l = add(*l, fresh.ln()) + lf;
                sum = add(sum, ln_pi + *l);
            }
            sum
        }
    }

    proptest! {
        /// Runs far beyond what plain numbers hold, upwards and downwards, with and without fresh mass, there and back.
        #[test]
        fn it_says_what_logarithms_say_wherever_it_goes(
            stretches in proptest::collection::vec((-60.0..12.0f64, 1..120usize, prop_oneof![Just(0.0), 1e-7..0.1f64]), 1..6),
            slant in -1.0..1.0f64,
            start in prop_oneof![Just(0.0), Just(1.0)],
        ) {
            let (mut mass, mut slow) = (Mass::new(&UP, start), Slow { l: [start.ln(); K_UP] });
            let mut begun = start > 0.0;
            for (step, times, fresh) in stretches {
                let fresh = if begun { fresh } else { 0.5 };
                begun = true;
                let lf: [f64; K_UP] = std::array::from_fn(|k| step * (1.0 + slant * k as f64 / K_UP as f64));
                for _ in 0..times {
                    let (got, want) = (mass.step(fresh, &lf, 0.25), slow.step(fresh, &lf, 0.25));
                    prop_assert!((got - want).abs() <= 1e-10 + 1e-12 * want.abs(), "{got} for {want}");
                }
            }
        }

        #[test]
        fn one_poll_may_say_anything(lf in -1e7..12.0f64, after in 0.0..12.0f64) {
            let (mut mass, mut slow) = (Mass::new(&UP, 1.0), Slow { l: [0.0; K_UP] });
            for lf in [lf, after, after] {
                let (got, want) = (mass.step(0.0, &[lf; K_UP], 0.0), slow.step(0.0, &[lf; K_UP], 0.0));
                prop_assert!((got - want).abs() <= 1e-9 + 1e-12 * want.abs(), "{got} for {want}");
                prop_assert!((mass.ln() - want).abs() <= 1e-9 + 1e-12 * want.abs());
            }
        }
    }

    /// A healthy service far below a limit: each poll says `e^-5000`, and an outage afterwards is seen as ever.
    #[test]
    fn what_is_added_afterwards_outweighs_what_was_too_small_to_be_kept() {
        let (mut mass, mut slow) = (Mass::new(&UP, 0.0), Slow { l: [f64::NEG_INFINITY; K_UP] });
        for i in 0..400 {
            let lf = [if i % 7 == 6 || i > 300 { 11.0 } else { -5000.0 }; K_UP];
            let (got, want) = (mass.step(1e-6, &lf, 0.5), slow.step(1e-6, &lf, 0.5));
            assert!((got - want).abs() <= 1e-10 + 1e-12 * want.abs(), "poll {i}: {got} for {want}");
        }
        assert!(mass.ln() > 1000.0);
    }

    #[test]
    fn it_begins_anew() {
        let mut mass = Mass::new(&UP, 1.0);
        mass.step(0.0, &[-900.0; K_UP], 0.0);
        mass.reset(1.0);
        assert!(mass.ln().abs() < 1e-15);
    }
}
