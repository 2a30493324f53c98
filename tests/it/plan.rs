//! `canaryd plan` through the real binary.

use serde_json::Value;
use std::io::Write;
use std::process::{Command, Stdio};
use tempfile::NamedTempFile;

const RULE: &str = "\
rule: shop
workloads: { pair: [ { cluster: v1 }, { cluster: v2 } ] }
telemetry: [ envoy ]
traffic: none
promotion: swap
steps:
  - { weight: 5%,   for: 15m }
  - { weight: 25%,  for: 15m }
  - { weight: 50%,  for: 30m }
  - { weight: 100%, bake: 30m }
metrics:
  error-rate: { tolerate: { relative: 20%, absolute: 0.02% } }
  latency-p95: {}
";

const TABLE: &str = "\
  at 200 requests a second, 0.1% failing (given), phi 1 (assumed), ticks of 15s; comparison starts 2m after the first request
  a fault that begins with the step is seen after (half of the rollouts / nine of ten):
    STEP  FOR  BASELINE/MIN  CANARY/MIN  ERRORS X2      ERRORS X5      OUTAGE  LATENCY X2  NOT WORSE      REQUESTS
    5%    15m  11400         600         44.7m / 91.3m  4.86m / 8.42m  30s     -           26.4m / 50.7m  15800 / 30400
    25%   15m  9000          3000        11.7m / 23.9m  51.1s / 1.78m  30s     -           5.44m / 11.2m  16300 / 33600
    50%   30m  6000          6000        9.59m / 19.1m  44.9s / 1.45m  30s     -           3.4m / 6.7m    20400 / 40200
    100%  30m  0             12000       -              -              30s     -           -              -
  smallest error rate found within the steps: 0.155% (x1.55), in nine of ten rollouts 0.1716% (x1.72)
  latency x2 follows from the buckets of the past hour, which are not known here: --live reads them
";

fn plan(rule: &NamedTempFile, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_canaryd"));
    let output = command.arg("plan").arg(rule.path()).args(args).stdin(Stdio::null()).output().expect("runs");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn rule(text: &str) -> NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(".yaml").tempfile().expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    file
}

#[test]
fn the_table_says_what_each_step_would_see() {
    let file = rule(RULE);
    let (code, text, errors) = plan(&file, &["--rate", "200", "--error-rate", "0.1%"]);
    assert_eq!((code, text, errors), (Some(0), format!("{}: rule shop\n  {TABLE}", file.path().display()), String::new()));
}

#[test]
fn programs_get_numbers_and_null_for_what_never_comes() {
    let file = rule(RULE);
    let (code, text, errors) = plan(&file, &["--rate", "200", "--error-rate", "0%", "-o", "json"]);
    assert_eq!(code, Some(0), "{errors}");
    let document: Value = serde_json::from_str(&text).expect("JSON");
    let plan = &document["rules"][0]["plan"];
    assert_eq!((&document["rules"][0]["rule"], plan["requests-per-minute"].as_f64()), (&Value::from("shop"), Some(12_000.0)));
    let first = &plan["steps"][0];
    assert_eq!(first["errors-x2-min"]["median"], Value::Null, "twice nothing is nothing");
    assert_eq!((first["weight-permille"].as_u64(), first["outage-min"]["p90"].as_f64()), (Some(50), Some(0.5)));
    // without an error in either arm: the rule of three, 8.5 min in the simulations of STATISTICS 9, and the warm-up
    let proof = first["not-worse-min"]["p90"].as_f64().expect("a time");
    assert!((proof - 2.0 - 8.5).abs() < 0.5, "{proof}");
    assert_eq!(plan["steps"][3]["not-worse-min"], Value::Null, "no baseline at 100 %");
    assert!(plan["smallest-error-rate"]["median"].as_f64().is_some_and(|p| p > 2e-4 && p < 1e-3), "{plan:#}");
}

#[test]
fn without_traffic_nothing_can_be_said() {
    let file = rule(RULE);
    for (args, code, want) in [
        (vec![], 2, "--rate <N>|--live"),
        (vec!["--rate", "0"], 2, "a number above 0"),
        (vec!["--rate", "200", "--error-rate", "0.1"], 2, "a percentage below 100%"),
        // the rule's pack reads Prometheus, and nobody said where that is
        (vec!["--live"], 1, "shop: no requests were seen: give --rate instead of --live (traffic: v2 carries 0% now; there is no source"),
    ] {
        let (got, text, errors) = plan(&file, &args);
        assert_eq!((got, text.as_str()), (Some(code), ""), "{args:?}: {errors}");
        assert!(errors.contains(want), "{args:?}: {errors}");
    }
    let (code, _, errors) = plan(&rule("rule: x\n"), &["--rate", "1"]);
    assert!(code == Some(1) && errors.contains("steps"), "{errors}");
}
