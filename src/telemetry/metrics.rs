//! The registry of `/metrics`. Series are kept per rule, of which there are few, never per rollout alone: a series that names
//! a rollout is removed when the rule's next one begins. Values are set by [`super::events`] only.

use super::expose;
use parking_lot::{Mutex, MutexGuard};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};

/// Seconds of a query or a store append: 1 ms to 16 s, a factor of two apart.
const SECONDS: [f64; 15] = [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384];

/// A gauge of whole numbers.
pub(super) type Whole = Gauge<i64, AtomicI64>;
/// A gauge of real numbers.
pub(super) type Real = Gauge<f64, AtomicU64>;
/// Histograms with the buckets above.
pub(super) type Timings<L> = Family<L, Histogram, fn() -> Histogram>;

/// Declares label sets: each field a label.
macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* })*) => {
        $($(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub(super) struct $name { $(pub(super) $field: $type),* })*
    };
}

labels! {
    Rule { rule: String }
    RuleAction { rule: String, action: &'static str }
    RuleState { rule: String, state: &'static str }
    RuleWhy { rule: String, why: &'static str }
    RolloutInfo { rule: String, rollout: String, version: String, mode: &'static str }
    Source { source: String }
    SourceReason { source: String, reason: &'static str }
    QueryEnd { source: String, outcome: &'static str, reason: &'static str }
    EffectEnd { router: String, outcome: &'static str, reason: &'static str }
    HookEnd { hook: &'static str, outcome: &'static str, reason: &'static str }
    Shard { shard: u32 }
    End { outcome: &'static str }
    AlertsEnd { outcome: &'static str }
    ReceiverEnd { receiver: String, outcome: &'static str, reason: &'static str }
    Request { route: String, method: &'static str, status: u16 }
    ShownEnd { kind: &'static str, outcome: &'static str }
    Build { version: &'static str }
    Kind { kind: &'static str }
    KindWhat { kind: &'static str, what: &'static str }
    KindReason { kind: &'static str, reason: &'static str }
}

/// Every family, each shared with the registry.
#[derive(Debug)]
pub(super) struct Families {
    pub(super) decisions: Family<RuleAction, Counter>,
    pub(super) weight: Family<Rule, Real>,
    pub(super) weight_seen: Family<Rule, Real>,
    pub(super) evidence: Family<Rule, Real>,
    pub(super) evidence_needed: Family<Rule, Real>,
    pub(super) score: Family<Rule, Real>,
    pub(super) state: Family<RuleState, Whole>,
    pub(super) rollout: Family<RolloutInfo, Whole>,
    pub(super) holds: Family<RuleWhy, Whole>,
    pub(super) missing: Family<Rule, Whole>,
    pub(super) queries: Family<QueryEnd, Counter>,
    pub(super) query_seconds: Timings<Source>,
    pub(super) ticks: Family<Source, Counter>,
    pub(super) ticks_blind: Family<SourceReason, Counter>,
    pub(super) tick_at: Family<Source, Real>,
    pub(super) queue: Family<Shard, Whole>,
    pub(super) refused: Family<Shard, Counter>,
    pub(super) mail_refused: Counter,
    pub(super) polls_left_out: Counter,
    pub(super) append_seconds: Histogram,
    pub(super) store_errors: Counter,
    pub(super) effects: Family<EffectEnd, Counter>,
    pub(super) hook_calls: Family<HookEnd, Counter>,
    pub(super) notices_lost: Counter,
    pub(super) receivers: Family<ReceiverEnd, Counter>,
    pub(super) alerts_received: Family<AlertsEnd, Counter>,
    pub(super) alerts_truncated: Counter,
    pub(super) reloads: Family<End, Counter>,
    pub(super) reload_ok: Whole,
    pub(super) requests: Family<Request, Counter>,
    pub(super) connections: Whole,
    pub(super) shown: Family<ShownEnd, Counter>,
    pub(super) build: Family<Build, Whole>,
    pub(super) watches: Family<Kind, Whole>,
    pub(super) watch_changes: Family<KindWhat, Counter>,
    pub(super) watch_failures: Family<KindReason, Counter>,
    pub(super) watch_dropped: Family<Kind, Counter>,
}

impl Families {
    fn new() -> Self {
        Self {
            decisions: Family::default(),
            weight: Family::default(),
            weight_seen: Family::default(),
            evidence: Family::default(),
            evidence_needed: Family::default(),
            score: Family::default(),
            state: Family::default(),
            rollout: Family::default(),
            holds: Family::default(),
            missing: Family::default(),
            queries: Family::default(),
            query_seconds: Family::new_with_constructor(seconds),
            ticks: Family::default(),
            ticks_blind: Family::default(),
            tick_at: Family::default(),
            queue: Family::default(),
            refused: Family::default(),
            mail_refused: Counter::default(),
            polls_left_out: Counter::default(),
            append_seconds: seconds(),
            store_errors: Counter::default(),
            effects: Family::default(),
            hook_calls: Family::default(),
            notices_lost: Counter::default(),
            receivers: Family::default(),
            alerts_received: Family::default(),
            alerts_truncated: Counter::default(),
            reloads: Family::default(),
            reload_ok: Whole::default(),
            requests: Family::default(),
            connections: Whole::default(),
            shown: Family::default(),
            build: Family::default(),
            watches: Family::default(),
            watch_changes: Family::default(),
            watch_failures: Family::default(),
            watch_dropped: Family::default(),
        }
    }

    fn register(&self, r: &mut Registry) {
        self.register_rollouts(r);
        self.register_way_in(r);
        self.register_way_out(r);
        self.register_cluster(r);
    }

    fn register_rollouts(&self, r: &mut Registry) {
        r.register("decisions", "Decisions by rule and action", self.decisions.clone());
        r.register("weight_wanted_ratio", "Share of traffic canaryd wants the canary to have, 0 to 1", self.weight.clone());
        r.register("weight_seen_ratio", "Share of traffic last read from the router, 0 to 1", self.weight_seen.clone());
        r.register("evidence_nats", "Combined evidence that the canary is worse than tolerated, natural log", self.evidence.clone());
        r.register("evidence_needed_nats", "Evidence at which the canary is rolled back, natural log", self.evidence_needed.clone());
        r.register("health_score", "Health score of the canary, 0 to 100; 50 says nothing is known yet", self.score.clone());
        r.register("rollout_state", "1 for the state the rule's rollout is in", self.state.clone());
        r.register("rollout_info", "1 for the running or last rollout of a rule", self.rollout.clone());
        r.register("holds", "1 for every reason that holds the rule's rollout now", self.holds.clone());
        r.register("rule_missing", "What a rule needs in the cluster and is not there, or cannot be looked at", self.missing.clone());
    }

    fn register_way_in(&self, r: &mut Registry) {
        r.register("queries", "Queries by source, outcome and reason", self.queries.clone());
        r.register("query_duration_seconds", "Time a source took to answer a query", self.query_seconds.clone());
        r.register("ticks", "Ticks read from a source", self.ticks.clone());
        r.register("ticks_blind", "Rollouts' ticks in which an arm could not be looked at, by reason", self.ticks_blind.clone());
        r.register("last_tick_timestamp_seconds", "End of the newest tick read from a source", self.tick_at.clone());
        r.register("engine_queue_length", "Polls waiting for the engine", self.queue.clone());
        r.register("mail_refused", "Messages a rollout's full mailbox did not take", self.mail_refused.clone());
        r.register("polls_left_out", "Polls a rollout was not given because it was busy with the last", self.polls_left_out.clone());
        r.register("engine_pushes_refused", "Polls the engine's full queue did not take at once", self.refused.clone());
    }

    fn register_cluster(&self, r: &mut Registry) {
        r.register("watches", "Watches of the cluster that are kept up, by kind of object", self.watches.clone());
        r.register("watch_changes", "What watches of the cluster brought, by kind of object", self.watch_changes.clone());
        r.register("watch_failures", "Times a watch of the cluster broke, by kind of object and reason", self.watch_failures.clone());
        r.register("watch_dropped", "Pods forgotten early and failed probes not counted, for want of room", self.watch_dropped.clone());
    }

    fn register_way_out(&self, r: &mut Registry) {
        r.register("store_append_duration_seconds", "Time one durable write of the journal took", self.append_seconds.clone());
        r.register("store_errors", "Writes and reads of the journal that failed", self.store_errors.clone());
        r.register("effects", "Effects carried out, by router, outcome and reason", self.effects.clone());
        r.register("hook_calls", "Calls of hooks, by hook, outcome and reason", self.hook_calls.clone());
        r.register("notices_lost", "Notices that found no room on their way to the receivers", self.notices_lost.clone());
        r.register("receiver_calls", "Calls of receivers by outcome and reason, and what one is never told", self.receivers.clone());
        r.register("alerts_received", "Alerts received from Alertmanagers, by what became of their message", self.alerts_received.clone());
        r.register("alerts_truncated", "Alerts an Alertmanager left out of its messages (max_alerts)", self.alerts_truncated.clone());
        r.register("reloads", "Reloads of the rules by outcome", self.reloads.clone());
        r.register(
            "rules_valid",
            "1 if the rules on disk are the rules in force, 0 if the last reload was refused",
            self.reload_ok.clone(),
        );
        r.register("http_requests", "HTTP requests by route, method and status", self.requests.clone());
        r.register("http_connections", "Open HTTP connections", self.connections.clone());
        r.register("cluster_writes", "Statuses and Events written to the cluster, by kind and outcome", self.shown.clone());
        r.register("build_info", "1, labelled with the version of this build", self.build.clone());
    }
}

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

/// All metrics of the daemon. Cheap to clone; every clone counts into the same registry.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    families: Families,
    shown: Mutex<BTreeMap<String, Shown>>,
}

/// Which of a rule's series stand at 1 now: the library cannot be asked, and what ended must be removed.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) info: Option<RolloutInfo>,
    pub(super) state: Option<&'static str>,
    pub(super) whys: Vec<&'static str>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// An empty registry with every family in it.
    pub fn new() -> Self {
        let families = Families::new();
        let mut registry = Registry::with_prefix("canaryd");
        families.register(&mut registry);
        families.reload_ok.set(1);
        families.build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION") }).set(1);
        Self(Arc::new(Inner { registry, families, shown: Mutex::default() }))
    }

    pub(super) fn families(&self) -> &Families {
        &self.0.families
    }

    pub(super) fn shown(&self) -> MutexGuard<'_, BTreeMap<String, Shown>> {
        self.0.shown.lock()
    }

    /// The page for a scraper that asked for OpenMetrics ([`OPENMETRICS`](Self::OPENMETRICS)).
    pub fn openmetrics(&self) -> String {
        expose::openmetrics(&self.0.registry)
    }

    /// The page in Prometheus' text format ([`TEXT`](Self::TEXT)), for every other reader.
    pub fn text(&self) -> String {
        expose::text(&self.openmetrics())
    }

    /// Content type of [`openmetrics`](Self::openmetrics).
    pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    /// Content type of [`text`](Self::text).
    pub const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
}
