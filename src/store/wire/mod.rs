//! The JSON of a journal line. The types here describe those of `model` field by field (serde's `remote`), so that the
//! compiler says when one moved and old lines need a translation. The same event gives the same text, and the text gives
//! the event back bit for bit (every NaN is one NaN).
//!
//! Shapes worth knowing: a line is `{"v":1,"event":{"poll":{...}}}`; counts are `[total,bad]`; a reading that failed is its
//! word (`"no-series"`); a number that JSON has no word for is `"nan"`, `"inf"`, `"-inf"`; bucket counts are
//! `[length,count,...]` where the last count given repeats up to the length; a duration is whole milliseconds, or
//! `"seconds.nanoseconds s"`; an instant is milliseconds since the epoch; a weight is permille.

mod atoms;
mod decision;
mod event;
mod input;
mod sample;
#[cfg(test)]
mod tests;
mod workload;

use crate::model::State;
use crate::model::journal::{Event, Kept};
use atoms::{Own, Ref};
use serde::{Deserialize, Serialize};

/// The format written. A line with a higher number is refused, one with a lower number would be translated here.
const FORMAT: u32 = 1;

#[derive(Serialize)]
struct LineOut<'a> {
    v: u32,
    event: Ref<'a, Event>,
}

#[derive(Deserialize)]
struct LineIn {
    event: Own<Event>,
}

#[derive(Deserialize)]
struct Head {
    v: u32,
}

/// The JSON of one event.
///
/// # Errors
/// `Input::Tick`, which a journal never keeps: its poll is kept instead.
pub(super) fn encode(event: &Event) -> Result<String, String> {
    serde_json::to_string(&LineOut { v: FORMAT, event: Ref(event) }).map_err(|e| e.to_string())
}

/// The event of one line.
///
/// # Errors
/// A sentence: a newer format, or what is wrong and where in the text.
pub(super) fn decode(text: &str) -> Result<Event, String> {
    let head: Head = serde_json::from_str(text).map_err(|e| format!("no journal line: {e}"))?;
    if head.v != FORMAT {
        return Err(format!("written in format {}, this build reads format {FORMAT}: use the canaryd that wrote it", head.v));
    }
    let line: LineIn = serde_json::from_str(text).map_err(|e| e.to_string())?;
    Ok(line.event.0)
}

/// The JSON of kept dispersion.
///
/// # Errors
/// None today.
pub(super) fn encode_kept(kept: &Kept) -> Result<String, String> {
    serde_json::to_string(&Ref(kept)).map_err(|e| e.to_string())
}

/// The dispersion of such a text.
///
/// # Errors
/// It is none.
pub(super) fn decode_kept(text: &str) -> Result<Kept, String> {
    serde_json::from_str::<Own<Kept>>(text).map(|k| k.0).map_err(|e| e.to_string())
}

/// How the JSON of a poll's line begins: retention tells them apart without reading them.
pub(super) const POLL_BEGINS: &str = r#"{"v":1,"event":{"poll":"#;

/// How the JSON of the other lines begins that tell of a rollout's life.
pub(super) const OUTLINE_BEGINS: [&str; 3] =
    [r#"{"v":1,"event":{"opened":"#, r#"{"v":1,"event":{"decided":"#, r#"{"v":1,"event":{"input":{"command":"#];

/// The JSON of a state, as the list of rollouts keeps it.
///
/// # Errors
/// None today.
pub(super) fn encode_state(state: &State) -> Result<String, String> {
    serde_json::to_string(&Ref(state)).map_err(|e| e.to_string())
}

/// The state of such a text.
///
/// # Errors
/// It is none.
pub(super) fn decode_state(text: &str) -> Result<State, String> {
    serde_json::from_str::<Own<State>>(text).map(|s| s.0).map_err(|e| e.to_string())
}
