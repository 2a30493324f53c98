//! Rules in manifests, as `kubectl apply` takes them: a CanaryRule by itself, several documents in a file, or a List. They are read by
//! the grammar of rule files, with the lines they have in the file. Other kinds are left alone, and named.

use super::object::API;
use super::overlap::Written;
use super::rule::{Known, Origin, parse_object_tree};
use super::walk::{At, Entry, Fields, Kind, Node};
use super::{Report, yaml};
use crate::model::Rule;
use std::path::Path;

/// Keys of every manifest.
const KEYS: &[&str] = &["apiVersion", "kind", "metadata", "spec", "status"];
/// Keys of `metadata` that matter here; there are many more.
const NAMESPACE: &str = "namespace";
/// Where kubectl makes an object whose manifest names no namespace, unless it is told otherwise.
const DEFAULT_NAMESPACE: &str = "default";
const RULE_KIND: &str = "CanaryRule";

/// What the manifests of a file hold.
#[derive(Debug, Default)]
pub(super) struct Manifests {
    pub(super) rules: Vec<OfManifest>,
    /// What they hold besides, in a few words each.
    pub(super) skipped: Vec<String>,
}

/// A rule that is to be an object.
#[derive(Debug)]
pub(super) struct OfManifest {
    pub(super) rule: Rule,
    pub(super) written: Written,
    /// `namespace/name`.
    pub(super) object: String,
    /// Its manifest names the namespace.
    pub(super) names_namespace: bool,
}

/// Reads the manifests of a text; `None` = it has none, and may be a rule file.
///
/// # Errors
/// Every problem of every rule in it.
pub(super) fn read(text: &str, file: &Path, known: &Known) -> Option<Result<Manifests, Report>> {
    let name = file.display().to_string();
    let looks = |line: &str| line.starts_with("kind:") || line.starts_with("apiVersion:");
    let documents = match yaml::parse_all(text, &name) {
        Ok(documents) => documents,
        Err(report) => return text.lines().any(looks).then_some(Err(report)),
    };
    if !documents.iter().any(is_manifest) {
        return None;
    }
    // an object is in a cluster, wherever it is checked
    let mut reading =
        Reading { text, file, known: Known { cluster: true, ..known.clone() }, out: Manifests::default(), report: Report::default() };
    documents.iter().for_each(|document| reading.document(&At::root(document)));
    Some(reading.report.or(Some(reading.out)))
}

/// Is it what kubectl would take, and no rule file?
pub(super) fn is_manifest(tree: &Node) -> bool {
    tree.below("rule").is_none() && (tree.below("kind").is_some() || tree.below("apiVersion").is_some())
}

struct Reading<'a> {
    text: &'a str,
    file: &'a Path,
    known: Known,
    out: Manifests,
    report: Report,
}

impl Reading<'_> {
    fn document(&mut self, at: &At<'_>) {
        let word = |key: &str| at.node.below(key).map_or("", |entry| At { node: &entry.node, path: String::new() }.scalar());
        let (api, kind) = (word("apiVersion"), word("kind"));
        let group = API.split('/').next();
        match kind {
            _ if !is_manifest(at.node) => {
                at.wrong(&mut self.report, "is no manifest, among others that are", "write a rule into a file of its own")
            }
            "List" => {
                let Some(items) = at.node.below("items") else { return };
                let items = At { node: &items.node, path: "items".to_owned() };
                let items = items.items(&mut self.report);
                items.iter().for_each(|item| self.document(item));
            }
            RULE_KIND if api.split('/').next() == group => {
                if let Some(found) = self.rule(at, api) {
                    self.out.rules.push(found);
                }
            }
            _ => {
                let name = at.node.below("metadata").and_then(|m| m.node.below("name")).map_or("?", |name| At::root(&name.node).scalar());
                self.out.skipped.push(format!("{}:{}: {kind} {name}", self.file.display(), at.line()));
            }
        }
    }

    fn rule(&mut self, at: &At<'_>, api: &str) -> Option<OfManifest> {
        let fields = at.fields(KEYS, &mut self.report)?;
        if api != API {
            let at = fields.need("apiVersion", "", &mut self.report)?;
            at.wrong(&mut self.report, format_args!("{api} is not known to this build"), format_args!("write {API}"));
        }
        let name = self.name(&fields);
        let spec = fields.need("spec", "write the rule below spec", &mut self.report)?;
        let metadata = fields.get("metadata").and_then(|at| at.node.below(NAMESPACE)).map(|entry| At::root(&entry.node).scalar());
        let namespace = metadata.filter(|namespace| !namespace.is_empty());
        // where its spec names one, only there it can be good
        let home = namespace.or_else(|| meant(&spec)).unwrap_or(DEFAULT_NAMESPACE);
        let tree = self.as_file(&spec, name.as_ref()?, home)?;
        let origin = Origin { text: self.text, file: self.file, namespace: Some(home) };
        let read = parse_object_tree(&At { node: &tree, path: spec.path.clone() }, &origin, &self.known);
        let rule = read.map_err(|report| self.take(report, &spec.path)).ok()?;
        let object = format!("{home}/{}", rule.name);
        let lines = Written::sections(spec.node, spec.path.clone());
        Some(OfManifest { rule, written: lines, object, names_namespace: namespace.is_some() })
    }

    fn name(&mut self, fields: &Fields<'_>) -> Option<Node> {
        let way_out = "name the object: it is the rule's name";
        let metadata = fields.need("metadata", way_out, &mut self.report)?;
        let name = metadata.node.below("name").map(|entry| entry.node.clone());
        if name.is_none() {
            metadata.wrong(&mut self.report, "has no name", way_out);
        }
        name
    }

    /// The spec as a rule file would have it.
    fn as_file(&mut self, spec: &At<'_>, name: &Node, namespace: &str) -> Option<Node> {
        let Kind::Map(entries) = &spec.node.kind else {
            spec.wrong(&mut self.report, "is not a mapping of keys", "write the rule below spec");
            return None;
        };
        let (named, mut entries): (Vec<Entry>, Vec<Entry>) = entries.iter().cloned().partition(|entry| entry.key == "rule");
        for entry in named {
            let at = At { node: &entry.node, path: format!("{}.rule", spec.path) };
            at.wrong(&mut self.report, "has no place in an object", "leave it out: metadata.name is the rule's name");
        }
        if let Some(workloads) = entries.iter_mut().find(|entry| entry.key == "workloads")
            && workloads.node.below(NAMESPACE).is_none()
            && let Kind::Map(of) = &mut workloads.node.kind
        {
            let node = Node { place: workloads.place.clone(), kind: Kind::Text(namespace.to_owned()) };
            of.push(Entry { key: NAMESPACE.to_owned(), place: workloads.place.clone(), node });
        }
        entries.push(Entry { key: "rule".to_owned(), place: name.place.clone(), node: name.clone() });
        Some(Node { place: spec.node.place.clone(), kind: Kind::Map(entries) })
    }

    /// Problems of the rule as a file, where they stand in the manifest.
    fn take(&mut self, mut report: Report, spec: &str) {
        let (of_file, of_manifest) = (format!("{spec}.rule"), spec.strip_suffix("spec").unwrap_or("").to_owned() + "metadata.name");
        for problem in report.problems.iter_mut().filter(|problem| problem.path == of_file) {
            problem.path.clone_from(&of_manifest);
        }
        self.report.join(report);
    }
}

/// The namespace of the workloads, where they say it.
fn meant<'a>(spec: &At<'a>) -> Option<&'a str> {
    let at = spec.down(&["workloads", NAMESPACE]);
    (at.path.ends_with(NAMESPACE) && !at.scalar().is_empty()).then(|| at.scalar())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Reach;

    const RULE: &str = "apiVersion: canaryd.io/v1alpha1
kind: CanaryRule
metadata: { name: shop, namespace: shop }
spec:
  workloads: { pair: [ { subset: v1 }, { subset: v2 } ] }
  telemetry: [ istio ]
  traffic: { istio: { virtual-service: shop } }
  steps: [ { weight: 100%, bake: 1m } ]
  metrics: { error-rate: {} }
";

    fn manifests(text: &str) -> Result<Manifests, Report> {
        let known = Known { packs: ["istio".to_owned()].into(), ..Known::default() };
        read(text, Path::new("all.yaml"), &known).expect("manifests")
    }

    #[test]
    fn a_rule_is_read_among_other_kinds_which_are_named() {
        let other = "kind: ConfigMap\napiVersion: v1\nmetadata: { name: rules }\ndata: { a: b }\n";
        let text = format!("# all of it\n---\n{other}---\n{RULE}---\n---\n{}", RULE.replace("name: shop, namespace: shop", "name: cart"));
        let found = manifests(&text).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(found.skipped, ["all.yaml:3: ConfigMap rules"]);
        let objects: Vec<(&str, bool)> = found.rules.iter().map(|of| (of.object.as_str(), of.names_namespace)).collect();
        assert_eq!(objects, [("shop/shop", true), ("default/cart", false)]);
        let rule = &found.rules[0].rule;
        assert_eq!(rule.workloads.sides[1].fields["namespace"], "shop");
        assert_eq!((rule.name.as_str(), &rule.not_run), ("shop", &vec![]), "it is in a cluster, wherever it is checked");
        let list = format!("apiVersion: v1\nkind: List\nitems:\n- {}", RULE.trim_end().replace('\n', "\n  "));
        assert_eq!(manifests(&list).unwrap_or_else(|report| panic!("{report}")).rules[0].rule.name, "shop");
    }

    #[test]
    fn every_problem_has_its_line_in_the_file_and_its_path_in_the_object() {
        let wrong = RULE
            .replace("v1alpha1", "v2")
            .replace("name: shop,", "name: Shop,")
            .replace("100%", "100")
            .replace("error-rate: {}", "error-rate: { rollback-abov: 5% }");
        let text = format!("kind: ConfigMap\nmetadata: {{ name: x }}\n---\n{wrong}  rule: other\nspce: {{}}\n");
        let said = manifests(&text).unwrap_err().to_string();
        for line in [
            "all.yaml:4: apiVersion: canaryd.io/v2 is not known to this build: write canaryd.io/v1alpha1",
            "all.yaml:6: metadata.name: \"Shop\" is no name",
            "all.yaml:11: spec.steps[0].weight: ",
            "all.yaml:12: spec.metrics.error-rate.rollback-abov: no such key",
            "all.yaml:13: spec.rule: has no place in an object",
            "all.yaml:14: spce: no such key: did you mean \"spec\"?",
        ] {
            assert!(said.contains(line), "{line}\n{said}");
        }
    }

    /// What CI says is what the cluster says.
    #[test]
    fn a_rule_may_name_its_own_namespace_only_unless_the_settings_allow_more() {
        let foreign =
            RULE.replace("workloads: {", "workloads: { namespace: cart,").replace("virtual-service: shop", "virtual-service: cart");
        let said = manifests(&foreign).unwrap_err().to_string();
        assert!(said.starts_with("all.yaml:5: spec.workloads.namespace: \"cart\" is not \"shop\", the namespace of this object"), "{said}");
        let allowed = Known { packs: ["istio".to_owned()].into(), objects: Reach::Anywhere, ..Known::default() };
        assert_eq!(read(&foreign, Path::new("all.yaml"), &allowed).unwrap().unwrap().rules[0].object, "shop/shop");
        // without a namespace it is one of that which it names: kubectl may be told so
        let found = manifests(&foreign.replace(", namespace: shop }", " }")).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!((found.rules[0].object.as_str(), found.rules[0].names_namespace), ("cart/shop", false));
    }

    #[test]
    fn what_is_no_manifest_is_left_to_the_reader_of_rule_files() {
        let known = Known::default();
        let read = |text: &str| read(text, Path::new("a.yaml"), &known);
        assert!(read("rule: shop\n").is_none() && read("").is_none() && read("rule: [\n").is_none());
        let mixed = read(&format!("{RULE}---\nrule: shop\n")).unwrap().unwrap_err().to_string();
        assert!(mixed.contains("is no manifest, among others that are"), "{mixed}");
        let broken = read("kind: CanaryRule\nspec: [\n").unwrap().unwrap_err().to_string();
        assert!(broken.contains("not YAML"), "{broken}");
        for none in [
            "kind: CanaryRule\napiVersion: canaryd.io/v1alpha1\n",
            "kind: CanaryRule\napiVersion: canaryd.io/v1alpha1\nspec: 7\nmetadata: {}\n",
        ] {
            assert!(read(none).unwrap().is_err());
        }
    }
}
