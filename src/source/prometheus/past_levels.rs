//! The baseline's CPU, memory and custom gauges over the past, per process: A/A series by `query_range` at the tick's
//! interval, and CPU against load over a day. What cannot be read stays empty: the judge then shows the gauge and does not
//! judge by it, and says so.

use super::client::{Client, Query};
use super::history::{self, Span};
use super::{planner, whole};
use crate::model::{Arm, History, LoadHistory, Timestamp};
use crate::source::packs::level::{LevelAsked, What, scaled};
use crate::source::packs::resolve::{Asked, Group};
use crate::source::packs::select::Matcher;
use crate::source::past::{self, PastLevels, Split};
use crate::source::{SourceError, Subscription};
use std::collections::BTreeSet;
use std::time::Duration;

/// The stretch of the load history, and its steps (STATISTICS 6); both follow the time scale.
const LOAD: [Duration; 2] = [Duration::from_secs(24 * 3600), Duration::from_secs(300)];

/// The gauges of a history; counts stay empty. `processes`: of the first entry, for the rule's own gauges.
pub(super) async fn read(client: &Client, wanted: &Subscription, asked: &[Asked], span: Span, processes: &PastLevels) -> History {
    let mut history = History::default();
    for one in asked {
        for level in &one.levels {
            if let Err(why) = level_past(client, one, level, span, &mut history).await {
                tracing::warn!(what = level.what.name(), %why, "no past of a level could be read");
            }
        }
        if let Some(cpu) = one.levels.iter().find(|l| l.what == What::Cpu) {
            let load = load(client, wanted, asked, (one, cpu), span.end).await;
            history.load = load.inspect_err(|why| tracing::warn!(%why, "no load history could be read")).ok().flatten();
        }
    }
    if let Some(first) = asked.first() {
        for gauge in &wanted.custom_gauges {
            let past = custom(client, first, &gauge.query, span, processes).await;
            history
                .custom_gauges
                .push(past.inspect_err(|why| tracing::warn!(%why, "no past of a gauge could be read")).unwrap_or_default());
        }
    }
    history
}

/// A/A series of one level, and of its floor.
async fn level_past(client: &Client, asked: &Asked, level: &LevelAsked, span: Span, history: &mut History) -> Result<(), SourceError> {
    let by = planner::labels(&asked.level_labels());
    let baseline = asked.matchers_of_arm(Arm::Baseline);
    let canary = canary_processes(client, asked, level, &by, span.end).await?;
    let series = |past: PastLevels| past.split(canary).map_or_else(Vec::new, |split| past.log_ratios(&split));
    let values = series(levels(client, asked, level.level.value(&by, &baseline), span).await?);
    match level.what {
        What::Cpu => history.cpu = values,
        What::Memory => history.memory = values,
    }
    if let (What::Memory, Some(window)) = (level.what, level.floor) {
        history.leak = series(levels(client, asked, level.level.floor(&by, &baseline, window), span).await?);
    }
    Ok(())
}

async fn levels(client: &Client, asked: &Asked, query: String, span: Span) -> Result<PastLevels, SourceError> {
    let rows = span.ask(client, query).await?;
    let mut past = PastLevels::new(span.steps() as usize);
    for row in rows.rows() {
        let process = planner::process_name(&asked.identity, &row);
        for (t, value) in row.points() {
            if let Some(step) = span.step_of(*t) {
                past.set(&process, step, *value);
            }
        }
    }
    Ok(past)
}

/// How many processes the canary has now.
async fn canary_processes(client: &Client, asked: &Asked, level: &LevelAsked, by: &str, at: Timestamp) -> Result<usize, SourceError> {
    let query = Query::Instant(level.level.sampled(by, &asked.matchers_of_arm(Arm::Canary)), at);
    let rows = client.ask(&query).await.and_then(whole).map_err(|fault| fault.into_error(client.url(), query.text()))?;
    Ok(rows.rows().count())
}

/// CPU per process against requests per second and process.
async fn load(
    client: &Client,
    wanted: &Subscription,
    asked: &[Asked],
    (of, cpu): (&Asked, &LevelAsked),
    end: Timestamp,
) -> Result<Option<LoadHistory>, SourceError> {
    if !asked.iter().any(|a| a.questions.iter().any(|q| q.group == Group::Requests)) {
        return Ok(None);
    }
    // range queries take whole seconds
    let [length, interval] = LOAD.map(|d| Duration::from_secs(scaled(d, wanted.time_scale).as_secs()));
    let span = Span { end, length, interval };
    let mut level = cpu.level.clone();
    level.rate = level.rate.map(|window| window.max(interval));
    let query = level.value(&planner::labels(&of.level_labels()), &of.matchers_of_arm(Arm::Baseline));
    let cpu = levels(client, of, query, span).await?;
    let requests = history::requests(client, wanted, asked, span).await?.requests;
    Ok(past::load(&requests, &cpu.means(), interval))
}

/// A/A series of an opaque query: asked for the processes of the split, where its series have their labels.
async fn custom(client: &Client, first: &Asked, query: &str, span: Span, processes: &PastLevels) -> Result<Vec<Option<f64>>, SourceError> {
    // an opaque query does not say how many processes the canary has: the noisiest split, one against the others
    let Some(split) = processes.split(1) else { return Ok(Vec::new()) };
    let [a, b] = halves(first, query, &split);
    let (a, b) = (mean(client, a, span).await?, mean(client, b, span).await?);
    let ratios = past::log_ratios(a.into_iter().zip(b).map(|(a, b)| Some((a?, b?))));
    // the same answer for both parts does not look at single processes: no noise to calibrate by
    let blunt = ratios.iter().flatten().all(|y| *y == 0.0);
    Ok(if blunt { Vec::new() } else { ratios })
}

/// The query for each part of a split.
fn halves(first: &Asked, query: &str, split: &Split) -> [String; 2] {
    split.each_ref().map(|names| {
        let values: Vec<Vec<String>> = names.iter().map(|name| planner::process_labels(name)).collect();
        let labels = first.identity.iter().enumerate().map(|(at, label)| {
            let of: BTreeSet<&str> = values.iter().map(|v| v.get(at).map_or("", String::as_str)).collect();
            Matcher::any_of(label, &of.into_iter().collect::<Vec<_>>())
        });
        let all: Vec<String> = first.matchers_of_arm(Arm::Baseline).into_iter().chain(labels).map(|m| m.to_string()).collect();
        query.replace("{{workload}}", &all.join(","))
    })
}

/// The mean of an answer's rows at each step.
async fn mean(client: &Client, query: String, span: Span) -> Result<Vec<Option<f64>>, SourceError> {
    let rows = span.ask(client, query).await?;
    let mut past = PastLevels::new(span.steps() as usize);
    for (at, row) in rows.rows().enumerate() {
        for (t, value) in row.points() {
            if let Some(step) = span.step_of(*t) {
                past.set(&at.to_string(), step, *value);
            }
        }
    }
    Ok(past.means().into_iter().map(|m| m.map(|(mean, _)| mean)).collect())
}
