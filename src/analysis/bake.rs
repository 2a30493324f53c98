//! 100 % of the traffic: the canary against constants, because there is no baseline beside it (STATISTICS 7.3).

use super::clock::Clock;
use super::process::HarmProcess;
use super::series::SeriesId;
use crate::stats::counts::{LevelTest, TwoArms};
use crate::stats::grid::{K_UP, UP};

/// One process of the bake: a rollback-above of the rule, or a level derived from the baseline's own.
#[derive(Clone, Debug)]
pub struct BakeProcess {
    /// Position of its metric.
    pub metric: usize,
    /// Derived, or the rule's.
    pub derived: bool,
    /// Whose counts.
    pub series: SeriesId,
    /// Dispersion, frozen at the start of the bake.
    pub phi: f64,
    /// Evidence.
    pub process: HarmProcess<K_UP>,
    /// Crossed at this poll.
    pub crossed: bool,
    test: LevelTest<K_UP>,
}

impl BakeProcess {
    /// Against `level` from `start_s`, the start of the bake.
    pub fn new(metric: usize, derived: bool, series: SeriesId, level: f64, phi: f64, start_s: f64) -> Self {
        let (process, test) = (HarmProcess::new(&UP, start_s), LevelTest::new(level, &UP));
        Self { metric, derived, series, phi, process, crossed: false, test }
    }

    /// The level.
    pub fn level(&self) -> f64 {
        self.test.level()
    }

    /// One poll of the canary.
    pub fn step(&mut self, clock: &Clock, x: &TwoArms, threshold: f64) {
        let lf = || self.test.lfs(x.x_c, x.n_c, &UP, self.phi);
        self.crossed = self.process.step_cut(clock, x.n_c > 0.0, lf) >= threshold;
    }
}
