//! How much it costs to watch many: 3,000 pods of 1,000 Deployments (or of as many as `CANARY_TEST_SCALE` says). It takes minutes, so it
//! is asked for: `cargo test --test it thousands_of_pods -- --ignored --nocapture`. It prints what it measured, and fails only where
//! something is lost.

use super::{DONE_MAX, deployment, now};
use crate::rig;
use crate::rig::kubernetes::{self, ControlPlane};
use canaryd::cluster::Cluster;
use canaryd::model::Side;
use canaryd::model::rule::{Target, WorkloadForm, Workloads};
use canaryd::telemetry::Metrics;
use futures_util::StreamExt;
use hyper::http::Request;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Deployments, where nobody says another number.
const MANY: usize = 1000;
const NAMESPACES: usize = 10;
const PODS_EACH: u32 = 3;
/// Longest for all of it.
const ALL_MAX: Duration = Duration::from_secs(1800);

fn say(text: &str) {
    rig::say(&format!("scale: {text}"));
}

/// Megabytes that are resident, and seconds of CPU until now, of this process.
fn used() -> (f64, f64) {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/self/{file}")).unwrap();
    let pages: f64 = read("statm").split_whitespace().nth(1).unwrap().parse().unwrap();
    let stat = read("stat");
    let ticks = |n: usize| stat.rsplit(')').next().unwrap().split_whitespace().nth(n).unwrap().parse::<f64>().unwrap();
    (pages * 4096.0 / 1e6, (ticks(11) + ticks(12)) / 100.0)
}

fn target(n: usize) -> Target {
    let fields = [("namespace", format!("scale-{}", (n / 2) % NAMESPACES)), ("deployment", format!("web-{n}"))];
    Target { fields: fields.map(|(k, v)| (k.to_owned(), v)).into() }
}

fn pair(n: usize) -> Workloads {
    Workloads { form: WorkloadForm::Pair, sides: [target(2 * n), target(2 * n + 1)] }
}

fn path(of: &Target) -> String {
    format!("/apis/apps/v1/namespaces/{}/deployments", of.fields["namespace"])
}

async fn call(client: &Client, method: &str, path: &str, kind: &str, body: &Value) -> Value {
    let request = Request::builder().method(method).uri(path).header("content-type", kind);
    let request = request.body(Body::from(body.to_string().into_bytes())).unwrap();
    let answer = client.send(request).await.unwrap();
    assert!(answer.status().is_success(), "{method} {path}: {}", answer.status());
    let bytes = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
    serde_json::from_slice(&bytes).unwrap()
}

async fn make(plane: &'static ControlPlane, admin: &Client, many: usize) {
    for n in 0..NAMESPACES {
        super::blocking(move || plane.namespace(&format!("scale-{n}"))).await;
    }
    let each = futures_util::stream::iter(0..many).for_each_concurrent(8, |n| async move {
        let at = target(n);
        let object = deployment(&at.fields["namespace"], &at.fields["deployment"], PODS_EACH, "web:v1", "");
        call(admin, "POST", &path(&at), "application/json", &object).await;
    });
    each.await;
}

/// Waits until all run this version and are ready; asking costs more than being told, so not too often.
async fn all_run(cluster: &Cluster, many: usize, version: &str, every: Duration) {
    let begin = Instant::now();
    let mut left: Vec<usize> = (0..many).collect();
    while !left.is_empty() {
        left.retain(|n| !cluster.release(&target(*n)).is_ok_and(|r| r.is_some_and(|r| r.ready && r.version == version)));
        assert!(begin.elapsed() < ALL_MAX, "{} of {many} are not ready: {:?}", left.len(), cluster.release(&target(left[0])));
        tokio::time::sleep(every).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes, and measures rather than tests"]
async fn thousands_of_pods_cost_little() {
    let many = std::env::var("CANARY_TEST_SCALE").ok().and_then(|n| n.parse().ok()).unwrap_or(MANY);
    let Some(plane) = kubernetes::shared().await else { return };
    let admin = plane.client("admin").await;
    say(&format!("{:.1} MB resident before", used().0));
    let begin = Instant::now();
    make(plane, &admin, many).await;
    say(&format!("{many} Deployments of {PODS_EACH} pods in {NAMESPACES} namespaces made in {:.0?}", begin.elapsed()));
    let (metrics, end) = (Metrics::new(), CancellationToken::new());
    let cluster = Cluster::new(admin.clone(), metrics.clone(), end.clone());
    (0..many / 2).for_each(|n| cluster.follow(&pair(n)));
    all_run(&cluster, many, "web:v1", Duration::from_millis(500)).await;
    say(&format!("all ready after {:.0?}", begin.elapsed()));
    end.cancel();
    drop(cluster);
    tokio::time::sleep(Duration::from_secs(2)).await;

    // a daemon that starts beside what is there
    let (metrics, end, before, begin) = (Metrics::new(), CancellationToken::new(), used(), Instant::now());
    let cluster = Cluster::new(admin.clone(), metrics.clone(), end.clone());
    (0..many / 2).for_each(|n| cluster.follow(&pair(n)));
    all_run(&cluster, many, "web:v1", Duration::from_millis(500)).await;
    let (after, watches) = (used(), metrics.text().matches("canaryd_watches{").count());
    say(&format!(
        "listed in {:.1?}: {:.1} MB more resident ({:.1} in all), {:.2} s of CPU",
        begin.elapsed(),
        after.0 - before.0,
        after.0,
        after.1 - before.1
    ));
    say(&metrics.text().lines().filter(|l| l.starts_with("canaryd_watches{")).collect::<Vec<_>>().join(" "));
    assert_eq!(watches, 4, "kinds");

    // nothing happens
    let (before, begin) = (used(), Instant::now());
    tokio::time::sleep(Duration::from_secs(100)).await;
    let after = used();
    say(&format!("idle: {:.2} % of a core", 100.0 * (after.1 - before.1) / begin.elapsed().as_secs_f64()));

    // from a pod's change to `changed`, one after another
    let (mut after_send, mut after_answer) = (Vec::new(), Vec::new());
    for n in 0..300 {
        let workloads = pair((n * 7) % (many / 2));
        let at = workloads.side(Side::Second);
        let pods = cluster.pods(at, now(), now()).expect("known");
        let pod = format!("/api/v1/namespaces/{}/pods/{}/status", at.fields["namespace"], pods[0].name);
        let (before, mut changed) = (cluster.changes(&workloads), cluster.changed());
        let restarted = json!([{"op": "replace", "path": "/status/containerStatuses/0/restartCount", "value": n + 1}]);
        let watcher = async {
            while cluster.changes(&workloads) == before {
                tokio::time::timeout(DONE_MAX, changed.changed()).await.expect("a change is told").unwrap();
            }
            Instant::now()
        };
        let sent = Instant::now();
        let patch = async {
            call(&admin, "PATCH", &pod, "application/json-patch+json", &restarted).await;
            Instant::now()
        };
        let (answered, seen) = tokio::join!(patch, watcher);
        after_send.push(seen.duration_since(sent));
        after_answer.push(seen.saturating_duration_since(answered));
    }
    for (what, mut times) in [("sent", after_send), ("answered", after_answer)] {
        times.sort();
        say(&format!("a pod's change, {what} -> changed: p50 {:.1?}, p99 {:.1?}, max {:.1?}", times[150], times[296], times[299]));
    }
    let begin = Instant::now();
    (0..many / 2).for_each(|n| drop(cluster.seen(&pair(n), Side::Second, now()).unwrap()));
    say(&format!("seen() of all {} rules: {:.1?}", many / 2, begin.elapsed()));

    // all are updated at once
    let (before, begin) = (used(), Instant::now());
    let patch = json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "web:v2"}]);
    let each = futures_util::stream::iter(0..many).for_each_concurrent(8, |n| {
        let (admin, patch) = (&admin, &patch);
        async move {
            let at = target(n);
            call(admin, "PATCH", &format!("{}/{}", path(&at), at.fields["deployment"]), "application/json-patch+json", patch).await;
        }
    });
    each.await;
    all_run(&cluster, many, "web:v2", Duration::from_secs(5)).await;
    let after = used();
    say(&format!(
        "all updated in {:.0?}: {:.1} s of CPU, {:.1} MB more resident with the gone remembered",
        begin.elapsed(),
        after.1 - before.1,
        after.0 - before.0
    ));
    say(&metrics.text().lines().filter(|l| l.starts_with("canaryd_watch_")).collect::<Vec<_>>().join("\n"));
    let gone: usize = (0..many).map(|n| cluster.pods(&target(n), now() - begin.elapsed(), now()).expect("known").len()).sum();
    assert!(gone >= 2 * many * PODS_EACH as usize, "{gone} pods of both releases");
}
