//! One version of a small HTTP service on a real socket, with faults that can be turned at run time.

use super::chance::Chance;
use crate::model::fnv;
use crate::router::proxy::histogram::Histogram;
use crate::router::proxy::serve::{self, Reply, Served, reply};
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{Method, Request, StatusCode};
use parking_lot::Mutex;
use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Spread of the latency: standard deviation of its logarithm. The 95th percentile is then 2.3 times the median.
const LATENCY_SIGMA: f64 = 0.5;
/// Longest latency, and longest median that may be set, ms.
const LATENCY_MS_MAX: f64 = 60_000.0;
/// Longest CPU time of a request that may be set, ms.
const CPU_MS_MAX: f64 = 60_000.0;
/// Fastest leak that may be set, bytes per second.
const LEAK_MAX: f64 = 1e12;
/// Cores the service uses at rest.
const IDLE_CORES: f64 = 0.02;
/// Memory of a service that just started, bytes.
const MEMORY: f64 = 64e6;
/// Garbage a request leaves until the next collection, bytes; and requests between collections.
const GARBAGE: (f64, u64) = (16e3, 500);
/// Prometheus' usual bounds, seconds.
const BOUNDS_S: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// How the service behaves; every field can be changed while it runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Faults {
    /// Share of requests answered 500, `0..=1`.
    pub error_share: f64,
    /// Median of the lognormal latency, ms, `0..=60_000`.
    pub latency_ms: f64,
    /// Requests are taken and never answered.
    pub hang: bool,
    /// CPU time a request is said to take, ms, `0..=60_000`.
    pub cpu_ms: f64,
    /// Memory it is said to lose, bytes per second, `0..=1e12`.
    pub leak: f64,
}

impl Default for Faults {
    fn default() -> Self {
        Self { error_share: 0.001, latency_ms: 20.0, hang: false, cpu_ms: 2.0, leak: 0.0 }
    }
}

/// A running service. It ends when it is dropped, or by [`Service::stop`].
#[derive(Debug)]
pub struct Service {
    served: Served,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    version: String,
    faults: Dials,
    chance: Mutex<Chance>,
    started: SystemTime,
    ok: AtomicU64,
    failed: AtomicU64,
    seconds: Histogram,
    /// CPU time of all requests so far, microseconds.
    cpu_us: AtomicU64,
    leaked: Mutex<Leaked>,
}

/// Memory lost until an instant, and how fast since.
#[derive(Debug)]
struct Leaked {
    bytes: f64,
    rate: f64,
    since: Instant,
}

impl Leaked {
    fn now(&self) -> f64 {
        self.bytes + self.rate * self.since.elapsed().as_secs_f64()
    }
}

/// [`Faults`] as they are turned: floats as their bits.
#[derive(Debug, Default)]
struct Dials {
    error_share: AtomicU64,
    latency_ms: AtomicU64,
    hang: AtomicBool,
    cpu_ms: AtomicU64,
    leak: AtomicU64,
}

impl Dials {
    fn set(&self, faults: Faults) {
        self.error_share.store(faults.error_share.clamp(0.0, 1.0).to_bits(), Ordering::Relaxed);
        self.latency_ms.store(faults.latency_ms.clamp(0.0, LATENCY_MS_MAX).to_bits(), Ordering::Relaxed);
        self.hang.store(faults.hang, Ordering::Relaxed);
        self.cpu_ms.store(faults.cpu_ms.clamp(0.0, CPU_MS_MAX).to_bits(), Ordering::Relaxed);
        self.leak.store(faults.leak.clamp(0.0, LEAK_MAX).to_bits(), Ordering::Relaxed);
    }

    fn get(&self) -> Faults {
        Faults {
            error_share: f64::from_bits(self.error_share.load(Ordering::Relaxed)),
            latency_ms: f64::from_bits(self.latency_ms.load(Ordering::Relaxed)),
            hang: self.hang.load(Ordering::Relaxed),
            cpu_ms: f64::from_bits(self.cpu_ms.load(Ordering::Relaxed)),
            leak: f64::from_bits(self.leak.load(Ordering::Relaxed)),
        }
    }
}

impl Service {
    /// Starts it on a free port of the loopback. The version seeds its chance: the same service errs on the same requests.
    ///
    /// # Errors
    /// No port can be had, or the version is not of letters, digits, `-`, `_` and `.` (it becomes a header and a label).
    pub async fn start(version: &str, faults: Faults) -> io::Result<Self> {
        if version.is_empty() || !version.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
            let why = format!("version {version:?} is not of letters, digits, -, _ and .");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let shared = Arc::new(Shared {
            version: version.to_owned(),
            faults: Dials::default(),
            chance: Mutex::new(Chance::new(fnv(version))),
            started: SystemTime::now(),
            ok: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            seconds: Histogram::new(BOUNDS_S),
            cpu_us: AtomicU64::new(0),
            leaked: Mutex::new(Leaked { bytes: 0.0, rate: 0.0, since: Instant::now() }),
        });
        shared.set(faults);
        let serving = Arc::clone(&shared);
        // no grace: a service that ends cuts its clients, as a killed process does
        let served = serve::serve(Duration::ZERO, move |request| Arc::clone(&serving).answer(request)).await?;
        Ok(Self { served, shared })
    }

    /// Requests and `/metrics` go here; `POST /fault?err=0.02&lat=50&hang=true&cpu=5&leak=1e6` changes its faults.
    pub fn addr(&self) -> SocketAddr {
        self.served.addr()
    }

    /// Its faults now.
    pub fn faults(&self) -> Faults {
        self.shared.faults.get()
    }

    /// From the next request on; values out of range are taken to its end.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.set(faults);
    }

    /// Takes no new connection; those open are cut.
    pub async fn stop(&self) {
        self.served.stop().await;
    }
}

impl Shared {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Reply {
        let mut answer = match (request.method(), request.uri().path()) {
            (&Method::GET, "/metrics") => serve::metrics(self.exposition()),
            (&Method::POST, "/fault") => self.turn(request.uri().query().unwrap_or("")),
            _ => self.work().await,
        };
        if let Ok(version) = HeaderValue::from_str(&self.version) {
            answer.headers_mut().insert("x-version", version);
        }
        answer
    }

    fn set(&self, faults: Faults) {
        self.faults.set(faults);
        let mut leaked = self.leaked.lock();
        *leaked = Leaked { bytes: leaked.now(), rate: self.faults.get().leak, since: Instant::now() };
    }

    /// A request of a user.
    async fn work(&self) -> Reply {
        let begun = Instant::now();
        let faults = self.faults.get();
        let (fails, latency_ms) = self.fate(faults);
        if faults.hang {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_secs_f64(latency_ms / 1e3)).await;
        let (status, count) = if fails { (StatusCode::INTERNAL_SERVER_ERROR, &self.failed) } else { (StatusCode::OK, &self.ok) };
        count.fetch_add(1, Ordering::Relaxed);
        self.cpu_us.fetch_add((faults.cpu_ms * 1e3) as u64, Ordering::Relaxed);
        self.seconds.observe(begun.elapsed().as_secs_f64());
        reply(status, format!("{} from {}\n", status.as_u16(), self.version))
    }

    fn fate(&self, faults: Faults) -> (bool, f64) {
        let mut chance = self.chance.lock();
        let fails = chance.uniform() < faults.error_share;
        let latency_ms = faults.latency_ms * (LATENCY_SIGMA * chance.normal()).exp();
        (fails, latency_ms.min(LATENCY_MS_MAX))
    }

    fn turn(&self, query: &str) -> Reply {
        match turned(self.faults.get(), query) {
            Ok(faults) => {
                self.set(faults);
                reply(StatusCode::OK, format!("{faults:?}\n"))
            }
            Err(why) => reply(StatusCode::BAD_REQUEST, format!("{why}\n")),
        }
    }

    fn exposition(&self) -> String {
        let (version, mut out) = (&self.version, String::new());
        let _ = writeln!(out, "# TYPE http_requests_total counter");
        // both from the start: a class that appears with its first error has no sample before it
        for (code, count) in [(200, &self.ok), (500, &self.failed)] {
            let count = count.load(Ordering::Relaxed);
            let _ = writeln!(out, "http_requests_total{{version=\"{version}\",code=\"{code}\"}} {count}");
        }
        let _ = writeln!(out, "# TYPE http_request_duration_seconds histogram");
        self.seconds.write(&mut out, "http_request_duration_seconds", &format!("version=\"{version}\""));
        let started = self.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let _ = writeln!(out, "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds {started}");
        self.process(&mut out);
        out
    }

    /// What the process is said to use: it shares one with everything else in the demo.
    fn process(&self, out: &mut String) {
        let (version, count) = (&self.version, |c: &AtomicU64| c.load(Ordering::Relaxed));
        let uptime = self.started.elapsed().unwrap_or_default().as_secs_f64();
        let cpu = IDLE_CORES * uptime + count(&self.cpu_us) as f64 / 1e6;
        let garbage = GARBAGE.0 * ((count(&self.ok) + count(&self.failed)) % GARBAGE.1) as f64;
        let memory = MEMORY + garbage + self.leaked.lock().now();
        let _ = writeln!(out, "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total{{version=\"{version}\"}} {cpu}");
        let _ =
            writeln!(out, "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes{{version=\"{version}\"}} {memory}");
    }
}

/// The faults after `err=..&lat=..&hang=..&cpu=..&leak=..`, each of which may be missing.
fn turned(mut faults: Faults, query: &str) -> Result<Faults, String> {
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match name {
            "err" => faults.error_share = within(name, value, 1.0)?,
            "lat" => faults.latency_ms = within(name, value, LATENCY_MS_MAX)?,
            "cpu" => faults.cpu_ms = within(name, value, CPU_MS_MAX)?,
            "leak" => faults.leak = within(name, value, LEAK_MAX)?,
            "hang" => faults.hang = value.parse().map_err(|_| format!("hang is true or false, not {value:?}"))?,
            _ => return Err(format!("there is no fault {name:?}: err, lat, hang, cpu, leak")),
        }
    }
    Ok(faults)
}

fn within(name: &str, value: &str, most: f64) -> Result<f64, String> {
    let number = value.parse().ok().filter(|v| (0.0..=most).contains(v));
    number.ok_or_else(|| format!("{name} is a number from 0 to {most}, not {value:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_turns_what_it_names_and_nothing_else() {
        let faults = Faults { error_share: 0.1, latency_ms: 5.0, hang: true, cpu_ms: 1.0, leak: 0.0 };
        assert_eq!(turned(faults, "err=0.02"), Ok(Faults { error_share: 0.02, ..faults }));
        assert_eq!(turned(faults, "lat=50&hang=false"), Ok(Faults { latency_ms: 50.0, hang: false, ..faults }));
        assert_eq!(turned(faults, "cpu=7&leak=1e6"), Ok(Faults { cpu_ms: 7.0, leak: 1e6, ..faults }));
        for wrong in ["leak=-1", "cpu=NaN", "err=2", "err=NaN", "lat=-1", "hang=maybe", "x=1", "err"] {
            assert!(turned(faults, wrong).is_err(), "{wrong}");
        }
    }
}
