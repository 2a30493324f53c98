//! What a Deployment says of itself.

use super::Stop;
use serde_json::{Value, json};

pub(super) const TEMPLATE: &str = "/spec/template";

/// Its pod template.
pub(super) fn template(found: &Value) -> Result<&Value, Stop> {
    found.pointer(TEMPLATE).ok_or_else(|| Stop::never(format!("{} has no pod template", told(found))))
}

/// The operation that gives it another one.
pub(super) fn replace_template(template: &Value) -> Vec<Value> {
    vec![json!({"op": "replace", "path": TEMPLATE, "value": template})]
}

/// How many replicas it asks for.
pub(super) fn wanted(found: &Value) -> u64 {
    found.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1)
}

/// A new template of a paused Deployment is kept, and goes nowhere.
pub(super) fn not_paused(found: &Value) -> Result<(), Stop> {
    if found.pointer("/spec/paused").and_then(Value::as_bool) == Some(true) {
        let why = format!("{} is paused: resume it (kubectl rollout resume), then this is done", told(found));
        return Err(Stop::never(why));
    }
    Ok(())
}

/// The controller has seen it as it is.
pub(super) fn observed(found: &Value) -> bool {
    let number = |path: &str| found.pointer(path).and_then(Value::as_i64).unwrap_or(0);
    number("/status/observedGeneration") >= number("/metadata/generation")
}

/// All its pods are of its template, and at least so many are ready.
///
/// # Errors
/// Not yet, with what is missing; or its controller has given up.
pub(super) fn ready(found: &Value, least: u32) -> Result<(), Stop> {
    if !observed(found) {
        return Err(Stop::again(format!("{}: its controller has not seen the new template", told(found))));
    }
    let number = |key: &str| found.pointer(&format!("/status/{key}")).and_then(Value::as_u64).unwrap_or(0);
    let (all, updated, ready) = (number("replicas"), number("updatedReplicas"), number("readyReplicas"));
    let (wanted, least) = (wanted(found), u64::from(least));
    if updated >= wanted && all == updated && ready >= least {
        return Ok(());
    }
    if let Some(said) = condition(found, "Progressing", "False", Some("ProgressDeadlineExceeded")) {
        return Err(Stop::never(format!("{} does not become ready: ProgressDeadlineExceeded: {said}", told(found))));
    }
    let failure = condition(found, "ReplicaFailure", "True", None).map_or_else(String::new, |said| format!("; {said}"));
    let old = all.saturating_sub(updated);
    Err(Stop::again(format!("{}: {updated} of {wanted} updated, {old} old, {ready} of {least} ready{failure}", told(found))))
}

/// What a condition says, where it has this status (and reason).
fn condition<'a>(found: &'a Value, kind: &str, status: &str, reason: Option<&str>) -> Option<&'a str> {
    let says = |c: &Value, key: &str, value: &str| c.get(key).and_then(Value::as_str) == Some(value);
    let is = |c: &&Value| says(c, "type", kind) && says(c, "status", status) && reason.is_none_or(|r| says(c, "reason", r));
    let found = found.pointer("/status/conditions")?.as_array()?.iter().find(is)?;
    Some(found.get("message").and_then(Value::as_str).unwrap_or("no reason given"))
}

/// What an operator calls it.
pub(super) fn told(found: &Value) -> String {
    let text = |key: &str| found.pointer(&format!("/metadata/{key}")).and_then(Value::as_str).unwrap_or("?");
    format!("Deployment {}/{}", text("namespace"), text("name"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Retry;

    fn deployment(status: Value) -> Value {
        json!({"metadata": {"namespace": "shop", "name": "web", "generation": 3}, "spec": {"replicas": 4}, "status": status})
    }

    #[test]
    fn ready_means_seen_all_new_and_enough() {
        let ok = json!({"observedGeneration": 3, "replicas": 4, "updatedReplicas": 4, "readyReplicas": 3});
        assert!(ready(&deployment(ok.clone()), 3).is_ok());
        let but = |key: &str, value: Value| {
            let mut status = ok.clone();
            status[key] = value;
            let stop = ready(&deployment(status), 3).unwrap_err();
            assert!(matches!(stop.retry, Retry::After(_)), "{stop:?}");
            stop.text
        };
        assert!(but("observedGeneration", json!(2)).contains("has not seen"));
        assert_eq!(but("replicas", json!(5)), "Deployment shop/web: 4 of 4 updated, 1 old, 3 of 3 ready");
        assert_eq!(but("updatedReplicas", json!(3)), "Deployment shop/web: 3 of 4 updated, 1 old, 3 of 3 ready");
        assert_eq!(but("readyReplicas", json!(2)), "Deployment shop/web: 4 of 4 updated, 0 old, 2 of 3 ready");
        let quota = json!([{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: small"}]);
        let mut status = ok.clone();
        (status["updatedReplicas"], status["conditions"]) = (json!(3), quota);
        assert!(ready(&deployment(status), 3).unwrap_err().text.ends_with("; exceeded quota: small"));
    }

    #[test]
    fn a_controller_that_gave_up_is_believed_once_it_has_seen_the_template() {
        let gave_up = json!([{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}]);
        let status = |observed: u64| json!({"observedGeneration": observed, "replicas": 4, "updatedReplicas": 1, "conditions": gave_up});
        let stop = ready(&deployment(status(3)), 3).unwrap_err();
        assert!(stop.retry == Retry::Never && stop.text.ends_with("ProgressDeadlineExceeded: timed out"), "{stop:?}");
        assert!(matches!(ready(&deployment(status(2)), 3).unwrap_err().retry, Retry::After(_)), "that was of the template before");
    }
}
