//! How one workload stands right now, in a line for the operator.

use super::place::DEPLOYMENTS;
use super::template;
use crate::apiserver::{Object, identity};
use crate::model::rule::Target;
use kube::Client;
use serde_json::Value;

/// The Deployment of a target: its replicas, and what it runs. A sentence, also where it cannot be read.
pub async fn standing(client: &Client, target: &Target) -> String {
    let field = |name: &str| target.fields.get(name).map_or("", String::as_str);
    let object = Object::new(client.clone(), DEPLOYMENTS, field("namespace"), field("deployment"));
    match object.get().await {
        Ok(deployment) => format!("{}: {}", object.what(), said(&deployment)),
        Err(e) => format!("{}: {e}", object.what()),
    }
}

fn said(deployment: &Value) -> String {
    let number = |path: &str| deployment.pointer(path).and_then(Value::as_u64);
    let (wanted, ready) = (number("/spec/replicas").unwrap_or(1), number("/status/readyReplicas").unwrap_or(0));
    let now = deployment.pointer("/spec/template").unwrap_or(&Value::Null);
    format!("{ready} of {wanted} replicas ready, runs {} (template {})", template::version(now), identity(now))
}
