//! One subscription between ticks: rows of a source in, one [`SourceSample`] a tick out. The same for every source.
//!
//! Both arms are released together: while one waits for a scrape, the other's increments wait too, or two arms scraped at
//! different phases would never meet in one tick (PACKS 1.2). `tracked.rs`: one question; `assembled.rs`: the sample.

mod assembled;
mod increments;
mod tracked;

use super::counters::Condition;
use super::levels::{LevelGiven, Levels};
use super::packs::grammar::Start;
use super::packs::level::What;
use super::packs::resolve::{Asked, Group};
use super::pods::ArmPods;
use super::{SourceSample, Subscription, Wants};
use crate::model::{Arm, Blind, PerArm, Reading, Timestamp};
use assembled::{with_levels, with_orphans};
use increments::{Increments, Risen, TOGETHER};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tracked::{Given, Tracked};

/// What an operator reads where there are no classic buckets.
pub(super) const NATIVE_ONLY: &str =
    "the latency histogram exists in native form only, which is not read: set always_scrape_classic_histograms for its job";
/// Between the label values in the name of a process: no label value begins or ends with it.
pub(super) const BETWEEN: &str = " @ ";

/// The label values in the name of a process.
fn parts(process: &str) -> Vec<&str> {
    process.split(BETWEEN).collect()
}

/// Classes of one process at one tick.
type Classes = BTreeMap<u64, f64>;

/// One telemetry entry.
#[derive(Debug)]
struct Entry {
    asked: Asked,
    tracked: Vec<Tracked>,
    /// Of questions that are asked for increments; one per question.
    risen: Vec<Risen>,
    increments: Increments,
    levels: Vec<Levels>,
    sampled: PerArm<BTreeMap<String, Timestamp>>,
    starts: BTreeMap<String, Timestamp>,
}

/// One subscription.
#[derive(Debug)]
pub(super) struct Tracker {
    key: u64,
    wants: Wants,
    custom_counts: usize,
    custom_gauges: usize,
    bounds_ms: Vec<f64>,
    entries: Vec<Entry>,
    /// The histogram is there in native form only.
    pub(super) native_only: bool,
}

/// Milliseconds of a bucket's bound, rounded so that `0.3 s` is 300 and every spelling of a number is one number.
pub(super) fn bound_ms(le: &str, unit_ms: f64) -> Option<f64> {
    let bound: f64 = le.parse().ok()?;
    (!bound.is_nan()).then(|| if bound.is_finite() { (bound * unit_ms * 1e6).round() / 1e6 } else { bound })
}

impl Tracker {
    pub(super) fn new(wanted: &Subscription, asked: Vec<Asked>, bounds_ms: Vec<f64>, scrape: Duration) -> Self {
        let entry = |asked: Asked| {
            let tracked =
                asked.questions.iter().map(|q| Tracked::new(q, asked.falls_prove_restart, asked.every.unwrap_or(scrape))).collect();
            let levels = asked.levels.iter().map(|level| Levels::new(level, scrape)).collect();
            let risen = asked.questions.iter().map(|_| Risen::default()).collect();
            let (increments, sampled) = (Increments::default(), PerArm::default());
            Entry { asked, tracked, risen, increments, levels, sampled, starts: BTreeMap::new() }
        };
        Self {
            key: wanted.key,
            wants: wanted.wants,
            custom_counts: wanted.custom_counts.len(),
            custom_gauges: wanted.custom_gauges.len(),
            bounds_ms,
            entries: asked.into_iter().map(entry).collect(),
            native_only: false,
        }
    }

    /// Whose pods are whose in the tick to come.
    pub(super) fn take_pods(&mut self, pods: &ArmPods) {
        self.entries.iter_mut().for_each(|entry| entry.asked.take_pods(pods));
    }

    /// What is asked, by entry.
    pub(super) fn asked(&self) -> Vec<&Asked> {
        self.entries.iter().map(|e| &e.asked).collect()
    }

    /// One row: the cumulative value of one class of one process. Another row of the same class is another series of it.
    pub(super) fn row(&mut self, place: Place, process: &str, kept: &[&str], value: f64) {
        self.take(place, process, kept, value, |before| before + value);
    }

    /// The same of an answer whose rows are sums already: another row of the same class is the same series under another
    /// spelling, such as `le="1"` beside `le="1.0"` for five minutes after a change of the server.
    pub(super) fn sum(&mut self, place: Place, process: &str, kept: &[&str], value: f64) {
        self.take(place, process, kept, value, |before| before.max(value));
    }

    fn take(&mut self, place: Place, process: &str, kept: &[&str], value: f64, again: impl Fn(f64) -> f64) {
        let Some(entry) = self.entries.get_mut(place.entry) else { return };
        let (Some(question), Some(tracked)) = (entry.asked.questions.get(place.question), entry.tracked.get_mut(place.question)) else {
            return;
        };
        let Some(class) = tracked.class(question, place.select, kept) else { return };
        let processes = &mut tracked.intake[place.arm];
        match processes.get_mut(process) {
            Some(classes) => {
                classes.entry(class).and_modify(|before| *before = again(*before)).or_insert(value);
            }
            None => {
                processes.insert(process.to_owned(), BTreeMap::from([(class, value)]));
            }
        }
    }

    /// One row of increments since the tick [`Tracker::since`] names.
    pub(super) fn delta(&mut self, place: Place, kept: &[&str], value: f64) {
        let Some(entry) = self.entries.get_mut(place.entry) else { return };
        let Some((question, tracked)) = entry.asked.questions.get(place.question).zip(entry.tracked.get_mut(place.question)) else {
            return;
        };
        entry.increments.answered();
        if let (Some(class), Some(risen)) = (tracked.class(question, place.select, kept), entry.risen.get_mut(place.question)) {
            risen.add(place.arm, class, value);
        }
    }

    /// From which tick on an entry's increments are to be asked for; `None` at its first tick.
    pub(super) fn since(&self, entry: usize) -> Option<Timestamp> {
        self.entries.get(entry)?.increments.since()
    }

    /// When the process of an arm was scraped that was scraped longest ago.
    pub(super) fn oldest(&mut self, entry: usize, arm: Arm, at: Timestamp) {
        if let Some(entry) = self.entries.get_mut(entry) {
            entry.increments.oldest(arm, at);
        }
    }

    /// The server has told of the processes behind an entry's increments, were it that there are none.
    pub(super) fn told(&mut self, entry: usize) {
        if let Some(entry) = self.entries.get_mut(entry) {
            entry.increments.told();
        }
    }

    /// What came in of this entry's increments is void: they will be asked again.
    pub(super) fn forget_deltas(&mut self, entry: usize) {
        if let Some(entry) = self.entries.get_mut(entry) {
            entry.forget_deltas();
        }
    }

    /// When the newest sample of a process was taken.
    pub(super) fn sampled(&mut self, entry: usize, arm: Arm, process: &str, at: Timestamp) {
        if let Some(entry) = self.entries.get_mut(entry) {
            let newest = entry.sampled[arm].entry(process.to_owned()).or_insert(at);
            *newest = at.max(*newest);
        }
    }

    /// The level of this number of an entry.
    pub(super) fn level(&mut self, entry: usize, level: usize) -> Option<&mut Levels> {
        self.entries.get_mut(entry)?.levels.get_mut(level)
    }

    /// The levels of an entry cannot be read at this tick.
    pub(super) fn refuse_levels(&mut self, entry: usize, why: Blind) {
        if let Some(entry) = self.entries.get_mut(entry) {
            entry.levels.iter_mut().for_each(|l| l.refuse(why));
        }
    }

    /// When a process started.
    pub(super) fn started(&mut self, entry: usize, process: &str, at: Timestamp) {
        if let Some(entry) = self.entries.get_mut(entry) {
            entry.starts.insert(process.to_owned(), at);
        }
    }

    /// Processes whose start must be known to read this tick.
    pub(super) fn wants_start(&self, entry: usize) -> BTreeSet<&str> {
        let mut wanted = BTreeSet::new();
        for tracked in self.entries.get(entry).map_or(&[][..], |e| &e.tracked) {
            for arm in Arm::BOTH {
                let open = |(p, classes): &(&String, &Classes)| tracked.counters[arm].wants_start(p, classes);
                wanted.extend(tracked.intake[arm].iter().filter(open).map(|(p, _)| p.as_str()));
            }
        }
        wanted
    }

    /// What came in for this entry's counts is void: it will be asked again.
    pub(super) fn forget(&mut self, entry: usize) {
        if let Some(entry) = self.entries.get_mut(entry) {
            entry.forget_counts();
        }
    }

    /// What came in for this entry's levels is void.
    pub(super) fn forget_levels(&mut self, entry: usize) {
        if let Some(entry) = self.entries.get_mut(entry) {
            entry.levels.iter_mut().for_each(Levels::forget);
        }
    }

    /// Has any count come in at this tick?
    pub(super) fn has_rows(&self) -> bool {
        let any = |t: &Tracked| Arm::BOTH.iter().any(|arm| !t.intake[*arm].is_empty());
        self.entries.iter().any(|e| e.tracked.iter().any(any) || e.risen.iter().any(Risen::has_rows))
    }

    /// Nothing of a tick has come in.
    pub(super) fn forget_all(&mut self) {
        self.entries.iter_mut().for_each(Entry::forget_tick);
    }

    /// The tick is read: differences it, and gives what may be used.
    pub(super) fn finish(&mut self, at: Timestamp, gauges: PerArm<Vec<Reading<f64>>>) -> SourceSample {
        let given: Vec<Given> = self.entries.iter_mut().flat_map(|e| e.finish(at, &self.bounds_ms)).collect();
        let levels: Vec<(What, PerArm<LevelGiven>)> = self.entries.iter_mut().flat_map(|e| e.finish_levels(at)).collect();
        let mut notes: Vec<String> = Vec::new();
        let of_levels = levels.iter().flat_map(|(_, given)| Arm::BOTH.map(|arm| given[arm].note.as_ref())).flatten();
        for note in given.iter().flat_map(|g| &g.notes).chain(of_levels) {
            if !notes.contains(note) {
                notes.push(note.clone());
            }
        }
        if self.native_only && self.wants.buckets {
            notes.push(NATIVE_ONLY.to_owned());
        }
        let (of_arms, orphans) = self.orphans(&given);
        let arms = PerArm::from_fn(|arm| {
            let mut sample = self.sample(arm, at, &given, &gauges[arm]);
            with_orphans(&mut sample, of_arms[arm]);
            with_levels(&mut sample, arm, &levels);
            sample.pods = self.ready_pods(arm).or(sample.pods);
            sample
        });
        let missing = arms.as_ref().map(|a| if self.wants.requests { a.requests.err() } else { None });
        SourceSample { key: self.key, arms, missing, detail: notes.join("; "), orphans }
    }

    /// The tick could not be read: nothing is differenced, the next good one bridges the gap.
    pub(super) fn blind(&mut self, why: Blind, detail: &str) -> SourceSample {
        self.forget_all();
        let arms = PerArm::from_fn(|_| {
            let mut arm = self.empty(why);
            arm.custom_counts.iter_mut().for_each(|c| *c = Err(why));
            arm.custom_gauges.iter_mut().for_each(|g| *g = Err(why));
            arm
        });
        SourceSample { key: self.key, arms, missing: PerArm::from_fn(|_| Some(why)), detail: detail.to_owned(), orphans: 0.0 }
    }
}

/// Where a row belongs in a tracker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Telemetry entry.
    pub(super) entry: usize,
    /// Question of the entry.
    pub(super) question: usize,
    /// Selector of the question.
    pub(super) select: usize,
    /// Arm.
    pub(super) arm: Arm,
}

impl Entry {
    /// Levels are those of pods that are ready, where that is known.
    fn finish_levels(&mut self, at: Timestamp) -> Vec<(What, PerArm<LevelGiven>)> {
        let Self { asked, levels, .. } = self;
        let ready = |arm: Arm, process: &str| asked.pod_of(arm, &parts(process)).is_none_or(|pod| pod.is_some_and(|pod| pod.ready));
        levels.iter_mut().map(|l| (l.what, l.finish(at, ready))).collect()
    }

    fn forget_deltas(&mut self) {
        self.increments.forget();
        self.risen.iter_mut().for_each(Risen::forget);
    }

    /// Increments as the counters they belong to.
    fn take_increments(&mut self, at: Timestamp) -> BTreeMap<String, Timestamp> {
        let Self { asked, tracked, risen, increments, sampled, .. } = self;
        let mut of_deltas: Vec<(usize, &mut Risen)> =
            risen.iter_mut().enumerate().filter(|(question, _)| asked.questions[*question].is_delta()).collect();
        let mut born = BTreeMap::new();
        let PerArm { baseline, canary } = increments.show(at, &mut of_deltas);
        for (arm, shown) in [(Arm::Baseline, baseline), (Arm::Canary, canary)] {
            let Some(shown) = shown else { continue };
            sampled[arm].insert(TOGETHER.to_owned(), shown.sampled);
            born.extend(shown.began.map(|began| (TOGETHER.to_owned(), began)));
            for (question, counter) in shown.counters {
                tracked[question].intake[arm].insert(TOGETHER.to_owned(), counter);
            }
        }
        self.forget_deltas();
        born
    }

    fn forget_tick(&mut self) {
        self.forget_deltas();
        self.forget_counts();
        self.levels.iter_mut().for_each(Levels::forget);
    }

    fn forget_counts(&mut self) {
        self.sampled = PerArm::default();
        self.starts.clear();
        for tracked in &mut self.tracked {
            tracked.intake = PerArm::default();
        }
    }

    /// When processes began that no start time is known of: their pods were made then, or they were first seen then and a new
    /// one always has a new name. Says nothing about a restart.
    fn born(&self) -> BTreeMap<String, Timestamp> {
        let new_identity = matches!(self.asked.start, Some(Start::NewIdentity(true)));
        let mut born = BTreeMap::new();
        for arm in Arm::BOTH {
            for (process, sampled) in &self.sampled[arm] {
                let made = self.asked.pod_of(arm, &parts(process)).flatten().map(|pod| pod.created);
                born.extend(made.or(new_identity.then_some(*sampled)).map(|at| (process.clone(), at)));
            }
        }
        born
    }

    fn finish(&mut self, at: Timestamp, bounds_ms: &[f64]) -> Vec<Given> {
        let mut born = self.born();
        born.extend(self.take_increments(at));
        let abandoned = self.asked.questions.iter().any(|q| q.group == Group::Abandoned);
        let (alike, pushed) = (self.asked.arms.baseline.values == self.asked.arms.canary.values, self.asked.pushed);
        let given = self
            .tracked
            .iter_mut()
            .zip(&self.asked.questions)
            .map(|(tracked, question)| {
                // increments of buckets say nothing of single processes
                let buckets = question.group == Group::Buckets && !question.is_delta();
                let odd = if buckets { Arm::BOTH.into_iter().filter_map(|arm| tracked.not_cumulative(arm)).collect() } else { Vec::new() };
                let incomplete = PerArm::from_fn(|arm| if buckets { tracked.leave_out_incomplete(arm, bounds_ms) } else { None });
                let mut conditions = tracked.observe(at, &self.sampled, &self.starts, &born);
                for (arm, words) in Arm::BOTH.into_iter().filter_map(|arm| Some((arm, incomplete[arm].clone()?))) {
                    conditions[arm] = Condition::Blind(Blind::NoSeries, words);
                }
                if pushed {
                    Arm::BOTH.iter().for_each(|arm| ends_unmarked(&mut conditions[*arm]));
                }
                let mut given = tracked.release(at, question.group, conditions);
                given.notes.extend(odd);
                given.skips = question.skips() && !abandoned;
                given.alike = alike;
                given
            })
            .collect::<Vec<Given>>();
        self.forget_counts();
        let mut of_deltas = self.asked.questions.iter().zip(&given).filter(|(question, _)| question.is_delta());
        if of_deltas.any(|(_, given)| given.arms.baseline.is_ok() || given.arms.canary.is_ok()) {
            self.increments.used(at);
        }
        given
    }
}

/// Nothing marks the end of pushed series: the way here may have ended as well as the process.
fn ends_unmarked(condition: &mut Condition) {
    if let Condition::Blind(why @ Blind::Silent, words) = condition {
        *why = Blind::Stale;
        words.push_str(": nothing was pushed for two intervals");
    }
}

#[cfg(test)]
mod tests;
