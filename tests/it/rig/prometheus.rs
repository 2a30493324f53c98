//! A real Prometheus, Debian's or the newest, with generated settings, a folder of its own, remote write for injected history
//! and instant queries.
//!
//! 2.42 scrapes first 5 s after its start whatever the interval (its target manager); a test that only needs data writes it.

use super::http::{self, Request, encode};
use super::process::Process;
pub(crate) use super::remote_write::{Series, stale};
use super::{READY_MAX, poll, ports, remote_write, require};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

const ANSWER_MAX: Duration = Duration::from_secs(30);

/// A scrape job.
#[derive(Clone, Debug, Default)]
pub(crate) struct Job {
    /// Its name.
    pub(crate) name: String,
    /// Port of 127.0.0.1.
    pub(crate) port: u16,
    /// Path of the metrics.
    pub(crate) path: String,
    /// Labels of the target.
    pub(crate) labels: Vec<(String, String)>,
}

impl Job {
    /// A job with labels.
    pub(crate) fn new(name: &str, port: u16, path: &str, labels: &[(&str, &str)]) -> Self {
        Self { name: name.to_owned(), port, path: path.to_owned(), labels: owned(labels) }
    }
}

fn owned(labels: &[(&str, &str)]) -> Vec<(String, String)> {
    labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
}

/// One row of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    /// Labels, the name among them.
    pub(crate) labels: BTreeMap<String, String>,
    /// Value.
    pub(crate) value: f64,
}

/// Which Prometheus: what a client sees of them differs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Version {
    /// 2.42, Debian's.
    #[default]
    Two,
    /// 3.15: ranges open on the left, `le` spelled `1.0`, answers with `infos`.
    Three,
}

impl Version {
    /// Both.
    pub(crate) const BOTH: [Version; 2] = [Version::Two, Version::Three];

    const fn component(self) -> &'static str {
        match self {
            Self::Two => "prometheus",
            Self::Three => "prometheus3",
        }
    }
}

/// How a Prometheus is started. `Default`: 2.42, 1 s scrapes of nothing, open to everyone on 127.0.0.1.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Which one.
    pub(crate) version: Version,
    /// Distance of scrapes.
    pub(crate) scrape: Duration,
    /// What it scrapes.
    pub(crate) jobs: Vec<Job>,
    /// Its web configuration (TLS, users), if any.
    pub(crate) web: Option<serde_json::Value>,
    /// Where its API begins, such as `/prom`; empty for the root.
    pub(crate) prefix: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { version: Version::default(), scrape: Duration::from_secs(1), jobs: Vec::new(), web: None, prefix: String::new() }
    }
}

/// Runs a test on each version, against an empty server in a folder of its own; a version that is not there is skipped.
pub(crate) fn on_both(test: impl AsyncFn(&Prometheus)) {
    // one after the other, and not only one: a case that does not hold on one of them says which by the end of its log
    for version in Version::BOTH {
        let Some(prometheus) = Prometheus::empty(version) else { continue };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(test(&prometheus));
    }
}

/// A running Prometheus.
pub(crate) struct Prometheus {
    process: Process,
    program: PathBuf,
    folder: PathBuf,
    settings: Settings,
    /// Gone with the handle, where nobody gave a folder.
    own_folder: Option<tempfile::TempDir>,
    /// Its port.
    pub(crate) port: u16,
}

impl Prometheus {
    /// Starts one that keeps everything in `folder`, with 1 s scrapes; `None` if skipped (see `require`).
    pub(crate) fn start(folder: &Path, jobs: &[Job]) -> Option<Self> {
        Self::start_every(folder, Duration::from_secs(1), jobs)
    }

    /// The same with scrapes this far apart.
    pub(crate) fn start_every(folder: &Path, scrape: Duration, jobs: &[Job]) -> Option<Self> {
        Self::start_with(folder, Settings { scrape, jobs: jobs.to_vec(), ..Settings::default() })
    }

    /// The same with every setting.
    pub(crate) fn start_with(folder: &Path, settings: Settings) -> Option<Self> {
        let program = require(settings.version.component())?;
        std::fs::create_dir_all(folder).expect("the folder can be made");
        write_settings(folder, &settings);
        let port = ports::free();
        let process = launch(&program, folder, port, &settings);
        Some(Self { process, program, folder: folder.to_owned(), settings, own_folder: None, port })
    }

    /// One of this version that scrapes nothing, in a folder of its own.
    pub(crate) fn empty(version: Version) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let mut prometheus = Self::start_with(folder.path(), Settings { version, ..Settings::default() })?;
        prometheus.own_folder = Some(folder);
        Some(prometheus)
    }

    /// Which one it is.
    pub(crate) fn version(&self) -> Version {
        self.settings.version
    }

    /// Its address, for a client.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Kills it without a goodbye.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Stops it as an operator would.
    pub(crate) fn stop(&mut self) {
        self.process.stop();
    }

    /// The process, for signals.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Starts it again on the same data and port, after [`Self::kill`] or [`Self::stop`].
    pub(crate) fn restart(&mut self) {
        self.process.kill();
        self.process = launch(&self.program, &self.folder, self.port, &self.settings);
    }

    /// Takes other scrape settings in without a restart.
    ///
    /// # Panics
    /// If it refuses them.
    pub(crate) fn rescrape(&mut self, scrape: Duration, jobs: &[Job]) {
        self.settings = Settings { scrape, jobs: jobs.to_vec(), ..self.settings.clone() };
        write_settings(&self.folder, &self.settings);
        let reload = Request { method: "POST", path: "/-/reload", ..Request::default() };
        let answer = http::send(self.port, &reload, ANSWER_MAX).expect("Prometheus answers");
        assert_eq!(answer.status, 200, "reload: {}", answer.text());
    }

    /// Writes samples, up to 48 h old, in any order; they can be read at once.
    ///
    /// # Panics
    /// If Prometheus refuses them.
    pub(crate) fn write(&self, series: &[Series]) {
        let body = remote_write::request(series);
        let headers =
            [("content-encoding", "snappy"), ("content-type", "application/x-protobuf"), ("x-prometheus-remote-write-version", "0.1.0")];
        let request = Request { method: "POST", path: "/api/v1/write", headers: &headers, body: &body };
        let answer = http::send(self.port, &request, ANSWER_MAX).expect("Prometheus answers");
        assert_eq!(answer.status, 204, "remote write: {}", answer.text());
    }

    /// An instant query: now, or at a Unix time in seconds.
    ///
    /// # Panics
    /// If it fails, or a row has no plain value.
    pub(crate) fn instant(&self, query: &str, at_s: Option<f64>) -> Vec<Row> {
        let time = at_s.map(|t| format!("&time={t}")).unwrap_or_default();
        let path = format!("/api/v1/query?query={}{time}", encode(query));
        let answer = http::get(self.port, &path, ANSWER_MAX).expect("Prometheus answers");
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        let json = answer.json();
        json["data"]["result"].as_array().expect("a vector").iter().map(|row| decoded(query, row)).collect()
    }

    /// The value of a query that gives one row; `None` if it gives none.
    ///
    /// # Panics
    /// As [`Self::instant`], and if there are several rows.
    pub(crate) fn value(&self, query: &str) -> Option<f64> {
        let rows = self.instant(query, None);
        assert!(rows.len() <= 1, "{query} gives {} rows", rows.len());
        rows.first().map(|row| row.value)
    }
}

fn decoded(query: &str, row: &serde_json::Value) -> Row {
    let labels = row["metric"].as_object().expect("labels").iter();
    let labels = labels.map(|(n, v)| (n.clone(), v.as_str().unwrap_or_default().to_owned())).collect();
    let text = row["value"][1].as_str().unwrap_or_else(|| panic!("{query}: no plain value in {row}"));
    Row { labels, value: text.parse().unwrap_or_else(|_| panic!("{query}: {text:?} is no number")) }
}

fn launch(program: &Path, folder: &Path, port: u16, settings: &Settings) -> Process {
    let mut arguments = vec![
        format!("--config.file={}", folder.join("prometheus.yml").display()),
        format!("--storage.tsdb.path={}", folder.join("data").display()),
        "--storage.tsdb.retention.time=3650d".to_owned(),
        format!("--web.listen-address=127.0.0.1:{port}"),
        "--web.enable-lifecycle".to_owned(),
        "--web.enable-admin-api".to_owned(),
        "--web.enable-remote-write-receiver".to_owned(),
    ];
    match settings.version {
        Version::Two => arguments.push("--enable-feature=native-histograms".to_owned()),
        // the first scrape after 1 s instead of 5 to 10
        Version::Three => arguments.push("--scrape.discovery-reload-interval=100ms".to_owned()),
    }
    if !settings.prefix.is_empty() {
        arguments.push(format!("--web.external-url=http://127.0.0.1:{port}{}", settings.prefix));
    }
    let guarded = settings.web.is_some();
    if guarded {
        arguments.push(format!("--web.config.file={}", folder.join("web.yml").display()));
    }
    // whoever may not ask it must read in its log that it is ready
    arguments.push(format!("--log.level={}", if guarded { "info" } else { "warn" }));
    let log = folder.join("prometheus.log");
    let arguments: Vec<_> = arguments.into_iter().map(Into::into).collect();
    let ready_times = |log: &str| log.matches("Server is ready to receive web requests").count();
    // a restart goes on in the same log
    let before = std::fs::read_to_string(&log).map_or(0, |log| ready_times(&log));
    let mut process = Process::spawn(settings.version.component(), program, &arguments, &log);
    if guarded {
        let ready = poll(READY_MAX, || (ready_times(&process.log()) > before).then_some(()));
        assert!(ready.is_some(), "not ready within {READY_MAX:?}:\n{}", process.log());
    } else {
        process.wait_ready(port, &format!("{}/-/ready", settings.prefix));
    }
    process
}

fn write_settings(folder: &Path, settings: &Settings) {
    std::fs::write(folder.join("prometheus.yml"), scrape_settings(settings.scrape, &settings.jobs)).expect("the settings can be written");
    if let Some(web) = &settings.web {
        std::fs::write(folder.join("web.yml"), web.to_string()).expect("the settings can be written");
    }
}

/// JSON is YAML too, and quotes itself.
fn scrape_settings(scrape: Duration, jobs: &[Job]) -> String {
    let jobs: Vec<serde_json::Value> = jobs
        .iter()
        .map(|job| {
            let labels: BTreeMap<_, _> = job.labels.iter().cloned().collect();
            let target = serde_json::json!({ "targets": [format!("127.0.0.1:{}", job.port)], "labels": labels });
            serde_json::json!({ "job_name": job.name, "metrics_path": job.path, "static_configs": [target] })
        })
        .collect();
    serde_json::json!({
        "global": { "scrape_interval": format!("{}ms", scrape.as_millis()), "scrape_timeout": "900ms", "evaluation_interval": "1s" },
        "storage": { "tsdb": { "out_of_order_time_window": "48h" } },
        "scrape_configs": jobs,
    })
    .to_string()
}
