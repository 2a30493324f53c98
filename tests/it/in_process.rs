//! The daemon's runtime in this process, with a scripted source and a journal on a real disk. Ticks of 100 ms, the method a
//! thousand times faster.

use canaryd::cluster::Cluster;
use canaryd::config::{Known, RuleSet, parse_rule};
use canaryd::model::journal::Kept;
use canaryd::model::{ArmSample, Command, History, Notice, PerArm, RolloutId, Rule, Timestamp, Verb};
use canaryd::notify::{Notices, Told};
use canaryd::router::Means;
use canaryd::runtime::{Handle, Hooks, Makers, Refusal, RolloutView, Setting, StartArgs, Supervisor};
use canaryd::source::{Answer, SetUp, Source, SourceError, SourceSample, Subscription};
use canaryd::store::{Sqlite, Store};
use canaryd::telemetry::Metrics;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const TICK: Duration = Duration::from_millis(100);
/// Longest until somebody is told; a machine that builds meanwhile is slow.
const TOLD_MAX: Duration = Duration::from_secs(120);

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
        let sample =
            |key: &u64| SourceSample { key: *key, arms: arms.clone(), missing: PerArm::default(), detail: String::new(), orphans: 0.0 };
        let samples = self.keys.iter().map(sample).collect();
        Box::pin(async { samples })
    }

    fn settle(&self) -> Duration {
        Duration::ZERO
    }
}

/// What its rules may name.
pub(crate) fn known() -> Known {
    Known { packs: ["envoy".to_owned()].into(), cluster: true, ..Known::default() }
}

/// The rule, and its twin `cart`; in a cluster without it, where both would be started by the same release.
fn rules(text: &str, known: &Known) -> RuleSet {
    let mut set = RuleSet::default();
    let twin = (!known.cluster).then(|| text.replacen("rule: shop", "rule: cart", 1));
    for text in std::iter::once(text.to_owned()).chain(twin) {
        let rule: Rule = parse_rule(&text, Path::new("shop.yaml"), known).expect("a rule");
        assert!(rule.not_run.is_empty(), "{:?}", rule.not_run);
        set.texts.insert(rule.name.clone(), text.into());
        set.rules.insert(rule.name.clone(), Arc::new(rule));
    }
    set
}

/// A runtime that follows one rule, called `shop`, and its twin.
pub(crate) struct Running {
    pub(crate) handle: Handle,
    pub(crate) store: Arc<Sqlite>,
    pub(crate) metrics: Metrics,
    /// What the receivers would be told.
    pub(crate) told: mpsc::Receiver<Told>,
    shutdown: CancellationToken,
    supervisor: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn up(folder: &TempDir, rule: &str) -> Self {
        Self::up_with(folder, rule, Means::default()).await
    }

    /// The same with what its routers reach the outside by.
    pub(crate) async fn up_with(folder: &TempDir, rule: &str, means: Means) -> Self {
        Self::up_on(folder, rule, means, |store| store).await
    }

    /// The same with the journal as the runtime is to see it.
    pub(crate) async fn up_on(folder: &TempDir, rule: &str, means: Means, seen: impl FnOnce(Arc<Sqlite>) -> Arc<dyn Store>) -> Self {
        let store = Arc::new(Sqlite::open(folder.path()).expect("a journal"));
        let shutdown = CancellationToken::new();
        let metrics = Metrics::new();
        let text = rule.to_owned();
        let known = Known { cluster: means.cluster.is_some(), ..known() };
        let cluster = means.cluster.clone().map(|client| Cluster::new(client, metrics.clone(), shutdown.clone()));
        let rules_may = known.clone();
        let makers = Makers {
            source: Box::new(|_, _| Ok(Box::<Bursts>::default())),
            router: Box::new(move |rule| canaryd::router::open(&rule.traffic, &means).map_err(|e| e.to_string())),
            rules: Box::new(move |_| Ok(rules(&text, &rules_may))),
            known,
        };
        let hooks = Hooks::new("http://127.0.0.1:7878", metrics.clone()).expect("an HTTP client");
        let (notices, told) = Notices::channel(metrics.clone());
        let alerts_expire = Duration::from_secs(3600);
        let setting = Setting {
            makers,
            store: seen(Arc::clone(&store)),
            metrics: metrics.clone(),
            scale: 1000.0,
            shards: 2,
            notices,
            hooks,
            alerts_expire,
            cluster,
        };
        let (mut supervisor, handle) = Supervisor::new(setting, shutdown.clone()).expect("threads");
        supervisor.load_rules(true).await.expect("rules");
        supervisor.recover().await.expect("journal");
        Self { handle, store, metrics, told, shutdown, supervisor: tokio::spawn(supervisor.run()) }
    }

    pub(crate) async fn down(self) {
        self.shutdown.cancel();
        self.supervisor.await.expect("ended in order");
    }

    pub(crate) async fn start(&self, version: &str) -> RolloutId {
        self.start_of("shop", version).await
    }

    pub(crate) async fn start_of(&self, rule: &str, version: &str) -> RolloutId {
        let args = StartArgs { version: version.to_owned(), by: "test".to_owned(), retry: false };
        self.handle.start(rule, args).await.expect("started")
    }

    /// A person's word.
    pub(crate) async fn say(&self, verb: Verb, by: &str) -> Result<Arc<RolloutView>, Refusal> {
        self.handle.command("shop", Command { verb, by: by.to_owned(), why: String::new() }).await
    }

    pub(crate) async fn roll_back(&self) {
        self.say(Verb::RollBack, "test").await.expect("rolled back");
    }

    /// Waits until the rule's newest rollout is as wanted.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&RolloutView) -> bool) -> Arc<RolloutView> {
        let deadline = Instant::now() + Duration::from_secs(90);
        loop {
            let views = self.handle.views();
            let newest = views.rollouts.values().max_by_key(|v| v.opened).cloned();
            match newest {
                Some(view) if wanted(&view) => return view,
                seen if Instant::now() > deadline => panic!("not within 90 s: {what}; {seen:#?}"),
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// Waits until somebody is told what is wanted.
    ///
    /// # Panics
    /// If nobody is in time; what was told instead is in the message.
    pub(crate) async fn until_told(&mut self, what: &str, wanted: impl Fn(&Notice) -> bool) -> Notice {
        let mut heard = Vec::new();
        let told = async {
            loop {
                let notice = self.told.recv().await.expect("it runs").notice;
                if wanted(&notice) {
                    return notice;
                }
                heard.push(notice.text);
            }
        };
        let told = tokio::time::timeout(TOLD_MAX, told).await;
        told.unwrap_or_else(|_| panic!("nobody is told {what:?} within {TOLD_MAX:?}, but {heard:#?}; {:#?}", self.handle.views().rules))
    }

    pub(crate) async fn until_kept(&self) -> Kept {
        let deadline = Instant::now() + Duration::from_secs(90);
        loop {
            match self.store.kept("shop").await.expect("read") {
                Some(kept) => return kept,
                None if Instant::now() > deadline => panic!("nothing was kept within 90 s"),
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }
}
