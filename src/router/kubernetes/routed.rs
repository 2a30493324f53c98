//! What every router of this folder is to the outside: a name, a watch, and one write at a time over a place that is read and written.

use super::watched::Watched;
use crate::model::rule::RouteKind;
use crate::model::{Noted, Side, TrafficReading, Weight};
use crate::router::{Answer, Desired, Router, RouterError};
use std::fmt;
use std::future::Future;
use tokio::sync::watch;

/// One object, or several that belong together, and where the weight is in them.
pub(super) trait Place: Send + Sync + fmt::Debug {
    fn reading(&self, canary: Side) -> impl Future<Output = Result<TrafficReading, RouterError>> + Send;

    fn make_so(&self, desired: Desired) -> impl Future<Output = Result<(), RouterError>> + Send;

    /// As [`Router::begins`].
    fn begins(&self, _noted: &Noted) {}

    /// As [`Router::let_go`].
    fn let_go(&self) -> impl Future<Output = Result<(), RouterError>> + Send {
        std::future::ready(Ok(()))
    }

    /// As [`Router::foretell`].
    fn foretell(&self, _weights: &[Weight]) -> impl Future<Output = Result<Vec<String>, RouterError>> + Send {
        std::future::ready(Ok(Vec::new()))
    }

    /// As [`Router::hold_still`].
    fn hold_still(&self, _noted: &Noted) -> impl Future<Output = Result<(), RouterError>> + Send {
        std::future::ready(Ok(()))
    }
}

/// A place as a router.
#[derive(Debug)]
pub(super) struct Routed<P> {
    name: &'static str,
    granularity: u16,
    place: P,
    /// One write at a time: two would test each other's numbers.
    writing: tokio::sync::Mutex<()>,
    watch: Watched,
}

impl<P: Place> Routed<P> {
    pub(super) fn new(kind: &RouteKind, place: P, watch: Watched) -> Self {
        Self { name: kind.word(), granularity: kind.finest_permille(), place, writing: tokio::sync::Mutex::new(()), watch }
    }
}

impl<P: Place> Router for Routed<P> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn granularity_permille(&self) -> u16 {
        self.granularity
    }

    fn read(&self, canary: Side) -> Answer<'_, TrafficReading> {
        Box::pin(self.place.reading(canary))
    }

    fn write(&self, desired: Desired) -> Answer<'_, ()> {
        Box::pin(async move {
            let _one_at_a_time = self.writing.lock().await;
            self.place.make_so(desired).await
        })
    }

    fn begins(&self, noted: &Noted) {
        self.place.begins(noted);
    }

    fn hold_still<'a>(&'a self, noted: &'a Noted) -> Answer<'a, ()> {
        Box::pin(self.place.hold_still(noted))
    }

    fn let_go(&self) -> Answer<'_, ()> {
        Box::pin(self.place.let_go())
    }

    fn foretell<'a>(&'a self, weights: &'a [Weight]) -> Answer<'a, Vec<String>> {
        Box::pin(self.place.foretell(weights))
    }

    fn changed(&self) -> Option<watch::Receiver<u64>> {
        Some(self.watch.marks())
    }
}
