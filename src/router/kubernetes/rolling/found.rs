//! A Deployment and its ReplicaSets as they were read, and what they make of each other. Pure.

use super::state::{Note, is_paused, template_of};
use super::{Weight, identity};
use crate::router::share::second_share;
use serde_json::Value;
use std::time::Duration;

/// What a Deployment without a progress deadline has (2^31 - 1).
const NO_DEADLINE: u64 = 2_147_483_647;

/// A Deployment and its ReplicaSets as they were read.
pub(super) struct Found {
    pub(super) deployment: Value,
    pub(super) sets: Vec<Value>,
}

/// Pods of some ReplicaSets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pods {
    pub(super) asked: u64,
    pub(super) ready: u64,
    /// Ready for long enough: those the controller goes on with.
    pub(super) available: u64,
}

/// Replicas a ReplicaSet is asked for.
pub(super) fn asked(set: &Value) -> u64 {
    set.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(0)
}

/// How many replicas a Deployment has, and by how many it may leave that in a rolling update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) replicas: u64,
    /// Pods above its replicas that it may start at once.
    pub(super) surge: u64,
    /// Pods below them that it may end at once.
    pub(super) unavailable: u64,
}

impl Size {
    pub(super) fn of(deployment: &Value) -> Self {
        let replicas = deployment.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1);
        let number = |which: &str, round: fn(u64) -> u64| {
            let path = format!("/spec/strategy/rollingUpdate/{which}");
            match deployment.pointer(&path) {
                Some(Value::String(text)) => {
                    let percent = text.trim_end_matches('%').parse::<u64>().unwrap_or(0);
                    round(percent.saturating_mul(replicas))
                }
                other => other.and_then(Value::as_u64).unwrap_or(0),
            }
        };
        let surge = number("maxSurge", |parts| parts.div_ceil(100));
        Self { replicas, surge, unavailable: number("maxUnavailable", |parts| parts / 100).min(replicas) }
    }

    /// How many pods the controller keeps while pods of both templates are there.
    pub(super) const fn whole(self) -> u64 {
        self.replicas + self.surge
    }

    /// How many may be exchanged at once. Where neither number lets one go, the controller lets one go.
    pub(super) const fn batch(self) -> u64 {
        let batch = self.surge + self.unavailable;
        if batch == 0 { 1 } else { batch }
    }

    /// How many new pods a part is: the fewest that are it. Never so many as there are replicas, for then the controller ends the old
    /// ones, and never all; where only those would be enough, the most below. 2 replicas or more.
    pub(super) fn part(self, weight: Weight) -> u64 {
        let exact = (u64::from(weight.permille()) * self.whole()).div_ceil(1000).max(1);
        let most = self.whole().saturating_sub(1);
        let possible = |n: &u64| *n != self.replicas && *n <= most;
        let fewest = [exact, exact + 1].into_iter().find(possible);
        fewest.or_else(|| [most, most.saturating_sub(1)].into_iter().find(possible)).unwrap_or(1)
    }

    /// What becomes of a step whose share so few pods cannot make; `None` = it is that share, or not much more.
    pub(super) fn foretell(self, weight: Weight) -> Option<String> {
        if weight.is_zero() || weight.is_full() || self.replicas < 2 {
            return None;
        }
        let (new, whole, Self { replicas, surge, .. }) = (self.part(weight), self.whole(), self);
        let share = second_share([whole.saturating_sub(new), new])?;
        let why = if share < weight {
            "more would be all of them"
        } else if share.permille() > weight.permille() + weight.permille() / 2 {
            "fewer are no such share"
        } else {
            return None;
        };
        Some(format!("the step of {weight} will be {new} of {whole} pods, {share}: {why} ({replicas} replicas, maxSurge {surge})"))
    }
}

impl Found {
    fn number(&self, path: &str) -> u64 {
        self.deployment.pointer(path).and_then(Value::as_u64).unwrap_or(0)
    }

    pub(super) fn size(&self) -> Size {
        Size::of(&self.deployment)
    }

    /// How long its pods may take without any progress; `None` = as long as they like.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let seconds = self.number("/spec/progressDeadlineSeconds");
        (seconds > 0 && seconds < NO_DEADLINE).then(|| Duration::from_secs(seconds))
    }

    pub(super) fn is_paused(&self) -> bool {
        is_paused(&self.deployment)
    }

    /// Identity of its template.
    pub(super) fn template(&self) -> String {
        template_of(&self.deployment)
    }

    pub(super) fn observed(&self) -> bool {
        self.number("/status/observedGeneration") >= self.number("/metadata/generation")
    }

    pub(super) fn of<'a>(&'a self, template: &'a str) -> impl Iterator<Item = &'a Value> {
        self.sets.iter().filter(move |set| set.pointer("/spec/template").is_some_and(|own| identity(own) == template))
    }

    pub(super) fn pods<'a>(sets: impl Iterator<Item = &'a Value>) -> Pods {
        let number = |set: &Value, path: &str| set.pointer(path).and_then(Value::as_u64).unwrap_or(0);
        sets.fold(Pods::default(), |sum, set| Pods {
            asked: sum.asked + number(set, "/spec/replicas"),
            ready: sum.ready + number(set, "/status/readyReplicas"),
            available: sum.available + number(set, "/status/availableReplicas"),
        })
    }

    pub(super) fn others_than(&self, set: &Value) -> Pods {
        Self::pods(self.sets.iter().filter(|other| *other != set))
    }

    /// Our note, with its template called as it is read now.
    pub(super) fn note(&self) -> Option<Note> {
        let note = Note::of(&self.deployment)?;
        let now = note.sets[0].as_deref().and_then(|set| self.template_of_set(set));
        let template = now.unwrap_or_else(|| note.template.clone());
        Some(Note { template, ..note })
    }

    /// Identity of the template of the ReplicaSet of this name.
    pub(super) fn template_of_set(&self, name: &str) -> Option<String> {
        let named = self.sets.iter().find(|set| set.pointer("/metadata/name").and_then(Value::as_str) == Some(name));
        named?.pointer("/spec/template").map(identity)
    }

    /// Name of the ReplicaSet of this template.
    pub(super) fn set_of(&self, template: &str) -> Option<String> {
        let set = self.of(template).max_by_key(|set| asked(set))?;
        set.pointer("/metadata/name").and_then(Value::as_str).map(str::to_owned)
    }

    /// The share of the ready pods that are of this template; 0 if none is ready.
    pub(super) fn ready_share(&self, template: &str) -> Weight {
        let (all, new) = (Self::pods(self.sets.iter()), Self::pods(self.of(template)));
        second_share([all.ready.saturating_sub(new.ready), new.ready]).unwrap_or(Weight::ZERO)
    }

    /// Why this weight is not in force, if it is not: which pods are still to be ready, or to end.
    pub(super) fn lacks(&self, template: &str, weight: Weight) -> Option<String> {
        let (all, new) = (Self::pods(self.sets.iter()), Self::pods(self.of(template)));
        let old = all.ready.saturating_sub(new.ready);
        match weight {
            Weight::ZERO => (new.ready > 0).then(|| format!("{} pods of the new template are still ready", new.ready)),
            Weight::FULL => (old > 0).then(|| format!("{} pods of the new template are ready, and {old} old ones still are", new.ready)),
            part => self.divisible().err().or_else(|| {
                let (part, whole) = (self.size().part(part), self.size().whole());
                // where no old one is left, all are as many as there can be
                let wanted = if all.asked == new.asked { part.min(self.size().replicas) } else { part };
                let enough = new.ready >= wanted && all.ready <= whole;
                (!enough).then(|| format!("{} of {wanted} pods of the new template are ready, beside {old} old ones", new.ready))
            }),
        }
    }

    /// Are all its pods asked for of this template, and none is left to compare them with?
    pub(super) fn is_through(&self, template: &str) -> bool {
        let (all, new) = (Self::pods(self.sets.iter()), Self::pods(self.of(template)));
        new.asked > 0 && new.asked == all.asked
    }

    /// What is missing until all its pods are of its template and available, by its controller's word.
    pub(super) fn incomplete(&self) -> Option<String> {
        let [all, updated, available] =
            ["replicas", "updatedReplicas", "availableReplicas"].map(|key| self.number(&format!("/status/{key}")));
        let wanted = self.size().replicas;
        let complete = updated == wanted && all == updated && available >= wanted;
        (!complete).then(|| format!("{updated} of {wanted} updated, {} old, {available} available", all.saturating_sub(updated)))
    }

    /// Can a part of its pods be new?
    pub(super) fn divisible(&self) -> Result<(), String> {
        let strategy = self.deployment.pointer("/spec/strategy/type").and_then(Value::as_str).unwrap_or("RollingUpdate");
        if strategy != "RollingUpdate" {
            return Err(format!("has strategy {strategy}, which replaces all pods at once: set RollingUpdate"));
        }
        match self.size().replicas {
            0 | 1 => Err("has less than 2 replicas, of which no part can be new: scale it up, or write one step of 100%".to_owned()),
            _ => Ok(()),
        }
    }
}
