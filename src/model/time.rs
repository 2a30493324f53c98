//! Wall-clock instants as data. Nothing here reads a clock: an instant comes in as an argument.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// An instant in milliseconds since the Unix epoch (UTC). Range: any `i64`; the daemon meets only positive ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since the epoch.
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Seconds since the epoch, as Prometheus writes them.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e3
    }

    /// The instant of a time Prometheus wrote, rounded to a millisecond; `None` if it is not finite or out of range.
    pub fn from_secs_f64(s: f64) -> Option<Self> {
        let ms = (s * 1e3).round();
        (ms.is_finite() && ms.abs() < 9e15).then_some(Self(ms as i64))
    }

    /// Time from `earlier` to `self`; zero if `earlier` lies after `self`.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0).max(0) as u64)
    }

    /// The last multiple of `interval` (counted from the epoch) at or before `self`: the grid every tick lies on.
    ///
    /// # Panics
    /// If `interval` is shorter than a millisecond.
    pub fn floor_to(self, interval: Duration) -> Self {
        let step = interval.as_millis() as i64;
        assert!(step > 0, "interval {interval:?} is shorter than a millisecond");
        Self(self.0.div_euclid(step) * step)
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(d.as_millis() as i64))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(d.as_millis() as i64))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_lie_on_multiples_of_the_interval() {
        let tick = Duration::from_secs(15);
        assert_eq!(Timestamp::from_millis(44_999).floor_to(tick), Timestamp::from_millis(30_000));
        assert_eq!(Timestamp::from_millis(45_000).floor_to(tick), Timestamp::from_millis(45_000));
        assert_eq!(Timestamp::from_millis(-1).floor_to(tick), Timestamp::from_millis(-15_000));
    }

    #[test]
    fn a_time_that_is_no_number_is_no_instant() {
        assert_eq!(Timestamp::from_secs_f64(f64::NAN), None);
        assert_eq!(Timestamp::from_secs_f64(1e300), None);
        assert_eq!(Timestamp::from_secs_f64(1.2345), Some(Timestamp::from_millis(1235)));
    }
}
