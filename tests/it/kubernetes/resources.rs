//! canaryd's own resources on a real API server: what is shipped is what the code says, it is taken, and a rule as an object is a
//! rule as a file.

mod confined;

use super::lease::{One, Shared};
use super::scene::{self, Scene, ask, blocking};
use crate::rig::kubernetes::{self, ControlPlane};
use crate::rig::{self, READY_MAX};
use canaryd::app;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::time::Duration;

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Where the definitions lie beside the code.
const SHIPPED: [&str; 2] = ["deploy/kubernetes/crds/crds.yaml", "deploy/helm/canaryd/crds/crds.yaml"];

/// `CANARYD_BLESS=1` writes them anew: read the diff.
#[test]
fn the_definitions_that_are_shipped_are_those_of_this_build() {
    let printed = Command::new(env!("CARGO_BIN_EXE_canaryd")).arg("crds").output().expect("it runs");
    assert!(printed.status.success());
    for file in SHIPPED {
        if std::env::var_os("CANARYD_BLESS").is_some() {
            fs::write(root(file), &printed.stdout).expect("writable");
        }
        let stored = fs::read(root(file)).expect(file);
        assert!(stored == printed.stdout, "{file} is stale: write it anew with canaryd crds > {file}");
    }
    let json = Command::new(env!("CARGO_BIN_EXE_canaryd")).args(["crds", "-o", "json"]).output().expect("it runs");
    let list: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(list["items"], json!(app::definitions()));
}

/// Installs them in the shared control plane, once, and waits until they are served.
pub(super) fn install(plane: &ControlPlane) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| install_in(plane));
}

/// The same in another.
pub(super) fn install_in(plane: &ControlPlane) {
    let file = root(SHIPPED[0]).display().to_string();
    // the chart installs them too
    let strict = ["apply", "--server-side", "--force-conflicts", "--validate=strict", "-f", file.as_str()];
    plane.kubectl(&[&strict[..], &["--dry-run=server"]].concat());
    plane.kubectl(&strict);
    for plural in ["canaryrules", "canaryrollouts"] {
        let path = format!("/apis/canaryd.io/v1alpha1/{plural}");
        let served = rig::poll(READY_MAX, || plane.try_kubectl(&["get", "--raw", &path], None).ok());
        assert!(served.is_some(), "{plural} are not served within {READY_MAX:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_takes_them_and_their_names_are_nobody_elses() {
    let Some(plane) = kubernetes::shared().await else { return };
    blocking(|| {
        for (set, served) in [
            ("istio", "/apis/networking.istio.io/v1/virtualservices"),
            ("gateway-api", "/apis/gateway.networking.k8s.io/v1/httproutes"),
            ("traefik", "/apis/traefik.io/v1alpha1/traefikservices"),
        ] {
            plane.custom_resources(set, served);
        }
        install(plane);
    })
    .await;
    let admin = plane.client("admin").await;
    for plural in ["canaryrules", "canaryrollouts"] {
        let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.canaryd.io");
        let (_, definition) = ask(&admin, "GET", &path, None).await;
        let conditions: BTreeMap<&str, &str> = definition["status"]["conditions"]
            .as_array()
            .expect("conditions")
            .iter()
            .map(|c| (c["type"].as_str().unwrap(), c["status"].as_str().unwrap()))
            .collect();
        assert_eq!((conditions.get("Established"), conditions.get("NamesAccepted")), (Some(&"True"), Some(&"True")), "{conditions:?}");
        assert_eq!(conditions.get("NonStructuralSchema"), None, "{definition}");
    }
    let names = blocking(|| plane.kubectl(&["api-resources", "--no-headers"])).await;
    for line in names.lines().filter(|line| line.contains("canaryd.io")) {
        // name, short names, group, ...
        let ours: Vec<&str> = line.split_whitespace().take(2).collect();
        let others = names.lines().filter(|other| *other != line);
        let taken: Vec<&str> =
            others.filter(|other| other.split_whitespace().take(2).any(|word| word.split(',').any(|name| ours.contains(&name)))).collect();
        assert!(ours[1].starts_with('c') && taken.is_empty(), "{line} collides with {taken:?}");
    }
    assert_eq!(names.matches("canaryd.io/v1alpha1").count(), 2, "{names}");
}

/// A shipped rule as an object's spec.
fn spec(text: &str) -> Value {
    let options = serde_saphyr::options! { strict_booleans: true };
    let mut spec: Value = serde_saphyr::from_str_with_options(text, options).expect("YAML");
    spec.as_object_mut().expect("a mapping").shift_remove("rule").expect("it has a name");
    spec
}

/// Every good rule of the repository is a good object: the schema asks for nothing that the loader does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_good_rule_is_taken_as_an_object_and_nothing_of_it_is_lost() {
    let Some(plane) = kubernetes::shared().await else { return };
    blocking(|| {
        install(plane);
        plane.namespace("rules-as-objects");
    })
    .await;
    let admin = plane.client("admin").await;
    let files = ["rules", "tests/data/rules"].into_iter().flat_map(|folder| fs::read_dir(root(folder)).expect(folder));
    let files: Vec<PathBuf> = files.map(|f| f.expect("entry").path()).filter(|f| f.extension().is_some_and(|e| e == "yaml")).collect();
    assert!(files.len() >= 5, "only {}", files.len());
    for (index, file) in files.iter().enumerate() {
        let spec = spec(&fs::read_to_string(file).expect("readable"));
        let path = format!("/apis/canaryd.io/v1alpha1/namespaces/rules-as-objects/canaryrules/rule-{index}");
        let object = json!({"apiVersion": "canaryd.io/v1alpha1", "kind": "CanaryRule",
            "metadata": {"name": format!("rule-{index}"), "namespace": "rules-as-objects"}, "spec": spec});
        blocking(move || {
            let applied = plane.try_kubectl(&["apply", "--validate=strict", "-f", "-"], Some(&object.to_string()));
            applied.unwrap_or_else(|e| panic!("{object} is refused: {e}"));
        })
        .await;
        let (_, kept) = ask(&admin, "GET", &path, None).await;
        assert_eq!(kept["spec"], spec, "{}", file.display());
    }
}

/// What a schema can tell is told at once; a misspelt key is kept, for the loader to tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_of_the_wrong_shape_is_refused_at_once_and_a_misspelt_key_is_kept() {
    let Some(plane) = kubernetes::shared().await else { return };
    blocking(|| {
        install(plane);
        plane.namespace("rules-refused");
    })
    .await;
    let text = fs::read_to_string(root("rules/chatbot.yaml")).expect("readable");
    let object = |spec: &Value| {
        json!({"apiVersion": "canaryd.io/v1alpha1", "kind": "CanaryRule",
            "metadata": {"name": "shop", "namespace": "rules-refused"}, "spec": spec})
        .to_string()
    };
    let mut wrong = spec(&text);
    wrong["steps"][0]["weight"] = "5".into();
    wrong["sensitivity"] = "huge".into();
    wrong.as_object_mut().unwrap().shift_remove("metrics");
    let wrong = object(&wrong);
    let refused = blocking(move || plane.try_kubectl(&["apply", "-f", "-"], Some(&wrong))).await.expect_err("it is refused");
    for path in ["spec.steps[0].weight", "spec.sensitivity", "spec.metrics: Required value"] {
        assert!(refused.contains(path), "{path}: {refused}");
    }
    let mut slips = spec(&text);
    slips["false-rolbacks"] = "5%".into();
    slips["metrics"]["error-rate"]["rollback-abov"] = "5%".into();
    slips["steps"][0]["fore"] = "5m".into();
    let kept = slips.clone();
    blocking(move || plane.try_kubectl(&["apply", "-f", "-"], Some(&object(&slips)))).await.expect("it is taken");
    let admin = plane.client("admin").await;
    let (_, object) = ask(&admin, "GET", "/apis/canaryd.io/v1alpha1/namespaces/rules-refused/canaryrules/shop", None).await;
    assert_eq!(object["spec"], kept);
}

/// For what follows from a write in the cluster: watched, read, written back, a few a second.
const SEEN_MAX: Duration = Duration::from_secs(180);

/// Polls what kubectl prints until it is right.
fn until(plane: &ControlPlane, what: &str, arguments: &[&str], right: impl Fn(&str) -> bool) -> String {
    let mut last = String::new();
    let found = rig::poll(SEEN_MAX, || {
        last = plane.try_kubectl(arguments, None).unwrap_or_else(|e| e);
        right(&last).then(|| last.clone())
    });
    found.unwrap_or_else(|| panic!("{what}: still {last}"))
}

/// The rule of [`Shared`] as an object of its namespace.
fn object(name: &str, namespace: &str, spec: &Value) -> Value {
    json!({"apiVersion": "canaryd.io/v1alpha1", "kind": "CanaryRule", "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

fn deployment(name: &str, namespace: &str) -> Value {
    let labels = json!({"app": name});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
            "spec": {"containers": [{"name": "c", "image": "shop:1"}]}}}})
}

/// With its Deployments, and without a namespace: it is that of the object.
fn deployed(text: &str) -> Value {
    let mut spec = spec(text);
    let version = |n: &str| json!({"cluster": n, "subset": n, "deployment": format!("shop-{n}")});
    spec["workloads"] = json!({"pair": [version("v1"), version("v2")]});
    spec["drain"] = "1s".into();
    spec
}

/// A daemon reads the rules of the whole control plane, and says on each what it makes of it: one at a time.
static ONE: Mutex<()> = Mutex::new(());

/// A service account with the shipped ClusterRoles and no other right; its kubeconfig. Other tests install the chart, whose roles have
/// the same names.
pub(super) fn least_rights(plane: &ControlPlane, namespace: &str) -> PathBuf {
    let kubeconfig = plane.service_account(namespace, "canaryd", &json!([]));
    let subjects = json!([{"kind": "ServiceAccount", "name": "canaryd", "namespace": namespace}]);
    for role in ["read", "route-write", "resources"] {
        let text = fs::read_to_string(root(&format!("deploy/kubernetes/rbac/{role}.yaml"))).expect(role);
        let name = format!("{namespace}-{role}");
        let text = text.replace(&format!("name: canaryd-{role}"), &format!("name: {name}"));
        plane.try_kubectl(&["apply", "-f", "-"], Some(&text)).unwrap_or_else(|e| panic!("{e}"));
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name});
        plane.apply(&json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": role, "subjects": subjects}));
    }
    kubeconfig
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_and_its_rollouts_are_objects_of_the_cluster() {
    let Some(plane) = kubernetes::shared().await else { return };
    let scene = Scene::set(plane, scene::istio(), "rules-in-force").await;
    let shared = Shared::new(&scene).await;
    blocking(move || {
        install(plane);
        let namespace = scene.namespace.as_str();
        let spec = deployed(&shared.rule());
        for name in ["shop-v1", "shop-v2"] {
            plane.apply(&deployment(name, namespace));
        }
        // the file has a name of its own, and leaves the route to the object
        let good = shared.rule().replacen("rule: shop", "rule: filed", 1) + "mode: observe\n";
        fs::write(shared.folder.path().join("rule.yaml"), &good).unwrap();
        let _one = ONE.lock();
        let daemon = One::start_with(&shared, "daemon", &json!({ "kubeconfig": least_rights(plane, namespace) }));
        daemon.until_ready();
        plane.apply(&object("cart", namespace, &spec));
        plane.apply(&object("filed", namespace, &spec));
        let jsonpath =
            |name: &str, path: &str| ["get", "canaryrule", name, "-n", namespace, "-o", &format!("jsonpath={{{path}}}")].map(str::to_owned);
        let shows = |name: &str, path: &str, right: &dyn Fn(&str) -> bool| {
            let arguments = jsonpath(name, path);
            until(plane, name, &arguments.each_ref().map(String::as_str), right)
        };
        let condition = ".status.conditions[?(@.type==\"Accepted\")]";
        shows("cart", &format!("{condition}.status"), &|said| said == "True");
        // whoever came first keeps the name
        shows("filed", &format!("{condition}.reason"), &|said| said == "NameTaken");
        let why = shows("filed", &format!("{condition}.message"), &|said| !said.is_empty());
        assert!(why.contains("canaryrule rules-in-force/filed") && why.contains("rule.yaml"), "{why}");
        let rules = daemon.send("GET", "/api/v1/rules", "").json();
        let files: Vec<&str> = rules["rules"].as_array().unwrap().iter().map(|r| r["file"].as_str().unwrap()).collect();
        assert!(files.contains(&"canaryrule rules-in-force/cart") && !files.contains(&"canaryrule rules-in-force/filed"), "{rules}");
        let digest = || {
            let rules = daemon.send("GET", "/api/v1/rules", "").json();
            let cart = rules["rules"].as_array().unwrap().iter().find(|rule| rule["name"] == "cart").cloned();
            cart.map(|rule| rule["digest"].as_str().expect("a text").to_owned())
        };
        let before = digest();
        assert!(before.is_some(), "{rules}");

        let started = daemon.send("POST", "/api/v1/rules/cart/start", "{\"version\": \"2\"}");
        assert!((200..300).contains(&started.status), "{}", started.text());
        let table = until(plane, "a rollout", &["get", "cro", "-n", namespace, "-o", "wide"], |said| said.contains("50%"));
        let lines: Vec<&str> = table.lines().collect();
        let columns: Vec<&str> = lines[0].split_whitespace().collect();
        assert_eq!(columns, ["NAME", "RULE", "MODE", "PHASE", "STEP", "WEIGHT", "VERDICT", "VERSION", "REASON", "AGE"]);
        assert!(lines[1].starts_with("cart-1 ") && lines[1].contains("progressing") && lines[1].contains("1/2"), "{table}");
        let owner = plane.kubectl(&["get", "cro", "cart-1", "-n", namespace, "-o", "jsonpath={.metadata.ownerReferences[0].name}"]);
        assert_eq!(owner, "cart");
        shows("cart", ".status.rollout", &|said| said == "cart-1");

        // a file that is wrong keeps no object out
        let filed = shared.folder.path().join("rule.yaml");
        fs::write(&filed, "rule: filed\n").unwrap();
        let mut late = spec.clone();
        late["mode"] = "observe".into();
        plane.apply(&object("late", namespace, &late));
        shows("late", &format!("{condition}.status"), &|said| said == "True");
        let rules = daemon.send("GET", "/api/v1/rules", "").text();
        assert!(rules.contains("\"filed\"") && rules.contains("rule.yaml"), "what it gave last stays, and its problems are told: {rules}");
        fs::write(&filed, good).unwrap();

        // a window that somebody takes away is made again
        plane.kubectl(&["delete", "cro", "cart-1", "-n", namespace]);
        until(plane, "made again", &["get", "cro", "cart-1", "-n", namespace, "-o", "wide"], |said| said.contains("50%"));

        // slips, all told at once; what is in force stays
        let mut slips = spec.clone();
        slips["metrics"]["error-rate"]["rollback-abov"] = "5%".into();
        slips["false-rolbacks"] = "5%".into();
        plane.apply(&object("cart", namespace, &slips));
        shows("cart", &format!("{condition}.status"), &|said| said == "False");
        let why = shows("cart", &format!("{condition}.message"), &|said| said.contains("stays in force"));
        for said in ["metrics.error-rate", "rollback-above", "false-rollbacks", "canaryrule rules-in-force/cart"] {
            assert!(why.contains(said), "{said}: {why}");
        }
        assert_eq!(digest(), before);
        plane.apply(&object("cart", namespace, &spec));
        shows("cart", &format!("{condition}.status"), &|said| said == "True");

        // with its object the rule goes; its rollout ends as it began, and is shown where it was
        plane.kubectl(&["delete", "canaryrule", "cart", "-n", namespace]);
        let gone = rig::poll(SEEN_MAX, || digest().is_none().then_some(()));
        assert!(gone.is_some(), "{}", daemon.process.log());
        let back = daemon.send("POST", "/api/v1/rollouts/cart-1/rollback", "{\"why\": \"enough\"}");
        assert!((200..300).contains(&back.status), "{}", back.text());
        until(plane, "rolled back", &["get", "cro", "cart-1", "-n", namespace, "-o", "wide"], |said| {
            said.contains("rolled-back") && said.contains("0%") && said.contains("enough")
        });
        let conditions = "jsonpath={range .status.conditions[*]}{.type}={.status} {end}";
        let conditions = plane.kubectl(&["get", "cro", "cart-1", "-n", namespace, "-o", conditions]);
        assert_eq!(conditions.trim(), "Ready=False Progressing=False Degraded=True");
        for of in ["canaryrollout/cart-1", "deployment/shop-v2"] {
            let said = until(plane, of, &["events", "--for", of, "-n", namespace], |said| said.contains("enough"));
            assert!(said.contains("Warning") && said.contains("RollBack"), "{said}");
        }
        let described = plane.kubectl(&["describe", "canaryrollout", "cart-1", "-n", namespace]);
        assert!(described.contains("canaryd.io/canaryd") && described.contains("RollBack"), "its Events are found by its uid: {described}");

        let log = daemon.process.log();
        assert!(!log.contains("needs the permission"), "the shipped roles are not enough: {log}");
        let all = plane.kubectl(&["get", "cro", "-A", "--no-headers"]);
        let of_cart: Vec<&str> = all.lines().filter(|line| line.contains(" cart-1 ")).collect();
        assert!(of_cart.len() == 1 && of_cart[0].starts_with(namespace), "{all}");
        assert!(!daemon.send("GET", "/metrics", "").text().contains("rule=\"cart\""), "its metrics went with it");
    })
    .await;
}

/// A second rule that would move the same route: a file goes before an object, an older object before a younger one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_rules_for_one_route_the_first_is_in_force_and_the_second_says_who_it_is() {
    let Some(plane) = kubernetes::shared().await else { return };
    let scene = Scene::set(plane, scene::istio(), "one-route").await;
    scene.twin(plane).await;
    let shared = Shared::new(&scene).await;
    blocking(move || {
        install(plane);
        let namespace = scene.namespace.as_str();
        let _one = ONE.lock();
        let daemon = One::start_with(&shared, "daemon", &json!({ "kubeconfig": plane.kubeconfig("admin") }));
        daemon.until_ready();
        let filed = spec(&shared.rule());
        let mut twin = filed.clone();
        twin["traffic"]["istio"]["virtual-service"] = "twin".into();
        let accepted = |name: &str, path: &str, right: &dyn Fn(&str) -> bool| {
            let path = format!("jsonpath={{.status.conditions[?(@.type==\"Accepted\")].{path}}}");
            until(plane, name, &["get", "canaryrule", name, "-n", namespace, "-o", &path], right)
        };
        plane.apply(&object("beside-a-file", namespace, &filed));
        accepted("beside-a-file", "reason", &|said| said == "RouteTaken");
        let why = accepted("beside-a-file", "message", &|said| said.contains("would move"));
        for said in [
            "canaryrule one-route/beside-a-file: traffic.istio",
            "VirtualService one-route/shop, route primary",
            "rule \"shop\"",
            "rule.yaml:5",
        ] {
            assert!(why.contains(said), "{said}: {why}");
        }

        plane.apply(&object("z-older", namespace, &twin));
        accepted("z-older", "status", &|said| said == "True");
        // an object is as old as the second it was made in
        let second = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs();
        let made = second();
        assert!(rig::poll(SEEN_MAX, || (second() > made).then_some(())).is_some());
        plane.apply(&object("a-younger", namespace, &twin));
        accepted("a-younger", "reason", &|said| said == "RouteTaken");
        let why = accepted("a-younger", "message", &|said| said.contains("would move"));
        for said in [
            "canaryrule one-route/a-younger: traffic.istio",
            "VirtualService one-route/twin",
            "(canaryrule one-route/z-older)",
            "mode: observe in one",
        ] {
            assert!(why.contains(said), "{said}: {why}");
        }
        accepted("z-older", "status", &|said| said == "True");
        plane.kubectl(&["delete", "canaryrule", "z-older", "-n", namespace]);
        accepted("a-younger", "status", &|said| said == "True");
        let rules = daemon.send("GET", "/api/v1/rules", "").text();
        assert!(rules.contains("one-route/a-younger") && !rules.contains("beside-a-file") && !rules.contains("z-older"), "{rules}");
        let log = daemon.process.log();
        assert_eq!(
            log.matches("rule \\\"a-younger\\\" would move").count() + log.matches("rule \"a-younger\" would move").count(),
            1,
            "{log}"
        );
    })
    .await;
}

/// What a rule needs and is not there, and a release that waits, are told where people look, until they are over. The rule that starts
/// by itself is a file: daemons of other tests read every object, and would lead it too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_rule_lacks_and_what_its_release_waits_for_is_told_until_it_is_over() {
    let Some(plane) = kubernetes::shared().await else { return };
    let scene = Scene::set(plane, scene::istio(), "lacking").await;
    let shared = Shared::new(&scene).await;
    let twin = twin_of(&scene);
    blocking(move || {
        install(plane);
        let namespace = scene.namespace.as_str();
        let workloads = "pair: [ { cluster: v1, subset: v1, deployment: shop-v1 }, { cluster: v2, subset: v2, deployment: shop-v2 } ] }";
        let text = shared.rule().replace("pair: [ { cluster: v1, subset: v1 }, { cluster: v2, subset: v2 } ] }", workloads);
        assert!(text.contains("deployment: shop-v2"), "{text}");
        fs::write(shared.folder.path().join("rule.yaml"), text + "start: { when: new-template }\n").unwrap();
        let _one = ONE.lock();
        let daemon = One::start_with(&shared, "daemon", &json!({ "kubeconfig": least_rights(plane, namespace) }));
        daemon.until_ready();
        let rule = |name: &str| {
            let rules = daemon.send("GET", "/api/v1/rules", "").json();
            rules["rules"].as_array().unwrap().iter().find(|rule| rule["name"] == name).cloned().unwrap_or_default()
        };
        let seen = |what: &str, right: &dyn Fn() -> bool| {
            let seen = rig::poll(SEEN_MAX, || right().then_some(()));
            assert!(seen.is_some(), "{what}: {} {}\n{}", rule("shop"), rule("lacks"), daemon.process.log());
        };
        let lacks = |name: &str| rule(name)["missing"].as_array().map_or(0, Vec::len);
        let metric = |line: &str| daemon.send("GET", "/metrics", "").text().lines().any(|found| found == line);

        let mut spec = deployed(&shared.rule());
        spec["traffic"]["istio"]["virtual-service"] = "twin".into();
        for (position, name) in ["cart-v1", "cart-v2"].into_iter().enumerate() {
            spec["workloads"]["pair"][position]["deployment"] = name.into();
        }
        plane.apply(&object("lacks", namespace, &spec));
        let shows = |field: &str, right: &dyn Fn(&str) -> bool| {
            let path = format!("jsonpath={{.status.conditions[?(@.type==\"Ready\")].{field}}}");
            until(plane, "lacks", &["get", "canaryrule", "lacks", "-n", namespace, "-o", &path], right);
        };
        let all = ["Deployment lacking/cart-v1", "Deployment lacking/cart-v2", "VirtualService lacking/twin"]
            .map(|of| format!("{of}: does not exist"));
        shows("message", &|said| all.iter().all(|why| said.contains(why)));
        shows("status", &|said| said == "False");
        shows("reason", &|said| said == "Missing");
        seen("all three are missing", &|| lacks("lacks") == 3 && metric("canaryd_rule_missing{rule=\"lacks\"} 3"));
        seen("both Deployments are missing", &|| lacks("shop") == 2);
        until(plane, "a table", &["get", "crule", "-n", namespace, "-o", "wide"], |table| {
            table.contains("READY") && table.contains("WAITING") && table.contains("lacking/cart-v1: does not exist")
        });
        assert!(daemon.status_page().contains("lacks: Deployment lacking/cart-v1: does not exist"), "{}", daemon.status_page());

        plane.apply(&twin);
        let mut second = deployment("shop-v2", namespace);
        second["spec"]["replicas"] = 0.into();
        for there in [deployment("cart-v1", namespace), deployment("cart-v2", namespace), deployment("shop-v1", namespace), second.clone()]
        {
            plane.apply(&there);
        }
        shows("status", &|said| said == "True");
        seen("all is there", &|| lacks("lacks") + lacks("shop") == 0 && metric("canaryd_rule_missing{rule=\"lacks\"} 0"));

        // a release that nobody gives a pod to
        let waits = |field: &str, words: &str| rule("shop")["waiting"][field].as_str().is_some_and(|said| said.contains(words));
        second["spec"]["template"]["spec"]["containers"][0]["image"] = "shop:2".into();
        plane.apply(&second);
        seen("no replicas", &|| {
            waits("version", "shop:2") && waits("why", "it is started when its pods are ready (0 of 0: it asks for no replicas)")
        });
        let page = daemon.status_page();
        assert!(page.contains("releases that wait") && page.contains("it asks for no replicas"), "{page}");
        second["spec"]["replicas"] = 1.into();
        plane.apply(&second);
        seen("begun", &|| rule("shop")["rollout"] == "shop-1" && rule("shop")["waiting"].is_null());
    })
    .await;
}

/// The scene's object under another name, not yet made.
fn twin_of(scene: &Scene) -> Value {
    let mut twin = scene.case.object.clone();
    twin["metadata"] = json!({"name": "twin", "namespace": scene.namespace});
    twin
}

/// Rights for the route and nothing else: what cannot be shown is said once, and rollouts go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_may_show_nothing_says_so_once_and_goes_on() {
    let Some(plane) = kubernetes::shared().await else { return };
    let scene = Scene::set(plane, scene::istio(), "shows-nothing").await;
    let shared = Shared::new(&scene).await;
    blocking(move || {
        install(plane);
        let namespace = scene.namespace.as_str();
        let rights = json!([{"apiGroups": ["networking.istio.io"], "resources": ["virtualservices"], "verbs": ["get", "patch"]}]);
        let kubeconfig = plane.service_account(namespace, "poor", &rights);
        let daemon = One::start_with(&shared, "daemon", &json!({ "kubeconfig": kubeconfig }));
        daemon.until_ready();
        let started = daemon.send("POST", "/api/v1/rules/shop/start", "{\"version\": \"2\"}");
        assert!((200..300).contains(&started.status), "{}", started.text());
        let log = rig::poll(SEEN_MAX, || {
            Some(daemon.process.log()).filter(|log| {
                log.contains("permission to create canaryrollouts.canaryd.io") && log.contains("permission to list canaryrules.canaryd.io")
            })
        });
        let log = log.unwrap_or_else(|| panic!("{}", daemon.process.log()));
        assert_eq!(log.matches("permission to create canaryrollouts").count(), 1, "{log}");
        let weighed = rig::poll(SEEN_MAX, || {
            let rollout = daemon.send("GET", "/api/v1/rollouts/shop-1", "").json();
            (rollout["weight-seen-permille"] == 500).then_some(())
        });
        assert!(weighed.is_some(), "{}", daemon.process.log());
    })
    .await;
}
