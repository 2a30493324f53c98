//! When windows and freezes hold, as arithmetic on values: no clock, no look-up (DESIGN 6.5).
//!
//! An instant lies in a span if the wall clock of the windows' zone shows a time of it then. So an hour that comes twice in
//! autumn is in the span both times, one that never comes in spring is in none, and spans that touch are one. Nothing changes
//! between two *moments*: the instants at which the wall clock shows a boundary of a span or midnight, and those at which the
//! zone changes its offset. All searches go from moment to moment, so they are exact.

use crate::model::Timestamp;
use crate::model::calendar::{Period, Span, When, Windows};
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp as Instant, ToSpan};
use std::time::Duration;

/// How far searches look: a year's freeze or the last week of a year is found, a window that never opens is given up.
const LOOK_DAYS: i64 = 400;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Why a rollout may not start now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shut {
    /// In the words of the rule: the freeze that holds, the windows it is outside of, or the room that is missing.
    pub why: String,
    /// When it may; `None` if not within 400 days.
    pub opens: Option<Timestamp>,
}

/// May a rollout whose steps take `room` together start at `at`: inside an allowed window that stays open so long, and outside
/// every denied span?
///
/// # Errors
/// Why not, and from when on.
pub fn start(windows: &Windows, at: Timestamp, room: Duration) -> Result<(), Shut> {
    match why_not(windows, at, room) {
        None => Ok(()),
        Some(why) => Err(Shut { why, opens: first(windows, at, LOOK_DAYS, |t| why_not(windows, t, room).is_none()) }),
    }
}

fn why_not(windows: &Windows, at: Timestamp, room: Duration) -> Option<String> {
    if let Some(span) = denied(windows, at) {
        return Some(format!("denied by {}", span.words));
    }
    if !is_allowed(windows, at) {
        return Some(format!("outside of {}", all_words(windows)));
    }
    let closes = closes_within(windows, at, room)?;
    Some(format!("{} closes {}, and the steps take {}", all_words(windows), civil(windows, closes), super::texts::duration(room)))
}

/// The denied span at `at`, if there is one.
pub fn denied(windows: &Windows, at: Timestamp) -> Option<&Span> {
    let shown = wall(&windows.zone, at);
    windows.deny.iter().find(|span| covers(&span.when, shown))
}

/// Is a window open? Always where the rule names none.
pub fn is_allowed(windows: &Windows, at: Timestamp) -> bool {
    let shown = wall(&windows.zone, at);
    windows.allow.is_empty() || windows.allow.iter().any(|span| covers(&span.when, shown))
}

/// The end of the freeze that holds at `at`; `None` if it does not end within 400 days.
pub fn denied_until(windows: &Windows, at: Timestamp) -> Option<Timestamp> {
    first(windows, at, LOOK_DAYS, |t| denied(windows, t).is_none())
}

/// When the next window opens, none being open at `at`; `None` if none does within 400 days.
pub fn opens_after(windows: &Windows, at: Timestamp) -> Option<Timestamp> {
    first(windows, at, LOOK_DAYS, |t| is_allowed(windows, t))
}

/// Until when the window that is open at `at` stays open; `None` without an end within 400 days.
pub fn open_until(windows: &Windows, at: Timestamp) -> Option<Timestamp> {
    if windows.allow.is_empty() {
        return None;
    }
    first(windows, at, LOOK_DAYS, |t| !is_allowed(windows, t))
}

/// The first instant after `at` at which what is denied or allowed changes, within 400 days.
pub fn changes_after(windows: &Windows, at: Timestamp) -> Option<Timestamp> {
    let state = |t| (denied(windows, t).map(|s| &s.words), is_allowed(windows, t));
    let now = state(at);
    first(windows, at, LOOK_DAYS, |t| state(t) != now)
}

/// When the open window closes, if that is before `room` is over.
fn closes_within(windows: &Windows, at: Timestamp, room: Duration) -> Option<Timestamp> {
    if windows.allow.is_empty() {
        return None;
    }
    let days = i64::try_from(room.as_secs() / DAY.as_secs() + 1).unwrap_or(LOOK_DAYS).min(LOOK_DAYS);
    first(windows, at, days, |t| !is_allowed(windows, t)).filter(|closes| *closes < at + room)
}

/// All windows, for a sentence.
pub fn all_words(windows: &Windows) -> String {
    windows.allow.iter().map(|s| s.words.as_str()).collect::<Vec<_>>().join(", ")
}

/// An instant as the windows' zone shows it, for a sentence: `Thu 2026-11-26 18:00 -0800`.
pub fn civil(windows: &Windows, at: Timestamp) -> String {
    instant(at).to_zoned(windows.zone.clone()).strftime("%a %Y-%m-%d %H:%M %z").to_string()
}

/// The first moment after `at` that passes the test.
fn first(windows: &Windows, at: Timestamp, days: i64, test: impl Fn(Timestamp) -> bool) -> Option<Timestamp> {
    let mut from = at;
    for _ in 0..days {
        let to = from + DAY;
        if let Some(found) = moments(windows, from, to).into_iter().find(|t| test(*t)) {
            return Some(found);
        }
        from = to;
    }
    None
}

/// All moments in `(from, to]`, ascending.
fn moments(windows: &Windows, from: Timestamp, to: Timestamp) -> Vec<Timestamp> {
    let zone = &windows.zone;
    let times = boundaries(windows);
    let mut all: Vec<Instant> = zone.following(instant(from)).map(|t| t.timestamp()).take_while(|t| *t <= instant(to)).collect();
    // a day more on each side: when a fold crosses midnight, the later instant of a boundary lies in the next day
    let (mut date, last) = (day_before(wall(zone, from).date()), day_after(wall(zone, to).date()));
    while date <= last {
        for time in &times {
            let shown = zone.to_ambiguous_timestamp(date.to_datetime(*time));
            all.extend([shown.earlier(), zone.to_ambiguous_timestamp(date.to_datetime(*time)).later()].into_iter().flatten());
        }
        if date == day_after(date) {
            break; // the last day there is
        }
        date = day_after(date);
    }
    let mut all: Vec<Timestamp> = all.into_iter().map(timestamp).filter(|t| *t > from && *t <= to).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Times of the day at which a span may begin or end.
fn boundaries(windows: &Windows) -> Vec<Time> {
    let ends = |span: &Span| match span.when {
        When::Weekly { from, to, .. } => vec![from, to],
        When::Dates { .. } | When::EndOf { .. } => Vec::new(),
    };
    let mut times: Vec<Time> = windows.allow.iter().chain(&windows.deny).flat_map(ends).chain([Time::midnight()]).collect();
    times.sort_unstable();
    times.dedup();
    times
}

/// Does a span cover what the wall clock shows?
fn covers(when: &When, shown: DateTime) -> bool {
    match when {
        When::Weekly { days, from, to } => covers_weekly(days, *from, *to, shown),
        When::Dates { first, last } => (*first..=*last).contains(&shown.date()),
        When::EndOf { period, days } => days_left(*period, shown.date()) < i32::from(*days),
    }
}

fn covers_weekly(days: &[bool; 7], from: Time, to: Time, shown: DateTime) -> bool {
    let today = usize::try_from(shown.date().weekday().to_monday_zero_offset()).unwrap_or(0);
    let (today, yesterday) = (days[today % 7], days[(today + 6) % 7]);
    let time = shown.time();
    if to > from { today && time >= from && time < to } else { (today && time >= from) || (yesterday && time < to) }
}

/// Days of the period after this one: 0 on its last day.
fn days_left(period: Period, date: Date) -> i32 {
    let last_month = match period {
        Period::Month => date.month(),
        Period::Quarter => (date.month() - 1) / 3 * 3 + 3,
        Period::Year => 12,
    };
    let end = Date::new(date.year(), last_month, 1).map(|d| d.last_of_month()).unwrap_or(date);
    date.until(end).map_or(0, |span| span.get_days())
}

fn day_before(date: Date) -> Date {
    date.saturating_sub(1.day())
}

fn day_after(date: Date) -> Date {
    date.saturating_add(1.day())
}

/// What the wall clock shows.
fn wall(zone: &TimeZone, at: Timestamp) -> DateTime {
    zone.to_datetime(instant(at))
}

/// Clamped to the years the calendar knows.
fn instant(at: Timestamp) -> Instant {
    let end = if at.as_millis() < 0 { Instant::MIN } else { Instant::MAX };
    Instant::from_millisecond(at.as_millis()).unwrap_or(end)
}

/// Exact: boundaries of spans and offsets of zones lie on whole seconds.
fn timestamp(at: Instant) -> Timestamp {
    Timestamp::from_millis(at.as_millisecond())
}

#[cfg(test)]
mod tests;
