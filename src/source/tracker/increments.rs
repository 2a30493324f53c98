//! Increments that the server has differenced itself (form D of PACKS 1.1), as one rising counter per arm: what is paired, waits
//! for a scrape or is blind is then the same for both forms.

use super::Classes;
use crate::model::{Arm, PerArm, Timestamp};
use std::time::Duration;

/// What stands for all processes of an arm.
pub(super) const TOGETHER: &str = "one of its processes";

/// The increments of an entry's questions.
#[derive(Debug, Default)]
pub(super) struct Increments {
    /// The tick up to which they were taken.
    since: Option<Timestamp>,
    /// The last tick whose counts were given away.
    used: Option<Timestamp>,
    /// Of this tick: when the process was scraped that was scraped longest ago.
    oldest: PerArm<Option<Timestamp>>,
    /// Of this tick: increments came in, or the server has told of the processes; it knows all that are still scraped.
    answered: bool,
    told: bool,
}

/// One question's share.
#[derive(Debug, Default)]
pub(super) struct Risen {
    /// Increments of this tick.
    now: PerArm<Classes>,
    /// All increments so far.
    all: PerArm<Classes>,
}

impl Risen {
    /// Has anything come in at this tick?
    pub(super) fn has_rows(&self) -> bool {
        Arm::BOTH.iter().any(|arm| !self.now[*arm].is_empty())
    }

    /// One row.
    pub(super) fn add(&mut self, arm: Arm, class: u64, value: f64) {
        *self.now[arm].entry(class).or_insert(0.0) += value;
    }

    pub(super) fn forget(&mut self) {
        self.now = PerArm::default();
    }

    fn is_number(&self) -> bool {
        self.now.baseline.values().chain(self.now.canary.values()).all(|v| v.is_finite())
    }

    fn saw(&self, arm: Arm) -> bool {
        !self.now[arm].is_empty()
    }

    /// The counter as it stands with this tick's increments; they stay only if they are to be kept.
    fn risen(&mut self, arm: Arm, keep: bool) -> Classes {
        let now = std::mem::take(&mut self.now[arm]);
        let mut risen = self.all[arm].clone();
        for (class, value) in now {
            *risen.entry(class).or_insert(0.0) += value;
        }
        if keep {
            self.all[arm].clone_from(&risen);
        }
        risen
    }
}

/// What one arm shows at a tick.
pub(super) struct Shown {
    /// Its counter, by question.
    pub(super) counters: Vec<(usize, Classes)>,
    /// When its newest sample counts as taken.
    pub(super) sampled: Timestamp,
    /// When the counter began, if it is new.
    pub(super) began: Option<Timestamp>,
}

impl Increments {
    /// From which tick on increments are to be asked for; `None`: this is the first.
    pub(super) const fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// The answer about an arm: when its processes were scraped.
    pub(super) fn oldest(&mut self, arm: Arm, at: Timestamp) {
        self.oldest[arm] = Some(at);
    }

    /// Increments have come in.
    pub(super) fn answered(&mut self) {
        self.answered = true;
    }

    /// The server has told of the processes, were it that there is none.
    pub(super) fn told(&mut self) {
        (self.answered, self.told) = (true, true);
    }

    pub(super) fn forget(&mut self) {
        self.oldest = PerArm::default();
        (self.answered, self.told) = (false, false);
    }

    /// The tick as counters of both arms. What is no number is shown, and asked again with the next tick.
    pub(super) fn show(&mut self, at: Timestamp, risen: &mut [(usize, &mut Risen)]) -> PerArm<Option<Shown>> {
        if !self.answered {
            return PerArm::default();
        }
        let numbers = risen.iter().all(|(_, r)| r.is_number());
        let began = self.since.map(|since| since + Duration::from_millis(1));
        let shown = PerArm::from_fn(|arm| {
            // series outlive their last scrape by five minutes where nothing marks their end
            let there = self.oldest[arm].is_some() || (!self.told && risen.iter().any(|(_, r)| r.saw(arm)));
            // every process has a sample newer than the last used one: then the counter has, too
            let fresh = self.used.is_none_or(|used| self.oldest[arm].is_none_or(|oldest| oldest > used));
            let sampled = if fresh { at } else { self.used.unwrap_or(at) };
            let counters = risen.iter_mut().map(|(question, r)| (*question, r.risen(arm, numbers))).collect();
            there.then_some(Shown { counters, sampled, began })
        });
        if numbers {
            self.since = Some(at);
        }
        shown
    }

    /// The counts of this tick were given away.
    pub(super) fn used(&mut self, at: Timestamp) {
        self.used = Some(at);
    }
}
