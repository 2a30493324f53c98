//! How much is asked of a server: counted by the server itself.

use super::{Samples, TICK, counts, envoy, tick};
use crate::rig::prometheus::{Prometheus as Server, on_both};
use crate::rig::{self, http};
use canaryd::model::Arm;
use canaryd::source::Source;
use std::time::Duration;

const ROLLOUTS: u32 = 60;
const TICKS: u32 = 5;
/// Requests, those whose client left, buckets, times.
const QUESTIONS: u32 = 4;
/// Fifty rollouts go into one query.
const GROUPS: u32 = 2;

/// Instant queries the server says it has answered.
fn answered(server: &Server) -> f64 {
    let page = http::get(server.port, "/metrics", Duration::from_secs(10)).expect("an answer").text();
    let of_queries = |line: &&str| line.starts_with("prometheus_http_requests_total{") && line.contains("handler=\"/api/v1/query\"");
    page.lines().filter(of_queries).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[test]
fn sixty_rollouts_ask_as_many_queries_as_there_are_questions() {
    on_both(async |server| {
        let mut samples = Samples::default();
        for n in 0..=TICKS {
            for i in 0..ROLLOUTS {
                for (cluster, rate) in [(format!("b{i}"), 10.0), (format!("c{i}"), 2.0)] {
                    samples.envoy("load", "p", &cluster, tick(n) - TICK / 2, rate * f64::from(n), 0.0);
                }
            }
        }
        samples.write(server);
        let mut source = super::source(&server.url());
        for i in 0..ROLLOUTS {
            source.subscribe(envoy(u64::from(i), "load", &format!("b{i}"), &format!("c{i}")), vec![5.0, 10.0]);
        }
        // the first tick makes each rollout's choices, and notes raw values
        source.tick(tick(0)).await;
        let before = answered(server);
        for n in 1..=TICKS {
            let samples = source.tick(tick(n)).await;
            assert_eq!(samples.len(), ROLLOUTS as usize);
            assert!(samples.iter().all(|s| counts(s, Arm::Canary) == Some((2.0, 0.0))), "{:?}", samples[0]);
        }
        let per_tick = (answered(server) - before) / f64::from(TICKS);
        let version = server.version();
        rig::say(&format!("{ROLLOUTS} rollouts on one Prometheus ({version:?}): {per_tick} queries a tick, by its own count"));
        assert_eq!(per_tick, f64::from(QUESTIONS * GROUPS));
    });
}
