//! The number of the last wish that was written, on the routed object: it keeps stale writers out. An object with several entries has
//! one for each that a rule names, since each may be led by another rule.

use super::layout::{pointer, same_version};
use crate::model::fnv;
use serde_json::{Value, json};

/// Of all that is moved in an object.
pub(super) const GENERATION: &str = "canaryd.io/generation";
/// Longest name of an entry that fits behind it: a key's own part has 63 characters.
const NAME_MAX: usize = 52;

/// The annotation: of the entry of this name, or of the whole object.
pub(super) fn key(entry: Option<&str>) -> String {
    let inner = |b: u8| b.is_ascii_alphanumeric();
    match entry {
        None => GENERATION.to_owned(),
        Some(name)
            if name.len() <= NAME_MAX
                && name.bytes().all(|b| inner(b) || b"-_.".contains(&b))
                && name.bytes().last().is_some_and(inner) =>
        {
            format!("{GENERATION}.{name}")
        }
        // a name is any text to Istio
        Some(name) => format!("{GENERATION}-{:016x}", fnv(name)),
    }
}

/// The object is ours for this generation, if it is still as it was read. The first claim is made under the object's version:
/// there is no older number to test.
pub(super) fn claim_entry(found: &Value, entry: Option<&str>, generation: u64) -> Vec<Value> {
    let path = pointer(&["metadata", "annotations", &key(entry)]);
    let ours = generation.to_string();
    if let Some(older) = found.pointer(&path) {
        return vec![json!({"op": "test", "path": path, "value": older}), json!({"op": "replace", "path": path, "value": ours})];
    }
    let mut operations = vec![same_version(found)];
    if found.pointer("/metadata/annotations").is_none_or(Value::is_null) {
        operations.push(json!({"op": "add", "path": "/metadata/annotations", "value": {}}));
    }
    operations.push(json!({"op": "add", "path": path, "value": ours}));
    operations
}

/// [`claim_entry`] of the whole object.
pub(super) fn claim(found: &Value, generation: u64) -> Vec<Value> {
    claim_entry(found, None, generation)
}

/// What an entry has.
pub(super) fn generation_of_entry(object: &Value, entry: Option<&str>) -> Option<u64> {
    object.pointer(&pointer(&["metadata", "annotations", &key(entry)]))?.as_str()?.parse().ok()
}

/// What the whole object has.
pub(super) fn generation_of(object: &Value) -> Option<u64> {
    generation_of_entry(object, None)
}

#[cfg(test)]
mod tests {
    use super::key;

    #[test]
    fn a_key_is_one_that_kubernetes_takes_and_two_names_have_two() {
        assert_eq!(key(None), "canaryd.io/generation");
        assert_eq!(key(Some("primary")), "canaryd.io/generation.primary");
        let odd = ["", "a route", "ends-", "Ä", &"x".repeat(53), "a/b"].map(|name| key(Some(name)));
        for key in &odd {
            let own = key.strip_prefix("canaryd.io/").unwrap();
            let fits = own.len() <= 63 && own.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
            assert!(fits && own.as_bytes().last().unwrap().is_ascii_alphanumeric(), "{key}");
        }
        let different: std::collections::BTreeSet<&String> = odd.iter().collect();
        assert_eq!(different.len(), odd.len());
        assert_eq!(key(Some(&"x".repeat(52))).len(), "canaryd.io/".len() + 63);
    }
}
