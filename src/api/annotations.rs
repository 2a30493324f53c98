//! `GET /api/v1/annotations`: what the journal says about a stretch of time, for Grafana's Infinity data source (PROTOCOLS 4.3): an
//! array of objects with `time`, `timeEnd`, `title`, `text` and `tags`, these joined by commas.

use super::problem::Problem;
use super::reads::answer;
use super::{ApiState, auth, reads, wire};
use crate::model::Timestamp;
use crate::runtime::{Range, Stretch};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use serde::Deserialize;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Longest stretch of one question.
const RANGE_MAX: Duration = Duration::from_secs(400 * 86_400);
/// Questions answered at a time: each may read many journals.
static AT_A_TIME: Semaphore = Semaphore::const_new(4);

/// Which annotations.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// Milliseconds since the epoch, or RFC 3339.
    from: String,
    /// Likewise.
    to: String,
    /// Of this rule only; empty = all, as a dashboard's variable for all may be.
    #[serde(default)]
    rule: String,
}

pub(super) async fn annotations(
    State(state): State<ApiState>,
    headers: HeaderMap,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Vec<wire::Annotation>>, Problem> {
    auth::viewer(&state, &headers)?;
    let Query(asked) = asked.map_err(reads::query)?;
    let range = range(asked)?;
    let _place = AT_A_TIME.acquire().await;
    let stretches = answer(state.handle.annotations(range)).await?;
    Ok(Json(stretches.iter().map(annotation).collect()))
}

fn range(asked: Asked) -> Result<Range, Problem> {
    let (from, until) = (instant("from", &asked.from)?, instant("to", &asked.to)?);
    if until < from || until.since(from) > RANGE_MAX {
        let text = format!("from {} to {}: write a stretch of at most {} days", asked.from, asked.to, RANGE_MAX.as_secs() / 86_400);
        return Err(Problem::bad_request("range-malformed", text));
    }
    Ok(Range { from, until, rule: Some(asked.rule).filter(|rule| !rule.is_empty()) })
}

fn instant(name: &str, text: &str) -> Result<Timestamp, Problem> {
    let ms = text.parse::<i64>().ok().or_else(|| text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond));
    let wrong = || Problem::bad_request("range-malformed", format!("{name} {text:?} is neither milliseconds since the epoch nor RFC 3339"));
    ms.map(Timestamp::from_millis).ok_or_else(wrong)
}

fn annotation(stretch: &Stretch) -> wire::Annotation {
    let version = if stretch.version.is_empty() { String::new() } else { format!(" ({})", stretch.version) };
    let what = match stretch.state {
        "progressing" => format!("canary at {}", stretch.weight),
        state => state.to_owned(),
    };
    let tags = ["canaryd", &format!("rule:{}", stretch.rule), &format!("rollout:{}", stretch.rollout), stretch.state].join(",");
    wire::Annotation {
        time: stretch.from.as_millis(),
        time_end: stretch.until.map(Timestamp::as_millis),
        title: format!("{}{version}: {what}", stretch.rollout),
        text: if stretch.text.is_empty() { what } else { stretch.text.clone() },
        tags,
    }
}
