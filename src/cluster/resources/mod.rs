//! canaryd's own resources in the cluster: `CanaryRule`, a rule as an object instead of a file, and `CanaryRollout`, what a rollout
//! shows of itself to `kubectl`. A rollout reads nothing of them: they are a window, never a lever.
//!
//! The version is `v1alpha1`: the grammar of rules may still change, and an object of that version may have to be written anew.

mod definitions;

pub use definitions::definitions;

use crate::apiserver::Resource;

/// API group of both; also the prefix of our annotations and labels.
pub const GROUP: &str = "canaryd.io";
/// Version of both.
pub const VERSION: &str = "v1alpha1";
/// A rule.
pub const RULE: Resource = Resource { api: "canaryd.io/v1alpha1", kind: "CanaryRule", plural: "canaryrules" };
/// A rollout.
pub const ROLLOUT: Resource = Resource { api: "canaryd.io/v1alpha1", kind: "CanaryRollout", plural: "canaryrollouts" };
