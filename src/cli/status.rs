//! `canaryd status`.

use super::client::{self, Client, ServerArgs};
use super::failure::Failure;
use super::output::{self, OutputArgs};
use super::render;
use crate::api::wire;

/// What `status` was asked.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of a rollout, or of its rule: shows it in detail
    #[arg(value_parser = client::name)]
    rollout: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let client = Client::new(&args.server)?;
    let answer = match &args.rollout {
        Some(rollout) => client.get(&["rollouts", rollout]).await?,
        None => client.get(&["rollouts"]).await?,
    };
    if args.output.json() {
        return output::write_json(&answer);
    }
    let style = output::style();
    if args.rollout.is_some() {
        return output::write(&render::page(&client::typed::<wire::Rollout>(answer)?, style));
    }
    let rules = client::typed::<wire::Rules>(client.get(&["rules"]).await?)?;
    let list = render::list(&client::typed::<wire::Rollouts>(answer)?.rollouts, style);
    output::write(&format!("{list}{}", render::troubles(&rules, style)))
}
