//! One object of the API server: read it, patch it. Every call is bounded; what it answers is told in the operator's words.

use super::MANAGER;
use crate::router::RouterError;
use http_body_util::{BodyExt, Limited};
use hyper::Method;
use hyper::http::Request;
use kube::Client;
use kube::client::Body;
use serde_json::Value;
use std::fmt;
use std::time::Duration;

/// Longest wait for one answer.
const CALL_MAX: Duration = Duration::from_secs(5);
/// Largest answer read: etcd keeps no object above 1.5 MB.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Waits before a call is tried again that was answered "too many requests" or "server error". A write tests what it replaces,
/// so trying it again after it was carried out all the same changes nothing.
const TRY_AGAIN: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(500)];
/// Longest wait the server may ask for before we leave trying again to the rollout.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(1);

/// A kind of object, as the API names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resource {
    /// `group/version`, or `v1`.
    pub(super) api: &'static str,
    pub(super) kind: &'static str,
    pub(super) plural: &'static str,
}

impl Resource {
    /// As RBAC names it.
    fn in_a_role(self) -> String {
        self.api.rsplit_once('/').map_or_else(|| self.plural.to_owned(), |(group, _)| format!("{}.{group}", self.plural))
    }
}

/// One object's place.
pub(super) struct Object {
    client: Client,
    resource: Resource,
    namespace: String,
    name: String,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what())
    }
}

/// Why a patch was not taken.
#[derive(Debug)]
pub(super) enum PatchError {
    /// 409 or 422: the object is not as the patch says, or its rules refuse it. The server's words.
    Conflict(String),
    /// Anything else.
    Failed(RouterError),
}

/// What came back.
struct Answered {
    status: u16,
    retry_after: Option<Duration>,
    body: Value,
}

impl Answered {
    /// The server's own words.
    fn message(&self) -> String {
        let said = self.body.get("message").and_then(Value::as_str).unwrap_or("no reason given");
        format!("{} ({})", said, self.status)
    }
}

impl Object {
    pub(super) fn new(client: Client, resource: Resource, namespace: &str, name: &str) -> Self {
        Self { client, resource, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    pub(super) fn what(&self) -> String {
        format!("{} {}/{}", self.resource.kind, self.namespace, self.name)
    }

    /// It is not as the rule says.
    pub(super) fn wrong(&self, why: String) -> RouterError {
        RouterError::Object { what: self.what(), why }
    }

    pub(super) fn refused(&self, why: String) -> RouterError {
        RouterError::Refused { what: self.what(), why }
    }

    pub(super) fn not_verified(&self, why: String) -> RouterError {
        RouterError::NotVerified { what: self.what(), why }
    }

    /// As it is now, by a quorum of etcd.
    pub(super) async fn get(&self) -> Result<Value, RouterError> {
        let answered = self.call(Method::GET, "", Vec::new()).await?;
        match answered.status {
            200 => Ok(answered.body),
            _ => Err(self.error("get", &answered)),
        }
    }

    /// All of the operations or none.
    pub(super) async fn patch(&self, operations: &[Value]) -> Result<(), PatchError> {
        let body = serde_json::to_vec(operations).map_err(|e| PatchError::Failed(self.wrong(e.to_string())))?;
        let query = format!("?fieldManager={MANAGER}");
        let answered = self.call(Method::PATCH, &query, body).await.map_err(PatchError::Failed)?;
        match answered.status {
            200 => Ok(()),
            409 | 422 => Err(PatchError::Conflict(answered.message())),
            _ => Err(PatchError::Failed(self.error("patch", &answered))),
        }
    }

    fn error(&self, verb: &str, answered: &Answered) -> RouterError {
        let message = answered.message();
        match answered.status {
            401 => RouterError::Denied { what: self.what(), why: format!("the API server does not know us: {message}") },
            // an admission policy refuses with the same code: then it is not about our rights
            403 if !message.contains(&format!("cannot {verb} resource")) => self.refused(message),
            403 => RouterError::Denied {
                what: self.what(),
                why: format!(
                    "needs the permission to {verb} {} in namespace {}: bind it a Role that allows it ({message})",
                    self.resource.in_a_role(),
                    self.namespace
                ),
            },
            404 => self.wrong(self.missing(answered)),
            429 | 500.. => RouterError::Unreachable { what: self.what(), cause: message },
            _ => self.refused(message),
        }
    }

    /// No such object, or no such kind of object.
    fn missing(&self, answered: &Answered) -> String {
        let named = answered.body.pointer("/details/name").and_then(Value::as_str) == Some(&self.name);
        if named {
            return "does not exist".to_owned();
        }
        format!("the cluster does not serve {} of {}: install its custom resource definitions", self.resource.plural, self.resource.api)
    }

    async fn call(&self, method: Method, query: &str, body: Vec<u8>) -> Result<Answered, RouterError> {
        for wait in TRY_AGAIN {
            let answered = self.once(&method, query, body.clone()).await?;
            let wait = answered.retry_after.map_or(wait, |asked| asked.max(wait));
            if !matches!(answered.status, 429 | 500..) || wait > RETRY_AFTER_MAX {
                return Ok(answered);
            }
            tokio::time::sleep(wait).await;
        }
        self.once(&method, query, body).await
    }

    async fn once(&self, method: &Method, query: &str, body: Vec<u8>) -> Result<Answered, RouterError> {
        let unreachable = |cause: String| RouterError::Unreachable { what: self.what(), cause };
        match tokio::time::timeout(CALL_MAX, self.exchange(method, query, body)).await {
            Ok(answered) => answered.map_err(unreachable),
            Err(_) => Err(unreachable(format!("the API server gave no answer within {} s", CALL_MAX.as_secs()))),
        }
    }

    async fn exchange(&self, method: &Method, query: &str, body: Vec<u8>) -> Result<Answered, String> {
        let request = Request::builder().method(method).uri(format!("{}{query}", self.path()));
        let request = request.header("accept", "application/json");
        let request = if body.is_empty() { request } else { request.header("content-type", "application/json-patch+json") };
        let request = request.body(Body::from(body)).map_err(|e| e.to_string())?;
        let answer = self.client.send(request).await.map_err(|e| causes(&e))?;
        let status = answer.status().as_u16();
        let seconds = answer.headers().get("retry-after").and_then(|v| v.to_str().ok()?.parse().ok());
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|e| format!("its answer: {e}"))?;
        // an error of something between us and the API server need not be JSON
        let body = match serde_json::from_slice(&body.to_bytes()) {
            Ok(body) => body,
            Err(e) if status == 200 => return Err(format!("its answer is no JSON: {e}")),
            Err(_) => Value::Null,
        };
        Ok(Answered { status, retry_after: seconds.map(Duration::from_secs), body })
    }

    fn path(&self) -> String {
        let Resource { api, plural, .. } = self.resource;
        let root = if api.contains('/') { "apis" } else { "api" };
        format!("/{root}/{api}/namespaces/{}/{plural}/{}", self.namespace, self.name)
    }
}

/// The error and what it came from: kube's outermost says only that a service failed.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}
