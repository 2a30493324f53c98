//! `canaryd approve`, `pause`, `resume`, `advance`, `promote`, `rollback`, `retry`: one file, for they differ by a word.

use super::client::{self, Client, ServerArgs};
use super::failure::Failure;
use super::output::{self, OutputArgs};
use super::{render, start};
use crate::api::wire;
use serde_json::Value;

/// What a verb was asked.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of the rollout, or of its rule
    #[arg(value_parser = client::name)]
    rollout: String,
    /// Why, for the record
    #[arg(long, default_value = "", hide_default_value = true)]
    why: String,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What a verb was asked that can be forced.
#[derive(Debug, clap::Args)]
pub(super) struct BreakGlass {
    #[command(flatten)]
    args: Args,
    /// Whatever the evidence says; recorded as such, and needs --why
    #[arg(long, requires = "why")]
    break_glass: bool,
}

/// What `rollback` was asked.
#[derive(Debug, clap::Args)]
pub(super) struct GiveUp {
    #[command(flatten)]
    args: Args,
    /// End a rollback whose weight cannot be written, such as when its route is gone for good; recorded as such, and needs --why
    #[arg(long, requires = "why")]
    break_glass: bool,
}

/// What `approve` was asked.
#[derive(Debug, clap::Args)]
pub(super) struct Approve {
    /// Name of the rollout, or of its rule; the only one that waits for an approval if left out
    #[arg(value_parser = client::name)]
    rollout: Option<String>,
    /// In which role, if your token has several
    #[arg(long, default_value = "", hide_default_value = true)]
    role: String,
    /// Why, for the record
    #[arg(long, default_value = "", hide_default_value = true)]
    why: String,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// An approval.
pub(super) async fn approve(args: Approve) -> Result<(), Failure> {
    let client = Client::new(&args.server)?;
    let rollout = match args.rollout {
        Some(rollout) => rollout,
        None => waiting(&client).await?,
    };
    let body = wire::ApproveBody { role: args.role, why: args.why };
    tell(client.post(&["rollouts", &rollout, "approve"], &body).await?, args.output)
}

/// The one rollout that waits for an approval.
async fn waiting(client: &Client) -> Result<String, Failure> {
    let all: wire::Rollouts = client::typed(client.get(&["rollouts"]).await?)?;
    let waits = |r: &wire::Rollout| r.state == "waiting" && r.approvals.iter().any(|needed| needed.by.is_none());
    let mut names: Vec<String> = all.rollouts.into_iter().filter(waits).map(|r| r.id).collect();
    match (names.pop(), names.is_empty()) {
        (Some(one), true) => Ok(one),
        (None, _) => Err(Failure::Refused("no rollout waits for an approval".to_owned())),
        (Some(last), false) => {
            Err(Failure::Usage(format!("several rollouts wait for an approval: name one of {}, {last}", names.join(", "))))
        }
    }
}

/// Back, or over without.
pub(super) async fn roll_back(wanted: GiveUp) -> Result<(), Failure> {
    run(if wanted.break_glass { "break-glass-rollback" } else { "rollback" }, wanted.args).await
}

/// A verb, or its forced form.
pub(super) async fn run_break_glass(verb: &str, forced: &str, wanted: BreakGlass) -> Result<(), Failure> {
    run(if wanted.break_glass { forced } else { verb }, wanted.args).await
}

/// A verb.
pub(super) async fn run(verb: &str, args: Args) -> Result<(), Failure> {
    let output = args.output;
    tell(say(verb, args).await?, output)
}

/// A new rollout of the same version.
pub(super) async fn retry(args: Args) -> Result<(), Failure> {
    let output = args.output;
    start::tell(say("retry", args).await?, output)
}

async fn say(verb: &str, args: Args) -> Result<Value, Failure> {
    let client = Client::new(&args.server)?;
    client.post(&["rollouts", &args.rollout, verb], &wire::VerbBody { why: args.why }).await
}

/// The rollout after it.
fn tell(answer: Value, output: OutputArgs) -> Result<(), Failure> {
    if output.json() {
        return output::write_json(&answer);
    }
    output::write(&render::line(&client::typed::<wire::Rollout>(answer)?))
}
