//! Carries out the actions on workloads that a rollout's machine asks for, one at a time and beside its driver; the outcome comes back
//! by post. What we write ourselves is known as ours before anybody can take it for a release.

use super::mail::{Back, Mail};
use super::releases::Templates;
use crate::cluster::{Cluster, actions, identity};
use crate::model::{Noted, Outcome, Retry, RolloutId, Rule, Side, WorkloadAction};
use crate::telemetry::{Metrics, events};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;

/// Longest one try may take, with what is noted before and after it.
const TRY_MAX: Duration = Duration::from_secs(60);
/// Wait that is proposed after a try that came to no end.
const AGAIN: Duration = Duration::from_secs(1);

/// What it works with.
#[derive(Clone)]
pub(super) struct Kit {
    pub(super) cluster: Cluster,
    pub(super) templates: Templates,
    pub(super) rule: Arc<Rule>,
    pub(super) rollout: RolloutId,
    pub(super) canary: Side,
    pub(super) noted: Noted,
    pub(super) metrics: Metrics,
}

/// One rollout's hands. What is under way ends with it.
pub(super) struct Worker {
    kit: Kit,
    back: Back,
    under_way: Option<AbortHandle>,
}

impl Worker {
    pub(super) fn new(kit: Kit, back: Back) -> Self {
        Self { kit, back, under_way: None }
    }

    /// This shall be so, with so many replicas of the baseline; an older wish that is still under way is given up. Returns at once.
    pub(super) fn want(&mut self, action: WorkloadAction, number: u64, baseline: u32) {
        self.give_up();
        let (mut kit, back) = (Kit::clone(&self.kit), self.back.clone());
        kit.noted.baseline_ready = baseline;
        let task = tokio::spawn(async move {
            let late = || again(format!("{}: not done within {} s", action.name(), TRY_MAX.as_secs()));
            let outcome = tokio::time::timeout(TRY_MAX, kit.carry_out(action)).await.unwrap_or_else(|_| late());
            kit.tell(action, number, &outcome);
            // the rollout may be over: then nobody needs the news
            if let Some(post) = back.upgrade() {
                let _ = post.send(Mail::Worked { number, outcome }).await;
            }
        });
        self.under_way = Some(task.abort_handle());
    }

    fn give_up(&mut self) {
        if let Some(task) = self.under_way.take() {
            task.abort();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl Kit {
    async fn carry_out(&self, action: WorkloadAction) -> Outcome {
        let noted = match self.noted_today().await {
            Ok(noted) => noted,
            Err(why) => return again(why),
        };
        if action == WorkloadAction::Undo
            && let Err(why) = self.note_undo(&noted).await
        {
            return again(why);
        }
        let client = self.cluster.client();
        let workloads = &self.rule.workloads;
        let job = actions::Job { workloads, canary: self.canary, noted: &noted, action, rollout: &self.rollout };
        let outcome = self.unless_read_otherwise(actions::act(&client, &job).await).await;
        let noted = match (action, &outcome) {
            (WorkloadAction::Copy, Outcome::Done) => self.note_copy().await,
            (WorkloadAction::Undo, Outcome::Done) => self.note_undone(&job).await,
            _ => return outcome,
        };
        noted.map_or_else(again, |()| Outcome::Done)
    }

    /// What was noted at the start, as the API server reads it today: one that was replaced meanwhile may fill in other fields.
    async fn noted_today(&self) -> Result<Noted, String> {
        let mut noted = self.noted.clone();
        noted.template = self.templates.called(&self.rule.name, &noted.template);
        let Some(before) = &noted.template_before else { return Ok(noted) };
        let was = identity_of(before)?;
        let now = self.templates.called(&self.rule.name, &was);
        if now != was {
            let read = self.cluster.template_of(self.rule.workloads.side(self.canary), &now).await?;
            noted.template_before = read.or(noted.template_before);
        }
        Ok(noted)
    }

    /// What is refused because of a template nobody wrote is tried again under its new name: a call may meet a newer API server before a
    /// watch does.
    async fn unless_read_otherwise(&self, outcome: Outcome) -> Outcome {
        let Outcome::Failed { text, retry: Retry::Never } = &outcome else { return outcome };
        let now = self.cluster.readings_now(self.rule.workloads.side(self.canary)).await.unwrap_or_default();
        match self.templates.read_as(&self.rule, self.canary, now).await {
            Ok(renamed) if !renamed.is_empty() => again(text.clone()),
            _ => outcome,
        }
    }

    /// Before it is written: afterwards the rollout is soon over, and what is then new starts another one.
    async fn note_undo(&self, noted: &Noted) -> Result<(), String> {
        let Some(before) = &noted.template_before else { return Ok(()) };
        self.templates.note(&self.rule, self.canary, Some(identity_of(before)?)).await.map_err(|e| e.to_string())
    }

    /// The same after it is written, as it came out: an API server that fills in fields makes another of it.
    async fn note_undone(&self, job: &actions::Job<'_>) -> Result<(), String> {
        let Some(template) = actions::given_back(&self.cluster.client(), job).await? else { return Ok(()) };
        self.templates.note(&self.rule, self.canary, Some(template)).await.map_err(|e| e.to_string())
    }

    /// After it is written, for the copy has labels of stable's: until this is known the rollout does not go on, and while it runs
    /// a change of stable starts nothing.
    async fn note_copy(&self) -> Result<(), String> {
        let stable = self.canary.other();
        let there = self.cluster.note(&self.rule.workloads, stable).await?;
        self.templates.note(&self.rule, stable, Some(there.template)).await.map_err(|e| e.to_string())
    }

    fn tell(&self, action: WorkloadAction, number: u64, outcome: &Outcome) {
        let failed = match outcome {
            Outcome::Done => None,
            Outcome::Failed { text, retry: Retry::Never } => Some(("never", text.as_str())),
            Outcome::Failed { text, .. } => Some(("not-yet", text.as_str())),
        };
        let effect = action.name();
        events::EffectEnded { rollout: &self.rollout, router: "workloads", effect, generation: number, failed }.emit(&self.metrics);
    }
}

/// Identity of a template that was noted as JSON.
fn identity_of(template: &str) -> Result<String, String> {
    let template: serde_json::Value = serde_json::from_str(template).map_err(|e| format!("the template noted is no JSON: {e}"))?;
    Ok(identity(&template))
}

fn again(text: String) -> Outcome {
    Outcome::Failed { text, retry: Retry::After(AGAIN) }
}
