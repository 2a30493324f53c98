//! The page of `/metrics`. prometheus-client writes OpenMetrics, where a counter's family is named without `_total`;
//! readers of the older text format (among them `promtool check metrics`) need it with it, or see untyped series.

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

pub(super) fn openmetrics(registry: &Registry) -> String {
    let mut page = String::with_capacity(16 * 1024);
    // writing to a String cannot fail; a family that cannot write itself leaves a page cut short, which scrapers notice
    if let Err(error) = encode(&mut page, registry) {
        tracing::error!(%error, "metrics cannot be written");
    }
    page
}

/// The same page in the text format 0.0.4.
pub(super) fn text(openmetrics: &str) -> String {
    let mut page = String::with_capacity(openmetrics.len() + 1024);
    let mut lines = openmetrics.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        // HELP comes before TYPE: look ahead whether it belongs to a counter
        let counter = is_counter(line) || line.starts_with("# HELP ") && lines.peek().is_some_and(|next| is_counter(next));
        match line.splitn(4, ' ').collect::<Vec<_>>().as_slice() {
            [hash, kind, name, rest] if counter => page.push_str(&format!("{hash} {kind} {name}_total {rest}")),
            _ => page.push_str(line),
        }
        page.push('\n');
    }
    page
}

fn is_counter(line: &str) -> bool {
    line.starts_with("# TYPE ") && line.ends_with(" counter")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_has_one_name_in_the_text_format() {
        let page = "# HELP a_b Words.\n# TYPE a_b counter\na_b_total{x=\"1\"} 2\n# HELP g More words.\n# TYPE g gauge\ng 1\n# EOF\n";
        let want = "# HELP a_b_total Words.\n# TYPE a_b_total counter\na_b_total{x=\"1\"} 2\n# HELP g More words.\n# TYPE g gauge\ng 1\n";
        assert_eq!(text(page), want);
    }
}
