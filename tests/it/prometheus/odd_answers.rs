//! What a real server cannot be made to say, said by a scripted one.

use super::{counts, envoy, runtime, source, tick};
use crate::scripted::{Scripted, answer, vector};
use axum::body::Body;
use axum::http::Response;
use canaryd::model::{Arm, Blind, rule};
use canaryd::source::{Allowance, Auth, Prometheus, PrometheusSettings, Source};
use futures_util::StreamExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// Rows of an envoy pack for clusters v1 and v2, `n` requests each.
fn envoy_rows(query: &str, n: f64, clusters: &[String]) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs_f64();
    let extra = if query.contains("upstream_rq_time_bucket") { r#","le":"+Inf""# } else { "" };
    let value = if query.contains("timestamp(") { now } else { n };
    let row = |c: &String| (format!(r#""envoy_cluster_name":"{c}","job":"j","instance":"i"{extra}"#), value);
    vector(&clusters.iter().map(row).collect::<Vec<_>>())
}

fn two() -> Vec<String> {
    vec!["v1".to_owned(), "v2".to_owned()]
}

async fn blindness(script: impl Fn(&str) -> Response<Body> + Send + Sync + 'static) -> (Option<Blind>, String) {
    let server = Scripted::start(script).await;
    let mut settings = PrometheusSettings::new("prom", &server.url);
    settings.timeout = Duration::from_secs(20);
    let mut source = Prometheus::new(settings).expect("settings");
    let mut wanted = envoy(1, "t", "v1", "v2");
    wanted.wants.buckets = false;
    source.subscribe(wanted, Vec::new());
    let sample = source.tick(tick(0)).await.remove(0);
    assert_eq!(sample.missing.baseline, sample.missing.canary, "{sample:?}");
    (sample.missing.canary, sample.detail)
}

#[test]
fn an_answer_with_warnings_is_blindness() {
    runtime().block_on(async {
        let whole = blindness(|query| answer(200, envoy_rows(query, 5.0, &two()))).await;
        assert_eq!(whole, (None, String::new()), "the same rows without a warning are read");
        let script = |query: &str| {
            answer(200, envoy_rows(query, 5.0, &two()).replace(r#""data""#, r#""warnings":["store 10.0.0.7 is unavailable"],"data""#))
        };
        let (why, words) = blindness(script).await;
        assert_eq!(why, Some(Blind::SourceDown));
        assert!(words.contains("store 10.0.0.7 is unavailable"), "{words}");
    });
}

#[test]
fn a_proxys_page_a_wrong_clock_and_silence_are_told_apart() {
    runtime().block_on(async {
        let (why, words) = blindness(|_| answer(502, "<html><h1>502 Bad Gateway</h1></html>")).await;
        assert_eq!((why, words.contains("502 Bad Gateway")), (Some(Blind::SourceDown), true), "{words}");
        let script = |query: &str| {
            let mut late = answer(200, envoy_rows(query, 5.0, &two()));
            late.headers_mut().insert("date", "Sat, 01 Jan 2022 00:00:00 GMT".parse().expect("date"));
            late
        };
        let (why, words) = blindness(script).await;
        assert_eq!(why, Some(Blind::Clock), "{words}");
        let mut source = source("http://127.0.0.1:1");
        source.subscribe(envoy(1, "t", "v1", "v2"), Vec::new());
        let sample = source.tick(tick(0)).await.remove(0);
        assert_eq!(sample.missing.canary, Some(Blind::SourceDown));
        assert!(sample.detail.to_lowercase().contains("refused"), "{}", sample.detail);
    });
}

#[test]
fn half_an_answer_a_redirect_and_other_contents_are_told_apart() {
    runtime().block_on(async {
        let typed = |kind: &str, body: String| {
            let mut answer = answer(200, body);
            answer.headers_mut().insert("content-type", kind.parse().expect("type"));
            answer
        };
        let page = blindness(move |_| typed("text/html; charset=utf-8", "<html>please log in</html>".to_owned())).await;
        assert!(page.1.contains("HTTP 200 (text/html): <html>please log in</html>"), "{page:?}");
        let half = |query: &str| {
            let whole = envoy_rows(query, 5.0, &two());
            answer(200, whole[..whole.len() - 9].to_owned())
        };
        let cut = blindness(half).await;
        assert!(cut.1.contains("the body is no answer of this API (EOF while parsing"), "{cut:?}");
        let broken = |query: &str| {
            let rows = envoy_rows(query, 5.0, &two());
            let mut answer = answer(200, "");
            // the first half, then the end of the connection; at once, not even the first half would leave
            let pieces = futures_util::stream::once(async move { Ok(rows) }).chain(futures_util::stream::once(async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Err(std::io::Error::other("gone"))
            }));
            *answer.body_mut() = Body::from_stream(pieces);
            answer
        };
        let broken = blindness(broken).await;
        assert!(broken.1.contains("the answer broke off after"), "{broken:?}");
        let elsewhere = |_: &str| {
            let mut answer = answer(302, "");
            answer.headers_mut().insert("location", "https://login.example.com/in?state=SECRET".parse().expect("address"));
            answer
        };
        let redirected = blindness(elsewhere).await;
        assert!(redirected.1.contains("HTTP 302 redirects to https://login.example.com/in: set the source's url"), "{redirected:?}");
        assert!(!redirected.1.contains("SECRET"));
        let matrix = |query: &str| answer(200, envoy_rows(query, 5.0, &two()).replace("vector", "matrix"));
        assert_eq!(blindness(matrix).await.0, Some(Blind::QueryRejected));
        for blind in [page, cut, broken, redirected] {
            assert_eq!(blind.0, Some(Blind::SourceDown), "{blind:?}");
        }
    });
}

/// A store that is down behind Thanos: nothing, and a warning.
#[test]
fn an_empty_answer_with_a_warning_is_not_no_data() {
    runtime().block_on(async {
        let partial =
            r#"{"status":"success","data":{"resultType":"vector","result":[]},"warnings":["No StoreAPIs matched for this query"]}"#;
        let (why, words) = blindness(move |_| answer(200, partial)).await;
        assert_eq!(why, Some(Blind::SourceDown));
        assert!(words.contains("the answer is incomplete: No StoreAPIs matched"), "{words}");
        assert_eq!(blindness(|_| answer(200, vector(&[]))).await.0, Some(Blind::NoSeries));
    });
}

/// A token that is not taken: whose file, never which token; read again at once.
#[test]
fn a_wrong_token_is_named_by_its_file() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("folder");
        let file = dir.path().join("token");
        std::fs::write(&file, "WRONG-TOKEN").expect("token");
        let app = axum::Router::new().fallback(move |request: axum::extract::Request| async move {
            match request.headers().get("authorization").and_then(|v| v.to_str().ok()) {
                Some("Bearer RIGHT-TOKEN") => answer(200, vector(&[])),
                _ => answer(401, "Unauthorized"),
            }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        let settings = PrometheusSettings { auth: Auth::BearerTokenFile(file.clone()), ..PrometheusSettings::new("prom", url) };
        let mut source = Prometheus::new(settings).expect("settings");
        source.subscribe(envoy(1, "t", "v1", "v2"), vec![5.0]);
        let sample = source.tick(tick(0)).await.remove(0);
        assert_eq!(sample.missing.canary, Some(Blind::SourceDown));
        let named = format!("HTTP 401: Unauthorized: the token in {} is not taken", file.display());
        assert!(sample.detail.contains(&named) && !sample.detail.contains("WRONG"), "{}", sample.detail);
        std::fs::write(&file, "RIGHT-TOKEN").expect("token");
        assert_eq!(source.tick(tick(1)).await.remove(0).missing.canary, Some(Blind::NoSeries));
    });
}

#[test]
fn an_endless_answer_is_stopped_at_the_limit() {
    runtime().block_on(async {
        let sent = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&sent);
        let script = move |_: &str| {
            let count = Arc::clone(&count);
            // 200 MB in pieces of 64 kB, counted as they leave
            let pieces = futures_util::stream::iter((0..3200).map(move |_| {
                count.fetch_add(1 << 16, Ordering::Relaxed);
                Ok::<_, std::io::Error>(vec![b' '; 1 << 16])
            }));
            answer(200, Body::from_stream(pieces))
        };
        let (why, words) = blindness(script).await;
        assert_eq!(why, Some(Blind::QueryRejected));
        assert!(words.contains("larger than 33554432 bytes"), "{words}");
        // two of the set-up (how many rows?) and the three of the tick, each stopped soon after 32 MB
        assert!(sent.load(Ordering::Relaxed) < 5 * (48 << 20), "{} bytes were sent", sent.load(Ordering::Relaxed));
    });
}

#[test]
fn the_guilty_of_many_is_found_by_halving_and_kept_out() {
    runtime().block_on(async {
        let clusters: Vec<String> = (0..20).flat_map(|i| [format!("b{i}"), format!("c{i}")]).collect();
        let script = move |query: &str| {
            if query.contains("c13") {
                return answer(422, r#"{"status":"error","errorType":"execution","error":"found duplicate series for c13"}"#);
            }
            answer(200, envoy_rows(query, 5.0, &clusters))
        };
        let server = Scripted::start(script).await;
        let mut source = source(&server.url);
        for i in 0..20 {
            let mut wanted = envoy(i, "t", &format!("b{i}"), &format!("c{i}"));
            wanted.wants.buckets = false;
            source.subscribe(wanted, Vec::new());
        }
        let samples = source.tick(tick(0)).await;
        for sample in &samples {
            let expected = (sample.key == 13).then_some(Blind::QueryRejected);
            assert_eq!(sample.missing.canary, expected, "{sample:?}");
        }
        assert!(samples[13].detail.contains("found duplicate series for c13"), "{}", samples[13].detail);
        let before = server.asked().len();
        let samples = source.tick(tick(1)).await;
        assert_eq!(samples[13].missing.canary, Some(Blind::QueryRejected), "still told why while it is left out");
        assert!(server.asked()[before..].iter().all(|q| !q.contains("c13")), "it is not asked again");
        assert_eq!(server.asked().len() - before, 3, "one batch again: requests, abandoned, times");
        source.tick(tick(1) + Duration::from_secs(301)).await;
        assert!(server.asked().iter().rev().take(60).any(|q| q.contains("c13")), "after five minutes it gets another chance");
    });
}

/// The rule's own query was valid at the start: what the server says of it later is told, and blinds its gauge alone.
#[test]
fn the_servers_words_about_a_gauge_are_told() {
    runtime().block_on(async {
        let script = |query: &str| match query.contains("queue_depth") {
            true => answer(422, r#"{"status":"error","errorType":"execution","error":"many-to-many matching not allowed"}"#),
            false if query.ends_with(']') => answer(200, r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#),
            false => answer(200, envoy_rows(query, 5.0, &two())),
        };
        let server = Scripted::start(script).await;
        let mut source = source(&server.url);
        let mut wanted = envoy(1, "t", "v1", "v2");
        wanted.wants.buckets = false;
        wanted.custom_gauges = vec![rule::CustomGauge { query: "avg(queue_depth{{{workload}}})".into(), lower_is_worse: false }];
        let told = |e: &str| e.contains("many-to-many matching not allowed") && e.contains("avg(queue_depth{envoy_cluster_name");
        let refused = source.set_up(&wanted, tick(0)).await.expect_err("refused at the start already").to_string();
        assert!(told(&refused), "{refused}");

        source.subscribe(wanted, Vec::new());
        let sample = source.tick(tick(0)).await.remove(0);
        assert_eq!(sample.missing.canary, None, "{sample:?}");
        assert_eq!(sample.arms.canary.custom_gauges.as_slice(), [Err(Blind::QueryRejected)]);
        assert!(told(&sample.detail), "{}", sample.detail);
    });
}

#[test]
fn a_server_that_asks_for_a_pause_gets_it() {
    runtime().block_on(async {
        let script = |_: &str| {
            let mut busy = answer(503, "busy");
            busy.headers_mut().insert("retry-after", "30".parse().expect("seconds"));
            busy
        };
        let server = Scripted::start(script).await;
        let mut settings = PrometheusSettings::new("prom", &server.url);
        settings.allowance = Arc::new(Allowance::new(600, 1));
        let mut source = Prometheus::new(settings).expect("settings");
        let mut wanted = envoy(1, "t", "v1", "v2");
        wanted.wants.buckets = false;
        source.subscribe(wanted, Vec::new());
        source.tick(tick(0)).await;
        source.tick(tick(1)).await;
        assert_eq!(server.asked().len(), 1, "nothing is asked during the pause");
    });
}

#[test]
fn a_histogram_in_native_form_only_is_named() {
    runtime().block_on(async {
        let script = |query: &str| {
            let native = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"envoy_cluster_upstream_rq_time"},"value":[1,"2"]}]}}"#;
            match query {
                q if q.contains("count by (__name__)") => answer(200, native),
                q if q.contains("upstream_rq_time_bucket") => answer(200, vector(&[])),
                q => answer(200, envoy_rows(q, 5.0, &two())),
            }
        };
        let server = Scripted::start(script).await;
        let mut source = source(&server.url);
        source.subscribe(envoy(1, "t", "v1", "v2"), vec![5.0]);
        let sample = source.tick(tick(0)).await.remove(0);
        assert_eq!((sample.arms.canary.buckets, sample.missing.canary), (Err(Blind::NativeHistogramOnly), None));
    });
}

#[test]
fn credentials_tenants_and_a_path_prefix_reach_the_server() {
    runtime().block_on(async {
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&seen);
        let app = axum::Router::new().fallback(move |request: axum::extract::Request| {
            let header = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or("-").to_owned();
            let line = format!("{} {} {}", request.uri().path(), header("authorization"), header("x-scope-orgid"));
            let log = Arc::clone(&log);
            async move {
                let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap_or_default();
                log.lock().expect("log").push(format!("{line} {}", String::from_utf8_lossy(&body)));
                answer(200, vector(&[]))
            }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
        let url = format!("http://{}/prom/", listener.local_addr().expect("address"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        let dir = tempfile::tempdir().expect("folder");
        let token = dir.path().join("token");
        std::fs::write(&token, "one\n").expect("token");
        let mut settings = PrometheusSettings::new("prom", url);
        settings.auth = Auth::BearerTokenFile(token.clone());
        settings.headers = vec![("X-Scope-OrgID".to_owned(), "team-a".to_owned())];
        settings.params = vec![("partial_response".to_owned(), "false".to_owned())];
        let mut source = Prometheus::new(settings).expect("settings");
        let mut wanted = envoy(1, "t", "v1", "v2");
        wanted.wants.buckets = false;
        source.subscribe(wanted, Vec::new());
        source.tick(tick(0)).await;
        std::fs::write(&token, "two\n").expect("token");
        source.tick(tick(1)).await;
        let seen = seen.lock().expect("log").clone();
        assert!(seen[0].starts_with("/prom/api/v1/query Bearer one team-a "), "{seen:?}");
        assert!(seen.iter().all(|line| line.contains("partial_response=false")), "{seen:?}");
        assert!(seen.last().is_some_and(|line| line.contains("Bearer two")), "a token is read anew: {seen:?}");
    });
}

#[test]
fn a_tick_given_up_halfway_is_not_counted_twice() {
    runtime().block_on(async {
        let (stuck, served) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (hang, total) = (Arc::clone(&stuck), Arc::clone(&served));
        let script = move |query: &str| {
            if query.contains("timestamp(") && hang.load(Ordering::Relaxed) == 1 {
                return answer(200, Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>()));
            }
            answer(200, envoy_rows(query, total.load(Ordering::Relaxed) as f64, &two()))
        };
        let server = Scripted::start(script).await;
        let mut source = source(&server.url);
        let mut wanted = envoy(1, "t", "v1", "v2");
        wanted.wants.buckets = false;
        source.subscribe(wanted, Vec::new());
        let mut tick_with = async |n: u32, stuck_now: usize, total: usize| {
            stuck.store(stuck_now, Ordering::Relaxed);
            served.store(total, Ordering::Relaxed);
            let patience = if stuck_now == 1 { Duration::from_millis(300) } else { Duration::from_secs(20) };
            tokio::time::timeout(patience, source.tick(tick(n))).await
        };
        assert!(tick_with(0, 0, 100).await.is_ok());
        assert!(tick_with(1, 1, 150).await.is_err(), "the server never ends its answer");
        let sample = tick_with(2, 0, 180).await.expect("in time").remove(0);
        assert_eq!(counts(&sample, Arm::Canary), Some((80.0, 0.0)));
    });
}
