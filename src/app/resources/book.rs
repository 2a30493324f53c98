//! Rules that are objects of the cluster, beside those that are files: each is read by itself, so that one that is wrong keeps no
//! other out, and what was in force of it stays.

use crate::cluster::resources::{Condition, Desk, Place, RULE, RuleObjects, Shown, WatchedRule, conditions};
use crate::config::{Claims, Known, Refused, RuleObject, RuleSet};
use crate::model::Rule;
use crate::runtime::{Handle, RuleView, Waiting};
use crate::telemetry::{events, words};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A burst of changes is read at once.
const GATHER: Duration = Duration::from_millis(200);
/// Longest wait for the first look at the objects: without them a rollout is shown beside its workloads.
const FIRST_MAX: Duration = Duration::from_secs(20);
/// How often conditions are looked at though no object changed: a rule's rollout is shown on it too.
const LOOK: Duration = Duration::from_secs(5);

/// What was read of the objects, and what is in force. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::app) struct Book {
    pages: Arc<Mutex<Pages>>,
    /// The objects were read once, or cannot be read.
    settled: CancellationToken,
}

#[derive(Debug)]
struct Pages {
    known: Known,
    /// By namespace and name.
    read: BTreeMap<(String, String), Read>,
    /// The last rules of files that were all good.
    files: Option<RuleSet>,
}

/// What was read of an object.
#[derive(Clone, Debug)]
struct Read {
    object: Arc<WatchedRule>,
    /// Its last version that is a rule.
    good: Option<(Arc<Rule>, Arc<str>)>,
    /// What is wrong with its present one.
    problems: Vec<String>,
    /// Whose name, or route, it would take.
    taken: Option<Refused>,
}

impl Book {
    /// An empty one.
    pub(in crate::app) fn new(known: Known) -> Self {
        let pages = Pages { known, read: BTreeMap::new(), files: None };
        Self { pages: Arc::new(Mutex::new(pages)), settled: CancellationToken::new() }
    }

    /// The rules of the files, with the objects': who came first keeps its name and what it moves, and files came first. An object keeps
    /// its name while it is wrong too: or one that waits, wrong, could take the place of another's rule in force by being mended.
    pub(in crate::app) fn join(&self, files: RuleSet) -> RuleSet {
        let mut set = files;
        let mut pages = self.pages.lock();
        pages.files = Some(set.clone());
        let mut claims = Claims::of(&set);
        let mut all: Vec<&mut Read> = pages.read.values_mut().collect();
        all.sort_by(|a, b| a.age().cmp(&b.age()));
        let mut older: BTreeMap<String, String> = BTreeMap::new();
        for read in all {
            let holder = older.entry(read.object.name.clone()).or_insert_with(|| read.place());
            let added = read.good.clone().map(|(rule, text)| match *holder == read.place() {
                true => set.add(rule, text, &mut claims),
                false => Err(Refused::name(&rule, holder)),
            });
            read.note_taken(added.and_then(Result::err));
        }
        set
    }

    /// The same with the files that were last all good, if there were any: files that are wrong now keep no object out.
    pub(in crate::app) fn join_last(&self) -> Option<RuleSet> {
        let files = self.pages.lock().files.clone();
        files.map(|files| self.join(files))
    }

    /// Waits until it is known which rules are objects.
    pub(super) async fn settled(&self) {
        self.settled.cancelled().await;
    }

    /// The object that a rule in force was read from, whose rollout this is, by the namespace of its canary; `None` = it is a file, or
    /// the name is another's by now.
    pub(super) fn object(&self, name: &str, canary: Option<&String>) -> Option<Arc<WatchedRule>> {
        let pages = self.pages.lock();
        let is_its = |(rule, _): &(Arc<Rule>, _)| rule.workloads.sides.iter().any(|side| side.fields.get("namespace") == canary);
        let found = |read: &&Read| read.object.name == name && read.taken.is_none() && read.good.as_ref().is_some_and(is_its);
        pages.read.values().find(found).map(|read| Arc::clone(&read.object))
    }

    /// Reads what is new of these objects; what is no more among them is forgotten.
    fn take(&self, objects: Vec<Arc<WatchedRule>>) {
        let (known, old) = {
            let pages = self.pages.lock();
            (pages.known.clone(), pages.read.clone())
        };
        let key = |object: &WatchedRule| (object.namespace.clone(), object.name.clone());
        let read = objects.into_iter().map(|object| {
            let old = old.get(&key(&object)).filter(|old| old.object.uid == object.uid);
            (key(&object), Read::of(object, old, &known))
        });
        let read = read.collect();
        self.pages.lock().read = read;
    }
}

impl Read {
    fn of(object: Arc<WatchedRule>, old: Option<&Read>, known: &Known) -> Self {
        if let Some(old) = old.filter(|old| old.object.generation == object.generation) {
            return old.clone();
        }
        let rule = RuleObject { namespace: &object.namespace, name: &object.name, spec: &object.spec };
        match rule.read(known) {
            Ok((rule, text)) => Self { object, good: Some((Arc::new(rule), text)), problems: Vec::new(), taken: None },
            Err(report) => {
                let problems: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
                events::ObjectRefused { problems: &problems }.emit();
                Self { object, good: old.and_then(|old| old.good.clone()), problems, taken: None }
            }
        }
    }

    /// As the rule it is names it.
    fn place(&self) -> String {
        self.rule().place()
    }

    fn rule(&self) -> RuleObject<'_> {
        RuleObject { namespace: &self.object.namespace, name: &self.object.name, spec: &self.object.spec }
    }

    /// Who came first: of one second the first by name.
    fn age(&self) -> (&str, &str, &str) {
        (&self.object.created, &self.object.namespace, &self.object.name)
    }

    /// Told once.
    fn note_taken(&mut self, taken: Option<Refused>) {
        if let Some(refused) = taken.as_ref().filter(|taken| self.taken.as_ref() != Some(taken)) {
            events::ObjectRefused { problems: &[refused.problem().to_string()] }.emit();
        }
        self.taken = taken;
    }

    /// What the object shows of itself.
    fn status(&self, in_force: Option<&RuleView>) -> Value {
        let accepted = self.accepted(in_force);
        let rollout = in_force.and_then(|view| view.rollout.as_ref()).map(|id| id.0.clone());
        json!({
            "observedGeneration": self.object.generation,
            "rollout": rollout,
            "waiting": in_force.and_then(|view| view.waiting.as_ref()).map(waiting),
            "conditions": conditions(&[accepted, ready(in_force)], self.object.generation),
        })
    }

    fn accepted(&self, in_force: Option<&RuleView>) -> Condition {
        let said = |status: bool, reason: &str, message: String| Condition {
            kind: "Accepted",
            status: Some(status),
            reason: reason.to_owned(),
            message,
        };
        if !self.problems.is_empty() {
            let stays = if self.good.is_some() { "\nan earlier version stays in force" } else { "" };
            return said(false, "Invalid", format!("{}{stays}", self.problems.join("\n")));
        }
        match &self.taken {
            Some(Refused::Name(why)) => return said(false, "NameTaken", why.to_string()),
            Some(Refused::Route(why)) => return said(false, "RouteTaken", why.to_string()),
            None => {}
        }
        let ours = self.good.as_ref().map(|(rule, _)| rule.digest.as_str());
        match in_force {
            Some(view) if Some(view.digest.as_str()) == ours => said(true, "InForce", "it is in force".to_owned()),
            _ => said(false, "NotInForce", "it is a rule, and about to come into force".to_owned()),
        }
    }
}

/// Is all there that it needs?
fn ready(in_force: Option<&RuleView>) -> Condition {
    let (status, reason, message) = match in_force.map(|view| view.missing.as_deref()) {
        None => (Some(false), "NotInForce", "it is not in force".to_owned()),
        Some(None) => (None, "NotLooked", "nobody has looked yet".to_owned()),
        Some(Some([])) => (Some(true), "Complete", "its workloads and its route are there".to_owned()),
        Some(Some(missing)) => (Some(false), "Missing", missing.join("\n")),
    };
    Condition { kind: "Ready", status, reason: reason.to_owned(), message }
}

fn waiting(waiting: &Waiting) -> Value {
    json!({ "version": waiting.version, "since": words::time(waiting.since), "why": waiting.why })
}

/// Keeps the book in step with the objects, the runtime with the book, and the objects' statuses with the runtime.
pub(super) async fn keep(book: Book, objects: RuleObjects, handle: Handle, desk: Desk) {
    // those that are there at the start, or the word that they cannot be read
    let _ = tokio::time::timeout(FIRST_MAX, objects.looked()).await;
    if objects.all().is_empty() {
        book.settled.cancel();
    }
    loop {
        let changed = tokio::time::timeout(LOOK, objects.changed()).await.is_ok();
        if changed {
            tokio::time::sleep(GATHER).await;
            let (of_book, all) = (book.clone(), objects.all());
            // a thousand rules take a while to read
            let _ = tokio::task::spawn_blocking(move || of_book.take(all)).await;
            // a refusal is about files, and has been logged with every problem
            let _ = handle.reload().await;
            book.settled.cancel();
        }
        tell(&book, &handle, &desk);
    }
}

fn tell(book: &Book, handle: &Handle, desk: &Desk) {
    let views = handle.views();
    let all: Vec<Read> = book.pages.lock().read.values().cloned().collect();
    for read in all {
        let in_force = views.rules.get(&read.object.name).filter(|view| view.file == read.place());
        let status = read.status(in_force.map(|view| &**view));
        desk.show(Place::new(RULE, &read.object.namespace, &read.object.name), Shown { status, made_from: None });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    fn object(name: &str, created: &str, route: &str) -> Arc<WatchedRule> {
        let spec = json!({
            "workloads": { "pair": [{ "subset": "v1" }, { "subset": "v2" }] },
            "telemetry": ["istio"],
            "traffic": { "istio": { "virtual-service": "shop", "route": route } },
            "steps": [{ "weight": "100%", "bake": "5m" }],
            "metrics": { "error-rate": {} },
        });
        let (namespace, created) = ("shop".to_owned(), created.to_owned());
        Arc::new(WatchedRule { namespace, name: name.to_owned(), uid: name.to_owned(), generation: 1, created, spec })
    }

    fn book() -> Book {
        Book::new(Known { packs: ["istio".to_owned()].into(), cluster: true, ..Known::default() })
    }

    /// Names in force, and what is shown of those that are not.
    fn joined(book: &Book, objects: &[Arc<WatchedRule>]) -> (Vec<String>, Vec<(String, String)>) {
        book.take(objects.to_vec());
        let set = book.join(RuleSet::default());
        let pages = book.pages.lock();
        let taken = pages.read.values().filter(|read| read.taken.is_some()).map(|read| {
            let said = read.accepted(None);
            (read.object.name.clone(), format!("{}: {}", said.reason, said.message))
        });
        (set.rules.into_keys().collect(), taken.collect())
    }

    #[test]
    fn of_two_objects_for_one_route_the_older_is_in_force_and_of_one_second_the_first_by_name() {
        let (old, young) = (object("z", "2026-11-21T10:00:00Z", "p"), object("a", "2026-11-21T10:00:01Z", "p"));
        let twin = object("y", "2026-11-21T10:00:00Z", "p");
        let other = object("other", "2026-11-21T11:00:00Z", "q");
        let book = book();
        let (in_force, taken) = joined(&book, &[young.clone(), old.clone(), other.clone()]);
        assert_eq!(in_force, ["other", "z"], "another entry is nobody's");
        assert!(
            matches!(taken.as_slice(), [(name, why)] if name == "a"
            && why.starts_with("RouteTaken: canaryrule shop/a: traffic.istio: rule \"a\" would move VirtualService shop/shop, route p")
            && why.contains("rule \"z\" (canaryrule shop/z) moves")),
            "{taken:?}"
        );
        assert_eq!(joined(&book, &[young.clone(), old, twin.clone()]).0, ["y"]);
        assert_eq!(joined(&book, &[young, other]).0, ["a", "other"], "it comes into force by itself");
        let file = RuleObject { namespace: "shop", name: "file", spec: &twin.spec }.read(&book.pages.lock().known.clone()).unwrap();
        let mut files = RuleSet::default();
        files.rules.insert("file".to_owned(), Arc::new(Rule { file: "file.yaml".into(), ..file.0 }));
        files.texts.insert("file".to_owned(), file.1);
        assert_eq!(book.join(files).rules.into_keys().collect::<Vec<_>>(), ["file", "other"], "a file goes before an object");
    }

    /// Names are one space for all namespaces: whoever has one keeps it, whatever others write.
    #[test]
    fn the_older_object_keeps_its_name_also_while_it_is_wrong() {
        let of = |namespace: &str, created: &str, generation: i64, slip: bool| {
            let mut object = (*object("shop", created, "p")).clone();
            if slip {
                object.spec["steps"] = "none".into();
            }
            Arc::new(WatchedRule { namespace: namespace.to_owned(), uid: namespace.to_owned(), generation, ..object })
        };
        let book = book();
        let in_force = |objects: &[Arc<WatchedRule>]| {
            book.take(objects.to_vec());
            let set = book.join(RuleSet::default());
            set.rules.values().map(|rule| rule.file.display().to_string()).collect::<Vec<_>>()
        };
        let mine = of("mine", "2026-11-21T10:00:01Z", 1, false);
        let wrong = of("others", "2026-11-21T10:00:00Z", 1, true);
        assert_eq!(in_force(&[mine.clone(), wrong]), Vec::<String>::new(), "it is not given and then taken away");
        let why = book.pages.lock().read.values().find_map(|read| Some(read.taken.as_ref()?.problem().to_string()));
        let said = "canaryrule mine/shop: rule \"shop\" is already the name of canaryrule others/shop: give each rule its own name";
        assert_eq!(why.as_deref(), Some(said));
        let mended = of("others", "2026-11-21T10:00:00Z", 2, false);
        assert_eq!(in_force(&[mine.clone(), mended]), ["canaryrule others/shop"]);
        assert_eq!(in_force(std::slice::from_ref(&mine)), ["canaryrule mine/shop"], "it was taken away");
        let later = of("another", "2026-11-21T10:00:02Z", 1, false);
        assert_eq!(in_force(&[mine, later]), ["canaryrule mine/shop"]);
        let namespace = |name: &str| name.to_owned();
        assert!(book.object("shop", Some(&namespace("mine"))).is_some());
        assert!(book.object("shop", Some(&namespace("others"))).is_none(), "a rollout of others is not shown beside it");
    }

    #[test]
    fn manifests_are_those_of_the_kind_that_is_served() {
        assert_eq!(crate::config::API, RULE.api);
    }

    #[test]
    fn what_is_missing_and_what_waits_is_shown_on_the_object() {
        let book = book();
        joined(&book, &[object("a", "2026-11-21T10:00:00Z", "p")]);
        let read = book.pages.lock().read.values().next().cloned().unwrap();
        let digest = read.good.as_ref().unwrap().0.digest.clone();
        let view = |missing: Option<&[&str]>| RuleView {
            digest: digest.clone(),
            missing: missing.map(|all| all.iter().map(|why| (*why).to_owned()).collect()),
            ..RuleView::default()
        };
        let ready = |in_force: Option<&RuleView>| {
            let status = read.status(in_force);
            let ready = &status["conditions"][1];
            (ready["status"].clone(), ready["reason"].clone(), ready["message"].clone())
        };
        assert_eq!(ready(None).1, "NotInForce");
        assert_eq!((ready(Some(&view(None))).0, ready(Some(&view(None))).1), ("Unknown".into(), "NotLooked".into()));
        assert_eq!((ready(Some(&view(Some(&[])))).0, ready(Some(&view(Some(&[])))).1), ("True".into(), "Complete".into()));
        assert_eq!(ready(Some(&view(Some(&["x", "y"])))), ("False".into(), "Missing".into(), "x\ny".into()));
        let waiting = Waiting { version: "shop:2".to_owned(), since: Timestamp::from_millis(0), why: "no pods".to_owned() };
        let status = read.status(Some(&RuleView { waiting: Some(waiting), ..view(None) }));
        assert_eq!(status["waiting"], json!({"version": "shop:2", "since": "1970-01-01T00:00:00Z", "why": "no pods"}));
        assert_eq!(read.status(Some(&view(None)))["waiting"], Value::Null);
    }
}
