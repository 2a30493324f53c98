//! How a command fails, and with which exit code.

use super::output;
use std::io;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server (or the daemon's own check) says no.
    Refused(String),
    /// The arguments make no sense.
    Usage(String),
    /// As it stands, several lines: a report of problems.
    Report(String),
    /// No server, or none that answers like one.
    Unreachable(String),
    /// Nobody reads the output any more: `canaryd status | head`.
    PipeClosed,
}

impl Failure {
    /// What is told on standard error, if anything. Text from a server cannot move a terminal's cursor.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Self::Report(text) => Some(text.lines().map(output::clean).collect::<Vec<_>>().join("\n")),
            Self::Refused(text) | Self::Usage(text) | Self::Unreachable(text) => Some(output::clean(text)),
            Self::PipeClosed => None,
        }
    }

    pub(super) const fn exit_code(&self) -> u8 {
        match self {
            Self::PipeClosed => 0,
            Self::Refused(_) | Self::Report(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable(_) => 3,
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
        Self::Refused(format!("{error:#}"))
    }
}
