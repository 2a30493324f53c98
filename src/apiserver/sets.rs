//! The ReplicaSets of a Deployment.

use super::{CallError, Collection, Resource};
use kube::Client;
use serde_json::Value;

/// The ReplicaSets of a Deployment, which was read before: one for each release of it that is still kept.
///
/// # Errors
/// They could not be listed.
pub async fn replica_sets(client: &Client, deployment: &Value) -> Result<Vec<Value>, CallError> {
    let namespace = deployment.pointer("/metadata/namespace").and_then(Value::as_str);
    let all = Collection::new(client.clone(), Resource::REPLICASET, namespace);
    let mut sets: Vec<Value> = all.list(&selector(deployment.pointer("/spec/selector").unwrap_or(&Value::Null))).await?;
    // others may carry the same labels
    let uid = deployment.pointer("/metadata/uid");
    sets.retain(|set| {
        let owners = set.pointer("/metadata/ownerReferences").and_then(Value::as_array);
        uid.is_some() && owners.into_iter().flatten().any(|owner| owner.get("uid") == uid)
    });
    Ok(sets)
}

/// A label selector as the API takes it in a query.
fn selector(selector: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let labels = selector.get("matchLabels").and_then(Value::as_object);
    let equal = labels.into_iter().flatten().map(|(key, value)| format!("{key}={}", text(value)));
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    let others = expressions.into_iter().flatten().filter_map(|e| {
        let key = text(e.get("key")?);
        let values = e.get("values").and_then(Value::as_array).into_iter().flatten().map(text).collect::<Vec<_>>().join(",");
        Some(match e.get("operator")?.as_str()? {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key,
            "DoesNotExist" => format!("!{key}"),
            _ => return None,
        })
    });
    equal.chain(others).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_selector_is_written_as_a_query_takes_it() {
        let all = json!({"matchLabels": {"app": "web", "tier": "front"}, "matchExpressions": [
            {"key": "track", "operator": "In", "values": ["a", "b"]}, {"key": "old", "operator": "DoesNotExist"},
            {"key": "x", "operator": "NotIn", "values": ["y"]}, {"key": "z", "operator": "Exists"}]});
        assert_eq!(selector(&all), "app=web,tier=front,track in (a,b),!old,x notin (y),z");
        assert_eq!(selector(&Value::Null), "");
    }
}
