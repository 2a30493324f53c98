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
    let told: Vec<(u64, u64)> = asked
        .iter()
        .filter(|asked| asked.line == "POST /split")
        .map(|asked| (asked.body["weight-permille"].as_u64().unwrap_or(0), asked.body["generation"].as_u64().unwrap_or(0)))
        .collect();
    assert_eq!(told, [(100, 1), (500, 2), (1000, 3)], "each weight once");

    stage.first.behave(errors(0.3));
    let next = stage.start("3.0.0");
    assert_eq!(stage.view(&next)["canary"], "v1");
    let view = stage.wait_for_end(&next, "rolled-back");
    assert!(["comparison", "gross", "limit"].contains(&reasons(&view)[0].as_str()), "{view:#}");
    assert_eq!(stage.edge.haproxy.weights(), [0, 200]);
    stage.close();
}
