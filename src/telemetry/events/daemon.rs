//! What happens to the daemon itself: its rules and its journal.

use crate::model::RolloutId;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::End;
use std::time::Duration;

/// The rules were read and are in force.
#[derive(Clone, Copy, Debug)]
pub struct Reloaded {
    /// How many rules there are now.
    pub rules: usize,
}

impl Reloaded {
    /// Log line and metrics.
    pub fn emit(self, metrics: &Metrics) {
        tracing::info!(rules = self.rules, "rules are in force");
        metrics.families().reloads.get_or_create(&End { outcome: "ok" }).inc();
        metrics.families().reload_ok.set(1);
    }
}

/// The rules on disk are not valid: the old ones stay in force, or at the start those that are good.
#[derive(Clone, Copy, Debug)]
pub struct ReloadRefused<'a> {
    /// Every problem, with file and line.
    pub problems: &'a [String],
}

impl ReloadRefused<'_> {
    /// A log line for each problem, and metrics.
    pub fn emit(self, metrics: &Metrics) {
        tracing::error!(problems = self.problems.len(), "rules on disk are refused, those that were good are in force");
        for problem in self.problems {
            tracing::error!(problem, "rule refused");
        }
        metrics.families().reloads.get_or_create(&End { outcome: "refused" }).inc();
        metrics.families().reload_ok.set(0);
    }
}

/// Lines of the journal are on disk.
#[derive(Clone, Copy, Debug)]
pub struct StoreAppended {
    /// How long the durable write took.
    pub took: Duration,
    /// How many lines.
    pub lines: usize,
}

impl StoreAppended {
    /// Log line and metrics.
    pub fn emit(self, metrics: &Metrics) {
        tracing::trace!(lines = self.lines, took_ms = self.took.as_millis() as u64, "journal written");
        metrics.families().append_seconds.observe(self.took.as_secs_f64());
    }
}

/// The journal could not be written or read.
#[derive(Clone, Copy, Debug)]
pub struct StoreFailed<'a> {
    /// What was attempted.
    pub what: &'a str,
    /// The error's words.
    pub error: &'a str,
}

impl StoreFailed<'_> {
    /// Log line and metrics.
    pub fn emit(self, metrics: &Metrics) {
        tracing::error!(what = self.what, error = self.error, "journal failed: nothing steps up until it works");
        metrics.families().store_errors.inc();
    }
}

/// Ticks were left out because the daemon was so far behind that asking for each would never catch up.
#[derive(Clone, Copy, Debug)]
pub struct TicksSkipped<'a> {
    /// Name of the source.
    pub source: &'a str,
    /// How many.
    pub ticks: u64,
}

impl TicksSkipped<'_> {
    /// Log line.
    pub fn emit(self) {
        tracing::warn!(source = self.source, ticks = self.ticks, "far behind (suspended, or the clock was set): ticks are left out");
    }
}

/// An unfinished rollout of an earlier process could not be taken up: its weight stays where it is.
#[derive(Clone, Copy, Debug)]
pub struct NotRecovered<'a> {
    /// Which.
    pub rollout: &'a RolloutId,
    /// Why.
    pub why: &'a str,
}

impl NotRecovered<'_> {
    /// Log line.
    pub fn emit(self) {
        tracing::error!(rollout = %self.rollout, why = self.why, "an unfinished rollout cannot be taken up: its weight stays where it is");
    }
}

/// The journal of an unfinished rollout has a gap: its evidence begins anew, at half of the level.
#[derive(Clone, Copy, Debug)]
pub struct EvidenceLost<'a> {
    /// Which.
    pub rollout: &'a RolloutId,
    /// How often that happened to it.
    pub incarnation: u32,
    /// Why.
    pub why: &'a str,
}

impl EvidenceLost<'_> {
    /// Log line.
    pub fn emit(self) {
        let Self { rollout, incarnation, why } = self;
        tracing::warn!(%rollout, incarnation, why, "the journal has a gap: evidence begins anew, and needs twice as much for a rollback");
    }
}

/// A limit was moved in the file of a running rollout's rule.
#[derive(Clone, Copy, Debug)]
pub struct LimitMoved<'a> {
    /// Its rule.
    pub rule: &'a str,
    /// Which.
    pub rollout: &'a RolloutId,
    /// What became of it.
    pub text: &'a str,
}

impl LimitMoved<'_> {
    /// Log line.
    pub fn emit(self) {
        let Self { rule, rollout, text } = self;
        tracing::info!(rule, %rollout, "a limit was moved: {text}");
    }
}

/// The cluster shows a release that is not started now.
#[derive(Clone, Copy, Debug)]
pub struct ReleaseSeen<'a> {
    /// Of which rule.
    pub rule: &'a str,
    /// Why not, in a word.
    pub about: &'static str,
    /// For the operator.
    pub text: &'a str,
}

impl ReleaseSeen<'_> {
    /// Log line.
    pub fn emit(self) {
        let Self { rule, about, text } = self;
        tracing::info!(rule, about, "{text}");
    }
}

/// A workload's pod template is known from now on.
#[derive(Clone, Copy, Debug)]
pub struct ReleaseNoted<'a> {
    /// Of which rule.
    pub rule: &'a str,
    /// Its workload.
    pub workload: &'a str,
    /// Identity of the template; `None` = there is no such workload.
    pub template: Option<&'a str>,
    /// Why it is only noted, in a word.
    pub why: &'static str,
}

impl ReleaseNoted<'_> {
    /// Log line.
    pub fn emit(self) {
        let Self { rule, workload, why, .. } = self;
        tracing::info!(rule, workload, template = self.template.unwrap_or("none"), why, "pod template noted");
    }
}

/// The API server reads a pod template otherwise than before, which nobody wrote: the same one under a new identity.
#[derive(Clone, Copy, Debug)]
pub struct ReleaseRenamed<'a> {
    /// Of which rule.
    pub rule: &'a str,
    /// Its workload.
    pub workload: &'a str,
    /// Identity until now.
    pub was: &'a str,
    /// Identity from now on.
    pub template: &'a str,
}

impl ReleaseRenamed<'_> {
    /// Log line.
    pub fn emit(self) {
        let Self { rule, workload, was, template } = self;
        tracing::info!(rule, workload, was, template, "pod template named anew: the API server fills in other fields");
    }
}

/// A workload without traffic got its idle replicas, or not.
#[derive(Clone, Copy, Debug)]
pub struct WorkloadIdled<'a> {
    /// Of which rule.
    pub rule: &'a str,
    /// As an operator calls it.
    pub workload: &'a str,
    /// How many it has now; or why not.
    pub outcome: Result<u32, &'a str>,
}

impl WorkloadIdled<'_> {
    /// Log line.
    pub fn emit(self) {
        let Self { rule, workload, outcome } = self;
        match outcome {
            Ok(replicas) => tracing::info!(rule, workload, replicas, "scaled to its idle replicas"),
            Err(why) => tracing::warn!(rule, workload, why, "not scaled to its idle replicas"),
        }
    }
}

/// What was too old is gone from the journal.
#[derive(Clone, Copy, Debug)]
pub struct Pruned {
    /// Whole rollouts.
    pub rollouts: u64,
    /// Polls of others.
    pub polls: u64,
}

impl Pruned {
    /// Log line.
    pub fn emit(self) {
        tracing::info!(rollouts = self.rollouts, polls = self.polls, "dropped by age (retention_days)");
    }
}

/// Decisions in the journal that this build would not make again. The recorded ones stand.
#[derive(Clone, Copy, Debug)]
pub struct DecisionsDiffer<'a> {
    /// Whose.
    pub rollout: &'a RolloutId,
    /// How many.
    pub decisions: usize,
}

impl DecisionsDiffer<'_> {
    /// Log line.
    pub fn emit(self) {
        let Self { rollout, decisions } = self;
        tracing::warn!(%rollout, decisions, "this build would have decided differently before the restart; the recorded decisions stand");
    }
}

/// Shutdown did not wait any longer.
#[derive(Clone, Copy, Debug)]
pub struct StoppedEarly<'a> {
    /// For what.
    pub what: &'a str,
}

impl StoppedEarly<'_> {
    /// Log line.
    pub fn emit(self) {
        tracing::warn!(what = self.what, "stopped without waiting any longer");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_reload_shows_until_one_is_followed() {
        let metrics = Metrics::new();
        ReloadRefused { problems: &["rules/a.yaml:3: steps: empty".to_owned()] }.emit(&metrics);
        assert!(metrics.text().contains("canaryd_rules_valid 0\n"), "{}", metrics.text());
        Reloaded { rules: 2 }.emit(&metrics);
        let page = metrics.text();
        assert!(page.contains("canaryd_rules_valid 1\n"), "{page}");
        assert!(page.contains("canaryd_reloads_total{outcome=\"refused\"} 1\n") && page.contains("{outcome=\"ok\"} 1\n"), "{page}");
    }
}
