//! Routers of the cluster, and what is shipped for it, against a real control plane with the real custom resource definitions.

mod actions;
mod check;
mod deploy;
mod entries;
mod faults;
mod gitops;
mod lease;
mod one;
mod outage;
mod paths;
mod product;
mod proxy;
mod quickstart;
mod releases;
mod replicas;
mod resources;
mod rights;
mod rollout;
mod scale;
mod scene;
mod walk;
mod watch;

use std::path::Path;

/// A file or folder under `deploy/`.
fn shipped(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path).display().to_string()
}
