//! A real Alertmanager with generated settings: fires what a test gives it, sends it to a webhook, shows what it was told.

use super::http::{self, Request};
use super::process::Process;
use super::{ports, require};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Where it sends what fires: one webhook for everything, quick.
#[derive(Clone, Debug, Default)]
pub(crate) struct Webhook {
    /// The address.
    pub(crate) url: String,
    /// Its bearer token.
    pub(crate) token: String,
}

/// A running Alertmanager.
pub(crate) struct Alertmanager {
    process: Process,
    program: PathBuf,
    folder: PathBuf,
    /// Its port.
    pub(crate) port: u16,
}

impl Alertmanager {
    /// Starts one that keeps everything in `folder`; `None` if skipped (see `require`).
    pub(crate) fn start(folder: &Path, webhook: &Webhook) -> Option<Self> {
        let program = require("alertmanager")?;
        std::fs::create_dir_all(folder).expect("the folder can be made");
        std::fs::write(folder.join("alertmanager.yml"), settings(webhook).to_string()).expect("the settings can be written");
        let port = ports::free();
        let process = launch(&program, folder, port);
        Some(Self { process, program, folder: folder.to_owned(), port })
    }

    /// Its address, for a client.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Kills it without a goodbye.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same data and port.
    pub(crate) fn restart(&mut self) {
        self.process.kill();
        self.process = launch(&self.program, &self.folder, self.port);
    }

    /// Posts alerts as a Prometheus does: `[{labels, annotations, startsAt, endsAt}]`.
    ///
    /// # Panics
    /// If it refuses them.
    pub(crate) fn post(&self, alerts: &Value) {
        let headers = [("content-type", "application/json")];
        let body = alerts.to_string();
        let request = Request { method: "POST", path: "/api/v2/alerts", headers: &headers, body: body.as_bytes() };
        let answer = http::send(self.port, &request, ANSWER_MAX).expect("Alertmanager answers");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Silences every alert of this name for an hour.
    ///
    /// # Panics
    /// If it refuses to.
    pub(crate) fn silence(&self, alertname: &str) {
        let now = jiff::Timestamp::now();
        let matcher = json!({ "name": "alertname", "value": alertname, "isRegex": false });
        let body = json!({
            "matchers": [matcher], "startsAt": now.to_string(), "endsAt": (now + Duration::from_secs(3600)).to_string(),
            "createdBy": "tests", "comment": "tests",
        });
        let body = body.to_string();
        let headers = [("content-type", "application/json")];
        let request = Request { method: "POST", path: "/api/v2/silences", headers: &headers, body: body.as_bytes() };
        let answer = http::send(self.port, &request, ANSWER_MAX).expect("Alertmanager answers");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// The alerts it knows, ours or not, that fire.
    pub(crate) fn alerts(&self) -> Vec<Value> {
        let answer = http::get(self.port, "/api/v2/alerts", ANSWER_MAX).expect("Alertmanager answers");
        answer.json().as_array().expect("a list").clone()
    }

    /// One of its own metrics, summed over its labels.
    pub(crate) fn metric(&self, name: &str, label: &str) -> f64 {
        let page = http::get(self.port, "/metrics", ANSWER_MAX).expect("Alertmanager answers").text();
        let lines = page.lines().filter(|l| l.starts_with(&format!("{name}{{")) && l.contains(label));
        lines.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

fn launch(program: &Path, folder: &Path, port: u16) -> Process {
    let arguments = [
        format!("--config.file={}", folder.join("alertmanager.yml").display()),
        format!("--storage.path={}", folder.join("data").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
        "--cluster.listen-address=".to_owned(),
        format!("--web.external-url=http://127.0.0.1:{port}"),
    ];
    let mut process = Process::spawn("alertmanager", program, &arguments.map(Into::into), &folder.join("alertmanager.log"));
    process.wait_ready(port, "/-/ready");
    process
}

/// JSON is YAML too, and quotes itself.
fn settings(webhook: &Webhook) -> Value {
    let mut receiver = json!({ "name": "hook" });
    if !webhook.url.is_empty() {
        let authorization = json!({ "credentials": webhook.token });
        receiver["webhook_configs"] =
            json!([{ "url": webhook.url, "send_resolved": true, "http_config": { "authorization": authorization } }]);
    }
    json!({
        "global": { "resolve_timeout": "5m" },
        "route": { "receiver": "hook", "group_by": ["alertname"], "group_wait": "200ms", "group_interval": "1s", "repeat_interval": "5s" },
        "receivers": [receiver],
    })
}
