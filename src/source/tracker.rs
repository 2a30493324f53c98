//! One subscription between ticks: rows of a source in, one [`SourceSample`] a tick out. The same for every source.
//!
//! Both arms are released together: while one waits for a scrape, the other's increments wait too, or two arms scraped at
//! different phases would never meet in one tick (PACKS 1.2).

use super::counters::{Behaviour, Condition, Counters, Seen, Total};
use super::levels::{LevelGiven, Levels};
use super::packs::grammar::{Outcome, Start};
use super::packs::level::What;
use super::packs::resolve::{Asked, Group, Meaning, Question};
use super::pods::ArmPods;
use super::{SourceSample, Subscription, Wants};
use crate::model::{Arm, ArmSample, BOUNDS_MAX, Blind, Buckets, CUSTOM_MAX, Counts, PerArm, Reading, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What an operator reads where there are no classic buckets.
pub(super) const NATIVE_ONLY: &str =
    "the latency histogram exists in native form only, which is not read: set always_scrape_classic_histograms for its job";
/// Between the label values in the name of a process: no label value begins or ends with it.
pub(super) const BETWEEN: &str = " @ ";
/// Most silent processes named in a detail.
const NAMED_MAX: usize = 5;

/// The label values in the name of a process.
fn parts(process: &str) -> Vec<&str> {
    process.split(BETWEEN).collect()
}

/// Classes of one process at one tick.
type Classes = BTreeMap<u64, f64>;

/// One question's counters.
#[derive(Debug)]
struct Tracked {
    counters: PerArm<Counters>,
    intake: PerArm<BTreeMap<String, Classes>>,
    /// Number of each class (selector and kept values), and what it is.
    classes: BTreeMap<(usize, String), u64>,
    outcomes: Vec<(Meaning, Outcome)>,
}

/// One telemetry entry.
#[derive(Debug)]
struct Entry {
    asked: Asked,
    tracked: Vec<Tracked>,
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

/// What one question gave at a tick.
struct Given {
    group: Group,
    arms: PerArm<Reading<Classes>>,
    notes: Vec<String>,
    /// It leaves out classes of requests.
    skips: bool,
    /// The same series are both arms'.
    alike: bool,
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
            Entry { asked, tracked, levels, sampled: PerArm::default(), starts: BTreeMap::new() }
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

    /// A sample of which nothing is read yet; what the rule does not want is not asked.
    fn empty(&self, why: Blind) -> ArmSample {
        let of = |wanted: bool| if wanted { why } else { Blind::NotAsked };
        ArmSample {
            requests: Err(of(self.wants.requests)),
            abandoned: Err(of(self.wants.requests)),
            buckets: Err(of(self.wants.buckets)),
            cpu: Err(of(self.wants.cpu)),
            memory: Err(of(self.wants.memory)),
            floor: Err(of(self.wants.memory)),
            custom_counts: std::iter::repeat_n(Err(Blind::NotAsked), self.custom_counts.min(CUSTOM_MAX)).collect(),
            custom_gauges: std::iter::repeat_n(Err(Blind::NotAsked), self.custom_gauges.min(CUSTOM_MAX)).collect(),
            ..ArmSample::blind(Blind::NotAsked)
        }
    }

    fn sample(&self, arm: Arm, at: Timestamp, given: &[Given], gauges: &[Reading<f64>]) -> ArmSample {
        let mut sample = self.empty(Blind::NotAsked);
        for one in given {
            let increments = one.arms[arm].as_ref().map_err(|why| *why);
            match one.group {
                Group::Requests => {
                    sample.requests = increments.map(|i| self.counts(i, one.group));
                    // where nothing else counts those whose client left
                    if one.skips {
                        sample.abandoned = increments.map(|i| self.skipped(i));
                    }
                }
                Group::Orphans => {}
                Group::Abandoned => sample.abandoned = increments.map(|i| i.values().sum()),
                Group::Buckets if self.native_only => sample.buckets = Err(Blind::NativeHistogramOnly),
                Group::Buckets => sample.buckets = increments.map(|i| buckets(i, &self.bounds_ms)),
                Group::Custom(which) => {
                    if let Some(slot) = sample.custom_counts.get_mut(which) {
                        *slot = increments.map(|i| self.counts(i, one.group));
                    }
                }
            }
        }
        for (slot, gauge) in sample.custom_gauges.iter_mut().zip(gauges) {
            *slot = *gauge;
        }
        sample.pods = self.entries.first().and_then(|e| e.tracked.first()).map(|t| t.counters[arm].alive(at) as u32);
        sample
    }

    /// Failures that belong to no workload: of each arm whose they can only be, and of neither.
    fn orphans(&self, given: &[Given]) -> (PerArm<f64>, f64) {
        let (mut of_arms, mut of_none) = (PerArm::default(), 0.0);
        for one in given.iter().filter(|g| g.group == Group::Orphans) {
            let n = PerArm::from_fn(|arm| one.arms[arm].as_ref().map_or(0.0, |i| i.values().sum::<f64>()));
            if !one.alike {
                // a service of its own for each arm
                Arm::BOTH.iter().for_each(|arm| of_arms[*arm] += n[*arm]);
            } else if self.ready_pods(Arm::Canary) == Some(0) && self.ready_pods(Arm::Baseline).is_some_and(|pods| pods > 0) {
                of_arms.canary += n.canary;
            } else {
                of_none += n.canary;
            }
        }
        (of_arms, of_none)
    }

    /// The ready pods of an arm, where a watch knows them.
    fn ready_pods(&self, arm: Arm) -> Option<u32> {
        let pods = self.entries.iter().filter(|e| e.asked.tells_pods()).find_map(|e| e.asked.arms[arm].pods.as_ref())?;
        u32::try_from(pods.iter().filter(|pod| pod.ready).count()).ok()
    }

    fn of_group(&self, group: Group) -> Option<(&Entry, usize)> {
        self.entries.iter().find_map(|e| e.asked.questions.iter().position(|q| q.group == group).map(|at| (e, at)))
    }

    /// Requests that do not count: their clients left.
    fn skipped(&self, increments: &Classes) -> f64 {
        let Some((entry, at)) = self.of_group(Group::Requests) else { return 0.0 };
        let skip = |class: &u64| matches!(entry.tracked[at].outcomes.get(*class as usize), Some((Meaning::Classes, Outcome::Skip)));
        increments.iter().filter(|(class, _)| skip(class)).map(|(_, n)| n).sum()
    }

    fn counts(&self, increments: &Classes, group: Group) -> Counts {
        let Some((entry, at)) = self.of_group(group) else { return Counts::default() };
        let mut counts = Counts::default();
        let mut good = 0.0;
        for (class, increment) in increments {
            match entry.tracked[at].outcomes.get(*class as usize) {
                Some((Meaning::Classes, Outcome::Good) | (Meaning::Whole, _)) => counts.total += increment,
                Some((Meaning::Classes, Outcome::Bad) | (Meaning::Bad, _)) => {
                    counts.total += increment;
                    counts.bad += increment;
                }
                Some((Meaning::BadPart, _)) => counts.bad += increment,
                Some((Meaning::GoodPart, _)) => good += increment,
                Some((Meaning::Classes, Outcome::Skip)) | None => {}
            }
        }
        if entry.asked.questions[at].selects.iter().any(|(_, meaning)| *meaning == Meaning::GoodPart) {
            // skew between two counters of one scrape is small and must not become a negative count
            counts.bad = (counts.total - good).max(0.0);
        }
        counts
    }
}

/// Failures that never reached a workload, and can only be this arm's: an arm without any series of its own has them alone.
fn with_orphans(sample: &mut ArmSample, orphans: f64) {
    if orphans > 0.0 {
        match &mut sample.requests {
            Ok(counts) => (counts.total, counts.bad) = (counts.total + orphans, counts.bad + orphans),
            requests @ Err(Blind::NoSeries) => *requests = Ok(Counts { total: orphans, bad: orphans }),
            Err(_) => {}
        }
    }
}

/// CPU, memory and the number of pods into a sample. Pods are those of the application: where levels are read, their
/// processes; a proxy's counters say how many proxies there are.
fn with_levels(sample: &mut ArmSample, arm: Arm, levels: &[(What, PerArm<LevelGiven>)]) {
    let mut pods = None;
    for (what, given) in levels {
        let given = &given[arm];
        match what {
            What::Cpu => sample.cpu = given.value,
            What::Memory => (sample.memory, sample.floor) = (given.value, given.floor),
        }
        pods = pods.or(u32::try_from(given.pods).ok().filter(|n| *n > 0));
    }
    if !levels.is_empty() {
        sample.pods = pods;
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

/// Cumulative increments at these bounds and `+Inf`; non-decreasing, whatever was scraped.
fn buckets(increments: &Classes, bounds_ms: &[f64]) -> Buckets {
    let all = increments.last_key_value().map_or(0.0, |(_, v)| *v);
    let mut out = Buckets::new();
    let mut highest: f64 = 0.0;
    for bound in bounds_ms.iter().take(BOUNDS_MAX) {
        highest = highest.max(increments.get(&bound.to_bits()).copied().unwrap_or(0.0)).min(all);
        out.push(highest);
    }
    out.push(all);
    out
}

impl Tracked {
    fn new(question: &Question, falls_prove_restart: bool, scrape: Duration) -> Self {
        let total = if question.group == Group::Buckets { Total::Last } else { Total::Sum };
        let counters = Counters::new(Behaviour { total, falls_prove_restart, scrape });
        Self {
            counters: PerArm { baseline: counters.clone(), canary: counters },
            intake: PerArm::default(),
            classes: BTreeMap::new(),
            outcomes: Vec::new(),
        }
    }

    /// The number of a class: of buckets its bound, else its place in the list of classes met so far.
    fn class(&mut self, question: &Question, select: usize, kept: &[&str]) -> Option<u64> {
        if question.group == Group::Buckets {
            return bound_ms(kept.first()?, question.unit_ms).map(f64::to_bits);
        }
        let key = (select, kept.join("\u{1f}"));
        if let Some(class) = self.classes.get(&key) {
            return Some(*class);
        }
        let class = self.outcomes.len() as u64;
        self.outcomes.push((question.selects.get(select)?.1, question.outcome(kept)));
        self.classes.insert(key, class);
        Some(class)
    }
}

impl Entry {
    /// Levels are those of pods that are ready, where that is known.
    fn finish_levels(&mut self, at: Timestamp) -> Vec<(What, PerArm<LevelGiven>)> {
        let Self { asked, levels, .. } = self;
        let ready = |arm: Arm, process: &str| asked.pod_of(arm, &parts(process)).is_none_or(|pod| pod.is_some_and(|pod| pod.ready));
        levels.iter_mut().map(|l| (l.what, l.finish(at, ready))).collect()
    }

    fn forget_tick(&mut self) {
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
        let born = self.born();
        let abandoned = self.asked.questions.iter().any(|q| q.group == Group::Abandoned);
        let (alike, pushed) = (self.asked.arms.baseline.values == self.asked.arms.canary.values, self.asked.pushed);
        let given = self
            .tracked
            .iter_mut()
            .zip(&self.asked.questions)
            .map(|(tracked, question)| {
                let buckets = question.group == Group::Buckets;
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
            .collect();
        self.forget_counts();
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

impl Tracked {
    fn observe(
        &mut self,
        at: Timestamp,
        sampled: &PerArm<BTreeMap<String, Timestamp>>,
        starts: &BTreeMap<String, Timestamp>,
        born: &BTreeMap<String, Timestamp>,
    ) -> PerArm<Condition> {
        let elsewhere = PerArm::from_fn(|arm| self.known_elsewhere(arm));
        PerArm::from_fn(|arm| {
            let seen = self.intake[arm].iter().map(|(process, classes)| {
                let sampled = sampled[arm].get(process).copied().unwrap_or(at);
                let newborn = || born.get(process).copied().filter(|_| !self.counters[arm].knows(process));
                let start = starts.get(process).copied().or_else(newborn);
                Seen { process, classes, sampled, start }
            });
            let seen: Vec<Seen<'_>> = seen.collect();
            self.counters[arm].observe(at, seen, |process| elsewhere[arm].contains(process))
        })
    }

    /// Leaves out processes whose buckets are not all there, and says so: a bound that vanished would make every request
    /// below it slow. What they count meanwhile comes with the tick at which they are whole again.
    fn leave_out_incomplete(&mut self, arm: Arm, bounds_ms: &[f64]) -> Option<String> {
        let bounds: Vec<f64> = bounds_ms.iter().take(BOUNDS_MAX).copied().chain([f64::INFINITY]).collect();
        let lacks = |classes: &Classes| bounds.iter().find(|b| !classes.contains_key(&b.to_bits())).copied();
        let said = self.intake[arm].iter().find_map(|(process, classes)| {
            let bound = lacks(classes)?;
            let le = if bound.is_finite() { format!("{bound} ms") } else { "+Inf".to_owned() };
            Some(format!("the histogram of {process} has no bucket for {le}: latency is not read until it has"))
        });
        self.intake[arm].retain(|_, classes| lacks(classes).is_none());
        said
    }

    /// The first process whose buckets fall from one bound to the next. They are read as non-decreasing all the same.
    fn not_cumulative(&self, arm: Arm) -> Option<String> {
        let falls = |classes: &Classes| classes.values().zip(classes.values().skip(1)).any(|(low, high)| high < low);
        let process = self.intake[arm].iter().find(|(_, classes)| falls(classes))?.0;
        Some(format!("{}: the buckets of {process} are not cumulative: read as if they did not fall", arm.name()))
    }

    /// Processes first seen for this arm now, which the other arm knew at this arm's previous tick.
    fn known_elsewhere(&self, arm: Arm) -> BTreeSet<String> {
        let other = if arm == Arm::Baseline { Arm::Canary } else { Arm::Baseline };
        let Some(previous) = self.counters[arm].previous() else { return BTreeSet::new() };
        self.intake[arm].keys().filter(|p| self.counters[other].knew(p, previous)).cloned().collect()
    }

    /// Both arms together, or none.
    fn release(&mut self, at: Timestamp, group: Group, conditions: PerArm<Condition>) -> Given {
        let waiting = Arm::BOTH.iter().any(|arm| matches!(conditions[*arm], Condition::Waiting(_)));
        let mut notes = Vec::new();
        let arms = PerArm::from_fn(|arm| {
            let name = arm.name();
            for silent in self.counters[arm].silent(at).iter().take(NAMED_MAX) {
                notes.push(format!("{name}: no new sample of {silent} for two scrapes: left out"));
            }
            match &conditions[arm] {
                Condition::Ready if !waiting => Ok(self.counters[arm].take()),
                Condition::Ready => Err(Blind::Stale),
                Condition::Waiting(process) => {
                    notes.push(format!("{name}: waiting for a new sample of {process}"));
                    Err(Blind::Stale)
                }
                Condition::Blind(why, detail) => {
                    if !detail.is_empty() {
                        notes.push(format!("{name}: {detail}"));
                    }
                    Err(*why)
                }
            }
        });
        Given { group, arms, notes, skips: false, alike: false }
    }
}

#[cfg(test)]
mod tests;
