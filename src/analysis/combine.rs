//! Metrics joined: shares of the budget, total evidence, health score (STATISTICS 7).

use crate::model::Outlook;
use crate::stats::logsum::ln_add;

/// What a metric asks of the budget.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// Its weight before redistribution; custom metrics all name the one they have together.
    pub weight: f64,
    /// Is it one of the rule's own?
    pub custom: bool,
    /// Is it compared and not advisory?
    pub counts: bool,
}

/// Shares that sum to 1 over the metrics that count (all 0 if none does): what unconfigured and advisory ones leave goes to the
/// others in proportion; custom metrics split one weight.
pub fn shares(claims: &[Claim]) -> Vec<f64> {
    let takes = |c: &Claim| c.counts && c.weight > 0.0;
    let customs = claims.iter().filter(|c| takes(c) && c.custom).count().max(1) as f64;
    let weight = |c: &Claim| match (takes(c), c.custom) {
        (false, _) => 0.0,
        (true, false) => c.weight,
        (true, true) => c.weight / customs,
    };
    let total: f64 = claims.iter().map(weight).sum();
    claims.iter().map(|c| if total > 0.0 { weight(c) / total } else { 0.0 }).collect()
}

/// Evidence of all metrics: `ln sum share E`, and the position of the largest term. Items: `ln share` (`-inf` for none) and
/// the metric's evidence after the isolated-jump rule. 0 if nothing has a share.
pub fn total(terms: impl Iterator<Item = (f64, f64)>) -> (f64, Option<usize>) {
    let (mut sum, mut best) = (f64::NEG_INFINITY, None);
    for (i, (ln_share, ln_e)) in terms.enumerate() {
        let term = ln_share + ln_e;
        if ln_share == f64::NEG_INFINITY {
            continue;
        }
        sum = ln_add(sum, term);
        if best.is_none_or(|(top, _)| term > top) {
            best = Some((term, i));
        }
    }
    if best.is_none() { (0.0, None) } else { (sum, best.map(|(_, i)| i)) }
}

/// Health after a poll.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Health {
    /// Share of the evidence a rollback needs, `0..=1`.
    pub harm: f64,
    /// Share of the evidence `Pass` needs, over required metrics by their shares, `0..=1`.
    pub progress: f64,
    /// `0..=100`: 0 rolled back, 50 no information, 100 everything proven within margin.
    pub score: f64,
    /// One word.
    pub outlook: Outlook,
}

/// `required`: share and `ln E_ok` of each required metric. `rollback`: is there a reason for one?
pub fn health(ln_total: f64, ln_rollback: f64, ln_ok: f64, required: impl Iterator<Item = (f64, f64)>, rollback: bool) -> Health {
    let harm = (ln_total.max(0.0) / ln_rollback).min(1.0);
    let (mut sum, mut weights, mut shown, mut any) = (0.0, 0.0, true, false);
    for (share, ln_e) in required {
        let g = (ln_e.max(0.0) / ln_ok).min(1.0);
        sum += share * g;
        weights += share;
        shown &= g >= 1.0;
        any = true;
    }
    let progress = if weights > 0.0 { sum / weights } else { 0.0 };
    let outlook = match () {
        () if rollback => Outlook::Rollback,
        () if harm >= 0.5 => Outlook::Suspicious,
        () if any && shown => Outlook::Pass,
        () => Outlook::Collecting,
    };
    Health { harm, progress, score: 50.0 * (1.0 - harm) * (1.0 + progress), outlook }
}
