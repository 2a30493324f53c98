//! Numbers with their units, as people read them.

use crate::model::{Interval, MetricKind, Timestamp};
use std::time::Duration;

/// The unit of a metric's values on every wire.
pub const fn unit(kind: MetricKind) -> &'static str {
    match kind {
        MetricKind::Errors | MetricKind::CustomCounts(_) => "fraction",
        MetricKind::Latency(_) => "ms",
        MetricKind::Cpu => "cores",
        // of the leak test its floor is shown
        MetricKind::Memory | MetricKind::Leak => "bytes",
        MetricKind::CustomGauge(_) => "",
    }
}

/// A value of a metric, with its unit.
pub fn value(kind: MetricKind, value: f64) -> String {
    in_unit(unit(kind), value)
}

/// A value in a unit of [`unit()`].
pub fn in_unit(unit: &str, value: f64) -> String {
    if !value.is_finite() {
        return if value == f64::INFINITY { "beyond the last bucket".to_owned() } else { "?".to_owned() };
    }
    match unit {
        "fraction" => percent(value),
        "ms" if value.abs() >= 1000.0 => format!("{} s", short(value / 1000.0)),
        "ms" => format!("{} ms", short(value)),
        "bytes" => bytes(value),
        "" => short(value),
        other => format!("{} {other}", short(value)),
    }
}

/// An estimate with its interval: `3.1% (2.4% to 4%)`.
pub fn estimate(kind: MetricKind, seen: &Interval) -> String {
    format!("{} ({} to {})", value(kind, seen.mid), value(kind, seen.low), value(kind, seen.high))
}

/// A fraction as a percentage, three significant digits: `0.0312` is `3.12%`.
pub fn percent(fraction: f64) -> String {
    format!("{}%", short(fraction * 100.0))
}

fn bytes(value: f64) -> String {
    let (scale, name) = match value.abs() {
        v if v >= 1024.0 * 1024.0 * 1024.0 => (1024.0 * 1024.0 * 1024.0, "GiB"),
        v if v >= 1024.0 * 1024.0 => (1024.0 * 1024.0, "MiB"),
        v if v >= 1024.0 => (1024.0, "KiB"),
        _ => (1.0, "B"),
    };
    format!("{} {name}", short(value / scale))
}

/// Three significant digits, without trailing zeros; whole from 100 on.
fn short(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let decimals = (2 - value.abs().log10().floor() as i32).clamp(0, 8) as usize;
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// A length of time in at most two units: `1h 30m`, `15m`, `45s`.
pub fn duration(length: Duration) -> String {
    let s = length.as_secs();
    let two = |a: u64, an: &str, b: u64, bn: &str| if b == 0 { format!("{a}{an}") } else { format!("{a}{an} {b}{bn}") };
    match s {
        0 => format!("{}ms", length.as_millis()),
        1..60 => format!("{s}s"),
        60..3600 => two(s / 60, "m", s % 60, "s"),
        3600..86_400 => two(s / 3600, "h", s % 3600 / 60, "m"),
        _ => two(s / 86_400, "d", s % 86_400 / 3600, "h"),
    }
}

/// An instant in UTC to the second: `2026-11-21T14:23:05Z`. An instant no calendar has is written in milliseconds.
pub fn time(at: Timestamp) -> String {
    match jiff::Timestamp::from_second(at.as_millis().div_euclid(1000)) {
        Ok(instant) => instant.to_string(),
        Err(_) => format!("{at:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        for (kind, number, want) in [
            (MetricKind::Errors, 0.0312, "3.12%"),
            (MetricKind::Errors, 0.0, "0%"),
            (MetricKind::Errors, 0.00012, "0.012%"),
            (MetricKind::Errors, 1.0, "100%"),
            (MetricKind::Latency(0.95), 212.4, "212 ms"),
            (MetricKind::Latency(0.95), 2100.0, "2.1 s"),
            (MetricKind::Latency(0.95), f64::INFINITY, "beyond the last bucket"),
            (MetricKind::Cpu, 0.25, "0.25 cores"),
            (MetricKind::Memory, 268_435_456.0, "256 MiB"),
            (MetricKind::CustomGauge(0), 12_345.6, "12346"),
            (MetricKind::CustomGauge(0), f64::NAN, "?"),
        ] {
            assert_eq!(value(kind, number), want);
        }
    }

    #[test]
    fn a_length_of_time_has_at_most_two_units() {
        for (s, want) in [(45, "45s"), (900, "15m"), (905, "15m 5s"), (5400, "1h 30m"), (90_000, "1d 1h")] {
            assert_eq!(duration(Duration::from_secs(s)), want);
        }
        assert_eq!(duration(Duration::from_millis(250)), "250ms");
    }

    #[test]
    fn an_instant_is_written_in_utc() {
        assert_eq!(time(Timestamp::from_millis(1_795_270_985_999)), "2026-11-21T14:23:05Z");
        assert!(time(Timestamp::from_millis(i64::MAX)).ends_with("ms"));
    }
}
