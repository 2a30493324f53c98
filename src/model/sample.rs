//! What one tick saw of each arm, after the counters of its processes were differenced (`source`), before the arms are
//! paired and judged (`analysis`).

use super::{Arm, LimitKind, PerArm, Timestamp};
use arrayvec::ArrayVec;

/// Most finite bucket bounds one latency histogram may have. Envoy's ladder has 19, OpenTelemetry's 14.
pub const BOUNDS_MAX: usize = 40;
/// Most metrics one rule may name.
pub const METRICS_MAX: usize = 16;
/// Most custom count metrics, and most custom gauges, of one rule.
pub const CUSTOM_MAX: usize = 4;

/// Why something could not be looked at. Never a statement about the canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blind {
    /// The source did not answer, or not in time.
    SourceDown,
    /// The source refused the query.
    QueryRejected,
    /// The source answered, but holds no such series for this arm.
    NoSeries,
    /// The newest sample is older than the last one used.
    Stale,
    /// NaN or infinity.
    NotANumber,
    /// The histogram exists only in native form, which the daemon does not read.
    NativeHistogramOnly,
    /// The source's clock and ours differ by more than one tick.
    Clock,
    /// Values jump back and forth between two processes behind one address.
    Alternating,
    /// Every process of the arm that was scraped before is silent (`up` 0, or gone).
    Silent,
    /// CPU cannot be compared at so different a load.
    LoadTooDifferent,
    /// The number of ready pods is not known.
    PodsUnknown,
    /// The rule does not ask for it.
    NotAsked,
}

impl Blind {
    /// Every reason, in the order of their names on the wire.
    pub const ALL: [Blind; 12] = [
        Blind::SourceDown,
        Blind::QueryRejected,
        Blind::NoSeries,
        Blind::Stale,
        Blind::NotANumber,
        Blind::NativeHistogramOnly,
        Blind::Clock,
        Blind::Alternating,
        Blind::Silent,
        Blind::LoadTooDifferent,
        Blind::PodsUnknown,
        Blind::NotAsked,
    ];

    /// The word used as metric label and in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Blind::SourceDown => "source-down",
            Blind::QueryRejected => "query-rejected",
            Blind::NoSeries => "no-series",
            Blind::Stale => "stale",
            Blind::NotANumber => "not-a-number",
            Blind::NativeHistogramOnly => "native-histogram-only",
            Blind::Clock => "clock",
            Blind::Alternating => "alternating",
            Blind::Silent => "silent",
            Blind::LoadTooDifferent => "load-too-different",
            Blind::PodsUnknown => "pods-unknown",
            Blind::NotAsked => "not-asked",
        }
    }
}

/// A value, or why there is none.
pub type Reading<T> = Result<T, Blind>;

/// Bad events out of all, `0 <= bad <= total` unless two counters were scraped askew.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Counts {
    /// All of them.
    pub total: f64,
    /// The bad ones.
    pub bad: f64,
}

/// Cumulative bucket counts of one histogram, one entry per finite bound in ascending order, then `+Inf` (= all).
pub type Buckets = ArrayVec<f64, { BOUNDS_MAX + 1 }>;

/// What one tick saw of one arm. Counts are **increments since this arm's last successful reading** of the same group of
/// counters; gauges are levels, averaged over the arm's ready pods.
#[derive(Clone, Debug, PartialEq)]
pub struct ArmSample {
    /// Requests and the bad ones among them.
    pub requests: Reading<Counts>,
    /// Requests whose client left before an answer (`PACKS` 1.6), where the stack counts them.
    pub abandoned: Reading<f64>,
    /// Latency histogram increments; the bounds are those of [`super::JudgeSpec::bounds_ms`].
    pub buckets: Reading<Buckets>,
    /// CPU, cores per ready pod.
    pub cpu: Reading<f64>,
    /// Memory, bytes per ready pod.
    pub memory: Reading<f64>,
    /// Memory floor (minimum over 10 min), bytes per ready pod; input of the leak test.
    pub floor: Reading<f64>,
    /// Ready pods (or processes).
    pub pods: Option<u32>,
    /// Custom counts, in the rule's order.
    pub custom_counts: ArrayVec<Reading<Counts>, CUSTOM_MAX>,
    /// Custom gauges, in the rule's order.
    pub custom_gauges: ArrayVec<Reading<f64>, CUSTOM_MAX>,
}

impl ArmSample {
    /// An arm nothing of which could be read.
    pub fn blind(why: Blind) -> Self {
        Self {
            requests: Err(why),
            abandoned: Err(why),
            buckets: Err(why),
            cpu: Err(why),
            memory: Err(why),
            floor: Err(why),
            pods: None,
            custom_counts: ArrayVec::new(),
            custom_gauges: ArrayVec::new(),
        }
    }

    /// An arm of which only request counts are read.
    pub fn counts(total: f64, bad: f64) -> Self {
        Self { requests: Ok(Counts { total, bad }), ..Self::blind(Blind::NotAsked) }
    }
}

/// One tick of one rollout. The journal keeps every poll; the same polls give the same evidence, bit for bit.
#[derive(Clone, Debug, PartialEq)]
pub struct Poll {
    /// The tick: the END of the interval the poll covers, a multiple of the interval since the epoch.
    pub at: Timestamp,
    /// The step in force during the interval: index into the steps of the rule.
    pub step: u32,
    /// Does the interval count toward the step? Not while a person paused the rollout or the traffic ignores the weight.
    pub counts_time: bool,
    /// Both arms.
    pub arms: PerArm<ArmSample>,
    /// Limits that lie elsewhere from this poll on; nearly always none.
    pub changes: Vec<LimitChange>,
}

/// A limit of the rule that a person moved while the rollout ran.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LimitChange {
    /// Position of its metric in the rule.
    pub metric: u8,
    /// Which of the metric's limits.
    pub kind: LimitKind,
    /// The new level, in the metric's unit (fraction, ms, gauge unit).
    pub level: f64,
}

impl Poll {
    /// A poll of an interval in which nothing could be read.
    pub fn blind(at: Timestamp, step: u32, why: Blind) -> Self {
        Self { at, step, counts_time: true, arms: PerArm::from_fn(|_: Arm| ArmSample::blind(why)), changes: Vec::new() }
    }
}

/// The baseline's past, one entry per poll, oldest first; `None` where a poll is missing (STATISTICS 3, 4, 6).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// Requests and errors.
    pub requests: Vec<Option<Counts>>,
    /// Latency buckets; empty if there is no histogram.
    pub buckets: Vec<Option<Buckets>>,
    /// A/A log-ratios of CPU per pod; they end with the last poll.
    pub cpu: Vec<Option<f64>>,
    /// A/A log-ratios of memory per pod.
    pub memory: Vec<Option<f64>>,
    /// A/A log-ratios of the memory floor.
    pub leak: Vec<Option<f64>>,
    /// 24 h of load in 5-min steps, if it could be read.
    pub load: Option<LoadHistory>,
    /// Custom counts, in the rule's order.
    pub custom_counts: Vec<Vec<Option<Counts>>>,
    /// A/A log-ratios of custom gauges, in the rule's order.
    pub custom_gauges: Vec<Vec<Option<f64>>>,
}

/// Load and CPU per pod of the baseline's last 24 h, in steps of 5 min (STATISTICS 6, CPU at unequal load).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadHistory {
    /// Requests per second and pod.
    pub rate: Vec<f64>,
    /// Cores per pod.
    pub cpu: Vec<f64>,
}
