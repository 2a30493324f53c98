//! What became of past rollouts, from the journal: who, when, how it ended and why, who approved.

use super::handle::{PastArgs, PastRollout, PastRollouts, Refusal};
use crate::config::{Known, parse_rule};
use crate::model::journal::{Entry, Event, Opened};
use crate::model::{Action, Command, Decision, Input, Verb};
use crate::runtime::handle::Approval;
use crate::store::{Listed, Past, Store, StoreError};
use crate::telemetry::words;
use std::path::Path;
use std::sync::Arc;

/// Most rollouts of one answer: each costs the storage thread a look through its lines.
pub const PAST_MAX: usize = 100;

/// The newest first; one more is looked for, to know whether there are.
pub(super) async fn past(store: Arc<dyn Store>, args: PastArgs, known: Known) -> Result<PastRollouts, Refusal> {
    let most = args.most.clamp(1, PAST_MAX);
    let before = args.before.clone();
    let wanted = Past { rule: args.rule, since: args.since, before: args.before, most: most + 1 };
    let mut listed = store.past(wanted).await.map_err(|e| match (e, before) {
        (StoreError::Unknown(_), Some(id)) => Refusal::new("unknown-rollout", format!("there is no rollout {id} to go on from")),
        (e, _) => unreadable(&e),
    })?;
    let more = listed.len() > most;
    listed.truncate(most);
    let mut rollouts = Vec::with_capacity(listed.len());
    for one in listed {
        match store.outline(&one.id).await {
            Ok(lines) => rollouts.push(told(one, &lines, &known)),
            // dropped by age since it was listed
            Err(StoreError::Unknown(_)) => {}
            Err(e) => return Err(unreadable(&e)),
        }
    }
    Ok(PastRollouts { rollouts, more })
}

fn unreadable(error: &StoreError) -> Refusal {
    Refusal::new("journal", error.to_string())
}

fn told(listed: Listed, lines: &[Entry], known: &Known) -> PastRollout {
    let opened = lines.iter().find_map(|line| if let Event::Opened(opened) = &line.event { Some(&**opened) } else { None });
    let last = lines.iter().rev().find_map(|line| if let Event::Decided(decision) = &line.event { Some(&**decision) } else { None });
    PastRollout {
        by: opened.map(|o| o.begin.by.clone()).unwrap_or_default(),
        ended: last.filter(|d| d.state.is_over()).map(|d| d.at),
        reasons: last.map(|decision| reasons(decision, opened, known)).unwrap_or_default(),
        approvals: approvals(lines),
        id: listed.id,
        rule: listed.rule,
        version: listed.version,
        opened: listed.opened,
        state: listed.state,
    }
}

/// The names of metrics are in the rule it ran under, which is read only if there is something to name.
fn reasons(decision: &Decision, opened: Option<&Opened>, known: &Known) -> Vec<(&'static str, String)> {
    if decision.reasons.is_empty() {
        return Vec::new();
    }
    let rule = opened.and_then(|o| parse_rule(&o.rule_text, Path::new(&o.file), known).ok());
    let names: Vec<String> = rule.map(|r| r.metrics.into_iter().map(|m| m.name).collect()).unwrap_or_default();
    decision.reasons.iter().map(|reason| (words::reason_kind(reason), words::reason(reason, &names, None))).collect()
}

/// Those that were not refused: the answer to a word is the line after it, if it is another than the one before.
fn approvals(lines: &[Entry]) -> Vec<Approval> {
    let refused = |seq: u64| {
        let answer = lines.iter().find(|line| line.seq == seq + 1);
        answer.is_some_and(|line| matches!(&line.event, Event::Decided(d) if matches!(d.action, Action::Refuse(_))))
    };
    let approval = |line: &Entry| match &line.event {
        Event::Input(input) => match &**input {
            Input::Command(Command { verb: Verb::Approve { role }, by, why }) if !refused(line.seq) => {
                Some(Approval { role: role.clone(), by: by.clone(), why: why.clone(), at: line.at })
            }
            _ => None,
        },
        _ => None,
    };
    lines.iter().filter_map(approval).collect()
}
