//! From a pack, a rule's telemetry entry and two workloads to questions a source can ask. Sans I/O: where a choice depends
//! on what exists (`[candidates]`), [`Resolver::next`] says what to look up and [`Resolver::answer`] takes what was found.

mod asking;
mod entry;

use super::level::What;
pub use super::question::{Asked, Group, Meaning, Question};
use super::select::{Matcher, Select};
use crate::model::{PerArm, rule};
use crate::source::pods::ArmPods;
use crate::source::{Subscription, Wants};
use entry::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// Something to look up.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// Which of these metrics have series that match.
    Metrics {
        /// Names.
        names: Vec<String>,
        /// Matchers.
        matchers: Vec<Matcher>,
    },
    /// Which of these labels have a value on a matching series.
    Labels {
        /// The series.
        select: Select,
        /// Labels.
        labels: Vec<String>,
    },
}

/// Makes the choices of one subscription, then its questions.
#[derive(Clone, Debug)]
pub struct Resolver {
    targets: PerArm<rule::Target>,
    custom_counts: Vec<rule::CustomCounts>,
    entries: Vec<Entry>,
    /// Positions of the entries that give a level, in order; the first whose series exist is read.
    levels: BTreeMap<What, Vec<usize>>,
    scale: f64,
    /// Sentences for the operator.
    pub warnings: Vec<String>,
    /// A choice was made without a series to go by: make it again once there is one.
    pub guessed: bool,
}

impl Resolver {
    /// # Errors
    /// A sentence: what the rule asks for and this build or the packs cannot give.
    pub fn new(packs: &super::Packs, wanted: &Subscription) -> Result<Self, String> {
        let mut resolver = Self {
            targets: wanted.arms.clone(),
            custom_counts: wanted.custom_counts.clone(),
            entries: Vec::new(),
            levels: BTreeMap::new(),
            scale: wanted.time_scale,
            warnings: Vec::new(),
            guessed: false,
        };
        let mut missing = wanted.wants;
        let mut refused = Vec::new();
        for telemetry in &wanted.telemetry {
            match Entry::new(packs, telemetry, &wanted.arms, missing) {
                Ok(entry) => {
                    missing.requests &= !entry.wants.requests;
                    missing.buckets &= !entry.wants.buckets;
                    resolver.warnings.extend(entry.remarks(&wanted.arms));
                    resolver.offer_levels(&entry, wanted.wants)?;
                    resolver.entries.push(entry);
                }
                Err(why) => refused.push(why),
            }
        }
        if resolver.entries.is_empty() {
            refused.push("no telemetry entry of the rule can be read".to_owned());
            return Err(refused.join("; "));
        }
        resolver.warnings.append(&mut refused);
        missing.cpu &= !resolver.levels.contains_key(&What::Cpu);
        missing.memory &= !resolver.levels.contains_key(&What::Memory);
        resolver.warn_missing(missing);
        Ok(resolver)
    }

    /// With the pods of both arms, where a watch knows them.
    #[must_use]
    pub(in crate::source) fn with_pods(mut self, pods: &ArmPods) -> Self {
        self.entries.iter_mut().for_each(|entry| entry.take_pods(pods));
        self
    }

    /// Notes which levels the entry to be added next can give.
    fn offer_levels(&mut self, entry: &Entry, wants: Wants) -> Result<(), String> {
        for what in What::ALL {
            let wanted = if what == What::Cpu { wants.cpu } else { wants.memory };
            if wanted && entry.pack.gauges.contains_key(what.name()) {
                if entry.params_settled() {
                    entry.level(what, 1.0)?; // a level that cannot be read is said at once
                }
                self.levels.entry(what).or_default().push(self.entries.len());
            }
        }
        Ok(())
    }

    /// The level to look for next: several entries offer it.
    fn open_level(&self) -> Option<(What, usize)> {
        self.levels.iter().find(|(_, offers)| offers.len() > 1).map(|(what, offers)| (*what, offers[0]))
    }

    /// Which pack gives which quantity, where the rule names several.
    pub fn shares(&self) -> Option<String> {
        if self.entries.len() < 2 {
            return None;
        }
        let of = |at: usize| {
            let entry = &self.entries[at];
            let counts = [(entry.wants.requests, "requests"), (entry.wants.buckets, "latency")];
            let level = |what: &What| self.levels.get(what).is_some_and(|offers| offers[..1] == [at]);
            let levels = What::ALL.iter().filter(|w| level(w)).map(|w| w.name());
            let all: Vec<&str> = counts.into_iter().filter(|(there, _)| *there).map(|(_, what)| what).chain(levels).collect();
            let all = if all.is_empty() { "nothing".to_owned() } else { all.join(", ") };
            format!("{all} from pack {}", entry.pack.pack)
        };
        let all: Vec<String> = (0..self.entries.len()).map(of).collect();
        Some(format!("of each quantity the first pack that gives it is read: {}", all.join("; ")))
    }

    fn warn_missing(&mut self, missing: Wants) {
        for (wanted, what) in
            [(missing.requests, "request counts"), (missing.buckets, "latency"), (missing.cpu, "cpu"), (missing.memory, "memory")]
        {
            if wanted {
                self.warnings.push(format!("no pack of the rule's telemetry gives {what} in this build: metrics on it stay blind"));
            }
        }
    }

    /// What to look up next; `None` when every choice is made.
    ///
    /// # Errors
    /// A template that cannot be filled.
    pub fn next(&self) -> Result<Option<Probe>, String> {
        if let Some(probe) = self.entries.iter().find_map(Entry::variant_probe) {
            return Ok(Some(probe));
        }
        match self.entries.iter().find_map(|e| e.open.first().map(|open| (e, open))) {
            Some((entry, open)) => entry.probe(open, &self.targets).map(Some),
            None => match self.open_level() {
                Some((what, at)) => self.entries[at].level_probe(what, &self.targets).map(Some),
                None => Ok(None),
            },
        }
    }

    /// Takes what the last [`Resolver::next`] found: names of metrics, or of labels.
    pub fn answer(&mut self, found: &BTreeSet<String>) {
        if let Some(entry) = self.entries.iter_mut().find(|e| e.variant_probe().is_some()) {
            self.guessed |= !entry.choose_variant(found);
        } else if let Some(entry) = self.entries.iter_mut().find(|e| !e.open.is_empty()) {
            let open = entry.open.remove(0);
            self.guessed |= !entry.choose(&open, found);
        } else if let Some((what, at)) = self.open_level() {
            let there = self.entries[at].level(what, 1.0).is_ok_and(|asked| found.contains(&asked.level.select.name));
            if let Some(offers) = self.levels.get_mut(&what) {
                if there {
                    offers.truncate(1);
                } else {
                    offers.remove(0);
                }
            }
        }
    }

    /// The questions, one [`Asked`] per telemetry entry in use.
    ///
    /// # Errors
    /// A template that cannot be filled; pods that cannot be told.
    pub fn finish(&self) -> Result<Vec<Asked>, String> {
        let mut all = Vec::new();
        for (at, entry) in self.entries.iter().enumerate() {
            let custom = if at == 0 { self.custom_counts.as_slice() } else { &[] };
            let mut asked = entry.asked(&self.targets, custom)?;
            for (what, _) in self.levels.iter().filter(|(_, offers)| offers.first() == Some(&at)) {
                asked.levels.push(entry.level(*what, self.scale)?);
            }
            if !asked.questions.is_empty() || !asked.levels.is_empty() {
                asked.check()?;
                all.push(asked);
            }
            // a rule that does not give the service has been told
            all.extend(entry.orphans(&self.targets).ok().flatten());
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests;
