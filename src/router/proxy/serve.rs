//! A small HTTP/1 server in this process: bounded connections, time limits, an orderly end.

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Most connections at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 4096;
/// For the head of a request, and for an idle connection.
const HEAD_MAX: Duration = Duration::from_secs(30);
/// After the system refused to accept a connection (no file descriptors left).
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// An answer; its body may be streamed.
pub(crate) type Reply = Response<BoxBody<Bytes, hyper::Error>>;

/// A running server. Dropped, it ends without waiting.
#[derive(Debug)]
pub(crate) struct Served {
    addr: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Served {
    /// Its address.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Takes no new connection, and waits until those open have ended.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Serves on a free port of the loopback. When it is stopped, requests under way have `grace` to end. If a client leaves,
/// the handler's future is dropped.
pub(crate) async fn serve<F, Fut>(grace: Duration, handler: F) -> io::Result<Served>
where
    F: Fn(Request<Incoming>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Reply> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let served = Served { addr: listener.local_addr()?, stop: CancellationToken::new(), tasks: TaskTracker::new() };
    let (stop, tasks) = (served.stop.clone(), served.tasks.clone());
    served.tasks.spawn(accept(listener, stop, tasks, grace, handler));
    served.tasks.close();
    Ok(served)
}

async fn accept<F, Fut>(listener: TcpListener, stop: CancellationToken, tasks: TaskTracker, grace: Duration, handler: F)
where
    F: Fn(Request<Incoming>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Reply> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Some(Ok(permit)) = stop.run_until_cancelled(Arc::clone(&room).acquire_owned()).await {
        match stop.run_until_cancelled(listener.accept()).await {
            None => return,
            Some(Err(_)) => tokio::time::sleep(ACCEPT_AGAIN).await,
            Some(Ok((stream, _))) => {
                let (stop, handler) = (stop.clone(), handler.clone());
                tasks.spawn(async move {
                    converse(stream, stop, grace, handler).await;
                    drop(permit);
                });
            }
        }
    }
}

async fn converse<F, Fut>(stream: TcpStream, stop: CancellationToken, grace: Duration, handler: F)
where
    F: Fn(Request<Incoming>) -> Fut + Send,
    Fut: Future<Output = Reply> + Send + 'static,
{
    let _ = stream.set_nodelay(true); // only a delay
    let service = service_fn(|request| {
        let reply = handler(request);
        async move { Ok::<_, Infallible>(reply.await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX);
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    // an error of a connection is its client's: there is nobody to tell
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = tokio::time::timeout(grace, connection).await;
}

/// A short answer.
pub(crate) fn reply(status: StatusCode, text: impl Into<Bytes>) -> Reply {
    let body = Full::new(text.into()).map_err(|never: Infallible| match never {}).boxed();
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply
}

/// Metrics in Prometheus' text format.
pub(crate) fn metrics(text: String) -> Reply {
    let mut reply = reply(StatusCode::OK, text);
    let kind = hyper::header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    reply.headers_mut().insert(CONTENT_TYPE, kind);
    reply
}
