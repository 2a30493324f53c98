//! `canaryd run`.

use super::failure::Failure;
use super::output::OutputArgs;
use crate::app;
use crate::config::settings::LogFormat;
use crate::config::{Flags, Settings};
use crate::telemetry::log;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// Variables that the command line reads itself: they are no settings of the daemon.
const OF_THE_COMMAND_LINE: [&str; 3] = ["CANARYD_CONFIG", "CANARYD_SERVER", "CANARYD_TOKEN_FILE"];

/// What `run` was asked. What is given here wins over the environment, which wins over the file.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Args {
    /// Settings file
    #[arg(long, value_name = "FILE", env = "CANARYD_CONFIG")]
    config: Option<PathBuf>,
    /// Rule file or folder of rules
    #[arg(long, value_name = "PATH")]
    rules: Option<PathBuf>,
    /// Do not start if any rule is wrong; without it the good ones start
    #[arg(long)]
    strict: bool,
    /// Folder of the journal
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address of the API; anything but loopback needs tokens
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Tokens, one name:role:token a line
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// How log lines look: text or json
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Act only while holding a Lease of the cluster; until then stand by
    #[arg(long)]
    leader_election: bool,
    #[command(flatten)]
    output: OutputArgs,
    /// Log levels, such as info,canaryd::router=debug
    #[arg(long, value_name = "LEVELS")]
    log_level: Option<String>,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let settings = settings(args.config.as_deref(), flags(&args))?;
    let format = match settings.log.format {
        LogFormat::Text => log::Format::Text,
        LogFormat::Json => log::Format::Json,
    };
    let levels = log::levels(&settings.log.level).map_err(|e| Failure::Usage(e.to_string()))?;
    log::init(format, levels, std::io::stderr().is_terminal()).map_err(|e| Failure::Usage(e.to_string()))?;
    Ok(app::run(settings).await?)
}

/// Settings of all layers.
pub(super) fn settings(file: Option<&Path>, flags: Flags) -> Result<Settings, Failure> {
    let env = std::env::vars().filter(|(name, _)| !OF_THE_COMMAND_LINE.contains(&name.as_str()));
    Settings::load(file, env, flags).map_err(|report| Failure::Usage(report.to_string()))
}

fn flags(args: &Args) -> Flags {
    let path = |p: &Option<PathBuf>| p.as_ref().map(|p| p.display().to_string());
    [
        ("rules", path(&args.rules)),
        ("strict_rules", args.strict.then(|| "true".to_owned())),
        ("data", path(&args.data)),
        ("listen", args.listen.clone()),
        ("tokens", path(&args.tokens)),
        ("log.format", args.log_format.clone().or_else(|| args.output.json().then(|| "json".to_owned()))),
        ("log.level", args.log_level.clone()),
        ("cluster.leader_election.enabled", args.leader_election.then(|| "true".to_owned())),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key.to_owned(), value?)))
    .collect()
}
