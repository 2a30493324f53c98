//! Calls the hooks of rules. The machine says when (`Effect::CallHook`); here one attempt is one HTTP call beside the driver,
//! whose answer comes back by post. Nothing here decides, waits in a driver, or outlives what it was called for: an awaited
//! call ends with its rollout, and the two that only tell have few tries.
//!
//! A call carries an idempotency key that is the same whenever the same attempt is made again (after a restart the daemon
//! cannot know whether it came to it), so that a server can answer it once.

use super::clock;
use super::mail::{Back, Mail};
use crate::model::rule::Hook;
use crate::model::{Begin, Decision, HoldWhy, HookAnswer, HookPoint, RolloutId, Rule, Weight};
use crate::telemetry::{Metrics, events, words};
use parking_lot::Mutex;
use reqwest::header::{HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, redirect};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

/// Most calls under way at once, of all rollouts: each is a socket. One more is answered "again" without being made.
pub const CALLS_MAX: usize = 256;
/// To connect.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Longest one call may take whatever the hook's timeout: a test behind it may well run for minutes, and a server that
/// died in between is found by TCP long before.
const TRY_MAX: Duration = Duration::from_secs(600);
/// Shortest time a call is given, though the hook's is nearly over.
const TRY_MIN: Duration = Duration::from_secs(1);
/// An idle connection is probed after this.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Longest `Retry-After` that is obeyed: the hook's own timeout goes on.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Tries of a hook that is only told.
const TELL_TRIES: u32 = 3;
/// Longest a call that only tells may take.
const TELL_MAX: Duration = Duration::from_secs(30);
/// Between two such tries, unless the server says when.
const TELL_PAUSE: Duration = Duration::from_secs(2);
/// Most bytes read of an answer that says no, and how long they are waited for: the status is known by then.
const WORDS_BYTES_MAX: usize = 4096;
const WORDS_TIME: Duration = Duration::from_secs(2);
/// Most characters of it that are kept.
const WORDS_MAX: usize = 200;

/// Calls hooks for all rollouts. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Hooks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    http: Client,
    places: Arc<Semaphore>,
    metrics: Metrics,
    /// Where people reach the daemon.
    link: String,
}

impl Hooks {
    /// `link`: where people reach the daemon, without a slash at the end; calls carry the address of their rollout there.
    ///
    /// # Errors
    /// If there can be no HTTP client.
    pub fn new(link: &str, metrics: Metrics) -> Result<Self, String> {
        crate::tls::install();
        let builder = || {
            let client = Client::builder().connect_timeout(CONNECT_MAX).tcp_keepalive(KEEPALIVE);
            client.redirect(redirect::Policy::none()).user_agent(concat!("canaryd/", env!("CARGO_PKG_VERSION")))
        };
        // an image without certificates is no reason to fail where none are needed
        let http = builder().build().or_else(|_| builder().tls_certs_only([]).build()).map_err(|e| format!("hooks: {e}"))?;
        Ok(Self(Arc::new(Inner { http, places: Arc::new(Semaphore::new(CALLS_MAX)), metrics, link: link.to_owned() })))
    }

    /// One attempt, counted; with what the server wants waited before another.
    async fn attempt(&self, call: &Call, within: Duration) -> (HookAnswer, Option<Duration>) {
        let began = Instant::now();
        let said = match self.0.places.try_acquire() {
            Ok(_place) => self.send(call, within).await,
            Err(_) => Said::again("too-many", format!("{CALLS_MAX} calls of hooks are under way already")),
        };
        let failed = said.failed.as_ref().map(|f| (f.reason, f.text.as_str()));
        let (rule, rollout, hook, attempt) = (call.rule.as_str(), &call.rollout, call.hook.at.name(), call.attempt);
        events::HookCalled { rule, rollout, hook, attempt, took: began.elapsed(), failed }.emit(&self.0.metrics);
        (said.answer(), said.pause)
    }

    async fn send(&self, call: &Call, within: Duration) -> Said {
        let request = self.0.http.post(&call.hook.url).header("idempotency-key", &call.key).json(&call.body);
        match tokio::time::timeout(within, request.send()).await {
            Ok(Ok(response)) => said(response).await,
            Ok(Err(error)) => Said::again("unreachable", words::root_cause(&error)),
            Err(_) => Said::again("timeout", format!("no answer within {}", words::duration(within))),
        }
    }
}

/// What is asked, the same at every try.
#[derive(Clone, Debug)]
struct Call {
    rule: String,
    rollout: RolloutId,
    hook: Hook,
    attempt: u32,
    key: String,
    body: Value,
}

/// One rollout's calls: at most one awaited at a time.
pub(super) struct Caller {
    hooks: Hooks,
    rule: Arc<Rule>,
    rollout: RolloutId,
    begin: Begin,
    back: Back,
    awaited: Option<AbortHandle>,
    /// The server asked to be left alone until then.
    not_before: Arc<Mutex<Option<Instant>>>,
}

impl Caller {
    pub(super) fn new(hooks: Hooks, rule: Arc<Rule>, rollout: RolloutId, begin: Begin, back: Back) -> Self {
        Self { hooks, rule, rollout, begin, back, awaited: None, not_before: Arc::default() }
    }

    /// Makes one attempt; a call still awaited is given up for it. Returns at once.
    pub(super) fn call(&mut self, decision: &Decision, point: HookPoint, attempt: u32) {
        let Some(hook) = self.rule.hooks.iter().find(|h| h.at == point).cloned() else { return };
        let left = time_left(decision, hook.timeout);
        let call = self.asked(decision, hook, attempt);
        if is_told_only(point) {
            tokio::spawn(tell(self.hooks.clone(), call));
            return;
        }
        self.give_up();
        let (hooks, back, not_before) = (self.hooks.clone(), self.back.clone(), Arc::clone(&self.not_before));
        let task = tokio::spawn(async move {
            let wait = not_before.lock().take().map(|until| until.saturating_duration_since(Instant::now()));
            tokio::time::sleep(wait.unwrap_or_default().min(left)).await;
            let (answer, pause) = hooks.attempt(&call, left.clamp(TRY_MIN, TRY_MAX)).await;
            *not_before.lock() = pause.map(|p| Instant::now() + p);
            // the rollout may be over: then nobody needs the answer
            if let Some(post) = back.upgrade() {
                let _ = post.send(Mail::Hooked { hook: point, attempt, answer }).await;
            }
        });
        self.awaited = Some(task.abort_handle());
    }

    /// Nobody waits for an answer any more.
    pub(super) fn give_up(&mut self) {
        if let Some(task) = self.awaited.take() {
            task.abort();
        }
    }

    fn asked(&self, decision: &Decision, hook: Hook, attempt: u32) -> Call {
        let Self { rule, rollout, begin, .. } = self;
        let key = format!("{rollout}/{}/{attempt}", hook.at.name());
        let name = |side| rule.workloads.side(side).name();
        let (from, to) = weights(rule, decision, hook.at);
        let body = json!({
            "hook": hook.at.name(),
            "rule": rule.name,
            "rollout": rollout.0,
            "version": begin.version,
            "baseline": name(begin.canary.other()),
            "canary": name(begin.canary),
            "step": decision.step + 1,
            "steps": rule.steps.len(),
            "weight-from-permille": from.permille(),
            "weight-to-permille": to.permille(),
            "attempt": attempt,
            "idempotency-key": key,
            "link": format!("{}/api/v1/rollouts/{rollout}", self.hooks.0.link),
        });
        Call { rule: rule.name.clone(), rollout: rollout.clone(), hook, attempt, key, body }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// Is it told, and never waited for?
const fn is_told_only(point: HookPoint) -> bool {
    matches!(point, HookPoint::AfterPromotion | HookPoint::AfterRollback)
}

/// Until the machine gives the hook up; its hold says when.
fn time_left(decision: &Decision, timeout: Duration) -> Duration {
    let until = decision.holds.iter().filter(|h| h.why == HoldWhy::Hook).find_map(|h| h.until);
    until.map_or(timeout, |at| at.since(clock::now()).min(timeout))
}

/// From which weight to which it leads.
fn weights(rule: &Rule, decision: &Decision, point: HookPoint) -> (Weight, Weight) {
    let step = |index: u32| rule.steps.get(index as usize).map_or(decision.weight, |s| s.weight);
    match point {
        HookPoint::BeforeStart => (decision.weight, step(0)),
        HookPoint::BeforeStep => (decision.weight, step(decision.step + 1)),
        HookPoint::BeforePromotion | HookPoint::AfterPromotion | HookPoint::AfterRollback => (decision.weight, decision.weight),
    }
}

/// A few tries, and then it is only counted: nobody waits for it.
async fn tell(hooks: Hooks, call: Call) {
    for left in (0..TELL_TRIES).rev() {
        let (answer, pause) = hooks.attempt(&call, call.hook.timeout.clamp(TRY_MIN, TELL_MAX)).await;
        match answer {
            HookAnswer::Failed { again: true, .. } if left > 0 => tokio::time::sleep(pause.unwrap_or(TELL_PAUSE)).await,
            _ => return,
        }
    }
}

/// What one call brought.
struct Said {
    failed: Option<Failed>,
    pause: Option<Duration>,
}

struct Failed {
    /// Of a closed set: the metric's label.
    reason: &'static str,
    text: String,
    again: bool,
}

impl Said {
    fn again(reason: &'static str, text: String) -> Self {
        Self { failed: Some(Failed { reason, text: words::printable(&text), again: true }), pause: None }
    }

    fn answer(&self) -> HookAnswer {
        match &self.failed {
            None => HookAnswer::Passed,
            Some(Failed { text, again, .. }) => HookAnswer::Failed { text: text.clone(), again: *again },
        }
    }
}

/// The status decides; of an answer that says no, the first words are kept.
async fn said(response: Response) -> Said {
    let status = response.status();
    if status.is_success() {
        return Said { failed: None, pause: None };
    }
    let again = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
    let pause = again.then(|| pause_wished(response.headers())).flatten();
    let (reason, text) = if status.is_redirection() {
        ("redirect", redirected(status, response.headers()))
    } else {
        let text = first_words(response).await;
        (if again { "unavailable" } else { "refused" }, if text.is_empty() { status.to_string() } else { format!("{status}: {text}") })
    };
    Said { failed: Some(Failed { reason, text: words::printable(&text), again }), pause }
}

/// A redirect would carry the call to a host nobody named in the rule. Its query may hold a secret.
fn redirected(status: StatusCode, headers: &HeaderMap) -> String {
    let location = headers.get(LOCATION).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()).unwrap_or_default();
    let target: String = location.split(['?', '#']).next().unwrap_or_default().chars().take(WORDS_MAX).collect();
    let whither = if target.is_empty() { String::new() } else { format!(" to {target}") };
    format!("{status}{whither}: redirects are not followed, name the final address in the rule")
}

fn pause_wished(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = text.parse().map(Duration::from_secs).ok();
    let until = || {
        let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_millisecond();
        Some(Duration::from_millis(u64::try_from(at - clock::now().as_millis()).unwrap_or(0)))
    };
    seconds.or_else(until).map(|pause| pause.min(PAUSE_MAX))
}

/// The beginning of a body, on one line; as much as comes in time.
async fn first_words(mut response: Response) -> String {
    let mut bytes = Vec::new();
    let read = async {
        while let Ok(Some(chunk)) = response.chunk().await {
            bytes.extend_from_slice(&chunk[..chunk.len().min(WORDS_BYTES_MAX - bytes.len())]);
            if bytes.len() >= WORDS_BYTES_MAX {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(WORDS_TIME, read).await;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(WORDS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests;
