//! A rule, cut into what each part of a rollout needs of it.

mod shares;

pub use shares::{in_units, unsaid};

use crate::cluster::identity;
use crate::model::journal::Opened;
use crate::model::rule::{Rule, Target, WorkloadForm};
use crate::model::{JudgeSpec, Method, MetricKind, Noted, PerArm, Side, StepTime};
use crate::source::{Subscription, Wants};
use std::time::Duration;

/// Length of a tick where neither the rule names one nor the source has a scrape interval.
pub const INTERVAL_DEFAULT: Duration = Duration::from_secs(15);

/// The length of a tick: what the rule asks for, but always a multiple of the scrape interval, so that two polls in a row
/// are two scrapes (DESIGN 3).
pub fn interval(rule: &Rule, scrape: Option<Duration>) -> Duration {
    let Some(scrape) = scrape.filter(|s| !s.is_zero()) else {
        return rule.interval.unwrap_or(INTERVAL_DEFAULT);
    };
    let wished = rule.interval.unwrap_or(scrape).as_millis().max(1);
    let scrape = scrape.as_millis();
    Duration::from_millis((wished.div_ceil(scrape) * scrape) as u64)
}

/// The rule as one rollout has it, by what was noted at its start: its limits are in the units of their metrics, and the two releases of
/// one Deployment are told apart by their templates, whichever of them the Deployment has meanwhile.
pub fn of_rollout(rule: &Rule, noted: Option<&Noted>) -> Rule {
    let mut rule = in_units(rule, noted);
    if let (WorkloadForm::One, Some(noted)) = (rule.workloads.form, noted) {
        let before = noted.template_before.as_deref().and_then(|text| Some(identity(&serde_json::from_str(text).ok()?)));
        for (side, template) in rule.workloads.sides.iter_mut().zip([before, Some(noted.template.clone())]) {
            side.fields.extend(template.map(|template| (Target::REPLICASET.to_owned(), template)));
        }
    }
    rule
}

/// What the judge of this rollout is built from: limits that are shares become cores and bytes of the pod noted at its start.
pub fn judge_spec(rule: &Rule, opened: &Opened) -> JudgeSpec {
    let rule = in_units(rule, opened.begin.noted.as_ref());
    JudgeSpec { incarnation: opened.incarnation, ..first_spec(&rule, opened.interval, opened.bounds_ms.clone(), opened.scale) }
}

/// What the judge of a rollout would be built from with ticks of this length, these latency bounds (ms), at this time scale. Limits
/// that are shares are left out: of what, is only known at a start.
pub fn first_spec(rule: &Rule, interval: Duration, bounds_ms: Vec<f64>, scale: f64) -> JudgeSpec {
    JudgeSpec {
        interval,
        budget: rule.budget,
        incarnation: 0,
        metrics: in_units(rule, None).metrics,
        bounds_ms,
        steps: rule.steps.iter().map(|s| StepTime { weight: s.weight, for_s: s.lasts.as_secs_f64() }).collect(),
        advance: rule.advance,
        min_requests: rule.min_requests,
        cpu_load_rule: rule.cpu_load_rule,
        method: method(scale),
    }
}

/// The method's time constants at this scale.
pub fn method(scale: f64) -> Method {
    Method::default().scaled(scale)
}

/// What the source is asked for in this rollout, at this time scale.
pub fn subscription(rule: &Rule, canary: Side, key: u64, scale: f64) -> Subscription {
    let side = |s: Side| rule.workloads.side(s).clone();
    let has = |f: fn(&MetricKind) -> bool| rule.metrics.iter().any(|m| f(&m.kind));
    Subscription {
        key,
        arms: PerArm { baseline: side(canary.other()), canary: side(canary) },
        telemetry: rule.telemetry.clone(),
        custom_counts: rule.custom_counts.clone(),
        custom_gauges: rule.custom_gauges.clone(),
        wants: Wants {
            // traffic share and vanished requests need the counts whatever is judged
            requests: true,
            buckets: has(|k| matches!(k, MetricKind::Latency(_))),
            cpu: has(|k| matches!(k, MetricKind::Cpu)),
            memory: has(|k| matches!(k, MetricKind::Memory | MetricKind::Leak)),
        },
        time_scale: scale,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::rule::*;
    use crate::model::{Advance, Budget};

    pub(crate) fn rule() -> Rule {
        Rule {
            name: "shop".into(),
            digest: String::new(),
            file: "shop.yaml".into(),
            workloads: Workloads { form: WorkloadForm::Pair, sides: [Target::default(), Target::default()] },
            telemetry: vec![],
            source: None,
            interval: None,
            traffic: Traffic::None,
            steps: vec![],
            advance: Advance::OnSchedule { strict: false },
            min_requests: 20,
            promotion: Promotion::Leave,
            metrics: vec![],
            custom_counts: vec![],
            custom_gauges: vec![],
            budget: Budget::default(),
            cpu_load_rule: true,
            policies: Policies::default(),
            bake_judge: BakeJudge::RollBack,
            mode: Mode::Enforce,
            drain: Duration::ZERO,
            first: First::Refuse,
            replicas: crate::model::rule::Replicas::External,
            after_rollback: crate::model::rule::AfterRollback::Leave,
            pod_health: None,
            shares: Default::default(),
            start: Start::default(),
            hooks: vec![],
            windows: None,
            alerts: vec![],
            notify: vec![],
            attached: Default::default(),
            not_run: vec![],
        }
    }

    #[test]
    fn a_tick_is_a_multiple_of_the_scrape_interval_and_never_shorter() {
        let s = Duration::from_secs;
        let with = |wished: Option<u64>| Rule { interval: wished.map(s), ..rule() };
        assert_eq!(interval(&with(None), Some(s(15))), s(15));
        assert_eq!(interval(&with(Some(5)), Some(s(15))), s(15));
        assert_eq!(interval(&with(Some(20)), Some(s(15))), s(30));
        assert_eq!(interval(&with(Some(30)), Some(s(15))), s(30));
        assert_eq!(interval(&with(Some(1)), None), s(1));
        assert_eq!(interval(&with(None), None), INTERVAL_DEFAULT);
        assert_eq!(interval(&with(None), Some(Duration::ZERO)), INTERVAL_DEFAULT);
    }

    #[test]
    fn the_arms_of_a_rolling_update_are_the_templates_noted_at_its_start() {
        let side = |which: &str| Target { fields: [(Target::REPLICASET.to_owned(), which.to_owned())].into() };
        let one = Rule { workloads: Workloads { form: WorkloadForm::One, sides: [side("old"), side("new")] }, ..rule() };
        let before = serde_json::json!({"spec": {"containers": []}});
        let noted = Noted { template: "b".to_owned(), template_before: Some(before.to_string()), ..Noted::default() };
        let arms = |rule: &Rule| rule.workloads.sides.each_ref().map(|side| side.fields[Target::REPLICASET].clone());
        assert_eq!(arms(&of_rollout(&one, Some(&noted))), [identity(&before), "b".to_owned()]);
        assert_eq!(arms(&of_rollout(&one, None)), ["old", "new"]);
        let unknown = Noted { template_before: None, ..noted.clone() };
        assert_eq!(arms(&of_rollout(&one, Some(&unknown))), ["old", "b"]);
        assert_eq!(of_rollout(&rule(), Some(&noted)), rule(), "of two workloads each is whole");
    }
}
