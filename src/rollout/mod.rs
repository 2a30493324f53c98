//! One rollout's life as a pure state machine: `handle(now, input) -> decision`. Every rule of stepping, holding and
//! rolling back is here (DESIGN 6); what the evidence says comes in from `analysis`, and nothing here has a clock or I/O.
//!
//! ```text
//!  Begin                 keep empty, nothing holds            last step over
//!  Waiting --> Progressing(0) --> Progressing(n) --> Baking --> (Promoting) --> Succeeded
//!                 |  a weight is written, then in force |          |
//!                 '------ breach, vanished, policy, person, newer version -----> RollingBack --> RolledBack | Superseded
//!
//!  Paused (a person, a policy that asks) and Stuck (the router does not take the weight) lie over these and end where they began.
//! ```
//!
//! What it must never do: raise a weight because nothing could be seen, turn a rollback around, or keep a rollout without
//! saying why. [`invariants::check`] states these over any two decisions in a row.
//!
//! Read `machine.rs` first (what it knows, and the dispatch), then `tick.rs` (the list of steps a poll goes through),
//! `policy.rs` (holds that last too long), `share.rs` and `vanished.rs` (does the traffic obey, do requests come back),
//! `router.rs` (effects and readings), `verbs.rs` (a person's word) and `holds.rs` (what the operator reads).

mod alerts;
mod approvals;
pub mod calendar;
mod gap;
mod gates;
mod holds;
mod hooks;
pub mod invariants;
mod machine;
mod notices;
mod policy;
mod promotion;
mod relate;
mod router;
mod share;
#[cfg(test)]
mod tests;
mod texts;
mod tick;
mod vanished;
mod verbs;
mod windows;

pub use approvals::Approved;
pub use machine::Machine;
pub use relate::{Relation, relate};
pub use texts::reason_text;
