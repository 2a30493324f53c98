//! Answers the API server cannot be made to give when they are wanted, and other hands at the worst moment.

use super::proxy::{Fault, Proxy};
use super::scene::{self, OTHER, Scene, desired, weight};
use crate::rig::kubernetes::{self, ControlPlane};
use crate::rig::late::Timed;
use canaryd::model::{Retry, Side};
use canaryd::router::{Router, RouterError};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A VirtualService at 5 %, asked for through a proxy.
async fn scene(plane: &'static ControlPlane, name: &str) -> (Scene, Proxy, Arc<dyn Router>) {
    let scene = Scene::set(plane, scene::istio(), name).await;
    let proxy = Proxy::start(plane).await;
    let router = scene.router(&proxy.client);
    router.write(desired(5, 1)).await.unwrap();
    assert_eq!(proxy.passed(), [200]);
    (scene, proxy, router)
}

impl Scene {
    /// An edit of the other hand by kubectl, for the moment between our read and our write.
    fn edits(&self, plane: &'static ControlPlane, patch: serde_json::Value) -> Fault {
        let (namespace, kind) = (self.namespace.clone(), self.case.plural);
        Fault::After(Box::new(move || {
            let manager = format!("--field-manager={OTHER}");
            let arguments = ["patch", kind, "shop", "-n", &namespace, "--type=json", "-p", &patch.to_string(), &manager];
            plane.kubectl(&arguments);
        }))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_requests_and_server_errors_are_tried_again() {
    let Some(plane) = kubernetes::shared().await else { return };
    let (scene, proxy, router) = scene(plane, "faults-again").await;
    proxy.next_writes([Fault::Wait(429, 1), Fault::Answer(503)]);
    let begin = Instant::now();
    router.write(desired(25, 2)).await.unwrap();
    assert!(begin.elapsed() >= Duration::from_secs(1), "what the server asked for is waited");
    assert_eq!((proxy.passed(), proxy.left()), (vec![200], 0));
    // more than it puts up with: the rollout decides when to go on
    proxy.next_writes([Fault::Answer(500), Fault::Answer(503), Fault::Answer(504), Fault::Wait(429, 30)]);
    for _ in 0..2 {
        let error = router.write(desired(50, 3)).await.unwrap_err();
        assert!(matches!(error, RouterError::Unreachable { .. }) && matches!(error.retry(), Retry::After(_)), "{error}");
    }
    assert_eq!((proxy.passed(), proxy.left()), (vec![], 0), "30 s are not waited here");
    assert_eq!(router.read(Side::Second).await.unwrap().weight, weight(25));
    router.write(desired(50, 3)).await.unwrap();
    assert_eq!(scene.numbers(&scene.object().await), [50, 50]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_was_lost_is_not_written_twice() {
    let Some(plane) = kubernetes::shared().await else { return };
    let (scene, proxy, router) = scene(plane, "faults-lost").await;
    proxy.next_writes([Fault::AnswerAfter(500)]);
    router.write(desired(25, 2)).await.unwrap();
    assert_eq!(proxy.passed(), [200, 422], "the second try tested what the first had replaced");
    assert_eq!(scene.numbers(&scene.object().await), [75, 25]);
    let before = scene.object().await["metadata"]["resourceVersion"].clone();
    router.write(desired(25, 2)).await.unwrap();
    assert_eq!(proxy.passed(), Vec::<u16>::new(), "what is in force is not written");
    assert_eq!(scene.object().await["metadata"]["resourceVersion"], before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_is_given_up() {
    let Some(plane) = kubernetes::shared().await else { return };
    let (scene, proxy, router) = scene(plane, "faults-hang").await;
    proxy.next_writes([Fault::Hang]);
    let timed = Timed::begin();
    let error = router.write(desired(25, 2)).await.unwrap_err();
    let (took, late) = timed.end();
    assert!(matches!(error, RouterError::Unreachable { .. }), "{error}");
    assert!(took < Duration::from_secs(9), "before the runtime's own patience of 10 s: {took:?}, {late:?} late");
    assert_eq!(scene.numbers(&scene.object().await), [95, 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_without_a_change_is_a_refusal() {
    let Some(plane) = kubernetes::shared().await else { return };
    let (scene, proxy, router) = scene(plane, "faults-conflict").await;
    for code in [409, 422] {
        proxy.next_writes([Fault::Answer(code)]);
        let error = router.write(desired(25, 2)).await.unwrap_err();
        assert!(matches!(error, RouterError::Refused { .. }) && error.retry() == Retry::OnChange, "{error}");
        assert!(error.to_string().contains("made up by the proxy"), "the server's words: {error}");
        assert_eq!((proxy.passed(), scene.numbers(&scene.object().await)), (vec![], [95, 5]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_hand_between_our_read_and_our_write_loses_nothing() {
    let Some(plane) = kubernetes::shared().await else { return };
    let (scene, proxy, router) = scene(plane, "faults-between").await;
    let inside = json!([{"op": "add", "path": "/spec/http/1/route/1/headers", "value": {"request": {"set": {"x": "y"}}}}]);
    proxy.next_writes([scene.edits(plane, inside.clone())]);
    router.write(desired(25, 2)).await.unwrap();
    assert_eq!(proxy.passed(), [422, 200], "read again, and decided again");
    let object = scene.object().await;
    assert_eq!(object["spec"]["http"][1]["route"][1]["headers"], inside[0]["value"]);
    assert_eq!(scene.numbers(&object), [75, 25]);
    let shifted = json!([{"op": "add", "path": "/spec/http/0", "value": {"name": "new", "match": [{"headers": {"a": {"exact": "b"}}}],
        "route": object["spec"]["http"][1]["route"]}}]);
    proxy.next_writes([scene.edits(plane, shifted)]);
    router.write(desired(50, 3)).await.unwrap();
    let http = scene.object().await["spec"]["http"].clone();
    assert_eq!(http[1], object["spec"]["http"][0], "the entry for testers moved down by one, as it was");
    let weights = |entry: &serde_json::Value| [0, 1].map(|i| entry["route"][i]["weight"].clone());
    assert_eq!((weights(&http[0]), weights(&http[2])), ([json!(75), json!(25)], [json!(50), json!(50)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_hand_that_takes_the_weight_at_the_same_moment_is_named() {
    let Some(plane) = kubernetes::shared().await else { return };
    let (scene, proxy, router) = scene(plane, "faults-taken").await;
    proxy.next_writes([scene.edits(plane, scene.case.takes.clone())]);
    let error = router.write(desired(25, 2)).await.unwrap_err();
    assert!(matches!(error, RouterError::Refused { .. }) && error.to_string().contains(OTHER), "{error}");
    assert_eq!(proxy.passed(), [422]);
    assert_eq!(scene.numbers(&scene.object().await), [70, 30], "what to do about it is the rollout's decision");
    router.write(desired(25, 2)).await.unwrap();
    assert_eq!(scene.numbers(&scene.object().await), [75, 25]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_hand_that_changes_what_a_number_is_of_does_not_make_it_another_share() {
    let Some(plane) = kubernetes::shared().await else { return };
    let scene = Scene::set(plane, scene::nginx_ingress(), "faults-total").await;
    let proxy = Proxy::start(plane).await;
    let router = scene.router(&proxy.client);
    router.write(desired(0, 1)).await.unwrap();
    drop(proxy.passed());
    let total =
        json!([{"op": "replace", "path": "/metadata/annotations/nginx.ingress.kubernetes.io~1canary-weight-total", "value": "100"}]);
    proxy.next_writes([scene.edits(plane, total)]);
    router.write(desired(5, 2)).await.unwrap();
    assert_eq!(proxy.passed(), [422, 200], "50 of 1000 would have been 50 of 100");
    assert_eq!(scene.numbers(&scene.object().await), [95, 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_writer_between_our_read_and_our_write_wins() {
    let Some(plane) = kubernetes::shared().await else { return };
    let (scene, proxy, router) = scene(plane, "faults-newer").await;
    let newer = json!([{"op": "replace", "path": "/metadata/annotations/canaryd.io~1generation", "value": "9"}]);
    proxy.next_writes([scene.edits(plane, newer)]);
    let error = router.write(desired(25, 2)).await.unwrap_err();
    assert!(matches!(error, RouterError::Refused { .. }) && error.to_string().contains("generation 9"), "{error}");
    assert_eq!(scene.numbers(&scene.object().await), [95, 5]);
}
