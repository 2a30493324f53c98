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
mod tests {
    use super::*;
    use crate::model::rule;
    use crate::source::packs::Packs;
    use crate::source::packs::resolve::Resolver;

    const SCRAPE: Duration = Duration::from_secs(15);

    fn envoy() -> (Subscription, Tracker) {
        let target = |cluster: &str| rule::Target { fields: [("cluster".to_owned(), cluster.to_owned())].into() };
        let wanted = Subscription {
            key: 7,
            arms: PerArm { baseline: target("v1"), canary: target("v2") },
            telemetry: vec![rule::Telemetry { pack: "envoy".into(), ..rule::Telemetry::default() }],
            custom_counts: Vec::new(),
            custom_gauges: Vec::new(),
            wants: Wants { requests: true, buckets: true, ..Wants::default() },
            time_scale: 1.0,
        };
        let asked = Resolver::new(&Packs::builtin(), &wanted).unwrap().finish().unwrap();
        let tracker = Tracker::new(&wanted, asked, vec![5.0, 10.0], SCRAPE);
        (wanted, tracker)
    }

    fn s(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000_000) + Duration::from_secs(seconds)
    }

    fn rows(tracker: &mut Tracker, arm: Arm, process: &str, sampled: u64, good: f64, bad: f64) {
        let place = |question| Place { entry: 0, question, select: 0, arm };
        tracker.row(place(0), process, &["200"], good);
        tracker.row(place(0), process, &["503"], bad);
        tracker.row(place(1), process, &[], 0.0);
        tracker.row(place(2), process, &["5"], good / 2.0);
        tracker.row(place(2), process, &["10.0"], good);
        tracker.row(place(2), process, &["+Inf"], good + bad);
        tracker.sampled(0, arm, process, s(sampled));
    }

    fn tracker_of(pack: &str, fields: [&[(&str, &str)]; 2]) -> Tracker {
        let target = |of: &[(&str, &str)]| rule::Target { fields: of.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect() };
        let wanted = Subscription {
            arms: PerArm { baseline: target(fields[0]), canary: target(fields[1]) },
            telemetry: vec![rule::Telemetry { pack: pack.into(), ..rule::Telemetry::default() }],
            wants: Wants { requests: true, ..Wants::default() },
            ..envoy().0
        };
        let mut resolver = Resolver::new(&Packs::builtin(), &wanted).unwrap();
        while resolver.next().unwrap().is_some() {
            resolver.answer(&BTreeSet::new());
        }
        Tracker::new(&wanted, resolver.finish().unwrap(), Vec::new(), SCRAPE)
    }

    fn mesh(service: [&str; 2]) -> Tracker {
        let of = |deployment, service| [("namespace", "prod"), ("deployment", deployment), ("service", service)];
        tracker_of("istio", [&of("v1", service[0]), &of("v2", service[1])])
    }

    /// A tick of a mesh: requests of both arms, and failures of the service that name no workload.
    fn mesh_tick(tracker: &mut Tracker, at: u64, canary: Option<f64>, orphans: f64, alike: bool) -> SourceSample {
        let place = |entry, arm| Place { entry, question: 0, select: 0, arm };
        for (arm, n) in [(Arm::Baseline, Some(10.0 * at as f64)), (Arm::Canary, canary)] {
            let Some(n) = n else { continue };
            tracker.row(place(0, arm), arm.name(), &["http", "200", ""], n);
            tracker.row(place(0, arm), arm.name(), &["http", "0", ""], n / 10.0);
            tracker.sampled(0, arm, arm.name(), s(at));
        }
        for arm in Arm::BOTH.into_iter().filter(|arm| alike || *arm == Arm::Canary) {
            tracker.row(place(1, arm), "client", &[], orphans);
            tracker.sampled(1, arm, "client", s(at));
        }
        tracker.finish(s(at), PerArm::default())
    }

    #[test]
    fn requests_whose_client_left_do_not_count_and_are_shown() {
        let mut tracker = mesh(["api", "api"]);
        mesh_tick(&mut tracker, 15, Some(100.0), 0.0, true);
        let sample = mesh_tick(&mut tracker, 30, Some(150.0), 0.0, true);
        assert_eq!((sample.arms.canary.requests, sample.arms.canary.abandoned), (Ok(Counts { total: 50.0, bad: 0.0 }), Ok(5.0)));
        assert_eq!(sample.orphans, 0.0);
    }

    #[test]
    fn orphans_are_nobodys_unless_they_can_only_be_one_arms() {
        let counts = |sample: &SourceSample| (sample.arms.canary.requests, sample.orphans);
        let ok = |total, bad| Ok(Counts { total, bad });
        // one service of both, both healthy: nobody is blamed
        let mut tracker = mesh(["api", "api"]);
        mesh_tick(&mut tracker, 15, Some(100.0), 7.0, true);
        assert_eq!(counts(&mesh_tick(&mut tracker, 30, Some(150.0), 12.0, true)), (ok(50.0, 0.0), 5.0));
        // a watch sees that only the canary has no ready pod
        let pod = |ready| crate::model::Pod { name: "p".into(), ip: None, created: s(0), ready };
        let pods = |canary| PerArm { baseline: Some(vec![pod(true)].into()), canary: Some(vec![pod(canary)].into()) };
        for (ready, of_canary, of_none) in [(false, ok(10.0, 5.0), 0.0), (true, ok(5.0, 0.0), 5.0)] {
            let mut tracker = mesh(["api", "api"]);
            tracker.entries[0].asked.tells = vec![crate::source::packs::arms::Tells::Pods; 2];
            mesh_tick(&mut tracker, 15, Some(100.0), 7.0, true);
            tracker.take_pods(&pods(ready));
            let sample = mesh_tick(&mut tracker, 30, Some(105.0), 12.0, true);
            assert_eq!((counts(&sample), sample.arms.canary.pods), ((of_canary, of_none), Some(u32::from(ready))));
        }
        // a service of its own: a canary that never had a ready pod shows by these alone
        let mut tracker = mesh(["api", "api-canary"]);
        mesh_tick(&mut tracker, 15, None, 7.0, false);
        let sample = mesh_tick(&mut tracker, 30, None, 12.0, false);
        assert_eq!((counts(&sample), sample.missing.canary), ((ok(5.0, 5.0), 0.0), None));
    }

    fn pushed(tracker: &mut Tracker, at: u64, process: &str, sampled: u64, n: f64) {
        let of = [(Arm::Baseline, "b", at, at as f64), (Arm::Canary, process, sampled, n)];
        for (arm, process, sampled, n) in of {
            tracker.row(Place { entry: 0, question: 0, select: 0, arm }, process, &["200", ""], n);
            tracker.sampled(0, arm, process, s(sampled));
        }
    }

    #[test]
    fn a_pushed_source_that_died_is_stale_within_two_intervals_and_not_without_errors() {
        let of = |deployment| [("namespace", "prod"), ("deployment", deployment)];
        let mut tracker = tracker_of("otel-http", [&of("v1"), &of("v2")]);
        let mut seen = Vec::new();
        // pushed each minute until 180; its last value is shown for five minutes more
        for at in (60..=480).step_by(60) {
            let last = at.min(180);
            pushed(&mut tracker, at, "c", last, last as f64);
            seen.push(tracker.finish(s(at), PerArm::default()));
        }
        let canary: Vec<_> = seen.iter().map(|sample| sample.arms.canary.requests.map(|c| c.total)).collect();
        assert_eq!(canary[..3], [Ok(0.0), Ok(60.0), Ok(60.0)]);
        assert!(canary[3..].iter().all(|c| *c == Err(Blind::Stale)), "{canary:?}");
        assert!(seen[5].detail.contains("nothing was pushed for two intervals"), "{}", seen[5].detail);
    }

    #[test]
    fn a_new_identity_is_born_and_a_known_one_that_falls_has_not_restarted() {
        let of = |deployment| [("namespace", "prod"), ("deployment", deployment)];
        let mut tracker = tracker_of("otel-http", [&of("v1"), &of("v2")]);
        pushed(&mut tracker, 60, "c", 60, 100.0);
        tracker.finish(s(60), PerArm::default());
        pushed(&mut tracker, 120, "c", 120, 130.0);
        assert_eq!(tracker.finish(s(120), PerArm::default()).arms.canary.requests.map(|c| c.total), Ok(30.0));
        pushed(&mut tracker, 180, "c", 180, 140.0);
        pushed(&mut tracker, 180, "new", 180, 8.0);
        assert_eq!(tracker.finish(s(180), PerArm::default()).arms.canary.requests.map(|c| c.total), Ok(18.0), "a new one counts from 0");
        // a series that the collector dropped and made again (metric_expiration) is no restart
        pushed(&mut tracker, 240, "c", 240, 6.0);
        pushed(&mut tracker, 240, "new", 240, 9.0);
        assert_eq!(tracker.finish(s(240), PerArm::default()).arms.canary.requests.map(|c| c.total), Ok(1.0));
    }

    #[test]
    fn more_custom_metrics_than_a_sample_holds_are_no_panic() {
        let (mut wanted, _) = envoy();
        wanted.custom_gauges = vec![rule::CustomGauge { query: "x".into(), lower_is_worse: false }; 9];
        wanted.custom_counts = vec![rule::CustomCounts { part: "a".into(), part_is_bad: true, total: "b".into() }; 9];
        let mut tracker = Tracker::new(&wanted, Vec::new(), Vec::new(), SCRAPE);
        let arms = tracker.blind(Blind::SourceDown, "").arms;
        assert_eq!((arms.canary.custom_gauges.len(), arms.canary.custom_counts.len()), (CUSTOM_MAX, CUSTOM_MAX));
        assert_eq!(tracker.finish(s(15), PerArm::from_fn(|_| vec![Ok(1.0); 9])).arms.canary.custom_gauges.len(), CUSTOM_MAX);
    }

    #[test]
    fn a_tick_gives_both_arms() {
        let (_, mut tracker) = envoy();
        for (at, n) in [(15, 1.0), (30, 2.0)] {
            rows(&mut tracker, Arm::Baseline, "p", at, 100.0 * n, 2.0 * n);
            rows(&mut tracker, Arm::Canary, "q", at, 10.0 * n, 1.0 * n);
            let sample = tracker.finish(s(at), PerArm::default());
            let expected = |total, bad| if at == 15 { Counts::default() } else { Counts { total, bad } };
            assert_eq!(sample.arms.baseline.requests, Ok(expected(102.0, 2.0)));
            assert_eq!(sample.arms.canary.requests, Ok(expected(11.0, 1.0)));
            assert_eq!(sample.missing, PerArm::default());
            if at == 30 {
                assert_eq!(sample.arms.baseline.buckets.unwrap().as_slice(), [50.0, 100.0, 102.0]);
                assert_eq!((sample.arms.canary.abandoned, sample.arms.canary.pods), (Ok(0.0), Some(1)));
            }
        }
    }

    #[test]
    fn arms_scraped_at_different_phases_meet_in_one_tick() {
        let (_, mut tracker) = envoy();
        let mut met = (0.0, 0.0);
        for at in (5..=305u64).step_by(5) {
            for (arm, process, phase) in [(Arm::Baseline, "p", 4u64), (Arm::Canary, "q", 11)] {
                if at >= phase {
                    let scrapes = (at - phase) / 15;
                    rows(&mut tracker, arm, process, phase + 15 * scrapes, 50.0 * scrapes as f64, 3.0 * scrapes as f64);
                }
            }
            let sample = tracker.finish(s(at), PerArm::default());
            if let (Ok(b), Ok(c)) = (&sample.arms.baseline.requests, &sample.arms.canary.requests) {
                assert!(at < 30 || (b.total > 0.0 && c.total > 0.0), "both or none, at {at}");
                met = (met.0 + b.total, met.1 + c.total);
            }
        }
        assert!(met.0 > 18.0 * 53.0 && met.1 > 18.0 * 53.0, "{met:?}");
    }

    #[test]
    fn a_blind_tick_is_bridged_by_the_next() {
        let (_, mut tracker) = envoy();
        let both = |tracker: &mut Tracker, at: u64, n: f64| {
            rows(tracker, Arm::Baseline, "p", at, n, 0.0);
            rows(tracker, Arm::Canary, "q", at, n, 0.0);
        };
        both(&mut tracker, 15, 100.0);
        tracker.finish(s(15), PerArm::default());
        both(&mut tracker, 30, 9999.0);
        let blind = tracker.blind(Blind::SourceDown, "connection refused");
        assert_eq!((blind.missing.canary, &*blind.detail), (Some(Blind::SourceDown), "connection refused"));
        assert_eq!(blind.arms.canary.cpu, Err(Blind::NotAsked));
        both(&mut tracker, 45, 130.0);
        let sample = tracker.finish(s(45), PerArm::default());
        assert_eq!(sample.arms.canary.requests, Ok(Counts { total: 30.0, bad: 0.0 }));
    }

    #[test]
    fn one_arm_without_series_does_not_hold_the_other() {
        let (_, mut tracker) = envoy();
        for at in [15, 30] {
            rows(&mut tracker, Arm::Baseline, "p", at, at as f64, 0.0);
            let sample = tracker.finish(s(at), PerArm::default());
            assert!(sample.arms.baseline.requests.is_ok());
            assert_eq!(sample.missing, PerArm { baseline: None, canary: Some(Blind::NoSeries) });
        }
        // the canary's first requests pass the proxy the baseline was seen through: its counters did not exist before
        rows(&mut tracker, Arm::Baseline, "p", 45, 45.0, 0.0);
        rows(&mut tracker, Arm::Canary, "p", 45, 4.0, 2.0);
        let sample = tracker.finish(s(45), PerArm::default());
        assert_eq!(sample.arms.canary.requests, Ok(Counts { total: 6.0, bad: 2.0 }));
    }

    #[test]
    fn a_native_histogram_is_named() {
        let (_, mut tracker) = envoy();
        tracker.native_only = true;
        rows(&mut tracker, Arm::Baseline, "p", 15, 1.0, 0.0);
        let sample = tracker.finish(s(15), PerArm::default());
        assert_eq!(sample.arms.baseline.buckets, Err(Blind::NativeHistogramOnly));
        assert!(sample.detail.contains("always_scrape_classic_histograms"), "{}", sample.detail);
    }

    #[test]
    fn buckets_that_are_not_all_there_wait_until_they_are() {
        for gone in ["10", "+Inf"] {
            let (_, mut tracker) = envoy();
            let mut ticks = Vec::new();
            for (tick, n) in [(15, 1.0), (30, 2.0), (45, 3.0), (60, 4.0)] {
                for (arm, process) in [(Arm::Baseline, "p"), (Arm::Canary, "q")] {
                    let place = |question| Place { entry: 0, question, select: 0, arm };
                    tracker.row(place(0), process, &["200"], 100.0 * n);
                    tracker.row(place(1), process, &[], 0.0);
                    for (le, value) in [("5", 4.0 * n), ("10", 8.0 * n), ("+Inf", 100.0 * n)] {
                        if !(arm == Arm::Canary && le == gone && (30..60).contains(&tick)) {
                            tracker.row(place(2), process, &[le], value);
                        }
                    }
                    tracker.sampled(0, arm, process, s(tick));
                }
                ticks.push(tracker.finish(s(tick), PerArm::default()));
            }
            for tick in &ticks[1..3] {
                assert_eq!((tick.arms.canary.buckets.clone(), tick.arms.canary.requests.is_ok()), (Err(Blind::NoSeries), true), "{gone}");
                assert!(tick.detail.contains("canary: the histogram of q has no bucket for"), "{}", tick.detail);
            }
            let bound = if gone == "10" { "10 ms" } else { "+Inf" };
            assert!(ticks[1].detail.contains(bound), "{}", ticks[1].detail);
            assert_eq!(ticks[3].arms.canary.buckets.as_ref().unwrap().as_slice(), [12.0, 24.0, 300.0], "{gone}: nothing is lost");
            assert_eq!(ticks[3].arms.baseline.buckets.as_ref().unwrap().as_slice(), [4.0, 8.0, 100.0]);
            assert_eq!(ticks[3].detail, "");
        }
    }

    #[test]
    fn buckets_that_fall_are_said_and_read_as_if_they_did_not() {
        let (_, mut tracker) = envoy();
        for (tick, n) in [(15, 1.0), (30, 2.0)] {
            let place = Place { entry: 0, question: 2, select: 0, arm: Arm::Baseline };
            for (le, value) in [("5", 50.0), ("10", 40.0), ("+Inf", 60.0)] {
                tracker.row(place, "p", &[le], value * n);
            }
            tracker.sampled(0, Arm::Baseline, "p", s(tick));
            let sample = tracker.finish(s(tick), PerArm::default());
            assert!(sample.detail.contains("baseline: the buckets of p are not cumulative"), "{}", sample.detail);
            if tick == 30 {
                assert_eq!(sample.arms.baseline.buckets.unwrap().as_slice(), [50.0, 50.0, 60.0]);
            }
        }
    }

    #[test]
    fn a_bound_that_is_spelled_anew_makes_no_jump() {
        let (_, mut tracker) = envoy();
        let mut seen = Vec::new();
        for (tick, n) in (1u64..).zip([1.0, 2.0, 3.0, 4.0]) {
            for (arm, process) in [(Arm::Baseline, "p"), (Arm::Canary, "q")] {
                let place = Place { entry: 0, question: 2, select: 0, arm };
                // the old spelling keeps its last value beside the new one for a while
                let spelled: &[(&str, f64)] = match tick {
                    1 => &[("5", 1.0), ("10", 1.0)],
                    2 => &[("5", 2.0), ("10", 2.0)],
                    3 => &[("5", 2.0), ("10", 2.0), ("5.0", 3.0), ("10.0", 3.0)],
                    _ => &[("5.0", 4.0), ("10.0", 4.0)],
                };
                spelled.iter().for_each(|(le, n)| tracker.sum(place, process, &[le], 40.0 * n));
                tracker.sum(place, process, &["+Inf"], 50.0 * n);
                tracker.sampled(0, arm, process, s(15 * tick));
            }
            seen.push(tracker.finish(s(15 * tick), PerArm::default()).arms.canary.buckets.map(|b| b.to_vec()));
        }
        assert_eq!(seen[1..], [Ok(vec![40.0, 40.0, 50.0]), Ok(vec![40.0, 40.0, 50.0]), Ok(vec![40.0, 40.0, 50.0])]);
    }

    #[test]
    fn a_histogram_one_flush_behind_its_counter_counts_its_own() {
        let (_, mut tracker) = envoy();
        for (at, n, merged) in [(15, 100.0, 100.0), (30, 200.0, 160.0)] {
            rows(&mut tracker, Arm::Baseline, "p", at, n, 0.0);
            rows(&mut tracker, Arm::Canary, "q", at, n, 0.0);
            for (le, share) in [("5", 0.5), ("10", 1.0), ("+Inf", 1.0)] {
                let behind = merged * share - if le == "5" { n / 2.0 } else { n };
                tracker.row(Place { entry: 0, question: 2, select: 0, arm: Arm::Canary }, "q", &[le], behind);
            }
            let sample = tracker.finish(s(at), PerArm::default());
            if at == 30 {
                assert_eq!(sample.arms.canary.requests.map(|c| c.total), Ok(100.0));
                assert_eq!(sample.arms.canary.buckets.map(|b| b.to_vec()), Ok(vec![30.0, 60.0, 60.0]));
            }
        }
    }

    #[test]
    fn bounds_are_numbers() {
        assert_eq!(bound_ms("1", 1.0), bound_ms("1.0", 1.0));
        assert_eq!(bound_ms("0.3", 1e3), Some(300.0));
        assert_eq!(bound_ms("1.8e+06", 1.0), Some(1_800_000.0));
        assert_eq!(bound_ms("+Inf", 1e3), Some(f64::INFINITY));
        assert_eq!((bound_ms("NaN", 1.0), bound_ms("x", 1.0)), (None, None));
    }
}
