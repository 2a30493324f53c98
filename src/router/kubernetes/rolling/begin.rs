//! The ReplicaSet of a template that has none yet, made as its controller makes it, but without replicas. So the Deployment need not be
//! let go on for that: whoever lets it go and is killed at that moment leaves it rolling on. Its controller takes for the new one
//! whichever has the template, and names and numbers it as its own. Pure.

use super::found::{Found, Size};
use super::{Value, identity};
use crate::apiserver::{HASH_LABEL, bare};
use serde_json::json;

/// What its controller reckons with when a Deployment is scaled while it stands still.
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MOST: &str = "deployment.kubernetes.io/max-replicas";
/// How much of the identity is its pods' label: as long as the controller's own.
const HASH_LENGTH: usize = 10;

/// Name of it, and what it is; `None` where the Deployment is none.
pub(super) fn first_set(found: &Found) -> Option<(String, Value)> {
    let deployment = &found.deployment;
    let metadata = |key: &str| deployment.get("metadata")?.get(key)?.as_str();
    let mut template = bare(deployment.pointer("/spec/template")?.clone());
    let mut selector = deployment.pointer("/spec/selector")?.clone();
    let identity = identity(&template);
    let hash = identity.get(..HASH_LENGTH)?;
    for labels in [labels_of(template.get_mut("metadata")?, "labels")?, labels_of(&mut selector, "matchLabels")?] {
        labels.insert(HASH_LABEL.to_owned(), hash.into());
    }
    let Size { replicas, surge, .. } = found.size();
    let name = format!("{}-{hash}", metadata("name")?);
    // without `blockOwnerDeletion`, which some clusters give to nobody who may not end the owner
    let owner =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": metadata("name")?, "uid": metadata("uid")?, "controller": true});
    let set = json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": name,
            "namespace": metadata("namespace")?,
            "labels": template.pointer("/metadata/labels"),
            "annotations": {DESIRED: replicas.to_string(), MOST: (replicas + surge).to_string()},
            "ownerReferences": [owner],
        },
        "spec": {
            "replicas": 0,
            "minReadySeconds": deployment.pointer("/spec/minReadySeconds").and_then(Value::as_u64).unwrap_or(0),
            "selector": selector,
            "template": template,
        },
    });
    Some((name, set))
}

/// The labels of this name, where there are none an empty map.
fn labels_of<'a>(of: &'a mut Value, name: &str) -> Option<&'a mut serde_json::Map<String, Value>> {
    of.as_object_mut()?.entry(name).or_insert_with(|| json!({})).as_object_mut()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_its_controller_makes_it_and_has_no_replicas() {
        let deployment = json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u-1"},
            "spec": {"replicas": 4, "minReadySeconds": 5, "strategy": {"rollingUpdate": {"maxSurge": "25%"}},
                "selector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"image": "web:2"}], "x-newer": 1}}},
        });
        let mut found = Found { deployment, sets: Vec::new() };
        let (name, set) = first_set(&found).expect("a Deployment");
        let hash = set["metadata"]["labels"][HASH_LABEL].as_str().expect("a hash");
        assert_eq!((name, hash.len()), (format!("web-{hash}"), HASH_LENGTH));
        assert_eq!(identity(&set["spec"]["template"]), found.template(), "its controller knows it by that");
        let spec = &set["spec"];
        assert_eq!((&spec["replicas"], &spec["minReadySeconds"]), (&json!(0), &json!(5)));
        assert_eq!(spec["selector"]["matchLabels"], json!({HASH_LABEL: hash}), "beside the expressions");
        assert_eq!(spec["selector"]["matchExpressions"], found.deployment["spec"]["selector"]["matchExpressions"]);
        assert_eq!(spec["template"]["metadata"]["labels"], json!({"app": "web", HASH_LABEL: hash}));
        assert_eq!(set["metadata"]["annotations"], json!({DESIRED: "4", MOST: "5"}));
        assert_eq!(set["metadata"]["ownerReferences"][0]["uid"], "u-1");
        found.deployment["spec"] = json!({});
        assert_eq!(first_set(&found), None);
    }
}
