//! The layer table of lib.rs, kept: which module of the crate may name which. One package, so Cargo cannot.

use std::fs;
use std::path::{Path, PathBuf};

/// Module, and what it may import besides itself.
const LAYERS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("stats", &[]),
    ("analysis", &["model", "stats"]),
    ("rollout", &["model", "analysis"]),
    ("engine", &["model", "analysis"]),
    ("telemetry", &["model"]),
    ("tls", &[]),
    ("hop", &[]),
    ("apiserver", &["model"]),
    ("source", &["model", "telemetry", "tls"]),
    ("router", &["model", "apiserver", "telemetry", "tls", "hop"]),
    ("cluster", &["model", "apiserver", "telemetry", "tls"]),
    ("notify", &["model", "telemetry", "tls"]),
    ("store", &["model", "telemetry"]),
    ("config", &["model", "telemetry"]),
    (
        "runtime",
        &["model", "analysis", "rollout", "engine", "source", "router", "cluster", "notify", "store", "config", "telemetry", "tls"],
    ),
    ("web", &[]),
    ("api", &["model", "runtime", "telemetry", "web", "hop"]),
    ("app", &["model", "runtime", "source", "router", "cluster", "notify", "store", "config", "telemetry", "tls", "api"]),
    ("cli", &["model", "runtime", "source", "router", "cluster", "store", "config", "telemetry", "tls", "api", "app"]),
    ("main", &["cli"]),
];

fn rust_files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("src is readable") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            rust_files(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// The crate's own modules a line names: `crate::x` anywhere, `canaryd::x` in the binary.
fn named(line: &str) -> Vec<&str> {
    let code = line.split("//").next().unwrap_or("");
    ["crate::", "canaryd::"]
        .iter()
        .flat_map(|root| code.match_indices(root).map(move |(at, _)| &code[at + root.len()..]))
        .map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(""))
        .collect()
}

#[test]
fn imports_only_point_down() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    assert!(files.len() > 20, "only {} files found", files.len());
    let mut wrong = Vec::new();
    for path in files {
        let relative = path.strip_prefix(&src).expect("below src");
        let module = relative.iter().next().expect("a name").to_str().expect("utf-8").trim_end_matches(".rs");
        if module == "lib" {
            continue;
        }
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("{}: module {module} has no row in the layer table", relative.display()));
            continue;
        };
        for (number, line) in fs::read_to_string(&path).expect("readable").lines().enumerate() {
            for target in named(line) {
                let known = LAYERS.iter().any(|(name, _)| *name == target);
                if known && target != module && !allowed.contains(&target) {
                    wrong.push(format!("{}:{}: {module} may not name {target}", relative.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_fence_stands_on_every_pure_module() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).expect("lib.rs");
    let lines: Vec<&str> = lib.lines().collect();
    for module in ["model", "stats", "analysis", "rollout", "engine"] {
        let at = lines.iter().position(|l| *l == format!("pub mod {module};")).unwrap_or_else(|| panic!("no pub mod {module}"));
        assert_eq!(lines[at - 1], "#[deny(clippy::disallowed_methods, clippy::disallowed_types)]", "above pub mod {module}");
    }
}
