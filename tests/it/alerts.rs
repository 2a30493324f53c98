//! Alerts in, and what is told about them: the webhook on a real socket, and the real daemon between a real Alertmanager and a
//! rollout.

use crate::rig::alertmanager::{Alertmanager, Webhook};
use crate::rig::daemon::{self, Daemon, WEBHOOK};
use crate::rig::service::Service;
use crate::rig::{poll, ports};
use crate::served::{self, How, Served, VIEWER};
use canaryd::api::{ALERTS_BODY_MAX, ALERTS_MAX, wire};
use reqwest::Response;
use serde_json::{Value, json};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PATIENT: Duration = Duration::from_secs(60);

// ---- the webhook

fn alert(fingerprint: &str) -> Value {
    json!({
        "status": "firing", "labels": { "alertname": "Errors", "severity": "critical", "service": "chat" },
        "annotations": { "summary": "errors" }, "startsAt": "2026-11-20T09:57:04.841808315Z", "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://x", "fingerprint": fingerprint,
    })
}

fn message(alerts: &[Value]) -> Value {
    json!({
        "receiver": "hook", "status": "firing", "alerts": alerts, "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {},
        "externalURL": "http://am", "version": "4", "groupKey": "{}:{}", "truncatedAlerts": 3, "notification_reason": "new",
    })
}

async fn deliver(served: &Served, token: &str, body: impl Into<reqwest::Body>) -> Response {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().expect("a client");
    let request = http.post(served.url("/webhooks/alertmanager")).bearer_auth(token).header("content-type", "application/json");
    request.body(body).send().await.expect("an answer")
}

async fn refusal(response: Response) -> (u16, String, String) {
    let problem: wire::Problem = response.json().await.expect("a problem");
    (problem.status, problem.code, problem.detail)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_handed_over_whole_and_its_sender_may_do_nothing_else() {
    let served = Served::new().await;
    let answer = deliver(&served, served::WEBHOOK, message(&[alert("a"), alert("b")]).to_string()).await;
    assert_eq!(answer.status(), 200);
    let taken: wire::AlertsTaken = answer.json().await.expect("an answer");
    assert_eq!((taken.alerts, taken.taken), (2, 2));
    assert_eq!(served.asked(), ["alerts a b"]);
    let page = served.metrics.text();
    assert!(
        page.contains("canaryd_alerts_received_total{outcome=\"taken\"} 2\n") && page.contains("canaryd_alerts_truncated_total 3\n"),
        "{page}"
    );
    assert_eq!(refusal(deliver(&served, VIEWER, "{}").await).await.1, "role-insufficient");
    assert_eq!(refusal(deliver(&served, "nobody", "{}").await).await.1, "token-unknown");
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let pause = http.post(served.url("/api/v1/rollouts/chat-1/pause")).bearer_auth(served::WEBHOOK).send().await.expect("an answer");
    assert_eq!(pause.status(), 403);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_a_clear_4xx_and_what_may_pass_a_503() {
    let served = Served::with(How::default()).await;
    let mut odd = alert("b");
    odd["startsAt"] = json!(7);
    for (body, status, code, wanted) in [
        ("{".to_owned(), 400, "body-malformed", "line 1"),
        ("[]".to_owned(), 400, "body-malformed", "expected"),
        (String::new(), 400, "alerts-missing", "`alerts`"),
        (json!({ "version": "4", "text": "templated" }).to_string(), 400, "alerts-missing", "remove `payload`"),
        (json!({ "version": "5", "alerts": [] }).to_string(), 400, "version-unknown", "\"5\""),
        (message(&[alert("a"), odd]).to_string(), 400, "alert-malformed", "alerts[1]: invalid type: integer `7`"),
        (message(&vec![alert("a"); ALERTS_MAX + 1]).to_string(), 413, "too-many-alerts", "max_alerts"),
        (" ".repeat(ALERTS_BODY_MAX + 1), 413, "body-too-large", "4194304"),
        // the runtime could not store it: the sender shall come again, which it only does for 5xx
        (message(&[alert("storeisdown")]).to_string(), 503, "unavailable", "not stored"),
    ] {
        let shown: String = body.chars().take(60).collect();
        let got = refusal(deliver(&served, served::WEBHOOK, body).await).await;
        assert_eq!((got.0, got.1.as_str()), (status, code), "{shown}: {}", got.2);
        assert!(got.2.contains(wanted), "{shown}: {}", got.2);
    }
    assert_eq!(served.asked(), ["alerts storeisdown"], "nothing of the garbage was handed over");
    let page = served.metrics.text();
    assert!(page.contains("canaryd_alerts_received_total{outcome=\"refused\"}"), "{page}");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_messages_is_told_to_come_again() {
    let served = Served::new().await;
    // ten senders that never finish their bodies hold every place
    let senders: Vec<_> = (0..10)
        .map(|_| {
            let address = served.address;
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(address).await.expect("a connection");
                let token = served::WEBHOOK;
                let head = format!(
                    "POST /webhooks/alertmanager HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
                     content-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
                );
                stream.write_all(head.as_bytes()).await.expect("sent");
                let mut answer = [0; 12];
                stream.read_exact(&mut answer).await.expect("an answer");
                String::from_utf8_lossy(&answer[9..]).into_owned()
            })
        })
        .collect();
    let mut statuses = Vec::new();
    for sender in senders {
        statuses.push(sender.await.expect("ends"));
    }
    statuses.sort_unstable();
    // the two that found no place are told at once, the others when their time is up
    assert_eq!(statuses, ["408", "408", "408", "408", "408", "408", "408", "408", "503", "503"]);
    assert_eq!(deliver(&served, served::WEBHOOK, message(&[alert("a")]).to_string()).await.status(), 200, "and then there is room again");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn annotations_are_served_as_infinity_reads_them() {
    let served = Served::new().await;
    let http = reqwest::Client::builder().no_proxy().build();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = http.or_else(|_| reqwest::Client::builder().no_proxy().build()).expect("a client");
    let get = async |query: &str| http.get(served.url(&format!("/api/v1/annotations{query}"))).send().await.expect("an answer");
    let found: Value = get("?from=1700000000000&to=2023-11-15T00:00:00Z&rule=").await.json().await.expect("an array");
    assert_eq!(
        found,
        json!([{
            "time": 1_700_000_000_000_i64, "timeEnd": null, "title": "chat-1 (1.4.2): canary at 25%", "text": "advance, 5 % to 25 %",
            "tags": "canaryd,rule:chat,rollout:chat-1,progressing",
        }])
    );
    assert_eq!(served.asked(), ["annotations 1700000000000..1700006400000 "]);
    for (query, code) in [
        ("", "query-malformed"),
        ("?from=1&to=x", "range-malformed"),
        ("?from=2&to=1", "range-malformed"),
        ("?from=1&to=1700000000000", "range-malformed"),
        ("?from=1&to=2&limit=1", "query-malformed"),
        ("?from=1&to=2&rule=wide", "range-too-wide"),
    ] {
        let got = refusal(get(query).await).await;
        assert_eq!((got.0, got.1.as_str()), (400, code), "{query}: {}", got.2);
    }
    served.stop().await;
}

// ---- the real daemon and a real Alertmanager

/// A rollout of a quiet service whose pages the daemon reads itself, and an Alertmanager that both tells it and is told by it.
struct Scene {
    daemon: Daemon,
    real: Alertmanager,
    _services: [Service; 2],
    _folder: TempDir,
}

fn rule(services: &[Service; 2]) -> String {
    let [first, second] = services.each_ref().map(|s| format!("'http://127.0.0.1:{}/metrics'", s.port));
    format!(
        "rule: shop\n\
         workloads: {{ pair: [ {{ service: shop, version: v1 }}, {{ service: shop, version: v2 }} ] }}\n\
         telemetry: [ {{ pack: http, arm: {{ version: '{{version}}' }}, scrape: [ {first}, {second} ] }} ]\n\
         interval: 1s\n\
         traffic: none\n\
         steps: [ {{ weight: 10%, for: 1h }}, {{ weight: 100%, bake: 1h }} ]\n\
         drain: 1s\n\
         policies: {{ blind: {{ hold: 1h, then: hold }} }}\n\
         alerts: {{ match: {{ service: shop }} }}\n\
         notify: [ ops ]\n\
         metrics:\n  error-rate: {{ rollback-above: 5% }}\n"
    )
}

impl Scene {
    fn up() -> Option<Self> {
        Self::up_with("5h")
    }

    fn up_with(alerts_expire: &str) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let services = [Service::start("v1"), Service::start("v2")];
        let port = ports::free();
        let webhook = Webhook { url: format!("http://127.0.0.1:{port}/webhooks/alertmanager"), token: WEBHOOK.to_owned() };
        let real = Alertmanager::start(&folder.path().join("alertmanager"), &webhook)?;
        let told = daemon::Settings { source: "http://127.0.0.1:1".to_owned(), time_scale: 1, rule: rule(&services) };
        let more = json!({ "receivers": { "ops": { "alertmanager": { "urls": [real.url()] } } }, "log": { "format": "json" }, "alerts_expire": alerts_expire });
        let daemon = Daemon::start_with(&folder.path().join("canaryd"), port, &told, &more);
        Some(Self { daemon, real, _services: services, _folder: folder })
    }

    fn start(&self, version: &str) -> String {
        let answer = self.daemon.post("/api/v1/rules/shop/start", &json!({ "version": version }));
        let id = answer["rollout"].as_str().unwrap_or_else(|| panic!("no rollout in {answer}")).to_owned();
        self.wait_for(&id, "progressing", |view| view["state"] == "progressing" && view["weight-seen-permille"] == 100);
        id
    }

    fn view(&self, id: &str) -> Value {
        self.daemon.get(&format!("/api/v1/rollouts/{id}"))
    }

    fn wait_for(&self, id: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let seen = poll(PATIENT, || Some(self.view(id)).filter(|view| wanted(view)));
        seen.unwrap_or_else(|| panic!("not {what}: {:#}\nalerts there: {:#?}", self.view(id), self.real.alerts()))
    }

    /// Fires an alert there, from now or so long ago; until it is posted again with an end.
    fn fire(&self, labels: &Value, ago: Duration) {
        let since = jiff::Timestamp::now() - ago;
        self.real.post(&json!([{ "labels": labels, "annotations": { "summary": "the pager's words" }, "startsAt": since.to_string() }]));
    }

    fn resolve(&self, labels: &Value) {
        self.real.post(&json!([{ "labels": labels, "endsAt": jiff::Timestamp::now().to_string() }]));
    }

    /// Waits until the daemon was told so many more messages and took them.
    fn wait_delivered(&self, more: f64) {
        let count = || self.real.metric("alertmanager_notifications_total", "webhook");
        let before = count();
        let delivered = poll(PATIENT, || (count() >= before + more).then_some(()));
        assert!(delivered.is_some(), "the Alertmanager sends nothing more");
    }

    /// Our alert of this name there, if it fires.
    fn ours(&self, name: &str) -> Option<Value> {
        let fires = |a: &&Value| a["labels"]["alertname"] == name && a["labels"]["generator"] == "canaryd";
        self.real.alerts().iter().find(fires).cloned()
    }

    fn wait_ours(&self, name: &str, fires: bool) {
        let seen = poll(PATIENT, || (self.ours(name).is_some() == fires).then_some(()));
        assert!(seen.is_some(), "{name} fires there: {}; all: {:#?}", !fires, self.real.alerts());
    }

    /// Every line of its log is one JSON object; those of this message.
    fn log_lines(&mut self, message: &str) -> Vec<Value> {
        let log = self.daemon.process().log();
        let lines = log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")));
        lines.filter(|line: &Value| line["message"].as_str().is_some_and(|m| m.contains(message))).collect()
    }
}

fn held_by_alert(view: &Value) -> bool {
    view["holds"].as_array().is_some_and(|holds| holds.iter().any(|h| h["why"] == "alert"))
}

fn labels(name: &str, severity: &str, more: &[(&str, &str)]) -> Value {
    let mut labels = json!({ "alertname": name, "severity": severity, "service": "shop" });
    for (name, value) in more {
        labels[*name] = json!(value);
    }
    labels
}

#[test]
fn an_alert_that_names_the_canary_rolls_it_back_and_ours_or_an_older_one_does_not() {
    let Some(mut scene) = Scene::up() else { return };
    let id = scene.start("v2");
    scene.fire(&labels("Old", "critical", &[("version", "v2")]), Duration::from_secs(600));
    scene.fire(&labels("Ours", "critical", &[("canaryd_arm", "canary"), ("generator", "canaryd")]), Duration::ZERO);
    scene.fire(&labels("OfTheBaseline", "warning", &[("version", "v1"), ("namespace", "x")]), Duration::from_secs(600));
    scene.wait_delivered(4.0);
    let view = scene.view(&id);
    assert!(view["state"] == "progressing" && !held_by_alert(&view), "{view:#}");

    scene.fire(&labels("Errors", "critical", &[("version", "v2")]), Duration::ZERO);
    let view = scene.wait_for(&id, "rolled back", |view| view["state"] == "rolled-back");
    assert_eq!(view["reasons"][0]["kind"], "alert", "{view:#}");
    assert!(view["reasons"][0]["text"].as_str().is_some_and(|t| t.contains("Errors")), "{view:#}");
    scene.wait_ours("CanaryRolledBack", true);
    let ours = scene.ours("CanaryRolledBack").expect("it fires");
    assert_eq!((&ours["labels"]["rollout"], &ours["labels"]["canaryd_arm"]), (&json!(id), &json!("canary")), "{ours:#}");

    // the past as a dashboard reads it: the step, and how it ended
    let now = jiff::Timestamp::now().as_millisecond();
    let past = scene.daemon.get(&format!("/api/v1/annotations?from={}&to={now}&rule=shop", now - 600_000));
    let past = past.as_array().expect("an array");
    let kinds: Vec<&str> = past.iter().filter_map(|a| a["tags"].as_str()?.rsplit(',').next()).collect();
    assert_eq!(kinds, ["progressing", "rolled-back"], "{past:#?}");
    assert!(past[0]["timeEnd"].as_i64() > past[0]["time"].as_i64() && past[1]["timeEnd"] == past[1]["time"], "{past:#?}");

    // a restart forgets nothing: sent again with the begin it had, and resolved by the next rollout only
    let since = ours["startsAt"].clone();
    let updated = ours["updatedAt"].clone();
    scene.daemon.kill();
    scene.daemon.restart();
    let again = poll(PATIENT, || scene.ours("CanaryRolledBack").filter(|ours| ours["updatedAt"] != updated));
    assert_eq!(again.expect("it is told again after the restart")["startsAt"], since);
    let next = scene.start("v3");
    scene.wait_ours("CanaryRolledBack", false);
    assert!(!scene.view(&next)["over"].as_bool().unwrap_or(true));
    assert!(!scene.log_lines("alerts taken").is_empty());
}

#[test]
fn an_alert_of_the_service_holds_until_it_resolves_also_over_a_restart() {
    let Some(mut scene) = Scene::up() else { return };
    let id = scene.start("v2");
    let whole = labels("Outage", "critical", &[]);
    scene.fire(&whole, Duration::ZERO);
    scene.wait_for(&id, "held", held_by_alert);
    scene.wait_ours("CanaryHeldByAlert", true);
    assert_eq!(scene.ours("CanaryHeldByAlert").map(|a| a["labels"]["severity"].clone()), Some(json!("critical")), "it pages");
    assert_eq!(scene.view(&id)["over"], false, "nobody's fault");
    scene.daemon.kill();
    scene.daemon.restart();
    scene.wait_for(&id, "held after a restart", held_by_alert);
    scene.wait_ours("CanaryHeldByAlert", true);
    scene.resolve(&whole);
    scene.wait_for(&id, "released", |view| !held_by_alert(view) && view["state"] == "progressing");
    scene.wait_ours("CanaryHeldByAlert", false);
}

#[test]
fn an_alert_whose_end_is_silenced_is_released_in_time() {
    // its Alertmanager repeats it every 5 s
    let Some(mut scene) = Scene::up_with("15s") else { return };
    let id = scene.start("v2");
    let whole = labels("Outage", "warning", &[]);
    scene.fire(&whole, Duration::ZERO);
    scene.wait_for(&id, "held", held_by_alert);
    // repeated, it holds on
    scene.wait_delivered(4.0);
    assert!(held_by_alert(&scene.view(&id)));
    scene.real.silence("Outage");
    scene.resolve(&whole);
    scene.wait_for(&id, "released", |view| !held_by_alert(view) && view["state"] == "progressing");
    let told = scene.log_lines("alert released");
    assert!(told.iter().any(|l| l["alert"] == "Outage" && l["rollout"] == id.as_str()), "{told:?}");
}

#[test]
fn what_cannot_be_stored_is_sent_again_and_nothing_is_lost() {
    let Some(mut scene) = Scene::up() else { return };
    let id = scene.start("v2");
    // somebody else holds the journal's lock: it cannot be written
    let journal = rusqlite::Connection::open(scene.daemon.data().join("journal.db")).expect("the journal");
    journal.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    scene.fire(&labels("Errors", "critical", &[("version", "v2")]), Duration::ZERO);
    let refused = poll(PATIENT, || (scene.real.metric("alertmanager_notification_requests_failed_total", "webhook") >= 1.0).then_some(()));
    assert!(refused.is_some(), "the daemon said yes to what it had not stored");
    journal.execute_batch("ROLLBACK").expect("the lock is let go");
    drop(journal);
    let before = scene.real.metric("alertmanager_notification_requests_total", "webhook");
    scene.wait_for(&id, "rolled back", |view| view["state"] == "rolled-back");
    let journal = scene.daemon.get(&format!("/api/v1/rollouts/{id}/journal"));
    let entries = journal["entries"].as_array().expect("entries");
    let alerts = entries.iter().filter(|e| e["kind"] == "input" && e["text"].as_str().is_some_and(|t| t.contains("Errors"))).count();
    assert_eq!(alerts, 1, "stored, and once: {journal:#}");
    assert!(before >= 1.0);
    assert!(scene.daemon.stop().success());
}

#[test]
fn the_log_as_json_is_one_object_a_line_with_decisions_and_notices_and_no_token() {
    let Some(mut scene) = Scene::up() else { return };
    let id = scene.start("v2");
    scene.fire(&labels("Errors", "critical", &[("version", "v2")]), Duration::ZERO);
    scene.wait_for(&id, "rolled back", |view| view["state"] == "rolled-back");
    assert!(scene.daemon.stop().success());
    let log = scene.daemon.process().log();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect();
    for line in &lines {
        for key in ["timestamp", "level", "target", "message"] {
            assert!(line[key].is_string(), "no {key} in {line}");
        }
    }
    let with = |key: &str, value: &str| lines.iter().any(|l| l["rollout"] == id.as_str() && l[key] == value);
    assert!(with("action", "roll-back") && with("action", "finish"), "decisions: {log}");
    assert!(lines.iter().any(|l| l["topic"] == "rolled-back" && l["rollout"] == id.as_str()), "notices: {log}");
    for secret in [WEBHOOK, "operator-token-of-the-tests"] {
        assert!(!log.contains(secret), "a token in the log");
    }
}
