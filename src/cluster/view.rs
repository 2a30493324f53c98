//! What may be asked about workloads. One [`Cluster`] serves all rollouts: a namespace is watched once, whoever asks about it.

use super::note::{self, At, Earlier};
use super::place::{Means, Place, now};
use super::pods::PodLife;
use super::signs;
use super::table::{Table, Which};
use crate::model::rule::{self, WorkloadForm};
use crate::model::{Arm, Noted, PerArm, Pod, PodSigns, Side, Timestamp, WorkloadSeen};
use crate::telemetry::Metrics;
use kube::Client;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What a workload runs now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Identity of its pod template: the same text as long as the template says the same.
    pub template: String,
    /// How often its Deployment was seen to get another template, up to this one: it is another for one that went and came again.
    pub number: u64,
    /// Identity of what its pods run, without what tells two workloads apart: equal for stable and canary once stable was made equal.
    pub program: String,
    /// For people: the images and their tags.
    pub version: String,
    /// All replicas wanted, at least one, run this template and are ready.
    pub ready: bool,
    /// Pods of this template that are ready: of a rolling update, how far it is.
    pub ready_replicas: u32,
    /// Replicas it asks for.
    pub replicas: u32,
    /// Why its pods do not become ready, where its progress deadline has passed: the worst pod, and what the controller says.
    pub stalled: Option<String>,
    /// Why no pods of it are made now: it is paused, or they are refused.
    pub held: Option<String>,
}

/// Shared watches of workloads, and what is read out of them. Cheap to clone; one per daemon.
#[derive(Clone)]
pub struct Cluster(Arc<Inner>);

struct Inner {
    means: Means,
    /// By namespace.
    places: Mutex<BTreeMap<String, Arc<Place>>>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cluster")
    }
}

impl Cluster {
    /// Watches nothing yet. What it will watch, it watches until `shutdown`.
    pub fn new(client: Client, metrics: Metrics, shutdown: CancellationToken) -> Self {
        let means = Means { client, changed: watch::Sender::new(0), metrics, shutdown };
        Self(Arc::new(Inner { means, places: Mutex::default() }))
    }

    /// The way to the API server, for those that write.
    pub fn client(&self) -> Client {
        self.0.means.client.clone()
    }

    /// Does this rule's workload live in the cluster: do both sides name a Deployment and its namespace?
    pub fn covers(workloads: &rule::Workloads) -> bool {
        workloads.sides.iter().all(|side| named(side).is_some())
    }

    /// From now on the namespaces of these workloads are watched; asking again changes nothing. Within a tokio runtime only.
    ///
    /// Each namespace by itself, with four watches, whatever the number of its workloads: a Role in each is all the right it takes.
    pub fn follow(&self, workloads: &rule::Workloads) {
        for (namespace, name) in workloads.sides.iter().filter_map(named) {
            let mut places = self.0.places.lock();
            let known = places.get(namespace).cloned();
            let place = known.clone().unwrap_or_else(|| Place::new(namespace, &self.0.means));
            place.known().table.follow(name, now());
            if known.is_none() {
                place.watch(&self.0.means);
                places.insert(namespace.to_owned(), place);
            }
        }
    }

    /// Of what is followed only these go on: the watches of a namespace in which none of them is end, and nothing is remembered of the
    /// others' pods.
    pub fn follow_only<'a>(&self, all: impl IntoIterator<Item = &'a rule::Workloads>) {
        let mut wanted: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (namespace, name) in all.into_iter().flat_map(|workloads| workloads.sides.iter().filter_map(named)) {
            wanted.entry(namespace).or_default().insert(name);
        }
        self.0.places.lock().retain(|namespace, place| match wanted.get(namespace.as_str()) {
            Some(names) => {
                place.known().table.follow_only(|name| names.contains(name));
                true
            }
            None => {
                place.end();
                false
            }
        });
    }

    /// Marks every change of what is followed, and that it cannot be looked at.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.0.means.changed.subscribe()
    }

    /// A number that is another as soon as something about these workloads is: whether a mark of [`Self::changed`] was about them.
    pub fn changes(&self, workloads: &rule::Workloads) -> u64 {
        let of = |side: &rule::Target| Some(self.place(side).ok()?.known().table.changed(named(side)?.1));
        workloads.sides.iter().filter_map(of).sum()
    }

    /// What a workload runs now; `None` = there is no such Deployment.
    ///
    /// # Errors
    /// It could not be looked at, with the reason.
    pub fn release(&self, target: &rule::Target) -> Result<Option<Release>, String> {
        let (place, name) = (self.place(target)?, name(target)?);
        let known = place.known();
        known.check(&place.namespace)?;
        let Some(found) = known.table.get(name) else { return Ok(None) };
        let ready_replicas = count(known.table.pods_of(name, Which::New).filter(|pod| pod.is_ready()));
        let enough = found.wanted > 0 && found.updated >= found.wanted && ready_replicas >= found.wanted;
        Ok(Some(Release {
            template: found.template.clone(),
            number: known.table.releases(name),
            program: found.program.clone(),
            version: found.version.clone(),
            ready: enough && !found.behind,
            ready_replicas,
            replicas: found.wanted,
            held: found.held.clone(),
            stalled: found.stalled.as_ref().map(|said| {
                let worst = signs::trouble(known.table.pods_of(name, Which::New), Timestamp::default(), now());
                with_stall(worst, said)
            }),
        }))
    }

    /// How the API server reads the templates of a Deployment and of its earlier releases: identities, by a text that stays the same as
    /// long as nobody writes the template. A newer API server reads what an older one stored, and fills in fields that did not exist:
    /// then the identity is another, and no release. Empty = there is no such Deployment.
    ///
    /// # Errors
    /// It could not be looked at, with the reason.
    pub fn readings(&self, target: &rule::Target) -> Result<BTreeMap<String, String>, String> {
        let (place, name) = (self.place(target)?, name(target)?);
        let known = place.known();
        known.check(&place.namespace)?;
        Ok(known.table.readings(name))
    }

    /// These identities were read otherwise before this process began: what each was, and what it is.
    pub fn called<'a>(&self, target: &rule::Target, renamed: impl IntoIterator<Item = (&'a String, &'a String)>) {
        let Ok(place) = self.place(target) else { return };
        let mut known = place.known();
        renamed.into_iter().for_each(|(was, now)| known.table.rename(was, now));
    }

    /// The same at this moment, which a watch may not have shown yet. Asks the API server.
    ///
    /// # Errors
    /// It could not be looked at, with the reason.
    pub async fn readings_now(&self, target: &rule::Target) -> Result<BTreeMap<String, String>, String> {
        let (namespace, name) = named(target).ok_or_else(|| nowhere(target))?;
        note::readings(&self.0.means.client, At { namespace, name }).await
    }

    /// The template of this identity among a Deployment's releases, as JSON. Asks the API server.
    ///
    /// # Errors
    /// It could not be looked at, with the reason.
    pub async fn template_of(&self, target: &rule::Target, identity: &str) -> Result<Option<String>, String> {
        let (namespace, name) = named(target).ok_or_else(|| nowhere(target))?;
        note::template_of(&self.0.means.client, At { namespace, name }, identity).await
    }

    /// What a rollout notes at its start, where nothing is known of earlier ones. Asks the API server.
    ///
    /// # Errors
    /// It could not be looked at, with the reason.
    pub async fn note(&self, workloads: &rule::Workloads, canary: Side) -> Result<Noted, String> {
        self.note_after(workloads, canary, &Earlier::default()).await
    }

    /// What a rollout notes at its start. Of `workloads: one` what carries the traffic is seen, and nothing need be known. Asks the API
    /// server.
    ///
    /// # Errors
    /// It could not be looked at, with the reason.
    pub async fn note_after(&self, workloads: &rule::Workloads, canary: Side, earlier: &Earlier) -> Result<Noted, String> {
        let at = |side: Side| {
            let target = workloads.side(side);
            named(target).map(|(namespace, name)| At { namespace, name }).ok_or_else(|| nowhere(target))
        };
        let one = workloads.form == WorkloadForm::One;
        let (theirs, ours) = (at(canary.other())?, at(canary)?);
        let mut noted = note::note(&self.0.means.client, theirs, ours, one, earlier).await?;
        let events = self.place(workloads.side(canary)).ok().and_then(|place| place.known().without_events());
        noted.warnings.extend(events.map(|e| format!("failed probes are only seen where they make a pod unready: {e}")));
        Ok(noted)
    }

    /// Both arms as they are now, with what went wrong after `since`.
    ///
    /// # Errors
    /// One of them could not be looked at, with the reason.
    pub fn seen(&self, workloads: &rule::Workloads, canary: Side, since: Timestamp) -> Result<PerArm<WorkloadSeen>, String> {
        let one = workloads.form == WorkloadForm::One;
        let of = |arm: Arm| {
            let side = if arm == Arm::Canary { canary } else { canary.other() };
            // a pod of the canary that runs an earlier template is not on trial, and carries nothing of what is
            let (asked, looked_at) = match arm {
                Arm::Canary if one => twice(said_or(workloads.side(side), Which::New)),
                Arm::Baseline if one => twice(said_or(workloads.side(side), Which::Old)),
                Arm::Canary => (Which::All, Which::New),
                Arm::Baseline => (Which::All, Which::All),
            };
            self.seen_of(workloads.side(side), asked, looked_at, since)
        };
        Ok(PerArm { baseline: of(Arm::Baseline)?, canary: of(Arm::Canary)? })
    }

    fn seen_of(&self, target: &rule::Target, asked: Which<'_>, looked_at: Which<'_>, since: Timestamp) -> Result<WorkloadSeen, String> {
        let (place, name) = (self.place(target)?, name(target)?);
        let known = place.known();
        known.check(&place.namespace)?;
        let table = &known.table;
        let Some(found) = table.get(name) else {
            return Ok(WorkloadSeen {
                trouble: format!("Deployment {}/{name} does not exist", place.namespace),
                ..WorkloadSeen::default()
            });
        };
        let (live, now) = (table.pods_of(name, looked_at).filter(|pod| pod.is_live()), now());
        // what it says is about its present template
        let stalled = found.stalled.as_ref().filter(|_| match looked_at {
            Which::Old => false,
            Which::Of(template) => table.called(template) == found.template,
            Which::All | Which::New => true,
        });
        let signs = signs::sum(table.pods_of(name, looked_at), since, now);
        let trouble = signs::trouble(table.pods_of(name, looked_at), since, now);
        Ok(WorkloadSeen {
            wanted: table.wanted(name, asked),
            pods: count(live.clone()),
            ready: count(live.filter(|pod| pod.is_ready())),
            signs: PodSigns { never_ready: u32::from(stalled.is_some()), ..signs },
            trouble: stalled.map_or_else(|| trouble.clone(), |said| with_stall(trouble.clone(), said)),
        })
    }

    /// The pods that were the workload's at some time in `from..=to`, those that are gone by then too. `None`: not known.
    pub fn pods(&self, target: &rule::Target, from: Timestamp, to: Timestamp) -> Option<Vec<Pod>> {
        self.ask(target, from, |table, name, which| {
            let there = table.pods_of(name, which).filter(|pod| pod.was_there(from, to));
            there.map(PodLife::as_pod).collect()
        })
    }

    /// What went wrong with them in that time. `None`: not known.
    pub fn signs(&self, target: &rule::Target, from: Timestamp, to: Timestamp) -> Option<PodSigns> {
        self.ask(target, from, |table, name, which| signs::sum(table.pods_of(name, which), from, to))
    }

    /// Asks about pods since `from`, if they are known since then.
    fn ask<T>(&self, target: &rule::Target, from: Timestamp, ask: impl FnOnce(&Table, &str, Which<'_>) -> T) -> Option<T> {
        let (place, name) = (self.place(target).ok()?, name(target).ok()?);
        let known = place.known();
        known.check(&place.namespace).ok()?;
        known.table.get(name)?;
        (known.pods_since(name)? <= from).then(|| ask(&known.table, name, which(target)))
    }

    fn place(&self, target: &rule::Target) -> Result<Arc<Place>, String> {
        let (namespace, name) = named(target).ok_or_else(|| nowhere(target))?;
        let place = self.0.places.lock().get(namespace).cloned();
        place.ok_or_else(|| format!("Deployment {namespace}/{name}: not looked yet"))
    }
}

/// A pod's trouble, and what the controller says of all of them.
fn with_stall(trouble: String, said: &str) -> String {
    if trouble.is_empty() { said.to_owned() } else { format!("{trouble}; {said}") }
}

/// Namespace and name of the Deployment a target names.
fn named(target: &rule::Target) -> Option<(&str, &str)> {
    let field = |name: &str| target.fields.get(name).map(String::as_str);
    Some((field("namespace")?, field("deployment")?))
}

fn name(target: &rule::Target) -> Result<&str, String> {
    named(target).map(|(_, name)| name).ok_or_else(|| nowhere(target))
}

fn nowhere(target: &rule::Target) -> String {
    format!("{} names no Deployment and its namespace", target.name())
}

/// The release a target names, or this one.
fn said_or<'a>(target: &'a rule::Target, unsaid: Which<'a>) -> Which<'a> {
    if target.fields.contains_key(rule::Target::REPLICASET) { which(target) } else { unsaid }
}

fn twice<T: Copy>(one: T) -> (T, T) {
    (one, one)
}

fn which(target: &rule::Target) -> Which<'_> {
    match target.fields.get(rule::Target::REPLICASET).map(String::as_str) {
        Some("new") => Which::New,
        Some("old") => Which::Old,
        Some(template) => Which::Of(template),
        None => Which::All,
    }
}

fn count<'a>(pods: impl Iterator<Item = &'a PodLife>) -> u32 {
    u32::try_from(pods.count()).unwrap_or(u32::MAX)
}
