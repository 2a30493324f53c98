//! What one poll carries, after pairing: the only thing the tests look at (STATISTICS 5, 11).

use super::history::monotone;
use super::pairing::{AbandonedIncrement, CountIncrement, Pairing};
use super::series::{SeriesKey, tail_of, two_arms};
use crate::model::{Arm, ArmSample, Blind, Buckets, CUSTOM_MAX, Counts, MetricKind, PerArm, Poll, Reading};
use crate::stats::counts::TwoArms;

/// Counters between two polls.
#[derive(Clone, Debug, Default)]
pub(super) struct Counters {
    requests: Pairing<CountIncrement>,
    custom: [Pairing<CountIncrement>; CUSTOM_MAX],
    buckets: Pairing<Buckets>,
    abandoned: Pairing<AbandonedIncrement>,
}

/// One poll, paired.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) requests: Option<TwoArms>,
    pub(super) custom: [Option<TwoArms>; CUSTOM_MAX],
    pub(super) rows: Option<PerArm<Buckets>>,
    /// Given up, of served and given up.
    pub(super) abandoned: Option<TwoArms>,
}

/// Counts beyond this are no counts: `f64` cannot tell neighbours apart, and squares of squares must stay finite.
pub(super) const COUNT_MAX: f64 = 1e15;
/// Gauges outside of this are no measurements; a ratio of two inside is finite.
const LEVELS: std::ops::RangeInclusive<f64> = 1e-100..=1e100;

/// Can it be a count?
pub(super) fn countable(v: f64) -> bool {
    (0.0..=COUNT_MAX).contains(&v)
}

/// NaN, infinity and a sum below 0 are no counts.
fn counts(r: &Reading<Counts>) -> Reading<CountIncrement> {
    let c = (*r)?;
    if countable(c.total) && countable(c.bad) { Ok(CountIncrement { n: c.total, x: c.bad }) } else { Err(Blind::NotANumber) }
}

fn custom(a: &ArmSample, i: usize) -> Reading<CountIncrement> {
    a.custom_counts.get(i).map_or(Err(Blind::NotAsked), counts)
}

fn abandoned(a: &ArmSample) -> Reading<AbandonedIncrement> {
    let (served, abandoned) = (counts(&a.requests)?.n, a.abandoned?);
    if countable(abandoned) { Ok(AbandonedIncrement { served, abandoned }) } else { Err(Blind::NotANumber) }
}

fn buckets(a: &ArmSample, bounds: usize) -> Reading<Buckets> {
    match &a.buckets {
        Ok(row) => monotone(row, bounds).ok_or(Blind::NotANumber),
        Err(why) => Err(*why),
    }
}

/// A ratio of a gauge that is zero, negative or no number is missing.
fn level(r: &Reading<f64>) -> Reading<f64> {
    let v = (*r)?;
    if LEVELS.contains(&v) { Ok(v) } else { Err(Blind::NotANumber) }
}

/// The reading of a gauge in one arm; `NotAsked` for what is no gauge.
fn read(a: &ArmSample, kind: MetricKind) -> Reading<f64> {
    match kind {
        MetricKind::Cpu => a.cpu,
        MetricKind::Memory => a.memory,
        MetricKind::Leak => a.floor,
        MetricKind::CustomGauge(i) => a.custom_gauges.get(i).copied().unwrap_or(Err(Blind::NotAsked)),
        MetricKind::Errors | MetricKind::CustomCounts(_) | MetricKind::Latency(_) => Err(Blind::NotAsked),
    }
}

/// The level of a gauge in one arm, for comparing the arms.
pub(super) fn gauge(a: &ArmSample, kind: MetricKind) -> Reading<f64> {
    level(&read(a, kind))
}

/// The level of a gauge in one arm, for a limit: an empty queue is below its limit, though no ratio can be made of it.
pub(super) fn limited(a: &ArmSample, kind: MetricKind) -> Reading<f64> {
    let v = read(a, kind)?;
    // CPU and memory below 0 are no measurements
    let least = if matches!(kind, MetricKind::CustomGauge(_)) { -LEVELS.end() } else { 0.0 };
    if (least..=*LEVELS.end()).contains(&v) { Ok(v) } else { Err(Blind::NotANumber) }
}

impl Counters {
    /// Pairs the increments of a poll. `canary_alone`: at 100 % the baseline is not looked at.
    pub(super) fn pair(&mut self, poll: &Poll, bounds: usize, canary_alone: bool) -> Seen {
        let arms = &poll.arms;
        let of = |arm: Arm| &arms[arm];
        let requests = self.requests.step(PerArm::from_fn(|a| counts(&of(a).requests).ok()), canary_alone);
        let customs = std::array::from_fn(|i| {
            let paired = self.custom[i].step(PerArm::from_fn(|a| custom(of(a), i).ok()), canary_alone);
            paired.as_ref().map(two_arms)
        });
        let rows = if bounds > 0 { self.buckets.step(PerArm::from_fn(|a| buckets(of(a), bounds).ok()), canary_alone) } else { None };
        let given_up = self.abandoned.step(PerArm::from_fn(|a| abandoned(of(a)).ok()), canary_alone);
        Seen { requests: requests.as_ref().map(two_arms), custom: customs, rows, abandoned: given_up.map(|p| left(&p)) }
    }
}

fn left(p: &PerArm<AbandonedIncrement>) -> TwoArms {
    let (b, c) = (p.baseline, p.canary);
    TwoArms { x_b: b.abandoned, n_b: b.served + b.abandoned, x_c: c.abandoned, n_c: c.served + c.abandoned }
}

impl Seen {
    /// Both arms of one series, if the poll is usable for it.
    pub(super) fn at(&self, key: SeriesKey) -> Option<TwoArms> {
        match key {
            SeriesKey::Requests => self.requests,
            SeriesKey::Custom(i) => self.custom.get(i).copied().flatten(),
            SeriesKey::Tail(j) => self.rows.as_ref().map(|r| tail_of(r, j)),
        }
    }

    /// Is the poll usable for a metric on counts, and if not, why? `canary_alone`: then the canary's scrape is the reason.
    pub(super) fn counts_usable(&self, poll: &Poll, kind: MetricKind, bounds: usize, canary_alone: bool) -> Result<(), Blind> {
        let (there, why): (bool, PerArm<Option<Blind>>) = match kind {
            MetricKind::Errors => (self.requests.is_some(), poll.arms.as_ref().map(|a| counts(&a.requests).err())),
            MetricKind::CustomCounts(i) => (self.at(SeriesKey::Custom(i)).is_some(), poll.arms.as_ref().map(|a| custom(a, i).err())),
            _ => (self.rows.is_some(), poll.arms.as_ref().map(|a| buckets(a, bounds).err())),
        };
        if there {
            return Ok(());
        }
        let baseline = if canary_alone { None } else { why.baseline };
        // both scraped, and yet not used: a corrupt poll, or the one after it
        Err(why.canary.or(baseline).unwrap_or(Blind::NotANumber))
    }
}

/// Has the canary been sent anything in this poll? What a rule counts decides: requests, else buckets, else any gauge at all.
pub(super) fn canary_has_traffic(poll: &Poll, bounds: usize) -> bool {
    let c = &poll.arms.canary;
    match (counts(&c.requests), buckets(c, bounds)) {
        (Ok(r), _) => r.n > 0.0,
        (Err(Blind::NotAsked), Ok(row)) => row.last().is_some_and(|n| *n > 0.0),
        (Err(Blind::NotAsked), Err(Blind::NotAsked)) => {
            [MetricKind::Cpu, MetricKind::Memory, MetricKind::Leak].iter().any(|k| gauge(c, *k).is_ok())
                || (0..CUSTOM_MAX).any(|i| gauge(c, MetricKind::CustomGauge(i)).is_ok() || custom(c, i).is_ok_and(|x| x.n > 0.0))
        }
        _ => false,
    }
}

/// Both arms' levels of a gauge, or why not; `compared`: their ratio is judged, not a limit alone.
pub(super) fn both(poll: &Poll, kind: MetricKind, compared: bool) -> Result<PerArm<f64>, Blind> {
    let level = if compared { gauge } else { limited };
    let canary = level(&poll.arms.canary, kind)?;
    Ok(PerArm { baseline: level(&poll.arms.baseline, kind)?, canary })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_of_zero_is_below_its_limit_and_makes_no_ratio() {
        let own = MetricKind::CustomGauge(0);
        let arm = |v: f64| ArmSample { cpu: Ok(v), custom_gauges: [Ok(v)].into_iter().collect(), ..ArmSample::blind(Blind::NotAsked) };
        for (v, kind, under_limit, compared) in [
            (0.0, own, true, false),
            (-3.0, own, true, false),
            (0.0, MetricKind::Cpu, true, false),
            (-3.0, MetricKind::Cpu, false, false),
            (2.0, own, true, true),
            (f64::NAN, own, false, false),
            (f64::INFINITY, own, false, false),
            (f64::NEG_INFINITY, own, false, false),
        ] {
            let poll = Poll {
                arms: PerArm { baseline: arm(v), canary: arm(2.0) },
                ..Poll::blind(crate::model::Timestamp::default(), 0, Blind::NotAsked)
            };
            assert_eq!((both(&poll, kind, false).is_ok(), both(&poll, kind, true).is_ok()), (under_limit, compared), "{v} {kind:?}");
        }
        assert_eq!(limited(&arm(0.0), MetricKind::Errors), Err(Blind::NotAsked));
    }
}
