//! Pod templates as plain JSON: which two are the same, and what an API server makes of one.

use super::{CallError, Object};
use crate::model::Fnv;
use serde_json::{Value, json};

/// Where a Deployment has it.
const TEMPLATE: &str = "/spec/template";

/// Added to every ReplicaSet's template and its pods by the Deployment controller.
pub const HASH_LABEL: &str = "pod-template-hash";

/// The template without what the Deployment controller adds to a ReplicaSet's copy of it.
pub fn bare(mut template: Value) -> Value {
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.shift_remove(HASH_LABEL);
    }
    template
}

/// Identity of a template: equal for a Deployment's and its ReplicaSet's copy, whatever the order of keys, and whether a field without
/// a value is `null` or left out (API servers differ). FNV-1a 64: which text it is, not whether anybody meant to forge it.
pub fn identity(template: &Value) -> String {
    let mut hash = Fields(Fnv::new());
    feed(&mut hash, template);
    format!("{:016x}", hash.0.value())
}

/// Has a Deployment, as it was found, the template that this one would become if it were written to it now? An API server that is newer
/// than whoever wrote it down fills in fields, one that is older takes some away, and mutating webhooks do both: the same template comes
/// out another, which nobody has released. Asks the server only where the two differ, and writes nothing.
///
/// # Errors
/// It could not be asked. That it would refuse the template is no error: then this is not what is there.
pub async fn has_become(deployment: &Object, found: &Value, template: &Value) -> Result<bool, CallError> {
    let Some(now) = found.pointer(TEMPLATE) else { return Ok(false) };
    if identity(now) == identity(template) {
        return Ok(true);
    }
    // as it was found: what is taken away may depend on what is there
    let operations = [json!({"op": "test", "path": TEMPLATE, "value": now}), json!({"op": "replace", "path": TEMPLATE, "value": template})];
    match deployment.foresee(&operations).await {
        Ok(then) => Ok(then.pointer(TEMPLATE).is_some_and(|then| identity(then) == identity(now))),
        Err(CallError::Conflict(_) | CallError::Refused(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A hash of kinds and what they hold, each with its length: nothing runs into the next.
struct Fields(Fnv);

impl Fields {
    fn add(&mut self, kind: u8, bytes: &[u8]) {
        self.0 = self.0.with(&[kind]).with(&(bytes.len() as u64).to_le_bytes()).with(bytes);
    }
}

fn feed(hash: &mut Fields, value: &Value) {
    match value {
        Value::Null => hash.add(b'0', b""),
        Value::Bool(b) => hash.add(b'b', &[u8::from(*b)]),
        Value::Number(n) => hash.add(b'n', n.to_string().as_bytes()),
        Value::String(s) => hash.add(b's', s.as_bytes()),
        Value::Array(items) => {
            hash.add(b'[', b"");
            items.iter().for_each(|item| feed(hash, item));
            hash.add(b']', b"");
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().filter(|(key, value)| !value.is_null() && key.as_str() != HASH_LABEL).collect();
            fields.sort_unstable_by_key(|(key, _)| *key);
            hash.add(b'{', b"");
            for (key, value) in fields {
                hash.add(b'k', key.as_bytes());
                feed(hash, value);
            }
            hash.add(b'}', b"");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_template_is_the_same_in_a_deployment_and_its_replicaset() {
        let ours = json!({"metadata": {"creationTimestamp": null, "labels": {"app": "web"}},
            "spec": {"containers": [{"name": "app", "image": "web:v2", "resources": {}}], "dnsPolicy": "ClusterFirst"}});
        let set = json!({"spec": {"dnsPolicy": "ClusterFirst", "containers": [{"image": "web:v2", "name": "app", "resources": {}}]},
            "metadata": {"labels": {"pod-template-hash": "5f6c", "app": "web"}}});
        assert_eq!(identity(&ours), identity(&set));
        assert_eq!(bare(set)["metadata"]["labels"], json!({"app": "web"}));
        assert_eq!(identity(&ours), "fa9ed557bef83449", "stored by earlier versions of canaryd");
    }

    #[test]
    fn whatever_differs_is_another_template() {
        let base = json!({"spec": {"containers": [{"name": "a", "args": ["x", "y"]}], "volumes": [{"name": "v"}]}});
        let others = [
            json!({"spec": {"containers": [{"name": "a", "args": ["y", "x"]}], "volumes": [{"name": "v"}]}}),
            json!({"spec": {"containers": [{"name": "a", "args": ["xy"]}], "volumes": [{"name": "v"}]}}),
            json!({"spec": {"containers": [{"name": "a", "args": ["x", "y"]}], "volumes": [{"name": "v", "emptyDir": {}}]}}),
            json!({"spec": {"containers": [{"name": "a", "args": ["x"]}, "y"], "volumes": [{"name": "v"}]}}),
        ];
        for other in others {
            assert_ne!(identity(&base), identity(&other), "{other}");
        }
    }
}
