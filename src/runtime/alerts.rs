//! What an Alertmanager says, on its way to a rollout (DESIGN 8): which of its alerts concern it, and which are news. A sender
//! repeats itself, two replicas overtake each other, and the end of an alert that was silenced is never told: the machine must see
//! each beginning and each end once, and the journal too.

use crate::model::rule::Rule;
use crate::model::{Alert, Begin, Severity, Timestamp};
use crate::rollout::{Relation, relate};
use std::collections::BTreeMap;
use std::time::Duration;

/// Alerts remembered for one rollout.
const SEEN_MAX: usize = 1000;
/// A firing that follows its own end so closely was overtaken by it: less than the shortest usual pause between two messages about
/// a group (`group_interval`, 5 min), so that an alert which really fires again is believed.
const OVERTAKEN: Duration = Duration::from_secs(4 * 60);

/// One alert as an Alertmanager tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The sender's identity of it.
    pub fingerprint: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// For a person: its summary.
    pub text: String,
    /// When it began.
    pub since: Timestamp,
    /// When it ended; `None` while it fires.
    pub ended: Option<Timestamp>,
}

impl Heard {
    /// The alert as the machine sees it; `None` if it does not concern this rollout.
    pub(super) fn for_rollout(&self, rule: &Rule, begin: &Begin) -> Option<Arrived> {
        let names = match relate(&self.labels, rule, begin) {
            Relation::NotOurs => return None,
            Relation::Service => None,
            Relation::Names(arm) => Some(arm),
        };
        let alert = Alert {
            fingerprint: self.fingerprint.clone(),
            name: self.labels.get("alertname").cloned().unwrap_or_default(),
            firing: self.ended.is_none(),
            severity: severity(self.labels.get("severity").map_or("", String::as_str)),
            names,
            since: self.since,
            text: self.text.clone(),
        };
        Some(Arrived { alert, ended: self.ended })
    }
}

/// How bad a label says it is; what nobody knows is shown only.
fn severity(label: &str) -> Severity {
    match label.to_ascii_lowercase().as_str() {
        "critical" | "page" | "emergency" => Severity::Critical,
        "warning" | "error" => Severity::Warning,
        _ => Severity::Info,
    }
}

/// An alert that concerns a rollout.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Arrived {
    pub(super) alert: Alert,
    pub(super) ended: Option<Timestamp>,
}

/// What one rollout has heard.
#[derive(Debug)]
pub(super) struct Desk {
    seen: BTreeMap<String, Seen>,
    /// An alert that was not repeated for so long is over: its end was told to nobody.
    expire: Duration,
}

#[derive(Debug)]
struct Seen {
    alert: Alert,
    /// When it was last heard of.
    at: Timestamp,
}

impl Desk {
    pub(super) fn new(expire: Duration) -> Self {
        Self { seen: BTreeMap::new(), expire }
    }

    /// Takes up what an earlier process heard, as heard now: its sender could not repeat it in between.
    pub(super) fn take_up(&mut self, now: Timestamp, alerts: Vec<Alert>) {
        for alert in alerts {
            self.remember(now, alert);
        }
    }

    /// The news among these.
    pub(super) fn take(&mut self, now: Timestamp, arrived: Vec<Arrived>) -> Vec<Alert> {
        arrived.into_iter().filter_map(|one| self.take_one(now, one)).collect()
    }

    fn take_one(&mut self, now: Timestamp, Arrived { mut alert, ended }: Arrived) -> Option<Alert> {
        let known = match self.seen.get_mut(&alert.fingerprint) {
            Some(seen) if alert.firing => {
                let overtaken = !seen.alert.firing && alert.since <= seen.alert.since && now.since(seen.at) < OVERTAKEN;
                if overtaken || (!seen.alert.firing && alert.since < seen.alert.since) {
                    return None;
                }
                // what is said of it now counts
                if !seen.alert.firing {
                    // it begins again, whatever the sender says: with the old beginning it would be a late word about the end
                    alert.since = alert.since.max(seen.at);
                }
                let repeated = seen.alert.firing && seen.alert.severity == alert.severity && seen.alert.names == alert.names;
                seen.at = now;
                if repeated { Known::Repeated } else { Known::News }
            }
            Some(seen) if !seen.alert.firing => Known::Repeated,
            // the end of an earlier time it fired says nothing about this one
            Some(seen) if ended.is_some_and(|ended| ended < seen.alert.since) => Known::Repeated,
            Some(seen) => {
                // replicas may disagree on when it began: it is this beginning that ends
                alert.since = seen.alert.since;
                Known::News
            }
            None if alert.firing => Known::News,
            // the end before the beginning: to be remembered, and there is nothing to release
            None => Known::Unheard,
        };
        match known {
            Known::Repeated => None,
            Known::Unheard => {
                self.remember(now, alert);
                None
            }
            Known::News => self.remember(now, alert.clone()).then_some(alert),
        }
    }

    /// False if there is no room: what fires is not forgotten for it.
    fn remember(&mut self, now: Timestamp, alert: Alert) -> bool {
        if self.seen.len() >= SEEN_MAX && !self.seen.contains_key(&alert.fingerprint) {
            let over = self.seen.iter().filter(|(_, s)| !s.alert.firing).min_by_key(|(_, s)| s.at).map(|(key, _)| key.clone());
            let Some(over) = over else { return false };
            self.seen.remove(&over);
        }
        self.seen.insert(alert.fingerprint.clone(), Seen { alert, at: now });
        true
    }

    /// When the next one is over for want of a word.
    pub(super) fn expires_at(&self) -> Option<Timestamp> {
        self.seen.values().filter(|s| s.alert.firing).map(|s| s.at + self.expire).min()
    }

    /// Those that are over for want of a word, as ended.
    pub(super) fn expired(&mut self, now: Timestamp) -> Vec<Alert> {
        let expire = self.expire;
        let mut over = Vec::new();
        for seen in self.seen.values_mut().filter(|s| s.alert.firing && s.at + expire <= now) {
            let minutes = expire.as_secs() / 60;
            let text = format!("not repeated by its Alertmanager for {minutes} min, so it is taken as over ({})", seen.alert.text);
            seen.alert = Alert { firing: false, text, ..seen.alert.clone() };
            seen.at = now;
            over.push(seen.alert.clone());
        }
        over
    }
}

/// What an alert is to whoever heard of it before.
enum Known {
    Repeated,
    Unheard,
    News,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Arm;

    const MINUTE: i64 = 60_000;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_millis(minute * MINUTE)
    }

    /// `fingerprint`, begin and end in minutes.
    fn arrived(fingerprint: &str, since: i64, ended: Option<i64>) -> Arrived {
        let alert = Alert {
            fingerprint: fingerprint.to_owned(),
            name: "Errors".to_owned(),
            firing: ended.is_none(),
            severity: Severity::Warning,
            names: Some(Arm::Canary),
            since: at(since),
            text: "many".to_owned(),
        };
        Arrived { alert, ended: ended.map(at) }
    }

    /// Each line: when it comes, begin, end; and whether it is news.
    fn check(lines: &[(i64, i64, Option<i64>, bool)]) {
        let mut desk = Desk::new(Duration::from_secs(5 * 3600));
        for (n, (now, since, ended, news)) in lines.iter().enumerate() {
            let taken = desk.take(at(*now), vec![arrived("a", *since, *ended)]);
            assert_eq!(!taken.is_empty(), *news, "line {n}: {taken:?}");
        }
    }

    #[test]
    fn each_beginning_and_each_end_is_news_once() {
        check(&[(10, 9, None, true), (10, 9, None, false), (11, 9, Some(11), true), (12, 9, Some(11), false), (20, 19, None, true)]);
    }

    #[test]
    fn an_end_that_overtook_its_beginning_ends_it() {
        check(&[(10, 9, Some(10), false), (11, 9, None, false), (30, 29, None, true)]);
    }

    #[test]
    fn what_fires_again_with_its_old_beginning_is_believed_a_while_later() {
        check(&[(10, 9, None, true), (11, 9, Some(11), true), (12, 9, None, false), (16, 9, None, true)]);
    }

    #[test]
    fn an_older_time_it_fired_changes_nothing_about_the_newer() {
        // a late copy of the first beginning, and of its end
        check(&[(20, 19, None, true), (21, 9, None, false), (21, 9, Some(11), false), (22, 19, Some(22), true)]);
        // the sender merged two beginnings: its end counts all the same
        check(&[(20, 19, None, true), (25, 9, Some(25), true)]);
        check(&[(20, 19, None, true), (22, 19, Some(22), true), (40, 9, None, false)]);
    }

    /// The machine passes over what is not newer than what it knows: it is told a beginning that is, and the end of the one it
    /// knows.
    #[test]
    fn beginnings_rise_and_ends_are_of_the_beginning_that_was_told() {
        let mut desk = Desk::new(Duration::from_secs(5 * 3600));
        let mut since = |now, began, ended| desk.take(at(now), vec![arrived("a", began, ended)]).first().map(|a| a.since);
        assert_eq!(since(20, 19, None), Some(at(19)));
        assert_eq!(since(25, 9, Some(25)), Some(at(19)), "merged by the sender");
        assert_eq!(since(40, 19, None), Some(at(25)), "fires again with its old beginning");
        assert_eq!(since(41, 19, Some(41)), Some(at(25)));
    }

    #[test]
    fn louder_is_news_and_so_is_another_arm() {
        let mut desk = Desk::new(Duration::from_secs(60));
        assert_eq!(desk.take(at(1), vec![arrived("a", 1, None)]).len(), 1);
        let mut louder = arrived("a", 1, None);
        louder.alert.severity = Severity::Critical;
        assert_eq!(desk.take(at(1), vec![louder.clone()]).len(), 1);
        assert_eq!(desk.take(at(1), vec![louder]).len(), 0);
    }

    #[test]
    fn what_is_not_repeated_is_over_and_what_is_lasts() {
        let mut desk = Desk::new(Duration::from_secs(600));
        desk.take(at(0), vec![arrived("a", 0, None), arrived("b", 0, None)]);
        assert_eq!(desk.expires_at(), Some(at(10)));
        desk.take(at(9), vec![arrived("b", 0, None)]);
        let over = desk.expired(at(10));
        assert_eq!(over.iter().map(|a| (a.fingerprint.as_str(), a.firing)).collect::<Vec<_>>(), [("a", false)]);
        assert!(over[0].text.contains("not repeated by its Alertmanager for 10 min") && over[0].text.contains("many"), "{}", over[0].text);
        assert_eq!((desk.expired(at(10)).len(), desk.expires_at()), (0, Some(at(19))));
        // its late end is no news any more, and a new beginning is
        assert!(desk.take(at(11), vec![arrived("a", 0, Some(3))]).is_empty());
        assert_eq!(desk.take(at(30), vec![arrived("a", 29, None)]).len(), 1);
    }

    #[test]
    fn a_flood_forgets_what_is_over_and_nothing_that_fires() {
        let mut desk = Desk::new(Duration::from_secs(600));
        desk.take(at(0), vec![arrived("over", 0, None)]);
        desk.take(at(1), vec![arrived("over", 0, Some(1))]);
        let many = (0..SEEN_MAX + 5).map(|n| arrived(&format!("f{n}"), 0, None)).collect();
        assert_eq!(desk.take(at(2), many).len(), SEEN_MAX);
        assert_eq!(desk.seen.len(), SEEN_MAX);
        assert!(!desk.seen.contains_key("over"));
    }
}
