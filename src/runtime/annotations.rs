//! What the journal says about a stretch of time, for graphs: each step of each rollout from when to when, and how it ended.

use super::handle::Refusal;
use crate::model::journal::{Entry, Event};
use crate::model::{Decision, Effect, RolloutId, State, Timestamp, Weight};
use crate::store::{Listed, Store, StoreError};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most rollouts in the range asked for: each journal is read, so that a year of a busy daemon is no single question.
pub const ROLLOUTS_MAX: usize = 500;
/// Newest rollouts looked through to find them.
const LISTED_MAX: usize = 10_000;
/// Finished rollouts kept in memory: a journal that is over never changes.
const KEPT_MAX: usize = 2000;

/// A stretch of a rollout, or how it ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Stretch {
    /// Its rule.
    pub rule: String,
    /// Its name.
    pub rollout: RolloutId,
    /// The version on trial; may be empty.
    pub version: String,
    /// From when.
    pub from: Timestamp,
    /// Until when; `None` while it goes on. An end lasts no time.
    pub until: Option<Timestamp>,
    /// The state's word.
    pub state: &'static str,
    /// The weight wanted.
    pub weight: Weight,
    /// What was told when it began; may be empty.
    pub text: String,
}

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// From.
    pub from: Timestamp,
    /// Until.
    pub until: Timestamp,
    /// Of this rule only.
    pub rule: Option<String>,
}

/// Stretches of rollouts that are over. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept(Arc<Mutex<BTreeMap<RolloutId, Arc<Vec<Stretch>>>>>);

impl Kept {
    /// Everything in this range, oldest first.
    ///
    /// # Errors
    /// More rollouts than are read for one question, or a journal that cannot be read.
    pub(super) async fn find(&self, store: &dyn Store, range: &Range) -> Result<Vec<Stretch>, Refusal> {
        let unreadable = |e: StoreError| Refusal::new("journal", e.to_string());
        let listed = store.list(range.rule.as_deref(), LISTED_MAX).await.map_err(unreadable)?;
        let within: Vec<Listed> =
            listed.into_iter().filter(|l| l.opened <= range.until && l.ended.is_none_or(|e| e >= range.from)).collect();
        if within.len() > ROLLOUTS_MAX {
            let text = format!("{} rollouts in this range exceed {ROLLOUTS_MAX}: ask for a shorter one, or for one rule", within.len());
            return Err(Refusal::new("range-too-wide", text));
        }
        let mut found = Vec::new();
        for listed in &within {
            let stretches = self.of(store, listed).await.map_err(unreadable)?;
            found.extend(stretches.iter().filter(|s| s.from <= range.until && s.until.is_none_or(|u| u >= range.from)).cloned());
        }
        found.sort_by_key(|s| s.from);
        Ok(found)
    }

    async fn of(&self, store: &dyn Store, listed: &Listed) -> Result<Arc<Vec<Stretch>>, StoreError> {
        let kept = self.0.lock().get(&listed.id).cloned();
        if let Some(kept) = kept {
            return Ok(kept);
        }
        let entries = store.outline(&listed.id).await?;
        let read = Arc::new(stretches(listed, &entries));
        if listed.ended.is_some() {
            let mut all = self.0.lock();
            if all.len() >= KEPT_MAX {
                all.pop_first();
            }
            all.insert(listed.id.clone(), Arc::clone(&read));
        }
        Ok(read)
    }
}

/// The stretches of one journal.
fn stretches(listed: &Listed, entries: &[Entry]) -> Vec<Stretch> {
    let mut all: Vec<Stretch> = Vec::new();
    for entry in entries {
        let Event::Decided(decision) = &entry.event else { continue };
        let shown = shown(decision);
        let open = all.last().filter(|s| s.until.is_none());
        if shown.is_some() && open.map(|s| (s.state, s.weight)) == shown {
            continue;
        }
        // a pause or a wait goes on where it was
        if shown.is_none() && !matches!(decision.state, State::RollingBack) {
            continue;
        }
        if let Some(open) = all.last_mut().filter(|s| s.until.is_none()) {
            open.until = Some(decision.at.max(open.from));
        }
        if let Some((state, weight)) = shown {
            let until = decision.state.is_over().then_some(decision.at);
            let (rule, rollout, version) = (listed.rule.clone(), listed.id.clone(), listed.version.clone());
            all.push(Stretch { rule, rollout, version, from: decision.at, until, state, weight, text: told(decision) });
        }
    }
    all
}

/// What a graph shows of a state; `None` for what is no stretch of its own.
fn shown(decision: &Decision) -> Option<(&'static str, Weight)> {
    let shown = match decision.state {
        State::Progressing { .. } => decision.weight > Weight::ZERO,
        State::Baking { .. } | State::Promoting(_) => true,
        ref state => state.is_over(),
    };
    shown.then(|| (decision.state.name(), decision.weight))
}

/// What was told with a decision.
fn told(decision: &Decision) -> String {
    let texts = decision.effects.iter().filter_map(|effect| match effect {
        Effect::Notify(notice) => Some(notice.text.as_str()),
        _ => None,
    });
    texts.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Action, Level, Notice, Paused, Phase, Topic};

    fn decided(at: i64, state: State, permille: u16, text: &str) -> Entry {
        let notice = Notice { level: Level::Info, topic: Topic::Progress, phase: Phase::Event, text: text.to_owned() };
        let decision = Decision {
            at: Timestamp::from_millis(at),
            action: Action::Hold,
            state,
            weight: Weight::from_permille(permille).expect("a weight"),
            generation: 0,
            step: 0,
            counts_time: true,
            reasons: Vec::new(),
            holds: Vec::new(),
            effects: if text.is_empty() { Vec::new() } else { vec![Effect::Notify(notice)] },
            wake_at: None,
        };
        Entry { seq: 0, at: decision.at, event: Event::Decided(Box::new(decision)) }
    }

    #[test]
    fn steps_follow_each_other_pauses_are_within_them_and_the_end_is_a_point() {
        let listed = Listed {
            id: RolloutId("shop-3".to_owned()),
            rule: "shop".to_owned(),
            opened: Timestamp::from_millis(0),
            ended: None,
            state: State::Succeeded,
            version: "v2".to_owned(),
            seq: 9,
        };
        let paused = State::Paused(Paused { by: "ann".to_owned(), why: String::new(), since: Timestamp::default() });
        let entries = [
            decided(0, State::Progressing { step: 0 }, 0, "begins"),
            decided(10, State::Progressing { step: 0 }, 100, "10%"),
            decided(20, State::Progressing { step: 0 }, 100, ""),
            decided(30, paused, 100, "paused"),
            decided(40, State::Progressing { step: 0 }, 100, "resumed"),
            decided(50, State::Progressing { step: 1 }, 500, "50%"),
            decided(60, State::RollingBack, 0, "rolling back: errors"),
            decided(70, State::RolledBack, 0, "rolled back"),
        ];
        let all = stretches(&listed, &entries);
        let seen: Vec<_> = all.iter().map(|s| (s.from.as_millis(), s.until.map(Timestamp::as_millis), s.state, s.text.as_str())).collect();
        assert_eq!(
            seen,
            [(10, Some(50), "progressing", "10%"), (50, Some(60), "progressing", "50%"), (70, Some(70), "rolled-back", "rolled back")]
        );
    }
}
