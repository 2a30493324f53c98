use super::*;
use crate::model::{Interval, LimitJudgement, PerArm, Timestamp, Weight};
use std::time::Duration;

fn names() -> Vec<String> {
    vec!["error-rate".to_owned(), "latency-p95".to_owned()]
}

fn judged() -> Judgement {
    let mut judgement = Judgement::empty(Timestamp::from_millis(0), 0);
    let seen = |low, mid, high| Some(Interval { low, mid, high });
    judgement.metrics.push(MetricJudgement {
        kind: MetricKind::Errors,
        index: 0,
        ln_harm: 5.0,
        ln_harm_cut: 4.0,
        ln_ok: -1.0,
        share: 0.5,
        advisory: false,
        required: true,
        used: true,
        phi: 1.0,
        estimate: PerArm { baseline: seen(0.008, 0.01, 0.012), canary: seen(0.02, 0.031, 0.04) },
        verdict: Verdict::Undecided,
    });
    judgement
}

#[test]
fn a_reason_names_the_metric_and_what_both_arms_show() {
    let crossed = Reason::Breach { breach: Breach::Metric(0), during_shared: true };
    assert_eq!(
        reason(&crossed, &names(), Some(&judged())),
        "error-rate is worse than tolerated: canary 3.1% (2% to 4%), baseline 1% (0.8% to 1.2%), during a shared incident"
    );
    assert_eq!(reason(&crossed, &names(), None), "error-rate is worse than tolerated, during a shared incident");
    let unknown = Reason::Breach { breach: Breach::Limit(7), during_shared: false };
    assert_eq!(reason(&unknown, &names(), None), "metric 7 is beyond its rollback-above limit");
    let mut limited = judged();
    limited.limits.push(LimitJudgement {
        metric: 0,
        kind: LimitKind::RollbackAbove,
        level: 0.025,
        evidence: PerArm::default(),
        threshold: 4.6,
        breached: PerArm { baseline: false, canary: true },
        proven: false,
        attributed: false,
        label: PerArm::default(),
    });
    let limit = Reason::Breach { breach: Breach::Limit(0), during_shared: false };
    let expected = "error-rate is beyond its rollback-above limit of 2.5%: canary 3.1% (2% to 4%), baseline 1% (0.8% to 1.2%)";
    assert_eq!(reason(&limit, &names(), Some(&limited)), expected);
}

#[test]
fn a_persons_and_a_policys_reason_say_who_and_how_long() {
    let person = Reason::Person { by: "ann".to_owned(), why: "users complain".to_owned() };
    assert_eq!(reason(&person, &[], None), "ann said so: users complain");
    let policy = Reason::Policy { which: "blind".to_owned(), after: Duration::from_secs(600) };
    assert_eq!(reason(&policy, &[], None), "policy blind: nothing changed for 10m");
}

#[test]
fn an_escape_sequence_reaches_no_terminal_and_no_log() {
    assert_eq!(printable("v1\x1b[2J\r\n"), "v1\u{fffd}[2J\u{fffd}\u{fffd}");
}

#[test]
fn a_hold_says_what_ends_it_and_until_when() {
    let mut held = Hold {
        why: HoldWhy::Judge(Keep::FewRequests),
        text: "12 of 20 canary requests".to_owned(),
        ends: "8 more have come".to_owned(),
        until: Some(Timestamp::from_millis(1_795_270_985_000)),
    };
    assert_eq!(hold(&held), "12 of 20 canary requests; ends when 8 more have come; until 2026-11-21T14:23:05Z at the latest");
    held = Hold { text: String::new(), ends: String::new(), until: None, ..held };
    assert_eq!(hold(&held), "the canary got too few requests in this step");
}

#[test]
fn an_undecided_metric_says_how_far_its_evidence_is() {
    let judgement = judged();
    // 4.0 of 3 - ln 0.5 = 3.69
    assert_eq!(metric(&judgement.metrics[0], 3.0, 3.0), "evidence of harm 4.0 of 3.7 nats, of no harm 0.0 of 3.0");
}

#[test]
fn a_step_on_schedule_says_what_was_not_shown() {
    let advanced = Decision {
        at: Timestamp::from_millis(0),
        action: Action::Advance {
            from: Weight::from_permille(50).unwrap(),
            to: Weight::from_permille(250).unwrap(),
            unproven: vec![Unproven { metric: 0, requests: Some(800) }, Unproven { metric: 1, requests: None }],
        },
        state: State::Progressing { step: 1 },
        weight: Weight::from_permille(250).unwrap(),
        generation: 2,
        step: 1,
        counts_time: true,
        reasons: Vec::new(),
        holds: Vec::new(),
        effects: Vec::new(),
        wake_at: None,
    };
    assert_eq!(
        decision(&advanced, &names(), None),
        "weight 5% -> 25%; not shown to be no worse: error-rate (about 800 canary requests short), latency-p95"
    );
}
