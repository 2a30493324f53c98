//! What stands below `status`, and when it is worth a write. Times are put in last: that it is now another moment is no change.

use serde_json::{Map, Value, json};
use std::hash::{DefaultHasher, Hash, Hasher};

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

/// What two statuses are compared by: numbers that are equal where they say the same. Times never count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Print {
    all: u64,
    /// Of what are no sentences.
    facts: u64,
}

impl Print {
    pub(super) fn of(status: &Value) -> Self {
        Self { all: print(status, false), facts: print(status, true) }
    }

    /// What `new` says that this does not.
    pub(super) fn news(&self, new: &Self) -> News {
        match () {
            () if self.all == new.all => News::None,
            () if self.facts == new.facts => News::Words,
            () => News::Facts,
        }
    }
}

/// Fields may stand in any order.
fn print(status: &Value, without_words: bool) -> u64 {
    let dropped =
        |key: &str| matches!(key, "updated" | "lastTransitionTime") || (without_words && matches!(key, "reason" | "message" | "why"));
    match status {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(key, value)| !value.is_null() && !dropped(key));
            kept.map(|(key, value)| hash((key, print(value, without_words)))).fold(1, u64::wrapping_add)
        }
        Value::Array(items) => hash(items.iter().map(|item| print(item, without_words)).collect::<Vec<_>>()),
        plain => hash(plain),
    }
}

fn hash(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
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

    fn news(new: &Value, old: &Value) -> News {
        Print::of(old).news(&Print::of(new))
    }

    #[test]
    fn the_order_of_fields_is_no_news_and_that_of_conditions_is() {
        let of = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let status = of(r#"{"phase": "a", "step": "1/2", "none": null, "conditions": [{"type": "x"}, {"type": "y"}]}"#);
        assert_eq!(news(&status, &of(r#"{"conditions": [{"type": "x"}, {"type": "y"}], "step": "1/2", "phase": "a"}"#)), News::None);
        assert_eq!(news(&status, &of(r#"{"conditions": [{"type": "y"}, {"type": "x"}], "step": "1/2", "phase": "a"}"#)), News::Facts);
        assert_eq!(news(&status, &of(r#"{"conditions": [{"type": "x"}, {"type": "y"}], "step": "a", "phase": "1/2"}"#)), News::Facts);
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
