//! A histogram in Prometheus' text format, counted without a lock.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// Observations below each bound.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: &'static [f64],
    /// One per bound, then those above the last. Not cumulative.
    counts: Box<[AtomicU64]>,
    /// Thousandths of the unit.
    sum_milli: AtomicU64,
}

impl Histogram {
    /// With these upper bounds, ascending, in the unit of the observations.
    pub(crate) fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum_milli: AtomicU64::new(0) }
    }

    /// One observation, `value >= 0`.
    pub(crate) fn observe(&self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_milli.fetch_add((value * 1e3).round() as u64, Ordering::Relaxed);
    }

    /// Its lines; `labels` without braces, not empty.
    pub(crate) fn write(&self, out: &mut String, name: &str, labels: &str) {
        let sum = self.sum_milli.load(Ordering::Relaxed) as f64 / 1e3;
        let mut below = 0;
        for (position, count) in self.counts.iter().enumerate() {
            below += count.load(Ordering::Relaxed);
            let bound = self.bounds.get(position).map_or_else(|| "+Inf".to_owned(), f64::to_string);
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {below}");
        }
        let _ = writeln!(out, "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {below}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_is_below_it() {
        let histogram = Histogram::new(&[0.5, 1.0]);
        for value in [0.0, 0.5, 0.7, 1.0, 3.0] {
            histogram.observe(value);
        }
        let mut text = String::new();
        histogram.write(&mut text, "h", "a=\"b\"");
        let expected = "h_bucket{a=\"b\",le=\"0.5\"} 2\nh_bucket{a=\"b\",le=\"1\"} 4\nh_bucket{a=\"b\",le=\"+Inf\"} 5\n\
                        h_sum{a=\"b\"} 5.2\nh_count{a=\"b\"} 5\n";
        assert_eq!(text, expected);
    }
}
