//! Why it does not go on, in words for an operator at 3 a.m.: what was seen, what would end it, until when.

use super::machine::{Course, Machine};
use super::texts::duration;
use crate::model::rule::Then;
use crate::model::{Advance, Arm, Hold, HoldWhy, Judgement, Keep, LimitKind, Stands, Tick, Timestamp, TrafficReading, Verdict, Weight};
use std::time::Duration;

/// What ends a rollback whose weight is not taken.
const GONE_FOR_GOOD: &str = "the router takes it (it is tried again), a person resumes to try now, or, if its route is gone for good, \
                             break-glass-rollback";

/// Most important first. The judge's own keep their order among themselves (STATISTICS 7).
const fn rank(why: HoldWhy) -> u8 {
    match why {
        HoldWhy::Frozen => 0,
        HoldWhy::Paused => 1,
        HoldWhy::Router => 2,
        HoldWhy::Foreign => 3,
        HoldWhy::Vanished => 4,
        HoldWhy::Judge(Keep::Blind) => 5,
        HoldWhy::TrafficShare => 6,
        HoldWhy::Judge(Keep::Shared) => 7,
        HoldWhy::Judge(Keep::Suspicious) => 8,
        HoldWhy::Judge(Keep::Limit) => 9,
        HoldWhy::Judge(Keep::Harm) => 10,
        HoldWhy::NoRequests => 11,
        HoldWhy::Orphans => 11,
        HoldWhy::Judge(Keep::FewRequests) => 12,
        HoldWhy::Pods => 7,
        HoldWhy::Capacity => 13,
        HoldWhy::Window => 14,
        HoldWhy::Approval => 15,
        HoldWhy::Hook => 16,
        HoldWhy::Alert => 7,
        HoldWhy::Shifting => 17,
        HoldWhy::Drain => 18,
        HoldWhy::Promotion => 19,
        HoldWhy::Judge(Keep::Time) => 20,
        HoldWhy::Judge(Keep::NotProven) => 21,
        HoldWhy::Judge(Keep::PromoteBelow) => 22,
    }
}

fn hold(why: HoldWhy, text: String, ends: impl Into<String>, until: Option<Timestamp>) -> Hold {
    Hold { why, text, ends: ends.into(), until }
}

/// What another hand did.
pub(super) fn foreign_text(reading: &TrafficReading, ours: Weight) -> String {
    let writer = reading.writer.as_deref().unwrap_or("somebody");
    if reading.stands == Stands::LetGo {
        return format!("{writer} let the rolling update go on, it is at {} now and is to stand still", reading.weight);
    }
    format!("{writer} moved the canary's weight to {}, we want {ours}", reading.weight)
}

impl Machine {
    /// Every reason why it does not go on now, the most important first; empty when it is over.
    pub(super) fn holds(&self, now: Timestamp) -> Vec<Hold> {
        if self.is_over() {
            return Vec::new();
        }
        let mut holds = self.own_holds(now);
        holds.extend(self.judge_holds(now));
        holds.sort_by_key(|h| rank(h.why));
        holds
    }

    /// The same for a decision, which never waits without a word: what held it may have ended between two polls.
    pub(super) fn holds_or_poll(&self, now: Timestamp) -> Vec<Hold> {
        let holds = self.holds(now);
        if holds.is_empty() && !self.is_over() {
            let text = format!("nothing speaks against going on from {}", self.weight);
            return vec![hold(HoldWhy::Judge(Keep::Time), text, "the next poll decides", None)];
        }
        holds
    }

    /// Holds the judge does not know of.
    fn own_holds(&self, now: Timestamp) -> Vec<Hold> {
        let all = [
            self.hold_pause(),
            self.hold_begin(),
            self.hold_gate(now),
            self.hold_hook(),
            self.hold_window(),
            self.hold_alert(),
            self.hold_write(),
            self.hold_reading(),
            self.hold_foreign(),
            self.hold_withheld(),
            self.hold_vanished(),
            self.hold_share(),
            self.hold_no_requests(),
            self.hold_orphans(),
            self.hold_ready(),
            self.hold_capacity(),
            self.hold_pods(),
            self.hold_drain(),
            self.hold_promotion(),
        ];
        all.into_iter().flatten().collect()
    }

    /// Does anything hold the step besides the judge, a pause, the router and what has its own limit in time or must never lead
    /// to more than waiting: a window, a hook, an alert, pods of both versions, a cluster that cannot be looked at?
    pub(super) fn held_by_itself(&self, now: Timestamp) -> bool {
        let unknown = self.noted().is_some() && self.seen().is_none();
        let others = |why| match why {
            HoldWhy::Paused | HoldWhy::Frozen | HoldWhy::Shifting | HoldWhy::Window | HoldWhy::Hook | HoldWhy::Alert | HoldWhy::Pods => {
                true
            }
            HoldWhy::Capacity => unknown,
            _ => false,
        };
        self.own_holds(now).iter().any(|h| !others(h.why))
    }

    /// Own holds that no `advance` passes over.
    pub(super) fn own_holds_against(&self) -> Vec<Hold> {
        let all = [
            self.hold_reading(),
            self.hold_foreign(),
            self.hold_vanished(),
            self.hold_share(),
            self.hold_no_requests(),
            self.hold_ready(),
            self.hold_capacity(),
            self.hold_pods(),
            self.hold_window(),
            self.hold_critical_alert(),
        ];
        all.into_iter().flatten().collect()
    }

    fn hold_pause(&self) -> Option<Hold> {
        let pause = self.pause.as_ref()?;
        let why = if pause.why.is_empty() { String::new() } else { format!(": {}", pause.why) };
        Some(if self.frozen {
            let text = format!("frozen at {} by {} (break-glass){why}; evidence does not act", self.weight, pause.by);
            hold(HoldWhy::Frozen, text, "a person resumes or rolls back", None)
        } else {
            let text = format!("paused at {} by {}{why}", self.weight, pause.by);
            hold(HoldWhy::Paused, text, "a person resumes, advances or rolls back; evidence of harm still rolls back", None)
        })
    }

    fn hold_begin(&self) -> Option<Hold> {
        (self.course == Course::Waiting && self.pause.is_none()).then(|| {
            hold(HoldWhy::Router, "the router has not been read yet".to_owned(), "the router answers, or a person rolls back", None)
        })
    }

    fn hold_write(&self) -> Option<Hold> {
        let write = self.write.as_ref()?;
        let weight = self.weight;
        Some(match &write.failure {
            None => hold(HoldWhy::Shifting, format!("the weight {weight} is being written"), "the router shows it", None),
            Some(f) if f.tries == 0 => {
                hold(HoldWhy::Shifting, format!("the weight {weight} is on its way: {}", f.text), "it is there", None)
            }
            Some(f) => {
                let text = format!("the router does not take {weight}, {} tries failed: {}", f.tries, f.text);
                let ends = match self.course {
                    Course::RollingBack { .. } => GONE_FOR_GOOD,
                    _ => "the router takes it (it is tried again), or a person resumes to try now",
                };
                hold(HoldWhy::Router, text, ends, self.writes_again_at())
            }
        })
    }

    fn hold_reading(&self) -> Option<Hold> {
        let (_, why) = self.hands.unreadable.as_ref()?;
        Some(hold(HoldWhy::Router, format!("the router cannot be read: {why}"), "a reading succeeds", None))
    }

    fn hold_foreign(&self) -> Option<Hold> {
        let reading = self.hands.foreign.as_ref()?;
        let text = foreign_text(reading, self.weight);
        let ends = match reading.stands {
            Stands::LetGo => "it stands still, or a person resumes: then it is stopped again",
            _ => "the weight reads back as ours, or a person resumes: then it is written again",
        };
        Some(hold(HoldWhy::Foreign, text, ends, None))
    }

    /// Evidence for a rollback that a rule or break-glass holds back.
    fn hold_withheld(&self) -> Option<Hold> {
        let reasons = self.withheld();
        if reasons.is_empty() {
            return None;
        }
        let seen = reasons.iter().map(|r| super::reason_text(r, &self.terms.metrics)).collect::<Vec<_>>().join("; ");
        let text = format!("evidence says roll back ({seen}), and it only pages here");
        Some(hold(HoldWhy::Judge(Keep::Limit), text, "a person rolls back, or the evidence falls", None))
    }

    fn hold_vanished(&self) -> Option<Hold> {
        let how = self.vanishes()?;
        let text = format!("{} (it has {})", super::texts::vanished(how), self.weight);
        Some(hold(HoldWhy::Vanished, text, "its requests are served again, or a person rolls back", None))
    }

    fn hold_share(&self) -> Option<Hold> {
        let disobeys = self.at_step() && self.share.disobeys();
        disobeys.then(|| {
            let ends = "the traffic has followed for a minute; look at the route, and at the labels that tell the versions apart";
            hold(HoldWhy::TrafficShare, self.share_text(), ends, None)
        })
    }

    fn hold_no_requests(&self) -> Option<Hold> {
        self.no_requests().then(|| {
            let text = format!("the canary has {} of the traffic and gets no requests", self.weight);
            let ends = "requests reach the canary; look whether the service has traffic, and whether its counters carry the right labels";
            hold(HoldWhy::NoRequests, text, ends, self.overdue_until())
        })
    }

    /// Failures of the service that belong to neither version blame nobody, and are no time to go on.
    fn hold_orphans(&self) -> Option<Hold> {
        let orphans = self.last.as_ref().filter(|tick| self.judges_step(tick)).map_or(0.0, |tick| tick.orphans);
        (orphans > 0.0).then(|| {
            let text = format!(
                "unattributed errors: {orphans:.0} requests of the service failed in the last poll before they reached either version"
            );
            let ends = "a poll without them; look whether both versions have ready pods, and whether the route names them";
            hold(HoldWhy::Orphans, text, ends, self.overdue_until())
        })
    }

    fn hold_ready(&self) -> Option<Hold> {
        self.not_ready().then(|| {
            let text = "every process of the canary is silent: it is not ready for traffic".to_owned();
            hold(HoldWhy::Capacity, text, "a process of it answers", self.overdue_until())
        })
    }

    fn hold_drain(&self) -> Option<Hold> {
        let at = self.drained_at()?;
        let text = format!("the weight is {}; requests under way have {} to end", self.weight, duration(self.terms.drain));
        Some(hold(HoldWhy::Drain, text, "that time is over", Some(at)))
    }

    /// What the judge keeps the step for; before its first word on a step, the step's time.
    fn judge_holds(&self, now: Timestamp) -> Vec<Hold> {
        if !self.at_step() {
            return Vec::new();
        }
        match self.last.as_ref().filter(|t| self.judges_step(t)) {
            Some(tick) => tick.judgement.keep.iter().map(|k| self.hold_keep(*k, tick, now)).collect(),
            None => {
                let lasts = self.step_lasts();
                let text = format!("the step at {} has begun and lasts {}", self.weight, duration(lasts));
                vec![hold(
                    HoldWhy::Judge(Keep::Time),
                    text,
                    "its time is over with nothing against it",
                    self.in_force.filter(|_| self.pause.is_none()).map(|at| at + lasts),
                )]
            }
        }
    }

    fn hold_keep(&self, keep: Keep, tick: &Tick, now: Timestamp) -> Hold {
        let (ends, until) = match keep {
            Keep::Blind => ("a poll sees every required metric", self.blind_until()),
            Keep::Shared => ("both versions are well for two minutes", None),
            Keep::Suspicious => ("a few more polls let it fall back, or prove it", self.overdue_until()),
            Keep::Limit => ("the metric falls back below its limit", self.overdue_until()),
            Keep::Harm => ("the evidence falls below half of what a rollback needs, or reaches it", self.overdue_until()),
            Keep::FewRequests => ("more requests have reached the canary", self.overdue_until()),
            Keep::Time => ("enough time has counted (seen, not shared, not paused)", self.step_ends(&tick.judgement, now)),
            Keep::NotProven => ("more requests have reached the canary", self.overdue_until()),
            Keep::PromoteBelow => ("fewer requests are bad than the limit allows", self.overdue_until()),
        };
        hold(HoldWhy::Judge(keep), self.keep_text(keep, tick), ends, until)
    }

    /// What the judge saw, in one sentence.
    pub(super) fn keep_text(&self, keep: Keep, tick: &Tick) -> String {
        let j = &tick.judgement;
        match keep {
            Keep::Blind => self.blind_text(tick),
            Keep::Shared => "both versions suffer: it is not the canary's fault".to_owned(),
            Keep::Suspicious => "the canary stands beyond a limit, not proven yet".to_owned(),
            Keep::Limit => self.limit_text(j),
            Keep::Harm => {
                let worst = j.worst.map_or("a metric", |m| self.metric(m));
                format!("{worst} looks worse than tolerated: evidence {:.2} of the {:.2} a rollback needs", j.ln_total, j.ln_rollback)
            }
            Keep::FewRequests => {
                format!("{:.0} canary requests in this step, {} are needed", j.clock.canary_requests.max(0.0), self.terms.min_requests)
            }
            Keep::Time => self.time_text(j),
            Keep::NotProven => format!("not shown to be as good yet: {}", self.open_metrics(j)),
            Keep::PromoteBelow => {
                format!("promote-below does not hold: {}", self.limits_of(j, |l| l.kind == LimitKind::PromoteBelow && !l.proven))
            }
        }
    }

    fn blind_text(&self, tick: &Tick) -> String {
        let arm = |arm: Arm| tick.missing[arm].map(|why| format!("the {} ({})", arm.name(), why.name()));
        let arms: Vec<String> = Arm::BOTH.into_iter().filter_map(arm).collect();
        let unseen = tick.judgement.metrics.iter().filter(|m| m.required && !m.used).map(|m| self.metric(m.index));
        let what = if arms.is_empty() { unseen.collect::<Vec<_>>().join(", ") } else { arms.join(" and ") };
        let what = if what.is_empty() { "a required metric".to_owned() } else { what };
        let detail = if tick.detail.is_empty() { String::new() } else { format!(": {}", tick.detail) };
        format!("could not look at {what}{detail}")
    }

    fn limit_text(&self, j: &Judgement) -> String {
        let crossed =
            |l: &crate::model::LimitJudgement| l.breached.canary && matches!(l.kind, LimitKind::PageAbove | LimitKind::RollbackAbove);
        format!("the canary is beyond a limit: {}", self.limits_of(j, crossed))
    }

    fn limits_of(&self, j: &Judgement, which: impl Fn(&crate::model::LimitJudgement) -> bool) -> String {
        let words = |l: &crate::model::LimitJudgement| format!("{} {} {}", self.metric(l.metric), l.kind.name(), l.level);
        let all: Vec<String> = j.limits.iter().filter(|l| which(l)).map(words).collect();
        if all.is_empty() { "see the metrics".to_owned() } else { all.join(", ") }
    }

    fn open_metrics(&self, j: &Judgement) -> String {
        let open = j.metrics.iter().filter(|m| m.required && m.verdict != Verdict::Pass);
        let all: Vec<String> = open.map(|m| format!("{} ({:.2} of {:.2})", self.metric(m.index), m.ln_ok, j.ln_ok)).collect();
        if all.is_empty() { "a required metric".to_owned() } else { all.join(", ") }
    }

    fn time_text(&self, j: &Judgement) -> String {
        let counted = Duration::try_from_secs_f64(j.clock.counted_s.max(0.0)).unwrap_or_default();
        let asked = Duration::try_from_secs_f64(j.clock.for_s.max(0.0)).unwrap_or_default();
        let mode = if self.terms.advance == Advance::OnEvidence { "at least " } else { "" };
        let warming = if counted >= asked { "; warming up" } else { "" };
        format!("{} of {mode}{} counted at {}{warming}", duration(counted), duration(asked), self.weight)
    }

    /// When the step's time is over if all of it counts from now on.
    fn step_ends(&self, j: &Judgement, now: Timestamp) -> Option<Timestamp> {
        let left = Duration::try_from_secs_f64(j.clock.for_s - j.clock.counted_s).ok()?;
        (!left.is_zero() && self.pause.is_none()).then(|| now + left)
    }

    fn blind_until(&self) -> Option<Timestamp> {
        let (policy, since, _) = self.blindness()?;
        (policy.then != Then::Hold).then(|| since + policy.hold)
    }

    fn overdue_until(&self) -> Option<Timestamp> {
        self.undecided_acts_at()
    }
}
