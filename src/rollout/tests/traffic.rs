//! The router and the traffic: writes that fail, other hands, shares, requests that do not come back.

use super::check;

const STEPS: &str = "5% 15m, 25% 15m, 100% 30m";

#[test]
fn a_failed_write_holds_is_tried_again_and_sticks() {
    check(
        STEPS,
        "
        0s   begin            => set 5% #1
        1s   failed           => hold; progressing 0; holds router; wake 2s; no set; ~ connection refused
        2s   wake             => set 5% #2; no wake
        3s   failed           => wake 5s; progressing 0; no page
        5s   tick time        => set 5% #3
        6s   failed           => stuck; page; firing stuck; wake 10s; holds router; stands still
        10s  wake             => set 5% #4; stuck
        11s  failed           => stuck; no page
        12s  done #3          => stuck
        13s  resume           => resume; set 5% #5; stuck
        14s  done             => hold; progressing 0; counts; resolved stuck; ~ no longer stuck: it is progressing at 5%
        900s tick clear       => set 25% #6
        901s failed           => progressing 1; holds router
    ",
    );
}

/// A rolling update of many pods takes its time; one that stands still for ten minutes is a failure.
#[test]
fn what_is_on_its_way_is_no_failure_until_it_stands_still() {
    check(
        STEPS,
        "
        0s    begin            => set 5% #1
        7s    failed underway  => hold; progressing 0; holds shifting; wake 8s; no page; ~ the weight 5% is on its way: connection refused
        8s    wake             => set 5% #2; holds shifting
        300s  failed underway  => progressing 0; holds shifting; wake 301s; no page
        301s  wake             => set 5% #3
        590s  failed underway  => progressing 0; wake 591s
        591s  wake             => set 5% #4
        607s  failed underway  => holds router; wake 608s
        608s  wake             => set 5% #5
        609s  failed underway  => wake 610s
        610s  wake             => set 5% #6
        611s  failed underway  => stuck; page
        612s  wake             => set 5% #7
        613s  done             => progressing 0; resolved stuck
    ",
    );
}

/// A route that was deleted with its namespace takes no weight ever again.
#[test]
fn a_rollback_whose_route_is_gone_is_given_up_by_a_person_only() {
    check(
        STEPS,
        "
        0s   begin                     => set 5% #1
        1s   done                      => hold; progressing 0
        20s  break-glass-rollback gone => roll-back; set 0% #2; rolling-back
        20s  break-glass-rollback gone => refuse; rolling-back; ~ refused nothing
        21s  failed on-change          => rolling-back; holds router; ~ break-glass-rollback
        22s  rollback                  => hold; rolling-back
        23s  break-glass-rollback gone => finish; rolled-back; warning; no set; no wake; ~ never read back as 0%
        24s  rollback                  => refuse; rolled-back
    ",
    );
    check(
        STEPS,
        "
        0s   begin                     => set 5% #1
        1s   supersede v3              => set 0% #2
        2s   failed never              => stuck; page
        3s   break-glass-rollback gone => finish; superseded
    ",
    );
}

#[test]
fn errors_of_neither_version_hold_and_blame_nobody() {
    check(
        STEPS,
        "
        0s   begin                             => set 5% #1
        1s   done                              => holds time
        900s tick clear orphans=12             => hold; at 5%; holds unattributed errors; ~ 12 requests of the service failed; no page
        915s tick clear                        => set 25% #2
    ",
    );
}

#[test]
fn what_no_time_mends_pages_at_once_and_is_tried_all_the_same() {
    check(
        STEPS,
        "
        0s   begin
        1s   failed never     => stuck; page; wake 61s
        61s  wake             => set 5% #2
        62s  done             => progressing 0
    ",
    );
    check(
        STEPS,
        "
        0s   begin
        1s   failed on-change => holds router; wake 61s
        1s   traffic 0%         => hold; no set
        2s   traffic unreadable => holds router, router; no set
        20s  traffic 0%       => set 5% #2; holds router
        21s  traffic 0%       => hold; no set
        22s  done             => holds time
    ",
    );
}

#[test]
fn a_rollback_that_cannot_be_written_keeps_wanting_it() {
    check(
        STEPS,
        "
        0s   begin
        1s   done
        15s  tick time breach=gross => set 0% #2
        16s  failed                 => rolling-back; at 0%; wake 17s
        17s  wake                   => set 0% #3
        18s  failed
        20s  wake                   => set 0% #4
        21s  failed                 => stuck; page; at 0%; wake 25s; reasons 1
        25s  wake                   => set 0% #5
        26s  failed                 => stuck; wake 31s
        31s  tick clear             => set 0% #6; stuck; at 0%
        32s  resume                 => hold
        33s  promote                => refuse; ~ start it again with retry
        34s  done                   => rolling-back; holds drain; resolved stuck
        94s  wake                   => rolled-back
    ",
    );
}

#[test]
fn a_rollback_is_wanted_also_while_stuck() {
    check(
        STEPS,
        "
        0s   begin
        1s   failed never              => stuck
        2s   rollback                  => roll-back; rolling-back; set 0% #2
    ",
    );
    check(
        STEPS,
        "
        0s   begin
        1s   done
        900s tick clear
        901s failed never              => stuck; at 25%
        915s tick time breach=gross    => roll-back; at 0%; set 0% #3
    ",
    );
}

#[test]
fn another_hand_is_written_over_and_then_yielded_to() {
    check(
        STEPS,
        "
        0s   begin
        1s   done
        10s  traffic 5%               => hold; holds time
        20s  traffic 50% argocd       => reassert; set 5% #2; warning; ~ argocd moved the canary's weight to 50%, we want 5%
        21s  traffic 50% argocd       => hold; no set
        22s  done                     => holds time
        40s  traffic 50% argocd       => reassert; set 5% #3
        41s  done
        60s  traffic 50% argocd       => reassert; set 5% #4
        61s  done
        80s  traffic 50% argocd       => pause; paused; page; no set; holds paused, foreign weight, time
        95s  traffic 50% argocd       => hold; no page; no set
        96s  tick clear               => hold; at 5%; no set
        # nor when there would be room for another fight
        900s traffic 50% argocd       => hold; no set
        901s resume                   => resume; set 5% #5
        902s done                     => progressing 0
        903s traffic 5%               => hold
    ",
    );
    check(
        "5% 1h; undecided=1m:ask",
        "
        0s    begin
        1s    done
        20s   traffic 50%             => reassert; set 5% #2
        21s   done
        320s  traffic 50%             => reassert
        321s  done
        615s  traffic 50%             => reassert
        616s  done
        # ten minutes after the first, there is room for one more
        625s  traffic 50%             => reassert; set 5% #5
    ",
    );
}

#[test]
fn yielding_pauses_at_once_and_heals_when_the_hand_goes_away() {
    check(
        "5% 1m, 100% 1m; foreign=yield",
        "
        0s   begin
        1s   done
        20s  traffic 30% argocd       => pause; paused; warning; no set; holds paused, foreign weight, time
        40s  traffic 5%               => hold; holds paused, time
        41s  resume                   => resume; no set; progressing 0
        60s  tick clear               => advance 5% -> 100%
    ",
    );
}

#[test]
fn a_hand_on_a_rollback_is_always_written_over() {
    check(
        "5% 1m; foreign=yield",
        "
        0s   begin
        1s   done
        15s  tick time breach=gross
        16s  done                     => holds drain; wake 76s
        20s  traffic 5% argocd        => reassert; set 0% #3
        21s  done                     => wake 81s
        22s  traffic 5%               => reassert
        23s  done
        24s  traffic 5%               => reassert
        25s  done
        26s  traffic 5%               => reassert; page
        27s  done
        87s  wake                     => rolled-back
    ",
    );
}

#[test]
fn another_hand_at_the_end_is_not_taken_for_success() {
    check(
        "100% 1m; foreign=yield",
        "
        0s   begin
        1s   done
        15s  tick time
        20s  traffic 30% argocd       => pause
        21s  break-glass-promote      => promote; set 100% #2; no succeeded
        22s  done                     => finish; succeeded
    ",
    );
    check(
        "100% 1m; foreign=yield; external=1h",
        "
        0s   begin
        1s   done
        60s  tick clear
        61s  promote                  => set 0% #2
        62s  done                     => holds drain; wake 122s
        70s  traffic 100% argocd      => pause; paused; no wake
        122s wake                     => hold; paused
        130s resume                   => resume; set 0% #3
        131s done                     => wake 191s
        191s wake                     => finish; succeeded; at 0%
    ",
    );
}

#[test]
fn a_router_that_cannot_be_read_stops_steps_up_only() {
    check(
        STEPS,
        "
        0s   begin
        1s   done
        890s traffic unreadable       => hold; holds router, time; ~ the router cannot be read: timeout
        900s tick clear               => hold; at 5%; holds router
        905s traffic 5%               => hold
        915s tick clear               => advance 5% -> 25%
    ",
    );
}

#[test]
fn a_router_that_stays_unreadable_is_told() {
    check(
        STEPS,
        "
        0s   begin
        1s   done
        10s  traffic unreadable       => hold; no warning
        69s  traffic unreadable       => no warning
        70s  traffic unreadable       => warning; ~ cannot be read for 1 min
        85s  traffic unreadable       => no warning
        90s  traffic 5%
        91s  traffic unreadable
        151s traffic unreadable       => warning
    ",
    );
}

#[test]
fn traffic_that_does_not_follow_the_weight_holds_and_recovers() {
    check(
        STEPS,
        "
        0s   begin
        0s   done
        15s  x11 tick time n=990/10   => holds time; counts
        180s tick time n=990/10       => hold; holds traffic share, time; stands still; warning; ~ gets 1.0% of the requests instead of 5%
        195s x47 tick clear n=990/10  => hold; at 5%; no warning; stands still
        900s advance                  => refuse; ~ traffic does not follow
        901s x4 tick time n=950/50    => holds time; counts
        961s tick clear n=950/50      => advance 5% -> 25%
    ",
    );
}

#[test]
fn a_canary_with_weight_and_no_requests_is_no_pass() {
    check(
        "5% 1m, 100% 1m; undecided=5m:ask",
        "
        0s   begin
        1s   done
        15s  tick time n=100/0 requests=0           => hold; holds no requests, time
        60s  tick clear n=100/0 requests=0 counted=60s => hold; at 5%; holds no requests
        75s  advance                                => refuse; ~ gets no requests
        80s  tick clear n=100/5 counted=60s         => advance 5% -> 100%
        81s  done
        94s  tick time n=0/1                        => holds time
        95s  x2 tick time n=0/0                     => holds no requests, time; no page
        125s tick time n=0/0                        => holds no requests, time; page; baking 1
    ",
    );
    check(
        "5% 1m, 100% 1m; undecided=5m:ask",
        "
        0s   begin
        1s   done
        60s  tick clear n=100/0 requests=0 counted=60s => wake 360s
        360s wake                                   => pause; paused
    ",
    );
    // one poll without a request is no silence: five are expected in it
    check(
        "5% 1m, 100% 1m",
        "
        0s   begin
        1s   done
        15s  tick time n=95/5
        60s  tick clear n=95/0  => advance 5% -> 100%
    ",
    );
}

#[test]
fn a_quiet_service_pages_nobody_in_the_bake() {
    check(
        "50% 1m, 100% 10m",
        "
        0s   begin
        1s   done
        15s  tick time n=1/1
        30s  tick time n=0/0
        60s  tick clear n=1/0      => set 100% #2
        61s  done
        75s  x9 tick time n=0/0    => holds no requests, time; no page
        # ten requests should have come, and twenty
        210s x12 tick time n=0/0   => holds no requests, time
        390s tick time n=0/1       => holds time
    ",
    );
}

#[test]
fn one_poll_without_its_many_requests_is_no_pass() {
    check(
        STEPS,
        "
        0s   begin
        1s   done
        15s  x3 tick time
        900s tick clear n=950/0    => hold; at 5%; holds no requests
        915s tick clear            => advance 5% -> 25%
    ",
    );
}

#[test]
fn nobody_expects_traffic_to_follow_a_weight_that_is_only_observed() {
    check(
        "5% 15m; mode=observe",
        "
        0s   begin
        15s  x3 tick time
        60s  x20 tick time n=950/1 => hold; at 5%; holds time; counts
    ",
    );
}

#[test]
fn requests_vanish_only_at_a_step_that_was_served() {
    check(
        STEPS,
        "
        0s   begin
        1s   done
        15s  x3 tick time
        900s tick clear
        901s done
        915s x5 tick time n=750/5  => hold; at 25%
    ",
    );
}

#[test]
fn requests_that_do_not_come_back_roll_back() {
    check(
        STEPS,
        "
        0s   begin
        1s   done
        15s  x3 tick time
        60s  x2 tick time n=950/5     => hold; holds time
        90s  tick time n=950/5        => roll-back; set 0% #2; ~ under a quarter of those sent are served
    ",
    );
    // a blind poll neither counts nor breaks the row
    check(
        STEPS,
        "
        0s   begin
        1s   done
        15s  x3 tick time
        60s  x2 tick time n=950/5
        90s  x3 tick time,blind n=-   => hold
        135s tick time n=950/5        => roll-back
    ",
    );
    // never followed, or too few expected, or broken by a poll that was served, or the weight does not read back
    check(
        STEPS,
        "
        0s   begin
        1s   done
        15s  x9 tick time n=950/5     => hold; at 5%
    ",
    );
    check(
        STEPS,
        "
        0s   begin
        1s   done
        15s  x3 tick time
        60s  x9 tick time n=300/1     => hold; at 5%
    ",
    );
    check(
        STEPS,
        "
        0s   begin
        1s   done
        15s  x3 tick time
        60s  x2 tick time n=950/5
        90s  tick time
        105s x2 tick time n=950/5     => hold; at 5%
    ",
    );
    check(
        STEPS,
        "
        0s   begin
        1s   done
        15s  x3 tick time
        60s  x2 tick time n=950/5
        80s  traffic unreadable
        90s  x3 tick time n=950/5     => hold; at 5%; holds router, time
        130s traffic 5%
        135s x2 tick time n=950/5     => hold; at 5%
        151s traffic 0% argocd        => reassert; set 5% #2
        152s done
        165s x2 tick time n=950/5     => hold; at 5%
        195s tick time n=950/5     => roll-back
    ",
    );
}

#[test]
fn a_silent_canary_is_the_canary_and_not_the_monitoring() {
    check(
        STEPS,
        "
        0s   begin
        1s   done
        15s  x2 tick time,blind n=- missing=canary:silent => hold; at 5%
        45s  tick time,blind n=- missing=canary:silent    => roll-back; at 0%; ~ every process of it is silent
    ",
    );
    check(
        STEPS,
        "
        0s   begin
        1s   done
        15s  x9 tick time,blind n=- missing=both:silent   => hold; at 5%
    ",
    );
    // also while the next weight cannot be written
    check(
        STEPS,
        "
        0s   begin
        1s   done
        900s tick clear
        901s failed never
        915s x3 tick time,blind n=- missing=canary:silent => roll-back; at 0%
    ",
    );
}

#[test]
fn vanished_requests_can_be_held_and_page_in_the_bake() {
    check(
        "5% 15m; vanished=hold",
        "
        0s   begin
        1s   done
        15s  x3 tick time,blind n=- missing=canary:silent => hold; page; holds vanished requests, blind, time; at 5%
        60s  tick time,blind n=- missing=canary:silent    => no page
        75s  tick time                                    => hold; holds time
    ",
    );
    check(
        "5% 15m; vanished=hold",
        "
        0s   begin
        1s   done
        15s  tick time breach=abandoned => hold; page; holds vanished requests, time; at 5%
        30s  advance                    => refuse; ~ leave before an answer
        45s  tick time breach=gross     => roll-back
    ",
    );
    check(
        "5% 15m; vanished=ask",
        "
        0s   begin
        1s   done
        15s  tick time breach=abandoned => pause; paused; page
    ",
    );
    check(
        "100% 15m",
        "
        0s   begin
        1s   done
        15s  x3 tick time,blind n=- missing=canary:silent => hold; page; baking 0; at 100%; holds vanished requests, blind, time
        60s  tick time breach=abandoned                   => roll-back
    ",
    );
}

/// In a rolling update traffic follows the ready pods, whatever the step asks for; while nobody knows them, nothing is expected of it.
#[test]
fn the_share_of_a_rolling_update_is_that_of_its_ready_pods() {
    let begins = "0s begin noted=4/4 => set 5% #1\n 1s cluster 4/4 0/0 => hold\n 2s done => progressing 0";
    let steps = "5% 15m, 25% 15m; workloads=led; promotion=leave";
    check(
        steps,
        &format!(
            "{begins}
        3s   cluster 3/3 1/1              => hold; no set
        15s  x20 tick time n=750/250      => hold; holds time; no warning
        330s x13 tick time n=900/100      => holds traffic share, time; ~ gets 10.0% of the requests instead of 25%; ~ does not follow the ready pods
        530s cluster 2/2 2/2              => hold
        531s tick time n=500/500          => holds time
    "
        ),
    );
    check(steps, &format!("{begins}\n 3s cluster away => hold\n 15s x20 tick time n=0/1000 => no page; progressing 0; holds time"));
}

/// It makes the pods it needs itself: nothing waits for them before a step.
#[test]
fn a_rolling_update_waits_for_no_replicas_before_it_has_any() {
    check(
        "50% 15m, 100% 15m; workloads=led; promotion=leave",
        "
        0s   begin noted=4/4              => set 50% #1
        1s   cluster 4/4 0/1              => hold; no set
        2s   failed underway              => holds shifting; no page
    ",
    );
}
