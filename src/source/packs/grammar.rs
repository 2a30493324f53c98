//! The data file of a pack, as serde reads it (PACKS 6). What is named here and not carried out by this build still parses:
//! `resolve.rs` says so at set-up, in words.

use super::level::duration;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// What a vantage point may not see.
const BLIND_TO: &[&str] = &["dead-pod", "no-endpoint", "panic"];
/// When series vanish besides `never` and after a time.
const VANISHES: &[&str] = &["on-delete", "on-config", "if-annotated"];

/// One pack.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Pack {
    /// Its name.
    pub pack: String,
    /// Values for `{name}`; a list is tried in order at set-up.
    #[serde(default)]
    pub params: BTreeMap<String, OneOrMany>,
    /// Metrics without which the pack has nothing to read.
    pub needs: Option<Needs>,
    /// Labels of the process that owns the counters.
    pub identity: Vec<String>,
    /// Where a process' start time is read.
    pub start: Option<Start>,
    /// When a living process drops a series.
    #[serde(default)]
    pub vanishes: Vanishes,
    /// Pushed at this interval: no staleness markers.
    pub push: Option<String>,
    /// Expected scrape interval.
    pub every: Option<String>,
    /// What this vantage point cannot see.
    #[serde(default)]
    pub blind_to: Vec<String>,
    /// Label to value template: together they name one arm.
    #[serde(default)]
    pub arm: BTreeMap<String, ArmValue>,
    /// Arm labels taken from another metric.
    pub join: Option<Join>,
    /// Counts by name; `requests`, `abandoned` and those of role orphans are read.
    #[serde(default)]
    pub counts: BTreeMap<String, CountsRule>,
    /// The latency histogram.
    pub latency: Option<Latency>,
    /// Levels.
    #[serde(default)]
    pub gauges: BTreeMap<String, Gauge>,
    /// What levels are a share of.
    #[serde(default)]
    pub denominators: BTreeMap<String, String>,
    /// Counters of mishaps.
    #[serde(default)]
    pub events: BTreeMap<String, EventRule>,
    /// Series that exist only while true.
    #[serde(default)]
    pub states: BTreeMap<String, String>,
    /// Form of the question.
    #[serde(default)]
    pub form: Form,
    /// Alternatives a rule chooses by name.
    #[serde(default)]
    pub variants: Variants,
}

impl Pack {
    /// Distance of its samples until it is seen.
    pub fn interval(&self) -> Option<Duration> {
        self.push.as_deref().or(self.every.as_deref()).and_then(duration)
    }
}

/// One value, or several to try in order.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// This one.
    One(String),
    /// The first that exists.
    Many(Vec<String>),
}

impl OneOrMany {
    /// All of them, in order.
    pub fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// Metrics without which there is nothing to read.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Needs {
    /// This one.
    One(String),
    /// One of these.
    Any {
        /// Their names.
        any: Vec<String>,
    },
}

impl Needs {
    /// Names, of which one must exist.
    pub fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Any { any } => any,
        }
    }
}

/// Where a process' start time is read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// A gauge of seconds since the start.
    Uptime(String),
    /// A gauge of the start, seconds since the epoch.
    Epoch(String),
    /// A new process always has a new identity.
    NewIdentity(bool),
}

/// When a living process drops a series.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum Vanishes {
    /// Never: a fall is a restart.
    #[default]
    Never,
    /// After that idle time, or on that event: a fall proves nothing.
    When(String),
}

impl From<String> for Vanishes {
    fn from(s: String) -> Self {
        if s == "never" { Self::Never } else { Self::When(s) }
    }
}

/// The template of one arm label.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum ArmValue {
    /// The same for both arms.
    Both(String),
    /// One each.
    Each {
        /// The baseline's.
        baseline: String,
        /// The canary's.
        canary: String,
    },
}

/// Arm labels taken from another metric.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// The metric.
    pub metric: String,
    /// Labels both have.
    pub on: Vec<String>,
    /// Labels taken.
    pub take: Vec<String>,
}

/// One kind of counts.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CountsRule {
    /// Selector; the first that exists.
    pub from: OneOrMany,
    /// Labels that make classes.
    #[serde(default)]
    pub keep: Vec<String>,
    /// Which classes are bad or left out; the first match wins, no match is good.
    #[serde(default)]
    pub class: Vec<ClassRule>,
    /// Further selectors whose counts are all bad.
    #[serde(default)]
    pub also: Vec<Also>,
    /// What it is for.
    #[serde(default)]
    pub role: Role,
    /// Own arm labels.
    pub arm: Option<BTreeMap<String, ArmValue>>,
}

/// A further selector.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Also {
    /// Always read.
    Always(String),
    /// Read where parameters have these values.
    When {
        /// The selector.
        from: String,
        /// Parameter to value.
        when: BTreeMap<String, String>,
    },
}

impl Also {
    /// The selector.
    pub fn from(&self) -> &str {
        match self {
            Self::Always(from) | Self::When { from, .. } => from,
        }
    }
}

/// What counts are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Judged.
    #[default]
    Errors,
    /// Shown.
    Info,
    /// Of the service, of no arm.
    Orphans,
}

/// Labels that must all match, and what the class then is.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ClassRule {
    /// The verdict.
    pub is: Outcome,
    /// Label to anchored regex, or a set such as `@grpc-bad`.
    #[serde(flatten)]
    pub labels: BTreeMap<String, String>,
}

/// What a class of requests is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Counts as failed.
    Bad,
    /// Counts.
    Good,
    /// Does not count.
    Skip,
}

/// The latency histogram, or `none`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Latency {
    /// There is one.
    Histogram(Histogram),
    /// `none`.
    None(String),
}

/// A histogram.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Histogram {
    /// Its name without `_bucket`, with matchers if need be; the first that exists.
    pub from: OneOrMany,
    /// Unit of its bounds.
    pub unit: Unit,
    /// Classic or native.
    #[serde(default)]
    pub kind: Kind,
}

/// Unit of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Seconds.
    S,
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Us,
}

impl Unit {
    /// Milliseconds in one.
    pub const fn in_ms(self) -> f64 {
        match self {
            Self::S => 1e3,
            Self::Ms => 1.0,
            Self::Us => 1e-3,
        }
    }
}

/// Kind of a histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// What is there.
    #[default]
    Auto,
    /// `_bucket` series.
    Classic,
    /// Exponential buckets inside one sample.
    Native,
}

/// A level; those named `cpu` and `memory` are read.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gauge {
    /// Expression with `ARM` where the arm's matchers go, in one of the forms of [`super::level`].
    pub of: String,
    /// Its unit.
    pub unit: String,
    /// Window of its minimum.
    pub floor: Option<String>,
}

/// A counter of mishaps.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventRule {
    /// Selector with `ARM`.
    pub from: String,
    /// Labels kept.
    #[serde(default)]
    pub keep: Vec<String>,
    /// Counted only after this.
    pub after: Option<String>,
}

/// Form of the question (PACKS 1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// The process form.
    #[default]
    Auto,
    /// Sums per process.
    Process,
    /// Every series.
    Series,
    /// Differenced inside Prometheus.
    Delta,
    /// Raw samples.
    Window,
}

/// An alternative within a pack.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// As in the pack.
    pub needs: Option<Needs>,
    /// As in the pack.
    pub arm: Option<BTreeMap<String, ArmValue>>,
    /// As in the pack.
    #[serde(default)]
    pub counts: BTreeMap<String, CountsRule>,
    /// As in the pack.
    pub latency: Option<Latency>,
    /// As in the pack.
    #[serde(default)]
    pub events: BTreeMap<String, EventRule>,
}

/// Variants in the order of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Variants(Vec<(String, Variant)>);

impl Variants {
    /// Names and variants.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Variant)> {
        self.0.iter().map(|(name, variant)| (name.as_str(), variant))
    }

    /// All of their names.
    pub fn names(&self) -> String {
        self.iter().map(|(name, _)| name).collect::<Vec<_>>().join(", ")
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for Variants {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Variants;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("variants by name")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Variants, A::Error> {
                let mut all = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    all.push(entry);
                }
                Ok(Variants(all))
            }
        }
        d.deserialize_map(InOrder)
    }
}

/// Reads one pack.
///
/// # Errors
/// The parser's text, with line and column; or every word of the pack that the grammar does not know.
pub fn parse(text: &str) -> Result<Pack, String> {
    let options = serde_saphyr::options! { strict_booleans: true };
    let pack: Pack = serde_saphyr::from_str_with_options(text, options).map_err(|e| e.to_string())?;
    let faults = faults(&pack);
    if faults.is_empty() { Ok(pack) } else { Err(format!("pack {}: {}", pack.pack, faults.join("; "))) }
}

/// Words that no type holds back.
fn faults(pack: &Pack) -> Vec<String> {
    let mut faults = Vec::new();
    if pack.identity.is_empty() {
        faults.push("identity is empty: name the labels of the process that owns the counters".to_owned());
    }
    for word in pack.blind_to.iter().filter(|word| !BLIND_TO.contains(&word.as_str())) {
        faults.push(format!("blind-to {word:?} is none of {}", BLIND_TO.join(", ")));
    }
    if let Vanishes::When(when) = &pack.vanishes
        && duration(when).is_none()
        && !VANISHES.contains(&when.as_str())
    {
        faults.push(format!("vanishes {when:?} is neither never, a time such as 5m, nor one of {}", VANISHES.join(", ")));
    }
    for (key, text) in [("push", &pack.push), ("every", &pack.every)] {
        if let Some(text) = text.as_ref().filter(|text| duration(text).is_none()) {
            faults.push(format!("{key} {text:?} is no time such as 60s"));
        }
    }
    let counts = pack.counts.iter().chain(pack.variants.iter().flat_map(|(_, v)| &v.counts));
    for param in counts.flat_map(|(_, c)| &c.also).filter_map(|also| if let Also::When { when, .. } = also { Some(when) } else { None }) {
        for name in param.keys().filter(|name| !pack.params.contains_key(*name)) {
            faults.push(format!("when: there is no parameter {name:?}"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_packs_say_what_they_should() {
        let envoy = parse(include_str!("envoy.yaml")).unwrap();
        assert_eq!(envoy.start, Some(Start::Uptime("envoy_server_uptime".into())));
        assert_eq!(envoy.counts["requests"].class[0].is, Outcome::Bad);
        assert_eq!(envoy.counts["requests"].class[0].labels["{code-label}"], "5..");
        assert_eq!(envoy.counts["abandoned"].role, Role::Info);
        let http = parse(include_str!("http.yaml")).unwrap();
        assert_eq!(http.params["status"].all().len(), 4);
        assert!(matches!(http.needs, Some(Needs::Any { ref any }) if any.len() == 3));
        let kubernetes = parse(include_str!("kubernetes.yaml")).unwrap();
        assert_eq!((kubernetes.gauges["memory"].floor.as_deref(), kubernetes.gauges["cpu"].unit.as_str()), (Some("10m"), "cores"));
        assert_eq!((kubernetes.denominators.len(), kubernetes.every.as_deref()), (2, Some("30s")));
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(parse("pack: x\nidentity: [a]\nlatencies: none\n").unwrap_err().contains("latencies"));
        assert!(parse("pack: x\nidentity: [a]\ncounts: { requests: { from: a, keeps: [b] } }\n").is_err());
    }

    #[test]
    fn words_that_no_type_holds_back_are_refused_all_at_once() {
        let text = "pack: x\nidentity: []\npush: soon\nevery: 30s\nvanishes: nevr\nblind-to: [panics]\n\
            counts: { requests: { from: m, also: [ { from: n, when: { reporter: a } } ] } }\n";
        let why = parse(text).unwrap_err();
        for word in ["identity is empty", "push \"soon\"", "vanishes \"nevr\"", "blind-to \"panics\"", "no parameter \"reporter\""] {
            assert!(why.contains(word), "{word}: {why}");
        }
        assert!(!why.contains("every"), "{why}");
    }

    #[test]
    fn variants_keep_their_order() {
        let pack = parse("pack: x\nidentity: [a]\nvariants: { z: { needs: m }, a: { needs: n } }\n").unwrap();
        assert_eq!(pack.variants.names(), "z, a");
    }

    #[test]
    fn what_the_grammar_names_and_this_build_does_not_run_still_parses() {
        let text = "pack: x\nidentity: [a]\npush: 60s\nvanishes: 5m\nstart: { new-identity: true }\nform: delta\n\
            join: { metric: target_info, on: [job], take: [w] }\nlatency: none\n\
            arm: { canary: { baseline: '', canary: 'c' }, pod: 'pods()' }\n\
            gauges: { cpu: { of: 'x{ARM}', unit: cores } }\nstates: { oom: 'y{ARM} == 1' }\n\
            variants: { one: { needs: m, counts: { requests: { from: m, also: [n] } } } }\n";
        let pack = parse(text).unwrap();
        assert_eq!(pack.vanishes, Vanishes::When("5m".into()));
        assert_eq!(pack.latency, Some(Latency::None("none".into())));
    }
}
