//! Watches of the cluster.

use crate::telemetry::Metrics;
use crate::telemetry::metrics::{Kind, KindReason, KindWhat};

/// A watch begins, or ends with the daemon.
#[derive(Clone, Copy, Debug)]
pub struct WatchBegan<'a> {
    /// Of what, as the API names it: `pods`.
    pub kind: &'static str,
    /// Where.
    pub namespace: &'a str,
    /// It begins; else it ends.
    pub running: bool,
}

impl WatchBegan<'_> {
    /// Log line and metrics.
    pub fn emit(self, metrics: &Metrics) {
        let Self { kind, namespace, running } = self;
        tracing::debug!(kind, namespace, running, "watch");
        let watches = metrics.families().watches.get_or_create(&Kind { kind });
        if running {
            watches.inc()
        } else {
            watches.dec()
        };
    }
}

/// A watch brought something.
#[derive(Clone, Copy, Debug)]
pub struct WatchChanged {
    /// Of what.
    pub kind: &'static str,
    /// `listed`, `put` or `gone`.
    pub what: &'static str,
}

impl WatchChanged {
    /// Metrics only: there may be thousands in a second.
    pub fn emit(self, metrics: &Metrics) {
        metrics.families().watch_changes.get_or_create(&KindWhat { kind: self.kind, what: self.what }).inc();
    }
}

/// A watch broke, and is tried again.
#[derive(Clone, Copy, Debug)]
pub struct WatchBroke<'a> {
    /// Of what.
    pub kind: &'static str,
    /// Where.
    pub namespace: &'a str,
    /// A word of a closed set.
    pub reason: &'static str,
    /// The words of the error.
    pub error: &'a str,
    /// It was in order before.
    pub first: bool,
}

impl WatchBroke<'_> {
    /// Log line, once for each time it was in order before, and metrics.
    pub fn emit(self, metrics: &Metrics) {
        let Self { kind, namespace, reason, error, first } = self;
        if first {
            tracing::warn!(kind, namespace, reason, error, "watch broke");
        } else {
            tracing::debug!(kind, namespace, reason, error, "watch is still broken");
        }
        metrics.families().watch_failures.get_or_create(&KindReason { kind, reason }).inc();
    }
}

/// A watch that broke is in order again.
#[derive(Clone, Copy, Debug)]
pub struct WatchMended<'a> {
    /// Of what.
    pub kind: &'static str,
    /// Where.
    pub namespace: &'a str,
}

impl WatchMended<'_> {
    /// Log line only.
    pub fn emit(self, _: &Metrics) {
        tracing::info!(kind = self.kind, namespace = self.namespace, "watch is in order again");
    }
}

/// Pods that are gone were forgotten before their time, or failed probes not counted: there are too many.
#[derive(Clone, Copy, Debug)]
pub struct WatchDropped<'a> {
    /// Of what.
    pub kind: &'static str,
    /// Where.
    pub namespace: &'a str,
    /// How many.
    pub count: u64,
}

impl WatchDropped<'_> {
    /// Log line and metrics.
    pub fn emit(self, metrics: &Metrics) {
        let Self { kind, namespace, count } = self;
        tracing::debug!(kind, namespace, count, "too many to remember");
        metrics.families().watch_dropped.get_or_create(&Kind { kind }).inc_by(count);
    }
}
