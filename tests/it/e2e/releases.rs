//! Releases as they go every day: one that is healthy, one that is not.

use super::stage::{Scene, Stage, at_permille, errors, in_state};
use std::time::Duration;

#[test]
fn a_healthy_version_gets_all_the_traffic_and_the_next_release_goes_the_other_way() {
    let Some(stage) = Stage::up(Scene::default()) else { return };
    let id = stage.start("2.0.0");
    for permille in [100, 500, 1000] {
        stage.wait_for(&id, Duration::from_secs(30), "the next weight", at_permille(permille));
        let (share, weight) = (stage.share_of_second(200), permille as f64 / 1000.0);
        // five standard deviations of 200 draws
        assert!((share - weight).abs() <= 5.0 * (weight * (1.0 - weight) / 200.0).sqrt(), "{share} at {weight}");
    }
    stage.wait_for(&id, Duration::from_secs(30), "success", in_state("succeeded"));
    assert_eq!(stage.load.counts().by_status.keys().copied().collect::<Vec<_>>(), [200], "no user saw an error");
}

#[test]
fn a_version_with_two_percent_errors_is_rolled_back() {
    let Some(stage) = Stage::up(Scene::default()) else { return };
    stage.second.behave(errors(0.02));
    let id = stage.start("2.0.1");
    stage.wait_for_end(&id, Duration::from_secs(60), "rolled-back");
}
