//! What moves the traffic: the routers, and the object in which each keeps its weights. A part of the [rule](super::rule),
//! and named through it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

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
    /// Does canaryd lead the rolling update of one Deployment?
    pub const fn leads_rolling_update(&self) -> bool {
        matches!(self, Traffic::Kubernetes(KubernetesRoute { kind: RouteKind::RollingUpdate, .. }))
    }

    /// The finest step this router can represent, in permille: no step of the rule may ask for a finer one.
    pub const fn finest_permille(&self) -> u16 {
        match self {
            Traffic::Haproxy(_) => 1000 / HaproxyServers::SUM,
            Traffic::Kubernetes(route) => route.kind.finest_permille(),
            _ => 1,
        }
    }

    /// Are the replicas of the workloads the share itself? Then a canary without traffic has none, and a baseline has what is left.
    pub const fn is_of_replicas(&self) -> bool {
        matches!(self, Traffic::Kubernetes(KubernetesRoute { kind: RouteKind::Replicas { .. }, .. }))
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
    /// The rolling update of one Deployment, which the route names: stopped and let go on.
    RollingUpdate,
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
            Self::RollingUpdate => "rolling-update",
        }
    }

    /// The finest step such an object can represent, in permille.
    pub const fn finest_permille(&self) -> u16 {
        match self {
            // weights count against each other: any total will do; a share of ready pods is a lower bound
            Self::VirtualService { .. } | Self::GatewayRoute { .. } | Self::TraefikService { .. } | Self::RollingUpdate => 1,
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
