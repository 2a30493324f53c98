//! The words of one entry of `allow` or `deny`. Upper and lower case, blanks around `-`, `,` and `..`, and the dashes that
//! word processors make of `-` do not matter; everything else is told, with what would be right.

use crate::config::walk::one_of;
use crate::model::calendar::{Period, When};
use jiff::civil::{Date, Time};

/// Days by their short and long names, Monday first.
const DAYS: [(&str, &str); 7] = [
    ("Mon", "Monday"),
    ("Tue", "Tuesday"),
    ("Wed", "Wednesday"),
    ("Thu", "Thursday"),
    ("Fri", "Friday"),
    ("Sat", "Saturday"),
    ("Sun", "Sunday"),
];
/// Words that may stand before the rest and say nothing of their own.
const FILLERS: [&str; 6] = ["on", "in", "during", "every", "each", "the"];
const NEGATIONS: [&str; 3] = ["never", "not", "no"];

const ANY: &str = "write such as Fri, Mon-Fri, weekends, Thu 18:00-20:00, 2026-12-25, 2026-11-23..2026-11-30 or last 7 days of quarter";
const DATE: &str = "write year-month-day, such as 2026-12-25 or 2026-11-23..2026-11-30";
const TIMES: &str = "write hours and minutes from 00:00 to 24:00, such as 18:00-20:00";
const END: &str = "write such as last 7 days of quarter, last week of quarter or last day of month";

/// What is wrong with the words, and what would be right.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub what: String,
    pub way_out: String,
}

fn wrong<T>(what: impl Into<String>, way_out: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { what: what.into(), way_out: way_out.into() })
}

/// Which times these words mean. `deny`: they stand there, where `never on Fridays` may be written for `Fri`.
pub(super) fn when(words: &str, deny: bool) -> Result<When, Wrong> {
    let tidy = tidy(words);
    let mut rest: Vec<&str> = tidy.split(' ').collect();
    if rest.first().is_some_and(|first| NEGATIONS.contains(first)) {
        if !deny {
            return wrong(format!("{words:?} is not allowed time"), "write it below deny");
        }
        rest.remove(0);
    }
    let fillers = rest.iter().take_while(|word| FILLERS.contains(word)).count();
    match &rest[fillers..] {
        ["last", end @ ..] => end_of(words, end),
        [dates] if dates.starts_with(|c: char| c.is_ascii_digit()) && !dates.contains(':') => self::dates(dates),
        [one] if one.contains(':') => weekly([true; 7], one),
        [days] => Ok(whole_days(self::days(days)?)),
        [days, times] if times.contains(|c: char| c.is_ascii_digit()) => weekly(self::days(days)?, times),
        _ => wrong(format!("{words:?} is no window"), ANY),
    }
}

/// One spelling of everything that does not matter.
fn tidy(words: &str) -> String {
    let plain = words.to_lowercase().replace(['\u{2013}', '\u{2014}'], "-");
    let mut tidy = plain.split_whitespace().collect::<Vec<_>>().join(" ").replace(" and ", ",");
    for mark in ["..", "-", ","] {
        tidy = tidy.replace(&format!(" {mark}"), mark).replace(&format!("{mark} "), mark);
    }
    tidy
}

fn whole_days(days: [bool; 7]) -> When {
    When::Weekly { days, from: Time::midnight(), to: Time::midnight() }
}

/// `thu`, `mon-fri`, `sat,sun`, `weekends`.
fn days(text: &str) -> Result<[bool; 7], Wrong> {
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = match part {
            "day" | "days" | "daily" => (0, 6),
            "weekday" | "weekdays" | "workdays" => (0, 4),
            "weekend" | "weekends" => (5, 6),
            _ => match part.split_once('-') {
                Some((first, last)) => (day(first)?, day(last)?),
                None => (day(part)?, day(part)?),
            },
        };
        // Sat-Mon goes round the end of the week
        (0..=(last + 7 - first) % 7).for_each(|ahead| days[(first + ahead) % 7] = true);
    }
    Ok(days)
}

/// 0 is Monday.
fn day(text: &str) -> Result<usize, Wrong> {
    let one = text.strip_suffix('s').unwrap_or(text);
    let found = DAYS.iter().position(|(short, long)| [*short, *long].iter().any(|name| name.eq_ignore_ascii_case(one)));
    let known: Vec<&str> = DAYS.iter().flat_map(|(short, long)| [*short, *long]).collect();
    let meant = one_of(text, &known);
    let way_out = if meant.starts_with("did") { meant } else { ANY.to_owned() };
    found.map_or_else(|| wrong(format!("{text:?} is no day"), way_out), Ok)
}

/// `18:00-20:00`; an end before the beginning lies in the next day.
fn weekly(days: [bool; 7], times: &str) -> Result<When, Wrong> {
    if times.contains(',') {
        return wrong(format!("{times:?} are several times"), "write one entry for each");
    }
    let Some((from, to)) = times.split_once('-') else {
        return wrong(format!("{times:?} is no range of times"), TIMES);
    };
    let (from, to) = (clock(from, false)?, clock(to, true)?);
    let day = from == Time::midnight() && times.ends_with("24:00");
    if from == to && !day {
        return wrong(format!("{times:?} ends when it begins"), "leave the times out where whole days are meant");
    }
    Ok(When::Weekly { days, from, to })
}

/// A time of day; midnight may be written as the end of a day.
fn clock(text: &str, end: bool) -> Result<Time, Wrong> {
    let digits = |text: &str, most: usize| (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let parts = text.split_once(':').filter(|(hour, minute)| digits(hour, 2) && digits(minute, 2) && minute.len() == 2);
    let time = match parts {
        Some(("24", "00")) if end => Some(Time::midnight()),
        Some((hour, minute)) => hour.parse().ok().zip(minute.parse().ok()).and_then(|(hour, minute)| Time::new(hour, minute, 0, 0).ok()),
        None => None,
    };
    time.map_or_else(|| wrong(format!("{text:?} is no time of day"), TIMES), Ok)
}

/// `2026-12-25`, or `2026-11-23..2026-11-30` with both days in it.
pub(super) fn dates(text: &str) -> Result<When, Wrong> {
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    let (first, last) = (date(first.trim())?, date(last.trim())?);
    if last < first {
        return wrong(format!("{text} ends before it begins"), format!("write {last}..{first}"));
    }
    Ok(When::Dates { first, last })
}

fn date(text: &str) -> Result<Date, Wrong> {
    let parts: Vec<&str> = text.split('-').collect();
    let [year, month, day] = parts.as_slice() else { return wrong(format!("{text:?} is no date"), DATE) };
    let number = |text: &str, length: usize| (text.len() == length && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok());
    let (Some(Some(year)), Some(Some(month)), Some(Some(day))) = (number(year, 4), number(month, 2), number(day, 2)) else {
        return wrong(format!("{text:?} is no date"), DATE);
    };
    let small = |n: i16| i8::try_from(n).ok();
    let date = small(month).zip(small(day)).and_then(|(month, day)| Date::new(year, month, day).ok());
    date.map_or_else(|| wrong(format!("{text} is not in the calendar"), DATE), Ok)
}

/// What follows `last`: `7 days of quarter`, `week of a month`, `day of the year`.
fn end_of(words: &str, rest: &[&str]) -> Result<When, Wrong> {
    let not = || wrong(format!("{words:?} is no end of anything"), END);
    let (count, unit, of) = match rest {
        [unit, "of", of @ ..] => ("1", *unit, of),
        [count, unit, "of", of @ ..] => (*count, *unit, of),
        _ => return not(),
    };
    let of = match of {
        ["a" | "the" | "each" | "every", period] | [period] => *period,
        _ => return not(),
    };
    let (period, most) = match of.strip_suffix('s').unwrap_or(of) {
        "month" => (Period::Month, 28),
        "quarter" => (Period::Quarter, 90),
        "year" => (Period::Year, 92),
        _ => return not(),
    };
    let unit = match unit {
        "day" | "days" => 1,
        "week" | "weeks" => 7,
        _ => return not(),
    };
    let Some(count) = count.parse::<u16>().ok().filter(|n| *n > 0) else { return not() };
    match u8::try_from(count.saturating_mul(unit)).ok().filter(|days| *days <= most) {
        Some(days) => Ok(When::EndOf { period, days }),
        None => wrong(format!("{words:?} is more than the {most} days that count as the end of a {}", name(period)), END),
    }
}

const fn name(period: Period) -> &'static str {
    match period {
        Period::Month => "month",
        Period::Quarter => "quarter",
        Period::Year => "year",
    }
}
