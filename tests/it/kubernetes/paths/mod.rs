//! The paths of a rollout that need no mesh: the real binary on the real control plane, with the weights of a VirtualService (or the
//! replicas themselves) that nobody but it reads, and a page of counters in place of users. First file to read: `stage.rs`.

mod approved;
mod copy;
mod external;
mod never_ready;
mod replicas;
mod scalers;
mod stage;
mod swap;
