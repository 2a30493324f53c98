//! Starting a rollout: may it, on which router, and what was prepared beside the loop.

use super::{News, Running, Supervisor};
use crate::cluster::Cluster;
use crate::config::overlap;
use crate::model::rule::{Rule, Traffic};
use crate::model::{Begin, RolloutId, Side, State, Weight};
use crate::router::{Desired, Router};
use crate::runtime::handle::{Refusal, StartArgs, Views};
use crate::runtime::mail::{self, Mail};
use crate::runtime::releases::CLUSTER;
use crate::runtime::start::{self, Plan};
use std::sync::Arc;
use tokio::sync::oneshot;

/// A rule whose workloads are in the cluster, or a rollout of one that is no longer in force.
pub(in crate::runtime) struct Followed {
    /// As the rollout has it, if one is running.
    pub(in crate::runtime) rule: Arc<Rule>,
    pub(in crate::runtime) on_trial: Option<RunningNow>,
    /// A rollout is about to begin.
    pub(in crate::runtime) busy: bool,
    /// Its running or last rollout.
    pub(in crate::runtime) last: Option<RolloutId>,
}

/// A rollout that is not over.
pub(in crate::runtime) struct RunningNow {
    pub(in crate::runtime) id: RolloutId,
    pub(in crate::runtime) begin: Begin,
    pub(in crate::runtime) state: State,
    /// All the traffic is to be its canary's.
    pub(in crate::runtime) has_all: bool,
}

impl Supervisor {
    pub(super) async fn start(&mut self, rule: String, args: StartArgs, answer: oneshot::Sender<Result<RolloutId, Refusal>>) {
        match self.may_start(&rule, &args) {
            Ok(true) => self.prepare(rule, args, answer).await,
            Ok(false) => self.start_after(rule, args, answer),
            Err(refusal) => drop(answer.send(Err(refusal))),
        }
    }

    /// `Ok(false)`: after the running rollout was superseded.
    fn may_start(&self, rule: &str, args: &StartArgs) -> Result<bool, Refusal> {
        if !self.rules.rules.contains_key(rule) {
            let names: Vec<_> = self.rules.rules.keys().map(String::as_str).collect();
            return Err(Refusal::new("unknown-rule", format!("no rule is called {rule:?}; there are: {}", names.join(", "))));
        }
        if self.preparing.contains(rule) {
            return Err(Refusal::new("already-starting", format!("a rollout of {rule} is being started")));
        }
        match self.running.get(rule) {
            None => self.refuse_what_another_moves(rule).map(|()| true),
            // its place is empty in a moment: the next one waits for that
            Some(run) if self.is_over(run) && args.by != CLUSTER => Ok(false),
            // what the cluster releases takes the place of another by itself: see `Followed`
            Some(run) if args.version.is_empty() || args.version == run.begin.version || args.by == CLUSTER => Err(Refusal::new(
                "already-running",
                format!("{} is running: roll it back or let it finish, or start another version with --version to supersede it", run.id),
            )),
            Some(_) => Ok(false),
        }
    }

    /// Rules in force move nothing in common; what a rollout began with may be in force no more.
    fn refuse_what_another_moves(&self, rule: &str) -> Result<(), Refusal> {
        let Some(rule) = self.rules.rules.get(rule) else { return Ok(()) };
        let mut running = self.running.values().filter(|run| !self.is_over(run));
        let both = running.find_map(|run| Some((run, overlap(rule, &run.rule)?)));
        both.map_or(Ok(()), |(run, what)| {
            let text = format!("{} still moves {what}: let it finish, or roll it back, and start again", run.id);
            Err(Refusal::new("route-taken", text))
        })
    }

    /// Decided, and not buried yet: its conductor may be in a tick.
    fn is_over(&self, run: &Running) -> bool {
        self.registry.rollout(&run.id).is_some_and(|view| view.state.is_over())
    }

    /// Supersedes the running rollout; the start waits until that is over.
    fn start_after(&mut self, rule: String, args: StartArgs, answer: oneshot::Sender<Result<RolloutId, Refusal>>) {
        let version = args.version.clone();
        if let Some(Err(busy)) = self.running.get(&rule).map(|run| self.supersede(run, version.clone())) {
            return drop(answer.send(Err(busy)));
        }
        if let Some((_, older)) = self.next.insert(rule, (args, answer)) {
            drop(older.send(Err(Refusal::new("superseded", format!("version {version} was started after this one")))));
        }
    }

    /// A driver that is gone reports itself over.
    fn supersede(&self, run: &Running, version: String) -> Result<(), Refusal> {
        mail::tell(&run.post, &run.id, Mail::Supersede { version }, &self.metrics)
    }

    pub(super) async fn prepare(&mut self, name: String, args: StartArgs, answer: oneshot::Sender<Result<RolloutId, Refusal>>) {
        let (Some(rule), Some(rule_text)) = (self.rules.rules.get(&name).cloned(), self.rules.texts.get(&name).cloned()) else {
            drop(answer.send(Err(Refusal::new("unknown-rule", format!("no rule is called {name:?} any more")))));
            return;
        };
        let router = match self.router(&rule).await {
            Ok(router) => router,
            Err(why) => return drop(answer.send(Err(Refusal::new("router", why)))),
        };
        self.preparing.insert(name.clone());
        let plan = Plan {
            rule,
            rule_text,
            args,
            router,
            store: Arc::clone(&self.store),
            makers: Arc::clone(&self.setting),
            cluster: self.cluster.clone(),
            templates: self.templates.clone(),
            scale: self.scale,
        };
        let news = self.news.0.clone();
        tokio::spawn(async move {
            let late = || Refusal::new("source", format!("the start was not prepared within {} s", start::TIMEOUT.as_secs()));
            let result = tokio::time::timeout(start::TIMEOUT, plan.prepare()).await.unwrap_or_else(|_| Err(late()));
            let _ = news.send(News::Prepared { rule: name, result: result.map(Box::new), answer }).await;
        });
    }

    /// One router per rule, kept between rollouts: `none` has nothing but its memory. After a restart that memory is the
    /// last rollout's end.
    pub(super) async fn router(&mut self, rule: &Rule) -> Result<Arc<dyn Router>, String> {
        if let Some((traffic, router)) = self.routers.get(&rule.name)
            && *traffic == rule.traffic
        {
            return Ok(Arc::clone(router));
        }
        let router = (self.setting.router)(rule)?;
        if rule.traffic == Traffic::None
            && let Some(canary) = self.last_promoted(&rule.name).await
        {
            let all = Desired { canary, weight: Weight::FULL, generation: 0 };
            router.write(all).await.map_err(|e| e.to_string())?;
        }
        self.routers.insert(rule.name.clone(), (rule.traffic.clone(), Arc::clone(&router)));
        Ok(router)
    }

    async fn last_promoted(&self, rule: &str) -> Option<Side> {
        let earlier = self.store.list(Some(rule), 100).await.ok()?;
        let last = earlier.iter().find(|l| l.state == State::Succeeded)?;
        let entries = self.store.load(&last.id).await.ok()?;
        entries.first().and_then(|e| match &e.event {
            crate::model::journal::Event::Opened(o) => Some(o.begin.canary),
            _ => None,
        })
    }

    pub(super) async fn hear(&mut self, news: News) {
        match news {
            News::Prepared { rule, result, answer } => {
                self.preparing.remove(&rule);
                match result {
                    Ok(prepared) => self.launch(*prepared, answer).await,
                    Err(refusal) => drop(answer.send(Err(refusal))),
                }
            }
            News::Followed { answer } => drop(answer.send(self.followed())),
            News::InForce { answer } => {
                let all = self.rules.rules.values().map(|rule| (Arc::clone(rule), self.running.contains_key(&rule.name)));
                drop(answer.send(all.collect()));
            }
            News::Router { rule, answer } => {
                let router = match self.rules.rules.get(&rule).cloned() {
                    Some(rule) => self.router(&rule).await,
                    None => Err(format!("no rule is called {rule:?} any more")),
                };
                drop(answer.send(router));
            }
            News::Start { rule, args, answer } => self.start(rule, args, answer).await,
            News::Supersede { rollout, version, answer } => {
                let run = self.running.values().find(|run| run.id == rollout);
                // the daemon stops: nobody needs the answer
                let _ = answer.send(run.is_none_or(|run| self.supersede(run, version).is_ok()));
            }
        }
    }

    fn followed(&self) -> Vec<Followed> {
        let in_force = self.rules.rules.values().filter(|rule| !self.running.contains_key(&rule.name));
        let idle = in_force.map(|rule| (rule, None));
        let all = idle.chain(self.running.values().map(|run| (&run.rule, Some(run))));
        let views = self.registry.views();
        all.filter(|(rule, _)| Cluster::covers(&rule.workloads)).map(|(rule, run)| self.followed_one(rule, run, &views)).collect()
    }

    fn followed_one(&self, rule: &Arc<Rule>, run: Option<&Running>, views: &Views) -> Followed {
        let now = |run: &Running| {
            let view = views.rollouts.get(&run.id)?;
            let (state, has_all) = (view.state.clone(), view.decision.weight.is_full());
            Some(RunningNow { id: run.id.clone(), begin: run.begin.clone(), state, has_all })
        };
        Followed {
            rule: Arc::clone(rule),
            on_trial: run.and_then(now),
            busy: self.preparing.contains(&rule.name) || self.next.contains_key(&rule.name),
            last: views.rules.get(&rule.name).and_then(|view| view.rollout.clone()),
        }
    }
}
