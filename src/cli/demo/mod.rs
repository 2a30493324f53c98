//! `canaryd demo`: two versions of a service, users, a router and the whole daemon in one process (or, with `--real`, with a
//! Prometheus and an Envoy found on PATH). Act one: a healthy canary gets all the traffic. Act two: a faulty one is rolled
//! back. Nothing is scripted but the faults: the daemon decides from what it scrapes.

mod acts;
mod chance;
pub mod load;
mod real;
pub mod service;
mod stage;

pub use load::{Load, LoadCounts, LoadSpec};
pub use service::{Faults, Service};

use super::failure::Failure;
use super::output::{self, OutputArgs};
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;

/// What `demo` was asked.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// With a real Prometheus and a real Envoy, found on PATH (or in CANARYD_PROMETHEUS and CANARYD_ENVOY)
    #[arg(long)]
    real: bool,
    /// Address of the API while the demo lasts
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Keep the journal and the report in this folder
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
    /// Scrape the healthy service for this many seconds and write the recording that the demo takes for its past
    #[arg(long, value_name = "FILE", hide = true)]
    record_past: Option<PathBuf>,
}

/// Plays both acts.
pub(super) async fn run(args: Args) -> Result<(), Failure> {
    if let Some(file) = args.record_past {
        return stage::record_past(&file).await.map_err(Failure::from);
    }
    let stage = stage::Stage::stand_up(&args).await?;
    let json = args.output.json();
    let played = acts::play(&stage, json).await;
    let report = stage.strike().await?;
    let all_well = played?;
    if json {
        output::write_event("end", &json!({ "report": report.display().to_string(), "as-expected": all_well }))?;
    } else {
        output::write(&format!("\nThe journal of both rollouts and a report are in {}\n", report.display()))?;
    }
    if all_well { Ok(()) } else { Err(Failure::Refused("an act of the demo did not end as it should".to_owned())) }
}
