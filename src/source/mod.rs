//! Where samples come from. A source answers a tick for all rollouts that read it at once; every source gives the same
//! samples for the same traffic. Counters are differenced here ([`counters`]); arms are paired and judged in `analysis`.
//!
//! A source must never turn "could not look" into a number, and never asks for `rate()` of what is judged by counts: it
//! extrapolates, and that evidence needs integers. CPU is a level, and is asked as the rate it is.
//!
//! ```text
//! rule's telemetry + packs/*.yaml --resolve--> questions --+--> prometheus/ (planner, client, decoder) --rows--+
//!                                                          +--> scrape.rs (pages)                      --rows--+--> tracker
//! recording.rs: files of samples, for replay                                     SourceSample <-- counters <--+
//! ```
//!
//! Read [`counters`] and `levels.rs` first, then `tracker.rs`, then [`prometheus`].

pub mod counters;
mod levels;
pub mod packs;
mod past;
mod pods;
pub mod prometheus;
pub mod recording;
mod rhythm;
pub mod scrape;
mod tracker;

pub use packs::{Packs, known_packs};
pub use pods::PodWatch;
pub use prometheus::{Allowance, Auth, IN_FLIGHT_MAX, Prometheus, PrometheusSettings, Tls};
pub use recording::Recording;
pub use scrape::{Scrape, ScrapeSettings};

use crate::model::{ArmSample, Blind, History, PerArm, Timestamp, rule};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// The future of an answer.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What one rollout wants read, until it is dropped.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscription {
    /// Chosen by the caller; comes back with every sample.
    pub key: u64,
    /// Which workload is which arm, in this rollout.
    pub arms: PerArm<rule::Target>,
    /// Packs, in order of preference.
    pub telemetry: Vec<rule::Telemetry>,
    /// The rule's own counts and gauges.
    pub custom_counts: Vec<rule::CustomCounts>,
    /// The rule's own gauges.
    pub custom_gauges: Vec<rule::CustomGauge>,
    /// Which of the built-in quantities the rule needs.
    pub wants: Wants,
    /// How much faster the method's clock runs (1 in production): windows of packs and of the history shrink with it.
    pub time_scale: f64,
}

/// The built-in quantities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Wants {
    /// Requests and errors.
    pub requests: bool,
    /// Latency buckets.
    pub buckets: bool,
    /// CPU.
    pub cpu: bool,
    /// Memory.
    pub memory: bool,
}

/// What the set-up of a subscription found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SetUp {
    /// Measured scrape interval of the slowest job read; `None` if the source has none (direct scrape).
    pub scrape_interval: Option<Duration>,
    /// Bounds of the latency buckets common to both arms, ms, ascending, without `+Inf`; empty without a histogram.
    pub bounds_ms: Vec<f64>,
    /// Sentences for the operator: what the packs cannot see, which arm has no series yet, ...
    pub warnings: Vec<String>,
    /// What will be asked, for `check --live`.
    pub queries: Vec<String>,
}

/// One rollout's share of a tick.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceSample {
    /// Of which subscription.
    pub key: u64,
    /// Both arms.
    pub arms: PerArm<ArmSample>,
    /// Why an arm's counts are missing, if they are.
    pub missing: PerArm<Option<Blind>>,
    /// The source's words about it: a server's error text, the name of a silent process; may be empty.
    pub detail: String,
    /// Failed requests of the service that the stack ascribes to no workload, increments since the last tick.
    pub orphans: f64,
}

/// A place samples come from.
pub trait Source: Send + fmt::Debug {
    /// Its name in the settings.
    fn name(&self) -> &str;

    /// Looks at what a subscription will find. Nothing is kept.
    fn set_up<'a>(&'a mut self, wanted: &'a Subscription, at: Timestamp) -> Answer<'a, Result<SetUp, SourceError>>;

    /// The baseline's past of `length` up to `end`, in polls of `interval`, with these bucket bounds.
    fn history<'a>(
        &'a mut self,
        wanted: &'a Subscription,
        end: Timestamp,
        length: Duration,
        interval: Duration,
        bounds_ms: &'a [f64],
    ) -> Answer<'a, Result<History, SourceError>>;

    /// From the next tick on, this is read too. The first tick of a subscription only notes raw values.
    fn subscribe(&mut self, wanted: Subscription, bounds_ms: Vec<f64>);

    /// No more.
    fn unsubscribe(&mut self, key: u64);

    /// The tick that ended at `at`, for every subscription, in the order of their keys. Never fails as a whole: what
    /// could not be looked at is blind in the samples.
    fn tick<'a>(&'a mut self, at: Timestamp) -> Answer<'a, Vec<SourceSample>>;

    /// How long after a tick's end its samples are all there (p99 age of the newest sample, measured).
    fn settle(&self) -> Duration;
}

/// Why a source could not answer a set-up or a history.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It does not answer.
    #[error("{url} does not answer: {cause}")]
    Down { url: String, cause: String },
    /// It refuses the query; its own words.
    #[error("{url} refused the query {query:?}: {answer}")]
    Rejected { url: String, query: String, answer: String },
    /// It does not take our credentials, or one side's certificate is not accepted.
    #[error("{url} cannot be asked: {cause}")]
    Refused { url: String, cause: String },
    /// It answers something that is no answer.
    #[error("{url} gave no usable answer: {cause}")]
    Body { url: String, cause: String },
    /// The rule asks for what the source cannot give.
    #[error("{0}")]
    Unusable(String),
}

impl SourceError {
    /// The blindness it means.
    pub const fn blind(&self) -> Blind {
        match self {
            Self::Down { .. } | Self::Refused { .. } | Self::Body { .. } => Blind::SourceDown,
            Self::Rejected { .. } => Blind::QueryRejected,
            Self::Unusable(_) => Blind::NoSeries,
        }
    }
}
