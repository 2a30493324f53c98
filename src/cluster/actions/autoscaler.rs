//! The HorizontalPodAutoscaler of a Deployment: its minimum is raised while a rollout needs replicas, and given back. What it was
//! stands in an annotation beside it, so that it can be given back whatever else is lost.

use super::change::{annotate, annotation, change, get, unannotate};
use super::{Place, Stop};
use crate::apiserver::{MANAGER, Object, Resource, owner_of, scalers_of};
use kube::Client;
use serde_json::{Value, json};

/// The minimum before we raised it.
const MIN_REPLICAS: &str = "canaryd.io/min-replicas";
const MIN: &str = "/spec/minReplicas";
/// What it is where the object does not say.
const MIN_DEFAULT: u64 = 1;

/// Nothing scales the Deployment below so many (or the autoscaler's maximum: above it there would be none to keep).
pub(super) async fn hold(client: &Client, place: Place<'_>, least: u32) -> Result<(), Stop> {
    for scaler in of(client, place).await? {
        change(&scaler, |found| Ok(raised(found, u64::from(least).min(maximum(found))))).await?;
    }
    Ok(())
}

/// The same, and the maximum must allow it.
pub(super) async fn raise(client: &Client, place: Place<'_>, least: u32) -> Result<(), Stop> {
    for scaler in of(client, place).await? {
        change(&scaler, |found| match maximum(found) {
            maximum if u64::from(least) > maximum => Err(Stop::never(format!(
                "{} allows at most {maximum} replicas and {least} are needed: raise its maxReplicas, or take a smaller step",
                scaler.what()
            ))),
            _ => Ok(raised(found, u64::from(least))),
        })
        .await?;
    }
    Ok(())
}

/// Their minimums are what they were, unless another hand has set one since: that stays. Without an autoscaler there is nothing to
/// release.
pub(super) async fn release(client: &Client, place: Place<'_>) -> Result<(), Stop> {
    for scaler in of(client, place).await? {
        change(&scaler, |found| {
            let Some(written) = annotation(found, MIN_REPLICAS) else { return Ok(Vec::new()) };
            let mut operations = unannotate(found, &[MIN_REPLICAS]);
            if is_ours(found) {
                let was = written.parse::<u64>().map_err(|_| {
                    let why = format!("annotation {MIN_REPLICAS} is {written:?} and no number");
                    Stop::never(format!("{}: {why}: set its minReplicas by hand and take the annotation away", scaler.what()))
                })?;
                operations.push(minimum_is(was.min(maximum(found))));
            }
            Ok(operations)
        })
        .await?;
    }
    Ok(())
}

/// What would scale it up again from so few replicas, and to how many; not from 0, which an autoscaler leaves alone. `None` also where
/// nobody may look.
pub(super) async fn keeps_above(client: &Client, place: Place<'_>, replicas: u32) -> Option<(String, u64)> {
    if replicas == 0 {
        return None;
    }
    for scaler in of(client, place).await.ok()? {
        let least = minimum(&get(&scaler).await.ok()?);
        if least > u64::from(replicas) {
            return Some((scaler.what(), least));
        }
    }
    None
}

fn raised(found: &Value, least: u64) -> Vec<Value> {
    let now = minimum(found);
    if now >= least {
        return Vec::new();
    }
    // raised before: what it was is known, unless another hand has set one since
    let noted = annotation(found, MIN_REPLICAS).is_some() && is_ours(found);
    let mut operations = if noted { Vec::new() } else { annotate(found, &[(MIN_REPLICAS, &now.to_string())]) };
    operations.push(minimum_is(least));
    operations
}

/// The minimum before canaryd raised it; `None`: it did not, or another hand has set one since.
pub(in crate::cluster) fn raised_from(found: &Value) -> Option<u32> {
    annotation(found, MIN_REPLICAS)?.parse().ok().filter(|was| is_ours(found) && u64::from(*was) < minimum(found))
}

fn is_ours(found: &Value) -> bool {
    owner_of(found, &["spec", "minReplicas"]).is_none_or(|owner| owner == MANAGER)
}

/// `add`, which replaces: it may be absent.
fn minimum_is(replicas: u64) -> Value {
    json!({"op": "add", "path": MIN, "value": replicas})
}

fn minimum(found: &Value) -> u64 {
    found.pointer(MIN).and_then(Value::as_u64).unwrap_or(MIN_DEFAULT)
}

fn maximum(found: &Value) -> u64 {
    found.pointer("/spec/maxReplicas").and_then(Value::as_u64).unwrap_or(u64::MAX)
}

/// Those that scale it.
async fn of(client: &Client, place: Place<'_>) -> Result<Vec<Object>, Stop> {
    let names = scalers_of(client, place.namespace, place.deployment).await.map_err(|(what, error)| Stop::new(&what, error))?;
    Ok(names.iter().map(|name| Object::new(client.clone(), Resource::AUTOSCALER, place.namespace, name)).collect())
}
