//! The cluster a rollout's workloads run in: pods that become ready late, are evicted and crash, an autoscaler that shrinks what has
//! little to do, an API server that is away, actions that are slow, refused, or done though nobody said so. It says itself what
//! must not be done to it. Drawn from dice of its own, so that a seed's world stays what it was.

use super::dice::Dice;
use canaryd::model::{
    Action, Command, Decision, Input, Noted, Outcome, PerArm, PodSign, PodSigns, Reason, Retry, State, Timestamp, Verb, Weight,
    WorkloadAction, WorkloadSeen,
};
use std::time::Duration;

/// Whose pods crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Crashing {
    Nobodys,
    Canarys,
    Both,
}

/// An action on its way.
#[derive(Clone, Debug)]
struct Flight {
    action: WorkloadAction,
    number: u64,
    ends: Timestamp,
    outcome: Outcome,
    applied: bool,
}

#[derive(Clone, Debug, Default)]
struct Workload {
    wanted: u32,
    ready: u32,
    crashing: u32,
}

pub(super) struct Cluster {
    dice: Dice,
    pub(super) noted: Noted,
    pub(super) follow: bool,
    arms: PerArm<Workload>,
    /// The least the baseline's autoscaler keeps now.
    floor: Option<u32>,
    crashing: Crashing,
    crashing_from: Timestamp,
    // chances, per second, per second, per action, per action
    evicts: f64,
    away: f64,
    denies: f64,
    lies: f64,
    away_until: Timestamp,
    /// What the shell was told last.
    told: Option<Result<PerArm<WorkloadSeen>, String>>,
    flight: Option<Flight>,
    /// An action was refused for good, or left to a person.
    given_up: bool,
    /// The floor was raised, and nothing gave it back.
    held: bool,
    /// The traffic has been off the canary since then.
    empty_since: Option<Timestamp>,
    drain: Duration,
}

impl Cluster {
    /// The cluster of a seed, and the rule with what it asks of it; `None` = the workloads are in none.
    pub(super) fn draw(seed: u64, text: &str, start: Timestamp) -> Option<(Self, String)> {
        let mut dice = Dice::new(seed ^ 0xc105);
        if dice.chance(0.4) {
            return None;
        }
        let n = 1 + dice.below(12) as u32;
        let follow = dice.chance(0.4);
        let wanted = if follow { dice.below(3) as u32 } else { dice.pick(&[n, n, 1 + n / 3]) };
        let floor = if dice.chance(0.6) { Some(1 + dice.below(n as usize) as u32) } else { None };
        let noted = Noted {
            baseline_ready: n,
            canary_wanted: wanted,
            baseline_floor: floor,
            canary_floor: None,
            template_before: dice.chance(0.8).then(|| "{}".to_owned()),
            ..Noted::default()
        };
        let [evicts, away, denies, lies] =
            [0.05, 0.01, 0.6, 0.4].map(|most: f64| if dice.chance(0.5) { most * dice.unit() * dice.unit() } else { 0.0 });
        let crashing = dice.pick(&[Crashing::Nobodys, Crashing::Nobodys, Crashing::Canarys, Crashing::Both]);
        let crashing_from = start + Duration::from_secs(dice.below(900) as u64);
        let all = |n| Workload { wanted: n, ready: n, crashing: 0 };
        let text = rule(&mut dice, text, follow);
        let drain = Duration::from_secs(if text.contains("drain: 0s") { 0 } else { 30 });
        let arms = PerArm { baseline: all(n), canary: Workload { ready: 0, ..all(wanted) } };
        let new = Self {
            dice,
            noted,
            follow,
            arms,
            floor,
            crashing,
            crashing_from,
            evicts,
            away,
            denies,
            lies,
            away_until: start,
            told: None,
            flight: None,
            given_up: false,
            held: false,
            empty_since: Some(start - Duration::from_secs(3600)),
            drain,
        };
        Some((new, text))
    }

    /// From now on nothing but the canary itself is wrong.
    pub(super) fn calm_down(&mut self) {
        (self.evicts, self.away, self.denies, self.lies) = (0.0, 0.0, 0.0, 0.0);
        self.away_until = Timestamp::default();
        if self.crashing == Crashing::Both {
            self.crashing = Crashing::Nobodys;
            (self.arms.baseline.crashing, self.arms.canary.crashing) = (0, 0);
        }
    }

    /// The shell asks for an action; a newer one takes the place of an older one.
    pub(super) fn ask(&mut self, action: WorkloadAction, number: u64, now: Timestamp) {
        let ends = now + Duration::from_secs(1 + self.dice.below(15) as u64);
        let retry = self.dice.pick(&[Retry::After(Duration::from_secs(2)), Retry::OnChange, Retry::Never]);
        let failed = Outcome::Failed { text: "the server was unable to return a response".to_owned(), retry };
        let (outcome, applied) = if self.dice.chance(self.lies) {
            (failed, true)
        } else if self.dice.chance(self.denies) {
            (failed, false)
        } else {
            (Outcome::Done, true)
        };
        self.flight = Some(Flight { action, number, ends, outcome, applied });
    }

    /// The daemon is gone; what was on its way has come to be, or has not.
    pub(super) fn lose_flight(&mut self) {
        if let Some(flight) = self.flight.take().filter(|f| f.applied && f.number.is_multiple_of(2)) {
            self.apply(flight.action);
        }
        self.told = None; // told anew
    }

    fn apply(&mut self, action: WorkloadAction) {
        let n = self.noted.baseline_ready;
        let PerArm { baseline, canary } = &mut self.arms;
        match action {
            WorkloadAction::HoldBaseline | WorkloadAction::RestoreBaseline | WorkloadAction::Copy => {
                baseline.wanted = baseline.wanted.max(n);
                if self.floor.is_some() && action != WorkloadAction::Copy {
                    self.floor = self.floor.max(Some(n));
                    self.held = true;
                }
            }
            WorkloadAction::ReleaseScalers => (self.floor, self.held) = (self.noted.baseline_floor, false),
            WorkloadAction::ScaleCanary { replicas } => canary.wanted = canary.wanted.max(replicas),
            WorkloadAction::ScaleCanaryDown => canary.wanted = 0,
            WorkloadAction::Undo => (self.crashing, canary.crashing) = (Crashing::Nobodys, 0),
            WorkloadAction::IdleBaseline { .. } => {}
        }
    }

    /// One second: what comes in of it.
    pub(super) fn pass(&mut self, now: Timestamp, weight: Weight) -> Vec<Input> {
        self.note_weight(now, weight);
        self.pods_pass(now, weight.share());
        if now >= self.away_until && self.dice.chance(self.away) {
            self.away_until = now + Duration::from_secs(20 + self.dice.below(60) as u64);
        }
        self.news(now).into_iter().chain(self.landed(now)).collect()
    }

    /// The router has this weight now.
    pub(super) fn note_weight(&mut self, now: Timestamp, weight: Weight) {
        self.empty_since = if weight.is_zero() { self.empty_since.or(Some(now)) } else { None };
    }

    fn pods_pass(&mut self, now: Timestamp, share: f64) {
        if now >= self.crashing_from && self.crashing != Crashing::Nobodys {
            let all = self.crashing == Crashing::Both;
            self.arms.canary.crashing = self.arms.canary.wanted.min(1);
            self.arms.baseline.crashing = if all { self.arms.baseline.wanted } else { 0 };
        }
        for arm in [&mut self.arms.baseline, &mut self.arms.canary] {
            let most = arm.wanted - arm.crashing.min(arm.wanted);
            if arm.ready < most && self.dice.chance(0.3) {
                arm.ready += 1;
            }
            if self.dice.chance(self.evicts) {
                arm.ready = arm.ready.saturating_sub(1);
            }
            arm.ready = arm.ready.min(most);
        }
        if let Some(floor) = self.floor.filter(|_| self.dice.chance(0.05)) {
            let busy = (f64::from(self.noted.baseline_ready) * (1.0 - share)).ceil() as u32;
            let wanted = &mut self.arms.baseline.wanted;
            *wanted = if *wanted > busy.max(floor) { *wanted - 1 } else { (*wanted).max(busy.max(floor)) };
        }
    }

    fn seen(&self) -> PerArm<WorkloadSeen> {
        self.arms.as_ref().map(|arm| WorkloadSeen {
            wanted: arm.wanted,
            pods: arm.wanted,
            ready: arm.ready,
            signs: PodSigns { crash_loops: arm.crashing, restarts: 3 * arm.crashing, ..PodSigns::default() },
            trouble: if arm.crashing > 0 { "sim-7: back-off restarting failed container".to_owned() } else { String::new() },
        })
    }

    fn news(&mut self, now: Timestamp) -> Option<Input> {
        let away = || "connection refused".to_owned();
        let seen = if now < self.away_until { Err(away()) } else { Ok(self.seen()) };
        if self.told.as_ref() == Some(&seen) {
            return None;
        }
        self.told = Some(seen.clone());
        Some(Input::Workloads(seen))
    }

    fn landed(&mut self, now: Timestamp) -> Option<Input> {
        let flight = self.flight.take_if(|f| f.ends <= now)?;
        let again = |text: &str| Outcome::Failed { text: text.to_owned(), retry: Retry::After(Duration::from_secs(1)) };
        let outcome = if now < self.away_until {
            again("connection refused")
        } else {
            if flight.applied {
                self.apply(flight.action);
            }
            // what is copied has to become ready first
            let unready = self.arms.baseline.ready < self.noted.baseline_ready && flight.action == WorkloadAction::Copy;
            if unready { again("stable is not ready") } else { flight.outcome }
        };
        self.given_up |= matches!(outcome, Outcome::Failed { retry: Retry::Never, .. });
        Some(Input::Workload { number: flight.number, outcome })
    }

    /// What the decision asks may be asked; and nobody took the baseline's replicas while they might be needed.
    pub(super) fn allows(&self, at: Timestamp, before: &Decision, input: &Input, after: &Decision, disturbed: bool) -> Result<(), String> {
        let seen = self.told.as_ref().and_then(|t| t.as_ref().ok());
        self.allows_up(seen, before, input, after)?;
        if let (Some(seen), true) = (seen, before.reasons.is_empty()) {
            after.reasons.iter().try_for_each(|reason| blames_rightly(reason, seen))?;
        } else if before.reasons.is_empty() && after.reasons.iter().any(|r| matches!(r, Reason::Pods { .. })) {
            return Err("pods were blamed that nobody could see".to_owned());
        }
        for effect in &after.effects {
            let canaryd::model::Effect::Workload { action, .. } = effect else { continue };
            let takes = matches!(action, WorkloadAction::Undo | WorkloadAction::ScaleCanaryDown);
            let drained = self.empty_since.is_some_and(|since| at.since(since) >= self.drain);
            if takes && !drained && !disturbed {
                return Err(format!("{} before the canary was drained, empty since {:?}", action.name(), self.empty_since));
            }
        }
        let climbs = matches!(after.state, State::Progressing { .. } | State::Baking { .. });
        if climbs && self.held && self.arms.baseline.wanted < self.noted.baseline_ready {
            return Err(format!("the baseline has {} of {}", self.arms.baseline.wanted, self.noted.baseline_ready));
        }
        Ok(())
    }

    /// No step up without the pods it needs, and none before the baseline is held.
    fn allows_up(&self, seen: Option<&PerArm<WorkloadSeen>>, before: &Decision, input: &Input, after: &Decision) -> Result<(), String> {
        let glass = matches!(input, Input::Command(Command { verb: Verb::BreakGlassPromote, .. }));
        let up = matches!(after.action, Action::Advance { .. } | Action::Promote) && after.weight > before.weight;
        if !up || glass || !after.reasons.is_empty() {
            return Ok(());
        }
        let Some(canary) = seen.map(|s| &s.canary) else { return Err(format!("up to {} and nobody could see the pods", after.weight)) };
        let share = (f64::from(self.noted.baseline_ready) * after.weight.share() - 1e-9).ceil() as u32;
        let enough = canary.ready >= 1 && (canary.ready >= share || (!self.follow && canary.ready >= canary.wanted));
        if !enough {
            return Err(format!("up to {} with {canary:?}, {share} pods are needed", after.weight));
        }
        let below = self.noted.baseline_floor.is_some_and(|floor| floor < self.noted.baseline_ready);
        if below && !self.held && !self.given_up {
            return Err(format!("up to {} and the baseline is not held", after.weight));
        }
        Ok(())
    }

    /// When it is over, what was borrowed is given back.
    pub(super) fn at_the_end(&self, last: &Decision) -> Result<(), String> {
        let kept = last.state.is_over() && !self.given_up && self.floor != self.noted.baseline_floor;
        if kept {
            Err(format!("{}: the autoscaler keeps {:?} instead of {:?}", last.state.name(), self.floor, self.noted.baseline_floor))
        } else {
            Ok(())
        }
    }
}

/// Not for what both versions show at half the rate per pod or more.
fn blames_rightly(reason: &Reason, seen: &PerArm<WorkloadSeen>) -> Result<(), String> {
    let Reason::Pods { sign, .. } = reason else { return Ok(()) };
    let rate = |arm: &WorkloadSeen, sign: PodSign| f64::from(sign.of(&arm.signs)) / f64::from(arm.pods.max(1));
    let (baseline, canary) = (rate(&seen.baseline, *sign), rate(&seen.canary, *sign));
    if canary > 0.0 && baseline < 0.5 * canary { Ok(()) } else { Err(format!("{sign:?} was blamed on the canary: {seen:?}")) }
}

/// The rule with what it asks of a cluster.
fn rule(dice: &mut Dice, text: &str, follow: bool) -> String {
    let health = dice.pick(&["  pod-health: { rollback-on: [ crash-loop, oom-killed, { failed-probes: 3 } ] }\n", ""]);
    let after = dice.pick(&["", "after-rollback: undo\n", "after-rollback: scale-down\n"]);
    let idle = dice.pick(&["promotion: swap\n", "promotion: { swap: { keep: 1h, idle-replicas: 1 } }\n"]);
    let follow = if follow { "replicas: follow\n" } else { "" };
    text.replace("metrics:\n", &format!("metrics:\n{health}")).replace("promotion: swap\n", idle) + after + follow
}
