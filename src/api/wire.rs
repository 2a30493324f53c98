//! What is said over HTTP, as JSON; kebab-case, units in the names. Programs may rely on every field here: fields are added,
//! never renamed. The command line reads the same types. A number that is not finite is written as null.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Declares types of the wire.
macro_rules! wire {
    ($($(#[$doc:meta])* pub struct $name:ident { $($(#[$field_doc:meta])* pub $field:ident: $type:ty,)* })*) => {
        $($(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* })*
    };
}

/// An instant in milliseconds since the epoch, written as RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Time(pub i64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(instant) => write!(f, "{instant}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

impl From<Time> for String {
    fn from(time: Time) -> String {
        time.to_string()
    }
}

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse::<jiff::Timestamp>().map(|t| Time(t.as_millisecond())).map_err(|why| format!("{text:?} is no time: {why}"))
    }
}

/// A stretch of a rollout, as Grafana's Infinity data source reads annotations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Annotation {
    /// Begin, ms since the epoch.
    pub time: i64,
    /// End, ms since the epoch; null while it goes on.
    #[serde(rename = "timeEnd")]
    pub time_end: Option<i64>,
    /// Rollout, version and step.
    pub title: String,
    /// What was told when it began.
    pub text: String,
    /// Joined by commas: `canaryd`, `rule:...`, `rollout:...`, the state.
    pub tags: String,
}

wire! {
    /// One rollout, whole.
    pub struct Rollout {
        /// `<rule>-<number>`.
        pub id: String,
        /// Its rule.
        pub rule: String,
        /// The version on trial; may be empty.
        pub version: String,
        /// Workload that carries the rest of the traffic.
        pub baseline: String,
        /// Workload on trial.
        pub canary: String,
        /// `enforce` or `observe`.
        pub mode: String,
        /// When it was opened.
        pub opened: Time,
        /// `waiting`, `progressing`, `baking`, `promoting`, `succeeded`, `rolling-back`, `rolled-back`, `paused`, `stuck`,
        /// `superseded`.
        pub state: String,
        /// The state in a sentence.
        pub state_text: String,
        /// Nothing will happen to it any more.
        pub over: bool,
        /// `pass`, `fail`, `undecided` or `blind`.
        pub verdict: String,
        /// The canary's share that canaryd wants, `0..=1000`.
        pub weight_permille: u16,
        /// The share last read from the router; null if it could not be read.
        pub weight_seen_permille: Option<u16>,
        /// What the cluster shows of both workloads; null outside of one.
        pub workloads: Option<Workloads>,
        /// Where in the steps.
        pub step: Step,
        /// All steps.
        pub steps: Vec<PlannedStep>,
        /// The last decision.
        pub decision: Decision,
        /// The evidence as a whole, once a poll was judged.
        pub evidence: Option<Evidence>,
        /// In the rule's order.
        pub metrics: Vec<Metric>,
        /// In the rule's order.
        pub limits: Vec<Limit>,
        /// Processes of the bake; empty before it.
        pub bake: Vec<BakeLimit>,
        /// Why it does not go on; empty while it does.
        pub holds: Vec<Hold>,
        /// Why it rolls or rolled back; empty otherwise.
        pub reasons: Vec<Reason>,
        /// Roles that must approve before it begins, each with the approval that was given.
        pub approvals: Vec<NeededApproval>,
        /// The last error of an effect, while it lasts.
        pub stuck: Option<String>,
        /// Sentences from the set-up.
        pub warnings: Vec<String>,
    }

    /// Both workloads, as the cluster shows them.
    pub struct Workloads {
        /// Why the cluster cannot be looked at; null while it can.
        pub unseen: Option<String>,
        /// The one that carries the rest of the traffic; null while it cannot be looked at.
        pub baseline: Option<Workload>,
        /// The one on trial; null while it cannot be looked at.
        pub canary: Option<Workload>,
    }

    /// A workload in a cluster.
    pub struct Workload {
        /// Replicas it asks for.
        pub wanted: u32,
        /// Pods that are not on their way out.
        pub pods: u32,
        /// Those of them that are ready.
        pub ready: u32,
        /// The pod that is worst off, and what is wrong with it; empty if nothing is.
        pub trouble: String,
    }

    /// Where in the steps a rollout is.
    pub struct Step {
        /// From 1.
        pub number: u32,
        /// How many there are.
        pub of: u32,
        /// Seconds that counted toward it, once a poll was judged in it.
        pub counted_s: Option<f64>,
        /// Seconds it asks for.
        pub for_s: f64,
        /// Canary requests in it.
        pub canary_requests: Option<f64>,
        /// Does time count toward it now?
        pub counts_time: bool,
    }

    /// What became of a message of an Alertmanager.
    pub struct AlertsTaken {
        /// Alerts in it.
        pub alerts: u64,
        /// How many of them concern a running rollout.
        pub taken: u64,
    }

    /// A step of the rule.
    pub struct PlannedStep {
        /// The canary's share, `0..=1000`.
        pub weight_permille: u16,
        /// How long.
        pub for_s: f64,
    }

    /// The last decision.
    pub struct Decision {
        /// When.
        pub at: Time,
        /// `hold`, `advance`, `promote`, `roll-back`, `pause`, `resume`, `reassert`, `finish`, `refuse`.
        pub action: String,
        /// In a sentence.
        pub text: String,
        /// Number of the last weight asked for.
        pub generation: u64,
        /// When it looks again at the latest.
        pub wake_at: Option<Time>,
    }

    /// The evidence as a whole, after the last judged poll. Nats: natural logarithm of an e-value.
    pub struct Evidence {
        /// The tick.
        pub at: Time,
        /// Seconds since the first tick with canary requests.
        pub elapsed_s: Option<f64>,
        /// Combined evidence that the canary is worse than tolerated.
        pub harm_nats: Option<f64>,
        /// At which it is rolled back.
        pub harm_needed_nats: Option<f64>,
        /// What a metric needs to be shown no worse than tolerated.
        pub no_harm_needed_nats: Option<f64>,
        /// Anytime p-value of the comparison.
        pub p_value: Option<f64>,
        /// Health, `0..=100`; 50 says nothing is known yet.
        pub score: Option<f64>,
        /// `rollback`, `suspicious`, `pass` or `collecting`.
        pub outlook: String,
        /// Share of what `pass` needs, `0..=1`.
        pub progress: Option<f64>,
        /// Both versions suffer.
        pub shared: bool,
        /// It is the bake that judges: there is no baseline beside the canary.
        pub bake: bool,
    }

    /// One metric.
    pub struct Metric {
        /// The rule's word for it.
        pub name: String,
        /// `errors`, `latency`, `cpu`, `memory`, `leak`, `counts` or `gauge`.
        pub kind: String,
        /// Of the estimates: `fraction`, `ms`, `cores`, `bytes`, or empty.
        pub unit: String,
        /// `pass`, `fail`, `undecided` or `blind`.
        pub verdict: String,
        /// Why it is blind, a stable word.
        pub blind: Option<String>,
        /// In a sentence.
        pub reason: String,
        /// Evidence that the canary is worse than tolerated.
        pub harm_nats: Option<f64>,
        /// At which this metric alone rolls back; null if it never does.
        pub harm_needed_nats: Option<f64>,
        /// Evidence that it is not worse than the margin.
        pub no_harm_nats: Option<f64>,
        /// Its share of the budget.
        pub share: f64,
        /// Must it be shown where a step asks for proof?
        pub required: bool,
        /// Shown only.
        pub advisory: bool,
        /// Was the last poll usable for it?
        pub used: bool,
        /// Dispersion in use, 1 = independent requests.
        pub dispersion: Option<f64>,
        /// The baseline in this step.
        pub baseline: Option<Estimate>,
        /// The canary in this step.
        pub canary: Option<Estimate>,
    }

    /// An estimate with its anytime confidence interval, for display.
    pub struct Estimate {
        /// Lower end.
        pub low: Option<f64>,
        /// The estimate.
        pub mid: Option<f64>,
        /// Upper end; null if it lies beyond the last bucket.
        pub high: Option<f64>,
    }

    /// One absolute limit.
    pub struct Limit {
        /// Name of its metric.
        pub metric: String,
        /// `promote-below`, `warn-above`, `rollback-above` or `page-above`.
        pub kind: String,
        /// Unit of the level.
        pub unit: String,
        /// The level.
        pub level: f64,
        /// Evidence for the canary; null for gauges, which have none.
        pub evidence_nats: Option<f64>,
        /// What it must reach.
        pub needed_nats: Option<f64>,
        /// The canary is beyond it.
        pub canary_breached: bool,
        /// The baseline is beyond it.
        pub baseline_breached: bool,
        /// Promote-below: shown to be met.
        pub proven: bool,
    }

    /// One process of the bake.
    pub struct BakeLimit {
        /// Name of its metric.
        pub metric: String,
        /// Derived from the baseline's own level, else the rule's.
        pub derived: bool,
        /// The level: a fraction.
        pub level: f64,
        /// Evidence that the canary is beyond it.
        pub evidence_nats: Option<f64>,
        /// It crossed.
        pub crossed: bool,
    }

    /// Why a rollout stays where it is.
    pub struct Hold {
        /// A stable word.
        pub why: String,
        /// What was seen.
        pub text: String,
        /// What would end it.
        pub ends: String,
        /// Until when at the latest.
        pub until: Option<Time>,
    }

    /// Why a rollout rolls back.
    pub struct Reason {
        /// A stable word: `comparison`, `limit`, `bake`, `gross-failure`, `abandoned`, `vanished`, `person`, `policy`,
        /// `superseded`.
        pub kind: String,
        /// In a sentence.
        pub text: String,
    }

    /// A role that must approve.
    pub struct NeededApproval {
        /// The role.
        pub role: String,
        /// Who approved; null while it is missing.
        pub by: Option<String>,
        /// When.
        pub at: Option<Time>,
        /// Until when it counts before the first weight.
        pub until: Option<Time>,
    }

    /// `GET /api/v1/rollouts`: newest first.
    pub struct Rollouts {
        /// All of them.
        pub rollouts: Vec<Rollout>,
    }

    /// `GET /api/v1/history`: what became of rollouts, from the journal; newest first, running ones among them.
    pub struct History {
        /// A page of them.
        pub rollouts: Vec<PastRollout>,
        /// Where older ones go on: `before` of the next page; null if there are none.
        pub next: Option<String>,
    }

    /// What became of a rollout.
    pub struct PastRollout {
        /// `<rule>-<number>`.
        pub id: String,
        /// Its rule.
        pub rule: String,
        /// The version that was on trial; may be empty.
        pub version: String,
        /// Who started it.
        pub by: String,
        /// When it was opened.
        pub opened: Time,
        /// When it was over; null while it is not.
        pub ended: Option<Time>,
        /// From opening to end.
        pub took_s: Option<f64>,
        /// How it ended, or stands: a word as of [`Rollout`].
        pub state: String,
        /// Nothing will happen to it any more.
        pub over: bool,
        /// Why it was rolled back; empty otherwise.
        pub reasons: Vec<Reason>,
        /// In the order they were given.
        pub approvals: Vec<Approval>,
    }

    /// An approval that was given.
    pub struct Approval {
        /// In which role.
        pub role: String,
        /// Who: the token's name.
        pub by: String,
        /// Why, in their words; may be empty.
        pub why: String,
        /// When.
        pub at: Time,
    }

    /// One rule.
    pub struct Rule {
        /// Its name.
        pub name: String,
        /// Its file.
        pub file: String,
        /// Digest of the text in force.
        pub digest: String,
        /// Its running or last rollout.
        pub rollout: Option<String>,
        /// Why this build does not run it, if it does not.
        pub refused: Vec<String>,
        /// What it needs in the cluster and is not there, or cannot be looked at, a sentence each: no rollout can begin.
        #[serde(default)]
        pub missing: Vec<String>,
        /// The release that no rollout is started for as yet; null if there is none.
        pub waiting: Option<Waiting>,
    }

    /// A release that waits for its rollout.
    pub struct Waiting {
        /// What it is called.
        pub version: String,
        /// Since when.
        pub since: Time,
        /// What it waits for.
        pub why: String,
    }

    /// `GET /api/v1/rules`.
    pub struct Rules {
        /// In force.
        pub rules: Vec<Rule>,
        /// Why the rules on disk are not those in force, if they are not.
        pub reload_problems: Vec<String>,
        /// Sources; why each is blind now, if it is.
        pub sources: BTreeMap<String, Option<String>>,
    }

    /// `GET /api/v1/rollouts/{id}/journal`.
    pub struct Journal {
        /// Of which rollout, as it was asked for.
        pub rollout: String,
        /// In order.
        pub entries: Vec<JournalEntry>,
    }

    /// One line of the journal.
    pub struct JournalEntry {
        /// Its number, from 0.
        pub seq: u64,
        /// When it was written.
        pub at: Time,
        /// `opened`, `poll`, `input`, `decided`, `gap` or `restarted`.
        pub kind: String,
        /// In a sentence.
        pub text: String,
        /// What was seen of both arms, for a poll.
        pub arms: Option<Arms>,
        /// The action, for a decision.
        pub action: Option<String>,
    }

    /// Both arms of a poll.
    pub struct Arms {
        /// The baseline.
        pub baseline: Seen,
        /// The canary.
        pub canary: Seen,
    }

    /// What a poll saw of one arm.
    pub struct Seen {
        /// Requests since the reading before.
        pub requests: Option<f64>,
        /// The bad ones among them.
        pub errors: Option<f64>,
        /// Ready pods.
        pub pods: Option<u32>,
        /// Why the counts are missing, if they are.
        pub missing: Option<String>,
    }

    /// `GET /api/v1/verdict/{rule}`: for gates in other tools. Always 200 for a known rule: "not yet" is `undecided`.
    pub struct Verdict {
        /// `pass`, `fail`, `undecided` or `blind`.
        pub verdict: String,
        /// Health, `0..=100`.
        pub score: f64,
        /// How sure it is that the canary is worse than tolerated: 1 minus the anytime p-value, `0..=1`.
        pub confidence: f64,
        /// The rule.
        pub rule: String,
        /// Its running or last rollout.
        pub rollout: Option<String>,
        /// That rollout's state.
        pub state: Option<String>,
        /// Why, in a sentence.
        pub reason: String,
        /// Per metric.
        pub metrics: Vec<MetricVerdict>,
    }

    /// The verdict on one metric.
    pub struct MetricVerdict {
        /// The rule's word for it.
        pub name: String,
        /// `pass`, `fail`, `undecided` or `blind`.
        pub verdict: String,
        /// The baseline's estimate.
        pub baseline: Option<f64>,
        /// The canary's estimate.
        pub canary: Option<f64>,
        /// In a sentence.
        pub reason: String,
    }

    /// One line of the live feed: the event `decision`.
    pub struct EventLine {
        /// When.
        pub at: Time,
        /// Which rollout.
        pub rollout: String,
        /// The action.
        pub action: String,
        /// In a sentence.
        pub text: String,
        /// The rollout after it.
        pub view: Rollout,
    }

    /// A refusal, RFC 9457.
    pub struct Problem {
        /// `urn:canaryd:problem:<code>`.
        #[serde(rename = "type")]
        pub kind: String,
        /// The status in words.
        pub title: String,
        /// The status.
        pub status: u16,
        /// A stable word for programs.
        pub code: String,
        /// A sentence for people.
        pub detail: String,
    }

    /// The answer to a start.
    pub struct Started {
        /// Name of the rollout.
        pub rollout: String,
    }

    /// The answer to a reload.
    pub struct Reloaded {
        /// How many rules are in force now.
        pub rules: u64,
    }

    /// `GET /readyz`.
    pub struct Ready {
        /// Rules read, journal open?
        pub ready: bool,
        /// How many problems the rules on disk have; `GET /api/v1/rules` tells them to those who may read.
        #[serde(default)]
        pub rule_problems: u64,
    }
}

/// Body of a start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct StartBody {
    /// Name of the version, for the record.
    pub version: String,
    /// Also if this version was rolled back before.
    pub retry: bool,
}

/// Body of a verb.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct VerbBody {
    /// Why, in a person's words.
    pub why: String,
}

/// Body of an approval.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ApproveBody {
    /// In which role; empty = the only one the token has.
    pub role: String,
    /// Why, in a person's words.
    pub why: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_goes_out_and_comes_back() {
        let text = serde_json::to_string(&Time(1_795_270_985_250)).unwrap();
        assert_eq!(text, r#""2026-11-21T14:23:05.25Z""#);
        assert_eq!(serde_json::from_str::<Time>(&text).unwrap(), Time(1_795_270_985_250));
        assert!(serde_json::from_str::<Time>(r#""yesterday""#).unwrap_err().to_string().contains("yesterday"));
    }

    #[test]
    fn an_unknown_key_in_a_body_is_named() {
        let error = serde_json::from_str::<VerbBody>(r#"{"wy": "x"}"#).unwrap_err().to_string();
        assert!(error.contains("unknown field `wy`") && error.contains("why"), "{error}");
    }
}
