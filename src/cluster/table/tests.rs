use super::super::objects::Owner;
use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn deployment(template: &str) -> Deployment {
    let text = |s: &str| s.to_owned();
    Deployment {
        name: text("web"),
        uid: text("d"),
        generation: 1,
        wanted: 2,
        updated: 2,
        stalled: None,
        held: None,
        behind: false,
        template: text(template),
        program: text(template),
        version: text("web:v1"),
    }
}

fn set(uid: &str, template: &str, revision: u64) -> Set {
    let owner = Some(Owner { name: "web".to_owned(), uid: "d".to_owned() });
    Set { uid: uid.to_owned(), owner, wanted: 2, template: template.to_owned(), revision }
}

fn pod(uid: &str, set: &str) -> PodNow {
    PodNow {
        name: uid.to_owned(),
        uid: uid.to_owned(),
        set: set.to_owned(),
        ip: None,
        created: at(10),
        ending: false,
        ready: true,
        was_ready: Some(at(11)),
        probed_down: false,
        restarts: 0,
        ended: None,
        oom: None,
        crash: None,
        image: None,
        unready: String::new(),
    }
}

/// Deployment `web` of template `b` with its ReplicaSets `old` and `new`, a pod each.
fn table() -> Table {
    let mut table = Table::default();
    table.follow("web", at(0));
    table.deployments(vec![deployment("b")]);
    table.sets(vec![set("old", "a", 1), set("new", "b", 2)]);
    table.pods(vec![pod("p1", "old"), pod("p2", "new"), pod("stray", "")], at(20), at(20));
    table
}

fn names(table: &Table, which: Which) -> Vec<String> {
    let mut names: Vec<String> = table.pods_of("web", which).map(|p| p.now.name.clone()).collect();
    names.sort();
    names
}

#[test]
fn pods_belong_to_a_release_of_their_deployment() {
    let table = table();
    assert_eq!(names(&table, Which::All), ["p1", "p2"]);
    assert_eq!((names(&table, Which::New), names(&table, Which::Old)), (vec!["p2".to_owned()], vec!["p1".to_owned()]));
    assert_eq!((table.wanted("web", Which::All), table.wanted("web", Which::Old)), (2, 2));
    assert_eq!(table.pods_of("other", Which::All).count(), 0);
}

#[test]
fn the_release_before_is_the_newest_of_the_others_even_after_an_undo() {
    let mut table = table();
    table.sets(vec![set("older", "z", 1), set("old", "a", 2), set("new", "b", 3)]);
    assert_eq!(names(&table, Which::Old), ["p1"]);
    table.deployment(deployment("a"));
    table.set(set("old", "a", 4));
    assert_eq!((names(&table, Which::New), names(&table, Which::Old)), (vec!["p1".to_owned()], vec!["p2".to_owned()]));
    // by its template each is what it was, whichever of them the Deployment has
    assert_eq!((names(&table, Which::Of("a")), names(&table, Which::Of("b"))), (vec!["p1".to_owned()], vec!["p2".to_owned()]));
    assert_eq!((table.wanted("web", Which::Of("b")), table.wanted("web", Which::Of("x"))), (2, 0));
}

#[test]
fn a_pod_may_be_seen_before_its_replicaset_and_its_deployment() {
    let mut table = Table::default();
    table.follow("web", at(0));
    table.pod(pod("p2", "new"), at(20), at(20));
    assert_eq!((table.version(), names(&table, Which::All).len()), (0, 0), "nobody knows whose it is");
    table.set(set("new", "b", 1));
    assert_eq!((table.version(), names(&table, Which::All)), (1, vec!["p2".to_owned()]));
    assert_eq!(names(&table, Which::New).len(), 0);
    table.deployment(deployment("b"));
    assert_eq!(names(&table, Which::New), ["p2"]);
}

#[test]
fn a_replicaset_of_a_deployment_that_was_made_anew_is_not_its_present_release() {
    let mut table = table();
    table.deployment(Deployment { uid: "d2".to_owned(), ..deployment("b") });
    assert_eq!(names(&table, Which::New), Vec::<String>::new());
    assert_eq!(names(&table, Which::All), ["p1", "p2"], "by its name they are still its");
}

#[test]
fn a_list_that_brings_nothing_new_changes_nothing() {
    let mut table = table();
    let before = table.version();
    table.deployments(vec![deployment("b")]);
    table.sets(vec![set("old", "a", 1), set("new", "b", 2)]);
    table.pods(vec![pod("p1", "old"), pod("p2", "new")], at(20), at(500));
    assert_eq!((table.version(), table.changed("web")), (before, before));
    table.pods(vec![pod("p2", "new")], at(500), at(510));
    assert_eq!(table.changed("web"), before + 1);
    let gone: Vec<bool> = table.pods_of("web", Which::All).map(|p| p.gone.is_some()).collect();
    assert_eq!(gone.iter().filter(|g| **g).count(), 1, "gone, and remembered");
    table.deployments(vec![]);
    assert!(table.get("web").is_none() && table.changed("web") > before + 1);
}

#[test]
fn only_what_is_asked_about_is_marked_and_remembered() {
    let mut table = table();
    let before = table.version();
    let other = |name: &str| Deployment { name: name.to_owned(), ..deployment("x") };
    table.deployment(other("other"));
    table.set(Set { owner: Some(Owner { name: "other".to_owned(), uid: "d".to_owned() }), ..set("others", "x", 1) });
    table.pod(pod("p9", "others"), at(20), at(20));
    table.pod_gone("p9", at(30));
    assert_eq!((table.version(), table.changed("other")), (before, 0));
    assert_eq!(table.pods_of("other", Which::All).count(), 0, "forgotten at once");
}

#[test]
fn the_gone_are_remembered_for_a_day_with_their_replicaset() {
    let mut table = table();
    table.pod_gone("p1", at(100));
    table.set_gone("old");
    assert_eq!(names(&table, Which::All), ["p1", "p2"]);
    let day = GONE_FOR.as_secs() as i64;
    table.pod_gone("p2", at(100 + day));
    assert_eq!((names(&table, Which::All).len(), table.followed_since("web")), (2, Some(at(0))));
    table.pod(pod("p3", "new"), at(20), at(101 + day));
    table.pod_gone("p3", at(101 + day));
    assert_eq!(names(&table, Which::All), ["p2", "p3"]);
    assert_eq!(table.followed_since("web"), Some(at(100)), "what was before is not known any more");
    assert_eq!((table.sets.len(), table.sets_of["web"].len(), table.take_dropped()), (1, 1, 0));
}

#[test]
fn too_many_that_are_gone_are_forgotten_and_counted() {
    let mut table = table();
    for n in 0..GONE_MAX + 7 {
        let uid = format!("x{n}");
        table.pod(pod(&uid, "new"), at(20), at(20));
        table.pod_gone(&uid, at(30 + n as i64));
    }
    assert_eq!((table.gone.len(), table.set_of.len(), table.take_dropped()), (GONE_MAX, GONE_MAX + 2, 7));
    assert_eq!(table.followed_since("web"), Some(at(36)));
}

#[test]
fn events_are_counted_by_their_increments() {
    let mut table = table();
    let event = |uid: &str, count: u32, first: i64| Unhealthy {
        uid: uid.to_owned(),
        pod: "p2".to_owned(),
        count,
        first: Some(at(first)),
        startup: false,
        text: "Readiness probe failed".to_owned(),
    };
    let failed = |table: &Table, from: i64| table.pods_of("web", Which::New).map(|p| p.signs(at(from), at(900)).failed_probes).sum::<u32>();
    // what was there before us: one that began before the pod was ready says nothing, one that began after is dated by its beginning
    table.events(vec![event("a", 50, 5), event("b", 4, 100)], true, at(200));
    assert_eq!((failed(&table, 20), failed(&table, 150)), (4, 0));
    table.event(&event("a", 52, 5), at(210));
    table.event(&event("c", 1, 220), at(220));
    assert_eq!(failed(&table, 150), 3);
    // after a gap: the increments, and what is new
    table.events(vec![event("a", 53, 5), event("c", 1, 220), event("d", 2, 300)], false, at(400));
    assert_eq!((failed(&table, 150), failed(&table, 350)), (6, 3));
    assert_eq!(table.events.len(), 3, "b is gone");
    table.event(&Unhealthy { pod: "nobody".to_owned(), ..event("e", 9, 1) }, at(500));
    assert_eq!(failed(&table, 150), 6);
}

#[test]
fn what_nobody_asks_about_any_more_is_not_remembered() {
    let mut table = table();
    table.pod_gone("p1", at(30));
    table.follow_only(|name| name == "web");
    assert_eq!((names(&table, Which::All).len(), table.changed("web") > 0), (2, true), "it goes on");
    table.follow_only(|name| name == "other");
    assert_eq!((names(&table, Which::All), table.changed("web"), table.followed_since("web")), (vec!["p2".to_owned()], 0, None));
    table.pod_gone("p2", at(40));
    assert_eq!(names(&table, Which::All), Vec::<String>::new(), "nor what goes from now on");
}

#[test]
fn a_template_that_is_read_otherwise_is_found_by_what_it_was() {
    let mut table = table();
    // a newer API server fills in a field of all of them
    table.sets(vec![set("old", "a2", 1), set("new", "b2", 2)]);
    table.deployments(vec![deployment("b2")]);
    assert_eq!(names(&table, Which::Of("a")), ["p1"]);
    assert_eq!((names(&table, Which::Of("b")), table.called("b")), (vec!["p2".to_owned()], "b2"));
    table.sets(vec![set("old", "a3", 1), set("new", "b", 2)]);
    assert_eq!((names(&table, Which::Of("a")), names(&table, Which::Of("a2"))), (vec!["p1".to_owned()], vec!["p1".to_owned()]));
    assert_eq!((table.called("b"), table.called("b2")), ("b", "b"), "and the older one is back");
    // known from before this process
    let mut after = self::table();
    after.rename("z", "b");
    assert_eq!(names(&after, Which::Of("z")), ["p2"]);
}

#[test]
fn a_template_that_went_and_came_again_is_told_from_one_that_stayed() {
    let mut table = table();
    let mut numbers = Vec::new();
    for (generation, template) in [(1, "b"), (2, "b"), (2, "read otherwise"), (3, "a"), (4, "read otherwise"), (5, "read otherwise")] {
        table.deployment(Deployment { generation, ..deployment(template) });
        numbers.push(table.releases("web"));
    }
    assert_eq!(numbers, [0, 0, 0, 1, 2, 2]);
}
