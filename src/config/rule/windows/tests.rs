//! Words to values, one by one; what is wrong is told in `tests/data/rules/bad`.

use super::room::{NoRoom, room};
use super::words::when;
use crate::model::calendar::{Period, Span, When};
use jiff::civil::{Date, Time, date, time};
use std::time::Duration;

const WHOLE: (Time, Time) = (Time::midnight(), Time::midnight());

fn weekly(days: &str, (from, to): (Time, Time)) -> When {
    let on = |index: usize| days.as_bytes().get(index).is_some_and(|b| *b != b'-');
    When::Weekly { days: [0, 1, 2, 3, 4, 5, 6].map(on), from, to }
}

#[track_caller]
fn reads(words: &[&str], wanted: &When) {
    for words in words {
        assert_eq!(&when(words, true).unwrap_or_else(|wrong| panic!("{words}: {wrong:?}")), wanted, "{words}");
    }
}

#[test]
fn days_are_whole_and_may_be_said_in_many_ways() {
    reads(&["Fri", "fri", "Friday", "Fridays", "FRIDAY", "on Fridays", "every Friday"], &weekly("----F--", WHOLE));
    reads(&["never on Fridays", "Never on Friday", "not on Fri", "never Fri", "no Fridays"], &weekly("----F--", WHOLE));
    reads(
        &["Sat,Sun", "Sat, Sun", "Saturday and Sunday", "weekends", "Weekend", "Sat-Sun", "never on weekends"],
        &weekly("-----SS", WHOLE),
    );
    reads(&["Mon-Fri", "Mon - Fri", "Monday\u{2013}Friday", "weekdays", "Mon,Tue,Wed,Thu,Fri"], &weekly("MTWTF--", WHOLE));
    reads(&["Sat-Mon", "Sat,Sun,Mon"], &weekly("M----SS", WHOLE));
    reads(&["daily", "every day", "Mon-Sun", "Wed-Tue"], &weekly("MTWTFSS", WHOLE));
}

#[test]
fn times_belong_to_their_days_and_may_go_over_midnight() {
    let evening = (time(18, 0, 0, 0), time(20, 0, 0, 0));
    reads(&["Thu 18:00-20:00", "thursdays  18:00 - 20:00", "Thu 18:00\u{2013}20:00"], &weekly("---T---", evening));
    reads(&["18:00-20:00", "daily 18:00-20:00"], &weekly("MTWTFSS", evening));
    reads(&["Mon-Thu 9:05-17:30"], &weekly("MTWT---", (time(9, 5, 0, 0), time(17, 30, 0, 0))));
    reads(&["Fri 22:00-02:00"], &weekly("----F--", (time(22, 0, 0, 0), time(2, 0, 0, 0))));
    reads(&["Fri 22:00-24:00", "Fri 22:00-00:00"], &weekly("----F--", (time(22, 0, 0, 0), Time::midnight())));
    reads(&["Fri 00:00-24:00"], &weekly("----F--", WHOLE));
}

#[test]
fn dates_are_single_or_from_and_to() {
    let dates = |first: Date, last: Date| When::Dates { first, last };
    reads(&["2026-12-25"], &dates(date(2026, 12, 25), date(2026, 12, 25)));
    reads(&["2026-11-23..2026-11-30", "2026-11-23 .. 2026-11-30"], &dates(date(2026, 11, 23), date(2026, 11, 30)));
    reads(&["2028-02-29"], &dates(date(2028, 2, 29), date(2028, 2, 29)));
}

#[test]
fn the_end_of_a_period_is_counted_in_days_or_weeks() {
    let end = |period, days| When::EndOf { period, days };
    reads(
        &["last 7 days of quarter", "last week of a quarter", "the last week of each quarter", "Last 1 week of quarters"],
        &end(Period::Quarter, 7),
    );
    reads(&["never in the last week of a quarter"], &end(Period::Quarter, 7));
    reads(&["last day of month", "last day of the month", "last 1 day of every month"], &end(Period::Month, 1));
    reads(&["last 2 weeks of year"], &end(Period::Year, 14));
}

#[test]
fn what_is_no_window_is_refused_with_what_would_be_right() {
    for (words, what, way_out) in [
        ("fryday", "\"fryday\" is no day", "did you mean \"Friday\"?"),
        ("someday", "\"someday\" is no day", "write such as Fri"),
        ("Thu 18-20", "\"18\" is no time of day", "such as 18:00-20:00"),
        ("Thu 6pm-8pm", "\"6pm\" is no time of day", "such as 18:00-20:00"),
        ("Black Friday", "\"Black Friday\" is no window", "write such as Fri"),
    ] {
        let wrong = when(words, true).expect_err(words);
        assert!(wrong.what.contains(what) && wrong.way_out.contains(way_out), "{words}: {wrong:?}");
    }
    for words in [
        "Fri 18:00",
        "Fri 18:00-",
        "18:00-18:00",
        "00:00-00:00",
        "25:00-26:00",
        "18:60-19:00",
        "24:00-02:00",
        "Thu 18:00-20:00,22:00-23:00",
        "Thu 18:00-20:00 Fri",
        "Mon-",
        "-Fri",
        ",",
        "-",
        "..",
        "never",
        "last",
        "last week",
        "last 0 days of month",
        "last 29 days of month",
        "last 91 days of quarter",
        "last 99999999 days of year",
        "last 7 days of sprint",
        "last 2 fortnights of year",
        "first day of month",
        "2026-13-01",
        "2026-02-30",
        "26-12-25",
        "2026-1-5",
        "25.12.2026",
        "2026-12-25..",
        "..2026-12-25",
        "2026-12-25..2026-12-24",
        "2026-12-25T10:00",
        "+2026-1-01",
        "2026-12-25 18:00-20:00",
        "1",
        "\u{661}\u{662}:00-13:00",
        "Fri\u{0}",
        "last \u{b2} days of month",
    ] {
        let wrong = when(words, true).expect_err(words);
        assert!(!wrong.what.is_empty() && !wrong.way_out.is_empty(), "{words}: {wrong:?}");
    }
    assert_eq!(when("never on Fridays", false).expect_err("allow").way_out, "write it below deny");
}

fn spans(words: &[&str]) -> Vec<Span> {
    words.iter().map(|words| Span { words: (*words).to_owned(), when: when(words, true).expect(words) }).collect()
}

#[track_caller]
fn fits(allow: &[&str], deny: &[&str], steps: u64, wanted: Result<(), NoRoom>) {
    assert_eq!(room(&spans(allow), &spans(deny), Duration::from_secs(60 * steps)), wanted, "{allow:?} without {deny:?}: {steps} min");
}

#[test]
fn room_is_the_longest_stretch_of_allowed_time() {
    let only = |minutes: u64| Err(NoRoom::Longest(Duration::from_secs(60 * minutes)));
    fits(&[], &["Fri"], 1_000_000, Ok(()));
    fits(&["Thu 18:00-20:00"], &[], 120, Ok(()));
    fits(&["Thu 18:00-20:00"], &[], 121, only(120));
    fits(&["Thu 18:00-20:00", "Fri 08:00-09:00"], &[], 121, only(120));
    fits(&["Thu 18:00-20:00", "Thu 20:00-21:00"], &[], 180, Ok(()));
    fits(&["Thu 22:00-02:00", "Fri 01:00-03:00"], &[], 300, Ok(()));
    fits(&["Sun 22:00-24:00", "Mon 00:00-01:00"], &[], 181, only(180));
    fits(&["Sat-Sun"], &[], 2 * 24 * 60 + 1, only(2 * 24 * 60));
    fits(&["daily"], &[], 40 * 24 * 60, Ok(()));
    // never refused for what only a calendar can tell
    fits(&["2026-12-25"], &[], 24 * 60, Ok(()));
    fits(&["2026-12-24..2026-12-25"], &["2026-12-24..2026-12-25"], 48 * 60, Ok(()));
    fits(&["last day of month", "18:00-19:00"], &[], 26 * 60 + 1, only(26 * 60));
}

#[test]
fn a_window_in_which_no_moment_is_free_has_no_room() {
    fits(&["Fri 18:00-20:00"], &["Fri"], 60, Err(NoRoom::Denied));
    fits(&["Fri 18:00-20:00"], &["Fri 18:00-19:01"], 60, Err(NoRoom::Denied));
    fits(&["Fri 18:00-20:00"], &["Fri 18:00-19:00"], 60, Ok(()));
    fits(&["Thu-Fri"], &["Fri"], 60, Ok(()));
}

proptest::proptest! {
    #[test]
    fn no_words_panic_and_every_refusal_says_what_and_what_else(words in "[ a-zA-Z0-9:,.\\-]{0,40}", deny in proptest::bool::ANY) {
        if let Err(wrong) = when(&words, deny) {
            proptest::prop_assert!(!wrong.what.is_empty() && !wrong.way_out.is_empty());
        }
    }

    #[test]
    fn every_range_of_times_is_read_as_written(from in 0..1440usize, to in 0..1440usize) {
        let clock = |minute: usize| format!("{:02}:{:02}", minute / 60, minute % 60);
        let read = when(&format!("Thu {}-{}", clock(from), clock(to)), false);
        if from == to {
            proptest::prop_assert!(read.is_err(), "no length");
        } else {
            let at = |minute: usize| time((minute / 60) as i8, (minute % 60) as i8, 0, 0);
            proptest::prop_assert_eq!(read, Ok(weekly("---T---", (at(from), at(to)))));
        }
    }
}
