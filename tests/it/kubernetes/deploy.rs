//! What is shipped under `deploy/` for a cluster, given to a real one.

use super::scene::blocking;
use super::shipped;
use crate::rig;
use crate::rig::kubernetes::{self, ControlPlane};
use crate::rig::ports;
use crate::rig::process::Process;
use canaryd::config::{Flags, Reach, Settings};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

/// Longest a Deployment may take to come up, in words of kubectl and helm.
const UP: &str = "--timeout=90s";

/// The manifests as they would be applied.
fn manifests(plane: &ControlPlane) -> String {
    let [kinds, rest] = ["kubernetes/crds", "kubernetes"].map(|folder| plane.kubectl(&["kustomize", &shipped(folder)]));
    format!("{kinds}\n---\n{rest}")
}

/// The manifests with a second process that stands by.
fn standby_manifests(plane: &ControlPlane) -> String {
    let [kinds, rest] = ["kubernetes/crds", "kubernetes/standby"].map(|folder| plane.kubectl(&["kustomize", &shipped(folder)]));
    format!("{kinds}\n---\n{rest}")
}

fn chart(plane: &ControlPlane, arguments: &[&str]) -> Result<String, String> {
    template(plane, "canaryd", &[&["--include-crds"], arguments].concat())
}

/// The chart as it would be installed in a namespace.
fn template(plane: &ControlPlane, namespace: &str, arguments: &[&str]) -> Result<String, String> {
    let chart = shipped("helm/canaryd");
    plane.run("helm", &[&["template", "canaryd", chart.as_str(), "--namespace", namespace], arguments].concat(), None)
}

/// Objects of a stream of YAML documents, as the API server would read them.
fn objects(plane: &ControlPlane, yaml: &str) -> Vec<Value> {
    let arguments = ["create", "--dry-run=client", "--validate=false", "-o", "json", "-f", "-"];
    let json = plane.try_kubectl(&arguments, Some(yaml)).unwrap_or_else(|e| panic!("{e}"));
    let read = serde_json::Deserializer::from_str(&json).into_iter::<Value>().map(|o| o.expect("JSON"));
    read.flat_map(|o| o["items"].as_array().cloned().unwrap_or_else(|| vec![o])).collect()
}

/// What the claim of the journal and the token's volume ask of the cluster.
fn beside(namespace: &str, claim: &str) -> Value {
    let disk = json!({"path": "/nowhere"});
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": format!("disk-of-{namespace}")},
            "spec": {"capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": disk,
                "claimRef": {"namespace": namespace, "name": claim}}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "canaryd-tokens", "namespace": namespace},
            "stringData": {"tokens": "me:operator:0123456789abcdef0123456789abcdef"}},
    ]})
}

fn restricted(namespace: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": namespace, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manifests_are_valid_and_come_up_under_restricted_pod_security() {
    let Some(plane) = kubernetes::shared().await else { return };
    blocking(|| {
        plane.kubectl(&["apply", "-f", &shipped("kubernetes/base/namespace.yaml")]);
        plane.apply(&beside("canaryd", "canaryd"));
        plane.namespace("whose-routes");
        let strict = ["apply", "--dry-run=server", "--validate=strict"];
        let of = |folder: &str, more: &[&str]| plane.kubectl(&[&strict[..], &["-k", &shipped(folder)], more].concat());
        assert_eq!(of("kubernetes/crds", &["--server-side", "--force-conflicts"]).lines().count(), 2);
        assert_eq!(of("kubernetes", &[]).lines().count(), 13);
        // the same, with two roles for the lease
        assert_eq!(of("kubernetes/standby", &[]).lines().count(), 15);
        for part in PARTS {
            let bound = of(&format!("kubernetes/namespace/{part}"), &["-n", "whose-routes"]);
            assert_eq!(bound.trim(), format!("rolebinding.rbac.authorization.k8s.io/canaryd-{part} created (server dry run)"));
        }
        assert_eq!(of("kubernetes/namespace", &["-n", "whose-routes"]).lines().count(), PARTS.len());
        plane.kubectl(&["apply", "-k", &shipped("kubernetes")]);
        plane.kubectl(&["rollout", "status", "deployment/canaryd", "-n", "canaryd", UP]);
    })
    .await;
}

/// What may be done by whom has a name each, and each name can be left out.
const PARTS: [&str; 3] = ["read", "route-write", "workload-write"];

/// Verb, resource, and the part that gives it in a namespace.
const RIGHTS: [(&str, &str, &str); 14] = [
    ("watch", "deployments.apps", "read"),
    ("list", "replicasets.apps", "read"),
    ("watch", "pods", "read"),
    ("watch", "events", "read"),
    ("list", "horizontalpodautoscalers.autoscaling", "read"),
    ("get", "services", "read"),
    ("patch", "services", "route-write"),
    ("patch", "ingresses.networking.k8s.io", "route-write"),
    ("watch", "ingresses.networking.k8s.io", "route-write"),
    ("patch", "deployments.apps", "workload-write"),
    ("patch", "deployments.apps/scale", "workload-write"),
    ("create", "replicasets.apps", "workload-write"),
    ("patch", "replicasets.apps", "workload-write"),
    ("patch", "horizontalpodautoscalers.autoscaling", "workload-write"),
];

/// What no part gives: it is not asked for anywhere.
const NOBODYS: [(&str, &str); 9] = [
    ("get", "secrets"),
    ("create", "pods"),
    ("delete", "deployments.apps"),
    ("create", "deployments.apps"),
    ("get", "deployments.apps/scale"),
    ("get", "pods"),
    ("watch", "canaryrollouts.canaryd.io"),
    ("update", "canaryrollouts.canaryd.io/status"),
    ("patch", "canaryrollouts.canaryd.io"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_part_of_the_rights_gives_what_it_says_and_nothing_else() {
    let Some(plane) = kubernetes::shared().await else { return };
    blocking(|| {
        // a kind that is not there is asked for by no name
        for folder in ["kubernetes/crds", "kubernetes"] {
            plane.kubectl(&["apply", "--server-side", "--force-conflicts", "-k", &shipped(folder)]);
        }
        let may = |verb: &str, what: &str, namespace: &str| {
            let account = ["--as=system:serviceaccount:canaryd:canaryd", "-n", namespace];
            let (what, part) = what.split_once('/').unwrap_or((what, ""));
            plane.try_kubectl(&[&["auth", "can-i", verb, what, "--subresource", part], &account[..]].concat(), None).is_ok()
        };
        for part in PARTS {
            let namespace = plane.namespace(&format!("parts-{part}"));
            plane.kubectl(&["apply", "-n", &namespace, "-k", &shipped(&format!("kubernetes/namespace/{part}"))]);
            for (verb, what, given_by) in RIGHTS {
                let reads_routes = part == "read" && what.starts_with("ingresses") && verb == "watch";
                let routes_are_read = part == "route-write" && what == "services" && verb == "get";
                let given = given_by == part || reads_routes || routes_are_read;
                assert_eq!(may(verb, what, &namespace), given, "{verb} {what} by {part}");
                assert!(!may(verb, what, "default"), "{verb} {what} where nothing is bound");
            }
            for (verb, what) in NOBODYS {
                assert!(!may(verb, what, &namespace), "{verb} {what} by {part}");
            }
            // canaryd's own kinds, in every namespace
            for (verb, what) in
                [("watch", "canaryrules.canaryd.io"), ("create", "events.events.k8s.io"), ("patch", "canaryrollouts.canaryd.io/status")]
            {
                assert!(may(verb, what, &namespace), "{verb} {what}");
            }
            assert!(!may("patch", "canaryrules.canaryd.io", &namespace));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sidecar_example_is_valid_and_its_parts_fit_together() {
    let Some(plane) = kubernetes::shared().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let sidecar = shipped("kubernetes/sidecar");
    blocking(move || {
        plane.apply(&restricted("sidecar"));
        let strict = ["apply", "--dry-run=server", "--validate=strict", "--warnings-as-errors", "-n", "sidecar", "-k", &sidecar];
        assert_eq!(plane.kubectl(&strict).lines().count(), 3);
    })
    .await;
    // where the files lie in the pod, and here
    let places = ["/routes/routes.yaml", "/etc/canaryd/shop.yaml", "/etc/canaryd-tokens/tokens"];
    for file in ["envoy.yaml", "routes.yaml", "canaryd.yaml", "shop.yaml"] {
        let text = std::fs::read_to_string(shipped(&format!("kubernetes/sidecar/{file}"))).expect("it is shipped");
        let here = places.iter().fold(text, |text, there| text.replace(there, &path(there.rsplit('/').next().unwrap())));
        std::fs::write(path(file), here.replace("path: /routes }", &format!("path: {} }}", path("")))).unwrap();
    }
    std::fs::write(path("tokens"), "me:operator:0123456789abcdef0123456789abcdef\n").unwrap();
    let checked =
        Command::new(env!("CARGO_BIN_EXE_canaryd")).args(["check", &path("shop.yaml"), "--config", &path("canaryd.yaml")]).output();
    let checked = checked.expect("it runs");
    assert!(checked.status.success(), "{checked:?}");
    starts_without_a_service_account(&folder.path().join("journal"), &path("canaryd.yaml"));
    let Some(envoy) = rig::require("envoy") else { return };
    let validated = Command::new(envoy).args(["--mode", "validate", "-c", &path("envoy.yaml")]).output().expect("it runs");
    assert!(validated.status.success(), "{validated:?}");
}

/// In a pod every container is told where the API server is, and this one is given no token.
fn starts_without_a_service_account(data: &Path, settings: &str) {
    let port = ports::free();
    let text = std::fs::read_to_string(settings).unwrap();
    let here = text.replace("0.0.0.0:7878", &format!("127.0.0.1:{port}")).replace("/var/lib/canaryd", &data.display().to_string());
    assert_ne!(text, here);
    std::fs::write(settings, here).unwrap();
    let environment = [("KUBERNETES_SERVICE_HOST", "127.0.0.1"), ("KUBERNETES_SERVICE_PORT", "1")];
    let arguments: [OsString; 3] = ["run".into(), "--config".into(), settings.into()];
    let program = Path::new(env!("CARGO_BIN_EXE_canaryd"));
    let mut daemon = Process::spawn_with("canaryd", program, &arguments, &environment, &data.with_extension("log"));
    daemon.wait_ready(port, "/readyz");
    assert!(daemon.stop().success(), "{}", daemon.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chart_installs_upgrades_and_goes() {
    let Some(plane) = kubernetes::shared().await else { return };
    blocking(|| {
        plane.apply(&restricted("by-helm"));
        plane.apply(&beside("by-helm", "canaryd"));
        // called as what the manifests make, which is in the cluster too
        plane.kubectl(&["apply", "-k", &shipped("kubernetes/rbac")]);
        let chart = shipped("helm/canaryd");
        let helm = |arguments: &[&str]| plane.run("helm", arguments, None).unwrap_or_else(|e| panic!("helm {arguments:?}: {e}"));
        helm(&["lint", "--strict", &chart]);
        let place = ["canaryd", chart.as_str(), "--namespace", "by-helm", "--wait", UP];
        helm(&[&["install"], &place[..]].concat());
        let revision = |n: &str| plane.kubectl(&["get", "deployment", "canaryd", "-n", "by-helm", "-o", n]);
        let before = revision("jsonpath={.metadata.generation}");
        helm(&[&["upgrade"], &place[..], &["--set", "settings.log.level=debug", "--set", "rbac.namespaces={by-helm}"]].concat());
        assert_ne!(revision("jsonpath={.metadata.generation}"), before, "a change of settings is a new pod");
        for part in PARTS.map(|part| format!("by-helm-canaryd-{part}")) {
            let role = plane.kubectl(&["get", "rolebinding", &part, "-n", "by-helm", "-o", "jsonpath={.roleRef.name}"]);
            assert_eq!(role, part);
        }
        helm(&["uninstall", "canaryd", "--namespace", "by-helm", "--wait", UP]);
        // the journal stays, and so do the kinds and with them the rules
        plane.kubectl(&["get", "persistentvolumeclaim", "canaryd", "-n", "by-helm"]);
        plane.kubectl(&["get", "customresourcedefinition", "canaryrules.canaryd.io"]);
        helm(&[&["install"], &place[..]].concat());
        helm(&["uninstall", "canaryd", "--namespace", "by-helm", "--wait", UP]);
        for (wrong, said) in [
            (["--set", "settings.listen=0.0.0.0:1"], "settings"),
            (["--set", "replicas=2"], "replicas"),
            (["--set", "rbac.routeWrite.create=true"], "routeWrite"),
            (["--set", "rules.shop=x"], "'shop' does not match"),
            (["--set", "settings.cluster.resources=everywhere"], "resources"),
        ] {
            let error = self::chart(plane, &wrong).unwrap_err();
            assert!(error.contains(said), "{wrong:?}: {error}");
        }
    })
    .await;
}

/// Words Helm puts on everything, and what follows from its own ways of telling a change of settings and what an uninstall leaves.
const HELMS: [&str; 6] = [
    "app.kubernetes.io/instance",
    "app.kubernetes.io/version",
    "app.kubernetes.io/managed-by",
    "helm.sh/chart",
    "helm.sh/resource-policy",
    "checksum/settings",
];

/// Without what only one of the two writes, and without what is empty then.
fn plain(mut value: Value) -> Value {
    match &mut value {
        Value::Object(members) => {
            let kept = std::mem::take(members).into_iter().filter(|(key, _)| !HELMS.contains(&key.as_str()));
            *members = kept.map(|(key, value)| (key, plain(value))).filter(|(_, v)| !v.is_null() && *v != json!({})).collect();
        }
        Value::Array(items) => *items = std::mem::take(items).into_iter().map(plain).collect(),
        // the names of what is in no namespace of the release
        Value::String(text) if text.starts_with("canaryd-canaryd-") => return text.replacen("canaryd-", "", 1).into(),
        Value::String(text) if text.contains("sources:") => return serde_saphyr::from_str(text).expect("settings are YAML"),
        _ => {}
    }
    value
}

fn named(object: &Value) -> String {
    format!("{} {}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chart_and_manifests_say_the_same() {
    let Some(plane) = kubernetes::shared().await else { return };
    blocking(|| {
        let sorted = |yaml: &str| {
            let mut all: Vec<Value> = objects(plane, yaml).into_iter().map(plain).collect();
            all.retain(|o| o["kind"] != "Namespace");
            for object in &mut all {
                // who pulls what is the chart's own word
                let container = object.pointer_mut("/spec/template/spec/containers/0").and_then(Value::as_object_mut);
                container.map(|c| c.remove("imagePullPolicy"));
            }
            all.sort_by_key(named);
            all
        };
        let names = |all: &[Value]| all.iter().map(named).collect::<Vec<_>>();
        let same = |manifests: &[Value], chart: &[Value]| {
            assert_eq!(names(manifests), names(chart));
            for (manifest, template) in manifests.iter().zip(chart) {
                assert_eq!(manifest, template, "{}", named(manifest));
            }
        };
        same(&sorted(&manifests(plane)), &sorted(&chart(plane, &[]).unwrap()));
        let mut standby = sorted(&chart(plane, &["--set", "standby=true"]).unwrap());
        // the chart names the Lease after the release; the manifests leave it at what it is called by default
        let settings = standby.iter_mut().find(|o| named(o) == "ConfigMap canaryd").expect("it is there");
        let cluster = settings.pointer_mut("/data/canaryd.yaml/cluster").and_then(Value::as_object_mut).expect("a mapping");
        assert_eq!(cluster.remove("leader_election"), Some(json!({"enabled": true, "lease": "canaryd"})));
        same(&sorted(&standby_manifests(plane)), &standby);
    })
    .await;
}

/// Values, objects that are there then, and beginnings of the names of those that are not.
type Shape<'a> = (&'a str, &'a [&'a str], &'a [&'a str]);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_shape_of_the_chart_is_taken_by_the_api_server() {
    let Some(plane) = kubernetes::shared().await else { return };
    blocking(|| {
        let namespace = plane.namespace("by-template");
        let bound = format!("rbac.namespaces={{{namespace}}}");
        let without = "rbac.read=false,rbac.routeWrite=false,rbac.workloadWrite=false,rbac.resources=false";
        let shapes: [Shape<'_>; 5] = [
            (&bound, &["RoleBinding canaryd-read", "NetworkPolicy canaryd", "Deployment canaryd"], &["Role canaryd-leases"]),
            ("standby=true", &["Role canaryd-leases", "RoleBinding canaryd-leases"], &[]),
            (without, &["ServiceAccount canaryd", "Deployment canaryd"], &["ClusterRole ", "ClusterRoleBinding ", "RoleBinding "]),
            (
                "networkPolicy.enabled=false,podDisruptionBudget.enabled=false",
                &["Service canaryd"],
                &["NetworkPolicy ", "PodDisruptionBudget "],
            ),
            ("rules.shop\\.yaml=x,persistence.storageClassName=fast", &["ConfigMap canaryd-rules"], &[]),
        ];
        for (values, there, absent) in shapes {
            let yaml = template(plane, &namespace, &["--set", values]).unwrap_or_else(|e| panic!("{values}: {e}"));
            let arguments = ["apply", "--dry-run=server", "--validate=strict", "-f", "-"];
            plane.try_kubectl(&arguments, Some(&yaml)).unwrap_or_else(|e| panic!("{values}: {e}"));
            let names: Vec<String> = objects(plane, &yaml).iter().map(|o| named(o).replace("by-template-canaryd-", "canaryd-")).collect();
            for name in there {
                assert!(names.iter().any(|n| n == name), "{values}: no {name} in {names:?}");
            }
            for name in absent {
                assert!(!names.iter().any(|n| n.starts_with(name)), "{values}: {name} in {names:?}");
            }
        }
    })
    .await;
}

/// The operator's own definition is not at hand: held against the fields it has (`monitoring.coreos.com/v1`, 0.84).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_monitor_finds_the_service() {
    let Some(plane) = kubernetes::shared().await else { return };
    blocking(|| {
        let only = |file: &str, values: &str| -> Value {
            let arguments = ["--set", values, "--show-only", file];
            let text = template(plane, "monitored", &arguments).unwrap_or_else(|e| panic!("{e}"));
            serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{file}: {e}"))
        };
        let values = "serviceMonitor.enabled=true,serviceMonitor.interval=30s,serviceMonitor.labels.release=ours";
        let [monitor, service, deployment] =
            ["monitor", "service", "deployment"].map(|file| only(&format!("templates/{file}.yaml"), values));
        assert_eq!((&monitor["apiVersion"], &monitor["kind"]), (&json!("monitoring.coreos.com/v1"), &json!("ServiceMonitor")));
        assert_eq!(monitor["metadata"]["namespace"], service["metadata"]["namespace"], "without a namespaceSelector it looks into its own");
        assert_eq!(monitor["metadata"]["labels"]["release"], "ours", "by it a Prometheus chooses its monitors");
        let endpoints = json!([{"port": "http", "path": "/metrics", "interval": "30s"}]);
        let selected = &monitor["spec"]["selector"]["matchLabels"];
        assert_eq!(monitor["spec"], json!({"selector": {"matchLabels": selected}, "endpoints": endpoints}));
        for (key, value) in selected.as_object().unwrap() {
            assert_eq!(&service["metadata"]["labels"][key], value, "{key}");
        }
        let port = service["spec"]["ports"].as_array().unwrap().iter().find(|port| port["name"] == "http").expect("the port it names");
        let container = &deployment["spec"]["template"]["spec"]["containers"][0]["ports"];
        assert!(container.as_array().unwrap().iter().any(|c| c["name"] == port["targetPort"]), "{container}");
        let error = template(plane, "monitored", &["--set", "serviceMonitor.interval=often"]).unwrap_err();
        assert!(error.contains("interval"), "{error}");
        let none = template(plane, "monitored", &[]).unwrap();
        assert!(!none.contains("ServiceMonitor"), "its kind need not be there");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_settings_in_the_chart_are_read_by_the_daemon() {
    let Some(plane) = kubernetes::shared().await else { return };
    let shapes: [(&[&str], _, _, _); 4] = [
        (&[], None, Some(Reach::Confined), false),
        (&["--set", "standby=true,settings.strict_rules=true"], Some("canaryd"), Some(Reach::Confined), true),
        (&["--set", "standby=true,settings.cluster.resources=anywhere"], Some("canaryd"), Some(Reach::Anywhere), false),
        (&["--set", "standby=true,settings.cluster.resources=false"], Some("canaryd"), None, false),
    ];
    for (arguments, lease, objects_may, strict) in shapes {
        let text = blocking(move || {
            let all = objects(plane, &chart(plane, arguments).unwrap());
            let settings = all.iter().find(|o| named(o) == "ConfigMap canaryd").expect("it is there");
            settings["data"]["canaryd.yaml"].as_str().expect("a text").to_owned()
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        let tokens = folder.path().join("tokens");
        std::fs::write(&tokens, "me:operator:0123456789abcdef0123456789abcdef\n").unwrap();
        let file = folder.path().join("canaryd.yaml");
        std::fs::write(&file, text.replace("/etc/canaryd/tokens/tokens", &tokens.display().to_string())).unwrap();
        let settings = Settings::load(Some(&file), std::iter::empty(), Flags::new()).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(settings.listen.port(), 7878);
        assert_eq!(settings.sources.len(), 1);
        assert_eq!((settings.cluster.resources, settings.strict_rules), (objects_may, strict), "{arguments:?}");
        assert_eq!(settings.cluster.leader_election.map(|e| e.lease).as_deref(), lease);
    }
}
