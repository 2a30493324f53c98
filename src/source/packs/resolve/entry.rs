//! One telemetry entry while its choices are made: parameters and metrics by the first candidate that exists.

use super::super::Packs;
use super::super::arms::{Tells, arm_template};
use super::super::grammar::{ArmValue, CountsRule, Form, Kind, Latency, OneOrMany, Pack, Role};
use super::super::level::What;
use super::super::select::{Matcher, matchers};
use super::Probe;
use crate::model::{PerArm, rule};
use crate::source::Wants;
use crate::source::pods::ArmPods;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One choice that depends on what exists.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Open {
    /// Parameter.
    Param(String),
    /// Metric of these counts (`latency` for the histogram).
    Metric(String),
}

/// One telemetry entry while its choices are made.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) pack: Arc<Pack>,
    pub(super) telemetry: rule::Telemetry,
    pub(super) wants: Wants,
    pub(super) params: BTreeMap<String, String>,
    pub(super) metrics: BTreeMap<String, String>,
    pub(super) open: Vec<Open>,
    pub(super) extra: Vec<Matcher>,
    pub(super) pods: ArmPods,
}

impl Entry {
    pub(super) fn new(packs: &Packs, telemetry: &rule::Telemetry, targets: &PerArm<rule::Target>, missing: Wants) -> Result<Self, String> {
        let pack = packs.get(&telemetry.pack).ok_or_else(|| {
            format!("no pack {:?}: there are {} (further packs are read from the packs folder)", telemetry.pack, packs.names().join(", "))
        })?;
        let pack = variant(pack, telemetry.variant.as_deref())?;
        let mut pack = Pack::clone(&pack);
        if !telemetry.arm.is_empty() {
            pack.arm = telemetry.arm.iter().map(|(label, value)| (label.clone(), ArmValue::Both(value.clone()))).collect();
        }
        not_run(&pack)?;
        let name = &pack.pack;
        let extra = matchers(telemetry.extra.as_deref().unwrap_or("")).map_err(|e| format!("telemetry {name}: extra: {e}"))?;
        let wants = Wants {
            requests: missing.requests && pack.counts.contains_key("requests"),
            buckets: missing.buckets && matches!(pack.latency, Some(Latency::Histogram(_))),
            ..Wants::default()
        };
        let (params, open_params) = params(&pack, &telemetry.params)?;
        let mut entry = Self {
            pack: Arc::new(pack),
            telemetry: telemetry.clone(),
            wants,
            params,
            metrics: BTreeMap::new(),
            open: Vec::new(),
            extra,
            pods: ArmPods::default(),
        };
        entry.open_choices(open_params)?;
        if entry.open.is_empty() {
            entry.asked(targets, &[])?; // templates are checked at once
        }
        Ok(entry)
    }

    /// Arm labels first, for everything else is asked with the arm's matchers; then metrics, then labels of classes.
    fn open_choices(&mut self, params: Vec<String>) -> Result<(), String> {
        let in_arm = |p: &String| self.pack.arm.keys().any(|label| label.contains(&format!("{{{p}}}")));
        let (arm, mut other): (Vec<String>, Vec<String>) = params.into_iter().partition(in_arm);
        self.open.extend(arm.into_iter().map(Open::Param));
        if self.sources().is_empty() {
            // parameters of counts that nobody wants from here: nothing to look them up on
            for param in other.drain(..) {
                self.choose(&Open::Param(param), &BTreeSet::new());
            }
        }
        for (name, from) in self.sources() {
            match from.all() {
                [one] => {
                    self.metrics.insert(name, one.clone());
                }
                [] => return Err(format!("pack {}: {name} has no `from`", self.pack.pack)),
                _ => self.open.push(Open::Metric(name)),
            }
        }
        self.open.extend(other.into_iter().map(Open::Param));
        Ok(())
    }

    /// Counts and histogram that are wanted, with their candidates.
    fn sources(&self) -> Vec<(String, OneOrMany)> {
        let wanted = |rule: &CountsRule| self.wants.requests && rule.role != Role::Orphans;
        let counts = ["requests", "abandoned"].into_iter().filter_map(|n| self.pack.counts.get_key_value(n));
        let mut all: Vec<_> = counts.filter(|(_, r)| wanted(r)).map(|(n, r)| (n.clone(), r.from.clone())).collect();
        if let (true, Some(Latency::Histogram(h))) = (self.wants.buckets, &self.pack.latency) {
            all.push(("latency".to_owned(), h.from.clone()));
        }
        all
    }

    /// What the operator should know about this vantage point.
    pub(super) fn remarks(&self) -> Vec<String> {
        let name = &self.pack.pack;
        let mut out = Vec::new();
        if !self.pack.blind_to.is_empty() && (self.wants.requests || self.wants.buckets) {
            out.push(format!("pack {name} cannot see: {}", self.pack.blind_to.join(", ")));
        }
        if self.pack.counts.values().any(|c| c.role == Role::Orphans) {
            out.push(format!("pack {name}: orphans are not read by this build: errors the mesh ascribes to no workload are not shown"));
        }
        let other_gauges = self.pack.gauges.keys().any(|g| What::ALL.iter().all(|w| w.name() != g));
        let unread = [
            (other_gauges, "gauges other than cpu and memory"),
            (!self.pack.denominators.is_empty(), "denominators"),
            (!self.pack.events.is_empty(), "events"),
            (!self.pack.states.is_empty(), "states"),
        ];
        let unread: Vec<&str> = unread.into_iter().filter(|(there, _)| *there).map(|(_, what)| what).collect();
        if !unread.is_empty() {
            out.push(format!("pack {name}: {} are not read by this build", unread.join(", ")));
        }
        out
    }

    pub(super) fn params_settled(&self) -> bool {
        self.pack.params.keys().all(|name| self.params.contains_key(name))
    }

    pub(super) fn probe(&self, open: &Open, targets: &PerArm<rule::Target>) -> Result<Probe, String> {
        match open {
            Open::Metric(name) => {
                let candidates = self.sources().into_iter().find(|(n, _)| n == name).map_or_else(Vec::new, |(_, from)| from.all().to_vec());
                let names = candidates.iter().map(|c| self.existing_name(name, c)).collect::<Result<_, _>>()?;
                Ok(Probe::Metrics { names, matchers: self.matchers(targets)? })
            }
            Open::Param(param) => {
                let metric = self
                    .sources()
                    .into_iter()
                    .next()
                    .map_or_else(String::new, |(n, from)| self.metrics.get(&n).cloned().unwrap_or_else(|| from.all()[0].clone()));
                let mut select = self.select(&metric)?;
                if self.arm_labels().is_ok() {
                    select = select.with(&self.matchers(targets)?);
                }
                Ok(Probe::Labels { select, labels: self.candidates(param) })
            }
        }
    }

    /// The series whose existence shows that this candidate is there.
    fn existing_name(&self, counts: &str, candidate: &str) -> Result<String, String> {
        let select = self.select(candidate)?;
        Ok(if counts == "latency" { format!("{}_bucket", select.name) } else { select.name })
    }

    fn candidates(&self, param: &str) -> Vec<String> {
        self.pack.params.get(param).map_or_else(Vec::new, |c| c.all().to_vec())
    }

    /// Makes a choice; false if nothing was found and the first candidate was taken.
    pub(super) fn choose(&mut self, open: &Open, found: &BTreeSet<String>) -> bool {
        match open {
            Open::Param(param) => {
                let all = self.candidates(param);
                let there = all.iter().find(|c| found.contains(*c));
                let value = there.or_else(|| all.first()).cloned().unwrap_or_default();
                self.params.insert(param.clone(), value);
                there.is_some()
            }
            Open::Metric(name) => {
                let all = self.sources().into_iter().find(|(n, _)| n == name).map_or_else(Vec::new, |(_, from)| from.all().to_vec());
                let there = all.iter().find(|c| self.existing_name(name, c).is_ok_and(|n| found.contains(&n)));
                let value = there.or_else(|| all.first()).cloned().unwrap_or_default();
                let known = there.is_some();
                self.metrics.insert(name.clone(), value);
                known
            }
        }
    }
}

/// The pack with the variant's parts in place.
fn variant(pack: &Arc<Pack>, wanted: Option<&str>) -> Result<Arc<Pack>, String> {
    let names = || pack.variants.keys().cloned().collect::<Vec<_>>().join(", ");
    let Some(name) = wanted else {
        return if pack.variants.is_empty() {
            Ok(Arc::clone(pack))
        } else {
            Err(format!("pack {} has the variants {}: the rule must name one (`variant:`)", pack.pack, names()))
        };
    };
    let chosen = pack.variants.get(name).ok_or_else(|| format!("pack {} has no variant {name:?}, only: {}", pack.pack, names()))?;
    let mut whole = Pack::clone(pack);
    whole.counts.extend(chosen.counts.clone());
    whole.events.extend(chosen.events.clone());
    whole.needs = chosen.needs.clone().or(whole.needs);
    whole.latency = chosen.latency.clone().or(whole.latency);
    whole.arm = chosen.arm.clone().unwrap_or(whole.arm);
    Ok(Arc::new(whole))
}

/// What the grammar knows and this build does not carry out.
fn not_run(pack: &Pack) -> Result<(), String> {
    let name = &pack.pack;
    let values = pack.arm.iter().flat_map(|(label, value)| match value {
        ArmValue::Both(v) => vec![(label, v, arm_template(v).1)],
        // one template each: functions would have to agree
        ArmValue::Each { baseline, canary } => vec![(label, baseline, Tells::Value), (label, canary, Tells::Value)],
    });
    let functions = ["pods(", "pod-ips(", "pod-name("];
    for (label, value, tells) in values {
        if let Some(function) = functions.iter().find(|f| tells == Tells::Value && value.contains(*f)) {
            return Err(format!(
                "pack {name} tells the arms apart by {label}: {function}), which this build does not carry out here: give the \
                 telemetry entry an `arm:` with label values, such as arm: {{ version: '{{version}}' }}"
            ));
        }
    }
    if let Some(join) = &pack.join {
        return Err(format!("pack {name} joins {}, which this build does not carry out: promote the labels in Prometheus", join.metric));
    }
    if !matches!(pack.form, Form::Auto | Form::Process) {
        return Err(format!("pack {name} asks in form {:?}, this build only in form process", pack.form));
    }
    if matches!(&pack.latency, Some(Latency::Histogram(h)) if h.kind == Kind::Native) {
        return Err(format!("pack {name} reads a native histogram, this build only classic buckets"));
    }
    if pack.arm.is_empty() {
        return Err(format!("pack {name} has no `arm`, and the telemetry entry gives none"));
    }
    Ok(())
}

/// Parameters that are settled, and the names of those with several candidates.
fn params(pack: &Pack, given: &BTreeMap<String, String>) -> Result<(BTreeMap<String, String>, Vec<String>), String> {
    if let Some(unknown) = given.keys().find(|k| !pack.params.contains_key(*k)) {
        let known: Vec<&str> = pack.params.keys().map(String::as_str).collect();
        return Err(format!("pack {} has no parameter {unknown:?}, only: {}", pack.pack, known.join(", ")));
    }
    let mut settled = given.clone();
    let mut open = Vec::new();
    for (name, value) in &pack.params {
        match value.all() {
            _ if given.contains_key(name) => {}
            [one] => {
                settled.insert(name.clone(), one.clone());
            }
            _ => open.push(name.clone()),
        }
    }
    Ok((settled, open))
}
