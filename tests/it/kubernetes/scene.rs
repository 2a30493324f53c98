//! One object per kind of router, as an operator would have it, and a hand that is not ours.

use crate::rig::kubernetes::ControlPlane;
use canaryd::model::rule::{IstioDestination, KubernetesRoute, RouteKind, Traffic};
use canaryd::model::{Side, Weight};
use canaryd::router::{self, Desired, Means, Router, RouterError};
use http_body_util::BodyExt;
use hyper::http::Request;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The other hand's name as field manager.
pub(super) const OTHER: &str = "someone-else";
/// Longest a write may take with all its tries.
const DONE_MAX: Duration = Duration::from_secs(60);

/// So many pods of a Deployment's present template are ready, and it has no others: one more in all is one of the template before.
pub(super) fn is_ready(deployment: &Value, replicas: u32) -> bool {
    let (status, replicas) = (&deployment["status"], u64::from(replicas));
    let number = |key: &str| status[key].as_u64().unwrap_or(0);
    let seen = status["observedGeneration"] == deployment["metadata"]["generation"];
    seen && ["readyReplicas", "updatedReplicas", "replicas"].iter().all(|key| number(key) == replicas)
}

/// A kind of router, its object, and how to look into it.
#[derive(Clone)]
pub(super) struct Case {
    pub(super) kind: RouteKind,
    /// Custom resource definitions it needs, and where they are served.
    pub(super) set: Option<(&'static str, &'static str)>,
    pub(super) object: Value,
    /// Plural in the path.
    pub(super) plural: &'static str,
    /// Both numbers in an object.
    pub(super) numbers: fn(&Value) -> [u64; 2],
    /// What they must add up to.
    pub(super) total: u64,
    /// Operations of the other hand that do not concern the weights, each time others; the number is how often it did.
    pub(super) foreign: fn(u64) -> Value,
    /// Operations by which it takes the weights: 30 for the second.
    pub(super) takes: Value,
    /// It can only do 0 % and 100 %.
    pub(super) whole: bool,
}

pub(super) fn weight(percent: u16) -> Weight {
    Weight::from_permille(percent * 10).unwrap()
}

fn number(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_else(|| panic!("{value} is no number"))
}

fn both(a: &str, b: &str) -> [String; 2] {
    [a.to_owned(), b.to_owned()]
}

/// Puts a value somewhere, whether something is there or not.
fn put(path: &str, value: impl Into<Value>) -> Value {
    json!({"op": "add", "path": path, "value": value.into()})
}

/// A mark on the object: a label of its own each time, which must still be there in the end.
fn mark(count: u64) -> Value {
    put(&format!("/metadata/labels/edit-{count}"), count.to_string())
}

pub(super) fn istio() -> Case {
    let to = |subset: &str, weight: u64| json!({"destination": {"host": "shop", "subset": subset}, "weight": weight});
    let testers = json!({"name": "testers", "match": [{"headers": {"x-test": {"exact": "1"}}}], "route": [to("v1", 0), to("v2", 100)]});
    let mirror = json!({"host": "shop", "subset": "v2"});
    let primary = json!({"name": "primary", "timeout": "1s", "mirror": mirror, "route": [to("v1", 100), to("v2", 0)]});
    let subset = |name: &str| IstioDestination { host: None, subset: Some(name.to_owned()) };
    Case {
        kind: RouteKind::VirtualService { route: None, destinations: [subset("v1"), subset("v2")] },
        set: Some(("istio", "/apis/networking.istio.io/v1/virtualservices")),
        object: json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "spec": {"hosts": ["shop"], "http": [testers, primary]}}),
        plural: "virtualservices",
        numbers: |o| [0, 1].map(|i| number(&o["spec"]["http"][1]["route"][i]["weight"])),
        total: 100,
        foreign: |n| {
            let header = put("/spec/http/1/route/0/headers", json!({"request": {"set": {"x-edit": n.to_string()}}}));
            json!([mark(n), put("/spec/http/1/timeout", format!("{}s", n + 2)), header])
        },
        takes: json!([put("/spec/http/1/route/0/weight", 70), put("/spec/http/1/route/1/weight", 30)]),
        whole: false,
    }
}

pub(super) fn gateway_api(grpc: bool) -> Case {
    let backend = |name: &str, weight: u64| json!({"name": name, "port": 80, "weight": weight});
    let header = json!({"headers": [{"name": "x", "value": "y"}]});
    let rules = json!([
        {"matches": [header], "backendRefs": [backend("shop-v1", 0), backend("shop-v2", 1)]},
        {"name": "primary", "backendRefs": [backend("shop-v1", 100), backend("shop-v2", 0)]},
    ]);
    let (kind, plural) = if grpc { ("GRPCRoute", "grpcroutes") } else { ("HTTPRoute", "httproutes") };
    Case {
        kind: RouteKind::GatewayRoute { grpc, rule: None, backends: both("shop-v1", "shop-v2") },
        set: Some(("gateway-api", "/apis/gateway.networking.k8s.io/v1/grpcroutes")),
        object: json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": kind,
            "spec": {"parentRefs": [{"name": "gw"}], "hostnames": ["shop.example"], "rules": rules}}),
        plural,
        numbers: |o| [0, 1].map(|i| number(&o["spec"]["rules"][1]["backendRefs"][i]["weight"])),
        total: 100,
        foreign: |n| {
            let filter =
                json!([{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-edit", "value": n.to_string()}]}}]);
            json!([mark(n), put("/spec/rules/1/filters", filter)])
        },
        takes: json!([put("/spec/rules/1/backendRefs/0/weight", 70), put("/spec/rules/1/backendRefs/1/weight", 30)]),
        whole: false,
    }
}

pub(super) fn traefik() -> Case {
    let service = |name: &str, weight: u64| json!({"name": name, "port": 80, "weight": weight});
    Case {
        kind: RouteKind::TraefikService { services: both("shop-v1", "shop-v2") },
        set: Some(("traefik", "/apis/traefik.io/v1alpha1/traefikservices")),
        object: json!({"apiVersion": "traefik.io/v1alpha1", "kind": "TraefikService",
            "spec": {"weighted": {"services": [service("shop-v1", 100), service("shop-v2", 0)]}}}),
        plural: "traefikservices",
        numbers: |o| [0, 1].map(|i| number(&o["spec"]["weighted"]["services"][i]["weight"])),
        total: 100,
        foreign: |n| json!([mark(n), put("/spec/weighted/sticky", json!({"cookie": {"name": format!("c{n}")}}))]),
        takes: json!([put("/spec/weighted/services/0/weight", 70), put("/spec/weighted/services/1/weight", 30)]),
        whole: false,
    }
}

fn ingress(annotations: Value) -> Value {
    let path = json!({"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "shop-v2", "port": {"number": 80}}}});
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"annotations": annotations},
        "spec": {"ingressClassName": "nginx", "rules": [{"host": "shop.example", "http": {"paths": [path]}}]}})
}

const NGINX: &str = "nginx.ingress.kubernetes.io/canary";
const ALB: &str = "alb.ingress.kubernetes.io/actions.shop";

pub(super) fn nginx_ingress() -> Case {
    Case {
        kind: RouteKind::NginxIngress { services: Some(both("shop-v1", "shop-v2")), weight_total: None },
        set: None,
        object: ingress(json!({NGINX: "true", format!("{NGINX}-weight"): "0", format!("{NGINX}-weight-total"): "1000",
            format!("{NGINX}-by-header"): "x-test"})),
        plural: "ingresses",
        numbers: |o| {
            let weight = number(&o["metadata"]["annotations"][format!("{NGINX}-weight")]);
            [number(&o["metadata"]["annotations"][format!("{NGINX}-weight-total")]) - weight, weight]
        },
        total: 1000,
        foreign: |n| json!([mark(n), put("/metadata/annotations/nginx.ingress.kubernetes.io~1canary-by-header", format!("x-{n}"))]),
        takes: json!([put("/metadata/annotations/nginx.ingress.kubernetes.io~1canary-weight", "300")]),
        whole: false,
    }
}

pub(super) fn aws_alb() -> Case {
    let action = |a: u64, b: u64, seconds: u64| {
        let groups =
            json!([{"serviceName": "shop-v1", "servicePort": 80, "weight": a}, {"serviceName": "shop-v2", "servicePort": 80, "weight": b}]);
        let stickiness = json!({"enabled": true, "durationSeconds": seconds});
        json!({"type": "forward", "forwardConfig": {"targetGroups": groups, "targetGroupStickinessConfig": stickiness}}).to_string()
    };
    Case {
        kind: RouteKind::AlbIngress { action: None, services: both("shop-v1", "shop-v2") },
        set: None,
        object: ingress(json!({ALB: action(100, 0, 200)})),
        plural: "ingresses",
        numbers: |o| {
            let action: Value = serde_json::from_str(o["metadata"]["annotations"][ALB].as_str().unwrap()).unwrap();
            assert_eq!(action["forwardConfig"]["targetGroupStickinessConfig"], json!({"enabled": true, "durationSeconds": 200}));
            [0, 1].map(|i| number(&action["forwardConfig"]["targetGroups"][i]["weight"]))
        },
        total: 100,
        foreign: |n| json!([mark(n), put("/metadata/annotations/alb.ingress.kubernetes.io~1group.order", n.to_string())]),
        takes: json!([put("/metadata/annotations/alb.ingress.kubernetes.io~1actions.shop", action(70, 30, 200))]),
        whole: false,
    }
}

pub(super) fn service() -> Case {
    Case {
        kind: RouteKind::Service { label: "version".to_owned(), values: both("blue", "green") },
        set: None,
        object: json!({"apiVersion": "v1", "kind": "Service",
            "spec": {"selector": {"app": "shop", "version": "blue"}, "ports": [{"port": 80}]}}),
        plural: "services",
        numbers: |o| if o["spec"]["selector"] == json!({"app": "shop", "version": "green"}) { [0, 100] } else { [100, 0] },
        total: 100,
        foreign: |n| json!([mark(n), put("/spec/sessionAffinity", if n % 2 == 0 { "None" } else { "ClientIP" })]),
        takes: json!([put("/spec/selector/version", "green")]),
        whole: true,
    }
}

pub(super) fn all() -> Vec<Case> {
    vec![istio(), gateway_api(false), gateway_api(true), traefik(), nginx_ingress(), aws_alb(), service()]
}

/// A case with its object in a namespace of its own.
pub(super) struct Scene {
    pub(super) case: Case,
    pub(super) namespace: String,
    pub(super) admin: Client,
    pub(super) path: String,
}

impl Scene {
    /// Makes the namespace and the object.
    pub(super) async fn set(plane: &'static ControlPlane, case: Case, namespace: &str) -> Self {
        let namespace = namespace.to_owned();
        let object = named(&case, &namespace, "shop");
        let (set, made) = (case.set, namespace.clone());
        blocking(move || {
            if let Some((set, served)) = set {
                plane.custom_resources(set, served);
            }
            plane.namespace(&made);
            plane.apply(&object);
        })
        .await;
        let api = case.object["apiVersion"].as_str().unwrap();
        let root = if api.contains('/') { "apis" } else { "api" };
        let path = format!("/{root}/{api}/namespaces/{namespace}/{}/shop", case.plural);
        let scene = Self { case, namespace, admin: plane.client("admin").await, path };
        if matches!(scene.case.kind, RouteKind::GatewayRoute { .. }) {
            scene.gateway_agrees().await;
        }
        scene
    }

    /// Makes the same object once more under another name; its path.
    pub(super) async fn twin(&self, plane: &'static ControlPlane) -> String {
        let twin = named(&self.case, &self.namespace, "twin");
        blocking(move || plane.apply(&twin)).await;
        self.path.strip_suffix("shop").unwrap().to_owned() + "twin"
    }

    /// The router as the daemon makes it, asking by this client.
    pub(super) fn router(&self, client: &Client) -> Arc<dyn Router> {
        let route = KubernetesRoute { namespace: self.namespace.clone(), name: "shop".to_owned(), kind: self.case.kind.clone() };
        let means = Means { cluster: Some(client.clone()), ..Means::default() };
        router::open(&Traffic::Kubernetes(route), &means).expect("there is a cluster")
    }

    /// The object as it is.
    pub(super) async fn object(&self) -> Value {
        ask(&self.admin, "GET", &self.path, None).await.1
    }

    /// Both numbers.
    pub(super) fn numbers(&self, object: &Value) -> [u64; 2] {
        (self.case.numbers)(object)
    }

    /// The other hand writes; what the object is then.
    pub(super) async fn edit(&self, operations: &Value) -> Value {
        edit(&self.admin, &self.path, operations).await
    }

    /// A gateway (this test: the control plane has none) says that it took the route as it is now.
    pub(super) async fn gateway_agrees(&self) {
        agree(&self.admin, &self.path).await;
    }
}

fn named(case: &Case, namespace: &str, name: &str) -> Value {
    let mut object = case.object.clone();
    object["metadata"]["name"] = name.into();
    object["metadata"]["namespace"] = namespace.into();
    object["metadata"]["labels"] = json!({"app": "shop"});
    object
}

/// The other hand's JSON Patch.
///
/// # Panics
/// If it is refused.
pub(super) async fn edit(client: &Client, path: &str, operations: &Value) -> Value {
    let (status, object) = ask(client, "PATCH", &format!("{path}?fieldManager={OTHER}"), Some(operations)).await;
    assert_eq!(status, 200, "{operations}: {object}");
    object
}

pub(super) async fn agree(client: &Client, path: &str) {
    let (_, object) = ask(client, "GET", path, None).await;
    let generation = object["metadata"]["generation"].clone();
    let condition = |kind: &str| {
        json!({"type": kind, "status": "True", "reason": kind, "message": "", "observedGeneration": generation,
            "lastTransitionTime": "2026-11-21T00:00:00Z"})
    };
    let parent = json!({"parentRef": {"name": "gw"}, "controllerName": "example.com/gateway",
        "conditions": [condition("Accepted"), condition("ResolvedRefs")]});
    let status = put("/status", json!({"parents": [parent]}));
    let (answered, said) = ask(client, "PATCH", &format!("{path}/status?fieldManager=gateway"), Some(&json!([status]))).await;
    assert_eq!(answered, 200, "{said}");
}

/// One call by its path.
pub(super) async fn ask(client: &Client, method: &str, path: &str, patch: Option<&Value>) -> (u16, Value) {
    let body = patch.map_or_else(Vec::new, |p| p.to_string().into_bytes());
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json-patch+json");
    let answer = client.send(request.body(Body::from(body)).unwrap()).await.expect("the API server answers");
    let status = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.expect("a whole answer").to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("it does not panic")
}

/// What the machine wants of the router.
pub(super) fn desired(percent: u16, generation: u64) -> Desired {
    Desired { canary: Side::Second, weight: weight(percent), generation }
}

/// Writes until it is done, as the machine does: what is refused because another hand was faster, or gets no answer, is asked for again.
///
/// # Panics
/// If it is refused for another reason, or not done in time.
pub(super) async fn until_done(router: &dyn Router, desired: Desired) {
    let until = Instant::now() + DONE_MAX;
    loop {
        match router.write(desired).await {
            Ok(()) => return,
            Err(RouterError::Refused { .. } | RouterError::NotVerified { .. } | RouterError::Unreachable { .. })
                if Instant::now() < until => {}
            Err(e) => panic!("{desired:?}: {e}"),
        }
    }
}
