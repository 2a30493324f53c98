//! CPU and memory from pages: what Prometheus would make of a pack's expression, from the last pages themselves.

use super::{Scraped, matches, process_of};
use crate::model::{Arm, History, Timestamp};
use crate::source::packs::level::{Level, LevelAsked, What};
use crate::source::packs::resolve::Asked;
use crate::source::past::PastLevels;
use crate::source::scrape::text::Row;
use crate::source::tracker::Tracker;
use std::collections::BTreeMap;
use std::time::Duration;

/// A rate is taken over so many pages, as `[2m]` is over four scrapes of 30 s.
const RATE_PAGES: usize = 4;

/// Level by process.
type Values = BTreeMap<String, f64>;
/// Series of one page that a level is made of.
type Series<'a> = BTreeMap<&'a [(String, String)], &'a Row>;

/// Levels of the newest page into a tracker. `pages`: oldest first.
pub(super) fn feed(tracker: &mut Tracker, asked: &[Asked], pages: &[&Scraped]) {
    let Some(newest) = pages.last() else { return };
    for (entry, one) in asked.iter().enumerate() {
        for (at, level) in one.levels.iter().enumerate() {
            for arm in Arm::BOTH {
                let values = now(one, &level.level, arm, pages);
                let floors = level.floor.map_or_else(BTreeMap::new, |window| floors(one, &level.level, arm, pages, window));
                let Some(levels) = tracker.level(entry, at) else { continue };
                for (process, value) in values {
                    levels.sampled(arm, &process, newest.at);
                    levels.value(arm, &process, value);
                }
                for (process, value) in floors {
                    levels.floor(arm, &process, value);
                }
            }
        }
    }
}

/// The A/A series of a past; there are no pages of a whole day, so CPU is not fitted to load.
pub(super) fn history(asked: &[Asked], pages: &[&Scraped], interval: Duration) -> History {
    let mut history = History::default();
    for one in asked {
        for level in &one.levels {
            let [values, floors] = series(one, level, pages, interval);
            match level.what {
                What::Cpu => history.cpu = values,
                What::Memory => (history.memory, history.leak) = (values, floors),
            }
        }
    }
    history
}

fn series(asked: &Asked, level: &LevelAsked, pages: &[&Scraped], interval: Duration) -> [Vec<Option<f64>>; 2] {
    let (Some(first), Some(last)) = (pages.first(), pages.last()) else { return Default::default() };
    let step = |at: Timestamp| (at.since(first.at).as_secs_f64() / interval.as_secs_f64()).round() as usize;
    // pages are kept for an hour at most, so the steps are bounded
    let empty = || PastLevels::new(step(last.at) + 1);
    let (mut values, mut floors) = (empty(), empty());
    let mut seen: Vec<(Timestamp, Values)> = Vec::new();
    for k in 0..pages.len() {
        let (at, here) = (pages[k].at, now(asked, &level.level, Arm::Baseline, &pages[..=k]));
        here.iter().for_each(|(process, value)| values.set(process, step(at), *value));
        seen.push((at, here));
        if let Some(window) = level.floor {
            for (process, floor) in lowest(&seen, at, window) {
                floors.set(&process, step(at), floor);
            }
        }
    }
    let canary = pages.last().map_or(0, |_| now(asked, &level.level, Arm::Canary, pages).len());
    [values, floors].map(|past| past.split(canary).map_or_else(Vec::new, |split| past.log_ratios(&split)))
}

/// The minimum of each process of the newest page over the pages within the window.
fn floors(asked: &Asked, level: &Level, arm: Arm, pages: &[&Scraped], window: Duration) -> Values {
    let Some(newest) = pages.last() else { return Values::new() };
    let within = pages.iter().filter(|p| newest.at.since(p.at) <= window);
    let seen: Vec<(Timestamp, Values)> = within.map(|p| (p.at, now(asked, level, arm, &[p]))).collect();
    lowest(&seen, newest.at, window)
}

fn lowest(seen: &[(Timestamp, Values)], at: Timestamp, window: Duration) -> Values {
    let Some((_, newest)) = seen.last() else { return Values::new() };
    let mut lowest = newest.clone();
    for (_, values) in seen.iter().rev().take_while(|(then, _)| at.since(*then) <= window) {
        for (process, floor) in &mut lowest {
            *floor = values.get(process).map_or(*floor, |v| floor.min(*v));
        }
    }
    lowest
}

/// The level of each process of the newest page: the largest of the series that agree in the labels of `max by`, summed.
fn now(asked: &Asked, level: &Level, arm: Arm, pages: &[&Scraped]) -> Values {
    let Some((newest, before)) = pages.split_last() else { return Values::new() };
    let series = series_of(asked, level, arm, newest);
    let earlier: Vec<(Timestamp, Series<'_>)> = match level.rate {
        Some(_) => before.iter().rev().take(RATE_PAGES - 1).map(|p| (p.at, series_of(asked, level, arm, p))).collect(),
        None => Vec::new(),
    };
    let mut largest: BTreeMap<(String, Vec<&str>), f64> = BTreeMap::new();
    for (labels, row) in &series {
        let value = if level.rate.is_some() { rate((newest.at, row.value), labels, &earlier) } else { Some(row.value) };
        let Some(value) = value else { continue };
        let each = level
            .each
            .iter()
            .map(|l| row.label(l))
            .chain(level.each.is_empty().then_some(labels).into_iter().flat_map(|l| l.iter().map(|(_, v)| v.as_str())));
        let kept = largest.entry((process_of(row, asked), each.collect())).or_insert(value);
        // NaN stays NaN: it is for the tracker to refuse
        *kept = if value.is_nan() || kept.is_nan() { f64::NAN } else { kept.max(value) };
    }
    let mut values = Values::new();
    for ((process, _), value) in largest {
        *values.entry(process).or_insert(0.0) += value;
    }
    values
}

fn series_of<'a>(asked: &Asked, level: &Level, arm: Arm, scraped: &'a Scraped) -> Series<'a> {
    let of = |row: &&Row| matches(row, &level.select) && asked.is_arm(arm, |label| row.label(label));
    super::rows(scraped).filter(of).map(|row| (row.labels.as_slice(), row)).collect()
}

/// Increase per second over the last pages; after a fall the counter began anew at 0. `None` with one page only.
fn rate((at, value): (Timestamp, f64), labels: &[(String, String)], earlier: &[(Timestamp, Series<'_>)]) -> Option<f64> {
    let (mut risen, mut above, mut first) = (0.0, value, at);
    for (then, series) in earlier {
        let Some(row) = series.get(labels) else { continue };
        risen += if above >= row.value { above - row.value } else { above };
        (above, first) = (row.value, *then);
    }
    let seconds = at.since(first).as_secs_f64();
    (seconds > 0.0).then(|| risen / seconds)
}
