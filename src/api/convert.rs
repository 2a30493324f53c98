//! From views to the wire. All sentences come from `telemetry::words`.

use super::wire;
use crate::model::{
    self, BakeJudgement, Decision, Interval, Judgement, LimitJudgement, MetricJudgement, MetricKind, Outlook, State, Timestamp, Verdict,
};
use crate::runtime::{Approval, Approved, EventLine, PastRollout, PastRollouts, RolloutView, RuleView, Views};
use crate::telemetry::words;

pub(super) const fn time(at: Timestamp) -> wire::Time {
    wire::Time(at.as_millis())
}

/// JSON has no infinity and no NaN.
fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

impl From<&RolloutView> for wire::Rollout {
    fn from(view: &RolloutView) -> Self {
        let judgement = view.judgement.as_deref();
        let decision = &*view.decision;
        Self {
            id: view.id.0.clone(),
            rule: view.rule.clone(),
            version: view.version.clone(),
            baseline: view.baseline.clone(),
            canary: view.canary.clone(),
            mode: words::mode(view.mode).to_owned(),
            opened: time(view.opened),
            state: view.state.name().to_owned(),
            state_text: words::state(&view.state, view.steps.len()),
            over: view.state.is_over(),
            verdict: verdict(view).to_owned(),
            weight_permille: decision.weight.permille(),
            weight_seen_permille: view.weight_seen.map(model::Weight::permille),
            workloads: view.workloads.as_ref().map(workloads),
            step: step(view),
            steps: view.steps.iter().map(|(weight, ms)| planned(weight.permille(), *ms)).collect(),
            decision: wire::Decision {
                at: time(decision.at),
                action: decision.action.name().to_owned(),
                text: words::decision(decision, &view.metrics, judgement),
                generation: decision.generation,
                wake_at: decision.wake_at.map(time),
            },
            evidence: judgement.map(evidence),
            metrics: judgement.map(|j| j.metrics.iter().map(|m| metric(m, j, &view.metrics)).collect()).unwrap_or_default(),
            limits: judgement.map(|j| j.limits.iter().map(|l| limit(l, j, &view.metrics)).collect()).unwrap_or_default(),
            bake: judgement.map(|j| j.bakes.iter().map(|b| bake(b, &view.metrics)).collect()).unwrap_or_default(),
            holds: decision.holds.iter().map(hold).collect(),
            reasons: reasons(decision, view),
            approvals: view.approvals.iter().map(needed).collect(),
            stuck: view.stuck.clone(),
            warnings: view.warnings.clone(),
        }
    }
}

fn workloads(seen: &Result<model::PerArm<model::WorkloadSeen>, String>) -> wire::Workloads {
    let of = |arm| {
        let seen = &seen.as_ref().ok()?[arm];
        Some(wire::Workload { wanted: seen.wanted, pods: seen.pods, ready: seen.ready, trouble: seen.trouble.clone() })
    };
    wire::Workloads { unseen: seen.as_ref().err().cloned(), baseline: of(model::Arm::Baseline), canary: of(model::Arm::Canary) }
}

fn needed((role, given): &(String, Option<Approved>)) -> wire::NeededApproval {
    let given = given.as_ref();
    wire::NeededApproval {
        role: role.clone(),
        by: given.map(|g| g.by.clone()),
        at: given.map(|g| time(g.at)),
        until: given.map(|g| time(g.until)),
    }
}

/// The verdict on a whole rollout, in the one vocabulary: how it ended, else what the last judgement says.
pub(super) fn verdict(view: &RolloutView) -> &'static str {
    match &view.state {
        State::Succeeded => return Verdict::Pass.name(),
        State::RolledBack | State::RollingBack => return Verdict::Fail.name(),
        State::Superseded => return Verdict::Undecided.name(),
        _ => {}
    }
    let Some(judgement) = &view.judgement else { return Verdict::Undecided.name() };
    match judgement.outlook {
        _ if !judgement.rollback.is_empty() => Verdict::Fail.name(),
        Outlook::Rollback => Verdict::Fail.name(),
        // one poll that was not usable is no blindness: the judge says when it lasts
        _ if judgement.metrics.iter().any(|m| m.required && matches!(m.verdict, Verdict::Blind(_))) => "blind",
        Outlook::Pass => Verdict::Pass.name(),
        Outlook::Suspicious | Outlook::Collecting => Verdict::Undecided.name(),
    }
}

fn planned(weight_permille: u16, ms: u64) -> wire::PlannedStep {
    wire::PlannedStep { weight_permille, for_s: ms as f64 / 1e3 }
}

fn step(view: &RolloutView) -> wire::Step {
    let index = view.decision.step;
    // the judgement of an earlier step says nothing about this one's clock
    let clock = view.judgement.as_deref().filter(|j| j.step == index).map(|j| j.clock);
    let planned = view.steps.get(index as usize).map_or(0.0, |(_, ms)| *ms as f64 / 1e3);
    wire::Step {
        number: index.saturating_add(1),
        of: u32::try_from(view.steps.len()).unwrap_or(u32::MAX),
        counted_s: clock.and_then(|c| finite(c.counted_s)),
        for_s: planned,
        canary_requests: clock.and_then(|c| finite(c.canary_requests)),
        counts_time: view.decision.counts_time,
    }
}

fn evidence(judgement: &Judgement) -> wire::Evidence {
    wire::Evidence {
        at: time(judgement.at),
        elapsed_s: judgement.t_s.and_then(finite),
        harm_nats: finite(judgement.ln_total),
        harm_needed_nats: finite(judgement.ln_rollback),
        no_harm_needed_nats: finite(judgement.ln_ok),
        p_value: finite(judgement.p_value),
        score: finite(judgement.score),
        outlook: words::outlook(judgement.outlook).to_owned(),
        progress: finite(judgement.progress),
        shared: judgement.labels.shared,
        bake: judgement.bake,
    }
}

fn name(names: &[String], index: u8) -> String {
    names.get(usize::from(index)).cloned().unwrap_or_else(|| format!("metric {index}"))
}

fn metric(metric: &MetricJudgement, judgement: &Judgement, names: &[String]) -> wire::Metric {
    let blind = match metric.verdict {
        Verdict::Blind(why) => Some(why.name().to_owned()),
        _ => None,
    };
    wire::Metric {
        name: name(names, metric.index),
        kind: words::kind(metric.kind).to_owned(),
        unit: words::unit(metric.kind).to_owned(),
        verdict: metric.verdict.name().to_owned(),
        blind,
        reason: words::metric(metric, judgement.ln_rollback, judgement.ln_ok),
        harm_nats: finite(metric.ln_harm_cut),
        harm_needed_nats: finite(words::needed_alone(metric.share, judgement.ln_rollback)),
        no_harm_nats: finite(metric.ln_ok),
        share: metric.share,
        required: metric.required,
        advisory: metric.advisory,
        used: metric.used,
        dispersion: finite(metric.phi),
        baseline: metric.estimate.baseline.map(estimate),
        canary: metric.estimate.canary.map(estimate),
    }
}

fn estimate(seen: Interval) -> wire::Estimate {
    wire::Estimate { low: finite(seen.low), mid: finite(seen.mid), high: finite(seen.high) }
}

fn limit(limit: &LimitJudgement, judgement: &Judgement, names: &[String]) -> wire::Limit {
    let kind = judgement.metrics.iter().find(|m| m.index == limit.metric).map(|m| m.kind);
    wire::Limit {
        metric: name(names, limit.metric),
        kind: limit.kind.name().to_owned(),
        unit: kind.map_or("", |kind: MetricKind| words::unit(kind)).to_owned(),
        level: limit.level,
        evidence_nats: finite(limit.evidence.canary),
        needed_nats: finite(limit.threshold),
        canary_breached: limit.breached.canary,
        baseline_breached: limit.breached.baseline,
        proven: limit.proven,
    }
}

fn bake(bake: &BakeJudgement, names: &[String]) -> wire::BakeLimit {
    wire::BakeLimit {
        metric: name(names, bake.metric),
        derived: bake.derived,
        level: bake.level,
        evidence_nats: finite(bake.evidence),
        crossed: bake.crossed,
    }
}

fn hold(hold: &model::Hold) -> wire::Hold {
    let text = if hold.text.is_empty() { words::hold_why(hold.why).to_owned() } else { hold.text.clone() };
    wire::Hold { why: hold.why.name().to_owned(), text, ends: hold.ends.clone(), until: hold.until.map(time) }
}

fn reasons(decision: &Decision, view: &RolloutView) -> Vec<wire::Reason> {
    let one = |reason| wire::Reason {
        kind: words::reason_kind(reason).to_owned(),
        text: words::reason(reason, &view.metrics, view.judgement.as_deref()),
    };
    decision.reasons.iter().map(one).collect()
}

impl From<&EventLine> for wire::EventLine {
    fn from(line: &EventLine) -> Self {
        Self {
            at: time(line.at),
            rollout: line.rollout.0.clone(),
            action: line.decision.action.name().to_owned(),
            text: words::decision(&line.decision, &line.view.metrics, line.view.judgement.as_deref()),
            view: (&*line.view).into(),
        }
    }
}

impl From<&PastRollouts> for wire::History {
    fn from(past: &PastRollouts) -> Self {
        let next = past.rollouts.last().filter(|_| past.more).map(|last| last.id.0.clone());
        Self { rollouts: past.rollouts.iter().map(Into::into).collect(), next }
    }
}

impl From<&PastRollout> for wire::PastRollout {
    fn from(past: &PastRollout) -> Self {
        let reason = |(kind, text): &(&str, String)| wire::Reason { kind: (*kind).to_owned(), text: text.clone() };
        Self {
            id: past.id.0.clone(),
            rule: past.rule.clone(),
            version: past.version.clone(),
            by: past.by.clone(),
            opened: time(past.opened),
            ended: past.ended.map(time),
            took_s: past.ended.map(|ended| ended.since(past.opened).as_secs_f64()),
            state: past.state.name().to_owned(),
            over: past.state.is_over(),
            reasons: past.reasons.iter().map(reason).collect(),
            approvals: past.approvals.iter().map(Into::into).collect(),
        }
    }
}

impl From<&Approval> for wire::Approval {
    fn from(given: &Approval) -> Self {
        Self { role: given.role.clone(), by: given.by.clone(), why: given.why.clone(), at: time(given.at) }
    }
}

impl From<&RuleView> for wire::Rule {
    fn from(view: &RuleView) -> Self {
        Self {
            name: view.name.clone(),
            file: view.file.clone(),
            digest: view.digest.clone(),
            rollout: view.rollout.as_ref().map(|id| id.0.clone()),
            refused: view.refused.clone(),
            missing: view.missing.clone().unwrap_or_default(),
            waiting: view.waiting.as_ref().map(|waiting| wire::Waiting {
                version: waiting.version.clone(),
                since: time(waiting.since),
                why: waiting.why.clone(),
            }),
        }
    }
}

/// Every rollout, newest first; of one rule, or of all.
pub(super) fn rollouts(views: &Views, rule: Option<&str>) -> wire::Rollouts {
    let mut some: Vec<&RolloutView> = views.rollouts.values().map(|v| &**v).filter(|v| rule.is_none_or(|rule| v.rule == rule)).collect();
    some.sort_by(|a, b| b.opened.cmp(&a.opened).then_with(|| b.id.cmp(&a.id)));
    wire::Rollouts { rollouts: some.into_iter().map(Into::into).collect() }
}
