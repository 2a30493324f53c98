//! The real binary, run as an operator runs it, and the API asked as a client asks it.

use super::http::{self, Request, Response};
use super::ports;
use super::process::Process;
use serde_json::Value;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::time::Duration;

/// It answers within milliseconds; a busy machine may not let it.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// May approve as product manager, and is called pam.
pub(crate) const APPROVER: &str = "approver-token-of-the-tests-0001";
const OPERATOR: &str = "operator-token-of-the-tests-0001";
/// The token of an Alertmanager that delivers alerts.
pub(crate) const WEBHOOK: &str = "webhook-token-of-the-tests-00001";

/// What the daemon is told.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Prometheus' address.
    pub(crate) source: String,
    /// How much faster the method's clock runs.
    pub(crate) time_scale: u32,
    /// The text of its one rule.
    pub(crate) rule: String,
}

/// A running daemon.
pub(crate) struct Daemon {
    process: Process,
    folder: PathBuf,
    /// Its port.
    pub(crate) port: u16,
}

impl Daemon {
    /// Starts one that keeps everything in `folder`, and waits until it is ready.
    pub(crate) fn start(folder: &Path, settings: &Settings) -> Self {
        Self::start_with(folder, ports::free(), settings, &Value::Null)
    }

    /// The same on this port, with further settings.
    pub(crate) fn start_with(folder: &Path, port: u16, settings: &Settings, more: &Value) -> Self {
        fs::create_dir_all(folder).expect("the folder can be made");
        fs::write(folder.join("rule.yaml"), &settings.rule).expect("the rule can be written");
        let tokens = folder.join("tokens");
        let lines = format!(
            "tests:operator:{OPERATOR}
am:webhook:{WEBHOOK}
pam:approver(product-manager):{APPROVER}
"
        );
        fs::write(&tokens, lines).expect("the tokens can be written");
        fs::set_permissions(&tokens, fs::Permissions::from_mode(0o600)).expect("and kept to ourselves");
        fs::write(folder.join("canaryd.yaml"), file(folder, port, settings, more)).expect("the settings can be written");
        Self { process: launch(folder, port), folder: folder.to_owned(), port }
    }

    /// Kills it without a goodbye.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Stops it as an operator would.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.process.stop()
    }

    /// Starts it again on the same data and port.
    pub(crate) fn restart(&mut self) {
        self.process.kill();
        self.process = launch(&self.folder, self.port);
    }

    /// The same with these settings in the place of those it had.
    pub(crate) fn restart_with(&mut self, more: &Value) {
        let path = self.folder.join("canaryd.yaml");
        let text = fs::read_to_string(&path).expect("the settings can be read");
        let mut settings: Value = serde_json::from_str(&text).expect("they are JSON");
        more.as_object().into_iter().flatten().for_each(|(key, value)| settings[key] = value.clone());
        fs::write(&path, settings.to_string()).expect("the settings can be written");
        self.restart();
    }

    /// Replaces the text of its one rule, in one step; it looks by itself every 5 s, or at once after SIGHUP.
    pub(crate) fn put_rule(&self, text: &str) {
        let beside = self.folder.join("rule.yaml.new");
        fs::write(&beside, text).expect("the rule can be written");
        fs::rename(beside, self.folder.join("rule.yaml")).expect("and put into place");
    }

    /// The text of its one rule.
    pub(crate) fn rule(&self) -> String {
        fs::read_to_string(self.folder.join("rule.yaml")).expect("the rule can be read")
    }

    /// The folder of its journal.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The real binary as the operator's client: what it is asked, with address and token.
    pub(crate) fn client(&self, arguments: &[&str]) -> Output {
        self.client_as(OPERATOR, arguments)
    }

    /// The same as the bearer of this token.
    pub(crate) fn client_as(&self, bearer: &str, arguments: &[&str]) -> Output {
        let token = self.folder.join("token");
        fs::write(&token, bearer).expect("the token can be written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_canaryd"));
        command.args(arguments).env("CANARYD_SERVER", format!("http://127.0.0.1:{}", self.port)).env("CANARYD_TOKEN_FILE", token);
        command.output().expect("the client runs")
    }

    /// The process, for signals and its log.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// A request with the operator's token.
    ///
    /// # Panics
    /// If no answer comes.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> Response {
        let authorization = format!("Bearer {OPERATOR}");
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = Request { method, path, headers: &headers, body: body.as_bytes() };
        http::send(self.port, &request, ANSWER_MAX).unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    }

    /// GET, as JSON.
    ///
    /// # Panics
    /// If the status is not 200.
    pub(crate) fn get(&self, path: &str) -> Value {
        let answer = self.ask("GET", path, &Value::Null);
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.text());
        answer.json()
    }

    /// POST, as JSON (null if the answer is empty).
    ///
    /// # Panics
    /// If the status is no success.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Value {
        let answer = self.ask("POST", path, body);
        assert!((200..300).contains(&answer.status), "POST {path}: {} {}", answer.status, answer.text());
        if answer.body.is_empty() { Value::Null } else { answer.json() }
    }

    /// Ends it as an operator would, and decides every rollout of its journal again.
    ///
    /// # Panics
    /// If it does not end well, complained of itself, or a decision is not made again.
    pub(crate) fn ends_well(&mut self) {
        let rollouts = self.get("/api/v1/rollouts");
        let status = self.stop();
        assert!(status.success(), "it ended with {status}");
        let log = self.process().log();
        let complaints = complaints(&log);
        assert!(complaints.is_empty(), "it complained:\n{}\nIts whole log:\n{log}", complaints.join("\n"));
        for rollout in rollouts["rollouts"].as_array().map(Vec::as_slice).unwrap_or_default() {
            let id = rollout["id"].as_str().expect("a name");
            let replayed = self.client(&["replay", id, "--data", &self.data().display().to_string()]);
            assert!(replayed.status.success(), "{replayed:?}");
        }
    }
}

/// Where a daemon complained of itself. A reload that was refused is an error of the operator, a page is a rollout's, and both name a
/// rule. A journal whose disk did not answer in time, beside a build that keeps it busy, is told as it should be: nothing is lost by it.
pub(crate) fn complaints(log: &str) -> Vec<&str> {
    let is_slow = |line: &str| line.contains("journal failed") && line.contains("no answer within");
    let bad = |line: &&str| line.contains("panicked") || (line.contains(" ERROR ") && !line.contains("rule") && !is_slow(line));
    log.lines().filter(bad).collect()
}

/// The daemon of this build, or another that a measurement is to be made of.
fn program() -> PathBuf {
    std::env::var_os("CANARY_TEST_CANARYD").map_or_else(|| env!("CARGO_BIN_EXE_canaryd").into(), PathBuf::from)
}

fn launch(folder: &Path, port: u16) -> Process {
    let arguments: [OsString; 3] = ["run".into(), "--config".into(), folder.join("canaryd.yaml").into()];
    let mut process = Process::spawn("canaryd", &program(), &arguments, &folder.join("canaryd.log"));
    process.wait_ready(port, "/readyz");
    process
}

/// JSON is YAML too, and quotes itself.
fn file(folder: &Path, port: u16, settings: &Settings, more: &Value) -> String {
    let mut file = serde_json::json!({
        "listen": format!("127.0.0.1:{port}"),
        "data": folder.join("data"),
        "rules": [folder.join("rule.yaml")],
        "tokens": folder.join("tokens"),
        "time_scale": settings.time_scale,
        "sources": { "main": { "prometheus": { "url": settings.source } } },
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        file[key] = value.clone();
    }
    file.to_string()
}
