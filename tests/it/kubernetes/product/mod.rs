//! The whole product: Deployments on a real control plane, a real istiod and a real Envoy that send real users to them, a real
//! Prometheus, and the real binary with what is shipped under `deploy/`. First file to read: `stage.rs`.

mod blue_green;
mod capacity;
mod copy;
mod faults;
mod objects;
mod stage;
mod swap;

use crate::rig::service::Behaviour;

/// A behaviour that fails so many.
fn errors(share: f64) -> Behaviour {
    Behaviour { errors: share, ..Behaviour::default() }
}
