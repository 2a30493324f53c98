//! The sections besides metrics and traffic.

use super::super::{hooks, keys, policies, start, steps, windows};
use super::{duration, list, mapping, name, one_of, percentage, says, text, texts, two, url, whole, words};
use serde_json::{Value, json};

pub(super) fn workloads() -> Value {
    let mut all = mapping(keys::WORKLOADS, &[], |key| match key {
        "namespace" => says("Namespace of workloads that name none.", name()),
        "pair" => says("Two that take turns: the one without traffic is the canary, success swaps their roles.", two(target())),
        "stable" => says("The workload that carries the traffic between rollouts.", target()),
        "canary" => says("The workload on trial.", target()),
        "one" => says("A single Deployment in rolling update: its old and new ReplicaSet.", target()),
        _ => Value::Null,
    });
    all["type"] = "object".into();
    all["oneOf"] = json!([only(&["pair"]), only(&["stable", "canary"]), only(&["one"])]);
    says("What carries the two versions.", all)
}

/// These ways to name the workloads, and none of the others.
fn only(form: &[&str]) -> Value {
    let others = ["pair", "stable", "canary", "one"].into_iter().filter(|key| !form.contains(key));
    let others: Vec<Value> = others.map(|key| json!({ "required": [key] })).collect();
    json!({ "required": form, "not": { "anyOf": others } })
}

/// Any field a pack asks for; the usual ones are offered.
fn target() -> Value {
    let usual = keys::TARGET
        .iter()
        .map(|field| ((*field).to_owned(), says(&format!("The workload's {field}, where a pack or router asks for it."), text())));
    json!({
        "type": "object",
        "properties": usual.collect::<serde_json::Map<_, _>>(),
        "additionalProperties": text(),
        "propertyNames": { "pattern": "^[a-z0-9_-]+$" },
        "minProperties": 1,
    })
}

pub(super) fn telemetry() -> Value {
    let pack = mapping(keys::TELEMETRY, &["pack"], |key| match key {
        "pack" => says("Name of the query pack.", text()),
        "params" => says("Parameters that override the pack's.", texts(0)),
        "variant" => says("Variant of the pack; the first whose series exist where it is left out.", text()),
        "arm" => says("How the arms are told apart: label to value, with the workload's fields in braces.", texts(0)),
        "extra" => says("Further PromQL matchers, without braces.", json!({ "type": "string", "pattern": "^[^{}]*=[^{}]*$" })),
        "scrape" => says("Metrics pages to read directly instead of asking Prometheus.", list(url(), 0)),
        _ => Value::Null,
    });
    says("Query packs: which counters give the metrics on this stack, in order of preference.", list(one_of(vec![text(), pack]), 1))
}

pub(super) fn steps() -> Value {
    let mut step = mapping(keys::STEP, &["weight"], |key| match key {
        "weight" => says("The canary's share, in steps of 0.1%.", percentage()),
        "for" => says("How long a step below 100% lasts.", duration()),
        "bake" => says("How long 100% is watched.", duration()),
        _ => Value::Null,
    });
    step["oneOf"] = json!([{ "required": ["for"] }, { "required": ["bake"] }]);
    says("Shares and times; weights never fall.", json!({ "type": "array", "items": step, "minItems": 1, "maxItems": 100 }))
}

pub(super) fn promotion() -> Value {
    let swap = mapping(keys::SWAP, &[], |key| match key {
        "keep" => says("How long the old version keeps its replicas; 24h by default.", duration()),
        "idle-replicas" => says("Replicas of the old version after that; without it nothing is scaled.", whole(0, steps::IDLE_MAX)),
        _ => Value::Null,
    });
    let external = mapping(keys::EXTERNAL, &[], |key| match key {
        "promote-within" => says("How long somebody else may take to make stable equal; 24h by default.", duration()),
        _ => Value::Null,
    });
    let tagged = |word: &str, what: &str, object: Value| json!({ "type": "object", "properties": { word: says(what, object) }, "required": [word], "additionalProperties": false });
    let forms = vec![
        json!({ "enum": steps::PROMOTIONS }),
        tagged("swap", "The roles change, nothing is copied.", swap),
        tagged("external", "Wait at 100% until somebody else has made stable equal, then shift back.", external),
    ];
    says("After the last step: swap (default of a pair), copy (of stable and canary), external or leave.", one_of(forms))
}

pub(super) fn policies() -> Value {
    let hold = |what: &str| {
        let policy = mapping(keys::HOLD_THEN, &[], |key| match key {
            "hold" => says("Hold so long ...", duration()),
            "then" => says("... and then ask (pause and notify), roll back, or go on holding.", words(policies::THEN)),
            _ => Value::Null,
        });
        says(what, policy)
    };
    let all = mapping(keys::POLICIES, &[], |key| match key {
        "blind" => hold("Nothing can be seen; 10m, then ask."),
        "blind-canary" => hold("The canary's series are missing though the baseline's are there; as blind where it is left out."),
        "undecided" => hold("Evidence is still missing when the step's time is over; 30m, then ask."),
        "shared" => says("Both versions suffer; hold by default.", words(policies::SHARED)),
        "vanished" => says("The canary's requests do not come back; roll-back by default.", words(policies::VANISHED)),
        "foreign" => says("Another hand moved the weight: write ours again (default), or pause.", words(policies::FOREIGN)),
        _ => Value::Null,
    });
    says("What to do when judging is not possible.", all)
}

pub(super) fn start() -> Value {
    let role = json!({ "type": ["string", "number"], "pattern": "^[A-Za-z0-9._@-]{1,64}$" });
    let all = mapping(keys::START, &[], |key| match key {
        "when" => {
            says("manual (CLI, API, webhook; the default), or a new pod template of the workload without traffic.", words(start::WHEN))
        }
        "first" => says("The first rollout, without a baseline: give it all the traffic (default), or refuse.", words(start::FIRST)),
        "approvals" => says(
            "Roles that must approve, each by another person.",
            json!({ "type": "array", "items": role.clone(), "uniqueItems": true, "maxItems": 10 }),
        ),
        _ => Value::Null,
    });
    says("What begins a rollout, and who must agree.", all)
}

pub(super) fn hooks() -> Value {
    let hook = |after: bool| {
        let object = mapping(keys::HOOK, &["url"], |key| match key {
            "url" => says("The address to POST to.", url()),
            "timeout" => says("How long the rollout waits for a yes; 1m by default.", duration()),
            "on-fail" if after => says("Has no place here: the rollout is over by then.", Value::Bool(false)),
            "on-fail" => says("What a no does, or none in time: ask by default, before the promotion roll-back.", words(hooks::ON_FAIL)),
            _ => Value::Null,
        });
        one_of(vec![url(), object])
    };
    let all = mapping(keys::HOOKS, &[], |key| match key {
        "before-start" => says("Before the first weight: any 2xx lets it pass.", hook(false)),
        "before-step" => says("Before every step up but the first.", hook(false)),
        "before-promotion" => says("After the last step, before the promotion.", hook(false)),
        "after-promotion" => says("When it has succeeded: told, never waited for.", hook(true)),
        "after-rollback" => says("When it was rolled back: told, never waited for.", hook(true)),
        _ => Value::Null,
    });
    says("Addresses that are POSTed to on the way.", all)
}

pub(super) fn windows() -> Value {
    let dates = mapping(keys::DATES, keys::DATES, |key| match key {
        "dates" => says("A file beside the rule: one date or range on each line, # begins a comment.", text()),
        _ => Value::Null,
    });
    let words_or_file = || {
        let words = json!({ "type": "string", "minLength": 1, "examples": [
            "Fri", "Mon-Fri", "weekends", "Thu 18:00-20:00", "22:00-02:00", "2026-12-25", "2026-11-23..2026-11-30",
            "last 7 days of quarter", "last day of month",
        ] });
        list(one_of(vec![words, dates.clone()]), 1)
    };
    let zone =
        json!({ "type": "string", "pattern": "^(UTC|[A-Za-z_]+/\\S+)$", "examples": ["Europe/Berlin", "America/Los_Angeles", "UTC"] });
    let mut all = mapping(keys::WINDOWS, &["timezone"], |key| match key {
        "timezone" => says("IANA name of the zone whose civil time is meant.", zone.clone()),
        "allow" => says("A rollout starts inside one of these, with room for all its steps.", words_or_file()),
        "deny" => says("No start and no step up inside any of these; a rollback is never delayed.", words_or_file()),
        "at-end" => says("What the end of an allowed window does to a running rollout; finish by default.", words(windows::AT_END)),
        _ => Value::Null,
    });
    all["anyOf"] = json!([{ "required": ["allow"] }, { "required": ["deny"] }]);
    all["dependencies"] = json!({ "at-end": ["allow"] });
    says("When it may start and go up.", all)
}

pub(super) fn alerts() -> Value {
    let mut labels = texts(1);
    labels["propertyNames"] = json!({ "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" });
    let all = mapping(keys::ALERTS, keys::ALERTS, |key| match key {
        "match" => says(
            "Labels to values, all of them; or a list of such sets, any of them.",
            one_of(vec![labels.clone(), list(labels.clone(), 1)]),
        ),
        _ => Value::Null,
    });
    says("Which alerts of an Alertmanager concern it; those that name one of its workloads where it is left out.", all)
}
