//! Two rules that would move the same thing would fight each other, weight by weight: the second is refused, and both are named.
//! A rule in `mode: observe` moves nothing, and so stands in nobody's way.

use super::walk::{Kind, Node};
use super::{Problem, RuleSet, yaml};
use crate::model::Rule;
use crate::model::rule::{
    AfterRollback, EnvoyWrite, IstioDestination, KubernetesRoute, Mode, Promotion, Replicas, RouteKind, Target, Traffic, WorkloadForm,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the rules of a set move, by object.
#[derive(Debug, Default)]
pub struct Claims(BTreeMap<String, Vec<Claimed>>);

#[derive(Debug)]
struct Claimed {
    part: Part,
    rule: Arc<Rule>,
    written: Written,
    /// Where it says so.
    path: String,
}

/// Where the sections of a rule stand.
#[derive(Clone, Debug)]
pub enum Written {
    /// In a file of its own: its text.
    File(Arc<str>),
    /// In a manifest: path of the rule in it, and lines by section.
    Manifest(String, Arc<BTreeMap<String, u64>>),
    /// In an object, which has no lines.
    Object,
}

impl Written {
    /// A rule that stands below this node of a manifest.
    pub(super) fn sections(spec: &Node, path: String) -> Self {
        let Kind::Map(entries) = &spec.kind else { return Self::Object };
        Self::Manifest(path, Arc::new(entries.iter().map(|entry| (entry.key.clone(), entry.place.line)).collect()))
    }

    /// Path and line of a key of the rule; line 0 where there is none.
    fn place(&self, path: &str) -> (String, u64) {
        let section = path.split('.').next().unwrap_or(path);
        match self {
            Self::Object => (path.to_owned(), 0),
            Self::Manifest(spec, lines) => (format!("{spec}.{path}"), lines.get(section).copied().unwrap_or(0)),
            Self::File(text) => {
                let tree = yaml::parse(text, "").ok();
                (path.to_owned(), tree.and_then(|tree| tree.below(section).map(|entry| entry.place.line)).unwrap_or(0))
            }
        }
    }
}

/// One thing that a rule moves.
#[derive(Debug)]
struct Claim {
    /// The object, as people name it.
    object: String,
    part: Part,
    /// Where the rule says so.
    path: String,
}

/// How much of an object.
#[derive(Clone, Debug)]
enum Part {
    /// All that is ever moved in it.
    Whole,
    /// One entry of several.
    Entry {
        /// How the grammar calls such an entry.
        key: &'static str,
        /// Its name; `None` = the only one that sends to both.
        name: Option<String>,
        sends_to: [IstioDestination; 2],
    },
}

impl Claims {
    /// Those of all rules of files, which do not overlap.
    pub fn of(files: &RuleSet) -> Self {
        let mut claims = Self::default();
        for (name, rule) in &files.rules {
            claims.put(rule, &files.texts.get(name).map_or(Written::Object, |text| Written::File(Arc::clone(text))));
        }
        claims
    }

    /// Adds what a rule moves.
    ///
    /// # Errors
    /// Another moves it already: both are named, and nothing is added.
    pub fn take(&mut self, rule: &Arc<Rule>, written: &Written) -> Result<(), Problem> {
        let other = |claim: Claim| {
            let others = self.0.get(&claim.object)?;
            others.iter().find(|other| other.part.overlaps(&claim.part)).map(|other| other.refuses(&claim, rule, written))
        };
        match claims(rule).into_iter().find_map(other) {
            Some(problem) => Err(problem),
            None => {
                self.put(rule, written);
                Ok(())
            }
        }
    }

    fn put(&mut self, rule: &Arc<Rule>, written: &Written) {
        for Claim { object, part, path } in claims(rule) {
            self.0.entry(object).or_default().push(Claimed { part, rule: Arc::clone(rule), written: written.clone(), path });
        }
    }
}

impl Claimed {
    fn refuses(&self, claim: &Claim, rule: &Rule, written: &Written) -> Problem {
        let line = self.written.place(&self.path).1;
        let place = if line > 0 { format!(":{line}") } else { String::new() };
        let what = format!(
            "rule {:?} would move {}{}, which rule {:?} ({}{place}) moves: they would fight each other",
            rule.name,
            claim.object,
            claim.part.said(),
            self.rule.name,
            self.rule.file.display(),
        );
        let (path, line) = written.place(&claim.path);
        Problem { file: rule.file.display().to_string(), line, path, what, way_out: self.part.way_out() }
    }
}

impl Part {
    fn overlaps(&self, other: &Part) -> bool {
        let (Part::Entry { name, sends_to, .. }, Part::Entry { name: other_name, sends_to: others, .. }) = (self, other) else {
            return true;
        };
        match (name, other_name) {
            (Some(name), Some(other)) => name == other,
            // without names nobody can tell them apart before the object is read
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => could_be_the_same(sends_to, others),
        }
    }

    fn said(&self) -> String {
        match self {
            Part::Entry { key, name: Some(name), .. } => format!(", {key} {name}"),
            Part::Entry { sends_to: [a, b], .. } => format!(", what sends to {a} and {b}"),
            Part::Whole => String::new(),
        }
    }

    fn way_out(&self) -> String {
        let entry = match self {
            Part::Entry { key, .. } => format!("name an entry of its own in each ({key}: ...)"),
            Part::Whole => "give each something of its own to move".to_owned(),
        };
        format!("take one of them away, {entry}, or write mode: observe in one")
    }
}

fn could_be_the_same([a, b]: &[IstioDestination; 2], [c, d]: &[IstioDestination; 2]) -> bool {
    let same = |one: &IstioDestination, other: &IstioDestination| {
        let field = |x: &Option<String>, y: &Option<String>| match (x, y) {
            (Some(x), Some(y)) => short(x) == short(y),
            _ => true,
        };
        field(&one.subset, &other.subset) && field(&one.host, &other.host)
    };
    (same(a, c) && same(b, d)) || (same(a, d) && same(b, c))
}

/// `reviews` and `reviews.prod.svc.cluster.local` may be the same.
fn short(host: &str) -> &str {
    host.split('.').next().unwrap_or(host)
}

/// What both would move, if there is such a thing.
pub fn overlap(one: &Rule, other: &Rule) -> Option<String> {
    let others = claims(other);
    let shared = |claim: &Claim| others.iter().any(|other| other.object == claim.object && other.part.overlaps(&claim.part));
    claims(one).into_iter().find(shared).map(|claim| format!("{}{}", claim.object, claim.part.said()))
}

fn claims(rule: &Rule) -> Vec<Claim> {
    if rule.mode == Mode::Observe {
        return Vec::new();
    }
    let mut all = of_traffic(&rule.traffic);
    if rule.traffic != Traffic::None || acts_on_workloads(rule) {
        all.extend(of_workloads(rule));
    }
    all
}

fn of_traffic(traffic: &Traffic) -> Vec<Claim> {
    let whole = |word: &str, object: String| vec![Claim { object, part: Part::Whole, path: format!("traffic.{word}") }];
    match traffic {
        Traffic::Kubernetes(route) => of_route(route),
        Traffic::Envoy(envoy) => match &envoy.by {
            EnvoyWrite::RouteFile { path, .. } => whole("envoy", format!("route file {}", path.display())),
            EnvoyWrite::RuntimeKeys { prefix } => whole("envoy", format!("runtime keys {prefix}.* of {}", envoy.admin)),
        },
        Traffic::Haproxy(haproxy) => whole("haproxy", format!("backend {} of {}", haproxy.backend, haproxy.socket)),
        // an endpoint is told of which rule a weight is, and may serve many
        Traffic::Webhook(_) | Traffic::None | Traffic::Proxy | Traffic::Other(_) => Vec::new(),
    }
}

fn of_route(KubernetesRoute { namespace, name, kind }: &KubernetesRoute) -> Vec<Claim> {
    let entry =
        |key, name: &Option<String>, sends_to: &[IstioDestination; 2]| Part::Entry { key, name: name.clone(), sends_to: sends_to.clone() };
    let hosts = |names: &[String; 2]| names.each_ref().map(|name| IstioDestination { host: Some(name.clone()), subset: None });
    let (word, part) = match kind {
        RouteKind::VirtualService { route, destinations } => ("VirtualService", entry("route", route, destinations)),
        RouteKind::GatewayRoute { grpc: true, rule, backends } => ("GRPCRoute", entry("rule", rule, &hosts(backends))),
        RouteKind::GatewayRoute { rule, backends, .. } => ("HTTPRoute", entry("rule", rule, &hosts(backends))),
        RouteKind::AlbIngress { action, services } => ("Ingress", entry("action", action, &hosts(services))),
        RouteKind::NginxIngress { .. } => ("Ingress", Part::Whole),
        RouteKind::Service { .. } | RouteKind::Replicas { .. } => ("Service", Part::Whole),
        RouteKind::TraefikService { .. } => ("TraefikService", Part::Whole),
        RouteKind::RollingUpdate => ("Deployment", Part::Whole),
    };
    let claim = |word: &str, name: &str, part: Part| Claim {
        object: format!("{word} {namespace}/{name}"),
        part,
        path: format!("traffic.{}", kind.word()),
    };
    let mut all = vec![claim(word, name, part)];
    if let RouteKind::Replicas { deployments, .. } = kind {
        all.extend(deployments.iter().map(|name| claim("Deployment", name, Part::Whole)));
    }
    all
}

/// Does it write to what carries the versions, whoever moves the traffic?
fn acts_on_workloads(rule: &Rule) -> bool {
    let promotes = matches!(rule.promotion, Promotion::Copy | Promotion::Swap { idle: Some(_), .. });
    rule.replicas == Replicas::Follow || rule.after_rollback != AfterRollback::Leave || promotes
}

/// A Deployment is on trial by one rule: what the one undoes, or gives traffic, the other judges.
fn of_workloads(rule: &Rule) -> Vec<Claim> {
    let sides = if rule.workloads.form == WorkloadForm::One { 1 } else { 2 };
    let claim = |side: &Target| {
        let (namespace, name) = (side.fields.get("namespace")?, side.fields.get("deployment")?);
        Some(Claim { object: format!("Deployment {namespace}/{name}"), part: Part::Whole, path: "workloads".to_owned() })
    };
    rule.workloads.sides.iter().take(sides).filter_map(claim).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Known, parse_rule};
    use std::path::PathBuf;

    fn rule(name: &str, workloads: &str, traffic: &str, more: &str) -> (Arc<Rule>, Written) {
        let text = format!(
            "rule: {name}\nworkloads: {{ namespace: shop, {workloads} }}\ntelemetry: [ istio ]\n\
             traffic: {traffic}\nsteps: [ {{ weight: 100%, bake: 1m }} ]\nmetrics: {{ error-rate: {{}} }}\n{more}\n"
        );
        let known = Known { packs: ["istio".to_owned()].into(), cluster: true, ..Known::default() };
        let rule = parse_rule(&text, &PathBuf::from(format!("{name}.yaml")), &known).unwrap_or_else(|report| panic!("{text}\n{report}"));
        (Arc::new(rule), Written::File(text.into()))
    }

    const SUBSETS: &str = "pair: [ { subset: v1 }, { subset: v2 } ]";
    const OTHERS: &str = "pair: [ { subset: v3 }, { subset: v4 } ]";
    const SERVICES: &str = "pair: [ { service: a }, { service: b } ]";
    const DEPLOYED: &str = "pair: [ { deployment: a, subset: v1, service: a }, { deployment: b, subset: v2, service: b } ]";

    fn overlapping(one: (&str, &str), other: (&str, &str)) -> Option<String> {
        let (one, other) = (rule("a", one.0, one.1, "promotion: leave"), rule("b", other.0, other.1, "promotion: leave"));
        let found = overlap(&one.0, &other.0);
        assert_eq!(found.is_some(), overlap(&other.0, &one.0).is_some(), "either way");
        let mut claims = Claims::default();
        claims.take(&one.0, &one.1).unwrap();
        assert_eq!(claims.take(&other.0, &other.1).is_err(), found.is_some());
        found
    }

    #[test]
    fn what_is_moved_by_two_is_named() {
        let same = |workloads, traffic: &str, said: &str| {
            assert_eq!(overlapping((workloads, traffic), (workloads, traffic)).as_deref(), Some(said), "{traffic}");
        };
        same(SUBSETS, "{ istio: { virtual-service: s, route: p } }", "VirtualService shop/s, route p");
        same(SUBSETS, "{ istio: { virtual-service: s } }", "VirtualService shop/s, what sends to subset v1 and subset v2");
        same(SERVICES, "{ gateway-api: { route: s, rule: p } }", "HTTPRoute shop/s, rule p");
        same(SERVICES, "{ gateway-api: { route: s, kind: GRPCRoute } }", "GRPCRoute shop/s, what sends to a and b");
        same(SERVICES, "{ nginx-ingress: { ingress: s } }", "Ingress shop/s");
        same(SERVICES, "{ aws-alb: { ingress: s, action: x } }", "Ingress shop/s, action x");
        same(SERVICES, "{ traefik: { traefik-service: s } }", "TraefikService shop/s");
        same(SERVICES, "{ service: { name: s, selector: { version: [ blue, green ] } } }", "Service shop/s");
        same(DEPLOYED, "{ replicas: { service: s } }", "Service shop/s");
    }

    #[test]
    fn entries_are_told_apart_by_their_names_or_by_what_they_send_to() {
        let istio = |route: &str| format!("{{ istio: {{ virtual-service: s{route} }} }}");
        let (p, q, none) = (istio(", route: p"), istio(", route: q"), istio(""));
        assert_eq!(overlapping((SUBSETS, &p), (SUBSETS, &q)), None, "two entries of one object");
        assert_eq!(overlapping((OTHERS, &p), (SUBSETS, &none)), None, "they send elsewhere");
        assert!(overlapping((SUBSETS, &p), (SUBSETS, &none)).is_some(), "it may be the only one");
        assert!(overlapping((OTHERS, &none), (SUBSETS, &none)).is_some(), "their numbers would be kept in one place");
        assert!(overlapping((OTHERS, &p), (SUBSETS, &p)).is_some(), "an entry has one split");
        let hosts = |a: &str, b: &str| format!("{{ istio: {{ virtual-service: s, route: p, hosts: [ {a}, {b} ] }} }}");
        let unnamed = "{ istio: { virtual-service: s, hosts: [ b.shop.svc.cluster.local, a ] } }";
        assert!(overlapping((SERVICES, &hosts("a", "b")), (SERVICES, unnamed)).is_some(), "short and full, in either order");
        assert_eq!(overlapping((SERVICES, &hosts("a", "c")), (SERVICES, unnamed)), None);
        assert_eq!(overlapping((SUBSETS, &p), (SUBSETS, "{ istio: { virtual-service: t, route: p } }")), None, "another object");
    }

    #[test]
    fn a_deployment_is_on_trial_by_one_rule() {
        let istio = |route: &str| format!("{{ istio: {{ virtual-service: s, route: {route} }} }}");
        assert_eq!(overlapping((DEPLOYED, &istio("p")), (DEPLOYED, &istio("q"))).as_deref(), Some("Deployment shop/a"));
        let swapped = "pair: [ { deployment: c, subset: v3 }, { deployment: a, subset: v4 } ]";
        assert_eq!(overlapping((swapped, &istio("p")), (DEPLOYED, &istio("q"))).as_deref(), Some("Deployment shop/a"));
        assert_eq!(overlapping((DEPLOYED, "none"), (DEPLOYED, &istio("q"))), None, "one only tells");
        let one = "one: { deployment: a }";
        assert_eq!(overlapping((one, "rolling-update"), (one, "rolling-update")).as_deref(), Some("Deployment shop/a"));
        assert_eq!(overlapping((one, "rolling-update"), (DEPLOYED, "{ replicas: { service: s } }")).as_deref(), Some("Deployment shop/a"));
    }

    #[test]
    fn who_observes_stands_in_nobodys_way_and_the_refusal_says_where_both_stand() {
        let traffic = "{ istio: { virtual-service: s, route: p } }";
        let (first, second) = (rule("a", SUBSETS, traffic, ""), rule("b", SUBSETS, traffic, ""));
        let (observer, _) = rule("c", SUBSETS, traffic, "mode: observe");
        assert_eq!(overlap(&first.0, &observer), None);
        let mut claims = Claims::default();
        claims.take(&first.0, &first.1).unwrap();
        let said = claims.take(&second.0, &second.1).unwrap_err().to_string();
        assert_eq!(
            said,
            "b.yaml:4: traffic.istio: rule \"b\" would move VirtualService shop/s, route p, which rule \"a\" (a.yaml:4) moves: they would \
             fight each other: take one of them away, name an entry of its own in each (route: ...), or write mode: observe in one"
        );
    }
}
