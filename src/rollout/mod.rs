//! One rollout's life as a pure state machine: `handle(now, input) -> decision`. Every rule of stepping, holding and
//! rolling back is here (DESIGN 6); what the evidence says comes in from `analysis`, and nothing here has a clock or I/O.
//!
//! ```text
//!  Begin    gates open           keep empty, nothing holds            last step over
//!  Waiting --------> Progressing(0) --> Progressing(n) --> Baking --> (Promoting) --> Succeeded
//!    |  approvals,      |  a weight is written, then in force |
//!    |  window, pods,   |  before-step hook, freeze, replicas |
//!    |  hook            |                                     |
//!    '------------------'--- breach, vanished, pods, alert, policy, window, hook, person, newer version --> RollingBack
//!                                                                           RollingBack --> RolledBack | Superseded
//!
//!  Paused (a person, a policy that asks) and Stuck (the router, or a workload, does not take what is wanted) lie over these and
//!  end where they began.
//! ```
//!
//! What it must never do: raise a weight because nothing could be seen, or beyond what the canary's pods can carry, turn a rollback
//! around, delay one for a window, send traffic to a stable that is half updated, or keep a rollout without saying why.
//! [`invariants::check`] states these over any two decisions in a row, [`invariants::Told`] what is told over all of them.
//!
//! Read `machine.rs` first (what it knows, and the dispatch), then `gates.rs` (what stands before the first weight, with
//! `approvals.rs` and `hooks.rs`) and `tick.rs` (the list of steps a poll goes through). `policy.rs` has the holds that last too
//! long, `windows.rs` and [`calendar`] the maintenance windows, `capacity.rs` and `pods.rs` what the cluster shows of the
//! workloads, `share.rs` and `vanished.rs` ask whether the traffic obeys and requests come back, `alerts.rs` and `relate.rs` what
//! somebody else's alerts do, `router.rs` has effects and readings, `promotion.rs` what follows the bake, `work.rs` what is done
//! to workloads, `verbs.rs` a person's word. What is said is in `holds.rs` (to whoever looks) and `notices.rs` (to whoever is
//! told).

mod alerts;
mod approvals;
pub mod calendar;
mod capacity;
mod gap;
mod gates;
mod holds;
mod hooks;
pub mod invariants;
mod machine;
mod notices;
mod pods;
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
mod work;

pub use approvals::Approved;
pub use machine::Machine;
pub use relate::{Relation, relate};
pub use texts::reason_text;
