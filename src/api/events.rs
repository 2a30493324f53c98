//! The live feed, server-sent. It begins with the rollouts as they are (`rollout`), then one `decision` for each decision; a
//! reader too slow to follow gets `missed` and the rollouts again; `bye` says that the daemon ends it.

use super::problem::Problem;
use super::{ApiState, auth, convert, reads, wire};
use crate::runtime::{EventLine, Handle};
use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Most live feeds at once: they hold their connections for ever, and reads must find one.
pub const FEEDS_MAX: usize = 64;
/// A comment this often shows both ends, and every proxy between, that the other is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What all feeds share.
#[derive(Clone, Debug)]
pub(super) struct Feeds {
    permits: Arc<Semaphore>,
    shutdown: CancellationToken,
}

impl Feeds {
    pub(super) fn new(shutdown: CancellationToken) -> Self {
        Self { permits: Arc::new(Semaphore::new(FEEDS_MAX)), shutdown }
    }
}

/// Which events.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    /// Of this rollout only, or of this rule's.
    rollout: Option<String>,
}

impl Filter {
    fn wants(&self, rollout: &str, rule: &str) -> bool {
        self.rollout.as_deref().is_none_or(|name| name == rollout || name == rule)
    }
}

pub(super) async fn events(
    State(state): State<ApiState>,
    Extension(feeds): Extension<Feeds>,
    headers: HeaderMap,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>> + Send + use<>>, Problem> {
    auth::viewer(&state, &headers)?;
    let Query(filter) = filter.map_err(reads::query)?;
    let full = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-feeds", format!("{FEEDS_MAX} live feeds are open already"));
    let permit = feeds.permits.try_acquire_owned().map_err(|_| full())?;
    // subscribe before the first look: a decision between the two is then told twice rather than never
    let lines = state.handle.events();
    let mut feed =
        Feed { handle: state.handle, lines, filter, ready: VecDeque::new(), shutdown: feeds.shutdown, ended: false, _permit: permit };
    feed.all();
    let stream = futures_util::stream::unfold(feed, |mut feed| async move { feed.next().await.map(|event| (Ok(event), feed)) });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

struct Feed {
    handle: Handle,
    lines: Receiver<EventLine>,
    filter: Filter,
    ready: VecDeque<Event>,
    shutdown: CancellationToken,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

impl Feed {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if self.ended {
                return None;
            }
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let shutdown = self.shutdown.clone();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Some(self.bye()),
                line = self.lines.recv() => match line {
                    Ok(line) => self.line(&line),
                    Err(RecvError::Lagged(count)) => self.missed(count),
                    Err(RecvError::Closed) => return Some(self.bye()),
                },
            }
        }
    }

    fn line(&mut self, line: &EventLine) {
        if self.filter.wants(&line.rollout.0, &line.view.rule) {
            self.ready.push_back(event("decision", &wire::EventLine::from(line)));
        }
    }

    fn missed(&mut self, count: u64) {
        self.ready.push_back(event("missed", &serde_json::json!({ "lines": count })));
        self.all();
    }

    /// Every rollout as it is now, the newest last.
    fn all(&mut self) {
        let all = convert::rollouts(&self.handle.views(), None).rollouts;
        let wanted = all.iter().rev().filter(|r| self.filter.wants(&r.id, &r.rule));
        self.ready.extend(wanted.map(|rollout| event("rollout", rollout)));
    }

    fn bye(&mut self) -> Event {
        self.ended = true;
        event("bye", &serde_json::json!({}))
    }
}

/// JSON on one line: it has no raw line break, so it is one `data:` field.
fn event(name: &str, data: &impl Serialize) -> Event {
    Event::default().event(name).data(serde_json::to_string(data).unwrap_or_else(|_| "{}".to_owned()))
}
