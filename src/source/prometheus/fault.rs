//! Why an answer holds no rows: a closed set, each with the server's own words, and what each means for a tick.

use crate::model::Blind;
use crate::source::SourceError;
use std::fmt;

/// Why an answer holds no rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server refuses this query; its words.
    Rejected(String),
    /// It does not take our token or password.
    Unauthorized(String),
    /// Its certificate or ours is not accepted.
    Certificate(String),
    /// It asked for a pause, or we asked as often as we may.
    Busy(String),
    /// It gave this query up because it took too long.
    Slow(String),
    /// It cannot answer now, or could not be reached.
    Down(String),
    /// It says itself that something is missing from its answer.
    Incomplete(String),
    /// What came is no answer of this API.
    Body(String),
    /// The body is larger than the limit in bytes.
    TooLarge(usize),
}

impl Fault {
    /// The word used as metric label.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Rejected(_) => "rejected",
            Self::Unauthorized(_) => "unauthorized",
            Self::Certificate(_) => "certificate",
            Self::Busy(_) => "busy",
            Self::Slow(_) => "slow",
            Self::Down(_) => "down",
            Self::Incomplete(_) => "incomplete",
            Self::Body(_) => "body",
            Self::TooLarge(_) => "too-large",
        }
    }

    /// The blindness it means.
    pub const fn blind(&self) -> Blind {
        match self {
            Self::Rejected(_) | Self::TooLarge(_) => Blind::QueryRejected,
            _ => Blind::SourceDown,
        }
    }

    /// Is it about what was asked, so that asking for less of it helps?
    pub const fn of_query(&self) -> bool {
        matches!(self, Self::Rejected(_) | Self::TooLarge(_))
    }

    /// Might other credentials help?
    pub(super) const fn of_credentials(&self) -> bool {
        matches!(self, Self::Unauthorized(_) | Self::Certificate(_))
    }

    /// As the error of a set-up or a history.
    pub fn into_error(self, url: &str, query: &str) -> SourceError {
        let url = url.to_owned();
        match self {
            Self::Rejected(answer) => SourceError::Rejected { url, query: query.to_owned(), answer },
            Self::Down(cause) | Self::Busy(cause) | Self::Slow(cause) => SourceError::Down { url, cause },
            Self::Unauthorized(cause) | Self::Certificate(cause) => SourceError::Refused { url, cause },
            Self::Body(_) | Self::Incomplete(_) | Self::TooLarge(_) => SourceError::Body { url, cause: self.to_string() },
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(why)
            | Self::Unauthorized(why)
            | Self::Certificate(why)
            | Self::Busy(why)
            | Self::Slow(why)
            | Self::Down(why)
            | Self::Body(why) => f.write_str(why),
            Self::Incomplete(why) => write!(f, "the answer is incomplete: {why}"),
            Self::TooLarge(max) => {
                write!(f, "the answer is larger than {max} bytes: narrow the rule's selectors, or raise the source's answer_max_mb")
            }
        }
    }
}
