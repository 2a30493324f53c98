//! A rollout whose driver is stuck costs nobody else anything: its mailbox fills, and whoever adds to it is told so at once.

use crate::in_process::Running;
use canaryd::model::journal::{Entry, Event, Kept, Opened};
use canaryd::model::{Command, RolloutId, State, Timestamp, Verb};
use canaryd::router::Means;
use canaryd::runtime::StartArgs;
use canaryd::store::{Ages, Answer, Listed, NotedTemplates, Past, Pruned, Readings, Sqlite, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

const RULE: &str = "\
rule: shop
workloads: { pair: [ { cluster: v1 }, { cluster: v2 } ] }
telemetry: [ envoy ]
traffic: none
promotion: swap
drain: 100ms
steps: [ { weight: 50%, for: 120s }, { weight: 100%, bake: 200ms } ]
metrics:
  error-rate: { tolerate: { relative: 20%, absolute: 0.5% } }
";
/// More than a mailbox holds.
const TOLD: usize = 100;
/// Longer than anything here takes on a slow machine, and shorter than a supervisor that waits for each of the messages that found no
/// room (5 s each).
const SOON: Duration = Duration::from_secs(60);

/// A journal on a disk that does not answer for one rule while it is shut.
#[derive(Debug)]
struct Shut {
    real: Arc<Sqlite>,
    rule: &'static str,
    shut: watch::Receiver<bool>,
}

impl Store for Shut {
    fn write(&self, id: &RolloutId, lines: Vec<(Timestamp, Event)>) -> Answer<'_, u64> {
        let (id, mut shut) = (id.clone(), self.shut.clone());
        Box::pin(async move {
            if id.0.starts_with(self.rule) {
                let _ = shut.wait_for(|shut| !shut).await;
            }
            self.real.write(&id, lines).await
        })
    }

    fn open(&self, at: Timestamp, opened: Opened) -> Answer<'_, RolloutId> {
        self.real.open(at, opened)
    }
    fn load(&self, id: &RolloutId) -> Answer<'_, Vec<Entry>> {
        self.real.load(id)
    }
    fn salvage(&self, id: &RolloutId) -> Answer<'_, Vec<Entry>> {
        self.real.salvage(id)
    }
    fn keep(&self, rule: &str, kept: Kept) -> Answer<'_, ()> {
        self.real.keep(rule, kept)
    }
    fn kept(&self, rule: &str) -> Answer<'_, Option<Kept>> {
        self.real.kept(rule)
    }
    fn noted(&self, rule: &str) -> Answer<'_, NotedTemplates> {
        self.real.noted(rule)
    }
    fn note(&self, rule: &str, workload: &str, template: Option<String>) -> Answer<'_, ()> {
        self.real.note(rule, workload, template)
    }
    fn readings(&self, rule: &str) -> Answer<'_, Readings> {
        self.real.readings(rule)
    }
    fn read_as(&self, rule: &str, workload: &str, now: BTreeMap<String, String>, renamed: BTreeMap<String, String>) -> Answer<'_, ()> {
        self.real.read_as(rule, workload, now, renamed)
    }
    fn rolled_back(&self, rule: &str) -> Answer<'_, BTreeSet<String>> {
        self.real.rolled_back(rule)
    }
    fn prune(&self, ages: Ages) -> Answer<'_, Pruned> {
        self.real.prune(ages)
    }
    fn list(&self, rule: Option<&str>, most: usize) -> Answer<'_, Vec<Listed>> {
        self.real.list(rule, most)
    }
    fn past(&self, wanted: Past) -> Answer<'_, Vec<Listed>> {
        self.real.past(wanted)
    }
    fn outline(&self, id: &RolloutId) -> Answer<'_, Vec<Entry>> {
        self.real.outline(id)
    }
    fn unfinished(&self) -> Answer<'_, Vec<Listed>> {
        self.real.unfinished()
    }
    fn close(&self) -> Answer<'_, ()> {
        self.real.close()
    }
}

/// Waits, at most as long as nobody may be delayed.
async fn soon<T>(what: &str, done: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, done).await.unwrap_or_else(|_| panic!("delayed by another rollout's driver: {what}"))
}

fn word(verb: Verb) -> Command {
    Command { verb, by: "test".to_owned(), why: String::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_driver_delays_nobody_elses_commands_reloads_and_starts() {
    let folder = tempfile::tempdir().unwrap();
    let (shut, is_shut) = watch::channel(false);
    let wrap = |real| Arc::new(Shut { real, rule: "shop", shut: is_shut }) as Arc<dyn Store>;
    let running = Running::up_on(&folder, RULE, Means::default(), wrap).await;
    running.start("1").await;
    let cart = running.start_of("cart", "1").await;
    shut.send(true).unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..TOLD {
        let (handle, tell) = (running.handle.clone(), tell.clone());
        tokio::spawn(async move { tell.send(handle.command("shop", word(Verb::Pause)).await) });
    }
    // the stuck driver answers nobody: these are the ones that found no room
    let refused = soon("a refusal", told.recv()).await.unwrap().unwrap_err();
    assert_eq!(refused.code, "busy");
    assert!(
        refused.text.starts_with("shop-1 is busy: 64 messages wait for it already") && refused.text.ends_with("try again"),
        "{refused}"
    );

    soon("a command", running.handle.command("cart", word(Verb::Pause))).await.expect("paused");
    soon("a reload", running.handle.reload()).await.expect("read again");
    soon("a roll back", running.handle.command("cart", word(Verb::RollBack))).await.expect("rolled back");
    let over = async {
        while running.handle.rollout(&cart).is_some_and(|view| view.state != State::RolledBack) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("an end", over).await;
    // its source's ticks go on too, and its place is free
    let args = StartArgs { version: "1".to_owned(), by: "test".to_owned(), retry: true };
    let second = soon("a start", running.handle.start("cart", args)).await.expect("its place is free in a moment");
    let judged = async {
        while running.handle.rollout(&second).is_none_or(|view| view.judgement.is_none()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("a tick", judged).await;
    assert!(*shut.borrow(), "all of it while the other is stuck");
    assert!(!running.metrics.text().contains("canaryd_mail_refused_total 0\n"), "counted");

    // and when its journal answers again it goes on
    shut.send(false).unwrap();
    let since = Instant::now();
    while running.handle.command("shop", word(Verb::RollBack)).await.is_err_and(|refusal| refusal.code == "busy") {
        assert!(since.elapsed() < SOON, "it never has room again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    running.down().await;
}
