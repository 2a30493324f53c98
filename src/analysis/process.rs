//! Processes with their activation: evidence that stands still until its time has come (STATISTICS 7.4).

use super::clock::Clock;
use crate::stats::cut::Cut;
use crate::stats::grid::Grid;
use crate::stats::harm::Harm;
use crate::stats::ok::NotWorse;

/// Harm, active for polls that start at or after `since_s`.
#[derive(Clone, Debug)]
pub struct HarmProcess<const K: usize> {
    harm: Harm<K>,
    since_s: f64,
    ln_e: f64,
    hot: bool,
    cut: Cut,
    ln_cut: f64,
}

impl<const K: usize> HarmProcess<K> {
    /// With the onset mixture.
    pub fn new(grid: &Grid<K>, since_s: f64) -> Self {
        Self::of(Harm::with_onset(grid), since_s)
    }

    /// Without (the guard).
    pub fn guard(grid: &Grid<K>, since_s: f64) -> Self {
        Self::of(Harm::from_start(grid), since_s)
    }

    fn of(harm: Harm<K>, since_s: f64) -> Self {
        Self { harm, since_s, ln_e: 0.0, hot: false, cut: Cut::default(), ln_cut: 0.0 }
    }

    /// One poll; the factors are asked for only if it is active. `data`: canary requests, or a factor. Returns `ln E`.
    pub fn step(&mut self, clock: &Clock, data: bool, lf: impl FnOnce() -> [f64; K]) -> f64 {
        self.hot = false;
        if clock.active(self.since_s) {
            self.ln_e = self.harm.update(clock.t_s - self.since_s, clock.onset_s, &lf(), data);
            self.hot = self.harm.hot();
        }
        self.ln_e
    }

    /// The same for a process used alone: with the isolated-jump rule. Returns the evidence after it.
    pub fn step_cut(&mut self, clock: &Clock, data: bool, lf: impl FnOnce() -> [f64; K]) -> f64 {
        self.step(clock, data, lf);
        self.ln_cut = self.cut.step(self.ln_e, self.hot, data);
        self.ln_cut
    }

    /// Active for polls that start at or after this, seconds.
    pub fn since_s(&self) -> f64 {
        self.since_s
    }

    /// Evidence before the isolated-jump rule.
    pub fn ln_e(&self) -> f64 {
        self.ln_e
    }

    /// And after it, where [`Self::step_cut`] is used.
    pub fn ln_cut(&self) -> f64 {
        self.ln_cut
    }

    /// Was a factor of the last poll clipped?
    pub fn hot(&self) -> bool {
        self.hot
    }
}

/// Non-inferiority: back to 0 at every step, still during the warm-up.
#[derive(Clone, Debug)]
pub struct OkProcess<const K: usize> {
    ok: NotWorse<K>,
    since_s: f64,
}

impl<const K: usize> OkProcess<K> {
    /// Active for polls that start at or after `since_s`.
    pub fn new(grid: &Grid<K>, since_s: f64) -> Self {
        Self { ok: NotWorse::new(grid), since_s }
    }

    /// Active for polls that start at or after this, seconds.
    pub fn since_s(&self) -> f64 {
        self.since_s
    }

    /// One poll; the factors are asked for only if it is active. Returns `ln E`.
    pub fn step(&mut self, clock: &Clock, lf: impl FnOnce() -> [f64; K]) -> f64 {
        if clock.new_step {
            self.ok.reset();
        }
        if clock.active(self.since_s) { self.ok.update(&lf()) } else { self.ok.ln_e() }
    }
}
