//! `alerts` and `notify`: which alerts of an Alertmanager concern a rollout, and who is told about it.

use super::{Fields, Out, keys, known};
use crate::config::walk::At;
use crate::model::rule::AlertMatch;
use std::collections::BTreeMap;

/// `match` is one set of labels, or a list of which any will do.
pub(super) fn alerts(fields: &Fields<'_>, out: &mut Out<'_>) -> Vec<AlertMatch> {
    let Some(inner) = fields.get("alerts").and_then(|at| at.fields(keys::ALERTS, &mut out.report)) else { return Vec::new() };
    let way_out = "write labels, such as match: { service: chatbot }";
    let Some(at) = inner.need("match", way_out, &mut out.report) else { return Vec::new() };
    let sets = if at.is_list() { at.items(&mut out.report) } else { vec![at.clone()] };
    if sets.is_empty() {
        at.wrong(&mut out.report, "is an empty list", way_out);
    }
    sets.iter().filter_map(|set| labels(set, way_out, out)).collect()
}

fn labels(at: &At<'_>, way_out: &str, out: &mut Out<'_>) -> Option<AlertMatch> {
    let members = at.members(&mut out.report);
    if members.is_empty() && at.is_map() {
        at.wrong(&mut out.report, "selects every alert there is", way_out);
    }
    let mut labels = BTreeMap::new();
    for (label, value) in members {
        if !is_label(label) {
            value.wrong(&mut out.report, format_args!("{label:?} is no label"), "write letters, digits and _, a letter first");
        }
        if let Some(text) = value.text(&mut out.report) {
            labels.insert(label.to_owned(), text.to_owned());
        }
    }
    (!labels.is_empty()).then_some(AlertMatch { labels })
}

/// As Alertmanager's clients write them. (Operators such as `service=~` are a slip: values are exact.)
fn is_label(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Names of receivers in the daemon's settings.
pub(super) fn notify(fields: &Fields<'_>, out: &mut Out<'_>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for at in fields.get("notify").map_or_else(Vec::new, |at| at.items(&mut out.report)) {
        let Some(name) = at.text(&mut out.report) else { continue };
        if !out.known.without_settings {
            known(&at, "receiver", name, &out.known.receivers, &mut out.report);
        }
        if names.iter().any(|other| other == name) {
            at.wrong(&mut out.report, format_args!("receiver {name:?} stands here twice"), "keep one of them");
        }
        names.push(name.to_owned());
    }
    names
}
