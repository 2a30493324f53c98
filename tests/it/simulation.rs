//! Seeded simulations of the decision path in virtual time: counters of single processes are differenced, judged and decided
//! upon by the product's own code; the world around it is made here, from one number.
//!
//! - [`calibration`]: are false rollbacks as rare, and faults found as fast, as STATISTICS 16 says?
//! - [`whole`]: does everything that must never happen not happen, whatever the source, the router and people do?
//! - [`restart`]: does a journal's beginning lead to the same decisions as no restart at all?

mod around;
mod bounds;
mod calibration;
mod cluster;
mod dice;
mod path;
mod restart;
mod scenario;
mod whole;
mod world;
