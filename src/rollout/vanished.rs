//! Do the canary's requests come back (DESIGN 6.3)? A canary that hangs makes no errors and no latencies.

use super::machine::{Course, Machine};
use crate::model::Timestamp;
use crate::model::rule::Then;
use crate::model::{Action, Blind, Breach, Counts, Level, Mode, PerArm, Reason, Tick, Vanished, Weight};

/// Ticks in a row, and ticks in which the canary must first have followed its weight.
const TICKS: u32 = 3;
/// Fewest expected requests of a tick that says anything.
const EXPECTED_MIN: f64 = 20.0;
/// Served less than this part of what was expected: vanished.
const SERVED: f64 = 0.25;
/// Served at least this part: it followed its weight.
const FOLLOWED: f64 = 0.5;
/// Expected requests since the last one that came, from which on "no requests" is no accident (`e^-10`).
const IDLE_EXPECTED: f64 = 10.0;

/// What the last polls say about requests that should have come.
#[derive(Clone, Debug, Default)]
pub(super) struct VanishedWatch {
    followed: u32,
    unserved: u32,
    silent: u32,
    idle: u32,
    idle_expected: f64,
    /// Requests of both arms in all usable polls, and how many polls: what a bake compares with.
    volume: (f64, u32),
}

impl VanishedWatch {
    pub(super) fn enter_step(&mut self) {
        *self = Self { silent: self.silent, volume: self.volume, ..Self::default() };
    }

    /// The weight must read back unchanged all the while: a row of polls begins anew with each write and each doubt.
    pub(super) fn weight_in_doubt(&mut self) {
        self.unserved = 0;
    }

    fn note_counts(&mut self, n: PerArm<f64>, weight: Weight) {
        let expected = expected(n.baseline, weight);
        let says = expected >= EXPECTED_MIN;
        if says && n.canary >= FOLLOWED * expected && n.canary <= expected / FOLLOWED {
            self.followed = self.followed.saturating_add(1);
        }
        let gone = says && self.followed >= TICKS && n.canary < SERVED * expected;
        self.unserved = if gone { self.unserved.saturating_add(1) } else { 0 };
        let idle = n.canary <= 0.0;
        self.idle = if idle { self.idle.saturating_add(1) } else { 0 };
        let should = if weight.is_full() { self.usual_volume() } else { expected };
        self.idle_expected = if idle { self.idle_expected + should } else { 0.0 };
        self.volume = (self.volume.0 + n.baseline + n.canary, self.volume.1.saturating_add(1));
    }

    /// Mean requests of a poll in this rollout; 0 before the first.
    fn usual_volume(&self) -> f64 {
        self.volume.0 / f64::from(self.volume.1.max(1))
    }

    fn note_silence(&mut self, missing: PerArm<Option<Blind>>) {
        let silent = missing.canary == Some(Blind::Silent) && missing.baseline.is_none();
        self.silent = if silent { self.silent.saturating_add(1) } else { 0 };
    }
}

/// Requests the canary should have served: `n_b w / (1 - w)`; 0 at 100 %, where there is no baseline to tell.
fn expected(baseline: f64, weight: Weight) -> f64 {
    if weight.is_full() { 0.0 } else { baseline * weight.share() / (1.0 - weight.share()) }
}

impl Machine {
    pub(super) fn note_vanished(&mut self, tick: &Tick) {
        self.vanished.note_silence(tick.missing);
        let (Some(counts), Some(due)) = (tick.judgement.counts, self.share_due()) else { return };
        let weight_unsure = self.hands.foreign.is_some() || self.hands.unreadable.is_some();
        if weight_unsure {
            self.vanished.weight_in_doubt();
        }
        if self.judges_step(tick) && !due.is_zero() && !weight_unsure {
            self.vanished.note_counts(counts.map(|c: Counts| c.total), due);
        }
    }

    /// Nobody reaches the canary in the bake, and somebody should have: a service that is quiet by itself pages nobody.
    pub(super) fn nobody_comes(&self) -> bool {
        self.at_bake() && self.no_requests() && self.vanished.idle >= TICKS && self.vanished.idle_expected >= EXPECTED_MIN
    }

    /// How it shows now that the canary's requests do not come back. In observe mode the share is not ours to expect.
    pub(super) fn vanishes(&self) -> Option<Vanished> {
        let climbing = matches!(self.course, Course::Climbing { .. });
        if !climbing || self.in_force.is_none() || self.step_weight().is_zero() {
            return None;
        }
        let says = |b: Breach| self.last.as_ref().is_some_and(|t| t.judgement.rollback.contains(&b));
        if says(Breach::Abandoned) && self.terms.policies.vanished != Then::RollBack {
            Some(Vanished::Abandoned)
        } else if self.vanished.unserved >= TICKS && self.at_step() && self.terms.mode == Mode::Enforce {
            Some(Vanished::Unserved)
        } else {
            (self.vanished.silent >= TICKS).then_some(Vanished::Silent)
        }
    }

    /// Abandoned requests that roll back are a breach and were looked at before. In the bake there is nothing to compare
    /// the other signs with, so they hold and page.
    pub(super) fn act_on_vanished(&mut self, now: Timestamp) -> Option<Action> {
        let vanished = self.vanishes();
        let acts = vanished.filter(|v| (*v == Vanished::Abandoned || !self.step_weight().is_full()) && !self.frozen);
        match (acts, self.terms.policies.vanished) {
            (Some(v), Then::RollBack) => return Some(self.roll_back(now, vec![Reason::Vanished(v)])),
            (Some(v), Then::Ask) if self.pause.is_none() => {
                return Some(self.ask_person(now, Level::Page, super::texts::vanished(v)));
            }
            _ => {}
        }
        None
    }

    /// The canary has weight and gets no requests: never a pass.
    pub(super) fn no_requests(&self) -> bool {
        let Some(tick) = self.last.as_ref().filter(|t| self.judges_step(t)) else { return false };
        let none = tick.judgement.counts.is_some_and(|c| c.canary.total <= 0.0);
        let watch = &self.vanished;
        let long = tick.judgement.clock.canary_requests <= 0.0 || watch.idle_expected >= IDLE_EXPECTED || watch.idle >= TICKS;
        let due = !self.weight.is_zero() && self.share_due().is_some_and(|due| !due.is_zero());
        due && self.terms.mode == Mode::Enforce && none && long
    }

    /// At 0 %: every process of the canary is silent, so it is not ready for traffic.
    pub(super) fn not_ready(&self) -> bool {
        self.at_step() && self.weight.is_zero() && self.vanished.silent > 0
    }
}
