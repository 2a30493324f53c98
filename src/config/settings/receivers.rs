//! `receivers`: where notices go, by the name rules use.

use super::read::{Out, auth, base_url, named, present, timeout, urls};
use super::{AlertmanagerSettings, GrafanaSettings, ReceiverSettings};
use crate::config::walk::{At, Fields};
use crate::model::Level;
use std::collections::BTreeMap;
use std::time::Duration;

pub(super) const RECEIVER: &[&str] = &["alertmanager", "grafana"];
pub(super) const ALERTMANAGER: &[&str] = &["urls", "timeout", "bearer_token_file", "basic", "ca_file", "labels", "level"];
pub(super) const GRAFANA: &[&str] = &["url", "timeout", "token_file", "ca_file", "dashboard", "tags"];

/// A receiver that does not answer for so long is tried again later; nothing waits for it.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Labels that make an alert of ours what it is: a constant one would change whose it is.
const OWN_LABELS: &[&str] =
    &["alertname", "generator", "severity", "rule", "rollout", "namespace", "workload", "baseline", "canaryd_arm", "metric", "limit"];
/// Longest value of a label, a tag or a dashboard's uid.
const WORD_MAX: usize = 200;

pub(super) fn receivers(fields: &Fields<'_>, out: &mut Out<'_>) -> BTreeMap<String, ReceiverSettings> {
    let members = fields.get("receivers").map_or_else(Vec::new, |at| at.members(out.report));
    let mut receivers = BTreeMap::new();
    for (name, at) in members {
        named(name, &at, out);
        if let Some(receiver) = receiver(&at, out) {
            receivers.insert(name.to_owned(), receiver);
        }
    }
    receivers
}

fn receiver(at: &At<'_>, out: &mut Out<'_>) -> Option<ReceiverSettings> {
    let fields = at.fields(RECEIVER, out.report)?;
    match (fields.get("alertmanager"), fields.get("grafana")) {
        (Some(at), None) => alertmanager(&at, out).map(ReceiverSettings::Alertmanager),
        (None, Some(at)) => grafana(&at, out).map(ReceiverSettings::Grafana),
        _ => {
            let way_out = "write alertmanager: { urls: [...] } or grafana: { url: ..., token_file: ... }, one of them";
            at.wrong(out.report, "is no receiver", way_out);
            None
        }
    }
}

fn alertmanager(at: &At<'_>, out: &mut Out<'_>) -> Option<AlertmanagerSettings> {
    let fields = at.fields(ALERTMANAGER, out.report)?;
    let urls = urls(&fields, out);
    let timeout = timeout(&fields, TIMEOUT, out);
    let auth = auth(&fields, out);
    let ca_file = fields.get("ca_file").and_then(|at| present(&at, out));
    let labels = labels(&fields, out);
    let level = fields.get("level").map_or(Some(Level::Warning), |at| {
        at.choice(&[("info", Level::Info), ("warning", Level::Warning), ("page", Level::Page)], out.report)
    });
    Some(AlertmanagerSettings { urls: urls?, timeout: timeout?, auth: auth?, ca_file, labels, level: level? })
}

fn labels(fields: &Fields<'_>, out: &mut Out<'_>) -> BTreeMap<String, String> {
    let members = fields.get("labels").map_or_else(Vec::new, |at| at.members(out.report));
    let mut labels = BTreeMap::new();
    for (name, at) in members {
        let letters = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !letters || name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || name.starts_with("__") {
            at.wrong(out.report, format_args!("{name:?} is no name of a label"), "write letters, digits and _");
        } else if OWN_LABELS.contains(&name) {
            at.wrong(out.report, format_args!("{name:?} is a label canaryd sets itself"), "write another name");
        } else if let Some(value) = word(&at, out) {
            labels.insert(name.to_owned(), value);
        }
    }
    labels
}

fn grafana(at: &At<'_>, out: &mut Out<'_>) -> Option<GrafanaSettings> {
    let fields = at.fields(GRAFANA, out.report)?;
    let url = fields.need("url", "write its address, such as https://grafana:3000", out.report).and_then(|at| base_url(&at, out));
    let timeout = timeout(&fields, TIMEOUT, out);
    let token = "write the file that holds a service account's token with the right annotations:write";
    let token_file = fields.need("token_file", token, out.report).and_then(|at| present(&at, out));
    let ca_file = fields.get("ca_file").and_then(|at| present(&at, out));
    let dashboard = fields.get("dashboard").and_then(|at| word(&at, out));
    let tags = fields.get("tags").map_or_else(Vec::new, |at| at.items(out.report));
    let tags = tags.iter().filter_map(|at| tag(at, out)).collect();
    Some(GrafanaSettings { url: url?, timeout: timeout?, token_file: token_file?, ca_file, dashboard, tags })
}

/// Served annotations join their tags with commas, so none may hold one.
fn tag(at: &At<'_>, out: &mut Out<'_>) -> Option<String> {
    let tag = word(at, out)?;
    if tag.contains(',') {
        at.wrong(out.report, format_args!("{tag:?} has a comma"), "write two tags");
    }
    Some(tag)
}

fn word(at: &At<'_>, out: &mut Out<'_>) -> Option<String> {
    let text = at.text(out.report)?;
    if text.chars().count() > WORD_MAX || text.chars().any(char::is_control) {
        at.wrong(out.report, "is too long or has odd characters", format_args!("write at most {WORD_MAX} printable characters"));
    }
    Some(text.to_owned())
}
