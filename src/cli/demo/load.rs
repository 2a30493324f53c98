//! Users: requests started on schedule, whatever becomes of those before (an open loop). A closed loop would send less to a
//! slow canary, and hide that it is slow.

use super::chance::Chance;
use reqwest::{Client, redirect};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Highest rate, requests per second.
pub const RATE_MAX: f64 = 5_000.0;
/// Longest run.
pub const LENGTH_MAX: Duration = Duration::from_secs(24 * 3600);
/// Most requests under way that may be asked for.
pub const IN_FLIGHT_MAX: usize = 10_000;

/// What is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadSpec {
    /// Where to.
    pub target: SocketAddr,
    /// Mean requests per second (Poisson), `0 < rate <= RATE_MAX`.
    pub rate: f64,
    /// How long at most.
    pub length: Duration,
    /// Most requests under way; one that would be more is not sent, and counted.
    pub in_flight_max: usize,
    /// After this a user gives up.
    pub patience: Duration,
    /// The same seed gives the same schedule.
    pub seed: u64,
}

/// What became of the requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadCounts {
    /// Started.
    pub sent: u64,
    /// Answered below 500.
    pub ok: u64,
    /// Answered 500 or above, or cut.
    pub failed: u64,
    /// Given up by the user.
    pub given_up: u64,
    /// Not sent: too many under way.
    pub skipped: u64,
}

/// Running load. It ends after its length, when it is dropped, or by [`Load::stop`].
#[derive(Debug)]
pub struct Load {
    counts: Arc<Counted>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Debug, Default)]
struct Counted {
    sent: AtomicU64,
    ok: AtomicU64,
    failed: AtomicU64,
    given_up: AtomicU64,
    skipped: AtomicU64,
}

impl Load {
    /// Starts it on the current tokio runtime.
    ///
    /// # Errors
    /// A rate, length or number in flight out of range.
    pub fn start(spec: LoadSpec) -> Result<Self, String> {
        check(&spec)?;
        let load = Self { counts: Arc::default(), stop: CancellationToken::new(), tasks: TaskTracker::new() };
        let users = Users {
            client: client(&spec)?,
            url: format!("http://{}/", spec.target),
            room: Arc::new(Semaphore::new(spec.in_flight_max)),
            counts: Arc::clone(&load.counts),
            tasks: load.tasks.clone(),
        };
        let stop = load.stop.clone();
        load.tasks.spawn(async move {
            stop.run_until_cancelled(users.come(&spec)).await;
        });
        load.tasks.close();
        Ok(load)
    }

    /// So far.
    pub fn counts(&self) -> LoadCounts {
        let Counted { sent, ok, failed, given_up, skipped } = self.counts.as_ref();
        let [sent, ok, failed, given_up, skipped] = [sent, ok, failed, given_up, skipped].map(|c| c.load(Ordering::Relaxed));
        LoadCounts { sent, ok, failed, given_up, skipped }
    }

    /// Waits until the length is over and every request has ended.
    pub async fn finished(&self) -> LoadCounts {
        self.tasks.wait().await;
        self.counts()
    }

    /// No new request; those under way end.
    pub async fn stop(&self) -> LoadCounts {
        self.stop.cancel();
        self.finished().await
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Users {
    client: Client,
    url: String,
    room: Arc<Semaphore>,
    counts: Arc<Counted>,
    tasks: TaskTracker,
}

impl Users {
    /// A Poisson process: each comes an exponential time after the one before, late or not.
    async fn come(self, spec: &LoadSpec) {
        let mut chance = Chance::new(spec.seed);
        let begun = Instant::now();
        let mut at_s = 0.0;
        loop {
            at_s += chance.exponential() / spec.rate;
            if at_s >= spec.length.as_secs_f64() {
                return;
            }
            sleep_until(begun + Duration::from_secs_f64(at_s)).await;
            self.one();
        }
    }

    fn one(&self) {
        let Ok(place) = Arc::clone(&self.room).try_acquire_owned() else {
            self.counts.skipped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        self.counts.sent.fetch_add(1, Ordering::Relaxed);
        let (request, counts) = (self.client.get(&self.url), Arc::clone(&self.counts));
        self.tasks.spawn(async move {
            counts.of(&whole(request).await).fetch_add(1, Ordering::Relaxed);
            drop(place);
        });
    }
}

impl Counted {
    fn of(&self, answer: &reqwest::Result<u16>) -> &AtomicU64 {
        match answer {
            Ok(status) if *status < 500 => &self.ok,
            Err(e) if e.is_timeout() => &self.given_up,
            _ => &self.failed,
        }
    }
}

/// The status, once the body is there too: only then can the connection be used again.
async fn whole(request: reqwest::RequestBuilder) -> reqwest::Result<u16> {
    let mut answer = request.send().await?;
    while answer.chunk().await?.is_some() {}
    Ok(answer.status().as_u16())
}

fn check(spec: &LoadSpec) -> Result<(), String> {
    if !(spec.rate > 0.0 && spec.rate <= RATE_MAX) {
        return Err(format!("rate {} is not between 0 and {RATE_MAX} requests per second", spec.rate));
    }
    if spec.length > LENGTH_MAX {
        return Err(format!("length {:?} exceeds {LENGTH_MAX:?}", spec.length));
    }
    if spec.in_flight_max == 0 || spec.in_flight_max > IN_FLIGHT_MAX {
        return Err(format!("{} requests under way is not between 1 and {IN_FLIGHT_MAX}", spec.in_flight_max));
    }
    if spec.patience.is_zero() {
        return Err("patience 0 gives every request up before it is sent".to_owned());
    }
    Ok(())
}

fn client(spec: &LoadSpec) -> Result<Client, String> {
    crate::tls::install();
    Client::builder()
        .timeout(spec.patience)
        .pool_max_idle_per_host(spec.in_flight_max)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .tls_certs_only([]) // plain http only
        .build()
        .map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_refused_with_the_limit() {
        let good = LoadSpec {
            target: ([127, 0, 0, 1], 1).into(),
            rate: 10.0,
            length: Duration::from_secs(1),
            in_flight_max: 1,
            patience: Duration::from_secs(1),
            seed: 0,
        };
        assert_eq!(check(&good), Ok(()));
        for rate in [0.0, -1.0, f64::NAN, 5_001.0] {
            assert!(check(&LoadSpec { rate, ..good.clone() }).unwrap_err().contains("5000"), "{rate}");
        }
        assert!(check(&LoadSpec { length: LENGTH_MAX * 2, ..good.clone() }).is_err());
        assert!(check(&LoadSpec { in_flight_max: 0, ..good.clone() }).is_err());
        assert!(check(&LoadSpec { patience: Duration::ZERO, ..good }).is_err());
    }
}
