//! What is asked of the one that stands by is answered by the one that acts.

use super::{One, Shared, TOKEN, elects, lease_object};
use crate::kubernetes::scene::{self, Scene, blocking};
use crate::rig::http::{self, Request};
use crate::rig::{kubernetes, poll};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

const PATIENT: Duration = Duration::from_secs(90);

/// One that is told its address, as a pod is.
fn start(shared: &Shared, name: &str, kubeconfig: &Path) -> One {
    One::start_told(shared, name, &elects(shared, kubeconfig), "data", &[("POD_IP", "127.0.0.1")])
}

/// The first lines of the live feed, until one says this; it is asked of the standby.
fn feed_says(one: &One, word: &str) -> bool {
    let mut stream = TcpStream::connect(("127.0.0.1", one.port)).unwrap();
    stream.set_read_timeout(Some(PATIENT)).unwrap();
    write!(stream, "GET /api/v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\r\n").unwrap();
    let (mut seen, mut piece) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&seen).contains(word) {
        match stream.read(&mut piece) {
            Ok(n) if n > 0 && seen.len() < 1 << 20 => seen.extend_from_slice(&piece[..n]),
            _ => return false,
        }
    }
    true
}

/// What it answers, if it does: for a moment nobody listens where the one that stood by begins to act.
fn answered(one: &One, path: &str) -> Option<http::Response> {
    let request = Request { method: "GET", path, headers: &[], body: b"" };
    http::send(one.port, &request, PATIENT).ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_stands_by_passes_on_what_it_is_asked_until_it_acts_itself() {
    let Some(plane) = kubernetes::shared().await else { return };
    let scene = Scene::set(plane, scene::istio(), "lease-passed-on").await;
    let shared = Shared::new(&scene).await;
    let kubeconfig = plane.kubeconfig("admin");
    let (first, second, shared) = blocking(move || {
        let first = start(&shared, "first", &kubeconfig);
        first.until_ready();
        let second = start(&shared, "second", &kubeconfig);
        second.until_ready();
        (first, second, shared)
    })
    .await;
    let object = lease_object(&scene).await;
    assert_eq!(object["metadata"]["annotations"]["canaryd.io/address"], format!("127.0.0.1:{}", first.port));
    blocking(move || {
        let (mut first, _shared) = (first, shared);
        let rules = second.send("GET", "/api/v1/rules", "");
        assert_eq!((rules.status, rules.json()), (200, first.send("GET", "/api/v1/rules", "").json()));
        second.start_rollout();
        assert_eq!(first.rollout()["rule"], "shop", "it began where decisions are made");
        assert_eq!(second.rollout()["rule"], "shop");
        assert!(feed_says(&second, "data:"), "a live feed comes through");
        let bare = Request { method: "POST", path: "/api/v1/rollouts/shop-1/pause", headers: &[], body: b"{}" };
        assert_eq!(http::send(second.port, &bare, PATIENT).unwrap().status, 401, "the token is the asker's own");
        let passed = Request { method: "GET", path: "/api/v1/rules", headers: &[("via", "1.1 canaryd-standby")], body: b"" };
        let refused = http::send(second.port, &passed, PATIENT).unwrap();
        assert!(refused.status == 503 && refused.text().contains("took this one for it"), "{}", refused.text());

        first.process.kill();
        let gone = poll(PATIENT, || answered(&second, "/api/v1/rules").filter(|answer| answer.status == 503));
        assert!(
            gone.is_some_and(|answer| answer.text().contains(&format!("at 127.0.0.1:{}: ", first.port))),
            "who does not answer is named"
        );
        let acts = poll(PATIENT, || answered(&second, "/api/v1/rollouts/shop-1").filter(|answer| answer.status == 200));
        assert!(acts.is_some(), "{}", second.process.log());
    })
    .await;
    let object = lease_object(&scene).await;
    assert_eq!(object["spec"]["leaseTransitions"], 1);
}
