//! A start with a rule that is wrong: what is good goes on, and nothing that runs is left alone.

use crate::rig::endpoint::standing_page;
use crate::rig::http::{self, Request};
use crate::rig::process::Process;
use crate::rig::{poll, ports};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

const TOKEN: &str = "operator-token-of-the-tests-0001";
/// Longest for anything a daemon does here, on a machine with much to do.
const SOON: Duration = Duration::from_secs(120);
const WRONG: &str = "weight: 150%";

fn rule(name: &str) -> String {
    format!(
        "rule: {name}
workloads: {{ pair: [ {{ cluster: v1 }}, {{ cluster: v2 }} ] }}
telemetry: [ envoy ]
interval: 500ms
traffic: none
promotion: swap
drain: 100ms
steps: [ {{ weight: 50%, for: 1h }}, {{ weight: 100%, bake: 1h }} ]
metrics:
  error-rate: {{ tolerate: {{ relative: 20%, absolute: 0.5% }} }}
"
    )
}

/// A folder with two rules, a journal and settings, and a page with counters that stand still.
struct Place {
    folder: TempDir,
    port: u16,
}

impl Place {
    async fn new() -> Self {
        let page = standing_page().await;
        let place = Self { folder: tempfile::tempdir().expect("a folder"), port: ports::free() };
        let folder = place.folder.path();
        fs::create_dir(folder.join("rules")).expect("a folder");
        ["shop", "cart"].iter().for_each(|name| place.put(name, &rule(name)));
        let tokens = folder.join("tokens");
        fs::write(&tokens, format!("tests:operator:{TOKEN}\n")).expect("written");
        fs::set_permissions(&tokens, fs::Permissions::from_mode(0o600)).expect("ours alone");
        let settings = json!({
            "listen": format!("127.0.0.1:{}", place.port),
            "data": "data",
            "rules": ["rules"],
            "tokens": tokens,
            "sources": { "main": { "scrape": { "urls": [format!("http://127.0.0.1:{page}/metrics")] } } },
        });
        fs::write(folder.join("canaryd.yaml"), settings.to_string()).expect("written");
        place
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join("rules").join(format!("{name}.yaml")), text).expect("written");
    }

    fn run(&self, more: &[&str]) -> Process {
        let config = self.folder.path().join("canaryd.yaml");
        let mut arguments: Vec<OsString> = vec!["run".into(), "--config".into(), config.into()];
        arguments.extend(more.iter().map(Into::into));
        Process::spawn("canaryd", Path::new(env!("CARGO_BIN_EXE_canaryd")), &arguments, &self.folder.path().join("log"))
    }

    /// Runs it until it is ready; what it says then.
    fn up(&self) -> (Process, Value) {
        let process = self.run(&[]);
        let ready = || http::get(self.port, "/readyz", Duration::from_secs(5)).ok().filter(|answer| answer.status == 200);
        let ready = poll(SOON, ready).unwrap_or_else(|| panic!("not ready: {}", process.log()));
        (process, ready.json())
    }

    /// Runs it until it ends by itself.
    fn refused(&self, more: &[&str]) -> (Option<i32>, String) {
        let mut process = self.run(more);
        let ended = poll(SOON, || process.ended()).unwrap_or_else(|| panic!("it runs: {}", process.log()));
        (ended.code(), process.log())
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> http::Response {
        let authorization = format!("Bearer {TOKEN}");
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        let request = Request { method, path, headers: &headers, body: body.as_bytes() };
        http::send(self.port, &request, SOON).unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    }

    fn until_state(&self, wanted: &str) {
        let state = || self.ask("GET", "/api/v1/rollouts/shop-1", "").json()["state"].clone();
        assert!(poll(SOON, || (state() == wanted).then_some(())).is_some(), "{}", state());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_that_is_wrong_at_the_start_keeps_neither_the_others_nor_what_runs_from_going_on() {
    let place = Place::new().await;
    tokio::task::spawn_blocking(move || walk(&place)).await.expect("no panic");
}

fn walk(place: &Place) {
    let (mut process, ready) = place.up();
    assert_eq!(ready, json!({"ready": true, "rule-problems": 0}));
    let started = place.ask("POST", "/api/v1/rules/shop/start", "{\"version\": \"2\"}");
    assert!((200..300).contains(&started.status), "{}", started.text());
    place.until_state("progressing");
    process.kill();

    place.put("shop", &rule("shop").replace("weight: 50%", WRONG));
    let (mut process, ready) = place.up();
    assert_eq!(ready, json!({"ready": true, "rule-problems": 1}));
    let rules = place.ask("GET", "/api/v1/rules", "").json();
    let names: Vec<&str> = rules["rules"].as_array().expect("rules").iter().map(|rule| rule["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["cart"]);
    assert!(rules["reload-problems"][0].as_str().is_some_and(|said| said.contains("shop.yaml:8: steps[0].weight: 150%")), "{rules}");
    assert!(process.log().contains("150%"), "{}", process.log());
    assert!(place.ask("GET", "/metrics", "").text().contains("canaryd_rules_valid 0\n"));
    // it began with a rule that was good, and goes on as if nobody had restarted
    place.until_state("progressing");
    let other = place.ask("POST", "/api/v1/rules/cart/start", "{\"version\": \"2\"}");
    assert!((200..300).contains(&other.status), "{}", other.text());
    let back = place.ask("POST", "/api/v1/rollouts/cart-1/rollback", "{}");
    assert!((200..300).contains(&back.status), "{}", back.text());
    process.kill();

    let (code, log) = place.refused(&["--strict"]);
    assert!(code == Some(1) && log.contains("rules are refused") && log.contains("150%"), "{code:?}: {log}");

    // nothing is good, and something runs
    place.put("cart", &rule("cart").replace("weight: 50%", WRONG));
    let (mut process, ready) = place.up();
    assert_eq!(ready["rule-problems"], 2);
    place.until_state("progressing");
    let back = place.ask("POST", "/api/v1/rollouts/shop-1/rollback", "{}");
    assert!((200..300).contains(&back.status), "{}", back.text());
    place.until_state("rolled-back");
    let over =
        || place.ask("GET", "/api/v1/rollouts", "").json()["rollouts"].as_array().is_some_and(|all| all.iter().all(|r| r["over"] == true));
    assert!(poll(SOON, || over().then_some(())).is_some(), "{}", process.log());
    assert!(process.stop().success());

    // nothing is good, and nothing runs: a first installation would look like this
    let (code, log) = place.refused(&[]);
    assert!(code == Some(1) && log.contains("rules are refused"), "{code:?}: {log}");
    // what is corrected is in force again
    place.put("shop", &rule("shop"));
    let (_process, ready) = place.up();
    assert_eq!(ready["rule-problems"], 1);
    assert!(place.ask("GET", "/api/v1/rules", "").text().contains("\"shop\""));
}
