//! Health of pods: whose fault it is, where it acts, and who is told.

use super::check;

const STEPS: &str = "5% 1m, 25% 1m, 100% 10m; pod-health=crash-loop,image-pull,oom-killed,failed-probes:3";
const BEGUN: &str = "0s begin noted=10/2\n 1s cluster 10/10 2/2\n 2s done";

#[test]
fn signs_the_baseline_does_not_show_roll_back_with_the_pod_named() {
    for sign in ["crash-loop", "image-pull", "oom-killed"] {
        check(
            STEPS,
            &format!(
                "{BEGUN}\n 3s cluster 10/10 1/2 canary:{sign}=1 => roll-back; at 0%; set; reasons 1; warning; firing rolled-back; ~ {sign} among the canary's pods: 1 in 2 pods (pod canary-1 is unwell); ~ the baseline's: 0 in 10 pods"
            ),
        );
    }
    check(
        STEPS,
        &format!(
            "{BEGUN}
        3s   cluster 10/10 2/2 canary:failed-probes=2 => hold; at 5%; holds time
        4s   cluster 10/10 2/2 canary:failed-probes=3 => roll-back
    "
        ),
    );
    // what the rule does not name is no reason
    check(
        "5% 1m, 100% 1m; pod-health=oom-killed",
        &format!("{BEGUN}\n 3s cluster 10/10 2/2 canary:crash-loop=2 => hold; at 5%\n 60s tick clear => at 100%"),
    );
    check("5% 1m, 100% 1m", &format!("{BEGUN}\n 3s cluster 10/10 2/2 canary:crash-loop=2 => hold; at 5%"));
}

#[test]
fn pods_that_never_become_ready_are_told_when_their_deployment_gives_up_and_roll_back_where_the_rule_says_so() {
    // held, and told at once and not after ten minutes
    check(
        "5% 1m, 100% 1m; pod-health=crash-loop",
        "
        0s   begin noted=10/2
        1s   cluster 10/10 0/2           => waiting pods; no warning
        30s  cluster 10/10 0/2 canary:never-ready=1 => waiting pods; no roll-back; warning; firing capacity; ~ 0 of the 1 ready pods that 5% of the traffic needs, 2 are wanted (pod canary-1 is unwell)
        630s wake                        => waiting pods; no warning
        631s cluster 10/10 2/2           => advance 0% -> 5%; resolved capacity
    ",
    );
    let named = "5% 1m, 100% 1m; pod-health=never-ready";
    check(
        named,
        "0s begin noted=10/2\n 1s cluster 10/10 0/2 canary:never-ready=1 => roll-back; at 0%; ~ never-ready among the canary's pods",
    );
    // the baseline does not come up either
    check(
        named,
        "0s begin noted=10/2\n 1s cluster 4/10 0/2 canary:never-ready=1 baseline:never-ready=1 => hold; waiting pods; no roll-back; holds pods, capacity",
    );
}

#[test]
fn half_the_rate_per_pod_in_the_baseline_is_nobodys_fault() {
    // 1 of 2 against 2 of 10: below half of it
    check(STEPS, &format!("{BEGUN}\n 3s cluster 10/10 1/2 canary:crash-loop=1 baseline:crash-loop=2 => roll-back"));
    // against 3 of 10: more than half
    check(
        STEPS,
        &format!(
            "{BEGUN}
        3s   cluster 7/10 2/2 canary:crash-loop=1 baseline:crash-loop=3 => hold; at 5%; holds pods, time; no page; wake 603s; ~ crash-loop among the pods of both versions, so the canary is not blamed
        60s  x20 tick clear counted=60s => hold; at 5%; holds pods; no page; no paused
        361s advance                    => refuse; ~ pods of both versions
        603s wake                       => page; firing capacity; at 5%
        604s cluster 8/10 2/2 baseline:crash-loop=2 => hold; at 5%; resolved capacity
        615s tick clear counted=60s     => advance 5% -> 25%
    "
        ),
    );
    // it pages at once where the rule says so, and is never a reason to roll back
    for policy in ["shared=page", "shared=roll-back; undecided=1m:roll-back"] {
        let page = if policy == "shared=page" { "page" } else { "no page" };
        check(
            &format!("{STEPS}; {policy}"),
            &format!(
                "{BEGUN}
            3s   cluster 7/10 2/2 canary:crash-loop=1 baseline:crash-loop=5 => hold; at 5%; {page}
            60s  x40 tick clear counted=60s => hold; at 5%; no roll-back
        "
            ),
        );
    }
    // when the baseline has recovered, the canary's stand alone
    check(
        STEPS,
        &format!(
            "{BEGUN}\n 3s cluster 7/10 2/2 canary:crash-loop=1 baseline:crash-loop=5\n 10s cluster 10/10 2/2 canary:crash-loop=1 => roll-back"
        ),
    );
    // one sign of both does not excuse another
    check(
        STEPS,
        &format!("{BEGUN}\n 3s cluster 7/10 2/2 canary:crash-loop=1 baseline:crash-loop=5 canary:oom-killed=1 => roll-back; reasons 1"),
    );
}

#[test]
fn it_acts_before_the_first_weight_at_0_percent_paused_and_in_the_bake() {
    check(STEPS, "0s begin noted=10/2\n 1s cluster 10/10 2/2 canary:crash-loop=1 => roll-back; at 0%; no advance 0% -> 5%");
    check(
        &format!("{STEPS}; approvals=manager"),
        "0s begin noted=10/2 => waiting approval manager\n 1s cluster 10/10 0/2 canary:image-pull=2 => roll-back; rolling-back",
    );
    check(
        "0% 1m, 100% 1m; pod-health=crash-loop",
        "0s begin noted=10/2\n 1s cluster 10/10 2/2\n 2s done\n 3s cluster 10/10 1/2 canary:crash-loop=1 => roll-back",
    );
    check(STEPS, &format!("{BEGUN}\n 3s pause\n 4s cluster 10/10 1/2 canary:crash-loop=1 => roll-back"));
    check(
        "100% 10m; pod-health=crash-loop",
        "0s begin noted=10/10\n 1s cluster 10/10 10/10\n 2s done => baking 0\n 3s cluster 10/10 9/10 canary:crash-loop=1 => roll-back",
    );
    // nothing begins while pods of both crash
    check(
        STEPS,
        "
        0s   begin noted=10/2
        1s   cluster 5/10 2/2 canary:crash-loop=1 baseline:crash-loop=5 => hold; waiting pods; holds pods; no set
        2s   cluster 10/10 2/2          => advance 0% -> 5%
    ",
    );
}

#[test]
fn where_evidence_only_pages_pods_do_too() {
    check(
        "100% 1m; bake-judge=page; pod-health=crash-loop",
        "
        0s   begin noted=10/10
        1s   cluster 10/10 10/10
        2s   done
        3s   cluster 10/10 10/10 canary:crash-loop=1 => hold; baking 0; page; firing breach; ~ crash-loop among the canary's pods
        60s  tick clear                 => hold; baking 0; no promote
        61s  cluster 10/10 10/10        => resolved breach
        75s  tick clear                 => promote
    ",
    );
    check(
        STEPS,
        &format!(
            "{BEGUN}
        3s   break-glass-freeze
        4s   cluster 10/10 2/2 canary:crash-loop=1 => hold; at 5%; page; firing breach
        5s   cluster away               => hold; at 5%; resolved breach
        6s   resume                     => resume; at 5%
        15s  tick time                  => hold; at 5%; no roll-back
        20s  cluster 10/10 2/2 canary:crash-loop=1 => roll-back
    "
        ),
    );
    check(
        STEPS,
        "
        0s   begin noted=10/2
        1s   pause
        2s   break-glass-freeze
        3s   cluster 10/10 2/2 canary:crash-loop=1 => hold; paused
        4s   resume                     => roll-back; at 0%
    ",
    );
    check(
        STEPS,
        &format!(
            "{BEGUN}\n 3s break-glass-promote\n 4s cluster 10/10 2/2 canary:crash-loop=1 => hold; page; at 100%\n 5s done => succeeded"
        ),
    );
}

#[test]
fn once_it_is_promoted_pods_say_nothing() {
    check(
        "100% 1m; promotion=copy; pod-health=crash-loop",
        "
        0s   begin noted=10/10
        1s   cluster 10/10 10/10
        2s   done
        60s  tick clear                 => promoting copying
        61s  cluster 10/10 5/10 canary:crash-loop=5 => hold; promoting copying; no page; no firing breach; no firing capacity
    ",
    );
}

#[test]
fn observe_decides_and_touches_nothing() {
    check(
        &format!("{STEPS}; mode=observe"),
        "0s begin noted=10/2\n 1s cluster 10/10 2/2 => progressing 0\n 2s cluster 10/10 1/2 canary:crash-loop=1 => roll-back; at 0%; no set",
    );
}
