//! Open-loop load: requests start by the clock, whether or not earlier ones have come back, as users do.

use super::http::{Client, Request, Response};
use super::{READY_MAX, poll};
use crossbeam_channel::{Receiver, bounded};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Most requests under way at a time; those due beyond it are counted as `skipped`, never queued.
const IN_FLIGHT_MAX: usize = 128;

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Port of 127.0.0.1.
    pub(crate) port: u16,
    /// Requests per second, at least 1.
    pub(crate) rate_per_s: u32,
    /// After this a user gives up and leaves.
    pub(crate) timeout: Duration,
    /// Ends by itself after this.
    pub(crate) lasts: Duration,
}

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Answers by status.
    pub(crate) by_status: BTreeMap<u16, u64>,
    /// Answers by their `x-version`.
    pub(crate) by_version: BTreeMap<String, u64>,
    /// Given up by the user.
    pub(crate) timeouts: u64,
    /// No connection, or one that broke.
    pub(crate) broken: u64,
    /// Not sent: too many under way.
    pub(crate) skipped: u64,
}

impl Counts {
    /// Answers of any kind.
    pub(crate) fn answered(&self) -> u64 {
        self.by_status.values().sum()
    }
}

/// Requests under way, by their number.
#[derive(Default)]
struct UnderWay {
    next: u64,
    open: BTreeSet<u64>,
}

impl UnderWay {
    fn begin(&mut self) -> u64 {
        self.next += 1;
        self.open.insert(self.next - 1);
        self.next - 1
    }
}

/// A running load; stops when dropped.
pub(crate) struct Load {
    counts: Arc<Mutex<Counts>>,
    sent: Arc<Mutex<UnderWay>>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts.
    pub(crate) fn start(settings: Settings) -> Self {
        let counts = Arc::new(Mutex::new(Counts::default()));
        let over = Arc::new(AtomicBool::new(false));
        let under_way = Arc::new(AtomicUsize::new(0));
        let sent = Arc::new(Mutex::new(UnderWay::default()));
        let (due, requests) = bounded::<()>(IN_FLIGHT_MAX);
        let mut threads: Vec<_> = (0..IN_FLIGHT_MAX)
            .map(|_| {
                let (requests, counts, under_way) = (requests.clone(), Arc::clone(&counts), Arc::clone(&under_way));
                let sent = Arc::clone(&sent);
                small_thread("user", move || user(settings, &requests, &counts, &under_way, &sent))
            })
            .collect();
        let (beat_counts, beat_over) = (Arc::clone(&counts), Arc::clone(&over));
        threads.push(small_thread("load", move || {
            beat(settings, &beat_over, || {
                // a user is free for each request sent: the channel hands over and never makes one wait
                if under_way.fetch_add(1, Ordering::AcqRel) < IN_FLIGHT_MAX && due.try_send(()).is_ok() {
                    return;
                }
                under_way.fetch_sub(1, Ordering::AcqRel);
                beat_counts.lock().skipped += 1;
            });
        }));
        Self { counts, sent, over, threads }
    }

    /// What came back so far.
    pub(crate) fn counts(&self) -> Counts {
        self.counts.lock().clone()
    }

    /// Waits until every request that is under way now has its answer, or nobody who waits for it: what is counted from then on was
    /// sent from now on.
    ///
    /// # Panics
    /// If one outlives every patience.
    pub(crate) fn wait_for_those_under_way(&self) {
        let next = self.sent.lock().next;
        let ended = poll(READY_MAX, || self.sent.lock().open.first().is_none_or(|oldest| *oldest >= next).then_some(()));
        assert!(ended.is_some(), "requests are under way for {READY_MAX:?}");
    }

    /// Ends it and waits for the requests under way.
    pub(crate) fn stop(mut self) -> Counts {
        self.over.store(true, Ordering::Relaxed);
        self.join();
        self.counts()
    }

    /// Waits until it has ended by itself.
    pub(crate) fn finish(mut self) -> Counts {
        self.join();
        self.counts()
    }

    fn join(&mut self) {
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.join();
    }
}

fn small_thread(name: &str, body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    thread::Builder::new().name(name.to_owned()).stack_size(128 << 10).spawn(body).expect("a thread")
}

/// Calls `due` at each moment of the plan. Moments missed because the machine was busy are made up for at once: the load
/// is counted, and a lull would look like lost requests.
fn beat(settings: Settings, over: &AtomicBool, due: impl Fn()) {
    let begin = Instant::now();
    let total = settings.lasts.as_secs_f64() * f64::from(settings.rate_per_s);
    for n in 0..total as u64 {
        let at = begin + Duration::from_secs_f64(n as f64 / f64::from(settings.rate_per_s));
        thread::sleep(at.saturating_duration_since(Instant::now()));
        if over.load(Ordering::Relaxed) {
            return;
        }
        due();
    }
}

fn user(settings: Settings, requests: &Receiver<()>, counts: &Mutex<Counts>, under_way: &AtomicUsize, sent: &Mutex<UnderWay>) {
    let mut client = Client::new(settings.port);
    while requests.recv().is_ok() {
        let number = sent.lock().begin();
        let answer = client.send(&Request { path: "/", ..Request::default() }, settings.timeout);
        under_way.fetch_sub(1, Ordering::AcqRel);
        counts.lock().add(answer);
        // after it is counted
        sent.lock().open.remove(&number);
    }
}

impl Counts {
    fn add(&mut self, answer: std::io::Result<Response>) {
        match answer {
            Ok(response) => {
                *self.by_status.entry(response.status).or_default() += 1;
                if let Some(version) = response.header("x-version") {
                    *self.by_version.entry(version.to_owned()).or_default() += 1;
                }
            }
            Err(e) if e.kind() == ErrorKind::TimedOut => self.timeouts += 1,
            Err(_) => self.broken += 1,
        }
    }
}
