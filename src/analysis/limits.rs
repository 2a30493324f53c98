//! Absolute limits of the operator: one arm against a constant (STATISTICS 7.1).

use super::clock::Clock;
use super::gate::PromoteState;
use super::process::{HarmProcess, OkProcess};
use super::series::SeriesId;
use crate::model::{Arm, LimitKind, PerArm};
use crate::stats::counts::{LevelTest, TwoArms};
use crate::stats::dispersion::Phi;
use crate::stats::grid::{DOWN, K_DOWN, K_UP, UP};
use crate::stats::label::Label;
use crate::stats::load::{LoadKind, LoadRatio};
use crate::stats::sustained::Sustained;

/// The canary is blamed for a limit only where it also stands this much above the baseline.
const BLAME_RATIO: f64 = 1.2;
/// The same for a gauge.
const BLAME_GAUGE: f64 = 1.1;

/// Bad and all of one arm.
pub(super) fn arm_of(x: &TwoArms, arm: Arm) -> (f64, f64) {
    match arm {
        Arm::Baseline => (x.x_b, x.n_b),
        Arm::Canary => (x.x_c, x.n_c),
    }
}

/// State labels of both arms against one level (7.2).
#[derive(Clone, Debug)]
pub struct ArmLabels(PerArm<Label>);

impl ArmLabels {
    fn new(level: f64) -> Self {
        Self(PerArm::from_fn(|_| Label::new(level)))
    }

    fn step(&mut self, x: &TwoArms, phi_0: f64) {
        for arm in Arm::BOTH {
            let (bad, all) = arm_of(x, arm);
            self.0[arm].step(bad, all, phi_0);
        }
    }

    /// Which are on.
    pub fn on(&self) -> PerArm<bool> {
        self.0.as_ref().map(Label::on)
    }

    /// Their values.
    pub fn values(&self) -> PerArm<f64> {
        self.0.as_ref().map(Label::value)
    }
}

/// Rollback-above during the steps: attributed to the canary.
#[derive(Clone, Debug)]
pub struct RollbackLimit {
    /// Whose counts.
    pub series: SeriesId,
    /// Labels at its level.
    pub labels: ArmLabels,
    /// Evidence.
    pub process: HarmProcess<K_UP>,
    /// Has it crossed at this poll?
    pub crossed: bool,
    test: LevelTest<K_UP>,
}

impl RollbackLimit {
    /// At `level` (a fraction), from `since_s`.
    pub fn new(series: SeriesId, level: f64, since_s: f64) -> Self {
        let process = HarmProcess::new(&UP, since_s);
        Self { series, labels: ArmLabels::new(level), process, crossed: false, test: LevelTest::new(level, &UP) }
    }

    /// The level.
    pub fn level(&self) -> f64 {
        self.test.level()
    }

    fn step(&mut self, clock: &Clock, x: &TwoArms, phi: &Phi, threshold: f64) {
        let lf = || self.test.attributed_lfs(x, BLAME_RATIO, &UP, phi.used);
        self.crossed = self.process.step_cut(clock, x.n_c > 0.0, lf) >= threshold;
    }
}

/// Page-above or warn-above: each arm alone, no attribution; a page is about users, not about blame.
#[derive(Clone, Debug)]
pub struct AlarmLimit {
    /// Whose counts.
    pub series: SeriesId,
    /// Labels at its level.
    pub labels: ArmLabels,
    /// Evidence per arm.
    pub arms: PerArm<HarmProcess<K_UP>>,
    /// Crossed and not restarted since.
    pub crossed: PerArm<bool>,
    /// What evidence must reach.
    pub threshold: f64,
    /// The evidence of this poll, before a restart.
    pub shown: PerArm<(f64, f64)>,
    /// Crossed at this poll, before a restart.
    pub shown_crossed: PerArm<bool>,
    since_s: f64,
    test: LevelTest<K_UP>,
}

impl AlarmLimit {
    /// At `level`, error level `alpha`, from `since_s`.
    pub fn new(series: SeriesId, level: f64, alpha: f64, since_s: f64) -> Self {
        Self {
            series,
            labels: ArmLabels::new(level),
            arms: PerArm::from_fn(|_| HarmProcess::new(&UP, since_s)),
            crossed: PerArm::default(),
            threshold: -alpha.ln(),
            shown: PerArm::default(),
            shown_crossed: PerArm::default(),
            since_s,
            test: LevelTest::new(level, &UP),
        }
    }

    fn step(&mut self, clock: &Clock, x: &TwoArms, phi: &Phi) {
        for arm in Arm::BOTH {
            let (bad, all) = arm_of(x, arm);
            let ln_cut = self.arms[arm].step_cut(clock, all > 0.0, || self.test.lfs(bad, all, &UP, phi.base));
            self.shown[arm] = (self.arms[arm].ln_e(), ln_cut);
            self.crossed[arm] |= ln_cut >= self.threshold;
        }
        self.shown_crossed = self.crossed;
    }

    /// Labels, then the restart: when the label clears, or when a crossing whose label never came on has worn off (it would
    /// hold the step for ever).
    fn step_labels(&mut self, clock: &Clock, x: &TwoArms, phi_0: Option<f64>) {
        let Some(phi_0) = phi_0 else { return };
        let was = self.labels.on();
        self.labels.step(x, phi_0);
        let on = self.labels.on();
        for arm in Arm::BOTH {
            if was[arm] && !on[arm] || self.crossed[arm] && self.shown[arm].1 <= 0.0 {
                self.arms[arm] = HarmProcess::new(&UP, self.since_s.max(clock.t_s));
                self.crossed[arm] = false;
            }
        }
    }
}

/// Promote-below: the canary is shown to lie under the level in this step, from calm polls only.
#[derive(Clone, Debug)]
pub struct PromoteLimit {
    /// Whose counts; `None` if no bound of the ladder can prove it.
    pub series: Option<SeriesId>,
    /// Evidence for "below".
    pub ln_ok: f64,
    /// Bad in this step.
    pub x: f64,
    /// All in this step.
    pub n: f64,
    /// Dispersion in use.
    pub phi: f64,
    ok: OkProcess<K_DOWN>,
    test: LevelTest<K_DOWN>,
}

impl PromoteLimit {
    /// At `level`, from `since_s` on in each step.
    pub fn new(series: Option<SeriesId>, level: f64, since_s: f64) -> Self {
        let (ok, test) = (OkProcess::new(&DOWN, since_s), LevelTest::new(level, &DOWN));
        Self { series, ln_ok: 0.0, x: 0.0, n: 0.0, phi: 1.0, ok, test }
    }

    /// The level.
    pub fn level(&self) -> f64 {
        self.test.level()
    }

    /// One poll; `x` is empty unless it is usable and calm.
    pub fn step(&mut self, clock: &Clock, x: &TwoArms, phi_base: f64) {
        if clock.new_step {
            (self.x, self.n) = (0.0, 0.0);
        }
        self.x += x.x_c;
        self.n += x.n_c;
        self.phi = phi_base;
        self.ln_ok = self.ok.step(clock, || self.test.lfs(x.x_c, x.n_c, &DOWN, phi_base));
    }

    /// As the gate asks for it.
    pub fn state(&self) -> PromoteState {
        PromoteState { x: self.x, n: self.n, level: self.level(), ln_e: self.ln_ok, phi: self.phi }
    }
}

/// A limit on a gauge: a sustained rule, no alpha.
#[derive(Clone, Debug)]
pub struct GaugeLimit {
    since_s: f64,
    arms: PerArm<Sustained>,
    /// In breach.
    pub breach: PerArm<bool>,
    /// May the canary be blamed?
    pub attributed: bool,
    /// Canary over baseline at equal load, median over the values in use.
    pub ratio: Option<f64>,
    sign: f64,
}

impl GaugeLimit {
    /// At `level`, window `window_s`, values from `since_s` on. `lower_is_worse`: breach below it.
    pub fn new(level: f64, dt_s: f64, window_s: f64, since_s: f64, lower_is_worse: bool) -> Self {
        let sign = if lower_is_worse { -1.0 } else { 1.0 };
        let arms = PerArm::from_fn(|_| Sustained::new(sign * level, dt_s, window_s));
        Self { since_s, arms, breach: PerArm::default(), attributed: false, ratio: None, sign }
    }

    /// At another level, without what was seen before.
    fn begin_anew(&mut self, level: f64) {
        let limit = self.sign * level;
        self.arms.baseline.begin_anew(limit);
        self.arms.canary.begin_anew(limit);
        (self.breach, self.attributed, self.ratio) = (PerArm::default(), false, None);
    }

    /// One poll. What unequal load explains is not blamed on the canary; in the bake there is only the canary.
    pub fn step(&mut self, clock: &Clock, b: Option<f64>, c: Option<f64>, load: &LoadRatio, bake: bool) {
        let active = clock.active(self.since_s);
        let sign = self.sign;
        let ratio = match (b, c) {
            // a level of 0 is below a limit, and makes no ratio
            (Some(b), Some(c)) if load.kind != LoadKind::Skip && b > 0.0 && c > 0.0 => Some((c / b / load.ln_harm.exp()).powf(sign)),
            _ => None,
        };
        let point = |v: Option<f64>| v.filter(|_| active).map(|v| (sign * v, ratio));
        self.breach = PerArm { baseline: self.arms.baseline.step(clock.t_s, point(b)), canary: self.arms.canary.step(clock.t_s, point(c)) };
        self.ratio = self.arms.canary.median_ratio(clock.t_s);
        let blamed = bake || (!self.breach.baseline && self.ratio.is_some_and(|r| r > BLAME_GAUGE));
        self.attributed = self.breach.canary && blamed;
    }
}

/// What a limit is made of.
#[derive(Clone, Debug)]
pub enum LimitTest {
    /// Rollback-above on counts or a quantile.
    Rollback(Box<RollbackLimit>),
    /// Page-above or warn-above on counts or a quantile.
    Alarm(Box<AlarmLimit>),
    /// Promote-below on counts or a quantile.
    Promote(Box<PromoteLimit>),
    /// Any of the four on a gauge.
    Gauge(Box<GaugeLimit>),
}

/// One limit of the rule.
#[derive(Clone, Debug)]
pub struct Limit {
    /// Position of its metric.
    pub metric: usize,
    /// Which of the four.
    pub kind: LimitKind,
    /// In the metric's unit.
    pub level: f64,
    /// What it is made of.
    pub test: LimitTest,
}

impl Limit {
    /// Evidence and labels of a poll in the steps; promote-below comes after the labels of the whole poll.
    pub fn step(&mut self, clock: &Clock, x: &TwoArms, phi: &Phi, phi_0: Option<f64>, threshold: f64) {
        match &mut self.test {
            LimitTest::Rollback(l) => {
                l.step(clock, x, phi, threshold);
                if let Some(phi_0) = phi_0 {
                    l.labels.step(x, phi_0);
                }
            }
            LimitTest::Alarm(l) => {
                l.step(clock, x, phi);
                l.step_labels(clock, x, phi_0);
            }
            LimitTest::Promote(_) | LimitTest::Gauge(_) => {}
        }
    }

    /// The series it looks at, if it looks at counts.
    pub fn series(&self) -> Option<SeriesId> {
        match &self.test {
            LimitTest::Rollback(l) => Some(l.series),
            LimitTest::Alarm(l) => Some(l.series),
            LimitTest::Promote(l) => l.series,
            LimitTest::Gauge(_) => None,
        }
    }

    /// At another level from `start_s` on, with the threshold it had; `(tested, series)`: the fraction that is tested and whose
    /// counts (of a gauge the level itself).
    pub fn begin_anew(&mut self, level: f64, (tested, series): (f64, Option<SeriesId>), start_s: f64) {
        self.level = level;
        match &mut self.test {
            LimitTest::Rollback(l) => **l = RollbackLimit::new(series.unwrap_or(l.series), tested, l.process.since_s().max(start_s)),
            LimitTest::Alarm(l) => {
                let (since_s, threshold) = (l.since_s.max(start_s), l.threshold);
                **l = AlarmLimit { threshold, ..AlarmLimit::new(series.unwrap_or(l.series), tested, 0.5, since_s) };
            }
            LimitTest::Promote(l) => **l = PromoteLimit::new(series, tested, l.ok.since_s().max(start_s)),
            LimitTest::Gauge(g) => g.begin_anew(tested),
        }
    }

    /// Does it hold or roll back (and not merely notify or gate)?
    pub fn is_breach_level(&self) -> bool {
        matches!(self.kind, LimitKind::RollbackAbove | LimitKind::PageAbove)
    }
}

/// Position of the smallest bound at or above `limit`: a breach there proves the quantile above the limit.
pub fn breach_bound(bounds: &[f64], limit: f64) -> Option<usize> {
    bounds.iter().position(|b| *b >= limit * (1.0 - 1e-9))
}

/// Position of the largest bound at or below `limit`.
pub fn promote_bound(bounds: &[f64], limit: f64) -> Option<usize> {
    bounds.iter().rposition(|b| *b <= limit * (1.0 + 1e-9))
}
