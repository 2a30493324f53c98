//! Alerts of somebody else: who rolls back, who holds, what is ignored.

use super::check;
use crate::model::{Alert, Begin, Input, Method, Severity, Side, Timestamp};
use crate::rollout::Machine;

const STEPS: &str = "5% 1m, 100% 10m";
const AT_5: &str = "0s begin\n 1s done\n 15s tick time";

#[test]
fn a_critical_one_that_names_the_canary_rolls_back() {
    for before in [AT_5, "0s begin\n 1s done\n 15s pause", "0s begin", "0s begin\n 1s failed never", "0s begin\n 1s done\n 60s tick clear"]
    {
        check(
            STEPS,
            &format!(
                "{before}\n 70s alerts Errors:critical:canary => roll-back; rolling-back; at 0%; set; warning; firing rolled-back; ~ alert Errors names the canary: Errors is bad"
            ),
        );
    }
    // in the bake too, whatever the bake's own judge may do
    check(
        "100% 10m; bake-judge=page",
        "
        0s   begin
        1s   done                                     => baking 0
        15s  alerts Errors:critical:canary            => roll-back; at 0%
    ",
    );
    // and before the first weight
    check("5% 1m; approvals=manager", "0s begin => waiting\n 1s alerts Errors:critical:canary => roll-back");
}

#[test]
fn its_twin_on_the_baseline_makes_it_shared() {
    check(
        STEPS,
        &format!(
            "{AT_5}
        20s  alerts Errors:critical:canary Errors:critical:baseline => hold; at 5%; page; firing alert; holds alert, time; ~ Errors (critical, canary): Errors is bad; ~ Errors (critical, baseline)
        60s  tick clear                               => hold; at 5%; holds alert; no page
        61s  advance                                  => refuse; ~ alerts fire
        75s  alerts Errors:critical:canary:@20s:resolved => hold; holds alert
        76s  alerts Errors:critical:baseline:@20s:resolved => hold; at 5%; resolved alert; no set
        90s  tick clear                               => advance 5% -> 100%
    "
        ),
    );
    // when the baseline's ends first, the canary's stands alone
    check(
        STEPS,
        &format!(
            "{AT_5}
        20s  alerts Errors:critical:canary Errors:warning:baseline => hold; at 5%
        30s  alerts Errors:warning:baseline:@20s:resolved => roll-back
    "
        ),
    );
    // another alert's twin is none
    check(STEPS, &format!("{AT_5}\n 20s alerts Errors:critical:canary Slow:critical:baseline => roll-back"));
}

#[test]
fn what_is_about_the_service_holds_and_a_warning_too() {
    check(
        STEPS,
        &format!(
            "{AT_5}
        20s  alerts Down:critical:service             => hold; at 5%; page; holds alert, time
        21s  alerts Down:critical:service:@20s        => hold; no page
        22s  alerts Down:critical:service:@20s:resolved Slow:warning:canary => hold; resolved alert; warning; no page; ~ Slow (warning, canary)
        60s x20 tick clear counted=1m                 => hold; at 5%; holds alert; no paused
        400s alerts Slow:warning:canary:@22s:resolved => hold; no set
        415s tick clear                               => advance 5% -> 100%
    "
        ),
    );
    check(STEPS, &format!("{AT_5}\n 20s alerts Slow:warning:canary => holds alert, time\n 21s advance => advance 5% -> 100%"));
    check(
        STEPS,
        &format!("{AT_5}\n 20s alerts Note:info:canary => hold; holds time; no info; no warning\n 60s tick clear => advance 5% -> 100%"),
    );
}

#[test]
fn what_began_before_the_rollout_is_ignored_and_repeats_change_nothing() {
    check(
        STEPS,
        "
        100s begin
        101s done
        115s alerts Old:critical:canary:@100s Older:critical:service:@-5s => hold; holds time; no page
        116s alerts New:critical:canary:@101s         => roll-back
    ",
    );
    check(
        STEPS,
        &format!(
            "{AT_5}
        20s  alerts Slow:warning:service
        30s  alerts Slow:warning:service:@20s:resolved => resolved alert
        # late: the same that is over, and one that is older still
        31s  alerts Slow:warning:service:@20s         => hold; holds time; no firing alert
        32s  alerts Slow:warning:service:@10s         => holds time
        40s  alerts Slow:warning:service:@35s         => holds alert, time; firing alert
        41s  alerts Slow:warning:service:@20s:resolved => holds alert, time
    "
        ),
    );
}

#[test]
fn frozen_or_forced_it_is_shown_and_once_stable_is_touched_it_pages() {
    check(
        STEPS,
        &format!(
            "{AT_5}
        16s  break-glass-freeze
        20s  alerts Errors:critical:canary            => hold; at 5%; page; holds frozen, alert, time
        30s  resume                                   => resume; at 5%
        45s  tick time                                => roll-back
    "
        ),
    );
    check(
        STEPS,
        &format!(
            "{AT_5}\n 16s break-glass-promote\n 20s alerts Errors:critical:canary => hold; page; at 100%\n 21s done => succeeded; resolved alert"
        ),
    );
    check(
        "100% 1m; promotion=copy",
        "
        0s   begin
        1s   done
        60s  tick clear                               => promoting copying
        61s  alerts Errors:critical:canary            => hold; promoting copying; at 100%; page; firing alert
    ",
    );
    check(STEPS, &format!("{AT_5}\n 16s rollback\n 20s alerts Errors:critical:canary => hold; rolling-back; no page"));
}

/// The least severe give way, and how many is said.
#[test]
fn a_flood_of_alerts_is_bounded_and_the_severe_ones_stay() {
    let mut machine = Machine::new(&super::rule(STEPS), &Method::default());
    let begin = Begin::new(Side::Second, "", "ana");
    machine.handle(Timestamp::from_millis(0), &Input::Begin(begin));
    let alert = |i: usize, severity| Alert {
        fingerprint: format!("{i}"),
        name: format!("A{i}"),
        firing: true,
        severity,
        names: None,
        since: Timestamp::from_millis(10),
        text: String::new(),
    };
    let flood: Vec<Alert> = (0..100).map(|i| alert(i, Severity::Warning)).chain([alert(100, Severity::Critical)]).collect();
    let held = machine.handle(Timestamp::from_millis(20), &Input::Alerts(flood));
    let text = &held.holds.iter().find(|h| h.why == crate::model::HoldWhy::Alert).expect("a hold").text;
    assert!(
        text.contains("A100 (critical, the service)")
            && text.contains("37 alerts did not fit, 64 are kept")
            && text.contains("and 61 more"),
        "{text}"
    );
}
