//! Every verb in every state.

use super::check;

const VERBS: [&str; 8] = ["pause", "resume", "advance", "promote", "rollback", "approve", "break-glass-promote", "break-glass-freeze"];

/// A rule, the script into a state, and what each verb does there, in the order of [`VERBS`].
fn table(rule: &str, before: &str, answers: [&str; 8]) {
    for (verb, answer) in VERBS.iter().zip(answers) {
        check(rule, &format!("{before}\n 3000s {verb} we know => {answer}\n"));
    }
}

const STEPS: &str = "5% 10m, 50% 10m, 100% 10m; external=1h";
const AT_5: &str = "0s begin\n 1s done\n 15s tick time";
const REFUSE: &str = "refuse; no set";
const BACK: &str = "roll-back; rolling-back; at 0%; set; reasons 1";

#[test]
fn a_rollout_that_waits_can_only_be_rolled_back() {
    table(STEPS, "0s wake => waiting", [REFUSE, REFUSE, REFUSE, REFUSE, BACK, REFUSE, REFUSE, REFUSE]);
}

#[test]
fn before_its_first_weight_is_in_force() {
    table(
        STEPS,
        "0s begin => progressing 0; holds shifting",
        ["pause; paused", "hold; progressing 0", REFUSE, REFUSE, BACK, REFUSE, "promote; set 100% #2", "pause; paused"],
    );
}

#[test]
fn in_the_middle_of_a_step() {
    table(
        STEPS,
        AT_5,
        [
            "pause; paused; holds paused, time; stands still",
            "hold; no info",
            "advance 5% -> 50%; progressing 1; set 50% #2",
            "promote; set 100% #2",
            BACK,
            REFUSE,
            "promote; set 100% #2; warning",
            "pause; paused; holds frozen, time; warning",
        ],
    );
}

#[test]
fn in_the_bake() {
    table(
        "100% 10m",
        "0s begin\n 1s done\n 15s tick time => baking 0",
        [
            "pause; paused",
            "hold; baking 0",
            "promote; succeeded; no set",
            "promote; succeeded; no set",
            BACK,
            REFUSE,
            "promote; succeeded",
            "pause; holds frozen, time",
        ],
    );
}

#[test]
fn while_the_last_weight_is_on_its_way() {
    table(
        "5% 1m",
        "0s begin\n 1s done\n 60s tick clear => set 100% #2; progressing 0",
        [REFUSE, "hold", REFUSE, "hold; no set", BACK, REFUSE, "promote; set 100% #3", REFUSE],
    );
}

#[test]
fn while_somebody_else_makes_stable_equal() {
    table(
        "100% 1m; external=1h",
        "0s begin\n 1s done\n 60s tick clear => promoting external",
        [
            "pause; paused; holds paused, promotion; no wake",
            "hold; promoting external",
            REFUSE,
            "promote; promoting shiftingback; set 0% #2",
            BACK,
            REFUSE,
            "promote; promoting shiftingback; set 0% #2",
            "pause; paused",
        ],
    );
}

#[test]
fn while_the_traffic_goes_back_to_stable() {
    table(
        "100% 1m; external=1h",
        "0s begin\n 1s done\n 60s tick clear\n 61s promote",
        [REFUSE, "hold", REFUSE, "hold; no set", BACK, REFUSE, "hold; no set", REFUSE],
    );
}

#[test]
fn while_paused() {
    table(
        STEPS,
        &format!("{AT_5}\n 16s pause => paused"),
        [
            "hold; paused; no info",
            "resume; progressing 0; counts; info",
            "advance 5% -> 50%; progressing 1",
            "promote; set 100% #2; progressing 0",
            BACK,
            REFUSE,
            "promote; set 100% #2",
            "pause; holds frozen, time",
        ],
    );
}

#[test]
fn while_frozen() {
    table(
        STEPS,
        &format!("{AT_5}\n 16s break-glass-freeze => paused"),
        ["hold; holds frozen, time", "resume; progressing 0", "advance 5% -> 50%", "promote", BACK, REFUSE, "promote", "hold; no warning"],
    );
}

#[test]
fn while_the_router_does_not_take_the_weight() {
    table(
        STEPS,
        "0s begin\n 1s failed never => stuck",
        [
            "pause; stuck; holds paused, router",
            "resume; set 5% #2; stuck",
            REFUSE,
            REFUSE,
            BACK,
            REFUSE,
            "promote; set 100% #2",
            "pause; stuck; holds frozen, router",
        ],
    );
}

#[test]
fn while_rolling_back() {
    table(
        STEPS,
        &format!("{AT_5}\n 16s rollback => rolling-back"),
        [REFUSE, "hold", REFUSE, REFUSE, "hold; rolling-back; no set", REFUSE, REFUSE, REFUSE],
    );
}

#[test]
fn over_is_over() {
    let ends = [
        ("succeeded", "100% 1m", "0s begin\n 1s done\n 60s tick clear => succeeded"),
        ("rolled-back", "5% 1m; drain=0s", "0s begin\n 1s rollback\n 2s done => rolled-back"),
        ("superseded", "5% 1m", "0s begin\n 1s supersede v3\n 2s done => superseded"),
    ];
    for (state, rule, before) in ends {
        table(rule, before, [&*format!("refuse; {state}; ~ start a new one"); 8]);
        check(
            rule,
            &format!(
                "{before}\n 4000s tick clear breach=gross => hold; {state}; no set\n 4001s traffic 50% => hold; {state}; no set\n 4002s wake => hold; {state}"
            ),
        );
    }
}

#[test]
fn a_pause_holds_the_weight_and_never_a_rollback_by_evidence() {
    check(
        "5% 1m, 100% 1m",
        "
        0s   begin
        1s   done
        15s  pause let me look      => pause; paused; info; stands still; ~ paused at 5% by ana: let me look
        60s  tick clear             => hold; at 5%; holds paused
        75s  tick time breach=metric => roll-back; rolling-back; at 0%
    ",
    );
    check(
        "5% 1m, 100% 1m",
        "
        0s   begin
        1s   done
        15s  pause
        60s  tick clear
        70s  resume                 => resume; counts; ~ nothing speaks against going on
        75s  tick clear             => advance 5% -> 100%
    ",
    );
}

#[test]
fn a_freeze_holds_whatever_the_evidence_says_and_a_person_ends_it() {
    check(
        "5% 1m, 100% 1m; blind=1m:roll-back",
        "
        0s   begin
        1s   done
        15s  break-glass-freeze stable is worse => pause; paused; warning; holds frozen, time
        30s  tick time breach=gross  => hold; at 5%; page; ~ evidence says roll back
        45s  tick time breach=gross  => hold; no page; holds frozen, limit, time
        60s  x9 tick blind n=- missing=canary:silent => hold; at 5%
        200s traffic 50% argocd      => hold; no set; warning; ~ left as it is
        201s traffic 50% argocd      => hold; no warning
        210s resume                  => resume; set 5% #2; progressing 0
        211s done
        225s tick time breach=gross  => roll-back
    ",
    );
}

#[test]
fn nobody_advances_against_harm_or_without_a_look() {
    for (keep, words) in [
        ("blind missing=canary:stale n=-", "could not look at the canary (stale)"),
        ("shared", "both versions suffer"),
        ("suspicious", "beyond a limit, not proven"),
        ("limit", "beyond a limit"),
        ("harm", "a metric looks worse"),
    ] {
        for verb in ["advance", "promote"] {
            check(
                "5% 1m, 100% 1m",
                &format!(
                    "
                0s   begin
                1s   done
                15s  tick time,{keep}
                16s  {verb}               => refuse; ~ {words}
                17s  {verb}               => ~ break-glass-promote
                18s  break-glass-promote  => promote; set 100% #2; warning
                19s  tick time breach=gross step=0 => hold; at 100%
                20s  done                 => finish; succeeded
            "
                ),
            );
        }
    }
    for keep in ["time", "few", "unproven", "below"] {
        check(
            "5% 1m, 100% 1m",
            &format!(
                "
            0s   begin
            1s   done
            2s   advance        => refuse; ~ nothing was seen at this weight yet
            15s  tick {keep}
            16s  advance        => advance 5% -> 100%; progressing 1
            17s  advance        => refuse; ~ is still being written
        "
            ),
        );
    }
    check(
        "0% 1m, 5% 1m",
        "
        0s   begin
        1s   done
        2s   advance            => advance 0% -> 5%
    ",
    );
}
