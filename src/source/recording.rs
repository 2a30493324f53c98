//! Rollouts as files of JSON lines: what `canaryd replay` and the tests read, and what a live rollout can be saved as.
//!
//! ```text
//! {"canaryd-recording":1,"interval-s":15,"bounds-ms":[5,10,25],"rule":"chatbot","start":"2026-11-21T10:00:00Z"}
//! {"history":{"requests":[100,null,98],"errors":[0,null,1],"buckets":[[90,95,99,100],null,[88,94,97,98]]}}
//! {"t":15,"step":0,"baseline":{"requests":100,"errors":1,"buckets":[90,95,99,100],"pods":3},"canary":null}
//! ```
//!
//! - **Header**, the first line: `interval-s` (seconds, > 0), `bounds-ms` (upper bounds of the latency buckets, ascending,
//!   without `+Inf`; may be empty), `rule` (name, optional), `start` (RFC 3339; the start of the first interval).
//! - **History**, optional, the second line: the baseline's past, one entry per poll, oldest first, `null` where a poll is
//!   missing. `requests`, `errors`, `buckets` are increments; `cpu`, `memory`, `leak` A/A log-ratios that end with the last
//!   poll; `load` is `{"rate": [..], "cpu": [..]}`, 24 h in 5-min steps. Each may be absent.
//! - **A tick a line**: `t` = seconds from `start` to the END of the interval, ascending; `step` = index into the rule's
//!   steps (optional: the reader's own clock decides); each arm `null` (not scraped) or an object whose members may each be
//!   null or absent (not read): `requests`, `errors`, `abandoned` and `buckets` (cumulative in the bound, `+Inf` last) are
//!   increments since that arm's last good reading; `cpu` (cores), `memory`, `floor` (bytes) levels per pod; `pods`.
//!
//! Empty lines and lines that start with `#` are skipped. Unknown members are refused.

use crate::model::{Arm, ArmSample, BOUNDS_MAX, Blind, Buckets, Counts, History, LoadHistory, PerArm, Reading, Timestamp};
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::time::Duration;

/// The version this build writes and reads.
const VERSION: u32 = 1;

/// The first line.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// Length of a tick.
    pub interval: Duration,
    /// Upper bounds of the latency buckets, ms, ascending, without `+Inf`.
    pub bounds_ms: Vec<f64>,
    /// Name of the rule it was made with.
    pub rule: Option<String>,
    /// Start of the first interval.
    pub start: Timestamp,
}

/// One tick.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedTick {
    /// The end of its interval.
    pub at: Timestamp,
    /// The step then, if it was written down.
    pub step: Option<u32>,
    /// Both arms.
    pub arms: PerArm<ArmSample>,
}

/// A whole recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// Its first line.
    pub header: Header,
    /// The baseline's past; empty if there is none.
    pub history: History,
    /// Ticks, ascending in time.
    pub ticks: Vec<RecordedTick>,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct Problem {
    /// 1-based.
    pub line: usize,
    /// What.
    pub why: String,
}

/// The first line as JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct HeaderLine {
    canaryd_recording: u32,
    interval_s: f64,
    bounds_ms: Vec<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    start: String,
}

/// The history line as JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryLine {
    history: HistoryJson,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HistoryJson {
    requests: Vec<Option<f64>>,
    errors: Vec<Option<f64>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    buckets: Vec<Option<Vec<f64>>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cpu: Vec<Option<f64>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    memory: Vec<Option<f64>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    leak: Vec<Option<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    load: Option<LoadJson>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LoadJson {
    rate: Vec<f64>,
    cpu: Vec<f64>,
}

/// A tick as JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TickLine {
    t: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    step: Option<u32>,
    baseline: Option<ArmJson>,
    canary: Option<ArmJson>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ArmJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    requests: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    buckets: Option<Vec<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    abandoned: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    floor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pods: Option<u32>,
}

impl Recording {
    /// Reads a whole file's text.
    ///
    /// # Errors
    /// Every problem found, with its line.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        let lines = (1..).zip(text.lines()).filter(|(_, l)| !l.trim().is_empty() && !l.trim_start().starts_with('#'));
        let mut lines = lines.peekable();
        let problem = |line: usize, why: String| Problem { line, why };
        let Some((number, first)) = lines.next() else {
            return Err(vec![problem(1, "the file is empty: its first line must be {\"canaryd-recording\":1, ...}".to_owned())]);
        };
        let header = Header::parse(first).map_err(|why| vec![problem(number, why)])?;
        let mut problems = Vec::new();
        let mut history = History::default();
        if let Some((number, line)) = lines.next_if(|(_, l)| l.trim_start().starts_with("{\"history\"")) {
            match json(line).and_then(|line: HistoryLine| line.history.read(header.bounds_ms.len())) {
                Ok(read) => history = read,
                Err(why) => problems.push(problem(number, why)),
            }
        }
        let mut ticks: Vec<RecordedTick> = Vec::new();
        for (number, line) in lines {
            let tick = json(line).and_then(|line: TickLine| line.read(&header));
            let ordered = tick.and_then(|tick| match ticks.last() {
                Some(last) if tick.at <= last.at => Err(format!("t {} is not after the tick before it", header.t(tick.at))),
                _ => Ok(tick),
            });
            match ordered {
                Ok(tick) => ticks.push(tick),
                Err(why) => problems.push(problem(number, why)),
            }
        }
        if problems.is_empty() { Ok(Self { header, history, ticks }) } else { Err(problems) }
    }

    /// Writes it so that [`Recording::parse`] gives the same again (reasons of blindness are not kept: they come back as
    /// `no-series` for an arm that is null and `not-asked` for a member that is absent).
    ///
    /// # Errors
    /// The writer's.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        self.header.write(out)?;
        if self.history != History::default() {
            write_line(out, &HistoryLine { history: HistoryJson::of(&self.history) })?;
        }
        self.ticks.iter().try_for_each(|tick| tick.write(&self.header, out))
    }
}

impl Header {
    fn parse(line: &str) -> Result<Self, String> {
        let line: HeaderLine = json(line)?;
        if line.canaryd_recording != VERSION {
            return Err(format!("canaryd-recording is {}, this build reads {VERSION}", line.canaryd_recording));
        }
        let interval = Duration::try_from_secs_f64(line.interval_s).ok().filter(|i| *i >= Duration::from_millis(1));
        let interval = interval.ok_or_else(|| format!("interval-s {} is not a positive number of seconds", line.interval_s))?;
        let ascending = line.bounds_ms.windows(2).all(|w| w[0] < w[1]) && line.bounds_ms.iter().all(|b| b.is_finite() && *b >= 0.0);
        if !ascending || line.bounds_ms.len() > BOUNDS_MAX {
            return Err(format!("bounds-ms must be at most {BOUNDS_MAX} numbers, ascending, from 0 up, without +Inf"));
        }
        let start: jiff::Timestamp = line.start.parse().map_err(|e| format!("start {:?}: {e}", line.start))?;
        let start = Timestamp::from_millis(start.as_millisecond());
        Ok(Self { interval, bounds_ms: line.bounds_ms, rule: line.rule, start })
    }

    /// Writes the first line: a live recording begins with it and goes on with [`RecordedTick::write`].
    ///
    /// # Errors
    /// The writer's.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let start = jiff::Timestamp::from_millisecond(self.start.as_millis()).map_err(io::Error::other)?;
        let line = HeaderLine {
            canaryd_recording: VERSION,
            interval_s: self.interval.as_secs_f64(),
            bounds_ms: self.bounds_ms.clone(),
            rule: self.rule.clone(),
            start: start.to_string(),
        };
        write_line(out, &line)
    }

    /// Seconds from the start.
    fn t(&self, at: Timestamp) -> f64 {
        (at.as_millis() - self.start.as_millis()) as f64 / 1e3
    }
}

impl RecordedTick {
    /// Writes one tick's line.
    ///
    /// # Errors
    /// The writer's.
    pub fn write(&self, header: &Header, out: &mut impl Write) -> io::Result<()> {
        let line = TickLine {
            t: header.t(self.at),
            step: self.step,
            baseline: ArmJson::of(&self.arms[Arm::Baseline]),
            canary: ArmJson::of(&self.arms[Arm::Canary]),
        };
        write_line(out, &line)
    }
}

impl TickLine {
    fn read(self, header: &Header) -> Result<RecordedTick, String> {
        let since = Duration::try_from_secs_f64(self.t).map_err(|_| format!("t {} is not a time after the start", self.t))?;
        let arm = |arm: Option<ArmJson>, name: &str| match arm {
            None => Ok(ArmSample::blind(Blind::NoSeries)),
            Some(arm) => arm.read(header.bounds_ms.len()).map_err(|why| format!("{name}: {why}")),
        };
        let arms = PerArm { baseline: arm(self.baseline, "baseline")?, canary: arm(self.canary, "canary")? };
        let millis = Duration::from_millis((since.as_secs_f64() * 1e3).round() as u64);
        Ok(RecordedTick { at: header.start + millis, step: self.step, arms })
    }
}

impl ArmJson {
    fn read(self, bounds: usize) -> Result<ArmSample, String> {
        let level = |name: &str, v: Option<f64>| match v {
            Some(v) => count(name, v).map(Ok),
            None => Ok(Err(Blind::NotAsked)),
        };
        Ok(ArmSample {
            requests: counts(self.requests, self.errors)?.ok_or(Blind::NotAsked),
            abandoned: level("abandoned", self.abandoned)?,
            buckets: self.buckets.map(|b| buckets(&b, bounds)).transpose()?.ok_or(Blind::NotAsked),
            cpu: level("cpu", self.cpu)?,
            memory: level("memory", self.memory)?,
            floor: level("floor", self.floor)?,
            pods: self.pods,
            ..ArmSample::blind(Blind::NotAsked)
        })
    }

    /// `None` for an arm nothing of which was read.
    fn of(arm: &ArmSample) -> Option<Self> {
        let read = |reading: &Reading<f64>| reading.ok();
        let line = Self {
            requests: arm.requests.ok().map(|c| c.total),
            errors: arm.requests.ok().map(|c| c.bad),
            buckets: arm.buckets.as_ref().ok().map(|b| b.to_vec()),
            abandoned: read(&arm.abandoned),
            cpu: read(&arm.cpu),
            memory: read(&arm.memory),
            floor: read(&arm.floor),
            pods: arm.pods,
        };
        let anything = line.requests.is_some() || line.buckets.is_some() || [line.cpu, line.memory, line.floor].iter().any(Option::is_some);
        (anything || line.abandoned.is_some() || line.pods.is_some()).then_some(line)
    }
}

impl HistoryJson {
    fn read(self, bounds: usize) -> Result<History, String> {
        if self.requests.len() != self.errors.len() {
            return Err(format!("history: {} requests and {} errors", self.requests.len(), self.errors.len()));
        }
        let pair = |(n, x)| counts(n, x).map_err(|why| format!("history: {why}"));
        let requests = self.requests.into_iter().zip(self.errors).map(pair).collect::<Result<_, _>>()?;
        let bucket = |b: Option<Vec<f64>>| b.map(|b| buckets(&b, bounds)).transpose().map_err(|why| format!("history: {why}"));
        let load = self.load.map(|l| LoadHistory { rate: l.rate, cpu: l.cpu });
        if load.as_ref().is_some_and(|l| l.rate.len() != l.cpu.len()) {
            return Err("history: load.rate and load.cpu differ in length".to_owned());
        }
        Ok(History {
            requests,
            buckets: self.buckets.into_iter().map(bucket).collect::<Result<_, _>>()?,
            cpu: self.cpu,
            memory: self.memory,
            leak: self.leak,
            load,
            ..History::default()
        })
    }

    fn of(history: &History) -> Self {
        Self {
            requests: history.requests.iter().map(|c| c.map(|c| c.total)).collect(),
            errors: history.requests.iter().map(|c| c.map(|c| c.bad)).collect(),
            buckets: history.buckets.iter().map(|b| b.as_ref().map(|b| b.to_vec())).collect(),
            cpu: history.cpu.clone(),
            memory: history.memory.clone(),
            leak: history.leak.clone(),
            load: history.load.as_ref().map(|l| LoadJson { rate: l.rate.clone(), cpu: l.cpu.clone() }),
        }
    }
}

fn json<'a, T: Deserialize<'a>>(line: &'a str) -> Result<T, String> {
    serde_json::from_str(line).map_err(|e| format!("{e}"))
}

fn write_line(out: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

/// A count or level: finite, not negative.
fn count(name: &str, value: f64) -> Result<f64, String> {
    if value.is_finite() && value >= 0.0 { Ok(value) } else { Err(format!("{name} {value} is negative or no number")) }
}

/// Both or neither.
fn counts(requests: Option<f64>, errors: Option<f64>) -> Result<Option<Counts>, String> {
    match (requests, errors) {
        (None, None) => Ok(None),
        (Some(n), Some(x)) => Ok(Some(Counts { total: count("requests", n)?, bad: count("errors", x)? })),
        _ => Err("requests and errors stand together or not at all".to_owned()),
    }
}

fn buckets(values: &[f64], bounds: usize) -> Result<Buckets, String> {
    if values.len() != bounds + 1 {
        return Err(format!("buckets has {} entries, bounds-ms and +Inf make {}", values.len(), bounds + 1));
    }
    values.iter().map(|v| count("buckets", *v)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"canaryd-recording":1,"interval-s":15.0,"bounds-ms":[5.0,10.0],"rule":"chatbot","start":"2026-11-21T10:00:00Z"}
{"history":{"requests":[100.0,null,98.0],"errors":[0.0,null,1.0],"buckets":[[90.0,95.0,100.0],null,[88.0,94.0,98.0]],"cpu":[0.1,null],"load":{"rate":[3.0],"cpu":[0.5]}}}
{"t":15.0,"step":0,"baseline":{"requests":100.0,"errors":1.0,"buckets":[90.0,95.0,100.0],"pods":3},"canary":null}
{"t":30.5,"baseline":{"cpu":0.25,"memory":1e9,"floor":5e8},"canary":{"requests":7.0,"errors":2.0,"abandoned":1.0}}
"#;

    #[test]
    fn what_is_read_is_written_the_same() {
        let recording = Recording::parse(TEXT).unwrap();
        assert_eq!(recording.header.interval, Duration::from_secs(15));
        assert_eq!(recording.history.requests[2], Some(Counts { total: 98.0, bad: 1.0 }));
        assert_eq!(recording.ticks[1].at, recording.header.start + Duration::from_millis(30_500));
        assert_eq!(recording.ticks[0].arms.canary, ArmSample::blind(Blind::NoSeries));
        assert_eq!(recording.ticks[1].arms.canary.requests, Ok(Counts { total: 7.0, bad: 2.0 }));
        assert_eq!(recording.ticks[1].arms.baseline.requests, Err(Blind::NotAsked));
        let mut written = Vec::new();
        recording.write(&mut written).unwrap();
        let written = String::from_utf8(written).unwrap();
        assert_eq!(written, TEXT.replace("1e9", "1000000000.0").replace("5e8", "500000000.0"));
        assert_eq!(Recording::parse(&written).unwrap(), recording);
    }

    #[test]
    fn comments_and_empty_lines_are_skipped() {
        let text = format!("# made by hand\n\n{TEXT}\n# the end\n");
        assert_eq!(Recording::parse(&text).unwrap(), Recording::parse(TEXT).unwrap());
    }

    #[test]
    fn every_problem_is_told_with_its_line() {
        let header = TEXT.lines().next().unwrap();
        let text = format!(
            "{header}\n{{\"t\":15,\"baseline\":null,\"canary\":{{\"requests\":5}}}}\n{{\"t\":30,\"baseline\":null,\"canary\":null,\"x\":1}}\n\
             {{\"t\":45,\"baseline\":{{\"buckets\":[1]}},\"canary\":null}}\n{{\"t\":60,\"baseline\":null,\"canary\":null}}\n\
             {{\"t\":60,\"baseline\":null,\"canary\":null}}\n{{\"t\":75,\"baseline\":{{\"requests\":-1,\"errors\":0}},\"canary\":null}}\n"
        );
        let problems: Vec<String> = Recording::parse(&text).unwrap_err().iter().map(ToString::to_string).collect();
        for (problem, expected) in problems.iter().zip([
            "line 2: canary: requests and errors stand together",
            "line 3: unknown field `x`",
            "line 4: baseline: buckets has 1 entries, bounds-ms and +Inf make 3",
            "line 6: t 60 is not after the tick before it",
            "line 7: baseline: requests -1 is negative",
        ]) {
            assert!(problem.starts_with(expected), "{problem}");
        }
        assert_eq!(problems.len(), 5);
    }

    #[test]
    fn a_file_that_is_no_recording_is_refused() {
        for (text, why) in [
            ("", "empty"),
            ("{}", "canaryd-recording"),
            (r#"{"canaryd-recording":2,"interval-s":1,"bounds-ms":[],"start":"2026-11-21T10:00:00Z"}"#, "reads 1"),
            (r#"{"canaryd-recording":1,"interval-s":0,"bounds-ms":[],"start":"2026-11-21T10:00:00Z"}"#, "interval-s 0"),
            (r#"{"canaryd-recording":1,"interval-s":1,"bounds-ms":[5,5],"start":"2026-11-21T10:00:00Z"}"#, "ascending"),
            (r#"{"canaryd-recording":1,"interval-s":1,"bounds-ms":[],"start":"yesterday"}"#, "yesterday"),
        ] {
            let problems = Recording::parse(text).unwrap_err();
            assert!(problems[0].why.contains(why), "{problems:?}");
        }
    }
}
