//! A state label of one arm against a level: on while the arm stands above it, off soon after (STATISTICS 7.2). Not a test.

use super::counts::LevelTest;
use super::grid::{K_LABEL, LABEL};
use super::harm::CLIP;
use super::logsum::ln_sum;

/// On at this mixture value.
pub const ON: f64 = 6.0;
/// Off at or below this one.
pub const OFF: f64 = 3.0;
const CAP: f64 = 10.0;

/// Mixture CUSUM with hysteresis.
#[derive(Clone, Debug)]
pub struct Label {
    test: LevelTest<K_LABEL>,
    sums: [f64; K_LABEL],
    value: f64,
    on: bool,
}

impl Label {
    /// Against `level` in `(0, 1)`.
    pub fn new(level: f64) -> Self {
        Self { test: LevelTest::new(level, &LABEL), sums: [0.0; K_LABEL], value: 0.0, on: false }
    }

    /// `x` bad out of `n` of this arm in one poll, dispersion `phi_0` of the start. Returns the value and whether it is on.
    pub fn step(&mut self, x: f64, n: f64, phi_0: f64) -> (f64, bool) {
        let lf = self.test.lfs(x, n, &LABEL, phi_0);
        let mut terms = LABEL.ln_pi;
        for k in 0..K_LABEL {
            self.sums[k] = (self.sums[k] + lf[k].min(CLIP)).clamp(0.0, CAP);
            terms[k] += self.sums[k];
        }
        // most labels stand at rest: the weights sum to 1
        self.value = if self.sums == [0.0; K_LABEL] { 0.0 } else { ln_sum(&terms) };
        self.on = if self.on { self.value > OFF } else { self.value >= ON };
        (self.value, self.on)
    }

    /// The level.
    pub fn level(&self) -> f64 {
        self.test.level()
    }

    /// The mixture value after the last poll.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// Is it on?
    pub fn on(&self) -> bool {
        self.on
    }
}
