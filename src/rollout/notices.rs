//! Who is told what. What happens is told as it happens; what lasts is derived from where the rollout stands after each input,
//! told once when it begins and resolved once when it ends, so that no path through the machine can forget either.

use super::machine::{Course, Machine};
use super::texts::duration;
use crate::model::rule::{OnShared, Then};
use crate::model::{Arm, Effect, Level, LimitJudgement, LimitKind, Notice, Phase, Timestamp, Topic};
use std::collections::BTreeMap;
use std::time::Duration;

/// A router that cannot be read for so long is told: until then it is a hold like others.
const UNREADABLE_TELLS: Duration = Duration::from_secs(60);

/// Something that lasts, as it would be told now.
pub(super) struct Lasting {
    pub(super) topic: Topic,
    pub(super) level: Level,
    /// Which of its kind: with another it is told anew, because somebody else has to do something about it.
    pub(super) about: String,
    pub(super) text: String,
}

impl Lasting {
    pub(super) fn new(level: Level, topic: Topic, text: String) -> Self {
        Self { topic, level, about: String::new(), text }
    }
}

/// What was told and lasts: how loud, and about what.
pub(super) type Told = BTreeMap<Topic, (Level, String)>;

impl Machine {
    /// Something went on.
    pub(super) fn notify(&mut self, level: Level, text: String) {
        self.event(level, Topic::Progress, text);
    }

    /// Something happened, and there is nothing to resolve.
    pub(super) fn event(&mut self, level: Level, topic: Topic, text: String) {
        self.out.push(Effect::Notify(Notice { level, topic, phase: Phase::Event, text }));
    }

    /// It rolls back. By evidence or policy somebody has to look at the version: that fires, and outlasts the rollout (the
    /// shell resolves it with the rule's next one). A person, or a newer version, is no alarm.
    pub(super) fn tell_rollback(&mut self, by_evidence: bool, text: String) {
        let (level, phase) = if by_evidence { (Level::Warning, Phase::Firing) } else { (Level::Info, Phase::Event) };
        self.out.push(Effect::Notify(Notice { level, topic: Topic::RolledBack, phase, text }));
    }

    /// Tells what began to last with this input, and what ended.
    pub(super) fn tell_what_lasts(&mut self, now: Timestamp) {
        let lasting = self.lasting(now);
        let told = std::mem::take(&mut self.told);
        for (topic, (level, about)) in &told {
            if !lasting.iter().any(|l| l.topic == *topic && l.level == *level && l.about == *about) {
                let text = self.ended_text(topic);
                self.out.push(Effect::Notify(Notice { level: *level, topic: topic.clone(), phase: Phase::Resolved, text }));
            }
        }
        for l in lasting {
            let (key, value) = (l.topic.clone(), (l.level, l.about));
            if told.get(&key) != Some(&value) {
                self.out.push(Effect::Notify(Notice { level: l.level, topic: l.topic, phase: Phase::Firing, text: l.text }));
            }
            self.told.insert(key, value);
        }
    }

    /// Everything that lasts now; nothing once it is over.
    fn lasting(&self, now: Timestamp) -> Vec<Lasting> {
        if self.is_over() {
            return Vec::new();
        }
        let all = [
            self.lasting_stuck(),
            self.lasting_pause(),
            self.lasting_breach(),
            self.lasting_shared(),
            self.lasting_share(),
            self.lasting_vanished(),
            self.lasting_no_requests(),
            self.lasting_unreadable(now),
            self.lasting_foreign(),
            self.lasting_gate(now),
            self.lasting_alert(),
            self.lasting_pods(now),
        ];
        all.into_iter().flatten().chain(self.lasting_limits()).collect()
    }

    fn lasting_stuck(&self) -> Option<Lasting> {
        let stuck = self.stuck()?;
        let (about, what) = match self.stuck_work() {
            Some(_) => ("workload", "the promotion does not go on".to_owned()),
            None => ("router", format!("the router does not take {}", self.weight)),
        };
        let text = format!("stuck: {what}: {}; it is tried again", stuck.text);
        Some(Lasting { about: about.to_owned(), ..Lasting::new(Level::Page, Topic::Stuck, text) })
    }

    fn lasting_pause(&self) -> Option<Lasting> {
        let pause = self.pause.as_ref()?;
        let why = if pause.why.is_empty() { String::new() } else { format!(": {}", pause.why) };
        let text = match (self.frozen, pause.by == super::policy::POLICY) {
            (true, _) => format!("frozen by break-glass at {} by {}{why}", self.weight, pause.by),
            (false, true) => format!("paused at {}{why}; resume, advance or roll back", self.weight),
            (false, false) => format!("paused at {} by {}{why}", self.weight, pause.by),
        };
        let about = if self.frozen { "frozen" } else { "" }.to_owned();
        Some(Lasting { about, ..Lasting::new(self.pause_level, Topic::Paused, text) })
    }

    /// Evidence that is not followed is at least heard.
    fn lasting_breach(&self) -> Option<Lasting> {
        let reasons = self.withheld();
        if reasons.is_empty() {
            return None;
        }
        let seen = reasons.iter().map(|r| super::reason_text(r, &self.terms.metrics)).collect::<Vec<_>>().join("; ");
        let text = format!("evidence says roll back from {} ({seen}), and it is held: roll back by hand", self.weight);
        Some(Lasting::new(Level::Page, Topic::Breach, text))
    }

    /// An incident of both arms (STATISTICS 7.2) that nobody has ended in time.
    fn lasting_shared(&self) -> Option<Lasting> {
        let labels = self.last.as_ref()?.judgement.labels;
        let pages = match self.terms.policies.shared {
            OnShared::Hold | OnShared::RollBack => labels.page_shared,
            OnShared::Page => labels.hold || labels.shared,
        };
        let here = !matches!(self.course, Course::RollingBack { .. });
        (pages && here).then(|| {
            let text = format!("both versions suffer, so the canary (at {}) is not blamed: the rollout holds", self.weight);
            Lasting::new(Level::Page, Topic::Shared, text)
        })
    }

    fn lasting_share(&self) -> Option<Lasting> {
        (self.at_step() && self.share.disobeys()).then(|| Lasting::new(Level::Warning, Topic::TrafficShare, self.share_text()))
    }

    fn lasting_vanished(&self) -> Option<Lasting> {
        if self.terms.policies.vanished == Then::Ask && self.pause.is_some() {
            return None; // the pause says so
        }
        let text = format!("{} (it has {}): the rollout holds", super::texts::vanished(self.vanishes()?), self.weight);
        Some(Lasting::new(Level::Page, Topic::Vanished, text))
    }

    fn lasting_no_requests(&self) -> Option<Lasting> {
        self.nobody_comes().then(|| {
            let text = format!("the canary has {} of the traffic and gets no requests", self.weight);
            Lasting::new(Level::Page, Topic::NoRequests, text)
        })
    }

    fn lasting_unreadable(&self, now: Timestamp) -> Option<Lasting> {
        let (_, why) = self.hands.unreadable.as_ref().filter(|(since, _)| now.since(*since) >= UNREADABLE_TELLS)?;
        let long = duration(UNREADABLE_TELLS);
        let text = format!("the router cannot be read for {long}, the rollout holds at {}: {why}", self.weight);
        Some(Lasting::new(Level::Warning, Topic::RouterUnreadable, text))
    }

    /// Another hand's weight that is left as it is.
    fn lasting_foreign(&self) -> Option<Lasting> {
        let reading = self.hands.foreign.as_ref()?;
        let left = if self.frozen { "; frozen: left as it is" } else { "; left as it is until a person resumes" };
        let text = format!("{}{left}", super::holds::foreign_text(reading, self.weight));
        Some(Lasting::new(self.hands.loud, Topic::Foreign, text))
    }

    /// An approval, a window or a hook that it waits for; loud when the rule waits for a hook beyond its time.
    fn lasting_gate(&self, now: Timestamp) -> Option<Lasting> {
        let hold = self.hold_gate(now).or_else(|| self.hold_hook()).or_else(|| self.hold_window())?;
        let late = self.hook_is_late(now);
        let text = format!("{}; {}", hold.text, hold.ends);
        let level = if late { Level::Warning } else { Level::Info };
        Some(Lasting { about: hold.why.name().to_owned(), ..Lasting::new(level, Topic::Gate, text) })
    }

    /// Limits that warn and page (STATISTICS 7.1): about users, whichever version they meet.
    fn lasting_limits(&self) -> Vec<Lasting> {
        let limits = self.last.as_ref().map_or(&[][..], |t| &t.judgement.limits);
        let both = limits.iter().flat_map(|l| Arm::BOTH.map(|arm| (l, arm)));
        both.filter(|(l, arm)| l.breached[*arm]).filter_map(|(l, arm)| self.lasting_limit(l, arm)).collect()
    }

    fn lasting_limit(&self, limit: &LimitJudgement, arm: Arm) -> Option<Lasting> {
        let level = match limit.kind {
            LimitKind::WarnAbove => Level::Warning,
            LimitKind::PageAbove => Level::Page,
            LimitKind::PromoteBelow | LimitKind::RollbackAbove => return None,
        };
        let (metric, kind) = (self.metric(limit.metric).to_owned(), limit.kind.name());
        let text = format!("{metric} of the {} is beyond its {kind} of {}", arm.name(), limit.level);
        Some(Lasting::new(level, Topic::Limit { metric, limit: kind.to_owned(), arm }, text))
    }

    fn ended_text(&self, topic: &Topic) -> String {
        let now = self.state().name();
        match topic {
            Topic::Paused => format!("no longer paused: it is {now} at {}", self.weight),
            Topic::Stuck => format!("no longer stuck: it is {now} at {}", self.weight),
            Topic::Breach => format!("no evidence for a rollback is held back any more: it is {now} at {}", self.weight),
            Topic::Shared => format!("no longer held because both versions suffer: it is {now} at {}", self.weight),
            Topic::TrafficShare => format!("no longer held because the traffic does not follow: it is {now} at {}", self.weight),
            Topic::Vanished | Topic::NoRequests => {
                format!("the canary's requests are not missed any more (it is {now} at {})", self.weight)
            }
            Topic::RouterUnreadable => "the router can be read".to_owned(),
            Topic::Foreign => format!("no other hand's weight stands: we want {}", self.weight),
            Topic::Limit { metric, limit, arm } => format!("{metric} of the {} is no longer beyond its {limit}", arm.name()),
            Topic::Gate => format!("no longer awaited: it is {now}"),
            Topic::Alert => "no alert holds it any more".to_owned(),
            // what goes back waits for none, however they are
            Topic::Capacity if matches!(self.course, Course::RollingBack { .. } | Course::Over(_)) => {
                format!("its pods are not waited for any more: it is {now}")
            }
            Topic::Capacity => "its pods are well and enough".to_owned(),
            Topic::Progress | Topic::RolledBack | Topic::Release => format!("it is {now}"),
        }
    }
}
