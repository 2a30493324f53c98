//! Which arm somebody else's alert names, from its labels alone (DESIGN 8).

use crate::model::rule::{Rule, Target};
use crate::model::{Arm, Begin, Side};
use std::collections::BTreeMap;

/// Labels of an alert.
type Labels = BTreeMap<String, String>;

/// What an alert has to do with a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// Our own, or not selected by the rule.
    NotOurs,
    /// The service as a whole, or both arms.
    Service,
    /// One arm, and not the other.
    Names(Arm),
}

/// Labels that carry a field of a workload, besides the one of its own name: what Istio, Envoy and HAProxy call it.
const CALLED: &[(&str, &[&str])] = &[
    ("namespace", &["destination_workload_namespace", "destination_service_namespace"]),
    ("deployment", &["workload", "destination_workload"]),
    ("service", &["destination_service_name"]),
    ("version", &["destination_version"]),
    ("cluster", &["envoy_cluster_name"]),
    ("backend", &["proxy"]),
];
/// Fields that tell two versions of one service apart, and say nothing about whose they are.
const SHARED_WORDS: &[&str] = &["namespace", "port", "version", "subset", "service"];
/// Letters of a pod's name after the Deployment's: of the template's hash, and of the last part (PACKS 4).
const HASH: &str = "456789bcdf";
const SUFFIX: &str = "bcdfghjklmnpqrstvwxz2456789";

/// How an alert with these labels relates to a rollout of `rule` that began so. Ours (`generator="canaryd"`) are never taken.
/// It must be selected: by one of the rule's `alerts`, or, without any, by naming a workload (in its namespace, where the rule
/// gives one) or the service in its namespace. It names an arm if a label has that side's value of a field in which the sides
/// differ, `pod` is a pod of that side's Deployment alone, `version` is the version on trial, or `canaryd_arm` says so; what
/// names neither arm, or both, is about the service.
pub fn relate(labels: &Labels, rule: &Rule, begin: &Begin) -> Relation {
    if labels.get("generator").is_some_and(|g| g == "canaryd") || !is_selected(labels, rule) {
        return Relation::NotOurs;
    }
    match labels.get("canaryd_arm").map(String::as_str) {
        Some("canary") => return Relation::Names(Arm::Canary),
        Some("baseline") => return Relation::Names(Arm::Baseline),
        _ => {}
    }
    let canary = names_side(labels, rule, begin.canary) || names_version(labels, &begin.version);
    match (canary, names_side(labels, rule, begin.canary.other())) {
        (true, false) => Relation::Names(Arm::Canary),
        (false, true) => Relation::Names(Arm::Baseline),
        _ => Relation::Service,
    }
}

fn is_selected(labels: &Labels, rule: &Rule) -> bool {
    if rule.alerts.is_empty() {
        return rule.workloads.sides.iter().any(|side| is_about(labels, side));
    }
    rule.alerts.iter().any(|m| m.labels.iter().all(|(name, value)| labels.get(name) == Some(value)))
}

/// Does it name this workload, or its service in its namespace?
fn is_about(labels: &Labels, side: &Target) -> bool {
    let own = side.fields.iter().any(|(field, value)| !SHARED_WORDS.contains(&field.as_str()) && carries(labels, field, value));
    let service = side.fields.get("service").is_some_and(|s| carries(labels, "service", s));
    let namespace = side.fields.get("namespace").is_none_or(|ns| carries(labels, "namespace", ns));
    namespace && (own || service || is_pod_of(labels, side))
}

/// Does it name this side and, by the same label, not the other?
fn names_side(labels: &Labels, rule: &Rule, side: Side) -> bool {
    let (this, that) = (rule.workloads.side(side), rule.workloads.side(side.other()));
    if elsewhere(labels, this) {
        return false;
    }
    let tells = |(field, value): (&String, &String)| that.fields.get(field) != Some(value) && carries(labels, field, value);
    let by_field = this.fields.iter().filter(|(field, _)| *field != "namespace").any(tells);
    let by_pod = is_pod_of(labels, this) && (!is_pod_of(labels, that) || elsewhere(labels, that));
    // two workloads of one name in two namespaces: the namespace tells them apart once something else says that it is one of them
    let by_namespace = elsewhere(labels, that) && is_about(labels, this);
    by_field || by_pod || by_namespace
}

/// Its namespace is another than this workload's.
fn elsewhere(labels: &Labels, side: &Target) -> bool {
    side.fields.get("namespace").is_some_and(|ns| label_of(labels, "namespace").next().is_some() && !carries(labels, "namespace", ns))
}

fn names_version(labels: &Labels, version: &str) -> bool {
    !version.is_empty() && carries(labels, "version", version)
}

/// Has a label of this field this value?
fn carries(labels: &Labels, field: &str, value: &str) -> bool {
    label_of(labels, field).any(|v| v == value)
}

/// Values of the labels that carry a field. A scrape that keeps its own labels renames the metric's to `exported_*`, and then
/// the plain one is about the exporter (PACKS 1.5).
fn label_of<'a>(labels: &'a Labels, field: &'a str) -> impl Iterator<Item = &'a str> {
    let more = CALLED.iter().find(|(f, _)| *f == field).map_or(&[][..], |(_, names)| *names);
    let names = std::iter::once(field).chain(more.iter().copied());
    names.filter_map(|name| labels.get(&format!("exported_{name}")).or_else(|| labels.get(name))).map(String::as_str)
}

/// `NAME-[4-9bcdf]{1,10}-[suffix]{5}`: a looser form would take the pod of `chatbot-backup` for one of `chatbot`.
fn is_pod_of(labels: &Labels, side: &Target) -> bool {
    let Some(deployment) = side.fields.get("deployment") else { return false };
    label_of(labels, "pod").any(|pod| pod.strip_prefix(deployment.as_str()).is_some_and(is_pod_ending))
}

fn is_pod_ending(rest: &str) -> bool {
    let mut parts = rest.split('-');
    let all = |part: &str, of: &str| part.chars().all(|c| of.contains(c));
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(""), Some(hash), Some(last), None) => {
            (1..=10).contains(&hash.len()) && all(hash, HASH) && last.len() == 5 && all(last, SUFFIX)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rule::AlertMatch;

    fn labels(text: &str) -> Labels {
        let pair = |p: &str| p.trim().split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
        text.split(',').filter_map(pair).collect()
    }

    fn rule(first: &str, second: &str, alerts: &[&str]) -> Rule {
        let mut rule = super::super::tests::rule("5% 1m");
        rule.workloads.sides = [first, second].map(|fields| Target { fields: labels(fields) });
        rule.alerts = alerts.iter().map(|a| AlertMatch { labels: labels(a) }).collect();
        rule
    }

    fn begin(canary: Side, version: &str) -> Begin {
        Begin::new(canary, version, "ana")
    }

    const CANARY: Relation = Relation::Names(Arm::Canary);
    const BASELINE: Relation = Relation::Names(Arm::Baseline);

    #[test]
    fn a_workload_is_named_by_its_deployment_its_pods_or_its_version() {
        let rule = rule("namespace=prod,deployment=chatbot,service=chat", "namespace=prod,deployment=chatbot-canary,service=chat", &[]);
        let of = |text: &str| relate(&labels(text), &rule, &begin(Side::Second, "v2"));
        assert_eq!(of("namespace=prod,deployment=chatbot-canary"), CANARY);
        assert_eq!(of("namespace=prod,deployment=chatbot"), BASELINE);
        assert_eq!(of("namespace=prod,workload=chatbot-canary"), CANARY);
        assert_eq!(of("namespace=istio-system,destination_workload_namespace=prod,destination_workload=chatbot-canary"), CANARY);
        assert_eq!(of("namespace=prod,pod=chatbot-canary-5d8f7c9b4-x7k2p"), CANARY);
        assert_eq!(of("namespace=prod,pod=chatbot-5d8f7c9b4-x7k2p"), BASELINE);
        assert_eq!(of("namespace=prod,pod=chatbot-backup-x7k2p"), Relation::NotOurs, "a job's pod");
        assert_eq!(of("namespace=prod,pod=chatbot-canary-28301-x7k2p"), Relation::NotOurs, "not a template's hash");
        assert_eq!(of("namespace=prod,pod=chatbot"), Relation::NotOurs);
        assert_eq!(of("namespace=prod,service=chat"), Relation::Service);
        assert_eq!(of("namespace=prod,service=chat,version=v2"), CANARY);
        assert_eq!(of("namespace=prod,service=chat,version=v1"), Relation::Service);
        assert_eq!(of("exported_namespace=prod,exported_service=chat,namespace=ingress,service=nginx,version=v2"), CANARY);
    }

    #[test]
    fn what_names_both_is_about_the_service_and_what_names_none_is_not_ours() {
        let rule = rule("namespace=prod,deployment=a,service=s", "namespace=prod,deployment=b,service=s", &[]);
        let of = |text: &str| relate(&labels(text), &rule, &begin(Side::First, "v2"));
        assert_eq!(of("namespace=prod,deployment=a"), CANARY);
        assert_eq!(of("namespace=prod,deployment=b,version=v2"), Relation::Service);
        assert_eq!(of("namespace=prod,deployment=c"), Relation::NotOurs);
        assert_eq!(of("namespace=prod"), Relation::NotOurs, "a namespace alone names nobody");
        assert_eq!(of("version=v2"), Relation::NotOurs, "so does a version");
        assert_eq!(of("namespace=test,deployment=a"), Relation::NotOurs);
        assert_eq!(of("deployment=a"), Relation::NotOurs, "of which namespace?");
        assert_eq!(of("canaryd_arm=canary"), Relation::NotOurs, "of which rollout?");
        assert_eq!(of("namespace=prod,service=s,canaryd_arm=canary"), CANARY);
        assert_eq!(of("namespace=prod,deployment=a,generator=canaryd"), Relation::NotOurs);
        assert_eq!(of(""), Relation::NotOurs);
    }

    #[test]
    fn matchers_select_and_the_labels_still_say_which_arm() {
        let rule = rule("namespace=prod,deployment=a", "namespace=prod,deployment=b", &["team=shop,env=prod", "job=probe"]);
        let of = |text: &str| relate(&labels(text), &rule, &begin(Side::Second, ""));
        assert_eq!(of("team=shop,env=prod"), Relation::Service);
        assert_eq!(of("team=shop"), Relation::NotOurs, "all labels of a matcher");
        assert_eq!(of("namespace=prod,deployment=b"), Relation::NotOurs, "the matchers replace the default");
        assert_eq!(of("job=probe,deployment=b"), CANARY);
        assert_eq!(of("job=probe,canaryd_arm=baseline"), BASELINE);
        assert_eq!(of("job=probe,deployment=b,namespace=test"), Relation::Service);
        assert_eq!(of("job=probe,generator=canaryd"), Relation::NotOurs);
    }

    #[test]
    fn namesakes_in_two_namespaces_and_outside_a_cluster() {
        let blue_green = rule("namespace=blue,deployment=shop", "namespace=green,deployment=shop", &[]);
        let of = |text: &str| relate(&labels(text), &blue_green, &begin(Side::Second, ""));
        assert_eq!(of("namespace=green,deployment=shop"), CANARY);
        assert_eq!(of("namespace=blue,pod=shop-5d8f7c9b4-x7k2p"), BASELINE);
        assert_eq!(of("namespace=green,deployment=db"), Relation::NotOurs);
        let clusters = rule("cluster=shop_a", "cluster=shop_b", &[]);
        let of = |text: &str| relate(&labels(text), &clusters, &begin(Side::Second, ""));
        assert_eq!(of("envoy_cluster_name=shop_b"), CANARY);
        assert_eq!(of("cluster=shop_a"), BASELINE);
        let versions = rule("service=shop,version=v1", "service=shop,version=v2", &[]);
        let of = |text: &str| relate(&labels(text), &versions, &begin(Side::Second, ""));
        assert_eq!((of("service=shop"), of("service=shop,version=v2")), (Relation::Service, CANARY));
        let one = rule("namespace=p,deployment=shop", "namespace=p,deployment=shop", &[]);
        let of = |text: &str| relate(&labels(text), &one, &begin(Side::Second, "v9"));
        assert_eq!((of("namespace=p,deployment=shop"), of("namespace=p,deployment=shop,version=v9")), (Relation::Service, CANARY));
    }
}
