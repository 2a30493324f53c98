//! A rollout that waits for a person, while its baseline changes.

use super::stage::{Scene, Stage};
use crate::rig::daemon::APPROVER;
use serde_json::Value;

const RULE: &str = "traffic: { istio: { virtual-service: shop, route: primary } }
start: { when: new-template, approvals: [ product-manager ] }
drain: 1s
steps: [ { weight: 50%, for: 4s }, { weight: 100%, bake: 3s } ]
promotion: swap
replicas: follow
metrics: { error-rate: { tolerate: { relative: 20%, absolute: 0.5% } } }
";

#[test]
fn the_canary_needs_what_the_baseline_has_when_people_let_it_pass_and_not_when_it_was_prepared() {
    let Some(mut stage) = Stage::up(Scene { name: "paths-approved", form: "pair", replicas: [2, 2], rule: RULE }) else { return };
    stage.deploy(1, "shop:2", "");
    let id = stage.wait_begun("shop:2");
    let waits = |view: &Value| view["state"] == "waiting" && view["holds"].to_string().contains("approval");
    stage.wait_for(&id, "it waits for a person", waits);
    stage.scale(0, 4);
    stage.wait_ready(0, 4);
    stage.wait_for(&id, "canaryd has seen them", |view| view["workloads"]["baseline"]["ready"] == 4);
    let approved = stage.daemon.client_as(APPROVER, &["approve", &id, "--role", "product-manager"]);
    assert!(approved.status.success(), "{approved:?}");
    stage.wait_log("it is told", |log| log.contains("the baseline has 4 ready replicas now, 2 when it was prepared"));
    stage.wait_for(&id, "half of the traffic", |view| view["weight-seen-permille"] == 500);
    assert_eq!(stage.replicas(), [4, 2], "half of four");
    stage.wait_for_end(&id, "succeeded");
    assert_eq!(stage.deployment(1)["status"]["readyReplicas"], 4, "all of four");
    stage.close();
}
