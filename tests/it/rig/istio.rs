//! A mesh's gateway: a real istiod outside the cluster, which reads VirtualServices and EndpointSlices of the real control plane,
//! and a vanilla Envoy that takes its listeners, routes and clusters from it.
//!
//! Vanilla: Istio's own statistics (`istio_requests_total`) are a filter of Istio's Envoy. This one counts per cluster, and istiod
//! makes a cluster for each subset: `outbound|<port>|<subset>|<host>`.

use super::http;
use super::kubernetes::ControlPlane;
use super::process::Process;
use super::{READY_MAX, poll, ports, require, require_folder};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

const ANSWER_MAX: Duration = Duration::from_secs(20);
const PROGRAM: &str = "pilot-discovery";
/// What vanilla Envoy lacks is turned off: filters of Istio's build, certificates (the clusters would wait for them for ever).
const MESH: &str = "defaultProviders: {}\nenablePrometheusMerge: false\nenableAutoMtls: false\n";
const ENVIRONMENT: [(&str, &str); 10] = [
    ("PILOT_ENABLE_ALPN_FILTER", "false"),
    ("PILOT_ENABLE_METADATA_EXCHANGE", "false"),
    ("ENABLE_CA_SERVER", "false"),
    ("INJECT_ENABLED", "false"),
    ("VALIDATION_ENABLED", "false"),
    ("PILOT_CERT_PROVIDER", "none"),
    ("POD_NAME", "istiod"),
    ("POD_NAMESPACE", "istio-system"),
    ("CLUSTER_ID", "Kubernetes"),
    ("REVISION", "default"),
];

/// A running istiod.
pub(crate) struct Istiod {
    process: Process,
    /// Port of its xDS (HTTP/2 without TLS).
    xds: u16,
}

impl Istiod {
    /// The one all tests of this process share; `None` if skipped.
    ///
    /// # Panics
    /// If it does not come up.
    pub(crate) fn shared(plane: &ControlPlane) -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Istiod>> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(plane)).as_ref()
    }

    fn start(plane: &ControlPlane) -> Option<Self> {
        let program = require_folder("kubernetes", PROGRAM)?.join(PROGRAM);
        plane.custom_resources("istio", "/apis/networking.istio.io/v1/virtualservices");
        plane.namespace("istio-system");
        let mesh = plane.file("mesh.yaml");
        fs::write(&mesh, MESH).expect("written");
        let [http, xds, monitoring] = [ports::free(), ports::free(), ports::free()];
        let at = |port: u16| format!("127.0.0.1:{port}");
        let arguments = [
            "discovery".to_owned(),
            format!("--kubeconfig={}", plane.kubeconfig("admin").display()),
            format!("--meshConfig={}", mesh.display()),
            "--networksConfig=/nonexistent".to_owned(),
            format!("--httpAddr={}", at(http)),
            format!("--grpcAddr={}", at(xds)),
            "--httpsAddr=".to_owned(),
            "--secureGRPCAddr=".to_owned(),
            format!("--monitoringAddr={}", at(monitoring)),
            "--ctrlz_port=0".to_owned(),
            "--registries=Kubernetes".to_owned(),
        ];
        let mut process = Process::spawn_with("istiod", &program, &arguments.map(Into::into), &ENVIRONMENT, &plane.file("istiod.log"));
        process.wait_ready(http, "/ready");
        Some(Self { process, xds })
    }
}

/// A running Envoy that is the gateway of one namespace.
pub(crate) struct Gateway {
    process: Process,
    folder: PathBuf,
    namespace: String,
    /// Port of the admin interface; metrics at `/stats/prometheus`.
    pub(crate) admin: u16,
    /// Port where users come in, once [`Self::object`] is in the cluster.
    pub(crate) listener: u16,
}

impl Gateway {
    /// Starts one that keeps its files in `folder`; `None` if skipped (see `require`).
    pub(crate) fn start(folder: &Path, istiod: &Istiod, namespace: &str) -> Option<Self> {
        let program = require("envoy")?;
        fs::create_dir_all(folder).expect("the folder can be made");
        let (admin, listener) = (ports::free(), ports::free());
        let bootstrap = bootstrap(istiod.xds, namespace, admin);
        let file = folder.join("envoy.json");
        fs::write(&file, bootstrap.to_string()).expect("the bootstrap can be written");
        let arguments = ["-c", &file.display().to_string(), "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warn"];
        let mut process = Process::spawn("envoy", &program, &arguments.map(Into::into), &folder.join("envoy.log"));
        // ready when istiod has answered, if only that there is nothing yet
        process.wait_ready(admin, "/ready");
        Some(Self { process, folder: folder.to_owned(), namespace: namespace.to_owned(), admin, listener })
    }

    /// The Gateway that makes it listen, called `gateway`.
    pub(crate) fn object(&self) -> Value {
        let port = json!({"number": self.listener, "name": "http", "protocol": "HTTP"});
        json!({"apiVersion": "networking.istio.io/v1", "kind": "Gateway",
            "metadata": {"name": "gateway", "namespace": self.namespace},
            "spec": {"selector": {"gateway-of": self.namespace}, "servers": [{"port": port, "bind": "127.0.0.1", "hosts": ["*"]}]}})
    }

    /// Waits until a user's request is answered 200.
    ///
    /// # Panics
    /// If it is not in time; what Envoy has is in the message.
    pub(crate) fn wait_open(&mut self) {
        let open = poll(READY_MAX * 3, || {
            self.process.assert_alive();
            http::get(self.listener, "/", ANSWER_MAX).ok().filter(|answer| answer.status == 200)
        });
        assert!(open.is_some(), "no answer on {}; Envoy's clusters:\n{}", self.listener, self.clusters());
    }

    /// Weights of the clusters it chooses among, by its own account of its routes.
    pub(crate) fn weights(&self) -> BTreeMap<String, u64> {
        let dump = http::get(self.admin, "/config_dump?resource=dynamic_route_configs", ANSWER_MAX);
        let dump = dump.map_or(Value::Null, |answer| answer.json());
        let mut weights = BTreeMap::new();
        collect(&dump, &mut weights);
        weights
    }

    /// What it knows of clusters and their endpoints.
    pub(crate) fn clusters(&self) -> String {
        http::get(self.admin, "/clusters", ANSWER_MAX).map_or_else(|e| e.to_string(), |answer| answer.text())
    }
}

/// Every destination of every route, wherever it stands: one that gets everything is a plain `cluster` there.
fn collect(value: &Value, weights: &mut BTreeMap<String, u64>) {
    if let Some(clusters) = value.pointer("/route/weighted_clusters/clusters").and_then(Value::as_array) {
        weights.extend(clusters.iter().filter_map(|c| Some((c["name"].as_str()?.to_owned(), c["weight"].as_u64().unwrap_or(0)))));
    } else if let Some(only) = value.pointer("/route/cluster").and_then(Value::as_str) {
        weights.insert(only.to_owned(), 100);
    } else {
        let below: Box<dyn Iterator<Item = &Value>> = match value {
            Value::Object(members) => Box::new(members.values()),
            Value::Array(items) => Box::new(items.iter()),
            _ => return,
        };
        below.for_each(|value| collect(value, weights));
    }
}

/// The name istiod gives the cluster of a subset of a Service; without a subset the Service's own.
pub(crate) fn cluster_of(service: &str, namespace: &str, port: u16, subset: &str) -> String {
    format!("outbound|{port}|{subset}|{service}.{namespace}.svc.cluster.local")
}

/// Those of Istio's own bootstrap that concern clusters: Envoy's would end a cluster's name at its first dot.
fn stats_tags() -> Value {
    let tag = |name: &str, regex: &str| json!({"tag_name": name, "regex": regex});
    json!([
        tag("cluster_name", r"^cluster(\.(.+);)"),
        tag("response_code", r"_rq(_(\d{3}))$"),
        tag("response_code_class", r"_rq(_(\dxx))$"),
    ])
}

fn bootstrap(xds: u16, namespace: &str, admin: u16) -> Value {
    let address = |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let ads = json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"});
    let http2 = json!({
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    });
    let istiod = json!({
        "name": "istiod", "type": "STATIC", "connect_timeout": "1s",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
        "load_assignment": {"cluster_name": "istiod", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(xds)}}]}]},
    });
    json!({
        "node": {
            "id": format!("router~198.51.100.250~gateway.{namespace}~{namespace}.svc.cluster.local"),
            "cluster": format!("gateway.{namespace}"),
            "metadata": {"NAMESPACE": namespace, "CLUSTER_ID": "Kubernetes", "ISTIO_VERSION": "1.31.0",
                "LABELS": {"gateway-of": namespace}, "INSTANCE_IPS": "198.51.100.250"},
        },
        "admin": {"address": address(admin)},
        "stats_config": {"use_all_default_tags": false, "stats_tags": stats_tags()},
        // histograms are merged at each flush: as often as they are scraped
        "stats_flush_interval": "1s",
        "dynamic_resources": {"lds_config": ads, "cds_config": ads, "ads_config": {
            "api_type": "GRPC", "transport_api_version": "V3", "set_node_on_first_message_only": true,
            "grpc_services": [{"envoy_grpc": {"cluster_name": "istiod"}}],
        }},
        "static_resources": {"clusters": [istiod]},
    })
}
