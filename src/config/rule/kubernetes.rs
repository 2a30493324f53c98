//! `traffic` kept in a Kubernetes object: its name, and which of its entries are the two workloads. What the rule does not say the
//! workloads' own fields do.

use super::{Out, is_name, keys, name, name_way_out, two};
use crate::config::walk::{At, Fields};
use crate::model::rule::{IstioDestination, KubernetesRoute, RouteKind, Workloads};

/// Most a canary-weight-total may be.
const WEIGHT_TOTAL_MAX: u32 = 1_000_000;
/// Most replicas two Deployments may have together.
const REPLICAS_MAX: u32 = 10_000;
/// Longest name of an object.
const NAME_MAX: usize = 253;

/// A kind of object and how it is read.
pub(super) struct Grammar {
    /// Its word.
    pub(super) word: &'static str,
    /// Its keys; the first names the object.
    pub(super) keys: &'static [&'static str],
    read: fn(&Walk<'_>, &mut Out<'_>) -> Option<RouteKind>,
}

/// Every kind.
pub(super) const KINDS: &[Grammar] = &[
    Grammar { word: "istio", keys: keys::ISTIO, read: istio },
    Grammar { word: "gateway-api", keys: keys::GATEWAY_API, read: gateway_api },
    Grammar { word: "nginx-ingress", keys: keys::NGINX_INGRESS, read: nginx_ingress },
    Grammar { word: "aws-alb", keys: keys::AWS_ALB, read: aws_alb },
    Grammar { word: "service", keys: keys::SERVICE, read: service },
    Grammar { word: "traefik", keys: keys::TRAEFIK, read: traefik },
    Grammar { word: "replicas", keys: keys::REPLICAS, read: replicas },
];

/// What a kind's reader looks at.
struct Walk<'a> {
    at: &'a At<'a>,
    fields: &'a Fields<'a>,
    workloads: Option<&'a Workloads>,
}

impl Grammar {
    /// Reads one.
    pub(super) fn route(&self, at: &At<'_>, workloads: Option<&Workloads>, out: &mut Out<'_>) -> Option<KubernetesRoute> {
        let fields = at.fields(self.keys, &mut out.report)?;
        let object = fields.need(self.keys[0], "write the object's name", &mut out.report).and_then(|at| name(&at, NAME_MAX, out));
        let namespace = namespace(at, &fields, workloads, out);
        let kind = (self.read)(&Walk { at, fields: &fields, workloads }, out);
        Some(KubernetesRoute { namespace: namespace?, name: object?, kind: kind? })
    }
}

/// The object's own, or that of both workloads.
fn namespace(at: &At<'_>, fields: &Fields<'_>, workloads: Option<&Workloads>, out: &mut Out<'_>) -> Option<String> {
    if let Some(at) = fields.get("namespace") {
        return name(&at, 63, out);
    }
    let [first, second] = &workloads?.sides;
    let both = first.fields.get("namespace").filter(|n| second.fields.get("namespace") == Some(n)).cloned();
    if both.is_none() {
        at.wrong(&mut out.report, "names no namespace", "write namespace: here, or one for both workloads");
    }
    both
}

impl Walk<'_> {
    fn text(&self, key: &str, out: &mut Out<'_>) -> Option<String> {
        self.fields.get(key)?.text(&mut out.report).map(str::to_owned)
    }

    /// Two texts under this key; without it the workloads' fields of this name. `Err` if the key was written and is wrong.
    fn both(&self, key: &str, field: &str, out: &mut Out<'_>) -> Result<Option<[String; 2]>, ()> {
        if let Some(at) = self.fields.get(key) {
            return two(&at, key, out).map(Some).ok_or(());
        }
        let Some(workloads) = self.workloads else { return Err(()) };
        let [first, second] = &workloads.sides;
        let fields = first.fields.get(field).cloned().zip(second.fields.get(field).cloned());
        Ok(fields.filter(|(a, b)| a != b).map(|(a, b)| [a, b]))
    }

    /// The same where there is no doing without.
    fn need_both(&self, key: &str, field: &str, out: &mut Out<'_>) -> Option<[String; 2]> {
        let both = self.both(key, field, out).ok()?;
        if both.is_none() {
            let way_out = format!("write {key}: [ ..., ... ] in the order of the workloads, or give each workload a {field}");
            self.at.wrong(&mut out.report, format_args!("names no {key}"), way_out);
        }
        both
    }
}

fn istio(walk: &Walk<'_>, out: &mut Out<'_>) -> Option<RouteKind> {
    let route = walk.text("route", out);
    let subsets = walk.both("subsets", "subset", out).ok()?;
    // with subsets the host is the same for both, unless the rule says otherwise
    let hosts = if subsets.is_some() && walk.fields.get("hosts").is_none() { None } else { walk.both("hosts", "service", out).ok()? };
    if subsets.is_none() && hosts.is_none() {
        let way_out = "write subsets: [ ..., ... ] or hosts: [ ..., ... ] in the order of the workloads";
        walk.at.wrong(&mut out.report, "does not say which destinations are the two workloads", way_out);
        return None;
    }
    let of = |all: &Option<[String; 2]>, side: usize| all.as_ref().map(|both| both[side].clone());
    let destinations = [0, 1].map(|side| IstioDestination { host: of(&hosts, side), subset: of(&subsets, side) });
    Some(RouteKind::VirtualService { route, destinations })
}

fn gateway_api(walk: &Walk<'_>, out: &mut Out<'_>) -> Option<RouteKind> {
    let kind = walk.fields.get("kind").map_or(Some(false), |at| at.choice(&[("HTTPRoute", false), ("GRPCRoute", true)], &mut out.report));
    let rule = walk.text("rule", out);
    let backends = walk.need_both("backends", "service", out);
    Some(RouteKind::GatewayRoute { grpc: kind?, rule, backends: backends? })
}

fn nginx_ingress(walk: &Walk<'_>, out: &mut Out<'_>) -> Option<RouteKind> {
    let total = walk.fields.get("weight-total").map(|at| at.whole(1..=WEIGHT_TOTAL_MAX, &mut out.report));
    let services = walk.both("services", "service", out).ok()?;
    Some(RouteKind::NginxIngress { services, weight_total: total.map_or(Some(None), |read| read.map(Some))? })
}

fn aws_alb(walk: &Walk<'_>, out: &mut Out<'_>) -> Option<RouteKind> {
    let action = walk.text("action", out);
    Some(RouteKind::AlbIngress { action, services: walk.need_both("services", "service", out)? })
}

fn traefik(walk: &Walk<'_>, out: &mut Out<'_>) -> Option<RouteKind> {
    Some(RouteKind::TraefikService { services: walk.need_both("services", "service", out)? })
}

fn replicas(walk: &Walk<'_>, out: &mut Out<'_>) -> Option<RouteKind> {
    let total = walk.fields.get("total").map(|at| at.whole(1..=REPLICAS_MAX, &mut out.report));
    let deployments = walk.need_both("deployments", "deployment", out);
    // they become parts of addresses
    for name in deployments.iter().flatten().filter(|name| !is_name(name, NAME_MAX)) {
        let at = walk.at.down(&["deployments"]);
        at.wrong(&mut out.report, format_args!("{name:?} is no name of a deployment"), name_way_out(NAME_MAX));
    }
    Some(RouteKind::Replicas { deployments: deployments?, total: total.map_or(Some(None), |read| read.map(Some))? })
}

/// `selector: label`, with the workloads' fields of that name as values, or `selector: { label: [ ..., ... ] }`.
fn service(walk: &Walk<'_>, out: &mut Out<'_>) -> Option<RouteKind> {
    let way_out =
        "write selector: { version: [ v1, v2 ] }: the label by which the pods differ, and its values in the order of the workloads";
    let at = walk.fields.need("selector", way_out, &mut out.report)?;
    let (label, inner, tagged) = at.tagged(&mut out.report)?;
    let values = if tagged { two(&inner, "values", out) } else { values_of(walk.workloads, label, &at, out) };
    Some(RouteKind::Service { label: label.to_owned(), values: values? })
}

fn values_of(workloads: Option<&Workloads>, label: &str, at: &At<'_>, out: &mut Out<'_>) -> Option<[String; 2]> {
    let [first, second] = &workloads?.sides;
    let values = first.fields.get(label).cloned().zip(second.fields.get(label).cloned()).filter(|(a, b)| a != b);
    if values.is_none() {
        let way_out = format!("write selector: {{ {label}: [ ..., ... ] }}, or give each workload another {label}");
        at.wrong(&mut out.report, format_args!("does not say the values of label {label}"), way_out);
    }
    values.map(|(a, b)| [a, b])
}
