//! What a daemon that waits for its turn answers: it is alive, and it is not ready. It has nothing to read or to change.

use super::listen::serve_app;
use super::problem::Problem;
use super::wire;
use crate::telemetry::Metrics;
use arc_swap::ArcSwap;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What it waits for, in a sentence.
pub type Why = Arc<ArcSwap<String>>;

/// Serves `/healthz`, `/readyz` and `/metrics` until `shutdown`; everything else is answered 503 with what is waited for.
pub async fn stand_by(listener: TcpListener, why: Why, metrics: Metrics, shutdown: CancellationToken) {
    let page = metrics.clone();
    let app = Router::new()
        .route("/healthz", get(super::reads::healthz))
        .route("/readyz", get(|| async { (StatusCode::SERVICE_UNAVAILABLE, Json(wire::Ready { ready: false })) }))
        .route("/metrics", get(|| async move { ([(header::CONTENT_TYPE, Metrics::TEXT)], page.text()) }))
        .fallback(
            |State(why): State<Why>| async move { Problem::unavailable(format!("this is a standby: {}", why.load())).into_response() },
        )
        .with_state(why);
    serve_app(listener, app, metrics, shutdown).await;
}
