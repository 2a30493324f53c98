//! Requests: through prometheus-http-query for paths, parameters and POST; bodies through our decoder, bounded.

use super::PrometheusSettings;
use super::decoder::{Decoder, Fault};
use crate::model::Timestamp;
use crate::source::SourceError;
use parking_lot::Mutex;
use prometheus_http_query as api;
use reqwest::header::{AUTHORIZATION, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Response, Url, redirect};
use std::fmt;
use std::ops::Deref;
use std::time::{Duration, SystemTime};
use tokio::sync::Semaphore;

/// Longest pause a server may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Wait for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// Buffers kept between answers, so that one huge answer does not stay in memory for good.
const KEPT_MAX: usize = 4 << 20;

/// One question to the server.
#[derive(Clone, Debug, PartialEq)]
pub enum Query {
    /// At one instant.
    Instant(String, Timestamp),
    /// Over a range; whole seconds, as the client crate has it.
    Range {
        /// The expression.
        query: String,
        /// First instant.
        start: Timestamp,
        /// Last instant.
        end: Timestamp,
        /// Distance.
        step: Duration,
    },
}

impl Query {
    /// The expression.
    pub fn text(&self) -> &str {
        match self {
            Self::Instant(query, _) | Self::Range { query, .. } => query,
        }
    }
}

/// A decoder and its read buffer, lent for one answer; they go back when it is dropped.
#[derive(Debug)]
pub struct Lease<'a> {
    pool: &'a Mutex<Vec<Buffers>>,
    buffers: Buffers,
}

#[derive(Debug, Default)]
struct Buffers {
    body: Vec<u8>,
    decoder: Decoder,
}

impl Deref for Lease<'_> {
    type Target = Decoder;
    fn deref(&self) -> &Decoder {
        &self.buffers.decoder
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let buffers = std::mem::take(&mut self.buffers);
        if buffers.body.capacity() <= KEPT_MAX {
            self.pool.lock().push(buffers);
        }
    }
}

/// What all answers so far tell of the server.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Its clock minus ours, ms; whole seconds in the header, so good to about one.
    skew_ms: Option<i64>,
    /// It asked not to be asked before this.
    not_before: Option<SystemTime>,
}

/// The way to one server.
pub struct Client {
    api: api::Client,
    settings: PrometheusSettings,
    headers: HeaderMap,
    /// Names are `'static` for the client crate: leaked once per source, a handful of bytes.
    params: Vec<(&'static str, String)>,
    pool: Mutex<Vec<Buffers>>,
    in_flight: Semaphore,
    seen: Mutex<Seen>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("url", &self.settings.url).finish_non_exhaustive()
    }
}

impl Client {
    /// # Errors
    /// The URL is none, or a file named in the settings cannot be used.
    pub fn new(settings: PrometheusSettings) -> Result<Self, SourceError> {
        let unusable = |why: String| SourceError::Unusable(format!("source {}: {why}", settings.name));
        let bare = settings.url.trim_end_matches('/');
        let url = Url::parse(bare).map_err(|e| unusable(format!("url {:?}: {e}", settings.url)))?;
        if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
            return Err(unusable("url: give http://host:port or https://host:port, credentials go into basic-auth".to_owned()));
        }
        let http = http_client(&settings, url.scheme() == "https").map_err(unusable)?;
        let api = api::Client::from(http, bare).map_err(|e| unusable(e.to_string()))?;
        let mut headers = HeaderMap::new();
        for (name, value) in &settings.headers {
            let bad = |e: &dyn fmt::Display| unusable(format!("header {name:?}: {e}"));
            let key = HeaderName::try_from(name.as_str()).map_err(|e| bad(&e))?;
            headers.insert(key, HeaderValue::try_from(value.as_str()).map_err(|e| bad(&e))?);
        }
        let params = settings.params.iter().map(|(k, v)| (&*Box::leak(k.clone().into_boxed_str()), v.clone())).collect();
        let in_flight = Semaphore::new(settings.in_flight_max.max(1));
        Ok(Self { api, headers, params, settings, pool: Mutex::default(), in_flight, seen: Mutex::default() })
    }

    /// The URL in the settings.
    pub fn url(&self) -> &str {
        &self.settings.url
    }

    /// The server's clock minus ours, ms.
    pub fn skew_ms(&self) -> Option<i64> {
        self.seen.lock().skew_ms
    }

    /// Asks, and decodes the answer.
    ///
    /// # Errors
    /// See [`Fault`].
    pub async fn ask(&self, query: &Query) -> Result<Lease<'_>, Fault> {
        // an answer holds its place while it is decoded: memory is bounded by body_max x in_flight_max
        let _place = self.in_flight.acquire().await;
        if self.seen.lock().not_before.is_some_and(|t| SystemTime::now() < t) {
            return Err(Fault::Down("the server asked for a pause (Retry-After)".to_owned()));
        }
        let response = tokio::time::timeout(self.settings.timeout, self.send(query)).await.map_err(|_| self.too_late())??;
        self.note(&response);
        let mut lease = Lease { pool: &self.pool, buffers: self.pool.lock().pop().unwrap_or_default() };
        let status = response.status().as_u16();
        let read = self.read(response, &mut lease.buffers.body);
        tokio::time::timeout(self.settings.timeout, read).await.map_err(|_| self.too_late())??;
        let Buffers { body, decoder } = &mut lease.buffers;
        decoder.decode(status, body)?;
        Ok(lease)
    }

    fn too_late(&self) -> Fault {
        Fault::Down(format!("no answer within {:?}", self.settings.timeout))
    }

    async fn send(&self, query: &Query) -> Result<Response, Fault> {
        let headers = self.request_headers()?;
        // the server gives up when we do: an abandoned query would go on burning its memory
        let limit = self.settings.timeout.as_millis() as i64;
        let sent = match query {
            Query::Instant(text, at) => {
                let mut builder = self.api.query(text).query("time", at.as_secs_f64()).timeout(limit);
                for (name, value) in &self.params {
                    builder = builder.query(name, value);
                }
                for (name, value) in &headers {
                    builder = builder.header(name.clone(), value.clone());
                }
                builder.post_raw().await
            }
            Query::Range { query, start, end, step } => {
                let seconds = |t: &Timestamp| t.as_millis().div_euclid(1000);
                let mut builder = self.api.query_range(query, seconds(start), seconds(end), step.as_secs_f64()).timeout(limit);
                for (name, value) in &self.params {
                    builder = builder.query(name, value);
                }
                for (name, value) in &headers {
                    builder = builder.header(name.clone(), value.clone());
                }
                builder.post_raw().await
            }
        };
        sent.map_err(|e| Fault::Down(root_cause(&e)))
    }

    /// Headers of the settings and credentials; a token is read anew each time, for tokens rotate.
    fn request_headers(&self) -> Result<HeaderMap, Fault> {
        let mut headers = self.headers.clone();
        if let Some(file) = &self.settings.bearer_token_file {
            let token = std::fs::read_to_string(file).map_err(|e| Fault::Down(format!("bearer token file {}: {e}", file.display())))?;
            let value = HeaderValue::try_from(format!("Bearer {}", token.trim()));
            let mut value = value.map_err(|_| Fault::Down(format!("bearer token file {} holds no token", file.display())))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        } else if let Some((user, password)) = &self.settings.basic_auth {
            let mut value = HeaderValue::try_from(format!("Basic {}", base64(format!("{user}:{password}").as_bytes())))
                .map_err(|_| Fault::Down("basic-auth holds characters no header may have".to_owned()))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(headers)
    }

    /// Notes the server's clock and its wish for a pause.
    fn note(&self, response: &Response) {
        let header = |name: &HeaderName| response.headers().get(name).and_then(|v| v.to_str().ok());
        let mut seen = self.seen.lock();
        let now = SystemTime::now();
        if let Some(date) = header(&DATE).and_then(|d| jiff::fmt::rfc2822::parse(d).ok()) {
            let ours = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
            // the header is cut to whole seconds: half of one is the best guess of the rest
            seen.skew_ms = Some(date.timestamp().as_millisecond() + 500 - ours);
        }
        let pause = header(&RETRY_AFTER).and_then(|s| s.trim().parse().ok()).map(Duration::from_secs);
        let busy = matches!(response.status().as_u16(), 429 | 503);
        seen.not_before = pause.filter(|_| busy).map(|p| now + p.min(PAUSE_MAX));
    }

    async fn read(&self, mut response: Response, body: &mut Vec<u8>) -> Result<(), Fault> {
        body.clear();
        while let Some(chunk) = response.chunk().await.map_err(|e| Fault::Down(root_cause(&e)))? {
            if body.len() + chunk.len() > self.settings.body_max {
                return Err(Fault::TooLarge(self.settings.body_max));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(())
    }
}

fn http_client(settings: &PrometheusSettings, tls: bool) -> Result<reqwest::Client, String> {
    crate::tls::install();
    // a 302 would turn the POST into a GET
    let builder = reqwest::Client::builder().connect_timeout(CONNECT_MAX).redirect(redirect::Policy::none());
    let builder = match &settings.ca_file {
        Some(file) => {
            let pem = std::fs::read(file).map_err(|e| format!("ca file {}: {e}", file.display()))?;
            let certificates = Certificate::from_pem_bundle(&pem).map_err(|e| format!("ca file {}: {e}", file.display()))?;
            builder.tls_certs_only(certificates)
        }
        // an image without certificates is no reason to fail where none are needed
        None if !tls => builder.tls_certs_only([]),
        None => builder,
    };
    builder.build().map_err(|e| root_cause(&e))
}

/// The innermost cause: "connection refused" instead of "error sending request".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// RFC 4648, with padding; twelve lines instead of a dependency for one header.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let word = (0..3).fold(0u32, |w, i| w << 8 | u32::from(three.get(i).copied().unwrap_or(0)));
        for i in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= three.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

impl Fault {
    /// As the error of a set-up or a history.
    pub fn into_error(self, url: &str, query: &str) -> SourceError {
        let url = url.to_owned();
        match self {
            Self::Rejected(answer) => SourceError::Rejected { url, query: query.to_owned(), answer },
            Self::Down(cause) => SourceError::Down { url, cause },
            Self::Body(_) | Self::TooLarge(_) => SourceError::Body { url, cause: self.to_string() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_in_rfc_4648() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn settings_that_cannot_work_are_refused_at_once_and_secrets_stay_hidden() {
        for url in ["", "prometheus:9090", "ftp://x", "http://u:p@x"] {
            assert!(Client::new(PrometheusSettings::new("p", url)).is_err(), "{url}");
        }
        let mut settings = PrometheusSettings::new("p", "http://127.0.0.1:1");
        settings.basic_auth = Some(("user".into(), "hunter2".into()));
        settings.headers = vec![("X-Scope".into(), "hunter2".into())];
        assert!(!format!("{:?} {:?}", settings, Client::new(settings.clone()).unwrap()).contains("hunter2"));
        settings.ca_file = Some("/nonexistent/ca.pem".into());
        assert!(Client::new(settings).unwrap_err().to_string().contains("/nonexistent/ca.pem"));
    }
}
