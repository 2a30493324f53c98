//! What a terminal shows of rollouts: the list, one in detail, a line of the live view. Takes wire types and gives text, so
//! the demo shows what a client shows. All text from afar is cleaned of control characters on its way into a cell.

pub use super::table::Style;
use super::table::{self, Cell, Tone};
use crate::api::wire;
use crate::telemetry::words;
use std::time::Duration;

/// Characters of a bar.
const BAR: usize = 30;

/// All rollouts, as a table.
pub fn list(rollouts: &[wire::Rollout], style: Style) -> String {
    if rollouts.is_empty() {
        return "no rollouts\n".to_owned();
    }
    let mut rows = vec![table::headings(&["ROLLOUT", "STATE", "VERDICT", "WEIGHT", "STEP", "HARM", "VERSION", "WHY"])];
    rows.extend(rollouts.iter().map(row));
    table::lines(&rows, "", style)
}

fn row(rollout: &wire::Rollout) -> Vec<Cell> {
    let evidence = rollout.evidence.as_ref();
    vec![
        Cell::plain(&rollout.id),
        Cell::new(&rollout.state, state_tone(&rollout.state)),
        Cell::new(&rollout.verdict, verdict_tone(&rollout.verdict)),
        Cell::plain(&weight(rollout)),
        Cell::plain(&format!("{}/{}", rollout.step.number, rollout.step.of)),
        Cell::plain(&evidence.map(|e| nats(e.harm_nats, e.harm_needed_nats)).unwrap_or_default()),
        Cell::plain(&rollout.version),
        Cell::plain(&why(rollout)),
    ]
}

/// The one thing to know: what is stuck, else why it rolls back, else why it holds.
fn why(rollout: &wire::Rollout) -> String {
    let stuck = rollout.stuck.as_deref().map(|text| format!("stuck: {text}"));
    let reason = || rollout.reasons.first().map(|reason| reason.text.clone());
    let hold = || rollout.holds.first().map(|hold| hold.text.clone());
    stuck.or_else(reason).or_else(hold).unwrap_or_default()
}

/// What keeps canaryd itself from doing its work: rules that are refused or lack something, releases that wait, sources that are blind.
/// Empty if nothing does.
pub fn troubles(rules: &wire::Rules, style: Style) -> String {
    let mut text = String::new();
    let problems = rules.reload_problems.iter().cloned();
    section(&mut text, "rules on disk are refused, those that were good are in force", &texts(problems, Tone::Bad), style);
    let refused = rules.rules.iter().flat_map(|rule| rule.refused.iter().map(|why| format!("{}: {why}", rule.name)));
    section(&mut text, "rules this build does not run", &texts(refused, Tone::Odd), style);
    let missing = rules.rules.iter().flat_map(|rule| rule.missing.iter().map(|why| format!("{}: {why}", rule.name)));
    section(&mut text, "what rules need and is missing", &texts(missing, Tone::Bad), style);
    let waiting = rules.rules.iter().filter_map(|rule| Some((rule, rule.waiting.as_ref()?)));
    let waiting = waiting.map(|(rule, w)| format!("{}: {} since {}: {}", rule.name, w.version, w.since, w.why));
    section(&mut text, "releases that wait", &texts(waiting, Tone::Odd), style);
    let blind = rules.sources.iter().filter_map(|(name, why)| why.as_ref().map(|why| format!("{name}: {why}")));
    section(&mut text, "sources that cannot be read", &texts(blind, Tone::Bad), style);
    text
}

/// One rollout in detail.
pub fn page(rollout: &wire::Rollout, style: Style) -> String {
    let mut page = head(rollout, style);
    page.push_str(&table::lines(&facts(rollout), "  ", style));
    section(&mut page, "", &metrics(rollout), style);
    section(&mut page, "limits", &limits(rollout), style);
    section(&mut page, "bake", &bake(rollout), style);
    section(&mut page, "rolled back because", &texts(rollout.reasons.iter().map(|r| r.text.clone()), Tone::Bad), style);
    section(&mut page, "approvals", &approvals(rollout), style);
    section(&mut page, "held because", &holds(rollout), style);
    section(&mut page, "warnings", &texts(rollout.warnings.iter().cloned(), Tone::Odd), style);
    page
}

fn head(rollout: &wire::Rollout, style: Style) -> String {
    let version = if rollout.version.is_empty() { String::new() } else { format!(", version {}", rollout.version) };
    let observe = if rollout.mode == "observe" { " (observes only: touches nothing)" } else { "" };
    let text = words::printable(&format!("{}{version}: {} against {}", rollout.id, rollout.canary, rollout.baseline));
    format!("{text}{}\n", Tone::Odd.paint(observe, style))
}

/// Appends rows below a heading and an empty line, if there are any.
fn section(page: &mut String, heading: &str, rows: &[Vec<Cell>], style: Style) {
    if rows.is_empty() {
        return;
    }
    page.push('\n');
    if !heading.is_empty() {
        page.push_str(&Tone::Dim.paint(heading, style));
        page.push('\n');
    }
    page.push_str(&table::lines(rows, "  ", style));
}

fn approvals(rollout: &wire::Rollout) -> Vec<Vec<Cell>> {
    let row = |needed: &wire::NeededApproval| {
        let given = needed.by.as_ref().zip(needed.at).zip(needed.until);
        let cell = match given {
            Some(((by, at), until)) => Cell::new(&format!("by {by} at {at}, counts until {until}"), Tone::Good),
            None => Cell::new("missing", Tone::Odd),
        };
        vec![Cell::plain(&needed.role), cell]
    };
    rollout.approvals.iter().map(row).collect()
}

fn texts(texts: impl Iterator<Item = String>, tone: Tone) -> Vec<Vec<Cell>> {
    texts.map(|text| vec![Cell::new(&text, tone)]).collect()
}

fn facts(rollout: &wire::Rollout) -> Vec<Vec<Cell>> {
    let fact = |name: &str, text: &str, tone| vec![Cell::new(name, Tone::Dim), Cell::new(text, tone)];
    let mut facts = vec![
        fact("state", &state(rollout), state_tone(&rollout.state)),
        fact("verdict", &rollout.verdict, verdict_tone(&rollout.verdict)),
        fact("weight", &weight_in_words(rollout), Tone::Plain),
        fact("step", &step(rollout), Tone::Plain),
        fact("steps", &steps(rollout), Tone::Plain),
    ];
    if let Some(evidence) = &rollout.evidence {
        facts.push(fact("harm", &bar(evidence.harm_nats, evidence.harm_needed_nats), bar_tone(evidence)));
        facts.push(fact("health", &health(evidence), Tone::Plain));
    }
    if let Some(workloads) = &rollout.workloads {
        let tone = if troubles_of(workloads).next().is_some() { Tone::Odd } else { Tone::Plain };
        facts.push(fact("pods", &pods(workloads), tone));
    }
    facts.push(fact("decided", &decision(rollout), Tone::Plain));
    facts.extend(rollout.stuck.as_ref().map(|stuck| fact("stuck", stuck, Tone::Bad)));
    facts
}

/// `canary 3 of 3 ready, baseline 9 of 10 ready; web-7d-x: waits in a crash loop`
fn pods(workloads: &wire::Workloads) -> String {
    if let Some(why) = &workloads.unseen {
        return format!("not seen: {why}");
    }
    let arms = [("canary", &workloads.canary), ("baseline", &workloads.baseline)];
    let arms = arms.into_iter().filter_map(|(arm, seen)| seen.as_ref().map(|w| format!("{arm} {} of {} ready", w.ready, w.wanted)));
    let troubles = troubles_of(workloads).map(|trouble| format!("; {trouble}"));
    arms.collect::<Vec<_>>().join(", ") + &troubles.collect::<String>()
}

fn troubles_of(workloads: &wire::Workloads) -> impl Iterator<Item = &str> {
    let arms = [&workloads.canary, &workloads.baseline].into_iter().flatten().map(|w| w.trouble.as_str());
    arms.chain(workloads.unseen.as_deref()).filter(|trouble| !trouble.is_empty())
}

fn state(rollout: &wire::Rollout) -> String {
    let shared = if rollout.evidence.as_ref().is_some_and(|e| e.shared) { "; both versions suffer" } else { "" };
    format!("{}: {}{shared}", rollout.state, rollout.state_text)
}

/// The last decision; why it holds is told below, whole.
fn decision(rollout: &wire::Rollout) -> String {
    let decision = &rollout.decision;
    if decision.action == "hold" { format!("{} hold", decision.at) } else { format!("{} {}", decision.at, decision.text) }
}

fn percent(permille: u16) -> String {
    words::percent(f64::from(permille) / 1000.0)
}

/// `25%`, or `25% (20%)` where the router says otherwise.
fn weight(rollout: &wire::Rollout) -> String {
    let wanted = percent(rollout.weight_permille);
    match rollout.weight_seen_permille {
        Some(seen) if seen == rollout.weight_permille => wanted,
        Some(seen) => format!("{wanted} ({})", percent(seen)),
        None => format!("{wanted} (?)"),
    }
}

fn weight_in_words(rollout: &wire::Rollout) -> String {
    let wanted = percent(rollout.weight_permille);
    match rollout.weight_seen_permille {
        Some(seen) if seen == rollout.weight_permille => format!("{wanted}, read back"),
        Some(seen) => format!("{wanted} wanted, {} seen", percent(seen)),
        None => format!("{wanted} wanted, not read back"),
    }
}

fn seconds(s: f64) -> String {
    words::duration(Duration::from_secs_f64(s.clamp(0.0, 1e9).round()))
}

fn step(rollout: &wire::Rollout) -> String {
    let step = &rollout.step;
    let mut text = format!("{} of {}", step.number, step.of);
    if let Some(counted) = step.counted_s {
        text.push_str(&format!(", {} of {}", seconds(counted), seconds(step.for_s)));
    }
    if let Some(requests) = step.canary_requests {
        text.push_str(&format!(", {requests:.0} canary requests"));
    }
    if !step.counts_time && !rollout.over {
        text.push_str(", time stands still");
    }
    text
}

/// All steps, the one in force in brackets.
fn steps(rollout: &wire::Rollout) -> String {
    let one = |(number, step): (u32, &wire::PlannedStep)| {
        let text = format!("{} for {}", percent(step.weight_permille), seconds(step.for_s));
        if number == rollout.step.number && !rollout.over { format!("[{text}]") } else { text }
    };
    (1..).zip(&rollout.steps).map(one).collect::<Vec<_>>().join(", ")
}

fn nats(evidence: Option<f64>, needed: Option<f64>) -> String {
    match (evidence, needed) {
        (Some(evidence), Some(needed)) => format!("{:.1}/{needed:.1}", evidence.max(0.0)),
        (Some(evidence), None) => format!("{:.1}", evidence.max(0.0)),
        (None, _) => "-".to_owned(),
    }
}

/// Evidence against its threshold: `[######............] 2.1 of 4.6 nats`.
fn bar(evidence: Option<f64>, needed: Option<f64>) -> String {
    let (Some(evidence), Some(needed)) = (evidence, needed) else { return "not known yet".to_owned() };
    let share = if needed > 0.0 { (evidence / needed).clamp(0.0, 1.0) } else { 0.0 };
    // a full bar is a rollback: almost there must not look like it
    let most = if share < 1.0 { BAR - 1 } else { BAR };
    let full = ((share * BAR as f64).round() as usize).min(most);
    format!("[{}{}] {:.1} of {needed:.1} nats for a rollback", "#".repeat(full), ".".repeat(BAR - full), evidence.max(0.0))
}

fn bar_tone(evidence: &wire::Evidence) -> Tone {
    match evidence.outlook.as_str() {
        "rollback" => Tone::Bad,
        "suspicious" => Tone::Odd,
        "pass" => Tone::Good,
        _ => Tone::Plain,
    }
}

fn health(evidence: &wire::Evidence) -> String {
    let score = evidence.score.map_or_else(|| "?".to_owned(), |score| format!("{score:.0}"));
    let progress = evidence.progress.map(|p| format!(", {:.0}% of what a pass needs", 100.0 * p)).unwrap_or_default();
    format!("{score} of 100: {}{progress}", evidence.outlook)
}

fn metrics(rollout: &wire::Rollout) -> Vec<Vec<Cell>> {
    if rollout.metrics.is_empty() {
        return Vec::new();
    }
    let needed = rollout.evidence.as_ref().and_then(|e| e.no_harm_needed_nats);
    let mut rows = vec![table::headings(&["METRIC", "VERDICT", "CANARY", "BASELINE", "HARM", "NO HARM", ""])];
    rows.extend(rollout.metrics.iter().map(|metric| {
        vec![
            Cell::plain(&metric.name),
            Cell::new(&metric.verdict, verdict_tone(&metric.verdict)),
            Cell::plain(&estimate(metric.canary.as_ref(), &metric.unit)),
            Cell::plain(&estimate(metric.baseline.as_ref(), &metric.unit)),
            Cell::plain(&nats(metric.harm_nats, metric.harm_needed_nats)),
            Cell::plain(&nats(metric.no_harm_nats, needed)),
            Cell::new(&metric_note(metric), Tone::Odd),
        ]
    }));
    rows
}

/// What the numbers do not say.
fn metric_note(metric: &wire::Metric) -> String {
    match (metric.verdict.as_str(), metric.advisory) {
        ("blind", _) => metric.reason.clone(),
        (_, true) => "shown only".to_owned(),
        _ if !metric.used => "last poll not usable".to_owned(),
        _ => String::new(),
    }
}

fn estimate(estimate: Option<&wire::Estimate>, unit: &str) -> String {
    let Some(seen) = estimate else { return "-".to_owned() };
    let value = |value: Option<f64>| words::in_unit(unit, value.unwrap_or(f64::INFINITY));
    format!("{} ({} to {})", value(seen.mid), value(seen.low), value(seen.high))
}

fn limits(rollout: &wire::Rollout) -> Vec<Vec<Cell>> {
    rollout.limits.iter().map(limit).collect()
}

fn limit(limit: &wire::Limit) -> Vec<Cell> {
    let (text, tone) = match (limit.canary_breached, limit.baseline_breached, limit.proven) {
        (true, true, _) => ("breached by both versions", Tone::Odd),
        (true, false, _) => ("breached by the canary", Tone::Bad),
        (false, true, _) => ("breached by the baseline", Tone::Odd),
        (false, false, true) => ("shown to be met", Tone::Good),
        (false, false, false) => ("not crossed", Tone::Plain),
    };
    vec![
        Cell::plain(&limit.metric),
        Cell::plain(&limit.kind),
        Cell::plain(&words::in_unit(&limit.unit, limit.level)),
        Cell::plain(&nats(limit.evidence_nats, limit.needed_nats)),
        Cell::new(text, tone),
    ]
}

fn bake(rollout: &wire::Rollout) -> Vec<Vec<Cell>> {
    let one = |bake: &wire::BakeLimit| {
        let from = if bake.derived { "the baseline's own level" } else { "rollback-above" };
        let (text, tone) = if bake.crossed { ("crossed", Tone::Bad) } else { ("not crossed", Tone::Plain) };
        vec![
            Cell::plain(&bake.metric),
            Cell::plain(from),
            Cell::plain(&words::percent(bake.level)),
            Cell::plain(&nats(bake.evidence_nats, None)),
            Cell::new(text, tone),
        ]
    };
    rollout.bake.iter().map(one).collect()
}

fn holds(rollout: &wire::Rollout) -> Vec<Vec<Cell>> {
    let one = |hold: &wire::Hold| {
        let ends = if hold.ends.is_empty() { String::new() } else { format!("; ends when {}", hold.ends) };
        let until = hold.until.map(|at| format!("; until {at} at the latest")).unwrap_or_default();
        vec![Cell::new(&hold.why, Tone::Odd), Cell::plain(&format!("{}{ends}{until}", hold.text))]
    };
    rollout.holds.iter().map(one).collect()
}

pub(super) fn state_tone(state: &str) -> Tone {
    match state {
        "succeeded" => Tone::Good,
        "rolling-back" | "rolled-back" | "stuck" => Tone::Bad,
        "paused" | "waiting" | "superseded" => Tone::Odd,
        _ => Tone::Plain,
    }
}

fn verdict_tone(verdict: &str) -> Tone {
    match verdict {
        "pass" => Tone::Good,
        "fail" => Tone::Bad,
        "blind" => Tone::Odd,
        _ => Tone::Plain,
    }
}

/// A rollout in one line: the answer to a verb, and the first line of a live view.
pub fn line(rollout: &wire::Rollout) -> String {
    words::printable(&format!("{}: {}, weight {}: {}", rollout.id, rollout.state, weight(rollout), rollout.decision.text)) + "\n"
}

/// One decision in one line of a live view.
pub fn event(event: &wire::EventLine, style: Style) -> String {
    let tone = match event.action.as_str() {
        "roll-back" | "refuse" => Tone::Bad,
        "pause" | "reassert" => Tone::Odd,
        "advance" | "promote" | "finish" => Tone::Good,
        _ => Tone::Plain,
    };
    let action = tone.paint(&words::printable(&event.action), style);
    format!("{} {} {action}: {}\n", event.at, words::printable(&event.rollout), words::printable(&event.text))
}
