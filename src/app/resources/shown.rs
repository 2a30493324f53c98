//! What is shown of rollouts: an object each, which `kubectl get canaryrollouts` lists, and Events on it and on the canary's Deployment.

use super::Book;
use crate::api::wire;
use crate::cluster::resources::{Condition, DEPLOYMENT, Desk, MadeFrom, Place, ROLLOUT, Saying, Shown, camel_case, conditions};
use crate::model::{Action, Decision, Effect, Level, Notice, Phase, RolloutId, State};
use crate::runtime::{EventLine, Handle, RolloutView};
use crate::telemetry::words;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

/// How often every rollout is looked at, whatever the feed brought.
const LOOK: Duration = Duration::from_secs(30);

/// Follows the live feed; ends with it.
pub(super) async fn show(book: Book, handle: Handle, desk: Desk, namespace: String) {
    let mut feed = handle.events();
    // or what a restart took up would be shown a second time, elsewhere
    book.settled().await;
    let mut shower = Shower { book, desk, namespace, homes: BTreeMap::new() };
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            line = feed.recv() => match line {
                Ok(line) => shower.on(&line),
                // what was said in lines that are missed is in the log; what holds is looked at
                Err(RecvError::Lagged(_)) => shower.all(&handle),
                Err(RecvError::Closed) => return,
            },
            _ = look.tick() => shower.all(&handle),
        }
    }
}

struct Shower {
    book: Book,
    desk: Desk,
    /// Of rollouts whose workloads and rule have none.
    namespace: String,
    /// The namespaces of the objects of rollouts that were shown: each stays where it is, though its rule is taken away.
    homes: BTreeMap<RolloutId, String>,
}

/// Where a rollout is shown.
struct Where {
    rollout: Place,
    deployment: Option<Place>,
    made_from: MadeFrom,
}

impl Shower {
    fn all(&mut self, handle: &Handle) {
        let views = handle.views();
        self.homes.retain(|id, _| views.rollouts.contains_key(id));
        views.rollouts.values().for_each(|view| self.view(view));
    }

    fn view(&mut self, view: &RolloutView) {
        let Where { rollout, made_from, .. } = self.place(view);
        self.desk.show(rollout, Shown { status: status(view), made_from: Some(made_from) });
    }

    fn on(&mut self, line: &EventLine) {
        self.view(&line.view);
        let said = sayings(&line.decision, &line.view);
        if said.is_empty() {
            return;
        }
        let Where { rollout, deployment, .. } = self.place(&line.view);
        for (warning, reason, note) in said {
            for of in [Some(&rollout), deployment.as_ref()].into_iter().flatten() {
                self.desk.say(Saying { of: of.clone(), warning, reason: reason.clone(), note: note.clone() });
            }
        }
    }

    /// Beside its rule's object, which then owns it; else beside its workloads.
    fn place(&mut self, view: &RolloutView) -> Where {
        let field = |name: &str| view.canary_fields.get(name);
        let of_canary = field("namespace").unwrap_or(&self.namespace);
        let deployment = field("deployment").map(|name| Place::new(DEPLOYMENT, of_canary, name));
        let object = self.book.object(&view.rule, field("namespace"));
        let beside = || object.as_ref().map_or(of_canary, |object| &object.namespace).clone();
        let namespace = self.homes.entry(view.id.clone()).or_insert_with(beside);
        // an object is owned in its own namespace only
        let owner = object.as_ref().filter(|object| object.namespace == *namespace).map(|object| object.uid.clone());
        Where { rollout: Place::new(ROLLOUT, namespace, &view.id.0), deployment, made_from: MadeFrom { rule: view.rule.clone(), owner } }
    }
}

/// What a rollout shows of itself, without times of its own.
fn status(view: &RolloutView) -> Value {
    let rollout = wire::Rollout::from(view);
    json!({
        "phase": view.state.name(),
        "step": format!("{}/{}", rollout.step.number, rollout.step.of),
        "weight": view.decision.weight.to_string(),
        "verdict": rollout.verdict,
        "reason": reason(view),
        "baseline": view.baseline,
        "canary": view.canary,
        "version": view.version,
        "mode": rollout.mode,
        "started": words::time(view.opened),
        "observedGeneration": 1,
        "conditions": conditions(&three(view), 1),
    })
}

/// The first reason it goes back or does not go on, else where it stands.
fn reason(view: &RolloutView) -> String {
    let judgement = view.judgement.as_deref();
    match (view.decision.reasons.first(), view.decision.holds.first()) {
        (Some(reason), _) => words::reason(reason, &view.metrics, judgement),
        (None, Some(hold)) if !view.state.is_over() => words::hold(hold),
        _ => words::state(&view.state, view.steps.len()),
    }
}

/// Ready: it ended well. Progressing: it goes on by itself. Degraded: it went back, or somebody must look.
fn three(view: &RolloutView) -> [Condition; 3] {
    let waits = matches!(view.state, State::Paused(_) | State::Stuck(_));
    let back = matches!(view.state, State::RollingBack | State::RolledBack | State::Stuck(_));
    let condition = |kind, holds: bool| Condition {
        kind,
        status: Some(holds),
        reason: camel_case(view.state.name()),
        message: words::state(&view.state, view.steps.len()),
    };
    [
        condition("Ready", view.state == State::Succeeded),
        condition("Progressing", !view.state.is_over() && !waits),
        condition("Degraded", back),
    ]
}

/// What is to be said of a decision: whether it is something to look at, a word, and a sentence.
fn sayings(decision: &Decision, view: &RolloutView) -> Vec<(bool, String, String)> {
    let judgement = view.judgement.as_deref();
    let decided = (decision.action != Action::Hold).then(|| {
        let warning = matches!(decision.action, Action::RollBack | Action::Pause | Action::Reassert | Action::Refuse(_));
        (warning, camel_case(decision.action.name()), words::decision(decision, &view.metrics, judgement))
    });
    let notices = decision.effects.iter().filter_map(|effect| match effect {
        Effect::Notify(notice) => Some(saying(notice)),
        _ => None,
    });
    decided
        .into_iter()
        .chain(notices)
        .map(|(warning, word, note)| (warning, word, words::printable(&words::in_mode(view.mode, &note))))
        .collect()
}

fn saying(notice: &Notice) -> (bool, String, String) {
    let over = notice.phase == Phase::Resolved;
    let note = if over { format!("over: {}", notice.text) } else { notice.text.clone() };
    (notice.level > Level::Info && !over, camel_case(notice.topic.name()), note)
}
