//! Small bounded HTTP exchanges, for the routers that speak HTTP. Redirects are never followed: a 302 would turn a POST into a GET.

use reqwest::{Client, Response, redirect};
use std::time::Duration;

/// Most characters of a refusal that are shown.
const SAID_MAX: usize = 300;

/// One whose whole exchange lasts at most `timeout`.
pub(super) fn client(tls: bool, connect_max: Duration, timeout: Duration) -> Result<Client, String> {
    crate::tls::install();
    let builder = Client::builder().connect_timeout(connect_max).timeout(timeout).redirect(redirect::Policy::none());
    // an image without certificates is no reason to fail where none are needed
    let builder = if tls { builder } else { builder.no_proxy().tls_certs_only([]) };
    builder.build().map_err(|e| causes(&e, timeout))
}

/// The whole body, at most so many bytes.
pub(super) async fn body(mut answer: Response, bytes_max: usize, timeout: Duration) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|e| causes(&e, timeout))? {
        if body.len() + chunk.len() > bytes_max {
            return Err(format!("answers more than {bytes_max} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What a refusing server says, on one line.
pub(super) fn said(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    words.join(" ").chars().take(SAID_MAX).collect()
}

/// The error and what it came from, without the URL (which may hold a secret).
pub(super) fn causes(error: &reqwest::Error, timeout: Duration) -> String {
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
        (true, _) => format!("no answer within {} s", timeout.as_secs_f64()),
        (false, true) => "the connection broke".to_owned(),
        (false, false) => text,
    }
}
