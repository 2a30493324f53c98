//! The log: one line per thing that happened, on standard error, as text or JSON.

use std::io;
use std::str::FromStr;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Not a format.
    #[error("log format {0:?} is neither text nor json")]
    Format(String),
    /// Not a list of levels.
    #[error("log levels {text:?}: {why}; write a level (error, warn, info, debug, trace), or a list such as info,canaryd=debug")]
    Levels { text: String, why: String },
    /// It was set up before.
    #[error("the log is set up already")]
    Twice,
}

impl FromStr for Format {
    type Err = LogError;

    fn from_str(s: &str) -> Result<Self, LogError> {
        match s {
            "text" => Ok(Format::Text),
            "json" => Ok(Format::Json),
            other => Err(LogError::Format(other.to_owned())),
        }
    }
}

/// It logs every call that fails as an error of its own; those that matter we tell ourselves, once.
const KUBE_CLIENT: &str = "kube_client";

/// Levels per target from `info` or `warn,canaryd=debug`.
///
/// # Errors
/// If it is no such list.
pub fn levels(text: &str) -> Result<Targets, LogError> {
    let levels = Targets::from_str(text).map_err(|why| LogError::Levels { text: text.to_owned(), why: why.to_string() })?;
    Ok(if text.contains(KUBE_CLIENT) { levels } else { levels.with_target(KUBE_CLIENT, LevelFilter::OFF) })
}

/// Sends every log line of the process to standard error. `colours` is for terminals.
///
/// # Errors
/// If it was called before.
pub fn init(format: Format, levels: Targets, colours: bool) -> Result<(), LogError> {
    let lines = fmt::layer().with_writer(io::stderr).with_ansi(colours);
    let layer = match format {
        Format::Text => lines.boxed(),
        Format::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(levels)).try_init().map_err(|_| LogError::Twice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn levels_are_given_per_target() {
        let levels = levels("info,canaryd=debug").unwrap();
        assert!(!levels.would_enable("kube_client::client::builder", &Level::ERROR), "we say it ourselves");
        assert!(super::levels("info,kube_client=debug").unwrap().would_enable("kube_client", &Level::DEBUG), "unless it is asked for");
        assert!(levels.would_enable("canaryd", &Level::DEBUG));
        assert!(!levels.would_enable("hyper", &Level::DEBUG));
    }

    #[test]
    fn what_is_no_level_is_named() {
        let text = levels("canaryd=loud").unwrap_err().to_string();
        assert!(text.contains("canaryd=loud") && text.contains("debug"), "{text}");
        assert_eq!("xml".parse::<Format>().unwrap_err().to_string(), "log format \"xml\" is neither text nor json");
    }
}
