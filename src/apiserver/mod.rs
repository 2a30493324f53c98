//! Calls of the Kubernetes API server, for whoever has one to make: each bounded in time and size, told in the operator's words.
//! Objects that may be written again are plain JSON, so that no field of a newer cluster is lost. What is asked, and why, is the caller's.
//! One object is an [`Object`]; all of a kind are a [`Collection`], which can be listed, or followed ([`follow()`]) for ever.

mod collection;
mod follow;
mod object;
mod owner;
mod scalers;
mod sets;
mod template;

pub use collection::Collection;
pub use follow::{Follower, follow};
pub use object::{Object, Resource};
pub use owner::owner_of;
pub use scalers::scalers_of;
pub use sets::replica_sets;
pub use template::{HASH_LABEL, bare, has_become, identity};

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// Something from 0 up to 1 that nobody can foretell, to scatter waits by: of several that broke or began at the same moment, none
/// shall ask again at the same moment.
pub fn chance() -> f64 {
    (RandomState::new().hash_one(()) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Our name as field manager: what `kubectl get --show-managed-fields` shows beside what we wrote.
pub const MANAGER: &str = "canaryd";

/// Why a call brought nothing. None of them names the object: [`Object::what`] does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No answer, or "too many requests", or an error of the server's own.
    #[error("{0}")]
    Unreachable(String),
    /// There is no such object, or no such kind of object.
    #[error("{0}")]
    Missing(String),
    /// We lack a permission; says which.
    #[error("{0}")]
    Denied(String),
    /// The server, or an admission policy, refuses.
    #[error("{0}")]
    Refused(String),
    /// 409 or 422: the object is not as the change says, or its rules refuse it; the two cannot be told apart. The server's words.
    #[error("{0}")]
    Conflict(String),
}

/// What [`CallError::Missing`] says where the kind is served and the object is not there.
pub const ABSENT: &str = "does not exist";
