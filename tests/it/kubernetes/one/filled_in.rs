//! An API server that makes another template of the one it is given: it fills in a field, as a newer one does that has learned it, and as
//! a mutating webhook does. Here a MutatingAdmissionPolicy of its own does, in one namespace: what was stored is read as it was, what is
//! written comes out with the field, and the controller makes a ReplicaSet of another name for it.

use super::daemon::{STAYS, only, until, up};
use super::{SOON, Shop, led};
use crate::kubernetes::scene::{blocking, weight};
use crate::rig::poll;
use canaryd::cluster::actions::{Job, act};
use canaryd::model::{Noted, Outcome, Retry, RolloutId, Side, State, WorkloadAction};
use serde_json::{Value, json};

/// The field, which no template of the tests has.
const FIELD: &str = "setHostnameAsFQDN";

impl Shop {
    /// From now on every template of this namespace that is written gets the field.
    pub(super) async fn fills_in(&self) {
        let name = format!("fills-in-{}", self.namespace);
        let filled =
            format!("Object{{spec: Object.spec{{template: Object.spec.template{{spec: Object.spec.template.spec{{{FIELD}: false}}}}}}}}");
        let here = json!({"matchLabels": {"kubernetes.io/metadata.name": self.namespace}});
        let group = "admissionregistration.k8s.io/v1";
        let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": group, "kind": "MutatingAdmissionPolicy", "metadata": {"name": name}, "spec": {
                "failurePolicy": "Ignore", "reinvocationPolicy": "Never",
                "matchConstraints": {"namespaceSelector": here, "resourceRules": [
                    {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["deployments"]}]},
                "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": filled}}]}},
            {"apiVersion": group, "kind": "MutatingAdmissionPolicyBinding", "metadata": {"name": name}, "spec": {"policyName": name}},
        ]});
        let (plane, namespace) = (self.plane, self.namespace.clone());
        blocking(move || {
            plane.apply(&objects);
            // it is compiled within a moment
            let asked = ["annotate", "deployment", "web", "x=y", "--dry-run=server", "-o", "json", "-n", &namespace];
            let fills = poll(SOON, || plane.kubectl(&asked).contains(FIELD).then_some(()));
            assert!(fills.is_some(), "the policy is not in force within {SOON:?}: {}", plane.kubectl(&asked));
        })
        .await;
    }

    /// The undoing of a rollout that was rolled back.
    async fn undo(&self, noted: &Noted) -> Outcome {
        let (workloads, rollout) = (self.workloads(), RolloutId("shop-1".to_owned()));
        let job = Job { workloads: &workloads, canary: Side::Second, noted, action: WorkloadAction::Undo, rollout: &rollout };
        act(&self.admin, &job).await
    }

    pub(super) fn is_filled_in(found: &Value) -> bool {
        found["spec"]["template"]["spec"][FIELD] == false
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_template_that_comes_out_another_when_it_is_given_back_is_the_one_before_and_no_release() {
    let Some(shop) = Shop::open("one-filled", 4).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut running = up(&shop, &folder, &format!("{STAYS}start: {{ when: new-template }}\n")).await;
    shop.release("web:2", "").await;
    until(&running, "shop-1", "at 50 %", |v| v.weight_seen == Some(weight(50))).await;
    shop.fills_in().await;
    running.roll_back().await;
    until(&running, "shop-1", "rolled back", |v| v.state == State::RolledBack).await;
    shop.until("given back, and as it was found", |pods, paused| *pods == only("web:1") && !paused).await;
    let found = shop.get().await;
    assert!(Shop::is_filled_in(&found), "{found:#}");
    let said: Vec<String> = std::iter::from_fn(|| running.told.try_recv().ok()).map(|told| told.notice.text).collect();
    assert!(said.iter().all(|text| !text.contains("hand") && !text.contains("left as it is")), "{said:#?}");
    // that was no release, and what comes next is one
    shop.release("web:3", "").await;
    let view = until(&running, "shop-2", "at 50 %", |v| v.weight_seen == Some(weight(50))).await;
    assert!(view.version.starts_with("web:3"), "{}", view.version);
    running.roll_back().await;
    until(&running, "shop-2", "rolled back", |v| v.state == State::RolledBack).await;
    shop.until("given back", |pods, paused| *pods == only("web:1") && !paused).await;
    running.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_hands_template_is_left_alone_and_its_giving_back_is_taken_for_what_it_is() {
    let Some(shop) = Shop::open("one-filled-hands", 4).await else { return };
    let router = shop.started("web:2", &shop.admin).await;
    led(&*router, 50, 1).await;
    let noted = shop.noted().await;
    shop.fills_in().await;
    // the one before with a word more, filled in as well
    let before: Value = serde_json::from_str(noted.template_before.as_deref().expect("noted")).expect("JSON");
    let mut another = before.clone();
    another["spec"]["containers"][0]["env"] = json!([{"name": "DEBUG", "value": "1"}]);
    shop.edit(json!([{"op": "replace", "path": "/spec/template", "value": another}])).await;
    led(&*router, 0, 2).await;
    let left = shop.get().await;
    for _ in 0..2 {
        let Outcome::Failed { text, retry: Retry::Never } = shop.undo(&noted).await else { panic!("it is another hand's") };
        assert!(text.contains("another template than the one that was on trial: it is left as it is"), "{text}");
    }
    let found = shop.get().await;
    assert_eq!((&found["spec"], Shop::is_filled_in(&found)), (&left["spec"], true), "nothing is written");
    assert_eq!(found["spec"]["paused"], true, "it waits for a rollout of its own");
    // now that hand gives back the one before
    shop.edit(json!([{"op": "replace", "path": "/spec/template", "value": before}])).await;
    assert!(Shop::is_filled_in(&shop.get().await));
    led(&*router, 0, 3).await;
    shop.until("let go", |pods, paused| *pods == only("web:1") && !paused).await;
    let done = shop.get().await;
    for _ in 0..2 {
        assert_eq!(shop.undo(&noted).await, Outcome::Done);
    }
    led(&*router, 0, 4).await;
    assert_eq!(shop.get().await["spec"], done["spec"], "nothing is left to be done");
}
