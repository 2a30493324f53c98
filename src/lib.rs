#![doc = include_str!("../README.md")]
//!
//! # Architecture
//!
//! ```text
//!  Prometheus        source/           engine/ (own thread, lock-free)      rollout/ (pure)        runtime/          router/
//!  or /metrics  -->  few queries    --> samples -> evidence per slot     --> handle(now, input) --> store first, --> weight in
//!  or a recording    for all            -> verdicts -> gate (analysis/)      -> Decision            then apply       Envoy, ...
//!                    rollouts           |                                     ^                      |
//!                                       v                                     |                      v
//!                               snapshots (arc-swap)                    persons' words           log, metrics,
//!                                       |                                (api/, cli/)             live feed
//!                                       v
//!                      api/ telemetry/ read without ever blocking the engine
//! ```
//!
//! ```text
//!    main -> cli -> app -> api -> web                                      app wires everything; arrows only point down
//!                     \      \
//!                      '------'--> runtime --> source router cluster notify store config    siblings never import each
//!                                     |                  |                                  other, but router and cluster
//!    -------------------------------- | ---------------- | ---- below: no await, no clock,  call apiserver; telemetry and
//!                                     v                  |      no I/O, no crate having any  tls are for all of the shell
//!               rollout, engine --> analysis --> stats   |     stats imports nothing of ours
//!                        \             |                 |
//!                         '------------'---> model <-----'
//! ```
//!
//! Where to begin: [`model::rollout`] for the words, [`analysis`] for how a poll becomes a verdict, [`rollout`] for how
//! verdicts become a weight, `runtime/driver.rs` for how a decision becomes an act.
//!
//! # Invariants
//!
//! 1. The same journal of inputs gives the same decisions ([`runtime::replay`]).
//! 2. Only [`rollout`] chooses a weight; only [`router`] writes one. A decision is stored before it is applied (only a lower
//!    weight may go ahead while the store is down, and is stored after); applying is idempotent and carries a generation,
//!    so a stale writer cannot move traffic.
//! 3. "Could not look" is its own answer: it never advances, and rolls back only where the rule says so.
//! 4. Every hold has a reason an operator can read: what was seen, what would end it, until when.
//! 5. From a sample to a verdict: no lock, no allocation, no clock, no system call; every queue has a named bound and what
//!    does not fit is counted.
//! 6. A rollout's budget for false alarms is set in one place ([`config`]), shared out there over the metrics, and never
//!    renewed per step.
//! 7. [`model`] has no serde derives: wire types live in `api`, `store`, `source::recording` and `config`, so that the API
//!    and old journals stay still while the core moves.

// pure: no I/O, no clock, no await; the fence of .clippy.toml is denied here
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod analysis;
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod engine;
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod model;
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod rollout;
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod stats;

// adapters: each talks to one kind of outside, none to another (apiserver is below those that speak to Kubernetes)
pub mod apiserver;
pub mod cluster;
pub mod config;
mod hop;
pub mod notify;
pub mod router;
pub mod source;
pub mod store;
pub mod telemetry;
pub mod tls;

// shell
pub mod api;
pub mod app;
pub mod cli;
pub mod runtime;
pub mod web;
