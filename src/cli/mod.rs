//! The command line, one file a command: its arguments and what it does. `run` and `demo` start the daemon by `app`, `check`,
//! `plan` and `replay` use its parts; every other command is a client (`client.rs`) of the HTTP API and shows what it answers.
//! Tables and sentences go to standard output, errors to standard error. Exit codes: 0 done, 1 refused, 2 wrong usage, 3 the server
//! cannot be reached, 4 the daemon lost its lease.
//!
//! With `-o json` every command writes one JSON document, or one a line where it follows something, and its error is a problem
//! document on standard error.

mod check;
mod client;
mod crds;
pub mod demo;
mod failure;
mod feed;
mod history;
mod live;
mod output;
mod plan;
pub mod render;
mod replay;
mod run;
mod schema;
mod start;
mod status;
mod table;
mod verb;
mod watch;
mod workloads;

use clap::{Parser, Subcommand};
use failure::Failure;
use std::ffi::OsString;
use std::future::Future;
use std::io::Write;
use std::process::ExitCode;

/// Canary analysis daemon: compares two versions of a service and moves the traffic
#[derive(Debug, Parser)]
#[command(
    name = "canaryd",
    version,
    after_help = "exit codes: 0 done, 1 refused, 2 wrong usage, 3 the server cannot be reached, 4 the daemon lost its lease"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon
    Run(run::Args),
    /// Watch a healthy canary go to 100% and a faulty one be rolled back; needs nothing
    Demo(demo::Args),
    /// Check rules with the daemon's own loader
    Check(check::Args),
    /// Print the JSON Schema of rules, for editors
    Schema(schema::Args),
    /// Print the custom resource definitions of the cluster's API, for kubectl apply
    Crds(crds::Args),
    /// Tell how long each step of a rule would need to see a fault, before it runs
    Plan(plan::Args),
    /// Tell what would have happened: a recording under a rule, or a rollout of the journal decided again
    Replay(replay::Args),
    /// Start a rollout of a rule
    Start(start::Args),
    /// Show all rollouts, or one in detail
    Status(status::Args),
    /// Show what became of past rollouts
    History(history::Args),
    /// Follow rollouts live
    Watch(watch::Args),
    /// Give the approval that a rollout waits for, in a role your token has
    Approve(verb::Approve),
    /// Stay at this weight until told otherwise
    Pause(verb::BreakGlass),
    /// Go on after a pause
    Resume(verb::Args),
    /// Go to the next step now, on the evidence there is
    Advance(verb::Args),
    /// Go all the way now
    Promote(verb::BreakGlass),
    /// Take the canary's traffic away
    Rollback(verb::GiveUp),
    /// Start the same version again, although it was rolled back
    Retry(verb::Args),
}

/// Runs one command; `args` begin with the program's name.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let json = output::json_wished(&args);
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) if json && error.use_stderr() => {
            let text = error.render().to_string();
            return tell(&Failure::Usage(text.trim().trim_start_matches("error: ").to_owned()), json);
        }
        Err(error) => {
            // help and version are no errors: clap knows which stream and which code
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            return if error.print().is_ok() { ExitCode::from(code) } else { ExitCode::from(2) };
        }
    };
    crate::tls::install();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => tell(&failure, json),
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(args) => on_all_cores(run::run(args)),
        Command::Demo(args) => on_all_cores(demo::run(args)),
        Command::Check(args) => wait_for(check::run(args)),
        Command::Schema(args) => schema::run(args),
        Command::Crds(args) => crds::run(args),
        Command::Plan(args) => wait_for(plan::run(args)),
        Command::Replay(args) => wait_for(replay::run(args)),
        Command::Start(args) => wait_for(start::run(args)),
        Command::Status(args) => wait_for(status::run(args)),
        Command::History(args) => wait_for(history::run(args)),
        Command::Watch(args) => wait_for(watch::run(args)),
        Command::Approve(args) => wait_for(verb::approve(args)),
        Command::Pause(args) => wait_for(verb::run_break_glass("pause", "break-glass-freeze", args)),
        Command::Resume(args) => wait_for(verb::run("resume", args)),
        Command::Advance(args) => wait_for(verb::run("advance", args)),
        Command::Promote(args) => wait_for(verb::run_break_glass("promote", "break-glass-promote", args)),
        Command::Rollback(args) => wait_for(verb::roll_back(args)),
        Command::Retry(args) => wait_for(verb::retry(args)),
    }
}

/// The daemon.
fn on_all_cores(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(anyhow::Error::from)?;
    runtime.block_on(work)
}

/// A client needs one thread.
fn wait_for(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from)?;
    runtime.block_on(work)
}

fn tell(failure: &Failure, json: bool) -> ExitCode {
    let told = if json { failure.document().map(|d| d.to_string()) } else { failure.text().map(|text| format!("canaryd: {text}")) };
    if let Some(text) = told {
        // if standard error is gone too there is nobody left to tell
        let _ = writeln!(std::io::stderr(), "{text}");
    }
    ExitCode::from(failure.exit_code())
}
