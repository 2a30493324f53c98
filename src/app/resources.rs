//! The cluster's own view of canaryd: its resources are put together here from what `config` and `cluster` know.

use crate::cluster::resources;
use crate::config::rule_spec_schema;
use serde_json::Value;

/// The custom resource definitions of this build.
pub fn definitions() -> [Value; 2] {
    resources::definitions(rule_spec_schema())
}
