//! What is read from and shown in the cluster's own objects.

use crate::telemetry::Metrics;
use crate::telemetry::metrics::{Rule, ShownEnd};

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

/// What a rule needs in the cluster and is not there, or is there again.
#[derive(Clone, Copy, Debug)]
pub struct RuleMisses<'a> {
    /// Which rule.
    pub rule: &'a str,
    /// A sentence each.
    pub missing: &'a [String],
    /// What was missing before.
    pub before: &'a [String],
}

impl RuleMisses<'_> {
    /// Log lines for what is news, and metrics.
    pub fn emit(self, metrics: &Metrics) {
        let Self { rule, missing, before } = self;
        for why in missing.iter().filter(|why| !before.contains(why)) {
            tracing::warn!(rule, "no rollout of this rule can begin: {why}");
        }
        if missing.is_empty() && !before.is_empty() {
            tracing::info!(rule, "all that this rule needs is there");
        }
        let count = i64::try_from(missing.len()).unwrap_or(i64::MAX);
        metrics.families().missing.get_or_create(&Rule { rule: rule.to_owned() }).set(count);
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
