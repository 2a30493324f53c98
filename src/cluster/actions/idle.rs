//! What was the baseline keeps its replicas for a while after a swap, and then gets the idle ones. That is written down on the
//! Deployment, because it outlives the rollout: whoever sweeps finds it there.

use super::autoscaler;
use super::change::{annotate, annotation, change, unannotate};
use super::deployment::{template, wanted};
use super::{Place, Stop};
use crate::apiserver::{ABSENT, CallError, Object, identity};
use crate::model::rule::Target;
use crate::model::{RolloutId, Timestamp};
use kube::Client;
use serde_json::{Value, json};
use std::time::Duration;

/// How many replicas it shall have.
const REPLICAS: &str = "canaryd.io/idle-replicas";
/// From when on, RFC 3339.
const AT: &str = "canaryd.io/idle-at";
/// The template it is meant for: another one is another release.
const TEMPLATE: &str = "canaryd.io/idle-template";
/// The rollout that wished it: asked for again, its time stays the first one's.
const ROLLOUT: &str = "canaryd.io/idle-rollout";
const ALL: [&str; 4] = [REPLICAS, AT, TEMPLATE, ROLLOUT];

/// What a sweep did to one Deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idled {
    /// `Deployment shop/web`.
    pub what: String,
    /// The number it was scaled down to; or why not, for the operator (then the note is gone, unless asking again may help).
    pub outcome: Result<u32, String>,
}

/// Writes it down.
pub(super) async fn note(deployment: &Object, rollout: &RolloutId, replicas: u32, after: Duration) -> Result<(), Stop> {
    let at = jiff::Timestamp::now().checked_add(after).map_err(|e| Stop::never(format!("keep: {after:?} is too long: {e}")))?;
    let at = at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    change(deployment, |found| {
        let identity = identity(template(found)?);
        let is = |key: &str, value: &str| annotation(found, key) == Some(value);
        if is(ROLLOUT, &rollout.0) && is(TEMPLATE, &identity) && is(REPLICAS, &replicas.to_string()) {
            return Ok(Vec::new());
        }
        Ok(annotate(found, &[(REPLICAS, &replicas.to_string()), (AT, &at), (TEMPLATE, &identity), (ROLLOUT, &rollout.0)]))
    })
    .await
    .map(drop)
}

/// Scales down what is due among these workloads, and drops the note where the template changed or it carries traffic. Asks the
/// API server once for each workload, and `carries_traffic` only about those that are due: `None` if that cannot be told now, then
/// the next sweep asks again. A workload of a rollout under way carries traffic, whatever its weight is.
pub async fn idle_due<F>(client: &Client, targets: &[Target], now: Timestamp, carries_traffic: impl Fn(&Target) -> F) -> Vec<Idled>
where
    F: Future<Output = Option<bool>>,
{
    let mut done = Vec::new();
    for target in targets {
        // what names no Deployment cannot carry a note
        let Ok(place) = Place::of(target) else { continue };
        if let Some(outcome) = sweep(client, place, now, carries_traffic(target)).await {
            done.push(Idled { what: place.deployment(client).what(), outcome });
        }
    }
    done
}

/// `None`: nothing was to be done.
async fn sweep(
    client: &Client,
    place: Place<'_>,
    now: Timestamp,
    carries_traffic: impl Future<Output = Option<bool>>,
) -> Option<Result<u32, String>> {
    let deployment = &place.deployment(client);
    let found = match deployment.get().await {
        Ok(found) => found,
        Err(CallError::Missing(why)) if why == ABSENT => return None,
        Err(error) => return Some(Err(error.to_string())),
    };
    let note = match Note::of(&found)? {
        Ok(note) => note,
        Err(why) => return Some(drop_note(deployment, why).await),
    };
    if !note.is_for(&found) {
        return Some(drop_note(deployment, "it has another template now").await);
    }
    if now < note.at {
        return None;
    }
    match carries_traffic.await {
        None => None,
        Some(true) => Some(drop_note(deployment, "it carries traffic").await),
        Some(false) => Some(match autoscaler::keeps_above(client, place, note.replicas).await {
            Some((scaler, least)) => drop_note(deployment, &kept(&scaler, least)).await,
            None => note.carry_out(deployment, found).await,
        }),
    }
}

/// Scaled down it would be scaled up again within seconds.
fn kept(scaler: &str, least: u64) -> String {
    format!("{scaler} keeps at least {least} replicas: write idle-replicas: 0, which it leaves alone, or lower its minReplicas")
}

struct Note {
    replicas: u32,
    at: Timestamp,
    template: String,
}

impl Note {
    /// `None` if there is none; the error if it cannot be read.
    fn of(found: &Value) -> Option<Result<Self, &'static str>> {
        let (replicas, at) = (annotation(found, REPLICAS), annotation(found, AT));
        if replicas.is_none() && at.is_none() {
            return None;
        }
        let read = || {
            let at: jiff::Timestamp = at?.parse().ok()?;
            let template = annotation(found, TEMPLATE)?.to_owned();
            Some(Self { replicas: replicas?.parse().ok()?, at: Timestamp::from_millis(at.as_millisecond()), template })
        };
        Some(read().ok_or("its note cannot be read"))
    }

    fn is_for(&self, found: &Value) -> bool {
        found.pointer("/spec/template").is_some_and(|template| identity(template) == self.template)
    }

    /// Number and note in one write, so that it is done once; only down.
    async fn carry_out(&self, deployment: &Object, seen: Value) -> Result<u32, String> {
        change(deployment, |found| {
            if !self.is_for(found) || annotation(found, AT) != annotation(&seen, AT) {
                return Err(Stop::again("another hand changed it at the same moment"));
            }
            let mut operations = unannotate(found, &ALL);
            if wanted(found) > u64::from(self.replicas) {
                operations.push(json!({"op": "add", "path": "/spec/replicas", "value": self.replicas}));
            }
            Ok(operations)
        })
        .await
        .map(|_| self.replicas)
        .map_err(|stop| stop.text)
    }
}

/// Says why, or why even that was not possible.
async fn drop_note(deployment: &Object, why: &str) -> Result<u32, String> {
    match change(deployment, |found| Ok(unannotate(found, &ALL))).await {
        Ok(_) => Err(format!("{why}: its note is dropped")),
        Err(stop) => Err(format!("{why}; its note could not be dropped: {}", stop.text)),
    }
}
