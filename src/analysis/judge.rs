//! The judge of one rollout: the order inside a poll (STATISTICS 7), as a list of named steps.

use super::bake::BakeProcess;
use super::clock::Clock;
use super::estimate::StepSums;
use super::history::{self, Past, sum_of, tails_of};
use super::labels::{Degraded, SharedState};
use super::limits::Limit;
use super::metric::Metric;
use super::seen::{Counters, Seen};
use super::series::{BySet, Own, Series, SeriesKey};
use super::setup::{self, JudgeError, KeptSums, Parts};
use crate::model::{Advance, Buckets, History, JudgeSpec, Judgement, Labels, Method, PerArm, Poll, StepTime, Timestamp};
use crate::stats::gross::{self, Gross};
use crate::stats::latency::LADDER_MAX;
use crate::stats::load::LoadFit;
use arrayvec::ArrayVec;

/// Most stretches of polls named in the report as left out while the rollout ran; the last one grows when they are used up.
pub(super) const INCIDENTS_MAX: usize = 8;

/// Numbers that never change after the start.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) dt_s: f64,
    pub(super) method: Method,
    pub(super) steps: Vec<StepTime>,
    pub(super) advance: Advance,
    pub(super) min_requests: f64,
    pub(super) cpu_load_rule: bool,
    pub(super) bounds: Vec<f64>,
    pub(super) fit: Option<LoadFit>,
    pub(super) ln_rollback: f64,
    pub(super) ln_ok: f64,
    pub(super) ln_limit: f64,
    pub(super) warm_until_s: f64,
    pub(super) blind_s: f64,
}

/// What a weight means for judging (7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// 0 %: only time counts.
    Idle,
    /// Two arms.
    Compare,
    /// 100 %: the canary alone.
    Bake,
}

/// The step's clock and count.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StepMemory {
    pub(super) index: Option<u32>,
    pub(super) counted_s: f64,
    pub(super) canary_requests: f64,
}

/// The judge of one rollout. Fed every poll in order; its answers are a function of them alone.
#[derive(Clone, Debug)]
pub struct Judge {
    pub(super) set: Settings,
    pub(super) metrics: Vec<Metric>,
    pub(super) sums: Vec<StepSums>,
    pub(super) step_rows: PerArm<Buckets>,
    pub(super) limits: Vec<Limit>,
    pub(super) series: Vec<Series>,
    pub(super) degraded: Vec<Degraded>,
    pub(super) bakes: Vec<BakeProcess>,
    /// Names of the metrics, for sentences.
    pub(super) names: Vec<String>,
    /// Polls of the history left out.
    pub(super) left_out: Vec<usize>,
    pub(super) warnings: Vec<String>,
    pub(super) n_lim: usize,
    pub(super) gross: Gross,
    pub(super) abandoned: Gross,
    pub(super) own_abandoned: Own,
    pub(super) own_rows: BySet<Buckets>,
    pub(super) setup_rows: Buckets,
    pub(super) tails: Option<ArrayVec<f64, LADDER_MAX>>,
    pub(super) bake_rate: Option<f64>,
    pub(super) baking: bool,
    pub(super) counters: Counters,
    pub(super) shared: SharedState,
    pub(super) labels: Labels,
    /// Was the last poll calm?
    pub(super) calm: bool,
    pub(super) start: Option<Timestamp>,
    pub(super) first: Option<Timestamp>,
    pub(super) last: Option<Timestamp>,
    pub(super) counts_from_s: f64,
    pub(super) step: StepMemory,
    pub(super) canary_pods: Option<u32>,
    pub(super) total: f64,
    pub(super) total_max: f64,
    pub(super) worst: Option<usize>,
    /// Stretches of polls that were not calm.
    pub(super) incidents: ArrayVec<(Timestamp, Timestamp), INCIDENTS_MAX>,
}

impl Judge {
    /// A judge for one rollout of a rule, with the baseline's past. What an operator should know about it stands in
    /// [`Judge::warnings`].
    ///
    /// # Errors
    /// If the rule cannot be judged at all (see [`JudgeError`]).
    pub fn new(spec: &JudgeSpec, history: &History) -> Result<Self, JudgeError> {
        Self::with_sums(spec, history, &KeptSums::new())
    }

    /// The same with the dispersion kept from an earlier rollout ([`Judge::sums`]), used where no history can be read.
    ///
    /// # Errors
    /// As [`Judge::new`].
    pub fn with_sums(spec: &JudgeSpec, history: &History, kept: &KeptSums) -> Result<Self, JudgeError> {
        setup::check(spec)?;
        let past = history::read(spec, history);
        let mut set = Settings::of(spec, &past);
        let Parts { metrics, sums, limits, series, warnings, n_lim } = setup::build(spec, &set, &past, kept)?;
        set.ln_limit = (n_lim as f64 / spec.budget.limit).ln();
        let requests = series.iter().find(|s| s.key == SeriesKey::Requests);
        if requests.map_or(past.requests.is_none(), Series::is_learning) {
            set.warm_until_s = spec.method.burn_in_s;
        }
        let bounds = spec.bounds_ms.len();
        let none = sum_of(std::iter::empty(), bounds);
        let tails = past.latency_rows(bounds).filter(|_| bounds > 0).map(|sum| tails_of(&sum));
        let counted = metrics.len() + limits.len() + 1;
        let mut judge = Self {
            set,
            metrics,
            sums,
            step_rows: PerArm { baseline: none.clone(), canary: none.clone() },
            limits,
            series,
            degraded: Vec::with_capacity(counted),
            bakes: Vec::with_capacity(counted),
            left_out: past.left_out,
            names: spec.metrics.iter().map(|m| m.name.clone()).collect(),
            warnings,
            n_lim,
            gross: Gross::new(gross::NEED_MAX),
            abandoned: Gross::new(gross::NEED_MAX),
            own_abandoned: Own::default(),
            own_rows: BySet { calm: none.clone(), unheld: none.clone() },
            setup_rows: none,
            tails,
            bake_rate: None,
            baking: false,
            counters: Counters::default(),
            shared: SharedState::default(),
            labels: Labels { calm: true, ..Labels::default() },
            calm: true,
            start: None,
            first: None,
            last: None,
            counts_from_s: 0.0,
            step: StepMemory::default(),
            canary_pods: None,
            total: 0.0,
            total_max: 0.0,
            worst: None,
            incidents: ArrayVec::new(),
        };
        judge.freeze(false);
        let need = judge.series_of(SeriesKey::Requests).and_then(|s| s.phi_0).map_or(gross::NEED_MAX, gross::need);
        (judge.gross, judge.abandoned) = (Gross::new(need), Gross::new(need));
        Ok(judge)
    }

    /// Fixes the start of tick 0 instead of waiting for the canary's first requests. For replays of records that begin later.
    pub fn start_at(&mut self, start: Timestamp) {
        self.start = Some(start);
    }

    /// From sample to verdict. `out` is overwritten. A poll for a tick already judged changes nothing: `out.duplicate`, and a
    /// reason to keep the step.
    pub fn poll(&mut self, poll: &Poll, out: &mut Judgement) {
        if self.last.is_some_and(|last| poll.at <= last) {
            return self.refuse_duplicate(poll, out);
        }
        let stage = self.stage(poll.step);
        let seen = self.counters.pair(poll, self.set.bounds.len(), stage == Stage::Bake);
        self.open(poll, out, stage);
        let clock = self.begin_tick(poll, stage);
        self.change_limits(&poll.changes, clock.as_ref());
        match clock {
            None => self.wait(poll, stage, &seen, out),
            Some(clock) => self.judge(poll, stage, &clock, &seen, out),
        }
        self.last = Some(poll.at);
    }

    fn judge(&mut self, poll: &Poll, stage: Stage, clock: &Clock, seen: &Seen, out: &mut Judgement) {
        self.begin_step(clock);
        match stage {
            Stage::Idle => self.idle(poll, clock, out),
            Stage::Compare => {
                self.look_back();
                self.gross_failure(seen);
                self.compare(poll, clock, seen);
                self.step_limits(poll, clock, seen);
                self.step_labels(poll, clock, seen);
                self.promote_below(clock, seen);
                self.decide(poll, clock, seen, out);
                self.remember(clock, seen);
            }
            Stage::Bake => {
                self.look_back();
                self.begin_bake(clock);
                self.gross_failure(seen);
                self.step_bake(poll, clock, seen);
                self.decide_bake(poll, clock, seen, out);
            }
        }
        if seen.requests.is_some() {
            self.counts_from_s = clock.t_s;
        }
        self.fill(stage, out);
    }
}

impl Judge {
    pub(super) fn series_of(&self, key: SeriesKey) -> Option<&Series> {
        self.series.iter().find(|s| s.key == key)
    }
}

impl Settings {
    fn of(spec: &JudgeSpec, past: &Past) -> Self {
        let (dt_s, m, b) = (spec.interval.as_secs_f64(), spec.method, &spec.budget);
        Self {
            dt_s,
            method: m,
            steps: spec.steps.clone(),
            advance: spec.advance,
            min_requests: f64::from(spec.min_requests),
            cpu_load_rule: spec.cpu_load_rule,
            bounds: spec.bounds_ms.clone(),
            fit: past.fit,
            ln_rollback: (2f64.powi(spec.incarnation.min(1000) as i32) / b.rollback).ln(),
            ln_ok: -b.ok.ln(),
            ln_limit: f64::INFINITY,
            warm_until_s: m.warm_up_s,
            blind_s: (3.0 * dt_s).max(m.blind_s),
        }
    }
}
