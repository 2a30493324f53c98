//! Istio's VirtualService: weights of the two destinations of one entry of `spec.http`. First match wins there, so which entry is
//! meant matters; `tcp` and `tls` entries are not touched.

use super::layout::{Choice, Entry, Layout, WeightedList, items, places, same_entry, text};
use crate::apiserver::Resource;
use crate::model::Weight;
use crate::model::rule::IstioDestination;
use serde_json::Value;

pub(super) const RESOURCE: Resource = Resource { api: "networking.istio.io/v1", kind: "VirtualService", plural: "virtualservices" };

/// Conditions by which an entry is for some requests only.
const SPECIAL: [&str; 3] = ["headers", "withoutHeaders", "queryParams"];

#[derive(Debug)]
pub(super) struct VirtualService {
    pub(super) route: Option<String>,
    pub(super) destinations: [IstioDestination; 2],
    /// What short host names are short for.
    pub(super) namespace: String,
}

impl VirtualService {
    fn is(&self, entry: &Value, side: usize) -> bool {
        let wanted = &self.destinations[side];
        let destination = entry.get("destination").unwrap_or(&Value::Null);
        let host = |name: &str| full_name(name, &self.namespace);
        wanted.subset.as_deref().is_none_or(|subset| text(destination, "subset") == Some(subset))
            && wanted.host.as_deref().is_none_or(|wanted| text(destination, "host").is_some_and(|found| host(found) == host(wanted)))
    }

    fn entry<'a>(&self, http: &'a Value) -> Entry<'a> {
        let route = items(http, "/route");
        Entry {
            name: text(http, "name"),
            fits: places(route, |entry, side| self.is(entry, side)).is_some(),
            special: items(http, "/match").iter().any(|m| SPECIAL.iter().any(|key| m.get(key).is_some())),
            sends_to: route.iter().map(told).collect(),
        }
    }

    /// Position of the entry, and its destinations.
    fn find<'a>(&self, object: &'a Value) -> Result<(usize, WeightedList<'a>), String> {
        let http = items(object, "/spec/http");
        let [first, second] = &self.destinations;
        let choice = Choice {
            list: "spec.http",
            key: "route",
            wanted: format!("{first} and {second}"),
            entries: http.iter().map(|entry| self.entry(entry)).collect(),
        };
        let at = choice.pick(self.route.as_deref())?;
        let list = &http[at]["route"];
        let places = places(items(&http[at], "/route"), |entry, side| self.is(entry, side)).ok_or("it has no two destinations")?;
        Ok((at, WeightedList { path: format!("/spec/http/{at}/route"), list, places, unset: 0 }))
    }
}

impl Layout for VirtualService {
    fn share(&self, object: &Value) -> Result<Weight, String> {
        self.find(object)?.1.share()
    }

    fn patch(&self, object: &Value, second: Weight) -> Result<Vec<Value>, String> {
        let (at, list) = self.find(object)?;
        let mut operations = same_entry(object, &format!("/spec/http/{at}"), "match");
        operations.extend(list.patch(second)?);
        Ok(operations)
    }

    fn entry_name(&self) -> Option<&str> {
        self.route.as_deref()
    }

    fn field(&self, _object: &Value) -> Option<Vec<String>> {
        Some(["spec", "http"].map(str::to_owned).to_vec())
    }
}

/// A destination, for an operator.
fn told(entry: &Value) -> String {
    let destination = entry.get("destination").unwrap_or(&Value::Null);
    let host = text(destination, "host").unwrap_or("?");
    text(destination, "subset").map_or_else(|| host.to_owned(), |subset| format!("{host} subset {subset}"))
}

/// `reviews` and `reviews.prod.svc.cluster.local` are the same host within the namespace.
fn full_name(host: &str, namespace: &str) -> String {
    if host.contains('.') { host.to_owned() } else { format!("{host}.{namespace}.svc.cluster.local") }
}
