//! Kubernetes: the way to the API server ([`connect()`]) and what it shows of workloads ([`Cluster`]): shared watches of Deployments,
//! ReplicaSets and pods, which pod is which arm (for the packs' `pods()`), and the typed signs of pods (crash loop, failed probes),
//! and the [`actions`] on workloads, one file each. It must never write a weight (`router` does).
//!
//! Begin with `view.rs`: what may be asked. Everything there is answered from memory but [`Cluster::note`]. Beside the workloads:
//! [`rights`] (what we may do), [`lease`] (which of several processes acts), [`resources`] (rules and rollouts as objects).

pub mod actions;
mod connect;
pub mod lease;
mod note;
mod objects;
mod place;
mod pods;
pub mod resources;
pub mod rights;
mod signs;
mod standing;
mod table;
mod template;
mod view;

pub use crate::apiserver::{ABSENT, identity};
pub use connect::{ClusterError, ClusterSettings, connect, connect_fenced};
pub use note::{Earlier, PAUSED};
pub use standing::standing;
pub use view::{Cluster, Release};
