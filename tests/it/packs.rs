//! The shipped packs against what they read: real exporters where there are any, scraped by a real Prometheus.

use crate::prometheus::{Samples, counts, runtime, target, tick};
use crate::rig::http;
use crate::rig::process::Process;
use crate::rig::prometheus::{Job, Prometheus as Server, on_both};
use crate::rig::service::Service;
use crate::rig::{READY_MAX, poll, ports, require};
use canaryd::model::{Arm, Blind, PerArm, Pod, Timestamp, rule};
use canaryd::source::packs::grammar;
use canaryd::source::{self, Packs, PodWatch, PrometheusSettings, Source, SourceSample, Subscription, Wants};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Longest a user waits here.
const USER_MAX: Duration = Duration::from_secs(5);

fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    Timestamp::from_millis(now.as_millis() as i64)
}

/// A HAProxy in front of two services: a backend for each, a backend of both, and one that hides failures.
struct Haproxy {
    _process: Process,
    edge: u16,
    metrics: u16,
}

impl Haproxy {
    fn start(folder: &Path, v1: u16, v2: u16) -> Option<Self> {
        let program = require("haproxy")?;
        let (edge, metrics) = (ports::free(), ports::free());
        let both = format!(
            "use-server v1 if {{ path_end /v1 }}\n use-server v2 if {{ path_end /v2 }}\n server v1 127.0.0.1:{v1}\n server v2 127.0.0.1:{v2}"
        );
        let text = format!(
            "global\n maxconn 500\n\
             defaults\n mode http\n timeout connect 1s\n timeout client 5s\n timeout server 5s\n retries 0\n\
             frontend metrics\n bind 127.0.0.1:{metrics}\n http-request use-service prometheus-exporter if {{ path /metrics }}\n\
             frontend edge\n bind 127.0.0.1:{edge}\n use_backend be_v2 if {{ path /alone/v2 }}\n use_backend both if {{ path_beg /both }}\n \
             use_backend hiding if {{ path_beg /hiding }}\n default_backend be_v1\n\
             backend be_v1\n server s 127.0.0.1:{v1}\n\
             backend be_v2\n server s 127.0.0.1:{v2}\n\
             backend both\n {both}\n\
             backend hiding\n option redispatch 1\n retries 1\n {both}\n"
        );
        let file = folder.join("haproxy.cfg");
        std::fs::write(&file, text).expect("the settings can be written");
        let arguments = ["-db".into(), "-f".into(), file.into_os_string()];
        let mut process = Process::spawn("haproxy", &program, &arguments, &folder.join("haproxy.log"));
        process.wait_ready(metrics, "/metrics");
        Some(Self { _process: process, edge, metrics })
    }

    /// The status of one request.
    fn status(&self, path: &str) -> u16 {
        http::get(self.edge, path, USER_MAX).expect("HAProxy answers").status
    }
}

/// A subscription on HAProxy: arms told apart by backend or by server.
fn haproxy(key: u64, variant: &str, arms: [&[(&str, &str)]; 2]) -> Subscription {
    let telemetry = rule::Telemetry { pack: "haproxy".into(), variant: Some(variant.into()), ..rule::Telemetry::default() };
    Subscription {
        key,
        arms: PerArm { baseline: target(arms[0]), canary: target(arms[1]) },
        telemetry: vec![telemetry],
        custom_counts: Vec::new(),
        custom_gauges: Vec::new(),
        wants: Wants { requests: true, ..Wants::default() },
        time_scale: 1.0,
    }
}

/// Waits until Prometheus shows so much, then reads a tick.
fn tick_when(prometheus: &Server, query: &str, value: f64, source: &mut source::Prometheus) -> Vec<SourceSample> {
    let seen = poll(READY_MAX, || prometheus.value(query).filter(|v| *v == value));
    assert_eq!(seen, Some(value), "{query}: {:?}", prometheus.value(query));
    runtime().block_on(source.tick(now()))
}

#[test]
fn haproxy_tells_by_backend_and_by_server_what_its_own_exporter_shows() {
    let (v1, mut v2) = (Service::start("v1"), Service::start("v2"));
    let folder = tempfile::tempdir().expect("a folder");
    let Some(proxy) = Haproxy::start(folder.path(), v1.port, v2.port) else { return };
    let Some(prometheus) = Server::start(&folder.path().join("prom"), &[Job::new("edge", proxy.metrics, "/metrics", &[])]) else {
        return;
    };
    let mut source = source::Prometheus::new(PrometheusSettings::new("prom", prometheus.url())).expect("settings");
    let wanted = [
        haproxy(1, "backend", [&[("backend", "be_v1")], &[("backend", "be_v2")]]),
        haproxy(2, "server", [&[("backend", "both"), ("server", "v1")], &[("backend", "both"), ("server", "v2")]]),
        haproxy(3, "server", [&[("backend", "hiding"), ("server", "v1")], &[("backend", "hiding"), ("server", "v2")]]),
    ];
    wanted.iter().for_each(|w| source.subscribe(w.clone(), Vec::new()));
    let all = "sum(haproxy_frontend_http_responses_total{proxy=\"edge\"})";
    // every class is there from the start, at 0
    let first = tick_when(&prometheus, all, 0.0, &mut source);
    assert!(first.iter().all(|s| s.missing == PerArm::default()), "{first:?}");
    for warnings in wanted.iter().map(|w| runtime().block_on(source.set_up(w, now())).expect("set-up").warnings) {
        assert!(!warnings.join("\n").contains("no series"), "{warnings:?}");
    }

    for path in ["/alone/v1", "/alone/v2", "/both/v1", "/both/v2", "/hiding/v1", "/hiding/v2"] {
        (0..10).for_each(|_| assert_eq!(proxy.status(path), 200, "{path}"));
    }
    let healthy = tick_when(&prometheus, all, 60.0, &mut source);
    for sample in &healthy {
        let read = (counts(sample, Arm::Baseline), counts(sample, Arm::Canary));
        assert_eq!(read, (Some((10.0, 0.0)), Some((10.0, 0.0))), "{sample:?}");
    }

    v2.die();
    for (path, status) in [("/alone/v2", 503), ("/both/v2", 503), ("/hiding/v2", 200), ("/both/v1", 200)] {
        (0..10).for_each(|_| assert_eq!(proxy.status(path), status, "{path}"));
    }
    let dead = tick_when(&prometheus, all, 100.0, &mut source);
    let canary: Vec<_> = dead.iter().map(|s| counts(s, Arm::Canary).expect("counts")).collect();
    assert_eq!(canary[0], (10.0, 10.0), "HAProxy's own 503");
    assert_eq!(canary[1], (10.0, 10.0), "connections refused, without any response");
    let (total, bad) = canary[2];
    assert!(total == bad && bad >= 10.0, "no user saw it, redispatched requests tell: {:?}", dead[2]);
    let baseline: Vec<_> = dead.iter().map(|s| counts(s, Arm::Baseline).expect("counts")).collect();
    assert_eq!(baseline, [(0.0, 0.0), (10.0, 0.0), (10.0, 0.0)]);
}

/// Both servers' addresses as sources of these packs.
fn source_with(server: &Server, packs: Packs, pods: Option<Arc<dyn PodWatch>>) -> source::Prometheus {
    let settings = PrometheusSettings { packs, pods, ..PrometheusSettings::new("prom", server.url()) };
    source::Prometheus::new(settings).expect("settings")
}

fn telemetry(pack: &str, params: &[(&str, &str)]) -> rule::Telemetry {
    let params = params.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    rule::Telemetry { pack: pack.into(), params, ..rule::Telemetry::default() }
}

/// A rollout of one pack; every quantity is wanted.
fn rollout(key: u64, telemetry: rule::Telemetry, namespace: &str, name: &str) -> Subscription {
    let side = |n: u32| {
        let [deployment, service, backend] = [format!("{name}-v{n}"), name.to_owned(), format!("be_{name}")];
        let [server, cluster] = [format!("v{n}"), format!("{name}-v{n}")];
        let fields = [("namespace", namespace), ("deployment", &deployment), ("service", &service), ("backend", &backend)];
        target(&[&fields[..], &[("server", &server), ("cluster", &cluster)]].concat())
    };
    Subscription {
        key,
        arms: PerArm { baseline: side(1), canary: side(2) },
        telemetry: vec![telemetry],
        custom_counts: Vec::new(),
        custom_gauges: Vec::new(),
        wants: Wants { requests: true, buckets: true, cpu: true, memory: true },
        time_scale: 1.0,
    }
}

/// The shipped packs written into a folder, the way an operator changes them.
fn from_folder() -> (tempfile::TempDir, Packs) {
    let folder = tempfile::tempdir().expect("a folder");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/source/packs");
    for name in Packs::builtin().names() {
        let file = format!("{name}.yaml");
        std::fs::copy(shipped.join(&file), folder.path().join(&file)).expect("a copy");
    }
    let packs = Packs::with_folder(folder.path()).expect("packs");
    (folder, packs)
}

/// The expressions of a pack that no tick asks yet, for two rollouts.
fn expressions(pack: &grammar::Pack) -> Vec<String> {
    let arm = r#"namespace=~"production|team\\.a",pod=~"(?:api-v1|chatbot-v1)-[4-9bcdf]{1,10}-[bcdfghjklmnpqrstvwxz2456789]{5}""#;
    let events = pack.events.values().chain(pack.variants.iter().flat_map(|(_, v)| v.events.values())).map(|e| e.from.clone());
    let all = pack.denominators.values().chain(pack.states.values()).cloned().chain(events);
    all.map(|text| text.replace("ARM", if pack.pack == "haproxy" { r#"proxy="be",server=~"v1|v2""# } else { arm })).collect()
}

#[test]
fn every_query_of_every_pack_is_parsed_and_answered_by_both_servers() {
    on_both(async |server| {
        let (_folder, copied) = from_folder();
        assert_eq!(copied.names(), ["envoy", "haproxy", "http", "istio", "kubernetes", "otel-http"]);
        let mut asked = BTreeSet::new();
        for packs in [Packs::builtin(), copied] {
            let mut source = source_with(server, packs.clone(), None);
            let telemetries = packs.names().into_iter().map(|name| telemetry(name, &[]));
            let others = [telemetry("istio", &[("reporter", "source")]), telemetry("istio", &[("reporter", "waypoint")])];
            let mut key = 0;
            for one in telemetries.chain(others).chain([rule::Telemetry { variant: Some("backend".into()), ..telemetry("haproxy", &[]) }]) {
                for (namespace, name) in [("production", "chatbot"), ("team.a", "api")] {
                    key += 1;
                    let mut wanted = rollout(key, one.clone(), namespace, name);
                    if one.variant.is_some() {
                        wanted.arms =
                            PerArm { baseline: target(&[("backend", name)]), canary: target(&[("backend", &format!("{name}2"))]) };
                    }
                    // an answer that is no success is an error here
                    let set_up = source.set_up(&wanted, now()).await.unwrap_or_else(|e| panic!("{}: {e}", one.pack));
                    asked.extend(set_up.queries);
                    source.subscribe(wanted, Vec::new());
                }
            }
            // both rollouts of a pack in one query each
            for sample in source.tick(now()).await {
                let why = [sample.missing.baseline, sample.missing.canary, sample.arms.canary.memory.err()];
                assert!(!why.contains(&Some(Blind::QueryRejected)) && !sample.detail.contains("parse"), "{sample:?}");
            }
            asked.extend(packs.names().into_iter().filter_map(|name| packs.get(name)).flat_map(|pack| expressions(pack)));
        }
        for query in &asked {
            server.instant(query, None);
        }
        assert!(asked.len() > 60 && asked.iter().any(|q| q.contains("group_left")), "{}: {asked:#?}", asked.len());
    });
}

#[test]
fn a_pack_of_the_folder_replaces_the_compiled_in_one_of_its_name() {
    let (folder, _) = from_folder();
    let text = std::fs::read_to_string(folder.path().join("envoy.yaml")).expect("a file");
    std::fs::write(folder.path().join("envoy.yaml"), text.replace("'5..'", "'5..|429'")).expect("written");
    let packs = Packs::with_folder(folder.path()).expect("packs");
    assert_eq!(packs.get("envoy").expect("envoy").counts["requests"].class[0].labels["{code-label}"], "5..|429");
}

/// One proxy's counter of Istio.
fn istio(
    samples: &mut Samples,
    at: Timestamp,
    (reporter, pod): (&str, &str),
    (namespace, workload): (&str, &str),
    labels: &str,
    value: f64,
) {
    let of = format!("destination_workload_namespace=\"{namespace}\",destination_workload=\"{workload}\",reporter=\"{reporter}\"");
    let target = format!("namespace=\"prod\",pod=\"{pod}\",job=\"mesh\",instance=\"{pod}:15020\"");
    samples.add(&format!("istio_requests_total{{{labels},{of},{target}}}"), at, value);
}

#[test]
fn a_mesh_tells_failed_calls_unreached_pods_leavers_and_orphans_apart() {
    on_both(async |server| {
        let mut samples = Samples::default();
        let http =
            |code: &str| format!("request_protocol=\"http\",response_code=\"{code}\",response_flags=\"-\",grpc_response_status=\"\"");
        for n in 0..5u32 {
            let (at, i) = (tick(n) - Duration::from_secs(3), f64::from(n));
            for (pod, workload) in [("b-1", "api-v1"), ("c-1", "api-v2")] {
                istio(&mut samples, at, ("destination", pod), ("team.a", workload), &http("200"), 100.0 * i);
                // the same requests as their clients saw them
                istio(&mut samples, at, ("source", "client"), ("team.a", workload), &http("200"), 100.0 * i);
            }
            let canary = ("destination", "c-1");
            istio(&mut samples, at, canary, ("team.a", "api-v2"), &http("503"), 2.0 * i);
            istio(&mut samples, at, canary, ("team.a", "api-v2"), &http("404"), i);
            istio(&mut samples, at, canary, ("team.a", "api-v2"), &http("0"), 3.0 * i);
            for (status, per_tick) in [("14", 4.0), ("0", 5.0)] {
                let grpc =
                    format!("request_protocol=\"grpc\",response_code=\"200\",response_flags=\"-\",grpc_response_status=\"{status}\"");
                istio(&mut samples, at, canary, ("team.a", "api-v2"), &grpc, per_tick * i);
            }
            // never reached the pod; of no workload at all; of the cross product, which is nobody's
            let unreached = "request_protocol=\"http\",response_code=\"503\",response_flags=\"UF,URX\",grpc_response_status=\"\"";
            istio(&mut samples, at, ("source", "client"), ("team.a", "api-v2"), unreached, 6.0 * i);
            let orphan = "request_protocol=\"http\",response_code=\"503\",response_flags=\"UH\",grpc_response_status=\"\"";
            let orphan = format!("{orphan},destination_service_namespace=\"team.a\",destination_service_name=\"api\"");
            istio(&mut samples, at, ("source", "client"), ("unknown", "unknown"), &orphan, 7.0 * i);
            istio(&mut samples, at, ("destination", "x"), ("production", "api-v2"), &http("503"), 1000.0 * i);
            istio(&mut samples, at, ("destination", "y"), ("production", "chatbot-v1"), &http("200"), 10.0 * i);
        }
        samples.write(server);
        let mut source = source_with(server, Packs::builtin(), None);
        let wants = Wants { requests: true, ..Wants::default() };
        for (key, namespace, name) in [(1, "team.a", "api"), (2, "production", "chatbot")] {
            source.subscribe(Subscription { wants, ..rollout(key, telemetry("istio", &[]), namespace, name) }, Vec::new());
        }
        source.tick(tick(2)).await;
        let samples = source.tick(tick(3)).await;
        let mesh = &samples[0];
        assert_eq!(counts(mesh, Arm::Baseline), Some((100.0, 0.0)), "{mesh:?}");
        // 100 + 2 + 1 + 4 + 5 answered, 6 never reached it; 3 left
        assert_eq!(counts(mesh, Arm::Canary), Some((118.0, 12.0)), "{mesh:?}");
        assert_eq!((mesh.arms.canary.abandoned, mesh.orphans), (Ok(3.0), 7.0));
        assert_eq!((counts(&samples[1], Arm::Baseline), counts(&samples[1], Arm::Canary)), (Some((10.0, 0.0)), None), "{:?}", samples[1]);
        // seen by clients alone: what never reached a pod is counted there, once
        let by_source = Subscription { wants, ..rollout(1, telemetry("istio", &[("reporter", "source")]), "team.a", "api") };
        let mut source = source_with(server, Packs::builtin(), None);
        source.subscribe(by_source, Vec::new());
        source.tick(tick(2)).await;
        assert_eq!(counts(&source.tick(tick(3)).await[0], Arm::Canary), Some((106.0, 6.0)));
    });
}

#[test]
fn opentelemetry_is_joined_with_target_info_and_old_and_new_names_are_never_summed() {
    on_both(async |server| {
        let mut samples = Samples::default();
        for n in 0..6u32 {
            let (at, i) = (origin_of_pushes() + PUSH * n - Duration::from_secs(2), f64::from(n));
            for (instance, deployment, rate) in [("i-b", "api-v1", 100.0), ("i-c", "api-v2", 10.0), ("i-x", "other", 500.0)] {
                let who = format!("job=\"team.a/api\",instance=\"{instance}\"");
                samples.add(&format!("target_info{{{who},k8s_namespace_name=\"team.a\",k8s_deployment_name=\"{deployment}\"}}"), at, 1.0);
                let of = |code: &str, error: &str| format!("http_response_status_code=\"{code}\",error_type=\"{error}\",{who}");
                for (labels, n) in [(of("200", ""), rate), (of("500", "500"), 2.0), (of("", "timeout"), 1.0)] {
                    samples.add(&format!("http_server_request_duration_seconds_count{{{labels}}}"), at, n * i);
                    // both conventions at once (http/dup)
                    samples.add(&format!("http_server_duration_milliseconds_count{{{labels}}}"), at, n * i);
                    for (le, share) in [("0.25", 0.5), ("1", 1.0), ("+Inf", 1.0)] {
                        samples.add(
                            &format!("http_server_request_duration_seconds_bucket{{le=\"{le}\",{labels}}}"),
                            at,
                            (n * i * share).floor(),
                        );
                    }
                }
            }
        }
        samples.write(server);
        let mut source = source_with(server, Packs::builtin(), None);
        let wants = Wants { requests: true, buckets: true, ..Wants::default() };
        let wanted = Subscription { wants, ..rollout(1, telemetry("otel-http", &[]), "team.a", "api") };
        let at = |n: u32| origin_of_pushes() + PUSH * n;
        let set_up = source.set_up(&wanted, at(4)).await.expect("set-up");
        assert_eq!((set_up.bounds_ms.as_slice(), set_up.scrape_interval), (&[250.0, 1000.0][..], Some(PUSH)));
        assert!(set_up.queries.iter().all(|q| q.contains("group_left") && !q.contains("milliseconds")), "{:#?}", set_up.queries);
        source.subscribe(wanted, set_up.bounds_ms);
        source.tick(at(4)).await;
        let sample = source.tick(at(5)).await.remove(0);
        assert_eq!((counts(&sample, Arm::Baseline), counts(&sample, Arm::Canary)), (Some((103.0, 3.0)), Some((13.0, 3.0))), "{sample:?}");
        assert_eq!(sample.arms.canary.buckets.as_ref().map(|b| b.last().copied()), Ok(Some(13.0)));
        // nothing more is pushed: Prometheus shows the last value for five minutes, which is no news of health
        for (n, why) in [(6, Blind::Stale), (7, Blind::Stale), (8, Blind::Stale)] {
            let sample = source.tick(at(n)).await.remove(0);
            assert_eq!(sample.missing, PerArm { baseline: Some(why), canary: Some(why) }, "{n}: {sample:?}");
        }
    });
}

const PUSH: Duration = Duration::from_secs(60);

/// On the grid of pushes.
fn origin_of_pushes() -> Timestamp {
    tick(0).floor_to(PUSH)
}

/// Pods by deployment.
#[derive(Debug)]
struct Watched(BTreeMap<String, Vec<Pod>>);

impl PodWatch for Watched {
    fn pods(&self, target: &rule::Target, _from: Timestamp, _to: Timestamp) -> Option<Vec<Pod>> {
        self.0.get(target.fields.get("deployment")?).cloned()
    }
}

#[test]
fn a_watch_knows_whose_a_pod_is_and_when_it_was_made() {
    on_both(async |server| {
        let mut samples = Samples::default();
        let pod = |name: &str, created: u32| Pod { name: name.to_owned(), ip: None, created: tick(created), ready: true };
        for n in 0..5u32 {
            let (at, i) = (tick(n) - Duration::from_secs(3), f64::from(n));
            // no name of these is a Deployment's pod's; the canary's second was made before the last tick, with a lifetime of 30
            let pods = [("b", 100.0 * i), ("c-old", 10.0 * i), ("stranger", 900.0 * i)];
            for (pod, value) in pods.into_iter().chain((n == 4).then_some(("c-new", 30.0))).chain((n >= 3).then_some(("c-late", 5000.0))) {
                let labels = format!("code=\"200\",namespace=\"team.a\",pod=\"{pod}\",instance=\"{pod}:80\",job=\"app\"");
                samples.add(&format!("http_requests_total{{{labels}}}"), at, value);
            }
        }
        samples.write(server);
        let canary = vec![pod("c-old", 0), pod("c-new", 4), pod("c-late", 0)];
        let watch = Watched([("api-v1".to_owned(), vec![pod("b", 0)]), ("api-v2".to_owned(), canary)].into());
        let mut source = source_with(server, Packs::builtin(), Some(Arc::new(watch)));
        let wants = Wants { requests: true, ..Wants::default() };
        let wanted = Subscription { wants, ..rollout(1, telemetry("http", &[]), "team.a", "api") };
        let said = source.set_up(&wanted, tick(2)).await.expect("set-up").warnings.join("\n");
        assert!(!said.contains("by their names") && said.contains("pack http cannot see: panic"), "{said}");
        source.subscribe(wanted, Vec::new());
        source.tick(tick(2)).await;
        let late = source.tick(tick(3)).await.remove(0);
        assert_eq!((counts(&late, Arm::Baseline), counts(&late, Arm::Canary)), (Some((100.0, 0.0)), Some((10.0, 0.0))), "{late:?}");
        let sample = source.tick(tick(4)).await.remove(0);
        assert_eq!((counts(&sample, Arm::Canary), sample.arms.canary.pods), (Some((10.0 + 30.0, 0.0)), Some(3)), "{sample:?}");
    });
}

/// PACKS 7's pack for an ingress-nginx: labels that move, and a baseline that is an absent label.
const NGINX: &str = "
pack: nginx-ingress
params: { ns: [exported_namespace, namespace] }
needs: nginx_ingress_controller_requests
identity: [controller_namespace, controller_pod]
start: { epoch: nginx_ingress_controller_nginx_process_oldest_start_time_seconds }
vanishes: on-delete
blind-to: [no-endpoint]
arm: { '{ns}': '{namespace}', ingress: '{ingress}', canary: { baseline: '', canary: '{namespace}-{service}-{port}' } }
counts:
  requests: { from: nginx_ingress_controller_requests, keep: [status], class: [ { status: '499', is: skip }, { status: '5..|5xx', is: bad } ] }
latency: none
";

/// What an ingress controller shows of one arm: the label of the namespace differs with `honor_labels`.
fn nginx(samples: &mut Samples, at: Timestamp, ns: &str, more: &str, canary: &str, (good, bad, left): (f64, f64, f64)) {
    let canary = if canary.is_empty() { String::new() } else { format!(",canary=\"{canary}\"") };
    for (status, value) in [("200", good), ("503", bad), ("499", left)] {
        let labels = format!("controller_namespace=\"ingress\",controller_pod=\"c-0\",ingress=\"shop\",status=\"{status}\"");
        samples.add(&format!("nginx_ingress_controller_requests{{{labels},{ns}{canary}{more}}}"), at, value);
    }
}

fn with_file(name: &str, text: &str) -> (tempfile::TempDir, Packs) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join(name), text).expect("written");
    let packs = Packs::with_folder(folder.path()).expect("packs");
    (folder, packs)
}

#[test]
fn labels_that_move_an_absent_one_and_two_clusters_namesakes() {
    on_both(async |server| {
        let mut samples = Samples::default();
        for n in 0..5u32 {
            let (at, i) = (tick(n) - Duration::from_secs(3), f64::from(n));
            let moved = "exported_namespace=\"team.a\",namespace=\"ingress\",job=\"nginx\",instance=\"c-0:10254\"";
            for (cluster, times) in [("eu1", 1.0), ("us1", 50.0)] {
                let more = format!(",cluster=\"{cluster}\"");
                nginx(&mut samples, at, moved, &more, "", (90.0 * i * times, 0.0, 0.0));
                nginx(&mut samples, at, moved, &more, "team.a-shop-80", (8.0 * i * times, 2.0 * i * times, i * times));
                // another canary of the same Ingress' name, in another namespace
                nginx(&mut samples, at, &moved.replace("team.a", "b"), &more, "b-shop-80", (0.0, 700.0 * i, 0.0));
            }
        }
        samples.write(server);
        let (_folder, packs) = with_file("nginx.yaml", NGINX);
        let side = || target(&[("namespace", "team.a"), ("ingress", "shop"), ("service", "shop"), ("port", "80")]);
        let wanted = |key: u64, cluster: &str, params: &[(&str, &str)]| Subscription {
            arms: PerArm { baseline: side(), canary: side() },
            wants: Wants { requests: true, ..Wants::default() },
            telemetry: vec![rule::Telemetry { extra: Some(format!("cluster=\"{cluster}\"")), ..telemetry("nginx-ingress", params) }],
            ..rollout(key, telemetry("nginx-ingress", &[]), "team.a", "shop")
        };
        let mut source = source_with(server, packs, None);
        source.subscribe(wanted(1, "eu1", &[]), Vec::new());
        source.subscribe(wanted(2, "us1", &[]), Vec::new());
        source.subscribe(wanted(3, "eu1", &[("ns", "namespace")]), Vec::new());
        source.tick(tick(2)).await;
        let samples = source.tick(tick(3)).await;
        for (sample, times) in samples.iter().zip([1.0, 50.0]) {
            let read = (counts(sample, Arm::Baseline), counts(sample, Arm::Canary), sample.arms.canary.abandoned);
            assert_eq!(read, (Some((90.0 * times, 0.0)), Some((10.0 * times, 2.0 * times)), Ok(times)), "{sample:?}");
        }
        assert_eq!(samples[2].missing.canary, Some(Blind::NoSeries), "the rule's parameter wins: there namespace is the controller's");
    });
}

#[test]
fn ticks_shorter_than_a_scrape_see_the_same_as_ticks_as_long() {
    on_both(async |server| {
        let mut samples = Samples::default();
        for n in 0..42u32 {
            let i = f64::from(n);
            // the arms are scraped at different times of the same fifteen seconds
            samples.envoy("phases", "p", "v1", tick(n) + Duration::from_secs(4), 950.0 * i, 9.0 * i);
            samples.envoy("phases", "q", "v2", tick(n) + Duration::from_secs(11), 50.0 * i, 2.0 * i);
        }
        samples.write(server);
        let mut seen = Vec::new();
        for every in [5, 15] {
            let every = Duration::from_secs(every);
            let mut source = source_with(server, Packs::builtin(), None);
            source.subscribe(crate::prometheus::envoy(1, "phases", "v1", "v2"), vec![5.0, 10.0]);
            let (mut at, mut both) = (tick(1), [(0.0, 0.0); 2]);
            while at <= tick(41) {
                let sample = source.tick(at).await.remove(0);
                if let (Some(b), Some(c)) = (counts(&sample, Arm::Baseline), counts(&sample, Arm::Canary)) {
                    // both arms in one tick, or neither: increments that do not meet are evidence lost
                    assert_eq!(b.0 > 0.0, c.0 > 0.0, "{sample:?}");
                    both = [(both[0].0 + b.0, both[0].1 + b.1), (both[1].0 + c.0, both[1].1 + c.1)];
                }
                at = at + every;
            }
            seen.push(both);
        }
        for (short, long) in seen[0].iter().zip(&seen[1]) {
            let share = short.0 / long.0;
            assert!((0.94..=1.06).contains(&share) && long.0 > 30.0 * 52.0, "{seen:?}");
        }
    });
}

#[test]
fn names_with_dots_are_quoted() {
    let Some(server) = Server::empty(crate::rig::prometheus::Version::Three) else { return };
    let pack = "pack: dotted\nidentity: [job, instance]\narm: { service.name: '{service}' }\n\
        counts: { requests: { from: 'count(http.server.request.duration)', keep: [http.response.status_code],\n\
        class: [ { http.response.status_code: '5..', is: bad } ] } }\nlatency: { from: http.server.request.duration, unit: s }\n";
    let (_folder, packs) = with_file("dotted.yaml", pack);
    let mut samples = Samples::default();
    for n in 0..5u32 {
        for (name, rate) in [("shop.v1", 100.0), ("shop.v2", 10.0)] {
            for (code, share) in [("200", 0.9), ("500", 0.1)] {
                let labels = format!("service.name=\"{name}\",http.response.status_code=\"{code}\",job=\"otel\",instance=\"{name}\"");
                let (at, value) = (tick(n) - Duration::from_secs(2), rate * share * f64::from(n));
                samples.add(&format!("http.server.request.duration_count{{{labels}}}"), at, value);
                for le in ["0.25", "+Inf"] {
                    samples.add(&format!("http.server.request.duration_bucket{{le=\"{le}\",{labels}}}"), at, value);
                }
            }
        }
    }
    samples.write(&server);
    let mut source = source_with(&server, packs, None);
    let wanted = Subscription {
        arms: PerArm { baseline: target(&[("service", "shop.v1")]), canary: target(&[("service", "shop.v2")]) },
        wants: Wants { requests: true, buckets: true, ..Wants::default() },
        ..rollout(1, telemetry("dotted", &[]), "", "shop")
    };
    let set_up = runtime().block_on(source.set_up(&wanted, tick(3))).expect("set-up");
    assert_eq!(set_up.bounds_ms, [250.0]);
    source.subscribe(wanted, set_up.bounds_ms);
    runtime().block_on(source.tick(tick(3)));
    let sample = runtime().block_on(source.tick(tick(4))).remove(0);
    assert_eq!((counts(&sample, Arm::Baseline), counts(&sample, Arm::Canary)), (Some((100.0, 10.0)), Some((10.0, 1.0))), "{sample:?}");
}
