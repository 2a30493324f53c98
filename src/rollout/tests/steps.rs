//! Steps, evidence, policies, the end.

use super::check;

const STEPS: &str = "5% 15m, 25% 15m, 100% 30m";

#[test]
fn a_healthy_canary_goes_all_the_way() {
    check(
        STEPS,
        "
        0s    begin                  => advance 0% -> 5%; progressing 0; set 5% #1; holds shifting; stands still; info
        1s    done                   => hold; progressing 0; step 0; counts; holds time; no set
        15s   tick time              => hold; holds time; no info
        900s  tick clear             => advance 5% -> 25%; progressing 1; step 0; at 25%; set 25% #2; stands still
        901s  tick clear             => hold; at 25%; no set
        902s  done                   => step 1; progressing 1; counts
        915s  tick clear step=0      => hold; at 25%
        1800s tick clear             => advance 25% -> 100%; progressing 2; set 100% #3
        1801s done                   => baking 2; step 2; counts
        1815s tick time              => baking 2
        3600s tick clear             => promote; succeeded; at 100%; no set; holds nothing; info
        3615s tick clear breach=gross => hold; succeeded; at 100%; no set
    ",
    );
}

#[test]
fn a_weight_is_in_force_only_when_the_router_shows_it() {
    check(
        STEPS,
        "
        0s   begin     => set 5% #1
        1s   tick clear step=0 => hold; step 0; stands still; holds shifting
        2s   done #7   => hold; holds shifting
        3s   done #1   => holds time; counts
        900s tick clear => set 25% #2
        901s done #1   => step 0; holds shifting
        902s done #2   => step 1
    ",
    );
}

#[test]
fn evidence_of_harm_rolls_back_at_once_whatever_holds() {
    for breach in ["metric", "limit", "gross", "abandoned"] {
        check(
            STEPS,
            &format!(
                "
            0s   begin
            1s   done
            15s  tick time breach={breach} => roll-back; rolling-back; at 0%; set 0% #2; warning; reasons 1; stands still
            16s  done                      => rolling-back; holds drain; wake 76s
            30s  tick clear                => rolling-back; at 0%; no set
            76s  wake                      => finish; rolled-back; at 0%; reasons 1; info; no wake
            90s  done                      => hold; rolled-back
        "
            ),
        );
    }
    check(
        STEPS,
        "
        0s   begin
        15s  tick blind breach=metric,gross => roll-back; set 0% #2; reasons 2; ~ error-rate is worse than tolerated
        16s  done #1                        => rolling-back; holds shifting
        17s  done #2                        => holds drain
    ",
    );
    check(
        STEPS,
        "
        0s   begin
        1s   done
        15s  tick shared labels=shared breach=metric => roll-back; ~ during a shared incident
    ",
    );
}

#[test]
fn what_was_not_shown_is_recorded_with_the_requests_still_missing() {
    check(
        STEPS,
        "
        0s   begin
        1s   done
        900s tick clear ok=1.0 requests=500 => advance 5% -> 25%; missing 1000; ~ error-rate, about 1000 requests missing
        901s done
        1800s tick clear ok=-0.5            => advance 25% -> 100%; missing unknown
    ",
    );
}

#[test]
fn a_rule_without_a_full_step_ends_with_all_the_traffic() {
    check(
        "5% 10m, 50% 10m; promotion=leave",
        "
        0s    begin
        1s    done
        600s  tick clear => set 50% #2
        601s  done
        1200s tick clear => promote; progressing 1; set 100% #3; holds shifting
        1201s tick time step=1 => at 100%
        1202s done       => finish; succeeded; at 100%
    ",
    );
    check(
        "50% 10m",
        "
        0s   begin
        1s   done
        600s tick clear                      => promote; set 100% #2
        601s tick clear step=0 breach=metric => roll-back; at 0%; set 0% #3
    ",
    );
}

#[test]
fn a_step_without_traffic_counts_time_only() {
    check(
        "0% 5m, 10% 5m",
        "
        0s   begin                         => advance 0% -> 0%; set 0% #1
        1s   done                          => counts; holds time
        15s x9 tick time n=1000/0          => holds time; at 0%; no page
        150s tick time n=1000/0 missing=canary:silent => holds capacity, time; no set
        165s x5 tick clear n=1000/0 missing=canary:silent => at 0%; holds capacity
        300s tick clear n=1000/0 ok=0.1    => advance 0% -> 10%; no missing
    ",
    );
}

#[test]
fn blindness_holds_then_asks_and_is_never_a_pass() {
    check("5% 15m, 100% 10m; blind=2m:ask", "
        0s   begin
        1s   done
        60s  tick blind missing=both:source-down n=- detail=connection_refused => hold; holds blind; no page; ~ connection refused; wake 180s
        75s  x6 tick blind missing=both:source-down n=- => hold; progressing 0
        170s tick time                                  => holds time; no wake
        180s x8 tick blind n=-                          => hold; holds blind; wake 300s
        300s tick blind n=-                             => pause; paused; page; at 5%; stands still; holds paused, blind; no wake
        315s tick blind n=-                             => hold; paused; no page
        900s tick clear                                 => paused; at 5%; no set
        901s resume                                     => resume; progressing 0; counts
        915s tick clear                                 => advance 5% -> 100%
    ");
}

#[test]
fn blindness_can_roll_back_where_wanted_and_its_own_kind_for_the_canary() {
    check(
        "5% 15m; blind=10m:ask; blind-canary=1m:roll-back",
        "
        0s   begin
        1s   done
        15s  x4 tick blind n=- missing=canary:no-series => hold; holds blind; ~ the canary (no-series)
        75s  tick blind n=- missing=canary:no-series    => roll-back; at 0%; ~ policy blind-canary, after 1 min
    ",
    );
    check(
        "5% 15m; blind=1m:hold; blind-canary=1m:roll-back",
        "
        0s   begin
        1s   done
        15s  x40 tick blind n=- missing=both:source-down => hold; at 5%; holds blind; no wake
    ",
    );
    check(
        "5% 15m; blind=1m:roll-back",
        "
        0s   begin
        1s   done
        15s  tick blind n=- => wake 75s
        75s  wake           => roll-back; set 0% #2
    ",
    );
}

#[test]
fn a_step_that_cannot_end_at_its_time_asks_after_a_while() {
    check(
        "5% 10m, 100% 10m; undecided=5m:ask",
        "
        0s   begin
        1s   done
        300s tick time,harm counted=300s        => no wake
        600s tick harm counted=600s             => holds evidence of harm; wake 900s; progressing 0
        899s tick harm counted=600s             => progressing 0
        900s wake                               => pause; paused; warning; holds paused, evidence of harm
        901s advance                            => refuse; ~ looks worse than tolerated
        915s tick unproven counted=600s ok=1.0  => paused; ~ error-rate (1.00 of 3.00)
        916s advance                            => advance 5% -> 100%; progressing 1; set 100% #2; no paused
    ",
    );
    check(
        "5% 10m; on-evidence; undecided=5m:roll-back",
        "
        0s   begin
        1s   done
        600s tick unproven counted=600s ok=1.0 => holds not proven; wake 900s
        # blind and shared time pushes the limit on
        615s x10 tick blind,unproven counted=600s n=- => hold
        765s tick shared,unproven counted=600s        => hold
        780s tick unproven counted=600s ok=1.0        => wake 1065s
        1065s tick unproven counted=600s ok=1.0       => roll-back; ~ policy undecided
    ",
    );
    check(
        "5% 10m; undecided=5m:roll-back",
        "
        0s   begin
        1s   done
        600s tick harm counted=600s            => wake 900s
        610s pause                             => paused; no wake
        900s wake                              => hold; paused; at 5%
        915s x9 tick harm counted=600s         => hold; paused
        1100s resume                           => no wake
        1115s tick harm counted=600s           => wake 1415s
    ",
    );
    check(
        "5% 10m; undecided=5m:hold",
        "
        0s   begin
        1s   done
        600s x50 tick few counted=600s requests=3 => hold; holds too few requests; no wake; ~ 3 canary requests in this step, 20 are needed
    ",
    );
}

#[test]
fn the_warm_up_of_a_short_step_is_not_overdue() {
    check(
        "5% 1m; undecided=1m:ask",
        "
        0s   begin
        1s   done
        60s x12 tick time counted=60s => hold; progressing 0; no wake; holds time
    ",
    );
}

#[test]
fn a_shared_incident_holds_and_pages_in_time() {
    check(
        STEPS,
        "
        0s   begin
        1s   done
        15s  tick shared labels=shared      => hold; holds shared; no page
        30s  tick shared labels=shared,page => hold; page; ~ both versions suffer
        45s  tick shared labels=shared,page => hold; no page
        60s  tick time                      => holds time
        75s  tick shared labels=shared,page => page
    ",
    );
    check(
        "5% 10m; shared=page",
        "
        0s  begin
        1s  done
        15s tick shared labels=shared => page; hold
    ",
    );
    check(
        "5% 10m; shared=roll-back",
        "
        0s  begin
        1s  done
        15s tick shared labels=shared => roll-back; ~ policy shared
    ",
    );
}

#[test]
fn limits_that_warn_and_page_tell_once_while_they_last() {
    check(
        STEPS,
        "
        0s  begin
        1s  done
        15s tick time limits=warn            => warning; no page; hold
        30s tick time,limit limits=warn,page => page; no warning; holds limit, time
        45s tick time limits=warn,page       => no page; no warning
        60s tick time                        => hold
        75s tick time limits=warn            => warning
    ",
    );
}

#[test]
fn the_bake_rolls_back_or_pages() {
    check(
        "100% 10m",
        "
        0s  begin
        1s  done                  => baking 0
        15s tick time breach=bake => roll-back; at 0%; set 0% #2; ~ far beyond what the old version had
    ",
    );
    check(
        "100% 10m; bake-judge=page",
        "
        0s   begin
        1s   done
        15s  tick time breach=bake  => hold; baking 0; at 100%; page; holds limit, time
        30s  tick time breach=bake  => no page
        600s tick clear breach=bake => hold; baking 0; holds limit
        601s advance                => refuse
        615s tick clear             => promote; succeeded
    ",
    );
    check(
        "50% 1m, 100% 10m; bake-judge=page",
        "
        0s   begin
        1s   done
        60s  tick clear           => set 100% #2
        61s  tick time breach=metric => roll-back; at 0%
    ",
    );
}

#[test]
fn a_newer_version_supersedes() {
    check(
        STEPS,
        "
        0s   begin
        1s   done
        15s  supersede v3 => roll-back; rolling-back; set 0% #2; info; ~ a newer version is out: v3
        16s  done         => finish; superseded; at 0%; no wake
    ",
    );
    check(
        STEPS,
        "
        0s   begin
        1s   pause
        2s   supersede v3         => rolling-back; at 0%
        3s   failed
        4s   wake                 => set 0% #3
        5s   done                 => superseded
    ",
    );
    check(
        STEPS,
        "
        0s   begin
        15s  tick time breach=gross
        16s  supersede v3         => hold; rolling-back
        17s  done
        77s  wake                 => rolled-back
    ",
    );
}

#[test]
fn a_first_rollout_has_nothing_to_be_compared_with() {
    check(
        STEPS,
        "
        0s  begin first => promote; set 100% #1; info
        15s tick time breach=metric => hold; at 100%
        16s done        => finish; succeeded; at 100%
    ",
    );
    check(
        "5% 1m; first=refuse",
        "
        0s  begin first => pause; paused; no set; at 0%
        1s  resume      => refuse; ~ there is no baseline to go on with
        2s  advance     => refuse
        3s  promote     => promote; set 100% #1
        4s  done        => succeeded
    ",
    );
    check(
        "5% 1m; first=refuse; drain=0s",
        "
        0s  begin first
        1s  rollback    => roll-back; set 0% #1
        2s  done        => finish; rolled-back
    ",
    );
}

#[test]
fn somebody_else_makes_stable_equal() {
    check(
        "100% 1m; external=10m",
        "
        0s   begin
        1s   done
        60s  tick clear             => promote; promoting external; at 100%; holds promotion; wake 660s; no set
        75s  tick time breach=bake  => hold; promoting external; page; at 100%
        90s  advance                => refuse; ~ promote when stable is equal
        660s wake                   => pause; paused; warning
        661s resume                 => resume; promoting external; wake 1261s
        700s promote                => promote; promoting shiftingback; set 0% #2; at 0%
        701s pause                  => refuse
        702s failed                 => promoting shiftingback; holds router
        703s wake                   => set 0% #3
        704s done                   => holds drain; wake 764s
        764s wake                   => finish; succeeded; at 0%
    ",
    );
}

#[test]
fn observe_decides_and_touches_nothing() {
    check(
        "5% 1m, 100% 1m; mode=observe",
        "
        0s   begin                      => advance 0% -> 5%; progressing 0; counts; no set; at 5%; step 0
        15s  x3 tick time n=1000/0      => hold; holds time
        60s  tick clear                 => advance 5% -> 100%; baking 1; step 1; no set
        70s  traffic 0%                 => hold; no set; at 100%
        120s tick clear                 => promote; succeeded; no set
    ",
    );
    check(
        "5% 1m; mode=observe",
        "
        0s   begin
        15s  tick time breach=metric    => roll-back; rolling-back; at 0%; no set; warning; wake 75s
        75s  wake                       => finish; rolled-back
    ",
    );
}

#[test]
fn a_poll_that_was_judged_before_says_nothing() {
    check(
        STEPS,
        "
        0s   begin
        1s   done
        900s tick clear dup => hold; at 5%
        901s tick time
        901s tick clear     => hold; at 5%
    ",
    );
}
