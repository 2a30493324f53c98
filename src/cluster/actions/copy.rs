//! Stable gets the canary's pod template, and becomes ready.

use super::change::{change, get};
use super::deployment::{not_paused, ready, replace_template, template, wanted};
use super::undo::on_trial;
use super::{Job, Stop, labels, replicas};
use crate::model::rule::WorkloadForm;
use kube::Client;
use serde_json::Value;

pub(super) async fn copy(client: &Client, job: &Job<'_>) -> Result<(), Stop> {
    let (canary, stable) = (job.deployment(client, job.canary)?, job.deployment(client, job.canary.other())?);
    let released = get(&canary).await?;
    // what was judged is what is copied
    on_trial(&released, job.noted)?;
    // what both sides say tells nothing apart
    let [theirs, ours] = [job.canary.other(), job.canary].map(|side| &job.workloads.side(side).fields);
    let names = ours.iter().filter(|(key, value)| theirs.get(*key) != Some(value)).map(|(_, value)| value.as_str()).collect();
    let before = job.noted.template_before.as_deref().and_then(|before| serde_json::from_str::<Value>(before).ok());
    let mut found = change(&stable, |found| {
        not_paused(found)?;
        let template_wanted = match job.workloads.form {
            WorkloadForm::One => template(&released)?.clone(),
            _ => labels::for_stable(&released, found, before.as_ref(), &names),
        };
        Ok(if template(found)? == &template_wanted { Vec::new() } else { replace_template(&template_wanted) })
    })
    .await?;
    let least = job.noted.baseline_ready;
    if wanted(&found) < u64::from(least) {
        found = replicas::at_least(client, job.place(job.canary.other())?, least).await?;
    }
    ready(&found, least)
}
