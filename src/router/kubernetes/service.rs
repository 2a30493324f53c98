//! A Service's selector: blue-green, all or nothing. Connections that stand stay with the old pods.

use super::layout::{Layout, pointer};
use crate::apiserver::Resource;
use crate::model::Weight;
use serde_json::{Value, json};

pub(super) const RESOURCE: Resource = Resource { api: "v1", kind: "Service", plural: "services" };

#[derive(Debug)]
pub(super) struct Selector {
    /// The label by which the two workloads' pods differ.
    pub(super) label: String,
    /// Its value for each.
    pub(super) values: [String; 2],
}

impl Selector {
    fn path(&self) -> String {
        pointer(&["spec", "selector", &self.label])
    }
}

impl Layout for Selector {
    fn share(&self, object: &Value) -> Result<Weight, String> {
        let [first, second] = &self.values;
        match object.pointer(&self.path()).and_then(Value::as_str) {
            Some(value) if value == first => Ok(Weight::ZERO),
            Some(value) if value == second => Ok(Weight::FULL),
            Some(value) => Err(format!("selects {}={value}, which is neither {first} nor {second}", self.label)),
            None => Err(format!("does not select by label {}: add {0}: {first} to spec.selector", self.label)),
        }
    }

    fn patch(&self, object: &Value, second: Weight) -> Result<Vec<Value>, String> {
        let wanted = match second {
            Weight::ZERO => &self.values[0],
            Weight::FULL => &self.values[1],
            part => return Err(format!("{part} cannot be represented: a selector gives all or nothing, write steps of 0% and 100%")),
        };
        self.share(object)?;
        // the whole selector: another label added to it may select nobody
        let found = object.pointer("/spec/selector").cloned().unwrap_or_default();
        Ok(vec![
            json!({"op": "test", "path": "/spec/selector", "value": found}),
            json!({"op": "replace", "path": self.path(), "value": wanted}),
        ])
    }

    fn field(&self, _object: &Value) -> Option<Vec<String>> {
        Some(vec!["spec".to_owned(), "selector".to_owned()])
    }
}
