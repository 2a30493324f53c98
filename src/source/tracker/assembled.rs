//! What the questions of a tick gave, put together as one sample per arm.

use super::tracked::Given;
use super::{Classes, Entry, Tracker};
use crate::model::{Arm, ArmSample, BOUNDS_MAX, Blind, Buckets, CUSTOM_MAX, Counts, PerArm, Reading, Timestamp};
use crate::source::levels::LevelGiven;
use crate::source::packs::grammar::Outcome;
use crate::source::packs::level::What;
use crate::source::packs::resolve::{Group, Meaning};

impl Tracker {
    /// A sample of which nothing is read yet; what the rule does not want is not asked.
    pub(super) fn empty(&self, why: Blind) -> ArmSample {
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

    pub(super) fn sample(&self, arm: Arm, at: Timestamp, given: &[Given], gauges: &[Reading<f64>]) -> ArmSample {
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
        // increments do not say of how many processes they are
        let first = self.entries.first().filter(|e| e.asked.questions.first().is_some_and(|q| !q.is_delta()));
        sample.pods = first.and_then(|e| e.tracked.first()).map(|t| t.counters[arm].alive(at) as u32);
        sample
    }

    /// Failures that belong to no workload: of each arm whose they can only be, and of neither.
    pub(super) fn orphans(&self, given: &[Given]) -> (PerArm<f64>, f64) {
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
    pub(super) fn ready_pods(&self, arm: Arm) -> Option<u32> {
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
pub(super) fn with_orphans(sample: &mut ArmSample, orphans: f64) {
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
pub(super) fn with_levels(sample: &mut ArmSample, arm: Arm, levels: &[(What, PerArm<LevelGiven>)]) {
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
