//! An object under watch: whoever writes it, whoever asks is told within moments. What is told is only that something changed; what
//! it is now is read, as ever.

use crate::apiserver::{CallError, Collection, Follower, Resource, follow};
use crate::telemetry::events;
use futures_util::future::join_all;
use kube::Client;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Marks of one object are not nearer together than this, however often it is written.
const MARK_EVERY: Duration = Duration::from_millis(250);

/// The watch of an object, or of several that belong together. It begins when somebody asks for its marks, and ends with this.
pub(super) struct Watched {
    collections: Vec<(String, Collection)>,
    marks: watch::Sender<u64>,
    task: OnceLock<JoinHandle<()>>,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.collections.iter().map(|(what, _)| what)).finish()
    }
}

impl Watched {
    pub(super) fn new(client: Client, resource: Resource, namespace: &str, names: &[&str]) -> Self {
        let one = |name: &&str| {
            let collection = Collection::new(client.clone(), resource, Some(namespace)).with_fields(format!("metadata.name={name}"));
            (format!("{} {namespace}/{name}", resource.kind), collection)
        };
        Self { collections: names.iter().map(one).collect(), marks: watch::Sender::new(0), task: OnceLock::new() }
    }

    /// Marks each time what is asked for there changed. Within a tokio runtime only.
    pub(super) fn marks(&self) -> watch::Receiver<u64> {
        self.task.get_or_init(|| tokio::spawn(keep_looking(self.collections.clone(), self.marks.clone())));
        self.marks.subscribe()
    }
}

/// Never ends.
async fn keep_looking(collections: Vec<(String, Collection)>, marks: watch::Sender<u64>) {
    let seen = watch::Sender::new(0);
    let marking = spaced(seen.subscribe(), marks);
    let eyes = collections.into_iter().map(|(what, collection)| {
        let mut eye = Eye { what, seen: seen.clone(), last: None, failing: false };
        async move { follow(&collection, &mut eye).await }
    });
    tokio::join!(join_all(eyes), marking);
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

/// The first at once, others with a pause.
async fn spaced(mut seen: watch::Receiver<u64>, marks: watch::Sender<u64>) {
    while seen.changed().await.is_ok() {
        marks.send_modify(|count| *count += 1);
        sleep(MARK_EVERY).await;
    }
}

/// What of an object tells that somebody changed what it asks for: a status alone does not.
#[derive(Deserialize, PartialEq, Eq)]
struct Seen {
    metadata: Metadata,
}

#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    /// Rises with the spec; some kinds have none.
    generation: Option<i64>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

struct Eye {
    what: String,
    seen: watch::Sender<u64>,
    last: Option<Seen>,
    failing: bool,
}

impl Eye {
    fn see(&mut self, now: Option<Seen>) {
        let without = now.as_ref().is_some_and(|seen| seen.metadata.generation.is_none());
        if without || self.last != now {
            self.last = now;
            self.seen.send_modify(|count| *count += 1);
        }
    }
}

impl Follower<Seen> for Eye {
    fn listed(&mut self, mut objects: Vec<Seen>) {
        self.see(objects.pop());
    }

    fn put(&mut self, object: Seen) {
        self.see(Some(object));
    }

    fn gone(&mut self, _: Seen) {
        self.see(None);
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
