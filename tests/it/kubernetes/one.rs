//! One Deployment in rolling update, led step by step: the router on real ReplicaSets, and whole rollouts by it.

use super::proxy::{Fault, Proxy};
use super::scene::{ask, blocking, desired, edit, weight};
use super::walk::rest_after;
use crate::rig::kubernetes::{self, ControlPlane, client_of};
use canaryd::cluster::{Cluster, identity};
use canaryd::model::rule::{KubernetesRoute, RouteKind, Target, Traffic, WorkloadForm, Workloads};
use canaryd::model::{Noted, Retry, Side, Stands};
use canaryd::router::{self, Means, Router, RouterError};
use canaryd::telemetry::Metrics;
use kube::Client;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

mod daemon;
mod errors;
mod filled_in;
mod killed;
mod processes;

/// For everything that must happen soon; a machine that builds meanwhile is slow.
const SOON: Duration = Duration::from_secs(120);

/// A Deployment `web` of its first image.
pub(super) struct Shop {
    plane: &'static ControlPlane,
    namespace: String,
    admin: Client,
}

/// How many of an image are asked for, and ready.
type Pods = BTreeMap<String, (u64, u64)>;

impl Shop {
    async fn open(namespace: &str, replicas: u32) -> Option<Self> {
        Self::open_with(namespace, replicas, json!({"maxSurge": "25%", "maxUnavailable": "25%"})).await
    }

    async fn open_with(namespace: &str, replicas: u32, update: Value) -> Option<Self> {
        let plane = kubernetes::shared().await?;
        let labels = json!({"app": "web"});
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": namespace}, "spec": {
            "replicas": replicas, "selector": {"matchLabels": labels},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": update},
            "template": {"metadata": {"labels": labels, "annotations": {"sim/start-delay": "3s"}},
                "spec": {"terminationGracePeriodSeconds": 0, "hostnameOverride": "newer", "containers": [{"name": "web", "image": "web:1"}]}}}});
        let made = namespace.to_owned();
        blocking(move || {
            plane.namespace(&made);
            plane.apply(&object);
        })
        .await;
        let shop = Self { plane, namespace: namespace.to_owned(), admin: plane.client("admin").await };
        shop.until("ready", |pods, _| pods.get("web:1") == Some(&(u64::from(replicas), u64::from(replicas)))).await;
        Some(shop)
    }

    fn path(&self) -> String {
        format!("/apis/apps/v1/namespaces/{}/deployments/web", self.namespace)
    }

    async fn get(&self) -> Value {
        ask(&self.admin, "GET", &self.path(), None).await.1
    }

    async fn all_sets(&self) -> Vec<Value> {
        let path = format!("/apis/apps/v1/namespaces/{}/replicasets", self.namespace);
        let mut all = ask(&self.admin, "GET", &path, None).await.1;
        all["items"].as_array_mut().map(std::mem::take).expect("a list")
    }

    /// How many ReplicaSets there are.
    async fn sets(&self) -> usize {
        self.all_sets().await.len()
    }

    /// By image; those of which nothing is left are left out.
    async fn pods(&self) -> Pods {
        let mut pods = Pods::new();
        for set in self.all_sets().await {
            let image = set["spec"]["template"]["spec"]["containers"][0]["image"].as_str().expect("an image").to_owned();
            let (asked, ready) = (set["spec"]["replicas"].as_u64().unwrap_or(0), set["status"]["readyReplicas"].as_u64().unwrap_or(0));
            let one = pods.entry(image).or_default();
            *one = (one.0 + asked, one.1 + ready);
        }
        pods.retain(|_, counts| *counts != (0, 0));
        pods
    }

    /// Waits for pods, and whether it is paused.
    async fn until(&self, what: &str, is: impl Fn(&Pods, bool) -> bool) {
        let until = Instant::now() + SOON;
        loop {
            let (pods, found) = (self.pods().await, self.get().await);
            if is(&pods, found["spec"]["paused"] == true) {
                return;
            }
            assert!(Instant::now() < until, "{what} within {SOON:?}: {pods:?}, {found}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn edit(&self, operations: Value) {
        edit(&self.admin, &self.path(), &operations).await;
    }

    /// Another hand releases an image, whose pods behave so.
    async fn release(&self, image: &str, behaviour: &str) {
        self.edit(json!([
            {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image},
            {"op": "add", "path": "/spec/template/metadata/annotations/sim~1behaviour", "value": behaviour},
        ]))
        .await;
    }

    async fn image(&self) -> Value {
        self.get().await["spec"]["template"]["spec"]["containers"][0]["image"].clone()
    }

    async fn kubectl(&self, arguments: &'static [&'static str]) {
        let (plane, namespace) = (self.plane, self.namespace.clone());
        blocking(move || plane.kubectl(&[arguments, &["-n", &namespace]].concat())).await;
    }

    fn workloads(&self) -> Workloads {
        let side = |which: &str| {
            let fields = [("namespace", self.namespace.as_str()), ("deployment", "web"), ("replicaset", which)];
            Target { fields: fields.map(|(key, value)| (key.to_owned(), value.to_owned())).into() }
        };
        Workloads { form: WorkloadForm::One, sides: [side("old"), side("new")] }
    }

    /// What a start notes.
    async fn noted(&self) -> Noted {
        let cluster = Cluster::new(self.admin.clone(), Metrics::new(), CancellationToken::new());
        cluster.note(&self.workloads(), Side::Second).await.expect("it can be read")
    }

    fn router(&self, client: &Client) -> Arc<dyn Router> {
        let route = KubernetesRoute { namespace: self.namespace.clone(), name: "web".to_owned(), kind: RouteKind::RollingUpdate };
        router::open(&Traffic::Kubernetes(route), &Means { cluster: Some(client.clone()), ..Means::default() }).expect("there is a cluster")
    }

    /// Another hand releases an image, and a start is prepared.
    async fn started(&self, image: &str, client: &Client) -> Arc<dyn Router> {
        self.release(image, "").await;
        let (noted, router) = (self.noted().await, self.router(client));
        router.hold_still(&noted).await.expect("it is paused");
        router.begins(&noted);
        router
    }
}

/// Writes until it is done, as the machine does.
async fn led(router: &dyn Router, percent: u16, generation: u64) {
    let until = Instant::now() + SOON;
    loop {
        match router.write(desired(percent, generation)).await {
            Ok(()) => return,
            Err(e) if Instant::now() < until && e.retry() != Retry::Never => drop(e),
            Err(e) => panic!("{percent} %: {e}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_update_walks_beside_another_hand_and_is_undone() {
    let Some(shop) = Shop::open_with("one-walk", 10, json!({"maxSurge": 3, "maxUnavailable": 2})).await else { return };
    let stop = Arc::new(AtomicBool::new(false));
    let (client, path, ended) = (shop.admin.clone(), shop.path(), Arc::clone(&stop));
    shop.edit(json!([{"op": "add", "path": "/metadata/annotations/edit-first", "value": "x"}])).await;
    let meddler = tokio::spawn(async move {
        let mut count = 0_u64;
        while !ended.load(Ordering::Acquire) {
            let begun = Instant::now();
            edit(&client, &path, &json!([{"op": "add", "path": format!("/metadata/annotations/edit-{count}"), "value": "x"}])).await;
            count += 1;
            rest_after(begun).await;
        }
        count
    });
    let before = shop.get().await["spec"]["template"].clone();
    let router = shop.started("web:2", &shop.admin).await;
    assert_eq!(shop.get().await["spec"]["paused"], true, "at once");
    let mut most = 0;
    for (generation, percent) in [(1, 5), (2, 25), (3, 50)] {
        led(&*router, percent, generation).await;
        let reading = router.read(Side::Second).await.unwrap();
        let ours = (weight(percent), Some(generation), Some("canaryd"));
        assert_eq!((reading.weight, reading.generation, reading.writer.as_deref()), ours);
        let pods = shop.pods().await;
        let ((new, ready), old) = (pods["web:2"], pods["web:1"].1);
        assert!(ready * 100 >= u64::from(percent) * (ready + old), "{percent} %: {pods:?}");
        // a share of all 13, and at most one batch of 5 more
        let enough = (13 * u64::from(percent)).div_ceil(100);
        assert!(new <= enough.max(most) + 5, "{percent} %: {pods:?}");
        most = new;
        assert_eq!(shop.get().await["spec"]["paused"], true, "{percent} %");
    }
    led(&*router, 100, 4).await;
    assert_eq!((shop.pods().await, shop.get().await["spec"]["paused"].clone()), ([("web:2".to_owned(), (10, 10))].into(), Value::Null));
    assert_eq!(router.read(Side::Second).await.unwrap().weight, weight(100));
    let stale = router.write(desired(25, 3)).await.unwrap_err();
    assert!(matches!(stale, RouterError::Refused { .. }) && stale.to_string().contains("newer"), "{stale}");
    led(&*router, 0, 5).await;
    stop.store(true, Ordering::Release);
    let edits = meddler.await.unwrap();
    shop.until("undone", |pods, paused| *pods == [("web:1".to_owned(), (10, 10))].into() && !paused).await;
    let after = shop.get().await;
    assert_eq!(identity(&after["spec"]["template"]), identity(&before), "with the fields nobody here knows");
    assert!((0..edits).all(|n| after["metadata"]["annotations"][format!("edit-{n}")] == "x"), "one of {edits} edits was lost");
    assert_eq!(router.read(Side::Second).await.unwrap().weight, weight(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_found_paused_is_left_paused() {
    let Some(shop) = Shop::open("one-paused", 4).await else { return };
    shop.edit(json!([{"op": "add", "path": "/spec/paused", "value": true}])).await;
    let router = shop.started("web:2", &shop.admin).await;
    assert_eq!(shop.pods().await, [("web:1".to_owned(), (4, 4))].into(), "nothing has begun");
    led(&*router, 25, 1).await;
    led(&*router, 100, 2).await;
    shop.until("paused again", |pods, paused| *pods == [("web:2".to_owned(), (4, 4))].into() && paused).await;
    // its history is whole: each release is one ReplicaSet, with a revision of its own
    let revision = |set: &Value| set["metadata"]["annotations"]["deployment.kubernetes.io/revision"].as_str().map(str::to_owned);
    let mut revisions: Vec<_> = shop.all_sets().await.iter().map(revision).collect();
    revisions.sort();
    assert_eq!(revisions, [Some("1".to_owned()), Some("2".to_owned())]);
    // who may not make its ReplicaSet lets its controller do it
    let (plane, namespace) = (shop.plane, shop.namespace.clone());
    let rules = json!([{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "patch"]},
        {"apiGroups": ["apps"], "resources": ["replicasets"], "verbs": ["list", "patch"]}]);
    let least = client_of(&blocking(move || plane.service_account(&namespace, "least", &rules)).await).await;
    let router = shop.started("web:3", &least).await;
    led(&*router, 50, 3).await;
    led(&*router, 0, 4).await;
    shop.until("paused again", |pods, paused| *pods == [("web:2".to_owned(), (4, 4))].into() && paused).await;
    assert_eq!(shop.image().await, "web:2", "the template before this release, not the first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_template_is_left_alone_and_the_one_on_trial_gives_its_pods_back() {
    let Some(shop) = Shop::open("one-newer", 4).await else { return };
    for (generation, percent, image, newer) in [(1, 50, "web:2", "web:3"), (5, 100, "web:4", "web:5")] {
        let router = shop.started(image, &shop.admin).await;
        led(&*router, percent, generation).await;
        // found un-paused, a complete one is: the newest begins with a batch before it is stopped
        shop.release(newer, "").await;
        let refused = router.write(desired(100, generation + 1)).await.unwrap_err();
        assert!(refused.to_string().contains("has another template than the one on trial, by someone-else"), "{refused}");
        led(&*router, 0, generation + 2).await;
        assert_eq!(shop.image().await, newer);
        shop.until("given back", |pods, paused| paused && !pods.contains_key(image) && pods.get("web:1").is_some_and(|old| old.1 >= 3))
            .await;
        assert_eq!(router.read(Side::Second).await.unwrap().weight, weight(0));
        let noted = shop.noted().await;
        let before: Value = serde_json::from_str(noted.template_before.as_deref().unwrap()).unwrap();
        assert_eq!(before["spec"]["containers"][0]["image"], "web:1", "what carries the traffic is what the newer one is compared with");
        // and is what that goes back to
        let next = shop.router(&shop.admin);
        next.hold_still(&noted).await.unwrap();
        next.begins(&noted);
        led(&*next, 25, generation + 3).await;
        led(&*next, 0, generation + 3).await;
        shop.until("as it was found", |pods, paused| *pods == [("web:1".to_owned(), (4, 4))].into() && !paused).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_hands_on_a_rolling_update_are_seen_and_named() {
    let Some(shop) = Shop::open("one-hands", 4).await else { return };
    let router = shop.started("web:2", &shop.admin).await;
    led(&*router, 25, 1).await;
    shop.kubectl(&["rollout", "resume", "deployment/web"]).await;
    shop.until("rolled on", |pods, _| pods.get("web:2") == Some(&(4, 4))).await;
    let reading = router.read(Side::Second).await.unwrap();
    assert!(reading.weight > weight(50), "{reading:?}");
    assert_eq!(reading.writer.as_deref(), Some("whoever resumed the rolling update"));
    led(&*router, 25, 2).await;
    assert_eq!((shop.get().await["spec"]["paused"].clone(), router.read(Side::Second).await.unwrap().weight), (json!(true), weight(25)));
    shop.kubectl(&["rollout", "resume", "deployment/web"]).await;
    shop.kubectl(&["rollout", "undo", "deployment/web"]).await;
    shop.until("undone", |pods, _| *pods == [("web:1".to_owned(), (4, 4))].into()).await;
    let reading = router.read(Side::Second).await.unwrap();
    assert!(reading.writer.as_deref().is_some_and(|writer| writer.starts_with("kubectl")), "{reading:?}");
    assert_eq!(reading.weight, weight(0), "none of its pods is left");
    led(&*router, 0, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_fail_cost_a_rolling_update_nothing_but_time() {
    let Some(shop) = Shop::open("one-faults", 4).await else { return };
    let proxy = Proxy::start(shop.plane).await;
    let router = shop.started("web:2", &proxy.client).await;
    for (generation, percent) in [(1, 25), (2, 50), (3, 100), (4, 0)] {
        proxy.next_writes([Fault::Answer(409), Fault::Wait(429, 1), Fault::Answer(500), Fault::AnswerAfter(504), Fault::AnswerAfter(409)]);
        led(&*router, percent, generation).await;
        assert_eq!(router.read(Side::Second).await.unwrap().weight, weight(percent));
    }
    shop.until("undone", |pods, paused| *pods == [("web:1".to_owned(), (4, 4))].into() && !paused).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_least_rights_are_enough_for_a_rolling_update_and_each_that_is_missing_is_named() {
    let Some(shop) = Shop::open("one-rights", 4).await else { return };
    let rule = |resource: &str, verbs: &[&str]| json!({"apiGroups": ["apps"], "resources": [resource], "verbs": verbs});
    let account = async |name: &'static str, rules: Value| {
        let (plane, namespace) = (shop.plane, shop.namespace.clone());
        client_of(&blocking(move || plane.service_account(&namespace, name, &rules)).await).await
    };
    let router = shop.started("web:2", &shop.admin).await;
    led(&*router, 25, 1).await;
    let noted = shop.noted().await;
    let least = [rule("deployments", &["get", "patch"]), rule("replicasets", &["list", "patch"])];
    for (name, without, wanted) in [
        ("a", [json!(rule("deployments", &["get"])), least[1].clone()], "permission to patch deployments.apps in namespace one-rights"),
        ("b", [least[0].clone(), rule("replicasets", &["patch"])], "permission to list replicasets.apps in namespace one-rights"),
    ] {
        let router = shop.router(&account(name, json!(without)).await);
        router.begins(&noted);
        let error = router.write(desired(50, 2)).await.unwrap_err();
        assert!(matches!(error, RouterError::Denied { .. }) && error.to_string().contains(wanted), "{error}");
    }
    let router = shop.router(&account("least", json!(least)).await);
    router.begins(&noted);
    led(&*router, 50, 2).await;
    shop.release("web:3", "").await;
    let no_sets = shop.router(&account("c", json!([least[0], rule("replicasets", &["list"])])).await);
    no_sets.begins(&noted);
    let error = loop {
        match no_sets.write(desired(0, 3)).await {
            Err(RouterError::Underway { .. }) => {}
            other => break other.unwrap_err(),
        }
    };
    assert!(error.to_string().contains("permission to patch replicasets.apps in namespace one-rights"), "{error}");
    led(&*router, 0, 3).await;
    assert_eq!(shop.image().await, "web:3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_led_is_refused_with_the_way_out() {
    let Some(shop) = Shop::open("one-refuse", 4).await else { return };
    let router = shop.started("web:2", &shop.admin).await;
    let noted = shop.noted().await;
    let strategy = shop.get().await["spec"]["strategy"].clone();
    shop.edit(json!([{"op": "replace", "path": "/spec/strategy", "value": {"type": "Recreate"}}])).await;
    let error = router.write(desired(25, 1)).await.unwrap_err();
    assert!(error.to_string().contains("has strategy Recreate, which replaces all pods at once: set RollingUpdate"), "{error}");
    shop.edit(json!([{"op": "replace", "path": "/spec/strategy", "value": strategy},
        {"op": "replace", "path": "/spec/replicas", "value": 1}]))
        .await;
    let error = router.write(desired(25, 1)).await.unwrap_err();
    assert!(error.to_string().contains("has less than 2 replicas"), "{error}");
    let unknown = Noted { template_before: None, ..noted.clone() };
    let error = router.hold_still(&unknown).await.unwrap_err();
    assert!(error.to_string().contains("revisionHistoryLimit"), "{error}");
    let error = router.hold_still(&Noted { template: "another".to_owned(), ..noted }).await.unwrap_err();
    assert!(error.to_string().contains("has got another template meanwhile"), "{error}");
    led(&*router, 0, 2).await;
    assert_eq!(shop.image().await, "web:1", "back is always possible");
}

impl Shop {
    /// All its pods behave so from now on.
    async fn behave(&self, how: &str) {
        let word = format!("sim/behaviour={how}");
        let (plane, namespace) = (self.plane, self.namespace.clone());
        blocking(move || plane.kubectl(&["annotate", "pods", "-l", "app=web", "-n", &namespace, "--overwrite", &word])).await;
    }

    /// A pod of this image.
    async fn pod(&self, image: &str) -> String {
        let all = ask(&self.admin, "GET", &format!("/api/v1/namespaces/{}/pods", self.namespace), None).await.1;
        let of = |pod: &&Value| pod["spec"]["containers"][0]["image"] == image;
        let name = all["items"].as_array().and_then(|all| all.iter().find(of)?["metadata"]["name"].as_str());
        name.unwrap_or_else(|| panic!("no pod of {image}: {all}")).to_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_weight_reads_back_when_its_pods_are_ready_and_waits_no_longer_than_the_deployment_does() {
    let Some(shop) = Shop::open_with("one-honest", 4, json!({"maxSurge": 1, "maxUnavailable": 1})).await else { return };
    shop.edit(
        json!([{"op": "add", "path": "/spec/paused", "value": true}, {"op": "add", "path": "/spec/progressDeadlineSeconds", "value": 10}]),
    )
    .await;
    shop.release("web:2", "unready").await;
    let (noted, router) = (shop.noted().await, shop.router(&shop.admin));
    router.hold_still(&noted).await.expect("it is paused");
    router.begins(&noted);
    let half = desired(50, 1);
    let first = router.write(half).await.unwrap_err();
    assert_eq!(first.retry(), Retry::Underway);
    let said = first.to_string();
    assert!(said.contains("0 of 3 pods of the new template are ready, beside "), "{said}");
    let reading = router.read(Side::Second).await.unwrap();
    assert_eq!((reading.weight, reading.generation), (weight(0), Some(1)), "written, and not in force");
    assert!(matches!(&reading.stands, Stands::Underway(why) if why.contains("0 of 3 pods")), "{reading:?}");
    // as long as the Deployment gives them
    let until = Instant::now() + SOON;
    let late = loop {
        match router.write(half).await.unwrap_err() {
            RouterError::Underway { .. } => assert!(Instant::now() < until, "within {SOON:?}"),
            error => break error,
        }
    };
    assert!(late.to_string().contains("0 of 3 pods") && late.to_string().contains("progressDeadlineSeconds (10)"), "{late}");
    let until = Instant::now() + SOON;
    loop {
        // the next batch is as unready as the first
        shop.behave("well").await;
        match router.write(half).await {
            Ok(()) => break,
            Err(e) => assert!(Instant::now() < until, "within {SOON:?}: {e}"),
        }
    }
    let reading = router.read(Side::Second).await.unwrap();
    assert_eq!((reading.weight, reading.stands), (weight(50), Stands::Still));
    // one of them fails: its share is not in force, and nobody else's hand
    let (plane, namespace, pod) = (shop.plane, shop.namespace.clone(), shop.pod("web:2").await);
    blocking(move || plane.kubectl(&["annotate", "pod", &pod, "-n", &namespace, "--overwrite", "sim/behaviour=unready"])).await;
    shop.until("unready", |pods, _| pods["web:2"] == (3, 2)).await;
    let reading = router.read(Side::Second).await.unwrap();
    assert_eq!((reading.weight, reading.writer.as_deref()), (weight(50), Some("canaryd")), "2 of 4");
    assert!(matches!(&reading.stands, Stands::Underway(why) if why.contains("2 of 3 pods")), "{reading:?}");
    led(&*router, 0, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_has_the_fewest_pods_that_are_it_and_never_all() {
    // its first batch is two pods, 40 % of five
    let Some(shop) = Shop::open("one-few", 4).await else { return };
    let router = shop.started("web:2", &shop.admin).await;
    let foretold = router.foretell(&[5, 50, 100].map(weight)).await.unwrap();
    assert_eq!(
        foretold,
        ["Deployment one-few/web: the step of 5% will be 1 of 5 pods, 20%: fewer are no such share (4 replicas, maxSurge 1)"]
    );
    for (generation, percent, new) in [(1, 5, 1), (2, 25, 2), (3, 50, 3), (4, 90, 3)] {
        led(&*router, percent, generation).await;
        let now = [("web:1".to_owned(), (5 - new, 5 - new)), ("web:2".to_owned(), (new, new))].into();
        shop.until("its part", |pods, paused| paused && *pods == now).await;
        assert_eq!(router.read(Side::Second).await.unwrap().weight, weight(percent));
    }
    led(&*router, 100, 5).await;
    shop.until("all", |pods, paused| *pods == [("web:2".to_owned(), (4, 4))].into() && !paused).await;
}
