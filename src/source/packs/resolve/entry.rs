//! One telemetry entry while its choices are made: parameters and metrics by the first candidate that exists.

use super::super::Packs;
use super::super::arms::{Tells, arm_template};
use super::super::grammar::{ArmValue, CountsRule, Form, Kind, Latency, OneOrMany, Pack, Role, Variant};
use super::super::level::What;
use super::super::select::{Matcher, Select, matchers};
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
    /// Whether the series have the arm's labels, or those are joined.
    Join,
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
    /// The arm's labels are not on the series: they are taken from another metric.
    pub(super) joined: bool,
    /// Variants that fit the rule as well, to be taken if this one's metrics do not exist.
    others: Vec<Entry>,
}

impl Entry {
    /// The first variant that fits the rule, with the others that do; a pack without variants is its own.
    pub(super) fn new(packs: &Packs, telemetry: &rule::Telemetry, targets: &PerArm<rule::Target>, missing: Wants) -> Result<Self, String> {
        let pack = packs.get(&telemetry.pack).ok_or_else(|| {
            format!("no pack {:?}: there are {} (further packs are read from the packs folder)", telemetry.pack, packs.names().join(", "))
        })?;
        let (mut fit, mut refused) = (Vec::new(), Vec::new());
        for (name, pack) in variants(pack, telemetry.variant.as_deref())? {
            match Self::of(pack, telemetry, targets, missing) {
                Ok(entry) => fit.push(entry),
                Err(why) if name.is_empty() => refused.push(why),
                Err(why) => refused.push(format!("variant {name}: {why}")),
            }
        }
        let mut fit = fit.into_iter();
        let first = fit.next().ok_or_else(|| refused.join("; "))?;
        Ok(Self { others: fit.collect(), ..first })
    }

    fn of(mut pack: Pack, telemetry: &rule::Telemetry, targets: &PerArm<rule::Target>, missing: Wants) -> Result<Self, String> {
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
            joined: false,
            others: Vec::new(),
        };
        entry.open_choices(open_params)?;
        // templates are checked at once, as far as they are settled
        if entry.open.is_empty() {
            entry.asked(targets, &[])?;
        } else if !entry.open.iter().any(|open| matches!(open, Open::Param(name) if entry.in_arm(name))) {
            entry.arms(targets)?;
        }
        Ok(entry)
    }

    /// Which of the variants' metrics to look for; `None` where there is nothing to choose from.
    pub(super) fn variant_probe(&self) -> Option<Probe> {
        let needs = |entry: &Entry| entry.pack.needs.as_ref().map_or_else(Vec::new, |needs| needs.all().to_vec());
        let names = std::iter::once(self).chain(&self.others).flat_map(needs).collect();
        (!self.others.is_empty()).then(|| Probe::Metrics { names, matchers: self.extra.clone() })
    }

    /// Takes the first variant of which a metric was found; false if there is none, and the first stays.
    pub(super) fn choose_variant(&mut self, found: &BTreeSet<String>) -> bool {
        let there = |entry: &Entry| entry.pack.needs.as_ref().is_some_and(|needs| needs.all().iter().any(|name| found.contains(name)));
        let others = std::mem::take(&mut self.others);
        if there(self) {
            return true;
        }
        let next = others.into_iter().find(there);
        next.map(|next| *self = next).is_some()
    }

    pub(super) fn take_pods(&mut self, pods: &ArmPods) {
        self.pods.clone_from(pods);
        self.others.iter_mut().for_each(|other| other.take_pods(pods));
    }

    fn in_arm(&self, param: &str) -> bool {
        self.pack.arm.keys().any(|label| label.contains(&format!("{{{param}}}")))
    }

    /// Arm labels first, for everything else is asked with the arm's matchers; then metrics, then labels of classes.
    fn open_choices(&mut self, params: Vec<String>) -> Result<(), String> {
        let (arm, mut other): (Vec<String>, Vec<String>) = params.into_iter().partition(|p| self.in_arm(p));
        self.open.extend(arm.into_iter().map(Open::Param));
        if self.pack.join.is_some() && !self.sources().is_empty() {
            self.open.push(Open::Join);
        }
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
    pub(super) fn remarks(&self, targets: &PerArm<rule::Target>) -> Vec<String> {
        let name = &self.pack.pack;
        let mut out = Vec::new();
        if let (true, Some((_, Err(why)))) = (self.params_settled(), self.orphan_counts().zip(Some(self.orphans(targets)))) {
            out.push(format!("{why}: errors that the mesh ascribes to no workload are not read"));
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

    /// Counts of the service that belong to no arm.
    pub(super) fn orphan_counts(&self) -> Option<&CountsRule> {
        self.pack.counts.values().find(|rule| rule.role == Role::Orphans && self.wants.requests)
    }

    pub(super) fn params_settled(&self) -> bool {
        self.pack.params.keys().all(|name| self.params.contains_key(name))
    }

    pub(super) fn probe(&self, open: &Open, targets: &PerArm<rule::Target>) -> Result<Probe, String> {
        match open {
            Open::Metric(name) => {
                let candidates = self.sources().into_iter().find(|(n, _)| n == name).map_or_else(Vec::new, |(_, from)| from.all().to_vec());
                let names = candidates.iter().map(|c| self.existing_names(name, c)).collect::<Result<Vec<_>, _>>()?.concat();
                Ok(Probe::Metrics { names, matchers: self.matchers(targets)? })
            }
            Open::Param(param) => {
                let mut select = self.first_source()?;
                if self.arm_labels().is_ok() {
                    select = select.with(&self.matchers(targets)?);
                }
                Ok(Probe::Labels { select, labels: self.candidates(param) })
            }
            Open::Join => {
                // the process' own labels too: they tell "without these labels" from "no series"
                let mut labels = self.arm_labels()?;
                labels.extend(self.pack.identity.iter().cloned());
                Ok(Probe::Labels { select: self.first_source()?, labels })
            }
        }
    }

    /// The series that labels are looked up on.
    fn first_source(&self) -> Result<Select, String> {
        let first = self.sources().into_iter().next();
        let chosen = first.map(|(name, from)| self.metrics.get(&name).cloned().unwrap_or_else(|| from.all()[0].clone()));
        self.select(&chosen.unwrap_or_default())
    }

    /// The series whose existence shows that this candidate is there, the best first.
    fn existing_names(&self, counts: &str, candidate: &str) -> Result<Vec<String>, String> {
        let name = self.select(candidate)?.name;
        // a histogram in native form alone has no buckets
        Ok(if counts == "latency" { vec![format!("{name}_bucket"), name] } else { vec![name] })
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
                let names: Vec<_> = all.iter().map(|c| (c, self.existing_names(name, c).unwrap_or_default())).collect();
                let by = |at: usize| names.iter().find(|(_, n)| n.get(at).is_some_and(|n| found.contains(n))).map(|(c, _)| *c);
                let there = by(0).or_else(|| by(1));
                let value = there.or_else(|| all.first()).cloned().unwrap_or_default();
                let known = there.is_some();
                self.metrics.insert(name.clone(), value);
                known
            }
            Open::Join => {
                self.joined = !self.arm_labels().is_ok_and(|labels| labels.iter().all(|label| found.contains(label)));
                self.pack.identity.iter().any(|label| found.contains(label))
            }
        }
    }
}

/// The pack with each variant's parts in place, or the one that is wanted; alone and without a name where there are none.
fn variants(pack: &Pack, wanted: Option<&str>) -> Result<Vec<(String, Pack)>, String> {
    if let Some(name) = wanted.filter(|name| !pack.variants.iter().any(|(n, _)| n == *name)) {
        let only = if pack.variants.is_empty() { "it has none".to_owned() } else { format!("only: {}", pack.variants.names()) };
        return Err(format!("pack {} has no variant {name:?}, {only}", pack.pack));
    }
    if pack.variants.is_empty() {
        return Ok(vec![(String::new(), pack.clone())]);
    }
    let chosen = pack.variants.iter().filter(|(name, _)| wanted.is_none_or(|wanted| wanted == *name));
    Ok(chosen.map(|(name, variant)| (name.to_owned(), with_variant(pack, variant))).collect())
}

fn with_variant(pack: &Pack, chosen: &Variant) -> Pack {
    let mut whole = pack.clone();
    whole.counts.extend(chosen.counts.clone());
    whole.events.extend(chosen.events.clone());
    whole.needs = chosen.needs.clone().or(whole.needs);
    whole.latency = chosen.latency.clone().or(whole.latency);
    whole.arm = chosen.arm.clone().unwrap_or(whole.arm);
    whole
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
    if !matches!(pack.form, Form::Auto | Form::Process | Form::Delta) {
        return Err(format!("pack {name} asks in form {:?}, this build only in the forms process and delta", pack.form));
    }
    if pack.form == Form::Delta && pack.push.is_some() && pack.start.is_none() {
        return Err(format!(
            "pack {name} asks in form delta for what is pushed: without `start` nothing tells a new process from an old one"
        ));
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
