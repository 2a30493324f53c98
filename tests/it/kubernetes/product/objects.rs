//! What the operators of the service have in the cluster, and their rule.

use super::stage::{Form, SHOP, Scene, VERSIONS};
use crate::rig::istio::{Gateway, cluster_of};
use serde_json::{Value, json};

/// Everything but the Deployments.
pub(super) fn all(namespace: &str, gateway: &Gateway, scene: &Scene) -> Value {
    let named = |name: &str| json!({"name": name, "namespace": namespace});
    let host = format!("{SHOP}.{namespace}.svc.cluster.local");
    let to = |subset: &str, weight: u64| json!({"destination": {"host": host, "subset": subset}, "weight": weight});
    let subset = |name: &str| json!({"name": name, "labels": {"version": name}});
    let [first, second] = VERSIONS;
    let (selector, route) = match scene.form {
        Form::BlueGreen => (json!({"app": SHOP, "version": first}), json!([{"destination": {"host": host}}])),
        _ => (json!({"app": SHOP}), json!([to(first, 100), to(second, 0)])),
    };
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": named(SHOP),
        "spec": {"selector": selector, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}});
    let istio =
        |kind: &str, spec: Value| json!({"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": named(SHOP), "spec": spec});
    let http = json!([{"name": "primary", "route": route}]);
    let mut items = vec![
        service,
        gateway.object(),
        istio("DestinationRule", json!({"host": host, "subsets": VERSIONS.map(subset)})),
        istio("VirtualService", json!({"hosts": ["*"], "gateways": ["gateway"], "http": http})),
    ];
    if scene.scalers {
        items.extend(VERSIONS.map(|version| scaler(namespace, &format!("{SHOP}-{version}"))));
    }
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

/// It knows no load, as nobody measures any here: what it does is keep the minimum.
fn scaler(namespace: &str, deployment: &str) -> Value {
    let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}});
    json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": deployment, "namespace": namespace},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment},
            "minReplicas": 1, "maxReplicas": 10, "metrics": [cpu]}})
}

/// A Deployment whose pods have this label.
pub(super) fn deployment(namespace: &str, version: &str, annotations: &Value, container: &Value, replicas: u32) -> Value {
    let labels = json!({"app": SHOP, "version": version});
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
    "metadata": {"name": format!("{SHOP}-{version}"), "namespace": namespace},
    "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": {
        "metadata": {"labels": labels, "annotations": annotations},
        "spec": {"containers": [container]},
    }}})
}

/// The rule's text: the scene's, below what names the workloads.
pub(super) fn rule(namespace: &str, scene: &Scene) -> String {
    let workload = |version: &str| {
        let cluster = cluster_of(SHOP, namespace, 80, version);
        format!("{{ deployment: {SHOP}-{version}, version: {version}, subset: {version}, cluster: '{cluster}' }}")
    };
    let [first, second] = VERSIONS.map(workload);
    let workloads = match scene.form {
        Form::StableCanary => format!("stable: {first}, canary: {second}"),
        Form::Pair | Form::BlueGreen => format!("pair: [ {first}, {second} ]"),
    };
    let (telemetry, traffic) = match scene.form {
        Form::BlueGreen => ("{ pack: http, arm: { deployment: '{deployment}' } }", "service: { name: shop, selector: version }"),
        _ => (
            "{ pack: envoy, params: { cluster-label: cluster_name, code-label: response_code } }",
            "istio: { virtual-service: shop, route: primary }",
        ),
    };
    format!(
        "rule: {SHOP}
workloads: {{ namespace: {namespace}, {workloads} }}
telemetry: [ {telemetry} ]
interval: 1s
traffic: {{ {traffic} }}
drain: 1s
{}",
        scene.rule
    )
}
