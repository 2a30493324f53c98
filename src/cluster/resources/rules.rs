//! The cluster's `CanaryRule` objects, followed: what they are now. Whether they are rules is for the loader to say.

use super::{Desk, Place, RULE};
use crate::apiserver::{CallError, Collection, Follower, follow};
use crate::telemetry::events;
use kube::Client;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Objects that are read; more are left out, and that is said.
pub(super) const RULES_MAX: usize = 10_000;
/// Pause before the way to ask is looked for again.
const AGAIN: Duration = Duration::from_secs(15);

/// One object.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchedRule {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Which object of that name.
    pub uid: String,
    /// Which version of its spec.
    pub generation: i64,
    /// When it was made, RFC 3339.
    pub created: String,
    /// The rule without its name.
    pub spec: Value,
}

#[derive(Deserialize)]
struct Raw {
    metadata: RawMeta,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Value,
}

/// One object with what it shows of itself.
#[derive(Deserialize)]
#[serde(from = "Raw")]
struct Found {
    rule: WatchedRule,
    status: Value,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct RawMeta {
    namespace: String,
    name: String,
    uid: String,
    generation: i64,
    creation_timestamp: String,
}

impl From<Raw> for Found {
    fn from(Raw { metadata: m, spec, status }: Raw) -> Self {
        let rule =
            WatchedRule { namespace: m.namespace, name: m.name, uid: m.uid, generation: m.generation, created: m.creation_timestamp, spec };
        Self { rule, status }
    }
}

impl Found {
    fn place(&self) -> Place {
        Place::new(RULE, &self.rule.namespace, &self.rule.name)
    }
}

/// By namespace and name.
type Objects = BTreeMap<(String, String), Arc<WatchedRule>>;

/// What there is now, and a bell that rings when it is another. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct RuleObjects {
    objects: Arc<Mutex<Objects>>,
    bell: Arc<Notify>,
    looked: CancellationToken,
}

impl RuleObjects {
    /// All of them, by namespace and name.
    pub fn all(&self) -> Vec<Arc<WatchedRule>> {
        self.objects.lock().values().cloned().collect()
    }

    /// Waits until they are others than when this last ended.
    pub async fn changed(&self) {
        self.bell.notified().await;
    }

    /// Waits until they were listed once, or could not be.
    pub async fn looked(&self) {
        self.looked.cancelled().await;
    }

    fn edit(&self, edit: impl FnOnce(&mut Objects) -> bool) {
        if edit(&mut self.objects.lock()) {
            self.bell.notify_one();
        }
    }
}

/// Puts it in, unless it is there already: a status that was written is no news.
fn put(objects: &mut Objects, object: WatchedRule) -> bool {
    let key = (object.namespace.clone(), object.name.clone());
    let same = objects.get(&key).is_some_and(|old| (&old.uid, old.generation) == (&object.uid, object.generation));
    if same || (objects.len() >= RULES_MAX && !objects.contains_key(&key)) {
        return false;
    }
    objects.insert(key, Arc::new(object));
    true
}

struct Watcher {
    objects: RuleObjects,
    /// Is told what the objects show, so that a daemon that starts need not read, or write, a thousand statuses.
    desk: Desk,
    /// What was said last of why they cannot be followed.
    said: String,
}

impl Watcher {
    /// What was known of objects that are gone, or were made anew, while nobody looked.
    fn forget_others(&self, listed: &[Found]) {
        let there: BTreeSet<&str> = listed.iter().map(|found| found.rule.uid.as_str()).collect();
        for old in self.objects.all().iter().filter(|old| !there.contains(old.uid.as_str())) {
            self.desk.gone(&Place::new(RULE, &old.namespace, &old.name));
        }
    }
}

impl Follower<Found> for Watcher {
    fn listed(&mut self, listed: Vec<Found>) {
        if listed.len() > RULES_MAX {
            events::RulesNotWatched { why: &format!("there are {} canaryrules, the first {RULES_MAX} are read", listed.len()) }.emit();
        }
        self.forget_others(&listed);
        listed.iter().for_each(|found| self.desk.found(&found.place(), &found.status));
        let listed: Vec<WatchedRule> = listed.into_iter().map(|found| found.rule).collect();
        self.objects.edit(|objects| {
            let there: BTreeSet<_> = listed.iter().map(|o| (o.namespace.clone(), o.name.clone())).collect();
            let before = objects.len();
            objects.retain(|key, _| there.contains(key));
            let gone = objects.len() != before;
            // all of them, whatever the first brought
            listed.into_iter().fold(gone, |news, object| put(objects, object) || news)
        });
        self.objects.looked.cancel();
    }

    fn put(&mut self, found: Found) {
        self.desk.found(&found.place(), &found.status);
        self.objects.edit(|objects| put(objects, found.rule));
    }

    fn gone(&mut self, found: Found) {
        self.desk.gone(&found.place());
        self.objects.edit(|objects| objects.remove(&(found.rule.namespace, found.rule.name)).is_some());
    }

    fn confirmed(&mut self) {
        self.said.clear();
    }

    fn failed(&mut self, error: &CallError) {
        // an API server that is only away may still tell
        if !matches!(error, CallError::Unreachable(_)) {
            self.objects.looked.cancel();
        }
        let said = error.to_string();
        if said != self.said {
            events::RulesNotWatched { why: &said }.emit();
            self.said = said;
        }
    }
}

/// Follows the rules of all namespaces, or, where we may not, those of our own. Never ends.
pub async fn watch_rules(client: Client, objects: RuleObjects, desk: Desk) {
    let own = client.default_namespace().to_owned();
    let all = Collection::new(client.clone(), RULE, None);
    let mut watcher = Watcher { objects, desk, said: String::new() };
    let collection = loop {
        match all.list::<serde::de::IgnoredAny>("").await {
            Ok(_) => break all,
            Err(error @ CallError::Denied(_)) => {
                events::RulesNotWatched { why: &format!("{error}; those of namespace {own} are read") }.emit();
                break Collection::new(client, RULE, Some(&own));
            }
            Err(error) => watcher.failed(&error),
        }
        tokio::time::sleep(AGAIN).await;
    };
    follow(&collection, &mut watcher).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(name: &str, generation: i64) -> Found {
        let metadata = json!({"namespace": "shop", "name": name, "uid": "u", "generation": generation, "resourceVersion": "7"});
        serde_json::from_value(json!({"metadata": metadata, "spec": {"a": generation}})).unwrap()
    }

    fn rung(objects: &RuleObjects) -> bool {
        use futures_util::FutureExt;
        objects.changed().now_or_never().is_some()
    }

    #[tokio::test]
    async fn the_bell_rings_for_another_spec_and_not_for_another_status() {
        let desk = super::super::desk::tests::desk();
        let mut watcher = Watcher { objects: RuleObjects::default(), desk, said: String::new() };
        watcher.listed(vec![object("a", 1), object("b", 1)]);
        assert!(rung(&watcher.objects) && watcher.objects.all().len() == 2);
        watcher.put(object("a", 1));
        watcher.listed(vec![object("a", 1), object("b", 1)]);
        assert!(!rung(&watcher.objects));
        watcher.put(object("a", 2));
        assert!(rung(&watcher.objects) && watcher.objects.all()[0].spec == json!({"a": 2}));
        watcher.listed(vec![object("a", 2)]);
        assert!(rung(&watcher.objects) && watcher.objects.all().len() == 1);
        watcher.gone(object("a", 2));
        assert!(rung(&watcher.objects) && watcher.objects.all().is_empty());
    }
}
