//! Samples from Prometheus, or whatever speaks its HTTP API. A tick: resolve what is new (`lookup.rs`), ask each batch
//! (`planner.rs`), route rows to trackers, ask starts where something fell or was born, difference.
//!
//! It must never turn "could not look" into numbers: a refused query, a silent process, an answer with warnings, a wrong
//! clock are all blindness with the server's own words. One bad expression is found by halving and kept out for five
//! minutes, so that it blinds nobody else.

mod allowance;
pub mod client;
mod credentials;
pub mod decoder;
pub mod fault;
mod history;
mod lookup;
mod past_levels;
mod planner;
mod settings;
mod subscribed;
mod validity;

use super::tracker::Tracker;
use super::{Answer, SetUp, Source, SourceError, SourceSample, Subscription, pods};
use crate::model::{Arm, Blind, History, Reading, Timestamp};
pub use allowance::{Allowance, IN_FLIGHT_MAX};
use client::{Client, Lease, Query};
pub use credentials::{Auth, Tls};
use fault::Fault;
use futures_util::stream::{FuturesUnordered, StreamExt};
use planner::{Batch, Limits, Member, Part, Purpose, Wanted};
pub use settings::{BODY_MAX, PrometheusSettings};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use subscribed::{Subscribed, Trouble};

/// How long a subscription whose query the server refuses is left out.
const QUARANTINE: Duration = Duration::from_secs(300);
/// Anything shorter than a tick: what failed at one is asked again at the next.
const TICK_LEAST: Duration = Duration::from_millis(1);
/// Scrape interval assumed until one is measured: the usual one of mesh proxies.
const SCRAPE_ASSUMED: Duration = Duration::from_secs(15);
/// Settle delay until one is measured.
const SETTLE_ASSUMED: Duration = Duration::from_millis(500);
/// The `Date` header is cut to whole seconds: less than this cannot be called a skew.
const SKEW_MIN: Duration = Duration::from_secs(2);
/// A Prometheus server as a source.
#[derive(Debug)]
pub struct Prometheus {
    settings: PrometheusSettings,
    client: Client,
    subscribed: BTreeMap<u64, Subscribed>,
    scrape: Duration,
    settle: Duration,
    last_tick: Option<Timestamp>,
    /// How much goes into one query now.
    limits: Limits,
    /// Since when the server has not given up a query because it took too long.
    patient_since: Option<Timestamp>,
    /// Rows each part of an entry brought at the last tick.
    rows: BTreeMap<(u64, usize, Part), usize>,
}

impl Prometheus {
    /// # Errors
    /// The URL is none, or a file named in the settings cannot be used.
    pub fn new(settings: PrometheusSettings) -> Result<Self, SourceError> {
        let client = Client::new(settings.clone())?;
        Ok(Self {
            settings,
            client,
            subscribed: BTreeMap::new(),
            scrape: SCRAPE_ASSUMED,
            settle: SETTLE_ASSUMED,
            last_tick: None,
            limits: Limits::default(),
            patient_since: None,
            rows: BTreeMap::new(),
        })
    }

    async fn read_tick(&mut self, at: Timestamp) -> Vec<SourceSample> {
        // a tick may have been given up halfway: what it left would be added to twice
        self.subscribed.values_mut().for_each(Subscribed::begin);
        self.resolve_new(at).await;
        self.note_pods(at);
        self.read_batches(at).await;
        self.read_gauges(at).await;
        let clock = self.clock_trouble(at);
        self.last_tick = Some(at);
        self.subscribed.values_mut().map(|s| s.finish(at, clock.as_ref())).collect()
    }

    /// Makes the choices of subscriptions that have none yet, or made them blindly.
    async fn resolve_new(&mut self, at: Timestamp) {
        for subscribed in self.subscribed.values_mut() {
            let due = match (&subscribed.tracker, subscribed.again) {
                (None, again) => again.is_none_or(|(then, _)| at >= then),
                (Some(_), Some((then, _))) => at >= then,
                (Some(_), None) => false,
            };
            if due {
                let resolved = lookup::resolve(&self.client, &self.settings, &subscribed.wanted, at).await;
                subscribed.take_in(resolved, at, self.scrape);
            }
        }
    }

    /// Whose pods are whose since the last tick: the last counters of one that is gone are still its arm's.
    fn note_pods(&mut self, at: Timestamp) {
        let (watch, from) = (self.settings.pods.as_ref(), self.last_tick.unwrap_or(at));
        for subscribed in self.subscribed.values_mut() {
            if let Some(tracker) = &mut subscribed.tracker {
                tracker.take_pods(&pods::of_arms(watch, &subscribed.wanted, from, at));
            }
        }
    }

    /// Asks every batch; halves one that the server refuses until the guilty one stands alone.
    async fn read_batches(&mut self, at: Timestamp) {
        let live = self.subscribed.iter().filter(|(_, s)| s.askable(at));
        let entries = live.flat_map(|(key, s)| {
            let one = |t: &'_ Tracker| {
                let asked = t.asked().into_iter().enumerate();
                asked.map(|(entry, _)| (entry, t.since(entry))).collect::<Vec<_>>()
            };
            let asked = s.tracker.as_ref().map_or_else(Vec::new, Tracker::asked);
            let since = s.tracker.as_ref().map_or_else(Vec::new, one);
            asked.into_iter().zip(since).map(|(asked, (entry, since))| Wanted { key: *key, entry, asked, since })
        });
        let rows = |member: Member| self.rows.get(&(member.key, member.entry, member.part)).copied().unwrap_or(0);
        let mut todo: VecDeque<Batch> = planner::batches(entries, self.limits, |member| !self.kept_out(member, at), rows).into();
        self.rows.clear();
        let mut slow = false;
        while !todo.is_empty() {
            let round: Vec<Batch> = todo.drain(..).collect();
            for (batch, fault) in self.ask_round(&round, at).await {
                self.forget(&batch);
                slow |= matches!(fault, Fault::Slow(_));
                match (batch.split(), &fault) {
                    (Some(halves), fault) if fault.of_query() => todo.extend(halves),
                    _ => self.blame(&batch, &fault, at),
                }
            }
        }
        self.adapt(slow, at);
    }

    /// A server that gives queries up because they take too long is asked for less at once; after five quiet minutes for more
    /// again. Not in the same tick: it would have to answer the same twice while it is at its end.
    fn adapt(&mut self, slow: bool, at: Timestamp) {
        if slow {
            self.limits = self.limits.halved();
            self.patient_since = Some(at);
        } else if self.patient_since.is_some_and(|since| at.since(since) >= QUARANTINE) {
            self.limits = self.limits.doubled();
            self.patient_since = (self.limits != Limits::default()).then_some(at);
        }
    }

    /// One round of queries, a bounded number in flight; the batches that failed come back.
    async fn ask_round(&mut self, round: &[Batch], at: Timestamp) -> Vec<(Batch, Fault)> {
        let Self { client, subscribed, scrape, rows: seen, .. } = self;
        let mut answers = FuturesUnordered::new();
        for (which, batch) in round.iter().enumerate() {
            for (purpose, text) in batch.queries(at, *scrape) {
                answers.push(asked(client, (which, purpose), Query::Instant(text, at)));
            }
        }
        let mut faults: BTreeMap<usize, Fault> = BTreeMap::new();
        while let Some(((which, purpose), answer)) = answers.next().await {
            match answer.and_then(whole) {
                Ok(rows) => route(&round[which], purpose, &rows, subscribed, seen),
                Err(fault) => {
                    faults.entry(which).or_insert(fault);
                }
            }
        }
        drop(answers);
        for (which, batch) in round.iter().enumerate() {
            // levels need no starts, and increments were told with them
            if faults.contains_key(&which) || batch.part() != Part::Counts {
                continue;
            }
            if let Err(fault) = read_starts(client, batch, subscribed, at).await {
                faults.insert(which, fault);
            }
        }
        faults.into_iter().map(|(which, fault)| (round[which].clone(), fault)).collect()
    }

    /// Levels that were refused lately; counts in quarantine keep their whole subscription out.
    fn kept_out(&self, member: Member, at: Timestamp) -> bool {
        let kept = |s: &Subscribed| s.level_quarantine.get(&member.entry).is_some_and(|(until, _)| at < *until);
        member.part == Part::Levels && self.subscribed.get(&member.key).is_some_and(kept)
    }

    fn forget(&mut self, batch: &Batch) {
        for member in &batch.members {
            if let Some(tracker) = self.subscribed.get_mut(&member.key).and_then(|s| s.tracker.as_mut()) {
                match member.part {
                    Part::Counts => tracker.forget(member.entry),
                    Part::Deltas => tracker.forget_deltas(member.entry),
                    Part::Levels => tracker.forget_levels(member.entry),
                }
            }
        }
    }

    fn blame(&mut self, batch: &Batch, fault: &Fault, at: Timestamp) {
        for member in &batch.members {
            let Some(subscribed) = self.subscribed.get_mut(&member.key) else { continue };
            let mut trouble = Trouble::of(fault);
            let keep_out = fault.of_query().then_some(at + QUARANTINE);
            if keep_out.is_some() {
                trouble.words.push_str("; asked again after 5 minutes");
                tracing::warn!(source = %self.settings.name, key = member.key, %fault, "query left out for {QUARANTINE:?}");
            }
            match member.part {
                Part::Counts | Part::Deltas => {
                    subscribed.quarantine = keep_out.map(|until| (until, trouble.clone())).or(subscribed.quarantine.take());
                    subscribed.trouble = Some(trouble);
                }
                Part::Levels => {
                    // this tick at least
                    subscribed.level_quarantine.insert(member.entry, (keep_out.unwrap_or(at + TICK_LEAST), trouble));
                }
            }
        }
    }

    /// The rule's own gauges: opaque queries, one per arm.
    async fn read_gauges(&mut self, at: Timestamp) {
        for subscribed in self.subscribed.values_mut().filter(|s| s.trouble.is_none() && !s.wanted.custom_gauges.is_empty()) {
            let Some(asked) = subscribed.tracker.as_ref().and_then(|t| t.asked().first().map(|a| (*a).clone())) else { continue };
            let texts: Vec<String> = subscribed.wanted.custom_gauges.iter().map(|g| g.query.clone()).collect();
            for arm in Arm::BOTH {
                for text in &texts {
                    let query = Query::Instant(planner::gauge_text(text, &asked, arm), at);
                    let answer = self.client.ask(&query).await.and_then(whole);
                    if let Err(fault) = &answer {
                        subscribed.gauge_words.get_or_insert_with(|| format!("{}: {fault}", query.text()));
                    }
                    subscribed.gauges[arm].push(level(answer));
                }
            }
            if let Some(words) = subscribed.gauge_words.as_ref().filter(|words| Some(*words) != subscribed.gauge_words_logged.as_ref()) {
                tracing::warn!(source = %self.settings.name, key = subscribed.wanted.key, %words, "the rule's own query is not answered");
                subscribed.gauge_words_logged = Some(words.clone());
            }
        }
    }

    /// Is the server's clock further from ours than a tick?
    fn clock_trouble(&self, at: Timestamp) -> Option<Trouble> {
        let skew = Duration::from_millis(self.client.skew_ms()?.unsigned_abs());
        let tick = self.last_tick.map_or(self.scrape, |last| at.since(last));
        (skew > tick.max(SKEW_MIN)).then(|| Trouble {
            why: Blind::Clock,
            words: format!("the clock of {} and ours differ by {skew:?}, more than a tick", self.client.url()),
        })
    }
}

/// An answer with what it is for.
async fn asked(client: &Client, of: (usize, Purpose), query: Query) -> ((usize, Purpose), Result<Lease<'_>, Fault>) {
    (of, client.ask(&query).await)
}

/// An answer the server has reservations about is no answer: something could not be seen.
fn whole(rows: Lease<'_>) -> Result<Lease<'_>, Fault> {
    match rows.warnings() {
        [] => Ok(rows),
        warnings => Err(Fault::Incomplete(warnings.join("; "))),
    }
}

/// The mean of a gauge's rows.
fn level(rows: Result<Lease<'_>, Fault>) -> Reading<f64> {
    let rows = rows.map_err(|fault| Trouble::of(&fault).why)?;
    let values: Vec<f64> = rows.rows().filter_map(|r| r.value()).collect();
    match values.len() {
        0 => Err(Blind::NoSeries),
        n => Some(values.iter().sum::<f64>() / n as f64).filter(|v| v.is_finite()).ok_or(Blind::NotANumber),
    }
}

/// Rows of an answer into the trackers they belong to.
fn route(
    batch: &Batch,
    purpose: Purpose,
    rows: &Lease<'_>,
    subscribed: &mut BTreeMap<u64, Subscribed>,
    seen: &mut BTreeMap<(u64, usize, Part), usize>,
) {
    if purpose == Purpose::Oldest {
        for Member { key, entry, .. } in &batch.members {
            if let Some(tracker) = subscribed.get_mut(key).and_then(|s| s.tracker.as_mut()) {
                tracker.told(*entry);
            }
        }
    }
    let mut scratch = String::new();
    for row in rows.rows() {
        let owners = batch.owners(&row, &mut scratch);
        if owners.is_empty() {
            continue;
        }
        let process = batch.process(&row);
        // a row of native histograms alone has no number
        let Some(value) = row.value() else { continue };
        for (member, arm) in owners {
            let (question, select) = match purpose {
                Purpose::Rows(question, select) | Purpose::Deltas(question, select) => (question, select),
                _ => (0, 0),
            };
            let (key, place) = batch.place(*member, question, select, *arm);
            *seen.entry((key, place.entry, batch.part())).or_insert(0) += 1;
            let Some(tracker) = subscribed.get_mut(&key).and_then(|s| s.tracker.as_mut()) else { continue };
            match purpose {
                Purpose::Rows(..) => tracker.sum(place, &process, &batch.kept(question, &row), value),
                Purpose::Deltas(..) => tracker.delta(place, &batch.kept(question, &row), value),
                Purpose::Oldest => {
                    if let Some(oldest) = Timestamp::from_secs_f64(value) {
                        tracker.oldest(place.entry, *arm, oldest);
                    }
                }
                Purpose::Sampled => {
                    if let Some(sampled) = Timestamp::from_secs_f64(value) {
                        tracker.sampled(place.entry, *arm, &process, sampled);
                    }
                }
                Purpose::Level(at) | Purpose::Floor(at) | Purpose::LevelSampled(at) => {
                    let Some(levels) = tracker.level(place.entry, at) else { continue };
                    match (purpose, Timestamp::from_secs_f64(value)) {
                        (Purpose::Floor(_), _) => levels.floor(*arm, &process, value),
                        (Purpose::LevelSampled(_), Some(sampled)) => levels.sampled(*arm, &process, sampled),
                        (Purpose::LevelSampled(_), None) => {}
                        _ => levels.value(*arm, &process, value),
                    }
                }
            }
        }
    }
}

/// Asks the starts of processes that fell or are new, and only of those.
async fn read_starts(client: &Client, batch: &Batch, subscribed: &mut BTreeMap<u64, Subscribed>, at: Timestamp) -> Result<(), Fault> {
    let mut wanted: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for Member { key, entry, .. } in &batch.members {
        if let Some(tracker) = subscribed.get(key).and_then(|s| s.tracker.as_ref()) {
            wanted.extend(tracker.wants_start(*entry).into_iter().map(|p| (p.to_owned(), planner::process_labels(p))));
        }
    }
    let Some(query) = batch.start_query(&wanted).filter(|_| !wanted.is_empty()) else { return Ok(()) };
    let rows = client.ask(&Query::Instant(query, at)).await.and_then(whole)?;
    for row in rows.rows() {
        let process = batch.process(&row);
        let Some(start) = row.value().and_then(Timestamp::from_secs_f64) else { continue };
        for Member { key, entry, .. } in &batch.members {
            if let Some(tracker) = subscribed.get_mut(key).and_then(|s| s.tracker.as_mut()) {
                tracker.started(*entry, &process, start);
            }
        }
    }
    Ok(())
}

impl Source for Prometheus {
    fn name(&self) -> &str {
        &self.settings.name
    }

    fn set_up<'a>(&'a mut self, wanted: &'a Subscription, at: Timestamp) -> Answer<'a, Result<SetUp, SourceError>> {
        Box::pin(async move {
            let (set_up, measured) = lookup::set_up(&self.client, &self.settings, wanted, at).await?;
            self.scrape = set_up.scrape_interval.unwrap_or(self.scrape);
            self.settle = measured.unwrap_or(self.settle);
            Ok(set_up)
        })
    }

    fn history<'a>(
        &'a mut self,
        wanted: &'a Subscription,
        end: Timestamp,
        length: Duration,
        interval: Duration,
        bounds_ms: &'a [f64],
    ) -> Answer<'a, Result<History, SourceError>> {
        Box::pin(
            async move { history::read(&self.client, &self.settings, wanted, history::Span { end, length, interval }, bounds_ms).await },
        )
    }

    fn subscribe(&mut self, wanted: Subscription, bounds_ms: Vec<f64>) {
        self.subscribed.insert(wanted.key, Subscribed::new(wanted, bounds_ms));
    }

    fn unsubscribe(&mut self, key: u64) {
        self.subscribed.remove(&key);
    }

    fn tick<'a>(&'a mut self, at: Timestamp) -> Answer<'a, Vec<SourceSample>> {
        Box::pin(self.read_tick(at))
    }

    fn settle(&self) -> Duration {
        self.settle
    }
}
