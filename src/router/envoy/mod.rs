//! Envoy: weights in a route file replaced by rename (the durable way), or in runtime keys. What Envoy really has is asked
//! of its admin interface; a write ends only when it shows there. Read `document` first.

mod admin;
mod document;
mod replace;
mod route_file;
mod runtime_keys;

use super::{Answer, Desired, Router, RouterError, no_newer};
use crate::model::rule::{EnvoyRoute, EnvoyWrite};
use crate::model::{Side, TrafficReading, Weight};
use admin::Admin;
use std::time::Duration;

/// How long Envoy may take to show a new weight; it takes under 100 ms (ENVIRONMENT 2).
const SHOWN_MAX: Duration = Duration::from_secs(5);
/// How often it is asked meanwhile.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// One Envoy, one weighted route.
#[derive(Debug)]
pub struct Envoy {
    route: EnvoyRoute,
    admin: Admin,
    /// One write at a time: two would read each other's file.
    writing: tokio::sync::Mutex<()>,
}

impl Envoy {
    /// For the route of a rule. Nothing is read yet.
    ///
    /// # Errors
    /// The admin address is no `http://host:port`.
    pub fn new(route: EnvoyRoute) -> Result<Self, RouterError> {
        let admin = Admin::new(&route.admin)?;
        Ok(Self { route, admin, writing: tokio::sync::Mutex::new(()) })
    }
}

impl Router for Envoy {
    fn name(&self) -> &'static str {
        "envoy"
    }

    fn granularity_permille(&self) -> u16 {
        1
    }

    fn read(&self, canary: Side) -> Answer<'_, TrafficReading> {
        Box::pin(async move {
            match &self.route.by {
                EnvoyWrite::RouteFile { path, stat_prefix, route } => self.route_file(path, stat_prefix, route).read(canary).await,
                EnvoyWrite::RuntimeKeys { prefix } => self.runtime_keys(prefix).read(canary).await,
            }
        })
    }

    fn write(&self, desired: Desired) -> Answer<'_, ()> {
        Box::pin(async move {
            let _one_at_a_time = self.writing.lock().await;
            match &self.route.by {
                EnvoyWrite::RouteFile { path, stat_prefix, route } => self.route_file(path, stat_prefix, route).write(desired).await,
                EnvoyWrite::RuntimeKeys { prefix } => self.runtime_keys(prefix).write(desired).await,
            }
        })
    }
}

/// The share of the second of two weights, to the nearest permille; 0 only for 0, 1000 only if the first has none. `None` if
/// both are 0: Envoy then answers 404 to everybody.
fn second_share([first, second]: [u64; 2]) -> Option<Weight> {
    let sum = u128::from(first) + u128::from(second);
    if sum == 0 {
        return None;
    }
    let nearest = (u128::from(second) * 1000 + sum / 2) / sum;
    let lowest = u128::from(second > 0);
    let highest = 1000 - u128::from(first > 0);
    Weight::from_permille(nearest.clamp(lowest.min(highest), highest) as u16).ok()
}

/// Both weights of `total` for this share of the second; `None` if the share is no whole number of it.
fn parts(second: Weight, total: u64) -> Option<[u64; 2]> {
    let product = u64::from(second.permille()).checked_mul(total)?;
    product.is_multiple_of(1000).then(|| [total - product / 1000, product / 1000])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(permille: u16) -> Weight {
        Weight::from_permille(permille).unwrap()
    }

    #[test]
    fn a_share_is_read_to_the_nearest_permille_and_zero_only_for_zero() {
        let cases = [([100, 0], 0), ([0, 1], 1000), ([2, 1], 333), ([1, 2], 667), ([100_000, 1], 1), ([1, 100_000], 999), ([950, 50], 50)];
        for (weights, permille) in cases {
            assert_eq!(second_share(weights), Some(weight(permille)), "{weights:?}");
        }
        assert_eq!(second_share([0, 0]), None);
        assert_eq!(second_share([u64::MAX, u64::MAX]), Some(weight(500)));
    }

    #[test]
    fn what_a_total_cannot_represent_is_not_rounded() {
        assert_eq!(parts(weight(125), 1000), Some([875, 125]));
        assert_eq!(parts(weight(120), 100), Some([88, 12]));
        assert_eq!(parts(weight(125), 100), None);
        assert_eq!(parts(weight(1000), 7), Some([0, 7]));
    }

    #[test]
    fn an_admin_address_is_http_with_a_host() {
        let route = |admin: &str| EnvoyRoute {
            admin: admin.to_owned(),
            by: EnvoyWrite::RuntimeKeys { prefix: "p".to_owned() },
            clusters: ["a".to_owned(), "b".to_owned()],
        };
        assert!(Envoy::new(route("http://127.0.0.1:9901")).is_ok());
        for wrong in ["127.0.0.1:9901", "https://127.0.0.1:9901", "http://", "http://u:secret@h:1", "ftp://h", "http://h:1/path"] {
            let error = Envoy::new(route(wrong)).unwrap_err().to_string();
            assert!(error.contains("http://host:port") && !error.contains("secret"), "{wrong}: {error}");
        }
    }
}
