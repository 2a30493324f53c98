//! What splits the users' traffic in a scenario: where they come in, what Prometheus scrapes, and what a rule says of it.

use super::stage::Scene;
use crate::rig::endpoint::Endpoint;
use crate::rig::envoy::{self, Envoy};
use crate::rig::haproxy::{self, Haproxy};
use crate::rig::prometheus::Job;
use serde_json::Value;
use std::path::Path;

/// A proxy between users and both versions.
pub(super) trait Edge: Sized {
    /// The rule's workloads, as YAML flow mappings.
    const WORKLOADS: [&'static str; 2];
    /// The rule's telemetry where a scene names none.
    const TELEMETRY: &'static str;
    /// Does its pack tell latencies?
    const LATENCY: bool;
    /// A counter of the first version's requests in Prometheus.
    const FIRST_REQUESTS: &'static str;

    /// Starts it with all traffic on the first version, whose second process is the twin; `None` if skipped.
    fn start(folder: &Path, scene: &Scene, ports: [u16; 2], twin: Option<u16>) -> Option<Self>;

    /// What Prometheus scrapes.
    fn job(&self) -> Job;

    /// The port where users come in.
    fn users(&self) -> u16;

    /// The rule's `traffic`, as a YAML flow mapping.
    fn traffic(&self) -> String;

    /// The second version's share as it stands there, permille.
    fn second_permille(&self) -> u64;
}

impl Edge for Envoy {
    const WORKLOADS: [&'static str; 2] = ["{ cluster: v1 }", "{ cluster: v2 }"];
    const TELEMETRY: &'static str = "[ envoy ]";
    const LATENCY: bool = true;
    const FIRST_REQUESTS: &'static str = r#"envoy_cluster_upstream_rq_completed{envoy_cluster_name="v1"}"#;

    fn start(folder: &Path, scene: &Scene, [first, second]: [u16; 2], twin: Option<u16>) -> Option<Self> {
        Envoy::start(folder, envoy::Settings { deaf_listener: scene.deaf, twin, ..envoy::Settings::new(first, second) })
    }

    fn job(&self) -> Job {
        Job::new("envoy", self.admin, "/stats/prometheus", &[])
    }

    fn users(&self) -> u16 {
        self.deaf.unwrap_or(self.listener)
    }

    fn traffic(&self) -> String {
        let file = format!("{{ path: '{}', stat-prefix: edge, route: shop }}", self.route_file().display());
        format!("{{ envoy: {{ admin: 'http://127.0.0.1:{}', route-file: {file} }} }}", self.admin)
    }

    fn second_permille(&self) -> u64 {
        routed(&self.route_file())
    }
}

/// The share of the second cluster in a route file, permille.
pub(super) fn routed(file: &Path) -> u64 {
    let text = std::fs::read_to_string(file).expect("the route file can be read");
    let file: Value = serde_json::from_str(&text).expect("the route file is JSON");
    let clusters = file.pointer("/resources/0/virtual_hosts/0/routes/0/route/weighted_clusters/clusters");
    let second = clusters.and_then(Value::as_array).and_then(|all| all.iter().find(|c| c["name"] == "v2"));
    second.and_then(|c| c["weight"].as_u64()).unwrap_or_else(|| panic!("no weight of v2 in {file:#}"))
}

impl Edge for Haproxy {
    const WORKLOADS: [&'static str; 2] = ["{ backend: shop, server: v1 }", "{ backend: shop, server: v2 }"];
    const TELEMETRY: &'static str = "[ { pack: haproxy, variant: server } ]";
    const LATENCY: bool = false;
    const FIRST_REQUESTS: &'static str = r#"haproxy_server_http_responses_total{proxy="shop",server="v1",code="2xx"}"#;

    fn start(folder: &Path, _: &Scene, [first, second]: [u16; 2], _: Option<u16>) -> Option<Self> {
        Haproxy::start(folder, &haproxy::Settings::new(first, second))
    }

    fn job(&self) -> Job {
        Job::new("haproxy", self.exporter, "/metrics", &[])
    }

    fn users(&self) -> u16 {
        self.listener
    }

    fn traffic(&self) -> String {
        format!("{{ haproxy: {{ socket: '{}' }} }}", self.socket("admin").display())
    }

    fn second_permille(&self) -> u64 {
        let [first, second] = self.weights();
        1000 * second / (first + second).max(1)
    }
}

/// A user's endpoint that moves a HAProxy: canaryd knows the endpoint only.
pub(super) struct Hooked {
    pub(super) haproxy: Haproxy,
    pub(super) endpoint: Endpoint,
}

impl Edge for Hooked {
    const WORKLOADS: [&'static str; 2] = Haproxy::WORKLOADS;
    const TELEMETRY: &'static str = Haproxy::TELEMETRY;
    const LATENCY: bool = Haproxy::LATENCY;
    const FIRST_REQUESTS: &'static str = Haproxy::FIRST_REQUESTS;

    fn start(folder: &Path, scene: &Scene, ports: [u16; 2], twin: Option<u16>) -> Option<Self> {
        let haproxy = <Haproxy as Edge>::start(folder, scene, ports, twin)?;
        let socket = haproxy.socket("admin");
        let endpoint = Endpoint::keeper(move |second| haproxy::shift(&socket, [1000 - second, second].map(|permille| permille / 5)));
        Some(Self { haproxy, endpoint })
    }

    fn job(&self) -> Job {
        self.haproxy.job()
    }

    fn users(&self) -> u16 {
        self.haproxy.users()
    }

    fn traffic(&self) -> String {
        format!("{{ webhook: {{ url: '{}/split' }} }}", self.endpoint.url)
    }

    fn second_permille(&self) -> u64 {
        self.haproxy.second_permille()
    }
}
