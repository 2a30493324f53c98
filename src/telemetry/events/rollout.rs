//! What happens to rollouts.

use crate::model::{self, Action, Decision, Judgement, Level, Mode, RolloutId, Timestamp, Weight};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{HookEnd, RolloutInfo, Rule, RuleAction, RuleState, RuleWhy};
use crate::telemetry::words;
use std::time::Duration;

/// A rollout was opened, or taken up again after a restart.
#[derive(Clone, Copy, Debug)]
pub struct RolloutOpened<'a> {
    /// Its rule.
    pub rule: &'a str,
    /// Its name.
    pub rollout: &'a RolloutId,
    /// The version on trial; may be empty.
    pub version: &'a str,
    /// Who or what started it.
    pub by: &'a str,
    /// Enforce or observe.
    pub mode: Mode,
    /// Taken up again by a new process.
    pub again: bool,
}

impl RolloutOpened<'_> {
    /// Log line and metrics. Series of the rule's rollout before it are removed.
    pub fn emit(self, metrics: &Metrics) {
        let Self { rule, rollout, version, by, again, .. } = self;
        tracing::info!(rule, %rollout, version, by, again, "rollout opened");
        forget(metrics, rule);
        let info =
            RolloutInfo { rule: rule.to_owned(), rollout: rollout.0.clone(), version: version.to_owned(), mode: words::mode(self.mode) };
        metrics.families().rollout.get_or_create(&info).set(1);
        metrics.shown().entry(rule.to_owned()).or_default().info = Some(info);
    }
}

/// A rollout decided. Log it once its decision is stored.
#[derive(Clone, Copy, Debug)]
pub struct Decided<'a> {
    /// Its rule.
    pub rule: &'a str,
    /// Its name.
    pub rollout: &'a RolloutId,
    /// Names of the rule's metrics, by position.
    pub metrics: &'a [String],
    /// The decision.
    pub decision: &'a Decision,
    /// The judgement it rests on, if there is one.
    pub judgement: Option<&'a Judgement>,
}

impl Decided<'_> {
    /// Log line and metrics. A decision that changes nothing is logged at debug level: there is one every tick.
    pub fn emit(self, metrics: &Metrics) {
        self.log();
        self.count(metrics);
        self.show(metrics);
    }

    fn log(&self) {
        let Self { rule, rollout, decision, .. } = *self;
        let (action, state, weight) = (decision.action.name(), decision.state.name(), decision.weight);
        let text = words::printable(&words::decision(decision, self.metrics, self.judgement));
        match decision.action {
            Action::Hold => tracing::debug!(rule, %rollout, action, state, %weight, "{text}"),
            Action::RollBack | Action::Pause | Action::Reassert | Action::Refuse(_) => {
                tracing::warn!(rule, %rollout, action, state, %weight, "{text}");
            }
            Action::Advance { .. } | Action::Promote | Action::Resume | Action::Finish => {
                tracing::info!(rule, %rollout, action, state, %weight, "{text}");
            }
        }
    }

    fn count(&self, metrics: &Metrics) {
        let families = metrics.families();
        let rule = self.rule.to_owned();
        families.decisions.get_or_create(&RuleAction { rule: rule.clone(), action: self.decision.action.name() }).inc();
        let rule = Rule { rule };
        families.weight.get_or_create(&rule).set(self.decision.weight.share());
        if let Some(judgement) = self.judgement {
            families.evidence.get_or_create(&rule).set(judgement.ln_total);
            families.evidence_needed.get_or_create(&rule).set(judgement.ln_rollback);
            families.score.get_or_create(&rule).set(judgement.score);
        }
    }

    /// State and holds as they are now; what was shown before and is no longer so is removed.
    fn show(&self, metrics: &Metrics) {
        let families = metrics.families();
        let state = self.decision.state.name();
        let mut whys: Vec<&'static str> = self.decision.holds.iter().map(|hold| hold.why.name()).collect();
        whys.sort_unstable();
        whys.dedup();
        let mut all = metrics.shown();
        let shown = all.entry(self.rule.to_owned()).or_default();
        let rule = || self.rule.to_owned();
        if let Some(old) = shown.state.replace(state).filter(|old| *old != state) {
            families.state.remove(&RuleState { rule: rule(), state: old });
        }
        families.state.get_or_create(&RuleState { rule: rule(), state }).set(1);
        for why in shown.whys.iter().filter(|why| !whys.contains(*why)) {
            families.holds.remove(&RuleWhy { rule: rule(), why });
        }
        for why in &whys {
            families.holds.get_or_create(&RuleWhy { rule: rule(), why }).set(1);
        }
        shown.whys = whys;
    }
}

/// Somebody shall know.
#[derive(Clone, Copy, Debug)]
pub struct Notice<'a> {
    /// Its rule.
    pub rule: &'a str,
    /// Its rollout.
    pub rollout: &'a RolloutId,
    /// What.
    pub notice: &'a model::Notice,
}

impl Notice<'_> {
    /// Log line.
    pub fn emit(self) {
        let Self { rule, rollout, notice } = self;
        let (topic, phase, text) = (notice.topic.name(), notice.phase.name(), words::printable(&notice.text));
        match notice.level {
            Level::Info => tracing::info!(rule, %rollout, topic, phase, "{text}"),
            Level::Warning => tracing::warn!(rule, %rollout, topic, phase, "{text}"),
            Level::Page => tracing::error!(rule, %rollout, topic, phase, page = true, "{text}"),
        }
    }
}

/// A hook of a rule was called once.
#[derive(Clone, Copy, Debug)]
pub struct HookCalled<'a> {
    /// The rule.
    pub rule: &'a str,
    /// Its rollout.
    pub rollout: &'a RolloutId,
    /// Where the hook stands.
    pub hook: &'static str,
    /// Which attempt.
    pub attempt: u32,
    /// How long it took.
    pub took: Duration,
    /// What went wrong: a word of a closed set for the metric, and the words of the answer.
    pub failed: Option<(&'static str, &'a str)>,
}

impl HookCalled<'_> {
    /// Log line and metrics.
    pub fn emit(self, metrics: &Metrics) {
        let Self { rule, rollout, hook, attempt, took, failed } = self;
        let took_ms = took.as_millis() as u64;
        let (outcome, reason) = match failed {
            None => {
                tracing::info!(rule, %rollout, hook, attempt, took_ms, "hook lets it pass");
                ("ok", "")
            }
            Some((reason, error)) => {
                tracing::warn!(rule, %rollout, hook, attempt, took_ms, reason, error, "hook failed");
                ("failed", reason)
            }
        };
        metrics.families().hook_calls.get_or_create(&HookEnd { hook, outcome, reason }).inc();
    }
}

/// A notice did not reach the receivers: more were waiting than there is room for.
#[derive(Clone, Copy, Debug)]
pub struct NoticeLost<'a> {
    /// Its rule.
    pub rule: &'a str,
    /// Its rollout.
    pub rollout: &'a RolloutId,
    /// About what, in a word.
    pub topic: &'a str,
}

impl NoticeLost<'_> {
    /// Log line and metrics.
    pub fn emit(self, metrics: &Metrics) {
        let Self { rule, rollout, topic } = self;
        tracing::error!(rule, %rollout, topic, "too many notices wait: the receivers are not told this one");
        metrics.families().notices_lost.inc();
    }
}

/// The weight was read from the router.
#[derive(Clone, Copy, Debug)]
pub struct WeightSeen<'a> {
    /// Of which rule.
    pub rule: &'a str,
    /// The canary's share there; `None` if it could not be read.
    pub weight: Option<Weight>,
    /// When.
    pub at: Timestamp,
}

impl WeightSeen<'_> {
    /// Log line and metrics. A weight that could not be read has no series rather than an old one.
    pub fn emit(self, metrics: &Metrics) {
        let rule = Rule { rule: self.rule.to_owned() };
        match self.weight {
            Some(weight) => {
                tracing::debug!(rule = self.rule, %weight, at = self.at.as_millis(), "weight read");
                metrics.families().weight_seen.get_or_create(&rule).set(weight.share());
            }
            None => {
                tracing::warn!(rule = self.rule, at = self.at.as_millis(), "weight cannot be read");
                metrics.families().weight_seen.remove(&rule);
            }
        }
    }
}

/// A rule is no longer there: every series of it goes.
#[derive(Clone, Copy, Debug)]
pub struct RuleGone<'a> {
    /// Which.
    pub rule: &'a str,
}

impl RuleGone<'_> {
    /// Log line and metrics.
    pub fn emit(self, metrics: &Metrics) {
        tracing::info!(rule = self.rule, "rule removed");
        forget(metrics, self.rule);
        metrics.families().missing.remove(&Rule { rule: self.rule.to_owned() });
        for action in ACTIONS {
            metrics.families().decisions.remove(&RuleAction { rule: self.rule.to_owned(), action });
        }
    }
}

/// Every word of [`Action::name`]; `every_action_is_forgotten` keeps it whole.
const ACTIONS: [&str; 9] = ["hold", "advance", "promote", "roll-back", "pause", "resume", "reassert", "finish", "refuse"];

/// Removes the series of a rule's rollout. Its decisions are a counter and stay: a counter that starts again at 0 with each
/// rollout would read as a restart.
fn forget(metrics: &Metrics, rule: &str) {
    let families = metrics.families();
    let name = || rule.to_owned();
    if let Some(shown) = metrics.shown().remove(rule) {
        shown.info.map(|info| families.rollout.remove(&info));
        shown.state.map(|state| families.state.remove(&RuleState { rule: name(), state }));
        for why in shown.whys {
            families.holds.remove(&RuleWhy { rule: name(), why });
        }
    }
    let rule = Rule { rule: name() };
    families.weight.remove(&rule);
    families.weight_seen.remove(&rule);
    families.evidence.remove(&rule);
    families.evidence_needed.remove(&rule);
    families.score.remove(&rule);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Hold, HoldWhy, Keep, State};

    fn decision(action: Action, state: State, holds: &[HoldWhy]) -> Decision {
        let holds = holds.iter().map(|why| Hold { why: *why, text: String::new(), ends: String::new(), until: None }).collect();
        Decision {
            at: Timestamp::from_millis(0),
            action,
            state,
            weight: Weight::from_permille(50).unwrap(),
            generation: 1,
            step: 0,
            counts_time: true,
            reasons: Vec::new(),
            holds,
            effects: Vec::new(),
            wake_at: None,
        }
    }

    fn decided(metrics: &Metrics, decision: &Decision) {
        let rollout = RolloutId("chat-1".to_owned());
        Decided { rule: "chat", rollout: &rollout, metrics: &[], decision, judgement: None }.emit(metrics);
    }

    #[test]
    fn a_state_and_a_hold_that_ended_have_no_series() {
        let metrics = Metrics::new();
        decided(&metrics, &decision(Action::Hold, State::Progressing { step: 0 }, &[HoldWhy::Judge(Keep::Time), HoldWhy::Shifting]));
        let page = metrics.text();
        assert!(page.contains("canaryd_rollout_state{rule=\"chat\",state=\"progressing\"} 1\n"), "{page}");
        assert!(page.contains("canaryd_holds{rule=\"chat\",why=\"shifting\"} 1\n"), "{page}");
        decided(&metrics, &decision(Action::RollBack, State::RollingBack, &[HoldWhy::Shifting]));
        let page = metrics.text();
        assert!(page.contains("state=\"rolling-back\"} 1\n") && !page.contains("state=\"progressing\""), "{page}");
        assert!(page.contains("why=\"shifting\"") && !page.contains("why=\"time\""), "{page}");
        assert!(page.contains("canaryd_decisions_total{rule=\"chat\",action=\"hold\"} 1\n"), "{page}");
    }

    #[test]
    fn a_new_rollout_replaces_the_old_ones_series_and_a_removed_rule_has_none() {
        let metrics = Metrics::new();
        let open = |n: u32| {
            let (id, version) = (RolloutId(format!("chat-{n}")), format!("v{n}"));
            RolloutOpened { rule: "chat", rollout: &id, version: &version, by: "ann", mode: Mode::Enforce, again: false }.emit(&metrics);
        };
        open(1);
        decided(&metrics, &decision(Action::Finish, State::RolledBack, &[]));
        open(2);
        let page = metrics.text();
        assert!(page.contains("rollout=\"chat-2\"") && !page.contains("chat-1") && !page.contains("rolled-back"), "{page}");
        RuleGone { rule: "chat" }.emit(&metrics);
        assert!(!metrics.text().contains("chat"), "{}", metrics.text());
    }

    #[test]
    fn every_action_is_forgotten() {
        let all = [
            Action::Hold,
            Action::Advance { from: Weight::ZERO, to: Weight::FULL, unproven: Vec::new() },
            Action::Promote,
            Action::RollBack,
            Action::Pause,
            Action::Resume,
            Action::Reassert,
            Action::Finish,
            Action::Refuse(String::new()),
        ];
        assert_eq!(all.map(|action| action.name()), ACTIONS);
    }
}
