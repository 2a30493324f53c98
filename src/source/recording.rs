//! Rollouts as files of JSON lines: what `canaryd replay` and the tests read, and what a live rollout can be saved as.
//!
//! ```text
//! {"canaryd-recording":1,"interval-s":15,"bounds-ms":[5,10,25],"rule":"chatbot","start":"2026-11-21T10:00:00Z"}
//! {"history":{"requests":[100,null,98],"errors":[0,null,1],"buckets":[[90,95,99,100],null,[88,94,97,98]]}}
//! {"t":15,"step":0,"baseline":{"requests":100,"errors":1,"buckets":[90,95,99,100],"pods":3},"canary":null}
//! ```
//!
//! - **Header**, the first line: `interval-s` (seconds, > 0), `bounds-ms` (upper bounds of the latency buckets, ascending,
//!   without `+Inf`; may be empty), `rule` (name, optional), `start` (RFC 3339; the start of the first interval).
//! - **History**, optional, the second line: the baseline's past, one entry per poll, oldest first, `null` where a poll is
//!   missing. `requests`, `errors`, `buckets` are increments; `cpu`, `memory`, `leak` A/A log-ratios that end with the last
//!   poll; `load` is `{"rate": [..], "cpu": [..]}`, 24 h in 5-min steps. Each may be absent.
//! - **A tick a line**: `t` = seconds from `start` to the END of the interval, ascending; `step` = index into the rule's
//!   steps (optional: the reader's own clock decides); each arm `null` (not scraped) or an object whose members may each be
//!   null or absent (not read): `requests`, `errors`, `abandoned` and `buckets` (cumulative in the bound, `+Inf` last) are
//!   increments since that arm's last good reading; `cpu` (cores), `memory`, `floor` (bytes) levels per pod; `pods`.
//!
//! Empty lines and lines that start with `#` are skipped. Unknown members are refused.

use crate::model::{ArmSample, History, PerArm, Timestamp};
use std::io::{self, Write};
use std::time::Duration;

/// The first line.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// Length of a tick.
    pub interval: Duration,
    /// Upper bounds of the latency buckets, ms, ascending, without `+Inf`.
    pub bounds_ms: Vec<f64>,
    /// Name of the rule it was made with.
    pub rule: Option<String>,
    /// Start of the first interval.
    pub start: Timestamp,
}

/// One tick.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedTick {
    /// The end of its interval.
    pub at: Timestamp,
    /// The step then, if it was written down.
    pub step: Option<u32>,
    /// Both arms.
    pub arms: PerArm<ArmSample>,
}

/// A whole recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// Its first line.
    pub header: Header,
    /// The baseline's past; empty if there is none.
    pub history: History,
    /// Ticks, ascending in time.
    pub ticks: Vec<RecordedTick>,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct Problem {
    /// 1-based.
    pub line: usize,
    /// What.
    pub why: String,
}

impl Recording {
    /// Reads a whole file's text.
    ///
    /// # Errors
    /// Every problem found, with its line.
    pub fn parse(_text: &str) -> Result<Self, Vec<Problem>> {
        Err(Vec::new())
    }

    /// Writes it so that [`Recording::parse`] gives the same again (reasons of blindness are not kept).
    ///
    /// # Errors
    /// The writer's.
    pub fn write(&self, _out: &mut impl Write) -> io::Result<()> {
        Ok(())
    }
}
