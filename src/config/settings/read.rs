//! The merged tree becomes settings.

use super::{
    ClusterSettings, LeaderElection, LogFormat, LogSettings, PrometheusSettings, Secret, Settings, SourceAuth, SourceKind, SourceSettings,
    receivers, tokens,
};
use crate::config::walk::{At, Fields, one_of};
use crate::config::{Reach, Report};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

const KEYS: &[&str] = &[
    "listen",
    "external_url",
    "data",
    "rules",
    "strict_rules",
    "packs",
    "default_source",
    "sources",
    "tokens",
    "log",
    "time_scale",
    "retention_days",
    "receivers",
    "cluster",
    "alerts_expire",
];
const SOURCE: &[&str] = &["prometheus", "scrape"];
const PROMETHEUS: &[&str] = &[
    "url",
    "timeout",
    "bearer_token_file",
    "basic",
    "ca_file",
    "cert_file",
    "key_file",
    "headers",
    "params",
    "queries_per_minute",
    "answer_max_mb",
];
const BASIC: &[&str] = &["user", "password_file"];
const SCRAPE: &[&str] = &["urls", "timeout"];
const LOG: &[&str] = &["format", "level"];
const CLUSTER: &[&str] = &["kubeconfig", "context", "leader_election", "resources"];
/// Whether there are rules that are objects, and what they may name.
const RESOURCES: &[(&str, Option<Reach>)] =
    &[("true", Some(Reach::Confined)), ("false", None), ("confined", Some(Reach::Confined)), ("anywhere", Some(Reach::Anywhere))];
const LEADER_ELECTION: &[&str] = &["enabled", "lease", "namespace"];

/// Name of the lease where none is written.
const LEASE: &str = "canaryd";

/// An answer that takes longer than a minute is of no use to a tick.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60);
const PROMETHEUS_TIMEOUT: Duration = Duration::from_secs(10);
/// As the source has them by default; siblings do not import each other.
const QUERIES_PER_MINUTE: u32 = 1200;
const ANSWER_MAX_MB: u32 = 32;
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(5);

/// Shorter than any Alertmanager repeats itself, to longer than one sensibly does.
const ALERTS_EXPIRE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * 86_400);

/// What a walk over settings needs besides the tree.
pub(super) struct Out<'a> {
    pub(super) report: &'a mut Report,
    /// Folder of the settings file: what its relative paths are relative to.
    folder: Option<&'a Path>,
    warnings: Vec<String>,
}

pub(super) fn settings(root: &At<'_>, folder: Option<&Path>, report: &mut Report) -> Option<Settings> {
    let mut out = Out { report, folder, warnings: Vec::new() };
    let fields = root.fields(KEYS, out.report)?;
    let listen = fields.get("listen").and_then(|at| address(&at, &mut out));
    let data = fields.get("data").and_then(|at| path(&at, &mut out));
    let rules = fields.get("rules").map(|at| paths(&at, &mut out));
    let strict_rules = fields.get("strict_rules").and_then(|at| at.flag(out.report));
    let packs = fields.get("packs").map(|at| path(&at, &mut out));
    let sources = sources(&fields, &mut out);
    let tokens_at = fields.get("tokens");
    let tokens = tokens_at.as_ref().and_then(|at| bearers(at, &mut out));
    if let (Some(listen), Some(at), None) = (listen, fields.get("listen"), &tokens_at) {
        outsiders(listen, &at, &mut out);
    }
    let log = fields.get("log").and_then(|at| log(&at, &mut out));
    let time_scale = fields.get("time_scale").and_then(|at| at.real(1.0..=1000.0, out.report));
    let retention_days = fields.get("retention_days").and_then(|at| at.whole(1..=3650, out.report));
    let external_url = fields.get("external_url").and_then(|at| base_url(&at, &mut out));
    let alerts_expire = fields.get("alerts_expire").and_then(|at| at.duration(ALERTS_EXPIRE, out.report));
    let receivers = receivers::receivers(&fields, &mut out);
    let cluster = fields.get("cluster").map(|at| cluster(&at, &mut out));
    Some(Settings {
        listen: listen?,
        external_url,
        data: data?,
        rules: rules?,
        strict_rules: strict_rules.unwrap_or(false),
        packs: packs.unwrap_or_default(),
        sources: sources?,
        tokens: tokens.unwrap_or_default(),
        log: log?,
        time_scale: time_scale?,
        retention_days: retention_days?,
        receivers,
        cluster: cluster.unwrap_or_default(),
        alerts_expire: alerts_expire?,
        warnings: out.warnings,
    })
}

fn address(at: &At<'_>, out: &mut Out<'_>) -> Option<SocketAddr> {
    let text = at.text(out.report)?;
    let numeric = text.strip_prefix("localhost:").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    let address = numeric.parse().ok();
    if address.is_none() {
        at.wrong(out.report, format_args!("{text:?} is no address"), "write an IP address and a port, such as 127.0.0.1:7878");
    }
    address
}

/// Whoever reaches the API can move traffic.
fn outsiders(listen: SocketAddr, at: &At<'_>, out: &mut Out<'_>) {
    if !listen.ip().to_canonical().is_loopback() {
        let way_out = "set tokens to a file of name:role:token lines, or listen on 127.0.0.1";
        at.wrong(out.report, format_args!("{listen} can be reached from other machines, and there are no tokens"), way_out);
    }
}

fn path(at: &At<'_>, out: &mut Out<'_>) -> Option<PathBuf> {
    let path = Path::new(at.text(out.report)?);
    Some(match out.folder {
        Some(folder) if at.line() > 0 => folder.join(path),
        _ => path.to_owned(),
    })
}

fn paths(at: &At<'_>, out: &mut Out<'_>) -> Vec<PathBuf> {
    at.items(out.report).iter().filter_map(|item| path(item, out)).collect()
}

/// A file that must be there now; what it holds is read when it is used.
pub(super) fn present(at: &At<'_>, out: &mut Out<'_>) -> Option<PathBuf> {
    let path = path(at, out)?;
    if let Err(e) = std::fs::File::open(&path) {
        at.wrong(out.report, format_args!("{} cannot be read: {e}", path.display()), "");
    }
    Some(path)
}

fn bearers(at: &At<'_>, out: &mut Out<'_>) -> Option<Vec<super::Token>> {
    let file = path(at, out)?;
    match tokens::read(&file) {
        Ok((tokens, warning)) => {
            out.warnings.extend(warning);
            Some(tokens)
        }
        Err(report) => {
            out.report.join(report);
            None
        }
    }
}

fn log(at: &At<'_>, out: &mut Out<'_>) -> Option<LogSettings> {
    let fields = at.fields(LOG, out.report)?;
    let format = fields.get("format").and_then(|at| at.choice(&[("text", LogFormat::Text), ("json", LogFormat::Json)], out.report));
    let level = fields.get("level").and_then(|at| level(&at, out));
    Some(LogSettings { format: format?, level: level? })
}

fn level(at: &At<'_>, out: &mut Out<'_>) -> Option<String> {
    let text = at.text(out.report)?;
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    // the reader of filters takes a misspelt level for the name of a target, so the words are checked here
    let known = text.split(',').all(|part| levels.contains(&part.rsplit('=').next().unwrap_or(part).trim()));
    if !known || text.parse::<tracing_subscriber::filter::Targets>().is_err() {
        let way_out = "write error, warn, info, debug or trace, or such as info,hyper=warn";
        at.wrong(out.report, format_args!("{text:?} is no log level"), way_out);
    }
    Some(text.to_owned())
}

/// The one a rule without `source` reads comes first.
fn sources(fields: &Fields<'_>, out: &mut Out<'_>) -> Option<Vec<SourceSettings>> {
    let members = fields.get("sources").map_or_else(Vec::new, |at| at.members(out.report));
    let names: Vec<&str> = members.iter().map(|(name, _)| *name).collect();
    let first = default_source(fields, &names, out);
    let read: Vec<Option<SourceSettings>> = members.iter().map(|(name, at)| source(name, at, out)).collect();
    let mut sources = read.into_iter().collect::<Option<Vec<_>>>()?;
    sources.sort_by_key(|source| Some(source.name.as_str()) != first);
    Some(sources)
}

fn default_source<'a>(fields: &Fields<'a>, names: &[&str], out: &mut Out<'_>) -> Option<&'a str> {
    let Some(at) = fields.get("default_source") else {
        if names.len() > 1 {
            let at = fields.get("sources")?;
            let what = format!("{} sources, and none is the default", names.len());
            at.wrong(out.report, what, format_args!("write default_source: {}", names[0]));
        }
        return None;
    };
    let name = at.text(out.report)?;
    if !names.contains(&name) {
        at.wrong(out.report, format_args!("no source is named {name:?}"), one_of(name, names));
    }
    Some(name)
}

pub(super) fn named(name: &str, at: &At<'_>, out: &mut Out<'_>) {
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_') {
        at.wrong(out.report, format_args!("{name:?} is no name"), "write lower-case letters, digits, - and _");
    }
}

fn source(name: &str, at: &At<'_>, out: &mut Out<'_>) -> Option<SourceSettings> {
    named(name, at, out);
    let fields = at.fields(SOURCE, out.report)?;
    let kind = match (fields.get("prometheus"), fields.get("scrape")) {
        (Some(at), None) => prometheus(&at, out).map(SourceKind::Prometheus),
        (None, Some(at)) => scrape(&at, out),
        _ => {
            at.wrong(out.report, "is no source", "write prometheus: { url: ... } or scrape: { urls: [...] }, one of them");
            None
        }
    };
    Some(SourceSettings { name: name.to_owned(), kind: kind? })
}

fn prometheus(at: &At<'_>, out: &mut Out<'_>) -> Option<PrometheusSettings> {
    let fields = at.fields(PROMETHEUS, out.report)?;
    let url = fields.need("url", "write its address, such as http://prometheus:9090", out.report).and_then(|at| base_url(&at, out));
    let timeout = timeout(&fields, PROMETHEUS_TIMEOUT, out);
    let auth = auth(&fields, out);
    let ca_file = fields.get("ca_file").and_then(|at| present(&at, out));
    let identity = identity(&fields, out);
    let queries_per_minute = whole(&fields, "queries_per_minute", 1..=100_000, QUERIES_PER_MINUTE, out);
    let answer_max_mb = whole(&fields, "answer_max_mb", 1..=1024, ANSWER_MAX_MB, out);
    let headers = hidden(fields.get("headers"), out);
    if let Some((name, at)) = headers.iter().find(|(name, _, _)| name.eq_ignore_ascii_case("authorization")).map(|(n, _, at)| (n, at)) {
        at.wrong(out.report, format_args!("{name} is a secret in a settings file"), "write bearer_token_file or basic");
    }
    let params = hidden(fields.get("params"), out);
    let strip = |members: Vec<(String, Secret, At<'_>)>| members.into_iter().map(|(name, value, _)| (name, value)).collect();
    Some(PrometheusSettings {
        url: url?,
        timeout: timeout?,
        auth: auth?,
        ca_file,
        identity: identity?,
        queries_per_minute: queries_per_minute?,
        answer_max_mb: answer_max_mb?,
        headers: strip(headers),
        params: strip(params),
    })
}

fn whole(fields: &Fields<'_>, key: &'static str, range: RangeInclusive<u32>, default: u32, out: &mut Out<'_>) -> Option<u32> {
    fields.get(key).map_or(Some(default), |at| at.whole(range, out.report))
}

/// A certificate is nothing without its key.
fn identity(fields: &Fields<'_>, out: &mut Out<'_>) -> Option<Option<(PathBuf, PathBuf)>> {
    match (fields.get("cert_file"), fields.get("key_file")) {
        (None, None) => Some(None),
        (Some(cert), Some(key)) => {
            let (cert, key) = (present(&cert, out), present(&key, out));
            Some(Some((cert?, key?)))
        }
        (Some(at), None) => {
            at.wrong(out.report, "has no key_file beside it", "write both");
            None
        }
        (None, Some(at)) => {
            at.wrong(out.report, "has no cert_file beside it", "write both");
            None
        }
    }
}

pub(super) fn base_url(at: &At<'_>, out: &mut Out<'_>) -> Option<String> {
    let url = at.url(out.report)?;
    if url.contains(['?', '#']) {
        at.wrong(out.report, "the address has parameters", "write them below params");
    }
    Some(url)
}

pub(super) fn timeout(fields: &Fields<'_>, default: Duration, out: &mut Out<'_>) -> Option<Duration> {
    fields.get("timeout").map_or(Some(default), |at| at.duration(TIMEOUT, out.report))
}

pub(super) fn auth(fields: &Fields<'_>, out: &mut Out<'_>) -> Option<SourceAuth> {
    match (fields.get("bearer_token_file"), fields.get("basic")) {
        (None, None) => Some(SourceAuth::None),
        (Some(at), None) => present(&at, out).map(SourceAuth::BearerTokenFile),
        (None, Some(at)) => basic(&at, out),
        (Some(at), Some(_)) => {
            at.wrong(out.report, "stands beside basic", "keep one of them");
            None
        }
    }
}

fn basic(at: &At<'_>, out: &mut Out<'_>) -> Option<SourceAuth> {
    let fields = at.fields(BASIC, out.report)?;
    let user = fields.need("user", "", out.report).and_then(|at| at.text(out.report));
    let file = fields.need("password_file", "write the file that holds the password", out.report).and_then(|at| present(&at, out));
    Some(SourceAuth::Basic { user: user?.to_owned(), password_file: file? })
}

/// Names and values that are sent with every request.
fn hidden<'a>(at: Option<At<'a>>, out: &mut Out<'_>) -> Vec<(String, Secret, At<'a>)> {
    let members = at.map_or_else(Vec::new, |at| at.members(out.report));
    let mut read = Vec::new();
    for (name, at) in members {
        let Some(value) = at.text(out.report) else { continue };
        let clean = |text: &str, odd: &[u8]| text.bytes().all(|b| (b.is_ascii_graphic() || b == b' ') && !odd.contains(&b));
        if !clean(name, b" :\"(),/;<=>?@[\\]{}") || !clean(value, b"") {
            at.wrong(out.report, "has characters that cannot be sent", "write printable ASCII");
        }
        read.push((name.to_owned(), Secret::new(value), at));
    }
    read
}

fn scrape(at: &At<'_>, out: &mut Out<'_>) -> Option<SourceKind> {
    let fields = at.fields(SCRAPE, out.report)?;
    let urls = urls(&fields, out);
    let timeout = timeout(&fields, SCRAPE_TIMEOUT, out);
    Some(SourceKind::Scrape { urls: urls?, timeout: timeout? })
}

pub(super) fn urls(fields: &Fields<'_>, out: &mut Out<'_>) -> Option<Vec<String>> {
    let at = fields.need("urls", "write at least one address", out.report)?;
    let items = at.items(out.report);
    if items.is_empty() && at.is_list() {
        at.wrong(out.report, "names no address", "write at least one");
    }
    items.iter().map(|item| item.url(out.report)).collect()
}

fn cluster(at: &At<'_>, out: &mut Out<'_>) -> ClusterSettings {
    let Some(fields) = at.fields(CLUSTER, out.report) else { return ClusterSettings::default() };
    let kubeconfig = fields.get("kubeconfig").and_then(|at| present(&at, out));
    let context = fields.get("context").and_then(|at| at.text(out.report)).map(str::to_owned);
    if context.is_some() && kubeconfig.is_none() {
        at.wrong(out.report, "has a context and no kubeconfig", "write kubeconfig: the file in which that context is");
    }
    let leader_election = fields.get("leader_election").and_then(|at| leader_election(&at, out));
    let resources = fields.get("resources").and_then(|at| at.choice(RESOURCES, out.report)).unwrap_or(Some(Reach::Confined));
    ClusterSettings { kubeconfig, context, leader_election, resources }
}

/// Written down is asked for, unless it says otherwise.
fn leader_election(at: &At<'_>, out: &mut Out<'_>) -> Option<LeaderElection> {
    let fields = at.fields(LEADER_ELECTION, out.report)?;
    let enabled = fields.get("enabled").and_then(|at| at.flag(out.report)).unwrap_or(true);
    let lease = fields.get("lease").and_then(|at| object_name(&at, out));
    let namespace = fields.get("namespace").and_then(|at| object_name(&at, out));
    enabled.then(|| LeaderElection { lease: lease.unwrap_or_else(|| LEASE.to_owned()), namespace })
}

/// The name of an object of the cluster.
fn object_name(at: &At<'_>, out: &mut Out<'_>) -> Option<String> {
    let text = at.text(out.report)?;
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = text.bytes().next().is_some_and(inner) && text.bytes().last().is_some_and(inner);
    if !ends || text.len() > 63 || !text.bytes().all(|b| inner(b) || b == b'-') {
        at.wrong(out.report, format_args!("{text:?} is no name"), "write lower-case letters, digits and - inside, at most 63 characters");
    }
    Some(text.to_owned())
}

/// Every key, for the test that holds them to snake_case.
#[cfg(test)]
pub(super) const ALL_KEYS: [&[&str]; 11] = [
    KEYS,
    CLUSTER,
    LEADER_ELECTION,
    SOURCE,
    PROMETHEUS,
    BASIC,
    SCRAPE,
    LOG,
    receivers::RECEIVER,
    receivers::ALERTMANAGER,
    receivers::GRAFANA,
];
