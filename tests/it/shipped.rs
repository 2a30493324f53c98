//! What is shipped beside the binary is true of it: alerts, dashboard, settings.

use crate::rig::{self, prometheus::Prometheus};
use crate::served;
use canaryd::config::{Flags, Settings, parse_rule};
use canaryd::model::{Blind, State, Timestamp, Weight};
use canaryd::telemetry::{Metrics, events};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn dashboard() -> Value {
    let text = std::fs::read_to_string(root("dashboards/rollouts.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Every PromQL expression of the dashboard: panels and annotations, with its variables filled in.
fn expressions() -> Vec<String> {
    let all = dashboard();
    let panels = all["panels"].as_array().unwrap().iter().flat_map(|p| p["targets"].as_array().unwrap());
    let annotations = all["annotations"]["list"].as_array().unwrap().iter();
    let texts: Vec<String> = panels.chain(annotations).filter_map(|t| t["expr"].as_str()).map(|e| e.replace("$rule", ".*")).collect();
    assert!(texts.len() > 10, "only {} expressions found", texts.len());
    texts
}

/// Names of our metrics that a text speaks of.
fn named(text: &str) -> BTreeSet<String> {
    let word = |rest: &str| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    text.match_indices("canaryd_").map(|(at, _)| word(&text[at..])).collect()
}

/// The page of a daemon to which everything has happened once: a family shows only then.
fn metrics_page() -> String {
    let metrics = Metrics::new();
    let view = served::view("shop-1", State::Progressing { step: 1 });
    let (rule, rollout, at) = ("shop", &view.id, Timestamp::from_millis(0));
    let judgement = view.judgement.as_deref();
    events::Decided { rule, rollout, metrics: &view.metrics, decision: &view.decision, judgement }.emit(&metrics);
    events::WeightSeen { rule, weight: Some(Weight::ZERO), at }.emit(&metrics);
    events::TickBlind { source: "main", rollout, why: Blind::SourceDown, detail: "" }.emit(&metrics);
    events::EffectEnded { rollout, router: "envoy", effect: "weight 5%", generation: 1, failed: None }.emit(&metrics);
    events::ReceiverTold { receiver: "ops", target: "http://am", failed: None }.emit(&metrics);
    events::AlertsReceived { by: "am", alerts: 1, taken: 1, truncated: 0, refused: None }.emit(&metrics);
    events::RuleMisses { rule, missing: &["Deployment shop/web".to_owned()], before: &[] }.emit(&metrics);
    metrics.text()
}

#[test]
fn every_metric_that_alerts_and_dashboard_name_is_one_of_ours() {
    let page = metrics_page();
    let known = |name: &str| {
        let family = name.trim_end_matches("_bucket").trim_end_matches("_total");
        page.contains(&format!("# TYPE {name} ")) || page.contains(&format!("# TYPE {family} "))
    };
    let alerts = std::fs::read_to_string(root("rules/prometheus/canaryd.yaml")).unwrap();
    let names: BTreeSet<String> = expressions().iter().flat_map(|e| named(e)).chain(named(&alerts)).collect();
    let unknown: Vec<&String> = names.iter().filter(|n| !known(n)).collect();
    assert!(names.len() > 8 && unknown.is_empty(), "unknown: {unknown:?} in\n{page}");
}

#[test]
fn every_expression_of_the_dashboard_is_accepted_by_prometheus() {
    let folder = tempfile::tempdir().unwrap();
    let Some(prometheus) = Prometheus::start(folder.path(), &[]) else { return };
    for expression in expressions() {
        // panics with the server's words if it is refused
        assert!(prometheus.instant(&expression, None).is_empty(), "{expression} answers without data");
    }
}

#[test]
fn the_alerts_fire_when_they_should() {
    let Some(promtool) = rig::require("promtool") else { return };
    let output =
        Command::new(promtool).args(["test", "rules", "canaryd.test.yaml"]).current_dir(root("rules/prometheus")).output().unwrap();
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_settings_to_begin_with_are_valid() {
    let settings = Settings::load(Some(&root("deploy/canaryd.yaml")), std::iter::empty(), Flags::new()).unwrap();
    assert_eq!(settings.sources.len(), 1);
    assert!(settings.listen.ip().is_loopback());
}

/// The text of a fenced block of README.md that begins with this line.
fn readme_block(first: &str) -> String {
    let readme = std::fs::read_to_string(root("README.md")).unwrap();
    let at = readme.find(first).unwrap_or_else(|| panic!("README has no block that begins with {first:?}"));
    readme[at..].split("```").next().unwrap_or_default().to_owned()
}

#[test]
fn the_rule_and_the_settings_of_the_readme_are_valid() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    std::fs::write(&tokens, "ci:operator:0123456789abcdef0123\n").unwrap();
    let settings = readme_block("# canaryd.yaml").replace("/etc/canaryd/tokens", &tokens.display().to_string());
    let file = folder.path().join("canaryd.yaml");
    std::fs::write(&file, settings).unwrap();
    let settings = Settings::load(Some(&file), std::iter::empty(), Flags::new()).unwrap_or_else(|report| panic!("{report}"));
    let known = settings.known(["envoy".to_owned()]);
    let rule = parse_rule(&readme_block("# rules/shop.yaml"), Path::new("README.md"), &known).unwrap_or_else(|report| panic!("{report}"));
    assert!(rule.not_run.is_empty(), "the README shows what `run` refuses: {:?}", rule.not_run);
    assert_eq!(rule.steps.len(), 4);
}

/// Section, key and value of each line of the systemd unit.
fn unit() -> Vec<[String; 3]> {
    let text = std::fs::read_to_string(root("deploy/canaryd.service")).unwrap();
    let mut section = String::new();
    let mut all = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            Some(name) => section = name.to_owned(),
            None => {
                let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{line:?} is no directive"));
                all.push([section.clone(), key.to_owned(), value.to_owned()]);
            }
        }
    }
    all
}

#[test]
fn the_systemd_unit_names_flags_and_settings_that_there_are() {
    let unit = unit();
    assert!(unit.iter().all(|[section, ..]| ["Unit", "Service", "Install"].contains(&section.as_str())), "{unit:?}");
    let value = |wanted: &str| unit.iter().find(|[_, key, _]| key == wanted).map(|[.., value]| value.clone()).expect(wanted);
    let exec = value("ExecStart");
    let arguments: Vec<&str> = exec.split_whitespace().skip(1).collect();
    // the flags are read before the help is shown
    let is_known = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_canaryd")).args(arguments).arg("--help").output().expect("it runs");
        output.status.success()
    };
    assert!(is_known(&arguments), "{exec}");
    let misspelt: Vec<&str> = arguments.iter().map(|a| if *a == "--config" { "--conifg" } else { *a }).collect();
    assert!(misspelt != arguments && !is_known(&misspelt), "a wrong flag would show");
    let (variable, folder) = value("Environment").split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("a variable");
    assert_eq!(folder, format!("/var/lib/{}", value("StateDirectory")), "the one folder it may write to");
    let load = |folder: &str| {
        let env = [(variable.clone(), folder.to_owned())].into_iter();
        Settings::load(Some(&root("deploy/canaryd.yaml")), env, Flags::new()).unwrap_or_else(|report| panic!("{report}")).data
    };
    assert_eq!([load(&folder), load("/elsewhere")], [PathBuf::from(&folder), PathBuf::from("/elsewhere")]);
}

/// Where there is no systemd there is nobody to ask.
#[test]
fn systemd_understands_the_unit() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("canaryd.service");
    let text = std::fs::read_to_string(root("deploy/canaryd.service")).unwrap();
    std::fs::write(&file, text.replace("/usr/local/bin/canaryd", env!("CARGO_BIN_EXE_canaryd"))).unwrap();
    let Ok(output) = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file).output() else { return };
    let said = String::from_utf8_lossy(&output.stderr);
    // other words are about the machine
    let wrong = ["Unknown", "Failed to parse", "Invalid", "not executable", "ignoring"];
    let lines: Vec<&str> = said.lines().filter(|l| l.contains("canaryd.service") && wrong.iter().any(|word| l.contains(word))).collect();
    assert!(lines.is_empty(), "{lines:?}");
}
