//! `shared`, `hold`, calm polls and `suspicious`: when the canary is not to blame (STATISTICS 7.2, 3).

use super::clock::{Clock, EPS_S};
use super::limits::{Limit, LimitTest};
use super::series::SeriesId;
use crate::model::{Arm, Labels, LimitKind};
use crate::stats::counts::TwoArms;
use crate::stats::label::Label;

/// Levels of labels and of the bake never exceed this: a rate above it leaves nothing to test.
pub const LEVEL_MAX: f64 = 0.9;
/// A poll is calm when every `degraded` label stands below this.
const CALM_BELOW: f64 = 2.5;

/// `max(2 p, p + 0.1 pp)`, capped: clearly worse than its own past.
pub fn level(p_hist: f64) -> f64 {
    (2.0 * p_hist).max(p_hist + 1e-3).min(LEVEL_MAX)
}

/// `degraded(b)`: the baseline against its own past.
#[derive(Clone, Debug)]
pub struct Degraded {
    /// Position of its metric for a quantile; a count series has one whatever looks at it.
    pub metric: Option<usize>,
    /// Whose counts.
    pub series: SeriesId,
    /// The label.
    pub label: Label,
}

impl Degraded {
    /// Against the rate `p_hist` of its past.
    pub fn new(metric: Option<usize>, series: SeriesId, p_hist: f64) -> Self {
        Self { metric, series, label: Label::new(level(p_hist)) }
    }

    /// One poll of the baseline.
    pub fn step(&mut self, x: &TwoArms, phi_0: f64) {
        self.label.step(x.x_b, x.n_b, phi_0);
    }
}

/// How long `hold` lasts.
#[derive(Clone, Copy, Debug)]
pub struct SharedTimes {
    /// It outlasts `shared` by this.
    pub hold_s: f64,
    /// Unbroken, it pages after this.
    pub page_s: f64,
}

/// The memory of `shared`.
#[derive(Clone, Copy, Debug, Default)]
pub struct SharedState {
    since_s: Option<f64>,
    last_s: Option<f64>,
}

impl SharedState {
    /// One poll: is the state `hold`, and does it page?
    pub fn step(&mut self, clock: &Clock, shared: bool, times: SharedTimes) -> (bool, bool) {
        if shared {
            self.last_s = Some(clock.t_s);
            self.since_s.get_or_insert(clock.t_s);
        }
        let hold = shared || self.last_s.is_some_and(|last| clock.t_s - last < times.hold_s - EPS_S);
        if !hold {
            self.since_s = None;
        }
        let page = hold && self.since_s.is_some_and(|since| clock.t_s - since >= times.page_s - EPS_S);
        (hold, page)
    }
}

/// The labels of one poll, from the limits (already stepped) and the `degraded` ones (likewise).
pub fn join(clock: &Clock, limits: &[Limit], degraded: &[Degraded], state: &mut SharedState, times: SharedTimes) -> Labels {
    let shared = degraded.iter().any(|d| d.label.on()) || limits.iter().any(breach_of_baseline);
    let (hold, page_shared) = state.step(clock, shared, times);
    let calm = !hold && degraded.iter().all(|d| d.label.value() < CALM_BELOW);
    let suspicious = !hold && limits.iter().any(is_suspicious);
    Labels { shared, hold, calm, suspicious, page_shared }
}

/// The baseline stands beyond a rollback or page level (gauges: is in breach of a rollback limit with the canary).
fn breach_of_baseline(limit: &Limit) -> bool {
    match &limit.test {
        LimitTest::Rollback(l) => l.labels.on()[Arm::Baseline],
        LimitTest::Alarm(l) => limit.is_breach_level() && l.labels.on()[Arm::Baseline],
        LimitTest::Gauge(l) => limit.kind == LimitKind::RollbackAbove && l.breach.canary && l.breach.baseline,
        LimitTest::Promote(_) => false,
    }
}

/// The canary stands beyond a rollback or page level, and its process has not crossed.
fn is_suspicious(limit: &Limit) -> bool {
    match &limit.test {
        LimitTest::Rollback(l) => l.labels.on()[Arm::Canary] && !l.crossed,
        LimitTest::Alarm(l) => limit.is_breach_level() && l.labels.on()[Arm::Canary] && !l.shown_crossed[Arm::Canary],
        LimitTest::Gauge(l) => limit.kind == LimitKind::RollbackAbove && l.breach.canary && !l.breach.baseline && !l.attributed,
        LimitTest::Promote(_) => false,
    }
}
