//! What a rule would find, asked before it runs: the rule cut into a judge, and the judge's own numbers (`analysis::plan`).

use super::parts;
pub use crate::analysis::plan::{CpuCases, Expected, Minutes, Origin, Plan, StepPlan};
use crate::analysis::plan::{cpu_cases, plan};
use crate::model::{History, MetricKind, PerArm, Rule, Weight};
use std::time::Duration;

/// What is known of the place a rule would run in.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    /// Length of a tick.
    pub interval: Duration,
    /// Bounds of the latency buckets, ms; empty if not known.
    pub bounds_ms: &'a [f64],
    /// Time scale of the method.
    pub scale: f64,
    /// The baseline's past; `None`: assumed steady.
    pub history: Option<&'a History>,
}

/// What this rule would find there.
///
/// # Errors
/// If no judge can be built from the rule.
pub fn of(rule: &Rule, place: &Place<'_>, expected: &Expected) -> Result<Plan, String> {
    let spec = parts::first_spec(rule, place.interval, place.bounds_ms.to_vec(), place.scale);
    plan(&spec, place.history, expected).map_err(|e| e.to_string())
}

/// How often CPU could be compared in each step that compares; `None` if the rule does not ask, or nobody knows the load or
/// the pods.
pub fn cpu(rule: &Rule, place: &Place<'_>, pods: PerArm<Option<u32>>) -> Option<Vec<(Weight, CpuCases)>> {
    let asks = rule.cpu_load_rule && rule.metrics.iter().any(|m| m.compared && m.kind == MetricKind::Cpu);
    let weights: Vec<Weight> = rule.steps.iter().map(|s| s.weight).filter(|w| asks && !w.is_zero() && !w.is_full()).collect();
    let pods = PerArm { baseline: pods.baseline?, canary: pods.canary? };
    let cases = cpu_cases(place.history?.load.as_ref(), pods, &weights)?;
    Some(weights.into_iter().zip(cases).collect()).filter(|v: &Vec<_>| !v.is_empty())
}
