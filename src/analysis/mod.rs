//! From samples to verdicts: one judge per rollout, fed one poll at a time (STATISTICS 1 to 8 composed).
//!
//! No lock, no clock, no system call, and no allocation once a judge is built. The same polls give the same evidence, bit for
//! bit, in the same binary. It never chooses a weight: that is `rollout`'s. Read [`judge`] first (the order inside a poll),
//! then one file per family: [`errors`], [`latency`], [`gauge`], [`limits`], [`labels`], [`bake`], [`gate`].

pub mod bake;
pub mod clock;
pub mod combine;
mod decision;
pub mod errors;
mod estimate;
mod evidence;
pub mod gate;
pub mod gauge;
mod history;
pub mod inspect;
pub mod judge;
pub mod labels;
pub mod latency;
pub mod limits;
mod memory;
mod metric;
mod notes;
pub mod pairing;
pub mod process;
mod report;
mod seen;
pub mod series;
mod setup;
mod ticks;

pub use inspect::Inspection;
pub use judge::Judge;
pub use setup::{JudgeError, KeptSums};
