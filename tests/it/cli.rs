//! The client commands through the real binary, against a served API.

use crate::served::{APPROVER, BOTH, How, OPERATOR, Served, VIEWER, decided, view};
use canaryd::api::wire;
use canaryd::model::{Action, State, Timestamp, Waiting};
use canaryd::runtime::{Approved, RolloutView};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};
use tempfile::NamedTempFile;

/// A token file as `--token-file` reads it.
fn token_file(token: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    writeln!(file, "{token}").unwrap();
    file
}

fn canaryd(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_canaryd"));
    command.args(args).env_remove("CANARYD_SERVER").env_remove("CANARYD_TOKEN_FILE").stdin(Stdio::null());
    command
}

/// Runs a command against a server as an operator, beside the server's own threads.
async fn run(served: &Served, args: &[&str]) -> (i32, String, String) {
    run_with(served, OPERATOR, args).await
}

async fn run_with(served: &Served, token: &str, args: &[&str]) -> (i32, String, String) {
    let file = token_file(token);
    let mut command = canaryd(args);
    command.env("CANARYD_SERVER", served.url("")).env("CANARYD_TOKEN_FILE", file.path());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    parts(&output)
}

fn parts(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

const PAGE: &str = "\
chat-1, version 2.1.0: chat-v2 against chat-v1
  state    progressing: step 2 of 3
  verdict  undecided
  weight   25%, read back
  step     2 of 3, 7m 30s of 15m, 1234 canary requests
  steps    5% for 15m, [25% for 15m], 100% for 30m
  harm     [############..................] 1.2 of 3.0 nats for a rollback
  health   31 of 100: collecting, 13% of what a pass needs
  decided  2026-11-21T14:23:00Z hold

  METRIC       VERDICT    CANARY                                    BASELINE                   HARM     NO HARM
  error-rate   undecided  1.6% (1.1% to 2.1%)                       1% (0.8% to 1.2%)          1.5/3.7  0.4/3.0
  latency-p95  blind      2.1 s (190 ms to beyond the last bucket)  212 ms (180 ms to 240 ms)  -        0.4/3.0  the source has no such series

limits
  error-rate  rollback-above  5%  0.3/4.6  not crossed

held because
  time  7m 30s of 15m are over; ends when 7m 30s more have counted; until 2026-11-21T14:30:30Z at the latest

warnings
  no history: burn-in of 4m
";

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_a_rollout_in_detail() {
    let served = Served::new().await;
    let (code, page, errors) = run(&served, &["status", "chat"]).await;
    assert_eq!((code, errors.as_str()), (0, ""));
    assert_eq!(page, PAGE);
    let at = Timestamp::from_millis(1_795_269_600_000);
    let given = Approved { role: "security".into(), by: "sue".into(), at, until: at + std::time::Duration::from_secs(86_400) };
    let mut waiting = view("chat-1", State::Progressing { step: 1 });
    waiting.approvals = vec![("product-manager".to_owned(), None), ("security".to_owned(), Some(given))];
    served.set(vec![waiting]);
    let (_, page, _) = run(&served, &["status", "chat"]).await;
    let told = "\napprovals\n  product-manager  missing\n  \
                security         by sue at 2026-11-21T14:00:00Z, counts until 2026-11-22T14:00:00Z\n\nheld because\n";
    assert!(page.contains(told), "{page}");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_lists_all_rollouts_aligned() {
    let served = Served::new().await;
    let mut second = view("chat-1042", State::RolledBack);
    second.stuck = Some("404 \u{1b}[2Jgone".to_owned());
    second.weight_seen = None;
    served.set(vec![view("chat-1", State::Progressing { step: 1 }), second]);
    let (code, list, _) = run(&served, &["status"]).await;
    assert_eq!(code, 0);
    assert_eq!(
        list,
        "ROLLOUT    STATE        VERDICT    WEIGHT   STEP  HARM     VERSION  WHY\n\
         chat-1042  rolled-back  fail       25% (?)  2/3   1.2/3.0  2.1.0    stuck: 404 \u{fffd}[2Jgone\n\
         chat-1     progressing  undecided  25%      2/3   1.2/3.0  2.1.0    7m 30s of 15m are over\n\
         \n\
         rules on disk are refused, those that were good are in force\n  rules/shop.yaml:3: steps: empty\n\
         \n\
         sources that cannot be read\n  prometheus: does not answer\n"
    );
    served.set(Vec::new());
    assert!(run(&served, &["status"]).await.1.starts_with("no rollouts\n"));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_what_the_api_says() {
    let served = Served::new().await;
    let list: wire::Rollouts = serde_json::from_str(&run(&served, &["status", "-o", "json"]).await.1).unwrap();
    let one: wire::Rollout = serde_json::from_str(&run(&served, &["status", "chat-1", "-o", "json"]).await.1).unwrap();
    assert_eq!(list.rollouts, [one]);
    let paused: wire::Rollout = serde_json::from_str(&run(&served, &["pause", "chat", "--output", "json"]).await.1).unwrap();
    assert_eq!(paused.state, "paused");
    let started: wire::Started = serde_json::from_str(&run(&served, &["start", "chat", "-o", "json"]).await.1).unwrap();
    assert_eq!(started.rollout, "chat-2");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verb_reaches_the_runtime() {
    let served = Served::new().await;
    let lines = [
        (vec!["start", "chat", "--version", "2.2.0"], "chat-2 started\n"),
        (vec!["start", "chat", "--version", "bad", "--retry"], "chat-2 started\n"),
        (vec!["pause", "chat", "--why", "lunch"], "chat-1: paused, weight 25%: paused: by ann: lunch\n"),
        (vec!["resume", "chat-1"], "chat-1: progressing, weight 25%: goes on at weight 25%\n"),
        (vec!["rollback", "chat-1"], "chat-1: rolling-back, weight 25%: rolling back\n"),
        (vec!["promote", "chat-1", "--break-glass", "--why", "fire"], "chat-1: progressing, weight 25%: goes on at weight 25%\n"),
        (vec!["pause", "chat-1", "--break-glass", "--why", "fire"], "chat-1: progressing, weight 25%: goes on at weight 25%\n"),
    ];
    for (args, want) in lines {
        let (code, text, errors) = run(&served, &args).await;
        assert_eq!((code, text.as_str(), errors.as_str()), (0, want, ""), "{args:?}");
    }
    served.set(vec![view("chat-1", State::RolledBack)]);
    assert_eq!(run(&served, &["retry", "chat-1"]).await, (0, "chat-2 started\n".to_owned(), String::new()));
    assert_eq!(
        served.asked(),
        [
            "start chat version=2.2.0 retry=false by=ann",
            "start chat version=bad retry=true by=ann",
            "pause chat by=ann why=lunch",
            "resume chat-1 by=ann why=",
            "rollback chat-1 by=ann why=",
            "break-glass-promote chat-1 by=ann why=fire",
            "break-glass-freeze chat-1 by=ann why=fire",
            "start chat version=2.1.0 retry=true by=ann",
        ]
    );
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_goes_through_the_pages() {
    let served = Served::new().await;
    let (code, text, errors) = run(&served, &["history", "chat"]).await;
    assert_eq!((code, errors.as_str()), (0, ""));
    assert_eq!(
        text,
        "BEGAN                 ROLLOUT  VERSION  BY   STATE        TOOK    APPROVED               WHY\n\
         2026-11-21T17:00:00Z  chat-3   2.3.0    ann  progressing          pam (product-manager)\n\
         2026-11-21T16:00:00Z  chat-2   2.2.0    ann  rolled-back  30m 5s  pam (product-manager)  error-rate is beyond\u{fffd}[2J\n\
         2026-11-21T15:00:00Z  chat-1   2.1.0    ann  succeeded    30m 5s  pam (product-manager)\n"
    );
    assert_eq!(served.asked(), ["past chat since=0 before=- most=50", "past chat since=0 before=chat-2 most=48"]);
    let (_, text, _) = run(&served, &["history", "--limit", "1", "--since", "2026-11-01", "-o", "json"]).await;
    let past: wire::History = serde_json::from_str(&text).unwrap();
    assert_eq!((past.rollouts.len(), past.next.as_deref()), (1, Some("chat-3")));
    assert!(run(&served, &["history", "--limit", "2"]).await.1.ends_with("older ones are not shown: --limit 4 or more shows them\n"));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn approve_speaks_for_the_role_of_the_token() {
    let served = Served::new().await;
    let (code, text, _) = run_with(&served, APPROVER, &["approve", "chat", "--why", "tested"]).await;
    assert_eq!((code, text.as_str()), (0, "chat-1: progressing, weight 25%: goes on at weight 25%\n"));
    let (code, text, _) = run_with(&served, BOTH, &["approve", "chat-1", "--role", "engineering-manager", "-o", "json"]).await;
    assert_eq!((code, serde_json::from_str::<wire::Rollout>(&text).unwrap().id.as_str()), (0, "chat-1"));
    let (code, _, errors) = run(&served, &["approve", "chat"]).await;
    assert_eq!((code, errors.as_str()), (1, "canaryd: ann is operator, this needs the role approver(<role>) (role-insufficient)\n"));
    assert_eq!(served.asked(), ["approve chat as=product-manager by=pam why=tested", "approve chat-1 as=engineering-manager by=tom why="]);
    // without a name: the only one that waits
    let waiting = |id: &str| {
        let state = State::Waiting(Waiting::Approval { roles: vec!["product-manager".to_owned()] });
        RolloutView { approvals: vec![("product-manager".to_owned(), None)], ..view(id, state) }
    };
    let (code, _, errors) = run_with(&served, APPROVER, &["approve"]).await;
    assert_eq!((code, errors.as_str()), (1, "canaryd: no rollout waits for an approval\n"));
    served.set(vec![view("chat-1", State::Progressing { step: 1 }), waiting("chat-2")]);
    assert_eq!(run_with(&served, APPROVER, &["approve"]).await.0, 0);
    assert_eq!(served.asked().last().unwrap(), "approve chat-2 as=product-manager by=pam why=");
    served.set(vec![waiting("chat-2"), waiting("chat-3")]);
    let (code, _, errors) = run_with(&served, APPROVER, &["approve"]).await;
    assert!(code == 2 && errors.contains("name one of chat-") && errors.contains("chat-2") && errors.contains("chat-3"), "{errors}");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_the_servers_sentence_and_exit_code_1() {
    let served = Served::new().await;
    for (args, want) in [
        (vec!["advance", "chat"], "canaryd: evidence of harm is 2.1 of 3.0 nats (refused)\n"),
        (vec!["promote", "chat"], "canaryd: chat-1 is not at its last step (refused)\n"),
        (
            vec!["start", "chat", "--version", "bad"],
            "canaryd: version bad was rolled back before: start it with retry (rolled-back-before)\n",
        ),
        (vec!["status", "shop"], "canaryd: there is no rollout \"shop\", and no rollout of a rule of that name (unknown-rollout)\n"),
        (vec!["watch", "shop"], "canaryd: there is no rollout \"shop\", and no rollout of a rule of that name (unknown-rollout)\n"),
    ] {
        assert_eq!(run(&served, &args).await, (1, String::new(), want.to_owned()), "{args:?}");
    }
    let (code, _, errors) = run_with(&served, VIEWER, &["pause", "chat"]).await;
    assert_eq!((code, errors.as_str()), (1, "canaryd: vic is viewer, this needs the role operator (role-insufficient)\n"));
    let (code, _, errors) = run_with(&served, "wrong-token-0123456789", &["pause", "chat"]).await;
    assert_eq!(code, 1);
    assert!(errors.contains("token-unknown") && !errors.contains("wrong-token"), "{errors}");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_exit_code_3() {
    let served = Served::new().await;
    let address = served.url("");
    served.stop().await;
    for args in [["status", "--server", &address], ["watch", "--server", &address]] {
        let (code, text, errors) = parts(&canaryd(&args).output().unwrap());
        assert_eq!((code, text.as_str()), (3, ""), "{errors}");
        assert!(errors.starts_with(&format!("canaryd: no canaryd at {address}/: ")) && errors.contains("refused"), "{errors}");
    }
}

#[test]
fn wrong_usage_is_exit_code_2_and_names_what_is_wrong() {
    for (args, want) in [
        (vec!["status", "--server", "ftp://x"], "server \"ftp://x\" is neither http nor https"),
        (vec!["status", "--server", "nonsense"], "server \"nonsense\" is no address"),
        (vec!["status", "--token-file", "/nonexistent/token"], "token file /nonexistent/token"),
        (vec!["status", "../x"], "letters, digits"),
        (vec!["promote", "chat", "--break-glass"], "--why"),
        (vec!["statsu"], "status"),
        (vec!["status", "-o", "xml"], "json"),
        (vec![], "Usage: canaryd"),
    ] {
        let (code, text, errors) = parts(&canaryd(&args).output().unwrap());
        assert_eq!((code, text.as_str()), (2, ""), "{args:?}: {errors}");
        assert!(errors.contains(want), "{args:?}: {errors}");
    }
    let (code, text, _) = parts(&canaryd(&["--help"]).output().unwrap());
    assert!(code == 0 && text.contains("rollback") && text.contains("exit codes: 0 done"), "{text}");
}

/// A running `watch` and its lines.
struct Watch {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Watch {
    fn new(served: &Served, args: &[&str]) -> Self {
        let mut command = canaryd(args);
        let mut child = command.env("CANARYD_SERVER", served.url("")).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (lines, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
        Self { child, lines: receiver }
    }

    fn line(&self) -> String {
        tokio::task::block_in_place(|| self.lines.recv_timeout(std::time::Duration::from_secs(30)).expect("a line in time"))
    }

    fn exit_code(mut self) -> i32 {
        tokio::task::block_in_place(|| self.child.wait().unwrap().code().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_tells_each_change_and_ends_with_the_rollout() {
    let served = Served::new().await;
    let watch = Watch::new(&served, &["watch", "chat-1"]);
    assert_eq!(
        watch.line(),
        "chat-1: progressing, weight 25%: goes on waiting: 7m 30s of 15m are over; ends when 7m 30s more have counted; \
         until 2026-11-21T14:30:30Z at the latest"
    );
    let now = view("chat-1", State::Progressing { step: 1 });
    assert_eq!(served.decide(now.clone()), 1, "a tick that changes nothing gives no line");
    served.decide(decided(now.clone(), Action::RollBack, State::RollingBack));
    assert_eq!(watch.line(), "2026-11-21T14:23:00Z chat-1 roll-back: rolling back");
    served.decide(decided(now, Action::Finish, State::RolledBack));
    assert_eq!(watch.line(), "2026-11-21T14:23:00Z chat-1 finish: over: rolled-back");
    assert_eq!(watch.exit_code(), 0);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_survives_a_restart_of_the_server_and_speaks_json() {
    let served = Served::new().await;
    let address = served.address;
    let watch = Watch::new(&served, &["watch", "-o", "json"]);
    let first: Value = serde_json::from_str(&watch.line()).unwrap();
    assert_eq!((first["event"].as_str(), first["data"]["id"].as_str()), (Some("rollout"), Some("chat-1")));
    served.stop().await;
    let served = Served::at(address, How::default()).await;
    served.set(vec![view("chat-9", State::Progressing { step: 1 })]);
    loop {
        let line: Value = serde_json::from_str(&watch.line()).unwrap();
        if line["data"]["id"] == "chat-9" {
            break;
        }
    }
    assert_eq!(served.feeds(), 1);
    let mut child = watch.child;
    child.kill().unwrap();
    child.wait().unwrap();
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_reading_is_no_error() {
    let served = Served::new().await;
    let mut child =
        canaryd(&["status", "chat", "--server", &served.url("")]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    assert_eq!(parts(&output), (0, String::new(), String::new()));
    served.stop().await;
}

/// A rule file of the repository.
const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/rules/example-envoy.yaml");

/// Every command: arguments that are followed with the keys a program may rely on (none: not followed here), and arguments that
/// are refused, with exit code and problem code.
type Row = (&'static str, &'static [&'static str], &'static [&'static str], &'static [&'static str], i32, &'static str);
const COMMANDS: &[Row] = &[
    ("run", &[], &[], &["--config", "/nonexistent.yaml"], 2, "usage"),
    ("demo", &[], &[], &["--listen", "nonsense"], 2, "usage"),
    ("check", &[EXAMPLE], &["rules", "problems"], &["/nonexistent.yaml"], 1, "refused"),
    ("schema", &[], &["type", "properties"], &["more"], 2, "usage"),
    ("crds", &[], &["apiVersion", "items"], &["more"], 2, "usage"),
    ("plan", &[EXAMPLE, "--rate", "200"], &["rules"], &["/nonexistent.yaml", "--rate", "200"], 1, "refused"),
    ("replay", &[], &[], &["shop-1", "--data", "/nonexistent/journal", "--rule", "/nonexistent.yaml"], 1, "refused"),
    ("start", &["chat"], &["rollout"], &["shop"], 1, "unknown-rule"),
    ("status", &[], &["rollouts"], &["shop"], 1, "unknown-rollout"),
    ("history", &["chat"], &["rollouts", "next"], &["--since", "yesterday"], 2, "usage"),
    ("watch", &["chat-1"], &["event", "data"], &["shop"], 1, "unknown-rollout"),
    ("approve", &["chat", "--role", "product-manager"], &["id", "approvals"], &["chat", "--role", "nobody"], 1, "role-insufficient"),
    ("pause", &["chat"], &["id", "state", "holds"], &["shop"], 1, "unknown-rollout"),
    ("resume", &["chat"], &["id", "state", "holds"], &["shop"], 1, "unknown-rollout"),
    ("advance", &[], &[], &["chat"], 1, "refused"),
    ("promote", &["chat", "--break-glass", "--why", "x"], &["id", "state"], &["chat"], 1, "refused"),
    ("rollback", &["chat"], &["id", "state", "reasons"], &["../x"], 2, "usage"),
    ("retry", &["chat"], &["rollout"], &["shop"], 1, "unknown-rollout"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_command_speaks_json_also_when_it_fails() {
    let help = parts(&canaryd(&["--help"]).output().unwrap()).1;
    let listed: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(listed.len() > 10, "{help}");
    for name in listed {
        assert!(COMMANDS.iter().any(|(known, ..)| *known == name), "{name} has no row: what does it write with -o json?");
    }
    let served = Served::new().await;
    for (name, good, keys, bad, code, problem) in COMMANDS {
        // over: a retry may begin, and a watch ends
        served.set(vec![view("chat-1", State::RolledBack)]);
        if !keys.is_empty() {
            let args: Vec<&str> = [*name].iter().chain(*good).chain(&["-o", "json"]).copied().collect();
            let (ended, text, errors) = run_with(&served, BOTH, &args).await;
            assert_eq!((ended, errors.as_str()), (0, ""), "{args:?}");
            let document: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?}: {e}: {text}"));
            for key in *keys {
                assert!(document.get(key).is_some(), "{args:?}: no {key} in {document:#}");
            }
        }
        let args: Vec<&str> = [*name].iter().chain(*bad).chain(&["--output=json"]).copied().collect();
        let (ended, _, errors) = run_with(&served, BOTH, &args).await;
        let told: Value = serde_json::from_str(&errors).unwrap_or_else(|e| panic!("{args:?}: {e}: {errors}"));
        assert_eq!((ended, told["code"].as_str(), told["exit-code"].as_i64()), (*code, Some(*problem), Some(i64::from(*code))), "{told:#}");
        assert!(told["detail"].as_str().is_some_and(|detail| detail.len() > 5), "{told:#}");
    }
    let address = served.url("");
    served.stop().await;
    let (code, text, errors) = parts(&canaryd(&["status", "-ojson", "--server", &address]).output().unwrap());
    let told: Value = serde_json::from_str(&errors).unwrap();
    assert_eq!((code, text.as_str(), told["code"].as_str()), (3, "", Some("unreachable")), "{errors}");
}
