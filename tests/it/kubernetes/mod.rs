//! Routers of the cluster against a real control plane with the real custom resource definitions.

mod faults;
mod proxy;
mod rights;
mod scene;
mod walk;
