//! `start`: what begins a rollout, who must agree, and what the first one does.

use super::{Fields, Out, keys, word};
use crate::config::walk::At;
use crate::model::role;
use crate::model::rule::{First, Start};

/// Most roles that must approve; each needs a person of its own.
const APPROVALS_MAX: usize = 10;
pub(super) const WHEN: &[(&str, bool)] = &[("manual", false), ("new-template", true)];
pub(super) const FIRST: &[(&str, First)] = &[("promote", First::Promote), ("refuse", First::Refuse)];

pub(super) fn start(fields: &Fields<'_>, out: &mut Out<'_>) -> (Start, First) {
    let Some(inner) = fields.get("start").and_then(|at| at.fields(keys::START, &mut out.report)) else {
        return (Start::default(), First::Promote);
    };
    let on_new_template = word(&inner, "when", WHEN, out).unwrap_or(false);
    if let Some(at) = inner.get("when").filter(|_| on_new_template) {
        out.in_cluster(&at, "starting at a new template", "write when: manual and start rollouts by CLI or API");
    }
    let approvals = inner.get("approvals").map_or_else(Vec::new, |at| approvals(&at, out));
    let first = word(&inner, "first", FIRST, out).unwrap_or(First::Promote);
    (Start { on_new_template, approvals }, first)
}

fn approvals(at: &At<'_>, out: &mut Out<'_>) -> Vec<String> {
    let mut roles: Vec<String> = Vec::new();
    for at in at.items(&mut out.report) {
        let Some(role) = role(&at, out) else { continue };
        if roles.contains(&role) {
            at.wrong(&mut out.report, format_args!("role {role:?} stands here twice"), "one person approves for a role: name another one");
        }
        roles.push(role);
    }
    if roles.len() > APPROVALS_MAX {
        at.wrong(&mut out.report, format_args!("{} approvals exceed {APPROVALS_MAX}", roles.len()), "name fewer roles");
    }
    roles
}

/// As in the token file, where `approver(<role>)` gives it.
fn role(at: &At<'_>, out: &mut Out<'_>) -> Option<String> {
    let text = at.text(&mut out.report)?;
    if role::is_name(text) {
        return Some(text.to_owned());
    }
    let way_out = format!("write letters, digits, . _ - and @, at most {}", role::NAME_MAX);
    at.wrong(&mut out.report, format_args!("{text:?} is no role"), way_out);
    None
}
