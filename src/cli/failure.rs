//! How a command fails, and with which exit code.

use crate::api::wire;
use crate::app;
use crate::telemetry::words;
use serde_json::{Value, json};
use std::io;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server says no, in its own words.
    Problem(Box<wire::Problem>),
    /// The daemon's own check, or its start, says no.
    Refused(String),
    /// The arguments make no sense.
    Usage(String),
    /// No server, or none that answers like one.
    Unreachable(String),
    /// The daemon lost the lease that says it may act: another takes its place, and it may be started again at once.
    LeaseLost(String),
    /// Nobody reads the output any more: `canaryd status | head`.
    PipeClosed,
}

impl Failure {
    /// What is told on standard error, if anything. A report may have several lines; no text from afar can move a
    /// terminal's cursor.
    pub(super) fn text(&self) -> Option<String> {
        let text = match self {
            Self::Problem(problem) => format!("{} ({})", problem.detail, problem.code),
            Self::Refused(text) | Self::Usage(text) | Self::Unreachable(text) | Self::LeaseLost(text) => text.clone(),
            Self::PipeClosed => return None,
        };
        Some(text.lines().map(words::printable).collect::<Vec<_>>().join("\n"))
    }

    /// The same for programs: a problem as the API gives it, with the exit code.
    pub(super) fn document(&self) -> Option<Value> {
        let (code, title) = match self {
            Self::Problem(problem) => {
                let mut document = json!(problem);
                document["exit-code"] = json!(self.exit_code());
                return Some(document);
            }
            Self::Refused(_) => ("refused", "Refused"),
            Self::Usage(_) => ("usage", "Wrong Usage"),
            Self::Unreachable(_) => ("unreachable", "Not Reached"),
            Self::LeaseLost(_) => ("lease-lost", "Lease Lost"),
            Self::PipeClosed => return None,
        };
        let detail = self.text().unwrap_or_default();
        Some(
            json!({ "type": format!("urn:canaryd:problem:{code}"), "title": title, "code": code, "detail": detail, "exit-code": self.exit_code() }),
        )
    }

    pub(super) const fn exit_code(&self) -> u8 {
        match self {
            Self::PipeClosed => 0,
            Self::Problem(_) | Self::Refused(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable(_) => 3,
            Self::LeaseLost(_) => app::LEASE_LOST,
        }
    }
}

impl From<io::Error> for Failure {
    /// Of writing to standard output.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::PipeClosed } else { Self::Refused(format!("output: {error}")) }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let text = format!("{error:#}");
        if error.is::<app::LeaseLost>() { Self::LeaseLost(text) } else { Self::Refused(text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_keeps_its_lines_and_nothing_else_a_terminal_obeys() {
        let report = Failure::Refused("a.yaml:3: x\nb.yaml:1: \x1b[2Jy".to_owned());
        assert_eq!(report.text().unwrap(), "a.yaml:3: x\nb.yaml:1: \u{fffd}[2Jy");
    }
}
