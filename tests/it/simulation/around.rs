//! Who else has a hand in a rollout: a CI server that answers hooks or does not, a cluster that changes workloads, an Alertmanager
//! of somebody else, a person who approves. Drawn from dice of their own, so that a seed's world stays what it was.

use super::dice::Dice;
use super::path::START;
use canaryd::model::{
    Alert, Arm, Command, Effect, HookAnswer, HookPoint, Input, Outcome, Retry, Severity, Timestamp, Verb, WorkloadAction,
};
use std::time::Duration;

/// A call or an action on its way: its number, when it ends, and how; one that hangs never does.
#[derive(Clone, Debug)]
struct Flight<N, A> {
    number: N,
    ends: Timestamp,
    answer: Option<A>,
}

pub(super) struct Around {
    dice: Dice,
    /// What the rule says about all of them.
    pub(super) lines: String,
    /// The promotion copies.
    pub(super) copies: bool,
    // chances per call, per action, per second
    hook_fails: f64,
    hook_hangs: f64,
    work_fails: f64,
    alerts: f64,
    approves: f64,
    call: Option<Flight<(HookPoint, u32), HookAnswer>>,
    work: Option<Flight<u64, Outcome>>,
    firing: Vec<Alert>,
    alert_count: usize,
}

impl Around {
    /// Nobody else; also for seeds that are kept for what they were.
    pub(super) fn nobody() -> Self {
        Self {
            dice: Dice::new(0),
            lines: String::new(),
            copies: false,
            hook_fails: 0.0,
            hook_hangs: 0.0,
            work_fails: 0.0,
            alerts: 0.0,
            approves: 0.0,
            call: None,
            work: None,
            firing: Vec::new(),
            alert_count: 0,
        }
    }

    pub(super) fn draw(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0xa20d);
        if dice.chance(0.4) {
            return Self::nobody();
        }
        // the rollout begins on a Sunday at 15:06:45
        let windows = dice.pick(&[
            "",
            "",
            "windows: { timezone: UTC, deny: [ \"Sun 15:12-15:20\" ] }\n",
            "windows: { timezone: UTC, allow: [ \"Sun 15:10-16:30\" ], deny: [ \"Sun 15:15-15:16\", \"Sun 15:16-15:19\" ] }\n",
            "windows: { timezone: UTC, allow: [ \"Sun 15:00-15:22\" ], at-end: hold }\n",
            "windows: { timezone: UTC, allow: [ \"Sun 15:00-15:22\" ], at-end: roll-back }\n",
        ]);
        let approvals = dice.pick(&["", "", "start: { approvals: [ manager ] }\n"]);
        let mut hook = |point: &str| {
            let on_fail = dice.pick(&["hold", "ask", "roll-back"]);
            let line = format!("  {point}: {{ url: \"http://ci/\", timeout: 1m, on-fail: {on_fail} }}\n");
            if dice.chance(0.4) { line } else { String::new() }
        };
        let hooks: String = ["before-start", "before-step", "before-promotion"].into_iter().map(&mut hook).collect();
        let hooks = if hooks.is_empty() { hooks } else { format!("hooks:\n{hooks}  after-rollback: \"http://ci/\"\n") };
        let copies = dice.chance(0.3);
        let [hook_fails, hook_hangs, work_fails, alerts] =
            [0.4, 0.2, 0.5, 0.005].map(|most| if dice.chance(0.5) { most * dice.unit() } else { 0.0 });
        let lines = format!("{windows}{approvals}{hooks}");
        Self { dice, lines, copies, hook_fails, hook_hangs, work_fails, alerts, approves: 0.02, ..Self::nobody() }
    }

    /// From now on everybody helps.
    pub(super) fn calm_down(&mut self) {
        (self.hook_fails, self.hook_hangs, self.work_fails, self.alerts) = (0.0, 0.0, 0.0, 0.0);
    }

    /// The shell asks somebody for something; a newer call takes the place of an older one.
    pub(super) fn ask(&mut self, effect: &Effect, now: Timestamp) {
        match effect {
            Effect::CallHook { hook, attempt } => self.call(*hook, *attempt, now),
            Effect::Workload { action, number } => self.work(*action, *number, now),
            Effect::SetWeight { .. } | Effect::Notify(_) | Effect::HoldStill => {}
        }
    }

    fn call(&mut self, hook: HookPoint, attempt: u32, now: Timestamp) {
        let ends = now + Duration::from_secs(self.dice.below(20) as u64);
        let failed = HookAnswer::Failed { text: "status 503".to_owned(), again: self.dice.chance(0.7) };
        let answer = if self.dice.chance(self.hook_fails) { failed } else { HookAnswer::Passed };
        let hangs = self.dice.chance(self.hook_hangs);
        self.call = Some(Flight { number: (hook, attempt), ends, answer: (!hangs).then_some(answer) });
    }

    pub(super) fn work(&mut self, _: WorkloadAction, number: u64, now: Timestamp) {
        let ends = now + Duration::from_secs(1 + self.dice.below(30) as u64);
        let retry = self.dice.pick(&[Retry::After(Duration::from_secs(2)), Retry::Never]);
        let failed = Outcome::Failed { text: "the server was unable to return a response".to_owned(), retry };
        let answer = if self.dice.chance(self.work_fails) { failed } else { Outcome::Done };
        self.work = Some(Flight { number, ends, answer: Some(answer) });
    }

    /// The daemon is gone, and with it whoever waits for an answer.
    pub(super) fn lose_flights(&mut self) {
        (self.call, self.work) = (None, None);
    }

    /// What comes in by now.
    pub(super) fn pass(&mut self, now: Timestamp) -> Vec<Input> {
        let mut all = Vec::new();
        if let Some(Flight { number: (hook, attempt), answer: Some(answer), .. }) =
            self.call.take_if(|f| f.ends <= now && f.answer.is_some())
        {
            all.push(Input::Hook { hook, attempt, answer });
        }
        if let Some(Flight { number, answer: Some(outcome), .. }) = self.work.take_if(|f| f.ends <= now) {
            all.push(Input::Workload { number, outcome });
        }
        if self.dice.chance(self.approves) {
            let verb = Verb::Approve { role: "manager".to_owned() };
            all.push(Input::Command(Command { verb, by: "ben".to_owned(), why: String::new() }));
        }
        all.extend(self.alerts(now));
        all
    }

    /// New ones, repeats, and ends; once it is calm, the end of all.
    fn alerts(&mut self, now: Timestamp) -> Option<Input> {
        let calm = self.alerts == 0.0;
        if calm && !self.firing.is_empty() {
            return Some(Input::Alerts(self.firing.drain(..).map(|a| Alert { firing: false, ..a }).collect()));
        }
        if !self.dice.chance(4.0 * self.alerts) {
            return None;
        }
        let message = match self.dice.below(4) {
            0 => vec![self.alert(now), self.alert(now)],
            1 => vec![self.alert(START - Duration::from_secs(60))],
            2 => self.firing.clone(),
            _ => self.firing.drain(..).map(|a| Alert { firing: false, ..a }).collect(),
        };
        self.firing.extend(message.iter().filter(|a| a.firing).cloned());
        self.firing.sort_by(|a, b| a.fingerprint.cmp(&b.fingerprint));
        self.firing.dedup_by(|a, b| a.fingerprint == b.fingerprint);
        Some(Input::Alerts(message))
    }

    /// Rarely one that rolls back: most runs shall come further.
    fn alert(&mut self, since: Timestamp) -> Alert {
        self.alert_count += 1;
        let (severity, names) = self.dice.pick(&[
            (Severity::Info, Some(Arm::Canary)),
            (Severity::Warning, None),
            (Severity::Warning, Some(Arm::Canary)),
            (Severity::Critical, None),
            (Severity::Critical, Some(Arm::Baseline)),
            (Severity::Critical, Some(Arm::Canary)),
        ]);
        let name = self.dice.pick(&["Errors", "Slow"]).to_owned();
        Alert { fingerprint: self.alert_count.to_string(), name, firing: true, severity, names, since, text: "it is bad".to_owned() }
    }
}
