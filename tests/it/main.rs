//! Integration tests, one binary.

mod config;
mod envoy_router;
mod layers;
mod rig;
mod store;
