//! The grammar of a rule file, one file per section; `keys.rs` lists every key. Reading order: this file, `steps.rs`,
//! `metrics/mod.rs`.

mod alerts;
mod cluster;
mod confined;
mod hooks;
mod keys;
mod kubernetes;
mod metrics;
mod policies;
mod schema;
mod start;
mod steps;
#[cfg(test)]
mod tests;
mod traffic;
mod windows;
mod workloads;

pub use schema::{rule_schema, rule_spec_schema};

use super::manifest::is_manifest;
use super::walk::{At, Fields, Kind, one_of};
use super::{Report, yaml};
use crate::model::rule::{AfterRollback, BakeJudge, Mode, NotRun, Rule};
use crate::model::{Budget, Fnv};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

/// Ticks shorter than this see nothing new in any source; longer ones miss whole steps.
const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(600);
/// Longest wait or hold a rule may ask for; what is longer is a slip of the unit.
const LONGEST: Duration = Duration::from_secs(30 * 86_400);
/// Default of `min-requests` (STATISTICS 10).
const MIN_REQUESTS: u32 = 20;
/// Default of `drain`.
const DRAIN: Duration = Duration::from_secs(60);

const MODE: &[(&str, Mode)] = &[("enforce", Mode::Enforce), ("observe", Mode::Observe)];
const BAKE_JUDGE: &[(&str, BakeJudge)] = &[("roll-back", BakeJudge::RollBack), ("page", BakeJudge::Page)];

/// Names a rule may refer to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Query packs.
    pub packs: BTreeSet<String>,
    /// Sources of the daemon's settings.
    pub sources: BTreeSet<String>,
    /// Receivers of the daemon's settings.
    pub receivers: BTreeSet<String>,
    /// There is a cluster to act in.
    pub cluster: bool,
    /// The settings are not at hand, so nobody can say which sources and receivers there are: any name passes.
    pub without_settings: bool,
    /// What a rule that is an object of the cluster may name. Rule files, which the operator writes, may name anything.
    pub objects: Reach,
}

/// What a rule that is an object of the cluster may name: it is carried out with the daemon's rights, whoever wrote it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// Objects of its own namespace, and nothing of the daemon's pod.
    #[default]
    Confined,
    /// Whatever a rule file may: whoever may write one acts with all rights of the daemon.
    Anywhere,
}

/// The text of a file that a rule names, or why it cannot be had.
pub type Attached<'a> = &'a dyn Fn(&str) -> Result<String, String>;

/// Reads the text of a rule that names no other files. `file` is only a name here; nothing is read from disk.
///
/// # Errors
/// As [`parse_rule_with`]; a file that the rule names is one of the problems.
pub fn parse_rule(text: &str, file: &Path, known: &Known) -> Result<Rule, Report> {
    parse_rule_with(text, file, known, &|_| Err("no file is at hand here".to_owned()))
}

/// Reads one rule file's text; `attached` gives the texts of files it names (`dates: holidays.txt`), asked once for each name.
/// `file` is only a name here; nothing is read from disk but by `attached`.
///
/// What the grammar knows and cannot be carried out, by this build or for want of a cluster, is no problem: it is listed in
/// [`Rule::not_run`].
///
/// # Errors
/// Every problem of the text, in the order of its lines, and of the texts it names. If the text is no YAML at all, the one
/// place where that shows.
pub fn parse_rule_with(text: &str, file: &Path, known: &Known, attached: Attached<'_>) -> Result<Rule, Report> {
    let name = file.display().to_string();
    let tree = yaml::parse(text, &name)?;
    if tree.kind == Kind::Null {
        return Err(Report::whole(name, "is empty", "write a rule, or take the file out of the folder"));
    }
    if is_manifest(&tree) {
        let way_out = "kubectl apply it, and let this folder be; or write what is below its spec, and rule: with its name";
        return Err(Report::whole(name, "is a manifest of the cluster and no rule file", way_out));
    }
    parse_tree(&At::root(&tree), &Origin { text, file, namespace: None }, known, attached)
}

/// The same of the text of an object of this namespace, which has no files beside it.
///
/// # Errors
/// As [`parse_rule_with`], and what [`Known::objects`] does not allow.
pub(super) fn parse_object(origin: &Origin<'_>, known: &Known) -> Result<Rule, Report> {
    let tree = yaml::parse(origin.text, &origin.file.display().to_string())?;
    parse_object_tree(&At::root(&tree), origin, known)
}

/// The same of a tree.
///
/// # Errors
/// As [`parse_object`].
pub(super) fn parse_object_tree(tree: &At<'_>, origin: &Origin<'_>, known: &Known) -> Result<Rule, Report> {
    parse_tree(tree, origin, known, &|_| Err("an object has no files beside it: write the dates themselves".to_owned()))
}

/// Where a rule comes from.
pub(super) struct Origin<'a> {
    /// What its digest is made of.
    pub(super) text: &'a str,
    /// What is named where something is told of it.
    pub(super) file: &'a Path,
    /// The namespace of the object it is; `None` = it is a file.
    pub(super) namespace: Option<&'a str>,
}

fn parse_tree(tree: &At<'_>, origin: &Origin<'_>, known: &Known, attached: Attached<'_>) -> Result<Rule, Report> {
    let Origin { text, file, namespace } = *origin;
    let name = file.display().to_string();
    let (report, not_run, needs, texts) = (Report::default(), Vec::new(), Vec::new(), BTreeMap::new());
    let mut out = Out { report, not_run, needs, known, file, namespace, attached, texts };
    let rule = tree.fields(keys::RULE, &mut out.report).and_then(|fields| read(&fields, &mut out));
    let Out { mut report, mut not_run, texts, .. } = out;
    if rule.is_none() && report.is_empty() {
        report.join(Report::whole(name, "this rule could not be read", "please report this file as a defect of canaryd"));
    }
    not_run.sort_by_key(|part| part.line);
    let digest = digest(std::iter::once(text).chain(texts.values().map(String::as_str)));
    report.or(rule.map(|rule| Rule { digest, file: file.to_owned(), attached: texts, not_run, ..rule }))
}

/// What the walk over a rule brings to light.
struct Out<'k> {
    report: Report,
    not_run: Vec<NotRun>,
    /// What needs a cluster.
    needs: Vec<cluster::Need>,
    known: &'k Known,
    /// The rule's own.
    file: &'k Path,
    /// Of the object that the rule is; `None` = it is a file.
    namespace: Option<&'k str>,
    attached: Attached<'k>,
    /// Those that were asked for.
    texts: BTreeMap<String, String>,
}

impl Out<'_> {
    /// The text of a file beside the rule.
    fn attached(&mut self, name: &str) -> Result<String, String> {
        if let Some(text) = self.texts.get(name) {
            return Ok(text.clone());
        }
        let text = (self.attached)(name)?;
        self.texts.insert(name.to_owned(), text.clone());
        Ok(text)
    }

    /// Where such a file lies, for what is told.
    fn beside(&self, name: &str) -> String {
        self.file.with_file_name(name).display().to_string()
    }

    /// Notes a part this build does not carry out.
    fn not_run(&mut self, at: &At<'_>, why: impl Into<String>) {
        self.not_run.push(NotRun { path: at.path.clone(), line: at.line(), why: why.into() });
    }
}

/// Which texts these are, as if they were one.
fn digest<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    format!("{:016x}", texts.fold(Fnv::new(), |hash, text| hash.with(text.as_bytes())).value())
}

/// Every section is read before any is given up, so that all problems show.
fn read(fields: &Fields<'_>, out: &mut Out<'_>) -> Option<Rule> {
    let name = rule_name(fields, out);
    let workloads = workloads::workloads(fields, out);
    let telemetry = workloads::telemetry(fields, out);
    let source = source(fields, out);
    let interval = optional(fields, "interval", |at| at.duration(INTERVAL, &mut out.report));
    let traffic = traffic::traffic(fields, (name.as_deref(), workloads.as_ref()), out);
    let promotion = steps::promotion(fields, workloads.as_ref(), out);
    let steps = steps::steps(fields, promotion, out);
    traffic::check_finest(fields, traffic.as_ref(), steps.as_deref(), out);
    let advance = steps::advance(fields, out);
    let metrics = metrics::metrics(fields, out);
    let policies = policies::policies(fields, out);
    let budget = budget(fields, out);
    let (start, first) = start::start(fields, out);
    let hooks = hooks::hooks(fields, out);
    let windows = windows::windows(fields, steps.as_deref(), out);
    let alerts = alerts::alerts(fields, out);
    let notify = alerts::notify(fields, out);
    let replicas = cluster::replicas(fields, out);
    let after_rollback = cluster::after_rollback(fields, out);
    let min_requests = optional(fields, "min-requests", |at| at.whole(1..=1_000_000, &mut out.report));
    let drain = optional(fields, "drain", |at| at.duration(Duration::ZERO..=LONGEST, &mut out.report));
    let mode = word(fields, "mode", MODE, out);
    let bake_judge = word(fields, "bake-judge", BAKE_JUDGE, out);
    metrics::check_required(fields, advance.as_ref(), metrics.as_ref(), out);
    cluster::check(fields, workloads.as_ref(), out);
    let (whose, by) = (workloads.as_ref(), traffic.as_ref());
    let asked = cluster::Asked { workloads: whose, traffic: by, steps: steps.as_deref(), promotion, replicas, after_rollback };
    cluster::check_together(fields, &asked, out);
    let named = confined::Named { workloads: whose, telemetry: telemetry.as_deref(), traffic: by, hooks: &hooks };
    confined::check(fields, &named, out);
    let after_rollback = if asked.leads() { AfterRollback::Undo } else { after_rollback };
    let metrics = metrics?;
    Some(Rule {
        name: name?,
        digest: String::new(),
        file: std::path::PathBuf::new(),
        workloads: workloads?,
        telemetry: telemetry?,
        source,
        interval,
        traffic: traffic?,
        steps: steps?,
        advance: advance?,
        min_requests: min_requests.unwrap_or(MIN_REQUESTS),
        promotion: promotion?,
        metrics: metrics.specs,
        custom_counts: metrics.counts,
        custom_gauges: metrics.gauges,
        budget,
        cpu_load_rule: metrics.cpu_load_rule,
        policies,
        bake_judge: bake_judge.unwrap_or(BakeJudge::RollBack),
        mode: mode.unwrap_or(Mode::Enforce),
        drain: drain.unwrap_or(DRAIN),
        first,
        replicas,
        after_rollback,
        pod_health: metrics.pod_health,
        shares: metrics.shares,
        start,
        hooks,
        windows,
        alerts,
        notify,
        attached: BTreeMap::new(),
        not_run: Vec::new(),
    })
}

/// A key that may be left out: its default is the caller's.
fn optional<'a, T>(fields: &Fields<'a>, key: &str, read: impl FnOnce(At<'a>) -> Option<T>) -> Option<T> {
    fields.get(key).and_then(read)
}

/// An optional key whose value is one of these words.
fn word<T: Copy>(fields: &Fields<'_>, key: &str, words: &[(&str, T)], out: &mut Out<'_>) -> Option<T> {
    optional(fields, key, |at| at.choice(words, &mut out.report))
}

fn rule_name(fields: &Fields<'_>, out: &mut Out<'_>) -> Option<String> {
    let at = fields.need("rule", "name the rule, such as rule: chatbot", &mut out.report)?;
    name(&at, 63, out)
}

/// A DNS-like name: `[a-z0-9]([-a-z0-9.]*[a-z0-9])?`.
fn name(at: &At<'_>, most: usize, out: &mut Out<'_>) -> Option<String> {
    let text = at.text(&mut out.report)?;
    if is_name(text, most) {
        return Some(text.to_owned());
    }
    at.wrong(&mut out.report, format_args!("{text:?} is no name"), name_way_out(most));
    None
}

fn is_name(text: &str, most: usize) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = text.bytes().next().is_some_and(inner) && text.bytes().last().is_some_and(inner);
    ends && text.len() <= most && text.bytes().all(|b| inner(b) || b == b'-' || b == b'.')
}

fn name_way_out(most: usize) -> String {
    format!("write lower-case letters, digits, - and . inside, at most {most} characters")
}

fn source(fields: &Fields<'_>, out: &mut Out<'_>) -> Option<String> {
    let at = fields.get("source")?;
    let text = at.text(&mut out.report)?;
    if !out.known.without_settings {
        known(&at, "source", text, &out.known.sources, &mut out.report);
    }
    Some(text.to_owned())
}

/// Tells a name the daemon does not know.
fn known(at: &At<'_>, what: &str, name: &str, names: &BTreeSet<String>, report: &mut Report) {
    if !names.contains(name) {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        at.wrong(report, format_args!("no {what} is named {name:?}"), one_of(name, &names));
    }
}

/// `false-rollbacks` is the only level an operator sets; the others stay (STATISTICS 10).
fn budget(fields: &Fields<'_>, out: &mut Out<'_>) -> Budget {
    let mut budget = Budget::default();
    let Some(at) = fields.get("false-rollbacks") else { return budget };
    match at.percent(&mut out.report) {
        Some(share) if share > 0.0 && share <= 0.5 => budget.rollback = share,
        Some(_) => at.wrong(
            &mut out.report,
            format_args!("{} is no bound for false rollbacks", at.scalar()),
            "write more than 0% and at most 50%; 5% is the default",
        ),
        None => {}
    }
    budget
}

/// Exactly two different texts.
fn two(at: &At<'_>, what: &str, out: &mut Out<'_>) -> Option<[String; 2]> {
    let items = at.items(&mut out.report);
    let [first, second] = items.as_slice() else {
        if at.is_list() {
            at.wrong(&mut out.report, format_args!("{} {what}", items.len()), "write two, in the order of the workloads");
        }
        return None;
    };
    let (first, second) = (first.text(&mut out.report), second.text(&mut out.report));
    let (first, second) = (first?, second?);
    if first == second {
        at.wrong(&mut out.report, format_args!("both {what} are {first:?}"), "name two, in the order of the workloads");
        return None;
    }
    Some([first.to_owned(), second.to_owned()])
}
