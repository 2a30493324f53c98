//! A router asked from a test that has no runtime of its own: the rig's services bring theirs.

use canaryd::model::{Side, TrafficReading};
use canaryd::router::{Desired, Router, RouterError};
use std::sync::Arc;
use tokio::runtime::Runtime;

/// A router that is waited for.
pub(crate) struct Waited {
    router: Arc<dyn Router>,
    runtime: Runtime,
}

impl Waited {
    /// Each has a runtime of its own.
    pub(crate) fn new(router: Arc<dyn Router>) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { router, runtime }
    }

    /// See [`Router::read`].
    pub(crate) fn read(&self, canary: Side) -> Result<TrafficReading, RouterError> {
        self.runtime.block_on(self.router.read(canary))
    }

    /// See [`Router::write`].
    pub(crate) fn write(&self, desired: Desired) -> Result<(), RouterError> {
        self.runtime.block_on(self.router.write(desired))
    }
}
