//! What a source is asked: the questions of one telemetry entry, with every choice made and every template filled.

use super::arms::{Tells, Whose};
use super::classes::ClassMatch;
use super::grammar::{Form, Join, Outcome, Start};
use super::level::LevelAsked;
use super::select::{Matcher, Select, label_name};
use crate::model::{Arm, PerArm, Pod};
use crate::source::pods::ArmPods;
use std::time::Duration;

/// A group of counters that is paired on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Requests by class.
    Requests,
    /// Requests whose client left.
    Abandoned,
    /// Latency buckets.
    Buckets,
    /// The rule's own counts, by position.
    Custom(usize),
    /// Failures of the service that the stack ascribes to no workload.
    Orphans,
}

/// What the counts of one selector mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// By class.
    Classes,
    /// All bad.
    Bad,
    /// All of them (custom counts).
    Whole,
    /// The bad ones of the whole (custom counts).
    BadPart,
    /// The good ones of the whole (custom counts).
    GoodPart,
}

/// One question: counters of one group for every process of an arm.
#[derive(Clone, Debug)]
pub struct Question {
    /// Which group.
    pub group: Group,
    /// Its selectors, without the arm's matchers.
    pub selects: Vec<(Select, Meaning)>,
    /// Labels that make classes.
    pub keep: Vec<String>,
    /// Which classes are bad or left out.
    pub classes: Vec<ClassMatch>,
    /// Milliseconds in the unit of `le`.
    pub unit_ms: f64,
    /// In which form it is asked; a source that has a choice makes it, and leaves no [`Form::Auto`].
    pub form: Form,
}

impl Question {
    /// Does it leave out classes of requests? Those are the ones whose client left (PACKS 1.6).
    pub fn skips(&self) -> bool {
        self.classes.iter().any(|rule| rule.is == Outcome::Skip)
    }

    /// Are its increments asked for, and not the counters of each process?
    pub fn is_delta(&self) -> bool {
        self.form == Form::Delta
    }

    /// What requests with these values of `keep` are.
    pub fn outcome(&self, values: &[&str]) -> Outcome {
        let matches = |rule: &&ClassMatch| rule.labels.iter().all(|(at, regex)| regex.is_match(values.get(*at).copied().unwrap_or("")));
        self.classes.iter().find(matches).map_or(Outcome::Good, |rule| rule.is)
    }
}

/// Everything read through one telemetry entry for one rollout.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The pack.
    pub pack: String,
    /// Labels of the process.
    pub identity: Vec<String>,
    /// Labels that together name an arm.
    pub arm_labels: Vec<String>,
    /// How each of them tells.
    pub tells: Vec<Tells>,
    /// What they tell of each arm.
    pub arms: PerArm<Whose>,
    /// Further matchers of the rule.
    pub extra: Vec<Matcher>,
    /// Where starts are read.
    pub start: Option<Start>,
    /// A deep fall proves a restart.
    pub falls_prove_restart: bool,
    /// Pushed: series that end leave no staleness marker.
    pub pushed: bool,
    /// Distance of samples until it is seen.
    pub every: Option<Duration>,
    /// The arm's labels are taken from this metric.
    pub join: Option<Join>,
    /// The questions.
    pub questions: Vec<Question>,
    /// CPU and memory.
    pub levels: Vec<LevelAsked>,
}

impl Asked {
    /// Equal for entries that differ in their arms only: those are asked together.
    pub fn key(&self) -> String {
        let questions: Vec<String> = self
            .questions
            .iter()
            .map(|q| {
                format!(
                    "{:?}|{:?}|{:?}|{}",
                    q.group,
                    q.form,
                    q.keep,
                    q.selects.iter().map(|(s, m)| format!("{s}{m:?};")).collect::<String>()
                )
            })
            .collect();
        let extra: Vec<String> = self.extra.iter().map(ToString::to_string).collect();
        let arms = format!("{:?}|{:?}|{:?}", self.arm_labels, self.tells, self.join);
        format!("{}|{:?}|{arms}|{extra:?}|{questions:?}|{:?}", self.pack, self.identity, self.levels)
    }

    /// Matchers of both arms of these entries; more than asked for where label values cross (the caller keeps exact ones).
    pub fn arm_matchers<'a>(&self, arms: impl IntoIterator<Item = &'a PerArm<Whose>>) -> Vec<Matcher> {
        let arms: Vec<&Whose> = arms.into_iter().flat_map(|a| [&a.baseline, &a.canary]).collect();
        self.matchers_of(&arms)
    }

    /// Matchers of one arm.
    pub fn matchers_of_arm(&self, arm: Arm) -> Vec<Matcher> {
        self.matchers_of(&[&self.arms[arm]])
    }

    fn matchers_of(&self, arms: &[&Whose]) -> Vec<Matcher> {
        let labels = self.arm_labels.iter().zip(&self.tells).enumerate();
        labels.map(|(at, (label, tells))| tells.matcher(label, at, arms)).collect()
    }

    /// Is a row with these labels of this arm?
    pub fn is_arm<'a>(&self, arm: Arm, label: impl Fn(&str) -> &'a str) -> bool {
        let mut labels = self.arm_labels.iter().zip(&self.tells).enumerate();
        labels.all(|(at, (name, tells))| self.arms[arm].is(at, *tells, label(name)))
    }

    /// An expression of one vector of series, such as `timestamp(x)`, for these arms: by their labels, or joined with the metric
    /// that has them, whose value is 1.
    pub fn expression(&self, select: &Select, matchers: &[Matcher], of: impl Fn(&Select) -> String) -> String {
        let Some(Join { metric, on, take }) = &self.join else { return of(&select.with(matchers)) };
        let names = |labels: &[String]| labels.iter().map(|l| label_name(l)).collect::<Vec<_>>().join(", ");
        let info = Select { name: metric.clone(), matchers: matchers.to_vec() };
        let by = names(&on.iter().chain(take).cloned().collect::<Vec<_>>());
        format!("{} * on ({}) group_left ({}) max by ({by}) ({info})", of(select), names(on), names(take))
    }

    /// May its questions be asked for increments? Of what is pushed nothing but a start tells a new process from an old one.
    pub fn may_be_delta(&self) -> bool {
        !self.pushed || self.start.is_some()
    }

    /// Are pods told apart, so that a watch of them is to be asked?
    pub fn tells_pods(&self) -> bool {
        self.tells.iter().any(|tells| *tells != Tells::Value)
    }

    /// The pods of both arms as they are now known.
    pub(in crate::source) fn take_pods(&mut self, pods: &ArmPods) {
        for arm in Arm::BOTH {
            self.arms[arm].pods.clone_from(&pods[arm]);
        }
    }

    /// The pod behind a process of an arm, where a watch knows the arm's pods: `None` where it does not.
    pub fn pod_of(&self, arm: Arm, process: &[&str]) -> Option<Option<&Pod>> {
        let pods = self.arms[arm].pods.as_ref()?;
        let told = self.arm_labels.iter().zip(&self.tells).filter(|(_, tells)| **tells != Tells::Value);
        let (at, tells) = told.filter_map(|(label, tells)| Some((self.identity.iter().position(|i| i == label)?, *tells))).next()?;
        let shown = tells.raw(process.get(at)?);
        Some(pods.iter().find(|pod| tells.of_pod(pod) == Some(shown)))
    }

    /// # Errors
    /// Whose pods are not known, and cannot be told by their names.
    pub fn check(&self) -> Result<(), String> {
        let unwatched = [&self.arms.baseline, &self.arms.canary].into_iter().filter(|arm| arm.pods.is_none());
        for arm in unwatched {
            if arm.alike {
                let workload = arm.values.join(", ");
                return Err(format!("pack {}: of two releases of {workload} only a watch of the cluster knows whose a pod is", self.pack));
            }
            for (tells, value) in self.tells.iter().zip(&arm.values) {
                tells.check(value).map_err(|why| format!("pack {}: {why}", self.pack))?;
            }
        }
        Ok(())
    }

    /// Labels of a level per process: whose it is, and of which arm.
    pub fn level_labels(&self) -> Vec<String> {
        let mut labels = self.identity.clone();
        labels.extend(self.arm_labels.iter().filter(|l| !self.identity.contains(l)).cloned());
        labels
    }
}
