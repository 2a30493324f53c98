//! What a Deployment in rolling update is, and what is to be done about it. Pure.
//!
//! While it is paused its controller makes no new ReplicaSet and moves nothing from the old one to the new one. It does three things
//! (`scale` of Kubernetes' deployment controller): one ReplicaSet that has replicas alone gets all of them; a new one that has all its
//! replicas available ends the old ones; and a sum below `replicas + maxSurge` is filled up, one above it is cut, nearly always at the
//! larger ReplicaSet (of two that are as large, at the newer when filling up and at the older when cutting). So a share is counted of that
//! sum, or filling up would take it back; and growing the smaller of two shrinks the larger. A new ReplicaSet that is made for it
//! (`begin.rs`) it takes for its own.

use super::batch::Batch;
use super::found::{Found, Pods, asked};
use super::{MANAGER, Noted, Weight, identity, owner_of, pointer, version_of};
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

    /// The ReplicaSets that run its templates.
    fn sets(&self, found: &Found) -> [Option<String>; 2] {
        let before = self.before.as_ref().map(|(_, before)| before);
        [Some(&self.template), before].map(|template| found.set_of(template?))
    }

    /// By what its templates are called now: those of the ReplicaSets that were noted to run them. `noted`: at the last write.
    pub(super) fn called(mut self, found: &Found, noted: Option<&Note>) -> Self {
        let Some(note) = noted.filter(|note| note.template == self.template) else { return self };
        let [set, set_before] = note.sets.each_ref().map(|set| found.template_of_set(set.as_deref()?));
        if let Some(template) = set {
            self.template = template;
        }
        if let (Some((_, before)), Some(template)) = (&mut self.before, set_before) {
            *before = template;
        }
        self
    }
}

impl Trial {
    /// A template that is neither of both, as far as their identities tell: it may be what the API server made of the one before.
    pub(super) fn is_neither(&self, found: &Found) -> Option<&Value> {
        let now = found.template();
        self.before.as_ref().filter(|(_, before)| now != *before && now != self.template).map(|(template, _)| template)
    }

    /// The template before is called as the one that is there now.
    pub(super) fn given_back_as(&mut self, found: &Found, note: &mut Note) {
        let Some((_, before)) = &mut self.before else { return };
        *before = found.template();
        // until its controller has made one, the ReplicaSet of before is as good as any
        if let Some(set) = found.set_of(before) {
            note.sets[1] = Some(set);
        }
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
    /// Names of the ReplicaSets that run the template on trial and the one before it, as far as there are any: by them a template is the
    /// same that a newer API server reads otherwise.
    pub(super) sets: [Option<String>; 2],
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
            sets: ["set", "set-before"].map(|which| note.get(which).and_then(Value::as_str).map(str::to_owned)),
        })
    }

    /// Before the first weight of a template.
    pub(super) fn first(found: &Found, trial: &Trial) -> Self {
        let rests_paused = rests_paused(&found.deployment);
        let sets = trial.clone().called(found, Self::of(&found.deployment).as_ref()).sets(found);
        Self { template: trial.template.clone(), weight: Weight::ZERO, rests_paused, sets }
    }

    /// With this weight. The template is called what it was called at the start.
    pub(super) fn next(found: &Found, trial: &Trial, weight: Weight) -> Self {
        let ours = Self::of(&found.deployment).filter(|note| note.template == trial.template);
        let sets = trial.clone().called(found, ours.as_ref()).sets(found);
        let rests_paused = ours.map_or_else(|| rests_paused(&found.deployment), |note| note.rests_paused);
        Self { template: trial.template.clone(), weight, rests_paused, sets }
    }

    pub(super) fn operation(&self) -> Value {
        let mut note = json!({"template": self.template, "permille": self.weight.permille(), "rests-paused": self.rests_paused});
        for (which, set) in ["set", "set-before"].into_iter().zip(&self.sets) {
            if let Some(set) = set {
                note[which] = set.as_str().into();
            }
        }
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

impl Note {
    /// Has another hand let it go on, that was to stand still?
    pub(super) fn is_let_go(&self, deployment: &Value) -> bool {
        !self.weight.is_full() && template_of(deployment) == self.template && !is_paused(deployment)
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

pub(super) fn template_of(deployment: &Value) -> String {
    deployment.pointer("/spec/template").map(identity).unwrap_or_default()
}

/// Is it paused by us for a template it has no more, and owned as not paused? Most of its pods run the one it has.
pub(super) fn is_left_held(found: &Found) -> bool {
    let (deployment, template) = (&found.deployment, found.template());
    let ours = owner_of(deployment, &["spec", "paused"]).as_deref() == Some(MANAGER);
    let gone = found.note().is_some_and(|note| note.weight.is_zero() && !note.rests_paused && note.template != template);
    let most = found.sets.iter().map(asked).max().unwrap_or(0);
    found.is_paused() && ours && gone && found.of(&template).any(|set| asked(set) == most)
}

/// Whose hand it was that made it differ from the note. Who resumes a Deployment takes a field away, which leaves no name.
pub(super) fn hand(deployment: &Value, note: Option<&Note>) -> Option<String> {
    match note {
        Some(note) if note.is_let_go(deployment) => {
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
    /// The template gets its ReplicaSet, without replicas; or where nobody may make one, its controller is let go on to. For what.
    Begin(String),
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

    /// Its controller makes the first pods, and then goes on with more.
    pub(super) const fn let_go(why: String) -> Self {
        Self::new(false, Next::Wait(why))
    }

    /// Its controller has to look at it as it is.
    fn unseen(found: &Found) -> Self {
        Self::new(found.is_paused(), Next::Wait("its controller has not seen it yet".to_owned()))
    }
}

/// To a part: pods change sides batch by batch while it stands still. It is let go on only where its controller alone can make them: where
/// nobody may make the ReplicaSet of a template it has not begun with, and of two that are as large and as old.
fn up(found: &Found, trial: &Trial, weight: Weight) -> Result<Plan, String> {
    found.divisible()?;
    let wanted = found.size().part(weight);
    let batch = Batch::of(found, &trial.template, wanted);
    let new = Found::pods(found.of(&trial.template));
    let first = || format!("its controller is to make the first of {wanted} new pods");
    let begun = found.of(&trial.template).next().is_some();
    match batch {
        Batch::LetGo if found.is_paused() && !begun && found.observed() => return Ok(Plan::new(true, Next::Begin(first()))),
        Batch::LetGo if found.is_paused() && begun => return Ok(Plan::let_go(first())),
        // it was let go on for that
        Batch::LetGo if !found.is_paused() && !found.observed() => return Ok(Plan::let_go(first())),
        _ => {}
    }
    let still = |next| Ok(Plan::new(true, next));
    if !found.observed() || !found.is_paused() {
        return still(Next::Wait("its controller has not seen yet that it is paused".to_owned()));
    }
    let lacks = found.lacks(&trial.template, weight);
    still(match (batch, lacks) {
        (Batch::Scale { set, replicas }, lacks) => {
            let why = lacks.unwrap_or_else(|| format!("{} pods of the new template are more than {wanted}", new.asked));
            Next::Scale { set, replicas, why }
        }
        (Batch::Complete, None) => Next::Done,
        (_, Some(why)) => Next::Wait(why),
        (_, None) => Next::Wait("its controller is to count its pods".to_owned()),
    })
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
    let batch = found.size().surge.max(1);
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
