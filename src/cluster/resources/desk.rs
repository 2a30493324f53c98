//! Writes what is to be seen in the cluster: statuses and Events. Whoever hands something over never waits: a status takes the place
//! of the one that waits (the latest wins), Events stand in a bounded line, and what does not fit is counted. One task writes, a few
//! times a second; what the API server cannot take now is written later, and what it refuses us is said once.

use super::ROLLOUT;
use super::event::{EVENT, Memory, Saying, Write};
use super::status::{self, News, Print};
use crate::apiserver::{ABSENT, CallError, Collection, Object, Resource};
use crate::telemetry::{Metrics, events};
use kube::Client;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;

/// Objects whose status is kept: a thousand rules with ten rollouts each, and as many again.
pub const OBJECTS_MAX: usize = 20_000;
/// Events that may wait.
pub const EVENTS_MAX: usize = 512;
/// Pause after each write: at most twenty a second, what controllers usually allow themselves. A thousand new rules take a minute.
const PAUSE: Duration = Duration::from_millis(50);
/// A status that only says it in other words waits so long after the last write.
const WORDS_EVERY: Duration = Duration::from_secs(30);
/// Pause after the API server could not be reached.
const AGAIN: Duration = Duration::from_secs(5);
/// How long a kind is left alone that we may not write, or that is not served.
const DENIED_FOR: Duration = Duration::from_secs(300);
/// Rollouts of a rule whose objects are kept.
const ROLLOUTS_KEPT: usize = 10;
/// An Event that could not be written for so long is dropped.
const EVENT_AGE_MAX: Duration = Duration::from_secs(600);
/// The label by which the rollouts of a rule are found.
const RULE_LABEL: &str = "canaryd.io/rule";

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub(super) resource: Resource,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Place {
    /// Of this kind, there.
    pub fn new(resource: Resource, namespace: &str, name: &str) -> Self {
        Self { resource, namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// What an object is to show.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// Its status, without times.
    pub status: Value,
    /// What it is made from where there is none: a rollout's rule, and that rule's object. `None` = it is not ours to make.
    pub made_from: Option<MadeFrom>,
}

/// What a rollout's object is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeFrom {
    /// Name of its rule.
    pub rule: String,
    /// The uid of the rule's object in the same namespace, if it has one: the object goes with it.
    pub owner: Option<String>,
}

/// The way to the writer. Cheap to clone.
#[derive(Clone)]
pub struct Desk {
    inner: Arc<Mutex<Waiting>>,
    bell: Arc<Notify>,
    metrics: Metrics,
}

/// An object that waits to be written.
struct Wish {
    shown: Shown,
    news: News,
    /// Its place in the line. A newer status takes the older one's: what changes often must not keep others waiting, nor itself.
    number: u64,
}

#[derive(Default)]
struct Waiting {
    objects: BTreeMap<Place, Wish>,
    /// Number of the last that came.
    number: u64,
    events: VecDeque<(Instant, Saying)>,
    /// What stands there, as far as it was written or read.
    known: BTreeMap<Place, Known>,
}

impl Waiting {
    fn news(&self, of: &Place, shown: &Shown) -> News {
        self.known.get(of).map_or(News::Facts, |known| known.print.news(&Print::of(&shown.status)))
    }

    fn put(&mut self, of: Place, shown: Shown, news: News) {
        self.number += 1;
        let number = self.objects.get(&of).map_or(self.number, |wish| wish.number);
        self.objects.insert(of, Wish { shown, news, number });
    }

    /// It was not written: once more, unless a newer one has come.
    fn put_back(&mut self, of: Place, shown: Shown) {
        if !self.objects.contains_key(&of) {
            self.put(of, shown, News::Facts);
        }
    }

    /// This stands there.
    fn remember(&mut self, of: &Place, status: &Value) {
        if self.known.len() >= OBJECTS_MAX && !self.known.contains_key(of) {
            // what is forgotten is read again when it is shown again
            let oldest = self.known.iter().min_by_key(|(_, known)| known.written).map(|(of, _)| of.clone());
            oldest.map(|of| self.known.remove(&of));
        }
        self.known.insert(of.clone(), Known { print: Print::of(status), text: status.to_string().into(), written: Instant::now() });
    }
}

impl Desk {
    /// A desk whose writer runs until the daemon ends.
    pub fn open(client: Client, metrics: Metrics) -> Self {
        let desk = Self { inner: Arc::default(), bell: Arc::default(), metrics };
        let writer = Writer { client, desk: desk.clone(), uids: BTreeMap::new(), said: Memory::default(), left_alone: BTreeMap::new() };
        tokio::spawn(writer.run());
        desk
    }

    /// From now on this object is to show this. Never waits.
    pub fn show(&self, of: Place, shown: Shown) {
        let mut waiting = self.inner.lock();
        let news = waiting.news(&of, &shown);
        if news == News::None {
            waiting.objects.remove(&of);
            return;
        }
        if waiting.objects.len() >= OBJECTS_MAX && !waiting.objects.contains_key(&of) {
            return self.lost(of.resource.kind);
        }
        waiting.put(of, shown, news);
        self.bell.notify_one();
    }

    /// This is the status of an object as somebody else read it: it need not be asked for again. Says nothing of one that was written.
    pub(super) fn found(&self, of: &Place, status: &Value) {
        let mut waiting = self.inner.lock();
        if !waiting.known.contains_key(of) {
            waiting.remember(of, status);
        }
    }

    /// It is gone: what is shown of another one of its name is written.
    pub(super) fn gone(&self, of: &Place) {
        let mut waiting = self.inner.lock();
        waiting.known.remove(of);
        waiting.objects.remove(of);
    }

    /// This is to be said. Never waits.
    pub fn say(&self, saying: Saying) {
        let mut waiting = self.inner.lock();
        if waiting.events.len() >= EVENTS_MAX {
            return self.lost(EVENT.kind);
        }
        waiting.events.push_back((Instant::now(), saying));
        self.bell.notify_one();
    }

    fn lost(&self, kind: &'static str) {
        events::ShownInCluster { kind, outcome: "lost" }.emit(&self.metrics);
    }
}

/// What is known of an object that was written. As text it takes a fifth of the room, and it is looked into only to write again.
struct Known {
    text: Box<str>,
    print: Print,
    written: Instant,
}

impl Known {
    fn status(&self) -> Value {
        // it was made from a value
        serde_json::from_str(&self.text).unwrap_or_default()
    }
}

struct Writer {
    client: Client,
    desk: Desk,
    uids: BTreeMap<Place, String>,
    said: Memory,
    /// Kinds that cannot be written in a namespace, and until when they are left alone there: rights may be given by namespace.
    left_alone: BTreeMap<(&'static str, String), Instant>,
}

/// What comes next.
enum Next {
    Object(Place, Shown),
    Event(Instant, Saying),
    Nothing,
}

impl Writer {
    async fn run(mut self) {
        loop {
            let pause = match self.next() {
                Next::Object(of, shown) => self.write_object(of, shown).await,
                Next::Event(since, saying) => self.write_event(since, saying).await,
                Next::Nothing => {
                    // words that wait for their time are not rung for
                    let _ = tokio::time::timeout(Duration::from_secs(1), self.desk.bell.notified()).await;
                    continue;
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// An object with facts to show, else an Event, else an object with other words.
    fn next(&mut self) -> Next {
        let desk = self.desk.clone();
        let mut waiting = desk.inner.lock();
        let ready = |of: &Place| !self.is_left_alone(of.resource.kind, &of.namespace);
        let facts = waiting.objects.iter().filter(|(of, wish)| wish.news == News::Facts && ready(of));
        let facts = facts.min_by_key(|(_, wish)| wish.number).map(|(of, _)| of.clone());
        let event = waiting.events.iter().position(|(_, saying)| !self.is_left_alone(EVENT.kind, &saying.of.namespace));
        if facts.is_none()
            && let Some((since, saying)) = event.and_then(|at| waiting.events.remove(at))
        {
            return Next::Event(since, saying);
        }
        let written = |of: &Place| waiting.known.get(of).map(|known| known.written);
        let words = || {
            let oldest = waiting.objects.keys().filter(|of| ready(of)).min_by_key(|of| written(of))?;
            written(oldest).is_none_or(|at| at.elapsed() >= WORDS_EVERY).then(|| oldest.clone())
        };
        let next = facts.or_else(words);
        next.and_then(|of| waiting.objects.remove_entry(&of)).map_or(Next::Nothing, |(of, wish)| Next::Object(of, wish.shown))
    }

    fn is_left_alone(&self, kind: &'static str, namespace: &str) -> bool {
        // no key without an allocation: nearly always there is none to look for
        !self.left_alone.is_empty() && self.left_alone.get(&(kind, namespace.to_owned())).is_some_and(|until| *until > Instant::now())
    }

    async fn write_object(&mut self, of: Place, shown: Shown) -> Duration {
        match self.try_object(&of, &shown).await {
            Ok(()) => self.went_well(of.resource.kind, &of.namespace),
            // it is gone, or what is wrong with it is not mended by trying again
            Err(CallError::Missing(why)) if why == ABSENT => {
                self.uids.remove(&of);
                let waiting = &mut *self.desk.inner.lock();
                // a rollout's object that somebody took away, maybe with its rule, is made again while the rollout has something to show
                if waiting.known.remove(&of).is_some() && shown.made_from.is_some() {
                    waiting.put_back(of, shown);
                }
                PAUSE
            }
            Err(error) => {
                let pause = self.failed(of.resource.kind, &of.namespace, &error);
                if matches!(error, CallError::Unreachable(_)) {
                    self.desk.inner.lock().put_back(of, shown);
                }
                pause
            }
        }
    }

    async fn try_object(&mut self, of: &Place, shown: &Shown) -> Result<(), CallError> {
        let object = Object::new(self.client.clone(), of.resource, &of.namespace, &of.name);
        let old = || self.desk.inner.lock().known.get(of).map(Known::status);
        let old = match old() {
            Some(old) => old,
            None => {
                let found = match &shown.made_from {
                    Some(made_from) => self.made(&object, of, made_from).await?,
                    None => object.get().await?,
                };
                self.remember(of, &found);
                found["status"].clone()
            }
        };
        if Print::of(&old).news(&Print::of(&shown.status)) == News::None {
            return Ok(());
        }
        let new = status::with_times(shown.status.clone(), &old, &seconds());
        let written = object.merge(Some("status"), &status::patch(&new, &old)).await?;
        self.remember(of, &written);
        Ok(())
    }

    fn remember(&mut self, of: &Place, object: &Value) {
        self.desk.inner.lock().remember(of, &object["status"]);
        if self.uids.len() >= OBJECTS_MAX {
            self.uids.clear();
        }
        if let Some(uid) = object["metadata"]["uid"].as_str() {
            self.uids.insert(of.clone(), uid.to_owned());
        }
    }

    /// The rollout's object, made if there is none.
    async fn made(&self, object: &Object, of: &Place, from: &MadeFrom) -> Result<Value, CallError> {
        let mut new = object.named();
        new["metadata"]["labels"] = json!({ RULE_LABEL: from.rule, "app.kubernetes.io/managed-by": "canaryd" });
        if let Some(uid) = &from.owner {
            let rule = super::RULE;
            new["metadata"]["ownerReferences"] = json!([{ "apiVersion": rule.api, "kind": rule.kind, "name": from.rule, "uid": uid }]);
        }
        new["spec"] = json!({ "rule": from.rule });
        match object.create(&new).await {
            Err(CallError::Conflict(why)) => object.get().await.map_err(|e| match e {
                // refused by its schema, not because there is one
                CallError::Missing(_) => CallError::Refused(why),
                other => other,
            }),
            Ok(made) => {
                self.prune(of, &from.rule).await;
                Ok(made)
            }
            Err(e) => Err(e),
        }
    }

    /// Takes away the oldest rollouts of a rule. What cannot be taken away stays: the next one tries again.
    async fn prune(&self, of: &Place, rule: &str) {
        let all = Collection::new(self.client.clone(), ROLLOUT, Some(&of.namespace));
        let Ok(mut found) = all.list::<Listed>(&format!("{RULE_LABEL}={rule}")).await else { return };
        found.sort_by(|a, b| (&b.metadata.created, &b.metadata.name).cmp(&(&a.metadata.created, &a.metadata.name)));
        for old in found.iter().skip(ROLLOUTS_KEPT).filter(|old| old.metadata.name != of.name) {
            let _ = Object::new(self.client.clone(), ROLLOUT, &of.namespace, &old.metadata.name).delete().await;
        }
    }

    async fn write_event(&mut self, since: Instant, saying: Saying) -> Duration {
        let namespace = saying.of.namespace.clone();
        match self.try_event(&saying).await {
            Ok(()) => self.went_well(EVENT.kind, &namespace),
            Err(error) => {
                if since.elapsed() < EVENT_AGE_MAX && matches!(error, CallError::Unreachable(_)) {
                    self.desk.inner.lock().events.push_front((since, saying));
                } else {
                    self.desk.lost(EVENT.kind);
                }
                self.failed(EVENT.kind, &namespace, &error)
            }
        }
    }

    async fn try_event(&mut self, saying: &Saying) -> Result<(), CallError> {
        let uid = self.uid(&saying.of).await?;
        let unique = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let at = |name: &str| Object::new(self.client.clone(), EVENT, &saying.of.namespace, name);
        let name = match self.said.write(saying, uid.as_deref(), unique, &micros()) {
            Write::New { name, object } => at(&name).create(&object).await.map(|_| name)?,
            Write::Again { name, change } => match at(&name).merge(None, &change).await {
                Err(CallError::Missing(_)) => {
                    // Events live for an hour
                    self.said.forget(&name);
                    return Err(CallError::Unreachable("the Event it repeats is gone".to_owned()));
                }
                other => other.map(|_| name)?,
            },
        };
        self.said.written(saying.clone(), &name);
        Ok(())
    }

    /// `kubectl describe` finds an object's Events by it. An object that cannot be read is named without.
    async fn uid(&mut self, of: &Place) -> Result<Option<String>, CallError> {
        if let Some(uid) = self.uids.get(of) {
            return Ok(Some(uid.clone()));
        }
        match Object::new(self.client.clone(), of.resource, &of.namespace, &of.name).get().await {
            Ok(found) => {
                let uid = found["metadata"]["uid"].as_str().map(str::to_owned);
                if self.uids.len() < OBJECTS_MAX {
                    uid.iter().for_each(|uid| drop(self.uids.insert(of.clone(), uid.clone())));
                }
                Ok(uid)
            }
            Err(e @ CallError::Unreachable(_)) => Err(e),
            Err(_) => Ok(None),
        }
    }

    fn went_well(&mut self, kind: &'static str, namespace: &str) -> Duration {
        if !self.left_alone.is_empty() {
            self.left_alone.remove(&(kind, namespace.to_owned()));
        }
        events::ShownInCluster { kind, outcome: "ok" }.emit(&self.desk.metrics);
        PAUSE
    }

    /// What to wait for. A kind we may not write somewhere is left alone there, and that is said when it begins.
    fn failed(&mut self, kind: &'static str, namespace: &str, error: &CallError) -> Duration {
        events::ShownInCluster { kind, outcome: "failed" }.emit(&self.desk.metrics);
        match error {
            CallError::Unreachable(why) => {
                events::NotShown { kind, why, first: false }.emit();
                AGAIN
            }
            // one place is gone, not the kind
            CallError::Missing(why) if why.ends_with(ABSENT) => {
                events::NotShown { kind, why, first: false }.emit();
                PAUSE
            }
            CallError::Denied(why) | CallError::Missing(why) => {
                let first = self.left_alone.insert((kind, namespace.to_owned()), Instant::now() + DENIED_FOR).is_none();
                events::NotShown { kind, why, first }.emit();
                PAUSE
            }
            CallError::Refused(why) | CallError::Conflict(why) => {
                events::NotShown { kind, why, first: true }.emit();
                PAUSE
            }
        }
    }
}

#[derive(Deserialize)]
struct Listed {
    metadata: ListedMeta,
}

#[derive(Deserialize)]
struct ListedMeta {
    name: String,
    #[serde(rename = "creationTimestamp", default)]
    created: String,
}

/// As statuses have it.
fn seconds() -> String {
    format!("{:.0}", jiff::Timestamp::now())
}

/// As Events have it.
fn micros() -> String {
    format!("{:.6}", jiff::Timestamp::now())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A desk whose writer reaches nobody.
    pub(in super::super) fn desk() -> Desk {
        crate::tls::install();
        let client = Client::try_from(kube::Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
        Desk::open(client, Metrics::new())
    }

    fn rollout(name: &str) -> Place {
        Place::new(ROLLOUT, "shop", name)
    }

    fn shown(phase: &str) -> Shown {
        Shown { status: json!({ "phase": phase }), made_from: None }
    }

    #[tokio::test]
    async fn the_latest_wins_and_what_stands_there_is_not_written_again() {
        let desk = desk();
        desk.show(rollout("a"), shown("progressing"));
        desk.show(rollout("a"), shown("baking"));
        assert_eq!(desk.inner.lock().objects[&rollout("a")].shown, shown("baking"));
        let status = status::with_times(shown("baking").status, &Value::Null, "2026-11-21T10:00:00Z");
        desk.found(&rollout("a"), &status);
        desk.show(rollout("a"), shown("baking"));
        assert!(desk.inner.lock().objects.is_empty());
    }

    #[tokio::test]
    async fn a_namespace_that_may_not_be_written_to_keeps_no_other_waiting() {
        let desk = desk();
        let there = |namespace: &str| Place::new(ROLLOUT, namespace, "a");
        let saying = |namespace: &str| Saying { of: there(namespace), warning: false, reason: "Advance".to_owned(), note: String::new() };
        // a writer of our own beside the one of the desk, which has not run yet
        let client = Client::try_from(kube::Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
        let mut writer = Writer { client, desk: desk.clone(), uids: BTreeMap::new(), said: Memory::default(), left_alone: BTreeMap::new() };
        for namespace in ["closed", "open"] {
            desk.show(there(namespace), shown("waiting"));
            desk.say(saying(namespace));
        }
        for kind in [ROLLOUT.kind, EVENT.kind] {
            writer.failed(kind, "closed", &CallError::Denied("no".to_owned()));
        }
        assert!(matches!(writer.next(), Next::Object(of, _) if of == there("open")));
        assert!(matches!(writer.next(), Next::Event(_, said) if said.of == there("open")));
        assert!(matches!(writer.next(), Next::Nothing), "what is of the other waits");
        writer.went_well(EVENT.kind, "closed");
        assert!(matches!(writer.next(), Next::Event(_, said) if said.of == there("closed")));
    }

    #[tokio::test]
    async fn what_does_not_fit_is_counted_and_nobody_waits() {
        let desk = desk();
        let saying = Saying { of: rollout("a"), warning: false, reason: "Advance".to_owned(), note: String::new() };
        for _ in 0..EVENTS_MAX + 7 {
            desk.say(saying.clone());
        }
        for n in 0..OBJECTS_MAX + 3 {
            desk.show(rollout(&n.to_string()), shown("waiting"));
        }
        let page = desk.metrics.text();
        for lost in ["kind=\"Event\",outcome=\"lost\"} 7", "kind=\"CanaryRollout\",outcome=\"lost\"} 3"] {
            assert!(page.contains(lost), "{lost}: {page}");
        }
    }
}
