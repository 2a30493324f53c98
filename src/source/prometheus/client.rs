//! Requests: through prometheus-http-query for paths, parameters and POST; bodies through our decoder, bounded.

use super::PrometheusSettings;
use super::credentials::Credentials;
use super::decoder::{Decoder, ResultType};
use super::fault::Fault;
use crate::model::Timestamp;
use crate::source::SourceError;
use crate::telemetry::events::QueryEnded;
use parking_lot::Mutex;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Response, Url};
use std::fmt;
use std::ops::Deref;
use std::time::{Duration, Instant, SystemTime};

/// Buffers kept between answers, so that one huge answer does not stay in memory for good.
const KEPT_MAX: usize = 4 << 20;

/// One question to the server.
#[derive(Clone, Debug, PartialEq)]
pub enum Query {
    /// At one instant.
    Instant(String, Timestamp),
    /// Raw samples of a window that ends at that instant: an instant query of a range.
    Window(String, Timestamp),
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
            Self::Instant(query, _) | Self::Window(query, _) | Self::Range { query, .. } => query,
        }
    }

    /// What it is called where its text would be too long.
    const fn name(&self) -> &'static str {
        match self {
            Self::Instant(..) => "instant",
            Self::Window(..) => "window",
            Self::Range { .. } => "range",
        }
    }

    /// Is this what it asks for?
    fn expects(&self, result: ResultType) -> bool {
        match self {
            Self::Instant(..) => matches!(result, ResultType::Vector | ResultType::Scalar | ResultType::Unsaid),
            Self::Window(..) | Self::Range { .. } => matches!(result, ResultType::Matrix | ResultType::Unsaid),
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

/// The way to one server.
pub struct Client {
    settings: PrometheusSettings,
    credentials: Credentials,
    headers: HeaderMap,
    /// Names are `'static` for the client crate: leaked once per source, a handful of bytes.
    params: Vec<(&'static str, String)>,
    pool: Mutex<Vec<Buffers>>,
    /// The server's clock minus ours, ms; whole seconds in the header, so good to about one.
    skew_ms: Mutex<Option<i64>>,
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
            return Err(unusable("url: give http://host:port or https://host:port, credentials go into basic".to_owned()));
        }
        let credentials = Credentials::new(&settings, bare, url.scheme() == "https").map_err(unusable)?;
        let mut headers = HeaderMap::new();
        for (name, value) in &settings.headers {
            let bad = |e: &dyn fmt::Display| unusable(format!("header {name:?}: {e}"));
            let key = HeaderName::try_from(name.as_str()).map_err(|e| bad(&e))?;
            let mut value = HeaderValue::try_from(value.as_str()).map_err(|e| bad(&e))?;
            value.set_sensitive(true);
            headers.insert(key, value);
        }
        let params = settings.params.iter().map(|(k, v)| (&*Box::leak(k.clone().into_boxed_str()), v.clone())).collect();
        Ok(Self { credentials, headers, params, settings, pool: Mutex::default(), skew_ms: Mutex::default() })
    }

    /// The URL in the settings.
    pub fn url(&self) -> &str {
        &self.settings.url
    }

    /// The server's clock minus ours, ms.
    pub fn skew_ms(&self) -> Option<i64> {
        *self.skew_ms.lock()
    }

    /// Asks, and decodes the answer.
    ///
    /// # Errors
    /// See [`Fault`].
    pub async fn ask(&self, query: &Query) -> Result<Lease<'_>, Fault> {
        let began = Instant::now();
        let mut answer = self.ask_once(query).await;
        if answer.as_ref().is_err_and(Fault::of_credentials) && self.credentials.refresh() {
            answer = self.ask_once(query).await;
        }
        let words = answer.as_ref().err().map(|fault| (fault.reason(), fault.to_string()));
        let failed = words.as_ref().map(|(reason, words)| (*reason, words.as_str()));
        let ended = QueryEnded { source: &self.settings.name, question: query.name(), took: began.elapsed(), failed };
        ended.emit(&self.settings.metrics);
        answer
    }

    async fn ask_once(&self, query: &Query) -> Result<Lease<'_>, Fault> {
        // an answer holds its place while it is decoded: memory is bounded by body_max x queries in flight
        let _place = self.settings.allowance.admit(self.settings.timeout).await?;
        let response = tokio::time::timeout(self.settings.timeout, self.send(query)).await.map_err(|_| self.too_late())??;
        self.note(&response);
        refuse_redirect(&response)?;
        let mut lease = Lease { pool: &self.pool, buffers: self.pool.lock().pop().unwrap_or_default() };
        let (status, kind) = (response.status().as_u16(), content_type(&response));
        let read = self.read(response, &mut lease.buffers.body);
        tokio::time::timeout(self.settings.timeout, read).await.map_err(|_| self.too_late())??;
        let Buffers { body, decoder } = &mut lease.buffers;
        decoder.decode(status, &kind, body).map_err(|fault| self.with_names(fault))?;
        let result = decoder.result_type();
        match result {
            // nothing is nothing, whatever it is called
            result if query.expects(result) || lease.rows().next().is_none() => Ok(lease),
            result => Err(Fault::Rejected(format!("the answer is a {result}, which is not what a {} query reads", query.name()))),
        }
    }

    fn too_late(&self) -> Fault {
        Fault::Down(format!("no answer within {:?}", self.settings.timeout))
    }

    fn with_names(&self, fault: Fault) -> Fault {
        match fault {
            Fault::Unauthorized(words) => Fault::Unauthorized(format!("{words}: {}", self.credentials.refused())),
            other => other,
        }
    }

    async fn send(&self, query: &Query) -> Result<Response, Fault> {
        let (api, authorization) = self.credentials.now()?;
        let mut headers = self.headers.clone();
        headers.extend(authorization.map(|value| (AUTHORIZATION, value)));
        // the server gives up when we do: an abandoned query would go on burning its memory
        let limit = self.settings.timeout.as_millis() as i64;
        let sent = match query {
            Query::Instant(text, at) | Query::Window(text, at) => {
                let mut builder = api.query(text).query("time", at.as_secs_f64()).timeout(limit);
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
                let mut builder = api.query_range(query, seconds(start), seconds(end), step.as_secs_f64()).timeout(limit);
                for (name, value) in &self.params {
                    builder = builder.query(name, value);
                }
                for (name, value) in &headers {
                    builder = builder.header(name.clone(), value.clone());
                }
                builder.post_raw().await
            }
        };
        sent.map_err(|e| self.credentials.fault(&e))
    }

    /// Notes the server's clock and its wish for a pause.
    fn note(&self, response: &Response) {
        let header = |name: &HeaderName| response.headers().get(name).and_then(|v| v.to_str().ok());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
        let date = |text: &str| jiff::fmt::rfc2822::parse(text).ok().map(|d| d.timestamp().as_millisecond());
        if let Some(theirs) = header(&DATE).and_then(date) {
            // the header is cut to whole seconds: half of one is the best guess of the rest
            *self.skew_ms.lock() = Some(theirs + 500 - now);
        }
        if !matches!(response.status().as_u16(), 429 | 503) {
            return;
        }
        let seconds = |text: &str| text.trim().parse().ok().map(Duration::from_secs);
        let until = |text: &str| Some(Duration::from_millis(u64::try_from(date(text)? - now).unwrap_or(0)));
        if let Some(pause) = header(&RETRY_AFTER).and_then(|text| seconds(text).or_else(|| until(text))) {
            self.settings.allowance.pause(pause);
        }
    }

    async fn read(&self, mut response: Response, body: &mut Vec<u8>) -> Result<(), Fault> {
        body.clear();
        let broken = |error: reqwest::Error, read: usize| match self.credentials.fault(&error) {
            Fault::Down(cause) => Fault::Down(format!("the answer broke off after {read} bytes: {cause}")),
            other => other,
        };
        while let Some(chunk) = response.chunk().await.map_err(|e| broken(e, body.len()))? {
            if body.len() + chunk.len() > self.settings.body_max {
                return Err(Fault::TooLarge(self.settings.body_max));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(())
    }
}

/// A redirect is not followed: it would turn the POST into a GET, and send the credentials to another host.
fn refuse_redirect(response: &Response) -> Result<(), Fault> {
    if !response.status().is_redirection() {
        return Ok(());
    }
    let to = response.headers().get(LOCATION).and_then(|v| v.to_str().ok()).unwrap_or("nowhere");
    // a log-in page's address may carry a secret in its parameters
    let to: String = to.split(['?', '#']).next().unwrap_or_default().chars().take(200).collect();
    Err(Fault::Body(format!("HTTP {} redirects to {to}: set the source's url to where the API is", response.status().as_u16())))
}

fn content_type(response: &Response) -> String {
    let text = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().chars().take(50).collect()
}

#[cfg(test)]
mod tests {
    use super::super::credentials::{Auth, Tls};
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_refused_at_once_and_secrets_stay_hidden() {
        for url in ["", "prometheus:9090", "ftp://x", "http://u:p@x"] {
            assert!(Client::new(PrometheusSettings::new("p", url)).is_err(), "{url}");
        }
        let mut settings = PrometheusSettings::new("p", "http://127.0.0.1:1");
        settings.auth = Auth::Basic { user: "hunter2".into(), password_file: "hunter2".into() };
        settings.headers = vec![("X-Scope".into(), "hunter2".into())];
        assert!(!format!("{:?} {:?}", settings, Client::new(settings.clone()).unwrap()).contains("hunter2"));
        settings.tls = Tls { ca_file: Some("/nonexistent/ca.pem".into()), identity: None };
        assert!(Client::new(settings.clone()).unwrap_err().to_string().contains("ca_file /nonexistent/ca.pem"));
        settings.tls = Tls { ca_file: None, identity: Some(("/nonexistent/cert.pem".into(), "/nonexistent/key.pem".into())) };
        assert!(Client::new(settings).unwrap_err().to_string().contains("cert_file /nonexistent/cert.pem"));
    }
}
