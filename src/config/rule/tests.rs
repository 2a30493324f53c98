//! Sections besides metrics: what is written, what is left out, and what cannot be carried out.

mod cluster;

use super::*;
use crate::model::rule::{
    EnvoyWrite, HoldThen, IstioDestination, KubernetesRoute, OnForeign, OnShared, Policies, Promotion, RouteKind, Then, Traffic,
    WorkloadForm,
};
use crate::model::{Advance, Side, Weight};

const SHOP: &str = "rule: shop\nworkloads: { pair: [ { cluster: a }, { cluster: b } ] }\ntelemetry: [ envoy ]\ntraffic: none\n\
                    steps: [ { weight: 100%, bake: 1m } ]\nmetrics: { error-rate: {} }\n";

fn known() -> Known {
    let set = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    Known { packs: set(&["envoy", "http"]), sources: set(&["main"]), receivers: set(&["pager"]), cluster: true, ..Known::default() }
}

fn parsed(text: &str) -> Result<Rule, Report> {
    parse_rule(text, Path::new("shop.yaml"), &known())
}

fn rule(text: &str) -> Rule {
    parsed(text).unwrap_or_else(|report| panic!("{report}\n{text}"))
}

/// The shop with further lines.
fn with(more: &str) -> Rule {
    rule(&format!("{SHOP}{more}\n"))
}

/// The shop with one line written otherwise.
fn instead(line: &str) -> Rule {
    let key = line.split(':').next().expect("a key");
    let kept: Vec<&str> = SHOP.lines().filter(|l| !l.starts_with(&format!("{key}:"))).collect();
    rule(&format!("{}\n{line}\n", kept.join("\n")))
}

fn not_run(rule: &Rule) -> Vec<&str> {
    rule.not_run.iter().map(|part| part.path.as_str()).collect()
}

fn minutes(m: u64) -> Duration {
    Duration::from_secs(60 * m)
}

#[test]
fn what_is_left_out_has_the_documented_default() {
    let shop = rule(SHOP);
    assert_eq!(shop.not_run, []);
    assert_eq!((shop.source, shop.interval), (None, None));
    assert_eq!(shop.advance, Advance::OnSchedule { strict: false });
    assert_eq!(shop.min_requests, 20);
    assert_eq!(shop.promotion, Promotion::Swap { keep: minutes(24 * 60), idle: None });
    assert_eq!(shop.budget, Budget { rollback: 0.05, ok: 0.05, limit: 0.01, page: 0.01, warn: 0.05 });
    assert_eq!(shop.policies, Policies::default());
    assert_eq!((shop.bake_judge, shop.mode), (BakeJudge::RollBack, Mode::Enforce));
    assert_eq!(shop.drain, minutes(1));
    assert_eq!(shop.notify, Vec::<String>::new());
}

#[test]
fn what_is_written_is_taken() {
    let more = "source: main\ninterval: 15s\nadvance: on-schedule\nstrict: true\nmin-requests: 100\nfalse-rollbacks: 1%\n\
                bake-judge: page\nmode: observe\ndrain: 0s\nstart: { when: manual, first: refuse }";
    let shop = with(more);
    assert_eq!(shop.not_run, []);
    assert_eq!((shop.source.as_deref(), shop.interval), (Some("main"), Some(Duration::from_secs(15))));
    assert_eq!((shop.advance, shop.min_requests), (Advance::OnSchedule { strict: true }, 100));
    assert_eq!(shop.budget, Budget { rollback: 0.01, ..Budget::default() }, "limits keep their own level");
    assert_eq!((shop.bake_judge, shop.mode), (BakeJudge::Page, Mode::Observe));
    assert_eq!((shop.drain, shop.first), (Duration::ZERO, crate::model::rule::First::Refuse));
}

#[test]
fn steps_keep_their_shares_and_times() {
    let shop =
        instead("steps: [ { weight: 0%, for: 1m }, { weight: 0.5%, for: 90s }, { weight: 0.5%, for: 1h }, { weight: 100%, bake: 2h } ]");
    let steps: Vec<(u16, u64)> = shop.steps.iter().map(|s| (s.weight.permille(), s.lasts.as_secs())).collect();
    assert_eq!(steps, [(0, 60), (5, 90), (5, 3600), (1000, 7200)]);
    assert!(shop.steps[3].weight == Weight::FULL);
}

#[test]
fn a_rule_that_only_judges_needs_no_step_at_100_percent() {
    let judge = SHOP.replace("100%, bake", "50%, for") + "promotion: leave\n";
    assert_eq!(rule(&judge).promotion, Promotion::Leave);
}

#[test]
fn each_policy_is_its_own() {
    let policies = |text: &str| with(&format!("policies: {{ {text} }}")).policies;
    let ask = |m| HoldThen { hold: minutes(m), then: Then::Ask };
    let rolls = HoldThen { hold: minutes(10), then: Then::RollBack };
    let both = policies("blind: { then: roll-back }");
    assert_eq!((both.blind, both.blind_canary), (rolls, rolls), "blind covers the canary's own blindness");
    let canary = policies("blind-canary: { then: roll-back }");
    assert_eq!((canary.blind, canary.blind_canary), (ask(10), rolls));
    let split = policies("blind: { hold: 5m }, blind-canary: { hold: 7m, then: hold }");
    assert_eq!((split.blind, split.blind_canary), (ask(5), HoldThen { hold: minutes(7), then: Then::Hold }));
    assert_eq!(policies("undecided: { hold: 1h }").undecided, ask(60));
    let words = policies("shared: page, vanished: hold, foreign: yield");
    assert_eq!((words.shared, words.vanished, words.foreign), (OnShared::Page, Then::Hold, OnForeign::Yield));
}

#[test]
fn a_pack_may_be_told_how_to_tell_the_arms_apart() {
    let shop = instead(
        "telemetry: [ { pack: http, variant: v, params: { status: code, port: 8080 }, arm: { version: '{version}' }, \
         extra: 'job=\"x\"', scrape: [ 'http://a:1/metrics', 'http://b:1/metrics' ] }, envoy ]",
    );
    let http = &shop.telemetry[0];
    assert_eq!((http.pack.as_str(), http.variant.as_deref()), ("http", Some("v")));
    assert_eq!(http.params["port"], "8080");
    assert_eq!(http.extra.as_deref(), Some("job=\"x\""));
    assert_eq!(http.scrape.len(), 2);
    assert_eq!(shop.telemetry[1].pack, "envoy");
}

#[test]
fn a_namespace_holds_for_the_workloads_that_name_none() {
    let shop =
        instead("workloads: { namespace: prod, stable: { deployment: a }, canary: { deployment: a, namespace: trial } }\npromotion: leave");
    assert_eq!(shop.workloads.form, WorkloadForm::StableCanary);
    let namespaces: Vec<&str> = shop.workloads.sides.iter().map(|t| t.fields["namespace"].as_str()).collect();
    assert_eq!(namespaces, ["prod", "trial"]);
}

#[test]
fn envoy_is_told_by_file_or_by_keys() {
    let by = |text: &str| match instead(&format!("traffic: {{ envoy: {{ admin: 'http://e:9901/', {text} }} }}")).traffic {
        Traffic::Envoy(envoy) => (envoy.admin, envoy.by, envoy.clusters),
        other => panic!("{other:?}"),
    };
    let (admin, keys, clusters) = by("runtime-keys: { prefix: p }, clusters: [ x, y ]");
    assert_eq!((admin.as_str(), clusters), ("http://e:9901", ["x".to_owned(), "y".to_owned()]));
    assert_eq!(keys, EnvoyWrite::RuntimeKeys { prefix: "p".to_owned() });
    let (_, file, clusters) = by("route-file: { path: /r.yaml, stat-prefix: s, route: r }");
    assert_eq!(clusters, ["a".to_owned(), "b".to_owned()], "the workloads' own clusters");
    assert_eq!(file, EnvoyWrite::RouteFile { path: "/r.yaml".into(), stat_prefix: "s".to_owned(), route: "r".to_owned() });
}

#[test]
fn haproxy_is_told_by_its_socket() {
    let told = |workloads: &str, object: &str| {
        let text = SHOP.replace("{ cluster: a }, { cluster: b }", workloads);
        match rule(&text.replace("traffic: none", &format!("traffic: {{ haproxy: {{ {object} }} }}"))).traffic {
            Traffic::Haproxy(servers) => (servers.socket, servers.backend, servers.servers),
            other => panic!("{other:?}"),
        }
    };
    let pair = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
    let (socket, backend, servers) = told("{ server: v1 }, { server: v2 }", "socket: /run/haproxy/admin.sock, backend: shop");
    assert_eq!((socket.as_str(), backend.as_str(), servers), ("/run/haproxy/admin.sock", "shop", pair("v1", "v2")));
    let (socket, backend, servers) = told("{ backend: be_1, server: a.b }, { backend: be_1, server: c:d }", "socket: '[::1]:9999'");
    assert_eq!((socket.as_str(), backend.as_str(), servers), ("[::1]:9999", "be_1", pair("a.b", "c:d")));
    // each version a backend of its own, behind one that splits
    let object = "socket: 'edge-1.example.com:9999', backend: split, servers: [ to-v1, to-v2 ]";
    let (socket, backend, servers) = told("{ backend: shop-v1 }, { backend: shop-v2 }", object);
    assert_eq!((socket.as_str(), backend.as_str(), servers), ("edge-1.example.com:9999", "split", pair("to-v1", "to-v2")));
}

#[test]
fn workloads_are_called_by_the_field_in_which_they_differ() {
    let workloads = instead("workloads: { pair: [ { backend: shop, server: v1 }, { backend: shop, server: v2 } ] }").workloads;
    assert_eq!((workloads.name(Side::First), workloads.name(Side::Second)), ("v1", "v2"));
}

#[test]
fn a_webhook_has_an_address_and_perhaps_more() {
    let told = |object: &str| match instead(&format!("traffic: {{ webhook: {{ {object} }} }}")).traffic {
        Traffic::Webhook(webhook) => webhook,
        other => panic!("{other:?}"),
    };
    let short = told("url: 'https://cdn.example.com/split'");
    assert_eq!((short.rule.as_str(), short.workloads), ("shop", ["a".to_owned(), "b".to_owned()]));
    assert_eq!((short.url.as_str(), short.read_url, short.token_file), ("https://cdn.example.com/split", None, None));
    assert_eq!(short.timeout, std::time::Duration::from_secs(2));
    let long = told("url: 'http://a:1/x?k=v', read-url: 'http://b:2/', token-file: /t, timeout: 500ms");
    assert_eq!((long.url.as_str(), long.read_url.as_deref()), ("http://a:1/x?k=v", Some("http://b:2/")));
    assert_eq!((long.token_file, long.timeout.as_millis()), (Some("/t".into()), 500));
}

#[test]
fn somebody_else_may_promote_outside_a_cluster_too() {
    let external = |more: &str| instead(&format!("workloads: {{ stable: {{ cluster: a }}, canary: {{ cluster: b }} }}\n{more}"));
    let day = external("promotion: external");
    assert_eq!((day.promotion, not_run(&day).len()), (Promotion::External { within: minutes(24 * 60) }, 0));
    assert_eq!(external("promotion: { external: { promote-within: 2h } }").promotion, Promotion::External { within: minutes(120) });
    assert_eq!(external("promotion: leave").promotion, Promotion::Leave);
}

#[test]
fn alerts_are_selected_by_one_set_of_labels_or_any_of_several() {
    let sets = |text: &str| with(&format!("alerts: {{ match: {text} }}")).alerts.iter().map(|set| set.labels.len()).collect::<Vec<_>>();
    assert_eq!(sets("{ service: shop, severity: critical }"), [2]);
    assert_eq!(sets("[ { service: shop }, { job: shop, team: 7 } ]"), [1, 2]);
}

#[test]
fn the_demo_s_proxy_is_a_router() {
    assert_eq!(instead("traffic: proxy").traffic, Traffic::Proxy);
}

/// The shop moved by an object of the cluster, its workloads written so.
fn moved(workloads: &str, traffic: &str) -> Result<Rule, Report> {
    let text = SHOP.replace("{ cluster: a }, { cluster: b }", workloads).replace("traffic: none", &format!("traffic: {{ {traffic} }}"));
    parsed(&text.replace("workloads: {", "workloads: { namespace: prod,"))
}

fn route_of(workloads: &str, traffic: &str) -> KubernetesRoute {
    match moved(workloads, traffic).unwrap_or_else(|report| panic!("{traffic}: {report}")).traffic {
        Traffic::Kubernetes(route) => route,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_object_of_the_cluster_is_told_by_the_rule_or_by_the_workloads() {
    const SERVICES: &str = "{ service: a, version: blue }, { service: b, version: green }";
    let ab = || ["a".to_owned(), "b".to_owned()];
    let route = route_of("{ subset: v1 }, { subset: v2 }", "istio: { virtual-service: shop, route: primary }");
    assert_eq!((route.namespace.as_str(), route.name.as_str()), ("prod", "shop"));
    let subset = |name: &str| IstioDestination { host: None, subset: Some(name.to_owned()) };
    let destinations = [subset("v1"), subset("v2")];
    assert_eq!(route.kind, RouteKind::VirtualService { route: Some("primary".to_owned()), destinations });
    let host = |name: &str| IstioDestination { host: Some(name.to_owned()), subset: None };
    let route = route_of("{ cluster: a }, { cluster: b }", "istio: { virtual-service: shop, hosts: [ x, y ], namespace: other }");
    assert_eq!(route.kind, RouteKind::VirtualService { route: None, destinations: [host("x"), host("y")] });
    assert_eq!(route.namespace, "other");
    let kind = |traffic: &str| route_of(SERVICES, traffic).kind;
    assert_eq!(kind("gateway-api: { route: r, kind: GRPCRoute }"), RouteKind::GatewayRoute { grpc: true, rule: None, backends: ab() });
    let nginx = RouteKind::NginxIngress { services: Some(ab()), weight_total: Some(1000) };
    assert_eq!(kind("nginx-ingress: { ingress: i, weight-total: 1000 }"), nginx);
    assert_eq!(kind("aws-alb: { ingress: i }"), RouteKind::AlbIngress { action: None, services: ab() });
    assert_eq!(kind("traefik: { traefik-service: t }"), RouteKind::TraefikService { services: ab() });
    let counts = RouteKind::Replicas { deployments: ["x".to_owned(), "y".to_owned()], total: Some(20) };
    assert_eq!(kind("replicas: { service: s, deployments: [ x, y ], total: 20 }"), counts);
    let blue_green = RouteKind::Service { label: "version".to_owned(), values: ["blue".to_owned(), "green".to_owned()] };
    assert_eq!(kind("service: { name: s, selector: version }"), blue_green);
    assert_eq!(kind("service: { name: s, selector: { version: [ blue, green ] } }"), blue_green);
}

#[test]
fn what_an_object_of_the_cluster_lacks_is_told() {
    for (traffic, said) in [
        ("istio: { virtual-service: shop }", "which destinations"),
        ("istio: { virtual-service: shop, subset: [ a, b ] }", "did you mean"),
        ("gateway-api: { route: r }", "names no backends"),
        ("gateway-api: { route: R, backends: [ a, b ] }", "is no name"),
        ("gateway-api: { route: r, backends: [ a, a ] }", "both backends are"),
        ("nginx-ingress: { ingress: i, weight-total: 0 }", "weight-total"),
        ("service: { name: s, selector: version }", "values of label version"),
        ("service: { name: s }", "selector"),
        ("replicas: { service: s }", "names no deployments"),
    ] {
        let told = moved("{ cluster: a }, { cluster: b }", traffic).err().unwrap_or_else(|| panic!("{traffic}")).to_string();
        assert!(told.contains(said), "{traffic}: {told}");
    }
    assert!(parsed(&SHOP.replace("traffic: none", "traffic: traefik")).unwrap_err().to_string().contains("needs an object"));
    let elsewhere = "{ cluster: a, namespace: x }, { cluster: b, namespace: y }";
    let told = moved(elsewhere, "istio: { virtual-service: shop, subsets: [ a, b ] }").unwrap_err().to_string();
    assert!(told.contains("names no namespace"), "{told}");
}

#[test]
fn steps_that_an_object_cannot_represent_are_told() {
    let stepped = |traffic: &str, step: &str| {
        let text = SHOP.replace("traffic: none", &format!("traffic: {{ {traffic} }}"));
        let text = text.replace("workloads: {", "workloads: { namespace: prod,");
        parsed(&text.replace("steps: [", &format!("steps: [ {{ weight: {step}, for: 1m }},"))).map_err(|report| report.to_string())
    };
    let alb = "aws-alb: { ingress: i, services: [ a, b ] }";
    assert!(stepped(alb, "5%").is_ok());
    assert!(stepped(alb, "0.5%").unwrap_err().contains("no multiple of 1%"));
    assert!(stepped("service: { name: s, selector: { v: [ a, b ] } }", "50%").unwrap_err().contains("no multiple of 100%"));
    assert!(stepped("nginx-ingress: { ingress: i, weight-total: 200 }", "0.5%").is_ok());
    assert!(stepped("nginx-ingress: { ingress: i, weight-total: 200 }", "0.1%").unwrap_err().contains("no multiple of 0.5%"));
    assert!(stepped("istio: { virtual-service: s, subsets: [ a, b ] }", "0.1%").is_ok());
    assert!(stepped("replicas: { service: s, deployments: [ x, y ], total: 20 }", "5%").is_ok());
    assert!(stepped("replicas: { service: s, deployments: [ x, y ], total: 3 }", "50%").unwrap_err().contains("no multiple of 100%"));
}

#[test]
fn every_router_of_the_design_is_known_and_those_not_moved_are_told() {
    for (name, known, needed) in keys::OTHER_ROUTERS {
        let object: Vec<String> = known[..*needed].iter().map(|key| format!("{key}: x")).collect();
        let shop = instead(&format!("traffic: {{ {name}: {{ {} }} }}", object.join(", ")));
        assert_eq!(shop.traffic, Traffic::Other((*name).to_owned()));
        assert_eq!(not_run(&shop), [format!("traffic.{name}")]);
        assert!(shop.not_run[0].why.contains(name), "{}", shop.not_run[0].why);
    }
}

#[test]
fn the_digest_is_fnv_1a_of_the_text() {
    // the published value of the algorithm for "a"
    let digest = |texts: &[&str]| digest(texts.iter().copied());
    assert_eq!(digest(&["a"]), "af63dc4c8601ec8c");
    assert_eq!(rule(SHOP).digest, digest(&[SHOP]));
    assert_ne!(with("# a comment").digest, digest(&[SHOP]), "every letter counts");
    let denied = format!("{SHOP}windows: {{ timezone: UTC, deny: [ {{ dates: d.txt }} ] }}\n");
    let dated = |dates: &str| parse_rule_with(&denied, Path::new("r.yaml"), &known(), &|_| Ok(dates.to_owned())).expect("valid").digest;
    assert_ne!(dated("2026-12-25"), dated("2026-12-26"), "and those of the files it names");
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_no_mistakes() {
    let windows = format!("\u{feff}{}", SHOP.replace('\n', "\r\n"));
    assert_eq!(rule(&windows).steps, rule(SHOP).steps);
    let wrong = windows.replace("100%", "120%");
    assert_eq!(
        parsed(&wrong).expect_err("120%").to_string(),
        "shop.yaml:5: steps[0].weight: 120% exceeds 100%: write a share between 0% and 100%"
    );
    let number = windows.replace("{ cluster: a }", "{ cluster: a, version: 1.10 }");
    assert_eq!(rule(&number).workloads.sides[0].fields["version"], "1.10");
}

#[test]
fn what_lies_below_a_misspelt_key_is_looked_at_too() {
    let slip = SHOP.replace("steps:", "stepps:").replace("1m", "1x");
    assert_eq!(
        parsed(&slip).expect_err("two").to_string(),
        "shop.yaml:5: stepps: no such key: did you mean \"steps\"?\n\
         shop.yaml:5: stepps[0].bake: \"1x\" is not a duration such as 500ms, 90s, 15m, 1h30m or 2d"
    );
}
