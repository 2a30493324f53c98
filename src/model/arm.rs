//! The two compared populations, and values that exist once for each.

use std::ops::{Index, IndexMut};

/// One of the two compared populations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Arm {
    /// The version that carries the rest of the traffic.
    Baseline,
    /// The version on trial.
    Canary,
}

impl Arm {
    /// Both, baseline first.
    pub const BOTH: [Arm; 2] = [Arm::Baseline, Arm::Canary];

    /// The word used on every wire and page.
    pub const fn name(self) -> &'static str {
        match self {
            Arm::Baseline => "baseline",
            Arm::Canary => "canary",
        }
    }
}

/// One value per arm; named fields, so that the arms cannot be exchanged by position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerArm<T> {
    /// The baseline's.
    pub baseline: T,
    /// The canary's.
    pub canary: T,
}

impl<T> PerArm<T> {
    /// The same computation for each arm.
    pub fn map<U>(self, mut f: impl FnMut(T) -> U) -> PerArm<U> {
        PerArm { baseline: f(self.baseline), canary: f(self.canary) }
    }

    /// Borrowed.
    pub fn as_ref(&self) -> PerArm<&T> {
        PerArm { baseline: &self.baseline, canary: &self.canary }
    }

    /// One value per arm from a function of the arm.
    pub fn from_fn(mut f: impl FnMut(Arm) -> T) -> Self {
        Self { baseline: f(Arm::Baseline), canary: f(Arm::Canary) }
    }
}

impl<T> Index<Arm> for PerArm<T> {
    type Output = T;
    fn index(&self, arm: Arm) -> &T {
        match arm {
            Arm::Baseline => &self.baseline,
            Arm::Canary => &self.canary,
        }
    }
}

impl<T> IndexMut<Arm> for PerArm<T> {
    fn index_mut(&mut self, arm: Arm) -> &mut T {
        match arm {
            Arm::Baseline => &mut self.baseline,
            Arm::Canary => &mut self.canary,
        }
    }
}

/// One of the two workloads (or clusters, backends, label values) a rule names, in the order it names them. Which of them
/// is the canary is settled at each rollout's start from where the traffic is; a rule names workloads, not fates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The one named first (`pair[0]`, or `stable`).
    First,
    /// The one named second (`pair[1]`, or `canary`).
    Second,
}

impl Side {
    /// The other one.
    pub const fn other(self) -> Side {
        match self {
            Side::First => Side::Second,
            Side::Second => Side::First,
        }
    }

    /// Position in a two-element list.
    pub const fn index(self) -> usize {
        match self {
            Side::First => 0,
            Side::Second => 1,
        }
    }
}
