//! Increments of one group of counters, both arms over the same time (STATISTICS 5, 11).

use crate::model::{Arm, Buckets, PerArm};

/// What the increments of one scrape of one arm must be able to do.
pub trait Increment: Clone {
    /// Adds a later increment of the same arm.
    fn add(&mut self, later: &Self);
    /// No events, in the same shape.
    fn none(&self) -> Self;
    /// Can it not be true (more bad events than events)?
    fn is_corrupt(&self) -> bool;
}

/// Bad events `x` out of `n`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CountIncrement {
    /// All.
    pub n: f64,
    /// Bad.
    pub x: f64,
}

impl Increment for CountIncrement {
    fn add(&mut self, later: &Self) {
        self.n += later.n;
        self.x += later.x;
    }

    fn none(&self) -> Self {
        Self { n: 0.0, x: 0.0 }
    }

    /// Scrape skew explains 5 % and 5 events.
    fn is_corrupt(&self) -> bool {
        self.x > 1.05 * self.n + 5.0
    }
}

/// Requests served and requests given up: neither bounds the other, so nothing is impossible.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AbandonedIncrement {
    /// Answered.
    pub served: f64,
    /// Left by their client before an answer.
    pub abandoned: f64,
}

impl Increment for AbandonedIncrement {
    fn add(&mut self, later: &Self) {
        self.served += later.served;
        self.abandoned += later.abandoned;
    }

    fn none(&self) -> Self {
        Self { served: 0.0, abandoned: 0.0 }
    }

    fn is_corrupt(&self) -> bool {
        false
    }
}

impl Increment for Buckets {
    fn add(&mut self, later: &Self) {
        for (a, b) in self.iter_mut().zip(later) {
            *a += b;
        }
    }

    fn none(&self) -> Self {
        self.iter().map(|_| 0.0).collect()
    }

    /// Made monotone per scrape, they are never corrupt.
    fn is_corrupt(&self) -> bool {
        false
    }
}

/// A poll is used only if both arms were scraped; until then increments add up, so both arms always cover the same interval.
/// A corrupt arm empties both, and its next scrape is dropped too: else a counter falling back looks like a reset, and its
/// lifetime value becomes a second catastrophic poll.
#[derive(Clone, Debug)]
pub struct Pairing<T> {
    pending: PerArm<Option<T>>,
    reprime: PerArm<bool>,
}

impl<T> Default for Pairing<T> {
    fn default() -> Self {
        Self { pending: PerArm { baseline: None, canary: None }, reprime: PerArm::default() }
    }
}

impl<T: Increment> Pairing<T> {
    /// One scrape of each arm, `None` where it failed. `canary_alone`: at 100 % the baseline is not looked at.
    pub fn step(&mut self, mut scraped: PerArm<Option<T>>, canary_alone: bool) -> Option<PerArm<T>> {
        if canary_alone {
            self.pending.baseline = None;
            scraped.baseline = scraped.canary.as_ref().map(Increment::none);
        }
        if self.drops(&scraped) {
            self.pending = PerArm { baseline: None, canary: None };
            return None;
        }
        let both = scraped.baseline.is_some() && scraped.canary.is_some();
        for arm in Arm::BOTH {
            if let Some(new) = scraped[arm].take() {
                match &mut self.pending[arm] {
                    Some(old) => old.add(&new),
                    empty => *empty = Some(new),
                }
            }
        }
        if both { self.take() } else { None }
    }

    /// Marks corrupt arms and says whether this poll is dropped for both.
    fn drops(&mut self, scraped: &PerArm<Option<T>>) -> bool {
        let mut any = false;
        for arm in Arm::BOTH {
            if let Some(v) = &scraped[arm] {
                let corrupt = v.is_corrupt();
                any |= corrupt || self.reprime[arm];
                self.reprime[arm] = corrupt;
            }
        }
        any
    }

    fn take(&mut self) -> Option<PerArm<T>> {
        let (baseline, canary) = (self.pending.baseline.take()?, self.pending.canary.take()?);
        Some(PerArm { baseline, canary })
    }
}
