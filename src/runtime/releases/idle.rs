//! What was the baseline before a swap gets its idle replicas when its time has come (DESIGN 6.2): written down in the cluster by the
//! rollout that is over, and looked for here from time to time.

use super::ask_idle;
use crate::cluster::{Cluster, actions};
use crate::model::Side;
use crate::model::rule::{Promotion, Rule, Target};
use crate::runtime::clock;
use crate::runtime::supervisor::{Followed, News};
use crate::telemetry::events;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Looks at the workloads of every rule that may have such a wish.
pub(super) async fn sweep(cluster: Cluster, news: mpsc::Sender<News>, all: Vec<Followed>) {
    let wishes = |f: &&Followed| matches!(f.rule.promotion, Promotion::Swap { idle: Some(_), .. });
    for followed in all.iter().filter(wishes) {
        let rule = &followed.rule;
        let is_busy = followed.busy || followed.on_trial.is_some();
        let carries = |target: &Target| carries_traffic(Arc::clone(rule), target.clone(), is_busy, news.clone());
        for idled in actions::idle_due(&cluster.client(), &rule.workloads.sides, clock::now(), carries).await {
            let outcome = idled.outcome.as_ref().map(|n| *n).map_err(String::as_str);
            events::WorkloadIdled { rule: &rule.name, workload: &idled.what, outcome }.emit();
        }
    }
}

/// `None`: nobody can tell now.
async fn carries_traffic(rule: Arc<Rule>, target: Target, is_busy: bool, news: mpsc::Sender<News>) -> Option<bool> {
    if is_busy {
        return Some(true);
    }
    let side = [Side::First, Side::Second].into_iter().find(|side| *rule.workloads.side(*side) == target)?;
    let idle = ask_idle(&rule, &news).await.ok()?;
    Some(side != idle)
}
