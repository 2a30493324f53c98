//! What a Deployment in rolling update is, and what is to be done about it. Pure.
//!
//! While it is paused its controller makes no new ReplicaSet and moves nothing from the old one to the new one. It does three things
//! (`scale` of Kubernetes' deployment controller): one ReplicaSet that has replicas alone gets all of them; a new one that has all its
//! replicas available ends the old ones; and a sum below `replicas + maxSurge` is filled up, one above it is cut, nearly always at the
//! larger ReplicaSet. So a share is counted of that sum, or filling up would take it back; and growing the smaller of two shrinks the
//! larger.

use super::{MANAGER, Noted, Weight, identity, owner_of, pointer, version_of};
use crate::router::share::second_share;
use serde_json::{Value, json};

/// Our note on the Deployment.
const NOTE: &str = "canaryd.io/rolling-update";

/// What a rollout noted of the template it tries.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Trial {
    /// Its identity.
    pub(super) template: String,
    /// The one before it, and its identity.
    pub(super) before: Option<(Value, String)>,
}

impl Trial {
    pub(super) fn of(noted: &Noted) -> Self {
        let before = noted.template_before.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
        Self { template: noted.template.clone(), before: before.map(|before| (before.clone(), identity(&before))) }
    }
}

/// What is noted on the Deployment: what the next reading is held against, by whichever process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    /// Identity of the template on trial.
    pub(super) template: String,
    pub(super) weight: Weight,
    /// How whoever owns the Deployment has it: paused between two rollouts, or not.
    pub(super) rests_paused: bool,
}

impl Note {
    pub(super) fn of(deployment: &Value) -> Option<Self> {
        let text = deployment.pointer(&pointer(&["metadata", "annotations", NOTE]))?.as_str()?;
        let note: Value = serde_json::from_str(text).ok()?;
        let permille = u16::try_from(note.get("permille")?.as_u64()?).ok()?;
        Some(Self {
            template: note.get("template")?.as_str()?.to_owned(),
            weight: Weight::from_permille(permille).ok()?,
            rests_paused: note.get("rests-paused")?.as_bool()?,
        })
    }

    /// Before the first weight of a template.
    pub(super) fn first(deployment: &Value, template: String) -> Self {
        Self { template, weight: Weight::ZERO, rests_paused: rests_paused(deployment) }
    }

    /// With this weight.
    pub(super) fn next(deployment: &Value, trial: &Trial, weight: Weight) -> Self {
        let ours = Self::of(deployment).filter(|note| note.template == trial.template);
        let rests_paused = ours.map_or_else(|| rests_paused(deployment), |note| note.rests_paused);
        Self { template: trial.template.clone(), weight, rests_paused }
    }

    pub(super) fn operation(&self) -> Value {
        let note = json!({"template": self.template, "permille": self.weight.permille(), "rests-paused": self.rests_paused});
        json!({"op": "add", "path": pointer(&["metadata", "annotations", NOTE]), "value": note.to_string()})
    }

    /// Is the Deployment as it was left with this note? At 0 and at 100 % whether it is paused moves nothing.
    pub(super) fn agrees(&self, deployment: &Value) -> bool {
        let on_trial = template_of(deployment) == self.template;
        match self.weight {
            Weight::ZERO => !on_trial,
            Weight::FULL => on_trial,
            _ => on_trial && is_paused(deployment),
        }
    }
}

/// A pause of ours is of a rollout, and says nothing; what it was before is noted.
fn rests_paused(deployment: &Value) -> bool {
    let ours = owner_of(deployment, &["spec", "paused"]).as_deref() == Some(MANAGER);
    match Note::of(deployment).filter(|_| ours) {
        Some(note) => is_paused(deployment) && note.rests_paused,
        None => is_paused(deployment),
    }
}

pub(super) fn is_paused(deployment: &Value) -> bool {
    deployment.pointer("/spec/paused") == Some(&Value::Bool(true))
}

fn template_of(deployment: &Value) -> String {
    deployment.pointer("/spec/template").map(identity).unwrap_or_default()
}

/// Whose hand it was that made it differ from the note. Who resumes a Deployment takes a field away, which leaves no name.
pub(super) fn hand(deployment: &Value, note: Option<&Note>) -> Option<String> {
    match note {
        Some(note) if template_of(deployment) == note.template && !note.weight.is_zero() => {
            let owner = owner_of(deployment, &["spec", "paused"]).filter(|owner| owner != MANAGER);
            Some(owner.unwrap_or_else(|| "whoever resumed the rolling update".to_owned()))
        }
        _ => owner_of(deployment, &["spec", "template"]),
    }
}

/// Operations that pause it, as it was read, and note that.
pub(super) fn stopped(deployment: &Value, note: &Note) -> Vec<Value> {
    let mut operations = vec![json!({"op": "test", "path": "/metadata/resourceVersion", "value": version_of(deployment)})];
    if deployment.pointer("/metadata/annotations").is_none_or(Value::is_null) {
        operations.push(json!({"op": "add", "path": "/metadata/annotations", "value": {}}));
    }
    if !is_paused(deployment) {
        operations.push(json!({"op": "add", "path": "/spec/paused", "value": true}));
    }
    operations.push(note.operation());
    operations
}

/// A Deployment and its ReplicaSets as they were read.
pub(super) struct Found {
    pub(super) deployment: Value,
    pub(super) sets: Vec<Value>,
}

/// Pods of some ReplicaSets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pods {
    asked: u64,
    ready: u64,
    /// Ready for long enough: those the controller goes on with.
    available: u64,
}

/// Replicas a ReplicaSet is asked for.
fn asked(set: &Value) -> u64 {
    set.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(0)
}

impl Found {
    fn number(&self, path: &str) -> u64 {
        self.deployment.pointer(path).and_then(Value::as_u64).unwrap_or(0)
    }

    fn replicas(&self) -> u64 {
        self.deployment.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1)
    }

    /// Pods above its replicas that it may start at once.
    fn surge(&self) -> u64 {
        match self.deployment.pointer("/spec/strategy/rollingUpdate/maxSurge") {
            Some(Value::String(text)) => {
                let percent = text.trim_end_matches('%').parse::<u64>().unwrap_or(0);
                percent.saturating_mul(self.replicas()).div_ceil(100)
            }
            other => other.and_then(Value::as_u64).unwrap_or(0),
        }
    }

    pub(super) fn is_paused(&self) -> bool {
        is_paused(&self.deployment)
    }

    /// Identity of its template.
    pub(super) fn template(&self) -> String {
        template_of(&self.deployment)
    }

    fn observed(&self) -> bool {
        self.number("/status/observedGeneration") >= self.number("/metadata/generation")
    }

    fn of<'a>(&'a self, template: &'a str) -> impl Iterator<Item = &'a Value> {
        self.sets.iter().filter(move |set| set.pointer("/spec/template").is_some_and(|own| identity(own) == template))
    }

    fn pods<'a>(sets: impl Iterator<Item = &'a Value>) -> Pods {
        let number = |set: &Value, path: &str| set.pointer(path).and_then(Value::as_u64).unwrap_or(0);
        sets.fold(Pods::default(), |sum, set| Pods {
            asked: sum.asked + number(set, "/spec/replicas"),
            ready: sum.ready + number(set, "/status/readyReplicas"),
            available: sum.available + number(set, "/status/availableReplicas"),
        })
    }

    fn others_than(&self, set: &Value) -> Pods {
        Self::pods(self.sets.iter().filter(|other| *other != set))
    }

    /// The share of the ready pods that are of this template; 0 if none is ready.
    pub(super) fn ready_share(&self, template: &str) -> Weight {
        let (all, new) = (Self::pods(self.sets.iter()), Self::pods(self.of(template)));
        second_share([all.ready.saturating_sub(new.ready), new.ready]).unwrap_or(Weight::ZERO)
    }

    /// What is missing until all its pods are of its template and available, by its controller's word.
    fn incomplete(&self) -> Option<String> {
        let [all, updated, available] =
            ["replicas", "updatedReplicas", "availableReplicas"].map(|key| self.number(&format!("/status/{key}")));
        let wanted = self.replicas();
        let complete = updated == wanted && all == updated && available >= wanted;
        (!complete).then(|| format!("{updated} of {wanted} updated, {} old, {available} available", all.saturating_sub(updated)))
    }

    /// Can a part of its pods be new?
    fn divisible(&self) -> Result<(), String> {
        let strategy = self.deployment.pointer("/spec/strategy/type").and_then(Value::as_str).unwrap_or("RollingUpdate");
        if strategy != "RollingUpdate" {
            return Err(format!("has strategy {strategy}, which replaces all pods at once: set RollingUpdate"));
        }
        match self.replicas() {
            0 | 1 => Err("has less than 2 replicas, of which no part can be new: scale it up, or write one step of 100%".to_owned()),
            _ => Ok(()),
        }
    }
}

/// What shall be so now, and what follows when it is.
#[derive(Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) paused: bool,
    /// The template it shall get, if that is another one.
    pub(super) template: Option<Value>,
    pub(super) next: Next,
}

#[derive(Debug, PartialEq)]
pub(super) enum Next {
    Done,
    /// For what.
    Wait(String),
    /// A ReplicaSet gets so many replicas.
    Scale {
        set: Value,
        replicas: u64,
        why: String,
    },
}

impl Plan {
    /// # Errors
    /// Why it cannot be.
    pub(super) fn of(found: &Found, trial: &Trial, note: &Note) -> Result<Self, String> {
        match note.weight {
            Weight::ZERO => back(found, trial, note.rests_paused),
            _ if found.template() != trial.template => {
                let hand = owner_of(&found.deployment, &["spec", "template"]).unwrap_or_else(|| "another hand".to_owned());
                Err(format!("has another template than the one on trial, by {hand}"))
            }
            Weight::FULL => Ok(whole(found, note.rests_paused)),
            part => up(found, trial, part),
        }
    }

    const fn new(paused: bool, next: Next) -> Self {
        Self { paused, template: None, next }
    }

    /// Its controller has to look at it as it is.
    fn unseen(found: &Found) -> Self {
        Self::new(found.is_paused(), Next::Wait("its controller has not seen it yet".to_owned()))
    }
}

/// To a part: let go on until enough pods are asked for, and stopped while they start.
fn up(found: &Found, trial: &Trial, weight: Weight) -> Result<Plan, String> {
    found.divisible()?;
    let (all, new) = (Found::pods(found.sets.iter()), Found::pods(found.of(&trial.template)));
    let full = all.asked.max(found.replicas() + found.surge());
    let enough = new.asked >= found.replicas() || new.asked * 1000 >= u64::from(weight.permille()) * full;
    let starting = new.available < new.asked;
    let next = if !found.observed() {
        Next::Wait("its controller has not seen it yet".to_owned())
    } else if enough && found.ready_share(&trial.template) >= weight {
        Next::Done
    } else if starting {
        Next::Wait(format!("{} of {} new pods are ready, beside {} old ones", new.ready, new.asked, all.ready.saturating_sub(new.ready)))
    } else {
        Next::Wait(format!("its controller has made {} new pods of {full} and is to make more", new.asked))
    };
    Ok(Plan::new(enough || starting, next))
}

/// All pods are new, and it is left as it was found.
fn whole(found: &Found, rests_paused: bool) -> Plan {
    match found.incomplete() {
        _ if !found.observed() => Plan::unseen(found),
        None => Plan::new(rests_paused, Next::Done),
        Some(why) => Plan::new(false, Next::Wait(why)),
    }
}

/// No pod is new: the template before is there again. Where a newer one is, that is left alone.
fn back(found: &Found, trial: &Trial, rests_paused: bool) -> Result<Plan, String> {
    let now = found.template();
    let new = Found::pods(found.of(&trial.template));
    let left = format!("{} new pods are still ready", new.ready);
    match &trial.before {
        Some((_, before)) if now == *before && !found.observed() => Ok(Plan::unseen(found)),
        Some((_, before)) if now == *before => {
            let gone = new.ready == 0 && new.asked == 0;
            Ok(if gone { Plan::new(rests_paused, Next::Done) } else { Plan::new(false, Next::Wait(left)) })
        }
        Some((template, _)) if now == trial.template => {
            Ok(Plan { paused: false, template: Some(template.clone()), next: Next::Wait(left) })
        }
        None if now == trial.template => Err("keeps no template from before this release: undo it by hand".to_owned()),
        _ => superseded(found, trial, new),
    }
}

/// A newer template is there, and waits: while it is paused, the pods on trial make room for those from before it. Those grow batch by
/// batch as long as they are fewer; then the others end, and the controller gives those from before all replicas.
fn superseded(found: &Found, trial: &Trial, new: Pods) -> Result<Plan, String> {
    let paused = |next| Ok(Plan::new(true, next));
    if !found.observed() || !found.is_paused() {
        return paused(Next::Wait("its controller has not seen yet that it is paused".to_owned()));
    }
    if new.asked == 0 {
        let left = format!("{} pods of the release before the newest are still ready", new.ready);
        return paused(if new.ready == 0 { Next::Done } else { Next::Wait(left) });
    }
    // it was not paused while it was complete: a first batch of the newest may have begun, and would grow as the others go
    let template = found.template();
    let newest = found.of(&template).find(|set| asked(set) > 0);
    if let Some(set) = newest.filter(|set| found.others_than(set).available >= asked(set)) {
        let why = format!("a newer template is there: its first {} pods wait for a rollout of their own", asked(set));
        return paused(Next::Scale { set: set.clone(), replicas: 0, why });
    }
    let before = trial.before.as_ref().and_then(|(_, before)| found.of(before).next());
    let Some(before) = before else {
        return Err("has a newer template, and the ReplicaSet from before the one on trial is gone: roll it back by hand".to_owned());
    };
    let old = Found::pods(std::iter::once(before));
    let batch = found.surge().max(1);
    let told = |to: &str| format!("a newer template is there: replicas go back to the release before, {to}");
    if old.available < old.asked {
        return paused(Next::Wait(told(&format!("{} of {} pods are available", old.available, old.asked))));
    }
    // of two that are as large the older is cut
    if old.asked + batch < new.asked {
        let (set, replicas) = (before.clone(), old.asked + batch);
        return paused(Next::Scale { set, replicas, why: told(&format!("now {replicas}")) });
    }
    match found.of(&trial.template).find(|set| asked(set) > 0) {
        Some(set) => paused(Next::Scale { set: set.clone(), replicas: 0, why: told("all") }),
        None => paused(Next::Wait(told("all"))),
    }
}
