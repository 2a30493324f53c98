//! What a start notes of the cluster: what the rollout's actions will go back to, and what the release is called.

use super::Plan;
use crate::cluster::{Cluster, PAUSED};
use crate::model::rule::{AfterRollback, Promotion, Replicas, Rule, WorkloadForm};
use crate::model::{Noted, Side};
use crate::runtime::handle::Refusal;
use crate::runtime::releases;

/// What was noted; without a cluster nothing but the version as it was given.
#[derive(Debug, Default)]
pub(super) struct FromCluster {
    pub(super) version: String,
    pub(super) noted: Option<Noted>,
    pub(super) warnings: Vec<String>,
}

impl Plan {
    /// The step `note`. Without the right to look a rule that needs nothing of the cluster is led all the same.
    pub(super) async fn note(&self, canary: Side) -> Result<FromCluster, Refusal> {
        let workloads = &self.rule.workloads;
        let given = FromCluster { version: self.args.version.clone(), ..FromCluster::default() };
        let Some(cluster) = self.cluster.as_ref().filter(|_| Cluster::covers(workloads)) else { return Ok(given) };
        let earlier = self.templates.earlier(&self.rule, canary).await.map_err(|e| Refusal::new("journal", e.to_string()))?;
        let mut noted = match (cluster.note_after(workloads, canary, &earlier).await, needs(&self.rule)) {
            (Ok(noted), _) => noted,
            (Err(why), None) => {
                let warning = format!("the workloads cannot be looked at, and their replicas and pods are not watched: {why}");
                return Ok(FromCluster { warnings: vec![warning], ..given });
            }
            (Err(why), Some(what)) => {
                return Err(Refusal::new("cluster", format!("the workloads cannot be looked at, which {what} needs: {why}")));
            }
        };
        if self.rule.traffic.leads_rolling_update() {
            // that is how it is led
            noted.warnings.retain(|warning| !warning.ends_with(PAUSED));
        }
        if earlier.bad.contains(&noted.template) && !self.args.retry {
            return Err(self.rolled_back_before(workloads.name(canary)));
        }
        let mut warnings = noted.warnings.clone();
        if noted.template_before.is_none() && self.rule.after_rollback == AfterRollback::Undo {
            let name = workloads.name(canary);
            warnings
                .push(format!("no template is known that {name} had before: after a rollback it cannot be undone, and is left as it is"));
        }
        warnings.extend(too_small(&self.rule, &noted, workloads.name(canary)));
        Ok(FromCluster { version: self.version(cluster, canary), noted: Some(noted), warnings })
    }

    /// As it was given; or what the cluster calls it, also where it was called so in an earlier rollout.
    fn version(&self, cluster: &Cluster, canary: Side) -> String {
        let given = &self.args.version;
        let release = cluster.release(self.rule.workloads.side(canary)).ok().flatten();
        match release.filter(|_| given.is_empty() || releases::is_named_here(given)) {
            Some(release) => releases::named(&release),
            None => given.clone(),
        }
    }

    fn rolled_back_before(&self, name: &str) -> Refusal {
        let retry = format!("`canaryd retry {}` starts it again", self.rule.name);
        Refusal::new("rolled-back-before", format!("{name} has a pod template that was rolled back before: {retry}"))
    }
}

/// Of two that take turns the canary is soon all there is; and where others scale it, a step waits for no more than it asks for.
fn too_small(rule: &Rule, noted: &Noted, name: &str) -> Option<String> {
    let takes_turns = matches!(rule.promotion, Promotion::Swap { .. });
    let external = rule.replicas == Replicas::External && !rule.traffic.is_of_replicas();
    let (asked, there) = (noted.canary_wanted, noted.baseline_ready);
    (takes_turns && external && asked < there).then(|| {
        format!(
            "{name} asks for {asked} replicas, and {there} of the other version are ready: they are all that 100% of the traffic will \
             have, unless somebody scales it; replicas: follow does"
        )
    })
}

/// What of the rule cannot be without a look at the cluster, in its own words.
fn needs(rule: &Rule) -> Option<&'static str> {
    let swaps_idle = matches!(rule.promotion, Promotion::Swap { idle: Some(_), .. });
    let needed = [
        (rule.workloads.form == WorkloadForm::One, "workloads: one"),
        (rule.start.on_new_template, "start: when: new-template"),
        (rule.replicas == Replicas::Follow, "replicas: follow"),
        (rule.after_rollback != AfterRollback::Leave, "after-rollback"),
        (rule.pod_health.is_some(), "pod-health"),
        (!rule.shares.is_empty(), "a limit that is a share of requests or limits"),
        (rule.promotion == Promotion::Copy, "promotion: copy"),
        (swaps_idle, "idle-replicas"),
    ];
    needed.into_iter().find_map(|(needed, what)| needed.then_some(what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rule::{PodHealth, Start};
    use crate::runtime::parts::tests::rule;

    #[test]
    fn what_needs_the_cluster_is_named() {
        assert_eq!(needs(&rule()), None);
        assert_eq!(needs(&Rule { replicas: Replicas::Follow, ..rule() }), Some("replicas: follow"));
        assert_eq!(needs(&Rule { pod_health: Some(PodHealth::default()), ..rule() }), Some("pod-health"));
        let start = Start { on_new_template: true, ..Start::default() };
        assert_eq!(needs(&Rule { start, ..rule() }), Some("start: when: new-template"));
    }

    #[test]
    fn a_canary_that_others_leave_too_small_is_told_at_its_start() {
        let swap = Rule { promotion: Promotion::Swap { keep: std::time::Duration::ZERO, idle: None }, ..rule() };
        let noted = |asked, there| Noted { canary_wanted: asked, baseline_ready: there, ..Noted::default() };
        let said = too_small(&swap, &noted(1, 4), "shop-v2").unwrap_or_default();
        assert!(said.starts_with("shop-v2 asks for 1 replicas, and 4 of the other version are ready"), "{said}");
        assert_eq!(too_small(&swap, &noted(4, 4), "shop-v2"), None);
        assert_eq!(too_small(&Rule { replicas: Replicas::Follow, ..swap.clone() }, &noted(1, 4), "shop-v2"), None, "canaryd does");
        assert_eq!(too_small(&Rule { promotion: Promotion::Copy, ..swap }, &noted(1, 4), "shop-v2"), None, "stable carries it again");
    }
}
