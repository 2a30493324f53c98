//! `canaryd check`: the daemon's own loader on rule files; with `--live` also what the source and the router answer.

use super::failure::Failure;
use super::live::{self, Live};
use super::output::{self, OutputArgs};
use super::plan::Planned;
use super::run::settings as read_settings;
use crate::app;
use crate::config::{Flags, Known, LoadedRule, Report, Settings, load_rules};
use crate::model::rule::{AfterRollback, Promotion, Replicas};
use crate::model::{Arm, Rule};
use crate::runtime::plan::Expected;
use crate::source::Packs;
use crate::source::packs::sight::blind_spots;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

/// What `check` was asked.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Rule files, manifests of CanaryRules, or folders of them
    #[arg(required = true, value_name = "RULES")]
    rules: Vec<PathBuf>,
    /// Settings file: which sources, packs and receivers rules may name
    #[arg(long, value_name = "FILE", env = "CANARYD_CONFIG")]
    config: Option<PathBuf>,
    /// Also ask the sources and routers; takes a few ticks
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// What is known of one rule.
struct Checked {
    rule: Rule,
    /// What it is called in a cluster, if it is to be an object there.
    object: Option<String>,
    /// Of which namespace it is, kubectl says.
    any_namespace: bool,
    live: Option<Live>,
    /// What its packs cannot see.
    unseen: Option<String>,
    /// What its steps would see at the traffic of now.
    planned: Option<Planned>,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let settings = read_settings(args.config.as_deref(), Flags::new())?;
    let packs = app::packs(&settings)?;
    let known = known(&settings, &packs, args.config.is_some());
    let loaded = load_rules(&args.rules, &known).map_err(|report| refused(&report, args.output))?;
    let (mut checked, skipped) = (Vec::new(), loaded.skipped);
    for LoadedRule { rule, object, any_namespace } in loaded.rules {
        let mut live = if args.live { Some(live::look(&settings, &packs, &rule).await) } else { None };
        let planned = live.as_mut().and_then(|live| planned(&rule, settings.time_scale, live));
        let unseen = blind_spots(&packs, &rule.telemetry, false);
        checked.push(Checked { rule, object, any_namespace, live, unseen, planned });
    }
    let of_daemon = if args.live { super::workloads::of_daemon(&settings).await } else { Vec::new() };
    match args.output.json() {
        true => output::write_json(&json!({
            "rules": checked.iter().map(wire).collect::<Vec<_>>(),
            "skipped": skipped,
            "daemon": of_daemon,
            "problems": [],
        })),
        false => {
            let rules: String = checked.iter().map(page).collect();
            output::write(&format!("{rules}{}{}", skipped_page(&skipped), daemon_page(&of_daemon)))
        }
    }?;
    refused_by_sources(&checked)
}

/// A rule the loader takes is of no use if its source does not: whoever runs this in CI reads the exit code.
fn refused_by_sources(checked: &[Checked]) -> Result<(), Failure> {
    let names: Vec<&str> = checked.iter().filter(|c| c.live.as_ref().is_some_and(|l| l.refused)).map(|c| c.rule.name.as_str()).collect();
    match names.as_slice() {
        [] => Ok(()),
        names => Err(Failure::Refused(format!("{}: the source does not take what it asks, see above", names.join(", ")))),
    }
}

/// What rules may name; without settings nobody can say which sources and receivers there are.
pub(super) fn known(settings: &Settings, packs: &Packs, with_settings: bool) -> Known {
    Known { without_settings: !with_settings, ..app::known(settings, packs) }
}

/// The table of `plan`, at the traffic that was seen.
fn planned(rule: &Rule, scale: f64, live: &mut Live) -> Option<Planned> {
    let expected = Expected { per_minute: live.total_per_minute()?, error_rate: None, phi: None };
    let planned = Planned::of(rule, scale, &expected, Some(live));
    planned.map_err(|why| live.notes.push(why)).ok()
}

pub(super) fn refused(report: &Report, output: OutputArgs) -> Failure {
    if output.json() {
        let problem =
            |p: &crate::config::Problem| json!({ "file": p.file, "line": p.line, "path": p.path, "what": p.what, "way-out": p.way_out });
        let all: Vec<Value> = report.problems.iter().map(problem).collect();
        if let Err(failure) = output::write_json(&json!({ "rules": [], "problems": all })) {
            return failure;
        }
    }
    let count = report.problems.len();
    Failure::Refused(format!("{report}\n{count} problem{}", if count == 1 { "" } else { "s" }))
}

fn page(checked: &Checked) -> String {
    let Checked { rule, object, any_namespace, live, unseen, planned } = checked;
    let total: Duration = rule.steps.iter().map(|s| s.lasts).sum();
    let steps: Vec<String> = rule.steps.iter().map(|s| format!("{} for {}", s.weight, minutes(s.lasts))).collect();
    let what = object.as_ref().map_or_else(|| format!("rule {}", rule.name), |object| format!("CanaryRule {object}"));
    let mut out = format!("{}: {what} is valid\n", rule.file.display());
    // writing into a String cannot fail
    if let Some((namespace, _)) = object.as_ref().filter(|_| *any_namespace).and_then(|object| object.split_once('/')) {
        let _ = writeln!(out, "  it names no namespace, and is read as one of namespace {namespace}");
    }
    let _ = writeln!(out, "  steps: {} ({} in all)", steps.join(", "), minutes(total));
    let names: Vec<&str> = rule.metrics.iter().map(|m| m.name.as_str()).collect();
    let _ = writeln!(out, "  metrics: {}", names.join(", "));
    let acts = acts(rule);
    if !acts.is_empty() {
        let _ = writeln!(out, "  in the cluster: {}", acts.join("; "));
    }
    for warning in warnings(rule) {
        let _ = writeln!(out, "  warning: {warning}");
    }
    for part in &rule.not_run {
        let _ = writeln!(out, "  `run` refuses it: line {}: {}: {}", part.line, part.path, part.why);
    }
    // `--live` says it among what else it notes
    if let Some(unseen) = unseen.as_ref().filter(|_| live.is_none()) {
        let _ = writeln!(out, "  {unseen}");
    }
    if let Some(live) = live {
        out += &live_page(live);
    }
    if let Some(planned) = planned {
        out += &planned.page(output::style());
    }
    out
}

/// What is there, and not looked at.
fn skipped_page(skipped: &[String]) -> String {
    skipped.iter().map(|what| format!("{what}: no CanaryRule, not checked\n")).collect()
}

/// What is no rule's own.
fn daemon_page(notes: &[String]) -> String {
    if notes.is_empty() { String::new() } else { format!("the daemon itself:\n  {}\n", notes.join("\n  ")) }
}

/// What the rule asks of a cluster, besides the traffic.
fn acts(rule: &Rule) -> Vec<String> {
    let named = rule.workloads.sides.iter().all(|side| side.fields.contains_key("deployment"));
    let promotion = match rule.promotion {
        Promotion::Swap { keep, idle: Some(1) } => Some(format!("1 idle replica of the old version after {}", said(keep))),
        Promotion::Swap { keep, idle: Some(idle) } => Some(format!("{idle} idle replicas of the old version after {}", said(keep))),
        Promotion::Swap { idle: None, .. } if named => Some("the old version keeps its replicas (idle-replicas would scale it)".to_owned()),
        Promotion::Copy => Some("promotion copies the canary's pod template into stable".to_owned()),
        Promotion::Swap { .. } | Promotion::External { .. } | Promotion::Leave => None,
    };
    let after = match rule.after_rollback {
        AfterRollback::Leave => None,
        AfterRollback::Undo => Some("after a rollback undo".to_owned()),
        AfterRollback::ScaleDown => Some("after a rollback scale down".to_owned()),
    };
    let starts = rule.start.on_new_template.then(|| "starts at a new template".to_owned());
    let follow = (rule.replicas == Replicas::Follow).then(|| "replicas follow".to_owned());
    [starts, follow, after, promotion].into_iter().flatten().collect()
}

/// What the rule asks for in good order, and few mean.
fn warnings(rule: &Rule) -> Vec<String> {
    if rule.replicas == Replicas::Follow || rule.traffic.is_of_replicas() {
        return Vec::new();
    }
    [idle_for_ever(rule), none_for_ever(rule)].into_iter().flatten().collect()
}

fn idle_for_ever(rule: &Rule) -> Option<String> {
    let Promotion::Swap { idle: Some(idle), .. } = rule.promotion else { return None };
    let next = match idle {
        0 => "its next release has no pods, and does not begin".to_owned(),
        1 => "its next release begins with that one, which is all that 100% of the traffic then gets".to_owned(),
        _ => format!("its next release begins with those {idle}, which are all that 100% of the traffic then gets"),
    };
    let way_out = "write replicas: follow, or scale it with each release";
    Some(format!("idle-replicas scales the old version down, and replicas: external leaves it so: {next}: {way_out}"))
}

fn none_for_ever(rule: &Rule) -> Option<String> {
    let who = match (rule.promotion, rule.after_rollback) {
        (Promotion::Copy, AfterRollback::ScaleDown) => "promotion: copy and after-rollback: scale-down leave",
        (Promotion::Copy, _) => "promotion: copy leaves",
        (_, AfterRollback::ScaleDown) => "after-rollback: scale-down leaves",
        _ => return None,
    };
    Some(format!(
        "{who} the canary without replicas, and replicas: external leaves it so: its next release has no pods, and does not begin: \
         write replicas: follow, or scale it with each release"
    ))
}

/// Whole hours as such, whatever they are in minutes.
fn said(d: Duration) -> String {
    let hours = d.as_secs() / 3600;
    if hours > 0 && d.as_secs().is_multiple_of(3600) { format!("{hours}h") } else { minutes(d) }
}

fn live_page(live: &Live) -> String {
    let mut out = String::new();
    let scrape = live.scrape_interval.map_or_else(|| "none measured".to_owned(), minutes);
    let _ = writeln!(out, "  tick: {} (scrape interval {scrape}, settled after {} ms)", minutes(live.interval), live.settle.as_millis());
    for arm in Arm::BOTH {
        let seen = live.per_minute[arm].map_or_else(|| "no requests seen".to_owned(), |n| format!("{n:.0} requests a minute"));
        let _ = writeln!(out, "  {}: {seen}", arm.name());
    }
    for note in &live.notes {
        let _ = writeln!(out, "  {note}");
    }
    for query in &live.queries {
        let _ = writeln!(out, "  asks: {query}");
    }
    out
}

fn minutes(d: Duration) -> String {
    let s = d.as_secs_f64();
    if s >= 60.0 && s % 60.0 == 0.0 { format!("{}m", s / 60.0) } else { format!("{s}s") }
}

fn wire(checked: &Checked) -> Value {
    let Checked { rule, object, live, unseen, planned, .. } = checked;
    let not_run: Vec<Value> = rule.not_run.iter().map(|n| json!({ "line": n.line, "path": n.path, "why": n.why })).collect();
    let steps: Vec<Value> =
        rule.steps.iter().map(|s| json!({ "weight-permille": s.weight.permille(), "for-s": s.lasts.as_secs_f64() })).collect();
    json!({
        "rule": rule.name,
        "file": rule.file.display().to_string(),
        "object": object,
        "steps": steps,
        "metrics": rule.metrics.iter().map(|m| m.name.clone()).collect::<Vec<_>>(),
        "in-the-cluster": acts(rule),
        "warnings": warnings(rule),
        "not-run": not_run,
        "cannot-see": unseen,
        "live": live.as_ref().map(|l| json!({
            "interval-s": l.interval.as_secs_f64(),
            "scrape-interval-s": l.scrape_interval.map(|s| s.as_secs_f64()),
            "settle-ms": l.settle.as_millis() as u64,
            "requests-per-minute": { "baseline": l.per_minute.baseline, "canary": l.per_minute.canary },
            "notes": l.notes,
            "refused": l.refused,
            "queries": l.queries,
        })),
        "plan": planned.as_ref().map(Planned::wire),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Known, parse_rule};
    use std::path::Path;

    fn warned(more: &str) -> Vec<String> {
        let pair = "pair: [ { deployment: a, subset: v1 }, { deployment: b, subset: v2 } ]";
        let fixed = "stable: { deployment: a, subset: v1 }, canary: { deployment: b, subset: v2 }";
        let workloads = if more.contains("copy") || more.contains("external") { fixed } else { pair };
        let text = format!(
            "rule: shop\nworkloads: {{ namespace: shop, {workloads} }}\n\
             telemetry: [ istio ]\ntraffic: {{ istio: {{ virtual-service: shop }} }}\nsteps: [ {{ weight: 100%, bake: 1m }} ]\n\
             metrics: {{ error-rate: {{}} }}\n{more}\n"
        );
        let known = Known { packs: ["istio".to_owned()].into(), cluster: true, ..Known::default() };
        warnings(&parse_rule(&text, Path::new("shop.yaml"), &known).unwrap_or_else(|report| panic!("{report}")))
    }

    #[test]
    fn a_canary_that_is_scaled_to_none_and_that_nobody_scales_up_is_warned_of() {
        let whose = |more: &str| match warned(more).as_slice() {
            [] => None,
            [one] => one.split_once(" the canary without replicas").map(|(who, _)| who.to_owned()),
            more => panic!("{more:?}"),
        };
        let scaled_down = "after-rollback: scale-down";
        assert_eq!(whose("promotion: external"), None);
        assert_eq!(whose("promotion: copy").as_deref(), Some("promotion: copy leaves"));
        assert_eq!(whose(scaled_down).as_deref(), Some("after-rollback: scale-down leaves"));
        let both = format!("promotion: copy\n{scaled_down}");
        assert_eq!(whose(&both).as_deref(), Some("promotion: copy and after-rollback: scale-down leave"));
        assert_eq!(whose(&format!("{both}\nreplicas: follow")), None);
    }

    #[test]
    fn idle_replicas_that_nobody_gives_back_are_warned_of() {
        assert!(warned("").is_empty() && warned("promotion: { swap: { keep: 1h } }").is_empty());
        assert!(warned("promotion: { swap: { idle-replicas: 0 } }\nreplicas: follow").is_empty());
        for (idle, says) in [("0", "does not begin"), ("1", "begins with that one"), ("3", "begins with those 3")] {
            let said = warned(&format!("promotion: {{ swap: {{ idle-replicas: {idle} }} }}"));
            assert!(matches!(said.as_slice(), [one] if one.contains(says) && one.contains("write replicas: follow, or")), "{said:?}");
        }
    }
}
