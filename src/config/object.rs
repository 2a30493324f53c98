//! A rule that is an object of a cluster: the same grammar, the same loader. What the object is called is the rule's name, and its
//! namespace is that of workloads that name none.

use super::overlap::{Claims, Written};
use super::rule::{Known, Origin, parse_object};
use super::{Problem, Report, RuleSet};
use crate::model::Rule;
use serde_json::{Map, Value};
use std::path::PathBuf;
use std::sync::Arc;

/// What a manifest of one calls its kind's API.
pub const API: &str = "canaryd.io/v1alpha1";

/// An object that is a rule.
#[derive(Clone, Copy, Debug)]
pub struct RuleObject<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// The rule without its name.
    pub spec: &'a Value,
}

impl RuleObject<'_> {
    /// What takes the place of a file's path: `canaryrule shop/chatbot`.
    pub fn place(&self) -> String {
        format!("canaryrule {}/{}", self.namespace, self.name)
    }

    /// Reads it; also the text that a journal keeps, which is whole without the object.
    ///
    /// # Errors
    /// Every problem, with its path; what cannot be carried out here is one.
    pub fn read(&self, known: &Known) -> Result<(Rule, Arc<str>), Report> {
        let Value::Object(spec) = self.spec else {
            return Err(Report::whole(self.place(), "has no spec", "write the rule below spec"));
        };
        let text = self.text(spec);
        let read = parse_object(&Origin { text: &text, file: &PathBuf::from(self.place()), namespace: Some(self.namespace) }, known);
        let mut problems = self.named_twice(spec);
        match read {
            Ok(rule) => {
                problems.extend(rule.not_run.iter().map(|part| self.problem(&part.path, &part.why, "")));
                if problems.is_empty() { Ok((rule, text.into())) } else { Err(Report { problems }) }
            }
            Err(mut report) => {
                // the lines are those of a text nobody has written
                report.problems.iter_mut().for_each(|problem| problem.line = 0);
                problems.extend(report.problems);
                Err(Report { problems })
            }
        }
    }

    /// As a file would say it. JSON is YAML too.
    fn text(&self, spec: &Map<String, Value>) -> String {
        let mut rule = Map::from_iter([("rule".to_owned(), Value::from(self.name))]);
        rule.extend(spec.iter().filter(|(key, _)| *key != "rule").map(|(key, value)| (key.clone(), value.clone())));
        if let Some(workloads) = rule.get_mut("workloads").and_then(Value::as_object_mut) {
            workloads.entry("namespace").or_insert_with(|| self.namespace.into());
        }
        format!("{:#}\n", Value::Object(rule))
    }

    fn named_twice(&self, spec: &Map<String, Value>) -> Vec<Problem> {
        let name =
            spec.get("rule").map(|_| self.problem("rule", "has no place in an object", "leave it out: metadata.name is the rule's name"));
        name.into_iter().collect()
    }

    fn problem(&self, path: &str, what: &str, way_out: &str) -> Problem {
        Problem { file: self.place(), line: 0, path: path.to_owned(), what: what.to_owned(), way_out: way_out.to_owned() }
    }
}

/// Why a good rule cannot be in force beside another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its name is another's.
    Name(Problem),
    /// What it would move another moves.
    Route(Problem),
}

impl Refused {
    /// The rule's name is that of what is read from there.
    pub fn name(rule: &Rule, other: &str) -> Self {
        Self::Name(twice(rule, other))
    }

    /// Names both.
    pub fn problem(&self) -> &Problem {
        match self {
            Self::Name(problem) | Self::Route(problem) => problem,
        }
    }
}

impl RuleSet {
    /// Only those that are to be kept.
    pub(crate) fn keep(&mut self, kept: impl Fn(&Rule) -> bool) {
        self.rules.retain(|_, rule| kept(rule));
        self.texts.retain(|name, _| self.rules.contains_key(name));
    }

    /// Adds a rule that is an object, unless its name is taken, or what it would move; `claims` are those of this set.
    ///
    /// # Errors
    /// Names both; the first stays.
    pub fn add(&mut self, rule: Arc<Rule>, text: Arc<str>, claims: &mut Claims) -> Result<(), Refused> {
        if let Some(other) = self.rules.get(&rule.name) {
            return Err(Refused::name(&rule, &other.file.display().to_string()));
        }
        claims.take(&rule, &Written::Object).map_err(Refused::Route)?;
        self.texts.insert(rule.name.clone(), text);
        self.rules.insert(rule.name.clone(), rule);
        Ok(())
    }
}

/// One name for two.
pub(super) fn twice(rule: &Rule, other: &str) -> Problem {
    let what = format!("rule {:?} is already the name of {other}", rule.name);
    let (file, way_out) = (rule.file.display().to_string(), "give each rule its own name".to_owned());
    Problem { file, line: 0, path: String::new(), what, way_out }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn known() -> Known {
        Known { packs: ["envoy".to_owned()].into(), without_settings: true, cluster: true, ..Known::default() }
    }

    fn spec() -> Value {
        json!({
            "workloads": { "pair": [{ "cluster": "v1" }, { "cluster": "v2", "namespace": "shop" }] },
            "telemetry": ["envoy"],
            "traffic": "none",
            "steps": [{ "weight": "50%", "for": "5m" }, { "weight": "100%", "bake": "5m" }],
            "metrics": { "error-rate": { "rollback-above": "5%" } },
        })
    }

    fn read(spec: &Value) -> Result<(Rule, Arc<str>), Report> {
        RuleObject { namespace: "shop", name: "chat.bot", spec }.read(&known())
    }

    #[test]
    fn it_reads_as_its_text_would_from_a_file() {
        let (rule, text) = read(&spec()).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!((rule.name.as_str(), rule.file.display().to_string().as_str()), ("chat.bot", "canaryrule shop/chat.bot"));
        let namespaces: Vec<&str> = rule.workloads.sides.iter().map(|side| side.fields["namespace"].as_str()).collect();
        assert_eq!(namespaces, ["shop", "shop"]);
        let again = super::super::parse_rule(&text, &rule.file, &known()).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(again, rule, "a journal has all it needs");
    }

    #[test]
    fn every_problem_is_told_with_its_path_and_its_way_out_and_no_line() {
        let mut wrong = spec();
        wrong["rule"] = "other".into();
        wrong["metrics"]["error-rate"]["rollback-abov"] = "5%".into();
        wrong["steps"][0]["weight"] = "5".into();
        wrong["windows"] = json!({ "timezone": "UTC", "deny": [{ "dates": "holidays.txt" }] });
        let report = read(&wrong).unwrap_err().to_string();
        for said in [
            "canaryrule shop/chat.bot: rule: has no place in an object: leave it out",
            "canaryrule shop/chat.bot: metrics.error-rate.rollback-abov: no such key",
            "rollback-above",
            "canaryrule shop/chat.bot: steps[0].weight",
            "no files beside it",
        ] {
            assert!(report.contains(said), "{said}: {report}");
        }
        assert_eq!(read(&Value::Null).unwrap_err().problems.len(), 1);
    }

    #[test]
    fn a_name_that_is_taken_names_both() {
        let (rule, text) = read(&spec()).unwrap();
        let (first, second) = (Arc::new(Rule { file: "rules/a.yaml".into(), ..rule.clone() }), Arc::new(rule));
        let (mut set, mut claims) = (RuleSet::default(), Claims::default());
        set.add(Arc::clone(&first), text.clone(), &mut claims).unwrap();
        let problem = set.add(second, text, &mut claims).unwrap_err().problem().to_string();
        assert!(problem.contains("canaryrule shop/chat.bot") && problem.contains("rules/a.yaml"), "{problem}");
        assert!(Arc::ptr_eq(&set.rules["chat.bot"], &first));
    }
}
