//! Integration tests, one binary.

mod config;
mod layers;
mod rig;
mod store;
