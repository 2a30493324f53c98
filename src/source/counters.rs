//! Differencing: raw cumulative counters of single processes in, increments of one arm out (STATISTICS 5 and 11, PACKS 1.3).
//! Pure: no clock, no I/O. It never reads `rate()` or `increase()`: those extrapolate, and the evidence needs integers.
//!
//! The rules, each with a test below:
//! - All counters of one process restart together, so a reset is a property of the process: its TOTAL fell below half, or
//!   its start moved. One class that falls or vanishes is no reset. A smaller fall keeps the maximum: two HA replicas that
//!   answer in turn (5, 4, 5) add nothing.
//! - The increment after a reset is the new value if that is plausible; else the values are only noted.
//! - A class first seen on a known process counts from 0. A process first seen counts its value only if it started after
//!   the arm's previous tick; else its values are only noted.
//! - A process that shows NaN or infinity is not read at that tick. If it never was, its first readable values are only noted.
//! - A process that is gone drops out; nothing falls.
//! - Increments wait until every process has a sample newer than its last used one. A process that misses two scrapes is
//!   left out and named.
//! - A total that rises by more than twenty times its largest increment asks for the start as a fall does: an address that
//!   went to another process must not bring its lifetime.
//! - Totals that jump back and forth come from several processes behind one address: the arm is blind.

use super::rhythm::Rhythm;
use crate::model::{Blind, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

/// A process that started less than this before its last sample may have started after it: clocks of neighbours differ.
const START_SLACK: Duration = Duration::from_millis(2500);
/// A start moved only if by more than this: Envoy's uptime gauge is renewed at each stats flush (5 s) in whole seconds.
const START_JITTER: Duration = Duration::from_secs(10);
/// An increment after a reset may be this many times the largest earlier one (STATISTICS 11).
const PLAUSIBLE: f64 = 20.0;
/// A fall beyond this many times the largest earlier increment is no replica that lags: another process answered.
const JUMP: f64 = 4.0;
/// Of the last eight readings of a process, so many odd ones make it several processes behind one address.
const ODD_MAX: u32 = 3;
/// A process not seen for so long is forgotten.
const FORGET: Duration = Duration::from_secs(3600);

/// What the total of a process is, from its classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Total {
    /// Their sum: each event is in one class.
    Sum,
    /// The last class: cumulative buckets, `+Inf` holds all.
    Last,
}

/// How a group of counters behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// The total of a process.
    pub total: Total,
    /// Series never vanish while their process lives: a deep fall is a restart even when no start time is known.
    pub falls_prove_restart: bool,
    /// Scrape interval to assume until it is seen.
    pub scrape: Duration,
}

/// One process as it was seen at a tick.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen<'a> {
    /// Its identity.
    pub process: &'a str,
    /// Cumulative value by class, ascending and without doubles in the class.
    pub classes: &'a BTreeMap<u64, f64>,
    /// When its newest sample was taken.
    pub sampled: Timestamp,
    /// When it started, where that was asked.
    pub start: Option<Timestamp>,
}

/// What a tick found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Every process has a new sample: increments may be taken.
    Ready,
    /// Not yet: this process has no new sample. What is pending stays.
    Waiting(String),
    /// Nothing to wait for.
    Blind(Blind, String),
}

/// One process between ticks.
#[derive(Clone, Debug)]
struct Process {
    /// Highest value per class since its last reset.
    kept: BTreeMap<u64, f64>,
    /// Its last total.
    total: f64,
    /// Largest increment so far.
    largest: f64,
    /// Last increment.
    last: f64,
    /// The total of its last deep fall without proof of a restart, until it is passed again.
    fell_from: Option<f64>,
    /// The last eight readings, 1 = odd.
    odd: u8,
    /// Its scrapes.
    rhythm: Rhythm,
    /// When it started, if known.
    start: Option<Timestamp>,
    /// Has a sample newer than the last used one.
    fresh: bool,
    /// The last two ticks it was seen at.
    ticks: [Option<Timestamp>; 2],
}

/// The counters of one group (requests, or buckets, ...) of one arm.
#[derive(Clone, Debug)]
pub struct Counters {
    behaviour: Behaviour,
    processes: BTreeMap<Box<str>, Process>,
    pending: BTreeMap<u64, f64>,
    previous: Option<Timestamp>,
    /// Processes never read, because they showed NaN or infinity, and when they last did.
    unread: BTreeMap<Box<str>, Timestamp>,
}

impl Counters {
    /// Nothing seen yet.
    pub const fn new(behaviour: Behaviour) -> Self {
        Self { behaviour, processes: BTreeMap::new(), pending: BTreeMap::new(), previous: None, unread: BTreeMap::new() }
    }

    /// Must the start of this process be known to read these classes? Asked only then: it costs a query.
    pub fn wants_start(&self, process: &str, classes: &BTreeMap<u64, f64>) -> bool {
        match self.processes.get(process) {
            Some(known) => {
                let all = total(self.behaviour.total, classes);
                all < known.total || known.jumps(all)
            }
            None => self.previous.is_some(),
        }
    }

    /// Was the process ever read?
    pub fn knows(&self, process: &str) -> bool {
        self.processes.contains_key(process)
    }

    /// Was the process seen at this tick?
    pub fn knew(&self, process: &str, tick: Timestamp) -> bool {
        self.processes.get(process).is_some_and(|p| p.ticks.contains(&Some(tick)))
    }

    /// The tick before the one to come.
    pub const fn previous(&self) -> Option<Timestamp> {
        self.previous
    }

    /// Takes in what was seen at the tick `at`. `known_elsewhere` says of a process new to this arm that it was seen, for
    /// another arm, at this arm's previous tick: then its counters here did not exist, and count from 0.
    pub fn observe<'a>(
        &mut self,
        at: Timestamp,
        seen: impl IntoIterator<Item = Seen<'a>>,
        known_elsewhere: impl Fn(&str) -> bool,
    ) -> Condition {
        let typical = self.typical_increment();
        let mut not_a_number = None;
        for one in seen {
            if one.classes.values().any(|v| !v.is_finite()) {
                not_a_number.get_or_insert_with(|| one.process.to_owned());
                if !self.processes.contains_key(one.process) {
                    self.unread.insert(one.process.into(), at);
                }
                continue;
            }
            match self.processes.get_mut(one.process) {
                Some(known) => known.read(at, &one, self.behaviour, &mut self.pending),
                None => self.newborn(at, &one, typical, known_elsewhere(one.process)),
            }
        }
        self.previous = Some(at);
        self.processes.retain(|_, p| at.since(p.rhythm.newest()) <= FORGET);
        self.unread.retain(|_, last| at.since(*last) <= FORGET);
        self.condition(at, not_a_number)
    }

    /// Takes what is pending; the samples behind it are used. Call it only when [`Condition::Ready`].
    pub fn take(&mut self) -> BTreeMap<u64, f64> {
        for process in self.processes.values_mut() {
            process.fresh = false;
        }
        std::mem::take(&mut self.pending)
    }

    /// Processes that missed two scrapes.
    pub fn silent(&self, at: Timestamp) -> Vec<&str> {
        self.processes.iter().filter(|(_, p)| p.silent(at)).map(|(name, _)| &**name).collect()
    }

    /// Processes that are scraped.
    pub fn alive(&self, at: Timestamp) -> usize {
        self.processes.values().filter(|p| !p.silent(at)).count()
    }

    /// The median of the processes' last increments, at least 1; `None` before there is any.
    fn typical_increment(&self) -> Option<f64> {
        let mut last: Vec<f64> = self.processes.values().filter(|p| p.largest > 0.0).map(|p| p.last).collect();
        last.sort_by(f64::total_cmp);
        last.get(last.len() / 2).map(|m| m.max(1.0))
    }

    fn newborn(&mut self, at: Timestamp, one: &Seen<'_>, typical: Option<f64>, known_elsewhere: bool) {
        let all = total(self.behaviour.total, one.classes);
        let lately = self.previous.is_some_and(|previous| one.start.is_some_and(|start| start > previous));
        let plausible = typical.is_none_or(|t| all <= PLAUSIBLE * t);
        // its counters were there before, only not to be read: they did not begin at 0 since the previous tick
        let appeared = self.unread.remove(one.process).is_none() && known_elsewhere;
        let counted = self.previous.is_some() && (appeared || (lately && plausible));
        let mut increment = 0.0;
        if counted {
            increment = all;
            add(&mut self.pending, one.classes.iter().map(|(class, v)| (*class, *v)));
        }
        let process = Process {
            kept: one.classes.clone(),
            total: all,
            largest: increment,
            last: increment,
            fell_from: None,
            odd: 0,
            rhythm: Rhythm::new(one.sampled, self.behaviour.scrape),
            start: one.start,
            fresh: true,
            ticks: [Some(at), None],
        };
        self.processes.insert(one.process.into(), process);
    }

    fn condition(&mut self, at: Timestamp, not_a_number: Option<String>) -> Condition {
        if self.processes.is_empty() {
            return match not_a_number {
                Some(process) => Condition::Blind(Blind::NotANumber, format!("{process} shows NaN or infinity")),
                None => Condition::Blind(Blind::NoSeries, String::new()),
            };
        }
        if let Some((name, _)) = self.processes.iter().find(|(_, p)| !p.silent(at) && p.odd.count_ones() >= ODD_MAX) {
            let why = format!("the counters of {name} jump back and forth: several processes behind one address");
            self.pending.clear();
            return Condition::Blind(Blind::Alternating, why);
        }
        if let Some(name) = self.processes.iter().find(|(_, p)| !p.fresh && !p.silent(at)).map(|(name, _)| name.to_string()) {
            return match not_a_number {
                Some(process) => Condition::Blind(Blind::NotANumber, format!("{process} shows NaN or infinity")),
                None => Condition::Waiting(name),
            };
        }
        if self.processes.values().all(|p| !p.fresh) {
            return Condition::Blind(Blind::Silent, format!("no new sample of {}", self.silent(at).join(", ")));
        }
        Condition::Ready
    }
}

impl Process {
    fn silent(&self, at: Timestamp) -> bool {
        self.rhythm.silent(at)
    }

    /// Takes in a newer sample.
    fn read(&mut self, at: Timestamp, one: &Seen<'_>, behaviour: Behaviour, pending: &mut BTreeMap<u64, f64>) {
        self.ticks = [Some(at), self.ticks[0].filter(|t| *t != at).or(self.ticks[1])];
        if one.sampled <= self.rhythm.newest() {
            return;
        }
        let all = total(behaviour.total, one.classes);
        let restarted = self.restarted(one.start, all);
        let backwards = matches!((one.start, self.start), (Some(new), Some(old)) if new + START_JITTER < old);
        let jump = JUMP * self.largest.max(1.0);
        let deep = all < self.total / 2.0;
        let (increment, odd) = if backwards {
            (self.note(one.classes), true)
        } else if restarted {
            (self.restart(one.classes, all, pending), false)
        } else if deep && one.start.is_none() && behaviour.falls_prove_restart && self.odd == 0 {
            (self.restart(one.classes, all, pending), true)
        } else if deep {
            (self.note(one.classes), true)
        } else if self.fell_from.is_some_and(|from| all >= from) && self.odd != 0 {
            // back where it fell from within a few readings: another process answers. A true restart passes there once.
            (self.note(one.classes), true)
        } else {
            (self.grow(one.classes, behaviour, pending), self.total - all > jump)
        };
        self.fell_from = if deep && !restarted { Some(self.total) } else { self.fell_from.filter(|from| all < *from) };
        self.odd = self.odd << 1 | u8::from(odd);
        self.total = all;
        self.last = increment;
        self.largest = self.largest.max(increment);
        self.rhythm.heard(one.sampled);
        self.start = one.start.or(self.start);
        self.fresh = true;
    }

    /// Did it start anew since its last sample? A start after that sample says so if the total fell too, or if an older
    /// start was known: a busy process soon counts more than it did before.
    fn restarted(&self, start: Option<Timestamp>, all: f64) -> bool {
        let since = |start: Timestamp| start + START_SLACK > self.rhythm.newest();
        let moved = |start: Timestamp| self.start.is_some_and(|old| start > old + START_JITTER);
        start.is_some_and(|start| since(start) && (all < self.total || moved(start) || self.jumps(all)))
    }

    /// Rises by more than it ever did, many times over: an address may have gone to another process that counts more.
    fn jumps(&self, all: f64) -> bool {
        self.largest > 0.0 && all - self.total > PLAUSIBLE * self.largest.max(1.0)
    }

    /// Values are noted, nothing is counted.
    fn note(&mut self, classes: &BTreeMap<u64, f64>) -> f64 {
        self.kept.clone_from(classes);
        0.0
    }

    /// Counts from 0 after a restart, if plausible.
    fn restart(&mut self, classes: &BTreeMap<u64, f64>, all: f64, pending: &mut BTreeMap<u64, f64>) -> f64 {
        if all > PLAUSIBLE * self.largest.max(1.0) {
            return self.note(classes);
        }
        self.kept.clone_from(classes);
        add(pending, classes.iter().map(|(class, v)| (*class, *v)));
        all
    }

    /// The ordinary case: what each class rose above its maximum.
    fn grow(&mut self, classes: &BTreeMap<u64, f64>, behaviour: Behaviour, pending: &mut BTreeMap<u64, f64>) -> f64 {
        let mut risen = BTreeMap::new();
        for (class, value) in classes {
            let kept = self.kept.entry(*class).or_insert(0.0);
            // an evicted series that was made again: only where packs say that series vanish, for HA replicas also fall
            if !behaviour.falls_prove_restart && *value < *kept / 2.0 {
                *kept = *value;
            }
            risen.insert(*class, (*value - *kept).max(0.0));
            *kept = kept.max(*value);
        }
        let increment = total(behaviour.total, &risen);
        add(pending, risen);
        increment
    }
}

fn add(pending: &mut BTreeMap<u64, f64>, more: impl IntoIterator<Item = (u64, f64)>) {
    for (class, increment) in more {
        *pending.entry(class).or_insert(0.0) += increment;
    }
}

fn total(kind: Total, classes: &BTreeMap<u64, f64>) -> f64 {
    match kind {
        Total::Sum => classes.values().sum(),
        Total::Last => classes.last_key_value().map_or(0.0, |(_, v)| *v),
    }
}

#[cfg(test)]
mod tests;
