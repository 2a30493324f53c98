//! When a step may end, and the verdict on one metric (STATISTICS 7).

use super::clock::EPS_S;
use crate::model::{Advance, Blind, Keep, Verdict};
use arrayvec::ArrayVec;

/// The state of a step after a poll.
#[derive(Clone, Copy, Debug)]
pub struct StepState {
    /// When a step ends.
    pub advance: Advance,
    /// Was the poll usable for every required metric?
    pub usable: bool,
    /// Both arms suffer, or did until just now.
    pub hold: bool,
    /// The canary stands beyond a level, its evidence not across.
    pub suspicious: bool,
    /// A page limit is crossed, or a rollback or page rule of a gauge in breach.
    pub limit_breached: bool,
    /// Evidence of harm.
    pub ln_total: f64,
    /// What a rollback needs.
    pub ln_rollback: f64,
    /// Canary requests in the step.
    pub canary_requests: f64,
    /// Fewest of them.
    pub min_requests: f64,
    /// Seconds that counted.
    pub counted_s: f64,
    /// The step's `for`.
    pub for_s: f64,
    /// Shortest step of `on-evidence`.
    pub step_min_s: f64,
    /// Is the warm-up (without history: the burn-in) over?
    pub warm: bool,
    /// Is every required metric shown?
    pub proven: bool,
    /// Does a promote-below block?
    pub promote_blocks: bool,
}

/// Must everything required be shown?
pub fn asks_for_proof(advance: Advance) -> bool {
    matches!(advance, Advance::OnEvidence | Advance::OnSchedule { strict: true })
}

/// Reasons that keep the step, in the order they are shown; empty: it may end.
pub fn keeps(s: &StepState) -> ArrayVec<Keep, 9> {
    let needed_s = if s.advance == Advance::OnEvidence { s.step_min_s } else { s.for_s };
    [
        (!s.usable, Keep::Blind),
        (s.hold, Keep::Shared),
        (s.suspicious, Keep::Suspicious),
        (s.limit_breached, Keep::Limit),
        (s.ln_total >= 0.5 * s.ln_rollback, Keep::Harm),
        (s.canary_requests < s.min_requests, Keep::FewRequests),
        (s.counted_s < needed_s - EPS_S || !s.warm, Keep::Time),
        (asks_for_proof(s.advance) && !s.proven, Keep::NotProven),
        (s.promote_blocks, Keep::PromoteBelow),
    ]
    .into_iter()
    .filter_map(|(holds, why)| holds.then_some(why))
    .collect()
}

/// Does a promote-below on counts block? One that is shown never does; one that need not be shown only if the step's own count
/// speaks clearly against it: blocking on the bare estimate keeps 42-58 % of healthy rollouts from finishing (14.14).
#[derive(Clone, Copy, Debug)]
pub struct PromoteState {
    /// Bad in this step.
    pub x: f64,
    /// All in this step.
    pub n: f64,
    /// The level.
    pub level: f64,
    /// Evidence for "below".
    pub ln_e: f64,
    /// Dispersion.
    pub phi: f64,
}

impl PromoteState {
    /// `ln_ok`: what proof needs; `proof`: is it asked for?
    pub fn blocks(&self, ln_ok: f64, proof: bool, min_requests: f64) -> bool {
        self.ln_e < ln_ok && (proof || self.speaks_against(min_requests))
    }

    fn speaks_against(&self, min_requests: f64) -> bool {
        let expected = self.n * self.level;
        self.n >= min_requests && self.x > expected + 2.0 * (self.phi * expected).sqrt() + 1.0
    }
}

/// The verdict on one metric: the first that holds. `shown`: evidence of non-inferiority and promote-below both there.
pub fn verdict(fails: bool, blind: Option<Blind>, shown: bool) -> Verdict {
    match (fails, blind, shown) {
        (true, _, _) => Verdict::Fail,
        (_, Some(why), _) => Verdict::Blind(why),
        (_, _, true) => Verdict::Pass,
        _ => Verdict::Undecided,
    }
}
