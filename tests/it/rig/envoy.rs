//! A real Envoy: one listener whose share follows a route file (RDS by path, replaced by rename), one cluster per version.

use super::http;
use super::process::Process;
use super::{READY_MAX, poll, ports, require};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

const ANSWER_MAX: Duration = Duration::from_secs(20);
const TYPES: &str = "type.googleapis.com/envoy";

/// How an Envoy is set up.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Names and ports of the two clusters: the stable version's first.
    pub(crate) clusters: [(String, u16); 2],
    /// Port of a second process of the first cluster.
    pub(crate) twin: Option<u16>,
    /// `stat_prefix` of the first listener's connection manager.
    pub(crate) stat_prefix: String,
    /// Name of its route configuration.
    pub(crate) route: String,
    /// After this Envoy answers 504 itself.
    pub(crate) route_timeout: Duration,
    /// After this a connection attempt fails.
    pub(crate) connect_timeout: Duration,
    /// A second listener, `users`, that follows a route file of its own: what the daemon writes does not move it.
    pub(crate) deaf_listener: bool,
}

impl Settings {
    /// Clusters `v1` and `v2` on these ports.
    pub(crate) fn new(v1: u16, v2: u16) -> Self {
        Self {
            clusters: [("v1".to_owned(), v1), ("v2".to_owned(), v2)],
            twin: None,
            stat_prefix: "edge".to_owned(),
            route: "shop".to_owned(),
            route_timeout: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(1),
            deaf_listener: false,
        }
    }
}

/// A running Envoy.
pub(crate) struct Envoy {
    process: Process,
    program: PathBuf,
    folder: PathBuf,
    settings: Settings,
    /// Port of the admin interface; metrics at `/stats/prometheus`.
    pub(crate) admin: u16,
    /// Port of the listener that follows [`Self::route_file`].
    pub(crate) listener: u16,
    /// Port of the listener that does not, if asked for.
    pub(crate) deaf: Option<u16>,
}

impl Envoy {
    /// Starts one that keeps its files in `folder`, all traffic on the first cluster; `None` if skipped (see `require`).
    pub(crate) fn start(folder: &Path, settings: Settings) -> Option<Self> {
        let program = require("envoy")?;
        std::fs::create_dir_all(folder).expect("the folder can be made");
        let (admin, listener) = (ports::free(), ports::free());
        let deaf = settings.deaf_listener.then(ports::free);
        put_route(folder, "route.json", &settings.route, &settings, 0, "rig-0");
        if deaf.is_some() {
            put_route(folder, "users.json", "users", &settings, 0, "rig-0");
        }
        let bootstrap = bootstrap(folder, &settings, admin, listener, deaf);
        std::fs::write(folder.join("envoy.json"), bootstrap.to_string()).expect("the bootstrap can be written");
        let process = launch(&program, folder, admin);
        Some(Self { process, program, folder: folder.to_owned(), settings, admin, listener, deaf })
    }

    /// The file the daemon is to write.
    pub(crate) fn route_file(&self) -> PathBuf {
        self.folder.join("route.json")
    }

    /// Gives the second cluster so many permille, and waits until Envoy has taken it.
    ///
    /// # Panics
    /// If it does not within [`READY_MAX`].
    pub(crate) fn shift(&self, second_permille: u32, version: &str) {
        put_route(&self.folder, "route.json", &self.settings.route, &self.settings, second_permille, version);
        let taken = poll(READY_MAX, || (self.version().as_deref() == Some(version)).then_some(()));
        assert!(taken.is_some(), "Envoy took {:?} and not {version:?}", self.version());
    }

    /// Gives the second cluster so many permille of what comes in by the deaf listener.
    pub(crate) fn shift_deaf(&self, second_permille: u32) {
        put_route(&self.folder, "users.json", "users", &self.settings, second_permille, &format!("deaf-{second_permille}"));
    }

    /// Sets every counter to zero, as an operator's `POST /reset_counters` does.
    ///
    /// # Panics
    /// If Envoy refuses.
    pub(crate) fn reset_counters(&self) {
        let request = http::Request { method: "POST", path: "/reset_counters", ..http::Request::default() };
        let answer = http::send(self.admin, &request, ANSWER_MAX).expect("Envoy answers");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// The version of the route configuration it runs, by its own account.
    pub(crate) fn version(&self) -> Option<String> {
        let stat = format!("http.{}.rds.{}.version_text", self.settings.stat_prefix, self.settings.route);
        let path = format!("/stats?type=TextReadouts&filter={}", http::encode(&stat));
        let text = http::get(self.admin, &path, ANSWER_MAX).ok()?.text();
        let line = text.lines().find_map(|line| line.strip_prefix(&stat))?;
        Some(line.trim_start_matches(':').trim().trim_matches('"').to_owned())
    }

    /// The process, for signals.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Starts it again with the same ports and files, after a kill.
    pub(crate) fn restart(&mut self) {
        self.process.kill();
        self.process = launch(&self.program, &self.folder, self.admin);
    }
}

fn launch(program: &Path, folder: &Path, admin: u16) -> Process {
    let file = folder.join("envoy.json").display().to_string();
    let arguments = ["-c", &file, "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warn"];
    let mut process = Process::spawn("envoy", program, &arguments.map(Into::into), &folder.join("envoy.log"));
    process.wait_ready(admin, "/ready");
    process
}

/// Writes a route file beside its place and renames it: Envoy sees moves only.
fn put_route(folder: &Path, file: &str, route: &str, settings: &Settings, second_permille: u32, version: &str) {
    assert!(second_permille <= 1000, "{second_permille} exceeds 1000 permille");
    let [(first, _), (second, _)] = &settings.clusters;
    let clusters = json!([{ "name": first, "weight": 1000 - second_permille }, { "name": second, "weight": second_permille }]);
    let all = json!({
        "match": { "prefix": "/" },
        "route": { "weighted_clusters": { "clusters": clusters }, "timeout": seconds(settings.route_timeout) },
    });
    let resource = json!({
        "@type": format!("{TYPES}.config.route.v3.RouteConfiguration"),
        "name": route,
        "validate_clusters": true,
        "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [all] }],
    });
    let text = json!({ "version_info": version, "resources": [resource] }).to_string();
    let beside = folder.join(format!(".{file}.new"));
    std::fs::write(&beside, text).expect("the route can be written");
    std::fs::rename(&beside, folder.join(file)).expect("and put into place");
}

fn seconds(d: Duration) -> String {
    format!("{}s", d.as_secs_f64())
}

fn address(port: u16) -> Value {
    json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } })
}

fn bootstrap(folder: &Path, settings: &Settings, admin: u16, port: u16, deaf: Option<u16>) -> Value {
    let mut listeners = vec![listener(folder, port, &settings.stat_prefix, &settings.route, "route.json")];
    listeners.extend(deaf.map(|port| listener(folder, port, "users", "users", "users.json")));
    let [(first, a), (second, b)] = &settings.clusters;
    let ports: Vec<u16> = [*a].into_iter().chain(settings.twin).collect();
    let clusters = [cluster(first, &ports, settings.connect_timeout), cluster(second, &[*b], settings.connect_timeout)];
    json!({
        "node": { "id": "rig", "cluster": "rig" },
        "admin": { "address": address(admin) },
        // histograms are merged at each flush: as often as they are scraped
        "stats_flush_interval": "1s",
        "layered_runtime": { "layers": [{ "name": "admin", "admin_layer": {} }] },
        "static_resources": { "listeners": listeners, "clusters": clusters },
    })
}

fn listener(folder: &Path, port: u16, stat_prefix: &str, route: &str, file: &str) -> Value {
    let source = json!({
        "resource_api_version": "V3",
        "path_config_source": { "path": folder.join(file), "watched_directory": { "path": folder } },
    });
    let router = json!({ "@type": format!("{TYPES}.extensions.filters.http.router.v3.Router") });
    let manager = json!({
        "@type": format!("{TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": stat_prefix,
        "rds": { "route_config_name": route, "config_source": source },
        "http_filters": [{ "name": "envoy.filters.http.router", "typed_config": router }],
    });
    let filter = json!({ "name": "envoy.filters.network.http_connection_manager", "typed_config": manager });
    json!({ "name": stat_prefix, "address": address(port), "filter_chains": [{ "filters": [filter] }] })
}

fn cluster(name: &str, ports: &[u16], connect_timeout: Duration) -> Value {
    let endpoints: Vec<Value> = ports.iter().map(|port| json!({ "endpoint": { "address": address(*port) } })).collect();
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": seconds(connect_timeout),
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": endpoints }] },
    })
}
