//! The shell around the core: the clock, a conductor per source that asks it and feeds the engine, a driver per rollout that
//! stores and applies decisions, the supervisor that owns what exists once, and the cloneable [`Handle`] others talk to.
//!
//! ```text
//!   conductor (source, tick length) --polls--> engine --judgements--> driver (one rollout) --store, then--> writer --> router
//!        ^                                                              ^   |
//!        '------ the step the next poll is booked to -------------------|---'          supervisor: rules, starts, commands
//!                                                       person's word --'
//! ```
//! Read `driver.rs` first: its `decide` is the one path of every input (`mail.rs` is how it comes). Then `start.rs` (what precedes a
//! rollout), [`replay`] (how one comes back from its journal), `lookout.rs` and `worker.rs` (eyes and hands in a cluster), `releases/`
//! (what begins a rollout there), `needs.rs` (whether what a rule needs is there).

mod alerts;
mod annotations;
mod changes;
mod clock;
mod conductor;
mod driver;
mod handle;
mod history;
pub mod hooks;
mod kept;
mod lookout;
mod mail;
mod memory;
mod needs;
pub mod parts;
pub mod plan;
mod registry;
mod releases;
pub mod replay;
mod retell;
pub mod retention;
mod start;
mod supervisor;
mod worker;
mod writer;

pub use crate::rollout::Approved;
pub use alerts::Heard;
pub use annotations::{ROLLOUTS_MAX, Range, Stretch};
pub use clock::now;
pub use handle::{
    Approval, EventLine, Handle, PastArgs, PastRollout, PastRollouts, Refusal, Request, RolloutView, RuleView, StartArgs, Views, Waiting,
};
pub use history::PAST_MAX;
pub use hooks::Hooks;
pub use registry::Registry;
pub use supervisor::{MakeRouter, MakeSource, Makers, ReadRules, RulesRefused, Setting, Supervisor};
