//! What is known of one namespace: its Deployments, their ReplicaSets, and the pods of those. It is told what the watches see and asked
//! what follows from it; it asks nobody and reads no clock.

use super::objects::{Deployment, PodNow, Set, Unhealthy};
use super::pods::PodLife;
use crate::model::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

/// Pods that are gone are remembered so long: their last counters, and what went wrong with them, are their workload's.
pub(super) const GONE_FOR: Duration = Duration::from_secs(24 * 3600);
/// The most of them in a namespace.
pub(super) const GONE_MAX: usize = 10_000;
/// The most events of failed probes whose count is remembered, in a namespace; more are not counted.
const EVENTS_MAX: usize = 20_000;

/// The most templates whose other reading is remembered, in a namespace: all of 500 Deployments with ten releases each, twice.
const RENAMED_MAX: usize = 10_000;

/// Which pods of a Deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which<'a> {
    /// All.
    All,
    /// Those of its present template.
    New,
    /// Those of the release before.
    Old,
    /// Those of the template of this identity.
    Of(&'a str),
}

/// How the templates of a Deployment and of its ReplicaSets are read: identities, by a text that stays the same as long as nobody writes
/// the template. That of a ReplicaSet is written once.
pub(super) fn readings<'a>(deployment: &Deployment, sets: impl Iterator<Item = &'a Set>) -> BTreeMap<String, String> {
    let own = (format!("{}/{}", deployment.uid, deployment.generation), deployment.template.clone());
    sets.map(|set| (set.uid.clone(), set.template.clone())).chain([own]).collect()
}

/// A ReplicaSet with its pods.
#[derive(Debug, Default)]
struct SetEntry {
    /// `None`: its pods were seen before it.
    set: Option<Set>,
    gone: bool,
    /// By uid.
    pods: BTreeMap<String, PodLife>,
}

/// A namespace.
#[derive(Debug, Default)]
pub(super) struct Table {
    deployments: BTreeMap<String, Deployment>,
    /// How often another template of a Deployment was seen: one that went and came again is told from one that stayed.
    releases: HashMap<String, u64>,
    /// By uid.
    sets: HashMap<String, SetEntry>,
    /// ReplicaSets (uid) of a Deployment (name).
    sets_of: HashMap<String, BTreeSet<String>>,
    /// ReplicaSet of a pod, both by uid.
    set_of: HashMap<String, String>,
    /// Identities of templates that are read otherwise than they were, and how: a newer API server fills in fields nobody wrote.
    renamed: HashMap<String, String>,
    /// How often an event has been counted, by its uid.
    events: HashMap<String, u32>,
    /// Deployments that are asked about, and since when.
    followed: BTreeMap<String, Timestamp>,
    /// Pods that are gone, in their order: when, ReplicaSet, pod.
    gone: VecDeque<(Timestamp, String, String)>,
    /// Pods that were gone by then may have been forgotten.
    forgotten: Timestamp,
    /// Rises with every change, and for each Deployment what it was at its last.
    version: u64,
    changed: HashMap<String, u64>,
    /// What found no room: pods forgotten early, events not counted.
    dropped: u64,
}

impl Table {
    // --- what is asked about ---

    /// From now on this Deployment is asked about.
    pub(super) fn follow(&mut self, name: &str, now: Timestamp) {
        self.followed.entry(name.to_owned()).or_insert(now);
    }

    /// Others are not asked about any more, and what is remembered of their pods that are gone is forgotten.
    pub(super) fn follow_only(&mut self, is_wanted: impl Fn(&str) -> bool) {
        let before = self.followed.len();
        self.followed.retain(|name, _| is_wanted(name));
        if self.followed.len() == before {
            return;
        }
        self.changed.retain(|name, _| self.followed.contains_key(name));
        self.releases.retain(|name, _| self.followed.contains_key(name));
        let gone = std::mem::take(&mut self.gone);
        for (at, set, uid) in gone {
            if self.owner(&set).is_some_and(|name| self.followed.contains_key(name)) {
                self.gone.push_back((at, set, uid));
            } else {
                self.forget(&set, &uid);
            }
        }
    }

    pub(super) fn followed_since(&self, name: &str) -> Option<Timestamp> {
        self.followed.get(name).map(|since| (*since).max(self.forgotten))
    }

    /// Rises with every change of something that is asked about.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// How often this Deployment was seen to get another template.
    pub(super) fn releases(&self, name: &str) -> u64 {
        self.releases.get(name).copied().unwrap_or(0)
    }

    /// What [`Self::version`] was when this Deployment last changed.
    pub(super) fn changed(&self, name: &str) -> u64 {
        self.changed.get(name).copied().unwrap_or(0)
    }

    /// All of them, for what is known of any of them has.
    pub(super) fn mark_all(&mut self) {
        self.version += 1;
        let version = self.version;
        self.changed.extend(self.followed.keys().map(|name| (name.clone(), version)));
    }

    /// How much found no room since this was last asked.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    fn mark(&mut self, name: &str) {
        if self.followed.contains_key(name) {
            self.version += 1;
            self.changed.insert(name.to_owned(), self.version);
        }
    }

    fn mark_set(&mut self, set: &str) {
        if let Some(name) = self.owner(set).map(str::to_owned) {
            self.mark(&name);
        }
    }

    /// Name of the Deployment a ReplicaSet belongs to.
    fn owner(&self, set: &str) -> Option<&str> {
        Some(&self.sets.get(set)?.set.as_ref()?.owner.as_ref()?.name)
    }

    // --- what the watches see ---

    pub(super) fn deployments(&mut self, all: Vec<Deployment>) {
        let there: HashSet<&str> = all.iter().map(|d| d.name.as_str()).collect();
        let gone: Vec<String> = self.deployments.keys().filter(|name| !there.contains(name.as_str())).cloned().collect();
        gone.iter().for_each(|name| self.deployment_gone(name));
        all.into_iter().for_each(|d| self.deployment(d));
    }

    pub(super) fn deployment(&mut self, deployment: Deployment) {
        if self.deployments.get(&deployment.name) != Some(&deployment) {
            let name = deployment.name.clone();
            // of one generation it is another reading of the same
            let is_other = |before: &Deployment| before.generation != deployment.generation && before.template != deployment.template;
            if self.deployments.get(&name).is_some_and(is_other) {
                *self.releases.entry(name.clone()).or_default() += 1;
            }
            self.deployments.insert(name.clone(), deployment);
            self.mark(&name);
        }
    }

    pub(super) fn deployment_gone(&mut self, name: &str) {
        if self.deployments.remove(name).is_some() {
            self.mark(name);
        }
    }

    pub(super) fn sets(&mut self, all: Vec<Set>) {
        let there: HashSet<&str> = all.iter().map(|s| s.uid.as_str()).collect();
        let known = self.sets.iter().filter(|(_, entry)| entry.set.is_some() && !entry.gone);
        let gone: Vec<String> = known.map(|(uid, _)| uid.clone()).filter(|uid| !there.contains(uid.as_str())).collect();
        gone.iter().for_each(|uid| self.set_gone(uid));
        all.into_iter().for_each(|s| self.set(s));
    }

    pub(super) fn set(&mut self, set: Set) {
        let uid = set.uid.clone();
        if let Some(owner) = &set.owner {
            self.sets_of.entry(owner.name.clone()).or_default().insert(uid.clone());
        }
        let entry = self.sets.entry(uid.clone()).or_default();
        if entry.set.as_ref() != Some(&set) {
            let now = set.template.clone();
            let before = entry.set.replace(set);
            entry.gone = false;
            // its template is written once: another is another reading of it
            if let Some(before) = before.filter(|before| before.template != now) {
                self.rename(&before.template, &now);
            }
            self.mark_set(&uid);
        }
    }

    /// A template is read otherwise: whatever asks for it by what it was is answered by what it is.
    pub(super) fn rename(&mut self, was: &str, now: &str) {
        self.renamed.values_mut().filter(|one| *one == was).for_each(|one| now.clone_into(one));
        self.renamed.insert(was.to_owned(), now.to_owned());
        self.renamed.retain(|was, now| was != now);
        if self.renamed.len() > RENAMED_MAX {
            self.dropped += 1;
            self.renamed.remove(was);
        }
    }

    /// The identity this one has become.
    pub(super) fn called<'a>(&'a self, template: &'a str) -> &'a str {
        self.renamed.get(template).map_or(template, String::as_str)
    }

    pub(super) fn set_gone(&mut self, uid: &str) {
        if let Some(entry) = self.sets.get_mut(uid) {
            entry.gone = true;
            self.mark_set(uid);
            self.tidy_set(uid);
        }
    }

    /// A ReplicaSet that is gone is remembered as long as one of its pods.
    fn tidy_set(&mut self, uid: &str) {
        let Some(entry) = self.sets.get(uid).filter(|e| e.pods.is_empty() && (e.gone || e.set.is_none())) else { return };
        if let Some(owner) = entry.set.as_ref().and_then(|s| s.owner.as_ref())
            && let Some(sets) = self.sets_of.get_mut(&owner.name)
        {
            sets.remove(uid);
            if sets.is_empty() {
                let name = owner.name.clone();
                self.sets_of.remove(&name);
            }
        }
        self.sets.remove(uid);
    }

    /// All pods; until `looked` all was known.
    pub(super) fn pods(&mut self, all: Vec<PodNow>, looked: Timestamp, now: Timestamp) {
        let there: HashSet<&str> = all.iter().map(|p| p.uid.as_str()).collect();
        let gone: Vec<String> = self.set_of.keys().filter(|uid| !there.contains(uid.as_str())).cloned().collect();
        gone.iter().for_each(|uid| self.pod_gone(uid, now));
        all.into_iter().for_each(|pod| self.pod(pod, looked, now));
    }

    pub(super) fn pod(&mut self, pod: PodNow, looked: Timestamp, now: Timestamp) {
        if pod.set.is_empty() {
            return;
        }
        let (set, uid) = (pod.set.clone(), pod.uid.clone());
        let pods = &mut self.sets.entry(set.clone()).or_default().pods;
        let changed = match pods.get_mut(&uid) {
            Some(life) => life.update(pod, looked, now),
            None => {
                pods.insert(uid.clone(), PodLife::new(pod, now));
                self.set_of.insert(uid, set.clone());
                true
            }
        };
        if changed {
            self.mark_set(&set);
        }
    }

    pub(super) fn pod_gone(&mut self, uid: &str, now: Timestamp) {
        let Some(set) = self.set_of.get(uid).cloned() else { return };
        let Some(life) = self.sets.get_mut(&set).and_then(|e| e.pods.get_mut(uid)).filter(|life| life.gone.is_none()) else { return };
        life.gone = Some(now);
        self.mark_set(&set);
        if self.owner(&set).is_some_and(|name| self.followed.contains_key(name)) {
            self.gone.push_back((now, set, uid.to_owned()));
        } else {
            self.forget(&set, uid);
        }
        self.tidy(now);
    }

    /// Forgets pods that are gone for long, and more of them where there are too many.
    fn tidy(&mut self, now: Timestamp) {
        while let Some((at, ..)) = self.gone.front() {
            let old = now.since(*at) > GONE_FOR;
            if !old && self.gone.len() <= GONE_MAX {
                break;
            }
            if let Some((at, set, uid)) = self.gone.pop_front() {
                self.dropped += u64::from(!old);
                self.forgotten = self.forgotten.max(at);
                self.forget(&set, &uid);
            }
        }
    }

    fn forget(&mut self, set: &str, uid: &str) {
        self.set_of.remove(uid);
        if let Some(entry) = self.sets.get_mut(set) {
            entry.pods.remove(uid);
            self.tidy_set(set);
        }
    }

    /// All events of failed probes. Those of the very first list may be older than what is known of their pods.
    pub(super) fn events(&mut self, all: Vec<Unhealthy>, first: bool, now: Timestamp) {
        let there: HashSet<&str> = all.iter().map(|e| e.uid.as_str()).collect();
        self.events.retain(|uid, _| there.contains(uid.as_str()));
        for event in all {
            // they are dated as what they are: the past
            let at = if first { event.first.unwrap_or_default() } else { now };
            self.event(&event, at);
        }
    }

    /// A probe failed, for the first time or again; the last time at `at`.
    pub(super) fn event(&mut self, event: &Unhealthy, at: Timestamp) {
        let Some(set) = self.set_of.get(&event.pod).cloned() else { return };
        if self.events.len() >= EVENTS_MAX && !self.events.contains_key(&event.uid) {
            self.dropped += 1;
            return;
        }
        let before = self.events.insert(event.uid.clone(), event.count).unwrap_or(0);
        let more = event.count.saturating_sub(before);
        let life = self.sets.get_mut(&set).and_then(|e| e.pods.get_mut(&event.pod));
        if more > 0 && life.is_some_and(|life| life.probes_failed(event, more, at)) {
            self.mark_set(&set);
        }
    }

    pub(super) fn event_gone(&mut self, uid: &str) {
        self.events.remove(uid);
    }

    // --- what follows ---

    pub(super) fn get(&self, name: &str) -> Option<&Deployment> {
        self.deployments.get(name)
    }

    /// [`readings`] of a Deployment; empty if it is not there.
    pub(super) fn readings(&self, name: &str) -> BTreeMap<String, String> {
        let Some(deployment) = self.deployments.get(name) else { return BTreeMap::new() };
        readings(deployment, self.entries(name).filter(|entry| !entry.gone).filter_map(|entry| entry.set.as_ref()))
    }

    /// Pods that are, and were, a Deployment's.
    pub(super) fn pods_of(&self, name: &str, which: Which<'_>) -> impl Iterator<Item = &PodLife> + Clone {
        let sets: Vec<&SetEntry> = match which {
            Which::All => self.entries(name).collect(),
            Which::New => self.entries(name).filter(|e| self.is_new(name, e)).collect(),
            Which::Old => self.before(name).into_iter().collect(),
            Which::Of(template) => self.entries(name).filter(|e| self.is_of(name, template, e)).collect(),
        };
        sets.into_iter().flat_map(|entry| entry.pods.values())
    }

    /// Replicas that are asked for.
    pub(super) fn wanted(&self, name: &str, which: Which<'_>) -> u32 {
        let of = |entry: &SetEntry| entry.set.as_ref().filter(|_| !entry.gone).map_or(0, |set| set.wanted);
        match which {
            Which::All => self.deployments.get(name).map_or(0, |d| d.wanted),
            Which::New => self.entries(name).filter(|e| self.is_new(name, e)).map(of).sum(),
            Which::Old => self.before(name).map_or(0, of),
            Which::Of(template) => self.entries(name).filter(|e| self.is_of(name, template, e)).map(of).sum(),
        }
    }

    fn entries(&self, name: &str) -> impl Iterator<Item = &SetEntry> {
        self.sets_of.get(name).into_iter().flatten().filter_map(|uid| self.sets.get(uid))
    }

    fn is_new(&self, name: &str, entry: &SetEntry) -> bool {
        self.deployments.get(name).is_some_and(|deployment| self.is_of(name, &deployment.template, entry))
    }

    fn is_of(&self, name: &str, template: &str, entry: &SetEntry) -> bool {
        let Some(deployment) = self.deployments.get(name) else { return false };
        let ours = |set: &Set| set.owner.as_ref().is_some_and(|o| o.uid == deployment.uid) && set.template == self.called(template);
        entry.set.as_ref().is_some_and(ours)
    }

    /// The newest release of those that are not the present one.
    fn before(&self, name: &str) -> Option<&SetEntry> {
        let others = self.entries(name).filter(|e| !self.is_new(name, e));
        others.max_by_key(|e| e.set.as_ref().map_or(0, |set| set.revision))
    }
}

#[cfg(test)]
mod tests;
