//! A line of a journal, and what its first one holds.

use super::atoms::{Wire, described, wire};
use crate::model::journal::{Event, Kept, KeptOf, KeptScale, KeptSeries, Opened};
use crate::model::{Begin, Blind, Decision, History, Input, Noted, PerArm, Poll, RolloutId, Side, Timestamp, Weight};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

described! {
    Event as EventOnWire, Opened as OpenedOnWire, Kept as KeptOnWire, KeptSeries as KeptSeriesOnWire, KeptOf as KeptOfOnWire, KeptScale as
    KeptScaleOnWire, Begin as BeginOnWire, Side as SideOnWire,
}

/// What most polls have is not written.
fn is_zero(n: &f64) -> bool {
    n.to_bits() == 0 // -0.0 is kept, bit for bit
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Event", rename_all = "kebab-case")]
enum EventOnWire {
    Opened(#[serde(with = "wire")] Box<Opened>),
    Poll {
        #[serde(with = "wire")]
        poll: Box<Poll>,
        #[serde(with = "wire")]
        missing: PerArm<Option<Blind>>,
        detail: String,
        #[serde(with = "wire", default, skip_serializing_if = "is_zero")]
        orphans: f64,
    },
    Input(#[serde(with = "wire")] Box<Input>),
    Decided(#[serde(with = "wire")] Box<Decision>),
    Gap(String),
    Restarted {
        incarnation: u32,
        why: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Opened", rename_all = "kebab-case")]
struct OpenedOnWire {
    #[serde(with = "wire")]
    id: RolloutId,
    rule: String,
    rule_text: String,
    // journals before it have none
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    attached: BTreeMap<String, String>,
    file: String,
    #[serde(with = "wire")]
    interval: Duration,
    #[serde(with = "wire")]
    bounds_ms: Vec<f64>,
    #[serde(with = "wire")]
    scale: f64,
    incarnation: u32,
    #[serde(with = "wire")]
    history: History,
    #[serde(with = "wire")]
    begin: Begin,
    // journals before it have none
    #[serde(with = "wire", default, skip_serializing_if = "Option::is_none")]
    kept: Option<Kept>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Kept", rename_all = "kebab-case")]
struct KeptOnWire {
    #[serde(with = "wire")]
    since: Timestamp,
    #[serde(with = "wire")]
    interval: Duration,
    #[serde(with = "wire")]
    scale: f64,
    #[serde(with = "wire")]
    series: Vec<KeptSeries>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "KeptSeries", rename_all = "kebab-case")]
struct KeptSeriesOnWire {
    #[serde(with = "wire")]
    of: KeptOf,
    #[serde(with = "wire")]
    scales: Vec<KeptScale>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "KeptOf", rename_all = "kebab-case")]
enum KeptOfOnWire {
    Requests,
    Custom(String),
    Tail(#[serde(with = "wire")] f64),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "KeptScale", rename_all = "kebab-case")]
struct KeptScaleOnWire {
    polls: u64,
    #[serde(with = "wire")]
    num: f64,
    #[serde(with = "wire")]
    den: f64,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Begin", rename_all = "kebab-case")]
struct BeginOnWire {
    #[serde(with = "wire")]
    canary: Side,
    version: String,
    by: String,
    #[serde(with = "wire")]
    weight: Weight,
    first: bool,
    retry: bool,
    generation: u64,
    // journals before it have none
    #[serde(with = "wire", default, skip_serializing_if = "Option::is_none")]
    noted: Option<Noted>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Side", rename_all = "kebab-case")]
enum SideOnWire {
    First,
    Second,
}
