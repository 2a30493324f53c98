//! What canaryd tells others about a rollout, and what an Alertmanager tells canaryd.

use super::{Arm, Timestamp};

/// How loud.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For the record.
    Info,
    /// Look at it in working hours.
    Warning,
    /// Wake somebody.
    Page,
}

impl Level {
    /// The word of messages and labels.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Page => "page",
        }
    }
}

/// What a notice is about: with the rollout and, for a limit, its metric and arm, the identity of an alert.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// It began, took a step, was resumed, promoted: told once, never firing.
    Progress,
    /// It rolls back, or has.
    RolledBack,
    /// It waits for a person.
    Paused,
    /// The router, or a workload, does not take what is wanted.
    Stuck,
    /// Evidence says roll back, and a rule or a person says hold.
    Breach,
    /// Both arms suffer.
    Shared,
    /// The traffic does not follow the weight.
    TrafficShare,
    /// Requests vanish, and the policy says hold.
    Vanished,
    /// The canary gets no requests.
    NoRequests,
    /// The router cannot be read.
    RouterUnreadable,
    /// Another hand moves the weight.
    Foreign,
    /// A limit that warns or pages: name of the metric, of the limit, and whose value it is.
    Limit { metric: String, limit: String, arm: Arm },
    /// An approval, a window or a hook is awaited, or was refused.
    Gate,
    /// An alert of somebody else holds it.
    Alert,
    /// Replicas are missing, or pods are unwell.
    Capacity,
    /// A release that no rollout leads: it was live at once, or its start was refused.
    Release,
}

impl Topic {
    /// The word of messages and labels.
    pub const fn name(&self) -> &'static str {
        match self {
            Topic::Progress => "progress",
            Topic::RolledBack => "rolled-back",
            Topic::Paused => "paused",
            Topic::Stuck => "stuck",
            Topic::Breach => "breach",
            Topic::Shared => "shared",
            Topic::TrafficShare => "traffic-share",
            Topic::Vanished => "vanished",
            Topic::NoRequests => "no-requests",
            Topic::RouterUnreadable => "router-unreadable",
            Topic::Foreign => "foreign",
            Topic::Limit { .. } => "limit",
            Topic::Gate => "gate",
            Topic::Alert => "alert",
            Topic::Capacity => "capacity",
            Topic::Release => "release",
        }
    }
}

/// Does it begin, end, or only happen?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Happened: there is nothing to resolve.
    Event,
    /// Holds from now on.
    Firing,
    /// Holds no more. Told only after `Firing` of the same topic.
    Resolved,
}

impl Phase {
    /// The word of messages.
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Event => "event",
            Phase::Firing => "firing",
            Phase::Resolved => "resolved",
        }
    }
}

/// One thing to be told. A receiver decides how it looks there, never whether it is true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// How loud.
    pub level: Level,
    /// About what.
    pub topic: Topic,
    /// Does it begin, end, or only happen?
    pub phase: Phase,
    /// For a person: what was seen, and what can be done.
    pub text: String,
}

/// How bad an alert of somebody else says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Anything else: shown only.
    Info,
    /// Holds the rollout.
    Warning,
    /// Rolls back if it names the canary and not the baseline too; else holds and pages.
    Critical,
}

/// An alert of an Alertmanager that concerns a rollout (DESIGN 8): not ours, and selected by the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// The sender's identity of it: repeats carry the same.
    pub fingerprint: String,
    /// Its `alertname`.
    pub name: String,
    /// Firing, or resolved.
    pub firing: bool,
    /// How bad.
    pub severity: Severity,
    /// Which arm its labels name (workload, pod, version, `canaryd_arm`); `None` = the service as a whole.
    pub names: Option<Arm>,
    /// When it began.
    pub since: Timestamp,
    /// Its summary, for a person.
    pub text: String,
}
