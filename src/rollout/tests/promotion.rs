//! After the bake: copies, what somebody else does, and what becomes of the workloads.

use super::check;

const COPY: &str = "100% 1m; promotion=copy";
const COPYING: &str =
    "0s begin\n 1s done\n 60s tick clear => promote; promoting copying; at 100%; copy #1; holds promotion; no set; no wake";

#[test]
fn a_copy_goes_into_stable_and_the_traffic_back_to_it() {
    check(
        COPY,
        &format!(
            "{COPYING}
        75s  tick time breach=bake     => hold; promoting copying; page; at 100%
        90s  work done #7              => hold; promoting copying
        91s  work done                 => promote; promoting shiftingback; at 0%; set 0% #2; no copy #2; resolved breach
        92s  work done                 => hold
        93s  done                      => holds drain; wake 153s
        153s wake                      => hold; promoting shiftingback; scale-canary-down #2; holds promotion; no wake; no succeeded
        160s work done                 => finish; succeeded; at 0%
    "
        ),
    );
}

#[test]
fn a_copy_that_fails_is_tried_again_and_sticks_with_all_traffic_on_the_canary() {
    check(
        COPY,
        &format!(
            "{COPYING}
        61s  work failed               => hold; promoting copying; wake 62s; holds promotion; ~ 1 tries failed: connection refused
        62s  wake                      => copy #2
        63s  work failed
        65s  wake                      => copy #3
        66s  work failed               => stuck; page; firing stuck; at 100%; wake 70s; ~ the promotion does not go on
        70s  wake                      => copy #4; stuck
        71s  work failed never         => stuck; no page; wake 131s
        72s  resume                    => resume; copy #5
        73s  work done                 => promote; promoting shiftingback; resolved stuck; set 0% #2
    "
        ),
    );
    check(
        COPY,
        &format!(
            "{COPYING}
        61s  rollback                  => refuse; promoting copying; at 100%; ~ traffic must not go to a stable that is half updated
        62s  supersede v3              => hold; promoting copying
        63s  pause                     => pause; paused
        64s  work done                 => hold; paused; at 100%
        65s  resume                    => resume; promoting shiftingback; set 0% #2
        66s  rollback                  => refuse
        67s  supersede v3              => hold
    "
        ),
    );
    // a person made it equal himself
    check(
        COPY,
        &format!("{COPYING}\n 61s work failed never => stuck\n 62s promote => promote; promoting shiftingback; set 0% #2; resolved stuck"),
    );
}

#[test]
fn a_failure_while_shifting_back_returns_to_the_canary() {
    let shifting = format!("{COPYING}\n 70s work done => set 0% #2");
    // stable is not ready any more
    check(
        COPY,
        &format!(
            "{shifting}
        71s  work failed #1            => hold; promoting copying; at 100%; set 100% #3; page; ~ stable is not ready any more: connection refused
        72s  done                      => hold; copy #2; promoting copying
        80s  work done                 => promoting shiftingback; set 0% #4
        81s  done                      => holds drain
        141s wake                      => scale-canary-down #3
        142s work failed
        143s wake                      => scale-canary-down #4
        144s work failed
        146s wake                      => scale-canary-down #5
        147s work failed               => finish; succeeded; warning; ~ scale-canary-down did not succeed
    "
        ),
    );
    // the router does not take it
    check(
        COPY,
        &format!(
            "{shifting}
        71s  failed                    => promoting shiftingback; at 0%
        72s  wake                      => set 0% #3
        73s  failed never              => promoting copying; at 100%; set 100% #4; page; ~ the router does not take it
        74s  done                      => copy #2
    "
        ),
    );
    check(COPY, &format!("{shifting}\n 71s done => holds drain\n 72s work failed #1 => promoting copying; at 100%; set 100% #3"));
}

#[test]
fn the_cluster_may_say_that_stable_is_equal() {
    check(
        "100% 1m; external=1h",
        "
        0s   begin
        1s   done
        30s  work done #0              => hold; at 100%
        60s  tick clear                => promoting external
        61s  work failed #0            => hold; promoting external
        62s  work done #0              => promote; promoting shiftingback; set 0% #2; ~ stable is equal and ready
        63s  done
        123s wake                      => finish; succeeded; at 0%; no scale-canary-down #1
    ",
    );
}

#[test]
fn observe_copies_nothing() {
    check(
        "5% 1m, 100% 1m; promotion=copy; mode=observe",
        "
        0s   begin
        60s  tick clear
        120s tick clear                => promote; promoting shiftingback; no copy #1; no set
        180s wake                      => finish; succeeded; no scale-canary-down #1
    ",
    );
}
