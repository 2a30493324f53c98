//! `canaryd schema`: the grammar of rules for editors.

use super::failure::Failure;
use super::output;
use crate::config::rule_schema;

/// Prints it, as it lies beside the shipped rules.
pub(super) fn run() -> Result<(), Failure> {
    output::write(&rule_schema())
}
