//! How a label tells the arms apart: by its value, or as the name of a pod.
//!
//! A pod's name is `DEPLOYMENT-HASH-SUFFIX` (PACKS 4a). The template hash is decimal digits through Kubernetes'
//! `SafeEncodeString`, so ten letters only; the suffix has 27, without vowels. `[a-z0-9]` would take `chatbot-backup-x7k2p`,
//! a Job's pod, for one of a Deployment `chatbot`. A watch of the pods knows better: where there is one, its set of names
//! takes the place of [`Tells::Pods`]; the matcher stays, to narrow what is asked.

use super::select::{Matcher, Op, escape_regex};

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
}

/// A template of an arm label: what is to be filled in, and how the label tells.
pub fn arm_template(template: &str) -> (&str, Tells) {
    if template == "pods()" {
        return ("{deployment}", Tells::Pods);
    }
    let inner = template.strip_prefix("pod-name(").and_then(|t| t.strip_suffix(')'));
    inner.map_or((template, Tells::Value), |inner| (inner, Tells::Pods))
}

impl Tells {
    /// What a row's value of the label says: the value, or the Deployment of the pod; empty if it is no such pod's name.
    pub fn of(self, value: &str) -> &str {
        match self {
            Tells::Value => value,
            Tells::Pods => deployment(value).unwrap_or(""),
        }
    }

    /// The label has one of these values, or is a pod of one of these Deployments.
    pub fn matcher(self, label: &str, values: &[&str]) -> Matcher {
        let exact = Matcher::any_of(label, values);
        if self == Tells::Value {
            return exact;
        }
        let mut names: Vec<String> = values.iter().map(|v| escape_regex(v)).collect();
        names.sort_unstable();
        names.dedup();
        let names = if names.len() == 1 { names.remove(0) } else { format!("(?:{})", names.join("|")) };
        let pattern = format!("{names}-[4-9bcdf]{{1,{HASH_MAX}}}-[{SUFFIX}]{{{SUFFIX_LEN}}}");
        // escaped names always make a regex
        Matcher::new(label, Op::Matches, pattern).unwrap_or(exact)
    }

    /// # Errors
    /// Pods of this Deployment cannot be known by their names.
    pub fn check(self, value: &str) -> Result<(), String> {
        match self {
            Tells::Pods if value.is_empty() => Err("the name of a deployment is empty".to_owned()),
            Tells::Pods if value.len() > DEPLOYMENT_MAX => Err(format!(
                "deployment {value:?} has more than {DEPLOYMENT_MAX} characters: its pods' names are cut and cannot be told by; give the \
                 telemetry entry an `arm:` with label values"
            )),
            _ => Ok(()),
        }
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

    #[test]
    fn the_matcher_agrees_with_the_reader() {
        let both = Tells::Pods.matcher("pod", &["chatbot", "chatbot-v2.1", "chatbot"]);
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
        assert_eq!(Tells::Value.matcher("w", &["a.b"]).to_string(), r#"w="a.b""#);
    }

    #[test]
    fn functions_of_a_template() {
        assert_eq!(arm_template("pods()"), ("{deployment}", Tells::Pods));
        assert_eq!(arm_template("pod-name({service}-app)"), ("{service}-app", Tells::Pods));
        assert_eq!(arm_template("{cluster}"), ("{cluster}", Tells::Value));
        assert!(Tells::Pods.check(&"x".repeat(47)).unwrap_err().contains("46") && Tells::Pods.check("x").is_ok());
    }
}
