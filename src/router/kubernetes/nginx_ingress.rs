//! ingress-nginx: annotations of a second Ingress for the same host and path, the canary's. Requests it chooses by header or cookie
//! go before the weight, and are left alone.

use super::layout::{Layout, as_read, items, pointer};
use crate::apiserver::Resource;
use crate::model::Weight;
use crate::router::share::{parts, second_share};
use serde_json::{Value, json};

pub(super) const RESOURCE: Resource = Resource { api: "networking.k8s.io/v1", kind: "Ingress", plural: "ingresses" };

const CANARY: &str = "nginx.ingress.kubernetes.io/canary";
const WEIGHT: &str = "nginx.ingress.kubernetes.io/canary-weight";
const TOTAL: &str = "nginx.ingress.kubernetes.io/canary-weight-total";
/// What it is without an annotation.
const TOTAL_DEFAULT: u64 = 100;

#[derive(Debug)]
pub(super) struct CanaryIngress {
    /// Services of the workloads, if the rule names them: which of them this Ingress leads to. `None`: to the second's.
    pub(super) services: Option<[String; 2]>,
    /// The total the rule asks for; `None`: the one that is there.
    pub(super) weight_total: Option<u32>,
}

/// What it says.
struct Found {
    weight: u64,
    total: u64,
    /// It leads to the second workload.
    second: bool,
}

impl CanaryIngress {
    fn find(&self, object: &Value) -> Result<Found, String> {
        match annotation(object, CANARY) {
            Some("true") => {}
            other => return Err(format!("is no canary Ingress: annotation {CANARY} is {other:?} and not \"true\"")),
        }
        let weight = number(object, WEIGHT)?.unwrap_or(0);
        let total = number(object, TOTAL)?.unwrap_or(TOTAL_DEFAULT);
        if total == 0 || weight > total {
            return Err(format!("canary-weight {weight} of canary-weight-total {total} is no share"));
        }
        Ok(Found { weight, total, second: self.leads_to_second(object)? })
    }

    /// All that a number's meaning hangs on: the same weight of another total, or of an Ingress that leads elsewhere, is another share.
    fn read_from(&self) -> Vec<String> {
        let services = self.services.is_some().then(|| "/spec/rules".to_owned());
        [CANARY, WEIGHT, TOTAL].map(annotated).into_iter().chain(services).collect()
    }

    fn leads_to_second(&self, object: &Value) -> Result<bool, String> {
        let Some([first, second]) = &self.services else { return Ok(true) };
        let paths = items(object, "/spec/rules").iter().flat_map(|rule| items(rule, "/http/paths"));
        let names: Vec<&str> = paths.filter_map(|path| path.pointer("/backend/service/name").and_then(Value::as_str)).collect();
        let all = |service: &str| !names.is_empty() && names.iter().all(|name| *name == service);
        match (all(first), all(second)) {
            (false, true) => Ok(true),
            (true, false) => Ok(false),
            _ => Err(format!("leads to [{}] and not to one of {first} and {second}", names.join(", "))),
        }
    }
}

impl Layout for CanaryIngress {
    fn share(&self, object: &Value) -> Result<Weight, String> {
        let Found { weight, total, second } = self.find(object)?;
        let rest = total - weight;
        let share = second_share(if second { [rest, weight] } else { [weight, rest] });
        share.ok_or_else(|| "has a canary-weight-total of 0".to_owned())
    }

    fn patch(&self, object: &Value, second: Weight) -> Result<Vec<Value>, String> {
        let found = self.find(object)?;
        let total = self.weight_total.map_or(found.total, u64::from);
        let [rest, share] = parts(second, total).ok_or_else(|| {
            format!("{second} is no whole number of canary-weight-total {total}: write weight-total: 1000 in the rule for finer steps")
        })?;
        let mut operations: Vec<Value> = as_read(object, &self.read_from()).collect();
        let mut set = |key: &str, value: u64| operations.push(json!({"op": "add", "path": annotated(key), "value": value.to_string()}));
        set(WEIGHT, if found.second { share } else { rest });
        if total != found.total {
            set(TOTAL, total);
        }
        Ok(operations)
    }

    fn field(&self, _object: &Value) -> Option<Vec<String>> {
        Some(["metadata", "annotations", WEIGHT].map(str::to_owned).to_vec())
    }
}

fn annotated(key: &str) -> String {
    pointer(&["metadata", "annotations", key])
}

pub(super) fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.pointer(&annotated(key)).and_then(Value::as_str)
}

fn number(object: &Value, key: &str) -> Result<Option<u64>, String> {
    let Some(text) = annotation(object, key) else { return Ok(None) };
    text.trim().parse().map(Some).map_err(|_| format!("annotation {key} is {text:?} and no number"))
}
