//! Rule files from disk, and the seam where a whole valid set takes the place of the old one.

use super::manifest::{self, OfManifest};
use super::object::twice;
use super::overlap::{Claims, Written};
use super::rule::Known;
use super::{Report, parse_rule_with};
use crate::model::Rule;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest file read, bytes: a rule, or a file of dates it names, is a page of text, so what is larger is not one.
const RULE_BYTES_MAX: u64 = 1 << 20;

/// Every rule in force, and the text each was read from (the journal keeps it whole).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleSet {
    /// By name.
    pub rules: BTreeMap<String, Arc<Rule>>,
    /// The files' texts, by the rule's name.
    pub texts: BTreeMap<String, Arc<str>>,
}

/// What files hold, to be looked at before it is used.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// The rules, those of files first, as they would come into force.
    pub rules: Vec<LoadedRule>,
    /// What manifests hold that is no rule: file, line, kind and name each.
    pub skipped: Vec<String>,
}

/// A rule, and what it is read from.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedRule {
    /// The rule.
    pub rule: Rule,
    /// `namespace/name` of the object it is to be; `None` = it is a rule file.
    pub object: Option<String>,
    /// The namespace was not written: it is kubectl's to say.
    pub any_namespace: bool,
}

/// Reads every rule of these files and folders (of a folder: each `*.yaml` and `*.yml` directly in it, by name): rule files, and
/// manifests of CanaryRules.
///
/// # Errors
/// Every problem of every file; a name that two use names both, and so does what both would move.
pub fn load_rules(paths: &[PathBuf], known: &Known) -> Result<Loaded, Report> {
    let mut report = Report::default();
    let (mut good, mut manifests, mut loaded) = (Good::default(), Vec::new(), Loaded::default());
    for file in files(paths, &mut report) {
        match read(&file).ok().and_then(|text| manifest::read(&text, &file, known)) {
            None => good.add_file(&file, known, &mut report),
            Some(Ok(found)) => {
                manifests.extend(found.rules);
                loaded.skipped.extend(found.skipped);
            }
            Some(Err(problems)) => report.join(problems),
        }
    }
    let of_file = |(rule, _): &(Arc<Rule>, Arc<str>)| LoadedRule { rule: (**rule).clone(), object: None, any_namespace: false };
    loaded.rules.extend(good.read.iter().map(of_file));
    for OfManifest { rule, written, object, names_namespace } in manifests {
        let rule = Arc::new(rule);
        if good.take(&rule, &written, &mut report) {
            loaded.rules.push(LoadedRule { rule: (*rule).clone(), object: Some(object), any_namespace: !names_namespace });
        }
    }
    report.or(Some(loaded))
}

/// What `paths` hold now, if all of it is valid. `old` is untouched whatever happens, so a caller that meets an error keeps it;
/// a rule whose text did not change keeps its allocation, so readers can tell by `Arc::ptr_eq` what changed.
///
/// # Errors
/// As [`load_rules`].
pub fn reload(old: &RuleSet, paths: &[PathBuf], known: &Known) -> Result<RuleSet, Report> {
    let (new, report) = read_rules(old, paths, known);
    report.or(Some(new))
}

/// What is good of `paths` by itself and beside the others, and what is wrong, as of [`reload`].
pub fn read_rules(old: &RuleSet, paths: &[PathBuf], known: &Known) -> (RuleSet, Report) {
    let (read, report) = read_all(paths, known);
    let mut new = RuleSet::default();
    for (rule, text) in read.read {
        let name = rule.name.clone();
        let kept = old.rules.get(&name).filter(|old| **old == rule);
        new.rules.insert(name.clone(), kept.cloned().unwrap_or(rule));
        new.texts.insert(name, text);
    }
    (new, report)
}

/// What is good of them, in the order of the files, and what is wrong.
fn read_all(paths: &[PathBuf], known: &Known) -> (Good, Report) {
    let (mut report, mut good) = (Report::default(), Good::default());
    for file in files(paths, &mut report) {
        good.add_file(&file, known, &mut report);
    }
    (good, report)
}

/// Rules that can be in force together.
#[derive(Default)]
struct Good {
    read: Vec<(Arc<Rule>, Arc<str>)>,
    by_name: BTreeMap<String, Arc<Rule>>,
    claims: Claims,
}

impl Good {
    fn add_file(&mut self, file: &Path, known: &Known, report: &mut Report) {
        match read_rule(file, known) {
            Ok((rule, text)) => {
                let rule = Arc::new(rule);
                if self.take(&rule, &Written::File(Arc::clone(&text)), report) {
                    self.read.push((rule, text));
                }
            }
            Err(problems) => report.join(problems),
        }
    }

    /// Is it good beside the others? If not, that is told.
    fn take(&mut self, rule: &Arc<Rule>, written: &Written, report: &mut Report) -> bool {
        let named = self.by_name.get(&rule.name).map(|other| twice(rule, &other.file.display().to_string()));
        match named.map_or_else(|| self.claims.take(rule, written), Err) {
            Ok(()) => {
                self.by_name.insert(rule.name.clone(), Arc::clone(rule));
                true
            }
            Err(problem) => {
                report.problems.push(problem);
                false
            }
        }
    }
}

/// One rule file, with the files it names (relative to its folder), and its text.
///
/// # Errors
/// Every problem of it.
pub fn read_rule(file: &Path, known: &Known) -> Result<(Rule, Arc<str>), Report> {
    let text = read(file).map_err(|why| Report::whole(file.display().to_string(), format!("cannot be read: {why}"), ""))?;
    let rule = parse_rule_with(&text, file, known, &|name| read(&file.with_file_name(name)))?;
    Ok((rule, text.into()))
}

/// The error is the end of a sentence.
pub(super) fn read(file: &Path) -> Result<String, String> {
    let size = std::fs::metadata(file).map_err(|e| e.to_string())?.len();
    if size > RULE_BYTES_MAX {
        return Err(format!("{size} bytes are more than the {RULE_BYTES_MAX} a rule may have"));
    }
    std::fs::read_to_string(file).map_err(|e| e.to_string())
}

/// The files themselves, each once, in the order of the paths and of the names in a folder.
pub(super) fn files(paths: &[PathBuf], report: &mut Report) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for path in paths {
        let entries = if path.is_dir() { folder(path) } else { Ok(vec![path.clone()]) };
        match entries {
            Ok(entries) => found.extend(entries),
            Err(e) => report.join(Report::whole(path.display().to_string(), format!("cannot be read: {e}"), "")),
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|file| seen.insert(file.clone()));
    found
}

fn folder(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let file = entry?.path();
        let yaml = file.extension().is_some_and(|e| e == "yaml" || e == "yml");
        // a ConfigMap's folder holds `..data` and friends beside the files it links to
        if yaml && file.is_file() {
            names.push(file);
        }
    }
    names.sort();
    Ok(names)
}
