//! Traefik's TraefikService with weighted services.

use super::layout::{Layout, WeightedList, items, places, text};
use crate::apiserver::Resource;
use crate::model::Weight;
use serde_json::Value;

pub(super) const RESOURCE: Resource = Resource { api: "traefik.io/v1alpha1", kind: "TraefikService", plural: "traefikservices" };

const SERVICES: &str = "/spec/weighted/services";

#[derive(Debug)]
pub(super) struct TraefikService {
    pub(super) services: [String; 2],
}

impl TraefikService {
    fn find<'a>(&self, object: &'a Value) -> Result<WeightedList<'a>, String> {
        let found = items(object, SERVICES);
        let places = places(found, |entry, side| text(entry, "name") == Some(&self.services[side])).ok_or_else(|| {
            let names: Vec<&str> = found.iter().map(|s| text(s, "name").unwrap_or("?")).collect();
            format!("spec.weighted.services is [{}] and not exactly {}", names.join(", "), self.services.join(" and "))
        })?;
        Ok(WeightedList { path: SERVICES.to_owned(), list: &object["spec"]["weighted"]["services"], places, unset: 1 })
    }
}

impl Layout for TraefikService {
    fn share(&self, object: &Value) -> Result<Weight, String> {
        self.find(object)?.share()
    }

    fn patch(&self, object: &Value, second: Weight) -> Result<Vec<Value>, String> {
        self.find(object)?.patch(second)
    }

    fn field(&self, _object: &Value) -> Option<Vec<String>> {
        Some(["spec", "weighted", "services"].map(str::to_owned).to_vec())
    }
}
