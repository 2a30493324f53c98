//! YAML text to a tree whose every node knows its line. The only file that names the YAML crate, whose interface still moves.
//!
//! Booleans are those of YAML 1.2 (`true`, `false`); `yes` and `on` are texts. A number keeps its spelling, so `version: 1.10`
//! is not `1.1`. Repeated keys reach the tree: the walk tells all of them.

use super::walk::{Entry, Kind, Node, Place};
use super::{Problem, Report};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};
use serde_saphyr::{Budget, Location, Options, Spanned};
use std::fmt;
use std::sync::Arc;

/// Most nodes of one file, aliases expanded: a rule has about a hundred, so an alias bomb ends early.
const NODES_MAX: usize = 20_000;
/// Deepest nesting; the grammar needs six.
const DEPTH_MAX: usize = 32;

/// The same of a file of manifests: the definitions of kinds, which may be among them, are long and deep.
const ALL_NODES_MAX: usize = 200_000;
const ALL_DEPTH_MAX: usize = 64;
/// Most documents of such a file.
const DOCUMENTS_MAX: usize = 1_000;

/// The tree of one document; an empty one is a node of nothing.
pub(crate) fn parse(text: &str, file: &str) -> Result<Node, Report> {
    let options = options(serde_saphyr::budget! { max_nodes: NODES_MAX, max_depth: DEPTH_MAX, max_documents: 2 });
    let file: Arc<str> = file.into();
    match serde_saphyr::from_str_with_options::<Spanned<Value>>(text, options) {
        Ok(tree) => Ok(Builder { text, file }.node(tree)),
        Err(e) => Err(syntax(&e, &file, (NODES_MAX, DEPTH_MAX))),
    }
}

/// The trees of all documents that are not empty.
pub(crate) fn parse_all(text: &str, file: &str) -> Result<Vec<Node>, Report> {
    let options = options(serde_saphyr::budget! { max_nodes: ALL_NODES_MAX, max_depth: ALL_DEPTH_MAX, max_documents: DOCUMENTS_MAX });
    let file: Arc<str> = file.into();
    match serde_saphyr::from_multiple_with_options::<Spanned<Value>>(text, options) {
        Ok(trees) => Ok(trees.into_iter().map(|tree| Builder { text, file: file.clone() }.node(tree)).collect()),
        Err(e) => Err(syntax(&e, &file, (ALL_NODES_MAX, ALL_DEPTH_MAX))),
    }
}

fn options(budget: Option<Budget>) -> Options {
    let mut options = serde_saphyr::options! {
        budget: budget,
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::AsOrdinary,
        strict_booleans: true,
        with_snippet: false,
    };
    options.leading_zero_numbers_as_strings = true;
    options
}

fn syntax(e: &serde_saphyr::Error, file: &str, (nodes, depth): (usize, usize)) -> Report {
    let line = e.location().map_or(0, |at| at.line());
    let said = e.without_snippet().to_string();
    // the crate repeats the place in its sentence, and advises how to call it
    let said = said.lines().next().unwrap_or_default();
    let said = said.split_once(" at line ").map_or(said, |(what, _)| what);
    let (what, way_out) = match () {
        () if said.starts_with("budget breached") => {
            (format!("more than {nodes} values or {depth} levels"), "write a smaller file, without aliases of aliases")
        }
        () if said.starts_with("multiple YAML documents") => ("more than one document".to_owned(), "write one file for each"),
        () => (format!("not YAML: {said}"), "correct it; what lies behind this place was not looked at"),
    };
    Report { problems: vec![Problem { file: file.to_owned(), line, path: String::new(), what, way_out: way_out.to_owned() }] }
}

/// A node as the YAML crate hands it over, before its spelling is looked up.
enum Value {
    Null,
    Bool,
    Number,
    Text(String),
    List(Vec<Spanned<Value>>),
    Map(Vec<(Spanned<String>, Spanned<Value>)>),
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Bool)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Number)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Value, E> {
        Ok(Value::Number)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Value, E> {
        Ok(Value::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Number)
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_bytes<E: serde::de::Error>(self, _: &[u8]) -> Result<Value, E> {
        Err(E::custom("binary data has no place here"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
            if entries.len() > NODES_MAX {
                return Err(A::Error::custom("too many keys"));
            }
        }
        Ok(Value::Map(entries))
    }
}

struct Builder<'a> {
    text: &'a str,
    file: Arc<str>,
}

impl Builder<'_> {
    fn node(&self, value: Spanned<Value>) -> Node {
        let spelled = || self.spelled(value.defined);
        let kind = match value.value {
            Value::Null => Kind::Null,
            Value::Bool => Kind::Bool(spelled()),
            Value::Number => Kind::Number(spelled()),
            Value::Text(text) => Kind::Text(text),
            Value::List(items) => Kind::List(items.into_iter().map(|item| self.node(item)).collect()),
            Value::Map(entries) => Kind::Map(entries.into_iter().map(|(key, value)| self.entry(key, value)).collect()),
        };
        Node { place: self.place(value.referenced), kind }
    }

    fn entry(&self, key: Spanned<String>, value: Spanned<Value>) -> Entry {
        let mut node = self.node(value);
        // an empty value may be placed where the next key begins; a block begins a line below its key, where nobody looks
        if !matches!(node.kind, Kind::Text(_) | Kind::Number(_) | Kind::Bool(_)) {
            node.place = self.place(key.referenced);
        }
        Entry { place: self.place(key.referenced), key: key.value, node }
    }

    fn place(&self, at: Location) -> Place {
        Place { file: self.file.clone(), line: at.line() }
    }

    /// The scalar as it stands in the file.
    fn spelled(&self, at: Location) -> String {
        let bytes = at.span().byte_offset().zip(at.span().byte_len());
        let range = bytes.and_then(|(from, length)| Some(usize::try_from(from).ok()?..usize::try_from(from + length).ok()?));
        range.and_then(|range| self.text.get(range)).unwrap_or_default().trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Kind {
        let tree = parse(text, "t.yaml").unwrap_or_else(|report| panic!("{report}"));
        tree.below("a").map(|entry| entry.node.kind.clone()).expect("a key a")
    }

    #[test]
    fn scalars_keep_their_spelling() {
        for number in ["1.10", "10", "0x1F", "1e3", "-0.50"] {
            assert_eq!(value(&format!("a: {number}   # a number\n")), Kind::Number(number.to_owned()));
        }
        for text in ["yes", "on", "off", "5%", "15m", "0123", "1.2.3"] {
            assert_eq!(value(&format!("a: {text}\n")), Kind::Text(text.to_owned()));
        }
        assert_eq!(value("a: true\n"), Kind::Bool("true".to_owned()));
        assert_eq!(value("a: \"true\"\n"), Kind::Text("true".to_owned()));
        assert_eq!(value("a:\n"), Kind::Null);
    }

    #[test]
    fn an_alias_has_the_spelling_of_its_anchor_and_its_own_line() {
        let tree = parse("x: &v 1.10\na: *v\n", "t.yaml").expect("valid");
        let entry = tree.below("a").expect("a");
        assert_eq!((&entry.node.kind, entry.node.place.line), (&Kind::Number("1.10".to_owned()), 2));
    }

    #[test]
    fn lines_are_right_behind_text_that_is_not_ascii() {
        let tree = parse("# ein Häuschen → 🏠\nx: Ä\na: 1.10\n", "t.yaml").expect("valid");
        let entry = tree.below("a").expect("a");
        assert_eq!((&entry.node.kind, entry.node.place.line), (&Kind::Number("1.10".to_owned()), 3));
    }

    #[test]
    fn a_block_is_placed_where_its_key_stands() {
        let tree = parse("a:\n\n  b: 1\n", "t.yaml").expect("valid");
        assert_eq!(tree.below("a").map(|entry| entry.node.place.line), Some(1));
    }
}
