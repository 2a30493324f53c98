//! Receivers against a real Alertmanager and a Grafana that checks as Grafana does.

use crate::rig::alertmanager::{self as am, Alertmanager};
use crate::rig::grafana::{self, Grafana};
use crate::rig::late::Timed;
use crate::rig::poll;
use canaryd::config::{Known, parse_rule};
use canaryd::model::{Level, Notice, Phase, RolloutId, Rule, Side, Timestamp, Topic, Weight};
use canaryd::notify::{self, Auth, Endpoint, Notices, Switchboard, Told};
use canaryd::telemetry::Metrics;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const PATIENT: Duration = Duration::from_secs(60);

const RULE: &str = "\
rule: shop
workloads: { pair: [ { namespace: web, deployment: shop-v1, cluster: v1 }, { namespace: web, deployment: shop-v2, cluster: v2 } ] }
telemetry: [ envoy ]
traffic: none
steps: [ { weight: 10%, for: 60s }, { weight: 50%, for: 60s }, { weight: 100%, bake: 60s } ]
notify: [ ops, graphs ]
metrics:
  error-rate: { rollback-above: 5% }
";

fn rule() -> Arc<Rule> {
    let names = |all: &[&str]| all.iter().map(|n| (*n).to_owned()).collect();
    let known = Known { packs: names(&["envoy"]), receivers: names(&["ops", "graphs"]), ..Known::default() };
    Arc::new(parse_rule(RULE, Path::new("shop.yaml"), &known).expect("a rule"))
}

/// Notices of one rollout after the other.
struct Teller {
    rule: Arc<Rule>,
    notices: Notices,
    metrics: Metrics,
    task: tokio::task::JoinHandle<()>,
}

impl Teller {
    fn new(receivers: Vec<(&str, Box<dyn notify::Receiver>)>) -> Self {
        canaryd::tls::install();
        let metrics = Metrics::new();
        let (notices, queue) = Notices::channel(metrics.clone());
        let mut switchboard = Switchboard::new(metrics.clone());
        receivers.into_iter().for_each(|(name, receiver)| switchboard.join(name, receiver));
        Self { rule: rule(), notices, metrics, task: tokio::spawn(switchboard.run(queue)) }
    }

    fn tell(&self, rollout: &str, at: Timestamp, state: &'static str, permille: u16, notice: Notice) {
        self.notices.tell(self.told(rollout, at, state, permille, notice));
    }

    fn told(&self, rollout: &str, at: Timestamp, state: &'static str, permille: u16, notice: Notice) -> Told {
        Told {
            rule: Arc::clone(&self.rule),
            rollout: RolloutId(rollout.to_owned()),
            version: "1.4.2".to_owned(),
            canary: Side::Second,
            at,
            notice,
            weight: Weight::from_permille(permille).expect("a weight"),
            state,
            again: false,
        }
    }

    /// The daemon stops: every receiver has its last words.
    async fn end(self) {
        drop(self.notices);
        self.task.await.expect("ends in order");
    }
}

fn notice(level: Level, topic: Topic, phase: Phase) -> Notice {
    Notice { level, topic, phase, text: "the canary's \"error rate\" is 7 %, \u{2265} 5 %".to_owned() }
}

fn endpoint(url: String, auth: Auth) -> Endpoint {
    Endpoint { url, timeout: Duration::from_secs(2), auth, ca_file: None }
}

fn alerts_to(url: String) -> Box<dyn notify::Receiver> {
    let style = notify::alertmanager::Style {
        labels: BTreeMap::from([("team".to_owned(), "payments".to_owned())]),
        level: Level::Warning,
        external_url: "https://canaryd.example.com".to_owned(),
    };
    Box::new(notify::Alertmanager::new(endpoint(url, Auth::None), style).expect("a receiver"))
}

fn now() -> Timestamp {
    canaryd::runtime::now()
}

fn named<'a>(alerts: &'a [Value], name: &str) -> Option<&'a Value> {
    alerts.iter().find(|a| a["labels"]["alertname"] == name)
}

/// Waits without holding the runtime's thread.
async fn until<T>(look: impl FnMut() -> Option<T> + Send + 'static) -> Option<T>
where
    T: Send + 'static,
{
    tokio::task::spawn_blocking(move || poll(PATIENT, look)).await.expect("looks")
}

fn ops(folder: &TempDir) -> Option<Arc<Alertmanager>> {
    Alertmanager::start(folder.path(), &am::Webhook::default()).map(Arc::new)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fires_appears_with_its_labels_and_resolves_with_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(real) = ops(&folder) else { return };
    let teller = Teller::new(vec![("ops", alerts_to(real.url()))]);
    let limit = Topic::Limit { metric: "error-rate".to_owned(), limit: "warn-above".to_owned(), arm: canaryd::model::Arm::Canary };
    teller.tell("shop-3", now(), "progressing", 100, notice(Level::Info, Topic::Progress, Phase::Event));
    teller.tell("shop-3", now(), "paused", 100, notice(Level::Page, Topic::Paused, Phase::Firing));
    teller.tell("shop-3", now(), "paused", 100, notice(Level::Warning, limit.clone(), Phase::Firing));
    let look = Arc::clone(&real);
    let alerts = until(move || Some(look.alerts()).filter(|all| all.len() == 2)).await.expect("two alerts, and no progress");
    let paused = named(&alerts, "CanaryPaused").expect("paused");
    for (label, value) in [
        ("rule", "shop"),
        ("rollout", "shop-3"),
        ("namespace", "web"),
        ("workload", "shop-v2"),
        ("baseline", "shop-v1"),
        ("severity", "critical"),
        ("generator", "canaryd"),
        ("team", "payments"),
    ] {
        assert_eq!(paused["labels"][label], value, "{paused:#}");
    }
    assert_eq!(paused["annotations"]["link"], "https://canaryd.example.com/api/v1/rollouts/shop-3");
    assert!(paused["annotations"]["description"].as_str().is_some_and(|d| d.contains("\u{2265} 5 %")), "{paused:#}");
    let warned = named(&alerts, "CanaryLimit").expect("limit");
    assert_eq!((&warned["labels"]["canaryd_arm"], &warned["labels"]["severity"]), (&"canary".into(), &"warning".into()));
    // four minutes ahead: it would resolve by itself if the daemon died
    let ends: jiff::Timestamp = paused["endsAt"].as_str().expect("an end").parse().expect("a time");
    let ahead = ends.as_millisecond() - now().as_millis();
    assert!((180_000..=240_000).contains(&ahead), "{ahead} ms");

    teller.tell("shop-3", now(), "progressing", 100, notice(Level::Info, Topic::Paused, Phase::Resolved));
    teller.tell("shop-3", now(), "progressing", 100, notice(Level::Info, limit, Phase::Resolved));
    let look = Arc::clone(&real);
    assert!(until(move || look.alerts().is_empty().then_some(())).await.is_some(), "{:#?}", real.alerts());
    assert!(teller.metrics.text().contains(r#"canaryd_receiver_calls_total{receiver="ops",outcome="ok",reason=""}"#));
    teller.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_fires_until_the_rules_next_rollout_and_all_else_ends_with_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(real) = ops(&folder) else { return };
    let teller = Teller::new(vec![("ops", alerts_to(real.url()))]);
    teller.tell("shop-3", now(), "progressing", 100, notice(Level::Warning, Topic::Shared, Phase::Firing));
    // louder is another alert: the first is resolved, not left behind
    teller.tell("shop-3", now(), "progressing", 100, notice(Level::Page, Topic::Shared, Phase::Firing));
    teller.tell("shop-3", now(), "progressing", 100, notice(Level::Warning, Topic::Foreign, Phase::Event));
    let look = Arc::clone(&real);
    let shared = |all: &[Value]| all.iter().filter(|a| a["labels"]["alertname"] == "CanarySharedIncident").cloned().collect::<Vec<_>>();
    let loud = until(move || {
        let all = shared(&look.alerts());
        (all.len() == 1 && all[0]["labels"]["severity"] == "critical").then_some(())
    });
    assert!(loud.await.is_some(), "{:#?}", real.alerts());
    teller.tell("shop-3", now(), "rolling-back", 0, notice(Level::Warning, Topic::RolledBack, Phase::Firing));
    teller.tell("shop-3", now(), "rolled-back", 0, notice(Level::Info, Topic::Progress, Phase::Event));
    let look = Arc::clone(&real);
    let over = until(move || {
        let all = look.alerts();
        (named(&all, "CanaryRolledBack").is_some() && named(&all, "CanarySharedIncident").is_none()).then_some(())
    });
    assert!(over.await.is_some(), "{:#?}", real.alerts());
    assert!(named(&real.alerts(), "CanaryForeignWeight").is_some(), "an event has a life of its own");
    teller.tell("shop-4", now(), "progressing", 100, notice(Level::Info, Topic::Progress, Phase::Event));
    let look = Arc::clone(&real);
    assert!(until(move || named(&look.alerts(), "CanaryRolledBack").is_none().then_some(())).await.is_some(), "{:#?}", real.alerts());
    teller.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_down_delays_no_other_and_is_told_when_it_is_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let (Some(mut down), Some(up)) = (
        Alertmanager::start(&folder.path().join("a"), &am::Webhook::default()),
        Alertmanager::start(&folder.path().join("b"), &am::Webhook::default()),
    ) else {
        return;
    };
    down.kill();
    let teller = Teller::new(vec![("ops", alerts_to(down.url())), ("ops", alerts_to(up.url()))]);
    let timed = Timed::begin();
    teller.tell("shop-3", now(), "stuck", 100, notice(Level::Page, Topic::Stuck, Phase::Firing));
    let (took, late) = timed.end();
    assert!(took < Duration::from_secs(1), "telling waits for nobody: {took:?}, {late:?} late");
    let up = Arc::new(up);
    let look = Arc::clone(&up);
    assert!(until(move || (look.alerts().len() == 1).then_some(())).await.is_some(), "the other replica is told");
    let failed = r#"canaryd_receiver_calls_total{receiver="ops",outcome="failed",reason="unreachable"}"#;
    let metrics = teller.metrics.clone();
    assert!(until(move || metrics.text().contains(failed).then_some(())).await.is_some(), "{}", teller.metrics.text());
    down.restart();
    let down = Arc::new(down);
    assert!(until(move || (down.alerts().len() == 1).then_some(())).await.is_some(), "the first replica is told when it is back");
    teller.end().await;
}

/// A folder with a token file, and a receiver that uses it.
fn graphs_to(double: &Grafana, folder: &TempDir, token: &str, dashboard: Option<&str>) -> Box<dyn notify::Receiver> {
    let file = folder.path().join("grafana-token");
    std::fs::write(&file, format!("{token}\n")).expect("the token can be written");
    let style = notify::grafana::Style {
        dashboard: dashboard.map(str::to_owned),
        tags: vec!["production".to_owned()],
        external_url: "https://canaryd.example.com".to_owned(),
    };
    Box::new(notify::Grafana::new(endpoint(double.url.clone(), Auth::BearerFile(file)), style).expect("a receiver"))
}

fn progress() -> Notice {
    notice(Level::Info, Topic::Progress, Phase::Event)
}

fn ms(at: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + at)
}

/// Begin and end of every annotation, with its kind, in order of the ids.
fn shown(double: &Grafana) -> Vec<(String, i64, i64)> {
    let kind = |a: &Value| {
        let tags = a["tags"].as_array().expect("tags");
        assert!(
            tags.iter().any(|t| t == "canaryd") && tags.iter().any(|t| t == "rule:shop") && tags.iter().any(|t| t == "production"),
            "{a:#}"
        );
        let kind = tags.iter().filter_map(Value::as_str).find_map(|t| t.strip_prefix("canaryd:"));
        kind.expect("a kind").to_owned()
    };
    let at = |v: &Value| v.as_i64().expect("a time") - ms(0).as_millis();
    double.annotations().iter().map(|a| (kind(a), at(&a["time"]), at(&a["timeEnd"]))).collect()
}

async fn shows(double: &Grafana, wanted: &[(&str, i64, i64)]) {
    let wanted: Vec<(String, i64, i64)> = wanted.iter().map(|(k, a, b)| ((*k).to_owned(), *a, *b)).collect();
    let (look, want) = (double.clone(), wanted.clone());
    let seen = until(move || (shown(&look) == want).then_some(())).await;
    assert!(seen.is_some(), "{:?} instead of {wanted:?}; {:?}", shown(double), double.calls());
}

#[tokio::test(flavor = "multi_thread")]
async fn grafana_shows_a_region_for_each_step_and_the_outcome() {
    let folder = tempfile::tempdir().expect("a folder");
    let double = Grafana::start().await;
    let teller = Teller::new(vec![("graphs", graphs_to(&double, &folder, grafana::TOKEN, Some(grafana::DASHBOARD)))]);
    teller.tell("shop-3", ms(0), "waiting", 0, progress());
    teller.tell("shop-3", ms(1000), "progressing", 100, progress());
    shows(&double, &[("step-10%", 1000, 1000)]).await;
    // a warning within a step is no step
    teller.tell("shop-3", ms(2000), "progressing", 100, notice(Level::Warning, Topic::Shared, Phase::Firing));
    teller.tell("shop-3", ms(3000), "progressing", 500, progress());
    shows(&double, &[("step-10%", 1000, 3000), ("step-50%", 3000, 3000)]).await;
    teller.tell("shop-3", ms(5000), "rolling-back", 0, notice(Level::Warning, Topic::RolledBack, Phase::Firing));
    teller.tell("shop-3", ms(6000), "rolled-back", 0, progress());
    shows(&double, &[("step-10%", 1000, 3000), ("step-50%", 3000, 5000), ("outcome", 6000, 6000)]).await;
    let text = double.annotations()[1]["text"].as_str().expect("a text").to_owned();
    assert!(text.starts_with("shop-3 (1.4.2): canary shop-v2 at 50%") && text.contains("https://canaryd.example.com/"), "{text}");
    teller.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_twice_after_a_lost_answer_a_deletion_or_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let double = Grafana::start().await;
    let teller = Teller::new(vec![("graphs", graphs_to(&double, &folder, grafana::TOKEN, None))]);
    teller.tell("shop-3", ms(1000), "progressing", 100, progress());
    shows(&double, &[("step-10%", 1000, 1000)]).await;
    // somebody deletes it: it is written anew, whole, when it ends
    double.delete(1);
    teller.tell("shop-3", ms(3000), "progressing", 500, progress());
    shows(&double, &[("step-10%", 1000, 3000), ("step-50%", 3000, 3000)]).await;
    teller.end().await;
    // the next process knows no ids: what is open there is taken up, and ends when the next step begins
    let teller = Teller::new(vec![("graphs", graphs_to(&double, &folder, grafana::TOKEN, None))]);
    // the first look fails: nothing is written before it was seen what is there
    double.fail_next(503, false);
    teller.tell("shop-3", ms(9000), "baking", 1000, progress());
    shows(&double, &[("step-10%", 1000, 3000), ("step-50%", 3000, 9000), ("baking", 9000, 9000)]).await;
    teller.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_grafana_refuses_is_said_with_the_way_out_and_without_the_token() {
    for (token, dashboard, status, wanted) in [
        ("glsa_unknown", None, 401, "Invalid API key"),
        (grafana::VIEWER, None, 403, "needs the right annotations:create"),
        (grafana::TOKEN, Some("nowhere"), 500, "is there a dashboard of this uid?"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let double = Grafana::start().await;
        canaryd::tls::install();
        let teller = Teller::new(Vec::new());
        let mut graphs = graphs_to(&double, &folder, token, dashboard);
        graphs.take(&teller.told("shop-3", ms(1000), "progressing", 100, progress()), now());
        let fault = graphs.deliver(now()).await.expect_err("refused");
        assert!(fault.text.contains(&status.to_string()) && fault.text.contains(wanted), "{fault}");
        assert!(!fault.text.contains(token) && fault.again && graphs.due().is_some(), "{fault:?}");
    }
}
