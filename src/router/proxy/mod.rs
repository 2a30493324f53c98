//! The demo's own weighted HTTP/1 reverse proxy, in this process. It counts as Envoy does (ENVIRONMENT 2, PACKS 1.6), so that
//! the `envoy` pack reads it.

pub(crate) mod histogram;
pub(crate) mod serve;

use super::{Answer, Desired, Router, RouterError, canary_share, no_newer};
use crate::hop::{self, strip};
use crate::model::{Side, TrafficReading, Weight};
use histogram::Histogram;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::http::uri::Authority;
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use parking_lot::Mutex;
use serve::{Reply, Served, reply, serve};
use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// To reach a backend.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// For a backend's answer: Envoy's default for a route.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// Most idle connections kept to a backend.
const IDLE_MAX: usize = 256;
/// Requests under way when the proxy stops have this long.
const GRACE: Duration = Duration::from_secs(1);
/// Envoy's bounds, ms.
const BOUNDS_MS: &[f64] = &[0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1e3, 2.5e3, 5e3, 1e4, 3e4, 6e4, 3e5, 6e5, 1.8e6, 3.6e6];
/// Status codes a backend may answer: 100 to 999.
const CODES: usize = 900;

/// A running proxy in front of two backends. It ends when it is dropped, or by [`Proxy::stop`].
#[derive(Debug)]
pub struct Proxy {
    users: Served,
    admin: Served,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    split: Mutex<Split>,
    clusters: [Arc<Cluster>; 2],
    client: Client<HttpConnector, Incoming>,
    started: Instant,
}

/// Which backend the next request goes to: the second gets its share of every thousand requests exactly, spread evenly.
#[derive(Debug, Default)]
struct Split {
    second: Weight,
    generation: Option<u64>,
    /// What the second is owed, in thousandths of a request, below 1000.
    owed: u16,
}

impl Split {
    fn next(&mut self) -> usize {
        self.owed += self.second.permille();
        if self.owed < 1000 {
            return 0;
        }
        self.owed -= 1000;
        1
    }
}

/// One backend, and what is counted of it.
#[derive(Debug)]
struct Cluster {
    name: String,
    authority: Authority,
    codes: Box<[AtomicU64]>,
    time_ms: Histogram,
    abandoned: AtomicU64,
}

impl Proxy {
    /// Starts it on a free port of the loopback; its counters call the backends `v1` and `v2`. All traffic goes to the first.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn start(backends: [SocketAddr; 2]) -> io::Result<Self> {
        let [first, second] = backends;
        Self::start_named([("v1".to_owned(), first), ("v2".to_owned(), second)]).await
    }

    /// The same with other names of the clusters.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn start_named(clusters: [(String, SocketAddr); 2]) -> io::Result<Self> {
        let [first, second] = clusters;
        let clusters = [Cluster::new(first)?, Cluster::new(second)?];
        let shared =
            Arc::new(Shared { split: Mutex::default(), clusters, client: hop::client(CONNECT_MAX, IDLE_MAX), started: Instant::now() });
        let (forwarding, counting) = (Arc::clone(&shared), Arc::clone(&shared));
        let users = serve(GRACE, move |request| Arc::clone(&forwarding).forward(request)).await?;
        let admin = serve(GRACE, move |request| std::future::ready(counting.answer(&request))).await?;
        Ok(Self { users, admin, shared })
    }

    /// Where users send their requests.
    pub fn addr(&self) -> SocketAddr {
        self.users.addr()
    }

    /// Where its counters are read: `http://<this>/metrics`, in Envoy's names.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin.addr()
    }

    /// Takes no new connection; requests under way have a second to end.
    pub async fn stop(&self) {
        self.users.stop().await;
        self.admin.stop().await;
    }
}

impl Router for Proxy {
    fn name(&self) -> &'static str {
        "proxy"
    }

    fn granularity_permille(&self) -> u16 {
        1
    }

    fn read(&self, canary: Side) -> Answer<'_, TrafficReading> {
        let split = self.shared.split.lock();
        let reading = TrafficReading::new(canary_share(canary, split.second), split.generation, None);
        Box::pin(std::future::ready(Ok::<_, RouterError>(reading)))
    }

    fn write(&self, desired: Desired) -> Answer<'_, ()> {
        let mut split = self.shared.split.lock();
        let allowed = no_newer("the demo's proxy", split.generation, desired.generation);
        if allowed.is_ok() {
            let second = canary_share(desired.canary, desired.weight);
            // nothing owed from before: at 0 % the very next request already goes to the first
            *split = Split { second, generation: Some(desired.generation), owed: 0 };
        }
        Box::pin(std::future::ready(allowed))
    }
}

impl Shared {
    async fn forward(self: Arc<Self>, mut request: Request<Incoming>) -> Reply {
        let position = self.split.lock().next();
        let cluster = &self.clusters[position];
        strip(request.headers_mut());
        let Ok(uri) = hop::at(cluster.authority.clone(), request.uri()) else { return reply(StatusCode::BAD_REQUEST, "no path\n") };
        *request.uri_mut() = uri;
        let begun = Instant::now();
        let under_way = UnderWay::of(cluster);
        let answer = tokio::time::timeout(ANSWER_MAX, self.client.request(request)).await;
        let Ok(answer) = answer else {
            // Envoy closes the connection to the backend: counted with the abandoned (PACKS 1.6), and as 504
            drop(under_way);
            return cluster.own(StatusCode::GATEWAY_TIMEOUT);
        };
        under_way.ended();
        let Ok(answer) = answer else { return cluster.own(StatusCode::SERVICE_UNAVAILABLE) };
        cluster.count(answer.status());
        cluster.time_ms.observe(begun.elapsed().as_millis() as f64); // Envoy cuts to whole ms
        let (mut head, body) = answer.into_parts();
        strip(&mut head.headers);
        Reply::from_parts(head, body.boxed())
    }

    fn answer(&self, request: &Request<Incoming>) -> Reply {
        match request.uri().path() {
            "/metrics" | "/stats/prometheus" => serve::metrics(self.exposition()),
            _ => reply(StatusCode::NOT_FOUND, "only /metrics\n"),
        }
    }

    fn exposition(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "# TYPE envoy_cluster_upstream_rq counter");
        for cluster in &self.clusters {
            cluster.write_codes(&mut out);
        }
        let _ = writeln!(out, "# TYPE envoy_cluster_upstream_cx_destroy_local_with_active_rq counter");
        for Cluster { name, abandoned, .. } in self.clusters.iter().map(AsRef::as_ref) {
            let gone = abandoned.load(Ordering::Relaxed);
            let _ = writeln!(out, "envoy_cluster_upstream_cx_destroy_local_with_active_rq{{envoy_cluster_name=\"{name}\"}} {gone}");
        }
        let _ = writeln!(out, "# TYPE envoy_cluster_upstream_rq_time histogram");
        for cluster in &self.clusters {
            cluster.time_ms.write(&mut out, "envoy_cluster_upstream_rq_time", &format!("envoy_cluster_name=\"{}\"", cluster.name));
        }
        let uptime = self.started.elapsed().as_secs();
        let _ = writeln!(out, "# TYPE envoy_server_uptime gauge\nenvoy_server_uptime{{}} {uptime}");
        out
    }
}

impl Cluster {
    fn new((name, addr): (String, SocketAddr)) -> io::Result<Arc<Self>> {
        let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if !plain {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("cluster name {name:?} is not of letters, digits, -, _ and ."),
            ));
        }
        let authority = addr.to_string().parse().map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        let codes = (0..CODES).map(|_| AtomicU64::new(0)).collect();
        Ok(Arc::new(Self { name, authority, codes, time_ms: Histogram::new(BOUNDS_MS), abandoned: AtomicU64::new(0) }))
    }

    fn count(&self, status: StatusCode) {
        if let Some(count) = self.codes.get(usize::from(status.as_u16()).saturating_sub(100)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The proxy's own answer, counted like the backend's.
    fn own(&self, status: StatusCode) -> Reply {
        self.count(status);
        reply(status, format!("{} from the proxy: {} does not answer\n", status.as_u16(), self.name))
    }

    /// As in Envoy a code has no line before its first request.
    fn write_codes(&self, out: &mut String) {
        for (position, count) in self.codes.iter().enumerate() {
            let (code, count) = (position + 100, count.load(Ordering::Relaxed));
            if count > 0 {
                let labels = format!("envoy_response_code=\"{code}\",envoy_cluster_name=\"{}\"", self.name);
                let _ = writeln!(out, "envoy_cluster_upstream_rq{{{labels}}} {count}");
            }
        }
    }
}

/// A request that has no answer yet; dropped before it ended, it was abandoned: its user left, or the time was over.
struct UnderWay(Option<Arc<Cluster>>);

impl UnderWay {
    fn of(cluster: &Arc<Cluster>) -> Self {
        Self(Some(Arc::clone(cluster)))
    }

    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(cluster) = &self.0 {
            cluster.abandoned.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderMap, HeaderName};

    #[test]
    fn every_thousand_requests_hold_the_share_exactly_and_evenly() {
        for permille in [0, 1, 50, 333, 500, 999, 1000] {
            let mut split = Split { second: Weight::from_permille(permille).unwrap(), ..Split::default() };
            let picks: Vec<usize> = (0..1000).map(|_| split.next()).collect();
            assert_eq!(picks.iter().sum::<usize>(), usize::from(permille));
            let most_in_100 = picks.chunks(100).map(|c| c.iter().sum::<usize>()).max().unwrap();
            assert!(most_in_100 <= usize::from(permille).div_ceil(10) + 1, "{permille}: {most_in_100}");
        }
    }

    #[test]
    fn a_connections_own_headers_are_not_passed_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("connection", "x-own, close"), ("x-own", "1"), ("te", "trailers"), ("keep-alive", "5"), ("x-kept", "1")] {
            headers.insert(HeaderName::from_static(name), value.parse().unwrap());
        }
        strip(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-kept"]);
    }
}
