//! A real Prometheus with generated settings, a folder of its own, remote write for injected history and instant queries.
//!
//! Scraping starts 5 s after the start whatever the interval (2.42's target manager); a test that only needs data writes it.

use super::http::{self, Request, encode};
use super::process::Process;
use super::{ports, require};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

const ANSWER_MAX: Duration = Duration::from_secs(10);

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

/// One series to be written.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    labels: Vec<(String, String)>,
    samples: Vec<(i64, f64)>,
}

impl Series {
    /// A series without samples.
    pub(crate) fn new(name: &str, labels: &[(&str, &str)]) -> Self {
        let mut labels = owned(labels);
        labels.push(("__name__".to_owned(), name.to_owned()));
        labels.sort();
        Self { labels, samples: Vec::new() }
    }

    /// With one more sample: Unix time in milliseconds, value.
    pub(crate) fn at(mut self, time_ms: i64, value: f64) -> Self {
        self.samples.push((time_ms, value));
        self
    }
}

/// One row of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    /// Labels, the name among them.
    pub(crate) labels: BTreeMap<String, String>,
    /// Value.
    pub(crate) value: f64,
}

/// A running Prometheus.
pub(crate) struct Prometheus {
    process: Process,
    program: PathBuf,
    folder: PathBuf,
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
        let program = require("prometheus")?;
        std::fs::create_dir_all(folder).expect("the folder can be made");
        std::fs::write(folder.join("prometheus.yml"), settings(scrape, jobs)).expect("the settings can be written");
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
        self.process = launch(&self.program, &self.folder, self.port);
    }

    /// Writes samples, up to 48 h old, in any order; they can be read at once.
    ///
    /// # Panics
    /// If Prometheus refuses them.
    pub(crate) fn write(&self, series: &[Series]) {
        let body = snap::raw::Encoder::new().compress_vec(&encoded(series)).expect("snappy");
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

fn launch(program: &Path, folder: &Path, port: u16) -> Process {
    let arguments = [
        format!("--config.file={}", folder.join("prometheus.yml").display()),
        format!("--storage.tsdb.path={}", folder.join("data").display()),
        "--storage.tsdb.retention.time=3650d".to_owned(),
        format!("--web.listen-address=127.0.0.1:{port}"),
        "--web.enable-lifecycle".to_owned(),
        "--web.enable-admin-api".to_owned(),
        "--web.enable-remote-write-receiver".to_owned(),
        "--log.level=warn".to_owned(),
    ];
    let mut process = Process::spawn("prometheus", program, &arguments.map(Into::into), &folder.join("prometheus.log"));
    process.wait_ready(port, "/-/ready");
    process
}

/// JSON is YAML too, and quotes itself.
fn settings(scrape: Duration, jobs: &[Job]) -> String {
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

/// `WriteRequest { 1: TimeSeries { 1: Label { 1 name, 2 value }, 2: Sample { 1 double value, 2 int64 ms } } }`.
fn encoded(series: &[Series]) -> Vec<u8> {
    let mut request = Vec::new();
    for one in series {
        let mut message = Vec::new();
        for (name, value) in &one.labels {
            let mut label = Vec::new();
            field(&mut label, 1, name.as_bytes());
            field(&mut label, 2, value.as_bytes());
            field(&mut message, 1, &label);
        }
        for (time_ms, value) in &one.samples {
            let mut sample = vec![1 << 3 | 1]; // field 1, 64 bits
            sample.extend_from_slice(&value.to_le_bytes());
            sample.push(2 << 3); // field 2, varint
            varint(&mut sample, time_ms.cast_unsigned());
            field(&mut message, 2, &sample);
        }
        field(&mut request, 1, &message);
    }
    request
}

/// A length-delimited field.
fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
