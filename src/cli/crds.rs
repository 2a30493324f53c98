//! `canaryd crds`: the custom resource definitions of this build.

use super::failure::Failure;
use super::output::{self, OutputArgs};
use crate::app;
use serde_json::{Value, json};
use std::fmt::Write;

/// What `crds` was asked.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    output: OutputArgs,
}

/// Prints them as YAML documents, or as one JSON list.
pub(super) fn run(args: Args) -> Result<(), Failure> {
    let all = app::definitions();
    if args.output.json() {
        return output::write_json(&json!({ "apiVersion": "v1", "kind": "List", "items": all }));
    }
    let mut text = "# Made by `canaryd crds`; a test holds this to the code.\n".to_owned();
    for definition in &all {
        text += "---\n";
        yaml(definition, 0, &mut text);
    }
    output::write(&text)
}

/// Block YAML that readers of 1.1 and of 1.2 understand alike: every text that is not a plain word stands in quotes.
fn yaml(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, inner) in fields {
                // writing into a text cannot fail
                let _ = write!(out, "{:1$}{2}:", "", depth * 2, scalar(&Value::from(key.as_str())));
                below(inner, depth, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let mut text = String::new();
                yaml(item, depth + 1, &mut text);
                // the dash takes the place of the first line's indentation
                let _ = write!(out, "{:1$}- {2}", "", depth * 2, text.trim_start());
            }
        }
        plain => {
            let _ = writeln!(out, "{:1$}{2}", "", depth * 2, scalar(plain));
        }
    }
}

/// The value behind a key: on its line, or below it.
fn below(value: &Value, depth: usize, out: &mut String) {
    let nested = match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    if nested {
        out.push('\n');
        yaml(value, depth + 1, out);
    } else {
        let _ = writeln!(out, " {}", scalar(value));
    }
}

/// A plain word, or as JSON, which is YAML too.
fn scalar(value: &Value) -> String {
    const NOT_TEXT: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    let plain = |text: &str| {
        let begins = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
        let word = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-./".contains(&b));
        begins && word && !NOT_TEXT.contains(&text.to_ascii_lowercase().as_str())
    };
    match value {
        Value::String(text) if plain(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_yaml_says_what_the_json_says() {
        let value = json!({
            "on": [{ "a": 1, "b": [true, "true", "no", "x: y", ""] }, [["deep"]], {}, []],
            "text": "with \"quotes\", \\ and\na line", "plain": "v1.2/x", "n": 1.5, "nothing": null, "nested": { "k": { "l": "\\S" } },
        });
        let mut text = String::new();
        yaml(&value, 0, &mut text);
        let options = serde_saphyr::options! { strict_booleans: true };
        let read: Value = serde_saphyr::from_str_with_options(&text, options).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(read, value, "{text}");
        assert!(text.contains("\"on\":") && text.contains("- \"no\""), "{text}");
    }
}
