//! What every scenario stands on: releases that are processes, Deployments that stand for them, a mesh that sends users to them, a
//! Prometheus that counts at the gateway, and the daemon with the shipped settings and the shipped rights.

use crate::kubernetes::shipped;
use crate::rig::addresses::PodAddress;
use crate::rig::daemon::{self, Daemon};
use crate::rig::istio::{Gateway, Istiod, cluster_of};
use crate::rig::kubernetes::{self, ControlPlane};
use crate::rig::load::{self, Load};
use crate::rig::prometheus::{Job, Prometheus};
use crate::rig::service::{Behaviour, Service};
use crate::rig::{poll, ports};
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};
use std::io::Write;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest one scenario may take; the load ends by itself then.
const SCENARIO_MAX: Duration = Duration::from_secs(400);
/// Long enough for any next step of a scenario.
pub(super) const PATIENT: Duration = Duration::from_secs(120);
/// Name of the rule, the Service, the VirtualService, and of what is before the version in a Deployment's name.
const SHOP: &str = "shop";
/// Requests of users per second.
const RATE_PER_S: u32 = 100;
/// Answers of which a share is taken, and the fewest of which it may be.
const ANSWERS: u64 = 400;
const ANSWERS_MIN: u64 = 100;
/// How much faster the method's clock runs.
const TIME_SCALE: u32 = 30;

/// One at a time: each needs a whole machine's patience.
static ONE: Mutex<()> = Mutex::new(());

/// A release: what its pods run.
pub(super) struct Release {
    version: &'static str,
    service: Service,
    address: PodAddress,
}

impl Release {
    fn start(version: &'static str) -> Option<Self> {
        let address = PodAddress::claim()?;
        Some(Self { version, service: Service::start_on(address.ip, version), address })
    }

    /// The container of its pods, which listen where its process does.
    fn container(&self) -> Value {
        json!({"name": SHOP, "image": format!("registry.example/{SHOP}:{}", self.version),
            "ports": [{"name": "http", "containerPort": self.service.port}],
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}}})
    }

    fn annotations(&self) -> Value {
        json!({"sim/pod-ip": self.address.ip.to_string()})
    }
}

/// Everything, standing. Fields are dropped in this order: who asks goes before who answers.
pub(super) struct Stage {
    pub(super) daemon: Daemon,
    load: Load,
    _prometheus: Prometheus,
    pub(super) gateway: Gateway,
    releases: Vec<Release>,
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
    /// Which releases the two Deployments run at first.
    pub(super) releases: [&'static str; 2],
    /// Replicas of each.
    pub(super) replicas: u32,
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
        let releases = scene.releases.map(Release::start);
        let releases: Vec<Release> = releases.into_iter().collect::<Option<_>>()?;
        let folder = tempfile::tempdir().expect("a folder");
        let namespace = plane.namespace(scene.name);
        let mut gateway = Gateway::start(&folder.path().join("gateway"), istiod, &namespace)?;
        plane.apply(&objects(&namespace, &gateway, &releases, scene.replicas));
        gateway.wait_open();
        let job = Job::new("gateway", gateway.admin, "/stats/prometheus", &[]);
        let prometheus = Prometheus::start(&folder.path().join("prometheus"), &[job])?;
        let load = load::Settings { port: gateway.listener, rate_per_s: RATE_PER_S, timeout: Duration::from_secs(2), lasts: SCENARIO_MAX };
        let load = Load::start(load);
        await_scrapes(&prometheus, &namespace);
        let daemon = daemon_of(plane, &folder, &namespace, &prometheus, scene.rule);
        let stage = Self { daemon, load, _prometheus: prometheus, gateway, releases, plane, namespace, _folder: folder, begun, _one: one };
        stage.tell("everything stands");
        Some(stage)
    }

    /// Says how far the scenario is, and when, to whoever runs the tests.
    pub(super) fn tell(&self, what: &str) {
        let _ = writeln!(std::io::stderr(), "{:>6.1} s  {}: {what}", self.begun.elapsed().as_secs_f64(), self.namespace);
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

    /// Waits for this weight of the canary, which is the second Deployment or the first, and checks that users get so much of it.
    pub(super) fn assert_share(&self, id: &str, second_is_canary: bool, permille: u64) {
        self.wait_for(id, &format!("{permille} permille"), |view| {
            assert_eq!(view["over"], false, "over before {permille} permille: {view:#}");
            view["weight-seen-permille"] == permille
        });
        self.assert_share_now(if second_is_canary { permille } else { 1000 - permille });
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
        let weights = self.gateway.weights();
        let of = |subset: &str| weights.get(&cluster_of(SHOP, &self.namespace, 80, subset)).copied().unwrap_or(0);
        let total = of("v1") + of("v2");
        (total > 0).then(|| 1000 * of("v2") / total)
    }

    /// Share of the second Deployment's in the next answers, and of how many: fewer if the gateway's weight moves meanwhile.
    fn share_while(&self, second_permille: u64) -> (f64, u64) {
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

    /// Answers so far of what each Deployment runs now.
    fn answers(&self) -> [u64; 2] {
        let counts = self.load.counts();
        [0, 1].map(|i| counts.by_version.get(self.releases[i].version).copied().unwrap_or(0))
    }

    /// Statuses users saw.
    pub(super) fn statuses(&self) -> Vec<u16> {
        self.load.counts().by_status.keys().copied().collect()
    }

    /// How the process of what the Deployment of this position runs behaves from now on.
    pub(super) fn behave(&self, position: usize, behaviour: Behaviour) {
        self.releases[position].service.behave(behaviour);
    }

    /// An object of the namespace.
    pub(super) fn object(&self, kind: &str, name: &str) -> Value {
        let text = self.plane.kubectl(&["get", kind, name, "-n", &self.namespace, "-o", "json"]);
        serde_json::from_str(&text).expect("JSON")
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
        let rollouts = self.daemon.get("/api/v1/rollouts");
        assert!(self.daemon.stop().success());
        let log = self.daemon.process().log();
        let bad = |line: &&str| line.contains("panicked") || line.contains(r#""level":"ERROR""#);
        assert_eq!(log.lines().find(bad), None, "{log}");
        for rollout in rollouts["rollouts"].as_array().map(Vec::as_slice).unwrap_or_default() {
            let id = rollout["id"].as_str().expect("a name");
            let replayed = self.daemon.client(&["replay", id, "--data", &self.daemon.data().display().to_string()]);
            assert!(replayed.status.success(), "{replayed:?}");
        }
        self.tell("closed, and every decision made again from the journal");
    }
}

fn await_scrapes(prometheus: &Prometheus, namespace: &str) {
    let cluster = cluster_of(SHOP, namespace, 80, "v1");
    let query = format!(r#"sum(count_over_time(envoy_cluster_upstream_rq{{cluster_name="{cluster}"}}[1m]))"#);
    let seen = poll(Duration::from_secs(60), || prometheus.value(&query).filter(|n| *n >= 4.0));
    let all = || prometheus.instant(r#"{__name__=~"envoy_cluster_upstream_rq.*"}"#, None);
    assert!(seen.is_some(), "Prometheus does not see requests of {cluster}: {:#?}", all());
}

/// The daemon with the shipped settings, but for addresses, paths and the time scale; as the shipped service account, which has the
/// shipped rights in this namespace.
fn daemon_of(plane: &ControlPlane, folder: &TempDir, namespace: &str, prometheus: &Prometheus, rule: &str) -> Daemon {
    plane.kubectl(&["apply", "-k", &shipped("kubernetes")]);
    plane.kubectl(&["apply", "-n", namespace, "-k", &shipped("kubernetes/namespace")]);
    let text = std::fs::read_to_string(shipped("kubernetes/base/canaryd.yaml")).expect("it is shipped");
    let mut settings: Value = serde_saphyr::from_str(&text).expect("YAML");
    for own in ["listen", "data", "rules", "tokens", "sources"] {
        assert!(settings.as_object_mut().expect("a map").remove(own).is_some(), "{own} is not in the shipped settings");
    }
    settings["cluster"] = json!({"kubeconfig": plane.kubeconfig_of("canaryd", "canaryd")});
    let told = daemon::Settings { source: prometheus.url(), time_scale: TIME_SCALE, rule: rule_of(namespace, rule) };
    Daemon::start_with(&folder.path().join("canaryd"), ports::free(), &told, &settings)
}

fn rule_of(namespace: &str, rest: &str) -> String {
    let workload = |version: &str| {
        let cluster = cluster_of(SHOP, namespace, 80, version);
        format!("{{ deployment: {SHOP}-{version}, subset: {version}, cluster: '{cluster}' }}")
    };
    format!(
        "rule: {SHOP}
workloads: {{ namespace: {namespace}, pair: [ {}, {} ] }}
telemetry: [ {{ pack: envoy, params: {{ cluster-label: cluster_name, code-label: response_code }} }} ]
interval: 1s
traffic: {{ istio: {{ virtual-service: {SHOP}, route: primary }} }}
{rest}",
        workload("v1"),
        workload("v2")
    )
}

fn objects(namespace: &str, gateway: &Gateway, releases: &[Release], replicas: u32) -> Value {
    let named = |name: &str| json!({"name": name, "namespace": namespace});
    let host = format!("{SHOP}.{namespace}.svc.cluster.local");
    let to = |subset: &str, weight: u64| json!({"destination": {"host": host, "subset": subset}, "weight": weight});
    let subset = |name: &str| json!({"name": name, "labels": {"version": name}});
    let http = json!([{"name": "primary", "route": [to("v1", 100), to("v2", 0)]}]);
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": named(SHOP),
        "spec": {"selector": {"app": SHOP}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}});
    let istio =
        |kind: &str, spec: Value| json!({"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": named(SHOP), "spec": spec});
    let mut items = vec![
        service,
        gateway.object(),
        istio("DestinationRule", json!({"host": host, "subsets": [subset("v1"), subset("v2")]})),
        istio("VirtualService", json!({"hosts": ["*"], "gateways": ["gateway"], "http": http})),
    ];
    items.extend(["v1", "v2"].into_iter().zip(releases).map(|(version, release)| deployment(namespace, version, release, replicas)));
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

fn deployment(namespace: &str, version: &str, release: &Release, replicas: u32) -> Value {
    let labels = json!({"app": SHOP, "version": version});
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
    "metadata": {"name": format!("{SHOP}-{version}"), "namespace": namespace},
    "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": {
        "metadata": {"labels": labels, "annotations": release.annotations()},
        "spec": {"containers": [release.container()]},
    }}})
}
