//! Two real binaries on one journal, and a Lease that says which of them acts.

use super::proxy::Proxy;
use super::rights::{shipped as shipped_role, shipped_for_the_lease};
use super::scene::{self, Scene, ask, blocking};
use crate::rig::endpoint::standing_page;
use crate::rig::http::{self, Request};
use crate::rig::kubernetes::{self, ControlPlane, client_of};
use crate::rig::process::Process;
use crate::rig::{measured, poll, ports};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

mod standby;

const TOKEN: &str = "operator-token-of-the-tests-0001";
/// What the lease lasts, and what follows: looking every two seconds, starting, and a machine with much to do.
const TAKEN_OVER_MAX: Duration = Duration::from_secs(60);
const LEASE_LASTS: Duration = Duration::from_secs(15);
/// Of a daemon that lost its lease.
const LEASE_LOST: i32 = 4;

/// What both share: the journal, the rule, and a page with counters that stand still.
pub(super) struct Shared {
    pub(super) folder: TempDir,
    namespace: String,
    page: u16,
}

impl Shared {
    pub(super) async fn new(scene: &Scene) -> Self {
        let page = standing_page().await;
        let shared = Self { folder: tempfile::tempdir().unwrap(), namespace: scene.namespace.clone(), page };
        let tokens = shared.folder.path().join("tokens");
        fs::write(&tokens, format!("tests:operator:{TOKEN}\n")).unwrap();
        fs::set_permissions(&tokens, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(shared.folder.path().join("rule.yaml"), shared.rule()).unwrap();
        shared
    }

    pub(super) fn rule(&self) -> String {
        format!(
            "rule: shop
workloads: {{ namespace: {}, pair: [ {{ cluster: v1, subset: v1 }}, {{ cluster: v2, subset: v2 }} ] }}
telemetry: [ envoy ]
interval: 500ms
traffic: {{ istio: {{ virtual-service: shop, route: primary }} }}
promotion: swap
drain: 1h
steps: [ {{ weight: 50%, for: 1h }}, {{ weight: 100%, bake: 1h }} ]
metrics:
  error-rate: {{ tolerate: {{ relative: 20%, absolute: 0.5% }} }}
",
            self.namespace
        )
    }
}

/// One of the two.
pub(super) struct One {
    pub(super) process: Process,
    settings: PathBuf,
    log: PathBuf,
    port: u16,
}

impl One {
    fn start(shared: &Shared, name: &str, kubeconfig: &Path) -> Self {
        Self::start_with(shared, name, &elects(shared, kubeconfig))
    }

    /// The same with these settings of the cluster; it stands by only where they name an election.
    pub(super) fn start_with(shared: &Shared, name: &str, cluster: &Value) -> Self {
        Self::start_on(shared, name, cluster, "data")
    }

    /// The same with a journal in this folder.
    fn start_on(shared: &Shared, name: &str, cluster: &Value, data: &str) -> Self {
        Self::start_told(shared, name, cluster, data, &[])
    }

    /// The same with these variables of its environment.
    fn start_told(shared: &Shared, name: &str, cluster: &Value, data: &str, environment: &[(&str, &str)]) -> Self {
        let (folder, port) = (shared.folder.path(), ports::free());
        let settings = json!({
            "listen": format!("127.0.0.1:{port}"),
            "data": folder.join(data),
            "rules": [folder.join("rule.yaml")],
            "tokens": folder.join("tokens"),
            "sources": { "main": { "scrape": { "urls": [format!("http://127.0.0.1:{}/metrics", shared.page)] } } },
            "cluster": cluster,
        });
        let (file, log) = (folder.join(format!("{name}.yaml")), folder.join(format!("{name}.log")));
        fs::write(&file, settings.to_string()).unwrap();
        let election = cluster.get("leader_election").is_some();
        Self { process: launch(&file, &log, election, environment), settings: file, log, port }
    }

    /// As a kubelet would.
    fn start_again(&mut self) {
        self.process = launch(&self.settings, &self.log, true, &[]);
    }

    fn status(&self, path: &str) -> Option<u16> {
        http::get(self.port, path, Duration::from_secs(10)).ok().map(|answer| answer.status)
    }

    fn is_ready(&self) -> bool {
        self.status("/readyz") == Some(200)
    }

    /// Waits until it is ready; how long that took.
    pub(super) fn until_ready(&self) -> Duration {
        let begun = Instant::now();
        let ready = poll(TAKEN_OVER_MAX, || self.is_ready().then_some(()));
        assert!(ready.is_some(), "not ready within {TAKEN_OVER_MAX:?}:\n{}", self.process.log());
        begun.elapsed()
    }

    /// Waits until it answers that it is alive, and is not ready.
    fn until_standby(&self) {
        let answers = |path, status| poll(TAKEN_OVER_MAX, || (self.status(path) == Some(status)).then_some(()));
        assert!(answers("/healthz", 200).is_some() && answers("/readyz", 503).is_some(), "{}", self.process.log());
    }

    /// Waits until it has ended; with which code.
    fn until_ended(&mut self, most: Duration) -> Option<i32> {
        poll(most, || self.process.ended()).and_then(|status| status.code())
    }

    pub(super) fn send(&self, method: &str, path: &str, body: &str) -> http::Response {
        let authorization = format!("Bearer {TOKEN}");
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        http::send(self.port, &Request { method, path, headers: &headers, body: body.as_bytes() }, Duration::from_secs(60)).unwrap()
    }

    /// What `canaryd status` prints.
    pub(super) fn status_page(&self) -> String {
        let token = self.settings.with_extension("token");
        fs::write(&token, TOKEN).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_canaryd"));
        command.arg("status").env("CANARYD_SERVER", format!("http://127.0.0.1:{}", self.port)).env("CANARYD_TOKEN_FILE", token);
        let output = command.output().expect("it runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn start_rollout(&self) {
        let answer = self.send("POST", "/api/v1/rules/shop/start", "{\"version\": \"2\"}");
        assert!((200..300).contains(&answer.status), "{}", answer.text());
    }

    fn rollout(&self) -> Value {
        self.send("GET", "/api/v1/rollouts/shop-1", "").json()
    }
}

fn elects(shared: &Shared, kubeconfig: &Path) -> Value {
    let election = json!({ "enabled": false, "namespace": shared.namespace });
    json!({ "kubeconfig": kubeconfig, "resources": false, "leader_election": election })
}

/// A service account with what is shipped for a second process that stands by, and for what the rule routes by; no more.
async fn account(plane: &'static ControlPlane, scene: &Scene) -> PathBuf {
    let namespace = scene.namespace.clone();
    let rules: Value =
        [shipped_for_the_lease(), shipped_role("route-write")].iter().flat_map(|rules| rules.as_array().cloned().unwrap()).collect();
    blocking(move || plane.service_account(&namespace, "canaryd", &rules)).await
}

/// A proxy that asks as this account.
async fn proxy(plane: &'static ControlPlane, account: &Path) -> Proxy {
    Proxy::start_as(plane, client_of(account).await).await
}

/// The flag turns on what the settings describe.
fn launch(settings: &Path, log: &Path, election: bool, environment: &[(&str, &str)]) -> Process {
    let mut arguments: Vec<OsString> = vec!["run".into(), "--config".into(), settings.into()];
    arguments.extend(election.then(|| "--leader-election".into()));
    Process::spawn_with("canaryd", Path::new(env!("CARGO_BIN_EXE_canaryd")), &arguments, environment, log)
}

async fn until_numbers(scene: &Scene, wanted: [u64; 2]) {
    let begun = Instant::now();
    while scene.numbers(&scene.object().await) != wanted {
        assert!(begun.elapsed() < TAKEN_OVER_MAX, "not {wanted:?} within {TAKEN_OVER_MAX:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn lease(scene: &Scene) -> Value {
    lease_object(scene).await["spec"].clone()
}

async fn lease_object(scene: &Scene) -> Value {
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases/canaryd", scene.namespace);
    ask(&scene.admin, "GET", &path, None).await.1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_takes_over_from_one_that_was_killed_and_at_once_from_one_that_was_stopped() {
    let Some(plane) = kubernetes::shared().await else { return };
    let scene = Scene::set(plane, scene::istio(), "lease-killed").await;
    let shared = Shared::new(&scene).await;
    let kubeconfig = account(plane, &scene).await;
    let (first, second) = blocking(move || {
        let first = One::start(&shared, "first", &kubeconfig);
        first.until_ready();
        let second = One::start(&shared, "second", &kubeconfig);
        second.until_standby();
        let refused = || second.send("POST", "/api/v1/rules/shop/start", "{}");
        let said = poll(TAKEN_OVER_MAX, || Some(refused()).filter(|answer| answer.text().contains("held by")));
        assert!(said.is_some_and(|answer| answer.status == 503), "{}", refused().text());
        first.start_rollout();
        ((first, shared), second)
    })
    .await;
    until_numbers(&scene, [50, 50]).await;
    assert_eq!(lease(&scene).await["leaseTransitions"], 0);
    let ((mut first, shared), second) = (first, second);
    let (first, second) = blocking(move || {
        second.until_standby();
        first.process.kill();
        (first, second)
    })
    .await;
    let left = lease(&scene).await;
    let (mut first, second, took) = blocking(move || {
        let took = second.until_ready();
        (first, second, took)
    })
    .await;
    measured(&format!("taken over {took:?} after kill -9"));
    let now = lease(&scene).await;
    let time = |of: &Value, field: &str| of[field].as_str().expect("a time").parse::<jiff::Timestamp>().expect("RFC 3339");
    let alone = time(&now, "acquireTime").duration_since(time(&left, "renewTime"));
    assert!(alone >= LEASE_LASTS.try_into().unwrap(), "taken {alone:?} after it was renewed: it was still the other's; {left} {now}");
    assert!(now["leaseTransitions"] == 1 && now["leaseDurationSeconds"] == 15, "{now}");
    assert_eq!(scene.numbers(&scene.object().await), [50, 50]);
    let first = blocking(move || {
        let rollout = second.rollout();
        assert_eq!(rollout["state"], "progressing", "{rollout}");
        first.start_again();
        first.until_standby();
        let mut second = second;
        let status = second.process.stop();
        assert!(status.success(), "{status}");
        first
    })
    .await;
    // nobody else may have had it by now, had it not been given back
    assert_ne!(lease(&scene).await["holderIdentity"], now["holderIdentity"], "it was not released");
    let took = blocking(move || {
        let took = first.until_ready();
        let rollout = first.rollout();
        assert_eq!(rollout["state"], "progressing", "{rollout}");
        drop(shared);
        took
    })
    .await;
    measured(&format!("taken over {took:?} after a stop"));
    assert_eq!(lease(&scene).await["leaseTransitions"], 2);
}

/// The first is cut off from its lease alone: it could go on writing weights, and another hand that gives the canary traffic while
/// it rolls back gives it cause to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_cannot_renew_its_lease_is_still_before_the_other_writes() {
    let Some(plane) = kubernetes::shared().await else { return };
    let scene = Scene::set(plane, scene::istio(), "lease-cut").await;
    let shared = Shared::new(&scene).await;
    let account = account(plane, &scene).await;
    let (one, other) = (proxy(plane, &account).await, proxy(plane, &account).await);
    let (by_one, by_other) = (one.kubeconfig.clone(), other.kubeconfig.clone());
    let (first, second, _shared) = blocking(move || {
        let first = One::start(&shared, "first", &by_one);
        first.until_ready();
        let second = One::start(&shared, "second", &by_other);
        second.until_standby();
        first.start_rollout();
        (first, second, shared)
    })
    .await;
    until_numbers(&scene, [50, 50]).await;
    let first = blocking(move || {
        let answer = first.send("POST", "/api/v1/rollouts/shop-1/rollback", "{}");
        assert!((200..300).contains(&answer.status), "{}", answer.text());
        first
    })
    .await;
    until_numbers(&scene, [100, 0]).await;
    drop(one.passed());
    let fight = {
        let (client, path, takes) = (scene.admin.clone(), scene.path.clone(), scene.case.takes.clone());
        tokio::spawn(async move {
            loop {
                scene::edit(&client, &path, &takes).await;
                tokio::time::sleep(Duration::from_millis(700)).await;
            }
        })
    };
    while one.passed().is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let cut = Instant::now();
    one.silence("/leases/");
    let (first_ended, second) = blocking(move || {
        let mut first = first;
        let code = first.until_ended(TAKEN_OVER_MAX);
        assert_eq!(code, Some(LEASE_LOST), "{}", first.process.log());
        assert!(first.process.log().contains("could not be renewed for 10 s"), "{}", first.process.log());
        let ended = Instant::now();
        second.until_ready();
        (ended, second)
    })
    .await;
    let writes = one.passed_at();
    let last = writes.iter().map(|(_, at)| *at).max().expect("it wrote on after the cut");
    measured(&format!("last write {:?} after the cut, ended after {:?}", last - cut, first_ended - cut));
    assert!(last > cut, "it gave up at once, which shows nothing");
    assert!(last - cut < LEASE_LASTS, "it wrote on for {:?}", last - cut);
    let by_second = loop {
        if let Some((_, at)) = other.passed_at().first() {
            break *at;
        }
        assert!(cut.elapsed() < TAKEN_OVER_MAX, "the second never wrote: {}", second.process.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    measured(&format!("the second's first write {:?} after the cut", by_second - cut));
    assert!(last < by_second && one.passed_at().is_empty(), "both wrote");
    fight.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_is_away_stops_both_and_then_one_goes_on() {
    let Some(plane) = kubernetes::shared().await else { return };
    let scene = Scene::set(plane, scene::istio(), "lease-away").await;
    let shared = Shared::new(&scene).await;
    let proxy = proxy(plane, &account(plane, &scene).await).await;
    let kubeconfig = proxy.kubeconfig.clone();
    let (mut first, mut second, _shared) = blocking(move || {
        let first = One::start(&shared, "first", &kubeconfig);
        first.until_ready();
        let second = One::start(&shared, "second", &kubeconfig);
        second.until_standby();
        first.start_rollout();
        (first, second, shared)
    })
    .await;
    until_numbers(&scene, [50, 50]).await;
    let before = scene.object().await;
    proxy.set_down(true);
    let away = Instant::now();
    let (first, second) = blocking(move || {
        let code = first.until_ended(TAKEN_OVER_MAX);
        assert_eq!(code, Some(LEASE_LOST), "{}", first.process.log());
        first.start_again();
        first.until_standby();
        std::thread::sleep(Duration::from_secs(20).saturating_sub(away.elapsed()));
        assert!(!first.is_ready() && !second.is_ready());
        second.process.assert_alive();
        (first, second)
    })
    .await;
    proxy.set_down(false);
    let begun = Instant::now();
    let ready = loop {
        let ready = [first.is_ready(), second.is_ready()];
        if ready != [false; 2] {
            break ready;
        }
        assert!(begun.elapsed() < TAKEN_OVER_MAX, "neither goes on");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    measured(&format!("one goes on {:?} after the API server is back", begun.elapsed()));
    assert_ne!(ready, [true; 2]);
    let goes_on = if ready[0] { &first } else { &second };
    assert_eq!(goes_on.rollout()["state"], "progressing");
    assert_eq!(scene.object().await["spec"], before["spec"]);
}

/// The journal's lock keeps two processes of one machine apart. So the second has what a volume has that was taken to another machine:
/// all that was on disk, and no lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_was_stopped_whole_writes_nothing_when_it_goes_on() {
    let Some(plane) = kubernetes::shared().await else { return };
    let scene = Scene::set(plane, scene::istio(), "lease-frozen").await;
    let shared = Shared::new(&scene).await;
    let account = account(plane, &scene).await;
    let (one, other) = (proxy(plane, &account).await, proxy(plane, &account).await);
    let (by_one, by_other) = (one.kubeconfig.clone(), other.kubeconfig.clone());
    let (first, shared) = blocking(move || {
        let first = One::start(&shared, "first", &by_one);
        first.until_ready();
        first.start_rollout();
        (first, shared)
    })
    .await;
    until_numbers(&scene, [50, 50]).await;
    let frozen = Instant::now();
    let (first, second, shared) = blocking(move || {
        let mut first = first;
        first.process.signal(Signal::STOP);
        let (from, to) = (shared.folder.path().join("data"), shared.folder.path().join("moved"));
        fs::create_dir(&to).unwrap();
        for file in fs::read_dir(from).unwrap().map(|file| file.unwrap()) {
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
        let second = One::start_on(&shared, "second", &elects(&shared, &by_other), "moved");
        second.until_ready();
        assert_eq!(second.rollout()["state"], "progressing", "{}", second.process.log());
        let answer = second.send("POST", "/api/v1/rollouts/shop-1/rollback", "{}");
        assert!((200..300).contains(&answer.status), "{}", answer.text());
        (first, second, shared)
    })
    .await;
    measured(&format!("taken over {:?} after it was stopped whole", frozen.elapsed()));
    until_numbers(&scene, [100, 0]).await;
    assert!(frozen.elapsed() > LEASE_LASTS);
    let before = scene.object().await;
    drop(one.passed());
    let thawed = Instant::now();
    let (first, second, _shared) = blocking(move || {
        let mut first = first;
        first.process.signal(Signal::CONT);
        let code = first.until_ended(TAKEN_OVER_MAX);
        assert_eq!(code, Some(LEASE_LOST), "{}", first.process.log());
        (first, second, shared)
    })
    .await;
    measured(&format!("ended {:?} after it went on", thawed.elapsed()));
    assert!(one.passed().is_empty(), "{}", first.process.log());
    assert_eq!(scene.object().await, before);
    blocking(move || second.until_ready()).await;
    assert_eq!(lease(&scene).await["leaseTransitions"], 1);
}

/// Nothing but the Role of the Lease is taken away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_may_not_be_written_is_named() {
    let Some(plane) = kubernetes::shared().await else { return };
    let scene = Scene::set(plane, scene::istio(), "lease-denied").await;
    let shared = Shared::new(&scene).await;
    let kubeconfig = account(plane, &scene).await;
    blocking(move || {
        let mut one = One::start(&shared, "one", &kubeconfig);
        one.until_ready();
        plane.kubectl(&["delete", "rolebinding", "canaryd", "-n", "lease-denied"]);
        let code = one.until_ended(TAKEN_OVER_MAX);
        let said = "needs the permission to update leases.coordination.k8s.io in namespace lease-denied";
        let log = one.process.log();
        assert!(code == Some(LEASE_LOST) && log.contains("could not be renewed for 10 s") && log.contains(said), "{code:?} {log}");
        one.start_again();
        one.until_standby();
        let asked = || one.send("POST", "/api/v1/rules/shop/start", "{}");
        let said = "needs the permission to get leases.coordination.k8s.io in namespace lease-denied";
        let answer = poll(TAKEN_OVER_MAX, || Some(asked()).filter(|answer| answer.text().contains(said)));
        assert!(answer.is_some_and(|answer| answer.status == 503), "{}", asked().text());
    })
    .await;
}
