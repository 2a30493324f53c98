//! What is read from and shown in the cluster's own objects.

use crate::telemetry::Metrics;
use crate::telemetry::metrics::ShownEnd;

/// A status or an Event was written, could not be, or found no room.
#[derive(Clone, Copy, Debug)]
pub struct ShownInCluster {
    /// The kind of object.
    pub kind: &'static str,
    /// `ok`, `failed` or `lost`.
    pub outcome: &'static str,
}

impl ShownInCluster {
    /// Metrics, and a log line for what nobody will ever see.
    pub fn emit(self, metrics: &Metrics) {
        let Self { kind, outcome } = self;
        if outcome == "lost" {
            tracing::debug!(kind, "no room for what is to be seen in the cluster: it is left out there");
        }
        metrics.families().shown.get_or_create(&ShownEnd { kind, outcome }).inc();
    }
}

/// Why something cannot be shown in the cluster. Rollouts go on.
#[derive(Clone, Copy, Debug)]
pub struct NotShown<'a> {
    /// The kind of object.
    pub kind: &'a str,
    /// Why.
    pub why: &'a str,
    /// It is news.
    pub first: bool,
}

impl NotShown<'_> {
    /// Log line.
    pub fn emit(self) {
        let Self { kind, why, first } = self;
        if first {
            tracing::warn!(kind, "cannot be shown in the cluster, rollouts go on: {why}");
        } else {
            tracing::debug!(kind, "still cannot be shown in the cluster: {why}");
        }
    }
}

/// Rules that are objects cannot be read.
#[derive(Clone, Copy, Debug)]
pub struct RulesNotWatched<'a> {
    /// Why.
    pub why: &'a str,
}

impl RulesNotWatched<'_> {
    /// Log line.
    pub fn emit(self) {
        tracing::warn!("rules that are objects of the cluster: {}", self.why);
    }
}

/// An object that is to be a rule is none.
#[derive(Clone, Copy, Debug)]
pub struct ObjectRefused<'a> {
    /// Every problem.
    pub problems: &'a [String],
}

impl ObjectRefused<'_> {
    /// A log line for each problem.
    pub fn emit(self) {
        for problem in self.problems {
            tracing::error!(problem, "rule refused, what was in force stays");
        }
    }
}
