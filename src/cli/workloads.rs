//! What the cluster shows of one rule's workloads right now, and what canaryd may not do there: lines of `check --live`.

use crate::app;
use crate::cluster::rights::{self, Right};
use crate::cluster::{self, Cluster, resources};
use crate::config::Settings;
use crate::model::rule::Promotion;
use crate::model::{Arm, Noted, PerArm, Rule, Side};
use crate::runtime::parts;
use crate::telemetry::{Metrics, words};
use kube::Client;
use tokio_util::sync::CancellationToken;

/// Nothing is changed, and nothing is watched.
pub(super) async fn look(client: &Client, (rule, canary): (&Rule, Side), shown: bool, notes: &mut Vec<String>) {
    if Cluster::covers(&rule.workloads) {
        let sides = PerArm { baseline: canary.other(), canary };
        for arm in Arm::BOTH {
            notes.push(format!("{}: {}", arm.name(), cluster::standing(client, rule.workloads.side(sides[arm])).await));
        }
        let asked = Cluster::new(client.clone(), Metrics::new(), CancellationToken::new());
        match asked.note(&rule.workloads, canary).await {
            Ok(noted) => notes.extend(noted_lines(rule, noted)),
            Err(why) => notes.push(format!("cluster: {why}")),
        }
    }
    notes.extend(lines(rights::missing(client, rule, shown).await));
}

fn lines(missing: Result<Vec<Right>, String>) -> Vec<String> {
    let said = missing.map(|missing| missing.iter().map(|right| format!("cluster: {right}")).collect());
    said.unwrap_or_else(|why| vec![format!("cluster: {why}")])
}

/// What the daemon of these settings lacks in the cluster, whatever its rules are; nothing where there is none.
pub(super) async fn of_daemon(settings: &Settings) -> Vec<String> {
    // a cluster that cannot be used is told of each rule
    let Ok(Some(client)) = app::cluster(settings).await else { return Vec::new() };
    let lease = settings.cluster.leader_election.as_ref().map(|lease| (lease.namespace.as_deref(), lease.lease.as_str()));
    let shown = settings.cluster.resources.is_some();
    let mut notes = lines(rights::missing_of_daemon(&client, lease, shown).await);
    if shown && resources::are_served(&client).await == Ok(false) {
        let way_out = "`canaryd crds | kubectl apply --server-side --force-conflicts -f -`, or cluster: { resources: false }";
        notes.push(format!("cluster: does not serve CanaryRule and CanaryRollout, and nothing is read or shown there: {way_out}"));
    }
    notes
}

fn noted_lines(rule: &Rule, noted: Noted) -> Vec<String> {
    let floors = PerArm { baseline: noted.baseline_floor, canary: noted.canary_floor };
    let floor = |arm: Arm| Some(format!("{}: an autoscaler keeps at least {} replicas", arm.name(), floors[arm]?));
    let mut lines: Vec<String> = Arm::BOTH.into_iter().filter_map(floor).collect();
    lines.extend(Arm::BOTH.into_iter().filter_map(|arm| not_idle(rule, arm, floors[arm]?)));
    lines.extend(shares(rule, &noted));
    lines.extend(parts::unsaid(rule, Some(&noted)).into_iter().map(|why| format!("no rollout begins: {why}")));
    lines.extend(noted.warnings.into_iter().map(|why| format!("cluster: {why}")));
    lines
}

/// Idle replicas that an autoscaler takes back.
fn not_idle(rule: &Rule, arm: Arm, floor: u32) -> Option<String> {
    let Promotion::Swap { idle: Some(idle @ 1..), .. } = rule.promotion else { return None };
    let way_out = "write 0, which an autoscaler leaves alone, or lower its minReplicas";
    (floor > idle).then(|| format!("{}: idle-replicas: {idle} is not carried out while an autoscaler keeps {floor}: {way_out}", arm.name()))
}

/// Limits that are shares, as they would be in a rollout that begins now.
fn shares(rule: &Rule, noted: &Noted) -> Vec<String> {
    let now = parts::in_units(rule, Some(noted));
    let lines = rule.metrics.iter().zip(&now.metrics).filter(|(metric, _)| rule.shares.contains_key(&metric.name));
    let line = |(metric, now): (&crate::model::MetricSpec, &crate::model::MetricSpec)| {
        let (written, is) = (metric.limits.levels(), now.limits.levels());
        let said = written.into_iter().zip(is).filter_map(|((kind, share), (_, level))| {
            Some(format!("{} {} is {}", kind.name(), words::percent(share?), words::value(metric.kind, level?)))
        });
        let said: Vec<String> = said.collect();
        (!said.is_empty()).then(|| format!("{}: {}", metric.name, said.join(", ")))
    };
    lines.filter_map(line).collect()
}
