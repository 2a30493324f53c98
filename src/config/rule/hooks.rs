//! `hooks`: addresses that are POSTed to on the way. Those before something hold the rollout until any 2xx lets it pass; those
//! after something are only told.

use super::{Fields, LONGEST, Out, keys, optional, word};
use crate::config::walk::At;
use crate::model::HookPoint;
use crate::model::rule::{Hook, OnHookFail};
use std::ops::RangeInclusive;
use std::time::Duration;

/// How long a rollout may wait for a hook's yes.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=LONGEST;
/// Default of `timeout`: a smoke test. What takes longer says so.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
pub(super) const ON_FAIL: &[(&str, OnHookFail)] =
    &[("roll-back", OnHookFail::RollBack), ("hold", OnHookFail::Hold), ("ask", OnHookFail::Ask)];
/// Every hook's point; its key is the point's name.
pub(super) const POINTS: [HookPoint; 5] =
    [HookPoint::BeforeStart, HookPoint::BeforeStep, HookPoint::BeforePromotion, HookPoint::AfterPromotion, HookPoint::AfterRollback];

pub(super) fn hooks(fields: &Fields<'_>, out: &mut Out<'_>) -> Vec<Hook> {
    let Some(inner) = fields.get("hooks").and_then(|at| at.fields(keys::HOOKS, &mut out.report)) else { return Vec::new() };
    POINTS.into_iter().filter_map(|point| hook(&inner.get(point.name())?, point, out)).collect()
}

fn hook(at: &At<'_>, point: HookPoint, out: &mut Out<'_>) -> Option<Hook> {
    if !at.is_map() {
        return Some(Hook { at: point, url: at.address(&mut out.report)?, timeout: TIMEOUT_DEFAULT, on_fail: on_fail(point) });
    }
    let inner = at.fields(keys::HOOK, &mut out.report)?;
    let url = inner.need("url", "write the address to POST to", &mut out.report).and_then(|at| at.address(&mut out.report));
    let timeout = optional(&inner, "timeout", |at| at.duration(TIMEOUT, &mut out.report));
    let said = word(&inner, "on-fail", ON_FAIL, out);
    if let Some(at) = inner.get("on-fail").filter(|_| is_after(point)) {
        at.wrong(
            &mut out.report,
            format_args!("means nothing {}", point.name().replace('-', " a ")),
            "leave it out: the rollout is over by then",
        );
    }
    Some(Hook { at: point, url: url?, timeout: timeout.unwrap_or(TIMEOUT_DEFAULT), on_fail: said.unwrap_or_else(|| on_fail(point)) })
}

const fn is_after(point: HookPoint) -> bool {
    matches!(point, HookPoint::AfterPromotion | HookPoint::AfterRollback)
}

/// What a no does where the rule does not say. Up to the last step a hook that is down is no evidence against the canary, so a
/// person decides; what fails at the gate of the promotion has been given all the traffic already, and goes back. (After
/// something there is nothing to decide.)
const fn on_fail(point: HookPoint) -> OnHookFail {
    match point {
        HookPoint::BeforePromotion => OnHookFail::RollBack,
        HookPoint::BeforeStart | HookPoint::BeforeStep | HookPoint::AfterPromotion | HookPoint::AfterRollback => OnHookFail::Ask,
    }
}
