//! What stands before the first weight, and what stops steps up: approvals, windows, freezes, hooks. Scripts begin on Thursday
//! at midnight UTC, started by ana.

use super::check;

const TWO: &str = "5% 30m, 100% 30m; approvals=manager,product";

#[test]
fn each_role_approves_by_another_person_and_not_by_the_starter() {
    check(
        TWO,
        "
        0s   begin                       => hold; waiting; waiting approval manager,product; at 0%; no set; holds approval; info; firing gate
        1s   wake                        => no firing gate; ~ anybody with the role but ana, who started it
        2s   approve manager             => refuse; ~ ana started it and cannot approve it as manager
        3s   ben: approve security       => refuse; ~ the rule asks for manager, product
        4s   ben: approve manager fine   => hold; waiting approval product; no set; event gate; ~ approved as manager by ben: fine; wake 86404s
        5s   ben: approve product        => refuse; ~ ben has approved as manager
        6s   cyd: approve manager        => hold; no event gate
        7s   advance                     => refuse; ~ approval is missing: product (given: manager by ben)
        8s   promote                     => refuse; ~ break-glass-promote passes it by
        9s   cyd: approve product        => advance 0% -> 5%; progressing 0; set 5% #1; resolved gate
        10s  dan: approve product        => refuse; ~ nothing to approve
    ",
    );
}

#[test]
fn an_approval_counts_for_a_day() {
    check(
        TWO,
        "
        0h   begin
        1h   ben: approve manager        => waiting approval product; wake 90000s
        25h  wake                        => waiting approval manager,product; no wake
        26h  cyd: approve product        => waiting approval manager
        27h  dan: approve manager        => advance 0% -> 5%
    ",
    );
    // one that runs out while the window is awaited is missing again
    check(
        "5% 30m; approvals=manager; allow=Fri 20:00-22:00",
        "
        0h   begin                       => waiting approval manager
        1h   ben: approve manager        => waiting window 158400s; wake 90000s
        25h  wake                        => waiting approval manager
        44h  wake                        => waiting approval manager
        45h  ben: approve manager        => advance 0% -> 5%
    ",
    );
}

#[test]
fn a_person_may_end_it_or_break_the_glass_at_any_gate() {
    for rule in [TWO, "5% 30m; allow=Fri", "5% 30m; hook=before-start:10m:hold"] {
        check(
            rule,
            "
            0s   begin                   => waiting
            1s   rollback                => roll-back; rolling-back; at 0%; event rolled-back; no firing rolled-back
            2s   done
            62s  wake                    => finish; rolled-back
        ",
        );
        check(
            rule,
            "
            0s   begin                   => waiting
            1s   break-glass-promote now => promote; set 100% #1; warning; ~ promoted without evidence (break-glass) from 0% by ana: now
            2s   done                    => finish; succeeded
        ",
        );
        check(
            rule,
            "
            0s   begin
            1s   supersede v3            => roll-back
            2s   done                    => finish; superseded
        ",
        );
        check(
            rule,
            "
            0s   begin
            1s   pause                   => pause; paused
            2s   ben: approve manager    => paused
            3s   resume                  => resume; waiting
        ",
        );
    }
}

#[test]
fn it_starts_inside_a_window_with_room_for_all_steps() {
    check(
        "5% 30m, 25% 30m, 100% 1h; allow=Thu 18:00-20:00",
        "
        17h     begin                    => waiting window 64800s; wake 64800s; holds window; ~ outside of Thu 18:00-20:00; ~ Thu 1970-01-01 18:00 +0000
        64799s  wake                     => waiting window 64800s; no set
        18h     wake                     => advance 0% -> 5%; set 5% #1; resolved gate
    ",
    );
    check(
        "5% 30m, 100% 1h; allow=Thu 18:00-20:00; deny=Thu 18:00-18:30",
        "
        64801s  begin                    => waiting window 66600s; ~ denied by Thu 18:00-18:30
        66600s  wake                     => advance 0% -> 5%
    ",
    );
    check(
        "5% 30m, 25% 30m, 100% 1h; allow=Thu 18:00-20:00",
        "
        65000s  begin                    => waiting window 669600s; ~ closes Thu 1970-01-01 20:00 +0000, and the steps take 2 h
    ",
    );
    check(
        "5% 90m, 100% 1h; allow=Thu 18:00-20:00",
        "
        0s      begin                    => waiting; no wake; ~ no window of the next 400 days has room for all steps
    ",
    );
}

/// By the wall clock of the rule's zone: an hour less in spring, one more in autumn, and Friday is where the rule lives.
#[test]
fn windows_follow_the_wall_clock_through_daylight_saving() {
    let berlin = "zone=Europe/Berlin; allow=Sun 01:00-04:00";
    // 29 March 2026: 02:00 becomes 03:00, and three hours on the clock are two
    check(
        &format!("5% 90m, 100% 30m; {berlin}; begins=2026-03-28T23:00:00Z"),
        "
        0s      begin                    => waiting window 3600s; ~ Sun 2026-03-29 01:00 +0100
        3600s   wake                     => advance 0% -> 5%
    ",
    );
    check(
        &format!("5% 90m, 100% 1h; {berlin}; begins=2026-03-28T23:00:00Z"),
        "
        0s      begin                    => waiting window 604800s; ~ Sun 2026-04-05 01:00 +0200
    ",
    );
    // 25 October 2026: 03:00 becomes 02:00, and they are four
    check(
        &format!("5% 3h, 100% 1h; {berlin}; begins=2026-10-24T22:30:00Z; at-end=roll-back"),
        "
        0s      begin                    => waiting window 1800s
        1800s   wake                     => advance 0% -> 5%; wake 16200s
        1801s   done
        16199s  tick time                => at 5%
        16200s  wake                     => roll-back
    ",
    );
    // Friday 20 November 2026 in Los Angeles begins at 08:00 UTC
    check(
        "5% 30m, 100% 30m; zone=America/Los_Angeles; deny=Fri; begins=2026-11-20T07:40:00Z",
        "
        0s      begin                    => advance 0% -> 5%
        1s      done
        1199s   tick time                => holds time
        1200s   tick time                => holds window, time; ~ denied by Fri
        1800s   tick clear counted=30m   => hold; at 5%
        87599s  tick clear counted=30m   => hold; at 5%
        87600s  tick clear counted=30m   => advance 5% -> 100%
    ",
    );
}

#[test]
fn a_freeze_stops_steps_up_and_never_a_rollback() {
    check(
        "5% 30m, 25% 30m, 100% 1h; deny=Thu 00:20-02:00; undecided=10m:roll-back; blind=10m:roll-back",
        "
        0s      begin                    => advance 0% -> 5%
        1s      done
        1200s   tick time                => holds window, time; info; firing gate; ~ no step up from 5% now, it is denied by Thu 00:20-02:00; counts
        1800s x20 tick clear counted=30m => hold; at 5%; holds window; no wake; no warning
        2200s   advance                  => refuse; ~ it is denied by Thu 00:20-02:00; ~ or break-glass-promote
        2201s   promote                  => refuse; ~ it is denied by
        7199s   tick clear counted=30m   => at 5%; progressing 0
        7200s   tick clear counted=30m   => advance 5% -> 25%; resolved gate
    ",
    );
    check(
        "5% 30m, 100% 1h; deny=Thu 00:20-02:00",
        "
        0s      begin
        1s      done
        1200s   tick time
        1215s   tick time breach=gross   => roll-back; rolling-back; set 0% #2
        1216s   done
        1276s   wake                     => rolled-back
    ",
    );
    check(
        "5% 30m, 100% 1h; deny=Thu 00:20-02:00",
        "
        0s      begin
        1s      done
        1215s   tick time
        1216s   break-glass-promote      => promote; set 100% #2
    ",
    );
    // in the bake there is no step up left to stop
    check(
        "100% 30m; deny=Thu 00:20-02:00",
        "
        0s      begin
        1s      done
        1800s   tick clear               => promote; succeeded
    ",
    );
}

#[test]
fn the_end_of_a_window_finishes_holds_or_rolls_back() {
    // it lasted longer than its steps: somebody paused it
    let late = "
        0s      begin                    => advance 0% -> 5%
        1s      done
        60s     pause
        3540s   resume
        3541s   tick time                => progressing 0";
    check("5% 30m, 100% 30m; allow=Thu 00:00-01:00", &format!("{late}; holds time; no wake\n 3600s tick clear => advance 5% -> 100%"));
    check(
        "5% 30m, 100% 30m; allow=Thu 00:00-01:00; at-end=hold",
        &format!(
            "{late}; holds time
        3600s   tick clear               => hold; at 5%; holds window; ~ the maintenance window is over (Thu 00:00-01:00): it waits at 5%
        3601s   advance                  => refuse; ~ the maintenance window is over
        604800s tick clear               => advance 5% -> 100%
        604801s done
        608400s tick clear               => hold; baking 1; holds window
        608415s tick time breach=bake    => roll-back
    "
        ),
    );
    check(
        "5% 30m, 100% 30m; allow=Thu 00:00-01:00; at-end=roll-back",
        &format!(
            "{late}; wake 3600s
        3600s   wake                     => roll-back; rolling-back; at 0%; warning; firing rolled-back; ~ the maintenance window is over (Thu 00:00-01:00)
    "
        ),
    );
    check(
        "5% 30m, 100% 30m; allow=Thu 00:00-01:00; at-end=roll-back",
        "
        0s      begin
        1s      done
        900s    tick time
        901s    advance                  => advance 5% -> 100%
        902s    done                     => baking 1; wake 3600s
        3600s   tick time                => roll-back
    ",
    );
    check(
        "5% 30m, 100% 30m; allow=Thu 00:00-01:00; at-end=roll-back",
        "
        0s      begin
        1s      done
        900s    break-glass-freeze       => no wake
        3600s   wake                     => hold; at 5%
        3601s   resume                   => resume
        3615s   tick time                => roll-back
    ",
    );
}

#[test]
fn the_hook_before_the_start_is_asked_until_it_says_yes() {
    check(
        "5% 30m; hook=before-start:10m:roll-back",
        "
        0s   begin                       => hold; waiting hook before-start; call before-start #1; holds hook; no set; wake 600s
        5s   hook failed                 => hold; no call before-start #2; wake 7s; ~ did not let it pass, 1 calls: status 503
        7s   wake                        => call before-start #2
        8s   hook passed #1              => hold; waiting
        9s   hook failed                 => wake 13s
        13s  wake                        => call before-start #3
        14s  hook passed                 => advance 0% -> 5%; set 5% #1
        15s  hook passed                 => hold; progressing 0
    ",
    );
    check(
        "5% 30m; hook=before-start:1m:roll-back; hook=after-rollback:1m:hold",
        "
        0s   begin
        5s   hook failed
        7s   wake                        => call before-start #2
        60s  wake                        => roll-back; at 0%; firing rolled-back; ~ no yes within 1 min, at last: status 503
        61s  hook passed                 => hold; rolling-back
        62s  done
        122s wake                        => finish; rolled-back; call after-rollback #3
    ",
    );
    check(
        "5% 30m; hook=before-start:1m:roll-back",
        "
        0s   begin
        5s   hook refused                => roll-back; ~ hook before-start did not let it pass: status 403
    ",
    );
    check(
        "5% 30m; hook=before-start:1m:ask",
        "
        0s   begin
        60s  wake                        => pause; paused; warning; firing paused; ~ no answer within 1 min; no wake
        61s  hook passed                 => hold; paused
        90s  resume                      => resume; call before-start #2; waiting hook before-start; wake 150s
        91s  hook passed                 => advance 0% -> 5%
    ",
    );
    check(
        "5% 30m; hook=before-start:1m:hold",
        "
        0s   begin
        5s   hook refused                => hold; waiting; holds hook; wake 65s; no warning
        65s  wake                        => call before-start #2; warning; wake 125s
        125s wake                        => call before-start #3
        126s hook passed                 => advance 0% -> 5%
    ",
    );
}

#[test]
fn a_hook_is_asked_only_when_the_gates_before_it_are_open() {
    check(
        "5% 30m, 100% 10m; approvals=manager; allow=Thu 00:00-01:00; hook=before-start:10m:hold",
        "
        0s     begin                     => waiting approval manager; no call before-start #1
        60s    ben: approve manager      => waiting hook before-start; call before-start #1
        # the window has no room left: what the hook says now counts no more
        1201s  wake                      => waiting window 604800s; no call before-start #2
        1202s  hook passed               => waiting
        24h    wake                      => waiting window 604800s
        86461s wake                      => waiting approval manager
    ",
    );
}

#[test]
fn a_hook_before_a_step_is_asked_when_nothing_else_speaks_against_it() {
    check(
        "5% 1m, 25% 1m, 100% 1m; hook=before-step:10m:hold; hook=before-promotion:1m:roll-back; hook=after-promotion:1m:hold",
        "
        0s   begin                       => advance 0% -> 5%; no call before-step #1
        1s   done
        15s  tick time                   => holds time
        60s  tick clear                  => hold; at 5%; call before-step #1; holds hook; info; firing gate
        75s  tick clear                  => hold; holds hook; no call before-step #2
        76s  hook passed                 => hold; at 5%; no set; resolved gate; ~ nothing speaks against going on
        # what speaks against it then is looked at again
        90s  tick harm counted=60s       => hold; at 5%; holds evidence of harm
        105s tick clear                  => advance 5% -> 25%
        106s done
        166s tick clear                  => call before-step #2; at 25%
        167s hook failed                 => at 25%; wake 169s
        168s advance                     => advance 25% -> 100%; set 100% #3
        169s done
        170s hook passed                 => hold; baking 2
        230s tick clear                  => call before-promotion #3
        231s hook passed
        245s tick clear                  => promote; succeeded; call after-promotion #4
    ",
    );
    check(
        "5% 1m, 100% 1m; hook=before-step:10m:hold; undecided=2m:roll-back",
        "
        0s   begin
        1s   done
        60s x20 tick clear counted=1m    => hold; at 5%; holds hook
        400s tick time breach=metric     => roll-back; at 0%
    ",
    );
    check(
        "5% 1m, 100% 1m; hook=before-promotion:1m:roll-back",
        "
        0s   begin
        1s   done
        60s  tick clear                  => advance 5% -> 100%
        61s  done
        121s tick clear                  => call before-promotion #1
        181s tick clear                  => roll-back; ~ hook before-promotion did not let it pass: no answer within 1 min
    ",
    );
    check(
        "5% 1m; mode=observe; hook=before-start:1m:hold; hook=before-promotion:1m:hold",
        "
        0s   begin                       => advance 0% -> 5%; no call before-start #1
        60s  tick clear                  => promote; succeeded; no call before-promotion #1
    ",
    );
}
