//! Events (`events.k8s.io/v1`): what `kubectl describe` and `kubectl events` show. The same said again of the same object is one Event
//! with a count.

use super::desk::Place;
use crate::apiserver::Resource;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub(super) const EVENT: Resource = Resource { api: "events.k8s.io/v1", kind: "Event", plural: "events" };
/// Who says it.
const CONTROLLER: &str = "canaryd.io/canaryd";
/// Longest note the API server takes, in bytes.
const NOTE_BYTES_MAX: usize = 1024;
/// The same said again within this time is a series.
const SERIES_WITHIN: Duration = Duration::from_secs(360);
/// Events remembered for it.
const REMEMBERED_MAX: usize = 512;

/// What is said of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saying {
    /// The object.
    pub of: Place,
    /// It is something to look at.
    pub warning: bool,
    /// A word for programs, `InCamelCase`.
    pub reason: String,
    /// A sentence for people.
    pub note: String,
}

/// What is to be written of it.
#[derive(Debug, PartialEq)]
pub(super) enum Write {
    /// A new Event of this name.
    New { name: String, object: Value },
    /// A change of the one of this name.
    Again { name: String, change: Value },
}

/// What was said lately.
#[derive(Debug, Default)]
pub(super) struct Memory {
    said: VecDeque<Said>,
}

#[derive(Debug)]
struct Said {
    saying: Saying,
    name: String,
    count: u64,
    last: Instant,
}

impl Memory {
    /// What is to be written for a saying; `uid`: of the object. `unique` makes its name another than every other's.
    pub(super) fn write(&self, saying: &Saying, uid: Option<&str>, unique: u128, now: &str) -> Write {
        if let Some(before) = self.said.iter().find(|said| said.saying == *saying && said.last.elapsed() < SERIES_WITHIN) {
            let series = json!({ "count": before.count + 1, "lastObservedTime": now });
            return Write::Again { name: before.name.clone(), change: json!({ "series": series }) };
        }
        let Place { resource, namespace, name: of } = &saying.of;
        // an object's name may have 253 letters, and so may the Event's
        let short: String = of.chars().take(200).collect();
        let name = format!("{short}.{unique:x}");
        let object = json!({
            "apiVersion": EVENT.api, "kind": EVENT.kind,
            "metadata": { "name": name, "namespace": namespace },
            "eventTime": now,
            "type": if saying.warning { "Warning" } else { "Normal" },
            "reason": saying.reason,
            "action": saying.reason,
            "note": shortened(&saying.note),
            "reportingController": CONTROLLER,
            "reportingInstance": instance(),
            "regarding": { "apiVersion": resource.api, "kind": resource.kind, "namespace": namespace, "name": of, "uid": uid },
        });
        Write::New { name, object }
    }

    /// It was written under this name.
    pub(super) fn written(&mut self, saying: Saying, name: &str) {
        let now = Instant::now();
        if let Some(before) = self.said.iter_mut().find(|said| said.name == name) {
            (before.count, before.last) = (before.count + 1, now);
            return;
        }
        if self.said.len() == REMEMBERED_MAX {
            self.said.pop_front();
        }
        self.said.push_back(Said { saying, name: name.to_owned(), count: 1, last: now });
    }

    /// That one is gone: it is to be said anew.
    pub(super) fn forget(&mut self, name: &str) {
        self.said.retain(|said| said.name != name);
    }
}

fn shortened(note: &str) -> &str {
    let mut end = note.len().min(NOTE_BYTES_MAX);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    &note[..end]
}

/// Which process.
fn instance() -> String {
    let told = ["POD_NAME", "HOSTNAME"].into_iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    told.unwrap_or_else(|| "canaryd".to_owned()).chars().take(128).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_said_again_is_a_series() {
        let of = Place::new(super::super::ROLLOUT, "shop", "web-1");
        let saying = Saying { of, warning: true, reason: "RolledBack".to_owned(), note: "ä".repeat(1000) };
        let mut memory = Memory::default();
        let Write::New { name, object } = memory.write(&saying, Some("u"), 255, "t") else { panic!("not new") };
        assert_eq!(
            (name.as_str(), object["note"].as_str().map(str::len), &object["regarding"]["uid"]),
            ("web-1.ff", Some(1024), &json!("u"))
        );
        memory.written(saying.clone(), &name);
        for count in [2, 3] {
            let Write::Again { name, change } = memory.write(&saying, Some("u"), 256, "t") else { panic!("not again") };
            assert_eq!((name.as_str(), &change["series"]["count"]), ("web-1.ff", &json!(count)));
            memory.written(saying.clone(), &name);
        }
        let other = Saying { note: "other".to_owned(), ..saying.clone() };
        assert!(matches!(memory.write(&other, None, 257, "t"), Write::New { .. }));
        memory.forget("web-1.ff");
        assert!(matches!(memory.write(&saying, None, 258, "t"), Write::New { .. }));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut memory = Memory::default();
        for n in 0..REMEMBERED_MAX + 10 {
            let of = Place::new(super::super::ROLLOUT, "shop", "web-1");
            memory.written(Saying { of, warning: false, reason: "Advance".to_owned(), note: n.to_string() }, &n.to_string());
        }
        assert_eq!(memory.said.len(), REMEMBERED_MAX);
    }
}
