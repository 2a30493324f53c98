//! One object of the API server: read it, change it. Every call is bounded; what it answers is told in the operator's words.

use super::{ABSENT, CallError, MANAGER};
use http_body_util::{BodyExt, Limited};
use hyper::Method;
use hyper::http::Request;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
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
/// Operations that are done all or none.
const JSON_PATCH: &str = "application/json-patch+json";

/// A kind of object, as the API names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resource {
    /// `group/version`, or `v1`.
    pub api: &'static str,
    /// `Deployment`.
    pub kind: &'static str,
    /// `deployments`.
    pub plural: &'static str,
}

impl Resource {
    /// What most workloads are.
    pub const DEPLOYMENT: Self = Self { api: "apps/v1", kind: "Deployment", plural: "deployments" };
    /// What a Deployment makes of each of its releases.
    pub const REPLICASET: Self = Self { api: "apps/v1", kind: "ReplicaSet", plural: "replicasets" };
    /// What scales them by load.
    pub const AUTOSCALER: Self = Self { api: "autoscaling/v2", kind: "HorizontalPodAutoscaler", plural: "horizontalpodautoscalers" };

    /// As RBAC names it.
    fn in_a_role(self) -> String {
        self.api.rsplit_once('/').map_or_else(|| self.plural.to_owned(), |(group, _)| format!("{}.{group}", self.plural))
    }
}

/// One object's place.
pub struct Object {
    client: Client,
    resource: Resource,
    namespace: String,
    name: String,
    /// Its number of replicas only, a part with permissions of its own.
    scale: bool,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what())
    }
}

/// What is asked.
struct Ask {
    method: Method,
    path: String,
    content: &'static str,
    body: Vec<u8>,
}

impl Ask {
    fn new(method: Method, path: String) -> Self {
        Self { method, path, content: "", body: Vec::new() }
    }

    fn with(self, content: &'static str, body: &Value) -> Self {
        Self { content, body: body.to_string().into_bytes(), ..self }
    }
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
    /// Nothing is asked yet.
    pub fn new(client: Client, resource: Resource, namespace: &str, name: &str) -> Self {
        Self { client, resource, namespace: namespace.to_owned(), name: name.to_owned(), scale: false }
    }

    /// The `scale` of a Deployment: its number of replicas, under the version of the whole.
    pub fn scale_of_deployment(client: Client, namespace: &str, name: &str) -> Self {
        Self { scale: true, ..Self::new(client, Resource::DEPLOYMENT, namespace, name) }
    }

    /// What an operator calls it: `Deployment shop/web`.
    pub fn what(&self) -> String {
        format!("{} {}/{}", self.resource.kind, self.namespace, self.name)
    }

    /// What any object of this place begins with.
    pub fn named(&self) -> Value {
        let Resource { api, kind, .. } = self.resource;
        json!({ "apiVersion": api, "kind": kind, "metadata": { "name": self.name, "namespace": self.namespace } })
    }

    /// As it is now, by a quorum of etcd.
    ///
    /// # Errors
    /// It could not be read; never [`CallError::Conflict`].
    pub async fn get(&self) -> Result<Value, CallError> {
        let answered = self.call(&Ask::new(Method::GET, self.path())).await?;
        match answered.status {
            200 => Ok(answered.body),
            _ => Err(self.error("get", &answered)),
        }
    }

    /// All of the operations or none; the object as it is then.
    ///
    /// # Errors
    /// Nothing was changed, or, where the API server could not be reached, that is not known.
    pub async fn patch(&self, operations: &[Value]) -> Result<Value, CallError> {
        self.change("patch", Ask::new(Method::PATCH, self.path()).with(JSON_PATCH, &operations.into())).await
    }

    /// What [`Self::patch`] would make of it, with everything the server and its webhooks fill in; nothing is written.
    ///
    /// # Errors
    /// As [`Self::patch`].
    pub async fn foresee(&self, operations: &[Value]) -> Result<Value, CallError> {
        let path = format!("{}?dryRun=All&fieldManager={MANAGER}", self.path());
        self.changed("patch", &Ask::new(Method::PATCH, path).with(JSON_PATCH, &operations.into())).await
    }

    /// Lays the change over the object, or over a subresource of it (`status`): mappings meet, `null` takes away, everything else is
    /// replaced. For what is ours alone: nothing is tested.
    ///
    /// # Errors
    /// As [`Self::patch`].
    pub async fn merge(&self, subresource: Option<&str>, change: &Value) -> Result<Value, CallError> {
        let path = subresource.map_or_else(|| self.path(), |part| format!("{}/{part}", self.path()));
        self.change("patch", Ask::new(Method::PATCH, path).with("application/merge-patch+json", change)).await
    }

    /// Makes it; the object as it is then.
    ///
    /// # Errors
    /// [`CallError::Conflict`] if there is one already, or its rules refuse it.
    pub async fn create(&self, object: &Value) -> Result<Value, CallError> {
        self.change("create", Ask::new(Method::POST, self.collection()).with("application/json", object)).await
    }

    /// Puts this in its place, unless it was changed since it was read: its `resourceVersion` is tested.
    ///
    /// # Errors
    /// [`CallError::Conflict`] if it was.
    pub async fn replace(&self, object: &Value) -> Result<Value, CallError> {
        self.change("update", Ask::new(Method::PUT, self.path()).with("application/json", object)).await
    }

    /// Takes it away. One that is not there is no error.
    ///
    /// # Errors
    /// It is still there, or that is not known.
    pub async fn delete(&self) -> Result<(), CallError> {
        let answered = self.call(&Ask::new(Method::DELETE, self.path())).await?;
        match answered.status {
            200 | 202 | 404 => Ok(()),
            _ => Err(self.error("delete", &answered)),
        }
    }

    async fn change(&self, verb: &str, mut ask: Ask) -> Result<Value, CallError> {
        ask.path = format!("{}?fieldManager={MANAGER}", ask.path);
        self.changed(verb, &ask).await
    }

    async fn changed(&self, verb: &str, ask: &Ask) -> Result<Value, CallError> {
        let answered = self.call(ask).await?;
        match answered.status {
            200 | 201 => Ok(answered.body),
            409 | 422 => Err(CallError::Conflict(answered.message())),
            _ => Err(self.error(verb, &answered)),
        }
    }

    fn error(&self, verb: &str, answered: &Answered) -> CallError {
        let message = answered.message();
        let resource = if self.scale { Resource { plural: "deployments/scale", ..self.resource } } else { self.resource };
        match answered.status {
            401 | 403 => denied(answered.status, verb, resource, Some(&self.namespace), &message),
            404 => CallError::Missing(self.missing(answered)),
            429 | 500.. => CallError::Unreachable(message),
            _ => CallError::Refused(message),
        }
    }

    /// No such object, no such kind of object, or, for one that is to be made, no such namespace.
    fn missing(&self, answered: &Answered) -> String {
        if answered.body.pointer("/details/kind").and_then(Value::as_str) == Some("namespaces") {
            return format!("namespace {} {ABSENT}", self.namespace);
        }
        let named = answered.body.pointer("/details/name").and_then(Value::as_str) == Some(&self.name);
        if named {
            return ABSENT.to_owned();
        }
        format!("the cluster does not serve {} of {}: install its custom resource definitions", self.resource.plural, self.resource.api)
    }

    async fn call(&self, ask: &Ask) -> Result<Answered, CallError> {
        for wait in TRY_AGAIN {
            let answered = self.once(ask).await?;
            let wait = answered.retry_after.map_or(wait, |asked| asked.max(wait));
            if !matches!(answered.status, 429 | 500..) || wait > RETRY_AFTER_MAX {
                return Ok(answered);
            }
            tokio::time::sleep(wait).await;
        }
        self.once(ask).await
    }

    async fn once(&self, ask: &Ask) -> Result<Answered, CallError> {
        match tokio::time::timeout(CALL_MAX, self.exchange(ask)).await {
            Ok(answered) => answered.map_err(CallError::Unreachable),
            Err(_) => Err(CallError::Unreachable(format!("the API server gave no answer within {} s", CALL_MAX.as_secs()))),
        }
    }

    async fn exchange(&self, ask: &Ask) -> Result<Answered, String> {
        let request = Request::builder().method(&ask.method).uri(&ask.path).header("accept", "application/json");
        let request = if ask.body.is_empty() { request } else { request.header("content-type", ask.content) };
        let request = request.body(Body::from(ask.body.clone())).map_err(|e| e.to_string())?;
        let answer = self.client.send(request).await.map_err(|e| causes(&e))?;
        let status = answer.status().as_u16();
        let seconds = answer.headers().get("retry-after").and_then(|v| v.to_str().ok()?.parse().ok());
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|e| format!("its answer: {e}"))?;
        // an error of something between us and the API server need not be JSON
        let body = match serde_json::from_slice(&body.to_bytes()) {
            Ok(body) => body,
            Err(e) if matches!(status, 200 | 201) => return Err(format!("its answer is no JSON: {e}")),
            Err(_) => Value::Null,
        };
        Ok(Answered { status, retry_after: seconds.map(Duration::from_secs), body })
    }

    fn path(&self) -> String {
        format!("{}/{}{}", self.collection(), self.name, if self.scale { "/scale" } else { "" })
    }

    fn collection(&self) -> String {
        let Resource { api, plural, .. } = self.resource;
        let root = if api.contains('/') { "apis" } else { "api" };
        format!("/{root}/{api}/namespaces/{}/{plural}", self.namespace)
    }
}

/// An answer of 401 or 403; without a namespace it was about all.
pub(super) fn denied(status: u16, verb: &str, resource: Resource, namespace: Option<&str>, message: &str) -> CallError {
    let what = resource.in_a_role();
    CallError::Denied(match (status, namespace) {
        (401, _) => format!("the API server does not know us: {message}"),
        // an admission policy refuses with the same code: then it is not about our rights
        _ if !message.contains(&format!("cannot {verb} resource")) => return CallError::Refused(message.to_owned()),
        (_, Some(namespace)) => {
            format!("needs the permission to {verb} {what} in namespace {namespace}: bind it a Role that allows it ({message})")
        }
        (_, None) => format!("needs the permission to {verb} {what} in all namespaces: bind it a ClusterRole that allows it ({message})"),
    })
}

/// The error and what it came from: kube's outermost says only that a service failed.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
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
