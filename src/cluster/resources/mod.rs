//! canaryd's own resources in the cluster: `CanaryRule`, a rule as an object instead of a file, and `CanaryRollout`, what a rollout
//! shows of itself to `kubectl`. A rollout reads nothing of them: they are a window, never a lever.
//!
//! The version is `v1alpha1`: the grammar of rules may still change, and an object of that version may have to be written anew.

mod definitions;
mod desk;
mod event;
mod rules;
mod status;

pub use definitions::definitions;
pub use desk::{Desk, EVENTS_MAX, MadeFrom, OBJECTS_MAX, Place, Shown};
pub use event::Saying;
pub use rules::{RuleObjects, WatchedRule, watch_rules};
pub use status::{Condition, camel_case, conditions};

use crate::apiserver::Resource;
use hyper::http::Request;
use kube::Client;
use serde_json::Value;
use std::time::Duration;

/// API group of both; also the prefix of our annotations and labels.
pub const GROUP: &str = "canaryd.io";
/// Version of both.
pub const VERSION: &str = "v1alpha1";
/// A rule.
pub const RULE: Resource = Resource { api: "canaryd.io/v1alpha1", kind: "CanaryRule", plural: "canaryrules" };
/// The Deployment of the canary, of which Events speak.
pub const DEPLOYMENT: Resource = Resource { api: "apps/v1", kind: "Deployment", plural: "deployments" };
/// A rollout.
pub const ROLLOUT: Resource = Resource { api: "canaryd.io/v1alpha1", kind: "CanaryRollout", plural: "canaryrollouts" };

/// Longest wait for the answer of [`are_served`].
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Does the cluster know both kinds? Every account may ask.
///
/// # Errors
/// It could not be asked, in words for the operator.
pub async fn are_served(client: &Client) -> Result<bool, String> {
    let request = Request::get(format!("/apis/{GROUP}/{VERSION}")).body(Vec::new()).map_err(|e| e.to_string())?;
    match tokio::time::timeout(ANSWER_MAX, client.request::<Value>(request)).await {
        Ok(Ok(found)) => Ok([RULE, ROLLOUT]
            .iter()
            .all(|kind| found["resources"].as_array().is_some_and(|all| all.iter().any(|served| served["name"] == kind.plural)))),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(false),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err(format!("no answer within {} s", ANSWER_MAX.as_secs())),
    }
}
