//! Which autoscalers scale a Deployment.

use super::{CallError, Collection, Resource};
use kube::Client;
use serde_json::Value;

/// Names of the HorizontalPodAutoscalers that scale a Deployment: none or one, if nobody made a mistake.
///
/// # Errors
/// They could not be listed, with what was asked.
pub async fn scalers_of(client: &Client, namespace: &str, deployment: &str) -> Result<Vec<String>, (String, CallError)> {
    let all = Collection::new(client.clone(), Resource::AUTOSCALER, Some(namespace));
    let found: Vec<Value> = all.list("").await.map_err(|error| (all.what(), error))?;
    let names = found.iter().filter(|scaler| targets(scaler, deployment)).filter_map(|s| s.pointer("/metadata/name")?.as_str());
    Ok(names.map(str::to_owned).collect())
}

fn targets(scaler: &Value, deployment: &str) -> bool {
    let target = |key: &str| scaler.pointer(&format!("/spec/scaleTargetRef/{key}")).and_then(Value::as_str).unwrap_or("");
    target("kind") == "Deployment" && target("name") == deployment && target("apiVersion").starts_with("apps/")
}
