//! Which permissions a rule and the daemon itself need in the cluster, and which of them we lack: asked of the API server before
//! anything depends on it (`canaryd check --live`), each once, with everything that follows from lacking it.

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
    /// `get`, `list`, `watch`, `create`, `update`, `patch` or `delete`.
    pub verb: &'static str,
    /// API group; empty for the core.
    pub group: &'static str,
    /// `deployments`, or a part of them: `deployments/scale`.
    pub resource: &'static str,
    /// Where; `None` = in every namespace.
    pub namespace: Option<String>,
    /// The one object it is about; `None` = any.
    pub name: Option<String>,
    /// What follows from lacking it, each thing once.
    pub without: Vec<&'static str>,
}

impl Right {
    fn is_that_of(&self, other: &Self) -> bool {
        let key = |right: &Self| (right.verb, right.group, right.resource, right.namespace.clone(), right.name.clone());
        key(self) == key(other)
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, resource, group, .. } = self;
        let dot = if group.is_empty() { "" } else { "." };
        write!(f, "lacks the permission to {verb} {resource}{dot}{group}")?;
        if let Some(name) = &self.name {
            write!(f, " {name:?}")?;
        }
        match &self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace}")?,
            None => write!(f, " in every namespace")?,
        }
        write!(f, ": {}", self.without.join("; "))
    }
}

const UNSEEN: &str = "workloads and pods are not seen: no start at a new template, no capacity, no health of pods";
const SCALERS_UNSEEN: &str = "autoscalers are not seen, and may shrink the baseline while a rollout runs";
const PROBES_UNSEEN: &str = "failed probes show only by pods that are not ready any more";
const NOT_UNDONE: &str = "after a rollback the canary keeps its pod template";
const NOT_COPIED: &str = "no promotion: the canary's pod template cannot be written into stable";
const NOT_SCALED: &str = "replicas stay as they are, which the rule wants changed";
const SCALERS_FREE: &str = "an autoscaler may shrink the baseline below what a rollback needs";
const NOT_RESTORED: &str = "a baseline that shrank does not get its replicas back when a rollback gives it the traffic";
const NOT_MOVED: &str = "the traffic cannot be moved";
const NOT_MOVED_UP: &str = "the canary gets no more traffic";
const UNWATCHED: &str = "another hand that changes the weights is seen only at the next tick";
const NO_BATCHES: &str = "the pods of a rolling update are neither made nor given back step by step";
const LET_GO: &str = "a Deployment found paused is let go on for its first pods, and rolls on should canaryd be killed at that moment";
const NOT_READ: &str = "the traffic cannot be read, and no rollout begins";
const ROLLOUTS_UNSHOWN: &str = "rollouts are not shown as CanaryRollout objects";
const OLD_ROLLOUTS_STAY: &str = "the oldest CanaryRollout objects of a rule are not taken away";
const UNSAID: &str = "what is decided is not told by Events";
const RULES_UNREAD: &str = "CanaryRule objects are not read";
const RULES_UNREAD_ELSEWHERE: &str = "CanaryRule objects of other namespaces than our own are not read";
const RULES_UNANSWERED: &str = "CanaryRule objects do not show whether they are accepted";
const NEVER_ACTS: &str = "this process never holds the lease, and only stands by";

/// What a kind of right is about: verb, group, resource, and what follows from lacking it.
type Wanted = (&'static str, &'static str, &'static str, &'static str);

/// Everything this rule needs, each once; with what shows its rollouts in the cluster, if they are to be shown.
pub fn needed(rule: &Rule, shown: bool) -> Vec<Right> {
    let mut rights = route_rights(&rule.traffic, rule.mode);
    if super::Cluster::covers(&rule.workloads) {
        let namespaces: BTreeSet<&String> = rule.workloads.sides.iter().filter_map(|side| side.fields.get("namespace")).collect();
        let showing = if shown { SHOWING } else { &[] };
        let wanted: Vec<Wanted> = seeing(rule).into_iter().chain(acting(rule)).chain(showing.iter().copied()).collect();
        for namespace in namespaces {
            rights.extend(wanted.iter().map(|wanted| right(*wanted, namespace)));
        }
    }
    each_once(rights)
}

/// What shows a rollout beside its workloads.
const SHOWING: &[Wanted] = &[
    ("get", super::resources::GROUP, "canaryrollouts", ROLLOUTS_UNSHOWN),
    ("create", super::resources::GROUP, "canaryrollouts", ROLLOUTS_UNSHOWN),
    ("patch", super::resources::GROUP, "canaryrollouts/status", ROLLOUTS_UNSHOWN),
    ("list", super::resources::GROUP, "canaryrollouts", OLD_ROLLOUTS_STAY),
    ("delete", super::resources::GROUP, "canaryrollouts", OLD_ROLLOUTS_STAY),
    ("create", "events.k8s.io", "events", UNSAID),
    ("patch", "events.k8s.io", "events", UNSAID),
];

/// What reads rules from `CanaryRule` objects and answers them: of every namespace, or at least of `own`.
fn of_resources(own: &str) -> Vec<Right> {
    let rules = |verb, resource, without| right((verb, super::resources::GROUP, resource, without), own);
    let own = [rules("list", "canaryrules", RULES_UNREAD), rules("watch", "canaryrules", RULES_UNREAD)];
    let all = [
        rules("list", "canaryrules", RULES_UNREAD_ELSEWHERE),
        rules("watch", "canaryrules", RULES_UNREAD_ELSEWHERE),
        rules("get", "canaryrules", RULES_UNANSWERED),
        rules("patch", "canaryrules/status", RULES_UNANSWERED),
    ];
    own.into_iter().chain(all.map(|right| Right { namespace: None, ..right })).collect()
}

/// What `--leader-election` needs of its Lease. `create` cannot be limited to a name.
fn of_lease(namespace: &str, name: &str) -> Vec<Right> {
    let lease = |verb| right((verb, "coordination.k8s.io", "leases", NEVER_ACTS), namespace);
    let named = ["get", "update"].map(|verb| Right { name: Some(name.to_owned()), ..lease(verb) });
    std::iter::once(lease("create")).chain(named).collect()
}

/// One right that is needed for two things is one, with what follows for both.
fn each_once(rights: Vec<Right>) -> Vec<Right> {
    let mut all: Vec<Right> = Vec::new();
    for right in rights {
        let Some(there) = all.iter_mut().find(|there| there.is_that_of(&right)) else {
            all.push(right);
            continue;
        };
        let news = right.without.into_iter().filter(|without| !there.without.contains(without)).collect::<Vec<_>>();
        there.without.extend(news);
    }
    all
}

fn right((verb, group, resource, without): Wanted, namespace: &str) -> Right {
    Right { verb, group, resource, namespace: Some(namespace.to_owned()), name: None, without: vec![without] }
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
        RouteKind::Replicas { .. } | RouteKind::RollingUpdate => ("apps", "deployments"),
    };
    let mut wanted = vec![("get", group, resource, NOT_READ), ("list", group, resource, UNWATCHED), ("watch", group, resource, UNWATCHED)];
    if mode == Mode::Enforce {
        wanted.push(("patch", group, resource, NOT_MOVED));
    }
    wanted.extend(beside(kind, mode));
    wanted.into_iter().map(|wanted| right(wanted, namespace)).collect()
}

/// What a router asks of other objects than those the weights are in.
fn beside(kind: &RouteKind, mode: Mode) -> &'static [Wanted] {
    match (kind, mode) {
        (RouteKind::RollingUpdate, Mode::Enforce) => {
            &[SETS_OF_ONE, ("patch", "apps", "replicasets", NO_BATCHES), ("create", "apps", "replicasets", LET_GO)]
        }
        (RouteKind::RollingUpdate, Mode::Observe) => &[SETS_OF_ONE],
        (RouteKind::Replicas { .. }, Mode::Enforce) => {
            &[("get", "", "services", NOT_MOVED_UP), ("list", "autoscaling", "horizontalpodautoscalers", NOT_MOVED_UP)]
        }
        _ => &[],
    }
}

/// How the replicas of a rolling update are shared.
const SETS_OF_ONE: Wanted = ("list", "apps", "replicasets", NOT_READ);

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
    // where replicas are the share, giving it back is what restores them
    let restores = !rule.traffic.is_of_replicas() && !rule.traffic.leads_rolling_update();
    let all = [
        (rule.after_rollback == AfterRollback::Undo, (patch.0, patch.1, "deployments", NOT_UNDONE)),
        (copies, (patch.0, patch.1, "deployments", NOT_COPIED)),
        (idles, (patch.0, patch.1, "deployments", NOT_SCALED)),
        (scales, (patch.0, patch.1, "deployments/scale", NOT_SCALED)),
        (restores, (patch.0, patch.1, "deployments/scale", NOT_RESTORED)),
        (true, ("get", "autoscaling", "horizontalpodautoscalers", SCALERS_FREE)),
        (true, ("patch", "autoscaling", "horizontalpodautoscalers", SCALERS_FREE)),
    ];
    all.into_iter().filter_map(|(needed, wanted)| needed.then_some(wanted)).collect()
}

/// Those of a rule's that we lack.
///
/// # Errors
/// The API server could not be asked, in words for the operator.
pub async fn missing(client: &Client, rule: &Rule, shown: bool) -> Result<Vec<Right>, String> {
    lacking(client, needed(rule, shown)).await
}

/// Everything the daemon itself needs: for its Lease (namespace, `own` if none, and name), if it has one, and for its own kinds, if it
/// is to read and show them. `own` is the namespace it runs in.
pub fn needed_by_daemon(own: &str, lease: Option<(Option<&str>, &str)>, shown: bool) -> Vec<Right> {
    let of_lease = lease.map(|(namespace, name)| of_lease(namespace.unwrap_or(own), name)).unwrap_or_default();
    let of_resources = if shown { of_resources(own) } else { Vec::new() };
    of_lease.into_iter().chain(of_resources).collect()
}

/// Those of the daemon itself that we lack, of [`needed_by_daemon`] in the namespace of the pod.
///
/// # Errors
/// The API server could not be asked, in words for the operator.
pub async fn missing_of_daemon(client: &Client, lease: Option<(Option<&str>, &str)>, shown: bool) -> Result<Vec<Right>, String> {
    let mut missing = lacking(client, needed_by_daemon(client.default_namespace(), lease, shown)).await?;
    // what is read nowhere need not be said twice
    if missing.iter().any(|right| right.without == [RULES_UNREAD]) {
        missing.retain(|right| right.without != [RULES_UNREAD_ELSEWHERE]);
    }
    Ok(missing)
}

/// Asked one by one.
async fn lacking(client: &Client, wanted: Vec<Right>) -> Result<Vec<Right>, String> {
    let mut missing = Vec::new();
    for right in wanted {
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
            "name": right.name,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_that_is_needed_for_two_things_is_said_once_with_both() {
        let wanted = |without| right(("patch", "apps", "deployments", without), "shop");
        let other = Right { namespace: Some("cart".to_owned()), ..wanted(NOT_UNDONE) };
        let all = each_once(vec![wanted(NOT_UNDONE), wanted(NOT_COPIED), other.clone(), wanted(NOT_UNDONE)]);
        assert_eq!(all, [Right { without: vec![NOT_UNDONE, NOT_COPIED], ..wanted(NOT_UNDONE) }, other]);
        let said = format!("lacks the permission to patch deployments.apps in namespace shop: {NOT_UNDONE}; {NOT_COPIED}");
        assert_eq!(all[0].to_string(), said);
    }

    #[test]
    fn one_object_and_every_namespace_are_said_as_such() {
        let said: Vec<String> = of_lease("canaryd", "mine").iter().map(ToString::to_string).collect();
        assert_eq!(said[0], format!("lacks the permission to create leases.coordination.k8s.io in namespace canaryd: {NEVER_ACTS}"));
        assert_eq!(said[1], format!("lacks the permission to get leases.coordination.k8s.io \"mine\" in namespace canaryd: {NEVER_ACTS}"));
        let all = of_resources("canaryd").into_iter().map(|right| right.to_string()).collect::<Vec<_>>();
        assert!(all[0].contains("in namespace canaryd: ") && all[2].contains("canaryrules.canaryd.io in every namespace: "), "{all:?}");
    }
}
