//! What a subscription will find: which candidates exist, bucket bounds, the measured scrape interval and settle, and the
//! sentences an operator should read before a rollout starts.

use super::PrometheusSettings;
use super::client::{Client, Lease, Query};
use super::fault::Fault;
use super::planner::{self, Limits, Wanted};
use crate::model::{Arm, BOUNDS_MAX, PerArm, Timestamp};
use crate::source::packs::grammar::Form;
use crate::source::packs::level::LevelAsked;
use crate::source::packs::resolve::{Asked, Group, Probe, Question, Resolver};
use crate::source::packs::select::{Matcher, Select};
use crate::source::packs::sight::blind_spots;
use crate::source::tracker::{NATIVE_ONLY, bound_ms};
use crate::source::{SetUp, SourceError, Subscription, pods};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Added to the longest scrape seen: the server needs a moment to make samples visible.
const SETTLE_EXTRA: Duration = Duration::from_millis(100);
/// Longest settle delay believed.
const SETTLE_MAX: Duration = Duration::from_secs(10);
/// The stretch in which the scrape interval is measured.
const MEASURED: &str = "5m";
/// Most series of one question and rollout that are asked per process (PACKS 1.1); of more the server tells increments.
const SERIES_MAX: f64 = 100.0;
/// Most names listed in one warning.
const NAMED_MAX: usize = 5;

/// The questions of a subscription, as far as they could be settled.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) asked: Vec<Asked>,
    pub(super) warnings: Vec<String>,
    /// Some choice was made without a series to go by.
    pub(super) guessed: bool,
    /// The histogram exists in native form only.
    pub(super) native_only: bool,
}

async fn ask<'a>(client: &'a Client, query: &Query) -> Result<Lease<'a>, SourceError> {
    let whole = client.ask(query).await.and_then(super::whole);
    whole.map_err(|fault: Fault| fault.into_error(client.url(), query.text()))
}

/// Makes every choice of a subscription.
pub(super) async fn resolve(
    client: &Client,
    settings: &PrometheusSettings,
    wanted: &Subscription,
    at: Timestamp,
) -> Result<Resolved, SourceError> {
    let pods = pods::of_arms(settings.pods.as_ref(), wanted, at, at);
    let mut resolver = Resolver::new(&settings.packs, wanted).map_err(SourceError::Unusable)?.with_pods(&pods);
    while let Some(probe) = resolver.next().map_err(SourceError::Unusable)? {
        let found = look_up(client, &probe, at).await?;
        resolver.answer(&found);
    }
    let mut asked = resolver.finish().map_err(SourceError::Unusable)?;
    for one in &mut asked {
        choose_forms(client, one, at).await?;
    }
    resolver.warnings.extend(resolver.shares());
    resolver.warnings.extend(by_name(&asked));
    resolver.warnings.extend(blind_spots(&settings.packs, &wanted.telemetry, settings.pods.is_some()));
    let mut native_only = false;
    for one in &asked {
        native_only |= native(client, one, at).await?;
    }
    Ok(Resolved { asked, native_only, guessed: resolver.guessed, warnings: resolver.warnings })
}

/// Settles in which form each question is asked that leaves the choice: increments where counters per process would be too many.
async fn choose_forms(client: &Client, asked: &mut Asked, at: Timestamp) -> Result<(), SourceError> {
    let matchers = asked.arm_matchers([&asked.arms]);
    for which in 0..asked.questions.len() {
        let question = &asked.questions[which];
        if question.form != Form::Auto {
            continue;
        }
        let per_process = question
            .selects
            .iter()
            .map(|(select, _)| format!("(count({}) or vector(0))", planner::sum(asked, question, select, &matchers)));
        let form = match asked.may_be_delta() {
            false => Form::Process,
            true => {
                let query = Query::Instant(per_process.collect::<Vec<_>>().join(" + "), at);
                match ask(client, &query).await.map(|rows| rows.rows().next().and_then(|row| row.value())) {
                    Ok(Some(rows)) if rows > SERIES_MAX => Form::Delta,
                    Ok(_) => Form::Process,
                    // what is wrong with the question is said, and kept out, where it is asked
                    Err(SourceError::Rejected { .. } | SourceError::Body { .. }) => Form::Process,
                    Err(error) => return Err(error),
                }
            }
        };
        asked.questions[which].form = form;
    }
    Ok(())
}

/// Packs that know pods by their names alone.
fn by_name(asked: &[Asked]) -> Option<String> {
    let unwatched = |a: &&Asked| a.tells_pods() && Arm::BOTH.iter().any(|arm| a.arms[*arm].pods.is_none());
    let packs: BTreeSet<&str> = asked.iter().filter(unwatched).map(|a| a.pack.as_str()).collect();
    (!packs.is_empty()).then(|| {
        let packs = packs.into_iter().collect::<Vec<_>>().join(", ");
        format!("without a watch of pods they are told by their names (pack {packs}), and every pod with a fresh sample counts as ready")
    })
}

async fn look_up(client: &Client, probe: &Probe, at: Timestamp) -> Result<BTreeSet<String>, SourceError> {
    let rows = ask(client, &Query::Instant(planner::probe(probe), at)).await?;
    Ok(planner::found(probe, rows.rows()))
}

/// Is the histogram there, but without `_bucket` series?
async fn native(client: &Client, asked: &Asked, at: Timestamp) -> Result<bool, SourceError> {
    let Some(question) = asked.questions.iter().find(|q| q.group == Group::Buckets) else { return Ok(false) };
    let bucket = question.selects[0].0.name.clone();
    let bare = bucket.strip_suffix("_bucket").unwrap_or(&bucket).to_owned();
    let matchers = narrowed(client, asked, at).await?;
    let probe = Probe::Metrics { names: vec![bucket.clone(), bare.clone()], matchers };
    let found = look_up(client, &probe, at).await?;
    Ok(found.contains(&bare) && !found.contains(&bucket))
}

/// The set-up of a subscription, and the settle delay where one could be measured.
pub(super) async fn set_up(
    client: &Client,
    settings: &PrometheusSettings,
    wanted: &Subscription,
    at: Timestamp,
) -> Result<(SetUp, Option<Duration>), SourceError> {
    let resolved = resolve(client, settings, wanted, at).await?;
    let mut set_up = SetUp { warnings: resolved.warnings, ..SetUp::default() };
    if resolved.native_only {
        set_up.warnings.push(NATIVE_ONLY.to_owned());
    }
    let mut settle = None;
    for (entry, asked) in resolved.asked.iter().enumerate() {
        // as they are at the second tick: increments since the one before
        let since = Some(at - super::SCRAPE_ASSUMED);
        let batch = planner::batches([Wanted { key: wanted.key, entry, asked, since }], Limits::default(), |_| true, |_| 0);
        set_up.queries.extend(batch.iter().flat_map(|b| b.queries(at, super::SCRAPE_ASSUMED)).map(|(_, text)| text));
        for question in &asked.questions {
            look_at(client, asked, question, at, &mut set_up).await?;
        }
        let counted = asked.questions.first().map(|q| planner::counted(q, &q.selects[0].0));
        let levels = asked.levels.first().map(|l| l.level.select.clone());
        for select in [counted, levels].into_iter().flatten() {
            let measured = measure(client, asked, &select, at).await?;
            // what the pack expects, until there are samples to measure by
            set_up.scrape_interval = set_up.scrape_interval.max(measured.scrape.or(asked.every));
            settle = settle.max(measured.settle);
        }
        for level in &asked.levels {
            look_at_level(client, asked, level, at, &mut set_up).await?;
        }
    }
    look_at_gauges(client, &resolved.asked, wanted, at, &mut set_up).await?;
    if set_up.scrape_interval.is_none() {
        set_up.warnings.push(format!("no scrape interval could be measured: fewer than three samples in {MEASURED}"));
    }
    Ok((set_up, settle))
}

/// Which arm has series of a level, and whether its window holds enough scrapes.
async fn look_at_level(client: &Client, asked: &Asked, level: &LevelAsked, at: Timestamp, set_up: &mut SetUp) -> Result<(), SourceError> {
    let select = level.level.select.with(&asked.arm_matchers([&asked.arms]));
    warn_of_missing(client, asked, &level.level.select, at, &mut set_up.warnings).await?;
    if let (Some(window), Some(scrape)) = (level.level.rate, set_up.scrape_interval)
        && window < scrape * 2
    {
        let what = level.what.name();
        set_up.warnings.push(format!("{what} is a rate over {window:?}, and scraped every {scrape:?}: it needs two samples to be seen"));
    }
    // where the largest of several series counts, a second job changes nothing
    if level.level.each.is_empty() { refuse_doubles(client, asked, &select.to_string(), at).await } else { Ok(()) }
}

/// A sentence for each arm without series.
async fn warn_of_missing(
    client: &Client,
    asked: &Asked,
    select: &Select,
    at: Timestamp,
    warnings: &mut Vec<String>,
) -> Result<PerArm<bool>, SourceError> {
    let by = planner::labels(&asked.arm_labels);
    let series = asked.expression(select, &asked.arm_matchers([&asked.arms]), Select::to_string);
    let rows = ask(client, &Query::Instant(format!("count by ({by}) ({series})"), at)).await?;
    let there = PerArm::from_fn(|arm| rows.rows().any(|row| asked.is_arm(arm, |label| row.label(label))));
    for arm in Arm::BOTH.into_iter().filter(|arm| !there[*arm]) {
        warnings.push(format!("{}: no series of {} yet for {}", arm.name(), select.name, planner::arm_text(asked, arm)));
    }
    Ok(there)
}

/// Counts of the rule's own whose series exist but do not have the labels that tell the arms apart.
async fn refuse_without_labels(client: &Client, asked: &Asked, select: &Select, at: Timestamp) -> Result<(), SourceError> {
    let by = planner::labels(&asked.arm_labels);
    let rows = ask(client, &Query::Instant(format!("group by ({by}) ({select})"), at)).await?;
    let dropped = asked.arm_labels.iter().find(|label| rows.rows().all(|row| row.label(label).is_empty()));
    match dropped.filter(|_| rows.rows().next().is_some()) {
        Some(label) => Err(SourceError::Unusable(format!(
            "custom counts: {select} has series, but none with the label {label:?}: it cannot be told whose they are; count a metric that \
             has it, or give the telemetry entry another `arm:`"
        ))),
        None => Ok(()),
    }
}

/// Which arm has series, which bounds, and whether a process is scraped twice.
async fn look_at(client: &Client, asked: &Asked, question: &Question, at: Timestamp, set_up: &mut SetUp) -> Result<(), SourceError> {
    let select = &question.selects[0].0;
    if question.group == Group::Buckets {
        let bounds = bounds(client, asked, question, at).await?;
        set_up.bounds_ms = common(&bounds, &mut set_up.warnings);
    }
    let counted = planner::counted(question, select);
    if question.group == Group::Orphans {
        return Ok(()); // there is nothing to miss where all is well
    }
    let there = warn_of_missing(client, asked, &counted, at, &mut set_up.warnings).await?;
    if matches!(question.group, Group::Custom(_)) && !there.baseline && !there.canary {
        refuse_without_labels(client, asked, &question.selects[0].0, at).await?;
    }
    let series = asked.expression(&counted, &asked.arm_matchers([&asked.arms]), Select::to_string);
    refuse_doubles(client, asked, &series, at).await
}

/// The rule's own queries are text until a server has parsed them: a slip shall not wait for the first tick.
async fn look_at_gauges(
    client: &Client,
    asked: &[Asked],
    wanted: &Subscription,
    at: Timestamp,
    set_up: &mut SetUp,
) -> Result<(), SourceError> {
    let Some(asked) = asked.first() else { return Ok(()) };
    for gauge in &wanted.custom_gauges {
        for arm in Arm::BOTH {
            let text = planner::gauge_text(&gauge.query, asked, arm);
            let rows = ask(client, &Query::Instant(text.clone(), at)).await?;
            let said = said_of_rows(&rows.rows().filter_map(|row| row.value()).collect::<Vec<_>>());
            set_up.warnings.extend(said.map(|said| format!("{}: {said} for {text}", arm.name())));
            if !set_up.queries.contains(&text) {
                set_up.queries.push(text);
            }
        }
    }
    Ok(())
}

/// What is odd about the rows of a gauge; one number is not.
fn said_of_rows(values: &[f64]) -> Option<String> {
    match values {
        [] => Some("no series yet".to_owned()),
        [value] if value.is_finite() => None,
        [value] => Some(format!("{value}, which is no number to compare,")),
        _ if values.iter().any(|v| !v.is_finite()) => Some(format!("{} rows, not all of them numbers,", values.len())),
        _ => Some(format!("the mean of {} rows is taken", values.len())),
    }
}

/// The same process scraped by two jobs counts everything twice, and evidence with it (PACKS 1.5).
async fn refuse_doubles(client: &Client, asked: &Asked, counted: &str, at: Timestamp) -> Result<(), SourceError> {
    if ["job", "instance"].iter().all(|label| asked.identity.iter().any(|i| i == label)) {
        return Ok(());
    }
    let by = planner::labels(&asked.identity);
    let targets: Vec<String> = asked.identity.iter().cloned().chain(["job".to_owned(), "instance".to_owned()]).collect();
    let query = format!("count by ({by}) (count by ({}) ({counted})) > 1", planner::labels(&targets));
    let rows = ask(client, &Query::Instant(query, at)).await?;
    let names: Vec<String> = rows.rows().take(NAMED_MAX).map(|row| planner::process_name(&asked.identity, &row)).collect();
    if names.is_empty() {
        return Ok(());
    }
    let names = names.join(", ");
    Err(SourceError::Unusable(format!(
        "{counted} is scraped twice for {names}: drop one of the jobs, or give the telemetry entry an `extra` matcher such as 'job=\"...\"'"
    )))
}

/// Finite bounds of each arm's buckets, ms.
async fn bounds(client: &Client, asked: &Asked, question: &Question, at: Timestamp) -> Result<PerArm<BTreeSet<u64>>, SourceError> {
    let series = asked.expression(&question.selects[0].0, &asked.arm_matchers([&asked.arms]), Select::to_string);
    let by = planner::labels(asked.arm_labels.iter().chain(&question.keep));
    let rows = ask(client, &Query::Instant(format!("group by ({by}) ({series})"), at)).await?;
    Ok(PerArm::from_fn(|arm| {
        let of_arm = rows.rows().filter(|row| asked.is_arm(arm, |label| row.label(label)));
        let bounds = of_arm.filter_map(|row| bound_ms(row.label("le"), question.unit_ms));
        bounds.filter(|b| b.is_finite() && *b >= 0.0).map(f64::to_bits).collect()
    }))
}

/// Bounds both arms have; those of one while the other has none.
fn common(bounds: &PerArm<BTreeSet<u64>>, warnings: &mut Vec<String>) -> Vec<f64> {
    let both: Vec<u64> = match (bounds.baseline.is_empty(), bounds.canary.is_empty()) {
        (false, false) => bounds.baseline.intersection(&bounds.canary).copied().collect(),
        _ => bounds.baseline.union(&bounds.canary).copied().collect(),
    };
    if both.is_empty() && !bounds.baseline.is_empty() {
        warnings.push("the arms' latency histograms have no bound in common: latency cannot be compared".to_owned());
    }
    if both.len() > BOUNDS_MAX {
        warnings.push(format!("the latency histogram has {} bounds, the first {BOUNDS_MAX} are used", both.len()));
    }
    both.into_iter().take(BOUNDS_MAX).map(f64::from_bits).collect()
}

#[derive(Debug, Default)]
struct Measured {
    scrape: Option<Duration>,
    settle: Option<Duration>,
}

/// The scrape interval of the slowest process, from the times of raw samples; and how long scrapes take, which is how long
/// after a tick its samples are all there.
async fn measure(client: &Client, asked: &Asked, select: &Select, at: Timestamp) -> Result<Measured, SourceError> {
    let window = format!("{}[{MEASURED}]", select.with(&narrowed(client, asked, at).await?));
    let rows = ask(client, &Query::Window(window, at)).await?;
    let mut processes: BTreeMap<String, Duration> = BTreeMap::new();
    let mut jobs: BTreeSet<String> = BTreeSet::new();
    for row in rows.rows() {
        jobs.insert(row.label("job").to_owned());
        if let Some(gap) = median_gap(row.points()) {
            let fastest = processes.entry(planner::process_name(&asked.identity, &row)).or_insert(gap);
            *fastest = gap.min(*fastest);
        }
    }
    drop(rows);
    let mut measured = Measured { scrape: processes.into_values().max(), settle: None };
    jobs.remove("");
    if !jobs.is_empty() {
        let job = Matcher::any_of("job", &jobs.iter().map(String::as_str).collect::<Vec<_>>());
        let query = format!("quantile(0.99, max_over_time(scrape_duration_seconds{{{job}}}[{MEASURED}]))");
        let rows = ask(client, &Query::Instant(query, at)).await?;
        let longest = rows.rows().next().and_then(|row| row.value()).filter(|s| s.is_finite() && *s >= 0.0);
        measured.settle = longest.map(|s| (Duration::from_secs_f64(s.min(SETTLE_MAX.as_secs_f64())) + SETTLE_EXTRA).min(SETTLE_MAX));
    }
    Ok(measured)
}

/// Matchers of both arms' series; of joined ones by the labels they are joined on.
async fn narrowed(client: &Client, asked: &Asked, at: Timestamp) -> Result<Vec<Matcher>, SourceError> {
    let matchers = asked.arm_matchers([&asked.arms]);
    let Some(join) = &asked.join else { return Ok(matchers) };
    let info = Select { name: join.metric.clone(), matchers };
    let rows = ask(client, &Query::Instant(format!("group by ({}) ({info})", planner::labels(&join.on)), at)).await?;
    let of = |label: &String| Matcher::any_of(label, &rows.rows().map(|row| row.label(label)).collect::<Vec<_>>());
    Ok(join.on.iter().map(of).collect())
}

/// The median distance of samples; `None` for fewer than three.
fn median_gap(points: &[(f64, f64)]) -> Option<Duration> {
    let mut gaps: Vec<f64> = points.windows(2).map(|w| w[1].0 - w[0].0).filter(|gap| *gap > 0.0).collect();
    gaps.sort_by(f64::total_cmp);
    // to a tenth of a second: scrapes jitter by milliseconds
    (gaps.len() >= 2).then(|| Duration::from_millis(((gaps[gaps.len() / 2] * 10.0).round() * 100.0).max(100.0) as u64))
}
