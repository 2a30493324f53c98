//! Samples straight from `/metrics` pages, without a Prometheus. The same packs, the same tracker: only where rows come
//! from differs. Each page gets the labels Prometheus would add (`job` = the source's name, `instance` = host:port), so
//! identities and arms mean the same.
//!
//! What was scraped in the last hour is kept, bounded, as the baseline's past for rollouts to come.

mod levels;
mod text;

use super::packs::grammar::Form;
use super::packs::grammar::{OneOrMany, Start};
use super::packs::level::metric;
use super::packs::resolve::{Asked, Group, Probe, Resolver};
use super::packs::select::Select;
use super::packs::sight::blind_spots;
use super::tracker::{BETWEEN, Place, Tracker, bound_ms};
use super::{Answer, Packs, PodWatch, SetUp, Source, SourceError, SourceSample, Subscription, pods};
use crate::model::{Arm, BOUNDS_MAX, Blind, History, PerArm, Timestamp};
use crate::telemetry::words::root_cause;
use futures_util::stream::{FuturesUnordered, StreamExt};
use reqwest::{Url, redirect};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use text::Row;

/// How long pages are kept as history.
const KEPT: Duration = Duration::from_secs(3600);
/// Most rows kept as history, some 60 MB: beyond it the oldest go.
const KEPT_ROWS_MAX: usize = 200_000;
/// Distance of two scrapes until ticks show it.
const SCRAPE_ASSUMED: Duration = Duration::from_secs(15);
/// A past shorter than this many polls is worth less than one that was given.
const PAST_MIN: usize = 20;

/// What to scrape.
#[derive(Clone, Debug)]
pub struct ScrapeSettings {
    /// Its name in the settings.
    pub name: String,
    /// Pages read at every tick, besides those the rules name (`telemetry.scrape`).
    pub urls: Vec<String>,
    /// Longest wait for one page.
    pub timeout: Duration,
    /// Largest page read, bytes.
    pub body_max: usize,
    /// Packs that rules may name.
    pub packs: Packs,
    /// Knows which pods are an arm's; `None`: they are told by their names.
    pub pods: Option<Arc<dyn PodWatch>>,
}

impl ScrapeSettings {
    /// 2 s and 32 MB for a page, the compiled-in packs.
    pub fn new(name: impl Into<String>, urls: Vec<String>) -> Self {
        Self { name: name.into(), urls, timeout: Duration::from_secs(2), body_max: 32 << 20, packs: Packs::builtin(), pods: None }
    }
}

/// One page as it was read.
#[derive(Clone, Debug)]
struct Page {
    rows: Vec<Row>,
}

/// All pages of one tick.
#[derive(Clone, Debug)]
struct Scraped {
    at: Timestamp,
    pages: Arc<Vec<Page>>,
}

/// One rollout's subscription.
#[derive(Debug)]
struct Subscribed {
    wanted: Subscription,
    bounds_ms: Vec<f64>,
    tracker: Option<Tracker>,
    guessed: bool,
}

/// `/metrics` pages as a source.
#[derive(Debug)]
pub struct Scrape {
    settings: ScrapeSettings,
    http: reqwest::Client,
    subscribed: BTreeMap<u64, Subscribed>,
    past: VecDeque<Scraped>,
    given: Option<History>,
}

impl Scrape {
    /// # Errors
    /// A URL is none.
    pub fn new(settings: ScrapeSettings) -> Result<Self, SourceError> {
        let unusable = |why: String| SourceError::Unusable(format!("source {}: {why}", settings.name));
        for url in &settings.urls {
            parse_url(url).map_err(unusable)?;
        }
        crate::tls::install();
        let builder = || reqwest::Client::builder().timeout(settings.timeout).redirect(redirect::Policy::none());
        // an image without certificates is no reason to fail where none are needed
        let http = builder().build().or_else(|_| builder().tls_certs_only([]).build()).map_err(|e| unusable(e.to_string()))?;
        Ok(Self { settings, http, subscribed: BTreeMap::new(), past: VecDeque::new(), given: None })
    }

    /// Answers [`Source::history`] with this while it has scraped too little itself.
    #[must_use]
    pub fn with_history(mut self, history: History) -> Self {
        self.given = Some(history);
        self
    }

    /// Pages of the settings and of these subscriptions, each once.
    fn urls<'a>(&'a self, more: impl IntoIterator<Item = &'a Subscription>) -> Vec<String> {
        let of_rules = more.into_iter().flat_map(|w| w.telemetry.iter().flat_map(|t| &t.scrape));
        let all: BTreeSet<&String> = self.settings.urls.iter().chain(of_rules).collect();
        all.into_iter().cloned().collect()
    }

    /// Reads pages; those that could be read, and a sentence for each that could not.
    async fn scrape(&self, urls: Vec<String>, names: &BTreeSet<String>, at: Timestamp) -> (Scraped, Vec<String>) {
        let mut reads = FuturesUnordered::new();
        for url in &urls {
            reads.push(self.page(url, names));
        }
        let (mut pages, mut problems) = (Vec::new(), Vec::new());
        while let Some(read) = reads.next().await {
            match read {
                Ok(page) => pages.push(page),
                Err(why) => problems.push(why),
            }
        }
        if urls.is_empty() {
            problems.push(format!("source {} has no URL to scrape: give it `urls`, or the telemetry entry `scrape`", self.settings.name));
        }
        problems.sort();
        (Scraped { at, pages: Arc::new(pages) }, problems)
    }

    async fn page(&self, url: &str, names: &BTreeSet<String>) -> Result<Page, String> {
        let said = |why: String| format!("{url}: {why}");
        let parsed = parse_url(url)?;
        let accept = "text/plain;version=0.0.4, application/openmetrics-text;version=1.0.0;q=0.5";
        let sent = self.http.get(parsed.clone()).header("Accept", accept).send().await;
        let mut response = sent.map_err(|e| said(root_cause(&e)))?;
        if !response.status().is_success() {
            return Err(said(format!("HTTP {}", response.status().as_u16())));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| said(root_cause(&e)))? {
            if body.len() + chunk.len() > self.settings.body_max {
                return Err(said(format!("the page is larger than {} bytes", self.settings.body_max)));
            }
            body.extend_from_slice(&chunk);
        }
        let mut rows = text::rows(&String::from_utf8_lossy(&body), names).map_err(said)?;
        let instance = format!("{}:{}", parsed.host_str().unwrap_or(""), parsed.port_or_known_default().unwrap_or(80));
        for row in &mut rows {
            add_target_labels(row, &self.settings.name, &instance);
        }
        Ok(Page { rows })
    }

    /// Every metric any pack or rule may ask for: the rest of a page is skipped while it is read.
    fn names<'a>(&'a self, more: impl IntoIterator<Item = &'a Subscription>) -> BTreeSet<String> {
        let packs = self.settings.packs.names();
        let mut names: BTreeSet<String> = packs.iter().filter_map(|n| self.settings.packs.get(n)).flat_map(|p| pack_names(p)).collect();
        for counts in more.into_iter().flat_map(|w| &w.custom_counts) {
            let selects = [&counts.total, &counts.part].map(|text| Select::parse(&text.replace("{{workload}}", "")));
            names.extend(selects.into_iter().filter_map(|s| s.ok().map(|s| s.name)));
        }
        names
    }

    fn keep(&mut self, scraped: &Scraped) {
        if self.past.back().is_some_and(|last| last.at >= scraped.at) {
            return;
        }
        self.past.push_back(scraped.clone());
        let rows = |s: &Scraped| s.pages.iter().map(|p| p.rows.len()).sum::<usize>();
        let mut total: usize = self.past.iter().map(rows).sum();
        while self.past.front().is_some_and(|first| scraped.at.since(first.at) > KEPT || total > KEPT_ROWS_MAX) {
            total -= self.past.pop_front().as_ref().map_or(0, rows);
        }
    }

    async fn read_tick(&mut self, at: Timestamp) -> Vec<SourceSample> {
        let wanted: Vec<&Subscription> = self.subscribed.values().map(|s| &s.wanted).collect();
        let (urls, names) = (self.urls(wanted.iter().copied()), self.names(wanted));
        let (scraped, problems) = self.scrape(urls, &names, at).await;
        self.keep(&scraped);
        let Self { settings, subscribed, past, .. } = self;
        let words = problems.join("; ");
        // a tick asked for again is not kept twice
        let mut pages: Vec<&Scraped> = past.iter().filter(|p| p.at < at).collect();
        pages.push(&scraped);
        subscribed.values_mut().map(|s| s.finish(settings, &pages, &words)).collect()
    }

    /// The past of a subscription's baseline, from pages kept.
    fn replayed(&self, asked: Vec<Asked>, wanted: &Subscription, span: (Timestamp, Duration, Duration), bounds_ms: &[f64]) -> History {
        let (end, length, interval) = span;
        let kept: Vec<&Scraped> = self.past.iter().filter(|s| s.at <= end && end.since(s.at) <= length).collect();
        let mut history = levels::history(&asked, &kept, interval);
        // levels are read above: here every page alone
        let counts = asked.into_iter().map(|a| Asked { levels: Vec::new(), ..a }).collect();
        let mut tracker = Tracker::new(wanted, counts, bounds_ms.to_vec(), interval);
        let mut last: Option<Timestamp> = None;
        for scraped in kept {
            feed(&mut tracker, &[scraped]);
            let arm = tracker.finish(scraped.at, PerArm::default()).arms.baseline;
            let Some(before) = last.replace(scraped.at) else { continue }; // the first only notes
            let missed = (scraped.at.since(before).as_secs_f64() / interval.as_secs_f64()).round() as usize;
            let gap = missed.saturating_sub(1).min(self.past.len());
            history.requests.extend(std::iter::repeat_n(None, gap));
            history.requests.push(arm.requests.ok());
            if !bounds_ms.is_empty() {
                history.buckets.extend(std::iter::repeat_n(None, gap));
                history.buckets.push(arm.buckets.ok());
            }
        }
        if history.buckets.iter().all(Option::is_none) {
            history.buckets.clear();
        }
        history
    }
}

fn parse_url(url: &str) -> Result<Url, String> {
    let parsed = Url::parse(url).map_err(|e| format!("url {url:?}: {e}"))?;
    if matches!(parsed.scheme(), "http" | "https") && parsed.has_host() {
        Ok(parsed)
    } else {
        Err(format!("url {url:?} is not http://host:port/path"))
    }
}

/// As Prometheus does: the target's labels win, a metric's own of the same name become `exported_*`.
fn add_target_labels(row: &mut Row, job: &str, instance: &str) {
    for (label, _) in &mut row.labels {
        if label == "job" || label == "instance" {
            label.insert_str(0, "exported_");
        }
    }
    row.labels.push(("job".to_owned(), job.to_owned()));
    row.labels.push(("instance".to_owned(), instance.to_owned()));
}

/// Every metric a pack names.
fn pack_names(pack: &super::packs::grammar::Pack) -> Vec<String> {
    let bare = |text: &str| text.trim_start_matches("count(").split(['{', ')']).next().unwrap_or("").to_owned();
    let of = |from: &OneOrMany| from.all().iter().map(|text| bare(text)).collect::<Vec<_>>();
    let counts = pack.counts.values().chain(pack.variants.iter().flat_map(|(_, v)| v.counts.values()));
    let mut names: Vec<String> = counts.flat_map(|c| of(&c.from).into_iter().chain(c.also.iter().map(|also| bare(also.from())))).collect();
    let histograms = [pack.latency.as_ref()].into_iter().chain(pack.variants.iter().map(|(_, v)| v.latency.as_ref()));
    for latency in histograms.flatten() {
        if let super::packs::grammar::Latency::Histogram(h) = latency {
            names.extend(of(&h.from).iter().map(|n| format!("{n}_bucket")));
        }
    }
    // variants are chosen by what exists
    let needed = [pack.needs.as_ref()].into_iter().chain(pack.variants.iter().map(|(_, v)| v.needs.as_ref())).flatten();
    names.extend(needed.flat_map(|needs| needs.all().to_vec()));
    for name in names.clone() {
        names.push(format!("{name}_count"));
    }
    names.extend(pack.gauges.values().filter_map(|g| metric(&g.of)).map(str::to_owned));
    if let Some(Start::Uptime(name) | Start::Epoch(name)) = &pack.start {
        names.push(name.clone());
    }
    names
}

fn rows(scraped: &Scraped) -> impl Iterator<Item = &Row> {
    scraped.pages.iter().flat_map(|p| &p.rows)
}

fn matches(row: &Row, select: &Select) -> bool {
    row.name == select.name && select.matchers.iter().all(|m| m.matches(row.label(&m.label)))
}

fn is_arm(row: &Row, asked: &Asked, arm: Arm) -> bool {
    asked.is_arm(arm, |label| row.label(label))
}

fn process_of(row: &Row, asked: &Asked) -> String {
    asked.identity.iter().map(|l| row.label(l)).filter(|v| !v.is_empty()).collect::<Vec<_>>().join(BETWEEN)
}

/// Rows of the newest pages into a tracker. `past`: oldest first.
fn feed(tracker: &mut Tracker, past: &[&Scraped]) {
    let Some(scraped) = past.last() else { return };
    let all: Vec<Asked> = tracker.asked().into_iter().cloned().collect();
    levels::feed(tracker, &all, past);
    for (entry, asked) in all.iter().enumerate() {
        for page in scraped.pages.iter() {
            let start = page_start(page, asked.start.as_ref(), scraped.at);
            for row in &page.rows {
                feed_row(tracker, entry, asked, row, (scraped.at, start));
            }
        }
    }
}

fn feed_row(tracker: &mut Tracker, entry: usize, asked: &Asked, row: &Row, (at, start): (Timestamp, Option<Timestamp>)) {
    for (question_at, question) in asked.questions.iter().enumerate() {
        let selects = question.selects.iter().enumerate().filter(|(_, (select, _))| matches(row, select));
        for (select_at, _) in selects {
            for arm in Arm::BOTH.into_iter().filter(|arm| is_arm(row, asked, *arm)) {
                let process = process_of(row, asked);
                let kept: Vec<&str> = question.keep.iter().map(|label| row.label(label)).collect();
                tracker.row(Place { entry, question: question_at, select: select_at, arm }, &process, &kept, row.value);
                tracker.sampled(entry, arm, &process, at);
                if let Some(start) = start {
                    tracker.started(entry, &process, start);
                }
            }
        }
    }
}

/// When the process behind a page started: one page is one process.
fn page_start(page: &Page, start: Option<&Start>, at: Timestamp) -> Option<Timestamp> {
    let value = |name: &str| page.rows.iter().find(|r| r.name == name).map(|r| r.value);
    match start? {
        Start::Uptime(name) => Timestamp::from_secs_f64(at.as_secs_f64() - value(name)?),
        Start::Epoch(name) => Timestamp::from_secs_f64(value(name)?),
        Start::NewIdentity(_) => None,
    }
}

fn look_up(scraped: &Scraped, probe: &Probe) -> BTreeSet<String> {
    match probe {
        Probe::Metrics { names, matchers } => rows(scraped)
            .filter(|r| names.contains(&r.name) && matchers.iter().all(|m| m.matches(r.label(&m.label))))
            .map(|r| r.name.clone())
            .collect(),
        Probe::Labels { select, labels } => {
            let found = rows(scraped).filter(|r| matches(r, select)).flat_map(|r| labels.iter().filter(|l| !r.label(l).is_empty()));
            found.cloned().collect()
        }
    }
}

/// Every choice, made from the pages in hand; whether one was a guess; sentences for the operator.
fn resolve(settings: &ScrapeSettings, wanted: &Subscription, scraped: &Scraped) -> Result<(Vec<Asked>, bool, Vec<String>), String> {
    let pods = pods::of_arms(settings.pods.as_ref(), wanted, scraped.at, scraped.at);
    let mut resolver = Resolver::new(&settings.packs, wanted)?.with_pods(&pods);
    while let Some(probe) = resolver.next()? {
        resolver.answer(&look_up(scraped, &probe));
    }
    let mut asked = resolver.finish()?;
    // a page shows counters, whatever a pack would rather ask a server
    asked.iter_mut().flat_map(|a| &mut a.questions).for_each(|question| question.form = Form::Process);
    resolver.warnings.extend(resolver.shares());
    let joined = asked.iter().filter_map(|a| {
        Some(format!(
            "pack {}: the pages' series lack {}, and are joined with nothing here: give the telemetry entry an `arm:` of labels they have",
            a.pack,
            a.join.as_ref()?.take.join(", ")
        ))
    });
    resolver.warnings.extend(joined);
    resolver.warnings.extend(blind_spots(&settings.packs, &wanted.telemetry, settings.pods.is_some()));
    Ok((asked, resolver.guessed, resolver.warnings))
}

impl Subscribed {
    /// The newest of the pages is this tick's.
    fn finish(&mut self, settings: &ScrapeSettings, pages: &[&Scraped], words: &str) -> SourceSample {
        let Some(scraped) = pages.last() else { return self.empty().blind(Blind::SourceDown, words) };
        if self.tracker.is_none() || self.guessed {
            match resolve(settings, &self.wanted, scraped) {
                Ok((asked, guessed, _)) => self.take_in(asked, guessed),
                Err(why) => return self.empty().blind(Blind::NoSeries, &why),
            }
        }
        let Some(tracker) = &mut self.tracker else { return self.empty().blind(Blind::NoSeries, words) };
        if scraped.pages.is_empty() {
            return tracker.blind(Blind::SourceDown, words);
        }
        let from = pages.iter().rev().nth(1).map_or(scraped.at, |before| before.at);
        tracker.take_pods(&pods::of_arms(settings.pods.as_ref(), &self.wanted, from, scraped.at));
        feed(tracker, pages);
        let not_asked = PerArm::from_fn(|_| Vec::new());
        let mut sample = tracker.finish(scraped.at, not_asked);
        if !words.is_empty() {
            sample.detail = if sample.detail.is_empty() { words.to_owned() } else { format!("{}; {words}", sample.detail) };
        }
        sample
    }

    /// A tracker whose questions stay the same goes on counting.
    fn take_in(&mut self, asked: Vec<Asked>, guessed: bool) {
        let keys = |all: &[Asked]| all.iter().map(Asked::key).collect::<Vec<_>>();
        let now: Option<Vec<String>> = self.tracker.as_ref().map(|t| t.asked().iter().map(|a| a.key()).collect());
        if now != Some(keys(&asked)) {
            self.tracker = Some(Tracker::new(&self.wanted, asked, self.bounds_ms.clone(), SCRAPE_ASSUMED));
        }
        self.guessed = guessed;
    }

    fn empty(&self) -> Tracker {
        Tracker::new(&self.wanted, Vec::new(), Vec::new(), SCRAPE_ASSUMED)
    }
}

/// What the pages hold for a subscription.
fn set_up(asked: &[Asked], scraped: &Scraped, set_up: &mut SetUp) {
    for asked in asked {
        for level in &asked.levels {
            let select = &level.level.select;
            set_up.queries.push(format!("{} on each page", select.with(&asked.arm_matchers([&asked.arms]))));
            let there = |arm: Arm| rows(scraped).any(|r| matches(r, select) && is_arm(r, asked, arm));
            for arm in Arm::BOTH.into_iter().filter(|arm| !there(*arm)) {
                set_up.warnings.push(format!("{}: no series of {} yet", arm.name(), select.name));
            }
        }
        for question in &asked.questions {
            let select = &question.selects[0].0;
            set_up.queries.push(format!("{} on each page", select.with(&asked.arm_matchers([&asked.arms]))));
            let of = |arm: Arm| rows(scraped).filter(move |r| matches(r, select) && is_arm(r, asked, arm));
            for arm in Arm::BOTH.into_iter().filter(|arm| of(*arm).next().is_none()) {
                set_up.warnings.push(format!("{}: no series of {} yet", arm.name(), select.name));
            }
            if question.group == Group::Buckets {
                let bounds = PerArm::from_fn(|arm| -> BTreeSet<u64> {
                    let all = of(arm).filter_map(|r| bound_ms(r.label("le"), question.unit_ms));
                    all.filter(|b| b.is_finite() && *b >= 0.0).map(f64::to_bits).collect()
                });
                set_up.bounds_ms = common(&bounds);
            }
        }
    }
}

/// Bounds both arms have; those of one while the other has none.
fn common(bounds: &PerArm<BTreeSet<u64>>) -> Vec<f64> {
    let PerArm { baseline, canary } = bounds;
    let both: Vec<u64> = if baseline.is_empty() || canary.is_empty() {
        baseline.union(canary).copied().collect()
    } else {
        baseline.intersection(canary).copied().collect()
    };
    both.into_iter().take(BOUNDS_MAX).map(f64::from_bits).collect()
}

impl Source for Scrape {
    fn name(&self) -> &str {
        &self.settings.name
    }

    fn set_up<'a>(&'a mut self, wanted: &'a Subscription, at: Timestamp) -> Answer<'a, Result<SetUp, SourceError>> {
        Box::pin(async move {
            let (urls, names) = (self.urls([wanted]), self.names([wanted]));
            let (scraped, problems) = self.scrape(urls.clone(), &names, at).await;
            if scraped.pages.is_empty() {
                return Err(SourceError::Down { url: urls.join(", "), cause: problems.join("; ") });
            }
            let (asked, _, warnings) = resolve(&self.settings, wanted, &scraped).map_err(SourceError::Unusable)?;
            let mut found = SetUp { warnings, ..SetUp::default() };
            found.warnings.extend(problems);
            if !wanted.custom_gauges.is_empty() {
                found.warnings.push("custom gauges are PromQL: a directly scraped source does not read them".to_owned());
            }
            set_up(&asked, &scraped, &mut found);
            Ok(found)
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
        Box::pin(async move {
            let kept = self.past.back().cloned().unwrap_or(Scraped { at: end, pages: Arc::default() });
            let (asked, ..) = resolve(&self.settings, wanted, &kept).map_err(SourceError::Unusable)?;
            let own = self.replayed(asked, wanted, (end, length, interval), bounds_ms);
            let enough = own.requests.iter().flatten().count() >= PAST_MIN;
            Ok(if enough { own } else { self.given.clone().unwrap_or(own) })
        })
    }

    fn subscribe(&mut self, wanted: Subscription, bounds_ms: Vec<f64>) {
        self.subscribed.insert(wanted.key, Subscribed { wanted, bounds_ms, tracker: None, guessed: false });
    }

    fn unsubscribe(&mut self, key: u64) {
        self.subscribed.remove(&key);
    }

    fn tick<'a>(&'a mut self, at: Timestamp) -> Answer<'a, Vec<SourceSample>> {
        Box::pin(self.read_tick(at))
    }

    fn settle(&self) -> Duration {
        Duration::ZERO
    }
}
