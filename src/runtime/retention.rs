//! The journal does not grow for ever: finished rollouts lose their polls after a third of `retention_days`, and go
//! altogether after all of it. Looked at when the daemon starts and once a day. SQLite uses the room again; the file does not
//! shrink.

use super::clock;
use crate::model::Timestamp;
use crate::store::{Ages, Store};
use crate::telemetry::{Metrics, events};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often it looks.
const EVERY: Duration = Duration::from_secs(24 * 3600);
/// Between two helpings: decisions go first.
const PAUSE: Duration = Duration::from_millis(100);

/// Drops what is too old, until `shutdown`.
pub async fn keep(store: Arc<dyn Store>, days: u32, metrics: Metrics, shutdown: CancellationToken) {
    loop {
        let today = async {
            prune(&*store, ages(clock::now(), days), &metrics).await;
            tokio::time::sleep(EVERY).await;
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = today => {}
        }
    }
}

async fn prune(store: &dyn Store, ages: Ages, metrics: &Metrics) {
    let (mut rollouts, mut polls) = (0, 0);
    loop {
        match store.prune(ages).await {
            Ok(pruned) => {
                (rollouts, polls) = (rollouts + pruned.rollouts, polls + pruned.polls);
                if !pruned.more {
                    break;
                }
            }
            // tomorrow is another day
            Err(e) => return events::StoreFailed { what: "dropping what is old", error: &e.to_string() }.emit(metrics),
        }
        tokio::time::sleep(PAUSE).await;
    }
    if rollouts + polls > 0 {
        events::Pruned { rollouts, polls }.emit();
    }
}

fn ages(now: Timestamp, days: u32) -> Ages {
    let day = 24 * 3600;
    let all = Duration::from_secs(u64::from(days) * day);
    let raw = Duration::from_secs(u64::from(days.div_ceil(3)) * day);
    Ages { polls_before: now - raw, rollouts_before: now - all }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_go_after_a_third() {
        let now = Timestamp::from_millis(100 * 24 * 3_600_000);
        let days = |ages: Ages| [ages.polls_before, ages.rollouts_before].map(|t| now.since(t).as_secs() / 86_400);
        assert_eq!(days(ages(now, 90)), [30, 90]);
        assert_eq!(days(ages(now, 1)), [1, 1]);
    }
}
