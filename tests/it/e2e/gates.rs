//! What stands before a rollout and on its way, through the real thing: an approval, a window, hooks; and a kill while a hook is
//! awaited.

use super::stage::{PATIENT, RULE, Scene, Stage, hold};
use crate::rig::daemon::APPROVER;
use crate::rig::poll;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

/// What the server of hooks does next.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    Pass,
    /// This status.
    Say(u16),
    /// No answer ever.
    Hang,
}

/// A server of hooks, as a team's CI would be.
struct Hooks {
    url: String,
    does: Arc<Mutex<Does>>,
    calls: Arc<Mutex<Vec<(String, Value)>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Hooks {
    fn start(does: Does) -> Self {
        let (does, calls) = (Arc::new(Mutex::new(does)), Arc::new(Mutex::new(Vec::new())));
        let (now, seen) = (Arc::clone(&does), Arc::clone(&calls));
        let handler = move |headers: HeaderMap, body: Bytes| {
            let key = headers["idempotency-key"].to_str().expect("text").to_owned();
            seen.lock().push((key, serde_json::from_slice(&body).expect("JSON")));
            let does = *now.lock();
            async move {
                match does {
                    Does::Pass => StatusCode::OK,
                    Does::Say(status) => StatusCode::from_u16(status).expect("a status"),
                    Does::Hang => std::future::pending().await,
                }
            }
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let url = format!("http://{}/gate", listener.local_addr().expect("an address"));
        runtime.spawn(async move { axum::serve(listener, axum::Router::new().fallback(handler)).await });
        Self { url, does, calls, _runtime: runtime }
    }

    fn now(&self, does: Does) {
        *self.does.lock() = does;
    }

    /// Idempotency keys, in order.
    fn keys(&self) -> Vec<String> {
        self.calls.lock().iter().map(|(key, _)| key.clone()).collect()
    }

    fn wait_for_calls(&self, count: usize) {
        assert!(poll(PATIENT, || (self.keys().len() >= count).then_some(())).is_some(), "{count} calls: {:?}", self.keys());
    }
}

/// Puts these lines below the rule and waits until that is in force.
fn add_to_rule(stage: &mut Stage, lines: &str) {
    let digest = |stage: &Stage| stage.daemon.get("/api/v1/rules")["rules"][0]["digest"].clone();
    let before = digest(stage);
    stage.daemon.put_rule(&format!("{}{lines}", stage.daemon.rule()));
    stage.daemon.process().signal(Signal::HUP);
    let taken = poll(PATIENT, || (digest(stage) != before).then_some(()));
    assert!(taken.is_some(), "{}", stage.daemon.get("/api/v1/rules"));
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn an_approval_a_window_and_hooks_are_passed_on_the_way_up() {
    let Some(mut stage) = Stage::up(Scene::default()) else { return };
    let hooks = Hooks::start(Does::Say(503));
    let url = &hooks.url;
    add_to_rule(
        &mut stage,
        &format!(
            "start: {{ approvals: [ product-manager ] }}\n\
             windows: {{ timezone: UTC, allow: [ Mon-Sun ], deny: [ 2020-01-01 ] }}\n\
             hooks: {{ before-start: '{url}', before-promotion: {{ url: '{url}', timeout: 50s, on-fail: roll-back }}, after-promotion: '{url}' }}\n"
        ),
    );
    let id = stage.start("2.0.0");
    assert!(stage.wait_for_hold(&id, "approval").contains("product-manager"));
    assert_eq!(stage.view(&id)["approvals"], json!([{ "role": "product-manager", "by": null, "at": null, "until": null }]));
    let refused = stage.daemon.client(&["approve", &id]);
    assert!(refused.status.code() == Some(1) && told(&refused).contains("role-insufficient"), "{refused:?}");
    assert_eq!((stage.routed(), hooks.keys()), (0, Vec::new()), "nothing happens without it");
    let approved = stage.daemon.client_as(APPROVER, &["approve", &id, "--why", "tested"]);
    assert!(approved.status.success(), "{approved:?}");
    assert_eq!(stage.view(&id)["approvals"][0]["by"], "pam");

    hooks.wait_for_calls(2);
    // while it is called, it is only awaited
    stage.wait_for(&id, PATIENT, "held by what the hook said", |view| hold(view, "hook").is_some_and(|text| text.contains("503")));
    assert_eq!(stage.routed(), 0);
    hooks.now(Does::Pass);
    stage.wait_for_end(&id, "succeeded");
    let keys = hooks.keys();
    let before = keys.iter().filter(|key| key.contains("/before-start/")).count();
    assert!(before >= 3 && keys[..before].iter().all(|key| key.contains("/before-start/")), "{keys:?}");
    assert_eq!(keys.iter().filter(|key| key.contains("/before-promotion/")).count(), 1, "{keys:?}");
    hooks.wait_for_calls(before + 2);
    let (_, last) = hooks.calls.lock().last().cloned().expect("a call");
    assert_eq!((&last["hook"], &last["version"], &last["weight-to-permille"]), (&json!("after-promotion"), &json!("2.0.0"), &json!(1000)));

    let history = stage.daemon.client(&["history", RULE, "-o", "json"]);
    let history: Value = serde_json::from_slice(&history.stdout).expect("JSON");
    let past = &history["rollouts"][0];
    assert_eq!((&past["id"], &past["state"], &past["by"]), (&json!(id), &json!("succeeded"), &json!("tests")));
    let approval = &past["approvals"][0];
    assert_eq!((&approval["by"], &approval["role"], &approval["why"]), (&json!("pam"), &json!("product-manager"), &json!("tested")));
    stage.close();
}

#[test]
fn a_hook_that_was_awaited_when_the_daemon_was_killed_is_called_again_and_counts_once() {
    let Some(mut stage) = Stage::up(Scene::default()) else { return };
    let hooks = Hooks::start(Does::Hang);
    add_to_rule(&mut stage, &format!("hooks: {{ before-start: {{ url: '{}', timeout: 10m, on-fail: hold }} }}\n", hooks.url));
    let id = stage.start("2.0.0");
    hooks.wait_for_calls(1);
    stage.wait_for_hold(&id, "hook");
    stage.daemon.kill();
    std::thread::sleep(Duration::from_secs(1));
    hooks.now(Does::Pass);
    stage.daemon.restart();
    hooks.wait_for_calls(2);
    stage.wait_for_weight(&id, 100);
    let key = format!("{id}/before-start/1");
    assert_eq!(hooks.keys(), [key.clone(), key], "the same attempt, called again");
    let answers = stage.journal(&id).iter().filter(|entry| entry["text"] == "hook before-start lets it pass").count();
    assert_eq!((answers, stage.actions(&id)), (1, vec!["advance".to_owned()]), "{:#?}", stage.journal(&id));
    stage.wait_for_end(&id, "succeeded");
    stage.close();
}

#[test]
fn a_hook_that_says_no_or_redirects_rolls_back_and_says_why() {
    let Some(mut stage) = Stage::up(Scene::default()) else { return };
    let hooks = Hooks::start(Does::Pass);
    add_to_rule(&mut stage, &format!("hooks: {{ before-step: {{ url: '{}', timeout: 50s, on-fail: roll-back }} }}\n", hooks.url));
    let id = stage.start("2.0.0");
    stage.wait_for_weight(&id, 100);
    hooks.now(Does::Say(302));
    let view = stage.wait_for_end(&id, "rolled-back");
    let reason = &view["reasons"][0];
    assert_eq!(reason["kind"], "hook", "{view:#}");
    assert!(
        reason["text"].as_str().is_some_and(|text| text.contains("302 Found") && text.contains("redirects are not followed")),
        "{reason}"
    );
    assert_eq!(hooks.keys().len(), 1, "a no is not asked for twice: {:?}", hooks.keys());
    stage.close();
}
