//! The canary gets back the pod template it had before this release: that one, never "the one before", which after two pushes is
//! another. What the API server makes of it is it: fields that a newer server or a mutating webhook fills in are no other hand's.

use super::Stop;
use super::change::{change, get};
use super::deployment::{not_paused, observed, replace_template, template, told};
use crate::apiserver::{Object, has_become, identity};
use crate::model::{Noted, Retry};
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
    let before = before(noted)?.ok_or_else(none)?;
    let undone = change(deployment, |found| {
        if identity(template(found)?) == identity(&before) {
            return Ok(Vec::new());
        }
        on_trial(found, noted)?;
        not_paused(found)?;
        Ok(replace_template(&before))
    })
    .await;
    let found = match undone {
        // it may be neither of them by its text, and one by what it says
        Err(Stop { text, retry: Retry::Never }) => there(deployment, &before).await?.ok_or_else(|| Stop::never(text))?,
        undone => undone?,
    };
    seen(deployment, found).await
}

/// Identity of the template of before as it is there now, which is no release; `None`: another one is there.
pub(super) async fn given_back(deployment: &Object, noted: &Noted) -> Result<Option<String>, Stop> {
    let Some(before) = before(noted)? else { return Ok(None) };
    let found = there(deployment, &before).await?;
    found.map(|found| template(&found).map(identity)).transpose()
}

/// The Deployment, where its template is what the API server makes of this one.
async fn there(deployment: &Object, before: &Value) -> Result<Option<Value>, Stop> {
    let found = get(deployment).await?;
    let is_it = has_become(deployment, &found, before).await.map_err(|error| Stop::call(deployment, error))?;
    Ok(is_it.then_some(found))
}

/// The template noted from before the release.
fn before(noted: &Noted) -> Result<Option<Value>, Stop> {
    let read = |text: &String| serde_json::from_str(text).map_err(|e| Stop::never(format!("the template noted is no JSON: {e}")));
    noted.template_before.as_ref().map(read).transpose()
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
    let now = identity(template(found)?);
    if before(noted)?.is_some_and(|before| identity(&before) == now) { Ok(()) } else { on_trial(found, noted) }
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
