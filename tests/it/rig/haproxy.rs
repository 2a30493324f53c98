//! A real HAProxy: one backend `shop` with one server per version, its exporter, and runtime sockets of two levels.

use super::process::Process;
use super::{poll, ports, require};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

const ANSWER_MAX: Duration = Duration::from_secs(20);
/// The backend's name.
pub(crate) const BACKEND: &str = "shop";
/// The servers' names.
pub(crate) const SERVERS: [&str; 2] = ["v1", "v2"];

/// How a HAProxy is set up.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Ports of the servers: the stable version's first.
    pub(crate) ports: [u16; 2],
    /// Their weights in the file.
    pub(crate) weights: [u16; 2],
    /// The word after `balance`.
    pub(crate) balance: &'static str,
    /// Further words of both servers.
    pub(crate) options: &'static str,
    /// Further lines of the backend.
    pub(crate) more: String,
}

impl Settings {
    /// Roundrobin, all traffic on the first, a request that finds no server fails at once.
    pub(crate) fn new(v1: u16, v2: u16) -> Self {
        Self { ports: [v1, v2], weights: [100, 0], balance: "roundrobin", options: "", more: String::new() }
    }
}

/// A running HAProxy.
pub(crate) struct Haproxy {
    process: Process,
    program: PathBuf,
    folder: PathBuf,
    /// Port of its users.
    pub(crate) listener: u16,
    /// Port of the exporter, at `/metrics`.
    pub(crate) exporter: u16,
    /// Port of the runtime socket of level admin.
    pub(crate) admin: u16,
}

impl Haproxy {
    /// Starts one that keeps its files in `folder`; `None` if skipped (see `require`).
    pub(crate) fn start(folder: &Path, settings: &Settings) -> Option<Self> {
        let program = require("haproxy")?;
        std::fs::create_dir_all(folder).expect("the folder can be made");
        let [listener, exporter, admin] = [ports::free(), ports::free(), ports::free()];
        let file = file(folder, settings, [listener, exporter, admin]);
        std::fs::write(folder.join("haproxy.cfg"), file).expect("the file can be written");
        let process = launch(&program, folder, exporter);
        Some(Self { process, program, folder: folder.to_owned(), listener, exporter, admin })
    }

    /// Path of the runtime socket of this level: `admin` or `operator`.
    pub(crate) fn socket(&self, level: &str) -> PathBuf {
        self.folder.join(format!("{level}.sock"))
    }

    /// What it answers a line, by the UNIX socket, as an operator asks with socat.
    ///
    /// # Panics
    /// If it does not answer.
    pub(crate) fn ask(&self, line: &str) -> String {
        ask(&self.socket("admin"), line)
    }

    /// Gives both servers these weights, as another hand does.
    ///
    /// # Panics
    /// If it refuses.
    pub(crate) fn shift(&self, weights: [u64; 2]) {
        shift(&self.socket("admin"), weights);
    }

    /// The weights in force.
    pub(crate) fn weights(&self) -> [u64; 2] {
        weights(&self.socket("admin"))
    }

    /// Waits until `show stat` gives this server a status that begins so.
    ///
    /// # Panics
    /// If it does not in time.
    pub(crate) fn wait_status(&self, server: &str, status: &str) {
        let row = || {
            let answer = self.ask(&format!("show stat {BACKEND} 4 -1"));
            answer.lines().find(|line| line.starts_with(&format!("{BACKEND},{server},"))).unwrap_or_default().to_owned()
        };
        let seen = poll(super::READY_MAX, || row().split(',').nth(17).filter(|s| s.starts_with(status)).map(|_| ()));
        assert!(seen.is_some(), "{server} is not {status}: {}", row());
    }

    /// The process, for signals.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Starts it again with the same ports and file, after a kill.
    pub(crate) fn restart(&mut self) {
        self.process.kill();
        self.process = launch(&self.program, &self.folder, self.exporter);
    }
}

/// Gives both servers these weights, by its socket.
///
/// # Panics
/// If it refuses.
pub(crate) fn shift(socket: &Path, weights: [u64; 2]) {
    let set = |i: usize| format!("set weight {BACKEND}/{} {}", SERVERS[i], weights[i]);
    let answer = ask(socket, &format!("{}; {}", set(0), set(1)));
    assert_eq!(answer.trim(), "", "HAProxy refused");
}

/// The weights in force, by its socket.
///
/// # Panics
/// If it does not answer with both.
pub(crate) fn weights(socket: &Path) -> [u64; 2] {
    SERVERS.map(|server| {
        let answer = ask(socket, &format!("get weight {BACKEND}/{server}"));
        answer.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("no weight of {server} in {answer:?}"))
    })
}

fn ask(socket: &Path, line: &str) -> String {
    let mut stream = UnixStream::connect(socket).expect("HAProxy listens on its socket");
    stream.set_read_timeout(Some(ANSWER_MAX)).expect("a timeout");
    stream.write_all(format!("{line}\n").as_bytes()).expect("the line is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let _ = stream.shutdown(Shutdown::Both);
    answer
}

fn launch(program: &Path, folder: &Path, exporter: u16) -> Process {
    let arguments = ["-db".into(), "-f".into(), folder.join("haproxy.cfg").into()];
    let mut process = Process::spawn("haproxy", program, &arguments, &folder.join("haproxy.log"));
    process.wait_ready(exporter, "/metrics");
    process
}

fn file(folder: &Path, settings: &Settings, [listener, exporter, admin]: [u16; 3]) -> String {
    let socket = |level: &str| format!("  stats socket {} mode 600 level {level}\n", folder.join(format!("{level}.sock")).display());
    let server = |i: usize| {
        let (name, port, weight) = (SERVERS[i], settings.ports[i], settings.weights[i]);
        format!("  server {name} 127.0.0.1:{port} weight {weight} {}\n", settings.options)
    };
    format!(
        "global\n  nbthread 1\n{}{}  stats socket ipv4@127.0.0.1:{admin} level admin\n\
         defaults\n  mode http\n  retries 0\n  timeout connect 1s\n  timeout client 20s\n  timeout server 20s\n\
         frontend users\n  bind 127.0.0.1:{listener}\n  default_backend {BACKEND}\n\
         frontend exporter\n  bind 127.0.0.1:{exporter}\n  http-request use-service prometheus-exporter if {{ path /metrics }}\n\
         backend {BACKEND}\n  balance {}\n{}{}{}\n",
        socket("admin"),
        socket("operator"),
        settings.balance,
        server(0),
        server(1),
        settings.more,
    )
}
