//! The processes of a Deployment's pods: pods of this cluster run nothing, so one page counts for all of them what each would have.

use crate::rig::endpoint::{Endpoint, Reply};
use crate::rig::kubernetes::ControlPlane;
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Requests of a pod per second, and one of how many fails, by image.
const RATE_PER_S: f64 = 100.0;
const FAILS: [(&str, f64); 2] = [("web:1", 500.0), ("web:2", 5.0)];

/// What is known of them: image, and since when it was seen, by pod.
pub(super) struct Processes {
    namespace: String,
    seen: Mutex<BTreeMap<String, (String, Instant)>>,
    /// Those of `web:2` fail as `web:1` does.
    pub(super) well: AtomicBool,
}

/// A thread that looks at them until this is dropped.
pub(super) struct Following {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // a panic there is told there
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Processes {
    pub(super) fn of(namespace: &str) -> Arc<Self> {
        Arc::new(Self { namespace: namespace.to_owned(), seen: Mutex::default(), well: AtomicBool::new(false) })
    }

    /// Those that are there, ready. What cannot be looked at goes on as it was.
    pub(super) fn look(&self, plane: &ControlPlane) {
        let Ok(text) = plane.try_kubectl(&["get", "pods", "-n", &self.namespace, "-o", "json"], None) else { return };
        let all: Value = serde_json::from_str(&text).unwrap_or_default();
        let mut known = self.seen.lock();
        let mut now = BTreeMap::new();
        for pod in all["items"].as_array().into_iter().flatten() {
            let is_ready = |c: &Value| c["type"] == "Ready" && c["status"] == "True";
            let ready = pod["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(is_ready));
            let image = pod["spec"]["containers"][0]["image"].as_str().filter(|_| ready);
            if let (Some(name), Some(image)) = (pod["metadata"]["name"].as_str(), image) {
                let since = known.get(name).map_or_else(Instant::now, |(_, since)| *since);
                now.insert(name.to_owned(), (image.to_owned(), since));
            }
        }
        *known = now;
    }

    /// Looks at them twice a second.
    pub(super) fn follow(self: &Arc<Self>, plane: &'static ControlPlane) -> Following {
        let (processes, stop) = (Arc::clone(self), Arc::new(AtomicBool::new(false)));
        let ended = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !ended.load(Ordering::Acquire) {
                processes.look(plane);
                thread::sleep(Duration::from_millis(500));
            }
        });
        Following { stop, thread: Some(thread) }
    }

    /// Where they are scraped.
    pub(super) fn serve(self: &Arc<Self>) -> Endpoint {
        let scraped = Arc::clone(self);
        Endpoint::start(move |_| Reply::new(200, scraped.page()).header("content-type", "text/plain"))
    }

    /// What they count.
    pub(super) fn page(&self) -> String {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
        let mut page = "# TYPE http_requests_total counter\n# TYPE process_start_time_seconds gauge\n".to_owned();
        let well = self.well.load(Ordering::Acquire);
        for (pod, (image, since)) in &*self.seen.lock() {
            let image = if well { "web:1" } else { image.as_str() };
            let fails = FAILS.iter().find(|(of, _)| *of == image).map_or(0.0, |(_, one_of)| 1.0 / one_of);
            let (age, of) = (since.elapsed().as_secs_f64(), format!("namespace=\"{}\",pod=\"{pod}\"", self.namespace));
            for (status, share) in [("200", 1.0 - fails), ("500", fails)] {
                let count = (age * RATE_PER_S * share).floor();
                writeln!(page, "http_requests_total{{{of},status=\"{status}\"}} {count}").expect("a string");
            }
            // they were started when they were first seen
            writeln!(page, "process_start_time_seconds{{{of}}} {}", (epoch - age).round()).expect("a string");
        }
        page
    }
}
