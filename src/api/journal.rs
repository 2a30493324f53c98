//! The journal on the wire: every line with its sentence.

use super::convert::time;
use super::wire;
use crate::model::journal::{Entry, Event};
use crate::model::{Arm, ArmSample, Blind, PerArm, Poll};
use crate::telemetry::words;

/// The whole journal of a rollout. Metric names come from its view, if there still is one.
pub(super) fn journal(rollout: &str, entries: &[Entry], names: &[String]) -> wire::Journal {
    wire::Journal { rollout: rollout.to_owned(), entries: entries.iter().map(|entry| line(entry, names)).collect() }
}

fn line(entry: &Entry, names: &[String]) -> wire::JournalEntry {
    let (kind, text, arms, action) = match &entry.event {
        Event::Opened(o) => {
            ("opened", format!("{} opened by {}, version {:?}, from {}", o.id, o.begin.by, o.begin.version, o.file), None, None)
        }
        Event::Poll { poll, missing, detail, .. } => ("poll", poll_text(poll, *missing, detail), Some(arms(poll, *missing)), None),
        Event::Input(input) => ("input", words::input(input), None, None),
        Event::Gap(what) => ("gap", what.clone(), None, None),
        Event::Restarted { incarnation, why } => ("restarted", format!("evidence begins anew ({incarnation}): {why}"), None, None),
        Event::Decided(d) => ("decided", words::decision(d, names, None), None, Some(d.action.name().to_owned())),
    };
    wire::JournalEntry { seq: entry.seq, at: time(entry.at), kind: kind.to_owned(), text, arms, action }
}

fn poll_text(poll: &Poll, missing: PerArm<Option<Blind>>, detail: &str) -> String {
    let arm = |arm: Arm| match (missing[arm], poll.arms[arm].requests) {
        (Some(why), _) | (None, Err(why)) => format!("{}: {}", arm.name(), words::blind(why)),
        (None, Ok(counts)) => format!("{}: {} requests, {} bad", arm.name(), counts.total, counts.bad),
    };
    let detail = if detail.is_empty() { String::new() } else { format!(" ({detail})") };
    format!("{}, {}{detail}", arm(Arm::Baseline), arm(Arm::Canary))
}

fn arms(poll: &Poll, missing: PerArm<Option<Blind>>) -> wire::Arms {
    let seen = |arm| seen(&poll.arms[arm], missing[arm]);
    wire::Arms { baseline: seen(Arm::Baseline), canary: seen(Arm::Canary) }
}

fn seen(sample: &ArmSample, missing: Option<Blind>) -> wire::Seen {
    let counts = sample.requests.ok();
    wire::Seen {
        requests: counts.map(|c| c.total),
        errors: counts.map(|c| c.bad),
        pods: sample.pods,
        missing: missing.or(sample.requests.err()).map(|why| why.name().to_owned()),
    }
}
