//! Is there any allowed window with room for all steps? Answered from the words alone, without a calendar: in a week that
//! repeats itself, to the minute. What only a calendar can tell (a range of dates, the end of a quarter) counts with its own
//! length and the weekly windows that may lie at both of its ends, so a rule is never refused that could start on some day.

use crate::model::calendar::{Span, When};
use jiff::civil::Time;
use std::time::Duration;

const DAY: usize = 24 * 60;
const WEEK: usize = 7 * DAY;

/// Why no rollout would ever start.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoRoom {
    /// The longest window is only so long.
    Longest(Duration),
    /// There are windows with room, and no moment of them is free of denied times.
    Denied,
}

/// Can a list of steps of this length start in some allowed window? Without any, always.
pub(super) fn room(allow: &[Span], deny: &[Span], steps: Duration) -> Result<(), NoRoom> {
    if allow.is_empty() {
        return Ok(());
    }
    let (allowed, denied) = (Week::of(allow), Week::of(deny));
    let runs = allowed.runs();
    let longest = runs.iter().copied().max().unwrap_or(0);
    let dated = allow.iter().filter_map(|span| days(&span.when)).max();
    let best = dated.map_or(longest, |days| days.saturating_mul(DAY).saturating_add(2 * longest.min(WEEK)));
    let needed = usize::try_from(steps.as_secs().div_ceil(60)).unwrap_or(usize::MAX);
    if best != ALWAYS && best < needed {
        return Err(NoRoom::Longest(Duration::from_secs(60 * best as u64)));
    }
    let starts = || (0..WEEK).any(|minute| runs[minute] >= needed && !denied.0[minute]);
    if dated.is_none() && !starts() { Err(NoRoom::Denied) } else { Ok(()) }
}

/// Length of a run that never ends.
const ALWAYS: usize = usize::MAX;

/// Which minutes of a week, from Monday at midnight.
struct Week(Vec<bool>);

impl Week {
    fn of(spans: &[Span]) -> Self {
        let mut week = Self(vec![false; WEEK]);
        for span in spans {
            if let When::Weekly { days, from, to } = &span.when {
                week.add(days, *from, *to);
            }
        }
        week
    }

    fn add(&mut self, days: &[bool; 7], from: Time, to: Time) {
        let (from, to) = (minute(from), minute(to));
        let length = if to > from { to - from } else { to + DAY - from };
        for (day, _) in days.iter().enumerate().filter(|(_, on)| **on) {
            (0..length).for_each(|ahead| self.0[(day * DAY + from + ahead) % WEEK] = true);
        }
    }

    /// How many minutes it goes on from each.
    fn runs(&self) -> Vec<usize> {
        if self.0.iter().all(|on| *on) {
            return vec![ALWAYS; WEEK];
        }
        let mut runs = vec![0; WEEK];
        // twice round, so that a run over the end of the week is whole
        for minute in (0..2 * WEEK).rev() {
            runs[minute % WEEK] = if self.0[minute % WEEK] { runs[(minute + 1) % WEEK] + 1 } else { 0 };
        }
        runs
    }
}

fn minute(time: Time) -> usize {
    usize::from(time.hour().unsigned_abs()) * 60 + usize::from(time.minute().unsigned_abs())
}

/// How many days in a row a span of the calendar covers.
fn days(when: &When) -> Option<usize> {
    match when {
        When::Weekly { .. } => None,
        When::Dates { first, last } => usize::try_from((*last - *first).get_days()).ok().map(|days| days + 1),
        When::EndOf { days, .. } => Some(usize::from(*days)),
    }
}
