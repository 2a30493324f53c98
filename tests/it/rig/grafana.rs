//! A double of Grafana's annotations API, for there is no Grafana in the registries: it checks requests and answers as a real
//! 12.4 did (PROTOCOLS 4.3), and can be told to answer otherwise.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Arc;

/// The token that may do everything.
pub(crate) const TOKEN: &str = "glsa_editor";
/// A token without the right to write.
pub(crate) const VIEWER: &str = "glsa_viewer";
/// The one dashboard there is.
pub(crate) const DASHBOARD: &str = "canaryd-rollouts";

/// A running double; it ends with the runtime it was started on.
#[derive(Clone)]
pub(crate) struct Grafana {
    pub(crate) url: String,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    annotations: Vec<Value>,
    last_id: u64,
    calls: Vec<String>,
    /// Answers to the next calls instead of the right one: status, and whether the call is carried out all the same.
    faults: VecDeque<(u16, bool)>,
}

impl Grafana {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let inner: Arc<Mutex<Inner>> = Arc::default();
        let app = Router::new().fallback(asked).with_state(Arc::clone(&inner));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, inner }
    }

    /// What is there.
    pub(crate) fn annotations(&self) -> Vec<Value> {
        self.inner.lock().annotations.clone()
    }

    /// Every call so far: method and path.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.inner.lock().calls.clone()
    }

    /// The next call is answered with this status; carried out all the same if `done`.
    pub(crate) fn fail_next(&self, status: u16, done: bool) {
        self.inner.lock().faults.push_back((status, done));
    }

    /// Somebody deletes an annotation.
    pub(crate) fn delete(&self, id: u64) {
        self.inner.lock().annotations.retain(|a| a["id"] != id);
    }
}

type Answer = Response<String>;

async fn asked(State(inner): State<Arc<Mutex<Inner>>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Answer {
    let mut inner = inner.lock();
    inner.calls.push(format!("{method} {}", uri.path()));
    let fault = inner.faults.pop_front();
    if let Some((status, false)) = fault {
        return answer(status, &json!({ "message": "scripted" }));
    }
    let right = inner.answer(&method, &uri, &headers, &body);
    match fault {
        Some((status, _)) => answer(status, &json!({ "message": "scripted" })),
        None => right,
    }
}

fn answer(status: u16, body: &Value) -> Answer {
    let status = StatusCode::from_u16(status).expect("a status");
    Response::builder().status(status).header("content-type", "application/json").body(body.to_string()).expect("an answer")
}

fn message(status: u16, text: &str) -> Answer {
    answer(status, &json!({ "message": text }))
}

impl Inner {
    fn answer(&mut self, method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Answer {
        let token = headers.get("authorization").and_then(|v| v.to_str().ok()).and_then(|v| v.strip_prefix("Bearer "));
        if token != Some(TOKEN) && token != Some(VIEWER) {
            return answer(401, &json!({ "message": "Invalid API key", "messageId": "api-key.invalid", "statusCode": 401, "traceID": "" }));
        }
        if *method != Method::GET && token == Some(VIEWER) {
            let text = "You'll need additional permissions to perform this action. Permissions needed: annotations:create";
            return answer(403, &json!({ "accessErrorId": "ACE1", "message": text, "title": "Access denied" }));
        }
        match (method.as_str(), uri.path().strip_prefix("/api/annotations")) {
            ("GET", Some("")) => self.find(uri),
            ("POST", Some("")) => self.create(headers, body),
            ("PATCH", Some(id)) => self.patch(id.trim_start_matches('/'), headers, body),
            _ => message(404, "Not found"),
        }
    }

    fn find(&self, uri: &Uri) -> Answer {
        let url = reqwest::Url::parse(&format!("http://x{uri}")).expect("a URL");
        let pairs: Vec<(String, String)> = url.query_pairs().map(|(k, v)| (k.into_owned(), v.into_owned())).collect();
        let limit = pairs.iter().find(|(k, _)| k == "limit").and_then(|(_, v)| v.parse().ok()).unwrap_or(100);
        let tags: Vec<&String> = pairs.iter().filter(|(k, _)| k == "tags").map(|(_, v)| v).collect();
        let has = |a: &&Value| tags.iter().all(|tag| a["tags"].as_array().is_some_and(|own| own.iter().any(|t| t == tag.as_str())));
        let found: Vec<Value> = self.annotations.iter().rev().filter(has).take(limit).cloned().collect();
        answer(200, &Value::Array(found))
    }

    fn create(&mut self, headers: &HeaderMap, body: &[u8]) -> Answer {
        let Some(body) = read(headers, body) else { return message(400, "bad request data") };
        if body["text"].as_str().is_none_or(str::is_empty) {
            return message(400, "Failed to save annotation");
        }
        if body.get("dashboardUID").is_some_and(|uid| uid != DASHBOARD) {
            return message(500, "Error while checking annotation permissions");
        }
        self.last_id += 1;
        let time = body["time"].as_i64().unwrap_or(1);
        let (from, to) = sorted(time, body["timeEnd"].as_i64().unwrap_or(time));
        self.annotations.push(json!({
            "id": self.last_id, "alertId": 0, "dashboardUID": body.get("dashboardUID").and_then(Value::as_str).unwrap_or_default(),
            "panelId": 0, "created": 1, "updated": 1, "time": from, "timeEnd": to, "text": body["text"],
            "tags": body.get("tags").cloned().unwrap_or_else(|| json!([])), "login": "sa-1-daemon", "data": {},
        }));
        answer(200, &json!({ "id": self.last_id, "message": "Annotation added" }))
    }

    fn patch(&mut self, id: &str, headers: &HeaderMap, body: &[u8]) -> Answer {
        let Ok(id) = id.parse::<u64>() else { return message(400, "annotationId is invalid") };
        let Some(body) = read(headers, body) else { return message(400, "bad request data") };
        let Some(found) = self.annotations.iter_mut().find(|a| a["id"] == id) else { return message(404, "Annotation not found") };
        for key in ["text", "tags"] {
            if let Some(value) = body.get(key) {
                found[key] = value.clone();
            }
        }
        let time = body["time"].as_i64().or(found["time"].as_i64()).unwrap_or(1);
        let (from, to) = sorted(time, body["timeEnd"].as_i64().or(found["timeEnd"].as_i64()).unwrap_or(time));
        (found["time"], found["timeEnd"]) = (from.into(), to.into());
        message(200, "Annotation patched")
    }
}

/// An end before the begin is silently swapped.
fn sorted(time: i64, end: i64) -> (i64, i64) {
    if end < time { (end, time) } else { (time, end) }
}

/// The body, if its types are Grafana's.
fn read(headers: &HeaderMap, body: &[u8]) -> Option<Value> {
    let kind = headers.get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default();
    let body: Value = serde_json::from_slice(body).ok().filter(Value::is_object)?;
    let whole = |key: &str| body.get(key).is_none_or(|v| v.as_i64().is_some());
    let text = |key: &str| body.get(key).is_none_or(Value::is_string);
    let tags = body.get("tags").is_none_or(|t| t.as_array().is_some_and(|t| t.iter().all(Value::is_string)));
    let known = ["dashboardUID", "panelId", "time", "timeEnd", "tags", "text", "data"];
    let only_known = body.as_object()?.keys().all(|key| known.contains(&key.as_str()));
    (kind == "application/json" && whole("time") && whole("timeEnd") && text("text") && text("dashboardUID") && tags && only_known)
        .then_some(body)
}
