//! canaryd's own resources on a real API server: what is shipped is what the code says, it is taken, and a rule as an object is a
//! rule as a file.

use super::scene::{ask, blocking};
use crate::rig::kubernetes::{self, ControlPlane};
use crate::rig::{self, READY_MAX};
use canaryd::app;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Where the definitions lie beside the code.
const SHIPPED: [&str; 2] = ["deploy/kubernetes/base/crds.yaml", "deploy/helm/canaryd/crds/crds.yaml"];

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

/// Installs them, once, and waits until they are served.
pub(super) fn install(plane: &ControlPlane) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
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
    });
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
