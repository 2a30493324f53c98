//! Errors and the rule's own counts: pointwise tolerance in one process, mixed with the warm-up guard (STATISTICS 2, 2.2).

use super::clock::Clock;
use super::process::{HarmProcess, OkProcess};
use crate::stats::counts::{Null, Tolerance, TwoArms, count_lfs, tolerance_lfs};
use crate::stats::cut::Cut;
use crate::stats::grid::{DOWN, K_DOWN, K_UP, UP};
use crate::stats::logsum::ln_add;
use std::f64::consts::LN_2;

/// Share of the guard in a metric's evidence.
pub const GUARD_SHARE: f64 = 0.1;
/// Its null: five times and 2 percentage points, as a sum, which contains the maximum.
pub const GUARD_NULL: Null = Null { r: 5.0, d: 0.02 };

/// `ln((1 - share) e^main + share e^guard)`.
pub(super) fn with_guard(main: f64, guard: f64) -> f64 {
    ln_add((1.0 - GUARD_SHARE).ln() + main, GUARD_SHARE.ln() + guard)
}

/// Evidence of one metric after a poll, nats.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evidence {
    /// Of harm.
    pub ln_harm: f64,
    /// After the isolated-jump rule.
    pub ln_cut: f64,
    /// Of non-inferiority in this step.
    pub ln_ok: f64,
    /// Was a factor clipped?
    pub hot: bool,
}

/// The comparison of one count metric.
#[derive(Clone, Debug)]
pub struct CountTest {
    tolerance: Tolerance,
    margin: [Null; 2],
    main: HarmProcess<K_UP>,
    guard: HarmProcess<K_UP>,
    ok: [OkProcess<K_DOWN>; 2],
    cut: Cut,
}

impl CountTest {
    /// `main_since_s`: end of the warm-up, or of the burn-in without history; `ok_since_s`: end of the warm-up.
    pub fn new(tolerance: Tolerance, margin: Tolerance, main_since_s: f64, ok_since_s: f64) -> Self {
        Self {
            tolerance,
            margin: margin.halves(),
            main: HarmProcess::new(&UP, main_since_s),
            guard: HarmProcess::guard(&UP, 0.0),
            ok: std::array::from_fn(|_| OkProcess::new(&DOWN, ok_since_s)),
            cut: Cut::default(),
        }
    }

    /// One poll; `x` is `None` if it is not usable.
    pub fn step(&mut self, clock: &Clock, x: Option<&TwoArms>, phi: f64) -> Evidence {
        let data = x.is_some_and(|x| x.n_c > 0.0);
        let x = x.unwrap_or(&TwoArms::NONE);
        let main = self.main.step(clock, data, || tolerance_lfs(x, self.tolerance, &UP, phi));
        let guard = self.guard.step(clock, data, || count_lfs(x, GUARD_NULL, &UP, phi));
        let ln_harm = with_guard(main, guard);
        let hot = self.main.hot() || self.guard.hot();
        let [a, b] = &mut self.ok;
        let [null_a, null_b] = self.margin;
        let ln_ok = ln_add(a.step(clock, || count_lfs(x, null_a, &DOWN, phi)), b.step(clock, || count_lfs(x, null_b, &DOWN, phi))) - LN_2;
        Evidence { ln_harm, ln_cut: self.cut.step(ln_harm, hot, data), ln_ok, hot }
    }

    /// `ln E` of the main process and of the guard.
    pub fn parts(&self) -> (f64, f64) {
        (self.main.ln_e(), self.guard.ln_e())
    }
}
