//! Two rules lead two entries of one object, each by its name: neither keeps the other from moving, and nothing is lost.

use super::scene::{self, Case, OTHER, Scene, ask, desired, until_done};
use crate::rig::kubernetes;
use canaryd::model::Side;
use canaryd::model::rule::RouteKind;
use serde_json::{Value, json};

/// A VirtualService whose two named entries send to two pairs of subsets.
fn two_entries() -> Case {
    let mut case = scene::istio();
    let to = |subset: &str, weight: u64| json!({"destination": {"host": "shop", "subset": subset}, "weight": weight});
    let entry = |name: &str, a: &str, b: &str| json!({"name": name, "timeout": "1s", "match": [{"uri": {"prefix": format!("/{name}")}}], "route": [to(a, 100), to(b, 0)]});
    case.object["spec"]["http"] = json!([entry("cart", "v1", "v2"), entry("a till", "v3", "v4")]);
    case
}

fn led(scene: &Scene, entry: &str, subsets: [&str; 2]) -> Scene {
    let RouteKind::VirtualService { destinations, .. } = &scene.case.kind else { panic!("a VirtualService") };
    let mut destinations = destinations.clone();
    for (destination, subset) in destinations.iter_mut().zip(subsets) {
        destination.subset = Some(subset.to_owned());
    }
    let kind = RouteKind::VirtualService { route: Some(entry.to_owned()), destinations };
    let case = Case { kind, ..scene.case.clone() };
    Scene { case, namespace: scene.namespace.clone(), admin: scene.admin.clone(), path: scene.path.clone() }
}

fn weights(object: &Value, entry: usize) -> [u64; 2] {
    [0, 1].map(|i| object["spec"]["http"][entry]["route"][i]["weight"].as_u64().expect("a weight"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_rules_walk_two_entries_of_one_object_at_once_and_nothing_is_lost() {
    let Some(plane) = kubernetes::shared().await else { return };
    let scene = Scene::set(plane, two_entries(), "two-entries").await;
    let before = scene.object().await;
    let walk = async |led: Scene, entry: usize, first: u64| {
        let router = led.router(&led.admin);
        for (generation, percent) in (first..).zip([5, 25, 50, 100, 50, 5, 0, 100]) {
            until_done(&*router, desired(percent, generation)).await;
            let reading = router.read(Side::Second).await.expect("it reads back");
            assert_eq!((reading.weight, reading.generation), (scene::weight(percent), Some(generation)));
            assert_eq!(weights(&led.object().await, entry), [u64::from(100 - percent), u64::from(percent)]);
        }
    };
    let meddle = async {
        for n in 0..12 {
            let edit = json!([{"op": "add", "path": format!("/metadata/labels/edit-{n}"), "value": "x"},
                {"op": "add", "path": "/spec/http/0/timeout", "value": format!("{}s", n + 2)}]);
            let (status, said) = ask(&scene.admin, "PATCH", &format!("{}?fieldManager={OTHER}", scene.path), Some(&edit)).await;
            assert_eq!(status, 200, "{said}");
        }
    };
    // numbers far apart: one entry's are no newer ones to the other
    tokio::join!(walk(led(&scene, "cart", ["v1", "v2"]), 0, 1), walk(led(&scene, "a till", ["v3", "v4"]), 1, 1000), meddle,);
    let mut after = scene.object().await;
    assert_eq!((weights(&after, 0), weights(&after, 1)), ([0, 100], [0, 100]));
    assert!((0..12).all(|n| after["metadata"]["labels"][format!("edit-{n}")] == "x"), "{after}");
    assert_eq!(after["spec"]["http"][0]["timeout"], "13s");
    assert_eq!(after["metadata"]["annotations"]["canaryd.io/generation.cart"], "8");
    for (entry, i, weight) in [(0, 0, 100), (0, 1, 0), (1, 0, 100), (1, 1, 0)] {
        after["spec"]["http"][entry]["route"][i]["weight"] = weight.into();
    }
    after["spec"]["http"][0]["timeout"] = "1s".into();
    assert_eq!(after["spec"], before["spec"]);
}
