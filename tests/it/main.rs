//! Integration tests, one binary.

mod layers;
mod rig;
