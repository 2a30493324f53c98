//! `steps`, `advance`, `strict` and `promotion`: where the weight goes, when, and what comes after.

use super::{Fields, LONGEST, Out, keys};
use crate::config::walk::At;
use crate::model::rule::{Promotion, Step, WorkloadForm, Workloads};
use crate::model::{Advance, Weight};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Most steps of a rule; more is a slip of a generator.
const STEPS_MAX: usize = 100;
/// How long a step may last. Shorter ones end at the warm-up's end anyhow (STATISTICS 7).
const LASTS: RangeInclusive<Duration> = Duration::from_millis(100)..=LONGEST;
/// Default of `keep`.
const KEEP: Duration = Duration::from_secs(24 * 3600);
/// Most replicas of the old version; more is a slip.
pub(super) const IDLE_MAX: u32 = 10_000;
/// Default of `promote-within`.
const PROMOTE_WITHIN: Duration = Duration::from_secs(24 * 3600);

/// One step as it was read; a part that could not be read is told already.
struct Read<'a> {
    at: At<'a>,
    weight: Option<Weight>,
    lasts: Option<Duration>,
}

pub(super) fn steps(fields: &Fields<'_>, promotion: Option<Promotion>, out: &mut Out<'_>) -> Option<Vec<Step>> {
    let at = fields.need("steps", "write at least one, such as - { weight: 100%, bake: 30m }", &mut out.report)?;
    let items = at.items(&mut out.report);
    if items.is_empty() && at.is_list() {
        at.wrong(&mut out.report, "has no step", "write at least one, such as - { weight: 100%, bake: 30m }");
    }
    if items.len() > STEPS_MAX {
        at.wrong(&mut out.report, format_args!("{} steps exceed {STEPS_MAX}", items.len()), "write fewer, larger steps");
        return None;
    }
    let last = items.len().saturating_sub(1);
    let read: Vec<Read<'_>> = items.into_iter().enumerate().filter_map(|(index, item)| step(item, index == last, out)).collect();
    rising(&read, out);
    whole(&at, &read, promotion, out);
    let steps: Option<Vec<Step>> = read.iter().map(|r| Some(Step { weight: r.weight?, lasts: r.lasts? })).collect();
    steps.filter(|steps| !steps.is_empty())
}

fn step<'a>(at: At<'a>, last: bool, out: &mut Out<'_>) -> Option<Read<'a>> {
    let inner = at.fields(keys::STEP, &mut out.report)?;
    let weight_at = inner.need("weight", "write the canary's share, such as weight: 5%", &mut out.report);
    let weight = weight_at.as_ref().and_then(|at| weight(at, out));
    if let (Some(at), Some(true), false) = (&weight_at, weight.map(Weight::is_full), last) {
        at.wrong(&mut out.report, "100% before the last step", "there is no baseline at 100%: make it the last step");
    }
    let lasts = lasts(&inner, weight, out);
    Some(Read { at: weight_at.unwrap_or(at), weight, lasts })
}

/// A share in steps of a permille.
fn weight(at: &At<'_>, out: &mut Out<'_>) -> Option<Weight> {
    let permille = at.percent(&mut out.report)? * 1000.0;
    let text = at.scalar();
    if permille > 1000.0 + 1e-9 {
        at.wrong(&mut out.report, format_args!("{text} exceeds 100%"), "write a share between 0% and 100%");
        return None;
    }
    if (permille - permille.round()).abs() > 1e-6 {
        at.wrong(&mut out.report, format_args!("{text} is finer than 0.1%"), "write steps of 0.1%, such as 0.5% or 12.5%");
        return None;
    }
    Weight::from_permille(permille.round() as u16).ok()
}

fn lasts(inner: &Fields<'_>, weight: Option<Weight>, out: &mut Out<'_>) -> Option<Duration> {
    let full = weight.is_some_and(Weight::is_full);
    match (inner.get("for"), inner.get("bake")) {
        (Some(at), Some(_)) => at.wrong(&mut out.report, "stands beside bake", "write for below 100%, bake at 100%"),
        (Some(at), None) if full => {
            at.wrong(&mut out.report, "is for steps below 100%", "write bake: at 100% there is no baseline to compare with")
        }
        (None, Some(at)) if weight.is_some() && !full => {
            at.wrong(&mut out.report, "is for the step at 100%", "write for: below 100% the step is judged against the baseline");
        }
        (Some(at), None) | (None, Some(at)) => return at.duration(LASTS, &mut out.report),
        (None, None) => {
            let example = if full { "say how long to watch, such as bake: 30m" } else { "say how long the step lasts, such as for: 15m" };
            inner.need(if full { "bake" } else { "for" }, example, &mut out.report);
        }
    }
    None
}

fn rising(read: &[Read<'_>], out: &mut Out<'_>) {
    for (index, pair) in read.windows(2).enumerate() {
        let [before, after] = pair else { continue };
        if let (Some(low), Some(high)) = (before.weight, after.weight)
            && high < low
        {
            let what = format!("{high} is below the {low} of steps[{index}]");
            after.at.wrong(&mut out.report, what, "weights must not fall from step to step");
        }
    }
}

/// A promotion needs a canary that carries everything.
fn whole(at: &At<'_>, read: &[Read<'_>], promotion: Option<Promotion>, out: &mut Out<'_>) {
    let Some(last) = read.last().and_then(|r| r.weight) else { return };
    if !last.is_full() && promotion.is_some_and(|p| p != Promotion::Leave) {
        let way_out = "add - { weight: 100%, bake: 30m }, or write promotion: leave";
        at.wrong(&mut out.report, format_args!("the last step stands at {last}"), way_out);
    }
}

/// `true`: on evidence.
pub(super) const ADVANCE: &[(&str, bool)] = &[("on-schedule", false), ("on-evidence", true)];

pub(super) fn advance(fields: &Fields<'_>, out: &mut Out<'_>) -> Option<Advance> {
    let strict_at = fields.get("strict");
    let strict = strict_at.as_ref().and_then(|at| at.flag(&mut out.report));
    let on_evidence = match fields.get("advance") {
        Some(at) => at.choice(ADVANCE, &mut out.report)?,
        None => false,
    };
    match strict_at {
        Some(at) if on_evidence => {
            at.wrong(&mut out.report, "means nothing beside advance: on-evidence", "leave it out: on-evidence always asks for proof");
            None
        }
        Some(_) => Some(Advance::OnSchedule { strict: strict? }),
        None if on_evidence => Some(Advance::OnEvidence),
        None => Some(Advance::OnSchedule { strict: false }),
    }
}

/// `swap` is the default of a pair, `copy` of stable and canary; one Deployment has nothing to promote. `external` needs no
/// cluster: the traffic waits at 100 % until a person says `promote`, which sends it back to a stable that is equal by then.
pub(super) fn promotion(fields: &Fields<'_>, workloads: Option<&Workloads>, out: &mut Out<'_>) -> Option<Promotion> {
    let Some(at) = fields.get("promotion") else { return by_form(fields, workloads?, out) };
    let (word, object, tagged) = at.tagged(&mut out.report)?;
    match word {
        "swap" => swap(&object, tagged, out),
        "external" => external(&object, tagged, out),
        "copy" | "leave" if tagged => {
            object.wrong(&mut out.report, "has no settings", format_args!("write promotion: {word}"));
            None
        }
        "copy" => Some(copy(&at, out)),
        "leave" => Some(Promotion::Leave),
        _ => {
            at.wrong(&mut out.report, format_args!("no promotion is named {word:?}"), crate::config::walk::one_of(word, PROMOTIONS));
            None
        }
    }
}

pub(super) const PROMOTIONS: &[&str] = &["swap", "copy", "external", "leave"];

/// The canary's pod template goes into stable.
fn copy(at: &At<'_>, out: &mut Out<'_>) -> Promotion {
    out.in_cluster(at, "promotion copy", "write promotion: external (others make stable equal) or leave");
    Promotion::Copy
}

fn by_form(fields: &Fields<'_>, workloads: &Workloads, out: &mut Out<'_>) -> Option<Promotion> {
    Some(match workloads.form {
        WorkloadForm::Pair => Promotion::Swap { keep: KEEP, idle: None },
        WorkloadForm::One => Promotion::Leave,
        WorkloadForm::StableCanary => copy(&fields.get("workloads")?, out),
    })
}

fn swap(at: &At<'_>, tagged: bool, out: &mut Out<'_>) -> Option<Promotion> {
    if !tagged {
        return Some(Promotion::Swap { keep: KEEP, idle: None });
    }
    let inner = at.fields(keys::SWAP, &mut out.report)?;
    let keep = inner.get("keep").map(|at| at.duration(Duration::ZERO..=LONGEST, &mut out.report));
    let idle = inner.get("idle-replicas").map(|at| {
        out.in_cluster(&at, "scaling the old version", "leave it out: the old version keeps its replicas");
        at.whole(0..=IDLE_MAX, &mut out.report)
    });
    Some(Promotion::Swap { keep: keep.unwrap_or(Some(KEEP))?, idle: idle.map_or(Some(None), |read| read.map(Some))? })
}

fn external(at: &At<'_>, tagged: bool, out: &mut Out<'_>) -> Option<Promotion> {
    let within = match tagged.then(|| at.fields(keys::EXTERNAL, &mut out.report)) {
        Some(inner) => inner?.get("promote-within").map(|at| at.duration(LASTS, &mut out.report)),
        None => None,
    };
    Some(Promotion::External { within: within.unwrap_or(Some(PROMOTE_WITHIN))? })
}
