//! Scripts (one input per line with the expected answer) and properties of the machine.

mod alerts;
mod capacity;
mod gap;
mod gates;
mod pods;
mod promotion;
mod properties;
mod rolling;
mod script;
mod steps;
mod traffic;
mod verbs;

pub(super) use script::{check, rule};
