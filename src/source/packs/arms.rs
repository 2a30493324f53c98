//! How a label tells the arms apart: by its value, as the name of a pod, or as its address.
//!
//! A pod's name is `DEPLOYMENT-HASH-SUFFIX` (PACKS 4a). The template hash is decimal digits through Kubernetes'
//! `SafeEncodeString`, so ten letters only; the suffix has 27, without vowels. `[a-z0-9]` would take `chatbot-backup-x7k2p`,
//! a Job's pod, for one of a Deployment `chatbot`. A watch of the pods knows better: where there is one, its set of names
//! decides, and the pattern only narrows what is asked. Addresses nobody can tell without a watch.

use super::select::{Matcher, Op, escape_regex};
use crate::model::Pod;
use std::sync::Arc;

const HASH: &str = "456789bcdf";
const HASH_MAX: usize = 10;
const SUFFIX: &str = "bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LEN: usize = 5;
/// A longer Deployment's name is cut when its pods are named.
const DEPLOYMENT_MAX: usize = 46;

/// How a label tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tells {
    /// By its value.
    Value,
    /// As the name of a pod of a Deployment.
    Pods,
    /// As the address of a pod, with or without a port.
    PodIps,
}

/// What tells one arm.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Whose {
    /// A value for each arm label; of pods their Deployment.
    pub values: Vec<String>,
    /// Its pods, where a watch knows them.
    pub pods: Option<Arc<[Pod]>>,
    /// The other arm's pods are called alike: only a watch knows whose one is.
    pub alike: bool,
}

impl Whose {
    /// Has one of the pods this name, or address?
    fn has(&self, tells: Tells, value: &str) -> Option<bool> {
        let pods = self.pods.as_ref().filter(|_| tells != Tells::Value)?;
        Some(pods.iter().any(|pod| tells.of_pod(pod) == Some(value)))
    }

    /// Is this value of the label at a position the arm's?
    pub fn is(&self, at: usize, tells: Tells, value: &str) -> bool {
        let of_either = self.alike && tells != Tells::Value;
        let by_value = || !of_either && self.values.get(at).is_some_and(|own| own == tells.of(value));
        self.has(tells, tells.raw(value)).unwrap_or_else(by_value)
    }
}

/// A template of an arm label: what is to be filled in, and how the label tells.
pub fn arm_template(template: &str) -> (&str, Tells) {
    match template {
        "pods()" => return ("{deployment}", Tells::Pods),
        "pod-ips()" => return ("{deployment}", Tells::PodIps),
        _ => {}
    }
    let inner = template.strip_prefix("pod-name(").and_then(|t| t.strip_suffix(')'));
    inner.map_or((template, Tells::Value), |inner| (inner, Tells::Pods))
}

impl Tells {
    /// What a row's value of the label says without a watch: the value, or the Deployment of the pod; empty if it is no such
    /// pod's name.
    pub fn of(self, value: &str) -> &str {
        match self {
            Tells::Value => value,
            Tells::Pods => deployment(value).unwrap_or(""),
            Tells::PodIps => "",
        }
    }

    /// What a watch is asked about a row's value of the label: the name, or the address without its port.
    pub fn raw(self, value: &str) -> &str {
        match self {
            Tells::PodIps => address(value),
            Tells::Value | Tells::Pods => value,
        }
    }

    /// What the label would show of a pod; `None` for one without an address.
    pub fn of_pod(self, pod: &Pod) -> Option<&str> {
        match self {
            Tells::Value => None,
            Tells::Pods => Some(&pod.name),
            Tells::PodIps => pod.ip.as_deref(),
        }
    }

    /// The label at this position tells one of these arms: it has one of their values, or is one of their pods. More than
    /// asked for where a watch knows better: the caller keeps exact ones.
    pub fn matcher(self, label: &str, at: usize, arms: &[&Whose]) -> Matcher {
        let values: Vec<&str> = arms.iter().map(|arm| arm.values.get(at).map_or("", String::as_str)).collect();
        let pods = || arms.iter().filter_map(|arm| arm.pods.as_ref()).flat_map(|pods| pods.iter()).filter_map(|pod| self.of_pod(pod));
        let exact = Matcher::any_of(label, &values);
        // escaped names always make a regex
        let regex = |pattern: String| Matcher::new(label, Op::Matches, pattern).unwrap_or_else(|_| exact.clone());
        match self {
            Tells::Value => exact,
            // of one arm, whose text stands in queries that nobody looks through again; no pod is called "-"
            Tells::Pods if arms.iter().all(|arm| arm.alike) && arms.len() == 1 => {
                let mut all: Vec<&str> = pods().collect();
                all.sort_unstable();
                all.dedup();
                Matcher::any_of(label, if all.is_empty() { &["-"] } else { &all })
            }
            Tells::Pods => {
                let by_name = regex(by_name(&values));
                let mut others: Vec<String> = pods().filter(|name| !by_name.matches(name)).map(escape_regex).collect();
                others.sort_unstable();
                others.dedup();
                if others.is_empty() { by_name } else { regex(format!("{}|{}", by_name.value, others.join("|"))) }
            }
            Tells::PodIps => {
                let mut all: Vec<String> = pods().map(escape_regex).collect();
                all.sort_unstable();
                all.dedup();
                // square brackets: an IPv6 address before its port
                regex(format!(r"\[?(?:{})\]?(?::[0-9]+)?", all.join("|")))
            }
        }
    }

    /// # Errors
    /// The pods of this Deployment cannot be known without a watch.
    pub fn check(self, value: &str) -> Result<(), String> {
        let way_out = "give the telemetry entry an `arm:` with label values, such as arm: { version: '{version}' }";
        match self {
            Tells::Value => Ok(()),
            Tells::PodIps => Err(format!("pods are told by their addresses, which only a watch of the cluster knows: {way_out}")),
            Tells::Pods if value.is_empty() => Err("the name of a deployment is empty".to_owned()),
            Tells::Pods if value.len() > DEPLOYMENT_MAX => Err(format!(
                "deployment {value:?} has more than {DEPLOYMENT_MAX} characters: its pods' names are cut and cannot be told by; {way_out}"
            )),
            Tells::Pods => Ok(()),
        }
    }
}

/// The pattern of the names of these Deployments' pods.
fn by_name(deployments: &[&str]) -> String {
    let mut names: Vec<String> = deployments.iter().map(|v| escape_regex(v)).collect();
    names.sort_unstable();
    names.dedup();
    let names = if names.len() == 1 { names.remove(0) } else { format!("(?:{})", names.join("|")) };
    format!("{names}-[4-9bcdf]{{1,{HASH_MAX}}}-[{SUFFIX}]{{{SUFFIX_LEN}}}")
}

/// `10.1.2.3:8080` and `[fd00::1]:8080` without their port.
fn address(value: &str) -> &str {
    if let Some(inner) = value.strip_prefix('[') {
        return inner.split(']').next().unwrap_or(inner);
    }
    match value.split_once(':') {
        // more than one colon: an IPv6 address without a port
        Some((_, rest)) if rest.contains(':') => value,
        Some((address, _)) => address,
        None => value,
    }
}

/// The Deployment of a pod, by the pod's name.
fn deployment(pod: &str) -> Option<&str> {
    let (rest, suffix) = pod.rsplit_once('-')?;
    let (deployment, hash) = rest.rsplit_once('-')?;
    let made_of = |text: &str, letters: &str| text.chars().all(|c| letters.contains(c));
    let fits = suffix.len() == SUFFIX_LEN && made_of(suffix, SUFFIX) && (1..=HASH_MAX).contains(&hash.len()) && made_of(hash, HASH);
    (fits && !deployment.is_empty()).then_some(deployment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_of_a_deployment_and_of_others() {
        assert_eq!(Tells::Pods.of("chatbot-5d4f8b9c7-x7k2p"), "chatbot");
        assert_eq!(Tells::Pods.of("chatbot-v2-66d9-zz2xw"), "chatbot-v2");
        // a Job's, a StatefulSet's, a bare pod, a suffix with a vowel, a hash with a letter that none has
        for other in ["chatbot-backup-x7k2p", "chatbot-0", "chatbot", "chatbot-5d4f8-x7a2p", "chatbot-5d4e8-x7k2p", "-5d4f8-x7k2p", ""] {
            assert_eq!(Tells::Pods.of(other), "", "{other}");
        }
        assert_eq!(Tells::Value.of("chatbot-0"), "chatbot-0");
    }

    fn arms<const N: usize>(values: [&str; N]) -> [Whose; N] {
        values.map(|value| Whose { values: vec![value.to_owned()], ..Whose::default() })
    }

    fn watched(value: &str, pods: &[(&str, &str)]) -> Whose {
        let pod = |(name, ip): &(&str, &str)| Pod {
            name: (*name).to_owned(),
            ip: Some((*ip).to_owned()).filter(|ip| !ip.is_empty()),
            created: crate::model::Timestamp::from_millis(0),
            ready: true,
        };
        Whose { values: vec![value.to_owned()], pods: Some(pods.iter().map(pod).collect()), alike: false }
    }

    #[test]
    fn a_watch_decides_whose_a_pod_is_and_the_pattern_only_narrows() {
        let [known, unknown] = [watched("shop", &[("shop-5d4f8-x7k2p", "10.0.0.1"), ("shop-rollouts-7", "")]), watched("shop", &[])];
        for (pod, is) in [("shop-5d4f8-x7k2p", true), ("shop-rollouts-7", true), ("shop-5d4f8-zz2xw", false)] {
            assert_eq!(known.is(0, Tells::Pods, pod), is, "{pod}");
            assert!(!unknown.is(0, Tells::Pods, pod), "a watch that knows of none is not a watch that does not know: {pod}");
        }
        assert!(arms(["shop"])[0].is(0, Tells::Pods, "shop-5d4f8-zz2xw"), "without a watch the name tells");
        let matcher = Tells::Pods.matcher("pod", 0, &[&known]);
        assert!(matcher.matches("shop-rollouts-7") && matcher.matches("shop-5d4f8-x7k2p") && !matcher.matches("shop-rollouts-8"));
    }

    #[test]
    fn pods_that_are_called_alike_are_told_by_a_watch_alone() {
        let of = |pods: &[(&str, &str)]| Whose { alike: true, ..watched("shop", pods) };
        let (old, unknown) = (of(&[("shop-5d4f8-x7k2p", "")]), Whose { pods: None, ..of(&[]) });
        for (pod, is) in [("shop-5d4f8-x7k2p", true), ("shop-66d9-zz2xw", false)] {
            assert_eq!(old.is(0, Tells::Pods, pod), is, "{pod}");
            assert_eq!(Tells::Pods.matcher("pod", 0, &[&old]).matches(pod), is, "{pod}");
            assert!(Tells::Pods.matcher("pod", 0, &[&old, &unknown]).matches(pod), "of both arms all of the Deployment's are asked for");
            assert!(!unknown.is(0, Tells::Pods, pod) && !Tells::Pods.matcher("pod", 0, &[&unknown]).matches(pod), "{pod}");
        }
        assert!(!Tells::Pods.matcher("pod", 0, &[&unknown]).matches(""), "nor what has no pod");
        assert!(unknown.is(0, Tells::Value, "shop"), "a namespace is both arms'");
    }

    #[test]
    fn addresses_are_told_by_a_watch_alone() {
        let arm = watched("shop", &[("a", "10.0.0.1"), ("b", "fd00::1"), ("c", "")]);
        for (value, is) in [
            ("10.0.0.1", true),
            ("10.0.0.1:8080", true),
            ("10.0.0.11:8080", false),
            ("[fd00::1]:80", true),
            ("fd00::1", true),
            ("fd00::11", false),
            ("", false),
        ] {
            assert_eq!(arm.is(0, Tells::PodIps, value), is, "{value}");
            assert_eq!(Tells::PodIps.matcher("endpoint", 0, &[&arm]).matches(value), is, "{value}");
        }
        assert!(Tells::PodIps.check("shop").unwrap_err().contains("only a watch"));
    }

    #[test]
    fn the_matcher_agrees_with_the_reader() {
        let [a, b, c] = arms(["chatbot", "chatbot-v2.1", "chatbot"]);
        let both = Tells::Pods.matcher("pod", 0, &[&a, &b, &c]);
        assert_eq!(both.value, r"(?:chatbot|chatbot-v2\.1)-[4-9bcdf]{1,10}-[bcdfghjklmnpqrstvwxz2456789]{5}");
        for (pod, is) in [
            ("chatbot-5d4f8-x7k2p", true),
            ("chatbot-v2.1-5d4f8-x7k2p", true),
            ("chatbot-v2x1-5d4f8-x7k2p", false),
            ("chatbot-v3-5d4f8-x7k2p", false),
            ("chatbot-backup-x7k2p", false),
        ] {
            assert_eq!(both.matches(pod), is, "{pod}");
            assert_eq!(["chatbot", "chatbot-v2.1"].contains(&Tells::Pods.of(pod)), is, "{pod}");
        }
        assert_eq!(Tells::Value.matcher("w", 0, &[&arms(["a.b"])[0]]).to_string(), r#"w="a.b""#);
    }

    #[test]
    fn functions_of_a_template() {
        assert_eq!(arm_template("pods()"), ("{deployment}", Tells::Pods));
        assert_eq!(arm_template("pod-name({service}-app)"), ("{service}-app", Tells::Pods));
        assert_eq!(arm_template("pod-ips()"), ("{deployment}", Tells::PodIps));
        assert_eq!(arm_template("{cluster}"), ("{cluster}", Tells::Value));
        assert!(Tells::Pods.check(&"x".repeat(47)).unwrap_err().contains("46") && Tells::Pods.check("x").is_ok());
    }
}
