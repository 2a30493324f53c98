//! One question's counters per process: rows of a tick in, increments of both arms out, together or not at all.

use super::{Classes, bound_ms};
use crate::model::{Arm, BOUNDS_MAX, Blind, PerArm, Reading, Timestamp};
use crate::source::counters::{Behaviour, Condition, Counters, Seen, Total};
use crate::source::packs::grammar::Outcome;
use crate::source::packs::resolve::{Group, Meaning, Question};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Most silent processes named in a detail.
const NAMED_MAX: usize = 5;

/// One question's counters.
#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) counters: PerArm<Counters>,
    pub(super) intake: PerArm<BTreeMap<String, Classes>>,
    /// Number of each class (selector and kept values), and what it is.
    classes: BTreeMap<(usize, String), u64>,
    pub(super) outcomes: Vec<(Meaning, Outcome)>,
}

/// What one question gave at a tick.
pub(super) struct Given {
    pub(super) group: Group,
    pub(super) arms: PerArm<Reading<Classes>>,
    pub(super) notes: Vec<String>,
    /// It leaves out classes of requests.
    pub(super) skips: bool,
    /// The same series are both arms'.
    pub(super) alike: bool,
}

impl Tracked {
    pub(super) fn new(question: &Question, falls_prove_restart: bool, scrape: Duration) -> Self {
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
    pub(super) fn class(&mut self, question: &Question, select: usize, kept: &[&str]) -> Option<u64> {
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

impl Tracked {
    pub(super) fn observe(
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
    pub(super) fn leave_out_incomplete(&mut self, arm: Arm, bounds_ms: &[f64]) -> Option<String> {
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
    pub(super) fn not_cumulative(&self, arm: Arm) -> Option<String> {
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
    pub(super) fn release(&mut self, at: Timestamp, group: Group, conditions: PerArm<Condition>) -> Given {
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
