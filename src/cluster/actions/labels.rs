//! Labels of a template on its way from the canary's Deployment to stable's. The two are told apart by labels (`track: canary`):
//! their Deployments select by them, and so do Services, subsets of a mesh and queries. A copy must not carry them over.

use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// The canary's template as stable gets it: everything as it is, but of the labels only what the release changed. A label by
/// which either Deployment selects stays stable's, and so does one that the canary had before the release with the same value
/// (`before`, its template then). Without knowing that, what cannot be of the release stays: a label that only stable has, and one
/// whose value is among those by which the rule names the canary (`names`: a subset, a version).
pub(super) fn for_stable(canary: &Value, stable: &Value, before: Option<&Value>, names: &BTreeSet<&str>) -> Value {
    let mut template = canary.pointer("/spec/template").cloned().unwrap_or_default();
    let own = labels(stable.pointer("/spec/template"));
    let ours = labels(Some(&template));
    let before = before.map(|before| labels(Some(before)));
    let selects: BTreeSet<&str> = [canary, stable].into_iter().flat_map(selected).collect();
    let keys: BTreeSet<&String> = ours.keys().chain(own.keys()).collect();
    let named = |key: &str| ours.get(key).and_then(Value::as_str).is_none_or(|value| names.contains(value));
    let unchanged = |key: &str| before.as_ref().map_or_else(|| named(key), |before| before.get(key) == ours.get(key));
    let stays = |key: &str| selects.contains(key) || unchanged(key);
    let value = |key: &String| if stays(key) { own.get(key) } else { ours.get(key) };
    let merged: Map<String, Value> = keys.into_iter().filter_map(|key| Some((key.clone(), value(key)?.clone()))).collect();
    if merged != ours {
        set(&mut template, merged);
    }
    template
}

fn labels(template: Option<&Value>) -> Map<String, Value> {
    let found = template.and_then(|template| template.pointer("/metadata/labels")).and_then(Value::as_object);
    found.cloned().unwrap_or_default()
}

fn set(template: &mut Value, labels: Map<String, Value>) {
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("labels".to_owned(), Value::Object(labels));
    } else if let Some(template) = template.as_object_mut() {
        template.insert("metadata".to_owned(), serde_json::json!({ "labels": labels }));
    }
}

/// Keys by which a Deployment selects its pods.
fn selected(deployment: &Value) -> Vec<&str> {
    let equal = deployment.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
    let other = deployment.pointer("/spec/selector/matchExpressions").and_then(Value::as_array);
    let other = other.into_iter().flatten().filter_map(|expression| expression.get("key").and_then(Value::as_str));
    equal.into_iter().flat_map(|labels| labels.keys().map(String::as_str)).chain(other).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn deployment(selector: Value, labels: Value, image: &str) -> Value {
        json!({"spec": {"selector": selector, "template": template(labels, image)}})
    }

    fn template(labels: Value, image: &str) -> Value {
        json!({"metadata": {"labels": labels, "annotations": {"a": "b"}}, "spec": {"containers": [{"image": image}], "newer": {"x": [1]}}})
    }

    #[test]
    fn stable_keeps_what_it_is_told_apart_by_and_takes_the_rest() {
        let before = template(json!({"app": "shop", "track": "canary", "version": "1", "mesh": "v2"}), "shop:1");
        let canary = deployment(
            json!({"matchLabels": {"app": "shop", "track": "canary"}}),
            json!({"app": "shop", "track": "canary", "version": "2", "mesh": "v2", "new": "yes"}),
            "shop:2",
        );
        let own = json!({"app": "shop", "track": "stable", "version": "1", "mesh": "v1", "only": "here"});
        let stable = deployment(json!({"matchExpressions": [{"key": "track", "operator": "In", "values": ["stable"]}]}), own, "shop:1");
        let labels = json!({"app": "shop", "track": "stable", "version": "2", "mesh": "v1", "only": "here", "new": "yes"});
        let none = BTreeSet::new();
        assert_eq!(for_stable(&canary, &stable, Some(&before), &none), template(labels.clone(), "shop:2"));
        // nobody knows what the release changed: what selectors and the rule say stays stable's, and nothing of its own is lost
        assert_eq!(for_stable(&canary, &stable, None, &["v2"].into()), template(labels.clone(), "shop:2"));
        let mut unknown = labels;
        unknown["mesh"] = json!("v2");
        assert_eq!(for_stable(&canary, &stable, None, &none), template(unknown, "shop:2"), "only the selectors tell");
    }

    #[test]
    fn what_was_copied_is_not_copied_again() {
        let selector = |track: &str| json!({"matchLabels": {"track": track}});
        let before = template(json!({"track": "canary"}), "shop:1");
        let canary = deployment(selector("canary"), json!({"track": "canary"}), "shop:2");
        let none = BTreeSet::new();
        let mut stable = deployment(selector("stable"), json!({"track": "stable"}), "shop:1");
        stable["spec"]["template"] = for_stable(&canary, &stable, Some(&before), &none);
        assert_eq!(for_stable(&canary, &stable, Some(&before), &none), stable["spec"]["template"]);
        // one that has no labels at all cannot exist, and must not be made up
        let bare = json!({"spec": {"template": {"spec": {}}}});
        assert_eq!(for_stable(&bare, &bare, None, &none), json!({"spec": {}}));
    }
}
