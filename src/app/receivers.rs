//! Receivers of notices, made from the settings.

use crate::config::Settings;
use crate::config::settings::{AlertmanagerSettings, GrafanaSettings, ReceiverSettings, SourceAuth};
use crate::notify::{Alertmanager, Auth, Endpoint, Grafana, Receiver, Switchboard, alertmanager, grafana};
use crate::telemetry::Metrics;
use anyhow::Context;
use std::net::SocketAddr;

/// A switchboard with every receiver of the settings, each under its name; links lead to `external_url`, else to this address.
///
/// # Errors
/// A receiver that cannot be told, such as one whose authority's certificate cannot be read.
pub(super) fn switchboard(settings: &Settings, address: SocketAddr, metrics: &Metrics) -> anyhow::Result<Switchboard> {
    let external_url = settings.external_url.clone().unwrap_or_else(|| format!("http://{address}"));
    let mut switchboard = Switchboard::new(metrics.clone());
    for (name, receiver) in &settings.receivers {
        let made = match receiver {
            ReceiverSettings::Alertmanager(told) => replicas(told, &external_url),
            ReceiverSettings::Grafana(told) => graphs(told, &external_url).map(|one| vec![one]),
        };
        let made = made.map_err(anyhow::Error::msg).with_context(|| format!("receiver {name}"))?;
        made.into_iter().for_each(|receiver| switchboard.join(name, receiver));
    }
    Ok(switchboard)
}

/// Each replica is told for itself.
fn replicas(told: &AlertmanagerSettings, external_url: &str) -> Result<Vec<Box<dyn Receiver>>, String> {
    let style = alertmanager::Style { labels: told.labels.clone(), level: told.level, external_url: external_url.to_owned() };
    let replica = |url: &String| {
        let endpoint = Endpoint { url: url.clone(), timeout: told.timeout, auth: auth(&told.auth), ca_file: told.ca_file.clone() };
        Alertmanager::new(endpoint, style.clone()).map(|one| Box::new(one) as Box<dyn Receiver>)
    };
    told.urls.iter().map(replica).collect()
}

fn graphs(told: &GrafanaSettings, external_url: &str) -> Result<Box<dyn Receiver>, String> {
    let style = grafana::Style { dashboard: told.dashboard.clone(), tags: told.tags.clone(), external_url: external_url.to_owned() };
    let auth = Auth::BearerFile(told.token_file.clone());
    let endpoint = Endpoint { url: told.url.clone(), timeout: told.timeout, auth, ca_file: told.ca_file.clone() };
    Grafana::new(endpoint, style).map(|one| Box::new(one) as Box<dyn Receiver>)
}

fn auth(auth: &SourceAuth) -> Auth {
    match auth {
        SourceAuth::None => Auth::None,
        SourceAuth::BearerTokenFile(file) => Auth::BearerFile(file.clone()),
        SourceAuth::Basic { user, password_file } => Auth::Basic { user: user.clone(), password_file: password_file.clone() },
    }
}
