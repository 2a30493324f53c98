//! From an entry whose choices are made to its questions: every template filled, every selector read.

use super::super::arms::{Tells, Whose, arm_template};
use super::super::classes::{ClassMatch, grpc_set};
use super::super::grammar::{Also, ArmValue, ClassRule, CountsRule, Join, Latency, Vanishes};
use super::super::level::{self, Level, LevelAsked, What};
use super::super::question::{Asked, Group, Meaning, Question};
use super::super::select::{Matcher, Select, anchored};
use super::super::template::{fill, normalised};
use super::Probe;
use super::entry::Entry;
use crate::model::{Arm, PerArm, rule};
use std::collections::BTreeMap;

/// Labels of an arm and their templates.
type ArmLabels = BTreeMap<String, ArmValue>;

/// How a template's label tells.
fn tells(value: &ArmValue) -> Tells {
    match value {
        ArmValue::Both(both) => arm_template(both).1,
        ArmValue::Each { .. } => Tells::Value,
    }
}

impl Entry {
    /// A level with its parameters filled in and the rule's extra matchers; `scale`: how fast the method's clock runs.
    pub(super) fn level(&self, what: What, scale: f64) -> Result<LevelAsked, String> {
        let said = |why: String| format!("pack {}: gauge {}: {why}", self.pack.pack, what.name());
        let gauge = self.pack.gauges.get(what.name()).ok_or_else(|| said("there is none".to_owned()))?;
        // ARM is no parameter: it stays for the reader of levels
        let text = self.fill(&gauge.of.replace("{ARM", "{ ARM"), None)?;
        if self.joined {
            return Err(said("its series would have to be joined, which no pack's levels are".to_owned()));
        }
        let mut level = Level::parse(&text).map_err(said)?.scaled(scale);
        level.select = level.select.with(&self.extra);
        let mut labels = self.pack.identity.iter().map(|label| self.fill(label, None)).collect::<Result<Vec<_>, _>>()?;
        labels.extend(self.arm_labels()?);
        if let Some(dropped) = level.drops(&labels) {
            let why = format!("its max by ({}) drops the label {dropped:?}, by which pods and arms are told apart", level.each.join(", "));
            return Err(said(why));
        }
        let window = |text: &String| level::duration(text).ok_or_else(|| said(format!("{text:?} is no duration such as 10m")));
        let floor = gauge.floor.as_ref().map(window).transpose()?.map(|window| level::scaled(window, scale));
        Ok(LevelAsked { what, level, floor, every: self.pack.every.as_ref().map(window).transpose()? })
    }

    pub(super) fn level_probe(&self, what: What, targets: &PerArm<rule::Target>) -> Result<Probe, String> {
        let select = self.level(what, 1.0)?.level.select;
        let mut all = select.matchers;
        all.extend(self.matchers(targets)?);
        Ok(Probe::Metrics { names: vec![select.name], matchers: all })
    }

    pub(super) fn fill(&self, template: &str, target: Option<&rule::Target>) -> Result<String, String> {
        fill(template, |name| target.and_then(|t| t.fields.get(name)).or_else(|| self.params.get(name)).cloned())
            .map_err(|field| self.unfilled(template, &field, target))
    }

    fn unfilled(&self, template: &str, field: &str, target: Option<&rule::Target>) -> String {
        let of = target.map_or_else(String::new, |t| format!(" of workload {:?}", t.name()));
        format!("pack {}: {template:?} needs the field {field:?}{of}, which the rule does not give", self.pack.pack)
    }

    /// A selector with its parameters filled in and the rule's extra matchers; `count(H)` is `H_count`.
    pub(super) fn select(&self, template: &str) -> Result<Select, String> {
        let text = self.fill(template, None)?;
        let text = text
            .strip_prefix("count(")
            .and_then(|t| t.strip_suffix(')'))
            .map_or_else(|| Select::parse(&text), |inner| Select::parse(inner).map(|select| select.suffixed("_count")));
        let select = text.and_then(not_recorded).map_err(|e| format!("pack {}: {e}", self.pack.pack))?;
        Ok(select.with(&self.extra))
    }

    pub(super) fn arm_labels(&self) -> Result<Vec<String>, String> {
        self.labels_of(&self.pack.arm)
    }

    fn labels_of(&self, arm: &ArmLabels) -> Result<Vec<String>, String> {
        arm.keys().map(|label| self.fill(label, None)).collect()
    }

    fn whose(&self, of: &ArmLabels, arm: Arm, targets: &PerArm<rule::Target>) -> Result<Whose, String> {
        let value = |value: &ArmValue| {
            let template = match value {
                ArmValue::Both(both) => both,
                ArmValue::Each { baseline, canary } => PerArm { baseline, canary }[arm],
            };
            Ok(normalised(&self.fill(arm_template(template).0, Some(&targets[arm]))?))
        };
        let values = of.values().map(value).collect::<Result<_, String>>()?;
        Ok(Whose { values, pods: self.pods[arm].clone(), alike: false })
    }

    fn both(&self, of: &ArmLabels, targets: &PerArm<rule::Target>) -> Result<PerArm<Whose>, String> {
        Ok(PerArm { baseline: self.whose(of, Arm::Baseline, targets)?, canary: self.whose(of, Arm::Canary, targets)? })
    }

    pub(super) fn arms(&self, targets: &PerArm<rule::Target>) -> Result<PerArm<Whose>, String> {
        let mut arms = self.both(&self.pack.arm, targets)?;
        if arms.baseline.values == arms.canary.values {
            let by_pods = self.pack.arm.values().any(|value| tells(value) != Tells::Value);
            if !(by_pods && targets.baseline.is_other_release(&targets.canary)) {
                let labels = self.arm_labels()?.join(", ");
                return Err(format!("pack {}: both workloads have the same {labels}: the arms cannot be told apart", self.pack.pack));
            }
            Arm::BOTH.into_iter().for_each(|arm| arms[arm].alike = true);
        }
        Ok(arms)
    }

    /// What narrows a look-up to the arms' series; nothing where these do not have the labels.
    pub(super) fn matchers(&self, targets: &PerArm<rule::Target>) -> Result<Vec<Matcher>, String> {
        let arms = self.arms(targets)?;
        if self.joined {
            return Ok(Vec::new());
        }
        Ok(self.shell(&self.pack.arm, arms.clone())?.arm_matchers([&arms]))
    }

    /// An [`Asked`] without questions, of arms told by these labels.
    fn shell(&self, of: &ArmLabels, arms: PerArm<Whose>) -> Result<Asked, String> {
        let pack = &self.pack;
        let arm_labels = self.labels_of(of)?;
        let join = |join: &Join| {
            let on = join.on.iter().map(|label| self.fill(label, None)).collect::<Result<_, _>>()?;
            // a rule that gives its own arm labels takes those
            Ok::<_, String>(Join { metric: self.fill(&join.metric, None)?, on, take: arm_labels.clone() })
        };
        Ok(Asked {
            pack: self.telemetry.pack.clone(),
            identity: pack.identity.iter().map(|label| self.fill(label, None)).collect::<Result<_, _>>()?,
            tells: of.values().map(tells).collect(),
            arms,
            extra: self.extra.clone(),
            join: pack.join.as_ref().filter(|_| self.joined).map(join).transpose()?,
            arm_labels,
            start: pack.start.clone(),
            falls_prove_restart: pack.vanishes == Vanishes::Never,
            pushed: pack.push.is_some(),
            every: pack.interval(),
            questions: Vec::new(),
            levels: Vec::new(),
        })
    }

    /// Counts of the service that the stack ascribes to no workload; `None` where the pack has none.
    pub(super) fn orphans(&self, targets: &PerArm<rule::Target>) -> Result<Option<Asked>, String> {
        let Some(rule) = self.orphan_counts() else { return Ok(None) };
        let of = rule.arm.as_ref().unwrap_or(&self.pack.arm);
        let mut asked = self.shell(of, self.both(of, targets)?)?;
        let metric = rule.from.all().first().ok_or_else(|| format!("pack {}: orphans have no `from`", self.pack.pack))?;
        asked.questions.push(self.question(Group::Orphans, rule, metric)?);
        Ok(Some(asked))
    }

    pub(super) fn asked(&self, targets: &PerArm<rule::Target>, custom: &[rule::CustomCounts]) -> Result<Asked, String> {
        let mut asked = self.shell(&self.pack.arm, self.arms(targets)?)?;
        for (name, metric) in &self.metrics {
            asked.questions.push(if name == "latency" { self.buckets(metric)? } else { self.counts(name, metric)? });
        }
        for (at, counts) in custom.iter().enumerate() {
            asked.questions.push(self.custom(at, counts)?);
        }
        asked.questions.sort_by_key(|q| q.group);
        Ok(asked)
    }

    fn counts(&self, name: &str, metric: &str) -> Result<Question, String> {
        let group = if name == "requests" { Group::Requests } else { Group::Abandoned };
        self.question(group, &self.pack.counts[name], metric)
    }

    fn question(&self, group: Group, rule: &CountsRule, metric: &str) -> Result<Question, String> {
        let keep = rule.keep.iter().map(|label| self.fill(label, None)).collect::<Result<Vec<_>, _>>()?;
        let mut selects = vec![(self.select(metric)?, Meaning::Classes)];
        for also in rule.also.iter().filter(|also| self.is_read(also)) {
            selects.push((self.select(also.from())?, Meaning::Bad));
        }
        let classes = rule.class.iter().map(|c| self.class(c, &keep)).collect::<Result<_, _>>()?;
        Ok(Question { group, selects, keep, classes, unit_ms: 1.0, form: self.pack.form })
    }

    fn is_read(&self, also: &Also) -> bool {
        match also {
            Also::Always(_) => true,
            Also::When { when, .. } => when.iter().all(|(param, value)| self.params.get(param) == Some(value)),
        }
    }

    fn class(&self, rule: &ClassRule, keep: &[String]) -> Result<ClassMatch, String> {
        let mut labels = Vec::new();
        for (label, pattern) in &rule.labels {
            let label = self.fill(label, None)?;
            let not_kept = || format!("pack {}: class rule on {label:?}, which is not in keep", self.pack.pack);
            let at = keep.iter().position(|k| *k == label).ok_or_else(not_kept)?;
            // a parameter may hold a set
            let pattern = grpc_set(&self.fill(pattern, None)?)?;
            labels.push((at, anchored(&pattern).map_err(|e| format!("pack {}: {e}", self.pack.pack))?));
        }
        Ok(ClassMatch { labels, is: rule.is })
    }

    fn buckets(&self, metric: &str) -> Result<Question, String> {
        let Some(Latency::Histogram(histogram)) = &self.pack.latency else {
            return Err(format!("pack {} has no histogram", self.pack.pack));
        };
        let select = self.select(metric)?.suffixed("_bucket");
        let selects = vec![(select, Meaning::Classes)];
        let (keep, unit_ms) = (vec!["le".to_owned()], histogram.unit.in_ms());
        Ok(Question { group: Group::Buckets, selects, keep, classes: Vec::new(), unit_ms, form: self.pack.form })
    }

    fn custom(&self, at: usize, counts: &rule::CustomCounts) -> Result<Question, String> {
        let read = |text: &str| {
            let bare = text.replace("{{workload}}", "");
            Select::parse(&bare).and_then(not_recorded).map(|s| s.with(&self.extra)).map_err(|e| format!("custom counts: {e}"))
        };
        let part = if counts.part_is_bad { Meaning::BadPart } else { Meaning::GoodPart };
        let selects = vec![(read(&counts.total)?, Meaning::Whole), (read(&counts.part)?, part)];
        Ok(Question { group: Group::Custom(at), selects, keep: Vec::new(), classes: Vec::new(), unit_ms: 1.0, form: self.pack.form })
    }
}

/// A recorded sum over processes falls whenever one of them goes: its resets cannot be told from restarts (PACKS 1.1).
fn not_recorded(select: Select) -> Result<Select, String> {
    if select.name.contains(':') && !select.name.starts_with("canaryd:") {
        return Err(format!("{} is recorded by a rule: counts are read per process, name the counter it is made from", select.name));
    }
    Ok(select)
}
