use super::*;
use crate::model::{Paused, Timestamp, Waiting};

/// `v1 3/3`: this template with so many ready of so many; `-`: not there; `?`: could not look.
fn sight(words: &str) -> Sight {
    match words.split_once(' ') {
        None if words == "-" => Sight::Absent,
        None => Sight::Hidden("away".to_owned()),
        Some((template, replicas)) => {
            let (ready, wanted) = replicas.split_once('/').unwrap();
            let [ready, wanted] = [ready, wanted].map(|n| n.parse::<u32>().unwrap());
            let is_ready = ready >= wanted && wanted > 0;
            // labels tell two workloads of one program apart: `a'` runs what `a` does
            let program = template.trim_end_matches('\'').to_owned();
            Sight::There(Shown {
                template: template.to_owned(),
                number: 0,
                program,
                version: format!("shop:{template}"),
                is_ready,
                ready,
                wanted,
                stalled: None,
                held: None,
            })
        }
    }
}

struct Case {
    form: WorkloadForm,
    automatic: bool,
    scales: bool,
    leads: bool,
    /// `.` = never looked, `-` = it was not there.
    known: [&'static str; 2],
    seen: [&'static str; 2],
    idle: Option<Result<Side, String>>,
    on_trial: Option<OnTrial>,
    rolled_back: &'static [&'static str],
    promoted: Option<&'static str>,
}

/// The first carries the traffic; nothing is new.
fn quiet() -> Case {
    Case {
        form: WorkloadForm::Pair,
        automatic: true,
        scales: false,
        leads: false,
        known: ["a", "b"],
        seen: ["a 3/3", "b 3/3"],
        idle: Some(Ok(Side::Second)),
        on_trial: None,
        rolled_back: &[],
        promoted: None,
    }
}

impl Case {
    fn found(&self) -> Vec<Finding> {
        let known = self.known.map(|k| match k {
            "." => None,
            "-" => Some(None),
            template => Some(Some(template)),
        });
        let seen = self.seen.map(sight);
        let rolled_back = self.rolled_back.iter().map(|t| (*t).to_owned()).collect();
        decide(&Scene {
            form: self.form,
            automatic: self.automatic,
            scales: self.scales,
            leads: self.leads,
            known,
            seen: [&seen[0], &seen[1]],
            idle: self.idle.clone(),
            on_trial: self.on_trial.as_ref(),
            rolled_back: &rolled_back,
            promoted: self.promoted,
        })
    }
}

fn on(side: Side, what: What) -> Finding {
    Finding { side, what }
}

fn note(side: Side, template: &str, why: Why) -> Finding {
    on(side, What::Note { template: Some(template.to_owned()), why })
}

fn trial(state: State) -> Option<OnTrial> {
    Some(OnTrial { canary: Side::Second, template: Some("c".to_owned()), state, has_all: false })
}

const SECOND: Side = Side::Second;
const FIRST: Side = Side::First;

#[test]
fn a_new_template_without_traffic_starts_when_its_pods_are_ready() {
    let with = |seen: &'static str| Case { seen: ["a 3/3", seen], ..quiet() }.found();
    assert_eq!(with("b 3/3"), []);
    assert_eq!(with("c 3/3"), [on(SECOND, What::Start)]);
    assert_eq!(with("c 2/3"), [on(SECOND, What::Wait)]);
    assert_eq!(with("c 0/0"), [on(SECOND, What::Wait)], "nobody gives it pods");
    let followed = Case { seen: ["a 3/3", "c 0/0"], scales: true, ..quiet() };
    assert_eq!(followed.found(), [on(SECOND, What::Start)], "canaryd does, or what makes the share of them");
    let some = Case { seen: ["a 3/3", "c 1/3"], scales: true, ..quiet() };
    assert_eq!(some.found(), [on(SECOND, What::Wait)], "those it has must be ready");
}

#[test]
fn a_rolling_update_is_led_from_its_first_pod_and_not_when_it_is_over() {
    let one = |seen: &'static str, leads| Case { form: WorkloadForm::One, leads, known: ["a", "a"], seen: [seen, seen], ..quiet() }.found();
    for (seen, what) in [("c 0/3", What::Start), ("c 2/3", What::Start), ("c 3/3", What::Live)] {
        assert_eq!(one(seen, true), [on(SECOND, what)], "{seen}");
        assert_eq!(one(seen, false), [on(SECOND, What::Start)], "{seen}: only watched");
    }
}

#[test]
fn roles_are_the_traffics_not_the_rules() {
    let swapped = Case { seen: ["c 3/3", "b 3/3"], idle: Some(Ok(FIRST)), ..quiet() };
    assert_eq!(swapped.found(), [on(FIRST, What::Start)]);
}

#[test]
fn replicas_are_no_release() {
    for seen in ["b 1/9", "b 0/0", "b 9/9"] {
        assert_eq!(Case { seen: ["a 3/3", seen], ..quiet() }.found(), [], "{seen}");
        assert_eq!(Case { seen: ["a 2/8", seen], on_trial: None, idle: None, ..quiet() }.found(), [], "{seen}");
    }
}

#[test]
fn the_first_sight_is_no_change_and_what_appears_later_is() {
    let first = Case { known: [".", "."], seen: ["a 3/3", "-"], ..quiet() };
    assert_eq!(first.found(), [note(FIRST, "a", Why::First), on(SECOND, What::Note { template: None, why: Why::First })]);
    let appears = Case { known: ["a", "-"], seen: ["a 3/3", "b 3/3"], ..quiet() };
    assert_eq!(appears.found(), [on(SECOND, What::Start)]);
    let gone = Case { seen: ["a 3/3", "-"], ..quiet() };
    assert_eq!(gone.found(), [on(SECOND, What::Note { template: None, why: Why::Gone })]);
    assert_eq!(Case { known: ["a", "-"], seen: ["a 3/3", "-"], ..quiet() }.found(), []);
}

#[test]
fn could_not_look_finds_nothing() {
    assert_eq!(Case { seen: ["?", "?"], known: [".", "."], ..quiet() }.found(), []);
    assert_eq!(Case { seen: ["a 3/3", "?"], ..quiet() }.found(), []);
    assert_eq!(Case { seen: ["?", "?"], on_trial: trial(State::Progressing { step: 0 }), ..quiet() }.found(), []);
}

#[test]
fn what_carries_the_traffic_is_told_and_not_started() {
    assert_eq!(Case { seen: ["c 3/3", "b 3/3"], ..quiet() }.found(), [on(FIRST, What::Live)]);
    assert_eq!(Case { seen: ["c 1/3", "b 3/3"], automatic: false, ..quiet() }.found(), [on(FIRST, What::Live)]);
    let both = Case { seen: ["c 3/3", "d 3/3"], ..quiet() };
    assert_eq!(both.found(), [on(FIRST, What::Live), on(SECOND, What::Start)]);
}

#[test]
fn what_was_promoted_is_no_news_though_nobody_came_to_note_it() {
    let with = |seen, promoted| Case { seen, promoted: Some(promoted), ..quiet() }.found();
    assert_eq!(with(["c 3/3", "b 3/3"], "c"), [note(FIRST, "c", Why::Promoted)]);
    assert_eq!(with(["d 3/3", "b 3/3"], "c"), [on(FIRST, What::Live)], "a newer one");
    // somebody made stable equal to it
    assert_eq!(with(["c' 3/3", "c 3/3"], "c"), [note(FIRST, "c'", Why::Promoted), note(SECOND, "c", Why::Same)]);
    assert_eq!(with(["d 3/3", "c 3/3"], "c"), [on(FIRST, What::Live), on(SECOND, What::Start)], "or to something else");
}

#[test]
fn the_traffic_is_asked_for_only_where_something_is_new() {
    assert_eq!(Case { idle: None, ..quiet() }.found(), []);
    assert_eq!(Case { idle: None, seen: ["a 3/3", "c 3/3"], ..quiet() }.found(), [on(SECOND, What::AskTraffic)]);
    let split = Case { idle: Some(Err("shop-v2 carries 30%".to_owned())), seen: ["a 3/3", "c 3/3"], ..quiet() };
    assert_eq!(split.found(), [on(SECOND, What::Unclear("shop-v2 carries 30%".to_owned()))]);
}

#[test]
fn what_was_rolled_back_stays_out_and_what_was_there_before_may_come_back() {
    let again = Case { seen: ["a 3/3", "c 3/3"], rolled_back: &["c"], ..quiet() };
    assert_eq!(again.found(), [on(SECOND, What::RolledBack)]);
    // undone, by us or by hand: the template before is still the known one
    assert_eq!(Case { rolled_back: &["c"], ..quiet() }.found(), []);
    assert_eq!(Case { rolled_back: &["c"], seen: ["a 3/3", "d 3/3"], ..quiet() }.found(), [on(SECOND, What::Start)]);
}

#[test]
fn what_the_live_workload_runs_already_is_no_release() {
    assert_eq!(Case { seen: ["a 3/3", "a' 0/3"], ..quiet() }.found(), [note(SECOND, "a'", Why::Same)]);
}

#[test]
fn manual_rules_only_note() {
    assert_eq!(Case { automatic: false, seen: ["a 3/3", "c 0/3"], ..quiet() }.found(), [note(SECOND, "c", Why::Manual)]);
}

#[test]
fn a_newer_template_takes_the_place_of_what_is_on_trial_ready_or_not() {
    let paused = State::Paused(Paused { by: "eve".to_owned(), why: String::new(), since: Timestamp::default() });
    for state in [State::Waiting(Waiting::Router), State::Progressing { step: 1 }, State::Baking { step: 2 }, paused] {
        let with = |seen| Case { seen: ["a 3/3", seen], on_trial: trial(state.clone()), ..quiet() }.found();
        assert_eq!(with("c 3/3"), [], "it is on trial itself");
        assert_eq!(with("d 0/3"), [on(SECOND, What::Supersede)]);
        assert_eq!(with("b 3/3"), [on(SECOND, What::Supersede)], "somebody has undone it");
        assert_eq!(with("-"), []);
    }
    // afterwards it is a release like any other; what was undone is none
    assert_eq!(Case { seen: ["a 3/3", "d 3/3"], ..quiet() }.found(), [on(SECOND, What::Start)]);
    assert_eq!(quiet().found(), []);
}

#[test]
fn while_we_act_on_workloads_nothing_is_a_release() {
    let all = [Promoting::Copying, Promoting::WaitingReady, Promoting::ShiftingBack, Promoting::Settling];
    let copying = all.map(State::Promoting);
    for state in copying.into_iter().chain([State::RollingBack]) {
        assert_eq!(Case { seen: ["c 1/3", "d 1/3"], on_trial: trial(state), ..quiet() }.found(), []);
    }
}

#[test]
fn the_baseline_under_a_rollout_is_told_unless_somebody_is_to_make_it_equal() {
    let with = |state| Case { seen: ["d 3/3", "c 3/3"], on_trial: trial(state), ..quiet() }.found();
    assert_eq!(with(State::Progressing { step: 1 }), [on(FIRST, What::Live)]);
    assert_eq!(with(State::Promoting(Promoting::External)), []);
    // asked of a person meanwhile, or in trouble
    let paused = State::Paused(Paused { by: "policy".to_owned(), why: String::new(), since: Timestamp::default() });
    assert_eq!(with(paused.clone()), [on(FIRST, What::Live)]);
    let all = trial(paused.clone()).map(|trial| OnTrial { has_all: true, ..trial });
    assert_eq!(Case { seen: ["d 3/3", "c 3/3"], on_trial: all, ..quiet() }.found(), [], "it has no traffic");
    assert_eq!(Case { seen: ["c' 0/3", "c 3/3"], on_trial: trial(paused), ..quiet() }.found(), [], "it is made equal");
}

#[test]
fn a_rollout_that_began_without_a_cluster_is_left_alone() {
    let blind = OnTrial { canary: SECOND, template: None, state: State::Progressing { step: 0 }, has_all: false };
    assert_eq!(Case { known: ["a", "."], seen: ["a 3/3", "d 3/3"], on_trial: Some(blind), ..quiet() }.found(), []);
}

#[test]
fn a_rolling_update_is_a_release_from_its_first_pod() {
    let one = |known, seen, rolled_back| {
        let case = Case { form: WorkloadForm::One, known: [known; 2], seen: [seen; 2], idle: None, rolled_back, ..quiet() };
        case.found()
    };
    assert_eq!(one("a", "a 3/3", &[]), []);
    assert_eq!(one("a", "c 0/3", &[]), [on(SECOND, What::Start)]);
    assert_eq!(one("a", "c 0/3", &["c"]), [on(SECOND, What::RolledBack)]);
    assert_eq!(one(".", "a 3/3", &[]), [note(SECOND, "a", Why::First)]);
    let newer =
        Case { form: WorkloadForm::One, known: ["a"; 2], seen: ["d 0/3"; 2], on_trial: trial(State::Progressing { step: 0 }), ..quiet() };
    assert_eq!(newer.found(), [on(SECOND, What::Supersede)]);
}
