//! Time of one poll: tick time, never wall clock (STATISTICS 2.1).

/// Seconds; polls lie on multiples of the interval, so this only absorbs rounding.
pub const EPS_S: f64 = 1e-6;

/// One poll's place in time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Its END, seconds since the start of tick 0.
    pub t_s: f64,
    /// Its start: the end minus one interval, also when it carries missed ticks.
    pub start_s: f64,
    /// Number of its tick.
    pub tick: i64,
    /// The first poll of its step.
    pub new_step: bool,
    /// Time constant of the onset mixture, H0, seconds.
    pub onset_s: f64,
}

impl Clock {
    /// A poll that ends at `t_s`.
    pub fn new(t_s: f64, dt_s: f64, new_step: bool, onset_s: f64) -> Self {
        Self { t_s, start_s: t_s - dt_s, tick: (t_s / dt_s + 0.5).floor() as i64, new_step, onset_s }
    }

    /// Is a process with this activation time active in the poll? It must start at or after it.
    pub fn active(&self, since_s: f64) -> bool {
        self.start_s >= since_s - EPS_S
    }
}
