//! etcd is put back to an earlier state in mid-rollout: weights, templates and versions go back, and every version that was seen is still
//! to come. Those who restore it are told to have it count on past all that was seen (`--bump-revision`); here nobody did.

use super::{NAMESPACE, Shop, VIRTUAL_SERVICE, at_half};
use crate::rig::poll;
use serde_json::json;

/// So many versions lie between what was kept and what was seen: far more than a test writes.
const VERSIONS: usize = 3000;

impl Shop {
    /// The cluster counts on, and every watch has seen how far: not by a list, which may have been under way before.
    fn goes_far(&self) {
        self.plane.count_on(VERSIONS);
        let (puts, mut tries) = (|| self.changes("\"put\""), 0);
        let before = puts();
        let seen = poll(super::SOON, || {
            tries += 1;
            for kind in ["deployments", "replicasets", "pods"] {
                // one of them may go meanwhile
                let _ =
                    self.plane.try_kubectl(&["annotate", kind, "-n", NAMESPACE, "--all", "--overwrite", &format!("seen={tries}")], None);
            }
            puts().iter().zip(&before).all(|(now, then)| now > then).then_some(())
        });
        assert!(seen.is_some(), "each has seen it: {before:?} {:?}", puts());
        self.tell(&format!("{VERSIONS} versions on, and each watch has seen it"));
    }
}

#[test]
fn an_etcd_that_was_put_back_is_read_anew_its_weight_written_again_and_its_templates_are_no_release() {
    let steps = "steps: [ { weight: 25%, for: 9h }, { weight: 50%, for: 9h }, { weight: 100%, bake: 1h } ]";
    let Some(mut shop) = Shop::up("restored", steps) else { return };
    shop.plane.keep_etcd("before");
    shop.release("shop-v2", "shop:2");
    shop.until("shop-1", "at 25 %", |v| v["weight-seen-permille"] == 250);
    shop.plane.keep_etcd("quarter");
    shop.until("shop-1", "at 25 %", |v| v["weight-seen-permille"] == 250 && v["workloads"]["canary"]["ready"] == 2);
    // refused while nothing was seen at this weight
    let asked = || shop.daemon.ask("POST", "/api/v1/rollouts/shop-1/advance", &json!({}));
    assert!(poll(super::SOON, || (200..300).contains(&asked().status).then_some(())).is_some(), "{}", asked().text());
    shop.until("shop-1", "at 50 %", at_half);
    shop.goes_far();
    let lists = shop.lists();

    // the weight of a quarter, by our own hand of before
    shop.plane.restore_etcd("quarter");
    shop.tell("put back to a quarter");
    let again = poll(super::SOON, || (shop.weights().0 == [50, 50]).then_some(()));
    assert!(again.is_some(), "written again: {:?}, {:#}", shop.weights(), shop.view("shop-1"));
    let listed = poll(super::SOON, || shop.lists().iter().zip(&lists).all(|(now, then)| now > then).then_some(()));
    assert!(listed.is_some(), "each was listed again: {lists:?} {:?}", shop.lists());
    shop.pods_are("shop-v2", "unready", 0);
    shop.until("shop-1", "its pods are seen", |v| v["workloads"]["canary"]["ready"] == 0);
    shop.pods_are("shop-v2", "well", 2);
    shop.until("shop-1", "and again", |v| at_half(v) && v["workloads"]["canary"]["ready"] == 2);
    assert_eq!((shop.rollouts(), shop.weights()), (1, ([50, 50], 3)), "made, 25 % and 50 %: once");

    // and before there was a release at all
    shop.goes_far();
    shop.plane.restore_etcd("before");
    shop.tell("put back to before the release");
    shop.until("shop-1", "superseded", |v| v["state"] == "superseded");
    assert_eq!((shop.image("shop-v2"), shop.weights().0), ("shop:1".into(), [100, 0]));
    shop.until_ready("shop-v2");
    // what is released then is the next one
    shop.release("shop-v2", "shop:3");
    shop.until("shop-2", "at 25 %", |v| v["weight-seen-permille"] == 250);
    assert_eq!((shop.rollouts(), shop.weights().0), (2, [75, 25]));
    let mut decided = shop.decided("shop-1");
    decided.dedup();
    assert_eq!(decided, [250, 500, 0]);
    let written = shop.plane.written("virtualservices");
    assert!(written.iter().all(|(what, code)| what == VIRTUAL_SERVICE && *code == Some(200)), "{written:#?}");
}
