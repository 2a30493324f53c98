//! The demo's service, users and proxy, over real sockets.

use canaryd::cli::demo::load::{Load, LoadSpec};
use canaryd::cli::demo::service::{Faults, Service};
use canaryd::model::rule::Traffic;
use canaryd::model::{Side, Weight};
use canaryd::router::{self, Desired, Means, Proxy, Router, RouterError};
use reqwest::StatusCode;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// For everything that must happen soon.
const SOON: Duration = Duration::from_secs(60);
const QUICK: Faults = Faults { error_share: 0.0, latency_ms: 0.0, hang: false, cpu_ms: 2.0, leak: 0.0 };

fn client() -> reqwest::Client {
    patient(SOON)
}

fn patient(timeout: Duration) -> reqwest::Client {
    canaryd::tls::install();
    reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(timeout).build().unwrap()
}

async fn metrics(addr: SocketAddr) -> String {
    client().get(format!("http://{addr}/metrics")).send().await.unwrap().text().await.unwrap()
}

/// The value of a series; `None` if it is not there.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|l| l.strip_prefix(series)?.trim().parse().ok())
}

/// Waits for a metric to become what it must.
async fn becomes(addr: SocketAddr, series: &str, wanted: f64) {
    let until = Instant::now() + SOON;
    while value(&metrics(addr).await, series) != Some(wanted) {
        assert!(Instant::now() < until, "{series} is not {wanted}:\n{}", metrics(addr).await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn users(target: SocketAddr, rate: f64, length: Duration) -> LoadSpec {
    LoadSpec { target, rate, length, in_flight_max: 1000, patience: SOON, seed: 1 }
}

fn wish(permille: u16, generation: u64) -> Desired {
    Desired { canary: Side::Second, weight: Weight::from_permille(permille).unwrap(), generation }
}

/// A proxy, its two services, and the proxy as the router of a rule.
async fn proxied() -> (Arc<Proxy>, [Service; 2], Arc<dyn Router>) {
    let services = [Service::start("v1", QUICK).await.unwrap(), Service::start("v2", QUICK).await.unwrap()];
    let proxy = Arc::new(Proxy::start([services[0].addr(), services[1].addr()]).await.unwrap());
    let router = router::open(&Traffic::Proxy, &Means { proxy: Some(proxy.clone()), ..Means::default() }).unwrap();
    (proxy, services, router)
}

#[tokio::test]
async fn a_service_counts_what_its_users_saw() {
    let service = Service::start("v7", Faults { error_share: 0.25, ..QUICK }).await.unwrap();
    let text = metrics(service.addr()).await;
    assert_eq!(value(&text, "http_requests_total{version=\"v7\",code=\"500\"}"), Some(0.0), "there before the first error");
    assert!(value(&text, "process_start_time_seconds").unwrap() > 1.7e9);

    let counts = Load::start(users(service.addr(), 1000.0, Duration::from_millis(400))).unwrap().finished().await;
    assert_eq!((counts.ok + counts.failed, counts.given_up, counts.skipped), (counts.sent, 0, 0));
    let (sent, failed) = (counts.sent as f64, counts.failed as f64);
    assert!((failed - 0.25 * sent).abs() < 5.0 * (sent * 0.25 * 0.75).sqrt(), "{counts:?}");
    let text = metrics(service.addr()).await;
    assert_eq!(value(&text, "http_requests_total{version=\"v7\",code=\"200\"}"), Some(counts.ok as f64));
    assert_eq!(value(&text, "http_requests_total{version=\"v7\",code=\"500\"}"), Some(failed));
    assert_eq!(value(&text, "http_request_duration_seconds_count{version=\"v7\"}"), Some(sent));
    assert_eq!(value(&text, "http_request_duration_seconds_bucket{version=\"v7\",le=\"+Inf\"}"), Some(sent));
}

#[tokio::test]
async fn a_service_says_what_it_uses() {
    let service = Service::start("v3", Faults { cpu_ms: 500.0, ..QUICK }).await.unwrap();
    let of = |text: &str, name: &str| value(text, &format!("{name}{{version=\"v3\"}}")).unwrap();
    let before = metrics(service.addr()).await;
    for _ in 0..4 {
        client().get(format!("http://{}/", service.addr())).send().await.unwrap();
    }
    let after = metrics(service.addr()).await;
    let cpu = of(&after, "process_cpu_seconds_total") - of(&before, "process_cpu_seconds_total");
    // 4 times half a second, and what it uses at rest: 2 % of a core for less than a minute
    assert!((2.0..3.2).contains(&cpu), "{cpu}");
    service.set_faults(Faults { leak: 1e12, ..QUICK });
    let began = Instant::now();
    while of(&metrics(service.addr()).await, "process_resident_memory_bytes") < 1e10 {
        assert!(began.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    service.set_faults(QUICK);
    let [lost, still] = [metrics(service.addr()).await, metrics(service.addr()).await].map(|m| of(&m, "process_resident_memory_bytes"));
    assert!(lost >= 1e10 && still == lost, "what is lost stays lost, and no more: {lost} {still}");
}

#[tokio::test]
async fn faults_are_turned_over_http_and_by_hand() {
    let service = Service::start("v1", QUICK).await.unwrap();
    let url = format!("http://{}", service.addr());
    let turn = client().post(format!("{url}/fault?err=1&lat=30")).send().await.unwrap();
    assert_eq!((turn.status(), turn.headers()["x-version"].as_bytes()), (StatusCode::OK, b"v1".as_slice()));
    assert_eq!(service.faults(), Faults { error_share: 1.0, latency_ms: 30.0, ..QUICK });
    assert_eq!(client().get(&url).send().await.unwrap().status(), StatusCode::INTERNAL_SERVER_ERROR);
    // a lognormal with median 30 ms and sigma 0.5 is above 5 ms but once in 6,000
    assert_eq!(value(&metrics(service.addr()).await, "http_request_duration_seconds_bucket{version=\"v1\",le=\"0.005\"}"), Some(0.0));
    assert_eq!(client().post(format!("{url}/fault?err=7")).send().await.unwrap().status(), StatusCode::BAD_REQUEST);
    service.set_faults(QUICK);
    assert_eq!(client().get(&url).send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn users_come_on_schedule_though_nobody_answers_and_give_up() {
    let service = Service::start("v1", Faults { hang: true, ..QUICK }).await.unwrap();
    let patience = Duration::from_millis(100);
    let spec = LoadSpec { patience, ..users(service.addr(), 500.0, Duration::from_millis(600)) };
    let counts = Load::start(spec.clone()).unwrap().finished().await;
    assert_eq!((counts.given_up, counts.ok, counts.failed, counts.skipped), (counts.sent, 0, 0, 0));
    assert!((counts.sent as f64 - 300.0).abs() < 5.0 * 300_f64.sqrt(), "{counts:?}");
    // the same schedule, with less room
    let crowded = Load::start(LoadSpec { in_flight_max: 3, ..spec }).unwrap().finished().await;
    assert_eq!(crowded.sent + crowded.skipped, counts.sent);
    assert!(crowded.skipped > 0 && crowded.given_up == crowded.sent, "{crowded:?}");
}

#[tokio::test]
async fn a_stopped_service_cuts_its_users_and_answers_nobody() {
    let service = Service::start("v1", Faults { hang: true, ..QUICK }).await.unwrap();
    let load = Load::start(users(service.addr(), 100.0, SOON)).unwrap();
    let until = Instant::now() + SOON;
    while load.counts().sent < 5 {
        assert!(Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    service.stop().await;
    let counts = load.stop().await;
    assert_eq!((counts.failed, counts.given_up), (counts.sent, 0));
    assert!(client().get(format!("http://{}/", service.addr())).send().await.unwrap_err().is_connect());
}

#[tokio::test]
async fn the_proxy_splits_exactly_and_counts_as_envoy_does() {
    let (proxy, services, router) = proxied().await;
    let (client, url) = (client(), format!("http://{}/any?x=1", proxy.addr()));
    let mut sent_to_second = 0.0;
    for (generation, permille) in (1..).zip([0_u16, 125, 500, 1000]) {
        router.write(wish(permille, generation)).await.unwrap();
        let reading = router.read(Side::First).await.unwrap();
        assert_eq!((reading.weight.permille(), reading.generation), (1000 - permille, Some(generation)));
        let mut second = 0;
        for _ in 0..200 {
            let answer = client.get(&url).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            second += u16::from(answer.headers()["x-version"] == "v2");
        }
        assert_eq!(second, permille / 5);
        sent_to_second += f64::from(second);
    }
    let text = metrics(proxy.admin_addr()).await;
    let of = |name: &str, version: &str| value(&text, &name.replace('$', version));
    let rq = "envoy_cluster_upstream_rq{envoy_response_code=\"200\",envoy_cluster_name=\"$\"}";
    assert_eq!((of(rq, "v1"), of(rq, "v2")), (Some(800.0 - sent_to_second), Some(sent_to_second)), "{text}");
    assert_eq!(of("envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name=\"$\",le=\"+Inf\"}", "v2"), Some(sent_to_second));
    assert_eq!(of("envoy_cluster_upstream_cx_destroy_local_with_active_rq{envoy_cluster_name=\"$\"}", "v2"), Some(0.0));
    assert!(!text.contains("envoy_response_code=\"503\"") && text.contains("le=\"3600000\""));
    assert!(value(&text, "envoy_server_uptime{}").is_some());

    let stale = router.write(wish(10, 3)).await.unwrap_err();
    assert!(matches!(stale, RouterError::Refused { .. }), "{stale}");
    assert_eq!(router.read(Side::Second).await.unwrap().weight, Weight::FULL);
    drop(services);
}

#[tokio::test]
async fn a_dead_backend_gives_503_and_a_hanging_one_counts_who_left() {
    let (proxy, services, router) = proxied().await;
    let url = format!("http://{}/", proxy.addr());
    router.write(wish(1000, 1)).await.unwrap();
    services[1].set_faults(Faults { hang: true, ..QUICK });
    // long enough to get there on any machine
    let impatient = patient(Duration::from_secs(1));
    assert!(impatient.get(&url).send().await.unwrap_err().is_timeout());
    becomes(proxy.admin_addr(), "envoy_cluster_upstream_cx_destroy_local_with_active_rq{envoy_cluster_name=\"v2\"}", 1.0).await;
    assert!(!metrics(proxy.admin_addr()).await.contains("envoy_response_code"), "one who left is in no code");

    services[1].stop().await;
    assert_eq!(client().get(&url).send().await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    becomes(proxy.admin_addr(), "envoy_cluster_upstream_rq{envoy_response_code=\"503\",envoy_cluster_name=\"v2\"}", 1.0).await;
    let text = metrics(proxy.admin_addr()).await;
    assert_eq!(value(&text, "envoy_cluster_upstream_rq_time_count{envoy_cluster_name=\"v2\"}"), Some(0.0), "no time without an answer");

    router.write(wish(0, 2)).await.unwrap();
    assert_eq!(client().get(&url).send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_stopped_proxy_lets_requests_end_and_takes_no_more() {
    let (proxy, services, _router) = proxied().await;
    services[0].set_faults(Faults { latency_ms: 100.0, ..QUICK });
    let load = Load::start(users(proxy.addr(), 200.0, SOON)).unwrap();
    let until = Instant::now() + SOON;
    // from the first answer on, there are always some twenty under way
    while load.counts().ok < 1 {
        assert!(Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let before = load.counts();
    let (_, counts) = tokio::join!(proxy.stop(), load.stop());
    assert!(counts.ok > before.ok, "{before:?} {counts:?}");
    assert!(client().get(format!("http://{}/", proxy.addr())).send().await.unwrap_err().is_connect());
}

#[test]
fn outside_the_demo_there_is_no_such_proxy() {
    assert!(router::open(&Traffic::Proxy, &Means::default()).unwrap_err().to_string().contains("canaryd demo"));
    assert!(
        router::open(&Traffic::Other("feature-flag".to_owned()), &Means::default()).unwrap_err().to_string().contains("no such router")
    );
    assert_eq!(router::open(&Traffic::None, &Means::default()).unwrap().name(), "none");
}
