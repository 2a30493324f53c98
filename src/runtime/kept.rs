//! Dispersion that outlives a rollout (STATISTICS 3): learned where no history could be read, kept per rule after a rollout
//! that was not rolled back, halved once per week, and used by the next one that has no history either.

use super::parts;
use crate::analysis::{Judge, JudgeError, KeptSums, ScaleSums, SeriesKey};
use crate::model::journal::{Kept, KeptOf, KeptScale, KeptSeries, Opened};
use crate::model::{MetricKind, Rule, Timestamp};
use std::time::Duration;

/// The sums count half as much after each of these.
const HALVED_EVERY: Duration = Duration::from_secs(7 * 24 * 3600);
/// After so many halvings nothing is left of any sum.
const HALVINGS_MAX: u128 = 64;

/// The judge of a rollout as it was opened.
///
/// # Errors
/// If no judge can be built from the rule.
pub(super) fn judge(rule: &Rule, opened: &Opened, incarnation: u32) -> Result<Judge, JudgeError> {
    let spec = crate::model::JudgeSpec { incarnation, ..parts::judge_spec(rule, opened) };
    let sums = opened.kept.as_ref().map(|kept| sums(kept, rule, &opened.bounds_ms)).unwrap_or_default();
    Judge::with_sums(&spec, &opened.history, &sums)
}

/// What a rollout leaves, if it learned enough; `since`: of the sums it began with.
pub(super) fn of(judge: &Judge, rule: &Rule, born: &Born, now: Timestamp) -> Option<Kept> {
    let name = |key: SeriesKey| match key {
        SeriesKey::Requests => Some(KeptOf::Requests),
        SeriesKey::Custom(i) => rule.metrics.iter().find(|m| m.kind == MetricKind::CustomCounts(i)).map(|m| KeptOf::Custom(m.name.clone())),
        SeriesKey::Tail(j) => born.bounds_ms.get(j).map(|ms| KeptOf::Tail(*ms)),
    };
    let scale = |s: &ScaleSums| KeptScale { polls: s.polls, num: s.num, den: s.den };
    let series =
        |(key, scales): (SeriesKey, Vec<ScaleSums>)| Some(KeptSeries { of: name(key)?, scales: scales.iter().map(scale).collect() });
    let series = judge.sums_to_keep()?.into_iter().filter_map(series).collect();
    Some(Kept { since: born.kept_since.unwrap_or(now), interval: born.interval, scale: born.scale, series })
}

/// What of it serves a rollout that begins now, with ticks of this length: block lengths are counted in ticks.
pub(super) fn usable(mut kept: Kept, now: Timestamp, interval: Duration, scale: f64) -> Option<Kept> {
    if kept.interval != interval || kept.scale != scale {
        return None;
    }
    let weeks = (now.since(kept.since).as_millis() / HALVED_EVERY.as_millis()).min(HALVINGS_MAX) as u32;
    let factor = 0.5f64.powi(weeks as i32);
    for s in kept.series.iter_mut().flat_map(|s| &mut s.scales) {
        (s.num, s.den) = (s.num * factor, s.den * factor);
    }
    kept.since = kept.since + HALVED_EVERY * weeks;
    Some(kept)
}

/// As the judge knows them: series the rule or the ladder has no more are left out.
fn sums(kept: &Kept, rule: &Rule, bounds_ms: &[f64]) -> KeptSums {
    let key = |of: &KeptOf| match of {
        KeptOf::Requests => Some(SeriesKey::Requests),
        KeptOf::Custom(name) => rule.metrics.iter().find(|m| m.name == *name).and_then(|m| match m.kind {
            MetricKind::CustomCounts(i) => Some(SeriesKey::Custom(i)),
            _ => None,
        }),
        KeptOf::Tail(ms) => bounds_ms.iter().position(|b| b == ms).map(SeriesKey::Tail),
    };
    let scale = |s: &KeptScale| ScaleSums { polls: s.polls, num: s.num, den: s.den };
    kept.series.iter().filter_map(|s| Some((key(&s.of)?, s.scales.iter().map(scale).collect()))).collect()
}

/// What is remembered of a rollout's opening until it ends.
#[derive(Clone, Debug)]
pub(super) struct Born {
    interval: Duration,
    scale: f64,
    bounds_ms: Vec<f64>,
    kept_since: Option<Timestamp>,
}

impl Born {
    pub(super) fn of(opened: &Opened) -> Self {
        let kept_since = opened.kept.as_ref().map(|k| k.since);
        Self { interval: opened.interval, scale: opened.scale, bounds_ms: opened.bounds_ms.clone(), kept_since }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_750_000_000_000);

    fn kept() -> Kept {
        let scales = vec![KeptScale { polls: 1, num: 80.0, den: 40.0 }];
        let series = vec![
            KeptSeries { of: KeptOf::Requests, scales: scales.clone() },
            KeptSeries { of: KeptOf::Tail(100.0), scales: scales.clone() },
            KeptSeries { of: KeptOf::Custom("gone".to_owned()), scales },
        ];
        Kept { since: NOW, interval: Duration::from_secs(15), scale: 1.0, series }
    }

    #[test]
    fn sums_halve_once_per_week_and_not_twice_for_the_same_week() {
        let day = Duration::from_secs(24 * 3600);
        let at = |days: u32, kept: Kept| usable(kept, NOW + day * days, Duration::from_secs(15), 1.0).unwrap();
        let num = |k: &Kept| k.series[0].scales[0].num;
        assert_eq!([at(6, kept()), at(7, kept()), at(20, kept()), at(21, kept())].map(|k| num(&k)), [80.0, 40.0, 20.0, 10.0]);
        let twice = at(13, at(10, kept()));
        assert_eq!((num(&twice), twice.since), (40.0, NOW + day * 7), "the second week is not over yet");
        assert_eq!(num(&at(14, twice)), 20.0);
        // a clock set back halves nothing
        assert_eq!(num(&usable(kept(), NOW - day, Duration::from_secs(15), 1.0).unwrap()), 80.0);
        let other = |interval, scale| usable(kept(), NOW, Duration::from_secs(interval), scale);
        assert_eq!((other(30, 1.0), other(15, 2.0)), (None, None), "blocks of other lengths");
    }

    #[test]
    fn series_are_found_again_by_name_and_by_bound() {
        let rule = parts::tests::rule();
        let found = sums(&kept(), &rule, &[50.0, 100.0]);
        assert_eq!(found.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [SeriesKey::Requests, SeriesKey::Tail(1)]);
        assert_eq!(found[0].1, [ScaleSums { polls: 1, num: 80.0, den: 40.0 }]);
    }
}
