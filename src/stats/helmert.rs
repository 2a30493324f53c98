//! The slope of a level: residuals from the running mean, so that the level itself drops out (STATISTICS 6.1).

/// Running Helmert transform. Times in one unit, in which `slope` is given.
#[derive(Clone, Copy, Debug)]
pub struct Helmert {
    slope: f64,
    dt: f64,
    count: f64,
    mean: f64,
    t0: f64,
}

impl Helmert {
    /// `slope`: tolerated rise per unit of time; `dt`: length of a poll in that unit.
    pub fn new(slope: f64, dt: f64) -> Self {
        Self { slope, dt, count: 0.0, mean: 0.0, t0: 0.0 }
    }

    /// `y` at a poll that starts at `t`. `None` for the first point, which sets the level.
    pub fn step(&mut self, t: f64, y: f64) -> Option<f64> {
        if self.count == 0.0 {
            *self = Self { count: 1.0, mean: y, t0: t, ..*self };
            return None;
        }
        let expected = self.mean + self.slope * (t - self.t0 + self.dt) / 2.0;
        let residual = (y - expected) * (self.count / (self.count + 1.0)).sqrt();
        self.mean += (y - self.mean) / (self.count + 1.0);
        self.count += 1.0;
        Some(residual)
    }
}
