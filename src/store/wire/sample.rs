//! Polls and history: most of a journal's bytes, so these are short.

use super::atoms::{Own, Ref, Wire, described, get_list, wire};
use crate::model::sample::{Buckets, LoadHistory, Reading};
use crate::model::{ArmSample, BOUNDS_MAX, Blind, CUSTOM_MAX, Counts, History, LimitChange, LimitKind, PerArm, Poll, Timestamp};
use arrayvec::ArrayVec;
use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

/// `[total,bad]`
impl Wire for Counts {
    fn put<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        (Ref(&self.total), Ref(&self.bad)).serialize(to)
    }
    fn get<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (total, bad) = <(Own<f64>, Own<f64>)>::deserialize(from)?;
        Ok(Self { total: total.0, bad: bad.0 })
    }
}

/// The value, or the word of its blindness.
impl<T: WireValue> Wire for Reading<T> {
    fn put<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Ok(value) => value.put(to),
            Err(why) => why.put(to),
        }
    }
    fn get<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged, bound = "T: Wire", expecting = "neither a value nor a kind of blindness")]
        enum Either<T> {
            Not(Own<Blind>),
            Is(Own<T>),
        }
        Ok(match Either::<T>::deserialize(from)? {
            Either::Not(why) => Err(why.0),
            Either::Is(value) => Ok(value.0),
        })
    }
}

/// What may stand beside a word of blindness: its JSON is never one of these words.
pub(super) trait WireValue: Wire {}
impl WireValue for f64 {}
impl WireValue for Counts {}
impl WireValue for Buckets {}

/// One reading per custom metric.
impl<T: WireValue> Wire for ArrayVec<Reading<T>, CUSTOM_MAX> {
    fn put<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.iter().map(Ref))
    }
    fn get<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        get_list(from)
    }
}

/// `[length,count,...]`: cumulative counts often end in a run of the same number, which is given once.
impl Wire for Buckets {
    fn put<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let length = self.len() as f64;
        to.collect_seq(std::iter::once(&length).chain(self.iter().take(before_the_run(self))).map(Ref))
    }

    fn get<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let run: ArrayVec<f64, { BOUNDS_MAX + 2 }> = get_list(from)?;
        unrolled(&run).ok_or_else(|| de::Error::custom(format!("{:?} are no bucket counts", run.as_slice())))
    }
}

/// How many counts there are up to the first of the last run.
fn before_the_run(buckets: &Buckets) -> usize {
    let same = |c: &&f64| buckets.last().is_some_and(|last| last.to_bits() == c.to_bits());
    let run = buckets.iter().rev().take_while(same).count();
    buckets.len() - run.saturating_sub(1)
}

fn unrolled(run: &[f64]) -> Option<Buckets> {
    let (&length, counts) = run.split_first()?;
    let possible = length >= counts.len() as f64 && length <= (BOUNDS_MAX + 1) as f64 && length.fract() == 0.0;
    if !possible || (counts.is_empty() && length > 0.0) {
        return None;
    }
    let last = counts.last().copied().unwrap_or(0.0);
    let missing = length as usize - counts.len();
    Some(counts.iter().copied().chain(std::iter::repeat_n(last, missing)).collect())
}

described! { ArmSample as ArmSampleOnWire, Poll as PollOnWire, History as HistoryOnWire, LoadHistory as LoadOnWire, LimitChange as LimitChangeOnWire, LimitKind as LimitKindOnWire }

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(remote = "ArmSample", rename_all = "kebab-case")]
struct ArmSampleOnWire {
    #[serde(with = "wire")]
    requests: Reading<Counts>,
    #[serde(with = "wire")]
    abandoned: Reading<f64>,
    #[serde(with = "wire")]
    buckets: Reading<Buckets>,
    #[serde(with = "wire")]
    cpu: Reading<f64>,
    #[serde(with = "wire")]
    memory: Reading<f64>,
    #[serde(with = "wire")]
    floor: Reading<f64>,
    pods: Option<u32>,
    #[serde(with = "wire")]
    custom_counts: ArrayVec<Reading<Counts>, CUSTOM_MAX>,
    #[serde(with = "wire")]
    custom_gauges: ArrayVec<Reading<f64>, CUSTOM_MAX>,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(remote = "Poll", rename_all = "kebab-case")]
struct PollOnWire {
    #[serde(with = "wire")]
    at: Timestamp,
    step: u32,
    counts_time: bool,
    #[serde(with = "wire")]
    arms: PerArm<ArmSample>,
    // nearly always none, and never before it was known
    #[serde(with = "wire", default, skip_serializing_if = "Vec::is_empty")]
    changes: Vec<LimitChange>,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(remote = "LimitChange", rename_all = "kebab-case")]
struct LimitChangeOnWire {
    metric: u8,
    #[serde(with = "wire")]
    kind: LimitKind,
    #[serde(with = "wire")]
    level: f64,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(remote = "LimitKind", rename_all = "kebab-case")]
enum LimitKindOnWire {
    PromoteBelow,
    WarnAbove,
    RollbackAbove,
    PageAbove,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(remote = "History", rename_all = "kebab-case")]
struct HistoryOnWire {
    #[serde(with = "wire")]
    requests: Vec<Option<Counts>>,
    #[serde(with = "wire")]
    buckets: Vec<Option<Buckets>>,
    #[serde(with = "wire")]
    cpu: Vec<Option<f64>>,
    #[serde(with = "wire")]
    memory: Vec<Option<f64>>,
    #[serde(with = "wire")]
    leak: Vec<Option<f64>>,
    #[serde(with = "wire")]
    load: Option<LoadHistory>,
    #[serde(with = "wire")]
    custom_counts: Vec<Vec<Option<Counts>>>,
    #[serde(with = "wire")]
    custom_gauges: Vec<Vec<Option<f64>>>,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(remote = "LoadHistory")]
struct LoadOnWire {
    #[serde(with = "wire")]
    rate: Vec<f64>,
    #[serde(with = "wire")]
    cpu: Vec<f64>,
}
