//! How a server is reached, and how much is asked of it.

use super::{Allowance, Auth, Tls};
use crate::source::{Packs, PodWatch};
use crate::telemetry::Metrics;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How to reach a server and how much to ask of it.
#[derive(Clone)]
pub struct PrometheusSettings {
    /// Its name in the settings.
    pub name: String,
    /// Base URL, with a path prefix if there is one: `http://prometheus:9090`, `https://example.com/prom`.
    pub url: String,
    /// Longest wait for one answer.
    pub timeout: Duration,
    /// How the server is told who asks.
    pub auth: Auth,
    /// Certificates.
    pub tls: Tls,
    /// Sent with every request (tenants).
    pub headers: Vec<(String, String)>,
    /// Sent with every query (`partial_response=false` for Thanos).
    pub params: Vec<(String, String)>,
    /// Largest answer read, bytes.
    pub body_max: usize,
    /// What may be asked of it; one for everything in this process that asks the same server.
    pub allowance: Arc<Allowance>,
    /// Packs that rules may name.
    pub packs: Packs,
    /// Knows which pods are an arm's; `None`: they are told by their names.
    pub pods: Option<Arc<dyn PodWatch>>,
    /// Where queries are counted.
    pub metrics: Metrics,
}

/// Largest answer read, bytes, unless the settings say otherwise: 20,000 rows are 4 MB.
pub const BODY_MAX: usize = 32 << 20;

impl PrometheusSettings {
    /// Everything by default but the name and the URL: 10 s, 32 MB, 1200 queries a minute and 4 in flight, the compiled-in packs.
    pub fn new(name: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            url: url.into(),
            timeout: Duration::from_secs(10),
            auth: Auth::None,
            tls: Tls::default(),
            headers: Vec::new(),
            params: Vec::new(),
            body_max: BODY_MAX,
            allowance: Arc::default(),
            packs: Packs::builtin(),
            pods: None,
            metrics: Metrics::new(),
        }
    }
}

impl fmt::Debug for PrometheusSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrometheusSettings").field("name", &self.name).field("url", &self.url).finish_non_exhaustive()
    }
}
