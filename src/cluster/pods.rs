//! One pod over its life: what happened to it, and when. A watch tells only how a pod is now; what is asked is what went wrong with it
//! in a stretch of time. Nothing here reads a clock.

use super::objects::{PodNow, Unhealthy};
use crate::model::{Pod, PodSigns, Timestamp};
use std::collections::VecDeque;
use std::time::Duration;

/// Restarts within [`LOOP_WITHIN`] that are a crash loop.
const LOOP_RESTARTS: u32 = 3;
const LOOP_WITHIN: Duration = Duration::from_secs(600);
/// Entries a log keeps; what is older is added to the oldest, which is then told later than it happened.
const LOG_MAX: usize = 32;

/// A pod that is there, or was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodLife {
    /// As it was last seen before it began to end.
    pub(super) now: PodNow,
    /// When it was first known to be ready: before, its probes fail rightly.
    first_ready: Option<Timestamp>,
    /// Since when it is on its way out: from then on its probes fail rightly, and nothing counts.
    pub(super) ending: Option<Timestamp>,
    /// Since when it is not there.
    pub(super) gone: Option<Timestamp>,
    restarts: Log,
    probes: Log,
    /// How often it was ready and its probes said it is not: fewer than failed probes, but told without events.
    flaps: Log,
    crash: Option<Held>,
    image: Option<Held>,
    /// When a container was last ended for want of memory.
    oom: Option<Timestamp>,
    /// What its last failed probe said.
    pub(super) probe_said: String,
}

/// A state: since when, and until when if it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    since: Timestamp,
    until: Option<Timestamp>,
}

impl Held {
    fn at(held: Option<Self>, at: Timestamp) -> bool {
        held.is_some_and(|h| h.since <= at && h.until.is_none_or(|until| at < until))
    }

    /// The state after it was seen to hold or not.
    fn next(held: Option<Self>, holds: bool, now: Timestamp) -> Option<Self> {
        match held {
            Some(Held { until: None, .. }) if holds => held,
            Some(Held { since, until: None }) => Some(Held { since, until: Some(now) }),
            _ if holds => Some(Held { since: now, until: None }),
            _ => held,
        }
    }
}

/// Increments of a counter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Log(VecDeque<Entry>);

/// So many, at some time from `begin` to `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    begin: Timestamp,
    end: Timestamp,
    count: u32,
}

impl Log {
    fn add(&mut self, begin: Timestamp, end: Timestamp, count: u32) {
        if count == 0 {
            return;
        }
        self.0.push_back(Entry { begin: begin.min(end), end, count });
        if self.0.len() > LOG_MAX {
            let oldest = self.0.pop_front();
            if let (Some(oldest), Some(next)) = (oldest, self.0.front_mut()) {
                *next = Entry { begin: oldest.begin, count: oldest.count.saturating_add(next.count), ..*next };
            }
        }
    }

    /// Told in this time.
    fn told(&self, from: Timestamp, to: Timestamp) -> u32 {
        self.sum(|e| from < e.end && e.end <= to)
    }

    /// Those that certainly happened in this time.
    fn within(&self, from: Timestamp, to: Timestamp) -> u32 {
        self.sum(|e| from <= e.begin && e.end <= to)
    }

    fn sum(&self, counts: impl Fn(&Entry) -> bool) -> u32 {
        self.0.iter().filter(|e| counts(e)).fold(0, |sum, e| sum.saturating_add(e.count))
    }
}

impl PodLife {
    /// A pod seen for the first time. What it says of its past is dated as well as that can be done.
    pub(super) fn new(now: PodNow, at: Timestamp) -> Self {
        let mut restarts = Log::default();
        // one restart came after the end that is told; of the others it is known only that they came after the pod
        if let Some(last) = now.ended.filter(|_| now.restarts > 0) {
            restarts.add(now.created, now.created, now.restarts - 1);
            restarts.add(last, last, 1);
        } else {
            restarts.add(now.created, now.created, now.restarts);
        }
        let held = |holds: bool| holds.then_some(Held { since: at, until: None });
        Self {
            first_ready: now.was_ready,
            ending: now.ending.then_some(at),
            gone: None,
            restarts,
            probes: Log::default(),
            flaps: Log::default(),
            crash: held(now.crash.is_some() && !now.ending),
            image: held(now.image.is_some() && !now.ending),
            oom: now.oom,
            probe_said: String::new(),
            now,
        }
    }

    /// Seen again; before that, all was known until `looked`. Says whether anything is different.
    pub(super) fn update(&mut self, now: PodNow, looked: Timestamp, at: Timestamp) -> bool {
        if now == self.now || self.ending.is_some() {
            return false;
        }
        self.count(&now, looked, at);
        if now.ending {
            self.ending = Some(at);
            self.now.ready = false;
        } else {
            self.crash = Held::next(self.crash, now.crash.is_some(), at);
            self.image = Held::next(self.image, now.image.is_some(), at);
            self.now = now;
        }
        true
    }

    fn count(&mut self, now: &PodNow, looked: Timestamp, at: Timestamp) {
        let restarted = now.restarts.saturating_sub(self.now.restarts);
        self.restarts.add(looked, at, restarted);
        if now.oom.is_some() && now.oom != self.now.oom {
            self.oom = Some(at);
        }
        if now.ready {
            self.first_ready = self.first_ready.or(Some(at));
        } else if self.now.ready && now.probed_down && restarted == 0 && !now.ending {
            self.flaps.add(looked, at, 1);
        }
    }

    /// Its probes failed so many times more, the last of them at this time. Says whether that counts.
    pub(super) fn probes_failed(&mut self, event: &Unhealthy, more: u32, at: Timestamp) -> bool {
        let counts = !event.startup && self.ending.is_none() && self.first_ready.is_some_and(|ready| ready <= at);
        if counts {
            self.probes.add(at, at, more);
            self.probe_said.clone_from(&event.text);
        }
        counts
    }

    /// It was there at some time of this stretch.
    pub(super) fn was_there(&self, from: Timestamp, to: Timestamp) -> bool {
        self.now.created <= to && self.gone.is_none_or(|gone| from <= gone)
    }

    /// It is there, and not on its way out.
    pub(super) fn is_live(&self) -> bool {
        self.gone.is_none() && self.ending.is_none()
    }

    pub(super) fn is_ready(&self) -> bool {
        self.is_live() && self.now.ready
    }

    /// For the sources.
    pub(super) fn as_pod(&self) -> Pod {
        let PodNow { name, ip, created, .. } = &self.now;
        Pod { name: name.clone(), ip: ip.clone(), created: *created, ready: self.is_ready() }
    }

    /// What went wrong with it; states are 1 where they hold. Nothing if it was not there.
    pub(super) fn signs(&self, from: Timestamp, to: Timestamp) -> PodSigns {
        if !self.was_there(from, to) {
            return PodSigns::default();
        }
        // of a pod that went, states hold as they were
        let to = self.ending.or(self.gone).map_or(to, |end| end.min(to));
        let looped = self.restarts.within(from.max(to - LOOP_WITHIN), to) >= LOOP_RESTARTS;
        PodSigns {
            restarts: self.restarts.told(from, to),
            failed_probes: self.probes.told(from, to).max(self.flaps.told(from, to)),
            crash_loops: u32::from(looped || Held::at(self.crash, to)),
            image_pulls: u32::from(Held::at(self.image, to)),
            oom_killed: u32::from(self.oom.is_some_and(|at| from < at && at <= to)),
            never_ready: 0,
        }
    }
}

#[cfg(test)]
mod tests;
