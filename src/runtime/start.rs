//! The questions before a rollout can begin, as a list of named steps: who carries the traffic, what the source can see, how
//! long a tick is, what the baseline's past looks like. Runs beside the supervisor, so that a slow source stalls nobody.

mod note;

use super::handle::{Refusal, StartArgs};
use super::releases::Templates;
use super::supervisor::Makers;
use super::{clock, kept, parts};
use crate::analysis::{Judge, JudgeError};
use crate::cluster::Cluster;
use crate::model::journal::Opened;
use crate::model::rule::{KubernetesRoute, Mode, RouteKind, Rule, Traffic, WorkloadForm};
use crate::model::{Begin, History, MetricKind, Noted, RolloutId, Side, State, Timestamp, Weight};
use crate::router::Router;
use crate::source::{SetUp, Source, Subscription};
use crate::store::Store;
use crate::telemetry::events;
use note::FromCluster;
use std::sync::Arc;
use std::time::Duration;

/// Earlier rollouts that are looked at for a version that was rolled back before.
const EARLIER_MAX: usize = 200;
/// Longest wait until what moves by itself is stopped.
const HOLD_MAX: Duration = Duration::from_secs(10);
/// Longest the whole preparation may take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(60);

/// Everything a start needs to know.
pub(super) struct Plan {
    pub(super) rule: Arc<Rule>,
    pub(super) rule_text: Arc<str>,
    pub(super) args: StartArgs,
    pub(super) router: Arc<dyn Router>,
    pub(super) store: Arc<dyn Store>,
    pub(super) makers: Arc<Makers>,
    pub(super) cluster: Option<Cluster>,
    pub(super) templates: Templates,
    pub(super) scale: f64,
}

/// A rollout that may begin.
pub(super) struct Prepared {
    pub(super) rule: Arc<Rule>,
    pub(super) opened: Opened,
    pub(super) judge: Judge,
    pub(super) router: Arc<dyn Router>,
    pub(super) warnings: Vec<String>,
}

impl Plan {
    /// The steps, in order.
    pub(super) async fn prepare(self) -> Result<Prepared, Refusal> {
        self.refuse_what_cannot_run()?;
        self.refuse_a_version_rolled_back_before().await?;
        let (canary, generation) = self.who_is_the_canary().await?;
        let mut from_cluster = self.note(canary).await?;
        self.hold_still(from_cluster.noted.as_ref()).await?;
        from_cluster.warnings.extend(self.foretold().await);
        let meanwhile = self.words_of_what_is_held();
        let prepared = self.prepare_judge(canary, generation, from_cluster).await;
        prepared.map_err(|Refusal { code, text }| Refusal::new(code, text + &meanwhile))
    }

    /// What asks the source, and takes its time.
    async fn prepare_judge(self, canary: Side, generation: u64, from_cluster: FromCluster) -> Result<Prepared, Refusal> {
        self.refuse_shares_of_nothing(from_cluster.noted.as_ref())?;
        let wanted = parts::subscription(&self.rule, canary, 0, self.scale);
        let mut source = self.source()?;
        let now = clock::now();
        let set_up = look(&mut *source, &wanted, now).await?;
        self.refuse_latency_without_buckets(&set_up)?;
        let interval = parts::interval(&self.rule, set_up.scrape_interval);
        let (history, mut warnings) = self.history(&mut *source, &wanted, now.floor_to(interval), interval, &set_up).await;
        let begin = self.begin(canary, generation, from_cluster.version, from_cluster.noted);
        let opened = self.opened(begin, interval, set_up.bounds_ms, history);
        let (opened, judge) = self.judge(opened, now).await?;
        let rule = Arc::new(parts::of_rollout(&self.rule, opened.begin.noted.as_ref()));
        warnings.splice(0..0, from_cluster.warnings.into_iter().chain(set_up.warnings));
        warnings.extend(judge.warnings().iter().map(ToString::to_string));
        Ok(Prepared { rule, opened, judge, router: self.router, warnings })
    }

    fn refuse_what_cannot_run(&self) -> Result<(), Refusal> {
        if self.rule.not_run.is_empty() {
            return Ok(());
        }
        let all: Vec<String> = self.rule.not_run.iter().map(|n| format!("{} (line {}): {}", n.path, n.line, n.why)).collect();
        Err(Refusal::new("not-run", format!("rule {} asks for what this build does not carry out: {}", self.rule.name, all.join("; "))))
    }

    fn refuse_shares_of_nothing(&self, noted: Option<&Noted>) -> Result<(), Refusal> {
        let unsaid = parts::unsaid(&self.rule, noted);
        if unsaid.is_empty() { Ok(()) } else { Err(Refusal::new("resources", unsaid.join("; "))) }
    }

    /// The bounds of the buckets are fixed at the start: a rollout that began before they can be seen could never judge them.
    fn refuse_latency_without_buckets(&self, set_up: &SetUp) -> Result<(), Refusal> {
        let latency = self.rule.metrics.iter().find(|m| matches!(m.kind, MetricKind::Latency(_)));
        match latency.filter(|_| set_up.bounds_ms.is_empty()) {
            None => Ok(()),
            Some(metric) => Err(Refusal::new(
                "no-series",
                format!(
                    "the source shows no latency buckets, and {} needs their bounds: start again once the baseline's were scraped, or look \
                     with `canaryd check --live`; {}",
                    metric.name,
                    set_up.warnings.join("; ")
                ),
            )),
        }
    }

    /// Every version that was rolled back stays out until a person says `--retry`.
    async fn refuse_a_version_rolled_back_before(&self) -> Result<(), Refusal> {
        if self.args.retry || self.args.version.is_empty() {
            return Ok(());
        }
        let earlier = self.store.list(Some(&self.rule.name), EARLIER_MAX).await.map_err(|e| Refusal::new("journal", e.to_string()))?;
        match earlier.iter().find(|l| l.version == self.args.version) {
            Some(last) if matches!(last.state, State::RolledBack) => Err(Refusal::new(
                "rolled-back-before",
                format!("version {} was rolled back in {}: `canaryd retry {}` starts it again", last.version, last.id, self.rule.name),
            )),
            _ => Ok(()),
        }
    }

    /// The workload that carries the traffic is the baseline (DESIGN 6.1). Also the newest generation the router knows.
    async fn who_is_the_canary(&self) -> Result<(Side, u64), Refusal> {
        let read = tokio::time::timeout(Duration::from_secs(10), self.router.read(Side::Second)).await;
        let reading = match read {
            Ok(Ok(reading)) => reading,
            Ok(Err(e)) => return Err(Refusal::new("router", format!("the traffic cannot be read: {e}"))),
            Err(_) => return Err(Refusal::new("router", format!("{}: no answer within 10 s", self.router.name()))),
        };
        Ok((canary_side(&self.rule, reading.weight)?, reading.generation.unwrap_or(0)))
    }

    /// Before the source is asked for hours of history: by then a rolling update would be over. It is no decision of a rollout, and what
    /// is stopped stays so if the start is refused after all: then it is tried again.
    async fn hold_still(&self, noted: Option<&Noted>) -> Result<(), Refusal> {
        let Some(noted) = noted.filter(|_| self.rule.mode == Mode::Enforce) else { return Ok(()) };
        let held = tokio::time::timeout(HOLD_MAX, self.router.hold_still(noted)).await;
        let why = match held {
            Ok(Ok(())) if self.rule.traffic.leads_rolling_update() => {
                events::HeldStill { rule: &self.rule.name, router: self.router.name() }.emit();
                return Ok(());
            }
            Ok(Ok(())) => return Ok(()),
            Ok(Err(e)) => e.to_string(),
            Err(_) => format!("{}: no answer within {} s", self.router.name(), HOLD_MAX.as_secs()),
        };
        Err(Refusal::new("router", format!("what moves the traffic by itself cannot be stopped: {why}")))
    }

    /// Steps that will be others than the rule says. What cannot be asked for them, the first weight will say.
    async fn foretold(&self) -> Vec<String> {
        let weights: Vec<Weight> = self.rule.steps.iter().map(|step| step.weight).collect();
        let said = tokio::time::timeout(HOLD_MAX, self.router.foretell(&weights)).await;
        said.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// What a person who reads of a refused start must know of the Deployment.
    fn words_of_what_is_held(&self) -> String {
        let Traffic::Kubernetes(KubernetesRoute { namespace, name, kind: RouteKind::RollingUpdate }) = &self.rule.traffic else {
            return String::new();
        };
        if self.rule.mode != Mode::Enforce {
            return String::new();
        }
        let resume = format!("kubectl rollout resume deployment/{name} -n {namespace}");
        format!("; Deployment {namespace}/{name} stays paused meanwhile: `{resume}` lets it go on without canaryd")
    }

    fn source(&self) -> Result<Box<dyn Source>, Refusal> {
        (self.makers.source)(&self.rule, None).map_err(|why| Refusal::new("source", why))
    }

    /// Without a usable history the rollout goes on and says so: burstiness is then learned from the live baseline.
    async fn history(
        &self,
        source: &mut dyn Source,
        wanted: &Subscription,
        end: Timestamp,
        interval: Duration,
        set_up: &SetUp,
    ) -> (History, Vec<String>) {
        let length = Duration::from_secs_f64(parts::method(self.scale).history_s);
        match source.history(wanted, end, length, interval, &set_up.bounds_ms).await {
            Ok(history) => (history, Vec::new()),
            Err(e) => (History::default(), vec![format!("no history could be read ({e}): judged without it")]),
        }
    }

    /// What an earlier rollout learned is used, and written into the opening, only where the history says nothing.
    async fn judge(&self, mut opened: Opened, now: Timestamp) -> Result<(Opened, Judge), Refusal> {
        let refused = |e: JudgeError| Refusal::new("rule", e.to_string());
        let judge = kept::judge(&self.rule, &opened, 0).map_err(refused)?;
        if !judge.is_learning() {
            return Ok((opened, judge));
        }
        let found = self.store.kept(&self.rule.name).await.map_err(|e| Refusal::new("journal", e.to_string()))?;
        opened.kept = found.and_then(|k| kept::usable(k, now, opened.interval, opened.scale));
        let judge = kept::judge(&self.rule, &opened, 0).map_err(refused)?;
        Ok((opened, judge))
    }

    fn begin(&self, canary: Side, generation: u64, version: String, noted: Option<Noted>) -> Begin {
        let by = self.args.by.clone();
        Begin { retry: self.args.retry, generation, noted, ..Begin::new(canary, version, by) }
    }

    fn opened(&self, begin: Begin, interval: Duration, bounds_ms: Vec<f64>, history: History) -> Opened {
        Opened {
            id: RolloutId(String::new()),
            rule: self.rule.name.clone(),
            rule_text: self.rule_text.to_string(),
            attached: self.rule.attached.clone(),
            file: self.rule.file.display().to_string(),
            interval,
            bounds_ms,
            scale: self.scale,
            incarnation: 0,
            history,
            begin,
            kept: None,
        }
    }
}

async fn look(source: &mut dyn Source, wanted: &Subscription, at: Timestamp) -> Result<SetUp, Refusal> {
    source.set_up(wanted, at).await.map_err(|e| Refusal::new("source", e.to_string()))
}

/// Which workload is on trial, given the share of the one named second.
pub(super) fn canary_side(rule: &Rule, second: Weight) -> Result<Side, Refusal> {
    let [first_name, second_name] = [Side::First, Side::Second].map(|s| rule.workloads.name(s));
    match (rule.workloads.form, second) {
        // its pods are on trial from the first, with what traffic readiness gives them
        (WorkloadForm::One, _) | (_, Weight::ZERO) => Ok(Side::Second),
        (WorkloadForm::Pair, Weight::FULL) => Ok(Side::First),
        (WorkloadForm::StableCanary, Weight::FULL) => Err(Refusal::new(
            "canary-carries-traffic",
            format!("all traffic goes to {second_name}, which the rule names as the canary: give it back to {first_name} first"),
        )),
        (_, share) => Err(Refusal::new(
            "traffic-is-split",
            format!("{second_name} carries {share} of the traffic: give all of it to one of {first_name} and {second_name} first"),
        )),
    }
}
