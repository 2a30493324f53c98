//! (see lib.rs)
pub mod demo;
