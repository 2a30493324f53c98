//! Routers of the cluster, and what is shipped for it, against a real control plane with the real custom resource definitions.

mod deploy;
mod faults;
mod proxy;
mod resources;
mod rights;
mod rollout;
mod scene;
mod walk;
