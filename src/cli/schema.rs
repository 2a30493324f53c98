//! `canaryd schema`: the grammar of rules for editors.

use super::failure::Failure;
use super::output::{self, OutputArgs};
use crate::config::rule_schema;

/// What `schema` was asked.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// It is JSON either way
    #[command(flatten)]
    _output: OutputArgs,
}

/// Prints it, as it lies beside the shipped rules.
pub(super) fn run(_: Args) -> Result<(), Failure> {
    output::write(&rule_schema())
}
