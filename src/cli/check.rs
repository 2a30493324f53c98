//! `canaryd check`: the daemon's own loader on rule files; with `--live` also what the source and the router answer.

use super::failure::Failure;
use super::output::{self, OutputArgs};
use super::run::settings as read_settings;
use crate::app;
use crate::config::{Flags, Report, Settings, load_rules};
use crate::model::{Arm, PerArm, Rule, Side};
use crate::runtime::{self, parts};
use crate::source::{Packs, Source};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

/// Ticks that are looked at to count requests, after the first, which only notes raw values.
const TICKS_LOOKED_AT: u32 = 2;

/// What `check` was asked.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Rule files, or folders of them
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
    live: Option<Live>,
}

/// What the world answers to one rule.
#[derive(Default)]
struct Live {
    queries: Vec<String>,
    scrape_interval: Option<Duration>,
    interval: Duration,
    settle: Duration,
    per_minute: PerArm<Option<f64>>,
    notes: Vec<String>,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let settings = read_settings(args.config.as_deref(), Flags::new())?;
    let packs = app::packs(&settings)?;
    let mut known = app::known(&settings, &packs);
    if args.config.is_none() {
        // without settings nobody can say which sources and receivers there are
        known.sources.clear();
        known.receivers.clear();
    }
    let rules = load_rules(&args.rules, &known).map_err(|report| refused(&report, args.output))?;
    let mut checked = Vec::new();
    for rule in rules {
        let live = if args.live { Some(look(&settings, &packs, &rule).await) } else { None };
        checked.push(Checked { rule, live });
    }
    match args.output.json() {
        true => output::write_json(&json!({ "rules": checked.iter().map(wire).collect::<Vec<_>>(), "problems": [] })),
        false => output::write(&checked.iter().map(page).collect::<String>()),
    }
}

fn refused(report: &Report, output: OutputArgs) -> Failure {
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

async fn look(settings: &Settings, packs: &Packs, rule: &Rule) -> Live {
    app::install_tls();
    let mut live = Live::default();
    let canary = traffic(rule, &mut live).await;
    match app::source(settings, packs, rule, None) {
        Ok(source) => numbers(source, rule, canary, &mut live).await,
        Err(why) => live.notes.push(why),
    }
    live
}

/// Asks the router who carries the traffic, and whether it can represent every step.
async fn traffic(rule: &Rule, live: &mut Live) -> Side {
    let router = match crate::router::open(&rule.traffic, None) {
        Ok(router) => router,
        Err(e) => {
            live.notes.push(format!("traffic: {e}"));
            return Side::Second;
        }
    };
    let finest = router.granularity_permille().max(1);
    for step in rule.steps.iter().filter(|s| s.weight.permille() % finest != 0) {
        live.notes.push(format!(
            "traffic: {} moves in steps of {}.{}%, and a step asks for {}",
            router.name(),
            finest / 10,
            finest % 10,
            step.weight
        ));
    }
    match router.read(Side::Second).await {
        Ok(reading) => {
            let name = rule.workloads.side(Side::Second).name();
            live.notes.push(format!("traffic: {name} carries {} now", reading.weight));
            if reading.weight.is_full() { Side::First } else { Side::Second }
        }
        Err(e) => {
            live.notes.push(format!("traffic: {e}"));
            Side::Second
        }
    }
}

async fn numbers(mut source: Box<dyn Source>, rule: &Rule, canary: Side, live: &mut Live) {
    let wanted = parts::subscription(rule, canary, 1);
    let set_up = match source.set_up(&wanted, runtime::now()).await {
        Ok(set_up) => set_up,
        Err(e) => return live.notes.push(format!("source: {e}")),
    };
    live.interval = parts::interval(rule, set_up.scrape_interval);
    live.scrape_interval = set_up.scrape_interval;
    live.queries = set_up.queries;
    live.notes.extend(set_up.warnings);
    source.subscribe(wanted, set_up.bounds_ms);
    count(&mut *source, live).await;
    live.settle = source.settle();
}

/// Requests per minute of each arm over the next ticks.
async fn count(source: &mut dyn Source, live: &mut Live) {
    let mut at = runtime::now().floor_to(live.interval);
    let mut seen = PerArm::from_fn(|_: Arm| None::<f64>);
    for tick in 0..=TICKS_LOOKED_AT {
        at = at + live.interval;
        tokio::time::sleep((at + source.settle()).since(runtime::now())).await;
        let Some(sample) = source.tick(at).await.into_iter().next() else { continue };
        for arm in Arm::BOTH {
            match sample.arms[arm].requests {
                Ok(counts) if tick > 0 => seen[arm] = Some(seen[arm].unwrap_or(0.0) + counts.total),
                Ok(_) => {}
                Err(_) if tick == TICKS_LOOKED_AT && !sample.detail.is_empty() => {
                    live.notes.push(format!("{}: {}", arm.name(), sample.detail))
                }
                Err(why) if tick == TICKS_LOOKED_AT => live.notes.push(format!("{}: nothing was seen ({})", arm.name(), why.name())),
                Err(_) => {}
            }
        }
    }
    let minutes = live.interval.as_secs_f64() * f64::from(TICKS_LOOKED_AT) / 60.0;
    live.per_minute = seen.map(|n| n.map(|n| n / minutes));
}

fn page(checked: &Checked) -> String {
    let Checked { rule, live } = checked;
    let total: Duration = rule.steps.iter().map(|s| s.lasts).sum();
    let steps: Vec<String> = rule.steps.iter().map(|s| format!("{} for {}", s.weight, minutes(s.lasts))).collect();
    let mut out = format!("{}: rule {} is valid\n", rule.file.display(), rule.name);
    // writing into a String cannot fail
    let _ = writeln!(out, "  steps: {} ({} in all)", steps.join(", "), minutes(total));
    let names: Vec<&str> = rule.metrics.iter().map(|m| m.name.as_str()).collect();
    let _ = writeln!(out, "  metrics: {}", names.join(", "));
    for part in &rule.not_run {
        let _ = writeln!(out, "  `run` refuses it: line {}: {}: {}", part.line, part.path, part.why);
    }
    if let Some(live) = live {
        let _ = write!(out, "{}", live_page(live));
    }
    out
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
    let Checked { rule, live } = checked;
    let not_run: Vec<Value> = rule.not_run.iter().map(|n| json!({ "line": n.line, "path": n.path, "why": n.why })).collect();
    let steps: Vec<Value> =
        rule.steps.iter().map(|s| json!({ "weight-permille": s.weight.permille(), "for-s": s.lasts.as_secs_f64() })).collect();
    json!({
        "rule": rule.name,
        "file": rule.file.display().to_string(),
        "steps": steps,
        "metrics": rule.metrics.iter().map(|m| m.name.clone()).collect::<Vec<_>>(),
        "not-run": not_run,
        "live": live.as_ref().map(|l| json!({
            "interval-s": l.interval.as_secs_f64(),
            "scrape-interval-s": l.scrape_interval.map(|s| s.as_secs_f64()),
            "settle-ms": l.settle.as_millis() as u64,
            "requests-per-minute": { "baseline": l.per_minute.baseline, "canary": l.per_minute.canary },
            "notes": l.notes,
            "queries": l.queries,
        })),
    })
}
