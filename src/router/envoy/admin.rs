//! The admin interface: small bounded requests.

use crate::router::RouterError;
use reqwest::{Client, Method, Url, redirect};
use serde_json::Value;
use std::time::Duration;

/// To connect.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// For a whole request; the admin interface answers in milliseconds.
const REQUEST_MAX: Duration = Duration::from_secs(3);
/// Most bytes of one answer.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Most characters of a refusal that are shown.
const REFUSAL_MAX: usize = 300;

#[derive(Debug)]
pub(super) struct Admin {
    base: Url,
    client: Client,
}

impl Admin {
    pub(super) fn new(address: &str) -> Result<Self, RouterError> {
        let base = Url::parse(address).ok().filter(is_plain).ok_or_else(|| RouterError::Object {
            what: "traffic.envoy.admin".to_owned(),
            why: "is no http://host:port (without user, path or https)".to_owned(),
        })?;
        // only the first install counts, and any of them will do: the one crate-wide provider is ring
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .connect_timeout(CONNECT_MAX)
            .timeout(REQUEST_MAX)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .tls_certs_only([]) // plain http only: no root certificates are needed, or read
            .build()
            .map_err(|e| RouterError::Object { what: "the HTTP client for Envoy".to_owned(), why: e.to_string() })?;
        Ok(Self { base, client })
    }

    /// `Envoy admin http://host:port`, for errors.
    pub(super) fn what(&self) -> String {
        format!("Envoy admin {}", self.base.as_str().trim_end_matches('/'))
    }

    pub(super) async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, RouterError> {
        let body = self.ask(Method::GET, path, query).await?;
        serde_json::from_slice(&body).map_err(|e| self.unreachable(&format!("{path} is no JSON: {e}")))
    }

    pub(super) async fn post(&self, path: &str, query: &[(&str, &str)]) -> Result<(), RouterError> {
        self.ask(Method::POST, path, query).await.map(drop)
    }

    async fn ask(&self, method: Method, path: &str, query: &[(&str, &str)]) -> Result<Vec<u8>, RouterError> {
        let mut url = self.base.clone();
        url.set_path(path);
        url.query_pairs_mut().extend_pairs(query);
        let sent = self.client.request(method, url).send().await;
        let mut answer = sent.map_err(|e| self.unreachable(&causes(&e)))?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|e| self.unreachable(&causes(&e)))? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(self.unreachable(&format!("{path} answers more than {ANSWER_BYTES_MAX} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        if !answer.status().is_success() {
            let said: String = String::from_utf8_lossy(&body).trim().chars().take(REFUSAL_MAX).collect();
            return Err(RouterError::Refused { what: self.what(), why: format!("{path} answered {}: {said}", answer.status()) });
        }
        Ok(body)
    }

    fn unreachable(&self, cause: &str) -> RouterError {
        RouterError::Unreachable { what: self.what(), cause: cause.to_owned() }
    }
}

fn is_plain(url: &Url) -> bool {
    let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    url.scheme() == "http" && url.host_str().is_some_and(|h| !h.is_empty()) && url.username().is_empty() && url.password().is_none() && bare
}

/// The error and what it came from, without the URL (`what` has it).
fn causes(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut next: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(cause) = next {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    match (error.is_timeout(), text.is_empty()) {
        (true, _) => format!("no answer within {} s", REQUEST_MAX.as_secs()),
        (false, true) => "the connection broke".to_owned(),
        (false, false) => text,
    }
}
