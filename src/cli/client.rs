//! The client of the HTTP API.

use super::failure::Failure;
use crate::api::wire;
use crate::telemetry::words;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use reqwest::{RequestBuilder, Response, Url, redirect};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// Time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Time for a whole answer; the server gives up after 30 s and says so.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(35);
/// Largest answer: a journal of some hundred thousand lines.
const ANSWER_MAX: usize = 64 * 1024 * 1024;

/// Where the server is and who asks.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ServerArgs {
    /// Address of the daemon
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7878", env = "CANARYD_SERVER")]
    server: String,
    /// File with the token to show
    #[arg(long, value_name = "FILE", env = "CANARYD_TOKEN_FILE")]
    token_file: Option<PathBuf>,
}

/// Speaks to one server.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    server: Url,
    /// Marked sensitive: `Debug` does not show it.
    token: Option<HeaderValue>,
}

impl Client {
    pub(super) fn new(args: &ServerArgs) -> Result<Self, Failure> {
        let server = server_url(&args.server)?;
        crate::tls::install();
        let mut http = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).redirect(redirect::Policy::none());
        if is_loopback(&server) {
            http = http.no_proxy();
        }
        let http = http.build().map_err(anyhow::Error::from)?;
        let token = args.token_file.as_ref().map(token).transpose()?;
        Ok(Self { http, server, token })
    }

    /// One without a token, for a daemon of this process.
    pub(super) fn at(address: std::net::SocketAddr) -> Result<Self, Failure> {
        Self::new(&ServerArgs { server: format!("http://{address}"), token_file: None })
    }

    /// A document.
    pub(super) async fn get(&self, path: &[&str]) -> Result<Value, Failure> {
        let response = self.send(self.http.get(self.url(path)).timeout(ANSWER_TIMEOUT)).await?;
        document(response).await
    }

    /// A document that answers a question.
    pub(super) async fn query(&self, path: &[&str], query: &[(&str, String)]) -> Result<Value, Failure> {
        let mut url = self.url(path);
        url.query_pairs_mut().extend_pairs(query);
        let response = self.send(self.http.get(url).timeout(ANSWER_TIMEOUT)).await?;
        document(response).await
    }

    /// The answer to a mutation.
    pub(super) async fn post(&self, path: &[&str], body: &impl Serialize) -> Result<Value, Failure> {
        let response = self.send(self.http.post(self.url(path)).timeout(ANSWER_TIMEOUT).json(body)).await?;
        document(response).await
    }

    /// The live feed, of one rollout or of all.
    pub(super) async fn feed(&self, rollout: Option<&str>) -> Result<Response, Failure> {
        let mut url = self.url(&["events"]);
        if let Some(rollout) = rollout {
            url.query_pairs_mut().append_pair("rollout", rollout);
        }
        let asked = self.send(self.http.get(url).header(ACCEPT, "text/event-stream"));
        match tokio::time::timeout(ANSWER_TIMEOUT, asked).await {
            Ok(response) => checked(response?).await,
            Err(_) => Err(self.unreachable("no answer in time")),
        }
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.server.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1"]).extend(path);
        }
        url
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let request = match &self.token {
            Some(token) => request.header(AUTHORIZATION, token.clone()),
            None => request,
        };
        request.send().await.map_err(|error| self.unreachable(&words::root_cause(&error)))
    }

    fn unreachable(&self, why: &str) -> Failure {
        Failure::Unreachable(format!("no canaryd at {}: {why}; give its address with --server or CANARYD_SERVER", self.server))
    }
}

fn server_url(text: &str) -> Result<Url, Failure> {
    let wrong = |why: &str| Failure::Usage(format!("server {text:?} {why}, such as http://127.0.0.1:7878"));
    let url = Url::parse(text).map_err(|error| wrong(&format!("is no address ({error}): write it")))?;
    if !matches!(url.scheme(), "http" | "https") || url.cannot_be_a_base() {
        return Err(wrong("is neither http nor https: write it"));
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The header of a token file's first line. The error never shows the content.
fn token(path: &PathBuf) -> Result<HeaderValue, Failure> {
    let wrong = |why: String| Failure::Usage(format!("token file {}: {why}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let token = text.lines().map(str::trim).find(|line| !line.is_empty()).ok_or_else(|| wrong("is empty".to_owned()))?;
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| wrong("its first line is no token".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A refusal as the server's own sentence.
async fn checked(response: Response) -> Result<Response, Failure> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let url = response.url().clone();
    let refused = whole(response).await.ok().and_then(|body| serde_json::from_slice::<wire::Problem>(&body).ok());
    match refused {
        Some(problem) => Err(Failure::Problem(Box::new(problem))),
        None => Err(Failure::Unreachable(format!("{url} answers {status}, and not as canaryd would: is it another server?"))),
    }
}

async fn document(response: Response) -> Result<Value, Failure> {
    let response = checked(response).await?;
    let url = response.url().clone();
    let body = whole(response).await?;
    serde_json::from_slice(&body).map_err(|error| Failure::Unreachable(format!("{url} answers what is no JSON: {error}")))
}

async fn whole(mut response: Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    let cut = |error: reqwest::Error| Failure::Unreachable(format!("the answer ended early: {}", words::root_cause(&error)));
    while let Some(chunk) = response.chunk().await.map_err(cut)? {
        if body.len() + chunk.len() > ANSWER_MAX {
            return Err(Failure::Unreachable(format!("the answer exceeds {ANSWER_MAX} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// A document in its type: for what is shown as a table.
pub(super) fn typed<T: DeserializeOwned>(document: Value) -> Result<T, Failure> {
    serde_json::from_value(document)
        .map_err(|error| Failure::Unreachable(format!("the server answers in a shape this canaryd does not know: {error}")))
}

/// A name as it may stand in a path. For clap.
pub(super) fn name(text: &str) -> Result<String, String> {
    let known = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(known) {
        Ok(text.to_owned())
    } else {
        Err("a name of a rollout or rule has letters, digits and . _ - and begins with one of the former".to_owned())
    }
}
