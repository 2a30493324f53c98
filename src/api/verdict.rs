//! The verdict for gates of other tools (PROTOCOLS 4.1): Argo's web provider, CI, a script.

use super::wire;
use crate::runtime::RolloutView;
use crate::telemetry::words;

/// The verdict on the running or last rollout of a rule.
pub(super) fn verdict(rule: &str, view: Option<&RolloutView>) -> wire::Verdict {
    let Some(view) = view else { return none(rule) };
    let judgement = view.judgement.as_deref();
    let rollout = wire::Rollout::from(view);
    wire::Verdict {
        verdict: rollout.verdict,
        score: judgement.map_or(50.0, |j| j.score),
        confidence: judgement.map_or(0.0, |j| (1.0 - j.p_value).clamp(0.0, 1.0)),
        rule: rule.to_owned(),
        rollout: Some(rollout.id),
        state: Some(rollout.state),
        reason: reason(view),
        metrics: rollout.metrics.into_iter().map(metric).collect(),
    }
}

fn none(rule: &str) -> wire::Verdict {
    wire::Verdict {
        verdict: "undecided".to_owned(),
        score: 50.0,
        confidence: 0.0,
        rule: rule.to_owned(),
        rollout: None,
        state: None,
        reason: "no rollout of this rule yet".to_owned(),
        metrics: Vec::new(),
    }
}

fn reason(view: &RolloutView) -> String {
    let judgement = view.judgement.as_deref();
    if let Some(reason) = view.decision.reasons.first() {
        return words::reason(reason, &view.metrics, judgement);
    }
    if let Some(breach) = judgement.and_then(|j| j.rollback.first()) {
        return words::breach(*breach, &view.metrics, judgement);
    }
    match view.decision.holds.first() {
        Some(hold) if !view.state.is_over() => words::hold(hold),
        _ => words::state(&view.state, view.steps.len()),
    }
}

fn metric(metric: wire::Metric) -> wire::MetricVerdict {
    wire::MetricVerdict {
        name: metric.name,
        verdict: metric.verdict,
        baseline: metric.baseline.and_then(|e| e.mid),
        canary: metric.canary.and_then(|e| e.mid),
        reason: metric.reason,
    }
}

/// The view a name means: a rollout's own, else the running or last one of the rule.
pub(super) fn find<'a>(views: &'a crate::runtime::Views, name: &str) -> Option<&'a RolloutView> {
    if let Some(view) = views.rollouts.values().find(|v| v.id.0 == name) {
        return Some(view);
    }
    let of_rule = || views.rollouts.values().filter(|v| v.rule == name);
    let named = views.rules.get(name).and_then(|rule| rule.rollout.as_ref()).and_then(|id| views.rollouts.get(id));
    named.or_else(|| of_rule().find(|v| !v.state.is_over())).or_else(|| of_rule().max_by_key(|v| v.opened)).map(|v| &**v)
}
