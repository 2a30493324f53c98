//! How many replicas a Deployment asks for, written through its `scale`: a permission of its own, which cannot change a template.

use super::change::{change_part, get};
use super::deployment::wanted;
use super::undo::on_trial_or_before;
use super::{Place, Stop};
use crate::apiserver::{ABSENT, CallError};
use crate::model::Noted;
use kube::Client;
use serde_json::{Value, json};

/// At least so many; the Deployment as it is then. More are left alone.
pub(super) async fn at_least(client: &Client, place: Place<'_>, least: u32) -> Result<Value, Stop> {
    let deployment = place.deployment(client);
    let decide = |found: &Value| Ok(if wanted(found) >= u64::from(least) { Vec::new() } else { ask_for(least) });
    change_part(&deployment, &place.scale(client), decide).await?;
    get(&deployment).await
}

/// None, as `kubectl scale --replicas=0` does it. An autoscaler cannot have a minimum of 0, and needs none: it leaves a workload
/// alone that was scaled to 0, until somebody scales it up. A Deployment that is gone has none.
pub(super) async fn none(client: &Client, place: Place<'_>, noted: &Noted) -> Result<(), Stop> {
    let deployment = place.deployment(client);
    match deployment.get().await {
        Err(CallError::Missing(why)) if why == ABSENT => return Ok(()),
        Err(error) => return Err(Stop::call(&deployment, error)),
        Ok(_) => {}
    }
    let decide = |found: &Value| {
        if wanted(found) == 0 {
            return Ok(Vec::new());
        }
        on_trial_or_before(found, noted)?;
        Ok(ask_for(0))
    };
    change_part(&deployment, &place.scale(client), decide).await.map(drop)
}

/// `add`, which replaces: 0 is not written out.
fn ask_for(replicas: u32) -> Vec<Value> {
    vec![json!({"op": "add", "path": "/spec/replicas", "value": replicas})]
}
