//! Reads and writes traffic weights, one file per router. A router changes only the weight, and it alone writes one: what
//! weight, `rollout` decides. First file to read: `haproxy/mod.rs`; then `kubernetes/mod.rs`, for what the objects of a cluster share.

mod envoy;
mod haproxy;
mod http;
mod kubernetes;
mod none;
pub(crate) mod proxy;
mod share;
mod webhook;

pub use envoy::Envoy;
pub use haproxy::Haproxy;
pub use kubernetes::Watches;
pub use none::TellOnly;
pub use proxy::Proxy;
pub use share::canary_share;
pub use webhook::Webhook;

use crate::model::rule::Traffic;
use crate::model::{Noted, Retry, Side, TrafficReading, Weight};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The future of an answer.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, RouterError>> + Send + 'a>>;

/// The weight wanted. Level-triggered: writing it twice is the same as writing it once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Which of the rule's workloads is the canary.
    pub canary: Side,
    /// Its share.
    pub weight: Weight,
    /// Number of this wish; a router that can keep one refuses an older one.
    pub generation: u64,
}

/// A place where the share of traffic is kept.
pub trait Router: Send + Sync + fmt::Debug {
    /// Its word in a rule.
    fn name(&self) -> &'static str;

    /// The finest step it can represent, in permille: a weight that is no multiple of it is refused by `check`.
    fn granularity_permille(&self) -> u16;

    /// The canary's share there now, from the data plane's own view where it can be had.
    fn read(&self, canary: Side) -> Answer<'_, TrafficReading>;

    /// Makes it so and reads it back; `Ok` only when the data plane confirmed it.
    fn write(&self, desired: Desired) -> Answer<'_, ()>;

    /// What was noted when the rollout began whose weights are written from now on; told before the first of them, after a restart
    /// too.
    fn begins(&self, _noted: &Noted) {}

    /// A rollout of what was noted is being prepared: what would move the traffic by itself meanwhile is stopped. Done again, it is
    /// the same.
    fn hold_still<'a>(&'a self, _noted: &'a Noted) -> Answer<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// What was stopped for a rollout that never came, and is not what it was stopped for any more, goes on.
    fn let_go(&self) -> Answer<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Which of these weights it will make otherwise than they are asked for, and how: told before anything begins. Empty where each can
    /// be made.
    fn foretell<'a>(&'a self, _weights: &'a [Weight]) -> Answer<'a, Vec<String>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// Marks each time the place was written, by whomever: then it is worth reading. `None` where nobody tells. Called within a
    /// tokio runtime only.
    fn changed(&self) -> Option<watch::Receiver<u64>> {
        None
    }
}

/// Why a weight could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RouterError {
    /// The router cannot be reached, or not in time.
    #[error("{what}: {cause}")]
    Unreachable { what: String, cause: String },
    /// It is there, and asks to be asked later.
    #[error("{what}: {why}")]
    Busy { what: String, why: String, after: Duration },
    /// Its file or object is not as the rule says.
    #[error("{what}: {why}")]
    Object { what: String, why: String },
    /// It refused the change; the old weight stands.
    #[error("{what} refused the change: {why}")]
    Refused { what: String, why: String },
    /// We lack a permission.
    #[error("{what}: {why}")]
    Denied { what: String, why: String },
    /// It took the change, and what it does takes its time.
    #[error("{what}: {why}")]
    Underway { what: String, why: String },
    /// It took the change and does not show it.
    #[error("{what} does not show the weight: {why}")]
    NotVerified { what: String, why: String },
}

impl RouterError {
    /// When to try again.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Unreachable { .. } | Self::NotVerified { .. } => Retry::After(Duration::from_secs(1)),
            Self::Busy { after, .. } => Retry::After(*after),
            Self::Underway { .. } => Retry::Underway,
            Self::Refused { .. } | Self::Object { .. } | Self::Denied { .. } => Retry::OnChange,
        }
    }

    /// A closed set, used as metric label.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::Busy { .. } => "busy",
            Self::Object { .. } => "object",
            Self::Refused { .. } => "refused",
            Self::Denied { .. } => "denied",
            Self::Underway { .. } => "underway",
            Self::NotVerified { .. } => "not-verified",
        }
    }
}

/// What routers reach the outside by, where there is such a thing.
#[derive(Clone, Default)]
pub struct Means {
    /// The demo's proxy.
    pub proxy: Option<Arc<Proxy>>,
    /// The cluster's API server.
    pub cluster: Option<kube::Client>,
    /// Watches of the cluster's objects: shared by all routers opened with these means.
    pub watches: Watches,
}

impl fmt::Debug for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Means").field("proxy", &self.proxy.is_some()).field("cluster", &self.cluster.is_some()).finish()
    }
}

/// The router of a rule. A new router is one file and one line here.
///
/// # Errors
/// The rule's object cannot be used by this router, or there is none of that name.
pub fn open(traffic: &Traffic, means: &Means) -> Result<Arc<dyn Router>, RouterError> {
    match traffic {
        Traffic::None => Ok(Arc::new(TellOnly::default())),
        Traffic::Envoy(route) => Ok(Arc::new(Envoy::new(route.clone())?)),
        Traffic::Kubernetes(route) => {
            let client = means.cluster.clone().ok_or_else(|| RouterError::Object {
                what: format!("traffic: {}", route.kind.word()),
                why: "there is no cluster: run as a pod of one, or name a kubeconfig under `cluster` in the settings".to_owned(),
            })?;
            Ok(kubernetes::open(route, (client, means.watches.clone())))
        }
        Traffic::Proxy => means.proxy.as_ref().map(|p| Arc::clone(p) as Arc<dyn Router>).ok_or_else(|| RouterError::Object {
            what: "traffic: proxy".to_owned(),
            why: "there is no such proxy outside `canaryd demo`: name the router that moves your traffic".to_owned(),
        }),
        Traffic::Haproxy(servers) => Ok(Arc::new(Haproxy::new(servers.clone())?)),
        Traffic::Webhook(webhook) => Ok(Arc::new(Webhook::new(webhook.clone())?)),
        Traffic::Other(word) => Err(RouterError::Object {
            what: format!("traffic: {word}"),
            why: "there is no such router: name another, or none and move the traffic yourself".to_owned(),
        }),
    }
}

/// Refuses a write older than what is there: a stale driver cannot move traffic.
fn no_newer(what: &str, found: Option<u64>, ours: u64) -> Result<(), RouterError> {
    match found {
        Some(found) if found > ours => Err(RouterError::Refused {
            what: what.to_owned(),
            why: format!("generation {found} is there, newer than this write's {ours}: another canaryd moves this traffic"),
        }),
        _ => Ok(()),
    }
}
