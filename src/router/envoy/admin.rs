//! The admin interface: small bounded requests.

use crate::router::{RouterError, http};
use reqwest::{Client, Method, Url};
use serde_json::Value;
use std::time::Duration;

/// To connect.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// For a whole request; the admin interface answers in milliseconds.
const REQUEST_MAX: Duration = Duration::from_secs(3);
/// Most bytes of one answer.
const ANSWER_BYTES_MAX: usize = 16 << 20;

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
        let client = http::client(false, CONNECT_MAX, REQUEST_MAX)
            .map_err(|why| RouterError::Object { what: "the HTTP client for Envoy".to_owned(), why })?;
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
        let answer = sent.map_err(|e| self.unreachable(&http::causes(&e, REQUEST_MAX)))?;
        let status = answer.status();
        let body = http::body(answer, ANSWER_BYTES_MAX, REQUEST_MAX).await.map_err(|why| self.unreachable(&format!("{path}: {why}")))?;
        if !status.is_success() {
            return Err(RouterError::Refused { what: self.what(), why: format!("{path} answered {status}: {}", http::said(&body)) });
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
