//! After the bake (DESIGN 6.2): what becomes of stable. Traffic never goes to a stable that is half updated: it goes back only
//! when the copy is there and ready, and returns to the canary if that fails.

use super::machine::{Course, Machine};
use crate::model::rule::Promotion;
use crate::model::{Hold, HoldWhy, Level, Promoting, Timestamp, Topic, Weight, WorkloadAction};

impl Machine {
    /// All the traffic is on the canary and the last step is over.
    pub(super) fn promote(&mut self, now: Timestamp) {
        match self.terms.promotion {
            Promotion::Swap { .. } | Promotion::Leave => {
                self.course = Course::Promoting { at: Promoting::Settling, since: now };
                self.drained = Some(now); // no traffic has to leave
                self.finish_drained(now);
            }
            Promotion::Copy => {
                self.course = Course::Promoting { at: Promoting::Copying, since: now };
                self.ask_work(now, WorkloadAction::Copy);
            }
            Promotion::External { .. } => self.course = Course::Promoting { at: Promoting::External, since: now },
        }
    }

    /// Stable is equal and ready: the weight goes back to it.
    pub(super) fn shift_back(&mut self, now: Timestamp) {
        self.works.clear();
        self.course = Course::Promoting { at: Promoting::ShiftingBack, since: now };
        self.ask_weight(now, Weight::ZERO);
    }

    /// Stable is not what it was found to be, or the weight does not go back to it: the canary keeps all the traffic, and stable
    /// is made and looked at again.
    pub(super) fn return_to_canary(&mut self, now: Timestamp, why: &str) {
        let text =
            format!("the weight does not go back to stable ({why}): all traffic returns to the canary, and stable is looked at again");
        self.event(Level::Page, Topic::Stuck, text);
        self.course = Course::Promoting { at: Promoting::Copying, since: now };
        self.ask_weight(now, Weight::FULL);
    }

    /// Is stable being written, or written, by us? Then there is nothing left to roll back to.
    pub(super) fn stable_is_ours(&self) -> bool {
        matches!(self.course, Course::Promoting { .. }) && self.terms.promotion == Promotion::Copy
    }

    pub(super) fn hold_promotion(&self) -> Option<Hold> {
        let hold = |text: String, ends: &str, until| Hold { why: HoldWhy::Promotion, text, ends: ends.to_owned(), until };
        if let Some(work) = self.hold_work() {
            return Some(work);
        }
        let Course::Promoting { at, since } = self.course else { return None };
        let ends = "a person says `promote`, once stable is equal and ready: the weight goes back to it; or rolls back";
        match (at, self.terms.promotion) {
            (Promoting::External, Promotion::External { within }) => {
                let until = Some(since + within).filter(|_| self.pause.is_none());
                Some(hold("somebody else has to make stable equal to the canary".to_owned(), ends, until))
            }
            (Promoting::ShiftingBack | Promoting::Settling, _) => None,
            _ => {
                Some(hold("stable is looked at again when the canary has all the traffic".to_owned(), "the router takes the weight", None))
            }
        }
    }
}
