//! `windows`: when a rollout may start and go up. `words.rs` reads one entry, `dates.rs` a file of them, `room.rs` tells
//! whether the steps fit.

mod dates;
mod room;
#[cfg(test)]
mod tests;
mod words;

use super::{Fields, Out, keys, word};
use crate::config::quantity::said;
use crate::config::walk::{At, one_of};
use crate::model::calendar::{AtEnd, Span, Windows};
use crate::model::rule::Step;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use room::NoRoom;
use std::time::Duration;

/// Most entries of `allow` and `deny` together, those of files included: each is looked at in every tick of a rollout.
const SPANS_MAX: usize = 2000;
const ZONE: &str = "write an IANA name such as Europe/Berlin, America/Los_Angeles or UTC";
pub(super) const AT_END: &[(&str, AtEnd)] = &[("finish", AtEnd::Finish), ("hold", AtEnd::Hold), ("roll-back", AtEnd::RollBack)];

pub(super) fn windows(fields: &Fields<'_>, steps: Option<&[Step]>, out: &mut Out<'_>) -> Option<Windows> {
    let at = fields.get("windows")?;
    let inner = at.fields(keys::WINDOWS, &mut out.report)?;
    let zone = inner.need("timezone", ZONE, &mut out.report).and_then(|at| zone(&at, out));
    let allow = inner.get("allow").map(|at| spans(&at, false, out));
    let deny = inner.get("deny").map(|at| spans(&at, true, out));
    if allow.is_none() && deny.is_none() {
        at.wrong(&mut out.report, "allows and denies nothing", "write allow: [ \"Thu 18:00-20:00\" ] or deny: [ Fri ]");
    }
    let at_end = word(&inner, "at-end", AT_END, out);
    if let (Some(at), None) = (inner.get("at-end"), &allow) {
        at.wrong(&mut out.report, "means nothing without allow", "leave it out: denied times only stop steps up");
    }
    let (allow, deny) = (allow.unwrap_or(Some(Vec::new()))?, deny.unwrap_or(Some(Vec::new()))?);
    if allow.len() + deny.len() > SPANS_MAX {
        at.wrong(&mut out.report, format_args!("{} windows exceed {SPANS_MAX}", allow.len() + deny.len()), "write ranges of dates");
    }
    if let (Some(at), Some(steps)) = (inner.get("allow"), steps) {
        fit(&at, &allow, &deny, steps, out);
    }
    Some(Windows { zone: zone?, allow, deny, at_end: at_end.unwrap_or(AtEnd::Finish) })
}

/// The zone with its own rules of daylight saving. Only the compiled-in database is asked: the system's may be missing in a
/// container, and differ where a journal is decided again. Names without a place are refused: `EST` has no daylight saving,
/// which whoever writes it rarely means.
fn zone(at: &At<'_>, out: &mut Out<'_>) -> Option<TimeZone> {
    let name = at.text(&mut out.report)?;
    let database = TimeZoneDatabase::bundled();
    let found = database.get(name).ok().filter(|_| is_place(name));
    if found.is_none() {
        let names: Vec<String> = database.available().map(|name| name.to_string()).filter(|name| is_place(name)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let meant = one_of(name, &names);
        let way_out = if is_place(name) && meant.starts_with("did") { meant } else { ZONE.to_owned() };
        at.wrong(&mut out.report, format_args!("no time zone is named {name:?}"), way_out);
    }
    found
}

fn is_place(name: &str) -> bool {
    name == "UTC" || name.contains('/')
}

/// The entries of one list; none of them if any is wrong.
fn spans(at: &At<'_>, deny: bool, out: &mut Out<'_>) -> Option<Vec<Span>> {
    let items = at.items(&mut out.report);
    if items.is_empty() && at.is_list() {
        at.wrong(&mut out.report, "is an empty list", "leave it out, or write such as [ \"Thu 18:00-20:00\" ]");
    }
    let read: Vec<Option<Vec<Span>>> = items.iter().map(|item| entry(item, deny, out)).collect();
    let all: Option<Vec<Vec<Span>>> = read.into_iter().collect();
    all.filter(|all| !all.is_empty()).map(|all| all.concat())
}

fn entry(at: &At<'_>, deny: bool, out: &mut Out<'_>) -> Option<Vec<Span>> {
    if at.is_map() { of_file(at, out) } else { of_words(at, deny, out).map(|span| vec![span]) }
}

fn of_words(at: &At<'_>, deny: bool, out: &mut Out<'_>) -> Option<Span> {
    let text = at.text(&mut out.report)?;
    match words::when(text, deny) {
        Ok(when) => Some(Span { words: text.to_owned(), when }),
        Err(wrong) => {
            at.wrong(&mut out.report, wrong.what, wrong.way_out);
            None
        }
    }
}

/// A file of dates. Its text is kept with the rule.
fn of_file(at: &At<'_>, out: &mut Out<'_>) -> Option<Vec<Span>> {
    let inner = at.fields(keys::DATES, &mut out.report)?;
    let at = inner.need("dates", "name a file beside the rule, such as dates: holidays.txt", &mut out.report)?;
    let name = at.text(&mut out.report)?;
    let text = match out.attached(name) {
        Ok(text) => text,
        Err(why) => {
            at.wrong(&mut out.report, format_args!("{name} cannot be read: {why}"), "");
            return None;
        }
    };
    match dates::dates(&text, name, &out.beside(name)) {
        Ok(spans) => Some(spans),
        Err(problems) => {
            out.report.join(problems);
            None
        }
    }
}

/// A rule that could never start is a mistake, not a long wait.
fn fit(at: &At<'_>, allow: &[Span], deny: &[Span], steps: &[Step], out: &mut Out<'_>) {
    let length: Duration = steps.iter().map(|step| step.lasts).sum();
    match room::room(allow, deny, length) {
        Ok(()) => {}
        Err(NoRoom::Longest(longest)) => {
            let what = format!("the steps last {} in all, the longest window {}", said(length), said(longest));
            at.wrong(&mut out.report, what, "allow a longer window, or write shorter steps");
        }
        Err(NoRoom::Denied) => {
            let what = format!("every window with room for the {} of all steps is denied", said(length));
            at.wrong(&mut out.report, what, "leave time between deny and allow");
        }
    }
}
