//! `workloads` and `telemetry`: what carries the two versions, and which counters tell about it.

use super::{Fields, Out, keys, known, name};
use crate::config::walk::At;
use crate::model::rule::{Target, Telemetry, WorkloadForm, Workloads};
use std::collections::BTreeMap;

const FORMS: &str = "write pair: [ {...}, {...} ], or stable: and canary:, or one:";

pub(super) fn workloads(fields: &Fields<'_>, out: &mut Out<'_>) -> Option<Workloads> {
    let at = fields.need("workloads", FORMS, &mut out.report)?;
    let inner = at.fields(keys::WORKLOADS, &mut out.report)?;
    let namespace = inner.get("namespace").and_then(|at| name(&at, 63, out));
    let workloads = form(&inner, out)?;
    let [first, second] = workloads.sides.map(|target| with_namespace(target, namespace.as_deref()));
    if workloads.form != WorkloadForm::One && first == second {
        at.wrong(&mut out.report, "both workloads are the same", "name two that differ in at least one field");
        return None;
    }
    Some(Workloads { form: workloads.form, sides: [first, second] })
}

fn with_namespace(mut target: Target, namespace: Option<&str>) -> Target {
    if let Some(namespace) = namespace {
        target.fields.entry("namespace".to_owned()).or_insert_with(|| namespace.to_owned());
    }
    target
}

fn form(inner: &Fields<'_>, out: &mut Out<'_>) -> Option<Workloads> {
    let forms = ["pair", "stable", "canary", "one"];
    let written: Vec<&str> = forms.into_iter().filter(|form| inner.get(form).is_some()).collect();
    match written.len() {
        1 if inner.get("pair").is_some() => pair(&inner.get("pair")?, out),
        1 if inner.get("one").is_some() => one(&inner.get("one")?, out),
        2 if inner.get("stable").is_some() && inner.get("canary").is_some() => {
            let (stable, canary) = (target(&inner.get("stable")?, out), target(&inner.get("canary")?, out));
            Some(Workloads { form: WorkloadForm::StableCanary, sides: [stable?, canary?] })
        }
        0 => {
            inner.at.wrong(&mut out.report, "names no workload", FORMS);
            None
        }
        _ => {
            inner.at.wrong(&mut out.report, format_args!("has {}", written.join(" and ")), FORMS);
            None
        }
    }
}

fn pair(at: &At<'_>, out: &mut Out<'_>) -> Option<Workloads> {
    let items = at.items(&mut out.report);
    if let [first, second] = items.as_slice() {
        let (first, second) = (target(first, out), target(second, out));
        return Some(Workloads { form: WorkloadForm::Pair, sides: [first?, second?] });
    }
    if at.is_list() {
        at.wrong(&mut out.report, format_args!("a pair of {}", items.len()), "name exactly two workloads");
    }
    None
}

fn one(at: &At<'_>, out: &mut Out<'_>) -> Option<Workloads> {
    let target = target(at, out)?;
    out.in_cluster(at, "a rolling update", "name two workloads with pair");
    let of = |which: &str| {
        let mut side = target.clone();
        side.fields.insert(Target::REPLICASET.to_owned(), which.to_owned());
        side
    };
    Some(Workloads { form: WorkloadForm::One, sides: [of("old"), of("new")] })
}

fn target(at: &At<'_>, out: &mut Out<'_>) -> Option<Target> {
    let members = at.members(&mut out.report);
    if members.is_empty() {
        at.wrong(&mut out.report, "names no workload", "write at least one field, such as { deployment: chatbot-v1 }");
        return None;
    }
    let mut fields = BTreeMap::new();
    for (field, value) in members {
        field_name(field, &value, out);
        if let Some(text) = value.text(&mut out.report) {
            fields.insert(field.to_owned(), text.to_owned());
        }
    }
    Some(Target { fields })
}

/// A field may have any name a pack asks for; one letter beside a usual name it is a slip.
fn field_name(field: &str, at: &At<'_>, out: &mut Out<'_>) {
    let slip = keys::TARGET.iter().find(|usual| strsim::damerau_levenshtein(usual, field) == 1);
    if let Some(usual) = slip {
        at.wrong(&mut out.report, format_args!("no pack asks for {field:?}"), format_args!("did you mean {usual:?}?"));
    } else if !field.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_') {
        at.wrong(&mut out.report, format_args!("{field:?} is no field"), "write lower-case letters, digits and -");
    }
}

pub(super) fn telemetry(fields: &Fields<'_>, out: &mut Out<'_>) -> Option<Vec<Telemetry>> {
    let at = fields.need("telemetry", "name at least one query pack, such as telemetry: [ envoy ]", &mut out.report)?;
    let items = at.items(&mut out.report);
    if items.is_empty() && at.is_list() {
        at.wrong(&mut out.report, "names no query pack", "name at least one, such as [ envoy ]");
    }
    let packs: Vec<Option<Telemetry>> = items.iter().map(|item| pack(item, out)).collect();
    packs.into_iter().collect::<Option<Vec<_>>>().filter(|packs| !packs.is_empty())
}

fn pack(at: &At<'_>, out: &mut Out<'_>) -> Option<Telemetry> {
    if !at.is_map() {
        return Some(Telemetry { pack: pack_name(at, out)?, ..Telemetry::default() });
    }
    let inner = at.fields(keys::TELEMETRY, &mut out.report)?;
    let pack = inner.need("pack", "name the query pack", &mut out.report).and_then(|at| pack_name(&at, out));
    let variant = inner.get("variant").and_then(|at| at.text(&mut out.report)).map(str::to_owned);
    let extra = inner.get("extra").and_then(|at| matchers(&at, out));
    let params = texts(inner.get("params"), out);
    let arm = texts(inner.get("arm"), out);
    let scrape = inner.get("scrape").map_or_else(Vec::new, |at| pages(&at, out));
    Some(Telemetry { pack: pack?, variant, params, arm, extra, scrape })
}

fn pack_name(at: &At<'_>, out: &mut Out<'_>) -> Option<String> {
    let text = at.text(&mut out.report)?;
    known(at, "query pack", text, &out.known.packs, &mut out.report);
    Some(text.to_owned())
}

fn texts(at: Option<At<'_>>, out: &mut Out<'_>) -> BTreeMap<String, String> {
    let members = at.map_or_else(Vec::new, |at| at.members(&mut out.report));
    members.into_iter().filter_map(|(key, at)| Some((key.to_owned(), at.text(&mut out.report)?.to_owned()))).collect()
}

/// Matchers are pasted between the braces of a selector, so they must not end it.
fn matchers(at: &At<'_>, out: &mut Out<'_>) -> Option<String> {
    let text = at.text(&mut out.report)?;
    if text.contains(['{', '}']) || !text.contains('=') {
        at.wrong(&mut out.report, format_args!("{text:?} are no PromQL matchers"), "write them without braces, such as 'cluster=\"eu1\"'");
    }
    Some(text.to_owned())
}

fn pages(at: &At<'_>, out: &mut Out<'_>) -> Vec<String> {
    at.items(&mut out.report).iter().filter_map(|page| page.url(&mut out.report)).collect()
}
