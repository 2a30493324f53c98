//! Is there a new release, and what becomes of it (DESIGN 6.1)? Pure: what the cluster shows and what is known of it go in, what is to
//! be done comes out.
//!
//! The template that is *known* of a workload is the one it had when nothing was on trial. It changes when a rollout of another
//! one has succeeded, when the cluster shows a release that no rollout can lead, and with what we write ourselves. While a template
//! is on trial, and after it was rolled back, the one before stays known: whoever puts that back starts nothing.

use crate::model::rule::WorkloadForm;
use crate::model::{Promoting, Side, State};
use std::collections::BTreeSet;

/// What the cluster shows of one workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// It is there.
    There(Shown),
    /// It is not there.
    Absent,
    /// Could not look.
    Hidden(String),
}

/// A workload that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// Identity of its pod template.
    pub(super) template: String,
    /// Which of all it was seen to get this is: one that went and came again has another.
    pub(super) number: u64,
    /// Identity of what its pods run, without what tells the two workloads apart.
    pub(super) program: String,
    /// What people call it.
    pub(super) version: String,
    /// All replicas it asks for, at least one, run this template and are ready.
    pub(super) is_ready: bool,
    /// Pods of this template that are ready.
    pub(super) ready: u32,
    /// Replicas it asks for.
    pub(super) wanted: u32,
    /// Why its pods do not become ready, once its Deployment has given up.
    pub(super) stalled: Option<String>,
    /// Why no pods of it are made now.
    pub(super) held: Option<String>,
}

/// A rollout of the rule that is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OnTrial {
    pub(super) canary: Side,
    /// Identity of the template it began with; `None` if it began without a cluster.
    pub(super) template: Option<String>,
    pub(super) state: State,
    /// It is to have all the traffic: the other one has none that could be live.
    pub(super) has_all: bool,
}

/// Everything a decision rests on. Of two things the first workload's comes first.
#[derive(Clone, Debug)]
pub(super) struct Scene<'a> {
    pub(super) form: WorkloadForm,
    /// A new template starts a rollout; else only a person does.
    pub(super) automatic: bool,
    /// canaryd gives the canary its replicas, or makes the share of the traffic of them: it may have none yet.
    pub(super) scales: bool,
    /// canaryd leads the rolling update: one that is over before it begins cannot be led.
    pub(super) leads: bool,
    /// What is known of each; `None` = never looked, `Some(None)` = it was not there.
    pub(super) known: [Option<Option<&'a str>>; 2],
    pub(super) seen: [&'a Sight; 2],
    /// The side without traffic, or why there is none; `None` = nobody has asked the router yet.
    pub(super) idle: Option<Result<Side, String>>,
    pub(super) on_trial: Option<&'a OnTrial>,
    /// Templates whose last rollout was rolled back.
    pub(super) rolled_back: &'a BTreeSet<String>,
    /// The template of the rule's last rollout, if that succeeded: what was promoted is no news where a daemon that ended at that
    /// moment did not come to know it.
    pub(super) promoted: Option<&'a str>,
}

/// What is to be done about one workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) side: Side,
    pub(super) what: What,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Ask the router who carries the traffic, and decide again.
    AskTraffic,
    /// This is known from now on, and nothing else follows.
    Note { template: Option<String>, why: Why },
    /// A release, once its pods are ready.
    Wait,
    /// A rollout of it.
    Start,
    /// What is on trial is not there any more.
    Supersede,
    /// It carries the traffic: its new template is live already. Known from now on.
    Live,
    /// It was rolled back: only a person starts it again.
    RolledBack,
    /// Nobody can say whose release it is.
    Unclear(String),
}

/// Why something is only noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// It is seen for the first time.
    First,
    /// It is not there.
    Gone,
    /// The rule leaves starting to people.
    Manual,
    /// The other workload runs it, and carries the traffic.
    Same,
    /// It is what the last rollout promoted.
    Promoted,
    /// It is live already, and that was told.
    Live,
}

impl Why {
    /// The word of the log.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Why::First => "first sight",
            Why::Gone => "not there",
            Why::Manual => "started by hand",
            Why::Same => "same as the live one",
            Why::Promoted => "promoted",
            Why::Live => "live",
        }
    }
}

/// At most one finding for each workload.
pub(super) fn decide(scene: &Scene<'_>) -> Vec<Finding> {
    let sides: &[Side] = match scene.form {
        WorkloadForm::One => &[Side::Second],
        WorkloadForm::Pair | WorkloadForm::StableCanary => &[Side::First, Side::Second],
    };
    sides.iter().filter_map(|side| scene.about(*side)).collect()
}

impl Scene<'_> {
    fn about(&self, side: Side) -> Option<Finding> {
        let what = match (self.seen[side.index()], self.on_trial) {
            (Sight::Hidden(_), _) => None,
            (Sight::Absent, on_trial) => self.absent(side, on_trial.is_some()),
            (Sight::There(shown), Some(trial)) => self.during(trial, side, shown),
            (Sight::There(shown), None) => self.between(side, shown),
        };
        what.map(|what| Finding { side, what })
    }

    /// While a rollout runs, what is gone is the machine's business: it sees no pods.
    fn absent(&self, side: Side, is_on_trial: bool) -> Option<What> {
        let known = self.known[side.index()];
        let why = if known.is_none() { Why::First } else { Why::Gone };
        (known != Some(None) && !is_on_trial).then_some(What::Note { template: None, why })
    }

    fn during(&self, trial: &OnTrial, side: Side, shown: &Shown) -> Option<What> {
        let known = self.known[side.index()];
        let is_known = known == Some(Some(&shown.template));
        let is_canary = side == trial.canary || self.form == WorkloadForm::One;
        match &trial.state {
            // we are at work on them, and what another hand does meanwhile is looked at when it is over
            State::RollingBack | State::RolledBack | State::Superseded | State::Succeeded => None,
            State::Promoting(Promoting::Copying | Promoting::WaitingReady | Promoting::ShiftingBack | Promoting::Settling) => None,
            // somebody is to make it equal, or we are; it is known when that is done. A pause and trouble hide that state, and it
            // is no news then either
            State::Promoting(Promoting::External) if !is_canary => None,
            _ if !is_canary && (trial.has_all || self.runs(trial.canary, &shown.program)) => None,
            _ if is_canary => {
                let another = trial.template.as_ref().is_some_and(|tried| *tried != shown.template);
                another.then_some(What::Supersede)
            }
            _ if known.is_none() => Some(shown.noted(Why::First)),
            _ => (!is_known).then_some(What::Live),
        }
    }

    fn between(&self, side: Side, shown: &Shown) -> Option<What> {
        match self.known[side.index()] {
            None => Some(shown.noted(Why::First)),
            Some(Some(known)) if known == shown.template => None,
            // for that nobody need look at the traffic
            _ if self.rolled_back.contains(&shown.template) && !self.is_all_of_it(shown) => Some(What::RolledBack),
            _ => Some(self.release(side, shown)),
        }
    }

    /// A template that is not the known one.
    fn release(&self, side: Side, shown: &Shown) -> What {
        if self.form != WorkloadForm::One {
            match &self.idle {
                None => return What::AskTraffic,
                Some(Err(why)) => return What::Unclear(why.clone()),
                Some(Ok(idle)) if side != *idle && self.was_promoted(side, shown) => return shown.noted(Why::Promoted),
                Some(Ok(idle)) if side != *idle => return What::Live,
                Some(Ok(_)) if self.runs(side.other(), &shown.program) => return shown.noted(Why::Same),
                Some(Ok(_)) => {}
            }
        }
        match self.form {
            _ if !self.automatic => shown.noted(Why::Manual),
            WorkloadForm::One if self.is_all_of_it(shown) => What::Live,
            // of a rolling update both versions are pods of one workload: how ready the new ones are is what the rollout watches
            WorkloadForm::One => What::Start,
            _ if self.is_ready(shown) => What::Start,
            _ => What::Wait,
        }
    }

    /// A rolling update that is over before it could be led.
    fn is_all_of_it(&self, shown: &Shown) -> bool {
        self.form == WorkloadForm::One && self.leads && shown.is_ready
    }

    /// Itself, or the same program as the other workload, which was: then somebody made this one equal.
    fn was_promoted(&self, side: Side, shown: &Shown) -> bool {
        let is = |shown: &Shown| self.promoted == Some(&shown.template);
        let other = matches!(self.seen[side.other().index()], Sight::There(other) if is(other) && other.program == shown.program);
        is(shown) || other
    }

    fn runs(&self, side: Side, program: &str) -> bool {
        matches!(self.seen[side.index()], Sight::There(shown) if shown.program == program)
    }

    fn is_ready(&self, shown: &Shown) -> bool {
        shown.is_ready || (self.scales && shown.wanted == 0)
    }
}

impl Shown {
    /// What keeps it from being ready, if that can be told: what was refused for good, what nobody makes, what does not become ready.
    pub(super) fn trouble(&self) -> Option<&str> {
        let none = || (self.wanted == 0).then_some("it asks for no replicas");
        self.held.as_deref().or_else(none).or(self.stalled.as_deref())
    }

    fn noted(&self, why: Why) -> What {
        What::Note { template: Some(self.template.clone()), why }
    }
}

#[cfg(test)]
mod tests;
