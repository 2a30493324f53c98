//! Actions on workloads against the real control plane: from several states, beside another hand, with answers it cannot be made
//! to give, and with the least rights.

use super::proxy::{Fault, Proxy};
use super::scene::{OTHER, ask, blocking, edit};
use crate::rig::kubernetes::{self, ControlPlane, client_of};
use canaryd::cluster::actions::{Job, act, idle_due};
use canaryd::cluster::identity;
use canaryd::model::rule::{Target, WorkloadForm, Workloads};
use canaryd::model::{Noted, Outcome, Retry, RolloutId, Side, Timestamp, WorkloadAction};
use kube::Client;
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime};
use tokio::time::sleep;

/// Longest until pods are ready, or an action is done.
const SOON: Duration = Duration::from_secs(90);

/// Two Deployments, `web-v1` with the traffic and `web-v2` on trial.
pub(super) struct Shop {
    pub(super) plane: &'static ControlPlane,
    pub(super) namespace: String,
    pub(super) admin: Client,
    workloads: Workloads,
}

fn target(namespace: &str, name: &str) -> Target {
    let fields = [("namespace", namespace), ("deployment", name)];
    Target { fields: fields.map(|(key, value)| (key.to_owned(), value.to_owned())).into() }
}

fn deployment(namespace: &str, name: &str, replicas: u32, image: &str) -> Value {
    let labels = json!({"app": "web", "track": name, "release": image});
    // newer than the types of the client library: it may not be lost
    let container = json!({"name": "web", "image": image, "restartPolicy": "Always",
        "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicas": replicas, "progressDeadlineSeconds": 6, "selector": {"matchLabels": {"app": "web", "track": name}},
            "template": {"metadata": {"labels": labels, "annotations": {"team": "a/b~c"}},
                "spec": {"containers": [container], "hostnameOverride": "newer", "terminationGracePeriodSeconds": 0}}}})
}

impl Shop {
    pub(super) async fn open(name: &str) -> Option<Self> {
        let plane = kubernetes::shared().await?;
        let namespace = name.to_owned();
        let sides = ["web-v1", "web-v2"].map(|deployment| target(&namespace, deployment));
        let workloads = Workloads { form: WorkloadForm::StableCanary, sides };
        let shop = Self { plane, namespace, admin: plane.client("admin").await, workloads };
        let items = [deployment(name, "web-v1", 3, "web-1"), deployment(name, "web-v2", 2, "web-1")];
        shop.apply(json!({"apiVersion": "v1", "kind": "List", "items": items})).await;
        for name in ["web-v1", "web-v2"] {
            shop.until(name, |d| d["status"]["readyReplicas"] == d["spec"]["replicas"]).await;
        }
        Some(shop)
    }

    pub(super) async fn apply(&self, object: Value) {
        let (plane, namespace) = (self.plane, self.namespace.clone());
        blocking(move || {
            plane.namespace(&namespace);
            plane.apply(&object);
        })
        .await;
    }

    pub(super) fn path(&self, name: &str) -> String {
        format!("/apis/apps/v1/namespaces/{}/deployments/{name}", self.namespace)
    }

    fn scaler_path(&self, name: &str) -> String {
        format!("/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers/{name}", self.namespace)
    }

    pub(super) async fn get(&self, name: &str) -> Value {
        ask(&self.admin, "GET", &self.path(name), None).await.1
    }

    async fn template(&self, name: &str) -> Value {
        self.get(name).await["spec"]["template"].clone()
    }

    async fn scaler(&self, name: &str) -> Value {
        ask(&self.admin, "GET", &self.scaler_path(name), None).await.1
    }

    pub(super) async fn edit(&self, name: &str, operations: Value) -> Value {
        edit(&self.admin, &self.path(name), &operations).await
    }

    /// Another hand releases an image there.
    pub(super) async fn release(&self, name: &str, image: &str) {
        let at = "/spec/template";
        let image = json!([{"op": "replace", "path": format!("{at}/spec/containers/0/image"), "value": image},
            {"op": "replace", "path": format!("{at}/metadata/labels/release"), "value": image}]);
        self.edit(name, image).await;
    }

    pub(super) async fn until(&self, name: &str, is: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + SOON;
        loop {
            let found = self.get(name).await;
            if is(&found) {
                return found;
            }
            assert!(Instant::now() < until, "{name} within {SOON:?}: {found}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// An autoscaler of a workload.
    pub(super) async fn scaled(&self, name: &str, min: u32, max: u32) {
        let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": name});
        let spec = json!({"scaleTargetRef": target, "minReplicas": min, "maxReplicas": max, "metrics":
            [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]});
        let metadata = json!({"name": format!("{name}-hpa"), "namespace": self.namespace});
        self.apply(json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": spec})).await;
    }

    /// What was found before a new release came to `web-v2`.
    async fn noted(&self) -> Noted {
        let before = self.template("web-v2").await;
        Noted { baseline_ready: 3, canary_wanted: 2, template_before: Some(before.to_string()), ..Noted::default() }
    }

    /// The same with that release.
    async fn on_trial(&self, image: &str) -> Noted {
        let noted = self.noted().await;
        self.release("web-v2", image).await;
        Noted { template: identity(&self.template("web-v2").await), ..noted }
    }

    async fn act(&self, client: &Client, noted: &Noted, action: WorkloadAction) -> Outcome {
        let rollout = RolloutId("web-1".to_owned());
        let job = Job { workloads: &self.workloads, canary: Side::Second, noted, action, rollout: &rollout };
        let until = Instant::now() + SOON;
        loop {
            let outcome = act(client, &job).await;
            // a busy machine may stand still for longer than connecting may take, and nothing was asked then
            let unasked = matches!(&outcome, Outcome::Failed { text, .. } if text.contains("(Connect): deadline has elapsed"));
            if !unasked || Instant::now() > until {
                return outcome;
            }
        }
    }

    /// As the machine does it: what is not so yet is asked for again.
    async fn done(&self, noted: &Noted, action: WorkloadAction) {
        let until = Instant::now() + SOON;
        loop {
            match self.act(&self.admin, noted, action).await {
                Outcome::Done => return,
                Outcome::Failed { retry: Retry::After(_), .. } if Instant::now() < until => sleep(Duration::from_millis(100)).await,
                failed => panic!("{failed:?}"),
            }
        }
    }

    async fn never(&self, noted: &Noted, action: WorkloadAction) -> String {
        never(self.act(&self.admin, noted, action).await)
    }

    /// One that an edit of the other hand happens to, between our read and our write.
    pub(super) fn meanwhile(&self, name: &str, operations: Value) -> Fault {
        let (plane, namespace, name) = (self.plane, self.namespace.clone(), name.to_owned());
        Fault::After(Box::new(move || {
            let patch = operations.to_string();
            let manager = format!("--field-manager={OTHER}");
            plane.kubectl(&["patch", "deployment", &name, "-n", &namespace, "--type=json", "-p", &patch, &manager]);
        }))
    }
}

fn never(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed { text, retry: Retry::Never } => text,
        other => panic!("{other:?}"),
    }
}

fn again(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed { text, retry: Retry::After(_) } => text,
        other => panic!("{other:?}"),
    }
}

fn after_seconds(seconds: u64) -> Timestamp {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp::from_millis(i64::try_from((now + Duration::from_secs(seconds)).as_millis()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undo_goes_back_to_the_template_noted_and_loses_no_field() {
    let Some(shop) = Shop::open("act-undo").await else { return };
    let before = shop.template("web-v2").await;
    assert_eq!(before["spec"]["hostnameOverride"], "newer", "the API server keeps it");
    assert_eq!(before["spec"]["containers"][0]["restartPolicyRules"][0]["exitCodes"]["values"], json!([42]));
    let noted = shop.noted().await;
    // two pushes: the one before is not the one to go back to
    shop.release("web-v2", "web-2").await;
    shop.release("web-v2", "web-3").await;
    let noted = Noted { template: identity(&shop.template("web-v2").await), ..noted };
    assert_eq!(shop.act(&shop.admin, &noted, WorkloadAction::Undo).await, Outcome::Done);
    let undone = shop.get("web-v2").await;
    assert_eq!(undone["spec"]["template"].to_string(), before.to_string(), "to the byte");
    assert_eq!(undone["status"]["observedGeneration"], undone["metadata"]["generation"]);
    assert_eq!(shop.act(&shop.admin, &noted, WorkloadAction::Undo).await, Outcome::Done);
    assert_eq!(shop.get("web-v2").await["metadata"]["generation"], undone["metadata"]["generation"], "twice is once");
    shop.until("web-v2", |d| d["status"]["updatedReplicas"] == 2 && d["status"]["replicas"] == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undo_says_why_it_is_not_possible() {
    let Some(shop) = Shop::open("act-undo-not").await else { return };
    let noted = shop.on_trial("web-2").await;
    let unknown = Noted { template_before: None, ..noted.clone() };
    let text = shop.never(&unknown, WorkloadAction::Undo).await;
    assert!(text.starts_with("undo: Deployment act-undo-not/web-v2: no template from before this release is known"), "{text}");
    shop.edit("web-v2", json!([{"op": "add", "path": "/spec/paused", "value": true}])).await;
    let text = shop.never(&noted, WorkloadAction::Undo).await;
    assert_eq!(text, "undo: Deployment act-undo-not/web-v2 is paused: resume it (kubectl rollout resume), then this is done");
    shop.edit("web-v2", json!([{"op": "remove", "path": "/spec/paused"}])).await;
    shop.release("web-v2", "web-3").await;
    let newer = shop.template("web-v2").await;
    let text = shop.never(&noted, WorkloadAction::Undo).await;
    assert!(text.contains("another template than the one that was on trial"), "{text}");
    let text = shop.never(&noted, WorkloadAction::ScaleCanaryDown).await;
    assert!(text.contains("another template than the one that was on trial"), "{text}");
    assert_eq!(shop.template("web-v2").await, newer, "a newer release is not ours to touch");
    blocking({
        let (plane, namespace) = (shop.plane, shop.namespace.clone());
        move || plane.kubectl(&["delete", "deployment", "web-v2", "-n", &namespace])
    })
    .await;
    let text = shop.never(&noted, WorkloadAction::Undo).await;
    assert_eq!(text, "undo: Deployment act-undo-not/web-v2: does not exist");
    assert_eq!(shop.act(&shop.admin, &noted, WorkloadAction::ScaleCanaryDown).await, Outcome::Done, "it has no replicas");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copy_brings_the_template_to_stable_and_waits_until_it_is_ready() {
    let Some(shop) = Shop::open("act-copy").await else { return };
    let slow = json!([{"op": "add", "path": "/spec/template/metadata/annotations/sim~1start-delay", "value": "2s"}]);
    let noted = shop.noted().await;
    shop.edit("web-v2", slow).await;
    shop.release("web-v2", "web-2").await;
    let noted = Noted { template: identity(&shop.template("web-v2").await), ..noted };
    // somebody has scaled stable down meanwhile
    shop.edit("web-v1", json!([{"op": "replace", "path": "/spec/replicas", "value": 1}])).await;
    let canary = shop.get("web-v2").await;
    let waits = again(shop.act(&shop.admin, &noted, WorkloadAction::Copy).await);
    assert!(waits.starts_with("copy: Deployment act-copy/web-v1: "), "{waits}");
    shop.done(&noted, WorkloadAction::Copy).await;
    let copied = shop.get("web-v1").await;
    let status = &copied["status"];
    assert_eq!([&status["replicas"], &status["updatedReplicas"], &status["readyReplicas"]], [&json!(3); 3], "{status}");
    let mut expected = canary["spec"]["template"].clone();
    assert_eq!(expected["metadata"]["labels"], json!({"app": "web", "track": "web-v2", "release": "web-2"}));
    expected["metadata"]["labels"] = json!({"app": "web", "track": "web-v1", "release": "web-2"});
    assert_eq!(copied["spec"]["template"], expected, "what tells them apart stays, everything else is the canary's");
    shop.done(&noted, WorkloadAction::Copy).await;
    assert_eq!(shop.get("web-v1").await["metadata"]["generation"], copied["metadata"]["generation"], "twice is once");
    assert_eq!(shop.get("web-v2").await["metadata"]["generation"], canary["metadata"]["generation"], "the canary is only read");
    // a newer release must not reach stable untested
    shop.release("web-v2", "web-3").await;
    let text = shop.never(&noted, WorkloadAction::Copy).await;
    assert!(text.contains("web-v2 has another template than the one that was on trial"), "{text}");
    assert_eq!(shop.template("web-v1").await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stable_that_cannot_take_a_copy_is_a_clear_failure() {
    let Some(shop) = Shop::open("act-copy-not").await else { return };
    let noted = shop.noted().await;
    let crash = json!([{"op": "add", "path": "/spec/template/metadata/annotations/sim~1behaviour", "value": "crashloop"}]);
    shop.edit("web-v2", crash).await;
    let noted = Noted { template: identity(&shop.template("web-v2").await), ..noted };
    shop.edit("web-v1", json!([{"op": "add", "path": "/spec/paused", "value": true}])).await;
    let text = shop.never(&noted, WorkloadAction::Copy).await;
    assert!(text.contains("Deployment act-copy-not/web-v1 is paused: resume it"), "{text}");
    shop.edit("web-v1", json!([{"op": "remove", "path": "/spec/paused"}])).await;
    let until = Instant::now() + SOON;
    let text = loop {
        match shop.act(&shop.admin, &noted, WorkloadAction::Copy).await {
            Outcome::Failed { text, retry: Retry::Never } => break text,
            Outcome::Failed { retry: Retry::After(_), .. } if Instant::now() < until => sleep(Duration::from_millis(200)).await,
            other => panic!("{other:?}"),
        }
    };
    assert!(text.contains("does not become ready: ProgressDeadlineExceeded"), "{text}");
    assert!(shop.get("web-v1").await["status"]["readyReplicas"].as_u64().unwrap() >= 2, "its old pods still serve");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_are_given_at_least_and_taken_only_from_the_canary() {
    let Some(shop) = Shop::open("act-scale").await else { return };
    let noted = shop.on_trial("web-2").await;
    let replicas = |d: &Value| d["spec"]["replicas"].as_u64().unwrap_or(1);
    shop.edit("web-v1", json!([{"op": "replace", "path": "/spec/replicas", "value": 1}])).await;
    shop.done(&noted, WorkloadAction::RestoreBaseline).await;
    assert_eq!(replicas(&shop.get("web-v1").await), 3);
    shop.edit("web-v1", json!([{"op": "replace", "path": "/spec/replicas", "value": 5}])).await;
    shop.done(&noted, WorkloadAction::RestoreBaseline).await;
    assert_eq!(replicas(&shop.get("web-v1").await), 5, "more is left alone");
    shop.done(&noted, WorkloadAction::ScaleCanary { replicas: 4 }).await;
    shop.done(&noted, WorkloadAction::ScaleCanary { replicas: 1 }).await;
    let scaled = shop.get("web-v2").await;
    assert_eq!(replicas(&scaled), 4);
    let fields = scaled["metadata"]["managedFields"].as_array().unwrap();
    assert!(fields.iter().any(|f| f["manager"] == "canaryd" && f["subresource"] == "scale"), "written through scale: {fields:?}");
    shop.done(&noted, WorkloadAction::ScaleCanaryDown).await;
    shop.done(&noted, WorkloadAction::ScaleCanaryDown).await;
    shop.until("web-v2", |d| d["spec"]["replicas"] == 0 && d["status"]["replicas"].as_u64().unwrap_or(0) == 0).await;
    shop.done(&noted, WorkloadAction::ScaleCanary { replicas: 2 }).await;
    assert_eq!(replicas(&shop.get("web-v2").await), 2, "also up from none");
    let one = Workloads { form: WorkloadForm::One, sides: [target("act-scale", "web-v1"), target("act-scale", "web-v1")] };
    let (rollout, action) = (RolloutId("web-1".to_owned()), WorkloadAction::ScaleCanaryDown);
    let job = Job { workloads: &one, canary: Side::Second, noted: &noted, action, rollout: &rollout };
    assert!(never(act(&shop.admin, &job).await).contains("would end the service"));
    let nameless = Workloads { sides: [Target::default(), Target::default()], ..shop.workloads.clone() };
    let text = never(act(&shop.admin, &Job { workloads: &nameless, ..job }).await);
    assert!(text.contains("give the workload a namespace and a deployment"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_autoscalers_minimum_is_raised_and_given_back() {
    let Some(shop) = Shop::open("act-hpa").await else { return };
    let noted = shop.on_trial("web-2").await;
    shop.done(&noted, WorkloadAction::HoldBaseline).await;
    shop.done(&noted, WorkloadAction::ReleaseScalers).await;
    shop.scaled("web-v1", 2, 10).await;
    shop.scaled("web-v2", 1, 4).await;
    let minimum =
        |scaler: &Value| (scaler["spec"]["minReplicas"].clone(), scaler["metadata"]["annotations"]["canaryd.io/min-replicas"].clone());
    for _ in 0..2 {
        shop.done(&noted, WorkloadAction::HoldBaseline).await;
        shop.done(&noted, WorkloadAction::ScaleCanary { replicas: 3 }).await;
        assert_eq!(minimum(&shop.scaler("web-v1-hpa").await), (json!(3), json!("2")));
        assert_eq!(minimum(&shop.scaler("web-v2-hpa").await), (json!(3), json!("1")));
    }
    assert_eq!(shop.get("web-v2").await["spec"]["replicas"], 3, "not only when the autoscaler looks again");
    shop.done(&noted, WorkloadAction::ScaleCanary { replicas: 4 }).await;
    assert_eq!(minimum(&shop.scaler("web-v2-hpa").await), (json!(4), json!("1")), "what it was is noted once");
    let text = shop.never(&noted, WorkloadAction::ScaleCanary { replicas: 5 }).await;
    assert!(text.contains("web-v2-hpa allows at most 4 replicas and 5 are needed: raise its maxReplicas"), "{text}");
    // beyond its maximum there is nothing to hold
    let crowd = Noted { baseline_ready: 30, ..noted.clone() };
    shop.done(&crowd, WorkloadAction::HoldBaseline).await;
    assert_eq!(minimum(&shop.scaler("web-v1-hpa").await), (json!(10), json!("2")));
    for _ in 0..2 {
        shop.done(&noted, WorkloadAction::ReleaseScalers).await;
        assert_eq!(minimum(&shop.scaler("web-v1-hpa").await), (json!(2), Value::Null));
        assert_eq!(minimum(&shop.scaler("web-v2-hpa").await), (json!(1), Value::Null));
    }
    // a minimum that another hand set meanwhile stays
    shop.done(&noted, WorkloadAction::HoldBaseline).await;
    edit(&shop.admin, &shop.scaler_path("web-v1-hpa"), &json!([{"op": "replace", "path": "/spec/minReplicas", "value": 6}])).await;
    shop.done(&noted, WorkloadAction::ReleaseScalers).await;
    assert_eq!(minimum(&shop.scaler("web-v1-hpa").await), (json!(6), Value::Null));
    // and is what is given back where it was raised again
    shop.done(&crowd, WorkloadAction::HoldBaseline).await;
    assert_eq!(minimum(&shop.scaler("web-v1-hpa").await), (json!(10), json!("6")));
    edit(&shop.admin, &shop.scaler_path("web-v1-hpa"), &json!([{"op": "replace", "path": "/spec/minReplicas", "value": 4}])).await;
    shop.done(&crowd, WorkloadAction::HoldBaseline).await;
    assert_eq!(minimum(&shop.scaler("web-v1-hpa").await), (json!(10), json!("4")));
    shop.done(&noted, WorkloadAction::ReleaseScalers).await;
    assert_eq!(minimum(&shop.scaler("web-v1-hpa").await), (json!(4), Value::Null));
    // an autoscaler leaves alone what was scaled to 0
    shop.done(&noted, WorkloadAction::ScaleCanaryDown).await;
    shop.until("web-v2", |d| d["status"]["replicas"].as_u64().unwrap_or(0) == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_shall_idle_is_written_down_and_swept_when_it_is_due() {
    let Some(shop) = Shop::open("act-idle").await else { return };
    let noted = shop.on_trial("web-2").await;
    let idle = WorkloadAction::IdleBaseline { replicas: 1, after: Duration::from_secs(600) };
    shop.done(&noted, idle).await;
    let annotations = |d: &Value| {
        let all = d["metadata"]["annotations"].as_object().unwrap().clone();
        all.into_iter().filter(|(key, _)| key.starts_with("canaryd.io/idle")).collect::<serde_json::Map<_, _>>()
    };
    let written = annotations(&shop.get("web-v1").await);
    assert_eq!((&written["canaryd.io/idle-replicas"], written.len()), (&json!("1"), 4), "{written:?}");
    sleep(Duration::from_millis(1100)).await;
    shop.done(&noted, idle).await;
    assert_eq!(annotations(&shop.get("web-v1").await), written, "asked for again, its time stays");
    let targets = shop.workloads.sides.clone();
    let sweep = async |now: Timestamp, traffic: Option<bool>| idle_due(&shop.admin, &targets, now, |_| async move { traffic }).await;
    assert_eq!(sweep(after_seconds(0), Some(false)).await, [], "not yet");
    assert_eq!(sweep(after_seconds(700), None).await, [], "who cannot look does nothing");
    assert_eq!(annotations(&shop.get("web-v1").await), written);
    let swept = sweep(after_seconds(700), Some(false)).await;
    assert_eq!(swept.iter().map(|i| (i.what.as_str(), i.outcome.clone())).collect::<Vec<_>>(), [("Deployment act-idle/web-v1", Ok(1))]);
    let idled = shop.get("web-v1").await;
    assert_eq!((&idled["spec"]["replicas"], annotations(&idled).len()), (&json!(1), 0));
    assert_eq!(sweep(after_seconds(700), Some(false)).await, []);
    // never up
    let more = WorkloadAction::IdleBaseline { replicas: 2, after: Duration::ZERO };
    shop.done(&noted, more).await;
    sweep(after_seconds(10), Some(false)).await;
    assert_eq!(shop.get("web-v1").await["spec"]["replicas"], 1);
    // dropped: it carries traffic again, has another template, or was garbled
    let none = WorkloadAction::IdleBaseline { replicas: 0, after: Duration::ZERO };
    shop.done(&noted, none).await;
    let swept = sweep(after_seconds(10), Some(true)).await;
    assert_eq!(swept[0].outcome, Err("it carries traffic: its note is dropped".to_owned()));
    shop.done(&noted, none).await;
    shop.release("web-v1", "web-9").await;
    let swept = sweep(after_seconds(10), Some(false)).await;
    assert_eq!(swept[0].outcome, Err("it has another template now: its note is dropped".to_owned()));
    shop.done(&noted, none).await;
    shop.edit("web-v1", json!([{"op": "replace", "path": "/metadata/annotations/canaryd.io~1idle-at", "value": "soon"}])).await;
    let swept = sweep(after_seconds(10), Some(false)).await;
    assert_eq!(swept[0].outcome, Err("its note cannot be read: its note is dropped".to_owned()));
    let left = shop.get("web-v1").await;
    assert_eq!((&left["spec"]["replicas"], annotations(&left).len()), (&json!(1), 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_replicas_that_an_autoscaler_would_take_back_are_not_carried_out_and_none_are() {
    let Some(shop) = Shop::open("act-idle-scaled").await else { return };
    let noted = shop.on_trial("web-2").await;
    shop.scaled("web-v1", 2, 9).await;
    let targets = shop.workloads.sides.clone();
    let sweep = async || idle_due(&shop.admin, &targets, after_seconds(10), |_| async { Some(false) }).await;
    let idle = |replicas| WorkloadAction::IdleBaseline { replicas, after: Duration::ZERO };
    shop.done(&noted, idle(1)).await;
    let said = sweep().await.into_iter().next().expect("it is due").outcome.expect_err("it would be scaled up again");
    let scaler = "HorizontalPodAutoscaler act-idle-scaled/web-v1-hpa keeps at least 2 replicas: write idle-replicas: 0";
    assert!(said.starts_with(scaler) && said.ends_with("its note is dropped"), "{said}");
    assert_eq!(shop.get("web-v1").await["spec"]["replicas"], 3);
    assert_eq!(sweep().await, [], "it is said once");
    for replicas in [2, 0] {
        shop.done(&noted, idle(replicas)).await;
        assert_eq!(sweep().await.into_iter().map(|i| i.outcome).collect::<Vec<_>>(), [Ok(replicas)]);
        assert_eq!(shop.get("web-v1").await["spec"]["replicas"], replicas);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_late_lost_or_no_answers_do_no_harm() {
    let Some(shop) = Shop::open("act-faults").await else { return };
    let noted = shop.on_trial("web-2").await;
    let before: Value = serde_json::from_str(noted.template_before.as_deref().unwrap()).unwrap();
    let proxy = Proxy::start(shop.plane).await;
    proxy.next_writes([Fault::Answer(500), Fault::Answer(503), Fault::Answer(504)]);
    let text = again(shop.act(&proxy.client, &noted, WorkloadAction::Undo).await);
    assert!(text.contains("504") && proxy.passed().is_empty(), "{text}");
    proxy.next_writes([Fault::Wait(429, 30)]);
    again(shop.act(&proxy.client, &noted, WorkloadAction::ScaleCanaryDown).await);
    proxy.next_writes([Fault::Hang]);
    let begin = Instant::now();
    again(shop.act(&proxy.client, &noted, WorkloadAction::Undo).await);
    assert!(begin.elapsed() < Duration::from_secs(60), "given up: {:?}", begin.elapsed());
    assert_ne!(shop.template("web-v2").await, before);
    // what is refused although nobody was faster is refused
    proxy.next_writes([Fault::Answer(422)]);
    let text = never(shop.act(&proxy.client, &noted, WorkloadAction::Undo).await);
    assert!(text.contains("refuses the change: made up by the proxy"), "{text}");
    // written, and the answer lost
    proxy.next_writes([Fault::AnswerAfter(500)]);
    assert_eq!(shop.act(&proxy.client, &noted, WorkloadAction::Undo).await, Outcome::Done);
    let passed = proxy.passed();
    assert_eq!((passed.first(), passed.last()), (Some(&200), Some(&422)), "the second try changed nothing");
    assert_eq!(shop.template("web-v2").await, before);
    proxy.set_down(true);
    again(shop.act(&proxy.client, &noted, WorkloadAction::HoldBaseline).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_hand_between_our_read_and_our_write_loses_nothing() {
    let Some(shop) = Shop::open("act-between").await else { return };
    let noted = shop.on_trial("web-2").await;
    shop.until("web-v2", |d| d["status"]["updatedReplicas"] == 2 && d["status"]["replicas"] == 2).await;
    let proxy = Proxy::start(shop.plane).await;
    let scales =
        json!([{"op": "replace", "path": "/spec/replicas", "value": 1}, {"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}]);
    proxy.next_writes([shop.meanwhile("web-v2", scales)]);
    assert_eq!(shop.act(&proxy.client, &noted, WorkloadAction::Undo).await, Outcome::Done);
    let undone = shop.get("web-v2").await;
    assert_eq!((&undone["spec"]["replicas"], &undone["metadata"]["labels"]["a"]), (&json!(1), &json!("b")));
    assert_eq!(undone["spec"]["template"].to_string(), noted.template_before.clone().unwrap());
    // a newer release at that very moment is not overwritten
    let noted = shop.on_trial("web-3").await;
    let newer = json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "web-4"}]);
    proxy.next_writes([shop.meanwhile("web-v2", newer)]);
    let text = never(shop.act(&proxy.client, &noted, WorkloadAction::Undo).await);
    assert!(text.contains("another template than the one that was on trial"), "{text}");
    assert_eq!(shop.template("web-v2").await["spec"]["containers"][0]["image"], "web-4");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_action_has_its_least_role_and_names_what_it_lacks() {
    let Some(shop) = Shop::open("act-rights").await else { return };
    shop.scaled("web-v1", 1, 10).await;
    shop.scaled("web-v2", 1, 10).await;
    let noted = shop.on_trial("web-2").await;
    let rule = |group: &str, resource: &str, verbs: &[&str]| json!({"apiGroups": [group], "resources": [resource], "verbs": verbs});
    let reads = || rule("apps", "deployments", &["get"]);
    let writes = || rule("apps", "deployments", &["patch"]);
    let scales = || rule("apps", "deployments/scale", &["patch"]);
    let autoscalers = |verbs: &[&str]| rule("autoscaling", "horizontalpodautoscalers", verbs);
    let cases: [(WorkloadAction, Vec<Value>); 7] = [
        (WorkloadAction::IdleBaseline { replicas: 2, after: Duration::from_secs(600) }, vec![reads(), writes()]),
        (WorkloadAction::RestoreBaseline, vec![reads(), scales()]),
        (WorkloadAction::HoldBaseline, vec![autoscalers(&["list"]), autoscalers(&["get"]), autoscalers(&["patch"])]),
        (
            WorkloadAction::ScaleCanary { replicas: 5 },
            vec![autoscalers(&["list"]), autoscalers(&["get"]), autoscalers(&["patch"]), reads(), scales()],
        ),
        (WorkloadAction::ReleaseScalers, vec![autoscalers(&["list"]), autoscalers(&["get"]), autoscalers(&["patch"])]),
        (WorkloadAction::Undo, vec![reads(), writes()]),
        (WorkloadAction::ScaleCanaryDown, vec![reads(), scales()]),
    ];
    for (n, (action, rules)) in cases.into_iter().enumerate() {
        if action == WorkloadAction::RestoreBaseline {
            shop.edit("web-v1", json!([{"op": "replace", "path": "/spec/replicas", "value": 2}])).await;
        }
        if matches!(action, WorkloadAction::ScaleCanary { .. }) {
            // from none, or its autoscaler might be faster
            shop.edit("web-v2", json!([{"op": "replace", "path": "/spec/replicas", "value": 0}])).await;
        }
        for granted in 0..=rules.len() {
            let account = shop.account(&format!("a{n}-{granted}"), &rules[..granted]).await;
            let outcome = shop.act(&account, &noted, action).await;
            let Some(missing) = rules.get(granted) else {
                assert_eq!(outcome, Outcome::Done, "{action:?} with {rules:?}");
                continue;
            };
            let text = never(outcome);
            let (verb, resource) = (missing["verbs"][0].as_str().unwrap(), missing["resources"][0].as_str().unwrap());
            let group = missing["apiGroups"][0].as_str().unwrap();
            let wanted = format!("needs the permission to {verb} {resource}.{group} in namespace act-rights");
            assert!(text.contains(&wanted), "{action:?} with {granted} of {rules:?}: {text}");
        }
    }
    let copies = [reads(), writes(), scales()];
    shop.release("web-v2", "web-3").await;
    let noted = Noted { template: identity(&shop.template("web-v2").await), ..noted };
    shop.edit("web-v1", json!([{"op": "replace", "path": "/spec/replicas", "value": 2}])).await;
    for (granted, lacks) in [(1, "patch deployments.apps"), (2, "patch deployments/scale.apps")] {
        let account = shop.account(&format!("copy-{granted}"), &copies[..granted]).await;
        let text = never(shop.act(&account, &noted, WorkloadAction::Copy).await);
        assert!(text.contains(&format!("needs the permission to {lacks} in namespace act-rights")), "{text}");
    }
    let account = shop.account("copy-3", &copies).await;
    let until = Instant::now() + SOON;
    while shop.act(&account, &noted, WorkloadAction::Copy).await != Outcome::Done {
        assert!(Instant::now() < until, "copied within {SOON:?}");
        sleep(Duration::from_millis(100)).await;
    }
}

impl Shop {
    /// A client of a service account with these rules.
    pub(super) async fn account(&self, name: &str, rules: &[Value]) -> Client {
        let (plane, namespace, name, rules) = (self.plane, self.namespace.clone(), name.to_owned(), Value::from(rules.to_vec()));
        client_of(&blocking(move || plane.service_account(&namespace, &name, &rules)).await).await
    }
}
