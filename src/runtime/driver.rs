//! One rollout's driver: the only one who speaks to its machine. For every input: ask the machine, store input and decision,
//! then let the effects be applied. A decision is a value; nothing is applied that was not stored, with one exception
//! (DESIGN 9): a lower weight may go out while the store is down, and is recorded afterwards.

use super::alerts::{Arrived, Desk};
use super::changes;
use super::clock;
use super::conductor::Live;
use super::handle::{EventLine, Refusal, RolloutView};
use super::hooks::{Caller, Hooks};
use super::lookout::{Lookout, News, Seen, Watched};
use super::mail::{Back, Judged, Mail};
use super::memory::Memory;
use super::registry::{Cell, Registry};
use super::replay::{Left, Lost};
use super::supervisor::needed;
use super::worker::Worker;
use super::writer::{ReadGuard, Writer};
use crate::model::journal::Event;
use crate::model::rule::Traffic;
use crate::model::{
    Action, Begin, Command, Decision, Effect, Input, Judgement, Mode, Notice, Outcome, Promoting, Retry, RolloutId, Rule, State, Tick,
    Timestamp, TrafficReading, Weight, WorkloadAction,
};
use crate::notify::{Notices, Told};
use crate::rollout::Machine;
use crate::router::Router;
use crate::telemetry::{Metrics, events, words};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// What a driver is made of.
pub(super) struct Parts {
    pub(super) id: RolloutId,
    pub(super) rule: Arc<Rule>,
    pub(super) machine: Machine,
    pub(super) memory: Memory,
    pub(super) router: Arc<dyn Router>,
    pub(super) begin: Begin,
    pub(super) live: Arc<Live>,
    pub(super) cell: Cell,
    pub(super) registry: Registry,
    pub(super) metrics: Metrics,
    pub(super) notices: Notices,
    pub(super) hooks: Hooks,
    /// What it has heard from Alertmanagers.
    pub(super) desk: Desk,
    /// Its eyes in the cluster, if its workloads are in one.
    pub(super) lookout: Option<Lookout>,
    /// Its hands there.
    pub(super) worker: Option<Worker>,
    pub(super) back: Back,
    pub(super) mailbox: mpsc::Receiver<Mail>,
}

pub(super) struct Driver {
    parts: Parts,
    writer: Writer,
    caller: Caller,
    /// Marks that the router was written, by whomever; and that it has to be read for that once more.
    changed: Option<watch::Receiver<u64>>,
    read_again: bool,
    /// The last reading.
    seen: Option<Result<TrafficReading, String>>,
    last: Option<Arc<Decision>>,
    now: Timestamp,
    /// Number of the last copy into stable.
    copy: Option<u64>,
    /// What the cluster showed last.
    workloads: Option<Seen>,
}

impl Driver {
    pub(super) fn new(parts: Parts) -> Self {
        if let Some(noted) = &parts.begin.noted {
            parts.router.begins(noted);
        }
        let told = (parts.id.clone(), parts.metrics.clone());
        let writer = Writer::start(Arc::clone(&parts.router), (parts.begin.canary, parts.begin.noted.clone()), told, parts.back.clone());
        let Parts { hooks, rule, id, begin, back, .. } = &parts;
        let caller = Caller::new(hooks.clone(), Arc::clone(rule), id.clone(), begin.clone(), back.clone());
        let changed = parts.router.changed();
        Self {
            writer,
            caller,
            changed,
            read_again: false,
            seen: None,
            last: None,
            now: Timestamp::default(),
            copy: None,
            workloads: None,
            parts,
        }
    }

    /// A new rollout: tells the machine that it begins.
    pub(super) async fn begin(&mut self) {
        let begin = Input::Begin(self.parts.begin.clone());
        self.handle(begin).await;
    }

    /// After a restart: the machine has been led through the journal. If its evidence begins anew, that is written first, at
    /// the time it was rebuilt for. A weight that was not confirmed is asked for again, because it may have come to it or not;
    /// so is one that a router in this process has forgotten. One in force is not: if another stands there now, a reading
    /// shows it, and the rule says whose word counts. In observe mode nothing was asked. A hook that was
    /// called and did not answer is called again, as the same attempt. Notices that still fire are told again,
    /// because some receivers remember only what this process told them.
    pub(super) async fn resume(&mut self, left: Left) {
        let Left { decision: last, unanswered, copied, firing, heard, lost } = left;
        self.copy = copied;
        self.parts.desk.take_up(clock::now(), heard);
        if let Some(Lost { incarnation, why }) = lost {
            self.parts.memory.push(last.at, Event::Restarted { incarnation, why });
            self.parts.memory.push(last.at, Event::Decided(Box::new(last.clone())));
            self.save().await;
        }
        self.parts.live.set(last.step, last.counts_time);
        self.now = last.at;
        for (at, notice) in firing {
            self.notify(&Decision { at, ..last.clone() }, notice, true);
        }
        let in_force = forgets(&self.parts.rule).then_some((last.weight, last.generation));
        if let Some((weight, generation)) = self.parts.machine.unconfirmed().or(in_force) {
            self.writer.want(weight, generation);
        }
        unanswered.iter().for_each(|effect| self.apply(&last, effect));
        if let Some((hook, attempt)) = self.parts.machine.unanswered_hook() {
            self.caller.call(&last, hook, attempt);
        }
        self.watch_promotion(&last.state);
        self.last = Some(Arc::new(last));
    }

    /// Until the rollout is over (true), or nobody is left who could tell it anything.
    pub(super) async fn run(mut self) -> bool {
        while !self.last.as_ref().is_some_and(|d| d.state.is_over() && self.parts.memory.is_saved()) {
            let wake = self.last.as_ref().and_then(|d| d.wake_at);
            let expiry = self.parts.desk.expires_at();
            tokio::select! {
                biased;
                mail = self.parts.mailbox.recv() => match mail {
                    Some(mail) => self.open(mail).await,
                    None => {
                        self.save().await;
                        return false;
                    }
                },
                () = clock::sleep_until(wake.unwrap_or_default()), if wake.is_some() => self.handle(Input::Wake).await,
                () = clock::sleep_until(expiry.unwrap_or_default()), if expiry.is_some() => self.on_expiry().await,
                () = marked(&mut self.changed) => self.read_again = !self.writer.read_soon(&self.parts.back),
                () = self.parts.memory.retry_due(), if self.parts.memory.is_down() => self.save().await,
                news = news_of(&mut self.parts.lookout) => self.on_news(news).await,
            }
        }
        true
    }

    async fn open(&mut self, mail: Mail) {
        match mail {
            Mail::Judged(judged) => self.on_judged(*judged).await,
            Mail::Command { command, answer } => self.on_command(command, answer).await,
            Mail::Supersede { version } => self.handle(Input::Supersede { version }).await,
            Mail::Alerts { alerts, answer } => self.on_alerts(alerts, answer).await,
            Mail::Written { generation, outcome } => self.on_written(generation, outcome).await,
            Mail::Hooked { hook, attempt, answer } => self.handle(Input::Hook { hook, attempt, answer }).await,
            Mail::Worked { number, outcome } => self.handle(Input::Workload { number, outcome }).await,
            Mail::HeldStill => drop(self.writer.read_soon(&self.parts.back)),
            Mail::Read { reading, guard } => self.on_read(reading, guard).await,
        }
    }

    async fn on_judged(&mut self, judged: Judged) {
        let Judged { poll, missing, detail, orphans, judgement, dealt } = judged;
        self.writer.read_soon(&self.parts.back);
        let changes = poll.changes.clone();
        let event = Event::Poll { poll: Box::new(poll), missing, detail: detail.clone(), orphans };
        let tick = Tick { judgement: (*judgement).clone(), missing, detail, orphans };
        let changed: Vec<String> = changes.into_iter().map(|c| changes::said(c, &self.parts.rule, &judgement)).collect();
        self.decide(Input::Tick(Box::new(tick)), event, Some(judgement)).await;
        self.say(changed);
        let _ = dealt.send(());
    }

    /// Sentences that stand beside the rollout from now on.
    fn say(&self, sentences: Vec<String>) {
        for text in &sentences {
            events::LimitMoved { rule: &self.parts.rule.name, rollout: &self.parts.id, text }.emit();
        }
        if !sentences.is_empty() {
            let mut view = RolloutView::clone(&self.parts.cell.load());
            view.warnings.extend(sentences);
            self.parts.cell.store(Arc::new(view));
        }
    }

    async fn on_command(&mut self, command: Command, answer: oneshot::Sender<Result<Arc<RolloutView>, Refusal>>) {
        self.handle(Input::Command(command)).await;
        let refused = match self.last.as_deref().map(|d| &d.action) {
            Some(Action::Refuse(why)) => Err(Refusal::new("refused", why.clone())),
            _ => Ok(self.parts.cell.load_full()),
        };
        // the asker may have gone: then nobody needs the answer
        let _ = answer.send(refused);
    }

    /// All of one message at once. Not stored is not taken: the sender tells it again, and what was handled is no news then.
    async fn on_alerts(&mut self, mut alerts: Vec<Arrived>, answer: oneshot::Sender<bool>) {
        // what began before the rollout says nothing about it, however often it is repeated
        let begun = self.parts.machine.begun();
        alerts.retain(|arrived| begun.is_some_and(|begun| arrived.alert.since > begun));
        let news = self.parts.desk.take(clock::now(), alerts);
        if !news.is_empty() {
            self.handle(Input::Alerts(news)).await;
        }
        // the asker may have gone
        let _ = answer.send(!self.parts.memory.is_down());
    }

    async fn on_expiry(&mut self) {
        let over = self.parts.desk.expired(clock::now());
        if !over.is_empty() {
            events::AlertsExpired { rule: &self.parts.rule.name, rollout: &self.parts.id, alerts: &over }.emit();
            self.handle(Input::Alerts(over)).await;
        }
    }

    async fn on_news(&mut self, news: News) {
        match news {
            News::Workloads(seen) => {
                self.workloads = Some(seen.clone());
                self.handle(Input::Workloads(seen)).await;
            }
            News::MadeEqual => self.handle(Input::Workload { number: 0, outcome: Outcome::Done }).await,
            News::NotReady(text) => {
                let Some(number) = self.copy else { return };
                self.handle(Input::Workload { number, outcome: Outcome::Failed { text, retry: Retry::OnChange } }).await;
            }
        }
    }

    async fn on_written(&mut self, generation: u64, outcome: Outcome) {
        self.handle(Input::Effect { generation, outcome }).await;
        self.writer.read_soon(&self.parts.back);
    }

    /// Only what was read with no write under way: an older reading would look like another hand.
    async fn on_read(&mut self, reading: Result<TrafficReading, String>, guard: ReadGuard) {
        if std::mem::take(&mut self.read_again) {
            self.read_again = !self.writer.read_soon(&self.parts.back);
        }
        if !self.writer.is_current(guard) {
            return;
        }
        let weight = reading.as_ref().ok().map(|r| r.weight);
        events::WeightSeen { rule: &self.parts.rule.name, weight, at: clock::now() }.emit(&self.parts.metrics);
        self.seen = Some(reading.clone());
        self.handle(Input::Traffic(reading)).await;
    }

    async fn handle(&mut self, input: Input) {
        let event = Event::Input(Box::new(input.clone()));
        self.decide(input, event, None).await;
    }

    /// The one path of every input: decide, remember, act, tell.
    async fn decide(&mut self, input: Input, event: Event, judgement: Option<Arc<Judgement>>) {
        self.now = clock::now().max(self.now);
        let decision = Arc::new(self.parts.machine.handle(self.now, &input));
        // a reading that changes nothing can wait for the next line: one durable write a tick is enough
        let can_wait = matches!(input, Input::Traffic(_)) && self.last.as_deref().is_some_and(|last| !says_more(last, &decision));
        self.remember(event, &decision);
        self.act_before_stored(&decision);
        if !can_wait || self.parts.memory.is_down() {
            self.save().await;
        }
        self.tell(&decision, judgement);
        self.watch_promotion(&decision.state);
        if decision.state.is_over() || decision.state == State::RollingBack {
            self.caller.give_up();
        }
        self.last = Some(decision);
    }

    fn watch_promotion(&mut self, state: &State) {
        let Some(lookout) = &mut self.parts.lookout else { return };
        lookout.watch(match state {
            State::Promoting(Promoting::External) => Watched::Equal,
            State::Promoting(Promoting::ShiftingBack) if self.copy.is_some() => Watched::Ready(self.parts.machine.baseline_replicas()),
            _ => Watched::Nothing,
        });
    }

    /// Every input is kept; a decision that only repeats the last one follows from it and is not written again.
    fn remember(&mut self, event: Event, decision: &Arc<Decision>) {
        self.parts.memory.push(self.now, event);
        if self.last.as_deref().is_none_or(|last| says_more(last, decision)) {
            self.parts.memory.push(self.now, Event::Decided(Box::new((**decision).clone())));
        }
        self.parts.memory.withhold(decision);
    }

    /// A lower weight does not wait for a store that is known to be down.
    fn act_before_stored(&mut self, decision: &Decision) {
        if !self.parts.memory.is_down() {
            return;
        }
        for effect in &decision.effects {
            if let Effect::SetWeight { weight, generation } = effect
                && self.last.as_ref().is_some_and(|last| *weight < last.weight)
            {
                self.writer.want(*weight, *generation);
            }
        }
    }

    /// Stores what is to be stored, then lets out the effects that waited for it.
    async fn save(&mut self) {
        for decision in self.parts.memory.save().await {
            for effect in &decision.effects {
                self.apply(&decision, effect);
            }
        }
    }

    fn apply(&mut self, decision: &Decision, effect: &Effect) {
        match effect {
            Effect::SetWeight { weight, generation } => self.writer.want(*weight, *generation),
            Effect::Notify(notice) => self.notify(decision, notice.clone(), false),
            Effect::CallHook { hook, attempt } => self.caller.call(decision, *hook, *attempt),
            Effect::HoldStill => self.writer.hold_still(),
            Effect::Workload { action, number } => self.act(*action, *number),
        }
    }

    fn act(&mut self, action: WorkloadAction, number: u64) {
        if action == WorkloadAction::Copy {
            self.copy = Some(number);
        }
        match &mut self.parts.worker {
            Some(worker) => worker.want(action, number, self.parts.machine.baseline_replicas()),
            None => self.refuse_workload(action, number),
        }
    }

    /// What acts on workloads is in a cluster; the machine says what follows from there being none.
    fn refuse_workload(&self, action: WorkloadAction, number: u64) {
        let text = format!("{}: there is no cluster to act in, it must be done by hand", action.name());
        let (back, mail) = (self.parts.back.clone(), Mail::Worked { number, outcome: Outcome::Failed { text, retry: Retry::Never } });
        tokio::spawn(async move {
            if let Some(post) = back.upgrade() {
                let _ = post.send(mail).await;
            }
        });
    }

    /// To the log and to the receivers; `again` if an earlier process did so too.
    fn notify(&self, decision: &Decision, notice: Notice, again: bool) {
        let Parts { rule, id, begin, .. } = &self.parts;
        let notice = Notice { text: words::in_mode(rule.mode, &notice.text), ..notice };
        if !again {
            events::Notice { rule: &rule.name, rollout: id, notice: &notice }.emit();
        }
        self.parts.notices.tell(Told {
            rule: Arc::clone(rule),
            rollout: id.clone(),
            version: begin.version.clone(),
            canary: begin.canary,
            at: decision.at,
            notice,
            weight: decision.weight,
            state: decision.state.name(),
            again,
        });
    }

    /// The next poll's booking, the view, the log line, the live feed.
    fn tell(&self, decision: &Arc<Decision>, judgement: Option<Arc<Judgement>>) {
        self.parts.live.set(decision.step, decision.counts_time);
        let old = self.parts.cell.load();
        let view = Arc::new(RolloutView {
            state: decision.state.clone(),
            decision: Arc::clone(decision),
            weight_seen: self.weight_seen(),
            workloads: self.workloads.clone(),
            judgement: judgement.or_else(|| old.judgement.clone()),
            approvals: needed(&self.parts.rule, &self.parts.machine),
            stuck: self.parts.memory.trouble(),
            ..RolloutView::clone(&old)
        });
        self.parts.cell.store(Arc::clone(&view));
        events::Decided {
            rule: &self.parts.rule.name,
            rollout: &self.parts.id,
            metrics: &view.metrics,
            decision,
            judgement: view.judgement.as_deref(),
        }
        .emit(&self.parts.metrics);
        let line = EventLine { at: self.now, rollout: self.parts.id.clone(), decision: Arc::clone(decision), view };
        // nobody may be listening
        let _ = self.parts.registry.events().send(line);
    }

    fn weight_seen(&self) -> Option<Weight> {
        self.seen.as_ref().and_then(|r| r.as_ref().ok()).map(|r| r.weight)
    }
}

/// Does what moves the traffic forget the weight when this process ends?
fn forgets(rule: &Rule) -> bool {
    rule.mode == Mode::Enforce && matches!(rule.traffic, Traffic::None | Traffic::Proxy)
}

/// For ever, without a cluster.
async fn news_of(lookout: &mut Option<Lookout>) -> News {
    match lookout {
        Some(lookout) => lookout.next().await,
        None => std::future::pending().await,
    }
}

/// Waits for a mark; for ever where nobody makes one.
async fn marked(changed: &mut Option<watch::Receiver<u64>>) {
    let marked = match changed {
        Some(marks) => marks.changed().await.is_ok(),
        None => false,
    };
    if !marked {
        std::future::pending().await
    }
}

/// Does a decision say anything the last one did not?
pub(super) fn says_more(last: &Decision, new: &Decision) -> bool {
    let whys = |d: &Decision| d.holds.iter().map(|h| h.why).collect::<Vec<_>>();
    new.action != Action::Hold
        || !new.effects.is_empty()
        || new.state != last.state
        || new.generation != last.generation
        || new.step != last.step
        || new.counts_time != last.counts_time
        || new.reasons != last.reasons
        || whys(new) != whys(last)
}
