use super::*;
use crate::model::{Arm, Pod, Timestamp};
use crate::source::packs::Packs;
use crate::source::packs::arms::Tells;
use crate::source::packs::classes::grpc_set;
use crate::source::packs::grammar::Outcome;
use crate::source::packs::select::anchored;
use crate::source::packs::template::{fill, normalised};

fn target(fields: &[(&str, &str)]) -> rule::Target {
    rule::Target { fields: fields.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect() }
}

fn subscription(telemetry: rule::Telemetry, baseline: &[(&str, &str)], canary: &[(&str, &str)]) -> Subscription {
    Subscription {
        key: 1,
        arms: PerArm { baseline: target(baseline), canary: target(canary) },
        telemetry: vec![telemetry],
        custom_counts: Vec::new(),
        custom_gauges: Vec::new(),
        wants: Wants { requests: true, buckets: true, ..Wants::default() },
        time_scale: 1.0,
    }
}

fn envoy() -> rule::Telemetry {
    rule::Telemetry { pack: "envoy".into(), ..rule::Telemetry::default() }
}

fn http_by_version() -> rule::Telemetry {
    let arm = BTreeMap::from([("version".to_owned(), "{version}".to_owned())]);
    rule::Telemetry { pack: "http".into(), arm, ..rule::Telemetry::default() }
}

#[test]
fn a_pack_without_choices_needs_no_lookup() {
    let resolver = Resolver::new(&Packs::builtin(), &subscription(envoy(), &[("cluster", "v1")], &[("cluster", "v2")])).unwrap();
    assert_eq!(resolver.next(), Ok(None));
    let asked = resolver.finish().unwrap().remove(0);
    assert_eq!(asked.arm_labels, ["envoy_cluster_name"]);
    assert_eq!((asked.arms.baseline.values, asked.arms.canary.values), (vec!["v1".to_owned()], vec!["v2".to_owned()]));
    let selects: Vec<String> = asked.questions.iter().map(|q| q.selects[0].0.to_string()).collect();
    assert_eq!(
        selects,
        ["envoy_cluster_upstream_rq", "envoy_cluster_upstream_cx_destroy_local_with_active_rq", "envoy_cluster_upstream_rq_time_bucket"]
    );
    assert_eq!(asked.questions[0].outcome(&["503"]), Outcome::Bad);
    assert_eq!(asked.questions[0].outcome(&["5030"]), Outcome::Good, "regexes are anchored");
    assert_eq!(asked.questions[0].outcome(&["404"]), Outcome::Good);
}

#[test]
fn candidates_are_looked_up_in_order() {
    let wanted = subscription(http_by_version(), &[("version", "v1")], &[("version", "v2")]);
    let mut resolver = Resolver::new(&Packs::builtin(), &wanted).unwrap();
    let Some(Probe::Metrics { names, matchers }) = resolver.next().unwrap() else { panic!("counts first") };
    assert_eq!(names[0], "http_requests_total");
    assert_eq!(matchers[0].to_string(), r#"version=~"v1|v2""#);
    resolver.answer(&BTreeSet::from(["http_request_duration_seconds_count".to_owned(), "http_requests_received_total".to_owned()]));
    let Some(Probe::Metrics { names, .. }) = resolver.next().unwrap() else { panic!("then the histogram") };
    let [highr, plain] = ["http_request_duration_highr_seconds", "http_request_duration_seconds"];
    assert_eq!(names, [format!("{highr}_bucket"), highr.into(), format!("{plain}_bucket"), plain.into()]);
    resolver.answer(&BTreeSet::from(["http_request_duration_seconds_bucket".to_owned()]));
    let Some(Probe::Labels { select, labels }) = resolver.next().unwrap() else { panic!("then labels") };
    assert_eq!(select.to_string(), r#"http_requests_received_total{version=~"v1|v2"}"#);
    assert_eq!(labels, ["status", "code", "status_code", "http_status"]);
    resolver.answer(&BTreeSet::from(["code".to_owned()]));
    assert_eq!(resolver.next(), Ok(None));
    assert!(!resolver.guessed);
    let asked = resolver.finish().unwrap().remove(0);
    assert_eq!(asked.questions[0].keep, ["code"]);
    assert_eq!(asked.questions[0].outcome(&["5xx"]), Outcome::Bad);
    assert_eq!(asked.questions[1].selects[0].0.name, "http_request_duration_seconds_bucket");
    assert_eq!(asked.questions[1].unit_ms, 1e3);
}

#[test]
fn without_a_series_to_go_by_the_first_candidate_is_a_guess() {
    let wanted = subscription(http_by_version(), &[("version", "v1")], &[("version", "v2")]);
    let mut resolver = Resolver::new(&Packs::builtin(), &wanted).unwrap();
    while resolver.next().unwrap().is_some() {
        resolver.answer(&BTreeSet::new());
    }
    assert!(resolver.guessed);
    assert_eq!(resolver.finish().unwrap()[0].questions[0].selects[0].0.name, "http_requests_total");
}

#[test]
fn what_this_build_does_not_carry_out_is_said_with_the_way_out() {
    let mut by_ip = envoy();
    by_ip.arm = BTreeMap::from([("instance".to_owned(), "pod-ips()".to_owned())]);
    let wanted = subscription(by_ip, &[("deployment", "a")], &[("deployment", "b")]);
    let why = Resolver::new(&Packs::builtin(), &wanted).unwrap().finish().unwrap_err();
    assert!(why.contains("only a watch of the cluster") && why.contains("arm:"), "{why}");
}

const PODS: [&[(&str, &str)]; 2] =
    [&[("namespace", "prod"), ("deployment", "shop-v1")], &[("namespace", "prod"), ("deployment", "shop-v2")]];

fn pack(name: &str) -> rule::Telemetry {
    rule::Telemetry { pack: name.into(), ..rule::Telemetry::default() }
}

/// Requests, latency, CPU and memory from these packs.
fn all_of(telemetry: Vec<rule::Telemetry>) -> Subscription {
    let wants = Wants { requests: true, buckets: true, cpu: true, memory: true };
    Subscription { telemetry, wants, time_scale: 30.0, ..subscription(envoy(), PODS[0], PODS[1]) }
}

/// Every choice made; metrics in `there` exist.
fn made(wanted: &Subscription, there: &[&str]) -> Resolver {
    let mut resolver = Resolver::new(&Packs::builtin(), wanted).unwrap();
    while let Some(probe) = resolver.next().unwrap() {
        let Probe::Metrics { names, .. } = probe else {
            resolver.answer(&BTreeSet::from(["code".to_owned()]));
            continue;
        };
        resolver.answer(&names.into_iter().filter(|n| there.contains(&n.as_str())).collect());
    }
    resolver
}

fn levels(resolver: &Resolver) -> Vec<(String, What)> {
    let asked = resolver.finish().unwrap();
    asked.iter().flat_map(|a| a.levels.iter().map(|l| (a.pack.clone(), l.what))).collect()
}

#[test]
fn of_each_quantity_the_first_pack_that_gives_it_is_read() {
    let wanted = all_of(vec![pack("http"), pack("kubernetes")]);
    let of = |pack: &str| [What::Cpu, What::Memory].map(|what| (pack.to_owned(), what)).to_vec();
    let counts = ["http_requests_total", "http_request_duration_seconds_bucket"];
    let process = ["process_cpu_seconds_total", "process_resident_memory_bytes"];
    let resolver = made(&wanted, &[counts, process].concat());
    assert_eq!(levels(&resolver), of("http"));
    assert!(!resolver.guessed);
    // the application shows none of its process
    let resolver = made(&wanted, &counts);
    assert_eq!(levels(&resolver), of("kubernetes"));
    let said = resolver.shares().unwrap();
    assert!(said.ends_with("requests, latency from pack http; cpu, memory from pack kubernetes"), "{said}");
    // in the other order kubernetes is read if it is there
    let resolver = made(&all_of(vec![pack("kubernetes"), pack("http")]), &[&counts[..], &["container_cpu_usage_seconds_total"]].concat());
    assert_eq!(levels(&resolver), [("kubernetes".to_owned(), What::Cpu), ("http".to_owned(), What::Memory)]);
    assert_eq!(made(&all_of(vec![pack("http")]), &counts).shares(), None);
}

#[test]
fn pods_are_told_by_their_names_and_windows_follow_the_scale() {
    let resolver = made(&all_of(vec![pack("kubernetes")]), &[]);
    let asked = resolver.finish().unwrap().remove(0);
    assert_eq!(
        (asked.tells.clone(), asked.arms.canary.values.clone()),
        (vec![Tells::Value, Tells::Pods], vec!["prod".into(), "shop-v2".into()])
    );
    assert!(asked.is_arm(Arm::Canary, |label| if label == "pod" { "shop-v2-5d4f8-x7k2p" } else { "prod" }));
    assert!(!asked.is_arm(Arm::Canary, |label| if label == "pod" { "shop-v2-5d4f8-x7k2p" } else { "test" }));
    let cpu = &asked.levels[0];
    assert_eq!(
        (cpu.level.rate, asked.levels[1].floor),
        (Some(std::time::Duration::from_secs(4)), Some(std::time::Duration::from_secs(20)))
    );
    assert_eq!(cpu.level.select.to_string(), r#"container_cpu_usage_seconds_total{image!="",container!="",container!="POD"}"#);
    let said = resolver.warnings.join("\n");
    assert!(said.contains("denominators, events, states are not read"), "{said}");
    assert!(said.contains("no pack of the rule's telemetry gives request counts"), "{said}");
}

#[test]
fn a_level_that_drops_what_tells_the_arms_apart_is_refused() {
    let mut by_version = pack("kubernetes");
    by_version.arm = BTreeMap::from([("version".to_owned(), "{deployment}".to_owned())]);
    let why = Resolver::new(&Packs::builtin(), &all_of(vec![by_version])).unwrap_err();
    assert!(why.contains("gauge cpu") && why.contains("drops the label \"version\""), "{why}");
    let long = "x".repeat(47);
    let mut wanted = all_of(vec![pack("kubernetes")]);
    wanted.arms.canary = target(&[("namespace", "prod"), ("deployment", &long)]);
    let resolver = Resolver::new(&Packs::builtin(), &wanted).unwrap();
    assert!(resolver.finish().unwrap_err().contains("more than 46 characters"));
    let watched = resolver.with_pods(&PerArm { baseline: None, canary: Some(Vec::new().into()) });
    assert!(watched.finish().is_ok(), "a watch needs no names");
}

fn haproxy(variant: Option<&str>, of: [&[(&str, &str)]; 2]) -> Result<Resolver, String> {
    let telemetry = rule::Telemetry { variant: variant.map(str::to_owned), ..pack("haproxy") };
    Resolver::new(&Packs::builtin(), &subscription(telemetry, of[0], of[1]))
}

#[test]
fn the_first_variant_that_fits_the_rule_and_exists_is_read() {
    let servers: [&[(&str, &str)]; 2] = [&[("backend", "be"), ("server", "v1")], &[("backend", "be"), ("server", "v2")]];
    let backends: [&[(&str, &str)]; 2] = [&[("backend", "b1")], &[("backend", "b2")]];
    let both: [&[(&str, &str)]; 2] = [&[("backend", "b1"), ("server", "s")], &[("backend", "b2"), ("server", "s")]];
    let labels = |resolver: &Resolver| resolver.finish().unwrap()[0].arm_labels.clone();
    for (of, expected) in [(servers, vec!["proxy", "server"]), (backends, vec!["proxy"])] {
        let resolver = haproxy(None, of).unwrap();
        assert_eq!(resolver.next(), Ok(None), "one variant fits");
        assert_eq!(labels(&resolver), expected);
    }
    let mut resolver = haproxy(None, both).unwrap();
    let Some(Probe::Metrics { names, .. }) = resolver.next().unwrap() else { panic!("both fit") };
    assert_eq!(names, ["haproxy_backend_http_responses_total", "haproxy_server_http_responses_total"]);
    resolver.answer(&BTreeSet::from(["haproxy_server_http_responses_total".to_owned()]));
    assert_eq!((labels(&resolver), resolver.guessed), (vec!["proxy".to_owned(), "server".to_owned()], false));
    let mut resolver = haproxy(None, both).unwrap();
    resolver.answer(&BTreeSet::new());
    assert_eq!((labels(&resolver), resolver.guessed), (vec!["proxy".to_owned()], true));
    assert_eq!(labels(&haproxy(Some("server"), both).unwrap()), ["proxy", "server"]);
    let why = haproxy(Some("frontend"), both).unwrap_err();
    assert!(why.contains("no variant \"frontend\", only: backend, server"), "{why}");
    let why = haproxy(None, [&[("cluster", "a")], &[("cluster", "b")]]).unwrap_err();
    assert!(why.contains("variant backend: ") && why.contains("variant server: "), "{why}");
}

const MESH: [&[(&str, &str)]; 2] = [
    &[("namespace", "team.a"), ("deployment", "api-v1"), ("service", "api")],
    &[("namespace", "team.a"), ("deployment", "api-v2"), ("service", "api")],
];

#[test]
fn istio_reads_what_its_reporter_cannot_tell_from_the_others_once() {
    let asked = |params: &[(&str, &str)]| {
        let params = params.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let telemetry = rule::Telemetry { params, ..pack("istio") };
        Resolver::new(&Packs::builtin(), &subscription(telemetry, MESH[0], MESH[1])).unwrap().finish().unwrap()
    };
    let all = asked(&[]);
    let selects: Vec<String> = all[0].questions[0].selects.iter().map(|(s, m)| format!("{s} {m:?}")).collect();
    assert_eq!(
        selects,
        [
            r#"istio_requests_total{reporter="destination"} Classes"#,
            r#"istio_requests_total{reporter="source",response_flags=~".*UF.*"} Bad"#
        ]
    );
    assert_eq!(asked(&[("reporter", "source")])[0].questions[0].selects.len(), 1, "it counts them itself");
    assert_eq!((all[1].questions[0].group, &all[1].arms.baseline), (Group::Orphans, &all[1].arms.canary));
    assert_eq!(all[1].arm_labels, ["destination_service_name", "destination_service_namespace"]);
    // HTTP 200 with a failed call, in each spelling of the code; an answer nobody waited for
    let outcome = |params: &[(&str, &str)], values: [&str; 3]| asked(params)[0].questions[0].outcome(&values);
    for code in ["14", "Unavailable", "UNAVAILABLE"] {
        assert_eq!(outcome(&[], ["grpc", "200", code]), Outcome::Bad, "{code}");
    }
    assert_eq!(outcome(&[], ["http", "5xx", ""]), Outcome::Bad);
    assert_eq!(outcome(&[], ["grpc", "200", "0"]), Outcome::Good);
    assert_eq!(outcome(&[], ["http", "0", ""]), Outcome::Skip);
    assert_eq!(outcome(&[], ["grpc", "200", "8"]), Outcome::Good);
    assert_eq!(outcome(&[("grpc-bad", "@grpc-bad+8")], ["grpc", "200", "RESOURCE_EXHAUSTED"]), Outcome::Bad);
}

#[test]
fn orphans_are_not_read_where_the_rule_names_no_service_and_that_is_said() {
    let wanted = subscription(pack("istio"), PODS[0], PODS[1]);
    let resolver = Resolver::new(&Packs::builtin(), &wanted).unwrap();
    assert_eq!(resolver.finish().unwrap().len(), 1);
    let said = resolver.warnings.join("\n");
    assert!(said.contains("\"service\"") && said.contains("ascribes to no workload are not read"), "{said}");
}

#[test]
fn labels_are_joined_only_where_the_series_do_not_have_them() {
    let wanted = subscription(pack("otel-http"), MESH[0], MESH[1]);
    let asked = |found: &[&str]| {
        let mut resolver = Resolver::new(&Packs::builtin(), &wanted).unwrap();
        let Some(Probe::Labels { select, labels }) = resolver.next().unwrap() else { panic!("labels first") };
        assert_eq!(select.to_string(), "http_server_request_duration_seconds_count", "of any arm: it may not have the labels");
        assert_eq!(labels, ["k8s_namespace_name", "k8s_deployment_name", "job", "instance"]);
        resolver.answer(&found.iter().map(|l| (*l).to_owned()).collect());
        assert_eq!(resolver.next(), Ok(None));
        (resolver.finish().unwrap().remove(0), resolver.guessed)
    };
    let (promoted, guessed) = asked(&["job", "instance", "k8s_deployment_name", "k8s_namespace_name"]);
    assert!(promoted.join.is_none() && !guessed);
    let (joined, guessed) = asked(&["job", "instance", "k8s_namespace_name"]);
    assert!(!guessed);
    let text = joined.expression(&joined.questions[0].selects[0].0, &joined.arm_matchers([&joined.arms]), Select::to_string);
    assert_eq!(
        text,
        "http_server_request_duration_seconds_count * on (job, instance) group_left (k8s_namespace_name, k8s_deployment_name) \
         max by (job, instance, k8s_namespace_name, k8s_deployment_name) \
         (target_info{k8s_namespace_name=\"team.a\",k8s_deployment_name=~\"api-v1|api-v2\"})"
    );
    assert_ne!(joined.key(), promoted.key());
    assert!(asked(&[]).1, "no series to go by");
    assert_eq!((joined.pushed, joined.every, joined.falls_prove_restart), (true, Some(std::time::Duration::from_secs(60)), false));
}

#[test]
fn a_rule_that_does_not_fit_its_pack_is_told_why() {
    let packs = Packs::builtin();
    let sub = |t: rule::Telemetry, b: &str, c: &str| subscription(t, &[("cluster", b)], &[("cluster", c)]);
    let no_pack = rule::Telemetry { pack: "envo".into(), ..rule::Telemetry::default() };
    assert!(
        Resolver::new(&packs, &sub(no_pack, "a", "b"))
            .unwrap_err()
            .contains("there are envoy, haproxy, http, istio, kubernetes, otel-http")
    );
    let why = Resolver::new(&packs, &subscription(envoy(), &[("service", "a")], &[("service", "b")])).unwrap_err();
    assert!(why.contains("\"cluster\"") && why.contains("workload \"a\""), "{why}");
    assert!(Resolver::new(&packs, &sub(envoy(), "a", "a")).unwrap_err().contains("cannot be told apart"));
    let bad_param = rule::Telemetry { params: BTreeMap::from([("clusterlabel".into(), "x".into())]), ..envoy() };
    assert!(Resolver::new(&packs, &sub(bad_param, "a", "b")).unwrap_err().contains("cluster-label"));
    let bad_extra = rule::Telemetry { extra: Some("cluster=eu1".into()), ..envoy() };
    assert!(Resolver::new(&packs, &sub(bad_extra, "a", "b")).unwrap_err().contains("extra"));
}

#[test]
fn two_releases_of_one_deployment_are_told_by_a_watch_of_their_pods() {
    let release = |of: &str| target(&[("namespace", "prod"), ("deployment", "shop"), ("replicaset", of)]);
    let of = |name: &str, other: &str| Subscription {
        arms: PerArm { baseline: release("old"), canary: release(other) },
        ..all_of(vec![pack(name)])
    };
    let names = PerArm { baseline: "shop-5d4f8-x7k2p", canary: "shop-66d9-zz2xw" };
    let pod = |arm: Arm| Pod { name: names[arm].to_owned(), ip: None, created: Timestamp::from_millis(0), ready: true };
    for name in ["http", "kubernetes"] {
        let resolver = made(&of(name, "new"), &["http_requests_total", "http_request_duration_seconds_bucket"]);
        let why = resolver.finish().unwrap_err();
        assert!(why.contains("of two releases of prod, shop only a watch"), "{why}");
        let asked = resolver.with_pods(&PerArm::from_fn(|arm| Some(vec![pod(arm)].into()))).finish().unwrap().remove(0);
        for arm in Arm::BOTH {
            let own = Arm::BOTH.map(|of| asked.is_arm(arm, |label| if label == "pod" { names[of] } else { "prod" }));
            assert_eq!(own, Arm::BOTH.map(|of| of == arm), "{name}");
        }
    }
    // the same release twice, and labels that are no pod's, stay what cannot be told apart
    for wanted in [of("http", "old"), of("istio", "new")] {
        assert!(Resolver::new(&Packs::builtin(), &wanted).unwrap_err().contains("cannot be told apart"));
    }
}

#[test]
fn parameters_and_extra_matchers_reach_every_selector() {
    let telemetry = rule::Telemetry {
        params: BTreeMap::from([("cluster-label".into(), "cluster_name".into())]),
        extra: Some(r#"cluster="eu1""#.into()),
        ..envoy()
    };
    let asked = Resolver::new(&Packs::builtin(), &subscription(telemetry, &[("cluster", "v1")], &[("cluster", "v2")])).unwrap();
    let asked = asked.finish().unwrap().remove(0);
    assert_eq!(asked.arm_labels, ["cluster_name"]);
    for question in &asked.questions {
        assert!(question.selects[0].0.to_string().contains(r#"{cluster="eu1"}"#), "{question:?}");
    }
}

#[test]
fn custom_counts_ride_on_the_first_entry() {
    let mut wanted = subscription(envoy(), &[("cluster", "v1")], &[("cluster", "v2")]);
    let counts = rule::CustomCounts { part: "hits_total{kind=\"a\",{{workload}}}".into(), part_is_bad: false, total: "all_total".into() };
    wanted.custom_counts.push(counts);
    let asked = Resolver::new(&Packs::builtin(), &wanted).unwrap().finish().unwrap().remove(0);
    let custom = asked.questions.last().unwrap();
    assert_eq!(custom.group, Group::Custom(0));
    assert_eq!(custom.selects[1].0.to_string(), r#"hits_total{kind="a"}"#);
}

#[test]
fn sums_made_by_recording_rules_are_refused() {
    let mut wanted = subscription(envoy(), &[("cluster", "v1")], &[("cluster", "v2")]);
    wanted.custom_counts.push(rule::CustomCounts { part: "bad_total".into(), part_is_bad: true, total: "job:all:sum".into() });
    let why = Resolver::new(&Packs::builtin(), &wanted).unwrap().finish().unwrap_err();
    assert!(why.contains("job:all:sum is recorded"), "{why}");
}

#[test]
fn sets_and_templates() {
    let bad = anchored(&grpc_set("@grpc-bad").unwrap()).unwrap();
    for code in ["14", "Unavailable", "UNAVAILABLE", "2", "DataLoss"] {
        assert!(bad.is_match(code), "{code}");
    }
    for code in ["7", "8", "Canceled", "", "140"] {
        assert!(!bad.is_match(code), "{code}");
    }
    assert!(anchored(&grpc_set("@grpc-bad+8").unwrap()).unwrap().is_match("RESOURCE_EXHAUSTED"));
    assert!(grpc_set("@grpc-bad+99").is_err() && grpc_set("@http").is_err());
    assert_eq!(fill("a-{x}-[0-9]{5}{1,2}", |n| (n == "x").then(|| "y".into())), Ok("a-y-[0-9]{5}{1,2}".into()));
    assert_eq!(fill("{z}", |_| None), Err("z".into()));
    assert_eq!(normalised("normalise(team.a-svc..x-80)@kubernetescrd"), "team-a-svc-x-80@kubernetescrd");
}
