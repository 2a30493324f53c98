//! Levels: the expressions of a pack's `gauges`, read into their parts (PACKS 6). A level is one selector with `ARM` in its
//! braces, `rate(selector[window])` of one, or `max by (labels) (...)` of either. Kept in parts, for a directly scraped
//! page is computed from them, its freshness is asked of the same selector, and windows follow the method's time scale.
//!
//! What comes out is one value per process: the sum of what is left of it (its containers) after the `max by`.

use super::select::{Matcher, Select, label_name};
use std::time::Duration;

/// Shortest window asked for, however fast the method's clock runs.
const WINDOW_MIN: Duration = Duration::from_secs(1);

/// A built-in quantity that is a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// Cores per process.
    Cpu,
    /// Bytes per process, and their floor.
    Memory,
}

impl What {
    /// Both.
    pub const ALL: [What; 2] = [What::Cpu, What::Memory];

    /// Its name in a pack's `gauges`.
    pub const fn name(self) -> &'static str {
        match self {
            What::Cpu => "cpu",
            What::Memory => "memory",
        }
    }
}

/// An expression in its parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    /// The series, without the arm's matchers.
    pub select: Select,
    /// The window of `rate`; `None`: the series is a level itself.
    pub rate: Option<Duration>,
    /// Labels of `max by`: of several series that agree in these the largest counts; empty: every series counts.
    pub each: Vec<String>,
}

/// One level of one telemetry entry, as it is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct LevelAsked {
    /// Which quantity.
    pub what: What,
    /// How it is read.
    pub level: Level,
    /// Window of its minimum, where there is one.
    pub floor: Option<Duration>,
    /// Distance of its scrapes until it is seen.
    pub every: Option<Duration>,
}

impl Level {
    /// Reads an expression whose parameters are filled in.
    ///
    /// # Errors
    /// What is wrong, and which forms there are.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "{text:?} is no level this build reads: write metric{{ARM,...}}, rate(metric{{ARM,...}}[2m]), or \
                 max by (labels) (...) of either"
            )
        };
        let (each, inner) = match text.trim().strip_prefix("max by") {
            Some(rest) => {
                let (labels, inner) = rest.trim_start().strip_prefix('(').and_then(|r| r.split_once(')')).ok_or_else(bad)?;
                let labels: Vec<String> = labels.split(',').map(|l| l.trim().to_owned()).filter(|l| !l.is_empty()).collect();
                (labels, parenthesised(inner).ok_or_else(bad)?)
            }
            None => (Vec::new(), text.trim()),
        };
        let (rate, series) = match inner.strip_prefix("rate") {
            Some(rest) if rest.trim_start().starts_with('(') => {
                let inner = parenthesised(rest).ok_or_else(bad)?;
                let (series, window) = inner.strip_suffix(']').and_then(|i| i.rsplit_once('[')).ok_or_else(bad)?;
                (Some(duration(window).ok_or_else(bad)?), series)
            }
            _ => (None, inner),
        };
        let bare = without_arm(series).ok_or_else(bad)?;
        Ok(Self { select: Select::parse(&bare).map_err(|why| format!("{}: {why}", bad()))?, rate, each })
    }

    /// Now, per process, in PromQL; only of series that are there now: a window also holds those that ended in it.
    pub fn value(&self, by: &str, matchers: &[Matcher]) -> String {
        let series = self.select.with(matchers);
        match self.rate {
            Some(window) => self.summed(by, &format!("rate({series}[{}]) and {series}", promql(window))),
            None => self.summed(by, &series.to_string()),
        }
    }

    /// The minimum over a window, per process.
    pub fn floor(&self, by: &str, matchers: &[Matcher], window: Duration) -> String {
        let series = self.select.with(matchers);
        self.summed(by, &format!("min_over_time({series}[{}]) and {series}", promql(window)))
    }

    /// When each process' newest sample was taken.
    pub fn sampled(&self, by: &str, matchers: &[Matcher]) -> String {
        format!("max by ({by}) (timestamp({}))", self.select.with(matchers))
    }

    fn summed(&self, by: &str, of: &str) -> String {
        if self.each.is_empty() {
            return format!("sum by ({by}) ({of})");
        }
        let each: Vec<String> = self.each.iter().map(|l| label_name(l)).collect();
        format!("sum by ({by}) (max by ({}) ({of}))", each.join(", "))
    }

    /// The first of these labels that its `max by` drops.
    pub fn drops<'a>(&self, labels: &'a [String]) -> Option<&'a String> {
        labels.iter().find(|label| !self.each.is_empty() && !self.each.contains(label))
    }

    /// Windows of the method, at this time scale.
    pub fn scaled(mut self, scale: f64) -> Self {
        self.rate = self.rate.map(|window| scaled(window, scale));
        self
    }
}

/// A window of the method at this time scale: 30 makes minutes of two seconds.
pub fn scaled(window: Duration, scale: f64) -> Duration {
    let ms = window.as_secs_f64() * 1e3 / scale;
    Duration::from_millis(ms.round() as u64).max(WINDOW_MIN)
}

/// `2m`, `30s`, `500ms`, `24h`.
pub fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(at);
    let ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let ms = number.parse::<u64>().ok()?.checked_mul(ms)?;
    (ms > 0).then(|| Duration::from_millis(ms))
}

/// A duration as PromQL writes it.
pub fn promql(duration: Duration) -> String {
    let ms = duration.as_millis();
    if ms.is_multiple_of(1000) { format!("{}s", ms / 1000) } else { format!("{ms}ms") }
}

/// What one pair of parentheses holds, if the text is nothing else.
fn parenthesised(text: &str) -> Option<&str> {
    text.trim().strip_prefix('(')?.strip_suffix(')').map(str::trim)
}

/// The metric of an expression, whatever else there is to it.
pub fn metric(text: &str) -> Option<&str> {
    let before = text.split_once("{ARM")?.0;
    let begins = before.rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).map_or(0, |at| at + 1);
    Some(&before[begins..]).filter(|name| !name.is_empty())
}

/// A selector without the word that stands for the arm's matchers; `None` if it does not begin its braces.
fn without_arm(series: &str) -> Option<String> {
    let (name, inner) = series.split_once('{')?;
    let rest = inner.trim_start().strip_prefix("ARM")?.trim_start();
    rest.starts_with([',', '}']).then(|| format!("{name}{{{}", rest.trim_start_matches(',')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubernetes_packs_levels() {
        let cpu = Level::parse("max by (namespace, pod, container) (rate(c_total{ARM,image!=\"\",container!=\"POD\"}[2m]))").unwrap();
        assert_eq!((cpu.rate, cpu.each.len()), (Some(Duration::from_secs(120)), 3));
        let arm = [Matcher::any_of("pod", &["p"])];
        let series = r#"c_total{image!="",container!="POD",pod="p"}"#;
        let of = "sum by (namespace, pod) (max by (namespace, pod, container)";
        assert_eq!(cpu.value("namespace, pod", &arm), format!("{of} (rate({series}[120s]) and {series}))"));
        let floor = cpu.floor("namespace, pod", &arm, Duration::from_millis(1500));
        assert_eq!(floor, format!("{of} (min_over_time({series}[1500ms]) and {series}))"));
        assert_eq!(cpu.sampled("pod", &arm), format!("max by (pod) (timestamp({series}))"));
        assert_eq!(cpu.drops(&["pod".into(), "version".into()]), Some(&"version".to_owned()));
        assert_eq!(cpu.scaled(30.0).rate, Some(Duration::from_secs(4)));
    }

    #[test]
    fn a_bare_level() {
        let memory = Level::parse("process_resident_memory_bytes{ARM}").unwrap();
        assert_eq!(memory.value("instance", &[]), "sum by (instance) (process_resident_memory_bytes)");
        assert_eq!(memory.drops(&["version".into()]), None);
    }

    #[test]
    fn what_is_no_level_is_refused_with_the_forms_there_are() {
        for text in
            ["x", "x{a=\"b\"}", "sum(x{ARM})", "rate(x{ARM})", "rate(x{ARM}[2q])", "x{ARMY}", "max by (a) x{ARM}", "x{ARM,a}", "x{ARM} * 2"]
        {
            assert!(Level::parse(text).unwrap_err().contains("metric{ARM,...}"), "{text}");
        }
    }

    #[test]
    fn the_metric_of_an_expression() {
        assert_eq!(metric("max by (pod) (rate(c_total{ARM,{cadvisor}}[2m]))"), Some("c_total"));
        assert_eq!((metric("memory{ARM}"), metric("memory"), metric("({ARM})")), (Some("memory"), None, None));
    }

    #[test]
    fn durations() {
        assert_eq!((duration("10m"), duration("250ms")), (Some(Duration::from_secs(600)), Some(Duration::from_millis(250))));
        assert_eq!((duration("0s"), duration("m"), duration("5"), duration("99999999999999999d")), (None, None, None, None));
        assert_eq!((promql(Duration::from_secs(120)), scaled(Duration::from_secs(10), 1e3)), ("120s".to_owned(), WINDOW_MIN));
    }
}
