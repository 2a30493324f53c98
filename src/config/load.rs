//! Rule files from disk, and the seam where a whole valid set takes the place of the old one.

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

/// Reads every rule of these files and folders (of a folder: each `*.yaml` and `*.yml` directly in it, by name).
///
/// # Errors
/// Every problem of every file; a name two files use names both.
pub fn load_rules(paths: &[PathBuf], known: &Known) -> Result<Vec<Rule>, Report> {
    let read = read_all(paths, known)?;
    Ok(read.into_iter().map(|(rule, _)| rule).collect())
}

/// What `paths` hold now, if all of it is valid. `old` is untouched whatever happens, so a caller that meets an error keeps it;
/// a rule whose text did not change keeps its allocation, so readers can tell by `Arc::ptr_eq` what changed.
///
/// # Errors
/// As [`load_rules`].
pub fn reload(old: &RuleSet, paths: &[PathBuf], known: &Known) -> Result<RuleSet, Report> {
    let mut new = RuleSet::default();
    for (rule, text) in read_all(paths, known)? {
        let name = rule.name.clone();
        let kept = old.rules.get(&name).filter(|old| ***old == rule);
        new.rules.insert(name.clone(), kept.cloned().unwrap_or_else(|| Arc::new(rule)));
        new.texts.insert(name, text);
    }
    Ok(new)
}

fn read_all(paths: &[PathBuf], known: &Known) -> Result<Vec<(Rule, Arc<str>)>, Report> {
    let mut report = Report::default();
    let mut read: Vec<(Rule, Arc<str>)> = Vec::new();
    for file in files(paths, &mut report) {
        match read_rule(&file, known) {
            Ok((rule, text)) => match read.iter().find(|(other, _)| other.name == rule.name) {
                Some((other, _)) => report.join(twice(&rule, other)),
                None => read.push((rule, text)),
            },
            Err(problems) => report.join(problems),
        }
    }
    report.or(Some(read))
}

fn twice(rule: &Rule, other: &Rule) -> Report {
    let what = format!("rule {:?} is already the name of {}", rule.name, other.file.display());
    Report::whole(rule.file.display().to_string(), what, "give each rule its own name")
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
