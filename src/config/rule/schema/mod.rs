//! The grammar once more, as a JSON Schema (draft 7, which editors know) for completion and for red lines while a rule is
//! written. It takes its keys from `keys.rs` and its words from the tables the readers use; a key without a sentence here
//! fails a test. It says what a document may look like; what only a walk can tell (weights that fall, a window that is too
//! short) is told by `check`.

mod metrics;
mod sections;
mod structural;
mod traffic;

pub use structural::rule_spec_schema;

use super::keys;
use sections as of;
use serde_json::{Map, Value, json};

/// The JSON Schema of a rule file, as text: `rules/canaryd.schema.json`, and what `canaryd schema` prints.
pub fn rule_schema() -> String {
    // a tree of texts always has a text
    format!("{:#}\n", schema())
}

fn schema() -> Value {
    let mut root = mapping(keys::RULE, &["rule", "workloads", "telemetry", "traffic", "steps", "metrics"], |key| match key {
        "rule" => says("Name of the rule, unique in the daemon.", name()),
        "workloads" => of::workloads(),
        "telemetry" => of::telemetry(),
        "source" => says("Source of the daemon's settings to read from; its default source where it is left out.", text()),
        "interval" => says("Length of a tick; the source's measured scrape interval where it is left out.", duration()),
        "traffic" => traffic::traffic(),
        "steps" => of::steps(),
        "advance" => says(
            "When a step ends: at its time unless something speaks against it (the default), or as soon as it is shown.",
            words(super::steps::ADVANCE),
        ),
        "strict" => says("Ask for proof on schedule too.", flag()),
        "min-requests" => says("Fewest canary requests in a step that may end; 20 by default.", whole(1, 1_000_000)),
        "promotion" => of::promotion(),
        "metrics" => metrics::metrics(),
        "sensitivity" => says("Margins of metrics without tolerate of their own; normal by default.", words(super::metrics::SENSITIVITY)),
        "false-rollbacks" => says("Bound for healthy releases rolled back, over the whole rollout; 5% by default.", percentage()),
        "bake-latency" => says("How much a latency may stretch in the bake; 50% by default.", percentage()),
        "bake-judge" => says("What a crossing in the bake does; roll-back by default.", words(super::BAKE_JUDGE)),
        "policies" => of::policies(),
        "start" => of::start(),
        "hooks" => of::hooks(),
        "windows" => of::windows(),
        "alerts" => of::alerts(),
        "notify" => says("Receivers of the daemon's settings that are told.", list(text(), 0)),
        "replicas" => says(
            "Who keeps the canary's capacity: others (external, the default; a step waits for the replicas it needs), or canaryd scales the canary before each step.",
            words(super::cluster::REPLICAS),
        ),
        "after-rollback" => says(
            "What becomes of the canary's workload once it was rolled back and has drained: it stays (leave, the default), gets the pod template it had before, or is scaled to 0.",
            words(super::cluster::AFTER_ROLLBACK),
        ),
        "drain" => says("Wait after the traffic left, before anything else happens to the workload; 1m by default.", duration()),
        "mode" => says("enforce (the default), or observe: decide and record, touch nothing.", words(super::MODE)),
        _ => Value::Null,
    });
    root["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    root["title"] = "canaryd rule".into();
    root["description"] = "How the canaries of one service are judged and moved.".into();
    root
}

/// A mapping with these keys and no others. `of` gives each its schema; a key it does not know shows up without a description.
fn mapping(keys: &[&str], needed: &[&str], of: impl Fn(&str) -> Value) -> Value {
    let properties: Map<String, Value> = keys.iter().map(|key| ((*key).to_owned(), of(key))).collect();
    // an empty value is an empty mapping, where nothing in it is needed
    let kind = if needed.is_empty() { json!(["object", "null"]) } else { json!("object") };
    json!({ "type": kind, "properties": properties, "required": needed, "additionalProperties": false })
}

fn says(what: &str, schema: Value) -> Value {
    let mut described = Map::new();
    described.insert("description".to_owned(), what.into());
    match schema {
        Value::Object(fields) => described.extend(fields),
        // `false`: a key that has no place here
        other => drop(described.insert("not".to_owned(), if other == Value::Bool(false) { json!({}) } else { other })),
    }
    Value::Object(described)
}

fn words<T>(table: &[(&str, T)]) -> Value {
    json!({ "enum": table.iter().map(|(word, _)| *word).collect::<Vec<_>>() })
}

fn list(item: Value, least: usize) -> Value {
    json!({ "type": "array", "items": item, "minItems": least })
}

/// Exactly two.
fn two(item: Value) -> Value {
    json!({ "type": "array", "items": item, "minItems": 2, "maxItems": 2, "uniqueItems": true })
}

fn one_of(forms: Vec<Value>) -> Value {
    json!({ "oneOf": forms })
}

/// Any keys, each with a text.
fn texts(least: usize) -> Value {
    json!({ "type": if least == 0 { json!(["object", "null"]) } else { json!("object") }, "additionalProperties": text(), "minProperties": least })
}

/// Numbers count as their spelling.
fn text() -> Value {
    json!({ "type": ["string", "number"], "pattern": "\\S" })
}

fn name() -> Value {
    json!({ "type": ["string", "number"], "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", "maxLength": 63 })
}

fn flag() -> Value {
    json!({ "enum": [true, false, "true", "false"] })
}

fn whole(low: u32, high: u32) -> Value {
    json!({ "type": "integer", "minimum": low, "maximum": high })
}

fn percentage() -> Value {
    json!({ "type": "string", "pattern": "^\\s*([0-9]+\\.?[0-9]*|\\.[0-9]+)\\s*%\\s*$", "examples": ["5%"] })
}

fn duration() -> Value {
    json!({ "type": "string", "pattern": "^\\s*(([0-9]+\\.?[0-9]*|\\.[0-9]+)(ms|s|m|h|d))+\\s*$", "examples": ["15m", "1h30m"] })
}

fn size() -> Value {
    json!({ "type": "string", "pattern": "^\\s*([0-9]+\\.?[0-9]*|\\.[0-9]+)(B|[kK]B|[MG]B|[KMG]iB?)\\s*$", "examples": ["512MiB"] })
}

fn url() -> Value {
    json!({ "type": "string", "pattern": "^\\s*[hH][tT][tT][pP][sS]?://", "examples": ["https://ci.example.com/smoke"] })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every key below this schema, with its path.
    fn described(schema: &Value, path: &str, out: &mut Vec<(String, bool)>) {
        match schema {
            Value::Object(fields) => {
                for (key, inner) in fields.get("properties").and_then(Value::as_object).into_iter().flatten() {
                    let path = format!("{path}.{key}");
                    out.push((path.clone(), inner["description"].as_str().is_some_and(|d| d.len() > 10)));
                    described(inner, &path, out);
                }
                fields.iter().filter(|(key, _)| *key != "properties").for_each(|(_, inner)| described(inner, path, out));
            }
            Value::Array(items) => items.iter().for_each(|item| described(item, path, out)),
            _ => {}
        }
    }

    #[test]
    fn every_key_of_the_grammar_is_described() {
        let mut keys = Vec::new();
        described(&schema(), "", &mut keys);
        let without: Vec<&String> = keys.iter().filter(|(_, well)| !well).map(|(path, _)| path).collect();
        assert!(without.is_empty(), "no sentence for {without:?}");
        assert!(keys.len() > 150, "only {} keys", keys.len());
    }
}
