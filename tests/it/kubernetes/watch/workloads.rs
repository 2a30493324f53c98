//! Which pods are whose through scaling, a new release and its undoing.

use super::{Shop, now, until};
use crate::rig::kubernetes;
use canaryd::cluster::Cluster;
use canaryd::model::rule::{Target, WorkloadForm, Workloads};
use canaryd::model::{Pod, Side};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_are_followed_through_scaling_a_release_and_its_undoing() {
    let Some(plane) = kubernetes::shared().await else { return };
    let shop = Shop::open(plane, "watch-pods").await;
    let (b, pair) = (shop.target("web-b"), shop.pair());
    assert_eq!(shop.cluster.release(&b).unwrap_err(), "Deployment watch-pods/web-b: not looked yet");
    assert!(Cluster::covers(&pair) && !Cluster::covers(&Workloads { sides: [b.clone(), Target::default()], ..pair.clone() }));
    shop.stock().await;
    assert_eq!(shop.cluster.release(&shop.target("web-c")), Ok(None), "looked, and there is none");
    let first = shop.ready("web-b").await;
    assert_eq!((first.version.as_str(), first.replicas, first.ready_replicas), ("web:v1", 1, 1));
    assert_ne!(first.template, shop.ready("web-a").await.template, "its labels are others");
    let begin = now();
    assert!(shop.cluster.pods(&b, begin - std::time::Duration::from_secs(3600), begin).is_none(), "nobody looked then");
    let old = shop.pods_once(&b, begin, |pods| pods.len() == 1 && pods[0].ready && pods[0].ip.is_some()).await;
    assert!(old[0].created <= begin, "{old:?}");

    // scaling is no release
    shop.kubectl(&["scale", "deployment/web-b", "--replicas=3"]).await;
    shop.seen("three pods", begin, |seen| seen.canary.ready == 3).await;
    let three = || shop.cluster.release(&b).unwrap().filter(|r| r.ready && r.replicas == 3);
    let scaled = until("three replicas are ready", three).await;
    assert_eq!(scaled.template, first.template);

    // a release: its pods are new, and those before it are remembered
    shop.deploy("web-b", 3, "registry.example/team/web:v2", "").await;
    let second = until("v2 is ready", || shop.cluster.release(&b).unwrap().filter(|r| r.version == "web:v2" && r.ready)).await;
    assert_ne!(second.template, first.template);
    let seen = shop.seen("the old pods are gone", begin, |seen| seen.canary.pods == 3 && seen.canary.ready == 3).await;
    assert_eq!((seen.baseline.wanted, seen.baseline.ready, seen.canary.wanted), (2, 2, 3));
    assert!(seen.canary.trouble.is_empty() && seen.canary.signs == Default::default(), "{seen:?}");
    // one that is on its way out may be called ready until it is gone
    let all = shop.pods_once(&b, begin, |pods| pods.len() >= 6 && pods.iter().filter(|p| p.ready).count() == 3).await;
    assert!(all.contains(&Pod { ready: false, ..old[0].clone() }), "{all:?}");

    // undone: the same template as at first, of the same name
    shop.kubectl(&["rollout", "undo", "deployment/web-b"]).await;
    let undone = until("v1 is ready", || shop.cluster.release(&b).unwrap().filter(|r| r.version == "web:v1" && r.ready)).await;
    assert_eq!(undone.template, first.template);
    shop.kubectl(&["delete", "deployment", "web-b"]).await;
    until("web-b is gone", || shop.cluster.release(&b).unwrap().is_none().then_some(())).await;
    let seen = shop.seen("no pod", begin, |seen| seen.canary.pods == 0).await;
    assert_eq!(seen.canary.trouble, "Deployment watch-pods/web-b does not exist");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_update_has_two_arms() {
    let Some(plane) = kubernetes::shared().await else { return };
    let shop = Shop::open(plane, "watch-one").await;
    let web = shop.target("web");
    let one = Workloads { form: WorkloadForm::One, sides: [web.clone(), web.clone()] };
    let arm = |which: &str| {
        let mut target = web.clone();
        target.fields.insert(Target::REPLICASET.to_owned(), which.to_owned());
        target
    };
    shop.deploy("web", 4, "web:v1", "").await;
    shop.cluster.follow(&one);
    shop.ready("web").await;
    let begin = now();
    // it never becomes ready: the update stops half way
    shop.deploy("web", 4, "web:v2", "unready").await;
    let halfway = until("half way", || {
        let seen = shop.cluster.seen(&one, Side::Second, begin).ok()?;
        // pods, ReplicaSets and Deployments are told one after another
        let pods = (seen.canary.pods, seen.baseline.pods) == (2, 3) && seen.canary.trouble.contains("is not ready");
        (pods && (seen.canary.wanted, seen.baseline.wanted) == (2, 3)).then_some(seen)
    })
    .await;
    assert_eq!((halfway.canary.ready, halfway.baseline.ready), (0, 3));
    let release = until("the release", || shop.cluster.release(&web).unwrap().filter(|r| r.version == "web:v2")).await;
    assert_eq!((release.ready, release.ready_replicas), (false, 0));
    let (new, old) = (shop.pods(&arm("new"), begin), shop.pods(&arm("old"), begin));
    assert!(new.len() == 2 && new.iter().all(|p| !p.ready) && old.len() == 4, "{new:?} {old:?}");
    assert_eq!(shop.pods(&web, begin).len(), 6);
    let noted = shop.cluster.note(&one, Side::Second).await.unwrap();
    assert_eq!((noted.baseline_ready, noted.canary_wanted), (4, 4));
    assert!(noted.template_before.unwrap().contains("web:v1"));
}
