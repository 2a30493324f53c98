//! Integration tests, one binary.

mod api;
mod badinput;
mod cli;
mod config;
mod demo_parts;
mod e2e;
mod envoy_router;
mod gauges;
mod judge;
mod layers;
mod packs;
mod plan;
mod prometheus;
mod properties;
mod reference;
mod replay;
mod rig;
mod runtime;
mod scrape;
mod scripted;
mod served;
mod shipped;
mod simulation;
mod store;
mod traces;
mod vectors;
