//! `traffic`: the router and its object. The word is the tag (`envoy: {...}`), so that a mistake keeps its line.

use super::{Fields, Out, keys, two};
use crate::config::walk::{At, one_of};
use crate::model::rule::{EnvoyRoute, EnvoyWrite, Traffic, Workloads};
use std::path::PathBuf;

pub(super) fn traffic(fields: &Fields<'_>, workloads: Option<&Workloads>, out: &mut Out<'_>) -> Option<Traffic> {
    let at = fields.need("traffic", "name what moves the traffic, or write traffic: none to decide and tell only", &mut out.report)?;
    let (word, object, tagged) = at.tagged(&mut out.report)?;
    match word {
        "none" | "proxy" if tagged => {
            object.wrong(&mut out.report, "has no settings", format_args!("write traffic: {word}"));
            None
        }
        "none" => Some(Traffic::None),
        "proxy" => Some(Traffic::Proxy),
        "envoy" if tagged => envoy(&object, workloads, out).map(Traffic::Envoy),
        _ => other(word, &object, tagged, out),
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
    out.not_run(at, format!("router {name} is not moved by this build: use envoy, or traffic: none to decide and tell only"));
    Some(Traffic::Other((*name).to_owned()))
}

fn unknown(word: &str, at: &At<'_>, out: &mut Out<'_>) {
    if word == "envoy" {
        return at.wrong(&mut out.report, "envoy needs an object", "write envoy: { admin: ..., route-file: {...} }");
    }
    let mut words = vec!["none", "envoy", "proxy"];
    words.extend(keys::OTHER_ROUTERS.iter().map(|(name, _, _)| *name));
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
