//! `canaryd plan`: how long each step of a rule would need to see a fault, before it runs. `check --live` shows the same table.

use super::failure::Failure;
use super::live::{self, Live};
use super::output::{self, OutputArgs};
use super::run::settings as read_settings;
use super::table::{self, Cell, Style, Tone};
use crate::app;
use crate::config::{Flags, Settings, load_rules};
use crate::model::{MetricKind, PerArm, Rule, Weight};
use crate::runtime::parts;
use crate::runtime::plan::{self, CpuCases, Expected, Minutes, Origin, Place, Plan, StepPlan};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::PathBuf;

/// Minutes beyond this are as good as never: a year.
const NEVER_MIN: f64 = 365.0 * 24.0 * 60.0;

/// What `plan` was asked.
#[derive(Clone, Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("traffic").required(true).args(["rate", "live"])))]
pub(super) struct Args {
    /// Rule file, or folder of rules
    #[arg(required = true, value_name = "RULE")]
    rules: Vec<PathBuf>,
    /// Settings file: which sources, packs and receivers rules may name
    #[arg(long, value_name = "FILE", env = "CANARYD_CONFIG")]
    config: Option<PathBuf>,
    /// Requests a second of both versions together
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Ask the source for the rate, and for the baseline's past hour; takes a few ticks
    #[arg(long)]
    live: bool,
    /// Failed requests of the baseline, such as 0.1%; otherwise of the past hour, or 0.1%
    #[arg(long, value_name = "P", value_parser = error_rate)]
    error_rate: Option<f64>,
    /// Dispersion: how clumped errors are, at least 1; otherwise of the past hour, or 1
    #[arg(long, value_name = "N", value_parser = phi)]
    phi: Option<f64>,
    #[command(flatten)]
    output: OutputArgs,
}

fn rate(text: &str) -> Result<f64, String> {
    number(text).filter(|n| *n > 0.0 && *n <= 1e9).ok_or_else(|| "requests a second are a number above 0, such as 200".to_owned())
}

fn error_rate(text: &str) -> Result<f64, String> {
    let percent = text.trim().strip_suffix('%').and_then(number).map(|n| n / 100.0);
    percent.filter(|p| (0.0..1.0).contains(p)).ok_or_else(|| "an error rate is a percentage below 100%, such as 0.1%".to_owned())
}

fn phi(text: &str) -> Result<f64, String> {
    number(text)
        .filter(|n| (1.0..=1e6).contains(n))
        .ok_or_else(|| "a dispersion is a number of at least 1 (independent requests)".to_owned())
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|n: &f64| n.is_finite())
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let settings = read_settings(args.config.as_deref(), Flags::new())?;
    let packs = app::packs(&settings)?;
    let known = super::check::known(&settings, &packs, args.config.is_some());
    let rules = load_rules(&args.rules, &known).map_err(|report| super::check::refused(&report, args.output))?;
    let mut planned = Vec::new();
    for rule in rules.rules.iter().map(|loaded| &loaded.rule) {
        let live = if args.live { Some(live::look(&settings, &packs, rule).await) } else { None };
        planned.push((rule, planned_one(&args, &settings, rule, live.as_ref())?));
    }
    match args.output.json() {
        true => output::write_json(&json!({ "rules": planned.iter().map(|(rule, p)| wire(rule, p)).collect::<Vec<_>>() })),
        false => output::write(&planned.iter().map(|(rule, p)| page(rule, p, output::style())).collect::<String>()),
    }
}

fn planned_one(args: &Args, settings: &Settings, rule: &Rule, live: Option<&Live>) -> Result<Planned, Failure> {
    let per_minute = match (args.rate, live) {
        (Some(per_second), _) => per_second * 60.0,
        (None, Some(live)) => live.total_per_minute().ok_or_else(|| Failure::Refused(format!("{}: {}", rule.name, unseen(live))))?,
        (None, None) => return Err(Failure::Usage("no traffic: give --rate N, or --live".to_owned())),
    };
    let expected = Expected { per_minute, error_rate: args.error_rate, phi: args.phi };
    Planned::of(rule, settings.time_scale, &expected, live).map_err(|why| Failure::Refused(format!("{}: {why}", rule.name)))
}

fn unseen(live: &Live) -> String {
    let why = live.notes.join("; ");
    format!("no requests were seen: give --rate instead of --live{}{why}", if why.is_empty() { "" } else { " (" })
        + if why.is_empty() { "" } else { ")" }
}

/// A plan with what it was made from.
pub(super) struct Planned {
    per_minute: f64,
    interval_s: f64,
    plan: Plan,
    cpu: Option<Vec<(Weight, CpuCases)>>,
    /// Latency is judged, and nothing is known of its past.
    latency_unknown: bool,
}

impl Planned {
    /// Of one rule; `live`: where it would run, else ticks of the rule and a steady past are assumed.
    pub(super) fn of(rule: &Rule, scale: f64, expected: &Expected, live: Option<&Live>) -> Result<Self, String> {
        let seen = live.filter(|l| !l.interval.is_zero());
        let interval = seen.map_or_else(|| parts::interval(rule, None), |l| l.interval);
        // a source that was looked at and has no history is no reason to assume a steady one
        let none = Default::default();
        let history = seen.map(|l| l.history.as_ref().unwrap_or(&none));
        let place = Place { interval, bounds_ms: seen.map_or(&[], |l| &l.bounds_ms), scale, history };
        let plan = plan::of(rule, &place, expected)?;
        let cpu = plan::cpu(rule, &place, live.map_or_else(PerArm::default, |l| l.pods));
        let judged = rule.metrics.iter().any(|m| m.compared && matches!(m.kind, MetricKind::Latency(_)));
        let latency_unknown = judged && plan.steps.iter().all(|s| s.latency_x2.is_none());
        Ok(Self { per_minute: expected.per_minute, interval_s: interval.as_secs_f64(), plan, cpu, latency_unknown })
    }

    /// The table, each line indented.
    pub(super) fn page(&self, style: Style) -> String {
        let Self { plan, .. } = self;
        let mut out = String::new();
        // writing into a String cannot fail
        let _ = writeln!(
            out,
            "  at {} requests a second, {} failing ({}), phi {} ({}), ticks of {}; comparison starts {} after the first request",
            short(self.per_minute / 60.0),
            percent(plan.error_rate.0),
            origin(plan.error_rate.1),
            short(plan.phi.0),
            origin(plan.phi.1),
            time(self.interval_s / 60.0),
            time(plan.warm_up_min)
        );
        let _ = writeln!(out, "  a fault that begins with the step is seen after (half of the rollouts / nine of ten):");
        let names =
            ["STEP", "FOR", "BASELINE/MIN", "CANARY/MIN", "ERRORS X2", "ERRORS X5", "OUTAGE", "LATENCY X2", "NOT WORSE", "REQUESTS"];
        let mut rows = vec![table::headings(&names)];
        rows.extend(plan.steps.iter().map(row));
        out += &table::lines(&rows, "    ", style);
        let _ = writeln!(out, "  {}", self.smallest());
        if self.latency_unknown {
            let _ = writeln!(out, "  latency x2 follows from the buckets of the past hour, which are not known here: --live reads them");
        }
        for (weight, c) in self.cpu.iter().flatten() {
            let [fit, direct, skip] = [c.fit, c.direct, c.skip].map(|v| (v * 100.0).round());
            let _ = writeln!(
                out,
                "  cpu at {weight}: compared by load {fit}% of the time, directly {direct}%, not at all {skip}% (past day, pods of now)"
            );
        }
        out
    }

    fn smallest(&self) -> String {
        let times = |p: f64| format!("{} (x{})", percent(p), short(p / self.plan.error_rate.0));
        match self.plan.smallest {
            None => "errors are not compared".to_owned(),
            Some(m) if m.median.is_infinite() => "no error rate is found within the steps by comparison, not even 100%".to_owned(),
            Some(m) if m.p90.is_infinite() => {
                format!("smallest error rate found within the steps: {}; none in nine of ten", times(m.median))
            }
            Some(m) => format!("smallest error rate found within the steps: {}, in nine of ten rollouts {}", times(m.median), times(m.p90)),
        }
    }

    /// The same for programs; a time that never comes is null.
    pub(super) fn wire(&self) -> Value {
        let plan = &self.plan;
        let known = |(value, from): (f64, Origin)| json!({ "value": value, "from": origin(from) });
        let cpu = |(weight, c): &(Weight, CpuCases)| json!({ "weight-permille": weight.permille(), "fit": c.fit, "direct": c.direct, "skip": c.skip });
        json!({
            "requests-per-minute": self.per_minute,
            "interval-s": self.interval_s,
            "error-rate": known(plan.error_rate),
            "phi": known(plan.phi),
            "warm-up-min": plan.warm_up_min,
            "steps": plan.steps.iter().map(step_wire).collect::<Vec<_>>(),
            "smallest-error-rate": plan.smallest.map(both),
            "cpu": self.cpu.as_ref().map(|all| all.iter().map(cpu).collect::<Vec<_>>()),
        })
    }
}

fn page(rule: &Rule, planned: &Planned, style: Style) -> String {
    format!("{}: rule {}\n{}", rule.file.display(), rule.name, planned.page(style))
}

fn wire(rule: &Rule, planned: &Planned) -> Value {
    json!({ "rule": rule.name, "file": rule.file.display().to_string(), "plan": planned.wire() })
}

fn row(s: &StepPlan) -> Vec<Cell> {
    let fault = |m: Option<Minutes>| {
        let tone = if m.is_some_and(|m| m.p90 > s.for_min) { Tone::Odd } else { Tone::Plain };
        Cell::new(&m.map_or_else(|| "-".to_owned(), |m| pair(m, time)), tone)
    };
    let requests = s.ok_requests.map_or_else(|| "-".to_owned(), |m| pair(m, requests_said));
    vec![
        Cell::plain(&s.weight.to_string()),
        Cell::plain(&time(s.for_min)),
        Cell::plain(&short(s.per_minute.baseline)),
        Cell::plain(&short(s.per_minute.canary)),
        fault(s.errors_x2),
        fault(s.errors_x5),
        fault(s.outage),
        fault(s.latency_x2),
        fault(s.ok),
        Cell::plain(&requests),
    ]
}

fn step_wire(s: &StepPlan) -> Value {
    json!({
        "weight-permille": s.weight.permille(),
        "for-min": s.for_min,
        "requests-per-minute": { "baseline": s.per_minute.baseline, "canary": s.per_minute.canary },
        "errors-x2-min": s.errors_x2.map(both),
        "errors-x5-min": s.errors_x5.map(both),
        "outage-min": s.outage.map(both),
        "latency-x2-min": s.latency_x2.map(both),
        "not-worse-min": s.ok.map(both),
        "not-worse-requests": s.ok_requests.map(both),
    })
}

/// JSON has no infinity: serde_json writes null.
fn both(m: Minutes) -> Value {
    json!({ "median": m.median, "p90": m.p90 })
}

fn pair(m: Minutes, one: impl Fn(f64) -> String) -> String {
    let (median, p90) = (one(m.median), one(m.p90));
    if median == p90 { median } else { format!("{median} / {p90}") }
}

const fn origin(from: Origin) -> &'static str {
    match from {
        Origin::Given => "given",
        Origin::History => "history",
        Origin::Assumed => "assumed",
    }
}

/// Minutes as a person says them.
fn time(minutes: f64) -> String {
    match minutes {
        m if m.is_nan() || m > NEVER_MIN => "never".to_owned(),
        m if m < 1.0 => format!("{}s", short(m * 60.0)),
        m if m < 100.0 => format!("{}m", short(m)),
        m if m < 48.0 * 60.0 => format!("{}h", short(m / 60.0)),
        m => format!("{:.0}d", m / 1440.0),
    }
}

/// Two digits after a small number, none after a large one.
fn short(v: f64) -> String {
    match v {
        v if v.is_infinite() => "never".to_owned(),
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => trimmed(&format!("{v:.1}")),
        v => trimmed(&format!("{v:.2}")),
    }
}

/// The formula is good to about a tenth: three digits.
fn requests_said(n: f64) -> String {
    let unit = if n.is_finite() && n >= 1000.0 { 10f64.powf(n.log10().floor() - 2.0) } else { 1.0 };
    short((n / unit).round() * unit)
}

fn percent(fraction: f64) -> String {
    format!("{}%", trimmed(&format!("{:.4}", fraction * 100.0)))
}

fn trimmed(text: &str) -> String {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_command_line_says_is_checked() {
        assert_eq!((rate("200"), rate("0.5")), (Ok(200.0), Ok(0.5)));
        assert_eq!((error_rate("0%"), phi("1")), (Ok(0.0), Ok(1.0)));
        for text in ["0", "-1", "inf", "NaN", "x", "2e9"] {
            assert!(rate(text).is_err(), "{text}");
        }
        for text in ["0.1", "100%", "-1%", "NaN%", "%"] {
            assert!(error_rate(text).is_err(), "{text}");
        }
        for text in ["0.9", "inf", ""] {
            assert!(phi(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_said_in_the_unit_that_fits() {
        let said: Vec<String> = [0.5, 1.0, 9.913, 44.08, 99.9, 120.0, 3000.0, 1e5, 1e9, f64::INFINITY].into_iter().map(time).collect();
        assert_eq!(said, ["30s", "1m", "9.91m", "44.1m", "99.9m", "2h", "2d", "69d", "never", "never"]);
    }
}
