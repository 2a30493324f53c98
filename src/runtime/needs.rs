//! Is there what a rule needs: its workloads, and the object its weights are in? An operator is told as soon as the rule is in force, and
//! not only when a release comes. Looks, and changes nothing; a rollout that runs tells its own troubles.

use super::registry::Registry;
use super::supervisor::News;
use crate::cluster::{ABSENT, Cluster};
use crate::model::rule::{Traffic, WorkloadForm};
use crate::model::{Rule, Side};
use crate::router::Router;
use crate::telemetry::{Metrics, events};
use futures_util::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// What comes together is looked at together.
const TOGETHER: Duration = Duration::from_secs(1);
/// How often it looks without being told, and how often at a route with which something is wrong: nothing watches it.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How often at one that was good: when a release comes, it is read in any case.
const ROUTE_AGAIN: Duration = Duration::from_secs(300);
/// Longest wait for a route.
const READ_MAX: Duration = Duration::from_secs(10);
/// Routes that are read at once, when a whole fleet of rules comes into force.
const READS_AT_ONCE: usize = 16;

/// What the task is made of.
pub(super) struct Parts {
    pub(super) cluster: Cluster,
    pub(super) news: mpsc::Sender<News>,
    pub(super) registry: Registry,
    pub(super) metrics: Metrics,
    /// The rules are others.
    pub(super) poke: Arc<Notify>,
    pub(super) shutdown: CancellationToken,
}

/// The task.
pub(super) struct Needs {
    parts: Parts,
    /// What was found of routes, by rule.
    routes: BTreeMap<String, Asked>,
    /// What was told last, by rule.
    told: BTreeMap<String, Vec<String>>,
}

/// What a route's reading brought.
struct Asked {
    traffic: Traffic,
    at: Instant,
    missing: Option<String>,
}

/// A rule in force, and whether a rollout of it runs.
pub(super) type InForce = (Arc<Rule>, bool);

impl Needs {
    pub(super) fn new(parts: Parts) -> Self {
        Self { parts, routes: BTreeMap::new(), told: BTreeMap::new() }
    }

    /// Until shutdown.
    pub(super) async fn run(mut self) {
        let mut changed = self.parts.cluster.changed();
        loop {
            self.look().await;
            tokio::select! {
                () = self.parts.shutdown.cancelled() => return,
                () = self.parts.poke.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
                change = changed.changed() => {
                    if change.is_err() {
                        return;
                    }
                    tokio::time::sleep(TOGETHER).await;
                    changed.mark_unchanged();
                }
            }
        }
    }

    async fn look(&mut self) {
        let (answer, got) = oneshot::channel();
        let _ = self.parts.news.send(News::InForce { answer }).await;
        // nothing when the daemon stops
        let Ok(all) = got.await else { return };
        let there: BTreeSet<&str> = all.iter().map(|(rule, _)| rule.name.as_str()).collect();
        self.routes.retain(|name, _| there.contains(name.as_str()));
        self.told.retain(|name, _| there.contains(name.as_str()));
        // what the watches know is told at once: a route that hangs shall not delay it
        self.tell(&all);
        self.read_routes(&all).await;
        self.tell(&all);
    }

    async fn read_routes(&mut self, all: &[InForce]) {
        let due: Vec<&Arc<Rule>> = all.iter().filter(|(rule, runs)| !runs && self.is_due(rule)).map(|(rule, _)| rule).collect();
        for some in due.chunks(READS_AT_ONCE) {
            let read = join_all(some.iter().map(|rule| read_route(rule, &self.parts.news))).await;
            for (rule, missing) in some.iter().zip(read) {
                self.routes.insert(rule.name.clone(), Asked { traffic: rule.traffic.clone(), at: Instant::now(), missing });
            }
        }
    }

    fn is_due(&self, rule: &Rule) -> bool {
        let again = |asked: &Asked| if asked.missing.is_some() { LOOK_EVERY } else { ROUTE_AGAIN };
        let fresh = |asked: &&Asked| asked.traffic == rule.traffic && asked.at.elapsed() < again(asked);
        matches!(rule.traffic, Traffic::Kubernetes(_)) && self.routes.get(&rule.name).filter(fresh).is_none()
    }

    /// Those of which it is known by now.
    fn tell(&mut self, all: &[InForce]) {
        let found: Vec<(String, Vec<String>)> =
            all.iter().filter_map(|(rule, runs)| Some((rule.name.clone(), self.missing(rule, *runs)?))).collect();
        let news: Vec<(String, Vec<String>)> = found.into_iter().filter(|(rule, missing)| self.told.get(rule) != Some(missing)).collect();
        for (rule, missing) in &news {
            let before = self.told.insert(rule.clone(), missing.clone());
            events::RuleMisses { rule, missing, before: before.as_deref().unwrap_or_default() }.emit(&self.parts.metrics);
        }
        self.parts.registry.set_missing(news);
    }

    /// A sentence each; `None` = it was not looked at yet.
    fn missing(&self, rule: &Rule, runs: bool) -> Option<Vec<String>> {
        let sides: &[Side] = if rule.workloads.form == WorkloadForm::One { &[Side::Second] } else { &[Side::First, Side::Second] };
        let mut missing = Vec::new();
        for target in sides.iter().map(|side| rule.workloads.side(*side)).filter(|_| Cluster::covers(&rule.workloads)) {
            let field = |name: &str| target.fields.get(name).map_or("?", String::as_str);
            match self.parts.cluster.release(target) {
                Ok(Some(_)) => {}
                Ok(None) => missing.push(format!("Deployment {}/{}: {}", field("namespace"), field("deployment"), ABSENT)),
                Err(why) if why.ends_with(NOT_LOOKED_YET) => return None,
                Err(why) => missing.push(why),
            }
        }
        if matches!(rule.traffic, Traffic::Kubernetes(_)) && !runs {
            let asked = self.routes.get(&rule.name).filter(|asked| asked.traffic == rule.traffic);
            // of what is missing at once nothing need wait
            match asked {
                None if missing.is_empty() => return None,
                None => {}
                Some(asked) => missing.extend(asked.missing.clone().filter(|why| !missing.contains(why))),
            }
        }
        Some(missing)
    }
}

/// The end of what the cluster says of a namespace whose first list is under way.
const NOT_LOOKED_YET: &str = "not looked yet";

/// Why the traffic cannot be read; `None` = it can.
async fn read_route(rule: &Rule, news: &mpsc::Sender<News>) -> Option<String> {
    let (answer, got) = oneshot::channel();
    // an error means that the daemon stops
    let _ = news.send(News::Router { rule: rule.name.clone(), answer }).await;
    let router: Arc<dyn Router> = match got.await {
        Ok(Ok(router)) => router,
        Ok(Err(why)) => return Some(why),
        Err(_) => return None,
    };
    match tokio::time::timeout(READ_MAX, router.read(Side::Second)).await {
        Ok(Ok(_)) => None,
        Ok(Err(why)) => Some(why.to_string()),
        Err(_) => Some(format!("{}: no answer within {} s", router.name(), READ_MAX.as_secs())),
    }
}
