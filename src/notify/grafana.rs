//! Grafana's annotations API (PROTOCOLS 4.3): a region for each step, opened when it begins and closed when the next begins, and a
//! point for the outcome. What was written before a restart, or by a call whose answer was lost, is found again there by its tags
//! and its time, so that nothing is written twice and nothing stays open: Grafana itself is the memory of the ids.

use super::alertmanager::number;
use super::http::{Answer, Client, Endpoint};
use super::{Delivery, Fault, Receiver, Told};
use crate::model::{RolloutId, Timestamp, Weight};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use url::form_urlencoded;

/// Marks kept for one Grafana: while it is down for hours, the steps and outcomes of a thousand rollouts.
const MARKS_MAX: usize = 8192;
/// Annotations asked for when one's own are looked for: far more than a rollout has steps.
const FOUND_MAX: usize = 1000;
/// After a wrong token or address somebody must act: no need to knock every second.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

/// How annotations look.
#[derive(Clone, Debug)]
pub struct Style {
    /// Uid of the dashboard they belong to; `None` = any dashboard that asks for the tags.
    pub dashboard: Option<String>,
    /// Further tags.
    pub tags: Vec<String>,
    /// Base of links: where people reach the daemon, without a slash at the end.
    pub external_url: String,
}

/// One Grafana.
#[derive(Debug)]
pub struct Grafana {
    client: Client,
    style: Style,
    /// In the order they began; those closed are dropped.
    marks: VecDeque<Mark>,
    /// The newest rollout met of each rule.
    met: BTreeMap<String, RolloutId>,
    /// Rollouts met just now: what an earlier process left open is to be taken up.
    adopt: VecDeque<Adopt>,
    missed: Vec<(RolloutId, &'static str)>,
}

/// One annotation.
#[derive(Clone, Debug, PartialEq)]
struct Mark {
    rule: String,
    rollout: RolloutId,
    /// What tells it from the rollout's others: `step-25%`, `baking`, `outcome`.
    kind: String,
    text: String,
    since: Timestamp,
    /// Where it ends: a region that goes on has none yet, a point's is its begin.
    until: Option<Timestamp>,
    id: Id,
}

/// A rollout whose annotations are to be looked for.
#[derive(Clone, Debug, PartialEq)]
struct Adopt {
    rule: String,
    rollout: RolloutId,
    /// When it was met: a region that is not its present one ends there.
    at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Id {
    /// Never written.
    New,
    /// It may have been written: to be looked for.
    Unsure,
    /// Written, and open there.
    Is(u64),
}

impl Mark {
    fn is_point(&self) -> bool {
        self.until == Some(self.since) && self.kind == OUTCOME
    }

    /// Nothing is left to be said.
    fn is_due(&self) -> bool {
        !matches!(self.id, Id::Is(_)) || self.until.is_some()
    }
}

/// Kind of the mark of an outcome.
const OUTCOME: &str = "outcome";

impl Grafana {
    /// The Grafana at this endpoint.
    ///
    /// # Errors
    /// The URL is none, or a file cannot be used.
    pub fn new(endpoint: Endpoint, style: Style) -> Result<Self, String> {
        Ok(Self {
            client: Client::new(endpoint)?,
            style,
            marks: VecDeque::new(),
            met: BTreeMap::new(),
            adopt: VecDeque::new(),
            missed: Vec::new(),
        })
    }

    fn meet(&mut self, told: &Told) {
        let newest = self.met.get(&told.rule.name);
        if newest.is_none_or(|met| number(met) < number(&told.rollout)) {
            self.met.insert(told.rule.name.clone(), told.rollout.clone());
            self.adopt.push_back(Adopt { rule: told.rule.name.clone(), rollout: told.rollout.clone(), at: told.at });
        }
    }

    /// The open regions of this rollout, and of older ones of its rule, end now.
    fn close(&mut self, told: &Told, but: Option<&str>) {
        for mark in &mut self.marks {
            let same = mark.rollout == told.rollout && but != Some(mark.kind.as_str());
            let older = mark.rule == told.rule.name && number(&mark.rollout) < number(&told.rollout);
            if mark.until.is_none() && (same || older) {
                mark.until = Some(told.at.max(mark.since));
            }
        }
    }

    fn put(&mut self, told: &Told, kind: String, until: Option<Timestamp>) {
        if self.marks.len() >= MARKS_MAX {
            self.missed.push((told.rollout.clone(), "too-many-annotations"));
            return;
        }
        self.marks.push_back(Mark {
            rule: told.rule.name.clone(),
            rollout: told.rollout.clone(),
            text: text(told, &self.style),
            kind,
            since: told.at,
            until,
            id: if told.again { Id::Unsure } else { Id::New },
        });
    }

    async fn send(&mut self) -> Result<(), Fault> {
        while let Some(adopt) = self.adopt.front().cloned() {
            let found = self.find(&[OURS.to_owned(), rollout_tag(&adopt.rollout)]).await?;
            found.into_iter().filter(Found::is_open).for_each(|found| self.take_up(&adopt, found));
            self.adopt.pop_front();
        }
        let mut refused = Ok(());
        while let Some(at) = self.marks.iter().position(Mark::is_due) {
            match self.send_one(at).await {
                Ok(()) => {}
                Err(fault) if fault.again => return Err(fault),
                Err(fault) => {
                    self.marks.remove(at);
                    refused = Err(fault);
                }
            }
        }
        refused
    }

    /// A region that an earlier process left open is the present one, or ends now.
    fn take_up(&mut self, adopt: &Adopt, found: Found) {
        let Some(kind) = found.kind.filter(|kind| kind != OUTCOME) else { return };
        let since = Timestamp::from_millis(found.time);
        let same = |m: &&mut Mark| m.rollout == adopt.rollout && m.kind == kind;
        match self.marks.iter_mut().find(same) {
            Some(mark) => (mark.id, mark.since) = (Id::Is(found.id), since),
            None => {
                let (rule, rollout) = (adopt.rule.clone(), adopt.rollout.clone());
                let until = Some(adopt.at.max(since));
                self.marks.push_back(Mark { rule, rollout, kind, text: found.text, since, until, id: Id::Is(found.id) });
            }
        }
    }

    /// One call, and what follows from its answer.
    async fn send_one(&mut self, at: usize) -> Result<(), Fault> {
        let Some(mark) = self.marks.get(at).cloned() else { return Ok(()) };
        let (id, done) = match mark.id {
            Id::Unsure => {
                let found = self.find(&[OURS.to_owned(), rollout_tag(&mark.rollout), kind_tag(&mark.kind)]).await?;
                let there = found.iter().find(|a| a.time == mark.since.as_millis());
                (there.map_or(Id::New, |a| Id::Is(a.id)), there.is_some() && mark.is_point())
            }
            Id::New => {
                // no answer does not say that it was not written
                self.set(at, Id::Unsure);
                match self.create(&mark).await {
                    Ok(id) => (Id::Is(id), mark.until.is_some()),
                    Err(fault) => {
                        let written = matches!(fault.reason, "timeout" | "unreachable");
                        self.set(at, if written { Id::Unsure } else { Id::New });
                        return Err(fault);
                    }
                }
            }
            Id::Is(id) => match self.end(&mark, id).await? {
                true => (mark.id, true),
                // somebody deleted it: it is written anew, whole
                false => (Id::New, false),
            },
        };
        self.set(at, id);
        if done {
            self.marks.remove(at);
        }
        Ok(())
    }

    fn set(&mut self, at: usize, id: Id) {
        if let Some(mark) = self.marks.get_mut(at) {
            mark.id = id;
        }
    }

    async fn create(&self, mark: &Mark) -> Result<u64, Fault> {
        let mut body = json!({ "time": mark.since.as_millis(), "tags": self.tags(mark), "text": mark.text });
        if let Some(until) = mark.until.filter(|_| !mark.is_point()) {
            body["timeEnd"] = until.as_millis().into();
        }
        if let Some(uid) = &self.style.dashboard {
            body["dashboardUID"] = uid.as_str().into();
        }
        let answer = self.client.call(Method::POST, "/api/annotations", Some(&body)).await?;
        let answer = self.accepted(answer, "POST /api/annotations", "annotations:create")?;
        let id = serde_json::from_slice::<Value>(&answer.body).ok().and_then(|body| body["id"].as_u64());
        id.ok_or_else(|| Fault::new("refused", format!("POST /api/annotations: no id in {:?}", answer.shown()), false))
    }

    /// Ends a region; `false` if it is gone.
    async fn end(&self, mark: &Mark, id: u64) -> Result<bool, Fault> {
        let until = mark.until.unwrap_or(mark.since).as_millis();
        let body = json!({ "timeEnd": until, "text": mark.text, "tags": self.tags(mark) });
        let answer = self.client.call(Method::PATCH, &format!("/api/annotations/{id}"), Some(&body)).await?;
        if answer.status.as_u16() == 404 {
            return Ok(false);
        }
        self.accepted(answer, "PATCH /api/annotations", "annotations:write").map(|_| true)
    }

    /// What is there with all of these tags.
    async fn find(&self, tags: &[String]) -> Result<Vec<Found>, Fault> {
        let path = query(tags);
        let answer = self.client.call(Method::GET, &path, None).await?;
        let answer = self.accepted(answer, "GET /api/annotations", "annotations:read")?;
        let all: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let all =
            all.as_array().ok_or_else(|| Fault::new("refused", format!("GET /api/annotations: no list in {:?}", answer.shown()), true))?;
        Ok(all.iter().filter_map(Found::read).collect())
    }

    /// A success, or what an operator can do about it.
    fn accepted(&self, answer: Answer, what: &str, right: &str) -> Result<Answer, Fault> {
        if answer.status.is_success() {
            return Ok(answer);
        }
        let mut fault = answer.fault(what);
        match answer.status.as_u16() {
            401 => fault.text.push_str("; the token is unknown there: write a service account's token into token_file"),
            403 => fault.text.push_str(&format!("; the token's service account needs the right {right}")),
            404 => fault.text.push_str("; there is no Grafana at this address"),
            // as Grafana answers for a dashboard it does not know
            500 if self.style.dashboard.is_some() => fault.text.push_str("; is there a dashboard of this uid?"),
            _ => {}
        }
        if matches!(answer.status.as_u16(), 401 | 403 | 404) {
            fault.after = fault.after.or(Some(REFUSED_PAUSE));
        }
        Err(fault)
    }

    fn tags(&self, mark: &Mark) -> Vec<String> {
        let own = [OURS.to_owned(), format!("rule:{}", mark.rule), rollout_tag(&mark.rollout), kind_tag(&mark.kind)];
        own.into_iter().chain(self.style.tags.iter().cloned()).collect()
    }
}

/// The tag of everything of ours.
const OURS: &str = "canaryd";

/// The path that asks for what has all of these tags.
fn query(tags: &[String]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(tags.iter().map(|tag| ("tags", tag)));
    query.append_pair("limit", &FOUND_MAX.to_string());
    format!("/api/annotations?{}", query.finish())
}

fn rollout_tag(rollout: &RolloutId) -> String {
    format!("rollout:{rollout}")
}

fn kind_tag(kind: &str) -> String {
    format!("canaryd:{kind}")
}

/// An annotation of ours as Grafana shows it.
#[derive(Debug)]
struct Found {
    id: u64,
    time: i64,
    time_end: i64,
    text: String,
    kind: Option<String>,
}

impl Found {
    fn read(value: &Value) -> Option<Self> {
        let time = value["time"].as_i64()?;
        let tags = value["tags"].as_array().map(Vec::as_slice).unwrap_or_default();
        Some(Self {
            id: value["id"].as_u64()?,
            time,
            time_end: value["timeEnd"].as_i64().unwrap_or(time),
            text: value["text"].as_str().unwrap_or_default().to_owned(),
            kind: tags.iter().filter_map(Value::as_str).find_map(|tag| tag.strip_prefix("canaryd:")).map(str::to_owned),
        })
    }

    /// A region without an end looks like a point there.
    fn is_open(&self) -> bool {
        self.time_end <= self.time
    }
}

/// What a person reads beside the graph.
fn text(told: &Told, style: &Style) -> String {
    let version = if told.version.is_empty() { String::new() } else { format!(" ({})", told.version) };
    let canary = told.rule.workloads.side(told.canary).name();
    let words = &told.notice.text;
    format!(
        "{}{version}: canary {canary} at {}, {}. {words} {}/api/v1/rollouts/{}",
        told.rollout, told.weight, told.state, style.external_url, told.rollout
    )
}

impl Receiver for Grafana {
    fn target(&self) -> &str {
        self.client.url()
    }

    fn take(&mut self, told: &Told, _: Timestamp) {
        self.meet(told);
        match kind(told) {
            Kind::Region(kind) => {
                self.close(told, Some(&kind));
                let open = |m: &Mark| m.rollout == told.rollout && m.kind == kind && m.until.is_none();
                if !self.marks.iter().any(open) {
                    self.put(told, kind, None);
                }
            }
            Kind::Outcome => {
                self.close(told, None);
                let there = self.marks.iter().any(|m| m.rollout == told.rollout && m.kind == OUTCOME);
                if !there {
                    self.put(told, OUTCOME.to_owned(), Some(told.at));
                }
            }
            Kind::Back => self.close(told, None),
            Kind::Same => {}
        }
    }

    fn due(&self) -> Option<Timestamp> {
        (!self.adopt.is_empty() || self.marks.iter().any(Mark::is_due)).then(Timestamp::default)
    }

    fn deliver(&mut self, _: Timestamp) -> Delivery<'_> {
        Box::pin(self.send())
    }

    fn missed(&mut self) -> Vec<(RolloutId, &'static str)> {
        std::mem::take(&mut self.missed)
    }
}

/// What a notice says about the graph.
enum Kind {
    /// This stretch is under way.
    Region(String),
    /// The stretch before is over, and the traffic on its way back.
    Back,
    /// It is over.
    Outcome,
    /// Nothing new: a wait, a pause, something that fires.
    Same,
}

fn kind(told: &Told) -> Kind {
    match told.state {
        "progressing" if told.weight > Weight::ZERO => Kind::Region(format!("step-{}", told.weight)),
        "baking" | "promoting" => Kind::Region(told.state.to_owned()),
        "rolling-back" => Kind::Back,
        "succeeded" | "rolled-back" | "superseded" => Kind::Outcome,
        _ => Kind::Same,
    }
}
