//! `canaryd start`.

use super::client::{self, Client, ServerArgs};
use super::failure::Failure;
use super::output::{self, OutputArgs};
use crate::api::wire;
use crate::telemetry::words;
use serde_json::Value;

/// What `start` was asked.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of the rule
    #[arg(value_parser = client::name)]
    rule: String,
    /// Name of the version on trial, for the record
    #[arg(long, default_value = "", hide_default_value = true)]
    version: String,
    /// Also if this version was rolled back before
    #[arg(long)]
    retry: bool,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let client = Client::new(&args.server)?;
    let body = wire::StartBody { version: args.version, retry: args.retry };
    tell(client.post(&["rules", &args.rule, "start"], &body).await?, args.output)
}

/// That a rollout was started.
pub(super) fn tell(answer: Value, output: OutputArgs) -> Result<(), Failure> {
    if output.json() {
        return output::write_json(&answer);
    }
    let started: wire::Started = client::typed(answer)?;
    output::write(&format!("{} started\n", words::printable(&started.rollout)))
}
