//! The isolated-jump rule: no rollback from one scrape (STATISTICS 2.4).

use std::f64::consts::LN_2;

/// Per metric (or process used alone): the largest jump that no neighbouring poll confirms counts as `ln 2`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cut {
    before: f64,
    largest: f64,
    pending: f64,
    rose: bool,
}

impl Cut {
    /// One poll: evidence `ln_e` after it, `hot` (a factor was clipped), `data` (canary requests, or a factor). Returns the
    /// evidence decisions use, at most `ln_e`.
    pub fn step(&mut self, ln_e: f64, hot: bool, data: bool) -> f64 {
        let rise = ln_e - self.before;
        self.before = ln_e;
        if data {
            let up = hot || rise >= LN_2;
            let confirmed = up && self.rose;
            if !confirmed {
                self.largest = self.largest.max(self.pending);
            }
            self.pending = if confirmed || rise < LN_2 { 0.0 } else { rise - LN_2 };
            self.rose = up;
        }
        ln_e - self.largest.max(self.pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} and {b}");
    }

    #[test]
    fn a_lone_jump_counts_as_ln_2_and_a_confirmed_one_whole() {
        let mut cut = Cut::default();
        near(cut.step(3.0, true, true), LN_2);
        near(cut.step(3.0, false, true), LN_2);
        let mut cut = Cut::default();
        cut.step(3.0, true, true);
        near(cut.step(15.0, true, true), 15.0);
    }

    #[test]
    fn a_poll_without_data_neither_confirms_nor_clears() {
        let mut cut = Cut::default();
        cut.step(3.0, true, true);
        near(cut.step(3.0, false, false), LN_2);
        near(cut.step(15.0, true, true), 15.0);
    }
}
