//! Reads an object, lets somebody decide what is to be changed in it, writes that; again when another hand was faster.

use super::Stop;
use crate::apiserver::{CallError, Object};
use serde_json::{Value, json};

/// Times an object is read and patched again because another hand changed it in between. A Deployment in a rolling update changes
/// with every pod.
const ATTEMPTS_MAX: usize = 8;

/// The object as it is when what `decide` asks for is so: no operations is nothing to do.
///
/// # Errors
/// Those of `decide`, and of the calls.
pub(super) async fn change(object: &Object, decide: impl Fn(&Value) -> Result<Vec<Value>, Stop>) -> Result<Value, Stop> {
    change_part(object, object, decide).await
}

/// The same where what is read and what is written are parts of one object, under one version: a Deployment and its scale.
pub(super) async fn change_part(read: &Object, write: &Object, decide: impl Fn(&Value) -> Result<Vec<Value>, Stop>) -> Result<Value, Stop> {
    let mut found = get(read).await?;
    for _ in 0..ATTEMPTS_MAX {
        let wanted = decide(&found)?;
        if wanted.is_empty() {
            return Ok(found);
        }
        let mut operations = same(&found);
        operations.extend(wanted);
        match write.patch(&operations).await {
            Ok(changed) => return Ok(changed),
            Err(CallError::Conflict(answer)) => {
                let now = get(read).await?;
                if version(&now) == version(&found) {
                    // nobody was faster: it is the change that is refused
                    return Err(Stop::never(format!("{} refuses the change: {answer}", read.what())));
                }
                found = now;
            }
            Err(error) => return Err(Stop::call(write, error)),
        }
    }
    Err(Stop::again(format!("{}: another hand changed it at the same moment, {ATTEMPTS_MAX} times in a row", read.what())))
}

pub(super) async fn get(object: &Object) -> Result<Value, Stop> {
    object.get().await.map_err(|error| Stop::call(object, error))
}

/// It is this object, as it was read.
fn same(found: &Value) -> Vec<Value> {
    let test = |path: &str| found.pointer(path).map(|value| json!({"op": "test", "path": path, "value": value}));
    ["/metadata/uid", "/metadata/resourceVersion"].into_iter().filter_map(test).collect()
}

pub(super) fn version(object: &Value) -> &str {
    object.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or("")
}

/// An annotation of an object.
pub(super) fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.pointer("/metadata/annotations")?.get(key)?.as_str()
}

/// Operations that give it these annotations.
pub(super) fn annotate(object: &Value, annotations: &[(&str, &str)]) -> Vec<Value> {
    let none = object.pointer("/metadata/annotations").is_none_or(Value::is_null);
    let map = none.then(|| json!({"op": "add", "path": "/metadata/annotations", "value": {}}));
    let each = annotations.iter().map(|(key, value)| json!({"op": "add", "path": path(key), "value": value}));
    map.into_iter().chain(each).collect()
}

/// Operations that take these annotations away, where they are.
pub(super) fn unannotate(object: &Value, keys: &[&str]) -> Vec<Value> {
    let there = keys.iter().filter(|key| annotation(object, key).is_some());
    there.map(|key| json!({"op": "remove", "path": path(key)})).collect()
}

fn path(key: &str) -> String {
    format!("/metadata/annotations/{}", key.replace('~', "~0").replace('/', "~1"))
}
