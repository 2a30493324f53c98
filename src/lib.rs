#![doc = include_str!("../README.md")]

// pure: no I/O, no clock, no await; the fence of .clippy.toml is denied here
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod analysis;
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod engine;
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod model;
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod rollout;
#[deny(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod stats;

// adapters: each talks to one kind of outside, none to another
pub mod cluster;
pub mod config;
pub mod notify;
pub mod router;
pub mod source;
pub mod store;
pub mod telemetry;

// shell
pub mod api;
pub mod app;
pub mod cli;
pub mod runtime;
pub mod web;
