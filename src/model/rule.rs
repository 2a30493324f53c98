//! A rule: how one service's canaries are judged and moved. Built only by `config`, which has checked everything; the
//! rest of the daemon trusts it.

use super::calendar::Windows;
pub use super::route::{EnvoyRoute, EnvoyWrite, HaproxyServers, IstioDestination, KubernetesRoute, RouteKind, Traffic, WebhookRouter};
use super::{Advance, Budget, HookPoint, MetricSpec, Side, Weight};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// A validated rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its name, unique in the daemon: `[a-z0-9]([-a-z0-9.]*[a-z0-9])?`, at most 63 characters.
    pub name: String,
    /// FNV-1a 64 of the file's text and of those attached, hexadecimal: which version of the rule a rollout ran under.
    pub digest: String,
    /// The file it was read from.
    pub file: PathBuf,
    /// What carries the two versions.
    pub workloads: Workloads,
    /// Where the numbers come from, in order of preference.
    pub telemetry: Vec<Telemetry>,
    /// Name of the source in the daemon's settings; `None` = its first.
    pub source: Option<String>,
    /// Length of a tick; `None` = the source's measured scrape interval.
    pub interval: Option<Duration>,
    /// What moves the traffic.
    pub traffic: Traffic,
    /// The steps, at least one.
    pub steps: Vec<Step>,
    /// When a step ends.
    pub advance: Advance,
    /// Fewest canary requests in a step that may end.
    pub min_requests: u32,
    /// After the last step.
    pub promotion: Promotion,
    /// Metrics, margins and limits, in the file's order.
    pub metrics: Vec<MetricSpec>,
    /// Custom counts, by the position `MetricKind::CustomCounts` names.
    pub custom_counts: Vec<CustomCounts>,
    /// Custom gauges, by the position `MetricKind::CustomGauge` names.
    pub custom_gauges: Vec<CustomGauge>,
    /// Error levels.
    pub budget: Budget,
    /// CPU is compared at comparable load only.
    pub cpu_load_rule: bool,
    /// What to do when judging is not possible.
    pub policies: Policies,
    /// What a crossing in the bake does.
    pub bake_judge: BakeJudge,
    /// Enforce, or only tell.
    pub mode: Mode,
    /// Wait after the traffic left before anything else happens.
    pub drain: Duration,
    /// First rollout without a baseline.
    pub first: First,
    /// Who keeps the canary's capacity.
    pub replicas: Replicas,
    /// What becomes of the canary's workload when it was rolled back and has drained.
    pub after_rollback: AfterRollback,
    /// What of its pods rolls a canary back; `None` = nothing.
    pub pod_health: Option<PodHealth>,
    /// Metrics (`cpu`, `memory`) whose limits are shares of what the pod asks for or may use, by name.
    pub shares: BTreeMap<String, ShareOf>,
    /// What begins a rollout, and who must agree.
    pub start: Start,
    /// Called on the way, at most one for each point.
    pub hooks: Vec<Hook>,
    /// When it may start and go up; `None` = at any time.
    pub windows: Option<Windows>,
    /// Which alerts of an Alertmanager concern it; empty = those that name one of its workloads.
    pub alerts: Vec<AlertMatch>,
    /// Names of receivers.
    pub notify: Vec<String>,
    /// Texts of other files the rule refers to (`dates: holidays.txt`), by the name it uses: kept with it, so that an old
    /// rollout is led through its journal with the texts it had.
    pub attached: BTreeMap<String, String>,
    /// Keys the grammar knows, and this build does not carry out: path in the file and what is missing. `run` refuses the
    /// rule with these sentences, `check` shows them.
    pub not_run: Vec<NotRun>,
}

/// Who keeps the canary's capacity (DESIGN 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Replicas {
    /// Others: a step waits for the replicas it needs, at most for those the canary's workload asks for.
    #[default]
    External,
    /// canaryd scales the canary before each step.
    Follow,
}

/// What becomes of the canary's workload after a rollback (DESIGN 6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AfterRollback {
    /// It stays as it is, without traffic.
    #[default]
    Leave,
    /// It gets back the pod template it had before.
    Undo,
    /// It is scaled to 0.
    ScaleDown,
}

/// What of its pods rolls a canary back, where the baseline's do not show it at half the rate per pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PodHealth {
    /// Any pod in a crash loop.
    pub crash_loop: bool,
    /// Any pod that waits for an image or a configuration that does not come.
    pub image_pull: bool,
    /// Any pod ended for want of memory.
    pub oom_killed: bool,
    /// So many failed probes since the rollout began.
    pub failed_probes: Option<u32>,
    /// Its Deployment's progress deadline has passed.
    pub never_ready: bool,
}

/// What a limit is a share of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareOf {
    /// What the pod's containers ask for.
    Requests,
    /// What they may use.
    Limits,
}

/// What begins a rollout, and who must agree.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Start {
    /// A new pod template starts one; else only a person, CI or a webhook does.
    pub on_new_template: bool,
    /// Roles that must approve, each by another person.
    pub approvals: Vec<String>,
}

/// A hook: POSTed to, any 2xx lets the rollout pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Where it stands.
    pub at: HookPoint,
    /// The address.
    pub url: String,
    /// How long the rollout waits for its yes, over all calls.
    pub timeout: Duration,
    /// What a no does, or none in time.
    pub on_fail: OnHookFail,
}

/// What a hook's no does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnHookFail {
    /// Roll back.
    RollBack,
    /// Go on waiting and calling.
    Hold,
    /// Pause and notify.
    Ask,
}

/// Selects alerts: all labels must match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertMatch {
    /// Label to value, exact.
    pub labels: BTreeMap<String, String>,
}

/// A part of a rule this build cannot carry out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotRun {
    /// Path in the file, such as `windows.allow[0]`.
    pub path: String,
    /// Line in the file, 1-based; 0 if unknown.
    pub line: u64,
    /// A sentence for the operator.
    pub why: String,
}

/// How the workloads are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkloadForm {
    /// Two that take turns: success swaps their roles.
    Pair,
    /// Fixed names: `First` is stable, `Second` the canary.
    StableCanary,
    /// One Deployment in rolling update: its old and new ReplicaSet.
    One,
}

/// What carries the two versions.
#[derive(Clone, Debug, PartialEq)]
pub struct Workloads {
    /// How they are named.
    pub form: WorkloadForm,
    /// Both, in the rule's order; for `One` its old ReplicaSet and its new one.
    pub sides: [Target; 2],
}

impl Workloads {
    /// The target of a side.
    pub fn side(&self, side: Side) -> &Target {
        &self.sides[side.index()]
    }

    /// What an operator calls a side: the most telling field in which the two differ.
    pub fn name(&self, side: Side) -> &str {
        let [first, second] = &self.sides;
        let differs = |field: &&&str| first.fields.get(**field) != second.fields.get(**field);
        let telling = TELLING.iter().filter(differs).find_map(|field| self.side(side).fields.get(*field));
        telling.map_or_else(|| self.side(side).name(), String::as_str)
    }
}

/// The fields of a workload that tell a person which it is, the most telling first.
const TELLING: [&str; 7] = ["deployment", "version", "cluster", "backend", "subset", "service", "server"];

/// The fields of one workload (namespace, deployment, service, port, version, cluster, subset, ingress, backend, server,
/// or any other word a pack's `{field}` asks for).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Field to value.
    pub fields: BTreeMap<String, String>,
}

impl Target {
    /// The field that tells two releases of one Deployment apart: the pods of its newest ReplicaSet where it is `new`, those of the one
    /// before where it is `old`, those of one template where it is the identity of that, and all of them without it.
    pub const REPLICASET: &str = "replicaset";

    /// Is this another release of the Deployment that the other is one of? Their pods are called alike.
    pub fn is_other_release(&self, other: &Self) -> bool {
        let [mine, others] = [self, other].map(|of| of.fields.get(Self::REPLICASET));
        mine.is_some() && others.is_some() && mine != others
    }

    /// What an operator calls it: the most telling field.
    pub fn name(&self) -> &str {
        TELLING.iter().find_map(|f| self.fields.get(*f)).or_else(|| self.fields.values().next()).map_or("?", String::as_str)
    }
}

/// One query pack in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Telemetry {
    /// Name of the pack.
    pub pack: String,
    /// Variant of the pack; `None` = the first whose needs exist.
    pub variant: Option<String>,
    /// Parameters that override the pack's.
    pub params: BTreeMap<String, String>,
    /// Replaces the pack's `arm`: label to value template, for arms told apart by label values.
    pub arm: BTreeMap<String, String>,
    /// Further PromQL matchers, such as `cluster="eu1"`.
    pub extra: Option<String>,
    /// Direct scrape only: URLs to read instead of asking Prometheus.
    pub scrape: Vec<String>,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The canary's share.
    pub weight: Weight,
    /// How long: `for`, or `bake` for a step at 100 %.
    pub lasts: Duration,
}

/// What happens after the last step (DESIGN 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promotion {
    /// The roles change, nothing is copied. The old workload keeps its replicas for `keep`, then gets the idle ones, if they are
    /// given.
    Swap { keep: Duration, idle: Option<u32> },
    /// The canary's template goes into stable, then the weight goes back.
    Copy,
    /// Somebody else makes stable equal.
    External { within: Duration },
    /// Nothing.
    Leave,
}

/// Then what, when a hold has lasted long enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Pause and notify.
    Ask,
    /// Take the weight back to 0.
    RollBack,
    /// Go on holding.
    Hold,
}

/// Hold so long, then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldThen {
    /// How long.
    pub hold: Duration,
    /// And then.
    pub then: Then,
}

/// What a shared incident does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnShared {
    /// Hold, page after ten minutes.
    Hold,
    /// Roll back.
    RollBack,
    /// Hold and page at once.
    Page,
}

/// What a weight moved by another hand does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnForeign {
    /// Write ours again, and say so.
    Reassert,
    /// Pause.
    Yield,
}

/// What to do when judging is not possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policies {
    /// Nothing can be seen.
    pub blind: HoldThen,
    /// The canary's series are missing though the baseline's are there.
    pub blind_canary: HoldThen,
    /// Evidence is still missing when the step's time is over (`on-evidence`, `strict`, and after `for` on schedule).
    pub undecided: HoldThen,
    /// Both arms suffer.
    pub shared: OnShared,
    /// The canary's requests do not come back: roll back, or hold.
    pub vanished: Then,
    /// Another hand moved the weight.
    pub foreign: OnForeign,
}

impl Default for Policies {
    fn default() -> Self {
        let ask = |minutes: u64| HoldThen { hold: Duration::from_secs(60 * minutes), then: Then::Ask };
        Self {
            blind: ask(10),
            blind_canary: ask(10),
            undecided: ask(30),
            shared: OnShared::Hold,
            vanished: Then::RollBack,
            foreign: OnForeign::Reassert,
        }
    }
}

/// What a crossing in the bake does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BakeJudge {
    /// The old version still stands: go back to it.
    RollBack,
    /// Hold and page.
    Page,
}

/// Enforce, or only tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Weights are written.
    Enforce,
    /// Decide and record, touch nothing.
    Observe,
}

/// The first rollout, when there is no baseline yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// Give it all the traffic.
    Promote,
    /// Refuse.
    Refuse,
}

/// The rule's own counts: selectors with `total:` and either `bad:` or `good:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomCounts {
    /// Selector of the part.
    pub part: String,
    /// The part is the bad one; else the good one.
    pub part_is_bad: bool,
    /// Selector of all.
    pub total: String,
}

/// The rule's own gauge: an opaque query, asked per arm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomGauge {
    /// With `{{workload}}` where the arm's matchers go.
    pub query: String,
    /// Lower is worse.
    pub lower_is_worse: bool,
}
