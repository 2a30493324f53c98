//! The API on a real socket, before a supervisor that follows a script.

use canaryd::api::{self, ApiState, Tokens};
use canaryd::model::journal::{Entry, Event};
use canaryd::model::{
    Action, Blind, Command, Decision, Hold, HoldWhy, Input, Interval, Judgement, Keep, LimitJudgement, LimitKind, MetricJudgement,
    MetricKind, Mode, Outlook, Paused, PerArm, Poll, Role, RolloutId, Side, State, StepClock, Timestamp, Verb, Verdict, Weight,
};
use canaryd::runtime::{
    Approval, EventLine, Handle, PastArgs, PastRollout, PastRollouts, Refusal, Registry, Request, RolloutView, RuleView, Stretch, Views,
};
use canaryd::telemetry::Metrics;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const OPERATOR: &str = "operator-token-0123456789";
pub(crate) const VIEWER: &str = "viewer-token-0123456789";
pub(crate) const APPROVER: &str = "approver-token-0123456789";
pub(crate) const BOTH: &str = "operator-and-approver-0123456789";
pub(crate) const WEBHOOK: &str = "webhook-token-0123456789";

fn tokens() -> Tokens {
    let approver = |role: &str| Role::Approver(role.to_owned());
    let both = vec![Role::Operator, approver("engineering-manager"), approver("product-manager")];
    let all = [
        ("ann", vec![Role::Operator], OPERATOR),
        ("vic", vec![Role::Viewer], VIEWER),
        ("pam", vec![approver("product-manager")], APPROVER),
        ("tom", both, BOTH),
        ("alertmanager", vec![Role::Webhook], WEBHOOK),
    ];
    Tokens::new(all).unwrap()
}

/// How it is served.
#[derive(Clone, Copy, Default)]
pub(crate) struct How {
    pub(crate) open: bool,
    pub(crate) reads_need_token: bool,
}

/// A served API and what stands behind it.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) metrics: Metrics,
    registry: Registry,
    asked: Arc<Mutex<Vec<String>>>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Served {
    pub(crate) async fn new() -> Self {
        Self::with(How::default()).await
    }

    pub(crate) async fn with(how: How) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), how).await
    }

    pub(crate) async fn at(address: SocketAddr, how: How) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let registry = Registry::with_events_max(4);
        registry.show(views(vec![view("chat-1", State::Progressing { step: 1 })]));
        let (requests, inbox) = mpsc::channel(8);
        let asked = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(supervise(inbox, asked.clone()));
        let shutdown = CancellationToken::new();
        let metrics = Metrics::new();
        let state = ApiState {
            handle: Handle::new(registry.clone(), requests),
            tokens: tokens(),
            metrics: metrics.clone(),
            open: how.open,
            reads_need_token: how.reads_need_token,
        };
        let task = tokio::spawn(api::serve(listener, state, shutdown.clone()));
        Self { address, metrics, registry, asked, shutdown, task }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What the supervisor was asked, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn set(&self, rollouts: Vec<RolloutView>) {
        self.registry.show(views(rollouts));
    }

    pub(crate) fn set_ready(&self, ready: bool) {
        self.registry.show(Views { ready, ..views(Vec::new()) });
    }

    /// Publishes a decision: the view first, then its line, as the runtime does. How many readers there are.
    pub(crate) fn decide(&self, view: RolloutView) -> usize {
        self.set(vec![view.clone()]);
        let line = EventLine { at: view.decision.at, rollout: view.id.clone(), decision: view.decision.clone(), view: Arc::new(view) };
        self.registry.events().send(line).unwrap_or(0)
    }

    pub(crate) fn feeds(&self) -> usize {
        self.registry.events().receiver_count()
    }

    pub(crate) fn begin_shutdown(&self) {
        self.shutdown.cancel();
    }

    /// Stops it and waits until nothing of it is left.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

fn views(rollouts: Vec<RolloutView>) -> Views {
    let rule = RuleView {
        name: "chat".to_owned(),
        file: "rules/chat.yaml".to_owned(),
        digest: "0011223344556677".to_owned(),
        rollout: rollouts.first().map(|view| view.id.clone()),
        ..RuleView::default()
    };
    let idle = RuleView { name: "idle".to_owned(), rollout: None, ..rule.clone() };
    Views {
        rollouts: rollouts.into_iter().map(|view| (view.id.clone(), Arc::new(view))).collect(),
        rules: [rule, idle].into_iter().map(|rule| (rule.name.clone(), Arc::new(rule))).collect(),
        reload_problems: vec!["rules/shop.yaml:3: steps: empty".to_owned()],
        sources: [("prometheus".to_owned(), Some("does not answer".to_owned()))].into(),
        ready: true,
    }
}

pub(crate) fn permille(weight: u16) -> Weight {
    Weight::from_permille(weight).unwrap()
}

/// A rollout at 25 %, its second step, with one metric undecided and one blind.
pub(crate) fn view(id: &str, state: State) -> RolloutView {
    let decision = Decision {
        at: Timestamp::from_millis(1_795_270_980_000),
        action: Action::Hold,
        state: state.clone(),
        weight: permille(250),
        generation: 2,
        step: 1,
        counts_time: true,
        reasons: Vec::new(),
        holds: vec![Hold {
            why: HoldWhy::Judge(Keep::Time),
            text: "7m 30s of 15m are over".to_owned(),
            ends: "7m 30s more have counted".to_owned(),
            until: Some(Timestamp::from_millis(1_795_271_430_000)),
        }],
        effects: Vec::new(),
        wake_at: None,
    };
    RolloutView {
        id: RolloutId(id.to_owned()),
        rule: "chat".to_owned(),
        baseline: "chat-v1".to_owned(),
        canary: "chat-v2".to_owned(),
        canary_side: Side::Second,
        canary_fields: Default::default(),
        version: "2.1.0".to_owned(),
        opened: Timestamp::from_millis(1_795_269_600_000),
        mode: Mode::Enforce,
        steps: vec![(permille(50), 900_000), (permille(250), 900_000), (permille(1000), 1_800_000)],
        metrics: vec!["error-rate".to_owned(), "latency-p95".to_owned()],
        state,
        decision: Arc::new(decision),
        weight_seen: Some(permille(250)),
        workloads: None,
        judgement: Some(Arc::new(judgement())),
        approvals: Vec::new(),
        stuck: None,
        warnings: vec!["no history: burn-in of 4m".to_owned()],
    }
}

fn judgement() -> Judgement {
    let mut judgement = Judgement::empty(Timestamp::from_millis(1_795_270_980_000), 1);
    let seen = |low, mid, high| Some(Interval { low, mid, high });
    let metric = |kind, index, verdict| MetricJudgement {
        kind,
        index,
        ln_harm: 1.5,
        ln_harm_cut: 1.5,
        ln_ok: 0.4,
        share: 0.5,
        advisory: false,
        required: true,
        used: true,
        phi: 1.1,
        estimate: PerArm { baseline: None, canary: None },
        verdict,
    };
    judgement.metrics.push(MetricJudgement {
        estimate: PerArm { baseline: seen(0.008, 0.01, 0.012), canary: seen(0.011, 0.016, 0.021) },
        ..metric(MetricKind::Errors, 0, Verdict::Undecided)
    });
    judgement.metrics.push(MetricJudgement {
        estimate: PerArm { baseline: seen(180.0, 212.4, 240.0), canary: seen(190.0, 2100.0, f64::INFINITY) },
        required: false,
        ln_harm: f64::NEG_INFINITY,
        ln_harm_cut: f64::NEG_INFINITY,
        ..metric(MetricKind::Latency(0.95), 1, Verdict::Blind(Blind::NoSeries))
    });
    judgement.limits.push(LimitJudgement {
        metric: 0,
        kind: LimitKind::RollbackAbove,
        level: 0.05,
        evidence: PerArm { baseline: 0.0, canary: 0.3 },
        threshold: 4.6,
        breached: PerArm { baseline: false, canary: false },
        proven: false,
        attributed: false,
        label: PerArm { baseline: false, canary: false },
    });
    judgement.keep.push(Keep::Time);
    judgement.ln_total = 1.2;
    judgement.ln_rollback = 3.0;
    judgement.ln_ok = 3.0;
    judgement.p_value = 0.3;
    judgement.score = 31.0;
    judgement.progress = 0.13;
    judgement.outlook = Outlook::Collecting;
    judgement.clock = StepClock { counted_s: 450.0, for_s: 900.0, canary_requests: 1234.0 };
    judgement
}

/// The same rollout after an action.
pub(crate) fn decided(view: RolloutView, action: Action, state: State) -> RolloutView {
    let holds = if state.is_over() { Vec::new() } else { view.decision.holds.clone() };
    let decision = Decision { action, state: state.clone(), holds, ..(*view.decision).clone() };
    RolloutView { state, decision: Arc::new(decision), ..view }
}

async fn supervise(mut inbox: mpsc::Receiver<Request>, asked: Arc<Mutex<Vec<String>>>) {
    while let Some(request) = inbox.recv().await {
        let note = |text: String| asked.lock().unwrap().push(text);
        // a reader that went away in the meantime is none of the supervisor's business
        match request {
            Request::Start { rule, args, answer } => {
                note(format!("start {rule} version={} retry={} by={}", args.version, args.retry, args.by));
                let _ = answer.send(start(&rule, &args.version, args.retry));
            }
            Request::Command { rollout, command, answer } => {
                let role = if let Verb::Approve { role } = &command.verb { format!(" as={role}") } else { String::new() };
                note(format!("{} {rollout}{role} by={} why={}", command.verb.name(), command.by, command.why));
                let _ = answer.send(follow(&rollout, command));
            }
            Request::Alerts { heard, answer } => {
                note(format!("alerts {}", heard.iter().map(|h| h.fingerprint.as_str()).collect::<Vec<_>>().join(" ")));
                let down = heard.iter().any(|h| h.fingerprint == "storeisdown");
                let _ = answer.send(if down { Err(Refusal::new("unavailable", "not stored")) } else { Ok(heard.len()) });
            }
            Request::Reload { answer } => {
                note("reload".to_owned());
                let _ = answer.send(Err(Refusal::new("invalid-rules", "rules/shop.yaml:3: steps: empty")));
            }
            Request::Past { args, answer } => {
                let (rule, since) = (args.rule.as_deref().unwrap_or("-"), args.since.map_or(0, Timestamp::as_millis));
                note(format!("past {rule} since={since} before={} most={}", args.before.as_ref().map_or("-", |id| &id.0), args.most));
                let _ = answer.send(past(&args));
            }
            Request::Annotations { range, answer } => {
                let rule = range.rule.unwrap_or_default();
                note(format!("annotations {}..{} {rule}", range.from.as_millis(), range.until.as_millis()));
                let stretch = Stretch {
                    rule: "chat".to_owned(),
                    rollout: RolloutId("chat-1".to_owned()),
                    version: "1.4.2".to_owned(),
                    from: range.from,
                    until: None,
                    state: "progressing",
                    weight: permille(250),
                    text: "advance, 5 % to 25 %".to_owned(),
                };
                let wide = Err(Refusal::new("range-too-wide", "501 rollouts"));
                let _ = answer.send(if rule == "wide" { wide } else { Ok(vec![stretch]) });
            }
            Request::Journal { rollout, answer } => {
                note(format!("journal {rollout}"));
                let _ = answer.send(Ok(journal()));
            }
        }
    }
}

/// Three rollouts, in pages.
fn past(args: &PastArgs) -> Result<PastRollouts, Refusal> {
    let opened = |n: i64| Timestamp::from_millis(1_795_269_600_000 + 3_600_000 * n);
    let one = |n: i64, state: State| PastRollout {
        id: RolloutId(format!("chat-{n}")),
        rule: "chat".to_owned(),
        version: format!("2.{n}.0"),
        by: "ann".to_owned(),
        opened: opened(n),
        ended: state.is_over().then(|| opened(n) + std::time::Duration::from_secs(1805)),
        reasons: if state == State::RolledBack { vec![("limit", "error-rate is beyond\u{1b}[2J".to_owned())] } else { Vec::new() },
        approvals: vec![Approval { role: "product-manager".to_owned(), by: "pam".to_owned(), why: "ok".to_owned(), at: opened(n) }],
        state,
    };
    let all = [one(3, State::Progressing { step: 1 }), one(2, State::RolledBack), one(1, State::Succeeded)];
    let from = args.before.as_ref().map_or(0, |id| all.iter().position(|p| p.id == *id).unwrap_or(all.len()) + 1);
    let rollouts: Vec<PastRollout> = all.iter().skip(from).take(args.most.min(2)).cloned().collect();
    Ok(PastRollouts { more: from + rollouts.len() < all.len(), rollouts })
}

fn start(rule: &str, version: &str, retry: bool) -> Result<RolloutId, Refusal> {
    match (rule, version) {
        ("chat", "bad") if !retry => Err(Refusal::new("rolled-back-before", "version bad was rolled back before: start it with retry")),
        ("chat", _) => Ok(RolloutId("chat-2".to_owned())),
        _ => Err(Refusal::new("unknown-rule", format!("there is no rule {rule:?}"))),
    }
}

fn follow(rollout: &str, command: Command) -> Result<Arc<RolloutView>, Refusal> {
    if !rollout.starts_with("chat") {
        return Err(Refusal::new("unknown-rollout", format!("there is no rollout {rollout:?}")));
    }
    let view = view("chat-1", State::Progressing { step: 1 });
    let since = view.decision.at;
    match command.verb {
        Verb::Pause => {
            let paused = State::Paused(Paused { by: command.by, why: command.why, since });
            Ok(Arc::new(decided(view, Action::Pause, paused)))
        }
        Verb::Advance => {
            Ok(Arc::new(decided(view, Action::Refuse("evidence of harm is 2.1 of 3.0 nats".to_owned()), State::Progressing { step: 1 })))
        }
        Verb::Promote => Err(Refusal::new("refused", "chat-1 is not at its last step")),
        Verb::RollBack => Ok(Arc::new(decided(view, Action::RollBack, State::RollingBack))),
        _ => Ok(Arc::new(decided(view, Action::Resume, State::Progressing { step: 1 }))),
    }
}

fn journal() -> Vec<Entry> {
    let at = Timestamp::from_millis(1_795_270_980_000);
    let mut poll = Poll::blind(at, 1, Blind::NoSeries);
    poll.arms.baseline = canaryd::model::ArmSample::counts(750.0, 7.0);
    let missing = PerArm { baseline: None, canary: Some(Blind::NoSeries) };
    let decision = (*view("chat-1", State::Progressing { step: 1 }).decision).clone();
    vec![
        Entry { seq: 0, at, event: Event::Poll { poll: Box::new(poll), missing, detail: "no pod".to_owned(), orphans: 0.0 } },
        Entry { seq: 1, at, event: Event::Decided(Box::new(decision)) },
        Entry { seq: 2, at, event: Event::Input(Box::new(Input::Traffic(Err("connection refused".to_owned())))) },
    ]
}
