//! Query packs: which counters give the metrics on a stack, as data (PACKS 6). A new pack is one YAML file and no Rust.
//! Read `http.yaml` first, then `grammar.rs`; `resolve.rs` turns a pack into the questions of `question.rs`.
//!
//! A rule may name several packs (`telemetry: [ envoy, kubernetes ]`). Of each quantity (requests with those whose client
//! left, latency, CPU, memory) the first pack that gives it is read; of CPU and memory, which packs declare that an
//! application need not show, the first whose series exist at set-up. Custom counts and gauges go by the first entry's arms.

pub mod arms;
pub mod classes;
pub mod grammar;
pub mod level;
pub mod question;
pub mod resolve;
pub mod select;
pub mod sight;
mod template;

use grammar::Pack;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Those compiled in: name and file.
const BUILTIN: &[(&str, &str)] = &[
    ("envoy", include_str!("envoy.yaml")),
    ("haproxy", include_str!("haproxy.yaml")),
    ("http", include_str!("http.yaml")),
    ("istio", include_str!("istio.yaml")),
    ("kubernetes", include_str!("kubernetes.yaml")),
    ("otel-http", include_str!("otel-http.yaml")),
];

/// Packs by name. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Packs {
    packs: Arc<BTreeMap<String, Arc<Pack>>>,
}

impl Default for Packs {
    fn default() -> Self {
        Self::builtin()
    }
}

impl Packs {
    /// Those compiled in.
    ///
    /// # Panics
    /// Never in a build whose tests pass: they parse each of them.
    pub fn builtin() -> Self {
        let parse = |(name, text): &(&str, &str)| {
            let pack = grammar::parse(text).unwrap_or_else(|e| panic!("compiled-in pack {name}: {e}"));
            ((*name).to_owned(), Arc::new(pack))
        };
        Self { packs: Arc::new(BUILTIN.iter().map(parse).collect()) }
    }

    /// Those compiled in and those in a folder of `*.yaml` files; a file replaces a compiled-in pack of its name.
    ///
    /// # Errors
    /// Every problem found, each with its file.
    pub fn with_folder(folder: &Path) -> Result<Self, Vec<String>> {
        let mut packs = BTreeMap::clone(&Self::builtin().packs);
        let mut problems = Vec::new();
        let entries = std::fs::read_dir(folder).map_err(|e| vec![format!("packs folder {}: {e}", folder.display())])?;
        let mut files: Vec<_> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
        files.sort();
        for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == "yaml" || e == "yml")) {
            let read = std::fs::read_to_string(file).map_err(|e| e.to_string()).and_then(|text| grammar::parse(&text));
            match read {
                Ok(pack) => {
                    packs.insert(pack.pack.clone(), Arc::new(pack));
                }
                Err(why) => problems.push(format!("{}: {why}", file.display())),
            }
        }
        if problems.is_empty() { Ok(Self { packs: Arc::new(packs) }) } else { Err(problems) }
    }

    /// Names, sorted.
    pub fn names(&self) -> Vec<&str> {
        self.packs.keys().map(String::as_str).collect()
    }

    /// The pack of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Pack>> {
        self.packs.get(name)
    }
}

/// Names of the packs compiled in.
pub fn known_packs() -> Vec<&'static str> {
    BUILTIN.iter().map(|(name, _)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_compiled_in_pack_parses_under_its_own_name() {
        for (name, _) in BUILTIN {
            assert_eq!(Packs::builtin().get(name).unwrap().pack, *name);
        }
        assert_eq!(known_packs(), Packs::builtin().names());
    }

    #[test]
    fn a_folder_adds_packs_and_reports_every_broken_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("mine.yaml"), "pack: mine\nidentity: [pod]\narm: { pod: '{pod}' }\n").unwrap();
        assert_eq!(
            Packs::with_folder(dir.path()).unwrap().names(),
            ["envoy", "haproxy", "http", "istio", "kubernetes", "mine", "otel-http"]
        );
        std::fs::write(dir.path().join("a.yaml"), "pack: a\n").unwrap();
        std::fs::write(dir.path().join("b.yaml"), "pack: [\n").unwrap();
        let problems = Packs::with_folder(dir.path()).unwrap_err();
        assert!(problems.len() == 2 && problems[0].contains("a.yaml") && problems[1].contains("b.yaml"), "{problems:?}");
    }
}
