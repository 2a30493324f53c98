//! What only a cluster can carry out: taken where there is one, told where there is none, and what does not go together.

use super::*;
use crate::model::rule::{AfterRollback, PodHealth, Replicas, RouteKind, ShareOf};

const MOVED: &str = "rule: shop\nworkloads: { namespace: prod, pair: [ { deployment: a, subset: v1 }, { deployment: b, subset: v2 } ] }\n\
                     telemetry: [ envoy ]\ntraffic: { istio: { virtual-service: shop } }\nsteps: [ { weight: 100%, bake: 1m } ]\n\
                     metrics: { error-rate: {} }\n";
const FIXED: &str = "workloads: { namespace: prod, stable: { deployment: a, subset: v1 }, canary: { deployment: b, subset: v2 } }";
const LED: &str = "workloads: { namespace: prod, one: { deployment: a } }\ntraffic: rolling-update";
const ONE: &str = "workloads: { namespace: prod, one: { deployment: a } }\ntraffic: none";

/// The rule moved in a cluster, with these lines instead of its own of the same keys, and where there is none.
fn read(lines: &str, cluster: bool) -> Result<Rule, String> {
    let written: Vec<&str> = lines.lines().filter_map(|line| line.split(':').next()).collect();
    let kept = MOVED.lines().filter(|line| !written.iter().any(|key| line.starts_with(&format!("{key}:"))));
    let text: Vec<&str> = kept.chain(lines.lines()).collect();
    let known = Known { cluster, ..known() };
    parse_rule(&text.join("\n"), Path::new("shop.yaml"), &known).map_err(|report| report.to_string())
}

fn shop(lines: &str) -> Rule {
    let rule = read(lines, true).unwrap_or_else(|report| panic!("{report}\n{lines}"));
    assert_eq!(rule.not_run, [], "{lines}");
    rule
}

fn refused(lines: &str) -> String {
    read(lines, true).err().unwrap_or_else(|| panic!("{lines} is taken"))
}

#[test]
fn where_there_is_a_cluster_every_key_is_taken() {
    let plain = shop("");
    assert_eq!((plain.replicas, plain.after_rollback, plain.pod_health), (Replicas::External, AfterRollback::Leave, None));
    assert!(plain.shares.is_empty() && !plain.start.on_new_template);
    assert_eq!(shop("replicas: follow").replicas, Replicas::Follow);
    assert_eq!(shop("replicas: external").replicas, Replicas::External);
    for (word, after) in [("leave", AfterRollback::Leave), ("undo", AfterRollback::Undo), ("scale-down", AfterRollback::ScaleDown)] {
        assert_eq!(shop(&format!("after-rollback: {word}")).after_rollback, after);
    }
    assert!(shop("start: { when: new-template }").start.on_new_template);
    let swap = |text: &str| shop(&format!("promotion: {{ swap: {{ {text} }} }}")).promotion;
    assert_eq!(swap("keep: 1h"), Promotion::Swap { keep: minutes(60), idle: None });
    assert_eq!(swap("idle-replicas: 0"), Promotion::Swap { keep: minutes(24 * 60), idle: Some(0) });
    assert_eq!(swap("keep: 1h, idle-replicas: 2"), Promotion::Swap { keep: minutes(60), idle: Some(2) });
    assert_eq!(shop(FIXED).promotion, Promotion::Copy, "the default of stable and canary");
    assert_eq!(shop(&format!("{FIXED}\npromotion: copy")).promotion, Promotion::Copy);
    assert_eq!(shop(&format!("{ONE}\nafter-rollback: undo")).after_rollback, AfterRollback::Undo);
    let one = shop(ONE);
    assert_eq!((one.workloads.form, one.promotion), (WorkloadForm::One, Promotion::Leave));
    let sets = one.workloads.sides.map(|side| side.fields["replicaset"].clone());
    assert_eq!(sets, ["old", "new"], "its arms are its old and its new ReplicaSet");
    let led = shop(LED);
    assert_eq!((led.promotion, led.after_rollback), (Promotion::Leave, AfterRollback::Undo), "undoing it takes the traffic back");
    let Traffic::Kubernetes(route) = &led.traffic else { panic!("{:?}", led.traffic) };
    assert_eq!((route.namespace.as_str(), route.name.as_str(), &route.kind), ("prod", "a", &RouteKind::RollingUpdate));
    assert_eq!(shop(&format!("{LED}\nafter-rollback: undo")).after_rollback, AfterRollback::Undo);
}

#[test]
fn signs_of_pods_are_those_named() {
    let health = |signs: &str| shop(&format!("metrics: {{ error-rate: {{}}, pod-health: {{ rollback-on: {signs} }} }}")).pod_health;
    let one = PodHealth { crash_loop: true, ..PodHealth::default() };
    assert_eq!(health("[ crash-loop ]"), Some(one));
    let all = PodHealth { crash_loop: true, image_pull: true, oom_killed: true, failed_probes: Some(3), never_ready: true };
    assert_eq!(health("[ oom-killed, { failed-probes: 3 }, image-pull, never-ready, crash-loop ]"), Some(all));
    let told = |signs: &str| refused(&format!("metrics: {{ error-rate: {{}}, pod-health: {signs} }}"));
    for (signs, said) in [
        ("{}", "metrics.pod-health.rollback-on: is missing: write at least one, such as rollback-on: [ crash-loop, oom-killed"),
        ("{ rollback-on: [] }", "metrics.pod-health.rollback-on: names no sign"),
        ("{ rollback-on: [ crash-loop, crash-loop ] }", "rollback-on[1]: stands here twice: keep one of them"),
        ("{ rollback-on: [ { failed-probes: 3 }, { failed-probes: 5 } ] }", "rollback-on[1]: stands here twice"),
        ("{ rollback-on: [ failed-probes ] }", "\"failed-probes\" is not known here"),
        ("{ rollback-on: [ { failed-probes: 0 } ] }", "0 is not a whole number from 1 to 1000"),
        ("{ rollback-on: [ crash-lop ] }", "did you mean \"crash-loop\"?"),
    ] {
        assert!(told(signs).contains(said), "{signs}: {}", told(signs));
    }
    let alone = refused("metrics: { pod-health: { rollback-on: [ crash-loop ] } }");
    assert!(alone.contains("metrics: names no metric to compare or to limit"), "{alone}");
}

#[test]
fn limits_are_shares_of_what_a_pod_asks_for_or_may_use() {
    let rule = shop("metrics: { cpu: { of: requests, rollback-above: 150% }, memory: { of: limits, warn-above: 80%, page-above: 100% } }");
    assert_eq!(rule.shares, [("cpu".to_owned(), ShareOf::Requests), ("memory".to_owned(), ShareOf::Limits)].into());
    assert_eq!((rule.metrics[0].limits.rollback_above, rule.metrics[1].limits.page_above), (Some(1.5), Some(1.0)));
    for (metric, said) in [
        (
            "cpu: { of: requests }",
            "metrics.cpu.of: means nothing without a limit: add a limit such as rollback-above: 90%, or leave it out",
        ),
        ("memory: { of: limits, warn-above: 101% }", "101% is no limit: write a share above 0% and at most 100%"),
        ("cpu: { of: requests, warn-above: 1001% }", "1001% is no limit: write a share above 0% and at most 1000%"),
        ("cpu: { of: limits, warn-above: 1.5 }", "1.5 is not a percentage"),
        ("cpu: { warn-above: 70% }", "70% of what?"),
    ] {
        let told = refused(&format!("metrics: {{ {metric} }}"));
        assert!(told.contains(said), "{metric}: {told}");
    }
}

#[test]
fn without_a_cluster_each_part_says_so_with_the_way_out() {
    let none = |lines: &str| {
        let rule = read(lines, false).unwrap_or_else(|report| panic!("{report}\n{lines}"));
        rule.not_run.into_iter().map(|part| (part.path, part.why)).collect::<Vec<_>>()
    };
    let plain = none("");
    assert_eq!(plain.len(), 1, "{plain:?}");
    let (path, why) = &plain[0];
    assert_eq!(path, "traffic.istio");
    assert_eq!(
        why,
        "there is no cluster, and router istio needs one: name one in the settings (cluster: { kubeconfig: ... }), or run as a pod of it that has its service account's token; \
         else name what moves the traffic outside of one, or write traffic: none"
    );
    let envoy = "traffic: { envoy: { admin: 'http://e:1', clusters: [ a, b ], runtime-keys: { prefix: p } } }\n";
    for (lines, path, otherwise) in [
        ("promotion: { swap: { keep: 1h, idle-replicas: 1 } }", "promotion.swap.idle-replicas", "leave it out: the old version keeps its"),
        ("replicas: follow", "replicas", "leave it out: capacity is yours to keep"),
        ("after-rollback: undo", "after-rollback", "leave it out: the canary stays as it is"),
        ("start: { when: new-template }", "start.when", "write when: manual"),
        ("metrics: { error-rate: {}, pod-health: { rollback-on: [ crash-loop ] } }", "metrics.pod-health", "leave it out"),
        ("metrics: { cpu: { of: requests, warn-above: 70% } }", "metrics.cpu.of", "write limits as cores or sizes"),
        (FIXED, "workloads", "write promotion: external"),
    ] {
        let parts = none(&format!("{envoy}{lines}"));
        assert_eq!(parts.len(), 1, "{lines}: {parts:?}");
        assert_eq!(parts[0].0, path);
        let end = parts[0].1.rsplit_once("; else ").map(|(_, end)| end).unwrap_or_default();
        assert!(end.starts_with(otherwise), "{lines}: {}", parts[0].1);
    }
    assert_eq!(none(ONE)[0].0, "workloads.one");
    assert_eq!(none(&format!("{envoy}promotion: {{ swap: {{ keep: 1h }} }}\nreplicas: external\nafter-rollback: leave")), []);
    let same = Rule { not_run: Vec::new(), ..read("after-rollback: undo\nreplicas: follow", false).unwrap() };
    assert_eq!(same, shop("after-rollback: undo\nreplicas: follow"), "an old journal is led by the same rule wherever it is read");
}

#[test]
fn workloads_must_be_deployments_that_can_be_asked_for() {
    let at = |workloads: &str, lines: &str| refused(&format!("workloads: {{ {workloads} }}\n{lines}"));
    let bare = at(
        "pair: [ { subset: v1 }, { subset: v2 } ]",
        "traffic: none\nmetrics: { cpu: { of: requests, warn-above: 70% } }\nstart: { when: new-template }",
    );
    assert_eq!(
        bare,
        "shop.yaml:6: metrics.cpu.of: what a pod asks for or may use needs the Deployment of each workload: name its deployment: and its \
         namespace: under workloads, or write limits as cores or sizes\n\
         shop.yaml:7: start.when: starting at a new template needs the Deployment of each workload: name its deployment: and its namespace: \
         under workloads, or write when: manual and start rollouts by CLI or API"
    );
    let elsewhere = "pair: [ { deployment: a, namespace: x }, { deployment: b } ]";
    let told = at(elsewhere, "traffic: none\nstart: { when: new-template }");
    assert!(told.contains("needs the Deployment of each workload"), "b has no namespace: {told}");
    let twice = at("namespace: prod, pair: [ { deployment: a, subset: v1 }, { deployment: a, subset: v2 } ]", "replicas: follow");
    assert!(twice.contains("workloads: both are Deployment prod/a: name two Deployments, or one:"), "{twice}");
    let slash = at("namespace: prod, pair: [ { deployment: a/scale, subset: v1 }, { deployment: b, subset: v2 } ]", "replicas: follow");
    assert!(slash.contains("workloads: \"a/scale\" is no name of a deployment"), "{slash}");
    assert!(read("workloads: { pair: [ { subset: v1 }, { subset: v2 } ] }\ntraffic: none", true).is_ok(), "nothing asks for them");
}

#[test]
fn what_does_not_go_together_is_told_all_at_once() {
    for (lines, said) in [
        (format!("{ONE}\npromotion: swap"), "promotion: one Deployment has nothing to promote"),
        (format!("{ONE}\nreplicas: follow"), "replicas: a rolling update keeps the replicas itself"),
        (format!("{ONE}\nafter-rollback: scale-down"), "after-rollback: would scale down what carries the traffic"),
        (
            "workloads: { namespace: prod, one: { deployment: a } }\ntraffic: { istio: { virtual-service: s, subsets: [ a, b ] } }"
                .to_owned(),
            "traffic: one Deployment has no two workloads to weigh",
        ),
        (format!("{LED}\nafter-rollback: leave"), "after-rollback: the traffic of a rolling update is taken back by undoing it: leave"),
        (
            format!("{LED}\nafter-rollback: scale-down"),
            "after-rollback: the traffic of a rolling update is taken back by undoing it: leave",
        ),
        (format!("{LED}\nsteps: [ {{ weight: 0%, for: 1m }}, {{ weight: 50%, for: 1m }} ]"), "steps: a step of 0% would undo the rolling"),
        ("traffic: rolling-update".to_owned(), "traffic: a rolling update is of one Deployment: name it with workloads: { one:"),
        (format!("{FIXED}\ntraffic: rolling-update"), "traffic: a rolling update is of one Deployment"),
        (LED.replace("rolling-update", "{ rolling-update: { deployment: a } }"), "has no settings: write traffic: rolling-update"),
        ("promotion: copy".to_owned(), "promotion: a pair takes turns, nothing is copied"),
        (format!("{FIXED}\npromotion: {{ swap: {{ idle-replicas: 1 }} }}"), "promotion: idle-replicas would scale what is always stable"),
        ("traffic: none\nreplicas: follow".to_owned(), "replicas: traffic: none only tells, and scales nothing"),
        ("traffic: none\nafter-rollback: undo".to_owned(), "after-rollback: traffic: none only tells, and undoes nothing"),
        (format!("{FIXED}\ntraffic: none"), "workloads: traffic: none only tells, and copies nothing: write promotion: external or leave"),
        ("traffic: { replicas: { service: s } }\nreplicas: follow".to_owned(), "replicas: the share of the traffic is made of replicas"),
        (format!("{FIXED}\ntraffic: {{ replicas: {{ service: s }} }}"), "workloads: replicas of stable would take traffic"),
    ] {
        let told = refused(&lines);
        assert!(told.contains(said), "{lines}: {told}");
    }
    let all = refused(&format!("{ONE}\npromotion: swap\nreplicas: follow\nafter-rollback: scale-down"));
    assert!(all.lines().count() >= 3, "{all}");
    shop("after-rollback: undo\ntraffic: { service: { name: s, selector: { version: [ a, b ] } } }");
}

#[test]
fn a_gauge_of_which_less_is_worse_has_its_limits_below() {
    let depth = |more: &str| format!("metrics: {{ hits: {{ query: 'h{{{{{{workload}}}}}}', lower-is-worse: true, {more} }} }}");
    let limits = shop(&depth("promote-above: 90, warn-below: 80, rollback-below: 50, page-below: 40")).metrics[0].limits;
    assert_eq!((limits.promote_below, limits.warn_above), (Some(90.0), Some(80.0)));
    assert_eq!((limits.rollback_above, limits.page_above), (Some(50.0), Some(40.0)));
    let above = refused(&depth("rollback-above: 50"));
    assert!(above.contains("metrics.hits.rollback-above: no such key"), "{above}");
    let order = refused(&depth("warn-below: 50, rollback-below: 80"));
    assert!(
        order.contains("rollback-below: 80 is above the 50 of warn-below: keep promote-above >= warn-below >= rollback-below"),
        "{order}"
    );
}
