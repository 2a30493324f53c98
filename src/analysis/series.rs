//! Count series: what dispersion is estimated for, once each (STATISTICS 3). Errors, the rule's own counts, and the tail
//! above each latency bound in use.

use super::pairing::CountIncrement;
use crate::model::{Buckets, PerArm};
use crate::stats::counts::TwoArms;
use crate::stats::dispersion::{BaselineDispersion, Estimators, PairedDispersion, Phi, ScaleSums};

/// What is left out must look like an incident: this much more dispersion of every poll than of the calm ones.
const CALM_RATIO: f64 = 20.0;
/// The same without history.
const CALM_RATIO_LEARNING: f64 = 100.0;

/// Which counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeriesKey {
    /// Failed requests.
    Requests,
    /// The rule's own, by position.
    Custom(usize),
    /// Requests above a latency bound, by position.
    Tail(usize),
}

/// Position of a series in the judge's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesId(pub usize);

/// Bad events out of all of the baseline's own polls in this rollout.
#[derive(Clone, Copy, Debug, Default)]
pub struct Own {
    /// Bad.
    pub x: f64,
    /// All.
    pub n: f64,
}

impl Own {
    /// One more poll; one without traffic says nothing.
    pub fn add(&mut self, x: f64, n: f64) {
        if n > 0.0 {
            self.x += x;
            self.n += n;
        }
    }
}

/// Sums over calm polls, and over those without `hold` (7.3).
#[derive(Clone, Copy, Debug, Default)]
pub struct BySet<T> {
    /// Calm polls.
    pub calm: T,
    /// Polls without `hold`.
    pub unheld: T,
}

impl<T> BySet<T> {
    /// The set whose sums serve.
    pub fn serving(&self, forgets: bool) -> &T {
        if forgets { &self.calm } else { &self.unheld }
    }
}

/// One series with its dispersion and levels.
#[derive(Clone, Debug)]
pub struct Series {
    /// Which counts.
    pub key: SeriesKey,
    /// Is it used by any test? A bound is not before the latency setup has chosen it.
    pub active: bool,
    /// Estimated from the past, for this poll.
    pub phi: Phi,
    /// Frozen at the start, without history at the end of the burn-in.
    pub phi_0: Option<f64>,
    /// The baseline's rate over history, without history over the burn-in. Tails have theirs in the latency setup.
    pub p_hist: Option<f64>,
    /// The baseline in this rollout.
    pub own: BySet<Own>,
    burn_in: Own,
    every: Estimators,
    calm: Estimators,
    ratio: f64,
}

impl Series {
    /// `history`: the polls `(x, n)` that stay, or `None` if there is none; `scales` for history, and without; `sums`: what an
    /// earlier rollout left, used only without history.
    pub fn new(key: SeriesKey, history: Option<&[(f64, f64)]>, scales: PerHistory<'_>, sums: Option<&[ScaleSums]>) -> Self {
        let base = match (history, sums) {
            (Some(polls), _) => fed(scales.with, polls),
            (None, Some(sums)) => BaselineDispersion::with_sums(sums),
            (None, None) => BaselineDispersion::learning(scales.without),
        };
        let learning = base.is_learning();
        let own_scales = base.sums().iter().map(|s| s.polls).collect::<Vec<_>>();
        let every = Estimators { base, pair: PairedDispersion::new(&own_scales) };
        let phi = every.phi();
        let ratio = if learning { CALM_RATIO_LEARNING } else { CALM_RATIO };
        let (own, burn_in) = (BySet::default(), Own::default());
        Self { key, active: true, phi, phi_0: None, p_hist: None, own, burn_in, calm: every.clone(), every, ratio }
    }

    /// Is what the calm set left out an incident?
    pub fn forgets(&self) -> bool {
        self.every.base.phi() > self.ratio * self.calm.base.phi()
    }

    /// Dispersion for the next poll; `calm`: was the last one?
    pub fn estimate(&self, calm: bool) -> Phi {
        if calm && self.forgets() { self.calm.phi() } else { self.every.phi() }
    }

    /// Adds a used poll; one that is not calm enters the calm set as nothing.
    pub fn add(&mut self, x: &TwoArms, calm: bool) {
        if x.n_b + x.n_c <= 0.0 {
            return;
        }
        self.every.add(x.x_b, x.n_b, x.x_c, x.n_c);
        let c = if calm { *x } else { TwoArms::NONE };
        self.calm.add(c.x_b, c.n_b, c.x_c, c.n_c);
    }

    /// Does it learn its dispersion from this rollout alone?
    pub fn is_learning(&self) -> bool {
        self.calm.base.is_learning()
    }

    /// Freezes `phi_0` if it can be known: at once with history, else when the burn-in is over.
    pub fn freeze_phi_0(&mut self, burnt_in: bool) {
        if self.active && self.phi_0.is_none() && (burnt_in || !self.is_learning()) {
            self.phi_0 = Some(self.calm.base.phi());
        }
    }

    /// Learns `p_hist` where there is no history; counts only.
    pub fn burn_in(&mut self, x: Option<&TwoArms>, over: bool) {
        if self.p_hist.is_some() {
            return;
        }
        if let Some(x) = x {
            self.burn_in.x += x.x_b;
            self.burn_in.n += x.n_b;
        }
        if over {
            self.p_hist = Some(rate(self.burn_in.x, self.burn_in.n));
        }
    }

    /// The calm set's sums, to persist after a rollout that was not rolled back.
    pub fn sums(&self) -> Vec<ScaleSums> {
        self.calm.base.sums().to_vec()
    }
}

/// Block lengths with history and without.
#[derive(Clone, Copy, Debug)]
pub struct PerHistory<'a> {
    /// With.
    pub with: &'a [u64],
    /// Without.
    pub without: &'a [u64],
}

fn fed(scales: &[u64], polls: &[(f64, f64)]) -> BaselineDispersion {
    let mut d = BaselineDispersion::with_history(scales);
    polls.iter().for_each(|&(x, n)| d.add(x, n));
    d
}

/// `p_hist`: the half keeps a perfect past from meaning that nothing may ever fail.
pub fn rate(x: f64, n: f64) -> f64 {
    (x + 0.5) / n.max(1.0)
}

/// Both arms of a pair of count increments; `n` is raised to `x` after scrape skew.
pub fn two_arms(pair: &PerArm<CountIncrement>) -> TwoArms {
    let (b, c) = (pair.baseline, pair.canary);
    TwoArms { x_b: b.x, n_b: b.n.max(b.x), x_c: c.x, n_c: c.n.max(c.x) }
}

/// Both arms above bound `j`.
pub fn tail_of(rows: &PerArm<Buckets>, j: usize) -> TwoArms {
    let at = |r: &Buckets| {
        let n = r.last().copied().unwrap_or(0.0);
        (n - r.get(j).copied().unwrap_or(n), n)
    };
    let ((x_b, n_b), (x_c, n_c)) = (at(&rows.baseline), at(&rows.canary));
    TwoArms { x_b, n_b, x_c, n_c }
}
