use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

/// A pod made at 100 s that is ready.
fn ready() -> PodNow {
    PodNow {
        name: "web-1-x".to_owned(),
        uid: "pod-1".to_owned(),
        set: "set-1".to_owned(),
        ip: None,
        created: at(100),
        ending: false,
        ready: true,
        was_ready: Some(at(105)),
        probed_down: false,
        restarts: 0,
        ended: None,
        oom: None,
        crash: None,
        image: None,
        unready: String::new(),
    }
}

fn crashed(restarts: u32) -> PodNow {
    PodNow { ready: false, restarts, crash: Some("container app: CrashLoopBackOff".to_owned()), was_ready: None, ..ready() }
}

/// Sees the pod again at this second, all being known until a second before.
fn see(life: &mut PodLife, now: PodNow, second: i64) -> bool {
    life.update(now, at(second) - SECOND, at(second))
}

fn unhealthy(text: &str) -> Unhealthy {
    let text = text.to_owned();
    Unhealthy { uid: "e".to_owned(), pod: "pod-1".to_owned(), count: 1, first: None, startup: text.starts_with("Startup"), text }
}

#[test]
fn a_crash_loop_holds_while_it_waits_and_restarts_are_increments() {
    let mut life = PodLife::new(ready(), at(110));
    assert_eq!(life.signs(at(100), at(110)), PodSigns::default());
    assert!(see(&mut life, crashed(1), 120));
    let waits = PodSigns { restarts: 1, crash_loops: 1, ..PodSigns::default() };
    assert_eq!(life.signs(at(100), at(130)), waits);
    assert_eq!(life.signs(at(100), at(119)), PodSigns::default(), "asked about a time before it");
    assert!(see(&mut life, PodNow { restarts: 1, ..ready() }, 140));
    assert_eq!(life.signs(at(100), at(150)), PodSigns { restarts: 1, ..PodSigns::default() }, "it runs again");
    assert_eq!(life.signs(at(125), at(150)).restarts, 0, "an increment counts once");
    assert!(!see(&mut life, PodNow { restarts: 1, ..ready() }, 141), "nothing is different");
}

#[test]
fn three_restarts_within_ten_minutes_are_a_crash_loop_without_a_wait() {
    let mut life = PodLife::new(ready(), at(110));
    for (n, second) in [(1, 200), (2, 500), (3, 799)] {
        see(&mut life, PodNow { restarts: n, ..ready() }, second);
    }
    assert_eq!(life.signs(at(100), at(799)).crash_loops, 1);
    assert_eq!(life.signs(at(100), at(800)).crash_loops, 0, "the first may be ten minutes old");
    assert_eq!(life.signs(at(300), at(799)).crash_loops, 0, "the first was before the rollout");
}

#[test]
fn restarts_told_after_a_long_silence_are_restarts_but_no_loop() {
    let mut life = PodLife::new(ready(), at(110));
    life.update(PodNow { restarts: 5, ..ready() }, at(120), at(4000));
    let signs = life.signs(at(100), at(4000));
    assert_eq!((signs.restarts, signs.crash_loops), (5, 0));
}

#[test]
fn the_past_of_a_pod_that_was_there_before_us_is_not_held_against_it() {
    let old = PodNow { restarts: 7, ended: Some(at(5000)), oom: Some(at(5000)), ..ready() };
    let life = PodLife::new(old, at(9000));
    assert_eq!(life.signs(at(8000), at(9000)), PodSigns::default());
    let since_its_end = life.signs(at(4900), at(9000));
    assert_eq!((since_its_end.restarts, since_its_end.oom_killed), (1, 1), "one of them is known to have been then");
    assert_eq!(life.signs(at(90), at(9000)).restarts, 7, "all came after the pod was made");
    let young = PodLife::new(PodNow { restarts: 4, ended: Some(at(300)), ..ready() }, at(310));
    assert_eq!(young.signs(at(90), at(310)).crash_loops, 1, "four within the 210 s of its life");
}

#[test]
fn the_end_for_want_of_memory_counts_when_it_happens() {
    let mut life = PodLife::new(ready(), at(110));
    // the node's clock is behind ours
    see(&mut life, PodNow { restarts: 1, ended: Some(at(90)), oom: Some(at(90)), ..ready() }, 200);
    assert_eq!(life.signs(at(100), at(300)).oom_killed, 1);
    assert_eq!(life.signs(at(250), at(300)).oom_killed, 0);
    see(&mut life, PodNow { restarts: 2, ended: Some(at(280)), oom: None, ..ready() }, 290);
    assert_eq!(life.signs(at(100), at(300)).oom_killed, 1, "another end later does not take it back");
}

#[test]
fn probes_fail_rightly_before_a_pod_was_ready_and_on_its_way_out() {
    let starting = PodNow { ready: false, was_ready: None, probed_down: true, ..ready() };
    let mut life = PodLife::new(starting, at(101));
    assert!(!life.probes_failed(&unhealthy("Readiness probe failed"), 1, at(102)));
    see(&mut life, ready(), 105);
    assert!(!life.probes_failed(&unhealthy("Startup probe failed"), 1, at(106)));
    assert!(life.probes_failed(&unhealthy("Liveness probe failed: 503"), 3, at(107)));
    assert_eq!(life.signs(at(100), at(110)), PodSigns { failed_probes: 3, ..PodSigns::default() });
    see(&mut life, PodNow { ending: true, ready: false, probed_down: true, ..ready() }, 108);
    assert!(!life.probes_failed(&unhealthy("Readiness probe failed"), 9, at(109)));
    assert_eq!(life.signs(at(100), at(110)).failed_probes, 3);
    assert!(!life.is_live() && !life.is_ready());
}

#[test]
fn a_pod_that_turns_unready_is_a_failed_probe_even_without_events() {
    let down = PodNow { ready: false, probed_down: true, ..ready() };
    let mut life = PodLife::new(ready(), at(110));
    for (now, second) in [(down.clone(), 120), (ready(), 130), (down.clone(), 140)] {
        see(&mut life, now, second);
    }
    assert_eq!(life.signs(at(100), at(150)).failed_probes, 2);
    assert!(life.probes_failed(&unhealthy("Readiness probe failed"), 6, at(145)));
    assert_eq!(life.signs(at(100), at(150)).failed_probes, 6, "the same failures, counted better");
    let mut restarted = PodLife::new(ready(), at(110));
    see(&mut restarted, PodNow { restarts: 1, ..down }, 120);
    assert_eq!(restarted.signs(at(100), at(150)).failed_probes, 0, "its container was restarted: that is told as such");
}

#[test]
fn what_goes_wrong_on_the_way_out_counts_nothing_and_a_state_stays_as_it_was() {
    let mut life = PodLife::new(ready(), at(110));
    see(&mut life, PodNow { ending: true, ..ready() }, 120);
    assert!(!see(&mut life, PodNow { ending: true, ..crashed(4) }, 121));
    life.gone = Some(at(130));
    assert_eq!(life.signs(at(100), at(200)), PodSigns::default());
    let mut looping = PodLife::new(crashed(2), at(110));
    see(&mut looping, PodNow { ending: true, ..crashed(2) }, 120);
    looping.gone = Some(at(130));
    assert_eq!(looping.signs(at(100), at(900)).crash_loops, 1, "as it was last seen");
    assert_eq!(looping.signs(at(140), at(900)), PodSigns::default(), "it was not there any more");
}

#[test]
fn an_image_that_comes_at_last_is_no_sign_any_more() {
    let waits = PodNow { ready: false, was_ready: None, image: Some("container app: ErrImagePull".to_owned()), ..ready() };
    let mut life = PodLife::new(waits.clone(), at(101));
    see(&mut life, PodNow { image: Some("container app: ImagePullBackOff".to_owned()), ..waits }, 110);
    assert_eq!(life.signs(at(100), at(120)).image_pulls, 1);
    see(&mut life, ready(), 130);
    assert_eq!(life.signs(at(100), at(140)).image_pulls, 0);
    assert_eq!(life.signs(at(100), at(120)).image_pulls, 1);
}

#[test]
fn a_log_is_bounded_and_loses_no_count() {
    let mut life = PodLife::new(ready(), at(110));
    for n in 1..=200 {
        see(&mut life, PodNow { restarts: n, ..ready() }, 110 + i64::from(n) * 1000);
    }
    assert_eq!(life.restarts.0.len(), LOG_MAX);
    assert_eq!(life.signs(at(100), at(1_000_000)).restarts, 200);
}
