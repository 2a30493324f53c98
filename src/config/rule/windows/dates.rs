//! A file of dates beside a rule (`{ dates: holidays.txt }`): one date or range on each line, `#` begins a comment.

use super::words;
use crate::config::{Problem, Report};
use crate::model::calendar::Span;

/// The dates in a file's text. `name` is what the rule calls it, `file` where it lies, for what is told.
///
/// # Errors
/// Every line that is neither date nor range nor comment; a file without any date, which would open what it was to close.
pub(super) fn dates(text: &str, name: &str, file: &str) -> Result<Vec<Span>, Report> {
    let mut report = Report::default();
    let mut spans = Vec::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let words = line.split_once('#').map_or(line, |(words, _)| words).trim();
        if words.is_empty() {
            continue;
        }
        match words::dates(words) {
            Ok(when) => spans.push(Span { words: format!("{name}: {words}"), when }),
            Err(wrong) => report.problems.push(problem(file, index as u64 + 1, wrong.what, wrong.way_out)),
        }
    }
    if spans.is_empty() && report.is_empty() {
        report.problems.push(problem(file, 0, "has no date".to_owned(), "write one date or range on each line".to_owned()));
    }
    report.or(Some(spans))
}

fn problem(file: &str, line: u64, what: String, way_out: String) -> Problem {
    Problem { file: file.to_owned(), line, path: String::new(), what, way_out }
}
