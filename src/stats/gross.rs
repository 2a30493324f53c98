//! Gross failure: half of the canary's requests are bad, whatever the dispersion (STATISTICS 3.1).

use super::counts::TwoArms;

/// Smallest portion, canary requests.
pub const NEED_MIN: f64 = 20.0;
/// Largest, and the one without history.
pub const NEED_MAX: f64 = 100.0;

/// Canary requests per portion at the dispersion `phi_0` of the start.
pub fn need(phi_0: f64) -> f64 {
    (5.0 * phi_0).ceil().clamp(NEED_MIN, NEED_MAX)
}

/// The rule's state: the portion being filled, and the run of bad ones before it.
#[derive(Clone, Copy, Debug)]
pub struct Gross {
    need: f64,
    reference: Option<f64>,
    portion: TwoArms,
    polls: u32,
    run: u32,
    long: bool,
    hit: bool,
}

impl Gross {
    /// Portions of at least `need` canary requests.
    pub fn new(need: f64) -> Self {
        Self { need, reference: None, portion: TwoArms::NONE, polls: 0, run: 0, long: false, hit: false }
    }

    /// Requests per portion.
    pub fn need(&self) -> f64 {
        self.need
    }

    /// From now on this rate stands for the baseline's (the bake, where no baseline serves). `None`: the baseline itself.
    pub fn refer_to(&mut self, rate: Option<f64>) {
        self.reference = rate;
    }

    /// Has it been seen?
    pub fn hit(&self) -> bool {
        self.hit
    }

    /// One usable poll. Two bad portions of one poll each in a row, or three in a row of any length; once true it stays.
    pub fn step(&mut self, x: &TwoArms) -> bool {
        let p = &mut self.portion;
        *p = TwoArms { x_b: p.x_b + x.x_b, n_b: p.n_b + x.n_b, x_c: p.x_c + x.x_c, n_c: p.n_c + x.n_c };
        self.polls += u32::from(x.n_c > 0.0);
        if self.portion.n_c >= self.need {
            self.close();
        }
        self.hit
    }

    fn close(&mut self) {
        let TwoArms { x_b, n_b, x_c, n_c } = self.portion;
        let rate = x_c / n_c;
        let baseline = self.reference.unwrap_or(if n_b >= self.need { x_b / n_b } else { f64::INFINITY });
        let long = self.polls > 1;
        self.run = if rate >= 0.5 && baseline < rate / 5.0 { self.run.saturating_add(1) } else { 0 };
        self.hit |= self.run >= 3 || (self.run >= 2 && !long && !self.long);
        self.long = long;
        self.portion = TwoArms::NONE;
        self.polls = 0;
    }
}
