//! Maintenance windows and freezes as a rule writes them, read into values (DESIGN 6.5). Whether one is open at an instant is
//! computed in `rollout`; the words are read in `config`. Days and times are civil: of the rule's own time zone.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

/// When a rollout may start and go up. Nothing here ever delays a rollback.
#[derive(Clone, Debug, PartialEq)]
pub struct Windows {
    /// Whose civil time the words mean; its own rules of daylight saving are in it, so nothing is looked up later.
    pub zone: TimeZone,
    /// A rollout starts inside one of these, with room for all its steps; empty = at any time.
    pub allow: Vec<Span>,
    /// No start and no step up inside any of these.
    pub deny: Vec<Span>,
    /// What the end of an allowed window does to a running rollout.
    pub at_end: AtEnd,
}

/// What the end of an allowed window does to a running rollout. A denied span only ever stops steps up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtEnd {
    /// It goes on.
    Finish,
    /// It waits at its weight for the next window.
    Hold,
    /// It rolls back.
    RollBack,
}

/// One entry of `allow` or `deny`, with the words it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// As the rule writes it (of a file of dates: the file's name and the date), for sentences.
    pub words: String,
    /// Which times.
    pub when: When,
}

/// Which times a span covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// On these days of the week, Monday first, from `from` up to but not at `to`; `to` at or before `from` reaches into the
    /// next day, and both at midnight mean the whole day.
    Weekly {
        /// Monday first.
        days: [bool; 7],
        /// First moment.
        from: Time,
        /// First moment after it.
        to: Time,
    },
    /// Whole days from `first` to `last`, both included.
    Dates {
        /// First day.
        first: Date,
        /// Last day, not before `first`.
        last: Date,
    },
    /// The last `days` days of each of these (1 to 92).
    EndOf {
        /// Of what.
        period: Period,
        /// How many days.
        days: u8,
    },
}

/// A stretch of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// A month.
    Month,
    /// January to March, April to June, ...
    Quarter,
    /// A year.
    Year,
}
