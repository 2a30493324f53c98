//! The same by a user's own endpoint, which moves real traffic as it is told.

use super::edge::Hooked;
use super::stage::{Scene, Stage, errors, reasons};

#[test]
fn a_users_endpoint_takes_a_healthy_version_to_all_the_traffic_and_a_faulty_one_back() {
    let Some(stage) = Stage::<Hooked>::behind(Scene::default()) else { return };
    let id = stage.start("2.0.0");
    for permille in [100, 500, 1000] {
        stage.wait_for_weight(&id, permille);
        stage.assert_share_of_second(permille as f64 / 1000.0);
    }
    stage.wait_for_end(&id, "succeeded");
    let asked = stage.edge.endpoint.asked();
    let told = |key: &str| -> Vec<u64> {
        asked.iter().filter(|asked| asked.line == "POST /split").map(|asked| asked.body[key].as_u64().unwrap_or(0)).collect()
    };
    // a call that a busy machine does not answer in time is made again, as another generation; no other is
    let (mut weights, generations) = (told("weight-permille"), told("generation"));
    let unanswered = stage.journal(&id).iter().filter(|e| e["text"].as_str().is_some_and(|t| t.contains("was not applied"))).count();
    weights.dedup();
    assert_eq!(weights, [100, 500, 1000], "each weight in turn: {asked:#?}");
    assert!(generations.is_sorted_by(|a, b| a < b), "each generation once: {generations:?}");
    assert_eq!(generations.last(), Some(&(3 + unanswered as u64)), "{generations:?}, {unanswered} not applied");

    stage.first.behave(errors(0.3));
    let next = stage.start("3.0.0");
    assert_eq!(stage.view(&next)["canary"], "v1");
    let view = stage.wait_for_end(&next, "rolled-back");
    assert!(["comparison", "gross", "limit"].contains(&reasons(&view)[0].as_str()), "{view:#}");
    assert_eq!(stage.edge.haproxy.weights(), [0, 200]);
    stage.close();
}
