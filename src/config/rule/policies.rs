//! `policies`: what to do when judging is not possible.

use super::{Fields, LONGEST, Out, keys};
use crate::config::walk::At;
use crate::model::rule::{HoldThen, OnForeign, OnShared, Policies, Then};
use std::time::Duration;

const SHORTEST: Duration = Duration::from_secs(1);
pub(super) const THEN: &[(&str, Then)] = &[("ask", Then::Ask), ("roll-back", Then::RollBack), ("hold", Then::Hold)];
pub(super) const SHARED: &[(&str, OnShared)] = &[("hold", OnShared::Hold), ("roll-back", OnShared::RollBack), ("page", OnShared::Page)];
pub(super) const VANISHED: &[(&str, Then)] = &[("roll-back", Then::RollBack), ("hold", Then::Hold)];
pub(super) const FOREIGN: &[(&str, OnForeign)] = &[("reassert", OnForeign::Reassert), ("yield", OnForeign::Yield)];

pub(super) fn policies(fields: &Fields<'_>, out: &mut Out<'_>) -> Policies {
    let mut policies = Policies::default();
    let Some(inner) = fields.get("policies").and_then(|at| at.fields(keys::POLICIES, &mut out.report)) else { return policies };
    if let Some(blind) = hold_then(&inner, "blind", policies.blind, out) {
        // one word for all blindness, unless the canary's has its own
        (policies.blind, policies.blind_canary) = (blind, blind);
    }
    policies.blind_canary = hold_then(&inner, "blind-canary", policies.blind_canary, out).unwrap_or(policies.blind_canary);
    policies.undecided = hold_then(&inner, "undecided", policies.undecided, out).unwrap_or(policies.undecided);
    policies.shared = super::word(&inner, "shared", SHARED, out).unwrap_or(policies.shared);
    policies.vanished = super::word(&inner, "vanished", VANISHED, out).unwrap_or(policies.vanished);
    policies.foreign = super::word(&inner, "foreign", FOREIGN, out).unwrap_or(policies.foreign);
    policies
}

fn hold_then(fields: &Fields<'_>, key: &str, default: HoldThen, out: &mut Out<'_>) -> Option<HoldThen> {
    let at: At<'_> = fields.get(key)?;
    let inner = at.fields(keys::HOLD_THEN, &mut out.report)?;
    let hold = super::optional(&inner, "hold", |at| at.duration(SHORTEST..=LONGEST, &mut out.report));
    let then = super::word(&inner, "then", THEN, out);
    Some(HoldThen { hold: hold.unwrap_or(default.hold), then: then.unwrap_or(default.then) })
}
