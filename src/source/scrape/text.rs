//! The text formats of a `/metrics` page: Prometheus 0.0.4 and OpenMetrics. A hundred lines of our own: of the two parsers
//! on the registry one is LGPL, the other brings chrono and regex and allocates every metric of the page, while a scrape
//! needs the few names its packs ask for.

use std::collections::BTreeSet;

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) labels: Vec<(String, String)>,
    pub(super) value: f64,
}

impl Row {
    /// The value of a label; the empty text if it is absent.
    pub(super) fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }
}

/// The rows with one of these names; like Prometheus, a page with one bad line is refused whole.
///
/// # Errors
/// The line that does not parse.
pub(super) fn rows(page: &str, names: &BTreeSet<String>) -> Result<Vec<Row>, String> {
    let mut out = Vec::new();
    for (number, line) in (1..).zip(page.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match row(line, names) {
            Some(Some(row)) => out.push(row),
            Some(None) => {}
            None => return Err(format!("line {number} is no metric: {:?}", line.chars().take(80).collect::<String>())),
        }
    }
    Ok(out)
}

/// `None` for a line that does not parse, `Some(None)` for one nobody asked for.
fn row(line: &str, names: &BTreeSet<String>) -> Option<Option<Row>> {
    let end = line.find(|c: char| c == '{' || c.is_whitespace())?;
    let (mut name, mut rest) = (line[..end].to_owned(), line[end..].trim_start());
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = label_pairs(inner, &mut name, &mut labels)?;
    }
    if name.is_empty() {
        return None;
    }
    let value = number(rest.split_whitespace().next()?)?;
    Some(names.contains(&name).then_some(Row { name, labels, value }))
}

/// Label pairs up to the closing brace; a quoted name alone is the metric's (UTF-8 names). What follows the brace.
fn label_pairs<'a>(mut rest: &'a str, metric: &mut String, labels: &mut Vec<(String, String)>) -> Option<&'a str> {
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            return Some(after);
        }
        let (label, after) = if rest.starts_with('"') {
            quoted(rest)?
        } else {
            let end = rest.find(|c: char| c == '=' || c.is_whitespace() || c == ',' || c == '}')?;
            (rest[..end].to_owned(), &rest[end..])
        };
        rest = after.trim_start();
        match rest.strip_prefix('=') {
            Some(value) => {
                let (value, after) = quoted(value.trim_start())?;
                labels.push((label, value));
                rest = after.trim_start();
            }
            None if metric.is_empty() => *metric = label,
            None => return None,
        }
        rest = match rest.strip_prefix(',') {
            Some(next) => next,
            None if rest.starts_with('}') => rest,
            None => return None,
        };
    }
}

/// A quoted text with its escapes, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut value = String::new();
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &inner[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            _ => value.push(c),
        }
    }
    None
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(page: &str) -> Result<Vec<Row>, String> {
        rows(page, &["a", "a_total", "b.c", "e_bucket"].map(str::to_owned).into())
    }

    #[test]
    fn both_formats() {
        let page = "# HELP a text with \"quotes\" {}\n# TYPE a counter\na 1\na{x=\"1\",y=\"a\\\"b\\\\c\\nd}\",} 2.5 1700000000000\n\
            a_total{x=\"é\"} 7 # {trace_id=\"q\"} 0.5\ne_bucket{le=\"+Inf\"} +Inf\n{\"b.c\",x=\"1\"} NaN\nother{z=\"1\"} 3\n# EOF\n";
        let all = read(page).unwrap();
        let short: Vec<_> = all.iter().map(|r| (r.name.as_str(), r.label("x"), r.value)).collect();
        assert_eq!(short[..4], [("a", "", 1.0), ("a", "1", 2.5), ("a_total", "é", 7.0), ("e_bucket", "", f64::INFINITY)]);
        assert_eq!(all[1].label("y"), "a\"b\\c\nd}");
        assert!(all[4].name == "b.c" && all[4].value.is_nan() && all.len() == 5);
    }

    #[test]
    fn a_page_of_a_real_envoy() {
        // Envoy 1.40, `/stats/prometheus` after 30 requests to two clusters of which one refuses connections; cut to these families
        let page = include_str!("../../../tests/data/envoy-1.40-stats.txt");
        let names = ["envoy_cluster_upstream_rq", "envoy_server_uptime", "envoy_cluster_upstream_rq_time_bucket"];
        let all = rows(page, &names.map(str::to_owned).into()).unwrap();
        let requests: Vec<_> = all.iter().filter(|r| r.name == names[0]).map(|r| (r.label("envoy_response_code"), r.value)).collect();
        assert_eq!(requests, [("200", 15.0), ("503", 15.0)]);
        let of_v1 = all.iter().filter(|r| r.name == names[2] && r.label("envoy_cluster_name") == "v1");
        assert_eq!(of_v1.map(|r| r.label("le")).collect::<Vec<_>>()[17..], ["1800000", "3600000", "+Inf"]);
    }

    #[test]
    fn a_page_with_a_bad_line_is_refused_whole() {
        for page in ["<html>", "a", "a{x=\"1\" 2", "a{x=1} 2", "a one", "a{x=\"1\",y} 2", "{x=\"1\"} 2", "{} 1", "a{x=\"1"] {
            let why = read(&format!("a 1\n{page}\n")).unwrap_err();
            assert!(why.starts_with("line 2 is no metric"), "{page}: {why}");
        }
    }
    proptest::proptest! {
        #[test]
        fn no_page_brings_it_down(page in "[a-z{}=\",\\\\# \n0-9é]{0,60}") {
            let _ = read(&page);
            let _ = crate::source::packs::select::Select::parse(&page);
            let _ = crate::source::recording::Recording::parse(&page);
        }
    }
}
