//! What outlives a rollout, what a damaged journal costs, and what a restart does and does not.

use crate::in_process::{Running, known};
use crate::scripted::answer;
use axum::body::Bytes;
use axum::routing::get;
use canaryd::model::journal::{Entry, Event};
use canaryd::model::{Arm, Decision, Effect, HoldWhy, Level, Notice, Phase, RolloutId, State, Topic, Verb};
use canaryd::notify::{NOTICES_MAX, Notices};
use canaryd::runtime::{PastArgs, PastRollouts, replay};
use canaryd::store::{Sqlite, Store};
use canaryd::telemetry::Metrics;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const RULE: &str = "\
rule: shop
workloads: { pair: [ { cluster: v1 }, { cluster: v2 } ] }
telemetry: [ envoy ]
traffic: none
promotion: swap
drain: 100ms
steps: [ { weight: 50%, for: FOR }, { weight: 100%, bake: 200ms } ]
metrics:
  error-rate: { tolerate: { relative: 20%, absolute: 0.5% } }
";

async fn up(folder: &TempDir, step: &str) -> Running {
    Running::up(folder, &RULE.replace("FOR", step)).await
}

fn opening(entries: &[Entry]) -> &canaryd::model::journal::Opened {
    match &entries[0].event {
        Event::Opened(opened) => opened,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_rollout_without_history_knows_what_the_first_learned() {
    let folder = tempfile::tempdir().unwrap();
    // longer than the shortest history, 1.8 s at this scale
    let first = up(&folder, "3s").await;
    let one = first.start("1").await;
    let view = first.until("a judgement", |v| v.judgement.is_some()).await;
    assert!(view.warnings.iter().any(|w| w.starts_with("burstiness unknown")), "{:?}", view.warnings);
    first.until("success", |v| v.state == State::Succeeded).await;
    let kept = first.until_kept().await;
    assert_eq!(opening(&first.store.load(&one).await.unwrap()).kept, None);
    first.down().await;

    // after a restart of the daemon, too
    let second = up(&folder, "30s").await;
    let two = second.start("2").await;
    let view = second.until("a judgement", |v| v.judgement.as_ref().is_some_and(|j| !j.metrics.is_empty())).await;
    assert!(view.warnings.iter().any(|w| w == "no history: burstiness as kept from an earlier rollout"), "{:?}", view.warnings);
    let phi = view.judgement.as_ref().unwrap().metrics[0].phi;
    assert!(phi > 4.0, "from the first poll on, where without it there would be 2: {phi}");
    let entries = second.store.load(&two).await.unwrap();
    assert_eq!(opening(&entries).kept.as_ref(), Some(&kept), "in the journal, so that a replay has it");
    second.roll_back().await;
    second.until("rolled back", |v| v.state == State::RolledBack).await;
    // its slot is emptied before the next rollout can start
    second.start("3").await;
    assert_eq!(second.store.kept("shop").await.unwrap(), Some(kept), "a rollout that was rolled back leaves nothing");
    let rebuilt = replay::rebuild(&second.store.salvage(&two).await.unwrap(), &known(), canaryd::runtime::now()).unwrap();
    assert_eq!((rebuilt.differing, rebuilt.left.lost), (Vec::new(), None));
    second.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_short_a_rollout_teaches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let running = up(&folder, "300ms").await;
    running.start("1").await;
    running.until("success", |v| v.state == State::Succeeded).await;
    // the next start comes after the first one's slot was emptied
    running.start("2").await;
    assert_eq!(running.store.kept("shop").await.unwrap(), None);
    running.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_in_the_journal_halves_the_level_and_the_rollout_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let running = up(&folder, "120s").await;
    let id = running.start("1").await;
    let view = running.until("a few ticks", |v| v.judgement.as_ref().is_some_and(|j| j.t_s > Some(1.0))).await;
    let level = view.judgement.as_ref().unwrap().ln_rollback;
    running.down().await;
    let connection = rusqlite::Connection::open(folder.path().join("journal.db")).unwrap();
    let damage = r#"UPDATE line SET json = 'x' WHERE seq = (SELECT min(seq) + 2 FROM line WHERE json LIKE '{"v":1,"event":{"poll"%')"#;
    assert_eq!(connection.execute(damage, []).unwrap(), 1);
    drop(connection);

    let running = up(&folder, "120s").await;
    let again = running.until("judged again", |v| v.judgement.as_ref().is_some_and(|j| j.ln_rollback > level)).await;
    let halved = again.judgement.as_ref().unwrap();
    assert!((halved.ln_rollback - level - 2f64.ln()).abs() < 1e-12, "half of the level");
    assert!(again.warnings.iter().any(|w| w.contains("evidence began anew") && w.contains("line ")), "{:?}", again.warnings);
    assert_eq!((again.id.clone(), again.decision.step, again.decision.weight.permille()), (id.clone(), 0, 500));
    running.until("in force again", |v| matches!(v.state, State::Progressing { step: 0 }) && v.decision.counts_time).await;
    running.down().await;

    // taken up once more, nothing further is lost, and every decision since comes out again
    let running = up(&folder, "120s").await;
    running.until("judged", |v| v.judgement.is_some()).await;
    let entries = running.store.salvage(&id).await.unwrap();
    let restarts: Vec<u32> =
        entries.iter().filter_map(|e| if let Event::Restarted { incarnation, .. } = e.event { Some(incarnation) } else { None }).collect();
    assert_eq!(restarts, [1]);
    let rebuilt = replay::rebuild(&entries, &known(), canaryd::runtime::now()).unwrap();
    assert_eq!((rebuilt.left.lost, rebuilt.differing), (None, Vec::new()));
    running.down().await;

    // a second gap halves again; a journal without its opening is left alone
    let store = Sqlite::open(folder.path()).unwrap();
    store.append(&id, canaryd::runtime::now(), vec![Event::Gap("3 polls were not kept".to_owned())]).await.unwrap();
    let entries = store.salvage(&id).await.unwrap();
    let rebuilt = replay::rebuild(&entries, &known(), canaryd::runtime::now()).unwrap();
    assert_eq!(rebuilt.left.lost.as_ref().map(|l| (l.incarnation, l.why.as_str())), Some((2, "3 polls were not kept")));
    assert!(replay::rebuild(&entries[1..], &known(), canaryd::runtime::now()).is_err());
}

fn notice(topic: &Topic, phase: Phase, text: &str) -> Effect {
    Effect::Notify(Notice { level: Level::Warning, topic: topic.clone(), phase, text: text.to_owned() })
}

#[tokio::test(flavor = "multi_thread")]
async fn notices_reach_the_receivers_and_those_that_fire_are_told_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = up(&folder, "120s").await;
    let id = running.start("1").await;
    let first = tokio::time::timeout(Duration::from_secs(90), running.told.recv()).await.expect("in time").expect("told");
    assert_eq!((first.rule.name.as_str(), &first.rollout, first.version.as_str(), first.again), ("shop", &id, "1", false));
    assert_eq!((first.notice.topic, first.notice.phase), (Topic::Progress, Phase::Event));
    let view = running.until("progressing", |v| matches!(v.state, State::Progressing { .. })).await;
    running.down().await;

    let limit = Topic::Limit { metric: "error-rate".into(), limit: "warn-above".into(), arm: Arm::Canary };
    let store = Sqlite::open(folder.path()).unwrap();
    for effects in [
        vec![notice(&Topic::Shared, Phase::Firing, "both suffer"), notice(&limit, Phase::Firing, "2 %")],
        vec![notice(&limit, Phase::Firing, "3 %"), notice(&Topic::Progress, Phase::Event, "a step")],
        vec![notice(&Topic::Shared, Phase::Resolved, "over")],
    ] {
        let decision = Decision { effects, ..(*view.decision).clone() };
        store.append(&id, decision.at, vec![Event::Decided(Box::new(decision))]).await.unwrap();
    }
    store.close().await.unwrap();
    drop(store);

    let mut running = up(&folder, "120s").await;
    let again = running.told.try_recv().expect("told before anything else");
    assert_eq!((again.again, &again.notice.topic, again.notice.text.as_str()), (true, &limit, "3 %"));
    assert_eq!((&again.rollout, again.at, again.state), (&id, view.decision.at, "progressing"));
    assert!(running.metrics.text().contains("canaryd_notices_lost_total 0\n"));
    running.down().await;

    // receivers that are slower than the news lose some of it, and nothing waits for them
    let metrics = Metrics::new();
    let (notices, mut slow) = Notices::channel(metrics.clone());
    (0..NOTICES_MAX + 2).for_each(|_| notices.tell(again.clone()));
    assert!(metrics.text().contains("canaryd_notices_lost_total 2\n"), "{}", metrics.text());
    let received = std::iter::from_fn(|| slow.try_recv().ok()).count();
    assert_eq!(received, NOTICES_MAX);
}

/// A user's own endpoint that keeps a weight.
#[derive(Default)]
struct Endpoint {
    kept: Value,
    posts: Vec<Value>,
    down: bool,
}

impl Endpoint {
    async fn start() -> (String, Arc<Mutex<Self>>) {
        let kept = json!({ "canary": "v2", "weight-permille": 0 });
        let endpoint = Arc::new(Mutex::new(Self { kept, ..Self::default() }));
        let (read, write) = (Arc::clone(&endpoint), Arc::clone(&endpoint));
        let post = move |body: Bytes| async move {
            let mut endpoint = write.lock();
            let wish: Value = serde_json::from_slice(&body).unwrap();
            endpoint.posts.push(wish.clone());
            if endpoint.down {
                return answer(503, "maintenance");
            }
            endpoint.kept = wish;
            answer(204, "")
        };
        let app = axum::Router::new().route("/weight", get(move || async move { read.lock().kept.to_string() }).post(post));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/weight", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (url, endpoint)
    }

    fn rule(url: &str, more: &str) -> String {
        let rule = RULE.replace("FOR", "120s").replace("promotion: swap", "promotion: leave");
        format!("{}{more}", rule.replace("traffic: none", &format!("traffic: {{ webhook: {{ url: {url:?} }} }}")))
    }
}

/// Waits for three ticks judged from now on.
async fn ticks(running: &Running) {
    let now = canaryd::runtime::now();
    let later = |v: &canaryd::runtime::RolloutView| v.judgement.as_ref().is_some_and(|j| j.at > now + Duration::from_millis(300));
    running.until("three ticks", later).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_writes_no_weight_that_is_in_force_and_writes_one_that_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (url, endpoint) = Endpoint::start().await;
    let rule = Endpoint::rule(&url, "");
    let running = Running::up(&folder, &rule).await;
    running.start("1").await;
    running.until("in force", |v| v.decision.counts_time && v.weight_seen == Some(v.decision.weight)).await;
    ticks(&running).await;
    running.down().await;
    assert_eq!(endpoint.lock().posts.len(), 1, "{:?}", endpoint.lock().posts);

    let running = Running::up(&folder, &rule).await;
    ticks(&running).await;
    running.until("read back", |v| v.weight_seen.is_some_and(|w| w.permille() == 500)).await;
    assert_eq!(endpoint.lock().posts.len(), 1, "it is in force: {:?}", endpoint.lock().posts);
    // a wish that did not come to it is written again by the next process
    endpoint.lock().down = true;
    running.roll_back().await;
    running.until("tried", |_| endpoint.lock().posts.len() > 1).await;
    running.down().await;
    let tried = endpoint.lock().posts.len();
    endpoint.lock().down = false;
    let running = Running::up(&folder, &rule).await;
    running.until("rolled back", |v| v.state == State::RolledBack).await;
    let (posts, kept) = {
        let endpoint = endpoint.lock();
        (endpoint.posts.clone(), endpoint.kept["weight-permille"].clone())
    };
    assert!(posts.len() > tried && kept == 0, "{posts:?}");
    running.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_observe_mode_no_weight_is_written_before_or_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (url, endpoint) = Endpoint::start().await;
    let rule = Endpoint::rule(&url, "mode: observe\n");
    for _ in 0..2 {
        let running = Running::up(&folder, &rule).await;
        if running.handle.views().rollouts.is_empty() {
            running.start("1").await;
        }
        ticks(&running).await;
        running.down().await;
    }
    assert_eq!(endpoint.lock().posts, [Value::Null; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_of_this_process_is_told_its_weight_again() {
    let folder = tempfile::tempdir().unwrap();
    let running = up(&folder, "120s").await;
    running.start("1").await;
    running.until("in force", |v| v.decision.counts_time && v.weight_seen == Some(v.decision.weight)).await;
    running.down().await;
    // `traffic: none` keeps the weight in memory alone: without being told it would read 0, as if another hand had moved it
    let running = up(&folder, "120s").await;
    ticks(&running).await;
    let view = running.until("in force", |v| v.weight_seen.is_some_and(|w| w.permille() == 500)).await;
    assert!(!view.decision.holds.iter().any(|h| h.why == HoldWhy::Foreign), "{:?}", view.decision.holds);
    running.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_shard_has_its_own_queue_in_the_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let running = up(&folder, "120s").await;
    running.start("1").await;
    running.until("judged", |v| v.judgement.is_some()).await;
    assert!(!running.metrics.text().contains("canaryd_engine_queue_length{shard=\"1\"}"), "one rollout, one shard");
    running.start_of("cart", "1").await;
    running.until("judged", |v| v.rule == "cart" && v.judgement.is_some()).await;
    let page = running.metrics.text();
    for shard in [0, 1] {
        assert!(page.contains(&format!("canaryd_engine_queue_length{{shard=\"{shard}\"}} ")), "{page}");
    }
    running.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_tells_of_past_rollouts_page_by_page() {
    let folder = tempfile::tempdir().unwrap();
    let rule = format!("{}start: {{ approvals: [ boss ] }}\n", RULE.replace("FOR", "120s"));
    let running = Running::up(&folder, &rule).await;
    let approve = || Verb::Approve { role: "boss".to_owned() };
    for (version, ends) in [("1", State::Succeeded), ("2", State::RolledBack), ("3", State::Succeeded)] {
        running.start(version).await;
        running.until("gated", |v| v.version == version && !v.approvals.is_empty()).await;
        assert!(running.say(approve(), "test").await.unwrap_err().text.contains("cannot approve"), "the starter may not");
        let view = running.say(approve(), "ann").await.unwrap();
        let given = view.approvals[0].1.clone().expect("given");
        assert_eq!((given.by.as_str(), given.until.since(given.at)), ("ann", Duration::from_secs(86_400)));
        match ends {
            State::RolledBack => running.roll_back().await,
            // not before something was seen
            _ => {
                let promoted = async {
                    while running.say(Verb::Promote, "ann").await.is_err() {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                };
                tokio::time::timeout(Duration::from_secs(90), promoted).await.expect("promoted in time");
            }
        }
        running.until("over", |v| v.version == version && v.state == ends).await;
    }
    let args =
        |before: Option<&str>, most| PastArgs { rule: Some("shop".into()), since: None, before: before.map(|b| RolloutId(b.into())), most };
    let first = running.handle.past(args(None, 2)).await.unwrap();
    let names = |page: &PastRollouts| page.rollouts.iter().map(|p| p.id.0.clone()).collect::<Vec<_>>();
    assert_eq!((names(&first), first.more), (vec!["shop-3".to_owned(), "shop-2".to_owned()], true));
    let back = &first.rollouts[1];
    assert_eq!((back.version.as_str(), back.by.as_str(), &back.state), ("2", "test", &State::RolledBack));
    assert_eq!(back.reasons, [("person", "test said so".to_owned())]);
    assert_eq!(back.approvals.iter().map(|a| a.by.as_str()).collect::<Vec<_>>(), ["ann"], "what was refused is none");
    assert!(back.ended.is_some_and(|ended| ended > back.opened));
    let last = running.handle.past(args(Some("shop-2"), 2)).await.unwrap();
    assert_eq!((names(&last), last.more), (vec!["shop-1".to_owned()], false));
    assert_eq!(running.handle.past(args(Some("shop-9"), 2)).await.unwrap_err().code, "unknown-rollout");
    let none = PastArgs { since: Some(canaryd::runtime::now()), most: 5, ..PastArgs::default() };
    assert_eq!(running.handle.past(none).await.unwrap().rollouts, []);
    running.down().await;
}
