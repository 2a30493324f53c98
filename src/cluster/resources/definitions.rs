//! The custom resource definitions, made from code: what `canaryd crds` prints and what is shipped under `deploy/`.

use super::{GROUP, ROLLOUT, RULE, VERSION};
use crate::apiserver::Resource;
use serde_json::{Value, json};

/// What `kubectl get` shows of a rule.
const RULE_COLUMNS: [Column; 7] = [
    ("Accepted", "string", ".status.conditions[?(@.type==\"Accepted\")].status", false),
    ("Reason", "string", ".status.conditions[?(@.type==\"Accepted\")].reason", false),
    ("Ready", "string", ".status.conditions[?(@.type==\"Ready\")].status", false),
    ("Rollout", "string", ".status.rollout", false),
    ("Waiting", "string", ".status.waiting.version", false),
    ("Needs", "string", ".status.conditions[?(@.type==\"Ready\")].message", true),
    ("Message", "string", ".status.conditions[?(@.type==\"Accepted\")].message", true),
];
/// What `kubectl get` shows of a rollout.
const ROLLOUT_COLUMNS: [Column; 8] = [
    ("Rule", "string", ".spec.rule", false),
    // or the weight would be taken for one that was written
    ("Mode", "string", ".status.mode", false),
    ("Phase", "string", ".status.phase", false),
    ("Step", "string", ".status.step", false),
    ("Weight", "string", ".status.weight", false),
    ("Verdict", "string", ".status.verdict", false),
    ("Version", "string", ".status.version", true),
    ("Reason", "string", ".status.reason", true),
];

/// Name, type, path, and whether only `-o wide` shows it.
type Column = (&'static str, &'static str, &'static str, bool);

/// How a kind is called.
struct Names {
    resource: Resource,
    singular: &'static str,
    /// One that no kind of Kubernetes, Istio, Gateway API, Traefik, Argo Rollouts or Flagger has.
    short: &'static str,
}

/// Both definitions; `rule_spec` is the structural schema of a rule.
pub fn definitions(rule_spec: Value) -> [Value; 2] {
    let rule = Names { resource: RULE, singular: "canaryrule", short: "crule" };
    let rollout = Names { resource: ROLLOUT, singular: "canaryrollout", short: "cro" };
    let says = "How the canaries of one service are judged and moved: the text of a rule file, named by the object. It names workloads and \
                routes of its own namespace, and no file of canaryd's, unless canaryd's settings allow more.";
    let of_rule = described(says, rule_spec);
    let of_rollout = "One rollout, as canaryd shows it. Nothing reads it: people's words go to the command line or the API.";
    [
        definition(&rule, &RULE_COLUMNS, of_rule, &rule_status()),
        definition(&rollout, &ROLLOUT_COLUMNS, described(of_rollout, rollout_spec()), &rollout_status()),
    ]
}

fn definition(names: &Names, columns: &[Column], (says, spec): (&str, Value), status: &Value) -> Value {
    let Resource { kind, plural, .. } = names.resource;
    let schema = json!({
        "description": says,
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": { "type": "string" },
            "kind": { "type": "string" },
            // a rule's name is at most this long, and so is the value of a label
            "metadata": { "type": "object", "properties": { "name": { "type": "string", "maxLength": 63 } } },
            "spec": spec,
            "status": status,
        },
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.{GROUP}"), "labels": { "app.kubernetes.io/name": "canaryd" } },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": format!("{kind}List"),
                "plural": plural,
                "singular": names.singular,
                "shortNames": [names.short],
                "categories": ["canaryd"],
            },
            "versions": [{
                "name": VERSION,
                "served": true,
                "storage": true,
                "subresources": { "status": {} },
                "additionalPrinterColumns": printed(columns),
                "schema": { "openAPIV3Schema": schema },
            }],
        },
    })
}

fn printed(columns: &[Column]) -> Vec<Value> {
    let column = |(name, kind, path, wide): &Column| {
        let priority = i32::from(*wide);
        json!({ "name": name, "type": kind, "jsonPath": path, "priority": priority })
    };
    let age = json!({ "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp", "priority": 0 });
    columns.iter().map(column).chain([age]).collect()
}

fn described(says: &'static str, schema: Value) -> (&'static str, Value) {
    (says, schema)
}

fn rule_status() -> Value {
    json!({ "type": "object", "properties": {
        "conditions": conditions(),
        "observedGeneration": whole("Generation of the spec that was read last."),
        "rollout": text("Name of the running or last rollout."),
        "waiting": {
            "description": "The release that no rollout is started for as yet.",
            "type": "object",
            "properties": {
                "version": text("What it is called."),
                "since": { "description": "Since when.", "type": "string", "format": "date-time" },
                "why": text("What it waits for, in a sentence."),
            },
        },
    }})
}

fn rollout_spec() -> Value {
    json!({ "type": "object", "required": ["rule"], "properties": { "rule": text("Name of the rule.") } })
}

fn rollout_status() -> Value {
    let time = |says: &str| json!({ "description": says, "type": "string", "format": "date-time" });
    json!({ "type": "object", "properties": {
        "phase": text("Where it stands: waiting, progressing, baking, promoting, succeeded, rolling-back, rolled-back, paused, stuck, superseded."),
        "step": text("Step in force, of how many."),
        "weight": text("Share of the traffic that the canary is meant to have."),
        "verdict": text("pass, fail, undecided or blind."),
        "reason": text("Why it rolls back or does not go on, in a sentence."),
        "baseline": text("The workload that carries the traffic."),
        "canary": text("The workload on trial."),
        "version": text("The version on trial."),
        "mode": text("enforce, or observe."),
        "started": time("When it was opened."),
        "updated": time("When it was decided last what is shown here."),
        "observedGeneration": whole("Generation of the spec this is about."),
        "conditions": conditions(),
    }})
}

fn text(says: &str) -> Value {
    json!({ "description": says, "type": "string" })
}

fn whole(says: &str) -> Value {
    json!({ "description": says, "type": "integer", "format": "int64" })
}

/// In the shape all of Kubernetes uses.
fn conditions() -> Value {
    let condition = json!({
        "type": "object",
        "required": ["type", "status", "lastTransitionTime", "reason", "message"],
        "properties": {
            "type": { "type": "string", "maxLength": 316 },
            "status": { "type": "string", "enum": ["True", "False", "Unknown"] },
            "observedGeneration": { "type": "integer", "format": "int64", "minimum": 0 },
            "lastTransitionTime": { "type": "string", "format": "date-time" },
            "reason": { "type": "string", "maxLength": 1024, "minLength": 1 },
            "message": { "type": "string", "maxLength": 32768 },
        },
    });
    json!({ "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"], "items": condition })
}
