//! What every scenario stands on: the components of one rollout, and what a scenario asks of them.

use crate::rig::daemon::{self, Daemon};
use crate::rig::envoy::{self, Envoy};
use crate::rig::load::{self, Load};
use crate::rig::poll;
use crate::rig::prometheus::{Job, Prometheus};
use crate::rig::service::{Behaviour, Service};
use parking_lot::{Condvar, Mutex};
use serde_json::{Value, json};
use std::time::Duration;
use tempfile::TempDir;

/// Longest one scenario may take; the load ends by itself then.
const SCENARIO_MAX: Duration = Duration::from_secs(180);
/// Stages that stand at a time: more would compete for the machine, and a starved Envoy looks like a bad release.
const STAGES_MAX: usize = 3;
/// Name of the one rule.
pub(super) const RULE: &str = "shop";

/// What a scenario may choose.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene {
    /// Requests per second of all users together.
    pub(super) rate_per_s: u32,
    /// After this a user leaves.
    pub(super) patience: Duration,
    /// How long Prometheus waits between two scrapes.
    pub(super) scrape: Duration,
    /// Length of a tick, as the rule asks for it.
    pub(super) interval: &'static str,
    /// The rule's steps, as a YAML flow list.
    pub(super) steps: &'static str,
    /// Further lines of the rule.
    pub(super) more: &'static str,
    /// How much faster the method's clock runs.
    pub(super) time_scale: u32,
    /// The users come in by the listener that does not follow the daemon's route file.
    pub(super) deaf: bool,
}

impl Default for Scene {
    fn default() -> Self {
        Self {
            rate_per_s: 100,
            patience: Duration::from_millis(500),
            scrape: Duration::from_secs(1),
            interval: "1s",
            steps: "[ { weight: 10%, for: 6s }, { weight: 50%, for: 6s }, { weight: 100%, bake: 5s } ]",
            more: "",
            time_scale: 30,
            deaf: false,
        }
    }
}

/// Everything a rollout needs, standing. Fields are dropped in this order: who asks goes before who answers.
pub(super) struct Stage {
    pub(super) daemon: Daemon,
    pub(super) load: Load,
    pub(super) prometheus: Prometheus,
    pub(super) envoy: Envoy,
    pub(super) first: Service,
    pub(super) second: Service,
    _folder: TempDir,
    _room: Room,
}

impl Stage {
    /// Stands it all up and waits until the first version's requests are seen in Prometheus; `None` if skipped.
    pub(super) fn up(scene: Scene) -> Option<Self> {
        let room = Room::take();
        let folder = tempfile::tempdir().expect("a folder");
        let (first, second) = (Service::start("v1"), Service::start("v2"));
        let settings = envoy::Settings { deaf_listener: scene.deaf, ..envoy::Settings::new(first.port, second.port) };
        let envoy = Envoy::start(&folder.path().join("envoy"), settings)?;
        let jobs = [Job::new("envoy", envoy.admin, "/stats/prometheus", &[])];
        let prometheus = Prometheus::start_every(&folder.path().join("prometheus"), scene.scrape, &jobs)?;
        let port = envoy.deaf.unwrap_or(envoy.listener);
        let load = Load::start(load::Settings { port, rate_per_s: scene.rate_per_s, timeout: scene.patience, lasts: SCENARIO_MAX });
        await_scrapes(&prometheus);
        let told = daemon::Settings { source: prometheus.url(), time_scale: scene.time_scale, rule: rule(&scene, &envoy) };
        let daemon = Daemon::start(&folder.path().join("canaryd"), &told);
        Some(Self { daemon, load, prometheus, envoy, first, second, _folder: folder, _room: room })
    }

    /// Starts a rollout and gives its name.
    pub(super) fn start(&self, version: &str) -> String {
        let answer = self.daemon.post(&format!("/api/v1/rules/{RULE}/start"), &json!({ "version": version }));
        answer["rollout"].as_str().unwrap_or_else(|| panic!("no rollout in {answer}")).to_owned()
    }

    /// The rollout as the API shows it.
    pub(super) fn view(&self, id: &str) -> Value {
        self.daemon.get(&format!("/api/v1/rollouts/{id}"))
    }

    /// Waits until the view is as wanted, and gives it.
    ///
    /// # Panics
    /// If it is not within `max`; the last view is in the message, the daemon's log follows.
    pub(super) fn wait_for(&self, id: &str, max: Duration, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let seen = poll(max, || Some(self.view(id)).filter(|view| wanted(view)));
        seen.unwrap_or_else(|| panic!("not within {max:?}: {what}; load {:?}; the rollout: {:#}", self.load.counts(), self.view(id)))
    }

    /// The same, and every decision to move the weight on the way must be one of `allowed`.
    pub(super) fn wait_for_end(&self, id: &str, max: Duration, state: &str) -> Value {
        self.wait_for(id, max, &format!("it is over and {state}"), |view| {
            assert!(view["over"] == false || view["state"] == state, "it ended otherwise: {view:#}");
            view["state"] == state
        })
    }

    /// Answers of this version to users so far.
    pub(super) fn answers_of(&self, version: &str) -> u64 {
        self.load.counts().by_version.get(version).copied().unwrap_or(0)
    }

    /// Share of the answers that came from the second version while users got `answers` of them.
    pub(super) fn share_of_second(&self, answers: u64) -> f64 {
        let count = || (self.answers_of("v1"), self.answers_of("v2"));
        let before = count();
        let both = poll(SCENARIO_MAX, || {
            let now = count();
            let (first, second) = (now.0 - before.0, now.1 - before.1);
            (first + second >= answers).then_some((first, second))
        });
        let (first, second) = both.unwrap_or_else(|| panic!("the users are not served: {:?}", self.load.counts()));
        second as f64 / (first + second) as f64
    }

    /// Weights decided on, in order, from the journal: permille after each decision that moved it.
    pub(super) fn journal(&self, id: &str) -> Vec<Value> {
        let journal = self.daemon.get(&format!("/api/v1/rollouts/{id}/journal"));
        journal["entries"].as_array().unwrap_or_else(|| panic!("no entries in {journal}")).clone()
    }

    /// Actions in the journal other than `hold`, in order.
    pub(super) fn actions(&self, id: &str) -> Vec<String> {
        let actions = self.journal(id);
        let actions = actions.iter().filter_map(|entry| entry["action"].as_str()).filter(|action| *action != "hold");
        actions.map(str::to_owned).collect()
    }

    /// The canary's share by Envoy's route file, permille of the second cluster.
    pub(super) fn routed(&self) -> u64 {
        let text = std::fs::read_to_string(self.envoy.route_file()).expect("the route file can be read");
        second_weight(&serde_json::from_str(&text).expect("the route file is JSON"))
    }
}

/// Weight of the second cluster in a route file.
fn second_weight(file: &Value) -> u64 {
    let clusters = file.pointer("/resources/0/virtual_hosts/0/routes/0/route/weighted_clusters/clusters");
    let second = clusters.and_then(Value::as_array).and_then(|all| all.iter().find(|c| c["name"] == "v2"));
    second.and_then(|c| c["weight"].as_u64()).unwrap_or_else(|| panic!("no weight of v2 in {file:#}"))
}

fn await_scrapes(prometheus: &Prometheus) {
    let query = r#"increase(envoy_cluster_upstream_rq_completed{envoy_cluster_name="v1"}[6s]) > 0"#;
    let seen = poll(Duration::from_secs(30), || prometheus.value(query));
    assert!(seen.is_some(), "Prometheus does not see the first version's requests");
}

fn rule(scene: &Scene, envoy: &Envoy) -> String {
    format!(
        "rule: {RULE}\n\
         workloads: {{ pair: [ {{ cluster: v1 }}, {{ cluster: v2 }} ] }}\n\
         telemetry: [ envoy ]\n\
         interval: {}\n\
         traffic: {{ envoy: {{ admin: 'http://127.0.0.1:{}', route-file: {{ path: '{}', stat-prefix: edge, route: shop }} }} }}\n\
         steps: {}\n\
         drain: 1s\n\
         promotion: swap\n\
         metrics:\n  error-rate: {{ tolerate: {{ relative: 20%, absolute: 0.5% }}, rollback-above: 5% }}\n  \
         latency-p95: {{ tolerate: {{ relative: 30% }} }}\n{}\n",
        scene.interval,
        envoy.admin,
        envoy.route_file().display(),
        scene.steps,
        scene.more
    )
}

/// A view in this state.
pub(super) fn in_state(state: &'static str) -> impl Fn(&Value) -> bool {
    move |view| view["state"] == state
}

/// A view whose weight is in force and whose time counts.
pub(super) fn at_permille(permille: u64) -> impl Fn(&Value) -> bool {
    move |view| view["weight-seen-permille"] == permille && view["weight-permille"] == permille && view["step"]["counts-time"] == true
}

/// A behaviour that fails so many.
pub(super) fn errors(share: f64) -> Behaviour {
    Behaviour { errors: share, ..Behaviour::default() }
}

/// The right to have a stage.
struct Room;

static TAKEN: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

impl Room {
    fn take() -> Self {
        let mut taken = TAKEN.lock();
        FREED.wait_while(&mut taken, |taken| *taken >= STAGES_MAX);
        *taken += 1;
        Self
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        *TAKEN.lock() -= 1;
        FREED.notify_one();
    }
}
