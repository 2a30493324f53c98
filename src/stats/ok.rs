//! Evidence that the canary is not worse than the margin, since the start of the step (STATISTICS 2.3).

use super::grid::Grid;
use super::harm::CLIP;
use super::logsum::ln_sum;

/// The process; zeroed at every step.
#[derive(Clone, Debug)]
pub struct NotWorse<const K: usize> {
    ln_pi: [f64; K],
    ln_l: [f64; K],
}

impl<const K: usize> NotWorse<K> {
    /// No evidence.
    pub fn new(grid: &Grid<K>) -> Self {
        Self { ln_pi: grid.ln_pi, ln_l: [0.0; K] }
    }

    /// A new step begins.
    pub fn reset(&mut self) {
        self.ln_l = [0.0; K];
    }

    /// One poll's factors, already divided by the dispersion. Returns `ln E`, nats.
    pub fn update(&mut self, lf: &[f64; K]) -> f64 {
        for (l, f) in self.ln_l.iter_mut().zip(lf) {
            *l += f.min(CLIP);
        }
        self.ln_e()
    }

    /// As it stands.
    pub fn ln_e(&self) -> f64 {
        let mut terms = self.ln_pi;
        for (t, l) in terms.iter_mut().zip(&self.ln_l) {
            *t += l;
        }
        ln_sum(&terms)
    }
}
