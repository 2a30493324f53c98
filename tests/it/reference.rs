//! Where the reference's numbers are, and how they are compared.

use serde_json::Value;
use std::path::PathBuf;

/// The folder: `CANARYD_VECTORS`, or the fixed set.
pub(crate) fn folder() -> PathBuf {
    std::env::var_os("CANARYD_VECTORS").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data"), PathBuf::from)
}

pub(crate) fn read(path: &std::path::Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Relative 1e-9, absolute 1e-12.
pub(crate) fn near(want: f64, got: f64) -> bool {
    want == got || (want - got).abs() <= 1e-12 + 1e-9 * want.abs().max(got.abs())
}

/// Collects what differs, each with its place.
#[derive(Default)]
pub(crate) struct Differences {
    found: Vec<String>,
    compared: usize,
}

impl Differences {
    pub(crate) fn number(&mut self, place: impl Fn() -> String, want: &Value, got: f64) {
        self.compared += 1;
        let same = match want {
            Value::Null => got.is_nan() || got == f64::INFINITY,
            _ => want.as_f64().is_some_and(|w| near(w, got)),
        };
        if !same {
            self.found.push(format!("{}: want {want}, got {got:?}", place()));
        }
    }

    pub(crate) fn optional(&mut self, place: impl Fn() -> String, want: &Value, got: Option<f64>) {
        match got {
            Some(v) if !want.is_null() => self.number(place, want, v),
            _ => self.same(place, &want.is_null(), &got.is_none()),
        }
    }

    pub(crate) fn same<T: PartialEq + std::fmt::Debug>(&mut self, place: impl Fn() -> String, want: &T, got: &T) {
        self.compared += 1;
        if want != got {
            self.found.push(format!("{}: want {want:?}, got {got:?}", place()));
        }
    }

    pub(crate) fn flag(&mut self, place: impl Fn() -> String, want: &Value, got: bool) {
        self.same(place, &want.as_bool(), &Some(got));
    }

    /// Panics with the first differences if there are any; `least` comparisons must have been made.
    pub(crate) fn finish(self, what: &str, least: usize) {
        assert!(self.compared >= least, "{what}: only {} numbers compared, {least} expected", self.compared);
        assert!(
            self.found.is_empty(),
            "{what}: {} of {} differ\n{}",
            self.found.len(),
            self.compared,
            self.found[..self.found.len().min(25)].join("\n")
        );
    }
}

pub(crate) fn f(v: &Value) -> f64 {
    v.as_f64().unwrap_or_else(|| panic!("{v} is no number"))
}

pub(crate) fn list(v: &Value) -> &[Value] {
    v.as_array().unwrap_or_else(|| panic!("{v} is no list"))
}

pub(crate) fn floats(v: &Value) -> Vec<f64> {
    list(v).iter().map(f).collect()
}
