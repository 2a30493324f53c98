//! Reads. They look at the views, which never blocks a rollout; only a journal is asked for.

use super::problem::Problem;
use super::{ApiState, auth, convert, journal, verdict, wire};
use crate::model::{RolloutId, Timestamp};
use crate::runtime::{PAST_MAX, PastArgs};
use crate::telemetry::Metrics;
use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::future::Future;
use std::time::Duration;

/// Time the runtime has to answer a request: past it the answer is 503, whatever becomes of the request.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Past rollouts of an answer, if not told how many.
const PAST_DEFAULT: usize = 50;

/// A name in a path.
pub(super) type Name = Result<Path<String>, PathRejection>;

/// Which rollouts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    /// Of this rule only.
    pub(super) rule: Option<String>,
}

pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

pub(super) async fn readyz(State(state): State<ApiState>) -> Response {
    let views = state.handle.views();
    let status = if views.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let rule_problems = views.reload_problems.len() as u64;
    (status, Json(wire::Ready { ready: views.ready, rule_problems })).into_response()
}

pub(super) async fn metrics(State(state): State<ApiState>, headers: HeaderMap) -> Response {
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accepts.contains("application/openmetrics-text") {
        ([(header::CONTENT_TYPE, Metrics::OPENMETRICS)], state.metrics.openmetrics()).into_response()
    } else {
        ([(header::CONTENT_TYPE, Metrics::TEXT)], state.metrics.text()).into_response()
    }
}

pub(super) async fn rollouts(
    State(state): State<ApiState>,
    headers: HeaderMap,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Json<wire::Rollouts>, Problem> {
    auth::viewer(&state, &headers)?;
    let Query(filter) = filter.map_err(query)?;
    Ok(Json(convert::rollouts(&state.handle.views(), filter.rule.as_deref())))
}

pub(super) async fn rollout(State(state): State<ApiState>, headers: HeaderMap, name: Name) -> Result<Json<wire::Rollout>, Problem> {
    auth::viewer(&state, &headers)?;
    let name = path(name)?;
    let views = state.handle.views();
    verdict::find(&views, &name).map(|view| Json(view.into())).ok_or_else(|| unknown_rollout(&name))
}

pub(super) async fn journal_of(State(state): State<ApiState>, headers: HeaderMap, name: Name) -> Result<Json<wire::Journal>, Problem> {
    auth::viewer(&state, &headers)?;
    let name = path(name)?;
    let views = state.handle.views();
    let view = verdict::find(&views, &name);
    let id = view.map_or(name, |view| view.id.0.clone());
    let entries = answer(state.handle.journal(&id)).await?;
    let names = view.map(|view| view.metrics.as_slice()).unwrap_or_default();
    Ok(Json(journal::journal(&id, &entries, names)))
}

/// Which past rollouts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PastFilter {
    /// Of this rule only.
    rule: Option<String>,
    /// Opened then or later, RFC 3339.
    since: Option<String>,
    /// Opened before the rollout of this name.
    before: Option<String>,
    /// At most so many.
    limit: Option<usize>,
}

impl PastFilter {
    fn args(self) -> Result<PastArgs, Problem> {
        let wrong = |text: String| Problem::bad_request("query-malformed", text);
        let most = self.limit.unwrap_or(PAST_DEFAULT);
        if !(1..=PAST_MAX).contains(&most) {
            return Err(wrong(format!("limit {most} is not between 1 and {PAST_MAX}: page on with before=<the last rollout>")));
        }
        let since = self.since.map(|text| wire::Time::try_from(text).map_err(|why| wrong(format!("since: {why}")))).transpose()?;
        let since = since.map(|at| Timestamp::from_millis(at.0));
        Ok(PastArgs { rule: self.rule, since, before: self.before.map(RolloutId), most })
    }
}

pub(super) async fn history(
    State(state): State<ApiState>,
    headers: HeaderMap,
    filter: Result<Query<PastFilter>, QueryRejection>,
) -> Result<Json<wire::History>, Problem> {
    auth::viewer(&state, &headers)?;
    let Query(filter) = filter.map_err(query)?;
    let past = answer(state.handle.past(filter.args()?)).await?;
    Ok(Json((&past).into()))
}

pub(super) async fn rules(State(state): State<ApiState>, headers: HeaderMap) -> Result<Json<wire::Rules>, Problem> {
    auth::viewer(&state, &headers)?;
    let views = state.handle.views();
    Ok(Json(wire::Rules {
        rules: views.rules.values().map(|rule| (&**rule).into()).collect(),
        reload_problems: views.reload_problems.clone(),
        sources: views.sources.clone(),
    }))
}

pub(super) async fn verdict_of(State(state): State<ApiState>, headers: HeaderMap, name: Name) -> Result<Json<wire::Verdict>, Problem> {
    auth::viewer(&state, &headers)?;
    let rule = path(name)?;
    let views = state.handle.views();
    let view = verdict::find(&views, &rule);
    if view.is_none() && !views.rules.contains_key(&rule) {
        return Err(Problem::not_found("unknown-rule", format!("there is no rule {rule:?}")));
    }
    Ok(Json(verdict::verdict(&rule, view)))
}

/// The name in a path.
pub(super) fn path(name: Name) -> Result<String, Problem> {
    name.map(|Path(name)| name).map_err(|error| Problem::bad_request("path-malformed", error.body_text()))
}

pub(super) fn query(error: QueryRejection) -> Problem {
    Problem::bad_request("query-malformed", error.body_text())
}

pub(super) fn unknown_rollout(name: &str) -> Problem {
    Problem::not_found("unknown-rollout", format!("there is no rollout {name:?}, and no rollout of a rule of that name"))
}

/// The runtime's answer, or a problem if there is none in time.
pub(super) async fn answer<T>(asked: impl Future<Output = Result<T, crate::runtime::Refusal>>) -> Result<T, Problem> {
    match tokio::time::timeout(ANSWER_TIMEOUT, asked).await {
        Ok(answer) => answer.map_err(Problem::from),
        Err(_) => {
            Err(Problem::unavailable(format!("the runtime did not answer within {ANSWER_TIMEOUT:?}; it may still follow the request")))
        }
    }
}
