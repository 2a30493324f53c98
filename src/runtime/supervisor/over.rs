//! What is left to do when a rollout is over: its slot is emptied, what it learned is kept, and what waited for it begins.

use super::{Running, Supervisor};
use crate::analysis::Judge;
use crate::engine::Engine;
use crate::model::rule::Promotion;
use crate::model::{RolloutId, State};
use crate::runtime::{clock, kept};
use crate::store::StoreError;
use crate::telemetry::events;
use std::time::Duration;
use tokio::sync::oneshot;

/// Rollouts of a rule kept for readers after they are over (their journals stay).
const OVER_KEPT: usize = 5;

/// Longest the supervisor waits for the store to keep what a rollout learned.
const KEEP_TIMEOUT: Duration = Duration::from_secs(2);

impl Supervisor {
    pub(super) async fn bury(&mut self, id: &RolloutId) {
        let Some(rule) = self.running.iter().find(|(_, r)| r.id == *id).map(|(rule, _)| rule.clone()) else { return };
        if let Some(run) = self.running.remove(&rule) {
            self.note_success(&run).await;
            self.keep_sums(&rule, &run).await;
            if let Some(taken) = self.slots.iter_mut().enumerate().find(|(i, _)| Engine::<Judge>::slot(*i as u32) == run.slot) {
                *taken.1 = false;
            }
        }
        self.forget_old(&rule);
        if !self.rules.rules.contains_key(&rule) {
            events::RuleGone { rule: &rule }.emit(&self.metrics);
            self.let_go();
        }
        self.poke.notify_one();
        if let Some((args, answer)) = self.next.remove(&rule) {
            self.prepare(rule, args, answer).await;
        }
    }

    /// What succeeded is what its workload has from now on.
    async fn note_success(&self, run: &Running) {
        let succeeded = self.registry.rollout(&run.id).is_some_and(|view| view.state == State::Succeeded);
        let Some(noted) = run.begin.noted.as_ref().filter(|_| succeeded) else { return };
        let noting = self.templates.note(&run.rule, run.begin.canary, Some(noted.template.clone()));
        let noting = async {
            noting.await?;
            self.note_made_equal(run).await
        };
        let why = match tokio::time::timeout(KEEP_TIMEOUT, noting).await {
            Ok(Ok(())) => return,
            Ok(Err(e)) => e.to_string(),
            Err(_) => "the template that succeeded could not be noted in time".to_owned(),
        };
        events::StoreFailed { what: &run.id.0, error: &why }.emit(&self.metrics);
    }

    /// Where somebody else made stable equal, what it has now is what was waited for.
    async fn note_made_equal(&self, run: &Running) -> Result<(), StoreError> {
        let stable = run.begin.canary.other();
        let external = matches!(run.rule.promotion, Promotion::External { .. });
        let release = self.cluster.as_ref().filter(|_| external).and_then(|c| c.release(run.rule.workloads.side(stable)).ok().flatten());
        match release {
            Some(release) => self.templates.note(&run.rule, stable, Some(release.template)).await,
            None => Ok(()),
        }
    }

    /// Empties the slot; what the judge learned is kept for the next rollout, unless this one was rolled back.
    async fn keep_sums(&self, rule: &str, run: &Running) {
        let (told, answer) = oneshot::channel();
        // the engine stops only with the daemon
        let _ = self.engine.take(run.slot, Box::new(move |judge| drop(told.send(judge))));
        let Ok(Some(judge)) = answer.await else { return };
        let rolled_back = self.registry.rollout(&run.id).is_none_or(|view| view.state == State::RolledBack);
        let Some(kept) = kept::of(&judge, &run.rule, &run.born, clock::now()).filter(|_| !rolled_back) else { return };
        let stored = tokio::time::timeout(KEEP_TIMEOUT, self.store.keep(rule, kept)).await;
        // a rollout without them learns again: said, and no more than that
        match stored {
            Ok(Ok(())) => {}
            Ok(Err(e)) => events::StoreFailed { what: rule, error: &e.to_string() }.emit(&self.metrics),
            Err(_) => events::StoreFailed { what: rule, error: "what was learned could not be kept in time" }.emit(&self.metrics),
        }
    }

    fn forget_old(&self, rule: &str) {
        let views = self.registry.views();
        let mut over: Vec<_> = views.rollouts.values().filter(|v| v.rule == rule && v.state.is_over()).collect();
        over.sort_by_key(|v| std::cmp::Reverse(v.opened));
        for view in over.into_iter().skip(OVER_KEPT) {
            self.registry.forget(&view.id);
        }
    }
}
