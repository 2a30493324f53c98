//! CPU and memory of one telemetry entry between ticks: values per process in, one mean per arm out. The same for every
//! source.
//!
//! The rules, each with a test below:
//! - A process counts while its newest sample is fresh: not older than two scrapes. Series with explicit timestamps
//!   (cAdvisor's) keep their last value for five minutes after their pod is gone.
//! - An arm of which no process has a sample newer than at its last reading is stale: the same sample twice is no evidence.
//! - One process without a sensible value (NaN, infinite, below 0) blinds its arm: a mean over the others would jump.

use super::packs::level::{LevelAsked, What};
use super::rhythm::Rhythm;
use crate::model::{Arm, Blind, PerArm, Reading, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

/// What came in for one arm at a tick, by process.
#[derive(Clone, Debug, Default)]
struct Intake {
    values: BTreeMap<String, f64>,
    floors: BTreeMap<String, f64>,
    sampled: BTreeMap<String, Timestamp>,
}

/// One level of both arms.
#[derive(Debug)]
pub(super) struct Levels {
    pub(super) what: What,
    every: Duration,
    intake: PerArm<Intake>,
    scraped: PerArm<BTreeMap<String, Rhythm>>,
    /// Newest sample of the last reading.
    used: PerArm<Option<Timestamp>>,
    /// The query was refused.
    trouble: Option<Blind>,
}

/// What a tick gave of one level in one arm.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LevelGiven {
    pub(super) value: Reading<f64>,
    pub(super) floor: Reading<f64>,
    /// Processes with a fresh sample.
    pub(super) pods: usize,
    pub(super) note: Option<String>,
}

impl Levels {
    pub(super) fn new(asked: &LevelAsked, scrape: Duration) -> Self {
        let every = asked.every.unwrap_or(scrape);
        let scraped = PerArm::default();
        Self { what: asked.what, every, intake: PerArm::default(), scraped, used: PerArm::default(), trouble: None }
    }

    /// The level of a process.
    pub(super) fn value(&mut self, arm: Arm, process: &str, value: f64) {
        self.intake[arm].values.insert(process.to_owned(), value);
    }

    /// Its minimum over the floor's window.
    pub(super) fn floor(&mut self, arm: Arm, process: &str, value: f64) {
        self.intake[arm].floors.insert(process.to_owned(), value);
    }

    /// When its newest sample was taken.
    pub(super) fn sampled(&mut self, arm: Arm, process: &str, at: Timestamp) {
        self.intake[arm].sampled.insert(process.to_owned(), at);
    }

    /// Nothing of the tick can be used, for this reason.
    pub(super) fn refuse(&mut self, why: Blind) {
        self.trouble = Some(why);
    }

    /// Nothing of a tick has come in.
    pub(super) fn forget(&mut self) {
        self.intake = PerArm::default();
        self.trouble = None;
    }

    /// The tick is read. `ready`: does this process of this arm count?
    pub(super) fn finish(&mut self, at: Timestamp, ready: impl Fn(Arm, &str) -> bool) -> PerArm<LevelGiven> {
        let intake = std::mem::take(&mut self.intake);
        let trouble = self.trouble.take();
        PerArm::from_fn(|arm| match trouble {
            Some(why) => LevelGiven { value: Err(why), floor: Err(why), pods: 0, note: None },
            None => self.of_arm(arm, at, &intake[arm], |process| ready(arm, process)),
        })
    }

    fn of_arm(&mut self, arm: Arm, at: Timestamp, intake: &Intake, ready: impl Fn(&str) -> bool) -> LevelGiven {
        let mut fresh = self.fresh(arm, at, intake);
        fresh.retain(|process, _| ready(process));
        let newest = fresh.values().copied().max();
        let (old, used) = (self.used[arm], newest.is_some());
        let of = |values: &BTreeMap<String, f64>| match newest {
            None if values.is_empty() => Err((Blind::NoSeries, None)),
            None => Err((Blind::Silent, None)),
            Some(newest) if old.is_some_and(|old| newest <= old) => Err((Blind::Stale, None)),
            Some(_) => mean(values.iter().filter(|(process, _)| fresh.contains_key(process.as_str()))),
        };
        let (value, floor) = (of(&intake.values), of(&intake.floors));
        if used && value.is_ok() {
            self.used[arm] = newest;
        }
        let said = |(_, process): &(Blind, Option<String>)| {
            let process = process.as_ref()?;
            Some(format!("{}: {} of {process} is no number from 0 up", arm.name(), self.what.name()))
        };
        let note = value.as_ref().err().and_then(said);
        let bare = |reading: Result<f64, (Blind, Option<String>)>| reading.map_err(|(why, _)| why);
        LevelGiven { value: bare(value), floor: bare(floor), pods: fresh.len(), note }
    }

    /// Processes whose newest sample is fresh, and when it was taken.
    fn fresh<'a>(&mut self, arm: Arm, at: Timestamp, intake: &'a Intake) -> BTreeMap<&'a str, Timestamp> {
        let known = &mut self.scraped[arm];
        let mut fresh = BTreeMap::new();
        for process in intake.values.keys() {
            let sampled = intake.sampled.get(process).copied().unwrap_or(at);
            let rhythm = known.entry(process.clone()).or_insert(Rhythm::new(sampled, self.every));
            rhythm.heard(sampled);
            if !rhythm.silent(at) {
                fresh.insert(process.as_str(), sampled);
            }
        }
        known.retain(|process, _| intake.values.contains_key(process));
        fresh
    }
}

/// The mean of processes' levels; the error names the process that has none.
fn mean<'a>(values: impl Iterator<Item = (&'a String, &'a f64)>) -> Result<f64, (Blind, Option<String>)> {
    let (mut sum, mut n) = (0.0, 0.0);
    for (process, value) in values {
        if !value.is_finite() || *value < 0.0 {
            return Err((Blind::NotANumber, Some(process.clone())));
        }
        sum += value;
        n += 1.0;
    }
    match sum / n {
        mean if mean.is_finite() => Ok(mean),
        _ if n == 0.0 => Err((Blind::NoSeries, None)),
        // a sum beyond what a number holds
        _ => Err((Blind::NotANumber, Some("every process".to_owned()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::packs::level::Level;

    fn levels() -> Levels {
        let level = Level::parse("memory{ARM}").unwrap();
        let every = Some(Duration::from_secs(30));
        Levels::new(&LevelAsked { what: What::Memory, level, floor: None, every }, Duration::from_secs(15))
    }

    fn s(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000_000) + Duration::from_secs(seconds)
    }

    fn all(_: Arm, _: &str) -> bool {
        true
    }

    fn seen(levels: &mut Levels, pods: &[(&str, u64, f64)]) {
        for (pod, sampled, value) in pods {
            levels.value(Arm::Canary, pod, *value);
            levels.floor(Arm::Canary, pod, *value / 2.0);
            levels.sampled(Arm::Canary, pod, s(*sampled));
        }
    }

    #[test]
    fn the_mean_of_fresh_pods() {
        let mut levels = levels();
        seen(&mut levels, &[("a", 25, 100.0), ("b", 29, 300.0)]);
        let given = levels.finish(s(30), all);
        assert_eq!(given.canary, LevelGiven { value: Ok(200.0), floor: Ok(100.0), pods: 2, note: None });
        assert_eq!((given.baseline.value, given.baseline.pods), (Err(Blind::NoSeries), 0));
        // b is gone: its last value is shown for a while, and is fresh for two scrapes
        for (at, pods) in [(60, 2), (90, 2), (120, 1)] {
            seen(&mut levels, &[("a", at - 5, 100.0), ("b", 29, 300.0)]);
            let given = levels.finish(s(at), all).canary;
            assert_eq!((given.pods, given.value), (pods, Ok(if pods == 2 { 200.0 } else { 100.0 })), "at {at}");
        }
    }

    #[test]
    fn two_replicas_scraped_a_second_apart_silence_nothing() {
        let mut levels = levels();
        for round in 1..5 {
            for sampled in [30 * round, 30 * round + 1] {
                seen(&mut levels, &[("a", sampled, 100.0)]);
                levels.finish(s(30 * round + 2), all);
            }
        }
        seen(&mut levels, &[("a", 150, 100.0)]);
        assert_eq!(levels.finish(s(165), all).canary.value, Ok(100.0), "half an interval after its newest sample");
    }

    #[test]
    fn pods_that_are_not_ready_do_not_count() {
        let mut levels = levels();
        seen(&mut levels, &[("a", 25, 100.0), ("b", 25, 300.0)]);
        let given = levels.finish(s(30), |_, pod| pod == "b").canary;
        assert_eq!((given.value, given.floor, given.pods), (Ok(300.0), Ok(150.0), 1));
        seen(&mut levels, &[("a", 40, 100.0)]);
        let given = levels.finish(s(45), |_, _| false).canary;
        assert_eq!((given.value, given.pods), (Err(Blind::Silent), 0));
    }

    #[test]
    fn the_same_sample_is_used_once() {
        let mut levels = levels();
        seen(&mut levels, &[("a", 25, 100.0)]);
        assert_eq!(levels.finish(s(30), all).canary.value, Ok(100.0));
        seen(&mut levels, &[("a", 25, 100.0)]);
        assert_eq!(levels.finish(s(45), all).canary.value, Err(Blind::Stale));
        seen(&mut levels, &[("a", 55, 110.0)]);
        assert_eq!(levels.finish(s(60), all).canary.value, Ok(110.0));
        seen(&mut levels, &[("a", 55, 110.0)]);
        assert_eq!(levels.finish(s(200), all).canary.value, Err(Blind::Silent));
    }

    #[test]
    fn a_value_that_is_none_blinds_its_arm_and_is_named() {
        for odd in [f64::NAN, f64::INFINITY, -1.0] {
            let mut levels = levels();
            seen(&mut levels, &[("a", 25, 100.0), ("b", 25, odd)]);
            let given = levels.finish(s(30), all).canary;
            assert_eq!((given.value, given.pods), (Err(Blind::NotANumber), 2), "{odd}");
            assert_eq!(given.note.as_deref(), Some("canary: memory of b is no number from 0 up"));
        }
        let mut levels = levels();
        seen(&mut levels, &[("a", 25, 0.0)]);
        assert_eq!(levels.finish(s(30), all).canary.value, Ok(0.0), "an idle arm: what a ratio cannot be made of, a limit can be held to");
        seen(&mut levels, &[("a", 40, 0.0), ("b", 40, 5.0)]);
        assert_eq!(levels.finish(s(45), all).canary.value, Ok(2.5), "an idle pod beside a busy one");
    }

    #[test]
    fn a_refused_query_is_forgotten_with_its_tick() {
        let mut levels = levels();
        seen(&mut levels, &[("a", 25, 1.0)]);
        levels.refuse(Blind::QueryRejected);
        assert_eq!(levels.finish(s(30), all).canary.value, Err(Blind::QueryRejected));
        seen(&mut levels, &[("a", 40, 1.0)]);
        assert_eq!(levels.finish(s(45), all).canary.value, Ok(1.0));
    }
}
