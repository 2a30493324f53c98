//! Limits moved in the rule's file while a rollout runs (STATISTICS 11): the one part of a rule that a running rollout takes from a
//! later file, because a wrong limit at 3 a.m. must not cost the evidence of the night. Everything else waits for the next one.

use crate::model::{Judgement, LimitChange, LimitKind, Limits, Rule};
use crate::telemetry::words;

/// The limits whose level differs between two texts of a rule; a limit that only one of them has is none of them.
pub(super) fn of(old: &Rule, new: &Rule) -> Vec<LimitChange> {
    let mut changes = Vec::new();
    for (index, before) in (0u8..).zip(&old.metrics) {
        let Some(after) = new.metrics.iter().find(|m| m.name == before.name && m.kind == before.kind) else { continue };
        for (kind, was, is) in pairs(&before.limits, &after.limits) {
            if let (Some(was), Some(level)) = (was, is)
                && was != level
            {
                changes.push(LimitChange { metric: index, kind, level });
            }
        }
    }
    changes
}

fn pairs(a: &Limits, b: &Limits) -> [(LimitKind, Option<f64>, Option<f64>); 4] {
    [
        (LimitKind::PromoteBelow, a.promote_below, b.promote_below),
        (LimitKind::WarnAbove, a.warn_above, b.warn_above),
        (LimitKind::RollbackAbove, a.rollback_above, b.rollback_above),
        (LimitKind::PageAbove, a.page_above, b.page_above),
    ]
}

/// Are the workloads of the rule of this name still in the namespaces they were in?
pub(super) fn is_at_home(old: &Rule, new: &Rule) -> bool {
    let namespaces = |rule: &Rule| rule.workloads.sides.each_ref().map(|side| side.fields.get("namespace").cloned());
    namespaces(old) == namespaces(new)
}

/// The rule as it was with these limits.
pub(super) fn with(rule: &Rule, changes: &[LimitChange]) -> Rule {
    let mut rule = rule.clone();
    for change in changes {
        let Some(metric) = rule.metrics.get_mut(usize::from(change.metric)) else { continue };
        let limit = match change.kind {
            LimitKind::PromoteBelow => &mut metric.limits.promote_below,
            LimitKind::WarnAbove => &mut metric.limits.warn_above,
            LimitKind::RollbackAbove => &mut metric.limits.rollback_above,
            LimitKind::PageAbove => &mut metric.limits.page_above,
        };
        *limit = Some(change.level);
    }
    rule
}

/// What became of a change, for the operator, by the judgement of the poll that carried it.
pub(super) fn said(change: LimitChange, rule: &Rule, judgement: &Judgement) -> String {
    let Some(metric) = rule.metrics.get(usize::from(change.metric)) else { return "a limit of no metric was changed".to_owned() };
    let (name, kind, level) = (&metric.name, change.kind.name(), words::value(metric.kind, change.level));
    let in_force = judgement.limits.iter().find(|l| l.metric == change.metric && l.kind == change.kind);
    match in_force {
        Some(l) if l.level == change.level => {
            let more = if change.kind == LimitKind::RollbackAbove && l.threshold.is_finite() {
                format!("; false rollbacks by limits may be {} more", words::percent((-l.threshold).exp()))
            } else {
                String::new()
            };
            format!("{name} {kind} is {level} now: its evidence begins anew{more}")
        }
        _ => format!("{name} {kind} stays as it was in this rollout: nothing was counted at {level}; the next rollout takes it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rule::ShareOf;
    use crate::model::{LimitJudgement, Margin, MetricKind, MetricSpec, Noted, PerArm, Resources, Timestamp};
    use crate::runtime::parts;

    fn shop(rollback: Option<f64>, warn: Option<f64>) -> Rule {
        let limits = Limits { rollback_above: rollback, warn_above: warn, ..Limits::default() };
        let margin = Margin::Counts { relative: 0.2, absolute: 0.0, ok_relative: 0.5, ok_absolute: 0.0 };
        let metric =
            MetricSpec { name: "error-rate".into(), kind: MetricKind::Errors, compared: true, margin, required: true, weight: 1.0, limits };
        Rule { metrics: vec![metric], ..super::super::parts::tests::rule() }
    }

    #[test]
    fn only_levels_of_limits_that_both_have_are_changes() {
        let change = LimitChange { metric: 0, kind: LimitKind::RollbackAbove, level: 0.08 };
        assert_eq!(of(&shop(Some(0.05), None), &shop(Some(0.08), Some(0.01))), [change]);
        assert_eq!(of(&shop(Some(0.05), None), &shop(None, None)), []);
        let moved = with(&shop(Some(0.05), None), &[change]);
        assert_eq!(of(&moved, &shop(Some(0.08), None)), [], "it is told once");
    }

    #[test]
    fn a_rule_that_only_has_the_name_is_another() {
        let of = |namespace: &str| {
            let mut rule = shop(Some(0.05), None);
            rule.workloads.sides.iter_mut().for_each(|side| {
                side.fields.insert("namespace".to_owned(), namespace.to_owned());
            });
            rule
        };
        assert!(is_at_home(&of("shop"), &Rule { mode: crate::model::rule::Mode::Observe, ..of("shop") }));
        assert!(!is_at_home(&of("shop"), &of("cart")) && is_at_home(&shop(None, None), &shop(Some(0.1), None)));
    }

    #[test]
    fn a_share_that_moved_is_a_level_in_the_metric_s_own_unit() {
        let shares = |share: f64| {
            let mut rule = shop(Some(share), None);
            rule.metrics[0] = MetricSpec {
                name: "cpu".into(),
                kind: MetricKind::Cpu,
                margin: Margin::Ratio { harm: 0.1, ok: 0.2 },
                ..rule.metrics[0].clone()
            };
            rule.shares.insert("cpu".to_owned(), ShareOf::Requests);
            rule
        };
        let noted = Noted { resources: Resources { cpu_request: Some(500), ..Resources::default() }, ..Noted::default() };
        let running = parts::in_units(&shares(0.7), Some(&noted));
        let moved = of(&running, &parts::in_units(&shares(0.9), Some(&noted)));
        assert_eq!(moved, [LimitChange { metric: 0, kind: LimitKind::RollbackAbove, level: 0.45 }]);
        assert_eq!(with(&running, &moved).metrics[0].limits.rollback_above, Some(0.45));
    }

    #[test]
    fn what_became_of_it_is_said() {
        let change = LimitChange { metric: 0, kind: LimitKind::RollbackAbove, level: 0.08 };
        let mut judgement = Judgement::empty(Timestamp::default(), 0);
        let rule = shop(Some(0.05), None);
        assert!(said(change, &rule, &judgement).contains("stays as it was in this rollout"));
        judgement.limits.push(LimitJudgement {
            metric: 0,
            kind: LimitKind::RollbackAbove,
            level: 0.08,
            evidence: PerArm::default(),
            threshold: (2.0f64 / 0.01).ln(),
            breached: PerArm::default(),
            proven: false,
            attributed: false,
            label: PerArm::default(),
        });
        let expected = "error-rate rollback-above is 8% now: its evidence begins anew; false rollbacks by limits may be 0.5% more";
        assert_eq!(said(change, &rule, &judgement), expected);
    }
}
