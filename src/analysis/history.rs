//! What stays of the baseline's past, once, before the first poll (STATISTICS 3, 4, 6).

use super::clock::EPS_S;
use super::latency::SETUP_REQUESTS;
use super::seen::countable;
use super::series::SeriesKey;
use crate::model::{Buckets, Counts, History, JudgeSpec, MetricKind};
use crate::stats::dispersion::{SCALES_MAX, scales};
use crate::stats::gauge::{Calibration, calibrate};
use crate::stats::helmert::Helmert;
use crate::stats::incident::{self, Search};
use crate::stats::latency::{LADDER_MAX, zone};
use crate::stats::load::{self, LoadFit};
use arrayvec::ArrayVec;

/// Fewest points a calibration is made from, however few polls the shortest history has.
const CALIBRATION_MIN: usize = 10;

/// A log-ratio beyond this is no ratio of two measurements.
const LN_RATIO_MAX: f64 = 500.0;

/// Bad and all of one poll.
type Poll = (f64, f64);

/// The past as the tests want it.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    /// Requests, polls that stay; `None`: there is no history.
    pub(super) requests: Option<Vec<Poll>>,
    /// Buckets of the same polls.
    pub(super) rows: Option<Vec<Buckets>>,
    /// The rule's own counts.
    pub(super) custom: Vec<Option<Vec<Poll>>>,
    /// Polls of the history left out as an incident, ascending.
    pub(super) left_out: Vec<usize>,
    /// Its length in polls.
    pub(super) length: usize,
    /// Polls that could be used.
    pub(super) usable: usize,
    /// Calibrations of the gauges.
    pub(super) cpu: Option<Calibration>,
    /// Of memory.
    pub(super) memory: Option<Calibration>,
    /// Of the leak test.
    pub(super) leak: Option<Calibration>,
    /// Of the rule's own gauges.
    pub(super) custom_gauges: Vec<Option<Calibration>>,
    /// CPU against load.
    pub(super) fit: Option<LoadFit>,
}

/// Lengths in polls.
pub(super) struct Lengths {
    pub(super) with_history: ArrayVec<u64, SCALES_MAX>,
    pub(super) without: ArrayVec<u64, SCALES_MAX>,
    dt_s: f64,
}

impl Lengths {
    pub(super) fn of(spec: &JudgeSpec) -> Self {
        let (dt_s, blocks) = (spec.interval.as_secs_f64(), spec.method.blocks_s);
        Self { with_history: scales(dt_s, &blocks), without: scales(dt_s, &blocks[..2]), dt_s }
    }

    fn search(&self, spec: &JudgeSpec) -> Search {
        let polls = |s: f64| s / self.dt_s;
        Search {
            window: (polls(spec.method.incident_s) + 0.5).floor().max(1.0) as usize,
            stride: (polls(spec.method.incident_stride_s) + 1e-9).floor().max(1.0) as usize,
            keep: (polls(spec.method.history_min_s) - 1e-9).ceil() as usize,
            scales: self.with_history.clone(),
        }
    }
}

/// A reading that is no count is missing.
fn poll_of(c: &Counts) -> Option<Poll> {
    (countable(c.total) && countable(c.bad)).then_some((c.bad, c.total))
}

/// Cumulative counts made non-decreasing; `None` if the shape or a value is wrong.
pub(super) fn monotone(row: &Buckets, bounds: usize) -> Option<Buckets> {
    if row.len() != bounds + 1 || row.iter().any(|v| !countable(*v)) {
        return None;
    }
    let mut top = 0.0_f64;
    Some(
        row.iter()
            .map(|v| {
                top = top.max(*v);
                top
            })
            .collect(),
    )
}

/// Tail fractions at every bound, over `rows`.
pub(super) fn tails_of(sum: &Buckets) -> ArrayVec<f64, LADDER_MAX> {
    let n = sum.last().copied().unwrap_or(0.0).max(1.0);
    let all = sum.last().copied().unwrap_or(0.0);
    sum.iter().take(sum.len().saturating_sub(1)).map(|v| (all - v) / n).collect()
}

/// The sum of `rows`.
pub(super) fn sum_of<'a>(rows: impl Iterator<Item = &'a Buckets>, bounds: usize) -> Buckets {
    let mut sum: Buckets = std::iter::repeat_n(0.0, bounds + 1).collect();
    for row in rows {
        sum.iter_mut().zip(row).for_each(|(a, b)| *a += b);
    }
    sum
}

/// Reads the history: what is usable, without the incidents.
pub(super) fn read(spec: &JudgeSpec, history: &History) -> Past {
    let lengths = Lengths::of(spec);
    let search = lengths.search(spec);
    let bounds = spec.bounds_ms.len();
    let rows: Vec<Option<Buckets>> = history.buckets.iter().map(|r| r.as_ref().and_then(|r| monotone(r, bounds))).collect();
    let length = history.requests.len().max(rows.len());
    let with_rows = rows.iter().any(Option::is_some);
    let counts = |i: usize| history.requests.get(i).and_then(Option::as_ref).and_then(poll_of);
    let row = |i: usize| rows.get(i).and_then(Option::as_ref);
    let polls: Vec<usize> = (0..length).filter(|&i| counts(i).is_some() && (row(i).is_some() || !with_rows)).collect();
    let mut past = Past { length, usable: polls.len(), ..Past::default() };
    if enough(polls.len(), spec) {
        let mut series = vec![polls.iter().filter_map(|&i| counts(i)).collect::<Vec<_>>()];
        if with_rows {
            series.extend(primaries(spec, &polls, &rows));
        }
        let stay: Vec<usize> = incident::keep(&series, &search).into_iter().filter_map(|k| polls.get(k).copied()).collect();
        past.left_out = polls.iter().copied().filter(|i| stay.binary_search(i).is_err()).collect();
        past.requests = Some(stay.iter().filter_map(|&i| counts(i)).collect());
        past.rows = with_rows.then(|| stay.iter().filter_map(|&i| row(i).cloned()).collect());
    }
    past.custom = history.custom_counts.iter().map(|s| custom_counts(s, &past.left_out, spec, &search)).collect();
    calibrations(spec, history, &mut past);
    past
}

fn enough(polls: usize, spec: &JudgeSpec) -> bool {
    polls as f64 * spec.interval.as_secs_f64() >= spec.method.history_min_s - EPS_S
}

/// The series of each judged quantile's primary bound, by the tails of the whole history.
fn primaries(spec: &JudgeSpec, polls: &[usize], rows: &[Option<Buckets>]) -> Vec<Vec<Poll>> {
    let row = |i: usize| rows.get(i).and_then(Option::as_ref);
    let tails = tails_of(&sum_of(polls.iter().filter_map(|&i| row(i)), spec.bounds_ms.len()));
    let judged = spec.metrics.iter().filter(|m| m.compared).filter_map(|m| match m.kind {
        MetricKind::Latency(q) if !tails.is_empty() => Some(q),
        _ => None,
    });
    judged.map(|q| polls.iter().filter_map(|&i| row(i)).map(|r| above(r, zone(&tails, q).primary)).collect()).collect()
}

/// Requests above bound `j`, and all.
pub(super) fn above(row: &Buckets, j: usize) -> Poll {
    let n = row.last().copied().unwrap_or(0.0);
    (n - row.get(j).copied().unwrap_or(n), n)
}

/// The rule's own counts have gaps and incidents of their own: neither touches the other series.
fn custom_counts(s: &[Option<Counts>], left_out: &[usize], spec: &JudgeSpec, search: &Search) -> Option<Vec<Poll>> {
    let usable = s.iter().enumerate().filter(|(i, _)| left_out.binary_search(i).is_err());
    let polls: Vec<Poll> = usable.filter_map(|(_, c)| c.as_ref().and_then(poll_of)).collect();
    if !enough(polls.len(), spec) {
        return None;
    }
    let drop = incident::windows(&polls, search);
    Some(polls.iter().enumerate().filter(|(i, _)| !drop.iter().any(|w| w.contains(i))).map(|(_, p)| *p).collect())
}

fn calibrations(spec: &JudgeSpec, history: &History, past: &mut Past) {
    let one = |y: &[Option<f64>], leak: bool| calibration(spec, y, leak, past);
    let (cpu, memory, leak) = (one(&history.cpu, false), one(&history.memory, false), one(&history.leak, true));
    let custom = history.custom_gauges.iter().map(|y| one(y, false)).collect();
    (past.cpu, past.memory, past.leak, past.custom_gauges) = (cpu, memory, leak, custom);
    past.fit = history.load.as_ref().and_then(|l| load::fit(&l.rate, &l.cpu));
}

/// An A/A series ends with the history's last poll; the polls left out are left out of it, missing points are skipped.
fn calibration(spec: &JudgeSpec, y: &[Option<f64>], leak: bool, past: &Past) -> Option<Calibration> {
    let gone = |i: usize| match (i + past.length).checked_sub(y.len()) {
        Some(poll) if past.length > 0 => past.left_out.binary_search(&poll).is_ok(),
        _ => false,
    };
    let kept = y.iter().enumerate().filter(|(i, _)| !gone(*i)).filter_map(|(_, v)| v.filter(|v| v.abs() <= LN_RATIO_MAX));
    let mut points: Vec<f64> = kept.collect();
    if !enough(points.len(), spec) || points.len() < CALIBRATION_MIN {
        return None;
    }
    let (dt_s, m) = (spec.interval.as_secs_f64(), &spec.method);
    if leak {
        // the transform of the live test, without a tolerated slope
        let mut h = Helmert::new(0.0, dt_s / m.slope_unit_s);
        points = points.into_iter().filter_map(|v| h.step(0.0, v)).collect();
    }
    Some(calibrate(&points, dt_s, m.gauge_memory_s, &m.gauge_blocks_s))
}

impl Past {
    /// The polls of one series that stay.
    pub(super) fn series(&self, key: SeriesKey) -> Option<Vec<Poll>> {
        match key {
            SeriesKey::Requests => self.requests.clone(),
            SeriesKey::Custom(i) => self.custom.get(i).cloned().flatten(),
            SeriesKey::Tail(j) => self.rows.as_ref().map(|rows| rows.iter().map(|r| above(r, j)).collect()),
        }
    }

    /// Sum of the buckets, if there are enough requests in them for a latency setup.
    pub(super) fn latency_rows(&self, bounds: usize) -> Option<Buckets> {
        let sum = sum_of(self.rows.as_ref()?.iter(), bounds);
        (sum.last().copied().unwrap_or(0.0) >= SETUP_REQUESTS).then_some(sum)
    }
}
