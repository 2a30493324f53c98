//! What people ask for. Each is authenticated, bounded, handed to the runtime and logged, whether it was followed or not.

use super::problem::Problem;
use super::reads::{Name, answer, path, unknown_rollout};
use super::{ApiState, auth, body, verdict, wire};
use crate::model::role::NAME_MAX;
use crate::model::{Action, Command, Verb};
use crate::runtime::{RolloutView, StartArgs};
use crate::telemetry::events::MutationAsked;
use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use std::future::Future;
use std::sync::Arc;

/// Most characters of a reason that are kept.
const WHY_MAX: usize = 1000;
/// Most characters of a version's name.
const VERSION_MAX: usize = 200;

pub(super) async fn start(
    State(state): State<ApiState>,
    headers: HeaderMap,
    name: Name,
    content: Body,
) -> Result<(StatusCode, Json<wire::Started>), Problem> {
    let by = auth::operator(&state, &headers)?;
    let rule = path(name)?;
    let wanted: wire::StartBody = body::read(&headers, content).await?;
    let version = body::words("version", wanted.version, VERSION_MAX)?;
    begin(&state, &rule, StartArgs { version, retry: wanted.retry, by }).await
}

/// `retry` is a start of the same version, although it was rolled back.
async fn retry(state: &ApiState, name: &str, by: String) -> Result<wire::Started, Problem> {
    let views = state.handle.views();
    let view = verdict::find(&views, name).ok_or_else(|| unknown_rollout(name))?;
    if !view.state.is_over() {
        let text = format!("{} is not over: a retry is for a rollout that was rolled back", view.id);
        return Err(Problem::new(StatusCode::CONFLICT, "already-running", text));
    }
    let args = StartArgs { version: view.version.clone(), retry: true, by };
    begin(state, &view.rule, args).await.map(|(_, Json(started))| started)
}

async fn begin(state: &ApiState, rule: &str, args: StartArgs) -> Result<(StatusCode, Json<wire::Started>), Problem> {
    let by = args.by.clone();
    let verb = if args.retry { "retry" } else { "start" };
    let id = logged(&by, verb, rule, answer(state.handle.start(rule, args))).await?;
    Ok((StatusCode::CREATED, Json(wire::Started { rollout: id.0 })))
}

/// The answer to a verb: the rollout after it, or, for a retry, the name of the new one.
#[derive(serde::Serialize)]
#[serde(untagged)]
pub(super) enum Followed {
    Moved(Box<wire::Rollout>),
    Started(wire::Started),
}

pub(super) async fn verb(
    State(state): State<ApiState>,
    headers: HeaderMap,
    names: Result<Path<(String, String)>, PathRejection>,
    content: Body,
) -> Result<Json<Followed>, Problem> {
    let Path((name, word)) = names.map_err(|error| Problem::bad_request("path-malformed", error.body_text()))?;
    // an unknown verb is an unknown route, and says so before it asks for a token
    let verb = verb_of(&word);
    if verb.is_none() && word != "retry" {
        let text = format!(
            "there is no verb {word:?}: approve, pause, resume, advance, promote, rollback, retry, break-glass-promote, break-glass-freeze, \
             break-glass-rollback"
        );
        return Err(Problem::not_found("unknown-route", text));
    }
    let by = auth::operator(&state, &headers)?;
    let wanted: wire::VerbBody = body::read(&headers, content).await?;
    let why = body::words("why", wanted.why, WHY_MAX)?;
    match verb {
        None => retry(&state, &name, by).await.map(|started| Json(Followed::Started(started))),
        Some(verb) => {
            let view = command(&state, &name, Command { verb, by, why }).await?;
            Ok(Json(Followed::Moved(Box::new((&*view).into()))))
        }
    }
}

/// An approval: its role follows from the token, or is one of the token's.
pub(super) async fn approve(
    State(state): State<ApiState>,
    headers: HeaderMap,
    name: Name,
    content: Body,
) -> Result<Json<wire::Rollout>, Problem> {
    let name = path(name)?;
    // who may is decided before a body is read: only the role may need it
    let wanted: wire::ApproveBody = match auth::approver(&state, &headers, "") {
        Err(problem) if problem.code != "role-ambiguous" => return Err(problem),
        _ => body::read(&headers, content).await?,
    };
    let (by, role) = auth::approver(&state, &headers, &wanted.role)?;
    let role = body::words("role", role, NAME_MAX)?;
    let why = body::words("why", wanted.why, WHY_MAX)?;
    let view = command(&state, &name, Command { verb: Verb::Approve { role }, by, why }).await?;
    Ok(Json((&*view).into()))
}

fn verb_of(word: &str) -> Option<Verb> {
    let forced = [Verb::BreakGlassPromote, Verb::BreakGlassFreeze, Verb::BreakGlassRollBack];
    let all = [Verb::Pause, Verb::Resume, Verb::Advance, Verb::Promote, Verb::RollBack];
    all.into_iter().chain(forced).find(|verb| verb.name() == word)
}

async fn command(state: &ApiState, name: &str, command: Command) -> Result<Arc<RolloutView>, Problem> {
    let (by, verb) = (command.by.clone(), command.verb.name());
    logged(&by, verb, name, async {
        let view = answer(state.handle.command(name, command)).await?;
        match &view.decision.action {
            Action::Refuse(text) => Err(Problem::new(StatusCode::CONFLICT, "refused", text.clone())),
            _ => Ok(view),
        }
    })
    .await
}

pub(super) async fn reload(State(state): State<ApiState>, headers: HeaderMap) -> Result<Json<wire::Reloaded>, Problem> {
    let by = auth::operator(&state, &headers)?;
    logged(&by, "reload", "", answer(state.handle.reload())).await?;
    Ok(Json(wire::Reloaded { rules: state.handle.views().rules.len() as u64 }))
}

async fn logged<T>(by: &str, verb: &str, of: &str, asked: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    let answer = asked.await;
    MutationAsked { by, verb, of, refused: answer.as_ref().err().map(|problem| problem.detail.as_str()) }.emit();
    answer
}
