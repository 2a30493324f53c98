//! Selectors: a metric name and matchers, read from a pack or a rule, written as PromQL, and matched against rows of a
//! directly scraped page.

use regex_lite::Regex;
use std::fmt::{self, Write};

/// How a label is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `=`
    Is,
    /// `!=`
    IsNot,
    /// `=~`
    Matches,
    /// `!~`
    MatchesNot,
}

/// One matcher.
#[derive(Clone, Debug)]
pub struct Matcher {
    /// The label.
    pub label: String,
    /// The comparison.
    pub op: Op,
    /// The value, or an anchored regex.
    pub value: String,
    regex: Option<Regex>,
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.label, self.op, &self.value) == (&other.label, other.op, &other.value)
    }
}

impl Matcher {
    /// # Errors
    /// A regex that does not parse.
    pub fn new(label: impl Into<String>, op: Op, value: impl Into<String>) -> Result<Self, String> {
        let (label, value) = (label.into(), value.into());
        let regex = match op {
            Op::Is | Op::IsNot => None,
            Op::Matches | Op::MatchesNot => Some(anchored(&value)?),
        };
        Ok(Self { label, op, value, regex })
    }

    /// The label has one of these values; exact, whatever characters they hold. Sorted and without doubles: the same
    /// question is written the same way.
    pub fn any_of(label: impl Into<String>, values: &[&str]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let label = label.into();
        if let [one] = sorted[..] {
            return Self { label, op: Op::Is, value: one.to_owned(), regex: None };
        }
        let value = sorted.iter().map(|v| escape_regex(v)).collect::<Vec<_>>().join("|");
        let regex = anchored(&value).ok();
        Self { label, op: Op::Matches, value, regex }
    }

    /// Does a series with this value of the label match? An absent label is the empty text.
    pub fn matches(&self, value: &str) -> bool {
        let by_regex = || self.regex.as_ref().is_some_and(|r| r.is_match(value));
        match self.op {
            Op::Is => value == self.value,
            Op::IsNot => value != self.value,
            Op::Matches => by_regex(),
            Op::MatchesNot => !by_regex(),
        }
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let op = match self.op {
            Op::Is => "=",
            Op::IsNot => "!=",
            Op::Matches => "=~",
            Op::MatchesNot => "!~",
        };
        write!(f, "{}{op}{}", label_name(&self.label), quoted(&self.value))
    }
}

/// A metric and its matchers.
#[derive(Clone, Debug, PartialEq)]
pub struct Select {
    /// The metric.
    pub name: String,
    /// All must match.
    pub matchers: Vec<Matcher>,
}

impl Select {
    /// Reads `name`, `name{a="b",c=~"d"}` or `{a="b"}`.
    ///
    /// # Errors
    /// What is wrong and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (name, rest) = text.find('{').map_or((text, ""), |at| text.split_at(at));
        let name = name.trim();
        if name.contains(|c: char| c.is_whitespace() || "()[]}\"'".contains(c)) {
            return Err(format!("{text:?} is no selector: a metric name, then matchers in braces"));
        }
        let inner = match rest {
            "" => "",
            _ => rest.strip_prefix('{').and_then(|r| r.strip_suffix('}')).ok_or_else(|| format!("{text:?}: the braces do not close"))?,
        };
        Ok(Self { name: name.to_owned(), matchers: matchers(inner)? })
    }

    /// With more matchers.
    #[must_use]
    pub fn with(&self, more: &[Matcher]) -> Self {
        let mut all = self.clone();
        all.matchers.extend_from_slice(more);
        all
    }

    /// The same matchers on another metric: `x` to `x_bucket`.
    #[must_use]
    pub fn suffixed(&self, suffix: &str) -> Self {
        Self { name: format!("{}{suffix}", self.name), matchers: self.matchers.clone() }
    }
}

impl fmt::Display for Select {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = is_name(&self.name, true);
        if plain {
            f.write_str(&self.name)?;
        }
        if plain && self.matchers.is_empty() {
            return Ok(());
        }
        f.write_char('{')?;
        let mut first = true;
        if !plain && !self.name.is_empty() {
            // a UTF-8 name stands inside the braces, quoted
            write!(f, "{}", quoted(&self.name))?;
            first = false;
        }
        for matcher in &self.matchers {
            if !std::mem::take(&mut first) {
                f.write_char(',')?;
            }
            write!(f, "{matcher}")?;
        }
        f.write_char('}')
    }
}

/// Reads `a="b", c=~"d"`.
///
/// # Errors
/// What is wrong.
pub fn matchers(text: &str) -> Result<Vec<Matcher>, String> {
    let mut out = Vec::new();
    let mut rest = text.trim().trim_start_matches(|c: char| c == ',' || c.is_whitespace());
    while !rest.is_empty() {
        let bad = || format!("{text:?}: expected label=\"value\" at {rest:?}");
        let at = rest.find(['=', '!']).ok_or_else(bad)?;
        let (label, tail) = rest.split_at(at);
        let (op, tail) = [("=~", Op::Matches), ("!~", Op::MatchesNot), ("!=", Op::IsNot), ("=", Op::Is)]
            .into_iter()
            .find_map(|(sign, op)| tail.strip_prefix(sign).map(|t| (op, t)))
            .ok_or_else(bad)?;
        let (value, tail) = unquote(tail.trim_start()).ok_or_else(bad)?;
        let label = label.trim().trim_matches('"');
        if label.is_empty() {
            return Err(bad());
        }
        out.push(Matcher::new(label, op, value)?);
        rest = tail.trim_start();
        rest = match rest.strip_prefix(',') {
            Some(next) => next.trim_start_matches(|c: char| c == ',' || c.is_whitespace()),
            None if rest.is_empty() => rest,
            None => return Err(format!("{text:?}: expected a comma at {rest:?}")),
        };
    }
    Ok(out)
}

/// A quoted text at the start, and what follows it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|c| *c == '"' || *c == '\'')?;
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                't' => '\t',
                other => other,
            }),
            _ if c == quote => return Some((value, &text[at + 1..])),
            _ => value.push(c),
        }
    }
    None
}

/// A regex that must match the whole value, as Prometheus does.
///
/// # Errors
/// It does not parse.
pub fn anchored(pattern: &str) -> Result<Regex, String> {
    Regex::new(&format!("^(?s:{pattern})$")).map_err(|e| format!("regex {pattern:?}: {e}"))
}

/// The text as a regex that matches only it.
pub fn escape_regex(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if r".+*?()|[]{}^$\".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// The text as a PromQL string.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}

fn is_name(name: &str, metric: bool) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || (metric && c == ':'))
}

/// A label name as it may stand in a query: quoted if it is not a plain name.
pub fn label_name(name: &str) -> String {
    if is_name(name, false) { name.to_owned() } else { quoted(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_is_read_and_written_the_same() {
        for text in ["x", r#"x{a="b"}"#, r#"istio{reporter="source",flags=~".*UF.*",code!="0",z!~"q|r"}"#] {
            assert_eq!(Select::parse(text).unwrap().to_string(), text);
        }
        let dotted = Select { name: "http.server.count".into(), matchers: vec![Matcher::any_of("service.name", &["a"])] };
        assert_eq!(dotted.to_string(), r#"{"http.server.count","service.name"="a"}"#);
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in ["sum(x)", "x{a}", "x{a=b}", r#"x{a="b""#, r#"x{a="b" c="d"}"#, "rate(x[5m])", r#"x{a=~"("}"#] {
            assert!(Select::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn values_are_matched_exactly_whatever_they_hold() {
        let m = Matcher::any_of("ns", &["team.a", "b+c", "team.a", r"d\e"]);
        assert_eq!(m.to_string(), r#"ns=~"b\\+c|d\\\\e|team\\.a""#);
        assert!(m.matches("team.a") && m.matches("b+c") && m.matches(r"d\e"));
        assert!(!m.matches("teamxa") && !m.matches("bbc") && !m.matches(""));
        assert_eq!(Matcher::any_of("ns", &["a.b"]).to_string(), r#"ns="a.b""#);
        assert_eq!(Matcher::any_of("c", &["", "x"]).to_string(), r#"c=~"|x""#);
        assert!(Matcher::any_of("c", &["", "x"]).matches(""));
    }
}
