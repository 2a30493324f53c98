//! The shipped rules and their schema, by other eyes: a YAML 1.1 reader and a JSON Schema validator that are not ours.

use crate::rig::python;
use canaryd::config::rule_schema;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The rules of a folder: path and text, by path.
fn rules(folder: &str) -> Vec<(String, String)> {
    let files = fs::read_dir(root(folder)).expect(folder).map(|entry| entry.expect("entry").path());
    let mut rules: Vec<(String, String)> = files
        .filter(|file| file.extension().is_some_and(|e| e == "yaml"))
        .map(|file| {
            (format!("{folder}/{}", file.file_name().expect("a name").to_string_lossy()), fs::read_to_string(&file).expect("readable"))
        })
        .collect();
    rules.sort();
    assert!(!rules.is_empty(), "{folder} holds no rule");
    rules
}

fn tree(text: &str) -> Option<Value> {
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options).ok()
}

/// The schema in the repository is the one this build makes. `CANARYD_BLESS=1` writes it anew: read the diff.
#[test]
fn the_schema_in_the_repository_is_not_stale() {
    let file = root("rules/canaryd.schema.json");
    if std::env::var_os("CANARYD_BLESS").is_some() {
        fs::write(&file, rule_schema()).expect("writable");
    }
    let stored = fs::read_to_string(&file).expect("rules/canaryd.schema.json");
    assert!(stored == rule_schema(), "stale: write it anew with canaryd schema > rules/canaryd.schema.json");
    let printed = Command::new(env!("CARGO_BIN_EXE_canaryd")).arg("schema").output().expect("it runs");
    assert!(printed.status.success() && printed.stdout == stored.as_bytes(), "canaryd schema prints it");
}

const VALIDATE: &str = r#"
import json, sys
from jsonschema import Draft7Validator
schema, rules = json.load(sys.stdin)
Draft7Validator.check_schema(schema)
validator = Draft7Validator(schema)
print(json.dumps({ name: [ "%s: %s" % ("/".join(map(str, e.absolute_path)), e.message[:200]) for e in validator.iter_errors(rule) ] for name, rule in rules.items() }))
"#;

/// What the validator says of each rule; `None` where there is no validator.
fn validated(rules: &[(String, String)]) -> Option<Value> {
    let python = python::with(&["yaml", "jsonschema"])?;
    let schema: Value = serde_json::from_str(&rule_schema()).expect("JSON");
    let trees: serde_json::Map<String, Value> = rules.iter().filter_map(|(name, text)| Some((name.clone(), tree(text)?))).collect();
    let answer = python.run(VALIDATE, &json!([schema, trees]).to_string());
    Some(serde_json::from_str(&answer).expect("JSON"))
}

#[test]
fn every_good_rule_is_valid_by_the_schema() {
    let readme = fs::read_to_string(root("README.md")).expect("README.md");
    let at = readme.find("# rules/shop.yaml").expect("a rule in the README");
    let block = readme[at..].split("```").next().unwrap_or_default().to_owned();
    let mut good = rules("rules");
    good.extend(rules("tests/data/rules"));
    good.push(("README.md".to_owned(), block));
    let Some(answer) = validated(&good) else { return };
    assert!(good.len() >= 7, "only {} rules", good.len());
    for (name, _) in &good {
        assert_eq!(answer[name], json!([]), "{name}");
    }
}

/// Those that a schema can tell; the others need the walk.
const REFUSED: &[&str] = &[
    "alerts-that-match-everything.yaml",
    "approvals-twice.yaml",
    "at-end-unknown.yaml",
    "counts-without-total.yaml",
    "for-and-bake.yaml",
    "for-without-unit.yaml",
    "hook-after-that-may-fail.yaml",
    "hook-is-no-url.yaml",
    "latency-without-quantile.yaml",
    "pair-and-stable.yaml",
    "pair-of-three.yaml",
    "policy-word-unknown.yaml",
    "route-file-and-runtime-keys.yaml",
    "rule-name-in-capitals.yaml",
    "six-mistakes-at-once.yaml",
    "steps-is-a-mapping.yaml",
    "two-routers.yaml",
    "unknown-key-in-a-step.yaml",
    "unknown-key-near-a-known-one.yaml",
    "unknown-router.yaml",
    "webhook-without-url.yaml",
    "weight-without-percent-sign.yaml",
    "window-without-a-zone.yaml",
    "windows-that-say-nothing.yaml",
];

#[test]
fn the_schema_refuses_what_a_schema_can_tell() {
    let bad = rules("tests/data/rules/bad");
    let Some(answer) = validated(&bad) else { return };
    let passes: Vec<&&str> =
        REFUSED.iter().filter(|name| answer[format!("tests/data/rules/bad/{name}")].as_array().is_none_or(Vec::is_empty)).collect();
    assert!(passes.is_empty(), "pass the schema: {passes:?}");
}

const KEYS: &str = r#"
import json, sys, yaml
def keys(node):
    if isinstance(node, dict):
        return { k if isinstance(k, str) else "not a text: %r" % (k,): keys(v) for k, v in node.items() }
    return [ keys(item) for item in node ] if isinstance(node, list) else None
print(json.dumps({ name: keys(yaml.safe_load(text)) for name, text in json.load(sys.stdin).items() }))
"#;

/// The tree without its values.
fn keys(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), keys(value))).collect(),
        Value::Array(items) => items.iter().map(keys).collect(),
        _ => Value::Null,
    }
}

/// kubectl, Helm and many others still read YAML 1.1, where `on:` is `true:`.
#[test]
fn a_yaml_1_1_reader_finds_the_same_keys_in_every_rule() {
    let Some(python) = python::with(&["yaml"]) else { return };
    let mut all = rules("rules");
    all.extend(rules("tests/data/rules"));
    let texts: serde_json::Map<String, Value> = all.iter().map(|(name, text)| (name.clone(), text.as_str().into())).collect();
    let theirs: Value = serde_json::from_str(&python.run(KEYS, &Value::Object(texts).to_string())).expect("JSON");
    for (name, text) in &all {
        assert_eq!(theirs[name], keys(&tree(text).expect(name)), "{name}");
    }
    let turned = python.run(KEYS, &json!({ "turned": "{ on: 1, off: 2 }" }).to_string());
    assert!(turned.contains("not a text: True"), "this reader is none of YAML 1.1: {turned}");
}
