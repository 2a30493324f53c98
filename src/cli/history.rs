//! `canaryd history`: what became of past rollouts.

use super::client::{self, Client, ServerArgs};
use super::failure::Failure;
use super::output::{self, OutputArgs};
use super::render;
use super::table::{self, Cell, Style};
use crate::api::wire;
use crate::runtime;
use crate::telemetry::words;
use serde_json::json;
use std::time::Duration;

/// Rollouts of one question: the most the server gives.
const PAGE: usize = 100;

/// What `history` was asked.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Of this rule only
    #[arg(value_parser = client::name)]
    rule: Option<String>,
    /// Begun since: an age such as 12h or 30d, a day (UTC), or an instant such as 2026-11-20T08:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = since)]
    since: Option<wire::Time>,
    /// At most so many, the newest
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// An instant; an age is counted back from now.
fn since(text: &str) -> Result<wire::Time, String> {
    let wrong = || format!("{text:?} is neither an age such as 12h or 30d, nor a day such as 2026-11-20, nor an instant of it");
    let back = |length: Duration| wire::Time((runtime::now() - length).as_millis());
    if let Some((number, unit)) = text.split_at_checked(text.len().saturating_sub(1)) {
        let unit_s = [("m", 60), ("h", 3600), ("d", 86_400), ("w", 604_800)].into_iter().find(|(name, _)| *name == unit);
        if let (Some((_, s)), Ok(number)) = (unit_s, number.parse::<u32>()) {
            return Ok(back(Duration::from_secs(u64::from(number) * s)));
        }
    }
    let day = || text.parse::<jiff::civil::Date>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|z| z.timestamp());
    let instant = text.parse::<jiff::Timestamp>().ok().or_else(day).ok_or_else(wrong)?;
    Ok(wire::Time(instant.as_millisecond()))
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let past = read(&args).await?;
    if args.output.json() {
        return output::write_json(&json!(past));
    }
    output::write(&page(&past, output::style()))
}

/// Page after page.
async fn read(args: &Args) -> Result<wire::History, Failure> {
    let client = Client::new(&args.server)?;
    let mut all = wire::History { rollouts: Vec::new(), next: None };
    loop {
        let left = args.limit as usize - all.rollouts.len();
        let mut query = vec![("limit", left.min(PAGE).to_string())];
        query.extend(args.rule.clone().map(|rule| ("rule", rule)));
        query.extend(args.since.map(|at| ("since", at.to_string())));
        query.extend(all.next.take().map(|id| ("before", id)));
        let page: wire::History = client::typed(client.query(&["history"], &query).await?)?;
        all.rollouts.extend(page.rollouts);
        all.next = page.next;
        if all.next.is_none() || all.rollouts.len() >= args.limit as usize {
            return Ok(all);
        }
    }
}

fn page(past: &wire::History, style: Style) -> String {
    if past.rollouts.is_empty() {
        return "no rollouts\n".to_owned();
    }
    let mut rows = vec![table::headings(&["BEGAN", "ROLLOUT", "VERSION", "BY", "STATE", "TOOK", "APPROVED", "WHY"])];
    rows.extend(past.rollouts.iter().map(row));
    let mut page = table::lines(&rows, "", style);
    if past.next.is_some() {
        page.push_str(&format!("older ones are not shown: --limit {} or more shows them\n", past.rollouts.len() * 2));
    }
    page
}

fn row(past: &wire::PastRollout) -> Vec<Cell> {
    let took = past.took_s.map(|s| words::duration(Duration::from_secs_f64(s.clamp(0.0, 1e9).round()))).unwrap_or_default();
    let approved: Vec<String> = past.approvals.iter().map(|a| format!("{} ({})", a.by, a.role)).collect();
    vec![
        Cell::plain(&words::time(crate::model::Timestamp::from_millis(past.opened.0))),
        Cell::plain(&past.id),
        Cell::plain(&past.version),
        Cell::plain(&past.by),
        Cell::new(&past.state, render::state_tone(&past.state)),
        Cell::plain(&took),
        Cell::plain(&approved.join(", ")),
        Cell::plain(past.reasons.first().map_or("", |reason| &reason.text)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_is_an_age_a_day_or_an_instant() {
        assert_eq!(since("2026-11-20").unwrap().to_string(), "2026-11-20T00:00:00Z");
        assert_eq!(since("2026-11-20T08:00:00+01:00").unwrap().to_string(), "2026-11-20T07:00:00Z");
        let age = runtime::now().as_millis() - since("12h").unwrap().0;
        assert!((12 * 3_600_000..13 * 3_600_000).contains(&age), "{age}");
        for text in ["", "h", "yesterday", "12", "-3d", "2026-13-01", "1.5h", "\u{e9}"] {
            assert!(since(text).unwrap_err().contains("neither an age"), "{text:?}");
        }
    }
}
