//! What there is to ask. One place lists every route; the rest of the module answers them.

use super::problem::Problem;
use super::{ApiState, alerts, annotations, events, mutations, reads};
use crate::telemetry::events::RequestServed;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// Every route of the API. Live feeds end at `shutdown`: a server that drains its connections would wait for them for ever.
pub fn routes(state: ApiState, shutdown: CancellationToken) -> Router {
    Router::new()
        .route("/healthz", get(reads::healthz))
        .route("/readyz", get(reads::readyz))
        .route("/metrics", get(reads::metrics))
        .route("/api/v1/rollouts", get(reads::rollouts))
        .route("/api/v1/rollouts/{id}", get(reads::rollout))
        .route("/api/v1/rollouts/{id}/journal", get(reads::journal_of))
        .route("/api/v1/rollouts/{id}/approve", post(mutations::approve))
        .route("/api/v1/rollouts/{id}/{verb}", post(mutations::verb))
        .route("/api/v1/history", get(reads::history))
        .route("/api/v1/rules", get(reads::rules))
        .route("/api/v1/rules/{rule}/start", post(mutations::start))
        // Argo's web provider may be told to use any of these methods (PROTOCOLS 4.1)
        .route("/api/v1/verdict/{rule}", get(reads::verdict_of).post(reads::verdict_of).put(reads::verdict_of))
        .route("/api/v1/events", get(events::events))
        .route("/api/v1/reload", post(mutations::reload))
        .route("/api/v1/annotations", get(annotations::annotations))
        .route("/webhooks/alertmanager", post(alerts::alertmanager))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(Extension(alerts::Places::default()))
        .layer(Extension(events::Feeds::new(shutdown)))
        .layer(middleware::from_fn_with_state(state.clone(), counted))
        .with_state(state)
}

async fn unknown(uri: Uri) -> Problem {
    Problem::not_found("unknown-route", format!("there is nothing at {:?}; the API is under /api/v1", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    let text = format!("{method} is not possible at {:?}: see the header allow", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "wrong-method", text)
}

/// Counts every request by the pattern of its route, of which there are few.
async fn counted(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let method = known(request.method());
    let begun = Instant::now();
    let response = next.run(request).await;
    RequestServed { route: &route, method, status: response.status().as_u16(), took: begun.elapsed() }.emit(&state.metrics);
    response
}

/// A method may be any word a client likes; a label may not.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
