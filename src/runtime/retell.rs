//! What a rollout that is over still tells after a restart: a rollback fires until its rule's next rollout, and receivers whose
//! memory is ours have forgotten it.

use super::clock;
use super::replay::rule_of;
use crate::config::Known;
use crate::model::journal::{Entry, Event, Opened};
use crate::model::{Decision, Effect, Notice, Phase, RolloutId, State, Topic};
use crate::notify::alertmanager::ROLLED_BACK_LASTS;
use crate::notify::{Notices, Told};
use crate::store::{Listed, Store};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Rollouts looked at, newest first: the last of each of a thousand rules is among them.
const LOOKED_AT_MAX: usize = 10_000;

/// Tells again what the newest rollout of each rule told if that was rolled back not long ago. One that cannot be read is left
/// out: the journal's own readers complain of it.
pub(super) async fn rollbacks(store: Arc<dyn Store>, known: Known, notices: Notices) {
    let Ok(listed) = store.list(None, LOOKED_AT_MAX).await else { return };
    let mut met = BTreeSet::new();
    for last in listed.into_iter().filter(|l| met.insert(l.rule.clone())).filter(|l| l.state == State::RolledBack) {
        let Ok(entries) = store.outline(&last.id).await else { continue };
        if let Some(told) = rollback(&last, &entries, &known) {
            notices.tell(told);
        }
    }
}

/// What it told when it rolled back, if that fires and is fresh.
fn rollback(last: &Listed, entries: &[Entry], known: &Known) -> Option<Told> {
    let Some(Event::Opened(opened)) = entries.first().map(|e| &e.event) else { return None };
    let (decision, notice) = entries.iter().rev().find_map(fired)?;
    (clock::now().since(decision.at) < ROLLED_BACK_LASTS).then_some(())?;
    told(&last.id, opened, decision, notice, known)
}

fn fired(entry: &Entry) -> Option<(&Decision, &Notice)> {
    let Event::Decided(decision) = &entry.event else { return None };
    let fires = |effect: &'_ Effect| matches!(effect, Effect::Notify(n) if n.topic == Topic::RolledBack && n.phase == Phase::Firing);
    decision.effects.iter().find(|effect| fires(effect)).and_then(|effect| match effect {
        Effect::Notify(notice) => Some((&**decision, notice)),
        _ => None,
    })
}

fn told(id: &RolloutId, opened: &Opened, decision: &Decision, notice: &Notice, known: &Known) -> Option<Told> {
    let rule = rule_of(opened, known).ok()?;
    Some(Told {
        rule: Arc::new(rule),
        rollout: id.clone(),
        version: opened.begin.version.clone(),
        canary: opened.begin.canary,
        at: decision.at,
        notice: notice.clone(),
        weight: decision.weight,
        state: decision.state.name(),
        again: true,
    })
}
