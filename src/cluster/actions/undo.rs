//! The canary gets back the pod template it had before this release: that one, never "the one before", which after two pushes is
//! another.

use super::Stop;
use super::change::{change, get};
use super::deployment::{not_paused, observed, replace_template, template, told};
use crate::apiserver::{Object, identity};
use crate::model::Noted;
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long its controller is waited for before that is asked for again.
const OBSERVED_MAX: Duration = Duration::from_secs(5);
/// How often it is looked at meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Done when its controller has seen the template: whether the pods of a version without traffic become ready is not waited for.
pub(super) async fn undo(deployment: &Object, noted: &Noted) -> Result<(), Stop> {
    let none = || {
        Stop::never(format!(
            "{}: no template from before this release is known (a first release, or revisionHistoryLimit: 0): put it right by hand, \
             such as with kubectl rollout undo --to-revision",
            deployment.what()
        ))
    };
    let before = noted.template_before.as_deref().ok_or_else(none)?;
    let before: Value = serde_json::from_str(before).map_err(|e| Stop::never(format!("the template noted is no JSON: {e}")))?;
    let found = change(deployment, |found| {
        if template(found)? == &before {
            return Ok(Vec::new());
        }
        on_trial(found, noted)?;
        not_paused(found)?;
        Ok(replace_template(&before))
    })
    .await?;
    seen(deployment, found).await
}

/// It has the template that was on trial: a newer release is not ours to touch.
pub(super) fn on_trial(found: &Value, noted: &Noted) -> Result<(), Stop> {
    if noted.template.is_empty() || identity(template(found)?) == noted.template {
        return Ok(());
    }
    Err(Stop::never(format!("{} has another template than the one that was on trial: it is left as it is", told(found))))
}

/// The same, where it may have been undone.
pub(super) fn on_trial_or_before(found: &Value, noted: &Noted) -> Result<(), Stop> {
    let before = noted.template_before.as_deref().and_then(|before| serde_json::from_str::<Value>(before).ok());
    if before.is_some() && template(found).ok() == before.as_ref() { Ok(()) } else { on_trial(found, noted) }
}

async fn seen(deployment: &Object, mut found: Value) -> Result<(), Stop> {
    let until = Instant::now() + OBSERVED_MAX;
    while !observed(&found) {
        if Instant::now() >= until {
            return Err(Stop::again(format!("{}: its controller has not seen the template", told(&found))));
        }
        sleep(LOOK_AGAIN).await;
        found = get(deployment).await?;
    }
    Ok(())
}
