//! What stands below `status`, and when it is worth a write. Times are put in last: that it is now another moment is no change.

use serde_json::{Map, Value, json};

/// One condition, without its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// `Ready`, `Progressing`, `Degraded` or `Accepted`.
    pub kind: &'static str,
    /// True, false, or not known.
    pub status: Option<bool>,
    /// A word for programs, `InCamelCase`.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

/// Longest message the definition allows, in characters.
const MESSAGE_MAX: usize = 32_000;

/// As the API server takes them.
pub fn conditions(all: &[Condition], generation: i64) -> Value {
    let status = |status: Option<bool>| match status {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    let one = |c: &Condition| {
        let message: String = c.message.chars().take(MESSAGE_MAX).collect();
        json!({ "type": c.kind, "status": status(c.status), "reason": c.reason, "message": message, "observedGeneration": generation })
    };
    all.iter().map(one).collect()
}

/// `rolling-back` as `RollingBack`.
pub fn camel_case(word: &str) -> String {
    let parts = word.split(['-', ' ']).filter(|part| !part.is_empty());
    parts.map(|part| part[..1].to_uppercase() + &part[1..]).collect()
}

/// How much a status says that the last one did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum News {
    /// Nothing.
    None,
    /// Other sentences: numbers move in them with every tick.
    Words,
    /// Something else.
    Facts,
}

pub(super) fn news(new: &Value, old: &Value) -> News {
    match () {
        () if bare(new, false) == bare(old, false) => News::None,
        () if bare(new, true) == bare(old, true) => News::Words,
        () => News::Facts,
    }
}

/// Without times; without sentences too.
fn bare(status: &Value, without_words: bool) -> Value {
    let dropped = |key: &str| matches!(key, "updated" | "lastTransitionTime") || (without_words && matches!(key, "reason" | "message"));
    match status {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(key, value)| !value.is_null() && !dropped(key));
            Value::Object(kept.map(|(key, value)| (key.clone(), bare(value, without_words))).collect())
        }
        Value::Array(items) => items.iter().map(|item| bare(item, without_words)).collect(),
        plain => plain.clone(),
    }
}

/// The status as it is written: a condition keeps the time since which it has been so.
pub(super) fn with_times(mut status: Value, old: &Value, now: &str) -> Value {
    let before = old["conditions"].as_array().cloned().unwrap_or_default();
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        let same = before.iter().find(|b| b["type"] == condition["type"] && b["status"] == condition["status"]);
        let since = same.and_then(|same| same["lastTransitionTime"].as_str()).unwrap_or(now);
        condition["lastTransitionTime"] = since.into();
    }
    if let Some(fields) = status.as_object_mut().filter(|fields| fields.contains_key("phase")) {
        fields.insert("updated".to_owned(), now.into());
    }
    status
}

/// A merge patch of the whole status: what it says no more is taken away.
pub(super) fn patch(status: &Value, old: &Value) -> Value {
    let mut fields: Map<String, Value> = status.as_object().cloned().unwrap_or_default();
    for gone in old.as_object().into_iter().flatten().map(|(key, _)| key) {
        fields.entry(gone.clone()).or_insert(Value::Null);
    }
    json!({ "status": fields })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(phase: &str, reason: &str, ready: bool) -> Value {
        let ready = Condition { kind: "Ready", status: Some(ready), reason: camel_case(phase), message: reason.to_owned() };
        json!({ "phase": phase, "reason": reason, "conditions": conditions(&[ready], 1) })
    }

    #[test]
    fn a_time_is_no_news_and_words_are_less_than_facts() {
        let old = with_times(status("progressing", "5 of 20 requests", false), &Value::Null, "2026-11-21T10:00:00Z");
        assert_eq!(news(&status("progressing", "5 of 20 requests", false), &old), News::None);
        assert_eq!(news(&status("progressing", "9 of 20 requests", false), &old), News::Words);
        assert_eq!(news(&status("baking", "", false), &old), News::Facts);
        assert_eq!(news(&status("progressing", "5 of 20 requests", true), &old), News::Facts);
    }

    #[test]
    fn a_condition_keeps_the_time_since_which_it_is_so() {
        let first = with_times(status("progressing", "a", false), &Value::Null, "2026-11-21T10:00:00Z");
        let second = with_times(status("baking", "b", false), &first, "2026-11-21T11:00:00Z");
        assert_eq!(second["conditions"][0]["lastTransitionTime"], "2026-11-21T10:00:00Z");
        assert_eq!(second["updated"], "2026-11-21T11:00:00Z");
        let third = with_times(status("succeeded", "", true), &second, "2026-11-21T12:00:00Z");
        assert_eq!(third["conditions"][0]["lastTransitionTime"], "2026-11-21T12:00:00Z");
        assert_eq!(
            patch(&json!({"phase": "x"}), &third)["status"],
            json!({"phase": "x", "reason": null, "conditions": null, "updated": null})
        );
    }

    #[test]
    fn words_become_reasons() {
        assert_eq!(
            [camel_case("rolling-back"), camel_case("traffic share"), camel_case("stuck")],
            ["RollingBack", "TrafficShare", "Stuck"]
        );
    }
}
