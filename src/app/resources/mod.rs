//! The cluster's own view of canaryd, put together from what `config`, `runtime` and `cluster` know: rules that are objects
//! ([`Book`]), and what is shown of them and of rollouts. Nothing of it can delay a rollout: what is shown is read from views and from
//! the live feed, and handed to a desk that never waits.

mod book;
mod shown;

pub(super) use book::Book;

use crate::cluster::resources::{self, Desk, RuleObjects};
use crate::config::rule_spec_schema;
use crate::runtime::Handle;
use crate::telemetry::Metrics;
use kube::Client;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// The custom resource definitions of this build.
pub fn definitions() -> [Value; 2] {
    resources::definitions(rule_spec_schema())
}

/// Begins to read rules from the cluster and to show rollouts in it; ends with the daemon.
pub(super) fn start(client: Client, book: Book, handle: Handle, metrics: &Metrics, shutdown: &CancellationToken) {
    let (objects, desk) = (RuleObjects::default(), Desk::open(client.clone(), metrics.clone()));
    let namespace = client.default_namespace().to_owned();
    let tasks = [
        tokio::spawn(resources::watch_rules(client, objects.clone(), desk.clone())),
        tokio::spawn(book::keep(book.clone(), objects, handle.clone(), desk.clone())),
        tokio::spawn(shown::show(book, handle, desk, namespace)),
    ];
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        shutdown.cancelled().await;
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
    });
}
