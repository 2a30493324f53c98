//! Against a server of bytes, which does what no decent one would.

use super::*;
use crate::model::rule::OnHookFail;
use crate::model::{Action, Hold, Side, State, Timestamp, Waiting};
use crate::runtime::parts::tests::rule;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Longest anything here may take.
const PATIENT: Duration = Duration::from_secs(30);

/// What the server does with a connection once it has read the request.
#[derive(Clone, Debug)]
enum Act {
    /// Says this and closes.
    Say(String),
    /// Says this and then blanks, as many, as far as the other side takes them.
    SayMuch(String, usize),
    /// Nothing, until the other side leaves.
    Hang,
}

fn answer(status: &str, body: &str) -> Act {
    Act::Say(format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
}

/// One connection's request, and how it ended.
struct Server {
    url: String,
    requests: mpsc::UnboundedReceiver<String>,
    left: mpsc::UnboundedReceiver<()>,
}

impl Server {
    /// Acts one after the other; the last is repeated.
    async fn start(acts: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/gate?token=s3cr3t", listener.local_addr().unwrap());
        let ((seen, requests), (gone, left)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        tokio::spawn(async move {
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let act = acts[number.min(acts.len() - 1)].clone();
                tokio::spawn(serve(stream, act, seen.clone(), gone.clone()));
            }
        });
        Self { url, requests, left }
    }

    async fn request(&mut self) -> String {
        tokio::time::timeout(PATIENT, self.requests.recv()).await.expect("asked in time").unwrap()
    }
}

async fn serve(mut stream: TcpStream, act: Act, seen: mpsc::UnboundedSender<String>, gone: mpsc::UnboundedSender<()>) {
    let mut request = String::new();
    let mut piece = [0; 4096];
    while !whole(&request) {
        let n = stream.read(&mut piece).await.unwrap();
        request.push_str(std::str::from_utf8(&piece[..n]).unwrap());
    }
    seen.send(request).unwrap();
    match act {
        Act::Say(text) => stream.write_all(text.as_bytes()).await.unwrap(),
        Act::SayMuch(head, bytes) => {
            stream.write_all(head.as_bytes()).await.unwrap();
            // the other side may leave before the end
            let _ = stream.write_all(&vec![b' '; bytes]).await;
        }
        Act::Hang => while stream.read(&mut piece).await.is_ok_and(|n| n > 0) {},
    }
    let _ = gone.send(());
}

fn whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).expect("a length");
    body.len() >= length.parse::<usize>().unwrap()
}

/// A rollout's caller, and its mailbox.
struct Rollout {
    caller: Caller,
    decision: Decision,
    mail: mpsc::Receiver<Mail>,
    metrics: Metrics,
    _post: mpsc::Sender<Mail>,
}

impl Rollout {
    fn of(url: &str, at: HookPoint, timeout: Duration) -> Self {
        let hook = Hook { at, url: url.to_owned(), timeout, on_fail: OnHookFail::RollBack };
        let step = |permille| crate::model::rule::Step { weight: Weight::from_permille(permille).unwrap(), lasts: PATIENT };
        let rule = Rule { hooks: vec![hook], steps: vec![step(50), step(250), step(1000)], ..rule() };
        let begin = Begin::new(Side::Second, "2.1.0", "test");
        let metrics = Metrics::new();
        let (post, mail) = mpsc::channel(8);
        let hooks = Hooks::new("http://canaryd", metrics.clone()).unwrap();
        let caller = Caller::new(hooks, Arc::new(rule), RolloutId("shop-7".into()), begin, post.downgrade());
        Self { caller, decision: decision(None), mail, metrics, _post: post }
    }

    fn call(&mut self, attempt: u32) {
        let at = self.caller.rule.hooks[0].at;
        self.caller.call(&self.decision.clone(), at, attempt);
    }

    async fn answer(&mut self) -> (u32, HookAnswer) {
        match tokio::time::timeout(PATIENT, self.mail.recv()).await.expect("answered in time").unwrap() {
            Mail::Hooked { attempt, answer, .. } => (attempt, answer),
            other => panic!("{other:?}"),
        }
    }

    fn counted(&self, hook: &str, outcome: &str, reason: &str) -> u64 {
        let series = format!("canaryd_hook_calls_total{{hook=\"{hook}\",outcome=\"{outcome}\",reason=\"{reason}\"}} ");
        let page = self.metrics.text();
        page.lines().find_map(|line| line.strip_prefix(&series)).map_or(0, |n| n.parse().unwrap())
    }
}

/// At the second step; the machine waits for a hook until then.
fn decision(until: Option<Timestamp>) -> Decision {
    Decision {
        at: clock::now(),
        action: Action::Hold,
        state: State::Waiting(Waiting::Hook { name: "before-step".into() }),
        weight: Weight::from_permille(50).unwrap(),
        generation: 1,
        step: 0,
        counts_time: false,
        reasons: Vec::new(),
        holds: vec![Hold { why: HoldWhy::Hook, text: String::new(), ends: String::new(), until }],
        effects: Vec::new(),
        wake_at: None,
    }
}

fn failed(answer: HookAnswer) -> (String, bool) {
    match answer {
        HookAnswer::Failed { text, again } => (text, again),
        HookAnswer::Passed => panic!("it passed"),
    }
}

#[tokio::test]
async fn a_call_says_what_it_is_about_and_any_2xx_passes() {
    let mut server = Server::start(vec![answer("202 Accepted", "queued"), answer("204 No Content", "")]).await;
    let mut rollout = Rollout::of(&server.url, HookPoint::BeforeStep, PATIENT);
    rollout.call(3);
    assert_eq!(rollout.answer().await, (3, HookAnswer::Passed));
    let request = server.request().await;
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /gate?token=s3cr3t HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("content-type: application/json") && head.contains("idempotency-key: shop-7/before-step/3"), "{head}");
    let body: Value = serde_json::from_str(body).unwrap();
    let wanted = json!({
        "hook": "before-step", "rule": "shop", "rollout": "shop-7", "version": "2.1.0", "baseline": "?", "canary": "?",
        "step": 1, "steps": 3, "weight-from-permille": 50, "weight-to-permille": 250, "attempt": 3,
        "idempotency-key": "shop-7/before-step/3", "link": "http://canaryd/api/v1/rollouts/shop-7",
    });
    assert_eq!(body, wanted);
    rollout.call(4);
    assert_eq!(rollout.answer().await, (4, HookAnswer::Passed));
    assert_eq!(rollout.counted("before-step", "ok", ""), 2);
}

#[tokio::test]
async fn what_an_answer_means() {
    let redirect = "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:9/login?state=s3cr3t\r\ncontent-length: 0\r\n\r\n";
    let cut = "HTTP/1.1 200 OK\r\ncontent-le";
    let huge = 10 << 20;
    let refuses_much = format!("HTTP/1.1 403 Forbidden\r\ncontent-length: {huge}\r\n\r\n{}", "no ".repeat(1000));
    let passes_much = format!("HTTP/1.1 200 OK\r\ncontent-length: {huge}\r\n\r\n");
    for (act, want, reason) in [
        (
            answer("500 Internal Server Error", " down\nfor \u{1b}[2Jrepair"),
            Some(("500 Internal Server Error: down for \u{fffd}[2Jrepair", true)),
            "unavailable",
        ),
        (answer("503 Service Unavailable", ""), Some(("503 Service Unavailable", true)), "unavailable"),
        (answer("429 Too Many Requests", "slow down"), Some(("429 Too Many Requests: slow down", true)), "unavailable"),
        (
            answer("422 Unprocessable Entity", "smoke test 3 failed"),
            Some(("422 Unprocessable Entity: smoke test 3 failed", false)),
            "refused",
        ),
        (answer("404 Not Found", ""), Some(("404 Not Found", false)), "refused"),
        (
            Act::Say(redirect.to_owned()),
            Some((
                "307 Temporary Redirect to http://127.0.0.1:9/login: redirects are not followed, name the final address in the rule",
                false,
            )),
            "redirect",
        ),
        (Act::Say(cut.to_owned()), Some(("connection closed before message completed", true)), "unreachable"),
        (Act::SayMuch(refuses_much, huge), None, "refused"),
        (Act::SayMuch(passes_much, huge), None, ""),
    ] {
        let server = Server::start(vec![act.clone()]).await;
        let mut rollout = Rollout::of(&server.url, HookPoint::BeforeStart, PATIENT);
        rollout.call(1);
        let (_, answer) = rollout.answer().await;
        match (want, reason) {
            (Some((text, again)), _) => assert_eq!(failed(answer.clone()), (text.to_owned(), again), "{act:?}"),
            (None, "") => assert_eq!(answer, HookAnswer::Passed),
            (None, _) => {
                let (text, again) = failed(answer.clone());
                assert!(!again && text.starts_with("403 Forbidden: no no ") && text.ends_with("...") && text.len() < 250, "{text}");
            }
        }
        let outcome = if reason.is_empty() { "ok" } else { "failed" };
        assert_eq!(rollout.counted("before-start", outcome, reason), 1, "{answer:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_asked_again_and_its_secrets_are_not_told() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut rollout = Rollout::of(&format!("http://user:s3cr3t@{nobody}/?token=s3cr3t"), HookPoint::BeforeStart, PATIENT);
    rollout.call(1);
    let (text, again) = failed(rollout.answer().await.1);
    assert!(again && text.contains("refused") && !text.contains("s3cr3t"), "{text}");
}

#[tokio::test]
async fn a_server_that_hangs_has_until_the_machine_gives_up() {
    let mut server = Server::start(vec![Act::Hang, answer("200 OK", "")]).await;
    let mut rollout = Rollout::of(&server.url, HookPoint::BeforeStep, PATIENT);
    rollout.decision = decision(Some(clock::now() + Duration::from_millis(1500)));
    let began = Instant::now();
    rollout.call(1);
    let (text, again) = failed(rollout.answer().await.1);
    assert!(again && text.starts_with("no answer within "), "{text}");
    assert!(began.elapsed() >= Duration::from_secs(1) && began.elapsed() < PATIENT, "{:?}", began.elapsed());
    tokio::time::timeout(PATIENT, server.left.recv()).await.expect("the connection was given up").unwrap();
    rollout.decision = decision(None);
    rollout.call(2);
    assert_eq!(rollout.answer().await, (2, HookAnswer::Passed));
    assert_eq!(rollout.counted("before-step", "failed", "timeout"), 1);
}

#[tokio::test]
async fn nothing_is_heard_of_a_call_that_was_given_up_or_replaced() {
    let mut server = Server::start(vec![Act::Hang, Act::Hang, answer("200 OK", "")]).await;
    let mut rollout = Rollout::of(&server.url, HookPoint::BeforeStep, PATIENT);
    for attempt in [1, 2] {
        rollout.call(attempt);
        server.request().await;
        if attempt == 1 {
            rollout.caller.give_up();
            tokio::time::timeout(PATIENT, server.left.recv()).await.expect("left").unwrap();
        }
    }
    rollout.call(3);
    assert_eq!(rollout.answer().await, (3, HookAnswer::Passed));
    tokio::time::timeout(PATIENT, server.left.recv()).await.expect("the second was left too").unwrap();
    assert!(rollout.mail.try_recv().is_err(), "one answer, of the newest call");
}

#[tokio::test]
async fn a_server_that_asks_for_a_pause_gets_it() {
    let busy = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 2\r\ncontent-length: 0\r\n\r\n";
    let server = Server::start(vec![Act::Say(busy.to_owned()), answer("200 OK", "")]).await;
    let mut rollout = Rollout::of(&server.url, HookPoint::BeforeStep, PATIENT);
    rollout.call(1);
    assert!(failed(rollout.answer().await.1).1, "told at once");
    let began = Instant::now();
    rollout.call(2);
    assert_eq!(rollout.answer().await, (2, HookAnswer::Passed));
    assert!(began.elapsed() >= Duration::from_millis(1500), "{:?}", began.elapsed());

    let wish = |text: &str| pause_wished(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]));
    assert_eq!(wish("86400"), Some(PAUSE_MAX));
    assert_eq!(wish("Fri, 31 Dec 1999 23:59:59 GMT"), Some(Duration::ZERO));
    assert_eq!((wish("soon"), wish("-1")), (None, None));
}

#[tokio::test]
async fn a_hook_that_is_only_told_has_three_tries_and_no_answer() {
    let busy = "HTTP/1.1 500 Internal Server Error\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n";
    let mut server = Server::start(vec![Act::Say(busy.to_owned())]).await;
    let mut rollout = Rollout::of(&server.url, HookPoint::AfterRollback, PATIENT);
    rollout.call(5);
    // it outlives the rollout
    rollout.caller.give_up();
    for _ in 0..TELL_TRIES {
        assert!(server.request().await.contains("idempotency-key: shop-7/after-rollback/5"));
    }
    let counted = async {
        while rollout.counted("after-rollback", "failed", "unavailable") < u64::from(TELL_TRIES) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENT, counted).await.expect("counted");
    assert!(rollout.mail.try_recv().is_err() && server.requests.try_recv().is_err());
}

#[tokio::test]
async fn more_calls_than_there_is_room_for_are_not_made() {
    let mut server = Server::start(vec![answer("200 OK", "")]).await;
    let mut rollout = Rollout::of(&server.url, HookPoint::BeforeStart, PATIENT);
    let places = Arc::clone(&rollout.caller.hooks.0.places);
    let all = places.try_acquire_many(CALLS_MAX as u32).unwrap();
    rollout.call(1);
    let (text, again) = failed(rollout.answer().await.1);
    assert!(again && text.contains("256 calls of hooks are under way"), "{text}");
    assert!(server.requests.try_recv().is_err());
    drop(all);
    rollout.call(2);
    assert_eq!(rollout.answer().await, (2, HookAnswer::Passed));
}
