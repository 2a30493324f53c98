//! Gauge limits: a sustained rule over the last usable values, not a test (STATISTICS 7.1).

use std::collections::VecDeque;

/// One value of the window.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// End of its poll, seconds.
    pub t_s: f64,
    /// The value.
    pub value: f64,
    /// Canary over baseline at equal load, where it is known.
    pub ratio: Option<f64>,
}

/// Breach when at least 75 % of the last `k` values lie above the limit, clear when under 25 %; with fewer than `k` values no
/// older than twice the window the state stays.
#[derive(Clone, Debug)]
pub struct Sustained {
    limit: f64,
    k: usize,
    window_s: f64,
    points: VecDeque<Point>,
    ratios: Vec<f64>,
    breach: bool,
}

impl Sustained {
    /// `k = max(3, round(window / dt))` values.
    pub fn new(limit: f64, dt_s: f64, window_s: f64) -> Self {
        let k = ((window_s / dt_s + 0.5).floor() as usize).clamp(3, 100_000);
        Self { limit, k, window_s, points: VecDeque::with_capacity(k + 1), ratios: Vec::with_capacity(k + 1), breach: false }
    }

    /// At another limit, with an empty window.
    pub fn begin_anew(&mut self, limit: f64) {
        self.points.clear();
        (self.limit, self.breach) = (limit, false);
    }

    /// One poll ending at `t_s`; `value` if it is usable, with its ratio. Returns whether the limit is in breach.
    pub fn step(&mut self, t_s: f64, value: Option<(f64, Option<f64>)>) -> bool {
        if let Some((value, ratio)) = value {
            self.points.push_back(Point { t_s, value, ratio });
            if self.points.len() > self.k {
                self.points.pop_front();
            }
        }
        let (mut seen, mut above) = (0, 0);
        for p in self.in_use(t_s) {
            seen += 1;
            above += usize::from(p.value > self.limit);
        }
        if seen == self.k {
            let share = above as f64 / self.k as f64;
            let edge = if self.breach { 0.25 } else { 0.75 };
            self.breach = share >= edge - 1e-9;
        }
        self.breach
    }

    fn in_use(&self, t_s: f64) -> impl Iterator<Item = &Point> {
        self.points.iter().filter(move |p| t_s - p.t_s <= 2.0 * self.window_s)
    }

    /// In breach?
    pub fn breach(&self) -> bool {
        self.breach
    }

    /// Median ratio over the values in use; `None` if none of them has one.
    pub fn median_ratio(&mut self, t_s: f64) -> Option<f64> {
        self.ratios.clear();
        let reach = 2.0 * self.window_s;
        self.ratios.extend(self.points.iter().filter(|p| t_s - p.t_s <= reach).filter_map(|p| p.ratio));
        self.ratios.sort_unstable_by(f64::total_cmp);
        let n = self.ratios.len();
        match n {
            0 => None,
            _ if n % 2 == 1 => Some(self.ratios[n / 2]),
            _ => Some((self.ratios[n / 2 - 1] + self.ratios[n / 2]) / 2.0),
        }
    }
}
