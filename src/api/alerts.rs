//! `POST /webhooks/alertmanager`: what an Alertmanager says (webhook version 4, PROTOCOLS 4.1). It repeats what was answered with
//! 5xx and drops what was answered otherwise, so garbage is 4xx, and whatever may be different a moment later is 503. The answer
//! comes when every rollout concerned has stored it.

use super::problem::Problem;
use super::{ApiState, auth, body, wire};
use crate::model::Timestamp;
use crate::runtime::Heard;
use crate::telemetry::events::AlertsReceived;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Largest message: a thousand alerts with long annotations.
pub const ALERTS_BODY_MAX: usize = 4 << 20;
/// Most alerts of one message.
pub const ALERTS_MAX: usize = 2000;
/// Messages that are read at a time; with their size, the memory a flood can take.
const AT_A_TIME: usize = 8;
/// Longest a sender waits: a store that takes longer is as good as down.
const ANSWER_MAX: Duration = Duration::from_secs(8);
/// Characters of an alert's summary that are kept.
const TEXT_MAX: usize = 500;
/// Labels of one alert, and characters of a label's name and value.
const LABELS_MAX: usize = 100;
const LABEL_MAX: usize = 1000;

/// Places for messages under way.
#[derive(Clone, Debug)]
pub(super) struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_A_TIME)))
    }
}

/// A message. Newer servers say more: what is not known here is passed over.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    version: Option<Value>,
    alerts: Option<Vec<Value>>,
    #[serde(default)]
    truncated_alerts: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AlertOfMessage {
    status: Status,
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    starts_at: String,
    #[serde(default)]
    ends_at: String,
    fingerprint: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Firing,
    Resolved,
}

pub(super) async fn alertmanager(
    State(state): State<ApiState>,
    Extension(Places(places)): Extension<Places>,
    headers: HeaderMap,
    content: Body,
) -> Result<Json<wire::AlertsTaken>, Problem> {
    let by = auth::webhook(&state, &headers)?;
    let mut seen = (0, 0);
    let answer = deal(&state, &places, &headers, content, &mut seen).await;
    let (alerts, truncated) = seen;
    let (taken, refused) = match &answer {
        Ok(taken) => (taken.taken as usize, None),
        Err(problem) => (0, Some(problem.detail.as_str())),
    };
    AlertsReceived { by: &by, alerts, taken, truncated, refused }.emit(&state.metrics);
    answer.map(Json)
}

async fn deal(
    state: &ApiState,
    places: &Semaphore,
    headers: &HeaderMap,
    content: Body,
    seen: &mut (usize, u64),
) -> Result<wire::AlertsTaken, Problem> {
    let _place = places.try_acquire().map_err(|_| Problem::unavailable(format!("{AT_A_TIME} messages are being read: send it again")))?;
    let message: Message = body::read_up_to(ALERTS_BODY_MAX, headers, content).await?;
    *seen = (message.alerts.as_ref().map_or(0, Vec::len), message.truncated_alerts);
    let heard = heard(message)?;
    let count = heard.len() as u64;
    let asked = tokio::time::timeout(ANSWER_MAX, state.handle.alerts(heard)).await;
    let late = || Problem::unavailable(format!("the alerts were not stored within {ANSWER_MAX:?}: send them again"));
    let taken = asked.map_err(|_| late())?.map_err(|refusal| Problem::unavailable(refusal.text))?;
    Ok(wire::AlertsTaken { alerts: count, taken: taken as u64 })
}

/// What it says, or what is wrong with it and where.
fn heard(message: Message) -> Result<Vec<Heard>, Problem> {
    let alerts = message.alerts.ok_or_else(|| {
        let text = "the message has no `alerts`: remove `payload` from this webhook of the Alertmanager, canaryd reads its usual body";
        Problem::bad_request("alerts-missing", text)
    })?;
    if message.version.as_ref().and_then(Value::as_str) != Some("4") {
        let said = message.version.map_or_else(|| "none".to_owned(), |v| shown(&v.to_string()));
        return Err(Problem::bad_request("version-unknown", format!("version {said} of a message is not known here, only \"4\"")));
    }
    if alerts.len() > ALERTS_MAX {
        let text = format!("{} alerts in one message exceed {ALERTS_MAX}: set max_alerts, or group them by more labels", alerts.len());
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-many-alerts", text));
    }
    let all = alerts.into_iter().enumerate();
    all.map(|(n, alert)| one(alert).map_err(|why| Problem::bad_request("alert-malformed", format!("alerts[{n}]: {why}")))).collect()
}

fn one(alert: Value) -> Result<Heard, String> {
    let alert: AlertOfMessage = serde_json::from_value(alert).map_err(|e| e.to_string())?;
    let since = instant(&alert.starts_at).map_err(|why| format!("startsAt: {why}"))?;
    let ended = match alert.status {
        Status::Firing => None,
        // the zero time stands for none
        Status::Resolved => Some(instant(&alert.ends_at).map_err(|why| format!("endsAt: {why}"))?.max(since)),
    };
    let too_long = |(name, value): (&String, &String)| name.len() > LABEL_MAX || value.len() > LABEL_MAX;
    if alert.fingerprint.is_empty() || alert.fingerprint.len() > LABEL_MAX {
        return Err("fingerprint is empty or too long".to_owned());
    }
    if alert.labels.len() > LABELS_MAX || alert.labels.iter().any(too_long) {
        return Err(format!("more than {LABELS_MAX} labels, or one longer than {LABEL_MAX} bytes"));
    }
    let text = ["summary", "description", "message"].iter().find_map(|name| alert.annotations.get(*name));
    let text = text.map(|text| shown(text)).unwrap_or_default();
    Ok(Heard { fingerprint: alert.fingerprint, labels: alert.labels, text, since, ended })
}

fn instant(text: &str) -> Result<Timestamp, String> {
    let instant: jiff::Timestamp = text.parse().map_err(|_| format!("{:?} is no time", shown(text)))?;
    Ok(Timestamp::from_millis(instant.as_millisecond()))
}

/// Enough of a stranger's text, on one line.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn alert() -> Value {
        json!({
            "status": "firing", "labels": { "alertname": "Errors", "severity": "critical" }, "annotations": { "summary": "too\nmany" },
            "startsAt": "2026-11-20T09:57:04.841808315Z", "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "http://x",
            "fingerprint": "fa28e92be05f48f6", "new": 1,
        })
    }

    fn read(message: &Value) -> Result<Vec<Heard>, Problem> {
        heard(serde_json::from_value(message.clone()).expect("a message"))
    }

    #[test]
    fn a_message_of_0_25_and_one_of_0_34_are_read() {
        let old = json!({ "version": "4", "alerts": [alert()], "truncatedAlerts": 2, "groupKey": "{}:{}" });
        let new = json!({ "version": "4", "alerts": [alert()], "notification_reason": "new alerts added", "routeLabels": {} });
        for message in [old, new] {
            let all = read(&message).expect("valid");
            assert_eq!((all[0].text.as_str(), all[0].ended, all[0].since.as_millis()), ("too many", None, 1_795_168_624_841));
        }
        let mut over = alert();
        over["status"] = "resolved".into();
        over["endsAt"] = "2026-11-20T09:59:04.841Z".into();
        let all = read(&json!({ "version": "4", "alerts": [over] })).expect("valid");
        assert_eq!(all[0].ended, Some(all[0].since + Duration::from_secs(120)));
    }

    #[test]
    fn garbage_is_refused_with_its_place() {
        let with = |key: &str, value: Value| {
            let mut alert = alert();
            alert[key] = value;
            json!({ "version": "4", "alerts": [self::alert(), alert] })
        };
        for (message, code, wanted) in [
            (json!({ "version": "4" }), "alerts-missing", "remove `payload`"),
            (json!({ "text": "something else" }), "alerts-missing", "`alerts`"),
            (json!({ "version": "3", "alerts": [] }), "version-unknown", "\"3\""),
            (json!({ "alerts": [] }), "version-unknown", "none"),
            (with("status", "loud".into()), "alert-malformed", "alerts[1]: unknown variant `loud`"),
            (with("labels", json!({ "a": 1 })), "alert-malformed", "alerts[1]: invalid type"),
            (with("startsAt", "yesterday".into()), "alert-malformed", "alerts[1]: startsAt: \"yesterday\" is no time"),
            (with("fingerprint", "".into()), "alert-malformed", "fingerprint is empty"),
            (with("fingerprint", Value::Null), "alert-malformed", "alerts[1]: invalid type: null"),
        ] {
            let problem = read(&message).expect_err(wanted);
            assert_eq!((problem.code, problem.status), (code, StatusCode::BAD_REQUEST), "{message}");
            assert!(problem.detail.contains(wanted), "{}", problem.detail);
        }
        let many = json!({ "version": "4", "alerts": vec![alert(); ALERTS_MAX + 1] });
        assert_eq!(read(&many).expect_err("too many").status, StatusCode::PAYLOAD_TOO_LARGE);
    }
}
