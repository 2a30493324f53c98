//! Integration tests, one binary.

mod config;
mod envoy_router;
mod layers;
mod rig;
mod store;
mod api;
mod cli;
mod layers;
mod served;
