//! A walk over a tree that notes every mistake and goes on. [`At`] is a node with its path; [`Fields`] is a mapping whose keys
//! are known: what is missing, twice or unknown is told by it and by nobody else.

use super::quantity;
use super::{Problem, Report};
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

const URL: &str = "write http://host:port or https://host/path";

/// Where something was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Place {
    /// File, environment variable or flag.
    pub file: Arc<str>,
    /// 1-based; 0 if there is none.
    pub line: u64,
}

/// One node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub place: Place,
    pub kind: Kind,
}

/// What a node is. Scalars keep their spelling.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Null,
    Bool(String),
    Number(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key and its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub key: String,
    pub place: Place,
    pub node: Node,
}

impl Node {
    /// The entry of a key, if this is a mapping that has it.
    pub(crate) fn below(&self, key: &str) -> Option<&Entry> {
        let Kind::Map(entries) = &self.kind else { return None };
        entries.iter().find(|e| e.key == key)
    }
}

impl Kind {
    /// What it is, and for a scalar which: for a sentence.
    fn said(&self) -> String {
        match self {
            Kind::Null => "nothing".to_owned(),
            Kind::Bool(text) | Kind::Number(text) => text.clone(),
            Kind::Text(text) => format!("{:?}", shortened(text)),
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "a mapping".to_owned(),
        }
    }
}

/// Enough of a text to find it again.
fn shortened(text: &str) -> String {
    const SHOWN_MAX: usize = 60;
    match text.char_indices().nth(SHOWN_MAX) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

/// A node and its path. Cheap to copy but for the path.
#[derive(Clone, Debug)]
pub(crate) struct At<'a> {
    pub node: &'a Node,
    pub path: String,
}

impl<'a> At<'a> {
    /// The whole document.
    pub(crate) fn root(node: &'a Node) -> Self {
        Self { node, path: String::new() }
    }

    /// Its line, 0 if unknown.
    pub(crate) fn line(&self) -> u64 {
        self.node.place.line
    }

    /// Notes a problem of this node.
    pub(crate) fn wrong(&self, report: &mut Report, what: impl fmt::Display, way_out: impl fmt::Display) {
        wrong_at(report, &self.node.place, &self.path, what, way_out);
    }

    fn wanted(&self, report: &mut Report, wanted: impl fmt::Display) {
        self.wrong(report, format_args!("{} is not {wanted}", self.node.kind.said()), "");
    }

    fn below(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// A mapping with only these keys.
    pub(crate) fn fields(&self, known: &'static [&'static str], report: &mut Report) -> Option<Fields<'a>> {
        let Some(entries) = self.entries(report) else {
            let keys = known.first().map_or_else(String::new, |first| format!("write {{ {first}: ... }}"));
            self.wrong(report, format_args!("{} is not a mapping of keys", self.node.kind.said()), keys);
            return None;
        };
        for entry in entries {
            if !known.contains(&entry.key.as_str()) {
                unknown_key(report, entry, &self.below(&entry.key), known);
            }
        }
        Some(Fields { at: self.clone(), entries, known })
    }

    /// A mapping with any keys, each once, in the file's order.
    pub(crate) fn members(&self, report: &mut Report) -> Vec<(&'a str, At<'a>)> {
        let Some(entries) = self.entries(report) else {
            self.wanted(report, "a mapping of keys");
            return Vec::new();
        };
        entries.iter().map(|e| (e.key.as_str(), At { node: &e.node, path: self.below(&e.key) })).collect()
    }

    /// A mapping's entries; nothing is an empty mapping, anything else is none. Repeated keys are told.
    fn entries(&self, report: &mut Report) -> Option<&'a [Entry]> {
        let entries = match &self.node.kind {
            Kind::Map(entries) => entries.as_slice(),
            Kind::Null => &[],
            _ => return None,
        };
        for (index, entry) in entries.iter().enumerate() {
            if let Some(first) = entries[..index].iter().find(|e| e.key == entry.key) {
                let what = format!("written twice, first in line {}", first.place.line);
                wrong_at(report, &entry.place, &self.below(&entry.key), what, "keep one of them");
            }
        }
        Some(entries)
    }

    /// A list's items; a single value that is no list is told.
    pub(crate) fn items(&self, report: &mut Report) -> Vec<At<'a>> {
        let Kind::List(items) = &self.node.kind else {
            self.wanted(report, "a list; write [ ... ] or lines that begin with -");
            return Vec::new();
        };
        items.iter().enumerate().map(|(i, node)| At { node, path: format!("{}[{i}]", self.path) }).collect()
    }

    /// What lies below, as far as these keys lead.
    pub(crate) fn down(&self, keys: &[&str]) -> At<'a> {
        let mut at = self.clone();
        for key in keys {
            let Some(entry) = at.node.below(key) else { break };
            at = At { path: at.below(key), node: &entry.node };
        }
        at
    }

    /// An item of a list.
    pub(crate) fn item(&self, index: usize) -> Option<At<'a>> {
        let Kind::List(items) = &self.node.kind else { return None };
        Some(At { node: items.get(index)?, path: format!("{}[{index}]", self.path) })
    }

    /// One of two forms told apart by kind: a name, or a mapping with exactly one key, the tag.
    pub(crate) fn tagged(&self, report: &mut Report) -> Option<(&'a str, At<'a>, bool)> {
        match &self.node.kind {
            Kind::Text(text) => Some((text, self.clone(), false)),
            Kind::Map(entries) => match entries.as_slice() {
                [one] => Some((&one.key, At { node: &one.node, path: self.below(&one.key) }, true)),
                _ => {
                    self.wrong(report, format_args!("has {} keys", entries.len()), "write exactly one");
                    None
                }
            },
            _ => {
                self.wanted(report, "a name, or a mapping with one");
                None
            }
        }
    }

    /// Tells every repeated key below, for a tree that goes on as something else.
    pub(crate) fn repeats(&self, report: &mut Report) {
        match &self.node.kind {
            Kind::Map(_) => self.members(report).iter().for_each(|(_, at)| at.repeats(report)),
            Kind::List(_) => self.items(report).iter().for_each(|at| at.repeats(report)),
            _ => {}
        }
    }

    /// Is it a mapping?
    pub(crate) fn is_map(&self) -> bool {
        matches!(self.node.kind, Kind::Map(_))
    }

    /// Is it a list?
    pub(crate) fn is_list(&self) -> bool {
        matches!(self.node.kind, Kind::List(_))
    }

    /// A text that is not empty. Numbers count as their spelling.
    pub(crate) fn text(&self, report: &mut Report) -> Option<&'a str> {
        match &self.node.kind {
            Kind::Text(text) | Kind::Number(text) if !text.trim().is_empty() => Some(text),
            Kind::Text(_) => {
                self.wrong(report, "is empty", "");
                None
            }
            Kind::Bool(text) => {
                self.wrong(report, format_args!("{text} is not a text"), format_args!("write it in quotes: \"{text}\""));
                None
            }
            _ => {
                self.wanted(report, "a text");
                None
            }
        }
    }

    /// `true` or `false`, in quotes too: environment and flags only have texts.
    pub(crate) fn flag(&self, report: &mut Report) -> Option<bool> {
        let said = match &self.node.kind {
            Kind::Bool(text) => text.to_ascii_lowercase(),
            Kind::Text(text) => text.clone(),
            _ => String::new(),
        };
        match said.as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => {
                self.wanted(report, "true or false");
                None
            }
        }
    }

    /// A number, from whatever kind of scalar says it.
    fn number<T: std::str::FromStr>(&self) -> Option<T> {
        match &self.node.kind {
            Kind::Number(text) | Kind::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// A whole number in this range.
    pub(crate) fn whole(&self, range: RangeInclusive<u32>, report: &mut Report) -> Option<u32> {
        let value = self.number::<u32>().filter(|n| range.contains(n));
        if value.is_none() {
            self.wanted(report, format_args!("a whole number from {} to {}", range.start(), range.end()));
        }
        value
    }

    /// A number in this range.
    pub(crate) fn real(&self, range: RangeInclusive<f64>, report: &mut Report) -> Option<f64> {
        let value = self.number::<f64>().filter(|n| range.contains(n));
        if value.is_none() {
            self.wanted(report, format_args!("a number from {} to {}", range.start(), range.end()));
        }
        value
    }

    /// A duration in this range.
    pub(crate) fn duration(&self, range: RangeInclusive<Duration>, report: &mut Report) -> Option<Duration> {
        let value = self.quantity(quantity::duration, report)?;
        if range.contains(&value) {
            return Some(value);
        }
        let (low, high) = (quantity::said(*range.start()), quantity::said(*range.end()));
        let word = if value > *range.end() { format!("exceeds {high}") } else { format!("is shorter than {low}") };
        self.wrong(report, format_args!("{} {word}", self.scalar()), format_args!("write a duration from {low} to {high}"));
        None
    }

    /// A share written as a percentage, as a fraction: `5%` is 0.05. Any size; the caller has the range.
    pub(crate) fn percent(&self, report: &mut Report) -> Option<f64> {
        self.quantity(quantity::percent, report)
    }

    /// Bytes, such as `512MiB`.
    pub(crate) fn bytes(&self, report: &mut Report) -> Option<f64> {
        self.quantity(quantity::bytes, report)
    }

    /// The address of something below which the daemon knows its way: a slash at the end does not matter.
    pub(crate) fn url(&self, report: &mut Report) -> Option<String> {
        self.address(report).map(|url| url.trim_end_matches('/').to_owned())
    }

    /// An `http://` or `https://` address with a host and without a password, letter by letter. A refused one is shown only if
    /// it cannot hold one.
    pub(crate) fn address(&self, report: &mut Report) -> Option<String> {
        let text = self.text(report)?;
        match quantity::http_url(text) {
            Ok(()) => return Some(text.to_owned()),
            Err(why) if text.contains('@') => self.wrong(report, format_args!("the address {why}"), URL),
            Err(why) => self.wrong(report, format_args!("{:?} {why}", shortened(text)), URL),
        }
        None
    }

    fn quantity<T>(&self, read: fn(&str) -> Result<T, String>, report: &mut Report) -> Option<T> {
        if !matches!(self.node.kind, Kind::Text(_) | Kind::Number(_)) {
            return read("").err().and_then(|example| {
                self.wanted(report, example);
                None
            });
        }
        match read(self.scalar()) {
            Ok(value) => Some(value),
            Err(wanted) => {
                self.wanted(report, wanted);
                None
            }
        }
    }

    /// The spelling of a scalar, else nothing.
    pub(crate) fn scalar(&self) -> &'a str {
        match &self.node.kind {
            Kind::Bool(text) | Kind::Number(text) | Kind::Text(text) => text,
            _ => "",
        }
    }

    /// One of these words.
    pub(crate) fn choice<T: Copy>(&self, words: &[(&str, T)], report: &mut Report) -> Option<T> {
        let said = self.scalar();
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == said) {
            return Some(*value);
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        self.wrong(report, format_args!("{} is not known here", self.node.kind.said()), one_of(said, &names));
        None
    }
}

/// A mapping whose keys were checked.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    pub at: At<'a>,
    entries: &'a [Entry],
    known: &'static [&'static str],
}

impl<'a> Fields<'a> {
    /// The value of a key, if it is written. A slip of this very key counts: it is told already, and what lies below it is
    /// looked at too, so that it need not be corrected first.
    pub(crate) fn get(&self, key: &str) -> Option<At<'a>> {
        let slip = |e: &&Entry| !self.known.contains(&e.key.as_str()) && nearest(&e.key, self.known) == Some(key);
        let entry = self.entries.iter().find(|e| e.key == key).or_else(|| self.entries.iter().find(slip))?;
        Some(At { node: &entry.node, path: self.at.below(&entry.key) })
    }

    /// The value of a key that must be there.
    pub(crate) fn need(&self, key: &str, way_out: &str, report: &mut Report) -> Option<At<'a>> {
        let found = self.get(key);
        if found.is_none() {
            wrong_at(report, &self.at.node.place, &self.at.below(key), "is missing", way_out);
        }
        found
    }

    /// Which of these keys are written, in this order.
    pub(crate) fn written(&self, keys: &[&str]) -> Vec<At<'a>> {
        keys.iter().filter_map(|key| self.get(key)).collect()
    }
}

fn wrong_at(report: &mut Report, place: &Place, path: &str, what: impl fmt::Display, way_out: impl fmt::Display) {
    report.problems.push(Problem {
        file: place.file.to_string(),
        line: place.line,
        path: path.to_owned(),
        what: what.to_string(),
        way_out: way_out.to_string(),
    });
}

fn unknown_key(report: &mut Report, entry: &Entry, path: &str, known: &[&str]) {
    wrong_at(report, &entry.place, path, "no such key", one_of(&entry.key, known));
}

/// The way out when a word is none of these: the nearest, else all.
pub(crate) fn one_of(said: &str, known: &[&str]) -> String {
    match nearest(said, known) {
        Some(near) => format!("did you mean {near:?}?"),
        None if known.is_empty() => "there is none".to_owned(),
        None => format!("known: {}", known.join(", ")),
    }
}

/// The known word that a typo most likely meant.
fn nearest<'k>(said: &str, known: &[&'k str]) -> Option<&'k str> {
    let plain = |word: &str| word.to_ascii_lowercase().replace('_', "-");
    let said = plain(said);
    let ranked = known.iter().map(|word| (strsim::damerau_levenshtein(&said, &plain(word)), *word));
    let (distance, word) = ranked.min()?;
    (distance <= (word.len() / 4).max(1)).then_some(word)
}
