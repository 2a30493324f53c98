//! Gateway API's HTTPRoute and GRPCRoute: weights of the two `backendRefs` of one rule. What the gateways say about the route is
//! listened to: a backend they cannot resolve still gets its share, as errors.

use super::layout::{Choice, Entry, Layout, Taken, WeightedList, items, places, same_entry, text};
use crate::apiserver::Resource;
use crate::model::Weight;
use serde_json::Value;

pub(super) const HTTP_ROUTE: Resource = Resource { api: "gateway.networking.k8s.io/v1", kind: "HTTPRoute", plural: "httproutes" };
pub(super) const GRPC_ROUTE: Resource = Resource { api: "gateway.networking.k8s.io/v1", kind: "GRPCRoute", plural: "grpcroutes" };

/// Conditions that must not be false.
const NEEDED: [&str; 2] = ["Accepted", "ResolvedRefs"];

#[derive(Debug)]
pub(super) struct GatewayRoute {
    pub(super) rule: Option<String>,
    pub(super) backends: [String; 2],
}

impl GatewayRoute {
    fn is(&self, entry: &Value, side: usize) -> bool {
        text(entry, "name") == Some(&self.backends[side]) && text(entry, "kind").is_none_or(|kind| kind == "Service")
    }

    fn entry<'a>(&self, rule: &'a Value) -> Entry<'a> {
        let backends = items(rule, "/backendRefs");
        Entry {
            name: text(rule, "name"),
            fits: places(backends, |entry, side| self.is(entry, side)).is_some(),
            special: items(rule, "/matches").iter().any(|m| m.get("headers").is_some() || m.get("queryParams").is_some()),
            sends_to: backends.iter().map(|b| text(b, "name").unwrap_or("?").to_owned()).collect(),
        }
    }

    fn find<'a>(&self, object: &'a Value) -> Result<(usize, WeightedList<'a>), String> {
        let rules = items(object, "/spec/rules");
        let choice = Choice {
            list: "spec.rules",
            key: "rule",
            wanted: self.backends.join(" and "),
            entries: rules.iter().map(|rule| self.entry(rule)).collect(),
        };
        let at = choice.pick(self.rule.as_deref())?;
        let list = &rules[at]["backendRefs"];
        let places = places(items(&rules[at], "/backendRefs"), |entry, side| self.is(entry, side)).ok_or("it has no two backends")?;
        Ok((at, WeightedList { path: format!("/spec/rules/{at}/backendRefs"), list, places, unset: 1 }))
    }
}

impl Layout for GatewayRoute {
    fn share(&self, object: &Value) -> Result<Weight, String> {
        self.find(object)?.1.share()
    }

    fn patch(&self, object: &Value, second: Weight) -> Result<Vec<Value>, String> {
        let (at, list) = self.find(object)?;
        let mut operations = same_entry(object, &format!("/spec/rules/{at}"), "matches");
        operations.extend(list.patch(second)?);
        Ok(operations)
    }

    fn entry_name(&self) -> Option<&str> {
        self.rule.as_deref()
    }

    fn field(&self, _object: &Value) -> Option<Vec<String>> {
        Some(["spec", "rules"].map(str::to_owned).to_vec())
    }

    fn sound(&self, object: &Value) -> Result<(), String> {
        match false_condition(object) {
            Some(why) => Err(why),
            None if parents(object).next().is_none() => {
                Err("no gateway has accepted this route (status.parents has none of spec.parentRefs)".to_owned())
            }
            None => Ok(()),
        }
    }

    fn taken(&self, object: &Value) -> Taken {
        let generation = object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
        // a controller need not say which generation it speaks of: then its word is all there is
        let seen = |c: &Value| c.get("observedGeneration").and_then(Value::as_i64).is_none_or(|seen| seen >= generation);
        let behind = conditions(object).find(|(_, c)| NEEDED.contains(&text(c, "type").unwrap_or("")) && !seen(c));
        match (behind, false_condition(object)) {
            (Some((parent, _)), _) => Taken::NotYet(format!("gateway {parent} has not taken generation {generation} of the route")),
            (None, Some(why)) => Taken::No(why),
            (None, None) => Taken::Yes,
        }
    }
}

/// What those say of the route that it asks for. The word of another stays when its controller is gone, and nobody renews it.
fn parents(object: &Value) -> impl Iterator<Item = &Value> {
    let wanted = items(object, "/spec/parentRefs");
    let asked_for = move |found: &&Value| wanted.iter().any(|wanted| is_parent(object, wanted, &found["parentRef"]));
    items(object, "/status/parents").iter().filter(asked_for)
}

/// Both name one parent: what is left out is what it is by default, and a listener (section, port) left out is every one.
fn is_parent(object: &Value, wanted: &Value, found: &Value) -> bool {
    let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or("");
    let whole = [("group", "gateway.networking.k8s.io"), ("kind", "Gateway"), ("namespace", namespace), ("name", "")];
    let part = |key: &str| match (wanted.get(key), found.get(key)) {
        (Some(wanted), Some(found)) => wanted == found,
        _ => true,
    };
    let is = |key: &str, default| text(wanted, key).unwrap_or(default) == text(found, key).unwrap_or(default);
    whole.into_iter().all(|(key, default)| is(key, default)) && ["sectionName", "port"].into_iter().all(part)
}

/// Their conditions, with the parent's name.
fn conditions(object: &Value) -> impl Iterator<Item = (&str, &Value)> {
    parents(object).flat_map(|parent| {
        let name = parent.pointer("/parentRef/name").and_then(Value::as_str).unwrap_or("?");
        items(parent, "/conditions").iter().map(move |condition| (name, condition))
    })
}

/// A needed condition that is false, in words.
fn false_condition(object: &Value) -> Option<String> {
    let is_false = |c: &Value| NEEDED.contains(&text(c, "type").unwrap_or("")) && text(c, "status") == Some("False");
    let (parent, condition) = conditions(object).find(|(_, c)| is_false(c))?;
    let [kind, reason, message] = ["type", "reason", "message"].map(|key| text(condition, key).unwrap_or("?"));
    Some(format!("gateway {parent} says {kind}: False, {reason}: {message}"))
}
