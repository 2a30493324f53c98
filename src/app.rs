//! Wiring: builds the parts from settings and joins them. The command line calls it with plain values.

use std::path::PathBuf;

/// What `run` was asked.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct RunArgs {
    /// Settings file
    #[arg(long, value_name = "FILE", env = "CANARYD_CONFIG")]
    pub config: Option<PathBuf>,
    /// Folder of rules, instead of the one in the settings
    #[arg(long, value_name = "DIR", env = "CANARYD_RULES")]
    pub rules: Option<PathBuf>,
    /// Folder of the journal, instead of the one in the settings
    #[arg(long, value_name = "DIR", env = "CANARYD_DATA")]
    pub data: Option<PathBuf>,
    /// Address of the API, instead of the one in the settings
    #[arg(long, value_name = "ADDRESS", env = "CANARYD_LISTEN")]
    pub listen: Option<std::net::SocketAddr>,
    /// Tokens, one name:role:token a line, instead of the file in the settings
    #[arg(long, value_name = "FILE", env = "CANARYD_TOKENS")]
    pub tokens: Option<PathBuf>,
    /// How log lines look: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text", env = "CANARYD_LOG_FORMAT")]
    pub log_format: String,
    /// Log levels, such as info,canaryd::router=debug
    #[arg(long, value_name = "LEVELS", default_value = "info", env = "CANARYD_LOG")]
    pub log: String,
}

/// What `check` was asked.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct CheckArgs {
    /// Rule files, or folders of them
    #[arg(required = true, value_name = "RULES")]
    pub rules: Vec<PathBuf>,
    /// Settings file
    #[arg(long, value_name = "FILE", env = "CANARYD_CONFIG")]
    pub config: Option<PathBuf>,
    /// Also ask the sources: which arm has series, how many requests, how long steps need to be
    #[arg(long)]
    pub live: bool,
}

/// What `replay` was asked.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ReplayArgs {
    /// A rollout's name
    #[arg(value_name = "ROLLOUT")]
    pub rollout: String,
    /// Folder of the journal
    #[arg(long, value_name = "DIR", env = "CANARYD_DATA", default_value = "data")]
    pub data: PathBuf,
    /// Judge with this rule file instead of the recorded one
    #[arg(long, value_name = "FILE")]
    pub rule: Option<PathBuf>,
}

/// What `demo` was asked.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct DemoArgs {
    /// Address of the page and the API
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7878")]
    pub listen: Option<std::net::SocketAddr>,
    /// How many times faster than real time
    #[arg(long, value_name = "N", default_value_t = 15.0)]
    pub speed: f64,
}

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// If it cannot start.
pub fn run(_args: &RunArgs) -> anyhow::Result<()> {
    Err(anyhow::anyhow!("run is not wired yet"))
}

/// Runs the demo.
///
/// # Errors
/// If it cannot start.
pub fn demo(_args: &DemoArgs) -> anyhow::Result<()> {
    Err(anyhow::anyhow!("demo is not wired yet"))
}

/// Checks rules with the daemon's own loader.
///
/// # Errors
/// If there are problems.
pub fn check(_args: &CheckArgs) -> anyhow::Result<()> {
    Err(anyhow::anyhow!("check is not wired yet"))
}

/// Decides a recorded rollout again.
///
/// # Errors
/// If the journal cannot be read, or the decisions differ.
pub fn replay(_args: &ReplayArgs) -> anyhow::Result<()> {
    Err(anyhow::anyhow!("replay is not wired yet"))
}
