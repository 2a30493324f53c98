//! A real Prometheus for tests: free port, own folder, samples injected by remote write (hours of data in milliseconds).

use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running server; killed when dropped.
pub(crate) struct PromRig {
    child: Child,
    dir: tempfile::TempDir,
    pub(crate) url: String,
    http: reqwest::Client,
}

impl Drop for PromRig {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port nobody listens on now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

impl PromRig {
    /// Starts one; `None`, with a line that says so, where there is no `prometheus` (an error where CI=true).
    pub(crate) async fn start(test: &str) -> Option<Self> {
        if Command::new("prometheus").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{test}: no prometheus on the PATH");
            let _ = writeln!(std::io::stderr(), "skipped {test}: no prometheus on the PATH");
            return None;
        }
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().expect("a folder");
        let config = dir.path().join("p.yml");
        std::fs::write(&config, "storage: { tsdb: { out_of_order_time_window: 48h } }\n").expect("config");
        let port = free_port();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg("--storage.tsdb.retention.time=3650d")
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(["--web.enable-remote-write-receiver", "--enable-feature=native-histograms", "--log.level=warn"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus starts");
        let http = reqwest::Client::builder().tls_certs_only([]).timeout(Duration::from_secs(10)).build().expect("client");
        let rig = Self { child, dir, url: format!("http://127.0.0.1:{port}"), http };
        rig.wait_ready().await;
        Some(rig)
    }

    async fn wait_ready(&self) {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let answer = self.http.get(format!("{}/-/ready", self.url)).send().await;
            if answer.is_ok_and(|a| a.status().is_success()) {
                return;
            }
            assert!(Instant::now() < until, "prometheus in {} is not ready", self.dir.path().display());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Writes samples: `(series, [(ms, value)])` with series as `name{label="value",...}`.
    pub(crate) async fn write(&self, series: &[(String, Vec<(i64, f64)>)]) {
        self.send(series.iter().flat_map(|(name, samples)| field(1, &time_series(name, samples))).collect()).await;
    }

    /// Writes native histograms of one bucket: `(series, [(ms, count)])`.
    pub(crate) async fn write_native(&self, series: &[(String, Vec<(i64, u64)>)]) {
        let one = |(name, samples): &(String, Vec<(i64, u64)>)| {
            let histograms = samples.iter().flat_map(|(at, count)| field(4, &native(*at, *count)));
            field(1, &time_series(name, &[]).into_iter().chain(histograms).collect::<Vec<_>>())
        };
        self.send(series.iter().flat_map(one).collect()).await;
    }

    async fn send(&self, body: Vec<u8>) {
        let body = snap::raw::Encoder::new().compress_vec(&body).expect("snappy");
        let sent = self
            .http
            .post(format!("{}/api/v1/write", self.url))
            .header("Content-Encoding", "snappy")
            .header("Content-Type", "application/x-protobuf")
            .header("X-Prometheus-Remote-Write-Version", "0.1.0")
            .body(body)
            .send()
            .await
            .expect("remote write");
        let status = sent.status();
        assert!(status.is_success(), "remote write: {status} {}", sent.text().await.unwrap_or_default());
    }
}

/// The staleness marker a failed scrape leaves.
pub(crate) fn stale() -> f64 {
    f64::from_bits(0x7ff0_0000_0000_0002)
}

fn varint(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push((n as u8) | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// A length-delimited protobuf field.
fn field(number: u64, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint(number << 3 | 2, &mut out);
    varint(body.len() as u64, &mut out);
    out.extend_from_slice(body);
    out
}

fn label(name: &str, value: &str) -> Vec<u8> {
    field(1, &[field(1, name.as_bytes()), field(2, value.as_bytes())].concat())
}

/// `Histogram { 1: count, 3: sum, 4: schema 0, 5: zero threshold, 6: zero count, 11: span { 1: offset 0, 2: length 1 },
/// 12: deltas, 15: ms }`.
fn native(at: i64, count: u64) -> Vec<u8> {
    let number = |number: u64, value: u64, out: &mut Vec<u8>| {
        varint(number << 3, out);
        varint(value, out);
    };
    let double = |number: u64, value: f64, out: &mut Vec<u8>| {
        varint(number << 3 | 1, out);
        out.extend_from_slice(&value.to_le_bytes());
    };
    let (mut out, mut span, mut delta) = (Vec::new(), Vec::new(), Vec::new());
    number(1, count, &mut out);
    double(3, count as f64, &mut out);
    number(4, 0, &mut out);
    double(5, 1e-128, &mut out);
    number(6, 0, &mut out);
    number(1, 0, &mut span);
    number(2, 1, &mut span);
    out.extend(field(11, &span));
    varint(count * 2, &mut delta); // zigzag
    out.extend(field(12, &delta));
    number(15, at as u64, &mut out);
    out
}

/// `TimeSeries { 1: Label { 1: name, 2: value }, 2: Sample { 1: double, 2: int64 ms } }`, labels sorted by name.
fn time_series(series: &str, samples: &[(i64, f64)]) -> Vec<u8> {
    let (name, rest) = series.split_once('{').unwrap_or((series, "}"));
    let mut labels = vec![("__name__", name)];
    for pair in rest.trim_end_matches('}').split("\",").filter(|p| !p.is_empty()) {
        let (label, value) = pair.split_once("=\"").expect("label=\"value\"");
        labels.push((label, value.trim_end_matches('"')));
    }
    labels.sort_unstable();
    let mut out: Vec<u8> = labels.iter().flat_map(|(n, v)| label(n, v)).collect();
    for (at, value) in samples {
        let mut sample = vec![1 << 3 | 1];
        sample.extend_from_slice(&value.to_le_bytes());
        sample.push(2 << 3);
        varint(*at as u64, &mut sample);
        out.extend(field(2, &sample));
    }
    out
}
