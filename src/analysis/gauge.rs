//! CPU, memory and the rule's own gauges (STATISTICS 6), and the leak test (6.1).

use super::clock::Clock;
use super::errors::Evidence;
use super::process::{HarmProcess, OkProcess};
use crate::stats::gauge::{Calibration, GaugeStream, Side};
use crate::stats::grid::{K_MU, MU};
use crate::stats::helmert::Helmert;
use crate::stats::load::{LoadKind, LoadRatio};

const NOTHING: [f64; K_MU] = [0.0; K_MU];

/// `ln(canary / baseline)` of a poll, raw; `None` if either is missing.
fn ln_ratio(b: Option<f64>, c: Option<f64>) -> Option<f64> {
    Some((c? / b?).ln())
}

/// The level of one gauge.
#[derive(Clone, Debug)]
pub struct GaugeTest {
    since_s: f64,
    sign: f64,
    last_kind: Option<LoadKind>,
    /// The log-ratio of the last poll before what load explains; `None` if it was not usable.
    pub y: Option<f64>,
    tested: Option<Tested>,
}

#[derive(Clone, Debug)]
struct Tested {
    cal: Calibration,
    harm_stream: GaugeStream,
    ok_stream: GaugeStream,
    harm: HarmProcess<K_MU>,
    ok: OkProcess<K_MU>,
}

impl GaugeTest {
    /// `cal`: `None` makes it advisory; `harm`, `ok`: tolerated ratios above 1; `lower_is_worse` turns the ratio round.
    pub fn new(cal: Option<Calibration>, harm: f64, ok: f64, since_s: f64, lower_is_worse: bool) -> Self {
        let tested = cal.map(|cal| Tested {
            cal,
            harm_stream: GaugeStream::new(cal, harm.ln_1p(), Side::Harm),
            ok_stream: GaugeStream::new(cal, ok.ln_1p(), Side::Ok),
            harm: HarmProcess::new(&MU, since_s),
            ok: OkProcess::new(&MU, since_s),
        });
        Self { since_s, sign: if lower_is_worse { -1.0 } else { 1.0 }, last_kind: None, y: None, tested }
    }

    /// How it was calibrated; `None`: advisory.
    pub fn calibration(&self) -> Option<Calibration> {
        self.tested.as_ref().map(|t| t.cal)
    }

    /// The canary's pod count changed: its level may jump. Evidence stays.
    pub fn reprime(&mut self) {
        if let Some(t) = &mut self.tested {
            t.harm_stream.reprime();
            t.ok_stream.reprime();
        }
    }

    /// One poll: the level per pod of each arm, and what load explains.
    pub fn step(&mut self, clock: &Clock, b: Option<f64>, c: Option<f64>, load: &LoadRatio) -> Evidence {
        self.y = if load.kind == LoadKind::Skip { None } else { ln_ratio(b, c) };
        let active = clock.active(self.since_s);
        if let (Some(_), true) = (self.y, active) {
            // a change between fit and direct is a change of scale
            if self.last_kind.is_some_and(|k| k != load.kind) {
                self.reprime();
            }
            self.last_kind = Some(load.kind);
        }
        let usable = self.y.filter(|_| active);
        let sign = self.sign;
        let Some(t) = &mut self.tested else { return Evidence::default() };
        let lf = usable.and_then(|y| t.harm_stream.lfs(sign * (y - load.ln_harm), clock.tick));
        let lf_ok = usable.and_then(|y| t.ok_stream.lfs(sign * (y - load.ln_ok), clock.tick));
        let ln_cut = t.harm.step_cut(clock, lf.is_some(), || lf.unwrap_or(NOTHING));
        let ln_ok = t.ok.step(clock, || lf_ok.unwrap_or(NOTHING));
        Evidence { ln_harm: t.harm.ln_e(), ln_cut, ln_ok, hot: t.harm.hot() }
    }
}

/// The slope of the memory floor.
#[derive(Clone, Debug)]
pub struct LeakTest {
    helmert: Helmert,
    slope: f64,
    unit_s: f64,
    dt_s: f64,
    warm_up_s: f64,
    points_from_s: f64,
    /// The log-ratio of the last poll.
    pub y: Option<f64>,
    /// Its residual from the tolerated slope.
    pub residual: Option<f64>,
    tested: Option<(Calibration, GaugeStream, HarmProcess<K_MU>)>,
}

impl LeakTest {
    /// `slope`: tolerated per `unit_s` seconds.
    pub fn new(cal: Option<Calibration>, slope: f64, unit_s: f64, dt_s: f64, warm_up_s: f64) -> Self {
        let tested = cal.map(|cal| (cal, GaugeStream::new(cal, 0.0, Side::Harm), HarmProcess::new(&MU, warm_up_s)));
        let helmert = Helmert::new(slope, dt_s / unit_s);
        Self { helmert, slope, unit_s, dt_s, warm_up_s, points_from_s: warm_up_s, y: None, residual: None, tested }
    }

    /// How it was calibrated; `None`: advisory.
    pub fn calibration(&self) -> Option<Calibration> {
        self.tested.as_ref().map(|t| t.0)
    }

    /// The canary's pod count changed: the mean starts again, a warm-up after the newest pod.
    pub fn reprime(&mut self, clock: &Clock, more_pods: bool) {
        self.helmert = Helmert::new(self.slope, self.dt_s / self.unit_s);
        if more_pods {
            self.points_from_s = self.points_from_s.max(clock.start_s + self.warm_up_s);
        }
        if let Some((_, stream, _)) = &mut self.tested {
            stream.reprime();
        }
    }

    /// One poll: the memory floor per pod of each arm.
    pub fn step(&mut self, clock: &Clock, b: Option<f64>, c: Option<f64>) -> Evidence {
        self.y = ln_ratio(b, c);
        self.residual = None;
        let Some((_, stream, harm)) = &mut self.tested else { return Evidence::default() };
        if let (Some(y), true) = (self.y, clock.active(self.points_from_s)) {
            self.residual = self.helmert.step(clock.start_s / self.unit_s, y);
        }
        let lf = self.residual.and_then(|h| stream.lfs(h, clock.tick));
        let ln_cut = harm.step_cut(clock, lf.is_some(), || lf.unwrap_or(NOTHING));
        Evidence { ln_harm: harm.ln_e(), ln_cut, ln_ok: 0.0, hot: harm.hot() }
    }
}
