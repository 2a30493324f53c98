//! A rule: how one service's canaries are judged and moved. Built only by `config`, which has checked everything; the
//! rest of the daemon trusts it.

use super::calendar::Windows;
use super::{Advance, Budget, HookPoint, MetricSpec, Side, Weight};
use std::collections::BTreeMap;
use std::fmt;
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

/// Which router moves the traffic, and its object.
#[derive(Clone, Debug, PartialEq)]
pub enum Traffic {
    /// Decide and tell only.
    None,
    /// Envoy's route file or runtime keys.
    Envoy(EnvoyRoute),
    /// HAProxy's server weights through its runtime socket.
    Haproxy(HaproxyServers),
    /// A user's own endpoint.
    Webhook(WebhookRouter),
    /// Weights kept in a Kubernetes object.
    Kubernetes(KubernetesRoute),
    /// The demo's in-process proxy: its address is known to the composition root only.
    Proxy,
    /// Named by the grammar, not carried out by this build (there is an entry in `Rule::not_run`).
    Other(String),
}

impl Traffic {
    /// The finest step this router can represent, in permille: no step of the rule may ask for a finer one.
    pub const fn finest_permille(&self) -> u16 {
        match self {
            Traffic::Haproxy(_) => 1000 / HaproxyServers::SUM,
            Traffic::Kubernetes(route) => route.kind.finest_permille(),
            _ => 1,
        }
    }
}

/// Envoy's object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvoyRoute {
    /// `http://host:port` of the admin interface: where a change is verified.
    pub admin: String,
    /// How weights are written.
    pub by: EnvoyWrite,
    /// Cluster names, in the order of the workloads.
    pub clusters: [String; 2],
}

/// The two durable ways to tell Envoy a weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvoyWrite {
    /// A route configuration file watched by Envoy (RDS by path), replaced by rename.
    RouteFile {
        /// The file.
        path: PathBuf,
        /// `stat_prefix` of the connection manager that reads it and the name of the route configuration: together they
        /// name the statistics where acceptance shows (`http.<stat_prefix>.rds.<route>.`).
        stat_prefix: String,
        /// Name of the route configuration.
        route: String,
    },
    /// Runtime keys `<prefix>.<cluster>` through the admin interface; lost when Envoy restarts.
    RuntimeKeys {
        /// `runtime_key_prefix` of the weighted clusters.
        prefix: String,
    },
}

/// HAProxy's object: one backend whose servers are the two workloads. Its runtime socket moves traffic between the servers of
/// one backend only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HaproxyServers {
    /// The runtime socket: a path, or `host:port`.
    pub socket: String,
    /// The backend. It goes into a command, like the servers: see [`Self::is_name`].
    pub backend: String,
    /// Both servers of it, in the order of the workloads.
    pub servers: [String; 2],
}

impl HaproxyServers {
    /// The sum of both weights written. HAProxy's go from 0 to 256: 200 is the largest sum in which every half percent is whole.
    pub const SUM: u16 = 200;

    /// Is it a name as HAProxy allows it? Anything else, such as a blank or `;`, would be another command.
    pub fn is_name(text: &str) -> bool {
        (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b))
    }
}

/// A user's endpoint that takes weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookRouter {
    /// The rule's name, told with each weight.
    pub rule: String,
    /// What both workloads are called there, in their order.
    pub workloads: [String; 2],
    /// POSTed to with the weight wanted.
    pub url: String,
    /// GET answers the weight in force; `None` = the same address.
    pub read_url: Option<String>,
    /// Bearer token, read at each call.
    pub token_file: Option<PathBuf>,
    /// Of each call.
    pub timeout: Duration,
}

/// A Kubernetes object that keeps the weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesRoute {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What it is, and which entries of it are the two workloads.
    pub kind: RouteKind,
}

/// Kinds of such objects. Of two names the first workload's comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// Istio VirtualService: destinations of one entry of `spec.http`.
    VirtualService {
        /// Name of the entry; `None` = the only one whose destinations are exactly both.
        route: Option<String>,
        /// Both.
        destinations: [IstioDestination; 2],
    },
    /// Gateway API HTTPRoute or GRPCRoute: `backendRefs` of one rule.
    GatewayRoute {
        /// GRPCRoute.
        grpc: bool,
        /// Name of the rule; `None` = the only one whose backends are exactly both.
        rule: Option<String>,
        /// Names of the Services.
        backends: [String; 2],
    },
    /// ingress-nginx: annotations of the canary Ingress.
    NginxIngress {
        /// Names of the Services; `None` = the Ingress leads to the second workload.
        services: Option<[String; 2]>,
        /// `canary-weight-total`; `None` = the one that is there.
        weight_total: Option<u32>,
    },
    /// AWS Load Balancer Controller: a forward action in an annotation of the Ingress.
    AlbIngress {
        /// Last part of the annotation's key; `None` = the only action that forwards to exactly both.
        action: Option<String>,
        /// Names of the Services, or ARNs of the target groups.
        services: [String; 2],
    },
    /// A Service's selector: all or nothing.
    Service {
        /// The label that differs.
        label: String,
        /// Its values.
        values: [String; 2],
    },
    /// Traefik's weighted services.
    TraefikService {
        /// Names of the services.
        services: [String; 2],
    },
    /// The replicas of two Deployments behind one Service, which the route names.
    Replicas {
        /// Names of the Deployments.
        deployments: [String; 2],
        /// How many replicas both have together; `None` = as many as are found at the first write.
        total: Option<u32>,
    },
}

impl RouteKind {
    /// Its word in a rule.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::VirtualService { .. } => "istio",
            Self::GatewayRoute { .. } => "gateway-api",
            Self::NginxIngress { .. } => "nginx-ingress",
            Self::AlbIngress { .. } => "aws-alb",
            Self::Service { .. } => "service",
            Self::TraefikService { .. } => "traefik",
            Self::Replicas { .. } => "replicas",
        }
    }

    /// The finest step such an object can represent, in permille.
    pub const fn finest_permille(&self) -> u16 {
        match self {
            // weights count against each other: any total will do
            Self::VirtualService { .. } | Self::GatewayRoute { .. } | Self::TraefikService { .. } => 1,
            // what only the object can tell is told when it is written
            Self::NginxIngress { weight_total: None, .. } | Self::Replicas { total: None, .. } => 1,
            Self::NginxIngress { weight_total: Some(total), .. } | Self::Replicas { total: Some(total), .. } => finest(*total),
            // 999 is the most a target group may have
            Self::AlbIngress { .. } => 10,
            Self::Service { .. } => 1000,
        }
    }
}

/// The least number of permille that is a whole number of parts of `total`, and divides 1000.
const fn finest(total: u32) -> u16 {
    let mut step = 1;
    while step < 1000 && !(1000_u16.is_multiple_of(step) && (step as u64 * total as u64).is_multiple_of(1000)) {
        step += 1;
    }
    step
}

/// A destination of an Istio route. What is `None` is not looked at; never both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IstioDestination {
    /// Its host, short or full.
    pub host: Option<String>,
    /// Its subset.
    pub subset: Option<String>,
}

impl fmt::Display for IstioDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, &self.subset) {
            (Some(host), Some(subset)) => write!(f, "{host} subset {subset}"),
            (None, Some(subset)) => write!(f, "subset {subset}"),
            (host, None) => f.write_str(host.as_deref().unwrap_or("?")),
        }
    }
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
