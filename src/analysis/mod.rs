//! From samples to verdicts: one judge per rollout, fed one poll at a time (STATISTICS 1 to 8 composed).
//!
//! No lock, no clock, no system call, and no allocation once a judge is built. The same polls give the same evidence, bit for
//! bit, in the same binary. It never chooses a weight: that is `rollout`'s. Read [`judge`] first (the order inside a poll),
//! then one file per family: [`errors`], [`latency`], [`gauge`], [`limits`], [`labels`], [`bake`], [`gate`].
//!
//! ```
//! # use canaryd::analysis::Judge;
//! # use canaryd::model::*;
//! # use std::time::Duration;
//! let errors = MetricSpec {
//!     name: "error-rate".into(),
//!     kind: MetricKind::Errors,
//!     compared: true,
//!     margin: Margin::Counts { relative: 0.2, absolute: 2e-4, ok_relative: 0.5, ok_absolute: 1e-3 },
//!     required: true,
//!     weight: 0.4,
//!     limits: Limits::default(),
//! };
//! let spec = JudgeSpec {
//!     interval: Duration::from_secs(15),
//!     budget: Budget::default(),
//!     incarnation: 0,
//!     metrics: vec![errors],
//!     bounds_ms: vec![],
//!     steps: vec![StepTime { weight: "5%".parse()?, for_s: 900.0 }],
//!     advance: Advance::OnSchedule { strict: false },
//!     min_requests: 20,
//!     cpu_load_rule: true,
//!     method: Method::default(),
//! };
//! let mut judge = Judge::new(&spec, &History::default())?;
//! let mut out = Judgement::empty(Timestamp::default(), 0);
//! for tick in 1..=2 {
//!     let arms = PerArm { baseline: ArmSample::counts(2850.0, 3.0), canary: ArmSample::counts(150.0, 150.0) };
//!     judge.poll(&Poll { at: Timestamp::from_millis(15_000 * tick), step: 0, counts_time: true, arms, changes: Vec::new() }, &mut out);
//! }
//! // an outage, in two polls, without any history
//! assert_eq!(out.rollback.as_slice(), [Breach::Metric(0), Breach::Gross]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod bake;
mod changes;
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
pub mod plan;
pub mod process;
mod report;
mod seen;
pub mod series;
mod setup;
mod ticks;

pub use crate::stats::dispersion::ScaleSums;
pub use inspect::Inspection;
pub use judge::Judge;
pub use series::SeriesKey;
pub use setup::{JudgeError, KeptSums};
