//! Integration tests, one binary.

mod api;
mod cli;
mod config;
mod demo_parts;
mod envoy_router;
mod layers;
mod rig;
mod served;
mod store;
mod prom_rig;
mod prometheus;
mod scrape;
mod scripted;
mod judge;
mod layers;
mod properties;
mod reference;
mod traces;
mod vectors;
