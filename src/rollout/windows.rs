//! The calendar's hold on a running rollout: a freeze stops steps up, and the end of its window does what the rule says. Neither
//! ever stands in the way of a rollback.

use super::calendar;
use super::machine::{Course, Machine};
use crate::model::calendar::{AtEnd, Windows};
use crate::model::{Action, Hold, HoldWhy, Reason, Timestamp};
use std::time::Duration;

/// What does not change for a year is looked up again after so long all the same.
const LOOK_AGAIN: Duration = Duration::from_secs(30 * 24 * 3600);

/// What the calendar says, kept until it says something else: a search through it is not done at each poll.
#[derive(Clone, Debug, Default)]
pub(super) struct CalendarView {
    /// From when until when it is so.
    valid: Option<(Timestamp, Timestamp)>,
    /// The freeze that holds: its words and its end.
    denied: Option<(String, Option<Timestamp>)>,
    /// No window is open: all their words, and when the next one opens.
    closed: Option<(String, Option<Timestamp>)>,
    /// When the open window closes.
    closes: Option<Timestamp>,
}

impl CalendarView {
    fn look(windows: &Windows, now: Timestamp) -> Self {
        let until = calendar::changes_after(windows, now).unwrap_or(now + LOOK_AGAIN);
        let open = calendar::is_allowed(windows, now);
        Self {
            valid: Some((now, until)),
            denied: calendar::denied(windows, now).map(|span| (span.words.clone(), calendar::denied_until(windows, now))),
            closed: (!open).then(|| (calendar::all_words(windows), calendar::opens_after(windows, now))),
            closes: if open { calendar::open_until(windows, now) } else { None },
        }
    }
}

impl Machine {
    /// Before anything is decided.
    pub(super) fn look_at_calendar(&mut self, now: Timestamp) {
        let Some(windows) = &self.terms.windows else { return };
        if self.calendar.valid.is_none_or(|(from, until)| now < from || now >= until) {
            self.calendar = CalendarView::look(windows, now);
        }
    }

    fn at_end(&self) -> Option<AtEnd> {
        self.terms.windows.as_ref().map(|w| w.at_end)
    }

    /// Would the end of this step raise the weight?
    fn next_is_up(&self) -> bool {
        let next = self.terms.steps.get(self.step as usize + 1);
        next.map_or(!self.weight.is_full(), |step| step.weight > self.weight)
    }

    /// A freeze holds steps up; a closed window holds the weight where the rule says so, the promotion too.
    pub(super) fn hold_window(&self) -> Option<Hold> {
        if !self.at_step() {
            return None;
        }
        let hold = |text: String, ends: &str, until| Hold { why: HoldWhy::Window, text, ends: ends.to_owned(), until };
        if let Some((words, until)) = self.calendar.denied.as_ref().filter(|_| self.next_is_up()) {
            let text = format!("no step up from {} now, it is denied by {words}", self.weight);
            return Some(hold(text, "the freeze ends, or break-glass-promote; rolling back is always possible", *until));
        }
        let (words, opens) = self.calendar.closed.as_ref().filter(|_| self.at_end() == Some(AtEnd::Hold))?;
        let text = format!("the maintenance window is over ({words}): it waits at {}", self.weight);
        Some(hold(text, "the next window opens, or break-glass-promote; rolling back is always possible", *opens))
    }

    fn ends_with_window(&self) -> bool {
        let under_way = matches!(self.course, Course::Climbing { .. } | Course::Completing { forced: false });
        under_way && !self.frozen && self.at_end() == Some(AtEnd::RollBack)
    }

    pub(super) fn window_acts_at(&self) -> Option<Timestamp> {
        self.calendar.closes.filter(|_| self.ends_with_window())
    }

    /// The window closed under a rollout that must not outlast it.
    pub(super) fn act_on_closed_window(&mut self, now: Timestamp) -> Option<Action> {
        let (words, _) = self.calendar.closed.clone().filter(|_| self.ends_with_window())?;
        Some(self.roll_back(now, vec![Reason::WindowClosed { words }]))
    }
}
