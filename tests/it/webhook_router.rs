//! The webhook router against an endpoint on a real socket: as the contract asks for it, and as endpoints are.

use crate::rig::endpoint::{Asked, Endpoint, Reply};
use crate::rig::ports;
use crate::rig::router::Waited;
use canaryd::model::rule::{Traffic, WebhookRouter};
use canaryd::model::{Retry, Side, TrafficReading, Weight};
use canaryd::router::{self, Desired, Means, RouterError};
use parking_lot::Mutex;
use serde_json::json;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

/// Of a call: long enough for a busy machine.
const TIMEOUT: Duration = Duration::from_millis(2500);

fn settings(url: &str) -> WebhookRouter {
    let workloads = ["v1".to_owned(), "v2".to_owned()];
    WebhookRouter { rule: "shop".to_owned(), workloads, url: url.to_owned(), read_url: None, token_file: None, timeout: TIMEOUT }
}

fn opened(settings: WebhookRouter) -> Waited {
    Waited::new(router::open(&Traffic::Webhook(settings), &Means::default()).unwrap())
}

fn router_of(endpoint: &Endpoint) -> Waited {
    opened(settings(&format!("{}/split", endpoint.url)))
}

fn weight(permille: u16) -> Weight {
    Weight::from_permille(permille).unwrap()
}

fn wish(permille: u16, generation: u64) -> Desired {
    Desired { canary: Side::Second, weight: weight(permille), generation }
}

fn posts(endpoint: &Endpoint) -> Vec<Asked> {
    endpoint.asked().into_iter().filter(|asked| asked.line.starts_with("POST ")).collect()
}

#[test]
fn every_weight_is_told_and_read_back_for_either_side() {
    let shifted = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&shifted);
    let endpoint = Endpoint::keeper(move |second| seen.lock().push(second));
    let router = router_of(&endpoint);
    assert_eq!(router.read(Side::Second).unwrap(), TrafficReading::new(Weight::ZERO, None, None));
    assert_eq!(router.read(Side::First).unwrap().weight, Weight::FULL);
    for (generation, permille) in (1..).zip([1, 125, 1000, 0]) {
        router.write(wish(permille, generation)).unwrap();
        let reading = TrafficReading::new(weight(permille), Some(generation), None);
        assert_eq!(router.read(Side::Second).unwrap(), reading);
    }
    router.write(Desired { canary: Side::First, weight: weight(50), generation: 5 }).unwrap();
    assert_eq!(router.read(Side::First).unwrap().weight, weight(50));
    assert_eq!(*shifted.lock(), [1, 125, 1000, 0, 950]);
}

#[test]
fn what_is_sent_is_what_the_contract_says() {
    let endpoint = Endpoint::keeper(|_| {});
    let mut token = tempfile::NamedTempFile::new().unwrap();
    writeln!(token, "secret-1").unwrap();
    let with = WebhookRouter { token_file: Some(token.path().to_owned()), ..settings(&format!("{}/split?service=shop", endpoint.url)) };
    let router = opened(with);
    router.write(wish(125, 7)).unwrap();
    let asked = endpoint.asked();
    let lines: Vec<&str> = asked.iter().map(|a| a.line.as_str()).collect();
    let get = "GET /split?service=shop&canary=v2";
    assert_eq!(lines, [get, "POST /split?service=shop", get]);
    assert_eq!(asked[1].header("content-type"), Some("application/json"));
    assert!(asked.iter().all(|a| a.header("authorization") == Some("Bearer secret-1") && a.header("accept") == Some("application/json")));
    let body = json!({
        "rule": "shop", "canary": "v2", "baseline": "v1", "weight-permille": 125, "weight-percent": 12.5, "baseline-permille": 875,
        "generation": 7,
    });
    assert_eq!(asked[1].body, body);

    // what stands there already is not told again; the same wish after another hand has the same key, another wish another
    router.write(wish(125, 7)).unwrap();
    assert_eq!(posts(&endpoint).len(), 1);
    endpoint.answer({
        let mut posted = false;
        move |asked| {
            posted |= asked.line.starts_with("POST ");
            Reply::new(200, json!({ "weight-percent": if posted { 12.5 } else { 70.0 }, "writer": "somebody" }))
        }
    });
    let theirs = TrafficReading::new(weight(700), None, Some("somebody".to_owned()));
    assert_eq!(router.read(Side::Second).unwrap(), theirs);
    std::fs::write(token.path(), "secret-2\n").unwrap();
    router.write(wish(125, 7)).unwrap();
    router.write(wish(125, 8)).unwrap();
    let posts = posts(&endpoint);
    let keys: Vec<&str> = posts.iter().map(|a| a.header("idempotency-key").unwrap()).collect();
    assert_eq!(keys[0], keys[1]);
    assert!(keys[0].starts_with("canaryd-") && keys[0].ends_with("-7") && keys[1] != keys[2], "{keys:?}");
    assert_eq!(posts[1].header("authorization"), Some("Bearer secret-2"), "tokens rotate");
    let other = router_of(&endpoint);
    other.write(wish(125, 7)).unwrap();
    assert_ne!(self::posts(&endpoint).last().unwrap().header("idempotency-key"), Some(keys[0]), "another rollout's wish is another");
}

#[test]
fn a_stale_writer_moves_nothing() {
    let endpoint = Endpoint::keeper(|_| {});
    let router = router_of(&endpoint);
    router.write(wish(50, 8)).unwrap();
    let error = router.write(wish(900, 7)).unwrap_err();
    let stale = matches!(&error, RouterError::Refused { why, .. } if why == "generation 8 is there, newer than this write's 7: another canaryd moves this traffic");
    assert!(stale, "{error}");
    assert_eq!(posts(&endpoint).len(), 1, "it was not even asked");

    // an endpoint that tells no generation may refuse itself
    endpoint.answer(|asked| match asked.line.starts_with("POST ") {
        true => Reply::new(409, "a newer\n\tweight is there"),
        false => Reply::new(200, json!({ "weight-permille": 50 })),
    });
    let error = router.write(wish(900, 7)).unwrap_err();
    let words = format!("webhook {}/split refused the change: POST answered 409 Conflict: a newer weight is there", endpoint.url);
    assert_eq!((error.to_string(), error.retry()), (words, Retry::OnChange));
}

#[test]
fn what_was_taken_and_does_not_show_is_told_with_both_values() {
    let endpoint = Endpoint::start(|asked| match asked.line.starts_with("POST ") {
        true => Reply::new(204, ""),
        false => Reply::new(200, json!({ "weight-permille": 50, "generation": 3 })),
    });
    let router = router_of(&endpoint);
    let error = router.write(wish(125, 4)).unwrap_err();
    let not_verified =
        matches!(&error, RouterError::NotVerified { why, .. } if why == "it answers 5% (generation 3) and not 12.5% (generation 4)");
    assert!(not_verified, "{error}");
    assert!(matches!(error.retry(), Retry::After(_)));
    // the weight alone is not enough where the generation is that of an older wish
    let error = router.write(wish(50, 4)).unwrap_err();
    assert!(error.to_string().contains("it answers 5% (generation 3) and not 5% (generation 4)"), "{error}");

    // one that takes a moment
    let mut gets = 0;
    endpoint.answer(move |asked| {
        gets += u32::from(asked.line.starts_with("GET "));
        Reply::new(200, json!({ "weight-permille": if gets > 3 { 125 } else { 50 } }))
    });
    router.write(wish(125, 5)).unwrap();
}

#[test]
fn a_status_that_is_no_success_is_told_and_tried_again_only_where_time_mends_it() {
    let endpoint = Endpoint::start(|_| Reply::new(200, "{}"));
    let router = router_of(&endpoint);
    let second = Retry::After(Duration::from_secs(1));
    for (status, retry, reason, words) in [
        (400, Retry::OnChange, "refused", "refused the change: POST answered 400 Bad Request: no such service"),
        (401, Retry::OnChange, "refused", "refused the change: POST answered 401 Unauthorized: no such service (check token-file)"),
        (404, Retry::OnChange, "refused", "refused the change: POST answered 404 Not Found: no such service"),
        (302, Retry::OnChange, "object", "POST answered 302 Found: redirects are not followed, write the address it leads to"),
        (307, Retry::OnChange, "object", "redirects are not followed"),
        (408, second, "busy", "POST answered 408 Request Timeout: no such service"),
        (429, Retry::After(Duration::from_secs(7)), "busy", "POST answered 429 Too Many Requests"),
        (500, second, "busy", "POST answered 500 Internal Server Error"),
        (503, Retry::After(Duration::from_secs(60)), "busy", "POST answered 503 Service Unavailable"),
    ] {
        endpoint.answer(move |asked| {
            let reply = if asked.line.starts_with("GET ") {
                Reply::new(200, r#"{"weight-permille":0}"#)
            } else {
                Reply::new(status, "no such service")
            };
            match status {
                302 | 307 => reply.header("location", "/elsewhere"),
                429 => reply.header("retry-after", "7"),
                503 => reply.header("retry-after", "86400"),
                _ => reply.header("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT"),
            }
        });
        let error = router.write(wish(100, 1)).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!((error.retry(), error.reason()), (retry, reason), "{error}");
    }
    assert!(endpoint.asked().iter().all(|a| !a.line.contains("elsewhere")), "a redirect was followed");
    // the same of the question
    for (status, retry, words) in [(404, Retry::OnChange, "GET answered 404 Not Found: gone"), (500, second, "GET answered 500")] {
        endpoint.answer(move |_| Reply::new(status, "gone"));
        for error in [router.read(Side::Second).unwrap_err(), router.write(wish(100, 1)).unwrap_err()] {
            assert!(error.to_string().contains(words), "{error}");
            assert_eq!(error.retry(), retry, "{error}");
        }
    }
    assert!(posts(&endpoint).len() == 9, "more is not told while nobody could see whether it came true");
    router.write(wish(0, 2)).unwrap_err();
    assert_eq!(posts(&endpoint).len(), 10, "the canary is taken off all the same");
}

#[test]
fn an_answer_that_is_none_is_told_with_its_place() {
    let endpoint = Endpoint::start(|_| Reply::new(200, ""));
    let router = router_of(&endpoint);
    let long = format!("{{\"writer\": \"{}\"}}", "x".repeat(70_000));
    for (body, words) in [
        ("", "GET answers no such JSON: EOF while parsing a value at line 1 column 0"),
        ("ok", "GET answers no such JSON: expected value at line 1 column 1"),
        ("{\n \"weight-permille\": \"125\"}", "GET answers no such JSON: invalid type: string \"125\", expected f64 at line 2 column 25"),
        ("{\"weight-permille\": 125", "GET answers no such JSON: EOF while parsing an object at line 1 column 23"),
        ("{\"weight-permille\": 1, \"generation\": -1}", "GET answers no such JSON: invalid value: integer `-1`, expected u64"),
        ("{\"weight\": 125}", "GET answers neither weight-permille nor weight-percent"),
        ("{\"weight-permille\": 1001}", "GET answers a weight of 100.1%, which is not between 0% and 100%"),
        ("{\"weight-percent\": -0.1}", "GET answers a weight of -0.1%, which is not between 0% and 100%"),
        ("{\"weight-permille\": 125, \"weight-percent\": 20}", "GET answers weight-permille 125 and weight-percent 20, which differ"),
        ("{\"canary\": \"v3\", \"weight-percent\": 20}", "GET answers the weight of \"v3\", which is neither \"v1\" nor \"v2\""),
        (long.as_str(), "answers more than 65536 bytes"),
    ] {
        let body = body.to_owned();
        endpoint.answer(move |_| Reply::new(200, &body));
        let error = router.read(Side::Second).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    for (body, permille) in [
        (json!({ "weight-percent": 12.5 }), 125),
        (json!({ "weight-permille": 125.0, "weight-percent": 12.5, "more": [1] }), 125),
        (json!({ "weight-percent": 0.01 }), 1),
        (json!({ "weight-percent": 99.99 }), 999),
        (json!({ "canary": "v1", "weight-percent": 80 }), 200),
    ] {
        endpoint.answer(move |_| Reply::new(200, &body));
        assert_eq!(router.read(Side::Second).unwrap().weight, weight(permille));
    }
}

#[test]
fn an_endpoint_that_hangs_or_is_gone_is_told() {
    let mut endpoint = Endpoint::start(|_| Reply::new(200, "{}").after(Duration::from_secs(20)));
    let hasty = opened(WebhookRouter { timeout: Duration::from_millis(300), ..settings(&endpoint.url) });
    let error = hasty.read(Side::Second).unwrap_err();
    assert!(matches!(&error, RouterError::Unreachable { cause, .. } if cause == "no answer within 0.3 s"), "{error}");
    endpoint.die();
    let router = opened(settings(&format!("http://127.0.0.1:{}/x?key=secret", ports::free())));
    for error in [router.read(Side::Second).unwrap_err(), router.write(wish(0, 1)).unwrap_err()] {
        assert!(matches!(&error, RouterError::Unreachable { cause, .. } if cause.contains("refused")), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
        assert!(matches!(error.retry(), Retry::After(_)));
    }
}

#[test]
fn two_addresses_and_a_token_that_is_none() {
    let (told, asked) = (Endpoint::start(|_| Reply::new(200, "")), Endpoint::start(|_| Reply::new(200, r#"{"weight-percent":10}"#)));
    let two = WebhookRouter { read_url: Some(format!("{}/now", asked.url)), ..settings(&told.url) };
    opened(two.clone()).write(wish(100, 1)).unwrap();
    assert_eq!(told.asked().len(), 1);
    assert_eq!(asked.asked()[0].line, "GET /now?canary=v2");

    let folder = tempfile::tempdir().unwrap();
    for (name, text, words) in
        [("empty", Some(" \n"), "holds no token"), ("two", Some("a\nb"), "holds no token"), ("gone", None, "No such file")]
    {
        let file = folder.path().join(name);
        if let Some(text) = text {
            std::fs::write(&file, text).unwrap();
        }
        let error = opened(WebhookRouter { token_file: Some(file), ..two.clone() }).write(wish(100, 1)).unwrap_err();
        assert!(matches!(&error, RouterError::Object { what, why } if what.ends_with(name) && why.contains(words)), "{error}");
    }
    for (url, read_url, words) in [
        ("ftp://a/b", None, "url is no http:// or https:// address"),
        ("http://me:secret@a/b", None, "url is no http:// or https:// address without user and password"),
        ("http://a", Some("nonsense"), "read-url is no address"),
    ] {
        let wrong = WebhookRouter { read_url: read_url.map(str::to_owned), ..settings(url) };
        let error = router::open(&Traffic::Webhook(wrong), &Means::default()).unwrap_err().to_string();
        assert!(error.contains(words) && !error.contains("secret"), "{error}");
    }
    let secret = router::open(&Traffic::Webhook(settings("https://a.example.com:8443/x?key=secret")), &Means::default()).unwrap();
    assert_eq!(format!("{secret:?}"), "Webhook { url: \"https://a.example.com:8443/x\", .. }");
}
