//! The same grammar as a custom resource's `spec`: a structural schema, as the API server wants it. It says less than the
//! schema for editors, never more: a form that may be a word or a mapping is any value there, and no mapping is closed.
//!
//! Open mappings are a decision. A closed one would have the API server drop a misspelt key in silence, for every client that
//! does not ask for strict validation, and a limit that was dropped is a limit nobody watches. So the object is kept whole, and
//! the daemon's own loader tells every problem at once, as it does for files.

use super::schema;
use serde_json::{Map, Value, json};

/// Validations that mean the same in both.
const SAME: [&str; 10] =
    ["pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "format"];
/// Joins of validations. Their forms may say which keys are needed, and nothing else.
const JOINS: [&str; 4] = ["oneOf", "anyOf", "allOf", "not"];
const OPEN: &str = "x-kubernetes-preserve-unknown-fields";

/// A rule as the `spec` of a custom resource, whose name is the rule's.
pub fn rule_spec_schema() -> Value {
    let mut root = schema();
    if let Some(properties) = root["properties"].as_object_mut() {
        properties.shift_remove("rule");
    }
    if let Some(needed) = root["required"].as_array_mut() {
        needed.retain(|key| key != "rule");
    }
    structural(&root)
}

fn structural(schema: &Value) -> Value {
    let mut out = Map::new();
    if let Some(description) = schema.get("description") {
        out.insert("description".to_owned(), description.clone());
    }
    let forms = ["oneOf", "anyOf"].into_iter().find_map(|join| schema.get(join)?.as_array());
    match (schema.get("type"), schema.get("enum").and_then(Value::as_array), forms) {
        (Some(_), _, _) if is_object(schema) => object(schema, &mut out),
        (Some(kind), _, _) if kind == "array" => list(schema, &mut out),
        // numbers count as their spelling; one with a point is refused, which would have lost its spelling on the way
        (Some(kind), _, _) if *kind == json!(["string", "number"]) => {
            drop(out.insert("x-kubernetes-int-or-string".to_owned(), true.into()))
        }
        (Some(kind), _, _) => drop(out.insert("type".to_owned(), kind.clone())),
        (None, Some(words), _) => enumeration(words, &mut out),
        (None, None, Some(forms)) if forms.iter().all(is_object) => merged(forms, &mut out),
        // a word or a mapping
        _ => drop(out.insert(OPEN.to_owned(), true.into())),
    }
    let same = SAME.iter().filter_map(|key| Some(((*key).to_owned(), schema.get(key)?.clone())));
    out.extend(same);
    Value::Object(out)
}

/// A mapping, whether or not an empty value may stand for an empty one.
fn is_object(schema: &Value) -> bool {
    schema["type"] == "object" || schema["type"] == json!(["object", "null"])
}

fn object(schema: &Value, out: &mut Map<String, Value>) {
    out.insert("type".to_owned(), "object".into());
    if schema["type"].is_array() {
        out.insert("nullable".to_owned(), true.into());
    }
    let plain = schema.get("additionalProperties").filter(|any| any.is_object() && schema.get("patternProperties").is_none());
    if let Some(any) = plain {
        out.insert("additionalProperties".to_owned(), structural(any));
    } else {
        out.insert("properties".to_owned(), properties(schema).into());
        out.insert(OPEN.to_owned(), true.into());
    }
    if let Some(needed) = schema.get("required").filter(|needed| needed.as_array().is_some_and(|n| !n.is_empty())) {
        out.insert("required".to_owned(), needed.clone());
    }
    let joins = JOINS.iter().filter_map(|join| Some(((*join).to_owned(), schema.get(join)?.clone())));
    out.extend(joins);
}

/// Without those that have no place: the loader tells of them.
fn properties(schema: &Value) -> Map<String, Value> {
    let all = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    all.filter(|(_, of)| of.get("not").is_none()).map(|(key, of)| (key.clone(), structural(of))).collect()
}

fn list(schema: &Value, out: &mut Map<String, Value>) {
    out.insert("type".to_owned(), "array".into());
    out.insert("items".to_owned(), structural(&schema["items"]));
}

/// Words, or `true` and `false`: those in quotes are a file's alone.
fn enumeration(words: &[Value], out: &mut Map<String, Value>) {
    if words.iter().any(Value::is_boolean) {
        out.insert("type".to_owned(), "boolean".into());
    } else {
        out.insert("type".to_owned(), "string".into());
        out.insert("enum".to_owned(), words.into());
    }
}

/// One of several mappings: the keys of all of them.
fn merged(forms: &[Value], out: &mut Map<String, Value>) {
    let all: Map<String, Value> = forms.iter().flat_map(properties).collect();
    out.insert("type".to_owned(), "object".into());
    out.insert("properties".to_owned(), all.into());
    out.insert(OPEN.to_owned(), true.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every schema below this one, with its path.
    fn walk<'a>(schema: &'a Value, path: &str, out: &mut Vec<(String, &'a Map<String, Value>)>) {
        let Some(fields) = schema.as_object() else { return };
        out.push((path.to_owned(), fields));
        for (key, inner) in fields.get("properties").and_then(Value::as_object).into_iter().flatten() {
            walk(inner, &format!("{path}.{key}"), out);
        }
        for key in ["items", "additionalProperties"] {
            fields.get(key).into_iter().for_each(|inner| walk(inner, &format!("{path}.{key}"), out));
        }
    }

    #[test]
    fn nothing_is_in_it_that_an_api_server_does_not_know_and_every_mapping_is_open() {
        let spec = rule_spec_schema();
        let mut all = Vec::new();
        walk(&spec, "spec", &mut all);
        assert!(all.len() > 100, "only {} schemas", all.len());
        let known = |key: &String| {
            let others = ["description", "type", "enum", "nullable", "properties", "additionalProperties", "items", "required", OPEN];
            SAME.contains(&key.as_str())
                || JOINS.contains(&key.as_str())
                || others.contains(&key.as_str())
                || key == "x-kubernetes-int-or-string"
        };
        for (path, fields) in &all {
            assert!(fields.keys().all(known), "{path}: {:?}", fields.keys());
            assert!(fields.get("type").is_none_or(Value::is_string), "{path}");
            let typed = ["type", OPEN, "x-kubernetes-int-or-string"].iter().any(|key| fields.contains_key(*key));
            assert!(typed, "{path} says nothing of its value");
            let closed = fields.contains_key("properties") && fields.get(OPEN) != Some(&Value::Bool(true));
            assert!(!closed, "{path} would drop a misspelt key in silence");
        }
        assert!(spec["properties"].get("rule").is_none() && spec["properties"].get("steps").is_some());
        assert!(spec["required"].as_array().unwrap().iter().all(|key| key != "rule"));
    }
}
