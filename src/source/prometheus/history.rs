//! The baseline's past: raw counters by `query_range`, one series per process, differenced by the same code as ticks; and
//! CPU, memory and the rule's own gauges per process, for the A/A series and the load (`past_levels.rs`).

use super::client::{Client, Lease, Query};
use super::{PrometheusSettings, SCRAPE_ASSUMED, past_levels, planner, whole};
use crate::model::{Arm, Buckets, Counts, History, PerArm, Reading, Timestamp};
use crate::source::packs::resolve::{Asked, Group, Question};
use crate::source::past::PastLevels;
use crate::source::tracker::{Place, Tracker};
use crate::source::{SourceError, Subscription, pods};
use std::time::Duration;

/// Most steps of one history; Prometheus refuses more than 11,000 points a series.
const STEPS_MAX: u32 = 10_000;

/// The stretch asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) end: Timestamp,
    pub(super) length: Duration,
    pub(super) interval: Duration,
}

impl Span {
    /// Steps, without the one that only primes.
    pub(super) fn steps(self) -> u32 {
        let interval = self.interval.as_millis().max(1);
        u32::try_from(self.length.as_millis() / interval).unwrap_or(STEPS_MAX).min(STEPS_MAX)
    }

    /// `query_range` takes whole seconds: the grid ends at the last one.
    fn start(self) -> Timestamp {
        self.end.floor_to(Duration::from_secs(1)) - self.interval * self.steps()
    }

    /// The step a point belongs to, of those after the one that only primes.
    pub(super) fn step_of(self, t: f64) -> Option<usize> {
        let steps = (t - self.start().as_secs_f64()) / self.interval.as_secs_f64();
        // half a step is nobody's: points lie on the grid
        (steps > 0.5 && steps < f64::from(self.steps()) + 0.5).then(|| steps.round() as usize - 1)
    }

    /// One expression over the whole stretch.
    pub(super) async fn ask(self, client: &Client, query: String) -> Result<Lease<'_>, SourceError> {
        let query = Query::Range { query, start: self.start(), end: self.end, step: self.interval };
        client.ask(&query).await.and_then(whole).map_err(|fault| fault.into_error(client.url(), query.text()))
    }
}

/// One process' class over time.
struct Series {
    place: Place,
    process: String,
    kept: Vec<String>,
    points: Vec<(f64, f64)>,
    next: usize,
    /// Its points are increments.
    delta: bool,
}

/// Reads it.
pub(super) async fn read(
    client: &Client,
    settings: &PrometheusSettings,
    wanted: &Subscription,
    span: Span,
    bounds_ms: &[f64],
) -> Result<History, SourceError> {
    let mut resolved = super::lookup::resolve(client, settings, wanted, span.end).await?;
    let pods = pods::of_arms(settings.pods.as_ref(), wanted, span.start(), span.end);
    resolved.asked.iter_mut().for_each(|asked| asked.take_pods(&pods));
    let mut series = Vec::new();
    for (entry, asked) in resolved.asked.iter().enumerate() {
        for (at, question) in asked.questions.iter().enumerate() {
            for select in 0..question.selects.len() {
                let place = Place { entry, question: at, select, arm: Arm::Baseline };
                series.extend(read_one(client, asked, question, place, span).await?);
            }
        }
    }
    let gauges = past_levels::read(client, wanted, &resolved.asked, span, &processes(&series, span)).await;
    let counts = differenced(tracker(wanted, resolved.asked, bounds_ms, span), &mut series, span, bounds_ms.len());
    Ok(History { requests: counts.requests, buckets: counts.buckets, custom_counts: counts.custom_counts, ..gauges })
}

/// Requests alone, at the steps of another stretch; what the series of `asked` gave.
pub(super) async fn requests(client: &Client, wanted: &Subscription, asked: &[Asked], span: Span) -> Result<History, SourceError> {
    let mut series = Vec::new();
    for (entry, one) in asked.iter().enumerate() {
        for (at, question) in one.questions.iter().enumerate().filter(|(_, q)| q.group == Group::Requests) {
            for select in 0..question.selects.len() {
                let place = Place { entry, question: at, select, arm: Arm::Baseline };
                series.extend(read_one(client, one, question, place, span).await?);
            }
        }
    }
    Ok(differenced(tracker(wanted, asked.to_vec(), &[], span), &mut series, span, 0))
}

fn tracker(wanted: &Subscription, asked: Vec<Asked>, bounds_ms: &[f64], span: Span) -> Tracker {
    Tracker::new(wanted, asked, bounds_ms.to_vec(), span.interval.max(SCRAPE_ASSUMED))
}

/// Which processes of the first entry were there at which step.
fn processes(series: &[Series], span: Span) -> PastLevels {
    let mut past = PastLevels::new(span.steps() as usize);
    // increments are not told by process
    for one in series.iter().filter(|s| s.place.entry == 0 && s.place.question == 0 && !s.delta) {
        for step in one.points.iter().filter_map(|(t, _)| span.step_of(*t)) {
            past.set(&one.process, step, 1.0);
        }
    }
    past
}

async fn read_one(client: &Client, asked: &Asked, question: &Question, place: Place, span: Span) -> Result<Vec<Series>, SourceError> {
    let (select, matchers) = (&question.selects[place.select].0, asked.matchers_of_arm(Arm::Baseline));
    let text = match question.is_delta() {
        // of each step the increments since the one before
        true => planner::delta(asked, question, select, &matchers, span.interval),
        false => planner::sum(asked, question, select, &matchers),
    };
    let rows = span.ask(client, text).await?;
    let one = |row: super::decoder::RowRef<'_>| Series {
        place,
        process: planner::process_name(&asked.identity, &row),
        kept: question.keep.iter().map(|label| row.label(label).to_owned()).collect(),
        points: row.points().to_vec(),
        next: 0,
        delta: question.is_delta(),
    };
    Ok(rows.rows().map(one).collect())
}

/// Ticks of the past, one after the other.
fn differenced(mut tracker: Tracker, series: &mut [Series], span: Span, bounds: usize) -> History {
    let mut history = History::default();
    let custom = |reading: &Reading<Counts>| reading.ok();
    let mut seen_any = false;
    for step in 0..=span.steps() {
        let at = span.start() + span.interval * step;
        for one in series.iter_mut() {
            one.feed(&mut tracker, at, span.interval);
        }
        let arm = tracker.finish(at, PerArm::default()).arms.baseline;
        let primed = seen_any;
        seen_any |= arm.requests.is_ok() || arm.buckets.is_ok();
        if !primed {
            continue; // before the first reading there is nothing, and the first only notes
        }
        history.requests.push(arm.requests.ok());
        if bounds > 0 {
            history.buckets.push(arm.buckets.ok().filter(|b: &Buckets| b.len() == bounds + 1));
        }
        history.custom_counts.resize_with(arm.custom_counts.len(), Vec::new);
        for (past, reading) in history.custom_counts.iter_mut().zip(&arm.custom_counts) {
            past.push(custom(reading));
        }
    }
    if history.buckets.iter().all(Option::is_none) {
        history.buckets.clear();
    }
    history
}

impl Series {
    /// The value at a step, if the series was there.
    fn feed(&mut self, tracker: &mut Tracker, at: Timestamp, interval: Duration) {
        let half = interval.as_secs_f64() / 2.0;
        let now = at.as_secs_f64();
        while self.points.get(self.next).is_some_and(|(t, _)| *t < now - half) {
            self.next += 1;
        }
        if let Some((_, value)) = self.points.get(self.next).filter(|(t, _)| *t <= now + half) {
            let kept: Vec<&str> = self.kept.iter().map(String::as_str).collect();
            match self.delta {
                true => tracker.delta(self.place, &kept, *value),
                false => tracker.sum(self.place, &self.process, &kept, *value),
            }
        }
    }
}
