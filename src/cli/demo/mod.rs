//! The parts of `canaryd demo`: two versions of a small service, and users of it. The tests' rig uses them too.

pub mod load;
pub mod service;
