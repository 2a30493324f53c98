//! Rule files and settings as an operator meets them: the shipped examples load, and every mistake is told with its place.

use canaryd::config::{Known, Report, RuleSet, fingerprint, load_rules, parse_rule, parse_rule_with, read_rule, reload};
use canaryd::model::calendar::{AtEnd, Period, When};
use canaryd::model::journal::{Entry, Event, Opened};
use canaryd::model::rule::{
    AfterRollback, EnvoyWrite, First, OnHookFail, PodHealth, Promotion, Replicas, Rule, ShareOf, Then, Traffic, WorkloadForm,
};
use canaryd::model::{Advance, Begin, History, HookPoint, Input, Margin, MetricKind, Noted, Resources, RolloutId, Side, Timestamp, Weight};
use canaryd::runtime::parts::judge_spec;
use canaryd::runtime::replay::rebuild;
use jiff::civil::{date, time};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn names(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|w| (*w).to_owned()).collect()
}

fn known() -> Known {
    Known {
        packs: names(&["envoy", "haproxy", "http", "istio", "kubernetes"]),
        sources: names(&["main", "edge"]),
        receivers: names(&["alertmanager", "slack-deploys", "grafana"]),
        cluster: true,
        ..Known::default()
    }
}

fn shipped(path: &str) -> Rule {
    read_rule(&root().join(path), &known()).unwrap_or_else(|report| panic!("{report}")).0
}

#[test]
fn the_envoy_example_is_what_its_comments_say() {
    let rule = shipped("rules/example-envoy.yaml");
    assert_eq!(rule.not_run, []);
    let weights: Vec<String> = rule.steps.iter().map(|s| s.weight.to_string()).collect();
    assert_eq!(weights, ["5%", "25%", "50%", "100%"]);
    assert_eq!(rule.steps[3].lasts, Duration::from_secs(1800));
    let Traffic::Envoy(envoy) = &rule.traffic else { panic!("{:?}", rule.traffic) };
    assert_eq!(envoy.clusters, ["v1".to_owned(), "v2".to_owned()]);
    assert!(matches!(&envoy.by, EnvoyWrite::RouteFile { stat_prefix, route, .. } if stat_prefix == "ingress" && route == "service"));
    assert_eq!(rule.promotion, Promotion::Swap { keep: Duration::from_secs(86_400), idle: None });
    assert_eq!(rule.metrics[1].limits.warn_above, Some(2500.0));
}

#[test]
fn the_haproxy_example_is_what_its_comments_say() {
    let rule = shipped("rules/example-haproxy.yaml");
    assert_eq!(rule.not_run, []);
    let Traffic::Haproxy(haproxy) = &rule.traffic else { panic!("{:?}", rule.traffic) };
    assert_eq!((haproxy.socket.as_str(), haproxy.backend.as_str()), ("/run/haproxy/admin.sock", "shop"));
    assert_eq!(haproxy.servers, ["v1".to_owned(), "v2".to_owned()]);
    assert_eq!(rule.telemetry[0].variant.as_deref(), Some("server"));
    assert_eq!(rule.steps[0].weight, Weight::from_permille(25).unwrap());
}

#[test]
fn the_http_example_is_what_its_comments_say() {
    let rule = shipped("rules/example-http.yaml");
    assert_eq!(rule.not_run, []);
    assert_eq!(rule.workloads.form, WorkloadForm::StableCanary);
    assert_eq!(rule.workloads.sides[0].fields["version"], "1.10");
    assert_eq!(rule.telemetry[0].arm["version"], "{version}");
    assert_eq!(rule.advance, Advance::OnEvidence);
    assert_eq!(rule.min_requests, 50);
    assert!(rule.custom_counts[0].part_is_bad);
    assert_eq!(rule.metrics[3].kind, MetricKind::CustomCounts(0));
}

#[test]
fn the_rule_of_the_design_reads_whole() {
    let rule = shipped("tests/data/rules/chatbot.yaml");
    let metrics: Vec<&str> = rule.metrics.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(metrics, ["error-rate", "latency-p95", "cpu", "memory", "memory-leak", "cache-hits", "queue-depth"]);
    assert_eq!(rule.metrics[0].limits.page_above, Some(0.1));
    assert_eq!(rule.metrics[1].limits.promote_below, Some(2000.0));
    assert_eq!(
        rule.metrics[5].margin,
        Margin::Counts { relative: 0.0, absolute: 0.02, ok_relative: 0.5, ok_absolute: 0.1 },
        "only what is written is tolerated"
    );
    assert_eq!(rule.workloads.sides[1].fields["namespace"], "production");
    assert_eq!(rule.policies.undecided.then, Then::Ask);
    assert_eq!(rule.first, First::Promote);
    assert!(rule.start.on_new_template);
    assert_eq!(rule.shares, [("cpu".to_owned(), ShareOf::Requests), ("memory".to_owned(), ShareOf::Limits)].into());
    let health = PodHealth { crash_loop: true, oom_killed: true, failed_probes: Some(3), image_pull: false, never_ready: false };
    assert_eq!((rule.pod_health, rule.not_run.len()), (Some(health), 0));
}

/// What a rule says where there is no cluster.
fn without_a_cluster(path: &str) -> Vec<String> {
    let known = Known { cluster: false, ..known() };
    let rule = read_rule(&root().join(path), &known).unwrap_or_else(|report| panic!("{report}")).0;
    for part in &rule.not_run {
        assert!(part.why.starts_with("there is no cluster, and ") && part.why.contains("; else "), "{}", part.why);
    }
    rule.not_run.iter().map(|part| format!("{}: {}", part.line, part.path)).collect()
}

/// What `run` would refuse of a rule.
fn not_run(rule: &Rule) -> Vec<&str> {
    rule.not_run.iter().map(|part| part.path.as_str()).collect()
}

fn limits(rule: &Rule, metric: &str) -> [Option<f64>; 4] {
    let spec = rule.metrics.iter().find(|spec| spec.name == metric).unwrap_or_else(|| panic!("{metric}"));
    [spec.limits.promote_below, spec.limits.warn_above, spec.limits.rollback_above, spec.limits.page_above]
}

#[test]
fn every_rule_in_the_rules_folder_loads() {
    let rules = load_rules(&[root().join("rules")], &known()).unwrap_or_else(|report| panic!("{report}"));
    let rules: Vec<Rule> = rules.rules.into_iter().map(|loaded| loaded.rule).collect();
    let names: BTreeSet<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
    let shipped =
        ["chatbot", "chatbot-blue-green", "example-envoy", "example-haproxy", "example-http", "multi-tenant-monitor", "plexichat"];
    assert_eq!(names, shipped.into_iter().collect());
    for rule in &rules {
        let text = fs::read_to_string(&rule.file).expect("readable");
        assert!(text.starts_with("# yaml-language-server: $schema=canaryd.schema.json\n"), "{}: editors find the schema", rule.name);
    }
}

#[test]
fn the_shipped_chatbot_is_the_document_it_comes_from() {
    let rule = shipped("rules/chatbot.yaml");
    let steps: Vec<(u16, u64)> = rule.steps.iter().map(|s| (s.weight.permille(), s.lasts.as_secs() / 60)).collect();
    assert_eq!(steps, [(50, 15), (250, 15), (500, 30), (1000, 30)], "at 0, 15, 30 and 60 minutes, watched for 30");
    assert_eq!(limits(&rule, "error-rate"), [Some(0.001), Some(0.01), Some(0.05), Some(0.1)]);
    assert_eq!(limits(&rule, "latency-p95"), [Some(2000.0), Some(3000.0), Some(5000.0), None]);
    assert_eq!((limits(&rule, "cpu")[0], limits(&rule, "memory")[0]), (Some(0.7), Some(0.8)));
    assert_eq!(rule.start.approvals.len(), 2);
    let windows = rule.windows.as_ref().expect("windows");
    let evening = When::Weekly { days: [false, false, false, true, false, false, false], from: time(18, 0, 0, 0), to: time(20, 0, 0, 0) };
    assert_eq!(windows.allow[0].when, evening);
    let friday = When::Weekly { days: [false, false, false, false, true, false, false], from: time(0, 0, 0, 0), to: time(0, 0, 0, 0) };
    assert_eq!(windows.deny[0].when, friday);
    assert_eq!(windows.deny[1].when, When::Dates { first: date(2026, 11, 23), last: date(2026, 11, 30) });
    assert_eq!(windows.deny[2].when, When::EndOf { period: Period::Quarter, days: 7 });
    assert!(windows.deny.len() > 8, "and the holidays: {}", windows.deny.len());
    assert_eq!((rule.replicas, rule.after_rollback), (Replicas::Follow, AfterRollback::Undo));
    assert_eq!(rule.promotion, Promotion::Swap { keep: Duration::from_secs(86_400), idle: Some(1) });
    assert_eq!(not_run(&rule), Vec::<&str>::new());
    let cluster = [
        "11: traffic.istio",
        "19: promotion.swap.idle-replicas",
        "20: replicas",
        "21: after-rollback",
        "31: metrics.cpu.of",
        "32: metrics.memory.of",
        "33: metrics.pod-health",
        "43: start.when",
    ];
    assert_eq!(without_a_cluster("rules/chatbot.yaml"), cluster, "what a cluster is needed for");
}

#[test]
fn the_shipped_plexichat_is_run_as_it_is() {
    let rule = shipped("rules/plexichat.yaml");
    assert_eq!(not_run(&rule), Vec::<&str>::new());
    assert!(matches!(&rule.traffic, Traffic::Haproxy(h) if h.backend == "plexichat" && h.servers == ["blue", "green"]));
    assert_eq!(limits(&rule, "error-rate")[1..3], [Some(0.01), Some(0.05)]);
    assert_eq!(limits(&rule, "latency-p95"), [Some(500.0), Some(500.0), Some(1000.0), None]);
    assert_eq!(limits(&rule, "cpu")[1..3], [Some(0.8), Some(0.9)]);
    let hits = limits(&rule, "cache-hits")[0].expect("a limit");
    assert!((hits - 0.1).abs() < 1e-12, "more than 90 % hits are less than 10 % misses: {hits}");
}

#[test]
fn the_shipped_blue_green_verifies_switches_and_watches() {
    let rule = shipped("rules/chatbot-blue-green.yaml");
    let steps: Vec<u16> = rule.steps.iter().map(|s| s.weight.permille()).collect();
    assert_eq!(steps, [0, 1000]);
    assert_eq!(rule.promotion, Promotion::Swap { keep: Duration::from_secs(86_400), idle: None });
    let hooks: Vec<_> = rule.hooks.iter().map(|hook| (hook.at, hook.on_fail)).collect();
    assert_eq!(hooks, [(HookPoint::BeforeStep, OnHookFail::RollBack), (HookPoint::AfterRollback, OnHookFail::Ask)]);
    assert_eq!((rule.after_rollback, rule.start.on_new_template), (AfterRollback::Undo, false));
    assert_eq!(not_run(&rule), Vec::<&str>::new());
    let cluster = ["12: traffic.service", "18: after-rollback", "23: metrics.pod-health"];
    assert_eq!(without_a_cluster("rules/chatbot-blue-green.yaml"), cluster, "what a cluster is needed for");
}

#[test]
fn the_shipped_monitor_watches_for_ten_minutes_and_is_run_as_it_is() {
    let rule = shipped("rules/multi-tenant-monitor.yaml");
    assert_eq!(not_run(&rule), Vec::<&str>::new());
    assert_eq!((rule.traffic.clone(), rule.steps.len(), rule.steps[0].lasts), (Traffic::None, 1, Duration::from_secs(600)));
    assert_eq!((limits(&rule, "error-rate")[2], limits(&rule, "latency-p95")[2]), (Some(0.01), Some(1000.0)));
    assert!(rule.metrics.iter().all(|metric| !metric.compared));
}

/// Each `NAME.yaml` in `tests/data/rules/bad` is wrong in the way its name says; `NAME.txt` is the report, word for word.
/// `CANARYD_BLESS=1` writes the reports anew: read the diff.
#[test]
fn every_mistake_is_told_word_for_word() {
    let folder = root().join("tests/data/rules/bad");
    let bless = std::env::var_os("CANARYD_BLESS").is_some();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for entry in fs::read_dir(&folder).expect("folder") {
        let path = entry.expect("entry").path();
        if path.extension().is_none_or(|e| e != "yaml") {
            continue;
        }
        seen += 1;
        let name = path.file_name().and_then(|n| n.to_str()).expect("a name").to_owned();
        let text = fs::read_to_string(&path).expect("readable");
        let beside = |name: &str| fs::read_to_string(folder.join(name)).map_err(|_| "it is not there".to_owned());
        let report = match parse_rule_with(&text, Path::new(&name), &known(), &beside) {
            Ok(_) => "nothing wrong".to_owned(),
            Err(report) => report.to_string(),
        };
        let golden = path.with_extension("txt");
        if bless {
            fs::write(&golden, format!("{report}\n")).expect("writable");
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if expected.trim_end() != report {
            wrong.push(format!("{name}\n  expected:\n{}\n  got:\n{report}", expected.trim_end()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(seen >= 30, "only {seen} bad rules");
}

fn rule_text(name: &str) -> String {
    format!(
        "rule: {name}\nworkloads: {{ pair: [ {{ cluster: a }}, {{ cluster: b }} ] }}\ntelemetry: [ envoy ]\ntraffic: none\n\
         steps: [ {{ weight: 100%, bake: 1m }} ]\nmetrics: {{ error-rate: {{}} }}\n"
    )
}

fn put(folder: &Path, file: &str, text: &str) -> PathBuf {
    let path = folder.join(file);
    fs::write(&path, text).expect("writable");
    path
}

#[test]
fn two_files_may_not_share_a_name_and_the_report_names_both() {
    let folder = tempfile::tempdir().expect("folder");
    let a = put(folder.path(), "a.yaml", &rule_text("shop"));
    let b = put(folder.path(), "b.yml", &rule_text("shop"));
    put(folder.path(), "notes.txt", "not a rule");
    let report = load_rules(&[folder.path().to_owned()], &known()).expect_err("a name twice").to_string();
    assert_eq!(report, format!("{}: rule \"shop\" is already the name of {}: give each rule its own name", b.display(), a.display()));
}

#[test]
fn a_file_named_twice_is_read_once() {
    let folder = tempfile::tempdir().expect("folder");
    let a = put(folder.path(), "a.yaml", &rule_text("shop"));
    assert_eq!(load_rules(&[a.clone(), folder.path().to_owned()], &known()).expect("valid").rules.len(), 1);
}

#[test]
fn a_missing_path_is_told() {
    let report = load_rules(&[PathBuf::from("no/such/rules")], &known()).expect_err("missing").to_string();
    assert!(report.starts_with("no/such/rules: cannot be read: "), "{report}");
}

#[test]
fn a_reload_with_one_bad_file_changes_nothing_and_a_good_one_changes_what_changed() {
    let folder = tempfile::tempdir().expect("folder");
    let paths = [folder.path().to_owned()];
    put(folder.path(), "a.yaml", &rule_text("a"));
    put(folder.path(), "b.yaml", &rule_text("b"));
    let first = reload(&RuleSet::default(), &paths, &known()).expect("valid");
    assert_eq!(first.rules.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(&*first.texts["a"], rule_text("a"));

    put(folder.path(), "a.yaml", &rule_text("a").replace("100%", "120%"));
    put(folder.path(), "b.yaml", &rule_text("b").replace("bake: 1m", "bake: 2m"));
    let before = first.clone();
    let report: Report = reload(&first, &paths, &known()).expect_err("one is bad");
    assert_eq!(report.problems.len(), 1, "{report}");
    assert_eq!(first, before);

    put(folder.path(), "a.yaml", &rule_text("a"));
    let second = reload(&first, &paths, &known()).expect("valid again");
    assert!(Arc::ptr_eq(&first.rules["a"], &second.rules["a"]), "unchanged: the same rule");
    assert!(!Arc::ptr_eq(&first.rules["b"], &second.rules["b"]));
    assert_eq!(second.rules["b"].steps[0].lasts, Duration::from_secs(120));
    assert_eq!(second.rules["b"].steps[0].weight, Weight::FULL);
    assert_ne!(first.rules["b"].digest, second.rules["b"].digest);
}

#[test]
fn the_windows_of_the_design_are_read_with_the_file_of_dates() {
    let rule = shipped("tests/data/rules/chatbot.yaml");
    let windows = rule.windows.expect("windows");
    assert_eq!(windows.zone.iana_name(), Some("America/Los_Angeles"));
    assert_eq!((windows.allow.len(), windows.at_end), (1, AtEnd::Finish));
    let deny: Vec<&str> = windows.deny.iter().map(|span| span.words.as_str()).collect();
    assert_eq!(
        deny,
        ["Fri", "last 7 days of quarter", "2026-11-23..2026-11-30", "holidays.txt: 2026-12-24..2026-12-26", "holidays.txt: 2027-01-01"]
    );
    assert_eq!(windows.deny[4].when, When::Dates { first: date(2027, 1, 1), last: date(2027, 1, 1) });
    let text = fs::read_to_string(root().join("tests/data/rules/holidays.txt")).expect("readable");
    assert_eq!(rule.attached.get("holidays.txt"), Some(&text), "kept with the rule");
}

#[test]
fn start_hooks_and_alerts_of_the_design_are_read() {
    let rule = shipped("tests/data/rules/chatbot.yaml");
    assert!(rule.start.on_new_template);
    assert_eq!(rule.start.approvals, ["engineering-manager", "product-manager"]);
    let hooks: Vec<_> = rule.hooks.iter().map(|h| (h.at, h.url.as_str(), h.timeout.as_secs(), h.on_fail)).collect();
    assert_eq!(
        hooks,
        [
            (HookPoint::BeforeStart, "https://ci.example.com/smoke", 60, OnHookFail::Ask),
            (HookPoint::BeforePromotion, "https://ci.example.com/load", 600, OnHookFail::RollBack),
        ]
    );
    assert_eq!(rule.notify, ["alertmanager", "slack-deploys", "grafana"]);
    let labels: Vec<_> = rule.alerts.iter().map(|any| any.labels.clone()).collect();
    assert_eq!(labels, [[("service".to_owned(), "chatbot".to_owned())].into()]);
}

#[test]
fn a_changed_file_of_dates_changes_the_rule_and_is_seen() {
    let folder = tempfile::tempdir().expect("folder");
    let paths = [folder.path().to_owned()];
    let text = format!("{}windows: {{ timezone: UTC, deny: [ {{ dates: days.txt }}, Fri ] }}\n", rule_text("shop"));
    put(folder.path(), "shop.yaml", &text);
    let report = reload(&RuleSet::default(), &paths, &known()).expect_err("days.txt is missing").to_string();
    assert!(report.contains("shop.yaml:7: windows.deny[0].dates: days.txt cannot be read: No such file"), "{report}");

    let missing = fingerprint(&paths);
    put(folder.path(), "days.txt", "2026-12-25\n");
    let first = reload(&RuleSet::default(), &paths, &known()).expect("valid");
    let seen = fingerprint(&paths);
    assert_ne!(missing, seen, "it appeared");
    assert_eq!(seen, fingerprint(&paths), "and nothing else happened");
    put(folder.path(), "other.txt", "2026-12-25\n");
    assert_eq!(seen, fingerprint(&paths), "a file nobody names");

    put(folder.path(), "days.txt", "2026-12-25\n2026-12-26\n");
    assert_ne!(seen, fingerprint(&paths));
    let second = reload(&first, &paths, &known()).expect("valid");
    assert!(!Arc::ptr_eq(&first.rules["shop"], &second.rules["shop"]));
    assert_ne!(first.rules["shop"].digest, second.rules["shop"].digest);
    assert_eq!(second.rules["shop"].windows.as_ref().map(|w| w.deny.len()), Some(3));
}

/// How many rules `check rules` sees, and of each that would be refused what.
fn checked(more: &[&str]) -> (usize, Vec<String>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_canaryd"));
    let output = command
        .args(["check", "rules", "-o", "json"])
        .args(more)
        .env_remove("CANARYD_CONFIG")
        .current_dir(root())
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let page: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let refused = |rule: &serde_json::Value| rule["not-run"].as_array().expect("a list").iter().map(|n| n["path"].to_string()).collect();
    let all: Vec<(String, Vec<String>)> =
        page["rules"].as_array().expect("rules").iter().map(|rule| (rule["rule"].to_string(), refused(rule))).collect();
    let waits: Vec<String> =
        all.iter().filter(|(_, refused)| !refused.is_empty()).map(|(rule, why)| format!("{rule} {}", why.join(" "))).collect();
    (all.len(), waits)
}

/// `check` by the daemon's own binary, with its own query packs.
#[test]
fn check_says_of_every_shipped_rule_what_run_would_refuse() {
    let (all, waits) = checked(&[]);
    assert_eq!(
        (all, waits),
        (
            7,
            vec![
                r#""chatbot-blue-green" "traffic.service" "after-rollback" "metrics.pod-health""#.to_owned(),
                r#""chatbot" "traffic.istio" "promotion.swap.idle-replicas" "replicas" "after-rollback" "metrics.cpu.of" "metrics.memory.of" "metrics.pod-health" "start.when""#
                    .to_owned(),
            ]
        )
    );
    let folder = tempfile::tempdir().expect("folder");
    let receivers =
        "alertmanager: { alertmanager: { urls: [ 'http://am:9093' ] } }, grafana: { grafana: { url: 'http://g', token_file: token } }";
    let settings = format!("cluster: {{ kubeconfig: kubeconfig }}\nreceivers: {{ {receivers} }}\n");
    let settings = put(folder.path(), "canaryd.yaml", &settings);
    put(folder.path(), "kubeconfig", "nobody asks it anything here");
    put(folder.path(), "token", "x");
    assert_eq!(checked(&["--config", &settings.display().to_string()]), (7, vec![]), "with a cluster nothing is refused");
}

fn begin() -> Begin {
    Begin::new(Side::Second, "v2", "test")
}

/// The opening of a rollout of `shop` with this text and these files beside it.
fn opened(text: &str, attached: &[(&str, &str)], begin: &Begin) -> Opened {
    Opened {
        id: RolloutId("shop-1".to_owned()),
        rule: "shop".to_owned(),
        rule_text: text.to_owned(),
        attached: attached.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
        file: "gone/shop.yaml".to_owned(),
        interval: Duration::from_secs(15),
        bounds_ms: Vec::new(),
        scale: 1.0,
        incarnation: 0,
        history: History::default(),
        begin: begin.clone(),
        kept: None,
    }
}

/// A rollout is led by the texts it began with, whatever became of the files and the settings.
#[test]
fn a_rule_of_the_journal_has_its_dates_and_needs_no_settings() {
    let text = format!(
        "{}windows: {{ timezone: UTC, deny: [ {{ dates: days.txt }} ] }}\nnotify: [ a-receiver-of-last-year ]\n",
        rule_text("shop")
    );
    let opened = |attached: &[(&str, &str)]| opened(&text, attached, &begin());
    let at = Timestamp::from_millis(1_700_000_000_000);
    let journal = |opened: Opened| {
        let events = [Event::Opened(Box::new(opened)), Event::Input(Box::new(Input::Begin(begin())))];
        events.into_iter().enumerate().map(|(seq, event)| Entry { seq: seq as u64, at, event }).collect::<Vec<_>>()
    };
    let rebuilt = rebuild(&journal(opened(&[("days.txt", "2026-12-25")])), &known(), at).map_err(|why| panic!("{why}")).unwrap();
    assert_eq!(rebuilt.rule.windows.as_ref().map(|w| w.deny[0].words.as_str()), Some("days.txt: 2026-12-25"));
    let lost = rebuild(&journal(opened(&[])), &known(), at).err().expect("no dates");
    assert_eq!(lost, "its rule: gone/shop.yaml:7: windows.deny[0].dates: days.txt cannot be read: the journal does not hold it");
}

#[test]
fn the_arms_of_one_deployment_are_told_apart_as_the_cluster_s_watch_does() {
    let text = "rule: shop\nworkloads: { namespace: prod, one: { deployment: a } }\ntelemetry: [ envoy ]\ntraffic: none\n\
                steps: [ { weight: 100%, bake: 1m } ]\nmetrics: { error-rate: {} }\n";
    let sides = parse_rule(text, Path::new("shop.yaml"), &known()).unwrap().workloads.sides;
    assert_eq!(sides.map(|side| side.fields[canaryd::model::rule::Target::REPLICASET].clone()), ["old", "new"]);
}

/// What was noted of the pod at the start holds for the whole rollout, wherever it is led again.
#[test]
fn a_rule_of_the_journal_has_the_shares_of_the_pod_that_was_noted() {
    let text = format!(
        "rule: shop\nworkloads: {{ namespace: prod, pair: [ {{ deployment: a }}, {{ deployment: b }} ] }}\ntelemetry: [ envoy ]\n\
         traffic: none\nsteps: [ {{ weight: 10%, for: 1m }}, {{ weight: 100%, bake: 1m }} ]\n\
         metrics: {{ error-rate: {{}}, cpu: {{ of: requests, rollback-above: {} }} }}\n",
        "70%"
    );
    let resources = Resources { cpu_request: Some(500), ..Resources::default() };
    let noted = Noted { baseline_ready: 3, canary_wanted: 3, resources, ..Noted::default() };
    let level = |noted: Option<Noted>| {
        let begin = Begin { noted, ..begin() };
        let at = Timestamp::from_millis(1_700_000_000_000);
        let events = [Event::Opened(Box::new(opened(&text, &[], &begin))), Event::Input(Box::new(Input::Begin(begin)))];
        let entries: Vec<Entry> = events.into_iter().enumerate().map(|(seq, event)| Entry { seq: seq as u64, at, event }).collect();
        let rebuilt = rebuild(&entries, &known(), at).map_err(|why| panic!("{why}")).unwrap();
        let spec = judge_spec(&rebuilt.rule, &rebuilt.opened);
        assert_eq!(spec.metrics, rebuilt.rule.metrics, "shown and judged are the same");
        spec.metrics[1].limits.rollback_above
    };
    assert_eq!(level(Some(noted)), Some(0.35), "70 % of 500m, in cores");
    assert_eq!(level(None), None, "a share of nothing limits nothing");
}

/// A good rule, and what an editor, a merge or a template may make of it.
fn mangled() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    let good = fs::read_to_string(root().join("tests/data/rules/chatbot.yaml")).expect("readable");
    let lines: Vec<String> = good.lines().map(str::to_owned).collect();
    let count = lines.len();
    let bits = prop::sample::select(vec![
        "",
        ":",
        "- ",
        "{",
        "}",
        "[",
        "]",
        "\"",
        "'",
        "&a ",
        "*a",
        "|",
        "\t",
        "0",
        "-1",
        "1e400",
        ".nan",
        "~",
        "%",
        "120%",
        "true",
        "é",
        "<<",
        "!!binary x",
        "99999999999999999999",
    ]);
    let edits = prop::collection::vec((0..count, 0usize..80, bits, 0u8..4), 1..6);
    edits.prop_map(move |edits| {
        let mut lines = lines.clone();
        for (line, column, bit, how) in edits {
            let Some(text) = lines.get_mut(line) else { continue };
            let at = (0..=column.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            match how {
                0 => text.insert_str(at, bit),
                1 => text.truncate(at),
                2 => text.replace_range(at.., bit),
                _ => drop(lines.remove(line)),
            }
        }
        lines.join("\n")
    })
}

proptest::proptest! {
    #[test]
    fn no_text_panics_and_every_refusal_says_why(text in mangled()) {
        let beside = |name: &str| if name == "holidays.txt" { Ok("2026-12-25".to_owned()) } else { Err("it is not there".to_owned()) };
        if let Err(report) = parse_rule_with(&text, Path::new("m.yaml"), &known(), &beside) {
            proptest::prop_assert!(!report.problems.is_empty());
            for problem in &report.problems {
                proptest::prop_assert!(!problem.what.contains("could not be read"), "{}", problem);
                proptest::prop_assert!(problem.line <= text.lines().count() as u64 + 1, "{}", problem);
            }
        }
    }

    #[test]
    fn no_noise_panics(text in "\\PC{0,60}") {
        proptest::prop_assert!(parse_rule(&text, Path::new("n.yaml"), &known()).is_err());
    }
}

#[test]
fn without_the_settings_any_source_and_receiver_may_be_named() {
    let text = "rule: shop\nworkloads: { pair: [ { cluster: a }, { cluster: b } ] }\ntelemetry: [ envoy ]\nsource: elsewhere\ntraffic: none\n\
                steps: [ { weight: 100%, bake: 5m } ]\nmetrics: { error-rate: {} }\nnotify: [ somebody ]\n";
    let closed = parse_rule(text, Path::new("shop.yaml"), &known()).unwrap_err().to_string();
    assert!(closed.contains("elsewhere") && closed.contains("somebody"), "{closed}");
    let open = Known { without_settings: true, ..known() };
    assert_eq!(parse_rule(text, Path::new("shop.yaml"), &open).unwrap().source.as_deref(), Some("elsewhere"));
}

/// What CI says of a manifest is what the cluster would say of the object.
#[test]
fn check_holds_a_manifest_to_its_namespace_unless_the_settings_allow_more() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).display().to_string()
    };
    let manifest = "apiVersion: canaryd.io/v1alpha1
kind: CanaryRule
metadata: { name: steal, namespace: strangers }
spec:
  workloads: { namespace: theirs, pair: [ { cluster: v1 }, { cluster: v2 } ] }
  telemetry: [ envoy ]
  traffic: { webhook: { url: \"http://strangers.example/\", token-file: /var/run/secrets/kubernetes.io/serviceaccount/token } }
  steps: [ { weight: 100%, bake: 1m } ]
  metrics: { error-rate: {} }
";
    let manifest = file("steal.yaml", manifest);
    let check = |more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_canaryd")).args(["check", &manifest]).args(more).output().unwrap();
        let [out, error] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        (output.status.code(), out + &error)
    };
    let confined = file("confined.yaml", "cluster: { resources: true }\n");
    for more in [&[][..], &["--config", &confined]] {
        let (code, said) = check(more);
        assert_eq!(code, Some(1), "{said}");
        for line in [
            "steal.yaml:5: spec.workloads.namespace: \"theirs\" is not \"strangers\", the namespace of this object",
            "steal.yaml:7: spec.traffic.webhook.token-file: canaryd would send \"/var/run/secrets/kubernetes.io/serviceaccount/token\"",
            "else ask the operator of canaryd for a rule file, or for cluster: { resources: anywhere } in its settings",
            "2 problems",
        ] {
            assert!(said.contains(line), "{line}\n{said}");
        }
    }
    let (code, said) = check(&["--config", &file("anywhere.yaml", "cluster: { resources: anywhere }\n")]);
    assert!(code == Some(0) && said.contains("CanaryRule strangers/steal is valid"), "{said}");
}
