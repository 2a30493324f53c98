//! Python, for second opinions: its YAML reader speaks YAML 1.1, its JSON Schema validator is not ours.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A Python that has these modules: of `CANARY_TEST_PYTHON`, PATH or the system. `None` after a printed line, as
/// [`super::require`].
pub(crate) fn with(modules: &[&str]) -> Option<Python> {
    let import = format!("import {}", modules.join(", "));
    let has = |program: &PathBuf| Command::new(program).args(["-c", &import]).stderr(Stdio::null()).status().is_ok_and(|s| s.success());
    // the first on PATH need not be the system's, whose packages tests/run installs
    let told = std::env::var_os("CANARY_TEST_PYTHON").map(PathBuf::from);
    let found = told.into_iter().chain([PathBuf::from("python3"), PathBuf::from("/usr/bin/python3")]).find(has);
    if found.is_none() {
        super::skip(&format!("no Python has {}: run tests/run, which installs them", modules.join(" and ")));
    }
    found.map(Python)
}

/// A Python program, run to its end.
pub(crate) struct Python(PathBuf);

impl Python {
    /// What this script prints when it reads `input`.
    ///
    /// # Panics
    /// If it fails: with its words.
    pub(crate) fn run(&self, script: &str, input: &str) -> String {
        let mut command = Command::new(&self.0);
        let mut child = command
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("python starts");
        child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("python reads");
        let output = child.wait_with_output().expect("python ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }
}
