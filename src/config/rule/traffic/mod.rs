//! `traffic`: the router and its object. The word is the tag (`envoy: {...}`), so that a mistake keeps its line.

mod haproxy;
mod webhook;

use super::{Fields, Out, keys, kubernetes, two};
use crate::config::walk::{At, one_of};
use crate::model::Weight;
use crate::model::rule::{EnvoyRoute, EnvoyWrite, KubernetesRoute, RouteKind, Step, Traffic, WorkloadForm, Workloads};
use std::path::PathBuf;

/// Routers without an object, and those with one; [`kubernetes::KINDS`] are the others.
pub(super) const BARE: &[&str] = &["none", "proxy", "rolling-update"];
pub(super) const MOVED: &[&str] = &["envoy", "haproxy", "webhook"];

/// `whose`: the rule's name and workloads, where they could be read.
pub(super) fn traffic(fields: &Fields<'_>, whose: (Option<&str>, Option<&Workloads>), out: &mut Out<'_>) -> Option<Traffic> {
    let at = fields.need("traffic", "name what moves the traffic, or write traffic: none to decide and tell only", &mut out.report)?;
    let (word, object, tagged) = at.tagged(&mut out.report)?;
    match word {
        "none" | "proxy" | "rolling-update" if tagged => {
            object.wrong(&mut out.report, "has no settings", format_args!("write traffic: {word}"));
            None
        }
        "none" => Some(Traffic::None),
        "proxy" => Some(Traffic::Proxy),
        "rolling-update" => rolling_update(&object, whose.1, out),
        "envoy" if tagged => envoy(&object, whose.1, out).map(Traffic::Envoy),
        "haproxy" if tagged => haproxy::haproxy(&object, whose.1, out).map(Traffic::Haproxy),
        "webhook" if tagged => webhook::webhook(&object, whose, out).map(Traffic::Webhook),
        _ => match kubernetes::KINDS.iter().find(|kind| kind.word == word) {
            Some(kind) if tagged => {
                out.routed_in_cluster(&object, word);
                kind.route(&object, whose.1, out).map(Traffic::Kubernetes)
            }
            Some(kind) => {
                at.wrong(
                    &mut out.report,
                    format_args!("{word} needs an object"),
                    format_args!("write {word}: {{ {}: ... }}", kind.keys[0]),
                );
                None
            }
            None => other(word, &object, tagged, out),
        },
    }
}

/// Of the Deployment that the workloads name.
fn rolling_update(at: &At<'_>, workloads: Option<&Workloads>, out: &mut Out<'_>) -> Option<Traffic> {
    let workloads = workloads?;
    if workloads.form != WorkloadForm::One {
        let way_out = "name it with workloads: { one: { deployment: ... } }, or name what weighs two workloads";
        at.wrong(&mut out.report, "a rolling update is of one Deployment", way_out);
        return None;
    }
    out.routed_in_cluster(at, "rolling-update");
    // one that is not named is told where the workloads are read
    let field = |name: &str| workloads.sides[0].fields.get(name).cloned();
    let (namespace, name) = (field("namespace")?, field("deployment")?);
    Some(Traffic::Kubernetes(KubernetesRoute { namespace, name, kind: RouteKind::RollingUpdate }))
}

/// Steps finer than the router can say are refused: they would be rounded to another share.
pub(super) fn check_finest(fields: &Fields<'_>, traffic: Option<&Traffic>, steps: Option<&[Step]>, out: &mut Out<'_>) {
    let finest = traffic.map_or(1, Traffic::finest_permille);
    let items = if finest > 1 { fields.get("steps").map_or_else(Vec::new, |at| at.items(&mut out.report)) } else { Vec::new() };
    for (item, step) in items.iter().zip(steps.unwrap_or_default()) {
        let permille = step.weight.permille();
        if let (Some(written), false) = (item.node.below("weight"), permille.is_multiple_of(finest)) {
            let at = At { node: &written.node, path: format!("{}.weight", item.path) };
            let [finest, below] =
                [finest, (permille - permille % finest).max(finest)].map(|p| Weight::from_permille(p).unwrap_or_default());
            let what = format!("{} is no multiple of {finest}, the finest step of this router", step.weight);
            at.wrong(&mut out.report, what, format_args!("write {below}"));
        }
    }
}

fn other(word: &str, at: &At<'_>, tagged: bool, out: &mut Out<'_>) -> Option<Traffic> {
    let found = keys::OTHER_ROUTERS.iter().find(|(name, _, _)| *name == word);
    let Some((name, known, needed)) = found else {
        unknown(word, at, out);
        return None;
    };
    if !tagged {
        at.wrong(&mut out.report, format_args!("{word} needs an object"), format_args!("write {name}: {{ {}: ... }}", known[0]));
        return None;
    }
    let inner = at.fields(known, &mut out.report)?;
    for key in &known[..*needed] {
        inner.need(key, "", &mut out.report);
    }
    for value in inner.written(known) {
        one_or_more_texts(&value, out);
    }
    out.not_run(at, format!("router {name} is not moved by this build: name another, or traffic: none to decide and tell only"));
    Some(Traffic::Other((*name).to_owned()))
}

fn unknown(word: &str, at: &At<'_>, out: &mut Out<'_>) {
    let object = match word {
        "envoy" => "envoy: { admin: ..., route-file: {...} }",
        "haproxy" => "haproxy: { socket: ..., backend: ..., servers: [ ..., ... ] }",
        "webhook" => "webhook: { url: ... }",
        _ => "",
    };
    if !object.is_empty() {
        return at.wrong(&mut out.report, format_args!("{word} needs an object"), format_args!("write {object}"));
    }
    let others = keys::OTHER_ROUTERS.iter().map(|(name, _, _)| *name);
    let kinds = kubernetes::KINDS.iter().map(|kind| kind.word);
    let words: Vec<&str> = BARE.iter().chain(MOVED).copied().chain(kinds).chain(others).collect();
    at.wrong(&mut out.report, format_args!("no router is named {word:?}"), one_of(word, &words));
}

fn one_or_more_texts(at: &At<'_>, out: &mut Out<'_>) {
    if at.is_map() {
        for (_, value) in at.members(&mut out.report) {
            value.text(&mut out.report);
        }
    } else if at.is_list() {
        for item in at.items(&mut out.report) {
            item.text(&mut out.report);
        }
    } else {
        at.text(&mut out.report);
    }
}

fn envoy(at: &At<'_>, workloads: Option<&Workloads>, out: &mut Out<'_>) -> Option<EnvoyRoute> {
    let inner = at.fields(keys::ENVOY, &mut out.report)?;
    let admin = inner.need("admin", "write the admin interface's address, such as http://127.0.0.1:9901", &mut out.report);
    let admin = admin.and_then(|at| at.url(&mut out.report));
    let clusters = match inner.get("clusters") {
        Some(at) => two(&at, "clusters", out),
        None => clusters_of(workloads, at, out),
    };
    let by = write(&inner, out);
    Some(EnvoyRoute { admin: admin?, by: by?, clusters: clusters? })
}

/// Without `clusters` the workloads name them.
fn clusters_of(workloads: Option<&Workloads>, at: &At<'_>, out: &mut Out<'_>) -> Option<[String; 2]> {
    let [first, second] = &workloads?.sides;
    let named = first.fields.get("cluster").cloned().zip(second.fields.get("cluster").cloned());
    if named.is_none() {
        at.wrong(&mut out.report, "names no clusters", "write clusters: [ ..., ... ], or give each workload a cluster");
    }
    named.map(|(a, b)| [a, b])
}

fn write(inner: &Fields<'_>, out: &mut Out<'_>) -> Option<EnvoyWrite> {
    match (inner.get("route-file"), inner.get("runtime-keys")) {
        (Some(file), None) => route_file(&file, out),
        (None, Some(keys)) => runtime_keys(&keys, out),
        (file, _) => {
            let what = if file.is_some() { "has route-file and runtime-keys" } else { "does not say how weights are written" };
            let way_out = "write route-file: { path, stat-prefix, route } or runtime-keys: { prefix }";
            inner.at.wrong(&mut out.report, what, way_out);
            None
        }
    }
}

fn route_file(at: &At<'_>, out: &mut Out<'_>) -> Option<EnvoyWrite> {
    let inner = at.fields(keys::ROUTE_FILE, &mut out.report)?;
    let mut text = |key: &str, why: &str| {
        let at = inner.need(key, why, &mut out.report)?;
        at.text(&mut out.report).map(str::to_owned)
    };
    let path = text("path", "write the route configuration file that Envoy watches");
    let stat_prefix = text("stat-prefix", "write the stat_prefix of the connection manager that reads the file");
    let route = text("route", "write the name of the route configuration");
    Some(EnvoyWrite::RouteFile { path: PathBuf::from(path?), stat_prefix: stat_prefix?, route: route? })
}

fn runtime_keys(at: &At<'_>, out: &mut Out<'_>) -> Option<EnvoyWrite> {
    let inner = at.fields(keys::RUNTIME_KEYS, &mut out.report)?;
    let prefix = inner.need("prefix", "write the runtime_key_prefix of the weighted clusters", &mut out.report)?;
    Some(EnvoyWrite::RuntimeKeys { prefix: prefix.text(&mut out.report)?.to_owned() })
}
