use super::{POLL_BEGINS, decode, decode_kept, decode_state, encode, encode_kept, encode_state};
use crate::model::journal::{Event, Kept, KeptOf, KeptScale, KeptSeries, Opened};
use crate::model::sample::{Buckets, LoadHistory, Reading};
use crate::model::*;
use arrayvec::ArrayVec;
use proptest::option::of;
use proptest::prelude::*;
use std::time::Duration;

/// Every float there is, whole counts and the awkward ones more often than by chance.
fn number() -> impl Strategy<Value = f64> {
    let awkward = [0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, 5e-324, 9_007_199_254_740_993.0, 0.1, 1e300];
    prop_oneof![any::<f64>(), (0u32..1_000_000).prop_map(f64::from), proptest::sample::select(awkward.to_vec())]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), any::<String>()]
}

fn duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        any::<u32>().prop_map(|ms| Duration::from_millis(ms.into())),
        (any::<u64>(), 0u32..1_000_000_000).prop_map(|(s, n)| Duration::new(s, n))
    ]
}

fn at() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_millis)
}

fn weight() -> impl Strategy<Value = Weight> {
    (0u16..=1000).prop_map(|p| Weight::from_permille(p).unwrap())
}

fn blind() -> impl Strategy<Value = Blind> {
    proptest::sample::select(Blind::ALL.to_vec())
}

fn reading<T: Clone + std::fmt::Debug>(value: impl Strategy<Value = T>) -> impl Strategy<Value = Reading<T>> {
    prop_oneof![value.prop_map(Ok), blind().prop_map(Err)]
}

fn counts() -> impl Strategy<Value = Counts> {
    (number(), number()).prop_map(|(total, bad)| Counts { total, bad })
}

fn buckets() -> impl Strategy<Value = Buckets> {
    let free = proptest::collection::vec(number(), 0..=BOUNDS_MAX + 1).prop_map(|v| v.into_iter().collect());
    let flat = (0usize..=BOUNDS_MAX + 1, 0usize..8).prop_map(|(len, from)| (0..len).map(|i| i.min(from) as f64).collect());
    prop_oneof![free, flat]
}

fn arms<T: Clone + std::fmt::Debug>(one: impl Strategy<Value = T> + Clone) -> impl Strategy<Value = PerArm<T>> {
    (one.clone(), one).prop_map(|(baseline, canary)| PerArm { baseline, canary })
}

fn customs<T: Clone + std::fmt::Debug>(one: impl Strategy<Value = Reading<T>>) -> impl Strategy<Value = ArrayVec<Reading<T>, CUSTOM_MAX>> {
    proptest::collection::vec(one, 0..=CUSTOM_MAX).prop_map(|v| v.into_iter().collect())
}

fn arm() -> impl Strategy<Value = ArmSample> {
    let levels = (reading(number()), reading(number()), reading(number()), reading(number()));
    let customs = (customs(reading(counts())), customs(reading(number())));
    (reading(counts()), reading(buckets()), levels, of(any::<u32>()), customs).prop_map(
        |(requests, buckets, (abandoned, cpu, memory, floor), pods, (custom_counts, custom_gauges))| ArmSample {
            requests,
            abandoned,
            buckets,
            cpu,
            memory,
            floor,
            pods,
            custom_counts,
            custom_gauges,
        },
    )
}

fn poll() -> impl Strategy<Value = Poll> {
    let kinds = vec![LimitKind::PromoteBelow, LimitKind::WarnAbove, LimitKind::RollbackAbove, LimitKind::PageAbove];
    let change = (any::<u8>(), proptest::sample::select(kinds), number());
    let changes = list(change.prop_map(|(metric, kind, level)| LimitChange { metric, kind, level }));
    (at(), any::<u32>(), any::<bool>(), arms(arm().boxed()), changes).prop_map(|(at, step, counts_time, arms, changes)| Poll {
        at,
        step,
        counts_time,
        arms,
        changes,
    })
}

fn list<T: std::fmt::Debug>(one: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T>> {
    proptest::collection::vec(one, 0..4)
}

fn history() -> impl Strategy<Value = History> {
    let load = (list(number()), list(number())).prop_map(|(rate, cpu)| LoadHistory { rate, cpu });
    let gauges = (list(of(number())), list(of(number())), list(of(number())));
    let custom = (list(list(of(counts()))), list(list(of(number()))));
    (list(of(counts())), list(of(buckets())), gauges, of(load), custom).prop_map(
        |(requests, buckets, (cpu, memory, leak), load, (custom_counts, custom_gauges))| History {
            requests,
            buckets,
            cpu,
            memory,
            leak,
            load,
            custom_counts,
            custom_gauges,
        },
    )
}

fn begin() -> impl Strategy<Value = Begin> {
    let side = prop_oneof![Just(Side::First), Just(Side::Second)];
    (side, text(), text(), weight(), any::<bool>(), any::<bool>(), any::<u64>(), prop::option::of(noted())).prop_map(
        |(canary, version, by, weight, first, retry, generation, noted)| Begin {
            canary,
            version,
            by,
            weight,
            first,
            retry,
            generation,
            noted,
        },
    )
}

fn noted() -> impl Strategy<Value = Noted> {
    let floors = (prop::option::of(any::<u32>()), prop::option::of(any::<u32>()));
    (any::<(u32, u32)>(), floors, prop::option::of(text()), text(), resources(), list(text())).prop_map(
        |((baseline_ready, canary_wanted), (baseline_floor, canary_floor), template_before, template, resources, warnings)| Noted {
            baseline_ready,
            canary_wanted,
            baseline_floor,
            canary_floor,
            template_before,
            template,
            resources,
            warnings,
        },
    )
}

fn resources() -> impl Strategy<Value = Resources> {
    any::<[Option<u64>; 4]>().prop_map(|[cpu_request, cpu_limit, memory_request, memory_limit]| Resources {
        cpu_request,
        cpu_limit,
        memory_request,
        memory_limit,
    })
}

fn seen() -> impl Strategy<Value = WorkloadSeen> {
    (any::<[u32; 8]>(), text()).prop_map(
        |([wanted, pods, ready, restarts, failed_probes, crash_loops, image_pulls, oom_killed], trouble)| {
            let signs = PodSigns { restarts, failed_probes, crash_loops, image_pulls, oom_killed, never_ready: restarts % 2 };
            WorkloadSeen { wanted, pods, ready, signs, trouble }
        },
    )
}

fn workload_action() -> impl Strategy<Value = WorkloadAction> {
    let plain = [
        WorkloadAction::Copy,
        WorkloadAction::Undo,
        WorkloadAction::ScaleCanaryDown,
        WorkloadAction::RestoreBaseline,
        WorkloadAction::HoldBaseline,
        WorkloadAction::ReleaseScalers,
    ];
    prop_oneof![
        prop::sample::select(plain.to_vec()),
        any::<u32>().prop_map(|replicas| WorkloadAction::ScaleCanary { replicas }),
        (any::<u32>(), duration()).prop_map(|(replicas, after)| WorkloadAction::IdleBaseline { replicas, after }),
    ]
}

fn opened() -> impl Strategy<Value = Opened> {
    let texts = (text(), text(), text(), text());
    let kept = proptest::option::of(kept());
    (texts, duration(), list(number()), number(), any::<u32>(), history(), begin(), kept).prop_map(
        |((id, rule, rule_text, file), interval, bounds_ms, scale, incarnation, history, begin, kept)| Opened {
            id: RolloutId(id),
            rule,
            rule_text,
            attached: std::collections::BTreeMap::from([("holidays.txt".to_owned(), "2026-12-25".to_owned())]),
            file,
            interval,
            bounds_ms,
            scale,
            incarnation,
            history,
            begin,
            kept,
        },
    )
}

fn kept() -> impl Strategy<Value = Kept> {
    let of = prop_oneof![Just(KeptOf::Requests), text().prop_map(KeptOf::Custom), number().prop_map(KeptOf::Tail)];
    let scale = (any::<u64>(), number(), number()).prop_map(|(polls, num, den)| KeptScale { polls, num, den });
    let series = (of, list(scale)).prop_map(|(of, scales)| KeptSeries { of, scales });
    (any::<i32>(), duration(), number(), list(series)).prop_map(|(since, interval, scale, series)| Kept {
        since: Timestamp::from_millis(i64::from(since)),
        interval,
        scale,
        series,
    })
}

fn input() -> impl Strategy<Value = Input> {
    let verb = prop_oneof![
        Just(Verb::Pause),
        Just(Verb::Resume),
        Just(Verb::Advance),
        Just(Verb::Promote),
        Just(Verb::RollBack),
        text().prop_map(|role| Verb::Approve { role }),
        Just(Verb::BreakGlassPromote),
        Just(Verb::BreakGlassFreeze),
        Just(Verb::BreakGlassRollBack),
    ];
    let command = (verb, text(), text()).prop_map(|(verb, by, why)| Command { verb, by, why });
    let read = (weight(), of(any::<u64>()), of(text()), stands())
        .prop_map(|(weight, generation, writer, stands)| TrafficReading { stands, ..TrafficReading::new(weight, generation, writer) });
    let retry = prop_oneof![duration().prop_map(Retry::After), Just(Retry::Underway), Just(Retry::OnChange), Just(Retry::Never)];
    let outcome = prop_oneof![Just(Outcome::Done), (text(), retry).prop_map(|(text, retry)| Outcome::Failed { text, retry })];
    prop_oneof![
        begin().prop_map(Input::Begin),
        command.prop_map(Input::Command),
        read.prop_map(|r| Input::Traffic(Ok(r))),
        text().prop_map(|why| Input::Traffic(Err(why))),
        (any::<u64>(), outcome).prop_map(|(generation, outcome)| Input::Effect { generation, outcome }),
        Just(Input::Wake),
        text().prop_map(|version| Input::Supersede { version }),
        (hook_point(), any::<u32>(), hook_answer()).prop_map(|(hook, attempt, answer)| Input::Hook { hook, attempt, answer }),
        list(alert()).prop_map(Input::Alerts),
        any::<u64>().prop_map(|number| Input::Workload { number, outcome: Outcome::Done }),
        (seen(), seen()).prop_map(|(baseline, canary)| Input::Workloads(Ok(PerArm { baseline, canary }))),
        text().prop_map(|why| Input::Workloads(Err(why))),
    ]
}

fn state() -> impl Strategy<Value = State> {
    let waiting = prop_oneof![
        Just(Waiting::Router),
        at().prop_map(|opens| Waiting::Window { opens }),
        list(text()).prop_map(|roles| Waiting::Approval { roles }),
        text().prop_map(|name| Waiting::Hook { name }),
        Just(Waiting::Pods),
    ];
    let promoting = [Promoting::Copying, Promoting::WaitingReady, Promoting::ShiftingBack, Promoting::External, Promoting::Settling];
    prop_oneof![
        waiting.prop_map(State::Waiting),
        any::<u32>().prop_map(|step| State::Progressing { step }),
        any::<u32>().prop_map(|step| State::Baking { step }),
        proptest::sample::select(promoting.to_vec()).prop_map(State::Promoting),
        proptest::sample::select(vec![State::Succeeded, State::RollingBack, State::RolledBack, State::Superseded]),
        (text(), text(), at()).prop_map(|(by, why, since)| State::Paused(Paused { by, why, since })),
        (text(), any::<u32>(), at()).prop_map(|(why, tries, since)| State::Stuck(Stuck { why, tries, since })),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let unproven = (any::<u8>(), of(any::<u64>())).prop_map(|(metric, requests)| Unproven { metric, requests });
    let plain = [Action::Hold, Action::Promote, Action::RollBack, Action::Pause, Action::Resume, Action::Reassert, Action::Finish];
    prop_oneof![
        proptest::sample::select(plain.to_vec()),
        (weight(), weight(), list(unproven)).prop_map(|(from, to, unproven)| Action::Advance { from, to, unproven }),
        text().prop_map(Action::Refuse),
    ]
}

fn hook_point() -> impl Strategy<Value = HookPoint> {
    use HookPoint::*;
    proptest::sample::select(vec![BeforeStart, BeforeStep, BeforePromotion, AfterPromotion, AfterRollback])
}

fn hook_answer() -> impl Strategy<Value = HookAnswer> {
    prop_oneof![Just(HookAnswer::Passed), (text(), any::<bool>()).prop_map(|(text, again)| HookAnswer::Failed { text, again })]
}

fn which_arm() -> impl Strategy<Value = Arm> {
    proptest::sample::select(vec![Arm::Baseline, Arm::Canary])
}

fn alert() -> impl Strategy<Value = Alert> {
    let severity = proptest::sample::select(vec![Severity::Info, Severity::Warning, Severity::Critical]);
    (text(), text(), any::<bool>(), severity, of(which_arm()), at(), text()).prop_map(
        |(fingerprint, name, firing, severity, names, since, text)| Alert { fingerprint, name, firing, severity, names, since, text },
    )
}

fn notice() -> impl Strategy<Value = Notice> {
    let level = proptest::sample::select(vec![Level::Info, Level::Warning, Level::Page]);
    let phase = proptest::sample::select(vec![Phase::Event, Phase::Firing, Phase::Resolved]);
    let topics = vec![Topic::Progress, Topic::RolledBack, Topic::Paused, Topic::Stuck, Topic::Breach, Topic::Shared, Topic::Foreign];
    let limit = (text(), text(), which_arm()).prop_map(|(metric, limit, arm)| Topic::Limit { metric, limit, arm });
    let topic = prop_oneof![proptest::sample::select(topics), limit];
    (level, topic, phase, text()).prop_map(|(level, topic, phase, text)| Notice { level, topic, phase, text })
}

fn reason() -> impl Strategy<Value = Reason> {
    let breach = prop_oneof![
        any::<u8>().prop_map(Breach::Metric),
        any::<u8>().prop_map(Breach::Limit),
        (any::<u8>(), any::<bool>()).prop_map(|(metric, derived)| Breach::Bake { metric, derived }),
        Just(Breach::Gross),
        Just(Breach::Abandoned),
    ];
    let vanished = proptest::sample::select(vec![Vanished::Abandoned, Vanished::Unserved, Vanished::Silent]);
    prop_oneof![
        (breach, any::<bool>()).prop_map(|(breach, during_shared)| Reason::Breach { breach, during_shared }),
        vanished.prop_map(Reason::Vanished),
        (text(), text()).prop_map(|(by, why)| Reason::Person { by, why }),
        (text(), duration()).prop_map(|(which, after)| Reason::Policy { which, after }),
        text().prop_map(|version| Reason::Superseded { version }),
        text().prop_map(|text| Reason::Pods { sign: PodSign::OomKilled, text }),
        text().prop_map(|text| Reason::Pods { sign: PodSign::NeverReady, text }),
    ]
}

fn hold() -> impl Strategy<Value = Hold> {
    use HoldWhy as W;
    let mut whys = vec![W::Shifting, W::TrafficShare, W::NoRequests, W::Orphans, W::Vanished, W::Foreign, W::Paused, W::Router, W::Window];
    whys.extend([W::Approval, W::Hook, W::Alert, W::Capacity, W::Pods, W::Drain, W::Promotion, W::Frozen]);
    let keeps = [Keep::Blind, Keep::Shared, Keep::Suspicious, Keep::Limit, Keep::Harm, Keep::FewRequests, Keep::Time];
    whys.extend(keeps.into_iter().chain([Keep::NotProven, Keep::PromoteBelow]).map(W::Judge));
    (proptest::sample::select(whys), text(), text(), of(at())).prop_map(|(why, text, ends, until)| Hold { why, text, ends, until })
}

fn stands() -> impl Strategy<Value = Stands> {
    prop_oneof![Just(Stands::Still), text().prop_map(Stands::Underway), Just(Stands::LetGo)]
}

fn effect() -> impl Strategy<Value = Effect> {
    prop_oneof![
        (weight(), any::<u64>()).prop_map(|(weight, generation)| Effect::SetWeight { weight, generation }),
        notice().prop_map(Effect::Notify),
        (hook_point(), any::<u32>()).prop_map(|(hook, attempt)| Effect::CallHook { hook, attempt }),
        (workload_action(), any::<u64>()).prop_map(|(action, number)| Effect::Workload { action, number }),
        Just(Effect::HoldStill),
    ]
}

fn decision() -> impl Strategy<Value = Decision> {
    let lists = (list(reason()), list(hold()), list(effect()));
    let place = (any::<u64>(), any::<u32>(), any::<bool>());
    (at(), action(), state(), weight(), place, lists, of(at())).prop_map(
        |(at, action, state, weight, (generation, step, counts_time), (reasons, holds, effects), wake_at)| Decision {
            at,
            action,
            state,
            weight,
            generation,
            step,
            counts_time,
            reasons,
            holds,
            effects,
            wake_at,
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    let missing = arms(of(blind()).boxed());
    prop_oneof![
        opened().prop_map(|o| Event::Opened(Box::new(o))),
        (poll(), missing, text(), counts()).prop_map(|(poll, missing, detail, Counts { total: orphans, .. })| Event::Poll {
            poll: Box::new(poll),
            missing,
            detail,
            orphans
        }),
        input().prop_map(|i| Event::Input(Box::new(i))),
        decision().prop_map(|d| Event::Decided(Box::new(d))),
        text().prop_map(Event::Gap),
        (any::<u32>(), text()).prop_map(|(incarnation, why)| Event::Restarted { incarnation, why }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    // `Debug` writes the shortest text that gives a float back, the sign of zero, and NaN: the same text is the same bits
    #[test]
    fn every_event_comes_back_bit_for_bit(event in event()) {
        let line = encode(&event).unwrap();
        let back = decode(&line).unwrap();
        prop_assert_eq!(format!("{back:?}"), format!("{event:?}"), "{}", line);
        prop_assert_eq!(encode(&back).unwrap(), line.clone());
        prop_assert_eq!(line.starts_with(POLL_BEGINS), matches!(event, Event::Poll { .. }), "retention finds polls by this");
    }

    #[test]
    fn kept_dispersion_comes_back_bit_for_bit(kept in kept()) {
        let back = decode_kept(&encode_kept(&kept).unwrap()).unwrap();
        prop_assert_eq!(format!("{back:?}"), format!("{kept:?}"));
    }

    #[test]
    fn every_state_comes_back(state in state()) {
        prop_assert_eq!(decode_state(&encode_state(&state).unwrap()).unwrap(), state);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in any::<String>(), cut in any::<prop::sample::Index>(), event in event()) {
        let _ = decode(&text);
        let line = encode(&event).unwrap();
        let at = (0..line.len()).filter(|i| line.is_char_boundary(*i)).nth(cut.index(line.chars().count())).unwrap_or(0);
        prop_assert!(decode(&line[..at]).is_err());
    }
}

#[test]
fn a_line_reads_like_this() {
    let mut poll = Poll::blind(Timestamp::from_millis(15_000), 1, Blind::NotAsked);
    poll.arms.canary = ArmSample { buckets: Ok([3.0, 7.0, 7.0, 7.0].into_iter().collect()), ..ArmSample::counts(120.0, 0.5) };
    poll.arms.baseline.cpu = Ok(f64::NAN);
    let missing = PerArm { baseline: Some(Blind::NotAsked), canary: None };
    let line = encode(&Event::Poll { poll: Box::new(poll), missing, detail: String::new(), orphans: 0.0 }).unwrap();
    let rest = r#""memory":"not-asked","floor":"not-asked","pods":null,"custom-counts":[],"custom-gauges":[]}"#;
    let expected = [
        r#"{"v":1,"event":{"poll":{"poll":{"at":15000,"step":1,"counts-time":true,"arms":{"#,
        r#""baseline":{"requests":"not-asked","abandoned":"not-asked","buckets":"not-asked","cpu":"nan","#,
        rest,
        r#","canary":{"requests":[120,0.5],"abandoned":"not-asked","buckets":[4,3,7],"cpu":"not-asked","#,
        rest,
        r#"}},"missing":{"baseline":"not-asked","canary":null},"detail":""}}}"#,
    ];
    assert_eq!(line, expected.concat());
}

#[test]
fn what_is_no_line_is_refused_with_its_reason() {
    let cases = [
        (r#"{"v":2,"event":"later"}"#, "written in format 2"),
        (r#"{"event":{"input":"wake"}}"#, "missing field `v`"),
        (r#"{"v":1,"event":{"input":{"supersede":{}}}}"#, "missing field `version`"),
        (r#"{"v":1,"event":{"input":{"command":{"verb":"dance","by":"","why":""}}}}"#, "unknown variant `dance`"),
        (r#"{"v":1,"event":{"input":{"traffic":{"read":{"weight":1001,"generation":null,"writer":null}}}}}"#, "exceeds 1000 permille"),
    ];
    for (text, why) in cases {
        let error = decode(text).unwrap_err();
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn more_buckets_than_fit_are_refused() {
    let mut poll = Poll::blind(Timestamp::from_millis(0), 0, Blind::NoSeries);
    poll.arms.canary.buckets = Ok([5.0].into_iter().collect());
    let line = encode(&Event::Poll { poll: Box::new(poll), missing: PerArm::default(), detail: String::new(), orphans: 0.0 }).unwrap();
    for wrong in ["[42,5]", "[1e9,5]", "[0,5]", "[2]", "[]", "[1.5,5]", "[-1,5]", "[\"nan\",5]"] {
        assert!(decode(&line.replace("[1,5]", wrong)).is_err(), "{wrong}");
    }
    assert!(decode(&line.replace("[1,5]", "[41,5]")).is_ok());
}

#[test]
fn a_judged_tick_is_no_line() {
    let tick =
        Tick { judgement: Judgement::empty(Timestamp::from_millis(0), 0), missing: PerArm::default(), detail: String::new(), orphans: 0.0 };
    assert!(encode(&Event::Input(Box::new(Input::Tick(Box::new(tick))))).is_err());
}
