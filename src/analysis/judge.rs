//! The judge of one rollout: the order inside a poll (STATISTICS 7), as a list of named steps.

use super::bake::BakeProcess;
use super::clock::{Clock, EPS_S};
use super::combine;
use super::errors::Evidence;
use super::estimate::StepSums;
use super::gate::{self, StepState, asks_for_proof};
use super::history::{self, Past, sum_of, tails_of};
use super::labels::{self, Degraded, LEVEL_MAX, SharedState, SharedTimes};
use super::latency::{SETUP_REQUESTS, Since};
use super::limits::{Limit, LimitTest};
use super::metric::{Metric, Test};
use super::seen::{self, Counters, Seen};
use super::series::{BySet, Own, Series, SeriesId, SeriesKey, rate};
use super::setup::{self, JudgeError, KeptSums, Parts};
use crate::model::{
    Advance, Arm, Blind, Breach, Buckets, History, JudgeSpec, Judgement, Keep, Labels, LimitKind, Method, MetricKind, PerArm, Poll,
    StepTime, Timestamp,
};
use crate::stats::counts::TwoArms;
use crate::stats::gross::{self, Gross};
use crate::stats::latency::{LADDER_MAX, stretch_ratio};
use crate::stats::load::{self, LoadFit, LoadKind, LoadRatio};
use arrayvec::ArrayVec;

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
enum Stage {
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
    index: Option<u32>,
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
    pub(super) past: Past,
    pub(super) names: Vec<String>,
    pub(super) warnings: Vec<String>,
    pub(super) n_lim: usize,
    pub(super) gross: Gross,
    abandoned: Gross,
    own_abandoned: Own,
    own_rows: BySet<Buckets>,
    setup_rows: Buckets,
    pub(super) tails: Option<ArrayVec<f64, LADDER_MAX>>,
    pub(super) bake_rate: Option<f64>,
    baking: bool,
    counters: Counters,
    shared: SharedState,
    pub(super) labels: Labels,
    /// Was the last poll calm?
    calm: bool,
    start: Option<Timestamp>,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    counts_from_s: f64,
    pub(super) step: StepMemory,
    canary_pods: Option<u32>,
    pub(super) total: f64,
    pub(super) total_max: f64,
    pub(super) worst: Option<usize>,
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
            past,
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
        match self.begin_tick(poll, stage) {
            None => self.wait(poll, &seen, out),
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
                self.step_labels(clock, seen);
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
        self.fill(stage == Stage::Bake, out);
    }
}

// ---- time

impl Judge {
    fn stage(&self, step: u32) -> Stage {
        match self.plan(step).weight {
            w if w.is_zero() => Stage::Idle,
            w if w.is_full() => Stage::Bake,
            _ => Stage::Compare,
        }
    }

    /// A step beyond the last is the last.
    fn plan(&self, step: u32) -> StepTime {
        let last = self.set.steps.len().saturating_sub(1);
        self.set.steps[(step as usize).min(last)]
    }

    fn interval_ms(&self) -> i64 {
        (self.set.dt_s * 1e3).round() as i64
    }

    fn refuse_duplicate(&self, poll: &Poll, out: &mut Judgement) {
        out.at = poll.at;
        out.step = poll.step;
        out.duplicate = true;
        out.rollback.clear();
        out.keep.clear();
        out.keep.push(Keep::Blind);
    }

    /// Clears `out` for this poll.
    fn open(&mut self, poll: &Poll, out: &mut Judgement, stage: Stage) {
        *out = Judgement::empty(poll.at, poll.step);
        out.bake = stage == Stage::Bake;
        out.ln_rollback = self.set.ln_rollback;
        out.ln_ok = self.set.ln_ok;
    }

    /// Tick 0 is the first poll whose canary has requests while it is meant to; before it there is nothing to judge, except
    /// that the time of a step without traffic counts.
    fn begin_tick(&mut self, poll: &Poll, stage: Stage) -> Option<Clock> {
        let opened = Timestamp::from_millis(poll.at.as_millis() - self.interval_ms());
        let first = *self.first.get_or_insert(opened);
        if self.start.is_none() && stage != Stage::Idle && seen::canary_has_traffic(poll, self.set.bounds.len()) {
            self.start = Some(opened);
            self.step.index = None;
            for m in &mut self.metrics {
                (m.last_used_s, m.blind) = (0.0, false);
            }
        }
        if self.start.is_none() && stage != Stage::Idle {
            self.step = StepMemory::default();
            return None;
        }
        let t_s = seconds(self.start.unwrap_or(first), poll.at);
        let new_step = self.step.index != Some(poll.step);
        self.step.index = Some(poll.step);
        Some(Clock::new(t_s, self.set.dt_s, new_step, self.set.method.onset_s))
    }

    fn begin_step(&mut self, clock: &Clock) {
        if clock.new_step {
            self.step.counted_s = 0.0;
            self.step.canary_requests = 0.0;
            self.sums.iter_mut().for_each(StepSums::reset);
            for arm in Arm::BOTH {
                self.step_rows[arm].iter_mut().for_each(|v| *v = 0.0);
            }
        }
    }

    /// Counted time of a step begins at the start of its first poll; a stopped interval does not count.
    fn count_time(&mut self, poll: &Poll, clock: &Clock, stop: bool) {
        let elapsed = self.last.map_or(self.set.dt_s, |last| seconds(last, poll.at));
        let elapsed = if clock.new_step { elapsed.min(self.set.dt_s) } else { elapsed };
        if !stop && poll.counts_time {
            self.step.counted_s += elapsed;
        }
    }

    /// No canary request yet.
    fn wait(&mut self, poll: &Poll, seen: &Seen, out: &mut Judgement) {
        let t_s = self.first.map_or(0.0, |first| seconds(first, poll.at));
        self.look_before(poll, seen, t_s);
        if self.metrics.iter().any(|m| m.required && !m.used) {
            out.keep.push(Keep::Blind);
        }
        out.keep.extend([Keep::FewRequests, Keep::Time]);
        self.fill(out.bake, out);
        out.t_s = None;
        out.clock.for_s = self.plan(poll.step).for_s;
    }

    fn look_before(&mut self, poll: &Poll, seen: &Seen, t_s: f64) {
        let (bounds, blind_s) = (self.set.bounds.len(), self.set.blind_s);
        for m in &mut self.metrics {
            let usable = if m.is_counts() { seen.counts_usable(poll, m.kind, bounds, false) } else { both(poll, m.kind).map(|_| ()) };
            m.look(t_s, usable, blind_s);
        }
    }

    /// 0 %: only time counts; an arm without intended traffic is never blind.
    fn idle(&mut self, poll: &Poll, clock: &Clock, out: &mut Judgement) {
        for m in &mut self.metrics {
            (m.last_used_s, m.used, m.blind) = (clock.t_s, false, false);
        }
        self.count_time(poll, clock, false);
        let for_s = self.plan(poll.step).for_s;
        if self.step.counted_s < for_s - EPS_S {
            out.keep.push(Keep::Time);
        }
        out.clock.for_s = for_s;
        out.t_s = self.start.map(|_| clock.t_s);
    }
}

/// Seconds from `a` to `b`; negative if `b` is earlier.
fn seconds(a: Timestamp, b: Timestamp) -> f64 {
    (b.as_millis() - a.as_millis()) as f64 / 1e3
}

/// Both arms' levels of a gauge, or why not.
fn both(poll: &Poll, kind: MetricKind) -> Result<PerArm<f64>, Blind> {
    let canary = seen::gauge(&poll.arms.canary, kind)?;
    Ok(PerArm { baseline: seen::gauge(&poll.arms.baseline, kind)?, canary })
}

// ---- evidence

impl Judge {
    /// 3: the dispersion of this poll comes from the past.
    fn look_back(&mut self) {
        let calm = self.calm;
        for s in self.series.iter_mut().filter(|s| s.active) {
            s.phi = s.estimate(calm);
        }
    }

    /// 3.1, on failed requests and on those whose client left.
    fn gross_failure(&mut self, seen: &Seen) {
        if !self.metrics.iter().any(|m| m.kind == MetricKind::Errors) {
            return;
        }
        if let Some(x) = &seen.requests {
            self.gross.step(x);
        }
        if let Some(x) = &seen.abandoned {
            self.abandoned.step(x);
        }
    }

    /// 2, 4, 6, 7: evidence of every metric, and all of it together.
    fn compare(&mut self, poll: &Poll, clock: &Clock, seen: &Seen) {
        self.pods_changed(poll, clock);
        let load = self.load(poll, clock, seen);
        let (series, bounds) = (&self.series, self.set.bounds.len());
        for (m, sums) in self.metrics.iter_mut().zip(&mut self.sums) {
            let gauge = PerArm::from_fn(|arm| seen::gauge(&poll.arms[arm], m.kind).ok());
            let mut seen_now = both(poll, m.kind).map(|_| ());
            m.evidence = match &mut m.test {
                Test::Counts(id, t) => t.step(clock, seen.at(series[id.0].key).as_ref(), series[id.0].phi.used),
                Test::Latency(t) => t.step(clock, |j| seen.at(SeriesKey::Tail(j)), |id| series[id.0].phi.used),
                Test::Gauge(t) => {
                    let ratio = if m.kind == MetricKind::Cpu { load } else { Ok(LoadRatio::PLAIN) };
                    seen_now = seen_now.and(ratio.map(|_| ()));
                    t.step(clock, gauge.baseline, gauge.canary, &ratio.unwrap_or(LoadRatio::SKIP))
                }
                Test::Leak(t) => t.step(clock, gauge.baseline, gauge.canary),
                Test::LimitsOnly => Evidence::default(),
            };
            match m.kind {
                MetricKind::Errors => sums.add_counts(seen, SeriesKey::Requests),
                MetricKind::CustomCounts(i) => sums.add_counts(seen, SeriesKey::Custom(i)),
                MetricKind::Latency(_) => {}
                _ => sums.add_levels(gauge),
            }
            if m.is_counts() {
                seen_now = seen.counts_usable(poll, m.kind, bounds, false);
            }
            m.look(clock.t_s, seen_now, self.set.blind_s);
        }
        self.add_step_rows(seen);
        (self.total, self.worst) = combine::total(self.metrics.iter().map(|m| (m.ln_share, m.evidence.ln_cut)));
        self.total_max = self.total_max.max(self.total);
    }

    fn add_step_rows(&mut self, seen: &Seen) {
        if let Some(rows) = &seen.rows {
            for arm in Arm::BOTH {
                self.step_rows[arm].iter_mut().zip(&rows[arm]).for_each(|(a, b)| *a += b);
            }
        }
    }

    /// 6.1, 11: a change of the canary's pod count primes every gauge.
    fn pods_changed(&mut self, poll: &Poll, clock: &Clock) {
        let Some(pods) = poll.arms.canary.pods else { return };
        if let Some(before) = self.canary_pods.replace(pods).filter(|before| *before != pods) {
            for m in &mut self.metrics {
                match &mut m.test {
                    Test::Gauge(t) => t.reprime(),
                    Test::Leak(t) => t.reprime(clock, pods > before),
                    _ => {}
                }
            }
        }
    }

    /// 6, CPU at unequal load: requests per second and ready pod of the interval this poll carries.
    fn load(&self, poll: &Poll, clock: &Clock, seen: &Seen) -> Result<LoadRatio, Blind> {
        if !self.set.cpu_load_rule {
            return Ok(LoadRatio::PLAIN);
        }
        let pods = |arm: Arm| poll.arms[arm].pods.filter(|n| *n > 0).map(f64::from).ok_or(Blind::PodsUnknown);
        let (pods_b, pods_c) = (pods(Arm::Baseline)?, pods(Arm::Canary)?);
        seen.counts_usable(poll, MetricKind::Errors, 0, false)?;
        let x = seen.requests.ok_or(Blind::NoSeries)?;
        let seconds = clock.t_s - self.counts_from_s;
        let ratio = load::ratio(self.set.fit.as_ref(), x.n_b / seconds / pods_b, x.n_c / seconds / pods_c);
        if ratio.kind == LoadKind::Skip { Err(Blind::LoadTooDifferent) } else { Ok(ratio) }
    }

    /// 7.1: limits, except promote-below, which comes after the labels.
    fn step_limits(&mut self, poll: &Poll, clock: &Clock, seen: &Seen) {
        let load = self.load(poll, clock, seen);
        self.each_limit(poll, clock, seen, load, false);
    }

    fn each_limit(&mut self, poll: &Poll, clock: &Clock, seen: &Seen, load: Result<LoadRatio, Blind>, bake: bool) {
        let series = &self.series;
        for l in &mut self.limits {
            let kind = self.metrics[l.metric].kind;
            if let LimitTest::Gauge(g) = &mut l.test {
                let level = |arm: Arm| seen::gauge(&poll.arms[arm], kind).ok();
                let ratio = if kind == MetricKind::Cpu && !bake { load.unwrap_or(LoadRatio::SKIP) } else { LoadRatio::PLAIN };
                g.step(clock, level(Arm::Baseline), level(Arm::Canary), &ratio, bake);
            } else if let Some(SeriesId(i)) = l.series()
                && !(bake && l.kind == LimitKind::RollbackAbove)
            {
                let s = &series[i];
                l.step(clock, &seen.at(s.key).unwrap_or(TwoArms::NONE), &s.phi, s.phi_0, self.set.ln_limit);
            }
        }
    }

    /// 7.2.
    fn step_labels(&mut self, clock: &Clock, seen: &Seen) {
        for d in &mut self.degraded {
            let s = &self.series[d.series.0];
            d.step(&seen.at(s.key).unwrap_or(TwoArms::NONE), s.phi_0.unwrap_or(1.0));
        }
        let times = SharedTimes { hold_s: self.set.method.shared_hold_s, page_s: self.set.method.shared_page_s };
        self.labels = labels::join(clock, &self.limits, &self.degraded, &mut self.shared, times);
        self.calm = self.labels.calm;
    }

    /// 7.1: an incident of both arms says nothing about the canary, so only calm polls count.
    fn promote_below(&mut self, clock: &Clock, seen: &Seen) {
        for l in &mut self.limits {
            if let LimitTest::Promote(p) = &mut l.test {
                let s = p.series.map(|id| &self.series[id.0]);
                let x = s.filter(|_| self.calm).and_then(|s| seen.at(s.key)).unwrap_or(TwoArms::NONE);
                p.step(clock, &x, s.map_or(1.0, |s| s.phi.base));
            }
        }
    }
}

// ---- decision

impl Judge {
    fn decide(&mut self, poll: &Poll, clock: &Clock, seen: &Seen, out: &mut Judgement) {
        self.rollback_reasons(out);
        let blind = self.metrics.iter().any(|m| m.required && m.blind);
        self.count_time(poll, clock, self.labels.hold || blind);
        self.step.canary_requests += seen.requests.map_or(0.0, |x| x.n_c);
        out.keep = gate::keeps(&self.step_state(poll, clock));
        out.t_s = Some(clock.t_s);
        out.counts = seen.requests.map(arms);
        out.clock.for_s = self.plan(poll.step).for_s;
    }

    /// All that hold, the one shown first.
    fn rollback_reasons(&self, out: &mut Judgement) {
        if let Some(worst) = self.worst.filter(|_| self.total >= self.set.ln_rollback) {
            out.rollback.push(Breach::Metric(worst as u8));
        }
        for l in self.limits.iter().filter(|l| l.kind == LimitKind::RollbackAbove) {
            let holds = match &l.test {
                LimitTest::Rollback(r) => r.crossed,
                LimitTest::Gauge(g) => g.attributed && !self.labels.hold,
                _ => false,
            };
            if holds {
                out.rollback.push(Breach::Limit(l.metric as u8));
            }
        }
        self.gross_reasons(out);
    }

    fn gross_reasons(&self, out: &mut Judgement) {
        if self.gross.hit() {
            out.rollback.push(Breach::Gross);
        }
        if self.abandoned.hit() {
            out.rollback.push(Breach::Abandoned);
        }
    }

    fn step_state(&self, poll: &Poll, clock: &Clock) -> StepState {
        let set = &self.set;
        let required = || self.metrics.iter().filter(|m| m.required);
        StepState {
            advance: set.advance,
            usable: required().all(|m| m.used),
            hold: self.labels.hold,
            suspicious: self.labels.suspicious,
            limit_breached: self.limits.iter().any(holds_step),
            ln_total: self.total,
            ln_rollback: set.ln_rollback,
            canary_requests: self.step.canary_requests,
            min_requests: set.min_requests,
            counted_s: self.step.counted_s,
            for_s: self.plan(poll.step).for_s,
            step_min_s: set.method.step_min_s,
            warm: clock.t_s >= set.warm_until_s - EPS_S,
            proven: required().all(|m| m.is_shown(set.ln_ok)),
            promote_blocks: self.limits.iter().any(|l| self.blocks(l)),
        }
    }

    fn blocks(&self, l: &Limit) -> bool {
        match &l.test {
            LimitTest::Promote(p) => p.state().blocks(self.set.ln_ok, asks_for_proof(self.set.advance), self.set.min_requests),
            LimitTest::Gauge(g) => l.kind == LimitKind::PromoteBelow && g.breach.canary,
            _ => false,
        }
    }

    /// Is this metric's promote-below, if any, satisfied?
    pub(super) fn below(&self, metric: usize) -> bool {
        self.limits.iter().filter(|l| l.metric == metric && l.kind == LimitKind::PromoteBelow).all(|l| match &l.test {
            LimitTest::Promote(p) => p.ln_ok >= self.set.ln_ok,
            LimitTest::Gauge(g) => !g.breach.canary,
            _ => true,
        })
    }

    /// After use: this poll enters dispersion, the baseline's own level and, without history, what is frozen later.
    fn remember(&mut self, clock: &Clock, seen: &Seen) {
        let (calm, hold) = (self.calm, self.labels.hold);
        let burnt_in = clock.t_s >= self.set.method.burn_in_s - EPS_S;
        let waits = self.waits_for_tails();
        for s in &mut self.series {
            let Some(x) = seen.at(s.key) else { continue };
            if s.active || waits {
                s.add(&x, calm);
            }
            if calm {
                s.own.calm.add(x.x_b, x.n_b);
            }
            if !hold {
                s.own.unheld.add(x.x_b, x.n_b);
            }
        }
        self.remember_rows(seen);
        if let (Some(x), false) = (&seen.abandoned, hold) {
            self.own_abandoned.add(x.x_b, x.n_b);
        }
        for s in self.series.iter_mut().filter(|s| !matches!(s.key, SeriesKey::Tail(_))) {
            s.burn_in(seen.at(s.key).as_ref(), burnt_in);
        }
        if burnt_in {
            self.live_setup(clock);
            self.freeze(true);
        }
    }

    fn remember_rows(&mut self, seen: &Seen) {
        let Some(rows) = &seen.rows else { return };
        let add = |sum: &mut Buckets| sum.iter_mut().zip(&rows.baseline).for_each(|(a, b)| *a += b);
        if self.calm {
            add(&mut self.own_rows.calm);
        }
        if !self.labels.hold {
            add(&mut self.own_rows.unheld);
        }
        if self.tails.is_none() {
            add(&mut self.setup_rows);
        }
    }

    fn waits_for_tails(&self) -> bool {
        self.tails.is_none() && self.metrics.iter().any(|m| m.latency().is_some())
    }

    /// 4, without history: zones from the live baseline, once the burn-in is over and enough was seen.
    fn live_setup(&mut self, clock: &Clock) {
        let enough = self.setup_rows.last().is_some_and(|n| *n >= SETUP_REQUESTS);
        if !self.waits_for_tails() || !enough {
            return;
        }
        let tails = tails_of(&self.setup_rows);
        let burn_in_s = self.set.method.burn_in_s;
        // too few requests at the end of the burn-in: then time counts from the setup
        let late = clock.start_s >= burn_in_s - EPS_S;
        let since = Since { main_s: if late { clock.t_s } else { burn_in_s }, ok_s: clock.t_s, guard_s: clock.t_s };
        let (series, bounds) = (&mut self.series, &self.set.bounds);
        for m in &mut self.metrics {
            if let Test::Latency(t) = &mut m.test {
                t.set_up(bounds, &tails, since, |j| id_of(series, SeriesKey::Tail(j)));
                for b in t.frozen().map_or(&[][..], |f| &f.zone) {
                    series[b.series.0].active = true;
                }
            }
        }
        self.tails = Some(tails);
    }

    /// 7.2: `phi_0` and the levels of `degraded`, as soon as they can be known.
    fn freeze(&mut self, burnt_in: bool) {
        for (i, s) in self.series.iter_mut().enumerate() {
            s.freeze_phi_0(burnt_in);
            let known = self.degraded.iter().any(|d| d.series == SeriesId(i) && d.metric.is_none());
            if let (Some(_), Some(p), false) = (s.phi_0, s.p_hist, known) {
                self.degraded.push(Degraded::new(None, SeriesId(i), p));
            }
        }
        for (i, m) in self.metrics.iter().enumerate() {
            let Some(f) = m.latency().and_then(|t| t.frozen()) else { continue };
            let known = self.degraded.iter().any(|d| d.metric == Some(i));
            if let (Some(tails), Some(_), false) = (&self.tails, self.series[f.series.0].phi_0, known) {
                self.degraded.push(Degraded::new(Some(i), f.series, tails[f.primary]));
            }
        }
    }
}

/// A page limit crossed for the canary, or a rollback or page rule of a gauge in breach there. A crossed rollback-above of
/// counts is a rollback, not a hold.
fn holds_step(l: &Limit) -> bool {
    match &l.test {
        LimitTest::Alarm(a) => l.kind == LimitKind::PageAbove && a.shown_crossed[Arm::Canary],
        LimitTest::Gauge(g) => l.is_breach_level() && g.breach.canary,
        _ => false,
    }
}

fn id_of(series: &[Series], key: SeriesKey) -> SeriesId {
    SeriesId(series.iter().position(|s| s.key == key).unwrap_or(0))
}

fn arms(x: TwoArms) -> PerArm<crate::model::Counts> {
    use crate::model::Counts;
    PerArm { baseline: Counts { total: x.n_b, bad: x.x_b }, canary: Counts { total: x.n_c, bad: x.x_c } }
}

// ---- the bake

impl Judge {
    /// 7.3: levels and dispersion are frozen when it begins.
    fn begin_bake(&mut self, clock: &Clock) {
        if self.baking {
            return;
        }
        self.baking = true;
        let requests = self.series_of(SeriesKey::Requests);
        self.bake_rate = requests.and_then(own_rate);
        self.gross.refer_to(self.bake_rate);
        self.abandoned.refer_to((self.own_abandoned.n >= SETUP_REQUESTS).then(|| rate(self.own_abandoned.x, self.own_abandoned.n)));
        for i in 0..self.limits.len() {
            if let LimitTest::Rollback(r) = &self.limits[i].test {
                let (series, level) = (r.series, r.level());
                self.add_bake(self.limits[i].metric, false, series, level, clock.start_s);
            }
        }
        for counts_first in [true, false] {
            for i in 0..self.metrics.len() {
                if let Some((series, level)) = self.derived_level(i, counts_first) {
                    self.add_bake(i, true, series, level.min(LEVEL_MAX), clock.start_s);
                }
            }
        }
    }

    fn add_bake(&mut self, metric: usize, derived: bool, series: SeriesId, level: f64, start_s: f64) {
        let phi = self.series[series.0].estimate(true).base;
        self.bakes.push(BakeProcess::new(metric, derived, series, level, phi, start_s));
    }

    /// The level the bake derives for a compared metric: clearly worse than the baseline's own.
    fn derived_level(&self, metric: usize, counts: bool) -> Option<(SeriesId, f64)> {
        match (&self.metrics[metric].test, counts) {
            (Test::Counts(id, _), true) => Some((*id, labels::level(own_rate(&self.series[id.0])?))),
            (Test::Latency(t), false) => {
                let f = t.frozen()?;
                let own = self.own_rows.serving(self.series[f.series.0].forgets());
                let served = own.last().copied().unwrap_or(0.0);
                let tails = if served >= SETUP_REQUESTS { tails_of(own) } else { self.tails.clone()? };
                let r = stretch_ratio(&self.set.bounds, &tails, f.primary, t.stretches.bake);
                Some((f.series, r * tails[f.primary]))
            }
            _ => None,
        }
    }

    fn step_bake(&mut self, poll: &Poll, clock: &Clock, seen: &Seen) {
        for b in &mut self.bakes {
            let x = seen.at(self.series[b.series.0].key).unwrap_or(TwoArms::NONE);
            b.step(clock, &x, self.set.ln_limit);
        }
        self.each_limit(poll, clock, seen, Ok(LoadRatio::PLAIN), true);
        let bounds = self.set.bounds.len();
        for (m, sums) in self.metrics.iter_mut().zip(&mut self.sums) {
            let canary = seen::gauge(&poll.arms.canary, m.kind);
            let usable = if m.is_counts() { seen.counts_usable(poll, m.kind, bounds, true) } else { canary.map(|_| ()) };
            m.look(clock.t_s, usable, self.set.blind_s);
            match m.kind {
                MetricKind::Errors => sums.add_counts(seen, SeriesKey::Requests),
                MetricKind::CustomCounts(i) => sums.add_counts(seen, SeriesKey::Custom(i)),
                MetricKind::Latency(_) => {}
                _ => sums.add_levels(PerArm { baseline: None, canary: canary.ok() }),
            }
        }
        self.add_step_rows(seen);
    }

    fn decide_bake(&mut self, poll: &Poll, clock: &Clock, seen: &Seen, out: &mut Judgement) {
        for b in self.bakes.iter().filter(|b| b.crossed) {
            out.rollback.push(Breach::Bake { metric: b.metric as u8, derived: b.derived });
        }
        for l in self.limits.iter().filter(|l| l.kind == LimitKind::RollbackAbove) {
            if matches!(&l.test, LimitTest::Gauge(g) if g.attributed) {
                out.rollback.push(Breach::Limit(l.metric as u8));
            }
        }
        self.gross_reasons(out);
        let required = || self.metrics.iter().filter(|m| m.required && m.is_counts());
        let (usable, blind) = (required().all(|m| m.used), required().any(|m| m.blind));
        self.count_time(poll, clock, blind);
        self.step.canary_requests += seen.requests.map_or(0.0, |x| x.n_c);
        let for_s = self.plan(poll.step).for_s;
        if !usable {
            out.keep.push(Keep::Blind);
        }
        if self.step.counted_s < for_s - EPS_S {
            out.keep.push(Keep::Time);
        }
        out.t_s = Some(clock.t_s);
        out.counts = seen.requests.map(arms);
        out.clock.for_s = for_s;
    }
}

/// The baseline's rate in this rollout, over the polls whose sums serve; with too few requests the history's.
fn own_rate(s: &Series) -> Option<f64> {
    let own = s.own.serving(s.forgets());
    if own.n >= SETUP_REQUESTS { Some(rate(own.x, own.n)) } else { s.p_hist }
}

// ---- lookups

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
