//! What every scenario stands on: releases that are processes, Deployments that stand for them, a mesh that sends users to them, a
//! Prometheus that counts at the gateway, and the daemon with the shipped settings and the shipped rights.

use super::objects;
use crate::kubernetes::shipped;
use crate::rig::addresses::PodAddress;
use crate::rig::daemon::{self, Daemon};
use crate::rig::istio::{Gateway, Istiod, cluster_of};
use crate::rig::kubernetes::{self, ControlPlane};
use crate::rig::load::{self, Load};
use crate::rig::prometheus::{Job, Prometheus};
use crate::rig::service::{Behaviour, Service};
use crate::rig::{self, poll, ports};
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest one scenario may take; the load ends by itself then.
const SCENARIO_MAX: Duration = Duration::from_secs(1200);
/// Long enough for any next step of a scenario, also where a busy machine makes both versions slow for a while.
pub(super) const PATIENT: Duration = Duration::from_secs(270);
/// Name of the rule, the Service, the VirtualService, and of what is before the label in a Deployment's name.
pub(super) const SHOP: &str = "shop";
/// The label `version` of the two Deployments' pods.
pub(super) const VERSIONS: [&str; 2] = ["v1", "v2"];
/// Requests of users per second.
const RATE_PER_S: u32 = 100;
/// Answers of which a share is taken, and the fewest of which it may be.
const ANSWERS: u64 = 400;
const ANSWERS_MIN: u64 = 100;
/// How much faster the method's clock runs.
const TIME_SCALE: u32 = 30;

/// Name of a Deployment.
pub(super) fn deployment(position: usize) -> String {
    format!("{SHOP}-{}", VERSIONS[position])
}

/// One at a time: each needs a whole machine's patience.
static ONE: Mutex<()> = Mutex::new(());

/// How the two Deployments are told apart, and what moves the traffic.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// They take turns; weights of two subsets in a VirtualService, counted at the gateway.
    Pair,
    /// The same, where the first is always stable.
    StableCanary,
    /// They take turns; the Service selects one of them, and each counts its own requests.
    BlueGreen,
}

/// A release: the process its pods are.
struct Release {
    version: &'static str,
    service: Service,
}

impl Release {
    /// It listens where pods of either Deployment would, and at home for those who scrape it.
    fn start(version: &'static str, addresses: &[PodAddress]) -> Self {
        let ips: Vec<Ipv4Addr> = addresses.iter().map(|a| a.ip).chain([Ipv4Addr::LOCALHOST]).collect();
        Self { version, service: Service::start_on(&ips, ports::free(), version) }
    }

    /// The container of its pods.
    fn container(&self) -> Value {
        json!({"name": SHOP, "image": format!("registry.example/{SHOP}:{}", self.version),
            "ports": [{"name": "http", "containerPort": self.service.port}],
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}}})
    }
}

/// Everything, standing. Fields are dropped in this order: who asks goes before who answers.
pub(super) struct Stage {
    pub(super) daemon: Daemon,
    load: Load,
    prometheus: Prometheus,
    pub(super) gateway: Gateway,
    /// What each Deployment has run, the newest last.
    releases: [Vec<Release>; 2],
    addresses: Vec<PodAddress>,
    form: Form,
    pub(super) plane: &'static ControlPlane,
    pub(super) namespace: String,
    _folder: TempDir,
    begun: Instant,
    _one: MutexGuard<'static, ()>,
}

/// What a scenario may choose.
#[derive(Clone, Copy)]
pub(super) struct Scene {
    /// Name of its namespace.
    pub(super) name: &'static str,
    pub(super) form: Form,
    /// Which releases the two Deployments run at first.
    pub(super) versions: [&'static str; 2],
    /// Replicas of each.
    pub(super) replicas: [u32; 2],
    /// Both have an autoscaler, from one replica to ten.
    pub(super) scalers: bool,
    /// The rule but for its name, workloads, telemetry and route.
    pub(super) rule: &'static str,
}

impl Stage {
    /// Stands it all up, all traffic on the first Deployment, and waits until Prometheus has scraped that for a while; `None` if
    /// skipped.
    pub(super) fn up(scene: Scene) -> Option<Self> {
        let one = ONE.lock();
        let begun = Instant::now();
        let plane = kubernetes::shared_blocking()?;
        let istiod = Istiod::shared(plane)?;
        let addresses: Vec<PodAddress> = (0..2).map(|_| PodAddress::claim()).collect::<Option<_>>()?;
        let releases = scene.versions.map(|version| vec![Release::start(version, &addresses)]);
        let folder = tempfile::tempdir().expect("a folder");
        let namespace = plane.namespace(scene.name);
        let mut gateway = Gateway::start(&folder.path().join("gateway"), istiod, &namespace)?;
        plane.apply(&objects::all(&namespace, &gateway, &scene));
        for (position, of) in releases.iter().enumerate() {
            let replicas = scene.replicas[position];
            plane.apply(&objects::deployment(&namespace, VERSIONS[position], &annotations(&addresses), &of[0].container(), replicas));
        }
        gateway.wait_open();
        let prometheus = Prometheus::start(&folder.path().join("prometheus"), &jobs(&gateway, &releases))?;
        let (port, timeout) = (gateway.listener, Duration::from_secs(2));
        let load = Load::start(load::Settings { port, rate_per_s: RATE_PER_S, timeout, lasts: SCENARIO_MAX });
        await_scrapes(&prometheus, &namespace, scene.form);
        let rule = objects::rule(&namespace, &scene);
        let daemon = daemon_of(plane, &folder, &namespace, &prometheus, rule);
        let form = scene.form;
        let mut stage =
            Self { daemon, load, prometheus, gateway, releases, addresses, form, plane, namespace, _folder: folder, begun, _one: one };
        stage.wait_noted();
        stage.tell("everything stands");
        Some(stage)
    }

    /// Waits until the daemon knows what runs: a template it has not seen before any other is no release.
    fn wait_noted(&mut self) {
        let noted = poll(PATIENT, || (self.daemon.process().log().matches("pod template noted").count() >= 2).then_some(()));
        assert!(noted.is_some(), "the daemon does not see the workloads: {}", self.daemon.process().log());
    }

    /// A new release of one of the Deployments: another image, another process. `Behaviour` is how it serves.
    pub(super) fn deploy(&mut self, position: usize, version: &'static str, behaviour: Behaviour) {
        let release = Release::start(version, &self.addresses);
        release.service.behave(behaviour);
        let container = json!([{"op": "replace", "path": "/spec/template/spec/containers/0", "value": release.container()}]);
        self.releases[position].push(release);
        // who scrapes finds it before it serves
        let jobs = jobs(&self.gateway, &self.releases);
        self.prometheus.rescrape(Duration::from_secs(1), &jobs);
        self.patch("deployment", &deployment(position), &container);
        self.tell(&format!("{} is to run {version}", deployment(position)));
    }

    /// How what this Deployment runs behaves from now on.
    pub(super) fn behave(&self, position: usize, behaviour: Behaviour) {
        self.releases[position].last().expect("it runs something").service.behave(behaviour);
    }

    /// Somebody else's JSON Patch.
    pub(super) fn patch(&self, kind: &str, name: &str, operations: &Value) {
        let patch = operations.to_string();
        self.plane.kubectl(&["patch", kind, name, "-n", &self.namespace, "--type=json", "-p", &patch]);
    }

    /// Waits for the rollout that somebody's deployment of this version has begun, and gives its name.
    pub(super) fn wait_begun(&self, version: &str) -> String {
        let of_it = |rollout: &&Value| rollout["over"] == false && rollout["version"].as_str().is_some_and(|v| v.contains(version));
        let all = || self.daemon.get("/api/v1/rollouts");
        let found = poll(PATIENT, || all()["rollouts"].as_array()?.iter().find(of_it)?["id"].as_str().map(str::to_owned));
        let id = found.unwrap_or_else(|| panic!("no rollout of {version} within {PATIENT:?}: {:#}", all()));
        self.tell(&format!("a rollout of {version} has begun by itself"));
        id
    }

    /// Says how far the scenario is, and when, to whoever runs the tests.
    pub(super) fn tell(&self, what: &str) {
        rig::tell(self.begun, &self.namespace, what);
    }

    /// Starts a rollout as a person does, and gives its name.
    pub(super) fn start(&self, version: &str) -> String {
        let answer = self.daemon.post(&format!("/api/v1/rules/{SHOP}/start"), &json!({ "version": version }));
        answer["rollout"].as_str().unwrap_or_else(|| panic!("no rollout in {answer}")).to_owned()
    }

    /// The rollout as the API shows it.
    pub(super) fn view(&self, id: &str) -> Value {
        self.daemon.get(&format!("/api/v1/rollouts/{id}"))
    }

    /// Waits until the view is as wanted, and gives it.
    ///
    /// # Panics
    /// If it is not in time; the last view is in the message, the daemon's log follows.
    pub(super) fn wait_for(&self, id: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let seen = poll(PATIENT, || Some(self.view(id)).filter(|view| wanted(view)));
        seen.unwrap_or_else(|| panic!("not within {PATIENT:?}: {what}; load {:?}; the rollout: {:#}", self.load.counts(), self.view(id)))
    }

    /// Waits until the rollout is over, which must be in this state.
    pub(super) fn wait_for_end(&self, id: &str, state: &str) -> Value {
        let view = self.wait_for(id, &format!("it is over and {state}"), |view| {
            assert!(view["over"] == false || view["state"] == state, "it ended otherwise: {view:#}");
            view["over"] == true
        });
        self.tell(&format!("rollout of {} is {state}", view["version"]));
        view
    }

    /// Waits for this weight of the canary, and checks that users get so much of the second Deployment.
    pub(super) fn assert_share(&self, id: &str, permille: u64, second_permille: u64) {
        self.wait_for(id, &format!("{permille} permille"), |view| {
            assert_eq!(view["over"], false, "over before {permille} permille: {view:#}");
            view["weight-seen-permille"] == permille
        });
        self.assert_share_now(second_permille);
    }

    /// Waits until the gateway gives the second Deployment so much, and checks that users do get it: within five standard deviations
    /// of a share of so many draws.
    pub(super) fn assert_share_now(&self, second_permille: u64) {
        self.wait_routed(second_permille);
        let (share, answers) = self.share_while(second_permille);
        let wanted = second_permille as f64 / 1000.0;
        let tolerance = 5.0 * (wanted * (1.0 - wanted) / answers as f64).sqrt();
        let percent = |share: f64| format!("{:.1}%", share * 100.0);
        self.tell(&format!("{} of {answers} answers are the second's, {} wanted", percent(share), percent(wanted)));
        assert!((share - wanted).abs() <= tolerance, "{share} instead of {wanted} of {answers} answers");
    }

    /// Waits until the gateway itself gives the second Deployment so much.
    pub(super) fn wait_routed(&self, second_permille: u64) {
        let routed = poll(PATIENT, || (self.second_permille() == Some(second_permille)).then_some(()));
        assert!(routed.is_some(), "the gateway gives the second {:?} and not {second_permille} permille", self.second_permille());
    }

    /// What the gateway gives the second Deployment, by its own account.
    pub(super) fn second_permille(&self) -> Option<u64> {
        let [first, second] = match self.form {
            Form::BlueGreen => self.endpoints(),
            _ => {
                let weights = self.gateway.weights();
                VERSIONS.map(|subset| weights.get(&cluster_of(SHOP, &self.namespace, 80, subset)).copied().unwrap_or(0))
            }
        };
        (first + second > 0).then(|| 1000 * second / (first + second))
    }

    /// How many endpoints of the Service are of each Deployment.
    fn endpoints(&self) -> [u64; 2] {
        let (clusters, cluster) = (self.gateway.clusters(), cluster_of(SHOP, &self.namespace, 80, ""));
        [0, 1].map(|i| {
            let of = format!("{cluster}::{}:", self.addresses[i].ip);
            clusters.lines().filter(|line| line.starts_with(&of) && line.ends_with("::health_flags::healthy")).count() as u64
        })
    }

    /// Share of the second Deployment's in the next answers, and of how many: fewer if the gateway's weight moves meanwhile.
    fn share_while(&self, second_permille: u64) -> (f64, u64) {
        // those under way may have been routed before it was so
        self.load.wait_for_those_under_way();
        let before = self.answers();
        let mut seen = [0, 0];
        poll(PATIENT, || {
            let now = self.answers();
            // looked at after the count: what was counted was routed by this weight
            let moved = self.second_permille() != Some(second_permille);
            if !moved {
                seen = [now[0] - before[0], now[1] - before[1]];
            }
            (moved || seen[0] + seen[1] >= ANSWERS).then_some(())
        });
        let answers = seen[0] + seen[1];
        assert!(answers >= ANSWERS_MIN, "only {answers} answers at {second_permille} permille: {:?}", self.load.counts());
        (seen[1] as f64 / answers as f64, answers)
    }

    /// Answers so far of what each Deployment has run.
    fn answers(&self) -> [u64; 2] {
        let counts = self.load.counts();
        let of = |release: &Release| counts.by_version.get(release.version).copied().unwrap_or(0);
        [0, 1].map(|i| self.releases[i].iter().map(of).sum())
    }

    /// Statuses users saw.
    pub(super) fn statuses(&self) -> Vec<u16> {
        self.load.counts().by_status.keys().copied().collect()
    }

    /// An object of the namespace.
    pub(super) fn object(&self, kind: &str, name: &str) -> Value {
        let text = self.plane.kubectl(&["get", kind, name, "-n", &self.namespace, "-o", "json"]);
        serde_json::from_str(&text).expect("JSON")
    }

    /// A Deployment's pod template as it is.
    pub(super) fn template(&self, position: usize) -> Value {
        self.object("deployment", &deployment(position))["spec"]["template"].clone()
    }

    /// Waits until an object is as wanted, and gives it.
    ///
    /// # Panics
    /// If it is not in time.
    pub(super) fn wait_object(&self, kind: &str, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let seen = poll(PATIENT, || Some(self.object(kind, name)).filter(|object| wanted(object)));
        let object = seen.unwrap_or_else(|| panic!("{kind} {name} not within {PATIENT:?}: {what}: {:#}", self.object(kind, name)));
        self.tell(what);
        object
    }

    /// Weights as they are in the VirtualService.
    pub(super) fn weights(&self) -> [u64; 2] {
        let object = self.object("virtualservice", SHOP);
        [0, 1].map(|i| object["spec"]["http"][0]["route"][i]["weight"].as_u64().unwrap_or_else(|| panic!("no weight in {object:#}")))
    }

    /// Ends the daemon as an operator would, and decides every rollout of its journal again.
    ///
    /// # Panics
    /// If it does not end well, complained of itself, or a decision is not made again.
    pub(super) fn close(mut self) {
        self.daemon.ends_well();
        self.tell("closed, and every decision made again from the journal");
    }
}

/// What Prometheus scrapes: the gateway, and each process, labelled with the Deployment whose pods it is.
fn jobs(gateway: &Gateway, releases: &[Vec<Release>; 2]) -> Vec<Job> {
    let of = |position: usize, release: &Release| {
        let name = format!("{}-{}", VERSIONS[position], release.version);
        Job::new(&name, release.service.port, "/metrics", &[("deployment", &deployment(position))])
    };
    let apps = releases.iter().enumerate().flat_map(|(position, all)| all.iter().map(move |release| of(position, release)));
    [Job::new("gateway", gateway.admin, "/stats/prometheus", &[])].into_iter().chain(apps).collect()
}

/// The address of its pods, by which Deployment they are of.
fn annotations(addresses: &[PodAddress]) -> Value {
    let of = |(version, address): (&&str, &PodAddress)| (format!("sim/pod-ip-{version}"), address.ip.to_string().into());
    Value::Object(VERSIONS.iter().zip(addresses).map(of).collect())
}

fn await_scrapes(prometheus: &Prometheus, namespace: &str, form: Form) {
    let subset = if form == Form::BlueGreen { "" } else { VERSIONS[0] };
    let cluster = cluster_of(SHOP, namespace, 80, subset);
    let query = format!(r#"sum(count_over_time(envoy_cluster_upstream_rq{{cluster_name="{cluster}"}}[1m]))"#);
    let seen = poll(Duration::from_secs(60), || prometheus.value(&query).filter(|n| *n >= 4.0));
    let all = || prometheus.instant(r#"{__name__=~"envoy_cluster_upstream_rq.*"}"#, None);
    assert!(seen.is_some(), "Prometheus does not see requests of {cluster}: {:#?}", all());
}

/// The daemon with the shipped settings, but for addresses, paths and the time scale; as the shipped service account, which has the
/// shipped rights in this namespace.
fn daemon_of(plane: &ControlPlane, folder: &TempDir, namespace: &str, prometheus: &Prometheus, rule: String) -> Daemon {
    plane.kubectl(&["apply", "-k", &shipped("kubernetes")]);
    plane.kubectl(&["apply", "-n", namespace, "-k", &shipped("kubernetes/namespace")]);
    let text = std::fs::read_to_string(shipped("kubernetes/base/canaryd.yaml")).expect("it is shipped");
    let mut settings: Value = serde_saphyr::from_str(&text).expect("YAML");
    for own in ["listen", "data", "rules", "tokens", "sources"] {
        assert!(settings.as_object_mut().expect("a map").remove(own).is_some(), "{own} is not in the shipped settings");
    }
    // rules that are objects would be those of other tests too: this daemon would complain of their slips and tell them its own mind
    settings["cluster"] = json!({"kubeconfig": plane.kubeconfig_of("canaryd", "canaryd"), "resources": false});
    let told = daemon::Settings { source: prometheus.url(), time_scale: TIME_SCALE, rule };
    Daemon::start_with(&folder.path().join("canaryd"), ports::free(), &told, &settings)
}
