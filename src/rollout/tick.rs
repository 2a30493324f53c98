//! What a judged poll does: a list of named steps, the first that has something to do does it.

use super::machine::{Course, Machine};
use crate::model::rule::{BakeJudge, Then};
use crate::model::{Action, Breach, HookPoint, Judgement, Level, Promoting, Reason, Tick, Timestamp, Unproven, Vanished, Verdict};

impl Machine {
    pub(super) fn on_tick(&mut self, now: Timestamp, tick: &Tick) -> Action {
        const STEPS: [fn(&mut Machine, Timestamp) -> Option<Action>; 15] = [
            Machine::roll_back_on_breach,
            Machine::act_on_alerts,
            Machine::act_on_pods,
            Machine::act_on_vanished,
            Machine::act_on_shared,
            Machine::act_on_closed_window,
            Machine::act_on_blindness,
            Machine::write_again,
            Machine::work_again,
            Machine::finish_drained,
            Machine::act_on_undecided,
            Machine::act_on_external_limit,
            Machine::act_on_hook,
            Machine::keep_scaled,
            Machine::advance_when_free,
        ];
        if self.is_old(tick) {
            return Action::Hold;
        }
        self.last = Some(Box::new(tick.clone()));
        self.note_share(tick);
        self.note_vanished(tick);
        self.note_waits(now, tick);
        self.first_of(&STEPS, now)
    }

    /// A poll that was judged before says nothing new.
    fn is_old(&self, tick: &Tick) -> bool {
        tick.judgement.duplicate || self.last.as_ref().is_some_and(|l| tick.judgement.at <= l.judgement.at)
    }

    /// Reasons of the last poll, and of the pods, to roll back.
    pub(super) fn breaches(&self) -> Vec<Reason> {
        let mut reasons = self.judged_breaches();
        reasons.extend(self.pod_reasons());
        reasons
    }

    /// What the judge says; abandoned requests only where the policy says so.
    fn judged_breaches(&self) -> Vec<Reason> {
        let Some(judgement) = self.last.as_ref().map(|t| &t.judgement) else { return Vec::new() };
        let during_shared = judgement.labels.shared || judgement.labels.hold;
        let acts = |b: &Breach| *b != Breach::Abandoned || self.terms.policies.vanished == Then::RollBack;
        let reason = |b: &Breach| match b {
            Breach::Abandoned => Reason::Vanished(Vanished::Abandoned),
            breach => Reason::Breach { breach: *breach, during_shared },
        };
        judgement.rollback.iter().filter(|b| acts(b)).map(reason).collect()
    }

    /// Does evidence act now? Not against break-glass, not where the bake shall only page, and not once stable is touched.
    pub(super) fn evidence_acts(&self) -> bool {
        match self.course {
            Course::Climbing { .. } if self.at_bake() => !self.frozen && self.terms.bake_judge == BakeJudge::RollBack,
            Course::Climbing { .. } => !self.frozen,
            Course::Completing { forced } => !forced && !self.frozen,
            Course::Waiting | Course::Gated | Course::Promoting { .. } | Course::RollingBack { .. } | Course::Over(_) => false,
        }
    }

    /// At once, whatever holds it: a pause, a window, a router in trouble.
    fn roll_back_on_breach(&mut self, now: Timestamp) -> Option<Action> {
        let breaches = self.breaches();
        if breaches.is_empty() || !self.evidence_acts() {
            return None;
        }
        Some(self.roll_back(now, breaches))
    }

    /// There is a reason to roll back, and a rule or a person says hold.
    pub(super) fn withheld(&self) -> Vec<Reason> {
        let leaves = matches!(self.course, Course::RollingBack { .. } | Course::Promoting { at: Promoting::ShiftingBack, .. });
        let before = matches!(self.course, Course::Waiting | Course::Gated);
        if leaves || self.is_over() || before || self.evidence_acts() { Vec::new() } else { self.breaches() }
    }

    /// The step ends when the judge keeps it no more and nothing else holds it.
    fn advance_when_free(&mut self, now: Timestamp) -> Option<Action> {
        let tick = self.last.as_ref().filter(|t| self.judges_step(t))?;
        let free = tick.judgement.keep.is_empty() && tick.judgement.rollback.is_empty();
        if !free || !self.holds(now).is_empty() {
            return None;
        }
        if self.next_share().is_some_and(|to| !self.capacity_lets_pass(now, to)) {
            return None;
        }
        let last = self.step as usize + 1 >= self.terms.steps.len();
        let point = if last { HookPoint::BeforePromotion } else { HookPoint::BeforeStep };
        if !self.hook_lets_pass(now, point) {
            return None; // asked when nothing else speaks against it; what speaks against it then is looked at again
        }
        let lead = format!("the step at {} is over", self.weight);
        Some(self.next(now, &lead))
    }

    /// To the next step, or, after the last, to the promotion; `lead` begins the message.
    pub(super) fn next(&mut self, now: Timestamp, lead: &str) -> Action {
        let from = self.weight;
        let unproven = self.unproven();
        let words = unproven_words(&unproven, &self.terms.metrics);
        let next = self.step + 1;
        match self.terms.steps.get(next as usize) {
            Some(step) => {
                let to = step.weight;
                self.notify(Level::Info, format!("{lead}: {from} -> {to}{words}"));
                self.climb(now, next);
                Action::Advance { from, to, unproven }
            }
            None => {
                self.notify(Level::Info, format!("{lead}: promoting from {from}{words}"));
                self.complete(now, false);
                Action::Promote
            }
        }
    }

    /// Required metrics that were not shown in this step; none where there is nothing to compare (0 % and 100 %).
    fn unproven(&self) -> Vec<Unproven> {
        let Some(tick) = self.last.as_ref().filter(|t| self.judges_step(t)) else { return Vec::new() };
        if self.weight.is_zero() || self.weight.is_full() {
            return Vec::new();
        }
        let judgement = &tick.judgement;
        let open = judgement.metrics.iter().filter(|m| m.required && m.verdict != Verdict::Pass);
        open.map(|m| Unproven { metric: m.index, requests: missing_requests(judgement, m.index) }).collect()
    }
}

/// Canary requests until a metric is shown, at the rate at which its evidence grew in this step: evidence missing, divided
/// by evidence per canary request. The larger of "not worse" and promote-below; `None` if either does not grow.
fn missing_requests(judgement: &Judgement, metric: u8) -> Option<u64> {
    let seen = judgement.clock.canary_requests;
    let ok = judgement.metrics.iter().find(|m| m.index == metric).map(|m| (m.ln_ok, judgement.ln_ok));
    let below = judgement
        .limits
        .iter()
        .filter(|l| l.metric == metric && l.kind == crate::model::LimitKind::PromoteBelow && !l.proven)
        .map(|l| (l.evidence.canary, l.threshold));
    let missing = |(has, needs): (f64, f64)| -> Option<f64> {
        if has >= needs {
            return Some(0.0);
        }
        let requests = (needs - has) * seen / has;
        (has > 0.0 && requests.is_finite()).then(|| requests.ceil())
    };
    let all = ok.into_iter().chain(below).map(missing).collect::<Option<Vec<f64>>>()?;
    Some(all.into_iter().fold(0.0, f64::max) as u64)
}

fn unproven_words(unproven: &[Unproven], metrics: &[String]) -> String {
    if unproven.is_empty() {
        return String::new();
    }
    let one = |u: &Unproven| {
        let name = super::texts::metric_name(metrics, u.metric);
        u.requests.map_or_else(|| name.to_owned(), |n| format!("{name}, about {n} requests missing"))
    };
    format!(" (not proven: {})", unproven.iter().map(one).collect::<Vec<_>>().join("; "))
}
