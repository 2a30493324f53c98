//! The daemon's own settings: defaults < file < environment (`CANARYD_...`) < flags. Keys are snake_case, because the `config`
//! crate lower-cases the environment; rule files, which are ours alone, are kebab-case.

mod layers;
mod read;
mod receivers;
#[cfg(test)]
mod tests;
mod tokens;

use super::walk::At;
use super::{Known, Reach, Report};
use crate::model::{Level, Role};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Values given on the command line: dotted key (`listen`, `log.level`) to text. Named `--listen`, `--log-level` in reports.
pub type Flags = BTreeMap<String, String>;

/// Everything the daemon is told besides its rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Address of the API and the page. Default `127.0.0.1:7878`. Anything but loopback needs `tokens`.
    pub listen: SocketAddr,
    /// Where people and other programs reach the API and the page, without a slash at the end: the base of links in alerts and
    /// annotations. Default none: then `http://<listen>`, which is of use on the same machine only.
    pub external_url: Option<String>,
    /// Folder of the journal. Default `canaryd-data`.
    pub data: PathBuf,
    /// Rule files and folders of them. Default `rules`.
    pub rules: Vec<PathBuf>,
    /// One rule file that is wrong keeps the daemon from starting. Default false: then the good ones are in force, and the others are
    /// told as they are at a reload, for a restart at night must not leave the rollouts of all rules alone.
    pub strict_rules: bool,
    /// Folder of query packs that add to or replace the built-in ones. Default none.
    pub packs: Option<PathBuf>,
    /// Where samples come from; the first is the one a rule without `source` reads (`default_source`, or the only one).
    pub sources: Vec<SourceSettings>,
    /// Who may do what. Empty: nobody may change anything.
    pub tokens: Vec<Token>,
    /// How it logs.
    pub log: LogSettings,
    /// How much faster than real time the method runs, `1..=1000`. Only the demo and tests change it.
    pub time_scale: f64,
    /// Days the journal is kept, `1..=3650`. Default 90; raw samples go first.
    pub retention_days: u32,
    /// Where alerts go, by name.
    pub receivers: BTreeMap<String, ReceiverSettings>,
    /// The cluster whose objects rules may name. Default: the one this process is a pod of.
    pub cluster: ClusterSettings,
    /// An alert that was received, and that its Alertmanager has not repeated for so long, is taken as over: the end of one that
    /// was silenced is never told. Default 5 h; it must exceed the Alertmanager's `repeat_interval` (4 h unless changed).
    pub alerts_expire: Duration,
    /// What is not wrong but should be known, such as a token file others can read.
    pub warnings: Vec<String>,
}

/// How the API server of a Kubernetes cluster is reached, and what is kept there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSettings {
    /// A kubeconfig file. `None`: the pod's own service account.
    pub kubeconfig: Option<PathBuf>,
    /// A context of that file; `None` = its current one.
    pub context: Option<String>,
    /// Several processes, of which one acts: the lease that says which. Default none: this process is the only one.
    pub leader_election: Option<LeaderElection>,
    /// Rules are read from the cluster's `CanaryRule` objects too, and rollouts shown as `CanaryRollout` objects and Events; what such
    /// an object may name. `None` = nothing of it. Default confined: where the cluster does not serve these kinds, nothing is lost but
    /// a line in the log.
    pub resources: Option<Reach>,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self { kubeconfig: None, context: None, leader_election: None, resources: Some(Reach::Confined) }
    }
}

/// A Lease of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderElection {
    /// Its name. Default `canaryd`.
    pub lease: String,
    /// Its namespace. Default the pod's own, or that of the kubeconfig's context.
    pub namespace: Option<String>,
}

/// A named source.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceSettings {
    /// The name rules use.
    pub name: String,
    /// What it is.
    pub kind: SourceKind,
}

/// What a source is.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceKind {
    /// A Prometheus-compatible query API.
    Prometheus(PrometheusSettings),
    /// Metrics pages read directly.
    Scrape {
        /// The pages.
        urls: Vec<String>,
        /// Longest wait for one page. Default 5 s.
        timeout: Duration,
    },
}

/// How a Prometheus is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct PrometheusSettings {
    /// Base URL, without `/api/v1`.
    pub url: String,
    /// Longest wait for one answer. Default 10 s.
    pub timeout: Duration,
    /// How the daemon shows who it is. Secrets stay in their files, so that they can be rotated.
    pub auth: SourceAuth,
    /// PEM file of the authorities that may have signed the server's certificate, instead of the machine's. Like the two
    /// below read again when it changes.
    pub ca_file: Option<PathBuf>,
    /// PEM files of our own certificate and its key, where the server asks for one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Most queries a minute, `1..=100000`. Default 1200. Beyond it ticks wait for their turn, then are blind and say so; look
    /// at `canaryd_queries` before changing it.
    pub queries_per_minute: u32,
    /// Largest answer read, MB, `1..=1024`. Default 32. Up to four of them are in memory at once.
    pub answer_max_mb: u32,
    /// Further headers of every request, such as a tenant's. Not shown in Debug.
    pub headers: BTreeMap<String, Secret>,
    /// Further parameters of every query, such as `partial_response=false`. Not shown in Debug.
    pub params: BTreeMap<String, Secret>,
}

/// How a source is told who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceAuth {
    /// Not at all.
    None,
    /// `Authorization: Bearer` with the content of this file, read again when it changes.
    BearerTokenFile(PathBuf),
    /// Basic authentication, the password from this file.
    Basic {
        /// User.
        user: String,
        /// File of the password.
        password_file: PathBuf,
    },
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that sends or compares it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// One bearer of rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Whose it is; shown in the audit.
    pub name: String,
    /// What it allows, at least one.
    pub roles: Vec<Role>,
    /// The token itself.
    pub token: Secret,
}

/// How it logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Lines for people or for machines. Default text.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, with targets as `tracing_subscriber::filter::Targets` reads them. Default `info`.
    pub level: String,
}

/// Shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Where notices go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReceiverSettings {
    /// Alertmanager API v2; every member of a cluster is told.
    Alertmanager(AlertmanagerSettings),
    /// Grafana's annotations API.
    Grafana(GrafanaSettings),
}

/// How an Alertmanager is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertmanagerSettings {
    /// Base URL of each replica, without `/api/v2`: all are told, a balancer before them would tell only one.
    pub urls: Vec<String>,
    /// Longest wait for one answer. Default 10 s.
    pub timeout: Duration,
    /// How the daemon shows who it is.
    pub auth: SourceAuth,
    /// PEM file of the authority that signed the server's certificate, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Labels of every alert, such as a team or a cluster, besides canaryd's own.
    pub labels: BTreeMap<String, String>,
    /// Notices below this level are not told. Default warning.
    pub level: Level,
}

/// How a Grafana is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrafanaSettings {
    /// Base URL, without `/api`.
    pub url: String,
    /// Longest wait for one answer. Default 10 s.
    pub timeout: Duration,
    /// File of a service account's token, read again at each call.
    pub token_file: PathBuf,
    /// PEM file of the authority that signed the server's certificate, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Uid of the one dashboard that shows them; `None` = any dashboard that asks for the tags.
    pub dashboard: Option<String>,
    /// Further tags, besides `canaryd`, the rule and the rollout.
    pub tags: Vec<String>,
}

impl Settings {
    /// Reads and checks the settings of all four layers. `env` is every variable of the process; those without the prefix
    /// `CANARYD_`, those a client of the daemon reads and those Kubernetes makes of a Service named `canaryd` are passed over.
    /// Levels of a key are joined by two underscores (`CANARYD_LOG__LEVEL`), items of a list by commas. Relative paths in the
    /// file are relative to the file's folder, all others to the working directory. The token file is read, other secrets are
    /// only looked for.
    ///
    /// # Errors
    /// Every problem, named by file and line, by variable or by flag.
    pub fn load(file: Option<&Path>, env: impl Iterator<Item = (String, String)>, flags: Flags) -> Result<Self, Report> {
        let mut report = Report::default();
        let file_tree = match file.map(layers::of_file) {
            Some(Ok(tree)) => Some(tree),
            Some(Err(e)) => {
                report.join(e);
                None
            }
            None => None,
        };
        if let Some(tree) = &file_tree {
            At::root(tree).repeats(&mut report);
        }
        // the problems of the other layers are told even where the file is none
        let tree = layers::merged(file_tree, &layers::of_env(env), &layers::of_flags(flags))?;
        let settings = read::settings(&At::root(&tree), file.and_then(Path::parent), &mut report);
        report.or(settings)
    }

    /// What rules may refer to, given the names of the query packs. Whether there is a cluster is not known here.
    pub fn known(&self, packs: impl IntoIterator<Item = String>) -> Known {
        Known {
            packs: packs.into_iter().collect(),
            sources: self.sources.iter().map(|source| source.name.clone()).collect(),
            receivers: self.receivers.keys().cloned().collect(),
            cluster: false,
            without_settings: false,
            objects: self.cluster.resources.unwrap_or_default(),
        }
    }
}
