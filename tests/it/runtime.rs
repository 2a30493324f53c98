//! The daemon's runtime with a scripted source and a journal on a real disk: what outlives a rollout, and what a damaged journal
//! costs. Ticks of 100 ms, the method a thousand times faster.

use canaryd::config::{Known, RuleSet, parse_rule};
use canaryd::model::journal::{Entry, Event, Kept};
use canaryd::model::{ArmSample, Command, History, PerArm, Rule, State, Timestamp, Verb};
use canaryd::runtime::{Handle, Makers, RolloutView, Setting, StartArgs, Supervisor, replay};
use canaryd::source::{Answer, SetUp, Source, SourceError, SourceSample, Subscription};
use canaryd::store::{Sqlite, Store};
use canaryd::telemetry::Metrics;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const TICK: Duration = Duration::from_millis(100);

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

/// Both arms alike; errors come in bursts, every other tick. It has no past.
#[derive(Debug, Default)]
struct Bursts {
    keys: Vec<u64>,
}

impl Source for Bursts {
    fn name(&self) -> &str {
        "bursts"
    }

    fn set_up<'a>(&'a mut self, _: &'a Subscription, _: Timestamp) -> Answer<'a, Result<SetUp, SourceError>> {
        Box::pin(async { Ok(SetUp { scrape_interval: Some(TICK), ..SetUp::default() }) })
    }

    fn history<'a>(
        &'a mut self,
        _: &'a Subscription,
        _: Timestamp,
        _: Duration,
        _: Duration,
        _: &'a [f64],
    ) -> Answer<'a, Result<History, SourceError>> {
        Box::pin(async { Err(SourceError::Unusable("there is none".to_owned())) })
    }

    fn subscribe(&mut self, wanted: Subscription, _: Vec<f64>) {
        self.keys.push(wanted.key);
    }

    fn unsubscribe(&mut self, key: u64) {
        self.keys.retain(|k| *k != key);
    }

    fn tick<'a>(&'a mut self, at: Timestamp) -> Answer<'a, Vec<SourceSample>> {
        let bad = if at.as_millis() / 100 % 2 == 0 { 12.0 } else { 0.0 };
        let arms = PerArm { baseline: ArmSample::counts(1000.0, bad), canary: ArmSample::counts(1000.0, bad) };
        let sample = |key: &u64| SourceSample { key: *key, arms: arms.clone(), missing: PerArm::default(), detail: String::new() };
        let samples = self.keys.iter().map(sample).collect();
        Box::pin(async { samples })
    }

    fn settle(&self) -> Duration {
        Duration::ZERO
    }
}

fn known() -> Known {
    Known { packs: ["envoy".to_owned()].into(), sources: Default::default(), receivers: Default::default(), without_settings: false }
}

fn rules(text: &str) -> RuleSet {
    let rule: Rule = parse_rule(text, Path::new("shop.yaml"), &known()).expect("a rule");
    let mut set = RuleSet::default();
    set.texts.insert(rule.name.clone(), text.into());
    set.rules.insert(rule.name.clone(), Arc::new(rule));
    set
}

struct Running {
    handle: Handle,
    store: Arc<Sqlite>,
    shutdown: CancellationToken,
    supervisor: JoinHandle<()>,
}

impl Running {
    async fn up(folder: &TempDir, step: &str) -> Self {
        let store = Arc::new(Sqlite::open(folder.path()).expect("a journal"));
        let text = RULE.replace("FOR", step);
        let makers = Makers {
            source: Box::new(|_, _| Ok(Box::<Bursts>::default())),
            router: Box::new(|rule| canaryd::router::open(&rule.traffic, None).map_err(|e| e.to_string())),
            rules: Box::new(move |_| Ok(rules(&text))),
            known: known(),
        };
        let shutdown = CancellationToken::new();
        let setting = Setting { makers, store: store.clone(), metrics: Metrics::new(), scale: 1000.0, shards: 1 };
        let (mut supervisor, handle) = Supervisor::new(setting, shutdown.clone()).expect("threads");
        supervisor.load_rules().expect("rules");
        supervisor.recover().await.expect("journal");
        Self { handle, store, shutdown, supervisor: tokio::spawn(supervisor.run()) }
    }

    async fn down(self) {
        self.shutdown.cancel();
        self.supervisor.await.expect("ended in order");
    }

    async fn start(&self, version: &str) -> canaryd::model::RolloutId {
        let args = StartArgs { version: version.to_owned(), by: "test".to_owned(), retry: false };
        self.handle.start("shop", args).await.expect("started")
    }

    async fn roll_back(&self) {
        let command = Command { verb: Verb::RollBack, by: "test".to_owned(), why: String::new() };
        self.handle.command("shop", command).await.expect("rolled back");
    }

    /// Waits until the rule's newest rollout is as wanted.
    async fn until(&self, what: &str, wanted: impl Fn(&RolloutView) -> bool) -> Arc<RolloutView> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let views = self.handle.views();
            let newest = views.rollouts.values().max_by_key(|v| v.opened).cloned();
            match newest {
                Some(view) if wanted(&view) => return view,
                seen if Instant::now() > deadline => panic!("not within 30 s: {what}; {seen:#?}"),
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    async fn until_kept(&self) -> Kept {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match self.store.kept("shop").await.expect("read") {
                Some(kept) => return kept,
                None if Instant::now() > deadline => panic!("nothing was kept within 10 s"),
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }
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
    let first = Running::up(&folder, "3s").await;
    let one = first.start("1").await;
    let view = first.until("a judgement", |v| v.judgement.is_some()).await;
    assert!(view.warnings.iter().any(|w| w.starts_with("burstiness unknown")), "{:?}", view.warnings);
    first.until("success", |v| v.state == State::Succeeded).await;
    let kept = first.until_kept().await;
    assert_eq!(opening(&first.store.load(&one).await.unwrap()).kept, None);
    first.down().await;

    // after a restart of the daemon, too
    let second = Running::up(&folder, "30s").await;
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
    assert_eq!((rebuilt.differing, rebuilt.lost), (Vec::new(), None));
    second.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_short_a_rollout_teaches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::up(&folder, "300ms").await;
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
    let running = Running::up(&folder, "120s").await;
    let id = running.start("1").await;
    let view = running.until("a few ticks", |v| v.judgement.as_ref().is_some_and(|j| j.t_s > Some(1.0))).await;
    let level = view.judgement.as_ref().unwrap().ln_rollback;
    running.down().await;
    let connection = rusqlite::Connection::open(folder.path().join("journal.db")).unwrap();
    let damage = r#"UPDATE line SET json = 'x' WHERE seq = (SELECT min(seq) + 2 FROM line WHERE json LIKE '{"v":1,"event":{"poll"%')"#;
    assert_eq!(connection.execute(damage, []).unwrap(), 1);
    drop(connection);

    let running = Running::up(&folder, "120s").await;
    let again = running.until("judged again", |v| v.judgement.as_ref().is_some_and(|j| j.ln_rollback > level)).await;
    let halved = again.judgement.as_ref().unwrap();
    assert!((halved.ln_rollback - level - 2f64.ln()).abs() < 1e-12, "half of the level");
    assert!(again.warnings.iter().any(|w| w.contains("evidence began anew") && w.contains("line ")), "{:?}", again.warnings);
    assert_eq!((again.id.clone(), again.decision.step, again.decision.weight.permille()), (id.clone(), 0, 500));
    running.until("in force again", |v| matches!(v.state, State::Progressing { step: 0 }) && v.decision.counts_time).await;
    running.down().await;

    // taken up once more, nothing further is lost, and every decision since comes out again
    let running = Running::up(&folder, "120s").await;
    running.until("judged", |v| v.judgement.is_some()).await;
    let entries = running.store.salvage(&id).await.unwrap();
    let restarts: Vec<u32> =
        entries.iter().filter_map(|e| if let Event::Restarted { incarnation, .. } = e.event { Some(incarnation) } else { None }).collect();
    assert_eq!(restarts, [1]);
    let rebuilt = replay::rebuild(&entries, &known(), canaryd::runtime::now()).unwrap();
    assert_eq!((rebuilt.lost, rebuilt.differing), (None, Vec::new()));
    running.down().await;

    // a second gap halves again; a journal without its opening is left alone
    let store = Sqlite::open(folder.path()).unwrap();
    store.append(&id, canaryd::runtime::now(), vec![Event::Gap("3 polls were not kept".to_owned())]).await.unwrap();
    let entries = store.salvage(&id).await.unwrap();
    let rebuilt = replay::rebuild(&entries, &known(), canaryd::runtime::now()).unwrap();
    assert_eq!(rebuilt.lost.as_ref().map(|l| (l.incarnation, l.why.as_str())), Some((2, "3 polls were not kept")));
    assert!(replay::rebuild(&entries[1..], &known(), canaryd::runtime::now()).is_err());
}
