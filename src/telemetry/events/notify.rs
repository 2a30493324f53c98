//! What is told to others, and what others tell.

use crate::model::{Alert, RolloutId};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{AlertsEnd, ReceiverEnd};

/// A receiver was told something, or could not be.
#[derive(Clone, Copy, Debug)]
pub struct ReceiverTold<'a> {
    /// Its name in the settings.
    pub receiver: &'a str,
    /// Its address.
    pub target: &'a str,
    /// Why not, if not.
    pub failed: Option<ReceiverFailure<'a>>,
}

/// Why a receiver was not told.
#[derive(Clone, Copy, Debug)]
pub struct ReceiverFailure<'a> {
    /// A word of a closed set.
    pub reason: &'static str,
    /// What happened.
    pub text: &'a str,
    /// It is tried again.
    pub again: bool,
    /// It is the first of a row: those after it are only counted, and logged at debug level.
    pub first: bool,
}

impl ReceiverTold<'_> {
    /// Log line and metrics.
    pub fn emit(self, metrics: &Metrics) {
        let Self { receiver, target, failed } = self;
        let (outcome, reason) = match failed {
            None => ("ok", ""),
            Some(failed) => ("failed", failed.reason),
        };
        match failed {
            None => tracing::debug!(receiver, target, "receiver told"),
            Some(ReceiverFailure { reason, text, again: true, first: true }) => {
                tracing::warn!(receiver, target, reason, "receiver cannot be told, it is tried again: {text}");
            }
            Some(ReceiverFailure { reason, text, again: true, first: false }) => {
                tracing::debug!(receiver, target, reason, "receiver still cannot be told: {text}");
            }
            Some(ReceiverFailure { reason, text, again: false, .. }) => {
                tracing::error!(receiver, target, reason, "receiver refuses what it is told, and is not told again: {text}");
            }
        }
        metrics.families().receivers.get_or_create(&ReceiverEnd { receiver: receiver.to_owned(), outcome, reason }).inc();
    }
}

/// Something a receiver should have been told was dropped: it was too late, or there was no room.
#[derive(Clone, Copy, Debug)]
pub struct ReceiverMissed<'a> {
    /// Its name in the settings.
    pub receiver: &'a str,
    /// Which rollout it was about.
    pub rollout: &'a RolloutId,
    /// Why, in a word.
    pub reason: &'static str,
}

impl ReceiverMissed<'_> {
    /// Log line and metrics.
    pub fn emit(self, metrics: &Metrics) {
        let Self { receiver, rollout, reason } = self;
        tracing::error!(receiver, %rollout, reason, "receiver is never told this: it stays in the log and the journal");
        metrics.families().receivers.get_or_create(&ReceiverEnd { receiver: receiver.to_owned(), outcome: "missed", reason }).inc();
    }
}

/// A message of an Alertmanager was dealt with.
#[derive(Clone, Copy, Debug)]
pub struct AlertsReceived<'a> {
    /// The bearer's name.
    pub by: &'a str,
    /// Alerts in it.
    pub alerts: usize,
    /// How many of them were handed to a rollout.
    pub taken: usize,
    /// How many it left out itself (`max_alerts` of the webhook).
    pub truncated: u64,
    /// Why it was not taken, if it was not.
    pub refused: Option<&'a str>,
}

impl AlertsReceived<'_> {
    /// Log line and metrics.
    pub fn emit(self, metrics: &Metrics) {
        let Self { by, alerts, taken, truncated, refused } = self;
        let outcome = match refused {
            None if taken > 0 => "taken",
            None => "unrelated",
            Some(_) => "refused",
        };
        match refused {
            None if taken > 0 => tracing::info!(by, alerts, taken, "alerts taken"),
            None => tracing::debug!(by, alerts, "alerts of no running rollout"),
            Some(why) => tracing::warn!(by, alerts, "alerts refused: {why}"),
        }
        if truncated > 0 {
            tracing::warn!(by, truncated, "the sender left alerts out: raise or remove max_alerts of its webhook");
        }
        metrics.families().alerts_received.get_or_create(&AlertsEnd { outcome }).inc_by(alerts.max(1) as u64);
        metrics.families().alerts_truncated.inc_by(truncated);
    }
}

/// Alerts that their sender has not repeated are taken as over.
#[derive(Clone, Copy, Debug)]
pub struct AlertsExpired<'a> {
    /// Of which rule.
    pub rule: &'a str,
    /// Of which rollout.
    pub rollout: &'a RolloutId,
    /// Which.
    pub alerts: &'a [Alert],
}

impl AlertsExpired<'_> {
    /// A log line for each.
    pub fn emit(self) {
        let Self { rule, rollout, alerts } = self;
        for Alert { name, text, .. } in alerts {
            tracing::warn!(rule, %rollout, alert = name, "alert released: {text}");
        }
    }
}
