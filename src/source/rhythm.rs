//! How often a process is scraped, and for how long it may be silent: the same for counters and for levels.

use crate::model::Timestamp;
use std::time::Duration;

/// One process' scrapes, as its samples' times show them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rhythm {
    /// Time of its newest sample.
    newest: Timestamp,
    /// The longer one of the times between its last three samples: two replicas in turn show a short and a long one.
    gap: Duration,
    /// Time between its last two samples.
    last_gap: Duration,
}

impl Rhythm {
    /// Of a process first seen in this sample, in a job scraped so often.
    pub(super) const fn new(sampled: Timestamp, every: Duration) -> Self {
        Self { newest: sampled, gap: every, last_gap: every }
    }

    /// Time of its newest sample.
    pub(super) const fn newest(&self) -> Timestamp {
        self.newest
    }

    /// A sample was seen; an older one, or the same again, says nothing.
    pub(super) fn heard(&mut self, sampled: Timestamp) {
        if sampled <= self.newest {
            return;
        }
        // a longer pause may be an outage as well as a new scrape interval: believe it step by step
        let gap = sampled.since(self.newest).min(self.gap * 2);
        self.gap = gap.max(std::mem::replace(&mut self.last_gap, gap));
        self.newest = sampled;
    }

    /// Missed two scrapes.
    pub(super) fn silent(&self, at: Timestamp) -> bool {
        at.since(self.newest) > self.gap * 9 / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000_000) + Duration::from_secs(seconds)
    }

    #[test]
    fn two_scrapes_may_be_missed() {
        let mut rhythm = Rhythm::new(s(0), Duration::from_secs(10));
        rhythm.heard(s(10));
        assert!(!rhythm.silent(s(32)) && rhythm.silent(s(33)));
        rhythm.heard(s(5));
        assert_eq!(rhythm.newest(), s(10), "an older sample says nothing");
    }

    #[test]
    fn a_slower_interval_is_believed_step_by_step() {
        let mut rhythm = Rhythm::new(s(0), Duration::from_secs(10));
        rhythm.heard(s(60));
        assert!(!rhythm.silent(s(60 + 45)) && rhythm.silent(s(60 + 46)), "twice the old one, not six times");
    }

    #[test]
    fn of_two_replicas_in_turn_the_long_pause_counts() {
        let mut rhythm = Rhythm::new(s(0), Duration::from_secs(10));
        for round in 1..5 {
            rhythm.heard(s(10 * round));
            rhythm.heard(s(10 * round + 1));
        }
        assert!(!rhythm.silent(s(41 + 20)) && rhythm.silent(s(41 + 21)), "9 s and 1 s in turn are no interval of 1 s");
    }
}
