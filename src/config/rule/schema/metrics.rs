//! `metrics`: the built-in ones by name, latencies by their quantile, everything else by its keys.

use super::super::{keys, metrics};
use super::{duration, flag, list, mapping, one_of, percentage, says, size, text, whole, words};
use serde_json::{Value, json};

pub(super) fn metrics() -> Value {
    let counts = |keys, needed: &[&str]| metric(keys, needed, &percentage());
    let own = one_of(vec![
        counts(keys::BAD_COUNTS, &["bad", "total"]),
        counts(keys::GOOD_COUNTS, &["good", "total"]),
        metric(keys::GAUGE, &["query"], &json!({ "type": "number" })),
        metric(keys::GAUGE_BELOW, &["query", "lower-is-worse"], &json!({ "type": "number" })),
    ]);
    let all = json!({
        "type": "object",
        "properties": {
            "error-rate": says("Share of requests that fail.", counts(keys::ERRORS, &[])),
            "cpu": says("CPU per request of a pod; limits as cores, or as a share with of.", metric(keys::CPU, &[], &amount(json!({ "type": "number" })))),
            "memory": says("Memory of a pod; limits as sizes, or as shares with of.", metric(keys::MEMORY, &[], &amount(size()))),
            "pod-health": says("Signs of sick pods that the baseline does not show.", pod_health()),
            "memory-leak": says("Is part of memory: write leak: true there.", Value::Bool(false)),
        },
        "patternProperties": { "^latency": says("A latency quantile from latency-p50 to latency-p99.99.", metric(keys::LATENCY, &[], &duration())) },
        "propertyNames": { "pattern": "^(latency-p[0-9.]+|(?!latency)[a-z][a-z0-9-]*)$", "maxLength": 63 },
        "additionalProperties": own,
        "minProperties": 1,
    });
    says("What is measured, how much worse is tolerable, and absolute limits.", all)
}

/// Cores or bytes, or a share of the container's.
fn amount(plain: Value) -> Value {
    json!({ "anyOf": [plain, percentage()] })
}

/// One metric; `limit` is what its limits are written as.
fn metric(keys: &[&str], needed: &[&str], limit: &Value) -> Value {
    let ratio = [keys::CPU, keys::MEMORY, keys::GAUGE, keys::GAUGE_BELOW].contains(&keys) || limit == &duration();
    mapping(keys, needed, |key| match key {
        "tolerate" => says("How much worse than the baseline is tolerable; by sensitivity where it is left out.", tolerate(ratio)),
        "compare" => says("false: only the limits are judged.", flag()),
        "required" => says("It must be shown not worse where proof is asked for.", flag()),
        "promote-below" | "promote-above" => says("No promotion while it is clearly beyond this.", limit.clone()),
        "warn-above" | "warn-below" => says("Tell, when it is beyond this.", limit.clone()),
        "rollback-above" | "rollback-below" => says("Roll back, when it is beyond this.", limit.clone()),
        "page-above" | "page-below" => says("Page, when it is beyond this.", limit.clone()),
        "of" => says("Limits are shares of what the canary's pod asks for (requests) or may use (limits).", words(metrics::OF)),
        "for" => says("How long a limit must be passed.", duration()),
        "load-rule" => says("Compare at comparable load only; true by default.", flag()),
        "leak" => says("Also watch for a floor that rises.", flag()),
        "bad" => says("PromQL selector of the bad events.", text()),
        "good" => says("PromQL selector of the good events.", text()),
        "total" => says("PromQL selector of all events.", text()),
        "query" => says(
            "PromQL of a gauge, with {{workload}} where the arm's matchers go.",
            json!({ "type": "string", "pattern": "\\{\\{workload\\}\\}" }),
        ),
        "lower-is-worse" if keys == keys::GAUGE_BELOW => says("Less is worse.", json!({ "enum": [true, "true"] })),
        "lower-is-worse" => says(
            "Less is worse; then the limits are promote-above, warn-below, rollback-below, page-below.",
            json!({ "enum": [false, "false"] }),
        ),
        _ => Value::Null,
    })
}

fn tolerate(ratio: bool) -> Value {
    let keys = if ratio { keys::TOLERATE_RATIO } else { keys::TOLERATE_COUNTS };
    let mut halves = mapping(keys, &[], |key| match key {
        "relative" => says("Rise relative to the baseline; of the two the larger binds.", percentage()),
        "absolute" => says("Rise in points.", percentage()),
        _ => Value::Null,
    });
    halves["type"] = "object".into();
    halves["minProperties"] = 1.into();
    halves
}

fn pod_health() -> Value {
    let probes = mapping(keys::FAILED_PROBES, keys::FAILED_PROBES, |key| match key {
        "failed-probes" => says("So many failed readiness and liveness probes since the rollout began.", whole(1, metrics::PROBES_MAX)),
        _ => Value::Null,
    });
    mapping(keys::POD_HEALTH, keys::POD_HEALTH, |key| match key {
        "rollback-on" => says("Signs that roll back.", list(one_of(vec![words(metrics::SIGNS), probes.clone()]), 1)),
        _ => Value::Null,
    })
}
