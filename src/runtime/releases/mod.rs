//! One task for the daemon that watches for new releases in the cluster and begins their rollouts (DESIGN 6.1). What follows from what
//! it sees is decided in `decide.rs`; a start goes the way of a person's, so that whatever keeps a person from starting keeps it too.

mod decide;
mod held;
mod idle;
mod known;
mod say;
mod starts;

pub(super) use known::Templates;

use super::handle::{Refusal, Waiting};
use super::registry::Registry;
use super::supervisor::{Followed, News};
use crate::cluster::{Cluster, Release};
use crate::model::rule::Replicas;
use crate::model::{RolloutId, Rule, Side};
use crate::notify::Notices;
use crate::router::Router;
use crate::telemetry::{Metrics, events};
use decide::{Finding, OnTrial, Scene, Shown, Sight, What, Why, decide};
use futures_util::future::join_all;
use say::{Said, Tried, waits_for_pods};
use starts::Refused;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// Who starts a rollout here.
pub(super) const CLUSTER: &str = "cluster";
/// What comes together is looked at together: one template changes a Deployment, ReplicaSets and pods.
const TOGETHER: Duration = Duration::from_millis(200);
/// How often it looks without being told: a window opens and a router's weight moves without a change in the cluster.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How often workloads that may be idle are looked at: `keep` is hours.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Longest wait for the router.
const READ_MAX: Duration = Duration::from_secs(10);
/// Routers that are read at once, when a whole fleet is released.
const READS_AT_ONCE: usize = 16;
/// Notes that wait for the store together: as many as share a commit.
const NOTES_AT_ONCE: usize = 256;
/// Characters of a template's identity that people read.
const SHORT: usize = 8;

/// What a release is called: what the cluster says people call it, and the beginning of its template's identity, because the same
/// tag may be deployed twice with another configuration. `shop:v2 (3f9ac01b)`.
pub(super) fn named(release: &Release) -> String {
    let short: String = release.template.chars().take(SHORT).collect();
    if release.version.is_empty() { short } else { format!("{} ({short})", release.version) }
}

/// Was this version named by [`named`]?
pub(super) fn is_named_here(version: &str) -> bool {
    let short = version.strip_suffix(')').and_then(|v| v.rsplit_once(" (")).map(|(_, short)| short);
    short.is_some_and(|s| s.chars().count() == SHORT && s.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// What the task is made of.
pub(super) struct Parts {
    pub(super) cluster: Cluster,
    pub(super) templates: Templates,
    pub(super) news: mpsc::Sender<News>,
    /// A rollout is over, or the rules are others: what was waited with may begin.
    pub(super) poke: Arc<Notify>,
    pub(super) notices: Notices,
    pub(super) registry: Registry,
    pub(super) metrics: Metrics,
    pub(super) shutdown: CancellationToken,
}

/// The task.
pub(super) struct Releases {
    parts: Parts,
    /// What has been said and is still so.
    said: BTreeSet<Said>,
    tried: Tried,
    /// The change of the cluster up to which templates were read anew, by rule.
    read: BTreeMap<String, u64>,
    /// Who is without traffic, by rule, for what was seen then.
    idle: BTreeMap<String, Asked>,
    /// Starts under way, with their templates.
    starts: JoinSet<(String, String, Result<RolloutId, Refusal>)>,
    starting: BTreeSet<String>,
    /// Starts that were refused.
    refused: BTreeMap<String, Refused>,
    /// What is shown of releases that wait, by rule.
    waiting: BTreeMap<String, Waiting>,
    /// What [`Cluster::changes`] said of a rule's workloads when it was looked at last.
    looked: BTreeMap<String, u64>,
    /// Rules of whose workloads nothing is held that no rollout came of.
    free: BTreeSet<String>,
    /// What is to be noted when all were looked at.
    notes: Vec<(Arc<Rule>, Side, Option<String>)>,
    sweeping: Option<JoinHandle<()>>,
}

/// At which rules it looks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    All,
    /// Those whose workloads changed.
    Changed,
}

/// The router's answer, and to what question.
struct Asked {
    seen: [Sight; 2],
    at: Instant,
    idle: Result<Side, String>,
}

/// What a look at a rule leaves to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Nothing,
    /// Ask its router who carries the traffic, and look again.
    Ask,
}

impl Releases {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            parts,
            said: BTreeSet::new(),
            tried: Tried::default(),
            read: BTreeMap::new(),
            idle: BTreeMap::new(),
            starts: JoinSet::new(),
            starting: BTreeSet::new(),
            refused: BTreeMap::new(),
            waiting: BTreeMap::new(),
            looked: BTreeMap::new(),
            free: BTreeSet::new(),
            notes: Vec::new(),
            sweeping: None,
        }
    }

    /// Until shutdown.
    pub(super) async fn run(mut self) {
        let mut changed = self.parts.cluster.changed();
        let mut sweeps = tokio::time::interval(SWEEP_EVERY);
        sweeps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut all = tokio::time::Instant::now() + LOOK_EVERY;
        loop {
            tokio::select! {
                () = self.parts.shutdown.cancelled() => return,
                Some(Ok((rule, template, result))) = self.starts.join_next() => self.started(&rule, &template, result).await,
                () = self.parts.poke.notified() => self.look(At::All).await,
                change = changed.changed() => {
                    if change.is_err() {
                        return;
                    }
                    tokio::time::sleep(TOGETHER).await;
                    changed.mark_unchanged();
                    self.look(At::Changed).await;
                }
                () = tokio::time::sleep_until(all) => {
                    all = tokio::time::Instant::now() + LOOK_EVERY;
                    self.look(At::All).await;
                }
                _ = sweeps.tick() => self.sweep().await,
            }
        }
    }

    /// What the supervisor knows of its rules; nothing when the daemon stops.
    async fn followed(&self) -> Vec<Followed> {
        let (answer, got) = oneshot::channel();
        let _ = self.parts.news.send(News::Followed { answer }).await;
        got.await.unwrap_or_default()
    }

    async fn sweep(&mut self) {
        if self.sweeping.as_ref().is_none_or(JoinHandle::is_finished) {
            let sweep = idle::sweep(self.parts.cluster.clone(), self.parts.news.clone(), self.followed().await);
            self.sweeping = Some(tokio::spawn(sweep));
        }
    }

    async fn look(&mut self, at: At) {
        let mut all = self.followed().await;
        if at == At::All {
            self.forget_gone(&all);
        } else {
            all.retain(|followed| self.looked.get(&followed.rule.name) != Some(&self.parts.cluster.changes(&followed.rule.workloads)));
        }
        let mut asking = Vec::new();
        for followed in all {
            if self.look_at(&followed).await == Some(Next::Ask) {
                asking.push(followed);
            }
        }
        for some in asking.chunks(READS_AT_ONCE) {
            self.look_with_traffic(some).await;
        }
        self.note_all().await;
    }

    /// Those that need to know who carries the traffic.
    async fn look_with_traffic(&mut self, some: &[Followed]) {
        self.ask(some).await;
        let asked: BTreeSet<&str> = some.iter().map(|followed| followed.rule.name.as_str()).collect();
        // it may have taken seconds, and a person may have started one of them
        for followed in self.followed().await.iter().filter(|followed| asked.contains(followed.rule.name.as_str())) {
            self.look_at(followed).await;
        }
    }

    /// What is remembered of rules that are no more.
    fn forget_gone(&mut self, all: &[Followed]) {
        let there: BTreeSet<&str> = all.iter().map(|followed| followed.rule.name.as_str()).collect();
        self.looked.retain(|rule, _| there.contains(rule.as_str()));
        self.read.retain(|rule, _| there.contains(rule.as_str()));
        self.idle.retain(|rule, _| there.contains(rule.as_str()));
        self.free.retain(|rule| there.contains(rule.as_str()));
        self.refused.retain(|rule, _| there.contains(rule.as_str()));
        self.waiting.retain(|rule, _| there.contains(rule.as_str()));
        self.tried.keep(|rule| there.contains(rule));
    }

    /// One rule. What cannot be done because of the store is tried again.
    async fn look_at(&mut self, followed: &Followed) -> Option<Next> {
        self.looked.insert(followed.rule.name.clone(), self.parts.cluster.changes(&followed.rule.workloads));
        let done = self.try_look_at(followed).await;
        if let Err(why) = &done {
            self.store_failed(&followed.rule, why);
        }
        done.ok()
    }

    fn store_failed(&mut self, rule: &Rule, why: &str) {
        self.looked.remove(&rule.name);
        events::StoreFailed { what: &rule.name, error: why }.emit(&self.parts.metrics);
    }

    async fn try_look_at(&mut self, followed: &Followed) -> Result<Next, String> {
        let rule = &followed.rule;
        if followed.busy || self.starting.contains(&rule.name) {
            self.looked.remove(&rule.name);
            return Ok(Next::Nothing);
        }
        let seen = self.sights(rule).await?;
        let known = self.parts.templates.of(&rule.name).await.map_err(|e| e.to_string())?;
        let of = |side: Side| known::of_side(&known, rule, side);
        let nothing = BTreeSet::new();
        let on_trial = self.on_trial(followed);
        let mut scene = Scene {
            form: rule.workloads.form,
            automatic: rule.start.on_new_template,
            scales: rule.replicas == Replicas::Follow || rule.traffic.is_of_replicas(),
            leads: rule.traffic.leads_rolling_update(),
            known: [of(Side::First), of(Side::Second)],
            seen: [&seen[0], &seen[1]],
            idle: None,
            on_trial: on_trial.as_ref(),
            rolled_back: &nothing,
            promoted: None,
        };
        let mut found = decide(&scene);
        if found.is_empty() {
            self.nothing_new(followed, on_trial.as_ref(), &seen).await;
            return Ok(Next::Nothing);
        }
        let rolled_back = self.parts.templates.rolled_back(&rule.name).await.map_err(|e| e.to_string())?;
        scene.rolled_back = &rolled_back;
        scene.idle = self.fresh_idle(rule, &seen);
        found = decide(&scene);
        if found.iter().any(|finding| finding.what == What::AskTraffic) {
            return Ok(Next::Ask);
        }
        let promoted;
        if found.iter().any(|finding| finding.what == What::Live) {
            promoted = self.parts.templates.promoted(&rule.name).await.map_err(|e| e.to_string())?;
            scene.promoted = promoted.as_deref();
            found = decide(&scene);
        }
        let waits = found.iter().find_map(|finding| self.waits(rule, finding, &seen));
        self.show_waiting(&rule.name, waits);
        for finding in found {
            self.follow(followed, finding, &seen).await;
        }
        Ok(Next::Nothing)
    }

    /// Both workloads as they are seen. In this order: what was seen before templates were read anew is told in the new words; the other
    /// way round it would be news.
    async fn sights(&mut self, rule: &Rule) -> Result<[Sight; 2], String> {
        let seen = [Side::First, Side::Second].map(|side| self.sight(rule, side));
        self.read_anew(rule).await?;
        Ok(seen.map(|sight| self.in_new_words(rule, sight)))
    }

    /// The rollout that is on trial, if there is one, in today's words for its template.
    fn on_trial(&self, followed: &Followed) -> Option<OnTrial> {
        followed.on_trial.as_ref().map(|run| OnTrial {
            canary: run.begin.canary,
            template: run.begin.noted.as_ref().map(|noted| self.parts.templates.called(&followed.rule.name, &noted.template)),
            state: run.state.clone(),
            has_all: run.has_all,
        })
    }

    /// All is as it is known: what was said of news is over, and without a rollout on trial what was stopped for it goes on.
    async fn nothing_new(&mut self, followed: &Followed, on_trial: Option<&OnTrial>, seen: &[Sight; 2]) {
        let run = followed.on_trial.as_ref().map(|run| &run.id).zip(on_trial);
        self.forget_said(&followed.rule, run, seen);
        self.show_waiting(&followed.rule.name, None);
        if on_trial.is_none() {
            self.let_go(&followed.rule).await;
        }
    }

    /// What an API server reads otherwise than the one before, and nobody wrote, is no news.
    async fn read_anew(&mut self, rule: &Rule) -> Result<(), String> {
        let marks = self.parts.cluster.changes(&rule.workloads);
        if self.read.get(&rule.name) == Some(&marks) {
            return Ok(());
        }
        let first = !self.read.contains_key(&rule.name);
        for side in [Side::First, Side::Second] {
            // out of sight: then it is as it was
            let now = self.parts.cluster.readings(rule.workloads.side(side)).unwrap_or_default();
            let renamed = self.parts.templates.read_as(rule, side, now).await.map_err(|e| e.to_string())?;
            for (was, template) in renamed {
                let workload = rule.workloads.name(side);
                events::ReleaseRenamed { rule: &rule.name, workload, was: &was, template: &template }.emit();
            }
        }
        if first {
            // what this process has not seen becoming another
            self.parts.templates.of(&rule.name).await.map_err(|e| e.to_string())?;
            let renamed = self.parts.templates.renamed(&rule.name);
            self.parts.cluster.called(rule.workloads.side(Side::Second), &renamed);
        }
        self.read.insert(rule.name.clone(), marks);
        Ok(())
    }

    fn in_new_words(&self, rule: &Rule, sight: Sight) -> Sight {
        match sight {
            Sight::There(shown) => {
                let template = self.parts.templates.called(&rule.name, &shown.template);
                Sight::There(Shown { template, ..shown })
            }
            other => other,
        }
    }

    fn sight(&self, rule: &Rule, side: Side) -> Sight {
        match self.parts.cluster.release(rule.workloads.side(side)) {
            Err(why) => Sight::Hidden(why),
            Ok(None) => Sight::Absent,
            Ok(Some(release)) => Sight::There(Shown {
                version: named(&release),
                template: release.template,
                number: release.number,
                program: release.program,
                is_ready: release.ready,
                ready: release.ready_replicas,
                wanted: release.replicas,
                stalled: release.stalled,
                held: release.held,
            }),
        }
    }

    /// The router is asked again when the workloads look different, and from time to time.
    fn fresh_idle(&self, rule: &Rule, seen: &[Sight; 2]) -> Option<Result<Side, String>> {
        let fresh = |asked: &&Asked| asked.seen == *seen && asked.at.elapsed() < LOOK_EVERY;
        self.idle.get(&rule.name).filter(fresh).map(|asked| asked.idle.clone())
    }

    /// Asks who is without traffic, of several at once: one that hangs must not delay all others.
    async fn ask(&mut self, some: &[Followed]) {
        let seen = |followed: &Followed| [Side::First, Side::Second].map(|side| self.sight(&followed.rule, side));
        let seen: Vec<[Sight; 2]> = some.iter().map(seen).collect();
        let news = &self.parts.news;
        let asked = join_all(some.iter().map(|followed| ask_idle(&followed.rule, news))).await;
        for ((followed, seen), idle) in some.iter().zip(seen).zip(asked) {
            self.idle.insert(followed.rule.name.clone(), Asked { seen, at: Instant::now(), idle });
        }
    }

    async fn follow(&mut self, followed: &Followed, finding: Finding, seen: &[Sight; 2]) {
        let (rule, side) = (&followed.rule, finding.side);
        let (name, release) = match (&finding.what, &seen[side.index()]) {
            (What::Note { template, why }, _) => return self.note(rule, side, template.clone(), *why),
            (_, Sight::There(release)) => (rule.workloads.name(side), release),
            // nothing but a note is found about what was not seen
            _ => return,
        };
        let new = format!("{name} has a new release, {}", release.version);
        match finding.what {
            What::AskTraffic | What::Note { .. } => {}
            What::Wait if release.wanted == 0 => {
                let text = format!(
                    "{new}, and no pods: {name} asks for 0 replicas. It is started when they are ready: scale {name} up, or write \
                     replicas: follow in the rule and canaryd does"
                );
                self.say_and_tell(followed, release, "no-replicas", text);
            }
            What::Wait => {
                let ready = format!("{} of {}", release.ready, release.wanted);
                self.say(rule, release, "waits", &format!("{new}: {}", waits_for_pods(release)));
                if let Some(why) = &release.stalled {
                    let text = format!("{new}, and its pods do not become ready ({ready}: {why}): it is started when they are");
                    self.say_and_tell(followed, release, "stalled", text);
                }
            }
            What::Start => self.start(rule, release, seen),
            What::Supersede => self.supersede(followed, release).await,
            What::Live => {
                let text = format!("{new}, and carries the traffic: it is live already, and no rollout is started");
                self.say_and_tell(followed, release, "live", text);
                self.note(rule, side, Some(release.template.clone()), Why::Live);
            }
            What::RolledBack => {
                let text = format!("{name} has {}, which was rolled back before", release.version);
                self.rolled_back_before(followed, release, text).await;
            }
            What::Unclear(why) => self.say_and_tell(followed, release, "unclear", format!("{new}, and no rollout is started: {why}")),
        }
    }

    fn note(&mut self, rule: &Arc<Rule>, side: Side, template: Option<String>, why: Why) {
        events::ReleaseNoted { rule: &rule.name, workload: rule.workloads.name(side), template: template.as_deref(), why: why.name() }
            .emit();
        self.notes.push((Arc::clone(rule), side, template));
    }

    /// Many together: a durable write takes milliseconds, whatever is in it, and at the first start every workload is noted.
    async fn note_all(&mut self) {
        let notes = std::mem::take(&mut self.notes);
        for some in notes.chunks(NOTES_AT_ONCE) {
            let templates = &self.parts.templates;
            let noted = join_all(some.iter().map(|(rule, side, template)| templates.note(rule, *side, template.clone()))).await;
            for ((rule, ..), noted) in some.iter().zip(noted) {
                if let Err(why) = noted {
                    self.store_failed(rule, &why.to_string());
                }
            }
        }
    }
}

async fn router_of(rule: &Rule, news: &mpsc::Sender<News>) -> Result<Arc<dyn Router>, String> {
    let (answer, got) = oneshot::channel();
    // an error means that the daemon stops
    let _ = news.send(News::Router { rule: rule.name.clone(), answer }).await;
    got.await.map_err(|_| "the daemon is shutting down".to_owned())?
}

/// The side without traffic, by the router's word.
async fn ask_idle(rule: &Rule, news: &mpsc::Sender<News>) -> Result<Side, String> {
    let router = router_of(rule, news).await?;
    let read = tokio::time::timeout(READ_MAX, router.read(Side::Second)).await;
    let reading = read.map_err(|_| format!("{}: no answer within {} s", router.name(), READ_MAX.as_secs()))?;
    let weight = reading.map_err(|e| format!("the traffic cannot be read: {e}"))?.weight;
    super::start::canary_side(rule, weight).map_err(|refusal| refusal.text)
}
