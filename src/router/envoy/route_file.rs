//! The route file: only the weights change, and the change counts when Envoy shows its version text and the weights.

use super::admin::Admin;
use super::document::{self, Document, generation_of};
use super::replace::{self, Found};
use super::{ASK_AGAIN, Envoy, SHOWN_MAX, no_newer};
use crate::model::{Side, TrafficReading, Weight};
use crate::router::{Desired, RouterError, canary_share};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a read waits for Envoy to take a file that was replaced just now.
const SETTLED_MAX: Duration = Duration::from_millis(500);

/// One route in one file, read by one connection manager.
#[derive(Debug)]
pub(super) struct RouteFile<'a> {
    admin: &'a Admin,
    clusters: &'a [String; 2],
    path: &'a Path,
    stat_prefix: &'a str,
    route: &'a str,
}

/// What Envoy itself has.
struct InForce {
    version: String,
    second: Weight,
}

/// What Envoy counts about the file.
struct Counted {
    version: String,
    rejected: u64,
}

impl Envoy {
    pub(super) fn route_file<'a>(&'a self, path: &'a Path, stat_prefix: &'a str, route: &'a str) -> RouteFile<'a> {
        RouteFile { admin: &self.admin, clusters: &self.route.clusters, path, stat_prefix, route }
    }
}

impl RouteFile<'_> {
    pub(super) async fn read(&self, canary: Side) -> Result<TrafficReading, RouterError> {
        let until = Instant::now() + SETTLED_MAX;
        loop {
            let (_, document) = self.load().await?;
            let in_force = self.in_force().await?;
            let agree = in_force.version == document.version() && document.second_share().as_ref() == Ok(&in_force.second);
            if agree || Instant::now() >= until {
                return Ok(TrafficReading::new(
                    canary_share(canary, in_force.second),
                    generation_of(&in_force.version),
                    Some(writer(&document, &in_force, agree)),
                ));
            }
            sleep(ASK_AGAIN).await;
        }
    }

    pub(super) async fn write(&self, desired: Desired) -> Result<(), RouterError> {
        let (found, document) = self.load().await?;
        no_newer(&self.what(), document.generation(), desired.generation)?;
        let second = canary_share(desired.canary, desired.weight);
        let next = document.with(second, desired.generation).map_err(|why| self.object(why))?;
        let before = match self.counted().await {
            // nobody could see whether it came true: less for the canary is tried all the same, more is not
            Err(unseen) if !lowers(&document, desired) => return Err(unseen),
            seen => seen,
        };
        let text = next.text();
        if text == found.text && before.is_ok() && self.shows(next.version(), second).await.unwrap_or(false) {
            return Ok(());
        }
        self.replace(found.clone(), text.clone()).await?;
        let rejected_before = before.map_or(u64::MAX, |b| b.rejected);
        let shown = self.wait(next.version(), second, rejected_before).await;
        if matches!(shown, Err(RouterError::Refused { .. })) {
            // or the next start of Envoy finds a file it refuses; a failure here changes nothing about the answer
            let _ = self.replace(found.with(text), found.text).await;
        }
        shown
    }

    async fn wait(&self, version: &str, second: Weight, rejected_before: u64) -> Result<(), RouterError> {
        let until = Instant::now() + SHOWN_MAX;
        loop {
            let last = match self.counted().await {
                Ok(counted) if counted.version != version && counted.rejected > rejected_before => {
                    return Err(RouterError::Refused { what: self.what(), why: self.rejection().await });
                }
                Ok(counted) => counted.version,
                Err(e) if Instant::now() >= until => return Err(e),
                Err(_) => String::new(),
            };
            if last == version && self.shows(version, second).await? {
                return Ok(());
            }
            if Instant::now() >= until {
                let why = format!("version text is {last:?} and not {version:?} after {} s", SHOWN_MAX.as_secs());
                return Err(RouterError::NotVerified { what: self.what(), why });
            }
            sleep(ASK_AGAIN).await;
        }
    }

    async fn shows(&self, version: &str, second: Weight) -> Result<bool, RouterError> {
        let in_force = self.in_force().await?;
        Ok(in_force.version == version && in_force.second == second)
    }

    async fn load(&self) -> Result<(Found, Document), RouterError> {
        let path = self.path.to_owned();
        let found = blocking(move || replace::read(&path)).await.map_err(|why| self.object(why))?;
        let document = Document::parse(&found.text, self.route, self.clusters).map_err(|why| self.object(why))?;
        Ok((found, document))
    }

    async fn replace(&self, found: Found, text: Vec<u8>) -> Result<(), RouterError> {
        let path: PathBuf = self.path.to_owned();
        if blocking(move || replace::replace(&path, &found, &text)).await.map_err(|why| self.object(why))? {
            return Ok(());
        }
        let why = "another hand changed the file while it was being written: it is read again".to_owned();
        Err(RouterError::NotVerified { what: self.what(), why })
    }

    /// `http.<stat_prefix>.rds.<route>.`: the version text Envoy took last, and how often it rejected one.
    async fn counted(&self) -> Result<Counted, RouterError> {
        let prefix = format!("http.{}.rds.{}.", stat_name(self.stat_prefix), stat_name(self.route));
        let filter = format!("^{}(version_text|update_rejected)$", escaped(&prefix));
        let stats = self.admin.get("/stats", &[("format", "json"), ("filter", &filter)]).await?;
        let named = |what: &str| {
            let of_name = |s: &&Value| s.get("name").and_then(Value::as_str) == Some(&format!("{prefix}{what}"));
            stats.get("stats").and_then(Value::as_array)?.iter().find(of_name)?.get("value")
        };
        let rejected = named("update_rejected").and_then(Value::as_u64).ok_or_else(|| RouterError::Object {
            what: self.admin.what(),
            why: format!("has no statistics {prefix}*: check stat-prefix and route of the rule, and that the route comes from this file"),
        })?;
        let version = named("version_text").and_then(Value::as_str).unwrap_or("").to_owned();
        Ok(Counted { version, rejected })
    }

    async fn dump(&self) -> Result<Vec<Value>, RouterError> {
        let mut dump = self.admin.get("/config_dump", &[("resource", "dynamic_route_configs")]).await?;
        let configs = dump.get_mut("configs").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
        let ours = |c: &Value| c.pointer("/route_config/name").and_then(Value::as_str) == Some(self.route);
        Ok(configs.into_iter().filter(ours).collect())
    }

    async fn in_force(&self) -> Result<InForce, RouterError> {
        let object =
            |why: String| RouterError::Object { what: format!("{}, route configuration {:?}", self.admin.what(), self.route), why };
        let mut found: Option<InForce> = None;
        for config in self.dump().await? {
            let second = document::share_in(config.get("route_config").unwrap_or(&Value::Null), self.clusters).map_err(object)?;
            let version = config.get("version_info").and_then(Value::as_str).unwrap_or("").to_owned();
            if found.as_ref().is_some_and(|f| f.second != second) {
                return Err(object("is there more than once, with different weights".to_owned()));
            }
            found = Some(InForce { version, second });
        }
        found.ok_or_else(|| object("is not there: Envoy has not read the file, or reads another".to_owned()))
    }

    /// Envoy's own words where it shows them: the dump has a place for them, which 1.40 leaves empty.
    async fn rejection(&self) -> String {
        let dumped = self.dump().await.unwrap_or_default();
        let details = dumped.iter().find_map(|c| c.pointer("/error_state/details").and_then(Value::as_str));
        details.map_or_else(
            || "update_rejected rose; Envoy's log says why (often a cluster that does not exist); the old file is back".to_owned(),
            |words| format!("{words}; the old file is back"),
        )
    }

    fn what(&self) -> String {
        format!("Envoy route file {}", self.path.display())
    }

    fn object(&self, why: String) -> RouterError {
        RouterError::Object { what: self.what(), why }
    }
}

fn writer(document: &Document, in_force: &InForce, agree: bool) -> String {
    let version = document.version();
    if agree && document.untouched() {
        return "canaryd".to_owned();
    }
    if agree {
        return format!("another hand (version {version:?})");
    }
    let file = document.second_share().map_or_else(|why| why, |s| format!("gives the second cluster {s}"));
    format!("another hand: the file {file} under version {version:?}, Envoy has {} under {:?}", in_force.second, in_force.version)
}

fn lowers(document: &Document, desired: Desired) -> bool {
    document.second_share().is_ok_and(|second| desired.weight < canary_share(desired.canary, second))
}

/// Envoy's own replacement in names of statistics.
fn stat_name(name: &str) -> String {
    name.replace("://", "_").replace(":/", "_").replace([':', '\0'], "_")
}

/// For a regular expression.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(2 * text.len());
    for c in text.chars() {
        if c.is_ascii() && !c.is_ascii_alphanumeric() && c != '_' {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Files are read and written off the async workers: fsync takes milliseconds, and a network disk longer.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|e| e.to_string())?
}
