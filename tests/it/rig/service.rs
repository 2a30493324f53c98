//! A small HTTP service whose faults a test controls, with the metrics an application would have.
//!
//! It runs inside the test process on one thread of its own, on a real socket. `die` closes the listener and every
//! connection, as a killed process would; `revive` starts it again on the same port with counters at zero.

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::convert::Infallible;
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

/// Most connections at a time; further ones wait in the listener's backlog.
const CONNECTIONS_MAX: usize = 512;
/// How long a hanging request hangs: longer than any client here waits.
const HANG: Duration = Duration::from_secs(60);
/// What a process is said to use: cores when idle, CPU seconds a request, bytes.
const IDLE_CORES: f64 = 0.1;
const CPU_S: f64 = 0.002;
const MEMORY: f64 = 200e6;
/// Bounds of the duration histogram, seconds.
const BOUNDS_S: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// What the service does to its requests.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Behaviour {
    /// Share of requests answered 500, in [0, 1].
    pub(crate) errors: f64,
    /// Share of requests never answered, in [0, 1].
    pub(crate) hangs: f64,
    /// Mean latency; each request's is uniform between a half and one and a half times it.
    pub(crate) latency: Duration,
    /// CPU used beyond the usual, as a share of it: 0.3 uses 1.3 times as much.
    pub(crate) more_cpu: f64,
    /// Memory lost, as a share of the usual per second.
    pub(crate) leak: f64,
}

/// Requests by what became of them; each is counted at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Served {
    /// Answered 200.
    pub(crate) good: u64,
    /// Answered 500.
    pub(crate) errors: u64,
}

/// A service of one version.
pub(crate) struct Service {
    version: String,
    ips: Vec<Ipv4Addr>,
    /// Its port.
    pub(crate) port: u16,
    life: Arc<Life>,
    runtime: Option<Runtime>,
}

/// What ends with the process it stands for, but for the behaviour.
struct Life {
    version: String,
    behaviour: Mutex<Behaviour>,
    tally: Mutex<Tally>,
    arrived: AtomicU64,
    started: SystemTime,
    used: Mutex<Used>,
}

/// What the process is said to have used until an instant: it shares one with the whole test.
struct Used {
    cpu_s: f64,
    memory: f64,
    until: Instant,
}

impl Used {
    /// Goes on to now.
    fn advance(&mut self, behaviour: Behaviour) {
        let passed = self.until.elapsed().as_secs_f64();
        self.until = Instant::now();
        self.cpu_s += IDLE_CORES * (1.0 + behaviour.more_cpu) * passed;
        self.memory += MEMORY * behaviour.leak * passed;
    }
}

#[derive(Default)]
struct Tally {
    served: Served,
    buckets: [u64; BOUNDS_S.len()],
    seconds: f64,
}

impl Service {
    /// Starts on any free port.
    pub(crate) fn start(version: &str) -> Self {
        Self::start_on(&[Ipv4Addr::LOCALHOST], 0, version)
    }

    /// The same on other addresses of this machine, on this port of each (0: any).
    pub(crate) fn start_on(ips: &[Ipv4Addr], port: u16, version: &str) -> Self {
        let life = Arc::new(Life::new(version, Behaviour::default()));
        let (runtime, port) = serve(&life, ips, port);
        Self { version: version.to_owned(), ips: ips.to_vec(), port, life, runtime: Some(runtime) }
    }

    /// Changes what it does, from the next request on.
    pub(crate) fn behave(&self, behaviour: Behaviour) {
        let mut now = self.life.behaviour.lock();
        self.life.used.lock().advance(*now);
        *now = behaviour;
    }

    /// Requests of this life so far.
    pub(crate) fn served(&self) -> Served {
        self.life.tally.lock().served
    }

    /// Closes the listener and every connection.
    pub(crate) fn die(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }

    /// A new life on the same port, with the same behaviour.
    pub(crate) fn revive(&mut self) {
        self.die();
        let behaviour = *self.life.behaviour.lock();
        self.life = Arc::new(Life::new(&self.version, behaviour));
        self.runtime = Some(serve(&self.life, &self.ips, self.port).0);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.die();
    }
}

impl Life {
    fn new(version: &str, behaviour: Behaviour) -> Self {
        Self {
            version: version.to_owned(),
            behaviour: Mutex::new(behaviour),
            tally: Mutex::default(),
            arrived: AtomicU64::new(0),
            started: SystemTime::now(),
            used: Mutex::new(Used { cpu_s: 0.0, memory: MEMORY, until: Instant::now() }),
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.uri().path() == "/metrics" {
            let mut page = reply(200, &self.version, self.metrics());
            // Prometheus 3 reads no page that does not say what it is
            page.headers_mut().insert("content-type", HeaderValue::from_static("text/plain; version=0.0.4"));
            return page;
        }
        let draw = Draw(self.arrived.fetch_add(1, Ordering::Relaxed));
        let behaviour = *self.behaviour.lock();
        if draw.share(1) < behaviour.hangs {
            tokio::time::sleep(HANG).await;
            return reply(500, &self.version, "hung".to_owned());
        }
        let latency = behaviour.latency.mul_f64(0.5 + draw.share(2));
        tokio::time::sleep(latency).await;
        let failed = draw.share(3) < behaviour.errors;
        self.tally.lock().count(failed, latency);
        self.used.lock().cpu_s += CPU_S * (1.0 + behaviour.more_cpu);
        reply(if failed { 500 } else { 200 }, &self.version, "hello".to_owned())
    }

    fn metrics(&self) -> String {
        let tally = self.tally.lock();
        let version = &self.version;
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let mut text = format!(
            "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds {started}\n\
             # TYPE http_requests_total counter\n\
             http_requests_total{{version=\"{version}\",code=\"200\"}} {}\nhttp_requests_total{{version=\"{version}\",code=\"500\"}} {}\n\
             # TYPE http_request_duration_seconds histogram\n",
            tally.served.good, tally.served.errors
        );
        let count = tally.served.good + tally.served.errors;
        let bounds = BOUNDS_S.map(|b| b.to_string());
        let buckets = bounds.iter().map(String::as_str).zip(tally.buckets).chain([("+Inf", count)]);
        for (le, n) in buckets {
            let _ = writeln!(text, "http_request_duration_seconds_bucket{{version=\"{version}\",le=\"{le}\"}} {n}");
        }
        let _ = writeln!(text, "http_request_duration_seconds_sum{{version=\"{version}\"}} {}", tally.seconds);
        let _ = writeln!(text, "http_request_duration_seconds_count{{version=\"{version}\"}} {count}");
        drop(tally);
        let behaviour = *self.behaviour.lock();
        let mut used = self.used.lock();
        used.advance(behaviour);
        let _ = writeln!(text, "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total {}", used.cpu_s);
        let _ = writeln!(text, "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes {}", used.memory);
        text
    }
}

impl Tally {
    fn count(&mut self, failed: bool, latency: Duration) {
        *(if failed { &mut self.served.errors } else { &mut self.served.good }) += 1;
        let seconds = latency.as_secs_f64();
        self.seconds += seconds;
        for (bucket, bound) in self.buckets.iter_mut().zip(BOUNDS_S) {
            *bucket += u64::from(seconds <= bound);
        }
    }
}

/// The fate of the n-th request, the same in each run: chance, but repeatable.
struct Draw(u64);

impl Draw {
    /// Uniform in [0, 1); `salt` tells questions about one request apart. SplitMix64's finisher.
    fn share(&self, salt: u64) -> f64 {
        let mut z = self.0.wrapping_mul(4).wrapping_add(salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn reply(status: u16, version: &str, body: String) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status).header("x-version", version);
    response.body(Full::new(Bytes::from(body))).expect("a valid answer")
}

fn serve(life: &Arc<Life>, ips: &[Ipv4Addr], mut port: u16) -> (Runtime, u16) {
    let name = format!("service {}", life.version);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name(name).enable_all().build();
    let runtime = runtime.expect("a runtime");
    for ip in ips {
        let listener = runtime.block_on(TcpListener::bind((*ip, port))).expect("the port is free");
        port = listener.local_addr().expect("an address").port();
        runtime.spawn(accept(listener, Arc::clone(life)));
    }
    (runtime, port)
}

async fn accept(listener: TcpListener, life: Arc<Life>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let life = Arc::clone(&life);
        tokio::spawn(async move {
            converse(stream, &life).await;
            drop(permit);
        });
    }
}

async fn converse(stream: TcpStream, life: &Life) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| async move { Ok::<_, Infallible>(life.answer(request).await) });
    // an error here is a client that left
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
