//! What must hold between any two decisions in a row, whatever came in: a checker over values, for tests and simulations
//! of everything that drives a machine.

use crate::model::{Action, Decision, Effect, Input, Phase, Promoting, State, Topic, Verb, WorkloadAction};
use std::collections::BTreeSet;

/// One invariant: is it kept from `before` to `after`?
type Rule = fn(&Decision, &Input, &Decision) -> bool;

/// Name, and the rule.
const RULES: &[(&str, Rule)] = &[
    ("over is over", over_is_over),
    ("a weight rises only by a poll that keeps nothing, a person's word or the start", rises_with_leave),
    ("a rollback is never turned around", rollback_stays),
    ("the generation grows with each weight asked for, and only then", generation_grows),
    ("a refusal changes nothing", refusal_changes_nothing),
    ("every hold can be read", holds_can_be_read),
    ("who waits says why", waits_with_reason),
    ("paused, rolling back, stuck and shifting time does not count", time_stands_still),
    ("a step is in force only after its weight was confirmed", step_moves_when_done),
    ("a wake-up lies in the future", wakes_later),
    ("one action on workloads at a time", one_action),
    ("the canary is undone or scaled down only when it has no traffic any more", undone_without_traffic),
    ("autoscalers are released, and an old version idles, only when all is decided", released_when_decided),
    ("a cluster that cannot be looked at decides nothing", unknown_decides_nothing),
];

/// Checks the decision `after` on `input`, which came after the decision `before`.
///
/// # Errors
/// The name of the first invariant that is broken.
pub fn check(before: &Decision, input: &Input, after: &Decision) -> Result<(), String> {
    match RULES.iter().find(|(_, rule)| !rule(before, input, after)) {
        None => Ok(()),
        Some((name, _)) => Err(format!("{name}: {input:?} led from {before:?} to {after:?}")),
    }
}

fn asked(d: &Decision) -> impl Iterator<Item = (crate::model::Weight, u64)> + '_ {
    d.effects.iter().filter_map(|e| match e {
        Effect::SetWeight { weight, generation } => Some((*weight, *generation)),
        Effect::Notify(_) | Effect::CallHook { .. } | Effect::HoldStill | Effect::Workload { .. } => None,
    })
}

fn over_is_over(before: &Decision, _: &Input, after: &Decision) -> bool {
    !before.state.is_over() || (after.state == before.state && after.weight == before.weight && after.effects.is_empty())
}

fn rises_with_leave(before: &Decision, input: &Input, after: &Decision) -> bool {
    after.weight <= before.weight
        || match input {
            Input::Begin(_) => true,
            Input::Tick(tick) => tick.judgement.keep.is_empty() && tick.judgement.rollback.is_empty(),
            Input::Command(c) if starts(before) => {
                !matches!(c.verb, Verb::Pause | Verb::BreakGlassFreeze | Verb::RollBack | Verb::BreakGlassRollBack)
            }
            Input::Command(c) => matches!(c.verb, Verb::Advance | Verb::Promote | Verb::BreakGlassPromote),
            // the gates before the first weight open by themselves
            Input::Wake | Input::Hook { .. } | Input::Workloads(Ok(_)) => matches!(before.state, State::Waiting(_)),
            Input::Workload { .. } if matches!(before.state, State::Waiting(_)) => true,
            Input::Effect { .. } | Input::Workload { .. } => returns_to_canary(before, after),
            _ => false,
        }
}

/// The weight was on its way back to stable after the promotion, and stable or the router failed: never to a half-updated one.
fn returns_to_canary(before: &Decision, after: &Decision) -> bool {
    let back = matches!(before.state, State::Promoting(Promoting::ShiftingBack) | State::Stuck(_) | State::Paused(_));
    back && before.weight.is_zero() && before.reasons.is_empty() && after.weight.is_full() && after.step == before.step
}

/// Before the first weight; a pause may lie over it.
fn starts(before: &Decision) -> bool {
    matches!(before.state, State::Waiting(_) | State::Paused(_)) && before.step == 0 && !before.counts_time
}

fn rollback_stays(before: &Decision, _: &Input, after: &Decision) -> bool {
    let back = |d: &Decision| !d.reasons.is_empty() || matches!(d.state, State::RollingBack | State::RolledBack | State::Superseded);
    (!back(before) || back(after)) && (!back(after) || (after.weight.is_zero() && !after.reasons.is_empty()))
}

fn generation_grows(before: &Decision, _: &Input, after: &Decision) -> bool {
    match asked(after).collect::<Vec<_>>().as_slice() {
        [] => after.generation == before.generation,
        [(weight, generation)] => *weight == after.weight && *generation == after.generation && *generation > before.generation,
        _ => false,
    }
}

fn refusal_changes_nothing(before: &Decision, _: &Input, after: &Decision) -> bool {
    let Action::Refuse(text) = &after.action else { return true };
    !text.is_empty() && after.effects.is_empty() && after.state == before.state && after.weight == before.weight
}

fn holds_can_be_read(_: &Decision, _: &Input, after: &Decision) -> bool {
    after.holds.iter().all(|h| !h.text.is_empty() && !h.ends.is_empty())
}

fn waits_with_reason(_: &Decision, _: &Input, after: &Decision) -> bool {
    after.state.is_over() == after.holds.is_empty()
}

fn time_stands_still(_: &Decision, _: &Input, after: &Decision) -> bool {
    !after.counts_time || matches!(after.state, State::Progressing { .. } | State::Baking { .. })
}

fn step_moves_when_done(before: &Decision, input: &Input, after: &Decision) -> bool {
    let observed = after.generation == 0;
    after.step == before.step || (after.step > before.step && (observed || matches!(input, Input::Effect { .. })))
}

fn wakes_later(_: &Decision, _: &Input, after: &Decision) -> bool {
    after.wake_at.is_none_or(|at| at > after.at)
}

fn actions(d: &Decision) -> impl Iterator<Item = WorkloadAction> + '_ {
    d.effects.iter().filter_map(|e| match e {
        Effect::Workload { action, .. } => Some(*action),
        Effect::SetWeight { .. } | Effect::Notify(_) | Effect::CallHook { .. } | Effect::HoldStill => None,
    })
}

fn one_action(_: &Decision, _: &Input, after: &Decision) -> bool {
    actions(after).count() <= 1
}

/// Its weight of 0 was asked for in an earlier decision, and is not asked for again in this one.
fn undone_without_traffic(before: &Decision, _: &Input, after: &Decision) -> bool {
    let takes = |action| matches!(action, WorkloadAction::Undo | WorkloadAction::ScaleCanaryDown);
    !actions(after).any(takes) || (before.weight.is_zero() && after.weight.is_zero() && asked(after).next().is_none())
}

fn released_when_decided(_: &Decision, _: &Input, after: &Decision) -> bool {
    let over_bake = matches!(after.state, State::Promoting(_) | State::Paused(_) | State::Stuck(_));
    actions(after).all(|action| match action {
        WorkloadAction::ReleaseScalers => over_bake || !after.reasons.is_empty(),
        WorkloadAction::IdleBaseline { .. } => over_bake && after.reasons.is_empty() && after.weight.is_full(),
        _ => true,
    })
}

fn unknown_decides_nothing(before: &Decision, input: &Input, after: &Decision) -> bool {
    let same = after.weight == before.weight && after.reasons == before.reasons && after.step == before.step;
    !matches!(input, Input::Workloads(Err(_))) || same
}

/// What was told of a rollout and lasts, over all of its decisions: nothing is resolved that was not told, nothing told twice,
/// and nothing left behind at the end but the rollback itself, which outlasts the rollout.
#[derive(Clone, Debug, Default)]
pub struct Told(BTreeSet<Topic>);

impl Told {
    /// Follows the notices of the next decision.
    ///
    /// # Errors
    /// The notice that breaks it, or what was left.
    pub fn check(&mut self, decision: &Decision) -> Result<(), String> {
        for effect in &decision.effects {
            let Effect::Notify(notice) = effect else { continue };
            let fine = match notice.phase {
                Phase::Event => true,
                Phase::Firing => self.0.insert(notice.topic.clone()),
                Phase::Resolved => self.0.remove(&notice.topic),
            };
            if !fine {
                return Err(format!("what lasts is told once and resolved once: {notice:?}, while these last: {:?}", self.0));
            }
        }
        let left = self.0.iter().find(|topic| **topic != Topic::RolledBack);
        match left.filter(|_| decision.state.is_over()) {
            Some(topic) => Err(format!("the rollout is over ({}), and {topic:?} was never resolved", decision.state.name())),
            None => Ok(()),
        }
    }
}
