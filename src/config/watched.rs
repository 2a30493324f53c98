//! Whether rule files, or the files they name, read differently than before.

use super::walk::{Kind, Node};
use super::{load, yaml};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// A number that changes when a rule file of `paths`, or a file that one of them names, appears, goes, or reads differently.
/// What cannot be read counts as gone: the loader says why.
pub fn fingerprint(paths: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in load::files(paths, &mut super::Report::default()) {
        let text = hash(&file, &mut hasher);
        for name in text.map_or_else(Vec::new, |text| names(&text)) {
            hash(&file.with_file_name(name), &mut hasher);
        }
    }
    hasher.finish()
}

fn hash(file: &Path, hasher: &mut DefaultHasher) -> Option<String> {
    let text = load::read(file).ok();
    (file, &text).hash(hasher);
    text
}

/// The files that a rule names, as far as its text can be read.
fn names(text: &str) -> Vec<String> {
    // most rules name none, and are looked at every few seconds
    let tree = if text.contains("dates") { yaml::parse(text, "").ok() } else { None };
    let Some(tree) = tree else { return Vec::new() };
    let windows = tree.below("windows").map(|windows| &windows.node);
    let lists = ["allow", "deny"].into_iter().filter_map(|key| windows?.below(key));
    let items = lists.flat_map(|list| match &list.node.kind {
        Kind::List(items) => items.as_slice(),
        _ => &[],
    });
    items.filter_map(dates).collect()
}

fn dates(item: &Node) -> Option<String> {
    match &item.below("dates")?.node.kind {
        Kind::Text(name) => Some(name.clone()),
        _ => None,
    }
}
