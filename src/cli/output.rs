//! Where output goes and how it looks there.

use super::failure::Failure;
use super::table::Style;
use serde_json::Value;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};

/// For people or for programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// Aligned text.
    #[default]
    Table,
    /// JSON.
    Json,
}

/// How every client command writes.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(super) struct OutputArgs {
    /// How to write the answer
    #[arg(short, long, value_enum, default_value_t)]
    pub(super) output: Format,
}

impl OutputArgs {
    pub(super) fn json(self) -> bool {
        self.output == Format::Json
    }
}

/// Do these arguments ask for JSON? Looked at before they are understood: an argument that is wrong is told as JSON too.
pub(super) fn json_wished(args: &[OsString]) -> bool {
    let words: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).take_while(|arg| *arg != "--").collect();
    let apart = words.windows(2).any(|two| matches!(two, ["-o" | "--output", "json"]));
    apart || words.iter().any(|word| matches!(*word, "-ojson" | "-o=json" | "--output=json"))
}

/// Writes one line of JSON about what goes on.
pub(super) fn write_event(event: &str, data: &Value) -> Result<(), Failure> {
    write(&format!("{}\n", serde_json::json!({ "event": event, "data": data })))
}

/// Is standard output a terminal that can be redrawn?
pub(super) fn terminal() -> bool {
    io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Colours only on a terminal, and not against a person's wish (no-color.org: set and not empty).
pub(super) fn style() -> Style {
    let wished = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if terminal() && wished { Style::Colours } else { Style::Plain }
}

/// Writes text to standard output.
pub(super) fn write(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Writes a document, as it came from the server, with line breaks.
pub(super) fn write_json(document: &Value) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(document).map_err(anyhow::Error::from)?;
    write(&format!("{text}\n"))
}
