//! Who wrote a field last, by the object's own account (`metadata.managedFields`).

use serde_json::Value;

/// The manager that owns the field at `path`; the latest, if it is more than one. `None` if the API server was told to keep no
/// such account.
pub fn owner_of<P: AsRef<str>>(object: &Value, path: &[P]) -> Option<String> {
    let entries = object.pointer("/metadata/managedFields")?.as_array()?;
    let owners = entries.iter().filter(|e| e.get("fieldsV1").is_some_and(|fields| has(fields, path)));
    let text = |entry: &Value, key: &str| entry.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
    // RFC 3339 in UTC with the same number of digits: sorts as text
    let latest = owners.max_by_key(|entry| text(entry, "time"))?;
    Some(text(latest, "manager"))
}

/// A set of fields has the path if it goes down to it, or ends above it: what is atomic is owned whole.
fn has<P: AsRef<str>>(fields: &Value, path: &[P]) -> bool {
    let Some((first, rest)) = path.split_first() else { return true };
    match fields.as_object() {
        Some(below) if below.is_empty() => true,
        Some(below) => below.get(&format!("f:{}", first.as_ref())).is_some_and(|fields| has(fields, rest)),
        None => false,
    }
}
