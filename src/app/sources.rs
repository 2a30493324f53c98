//! Sources, made from the settings.

use super::{Extras, TIMEOUT_SHARE};
use crate::config::Settings;
use crate::config::settings::{PrometheusSettings, Secret, SourceAuth, SourceKind, SourceSettings};
use crate::model::Rule;
use crate::source::{self, Allowance, Auth, Packs, Prometheus, Scrape, ScrapeSettings, Source, Tls};
use crate::telemetry::Metrics;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What everything that asks a source has in common.
pub(super) struct Shared {
    /// What may be asked of each source, by name.
    allowances: BTreeMap<String, Arc<Allowance>>,
    metrics: Metrics,
    extras: Extras,
}

impl Shared {
    pub(super) fn new(settings: &Settings, metrics: Metrics, extras: Extras) -> Self {
        let allowance = |s: &SourceSettings| match &s.kind {
            SourceKind::Prometheus(p) => Some((s.name.clone(), Arc::new(Allowance::new(p.queries_per_minute, source::IN_FLIGHT_MAX)))),
            SourceKind::Scrape { .. } => None,
        };
        Self { allowances: settings.sources.iter().filter_map(allowance).collect(), metrics, extras }
    }
}

/// The same; pages of the settings that are scraped directly have the extras' past, and pods are told by their watch.
pub(super) fn source_with(
    settings: &Settings,
    packs: &Packs,
    rule: &Rule,
    interval: Option<Duration>,
    shared: &Shared,
) -> Result<Box<dyn Source>, String> {
    let wanted = rule.source.as_deref();
    let found = settings.sources.iter().find(|s| wanted.is_none_or(|name| s.name == name));
    let scrape_only =
        SourceSettings { name: "scrape".into(), kind: SourceKind::Scrape { urls: Vec::new(), timeout: Duration::from_secs(5) } };
    let scrapes = rule.telemetry.iter().any(|t| !t.scrape.is_empty());
    let settings = match found {
        Some(found) if !scrapes => found,
        _ if scrapes => &scrape_only,
        _ => return Err("there is no source: name one under `sources` in the settings, or pages under `scrape` in the rule".into()),
    };
    let limit = |timeout: Duration| interval.map_or(timeout, |i| timeout.min(i.mul_f64(TIMEOUT_SHARE)));
    match &settings.kind {
        SourceKind::Prometheus(p) => {
            let settings = prometheus_settings(&settings.name, p, packs, limit(p.timeout), shared);
            Ok(Box::new(Prometheus::new(settings).map_err(|e| e.to_string())?))
        }
        SourceKind::Scrape { urls, timeout } => {
            let base = ScrapeSettings::new(settings.name.clone(), urls.clone());
            let settings = ScrapeSettings { timeout: limit(*timeout), packs: packs.clone(), pods: shared.extras.pods.clone(), ..base };
            let scrape = Scrape::new(settings).map_err(|e| e.to_string())?;
            Ok(Box::new(match shared.extras.history.as_ref().filter(|_| !scrapes) {
                Some(past) => scrape.with_history(past.clone()),
                None => scrape,
            }))
        }
    }
}

fn prometheus_settings(
    name: &str,
    p: &PrometheusSettings,
    packs: &Packs,
    timeout: Duration,
    shared: &Shared,
) -> source::PrometheusSettings {
    let plain = |(k, v): (&String, &Secret)| (k.clone(), v.expose().to_owned());
    source::PrometheusSettings {
        timeout,
        auth: match &p.auth {
            SourceAuth::None => Auth::None,
            SourceAuth::BearerTokenFile(file) => Auth::BearerTokenFile(file.clone()),
            SourceAuth::Basic { user, password_file } => Auth::Basic { user: user.clone(), password_file: password_file.clone() },
        },
        tls: Tls { ca_file: p.ca_file.clone(), identity: p.identity.clone() },
        headers: p.headers.iter().map(plain).collect(),
        params: p.params.iter().map(plain).collect(),
        body_max: p.answer_max_mb as usize * (1 << 20),
        allowance: shared.allowances.get(name).cloned().unwrap_or_default(),
        packs: packs.clone(),
        pods: shared.extras.pods.clone(),
        metrics: shared.metrics.clone(),
        ..source::PrometheusSettings::new(name, p.url.clone())
    }
}
