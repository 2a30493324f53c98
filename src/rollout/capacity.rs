//! Replicas (DESIGN 6.3 and 6.4): no step up before the canary has the ready pods its share needs, a baseline that is held at what
//! it had, and gets it back when the traffic returns. What cannot be looked at holds; it is never bad and never good.

use super::machine::{Course, Machine};
use crate::model::rule::{First, Replicas};
use crate::model::{
    Action, Begin, Hold, HoldWhy, Level, Mode, Noted, PerArm, Retry, Timestamp, Topic, Weight, WorkloadAction, WorkloadSeen,
};
use std::time::Duration;

/// A canary that somebody else scales down again is scaled up again after so long: two hands on one object do not fight faster.
const SCALE_AGAIN: Duration = Duration::from_secs(60);
/// A baseline that somebody else shrinks again and again is held so often: after that it is only told.
const HOLDS_MAX: u32 = 30;

/// What is known and was asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Capacity {
    /// The cluster's last word; `None` = nothing heard yet.
    pub(super) seen: Option<Result<PerArm<WorkloadSeen>, String>>,
    /// N, where it is not what was noted any more.
    whole: Option<u32>,
    /// It waited for people or for a window: N is counted anew when it goes on.
    outdated: bool,
    /// The canary's replicas that were asked for.
    scaled: Option<Scaled>,
    held: Held,
    /// The baseline was to get its replicas back.
    restored: bool,
    /// The traffic came back to stable.
    returned: bool,
    /// It was told that stable lacks replicas then.
    missing_told: bool,
    raised: Raised,
}

/// The canary's replicas that were asked for.
#[derive(Clone, Copy, Debug)]
struct Scaled {
    to: u32,
    at: Timestamp,
    /// It was given up: a person was asked to do it.
    given_up: bool,
}

/// That the baseline was to be held.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    /// When it was asked for last.
    at: Option<Timestamp>,
    times: u32,
    /// It was given up: a person was asked to do it.
    given_up: bool,
}

/// Was the minimum of an autoscaler raised?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Raised {
    #[default]
    No,
    /// It was asked for.
    Maybe,
    Yes,
}

/// Why a share of the traffic has not the replicas it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Short {
    /// The cluster cannot be looked at, and why; `None` = nothing was heard of it yet.
    Unknown(Option<String>),
    Pods {
        ready: u32,
        need: u32,
        to: Weight,
    },
}

impl Machine {
    /// What was found in the cluster; `None` where the workloads are in none, and then nothing of all this applies.
    pub(super) fn noted(&self) -> Option<&Noted> {
        self.gates.begun.as_ref()?.1.noted.as_ref()
    }

    /// What the cluster shows now.
    pub(super) fn seen(&self) -> Option<&PerArm<WorkloadSeen>> {
        self.capacity.seen.as_ref()?.as_ref().ok()
    }

    /// N: ready replicas of the baseline when the way to the first weight was last free of people and windows. 0 if none was looked at.
    pub fn baseline_replicas(&self) -> u32 {
        self.capacity.whole.unwrap_or_else(|| self.noted().map_or(0, |noted| noted.baseline_ready))
    }

    /// It waits for people or for a window, which may take days: what was counted before says nothing then. In a rolling update both
    /// versions share one number, which is the one noted.
    pub(super) fn outdate_baseline(&mut self) {
        self.capacity.outdated = !self.terms.rolling_update;
    }

    /// Counts the baseline anew where that is due and can be seen.
    fn count_baseline(&mut self) {
        let Some(ready) = self.seen().map(|seen| seen.baseline.ready).filter(|_| self.capacity.outdated) else { return };
        let before = self.baseline_replicas();
        (self.capacity.whole, self.capacity.outdated) = (Some(ready), false);
        if ready != before {
            let text = format!("the baseline has {ready} ready replicas now, {before} when it was prepared: {ready} are what counts");
            self.notify(Level::Info, text);
        }
    }

    /// The cluster shows something else, or cannot be looked at.
    pub(super) fn on_workloads(&mut self, now: Timestamp, seen: &Result<PerArm<WorkloadSeen>, String>) -> Action {
        if self.noted().is_none() {
            return Action::Hold;
        }
        self.capacity.seen = Some(seen.clone());
        if let Some(action) = self.act_on_pods(now).or_else(|| self.pass_gates(now)) {
            return action;
        }
        self.keep_held(now);
        // once autoscalers are given back what they had, what they do is their own
        if matches!(self.course, Course::RollingBack { .. }) && self.capacity.returned && !self.works.are_tidying() {
            self.restore_baseline(now);
        }
        Action::Hold
    }

    /// The share of the traffic that the canary is to get: the weight; in a rolling update what readiness makes it, and `None` while
    /// nobody knows.
    pub(super) fn share_due(&self) -> Option<Weight> {
        if !self.terms.rolling_update {
            return Some(self.weight);
        }
        let PerArm { baseline, canary } = self.seen()?.as_ref().map(|seen| u64::from(seen.ready));
        let permille = (canary * 1000).checked_div(baseline + canary)?;
        u16::try_from(permille).ok().and_then(|permille| Weight::from_permille(permille).ok())
    }

    /// Does canaryd scale the canary? Not where it touches nothing.
    pub(super) fn follows(&self) -> bool {
        self.terms.replicas == Replicas::Follow && self.terms.mode == Mode::Enforce
    }

    /// Ready canary replicas that a share of the traffic needs: that share of the baseline's at the start. Where that had none, of
    /// those the canary's workload asked for, which is the only measure then. At most those its workload asks for if others scale
    /// it; never less than one, but where replicas are the share: what moves the traffic makes them, and waits until they are ready.
    fn need(&self, to: Weight, canary: &WorkloadSeen) -> u32 {
        let Some(noted) = self.noted() else { return 0 };
        let whole = Some(self.baseline_replicas()).filter(|n| *n > 0).unwrap_or(noted.canary_wanted);
        let part = (u64::from(whole) * u64::from(to.permille())).div_ceil(1000);
        let part = u32::try_from(part).unwrap_or(u32::MAX);
        let most = if self.follows() { u32::MAX } else { canary.wanted };
        part.min(most).max(u32::from(!self.terms.share_of_replicas))
    }

    /// What is missing for this share. A share that is made of ready pods has the pods it needs.
    pub(super) fn short_of(&self, to: Weight) -> Option<Short> {
        self.noted().filter(|_| !self.terms.leads_rolling_update)?;
        let canary = match &self.capacity.seen {
            None => return Some(Short::Unknown(None)),
            Some(Err(why)) => return Some(Short::Unknown(Some(why.clone()))),
            Some(Ok(seen)) => &seen.canary,
        };
        let need = self.need(to, canary);
        (canary.ready < need).then_some(Short::Pods { ready: canary.ready, need, to })
    }

    /// The share the end of the step in force leads to, if that is more.
    pub(super) fn next_share(&self) -> Option<Weight> {
        let next = self.terms.steps.get(self.step as usize + 1).map_or(Weight::FULL, |s| s.weight);
        Some(next).filter(|w| self.at_step() && *w > self.weight)
    }

    /// The share the rollout begins with.
    fn first_share(&self) -> Weight {
        if self.begin().is_some_and(|b| b.first) { Weight::FULL } else { self.terms.steps[0].weight }
    }

    fn begin(&self) -> Option<&Begin> {
        self.gates.begun.as_ref().map(|(_, begin)| begin)
    }

    /// Before the first weight: are ready pods missing, or is the baseline not held yet? Begins to see to both.
    pub(super) fn closed_for_pods(&mut self, now: Timestamp) -> bool {
        let refused = self.begin().is_some_and(|b| b.first) && self.terms.first == First::Refuse;
        if self.noted().is_none() || refused {
            return false;
        }
        self.count_baseline();
        if self.capacity.outdated {
            return true; // nobody knows yet what is to be held
        }
        self.hold_baseline(now);
        let enough = self.capacity_lets_pass(now, self.first_share());
        !enough || self.pods_are_unwell()
    }

    /// May the weight go up to this share? Where canaryd scales the canary, the first question does.
    pub(super) fn capacity_lets_pass(&mut self, now: Timestamp, to: Weight) -> bool {
        self.scale_canary(now, to);
        self.noted().is_none() || (self.works.are_done() && self.short_of(to).is_none())
    }

    /// Asks for the replicas a share needs, unless they are there or asked for. Never for less than before.
    pub(super) fn scale_canary(&mut self, now: Timestamp, to: Weight) {
        let (Some(noted), Some(seen), true) = (self.noted(), self.seen(), self.follows()) else { return };
        let need = self.need(to, &seen.canary);
        let asked = self.capacity.scaled.filter(|s| s.to >= need);
        let scaler_below = noted.canary_floor.is_some_and(|floor| floor < need);
        let missing = seen.canary.wanted < need || (scaler_below && asked.is_none());
        let waits = asked.is_some_and(|s| s.given_up || now.since(s.at) < SCALE_AGAIN);
        if !missing || waits || !self.works.are_done() {
            return;
        }
        let may_raise = noted.canary_floor.is_some();
        let to = need.max(self.capacity.scaled.map_or(0, |s| s.to));
        self.capacity.scaled = Some(Scaled { to, at: now, given_up: false });
        self.note_raised(may_raise);
        self.ask_work(now, WorkloadAction::ScaleCanary { replicas: to });
    }

    /// A canary that was scaled for its step and is wanted smaller by another hand is scaled up again, and a baseline is held again.
    pub(super) fn keep_scaled(&mut self, now: Timestamp) -> Option<Action> {
        if self.at_step() && self.capacity.scaled.is_some() {
            self.scale_canary(now, self.weight);
        }
        self.keep_held(now);
        None
    }

    /// A person wants it tried again.
    pub(super) fn scale_anew(&mut self) {
        (self.capacity.held.given_up, self.capacity.held.times) = (false, 0);
        if let Some(scaled) = &mut self.capacity.scaled {
            scaled.given_up = false;
        }
    }

    /// Nothing shall shrink the baseline until the bake is over.
    pub(super) fn hold_baseline(&mut self, now: Timestamp) {
        let whole = self.baseline_replicas();
        let below = self.noted().is_some_and(|n| n.baseline_floor.is_some_and(|floor| floor < whole));
        if below && self.capacity.held.at.is_none() {
            self.ask_to_hold(now);
        }
    }

    /// Another hand shrinks it all the same: it made an autoscaler meanwhile, or set back a minimum that was raised.
    fn keep_held(&mut self, now: Timestamp) {
        let Held { at, times, given_up } = self.capacity.held;
        let waits = given_up || times >= HOLDS_MAX || at.is_some_and(|at| now.since(at) < SCALE_AGAIN);
        if self.shrunk().is_some() && !waits && self.works.are_done() {
            self.ask_to_hold(now);
        }
    }

    fn ask_to_hold(&mut self, now: Timestamp) {
        let held = &mut self.capacity.held;
        (held.at, held.times) = (Some(now), held.times + 1);
        self.note_raised(true);
        self.ask_work(now, WorkloadAction::HoldBaseline);
    }

    /// Does canaryd see to it that the baseline has its replicas? In a rolling update only the undo can; where replicas are the share,
    /// giving it back is what restores them.
    fn keeps_baseline(&self) -> bool {
        let ours = self.terms.mode == Mode::Enforce && !self.terms.rolling_update && !self.terms.share_of_replicas;
        ours && self.noted().is_some()
    }

    /// Replicas the baseline asks for, where they are fewer than it had at the start, while a rollback may need all of those.
    fn shrunk(&self) -> Option<u32> {
        let held = matches!(self.course, Course::Climbing { .. } | Course::Completing { .. }) && self.keeps_baseline();
        let wanted = self.seen().filter(|_| held)?.baseline.wanted;
        (wanted < self.baseline_replicas()).then_some(wanted)
    }

    /// What a person has to know of that.
    pub(super) fn shrunk_text(&self) -> Option<String> {
        let wanted = self.shrunk()?;
        Some(format!(
            "the baseline asks for {wanted} replicas, and a rollback needs the {} it had at the start: another hand scales it down (an \
             autoscaler, a person, GitOps that writes replicas or minReplicas). An autoscaler's minimum is raised again; without one, \
             scale it up",
            self.baseline_replicas()
        ))
    }

    /// Traffic that the canary carried goes back to stable.
    pub(super) fn traffic_returns(&mut self, now: Timestamp) {
        self.capacity.returned = true;
        self.restore_baseline(now);
    }

    /// Stable gets back the replicas it had if it was shrunk, or if nobody knows; and it is told if it cannot carry the traffic that
    /// comes back all the same.
    fn restore_baseline(&mut self, now: Timestamp) {
        let Some(noted) = self.noted().filter(|_| self.keeps_baseline()) else { return };
        let (whole, scaled) = (self.baseline_replicas(), noted.baseline_floor.is_some());
        let seen = self.seen().map(|s| (s.baseline.wanted, s.baseline.ready));
        let shrunk = whole > 0 && seen.is_none_or(|(wanted, ready)| wanted < whole || ready < whole);
        if shrunk && !self.capacity.restored {
            self.capacity.restored = true;
            self.note_raised(scaled);
            self.ask_work(now, WorkloadAction::RestoreBaseline);
        }
        let missing = seen.filter(|(_, ready)| u64::from(*ready) * 2 < u64::from(whole));
        if let Some((_, ready)) = missing.filter(|_| !self.capacity.missing_told) {
            self.capacity.missing_told = true;
            let text = format!("rolled back into missing capacity: stable has {ready} ready of the {whole} replicas it had at the start");
            self.event(Level::Page, Topic::Capacity, text);
        }
    }

    fn note_raised(&mut self, may: bool) {
        if may {
            self.capacity.raised = self.capacity.raised.max(Raised::Maybe);
        }
    }

    /// Is there a minimum to be given back?
    pub(super) fn scalers_raised(&self) -> bool {
        self.capacity.raised != Raised::No
    }

    /// An action is done.
    pub(super) fn note_done(&mut self, action: WorkloadAction) {
        let raises = matches!(action, WorkloadAction::HoldBaseline | WorkloadAction::ScaleCanary { .. } | WorkloadAction::RestoreBaseline);
        if raises && self.capacity.raised == Raised::Maybe {
            self.capacity.raised = Raised::Yes;
        }
    }

    /// An action was left to a person. Where nothing but the baseline was to be held and that was refused for good, no minimum was
    /// raised; a canary's is, before it is scaled, which may be what was refused.
    pub(super) fn note_given_up(&mut self, action: WorkloadAction, retry: Retry) {
        if let (WorkloadAction::ScaleCanary { .. }, Some(scaled)) = (action, &mut self.capacity.scaled) {
            scaled.given_up = true;
        }
        if action != WorkloadAction::HoldBaseline {
            return;
        }
        self.capacity.held.given_up = true;
        if retry == Retry::Never && self.capacity.raised == Raised::Maybe && self.capacity.scaled.is_none() {
            self.capacity.raised = Raised::No;
        }
    }

    /// After a gap: what the cluster showed and what was asked of it is not known, and what is wanted is asked for again.
    pub(super) fn forget_capacity(&mut self) {
        let Capacity { whole, outdated, .. } = self.capacity;
        self.capacity = Capacity { whole, outdated, ..Capacity::default() };
        let Some(noted) = self.noted() else { return };
        let could = noted.baseline_floor.is_some() || (self.follows() && noted.canary_floor.is_some());
        let begun = !matches!(self.course, Course::Waiting | Course::Gated);
        self.note_raised(could && begun && self.terms.mode == Mode::Enforce);
    }

    /// After a gap: the baseline is held, or has its replicas, where it had to be. Asking twice does no harm.
    pub(super) fn see_to_baseline(&mut self, now: Timestamp) {
        match self.course {
            Course::RollingBack { .. } => self.traffic_returns(now),
            Course::Climbing { .. } | Course::Completing { .. } => self.hold_baseline(now),
            _ => {}
        }
    }

    /// Replicas are missing for the weight in force, or for the next; or they are not known.
    pub(super) fn hold_capacity(&self) -> Option<Hold> {
        let short = self.short_now().or_else(|| self.short_next())?;
        let way = match (&short, self.course) {
            (Short::Unknown(_), _) => "the cluster answers",
            (Short::Pods { .. }, _) => "more of its pods are ready",
        };
        let passes = if self.is_gated() { "break-glass-promote passes it by, rollback ends it" } else { "or break-glass-promote" };
        let until = self.undecided_acts_at();
        Some(Hold { why: HoldWhy::Capacity, text: self.short_text(&short), ends: format!("{way}; {passes}"), until })
    }

    /// Missing for the weight in force; before the first one, for that.
    fn short_now(&self) -> Option<Short> {
        match self.course {
            Course::Gated if self.is_closed_for_pods() => self.short_of(self.first_share()),
            Course::Climbing { .. } => self.short_of(self.weight),
            _ => None,
        }
    }

    /// Missing for the next; where canaryd scales the canary, once it was asked to.
    fn short_next(&self) -> Option<Short> {
        let to = self.next_share()?;
        let canary = &self.seen()?.canary;
        let asked = self.capacity.scaled.is_some_and(|s| s.to >= self.need(to, canary));
        self.short_of(to).filter(|_| asked || !self.follows())
    }

    /// Does the canary carry more than its ready pods were meant for?
    pub(super) fn overloaded(&self) -> Option<Short> {
        let carries = matches!(self.course, Course::Climbing { .. } | Course::Completing { .. }) && !self.weight.is_zero();
        self.short_of(self.weight).filter(|s| carries && matches!(s, Short::Pods { .. }))
    }

    pub(super) fn short_text(&self, short: &Short) -> String {
        match short {
            Short::Unknown(None) => "the cluster was not heard of yet: nobody knows how many pods are ready".to_owned(),
            Short::Unknown(Some(why)) => format!("the cluster cannot be looked at, nobody knows how many pods are ready: {why}"),
            Short::Pods { ready, need, to } => {
                let seen = self.seen().map(|s| &s.canary);
                let wanted = seen.map_or(0, |s| s.wanted);
                let trouble = seen.filter(|s| !s.trouble.is_empty()).map_or_else(String::new, |s| format!(" ({})", s.trouble));
                format!("the canary has {ready} of the {need} ready pods that {to} of the traffic needs, {wanted} are wanted{trouble}")
            }
        }
    }
}
