//! The accept loop. Ours rather than `axum::serve`, which sets no timer: hyper's header timeout would never come
//! (DEPENDENCIES 1.3). Everything a client can hold is bounded: connections, header bytes, header time, body bytes and time,
//! the time to finish at shutdown.

use super::stall::WriteTimeout;
use super::{ApiState, routes};
use crate::telemetry::Metrics;
use crate::telemetry::events::{ConnectionClosed, ConnectionOpened};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Most connections at once; more wait in the kernel's queue until one ends.
pub const CONNECTIONS_MAX: usize = 256;
/// Time in which a request's header must have arrived. Also how long a kept connection may stay idle.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Most header fields of a request.
const HEADERS_MAX: usize = 64;
/// Most bytes of a request's header (hyper's own least buffer is 8 KiB).
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Longest time in which a client takes nothing of its answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Time in which requests under way may end at shutdown.
const DRAIN: Duration = Duration::from_secs(5);
/// Wait after a failed accept: out of file descriptors, as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the API until `shutdown`: then nothing new is accepted, live feeds end, requests under way get 5 s, and it returns.
pub async fn serve(listener: TcpListener, state: ApiState, shutdown: CancellationToken) {
    let metrics = state.metrics.clone();
    serve_app(listener, routes(state, shutdown.clone()), metrics, shutdown).await;
}

/// The same for any routes.
pub(super) async fn serve_app(listener: TcpListener, app: Router, metrics: Metrics, shutdown: CancellationToken) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    while let Some((stream, permit)) = accept(&listener, &permits, &shutdown).await {
        connections.spawn(connection(stream, app.clone(), metrics.clone(), shutdown.clone(), permit));
    }
    connections.close();
    connections.wait().await;
}

/// The next connection, once there is room for it; `None` at shutdown.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
    shutdown: &CancellationToken,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let next = async {
        let permit = permits.clone().acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return Some((stream, permit)),
                Err(error) => {
                    tracing::warn!(%error, "connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => None,
        next = next => next,
    }
}

async fn connection(stream: TcpStream, app: Router, metrics: Metrics, shutdown: CancellationToken, permit: OwnedSemaphorePermit) {
    ConnectionOpened.emit(&metrics);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_headers(HEADERS_MAX).max_header_size(HEADER_BYTES_MAX);
    let mut connection =
        pin!(builder.serve_connection(TokioIo::new(WriteTimeout::new(stream, WRITE_TIMEOUT)), TowerToHyperService::new(app)));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            // past the drain time the connection is dropped, whatever it still had to say
            tokio::time::timeout(DRAIN, connection).await.unwrap_or(Ok(()))
        }
    };
    let error = ended.err().map(|error| error.to_string());
    ConnectionClosed { error: error.as_deref() }.emit(&metrics);
    drop(permit);
}
