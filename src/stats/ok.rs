//! Evidence that the canary is not worse than the margin, since the start of the step (STATISTICS 2.3).

use super::grid::Grid;
use super::harm::CLIP;
use super::mass::Mass;

/// The process; zeroed at every step.
#[derive(Clone, Debug)]
pub struct NotWorse<const K: usize> {
    mass: Mass<K>,
}

impl<const K: usize> NotWorse<K> {
    /// No evidence.
    pub fn new(grid: &Grid<K>) -> Self {
        Self { mass: Mass::new(grid, 1.0) }
    }

    /// A new step begins.
    pub fn reset(&mut self) {
        self.mass.reset(1.0);
    }

    /// One poll's factors, already divided by the dispersion. Returns `ln E`, nats.
    pub fn update(&mut self, lf: &[f64; K]) -> f64 {
        self.mass.step(0.0, &lf.map(|f| f.min(CLIP)), 0.0)
    }

    /// As it stands.
    pub fn ln_e(&self) -> f64 {
        self.mass.ln()
    }
}
