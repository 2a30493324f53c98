//! What waits is said: in the log and to the receivers once for each release, and where people look for as long as it is so.

use super::Releases;
use super::decide::{Finding, OnTrial, Shown, Sight, What};
use crate::model::{Level, Notice, Phase, RolloutId, Rule, Side, Topic, Weight};
use crate::notify::Told;
use crate::runtime::clock;
use crate::runtime::handle::Waiting;
use crate::runtime::supervisor::Followed;
use crate::telemetry::events;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a refused start is told with.
pub(super) const NOT_STARTED: &str = "could not be started, which is tried again";

/// What was said of a release.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Said {
    rule: String,
    template: String,
    /// What goes and comes again is said again.
    number: u64,
    about: &'static str,
    in_place_of: Option<RolloutId>,
}

impl Said {
    pub(super) fn of(rule: &Rule, release: &Shown, about: &'static str) -> Self {
        Self { rule: rule.name.clone(), template: release.template.clone(), number: release.number, about, in_place_of: None }
    }

    pub(super) fn in_place_of(self, rollout: &RolloutId) -> Self {
        Self { in_place_of: Some(rollout.clone()), ..self }
    }
}

/// What each rule's rollout was seen to try first: a template that went and came again while it runs is another release.
#[derive(Debug, Default)]
pub(super) struct Tried(BTreeMap<String, (RolloutId, u64)>);

impl Tried {
    /// Is the template on trial of this number the one it began with?
    fn is(&mut self, rule: &str, rollout: &RolloutId, number: u64) -> bool {
        let first = self.0.entry(rule.to_owned()).or_insert_with(|| (rollout.clone(), number));
        if first.0 != *rollout {
            *first = (rollout.clone(), number);
        }
        first.1 == number
    }

    /// Rules that are no more are forgotten.
    pub(super) fn keep(&mut self, is_there: impl Fn(&str) -> bool) {
        self.0.retain(|rule, _| is_there(rule));
    }
}

impl Releases {
    /// Once for each release.
    pub(super) fn say(&mut self, rule: &Rule, release: &Shown, about: &'static str, text: &str) -> bool {
        let new = self.said.insert(Said::of(rule, release, about));
        if new {
            events::ReleaseSeen { rule: &rule.name, about, text }.emit();
        }
        new
    }

    /// The same to the receivers.
    pub(super) fn say_and_tell(&mut self, followed: &Followed, release: &Shown, about: &'static str, text: String) {
        let rule = &followed.rule;
        if !self.say(rule, release, about, &text) {
            return;
        }
        self.parts.notices.tell(Told {
            rule: Arc::clone(rule),
            // it belongs to no rollout: to receivers it is the last one's
            rollout: followed.last.clone().unwrap_or_else(|| RolloutId(format!("{}-0", rule.name))),
            version: release.version.clone(),
            canary: Side::Second,
            at: clock::now(),
            notice: Notice { level: Level::Warning, topic: Topic::Release, phase: Phase::Event, text },
            weight: Weight::ZERO,
            state: "idle",
            again: false,
        });
    }

    /// Nothing is new: what appears again is said again. What is on trial need not be told when it is rolled back: that is. What another
    /// hand put there again while the rollout ended must be.
    pub(super) fn forget_said(&mut self, rule: &Rule, run: Option<(&RolloutId, &OnTrial)>, seen: &[Sight; 2]) {
        let Some((rollout, trial)) = run.filter(|(_, trial)| trial.template.is_some()) else {
            return self.said.retain(|said| said.rule != rule.name);
        };
        if let Sight::There(shown) = &seen[trial.canary.index()]
            && Some(&shown.template) == trial.template.as_ref()
            && self.tried.is(&rule.name, rollout, shown.number)
        {
            self.said.insert(Said::of(rule, shown, "rolled-back"));
        }
    }

    /// The release a finding is about, and why no rollout of it is started; `None` = there is none, or one is.
    pub(super) fn waits(&self, rule: &Rule, finding: &Finding, seen: &[Sight; 2]) -> Option<(String, String)> {
        let Sight::There(release) = &seen[finding.side.index()] else { return None };
        let why = match &finding.what {
            What::Wait => waits_for_pods(release),
            What::RolledBack => {
                format!("it was rolled back before: no rollout is started; `canaryd retry {}` starts one", rule.name)
            }
            What::Unclear(why) => format!("no rollout is started: {why}"),
            What::Start => format!("{NOT_STARTED}: {}", self.refused.get(&rule.name)?.why.as_ref()?),
            What::AskTraffic | What::Note { .. } | What::Supersede | What::Live => return None,
        };
        Some((release.version.clone(), why))
    }

    /// Since when, is since it was seen to wait for the first time.
    pub(super) fn show_waiting(&mut self, rule: &str, waits: Option<(String, String)>) {
        let before = self.waiting.get(rule);
        let waiting = waits.map(|(version, why)| {
            let since = before.filter(|before| before.version == version).map_or_else(clock::now, |before| before.since);
            Waiting { version, since, why }
        });
        if waiting.as_ref() == before {
            return;
        }
        self.parts.registry.set_waiting(rule, waiting.clone());
        match waiting {
            Some(waiting) => drop(self.waiting.insert(rule.to_owned(), waiting)),
            None => drop(self.waiting.remove(rule)),
        }
    }
}

pub(super) fn waits_for_pods(release: &Shown) -> String {
    let trouble = release.trouble().map_or_else(String::new, |trouble| format!(": {trouble}"));
    format!("it is started when its pods are ready ({} of {}{trouble})", release.ready, release.wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_again_while_its_rollout_ends_is_not_what_was_on_trial() {
        let mut tried = Tried::default();
        let mut is = |rollout: u32, number| tried.is("shop", &RolloutId(format!("shop-{rollout}")), number);
        assert!(is(1, 4) && is(1, 4), "while it runs");
        assert!(!is(1, 6), "taken back, and put there again");
        assert!(is(1, 4), "the first stays the first");
        assert!(is(2, 6), "and the next is another");
        tried.keep(|_| false);
        assert!(tried.is("shop", &RolloutId("shop-2".to_owned()), 8), "forgotten with its rule");
    }
}
