//! The HTTP API over a real socket.

use crate::rig::late::Timed;
use crate::served::{APPROVER, BOTH, How, OPERATOR, Served, VIEWER, WEBHOOK, decided, view};
use canaryd::api::{CONNECTIONS_MAX, FEEDS_MAX, HEADER_TIMEOUT, wire};
use canaryd::model::{Action, Breach, Mode, RolloutId, State, Timestamp};
use canaryd::telemetry::events::{Decided, QueryEnded, RolloutOpened, StoreAppended};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn http() -> reqwest::Client {
    canaryd::tls::install();
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap()
}

async fn get(served: &Served, path: &str) -> Response {
    http().get(served.url(path)).send().await.unwrap()
}

async fn post(served: &Served, path: &str, token: Option<&str>, body: Value) -> Response {
    let mut request = http().post(served.url(path)).json(&body);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    request.send().await.unwrap()
}

/// Status and code of a refusal; checks that it is a problem as RFC 9457 wants it.
async fn problem(response: Response) -> (u16, String, String) {
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let status = response.status().as_u16();
    let problem: wire::Problem = response.json().await.unwrap();
    assert_eq!(problem.status, status);
    assert_eq!(problem.kind, format!("urn:canaryd:problem:{}", problem.code));
    (status, problem.code, problem.detail)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_is_read_whole_by_its_name_or_its_rules() {
    let served = Served::new().await;
    let by_name: wire::Rollout = get(&served, "/api/v1/rollouts/chat-1").await.json().await.unwrap();
    let by_rule: wire::Rollout = get(&served, "/api/v1/rollouts/chat").await.json().await.unwrap();
    assert_eq!(by_name, by_rule);
    assert_eq!((by_name.state.as_str(), by_name.verdict.as_str(), by_name.weight_permille), ("progressing", "undecided", 250));
    assert_eq!((by_name.step.number, by_name.step.of, by_name.step.counted_s), (2, 3, Some(450.0)));
    let [errors, latency] = by_name.metrics.as_slice() else { panic!("{:?}", by_name.metrics) };
    // alone it needs 3 - ln 0.5
    assert!((errors.harm_needed_nats.unwrap() - 3.693).abs() < 1e-3);
    assert_eq!((latency.verdict.as_str(), latency.blind.as_deref()), ("blind", Some("no-series")));
    // infinity has no place in JSON
    assert_eq!((latency.canary.clone().unwrap().high, latency.harm_nats), (None, None));
    let listed: wire::Rollouts = get(&served, "/api/v1/rollouts?rule=chat").await.json().await.unwrap();
    assert_eq!(listed.rollouts, [by_name]);
    let none: wire::Rollouts = get(&served, "/api/v1/rollouts?rule=shop").await.json().await.unwrap();
    assert_eq!(none.rollouts, []);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_and_journal_are_read() {
    let served = Served::new().await;
    let rules: wire::Rules = get(&served, "/api/v1/rules").await.json().await.unwrap();
    assert_eq!(rules.rules.iter().map(|rule| rule.name.as_str()).collect::<Vec<_>>(), ["chat", "idle"]);
    assert_eq!(rules.sources["prometheus"].as_deref(), Some("does not answer"));
    let journal: wire::Journal = get(&served, "/api/v1/rollouts/chat/journal").await.json().await.unwrap();
    assert_eq!(served.asked(), ["journal chat-1"]);
    assert_eq!(journal.entries[0].text, "baseline: 750 requests, 7 bad, canary: the source has no such series (no pod)");
    let arms = journal.entries[0].arms.clone().unwrap();
    assert_eq!((arms.baseline.requests, arms.canary.missing.as_deref()), (Some(750.0), Some("no-series")));
    assert_eq!(journal.entries[1].action.as_deref(), Some("hold"));
    assert_eq!(journal.entries[2].text, "the router cannot be read: connection refused");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_read_in_pages_with_bounds() {
    let served = Served::new().await;
    let first: wire::History = get(&served, "/api/v1/history?rule=chat&since=2026-11-21T00:00:00Z&limit=2").await.json().await.unwrap();
    let names = |page: &wire::History| page.rollouts.iter().map(|r| (r.id.clone(), r.state.clone())).collect::<Vec<_>>();
    assert_eq!(names(&first), [("chat-3".into(), "progressing".into()), ("chat-2".into(), "rolled-back".into())]);
    let [running, back] = first.rollouts.as_slice() else { panic!("{first:?}") };
    assert_eq!((running.over, running.ended, running.took_s), (false, None, None));
    assert_eq!((back.took_s, back.reasons[0].kind.as_str(), back.approvals[0].by.as_str()), (Some(1805.0), "limit", "pam"));
    let last: wire::History = get(&served, "/api/v1/history?before=chat-2").await.json().await.unwrap();
    assert_eq!((first.next.as_deref(), last.next), (Some("chat-2"), None));
    assert_eq!(served.asked(), ["past chat since=1795219200000 before=- most=2", "past - since=0 before=chat-2 most=50"]);
    for (query, text) in [("limit=0", "between 1 and 100"), ("limit=101", "before="), ("since=yesterday", "yesterday"), ("rul=x", "rul")] {
        let got = problem(get(&served, &format!("/api/v1/history?{query}")).await).await;
        assert_eq!((got.0, got.1.as_str()), (400, "query-malformed"), "{query}");
        assert!(got.2.contains(text), "{query}: {}", got.2);
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_is_always_there_for_a_known_rule() {
    let served = Served::new().await;
    let verdict = async |path: &str| get(&served, path).await.json::<wire::Verdict>().await.unwrap();
    let running = verdict("/api/v1/verdict/chat").await;
    assert_eq!((running.verdict.as_str(), running.rollout.as_deref()), ("undecided", Some("chat-1")));
    assert!((running.confidence - 0.7).abs() < 1e-9, "{}", running.confidence);
    assert_eq!(running.metrics[0].canary, Some(0.016));
    let idle = verdict("/api/v1/verdict/idle").await;
    assert_eq!((idle.verdict.as_str(), idle.reason.as_str()), ("undecided", "no rollout of this rule yet"));
    for (state, want) in [(State::RolledBack, "fail"), (State::Succeeded, "pass"), (State::Superseded, "undecided")] {
        served.set(vec![view("chat-1", state)]);
        assert_eq!(verdict("/api/v1/verdict/chat").await.verdict, want);
    }
    let mut blind = view("chat-1", State::Progressing { step: 1 });
    let judgement = Arc::make_mut(blind.judgement.as_mut().unwrap());
    judgement.metrics[1].required = true;
    served.set(vec![blind.clone()]);
    assert_eq!(verdict("/api/v1/verdict/chat").await.verdict, "blind");
    Arc::make_mut(blind.judgement.as_mut().unwrap()).rollback.push(Breach::Metric(0));
    served.set(vec![blind]);
    let failed = verdict("/api/v1/verdict/chat").await;
    assert_eq!(failed.verdict, "fail", "evidence of harm outweighs what cannot be seen");
    assert_eq!(failed.reason, "error-rate is worse than tolerated: canary 1.6% (1.1% to 2.1%), baseline 1% (0.8% to 1.2%)");
    let response = http().post(served.url("/api/v1/verdict/chat")).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK, "Argo may be told to post");
    assert_eq!(problem(get(&served, "/api/v1/verdict/shop").await).await.1, "unknown-rule");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verbs_reach_the_runtime_with_the_tokens_name() {
    let served = Served::new().await;
    let paused = post(&served, "/api/v1/rollouts/chat/pause", Some(OPERATOR), json!({"why": "lunch"})).await;
    let paused: wire::Rollout = paused.json().await.unwrap();
    assert_eq!((paused.state.as_str(), paused.decision.text.as_str()), ("paused", "paused: by ann: lunch"));
    let empty = http().post(served.url("/api/v1/rollouts/chat-1/rollback")).bearer_auth(OPERATOR).send().await.unwrap();
    assert_eq!(empty.json::<wire::Rollout>().await.unwrap().state, "rolling-back");
    let started = post(&served, "/api/v1/rules/chat/start", Some(OPERATOR), json!({"version": "2.2.0"})).await;
    assert_eq!(started.status(), StatusCode::CREATED);
    assert_eq!(started.json::<wire::Started>().await.unwrap().rollout, "chat-2");
    served.set(vec![view("chat-1", State::RolledBack)]);
    let again = post(&served, "/api/v1/rollouts/chat-1/retry", Some(OPERATOR), json!({})).await;
    assert_eq!(again.json::<wire::Started>().await.unwrap().rollout, "chat-2");
    assert_eq!(
        served.asked(),
        [
            "pause chat by=ann why=lunch",
            "rollback chat-1 by=ann why=",
            "start chat version=2.2.0 retry=false by=ann",
            "start chat version=2.1.0 retry=true by=ann",
        ]
    );
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_says_what_and_why() {
    let served = Served::new().await;
    let cases = [
        ("/api/v1/rollouts/chat/advance", json!({}), 409, "refused", "evidence of harm is 2.1 of 3.0 nats"),
        ("/api/v1/rollouts/chat/promote", json!({}), 409, "refused", "chat-1 is not at its last step"),
        ("/api/v1/rollouts/shop/pause", json!({}), 404, "unknown-rollout", "\"shop\""),
        ("/api/v1/rollouts/shop/retry", json!({}), 404, "unknown-rollout", "\"shop\""),
        ("/api/v1/rollouts/chat/retry", json!({}), 409, "already-running", "is not over"),
        ("/api/v1/rules/shop/start", json!({}), 404, "unknown-rule", "\"shop\""),
        ("/api/v1/rules/chat/start", json!({"version": "bad"}), 409, "rolled-back-before", "with retry"),
        ("/api/v1/reload", json!({}), 422, "invalid-rules", "rules/shop.yaml:3"),
        ("/api/v1/rollouts/chat/pause", json!({"wy": "x"}), 400, "body-malformed", "unknown field `wy`"),
        ("/api/v1/rollouts/chat/pause", json!([1]), 400, "body-malformed", "not as expected"),
        ("/api/v1/rollouts/chat/pause", json!({"why": "x".repeat(1001)}), 400, "text-too-long", "1001 characters, at most 1000"),
        ("/api/v1/rollouts/chat/pause", json!({"why": "a\u{1b}[2J"}), 400, "text-unprintable", "control characters"),
        ("/api/v1/rollouts/chat/pause", json!({"why": "x".repeat(20_000)}), 413, "body-too-large", "16384 bytes"),
        ("/api/v1/rollouts/chat/explode", json!({}), 404, "unknown-route", "break-glass-promote"),
    ];
    for (path, body, status, code, text) in cases {
        let got = problem(post(&served, path, Some(OPERATOR), body).await).await;
        assert_eq!((got.0, got.1.as_str()), (status, code), "{path}: {}", got.2);
        assert!(got.2.contains(text), "{path}: {}", got.2);
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_of_the_api_is_a_problem_too() {
    let served = Served::new().await;
    let asked = async |method: Method, path: &str, body: &'static [u8], kind: &str| {
        let request = http().request(method, served.url(path)).bearer_auth(OPERATOR).header("content-type", kind).body(body);
        request.send().await.unwrap()
    };
    let json = "application/json";
    for (method, path, body, kind, status, code) in [
        (Method::GET, "/api/v1/nothing", &b""[..], json, 404, "unknown-route"),
        (Method::GET, "/", b"", json, 404, "unknown-route"),
        (Method::GET, "/api/v1/rollouts/shop", b"", json, 404, "unknown-rollout"),
        (Method::GET, "/api/v1/rollouts/%ff", b"", json, 400, "path-malformed"),
        (Method::GET, "/api/v1/rollouts?rul=x", b"", json, 400, "query-malformed"),
        (Method::GET, "/api/v1/events?x=1", b"", json, 400, "query-malformed"),
        (Method::DELETE, "/api/v1/rollouts", b"", json, 405, "wrong-method"),
        (Method::GET, "/api/v1/rollouts/chat/pause", b"", json, 405, "wrong-method"),
        (Method::POST, "/api/v1/rollouts/chat/pause", b"{\"why\": ", json, 400, "body-malformed"),
        (Method::POST, "/api/v1/rollouts/chat/pause", b"\xff\xfe", json, 400, "body-malformed"),
        (Method::POST, "/api/v1/rollouts/chat/pause", b"why=x", "application/x-www-form-urlencoded", 415, "body-not-json"),
    ] {
        let got = problem(asked(method.clone(), path, body, kind).await).await;
        assert_eq!((got.0, got.1.as_str()), (status, code), "{method} {path}: {}", got.2);
    }
    let wrong = asked(Method::DELETE, "/api/v1/rollouts", b"", json).await;
    assert_eq!(wrong.headers()["allow"], "GET,HEAD");
    assert_eq!(served.asked(), [""; 0], "nothing of it reached the runtime");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mutation_needs_an_operators_token() {
    let served = Served::new().await;
    let path = "/api/v1/rollouts/chat/pause";
    for (token, status, code) in [
        (None, 401, "token-missing"),
        (Some("operator-token-012345678"), 401, "token-unknown"),
        (Some(""), 401, "token-malformed"),
        (Some(VIEWER), 403, "role-insufficient"),
    ] {
        let response = post(&served, path, token, json!({})).await;
        assert_eq!(response.headers().contains_key("www-authenticate"), status == 401);
        let got = problem(response).await;
        assert_eq!((got.0, got.1.as_str()), (status, code));
        assert!(token.is_none_or(|token| token.is_empty() || !got.2.contains(token)), "{}", got.2);
    }
    let basic = http().post(served.url(path)).basic_auth("ann", Some(OPERATOR)).send().await.unwrap();
    assert_eq!(problem(basic).await.1, "token-malformed");
    for path in ["/api/v1/rules/chat/start", "/api/v1/reload", "/api/v1/rollouts/chat/retry"] {
        assert_eq!(problem(post(&served, path, None, json!({})).await).await.1, "token-missing", "{path}");
    }
    assert_eq!(served.asked(), [""; 0]);
    served.stop().await;
}

/// What a route needs.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Needs {
    /// Nothing.
    Nothing,
    /// A role that reads, where the daemon listens beyond loopback.
    Read,
    Operate,
    Approve,
    /// Alerts.
    Deliver,
}

/// Every route of `src/api/routes.rs`, with a path that it serves.
const ROUTES: &[(&str, &str, &str, Needs)] = &[
    ("GET", "/healthz", "/healthz", Needs::Nothing),
    ("GET", "/readyz", "/readyz", Needs::Nothing),
    ("GET", "/metrics", "/metrics", Needs::Nothing),
    ("GET", "/api/v1/rollouts", "/api/v1/rollouts", Needs::Read),
    ("GET", "/api/v1/rollouts/{id}", "/api/v1/rollouts/chat", Needs::Read),
    ("GET", "/api/v1/rollouts/{id}/journal", "/api/v1/rollouts/chat/journal", Needs::Read),
    ("GET", "/api/v1/history", "/api/v1/history", Needs::Read),
    ("GET", "/api/v1/rules", "/api/v1/rules", Needs::Read),
    ("GET", "/api/v1/verdict/{rule}", "/api/v1/verdict/chat", Needs::Read),
    ("POST", "/api/v1/verdict/{rule}", "/api/v1/verdict/chat", Needs::Read),
    ("GET", "/api/v1/events", "/api/v1/events", Needs::Read),
    ("POST", "/api/v1/rollouts/{id}/approve", "/api/v1/rollouts/chat/approve", Needs::Approve),
    ("POST", "/api/v1/rollouts/{id}/{verb}", "/api/v1/rollouts/chat/pause", Needs::Operate),
    ("POST", "/api/v1/rollouts/{id}/{verb}", "/api/v1/rollouts/chat/retry", Needs::Operate),
    ("POST", "/api/v1/rules/{rule}/start", "/api/v1/rules/chat/start", Needs::Operate),
    ("POST", "/api/v1/reload", "/api/v1/reload", Needs::Operate),
    ("GET", "/api/v1/annotations", "/api/v1/annotations", Needs::Read),
    ("POST", "/webhooks/alertmanager", "/webhooks/alertmanager", Needs::Deliver),
];

#[test]
fn every_route_has_its_row() {
    let source = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/api/routes.rs")).unwrap();
    let patterns: Vec<&str> = source.split(".route(").skip(1).filter_map(|rest| rest.split('"').nth(1)).collect();
    assert!(patterns.len() > 10, "{patterns:?}");
    for pattern in patterns {
        assert!(ROUTES.iter().any(|(_, route, ..)| *route == pattern), "{pattern} has no row: who may use it?");
    }
}

/// 0 = served (well or not), else 401 or 403 as it must be.
fn expected(needs: Needs, token: Option<&str>, reads_need_token: bool) -> u16 {
    let may = match token {
        _ if needs == Needs::Nothing || needs == Needs::Read && !reads_need_token => return 0,
        None => return 401,
        Some(token) => match needs {
            Needs::Operate => token == OPERATOR || token == BOTH,
            Needs::Approve => token == APPROVER || token == BOTH,
            Needs::Deliver => token == WEBHOOK,
            Needs::Read | Needs::Nothing => token != WEBHOOK,
        },
    };
    if may { 0 } else { 403 }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_gets_where_it_may_and_nowhere_else() {
    for reads_need_token in [false, true] {
        let served = Served::with(How { reads_need_token, open: false }).await;
        for (method, _, path, needs) in ROUTES {
            for token in [None, Some(VIEWER), Some(OPERATOR), Some(APPROVER), Some(BOTH), Some(WEBHOOK)] {
                let mut request = http().request(method.parse().unwrap(), served.url(path));
                if let Some(token) = token {
                    request = request.bearer_auth(token);
                }
                let response = request.send().await.unwrap();
                let want = expected(*needs, token, reads_need_token);
                let status = response.status().as_u16();
                let refused = matches!(status, 401 | 403);
                assert!(
                    status == want || want == 0 && !refused,
                    "{method} {path} {token:?} reads={reads_need_token}: {status}, not {want}"
                );
                if want != 0 {
                    assert_eq!(problem(response).await.1, if want == 401 { "token-missing" } else { "role-insufficient" }, "{path}");
                }
            }
        }
        served.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_is_given_in_the_role_of_the_token() {
    let served = Served::new().await;
    let path = "/api/v1/rollouts/chat/approve";
    for (token, body, status, code) in [
        (APPROVER, json!({"why": "tested"}), 200, ""),
        (APPROVER, json!({"role": "product-manager"}), 200, ""),
        (APPROVER, json!({"role": "engineering-manager"}), 403, "role-insufficient"),
        (BOTH, json!({"role": "engineering-manager"}), 200, ""),
        (BOTH, json!({}), 400, "role-ambiguous"),
        (OPERATOR, json!({}), 403, "role-insufficient"),
        (OPERATOR, json!({"role": "product-manager"}), 403, "role-insufficient"),
        (APPROVER, json!({"rol": "x"}), 400, "body-malformed"),
        (APPROVER, json!({"why": "x".repeat(1001)}), 400, "text-too-long"),
    ] {
        let response = post(&served, path, Some(token), body.clone()).await;
        assert_eq!(response.status().as_u16(), status, "{token} {body}");
        if status != 200 {
            assert_eq!(problem(response).await.1, code, "{token} {body}");
        }
    }
    let ambiguous = problem(post(&served, path, Some(BOTH), json!({})).await).await.2;
    assert!(ambiguous.contains("engineering-manager, product-manager"), "{ambiguous}");
    assert_eq!(
        served.asked(),
        [
            "approve chat as=product-manager by=pam why=tested",
            "approve chat as=product-manager by=pam why=",
            "approve chat as=engineering-manager by=tom why=",
        ]
    );
    served.stop().await;
    // without tokens there is nobody to tell apart: the role must be said
    let open = Served::with(How { open: true, reads_need_token: false }).await;
    assert_eq!(problem(post(&open, path, None, json!({})).await).await.1, "role-ambiguous");
    assert_eq!(post(&open, path, None, json!({"role": "product-manager"})).await.status(), StatusCode::OK);
    assert_eq!(open.asked(), ["approve chat as=product-manager by=demo why="]);
    open.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_demo_obeys_its_own_page_and_no_other() {
    let served = Served::with(How { open: true, reads_need_token: false }).await;
    let from = async |origin: String| {
        let request = http().post(served.url("/api/v1/rollouts/chat/pause")).header("origin", origin);
        request.send().await.unwrap()
    };
    assert_eq!(problem(from("http://evil.example".to_owned()).await).await.1, "foreign-origin");
    assert_eq!(problem(from("null".to_owned()).await).await.1, "foreign-origin");
    let rebound = http().post(served.url("/api/v1/rollouts/chat/pause")).header("host", "evil.example").send().await.unwrap();
    assert_eq!(problem(rebound).await.1, "foreign-host");
    assert_eq!(from(format!("http://{}", served.address)).await.status(), StatusCode::OK);
    assert_eq!(post(&served, "/api/v1/rollouts/chat/pause", None, json!({})).await.status(), StatusCode::OK);
    assert_eq!(served.asked(), ["pause chat by=demo why=", "pause chat by=demo why="]);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_follows_the_runtime() {
    let served = Served::new().await;
    assert_eq!(get(&served, "/readyz").await.status(), StatusCode::OK);
    served.set_ready(false);
    assert_eq!(get(&served, "/readyz").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(get(&served, "/healthz").await.status(), StatusCode::OK);
    served.stop().await;
}

/// Reads a feed until a name of an event came; gives the text so far.
async fn until(response: &mut Response, text: &mut String, wanted: &str) {
    while !text.contains(wanted) {
        let chunk = tokio::time::timeout(Duration::from_secs(20), response.chunk()).await.expect("in time").unwrap();
        text.push_str(std::str::from_utf8(&chunk.expect("the feed goes on")).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_tells_what_is_then_what_happens_and_ends_at_shutdown() {
    let served = Served::new().await;
    let mut feed = get(&served, "/api/v1/events?rollout=chat").await;
    let mut other = get(&served, "/api/v1/events?rollout=shop").await;
    assert_eq!(feed.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    until(&mut feed, &mut text, "\n\n").await;
    assert!(text.starts_with("event: rollout\ndata: {\"id\":\"chat-1\""), "{text}");
    served.decide(decided(view("chat-1", State::RollingBack), Action::RollBack, State::RollingBack));
    until(&mut feed, &mut text, "event: decision").await;
    until(&mut feed, &mut text, "\"action\":\"roll-back\"").await;
    let timed = Timed::begin();
    served.begin_shutdown();
    until(&mut feed, &mut text, "event: bye\ndata: {}\n\n").await;
    assert_eq!(feed.chunk().await.unwrap(), None, "the feed is closed, not cut");
    let mut text = String::new();
    until(&mut other, &mut text, "event: bye").await;
    assert!(!text.contains("chat-1"), "a feed of another rollout: {text}");
    served.stop().await;
    let (took, late) = timed.end();
    assert!(took < Duration::from_secs(4), "feeds must not use up the drain time: {took:?}, {late:?} late");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_too_slow_for_the_feed_is_told_and_gets_the_rollouts_again() {
    let served = Served::new().await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(b"GET /api/v1/events HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut text = String::new();
    let mut buffer = vec![0; 65_536];
    while !text.contains("event: rollout") {
        let n = stream.read(&mut buffer).await.unwrap();
        text.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    // nothing is read here while more is sent than sockets and the channel of 4 lines hold
    let big = decided(view("chat-1", State::RollingBack), Action::Refuse("x".repeat(1_000_000)), State::RollingBack);
    for _ in 0..30 {
        served.decide(big.clone());
        tokio::task::yield_now().await;
    }
    while !text.contains("event: missed") {
        let n = stream.read(&mut buffer).await.unwrap();
        assert!(n > 0, "the feed ended");
        // an event's name may come in two pieces: keep the end of what came before
        let keep = text.chars().count().saturating_sub(20);
        text = text.chars().skip(keep).collect();
        text.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    drop(stream);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_finish_its_header_is_cut() {
    let served = Served::new().await;
    let begun = Instant::now();
    let mut half = TcpStream::connect(served.address).await.unwrap();
    half.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-slow: ").await.unwrap();
    let mut silent = TcpStream::connect(served.address).await.unwrap();
    let mut kept = TcpStream::connect(served.address).await.unwrap();
    kept.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let (mut a, mut b, mut c) = (Vec::new(), Vec::new(), Vec::new());
    let ended = tokio::time::timeout(HEADER_TIMEOUT + Duration::from_secs(10), async {
        // a reset is an end as well
        let _ = half.read_to_end(&mut a).await;
        let _ = silent.read_to_end(&mut b).await;
        let _ = kept.read_to_end(&mut c).await;
    });
    assert!(ended.await.is_ok(), "still open after {:?}", begun.elapsed());
    assert!(c.starts_with(b"HTTP/1.1 200"), "the kept connection was served before it idled");
    assert!(begun.elapsed() >= HEADER_TIMEOUT - Duration::from_secs(1), "cut by something else: {:?}", begun.elapsed());
    assert_eq!(get(&served, "/healthz").await.status(), StatusCode::OK);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_given_up() {
    let served = Served::new().await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let head = format!(
        "POST /api/v1/rollouts/chat/pause HTTP/1.1\r\nhost: x\r\nauthorization: bearer {OPERATOR}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.expect("cut in time").unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("body-too-slow"), "{answer}");
    assert_eq!(served.asked(), [""; 0]);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_header_is_refused() {
    let served = Served::new().await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let head = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    // the server may close before all is sent
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.expect("cut in time");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_feed_too_many_is_refused_and_reads_go_on() {
    let served = Served::new().await;
    let mut feeds = Vec::new();
    for _ in 0..FEEDS_MAX {
        feeds.push(get(&served, "/api/v1/events").await);
    }
    let refused = get(&served, "/api/v1/events").await;
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(problem(refused).await.1, "too-many-feeds");
    assert_eq!(get(&served, "/api/v1/rollouts").await.status(), StatusCode::OK);
    // a feed that was left makes room once the server has noticed: it sends something and fails
    drop(feeds);
    let again = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            served.decide(view("chat-1", State::Progressing { step: 1 }));
            if get(&served, "/api/v1/events").await.status() == StatusCode::OK {
                break;
            }
        }
    });
    again.await.expect("room again in time");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_connections_are_taken_than_can_be_held() {
    let served = Served::new().await;
    let full = format!("canaryd_http_connections {CONNECTIONS_MAX}\n");
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS_MAX + 20 {
        held.push(TcpStream::connect(served.address).await.unwrap());
    }
    let filled = tokio::time::timeout(HEADER_TIMEOUT, async {
        while !served.metrics.text().contains(&full) {
            tokio::task::yield_now().await;
        }
    });
    filled.await.expect("every place is taken, none more");
    // those beyond wait, and are served once silent ones were cut
    let mut last = held.pop().unwrap();
    last.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut buffer = [0; 1024];
    let n = tokio::time::timeout(HEADER_TIMEOUT * 3, last.read(&mut buffer)).await.expect("served in time").unwrap();
    assert!(buffer[..n].starts_with(b"HTTP/1.1 200"));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_ends_idle_connections_at_once() {
    let served = Served::new().await;
    let mut idle = TcpStream::connect(served.address).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut buffer = [0; 1024];
    assert!(idle.read(&mut buffer).await.unwrap() > 0);
    let timed = Timed::begin();
    let address = served.address;
    served.stop().await;
    let (took, late) = timed.end();
    assert!(took < Duration::from_secs(3), "{took:?}, {late:?} late");
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_pass_promtool_and_count_requests_by_route() {
    let served = Served::new().await;
    get(&served, "/api/v1/rollouts/chat").await;
    get(&served, "/some/random/path").await;
    let id = RolloutId("chat-1".to_owned());
    let version = "a \"quoted\\\nversion\"";
    RolloutOpened { rule: "chat", rollout: &id, version, by: "ann", mode: Mode::Enforce, again: false }.emit(&served.metrics);
    let shown = view("chat-1", State::Progressing { step: 1 });
    let judgement = shown.judgement.as_deref();
    Decided { rule: "chat", rollout: &id, metrics: &shown.metrics, decision: &shown.decision, judgement }.emit(&served.metrics);
    QueryEnded { source: "prometheus", question: "requests", took: Duration::from_millis(12), failed: None }.emit(&served.metrics);
    StoreAppended { took: Duration::from_micros(900), lines: 2 }.emit(&served.metrics);
    canaryd::telemetry::events::WeightSeen { rule: "chat", weight: None, at: Timestamp::from_millis(0) }.emit(&served.metrics);
    let response = get(&served, "/metrics").await;
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let page = response.text().await.unwrap();
    assert!(page.contains("canaryd_http_requests_total{route=\"/api/v1/rollouts/{id}\",method=\"GET\",status=\"200\"} 1\n"), "{page}");
    assert!(page.contains("canaryd_http_requests_total{route=\"none\",method=\"GET\",status=\"404\"} 1\n"), "{page}");
    assert!(page.contains("canaryd_evidence_nats{rule=\"chat\"} 1.2\n"), "{page}");
    check_with_promtool(&page);
    let open = http().get(served.url("/metrics")).header("accept", "application/openmetrics-text; version=1.0.0").send().await.unwrap();
    assert!(open.text().await.unwrap().ends_with("# EOF\n"));
    served.stop().await;
}

/// Without promtool nothing is checked, except where all tools must be there.
fn check_with_promtool(page: &str) {
    let spawned =
        Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut promtool = match spawned {
        Ok(promtool) => promtool,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "promtool is needed: {error}");
            return;
        }
    };
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let answer = promtool.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&answer.stdout), String::from_utf8_lossy(&answer.stderr));
    assert!(answer.status.success() && said.trim().is_empty(), "{said}\n{page}");
}
