//! A user's own endpoint: told the weight wanted, asked which one is in force.
//!
//! ```text
//! POST <url>                     any 2xx: it was taken
//!   content-type: application/json
//!   authorization: Bearer <token-file, read at each call>
//!   idempotency-key: canaryd-<router>-<generation>      the same wish sent twice has the same key
//!   {"rule": "shop", "canary": "v2", "baseline": "v1", "weight-permille": 125, "weight-percent": 12.5,
//!    "baseline-permille": 875, "generation": 7}
//!
//! GET <read-url, else url>?canary=v2                    the answer also before the first POST
//!   {"canary": "v2", "weight-permille": 125, "generation": 7, "writer": "canaryd"}
//! ```
//!
//! Of the answer only the weight must be there: `weight-permille` or `weight-percent`, the share of the workload that `canary`
//! names; without it, of the one in the question. An endpoint that gives the `generation` of the last weight it took protects
//! its traffic from a stale writer: an older one is refused here, and may be there, with 409. Further keys are ignored.
//! `writer` is shown to people when the weight is not ours.
//!
//! Redirects are not followed. 408, 425, 429 and 5xx are tried again (after `Retry-After`, if that is given in seconds), any other
//! status below 500 only when something changed.

use super::{Answer, Desired, Router, RouterError, canary_share, http, no_newer};
use crate::model::rule::WebhookRouter;
use crate::model::{Side, TrafficReading, Weight};
use reqwest::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use std::fmt;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// To connect.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// How long an endpoint may take to show what it took. Whoever needs longer is asked again by the next try.
const SHOWN_MAX: Duration = Duration::from_secs(1);
/// How often it is asked meanwhile.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// Most bytes of one answer.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Most bytes of a token file.
const TOKEN_BYTES_MAX: u64 = 16 << 10;
/// Longest wait an endpoint may ask for.
const BUSY_MAX: Duration = Duration::from_secs(60);
/// The wait where it asks for none.
const BUSY: Duration = Duration::from_secs(1);
/// Most characters shown of the name of a writer.
const WRITER_MAX: usize = 100;

/// One endpoint.
pub struct Webhook {
    settings: WebhookRouter,
    url: Url,
    read_url: Url,
    client: Client,
    /// Tells the wishes of this router from those of an earlier one, whose generations were the same numbers.
    nonce: u64,
    /// One write at a time: two would read each other's weights.
    writing: tokio::sync::Mutex<()>,
}

/// The address may hold a secret in its query.
impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("url", &shown(&self.url)).finish_non_exhaustive()
    }
}

/// The endpoint's answer.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Told {
    canary: Option<String>,
    weight_permille: Option<f64>,
    weight_percent: Option<f64>,
    generation: Option<u64>,
    writer: Option<String>,
}

impl Webhook {
    /// For the endpoint of a rule. Nothing is asked yet.
    ///
    /// # Errors
    /// An address is none, or TLS cannot be used here.
    pub fn new(settings: WebhookRouter) -> Result<Self, RouterError> {
        let object = |why: String| RouterError::Object { what: "traffic.webhook".to_owned(), why };
        let url = address(&settings.url).map_err(|why| object(format!("url {why}")))?;
        let mut read_url = match &settings.read_url {
            Some(text) => address(text).map_err(|why| object(format!("read-url {why}")))?,
            None => url.clone(),
        };
        read_url.set_fragment(None);
        let tls = [&url, &read_url].iter().any(|url| url.scheme() == "https");
        let client = http::client(tls, CONNECT_MAX, settings.timeout).map_err(object)?;
        let nonce = RandomState::new().hash_one(0);
        Ok(Self { settings, url, read_url, client, nonce, writing: tokio::sync::Mutex::default() })
    }

    async fn reading(&self, canary: Side) -> Result<TrafficReading, RouterError> {
        let mut url = self.read_url.clone();
        url.query_pairs_mut().append_pair("canary", self.workload(canary));
        let what = format!("webhook {}", shown(&url));
        let answer = self.send(&what, self.client.get(url)).await?;
        let status = answer.status();
        let later = retry_after(&answer);
        let body = http::body(answer, ANSWER_BYTES_MAX, self.settings.timeout).await;
        let body = body.map_err(|cause| RouterError::Unreachable { what: what.clone(), cause })?;
        match status.is_success() {
            true => self.told(&body, canary).map_err(|why| RouterError::Object { what, why }),
            false => Err(refused(what, "GET", (status, later), &body, |what, why| RouterError::Object { what, why })),
        }
    }

    fn told(&self, body: &[u8], asked: Side) -> Result<TrafficReading, String> {
        let told: Told = serde_json::from_slice(body).map_err(|e| format!("GET answers no such JSON: {e}"))?;
        let weight = told.weight()?;
        let of = match told.canary.as_deref() {
            None => asked,
            Some(name) => self.side(name)?,
        };
        let second = canary_share(of, weight);
        let writer = told.writer.map(|name| name.chars().filter(|c| !c.is_control()).take(WRITER_MAX).collect());
        Ok(TrafficReading::new(canary_share(asked, second), told.generation, writer))
    }

    async fn move_to(&self, desired: Desired) -> Result<(), RouterError> {
        match self.reading(desired.canary).await {
            Ok(found) => {
                no_newer(&self.what(), found.generation, desired.generation)?;
                if shows(&found, desired) && found.generation == Some(desired.generation) {
                    return Ok(());
                }
            }
            // nobody could see whether it came true: the canary is taken off all the same, anything else is not tried
            Err(unseen) if !desired.weight.is_zero() => return Err(unseen),
            Err(_) => {}
        }
        self.post(desired).await?;
        self.wait(desired).await
    }

    async fn post(&self, desired: Desired) -> Result<(), RouterError> {
        let permille = desired.weight.permille();
        let body = serde_json::json!({
            "rule": self.settings.rule,
            "canary": self.workload(desired.canary),
            "baseline": self.workload(desired.canary.other()),
            "weight-permille": permille,
            "weight-percent": f64::from(permille) / 10.0,
            "baseline-permille": 1000 - permille,
            "generation": desired.generation,
        });
        let key = format!("canaryd-{:016x}-{}", self.nonce, desired.generation);
        let request = self.client.post(self.url.clone()).header("idempotency-key", key).json(&body);
        let answer = self.send(&self.what(), request).await?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let later = retry_after(&answer);
        let said = http::body(answer, ANSWER_BYTES_MAX, self.settings.timeout).await.unwrap_or_default();
        Err(refused(self.what(), "POST", (status, later), &said, |what, why| RouterError::Refused { what, why }))
    }

    async fn wait(&self, desired: Desired) -> Result<(), RouterError> {
        let until = Instant::now() + SHOWN_MAX;
        loop {
            let found = self.reading(desired.canary).await?;
            no_newer(&self.what(), found.generation, desired.generation)?;
            if shows(&found, desired) {
                return Ok(());
            }
            if Instant::now() >= until {
                let (weight, generation) = (desired.weight, desired.generation);
                let theirs = found.generation.map_or_else(|| "without one".to_owned(), |g| format!("generation {g}"));
                let why = format!("it answers {} ({theirs}) and not {weight} (generation {generation})", found.weight);
                return Err(RouterError::NotVerified { what: self.what(), why });
            }
            sleep(ASK_AGAIN).await;
        }
    }

    async fn send(&self, what: &str, request: RequestBuilder) -> Result<Response, RouterError> {
        let request = match &self.settings.token_file {
            Some(file) => request.header(AUTHORIZATION, bearer(file)?),
            None => request,
        };
        let sent = request.header("accept", "application/json").send().await;
        sent.map_err(|e| RouterError::Unreachable { what: what.to_owned(), cause: http::causes(&e, self.settings.timeout) })
    }

    fn workload(&self, side: Side) -> &str {
        &self.settings.workloads[side.index()]
    }

    fn side(&self, name: &str) -> Result<Side, String> {
        let [first, second] = &self.settings.workloads;
        match name {
            name if name == first => Ok(Side::First),
            name if name == second => Ok(Side::Second),
            _ => Err(format!("GET answers the weight of {:?}, which is neither {first:?} nor {second:?}", http::said(name.as_bytes()))),
        }
    }

    fn what(&self) -> String {
        format!("webhook {}", shown(&self.url))
    }
}

impl Router for Webhook {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn granularity_permille(&self) -> u16 {
        1
    }

    fn read(&self, canary: Side) -> Answer<'_, TrafficReading> {
        Box::pin(self.reading(canary))
    }

    fn write(&self, desired: Desired) -> Answer<'_, ()> {
        Box::pin(async move {
            let _one_at_a_time = self.writing.lock().await;
            self.move_to(desired).await
        })
    }
}

impl Told {
    /// To the nearest permille; 0 only for 0, 1000 only for all.
    fn weight(&self) -> Result<Weight, String> {
        let permille = match (self.weight_permille, self.weight_percent) {
            (Some(permille), Some(percent)) if (permille - percent * 10.0).abs() > 0.5 => {
                return Err(format!("GET answers weight-permille {permille} and weight-percent {percent}, which differ"));
            }
            (Some(permille), _) => permille,
            (None, Some(percent)) => percent * 10.0,
            (None, None) => return Err("GET answers neither weight-permille nor weight-percent".to_owned()),
        };
        if !(0.0..=1000.0).contains(&permille) {
            return Err(format!("GET answers a weight of {}%, which is not between 0% and 100%", permille / 10.0));
        }
        let lowest = if permille > 0.0 { 1.0 } else { 0.0 };
        let highest = if permille < 1000.0 { 999.0 } else { 1000.0 };
        Weight::from_permille(permille.round().clamp(lowest, highest) as u16).map_err(|e| e.to_string())
    }
}

/// The weight wanted, and not of an older wish.
fn shows(found: &TrafficReading, desired: Desired) -> bool {
    found.weight == desired.weight && found.generation.is_none_or(|g| g == desired.generation)
}

fn address(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "is no address")?;
    let usable = matches!(url.scheme(), "http" | "https") && url.host_str().is_some_and(|h| !h.is_empty());
    let bare = url.username().is_empty() && url.password().is_none();
    if usable && bare { Ok(url) } else { Err("is no http:// or https:// address without user and password") }
}

/// Without query, which may hold a secret.
fn shown(url: &Url) -> String {
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

/// The header, from the file as it is now: tokens rotate.
fn bearer(file: &Path) -> Result<HeaderValue, RouterError> {
    let object = |why: String| RouterError::Object { what: format!("token-file {}", file.display()), why };
    let mut text = String::new();
    let opened = File::open(file).and_then(|f| f.take(TOKEN_BYTES_MAX + 1).read_to_string(&mut text));
    opened.map_err(|e| object(e.to_string()))?;
    if text.len() as u64 > TOKEN_BYTES_MAX {
        return Err(object(format!("is larger than {TOKEN_BYTES_MAX} bytes")));
    }
    let value = HeaderValue::try_from(format!("Bearer {}", text.trim())).ok().filter(|_| !text.trim().is_empty());
    let mut value = value.ok_or_else(|| object("holds no token: one line of visible characters is one".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// What it asks us to wait, where it is a number of seconds.
fn retry_after(answer: &Response) -> Option<Duration> {
    let text = answer.headers().get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(|seconds| Duration::from_secs(seconds).min(BUSY_MAX))
}

/// A status that is no success; `meant` makes the error of one that no time will mend.
fn refused(
    what: String,
    verb: &str,
    (status, later): (StatusCode, Option<Duration>),
    body: &[u8],
    meant: fn(String, String) -> RouterError,
) -> RouterError {
    let said = http::said(body);
    let words = if said.is_empty() { format!("{verb} answered {status}") } else { format!("{verb} answered {status}: {said}") };
    match status.as_u16() {
        408 | 425 | 429 | 500.. => RouterError::Busy { what, why: words, after: later.unwrap_or(BUSY) },
        300..=399 => RouterError::Object {
            what,
            why: format!("{verb} answered {status}: redirects are not followed, write the address it leads to"),
        },
        401 | 403 => meant(what, format!("{words} (check token-file)")),
        _ => meant(what, words),
    }
}
