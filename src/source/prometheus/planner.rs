//! Which queries a tick needs, and whose each returned row is. Pure.
//!
//! Every subscription that asks the same of a pack shares its queries: the arms become label matchers, and a demultiplexer
//! keeps only exact combinations of label values: rows of the cross product belong to nobody. The load on the server grows
//! with the number of questions, not of rollouts.

use super::decoder::RowRef;
use crate::model::{Arm, PerArm, Timestamp};
use crate::source::packs::arms::{Tells, Whose};
use crate::source::packs::grammar::Start;
use crate::source::packs::resolve::{Asked, Group, Probe, Question};
use crate::source::packs::select::{Matcher, Select, label_name};
use crate::source::tracker::{BETWEEN, Place};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

/// Most rollouts in one query (PACKS 1.1: beyond it the server's time grows faster than what is saved).
pub(super) const BATCH_MAX: usize = 50;
/// Most rows expected of one query, for the same reason.
pub(super) const ROWS_MAX: usize = 10_000;
/// How far back the last sample before the last tick may lie: a missed scrape is bridged so long (PACKS 1.1).
const BRIDGED: &str = "5m";

/// Members of a batch and their arms, by joined label values.
type Owners = HashMap<String, Vec<(usize, Arm)>>;
/// What entries have in common that are asked together: their questions, which part of them, since when.
type Alike = (String, Part, Option<Timestamp>);
/// Between joined label values.
const PARTS: &str = "\u{1f}";

/// One telemetry entry of one subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// The subscription.
    pub(super) key: u64,
    /// Its entry.
    pub(super) entry: usize,
    /// Its levels, or its counts: one that is refused must not blind the other.
    pub(super) part: Part,
}

/// Which half of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// Counters and histograms, per process.
    Counts,
    /// Increments of counters and histograms.
    Deltas,
    /// CPU and memory.
    Levels,
}

/// What a query of a batch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Counters: question, selector.
    Rows(usize, usize),
    /// Increments: question, selector.
    Deltas(usize, usize),
    /// The time of the newest sample of the process whose newest sample is the oldest.
    Oldest,
    /// Times of the newest samples.
    Sampled,
    /// A level.
    Level(usize),
    /// A level's minimum.
    Floor(usize),
    /// Times of a level's newest samples.
    LevelSampled(usize),
}

/// Entries that are asked together.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    /// Whose.
    pub(super) members: Vec<Member>,
    part: Part,
    /// The tick from which increments are asked for.
    since: Option<Timestamp>,
    /// What they all ask; its own arms mean nothing.
    asked: Asked,
    arms: Vec<PerArm<Whose>>,
    /// Joined label values to members and arms; of watched pods their names or addresses.
    owners: Owners,
    watched: Owners,
}

/// One telemetry entry of one subscription, as it is to be asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) key: u64,
    pub(super) entry: usize,
    pub(super) asked: &'a Asked,
    /// The tick whose increments were last taken; of it only deltas depend.
    pub(super) since: Option<Timestamp>,
}

/// How much goes into one query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Rollouts.
    pub(super) members: usize,
    /// Rows that are expected.
    pub(super) rows: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { members: BATCH_MAX, rows: ROWS_MAX }
    }
}

impl Limits {
    /// Half of it, at least one rollout.
    pub(super) fn halved(self) -> Self {
        Self { members: (self.members / 2).max(1), rows: (self.rows / 2).max(1) }
    }

    /// Twice as much, at most what is usual.
    pub(super) fn doubled(self) -> Self {
        Self { members: (self.members * 2).min(BATCH_MAX), rows: (self.rows * 2).min(ROWS_MAX) }
    }
}

/// Batches of all entries: alike together, within the limits; `rows`: how many each is expected to bring, by what it last did.
pub(super) fn batches<'a>(
    all: impl IntoIterator<Item = Wanted<'a>>,
    limits: Limits,
    wanted: impl Fn(Member) -> bool,
    rows: impl Fn(Member) -> usize,
) -> Vec<Batch> {
    let mut groups: BTreeMap<Alike, Vec<(Member, &Asked)>> = BTreeMap::new();
    for Wanted { key, entry, asked, since } in all {
        let parts = [
            (Part::Counts, asked.questions.iter().any(|q| !q.is_delta())),
            (Part::Deltas, asked.questions.iter().any(Question::is_delta)),
            (Part::Levels, !asked.levels.is_empty()),
        ];
        let members = parts.into_iter().filter(|(_, there)| *there).map(|(part, _)| Member { key, entry, part });
        for member in members.filter(|member| wanted(*member)) {
            let since = since.filter(|_| member.part == Part::Deltas);
            groups.entry((asked.key(), member.part, since)).or_default().push((member, asked));
        }
    }
    let mut out = Vec::new();
    for ((.., since), group) in &groups {
        let mut rest = group.as_slice();
        while !rest.is_empty() {
            let (first, others) = rest.split_at(fitting(rest, limits, &rows));
            out.push(Batch::new(first, *since));
            rest = others;
        }
    }
    out
}

/// How many of these fit into one query; at least one.
fn fitting(members: &[(Member, &Asked)], limits: Limits, rows: impl Fn(Member) -> usize) -> usize {
    let mut expected = 0;
    let within = |(member, _): &&(Member, &Asked)| {
        expected += rows(*member);
        expected <= limits.rows
    };
    members.iter().take(limits.members).take_while(within).count().max(1)
}

impl Batch {
    fn new(members: &[(Member, &Asked)], since: Option<Timestamp>) -> Self {
        let asked = members[0].1.clone();
        let arms = members.iter().map(|(_, a)| a.arms.clone()).collect();
        Self::build(members.iter().map(|(m, _)| *m).collect(), since, asked, arms)
    }

    fn build(members: Vec<Member>, since: Option<Timestamp>, asked: Asked, arms: Vec<PerArm<Whose>>) -> Self {
        let (mut owners, mut watched): (Owners, Owners) = Default::default();
        for (at, values) in arms.iter().enumerate() {
            for arm in Arm::BOTH {
                let Whose { values, pods, alike } = &values[arm];
                let Some(pods) = pods.as_ref().filter(|_| asked.tells_pods()) else {
                    if *alike {
                        continue; // nobody's, until it is known
                    }
                    owners.entry(values.join(PARTS)).or_default().push((at, arm));
                    continue;
                };
                for pod in pods.iter() {
                    let shown = asked.tells.iter().zip(values).map(|(tells, value)| tells.of_pod(pod).unwrap_or(value));
                    watched.entry(shown.collect::<Vec<_>>().join(PARTS)).or_default().push((at, arm));
                }
            }
        }
        let part = members.first().map_or(Part::Counts, |m| m.part);
        Self { members, part, since, asked, arms, owners, watched }
    }

    /// Which half of its entries it asks.
    pub(super) fn part(&self) -> Part {
        self.part
    }

    /// Two halves; `None` for a batch of one.
    pub(super) fn split(&self) -> Option<[Batch; 2]> {
        let middle = self.members.len() / 2;
        (middle > 0).then(|| {
            [(0, middle), (middle, self.members.len())].map(|(from, to)| {
                Self::build(self.members[from..to].to_vec(), self.since, self.asked.clone(), self.arms[from..to].to_vec())
            })
        })
    }

    /// The queries of the tick `at`; of scrapes this far apart.
    pub(super) fn queries(&self, at: Timestamp, scrape: Duration) -> Vec<(Purpose, String)> {
        let matchers = self.asked.arm_matchers(&self.arms);
        match self.part {
            Part::Counts => self.count_queries(&matchers),
            Part::Deltas => self.delta_queries(&matchers, at, scrape),
            Part::Levels => self.level_queries(&matchers),
        }
    }

    fn count_queries(&self, matchers: &[Matcher]) -> Vec<(Purpose, String)> {
        let mut out = Vec::new();
        for (at, question) in self.asked.questions.iter().enumerate().filter(|(_, q)| !q.is_delta()) {
            for (select_at, (select, _)) in question.selects.iter().enumerate() {
                out.push((Purpose::Rows(at, select_at), sum(&self.asked, question, select, matchers)));
            }
        }
        out.push((Purpose::Sampled, sampled(&self.asked, matchers)));
        out
    }

    /// The first tick of these only looks which processes there are.
    fn delta_queries(&self, matchers: &[Matcher], at: Timestamp, scrape: Duration) -> Vec<(Purpose, String)> {
        let mut out = Vec::new();
        if let Some(since) = self.since {
            for (question_at, question) in self.asked.questions.iter().enumerate().filter(|(_, q)| q.is_delta()) {
                for (select_at, (select, _)) in question.selects.iter().enumerate() {
                    let text = delta(&self.asked, question, select, matchers, at.since(since));
                    out.push((Purpose::Deltas(question_at, select_at), text));
                }
            }
        }
        out.push((Purpose::Oldest, oldest(&self.asked, matchers, at, scrape)));
        out
    }

    fn level_queries(&self, matchers: &[Matcher]) -> Vec<(Purpose, String)> {
        let by = labels(&self.asked.level_labels());
        let mut out = Vec::new();
        for (at, asked) in self.asked.levels.iter().enumerate() {
            out.push((Purpose::Level(at), asked.level.value(&by, matchers)));
            out.extend(asked.floor.map(|window| (Purpose::Floor(at), asked.level.floor(&by, matchers, window))));
            out.push((Purpose::LevelSampled(at), asked.level.sampled(&by, matchers)));
        }
        out
    }

    /// The query for the starts of these processes; `None` where the pack knows none.
    pub(super) fn start_query(&self, processes: &BTreeMap<String, Vec<String>>) -> Option<String> {
        let by = labels(&self.asked.identity);
        let matchers: Vec<Matcher> = self
            .asked
            .identity
            .iter()
            .enumerate()
            .map(|(at, label)| {
                let values: Vec<&str> = processes.values().map(|v| v.get(at).map_or("", String::as_str)).collect();
                Matcher::any_of(label, &values)
            })
            .collect();
        let gauge = |name: &str| Select { name: name.to_owned(), matchers: matchers.clone() };
        match self.asked.start.as_ref()? {
            Start::Uptime(name) => Some(format!("max by ({by}) (timestamp({0}) - {0})", gauge(name))),
            Start::Epoch(name) => Some(format!("max by ({by}) ({})", gauge(name))),
            Start::NewIdentity(_) => None,
        }
    }

    /// The question and whose row this is; empty for the cross product of two label matchers.
    pub(super) fn owners(&self, row: &RowRef<'_>, scratch: &mut String) -> &[(usize, Arm)] {
        if !self.watched.is_empty() {
            self.join(row, scratch, Tells::raw);
            if let Some(owners) = self.watched.get(scratch.as_str()) {
                return owners;
            }
        }
        self.join(row, scratch, Tells::of);
        self.owners.get(scratch.as_str()).map_or(&[], Vec::as_slice)
    }

    fn join<'a>(&self, row: &RowRef<'a>, scratch: &mut String, of: impl Fn(Tells, &'a str) -> &'a str) {
        scratch.clear();
        for (at, (label, tells)) in self.asked.arm_labels.iter().zip(&self.asked.tells).enumerate() {
            if at > 0 {
                scratch.push_str(PARTS);
            }
            scratch.push_str(of(*tells, row.label(label)));
        }
    }

    /// The process of a row.
    pub(super) fn process(&self, row: &RowRef<'_>) -> String {
        process_name(&self.asked.identity, row)
    }

    /// The values of the labels a question keeps.
    pub(super) fn kept<'a>(&self, question: usize, row: &RowRef<'a>) -> Vec<&'a str> {
        self.asked.questions.get(question).map_or_else(Vec::new, |q| q.keep.iter().map(|label| row.label(label)).collect())
    }

    /// Where a row goes in its tracker.
    pub(super) fn place(&self, member: usize, question: usize, select: usize, arm: Arm) -> (u64, Place) {
        let Member { key, entry, .. } = self.members[member];
        (key, Place { entry, question, select, arm })
    }
}

/// What a process is called: the values of its identity's labels.
pub(super) fn process_name(identity: &[String], row: &RowRef<'_>) -> String {
    let values: Vec<&str> = identity.iter().map(|label| row.label(label)).collect();
    values.join(BETWEEN)
}

/// The label values of a name made by [`process_name`].
pub(super) fn process_labels(name: &str) -> Vec<String> {
    name.split(BETWEEN).map(str::to_owned).collect()
}

/// Form P: cumulative counts of one process, other labels summed away (PACKS 1.1).
pub(super) fn sum(asked: &Asked, question: &Question, select: &Select, matchers: &[Matcher]) -> String {
    let by = labels(asked.identity.iter().chain(&asked.arm_labels).chain(&question.keep));
    format!("sum by ({by}) ({})", asked.expression(select, matchers, Select::to_string))
}

/// Form D: increments of an arm over the last `length`, differenced series by series inside the server as the daemon would
/// (PACKS 1.1): a fall is a restart and counts the new value; a series first seen counts from 0 if its target was known then, or
/// if its process has started since; what is first seen of an old process counts nothing.
pub(super) fn delta(asked: &Asked, question: &Question, select: &Select, matchers: &[Matcher], length: Duration) -> String {
    let by = labels(asked.arm_labels.iter().chain(&question.keep));
    let increments = |series: &Select| {
        let offset = promql(length);
        let rose = format!("({series} - last_over_time({series}[{BRIDGED}] offset {offset})) >= 0");
        let anew = anew(asked, length).into_iter().map(|known| format!("({series}{known})"));
        std::iter::once(rose).chain(anew).collect::<Vec<_>>().join(" or ")
    };
    format!("sum by ({by}) ({})", asked.expression(select, matchers, |series| format!("({})", increments(series))))
}

/// What must be true of a series that fell or is new so that all of its value is an increment.
fn anew(asked: &Asked, length: Duration) -> Vec<String> {
    let (by, offset) = (labels(&asked.identity), promql(length));
    let seconds = length.as_secs_f64();
    let started = match &asked.start {
        Some(Start::Uptime(gauge)) => Some(format!(" and on ({by}) ((timestamp({gauge}) - {gauge}) > (time() - {seconds}))")),
        Some(Start::Epoch(gauge)) => Some(format!(" and on ({by}) ({gauge} > (time() - {seconds}))")),
        Some(Start::NewIdentity(true)) => Some(String::new()),
        Some(Start::NewIdentity(false)) | None => None,
    };
    // what is pushed has no `up` of its own
    let target = (!asked.pushed).then(|| format!(" and on (job, instance) last_over_time(up[{BRIDGED}] offset {offset})"));
    target.into_iter().chain(started).collect()
}

/// How long ago the process was scraped that was scraped longest ago, per arm; one that missed two scrapes is left out.
fn oldest(asked: &Asked, matchers: &[Matcher], at: Timestamp, scrape: Duration) -> String {
    let by = labels(&asked.arm_labels);
    let newest = newest(asked, matchers, Question::is_delta);
    format!("min by ({by}) (({newest}) > {})", (at - scrape * 9 / 4).as_secs_f64())
}

/// When each process was last scraped: of whatever question has series.
fn sampled(asked: &Asked, matchers: &[Matcher]) -> String {
    newest(asked, matchers, |question| !question.is_delta())
}

fn newest(asked: &Asked, matchers: &[Matcher], of: impl Fn(&Question) -> bool) -> String {
    let by = labels(asked.identity.iter().chain(&asked.arm_labels));
    let one = |question: &Question| {
        let selects = question.selects.iter().map(|(select, _)| counted(question, select));
        let one = |select: Select| asked.expression(&select, matchers, |series| format!("timestamp({series})"));
        selects.map(|select| format!("max by ({by}) ({})", one(select))).collect::<Vec<_>>()
    };
    asked.questions.iter().filter(|q| of(q)).flat_map(one).collect::<Vec<_>>().join(" or ")
}

/// A duration as PromQL writes it.
fn promql(length: Duration) -> String {
    format!("{}ms", length.as_millis())
}

/// The series to count by: a histogram's `_count` instead of its twenty `_bucket`s.
pub(super) fn counted(question: &Question, select: &Select) -> Select {
    match select.name.strip_suffix("_bucket") {
        Some(name) if question.group == Group::Buckets => Select { name: format!("{name}_count"), matchers: select.matchers.clone() },
        _ => select.clone(),
    }
}

/// Label names for a `by` clause, each once.
pub(super) fn labels<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    let mut seen = BTreeSet::new();
    let once: Vec<String> = names.into_iter().filter(|n| seen.insert(*n)).map(|n| label_name(n)).collect();
    once.join(", ")
}

/// A look-up as a query.
pub(super) fn probe(probe: &Probe) -> String {
    match probe {
        Probe::Metrics { names, matchers } => {
            let mut all = vec![Matcher::any_of("__name__", &names.iter().map(String::as_str).collect::<Vec<_>>())];
            all.extend_from_slice(matchers);
            let inside: Vec<String> = all.iter().map(ToString::to_string).collect();
            format!("count by (__name__) ({{{}}})", inside.join(","))
        }
        Probe::Labels { select, labels: names } => format!("group by ({}) ({select})", labels(names)),
    }
}

/// What a look-up found: names of metrics, or of labels with a value.
pub(super) fn found<'a>(probe: &Probe, rows: impl Iterator<Item = RowRef<'a>>) -> BTreeSet<String> {
    match probe {
        Probe::Metrics { .. } => rows.map(|r| r.label("__name__").to_owned()).collect(),
        Probe::Labels { .. } => {
            rows.flat_map(|r| r.labels().filter(|(_, v)| !v.is_empty()).map(|(n, _)| n.to_owned()).collect::<Vec<_>>()).collect()
        }
    }
}

/// The matchers of one arm as text, for a rule's own queries.
pub(super) fn arm_text(asked: &Asked, arm: Arm) -> String {
    asked.matchers_of_arm(arm).iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// A gauge's query for this arm.
pub(super) fn gauge_text(query: &str, asked: &Asked, arm: Arm) -> String {
    query.replace("{{workload}}", &arm_text(asked, arm))
}

#[cfg(test)]
mod tests {
    use super::super::decoder::Decoder;
    use super::*;
    use crate::model::rule;
    use crate::source::packs::Packs;
    use crate::source::packs::resolve::Resolver;
    use crate::source::{Subscription, Wants};

    fn asked(key: u64, labels: &[(&str, &str, &str)]) -> Asked {
        let side =
            |which: usize| rule::Target { fields: labels.iter().map(|(l, b, c)| ((*l).to_owned(), [*b, *c][which].to_owned())).collect() };
        let arm = labels.iter().map(|(l, ..)| ((*l).to_owned(), format!("{{{l}}}"))).collect();
        let wanted = Subscription {
            key,
            arms: PerArm { baseline: side(0), canary: side(1) },
            telemetry: vec![rule::Telemetry { pack: "envoy".into(), arm, ..rule::Telemetry::default() }],
            custom_counts: Vec::new(),
            custom_gauges: Vec::new(),
            wants: Wants { requests: true, buckets: true, ..Wants::default() },
            time_scale: 1.0,
        };
        Resolver::new(&Packs::builtin(), &wanted).unwrap().finish().unwrap().remove(0)
    }

    fn batch(all: &[Asked]) -> Batch {
        let members = (1u64..).zip(all).map(|(key, asked)| Wanted { key, entry: 0, asked, since: None });
        let mut batches = batches(members, Limits::default(), |_| true, |_| 0);
        assert_eq!(batches.len(), 1);
        batches.remove(0)
    }

    #[test]
    fn rollouts_that_ask_alike_share_their_queries() {
        let batch = batch(&[asked(1, &[("ns", "team.a", "team.a"), ("w", "x", "y")]), asked(2, &[("ns", "b", "b"), ("w", "x", "z+")])]);
        let queries = batch.queries(Timestamp::from_millis(1_700_000_000_000), Duration::from_secs(15));
        assert_eq!(queries.len(), 4, "requests, abandoned, buckets, times");
        assert_eq!(
            queries[0].1,
            r#"sum by (job, instance, ns, w, envoy_response_code) (envoy_cluster_upstream_rq{ns=~"b|team\\.a",w=~"x|y|z\\+"})"#
        );
        assert!(queries[3].1.contains(r#"timestamp(envoy_cluster_upstream_rq_time_count{ns"#), "{}", queries[3].1);
    }

    #[test]
    fn rows_of_the_cross_product_belong_to_nobody() {
        let batch = batch(&[asked(1, &[("ns", "a", "a"), ("w", "x", "x2")]), asked(2, &[("ns", "b", "b"), ("w", "y", "y2")])]);
        let mut decoder = Decoder::default();
        let body = r#"{"status":"success","data":{"result":[
            {"metric":{"ns":"a","w":"x","job":"j","instance":"i"},"value":[1,"1"]},
            {"metric":{"ns":"b","w":"y2","job":"j","instance":"i"},"value":[1,"1"]},
            {"metric":{"ns":"a","w":"y","job":"j","instance":"i"},"value":[1,"1"]},
            {"metric":{"w":"x"},"value":[1,"1"]}]}}"#;
        decoder.decode(200, "", body.as_bytes()).unwrap();
        let mut scratch = String::new();
        let owners: Vec<_> = decoder.rows().map(|r| batch.owners(&r, &mut scratch).to_vec()).collect();
        assert_eq!(owners, [vec![(0, Arm::Baseline)], vec![(1, Arm::Canary)], vec![], vec![]]);
    }

    #[test]
    fn a_workload_two_rollouts_share_belongs_to_both() {
        let batch = batch(&[asked(1, &[("w", "x", "y")]), asked(2, &[("w", "x", "z")])]);
        assert_eq!(batch.owners.get("x").unwrap(), &[(0, Arm::Baseline), (1, Arm::Baseline)]);
    }

    #[test]
    fn batches_are_bounded_and_split_in_halves() {
        let all: Vec<Asked> = (0..120).map(|i| asked(i, &[("w", &format!("b{i}"), &format!("c{i}"))])).collect();
        let members = (0u64..).zip(&all).map(|(key, asked)| Wanted { key, entry: 0, asked, since: None });
        let batches = super::batches(members.clone(), Limits::default(), |_| true, |_| 0);
        assert_eq!(batches.iter().map(|b| b.members.len()).collect::<Vec<_>>(), [50, 50, 20]);
        let halves = batches[2].split().unwrap();
        assert_eq!(halves.each_ref().map(|b| b.members.len()), [10, 10]);
        assert_eq!(halves[1].owners.get("c110").unwrap(), &[(0, Arm::Canary)]);
        let one = batches[0].members[..1].to_vec();
        assert!(Batch::build(one, None, all[0].clone(), vec![all[0].arms.clone()]).split().is_none());
        // some bring thousands of rows: the others need not wait for them in one query
        let heavy = |member: Member| if member.key < 3 { 6_000 } else { 10 };
        let sizes = super::batches(members, Limits::default(), |_| true, heavy);
        assert_eq!(sizes.iter().map(|b| b.members.len()).collect::<Vec<_>>(), [1, 1, 50, 50, 18]);
    }

    #[test]
    fn starts_are_asked_of_the_processes_in_doubt_only() {
        let batch = batch(&[asked(1, &[("w", "x", "y")])]);
        let processes = [("a".to_owned(), vec!["j".to_owned(), "h:1".to_owned()])].into();
        let query = batch.start_query(&processes).unwrap();
        let gauge = r#"envoy_server_uptime{job="j",instance="h:1"}"#;
        assert_eq!(query, format!("max by (job, instance) (timestamp({gauge}) - {gauge})"));
    }
}
