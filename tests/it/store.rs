//! The journal on a real disk: opened, filled, killed, opened again.

use canaryd::model::journal::{Event, Kept, KeptOf, KeptScale, KeptSeries, Opened};
use canaryd::model::*;
use canaryd::store::{Ages, Pruned, Sqlite, Store, StoreError};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::time::Duration;

const AT: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn opened(rule: &str) -> Opened {
    Opened {
        id: RolloutId("ignored".to_owned()),
        rule: rule.to_owned(),
        rule_text: "rule: x\n".to_owned(),
        attached: Default::default(),
        file: "rules/x.yaml".to_owned(),
        interval: Duration::from_secs(15),
        bounds_ms: vec![5.0, 10.0],
        scale: 1.0,
        incarnation: 0,
        history: History { cpu: vec![Some(0.1), None], ..History::default() },
        begin: Begin::new(Side::Second, "v2", "test"),
        kept: None,
    }
}

fn decided(state: State) -> Event {
    Event::Decided(Box::new(Decision {
        at: AT,
        action: Action::Hold,
        state,
        weight: Weight::ZERO,
        generation: 3,
        step: 1,
        counts_time: true,
        reasons: Vec::new(),
        holds: Vec::new(),
        effects: Vec::new(),
        wake_at: None,
    }))
}

/// The three lines of one tick.
fn tick(number: u32) -> Vec<Event> {
    let poll = Box::new(Poll::blind(AT, number, Blind::NoSeries));
    let state = State::Progressing { step: number };
    vec![
        Event::Poll { poll, missing: PerArm::default(), detail: String::new(), orphans: 0.0 },
        Event::Input(Box::new(Input::Wake)),
        decided(state),
    ]
}

fn why_not(folder: &Path) -> String {
    Sqlite::open(folder).map(|_| ()).expect_err("must not open").to_string()
}

#[tokio::test]
async fn what_was_written_is_there_after_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(&folder.path().join("made/on/the/way")).unwrap();
    let id = Store::open(&store, AT, opened("chatbot")).await.unwrap();
    assert_eq!(id.0, "chatbot-1");
    assert_eq!(store.append(&id, AT, tick(1)).await.unwrap(), 3);
    let later = AT + Duration::from_secs(15);
    assert_eq!(store.append(&id, later, tick(2)).await.unwrap(), 6);
    store.close().await.unwrap();
    assert!(matches!(store.append(&id, AT, tick(3)).await, Err(StoreError::Database(why)) if why == "it is closed"));

    let store = Sqlite::open(&folder.path().join("made/on/the/way")).unwrap();
    let entries = store.load(&id).await.unwrap();
    let mut first = opened("chatbot");
    first.id = id.clone();
    let events: Vec<Event> = std::iter::once(Event::Opened(Box::new(first))).chain(tick(1)).chain(tick(2)).collect();
    assert_eq!(entries.iter().map(|e| e.event.clone()).collect::<Vec<_>>(), events);
    assert_eq!(entries.iter().map(|e| e.seq).collect::<Vec<_>>(), (0..=6).collect::<Vec<_>>());
    assert_eq!((entries[3].at, entries[4].at), (AT, later));
    assert_eq!(store.append(&id, AT, Vec::new()).await.unwrap(), 6);
}

#[tokio::test]
async fn each_rule_counts_its_own_rollouts_and_the_list_follows_the_last_decision() {
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(folder.path()).unwrap();
    for (rule, name) in [("a", "a-1"), ("b", "b-1"), ("a", "a-2"), ("a-1", "a-1-1")] {
        assert_eq!(Store::open(&store, AT, opened(rule)).await.unwrap().0, name);
    }
    let a1 = RolloutId("a-1".to_owned());
    let a2 = RolloutId("a-2".to_owned());
    store.append(&a1, AT, vec![decided(State::Progressing { step: 0 }), decided(State::RolledBack)]).await.unwrap();
    store.append(&a2, AT, tick(1)).await.unwrap();
    // a line after the end, and one without a decision, change no state
    store.append(&a1, AT, vec![Event::Input(Box::new(Input::Wake))]).await.unwrap();

    let names = |listed: Vec<canaryd::store::Listed>| listed.into_iter().map(|l| l.id.0).collect::<Vec<_>>();
    assert_eq!(names(store.list(None, 10).await.unwrap()), ["a-1-1", "a-2", "b-1", "a-1"]);
    assert_eq!(names(store.list(None, 2).await.unwrap()), ["a-1-1", "a-2"]);
    assert_eq!(names(store.unfinished().await.unwrap()), ["a-1-1", "a-2", "b-1"]);
    let of_a = store.list(Some("a"), 10).await.unwrap();
    assert_eq!(
        of_a.iter().map(|l| (l.state.clone(), l.ended, l.seq)).collect::<Vec<_>>(),
        [(State::Progressing { step: 1 }, None, 3), (State::RolledBack, Some(AT), 3)]
    );
    assert_eq!((of_a[0].opened, of_a[0].version.as_str()), (AT, "v2"));

    let nobody = RolloutId("nobody-1".to_owned());
    assert!(matches!(store.load(&nobody).await, Err(StoreError::Unknown(id)) if id == "nobody-1"));
    assert!(matches!(store.append(&nobody, AT, tick(1)).await, Err(StoreError::Unknown(_))));
}

#[tokio::test]
async fn many_writers_at_once_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = std::sync::Arc::new(Sqlite::open(folder.path()).unwrap());
    let writers: Vec<_> = (0..50)
        .map(|writer| {
            let store = std::sync::Arc::clone(&store);
            tokio::spawn(async move {
                let id = Store::open(&*store, AT, opened(&format!("rule{}", writer % 5))).await.unwrap();
                for number in 1..=10 {
                    assert_eq!(store.append(&id, AT, tick(number)).await.unwrap(), u64::from(3 * number));
                }
                id
            })
        })
        .collect();
    for writer in writers {
        let id = writer.await.unwrap();
        assert_eq!(store.load(&id).await.unwrap().len(), 31, "{id}");
    }
    assert_eq!(store.list(Some("rule4"), 100).await.unwrap()[0].id.0, "rule4-10");
}

#[tokio::test]
async fn a_folder_has_one_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(folder.path()).unwrap();
    let why = why_not(folder.path());
    assert!(why.contains(&format!("another canaryd (process {}) uses this folder", std::process::id())), "{why}");
    store.close().await.unwrap();
    Sqlite::open(folder.path()).expect("free again");
}

#[test]
fn what_cannot_be_a_journal_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    assert!(why_not(&file.join("below")).contains("the folder cannot be made"));
    assert!(why_not(Path::new("/proc/canaryd")).contains("/proc/canaryd"));

    std::fs::write(folder.path().join("journal.db"), "this is no database at all, but long enough to be read".repeat(20)).unwrap();
    let why = why_not(folder.path());
    assert!(why.contains("journal.db") && why.contains("no SQLite database"), "{why}");
}

#[test]
fn a_newer_schema_and_a_strangers_database_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(Sqlite::open(folder.path()).unwrap());
    let path = folder.path().join("journal.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let why = why_not(folder.path());
    assert!(why.contains("has schema 99, this build knows up to 4: run the newer canaryd"), "{why}");

    std::fs::remove_file(&path).unwrap();
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    assert!(why_not(folder.path()).contains("another program"));
}

#[tokio::test]
async fn a_damaged_line_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(folder.path()).unwrap();
    let id = Store::open(&store, AT, opened("r")).await.unwrap();
    store.append(&id, AT, tick(1)).await.unwrap();
    store.close().await.unwrap();
    let connection = rusqlite::Connection::open(folder.path().join("journal.db")).unwrap();
    connection.execute("UPDATE line SET json = substr(json, 1, 30) WHERE seq = 2", []).unwrap();
    drop(connection);
    let store = Sqlite::open(folder.path()).unwrap();
    let error = store.load(&id).await.unwrap_err().to_string();
    assert!(error.starts_with("journal of r-1, line 2: "), "{error}");
}

#[tokio::test]
async fn a_damaged_line_is_a_gap_to_whoever_takes_the_rollout_up() {
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(folder.path()).unwrap();
    let id = Store::open(&store, AT, opened("r")).await.unwrap();
    store.append(&id, AT, tick(1)).await.unwrap();
    store.close().await.unwrap();
    let connection = rusqlite::Connection::open(folder.path().join("journal.db")).unwrap();
    connection.execute("UPDATE line SET json = 'x' WHERE seq = 1", []).unwrap();
    drop(connection);
    let store = Sqlite::open(folder.path()).unwrap();
    let entries = store.salvage(&id).await.unwrap();
    assert!(matches!(&entries[1].event, Event::Gap(why) if why.starts_with("journal of r-1, line 1: ")), "{:?}", entries[1]);
    assert_eq!((entries.len(), entries[3].event.clone()), (4, decided(State::Progressing { step: 1 })));
}

#[tokio::test]
async fn what_a_rollout_learned_is_kept_for_its_rule() {
    let folder = tempfile::tempdir().unwrap();
    let kept = |num: f64| Kept {
        since: AT,
        interval: Duration::from_secs(15),
        scale: 1.0,
        series: vec![
            KeptSeries { of: KeptOf::Requests, scales: vec![KeptScale { polls: 4, num, den: 0.1 + 0.2 }] },
            KeptSeries { of: KeptOf::Custom("orders".to_owned()), scales: Vec::new() },
            KeptSeries { of: KeptOf::Tail(12.5), scales: vec![KeptScale { polls: 1, num: 0.0, den: f64::MAX }] },
        ],
    };
    let store = Sqlite::open(folder.path()).unwrap();
    assert_eq!(store.kept("a").await.unwrap(), None);
    store.keep("a", kept(1.0)).await.unwrap();
    store.keep("b", kept(2.0)).await.unwrap();
    store.keep("a", kept(3.0)).await.unwrap();
    store.close().await.unwrap();
    let store = Sqlite::open(folder.path()).unwrap();
    assert_eq!((store.kept("a").await.unwrap(), store.kept("b").await.unwrap()), (Some(kept(3.0)), Some(kept(2.0))));
    let mut first = opened("a");
    first.kept = Some(kept(3.0));
    let id = Store::open(&store, AT, first).await.unwrap();
    let Event::Opened(read) = store.load(&id).await.unwrap().remove(0).event else { panic!("no opening") };
    assert_eq!(read.kept, Some(kept(3.0)));
}

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A rollout of this rule that ended so, so many days after `AT`.
async fn ended(store: &Sqlite, rule: &str, day: u32, state: State) -> RolloutId {
    let id = Store::open(store, AT, opened(rule)).await.unwrap();
    store.append(&id, AT, tick(1)).await.unwrap();
    store.append(&id, AT, tick(2)).await.unwrap();
    store.append(&id, AT + DAY * day, vec![decided(state)]).await.unwrap();
    id
}

#[tokio::test]
async fn old_rollouts_go_their_polls_first() {
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(folder.path()).unwrap();
    let succeeded = ended(&store, "a", 1, State::Succeeded).await;
    let gone = ended(&store, "a", 1, State::RolledBack).await;
    let thinned = ended(&store, "a", 20, State::RolledBack).await;
    let young = ended(&store, "a", 30, State::RolledBack).await;
    let running = ended(&store, "a", 1, State::Progressing { step: 2 }).await;
    let newest = ended(&store, "b", 1, State::RolledBack).await;
    let before = |day: u32| AT + DAY * day;
    let ages = Ages { polls_before: before(25), rollouts_before: before(10) };
    assert_eq!(store.prune(ages).await.unwrap(), Pruned { rollouts: 1, polls: 6, more: false });
    assert_eq!(store.prune(ages).await.unwrap(), Pruned::default(), "nothing is left to do");

    assert!(matches!(store.load(&gone).await, Err(StoreError::Unknown(_))));
    for whole in [&young, &running] {
        assert_eq!(store.load(whole).await.unwrap().len(), 8, "{whole}");
    }
    // the newest of its rule and the newest success stay, without their polls
    for thin in [&thinned, &succeeded, &newest] {
        let entries = store.load(thin).await.unwrap();
        assert!(!entries.iter().any(|e| matches!(e.event, Event::Poll { .. })));
        let gaps: Vec<u64> = entries.iter().filter(|e| matches!(e.event, Event::Gap(_))).map(|e| e.seq).collect();
        assert_eq!((gaps, entries.len()), (vec![1], 7), "a gap where the first poll was");
    }
    // numbers go on, whatever was dropped
    assert_eq!(Store::open(&store, AT, opened("b")).await.unwrap().0, "b-2");
    // helpings are small: a decision must not wait for a year of journals
    for _ in 0..10 {
        ended(&store, "c", 1, State::RolledBack).await;
    }
    assert!(store.prune(ages).await.unwrap().more);
    while store.prune(ages).await.unwrap().more {}
    assert_eq!(store.list(Some("c"), 100).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_journal_of_the_first_schema_is_brought_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(folder.path()).unwrap();
    let old = ended(&store, "a", 1, State::RolledBack).await;
    ended(&store, "a", 1, State::RolledBack).await;
    store.close().await.unwrap();
    let connection = rusqlite::Connection::open(folder.path().join("journal.db")).unwrap();
    connection.execute_batch("DROP TABLE kept; ALTER TABLE rollout DROP COLUMN ended_ms; ALTER TABLE rollout DROP COLUMN raw").unwrap();
    connection
        .execute_batch(
            "DROP TABLE noted; DROP TABLE rolled_back; DROP TABLE reading; DROP TABLE renamed; ALTER TABLE rollout DROP COLUMN template",
        )
        .unwrap();
    connection.pragma_update(None, "user_version", 1).unwrap();
    drop(connection);
    let store = Sqlite::open(folder.path()).unwrap();
    assert_eq!(store.kept("a").await.unwrap(), None);
    let before = AT + DAY * 2;
    let pruned = store.prune(Ages { polls_before: AT, rollouts_before: before }).await.unwrap();
    assert_eq!(pruned, Pruned { rollouts: 1, polls: 0, more: false }, "its end is known from its last line");
    assert!(store.load(&old).await.is_err());
    // a rollout of then had no template: nothing is known of any
    assert!(store.noted("a").await.unwrap().is_empty() && store.rolled_back("a").await.unwrap().is_empty());
    store.note("a", "shop/web", Some("t1".to_owned())).await.unwrap();
}

#[tokio::test]
async fn known_templates_are_known_after_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(folder.path()).unwrap();
    assert!(store.noted("a").await.unwrap().is_empty(), "never looked");
    for (rule, workload, template) in
        [("a", "shop/v1", Some("t1")), ("a", "shop/v2", None), ("a", "shop/v1", Some("t2")), ("b", "shop/v1", Some("other"))]
    {
        store.note(rule, workload, template.map(str::to_owned)).await.unwrap();
    }
    store.close().await.unwrap();
    let store = Sqlite::open(folder.path()).unwrap();
    let known = [("shop/v1".to_owned(), Some("t2".to_owned())), ("shop/v2".to_owned(), None)];
    assert_eq!(store.noted("a").await.unwrap(), known.into());
}

/// A rollout of rule `a` with this template that ends so.
async fn ended_with(store: &Sqlite, template: &str, state: State) {
    let mut first = opened("a");
    first.begin.noted = Some(Noted { template: template.to_owned(), ..Noted::default() });
    let id = Store::open(store, AT, first).await.unwrap();
    store.append(&id, AT, vec![decided(state)]).await.unwrap();
}

#[tokio::test]
async fn a_template_that_was_rolled_back_is_remembered_until_it_succeeds() {
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(folder.path()).unwrap();
    for (template, state) in [
        ("bad", State::RolledBack),
        ("bad", State::RolledBack),
        ("mended", State::RolledBack),
        ("mended", State::Succeeded),
        ("passed-by", State::Superseded),
        ("good", State::Succeeded),
    ] {
        ended_with(&store, template, state).await;
    }
    ended(&store, "a", 1, State::RolledBack).await;
    assert_eq!(store.rolled_back("a").await.unwrap(), ["bad".to_owned()].into());
    assert!(store.rolled_back("b").await.unwrap().is_empty());
    // its rollouts go with time, the memory does not
    let all = AT + DAY * 30;
    while store.prune(Ages { polls_before: all, rollouts_before: all }).await.unwrap().more {}
    assert_eq!(store.rolled_back("a").await.unwrap(), ["bad".to_owned()].into());
}

const CHILD: &str = "CANARYD_TEST_JOURNAL";

/// Not a test of its own: the process that the next one kills. Writes ticks for ever and tells each number it was told.
#[tokio::test]
#[allow(clippy::print_stdout)] // the pipe to the test that started it
#[ignore = "started by a_killed_daemon_leaves_whole_transactions"]
async fn the_writer_to_be_killed() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    let store = Sqlite::open(Path::new(&folder)).unwrap();
    let id = Store::open(&store, AT, opened("killed")).await.unwrap();
    println!("\nopened {id}");
    for number in 1.. {
        println!("told {}", store.append(&id, AT, tick(number)).await.unwrap());
    }
}

#[tokio::test]
async fn a_killed_daemon_leaves_whole_transactions() {
    let folder = tempfile::tempdir().unwrap();
    for round in 1..=4 {
        let mut child = Process::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::the_writer_to_be_killed", "--ignored", "--nocapture"])
            .env(CHILD, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let told = |line: String| line.strip_prefix("told ").map(|n| n.parse::<u64>().unwrap());
        let mut last = lines.by_ref().filter_map(told).nth(10 * round).expect("the writer writes");
        child.kill().unwrap(); // SIGKILL, in the middle of whatever it does
        child.wait().unwrap();
        last = lines.filter_map(told).last().unwrap_or(last);

        let store = Sqlite::open(folder.path()).unwrap();
        let id = RolloutId(format!("killed-{round}"));
        let entries = store.load(&id).await.unwrap();
        assert!(entries.len() as u64 > last, "told {last}, stored {}", entries.len());
        assert_eq!(entries.len() % 3, 1, "the first line, and whole ticks");
        assert_eq!(store.unfinished().await.unwrap().len(), round);
        store.close().await.unwrap();
    }
}
