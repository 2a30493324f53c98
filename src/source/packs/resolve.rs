//! From a pack, a rule's telemetry entry and two workloads to questions a source can ask. Sans I/O: where a choice depends
//! on what exists (`[candidates]`), [`Resolver::next`] says what to look up and [`Resolver::answer`] takes what was found.

use super::arms::{Tells, arm_template};
use super::grammar::{ArmValue, CountsRule, Form, Kind, Latency, OneOrMany, Outcome, Pack, Role, Start, Vanishes};
use super::level::{self, Level, LevelAsked, What};
use super::select::{Matcher, Select, anchored, matchers};
use crate::model::{Arm, PerArm, rule};
use crate::source::{Subscription, Wants};
use regex_lite::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// gRPC codes that are the server's fault (PACKS 1.6), in every spelling.
const GRPC_BAD: &[u32] = &[2, 4, 12, 13, 14, 15];
/// Names of the gRPC codes, by number.
const GRPC: [(&str, &str); 17] = [
    ("OK", "OK"),
    ("Canceled", "CANCELLED"),
    ("Unknown", "UNKNOWN"),
    ("InvalidArgument", "INVALID_ARGUMENT"),
    ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
    ("NotFound", "NOT_FOUND"),
    ("AlreadyExists", "ALREADY_EXISTS"),
    ("PermissionDenied", "PERMISSION_DENIED"),
    ("ResourceExhausted", "RESOURCE_EXHAUSTED"),
    ("FailedPrecondition", "FAILED_PRECONDITION"),
    ("Aborted", "ABORTED"),
    ("OutOfRange", "OUT_OF_RANGE"),
    ("Unimplemented", "UNIMPLEMENTED"),
    ("Internal", "INTERNAL"),
    ("Unavailable", "UNAVAILABLE"),
    ("DataLoss", "DATA_LOSS"),
    ("Unauthenticated", "UNAUTHENTICATED"),
];

/// A group of counters that is paired on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Requests by class.
    Requests,
    /// Requests whose client left.
    Abandoned,
    /// Latency buckets.
    Buckets,
    /// The rule's own counts, by position.
    Custom(usize),
}

/// What the counts of one selector mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// By class.
    Classes,
    /// All bad.
    Bad,
    /// All of them (custom counts).
    Whole,
    /// The bad ones of the whole (custom counts).
    BadPart,
    /// The good ones of the whole (custom counts).
    GoodPart,
}

/// One class rule, compiled.
#[derive(Clone, Debug)]
pub struct ClassMatch {
    labels: Vec<(usize, Regex)>,
    is: Outcome,
}

/// One question: counters of one group for every process of an arm.
#[derive(Clone, Debug)]
pub struct Question {
    /// Which group.
    pub group: Group,
    /// Its selectors, without the arm's matchers.
    pub selects: Vec<(Select, Meaning)>,
    /// Labels that make classes.
    pub keep: Vec<String>,
    /// Which classes are bad or left out.
    pub classes: Vec<ClassMatch>,
    /// Milliseconds in the unit of `le`.
    pub unit_ms: f64,
}

impl Question {
    /// What requests with these values of `keep` are.
    pub fn outcome(&self, values: &[&str]) -> Outcome {
        let matches = |rule: &&ClassMatch| rule.labels.iter().all(|(at, regex)| regex.is_match(values.get(*at).copied().unwrap_or("")));
        self.classes.iter().find(matches).map_or(Outcome::Good, |rule| rule.is)
    }
}

/// Everything read through one telemetry entry for one rollout.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The pack.
    pub pack: String,
    /// Labels of the process.
    pub identity: Vec<String>,
    /// Labels that together name an arm.
    pub arm_labels: Vec<String>,
    /// How each of them tells.
    pub tells: Vec<Tells>,
    /// Their values, one set per arm.
    pub arms: PerArm<Vec<String>>,
    /// Further matchers of the rule.
    pub extra: Vec<Matcher>,
    /// Where starts are read.
    pub start: Option<Start>,
    /// A deep fall proves a restart.
    pub falls_prove_restart: bool,
    /// The questions.
    pub questions: Vec<Question>,
    /// CPU and memory.
    pub levels: Vec<LevelAsked>,
}

impl Asked {
    /// Equal for entries that differ in their arms only: those are asked together.
    pub fn key(&self) -> String {
        let questions: Vec<String> = self
            .questions
            .iter()
            .map(|q| format!("{:?}|{:?}|{}", q.group, q.keep, q.selects.iter().map(|(s, m)| format!("{s}{m:?};")).collect::<String>()))
            .collect();
        let extra: Vec<String> = self.extra.iter().map(ToString::to_string).collect();
        format!("{}|{:?}|{:?}|{:?}|{extra:?}|{questions:?}|{:?}", self.pack, self.identity, self.arm_labels, self.tells, self.levels)
    }

    /// Matchers of both arms of these entries; more than asked for where label values cross (the caller keeps exact ones).
    pub fn arm_matchers<'a>(&self, arms: impl IntoIterator<Item = &'a PerArm<Vec<String>>>) -> Vec<Matcher> {
        let arms: Vec<&Vec<String>> = arms.into_iter().flat_map(|a| [&a.baseline, &a.canary]).collect();
        self.matchers_of(&arms)
    }

    /// Matchers of one arm.
    pub fn matchers_of_arm(&self, arm: Arm) -> Vec<Matcher> {
        self.matchers_of(&[&self.arms[arm]])
    }

    fn matchers_of(&self, arms: &[&Vec<String>]) -> Vec<Matcher> {
        let one = |(at, (label, tells)): (usize, (&String, &Tells))| {
            let values: Vec<&str> = arms.iter().map(|a| a.get(at).map_or("", String::as_str)).collect();
            tells.matcher(label, &values)
        };
        self.arm_labels.iter().zip(&self.tells).enumerate().map(one).collect()
    }

    /// Is a row with these labels of this arm?
    pub fn is_arm<'a>(&self, arm: Arm, label: impl Fn(&str) -> &'a str) -> bool {
        let labels = self.arm_labels.iter().zip(&self.tells).zip(&self.arms[arm]);
        labels.into_iter().all(|((name, tells), value)| tells.of(label(name)) == value)
    }

    /// Labels of a level per process: whose it is, and of which arm.
    pub fn level_labels(&self) -> Vec<String> {
        let mut labels = self.identity.clone();
        labels.extend(self.arm_labels.iter().filter(|l| !self.identity.contains(l)).cloned());
        labels
    }
}

/// Something to look up.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// Which of these metrics have series that match.
    Metrics {
        /// Names.
        names: Vec<String>,
        /// Matchers.
        matchers: Vec<Matcher>,
    },
    /// Which of these labels have a value on a matching series.
    Labels {
        /// The series.
        select: Select,
        /// Labels.
        labels: Vec<String>,
    },
}

/// One choice that depends on what exists.
#[derive(Clone, Debug, PartialEq)]
enum Open {
    /// Parameter.
    Param(String),
    /// Metric of these counts (`latency` for the histogram).
    Metric(String),
}

/// One telemetry entry while its choices are made.
#[derive(Clone, Debug)]
struct Entry {
    pack: Arc<Pack>,
    telemetry: rule::Telemetry,
    wants: Wants,
    params: BTreeMap<String, String>,
    metrics: BTreeMap<String, String>,
    open: Vec<Open>,
    extra: Vec<Matcher>,
}

/// Makes the choices of one subscription, then its questions.
#[derive(Clone, Debug)]
pub struct Resolver {
    targets: PerArm<rule::Target>,
    custom_counts: Vec<rule::CustomCounts>,
    entries: Vec<Entry>,
    /// Positions of the entries that give a level, in order; the first whose series exist is read.
    levels: BTreeMap<What, Vec<usize>>,
    scale: f64,
    /// Sentences for the operator.
    pub warnings: Vec<String>,
    /// A choice was made without a series to go by: make it again once there is one.
    pub guessed: bool,
}

impl Resolver {
    /// # Errors
    /// A sentence: what the rule asks for and this build or the packs cannot give.
    pub fn new(packs: &super::Packs, wanted: &Subscription) -> Result<Self, String> {
        let mut resolver = Self {
            targets: wanted.arms.clone(),
            custom_counts: wanted.custom_counts.clone(),
            entries: Vec::new(),
            levels: BTreeMap::new(),
            scale: wanted.time_scale,
            warnings: Vec::new(),
            guessed: false,
        };
        let mut missing = wanted.wants;
        let mut refused = Vec::new();
        for telemetry in &wanted.telemetry {
            match Entry::new(packs, telemetry, &wanted.arms, missing) {
                Ok(entry) => {
                    missing.requests &= !entry.wants.requests;
                    missing.buckets &= !entry.wants.buckets;
                    resolver.warnings.extend(entry.remarks());
                    resolver.offer_levels(&entry, wanted.wants)?;
                    resolver.entries.push(entry);
                }
                Err(why) => refused.push(why),
            }
        }
        if resolver.entries.is_empty() {
            refused.push("no telemetry entry of the rule can be read".to_owned());
            return Err(refused.join("; "));
        }
        resolver.warnings.append(&mut refused);
        missing.cpu &= !resolver.levels.contains_key(&What::Cpu);
        missing.memory &= !resolver.levels.contains_key(&What::Memory);
        resolver.warn_missing(missing);
        Ok(resolver)
    }

    /// Notes which levels the entry to be added next can give.
    fn offer_levels(&mut self, entry: &Entry, wants: Wants) -> Result<(), String> {
        for what in What::ALL {
            let wanted = if what == What::Cpu { wants.cpu } else { wants.memory };
            if wanted && entry.pack.gauges.contains_key(what.name()) {
                if entry.params_settled() {
                    entry.level(what, 1.0)?; // a level that cannot be read is said at once
                }
                self.levels.entry(what).or_default().push(self.entries.len());
            }
        }
        Ok(())
    }

    /// The level to look for next: several entries offer it.
    fn open_level(&self) -> Option<(What, usize)> {
        self.levels.iter().find(|(_, offers)| offers.len() > 1).map(|(what, offers)| (*what, offers[0]))
    }

    /// Which pack gives which quantity, where the rule names several.
    pub fn shares(&self) -> Option<String> {
        if self.entries.len() < 2 {
            return None;
        }
        let of = |at: usize| {
            let entry = &self.entries[at];
            let counts = [(entry.wants.requests, "requests"), (entry.wants.buckets, "latency")];
            let level = |what: &What| self.levels.get(what).is_some_and(|offers| offers[..1] == [at]);
            let levels = What::ALL.iter().filter(|w| level(w)).map(|w| w.name());
            let all: Vec<&str> = counts.into_iter().filter(|(there, _)| *there).map(|(_, what)| what).chain(levels).collect();
            let all = if all.is_empty() { "nothing".to_owned() } else { all.join(", ") };
            format!("{all} from pack {}", entry.pack.pack)
        };
        let all: Vec<String> = (0..self.entries.len()).map(of).collect();
        Some(format!("of each quantity the first pack that gives it is read: {}", all.join("; ")))
    }

    fn warn_missing(&mut self, missing: Wants) {
        for (wanted, what) in
            [(missing.requests, "request counts"), (missing.buckets, "latency"), (missing.cpu, "cpu"), (missing.memory, "memory")]
        {
            if wanted {
                self.warnings.push(format!("no pack of the rule's telemetry gives {what} in this build: metrics on it stay blind"));
            }
        }
    }

    /// What to look up next; `None` when every choice is made.
    ///
    /// # Errors
    /// A template that cannot be filled.
    pub fn next(&self) -> Result<Option<Probe>, String> {
        match self.entries.iter().find_map(|e| e.open.first().map(|open| (e, open))) {
            Some((entry, open)) => entry.probe(open, &self.targets).map(Some),
            None => match self.open_level() {
                Some((what, at)) => self.entries[at].level_probe(what, &self.targets).map(Some),
                None => Ok(None),
            },
        }
    }

    /// Takes what the last [`Resolver::next`] found: names of metrics, or of labels.
    pub fn answer(&mut self, found: &BTreeSet<String>) {
        if let Some(entry) = self.entries.iter_mut().find(|e| !e.open.is_empty()) {
            let open = entry.open.remove(0);
            self.guessed |= !entry.choose(&open, found);
        } else if let Some((what, at)) = self.open_level() {
            let there = self.entries[at].level(what, 1.0).is_ok_and(|asked| found.contains(&asked.level.select.name));
            if let Some(offers) = self.levels.get_mut(&what) {
                if there {
                    offers.truncate(1);
                } else {
                    offers.remove(0);
                }
            }
        }
    }

    /// The questions, one [`Asked`] per telemetry entry in use.
    ///
    /// # Errors
    /// A template that cannot be filled.
    pub fn finish(&self) -> Result<Vec<Asked>, String> {
        let mut all = Vec::new();
        for (at, entry) in self.entries.iter().enumerate() {
            let custom = if at == 0 { self.custom_counts.as_slice() } else { &[] };
            let mut asked = entry.asked(&self.targets, custom)?;
            for (what, _) in self.levels.iter().filter(|(_, offers)| offers.first() == Some(&at)) {
                asked.levels.push(entry.level(*what, self.scale)?);
            }
            if !asked.questions.is_empty() || !asked.levels.is_empty() {
                all.push(asked);
            }
        }
        Ok(all)
    }
}

impl Entry {
    fn new(packs: &super::Packs, telemetry: &rule::Telemetry, targets: &PerArm<rule::Target>, missing: Wants) -> Result<Self, String> {
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
        let mut entry =
            Self { pack: Arc::new(pack), telemetry: telemetry.clone(), wants, params, metrics: BTreeMap::new(), open: Vec::new(), extra };
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
    fn remarks(&self) -> Vec<String> {
        let name = &self.pack.pack;
        let mut out = Vec::new();
        if !self.pack.blind_to.is_empty() && (self.wants.requests || self.wants.buckets) {
            out.push(format!("pack {name} cannot see: {}", self.pack.blind_to.join(", ")));
        }
        if self.pack.counts.values().any(|c| c.role == Role::Orphans) {
            out.push(format!("pack {name}: orphans are not read by this build: errors the mesh ascribes to no workload are not shown"));
        }
        if self.tells_by_pod_name() {
            out.push(format!(
                "pack {name} knows pods by their names (this build does not watch pods): every pod with a fresh sample counts as ready"
            ));
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

    fn tells_by_pod_name(&self) -> bool {
        self.pack.arm.values().any(|value| matches!(value, ArmValue::Both(v) if arm_template(v).1 == Tells::Pods))
    }

    fn params_settled(&self) -> bool {
        self.pack.params.keys().all(|name| self.params.contains_key(name))
    }

    /// A level with its parameters filled in and the rule's extra matchers; `scale`: how fast the method's clock runs.
    fn level(&self, what: What, scale: f64) -> Result<LevelAsked, String> {
        let said = |why: String| format!("pack {}: gauge {}: {why}", self.pack.pack, what.name());
        let gauge = self.pack.gauges.get(what.name()).ok_or_else(|| said("there is none".to_owned()))?;
        // ARM is no parameter: it stays for the reader of levels
        let text = self.fill(&gauge.of.replace("{ARM", "{ ARM"), None)?;
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

    fn level_probe(&self, what: What, targets: &PerArm<rule::Target>) -> Result<Probe, String> {
        let select = self.level(what, 1.0)?.level.select;
        let mut all = select.matchers;
        all.extend(self.matchers(targets)?);
        Ok(Probe::Metrics { names: vec![select.name], matchers: all })
    }

    fn probe(&self, open: &Open, targets: &PerArm<rule::Target>) -> Result<Probe, String> {
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
    fn choose(&mut self, open: &Open, found: &BTreeSet<String>) -> bool {
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

    fn fill(&self, template: &str, target: Option<&rule::Target>) -> Result<String, String> {
        fill(template, |name| target.and_then(|t| t.fields.get(name)).or_else(|| self.params.get(name)).cloned())
            .map_err(|field| self.unfilled(template, &field, target))
    }

    fn unfilled(&self, template: &str, field: &str, target: Option<&rule::Target>) -> String {
        let of = target.map_or_else(String::new, |t| format!(" of workload {:?}", t.name()));
        format!("pack {}: {template:?} needs the field {field:?}{of}, which the rule does not give", self.pack.pack)
    }

    /// A selector with its parameters filled in and the rule's extra matchers; `count(H)` is `H_count`.
    fn select(&self, template: &str) -> Result<Select, String> {
        let text = self.fill(template, None)?;
        let text = text
            .strip_prefix("count(")
            .and_then(|t| t.strip_suffix(')'))
            .map_or_else(|| Select::parse(&text), |inner| Select::parse(inner).map(|select| select.suffixed("_count")));
        let select = text.and_then(not_recorded).map_err(|e| format!("pack {}: {e}", self.pack.pack))?;
        Ok(select.with(&self.extra))
    }

    fn arm_labels(&self) -> Result<Vec<String>, String> {
        self.pack.arm.keys().map(|label| self.fill(label, None)).collect()
    }

    fn arm_values(&self, arm: Arm, targets: &PerArm<rule::Target>) -> Result<Vec<String>, String> {
        let value = |value: &ArmValue| {
            let template = match value {
                ArmValue::Both(both) => both,
                ArmValue::Each { baseline, canary } => PerArm { baseline, canary }[arm],
            };
            let (template, tells) = arm_template(template);
            let filled = normalised(&self.fill(template, Some(&targets[arm]))?);
            tells.check(&filled).map_err(|why| format!("pack {}: {why}", self.pack.pack))?;
            Ok(filled)
        };
        self.pack.arm.values().map(value).collect()
    }

    fn tells(&self) -> Vec<Tells> {
        let of = |value: &ArmValue| match value {
            ArmValue::Both(both) => arm_template(both).1,
            ArmValue::Each { .. } => Tells::Value,
        };
        self.pack.arm.values().map(of).collect()
    }

    fn arms(&self, targets: &PerArm<rule::Target>) -> Result<PerArm<Vec<String>>, String> {
        let arms = PerArm { baseline: self.arm_values(Arm::Baseline, targets)?, canary: self.arm_values(Arm::Canary, targets)? };
        if arms.baseline == arms.canary {
            let labels = self.arm_labels()?.join(", ");
            return Err(format!("pack {}: both workloads have the same {labels}: the arms cannot be told apart", self.pack.pack));
        }
        Ok(arms)
    }

    fn matchers(&self, targets: &PerArm<rule::Target>) -> Result<Vec<Matcher>, String> {
        Ok(self.shell(targets)?.arm_matchers([&self.arms(targets)?]))
    }

    /// An [`Asked`] without questions.
    fn shell(&self, targets: &PerArm<rule::Target>) -> Result<Asked, String> {
        Ok(Asked {
            pack: self.telemetry.pack.clone(),
            identity: self.pack.identity.iter().map(|label| self.fill(label, None)).collect::<Result<_, _>>()?,
            arm_labels: self.arm_labels()?,
            tells: self.tells(),
            arms: self.arms(targets)?,
            extra: self.extra.clone(),
            start: self.pack.start.clone(),
            falls_prove_restart: self.pack.vanishes == Vanishes::Never,
            questions: Vec::new(),
            levels: Vec::new(),
        })
    }

    fn asked(&self, targets: &PerArm<rule::Target>, custom: &[rule::CustomCounts]) -> Result<Asked, String> {
        let mut asked = self.shell(targets)?;
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
        let rule = &self.pack.counts[name];
        let keep = rule.keep.iter().map(|label| self.fill(label, None)).collect::<Result<Vec<_>, _>>()?;
        let mut selects = vec![(self.select(metric)?, Meaning::Classes)];
        for also in &rule.also {
            selects.push((self.select(also)?, Meaning::Bad));
        }
        let classes = rule.class.iter().map(|c| self.class(c, &keep)).collect::<Result<_, _>>()?;
        let group = if name == "requests" { Group::Requests } else { Group::Abandoned };
        Ok(Question { group, selects, keep, classes, unit_ms: 1.0 })
    }

    fn class(&self, rule: &super::grammar::ClassRule, keep: &[String]) -> Result<ClassMatch, String> {
        let mut labels = Vec::new();
        for (label, pattern) in &rule.labels {
            let label = self.fill(label, None)?;
            let not_kept = || format!("pack {}: class rule on {label:?}, which is not in keep", self.pack.pack);
            let at = keep.iter().position(|k| *k == label).ok_or_else(not_kept)?;
            let pattern = self.fill(&grpc_set(pattern)?, None)?;
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
        Ok(Question { group: Group::Buckets, selects, keep: vec!["le".to_owned()], classes: Vec::new(), unit_ms: histogram.unit.in_ms() })
    }

    fn custom(&self, at: usize, counts: &rule::CustomCounts) -> Result<Question, String> {
        let read = |text: &str| {
            let bare = text.replace("{{workload}}", "");
            Select::parse(&bare).and_then(not_recorded).map(|s| s.with(&self.extra)).map_err(|e| format!("custom counts: {e}"))
        };
        let part = if counts.part_is_bad { Meaning::BadPart } else { Meaning::GoodPart };
        let selects = vec![(read(&counts.total)?, Meaning::Whole), (read(&counts.part)?, part)];
        Ok(Question { group: Group::Custom(at), selects, keep: Vec::new(), classes: Vec::new(), unit_ms: 1.0 })
    }
}

/// A recorded sum over processes falls whenever one of them goes: its resets cannot be told from restarts (PACKS 1.1).
fn not_recorded(select: Select) -> Result<Select, String> {
    if select.name.contains(':') && !select.name.starts_with("canaryd:") {
        return Err(format!("{} is recorded by a rule: counts are read per process, name the counter it is made from", select.name));
    }
    Ok(select)
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

/// `{name}` replaced; what is not a name in braces stays. The error is the name nothing is known for.
fn fill(template: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        let inner = &rest[at + 1..];
        let end =
            inner.find('}').filter(|end| *end > 0 && inner[..*end].chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'));
        match end {
            // regex counts such as {1,10} and {5} are no names
            Some(end) if !inner[..end].starts_with(|c: char| c.is_ascii_digit()) => {
                let name = &inner[..end];
                out.push_str(&value(name.trim_start_matches("params.")).ok_or_else(|| name.to_owned())?);
                rest = &inner[end + 1..];
            }
            _ => {
                out.push('{');
                rest = inner;
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// `normalise(text)` as Traefik does it: every run of other characters becomes one dash.
fn normalised(value: &str) -> String {
    let Some((before, rest)) = value.split_once("normalise(") else { return value.to_owned() };
    let Some((inner, after)) = rest.split_once(')') else { return value.to_owned() };
    let words: Vec<&str> = inner.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).collect();
    format!("{before}{}{after}", words.join("-"))
}

/// `@grpc-bad`, `@grpc-bad+8` as a regex of every spelling; anything else as it is.
fn grpc_set(pattern: &str) -> Result<String, String> {
    let Some(more) = pattern.strip_prefix("@grpc-bad") else {
        return if pattern.starts_with('@') { Err(format!("unknown set {pattern:?}, there is @grpc-bad")) } else { Ok(pattern.to_owned()) };
    };
    let mut codes = GRPC_BAD.to_vec();
    for code in more.split('+').filter(|c| !c.is_empty()) {
        codes.push(code.parse().ok().filter(|c| *c <= 16).ok_or_else(|| format!("set {pattern:?}: {code:?} is no gRPC code"))?);
    }
    let spellings = codes.iter().flat_map(|c| {
        let (camel, upper) = GRPC[*c as usize];
        [c.to_string(), camel.to_owned(), upper.to_owned()]
    });
    Ok(spellings.collect::<Vec<_>>().join("|"))
}

#[cfg(test)]
mod tests;
