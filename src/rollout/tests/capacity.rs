//! Replicas: what a step up waits for, what holds the baseline and gives it back, and what is put in order at the end. `noted=N/wanted`
//! are N and what the canary's workload asked for; `cluster` says ready of wanted, the baseline's first.

use super::check;
use super::script::run;
use crate::model::{Input, Outcome, WorkloadAction};
use std::time::Duration;

const STEPS: &str = "5% 1m, 25% 1m, 100% 1m";

#[test]
fn it_begins_when_the_canary_has_the_pods_of_its_first_step() {
    check(
        STEPS,
        "
        0s   begin noted=40/4            => hold; waiting; waiting pods; at 0%; no set; holds capacity; no warning; ~ the cluster was not heard of yet
        1s   advance                     => refuse; ~ nobody knows how many pods are ready
        2s   cluster away                => hold; waiting pods; ~ cannot be looked at, nobody knows how many pods are ready: connection refused
        3s   cluster 40/40 1/4           => hold; waiting pods; ~ the canary has 1 of the 2 ready pods that 5% of the traffic needs, 4 are wanted; ~ break-glass-promote passes it by
        4s   cluster 40/40 2/4           => advance 0% -> 5%; progressing 0; set 5% #1
    ",
    );
    // without a cluster nothing of this applies
    check(STEPS, "0s begin => advance 0% -> 5%\n 1s cluster 0/40 0/4 => hold; at 5%\n 2s done\n 60s tick clear => advance 5% -> 25%");
    // a step at 0 % needs a pod that is ready
    check("0% 1m, 100% 1m", "0s begin noted=40/4\n 1s cluster 40/40 0/4 => waiting pods\n 2s cluster 40/40 1/4 => advance 0% -> 0%");
    check(STEPS, "0s begin noted=40/4,warns => warning; event capacity; ~ may not read autoscalers");
}

#[test]
fn pods_come_after_approvals_and_windows_and_before_the_hook() {
    check(
        "5% 1m, 100% 1m; approvals=manager; hook=before-start:10m:hold",
        "
        0s   begin noted=10/2,floor:2    => waiting approval manager; no hold-baseline #1
        1s   cluster 10/10 0/2           => waiting approval manager
        2s   ben: approve manager        => waiting pods; hold-baseline #1; no call before-start #1
        3s   work done                   => waiting pods
        4s   cluster 10/10 1/2           => waiting hook before-start; call before-start #1
        5s   cluster 10/10 0/2           => waiting pods
        6s   hook passed                 => waiting pods; no set
        7s   cluster 10/10 1/2           => advance 0% -> 5%
    ",
    );
}

#[test]
fn after_people_and_windows_the_baseline_is_counted_anew() {
    // it grew while somebody slept, and its autoscaler's minimum is held against what is there now
    check(
        "50% 1m, 100% 1m; approvals=manager",
        "
        0s   begin noted=4/10,floor:2    => waiting approval manager
        1s   cluster 4/4 10/10           => no hold-baseline #1
        60s  cluster 12/12 10/10         => waiting approval manager; no info
        3h   ben: approve manager        => waiting pods; hold-baseline #1; info; ~ the baseline has 12 ready replicas now, 4 when it was prepared
        3h   work done                   => advance 0% -> 50%
        3h   done
        3h   cluster 12/12 5/10          => holds capacity, time; ~ the canary has 5 of the 6 ready pods that 50%
        3h   cluster 5/5 5/10            => no restore-baseline #2
        3h   rollback                    => restore-baseline #2; page; ~ stable has 5 ready of the 12 replicas
    ",
    );
    // not heard of since: nothing begins before it is
    check(
        "50% 1m, 100% 1m; approvals=manager",
        "
        0s   begin noted=4/10,floor:2
        60s  ben: approve manager        => waiting pods; no hold-baseline #1; ~ the cluster was not heard of yet
        61s  cluster 3/4 10/10           => hold-baseline #1; ~ the baseline has 3 ready replicas now
        62s  work done                   => advance 0% -> 50%
    ",
    );
    // a window that closes again makes it old again; without anything to wait for it is what was noted
    check(
        "50% 1m, 100% 1m; allow=Thu 00:00-01:00; hook=before-start:10m:hold",
        "
        0s   begin noted=4/10            => waiting pods
        1s   cluster 6/6 10/10           => waiting hook before-start; firing gate
        2h   wake                        => waiting window 604800s
        168h wake                        => waiting hook before-start; info; ~ 6 ready replicas now, 4 when
    ",
    );
    // both versions of a rolling update are of one number
    check(
        "100% 1m; workloads=one; promotion=leave; approvals=manager",
        "0s begin noted=4/4 => waiting approval manager\n 1s cluster 3/3 1/4\n 2s ben: approve manager => ~ of the 4 ready pods",
    );
}

#[test]
fn where_replicas_are_the_share_none_are_awaited_before_it_is_written() {
    check(
        "25% 1m, 100% 1m; traffic=replicas; after-rollback=undo",
        "
        0s   begin noted=4/0             => waiting pods
        1s   cluster 4/4 0/0             => advance 0% -> 25%; set 25% #1
        2s   cluster 4/4 0/1
        3s   done                        => holds capacity, time; ~ the canary has 0 of the 1 ready pods that 25%
        4s   cluster 3/3 1/1             => holds time
        60s  tick clear                  => advance 25% -> 100%
        61s  cluster 0/0 4/4
        62s  done
        63s  rollback                    => roll-back; set 0% #3; no restore-baseline #1; no page
        64s  done
        124s wake                        => undo #1
    ",
    );
    check("0% 1m, 100% 1m; traffic=replicas", "0s begin noted=4/0\n 1s cluster 4/4 0/0 => advance 0% -> 0%");
}

#[test]
fn pods_that_do_not_come_are_told_and_a_person_may_pass_or_end_it() {
    check(
        STEPS,
        "
        0s   begin noted=10/2
        1s   cluster 10/10 0/2 canary:image-pull=1 => waiting pods; wake 601s; no warning; ~ (pod canary-1 is unwell)
        601s wake                        => warning; firing capacity; ~ for 10 min now: the canary has 0 of the 1 ready pods
        602s cluster 10/10 1/2           => advance 0% -> 5%; resolved capacity
    ",
    );
    check(STEPS, "0s begin noted=10/2\n 1s cluster 10/10 0/2\n 2s break-glass-promote => promote; at 100%; set");
    check(
        STEPS,
        "0s begin noted=10/2\n 1s cluster 10/10 0/2\n 2s rollback => roll-back; no restore-baseline #1; no page\n 3s done\n 63s wake => finish; rolled-back",
    );
}

const AT_5: &str = "0s begin noted=10/2\n 1s cluster 10/10 2/2 => advance 0% -> 5%\n 2s done";

#[test]
fn a_step_up_waits_for_the_pods_it_needs_and_loses_no_evidence() {
    check(
        STEPS,
        &format!(
            "{AT_5}
        30s  cluster 10/10 1/2           => hold; at 5%; counts; holds capacity, time; ~ the canary has 1 of the 2 ready pods that 25% of the traffic needs
        60s  x3 tick clear counted=60s   => hold; at 5%; counts; holds capacity; no set
        91s  advance                     => refuse; ~ 1 of the 2 ready pods
        92s  promote                     => refuse
        93s  cluster 10/10 2/2           => hold; at 5%; no set; ~ the next poll decides
        105s tick clear counted=60s      => advance 5% -> 25%
    "
        ),
    );
    // others scale it: at most what its workload asks for
    check(
        STEPS,
        &format!("{AT_5}\n 3s cluster 10/10 1/1\n 60s tick clear => advance 5% -> 25%\n 61s done\n 120s tick clear => advance 25% -> 100%"),
    );
    // a workload that asks for nothing cannot carry anything
    check(STEPS, &format!("{AT_5}\n 3s cluster 10/10 0/0\n 60s tick clear => hold; at 5%; holds capacity"));
    // without an answer of the cluster neither
    check(
        STEPS,
        &format!(
            "{AT_5}
        30s  cluster away                => hold; holds capacity, time; no warning; wake 90s
        60s  x2 tick clear counted=60s   => hold; at 5%; holds capacity; no warning
        90s  wake                        => warning; firing capacity; ~ the cluster cannot be looked at for 1 min
        91s  advance                     => refuse
        95s  cluster 10/10 2/2           => resolved capacity
        105s tick clear counted=60s      => advance 5% -> 25%
    "
        ),
    );
}

#[test]
fn what_cannot_be_looked_at_leads_to_nothing_but_waiting() {
    check(
        "5% 1m, 100% 1m; undecided=1m:roll-back",
        &format!(
            "{AT_5}
        30s  cluster away
        60s  x40 tick clear counted=60s  => hold; at 5%; no roll-back; holds capacity
    "
        ),
    );
    // pods that are known to be missing are the rule's own undecided
    check(
        "5% 1m, 100% 1m; undecided=1m:roll-back",
        &format!(
            "{AT_5}
        30s  cluster 10/10 1/2
        60s  x4 tick clear counted=60s   => hold; at 5%
        120s tick clear counted=60s      => roll-back
    "
        ),
    );
}

#[test]
fn a_canary_that_loses_pods_under_its_weight_holds_and_is_told() {
    let at_25 = "0s begin noted=10/4\n 1s cluster 10/10 4/4\n 2s done\n 60s tick clear\n 61s done";
    check(
        STEPS,
        &format!(
            "{at_25}
        70s  cluster 10/10 2/4           => hold; at 25%; warning; firing capacity; holds capacity, time; no roll-back; ~ the canary has 2 of the 3 ready pods that 25% of the traffic needs
        75s  tick time                   => hold; no warning
        80s  cluster 10/10 3/4           => hold; at 25%; resolved capacity
        90s  cluster 10/10 0/4 canary:crash-loop=4 => at 25%; warning; no roll-back; ~ pod canary-1 is unwell
    "
        ),
    );
    // in the bake it holds the promotion
    check(
        "100% 1m",
        "
        0s   begin noted=10/10
        1s   cluster 10/10 10/10
        2s   done                        => baking 0
        30s  cluster 10/10 9/10          => baking 0; firing capacity
        60s  tick clear                  => hold; baking 0; holds capacity
        61s  cluster 10/10 10/10         => resolved capacity
        75s  tick clear                  => promote; succeeded
    ",
    );
}

#[test]
fn it_scales_the_canary_before_each_step_and_never_down() {
    check(
        &format!("{STEPS}; replicas=follow"),
        "
        0s   begin noted=10/0            => waiting pods; no scale-canary 1 #1
        1s   cluster 10/10 0/0           => waiting pods; scale-canary 1 #1; holds capacity, capacity; ~ the canary is scaled to 1 replicas
        2s   cluster 10/10 0/1           => waiting pods; no scale-canary 1 #2
        3s   work done                   => waiting pods
        4s   cluster 10/10 1/1           => advance 0% -> 5%
        5s   done                        => holds time
        60s  tick clear counted=60s      => hold; at 5%; scale-canary 3 #2; no set
        65s  work done                   => hold; at 5%; holds capacity; ~ 1 of the 3 ready pods that 25%
        75s  tick clear counted=60s      => hold; at 5%; no scale-canary 3 #3
        80s  cluster 10/10 3/3
        90s  tick clear counted=60s      => advance 5% -> 25%
        91s  done
        # somebody else scales it down
        100s cluster 10/10 3/1
        150s tick time                   => scale-canary 3 #3
        151s work done
        160s cluster 10/10 3/3
        165s advance                     => hold; scale-canary 10 #4; ~ the canary is scaled first: advance again
        166s work done
        167s advance                     => refuse; ~ 3 of the 10 ready pods
        168s cluster 10/10 12/12
        169s advance                     => advance 25% -> 100%
        170s done
        240s tick clear counted=60s      => promote; succeeded
    ",
    );
}

#[test]
fn an_autoscaler_of_the_canary_is_kept_from_shrinking_it_and_given_back() {
    check(
        "25% 1m, 100% 1m; replicas=follow",
        "
        0s   begin noted=10/5,canary-floor:2
        1s   cluster 10/10 5/5           => waiting pods; scale-canary 3 #1
        2s   work done                   => advance 0% -> 25%
        3s   rollback                    => roll-back; no restore-baseline #2
        4s   done
        64s  wake                        => rolling-back; release-scalers #2; holds promotion
        65s  work done                   => finish; rolled-back
    ",
    );
    // who may not scale it is told once, and waits for somebody who does
    check(
        "25% 1m, 100% 1m; replicas=follow",
        "
        0s   begin noted=10/1
        1s   cluster 10/10 1/1           => scale-canary 3 #1
        2s   work failed never           => waiting pods; warning; ~ scale-canary did not succeed: connection refused
        90s  cluster 10/10 2/2           => waiting pods; no scale-canary 3 #2
        91s  cluster 10/10 3/3           => advance 0% -> 25%
    ",
    );
}

#[test]
fn the_baseline_is_held_from_the_start_until_the_bake_is_over() {
    let rule = "50% 1m, 100% 1m; idle=1";
    check(
        rule,
        "
        0s   begin noted=10/10,floor:3   => waiting pods; hold-baseline #1
        1s   cluster 10/10 10/10         => waiting pods; no set
        2s   work failed                 => waiting pods; ~ the baseline is kept from shrinking: 1 tries failed
        3s   wake                        => hold-baseline #2
        4s   work done                   => advance 0% -> 50%; set 50% #1
        5s   done
        60s  tick clear
        61s  done                        => baking 1
        120s tick clear                  => promote; promoting settling; idle-baseline 1 #3; at 100%; no release-scalers #4; holds promotion
        121s pause                       => refuse
        122s promote                     => hold
        123s break-glass-promote         => hold
        124s supersede v3                => hold; promoting settling
        125s tick time breach=bake       => hold; promoting settling; page
        126s work done                   => promoting settling; release-scalers #4
        127s work done                   => finish; succeeded; at 100%; resolved breach
    ",
    );
    // who may not is told, and it goes on; nothing was raised, so nothing is given back
    check(
        rule,
        "
        0s   begin noted=10/10,floor:3
        1s   cluster 10/10 10/10
        2s   work failed never           => advance 0% -> 50%; warning; ~ hold-baseline did not succeed
        3s   done
        60s  tick clear
        61s  done
        120s tick clear                  => idle-baseline 1 #2
        121s work done                   => finish; succeeded
    ",
    );
    // a minimum that is high enough already is left alone; and without idle replicas there is nothing to put in order
    check(
        "100% 1m",
        "0s begin noted=10/10,floor:10 => no hold-baseline #1\n 1s cluster 10/10 10/10 => advance 0% -> 100%\n 2s done\n 60s tick clear => succeeded",
    );
    // still turned around by a person while it is put in order
    check(
        rule,
        "
        0s   begin noted=10/10
        1s   cluster 10/10 10/10
        2s   break-glass-promote
        3s   done                        => promoting settling; idle-baseline 1 #1
        4s   rollback                    => roll-back; set 0% #3; no restore-baseline #2
        5s   done
        6s   work done
        65s  wake                        => finish; rolled-back
    ",
    );
}

#[test]
fn a_baseline_that_another_hand_shrinks_is_held_again_and_told_once() {
    let text = "~ the baseline asks for 4 replicas, and a rollback needs the 10 it had at the start";
    // a minimum that GitOps sets back, at a step and in the bake
    check(
        "50% 10m, 100% 10m",
        &format!(
            "
        0s   begin noted=10/10,floor:3   => hold-baseline #1
        1s   work done
        2s   cluster 10/10 10/10         => advance 0% -> 50%
        3s   done
        20s  cluster 10/4 10/10          => hold; at 50%; no hold-baseline #2; warning; firing capacity; {text}
        30s  cluster 4/4 10/10           => no warning; no page
        60s  tick time                   => hold-baseline #2; no warning; holds capacity, time
        61s  work done
        62s  cluster 4/10 10/10          => resolved capacity; no hold-baseline #3
        600s tick clear                  => advance 50% -> 100%
        601s done                        => baking 1
        610s cluster 10/4 10/10          => hold-baseline #3; firing capacity
        611s work done
        612s cluster 10/4 10/10          => no hold-baseline #4
        680s pause
        690s cluster 10/4 10/10          => hold-baseline #4
        691s work failed never           => warning; ~ hold-baseline did not succeed
        800s cluster 10/4 10/10          => no hold-baseline #5
        801s resume
        802s cluster 10/4 10/10          => hold-baseline #5
        803s work done
        804s rollback                    => roll-back; set 0% #3; restore-baseline #6; resolved capacity
        805s done
        806s work done
        865s wake                        => release-scalers #7
    "
        ),
    );
    // an autoscaler that is made under way: the start saw none, and what is raised is given back
    check(
        "50% 1m, 100% 1m",
        "
        0s   begin noted=10/10
        1s   cluster 10/10 10/10         => advance 0% -> 50%; no hold-baseline #1
        2s   done
        3s   cluster 10/4 10/10          => hold-baseline #1
        4s   work done
        5s   cluster 10/10 10/10
        60s  tick clear
        61s  done
        120s tick clear                  => release-scalers #2; no succeeded
        121s work done                   => finish; succeeded
    ",
    );
    // not for ever
    let fight = (0..31).map(|n| format!("{}m cluster 10/4 10/10 => hold-baseline #{}\n {}m work done\n", 2 * n + 1, n + 1, 2 * n + 1));
    let fight: String = fight.take(30).collect();
    let begin = "0s begin noted=10/10\n 1s cluster 10/10 10/10\n 2s done\n";
    check("50% 10h", &format!("{begin}{fight} 61m cluster 10/4 10/10 => no hold-baseline #31; no resolved capacity"));
    // what canaryd makes of the replicas itself, or only watches, it does not hold against another hand
    for rule in ["25% 1m, 100% 1m; traffic=replicas", "50% 1h; workloads=one", "50% 1h; mode=observe"] {
        let seen = "1s cluster 4/4 4/4\n 2s done\n 3s cluster 3/3 4/4 => no warning; no hold-baseline #1";
        check(rule, &format!("0s begin noted=4/4\n {seen}"));
    }
}

#[test]
fn a_minimum_that_may_be_raised_is_given_back_though_scaling_was_refused() {
    // the autoscaler's minimum comes first, and then the scale itself is denied
    check(
        "25% 1m, 100% 1m; replicas=follow",
        "
        0s   begin noted=10/1,canary-floor:1
        1s   cluster 10/10 1/1           => scale-canary 3 #1
        2s   work failed never           => waiting pods; warning
        3s   cluster 10/10 3/3           => advance 0% -> 25%
        4s   rollback
        5s   done
        65s  wake                        => release-scalers #2
    ",
    );
    // to be held, rolled back before its answer, and then the restoring is refused
    check(
        "100% 1h",
        &format!(
            "{AT_100}
        70s  cluster 10/4 10/10          => hold-baseline #2
        71s  rollback                    => restore-baseline #3
        72s  work failed never           => warning
        73s  done
        133s wake                        => release-scalers #4
    "
        ),
    );
    check(
        "100% 1h",
        "
        0s   begin noted=10/10,floor:3   => hold-baseline #1
        1s   break-glass-promote         => promote; set 100% #1
        2s   rollback                    => roll-back; restore-baseline #2
        3s   work failed never           => warning
        4s   done
        64s  wake                        => release-scalers #3
    ",
    );
}

#[test]
fn who_gives_up_a_rollback_reads_what_is_left_undone() {
    let given_up = |rule: &str, noted: &str, says: &str| {
        check(
            rule,
            &format!(
                "
        0s   begin noted={noted}
        1s   cluster 10/10 10/10
        2s   work done
        3s   done
        4s   rollback
        5s   failed
        6s   break-glass-rollback        => finish; rolled-back; warning; {says}
    "
            ),
        );
    };
    let minimums = "~ autoscalers keep the minimums they were raised to until the rule's next rollout is over";
    given_up("100% 1h; after-rollback=undo", "10/10,floor:3", minimums);
    given_up("100% 1h; after-rollback=undo", "10/10", "~ undo its template by hand");
    given_up("100% 1h; after-rollback=scale-down", "10/10", "~ then scale it down by hand");
    given_up("100% 1h", "10/10", "~ see that the canary gets no traffic");
}

#[test]
fn a_copy_drains_before_anything_is_scaled_down() {
    check(
        "100% 1m; promotion=copy",
        "
        0s   begin noted=10/10,floor:3   => hold-baseline #1
        1s   work done
        2s   cluster 10/10 10/10         => advance 0% -> 100%
        3s   done
        60s  tick clear                  => promoting copying; copy #2
        70s  work done                   => promoting shiftingback; set 0% #2
        71s  done                        => holds drain; no scale-canary-down #3
        130s wake                        => holds drain
        131s wake                        => scale-canary-down #3
        132s work failed                 => promoting shiftingback; wake 133s
        133s wake                        => scale-canary-down #4
        # a control plane that is away for minutes
        134s work failed
        140s wake                        => scale-canary-down #5
        141s work failed                 => promoting shiftingback; no stuck; no page
        200s wake                        => scale-canary-down #6
        201s work done                   => release-scalers #7; promoting shiftingback
        202s work failed                 => no warning
        802s wake                        => release-scalers #8
        803s work failed                 => finish; succeeded; warning; ~ release-scalers did not succeed: connection refused
    ",
    );
}

#[test]
fn somebody_elses_promotion_knows_of_the_held_baseline() {
    check(
        "100% 1m; external=1h",
        "
        0s   begin noted=10/10,floor:3
        1s   work done
        2s   cluster 10/10 10/10
        3s   done
        60s  tick clear                  => promoting external
        61s  work done #0                => promote; promoting shiftingback; set 0% #2
        62s  done
        122s wake                        => release-scalers #2; no succeeded
        123s work done                   => finish; succeeded
    ",
    );
}

const AT_100: &str = "0s begin noted=10/10,floor:3\n 1s work done\n 2s cluster 10/10 10/10\n 3s done";

#[test]
fn a_rollback_moves_traffic_first_and_gives_stable_its_replicas_back() {
    let rule = "100% 1h; after-rollback=undo";
    check(
        rule,
        &format!(
            "{AT_100}
        15s  tick time breach=gross      => roll-back; at 0%; set 0% #2; no restore-baseline #2
        16s  done
        76s  wake                        => rolling-back; undo #2; holds promotion
        80s  work done                   => rolling-back; release-scalers #3
        81s  work done                   => finish; rolled-back
    "
        ),
    );
    // stable was shrunk all the same: at the same decision
    check(
        rule,
        &format!(
            "{AT_100}
        10s  cluster 4/4 10/10
        15s  tick time breach=gross      => roll-back; set 0% #2; restore-baseline #2; page; event capacity; ~ rolled back into missing capacity: stable has 4 ready of the 10
        16s  done
        17s  cluster 4/10 10/10          => no page; no restore-baseline #3
        76s  wake                        => rolling-back; no undo #3
        90s  work done                   => undo #3
        91s  supersede v3                => rolling-back
        92s  work failed never           => release-scalers #4; warning; ~ undo did not succeed
        93s  work done                   => finish; rolled-back
    "
        ),
    );
    // nobody knows
    check(
        rule,
        &format!(
            "{AT_100}\n 10s cluster away\n 15s rollback => restore-baseline #2; set 0% #2; no page\n 20s cluster 4/10 10/10 => page; no restore-baseline #3"
        ),
    );
    // what an autoscaler does once it is released is its own
    check(
        rule,
        &format!(
            "{AT_100}
        15s  rollback
        16s  done
        76s  wake                        => undo #2
        80s  work done                   => release-scalers #3
        81s  cluster 9/9 10/10           => hold; no restore-baseline #4
        82s  work done                   => finish; rolled-back; no restore-baseline #4
    "
        ),
    );
    // half is not below half
    check(rule, &format!("{AT_100}\n 10s cluster 5/10 10/10\n 15s rollback => restore-baseline #2; no page"));
}

#[test]
fn what_becomes_of_the_canary_is_the_rules_word() {
    let back = |rule: &str, noted: &str, then: &str| {
        check(rule, &format!("0s begin noted={noted}\n 1s cluster 10/10 2/2\n 2s done\n 3s rollback\n 4s done => rolling-back\n {then}"));
    };
    back("5% 1h", "10/2", "64s wake => finish; rolled-back");
    back(
        "5% 1h; after-rollback=scale-down",
        "10/2",
        "63s wake => no scale-canary-down #1\n 64s wake => scale-canary-down #1\n 65s work done => finish",
    );
    back("5% 1h; after-rollback=undo", "10/2,no-template", "64s wake => finish; rolled-back; warning; ~ none is known that it had before");
    // a newer version needs the workload as it is
    check(
        "5% 1h; after-rollback=undo",
        "
        0s   begin noted=10/2,floor:3
        1s   work done
        2s   cluster 10/10 2/2
        3s   done
        4s   supersede v3                => roll-back; set 0% #2
        5s   done                        => rolling-back; release-scalers #2; no undo #2
        6s   work done                   => finish; superseded
    ",
    );
}

#[test]
fn a_rolling_update_is_made_whole_by_its_undo() {
    check(
        "75% 1h; workloads=one; after-rollback=undo",
        "
        0s   begin noted=4/4
        1s   cluster 4/4 3/3
        2s   done
        3s   cluster 1/1 3/3
        4s   rollback                    => roll-back; set 0% #2; no restore-baseline #1; no page
        5s   done
        65s  wake                        => undo #1
    ",
    );
}

#[test]
fn a_first_rollout_needs_what_its_own_workload_asks_for() {
    check(
        STEPS,
        "
        0s   begin first noted=0/3       => waiting pods
        1s   cluster 0/0 2/3             => waiting pods; ~ 2 of the 3 ready pods that 100%
        2s   cluster 0/0 3/3             => promote; at 100%
        3s   done                        => succeeded
    ",
    );
    // a baseline that is scaled to nothing
    check(
        STEPS,
        "0s begin noted=0/3\n 1s cluster 0/0 1/3 => advance 0% -> 5%\n 2s done\n 60s tick clear => advance 5% -> 25%\n 61s done\n 120s tick clear => hold; at 25%; holds capacity\n 121s rollback => no restore-baseline #1; no page",
    );
    check("100% 1m; first=refuse", "0s begin first noted=0/3 => pause; paused");
}

#[test]
fn observe_waits_for_pods_and_asks_for_nothing() {
    check(
        "50% 1m, 100% 1m; replicas=follow; mode=observe; idle=0; after-rollback=undo",
        "
        0s   begin noted=10/2,floor:3    => waiting pods; no hold-baseline #1
        1s   cluster 10/10 1/2           => waiting pods; no scale-canary 5 #1
        2s   cluster 10/10 2/2           => advance 0% -> 50%; no set
        3s   cluster 3/3 2/2
        60s  tick clear                  => advance 50% -> 100%
        120s tick time breach=bake       => roll-back; no restore-baseline #1; no page
        180s wake                        => finish; rolled-back; no undo #1; no release-scalers #1
    ",
    );
}

/// What is under way is carried out again after a restart; what waits behind it comes by itself.
#[test]
fn what_was_asked_for_is_known_after_a_restart() {
    let (mut machine, last) =
        run("100% 1h; after-rollback=undo", &format!("{AT_100}\n 10s cluster 4/4 10/10\n 15s rollback\n 16s done\n 76s wake"));
    assert_eq!(machine.unconfirmed_work(), Some((WorkloadAction::RestoreBaseline, 2)));
    let done = |number| Input::Workload { number, outcome: Outcome::Done };
    for action in [WorkloadAction::Undo, WorkloadAction::ReleaseScalers] {
        let number = machine.unconfirmed_work().expect("an action").1;
        machine.handle(last.at + Duration::from_secs(1), &done(number));
        assert_eq!(machine.unconfirmed_work(), Some((action, number + 1)));
    }
    machine.handle(last.at + Duration::from_secs(2), &done(4));
    assert_eq!(machine.unconfirmed_work(), None);
}
