use super::found::Size;
use super::*;
use crate::router::kubernetes::rolling::state::{hand, is_paused, stopped};

fn template(image: &str) -> Value {
    json!({"spec": {"containers": [{"image": image}]}})
}

fn weight(percent: u16) -> Weight {
    Weight::from_permille(percent * 10).unwrap()
}

/// `old`, `new` and `newer` pods asked for and ready, of 10 replicas of which 3 more may be started at once.
fn found(image: &str, paused: bool, pods: &[(&str, u64, u64)]) -> Found {
    let set = |(image, asked, ready): &(&str, u64, u64)| {
        json!({"metadata": {"name": image}, "spec": {"replicas": asked, "template": template(image)},
            "status": {"readyReplicas": ready, "availableReplicas": ready}})
    };
    let of = |image: &str| pods.iter().filter(|pod| pod.0 == image).fold((0, 0), |sum, pod| (sum.0 + pod.1, sum.1 + pod.2));
    let (all, updated) = (pods.iter().map(|pod| pod.1).sum::<u64>(), of(image));
    let available = pods.iter().map(|pod| pod.2).sum::<u64>();
    let update = json!({"maxSurge": "25%", "maxUnavailable": 2});
    let mut deployment = json!({
        "metadata": {"generation": 4, "resourceVersion": "9"},
        "spec": {"replicas": 10, "template": template(image), "strategy": {"type": "RollingUpdate", "rollingUpdate": update}},
        "status": {"observedGeneration": 4, "replicas": all, "updatedReplicas": updated.0, "availableReplicas": available},
    });
    if paused {
        deployment["spec"]["paused"] = true.into();
    }
    Found { deployment, sets: pods.iter().map(set).collect() }
}

fn trial() -> Trial {
    Trial::of(&Noted { template: identity(&template("new")), template_before: Some(template("old").to_string()), ..Noted::default() })
}

fn plan(found: &Found, percent: u16, rests_paused: bool) -> Result<Plan, String> {
    Plan::of(found, &trial(), &Note { template: trial().template, weight: weight(percent), rests_paused, sets: [None, None] })
}

/// Paused or not, and what follows in a word.
fn said(found: &Found, percent: u16) -> (bool, String) {
    let plan = plan(found, percent, false).unwrap();
    let next = match plan.next {
        Next::Done => "done".to_owned(),
        Next::Wait(_) => "wait".to_owned(),
        Next::Begin(_) => "begin".to_owned(),
        Next::Scale { set, replicas, .. } => format!("{} {replicas}", set["metadata"]["name"].as_str().unwrap()),
    };
    (plan.paused, next)
}

/// With these numbers, paused and seen by its controller.
fn sized(size: Size, asked: [u64; 2], available: [u64; 2], old_is_older: bool) -> Found {
    let mut found = found("new", true, &[("old", asked[0], available[0]), ("new", asked[1], available[1])]);
    let made =
        if old_is_older { ["2026-11-21T10:00:00Z", "2026-11-21T11:00:00Z"] } else { ["2026-11-21T11:00:00Z", "2026-11-21T10:00:00Z"] };
    (0..2).for_each(|i| found.sets[i]["metadata"]["creationTimestamp"] = made[i].into());
    found.deployment["spec"]["replicas"] = size.replicas.into();
    let update = json!({"maxSurge": size.surge, "maxUnavailable": size.unavailable});
    found.deployment["spec"]["strategy"]["rollingUpdate"] = update;
    found
}

#[test]
fn a_part_is_the_fewest_pods_that_are_it_and_never_all() {
    for (replicas, surge, unavailable, wanted) in [
        // 1 of 13 is 8 %; 10 of 13 would end the old ones, so it is 11
        (10, 3, 2, [(5, 1), (25, 4), (50, 7), (75, 11), (90, 12), (99, 12)]),
        (4, 1, 1, [(5, 1), (25, 2), (50, 3), (75, 3), (90, 3), (99, 3)]),
        (4, 0, 1, [(5, 1), (25, 1), (50, 2), (75, 3), (90, 3), (99, 3)]),
        (2, 1, 0, [(5, 1), (25, 1), (50, 1), (75, 1), (90, 1), (99, 1)]),
        (2, 2, 0, [(5, 1), (25, 1), (50, 3), (75, 3), (90, 3), (99, 3)]),
        (100, 25, 25, [(5, 7), (25, 32), (50, 63), (75, 94), (80, 101), (99, 124)]),
    ] {
        let size = Size { replicas, surge, unavailable };
        for (percent, new) in wanted {
            assert_eq!(size.part(weight(percent)), new, "{percent} % of {size:?}");
        }
    }
    let said = |percent| Size { replicas: 4, surge: 1, unavailable: 1 }.foretell(weight(percent));
    assert_eq!(said(5).as_deref(), Some("the step of 5% will be 1 of 5 pods, 20%: fewer are no such share (4 replicas, maxSurge 1)"));
    assert_eq!(said(90).as_deref(), Some("the step of 90% will be 3 of 5 pods, 60%: more would be all of them (4 replicas, maxSurge 1)"));
    assert_eq!([said(50), said(100), said(0)], [None, None, None], "60 % is not much more");
    let spec = json!({"spec": {"replicas": 10, "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}}});
    assert_eq!(Size::of(&spec), Size { replicas: 10, surge: 3, unavailable: 2 }, "up and down, as its controller does");
}

#[test]
fn pods_change_sides_batch_by_batch_while_it_stands() {
    for (pods, paused, percent, wanted) in [
        // it is let go on for nothing
        (vec![("old", 10, 10)], true, 5, (true, "begin")),
        (vec![("old", 10, 10)], false, 5, (true, "wait")),
        (vec![("old", 10, 10), ("new", 0, 0)], true, 5, (true, "new 1")),
        (vec![("old", 10, 10), ("new", 3, 0)], false, 5, (true, "wait")),
        // it makes as many as it may at once: all but one end
        (vec![("old", 10, 10), ("new", 3, 0)], true, 5, (true, "new 1")),
        (vec![("old", 12, 12), ("new", 1, 0)], true, 5, (true, "wait")),
        (vec![("old", 12, 12), ("new", 1, 1)], true, 5, (true, "done")),
        (vec![("old", 12, 12), ("new", 1, 1)], true, 25, (true, "new 4")),
        (vec![("old", 9, 9), ("new", 4, 3)], true, 25, (true, "wait")),
        // its controller has not ended the others yet
        (vec![("old", 12, 12), ("new", 4, 4)], true, 25, (true, "wait")),
        (vec![("old", 9, 9), ("new", 4, 4)], true, 50, (true, "new 7")),
        // the larger gets what the smaller gives, never as many as there are replicas
        (vec![("old", 6, 6), ("new", 7, 7)], true, 75, (true, "old 2")),
        (vec![("old", 3, 3), ("new", 10, 10)], true, 75, (true, "old 2")),
        (vec![("old", 2, 2), ("new", 11, 11)], true, 75, (true, "done")),
        // two that are not ready are all that may be missing
        (vec![("old", 9, 6), ("new", 4, 4)], true, 50, (true, "new 6")),
        (vec![("old", 9, 4), ("new", 4, 4)], true, 50, (true, "wait")),
        // somebody let it go on: there is no way back but 0 %
        (vec![("old", 0, 0), ("new", 10, 10)], true, 75, (true, "done")),
        (vec![("old", 0, 0), ("new", 10, 9)], true, 75, (true, "wait")),
    ] {
        assert_eq!(said(&found("new", paused, &pods), percent), (wanted.0, wanted.1.to_owned()), "{pods:?} to {percent} %");
    }
    let mut unseen = found("new", true, &[("old", 10, 10), ("new", 0, 0)]);
    unseen.deployment["status"]["observedGeneration"] = 3.into();
    assert_eq!(said(&unseen, 5), (true, "wait".to_owned()), "its controller may still be making some");
    unseen.sets.truncate(1);
    assert_eq!(said(&unseen, 5), (true, "wait".to_owned()), "or their ReplicaSet");
    unseen.deployment["spec"]["paused"] = false.into();
    assert_eq!(said(&unseen, 5), (false, "wait".to_owned()), "where it was let go on to");
}

/// What its controller does with the numbers of a paused Deployment (`scale` of Kubernetes 1.37), the old ReplicaSet first.
fn answer(size: Size, [old, new]: [u64; 2], available: [u64; 2], old_is_older: bool) -> [u64; 2] {
    match [old, new] {
        [0, _] => [0, size.replicas],
        [_, 0] => [size.replicas, 0],
        _ if new == size.replicas && available[1] == new => [0, new],
        _ if old + new < size.whole() => {
            let rest = size.whole() - old - new;
            if old > new || (old == new && !old_is_older) { [old + rest, new] } else { [old, new + rest] }
        }
        _ => {
            let above = old + new - size.whole();
            if old > new || (old == new && old_is_older) { [old - above, new] } else { [old, new - above] }
        }
    }
}

#[test]
fn every_part_is_come_by_with_any_numbers_and_no_more_pods_are_missing_than_the_strategy_lets_go() {
    for (replicas, surge, unavailable) in (2..=13).flat_map(|n| (0..=n).flat_map(move |s| (0..=n).map(move |u| (n, s, u)))) {
        let size = Size { replicas, surge, unavailable };
        if surge + unavailable == 0 {
            continue; // the API server refuses it
        }
        for old_is_older in [true, false] {
            let (mut asked, mut available) = ([replicas, 0], [replicas, 0]);
            for percent in [1, 5, 25, 50, 75, 99] {
                let mut moves = 0;
                loop {
                    let found = sized(size, asked, available, old_is_older);
                    match plan(&found, percent, false).unwrap() {
                        Plan { next: Next::Done, .. } => break,
                        Plan { next: Next::Scale { set, replicas, .. }, .. } => {
                            asked[usize::from(set["metadata"]["name"] == "new")] = replicas;
                        }
                        // a tie that its controller alone can solve
                        Plan { paused: false, .. } => {
                            asked[1] += size.batch().min(replicas - asked[1]);
                            asked[0] = asked[0].min(size.whole() - asked[1]);
                        }
                        Plan { .. } => {}
                    }
                    for _ in 0..3 {
                        asked = answer(size, asked, available, old_is_older);
                        available = [0, 1].map(|i| available[i].min(asked[i]));
                    }
                    let least = replicas - unavailable.min(replicas);
                    assert!(available[0] + available[1] >= least, "{size:?} {percent} %: {asked:?} {available:?}");
                    // one more pod at a time becomes ready
                    let late = usize::from(available[0] == asked[0]);
                    available[late] = (available[late] + 1).min(asked[late]);
                    moves += 1;
                    assert!(moves < 200, "{size:?} {percent} %, {old_is_older}: {asked:?} {available:?}");
                }
                let part = size.part(weight(percent));
                assert!(asked[1] == part || !old_is_older, "{size:?} {percent} %: {asked:?}");
            }
        }
    }
}

#[test]
fn all_of_it_and_back_end_as_it_was_found() {
    let complete = [("old", 0, 0), ("new", 10, 10)];
    for (rests, paused) in [(false, false), (true, true)] {
        let done = Ok(Plan { paused, template: None, next: Next::Done });
        assert_eq!(plan(&found("new", false, &complete), 100, rests), done);
        assert_eq!(plan(&found("new", true, &complete), 100, rests), done);
        assert_eq!(plan(&found("old", true, &[("old", 10, 10), ("new", 0, 0)]), 0, rests), done);
    }
    assert_eq!(said(&found("new", true, &[("old", 8, 8), ("new", 5, 5)]), 100), (false, "wait".to_owned()));
    let undo = plan(&found("new", true, &[("old", 8, 8), ("new", 5, 5)]), 0, true).unwrap();
    assert_eq!((undo.paused, undo.template), (false, Some(template("old"))));
    assert_eq!(said(&found("old", false, &[("old", 10, 9), ("new", 0, 1)]), 0), (false, "wait".to_owned()), "one still serves");
    // what its controller has not seen stays as it is, or the two would take turns
    for (image, pods, percent) in [("new", complete, 100), ("old", [("old", 10, 10), ("new", 0, 0)], 0)] {
        for paused in [false, true] {
            let mut unseen = found(image, paused, &pods);
            unseen.deployment["status"]["observedGeneration"] = 3.into();
            assert_eq!(said(&unseen, percent), (paused, "wait".to_owned()));
        }
    }
}

#[test]
fn a_newer_template_is_never_touched() {
    let newer = |paused, pods: &[(&str, u64, u64)]| found("newer", paused, pods);
    assert!(plan(&newer(true, &[]), 50, false).unwrap_err().contains("has another template than the one on trial"));
    for (found, wanted) in [
        (newer(false, &[("old", 8, 8), ("new", 5, 5)]), (true, "wait")),
        (newer(true, &[("old", 8, 8), ("new", 5, 5)]), (true, "new 0")),
        (newer(true, &[("old", 0, 0), ("new", 10, 10)]), (true, "old 3")),
        (newer(true, &[("old", 3, 1), ("new", 10, 10)]), (true, "wait")),
        (newer(true, &[("old", 5, 5), ("new", 8, 8)]), (true, "new 0")),
        (newer(true, &[("old", 10, 10), ("new", 0, 1)]), (true, "wait")),
        (newer(true, &[("old", 10, 7), ("new", 0, 0)]), (true, "done")),
        // it began before it was stopped: it ends, as long as others can serve
        (newer(true, &[("old", 0, 0), ("new", 8, 8), ("newer", 5, 1)]), (true, "newer 0")),
        (newer(true, &[("old", 0, 0), ("new", 2, 2), ("newer", 10, 10)]), (true, "new 0")),
        (newer(true, &[("old", 0, 0), ("newer", 10, 10)]), (true, "done")),
    ] {
        assert_eq!(said(&found, 0), (wanted.0, wanted.1.to_owned()));
        assert_eq!(plan(&found, 0, false).unwrap().template, None);
    }
    let gone = plan(&newer(true, &[("new", 10, 10)]), 0, false).unwrap_err();
    assert!(gone.contains("is gone: roll it back by hand"), "{gone}");
}

#[test]
fn a_note_says_how_it_is_left_and_whose_pause_it_was() {
    let managed = |manager: &str| json!([{"manager": manager, "time": "1", "fieldsV1": {"f:spec": {"f:paused": {}, "f:template": {}}}}]);
    let mut deployment = found("new", false, &[]).deployment;
    let first_of = |deployment: &Value, template: &str| {
        Note::first(&Found { deployment: deployment.clone(), sets: Vec::new() }, &Trial { template: template.to_owned(), before: None })
    };
    let first = first_of(&deployment, &trial().template);
    assert!(!first.rests_paused);
    deployment["metadata"]["annotations"] = json!({"canaryd.io/rolling-update": first.operation()["value"]});
    assert_eq!(Note::of(&deployment), Some(first.clone()));
    (deployment["spec"]["paused"], deployment["metadata"]["managedFields"]) = (true.into(), managed("canaryd"));
    assert!(!first_of(&deployment, "another").rests_paused, "the pause is ours, of the rollout before");
    deployment["metadata"]["managedFields"] = managed("kubectl");
    assert!(first_of(&deployment, "another").rests_paused);
    assert!(
        !Note::next(&Found { deployment: deployment.clone(), sets: Vec::new() }, &trial(), weight(5)).rests_paused,
        "noted at the start of this one"
    );
    let quarter = Note { weight: weight(25), ..first.clone() };
    assert!(quarter.agrees(&deployment) && !first.agrees(&deployment));
    assert_eq!(hand(&deployment, Some(&Note { template: "x".to_owned(), ..quarter.clone() })).as_deref(), Some("kubectl"));
    deployment["spec"]["paused"] = false.into();
    assert!(!quarter.agrees(&deployment) && Note { weight: Weight::FULL, ..quarter.clone() }.agrees(&deployment));
    let operations = stopped(&deployment, &quarter);
    assert!(operations.contains(&json!({"op": "add", "path": "/spec/paused", "value": true})) && !is_paused(&deployment));
    for broken in ["", "{}", "[1]", r#"{"template": "x", "permille": 1001, "rests-paused": false}"#] {
        deployment["metadata"]["annotations"] = json!({"canaryd.io/rolling-update": broken});
        assert_eq!(Note::of(&deployment), None, "{broken}");
    }
}

#[test]
fn what_is_written_tests_what_was_read() {
    let found = found("new", true, &[]);
    let note = Note { template: trial().template, weight: Weight::ZERO, rests_paused: false, sets: [None, None] };
    let plan = Plan { paused: false, template: Some(template("old")), next: Next::Done };
    let paths: Vec<(Value, Value)> = changes(&found, &plan, &note).into_iter().map(|op| (op["op"].clone(), op["path"].clone())).collect();
    let wanted = [
        ("test", "/spec/template"),
        ("test", "/spec/paused"),
        ("replace", "/spec/template"),
        ("add", "/spec/paused"),
        ("add", "/metadata/annotations/canaryd.io~1rolling-update"),
    ];
    assert_eq!(paths, wanted.map(|(op, path)| (op.into(), path.into())));
}

#[test]
fn a_template_that_a_newer_api_server_reads_otherwise_is_the_same_one() {
    let mut found = found("new", true, &[("old", 3, 3), ("new", 2, 2)]);
    let note = Note::next(&found, &trial(), weight(25));
    assert_eq!(note.sets, [Some("new".to_owned()), Some("old".to_owned())]);
    found.deployment["metadata"]["annotations"] = json!({"canaryd.io/rolling-update": note.operation()["value"]});
    assert_eq!(found.note(), Some(note.clone()));
    let fill_in = |object: &mut Value| object["spec"]["template"]["spec"]["x-newer"] = 1.into();
    fill_in(&mut found.deployment);
    found.sets.iter_mut().for_each(fill_in);
    let called = trial().called(&found, Note::of(&found.deployment).as_ref());
    assert_eq!((&called.template, found.note().map(|n| n.template)), (&found.template(), Some(found.template())));
    assert!(found.note().is_some_and(|note| note.agrees(&found.deployment)));
    assert_eq!(called.before.as_ref().map(|(text, _)| text.clone()), Some(template("old")), "what is written back is what was noted");
    let back = found.set_of(&called.before.unwrap().1);
    assert_eq!(back.as_deref(), Some("old"));
    // another template is another, whatever was noted
    found.deployment["spec"]["template"] = template("newest");
    assert!(found.note().is_some_and(|note| !note.agrees(&found.deployment)));
}
