//! What a daemon that waits for its turn answers: it is alive, and whatever it is asked, it asks the one that acts and passes the
//! answer on. So it is ready as long as it knows where that one is, and a Service may send anybody to either. It has nothing to read
//! or to change itself.
//!
//! Bearer tokens are passed on with the rest, to the address that the holder of the lease wrote there: who may write the lease may
//! have them, and `deploy/` lets nobody but canaryd.

use super::listen::serve_app;
use super::problem::Problem;
use super::wire;
use crate::hop;
use crate::telemetry::Metrics;
use crate::telemetry::words::root_cause;
use arc_swap::ArcSwap;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::stream;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// To reach the one that acts.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// For the head of its answer; what follows, a live feed for one, takes as long as it takes.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Most idle connections kept to it.
const IDLE_MAX: usize = 8;
/// What a request that was passed on says (RFC 9110 7.6.3): it is not passed on again.
const VIA: HeaderValue = HeaderValue::from_static("1.1 canaryd-standby");

/// What a standby waits for.
#[derive(Clone, Debug)]
pub struct Standing {
    /// In a sentence.
    pub why: String,
    /// Where the one that acts listens, if it said so.
    pub leader: Option<SocketAddr>,
}

/// The same, as it changes.
pub type Turn = Arc<ArcSwap<Standing>>;

#[derive(Clone)]
struct Waiting {
    turn: Turn,
    client: Client<HttpConnector, Body>,
    shutdown: CancellationToken,
}

/// Serves `/healthz`, `/readyz` and `/metrics` of its own until `shutdown`. Everything else is passed on to the one that acts, and
/// answered 503 with what is waited for if that cannot be done.
pub async fn stand_by(listener: TcpListener, turn: Turn, metrics: Metrics, shutdown: CancellationToken) {
    let page = metrics.clone();
    let app = Router::new()
        .route("/healthz", get(super::reads::healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(|| async move { ([(header::CONTENT_TYPE, Metrics::TEXT)], page.text()) }))
        .fallback(elsewhere)
        .with_state(Waiting { turn, client: hop::client(CONNECT_MAX, IDLE_MAX), shutdown: shutdown.clone() });
    serve_app(listener, app, metrics, shutdown).await;
}

async fn readyz(State(waiting): State<Waiting>) -> Response {
    let ready = waiting.turn.load().leader.is_some();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(wire::Ready { ready, rule_problems: 0 })).into_response()
}

async fn elsewhere(State(waiting): State<Waiting>, request: Request) -> Response {
    let standing = waiting.turn.load_full();
    let refused = |more: &str| Problem::unavailable(format!("this is a standby: {}{more}", standing.why)).into_response();
    let Some(leader) = standing.leader else { return refused("") };
    if request.headers().get_all(header::VIA).iter().any(|via| via == VIA) {
        return refused(", and the daemon that asks took this one for it");
    }
    match tokio::time::timeout(ANSWER_MAX, waiting.pass_on(leader, request)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(why)) => refused(&format!("; at {leader}: {why}")),
        Err(_) => refused(&format!("; {leader} does not answer within {} s", ANSWER_MAX.as_secs())),
    }
}

impl Waiting {
    async fn pass_on(&self, leader: SocketAddr, mut request: Request) -> Result<Response, String> {
        hop::strip(request.headers_mut());
        request.headers_mut().append(header::VIA, VIA);
        let authority = Authority::try_from(leader.to_string()).map_err(|e| e.to_string())?;
        *request.uri_mut() = hop::at(authority, request.uri()).map_err(|e| e.to_string())?;
        let mut answer = self.client.request(request).await.map_err(|e| root_cause(&e))?;
        hop::strip(answer.headers_mut());
        Ok(answer.map(|body| until(body, self.shutdown.clone())))
    }
}

/// What comes, until `shutdown`: whose turn it is does not wait for a live feed of the one before, and half an answer is not to be
/// taken for a whole one.
fn until(body: Incoming, shutdown: CancellationToken) -> Body {
    let pieces = stream::try_unfold((body, shutdown), |(mut body, shutdown)| async move {
        tokio::select! {
            () = shutdown.cancelled() => Err(io::Error::other("the standby acts itself now")),
            frame = body.frame() => match frame {
                Some(Ok(frame)) => Ok(Some((frame.into_data().unwrap_or_default(), (body, shutdown)))),
                Some(Err(e)) => Err(io::Error::other(e)),
                None => Ok(None),
            },
        }
    });
    Body::from_stream(pieces)
}
