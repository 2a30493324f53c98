//! What a judge says after one poll: evidence, verdicts, and the gate that joins them. Plain data of fixed size.

use super::{Blind, Counts, METRICS_MAX, MetricKind, PerArm, Timestamp};
use arrayvec::ArrayVec;

/// Most limits one rule may have: four for each metric.
pub const LIMITS_MAX: usize = 4 * METRICS_MAX;
/// Most processes of the bake: a rollback limit and a derived one per count metric.
pub const BAKE_MAX: usize = 2 * METRICS_MAX;

/// The verdict on one metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Shown not worse than the margin, and within its promote-below.
    Pass,
    /// Worse than tolerated, beyond a limit, or failing grossly.
    Fail,
    /// Not enough evidence either way.
    Undecided,
    /// Could not be looked at for so long that nothing can be said.
    Blind(Blind),
}

impl Verdict {
    /// The one vocabulary of every wire.
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Fail => "fail",
            Verdict::Undecided => "undecided",
            Verdict::Blind(_) => "blind",
        }
    }
}

/// Anytime confidence interval of one arm in this step, for display only (STATISTICS 8).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Point estimate.
    pub mid: f64,
    /// Upper end; may be infinite for a quantile beyond the last bound.
    pub high: f64,
}

/// Evidence on one metric after a poll. Evidence is in nats (natural logarithm of an e-value).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MetricJudgement {
    /// What it measures.
    pub kind: MetricKind,
    /// Position in the rule's list of metrics.
    pub index: u8,
    /// Evidence that the canary is worse than tolerated, before the isolated-jump rule.
    pub ln_harm: f64,
    /// The same after it (STATISTICS 2.4): what decisions use.
    pub ln_harm_cut: f64,
    /// Evidence since the step began that the canary is not worse than the margin.
    pub ln_ok: f64,
    /// Share of the budget; 0 for an advisory metric.
    pub share: f64,
    /// Shown only: it has no history to be calibrated with.
    pub advisory: bool,
    /// Must it be shown where the step asks for proof?
    pub required: bool,
    /// Was this poll usable for it?
    pub used: bool,
    /// Dispersion in use (1 = independent requests).
    pub phi: f64,
    /// Both arms' estimates of this step with intervals.
    pub estimate: PerArm<Option<Interval>>,
    /// The verdict.
    pub verdict: Verdict,
}

/// Which of the four limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitKind {
    /// A step ends only below it.
    PromoteBelow,
    /// Notifies.
    WarnAbove,
    /// Rolls back.
    RollbackAbove,
    /// Pages.
    PageAbove,
}

impl LimitKind {
    /// As in a rule.
    pub const fn name(self) -> &'static str {
        match self {
            LimitKind::PromoteBelow => "promote-below",
            LimitKind::WarnAbove => "warn-above",
            LimitKind::RollbackAbove => "rollback-above",
            LimitKind::PageAbove => "page-above",
        }
    }
}

/// One limit after a poll (STATISTICS 7.1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LimitJudgement {
    /// Position of its metric in the rule.
    pub metric: u8,
    /// Which limit.
    pub kind: LimitKind,
    /// The level in the metric's unit (fraction, ms, gauge unit).
    pub level: f64,
    /// Evidence of a breach (after the isolated-jump rule), or of "below" for promote-below; NaN for gauges.
    pub evidence: PerArm<f64>,
    /// What it must reach.
    pub threshold: f64,
    /// Crossed (counts), or in sustained breach (gauges).
    pub breached: PerArm<bool>,
    /// Promote-below: proven. Others: false.
    pub proven: bool,
    /// Gauges: may the canary be blamed?
    pub attributed: bool,
    /// The state label of the level is on (STATISTICS 7.2).
    pub label: PerArm<bool>,
}

/// One process of the bake (STATISTICS 7.3).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BakeJudgement {
    /// Position of its metric in the rule.
    pub metric: u8,
    /// Derived from the baseline's own level, or the rule's rollback-above.
    pub derived: bool,
    /// The level: a fraction (for latency the tail fraction at a bound).
    pub level: f64,
    /// Evidence of a breach after the isolated-jump rule.
    pub evidence: f64,
    /// Crossed.
    pub crossed: bool,
}

/// A reason to roll back. All that hold in a poll are recorded, the first is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// The comparison crossed; the metric with the most evidence.
    Metric(u8),
    /// A rollback-above limit of this metric.
    Limit(u8),
    /// A limit of the bake; derived from the baseline or the rule's own.
    Bake { metric: u8, derived: bool },
    /// Half of the canary's requests fail (STATISTICS 3.1).
    Gross,
    /// Half of the canary's requests are given up by their clients (DESIGN 6.3, 3.1 on abandoned requests).
    Abandoned,
}

/// A reason that keeps a step, in the order in which they are shown (STATISTICS 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Keep {
    /// The last poll was not usable for a required metric.
    Blind,
    /// Both arms suffer.
    Shared,
    /// The canary stands beyond a level, its evidence not yet across.
    Suspicious,
    /// A page limit is crossed, or a gauge limit in breach.
    Limit,
    /// Evidence of harm above half of what a rollback needs.
    Harm,
    /// Fewer canary requests than asked for.
    FewRequests,
    /// The step's time is not over.
    Time,
    /// A required metric is not shown.
    NotProven,
    /// A promote-below limit blocks.
    PromoteBelow,
}

impl Keep {
    /// The word of the reference and of the API.
    pub const fn name(self) -> &'static str {
        match self {
            Keep::Blind => "blind",
            Keep::Shared => "shared",
            Keep::Suspicious => "suspicious",
            Keep::Limit => "limit",
            Keep::Harm => "evidence of harm",
            Keep::FewRequests => "too few requests",
            Keep::Time => "time",
            Keep::NotProven => "not proven",
            Keep::PromoteBelow => "promote-below",
        }
    }
}

/// One word for the whole (STATISTICS 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Outlook {
    /// There is a reason to roll back.
    Rollback,
    /// Half of the evidence for a rollback.
    Suspicious,
    /// Everything required is shown.
    Pass,
    /// Neither.
    #[default]
    Collecting,
}

/// The labels of STATISTICS 7.2: they steer the state machine, they are not tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Labels {
    /// The baseline suffers too, now.
    pub shared: bool,
    /// Shared, or within two minutes of it.
    pub hold: bool,
    /// This poll counts as calm (STATISTICS 3).
    pub calm: bool,
    /// The canary stands beyond a rollback or page level, not proven.
    pub suspicious: bool,
    /// `hold` has lasted so long that somebody should know.
    pub page_shared: bool,
}

/// The step's own clock and count.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct StepClock {
    /// Seconds that counted toward the step.
    pub counted_s: f64,
    /// Seconds it asks for.
    pub for_s: f64,
    /// Canary requests in it.
    pub canary_requests: f64,
}

/// Everything one poll says about one rollout. Fixed size: filled in place, copied without allocation.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The tick.
    pub at: Timestamp,
    /// Seconds from the start of tick 0 (the first with canary requests) to the end of this poll; `None` before it.
    pub t_s: Option<f64>,
    /// The step of the poll.
    pub step: u32,
    /// At 100 % there is no baseline: the bake judges.
    pub bake: bool,
    /// A poll for a tick already judged: nothing was done.
    pub duplicate: bool,
    /// Requests and errors as used after pairing; `None` if the poll was not usable for counts.
    pub counts: Option<PerArm<Counts>>,
    /// Per metric, in the rule's order.
    pub metrics: ArrayVec<MetricJudgement, METRICS_MAX>,
    /// Per limit, in the rule's order; in each metric promote-below, warn, rollback, page.
    pub limits: ArrayVec<LimitJudgement, LIMITS_MAX>,
    /// The bake's processes; empty before it.
    pub bakes: ArrayVec<BakeJudgement, BAKE_MAX>,
    /// Combined evidence of harm, nats.
    pub ln_total: f64,
    /// What it must reach for a rollback.
    pub ln_rollback: f64,
    /// What `ln_ok` of a metric must reach.
    pub ln_ok: f64,
    /// Anytime p-value of the comparison.
    pub p_value: f64,
    /// The metric with the most evidence of harm.
    pub worst: Option<u8>,
    /// Labels.
    pub labels: Labels,
    /// Gross failure has been seen.
    pub gross: bool,
    /// Reasons to roll back, the shown one first.
    pub rollback: ArrayVec<Breach, { 3 * METRICS_MAX }>,
    /// Reasons that keep the step, in order; empty: it may end.
    pub keep: ArrayVec<Keep, 9>,
    /// The step's clock.
    pub clock: StepClock,
    /// Health score, `0..=100`; 50 = no information.
    pub score: f64,
    /// One word for the whole.
    pub outlook: Outlook,
    /// Share of the evidence needed for `Pass`, `0..=1`.
    pub progress: f64,
}

impl Judgement {
    /// Nothing said yet.
    pub fn empty(at: Timestamp, step: u32) -> Self {
        Self {
            at,
            t_s: None,
            step,
            bake: false,
            duplicate: false,
            counts: None,
            metrics: ArrayVec::new(),
            limits: ArrayVec::new(),
            bakes: ArrayVec::new(),
            ln_total: 0.0,
            ln_rollback: 0.0,
            ln_ok: 0.0,
            p_value: 1.0,
            worst: None,
            labels: Labels::default(),
            gross: false,
            rollback: ArrayVec::new(),
            keep: ArrayVec::new(),
            clock: StepClock::default(),
            score: 50.0,
            outlook: Outlook::default(),
            progress: 0.0,
        }
    }
}
