//! Bad input through the real binary: what operators mistype and what servers answer when they lie. Every refusal names the
//! place, the value and the way out, and ends with the code of its kind: 1 refused, 2 wrong usage.

use crate::rig::http::{self, Request};
use crate::rig::poll;
use crate::rig::process::Process;
use crate::rig::prometheus::{Prometheus, Series};
use crate::rig::{daemon, ports};
use crate::scripted::{Scripted, answer, vector};
use axum::body::Body;
use serde_json::{Value, json};
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// Longest a daemon may take to say no.
const REFUSAL_MAX: Duration = Duration::from_secs(20);
/// Longest a daemon may take to say what it sees.
const LOOK_MAX: Duration = Duration::from_secs(30);

const RULE: &str = "\
rule: shop
workloads: { pair: [ { version: v1 }, { version: v2 } ] }
telemetry: [ { pack: http, arm: { version: '{version}' } } ]
interval: 1s
traffic: none
steps: [ { weight: 10%, for: 60s }, { weight: 100%, bake: 60s } ]
metrics:
  error-rate: { rollback-above: 5% }
";

/// A folder with a rule and settings, as an operator would write them.
struct Folder(TempDir);

impl Folder {
    fn new(rule: &str, settings: &Value) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("rule.yaml"), rule).expect("the rule can be written");
        let mut all = json!({
            "listen": "127.0.0.1:0",
            "data": "data",
            "rules": ["rule.yaml"],
            "sources": { "main": { "prometheus": { "url": "http://127.0.0.1:1" } } },
        });
        for (key, value) in settings.as_object().into_iter().flatten() {
            all[key] = value.clone();
        }
        fs::write(folder.path().join("canaryd.yaml"), all.to_string()).expect("the settings can be written");
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// `canaryd run` must end by itself: its code and what it said.
    fn refused(&self, more: &[&str]) -> (i32, String) {
        let config = self.path("canaryd.yaml");
        let arguments: Vec<_> = ["run", "--config", &config].iter().chain(more).map(Into::into).collect();
        let mut process = Process::spawn("canaryd", Path::new(env!("CARGO_BIN_EXE_canaryd")), &arguments, &self.0.path().join("log"));
        let ended = poll(REFUSAL_MAX, || process.ended()).unwrap_or_else(|| panic!("it runs: {}", process.log()));
        (ended.code().unwrap_or(-1), process.log())
    }
}

/// The real binary, run to its end.
fn canaryd(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_canaryd"));
    let output = command.args(arguments).env_remove("CANARYD_SERVER").stdin(Stdio::null()).output().expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_bad_rule_stops_the_start_and_is_told_by_place_value_and_way_out() {
    let cases = [
        ("weight: 10%", "weight: 150%", "rule.yaml:6: steps[0].weight: 150% exceeds 100%: write a share between 0% and 100%"),
        ("weight: 10%", "weight: NaN%", "rule.yaml:6: steps[0].weight: \"NaN%\""),
        ("pack: http", "pack: htttp", "rule.yaml:3: telemetry[0].pack: no query pack is named \"htttp\": did you mean \"http\"?"),
        ("traffic: none", "trafic: none", "rule.yaml:5: trafic: no such key: did you mean \"traffic\"?"),
        ("{ rollback-above: 5% }", "{ rollback-above: 5%", "rule.yaml:8: not YAML"),
        ("rollback-above: 5%", "rollback-above: .nan", "rule.yaml:8: not YAML: non-finite float `.nan`"),
    ];
    for (good, bad, told) in cases {
        let folder = Folder::new(&RULE.replace(good, bad), &json!({}));
        let (code, log) = folder.refused(&[]);
        assert!(code == 1 && log.contains("rules are refused") && log.contains(told), "{bad}: {code}: {log}");
        let (code, _, errors) = canaryd(&["check", &folder.path("rule.yaml")]);
        assert!(code == 1 && errors.contains(told), "check says the same of {bad}: {code}: {errors}");
    }
}

#[test]
fn a_part_that_needs_a_cluster_is_refused_with_its_sentence_where_there_is_none() {
    let workloads = "{ namespace: shop, pair: [ { deployment: a, version: v1 }, { deployment: b, version: v2 } ] }";
    let rule = RULE.replace("{ pair: [ { version: v1 }, { version: v2 } ] }", workloads) + "start: { when: new-template }\n";
    let folder = Folder::new(&rule, &json!({}));
    let (code, log) = folder.refused(&[]);
    let told = "rule.yaml:9: start.when: there is no cluster, and starting at a new template needs one: name one in the settings";
    assert!(code == 1 && log.contains(told), "{code}: {log}");
    // a rule is checked long before its daemon can run it
    let (code, page, _) = canaryd(&["check", &folder.path("rule.yaml")]);
    assert!(code == 0 && page.contains("`run` refuses it: line 9: start.when"), "{code}: {page}");
}

#[test]
fn bad_settings_stop_the_start() {
    let cases = [
        (json!({ "lisen": "127.0.0.1:1" }), "lisen: no such key: did you mean \"listen\"?"),
        (json!({ "time_scale": f64::MAX }), "time_scale"),
        (json!({ "time_scale": ".nan" }), "time_scale"),
        (json!({ "listen": "0.0.0.0:7878" }), "0.0.0.0:7878 can be reached from other machines, and there are no tokens"),
        (json!({ "listen": "[::]:7878" }), "can be reached from other machines, and there are no tokens"),
        (json!({ "tokens": "nowhere" }), "nowhere: cannot be read"),
        (json!({ "sources": { "main": { "prometheus": { "url": "prometheus:9090" } } } }), "sources.main.prometheus.url"),
        (json!({ "sources": { "main": { "promtheus": {} } } }), "promtheus"),
    ];
    for (settings, told) in cases {
        let (code, log) = Folder::new(RULE, &settings).refused(&[]);
        assert!(code == 2 && log.contains(told), "{settings}: {code}: {log}");
    }
    let folder = Folder::new(RULE, &json!({}));
    fs::write(folder.path("canaryd.yaml"), "listen: [ {").expect("the settings can be written");
    let (code, log) = folder.refused(&[]);
    assert!(code == 2 && log.contains("canaryd.yaml:1: not YAML"), "{code}: {log}");
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let (code, log) = Folder::new(RULE, &json!({ "listen": address })).refused(&[]);
    assert!(code == 1 && log.contains(&format!("listening on {address}: Address already in use")), "{code}: {log}");
}

#[test]
fn a_data_folder_that_cannot_be_written_is_named() {
    let folder = Folder::new(RULE, &json!({ "data": "rule.yaml/data" }));
    let (code, log) = folder.refused(&[]);
    assert!(code == 1 && log.contains("rule.yaml/data: the folder cannot be made"), "{code}: {log}");
}

#[test]
fn a_journal_of_a_newer_build_or_no_journal_at_all_is_left_alone() {
    let folder = Folder::new(RULE, &json!({}));
    fs::create_dir(folder.path("data")).expect("a folder");
    let file = folder.path("data/journal.db");
    let newer = rusqlite::Connection::open(&file).expect("a database");
    newer.execute_batch("CREATE TABLE future (what TEXT); INSERT INTO future VALUES ('kept'); PRAGMA user_version = 99").expect("made");
    drop(newer);
    let (code, log) = folder.refused(&[]);
    let told = ["journal.db has schema 99, this build knows up to ", ": run the newer canaryd, or give another --data folder"];
    assert!(code == 1 && told.iter().all(|part| log.contains(part)), "{code}: {log}");
    let newer = rusqlite::Connection::open(&file).expect("a database");
    let kept: (i64, String) = newer
        .query_row("SELECT user_version, what FROM pragma_user_version, future", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .expect("still there");
    assert_eq!(kept, (99, "kept".to_owned()));
    drop(newer);

    fs::write(&file, "no database at all, but longer than the header of one would be: ".repeat(4)).expect("a file");
    let (code, log) = folder.refused(&[]);
    assert!(code == 1 && log.contains("it is no SQLite database, or damaged: move it away, or restore a copy"), "{code}: {log}");
}

#[test]
fn a_second_daemon_on_the_same_data_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let daemon = running(folder.path(), "http://127.0.0.1:1", RULE);
    let (code, log) = Folder::new(RULE, &json!({ "data": folder.path().join("data") })).refused(&[]);
    assert!(code == 1 && log.contains("uses this folder: stop it, or give this one another --data folder"), "{code}: {log}");
    drop(daemon);
}

fn running(folder: &Path, source: &str, rule: &str) -> daemon::Daemon {
    daemon::Daemon::start(folder, &daemon::Settings { source: source.to_owned(), time_scale: 30, rule: rule.to_owned() })
}

#[test]
fn a_wrong_token_changes_nothing_and_is_shown_nowhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut daemon = running(folder.path(), "http://127.0.0.1:1", RULE);
    let wrong = "a-wrong-token-of-the-tests-0042";
    let ask = |headers: &[(&str, &str)]| {
        let request = Request { method: "POST", path: "/api/v1/rules/shop/start", headers, body: b"{}" };
        http::send(daemon.port, &request, Duration::from_secs(5)).expect("an answer")
    };
    let json = ("content-type", "application/json");
    for headers in [vec![json], vec![json, ("authorization", "Bearer a-wrong-token-of-the-tests-0042")]] {
        let refused = ask(&headers);
        assert_eq!(refused.status, 401, "{}", refused.text());
        assert!(!refused.text().contains(wrong), "{}", refused.text());
    }
    let file = folder.path().join("wrong");
    fs::write(&file, wrong).expect("a token file");
    let server = format!("http://127.0.0.1:{}", daemon.port);
    let (code, _, errors) = canaryd(&["start", "shop", "--server", &server, "--token-file", &file.display().to_string()]);
    assert!(code == 1 && errors.contains("token") && !errors.contains(wrong), "{code}: {errors}");
    assert_eq!(daemon.get("/api/v1/rollouts")["rollouts"], json!([]));
    assert!(!daemon.process().log().contains(wrong), "{}", daemon.process().log());
}

/// A rule with its own query, which no loader can parse for Prometheus.
fn with_query(query: &str) -> String {
    format!("{RULE}  queue-depth: {{ query: '{query}', tolerate: {{ relative: 20% }} }}\n")
}

#[test]
fn the_servers_own_words_about_a_bad_query_reach_the_operator() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(prometheus) = Prometheus::start(&folder.path().join("prometheus"), &[]) else { return };
    write(&prometheus, 1.0);
    let rule = with_query("avg(queue_depth{{{workload}}) by by");
    let checked = Folder::new(&rule, &json!({ "sources": { "main": { "prometheus": { "url": prometheus.url() } } } }));
    let (code, page, errors) = canaryd(&["check", "--live", "--config", &checked.path("canaryd.yaml"), &checked.path("rule.yaml")]);
    assert!(code == 1 && page.contains("refused the query") && page.contains("parse error"), "{code}: {page} {errors}");
    assert!(errors.contains("shop: the source does not take what it asks"), "{errors}");
    // the same rule without the slip is taken
    let good = Folder::new(RULE, &json!({ "sources": { "main": { "prometheus": { "url": prometheus.url() } } } }));
    let (code, page, errors) = canaryd(&["check", "--live", "--config", &good.path("canaryd.yaml"), &good.path("rule.yaml")]);
    assert_eq!(code, 0, "{page} {errors}");
    let daemon = running(&folder.path().join("canaryd"), &prometheus.url(), &rule);
    let refused = daemon.ask("POST", "/api/v1/rules/shop/start", &json!({ "version": "2" }));
    assert!(refused.status >= 400 && refused.text().contains("parse error"), "{}: {}", refused.status, refused.text());
}

/// Both versions' counters as an application would have them, now and one scrape ago.
fn write(prometheus: &Prometheus, value: f64) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let now = i64::try_from(since.as_millis()).expect("not yet the year 292 million");
    let series = |version: &str, name: &str, more: &[(&str, &str)]| {
        let mut labels = vec![("version", version), ("job", "shop"), ("instance", version)];
        labels.extend(more);
        Series::new(name, &labels).at(now - 1000, value).at(now, value)
    };
    let all: Vec<Series> = ["v1", "v2"]
        .iter()
        .flat_map(|v| {
            [series(v, "http_requests_total", &[("code", "200")]), series(v, "process_start_time_seconds", &[]), series(v, "up", &[])]
        })
        .collect();
    prometheus.write(&all);
}

#[test]
fn values_that_are_no_numbers_are_blindness() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(prometheus) = Prometheus::start(&folder.path().join("prometheus"), &[]) else { return };
    write(&prometheus, 1.0);
    let daemon = running(&folder.path().join("canaryd"), &prometheus.url(), RULE);
    let started = daemon.post("/api/v1/rules/shop/start", &json!({ "version": "2" }));
    let path = format!("/api/v1/rollouts/{}", started["rollout"].as_str().expect("a name"));
    let told = poll(LOOK_MAX, || {
        write(&prometheus, f64::NAN);
        daemon.get(&path)["holds"].to_string().contains("not-a-number").then_some(())
    });
    assert!(told.is_some(), "{:#}", daemon.get(&path));
    assert_eq!(daemon.get(&path)["over"], false);
}

/// Largest memory a process ever had, bytes.
fn memory_peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).expect("a peak");
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
    kib << 10
}

#[test]
fn an_answer_of_200_megabytes_costs_a_bounded_part_of_them() {
    let huge = Arc::new(AtomicBool::new(false));
    let lies = Arc::clone(&huge);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let server = runtime.block_on(Scripted::start(move |_: &str| {
        if !lies.load(Ordering::Relaxed) {
            return answer(200, vector(&[]));
        }
        let pieces = futures_util::stream::iter((0..3200).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1 << 16])));
        answer(200, Body::from_stream(pieces))
    }));
    let folder = tempfile::tempdir().expect("a folder");
    let mut daemon = running(folder.path(), &server.url, RULE);
    huge.store(true, Ordering::Relaxed);
    let refused = daemon.ask("POST", "/api/v1/rules/shop/start", &json!({ "version": "2" }));
    assert!(refused.status >= 400 && refused.text().contains("larger than 33554432 bytes"), "{}: {}", refused.status, refused.text());
    let peak = memory_peak(daemon.process().pid());
    assert!(peak < 150 << 20, "{peak} bytes of memory");
    assert_eq!(daemon.get("/readyz")["ready"], true);
}

#[test]
fn a_server_that_is_no_prometheus_is_told_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let daemon = running(folder.path(), &format!("http://127.0.0.1:{}", ports::free()), RULE);
    let refused = daemon.ask("POST", "/api/v1/rules/shop/start", &json!({ "version": "2" }));
    assert!(refused.status >= 400 && refused.text().to_lowercase().contains("refused"), "{}: {}", refused.status, refused.text());
}
