//! The baseline's past of a level, by process: the A/A series that calibrates a gauge, and the load CPU is fitted to
//! (STATISTICS 6). Pure.

use crate::model::{Counts, LoadHistory, fnv};
use std::collections::BTreeMap;
use std::time::Duration;

/// A process is in the A/A split if it was there in this share of the past.
const PRESENT: f64 = 0.9;

/// One level of the baseline's processes at each step of the past, oldest first; `None` where a process was not there.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PastLevels {
    steps: usize,
    processes: BTreeMap<String, Vec<Option<f64>>>,
}

/// Processes of a pseudo-canary, and the others.
pub(super) type Split = [Vec<String>; 2];

impl PastLevels {
    /// A past of so many steps, with nothing in it.
    pub(super) fn new(steps: usize) -> Self {
        Self { steps, processes: BTreeMap::new() }
    }

    /// The level of a process at a step; what is no number, or below 0, was not there.
    pub(super) fn set(&mut self, process: &str, step: usize, value: f64) {
        if step >= self.steps || !value.is_finite() || value < 0.0 {
            return;
        }
        let levels = match self.processes.get_mut(process) {
            Some(levels) => levels,
            None => self.processes.entry(process.to_owned()).or_insert_with(|| vec![None; self.steps]),
        };
        levels[step] = Some(value);
    }

    /// Processes there in at least 90 % of the past, sorted by FNV-1a of their names: the first `min(canary, half)` and the
    /// others. `None` with fewer than two. The past begins where the first process does: a younger server has less of it.
    pub(super) fn split(&self, canary_processes: usize) -> Option<Split> {
        let first = (0..self.steps).find(|step| self.processes.values().any(|levels| levels[*step].is_some()))?;
        let enough = PRESENT * (self.steps - first) as f64;
        let there = |levels: &Vec<Option<f64>>| levels.iter().flatten().count() as f64 >= enough;
        let mut names: Vec<&String> = self.processes.iter().filter(|(_, levels)| there(levels)).map(|(name, _)| name).collect();
        names.sort_by_key(|name| fnv(name));
        let pseudo_canary = canary_processes.max(1).min(names.len() / 2);
        if pseudo_canary == 0 {
            return None;
        }
        let owned = |names: &[&String]| names.iter().map(|n| (*n).clone()).collect();
        let (a, b) = names.split_at(pseudo_canary);
        Some([owned(a), owned(b)])
    }

    /// `ln(mean A / mean B)` at each step; empty if every step lacks one.
    pub(super) fn log_ratios(&self, split: &Split) -> Vec<Option<f64>> {
        let mean = |names: &[String], step: usize| mean(names.iter().filter_map(|n| *self.processes.get(n)?.get(step)?)).map(|(m, _)| m);
        log_ratios((0..self.steps).map(|step| Some((mean(&split[0], step)?, mean(&split[1], step)?))))
    }

    /// The mean over all processes at each step, and how many they were.
    pub(super) fn means(&self) -> Vec<Option<(f64, usize)>> {
        (0..self.steps).map(|step| mean(self.processes.values().filter_map(|levels| levels[step]))).collect()
    }
}

/// Logarithms of ratios of what is above 0; empty if there is none.
pub(super) fn log_ratios(pairs: impl Iterator<Item = Option<(f64, f64)>>) -> Vec<Option<f64>> {
    let ratio = |(a, b): (f64, f64)| (a > 0.0 && b > 0.0).then(|| (a / b).ln());
    let all: Vec<Option<f64>> = pairs.map(|pair| pair.and_then(ratio)).collect();
    if all.iter().all(Option::is_none) { Vec::new() } else { all }
}

/// Load and CPU per process, from counts and levels that end with the same step. A count after missing ones covers their
/// time too. `None` if no step has both.
pub(super) fn load(requests: &[Option<Counts>], cpu: &[Option<(f64, usize)>], step: Duration) -> Option<LoadHistory> {
    let mut load = LoadHistory::default();
    let mut since = Duration::ZERO;
    // the longer of the two begins earlier
    let levels = |k: usize| (k + cpu.len()).checked_sub(requests.len()).and_then(|at| *cpu.get(at)?);
    for (k, counts) in requests.iter().enumerate() {
        since += step;
        let Some(counts) = counts else { continue };
        let seconds = std::mem::take(&mut since).as_secs_f64();
        if let Some((cores, processes)) = levels(k).filter(|(cores, _)| *cores > 0.0) {
            load.rate.push(counts.total / seconds / processes as f64);
            load.cpu.push(cores);
        }
    }
    (!load.rate.is_empty()).then_some(load)
}

fn mean(values: impl Iterator<Item = f64>) -> Option<(f64, usize)> {
    let (sum, n) = values.fold((0.0, 0), |(sum, n), v| (sum + v, n + 1));
    (n > 0).then(|| (sum / n as f64, n))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Processes `names`, at ten steps each, with their position plus one as level.
    fn past(names: &[&str]) -> PastLevels {
        let mut past = PastLevels::new(10);
        for (k, name) in names.iter().enumerate() {
            (0..10).for_each(|step| past.set(name, step, k as f64 + 1.0));
        }
        past
    }

    #[test]
    fn the_split_is_by_hash_and_by_the_canarys_size() {
        // the order of the names below was computed apart from this code
        let past = past(&["a", "b", "c", "d", "e"]);
        let [a, b] = past.split(2).unwrap();
        assert_eq!((a.join(" "), b.join(" ")), ("e d".to_owned(), "a c b".to_owned()));
        assert_eq!(past.split(0).unwrap()[0].len(), 1, "no canary yet: one process plays it");
        assert_eq!(past.split(9).unwrap()[0].len(), 2, "at most half");
        let y = past.log_ratios(&[a, b]);
        // e = 5, d = 4 against a = 1, c = 3, b = 2
        assert_eq!(y, vec![Some((4.5_f64 / 2.0).ln()); 10]);
    }

    #[test]
    fn one_process_makes_no_split_and_a_short_guest_is_no_part_of_it() {
        assert_eq!(past(&["a"]).split(1), None);
        let mut past = past(&["a", "b"]);
        (0..8).for_each(|step| past.set("guest", step, 9.0));
        assert_eq!(past.split(1).map(|[a, b]| a.len() + b.len()), Some(2));
        past.set("guest", 8, 9.0);
        assert_eq!(past.split(1).map(|[a, b]| a.len() + b.len()), Some(3));
        assert_eq!(PastLevels::new(10).split(1), None);
    }

    #[test]
    fn a_past_begins_with_its_first_process() {
        let mut past = PastLevels::new(100);
        for step in 60..100 {
            past.set("a", step, 1.0);
            past.set("b", step, 2.0);
        }
        let split = past.split(1).unwrap();
        assert_eq!(past.log_ratios(&split).iter().flatten().count(), 40);
    }

    #[test]
    fn what_is_no_level_is_not_there() {
        let mut past = past(&["a", "b"]);
        let split = past.split(1).unwrap();
        past.set("a", 3, 0.0);
        past.processes.get_mut("b").unwrap()[4] = None;
        past.set("b", 4, f64::NAN);
        past.set("b", 4, -1.0);
        past.set("a", 99, 1.0);
        let y = past.log_ratios(&split);
        assert_eq!((y[3], y[4], y.iter().flatten().count()), (None, None, 8));
    }

    #[test]
    fn load_per_process_and_second() {
        let counts = |total| Some(Counts { total, bad: 0.0 });
        let requests = [counts(600.0), None, counts(1200.0), counts(300.0)];
        let cpu = [Some((9.0, 9)), Some((0.2, 2)), Some((0.3, 2)), Some((0.4, 2)), None];
        let load = load(&requests, &cpu, Duration::from_secs(300)).unwrap();
        // 600 in 5 min on 2; 1200 in 10 min on 2; at the last step no CPU was read
        assert_eq!((load.rate, load.cpu), (vec![1.0, 1.0], vec![0.2, 0.4]));
        assert_eq!(super::load(&[None], &[Some((1.0, 1))], Duration::from_secs(1)), None);
    }
}
