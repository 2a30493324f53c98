//! One Deployment in rolling update: the share is what readiness makes it. canaryd stops it (`spec.paused`), gives the ReplicaSet of the
//! new template, which it makes where there is none (`begin.rs`), the replicas a step takes, and takes the traffic back by giving the
//! Deployment the template it had before. Nothing else is written but our annotations.
//!
//! A weight is a lower bound: the fewest pods that are that share of all there are, where pods can be (`found.rs`). The Deployment stands
//! still while they change sides, in batches no larger than its strategy lets go (`batch.rs`); so whatever becomes of us, it goes no
//! further. It is let go on only to end (100 %, and back), and for its first new pods where their ReplicaSet may not be made: then its
//! controller makes them.
//!
//! How its controller counts while it is paused is in `state.rs`. What shall be done is decided there, purely; here it is done.

mod batch;
mod begin;
mod found;
mod state;
#[cfg(test)]
mod tests;

use super::layout::pointer;
use super::routed::Place;
use super::{claim, generation_of, told, version_of};
use crate::apiserver::{CallError, MANAGER, Object, Resource, has_become, identity, owner_of, replica_sets};
use crate::model::rule::KubernetesRoute;
use crate::model::{Noted, Side, Stands, TrafficReading, Weight};
use crate::router::{Desired, RouterError, no_newer};
use found::{Found, Size};
use kube::Client;
use parking_lot::Mutex;
use serde_json::{Value, json};
use state::{Next, Note, Plan, Trial};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long one write may take before it is asked for again: less than a write may last.
const WRITE_MAX: Duration = Duration::from_secs(7);
/// How often it is looked at meanwhile. A controller makes pods within moments of being let go on.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long a Deployment is read and paused again because another hand changed it in between: it rolls on meanwhile.
const HOLD_MAX: Duration = Duration::from_secs(7);

pub(super) struct Rolling {
    client: Client,
    namespace: String,
    deployment: Object,
    /// What the rollout on trial noted at its start.
    trial: Mutex<Option<Trial>>,
    /// What a write waits for, and since when nothing of it changed.
    waits: Mutex<Option<(String, Instant)>>,
}

impl std::fmt::Debug for Rolling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.deployment.fmt(f)
    }
}

impl Rolling {
    pub(super) fn new(client: Client, route: &KubernetesRoute) -> Self {
        let deployment = Object::new(client.clone(), Resource::DEPLOYMENT, &route.namespace, &route.name);
        Self { client, namespace: route.namespace.clone(), deployment, trial: Mutex::default(), waits: Mutex::default() }
    }

    fn refused(&self, why: String) -> RouterError {
        RouterError::Refused { what: self.deployment.what(), why }
    }

    fn error(&self, error: CallError) -> RouterError {
        told(self.deployment.what(), error)
    }

    async fn get(&self) -> Result<Value, RouterError> {
        self.deployment.get().await.map_err(|error| self.error(error))
    }

    async fn found(&self) -> Result<Found, RouterError> {
        let deployment = self.get().await?;
        let sets = replica_sets(&self.client, &deployment).await;
        let sets = sets.map_err(|error| told(format!("ReplicaSets of {}", self.deployment.what()), error))?;
        Ok(Found { deployment, sets })
    }

    /// Is the template that is there the one before, by what it says? It was written, by us or another hand, and the API server made
    /// another of it, whose ReplicaSet has another name. `other`: what was asked about last, and is not.
    async fn is_given_back(&self, found: &Found, trial: &Trial, other: &mut Option<String>) -> Result<bool, RouterError> {
        let Some(before) = trial.is_neither(found) else { return Ok(false) };
        let now = found.template();
        if other.as_ref() == Some(&now) {
            return Ok(false);
        }
        let is_it = has_become(&self.deployment, &found.deployment, before).await.map_err(|error| self.error(error))?;
        if !is_it {
            *other = Some(now);
        }
        Ok(is_it)
    }

    /// What the plan wants is written, unless it is so. `false`: it was not, and has to be looked at again.
    async fn settled(&self, found: &Found, plan: &Plan, (note, generation): (&Note, u64)) -> Result<bool, RouterError> {
        let noted = generation_of(&found.deployment) == Some(generation) && Note::of(&found.deployment).as_ref() == Some(note);
        if noted && plan.template.is_none() && found.is_paused() == plan.paused {
            return Ok(true);
        }
        let mut operations = claim(&found.deployment, generation);
        operations.extend(changes(found, plan, note));
        match self.deployment.patch(&operations).await {
            Ok(_) => Ok(false),
            Err(CallError::Conflict(answer)) => {
                // another hand was faster: what it made of it is looked at; if nobody was, it is the change that is refused
                let now = self.get().await?;
                if version_of(&now) == version_of(&found.deployment) { Err(self.refused(answer)) } else { Ok(false) }
            }
            Err(error) => Err(self.error(error)),
        }
    }

    /// On its way, for as long as the Deployment itself gives its pods without any progress: while it is paused its controller does not
    /// look at that.
    fn underway(&self, found: &Found, why: String) -> RouterError {
        let what = self.deployment.what();
        let mut waits = self.waits.lock();
        let since = waits.take().filter(|(before, _)| *before == why).map_or_else(Instant::now, |(_, since)| since);
        *waits = Some((why.clone(), since));
        match found.deadline() {
            Some(deadline) if since.elapsed() >= deadline => {
                let why = format!("{why}, and nothing came of it within its progressDeadlineSeconds ({})", deadline.as_secs());
                RouterError::NotVerified { what, why }
            }
            _ => RouterError::Underway { what, why },
        }
    }

    /// The template gets its ReplicaSet. `false`: we may not make it, or one of its name has another template.
    async fn begun(&self, found: &Found) -> Result<bool, RouterError> {
        let Some((name, set)) = begin::first_set(found) else { return Ok(false) };
        let object = Object::new(self.client.clone(), Resource::REPLICASET, &self.namespace, &name);
        match object.create(&set).await {
            Ok(_) => Ok(true),
            Err(CallError::Denied(_) | CallError::Refused(_) | CallError::Conflict(_)) => Ok(false),
            Err(error) => Err(told(object.what(), error)),
        }
    }

    async fn scale(&self, set: &Value, replicas: u64) -> Result<(), RouterError> {
        let name = set.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let object = Object::new(self.client.clone(), Resource::REPLICASET, &self.namespace, name);
        let before = set.pointer("/spec/replicas").cloned().unwrap_or_default();
        let operations = [
            json!({"op": "test", "path": "/spec/replicas", "value": before}),
            json!({"op": "replace", "path": "/spec/replicas", "value": replicas}),
        ];
        match object.patch(&operations).await {
            // it is another number by now, or gone: looked at again
            Ok(_) | Err(CallError::Conflict(_) | CallError::Missing(_)) => Ok(()),
            Err(error) => Err(told(object.what(), error)),
        }
    }
}

/// Tests of what the plan rests on, what it wants, and our note.
fn changes(found: &Found, plan: &Plan, note: &Note) -> Vec<Value> {
    let mut operations = vec![json!({"op": "test", "path": "/spec/template", "value": found.deployment.pointer("/spec/template")})];
    if let Some(before) = found.deployment.pointer("/spec/paused") {
        operations.push(json!({"op": "test", "path": "/spec/paused", "value": before}));
    }
    if let Some(template) = &plan.template {
        operations.push(json!({"op": "replace", "path": "/spec/template", "value": template}));
    }
    if found.is_paused() != plan.paused {
        operations.push(json!({"op": "add", "path": "/spec/paused", "value": plan.paused}));
    }
    operations.push(note.operation());
    operations
}

impl Place for Rolling {
    async fn reading(&self, _canary: Side) -> Result<TrafficReading, RouterError> {
        let found = self.found().await?;
        let (deployment, generation) = (&found.deployment, generation_of(&found.deployment));
        let note = found.note();
        if let Some(note) = note.as_ref().filter(|note| note.agrees(deployment)) {
            // it is in force when the ready pods are it
            let ours = |weight| TrafficReading::new(weight, generation, Some(MANAGER.to_owned()));
            return Ok(match found.lacks(&note.template, note.weight) {
                None => ours(note.weight),
                Some(why) => TrafficReading { stands: Stands::Underway(why), ..ours(found.ready_share(&note.template)) },
            });
        }
        let stands = if note.as_ref().is_some_and(|note| note.is_let_go(deployment)) { Stands::LetGo } else { Stands::Still };
        let writer = state::hand(deployment, note.as_ref());
        // `kubectl rollout undo` takes notes away with the template
        let told = || self.trial.lock().as_ref().map(|trial| trial.template.clone());
        let on_trial = note.map(|note| note.template).or_else(told).unwrap_or_else(|| found.template());
        Ok(TrafficReading { stands, ..TrafficReading::new(found.ready_share(&on_trial), generation, writer) })
    }

    async fn make_so(&self, desired: Desired) -> Result<(), RouterError> {
        let trial = self.trial.lock().clone();
        let trial = trial.ok_or_else(|| self.refused("no rollout has told what is on trial".to_owned()))?;
        let until = Instant::now() + WRITE_MAX;
        let mut other = None;
        loop {
            let found = self.found().await?;
            no_newer(&self.deployment.what(), generation_of(&found.deployment), desired.generation)?;
            let mut note = Note::next(&found, &trial, desired.weight);
            let mut trial = trial.clone().called(&found, Some(&note));
            if desired.weight.is_zero() && self.is_given_back(&found, &trial, &mut other).await? {
                trial.given_back_as(&found, &mut note);
            }
            let plan = Plan::of(&found, &trial, &note).map_err(|why| self.refused(why))?;
            let settled = self.settled(&found, &plan, (&note, desired.generation)).await?;
            let why = match plan.next {
                Next::Done if settled => {
                    *self.waits.lock() = None;
                    return Ok(());
                }
                Next::Done => String::from("it is being written"),
                Next::Scale { set, replicas, why } if settled => {
                    self.scale(&set, replicas).await?;
                    why
                }
                Next::Begin(why) if settled => {
                    if !self.begun(&found).await? {
                        self.settled(&found, &Plan::let_go(why.clone()), (&note, desired.generation)).await?;
                    }
                    why
                }
                Next::Wait(why) | Next::Begin(why) | Next::Scale { why, .. } => why,
            };
            if Instant::now() >= until {
                return Err(self.underway(&found, why));
            }
            if settled {
                sleep(LOOK_AGAIN).await;
            }
        }
    }

    async fn let_go(&self) -> Result<(), RouterError> {
        let found = self.found().await?;
        if !state::is_left_held(&found) {
            return Ok(());
        }
        let operations = [
            json!({"op": "test", "path": "/metadata/resourceVersion", "value": version_of(&found.deployment)}),
            json!({"op": "replace", "path": "/spec/paused", "value": false}),
        ];
        self.deployment.patch(&operations).await.map(drop).map_err(|error| self.error(error))
    }

    async fn foretell(&self, weights: &[Weight]) -> Result<Vec<String>, RouterError> {
        let size = Size::of(&self.get().await?);
        let said = weights.iter().filter_map(|weight| size.foretell(*weight));
        Ok(said.map(|said| format!("{}: {said}", self.deployment.what())).collect())
    }

    fn begins(&self, noted: &Noted) {
        *self.trial.lock() = Some(Trial::of(noted));
    }

    /// Paused, as whoever made it wanted it or by us; which of them it was is noted, for that is how it is left in the end.
    async fn hold_still(&self, noted: &Noted) -> Result<(), RouterError> {
        let trial = Trial::of(noted);
        let until = Instant::now() + HOLD_MAX;
        loop {
            // read again last: the fewer moments between that and the write, the fewer other hands
            let sets = self.found().await?.sets;
            let all = Found { deployment: self.get().await?, sets };
            if all.template() != trial.clone().called(&all, Note::of(&all.deployment).as_ref()).template {
                return Err(self.refused("has got another template meanwhile".to_owned()));
            }
            if trial.before.is_none() {
                return Err(self.refused("keeps no template from before this one: set revisionHistoryLimit to 1 or more".to_owned()));
            }
            let note = Note::first(&all, &trial);
            let ours = Note::of(&all.deployment).as_ref() == Some(&note);
            if ours && state::is_paused(&all.deployment) {
                return Ok(());
            }
            if !ours && all.is_through(&all.template()) {
                return Err(self.refused("has no pod of the template before any more: there is nothing to compare with".to_owned()));
            }
            let found = all.deployment;
            match self.deployment.patch(&state::stopped(&found, &note)).await {
                Ok(_) => return Ok(()),
                Err(CallError::Conflict(answer)) if version_of(&self.get().await?) == version_of(&found) => {
                    return Err(self.refused(answer));
                }
                Err(CallError::Conflict(_)) if Instant::now() < until => {}
                Err(CallError::Conflict(_)) => {
                    return Err(self.refused(format!("another hand changed it at the same moment, for {} s on end", HOLD_MAX.as_secs())));
                }
                Err(error) => return Err(self.error(error)),
            }
        }
    }
}
