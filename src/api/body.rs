//! Bodies of mutations: small, in time, and nothing in them that is not known.

use super::problem::Problem;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Largest body: a sentence and two names fit many times.
pub(super) const BODY_MAX: usize = 16 * 1024;
/// Time in which it must have arrived.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// The JSON object of a body; an empty body is an empty object.
///
/// # Errors
/// Too large, too slow, not JSON, not of this shape.
pub(super) async fn read<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Result<T, Problem> {
    read_up_to(BODY_MAX, headers, body).await
}

/// The same, of at most so many bytes.
///
/// # Errors
/// As above.
pub(super) async fn read_up_to<T: DeserializeOwned>(most: usize, headers: &HeaderMap, body: Body) -> Result<T, Problem> {
    let bytes = match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, most).collect()).await {
        Err(_) => return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "body-too-slow", format!("no whole body within {BODY_TIMEOUT:?}"))),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let text = format!("the body exceeds {most} bytes");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", text));
        }
        Ok(Err(error)) => return Err(Problem::bad_request("body-unreadable", format!("the body cannot be read: {error}"))),
        Ok(Ok(collected)) => collected.to_bytes(),
    };
    if bytes.is_empty() {
        return parse(b"{}");
    }
    if !is_json(headers) {
        let text = "send the body with the header `content-type: application/json`";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "body-not-json", text));
    }
    parse(&bytes)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| Problem::bad_request("body-malformed", format!("the body is not as expected: {error}")))
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// Checks words that end up in journal, log and page.
///
/// # Errors
/// Longer than `most` characters, or with control characters.
pub(super) fn words(field: &str, text: String, most: usize) -> Result<String, Problem> {
    let length = text.chars().count();
    if length > most {
        return Err(Problem::bad_request("text-too-long", format!("{field} has {length} characters, at most {most} are kept")));
    }
    if text.chars().any(char::is_control) {
        return Err(Problem::bad_request("text-unprintable", format!("{field} has control characters")));
    }
    Ok(text)
}
