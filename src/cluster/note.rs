//! What a rollout notes of its workloads at its start: asked of the API server itself, for it is what later actions go back to.

use super::actions::raised_from;
use super::objects::Set;
use super::place::DEPLOYMENTS;
use super::{table, template};
use crate::apiserver::{CallError, Collection, Object, Resource, bare, identity, replica_sets};
use crate::model::Noted;
use kube::Client;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const AUTOSCALERS: Resource = Resource { api: "autoscaling/v2", kind: "HorizontalPodAutoscaler", plural: "horizontalpodautoscalers" };
/// What is warned of where a Deployment is paused.
pub const PAUSED: &str = "is paused: a change of its template makes no pods until it is resumed";
/// Which release of its Deployment a ReplicaSet was, rising.
const REVISION: &str = "deployment.kubernetes.io/revision";

/// A Deployment's place.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
}

impl At<'_> {
    fn what(self) -> String {
        format!("Deployment {}/{}", self.namespace, self.name)
    }
}

/// What is known of the templates a canary had before its present one, by their identities.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Earlier {
    /// To go back to, the best first: what it had when nothing was on trial.
    pub good: Vec<String>,
    /// Never to go back to: what was rolled back.
    pub bad: BTreeSet<String>,
}

impl Earlier {
    /// Rises with how good it is to go back to; `None`: nobody knows.
    fn rank(&self, template: &str) -> Option<usize> {
        self.good.iter().rev().position(|good| good == template)
    }
}

/// Notes both workloads; with `one` they are the same, and its replicas are N.
///
/// # Errors
/// The canary's Deployment or its ReplicaSets could not be read.
pub(super) async fn note(client: &Client, baseline: At<'_>, canary: At<'_>, one: bool, earlier: &Earlier) -> Result<Noted, String> {
    let object = |at: At<'_>| Object::new(client.clone(), DEPLOYMENTS, at.namespace, at.name);
    let (ours, sets) = with_sets(client, canary).await?;
    let mut noted = about_canary(&ours);
    noted.warnings = warnings(&ours, canary);
    noted.template_before = if one { carrying(&ours, sets) } else { before(&ours, sets, earlier) };
    noted.baseline_ready = match object(baseline).get().await {
        Ok(_) if one => noted.canary_wanted,
        Ok(theirs) => number(&theirs, "/status/readyReplicas").unwrap_or(0),
        Err(CallError::Missing(why)) => {
            noted.warnings.push(format!("{}: {why}", baseline.what()));
            0
        }
        Err(e) => return Err(format!("{}: {e}", baseline.what())),
    };
    noted.baseline_floor = floor(client, baseline, &mut noted.warnings).await;
    noted.canary_floor = if one { noted.baseline_floor } else { floor(client, canary, &mut noted.warnings).await };
    Ok(noted)
}

/// The template of this identity among those of its ReplicaSets, as JSON; `None` = there is none.
///
/// # Errors
/// They could not be read.
pub(super) async fn template_of(client: &Client, at: At<'_>, wanted: &str) -> Result<Option<String>, String> {
    let (_, sets) = with_sets(client, at).await?;
    let mut templates = sets.into_iter().filter_map(|mut set| set.pointer_mut("/spec/template").map(Value::take));
    Ok(templates.find(|t| identity(t) == wanted).map(|t| bare(t).to_string()))
}

/// How the API server reads its templates at this moment.
///
/// # Errors
/// They could not be read.
pub(super) async fn readings(client: &Client, at: At<'_>) -> Result<BTreeMap<String, String>, String> {
    let wrong = |e: serde_json::Error| format!("{}: {e}", at.what());
    let (ours, sets) = with_sets(client, at).await?;
    let sets: Vec<Set> = sets.into_iter().map(serde_json::from_value).collect::<Result<_, _>>().map_err(wrong)?;
    Ok(table::readings(&serde_json::from_value(ours).map_err(wrong)?, sets.iter()))
}

/// A Deployment and its ReplicaSets.
async fn with_sets(client: &Client, at: At<'_>) -> Result<(Value, Vec<Value>), String> {
    let ours = Object::new(client.clone(), DEPLOYMENTS, at.namespace, at.name).get().await;
    let ours = ours.map_err(|e| format!("{}: {e}", at.what()))?;
    let sets = replica_sets(client, &ours).await.map_err(|e| format!("ReplicaSets of {}: {e}", at.what()))?;
    Ok((ours, sets))
}

fn about_canary(deployment: &Value) -> Noted {
    let now = deployment.pointer("/spec/template").unwrap_or(&Value::Null);
    Noted {
        canary_wanted: number(deployment, "/spec/replicas").unwrap_or(1),
        template: identity(now),
        resources: template::resources(now),
        ..Noted::default()
    }
}

fn warnings(deployment: &Value, at: At<'_>) -> Vec<String> {
    let mut warnings = Vec::new();
    if deployment.pointer("/spec/paused") == Some(&Value::Bool(true)) {
        warnings.push(format!("{} {PAUSED}", at.what()));
    }
    if number(deployment, "/spec/revisionHistoryLimit") == Some(0) {
        warnings.push(format!("{} keeps no earlier releases: set revisionHistoryLimit to 1 or more, or it cannot be undone", at.what()));
    }
    warnings
}

fn number(object: &Value, path: &str) -> Option<u32> {
    object.pointer(path)?.as_u64()?.try_into().ok()
}

/// The template to go back to, as JSON: the best that is known, else the newest that was not rolled back.
fn before(deployment: &Value, sets: Vec<Value>, earlier: &Earlier) -> Option<String> {
    let others = others(deployment, sets)?.filter(|other| !earlier.bad.contains(&other.identity));
    others.max_by_key(|other| (earlier.rank(&other.identity), other.revision)).map(|other| bare(other.template).to_string())
}

/// In a rolling update that of the most replicas, for those carry the traffic: a release in whose place a newer one was pushed is newer
/// than they are.
fn carrying(deployment: &Value, sets: Vec<Value>) -> Option<String> {
    let others = others(deployment, sets)?;
    others.max_by_key(|other| (other.replicas, other.revision)).map(|other| bare(other.template).to_string())
}

/// An earlier release.
struct Other {
    template: Value,
    identity: String,
    replicas: u32,
    revision: u64,
}

/// The releases whose template is not the present one.
fn others(deployment: &Value, sets: Vec<Value>) -> Option<impl Iterator<Item = Other>> {
    let now = identity(deployment.pointer("/spec/template")?);
    let revision = |set: &Value| set.get("metadata")?.get("annotations")?.get(REVISION)?.as_str()?.parse::<u64>().ok();
    let read = move |mut set: Value| {
        let template = set.pointer_mut("/spec/template").map(Value::take)?;
        let identity = identity(&template);
        Some(Other { identity, template, replicas: number(&set, "/spec/replicas").unwrap_or(0), revision: revision(&set)? })
    };
    Some(sets.into_iter().filter_map(read).filter(move |other| other.identity != now))
}

/// The least replicas the autoscaler of a Deployment keeps, if it has one: those of before, where an earlier rollout raised them and
/// was ended before it could give them back. Then this one does.
async fn floor(client: &Client, at: At<'_>, warnings: &mut Vec<String>) -> Option<u32> {
    let all = Collection::new(client.clone(), AUTOSCALERS, Some(at.namespace)).list::<Value>("").await;
    let scalers = match all {
        Ok(scalers) => scalers,
        // a cluster without autoscalers
        Err(CallError::Missing(_)) => return None,
        Err(e) => {
            warnings.push(format!("autoscaler of {}: {e}: what it does to the replicas is not held", at.what()));
            return None;
        }
    };
    let of = |scaler: &&Value, field: &str| scaler.pointer(&format!("/spec/scaleTargetRef/{field}")).cloned();
    let ours = |scaler: &&Value| of(scaler, "kind") == Some("Deployment".into()) && of(scaler, "name") == Some(at.name.into());
    let ours: Vec<&Value> = scalers.iter().filter(ours).collect();
    if ours.len() > 1 {
        warnings.push(format!("{} autoscalers scale {}: keep one", ours.len(), at.what()));
    }
    ours.into_iter().map(|scaler| least(scaler, at, warnings)).max()
}

fn least(scaler: &Value, at: At<'_>, warnings: &mut Vec<String>) -> u32 {
    let now = number(scaler, "/spec/minReplicas").unwrap_or(1);
    let Some(was) = raised_from(scaler) else { return now };
    warnings.push(format!(
        "autoscaler of {}: a rollout has raised its minimum from {was} to {now}; if that is over, the next one gives it back at its end",
        at.what()
    ));
    was
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(revision: Option<&str>, image: &str) -> Value {
        let template = json!({"metadata": {"labels": {"app": "web", "pod-template-hash": image}}, "spec": {"containers": [{"image": image, "x-new": 1}]}});
        json!({"metadata": {"annotations": {REVISION: revision}}, "spec": {"template": template}})
    }

    fn image(template: Option<String>) -> Option<String> {
        let template: Value = serde_json::from_str(&template?).unwrap();
        template["spec"]["containers"][0]["image"].as_str().map(str::to_owned)
    }

    #[test]
    fn the_template_before_is_the_newest_that_differs() {
        let deployment =
            json!({"spec": {"template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"image": "v3", "x-new": 1}]}}}});
        let sets = || vec![set(Some("2"), "v2"), set(Some("10"), "v3"), set(Some("9"), "v1"), set(None, "v0")];
        let nothing = Earlier::default();
        let found: Value = serde_json::from_str(&before(&deployment, sets(), &nothing).unwrap()).unwrap();
        let wanted = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"image": "v1", "x-new": 1}]}});
        assert_eq!(found, wanted, "revision 9, not 2; with the fields we do not know, without what the controller added");
        assert_eq!(before(&deployment, vec![set(Some("10"), "v3")], &nothing), None);
        let mut carries = sets();
        carries[0]["spec"]["replicas"] = 3.into();
        assert_eq!(image(carrying(&deployment, carries)).as_deref(), Some("v2"), "of a rolling update those that carry the traffic");
    }

    #[test]
    fn what_was_good_is_gone_back_to_and_never_what_was_rolled_back() {
        let deployment = json!({"spec": {"template": set(None, "v4")["spec"]["template"]}});
        let sets = || vec![set(Some("1"), "v1"), set(Some("2"), "v2"), set(Some("3"), "v3"), set(Some("4"), "v4")];
        let of = |image: &str| identity(&set(None, image)["spec"]["template"]);
        let found = |good: &[&str], bad: &[&str]| {
            let earlier = Earlier { good: good.iter().map(|i| of(i)).collect(), bad: bad.iter().map(|i| of(i)).collect() };
            image(before(&deployment, sets(), &earlier))
        };
        let is = |image: &str| Some(image.to_owned());
        assert_eq!(found(&["v1"], &[]), is("v1"), "two pushes since");
        assert_eq!(found(&["v2", "v1"], &[]), is("v2"), "the best first");
        assert_eq!(found(&["v4", "v1"], &[]), is("v1"), "the present one is none to go back to");
        assert_eq!(found(&["gone"], &["v3"]), is("v2"), "that is not kept any more: the newest, but not what was rolled back");
        assert_eq!(found(&["v3"], &["v3"]), is("v2"));
        assert_eq!(found(&[], &["v1", "v2", "v3"]), None);
    }
}
