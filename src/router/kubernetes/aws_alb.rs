//! AWS Load Balancer Controller: a forward action in an annotation of the Ingress, itself JSON. Only the two weights in it change;
//! keys we do not know and the stickiness stay as they are.

use super::layout::{Layout, items, places, pointer, text};
use super::nginx_ingress::annotation;
use crate::model::Weight;
use crate::router::share::{parts, second_share};
use serde_json::{Value, json};

const ACTIONS: &str = "alb.ingress.kubernetes.io/actions.";
/// Of both weights: 999 is the most a target group may have.
const TOTAL: u64 = 100;
const GROUPS: &str = "/forwardConfig/targetGroups";

#[derive(Debug)]
pub(super) struct Action {
    /// The annotation's last part; `None` = the only one that forwards to exactly both.
    pub(super) action: Option<String>,
    /// Names of the Services, or ARNs of the target groups.
    pub(super) services: [String; 2],
}

/// The annotation and what it says.
struct Found {
    key: String,
    written: String,
    action: Value,
    places: [usize; 2],
}

impl Action {
    fn is(&self, group: &Value, side: usize) -> bool {
        ["serviceName", "targetGroupARN"].iter().any(|key| text(group, key) == Some(&self.services[side]))
    }

    fn find(&self, object: &Value) -> Result<Found, String> {
        if let Some(action) = &self.action {
            let key = format!("{ACTIONS}{action}");
            let written = annotation(object, &key).ok_or_else(|| format!("has no annotation {key}"))?;
            return self.read(&key, written);
        }
        let annotations = object.pointer("/metadata/annotations").and_then(Value::as_object);
        let actions = annotations.into_iter().flatten().filter(|(key, _)| key.starts_with(ACTIONS));
        let mut read: Vec<_> = actions.map(|(key, value)| self.read(key, value.as_str().unwrap_or(""))).collect();
        let fit = read.iter().filter(|r| r.is_ok()).count();
        match (fit, read.iter().position(Result::is_ok)) {
            (1, Some(at)) => read.swap_remove(at),
            (0, _) => {
                let why: Vec<String> = read.into_iter().filter_map(Result::err).collect();
                let why = if why.is_empty() { "there is none".to_owned() } else { why.join("; ") };
                Err(format!("no annotation {ACTIONS}* forwards to exactly {}: {why}", self.services.join(" and ")))
            }
            _ => Err(format!("ambiguous: {fit} annotations {ACTIONS}* forward to both: name one in the rule with action")),
        }
    }

    fn read(&self, key: &str, written: &str) -> Result<Found, String> {
        let action: Value = serde_json::from_str(written).map_err(|e| format!("annotation {key} is no JSON: {e}"))?;
        let groups = items(&action, GROUPS);
        let places = places(groups, |group, side| self.is(group, side)).ok_or_else(|| {
            let name = |g: &Value| text(g, "serviceName").or_else(|| text(g, "targetGroupARN")).unwrap_or("?").to_owned();
            let names: Vec<String> = groups.iter().map(name).collect();
            format!("annotation {key} forwards to [{}] and not to exactly {}", names.join(", "), self.services.join(" and "))
        })?;
        Ok(Found { key: key.to_owned(), written: written.to_owned(), action, places })
    }
}

impl Found {
    fn weights(&self) -> Result<[u64; 2], String> {
        let of = |place: usize| match self.action.pointer(&format!("{GROUPS}/{place}/weight")) {
            None | Some(Value::Null) => Ok(1),
            Some(weight) => weight.as_u64().ok_or_else(|| format!("annotation {} has the weight {weight}", self.key)),
        };
        Ok([of(self.places[0])?, of(self.places[1])?])
    }
}

impl Layout for Action {
    fn share(&self, object: &Value) -> Result<Weight, String> {
        let found = self.find(object)?;
        second_share(found.weights()?).ok_or_else(|| format!("annotation {} gives both the weight 0", found.key))
    }

    fn patch(&self, object: &Value, second: Weight) -> Result<Vec<Value>, String> {
        let mut found = self.find(object)?;
        let numbers = parts(second, TOTAL).ok_or_else(|| format!("{second} is no whole percent: an ALB has weights of 0 to 999"))?;
        for (place, number) in found.places.into_iter().zip(numbers) {
            let group = found.action.pointer_mut(&format!("{GROUPS}/{place}")).and_then(Value::as_object_mut);
            group.ok_or("a target group that is no mapping")?.insert("weight".to_owned(), number.into());
        }
        let path = pointer(&["metadata", "annotations", &found.key]);
        Ok(vec![
            json!({"op": "test", "path": path, "value": found.written}),
            json!({"op": "replace", "path": path, "value": found.action.to_string()}),
        ])
    }

    fn entry_name(&self) -> Option<&str> {
        self.action.as_deref()
    }

    fn field(&self, object: &Value) -> Option<Vec<String>> {
        Some(vec!["metadata".to_owned(), "annotations".to_owned(), self.find(object).ok()?.key])
    }
}
