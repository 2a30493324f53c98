//! Does the traffic follow the weight (DESIGN 6.3)? The only proof that the data plane obeys and that the labels are right.

use super::machine::Machine;
use crate::model::{Counts, Mode, PerArm, Tick, Timestamp, Weight};
use std::collections::VecDeque;
use std::time::Duration;

/// A share is off when it is more than this factor away.
const FACTOR: f64 = 2.0;
/// ... and further than this many standard deviations.
const SIGMAS: f64 = 5.0;
/// Most ticks remembered: three minutes of the shortest ticks there are, and far more than that.
const TICKS_MAX: usize = 512;
/// Parts of the time looked at, each of which must be off by the factor: a burst is not disobedience.
const PARTS: usize = 3;

/// The requests of the last minutes, and what they say.
#[derive(Clone, Debug, Default)]
pub(super) struct ShareWatch {
    since: Option<Timestamp>,
    /// The share that is due.
    due: Option<Weight>,
    ticks: VecDeque<(Timestamp, PerArm<f64>)>,
    /// Share observed while the traffic does not follow.
    off: Option<f64>,
}

impl ShareWatch {
    /// A weight came into force at `now`.
    pub(super) fn clear(&mut self, now: Timestamp) {
        *self = Self { since: Some(now), ..Self::default() };
    }

    /// Of another share the polls before say nothing. Is it another?
    fn is_due(&mut self, now: Timestamp, due: Option<Weight>) -> bool {
        let another = self.due != due;
        if another {
            *self = Self { since: Some(now), due, ..Self::default() };
        }
        another
    }

    pub(super) const fn disobeys(&self) -> bool {
        self.off.is_some()
    }

    /// The canary's share while it is off.
    pub(super) const fn observed(&self) -> Option<f64> {
        self.off
    }

    fn note(&mut self, at: Timestamp, seen: PerArm<f64>, weight: Weight, window: Duration) {
        self.ticks.push_back((at, seen));
        while self.ticks.len() > TICKS_MAX || (self.ticks.len() > PARTS && self.ticks.front().is_some_and(|(t, _)| at.since(*t) >= window))
        {
            self.ticks.pop_front();
        }
        let long_enough = self.since.is_some_and(|since| at.since(since) >= window) && self.ticks.len() >= PARTS;
        self.off = long_enough.then(|| self.off_now(weight)).flatten();
    }

    /// The share of the whole time, if it and each part of it are off in the same direction.
    fn off_now(&self, weight: Weight) -> Option<f64> {
        let sum = |from: usize, to: usize| {
            self.ticks.range(from..to).fold(PerArm { baseline: 0.0, canary: 0.0 }, |a, (_, n)| PerArm {
                baseline: a.baseline + n.baseline,
                canary: a.canary + n.canary,
            })
        };
        let len = self.ticks.len();
        let all = sum(0, len);
        let direction = off_by_factor(all, weight).filter(|_| beyond_chance(all, weight))?;
        let parts = (0..PARTS).all(|i| off_by_factor(sum(i * len / PARTS, (i + 1) * len / PARTS), weight) == Some(direction));
        parts.then(|| all.canary / (all.canary + all.baseline))
    }
}

/// Is either arm's share off by more than the factor? `Some(true)`: the canary gets too much. The baseline's share counts
/// too, because a canary at 75 % cannot get twice as much.
fn off_by_factor(n: PerArm<f64>, weight: Weight) -> Option<bool> {
    let all = n.canary + n.baseline;
    if all <= 0.0 {
        return None;
    }
    let (canary, w) = (n.canary / all, weight.share());
    let (baseline, v) = (1.0 - canary, 1.0 - w);
    if canary > FACTOR * w || baseline < v / FACTOR {
        Some(true)
    } else if canary < w / FACTOR || (v > 0.0 && baseline > FACTOR * v) {
        Some(false)
    } else {
        None
    }
}

/// Further from the weight than chance allows: binomial, `|n_c - n w| > 5 sqrt(n w (1-w))`.
fn beyond_chance(n: PerArm<f64>, weight: Weight) -> bool {
    let all = n.canary + n.baseline;
    let w = weight.share();
    // at 100 % the deviation of the formula is 0: that of 99.9 % keeps single stray requests from counting
    let spread = w.clamp(0.001, 0.999);
    (n.canary - all * w).abs() > SIGMAS * (all * spread * (1.0 - spread)).sqrt()
}

impl Machine {
    /// Books a usable poll at a step with traffic. In observe mode nobody sets the weight, so nothing can follow it.
    pub(super) fn note_share(&mut self, tick: &Tick) {
        if self.terms.rolling_update && self.share.is_due(tick.judgement.at, self.share_due()) {
            self.vanished.weight_in_doubt();
        }
        let (Some(counts), Some(due)) = (tick.judgement.counts, self.share_due()) else { return };
        if !self.judges_step(tick) || due.is_zero() || self.terms.mode == Mode::Observe || self.hands.foreign.is_some() {
            return;
        }
        self.share.note(tick.judgement.at, counts.map(|c: Counts| c.total), due, self.terms.share);
    }

    /// What is seen while the traffic does not follow.
    pub(super) fn share_text(&self) -> String {
        let percent = 100.0 * self.share.observed().unwrap_or(0.0);
        let time = super::texts::duration(self.terms.share);
        let due = self.share_due().unwrap_or(self.weight);
        let what = if self.terms.rolling_update { "the ready pods" } else { "the weight" };
        format!("traffic does not follow {what}: the canary gets {percent:.1}% of the requests instead of {due} for {time}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(weight: &str, baseline: f64, canary: f64, ticks: i64) -> ShareWatch {
        let mut watch = ShareWatch::default();
        watch.clear(Timestamp::from_millis(0));
        for i in 1..=ticks {
            let at = Timestamp::from_millis(15_000 * i);
            watch.note(at, PerArm { baseline, canary }, weight.parse().unwrap(), Duration::from_secs(180));
        }
        watch
    }

    #[test]
    fn a_share_off_by_more_than_two_for_three_minutes_is_disobedience() {
        assert!(!watch("5%", 950.0, 0.0, 11).disobeys(), "not before three minutes");
        assert!(watch("5%", 950.0, 0.0, 12).disobeys());
        assert!(watch("5%", 850.0, 150.0, 12).disobeys());
        assert!(!watch("5%", 910.0, 90.0, 40).disobeys(), "90 of 1000 is within a factor of two");
        assert!(watch("75%", 480.0, 520.0, 12).disobeys() == watch("25%", 520.0, 480.0, 12).disobeys(), "the arms are alike");
        assert!(watch("90%", 250.0, 750.0, 12).disobeys(), "the baseline gets more than twice its share");
        assert!(watch("75%", 50.0, 950.0, 12).disobeys(), "the baseline gets less than half of its share");
        assert!(watch("100%", 600.0, 400.0, 12).disobeys());
        assert!(!watch("100%", 1.0, 999.0, 12).disobeys());
    }

    #[test]
    fn a_few_requests_prove_nothing() {
        assert!(!watch("5%", 10.0, 0.0, 12).disobeys(), "0 of 120 at 5 %: 6 expected, 2.5 standard deviations");
        assert!(watch("5%", 60.0, 0.0, 12).disobeys(), "0 of 720: 36 expected, 6.2 standard deviations");
    }

    #[test]
    fn it_ends_as_soon_as_the_last_minute_obeys() {
        let mut watch = watch("5%", 950.0, 0.0, 20);
        for i in 21..=24 {
            watch.note(
                Timestamp::from_millis(15_000 * i),
                PerArm { baseline: 950.0, canary: 50.0 },
                "5%".parse().unwrap(),
                Duration::from_secs(180),
            );
        }
        assert!(!watch.disobeys());
    }
}
