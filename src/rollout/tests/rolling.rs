//! A rolling update that canaryd leads: its weight is made of ready pods, and another hand may let it go on.

use super::check;

const LED: &str = "25% 15m, 100% 15m; workloads=led; promotion=leave";

/// Not another hand: pods of the new template are not ready any more.
#[test]
fn a_weight_whose_pods_are_not_ready_is_not_in_force_and_the_step_stands_still() {
    check(
        LED,
        "
        0s   begin noted=4/4                     => set 25% #1
        1s   cluster 3/3 2/2                     => hold
        # while it is written, readings say nothing new
        2s   traffic 20% underway 1 of 2         => hold; no set; holds shifting
        3s   done                                => progressing 0; counts
        10s  traffic 20% underway 1 of 2         => hold; set 25% #2; no warning; holds shifting; stands still
        11s  failed underway                     => hold; no warning; ~ the weight 25% is on its way
        12s  tick time n=800/200                 => hold; set 25% #3; holds shifting; no warning
        13s  advance                             => refuse; ~ still being written
        14s  done                                => hold; progressing 0; counts
        15s  traffic 25%                         => hold; no set
        16s  traffic 20% underway 1 of 2         => set 25% #4
        17s  tick time breach=gross              => roll-back; set 0% #5
    ",
    );
}

#[test]
fn who_lets_a_rolling_update_go_on_is_another_hand_whatever_its_share() {
    check(
        LED,
        "
        0s   begin noted=4/4                     => set 25% #1
        1s   cluster 3/3 2/2                     => hold
        2s   done                                => progressing 0
        3s   traffic 25% let-go argocd           => reassert; set 25% #2; warning; ~ argocd let the rolling update go on
    ",
    );
    check(
        "25% 15m; workloads=led; promotion=leave; foreign=yield",
        "
        0s   begin noted=4/4
        1s   cluster 3/3 2/2
        2s   done
        3s   traffic 40% let-go                  => pause; no set; ~ somebody let the rolling update go on, it is at 40% now
        4s   traffic 60% let-go                  => hold; no set; holds paused, foreign weight, time; ~ then it is stopped again
        5s   resume                              => resume; set 25% #2
    ",
    );
}

#[test]
fn what_goes_on_while_an_approval_is_awaited_is_stopped_again_or_yielded_to() {
    check(
        "25% 15m, 100% 15m; workloads=led; promotion=leave; approvals=manager",
        "
        0s   begin noted=4/4                     => waiting approval manager; no set
        1s   traffic 40%                         => hold; holds approval; no warning
        2s   traffic 40% let-go argocd           => reassert; hold still; no set; warning; ~ argocd let the rolling update go on; ~ stopping it again
        # it is being stopped
        3s   traffic 40% let-go argocd           => hold; no hold still; no warning
        4s   traffic 40%                         => hold; holds approval
        # it could not be stopped
        20s  traffic 60% let-go argocd           => reassert; hold still
        40s  traffic 60% let-go argocd           => reassert; hold still
        60s  traffic 80% let-go argocd           => pause; paused; no hold still; no set
        80s  traffic 80% let-go argocd           => hold; no hold still; no set
    ",
    );
    check(
        "25% 15m, 100% 15m; workloads=led; promotion=leave; approvals=manager; foreign=yield",
        "
        0s   begin noted=4/4                     => waiting approval manager
        1s   traffic 40% let-go argocd           => pause; paused; no hold still; no set; warning
        2s   resume                              => hold still; no set; waiting approval manager
        3s   traffic 40%                         => holds approval
        4s   ben: approve manager
        5s   cluster 3/3 2/2                     => no hold still
    ",
    );
    check(
        "25% 15m; workloads=led; promotion=leave; approvals=manager; mode=observe",
        "
        0s   begin noted=4/4
        1s   traffic 40% let-go argocd           => hold; no hold still; no warning
    ",
    );
}
