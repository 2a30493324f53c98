//! Samples from Prometheus, or whatever speaks its HTTP API.

pub mod client;
pub mod decoder;
mod planner;

use super::{Answer, Packs, SetUp, Source, SourceError, SourceSample, Subscription};
use crate::model::{History, Timestamp};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How to reach a server and how much to ask of it.
#[derive(Clone)]
pub struct PrometheusSettings {
    /// Its name in the settings.
    pub name: String,
    /// Base URL, with a path prefix if there is one: `http://prometheus:9090`, `https://example.com/prom`.
    pub url: String,
    /// Longest wait for one answer.
    pub timeout: Duration,
    /// File with a bearer token, read at every request: tokens rotate.
    pub bearer_token_file: Option<PathBuf>,
    /// User and password.
    pub basic_auth: Option<(String, String)>,
    /// PEM file with the only certificate authorities to trust; `None` = those of the machine.
    pub ca_file: Option<PathBuf>,
    /// Sent with every request (tenants).
    pub headers: Vec<(String, String)>,
    /// Sent with every query (`partial_response=false` for Thanos).
    pub params: Vec<(String, String)>,
    /// Largest answer read, bytes.
    pub body_max: usize,
    /// Most queries in flight.
    pub in_flight_max: usize,
    /// Packs that rules may name.
    pub packs: Packs,
}

impl PrometheusSettings {
    /// Everything by default but the name and the URL: 10 s, 32 MB, 4 queries in flight, the compiled-in packs.
    pub fn new(name: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            url: url.into(),
            timeout: Duration::from_secs(10),
            bearer_token_file: None,
            basic_auth: None,
            ca_file: None,
            headers: Vec::new(),
            params: Vec::new(),
            body_max: 32 << 20,
            in_flight_max: 4,
            packs: Packs::builtin(),
        }
    }
}

impl fmt::Debug for PrometheusSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrometheusSettings").field("name", &self.name).field("url", &self.url).finish_non_exhaustive()
    }
}

/// A Prometheus server as a source.
#[derive(Debug)]
pub struct Prometheus {
    settings: PrometheusSettings,
}

impl Prometheus {
    /// # Errors
    /// The URL is none, or a file named in the settings cannot be used.
    pub fn new(settings: PrometheusSettings) -> Result<Self, SourceError> {
        Ok(Self { settings })
    }
}

impl Source for Prometheus {
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
