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
    Plan::of(found, &trial(), &Note { template: trial().template, weight: weight(percent), rests_paused })
}

/// Paused or not, and what follows in a word.
fn said(found: &Found, percent: u16) -> (bool, &'static str) {
    let plan = plan(found, percent, false).unwrap();
    let next = match plan.next {
        Next::Done => "done",
        Next::Wait(_) => "wait",
        Next::Scale { replicas: 0, .. } => "end",
        Next::Scale { .. } => "grow",
    };
    (plan.paused, next)
}

#[test]
fn it_goes_on_until_enough_pods_are_asked_for_and_stands_while_they_start() {
    for (pods, paused, percent, wanted) in [
        ([("old", 10, 10), ("new", 0, 0)], true, 5, (false, "wait")),
        ([("old", 10, 10), ("new", 3, 0)], false, 5, (true, "wait")),
        ([("old", 10, 10), ("new", 3, 3)], true, 5, (true, "done")),
        // 3 of 13, also where the controller has not filled the sum up yet
        ([("old", 8, 8), ("new", 3, 3)], true, 25, (false, "wait")),
        ([("old", 8, 8), ("new", 5, 0)], false, 25, (true, "wait")),
        ([("old", 8, 8), ("new", 5, 2)], true, 25, (true, "wait")),
        ([("old", 8, 8), ("new", 5, 3)], true, 25, (true, "done")),
        ([("old", 8, 8), ("new", 5, 5)], true, 25, (true, "done")),
        // all are asked for: no share can be finer
        ([("old", 3, 3), ("new", 10, 10)], true, 90, (true, "wait")),
        ([("old", 0, 0), ("new", 10, 10)], true, 90, (true, "done")),
    ] {
        assert_eq!(said(&found("new", paused, &pods), percent), wanted, "{pods:?} to {percent} %");
    }
    let mut unseen = found("new", true, &[("old", 10, 10), ("new", 3, 3)]);
    unseen.deployment["status"]["observedGeneration"] = 3.into();
    assert_eq!(said(&unseen, 5), (true, "wait"), "its controller may still be making more");
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
    assert_eq!(said(&found("new", true, &[("old", 8, 8), ("new", 5, 5)]), 100), (false, "wait"));
    let undo = plan(&found("new", true, &[("old", 8, 8), ("new", 5, 5)]), 0, true).unwrap();
    assert_eq!((undo.paused, undo.template), (false, Some(template("old"))));
    assert_eq!(said(&found("old", false, &[("old", 10, 9), ("new", 0, 1)]), 0), (false, "wait"), "one still serves");
    // what its controller has not seen stays as it is, or the two would take turns
    for (image, pods, percent) in [("new", complete, 100), ("old", [("old", 10, 10), ("new", 0, 0)], 0)] {
        for paused in [false, true] {
            let mut unseen = found(image, paused, &pods);
            unseen.deployment["status"]["observedGeneration"] = 3.into();
            assert_eq!(said(&unseen, percent), (paused, "wait"));
        }
    }
}

#[test]
fn a_newer_template_is_never_touched() {
    let newer = |paused, pods: &[(&str, u64, u64)]| found("newer", paused, pods);
    assert!(plan(&newer(true, &[]), 50, false).unwrap_err().contains("has another template than the one on trial"));
    for (found, wanted) in [
        (newer(false, &[("old", 8, 8), ("new", 5, 5)]), (true, "wait")),
        (newer(true, &[("old", 8, 8), ("new", 5, 5)]), (true, "end")),
        (newer(true, &[("old", 0, 0), ("new", 10, 10)]), (true, "grow")),
        (newer(true, &[("old", 3, 1), ("new", 10, 10)]), (true, "wait")),
        (newer(true, &[("old", 5, 5), ("new", 8, 8)]), (true, "end")),
        (newer(true, &[("old", 10, 10), ("new", 0, 1)]), (true, "wait")),
        (newer(true, &[("old", 10, 7), ("new", 0, 0)]), (true, "done")),
        // it began before it was stopped: it ends, as long as others can serve
        (newer(true, &[("old", 0, 0), ("new", 8, 8), ("newer", 5, 1)]), (true, "end")),
        (newer(true, &[("old", 0, 0), ("new", 2, 2), ("newer", 10, 10)]), (true, "end")),
        (newer(true, &[("old", 0, 0), ("newer", 10, 10)]), (true, "done")),
    ] {
        assert_eq!(said(&found, 0), wanted);
        assert_eq!(plan(&found, 0, false).unwrap().template, None);
    }
    let gone = plan(&newer(true, &[("new", 10, 10)]), 0, false).unwrap_err();
    assert!(gone.contains("is gone: roll it back by hand"), "{gone}");
}

#[test]
fn a_note_says_how_it_is_left_and_whose_pause_it_was() {
    let managed = |manager: &str| json!([{"manager": manager, "time": "1", "fieldsV1": {"f:spec": {"f:paused": {}, "f:template": {}}}}]);
    let mut deployment = found("new", false, &[]).deployment;
    let first = Note::first(&deployment, trial().template);
    assert!(!first.rests_paused);
    deployment["metadata"]["annotations"] = json!({"canaryd.io/rolling-update": first.operation()["value"]});
    assert_eq!(Note::of(&deployment), Some(first.clone()));
    (deployment["spec"]["paused"], deployment["metadata"]["managedFields"]) = (true.into(), managed("canaryd"));
    assert!(!Note::first(&deployment, "another".to_owned()).rests_paused, "the pause is ours, of the rollout before");
    deployment["metadata"]["managedFields"] = managed("kubectl");
    assert!(Note::first(&deployment, "another".to_owned()).rests_paused);
    assert!(!Note::next(&deployment, &trial(), weight(5)).rests_paused, "noted at the start of this one");
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
    let note = Note { template: trial().template, weight: Weight::ZERO, rests_paused: false };
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
