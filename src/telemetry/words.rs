//! Every sentence an operator reads: in the API, in the command line's tables and in the log it is the same one. Sentences
//! name the metric, what was seen in both arms, and what would change it; they never say less certainly what is known, nor
//! more certainly what is not. Names of metrics come in by position (`names`), as the rule orders them.

mod values;

pub use values::{duration, estimate, in_unit, percent, time, unit, value};

use crate::model::{
    Action, Advance, Alert, Arm, Blind, Breach, Decision, Hold, HoldWhy, HookAnswer, Input, Judgement, Keep, LimitKind, MetricJudgement,
    MetricKind, Mode, Outcome, Outlook, Promoting, Reason, Retry, State, Unproven, Vanished, Verdict, Waiting,
};

/// The word of a mode on every wire.
pub const fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Observe => "observe",
    }
}

/// What is told of a rollout, where nothing of it is done: nobody shall look for a weight that was never written.
pub fn in_mode(mode: Mode, said: &str) -> String {
    match mode {
        Mode::Enforce => said.to_owned(),
        Mode::Observe => format!("observed only, nothing is touched: {said}"),
    }
}

/// The word of an outlook on every wire.
pub const fn outlook(outlook: Outlook) -> &'static str {
    match outlook {
        Outlook::Rollback => "rollback",
        Outlook::Suspicious => "suspicious",
        Outlook::Pass => "pass",
        Outlook::Collecting => "collecting",
    }
}

/// The word of a way to end steps.
pub const fn advance(advance: Advance) -> &'static str {
    match advance {
        Advance::OnSchedule { strict: false } => "on-schedule",
        Advance::OnSchedule { strict: true } => "on-schedule, strict",
        Advance::OnEvidence => "on-evidence",
    }
}

/// The word of a kind of metric.
pub const fn kind(kind: MetricKind) -> &'static str {
    match kind {
        MetricKind::Errors => "errors",
        MetricKind::Latency(_) => "latency",
        MetricKind::Cpu => "cpu",
        MetricKind::Memory => "memory",
        MetricKind::Leak => "leak",
        MetricKind::CustomCounts(_) => "counts",
        MetricKind::CustomGauge(_) => "gauge",
    }
}

fn name(names: &[String], index: u8) -> String {
    names.get(usize::from(index)).cloned().unwrap_or_else(|| format!("metric {index}"))
}

/// Where a rollout stands; `steps` is how many there are.
pub fn state(state: &State, steps: usize) -> String {
    match state {
        State::Waiting(waiting) => waiting_for(waiting),
        State::Progressing { step } => format!("step {} of {steps}", step.saturating_add(1)),
        State::Baking { .. } => "the canary carries all traffic and is watched".to_owned(),
        State::Promoting(promoting) => promoting_by(*promoting).to_owned(),
        State::Succeeded => "the canary is the version now".to_owned(),
        State::RollingBack => "the traffic is going back to the baseline".to_owned(),
        State::RolledBack => "the canary gets no traffic".to_owned(),
        State::Paused(p) => sentence(&format!("paused by {} since {}", p.by, time(p.since)), &p.why),
        State::Stuck(s) => format!("stuck since {} after {} tries: {}", time(s.since), s.tries, s.why),
        State::Superseded => "a newer version took its place".to_owned(),
    }
}

fn waiting_for(waiting: &Waiting) -> String {
    match waiting {
        Waiting::Router => "waiting for the router's first answer".to_owned(),
        Waiting::Window { opens } => format!("waiting for its window, which opens {}", time(*opens)),
        Waiting::Approval { roles } => format!("waiting for the approval of {}", roles.join(" and ")),
        Waiting::Hook { name } => format!("waiting for the hook {name}"),
        Waiting::Pods => "waiting for ready canary pods".to_owned(),
    }
}

const fn promoting_by(promoting: Promoting) -> &'static str {
    match promoting {
        Promoting::Copying => "promoting: the canary's template is being written into stable",
        Promoting::WaitingReady => "promoting: stable is becoming ready",
        Promoting::ShiftingBack => "promoting: the traffic is going back to stable",
        Promoting::External => "promoting: waiting until somebody else has made stable equal to the canary",
        Promoting::Settling => "promoting: the old version and the autoscalers are put in order",
    }
}

/// A stable word for a reason, for programs.
pub const fn reason_kind(reason: &Reason) -> &'static str {
    match reason {
        Reason::Breach { breach: Breach::Metric(_), .. } => "comparison",
        Reason::Breach { breach: Breach::Limit(_), .. } => "limit",
        Reason::Breach { breach: Breach::Bake { .. }, .. } => "bake",
        Reason::Breach { breach: Breach::Gross, .. } => "gross-failure",
        Reason::Breach { breach: Breach::Abandoned, .. } => "abandoned",
        Reason::Vanished(_) => "vanished",
        Reason::Person { .. } => "person",
        Reason::Policy { .. } => "policy",
        Reason::Superseded { .. } => "superseded",
        Reason::Alert { .. } => "alert",
        Reason::Hook { .. } => "hook",
        Reason::WindowClosed { .. } => "window-closed",
        Reason::Pods { sign, .. } => sign.name(),
    }
}

/// Why a rollout rolls back. With the judgement it rests on, both arms' values are in it.
pub fn reason(reason: &Reason, names: &[String], judgement: Option<&Judgement>) -> String {
    match reason {
        Reason::Breach { breach: b, during_shared } => {
            let during = if *during_shared { ", during a shared incident" } else { "" };
            format!("{}{during}", breach(*b, names, judgement))
        }
        Reason::Vanished(v) => format!("the canary's requests do not come back: {}", vanished(*v)),
        Reason::Person { by, why } => sentence(&format!("{by} said so"), why),
        Reason::Policy { which, after } => format!("policy {which}: nothing changed for {}", duration(*after)),
        Reason::Superseded { version } if version.is_empty() => "a newer version is out".to_owned(),
        Reason::Superseded { version } => format!("version {version} is out"),
        Reason::Alert { name, text } => sentence(&format!("alert {name} names the canary"), text),
        Reason::Hook { hook, text } => sentence(&format!("hook {} did not let it pass", hook.name()), text),
        Reason::WindowClosed { words } => format!("the maintenance window is over ({words})"),
        Reason::Pods { sign, text } => sentence(&format!("{} among the canary's pods", sign.name()), text),
    }
}

/// What crossed.
pub fn breach(breach: Breach, names: &[String], judgement: Option<&Judgement>) -> String {
    match breach {
        Breach::Metric(index) => with_arms(format!("{} is worse than tolerated", name(names, index)), index, judgement),
        Breach::Limit(index) => {
            with_arms(format!("{} is beyond {}", name(names, index), rollback_limit(index, judgement)), index, judgement)
        }
        Breach::Bake { metric, derived: false } => {
            let text = format!("{} is beyond {} in the bake", name(names, metric), rollback_limit(metric, judgement));
            with_arms(text, metric, judgement)
        }
        Breach::Bake { metric, derived: true } => {
            with_arms(format!("{} is far above the baseline's own level in the bake", name(names, metric)), metric, judgement)
        }
        Breach::Gross => "at least half of the canary's requests fail".to_owned(),
        Breach::Abandoned => "at least half of the canary's requests are given up by their clients".to_owned(),
    }
}

/// `its rollback-above limit of 5%`, with the level where it is known.
fn rollback_limit(index: u8, judgement: Option<&Judgement>) -> String {
    let level = judgement.and_then(|j| {
        let kind = j.metrics.iter().find(|m| m.index == index)?.kind;
        let limit = j.limits.iter().find(|l| l.metric == index && l.kind == LimitKind::RollbackAbove)?;
        Some(value(kind, limit.level))
    });
    let of = level.map(|l| format!(" of {l}")).unwrap_or_default();
    format!("its rollback-above limit{of}")
}

/// Appends both arms' estimates of a metric, where they are known.
fn with_arms(text: String, index: u8, judgement: Option<&Judgement>) -> String {
    let Some(metric) = judgement.and_then(|j| j.metrics.iter().find(|m| m.index == index)) else { return text };
    let arms: Vec<String> = [Arm::Canary, Arm::Baseline]
        .into_iter()
        .filter_map(|arm| metric.estimate[arm].map(|seen| format!("{} {}", arm.name(), estimate(metric.kind, &seen))))
        .collect();
    if arms.is_empty() { text } else { format!("{text}: {}", arms.join(", ")) }
}

const fn vanished(vanished: Vanished) -> &'static str {
    match vanished {
        Vanished::Abandoned => "their clients leave before an answer",
        Vanished::Unserved => "under a quarter of the expected requests were served in three ticks in a row",
        Vanished::Silent => "every process of the canary is silent while the baseline's answer",
    }
}

/// A hold in one line: what was seen, what ends it, until when.
pub fn hold(hold: &Hold) -> String {
    let text = if hold.text.is_empty() { hold_why(hold.why) } else { &hold.text };
    let ends = if hold.ends.is_empty() { String::new() } else { format!("; ends when {}", hold.ends) };
    let until = hold.until.map(|at| format!("; until {} at the latest", time(at))).unwrap_or_default();
    format!("{text}{ends}{until}")
}

/// What a kind of hold means, where the machine gave no sentence of its own.
pub const fn hold_why(why: HoldWhy) -> &'static str {
    match why {
        HoldWhy::Judge(k) => keep(k),
        HoldWhy::Shifting => "the weight is being written and read back",
        HoldWhy::TrafficShare => "traffic does not follow the weight",
        HoldWhy::NoRequests => "the canary has weight and gets no requests",
        HoldWhy::Orphans => "requests fail that belong to neither version",
        HoldWhy::Vanished => "the canary's requests do not come back",
        HoldWhy::Foreign => "another hand moved the weight",
        HoldWhy::Paused => "a person's word is awaited",
        HoldWhy::Router => "the router cannot be read or written",
        HoldWhy::Window => "outside its maintenance window, or in a freeze",
        HoldWhy::Approval => "approvals are missing",
        HoldWhy::Hook => "a hook has not answered",
        HoldWhy::Alert => "an alert of an Alertmanager holds it",
        HoldWhy::Capacity => "too few canary pods are ready for the next step",
        HoldWhy::Pods => "pods of both versions are unwell",
        HoldWhy::Drain => "requests under way are given time to end",
        HoldWhy::Promotion => "the promotion waits for somebody else",
        HoldWhy::Frozen => "frozen by break-glass: the weight stays whatever the evidence says",
    }
}

/// What a reason of the judge to keep the step means.
pub const fn keep(keep: Keep) -> &'static str {
    match keep {
        Keep::Blind => "a required metric could not be looked at",
        Keep::Shared => "both versions suffer, so the canary is not to blame",
        Keep::Suspicious => "the canary stands beyond a limit, not yet proven",
        Keep::Limit => "a page limit is crossed, or a gauge stands beyond its limit",
        Keep::Harm => "there is more than half of the evidence that a rollback needs",
        Keep::FewRequests => "the canary got too few requests in this step",
        Keep::Time => "the step's time is not over",
        Keep::NotProven => "a required metric is not yet shown to be no worse than tolerated",
        Keep::PromoteBelow => "a promote-below limit is not met",
    }
}

/// Why something could not be looked at.
pub const fn blind(why: Blind) -> &'static str {
    match why {
        Blind::SourceDown => "the source did not answer in time",
        Blind::QueryRejected => "the source refused the query",
        Blind::NoSeries => "the source has no such series",
        Blind::Stale => "there is no new sample",
        Blind::NotANumber => "the value is not a number, or a gauge's that is not above zero",
        Blind::NativeHistogramOnly => "the histogram exists only in native form, which canaryd does not read",
        Blind::Clock => "the clocks of source and daemon differ by more than a tick",
        Blind::Alternating => "values jump between two processes behind one address",
        Blind::Silent => "every process that was scraped before is silent",
        Blind::LoadTooDifferent => "the load of the two versions is too different to compare CPU",
        Blind::PodsUnknown => "the number of ready pods is not known",
        Blind::NotAsked => "the rule does not ask for it",
    }
}

/// What is known of one metric: its verdict, and how far the evidence is.
pub fn metric(metric: &MetricJudgement, ln_rollback: f64, ln_ok: f64) -> String {
    let note = if metric.advisory { " (shown only: no history to calibrate it with)" } else { "" };
    match metric.verdict {
        Verdict::Pass => format!("shown to be no worse than tolerated{note}"),
        Verdict::Fail => format!("worse than tolerated or beyond a limit{note}"),
        Verdict::Blind(why) => format!("{}{note}", blind(why)),
        Verdict::Undecided => format!(
            "evidence of harm {:.1} of {:.1} nats, of no harm {:.1} of {:.1}{note}",
            metric.ln_harm_cut.max(0.0),
            needed_alone(metric.share, ln_rollback),
            metric.ln_ok.max(0.0),
            ln_ok
        ),
    }
}

/// What one metric's evidence must reach to roll back all by itself, nats: `E_total = sum share_k E_k >= 1/alpha`
/// (STATISTICS 7), so `ln_rollback - ln(share)`. Infinite for an advisory metric (share 0).
pub fn needed_alone(share: f64, ln_rollback: f64) -> f64 {
    ln_rollback - share.ln()
}

/// What was decided, and why.
pub fn decision(decision: &Decision, names: &[String], judgement: Option<&Judgement>) -> String {
    let why = |reasons: &[Reason]| reasons.first().map(|r| reason(r, names, judgement)).unwrap_or_default();
    match &decision.action {
        Action::Hold => sentence("goes on waiting", &decision.holds.first().map(hold).unwrap_or_default()),
        Action::Advance { from, to, unproven } => format!("weight {from} -> {to}{}", not_shown(unproven, names)),
        Action::Promote => "the last step is over: promoting".to_owned(),
        Action::RollBack => sentence("rolling back", &why(&decision.reasons)),
        Action::Pause => sentence("paused", &paused_why(&decision.state)),
        Action::Resume => format!("goes on at weight {}", decision.weight),
        Action::Reassert => format!("another hand moved the weight: writing {} again", decision.weight),
        Action::Finish => sentence(&format!("over: {}", decision.state.name()), &why(&decision.reasons)),
        Action::Refuse(text) => sentence("refused", text),
    }
}

fn paused_why(state: &State) -> String {
    match state {
        State::Paused(p) => sentence(&format!("by {}", p.by), &p.why),
        _ => String::new(),
    }
}

fn not_shown(unproven: &[Unproven], names: &[String]) -> String {
    if unproven.is_empty() {
        return String::new();
    }
    let each: Vec<String> = unproven
        .iter()
        .map(|u| match u.requests {
            Some(more) => format!("{} (about {more} canary requests short)", name(names, u.metric)),
            None => name(names, u.metric),
        })
        .collect();
    format!("; not shown to be no worse: {}", each.join(", "))
}

/// An input of the journal.
pub fn input(input: &Input) -> String {
    match input {
        Input::Begin(b) => format!("begun by {} for version {:?}, canary weight {}", b.by, b.version, b.weight),
        Input::Tick(_) => "a poll was judged".to_owned(),
        Input::Command(c) => sentence(&format!("{} asks: {}", c.by, c.verb.name()), &c.why),
        Input::Traffic(Ok(seen)) => match &seen.writer {
            Some(writer) => format!("the router gives the canary {}, last written by {writer}", seen.weight),
            None => format!("the router gives the canary {}", seen.weight),
        },
        Input::Traffic(Err(error)) => format!("the router cannot be read: {error}"),
        Input::Effect { generation, outcome: Outcome::Done } => format!("weight number {generation} is in force"),
        Input::Effect { generation, outcome: Outcome::Failed { text, retry: Retry::Underway } } => {
            format!("weight number {generation} is on its way: {text}")
        }
        Input::Effect { generation, outcome: Outcome::Failed { text, .. } } => {
            format!("weight number {generation} was not applied: {text}")
        }
        Input::Wake => "a time it waited for has come".to_owned(),
        Input::Supersede { version } => format!("version {version} is out"),
        Input::Hook { hook, answer: HookAnswer::Passed, .. } => format!("hook {} lets it pass", hook.name()),
        Input::Hook { hook, answer: HookAnswer::Failed { text, .. }, .. } => format!("hook {} did not let it pass: {text}", hook.name()),
        Input::Alerts(alerts) => alerts.iter().map(alert).collect::<Vec<_>>().join("; "),
        Input::Workload { number, outcome: Outcome::Done } => format!("action number {number} on a workload is done"),
        Input::Workload { number, outcome: Outcome::Failed { text, .. } } => {
            format!("action number {number} on a workload failed: {text}")
        }
        Input::Workloads(Ok(seen)) => {
            let ready = |arm: Arm| format!("{} of {} pods of the {} are ready", seen[arm].ready, seen[arm].pods, arm.name());
            let troubles = Arm::BOTH.map(|arm| seen[arm].trouble.as_str()).into_iter().filter(|t| !t.is_empty()).collect::<Vec<_>>();
            sentence(&Arm::BOTH.map(ready).join(", "), &troubles.join("; "))
        }
        Input::Workloads(Err(error)) => format!("the workloads cannot be looked at: {error}"),
    }
}

fn alert(alert: &Alert) -> String {
    let state = if alert.firing { "fires" } else { "is resolved" };
    let whom = alert.names.map(|arm| format!(" for the {}", arm.name())).unwrap_or_default();
    sentence(&format!("alert {} {state}{whom}", alert.name), &alert.text)
}

/// The innermost cause of an error: "connection refused" instead of "error sending request".
pub fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// The same text on one line and without control characters: words of servers and people reach logs and terminals, which
/// obey what they are sent.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// `head: tail`, or the head alone.
fn sentence(head: &str, tail: &str) -> String {
    if tail.is_empty() { head.to_owned() } else { format!("{head}: {tail}") }
}

#[cfg(test)]
mod tests;
