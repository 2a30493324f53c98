//! The whole product against the real world: two versions behind a real Envoy, scraped by a real Prometheus, under load,
//! judged and moved by the real binary. Few and slow (each pays the 5 s until Prometheus scrapes); logic is tested below.

// scenarios to come use what today's do not
#![allow(dead_code)]

use crate::rig::daemon::{self, Daemon};
use crate::rig::envoy::{self, Envoy};
use crate::rig::load::{self, Load};
use crate::rig::poll;
use crate::rig::prometheus::{Job, Prometheus};
use crate::rig::service::{Behaviour, Service};
use serde_json::{Value, json};
use std::time::Duration;
use tempfile::TempDir;

/// Longest one scenario may take; the load ends by itself then.
const SCENARIO_MAX: Duration = Duration::from_secs(180);
const RULE: &str = "shop";

/// What a scenario may choose.
#[derive(Clone, Copy, Debug)]
struct Scene {
    /// Requests per second of all users together.
    rate_per_s: u32,
    /// After this a user leaves.
    patience: Duration,
    /// The rule's steps, as a YAML flow list.
    steps: &'static str,
    /// Further lines of the rule.
    more: &'static str,
    /// How much faster the method's clock runs.
    time_scale: u32,
    /// The users come in by the listener that does not follow the daemon's route file.
    deaf: bool,
}

impl Default for Scene {
    fn default() -> Self {
        Self {
            rate_per_s: 100,
            patience: Duration::from_millis(500),
            steps: "[ { weight: 10%, for: 10s }, { weight: 50%, for: 10s }, { weight: 100%, bake: 5s } ]",
            more: "",
            time_scale: 30,
            deaf: false,
        }
    }
}

/// Everything a rollout needs, standing. Fields are dropped in this order: who asks goes before who answers.
struct Stage {
    daemon: Daemon,
    load: Load,
    prometheus: Prometheus,
    envoy: Envoy,
    stable: Service,
    canary: Service,
    _folder: TempDir,
}

impl Stage {
    /// Stands it all up and waits until the stable version's requests are seen in Prometheus; `None` if skipped.
    fn up(scene: Scene) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let (stable, canary) = (Service::start("v1"), Service::start("v2"));
        let settings = envoy::Settings { deaf_listener: scene.deaf, ..envoy::Settings::new(stable.port, canary.port) };
        let envoy = Envoy::start(&folder.path().join("envoy"), settings)?;
        let jobs = [
            Job::new("envoy", envoy.admin, "/stats/prometheus", &[]),
            Job::new("v1", stable.port, "/metrics", &[]),
            Job::new("v2", canary.port, "/metrics", &[]),
        ];
        let prometheus = Prometheus::start(&folder.path().join("prometheus"), &jobs)?;
        let port = envoy.deaf.unwrap_or(envoy.listener);
        let load = Load::start(load::Settings { port, rate_per_s: scene.rate_per_s, timeout: scene.patience, lasts: SCENARIO_MAX });
        await_scrapes(&prometheus);
        let rule = rule(&scene, &envoy);
        let told = daemon::Settings { source: prometheus.url(), time_scale: scene.time_scale, rule };
        let daemon = Daemon::start(&folder.path().join("canaryd"), &told);
        Some(Self { daemon, load, prometheus, envoy, stable, canary, _folder: folder })
    }

    /// Starts a rollout and gives its name.
    fn start(&self, version: &str) -> String {
        let answer = self.daemon.post(&format!("/api/v1/rules/{RULE}/start"), &json!({ "version": version }));
        answer["id"].as_str().unwrap_or_else(|| panic!("no id in {answer}")).to_owned()
    }

    /// The rollout as the API shows it.
    fn view(&self, id: &str) -> Value {
        self.daemon.get(&format!("/api/v1/rollouts/{id}"))
    }

    /// A person's verb: pause, resume, advance, promote, rollback.
    fn say(&self, id: &str, verb: &str) -> Value {
        self.daemon.post(&format!("/api/v1/rollouts/{id}/{verb}"), &json!({ "reason": "a test" }))
    }

    /// Waits until the view is as wanted, and gives it.
    ///
    /// # Panics
    /// If it is not within `max`; the last view is in the message, the daemon's log follows.
    fn wait_for(&self, id: &str, max: Duration, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let seen = poll(max, || Some(self.view(id)).filter(|view| wanted(view)));
        seen.unwrap_or_else(|| panic!("not within {max:?}: {what}; load {:?}; the rollout: {:#}", self.load.counts(), self.view(id)))
    }

    /// Answers of the canary to users within the time `act` takes.
    fn canary_answers_while(&self, act: impl FnOnce()) -> u64 {
        let count = || self.load.counts().by_version.get("v2").copied().unwrap_or(0);
        let before = count();
        act();
        count() - before
    }
}

fn await_scrapes(prometheus: &Prometheus) {
    let query = r#"rate(envoy_cluster_upstream_rq_completed{envoy_cluster_name="v1"}[5s]) > 0"#;
    let seen = poll(Duration::from_secs(30), || prometheus.value(query));
    assert!(seen.is_some(), "Prometheus does not see the stable version's requests");
}

fn rule(scene: &Scene, envoy: &Envoy) -> String {
    format!(
        "rule: {RULE}\n\
         workloads: {{ pair: [ {{ cluster: v1 }}, {{ cluster: v2 }} ] }}\n\
         telemetry: [ envoy ]\n\
         interval: 1s\n\
         traffic: {{ envoy: {{ admin: 'http://127.0.0.1:{}', route-file: {{ path: '{}', stat-prefix: edge, route: shop }} }} }}\n\
         steps: {}\n\
         promotion: swap\n\
         metrics:\n  error-rate: {{ tolerate: {{ relative: 20%, absolute: 0.5% }}, rollback-above: 5% }}\n  \
         latency-p95: {{ tolerate: {{ relative: 30% }} }}\n{}\n",
        envoy.admin,
        envoy.route_file().display(),
        scene.steps,
        scene.more
    )
}

fn in_state(state: &'static str) -> impl Fn(&Value) -> bool {
    move |view| view["state"] == state
}

#[test]
fn a_healthy_canary_gets_all_the_traffic() {
    let Some(stage) = Stage::up(Scene::default()) else { return };
    let id = stage.start("2.0.0");
    stage.wait_for(&id, Duration::from_secs(90), "the rollout succeeds", in_state("succeeded"));
    assert_eq!(stage.load.counts().by_status.keys().copied().collect::<Vec<_>>(), [200], "no user saw an error");
    let errors = stage.prometheus.value(r#"sum(envoy_cluster_upstream_rq{envoy_response_code=~"5.."}) or vector(0)"#);
    assert_eq!(errors, Some(0.0));
}

#[test]
fn a_failing_canary_is_rolled_back_and_gets_nothing_more() {
    let Some(stage) = Stage::up(Scene::default()) else { return };
    stage.canary.behave(Behaviour { errors: 0.5, ..Behaviour::default() });
    let id = stage.start("2.0.1");
    stage.wait_for(&id, Duration::from_secs(60), "the rollout is rolled back", in_state("rolled-back"));
    let answered_before = stage.load.counts().answered();
    let got = stage.canary_answers_while(|| {
        let enough = || (stage.load.counts().answered() >= answered_before + 200).then_some(());
        assert!(poll(Duration::from_secs(10), enough).is_some(), "the users are still served");
    });
    assert_eq!(got, 0, "requests of the canary after its rollback");
}
