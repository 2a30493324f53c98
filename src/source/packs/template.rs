//! Templates of a pack: `{name}` for parameters and the fields of a workload, `normalise(...)`.

/// `{name}` replaced; what is not a name in braces stays. The error is the name nothing is known for.
pub(super) fn fill(template: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        let inner = &rest[at + 1..];
        let end =
            inner.find('}').filter(|end| *end > 0 && inner[..*end].chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'));
        match end {
            // regex counts such as {1,10} and {5} are no names
            Some(end) if !inner[..end].starts_with(|c: char| c.is_ascii_digit()) => {
                let name = &inner[..end];
                out.push_str(&value(name.trim_start_matches("params.")).ok_or_else(|| name.to_owned())?);
                rest = &inner[end + 1..];
            }
            _ => {
                out.push('{');
                rest = inner;
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// `normalise(text)` as Traefik does it: every run of other characters becomes one dash.
pub(super) fn normalised(value: &str) -> String {
    let Some((before, rest)) = value.split_once("normalise(") else { return value.to_owned() };
    let Some((inner, after)) = rest.split_once(')') else { return value.to_owned() };
    let words: Vec<&str> = inner.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).collect();
    format!("{before}{}{after}", words.join("-"))
}
