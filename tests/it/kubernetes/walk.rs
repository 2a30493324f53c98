//! Every router from 0 to 100 and back, while another hand edits the same object and the API server answers badly.

use super::proxy::{Fault, Proxy};
use super::scene::{self, Case, OTHER, Scene, agree, ask, desired, edit, until_done, weight};
use crate::rig::kubernetes;
use canaryd::model::{Side, Weight};
use canaryd::router::RouterError;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Shortest pause of the other hand between two edits.
const EDIT_EVERY: Duration = Duration::from_millis(4);
/// Its pause beside the time an edit took it: where everything is slow it must not come between each read and its write, ours or a
/// controller's.
const EDIT_REST: u32 = 10;
/// Edits that must have happened before the last step, so that they really were concurrent.
const EDITS_MIN: u64 = 10;

/// Tests that what these operations put is still there.
fn tests_of(operations: &Value) -> Vec<Value> {
    let test = |o: &Value| json!({"op": "test", "path": o["path"], "value": o["value"]});
    operations.as_array().unwrap().iter().map(test).collect()
}

/// What our writes of a step meet: refusals, waits and errors, of writes that were carried out and of such that were not.
pub(super) fn faults(step: usize) -> Vec<Fault> {
    match step % 6 {
        0 => vec![Fault::Answer(409)],
        1 => vec![Fault::Wait(429, 1)],
        2 => vec![Fault::Answer(503), Fault::AnswerAfter(500)],
        3 => vec![Fault::AnswerAfter(409)],
        4 => vec![Fault::Answer(500), Fault::Answer(422)],
        _ => vec![Fault::Answer(429), Fault::AnswerAfter(504)],
    }
}

/// The other hand's pause after an edit that began then.
pub(super) async fn rest_after(begun: Instant) {
    tokio::time::sleep((begun.elapsed() * EDIT_REST).max(EDIT_EVERY)).await;
}

/// Edits until told to stop, each time only if its last edit is still there, and looks at the sum after each; how many edits
/// there were.
async fn meddle(client: kube::Client, path: String, case: Case, stop: Arc<AtomicBool>) -> u64 {
    let mut count = 0;
    while !stop.load(Ordering::Acquire) || count < EDITS_MIN {
        let begun = Instant::now();
        let mut operations = count.checked_sub(1).map_or_else(Vec::new, |last| tests_of(&(case.foreign)(last)));
        operations.extend((case.foreign)(count).as_array().unwrap().iter().cloned());
        let object = edit(&client, &path, &Value::Array(operations)).await;
        let numbers = (case.numbers)(&object);
        assert_eq!(numbers.iter().sum::<u64>(), case.total, "{numbers:?} after edit {count}");
        count += 1;
        rest_after(begun).await;
    }
    count
}

/// Plays a gateway that takes each version of the route.
async fn gateway(client: kube::Client, path: String, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Acquire) {
        let (_, object) = ask(&client, "GET", &path, None).await;
        let seen = &object["status"]["parents"][0]["conditions"][0]["observedGeneration"];
        if *seen != object["metadata"]["generation"] {
            agree(&client, &path).await;
        }
        tokio::time::sleep(EDIT_EVERY).await;
    }
}

/// The object without what tells it from its twin.
fn rest(object: &Value) -> Value {
    let mut object = object.clone();
    let metadata = object["metadata"].as_object_mut().unwrap();
    for key in ["name", "uid", "creationTimestamp", "resourceVersion", "generation", "managedFields"] {
        metadata.remove(key);
    }
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove("canaryd.io/generation");
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
    let spec = object["spec"].as_object_mut().unwrap();
    spec.retain(|key, _| !key.starts_with("clusterIP"));
    object.as_object_mut().unwrap().remove("status");
    object
}

async fn walk(case: Case, name: &str) {
    let Some(plane) = kubernetes::shared().await else { return };
    let scene = Scene::set(plane, case.clone(), name).await;
    let proxy = Proxy::start(plane).await;
    let router = scene.router(&proxy.client);
    let stop = Arc::new(AtomicBool::new(false));
    let meddler = tokio::spawn(meddle(plane.client("admin").await, scene.path.clone(), case.clone(), Arc::clone(&stop)));
    let gateway = matches!(case.kind, canaryd::model::rule::RouteKind::GatewayRoute { .. });
    let gateway = gateway.then(|| tokio::spawn(self::gateway(scene.admin.clone(), scene.path.clone(), Arc::clone(&stop))));
    let steps: &[u16] = if case.whole { &[100, 0, 100, 0] } else { &[5, 25, 50, 100, 50, 0] };
    for (step, (generation, percent)) in (1..).zip(steps).enumerate() {
        proxy.next_writes(faults(step));
        until_done(&*router, desired(*percent, generation)).await;
        let reading = router.read(Side::Second).await.unwrap();
        assert_eq!((reading.weight, reading.generation), (weight(*percent), Some(generation)));
        let [first, second] = scene.numbers(&scene.object().await);
        assert_eq!((first + second, second * 100), (case.total, u64::from(*percent) * case.total), "{percent} %");
        assert_eq!(proxy.left(), 0, "each fault was met on the way to {percent} %");
    }
    stop.store(true, Ordering::Release);
    let edits = meddler.await.unwrap();
    if let Some(gateway) = gateway {
        gateway.await.unwrap();
    }
    let object = scene.object().await;
    for n in 0..edits {
        assert_eq!(object["metadata"]["labels"][format!("edit-{n}")], json!(n.to_string()), "edit {n} of {edits} was lost");
    }
    // an object that only the other hand ever wrote to, in the same way
    let operations = (0..edits).flat_map(|n| (case.foreign)(n).as_array().unwrap().clone()).collect();
    let twin = edit(&scene.admin, &scene.twin(plane).await, &operations).await;
    assert_eq!(rest(&object), rest(&twin), "at 0 % it is as if nobody but the other hand had been there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn istio_walks_beside_another_hand() {
    walk(scene::istio(), "walk-istio").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http_route_walks_beside_another_hand() {
    walk(scene::gateway_api(false), "walk-http").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grpc_route_walks_beside_another_hand() {
    walk(scene::gateway_api(true), "walk-grpc").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traefik_walks_beside_another_hand() {
    walk(scene::traefik(), "walk-traefik").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_walks_beside_another_hand() {
    walk(scene::nginx_ingress(), "walk-nginx").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alb_walks_beside_another_hand() {
    walk(scene::aws_alb(), "walk-alb").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_switches_beside_another_hand() {
    walk(scene::service(), "walk-service").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_wrote_a_weight_is_named_and_an_older_generation_is_refused() {
    let Some(plane) = kubernetes::shared().await else { return };
    for (n, case) in scene::all().into_iter().enumerate() {
        let word = case.kind.word();
        let scene = Scene::set(plane, case.clone(), &format!("writer-{n}")).await;
        let router = scene.router(&scene.admin);
        let reading = router.read(Side::Second).await.unwrap();
        assert_eq!((reading.weight, reading.generation), (Weight::ZERO, None), "{word}");
        let zero = desired(0, 5);
        if let Err(e) = router.write(zero).await {
            // nobody plays the gateway here: it must not pass unnoticed
            assert!(word == "gateway-api" && matches!(e, RouterError::NotVerified { .. }), "{word}: {e}");
        }
        let full = desired(100, 6);
        let taken = router.write(full).await;
        if word == "gateway-api" {
            let error = taken.unwrap_err();
            assert!(error.to_string().contains("gateway gw has not taken generation"), "{error}");
        } else {
            taken.unwrap_or_else(|e| panic!("{word}: {e}"));
        }
        let reading = router.read(Side::Second).await.unwrap();
        assert_eq!((reading.weight, reading.generation, reading.writer.as_deref()), (Weight::FULL, Some(6), Some("canaryd")), "{word}");
        let error = router.write(desired(0, 5)).await.unwrap_err();
        assert!(matches!(error, RouterError::Refused { .. }) && error.to_string().contains("newer"), "{word}: {error}");
        if case.whole {
            scene.edit(&json!([{"op": "add", "path": "/spec/selector/version", "value": "blue"}])).await;
        } else {
            scene.edit(&case.takes).await;
        }
        let reading = router.read(Side::Second).await.unwrap();
        let taken = if case.whole { weight(0) } else { weight(30) };
        assert_eq!((reading.weight, reading.generation, reading.writer.as_deref()), (taken, Some(6), Some(OTHER)), "{word}");
    }
}
