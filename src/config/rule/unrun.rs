//! Sections the grammar knows and this build does not carry out: they are checked like any other, and each becomes an entry
//! of `Rule::not_run` with the sentence an operator needs. A rule is never run as if they were not there.

use super::{Fields, LONGEST, Out, keys, known};
use crate::config::walk::At;
use crate::model::rule::First;
use std::time::Duration;

/// `start`: when a rollout begins and what the first one does.
pub(super) fn start(fields: &Fields<'_>, out: &mut Out<'_>) -> First {
    let Some(inner) = fields.get("start").and_then(|at| at.fields(keys::START, &mut out.report)) else { return First::Promote };
    if let Some(at) = inner.get("when")
        && at.choice(&[("manual", false), ("new-template", true)], &mut out.report) == Some(true)
    {
        out.not_run(&at, "this build does not watch pod templates: write when: manual and start rollouts by CLI or API");
    }
    for role in inner.get("approvals").map_or_else(Vec::new, |at| at.items(&mut out.report)) {
        if let Some(name) = role.text(&mut out.report) {
            out.not_run(&role, format!("this build does not wait for the approval of {name:?}"));
        }
    }
    super::word(&inner, "first", &[("promote", First::Promote), ("refuse", First::Refuse)], out).unwrap_or(First::Promote)
}

/// `hooks`, `windows`, `alerts`, `replicas` and `notify`; answers the receivers' names.
pub(super) fn outside(fields: &Fields<'_>, out: &mut Out<'_>) -> Vec<String> {
    hooks(fields, out);
    windows(fields, out);
    alerts(fields, out);
    if let Some(at) = fields.get("replicas")
        && at.choice(&[("follow", ()), ("external", ())], &mut out.report).is_some()
    {
        out.not_run(&at, "this build does not see or change replicas: capacity is yours to keep");
    }
    notify(fields, out)
}

fn hooks(fields: &Fields<'_>, out: &mut Out<'_>) {
    let Some(inner) = fields.get("hooks").and_then(|at| at.fields(keys::HOOKS, &mut out.report)) else { return };
    for at in inner.written(keys::HOOKS) {
        hook(&at, out);
        out.not_run(&at, "hooks are not called by this build");
    }
}

fn hook(at: &At<'_>, out: &mut Out<'_>) {
    if !at.is_map() {
        at.url(&mut out.report);
        return;
    }
    let Some(inner) = at.fields(keys::HOOK, &mut out.report) else { return };
    if let Some(at) = inner.need("url", "write the address to POST to", &mut out.report) {
        at.url(&mut out.report);
    }
    super::optional(&inner, "timeout", |at| at.duration(Duration::from_millis(100)..=LONGEST, &mut out.report));
    super::word(&inner, "on-fail", &[("roll-back", ()), ("hold", ()), ("ask", ())], out);
}

fn windows(fields: &Fields<'_>, out: &mut Out<'_>) {
    let Some(inner) = fields.get("windows").and_then(|at| at.fields(keys::WINDOWS, &mut out.report)) else { return };
    super::optional(&inner, "timezone", |at| at.text(&mut out.report));
    super::word(&inner, "at-end", &[("finish", ()), ("hold", ()), ("roll-back", ())], out);
    for at in inner.written(&["allow", "deny"]) {
        for range in at.items(&mut out.report) {
            window(&range, out);
        }
    }
}

fn window(at: &At<'_>, out: &mut Out<'_>) {
    if at.is_map() {
        let inner = at.fields(keys::DATES, &mut out.report);
        let dates = inner.and_then(|inner| inner.need("dates", "name a file of dates", &mut out.report));
        dates.and_then(|at| at.text(&mut out.report));
    } else {
        at.text(&mut out.report);
    }
    out.not_run(at, "maintenance windows are not kept by this build: it would start at any time");
}

fn alerts(fields: &Fields<'_>, out: &mut Out<'_>) {
    let Some(inner) = fields.get("alerts").and_then(|at| at.fields(keys::ALERTS, &mut out.report)) else { return };
    for at in inner.written(keys::ALERTS) {
        for (_, value) in at.members(&mut out.report) {
            value.text(&mut out.report);
        }
        out.not_run(&at, "alerts of an Alertmanager are not taken as evidence by this build");
    }
}

fn notify(fields: &Fields<'_>, out: &mut Out<'_>) -> Vec<String> {
    let mut names = Vec::new();
    for at in fields.get("notify").map_or_else(Vec::new, |at| at.items(&mut out.report)) {
        let Some(name) = at.text(&mut out.report) else { continue };
        if !out.known.without_settings {
            known(&at, "receiver", name, &out.known.receivers, &mut out.report);
        }
        names.push(name.to_owned());
    }
    names
}
