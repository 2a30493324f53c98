//! One replica of an Alertmanager, told by its API v2 (PROTOCOLS 4.1). What fires is sent again every minute with an end four
//! minutes ahead, so that it resolves by itself if the daemon dies; what ended is resolved explicitly with the same labels, which
//! are its whole identity. Every replica is a receiver of its own: they share what they are told, not their troubles.

use super::http::{Client, Endpoint};
use super::{Delivery, Fault, Receiver, Told};
use crate::model::{Arm, Level, Phase, RolloutId, Timestamp, Topic};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// How often what fires is sent again.
pub const REPEAT: Duration = Duration::from_secs(60);
/// How long it lasts there without another word.
pub const LASTS: Duration = Duration::from_secs(4 * 60);
/// How long an event is shown: it has no end of its own.
pub const EVENT_LASTS: Duration = Duration::from_secs(10 * 60);
/// An event that could not be delivered for so long is old news, and so is an end.
const EVENT_KEPT: Duration = Duration::from_secs(3600);
/// A rollback fires until the rule's next rollout, at most so long: a working day's night.
pub const ROLLED_BACK_LASTS: Duration = Duration::from_secs(12 * 3600);
/// Alerts kept for one replica: ten for each of a thousand rollouts.
const ALERTS_MAX: usize = 10_000;
/// Alerts of one request.
const BATCH_MAX: usize = 256;

/// The value of the label `generator` of every alert of ours: by it they are known when they come back.
pub const GENERATOR: &str = "canaryd";

type Labels = BTreeMap<String, String>;

/// What every alert of a receiver has besides its own.
#[derive(Clone, Debug)]
pub struct Style {
    /// Constant labels.
    pub labels: BTreeMap<String, String>,
    /// Notices below this level are not told.
    pub level: Level,
    /// Base of links: where people reach the daemon, without a slash at the end.
    pub external_url: String,
}

/// One replica.
#[derive(Debug)]
pub struct Alertmanager {
    client: Client,
    style: Style,
    /// By labels: their identity.
    alerts: BTreeMap<Labels, Alert>,
    /// The newest rollout met of each rule, by its number.
    newest: BTreeMap<String, u64>,
    missed: Vec<(RolloutId, &'static str)>,
}

#[derive(Clone, Debug, PartialEq)]
struct Alert {
    rule: String,
    rollout: RolloutId,
    topic: Topic,
    annotations: BTreeMap<&'static str, String>,
    link: String,
    since: Timestamp,
    course: Course,
    /// When it is to be sent.
    due: Timestamp,
    /// It was sent and taken.
    known: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    /// Until it is resolved, or at the latest then.
    Fires(Option<Timestamp>),
    /// Sent once.
    Event,
    /// Over since.
    Ended(Timestamp),
}

impl Alertmanager {
    /// The replica at this endpoint.
    ///
    /// # Errors
    /// The URL is none, or a file cannot be used.
    pub fn new(endpoint: Endpoint, style: Style) -> Result<Self, String> {
        Ok(Self { client: Client::new(endpoint)?, style, alerts: BTreeMap::new(), newest: BTreeMap::new(), missed: Vec::new() })
    }

    fn fire(&mut self, told: &Told, now: Timestamp, until: Option<Timestamp>) {
        let labels = labels(told, &self.style);
        // louder or quieter than before is another alert there: the labels say how loud
        self.end(now, |known, alert| alert.is_about(told) && *known != labels);
        if let Some(alert) = self.alerts.get_mut(&labels) {
            let fires = matches!(alert.course, Course::Fires(_));
            alert.annotations = annotations(told);
            alert.due = now;
            if !fires {
                (alert.course, alert.since) = (Course::Fires(until), told.at);
            }
            return;
        }
        self.put(labels, told, Course::Fires(until), now);
    }

    fn happen(&mut self, told: &Told, now: Timestamp) {
        let labels = labels(told, &self.style);
        let fires = self.alerts.get(&labels).is_some_and(|alert| matches!(alert.course, Course::Fires(_)));
        if !fires {
            self.put(labels, told, Course::Event, now);
        }
    }

    fn put(&mut self, labels: Labels, told: &Told, course: Course, now: Timestamp) {
        if self.alerts.len() >= ALERTS_MAX && !self.alerts.contains_key(&labels) {
            self.missed.push((told.rollout.clone(), "too-many-alerts"));
            return;
        }
        let alert = Alert {
            rule: told.rule.name.clone(),
            rollout: told.rollout.clone(),
            topic: told.notice.topic.clone(),
            annotations: annotations(told),
            link: format!("{}/api/v1/rollouts/{}", self.style.external_url, told.rollout),
            since: told.at,
            course,
            due: now,
            known: false,
        };
        self.alerts.insert(labels, alert);
    }

    /// Ends what fires and is meant. What nobody there knows of is forgotten.
    fn end(&mut self, now: Timestamp, meant: impl Fn(&Labels, &Alert) -> bool) {
        self.alerts.retain(|labels, alert| {
            if matches!(alert.course, Course::Fires(_)) && meant(labels, alert) {
                if !alert.known {
                    return false;
                }
                (alert.course, alert.due) = (Course::Ended(now), now);
            }
            true
        });
    }

    /// Fires no longer for its own sake, or was not heard for too long.
    fn expire(&mut self, now: Timestamp) {
        self.end(now, |_, alert| matches!(alert.course, Course::Fires(Some(until)) if until <= now));
        let missed = &mut self.missed;
        self.alerts.retain(|_, alert| match alert.course {
            Course::Event if now.since(alert.since) > EVENT_KEPT => {
                missed.push((alert.rollout.clone(), "too-late"));
                false
            }
            // there it ended by itself long ago
            Course::Ended(at) => now.since(at) <= EVENT_KEPT,
            _ => true,
        });
    }

    async fn send(&mut self, now: Timestamp) -> Result<(), Fault> {
        self.expire(now);
        let due: Vec<Labels> = self.alerts.iter().filter(|(_, a)| a.due <= now).map(|(labels, _)| labels.clone()).collect();
        let mut refused = Ok(());
        for batch in due.chunks(BATCH_MAX) {
            match self.post(batch, now).await {
                Err(fault) if fault.again => return Err(fault),
                // one bad alert of many is refused, and the others were taken: none is sent a second time for it
                ended => {
                    refused = refused.and(ended);
                    batch.iter().for_each(|labels| self.sent(labels, now));
                }
            }
        }
        refused
    }

    async fn post(&self, batch: &[Labels], now: Timestamp) -> Result<(), Fault> {
        let alerts: Vec<Value> =
            batch.iter().filter_map(|labels| self.alerts.get(labels).map(|alert| written(labels, alert, now))).collect();
        let answer = self.client.call(Method::POST, "/api/v2/alerts", Some(&Value::Array(alerts))).await?;
        if answer.status.is_success() { Ok(()) } else { Err(answer.fault("POST /api/v2/alerts")) }
    }

    fn sent(&mut self, labels: &Labels, now: Timestamp) {
        let Some(alert) = self.alerts.get_mut(labels) else { return };
        if let Course::Fires(until) = alert.course {
            alert.known = true;
            let next = now + REPEAT;
            alert.due = until.map_or(next, |until| until.min(next));
        } else {
            self.alerts.remove(labels);
        }
    }
}

impl Alert {
    fn is_about(&self, told: &Told) -> bool {
        self.rollout == told.rollout && self.topic == told.notice.topic
    }
}

impl Receiver for Alertmanager {
    fn target(&self) -> &str {
        self.client.url()
    }

    fn take(&mut self, told: &Told, now: Timestamp) {
        // a newer rollout of the rule: nothing of an older one is worth firing for
        self.end(now, |_, alert| alert.rule == told.rule.name && number(&alert.rollout) < number(&told.rollout));
        let newest = self.newest.entry(told.rule.name.clone()).or_default();
        *newest = number(&told.rollout).max(*newest);
        let notice = &told.notice;
        let loud = notice.level >= self.style.level && number(&told.rollout) == *newest;
        match (notice.phase, &notice.topic) {
            (Phase::Resolved, _) => self.end(now, |_, alert| alert.is_about(told)),
            (Phase::Firing | Phase::Event, Topic::RolledBack) if loud => {
                let until = told.at + ROLLED_BACK_LASTS;
                if until > now {
                    self.fire(told, now, Some(until));
                }
            }
            (Phase::Firing, _) if loud => self.fire(told, now, None),
            (Phase::Event, _) if loud => self.happen(told, now),
            _ => {}
        }
        if is_over(told.state) {
            self.end(now, |_, alert| alert.rollout == told.rollout && alert.topic != Topic::RolledBack);
        }
    }

    fn due(&self) -> Option<Timestamp> {
        self.alerts.values().map(|alert| alert.due).min()
    }

    fn deliver(&mut self, now: Timestamp) -> Delivery<'_> {
        Box::pin(self.send(now))
    }

    fn missed(&mut self) -> Vec<(RolloutId, &'static str)> {
        std::mem::take(&mut self.missed)
    }
}

/// Words of states in which nothing will happen any more.
fn is_over(state: &str) -> bool {
    matches!(state, "succeeded" | "rolled-back" | "superseded")
}

/// The number of a rollout in its rule.
pub(super) fn number(rollout: &RolloutId) -> u64 {
    rollout.0.rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// The name under which people route and silence it.
pub const fn alertname(topic: &Topic) -> &'static str {
    match topic {
        Topic::Progress => "CanaryProgress",
        Topic::RolledBack => "CanaryRolledBack",
        Topic::Paused => "CanaryPaused",
        Topic::Stuck => "CanaryStuck",
        Topic::Breach => "CanaryBreachHeld",
        Topic::Shared => "CanarySharedIncident",
        Topic::TrafficShare => "CanaryTrafficShare",
        Topic::Vanished => "CanaryRequestsVanish",
        Topic::NoRequests => "CanaryNoRequests",
        Topic::RouterUnreadable => "CanaryRouterUnreadable",
        Topic::Foreign => "CanaryForeignWeight",
        Topic::Limit { .. } => "CanaryLimit",
        Topic::Gate => "CanaryGate",
        Topic::Alert => "CanaryHeldByAlert",
        Topic::Capacity => "CanaryCapacity",
        Topic::Release => "CanaryRelease",
    }
}

/// What people route by.
pub const fn severity(level: Level) -> &'static str {
    match level {
        Level::Info => "info",
        Level::Warning => "warning",
        Level::Page => "critical",
    }
}

/// Whose fault or fate it is, where that can be said.
const fn arm(topic: &Topic) -> Option<Arm> {
    match topic {
        Topic::RolledBack | Topic::Breach | Topic::Vanished | Topic::NoRequests => Some(Arm::Canary),
        Topic::Limit { arm, .. } => Some(*arm),
        _ => None,
    }
}

/// Only what does not change while it lasts.
fn labels(told: &Told, style: &Style) -> Labels {
    let sides = &told.rule.workloads;
    let (canary, baseline) = (sides.side(told.canary), sides.side(told.canary.other()));
    let mut labels = style.labels.clone();
    let mut put = |name: &str, value: &str| {
        if !value.is_empty() {
            labels.insert(name.to_owned(), value.to_owned());
        }
    };
    put("alertname", alertname(&told.notice.topic));
    put("generator", GENERATOR);
    put("severity", severity(told.notice.level));
    put("rule", &told.rule.name);
    put("rollout", &told.rollout.0);
    put("namespace", canary.fields.get("namespace").map_or("", String::as_str));
    put("workload", canary.name());
    put("baseline", baseline.name());
    put("canaryd_arm", arm(&told.notice.topic).map_or("", Arm::name));
    if let Topic::Limit { metric, limit, .. } = &told.notice.topic {
        put("metric", metric);
        put("limit", limit);
    }
    labels
}

fn annotations(told: &Told) -> BTreeMap<&'static str, String> {
    let version = if told.version.is_empty() { String::new() } else { format!(" ({})", told.version) };
    let subject = format!("{}{version}: {}", told.rollout, told.notice.topic.name());
    let canary = told.rule.workloads.side(told.canary).name();
    let description = format!("{}; {} at weight {}, canary {canary}", told.notice.text, told.state, told.weight);
    BTreeMap::from([("summary", subject), ("description", description)])
}

fn written(labels: &Labels, alert: &Alert, now: Timestamp) -> Value {
    let ends = match alert.course {
        Course::Fires(_) => now + LASTS,
        Course::Event => now + EVENT_LASTS,
        Course::Ended(at) => at.max(alert.since),
    };
    let mut annotations = alert.annotations.clone();
    annotations.insert("link", alert.link.clone());
    json!({
        "labels": labels,
        "annotations": annotations,
        "startsAt": rfc3339(alert.since),
        "endsAt": rfc3339(ends),
        "generatorURL": alert.link,
    })
}

fn rfc3339(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.as_millis()).map_or_else(|_| "0001-01-01T00:00:00Z".to_owned(), |t| t.to_string())
}
