//! Defaults, file, environment and flags, laid over each other by the `config` crate. It keeps one origin per value, so each
//! value carries its place through (`<line>:<file, variable or flag>`) and a mistake is told where it was made.

use crate::config::walk::{Entry, Kind, Node, Place};
use crate::config::{Report, yaml};
use config::{Config, ConfigError, Map, Source, Value, ValueKind};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const PREFIX: &str = "CANARYD_";
/// Largest settings file read, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Deepest key of a variable or flag: `sources.NAME.prometheus.headers.X` has five levels.
const LEVELS_MAX: usize = 8;

/// What holds when nobody says anything.
const DEFAULTS: &[(&str, &str)] = &[
    ("listen", "127.0.0.1:7878"),
    ("data", "canaryd-data"),
    ("rules", "rules"),
    ("log.format", "text"),
    ("log.level", "info"),
    ("time_scale", "1"),
    ("retention_days", "90"),
    ("alerts_expire", "5h"),
];

/// Variables with our prefix that are not settings of the daemon: where its clients find it, and which file it reads.
const NOT_SETTINGS: &[&str] = &["CANARYD_CONFIG", "CANARYD_SERVER", "CANARYD_TOKEN", "CANARYD_PORT"];
/// What Kubernetes makes of a Service named `canaryd` in every pod beside it.
const KUBERNETES: &[&str] = &["CANARYD_SERVICE_", "CANARYD_PORT_"];

/// Keys whose value is a list; a variable or flag says it with commas.
const LISTS: &[&str] = &["rules", "urls", "tags"];

/// The file's tree.
pub(super) fn of_file(file: &Path) -> Result<Node, Report> {
    let name = file.display().to_string();
    let unreadable = |why: String| Report::whole(&name, why, "");
    let size = std::fs::metadata(file).map_err(|e| unreadable(format!("cannot be read: {e}")))?.len();
    if size > FILE_BYTES_MAX {
        return Err(unreadable(format!("{size} bytes are more than the {FILE_BYTES_MAX} that settings may have")));
    }
    let text = std::fs::read_to_string(file).map_err(|e| unreadable(format!("cannot be read: {e}")))?;
    let tree = yaml::parse(&text, &name)?;
    match tree.kind {
        Kind::Map(_) => Ok(tree),
        Kind::Null => Ok(Node { kind: Kind::Map(Vec::new()), ..tree }),
        _ => Err(unreadable("is no mapping of keys".to_owned())),
    }
}

/// Settings among the variables, as dotted keys.
pub(super) fn of_env(env: impl Iterator<Item = (String, String)>) -> Vec<Said> {
    let ours = |name: &String| {
        name.starts_with(PREFIX) && !NOT_SETTINGS.contains(&name.as_str()) && !KUBERNETES.iter().any(|k| name.starts_with(k))
    };
    let mut said: Vec<Said> = env.filter(|(name, _)| ours(name)).map(|(name, text)| Said::variable(&name, text)).collect();
    said.sort();
    said
}

/// The flags, as dotted keys.
pub(super) fn of_flags(flags: BTreeMap<String, String>) -> Vec<Said> {
    flags.into_iter().map(|(key, text)| Said { origin: format!("--{}", key.replace(['.', '_'], "-")), key, text }).collect()
}

/// One value that is no line of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Said {
    key: String,
    text: String,
    origin: String,
}

impl Said {
    fn variable(name: &str, text: String) -> Self {
        let key = name[PREFIX.len()..].to_ascii_lowercase().replace("__", ".");
        Self { key, text, origin: name.to_owned() }
    }

    /// As a tree of one branch.
    fn value(&self) -> Value {
        let origin = format!("0:{}", self.origin);
        let levels: Vec<&str> = self.key.splitn(LEVELS_MAX, '.').collect();
        let text = |text: &str| Value::new(Some(&origin), ValueKind::String(text.trim().to_owned()));
        let leaf = if levels.last().is_some_and(|last| LISTS.contains(last)) {
            Value::new(Some(&origin), self.text.split(',').map(text).collect::<Vec<Value>>())
        } else {
            text(&self.text)
        };
        levels.iter().rev().fold(leaf, |inner, level| Value::new(Some(&origin), Map::from_iter([((*level).to_owned(), inner)])))
    }
}

/// The key everything lies below: the `config` crate reads a top-level key as a path, and a path such as `rules[999999999]`
/// would make it allocate that many; keys further down it takes as they are.
const ROOT: &str = "settings";

/// A layer, or one value of it.
#[derive(Clone, Debug)]
struct Layer(Value);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(Map::from_iter([(ROOT.to_owned(), self.0.clone())]))
    }
}

/// All layers as one tree; later ones win, mappings meet key by key, lists are replaced.
pub(super) fn merged(file: Option<Node>, env: &[Said], flags: &[Said]) -> Result<Node, Report> {
    let default = |(key, text): &(&str, &str)| Said { key: (*key).into(), text: (*text).into(), origin: "default".into() };
    let defaults: Vec<Said> = DEFAULTS.iter().map(default).collect();
    let values = |said: &[Said]| said.iter().map(Said::value).collect::<Vec<Value>>();
    let layers = [values(&defaults), file.iter().map(to_value).collect(), values(env), values(flags)];
    let builder = layers.into_iter().flatten().fold(Config::builder(), |builder, value| builder.add_source(Layer(value)));
    // only a source of ours could fail, and none does
    let failed = |e: ConfigError| Report::whole("settings", e.to_string(), "");
    let mut whole = builder.build().map_err(failed)?.cache.into_table().map_err(failed)?;
    Ok(to_node(whole.remove(ROOT).unwrap_or_else(|| Value::from(Map::<String, Value>::new())), file.as_ref()))
}

fn to_value(node: &Node) -> Value {
    let kind = match &node.kind {
        Kind::Null => ValueKind::Nil,
        Kind::Bool(text) | Kind::Number(text) | Kind::Text(text) => ValueKind::String(text.clone()),
        Kind::List(items) => ValueKind::Array(items.iter().map(to_value).collect()),
        Kind::Map(entries) => ValueKind::Table(entries.iter().map(|e| (e.key.clone(), to_value(&e.node))).collect()),
    };
    Value::new(Some(&format!("{}:{}", node.place.line, node.place.file)), kind)
}

/// Back to a tree, with the places. A table is rebuilt when layers meet in it and loses its origin: `file` still has its line.
fn to_node(value: Value, file: Option<&Node>) -> Node {
    let place = value.origin().and_then(place);
    let kind = match value.kind {
        ValueKind::Nil => Kind::Null,
        ValueKind::Array(items) => Kind::List(items.into_iter().map(|item| to_node(item, None)).collect()),
        ValueKind::Table(table) => Kind::Map(entries(table, file)),
        scalar => Kind::Text(scalar.to_string()),
    };
    let first = if let Kind::Map(entries) = &kind { entries.first().map(|e| e.place.clone()) } else { None };
    let place = place.or_else(|| file.map(|node| node.place.clone())).or(first);
    Node { place: place.unwrap_or_else(|| Place { file: "settings".into(), line: 0 }), kind }
}

/// In the order of their keys: the table's own is random.
fn entries(table: Map<String, Value>, file: Option<&Node>) -> Vec<Entry> {
    let sorted: BTreeMap<String, Value> = table.into_iter().collect();
    sorted
        .into_iter()
        .map(|(key, value)| {
            let written = file.and_then(|node| node.below(&key));
            let node = to_node(value, written.map(|e| &e.node));
            let key_place = written.map(|e| &e.place).filter(|p| p.file == node.place.file);
            Entry { place: key_place.unwrap_or(&node.place).clone(), key, node }
        })
        .collect()
}

fn place(origin: &str) -> Option<Place> {
    let (line, file) = origin.split_once(':')?;
    Some(Place { line: line.parse().ok()?, file: Arc::from(file) })
}
