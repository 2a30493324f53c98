//! A router of a daemon that acts by a lease: it writes nothing once that may be another's, whatever it writes to.

use crate::cluster::lease::Fence;
use crate::model::{Side, TrafficReading};
use crate::router::{Answer, Desired, Router, RouterError};
use std::sync::Arc;
use tokio::sync::watch;

#[derive(Debug)]
struct Fenced {
    router: Arc<dyn Router>,
    fence: Arc<Fence>,
}

/// This router, behind the fence where there is one.
pub(super) fn fenced(router: Arc<dyn Router>, fence: Option<&Arc<Fence>>) -> Arc<dyn Router> {
    match fence {
        None => router,
        Some(fence) => Arc::new(Fenced { router, fence: Arc::clone(fence) }),
    }
}

impl Router for Fenced {
    fn name(&self) -> &'static str {
        self.router.name()
    }

    fn granularity_permille(&self) -> u16 {
        self.router.granularity_permille()
    }

    fn read(&self, canary: Side) -> Answer<'_, TrafficReading> {
        self.router.read(canary)
    }

    fn write(&self, desired: Desired) -> Answer<'_, ()> {
        Box::pin(async move {
            self.fence.check().map_err(|why| RouterError::Denied { what: self.router.name().to_owned(), why })?;
            self.router.write(desired).await
        })
    }

    fn changed(&self) -> Option<watch::Receiver<u64>> {
        self.router.changed()
    }
}
