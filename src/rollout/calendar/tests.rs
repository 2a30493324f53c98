//! Named cases, and the searches against a walk from minute to minute.

use super::*;
use crate::model::calendar::AtEnd;
use proptest::collection::vec;
use proptest::prelude::*;

const MINUTE: Duration = Duration::from_secs(60);

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).expect("a zone of the database")
}

/// The instant at which the wall clock shows this (the first of two).
fn at(zone: &TimeZone, shown: &str) -> Timestamp {
    let shown: DateTime = shown.parse().expect("a civil time");
    timestamp(zone.to_ambiguous_timestamp(shown).earlier().expect("an instant"))
}

fn time(text: &str) -> Time {
    if text == "24:00" { Time::midnight() } else { text.parse().expect("a time") }
}

fn weekly(days: &str, from: &str, to: &str) -> Span {
    let all = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    let days = all.map(|d| days.split(',').any(|one| one == d));
    Span { words: format!("{days:?} {from}-{to}"), when: When::Weekly { days, from: time(from), to: time(to) } }
}

fn dates(first: &str, last: &str) -> Span {
    let when = When::Dates { first: first.parse().expect("a date"), last: last.parse().expect("a date") };
    Span { words: format!("{first}..{last}"), when }
}

fn end_of(period: Period, days: u8) -> Span {
    Span { words: format!("last {days} days of {period:?}"), when: When::EndOf { period, days } }
}

fn windows(zone: &TimeZone, allow: Vec<Span>, deny: Vec<Span>) -> Windows {
    Windows { zone: zone.clone(), allow, deny, at_end: AtEnd::Finish }
}

fn hours(h: u64) -> Duration {
    MINUTE * 60 * h as u32
}

#[test]
fn thursday_evening_pacific() {
    let la = zone("America/Los_Angeles");
    let w = windows(&la, vec![weekly("Thu", "18:00", "20:00")], vec![]);
    assert_eq!(start(&w, at(&la, "2026-11-19T18:00"), hours(2)), Ok(()), "to the last second");
    assert_eq!(open_until(&w, at(&la, "2026-11-19T18:30")), Some(at(&la, "2026-11-19T20:00")));
    let shut = start(&w, at(&la, "2026-11-19T18:01"), hours(2)).expect_err("no room");
    assert_eq!(shut.opens, Some(at(&la, "2026-11-26T18:00")));
    assert!(shut.why.contains("closes Thu 2026-11-19 20:00 -0800") && shut.why.contains("2 h"), "{}", shut.why);
    let shut = start(&w, at(&la, "2026-11-18T12:00"), hours(1)).expect_err("a Wednesday");
    assert!(shut.why.starts_with("outside of"), "{}", shut.why);
    assert_eq!(shut.opens, Some(at(&la, "2026-11-19T18:00")));
    assert_eq!(start(&w, at(&la, "2026-11-18T12:00"), hours(3)).expect_err("never room").opens, None);
    // the same wall clock in summer and winter, another instant
    let (summer, winter) = (at(&la, "2026-10-29T18:00"), at(&la, "2026-11-05T18:00"));
    assert_eq!(winter.since(summer), hours(7 * 24 + 1));
    assert_eq!(opens_after(&w, summer + hours(3)), Some(winter));
}

#[test]
fn black_friday_week_a_friday_and_the_end_of_a_quarter() {
    let la = zone("America/Los_Angeles");
    let deny = vec![weekly("Fri", "00:00", "24:00"), end_of(Period::Quarter, 7), dates("2026-11-23", "2026-11-30")];
    let w = windows(&la, vec![], deny);
    let is = |shown: &str| denied(&w, at(&la, shown)).is_some();
    assert!(is("2026-11-20T00:00") && is("2026-11-20T23:59") && !is("2026-11-21T00:00") && !is("2026-11-19T23:59"), "a Friday");
    assert!(!is("2026-11-22T23:59") && is("2026-11-23T00:00") && is("2026-11-30T23:59") && !is("2026-12-01T00:00"));
    assert_eq!(denied_until(&w, at(&la, "2026-11-24T09:00")), Some(at(&la, "2026-12-01T00:00")));
    assert!(!is("2026-12-24T12:00") && is("2026-12-25T00:00") && is("2026-12-31T23:59"), "the last seven days of December");
    // Friday the 25th to Thursday the 31st, and the 1st of January 2027 is a Friday again: one freeze
    assert_eq!(denied_until(&w, at(&la, "2026-12-26T09:00")), Some(at(&la, "2027-01-02T00:00")));
    assert!(is("2026-09-24T00:00") && !is("2026-09-23T23:59") && is("2026-06-24T00:00") && !is("2026-08-31T12:00"));
    let shut = start(&w, at(&la, "2026-11-25T09:00"), hours(1)).expect_err("a freeze");
    assert_eq!((shut.why.as_str(), shut.opens), ("denied by 2026-11-23..2026-11-30", Some(at(&la, "2026-12-01T00:00"))));
}

#[test]
fn ends_of_months_and_years() {
    let berlin = zone("Europe/Berlin");
    let month = windows(&berlin, vec![], vec![end_of(Period::Month, 1)]);
    let is = |w: &Windows, shown: &str| denied(w, at(&berlin, shown)).is_some();
    assert!(is(&month, "2028-02-29T12:00") && !is(&month, "2028-02-28T12:00") && is(&month, "2026-02-28T12:00"), "leap years");
    let year = windows(&berlin, vec![], vec![end_of(Period::Year, 14)]);
    assert!(is(&year, "2026-12-18T00:00") && !is(&year, "2026-12-17T23:59") && !is(&year, "2026-06-30T12:00"));
    let long = windows(&berlin, vec![], vec![end_of(Period::Month, 92)]);
    assert!(is(&long, "2026-05-01T00:00"));
    assert_eq!(start(&long, at(&berlin, "2026-05-01T00:00"), hours(1)).expect_err("never").opens, None);
}

#[test]
fn the_hour_that_comes_twice_and_the_one_that_never_comes() {
    let berlin = zone("Europe/Berlin");
    // 25 October 2026: 03:00 becomes 02:00
    let twice = windows(&berlin, vec![weekly("Sun", "02:15", "02:45")], vec![]);
    let first = at(&berlin, "2026-10-25T02:15");
    assert_eq!(open_until(&twice, first), Some(first + MINUTE * 30));
    assert_eq!(opens_after(&twice, first + MINUTE * 30), Some(first + MINUTE * 60), "and once more an hour later");
    let over = windows(&berlin, vec![weekly("Sun", "01:00", "04:00")], vec![]);
    assert_eq!(start(&over, at(&berlin, "2026-10-25T01:00"), hours(4)), Ok(()), "three hours on the clock are four");
    // 29 March 2026: 02:00 becomes 03:00
    assert_eq!(opens_after(&twice, at(&berlin, "2026-03-29T01:00")), Some(at(&berlin, "2026-04-05T02:15")));
    assert!(start(&over, at(&berlin, "2026-03-29T01:00"), hours(3)).is_err(), "three hours on the clock are two");
    assert_eq!(start(&over, at(&berlin, "2026-03-29T01:00"), hours(2)), Ok(()));
    let edge = windows(&berlin, vec![weekly("Sun", "02:30", "05:00")], vec![]);
    assert_eq!(
        opens_after(&edge, at(&berlin, "2026-03-29T01:00")),
        Some(at(&berlin, "2026-03-29T03:00")),
        "02:30 never comes: the jump opens it"
    );
}

#[test]
fn over_midnight_and_spans_that_touch() {
    let la = zone("America/Los_Angeles");
    let w = windows(&la, vec![weekly("Thu", "22:00", "24:00"), weekly("Fri", "00:00", "02:00"), weekly("Sun", "22:00", "02:00")], vec![]);
    assert_eq!(start(&w, at(&la, "2026-11-19T22:00"), hours(4)), Ok(()));
    assert_eq!(open_until(&w, at(&la, "2026-11-19T22:00")), Some(at(&la, "2026-11-20T02:00")));
    assert_eq!(open_until(&w, at(&la, "2026-11-22T23:00")), Some(at(&la, "2026-11-23T02:00")));
    assert!(!is_allowed(&w, at(&la, "2026-11-22T01:00")), "the night to Sunday is Saturday's");
    let always = windows(&la, vec![weekly("Mon,Tue,Wed,Thu,Fri,Sat,Sun", "00:00", "24:00")], vec![]);
    assert_eq!(open_until(&always, at(&la, "2026-11-22T01:00")), None);
    assert_eq!(start(&always, at(&la, "2026-11-22T01:00"), hours(24 * 30)), Ok(()));
}

#[test]
fn a_day_that_was_skipped() {
    // Samoa had no 30 December 2011
    let apia = zone("Pacific/Apia");
    let w = windows(&apia, vec![], vec![dates("2011-12-30", "2011-12-30"), weekly("Fri", "00:00", "24:00")]);
    let before = at(&apia, "2011-12-29T23:59");
    assert!(denied(&w, before).is_none() && denied(&w, before + MINUTE).is_none());
}

#[test]
fn times_out_of_every_calendar_are_no_panic() {
    let utc = zone("UTC");
    let w = windows(&utc, vec![weekly("Thu", "18:00", "20:00")], vec![dates("2026-01-01", "2026-01-02")]);
    for ms in [i64::MIN, i64::MAX, 253_402_207_200_000, -377_705_023_201_000] {
        let _ = start(&w, Timestamp::from_millis(ms), hours(1));
        let _ = civil(&w, Timestamp::from_millis(ms));
    }
}

/// A zone, and an instant a few hours before it changes its offset (or an ordinary one).
fn around() -> impl Strategy<Value = (TimeZone, Timestamp)> {
    let zones = [
        "America/Los_Angeles",
        "Europe/Berlin",
        "Australia/Lord_Howe", // half an hour
        "America/Havana",      // at midnight
        "Asia/Beirut",         // midnight becomes 23:00 of the day before
        "America/Sao_Paulo",
        "Africa/Casablanca",
        "Asia/Kolkata",
    ];
    (prop::sample::select(zones.to_vec()), 0usize..6, -2000i64..2000).prop_map(|(name, nth, minutes)| {
        let zone = zone(name);
        let year: Instant = "2017-01-01T00:00:00Z".parse().expect("an instant");
        let change = zone.following(year).map(|t| t.timestamp()).nth(nth).filter(|t| t.as_second() < 1_900_000_000);
        let near = change.unwrap_or("2026-12-28T00:00:00Z".parse().expect("an instant"));
        (zone, Timestamp::from_millis((near.as_second() / 60 + minutes) * 60_000))
    })
}

fn span() -> impl Strategy<Value = Span> {
    let quarter = || (0i8..24, prop::sample::select(vec![0i8, 15, 30, 45])).prop_map(|(h, m)| Time::constant(h, m, 0, 0));
    let weekly = (any::<[bool; 7]>(), quarter(), quarter()).prop_map(|(days, from, to)| When::Weekly { days, from, to });
    let late = (any::<[bool; 7]>(), 20i8..24, 0i8..4).prop_map(|(days, from, to)| When::Weekly {
        days,
        from: Time::constant(from, 30, 0, 0),
        to: Time::constant(to, 0, 0, 0),
    });
    let period = prop::sample::select(vec![Period::Month, Period::Quarter, Period::Year]);
    let end = (period, 1u8..10).prop_map(|(period, days)| When::EndOf { period, days });
    prop_oneof![3 => weekly, 2 => late, 1 => end].prop_map(|when| Span { words: "w".to_owned(), when })
}

/// The first minute after `at` that passes, or `None` within three days.
fn walk(at: Timestamp, test: impl Fn(Timestamp) -> bool) -> Option<Timestamp> {
    (1..=3 * 24 * 60).map(|m| at + MINUTE * m).find(|t| test(*t))
}

/// What is found within three days.
fn near(at: Timestamp, found: Option<Timestamp>) -> Option<Timestamp> {
    found.filter(|t| *t <= at + DAY * 3)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_search_finds_what_a_walk_from_minute_to_minute_finds(
        (zone, at) in around(),
        allow in vec(span(), 0..4),
        deny in vec(span(), 0..3),
        room in 0u64..600,
    ) {
        let w = windows(&zone, allow, deny);
        let room = MINUTE * room as u32;
        if !is_allowed(&w, at) {
            prop_assert_eq!(near(at, opens_after(&w, at)), walk(at, |t| is_allowed(&w, t)));
        } else if !w.allow.is_empty() {
            prop_assert_eq!(near(at, open_until(&w, at)), walk(at, |t| !is_allowed(&w, t)));
        }
        let held = |t: Timestamp| (denied(&w, t).map(|s| &s.words), is_allowed(&w, t));
        prop_assert_eq!(near(at, changes_after(&w, at)), walk(at, |t| held(t) != held(at)));
        if denied(&w, at).is_some() {
            prop_assert_eq!(near(at, denied_until(&w, at)), walk(at, |t| denied(&w, t).is_none()));
        }
        let may = |t: Timestamp| {
            let minutes = room.as_secs() / 60;
            is_allowed(&w, t) && denied(&w, t).is_none() && (0..minutes).all(|m| is_allowed(&w, t + MINUTE * m as u32))
        };
        match start(&w, at, room) {
            Ok(()) => prop_assert!(may(at)),
            Err(shut) => {
                prop_assert!(!may(at));
                // a minute of the walk is dear here: only whether the answer is right, and none before it on its own day
                if let Some(opens) = shut.opens {
                    prop_assert!(may(opens));
                    prop_assert!((1..=180u32).map(|m| opens - MINUTE * m).all(|t| t <= at || !may(t)));
                }
            }
        }
    }
}
