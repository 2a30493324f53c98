//! The little language of the scripts. A rule is `5% 15m, 100% 30m; undecided=30m:ask; ...`; a line of a script is
//!
//! ```text
//! TIME [xN] INPUT => FACT; FACT; ...
//! ```
//!
//! `NAME:` before a verb says whose word it is (else ana's). `xN`: the input comes N times, 15 s apart, and the answer is that to
//! the last; what must not be, must not be in any. `done` and `failed` speak of the last weight asked for unless they name a
//! generation. A fact is a word about the decision (see [`facts`]); a list of holds is compared whole, `~ words` must occur in some
//! hold, message or refusal, `no X` must not be a fact.

use crate::model::calendar::{AtEnd, Span, When, Windows};
use crate::model::rule::{
    AfterRollback, BakeJudge, First, HoldThen, Hook, KubernetesRoute, OnForeign, OnHookFail, OnShared, PodHealth, Policies, Promotion,
    Replicas, RouteKind, Start, Step, Target, Then, Traffic, WorkloadForm, Workloads,
};
use crate::model::{
    Action, Advance, Alert, Arm, Begin, Blind, Breach, Budget, Command, Counts, Decision, Effect, HookAnswer, HookPoint, Input, Judgement,
    Keep, Level, LimitJudgement, LimitKind, Margin, Method, MetricJudgement, MetricKind, MetricSpec, Mode, Noted, Notice, Outcome, PerArm,
    Phase, PodSigns, Retry, Rule, Severity, Side, Stands, State, StepClock, Tick, Timestamp, TrafficReading, Verb, Verdict, Waiting,
    Weight, WorkloadAction, WorkloadSeen,
};
use crate::rollout::{Machine, invariants};
use jiff::tz::TimeZone;
use std::collections::BTreeMap;
use std::time::Duration;

fn seconds(text: &str) -> u64 {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_alphabetic()).unwrap_or_else(|| panic!("no unit in {text:?}")));
    let number: u64 = number.parse().unwrap_or_else(|_| panic!("no time: {text:?}"));
    number * [("s", 1), ("m", 60), ("h", 3600)].into_iter().find(|(u, _)| *u == unit).unwrap_or_else(|| panic!("unit of {text:?}")).1
}

fn duration(text: &str) -> Duration {
    Duration::from_secs(seconds(text))
}

fn then(text: &str) -> Then {
    match text {
        "ask" => Then::Ask,
        "roll-back" => Then::RollBack,
        "hold" => Then::Hold,
        _ => panic!("then {text:?}"),
    }
}

fn hold_then(text: &str) -> HoldThen {
    let (hold, what) = text.split_once(':').expect("hold:then");
    HoldThen { hold: duration(hold), then: then(what) }
}

/// A rule of one required metric, `error-rate`.
pub(crate) fn rule(text: &str) -> Rule {
    let mut parts = text.split(';').map(str::trim);
    let step = |s: &str| {
        let (weight, lasts) = s.trim().split_once(' ').expect("weight and time");
        Step { weight: weight.parse().expect("weight"), lasts: duration(lasts.trim()) }
    };
    let mut rule = Rule {
        name: "shop".to_owned(),
        digest: String::new(),
        file: "shop.yaml".into(),
        workloads: Workloads { form: WorkloadForm::Pair, sides: [Target::default(), Target { fields: BTreeMap::new() }] },
        telemetry: Vec::new(),
        source: None,
        interval: None,
        traffic: Traffic::None,
        steps: parts.next().expect("steps").split(',').map(step).collect(),
        advance: Advance::OnSchedule { strict: false },
        min_requests: 20,
        promotion: Promotion::Swap { keep: duration("24h"), idle: None },
        metrics: vec![error_rate()],
        custom_counts: Vec::new(),
        custom_gauges: Vec::new(),
        budget: Budget::default(),
        cpu_load_rule: true,
        policies: Policies::default(),
        bake_judge: BakeJudge::RollBack,
        mode: Mode::Enforce,
        drain: duration("60s"),
        first: First::Promote,
        replicas: Replicas::External,
        after_rollback: AfterRollback::Leave,
        pod_health: None,
        shares: Default::default(),
        start: Start::default(),
        hooks: Vec::new(),
        windows: None,
        alerts: Vec::new(),
        notify: Vec::new(),
        attached: BTreeMap::new(),
        not_run: Vec::new(),
    };
    parts.filter(|p| !p.is_empty()).for_each(|p| set(&mut rule, p));
    rule
}

fn error_rate() -> MetricSpec {
    MetricSpec {
        name: "error-rate".to_owned(),
        kind: MetricKind::Errors,
        compared: true,
        margin: Margin::Counts { relative: 0.2, absolute: 0.0002, ok_relative: 0.5, ok_absolute: 0.001 },
        required: true,
        weight: 1.0,
        limits: Default::default(),
    }
}

fn set(rule: &mut Rule, part: &str) {
    let (key, value) = part.split_once('=').unwrap_or((part, ""));
    let policies = &mut rule.policies;
    match (key, value) {
        ("on-evidence", _) => rule.advance = Advance::OnEvidence,
        ("strict", _) => rule.advance = Advance::OnSchedule { strict: true },
        ("blind", v) => policies.blind = hold_then(v),
        ("blind-canary", v) => policies.blind_canary = hold_then(v),
        ("undecided", v) => policies.undecided = hold_then(v),
        ("shared", "hold") => policies.shared = OnShared::Hold,
        ("shared", "page") => policies.shared = OnShared::Page,
        ("shared", "roll-back") => policies.shared = OnShared::RollBack,
        ("vanished", v) => policies.vanished = then(v),
        ("foreign", "yield") => policies.foreign = OnForeign::Yield,
        ("bake-judge", "page") => rule.bake_judge = BakeJudge::Page,
        ("mode", "observe") => rule.mode = Mode::Observe,
        ("promotion", "leave") => rule.promotion = Promotion::Leave,
        ("promotion", "copy") => rule.promotion = Promotion::Copy,
        ("idle", v) => rule.promotion = Promotion::Swap { keep: duration("24h"), idle: Some(v.parse().expect("replicas")) },
        ("replicas", "follow") => rule.replicas = Replicas::Follow,
        ("after-rollback", "undo") => rule.after_rollback = AfterRollback::Undo,
        ("after-rollback", "scale-down") => rule.after_rollback = AfterRollback::ScaleDown,
        ("workloads", "one") => rule.workloads.form = WorkloadForm::One,
        ("traffic", "replicas") => rule.traffic = of_replicas(),
        ("workloads", "led") => {
            rule.workloads.form = WorkloadForm::One;
            let kind = RouteKind::RollingUpdate;
            rule.traffic = Traffic::Kubernetes(KubernetesRoute { namespace: "shop".to_owned(), name: "web".to_owned(), kind });
        }
        ("pod-health", v) => rule.pod_health = Some(pod_health(v)),
        ("external", v) => rule.promotion = Promotion::External { within: duration(v) },
        ("first", "refuse") => rule.first = First::Refuse,
        ("drain", v) => rule.drain = duration(v),
        ("approvals", v) => rule.start.approvals = word_list(v).map(str::to_owned).collect(),
        ("hook", v) => rule.hooks.push(hook(v)),
        ("zone", v) => windows(rule).zone = TimeZone::get(v).expect("a zone"),
        ("begins" | "noted", _) => {} // of the script
        ("allow", v) => windows(rule).allow.push(span(v)),
        ("deny", v) => windows(rule).deny.push(span(v)),
        ("at-end", "hold") => windows(rule).at_end = AtEnd::Hold,
        ("at-end", "roll-back") => windows(rule).at_end = AtEnd::RollBack,
        _ => panic!("rule part {part:?}"),
    }
}

fn of_replicas() -> Traffic {
    let kind = RouteKind::Replicas { deployments: ["shop-v1", "shop-v2"].map(str::to_owned), total: None };
    Traffic::Kubernetes(KubernetesRoute { namespace: "shop".to_owned(), name: "shop".to_owned(), kind })
}

/// `crash-loop,failed-probes:3`.
fn pod_health(text: &str) -> PodHealth {
    let has = |word: &str| word_list(text).any(|w| w == word);
    PodHealth {
        crash_loop: has("crash-loop"),
        image_pull: has("image-pull"),
        oom_killed: has("oom-killed"),
        never_ready: has("never-ready"),
        failed_probes: word_list(text).find_map(|w| w.strip_prefix("failed-probes:")).map(|n| n.parse().expect("a number")),
    }
}

fn windows(rule: &mut Rule) -> &mut Windows {
    rule.windows.get_or_insert_with(|| Windows { zone: TimeZone::UTC, allow: Vec::new(), deny: Vec::new(), at_end: AtEnd::Finish })
}

/// `Thu` or `Thu+Fri 18:00-20:00`, UTC: a script begins on a Thursday at midnight.
fn span(text: &str) -> Span {
    let (days, times) = text.split_once(' ').unwrap_or((text, "00:00-00:00"));
    let (from, to) = times.split_once('-').expect("from-to");
    let days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"].map(|d| days.split('+').any(|one| one == d));
    let when = When::Weekly { days, from: from.parse().expect("a time"), to: to.parse().expect("a time") };
    Span { words: text.to_owned(), when }
}

/// `before-start:10m:roll-back`.
fn hook(text: &str) -> Hook {
    let parts: Vec<&str> = text.split(':').collect();
    let on_fail = match parts[2] {
        "roll-back" => OnHookFail::RollBack,
        "hold" => OnHookFail::Hold,
        "ask" => OnHookFail::Ask,
        other => panic!("on-fail {other:?}"),
    };
    Hook { at: hook_point(parts[0]), url: "http://ci/".to_owned(), timeout: duration(parts[1]), on_fail }
}

fn hook_point(name: &str) -> HookPoint {
    use HookPoint::*;
    let all = [BeforeStart, BeforeStep, BeforePromotion, AfterPromotion, AfterRollback];
    all.into_iter().find(|p| p.name() == name).unwrap_or_else(|| panic!("hook {name:?}"))
}

fn word_list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',')
}

fn keep(word: &str) -> Keep {
    match word {
        "blind" => Keep::Blind,
        "shared" => Keep::Shared,
        "suspicious" => Keep::Suspicious,
        "limit" => Keep::Limit,
        "harm" => Keep::Harm,
        "few" => Keep::FewRequests,
        "time" => Keep::Time,
        "unproven" => Keep::NotProven,
        "below" => Keep::PromoteBelow,
        _ => panic!("keep {word:?}"),
    }
}

fn breach(word: &str) -> Breach {
    match word {
        "metric" => Breach::Metric(0),
        "limit" => Breach::Limit(0),
        "bake" => Breach::Bake { metric: 0, derived: true },
        "gross" => Breach::Gross,
        "abandoned" => Breach::Abandoned,
        _ => panic!("breach {word:?}"),
    }
}

fn blind(word: &str) -> Blind {
    Blind::ALL.into_iter().find(|b| b.name() == word).unwrap_or_else(|| panic!("blind {word:?}"))
}

/// Evidence of one required metric: `ln_ok` so far, 3.0 needed.
fn metric(ln_ok: f64) -> MetricJudgement {
    let verdict = if ln_ok >= 3.0 { Verdict::Pass } else { Verdict::Undecided };
    MetricJudgement {
        kind: MetricKind::Errors,
        index: 0,
        ln_harm: 0.0,
        ln_harm_cut: 0.0,
        ln_ok,
        share: 1.0,
        advisory: false,
        required: true,
        used: true,
        phi: 1.0,
        estimate: PerArm::default(),
        verdict,
    }
}

fn limit(kind: LimitKind) -> LimitJudgement {
    LimitJudgement {
        metric: 0,
        kind,
        level: 0.05,
        evidence: PerArm { baseline: 0.0, canary: 5.0 },
        threshold: 4.6,
        breached: PerArm::default(),
        proven: false,
        attributed: false,
        label: PerArm::default(),
    }
}

/// `tick clear` or `tick time,blind`, then `breach=`, `n=baseline/canary`, `n=-`, `counted=`, `requests=`, `ok=`,
/// `missing=arm:kind`, `labels=`, `limits=`, `step=`, `detail=`, `orphans=`, `dup`. Without `n` the traffic follows the weight.
fn tick(words: &[&str], at: Timestamp, before: &Decision, steps: &[Step]) -> Input {
    let mut judgement = Judgement::empty(at, before.step);
    let step = &steps[before.step as usize];
    let canary = 1000.0 * step.weight.share();
    judgement.counts = Some(PerArm { baseline: 1000.0 - canary, canary }.map(|total| Counts { total, bad: 0.0 }));
    judgement.clock = StepClock { counted_s: 0.0, for_s: step.lasts.as_secs_f64(), canary_requests: 1000.0 };
    judgement.ln_ok = 3.0;
    judgement.ln_rollback = 3.0;
    judgement.metrics.push(metric(5.0));
    judgement.limits.extend([limit(LimitKind::WarnAbove), limit(LimitKind::PageAbove)]);
    let mut tick = Tick { judgement, missing: PerArm::default(), detail: String::new(), orphans: 0.0 };
    if words[0] != "clear" {
        tick.judgement.keep.extend(word_list(words[0]).map(keep));
    }
    for word in &words[1..] {
        tick_word(&mut tick, word);
    }
    Input::Tick(Box::new(tick))
}

fn tick_word(tick: &mut Tick, word: &str) {
    let (key, value) = word.split_once('=').unwrap_or((word, ""));
    let j = &mut tick.judgement;
    match key {
        "breach" => j.rollback.extend(word_list(value).map(breach)),
        "n" if value == "-" => j.counts = None,
        "n" => {
            let (baseline, canary) = value.split_once('/').expect("n=baseline/canary");
            let counts = |n: &str| Counts { total: n.parse().expect("a number"), bad: 0.0 };
            j.counts = Some(PerArm { baseline: counts(baseline), canary: counts(canary) });
        }
        "counted" => j.clock.counted_s = seconds(value) as f64,
        "requests" => j.clock.canary_requests = value.parse().expect("a number"),
        "ok" => j.metrics[0] = metric(value.parse().expect("a number")),
        "missing" => {
            let (arm, why) = value.split_once(':').expect("missing=arm:kind");
            for a in Arm::BOTH.into_iter().filter(|a| arm == "both" || arm == a.name()) {
                tick.missing[a] = Some(blind(why));
            }
        }
        "labels" => word_list(value).for_each(|l| match l {
            "shared" => (j.labels.shared, j.labels.hold) = (true, true),
            "page" => j.labels.page_shared = true,
            _ => panic!("label {l:?}"),
        }),
        "limits" => word_list(value).for_each(|l| match l {
            "warn" => j.limits[0].breached.canary = true,
            "page" => j.limits[1].breached.canary = true,
            _ => panic!("limit {l:?}"),
        }),
        "step" => j.step = value.parse().expect("a step"),
        "orphans" => tick.orphans = value.parse().expect("a number"),
        "detail" => tick.detail = value.replace('_', " "),
        "dup" => j.duplicate = true,
        _ => panic!("tick word {word:?}"),
    }
}

fn begin(words: &[&str]) -> Input {
    let found = words.iter().find(|w| w.ends_with('%')).map_or(Weight::ZERO, |w| w.parse().expect("weight"));
    Input::Begin(Begin {
        weight: found,
        first: words.contains(&"first"),
        noted: words.iter().find_map(|w| w.strip_prefix("noted=")).map(noted),
        ..Begin::new(Side::Second, "v2", "ana")
    })
}

/// `10/3`: N, and what the canary's workload asks for; and `floor:2`, `canary-floor:1`, `no-template`, `warns`.
pub(super) fn noted(text: &str) -> Noted {
    let words: Vec<&str> = word_list(text).collect();
    let (ready, wanted) = words[0].split_once('/').expect("noted=N/wanted");
    let floor = |key: &str| words.iter().find_map(|w| w.strip_prefix(key)).map(|n| n.parse().expect("a floor"));
    Noted {
        baseline_ready: ready.parse().expect("a number"),
        canary_wanted: wanted.parse().expect("a number"),
        baseline_floor: floor("floor:"),
        canary_floor: floor("canary-floor:"),
        template_before: (!words.contains(&"no-template")).then(|| "{}".to_owned()),
        warnings: if words.contains(&"warns") { vec!["may not read autoscalers".to_owned()] } else { Vec::new() },
        ..Noted::default()
    }
}

/// `cluster 10/10 1/3`: ready of wanted, the baseline's first; and signs such as `canary:crash-loop=1`. Or `cluster away`.
fn cluster(words: &[&str]) -> Input {
    if words == ["away"] {
        return Input::Workloads(Err("connection refused".to_owned()));
    }
    let mut seen = PerArm { baseline: arm_seen(words[0]), canary: arm_seen(words[1]) };
    for word in &words[2..] {
        let (arm, sign) = word.split_once(':').expect("arm:sign");
        let (sign, n) = sign.split_once('=').expect("sign=count");
        let arm = Arm::BOTH.into_iter().find(|a| a.name() == arm).expect("an arm");
        sign_of(&mut seen[arm].signs, sign, n.parse().expect("a number"));
        seen[arm].trouble = format!("pod {}-1 is unwell", arm.name());
    }
    Input::Workloads(Ok(seen))
}

fn arm_seen(text: &str) -> WorkloadSeen {
    let (ready, wanted) = text.split_once('/').expect("ready/wanted");
    let (ready, wanted) = (ready.parse().expect("a number"), wanted.parse().expect("a number"));
    WorkloadSeen { wanted, pods: wanted, ready, ..WorkloadSeen::default() }
}

fn sign_of(signs: &mut PodSigns, sign: &str, n: u32) {
    match sign {
        "crash-loop" => signs.crash_loops = n,
        "image-pull" => signs.image_pulls = n,
        "oom-killed" => signs.oom_killed = n,
        "failed-probes" => signs.failed_probes = n,
        "never-ready" => signs.never_ready = n,
        _ => panic!("sign {sign:?}"),
    }
}

fn verb(words: &[&str]) -> Option<Verb> {
    Some(match words[0] {
        "pause" => Verb::Pause,
        "resume" => Verb::Resume,
        "advance" => Verb::Advance,
        "promote" => Verb::Promote,
        "rollback" => Verb::RollBack,
        "approve" => Verb::Approve { role: (*words.get(1).expect("a role")).to_owned() },
        "break-glass-promote" => Verb::BreakGlassPromote,
        "break-glass-freeze" => Verb::BreakGlassFreeze,
        "break-glass-rollback" => Verb::BreakGlassRollBack,
        _ => return None,
    })
}

fn outcome(words: &[&str], generation: u64) -> Input {
    let named = words.iter().find_map(|w| w.strip_prefix('#')).map(|g| g.parse().expect("generation"));
    let retry = match words {
        ["failed", "never", ..] => Retry::Never,
        ["failed", "on-change", ..] => Retry::OnChange,
        ["failed", "underway", ..] => Retry::Underway,
        _ => Retry::After(Duration::from_secs(1)),
    };
    let outcome = if words[0] == "done" { Outcome::Done } else { Outcome::Failed { text: "connection refused".to_owned(), retry } };
    Input::Effect { generation: named.unwrap_or(generation), outcome }
}

/// What was asked for last, for answers that do not name it.
#[derive(Default)]
struct Asked {
    hook: Option<(HookPoint, u32)>,
    work: u64,
}

impl Asked {
    fn note(&mut self, decision: &Decision) {
        for effect in &decision.effects {
            match effect {
                Effect::CallHook { hook, attempt } => self.hook = Some((*hook, *attempt)),
                Effect::Workload { number, .. } => self.work = *number,
                Effect::SetWeight { .. } | Effect::Notify(_) | Effect::HoldStill => {}
            }
        }
    }

    /// `work done`, `work failed`, `work failed never`, and `#2` for another action than the last.
    fn worked(&self, words: &[&str]) -> Input {
        let Input::Effect { generation, outcome } = outcome(words, self.work) else { unreachable!("an outcome") };
        Input::Workload { number: generation, outcome }
    }

    /// `hook passed`, `hook failed`, `hook refused`, and `#2` for another call than the last.
    fn answer(&self, words: &[&str]) -> Input {
        let (hook, last) = self.hook.expect("a hook was called");
        let attempt = words.iter().find_map(|w| w.strip_prefix('#')).map_or(last, |n| n.parse().expect("an attempt"));
        let answer = match words[0] {
            "passed" => HookAnswer::Passed,
            "failed" => HookAnswer::Failed { text: "status 503".to_owned(), again: true },
            "refused" => HookAnswer::Failed { text: "status 403".to_owned(), again: false },
            other => panic!("answer {other:?}"),
        };
        Input::Hook { hook, attempt, answer }
    }
}

/// `Errors:critical:canary`, and more words: `resolved`, `@-60s` or `@60s` (since when; else now), `#a` (another fingerprint than
/// name and arm).
fn alert(text: &str, now: Timestamp) -> Alert {
    let words: Vec<&str> = text.split(':').collect();
    let severity = match words[1] {
        "critical" => Severity::Critical,
        "warning" => Severity::Warning,
        _ => Severity::Info,
    };
    let names = Arm::BOTH.into_iter().find(|a| a.name() == words[2]);
    let since = words.iter().find_map(|w| w.strip_prefix('@')).map_or(now, |t| {
        let ms = 1000 * seconds(t.trim_start_matches('-')) as i64;
        Timestamp::from_millis(if t.starts_with('-') { -ms } else { ms })
    });
    let fingerprint = words.iter().find(|w| w.starts_with('#')).map_or_else(|| format!("{}/{}", words[0], words[2]), |w| (*w).to_owned());
    let (name, firing) = (words[0].to_owned(), !words.contains(&"resolved"));
    Alert { fingerprint, text: format!("{name} is bad"), name, firing, severity, names, since }
}

fn input(text: &str, at: Timestamp, before: &Decision, steps: &[Step], asked: &Asked) -> Input {
    let (by, text) = text.split_once(": ").unwrap_or(("ana", text));
    let words: Vec<&str> = text.split_whitespace().collect();
    if let Some(verb) = verb(&words) {
        let why = words[1..].iter().filter(|w| !matches!(&verb, Verb::Approve { role } if role == *w)).copied().collect::<Vec<_>>();
        return Input::Command(Command { verb, by: by.to_owned(), why: why.join(" ") });
    }
    match words.as_slice() {
        ["begin", rest @ ..] => begin(rest),
        ["tick", rest @ ..] => tick(rest, at, before, steps),
        ["done" | "failed", ..] => outcome(&words, before.generation),
        ["wake"] => Input::Wake,
        ["hook", answer @ ..] => asked.answer(answer),
        ["work", answer @ ..] => asked.worked(answer),
        ["cluster", seen @ ..] => cluster(seen),
        ["alerts", all @ ..] => Input::Alerts(all.iter().map(|a| alert(a, at)).collect()),
        ["supersede", version] => Input::Supersede { version: (*version).to_owned() },
        ["traffic", "unreadable"] => Input::Traffic(Err("timeout".to_owned())),
        ["traffic", weight, "let-go", writer @ ..] => traffic(weight, writer, Stands::LetGo),
        ["traffic", weight, "underway", why @ ..] => traffic(weight, &[], Stands::Underway(why.join(" "))),
        ["traffic", weight, writer @ ..] => traffic(weight, writer, Stands::Still),
        _ => panic!("input {text:?}"),
    }
}

fn traffic(weight: &str, writer: &[&str], stands: Stands) -> Input {
    let writer = writer.first().map(|w| (*w).to_owned());
    Input::Traffic(Ok(TrafficReading { stands, ..TrafficReading::new(weight.parse().expect("weight"), None, writer) }))
}

/// The instant of a script's 0s: `begins=2026-03-29T00:00Z` among the rule's parts, else the epoch, a Thursday at midnight UTC.
fn beginning(rule_text: &str) -> i64 {
    let text = rule_text.split(';').find_map(|p| p.trim().strip_prefix("begins="));
    text.map_or(0, |t| t.parse::<jiff::Timestamp>().expect("an instant").as_millisecond())
}

/// What a script may say about a decision: `advance 5% -> 25%`, `progressing 0`, `at 5%`, `step 0`, `set 5% #1`,
/// `holds time, blind`, `page`, `firing stuck`, `counts`, `wake 70s`, `missing 2000` (requests of the unproven metric), `reasons 1`.
fn facts(d: &Decision, zero: i64) -> Vec<String> {
    let mut facts = vec![format!("at {}", d.weight), format!("step {}", d.step), format!("reasons {}", d.reasons.len())];
    facts.push(match &d.action {
        Action::Advance { from, to, .. } => format!("advance {from} -> {to}"),
        action => action.name().to_owned(),
    });
    if let Action::Advance { unproven, .. } = &d.action {
        facts.extend(unproven.iter().map(|u| u.requests.map_or_else(|| "missing unknown".to_owned(), |n| format!("missing {n}"))));
    }
    facts.push(match &d.state {
        State::Progressing { step } | State::Baking { step } => format!("{} {step}", d.state.name()),
        State::Promoting(at) => format!("promoting {at:?}").to_lowercase(),
        state => state.name().to_owned(),
    });
    if let State::Waiting(what) = &d.state {
        facts.push(waiting(what, zero));
    }
    facts.push(if d.counts_time { "counts" } else { "stands still" }.to_owned());
    let holds: Vec<&str> = d.holds.iter().map(|h| h.why.name()).collect();
    facts.push(format!("holds {}", if holds.is_empty() { "nothing".to_owned() } else { holds.join(", ") }));
    facts.push(d.wake_at.map_or_else(|| "no wake".to_owned(), |at| format!("wake {}s", (at.as_millis() - zero) / 1000)));
    facts.extend(d.effects.iter().flat_map(|e| match e {
        Effect::SetWeight { weight, generation } => vec![format!("set {weight} #{generation}")],
        Effect::Notify(notice) => told(notice),
        Effect::CallHook { hook, attempt } => vec![format!("call {} #{attempt}", hook.name())],
        Effect::HoldStill => vec!["hold still".to_owned()],
        Effect::Workload { action, number } => vec![format!("{} #{number}", worked(*action))],
    }));
    facts
}

/// An action, with its replicas if it has some: `scale-canary 3`.
fn worked(action: WorkloadAction) -> String {
    match action {
        WorkloadAction::ScaleCanary { replicas } | WorkloadAction::IdleBaseline { replicas, .. } => format!("{} {replicas}", action.name()),
        _ => action.name().to_owned(),
    }
}

/// `waiting approval manager,product`, `waiting window 3600s`, `waiting hook before-start`.
fn waiting(what: &Waiting, zero: i64) -> String {
    match what {
        Waiting::Router => "waiting router".to_owned(),
        Waiting::Window { opens } => format!("waiting window {}s", (opens.as_millis() - zero) / 1000),
        Waiting::Approval { roles } => format!("waiting approval {}", roles.join(",")),
        Waiting::Hook { name } => format!("waiting hook {name}"),
        Waiting::Pods => "waiting pods".to_owned(),
    }
}

/// `page`, `warning` or `info` for what is new, and its phase and topic: `firing stuck`, `resolved paused`, `event progress`.
fn told(notice: &Notice) -> Vec<String> {
    let phase = format!("{} {}", notice.phase.name(), notice.topic.name());
    if notice.phase == Phase::Resolved {
        return vec![phase];
    }
    let level = match notice.level {
        Level::Page => "page",
        Level::Warning => "warning",
        Level::Info => "info",
    };
    vec![level.to_owned(), phase]
}

/// Every sentence a decision has for people.
fn sentences(d: &Decision) -> Vec<String> {
    let holds = d.holds.iter().flat_map(|h| [h.text.clone(), h.ends.clone()]);
    let messages = d.effects.iter().filter_map(|e| match e {
        Effect::Notify(notice) => Some(notice.text.clone()),
        Effect::SetWeight { .. } | Effect::CallHook { .. } | Effect::HoldStill | Effect::Workload { .. } => None,
    });
    let refusal = match &d.action {
        Action::Refuse(text) => Some(text.clone()),
        _ => None,
    };
    holds.chain(messages).chain(refusal).collect()
}

fn agrees(d: &Decision, zero: i64, fact: &str) -> bool {
    let has = |f: &str| facts(d, zero).iter().any(|x| x == f || (["set", "missing"].contains(&f) && x.starts_with(f)));
    match fact.split_once(' ') {
        Some(("~", words)) => sentences(d).iter().any(|s| s.contains(words)),
        Some(("no", "wake")) => has("no wake"),
        Some(("no", rest)) => !has(rest),
        _ => has(fact),
    }
}

/// A decision on nothing, to compare the first one with.
pub(super) fn unborn() -> Decision {
    Decision {
        at: Timestamp::from_millis(0),
        action: Action::Hold,
        state: State::Waiting(Waiting::Router),
        weight: Weight::ZERO,
        generation: 0,
        step: 0,
        counts_time: false,
        reasons: Vec::new(),
        holds: Vec::new(),
        effects: Vec::new(),
        wake_at: None,
    }
}

/// Runs a script against a rule; every decision must also keep the invariants.
pub(crate) fn check(rule_text: &str, script: &str) {
    run(rule_text, script);
}

/// The same; what is left of it.
pub(super) fn run(rule_text: &str, script: &str) -> (Machine, Decision) {
    let (rule, zero) = (rule(rule_text), beginning(rule_text));
    let mut machine = Machine::new(&rule, &Method::default());
    let (mut last, mut told, mut asked) = (unborn(), invariants::Told::default(), Asked::default());
    for line in script.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let (what, expected) = line.split_once("=>").unwrap_or((line, ""));
        let (time, what) = what.trim().split_once(' ').expect("time and input");
        let (times, what) = match what.trim().split_once(' ') {
            Some((n, rest)) if n.starts_with('x') => (n[1..].parse().expect("xN"), rest.trim()),
            _ => (1, what.trim()),
        };
        for i in 0..times {
            let at = Timestamp::from_millis(zero + 1000 * (seconds(time) + 15 * i) as i64);
            let input = input(what, at, &last, &rule.steps, &asked);
            let decision = machine.handle(at, &input);
            let kept = invariants::check(&last, &input, &decision).and_then(|()| told.check(&decision));
            kept.unwrap_or_else(|broken| panic!("{line}\n  {broken}"));
            asked.note(&decision);
            last = decision;
            let facts_now = expected.split(';').map(str::trim).filter(|f| !f.is_empty() && (i + 1 == times || f.starts_with("no ")));
            for fact in facts_now {
                assert!(agrees(&last, zero, fact), "{line}\n  not {fact:?} in {:?}\n  {:#?}", facts(&last, zero), sentences(&last));
            }
        }
    }
    (machine, last)
}
