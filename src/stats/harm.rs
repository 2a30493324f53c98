//! Evidence that the canary is worse than tolerated: a mixture over strength and over onset (STATISTICS 2.1).

use super::grid::Grid;
use super::mass::Mass;

/// Most that one poll can say, nats: one corrupt scrape must not decide.
pub const CLIP: f64 = 3.0;
/// Most that a poll can say after one that was clipped: an outage then needs two polls, never one.
pub const CLIP_SECOND: f64 = 12.0;

/// The process. State: per alternative the accumulated evidence, and the mass that has started.
#[derive(Clone, Debug)]
pub struct Harm<const K: usize> {
    mass: Mass<K>,
    started: f64,
    restart: bool,
    clipped: [bool; K],
    hot: bool,
}

impl<const K: usize> Harm<K> {
    /// With the restart mixture over onset (half of the mass at the start, the rest spread over later starts).
    pub fn with_onset(grid: &Grid<K>) -> Self {
        Self::new(grid, true)
    }

    /// All mass at the start (the guard).
    pub fn from_start(grid: &Grid<K>) -> Self {
        Self::new(grid, false)
    }

    fn new(grid: &Grid<K>, restart: bool) -> Self {
        Self { mass: Mass::new(grid, 0.0), started: 0.0, restart, clipped: [false; K], hot: false }
    }

    /// One poll. `t_s`: seconds from activation to the END of this poll; `onset_s`: H0; `lf`: factors, already divided by the
    /// dispersion; `data`: did this poll carry canary requests (gauges: a factor)? Returns `ln E`, nats.
    ///
    /// The clip of an alternative depends only on the past, so each clipped factor still has expectation at most 1.
    pub fn update(&mut self, t_s: f64, onset_s: f64, lf: &[f64; K], data: bool) -> f64 {
        let started = if self.restart { 0.5 + 0.5 * t_s / (t_s + onset_s) } else { 1.0 };
        let fresh = started - self.started;
        self.started = started;
        let (mut factors, mut hot) = ([0.0; K], false);
        for k in 0..K {
            let clip = if self.clipped[k] { CLIP_SECOND } else { CLIP };
            let above = lf[k] >= CLIP;
            factors[k] = if lf[k] < clip { lf[k] } else { clip };
            hot |= above;
            // a poll without data says nothing about the row of clipped ones
            if data {
                self.clipped[k] = above;
            }
        }
        self.hot = hot;
        self.mass.step(fresh, &factors, 1.0 - started)
    }

    /// Was any factor of the last poll clipped?
    pub fn hot(&self) -> bool {
        self.hot
    }
}
