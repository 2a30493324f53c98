//! What a fleet of rules costs the daemon, measured from outside on the real binary beside the real control plane and a real Prometheus.
//!
//! In the suite it is small and asserts what does not depend on the machine: how many watches there are, what reaches whom, what is in
//! force. `CANARY_TEST_SCALE=1000` makes it as large as it is to be, with three pods a rule, and prints what it measured;
//! `CANARY_TEST_CANARYD` names another build of the daemon, such as `target/release/canaryd`.

mod fleet;
mod usage;

use super::proxy::Proxy;
use super::resources;
use crate::rig::daemon::{Daemon, Settings, complaints};
use crate::rig::kubernetes::{self, ControlPlane};
use crate::rig::prometheus::{Job, Prometheus};
use crate::rig::{self, http, poll, ports};
use fleet::{Fleet, PODS};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use usage::Usage;

/// Rules in the suite.
const FEW: usize = 40;
/// Longest until the daemon has seen a change.
const SEEN_MAX: Duration = Duration::from_secs(90);
/// When the newest tick was read.
const LAST_TICK: &str = "canaryd_last_tick_timestamp_seconds";
/// What an API server says in a watch of a version it has forgotten.
const EXPIRED: &str = concat!(
    r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","#,
    r#""message":"too old resource version: 1 (8338)","reason":"Expired","code":410}}"#,
    "\n"
);

fn say(text: &str) {
    rig::say(&format!("scale: {text}"));
}

/// How large it is.
#[derive(Clone, Copy)]
struct Size {
    rules: usize,
    namespaces: usize,
    /// Rollouts at once.
    running: usize,
    /// Changes of pods that are timed.
    events: usize,
    idle: Duration,
    /// Longest any stretch of it may take.
    stretch: Duration,
}

impl Size {
    fn told() -> Self {
        match std::env::var("CANARY_TEST_SCALE").ok().and_then(|n| n.parse().ok()) {
            Some(rules) => Self {
                rules,
                namespaces: 10,
                running: (rules / 10).max(4),
                events: 300,
                idle: Duration::from_secs(60),
                stretch: Duration::from_secs(1800),
            },
            None => {
                Self { rules: FEW, namespaces: 4, running: 8, events: 8, idle: Duration::from_secs(1), stretch: Duration::from_secs(240) }
            }
        }
    }
}

/// Everything, standing. Fields are dropped in this order: who asks goes before who answers.
struct Stage {
    daemon: Daemon,
    _prometheus: Prometheus,
    _folder: tempfile::TempDir,
    fleet: Fleet,
    size: Size,
    plane: &'static ControlPlane,
    runtime: tokio::runtime::Runtime,
}

impl Stage {
    fn up(plane: &'static ControlPlane, size: Size) -> Option<Self> {
        let runtime = tokio::runtime::Runtime::new().expect("threads");
        plane.custom_resources("istio", "/apis/networking.istio.io/v1/virtualservices");
        resources::install_in(plane);
        let begun = Instant::now();
        let fleet = runtime.block_on(Fleet::make(plane, size.rules, size.namespaces));
        let pods = size.rules * PODS.iter().sum::<u32>() as usize;
        let ready = poll(size.stretch, || (runtime.block_on(fleet.ready()) >= pods).then_some(()));
        assert!(ready.is_some(), "{} of {pods} pods are ready", runtime.block_on(fleet.ready()));
        runtime.block_on(fleet.each(0..size.rules, async |n| fleet.make_rule(n).await));
        say(&format!("{} rules in {} namespaces, {pods} pods ready after {:.0?}", size.rules, size.namespaces, begun.elapsed()));
        let folder = tempfile::tempdir().expect("a folder");
        let page = Job::new("fleet", runtime.block_on(fleet.page()), "/metrics", &[]);
        let prometheus = Prometheus::start_every(&folder.path().join("prometheus"), Duration::from_secs(5), &[page])?;
        let kubeconfig = resources::least_rights(plane, "fleet-0");
        let told = Settings { source: prometheus.url(), time_scale: 1, rule: FILED.to_owned() };
        let cluster = json!({"cluster": {"kubeconfig": kubeconfig}});
        let daemon = Daemon::start_with(&folder.path().join("canaryd"), ports::free(), &told, &cluster);
        Some(Self { daemon, _prometheus: prometheus, _folder: folder, fleet, size, plane, runtime })
    }

    /// Services of which there is a release: none in the last namespace.
    fn tried(&self) -> Vec<usize> {
        let elsewhere = |n: &usize| n % self.size.namespaces + 1 != self.size.namespaces;
        (0..self.size.rules).filter(elsewhere).take(self.size.running).collect()
    }

    fn usage(&mut self) -> Usage {
        Usage::of(self.daemon.process().pid(), self.plane.port)
    }

    /// Waits until it is so; how long that took.
    fn until(&mut self, what: &str, max: Duration, mut is_so: impl FnMut(&mut Self) -> bool) -> Duration {
        let begun = Instant::now();
        let so = poll(max, || is_so(self).then_some(()));
        assert!(so.is_some(), "not within {max:?}: {what}\n{}", self.daemon.process().log());
        begun.elapsed()
    }

    fn rules_in_force(&self) -> usize {
        let rules = self.daemon.get("/api/v1/rules");
        let all = rules["rules"].as_array().expect("a list");
        all.iter().filter(|rule| rule["file"].as_str().is_some_and(|file| file.starts_with("canaryrule "))).count()
    }

    fn digest(&self, n: usize) -> Option<String> {
        let (rules, name) = (self.daemon.get("/api/v1/rules"), self.fleet.name(n));
        let found = rules["rules"].as_array()?.iter().find(|rule| rule["name"] == name)?;
        found["digest"].as_str().map(str::to_owned)
    }

    fn rollouts(&self) -> Vec<Value> {
        self.daemon.get("/api/v1/rollouts")["rollouts"].as_array().expect("a list").clone()
    }

    /// The sum of a metric's series with all of these in their labels.
    fn metric(&self, name: &str, with: &[&str]) -> f64 {
        let page = http::get(self.daemon.port, "/metrics", Duration::from_secs(20)).expect("an answer").text();
        let of =
            |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])) && with.iter().all(|w| line.contains(w));
        page.lines().filter(of).map(|line| line.rsplit(' ').next().expect("a value").parse::<f64>().expect("a number")).sum()
    }

    fn tell_usage(&mut self, when: &str) {
        let now = self.usage();
        let Usage { resident_mb, peak_mb, threads, files, connections, .. } = now;
        say(&format!(
            "{when}: {resident_mb:.1} MB resident (at most {peak_mb:.1}), {threads} threads, {files} files, {connections} connections to the API server, {:.2} s of CPU so far",
            now.cpu_s
        ));
    }
}

/// A rule that is a file.
const FILED: &str = "rule: filed
workloads: { pair: [ { cluster: a }, { cluster: b } ] }
telemetry: [ envoy ]
traffic: none
steps: [ { weight: 50%, for: 1h }, { weight: 100%, bake: 1h } ]
metrics: { error-rate: { tolerate: { relative: 20% } } }
";

#[test]
fn a_fleet_of_rules_costs_what_its_namespaces_cost() {
    let size = Size::told();
    // the daemon reads the rules of all namespaces: other tests' must not be among them
    let Some(plane) = kubernetes::own() else { return };
    let begun = Instant::now();
    let Some(mut stage) = Stage::up(*plane, size) else { return };
    begins(&mut stage);
    idles(&mut stage);
    changes_of_rules_are_in_force(&mut stage);
    releases_start_rollouts(&mut stage);
    pods_are_seen(&mut stage);
    lists(&mut stage);
    watches_end_and_begin_again(&mut stage);
    say(&format!("all of it took {:.0?}", begun.elapsed()));
}

/// From its start to all rules in force, and to all objects saying so.
fn begins(stage: &mut Stage) {
    let rules = stage.size.rules;
    let in_force = stage.until("all rules are in force", stage.size.stretch, |s| s.rules_in_force() == rules);
    let noted = stage.until("all workloads are known", stage.size.stretch, |s| {
        s.daemon.process().log().matches("pod template noted").count() == 2 * rules
    });
    stage.tell_usage(&format!("all rules in force {in_force:.1?} after it was ready, all workloads known {noted:.1?} later"));
    let accepted = stage.until("all objects say so", stage.size.stretch, |s| s.runtime.block_on(s.fleet.accepted()) == rules);
    stage.tell_usage(&format!("every object says that it is accepted {accepted:.1?} later"));
}

fn idles(stage: &mut Stage) {
    let before = stage.usage();
    std::thread::sleep(stage.size.idle);
    let after = stage.usage();
    stage.tell_usage(&format!("idle for {:.0?}: {:.2} % of a core", stage.size.idle, after.load_since(&before)));
}

/// By kubectl, as people do: one is changed, one goes and comes back.
fn changes_of_rules_are_in_force(stage: &mut Stage) {
    let n = stage.size.rules - 1;
    let mut rule = stage.fleet.rule(n);
    let before = stage.digest(n);
    rule["spec"]["steps"][0]["for"] = "3h".into();
    let applied = apply(stage.plane, &rule);
    let in_force = stage.until("the changed rule is in force", SEEN_MAX, |s| s.digest(n) != before);
    let generation = |s: &Stage| {
        let path = format!("{}/{}", s.fleet.path("canaryd.io/v1alpha1", n, "canaryrules"), s.fleet.name(n));
        let (_, object) = s.runtime.block_on(super::scene::ask(&s.fleet.admin, "GET", &path, None));
        let accepted = object["status"]["conditions"][0].clone();
        accepted["status"] == "True" && accepted["observedGeneration"] == object["metadata"]["generation"]
    };
    let said = stage.until("it says so", SEEN_MAX, |s| generation(s));
    say(&format!(
        "a rule changed by kubectl (which took {applied:.1?}) is in force {in_force:.1?} later, and says so after {said:.1?} more"
    ));
    let (namespace, name) = (stage.fleet.namespace(n), stage.fleet.name(n));
    stage.plane.kubectl(&["delete", "canaryrule", &name, "-n", &namespace]);
    let gone = stage.until("the rule is gone", SEEN_MAX, |s| s.digest(n).is_none());
    apply(stage.plane, &rule);
    let back = stage.until("the rule is back", SEEN_MAX, |s| s.digest(n).is_some());
    say(&format!("a rule deleted is out of force after {gone:.1?}, one added is in force after {back:.1?}"));
}

fn apply(plane: &ControlPlane, object: &Value) -> Duration {
    let begun = Instant::now();
    plane.apply(object);
    begun.elapsed()
}

/// New templates begin rollouts by themselves, and no other.
fn releases_start_rollouts(stage: &mut Stage) {
    let (running, before) = (stage.size.running, stage.usage());
    let begun = Instant::now();
    let (fleet, tried) = (stage.fleet.clone(), stage.tried());
    stage.runtime.block_on(fleet.each(tried, async |n| fleet.release(n).await));
    let sent = begun.elapsed();
    let weighed = |rollout: &&Value| rollout["weight-seen-permille"] == 500;
    stage.until("all have their first weight", stage.size.stretch, |s| s.rollouts().iter().filter(weighed).count() == running);
    let after = stage.usage();
    stage.tell_usage(&format!(
        "{running} releases (sent within {sent:.1?}) have a rollout each with its first weight in force {:.1?} after the first, {:.1} s of CPU",
        begun.elapsed(),
        after.cpu_since(&before)
    ));
    stage.until("a tick was read", SEEN_MAX, |s| s.metric(LAST_TICK, &[]) > 0.0);
    let before = stage.usage();
    std::thread::sleep(stage.size.idle);
    let (after, lag) = (stage.usage(), tick_lag(stage));
    stage.tell_usage(&format!(
        "{running} rollouts at 5 s ticks: {:.2} % of a core, the last tick is {lag:.1} s old",
        after.load_since(&before)
    ));
    assert_eq!(stage.rollouts().len(), running, "nothing else was started");
}

fn tick_lag(stage: &Stage) -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs_f64();
    now - stage.metric(LAST_TICK, &[])
}

/// What happens to a pod is seen by its rollout, and by no other.
fn pods_are_seen(stage: &mut Stage) {
    // the others are to see nothing
    let told: Vec<usize> = stage.tried().into_iter().take(stage.size.running / 2).collect();
    let first = |n: &usize| stage.runtime.block_on(stage.fleet.pods(*n, 1)).into_iter().next().expect("a pod of the canary");
    let pods: Vec<(usize, String)> = told.iter().map(|n| (*n, first(n))).collect();
    let before = stage.usage();
    let one = |count: usize| {
        let (n, pod) = &pods[count % pods.len()];
        stage.time_event(*n, pod, count)
    };
    let mut times: Vec<Duration> = (0..stage.size.events).map(one).collect();
    let after = stage.usage();
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    say(&format!(
        "from a change of a pod to its sign in the rollout, {} times: p50 {:.1?}, p99 {:.1?}, max {:.1?}; {:.2} % of a core",
        times.len(),
        at(0.5),
        at(0.99),
        at(1.0),
        after.load_since(&before)
    ));
    for rollout in stage.rollouts() {
        let (rule, trouble) =
            (rollout["rule"].as_str().expect("a name"), rollout["workloads"]["canary"]["trouble"].as_str().expect("a text"));
        let n: usize = rule.strip_prefix("app-").expect("ours").parse().expect("a number");
        let pod = pods.iter().find(|(of, _)| *of == n).map(|(_, pod)| pod);
        let right = pod.map_or(trouble.is_empty(), |pod| trouble.contains(pod));
        assert!(right && rollout["over"] == false, "{rule}: {trouble:?}");
    }
}

impl Stage {
    /// A pod of a canary falls into a crash loop, in other words each time; how long until its rollout shows it.
    fn time_event(&self, n: usize, pod: &str, count: usize) -> Duration {
        let said = format!("back-off number {count} ");
        let state = json!({"waiting": {"reason": "CrashLoopBackOff", "message": said}});
        let change = json!([{"op": "replace", "path": "/status/containerStatuses/0/state", "value": state}]);
        let path = format!("{}/{pod}/status", self.fleet.path("v1", n, "pods"));
        let begun = Instant::now();
        self.runtime.block_on(self.fleet.patch(&path, &change));
        let rollout = format!("/api/v1/rollouts/{}-1", self.fleet.name(n));
        let seen = poll(SEEN_MAX, || {
            let view = self.daemon.get(&rollout);
            view["workloads"]["canary"]["trouble"].as_str().is_some_and(|t| t.contains(said.trim_end())).then_some(())
        });
        assert!(seen.is_some(), "{rollout} does not show {said:?}: {}", self.daemon.get(&rollout));
        begun.elapsed()
    }
}

/// What people and programs list.
fn lists(stage: &mut Stage) {
    for path in ["/api/v1/rules", "/api/v1/rollouts", "/metrics"] {
        let begun = Instant::now();
        let answer = http::get(stage.daemon.port, path, Duration::from_secs(20)).expect("an answer");
        say(&format!("GET {path}: {:.1?}, {:.1} kB", begun.elapsed(), answer.body.len() as f64 / 1e3));
    }
    let begun = Instant::now();
    let shown = |s: &Stage| {
        let table = s.plane.kubectl(&["get", "canaryrollouts", "-A", "--no-headers"]);
        table.lines().filter(|line| line.contains("app-") && line.contains("progressing") && line.contains("50%")).count()
    };
    let running = stage.size.running;
    stage.until("kubectl shows all rollouts", stage.size.stretch, |s| shown(s) == running);
    let (begun, after) = (Instant::now(), begun.elapsed());
    shown(stage);
    say(&format!("kubectl get canaryrollouts -A shows all {running} after {after:.1?}, and takes {:.1?}", begun.elapsed()));
}

/// Started again behind a proxy that knows every watch; then the API server forgets all of them.
fn watches_end_and_begin_again(stage: &mut Stage) {
    let proxy = stage.runtime.block_on(Proxy::start(stage.plane));
    let begun = Instant::now();
    stage.daemon.restart_with(&json!({"cluster": {"kubeconfig": proxy.kubeconfig}}));
    let (running, rules) = (stage.size.running, stage.size.rules);
    say(&format!("started again with {running} rollouts: ready after {:.1?}", begun.elapsed()));
    stage.until("all rules are in force again", stage.size.stretch, |s| s.rules_in_force() == rules);
    let weighed = |rollout: &&Value| rollout["over"] == false && rollout["weight-seen-permille"] == 500;
    stage.until("all rollouts go on", stage.size.stretch, |s| s.rollouts().iter().filter(weighed).count() == running);
    // four of each namespace's workloads, one of the routes where there is a rollout, and one of the rules
    let wanted = 4 * stage.size.namespaces + (stage.size.namespaces - 1) + 1;
    let of = |watching: &std::collections::BTreeMap<String, usize>| watching.values().sum::<usize>();
    stage.until("it watches", SEEN_MAX, |_| of(&proxy.watching()) >= wanted);
    std::thread::sleep(Duration::from_secs(3));
    say(&format!("it watches {:?}", proxy.watching()));
    assert!(of(&proxy.watching()) <= wanted, "{:?}", proxy.watching());
    stage.tell_usage("started again");

    let listed = |s: &Stage| s.metric("canaryd_watch_changes_total", &[r#"what="listed""#]) as usize;
    let (lists, before, begun) = (listed(stage), stage.usage(), Instant::now());
    proxy.next_watches(vec![EXPIRED; wanted]);
    proxy.cut();
    let workloads = 4 * stage.size.namespaces;
    stage.until("everything is listed again", SEEN_MAX, |s| {
        proxy.watches_left() == 0 && listed(s) >= lists + workloads && of(&proxy.watching()) == wanted
    });
    let took = begun.elapsed();
    std::thread::sleep(stage.size.idle.min(Duration::from_secs(20)));
    let after = stage.usage();
    stage.tell_usage(&format!("all watches expired, and are back after {took:.1?}: {:.2} s of CPU", after.cpu_since(&before)));
    let rollouts = stage.rollouts();
    assert!(rollouts.len() == running && rollouts.iter().all(|r| r["over"] == false), "false starts, or ends: {rollouts:#?}");
    assert_eq!(listed(stage), lists + workloads, "each is listed once");

    // a namespace without rules is nothing to watch
    let last = stage.fleet.namespace(stage.size.namespaces - 1);
    stage.plane.kubectl(&["delete", "canaryrules", "--all", "-n", &last]);
    let let_go = stage.until("its watches end", SEEN_MAX, |_| of(&proxy.watching()) == wanted - 4);
    say(&format!("the rules of namespace {last} deleted: its watches are gone after {let_go:.1?}"));
    let log = stage.daemon.process().log();
    assert_eq!(complaints(&log), [""; 0], "{log}");
}
