//! What a rollout knows of itself, and the dispatch of its inputs.

use super::alerts::Alerts;
use super::capacity::Capacity;
use super::gates::Gates;
use super::hooks::Hooks;
use super::notices::Told;
use super::pods::Pods;
use super::policy::Waits;
use super::router::{Failure, Hands, Write};
use super::share::ShareWatch;
use super::vanished::VanishedWatch;
use super::windows::CalendarView;
use super::work::Works;
use crate::model::calendar::Windows;
use crate::model::rule::{AfterRollback, BakeJudge, First, Hook, PodHealth, Policies, Promotion, Replicas, Step, WorkloadForm};
use crate::model::{
    Action, Advance, Decision, Effect, HookPoint, Input, Level, Method, Mode, Paused, Promoting, Reason, Rule, State, Stuck, Tick,
    Timestamp, Topic, Weight,
};
use std::time::Duration;

/// What the machine keeps of a rule and of the method.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) steps: Vec<Step>,
    pub(super) advance: Advance,
    pub(super) min_requests: u32,
    pub(super) promotion: Promotion,
    pub(super) policies: Policies,
    pub(super) bake_judge: BakeJudge,
    pub(super) mode: Mode,
    pub(super) drain: Duration,
    pub(super) first: First,
    /// Roles that must approve.
    pub(super) approvals: Vec<String>,
    pub(super) windows: Option<Windows>,
    /// What becomes of the canary's workload when it was rolled back and has drained.
    pub(super) after_rollback: AfterRollback,
    /// Who keeps the canary's capacity.
    pub(super) replicas: Replicas,
    /// Replicas are the share: the router that writes it waits for them, and what it takes from the baseline is meant.
    pub(super) share_of_replicas: bool,
    /// What of its pods rolls a canary back.
    pub(super) pod_health: Option<PodHealth>,
    /// One Deployment in rolling update: the baseline shrinks as the canary grows, and only an undo makes it whole.
    pub(super) rolling_update: bool,
    /// ... and canaryd leads it: the weight it writes is made of ready pods.
    pub(super) leads_rolling_update: bool,
    pub(super) hooks: Vec<Hook>,
    /// Names of the metrics, by position: for sentences only.
    pub(super) metrics: Vec<String>,
    /// Unbroken disobedience of the traffic that holds (DESIGN 6.3).
    pub(super) share: Duration,
}

/// Where it is going.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// It has not begun, or may not go on by itself because there is no baseline.
    Waiting,
    /// It has begun, and something stands before its first weight.
    Gated,
    /// At this step, or on the way to its weight.
    Climbing { to: u32 },
    /// On the way to 100 % after the last step; `forced` by break-glass: evidence does not stop it.
    Completing { forced: bool },
    /// After the bake; since when.
    Promoting { at: Promoting, since: Timestamp },
    /// The weight goes to 0, or is there and drains.
    RollingBack { superseded: bool },
    /// Over.
    Over(End),
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Succeeded,
    RolledBack,
    Superseded,
}

/// One rollout's state machine. It has no clock and does no I/O: the same inputs in the same order give the same decisions.
///
/// The shell stores a decision, then carries out its effects. It makes one attempt per [`Effect::SetWeight`] and answers
/// with [`Input::Effect`] of the same generation; a newer `SetWeight` replaces an older one that is still on its way. Trying
/// again is asked for here: a failed weight comes again with a new generation, at the time given by `wake_at` or, where the
/// router said "on change", at the next reading. Readings and outcomes come in the order in which they were made: a reading
/// from before a write would look like another hand.
///
/// Hooks and actions on workloads likewise: one call for each effect, its answer with the same number, and a failed one comes
/// again with a new number. After a restart [`Machine::unconfirmed`] and [`Machine::unconfirmed_work`] name what is to be carried
/// out again, and [`Machine::unanswered_hook`] the call whose answer is lost.
#[derive(Clone, Debug)]
pub struct Machine {
    pub(super) terms: Terms,
    pub(super) course: Course,
    pub(super) pause: Option<Paused>,
    /// How loudly it is told.
    pub(super) pause_level: Level,
    /// The pause was made by break-glass: evidence is shown and does not act.
    pub(super) frozen: bool,
    /// The weight wanted.
    pub(super) weight: Weight,
    pub(super) generation: u64,
    /// The last weight asked for, while it is not confirmed.
    pub(super) write: Option<Write>,
    /// The step in force: what polls are booked to.
    pub(super) step: u32,
    /// When its weight came into force; `None` before the first.
    pub(super) in_force: Option<Timestamp>,
    /// When the traffic had left after a rollback or a shift back.
    pub(super) drained: Option<Timestamp>,
    pub(super) reasons: Vec<Reason>,
    /// The last judged poll.
    pub(super) last: Option<Box<Tick>>,
    pub(super) waits: Waits,
    pub(super) share: ShareWatch,
    pub(super) vanished: VanishedWatch,
    pub(super) hands: Hands,
    pub(super) gates: Gates,
    pub(super) hooks: Hooks,
    pub(super) calendar: CalendarView,
    pub(super) alerts: Alerts,
    /// The actions on workloads that are wanted.
    pub(super) works: Works,
    pub(super) capacity: Capacity,
    pub(super) pods: Pods,
    pub(super) told: Told,
    /// Effects of the input in hand.
    pub(super) out: Vec<Effect>,
}

impl Machine {
    /// A rollout of this rule that has not begun.
    ///
    /// # Panics
    /// If the rule has no steps; `config` refuses such a rule.
    pub fn new(rule: &Rule, method: &Method) -> Self {
        assert!(!rule.steps.is_empty(), "rule {} has no steps", rule.name);
        Self {
            terms: Terms {
                steps: rule.steps.clone(),
                advance: rule.advance,
                min_requests: rule.min_requests,
                promotion: rule.promotion,
                policies: rule.policies,
                bake_judge: rule.bake_judge,
                mode: rule.mode,
                drain: rule.drain,
                first: rule.first,
                approvals: rule.start.approvals.clone(),
                windows: rule.windows.clone(),
                after_rollback: rule.after_rollback,
                replicas: rule.replicas,
                share_of_replicas: rule.traffic.is_of_replicas(),
                pod_health: rule.pod_health,
                rolling_update: rule.workloads.form == WorkloadForm::One,
                leads_rolling_update: rule.traffic.leads_rolling_update(),
                hooks: rule.hooks.clone(),
                metrics: rule.metrics.iter().map(|m| m.name.clone()).collect(),
                share: Duration::try_from_secs_f64(method.share_s).unwrap_or(Duration::MAX),
            },
            course: Course::Waiting,
            pause: None,
            pause_level: Level::Info,
            frozen: false,
            weight: Weight::ZERO,
            generation: 0,
            write: None,
            step: 0,
            in_force: None,
            drained: None,
            reasons: Vec::new(),
            last: None,
            waits: Waits::default(),
            share: ShareWatch::default(),
            vanished: VanishedWatch::default(),
            hands: Hands::default(),
            gates: Gates::default(),
            hooks: Hooks::default(),
            calendar: CalendarView::default(),
            alerts: Alerts::default(),
            works: Works::default(),
            capacity: Capacity::default(),
            pods: Pods::default(),
            told: Told::new(),
            out: Vec::new(),
        }
    }

    /// What is to be done about one thing that happened at `now`.
    pub fn handle(&mut self, now: Timestamp, input: &Input) -> Decision {
        self.out.clear();
        self.look_at_calendar(now);
        let action = match input {
            Input::Command(command) => self.on_command(now, command),
            _ if self.is_over() => Action::Hold,
            Input::Begin(begin) => self.on_begin(now, begin),
            Input::Tick(tick) => self.on_tick(now, tick),
            Input::Traffic(reading) => self.on_traffic(now, reading),
            Input::Effect { generation, outcome } => self.on_outcome(now, *generation, outcome),
            Input::Wake => self.on_wake(now),
            Input::Supersede { version } => self.on_supersede(now, version),
            Input::Hook { hook, attempt, answer } => self.on_hook(now, *hook, *attempt, answer),
            Input::Alerts(alerts) => self.on_alerts(now, alerts),
            Input::Workload { number, outcome } => self.on_workload(now, *number, outcome),
            Input::Workloads(seen) => self.on_workloads(now, seen),
        };
        self.note_pods(now);
        if !matches!(action, Action::Refuse(_)) {
            self.tell_what_lasts(now);
        }
        self.decision(now, action)
    }

    /// The weight asked for and not confirmed yet, with its generation: what the shell applies again after a restart,
    /// because it cannot know whether it came to that.
    pub fn unconfirmed(&self) -> Option<(Weight, u64)> {
        self.write.as_ref().map(|_| (self.weight, self.generation))
    }

    pub(super) fn decision(&mut self, now: Timestamp, action: Action) -> Decision {
        Decision {
            at: now,
            action,
            state: self.state(),
            weight: self.weight,
            generation: self.generation,
            step: self.step,
            counts_time: self.counts_time(),
            reasons: self.reasons.clone(),
            holds: self.holds_or_poll(now),
            effects: std::mem::take(&mut self.out),
            wake_at: self.wake_at(now),
        }
    }

    /// Where it stands, in the words of the model. Stuck outranks the course, because it is what a person must mend; a
    /// rollback outranks a pause, because no pause stops it.
    pub(super) fn state(&self) -> State {
        if let Some(stuck) = self.stuck() {
            return State::Stuck(Stuck { why: stuck.text.clone(), tries: stuck.tries, since: stuck.since });
        }
        match (self.course, &self.pause) {
            (Course::Over(End::Succeeded), _) => State::Succeeded,
            (Course::Over(End::RolledBack), _) => State::RolledBack,
            (Course::Over(End::Superseded), _) => State::Superseded,
            (Course::RollingBack { .. }, _) => State::RollingBack,
            (_, Some(pause)) => State::Paused(pause.clone()),
            (Course::Waiting | Course::Gated, None) => State::Waiting(self.waiting()),
            (Course::Climbing { to }, None) if self.at_step() && self.step_weight().is_full() => State::Baking { step: to },
            (Course::Climbing { to }, None) => State::Progressing { step: to },
            (Course::Completing { .. }, None) => State::Progressing { step: self.step },
            (Course::Promoting { at, .. }, None) => State::Promoting(at),
        }
    }

    /// What does not take what is wanted, and for how long.
    pub(super) fn stuck(&self) -> Option<&Failure> {
        self.write.as_ref().and_then(Write::stuck).or_else(|| self.stuck_work())
    }

    pub(super) const fn is_over(&self) -> bool {
        matches!(self.course, Course::Over(_))
    }

    /// Its step's weight is confirmed, and it is not on the way to another.
    pub(super) fn at_step(&self) -> bool {
        self.write.is_none() && self.in_force.is_some() && self.course == Course::Climbing { to: self.step }
    }

    /// At a step of 100 %: the bake judges.
    pub(super) fn at_bake(&self) -> bool {
        self.at_step() && self.step_weight().is_full()
    }

    /// The weight of the step in force.
    pub(super) fn step_weight(&self) -> Weight {
        self.terms.steps.get(self.step as usize).map_or(Weight::ZERO, |s| s.weight)
    }

    /// How long the step in force lasts.
    pub(super) fn step_lasts(&self) -> Duration {
        self.terms.steps.get(self.step as usize).map_or(Duration::ZERO, |s| s.lasts)
    }

    fn counts_time(&self) -> bool {
        self.at_step() && self.pause.is_none() && !self.share.disobeys()
    }

    fn on_supersede(&mut self, now: Timestamp, version: &str) -> Action {
        match self.course {
            // the verdict on the old version stands: it must not start again by itself
            Course::RollingBack { .. } => Action::Hold,
            // it has succeeded, but for the traffic or for what is put in order: its template is in stable, or it is stable
            Course::Promoting { at: Promoting::ShiftingBack | Promoting::Settling, .. } => Action::Hold,
            _ if self.stable_is_ours() => Action::Hold,
            _ => self.roll_back(now, vec![Reason::Superseded { version: version.to_owned() }]),
        }
    }

    /// Everything a passing time can bring, without a poll.
    fn on_wake(&mut self, now: Timestamp) -> Action {
        const STEPS: [fn(&mut Machine, Timestamp) -> Option<Action>; 10] = [
            Machine::act_on_closed_window,
            Machine::write_again,
            Machine::work_again,
            Machine::finish_drained,
            Machine::act_on_pods,
            Machine::pass_gates,
            Machine::act_on_hook,
            Machine::act_on_blindness,
            Machine::act_on_undecided,
            Machine::act_on_external_limit,
        ];
        self.first_of(&STEPS, now)
    }

    /// The first step that has something to do does it.
    pub(super) fn first_of(&mut self, steps: &[fn(&mut Machine, Timestamp) -> Option<Action>], now: Timestamp) -> Action {
        steps.iter().find_map(|step| step(self, now)).unwrap_or(Action::Hold)
    }

    fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        let times = [
            self.window_acts_at(),
            self.writes_again_at(),
            self.work_again_at(),
            self.drained_at(),
            self.gates_act_at(now),
            self.hook_acts_at(),
            self.blindness_acts_at(),
            self.undecided_acts_at(),
            self.external_acts_at(),
            self.pods_tell_at(now),
        ];
        times.into_iter().flatten().filter(|at| *at > now).min()
    }

    /// On the way to a step.
    pub(super) fn climb(&mut self, now: Timestamp, to: u32) {
        self.forget_hook();
        self.course = Course::Climbing { to };
        let weight = self.terms.steps.get(to as usize).map_or(self.weight, |s| s.weight);
        self.ask_weight(now, weight);
    }

    /// After the last step: all the traffic, then the promotion.
    pub(super) fn complete(&mut self, now: Timestamp, forced: bool) {
        self.forget_hook();
        self.course = Course::Completing { forced };
        if forced {
            self.scale_canary(now, Weight::FULL); // asked for, not waited for
        }
        if self.weight.is_full() && self.write.is_none() && self.in_force.is_some() && self.hands.foreign.is_none() {
            self.promote(now);
        } else {
            self.ask_weight(now, Weight::FULL);
        }
    }

    /// Traffic first: weight 0 whatever was on its way. No pause and no freeze survives it.
    pub(super) fn roll_back(&mut self, now: Timestamp, reasons: Vec<Reason>) -> Action {
        let superseded = matches!(reasons.first(), Some(Reason::Superseded { .. }));
        let by_evidence = !reasons.iter().any(|r| matches!(r, Reason::Person { .. } | Reason::Superseded { .. }));
        let text = reasons.iter().map(|r| super::reason_text(r, &self.terms.metrics)).collect::<Vec<_>>().join("; ");
        self.tell_rollback(by_evidence, format!("rolling back from {}: {text}", self.weight));
        self.reasons = reasons;
        self.end_pause();
        self.forget_hook();
        self.works.clear();
        let carried = !self.weight.is_zero();
        self.course = Course::RollingBack { superseded };
        self.ask_weight(now, Weight::ZERO);
        if carried {
            self.traffic_returns(now);
        }
        Action::RollBack
    }

    pub(super) fn finish(&mut self, end: End) {
        let (topic, text) = match end {
            End::Succeeded => (Topic::Progress, "promoted: the canary is the version now"),
            End::RolledBack => (Topic::RolledBack, "rolled back: the canary gets no traffic"),
            End::Superseded => (Topic::RolledBack, "superseded: a newer version takes its place"),
        };
        self.over(end, Level::Info, topic, text.to_owned());
    }

    /// The end, told in these words.
    pub(super) fn over(&mut self, end: End, level: Level, topic: Topic, text: String) {
        self.course = Course::Over(end);
        self.end_pause();
        self.event(level, topic, text);
        match end {
            End::Succeeded => self.tell_hook(HookPoint::AfterPromotion),
            End::RolledBack => self.tell_hook(HookPoint::AfterRollback),
            End::Superseded => {}
        }
    }

    pub(super) fn pause_for(&mut self, by: &str, why: &str, level: Level, now: Timestamp) {
        self.pause_level = level;
        self.pause = Some(Paused { by: by.to_owned(), why: why.to_owned(), since: now });
    }

    /// Ends a pause; what a policy had counted begins anew, or it would ask again at once.
    pub(super) fn end_pause(&mut self) {
        if self.pause.take().is_some() {
            self.frozen = false;
            self.waits = Waits::default();
        }
    }

    /// Name of a metric, for a sentence.
    pub(super) fn metric(&self, index: u8) -> &str {
        super::texts::metric_name(&self.terms.metrics, index)
    }
}
