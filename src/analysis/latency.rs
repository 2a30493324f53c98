//! One latency quantile: a mixture over the bounds near it, with a setup frozen at the start (STATISTICS 4).

use super::clock::Clock;
use super::errors::{Evidence, with_guard};
use super::process::{HarmProcess, OkProcess};
use super::series::SeriesId;
use crate::model::BOUNDS_MAX;
use crate::stats::counts::{Null, TwoArms, count_lfs};
use crate::stats::cut::Cut;
use crate::stats::grid::{DOWN, K_DOWN, K_UP, UP};
use crate::stats::latency::{LADDER_MAX, stretch_ratio, zone};
use crate::stats::logsum::ln_add;

const _: () = assert!(LADDER_MAX == BOUNDS_MAX, "a ladder that can be read can be judged");

/// Fewest requests a setup is made from.
pub const SETUP_REQUESTS: f64 = 200.0;

/// Stretches of the baseline's distribution: tolerated, guard, shown not worse.
#[derive(Clone, Copy, Debug)]
pub struct Stretches {
    /// Beyond it: harm.
    pub harm: f64,
    /// Beyond it: harm even while warming up.
    pub guard: f64,
    /// Not beyond it: ok.
    pub ok: f64,
    /// What the bake tolerates.
    pub bake: f64,
}

/// When its processes begin, seconds since tick 0.
#[derive(Clone, Copy, Debug)]
pub struct Since {
    /// The main processes.
    pub main_s: f64,
    /// Non-inferiority.
    pub ok_s: f64,
    /// The guards.
    pub guard_s: f64,
}

/// One bound of the zone.
#[derive(Clone, Debug)]
pub struct Bound {
    /// Its position in the ladder.
    pub j: usize,
    /// Its series.
    pub series: SeriesId,
    /// Weight in the mixture.
    pub weight: f64,
    /// Tolerated ratio of tails.
    pub r: f64,
    /// The guard's.
    pub r_guard: f64,
    ln_weight: f64,
    main: HarmProcess<K_UP>,
    guard: HarmProcess<K_UP>,
}

impl Bound {
    fn step(&mut self, clock: &Clock, x: &TwoArms, phi: f64) -> (f64, bool) {
        let data = x.n_c > 0.0;
        let main = self.main.step(clock, data, || count_lfs(x, Null { r: self.r, d: 0.0 }, &UP, phi));
        let guard = self.guard.step(clock, data, || count_lfs(x, Null { r: self.r_guard, d: 0.0 }, &UP, phi));
        (self.ln_weight + with_guard(main, guard), self.main.hot() || self.guard.hot())
    }

    /// `ln E` of the main process and of the guard.
    pub fn parts(&self) -> (f64, f64) {
        (self.main.ln_e(), self.guard.ln_e())
    }
}

/// What the setup froze.
#[derive(Clone, Debug)]
pub struct Frozen {
    /// Position of the bound nearest to the quantile.
    pub primary: usize,
    /// Its series.
    pub series: SeriesId,
    /// Ratio of tails that is shown not to be exceeded.
    pub r_ok: f64,
    /// The buckets are too coarse for this quantile.
    pub coarse: bool,
    /// The bounds.
    pub zone: Vec<Bound>,
    ok: OkProcess<K_DOWN>,
}

/// The comparison of one quantile.
#[derive(Clone, Debug)]
pub struct LatencyTest {
    /// The quantile.
    pub q: f64,
    /// Its margins.
    pub stretches: Stretches,
    frozen: Option<Frozen>,
    /// Room for the zone: without history the setup is made between two polls, where nothing is allocated.
    room: Vec<Bound>,
    cut: Cut,
}

impl LatencyTest {
    /// Not set up yet: no evidence. `bounds`: length of the ladder.
    pub fn new(q: f64, stretches: Stretches, bounds: usize) -> Self {
        Self { q, stretches, frozen: None, room: Vec::with_capacity(bounds), cut: Cut::default() }
    }

    /// Freezes the zone by the baseline's `tails`; `series` names the series of each bound. Which bounds are used can be read
    /// from [`Self::frozen`].
    pub fn set_up(&mut self, bounds: &[f64], tails: &[f64], since: Since, series: impl Fn(usize) -> SeriesId) {
        let z = zone(tails, self.q);
        let bound = |(j, weight): (usize, f64)| Bound {
            j,
            series: series(j),
            weight,
            ln_weight: weight.ln(),
            r: stretch_ratio(bounds, tails, j, self.stretches.harm),
            r_guard: stretch_ratio(bounds, tails, j, self.stretches.guard),
            main: HarmProcess::new(&UP, since.main_s),
            guard: HarmProcess::guard(&UP, since.guard_s),
        };
        let mut members = std::mem::take(&mut self.room);
        members.extend(z.weights.iter().copied().enumerate().filter(|(_, w)| *w > 0.0).map(bound));
        self.frozen = Some(Frozen {
            primary: z.primary,
            series: series(z.primary),
            r_ok: stretch_ratio(bounds, tails, z.primary, self.stretches.ok),
            coarse: z.coarse,
            zone: members,
            ok: OkProcess::new(&DOWN, since.ok_s),
        });
    }

    /// The memory of the zone beyond what it needs, given back; called where allocation is allowed.
    pub fn shrink(&mut self) {
        if let Some(f) = &mut self.frozen {
            f.zone.shrink_to_fit();
        }
    }

    /// The setup, once there is one.
    pub fn frozen(&self) -> Option<&Frozen> {
        self.frozen.as_ref()
    }

    /// One poll; `x` gives both arms at a bound if the poll is usable, `phi` the dispersion of a series.
    pub fn step(&mut self, clock: &Clock, x: impl Fn(usize) -> Option<TwoArms>, phi: impl Fn(SeriesId) -> f64) -> Evidence {
        let Some(f) = &mut self.frozen else {
            return Evidence { ln_cut: self.cut.step(0.0, false, false), ..Evidence::default() };
        };
        let mut ln_harm = f64::NEG_INFINITY;
        let (mut hot, mut data) = (false, false);
        for b in &mut f.zone {
            let x = x(b.j).unwrap_or(TwoArms::NONE);
            data = x.n_c > 0.0;
            let (term, hot_here) = b.step(clock, &x, phi(b.series));
            ln_harm = ln_add(ln_harm, term);
            hot |= hot_here;
        }
        let primary = x(f.primary).unwrap_or(TwoArms::NONE);
        let null = Null { r: f.r_ok, d: 0.0 };
        let ln_ok = f.ok.step(clock, || count_lfs(&primary, null, &DOWN, phi(f.series)));
        Evidence { ln_harm, ln_cut: self.cut.step(ln_harm, hot, data), ln_ok, hot }
    }
}
