//! Objects under watch: whoever writes one, whoever asks is told within moments. What is told is only that something changed; what
//! it is now is read, as ever. All objects of a kind in a namespace have one watch, whatever the number of rules they are routed by.

use crate::apiserver::{CallError, Collection, Follower, Resource, follow};
use crate::telemetry::events;
use kube::Client;
use parking_lot::Mutex;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Marks of one object are not nearer together than this, however often it is written.
const MARK_EVERY: Duration = Duration::from_millis(250);

/// The watches of routed objects, shared by all routers that were opened with it. Cheap to clone. Each begins when the first router asks
/// for marks of an object of its kind and namespace, and ends with the last such router.
#[derive(Clone, Default)]
pub struct Watches(Arc<Mutex<Running>>);

/// By kind and namespace.
type Running = BTreeMap<(Resource, String), Weak<Shared>>;

impl Watches {
    fn of(&self, client: &Client, resource: Resource, namespace: &str) -> Arc<Shared> {
        let mut all = self.0.lock();
        all.retain(|_, shared| shared.strong_count() > 0);
        let key = (resource, namespace.to_owned());
        if let Some(shared) = all.get(&key).and_then(Weak::upgrade) {
            return shared;
        }
        let shared = Arc::new(Shared::begin(Collection::new(client.clone(), resource, Some(namespace))));
        all.insert(key, Arc::downgrade(&shared));
        shared
    }
}

/// Those who want to hear of an object, by its name.
type Ears = Arc<Mutex<HashMap<String, Vec<watch::Sender<u64>>>>>;

/// One watch.
struct Shared {
    ears: Ears,
    task: JoinHandle<()>,
}

impl Shared {
    fn begin(collection: Collection) -> Self {
        let ears = Ears::default();
        let mut eye = Eye { what: collection.what(), ears: Arc::clone(&ears), seen: HashMap::new(), failing: false };
        let task = tokio::spawn(async move { follow(&collection, &mut eye).await });
        Self { ears, task }
    }

    /// From now on `ear` is told of these; also now, because nobody knows what happened before.
    fn tell(&self, names: &[String], ear: &watch::Sender<u64>) {
        let mut ears = self.ears.lock();
        for name in names {
            let of_name = ears.entry(name.clone()).or_default();
            of_name.retain(|ear| !ear.is_closed());
            of_name.push(ear.clone());
        }
        drop(ears);
        mark(ear);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The objects of one router.
pub(super) struct Watched {
    watches: Watches,
    client: Client,
    resource: Resource,
    namespace: String,
    names: Vec<String>,
    marks: watch::Sender<u64>,
    looking: OnceLock<Looking>,
}

/// What is kept while somebody looks.
struct Looking {
    marking: JoinHandle<()>,
    _shared: Arc<Shared>,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.resource.kind, self.namespace, self.names.join(" and "))
    }
}

impl Watched {
    pub(super) fn new((client, watches): (Client, Watches), resource: Resource, namespace: &str, names: &[&str]) -> Self {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Self { watches, client, resource, namespace: namespace.to_owned(), names, marks: watch::Sender::new(0), looking: OnceLock::new() }
    }

    /// Marks each time what is asked for there changed. Within a tokio runtime only.
    pub(super) fn marks(&self) -> watch::Receiver<u64> {
        self.looking.get_or_init(|| self.look());
        self.marks.subscribe()
    }

    fn look(&self) -> Looking {
        let shared = self.watches.of(&self.client, self.resource, &self.namespace);
        let ear = watch::Sender::new(0);
        let marking = tokio::spawn(spaced(ear.subscribe(), self.marks.clone()));
        shared.tell(&self.names, &ear);
        Looking { marking, _shared: shared }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(looking) = self.looking.get() {
            looking.marking.abort();
        }
    }
}

fn mark(marks: &watch::Sender<u64>) {
    marks.send_modify(|count| *count += 1);
}

/// The first at once, others with a pause.
async fn spaced(mut heard: watch::Receiver<u64>, marks: watch::Sender<u64>) {
    while heard.changed().await.is_ok() {
        mark(&marks);
        sleep(MARK_EVERY).await;
    }
}

/// What of an object tells that somebody changed what it asks for: a status alone does not.
#[derive(Deserialize)]
struct Seen {
    metadata: Metadata,
}

#[derive(Deserialize, Hash)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    /// Rises with the spec; some kinds have none.
    generation: Option<i64>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Metadata {
    /// Annotations may be long, and all that matters is whether they are others.
    fn print(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

struct Eye {
    what: String,
    ears: Ears,
    /// What was seen last, by name.
    seen: HashMap<String, u64>,
    failing: bool,
}

impl Eye {
    fn see(&mut self, now: Metadata) {
        let before = self.seen.insert(now.name.clone(), now.print());
        if now.generation.is_none() || before != Some(now.print()) {
            self.tell(&now.name);
        }
    }

    fn tell(&self, name: &str) {
        let mut ears = self.ears.lock();
        let Some(of_name) = ears.get_mut(name) else { return };
        of_name.retain(|ear| !ear.is_closed());
        of_name.iter().for_each(mark);
        if of_name.is_empty() {
            ears.remove(name);
        }
    }
}

impl Follower<Seen> for Eye {
    fn listed(&mut self, objects: Vec<Seen>) {
        let mut before = std::mem::take(&mut self.seen);
        for Seen { metadata } in objects {
            if let Some(print) = before.remove(&metadata.name) {
                self.seen.insert(metadata.name.clone(), print);
            }
            self.see(metadata);
        }
        before.keys().for_each(|gone| self.tell(gone));
    }

    fn put(&mut self, object: Seen) {
        self.see(object.metadata);
    }

    fn gone(&mut self, object: Seen) {
        self.seen.remove(&object.metadata.name);
        self.tell(&object.metadata.name);
    }

    fn confirmed(&mut self) {
        self.failing = false;
    }

    fn failed(&mut self, error: &CallError) {
        if !std::mem::replace(&mut self.failing, true) {
            events::RouteUnwatched { what: &self.what, error: &error.to_string() }.emit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(name: &str, generation: Option<i64>, weight: &str) -> Seen {
        let annotations = json!({"weight": weight});
        serde_json::from_value(json!({"metadata": {"name": name, "generation": generation, "annotations": annotations}})).unwrap()
    }

    #[test]
    fn each_hears_of_its_own_objects_and_of_nothing_that_is_the_same() {
        let mut eye = Eye { what: String::new(), ears: Ears::default(), seen: HashMap::new(), failing: false };
        let ear = watch::Sender::new(0);
        let mut hears = ear.subscribe();
        eye.ears.lock().insert("a".to_owned(), vec![ear]);
        let mut heard = || {
            hears.has_changed().is_ok_and(|_| {
                hears.has_changed().unwrap() && {
                    hears.mark_unchanged();
                    true
                }
            })
        };
        eye.listed(vec![object("a", Some(1), "5"), object("b", Some(1), "5")]);
        assert!(heard());
        eye.put(object("b", Some(2), "5"));
        eye.put(object("a", Some(1), "5"));
        eye.listed(vec![object("a", Some(1), "5")]);
        assert!(!heard(), "another object, a status, the same in a list");
        eye.put(object("a", Some(1), "7"));
        assert!(heard());
        eye.listed(vec![object("a", Some(2), "7")]);
        assert!(heard(), "changed while nobody looked");
        eye.listed(vec![]);
        assert!(heard(), "gone");
        for _ in 0..2 {
            eye.put(object("a", None, "7"));
            assert!(heard(), "a kind without generations tells every write");
        }
    }

    #[test]
    fn who_has_gone_is_not_kept() {
        let mut eye = Eye { what: String::new(), ears: Ears::default(), seen: HashMap::new(), failing: false };
        eye.ears.lock().insert("a".to_owned(), vec![watch::Sender::new(0)]);
        eye.put(object("a", Some(1), "5"));
        assert!(eye.ears.lock().is_empty());
    }
}
