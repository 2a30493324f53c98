//! The tests and estimators of `STATISTICS`, one file per idea. Plain numbers in, plain numbers out: no nouns of ours, no
//! clock, no allocation after construction. Times are seconds and come in as arguments, because a demo runs them faster.
//!
//! Everything is `f64`; evidence comes out in nats (natural logarithms). Read [`counts`] (one poll), then [`harm`] (polls summed up), then
//! [`dispersion`] (how far requests are from independent).

pub mod counts;
pub mod cut;
pub mod dispersion;
pub mod fast;
pub mod gauge;
pub mod grid;
pub mod gross;
pub mod harm;
pub mod helmert;
pub mod incident;
pub mod interval;
pub mod label;
pub mod latency;
pub mod load;
pub mod logsum;
mod mass;
pub mod ok;
pub mod plan;
pub mod sustained;
