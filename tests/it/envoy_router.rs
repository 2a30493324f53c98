//! The Envoy router against a real Envoy, with real traffic counted.

use canaryd::model::rule::{EnvoyRoute, EnvoyWrite, Traffic};
use canaryd::model::{Retry, Side, TrafficReading, Weight};
use canaryd::router::{self, Desired, Means, Router, RouterError};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// For everything that must happen soon.
const SOON: Duration = Duration::from_secs(60);

/// The binary, or `None` after a printed line; with `CI=true` it must be there.
#[allow(clippy::print_stdout)]
fn binary() -> Option<PathBuf> {
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    let pythons = fs::read_dir(home.join(".cache/canaryd-rig/venv/lib")).into_iter().flatten().flatten();
    let in_rig = pythons.map(|p| p.path().join("site-packages/envoy/_bin/envoy"));
    let on_path = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).map(|p| p.join("envoy")).collect::<Vec<_>>());
    let found = in_rig.chain(on_path.into_iter().flatten()).find(|p| p.is_file());
    if found.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "no envoy in ~/.cache/canaryd-rig or on PATH: run tests/run once");
        println!("skipped: no envoy in ~/.cache/canaryd-rig or on PATH");
    }
    found
}

/// A backend that answers every request 200, and counts.
async fn backend() -> (u16, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer_all(stream, Arc::clone(&counted)));
        }
    });
    (port, count)
}

async fn answer_all(mut stream: TcpStream, count: Arc<AtomicU64>) {
    let mut seen = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(read) = stream.read(&mut chunk).await {
        seen.extend_from_slice(&chunk[..read]);
        while let Some(end) = seen.windows(4).position(|w| w == b"\r\n\r\n") {
            seen.drain(..end + 4);
            count.fetch_add(1, Ordering::Relaxed);
            if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_err() {
                return;
            }
        }
        if read == 0 {
            return;
        }
    }
}

/// A running Envoy between its users and two backends, `v1` and `v2`.
struct Rig {
    envoy: Child,
    folder: tempfile::TempDir,
    admin: String,
    users: String,
    hits: [Arc<AtomicU64>; 2],
    client: reqwest::Client,
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.envoy.kill();
        let _ = self.envoy.wait();
    }
}

fn cluster(name: &str, port: u16) -> Value {
    let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    json!({"name": name, "type": "STATIC", "connect_timeout": "1s", "load_assignment": {
        "cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}})
}

fn routes(weighted: Value) -> Value {
    json!({"name": "main", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
        {"match": {"prefix": "/"}, "route": {"timeout": "5s", "weighted_clusters": weighted}}]}]})
}

fn weighted(first: u64, second: u64) -> Value {
    json!({"clusters": [{"name": "v1", "weight": first}, {"name": "v2", "weight": second}]})
}

/// A route file as an operator would write it: without `validate_clusters`.
fn route_file(weighted: Value) -> Value {
    let mut configuration = routes(weighted);
    configuration["@type"] = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration".into();
    json!({"version_info": "by-hand-1", "resources": [configuration]})
}

impl Rig {
    /// `None` if there is no Envoy here. Routes from the file `rds.json`.
    async fn with_file() -> Option<Self> {
        Self::start(|folder| {
            fs::write(folder.join("rds.json"), serde_json::to_vec_pretty(&route_file(weighted(100, 0))).unwrap()).unwrap();
            let source = json!({"path": folder.join("rds.json"), "watched_directory": {"path": folder}});
            let rds = json!({"route_config_name": "main", "config_source": {"resource_api_version": "V3", "path_config_source": source}});
            json!({"rds": rds})
        })
        .await
    }

    /// The same with routes in the configuration, and runtime keys.
    async fn with_keys() -> Option<Self> {
        let mut split = weighted(100, 0);
        split["runtime_key_prefix"] = "split".into();
        Self::start(|_| json!({"route_config": routes(split)})).await
    }

    async fn start(routes: impl FnOnce(&Path) -> Value) -> Option<Self> {
        let binary = binary()?;
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (backend().await, backend().await);
        canaryd::tls::install();
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(SOON).build().unwrap();
        let mut manager = routes(folder.path());
        let extension = "type.googleapis.com/envoy.extensions.filters";
        manager["@type"] = format!("{extension}.network.http_connection_manager.v3.HttpConnectionManager").into();
        manager["stat_prefix"] = "users".into();
        manager["http_filters"] =
            json!([{"name": "envoy.filters.http.router", "typed_config": {"@type": format!("{extension}.http.router.v3.Router")}}]);
        let any_port = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
        let chain = json!([{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}]);
        let boot = json!({
            "node": {"id": "test", "cluster": "test"}, "admin": {"address": any_port},
            "layered_runtime": {"layers": [{"name": "admin", "admin_layer": {}}]},
            "static_resources": {
                "listeners": [{"name": "users", "address": any_port, "filter_chains": chain}],
                "clusters": [cluster("v1", first.0), cluster("v2", second.0)]}});
        // the folder of the route file is watched: the rest lies beside it
        let own = folder.path().join("envoy");
        fs::create_dir(&own).unwrap();
        fs::write(own.join("boot.json"), boot.to_string()).unwrap();
        let log = fs::File::create(own.join("log")).unwrap();
        // it ends with the thread that starts it (prctl): the thread of this test lives as long as the test
        let envoy = Command::new(binary)
            .args(["--concurrency", "1", "-l", "warning", "--use-dynamic-base-id", "-c"])
            .arg(own.join("boot.json"))
            .arg("--admin-address-path")
            .arg(own.join("admin"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let hits = [first.1, second.1];
        let mut rig = Self { envoy, folder, admin: String::new(), users: String::new(), hits, client };
        rig.admin = rig
            .soon("admin address", async |rig| fs::read_to_string(rig.folder.path().join("envoy/admin")).ok().filter(|a| a.contains(':')))
            .await;
        rig.soon("ready", async |rig| (rig.get("/ready").await?.trim() == "LIVE").then_some(())).await;
        let listeners = rig.get("/listeners").await.unwrap();
        rig.users = listeners.trim().rsplit("::").next().unwrap().to_owned();
        rig.soon("users are served", async |rig| {
            rig.client.get(format!("http://{}/", rig.users)).send().await.ok()?.status().is_success().then_some(())
        })
        .await;
        Some(rig)
    }

    async fn get(&self, path: &str) -> Option<String> {
        self.client.get(format!("http://{}{path}", self.admin)).send().await.ok()?.text().await.ok()
    }

    async fn soon<T>(&self, what: &str, mut ask: impl AsyncFnMut(&Self) -> Option<T>) -> T {
        let until = Instant::now() + SOON;
        loop {
            if let Some(answer) = ask(self).await {
                return answer;
            }
            let log = || fs::read_to_string(self.folder.path().join("envoy/log")).unwrap_or_default();
            assert!(Instant::now() < until, "{what}: not within {SOON:?}; Envoy says: {}", log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("rds.json")
    }

    fn file_route(&self) -> EnvoyRoute {
        let by = EnvoyWrite::RouteFile { path: self.file(), stat_prefix: "users".to_owned(), route: "main".to_owned() };
        EnvoyRoute { admin: format!("http://{}", self.admin), by, clusters: ["v1".to_owned(), "v2".to_owned()] }
    }

    fn by_file(&self) -> Arc<dyn Router> {
        router::open(&Traffic::Envoy(self.file_route()), &Means::default()).unwrap()
    }

    /// As another hand does it well: a new file renamed over the old one.
    fn replace_file(&self, text: &str) {
        let beside = self.folder.path().join("theirs");
        fs::write(&beside, text).unwrap();
        fs::rename(beside, self.file()).unwrap();
    }

    /// How many of `requests` the second backend gets; all must be answered 200.
    async fn second_of(&self, requests: u64) -> u64 {
        let before = self.hits.each_ref().map(|h| h.load(Ordering::Relaxed));
        for _ in 0..requests {
            let answer = self.client.get(format!("http://{}/", self.users)).send().await.unwrap();
            assert_eq!(answer.status(), 200);
            answer.bytes().await.unwrap();
        }
        let [first, second] = [0, 1].map(|i| self.hits[i].load(Ordering::Relaxed) - before[i]);
        assert_eq!(first + second, requests);
        second
    }

    /// The share of real traffic is `weight`, within 5 sigma.
    async fn follows(&self, weight: Weight) {
        const REQUESTS: u64 = 600;
        let second = self.second_of(REQUESTS).await as f64;
        let expected = weight.share() * REQUESTS as f64;
        let sigma = (expected * (1.0 - weight.share())).sqrt();
        assert!((second - expected).abs() <= 5.0 * sigma, "{weight}: {second} of {REQUESTS}");
    }
}

fn weight(permille: u16) -> Weight {
    Weight::from_permille(permille).unwrap()
}

fn wish(permille: u16, generation: u64) -> Desired {
    Desired { canary: Side::Second, weight: weight(permille), generation }
}

#[tokio::test]
async fn every_weight_written_is_the_share_of_real_traffic() {
    let Some(rig) = Rig::with_file().await else { return };
    let envoy = rig.by_file();
    let first = envoy.read(Side::Second).await.unwrap();
    let by_hand = Some("another hand (version \"by-hand-1\")".to_owned());
    assert_eq!(first, TrafficReading::new(Weight::ZERO, None, by_hand));
    for (generation, permille) in (1..).zip([0, 50, 125, 500, 1000, 0]) {
        envoy.write(wish(permille, generation)).await.unwrap();
        let reading = envoy.read(Side::Second).await.unwrap();
        let ours = Some("canaryd".to_owned());
        assert_eq!(reading, TrafficReading::new(weight(permille), Some(generation), ours));
        rig.follows(weight(permille)).await;
    }
    // the same wish again writes nothing
    let modified = || fs::metadata(rig.file()).unwrap().modified().unwrap();
    let before = modified();
    envoy.write(wish(0, 6)).await.unwrap();
    assert_eq!(modified(), before);
}

#[tokio::test]
async fn the_canary_may_be_the_first_cluster() {
    let Some(rig) = Rig::with_file().await else { return };
    let envoy = rig.by_file();
    assert_eq!(envoy.read(Side::First).await.unwrap().weight, Weight::FULL);
    envoy.write(Desired { canary: Side::First, weight: weight(200), generation: 1 }).await.unwrap();
    assert_eq!(envoy.read(Side::First).await.unwrap().weight, weight(200));
    rig.follows(weight(800)).await;
}

#[tokio::test]
async fn another_hand_is_seen_and_its_other_changes_are_kept() {
    let Some(rig) = Rig::with_file().await else { return };
    let envoy = rig.by_file();
    envoy.write(wish(100, 1)).await.unwrap();
    let ours = fs::read_to_string(rig.file()).unwrap();
    let ours_version = serde_json::from_str::<Value>(&ours).unwrap()["version_info"].as_str().unwrap().to_owned();

    // under our version text, by rename
    rig.replace_file(&ours.replace("900", "700").replace(": 100", ": 300").replace("5s", "9s"));
    let seen = rig.soon("the edit", async |_| Some(envoy.read(Side::Second).await.unwrap()).filter(|r| r.weight == weight(300))).await;
    assert_eq!(seen.writer, Some(format!("another hand (version {ours_version:?})")));
    envoy.write(wish(100, 1)).await.unwrap();
    rig.follows(weight(100)).await;
    assert!(fs::read_to_string(rig.file()).unwrap().contains("9s"));
    assert_eq!(envoy.read(Side::Second).await.unwrap().writer.as_deref(), Some("canaryd"));

    // in place: Envoy does not notice, and neither do the users
    let text = fs::read_to_string(rig.file()).unwrap();
    fs::write(rig.file(), text.replace("900", "1").replace(": 100", ": 999")).unwrap();
    let seen = envoy.read(Side::Second).await.unwrap();
    assert_eq!((seen.weight, seen.generation), (weight(100), Some(1)));
    let writer = seen.writer.unwrap();
    assert!(writer.starts_with("another hand: the file gives the second cluster 99.9%") && writer.contains("Envoy has 10%"), "{writer}");
    envoy.write(wish(50, 2)).await.unwrap();
    rig.follows(weight(50)).await;
}

#[tokio::test]
async fn a_cluster_that_does_not_exist_is_refused_and_the_old_split_stands() {
    let Some(rig) = Rig::with_file().await else { return };
    rig.by_file().write(wish(100, 1)).await.unwrap();
    let before = fs::read_to_string(rig.file()).unwrap();
    let broken = before.replace("\"v2\"", "\"nope\"");
    rig.replace_file(&broken);
    let mut route = rig.file_route();
    route.clusters[1] = "nope".to_owned();
    let envoy = router::open(&Traffic::Envoy(route), &Means::default()).unwrap();
    let error = envoy.write(wish(300, 2)).await.unwrap_err();
    assert!(matches!(&error, RouterError::Refused { .. }), "{error}");
    assert_eq!(error.retry(), Retry::OnChange);
    assert!(error.to_string().contains("rds.json refused the change"), "{error}");
    assert_eq!(fs::read_to_string(rig.file()).unwrap(), broken, "what was there is back");
    rig.follows(weight(100)).await;
}

#[tokio::test]
async fn a_stale_writer_moves_nothing() {
    let Some(rig) = Rig::with_file().await else { return };
    let envoy = rig.by_file();
    envoy.write(wish(50, 8)).await.unwrap();
    let before = fs::read_to_string(rig.file()).unwrap();
    let error = envoy.write(wish(900, 7)).await.unwrap_err();
    assert!(
        matches!(&error, RouterError::Refused { why, .. } if why.contains("generation 8 is there, newer than this write's 7")),
        "{error}"
    );
    assert_eq!(fs::read_to_string(rig.file()).unwrap(), before);
    rig.follows(weight(50)).await;
}

#[tokio::test]
async fn a_malformed_file_and_wrong_names_are_said_and_left_alone() {
    let Some(rig) = Rig::with_file().await else { return };
    let envoy = rig.by_file();
    let mut wrong = rig.file_route();
    wrong.by = EnvoyWrite::RouteFile { path: rig.file(), stat_prefix: "nobody".to_owned(), route: "main".to_owned() };
    let error = router::open(&Traffic::Envoy(wrong), &Means::default()).unwrap().write(wish(100, 1)).await.unwrap_err();
    assert!(matches!(&error, RouterError::Object { why, .. } if why.contains("http.nobody.rds.main.*: check stat-prefix")), "{error}");
    assert!(fs::read_to_string(rig.file()).unwrap().contains("by-hand-1"), "not written");

    rig.replace_file("{ not json");
    for error in [envoy.read(Side::Second).await.unwrap_err(), envoy.write(wish(100, 1)).await.unwrap_err()] {
        assert!(matches!(&error, RouterError::Object { what, why } if what.contains("rds.json") && why.contains("no JSON")), "{error}");
    }
    assert_eq!(fs::read_to_string(rig.file()).unwrap(), "{ not json");
    rig.follows(Weight::ZERO).await;
}

#[tokio::test]
async fn without_the_admin_more_is_not_tried_and_less_is() {
    let Some(rig) = Rig::with_file().await else { return };
    rig.by_file().write(wish(500, 1)).await.unwrap();
    let mut route = rig.file_route();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    route.admin = format!("http://{closed}");
    let blind = router::open(&Traffic::Envoy(route), &Means::default()).unwrap();
    assert!(matches!(blind.read(Side::Second).await.unwrap_err(), RouterError::Unreachable { .. }));

    let before = fs::read_to_string(rig.file()).unwrap();
    let error = blind.write(wish(600, 2)).await.unwrap_err();
    assert!(matches!(&error, RouterError::Unreachable { what, .. } if what.contains(&closed.to_string())), "{error}");
    assert_eq!(fs::read_to_string(rig.file()).unwrap(), before);

    let error = blind.write(wish(0, 3)).await.unwrap_err();
    assert!(matches!(error, RouterError::Unreachable { .. }), "{error}");
    rig.follows(Weight::ZERO).await;
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_said() {
    let Some(rig) = Rig::with_file().await else { return };
    // also where the tests run as root: /proc takes no new file
    let mut route = rig.file_route();
    route.by = EnvoyWrite::RouteFile { path: PathBuf::from("/proc/version"), stat_prefix: "users".to_owned(), route: "main".to_owned() };
    let error = router::open(&Traffic::Envoy(route), &Means::default()).unwrap().write(wish(100, 1)).await.unwrap_err();
    assert!(matches!(&error, RouterError::Object { what, .. } if what.contains("/proc/version")), "{error}");

    let name = format!(".rds.json.canaryd-{}", std::process::id());
    fs::create_dir(rig.folder.path().join(&name)).unwrap(); // in the way of the new file
    let error = rig.by_file().write(wish(100, 1)).await.unwrap_err();
    assert!(matches!(&error, RouterError::Object { why, .. } if why.contains("must be able to write its folder")), "{error}");
    rig.follows(Weight::ZERO).await;
}

#[tokio::test]
async fn runtime_keys_move_real_traffic_and_know_their_generation() {
    let Some(rig) = Rig::with_keys().await else { return };
    let mut route = rig.file_route();
    route.by = EnvoyWrite::RuntimeKeys { prefix: "split".to_owned() };
    let envoy = router::open(&Traffic::Envoy(route.clone()), &Means::default()).unwrap();
    let first = envoy.read(Side::Second).await.unwrap();
    assert_eq!((first.weight, first.generation), (Weight::ZERO, None));
    for (generation, permille) in (1..).zip([50, 500, 1000, 0]) {
        envoy.write(wish(permille, generation)).await.unwrap();
        let reading = envoy.read(Side::Second).await.unwrap();
        assert_eq!(reading, TrafficReading::new(weight(permille), Some(generation), None));
        rig.follows(weight(permille)).await;
    }
    assert!(matches!(envoy.write(wish(900, 3)).await.unwrap_err(), RouterError::Refused { .. }));

    let theirs = rig.client.post(format!("http://{}/runtime_modify?split.v1=75&split.v2=25", rig.admin));
    assert_eq!(theirs.send().await.unwrap().status(), 200);
    let seen = envoy.read(Side::Second).await.unwrap();
    assert_eq!((seen.weight, seen.writer.as_deref()), (weight(250), Some("another hand (weights 75 and 25)")));

    route.by = EnvoyWrite::RuntimeKeys { prefix: "nobody".to_owned() };
    let error = router::open(&Traffic::Envoy(route), &Means::default()).unwrap().read(Side::Second).await.unwrap_err();
    assert!(matches!(&error, RouterError::Object { why, .. } if why.contains("no route of Envoy")), "{error}");
}
