//! One rollout's subscription at a server: its choices, what keeps it out, and what a tick brought it.

use super::SCRAPE_ASSUMED;
use super::fault::Fault;
use super::lookup::Resolved;
use crate::model::{Blind, PerArm, Reading, Timestamp};
use crate::source::packs::resolve::Asked;
use crate::source::tracker::Tracker;
use crate::source::{SourceError, SourceSample, Subscription};
use std::collections::BTreeMap;
use std::time::Duration;

/// First pause before choices made without a series to go by are made again; doubles up to the second.
const RESOLVE_AGAIN: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(960)];

/// Why a subscription gave nothing at a tick.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    pub(super) why: Blind,
    pub(super) words: String,
}

impl Trouble {
    pub(super) fn of(fault: &Fault) -> Self {
        Self { why: fault.blind(), words: fault.to_string() }
    }
}

/// One rollout's subscription.
#[derive(Debug)]
pub(super) struct Subscribed {
    pub(super) wanted: Subscription,
    bounds_ms: Vec<f64>,
    /// `None` until its choices could be made.
    pub(super) tracker: Option<Tracker>,
    /// Choices were made without series: make them again then, and the pause after that.
    pub(super) again: Option<(Timestamp, Duration)>,
    /// No choice has been made yet with series to go by, or after some had come.
    blindly: bool,
    /// Why its choices could not be made, until they are.
    unresolved: Option<Trouble>,
    /// Left out until then, and why.
    pub(super) quarantine: Option<(Timestamp, Trouble)>,
    /// Levels of these entries are left out until then, and why; their counts are read.
    pub(super) level_quarantine: BTreeMap<usize, (Timestamp, Trouble)>,
    /// Of this tick.
    pub(super) trouble: Option<Trouble>,
    /// Custom gauges of this tick.
    pub(super) gauges: PerArm<Vec<Reading<f64>>>,
    /// What the server said about a gauge's query it did not answer.
    pub(super) gauge_words: Option<String>,
    /// The last of these words that went to the log: nothing but a gauge may wait for them, and then no hold shows them.
    pub(super) gauge_words_logged: Option<String>,
}

impl Subscribed {
    pub(super) fn new(wanted: Subscription, bounds_ms: Vec<f64>) -> Self {
        Self {
            wanted,
            bounds_ms,
            tracker: None,
            again: None,
            blindly: true,
            unresolved: None,
            quarantine: None,
            level_quarantine: BTreeMap::new(),
            trouble: None,
            gauges: PerArm::default(),
            gauge_words: None,
            gauge_words_logged: None,
        }
    }

    pub(super) fn begin(&mut self) {
        self.trouble = None;
        self.gauges = PerArm::default();
        self.gauge_words = None;
        if let Some(tracker) = &mut self.tracker {
            tracker.forget_all();
        }
    }

    pub(super) fn askable(&self, at: Timestamp) -> bool {
        self.tracker.is_some() && self.quarantine.as_ref().is_none_or(|(until, _)| at >= *until)
    }

    /// What a resolution found; a tracker whose questions stay the same goes on counting.
    pub(super) fn take_in(&mut self, resolved: Result<Resolved, SourceError>, at: Timestamp, scrape: Duration) {
        let pause = self.again.map_or(RESOLVE_AGAIN[0], |(_, pause)| (pause * 2).min(RESOLVE_AGAIN[1]));
        match resolved {
            Ok(resolved) => {
                self.again = resolved.guessed.then_some((at + pause, pause));
                self.blindly &= resolved.guessed;
                let keys = |asked: Vec<&Asked>| asked.into_iter().map(|a| a.key()).collect::<Vec<_>>();
                let same = self.tracker.as_ref().is_some_and(|t| keys(t.asked()) == keys(resolved.asked.iter().collect()));
                if !same {
                    self.tracker = Some(Tracker::new(&self.wanted, resolved.asked, self.bounds_ms.clone(), scrape));
                }
                if let Some(tracker) = &mut self.tracker {
                    tracker.native_only = resolved.native_only;
                }
            }
            Err(error) => {
                // a server that is down is asked again at the next tick; a rule that does not fit, now and then
                self.again = matches!(error, SourceError::Unusable(_) | SourceError::Rejected { .. }).then_some((at + pause, pause));
                let trouble = Trouble { why: error.blind(), words: error.to_string() };
                self.unresolved = Some(trouble.clone());
                self.trouble = Some(trouble);
            }
        }
    }

    pub(super) fn finish(&mut self, at: Timestamp, clock: Option<&Trouble>) -> SourceSample {
        let quarantined = self.quarantine.as_ref().filter(|(until, _)| at < *until).map(|(_, trouble)| trouble.clone());
        let trouble = self.trouble.take().or(quarantined).or_else(|| clock.cloned());
        let gauges = std::mem::take(&mut self.gauges);
        self.level_quarantine.retain(|_, (until, _)| at < *until);
        match (&mut self.tracker, trouble) {
            (Some(tracker), None) => {
                self.level_quarantine.iter().for_each(|(entry, (_, trouble))| tracker.refuse_levels(*entry, trouble.why));
                let has_rows = tracker.has_rows();
                let mut sample = tracker.finish(at, gauges);
                if self.blindly && has_rows {
                    // read by a label nobody has seen, a failed request looks like a good one
                    self.blindly = false;
                    self.again = Some((at, RESOLVE_AGAIN[0]));
                    return tracker.blind(Blind::NoSeries, "its first series came just now: their labels are looked up at the next tick");
                }
                let of_levels = self.level_quarantine.values().map(|(_, trouble)| trouble.words.clone());
                let words = [std::mem::take(&mut sample.detail)].into_iter().chain(of_levels).chain(self.gauge_words.take());
                sample.detail = words.filter(|w| !w.is_empty()).collect::<Vec<_>>().join("; ");
                sample
            }
            (Some(tracker), Some(trouble)) => tracker.blind(trouble.why, &trouble.words),
            (None, trouble) => {
                let trouble = trouble.or_else(|| self.unresolved.clone());
                let trouble = trouble.unwrap_or(Trouble { why: Blind::NoSeries, words: "not resolved yet".to_owned() });
                Tracker::new(&self.wanted, Vec::new(), Vec::new(), SCRAPE_ASSUMED).blind(trouble.why, &trouble.words)
            }
        }
    }
}
