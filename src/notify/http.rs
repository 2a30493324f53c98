//! Calls of receivers: bounded in time and size, with credentials read from their files at each call, never shown.

use crate::telemetry::words;
use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use reqwest::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Method, Response, StatusCode, Url, redirect};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Wait for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// Largest answer read, bytes: a thousand annotations.
const ANSWER_MAX: usize = 1 << 20;
/// Characters of an answer shown in an error.
const SHOWN_MAX: usize = 300;
/// Longest pause a server may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// How a receiver is shown who tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// Not at all.
    #[default]
    None,
    /// `Authorization: Bearer` with the content of this file.
    BearerFile(PathBuf),
    /// Basic authentication, the password from this file.
    Basic {
        /// User.
        user: String,
        /// File of the password.
        password_file: PathBuf,
    },
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Base URL, without a slash at the end.
    pub url: String,
    /// Longest wait for one answer.
    pub timeout: Duration,
    /// Credentials.
    pub auth: Auth,
    /// PEM file of the authority that signed its certificate, instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// Why a call did not do what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// A word of a closed set, for a metric.
    pub reason: &'static str,
    /// What happened, without credentials.
    pub text: String,
    /// May it be answered otherwise later?
    pub again: bool,
    /// Not before so long, if the server said so or a person must act first.
    pub after: Option<Duration>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Fault {
    pub(super) fn new(reason: &'static str, text: impl Into<String>, again: bool) -> Self {
        Self { reason, text: text.into(), again, after: None }
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
    pause: Option<Duration>,
}

impl Answer {
    /// The beginning of its text, on one line.
    pub(super) fn shown(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN_MAX).collect::<String>().trim().to_owned()
    }

    /// What a status that is no success means for whoever called: `what` was attempted.
    pub(super) fn fault(&self, what: &str) -> Fault {
        let (reason, again) = match self.status.as_u16() {
            401 | 403 => ("unauthorized", true),
            404 | 405 | 410 => ("not-found", true),
            408 | 429 | 500..=599 => ("unavailable", true),
            300..=399 => ("redirected", true),
            _ => ("refused", false),
        };
        let text = format!("{what}: {} {}", self.status, self.shown()).trim_end().to_owned();
        Fault { reason, text, again, after: self.pause }
    }
}

/// The way to one server.
pub(super) struct Client {
    http: reqwest::Client,
    endpoint: Endpoint,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("url", &self.endpoint.url).finish_non_exhaustive()
    }
}

impl Client {
    /// # Errors
    /// The URL is none, or the file of the authority cannot be used.
    pub(super) fn new(endpoint: Endpoint) -> Result<Self, String> {
        let url = Url::parse(&endpoint.url).map_err(|e| format!("{:?}: {e}", endpoint.url))?;
        crate::tls::install();
        // a 302 would turn a POST into a GET
        let builder = reqwest::Client::builder().connect_timeout(CONNECT_MAX).timeout(endpoint.timeout).redirect(redirect::Policy::none());
        let builder = match &endpoint.ca_file {
            Some(file) => builder.tls_certs_only(certificates(file)?),
            // an image without certificates is no reason to fail where none are needed
            None if url.scheme() != "https" => builder.tls_certs_only([]),
            None => builder,
        };
        let http = builder.build().map_err(|e| words::root_cause(&e))?;
        Ok(Self { http, endpoint })
    }

    /// The base URL.
    pub(super) fn url(&self) -> &str {
        &self.endpoint.url
    }

    /// One call with a JSON body, or none.
    ///
    /// # Errors
    /// No whole answer in time. A status is no error here.
    pub(super) async fn call(&self, method: Method, path: &str, body: Option<&serde_json::Value>) -> Result<Answer, Fault> {
        let mut request = self.http.request(method, format!("{}{path}", self.endpoint.url));
        if let Some(value) = self.authorization()? {
            request = request.header(AUTHORIZATION, value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|e| unreachable(&e))?;
        read(response).await
    }

    /// Read anew each time, for tokens rotate.
    fn authorization(&self) -> Result<Option<HeaderValue>, Fault> {
        let read = |file: &Path| {
            let text = std::fs::read_to_string(file).map_err(|e| Fault::new("unauthorized", format!("{}: {e}", file.display()), true))?;
            Ok::<String, Fault>(text.trim().to_owned())
        };
        let (text, file) = match &self.endpoint.auth {
            Auth::None => return Ok(None),
            Auth::BearerFile(file) => (format!("Bearer {}", read(file)?), file),
            Auth::Basic { user, password_file } => {
                (format!("Basic {}", BASE64.encode(format!("{user}:{}", read(password_file)?))), password_file)
            }
        };
        let mut value = HeaderValue::try_from(text)
            .map_err(|_| Fault::new("unauthorized", format!("{} holds what no header may have", file.display()), true))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

fn certificates(file: &Path) -> Result<Vec<Certificate>, String> {
    let pem = std::fs::read(file).map_err(|e| format!("ca file {}: {e}", file.display()))?;
    Certificate::from_pem_bundle(&pem).map_err(|e| format!("ca file {}: {e}", file.display()))
}

async fn read(mut response: Response) -> Result<Answer, Fault> {
    let status = response.status();
    let pause = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()).and_then(|s| s.trim().parse().ok());
    let pause = pause.map(|s| Duration::from_secs(s).min(PAUSE_MAX));
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| unreachable(&e))? {
        if body.len() + chunk.len() > ANSWER_MAX {
            return Err(Fault::new("refused", format!("the answer exceeds {ANSWER_MAX} bytes"), true));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, body, pause })
}

fn unreachable(error: &reqwest::Error) -> Fault {
    let reason = if error.is_timeout() { "timeout" } else { "unreachable" };
    Fault::new(reason, words::root_cause(error), true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_whether_a_later_call_may_do_better() {
        for (status, reason, again) in [
            (400, "refused", false),
            (401, "unauthorized", true),
            (413, "refused", false),
            (429, "unavailable", true),
            (503, "unavailable", true),
        ] {
            let answer = Answer { status: StatusCode::from_u16(status).unwrap(), body: b"why\nnot".to_vec(), pause: None };
            let fault = answer.fault("alerts");
            assert_eq!((fault.reason, fault.again), (reason, again), "{status}");
            assert!(fault.text.starts_with(&format!("alerts: {status}")) && fault.text.ends_with("why not"), "{}", fault.text);
        }
    }
}
