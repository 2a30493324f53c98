//! Kubernetes: the way to the API server ([`connect()`]); later shared watches of workloads and pods, and the actions on workloads
//! (undo, scale). What belongs here: which pod is which arm (for the packs' `pods()`), the typed signals of pods (crash loop,
//! failed probes), and one file per action. It must never write a weight (`router` does).

mod connect;

pub use connect::{ClusterError, ClusterSettings, connect};
