//! What goes wrong with pods is seen, named, and told from what goes wrong rightly.

use super::{Shop, now, until};
use crate::rig::kubernetes;
use canaryd::model::{PodSigns, Side};
use serde_json::{Value, json};

/// A change of one container's status as the kubelet would write it.
fn status(fields: &Value) -> Value {
    let replace =
        |(key, value): (&String, &Value)| json!({"op": "add", "path": format!("/status/containerStatuses/0/{key}"), "value": value});
    fields.as_object().unwrap().iter().map(replace).collect()
}

impl Shop {
    async fn pod_of(&self, name: &str) -> String {
        self.kubectl(&["get", "pods", "-l", &format!("app={name}"), "-o", "jsonpath={.items[0].metadata.name}"]).await
    }

    async fn behave(&self, pod: &str, behaviour: &str) {
        self.kubectl(&["annotate", "--overwrite", "pod", pod, &format!("sim/behaviour={behaviour}")]).await;
    }

    /// The kubelet tells of failed probes: so often until now.
    async fn unhealthy(&self, pod: &str, said: &str, count: u32) {
        let uid = self.kubectl(&["get", "pod", pod, "-o", "jsonpath={.metadata.uid}"]).await;
        let at = jiff_now();
        let name = format!("{pod}.{}", said.split_whitespace().next().unwrap().to_lowercase());
        let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": self.namespace},
            "involvedObject": {"apiVersion": "v1", "kind": "Pod", "name": pod, "namespace": self.namespace, "uid": uid},
            "reason": "Unhealthy", "type": "Warning", "message": said, "count": count, "firstTimestamp": at, "lastTimestamp": at,
            "source": {"component": "kubelet", "host": "n1"}});
        let plane = self.plane;
        super::blocking(move || plane.apply(&event)).await;
    }
}

fn jiff_now() -> String {
    jiff::Timestamp::from_millisecond(now().as_millis()).unwrap().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_of_trouble_is_seen_and_its_pod_named() {
    let Some(plane) = kubernetes::shared().await else { return };
    let shop = Shop::open(plane, "watch-signs").await;
    shop.stock().await;
    let begin = now();
    let quiet = shop.seen("nothing", begin, |_| true).await;
    assert_eq!((quiet.canary.signs, quiet.canary.trouble.as_str()), (PodSigns::default(), ""));
    let pod = shop.pod_of("web-b").await;
    shop.behave(&pod, "oomkilled").await;
    let seen = shop.seen("out of memory", begin, |s| s.canary.signs.oom_killed == 1).await;
    assert_eq!((seen.canary.signs.restarts, seen.canary.ready), (1, 1), "it runs again");
    assert_eq!(seen.canary.trouble, format!("pod {pod} was ended for want of memory"));
    shop.behave(&pod, "crashloop").await;
    let seen = shop.seen("crash loop", begin, |s| s.canary.signs.crash_loops == 1).await;
    assert!(seen.canary.trouble.starts_with(&format!("pod {pod} is in a crash loop, ")), "{seen:?}");
    assert!(seen.canary.trouble.contains("container app: CrashLoopBackOff: back-off 10s restarting failed container"), "{seen:?}");
    shop.seen("three restarts", begin, |s| s.canary.signs.restarts >= 4 && s.canary.signs.crash_loops == 1).await;
    // it waits no more, and was restarted too often all the same
    shop.kubectl(&["annotate", "pod", &pod, "sim/behaviour-"]).await;
    let seen = shop.seen("it is ready again", begin, |s| s.canary.ready == 1).await;
    assert_eq!((seen.canary.signs.crash_loops, seen.baseline.signs), (1, PodSigns::default()));
    assert!(seen.baseline.trouble.is_empty());
    // a rollout that begins now has nothing to do with it
    let later = shop.cluster.seen(&shop.pair(), Side::Second, now()).unwrap();
    assert_eq!((later.canary.signs, later.canary.trouble.as_str()), (PodSigns::default(), ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_never_becomes_ready_says_why() {
    let Some(plane) = kubernetes::shared().await else { return };
    let shop = Shop::open(plane, "watch-never").await;
    shop.stock().await;
    let begin = now();
    shop.deploy("web-b", 1, "web:missing", "image-pull").await;
    let seen = shop.seen("no image", begin, |s| s.canary.signs.image_pulls == 1).await;
    let said = &seen.canary.trouble;
    assert!(
        said.starts_with("pod web-b-") && said.ends_with("container app: ImagePullBackOff: Back-off pulling image web:missing"),
        "{said}"
    );
    let missing = || shop.cluster.release(&shop.target("web-b")).unwrap().filter(|r| r.version == "web:missing");
    let release = until("the release", missing).await;
    assert_eq!((release.ready, release.ready_replicas), (false, 0), "the pod of the release before is ready, which does not count");
    shop.deploy("web-b", 1, "web:v3", "unready").await;
    let unready = |s: &canaryd::model::PerArm<canaryd::model::WorkloadSeen>| {
        s.canary.trouble.contains("is not ready: containers with unready status")
    };
    let seen = shop.seen("unready", begin, unready).await;
    assert_eq!(seen.canary.signs, PodSigns::default(), "it was never ready: its probes fail rightly");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_probes_are_counted_where_they_are_wrong() {
    let Some(plane) = kubernetes::shared().await else { return };
    let shop = Shop::open(plane, "watch-probes").await;
    shop.stock().await;
    let begin = now();
    let (pod, theirs) = (shop.pod_of("web-b").await, shop.pod_of("web-a").await);
    shop.behave(&pod, "unready").await;
    shop.seen("a flap", begin, |s| s.canary.signs.failed_probes == 1 && s.canary.ready == 0).await;
    shop.unhealthy(&pod, "Startup probe failed: not up", 7).await;
    shop.unhealthy(&pod, "Readiness probe failed: HTTP probe failed with statuscode: 503", 2).await;
    let seen = shop.seen("two", begin, |s| s.canary.signs.failed_probes == 2).await;
    let wanted = format!("pod {pod} failed 2 probes: Readiness probe failed: HTTP probe failed with statuscode: 503");
    assert_eq!((seen.canary.trouble, seen.baseline.signs.failed_probes), (wanted, 0));
    shop.unhealthy(&pod, "Readiness probe failed: HTTP probe failed with statuscode: 503", 6).await;
    shop.unhealthy(&theirs, "Liveness probe failed: timeout", 3).await;
    let both =
        |s: &canaryd::model::PerArm<canaryd::model::WorkloadSeen>| (s.canary.signs.failed_probes, s.baseline.signs.failed_probes) == (6, 3);
    shop.seen("the baseline's too", begin, both).await;
    // one that comes later sees those that began after the pod was ready, and nothing twice
    let kubeconfig = plane.kubeconfig("admin");
    let late = shop.seen_as(&kubeconfig).await;
    late.follow(&shop.pair());
    let seen =
        until("a second look", || late.seen(&shop.pair(), Side::Second, begin).ok().filter(|s| s.baseline.signs.failed_probes > 0)).await;
    assert_eq!(seen.baseline.signs.failed_probes, 3, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_on_its_way_out_counts_nothing() {
    let Some(plane) = kubernetes::shared().await else { return };
    let shop = Shop::open(plane, "watch-ending").await;
    shop.stock().await;
    let begin = now();
    let pod = shop.pod_of("web-b").await;
    // it stays, on its way out
    shop.patch(&format!("pods/{pod}"), &json!([{"op": "add", "path": "/metadata/finalizers", "value": ["example.com/stay"]}])).await;
    shop.kubectl(&["delete", "pod", &pod, "--wait=false"]).await;
    shop.pods_once(&shop.target("web-b"), begin, |pods| pods.len() == 2).await;
    shop.seen("another in its place", begin, |s| s.canary.pods == 1 && s.canary.ready == 1).await;
    let crashes = status(&json!({"ready": false, "restartCount": 5, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": jiff_now()}}}));
    shop.patch(&format!("pods/{pod}/status"), &crashes).await;
    shop.unhealthy(&pod, "Readiness probe failed: connection refused", 9).await;
    // what comes after it has been seen, so it has
    let other = shop.pod_of("web-a").await;
    shop.unhealthy(&other, "Readiness probe failed: x", 1).await;
    let seen = shop.seen("the other's", begin, |s| s.baseline.signs.failed_probes == 1).await;
    assert_eq!((seen.canary.signs, seen.canary.trouble.as_str()), (PodSigns::default(), ""), "{seen:?}");
    // its last counters are its workload's
    shop.pods_once(&shop.target("web-b"), begin, |pods| pods.len() == 2 && pods.iter().any(|p| p.name == pod && !p.ready)).await;
    shop.patch(&format!("pods/{pod}"), &json!([{"op": "remove", "path": "/metadata/finalizers"}])).await;
}
