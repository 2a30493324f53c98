//! What every scenario stands on: the components of one rollout, and what a scenario asks of them.

use super::edge::Edge;
use crate::rig::daemon::{self, Daemon};
use crate::rig::envoy::Envoy;
use crate::rig::load::{self, Load};
use crate::rig::poll;
use crate::rig::prometheus::{Job, Prometheus};
use crate::rig::service::{Behaviour, Service};
use parking_lot::{Condvar, Mutex};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// Longest one scenario may take; the load ends by itself then.
const SCENARIO_MAX: Duration = Duration::from_secs(900);
/// Stages that stand at a time: more would compete for the machine, and a starved Envoy looks like a bad release.
const STAGES_MAX: usize = 3;
/// Name of the one rule.
pub(super) const RULE: &str = "shop";
/// Most requests that may come between the last scrape a poll tells of, and a late look at the users' own count.
const YOUNGER_MAX: f64 = 600.0;
/// Long enough for any next step of a scenario, also where a busy machine makes both versions slow for a while and they have to be well
/// for two minutes again; what must be quick says so itself.
pub(super) const PATIENT: Duration = Duration::from_secs(270);

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
    /// The rule's `latency-p95`, as a YAML flow mapping, where the proxy tells latencies.
    pub(super) latency: &'static str,
    /// The rule's `telemetry`, as a YAML flow list, if not only the proxy's.
    pub(super) telemetry: Option<&'static str>,
    /// The first version has a second process, and Prometheus scrapes all three too.
    pub(super) twin: bool,
    /// Further lines of the rule; those that begin with two spaces are further metrics.
    pub(super) more: &'static str,
    /// How both versions behave at first.
    pub(super) usual: Behaviour,
    /// How much faster the method's clock runs.
    pub(super) time_scale: u32,
    /// The users come in by the listener that does not follow the daemon's route file.
    pub(super) deaf: bool,
}

impl Default for Scene {
    fn default() -> Self {
        Self {
            rate_per_s: 100,
            // who leaves looks like a canary that hangs, and a busy machine lets everybody wait
            patience: Duration::from_secs(2),
            scrape: Duration::from_secs(1),
            interval: "1s",
            steps: "[ { weight: 10%, for: 6s }, { weight: 50%, for: 6s }, { weight: 100%, bake: 5s } ]",
            latency: "{ tolerate: { relative: 30% } }",
            telemetry: None,
            twin: false,
            more: "",
            usual: Behaviour::default(),
            time_scale: 30,
            deaf: false,
        }
    }
}

/// Everything a rollout needs, standing. Fields are dropped in this order: who asks goes before who answers.
pub(super) struct Stage<E = Envoy> {
    pub(super) daemon: Daemon,
    pub(super) load: Load,
    pub(super) prometheus: Prometheus,
    pub(super) edge: E,
    pub(super) first: Service,
    pub(super) second: Service,
    _twin: Option<Service>,
    _folder: TempDir,
    _room: Room,
}

impl Stage {
    /// [`Stage::behind`] Envoy.
    pub(super) fn up(scene: Scene) -> Option<Self> {
        Self::behind(scene)
    }
}

impl<E: Edge> Stage<E> {
    /// Stands it all up and waits until Prometheus has seen the first version's requests in three scrapes, from which the
    /// daemon can tell how often it scrapes; `None` if skipped.
    pub(super) fn behind(scene: Scene) -> Option<Self> {
        let room = Room::take();
        let folder = tempfile::tempdir().expect("a folder");
        let (first, second) = (Service::start("v1"), Service::start("v2"));
        let twin = scene.twin.then(|| Service::start("v1"));
        [&first, &second].into_iter().chain(&twin).for_each(|service| service.behave(scene.usual));
        let edge = E::start(&folder.path().join("edge"), &scene, [first.port, second.port], twin.as_ref().map(|t| t.port))?;
        let mut jobs = vec![edge.job()];
        if let Some(twin) = &twin {
            let processes = [("app-1", &first, "v1"), ("app-2", twin, "v1"), ("app-3", &second, "v2")];
            jobs.extend(processes.map(|(job, of, version)| Job::new(job, of.port, "/metrics", &[("cluster", version)])));
        }
        let prometheus = Prometheus::start_every(&folder.path().join("prometheus"), scene.scrape, &jobs)?;
        let (port, rate_per_s) = (edge.users(), scene.rate_per_s);
        let load = Load::start(load::Settings { port, rate_per_s, timeout: scene.patience, lasts: SCENARIO_MAX });
        await_scrapes(&prometheus, jobs.len(), E::FIRST_REQUESTS);
        let told = daemon::Settings { source: prometheus.url(), time_scale: scene.time_scale, rule: rule(&scene, &edge) };
        let daemon = Daemon::start(&folder.path().join("canaryd"), &told);
        Some(Self { daemon, load, prometheus, edge, first, second, _twin: twin, _folder: folder, _room: room })
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

    /// Waits until the rollout is over, which must be in this state.
    pub(super) fn wait_for_end(&self, id: &str, state: &str) -> Value {
        self.wait_for(id, PATIENT, &format!("it is over and {state}"), |view| {
            assert!(view["over"] == false || view["state"] == state, "it ended otherwise: {view:#}");
            view["over"] == true
        })
    }

    /// Waits until it stands still at this weight and its time counts.
    pub(super) fn wait_for_weight(&self, id: &str, permille: u64) -> Value {
        self.wait_for(id, PATIENT, &format!("{permille} permille in force"), |view| {
            assert_eq!(view["over"], false, "over before {permille} permille: {view:#}");
            view["weight-seen-permille"] == permille && view["weight-permille"] == permille && view["step"]["counts-time"] == true
        })
    }

    /// Waits for this hold, and gives the hold's own text.
    pub(super) fn wait_for_hold(&self, id: &str, why: &str) -> String {
        let view = self.wait_for(id, PATIENT, &format!("held: {why}"), |view| {
            assert_eq!(view["over"], false, "over before it was held as {why:?}: {view:#}");
            hold(view, why).is_some()
        });
        hold(&view, why).unwrap_or_default()
    }

    /// Waits until so many more seconds counted toward the step.
    pub(super) fn wait_counted(&self, id: &str, more_s: f64) {
        let counted = |view: &Value| view["step"]["counted-s"].as_f64().unwrap_or(0.0);
        let from = counted(&self.view(id));
        self.wait_for(id, PATIENT, "time counts", |view| counted(view) >= from + more_s);
    }

    /// Answers of this version to users so far.
    pub(super) fn answers_of(&self, version: &str) -> u64 {
        self.load.counts().by_version.get(version).copied().unwrap_or(0)
    }

    /// Share of the answers that came from the second version while users got so many of them, and of how many: fewer if the proxy's
    /// share moves meanwhile.
    pub(super) fn share_of_second(&self, answers: u64) -> (f64, u64) {
        let count = || (self.answers_of("v1"), self.answers_of("v2"));
        let routed = self.routed();
        self.load.wait_for_those_under_way();
        let before = count();
        let mut seen = (0, 0);
        let enough = poll(PATIENT, || {
            let now = count();
            // looked at after the count: what was counted went by this share
            let moved = self.routed() != routed;
            if !moved {
                seen = (now.0 - before.0, now.1 - before.1);
            }
            (moved || seen.0 + seen.1 >= answers).then_some(())
        });
        let all = seen.0 + seen.1;
        assert!(enough.is_some() && all >= answers / 4, "{all} answers at {routed} permille: {:?}", self.load.counts());
        (seen.1 as f64 / all as f64, all)
    }

    /// The users get the second version's answers in this share: within five standard deviations of so many draws.
    pub(super) fn assert_share_of_second(&self, share: f64) {
        let (seen, n) = self.share_of_second(200);
        assert!((seen - share).abs() <= 5.0 * (share * (1.0 - share) / n as f64).sqrt(), "{seen} of {n} instead of {share}");
    }

    /// Every line of the journal.
    pub(super) fn journal(&self, id: &str) -> Vec<Value> {
        let journal = self.daemon.get(&format!("/api/v1/rollouts/{id}/journal"));
        journal["entries"].as_array().unwrap_or_else(|| panic!("no entries in {journal}")).clone()
    }

    /// Actions in the journal other than `hold`, in order.
    pub(super) fn actions(&self, id: &str) -> Vec<String> {
        let journal = self.journal(id);
        let actions = journal.iter().filter_map(|entry| entry["action"].as_str()).filter(|action| *action != "hold");
        actions.map(str::to_owned).collect()
    }

    /// The text of the first decision of this kind, and when it was made, ms since the epoch.
    pub(super) fn decided(&self, id: &str, action: &str) -> (String, i64) {
        let journal = self.journal(id);
        let entry = journal.iter().find(|entry| entry["action"] == action).unwrap_or_else(|| panic!("no {action} in {journal:#?}"));
        (entry["text"].as_str().unwrap_or_default().to_owned(), millis(&entry["at"]))
    }

    /// Requests of both versions that polls of the journal told of: baseline, canary.
    pub(super) fn polled_requests(&self, id: &str) -> (f64, f64) {
        let journal = self.journal(id);
        let sum = |arm: &str| -> f64 { journal.iter().filter_map(|entry| entry["arms"][arm]["requests"].as_f64()).sum() };
        (sum("baseline"), sum("canary"))
    }

    /// The polls told of all the second version's requests, but for those after the last one. Who left before the answer came was served
    /// all the same.
    pub(super) fn assert_polled_all(&self, id: &str) {
        let (answered, given_up) = (self.answers_of("v2") as f64, self.load.counts().timeouts as f64);
        let (_, polled) = self.polled_requests(id);
        let all = polled <= answered + given_up && polled >= answered - YOUNGER_MAX;
        assert!(all, "polls tell of {polled} of the canary's {answered} requests, of which {given_up} were given up");
    }

    /// The second version's share as the proxy has it, permille.
    pub(super) fn routed(&self) -> u64 {
        self.edge.second_permille()
    }

    /// Waits until the proxy gives the second version so much; when that was, ms since the epoch.
    pub(super) fn wait_routed(&self, permille: u64) -> i64 {
        let at = poll(PATIENT, || (self.routed() == permille).then(now_ms));
        at.unwrap_or_else(|| panic!("the proxy gives the second version {} and not {permille}", self.routed()))
    }

    /// The first sample of this series in Prometheus, ms since the epoch; scrapes of the last minute.
    pub(super) fn first_scraped(&self, selector: &str) -> i64 {
        let query = format!("min_over_time(timestamp({selector})[60s:100ms])");
        let at = self.prometheus.value(&query).unwrap_or_else(|| panic!("no {selector} in Prometheus"));
        (at * 1e3) as i64
    }

    /// The last sample of these series in Prometheus, ms since the epoch.
    pub(super) fn last_scraped(&self, selector: &str) -> i64 {
        let at = self.prometheus.value(&format!("max(timestamp({selector}))"));
        (at.unwrap_or_else(|| panic!("no {selector} in Prometheus")) * 1e3) as i64
    }

    /// Ends the daemon as an operator would, and decides every rollout of its journal again: the same journal gives the same
    /// decisions (invariant 1), whatever happened in between.
    ///
    /// # Panics
    /// If it does not end well, complained of itself, or a decision is not made again.
    pub(super) fn close(mut self) {
        self.daemon.ends_well();
    }

    /// No answer of the second version reaches a user while they get 200.
    pub(super) fn assert_second_gets_nothing(&self) {
        assert_eq!(self.share_of_second(200).0, 0.0, "requests of the canary after its rollback");
    }
}

fn await_scrapes(prometheus: &Prometheus, jobs: usize, first_requests: &str) {
    let all = poll(PATIENT, || prometheus.value("count(count_over_time(up[1m]) >= 4)").filter(|n| *n >= jobs as f64));
    assert!(all.is_some(), "Prometheus does not scrape all of {jobs} jobs");
    let seen = poll(PATIENT, || prometheus.value(&format!("count_over_time({first_requests}[1m])")).filter(|n| *n >= 4.0));
    assert!(seen.is_some(), "Prometheus does not scrape the proxy");
    let requests = prometheus.value(first_requests);
    assert!(requests.is_some_and(|n| n > 0.0), "Prometheus does not see the first version's requests: {requests:?}");
}

fn rule<E: Edge>(scene: &Scene, edge: &E) -> String {
    let [first, second] = E::WORKLOADS;
    let latency = if E::LATENCY { format!("  latency-p95: {}\n", scene.latency) } else { String::new() };
    // in the bake nothing tells a busy machine from a slow release: it alone is not judged by it
    let bake = if E::LATENCY { "bake-latency: 1000%\n" } else { "" };
    format!(
        "rule: {RULE}\n\
         workloads: {{ pair: [ {first}, {second} ] }}\n\
         telemetry: {}\n\
         interval: {}\n\
         traffic: {}\n\
         steps: {}\n\
         drain: 1s\n\
         promotion: swap\n\
         {bake}\
         metrics:\n  error-rate: {{ tolerate: {{ relative: 20%, absolute: 0.5% }}, rollback-above: 5% }}\n{latency}{}\n",
        scene.telemetry.unwrap_or(E::TELEMETRY),
        scene.interval,
        edge.traffic(),
        scene.steps,
        scene.more
    )
}

/// The text of the hold of this kind, if there is one.
pub(super) fn hold(view: &Value, why: &str) -> Option<String> {
    let holds = view["holds"].as_array()?;
    holds.iter().find(|hold| hold["why"] == why).map(|hold| hold["text"].as_str().unwrap_or_default().to_owned())
}

/// The kinds of the reasons of a rollback.
pub(super) fn reasons(view: &Value) -> Vec<String> {
    let all = view["reasons"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().filter_map(|reason| reason["kind"].as_str()).map(str::to_owned).collect()
}

/// A behaviour that fails so many.
pub(super) fn errors(share: f64) -> Behaviour {
    Behaviour { errors: share, ..Behaviour::default() }
}

/// An instant of the API in ms since the epoch.
pub(super) fn millis(at: &Value) -> i64 {
    let text = at.as_str().unwrap_or_else(|| panic!("{at} is no instant"));
    text.parse::<jiff::Timestamp>().unwrap_or_else(|e| panic!("{text}: {e}")).as_millisecond()
}

/// Now, ms since the epoch.
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("not yet the year 292 million")
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
