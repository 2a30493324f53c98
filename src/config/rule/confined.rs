//! What a rule that is an object of a cluster may name. A rule file is written by the operator; an object by whoever may write one in
//! some namespace, and it is carried out with the daemon's rights. So it may name only what its writer may be trusted with:
//!
//! - objects of its own namespace, and no other's;
//! - no file of the daemon's pod: what is read of a token goes to an address of the writer's choice, what is written is a file;
//! - no control port: HAProxy's and Envoy's are guarded by who reaches them alone, and are no object of any namespace;
//! - addresses that are asked or told with nothing of the daemon's beside (pages, hooks, a webhook without a token), unless they lead
//!   into its own pod or to its node.
//!
//! Queries are asked with the daemon's credentials, and of its own source: their answers are numbers about releases, and are shown.
//! Every part of a rule is taken apart here by name, so that a new one does not compile before somebody has decided.

use super::{Fields, Out, Reach};
use crate::config::Report;
use crate::config::walk::At;
use crate::model::rule::{
    EnvoyRoute, EnvoyWrite, HaproxyServers, Hook, KubernetesRoute, Target, Telemetry, Traffic, WebhookRouter, WorkloadForm, Workloads,
};
use std::net::IpAddr;
use url::{Host, Url};

/// The parts of a rule that name something, as far as they could be read.
pub(super) struct Named<'a> {
    pub workloads: Option<&'a Workloads>,
    pub telemetry: Option<&'a [Telemetry]>,
    pub traffic: Option<&'a Traffic>,
    pub hooks: &'a [Hook],
}

/// Tells all that an object may not name. A file may name anything.
pub(super) fn check(fields: &Fields<'_>, named: &Named<'_>, out: &mut Out<'_>) {
    let Some(namespace) = out.namespace.filter(|_| out.known.objects == Reach::Confined) else { return };
    let mut fence = Fence { namespace, report: &mut out.report };
    if let Some((at, workloads)) = fields.get("workloads").zip(named.workloads) {
        fence.workloads(&at, workloads);
    }
    if let Some((at, telemetry)) = fields.get("telemetry").zip(named.telemetry) {
        fence.telemetry(&at, telemetry);
    }
    if let Some((at, traffic)) = fields.get("traffic").zip(named.traffic) {
        fence.traffic(&at, traffic);
    }
    if let Some(at) = fields.get("hooks") {
        fence.hooks(&at, named.hooks);
    }
}

/// Around one object.
struct Fence<'a> {
    namespace: &'a str,
    report: &'a mut Report,
}

impl Fence<'_> {
    fn workloads(&mut self, at: &At<'_>, workloads: &Workloads) {
        let mut told: Vec<String> = Vec::new();
        for (place, Target { fields }) in places(at, workloads.form).iter().zip(&workloads.sides) {
            let Some(namespace) = fields.get("namespace").filter(|namespace| *namespace != self.namespace) else { continue };
            let own = place.down(&["namespace"]);
            let at = if own.path == place.path { at.down(&["namespace"]) } else { own };
            if !told.contains(&at.path) {
                self.foreign(&at, namespace);
                told.push(at.path);
            }
        }
    }

    fn telemetry(&mut self, at: &At<'_>, telemetry: &[Telemetry]) {
        let packs = at.items(self.report);
        // the source asks with its own credentials, whatever the rule says: they are sent to no address of the rule
        for (at, Telemetry { scrape, pack: _, variant: _, params: _, arm: _, extra: _ }) in packs.iter().zip(telemetry) {
            for (index, url) in scrape.iter().enumerate() {
                let mut at = at.down(&["scrape"]);
                at.path = format!("{}[{index}]", at.path);
                self.address(&at, url);
            }
        }
    }

    fn traffic(&mut self, at: &At<'_>, traffic: &Traffic) {
        match traffic {
            Traffic::Kubernetes(KubernetesRoute { namespace, name: _, kind }) => {
                // without one of its own it is that of the workloads, where it is told
                let place = at.down(&[kind.word(), "namespace"]);
                if namespace != self.namespace && place.path.ends_with(".namespace") {
                    self.foreign(&place, namespace);
                }
            }
            Traffic::Envoy(EnvoyRoute { admin, by, clusters: _ }) => {
                self.control_port(&at.down(&["envoy", "admin"]), admin);
                match by {
                    EnvoyWrite::RouteFile { path, stat_prefix: _, route: _ } => {
                        self.file(&at.down(&["envoy", "route-file", "path"]), &path.display().to_string(), "write into");
                    }
                    EnvoyWrite::RuntimeKeys { prefix: _ } => {}
                }
            }
            Traffic::Haproxy(HaproxyServers { socket, backend: _, servers: _ }) => {
                self.control_port(&at.down(&["haproxy", "socket"]), socket);
            }
            Traffic::Webhook(WebhookRouter { url, read_url, token_file, rule: _, workloads: _, timeout: _ }) => {
                let at = at.down(&["webhook"]);
                self.address(&at.down(&["url"]), url);
                read_url.iter().for_each(|url| self.address(&at.down(&["read-url"]), url));
                token_file.iter().for_each(|file| self.file(&at.down(&["token-file"]), &file.display().to_string(), "send"));
            }
            // nothing is moved; the demo's own; not carried out, which refuses an object by itself
            Traffic::None | Traffic::Proxy | Traffic::Other(_) => {}
        }
    }

    fn hooks(&mut self, at: &At<'_>, hooks: &[Hook]) {
        for Hook { at: point, url, timeout: _, on_fail: _ } in hooks {
            self.address(&at.down(&[point.name(), "url"]), url);
        }
    }

    fn foreign(&mut self, at: &At<'_>, namespace: &str) {
        let what = format!("{namespace:?} is not {:?}, the namespace of this object, which may name nothing of another", self.namespace);
        self.wrong(at, what, &format!("make it an object of namespace {namespace}"));
    }

    fn file(&mut self, at: &At<'_>, path: &str, verb: &str) {
        let what = format!("canaryd would {verb} {path:?}, a file of its own pod, and an object may name none");
        self.wrong(at, what, "leave it out");
    }

    fn control_port(&mut self, at: &At<'_>, port: &str) {
        let what = format!("{port:?} controls a proxy, is guarded only by who reaches it, and is of no namespace: an object may name none");
        self.wrong(at, what, "move the traffic by an object of this namespace, or by a webhook");
    }

    fn address(&mut self, at: &At<'_>, url: &str) {
        if let Some(host) = own_host(url) {
            let what = format!("{host} is canaryd's own pod or node, which an object may not name");
            self.wrong(at, what, "write the address of a Service");
        }
    }

    fn wrong(&mut self, at: &At<'_>, what: String, way_out: &str) {
        let operator = "ask the operator of canaryd for a rule file, or for cluster: { resources: anywhere } in its settings";
        at.wrong(self.report, what, format_args!("{way_out}; else {operator}"));
    }
}

/// Where both workloads stand.
fn places<'a>(at: &At<'a>, form: WorkloadForm) -> [At<'a>; 2] {
    match form {
        WorkloadForm::Pair => {
            let pair = at.down(&["pair"]);
            [0, 1].map(|index| pair.item(index).unwrap_or_else(|| pair.clone()))
        }
        WorkloadForm::StableCanary => ["stable", "canary"].map(|key| at.down(&[key])),
        WorkloadForm::One => [at.down(&["one"]), at.down(&["one"])],
    }
}

/// The host of an address that leads into the daemon's own pod, or to what its node keeps for those on it. A name that only the
/// resolver leads there is not seen.
fn own_host(url: &str) -> Option<String> {
    // such as 127.1 and 0x7f000001 are read as who connects reads them
    let url = Url::parse(url).ok()?;
    let own = match url.host()? {
        Host::Ipv4(ip) => is_own(ip.into()),
        Host::Ipv6(ip) => is_own(ip.into()),
        Host::Domain(name) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
    };
    own.then(|| url.host_str().unwrap_or_default().to_owned())
}

fn is_own(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    ip.is_loopback() || ip.is_unspecified() || link_local
}

#[cfg(test)]
mod tests {
    use super::super::{Known, Origin, keys, parse_object, parse_rule};
    use super::*;
    use std::path::Path;

    const TRAFFIC: &str = "traffic: { istio: { virtual-service: shop } }";
    const PAIR: &str =
        "pair: [ { deployment: v1, subset: v1, cluster: v1, server: v1 }, { deployment: v2, subset: v2, cluster: v2, server: v2 } ]";

    /// A rule of namespace shop with one of its lines written otherwise, and further ones.
    fn text(instead: &str) -> String {
        let lines = [
            "rule: shop".to_owned(),
            format!("workloads: {{ namespace: shop, {PAIR} }}"),
            "telemetry: [ istio ]".to_owned(),
            TRAFFIC.to_owned(),
            "steps: [ { weight: 100%, bake: 1m } ]".to_owned(),
            "metrics: { error-rate: {} }".to_owned(),
        ];
        let key = |line: &str| line.split(':').next().map(str::to_owned);
        let kept = lines.iter().filter(|line| instead.lines().all(|other| key(line) != key(other)));
        kept.map(|line| format!("{line}\n")).chain([format!("{instead}\n")]).collect()
    }

    fn known(objects: Reach) -> Known {
        Known { packs: ["istio".to_owned()].into(), cluster: true, objects, ..Known::default() }
    }

    /// What is told of an object of namespace shop.
    fn told(instead: &str, objects: Reach) -> Vec<String> {
        let (text, file) = (text(instead), Path::new("canaryrule shop/shop"));
        let read = parse_object(&Origin { text: &text, file, namespace: Some("shop") }, &known(objects));
        read.err()
            .map_or_else(Vec::new, |report| report.problems.iter().map(|p| format!("{}: {}: {}", p.path, p.what, p.way_out)).collect())
    }

    /// What is written, and for each problem where it is told, and of which value.
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)]);

    const REFUSED: &[Case<'_>] = &[
        ("workloads: { namespace: cart, pair: [ { subset: v1 }, { subset: v2 } ] }", &[("workloads.namespace", "\"cart\"")]),
        (
            "workloads: { pair: [ { subset: v1, namespace: shop }, { subset: v2, namespace: cart } ] }\ntraffic: none",
            &[("workloads.pair[1].namespace", "\"cart\"")],
        ),
        (
            "workloads: { namespace: shop, stable: { deployment: a, namespace: x }, canary: { deployment: b, namespace: y } }\npromotion: leave\ntraffic: none",
            &[("workloads.stable.namespace", "\"x\""), ("workloads.canary.namespace", "\"y\"")],
        ),
        (
            "workloads: { namespace: shop, one: { deployment: a, namespace: cart } }\ntraffic: rolling-update",
            &[("workloads.one.namespace", "\"cart\"")],
        ),
        ("traffic: { istio: { virtual-service: a, namespace: cart } }", &[("traffic.istio.namespace", "\"cart\"")]),
        ("traffic: { gateway-api: { route: a, backends: [ a, b ], namespace: cart } }", &[("traffic.gateway-api.namespace", "\"cart\"")]),
        ("traffic: { nginx-ingress: { ingress: a, namespace: cart } }", &[("traffic.nginx-ingress.namespace", "\"cart\"")]),
        ("traffic: { aws-alb: { ingress: a, services: [ a, b ], namespace: cart } }", &[("traffic.aws-alb.namespace", "\"cart\"")]),
        ("traffic: { traefik: { traefik-service: a, services: [ a, b ], namespace: cart } }", &[("traffic.traefik.namespace", "\"cart\"")]),
        ("traffic: { service: { name: a, selector: subset, namespace: cart } }", &[("traffic.service.namespace", "\"cart\"")]),
        ("traffic: { replicas: { service: a, namespace: cart } }", &[("traffic.replicas.namespace", "\"cart\"")]),
        (
            "traffic: { webhook: { url: \"http://edge.shop/\", token-file: /run/token } }",
            &[("traffic.webhook.token-file", "\"/run/token\"")],
        ),
        (
            "traffic: { webhook: { url: \"http://localhost:7878/\", read-url: \"http://127.0.0.1/\" } }",
            &[("traffic.webhook.url", "localhost"), ("traffic.webhook.read-url", "127.0.0.1")],
        ),
        ("traffic: { haproxy: { socket: /run/haproxy.sock, backend: shop } }", &[("traffic.haproxy.socket", "\"/run/haproxy.sock\"")]),
        ("traffic: { haproxy: { socket: \"edge.cart:9999\", backend: shop } }", &[("traffic.haproxy.socket", "\"edge.cart:9999\"")]),
        (
            "traffic: { envoy: { admin: \"http://edge.cart:9901\", runtime-keys: { prefix: shop } } }",
            &[("traffic.envoy.admin", "\"http://edge.cart:9901\"")],
        ),
        (
            "traffic: { envoy: { admin: \"http://127.0.0.1:9901\", route-file: { path: /etc/canaryd/rules/a.yaml, stat-prefix: a, route: b } } }",
            &[("traffic.envoy.admin", "\"http://127.0.0.1:9901\""), ("traffic.envoy.route-file.path", "\"/etc/canaryd/rules/a.yaml\"")],
        ),
        ("hooks: { before-start: \"http://127.0.0.1:9901/quitquitquit\" }", &[("hooks.before-start", "127.0.0.1")]),
        ("hooks: { after-rollback: { url: \"http://169.254.169.254/latest\" } }", &[("hooks.after-rollback.url", "169.254.169.254")]),
        (
            "telemetry: [ istio, { pack: istio, scrape: [ \"http://a/metrics\", \"http://[::1]:15090/metrics\" ] } ]",
            &[("telemetry[1].scrape[1]", "[::1]")],
        ),
    ];

    #[test]
    fn what_is_not_of_its_namespace_is_refused_with_its_path_its_value_and_the_way_out() {
        for (instead, problems) in REFUSED {
            let told = told(instead, Reach::Confined);
            assert_eq!(told.len(), problems.len(), "{instead}\n{told:#?}");
            for (path, value) in *problems {
                let found = told.iter().find(|line| line.starts_with(&format!("{path}: ")));
                let right = |line: &&String| {
                    line.contains(value) && line.contains("else ask the operator of canaryd for a rule file, or for cluster:")
                };
                assert!(found.filter(right).is_some(), "{path} {value}\n{told:#?}");
            }
        }
    }

    #[test]
    fn an_operator_may_name_it_in_a_file_and_may_allow_it_to_every_object() {
        for (instead, _) in REFUSED {
            assert_eq!(told(instead, Reach::Anywhere), Vec::<String>::new(), "{instead}");
            let read = parse_rule(&text(instead), Path::new("shop.yaml"), &known(Reach::Confined));
            assert!(read.is_ok(), "{instead}: {read:?}");
        }
    }

    #[test]
    fn what_is_its_own_and_what_is_asked_without_a_secret_is_taken() {
        for instead in [
            TRAFFIC,
            "traffic: { istio: { virtual-service: shop, namespace: shop } }",
            "traffic: { webhook: { url: \"http://edge.shop/\", read-url: \"https://edge.example/weight\" } }",
            "hooks: { before-start: \"http://smoke.ci.svc/test\", after-promotion: { url: \"http://10.0.0.7/\" } }",
            "telemetry: [ { pack: istio, scrape: [ \"http://mylocalhost:9090/metrics\" ] } ]",
        ] {
            assert_eq!(told(instead, Reach::Confined), Vec::<String>::new(), "{instead}");
        }
    }

    #[test]
    fn it_is_told_beside_other_slips() {
        let told = told("traffic: { istio: { virtual-service: a, namespace: cart } }\nfalse-rolbacks: 5%", Reach::Confined);
        assert!(told.len() == 2 && told.iter().any(|line| line.contains("false-rollbacks")), "{told:?}");
    }

    /// They become parts of the API server's addresses.
    #[test]
    fn a_name_that_leads_elsewhere_is_none() {
        let elsewhere = "../../cart/deployments/web";
        let one =
            format!("workloads: {{ namespace: shop, pair: [ {{ deployment: {elsewhere}, subset: a }}, {{ deployment: b, subset: b }} ] }}");
        let two = format!("traffic: {{ replicas: {{ service: a, deployments: [ a, {elsewhere} ] }} }}");
        for (instead, path) in [(one, "workloads: "), (two, "traffic.replicas.deployments: ")] {
            for objects in [Reach::Confined, Reach::Anywhere] {
                let told = told(&instead, objects);
                assert!(
                    matches!(told.as_slice(), [one] if one.starts_with(path) && one.contains("is no name of a deployment")),
                    "{told:?}"
                );
            }
        }
    }

    #[test]
    fn the_own_pod_is_known_however_it_is_written() {
        for own in [
            "http://127.1:7878/",
            "http://0x7f000001/",
            "http://2130706433/",
            "http://0.0.0.0:9901/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::]:1/",
            "http://LOCALHOST./",
            "http://admin.localhost/",
            "http://169.254.170.2/",
            "http://[fe80::1]/",
        ] {
            assert!(own_host(own).is_some(), "{own}");
        }
        for other in ["http://10.0.0.1/", "http://localhost.example/", "http://[fd00::1]/", "http://edge/"] {
            assert_eq!(own_host(other), None, "{other}");
        }
    }

    /// A new key is decided here first; below these four sections the compiler asks.
    #[test]
    fn every_section_is_fenced_or_names_nothing() {
        let fenced = ["workloads", "telemetry", "traffic", "hooks"];
        // a word, a number or a time each; names of the operator's settings (source, notify), labels of alerts; a file of dates
        // (windows) is refused where it is read, for an object has none beside it; queries (metrics) go to the operator's source
        let plain = [
            "rule",
            "source",
            "interval",
            "steps",
            "advance",
            "strict",
            "min-requests",
            "promotion",
            "metrics",
            "sensitivity",
            "false-rollbacks",
            "bake-latency",
            "bake-judge",
            "policies",
            "start",
            "windows",
            "alerts",
            "notify",
            "replicas",
            "after-rollback",
            "drain",
            "mode",
        ];
        let undecided: Vec<&&str> = keys::RULE.iter().filter(|key| !fenced.contains(key) && !plain.contains(key)).collect();
        assert!(undecided.is_empty() && keys::RULE.len() == fenced.len() + plain.len(), "{undecided:?}");
        let dates = told("windows: { timezone: UTC, deny: [ { dates: /etc/passwd } ] }", Reach::Anywhere);
        assert!(matches!(dates.as_slice(), [one] if one.contains("no files beside it")), "{dates:?}");
    }
}
