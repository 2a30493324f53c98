//! What goes in and out: queries, ticks, the engine's queue, effects, HTTP.

use crate::model::{Blind, RolloutId, Timestamp};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{EffectEnd, QueryEnd, Request, Shard, Source, SourceReason};
use std::time::Duration;

/// A source answered a query, or did not.
#[derive(Clone, Copy, Debug)]
pub struct QueryEnded<'a> {
    /// Name of the source.
    pub source: &'a str,
    /// What was asked, in a word or two (never with credentials).
    pub question: &'a str,
    /// How long it took.
    pub took: Duration,
    /// What went wrong: a word of a closed set for the metric, and the words of the error.
    pub failed: Option<(&'static str, &'a str)>,
}

impl QueryEnded<'_> {
    /// Log line and metrics.
    pub fn emit(self, metrics: &Metrics) {
        let Self { source, question, took, failed } = self;
        let took_ms = took.as_millis() as u64;
        let (outcome, reason) = match failed {
            None => {
                tracing::debug!(source, question, took_ms, "query answered");
                ("ok", "")
            }
            Some((reason, error)) => {
                tracing::warn!(source, question, took_ms, reason, error, "query failed");
                ("failed", reason)
            }
        };
        let families = metrics.families();
        families.queries.get_or_create(&QueryEnd { source: source.to_owned(), outcome, reason }).inc();
        families.query_seconds.get_or_create(&Source { source: source.to_owned() }).observe(took.as_secs_f64());
    }
}

/// A tick of a source was read for all its rollouts.
#[derive(Clone, Copy, Debug)]
pub struct Ticked<'a> {
    /// Name of the source.
    pub source: &'a str,
    /// The tick's end.
    pub at: Timestamp,
    /// How many rollouts it was for.
    pub rollouts: usize,
    /// How long the reading took.
    pub took: Duration,
}

impl Ticked<'_> {
    /// Log line and metrics.
    pub fn emit(self, metrics: &Metrics) {
        let Self { source, at, rollouts, took } = self;
        tracing::debug!(source, at = at.as_millis(), rollouts, took_ms = took.as_millis() as u64, "tick read");
        let label = Source { source: source.to_owned() };
        metrics.families().ticks.get_or_create(&label).inc();
        metrics.families().tick_at.get_or_create(&label).set(at.as_secs_f64());
    }
}

/// One rollout's tick in which an arm could not be looked at.
#[derive(Clone, Copy, Debug)]
pub struct TickBlind<'a> {
    /// Name of the source.
    pub source: &'a str,
    /// Whose.
    pub rollout: &'a RolloutId,
    /// Why.
    pub why: Blind,
    /// The source's words; may be empty.
    pub detail: &'a str,
}

impl TickBlind<'_> {
    /// Log line and metrics. Debug level: one may come every tick, and the decision says what follows from it.
    pub fn emit(self, metrics: &Metrics) {
        let Self { source, rollout, why, detail } = self;
        let reason = why.name();
        tracing::debug!(source, %rollout, reason, detail, "tick is blind");
        metrics.families().ticks_blind.get_or_create(&SourceReason { source: source.to_owned(), reason }).inc();
    }
}

/// Length of an engine shard's queue, as last seen by its feeder.
#[derive(Clone, Copy, Debug)]
pub struct QueueLength {
    /// Which shard.
    pub shard: u32,
    /// Polls waiting.
    pub length: usize,
}

impl QueueLength {
    /// Metrics only: it is read every tick.
    pub fn emit(self, metrics: &Metrics) {
        let length = i64::try_from(self.length).unwrap_or(i64::MAX);
        metrics.families().queue.get_or_create(&Shard { shard: self.shard }).set(length);
    }
}

/// A full engine queue did not take a poll at once.
#[derive(Clone, Copy, Debug)]
pub struct PushRefused {
    /// Which shard.
    pub shard: u32,
}

impl PushRefused {
    /// Log line and metrics.
    pub fn emit(self, metrics: &Metrics) {
        tracing::warn!(shard = self.shard, "engine queue is full");
        metrics.families().refused.get_or_create(&Shard { shard: self.shard }).inc();
    }
}

/// A driver's full mailbox took no more; whoever sent it was told so.
#[derive(Clone, Copy, Debug)]
pub struct MailRefused<'a> {
    /// Whose driver.
    pub rollout: &'a RolloutId,
}

impl MailRefused<'_> {
    /// Log line and metrics.
    pub fn emit(self, metrics: &Metrics) {
        tracing::warn!(rollout = %self.rollout, "a rollout is busy: its mailbox is full");
        metrics.families().mail_refused.inc();
    }
}

/// A rollout got no poll of a tick, because its driver is not done with what it has.
#[derive(Clone, Copy, Debug)]
pub struct PollLeftOut<'a> {
    /// Whose driver.
    pub rollout: &'a RolloutId,
}

impl PollLeftOut<'_> {
    /// Log line and metrics.
    pub fn emit(self, metrics: &Metrics) {
        tracing::warn!(rollout = %self.rollout, "a rollout is busy: it gets no poll of this tick");
        metrics.families().polls_left_out.inc();
    }
}

/// An effect was carried out, or was not.
#[derive(Clone, Copy, Debug)]
pub struct EffectEnded<'a> {
    /// Whose.
    pub rollout: &'a RolloutId,
    /// The router's word (or the receiver's, for a notification).
    pub router: &'a str,
    /// What was to be done, such as `weight 25%`.
    pub effect: &'a str,
    /// Number of the wish.
    pub generation: u64,
    /// What went wrong: a word of a closed set for the metric, and the words of the error.
    pub failed: Option<(&'static str, &'a str)>,
}

impl EffectEnded<'_> {
    /// Log line and metrics.
    pub fn emit(self, metrics: &Metrics) {
        let Self { rollout, router, effect, generation, failed } = self;
        let (outcome, reason) = match failed {
            None => {
                tracing::info!(%rollout, router, effect, generation, "effect applied");
                ("ok", "")
            }
            Some(("underway", said)) => {
                tracing::info!(%rollout, router, effect, generation, said, "effect under way");
                ("underway", "")
            }
            Some((reason, error)) => {
                tracing::warn!(%rollout, router, effect, generation, reason, error, "effect failed");
                ("failed", reason)
            }
        };
        metrics.families().effects.get_or_create(&EffectEnd { router: router.to_owned(), outcome, reason }).inc();
    }
}

/// What moves the traffic by itself was stopped, for a rollout is being prepared.
#[derive(Clone, Copy, Debug)]
pub struct HeldStill<'a> {
    /// Of the rollout.
    pub rule: &'a str,
    /// The router's word.
    pub router: &'a str,
}

impl HeldStill<'_> {
    /// Log line.
    pub fn emit(self) {
        let Self { rule, router } = self;
        tracing::info!(rule, router, "held still until its rollout begins");
    }
}

/// An HTTP request was answered.
#[derive(Clone, Copy, Debug)]
pub struct RequestServed<'a> {
    /// The pattern of the route; never the path as sent, of which there are endlessly many.
    pub route: &'a str,
    /// Its method, one of the known ones.
    pub method: &'static str,
    /// Status of the answer.
    pub status: u16,
    /// How long it took.
    pub took: Duration,
}

impl RequestServed<'_> {
    /// Log line and metrics.
    pub fn emit(self, metrics: &Metrics) {
        let Self { route, method, status, took } = self;
        tracing::debug!(route, method, status, took_ms = took.as_millis() as u64, "request served");
        metrics.families().requests.get_or_create(&Request { route: route.to_owned(), method, status }).inc();
    }
}

/// Somebody asked for a change over HTTP. Part of the audit trail: logged whether it was followed or not.
#[derive(Clone, Copy, Debug)]
pub struct MutationAsked<'a> {
    /// Name of the token, or `demo`.
    pub by: &'a str,
    /// The verb.
    pub verb: &'a str,
    /// The rollout or rule; empty for a reload.
    pub of: &'a str,
    /// Why it was not followed, if it was not.
    pub refused: Option<&'a str>,
}

impl MutationAsked<'_> {
    /// Log line; its count is that of its route.
    pub fn emit(self) {
        let Self { by, verb, of, refused } = self;
        match refused {
            None => tracing::info!(by, verb, of, "asked and followed"),
            Some(why) => tracing::warn!(by, verb, of, why, "asked and refused"),
        }
    }
}

/// An HTTP connection was taken.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionOpened;

impl ConnectionOpened {
    /// Metrics only.
    pub fn emit(self, metrics: &Metrics) {
        metrics.families().connections.inc();
    }
}

/// An HTTP connection ended.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionClosed<'a> {
    /// Why, if it did not end well: the client's fault as a rule, so debug level.
    pub error: Option<&'a str>,
}

impl ConnectionClosed<'_> {
    /// Log line and metrics.
    pub fn emit(self, metrics: &Metrics) {
        if let Some(error) = self.error {
            tracing::debug!(error, "connection ended");
        }
        metrics.families().connections.dec();
    }
}

/// An object that keeps weights cannot be watched: another hand is seen when it is read the next time, not at once.
#[derive(Clone, Copy, Debug)]
pub struct RouteUnwatched<'a> {
    /// Which.
    pub what: &'a str,
    /// Why.
    pub error: &'a str,
}

impl RouteUnwatched<'_> {
    /// Log line.
    pub fn emit(self) {
        let Self { what, error } = self;
        tracing::warn!(what, error, "the object cannot be watched: another hand's change is seen only at the next tick");
    }
}
