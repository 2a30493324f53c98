//! The shell around the core: the clock, a conductor per source that asks and feeds the engine, a driver task per rollout
//! that stores and applies decisions, and the cloneable [`Handle`] others talk to.

mod handle;

pub use handle::{EventLine, Handle, Refusal, Request, RolloutView, RuleView, StartArgs, Views};
