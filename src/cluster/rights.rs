//! Which permissions a rule needs in the cluster, and which of them we lack: asked of the API server before anything depends on it
//! (`canaryd check --live`), each with what follows from lacking it.

use crate::model::Rule;
use crate::model::rule::{AfterRollback, KubernetesRoute, Mode, Promotion, Replicas, RouteKind, Traffic};
use hyper::http::Request;
use kube::Client;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// Longest wait for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// One permission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Right {
    /// `get`, `list`, `watch` or `patch`.
    pub verb: &'static str,
    /// API group; empty for the core.
    pub group: &'static str,
    /// `deployments`, or a part of them: `deployments/scale`.
    pub resource: &'static str,
    /// Where.
    pub namespace: String,
    /// What follows from lacking it.
    pub without: &'static str,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dot = if self.group.is_empty() { "" } else { "." };
        let Self { verb, resource, group, namespace, without } = self;
        write!(f, "lacks the permission to {verb} {resource}{dot}{group} in namespace {namespace}: {without}")
    }
}

const UNSEEN: &str = "workloads and pods are not seen: no start at a new template, no capacity, no health of pods";
const SCALERS_UNSEEN: &str = "autoscalers are not seen, and may shrink the baseline while a rollout runs";
const PROBES_UNSEEN: &str = "failed probes show only by pods that are not ready any more";
const NOT_UNDONE: &str = "after a rollback the canary keeps its pod template";
const NOT_COPIED: &str = "no promotion: the canary's pod template cannot be written into stable";
const NOT_SCALED: &str = "replicas stay as they are, which the rule wants changed";
const SCALERS_FREE: &str = "an autoscaler may shrink the baseline below what a rollback needs";
const NOT_MOVED: &str = "the traffic cannot be moved";
const NOT_READ: &str = "the traffic cannot be read, and no rollout begins";

/// What a kind of right is about: verb, group, resource, and what follows from lacking it.
type Wanted = (&'static str, &'static str, &'static str, &'static str);

/// Everything this rule needs, each once.
pub fn needed(rule: &Rule) -> Vec<Right> {
    let mut rights = route_rights(&rule.traffic, rule.mode);
    if super::Cluster::covers(&rule.workloads) {
        let namespaces: BTreeSet<&String> = rule.workloads.sides.iter().filter_map(|side| side.fields.get("namespace")).collect();
        let wanted: Vec<Wanted> = seeing(rule).into_iter().chain(acting(rule)).collect();
        for namespace in namespaces {
            rights.extend(wanted.iter().map(|wanted| right(*wanted, namespace)));
        }
    }
    rights
}

fn right((verb, group, resource, without): Wanted, namespace: &str) -> Right {
    Right { verb, group, resource, namespace: namespace.to_owned(), without }
}

fn route_rights(traffic: &Traffic, mode: Mode) -> Vec<Right> {
    let Traffic::Kubernetes(KubernetesRoute { namespace, kind, .. }) = traffic else { return Vec::new() };
    let (group, resource) = match kind {
        RouteKind::VirtualService { .. } => ("networking.istio.io", "virtualservices"),
        RouteKind::GatewayRoute { grpc: false, .. } => ("gateway.networking.k8s.io", "httproutes"),
        RouteKind::GatewayRoute { grpc: true, .. } => ("gateway.networking.k8s.io", "grpcroutes"),
        RouteKind::NginxIngress { .. } | RouteKind::AlbIngress { .. } => ("networking.k8s.io", "ingresses"),
        RouteKind::Service { .. } => ("", "services"),
        RouteKind::TraefikService { .. } => ("traefik.io", "traefikservices"),
        RouteKind::Replicas { .. } => ("apps", "deployments"),
    };
    let writes = (mode == Mode::Enforce).then(|| right(("patch", group, resource, NOT_MOVED), namespace));
    std::iter::once(right(("get", group, resource, NOT_READ), namespace)).chain(writes).collect()
}

fn seeing(rule: &Rule) -> Vec<Wanted> {
    let mut wanted = vec![("get", "apps", "deployments", UNSEEN)];
    for (group, resource) in [("apps", "deployments"), ("apps", "replicasets"), ("", "pods")] {
        wanted.extend([("list", group, resource, UNSEEN), ("watch", group, resource, UNSEEN)]);
    }
    wanted.push(("list", "autoscaling", "horizontalpodautoscalers", SCALERS_UNSEEN));
    if rule.pod_health.is_some_and(|health| health.failed_probes.is_some()) {
        wanted.extend([("list", "", "events", PROBES_UNSEEN), ("watch", "", "events", PROBES_UNSEEN)]);
    }
    wanted
}

fn acting(rule: &Rule) -> Vec<Wanted> {
    if rule.mode == Mode::Observe {
        return Vec::new();
    }
    let idles = matches!(rule.promotion, Promotion::Swap { idle: Some(_), .. });
    let copies = rule.promotion == Promotion::Copy;
    let scales = rule.replicas == Replicas::Follow || rule.after_rollback == AfterRollback::ScaleDown || idles || copies;
    let patch = ("patch", "apps");
    let all = [
        (rule.after_rollback == AfterRollback::Undo, (patch.0, patch.1, "deployments", NOT_UNDONE)),
        (copies, (patch.0, patch.1, "deployments", NOT_COPIED)),
        (idles, (patch.0, patch.1, "deployments", NOT_SCALED)),
        (scales, ("get", "apps", "deployments/scale", NOT_SCALED)),
        (scales, (patch.0, patch.1, "deployments/scale", NOT_SCALED)),
        (true, ("patch", "autoscaling", "horizontalpodautoscalers", SCALERS_FREE)),
    ];
    all.into_iter().filter_map(|(needed, wanted)| needed.then_some(wanted)).collect()
}

/// Those of them that we lack, asked one by one.
///
/// # Errors
/// The API server could not be asked, in words for the operator.
pub async fn missing(client: &Client, rule: &Rule) -> Result<Vec<Right>, String> {
    let mut missing = Vec::new();
    for right in needed(rule) {
        if !may(client, &right).await? {
            missing.push(right);
        }
    }
    Ok(missing)
}

/// Every account may ask about itself.
async fn may(client: &Client, right: &Right) -> Result<bool, String> {
    let (resource, part) = right.resource.split_once('/').unwrap_or((right.resource, ""));
    let asked = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": { "resourceAttributes": {
            "namespace": right.namespace, "verb": right.verb, "group": right.group, "resource": resource, "subresource": part,
        } },
    });
    let request = Request::post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews").header("content-type", "application/json");
    let request = request.body(asked.to_string().into_bytes()).map_err(|e| e.to_string())?;
    match tokio::time::timeout(ANSWER_MAX, client.request::<Value>(request)).await {
        Ok(Ok(answer)) => Ok(answer.pointer("/status/allowed") == Some(&Value::Bool(true))),
        Ok(Err(e)) => Err(format!("permissions cannot be asked for: {e}")),
        Err(_) => Err(format!("permissions cannot be asked for: no answer within {} s", ANSWER_MAX.as_secs())),
    }
}
