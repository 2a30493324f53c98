//! What stands before the first weight, in this order: approvals, the maintenance window, ready pods where they can be seen, the
//! hook before the start (what it tests must be there). A gate that is passed may close again while a later one is awaited.

use super::approvals::Approvals;
use super::calendar;
use super::machine::{Course, Machine};
use crate::model::rule::First;
use crate::model::{Action, Begin, Hold, HoldWhy, HookPoint, Level, Timestamp, Topic, Waiting};
use std::time::Duration;

/// What is shown for a window that does not open within the time searches look ahead.
const NEVER: Duration = Duration::from_secs(400 * 24 * 3600);

/// Facts of the start, and what it waits for.
#[derive(Clone, Debug, Default)]
pub(super) struct Gates {
    /// When it began, and with which facts.
    pub(super) begun: Option<(Timestamp, Begin)>,
    pub(super) approvals: Approvals,
    /// The gate that is closed.
    closed: Option<Closed>,
}

/// A closed gate.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Closed {
    /// Roles that have not approved.
    Approval {
        roles: Vec<String>,
    },
    /// Why, and when it opens.
    Window {
        why: String,
        opens: Option<Timestamp>,
    },
    /// The canary's pods, or the baseline is not held yet.
    Pods,
    Hook,
}

impl Machine {
    /// When it began; an alert from before says nothing about it.
    pub fn begun(&self) -> Option<Timestamp> {
        self.gates.begun.as_ref().map(|(at, _)| *at)
    }

    /// The generation it found.
    pub(super) fn begun_at_generation(&self) -> u64 {
        self.gates.begun.as_ref().map_or(0, |(_, begin)| begin.generation)
    }

    /// Who or what started it.
    pub(super) fn starter(&self) -> &str {
        self.gates.begun.as_ref().map_or("", |(_, begin)| begin.by.as_str())
    }

    /// The facts of the start.
    pub(super) fn on_begin(&mut self, now: Timestamp, begin: &Begin) -> Action {
        if self.course != Course::Waiting || self.pause.is_some() {
            return Action::Hold;
        }
        self.weight = begin.weight;
        if self.terms.mode == crate::model::Mode::Enforce {
            self.generation = begin.generation;
        }
        self.gates.begun = Some((now, begin.clone()));
        self.course = Course::Gated;
        self.tell_warnings(begin);
        self.pass_gates(now).unwrap_or(Action::Hold)
    }

    /// What could not be found in the cluster, or may not be done there later.
    fn tell_warnings(&mut self, begin: &Begin) {
        let warnings = begin.noted.iter().flat_map(|n| &n.warnings);
        warnings.for_each(|text| self.event(Level::Warning, Topic::Capacity, text.clone()));
    }

    /// Goes as far as the gates let it.
    pub(super) fn pass_gates(&mut self, now: Timestamp) -> Option<Action> {
        if self.course != Course::Gated {
            return None;
        }
        self.gates.closed = self.closed_for_approvals(now).or_else(|| self.closed_by_window(now));
        if self.gates.closed.is_some() {
            self.outdate_baseline();
            self.forget_hook(); // it speaks for the moment at which it was asked
            return None;
        }
        if self.pause.is_some() {
            return None;
        }
        if self.closed_for_pods(now) {
            self.gates.closed = Some(Closed::Pods);
            return None;
        }
        if !self.hook_lets_pass(now, HookPoint::BeforeStart) {
            self.gates.closed = Some(Closed::Hook);
            return None;
        }
        Some(self.set_out(now))
    }

    fn closed_for_approvals(&self, now: Timestamp) -> Option<Closed> {
        let roles = self.gates.approvals.missing(&self.terms.approvals, now);
        (!roles.is_empty()).then_some(Closed::Approval { roles })
    }

    fn closed_by_window(&self, now: Timestamp) -> Option<Closed> {
        if let Some(Closed::Window { opens: Some(opens), .. }) = &self.gates.closed
            && now < *opens
        {
            return self.gates.closed.clone();
        }
        let windows = self.terms.windows.as_ref()?;
        let room = self.terms.steps.iter().fold(Duration::ZERO, |sum, step| sum.saturating_add(step.lasts));
        let shut = calendar::start(windows, now, room).err()?;
        Some(Closed::Window { why: shut.why, opens: shut.opens })
    }

    /// The first weight is asked for at once, so that the generation is claimed.
    fn set_out(&mut self, now: Timestamp) -> Action {
        let (first, version) = self.gates.begun.as_ref().map_or((false, ""), |(_, b)| (b.first, b.version.as_str()));
        let who = if version.is_empty() { "the canary".to_owned() } else { format!("canary {version}") };
        self.forget_hook();
        match (first, self.terms.first) {
            (true, First::Refuse) => {
                self.course = Course::Waiting;
                let why = "there is no baseline yet, and the rule says `first: refuse`: promote it by hand or roll back";
                self.pause_for(super::policy::POLICY, why, Level::Warning, now);
                Action::Pause
            }
            (true, First::Promote) => {
                self.notify(Level::Info, format!("{who}: no baseline yet, it gets all the traffic"));
                self.complete(now, true);
                Action::Promote
            }
            (false, _) => {
                let (from, to) = (self.weight, self.terms.steps[0].weight);
                self.notify(Level::Info, format!("{who} begins with {to} of the traffic"));
                self.climb(now, 0);
                Action::Advance { from, to, unproven: Vec::new() }
            }
        }
    }

    /// What it waits for, in the words of the model.
    pub(super) fn waiting(&self) -> Waiting {
        let begun = self.begun().unwrap_or_default();
        match self.gates.closed.as_ref().filter(|_| self.course == Course::Gated) {
            Some(Closed::Approval { roles }) => Waiting::Approval { roles: roles.clone() },
            Some(Closed::Window { opens, .. }) => Waiting::Window { opens: opens.unwrap_or(begun + NEVER) },
            Some(Closed::Pods) => Waiting::Pods,
            Some(Closed::Hook) => Waiting::Hook { name: HookPoint::BeforeStart.name().to_owned() },
            None => Waiting::Router,
        }
    }

    /// When a gate opens, or closes again, without anybody's word.
    pub(super) fn gates_act_at(&self, now: Timestamp) -> Option<Timestamp> {
        if self.course != Course::Gated {
            return None;
        }
        match &self.gates.closed {
            Some(Closed::Window { opens, .. }) => [*opens, self.gates.approvals.ends(now)].into_iter().flatten().min(),
            _ => self.gates.approvals.ends(now),
        }
    }

    /// Is it before its first weight?
    pub(super) fn is_gated(&self) -> bool {
        self.course == Course::Gated
    }

    /// Does it wait for pods before its first weight?
    pub(super) fn is_closed_for_pods(&self) -> bool {
        self.is_gated() && self.gates.closed == Some(Closed::Pods)
    }

    pub(super) fn hold_gate(&self, now: Timestamp) -> Option<Hold> {
        let closed = self.gates.closed.as_ref().filter(|_| self.is_gated())?;
        let always = "break-glass-promote passes it by; a person may end it with rollback";
        Some(match closed {
            Closed::Approval { roles } => Hold {
                why: HoldWhy::Approval,
                text: self.gates.approvals.text(roles, now),
                ends: format!("{}; {always}", self.who_may_approve()),
                until: self.gates.approvals.ends(now),
            },
            Closed::Window { why, opens } => Hold {
                why: HoldWhy::Window,
                text: format!("it may not start now: {why}"),
                ends: format!("{}; {always}", self.opens_words(*opens)),
                until: *opens,
            },
            Closed::Pods | Closed::Hook => return None, // their own holds say more
        })
    }

    fn opens_words(&self, opens: Option<Timestamp>) -> String {
        match (opens, &self.terms.windows) {
            (Some(at), Some(windows)) => format!("it may from {} on", calendar::civil(windows, at)),
            _ => "no window of the next 400 days has room for all steps: change the rule's windows or its steps".to_owned(),
        }
    }

    /// Why a person's word does not pass, in one sentence.
    pub(super) fn gate_words(&self, now: Timestamp) -> String {
        let pods = || self.hold_pods().or_else(|| self.hold_work()).or_else(|| self.hold_capacity());
        let hold = self.hold_gate(now).or_else(pods).or_else(|| self.hold_hook());
        hold.map_or_else(|| "it has not begun".to_owned(), |h| format!("{}; {}", h.text, h.ends))
    }
}
