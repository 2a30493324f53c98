//! The way from scraped counters to a poll, as a source takes it: `source::counters` per arm and group, and both arms released
//! together or not at all (what `source`'s tracker does, without packs and rows).

use canaryd::config::{Known, parse_rule};
use canaryd::model::journal::Opened;
use canaryd::model::{Arm, ArmSample, Begin, Blind, Buckets, Counts, History, PerArm, Reading, RolloutId, Rule, Side, Timestamp};
use canaryd::source::counters::{Behaviour, Condition, Counters, Seen, Total};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

pub(super) const TICK: Duration = Duration::from_secs(15);
/// A multiple of the tick.
pub(super) const START: Timestamp = Timestamp::from_millis(1_750_000_005_000);

/// Cumulative values by class.
pub(super) type Classes = BTreeMap<u64, f64>;
/// Classes of requests.
pub(super) const GOOD: u64 = 0;
pub(super) const BAD: u64 = 1;

/// One process as a scrape shows it.
#[derive(Clone, Debug)]
pub(super) struct Scraped {
    pub(super) process: String,
    pub(super) sampled: Timestamp,
    pub(super) start: Option<Timestamp>,
    pub(super) requests: Classes,
    /// By the bits of the bound, ms.
    pub(super) buckets: Classes,
}

/// Counters of one group, both arms.
struct Group(PerArm<Counters>);

/// What a tick gave.
pub(super) struct Differenced {
    pub(super) arms: PerArm<ArmSample>,
    pub(super) missing: PerArm<Option<Blind>>,
    pub(super) detail: String,
}

/// A source's memory of one subscription.
pub(super) struct Differencer {
    requests: Group,
    buckets: Group,
    bounds_ms: Vec<f64>,
}

impl Differencer {
    pub(super) fn new(bounds_ms: &[f64], falls_prove_restart: bool) -> Self {
        let group = |total| {
            let counters = Counters::new(Behaviour { total, falls_prove_restart, scrape: TICK });
            Group(PerArm { baseline: counters.clone(), canary: counters })
        };
        Self { requests: group(Total::Sum), buckets: group(Total::Last), bounds_ms: bounds_ms.to_vec() }
    }

    pub(super) fn tick(&mut self, at: Timestamp, scraped: &PerArm<Vec<Scraped>>) -> Differenced {
        let mut notes = Vec::new();
        let requests = self.requests.tick(at, scraped, |s| &s.requests, &mut notes);
        let buckets = self.buckets.tick(at, scraped, |s| &s.buckets, &mut notes);
        let arms = PerArm::from_fn(|arm| ArmSample {
            requests: requests[arm].as_ref().map(counts).map_err(|why| *why),
            buckets: buckets[arm].as_ref().map(|b| row(b, &self.bounds_ms)).map_err(|why| *why),
            pods: Some(self.requests.0[arm].alive(at) as u32),
            ..ArmSample::blind(Blind::NotAsked)
        });
        notes.dedup();
        Differenced { missing: arms.as_ref().map(|a| a.requests.err()), arms, detail: notes.join("; ") }
    }

    /// The source does not answer.
    pub(super) fn blind(why: Blind) -> Differenced {
        let arms = PerArm::from_fn(|_| ArmSample { requests: Err(why), buckets: Err(why), ..ArmSample::blind(Blind::NotAsked) });
        Differenced { arms, missing: PerArm::from_fn(|_| Some(why)), detail: "the source does not answer".to_owned() }
    }
}

impl Group {
    fn tick<'a>(
        &mut self,
        at: Timestamp,
        scraped: &'a PerArm<Vec<Scraped>>,
        classes: impl Fn(&'a Scraped) -> &'a Classes,
        notes: &mut Vec<String>,
    ) -> PerArm<Reading<Classes>> {
        let elsewhere = PerArm::from_fn(|arm| self.known_elsewhere(arm, scraped));
        let conditions = PerArm::from_fn(|arm| {
            let shown = scraped[arm].iter().filter(|s| !classes(s).is_empty());
            let seen = shown.map(|s| Seen { process: &s.process, classes: classes(s), sampled: s.sampled, start: s.start });
            self.0[arm].observe(at, seen, |process| elsewhere[arm].contains(process))
        });
        let waiting = Arm::BOTH.iter().any(|arm| matches!(conditions[*arm], Condition::Waiting(_)));
        PerArm::from_fn(|arm| match &conditions[arm] {
            Condition::Ready if !waiting => Ok(self.0[arm].take()),
            Condition::Ready => Err(Blind::Stale),
            Condition::Waiting(process) => {
                notes.push(format!("{}: waiting for a new sample of {process}", arm.name()));
                Err(Blind::Stale)
            }
            Condition::Blind(why, detail) => {
                notes.push(format!("{}: {} {detail}", arm.name(), why.name()));
                Err(*why)
            }
        })
    }

    /// Processes the other arm knew at this arm's previous tick.
    fn known_elsewhere(&self, arm: Arm, scraped: &PerArm<Vec<Scraped>>) -> BTreeSet<String> {
        let other = if arm == Arm::Baseline { Arm::Canary } else { Arm::Baseline };
        let Some(previous) = self.0[arm].previous() else { return BTreeSet::new() };
        scraped[arm].iter().map(|s| &s.process).filter(|p| self.0[other].knew(p, previous)).cloned().collect()
    }
}

fn counts(increments: &Classes) -> Counts {
    Counts { total: increments.values().sum(), bad: increments.get(&BAD).copied().unwrap_or(0.0) }
}

/// Non-decreasing, whatever was scraped.
fn row(increments: &Classes, bounds_ms: &[f64]) -> Buckets {
    let all = increments.last_key_value().map_or(0.0, |(_, v)| *v);
    let mut highest: f64 = 0.0;
    let finite = bounds_ms.iter().map(|bound| {
        highest = highest.max(increments.get(&bound.to_bits()).copied().unwrap_or(0.0)).min(all);
        highest
    });
    let mut out: Buckets = finite.collect();
    out.push(all);
    out
}

/// The class of a latency bucket, `+Inf` last.
pub(super) fn bucket_class(bounds_ms: &[f64], bucket: usize) -> u64 {
    bounds_ms.get(bucket).copied().unwrap_or(f64::INFINITY).to_bits()
}

pub(super) fn known() -> Known {
    Known { packs: ["envoy".to_owned()].into(), ..Known::default() }
}

/// A rule of these steps, metrics and further lines.
pub(super) fn rule_text(steps: &str, metrics: &str, more: &str) -> String {
    format!(
        "rule: sim\nworkloads:\n  namespace: sim\n  pair: [ {{ deployment: sim-v1, cluster: v1 }}, {{ deployment: sim-v2, cluster: v2 }} ]\ntelemetry: [ envoy ]\n\
         traffic:\n  envoy: {{ admin: \"http://127.0.0.1:9901\", runtime-keys: {{ prefix: split }} }}\n\
         steps:\n{steps}metrics:\n{metrics}{more}"
    )
}

pub(super) fn read_rule(text: &str) -> Rule {
    parse_rule(text, Path::new("sim.yaml"), &known()).unwrap_or_else(|report| panic!("{report}\n{text}"))
}

pub(super) fn opened(rule_text: String, bounds_ms: &[f64], scale: f64, history: History) -> Opened {
    Opened {
        id: RolloutId("sim-1".to_owned()),
        rule: "sim".to_owned(),
        rule_text,
        attached: Default::default(),
        file: "sim.yaml".to_owned(),
        interval: TICK,
        bounds_ms: bounds_ms.to_vec(),
        scale,
        incarnation: 0,
        history,
        begin: Begin::new(Side::Second, "v2", "simulation"),
        kept: None,
    }
}
